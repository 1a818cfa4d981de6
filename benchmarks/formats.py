"""Speed of the formats and masks against copying the same array, NumPy and torch.

    python benchmarks/formats.py --threads 2           writes book/results/benchmark_formats.json
    python benchmarks/formats.py --quick               seconds, no record

The yardstick is a copy of the array between two allocated buffers, taken in the same round by the same threads: these
kernels read and write every value once, so a copy is what memory allows. The peers appear twice where it matters: as
people write them, and with all temporaries allocated before.
"""

import os
import sys

import numpy as np
from common import finish, interleave, parser, rounds, summary, table


def contenders(n: int, threads: int) -> dict[str, dict]:
    """Groups of contenders on n float32 values: {work: {name: call}}; the first of each group is the copy."""
    import torch
    from numba import njit, prange, set_num_threads

    from prunequant.formats import HBFP, MX, NF4, NVFP4, Integer, integer_squared_errors
    from prunequant.sparsity import kth_largest_magnitude, magnitude, prune_2_4

    set_num_threads(threads)
    torch.set_num_threads(threads)

    @njit(parallel=True)
    def copy_into(x, out):
        for run in prange((x.size + 32767) // 32768):
            out[run * 32768 : (run + 1) * 32768] = x[run * 32768 : (run + 1) * 32768]

    x = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    out, spare = np.empty_like(x), np.empty_like(x)
    t, t_out = torch.from_numpy(x), torch.empty(n)
    scale = np.float32(0.3)

    def numpy_fresh():
        return scale * np.clip(np.rint(x / scale), -7, 7)

    def numpy_out():
        np.divide(x, scale, out=spare)
        np.rint(spare, out=spare)
        np.clip(spare, -7, 7, out=spare)
        np.multiply(spare, scale, out=out)

    def torch_fresh():
        return torch.clamp(torch.round(t / 0.3), -7, 7) * 0.3

    def torch_out():
        torch.div(t, 0.3, out=t_out)
        t_out.round_().clamp_(-7, 7).mul_(0.3)

    def numpy_stochastic():
        u = x / scale
        return scale * np.clip(np.floor(u + np.random.default_rng(0).random(n, dtype=np.float32)), -7, 7)

    def torch_stochastic():
        return torch.clamp(torch.floor(t / 0.3 + torch.rand(n)), -7, 7) * 0.3

    def numpy_blocks():
        b = x.reshape(-1, 64)
        e = np.ceil(np.log2(np.abs(b).max(axis=1, keepdims=True)))
        s = np.exp2(e - 5)
        return np.clip(np.rint(b / s), -31, 31) * s

    def torch_blocks():
        b = t.reshape(-1, 64)
        s = torch.exp2(torch.ceil(torch.log2(b.abs().amax(dim=1, keepdim=True))) - 5)
        return torch.clamp(torch.round(b / s), -31, 31) * s

    def torch_two_of_four():
        b = t.reshape(-1, 4)
        keep = torch.zeros_like(b, dtype=torch.bool).scatter_(1, b.abs().topk(2, dim=1).indices, True)
        return b * keep

    def numpy_two_of_four():
        b = x.reshape(-1, 4)
        rank = np.argsort(np.argsort(-np.abs(b), axis=1), axis=1)
        return np.where(rank < 2, b, 0)

    widths = range(2, 9)

    def numpy_widths():
        largest = np.abs(x).max()
        errors = []
        for bits in widths:
            top = 2 ** (bits - 1) - 1
            s = largest / np.float32(top)
            e = x - s * np.clip(np.rint(x / s), -top, top)
            errors.append(np.dot(e, e))
        return errors

    def copy():
        copy_into(x, out)

    scales = [np.abs(x).max() / (2 ** (b - 1) - 1) for b in widths]
    matrix, matrix_out = x.reshape(-1, 64), out.reshape(-1, 64)
    int4 = Integer(4)
    return {
        "quantize-dequantize, 4 bits": {
            "copy": copy,
            "prunequant, scale given": lambda: int4.quantize(x, scale=scale, out=out),
            "prunequant, scale from the tensor": lambda: int4.quantize(x, out=out),
            "prunequant, groups of 64": lambda: Integer(4, granularity=64).quantize(matrix, out=matrix_out),
            "numpy, as written": numpy_fresh,
            "numpy, allocated": numpy_out,
            "torch, as written": torch_fresh,
            "torch, allocated": torch_out,
            "torch fake_quantize": lambda: torch.fake_quantize_per_tensor_affine(t, 0.3, 0, -8, 7),
        },
        "stochastic rounding, 4 bits": {
            "copy": copy,
            "prunequant": lambda: int4.quantize(x, scale=scale, rounding="stochastic", seed=1, out=out),
            "numpy": numpy_stochastic,
            "torch": torch_stochastic,
        },
        "block floating point": {
            "copy": copy,
            "prunequant HBFP6": lambda: HBFP(6).quantize(x, out=out),
            "prunequant MXINT8": lambda: MX("int8").quantize(x, out=out),
            "prunequant MXFP4": lambda: MX("fp4_e2m1").quantize(x, out=out),
            "prunequant MXFP8": lambda: MX("fp8_e4m3").quantize(x, out=out),
            "prunequant NVFP4": lambda: NVFP4().quantize(x, out=out),
            "prunequant NF4": lambda: NF4().quantize(x, out=out),
            "numpy HBFP6": numpy_blocks,
            "torch HBFP6": torch_blocks,
        },
        "2:4 magnitude": {
            "copy": copy,
            "prunequant": lambda: prune_2_4(x, out=out),
            "numpy": numpy_two_of_four,
            "torch topk": torch_two_of_four,
        },
        "exact k-th magnitude": {
            "copy": copy,
            "prunequant": lambda: kth_largest_magnitude(x, n // 2),
            "prunequant, mask": lambda: magnitude(x, 0.5),
            "numpy partition": lambda: np.partition(np.abs(x), n // 2)[n // 2],
            "torch kthvalue": lambda: torch.kthvalue(t.abs(), n // 2),
        },
        "squared errors at 7 widths": {
            "copy": copy,
            "prunequant, scales given": lambda: integer_squared_errors(x, widths, scale=scales),
            "prunequant": lambda: integer_squared_errors(x, widths),
            "numpy": numpy_widths,
        },
    }


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--size", type=int, default=None, help="values (50,000,000, or 2,000,000 with --quick)")
    options.add_argument("--only", default="", help="only the groups whose name contains this")
    given = options.parse_args()
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(given.threads, 1)))
    n = given.size or (2_000_000 if given.quick else 50_000_000)
    n -= n % 64
    rows = []
    for work, group in contenders(n, given.threads).items():
        if given.only not in work:
            continue
        seconds = interleave(group, rounds(given))
        rows += [{"work": work, **row} for row in summary(seconds, "copy", dict.fromkeys(group, float(n)))]
        print(table([r for r in rows if r["work"] == work], ["work", "name", "seconds", "rate", "ratio"]), "\n")
        sys.stdout.flush()
    finish("formats", given, rows, packages=("torch",), size=n)


if __name__ == "__main__":
    main()
