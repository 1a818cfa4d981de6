"""What Kuzmin et al. 2023 published of their own: both compressions on 2,704 weight tensors of 45 networks.

The repository Qualcomm-AI-research/pruning-vs-quantization holds, in the folder plots_data, one JSON file for each
network and width, with the kurtosis of each tensor and the ratios of both compressions (commit 4deed982, licence
BSD-3-Clause-Clear). The files are read where the reader has put them; only what is computed from them is kept. The page
book/versus/heavy-tails shows the record.

Their kurtosis is an excess over 3, and its fourth moment was taken in half precision: it is a whole multiple of 2^-24,
or infinite. Small weights lose it altogether, and the least kurtosis that exists is an excess of -2, not -3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import gaussian_kde, rankdata

from prunequant.studies.real_weights import rounded
from prunequant.studies.runner import At, Given, Study

BITS = tuple(range(2, 9))
FIELDS = {
    "kurtosis": "sample_kurtosis",
    "quantization": "quant_sqnr",
    "pruning": "pruning_sqnr",
    "pruning_as_sparse": "pruning_sqnr_corrected",
    "zeros": "quant_sparsity",
    "error": "quant_mse",
}
STEP = 2.0**-24  # the smallest positive number of half precision
EDGES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 96.0)  # of kurtosis, for the map
NAME = re.compile(r"(?P<model>.+)_(?P<bits>[2-8])_bits_mse\.json")


def read(folder: Path) -> dict[str, np.ndarray]:
    """Every entry of a folder of their files: `model`, `tensor`, `bits` and the columns of `FIELDS`, one row an entry.

    Raises
    ------
    ValueError : no such file below the folder, a file that is no JSON of this kind, or networks without a width.
    """
    files = sorted(path for path in Path(folder).rglob("*.json") if NAME.fullmatch(path.name))
    if not files:
        raise ValueError(f"data_dir is {folder}: no file MODEL_BITS_bits_mse.json lies there")
    rows: list[tuple] = []
    for path in files:
        name = NAME.match(path.name)
        assert name is not None  # such are the files that were listed
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            rows += [
                (name["model"], t, int(name["bits"]), *(float(r[f]) for f in FIELDS.values()))
                for t, r in entries.items()
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name} is damaged or of another kind ({error!r})") from None
    columns = dict(zip(("model", "tensor", "bits", *FIELDS), map(np.array, zip(*rows))))
    widths = {m: set(columns["bits"][columns["model"] == m].tolist()) for m in set(columns["model"].tolist())}
    short = sorted(m for m, bits in widths.items() if bits != set(BITS))
    if short:
        raise ValueError(f"data_dir is {folder}: {short[0]} does not have every width of 2 to 8 bits")
    return columns


def ranking_area(score: ArrayLike, positive: ArrayLike) -> float:
    """Chance that a positive has the larger score, ties half: the area under the ranking curve; nan without both kinds.

    >>> ranking_area([1.0, 2.0, 3.0, 3.0], [False, True, True, False])
    0.625
    """
    values, chosen = np.asarray(score, float), np.asarray(positive, bool)
    many = int(chosen.sum())
    if many in (0, chosen.size):
        return float("nan")
    return float((rankdata(values)[chosen].sum() - many * (many + 1) / 2) / (many * (chosen.size - many)))


def area_interval(
    score: ArrayLike, positive: ArrayLike, groups: ArrayLike, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of `ranking_area` when whole groups are drawn again (tensors of one network are alike).

    Draws without one of the two kinds have no area and are left out. Groups of one member: the plain bootstrap.
    """
    values, won = np.asarray(score, float), np.asarray(positive, bool)
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    scores, rank = np.unique(values, return_inverse=True)
    rng, areas = np.random.default_rng(seed), []
    for _ in range(draws):
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[index]
        ahead = np.bincount(rank[won], times[won], len(scores))
        behind = np.bincount(rank[~won], times[~won], len(scores))
        pairs = ahead.sum() * behind.sum()
        below = np.cumsum(behind) - behind / 2  # a positive beats these, ties half
        areas.append(float(ahead @ below / pairs) if pairs else np.nan)
    low, high = np.nanpercentile(areas, (2.5, 97.5))
    return float(low), float(high)


def half_kurtosis(x: np.ndarray) -> float:
    """Excess kurtosis as they took it: weights, deviations and moments in half precision, their ratio in double.

    >>> rng = np.random.default_rng(0)
    >>> half_kurtosis(0.001 * rng.standard_normal(1000))
    -3.0
    """
    x = np.asarray(x).astype(np.float16)
    with np.errstate(over="ignore"):
        square = (x - x.mean()) ** 2
        second, fourth = float(square.mean()), float((square * square).mean())
    return fourth / second**2 - 3.0


