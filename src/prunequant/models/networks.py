"""Whole networks, layer by layer: each layer sees what the already compressed ones below it hand on.

One forward pass of the original records what every layer sees; one forward pass of the copy compresses each layer at
the moment its input arrives, and goes on with the compressed weights. Linear layers, convolutions of one or two axes
with any stride, padding, dilation and groups, and the projections of attention; what stays as it is (biases, norms,
embeddings, parameters of other modules) is listed with its reason. torch is imported where it is used.

For any module and the rounding operators of Part II, from a sample of the rows that each layer sees; `block_by_block`
is for decoders, whose linear layers share their inputs, with errors on tokens that no method has seen. To store a model
by a scheme, use `prunequant.models.compress`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.arguments import flag, instance, integer, shown
from prunequant.distortion import best_step
from prunequant.extras import need
from prunequant.models.digits import PIXELS
from prunequant.models.digits import load as load_digits
from prunequant.path_following.checks import check_failure, check_seed
from prunequant.path_following.convolution import compress_groups
from prunequant.path_following.layer import Rounding, Rule
from prunequant.path_following.operators import FiniteGrid, Grid, Operator
from prunequant.path_following.result import Result
from prunequant.path_following.tensors import as_array, is_half, like

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prunequant.models.inventory import LeftAlone


@dataclass(frozen=True)
class LayerReport:
    """What happened to one layer; errors are those of its output before bias, on the calibration samples.

    `certificate` and `slack` (median over neurons of certificate/error) are nan when they were not asked for;
    `certified` is the share of neurons with a finite certificate that their error respects. `parameters` names what
    the layer's weight is made of, `uses` says how often it is used in a forward pass, `note` what a reader must know
    (empty: nothing).
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
    parameters: tuple[str, ...] = ()
    uses: int = 1
    note: str = ""

    def row(self) -> dict:
        """As a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class NetworkReport(Sequence):
    """The layers that were compressed, as a sequence of `LayerReport`, and everything that was `left_alone`.

    Every parameter of the network is named by a layer or in `left_alone`, or by both where a part was compressed.
    """

    layers: tuple[LayerReport, ...]
    left_alone: tuple[LeftAlone, ...]

    def __getitem__(self, index):
        return self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def compressed_share(self) -> float:
        """Share of the bytes of the network's parameters that is in compressed layers."""
        return 1 - sum(entry.share for entry in self.left_alone)


def grids(bits: int, stochastic: bool = False, finite: bool = True) -> Callable[[NDArray], Operator]:
    """For `compress_network`: weights → a grid of 2**bits levels with one step a neuron, the best in squares.

    With ``finite=False`` the grid has no end: nothing is clipped, so every neuron is certified, and a few weights may
    need more than `bits`. `bits` is in [1, 16].
    """
    bits = integer(bits, "bits", 1, 16)
    stochastic, finite = flag(stochastic, "stochastic"), flag(finite, "finite")

    def choose(weights: NDArray) -> Operator:
        step = best_step(weights, 2**bits, axis=0)
        return FiniteGrid(step, 2**bits, stochastic) if finite else Grid(step, stochastic)

    return choose


