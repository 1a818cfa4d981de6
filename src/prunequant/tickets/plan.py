"""How large must the random source be? Widths and block sizes with a certified failure probability.

Depth 2ℓ (Kumar & Natale 2025, Theorem 1): each target layer becomes a pair (U, V); every input coordinate gets a
block of m hidden units, every weight one subset sum over the items u⁺v of its block, two when the input may be
negative. Depth ℓ+1 (Theorem 2, after Burkholz 2022): only the first layer is a pair; every neuron is made in ρ
copies, and a weight of the next layer is a subset sum over the copies' fresh weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import exp, log, log2, prod

import numpy as np

from prunequant.arguments import choice, flag, instance, integer, real
from prunequant.tickets import arithmetic as exact
from prunequant.tickets import certificate
from prunequant.tickets.carve import Recipe
from prunequant.tickets.network import Network

DEPTHS = ("2l", "l+1")
METHODS = ("measured", "proved")
MAX_WIDTH = 2**31


def step(bits: int) -> Fraction:
    """The step of a symmetric grid of 2^bits − 1 levels in [−1, 1]: 1/(2^(bits−1) − 1); bits in [2, 20].

    At least 2, for a sign and a magnitude; a source has at most 16.

    Examples
    --------
    >>> step(4)
    Fraction(1, 7)
    """
    bits = integer(bits, "bits", 2, 20)
    return Fraction(1, 2 ** (bits - 1) - 1)


def inverse(value: float | Fraction, name: str) -> int:
    """1/step as an integer up to 10^6; anything else is an error that names the step."""
    number = real(value, name, 0, 1, open_low=True)
    fraction = (value if isinstance(value, Fraction) else Fraction(number)).limit_denominator(10**6)
    if fraction.numerator != 1 or abs(float(fraction) - number) > 1e-12:
        raise ValueError(f"{name} is {value}: 1/step must be a whole number (Fraction(1, 7), 1/8, ...)")
    return fraction.denominator


@dataclass(frozen=True)
class Plan:
    """What a source must be like for a target of this shape; made by `plan`, used by `find`.

    Attributes
    ----------
    shape : layer widths of the target
    target, source : K_t = 1/δ_t and K = 1/δ_in, one a layer
    blocks : sub-blocks of hidden units an input coordinate has (layers of depth 2ℓ, first layer of ℓ+1), or of copies a
        neuron of the layer before has (later layers of ℓ+1), one tuple a layer
    signed_inputs, constants, depth : as asked
    asked, certified : failure probability asked for, and the bound that holds for any target of this shape (for the one
        given, when a target was given)
    method, confidence : "measured" with the confidence of its trials, or "proved" with confidence 1

    Every field is checked; sequences become tuples, numbers Python numbers.
    """

    shape: tuple[int, ...]
    target: tuple[int, ...]
    source: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]
    signed_inputs: bool
    constants: tuple[bool, ...]
    depth: str
    asked: float
    certified: float
    method: str
    confidence: float

    def __post_init__(self) -> None:
        shape = tuple(integer(d, f"shape[{i}]", 1, MAX_WIDTH) for i, d in enumerate(exact.several(self.shape, "shape")))
        layers = len(shape) - 1
        if layers < 1:
            raise ValueError(f"shape is {shape}: at least two positive layer widths are needed")
        top = certificate.MAX_SOURCE
        fields = {
            "shape": shape,
            "target": self._each("target", lambda k, name: integer(k, name, 1, top**2), layers),
            "source": self._each("source", lambda k, name: integer(k, name, 1, top), layers),
            "blocks": self._each("blocks", _sub_blocks, layers),
            "signed_inputs": flag(self.signed_inputs, "signed_inputs"),
            "constants": self._each("constants", flag, layers),
            "depth": choice(self.depth, "depth", DEPTHS),
            "asked": _probability(self.asked, "asked"),
            "certified": real(self.certified, "certified", 0, 1),
            "method": choice(self.method, "method", METHODS),
            "confidence": real(self.confidence, "confidence", 0, 1),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _each(self, name: str, check, layers: int) -> tuple:
        values = exact.several(getattr(self, name), name)
        if len(values) != layers:
            raise ValueError(f"{name} has {len(values)} entries for {layers} layers")
        return tuple(check(value, f"{name}[{l}]") for l, value in enumerate(values))

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """One recipe a target layer."""
        return tuple(
            Recipe(l, kind, k, t, blocks, self.signed_inputs and l == 0)
            for l, (kind, k, t, blocks) in enumerate(zip(self.kinds, self.source, self.target, self.blocks))
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The law of each layer's items."""
        return _kinds(len(self.target), self.depth)

    @property
    def samples(self) -> tuple[int, ...]:
        """Samples a subset sum draws on, one number a layer: the hidden units (or copies) of one input coordinate."""
        return tuple(sum(b) for b in self.blocks)

    @property
    def copies(self) -> tuple[int, ...]:
        """How many copies each layer's neurons are made in (1 everywhere at depth 2ℓ and in the last layer)."""
        if self.depth == "2l":
            return (1,) * len(self.target)
        return (*(sum(b) for b in self.blocks[1:]), 1)

    @property
    def columns(self) -> tuple[int, ...]:
        """Inputs of each target layer, the constant included."""
        return tuple(d + c for d, c in zip(self.shape, self.constants))

    @property
    def widths(self) -> tuple[int, ...]:
        """Layer widths of the source, from its input to its output (a constant input counts one at depth 2ℓ)."""
        m = [sum(b) for b in self.blocks]
        if self.depth == "2l":
            inner = [w for l in range(len(m)) for w in (self.columns[l], self.columns[l] * m[l])]
            return (*inner, self.shape[-1])
        later = [self.columns[l] * m[l] for l in range(1, len(m))]
        return (self.columns[0], self.columns[0] * m[0], *later, self.shape[-1])

    @property
    def subset_sums(self) -> tuple[int, ...]:
        """Subset sums in each layer."""
        sizes = zip(self.recipes, self.columns, self.shape[1:], self.copies)
        return tuple(len(r.halves) * d * o * c for r, d, o, c in sizes)

    @property
    def parameters(self) -> int:
        """Weights of the dense source network, all of them prunable."""
        m = [sum(b) for b in self.blocks]
        total = 0
        for l, (d, o, c) in enumerate(zip(self.columns, self.shape[1:], self.copies)):
            hidden = d * m[l]
            total += hidden * o * c + (hidden * d if self.kinds[l] == "relu" else 0)
        return total

    @property
    def target_parameters(self) -> int:
        """N_t, biases included."""
        return sum(d * o for d, o in zip(self.columns, self.shape[1:]))

    @property
    def counting_bound(self) -> float:
        """Bits: no source with fewer prunable weights reaches every target of this shape with probability ½."""
        pairs = zip(self.columns, self.shape[1:], self.target)
        return sum(d * o * log2(2 * k + 1) for d, o, k in pairs) - 1

    @property
    def ratio(self) -> float:
        """Parameters over the counting bound."""
        return self.parameters / self.counting_bound

    def expected_failures(self, target: Network) -> tuple[float, ...]:
        """Expected number of unsolvable subset sums in each layer for this very target, from the measured rates."""
        check_fit(target, self)
        out = []
        for recipe, w, copies in zip(self.recipes, target.weights, self.copies):
            rate = np.prod([certificate.rates(recipe.law)[:, m] for m in recipe.blocks], axis=0)
            out.append(float(rate[np.abs(w)].sum()) * len(recipe.halves) * copies)
        return tuple(out)

    def with_blocks(self, blocks: Sequence[int | Sequence[int]]) -> Plan:
        """The same plan with other sub-blocks; its certificate is recomputed and may exceed what was asked for."""
        chosen = tuple(b if exact.is_several(b) else (b,) for b in exact.several(blocks, "blocks"))
        changed = replace(self, blocks=chosen, method="measured", confidence=certificate.CONFIDENCE)
        return replace(changed, certified=_certified(changed, None))

    def __str__(self) -> str:
        steps = ", ".join(f"1/{k}" for k in self.source)
        targets = ", ".join(f"1/{k}" for k in self.target)
        sizes = ", ".join("+".join(map(str, b)) for b in self.blocks)
        sure = "proved" if self.method == "proved" else f"confidence {self.confidence:.6f}"
        return "\n".join(
            (
                f"target        {' → '.join(map(str, self.shape))}, steps {targets}",
                f"source        {' → '.join(map(str, self.widths))}, steps {steps}, depth {self.depth}",
                f"block         {sizes} units",
                f"subset sums   {sum(self.subset_sums):,}",
                f"failure       ≤ {self.certified:.2g} (asked {self.asked:g}; {sure})",
                f"parameters    {self.parameters:,}, {self.parameters / self.target_parameters:.0f} a target weight",
                f"counting      ≥ {self.counting_bound:,.0f}; ratio {self.ratio:.0f}",
            )
        )


