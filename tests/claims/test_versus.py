"""The accounting and the rows behind the claims on real layers."""

from itertools import combinations

import numpy as np
import pytest

from prunequant import optimum
from prunequant.claims import kuzmin2023_layers
from prunequant.studies import real_layers, real_rows


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


@pytest.mark.parametrize("name", ["depthwise 3x3", "expand 16"])
def test_a_gram_matrix_is_the_energy_of_the_layers_own_output(name):
    import torch

    layer, model = real_layers.layer(name), real_layers._model()
    module = model.get_submodule(real_layers.LAYERS[name])
    seen = {}
    handle = module.register_forward_hook(lambda _, inputs, output: seen.update(y=output))
    with torch.no_grad():
        model(real_layers._images(1))
    handle.remove()
    energy = seen["y"].double().pow(2).mean(dim=(0, 2, 3)).numpy()
    for j in layer.channels(4):
        weights, gram = layer.channel(j)
        assert weights @ gram @ weights == pytest.approx(energy[j], rel=0.15)  # 4000 patches of 25,088


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


def test_an_unknown_layer_is_refused_with_its_name():
    with pytest.raises(ValueError, match="name is 'attention'"):
        real_layers.layer("attention")


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_boxed_optimum_is_the_best_of_all_masks_and_the_free_one_when_the_box_is_wide(keep):
    from scipy.optimize import lsq_linear

    for seed in range(6):
        weights, gram = kuzmin2023_layers.random_layer(np.random.default_rng(seed), 8)
        low, high = 0.7 * weights.min(), 0.7 * weights.max()
        root, errors = np.linalg.cholesky(gram).T, []
        for kept in combinations(range(8), keep):
            errors.append(2 * lsq_linear(root[:, kept], root @ weights, (low, high)).cost)
        _, error = kuzmin2023_layers.boxed_optimum(weights, gram, keep, low, high)
        assert error == pytest.approx(min(errors), rel=1e-6)
        _, free = kuzmin2023_layers.boxed_optimum(weights, gram, keep, -100, 100)
        assert free == pytest.approx(optimum.best_pruning(weights, gram, keep).error, rel=1e-9)
        assert error >= free * (1 - 1e-9)


def test_the_ratio_of_a_layer_weighs_its_channels_by_their_power():
    rows = np.array([[9.0, 1.0, 2.0, 1, 1], [1.0, 0.0, 3.0, 1, 1]])
    assert kuzmin2023_layers.whole(rows, 1) == pytest.approx(10.0)
    assert kuzmin2023_layers.whole(rows, 2) == pytest.approx(10 * np.log10(2.0))


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
