"""Path following against the recursions it replaces and the matrix product that limits it.

    python benchmarks/path_following.py --threads 2     a minute; book/results/benchmark_path_following.json
    python benchmarks/path_following.py --quick         seconds; nothing is recorded

One layer, Gaussian weights and inputs, stochastic rounding to a grid. All contenders take turns in one run; a ratio is
the median over rounds of the ratio of two times taken next to each other.

* limit: the faster of NumPy's and torch's square matrix product, in multiply-adds a second. "round" does
  features²·neurons/2 multiply-adds, "whole" samples·features²/2 (the symmetric Gram matrix) more.
* torch walk: the recursion as published, u = u + (w_t − q_t) X_t one column after the other. Its steps cost the same,
  so some columns are timed and scaled (`columns` in the record).
* torch Gram: the Gram matrix once, then one matrix-vector product a feature, as Brevitas does it; all columns.
"""

from __future__ import annotations

import statistics

import common
import numba
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from prunequant import path_following
from prunequant.path_following import Grid, compress, prepare

STEP = 0.125


def stochastic_round(v):
    return STEP * torch.floor(v / STEP + torch.rand_like(v))


def torch_walk(weights, inputs, columns):
    """The first `columns` steps of the published recursion."""
    u = torch.zeros(inputs.shape[0], weights.shape[1], dtype=weights.dtype)
    out = torch.empty_like(weights)
    for t in range(columns):
        x = inputs[:, t]
        out[t] = stochastic_round(weights[t] + x @ u / (x @ x))
        u = u + torch.outer(x, weights[t] - out[t])
    return out


def torch_gram(weights, inputs):
    """Gram matrix once, a matrix-vector product a feature."""
    gram = inputs.T @ inputs
    errors = torch.zeros_like(weights)
    out = torch.empty_like(weights)
    for t in range(len(weights)):
        out[t] = stochastic_round(weights[t] + gram[t, :t] @ errors[:t] / gram[t, t])
        errors[t] = weights[t] - out[t]
    return out


def measure(features, neurons, samples, dtype, columns, rounds):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((features, neurons)).astype(dtype)
    x = rng.standard_normal((samples, features)).astype(dtype)
    square = rng.standard_normal((features, features)).astype(dtype)
    tw, tx, ts = torch.from_numpy(w), torch.from_numpy(x), torch.from_numpy(square)
    layer, grid = prepare(w, x), Grid(STEP)
    seconds = common.interleave(
        {
            "product, NumPy": lambda: square @ square,
            "product, torch": lambda: ts @ ts,
            "round": lambda: layer.round(grid),
            "whole": lambda: compress(w, x, grid),
            "torch walk": lambda: torch_walk(tw, tx, columns),
            "torch Gram": lambda: torch_gram(tw, tx),
        },
        rounds,
    )
    faster = min(("product, NumPy", "product, torch"), key=lambda name: statistics.median(seconds[name]))
    product, rounding = features**3, features**2 * neurons / 2
    whole = rounding + samples * features**2 / 2
    scale = features / columns
    row = {
        "name": f"{features}×{neurons}, {samples} samples",
        "dtype": np.dtype(dtype).name,
        "columns": columns,
        "limit": faster,
        "limit_gflops": 2e-9 * product / statistics.median(seconds[faster]),
        "round_ms": 1e3 * statistics.median(seconds["round"]),
        "whole_ms": 1e3 * statistics.median(seconds["whole"]),
        "round_share_of_limit": common.median_ratio(seconds[faster], seconds["round"], rounding / product),
        "whole_over_bound": common.median_ratio(seconds["whole"], seconds[faster], product / whole),
        "torch_walk_over_whole": scale * common.median_ratio(seconds["torch walk"], seconds["whole"]),
        "torch_gram_over_whole": common.median_ratio(seconds["torch Gram"], seconds["whole"]),
    }
    reference = torch_walk(tw, tx, columns)
    ours = compress(w, x, grid).weights[:columns]
    errors = [float(np.mean((np.asarray(q)[:columns] - w[:columns]) ** 2)) for q in (reference, ours)]
    row["same_law"] = bool(abs(errors[0] / errors[1] - 1) < 0.05)
    return row


def main():
    options = common.parser(__doc__.splitlines()[0]).parse_args()
    numba.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    path_following.warm()
    shapes = [(256, 256, 512)] if options.quick else [(1024, 1024, 4096), (1024, 1024, 1024), (512, 2048, 2048)]
    rows = []
    with threadpool_limits(options.threads):
        for features, neurons, samples in shapes:
            for dtype in (np.float32, np.float64):
                row = measure(features, neurons, samples, dtype, 16, common.rounds(options))
                rows.append(row)
                print(common.table([row], list(row)), flush=True)
    common.finish("path_following", options, rows, packages=("torch",))


if __name__ == "__main__":
    main()