def _sub_blocks(sizes, name: str) -> tuple[int, ...]:
    listed = exact.several(sizes, name)
    if not 1 <= len(listed) <= certificate.MAX_BLOCKS:
        raise ValueError(f"{name} has {len(listed)} entries: 1 to {certificate.MAX_BLOCKS} sub-blocks are allowed")
    return tuple(integer(m, f"{name}[{i}]", 1, certificate.MAX_UNITS) for i, m in enumerate(listed))


def _probability(value, name: str) -> float:
    return real(value, name, 0, 1, open_low=True, open_high=True)


def _kinds(layers: int, depth: str) -> tuple[str, ...]:
    return ("relu",) * layers if depth == "2l" else ("relu",) + ("uniform",) * (layers - 1)


def check_fit(target: Network, plan: Plan) -> None:
    """Raise ValueError unless the plan was made for a network like this one."""
    instance(target, "target", Network, "a Network")
    instance(plan, "plan", Plan, "a Plan, as plan returns it")
    constants = tuple(bool(c) for c in target.constants)
    for name, have, want in (
        ("shape", target.shape, plan.shape),
        ("1/target_step", target.levels, plan.target),
        ("constants", constants, plan.constants),
    ):
        if have != want:
            raise ValueError(f"target has {name} {have}, but the plan was made for {want}")


