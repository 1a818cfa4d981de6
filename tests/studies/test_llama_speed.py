"""How fast llama.cpp reads and writes: what is timed, what is counted, and ratios within a round."""

import numpy as np
import pytest

from prunequant.studies import runner

pytest.importorskip("torch")
pytest.importorskip("gguf")

from prunequant.models import smollm2
from prunequant.studies import llama_speed as study


def test_reading_is_one_call_and_writing_one_a_token_after_the_prompt_was_read_untimed():
    calls, now = [], [0.0]

    def decode(tokens, start):
        calls.append((len(tokens), start))
        now[0] += 2.0 if len(tokens) == study.READ else 50.0 if start == 0 else 0.25

    tokens = np.arange(study.READ + 8)
    found = study.measured(decode, tokens, prompt=100, clock=lambda: now[0])
    assert found == {"read": 2.0 / study.READ, "written": 0.25}
    assert calls == [(study.READ, 0), (100, 0), *((1, place) for place in range(100, study.READ + 8))]


def test_keys_and_values_of_a_token_are_counted_in_every_layer_and_head():
    config = smollm2.Config.tiny(layers=3)
    assert study.cache_bytes(config, 5) == sum(
        2 * config.head * 2 for _ in range(3) for _ in range(1) for _ in range(5)
    )


def turn(scale, **seconds):
    return {name: {"read": scale * s / 10, "written": scale * s} for name, s in seconds.items()}


def test_ratios_are_taken_within_a_round_so_that_a_slow_one_changes_nothing():
    rows = [{"threads": 1, "files": ["F16", "Q4_0"], "rounds": [turn(t, F16=2.0, Q4_0=0.5) for t in (1.0, 7.0, 2.0)]}]
    base, small = study.summary(rows, {"F16": 200, "Q4_0": 50})
    assert base["written_ratio"] == base["read_ratio"] == 1 and small["bytes"] == 50
    assert small["written_ratio"] == pytest.approx(0.25) and small["written_interval"] == pytest.approx([0.25, 0.25])
    assert small["written"] == 1.0 and "4.0 a second" not in study.show({"summary": [small]})
    assert "writes    1.0 a second (0.25 of the time of F16)" in study.show({"summary": [small]})


def test_settings_that_measure_nothing_are_refused_before_any_file_is_written(monkeypatch):
    monkeypatch.setattr(runner, "check_needs", lambda study: None)
    monkeypatch.setattr(study, "write", lambda name, out: pytest.fail("a file is written"))
    with pytest.raises(ValueError, match="give F16 and any of F32"):
        runner.run_study("llama-speed", {"files": ("Q4_0",)})
    with pytest.raises(ValueError, match="name each once"):
        runner.run_study("llama-speed", {"files": ("F16", "F16")})
    for prompt in (10, 500):
        with pytest.raises(ValueError, match="give 256 to 512 tokens in all"):
            runner.run_study("llama-speed", {"prompt": prompt})
