r"""Compress the linear layers of a decoder in the order in which they run, each from what the layers below hand on.

One forward pass of the original records the inputs $X$ of every linear layer. One forward pass of the copy compresses
each layer at the moment its input $\tilde X$ arrives, from the layers already compressed, and goes on with the new
weights. Layers that read the same tensor (query, key and value; gate and up) are one matrix with one Gram matrix.

Of the calibration tokens some are *measured*: chosen before any coin is thrown, they carry errors and certificates. A
second set of tokens only runs along and is never shown to a method: the held-out errors come from it.

For linear layers on all calibration tokens, on any device; `networks.compress_network` takes any module, convolutions
and attention among them, on a sample of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from prunequant.arguments import integer
from prunequant.models.layers import layer_seed
from prunequant.path_following import FiniteGrid, Grid, Result, compress, theory
from prunequant.path_following.certificates import influence_of
from prunequant.path_following.checks import check_failure


@dataclass(frozen=True)
class Method:
    """A rounding rule: `feedback` as for `compress`, coins or nearest, a grid of 2**bits − 1 points or without end."""

    feedback: str
    stochastic: bool = False
    finite: bool = True
    alignment: int = 0
    damping: float = 0.01

    @property
    def certified(self) -> bool:
        """Whether a bound in probability belongs to it: mean-zero rounding of which nothing is clipped."""
        return self.stochastic and not self.finite

    def operator(self, steps: NDArray, bits: int) -> Grid | FiniteGrid:
        """The grid of this method with one step a neuron."""
        if self.finite:
            return FiniteGrid(steps, 2**bits - 1, self.stochastic)
        return Grid(steps, self.stochastic)


@dataclass(frozen=True, eq=False)
class Group:
    """Layers that read one tensor, and what they read: (rows, features) float32, rows = tokens."""

    names: tuple[str, ...]
    inputs: NDArray


@dataclass(frozen=True, eq=False)
class Rows:
    """Which tokens of the flattened batch do what: `calibration` come first, `measured` are some of them."""

    calibration: int
    measured: NDArray
    held: NDArray

    @classmethod
    def choose(cls, calibration: int, held: int, measured: int) -> Rows:
        """`measured` tokens evenly spread over the calibration tokens and as many (or all) over the held-out ones.

        The first token of the first window is among them: decoders give it the largest activations of all.

        >>> Rows.choose(9, 5, 3).measured, Rows.choose(9, 5, 3).held
        (array([0, 4, 8]), array([ 9, 11, 13]))
        """
        calibration, held = integer(calibration, "calibration", 1), integer(held, "held", 1)
        measured = integer(measured, "measured", 1, calibration)
        return cls(calibration, _spread(measured, calibration), calibration + _spread(min(measured, held), held))


def _spread(count: int, total: int) -> NDArray:
    """`count` of `total` places, the first and the last among them."""
    return np.linspace(0, total - 1, count).astype(np.int64)


def row_steps(weights: NDArray, bits: int) -> NDArray:
    """(neurons,): for each row of (neurons, features) the step at which its largest weight is the last grid point.

    The grid is k·step with |k| ≤ 2**(bits − 1) − 1: zero is a value and nothing is clipped by memoryless rounding. A
    row of zeros gets 1.

    >>> row_steps(np.array([[0.3, -1.4], [0.0, 0.0]]), 4)
    array([0.2, 1. ])
    """
    bits = integer(bits, "bits", 2, 24)
    largest = np.abs(np.asarray(weights, dtype=np.float64)).max(axis=1)
    return np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)


@contextmanager
def _watching(layers: Mapping[str, nn.Module], act: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Call act(name, input) before each layer runs, without gradients."""
    hooks = [
        layer.register_forward_pre_hook(lambda m, args, name=name: act(name, args[0])) for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _flat(x: torch.Tensor) -> NDArray:
    """(tokens, features) float32 on the host."""
    return x.detach().reshape(-1, x.shape[-1]).float().cpu().numpy().copy()


def record_groups(layers: Mapping[str, nn.Module], forward: Callable[[], object]) -> list[Group]:
    """The inputs of all layers in the order in which they run; neighbours that read one tensor share a group.

    Parameters
    ----------
    layers : the layers by name; forward : runs the model on the calibration and the held-out tokens.

    Raises
    ------
    ValueError : a layer runs twice, or not at all.
    """
    groups: list[tuple[list[str], torch.Tensor, NDArray]] = []
    seen: set[str] = set()

    def act(name: str, x: torch.Tensor) -> None:
        if name in seen:
            raise ValueError(f"layer {name} runs more than once in a forward pass: give it weights of its own")
        seen.add(name)
        if groups and groups[-1][1] is x:
            groups[-1][0].append(name)
        else:
            if groups:  # keep one live tensor only, so that no other can take its identity
                groups[-1] = (groups[-1][0], None, groups[-1][2])
            groups.append(([name], x, _flat(x)))

    with _watching(layers, act):
        forward()
    if missing := [name for name in layers if name not in seen]:
        raise ValueError(f"layer {missing[0]} does not run in a forward pass ({len(missing)} such layers)")
    return [Group(tuple(names), inputs) for names, _, inputs in groups]


def compress_in_order(
    layers: Mapping[str, nn.Linear],
    groups: list[Group],
    forward: Callable[[], object],
    rows: Rows,
    method: Method,
    bits: int,
    steps: Mapping[str, NDArray],
    *,
    seed: int = 0,
    failure: float = 1e-3,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[dict]:
    """Compress the layers in place, in the order in which they run; one plain row for each.

    Parameters
    ----------
    layers : the layers of the copy, by the names of the groups.
    groups : of the original, from `record_groups` with the same tokens.
    forward : runs the copy on these tokens.
    method, bits, steps : the rule, the bits of the grid, a step for each neuron of each layer (`row_steps`).
    seed : in [0, 2**64); every group draws its own stream.
    failure : for the certificates of the whole model: split evenly over its layers and, within one, over its neurons.

    Returns
    -------
    list of dict: layer; on the measured tokens `error` = ‖XW − X̃Q‖/‖XW‖ and `own` = ‖X̃(W − Q)‖/‖X̃W‖, on the held-out
    tokens `held_error` and `held_own`; `saturation`, the share of clipped weights, or for a grid without end `beyond`,
    the share outside the 2**bits − 1 points. Where the method has certificates: `above`, neurons with an error above
    their bound, `above_alone`, above its random part; `closest`, the largest error/bound; `slack`, the median bound/
    error; `known`, the median share of the bound that is known before rounding; `largest` error, and its `bound`.
    """
    bits, seed, failure = integer(bits, "bits", 2, 24), integer(seed, "seed", 0, 2**64 - 1), check_failure(failure)
    report: list[dict] = []
    pending = {group.names[0]: (number, group) for number, group in enumerate(groups)}

    def act(name: str, x: torch.Tensor) -> None:
        if name not in pending:
            return
        number, group = pending.pop(name)
        if progress is not None:
            progress("layers", len(report), len(layers))
        members = [layers[n] for n in group.names]
        sizes = [m.out_features for m in members]
        weights = torch.cat([m.weight.detach() for m in members]).T.contiguous()
        changed = _flat(x)
        operator = method.operator(np.concatenate([steps[n] for n in group.names]), bits)
        result = compress(
            weights,
            group.inputs[: rows.calibration],
            operator,
            feedback=method.feedback,
            quantized_inputs=changed[: rows.calibration],
            alignment=method.alignment,
            damping=method.damping if method.feedback != "none" else None,
            seed=layer_seed(seed, number),
        )
        rounded: torch.Tensor = result.weights  # as the weights were given
        with torch.no_grad():
            for member, part in zip(members, rounded.T.split(sizes)):
                member.weight.copy_(part)
        before = weights.float().cpu().numpy()
        after = rounded.float().cpu().numpy()
        share = failure / len(layers)
        errors = _measure(group.inputs, changed, before, after, rows)
        if method.certified:
            failures = np.repeat([share / size for size in sizes], sizes)
            bounds = certified_bounds(result, rows, failures)
        edge = (2 ** (bits - 1) - 1) * operator.step
        stop = np.cumsum([0, *sizes])
        for n, a, b in zip(group.names, stop, stop[1:]):
            row = {"layer": n, **{key: ratio(value[..., a:b]) for key, value in errors.items() if key != "largest"}}
            if method.finite:
                row["saturation"] = float(np.mean(_host(result.saturation)[a:b]))
            else:
                row["beyond"] = float(np.mean(np.abs(after[:, a:b]) > edge[a:b] * (1 + 1e-6)))
            if method.certified:
                row.update(_coverage(errors["largest"][a:b], *(part[a:b] for part in bounds)))
            report.append(row)

    with _watching(layers, act):
        forward()
    return report


def _host(x) -> NDArray:
    return x.cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def ratio(squares: NDArray) -> float:
    """√(Σ wrong / Σ right) of (2, neurons) sums of squares; 0 if both vanish."""
    wrong, right = squares.sum(axis=1)
    return float(np.sqrt(wrong / right)) if right > 0 else 0.0


def _measure(x: NDArray, y: NDArray, w: NDArray, q: NDArray, rows: Rows) -> dict[str, NDArray]:
    """Squares of (wrong, right) per neuron for each kind of error, and the largest |Xw − X̃q| on measured tokens."""
    w_, q_ = torch.from_numpy(w), torch.from_numpy(q)
    out = {}
    for prefix, chosen in (("", rows.measured), ("held_", rows.held)):
        x_, y_ = torch.from_numpy(x[chosen]), torch.from_numpy(y[chosen])
        target, aim, got = x_ @ w_, y_ @ w_, y_ @ q_
        right = (_squares(target), _squares(aim))
        target -= got
        aim -= got
        out[prefix + "error"] = np.stack([_squares(target), right[0]])
        out[prefix + "own"] = np.stack([_squares(aim), right[1]])
        if not prefix:
            out["largest"] = target.abs_().amax(0).double().numpy()
    return out


def _squares(a: torch.Tensor) -> NDArray:
    return torch.linalg.vector_norm(a, dim=0).double().square().numpy()


def certified_bounds(result: Result, rows: Rows, failure: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    r"""Bounds on $\max_i|(Xw-\tilde Xq)_i|$ over the measured tokens, per neuron; their known and random part alone.

    Parameters
    ----------
    result : of `compress` with a stochastic grid without end.
    failure : (neurons,), the probability granted to each neuron over its measured tokens.

    Notes
    -----
    $|Xw-\tilde X\tilde w|_i+\omega\,\lVert A_i\rVert\sqrt{\tfrac12\log(2m/\epsilon)}$ with $A=\tilde X(I+M)^{-1}$ and
    $M$ from all calibration tokens, for m measured ones: `Result.certificate` restricted to tokens chosen beforehand.
    """
    influence = influence_of(result.layer.rule, result.layer.inputs_seen, rows.measured)
    tail = np.array([theory.tail_constant(f / len(influence), "best") for f in failure])
    random = np.outer(np.linalg.norm(influence, axis=1), tail * result.operator.width)
    known = result.known_error(rows.measured)
    bounds = np.abs(known) + random
    return bounds.max(axis=0), np.abs(known).max(axis=0), random.max(axis=0)


def _coverage(error: NDArray, bound: NDArray, known: NDArray, random: NDArray) -> dict:
    live = bound > 0
    return {
        "neurons": int(error.size),
        "above": int(np.sum(error > bound)),
        "above_alone": int(np.sum(error > random)),
        "closest": float(np.max(error[live] / bound[live])) if live.any() else 0.0,
        "slack": float(np.median(bound[live] / np.maximum(error[live], 1e-300))) if live.any() else 0.0,
        "known": float(np.median(known[live] / bound[live])) if live.any() else 0.0,
        "largest": float(error.max()),
        "bound": float(bound[int(np.argmax(error))]),
    }