def plan(
    shape: Sequence[int] | Network,
    target_step: float | Fraction | Sequence | None = None,
    source_step: float | Fraction | Sequence | None = None,
    failure: float = 0.01,
    signed_inputs: bool = True,
    *,
    depth: str = "2l",
    biases: bool = False,
    method: str = "measured",
) -> Plan:
    """Choose the smallest source whose failure probability is certified to be at most ``failure``.

    Parameters
    ----------
    shape : layer widths (784, 128, 10), ints in [1, 2^31], or a `Network`: the certificate is then for its own weights,
        which needs fewer units than the worst network of its shape
    target_step, source_step : δ_t and δ_in as fractions (1/8, Fraction(1, 7)), or one a layer; 1/step is a whole
        number and δ_t a multiple of δ_in² (of δ_in for the later layers of depth "l+1"); source_step defaults to
        target_step. 1/δ_in is at most 8191 (32767 for the later layers of depth "l+1"); what the recorded table lacks
        is measured, in seconds
    failure : float in (0, 1), for the whole network
    signed_inputs : False when the network's inputs are never negative: half the subset sums of the first layer
    depth : "2l" or "l+1"
    biases : every layer has a constant as one more input (taken from the network when one is given)
    method : "measured" or "proved", see `prunequant.tickets.certificate`

    Returns
    -------
    Plan

    Raises
    ------
    TypeError, ValueError : steps that are no unit fractions or do not divide, a failure outside (0, 1), an unknown
        depth or method, widths that are no integers

    Notes
    -----
    Every subset sum gets the same share failure/N of the failure, so the block of layer l grows as 2 log2 K +
    O(log N/failure): the union bound of Kumar & Natale 2025, Theorem 1, with a certificate in place of the rate
    n^(−1/7).

    Examples
    --------
    >>> made = plan((64, 32, 10), Fraction(1, 7), Fraction(1, 7), 0.01, signed_inputs=False)
    >>> made.certified <= 0.01, sum(made.subset_sums)
    (True, 2368)
    """
    target = shape if isinstance(shape, Network) else None
    widths = target.shape if target is not None else exact.several(shape, "shape")
    widths = tuple(integer(d, f"shape[{i}]", 1, MAX_WIDTH) for i, d in enumerate(widths))
    layers = len(widths) - 1
    if layers < 1:
        raise ValueError(f"shape is {widths}: at least two positive layer widths are needed")
    failure = _probability(failure, "failure")
    depth, method = choice(depth, "depth", DEPTHS), choice(method, "method", METHODS)
    signed_inputs, biases = flag(signed_inputs, "signed_inputs"), flag(biases, "biases")
    if target_step is not None:
        levels = _inverses(target_step, layers, "target_step")
    elif target is not None:
        levels = target.levels
    else:
        raise ValueError("target_step is missing: give the step of the target's weights")
    sources = levels if source_step is None else _inverses(source_step, layers, "source_step")
    constants = (biases,) * layers if target is None else tuple(bool(c) for c in target.constants)
    draft = Plan(
        shape=widths,
        target=levels,
        source=sources,
        blocks=((1,),) * layers,
        signed_inputs=signed_inputs,
        constants=constants,
        depth=depth,
        asked=failure,
        certified=1.0,
        method=method,
        confidence=1.0 if method == "proved" else certificate.CONFIDENCE,
    )
    if target is not None:
        check_fit(target, draft)
    blocks = _choose(draft, target)
    draft = replace(draft, blocks=blocks)
    return replace(draft, certified=_certified(draft, target))


