"""Torch tensors: the compiled kernel behind them on the CPU, and the device code, which is plain torch, beside it."""

import ml_dtypes
import numpy as np
import pytest
import torch

from prunequant.path_following import FiniteGrid, Grid, OneBit, Prune, PruneThenQuantize, compress
from prunequant.path_following import _torch as device_code
from prunequant.path_following.layer import Layer, Rounding, Rule
from prunequant.path_following.tensors import is_half
from prunequant.random import philox4x32

OPERATORS = [
    Grid(0.25),
    Grid(np.linspace(0.1, 0.4, 37), False),
    FiniteGrid(0.25, 9),
    FiniteGrid(0.25, 4, False),
    OneBit(5.0),
    Prune(0.8),
    Prune(0.8, False),
    Prune(0.8, c=0.3),
    Prune(0.8, False, c=0.3),
    PruneThenQuantize(0.75, 0.25),
    PruneThenQuantize(0.8, 0.25, False),
]


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def layer(device="cpu"):
    rng = np.random.default_rng(0)
    w, x = torch.from_numpy(rng.normal(size=(150, 37))), torch.from_numpy(rng.normal(size=(40, 150)))
    return w.to(device), x.to(device)


RULE = ("feedback", "scaling", "alignment", "damping")


def on_device(w, x, operator, **options):
    """The code that runs on an accelerator: also on the CPU's own tensors."""
    rule = Rule(**{name: options.pop(name) for name in RULE if name in options})
    layer = Layer(w, x, options.pop("quantized_inputs", None), rule)
    rounding = Rounding(operator, **options)
    return device_code.compress_tensors(layer, rounding, rounding.sizes(layer))


def test_a_cpu_tensor_gives_what_an_array_gives():
    w, x = layer()
    result, reference = compress(w, x, Grid(0.25), seed=3), compress(w.numpy(), x.numpy(), Grid(0.25), seed=3)
    assert isinstance(result.weights, torch.Tensor) and isinstance(result.saturation, torch.Tensor)
    assert np.array_equal(result.weights.numpy(), reference.weights)
    assert np.array_equal(result.error, reference.error)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("run", ["compiled", "device"])
def test_weights_come_back_in_the_dtype_given_and_errors_are_theirs(dtype, run):
    w, x = (t.to(dtype) for t in layer())
    run = compress if run == "compiled" else on_device
    result = run(w, x, Grid(0.3), seed=3, failure=1e-6)
    assert result.weights.dtype == dtype
    single = run(w.float(), x.float(), Grid(0.3), seed=3)
    if dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(result.weights, single.weights.to(dtype))
    measured = (x.double() @ (w.double() - result.weights.double())).abs().amax(0)
    assert np.allclose(result.error, measured)
    assert np.all(result.error <= result.certificate)
    changed = run(w, x, Grid(0.3), quantized_inputs=x * 0.9, failure=1e-6)
    assert changed.weights.dtype == dtype and np.all(changed.error <= changed.certificate)


def test_arrays_and_tensors_of_half_precision_agree():
    w, x = (t.half() for t in layer())
    assert np.array_equal(compress(w.numpy(), x.numpy(), Grid(0.25)).weights, compress(w, x, Grid(0.25)).weights)
    brain = w.float().numpy().astype(ml_dtypes.bfloat16)
    ours = compress(brain, x.numpy(), Grid(0.25)).weights
    assert ours.dtype == ml_dtypes.bfloat16
    assert np.array_equal(ours.astype(np.float32), compress(w.bfloat16(), x, Grid(0.25)).weights.float().numpy())
    assert compress(w.int(), x, Grid(1.0)).weights.dtype == torch.float64


def test_the_last_rounding_to_half_precision_is_counted_by_the_certificate():
    w = torch.from_numpy(np.random.default_rng(0).normal(100, 10, (64, 1))).bfloat16()
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 64))).float()
    coarse, fine = (compress(each, x, Grid(0.3, False)) for each in (w, w.float()))
    assert fine.error.max() < fine.certificate.max() < coarse.error.max() <= coarse.certificate.max()


def test_a_result_beyond_the_range_of_the_dtype_is_an_error():
    w, x = np.array([[60000.0], [1.0]], np.float16), np.array([[1.0, 0.0]])
    with pytest.raises(ValueError, match="leave the range of float16"):
        compress(w, x, Grid(9e4, False), feedback="none")


def test_the_uniforms_are_those_of_philox():
    draws = device_code.philox_uniforms(11, torch.tensor([0, 5, 2**31 + 7]), 3, 2**63 + 12345)
    for row, step in enumerate([0, 5, 2**31 + 7]):
        for n in range(11):
            word = philox4x32(n // 4, step, 3, 0, (2**63 + 12345) & 0xFFFFFFFF, 2**31)[n % 4]
            assert float(draws[row, n]) == (int(word) >> 8) / 2**24


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("feedback", ["none", "path", "optq"])
@pytest.mark.parametrize("operator", OPERATORS, ids=repr)
def test_the_device_code_equals_the_compiled_kernel(operator, feedback, device):
    w, x = layer(device)
    ours = on_device(w, x, operator, feedback=feedback, scaling=1.5, seed=2**40 + 1)
    reference = compress(w.cpu().numpy(), x.cpu().numpy(), operator, feedback=feedback, scaling=1.5, seed=2**40 + 1)
    assert np.allclose(ours.weights.cpu().numpy(), reference.weights, atol=1e-9)
    assert np.array_equal(ours.saturation.cpu().numpy(), reference.saturation)
    assert np.allclose(ours.error, reference.error)


@pytest.mark.parametrize("damping", [None, 0.02])
@pytest.mark.parametrize("order", [0, 1, 3, "least-squares"])
def test_the_device_code_aligns_alike(order, damping):
    w, x = layer()
    y = x + 0.1 * torch.from_numpy(np.random.default_rng(2).normal(size=x.shape))
    y[:, 3] = 0
    ours = on_device(w, x, Grid(0.25), quantized_inputs=y, alignment=order, damping=damping)
    reference = compress(w.numpy(), x.numpy(), Grid(0.25), quantized_inputs=y.numpy(), alignment=order, damping=damping)
    assert np.mean(np.isclose(ours.weights.numpy(), reference.weights, atol=1e-9)) > 0.99
    assert np.allclose(ours.aligned, reference.aligned, atol=1e-6)


def test_the_device_code_refuses_singular_inputs_too():
    w, x = torch.ones(2, 1, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="singular"):
        on_device(w, x, Grid(0.5), feedback="optq", damping=0.0)


def test_floats_narrower_than_float32_are_half():
    narrow = [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]
    assert all(is_half(d) for d in narrow)
    assert not any(is_half(d) for d in (np.float32, np.float64, np.int16, np.dtype("V2"), np.bool_))
