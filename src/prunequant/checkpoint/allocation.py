"""A scheme for every matrix of a model under one budget of bits: the least error, proved, beside the best uniform plan.

The error of a plan is a mean over the matrices of (squared error / squared weights) under the chosen scheme, the
inverse of an SNR. It is relative to each matrix because scale is arbitrary there: a norm or the next layer undoes
a factor on a matrix, so that a plan should not depend on it, and the loss of a language model has been measured to
rise in proportion to these relative errors (Malinovskii et al. 2025, the linearity theorem), with a factor for
each matrix. Those factors are `sensitivities`, where they are known. Without any, `weighting` decides:

    "weights"   a matrix counts by how many weights it holds: every weight bears the same relative noise (the default)
    "tensors"   every matrix counts the same, so that small ones are spared first
    "power"     by its squared weights: the plain sum of squared errors, in which large scales dominate

Where Gram matrices of calibration inputs are known, `errors` gives measured relative output errors in their place,
tr(E G Eᵀ) / tr(W G Wᵀ), see `prunequant.checkpoint.outputs`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments

from . import knapsack
from .schemes import Scheme

SCHEMA = 1
WEIGHTINGS = ("weights", "tensors", "power")
MEGABYTE = 10**6
_SHAPE = ("name", "rows", "columns")
_MOST_BITS = 2.0**60  # more than any file has: what a budget beyond it is cut to
_ROUNDING = 1e-3  # of a bit: a size that was printed, or divided by the weights, is still a budget that it meets


@dataclass(frozen=True)
class Uniform:
    """Every matrix stored by the same scheme."""

    scheme: str
    bits: int
    bits_per_weight: float
    error: float

    @property
    def snr(self) -> float:
        return decibel(self.error)


@dataclass(frozen=True)
class Allocation:
    """A plan: which scheme stores which matrix.

    model : its name
    budget : what was asked for, {"bits_per_weight": 4.25} or {"megabytes": 70}
    tensors : the scheme of each matrix, by its name
    weights, bits : of the matrices together
    untreated_bytes : of what the plan leaves as it is stored
    overhead_bytes : of a file's headers; None where no file was asked for, see `sizing`
    error : the mean relative error of the matrices, see the module
    bound : no plan of these schemes within the budget has a smaller error
    weighting : how matrices are weighted against each other
    uniform : the best plan of one scheme within the budget; None when none fits
    by_weights : where errors of outputs were given, the matrices that had none and count by those of their weights
    """

    model: str
    budget: Mapping[str, float]
    tensors: Mapping[str, str]
    weights: int
    bits: int
    untreated_bytes: int
    error: float
    bound: float
    weighting: str
    uniform: Uniform | None = None
    by_weights: tuple[str, ...] = ()
    overhead_bytes: int | None = None

    @property
    def gap(self) -> float:
        """By how much a better plan could have less error; 0 when this one is proved best."""
        return self.error - self.bound

    @property
    def snr(self) -> float:
        return decibel(self.error)

    @property
    def bits_per_weight(self) -> float:
        return self.bits / self.weights

    @property
    def megabytes(self) -> float:
        """Everything: the matrices by this plan, what stays as it is, and the headers where a file was asked for."""
        return (-(-self.bits // 8) + self.untreated_bytes + (self.overhead_bytes or 0)) / MEGABYTE

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values, for `plan.json`."""
        uniform = None
        if self.uniform is not None:
            u = self.uniform
            uniform = {"scheme": u.scheme, "bits": u.bits, "bits_per_weight": u.bits_per_weight, "error": u.error}
        return {
            "schema": SCHEMA,
            "model": self.model,
            "budget": dict(self.budget),
            "weighting": self.weighting,
            "weights": self.weights,
            "bits": self.bits,
            "bits_per_weight": self.bits_per_weight,
            "untreated_bytes": self.untreated_bytes,
            "overhead_bytes": self.overhead_bytes,
            "megabytes": self.megabytes,
            "error": self.error,
            "bound": self.bound,
            "gap": self.gap,
            "uniform": uniform,
            "by_weights": list(self.by_weights),
            "tensors": dict(self.tensors),
        }

    @staticmethod
    def from_json(plan: Mapping[str, Any] | str | os.PathLike) -> Allocation:
        """A plan read back, from its plain values or its file.

        Raises
        ------
        OSError : the file cannot be read.
        ValueError : it is no plan; the message says which field is wrong, and how.
        """
        document, where = _load(plan, "plan")

        def wrong(what: str) -> ValueError:
            return ValueError(f"{where}: {what}")

        if document.get("schema") != SCHEMA or "tensors" not in document:
            raise wrong(f'it is no plan: "schema" must be {SCHEMA}, and "tensors" name a scheme for each matrix')
        tensors = document["tensors"]
        if not isinstance(tensors, Mapping) or not tensors:
            raise wrong('"tensors" must name a scheme for each matrix')
        for name, scheme in tensors.items():
            try:
                Scheme.named(scheme)
            except (TypeError, ValueError) as error:
                raise wrong(f"tensor {arguments.shown(name)}: {error}") from None
        try:
            return Allocation(
                arguments.instance(document["model"], "model", str, "a name"),
                {key: arguments.real(value, key, 0) for key, value in document["budget"].items()},
                dict(tensors),
                arguments.integer(document["weights"], "weights", 1),
                arguments.integer(document["bits"], "bits", 0),
                arguments.integer(document["untreated_bytes"], "untreated_bytes", 0),
                arguments.real(document["error"], "error", 0),
                arguments.real(document["bound"], "bound", 0),
                arguments.choice(document["weighting"], "weighting", (*WEIGHTINGS, "outputs")),
                _uniform_from(document["uniform"]),
                tuple(arguments.several(document.get("by_weights", ()), "by_weights", "names of matrices")),
                _overhead(document.get("overhead_bytes")),
            )
        except KeyError as error:
            raise wrong(f"{error} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise wrong(str(error)) from None

    def check(self, matrices: Iterable[Any]) -> None:
        """Raise unless the plan has a scheme that fits for each of these matrices, and no others.

        Parameters
        ----------
        matrices : with name, rows and columns: those of a model, or rows of a report

        Raises
        ------
        ValueError : a matrix that the plan does not name, a name that is no matrix, a scheme that does not fit.
        """
        shapes = {}
        for matrix in arguments.several(matrices, "matrices", "those of a model, or rows of a report"):
            try:
                name, *shape = (matrix[k] if isinstance(matrix, Mapping) else getattr(matrix, k) for k in _SHAPE)
            except (AttributeError, KeyError):
                raise TypeError(
                    f"matrices has {arguments.shown(matrix)}: each must have a {', '.join(_SHAPE)}"
                ) from None
            shapes[name] = shape
        if unknown := [name for name in self.tensors if name not in shapes]:
            raise ValueError(f"the plan names {_few(unknown)}, which the model does not have among its matrices")
        if missing := [name for name in shapes if name not in self.tensors]:
            raise ValueError(f"the plan has no scheme for {_few(missing)}: it must name one for all matrices")
        for name, scheme in self.tensors.items():
            if why := Scheme.named(scheme).problem(*shapes[name]):
                raise ValueError(f"the plan stores {name} as {scheme}, which does not fit: {why}")


@dataclass(frozen=True, eq=False)
class Pareto:
    """The plans that no mixture of others beats: every corner of the lower convex hull of (size, error).

    bits : (corners,) int64, rising: bits of the matrices together
    errors : (corners,) float64, falling: as `Allocation.error`
    weights : of the matrices together
    untreated_bytes : of what no plan touches
    uniform : every matrix by one scheme, for the schemes that fit all of them
    """

    bits: NDArray[np.int64]
    errors: NDArray[np.float64]
    weights: int
    untreated_bytes: int
    uniform: tuple[Uniform, ...]

    @property
    def bits_per_weight(self) -> NDArray[np.float64]:
        return self.bits / self.weights

    @property
    def snr(self) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):
            return -10 * np.log10(self.errors)


