"""What a row of the record of real weights counts and holds."""

from itertools import combinations

import numpy as np
import pytest

from prunequant.studies import real_rows


@pytest.mark.parametrize(("n", "keep"), [(9, 1), (9, 4), (12, 6), (5, 0), (5, 5)])
def test_a_mask_index_has_just_enough_bits(n, keep):
    masks = len(list(combinations(range(n), keep)))
    bits = real_rows.mask_size(n, keep)
    assert 2**bits >= masks
    assert bits == 0 or 2 ** (bits - 1) < masks


@pytest.mark.parametrize("n", [9, 16, 27, 40])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_counted_pruning_fits_and_one_weight_more_does_not(n, bits):
    keep, room = real_rows.counted_keep(n, bits), n * bits + 16
    assert 16 * keep + real_rows.mask_size(n, keep) <= room
    assert all(16 * k + real_rows.mask_size(n, k) > room for k in range(keep + 1, n + 1))


def test_a_row_orders_the_solvers_as_it_must():
    row = real_rows.channel_row("expand 16", 5, 3, sdp=True)
    assert row["exact_proved"] and row["pruning_exact_proved"]
    assert row["nearest"] <= row["exact"] and row["optq"] <= row["optq_search"] + 1e-9
    assert row["exact_floor_ceil"] <= row["exact"] + 1e-9
    assert row["exact"] <= row["sdp_box"] + 1e-6 <= row["sdp_paper"] + 2e-6
    assert row["magnitude"] <= row["magnitude_refit"] <= row["pruning_exact"] + 1e-9
    assert row["obs"] <= row["obs_swaps"] + 1e-9 <= row["pruning_exact"] + 2e-9
    assert row["pruned_bits"] <= row["quantized_bits"]


def test_a_tensor_row_holds_every_width_and_the_bitmap_identity():
    weights = np.random.default_rng(0).standard_t(4, (30, 20)).astype(np.float32)
    row = real_rows.tensor_row("t", weights)
    assert len(row["quantization"]) == len(row["pruning_free"]) == 7
    assert row["pruning_bitmap"][1:] == pytest.approx(row["pruning_free"][:-1])
    assert all(split["gain"] >= -1e-9 for split in row["splits"])


def test_of_a_model_file_only_floating_matrices_count_as_weights(tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    held = {"matrix": np.eye(3, dtype=np.float32), "positions": np.arange(4)[None], "bias": np.ones(3, np.float32)}
    save_file(held, path)

    class Packed:
        name = "model.safetensors"

        def locate(self):
            return path

    monkeypatch.setattr(real_rows, "files", lambda name: [Packed()])
    assert list(real_rows.minilm_tensors()) == ["matrix"]
