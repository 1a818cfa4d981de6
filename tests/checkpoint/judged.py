"""Reports as `prunequant report` would write them, of matrices that nobody measured: sizes are real, SNRs are drawn."""

from __future__ import annotations

import numpy as np

from prunequant.checkpoint import Scheme

SNR = {  # of a Gaussian matrix, about
    "INT2 channel": 6.0, "INT2 g128": 7.5, "INT3 channel": 12.5, "INT3 g128": 14.0, "INT4 tensor": 15.0,
    "INT4 channel": 18.5, "INT4 g128": 20.0, "INT8 channel": 40.0, "INT8 g128": 43.0, "MXFP4": 18.0, "NVFP4": 20.5,
    "NF4": 20.3, "2:4 FP16": 9.5, "2:4 INT4 g128": 9.2, "50% INT4 g128": 10.9, "FP16": 76.0,
}  # fmt: skip


def matrix(name: str, rows: int, columns: int, rng: np.random.Generator, schemes=tuple(SNR)) -> dict:
    """One row of a report; what does not fit its shape is absent."""
    weights, hard = rows * columns, rng.normal(0, 2)
    judged = []
    for scheme in schemes:
        if not Scheme.named(scheme).problem(rows, columns):
            bits = Scheme.named(scheme).stored_bits(rows, columns)
            snr = SNR[scheme] + hard * (0.3 if "g128" in scheme else 1) + rng.normal(0, 0.4)
            judged.append({"name": scheme, "stored_bits": bits, "bits_per_weight": bits / weights, "snr": float(snr)})
    bits = Scheme.named("75% FP16").stored_bits(rows, columns)
    pruning = {"mask": "bitmap", "stored_bits": bits, "bits_per_weight": bits / weights, "share_kept": 0.25, "snr": 5.5}
    return {
        "name": name, "shape": [rows, columns], "kind": "linear", "dtype": "BF16", "rows": rows, "columns": columns,
        "experts": 1, "weights": weights, "stored_bytes": 2 * weights, "aliases": [], "parts": [], "zeros": 0,
        "kurtosis": float(3 + rng.exponential()), "power": float(weights * np.exp(rng.normal(-6, 1))),
        "schemes": judged, "pruning": [pruning], "budgets": [], "notes": [],
    }  # fmt: skip


def report(seed: int = 0, count: int = 12, shapes=((64, 64), (128, 64), (64, 192), (96, 128)), **more) -> dict:
    """A report of `count` matrices and one vector that is not treated."""
    rng = np.random.default_rng(seed)
    rows = [matrix(f"layers.{i}.weight", *shapes[rng.integers(len(shapes))], rng, **more) for i in range(count)]
    bias = {"name": "norm.weight", "shape": [1000], "dtype": "F32", "stored_bytes": 4000, "reason": "a vector"}
    stored = sum(row["stored_bytes"] for row in rows) + 4000
    return {
        "schema": 1,
        "model": {"path": "made", "format": "safetensors", "tensors": count + 1, "stored_bytes": stored},
        "matrices": rows, "untreated": [bias], "notes": [], "totals": {},
    }  # fmt: skip
