"""What an accepted call should return, by the slow twins in tests/naive, wherever the arguments are small enough."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from naive import formats as naive_formats
from naive import optimum as naive_optimum
from naive import sparsity as naive_sparsity
from naive import subset_sum as naive_sums
from naive import tickets as naive_tickets
from prunequant.sparsity import parse_pattern, pruned_count


class NotApplicable(Exception):
    """The twin says nothing about these arguments."""


def _need(condition: bool) -> None:
    if not condition:
        raise NotApplicable


def _ints(x: object, ndim: int = 1) -> list:
    a = np.asarray(x)
    _need(a.ndim == ndim and 0 < a.size <= 24 and a.dtype.kind in "iuO")
    return a.astype(object).tolist()


def _close(result: list, expected: object, tolerance: float = 0.0) -> str:
    got, wanted = np.asarray(result[0]), np.asarray(expected)
    if got.shape != wanted.shape:
        return f"shape {got.shape}, the twin's is {wanted.shape}"
    if np.allclose(got.astype(np.float64), wanted.astype(np.float64), rtol=tolerance, atol=0, equal_nan=True):
        return ""
    return f"{got.reshape(-1)[:4]}, the twin says {wanted.reshape(-1)[:4]}"


def _window(g: dict) -> tuple[list, int, int]:
    x, low, high = _ints(g["x"]), int(g["low"]), int(g["high"])
    _need(len(x) <= 12 and 0 <= high - low <= 10_000 and sum(map(abs, x)) < 1 << 22)
    return x, low, high


def _reachable(g: dict, result: list) -> str:
    return _close(result, naive_sums.reachable(*_window(g)))


def _count(g: dict, result: list) -> str:
    x, low, high = _window(g)
    table = naive_sums.counts(x)
    return _close(result, [table.get(t, 0) for t in range(low, high + 1)])


def _covered(g: dict, result: list) -> str:
    return _close(result, sum(naive_sums.reachable(*_window(g))))


def _solve(g: dict, result: list) -> str:
    x, target = _ints(g["x"]), int(g["target"])
    _need(len(x) <= 12)
    found = result[0] is not None
    if found != (target in naive_sums.all_sums(x)):
        return f"found is {found}, the twin says {not found}"
    return "" if not found or sum(v for v, kept in zip(x, result[0]) if kept) == target else "a wrong mask"


def _solve_many(g: dict, result: list) -> str:
    _need("lengths" not in g)
    rows = _ints(g["x"], 2)
    targets = np.broadcast_to(np.asarray(g["targets"]), len(rows)).tolist()
    return _close(result[2:], [t in naive_sums.all_sums(x) for x, t in zip(rows, targets)])


def _magnitude(g: dict, result: list) -> str:
    x = np.asarray(g["x"], dtype=np.float64)
    _need(g.get("axis") is None and g.get("ties", "first") in ("first", "last") and 0 < x.size < 2000)
    keep = x.size - pruned_count(g["sparsity"], x.size)
    kept = naive_sparsity.keep_largest(np.abs(x).ravel().tolist(), keep, str(g.get("ties", "first")))
    return _close(result, np.reshape(kept, x.shape))


def _n_m(g: dict, result: list) -> str:
    x = np.asarray(g["x"], dtype=np.float64)
    n, m = int(g["n"]), int(g["m"])
    _need(g.get("axis", -1) == -1 and g.get("ties", "first") in ("first", "last") and x.ndim == 2)
    return _close(result, naive_sparsity.n_m(x, n, m, str(g.get("ties", "first"))))


def _pattern(g: dict, result: list) -> str:
    _need(not isinstance(g["pattern"], str))
    return _close(result, float(parse_pattern(g["pattern"])))


def _quantized(twin: Callable[[list], list], block: int) -> Callable[[dict, list], str]:
    def check(g: dict, result: list) -> str:
        x = np.asarray(g["x"])
        _need(x.dtype in (np.dtype(np.float32), np.dtype(np.float64)) and x.ndim == 2 and x.size < 2000)
        _need(g.get("rounding", "even") == "even" and g.get("scale") is None and g.get("axis", -1) == -1)
        size = float(np.abs(x).max(initial=0.0))
        _need(bool(np.isfinite(x).all()) and 1e-30 < size < 1e30)
        expected = np.zeros(x.shape)
        for row in range(x.shape[0]):
            for start in range(0, x.shape[1], block):
                expected[row, start : start + block] = twin(x[row, start : start + block].tolist())
        return _close(result, expected, 1e-6)

    return check


def _integer(g: dict, result: list) -> str:
    x = np.asarray(g["x"])
    _need(x.dtype in (np.dtype(np.float32), np.dtype(np.float64)) and 0 < x.size < 2000)
    _need(g.get("rounding", "even") == "even" and g.get("scale") is None)
    _need(bool(np.isfinite(x).all()) and 1e-30 < float(np.abs(x).max(initial=0.0)) < 1e30)
    return _close(result, np.reshape(naive_formats.integer(x.ravel().tolist(), 4, "narrow", x.dtype.type), x.shape))


def _problem(g: dict) -> tuple[np.ndarray, np.ndarray]:
    w, gram = np.asarray(g["weights"], dtype=np.float64), np.asarray(g["gram"], dtype=np.float64)
    _need(w.ndim == 1 and 0 < w.size <= 5 and gram.shape == (w.size, w.size))
    _need(float(np.abs(w).max()) < 1e6 and 1e-12 < float(np.abs(gram).max()) < 1e6)
    return w, gram


def _pruning(g: dict, result: list) -> str:
    w, gram = _problem(g)
    error, proved = float(result[1]), bool(result[3])
    best = naive_optimum.best_pruning_error(w, gram, int(g["keep"]), bool(g.get("refit", True)))
    tolerance = 1e-8 * float(w @ gram @ w) + 1e-12
    return f"error {error} proved, the twin says {best}" if proved and error > best + tolerance else ""


def _quantization(g: dict, result: list) -> str:
    w, gram = _problem(g)
    bits, scale = int(g.get("bits", 4)), g.get("scale")
    _need(scale is not None and np.ndim(scale) == 0 and bits <= 3 and g.get("rounding", "any") == "any")
    low, high = optimum_range(bits, str(g.get("grid", "twos_complement")))
    best = naive_optimum.best_quantization_error(w, gram, float(scale), low, high)
    tolerance = 1e-8 * float(w @ gram @ w) + 1e-12
    error, proved = float(result[1]), bool(result[3])
    return f"error {error} proved, the twin says {best}" if proved and error > best + tolerance else ""


def optimum_range(bits: int, grid: str) -> tuple[int, int]:
    _need(grid in ("twos_complement", "narrow"))
    return (-(2 ** (bits - 1)) + (grid == "narrow"), 2 ** (bits - 1) - 1)


def _convolve(g: dict, result: list) -> str:
    _need(not g.get("depthwise", False))
    x, kernel = np.asarray(g["x"]), np.asarray(g["kernel"])
    _need(x.ndim == 4 and len(x) > 0 and np.ndim(g.get("padding", 0)) == 0 and np.ndim(g.get("stride", 1)) == 0)
    _need(int(np.abs(x.astype(object)).max(initial=0)) < 1 << 40 and x.size < 1000 and int(g.get("padding", 0)) < 9)
    one = naive_tickets.convolve(
        x[0].astype(object), kernel.astype(object), int(g.get("stride", 1)), int(g.get("padding", 0))
    )
    return _close([np.asarray(result[0])[0]], np.array(one, dtype=np.float64))


TWINS: dict[str, Callable[[dict, list], str]] = {
    "subset_sum.reachable": _reachable,
    "subset_sum.count": _count,
    "subset_sum.covered": _covered,
    "subset_sum.solve": _solve,
    "subset_sum.solve_many": _solve_many,
    "sparsity.magnitude": _magnitude,
    "sparsity.n_m": _n_m,
    "sparsity.parse_pattern": _pattern,
    "formats.Integer.quantize": _integer,
    "formats.HBFP.quantize": _quantized(lambda block: naive_formats.hbfp(block, 4), 8),
    "optimum.best_pruning": _pruning,
    "optimum.best_quantization": _quantization,
    "tickets.structured.convolve": _convolve,
}


def difference(name: str, given: dict, result: list) -> str:
    """How a result differs from its twin's; empty where it does not, or where no twin applies."""
    if name not in TWINS:
        return ""
    try:
        return TWINS[name](given, result)
    except (NotApplicable, TypeError, ValueError, OverflowError, IndexError, KeyError, AttributeError):
        return ""  # the twin does not take such a value
