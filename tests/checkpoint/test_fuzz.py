"""A sample of damaged files; `python tools/fuzz_models.py` makes as many as are wanted."""

from __future__ import annotations

import random

import pytest

from checkpoint import damaged

pytest.importorskip("torch")
pytest.importorskip("gguf")
pytest.importorskip("onnx")


def test_every_damaged_file_of_a_sample_is_a_model_or_an_error_that_names_it(tmp_path):
    counts, failures = damaged.run(range(500), 1, tmp_path)
    assert not failures, failures[:3]
    assert sum(counts.values()) == 500 and {outcome for _, outcome in counts} == {"read", "refused"}


@pytest.mark.parametrize("case", damaged.CASES)
def test_each_kind_of_damage_occurs_and_ends_well(tmp_path, case):
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert damaged.check(number, "kinds", folder, case)[0] == case


def test_the_check_sees_an_error_of_another_kind_and_a_file_that_should_be_refused(tmp_path, monkeypatch):
    def broken(path):
        raise KeyError("dtype")

    monkeypatch.setattr(damaged, "open_model", broken)
    _, failures = damaged.run(range(5), 1, tmp_path)
    assert len(failures) == 5 and all("KeyError" in what for *_, what in failures)
    monkeypatch.undo()
    monkeypatch.setitem(damaged.CASES, "refused_nothing", damaged.sound_safetensors)
    with pytest.raises(AssertionError, match="a damaged file is read"):
        damaged.check(1, 1, tmp_path, "refused_nothing")


def test_the_draw_of_files_is_the_same_for_the_same_seed():
    a, b = (damaged.tensors(random.Random(5)) for _ in range(2))
    assert a == b
