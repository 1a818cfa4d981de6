"""Speed of `prunequant compress` against the quantizer of the package gguf.

    python benchmarks/compress.py --threads 2      writes book/results/benchmark_compress.json
    python benchmarks/compress.py --quick          seconds, no record

Both write Q4_0 of the same matrices to a file. The package takes the step of the largest magnitude; ours is the step of
least squared error, exact, and the file holds no more: what is measured is what that search costs.
"""

import tempfile
from pathlib import Path

import numpy as np
from common import finish, interleave, parser, rounds, summary, table


def contenders(folder: Path, side: int, count: int, threads: int) -> tuple[dict, dict]:
    """All on one file of `count` square matrices, written again; how many weights each handles in a call."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants

    from prunequant import checkpoint

    rng, source = np.random.default_rng(0), folder / "source.gguf"
    names = [f"blk.{i}.ffn_up.weight" for i in range(count)]
    writer = GGUFWriter(source, "llama")
    for name in names:
        writer.add_tensor(name, (0.02 * rng.standard_t(5, (side, side))).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    def ours(number: int) -> None:
        out = folder / f"{number}.gguf"
        out.unlink(missing_ok=True)
        checkpoint.compress(source, out, scheme="INT4 g32", to="gguf", threads=number)

    def package() -> None:
        out, kind = GGUFWriter(folder / "package.gguf", "llama"), GGMLQuantizationType.Q4_0
        for tensor in GGUFReader(source).tensors:
            out.add_tensor(tensor.name, quants.quantize(np.asarray(tensor.data), kind), raw_dtype=kind)
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()

    calls = {f"prunequant, {n} threads": lambda n=n: ours(n) for n in sorted({1, threads})} | {"gguf": package}
    return calls, dict.fromkeys(calls, count * side * side)


def main() -> None:
    given = parser(__doc__).parse_args()
    side, count = (256, 4) if given.quick else (1024, 12)
    with tempfile.TemporaryDirectory() as folder:
        calls, work = contenders(Path(folder), side, count, given.threads)
        rows = summary(interleave(calls, rounds(given)), "gguf", work)
    print(table(rows, ("name", "items", "seconds", "rate", "ratio")))
    finish("compress", given, rows, packages=("gguf",))


if __name__ == "__main__":
    main()
