"""Find a ticket: a mask of a random quantized network that computes exactly what a target computes.

Kumar & Natale 2025, Lemmas 5-7 and Theorems 1 and 2; the construction, made exact and checked. Write the weights
of a pair as integers u, v ∈ {−K..K}. For an input x ≥ 0 the hidden units with u > 0 carry u·x, and Σ_S v·u =
w·K²/K_t gives the output Σ_S v·max(u·x, 0) = (K²/K_t)·w·x, an exact multiple of the target's. For x < 0 the units
with u < 0 take over, with −w·K²/K_t as their sum. Rounding to the activation grid acts after each pair, where
both networks hold the same value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.arguments import choice, instance, integer, shown
from prunequant.tickets import arithmetic as exact
from prunequant.tickets import files
from prunequant.tickets.carve import Carving, Pruned, TicketNotFound, carve, effective, kept_totals, prune
from prunequant.tickets.network import MAX_LEVELS, Network, append
from prunequant.tickets.plan import DEPTHS, Plan, check_fit
from prunequant.tickets.source import check_seed

if TYPE_CHECKING:
    from torch import nn


class Verification(NamedTuple):
    """Outcome of a comparison in exact integers: how many outputs differ, of how many; ``identical`` when none does."""

    identical: bool
    differing: int
    outputs: int
    samples: int


class Share(NamedTuple):
    """Weights kept out of the source's, and kept per target weight."""

    kept: int
    parameters: int
    share: float
    per_target_weight: float


@dataclass(frozen=True, eq=False)
class Ticket:
    """Masks over a random source, and what is needed to run it: plan, seed, rounding and constants of the target."""

    plan: Plan
    seed: int
    carvings: tuple[Carving, ...]
    divisors: tuple[int, ...]
    constants: tuple[int, ...]
    target: Network | None = field(default=None, repr=False)

    @cached_property
    def layers(self) -> tuple[Pruned, ...]:
        """The pruned source, regenerated: u (columns, width) and V (rows, columns·width) of each layer."""
        return tuple(prune(c, self.seed) for c in self.carvings)

    @property
    def scale(self) -> int:
        """Ticket outputs are this many times the target's (1 once a layer has been rounded)."""
        return _scales(self)[-1]

    @property
    def parameters(self) -> int:
        """Weights of the unpruned source."""
        return self.plan.parameters

    @cached_property
    def kept(self) -> Share:
        """How much of the source the masks keep, entries of U and of V."""
        v = sum(int(kept_totals(c, self.seed).number.sum()) for c in self.carvings)
        u = sum(int(p.u_mask.sum()) for p, c in zip(self.layers, self.carvings) if c.recipe.kind != "uniform")
        return Share(u + v, self.parameters, (u + v) / self.parameters, (u + v) / self.plan.target_parameters)

    def weights(self) -> list[NDArray[np.int64]]:
        """The target's weight matrices, read off the masks and the regenerated source (copies must agree)."""
        matrices = []
        for carving, copies in zip(self.carvings, self.plan.copies):
            w = effective(carving, self.seed).reshape(-1, copies, carving.columns)
            if (w != w[:, :1]).any() or np.abs(w).max() > carving.recipe.law.reach:
                raise ValueError(f"layer {carving.recipe.layer}: the masks do not stand for a matrix on the grid")
            matrices.append(w[:, 0])
        return matrices

    def network(self) -> Network:
        """The target network, read off the masks."""
        return Network(self.weights(), self.plan.target, self.divisors, self.constants)

    def forward(self, x: ArrayLike) -> NDArray:
        """Run the pruned source on integer inputs (N, d): hidden units, ReLU, masked sums; raw outputs (N, out).

        Exact: float64 matrix products under a proved bound of 2⁵³, int64 under 2⁶³, Python integers beyond.
        """
        return self._forward(x, "x")

    def _forward(self, x: ArrayLike, name: str) -> NDArray:
        x = exact.integers(x, name)
        if x.ndim != 2 or x.shape[1] != self.plan.shape[0]:
            raise ValueError(f"{name} has shape {x.shape}: (samples, {self.plan.shape[0]}) is needed")
        if not self.plan.signed_inputs and x.size and x.min() < 0:
            raise ValueError(f"{name} has negative entries, but the plan was made with signed_inputs=False")
        scale, last = 1, len(self.carvings) - 1
        for l, (carving, layer) in enumerate(zip(self.carvings, self.layers)):
            recipe = carving.recipe
            if recipe.kind == "uniform":
                hidden = append(x, self.constants[l] * scale, recipe.width)
            else:
                hidden = exact.outer_relu(append(x, self.constants[l] * scale), layer.u)
            used = layer.v_mask.any(axis=0)
            x = exact.matmul(hidden[:, used], layer.v[:, used].T)
            scale *= recipe.factor
            if self.divisors[l]:
                x, scale = exact.round_half_up(x, scale * self.divisors[l]), 1
            if l < last:
                x = exact.relu(x)
        return x

    def logits(self, x: ArrayLike) -> NDArray:
        """Outputs in the target's units: the raw outputs divided by `scale`, which must leave no remainder."""
        values, rest = exact.divide(self.forward(x), self.scale)
        if np.any(rest != 0):
            raise AssertionError("a ticket's output is not a multiple of its scale")
        return values.astype(np.int64) if values.dtype == object and exact.largest(values) < 2**63 else values

    def verify(self, inputs: ArrayLike, target: Network | None = None) -> Verification:
        """Compare with the target on these inputs, every output as an exact integer.

        Parameters
        ----------
        inputs : (N, d) integers
        target : Network, needed when the ticket came from a file (a file holds masks, not the target)
        """
        target = target if target is not None else self.target
        if target is None:
            raise ValueError("target is missing: a ticket read from a file does not hold the network it stands for")
        instance(target, "target", Network, "a Network")
        check_fit(target, self.plan)
        ours = self._forward(inputs, "inputs")
        theirs = exact.scale(target.forward(inputs), self.scale)
        differing = int(np.count_nonzero(ours != theirs))
        return Verification(differing == 0, differing, ours.size, ours.shape[0])

    def to_torch(self) -> nn.Module:
        """The pruned source as a torch module on int64 tensors: dense masked weights, ReLU, integer rounding."""
        from prunequant.tickets._torch import PrunedSource

        return PrunedSource(self.carvings, self.layers, self.divisors, self.constants)

    def save(self, path: str | PathLike) -> None:
        """Write plan, seed, rounding, constants and masks; not the target, not the source (format: `files`)."""
        header = {
            "kind": "network",
            "plan": asdict(self.plan),
            "seed": self.seed,
            "divisors": self.divisors,
            "constants": self.constants,
        }
        files.write(path, header, {f"layer{l}": c for l, c in enumerate(self.carvings)})

    @staticmethod
    def load(path: str | PathLike) -> Ticket:
        """Read a ticket back; the source is regenerated from its seed, and `network` shows the target.

        Raises
        ------
        FileNotFoundError, TicketFileError : no such file; not a ticket, damaged, or a header and masks that do not
            belong together, whatever its checksum says
        """
        header, carvings = files.read(path)
        if header.get("kind") != "network":
            raise files.TicketFileError(f"{path}: holds a ticket of kind {shown(header.get('kind'))}, not a network's")
        try:
            return _assembled(header, carvings)
        except files.WRONG as error:
            raise files.TicketFileError(f"{path}: its header does not describe its masks ({error!r})") from None


