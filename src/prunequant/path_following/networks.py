"""Whole networks, layer by layer: each layer sees what the already compressed ones below it hand on.

One forward pass of the original records what every layer sees; one forward pass of the copy compresses each layer at
the moment its input arrives, and goes on with the compressed weights. Linear layers and convolutions of any stride,
padding, dilation and groups; everything else (biases, norms) stays as it is. torch is imported where it is used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from prunequant.extras import need

from .convolution import compress_groups, positions, unfold
from .operators import FiniteGrid, Grid, Operator
from .result import Result


@dataclass(frozen=True)
class LayerReport:
    """What happened to one layer; errors are those of its output before bias, on the calibration samples.

    `certificate` and `slack` (median over neurons of certificate/error) are nan when they were not asked for;
    `certified` is the share of neurons with a finite certificate that their error respects.
    """

    name: str
    groups: int
    features: int
    neurons: int
    samples: int
    relative_error: float
    largest_error: float
    certificate: float
    slack: float
    certified: float
    saturation: float
    sparsity: float

    def row(self) -> dict:
        """As a plain dictionary."""
        return asdict(self)


def fit_step(weights: NDArray, levels: int, candidates: int = 60) -> NDArray:
    """(neurons,): for each column the step of a symmetric grid with the least squared memoryless error.

    A scan of `candidates` clipping points between 1/20 of the largest weight and that weight itself.

    Examples
    --------
    >>> fit_step(np.array([[-1.5], [0.5], [1.5]]), 4)
    array([1.])
    """
    weights = np.asarray(weights, dtype=np.float64)
    top = np.abs(weights).max(axis=0)
    top = np.where(top > 0, top, 1.0)
    best, least = top.copy(), np.full(top.shape, np.inf)
    offset = 0.5 if levels % 2 == 0 else 0.0
    for ratio in np.linspace(0.05, 1, candidates):
        step = ratio * top / ((levels - 1) / 2)
        k = np.clip(np.rint(weights / step - offset), -(levels // 2), (levels - 1) // 2) + offset
        error = np.sum((weights - k * step) ** 2, axis=0)
        better = error < least
        best, least = np.where(better, step, best), np.where(better, error, least)
    return best


def grids(bits: int, stochastic: bool = False, finite: bool = True) -> Callable[[NDArray], Operator]:
    """For `compress_network`: weights → a grid of 2**bits levels with one fitted step a neuron.

    With ``finite=False`` the grid has no end: nothing is clipped, so every neuron is certified, and a few weights may
    need more than `bits`.
    """

    def choose(weights: NDArray) -> Operator:
        step = fit_step(weights, 2**bits)
        return FiniteGrid(step, 2**bits, stochastic) if finite else Grid(step, stochastic)

    return choose


def compress_network(
    model,
    calibration,
    operator: Operator | Callable[[NDArray], Operator | None],
    feedback: str = "path",
    scaling: float = 1.0,
    seed: int = 0,
    alignment: int | str | None = None,
    samples: int | None = None,
    certify: bool = True,
    failure: float = 0.01,
    damping: float | None = 0.01,
):
    """Compress every linear and convolutional layer of a torch module, in the order in which they run.

    Parameters
    ----------
    model : torch module; not changed. Layers must be used once in a forward pass.
    calibration : its input, one batch; the more samples, the less the compressed layers overfit to them.
    operator : one operator for all, or a function of a layer's weights (features, neurons) that gives the operator,
        or None to leave that layer alone. A convolution's weights are its filters, one a column.
    samples : patches or rows used a layer; by default four times its features, between 256 and 4096. They are drawn
        once, the same for the original and the compressed network.
    certify : also compute certificates (a triangular solve a group).
    damping : as for `compress`, but by default 0.01 throughout: calibration samples are few.
    others : as for `compress`; `seed` gives every layer its own stream.

    Returns
    -------
    (compressed copy, list of `LayerReport`)

    Raises
    ------
    ValueError : a layer runs twice, or the calibration gives it no samples.
    """
    need("torch")
    import torch

    original, compressed = model.eval(), copy.deepcopy(model).eval()
    seen: dict[str, NDArray] = {}
    rows: dict[str, NDArray] = {}
    reports: list[LayerReport] = []

    def record(name, module, x):
        if name in seen:
            raise ValueError(f"layer {name} runs more than once in a forward pass: give it weights of its own")
        count = _samples(module, x)
        if count == 0:
            raise ValueError(f"layer {name} gets no samples from the calibration batch of shape {tuple(x.shape)}")
        features = module.weight[0].numel()
        wanted = samples or int(np.clip(4 * features, 256, 4096))
        rng = np.random.default_rng(np.random.SeedSequence((seed, len(rows))))
        rows[name] = np.sort(rng.permutation(count)[:wanted])
        seen[name] = _patches(module, x, rows[name])

    def replace(name, module, x):
        before, after = seen.pop(name), _patches(module, x, rows[name])
        groups = getattr(module, "groups", 1)
        weight = module.weight.detach().cpu().numpy()
        filters = weight.reshape(groups, len(weight) // groups, -1)
        chosen = operator if isinstance(operator, Operator) else operator(weight.reshape(len(weight), -1).T)
        if chosen is None:
            return
        layer_seed = int(np.random.SeedSequence((seed, len(reports))).generate_state(1, np.uint64)[0])
        changed = None if np.array_equal(before, after) else after
        values, results = compress_groups(
            filters, before, chosen, changed, feedback=feedback, scaling=scaling, seed=layer_seed,
            alignment=alignment if changed is not None else None, failure=failure, damping=damping,
        )  # fmt: skip
        reports.append(_report(name, results, certify))
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(values.reshape(weight.shape)))

    for network, act in ((original, record), (compressed, replace)):
        hooks = [
            module.register_forward_pre_hook(lambda m, args, name=name, act=act: act(name, m, args[0]))
            for name, module in _layers(network)
        ]
        try:
            with torch.no_grad():
                network(calibration)
        finally:
            for hook in hooks:
                hook.remove()
    return compressed, reports


def _layers(model):
    need("torch")
    from torch import nn

    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def _shape(module, x) -> dict:
    """How a convolution looks at its input."""
    padding = module.padding
    if hasattr(module, "padding_of"):
        padding = module.padding_of(*x.shape[-2:])
    elif padding == "valid":
        padding = 0
    elif padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        padding = tuple((t // 2, t - t // 2) for t in totals)
    return dict(kernel=module.kernel_size, stride=module.stride, padding=padding, dilation=module.dilation)


def _samples(module, x) -> int:
    return positions(tuple(x.shape), **_shape(module, x)) if module.weight.ndim == 4 else x[..., 0].numel()


def _patches(module, x, rows: NDArray) -> NDArray:
    """(groups, samples, features): the chosen samples of what this layer sees."""
    x = x.detach().cpu().numpy()
    if module.weight.ndim == 4:
        return unfold(x, **_shape(module, x), groups=module.groups, rows=rows)
    return x.reshape(-1, x.shape[-1])[rows][None]


def _report(name: str, results: list[Result], certify: bool) -> LayerReport:
    wrong = sum(r._measured[1].sum() for r in results)
    right = sum(r._measured[2].sum() for r in results)
    error = np.concatenate([r.error for r in results])
    bound = np.concatenate([r.certificate for r in results]) if certify else np.full(error.shape, np.nan)
    finite = np.isfinite(bound) & (error > 0)
    features, neurons = results[0].weights.shape
    return LayerReport(
        name=name,
        groups=len(results),
        features=features,
        neurons=neurons * len(results),
        samples=len(results[0]._inputs),
        relative_error=float(np.sqrt(wrong / right)) if right > 0 else 0.0,
        largest_error=float(error.max()),
        certificate=float(bound.max()),
        slack=float(np.median(bound[finite] / error[finite])) if finite.any() else float("nan"),
        certified=float(np.mean(np.isfinite(bound) & (error <= bound))) if certify else float("nan"),
        saturation=float(np.mean([r.saturation.mean() for r in results])),
        sparsity=float(np.mean([r.sparsity for r in results])),
    )


def accuracy(model, inputs, labels) -> float:
    """Share of inputs whose largest output is their label."""
    need("torch")
    import torch

    with torch.no_grad():
        return float((model(inputs).argmax(-1) == labels).float().mean())


def agreement(model, other, inputs) -> float:
    """Share of inputs to which both give the same largest output."""
    need("torch")
    import torch

    with torch.no_grad():
        return float((model(inputs).argmax(-1) == other(inputs).argmax(-1)).float().mean())


def output_error(model, other, inputs) -> float:
    """‖model(x) − other(x)‖/‖model(x)‖ over all inputs."""
    need("torch")
    import torch

    with torch.no_grad():
        right = model(inputs)
        return float((right - other(inputs)).norm() / right.norm())


def digits(seed: int = 0):
    """scikit-learn's 1797 digits, shuffled: (train inputs, train labels, test inputs, test labels), 1297 and 500.

    Inputs are float64 in [0, 1], (n, 64): the networks below are trained and compressed in double precision, so that
    they are the same on every processor (a difference in the last bit grows about a hundredfold in training, and
    path following rounds by thresholds).
    """
    need("torch")
    need("sklearn")
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = torch.from_numpy(x[order] / 16), torch.from_numpy(y[order])
    return x[:-500], y[:-500], x[-500:], y[-500:]


def digits_mlp(hidden: tuple[int, ...] = (64,), seed: int = 0, steps: int = 300):
    """A ReLU network on the digits, trained for `steps` full-batch Adam steps: about 97 % of the test digits."""
    need("torch")
    from torch import nn

    def build():
        widths = (64, *hidden, 10)
        layers = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return _trained(build, seed, steps)


def digits_convnet(seed: int = 0, steps: int = 150):
    """Two convolutions (1 → 12, 12 → 24 at stride 2, 3×3) and a linear layer on the digits."""
    need("torch")
    from torch import nn

    def build():
        return nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * 16, 10),
        )

    return _trained(build, seed, steps)


def _trained(build, seed: int, steps: int):
    need("torch")
    import torch
    from torch.nn import functional as F

    x, y, _, _ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()