def even_odds(kurtosis: np.ndarray, won: np.ndarray) -> float | None:
    """The kurtosis from which pruning is the likelier winner: two kernel densities of its logarithm, first crossing."""
    x = np.log(kurtosis)
    if min(won.sum(), (~won).sum()) < 5:
        return None
    at = np.linspace(x.min(), x.max(), 2000)
    margin = gaussian_kde(x[won])(at) * won.sum() - gaussian_kde(x[~won])(at) * (~won).sum()
    up = np.flatnonzero((margin[1:] > 0) & (margin[:-1] <= 0))
    return float(np.exp(at[up[0] + 1])) if up.size else None


def _steps(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """The fourth moment of each tensor in units of 2^-24, from its kurtosis, error and ratio of quantization."""
    variance = rows["error"] * 10 ** (rows["quantization"] / 10)
    return (rows["kurtosis"] + 3) * variance**2 / STEP


def _width(rows: Mapping[str, np.ndarray]) -> dict:
    """Counts, mean zeros and areas at one width. An entry counts where what is compared in it is finite."""
    pruned, quantized, tail = rows["pruning"], rows["quantization"], rows["kurtosis"]
    compared = np.isfinite(pruned) & np.isfinite(quantized)
    sparse = np.isfinite(rows["pruning_as_sparse"]) & np.isfinite(quantized)
    won = pruned > quantized
    row: dict = {
        "compared": int(compared.sum()),
        "pruning_ahead": int((won & compared).sum()),
        "pruning_ahead_as_sparse": int((rows["pruning_as_sparse"] > quantized)[sparse].sum()),
        "zeros": float(rows["zeros"].mean()),
    }
    ranked = compared & np.isfinite(tail)
    steps = _steps(rows)
    for name, some in (
        ("all", ranked),
        ("possible", ranked & (tail >= -2)),
        ("resolved", ranked & (tail >= -2) & (steps > 7.5)),
    ):
        row[f"tensors_{name}"] = int(some.sum())
        row[f"area_{name}"] = ranking_area(tail[some], won[some])
        row[f"interval_{name}"] = list(area_interval(tail[some], won[some], rows["model"][some]))
    some = ranked & (tail >= -2)
    row["even_odds"] = even_odds(tail[some] + 3, won[some])
    place = np.digitize(tail[some] + 3, EDGES) - 1
    row["map"] = [[int((place == i).sum()), int((won[some] & (place == i)).sum())] for i in range(len(EDGES))]
    return row


def make(at: At, data_dir: Path) -> dict:
    """Counts of both winners by width, areas under the ranking curve, and what half precision did to kurtosis."""
    every = read(data_dir)
    one = {name: column[every["bits"] == 2] for name, column in every.items()}
    tail, steps = one["kurtosis"], _steps(one)
    small = np.isfinite(tail) & (steps > 0.5) & (steps < 8.5)
    rng, halves = np.random.default_rng(24), []
    for power in range(-10, 33):
        sigma = 2.0 ** (-power / 4)
        halves.append({"sigma": sigma, "kurtosis": half_kurtosis(sigma * rng.standard_normal(100_000))})
    none = tail == -3
    spread = np.sqrt(one["error"] * 10 ** (one["quantization"] / 10))
    record = {
        "provenance": {"data": "Qualcomm-AI-research/pruning-vs-quantization, plots_data, commit 4deed982"},
        "models": len(set(every["model"].tolist())),
        "tensors": int(tail.size),
        "edges": list(EDGES),
        "widths": [
            {"bits": b, **_width({name: column[every["bits"] == b] for name, column in every.items()})} for b in BITS
        ],
        "kurtosis": {
            "impossible": int(none.sum()),
            "impossible_other": int((tail[np.isfinite(tail) & ~none] < -2).sum()),
            "not_finite": int((~np.isfinite(tail)).sum()),
            "largest_sigma_impossible": float(spread[none].max()),
            "least_sigma_not_finite": float(spread[~np.isfinite(tail)].min()),
            "one_to_eight_steps": int(small.sum()),
            "of_these_whole": int((np.abs(steps[small] - np.rint(steps[small])) < 0.15).sum()),
        },
        "half_precision": halves,
    }
    return rounded(record)


STUDIES = {
    "published-tensors": Study(
        "published-tensors",
        "the paper's own measurements on 2,704 weight tensors",
        ("published_tensors.json",),
        make,
        0.5,
        {"data_dir": Given("the folder plots_data of the repository Qualcomm-AI-research/pruning-vs-quantization")},
    )
}