def compress_network(
    model: nn.Module,
    calibration: ArrayLike | Tensor,
    operator: Operator | Callable[[NDArray], Operator | None],
    feedback: str = "path",
    scaling: float = 1.0,
    seed: int = 0,
    alignment: int | str | None = None,
    samples: int | None = None,
    certify: bool = True,
    failure: float = 0.01,
    damping: float | None = 0.01,
) -> tuple[nn.Module, NetworkReport]:
    """Compress every linear and convolutional layer of a torch module, in the order in which they run.

    Parameters
    ----------
    model : torch module; not changed. Weights may have any floating-point dtype, and keep it.
    calibration : its input, one batch; the more samples, the less the compressed layers overfit to them.
    operator : one operator for all, or a function of a layer's weights (features, neurons), float32 or float64, that
        gives the operator, or None to leave that layer alone. A convolution's weights are its filters, one a column.
    samples : patches or rows used a layer and use, from 1 on; by default four times its features, between 256 and
        4096. They are drawn once, the same for the original and the compressed network.
    certify : also compute certificates (a triangular solve a group).
    damping : as for `compress`, but by default 0.01 throughout: calibration samples are few.
    others : as for `compress`; `seed` gives every layer its own stream.

    Returns
    -------
    (compressed copy, `NetworkReport`)

    Raises
    ------
    ValueError, TypeError : an argument out of its range; a layer that cannot be compressed or gets no samples from the
        calibration, by name.

    Notes
    -----
    Of `nn.MultiheadAttention` query, key, value and output projections are layers of their own.

    A weight that is used more than once (a module that runs twice, two layers that share it) is compressed once, at
    its first use, on what all of its uses see in the original network: what they see in the compressed one depends on
    it. A weight that a module of another kind shares, such as an embedding, is left alone.

    Weights that `torch.nn.utils.parametrize` or weight normalisation compute are plain parameters in the copy.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 2))
    >>> small, report = compress_network(model, torch.arange(5), Grid(0.1))
    >>> [layer.name for layer in report], [(entry.name, entry.why) for entry in report.left_alone][0]
    (['1'], ('0.weight', 'a table that is looked up, not multiplied'))
    """
    need("torch")
    from prunequant.models import layers as torch_layers
    from prunequant.models.inventory import Inventory

    _check_model(model, calibration, operator)
    rule = Rule(feedback, scaling, alignment, damping)
    seed, samples = check_seed(seed), None if samples is None else integer(samples, "samples", 1)
    failure, certify = check_failure(failure), flag(certify, "certify")

    patches: dict[tuple, list[NDArray]] = {}
    rows: dict[tuple, NDArray] = {}  # of weights that are used once
    reports: list[LayerReport] = []
    number = 0

    def record(site, x):
        nonlocal number
        count = site.samples(x)
        if count == 0:
            raise ValueError(f"layer {site.name} gets no samples from the calibration batch of shape {tuple(x.shape)}")
        wanted = samples or int(np.clip(4 * site.weight[0].numel(), 256, 4096))
        key = inventory.key[site.name]
        rows[key] = torch_layers.chosen_rows(count, wanted, seed, number)
        patches.setdefault(key, []).append(site.patches(x, rows[key]))
        number += 1

    def replace(site, x):
        key = inventory.key[site.name]
        if key not in patches:
            return
        before = patches.pop(key)
        weight = site.weight
        values = as_array(weight)
        chosen = _chosen(operator, values, site.name)
        if chosen is None:
            inventory.left[key] = "the function `operator` gave None for it"
            return
        own = torch_layers.layer_seed(seed, len(reports))
        changed = None
        if len(before) == 1:
            after = site.patches(x, rows[key])
            changed = None if np.array_equal(before[0], after) else after
        try:
            rounded, results = compress_groups(
                values.reshape(site.groups, len(values) // site.groups, -1),
                np.concatenate(before, axis=1),
                Rounding(chosen, own, failure=failure),
                rule if changed is not None else rule.unaligned(),
                changed,
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"layer {site.name}: {error}") from None
        reports.append(_report(site.name, results, certify, inventory.parameters[key], len(before)))
        site.write(like(rounded, weight))

    with torch_layers.evaluating(model):
        inventory = Inventory(model)
        with torch_layers.watching(model, inventory.open, record):
            model(calibration)
        compressed = copy.deepcopy(model)
    copied = inventory.copied(compressed)
    for site in inventory.open:
        if site.key not in patches:
            inventory.left[site.key] = "did not run on the calibration batch"
    going = {site.name for site in inventory.open}
    with torch_layers.watching(compressed, [site for site in copied if site.name in going], replace):
        compressed(calibration)
    done = {name for report in reports for name in report.parameters}
    return compressed, NetworkReport(tuple(reports), inventory.left_alone(done))


def _chosen(operator, values: NDArray, name: str) -> Operator | None:
    """The operator of a layer: the one of all, or what the caller's function gives for these weights."""
    if isinstance(operator, Operator):
        return operator
    wide = values.astype(np.float32) if is_half(values.dtype) else values
    chosen = operator(wide.reshape(len(wide), -1).T)
    if chosen is not None and not isinstance(chosen, Operator):
        raise TypeError(f"operator gave {shown(chosen)} for layer {name}: it must give an operator, or None")
    return chosen


def _check_model(model, calibration, operator) -> None:
    """Refuse what is no torch module with values, no batch of inputs, and what gives no operator."""
    from torch import Tensor, nn

    instance(model, "model", nn.Module, "a torch module")
    instance(calibration, "calibration", Tensor, "a torch tensor, a batch of what the model takes")
    if not isinstance(operator, Operator) and not callable(operator):
        raise TypeError(f"operator is {shown(operator)}: it must be an operator, or a function that gives one")


def _report(name: str, results: list[Result], certify: bool, parameters: tuple[str, ...], uses: int) -> LayerReport:
    wrong = sum(r.squared_error.sum() for r in results)
    right = sum(r.squared_output.sum() for r in results)
    error = np.concatenate([r.error for r in results])
    bound = np.concatenate([r.certificate for r in results]) if certify else np.full(error.shape, np.nan)
    finite = np.isfinite(bound) & (error > 0)
    features, neurons = results[0].weights.shape
    notes = [f"compressed once, on what its {uses} uses see in the original network"] if uses > 1 else []
    if not any(np.any(r.values) for r in results):
        notes.append("every compressed weight is zero")
    return LayerReport(
        name=name,
        groups=len(results),
        features=features,
        neurons=neurons * len(results),
        samples=results[0].layer.samples,
        relative_error=float(np.sqrt(wrong / right)) if right > 0 else 0.0,
        largest_error=float(error.max()),
        certificate=float(bound.max()),
        slack=float(np.median(bound[finite] / error[finite])) if finite.any() else float("nan"),
        certified=float(np.mean(np.isfinite(bound) & (error <= bound))) if certify else float("nan"),
        saturation=float(np.mean([r.saturation.mean() for r in results])),
        sparsity=float(np.mean([r.sparsity for r in results])),
        parameters=parameters,
        uses=uses,
        note="; ".join(notes),
    )


def _given(inputs, **models):
    """The module torch, once the inputs are a tensor and the models are functions of one."""
    torch = need("torch")
    for name, model in models.items():
        if isinstance(model, type) or not isinstance(model, torch.nn.Module):
            raise TypeError(f"{name} is {shown(model)}: it must be a torch module")
    instance(inputs, "inputs", torch.Tensor, "a torch tensor, a batch of what the network takes")
    return torch


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of inputs whose largest output is their label."""
    torch = _given(inputs, model=model)
    instance(labels, "labels", torch.Tensor, "a torch tensor of class numbers")
    with torch.no_grad():
        answers = model(inputs).argmax(-1)
    if labels.shape != answers.shape:
        raise ValueError(f"labels has shape {tuple(labels.shape)}: one an answer, {tuple(answers.shape)}, is needed")
    return float((answers == labels).float().mean())


def agreement(model: nn.Module, other: nn.Module, inputs: Tensor) -> float:
    """Share of inputs to which both give the same largest output."""
    torch = _given(inputs, model=model, other=other)
    with torch.no_grad():
        return float((model(inputs).argmax(-1) == other(inputs).argmax(-1)).float().mean())


def output_error(model: nn.Module, other: nn.Module, inputs: Tensor) -> float:
    """‖model(x) − other(x)‖/‖model(x)‖ over all inputs."""
    torch = _given(inputs, model=model, other=other)
    with torch.no_grad():
        right = model(inputs)
        return float((right - other(inputs)).norm() / right.norm())


def digits(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """scikit-learn's 1797 digits, shuffled: (train inputs, train labels, test inputs, test labels), 1297 and 500.

    Inputs are float64 in [0, 1], (n, 64): the networks below are trained and compressed in double precision, so that
    they are the same on every processor (a difference in the last bit grows a few hundredfold in training, and
    path following rounds by thresholds).
    """
    need("torch")
    import torch

    split = load_digits("last-500", seed)
    x, test = (torch.from_numpy(pixels / PIXELS) for pixels in (split.train, split.test))
    return x, torch.from_numpy(split.train_labels), test, torch.from_numpy(split.test_labels)


def digits_mlp(hidden: tuple[int, ...] = (64,), seed: int = 0, steps: int = 300) -> nn.Sequential:
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


def digits_convnet(seed: int = 0, steps: int = 150) -> nn.Sequential:
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

    seed, steps = check_seed(seed), integer(steps, "steps", 0, 100_000)
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
