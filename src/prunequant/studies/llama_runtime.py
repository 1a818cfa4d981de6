"""llama.cpp on this processor, through its Python binding: logits of a GGUF file, its tokenizer, its own quantizer.

The binding is built from source, with a compiler and half an hour: `pip install 'prunequant[llama]'`. Where llama.cpp
leaves the choice everything is in float32: the cache of keys and values, no flash attention, no graphics card. What it
does not leave: the inputs of a layer that is stored in blocks of integers are rounded too, see `rounded`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunequant.extras import need

BLOCK = 32
TYPES = {
    "F32": (0, 0),
    "F16": (1, 1),
    "Q4_0": (2, 2),
    "Q8_0": (7, 8),
}  # the number of a file's type, and of a tensor's, in llama.cpp
_FLOAT32, _NO_FLASH = 0, 0
_silence: list = []  # what llama.cpp calls instead of writing to the terminal: it must live as long as the library


@lru_cache(maxsize=1)
def binding() -> ModuleType:
    """The binding, once its library is loaded and told to be quiet.

    Raises
    ------
    MissingExtra : it is not installed.
    """
    cpp = need("llama_cpp")
    if not _silence:
        _silence.append(cpp.llama_log_callback(lambda level, text, data: None))
    cpp.llama_log_set(_silence[0], ctypes.c_void_p())
    cpp.llama_backend_init()
    return cpp


def about() -> dict[str, str | None]:
    """Version of the binding and of llama.cpp, what it uses of the processor, and the flags it was built with.

    The flags are those of the variable CMAKE_ARGS, by which they are given: the library does not know them.
    """
    cpp = binding()
    return {
        "binding": f"llama-cpp-python {cpp.__version__}",
        "llama.cpp": cpp.llama_version().decode(),
        "system": cpp.llama_print_system_info().decode().strip(" |\n"),
        "build": os.environ.get("CMAKE_ARGS"),
    }


@contextmanager
def _model(path: Path) -> Iterator[ctypes.c_void_p]:
    cpp = binding()
    settings = cpp.llama_model_default_params()
    settings.n_gpu_layers = 0
    model = cpp.llama_model_load_from_file(os.fsencode(path), settings)
    if not model:
        raise ValueError(f"llama.cpp does not load {path}")
    try:
        yield model
    finally:
        cpp.llama_model_free(model)


@contextmanager
def decoder(
    path: Path, room: int, threads: int = 1, *, plain: bool = True, every: bool = False
) -> Iterator[Callable[[NDArray, int], NDArray[np.float32]]]:
    """A function of token ids and the place of the first, which runs the model in a GGUF file on them.

    What came before that place is in the cache from earlier calls; place 0 forgets it. Returned are the logits of the
    last token, (1, vocabulary), or of every one.

    Parameters
    ----------
    room : places there are.
    plain : keys and values in float32, no flash attention; otherwise as llama.cpp chooses.

    Raises
    ------
    MissingExtra : the binding is not installed.
    ValueError : llama.cpp does not load the file, or has no memory for so many tokens; the function: no tokens, or more
        than there is room for.
    RuntimeError : it fails at the tokens.
    """
    cpp = binding()
    with _model(path) as model:
        settings = cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = room
        settings.n_seq_max = 1
        settings.n_threads = settings.n_threads_batch = threads
        if plain:
            settings.type_k = settings.type_v = _FLOAT32
            settings.flash_attn_type = _NO_FLASH
        context = cpp.llama_init_from_model(model, settings)
        if not context:
            raise ValueError(f"llama.cpp has no context of {room} tokens for {path}")
        batch, width = cpp.llama_batch_init(room, 0, 1), cpp.llama_vocab_n_tokens(cpp.llama_model_get_vocab(model))

        def decode(tokens: NDArray, start: int) -> NDArray[np.float32]:
            if not 0 < len(tokens) <= room - start:
                raise ValueError(f"tokens are {len(tokens)} from place {start}: there is room for 1 to {room - start}")
            batch.n_tokens = len(tokens)
            for i, token in enumerate(tokens):
                batch.token[i], batch.pos[i], batch.logits[i] = int(token), start + i, every or i == len(tokens) - 1
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            if not start:
                cpp.llama_memory_clear(cpp.llama_get_memory(context), True)
            if status := cpp.llama_decode(context, batch):
                raise RuntimeError(f"llama.cpp fails at {path} with status {status}")
            rows = len(tokens) if every else 1
            return np.ctypeslib.as_array(cpp.llama_get_logits(context), (rows, width)).copy()

        try:
            yield decode
        finally:
            cpp.llama_batch_free(batch)
            cpp.llama_free(context)


@contextmanager
def reader(path: Path, time: int, threads: int = 1) -> Iterator[Callable[[NDArray], NDArray[np.float32]]]:
    """A function from `time` token ids to their logits, (time, vocabulary) float32, by the model in a GGUF file.

    Raises
    ------
    MissingExtra, ValueError, RuntimeError : as for `decoder`.
    """
    with decoder(path, time, threads, every=True) as decode:

        def logits(tokens: NDArray) -> NDArray[np.float32]:
            if len(tokens) != time:
                raise ValueError(f"tokens are {len(tokens)}: {time} were announced")
            return decode(tokens, 0)

        yield logits


def tokenized(path: Path, text: bytes) -> NDArray[np.int64]:
    """Token ids of a text by the tokenizer in a GGUF file, without a token at its start."""
    cpp = binding()
    with _model(path) as model:
        ids = (cpp.llama_token * len(text))()
        count = cpp.llama_tokenize(cpp.llama_model_get_vocab(model), text, len(text), ids, len(text), False, False)
        return np.array(ids[:count], dtype=np.int64)


def requantized(path: Path, out: Path, kind: str, embedding: str) -> None:
    """A GGUF file by llama.cpp's own quantizer, every matrix of one type ("pure"), without a matrix of importance.

    Parameters
    ----------
    path, out : GGUF files; matrices that are quantized already are decoded first.
    kind, embedding : of `TYPES`: of the linear layers, and of the embedding, which is the output matrix too.

    Raises
    ------
    ValueError : llama.cpp refuses.
    """
    cpp = binding()
    settings = cpp.llama_model_quantize_default_params()
    settings.nthread, settings.pure, settings.allow_requantize = 1, True, True
    settings.ftype = TYPES[kind][0]
    settings.token_embedding_type = settings.output_tensor_type = TYPES[embedding][1]
    if cpp.llama_model_quantize(os.fsencode(path), os.fsencode(out), ctypes.byref(settings)):
        raise ValueError(f"llama.cpp does not write {path} as {kind}")


def rounded(x: Tensor) -> Tensor:
    """The inputs of a layer as llama.cpp rounds them before it multiplies: blocks of 32, integers of 8 bits (Q8_0).

    The step of a block is its largest magnitude over 127, stored in half precision; the codes are found with the step
    before it is stored. x : (..., a multiple of 32), float32.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 32)
    >>> bool((rounded(x) - x).abs().max() < 0.51 / 127)
    True
    """
    blocks = x.unflatten(-1, (-1, BLOCK))
    top = blocks.abs().amax(-1, keepdim=True)
    codes = (blocks * torch.where(top > 0, 127 / top, 0)).round()
    return (codes * (top / 127).half().float()).flatten(-2)