def _inverses(value, layers: int, name: str) -> tuple[int, ...]:
    if not exact.is_several(value):
        return (inverse(value, name),) * layers
    if len(value) != layers:
        raise ValueError(f"{name} has {len(value)} entries for {layers} layers")
    return tuple(inverse(v, f"{name}[{l}]") for l, v in enumerate(value))


def _choose(plan: Plan, target: Network | None) -> tuple[tuple[int, ...], ...]:
    """Sub-blocks layer by layer, the last first: at depth ℓ+1 a layer's copies are as many as the next one's block."""
    laws = len({r.law for r in plan.recipes})
    share = [1 / len(plan.target)] * len(plan.target)
    blocks: list[tuple[int, ...]] = list(plan.blocks)
    if plan.depth == "2l":
        share = [n / sum(plan.subset_sums) for n in plan.subset_sums]
    for l in reversed(range(len(blocks))):
        current = replace(plan, blocks=tuple(blocks))
        recipe, sums = current.recipes[l], current.subset_sums[l]
        asked = plan.asked * share[l]
        allowed = log(asked) if asked else log(plan.asked) + log(share[l])
        if plan.method == "proved":
            blocks[l] = _proved_blocks(recipe, allowed - log(sums))
        elif target is None:
            blocks[l] = certificate.choose_blocks(recipe.law, allowed - log(sums), laws=laws)
        else:
            w = target.weights[l]
            counts = np.bincount(np.abs(w).ravel(), minlength=recipe.law.reach + 1) * (sums / w.size)
            blocks[l] = certificate.choose_blocks(recipe.law, allowed, counts, laws)
    return tuple(blocks)


def _proved_blocks(recipe: Recipe, log_failure: float) -> tuple[int, ...]:
    units = 256
    while units <= certificate.most_window_units(min(recipe.law.reach, certificate.MAX_WINDOW_LEVELS)):
        worst = certificate.window_failure(recipe.law, units).max(axis=0)
        enough = np.flatnonzero(worst <= exp(log_failure))
        if enough.size and enough[0] <= certificate.MAX_BLOCKS * certificate.MAX_UNITS:
            m = int(enough[0])
            pieces = -(-m // certificate.MAX_UNITS)
            return tuple(m // pieces + (i < m % pieces) for i in range(pieces))
        units *= 2
    raise ValueError(f"no block of up to {units // 2} units is proved to be large enough: allow a larger failure")


def _certified(plan: Plan, target: Network | None) -> float:
    laws = len({r.law for r in plan.recipes})
    total = 0.0
    for l, (recipe, sums) in enumerate(zip(plan.recipes, plan.subset_sums)):
        if plan.method == "proved":
            missed = certificate.window_failure(recipe.law, recipe.width)[:, -1]
        else:
            missed = certificate.block_failure(recipe.law, recipe.blocks, laws=laws)
        if target is None:
            total += sums * float(missed.max())
        else:
            w = target.weights[l]
            total += float(missed[np.abs(w)].sum()) * (sums / w.size)
    return min(1.0, total)


def widths_of_independent_neurons(plan: Plan) -> tuple[int, ...]:
    """Hidden widths if every output had U-blocks of its own (Lemma 7 misread): larger by the number of outputs."""
    return tuple(prod((d, sum(b), o)) for d, b, o in zip(plan.columns, plan.blocks, plan.shape[1:]))