def _assembled(header: Mapping, carvings: Mapping[str, Carving]) -> Ticket:
    """The ticket of a file, whose parts must belong together."""
    plan, seed = Plan(**header["plan"]), int(check_seed(header["seed"]))
    layers = len(plan.target)
    numbers = {}
    for name in ("divisors", "constants"):
        numbers[name] = tuple(integer(v, f"{name}[{l}]", 0, MAX_LEVELS) for l, v in enumerate(header[name]))
        if len(numbers[name]) != layers:
            raise ValueError(f"{name} has {len(numbers[name])} entries for {layers} layers")
    if tuple(map(bool, numbers["constants"])) != plan.constants:
        raise ValueError(f"constants is {numbers['constants']}, but the plan has {plan.constants}")
    if sorted(carvings) != sorted(f"layer{l}" for l in range(layers)):
        raise ValueError(f"it holds {shown(sorted(carvings))}, the plan has {layers} layers")
    masks = tuple(carvings[f"layer{l}"] for l in range(layers))
    sides = zip(masks, plan.recipes, plan.shape[1:], plan.copies, plan.columns)
    for l, (carving, recipe, outputs, copies, columns) in enumerate(sides):
        if carving.recipe != recipe or carving.words.shape[:2] != (outputs * copies, columns):
            raise ValueError(f"layer{l} was carved by another recipe, or for another shape, than the plan's")
    return Ticket(plan, seed, masks, numbers["divisors"], numbers["constants"])


def _scales(ticket: Ticket) -> list[int]:
    """Scale before the first layer and after each."""
    scales = [1]
    for carving, divisor in zip(ticket.carvings, ticket.divisors):
        scales.append(1 if divisor else scales[-1] * carving.recipe.factor)
    return scales


def find(target: Network, plan: Plan, seed: int, depth: str | None = None) -> Ticket:
    """Prune the random source of this seed until it equals the target.

    Parameters
    ----------
    target : Network, with the shape and steps of the plan
    plan : Plan
    seed : int in [0, 2^64 − 1], names the source
    depth : "2l" or "l+1"; must be the plan's (which is the default)

    Returns
    -------
    Ticket, every mask of which has been checked against the regenerated source

    Raises
    ------
    TicketNotFound : some weights are no subset sum of their blocks; says how many, in which layers
    TypeError, ValueError : target and plan, or plan and depth, do not belong together, or are something else

    Notes
    -----
    One subset sum a weight (two in a first layer with signed inputs; one for each copy at depth ℓ+1), about a
    microsecond each. Twin: tests/naive/tickets.py.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from prunequant.tickets import network, plan
    >>> net = network.random_network((4, 3, 2), 7, seed=0)
    >>> ticket = find(net, plan(net, failure=1e-6), seed=1)
    >>> ticket.verify([[1, -2, 3, 4]]).identical
    True
    """
    check_fit(target, plan)
    if depth is not None and choice(depth, "depth", DEPTHS) != plan.depth:
        raise ValueError(f"depth is {depth!r}, but the plan was made for {plan.depth!r}")
    seed = int(check_seed(seed))
    carvings, missed = [], {}
    for w, recipe, copies in zip(target.weights, plan.recipes, plan.copies):
        try:
            carvings.append(carve(np.repeat(w, copies, axis=0), recipe, seed))
        except TicketNotFound as error:
            missed.update(error.failures)
    if missed:
        raise TicketNotFound(missed, sum(plan.subset_sums))
    return Ticket(plan, seed, tuple(carvings), target.divisors, target.constants, target)
