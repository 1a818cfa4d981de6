"""One torch module, any module, stored by a scheme: what every layer loses by it, and all that was left alone.

    small = models.compress(module, batches, scheme="INT4 g128", method="nearest")
    small.module, small.layers, small.untreated

The schemes and methods are those of model files (`prunequant.checkpoint`). The module that comes back computes with the
values that such a file gives back, in its own dtype: what it answers is what the stored model answers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunequant import arguments, formats
from prunequant.checkpoint.coding import Coded, Codes, Shifted
from prunequant.checkpoint.methods import CALIBRATED, METHODS, Settings, certified_error, code_matrix
from prunequant.checkpoint.schemes import SCALE_BITS, Scheme
from prunequant.models.calibration import FORWARD, Forward, Grams, batches_of, run
from prunequant.models.inventory import Inventory, LeftAlone
from prunequant.models.layers import Site
from prunequant.path_following.checks import check_seed
from prunequant.path_following.tensors import as_array, is_half, like

INPUTS = ("original", "compressed")


@dataclass(frozen=True)
class CompressedLayer:
    """What became of the weight of one layer.

    Parameters
    ----------
    name : of the layer; a projection of attention is a layer of its own.
    kind : of its module, such as "Linear".
    scheme, method : by which it is stored.
    rows, columns, groups : outputs, inputs of one output, and groups of a convolution.
    bits : stored in all: values, scales, mask.
    nbytes : that the weight had before.
    snr : dB, energy of the weight against that of what is lost; infinite when nothing is.
    output_snr : dB, the same of the layer's output before its bias, over the rows of the batches; nan without batches.
    held_out_snr : dB, the same over batches that the method did not see; nan without these.
    samples : rows or patches that the method saw.
    zeros_before, zeros : share of weights that are zero.
    saturation : share of integer codes that are the first or the last there is; nan for other formats.
    parameters : what the weight is made of.
    uses : how often it is used in a forward pass; 0 when no batch was given.
    note : what a reader must know; empty when nothing.
    certificate : what vouches for the layer: "path following", a bound that is proved, `certified_snr`; "measured",
        the error of its outputs, `output_snr`; "weights", without batches, the exact error of the weights, `snr`.
    certified_snr : dB, over the rows that the method was given: by path following the output keeps at least that, and
        where no code is clipped and nothing pruned any weights would, rounded with these scales; nan for others.
    """

    name: str
    kind: str
    scheme: str
    method: str
    rows: int
    columns: int
    groups: int
    bits: int
    nbytes: int
    snr: float
    output_snr: float
    held_out_snr: float
    samples: int
    zeros_before: float
    zeros: float
    saturation: float
    parameters: tuple[str, ...]
    uses: int
    note: str
    certificate: str
    certified_snr: float

    @property
    def weights(self) -> int:
        """How many there are."""
        return self.rows * self.columns

    def row(self) -> dict:
        """As a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Compressed:
    """A module with compressed weights, and what became of each of its tensors.

    Parameters
    ----------
    module : the compressed module, in the mode that it was given in.
    layers : one report a weight that was compressed, in the order of the module.
    untreated : every parameter and stored buffer that no report covers, with its reason and its share of the bytes.
    """

    module: nn.Module = field(repr=False)
    layers: tuple[CompressedLayer, ...]
    untreated: tuple[LeftAlone, ...]

    @property
    def bits_per_weight(self) -> float:
        """Stored bits a weight, of the compressed layers alone."""
        return sum(layer.bits for layer in self.layers) / sum(layer.weights for layer in self.layers)

    @property
    def bytes_before(self) -> int:
        """Of all parameters and stored buffers."""
        return sum(layer.nbytes for layer in self.layers) + sum(entry.nbytes for entry in self.untreated)

    @property
    def bytes_after(self) -> int:
        """Of what is stored: the compressed layers by their scheme, everything else as it is."""
        return sum(-(-layer.bits // 8) for layer in self.layers) + sum(entry.nbytes for entry in self.untreated)


def compress(
    module: nn.Module,
    batches: Iterable | None = None,
    *,
    scheme: str | Mapping[str, str] = "INT4 g128",
    method: str | Settings = "nearest",
    held_out: Iterable | None = None,
    samples: int | None = None,
    seed: int = 0,
    inputs: str = "original",
    in_place: bool = False,
    forward: Forward = run,
    progress: Callable[[int, int, str], None] | None = None,
) -> Compressed:
    """Compress the weights of linear layers, convolutions and attention of any torch module, and report on all of it.

    Parameters
    ----------
    module : weights may have any floating-point dtype, and keep it; they may lie on any device.
    batches : an iterable of inputs, read once: a tensor, a tuple of arguments or a dictionary of named ones each. None
        for methods that do not look at inputs; then no output error is reported.
    scheme : of all weights that it fits, a name of `checkpoint.Scheme`; or a plan, {layer or parameter: scheme}, and
        what it does not name is left alone.
    method : "nearest", or another of `checkpoint.methods.METHODS`; or a `Settings` with more to choose.
    held_out : batches that no method sees, for `held_out_snr`.
    samples : rows or patches of its input that a layer gives a batch, from 1 on, drawn; by default 4096, or four times
        its features where that is more.
    seed : of these draws, in [0, 2**64).
    inputs : that a method looks at: "original", what each layer sees in the module as it is; or "compressed", what it
        sees when all layers that run before it are compressed, so that it mends what they broke. The batches are then
        kept, and run again, up to a layer, for every layer (layers that read one tensor together).
    in_place : change the module itself; it is changed only when all layers are done.
    forward : a function of module and batch that runs the one on the other, where a batch has another form, such as
        ``lambda module, batch: module(batch[0])`` for batches with labels.
    progress : called with (layers done, layers in all, name).

    Returns
    -------
    Compressed

    Raises
    ------
    TypeError, ValueError : an argument out of its range; a method that needs inputs without batches; a plan that names
        no layer, or a scheme that does not fit it; a layer whose result would be all zero, by name; nothing to
        compress.

    Notes
    -----
    Errors of outputs are those on what a layer sees in the original module, whatever `inputs` is. Cost: one forward
    pass a batch, a Gram matrix a layer (8 · features² bytes), and the method.

    A weight that is used more than once (a module that runs twice, layers that share it) is compressed once, for what
    all of its uses see. One that a module of another kind shares, such as a tied embedding, is left alone. Weights that
    `torch.nn.utils.parametrize` or weight normalisation compute become plain parameters.

    A convolution's weight is one row a filter; for a method that looks at inputs every group is a matrix of its own.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> module = nn.Sequential(nn.Embedding(9, 64), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
    >>> small = compress(module, [torch.arange(9)], scheme="INT4 channel")
    >>> [(layer.name, layer.scheme, layer.bits / layer.weights) for layer in small.layers]
    [('1', 'INT4 channel', 4.25), ('3', 'INT4 channel', 4.5)]
    >>> small.untreated[0].name, small.untreated[0].why
    ('0.weight', 'a table that is looked up, not multiplied')
    """
    settings = method if isinstance(method, Settings) else Settings(arguments.choice(method, "method", METHODS))
    arguments.instance(module, "module", nn.Module, "a torch module")
    samples = None if samples is None else arguments.integer(samples, "samples", 1)
    seed, in_place = check_seed(seed), arguments.flag(in_place, "in_place")
    arguments.function(forward, "forward", FORWARD)
    if progress is not None:
        arguments.function(progress, "progress", "a function of two numbers and a name, or None")
    in_order = arguments.choice(inputs, "inputs", INPUTS) == "compressed"
    if batches is None and (in_order or settings.method in CALIBRATED):
        what = "inputs is 'compressed'" if in_order else f"method is '{settings.method}'"
        raise ValueError(f"{what}, which looks at inputs: give batches")
    given: Iterable | None = None if batches is None else batches_of(batches, forward=forward)
    if in_order:
        given = list(given or ())
    inventory = Inventory(module, buffers=True)
    schemes = _schemes(scheme, inventory)
    calibrated, heldout = (Grams(inventory.key, samples, seed) for _ in range(2))
    if given is not None:
        calibrated.collect(module, inventory.open, given, forward)
        for site in inventory.open:
            if site.key not in calibrated.matrices:
                inventory.left[site.key] = "did not run on the batches"
    if held_out is not None:
        heldout.collect(module, inventory.open, batches_of(held_out, "held_out", forward), forward, name="held_out")
    leaders = {site.name: site for site in inventory.leaders}
    if not leaders:
        reasons = "; ".join(f"{site.name or 'the module'}: {inventory.left[site.key]}" for site in inventory.sites)
        raise ValueError(f"no layer is to be compressed: {reasons or 'the module has no layers that are known'}")
    untreated = inventory.left_alone({name for key in schemes for name in inventory.parameters[key]})
    stages = [[name for name in stage if name in leaders] for stage in calibrated.stages] if in_order else [[*leaders]]
    compressed = module if in_place and not in_order else copy.deepcopy(module)
    copied = {site.name: site for site in inventory.copied(compressed)} if in_order else {}
    reports: dict[str, CompressedLayer] = {}
    values: dict[str, Tensor] = {}
    for stage in filter(None, stages):
        grams = calibrated
        if in_order:
            grams = Grams(inventory.key, samples, seed)
            grams.collect(compressed, [copied[name] for name in stage], given or [], forward, stop=True)
        for name in stage:
            if progress is not None:
                progress(len(reports), len(leaders), name)
            site = leaders[name]
            gram = (calibrated if calibrated.uses.get(site.key, 0) > 1 else grams).matrices.get(site.key)
            reports[name], values[name] = _compress_site(
                site, schemes[site.key], settings, gram, inventory, calibrated, heldout
            )
            if in_order:
                copied[name].write(values[name])
    if progress is not None:
        progress(len(leaders), len(leaders), "")
    if not in_order or in_place:
        compressed = module if in_place else compressed
        for site in inventory.copied(compressed):
            if site.name in values:
                site.write(values[site.name])
    return Compressed(compressed, tuple(reports[name] for name in leaders), untreated)


def _schemes(scheme: str | Mapping[str, str], inventory: Inventory) -> dict[tuple, Scheme]:
    """The scheme of every weight that is to have one, by its key; why another has none goes to the inventory."""
    one = None if isinstance(scheme, Mapping) else Scheme.named(scheme)
    plan = {name: Scheme.named(of) for name, of in scheme.items()} if isinstance(scheme, Mapping) else {}
    if one is None and not plan:
        raise ValueError("scheme is an empty plan: it must name a layer or a parameter")
    chosen: dict[tuple, Scheme] = {}
    known: set[str] = set()
    for site in inventory.sites:
        names = {site.name, *inventory.parameters[site.key]}
        known |= names
        asked = one or next((plan[name] for name in plan if name in names), None)
        why = inventory.left.get(site.key, "")
        if asked is None:
            why = why or "the plan does not name it"
        elif not why:
            weight = as_array(site.weight)
            rows = _by_rows(weight, site.groups)[0]
            why = asked.problem(*rows.shape) or ("" if _finite(weight) else "it holds NaN or infinity")
        if why and asked is not None and one is None:
            raise ValueError(f"the plan gives {asked.name} for layer {site.name}: {why}")
        if why:
            inventory.left[site.key] = why
        elif asked is not None:
            chosen.setdefault(site.key, asked)
    if unknown := [name for name in plan if name not in known]:
        raise ValueError(f"the plan names {', '.join(unknown[:8])}: the module has no such layer or weight of a layer")
    return chosen


def _finite(values: NDArray) -> bool:
    return bool(np.isfinite(values.astype(np.float32) if is_half(values.dtype) else values).all())


def _by_rows(values: NDArray, groups: int) -> NDArray:
    """(groups, rows, features) of a weight."""
    return values.reshape(groups, len(values) // groups, -1)


def _short_group(scheme: Scheme, columns: int) -> str:
    """That the values of a row do not fill their last group, where they do not."""
    of_format = scheme.format is not None and scheme.format != "FP16"
    group = formats.named(scheme.format or "").block_size if of_format else scheme.granularity
    if not isinstance(group, int) or group == 0 or columns % group == 0:
        return ""
    return f"the last group of each row has {columns % group} values, not {group}"


def _compress_site(
    site: Site,
    scheme: Scheme,
    settings: Settings,
    gram: NDArray | None,
    inventory: Inventory,
    calibrated: Grams,
    heldout: Grams,
) -> tuple[CompressedLayer, Tensor]:
    """What became of one weight by the Gram matrices that the method is given, and the weight."""
    weight, key = site.weight, site.key
    before = _by_rows(as_array(weight).astype(np.float64), site.groups)
    # a method that looks at inputs takes every group for itself; the others need not, and share a scale as told
    parts = before if settings.method in CALIBRATED else before.reshape(1, -1, before.shape[2])
    name = f"layer {site.name}"
    coded = [
        code_matrix(part, scheme, settings, None if gram is None or len(parts) < site.groups else gram[number], name)
        for number, part in enumerate(parts)
    ]
    with np.errstate(over="ignore"):
        values = like(np.stack([part.decode() for part in coded]), weight).to(weight.dtype).reshape(weight.shape)
    after = _by_rows(as_array(values).astype(np.float64), site.groups)
    _check_written(before, after, scheme, name, weight.dtype)
    notes = (
        [f"compressed once, for what its {calibrated.uses[key]} uses see"] if calibrated.uses.get(key, 0) > 1 else []
    )
    if clamped := sum(part.clamped for part in coded if isinstance(part, Codes)):
        notes.append(f"{clamped} scales were raised to the least that 16 bits hold")
    if not before.any():
        notes.append("every weight is zero, as it was")
    if short := _short_group(scheme, before.shape[2]):
        notes.append(short)
    report = CompressedLayer(
        name=site.name,
        kind=type(site.module).__name__,
        scheme=scheme.name,
        method=settings.method,
        rows=len(weight),
        columns=before.shape[2],
        groups=site.groups,
        bits=sum(scheme.stored_bits(*part.shape) for part in parts) + sum(map(_shift_bits, coded)),
        nbytes=weight.nbytes,
        snr=_decibel(float(np.sum(before**2)), float(np.sum((before - after) ** 2))),
        output_snr=_output_snr(before, after, calibrated.matrices.get(key)),
        held_out_snr=_output_snr(before, after, heldout.matrices.get(key)),
        samples=calibrated.rows.get(key, 0),
        zeros_before=float(np.mean(before == 0)),
        zeros=float(np.mean(after == 0)),
        saturation=_saturation(coded),
        parameters=inventory.parameters[key],
        uses=calibrated.uses.get(key, 0),
        note="; ".join(notes),
        **_certificate(before, parts, coded, scheme, settings, gram, key in calibrated.matrices),
    )
    return report, values


def _certificate(
    before: NDArray, parts: NDArray, coded: list[Coded], scheme: Scheme, settings: Settings, gram: NDArray | None,
    measured: bool,
) -> dict:  # fmt: skip
    """What vouches for a layer, and by how much; `parts` are what was coded."""
    if gram is None or len(parts) < len(before):
        return {"certificate": "measured" if measured else "weights", "certified_snr": math.nan}
    bound = sum(certified_error(w, c, scheme, settings, g) for w, c, g in zip(parts, coded, gram))
    if math.isnan(bound):
        return {"certificate": "measured", "certified_snr": math.nan}
    signal = float(np.sum(before @ gram * before))
    return {"certificate": "path following", "certified_snr": _decibel(signal, bound)}


def _check_written(before: NDArray, after: NDArray, scheme: Scheme, name: str, dtype: torch.dtype) -> None:
    """What the module will compute with is what the scheme says, also after it was rounded to the module's dtype."""
    if not np.isfinite(after).all():
        raise ValueError(f"{name}: a compressed weight leaves the range of {dtype}: give a float32 module")
    if before.any() and not after.any():
        raise ValueError(f"{name} would be all zero by {scheme.name} in {dtype}")
    if isinstance(scheme.pattern, tuple):
        n, m = scheme.pattern
        most = int(np.count_nonzero(after.reshape(-1, m), axis=1).max())
        if most > n:
            raise ValueError(f"{name} has {most} weights in a group of {m}: {scheme.name} keeps {n}")


def _shift_bits(coded: Coded) -> int:
    """Bits of what moves a grid that is not symmetric: codes of zero, or minima."""
    if isinstance(coded, Shifted):
        return coded.minima.size * SCALE_BITS
    return coded.zeros.size * coded.bits if isinstance(coded, Codes) and coded.zeros is not None else 0


def _decibel(signal: float, error: float) -> float:
    """Infinite where nothing is lost."""
    if error == 0:
        return math.inf
    return 10 * math.log10(signal / error) if signal > 0 else -math.inf


def _output_snr(before: NDArray, after: NDArray, gram: NDArray | None) -> float:
    if gram is None:
        return math.nan
    lost = before - after
    return _decibel(float(np.sum(before @ gram * before)), max(float(np.sum(lost @ gram * lost)), 0.0))


def _saturation(coded: list[Coded]) -> float:
    """Share of integer codes that are stored and lie on the first or last level."""
    ends = stored = 0
    for part in coded:
        if not isinstance(part, Codes | Shifted):
            return math.nan
        low = 0 if isinstance(part, Shifted) or part.zeros is not None else -(1 << (part.bits - 1))
        at_end = (part.codes == low) | (part.codes == low + (1 << part.bits) - 1)
        mask = np.ones(at_end.shape, bool) if part.mask is None else part.mask
        ends, stored = ends + int(np.count_nonzero(at_end & mask)), stored + int(np.count_nonzero(mask))
    return ends / stored