def decibel(error: float) -> float:
    """The SNR of a relative error, infinite for none."""
    return -10 * math.log10(error) if error > 0 else math.inf


def allocate(
    report: Any,
    budget: float | None = None,
    *,
    megabytes: float | None = None,
    schemes: Sequence[str] | None = None,
    weighting: str = "weights",
    sensitivities: Mapping[str, float] | None = None,
    errors: Mapping[str, Mapping[str, float]] | None = None,
    overhead_bytes: int = 0,
) -> Allocation:
    """The scheme of every matrix under which a model of this size loses least.

    Parameters
    ----------
    report : a `Report`, its JSON document, or the path of that
    budget : bits a weight, over the matrices alone, masks and scales included
    megabytes : instead of `budget`: 10^6 bytes of everything, what no plan touches at its stored size; a file has
        headers too, see `overhead_bytes`
    schemes : names, or patterns such as "INT4 *"; all that the report judged unless given
    weighting : "weights", "tensors" or "power", see the module
    sensitivities : factors on the error of matrices, by name, at least 0; 1 where none is given
    errors : relative errors to use in place of the report's, by matrix and scheme; a matrix named here has only the
        schemes that stand here
    overhead_bytes : what a file has beside its tensors, counted into `megabytes`; `sizing.plan_file` finds it

    Returns
    -------
    Allocation : never worse than the best uniform plan, which it carries along. `gap` is 0 where it is proved best.

    Raises
    ------
    TypeError : an argument of the wrong kind.
    ValueError : no report, an unknown matrix or scheme, a matrix that no scheme fits, or a budget that no plan can
        meet or that the model as it is stored meets; the message names both ends.

    Notes
    -----
    A multiple-choice knapsack over bits, see `prunequant.checkpoint.knapsack`: 211 matrices take 0.2 s. A scheme of
    pruning at a budget, such as "75.1234% FP16", is named after its share rounded down, and its error is at most the
    one that is counted. A tied matrix counts once.

    Examples
    --------
    >>> from prunequant.checkpoint.schemes import Scheme
    >>> def judged(**snr):
    ...     return [{"name": f"{s} channel", "stored_bits": Scheme.named(f"{s} channel").stored_bits(64, 64), "snr": v}
    ...             for s, v in snr.items()]
    >>> matrices = [{"name": "a", "rows": 64, "columns": 64, "weights": 4096, "stored_bytes": 8192, "power": 1.0,
    ...              "schemes": judged(INT2=7.0, INT4=19.0, INT8=43.0)},
    ...             {"name": "b", "rows": 64, "columns": 64, "weights": 4096, "stored_bytes": 8192, "power": 1.0,
    ...              "schemes": judged(INT2=2.0, INT4=8.0, INT8=33.0)}]
    >>> plan = allocate({"schema": 1, "model": {"path": "m"}, "matrices": matrices, "untreated": []}, 6.25)
    >>> dict(plan.tensors), plan.bits_per_weight, round(plan.snr, 1), plan.uniform.scheme, round(plan.uniform.snr, 1)
    ({'a': 'INT4 channel', 'b': 'INT8 channel'}, 6.25, 21.8, 'INT4 channel', 10.7)
    """
    headers = arguments.integer(overhead_bytes, "overhead_bytes", 0)
    problem = Problem.of(report, schemes, weighting, sensitivities, errors)
    if (budget is None) == (megabytes is None):
        raise ValueError("give a budget: either bits a weight, or megabytes")
    if megabytes is None:
        asked, name = arguments.real(budget, "budget", 0, open_low=True), "budget"
        room = math.floor(min(asked * problem.weights, _MOST_BITS) + _ROUNDING)
        ends = [bits / problem.weights for bits in problem.ends()]
        unit = "bits a weight"
    else:
        asked, name = arguments.real(megabytes, "megabytes", 0, open_low=True), "megabytes"
        beside = problem.untreated_bytes + headers
        room = math.floor(min(asked * MEGABYTE, _MOST_BITS / 8) + _ROUNDING) * 8 - 8 * beside
        ends = [(-(-bits // 8) + beside) / MEGABYTE for bits in problem.ends()]
        unit = f"MB, of which {problem.untreated_bytes / MEGABYTE:.3f} are not treated"
        unit += f" and {headers / MEGABYTE:.3f} headers" if headers else ""
    least, dense = problem.ends()
    if room < least or room > dense:
        raise ValueError(
            f"{name} is {asked:g}: the smallest plan of these schemes takes {_up(ends[0])} and the model as it is "
            f"stored {_down(ends[1])} {unit}; a budget lies between them"
        )
    uniform = problem.uniform()
    fitting = [u for u in uniform if u.bits <= room]
    best = min(fitting, key=lambda u: (u.error, u.bits), default=None)
    start = problem.chosen(best.scheme) if best is not None else None
    choice = knapsack.best_choice(problem.sizes, problem.errors, room, start)
    plan = {name: names[i] for name, names, i in zip(problem.names, problem.schemes, choice.chosen)}
    return Allocation(
        problem.model,
        {"bits_per_weight": asked} if megabytes is None else {"megabytes": asked},
        plan,
        problem.weights,
        choice.size,
        problem.untreated_bytes,
        choice.error,
        choice.bound,
        "outputs" if errors else weighting,
        best,
        tuple(name for name in problem.names if name not in errors) if errors else (),
    )


def pareto(
    report: Any,
    *,
    schemes: Sequence[str] | None = None,
    weighting: str = "weights",
    sensitivities: Mapping[str, float] | None = None,
    errors: Mapping[str, Mapping[str, float]] | None = None,
) -> Pareto:
    """The least error of plans at every size: the corners of the lower convex hull, and the uniform plans beside it.

    Parameters and errors as for `allocate`. A plan at a size between two corners lies on or above the line that joins
    them; in a model of many matrices the corners are dense.
    """
    problem = Problem.of(report, schemes, weighting, sensitivities, errors)
    chosen, steps = knapsack.steps(problem.sizes, problem.errors)
    bits = [sum(int(s[i]) for s, i in zip(problem.sizes, chosen))]
    for step in steps:
        bits.append(bits[-1] + step.size)
        chosen[step.item] = step.option
    last = math.fsum(float(e[i]) for e, i in zip(problem.errors, chosen))
    saved = np.cumsum([0.0, *(-step.error for step in reversed(steps))])[::-1]  # summed from the small ones on
    return Pareto(np.array(bits), last + saved, problem.weights, problem.untreated_bytes, problem.uniform())


@dataclass(frozen=True, eq=False)
class Problem:
    """What a plan chooses from: for every matrix the schemes, their sizes in bits and their errors, weighted."""

    model: str
    names: list[str]
    schemes: list[list[str]]
    sizes: list[NDArray[np.int64]]
    errors: list[NDArray[np.float64]]
    weights: int
    stored_bytes: int
    untreated_bytes: int

    @staticmethod
    def of(
        report: Any,
        schemes: Sequence[str] | None,
        weighting: str,
        sensitivities: Mapping[str, float] | None,
        errors: Mapping[str, Mapping[str, float]] | None,
    ) -> Problem:
        """The problem that a report poses; errors as for `allocate`."""
        weighting = arguments.choice(weighting, "weighting", WEIGHTINGS)
        document = document_of(report)
        rows = document["matrices"]
        if not rows:
            raise ValueError("the report has no matrix: there is nothing to allocate")
        names = [row["name"] for row in rows]
        factors = _factors(sensitivities, names)
        judged = [_judged(row) for row in rows]
        for name, one in _errors(errors, names).items():
            place = names.index(name)
            if unknown := [scheme for scheme in one if scheme not in judged[place]]:
                raise ValueError(f"errors[{name!r}] has {_few(unknown)}, which the report did not judge")
            judged[place] = {scheme: (judged[place][scheme][0], error) for scheme, error in one.items()}
        options = _asked(judged, names, schemes)
        share = np.array([{"weights": r["weights"], "tensors": 1, "power": r["power"]}[weighting] for r in rows], float)
        share *= [factors.get(name, 1.0) for name in names]
        if not share.sum() > 0:
            raise ValueError("every matrix counts nothing: some power and some sensitivity must be above 0")
        share /= share.sum()
        return Problem(
            document["model"]["path"],
            names,
            [list(option) for option in options],
            [np.array([size for size, _ in option.values()], np.int64) for option in options],
            [np.array([error for _, error in option.values()]) * a for option, a in zip(options, share)],
            sum(row["weights"] for row in rows),
            sum(row["stored_bytes"] for row in rows),
            sum(map(untreated_bytes, document["untreated"])),
        )

    def ends(self) -> tuple[int, int]:
        """Bits of the smallest plan, and of the matrices as they are stored."""
        return sum(int(s.min()) for s in self.sizes), 8 * self.stored_bytes

    def chosen(self, scheme: str) -> list[int]:
        return [names.index(scheme) for names in self.schemes]

    def uniform(self) -> tuple[Uniform, ...]:
        """Plans of one scheme, for the schemes that every matrix has, smallest first."""
        uniforms = []
        for scheme in self.schemes[0]:
            if all(scheme in names for names in self.schemes):
                chosen = self.chosen(scheme)
                bits = sum(int(s[i]) for s, i in zip(self.sizes, chosen))
                error = math.fsum(float(e[i]) for e, i in zip(self.errors, chosen))
                uniforms.append(Uniform(scheme, bits, bits / self.weights, error))
        return tuple(sorted(uniforms, key=lambda u: (u.bits, u.error)))


def document_of(report: Any) -> Mapping[str, Any]:
    """The JSON document of a report, of its file, or as it is given; a ValueError names what it lacks."""
    if callable(getattr(report, "to_json", None)):
        report = report.to_json()
    document, where = _load(report, "report")
    for key, kind in (("model", Mapping), ("matrices", Sequence), ("untreated", Sequence)):
        if not isinstance(document.get(key), kind):
            raise ValueError(f'{where} is no report: it has no "{key}"')
    if document.get("schema") != SCHEMA:
        raise ValueError(f'{where} has "schema" {arguments.shown(document.get("schema"))}: it must be {SCHEMA}')
    for row in document["matrices"]:
        for key in ("name", "rows", "columns", "weights", "stored_bytes", "power", "schemes"):
            if key not in row:
                raise ValueError(f'{where}: matrix {arguments.shown(row.get("name", "?"))} has no "{key}"')
    return document


def _load(source: Any, what: str) -> tuple[Mapping[str, Any], str]:
    """A document from its values, or from its file, and what to call it in an error."""
    if isinstance(source, Mapping):
        return source, f"the {what}"
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"{what} is {arguments.shown(source)}: it must be a {what}, its JSON document, or its path")
    path = Path(source)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"the {what} {path} is no JSON ({error})") from None
    if not isinstance(document, Mapping):
        raise ValueError(f"{path} is no {what}: it must be a JSON object")
    return document, str(path)


def sizes_of(report: Any, schemes: Sequence[str] | None = None) -> dict[str, dict[str, int]]:
    """Bits of the schemes that a plan may choose from, by the names of matrices; arguments as for `allocate`."""
    rows = document_of(report)["matrices"]
    names = [row["name"] for row in rows]
    options = _asked([_judged(row) for row in rows], names, schemes)
    return {name: {scheme: bits for scheme, (bits, _) in one.items()} for name, one in zip(names, options)}


def untreated_bytes(row: Mapping) -> int:
    """Of one tensor that is not treated."""
    return int(row["nbytes"])


def _judged(row: Mapping) -> dict[str, tuple[int, float]]:
    """Size and relative error of every scheme that a report has for a matrix, pruning with a bitmap by its share."""
    judged = {entry["name"]: (_bits(entry, row), _relative(entry)) for entry in row["schemes"]}
    for entry in row.get("pruning", ()):
        percent = math.floor((1 - entry["share_kept"]) * 1e6 + 1e-6) / 1e4
        if entry["mask"] == "bitmap" and 0 < percent < 100:
            scheme = f"{percent:.4f}".rstrip("0").rstrip(".") + "% FP16"
            bits = Scheme.named(scheme).stored_bits(row["rows"], row["columns"])
            judged.setdefault(scheme, (bits, _relative(entry)))
    return judged


def _asked(judged: list[dict], names: list[str], schemes: Sequence[str] | None) -> list[dict]:
    """Of the schemes of each matrix those that were asked for, at least one."""
    if schemes is None:
        return judged
    patterns = [
        arguments.instance(s, "schemes", str, "names of schemes") for s in arguments.several(schemes, "schemes")
    ]
    if not patterns:
        raise ValueError("schemes is empty: name at least one, such as 'INT4 *'")
    known = sorted({scheme for one in judged for scheme in one})
    for pattern in patterns:
        if not any(fnmatchcase(scheme, pattern) for scheme in known):
            if not set("*?[") & set(pattern):
                try:
                    Scheme.named(pattern)
                except ValueError as error:
                    raise ValueError(f"schemes names none: {error}") from None
            raise ValueError(
                f"schemes has {arguments.shown(pattern)}, which the report did not judge: it has {_few(known, 40)}"
            )
    chosen = []
    for name, one in zip(names, judged):
        chosen.append({s: what for s, what in one.items() if any(fnmatchcase(s, p) for p in patterns)})
        if not chosen[-1]:
            raise ValueError(
                f"none of the schemes that were asked for fits {name}: it can be stored as {_few(list(one), 40)}"
            )
    return chosen


def _bits(entry: Mapping, row: Mapping) -> int:
    return int(entry["stored_bits"]) if "stored_bits" in entry else round(entry["bits_per_weight"] * row["weights"])


def _relative(entry: Mapping) -> float:
    return 0.0 if entry.get("lossless") or entry["snr"] is None else 10.0 ** (-entry["snr"] / 10)


def _factors(sensitivities: Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    if sensitivities is None:
        return {}
    arguments.instance(sensitivities, "sensitivities", Mapping, "a mapping from names of matrices to factors")
    if unknown := [name for name in sensitivities if name not in set(names)]:
        raise ValueError(f"sensitivities has {_few(unknown)}, which the report does not have as a matrix")
    return {name: arguments.real(value, f"sensitivities[{name!r}]", 0) for name, value in sensitivities.items()}


def _errors(errors: Mapping | None, names: list[str]) -> dict[str, dict[str, float]]:
    if errors is None:
        return {}
    arguments.instance(errors, "errors", Mapping, "a mapping from names of matrices to errors by scheme")
    if unknown := [name for name in errors if name not in set(names)]:
        raise ValueError(f"errors has {_few(unknown)}, which the report does not have as a matrix")
    checked = {}
    for name, of in errors.items():
        arguments.instance(of, f"errors[{name!r}]", Mapping, "a mapping from schemes to errors")
        checked[name] = {s: arguments.real(e, f"errors[{name!r}][{s!r}]", 0) for s, e in of.items()}
    return checked


def _overhead(value: Any) -> int | None:
    return None if value is None else arguments.integer(value, "overhead_bytes")


def _uniform_from(document: Mapping | None) -> Uniform | None:
    if document is None:
        return None
    return Uniform(
        Scheme.named(document["scheme"]).name,
        arguments.integer(document["bits"], "uniform bits", 0),
        arguments.real(document["bits_per_weight"], "uniform bits_per_weight", 0),
        arguments.real(document["error"], "uniform error", 0),
    )


def _few(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(map(arguments.shown, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _up(value: float) -> str:
    """Rounded up, so that what is printed is itself a budget that is met."""
    return f"{math.ceil(value * 1000 - 1e-9) / 1000:g}"


def _down(value: float) -> str:
    return f"{math.floor(value * 1000 + 1e-9) / 1000:g}"
