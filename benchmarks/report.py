"""Speed of `prunequant report` against the plain NumPy twin of the tests, and its memory on a small and a large file.

    python benchmarks/report.py --threads 2            writes book/results/benchmark_report.json
    python benchmarks/report.py --quick                seconds, no record
    python benchmarks/report.py --memory 0.4 4         peak memory on made files of so many GB, deleted afterwards
    python benchmarks/report.py --models --threads 2   seconds on the two models of the book, in this process

The twin does the same in NumPy, whole arrays at a time. Memory is the largest anonymous resident set (RssAnon) of a
process of its own, sampled while it works: what the system keeps of the file in its cache is not the program's.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import finish, interleave, parser, rounds, summary, table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))


def contenders(side: int, threads: int) -> tuple[dict, dict]:
    """Both on one matrix of heavy-tailed weights; how many weights each handles in a call."""
    from naive import checkpoint as naive
    from prunequant.checkpoint import Matrix
    from prunequant.checkpoint.judging import BUDGETS, Settings
    from prunequant.checkpoint.sharding import judge_all

    x = (0.02 * np.random.default_rng(0).standard_t(5, (side, side))).astype(np.float32)
    small = x[: max(side // 8, 1)]
    matrix = Matrix("w", x.shape, "linear", "F32", *x.shape, x.nbytes, lambda first, stop: x[first:stop])
    settings = Settings.checked(BUDGETS, 128, "bitmap", False, "searched")
    calls = {"report": lambda: judge_all([matrix], settings, threads), "NumPy twin": lambda: naive.errors(small)}
    return calls, {"report": x.size, "NumPy twin": small.size}


def peak(gigabytes: float) -> dict:
    """Seconds and peak RssAnon in MB of the command on a file of float32 matrices, made for it and deleted."""
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        rng, shards = np.random.default_rng(0), max(round(gigabytes / 0.1), 1)
        for i in range(shards):  # a tenth of a gigabyte each
            weights = {f"layers.{i}.w": rng.standard_normal((5000, 5000), np.float32)}
            save_file(weights, Path(folder) / f"model-{i + 1:05d}-of-{shards:05d}.safetensors")
        start, most = time.perf_counter(), 0
        run = subprocess.Popen(
            [sys.executable, "-m", "prunequant.cli", "report", folder], stdout=subprocess.DEVNULL
        )  # fmt: skip
        while run.poll() is None:
            for line in Path(f"/proc/{run.pid}/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("RssAnon"):
                    most = max(most, int(line.split()[1]))
            time.sleep(0.05)
        if run.returncode:
            raise SystemExit(f"the report ended with code {run.returncode}")
        return {"gigabytes": 0.1 * shards, "seconds": time.perf_counter() - start, "peak_mb": most / 1e3}


def model_seconds(threads: int, rounds: int) -> list[dict]:
    """The median, and every round, of a report on each model, kernels loaded."""
    from prunequant import checkpoint
    from prunequant.models import efficientnet, smollm2

    paths = {"EfficientNet-Lite0": efficientnet.weights_path(), "SmolLM2-135M": smollm2.weights_path()}
    seconds = interleave({n: lambda p=p: checkpoint.report(p, threads=threads) for n, p in paths.items()}, rounds)
    return [{"name": n, "seconds": statistics.median(t), "rounds": t} for n, t in seconds.items()]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--memory", type=float, nargs="+", help="sizes of files in GB")
    options.add_argument("--models", action="store_true", help="seconds on the two models of the book")
    given = options.parse_args()
    if given.models:
        print(json.dumps(model_seconds(given.threads, rounds(given)), indent=1))
        return
    if given.memory:
        print(json.dumps([peak(size) for size in given.memory], indent=1))
        return
    calls, work = contenders(512 if given.quick else 2048, given.threads)
    rows = summary(interleave(calls, rounds(given)), "report", work)
    print(table(rows, ("name", "items", "seconds", "rate", "ratio")))
    finish("report", given, rows)


if __name__ == "__main__":
    main()
