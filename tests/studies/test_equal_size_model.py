"""Fewer weights or fewer bits of a language model: every file of a size is equally large, and sums follow from rows."""

import numpy as np
import pytest

pytest.importorskip("torch")
from prunequant.checkpoint.schemes import Scheme
from prunequant.studies import equal_size_model as study
from prunequant.studies import runner


@pytest.mark.parametrize("shape", [(576, 576), (192, 576), (1536, 576), (576, 1536)])
def test_every_scheme_takes_exactly_the_bits_of_its_size_in_every_matrix_of_the_model(shape):
    for size, name in study.schemes(tuple(study.QUANTIZED)):
        scheme = Scheme.named(name)
        if name == study.SHIFTED[size]:
            taken = scheme.stored_bits(*shape) + scheme.bits * shape[0] * -(-shape[1] // 128)  # and the zero points
            assert 0.05 < size - taken / (shape[0] * shape[1]) < 0.15, name
            assert study.methods(name) == ("nearest, zero point", "optq, zero point")
            continue
        assert scheme.stored_bits(*shape) == size * shape[0] * shape[1], name
        calibrated = "optq" if name == study.QUANTIZED[size] else "sparsegpt"
        assert study.methods(name)[:2] == ("nearest", calibrated)
        assert study.methods(name)[2:] in ((), (f"{calibrated}, later tokens",))
    assert sum(len(study.methods(name)) == 3 for _, name in study.schemes(tuple(study.QUANTIZED))) == 2


@pytest.fixture
def record(monkeypatch):
    def losses(seed):
        return np.random.default_rng(seed).random(4).tolist()

    def unit(scheme, method, windows, calibration, seed, folder):
        return {"losses": losses([len(scheme), len(method)])}

    monkeypatch.setattr(runner, "check_needs", lambda study: None)  # the model itself is not read
    monkeypatch.setattr(study, "write_grams", lambda path, windows, skip: path.write_bytes(b""))
    monkeypatch.setattr(study, "dense_unit", lambda windows, seed: {"losses": losses(0)})
    monkeypatch.setattr(study, "scheme_unit", unit)
    return runner.run_study("equal-size-model", {"windows": 4})


def test_what_fewer_weights_lose_is_paired_with_what_quantizing_alone_loses_by_the_like_method(record):
    rows = {(r["scheme"], r.get("method")): np.array(r["losses"]) for r in record["rows"]}
    assert len(record["rows"]) == len(record["summary"]) == 1 + 2 * (16 + 3) + 2
    for one in record["summary"][1:]:
        own, alone = rows[one["scheme"], one["method"]], study.QUANTIZED[one["bits"]]
        assert one["perplexity"] == pytest.approx(np.exp(own.mean()))
        assert one["added"]["mean"] == pytest.approx(np.mean(own - rows["original", None]))
        left_out, pruned = one["method"].endswith(study.LATER), one["scheme"] in study.PRUNED[one["bits"]]
        assert ("behind" in one) == ("behind_zero_point" in one) == (pruned and not left_out)
        assert ("without_first_tokens" in one) == left_out
        if left_out:
            other = rows[one["scheme"], one["method"].removesuffix(study.LATER)]
            assert one["without_first_tokens"]["mean"] == pytest.approx(np.mean(own - other))
        if "behind" in one:
            like, shifted = "nearest" if one["method"] == "nearest" else "optq", study.SHIFTED[one["bits"]]
            for key, other in (("behind", rows[alone, like]), ("behind_zero_point", rows[shifted, like + study.ZERO])):
                assert one[key]["mean"] == pytest.approx(np.mean(own - other))
                assert one[key]["p"] <= one[key]["p_holm"] <= 1


def test_a_size_that_was_not_planned_is_refused_and_the_lines_shown_are_one_a_file(record):
    with pytest.raises(ValueError, match=r"bits is 5\.0"):
        runner.run_study("equal-size-model", {"bits": (5.0,)})
    assert study.show(record).count("\n") == 40
