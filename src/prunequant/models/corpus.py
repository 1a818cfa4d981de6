"""Annual messages of presidents of the United States, 1901-1928, as text and as tokens, and how a model reads them.

Public-domain text that ships with the book (`book/data`, with its provenance): 22 messages to train on, the six of
years that end in 3 or 8 held out. The token ids are those of SmolLM2's own tokenizer and ship too, so nothing here
needs a tokenizer or a network. `prunequant record corpus` makes the files from the published archive.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prunequant import records
from prunequant.extras import need

if TYPE_CHECKING:
    from torch import nn

PARTS = ("train", "heldout")
TOKENS = "messages-1901-1928-tokens.npz"
TEXT_SHA256 = {
    "train": "c5380bb7c582a702953b15675fc9de2fb68d2d12be1f37fd8bb528ad96a27137",
    "heldout": "23126c832d7ace6741b124135c7e9c9a762ac49b05d9c8f3f7b24db6c6f35ad7",
}
TOKENS_SHA256 = {
    "train": "252f5fe9738a809f35f126913b2585395ec80419431a69a7e28ebdafb5ecaa4b",
    "heldout": "753a0d7ed3b7d325b204df991206c1ac25caf66679221bca0b9d1c31e17c5474",
}
WINDOW = 512


def find(name: str, data: str | Path | None = None) -> Path:
    """A shipped file: the one in the folder `data` if it holds it, else the one that `prunequant.records` finds.

    Raises
    ------
    FileNotFoundError : it is in neither; the message names the places.
    """
    if data is not None and (Path(data) / name).is_file():
        return Path(data) / name
    return records.find(name)


def clean(message: str) -> str:
    """One message as plain text: straight quotes, plain dashes, single spaces, at most one empty line in a row.

    >>> clean("“A  test”—of\\r\\n\\n\\n\\n quotes ")
    '"A test"--of\\n\\nquotes\\n'
    """
    text = unicodedata.normalize("NFC", message).replace("\r\n", "\n")
    for old, new in (("‘’", "'"), ("“”", '"'), ("–\u2011", "-")):
        text = re.sub(f"[{old}]", new, text)
    text = text.replace("—", "--")
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" *\n *", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def join(messages: Mapping[str, str], first: int = 1901, last: int = 1928) -> dict[str, str]:
    """{"train": text, "heldout": text} from {file name "YYYY_...": raw text}: years that end in 3 or 8 are held out."""
    chosen = {n: clean(t) for n, t in sorted(messages.items()) if first <= int(n[:4]) <= last}
    heldout = {n for n in chosen if int(n[:4]) % 5 == 3}
    return {
        "train": "\n".join(t for n, t in chosen.items() if n not in heldout),
        "heldout": "\n".join(t for n, t in chosen.items() if n in heldout),
    }


def _part(part: str) -> str:
    if part not in PARTS:
        raise ValueError(f"part is {part!r}: give one of {', '.join(PARTS)}")
    return part


def text(part: str, data: str | Path | None = None) -> str:
    """The text of a part, "train" or "heldout", after comparing its SHA-256.

    Raises
    ------
    ValueError : unknown part; a file that is damaged or another text.
    """
    return raw(part, data).decode()


def raw(part: str, data: str | Path | None = None) -> bytes:
    """`text` as bytes, all below 128; read and compared once."""
    return _raw(_part(part), find(f"messages-1901-1928-{part}.txt.xz", data))


@lru_cache(maxsize=4)
def _raw(part: str, path: Path) -> bytes:
    try:
        content = lzma.decompress(path.read_bytes())
    except lzma.LZMAError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    _compare(path, content, TEXT_SHA256[part])
    return content


@lru_cache(maxsize=4)
def _tokens(part: str, path: Path) -> NDArray[np.int64]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            ids = archive[part]
    except Exception as error:  # a damaged zip fails in several ways
        raise ValueError(f"{path} is damaged: {error}") from error
    _compare(path, ids.astype("<u2").tobytes(), TOKENS_SHA256[part])
    out = ids.astype(np.int64)
    out.setflags(write=False)
    return out


def _compare(path: Path, raw: bytes, expected: str) -> None:
    if (digest := hashlib.sha256(raw).hexdigest()) != expected:
        raise ValueError(f"{path} has another content (SHA-256 {digest}, expected {expected})")


def tokens(part: str, data: str | Path | None = None) -> NDArray[np.int64]:
    """Token ids of a part, after comparing the SHA-256 of their little-endian 16-bit bytes; read only.

    309,200 to train on, 68,240 held out.
    """
    return _tokens(_part(part), find(TOKENS, data))


def windows(count: int | str = 16, data: str | Path | None = None) -> NDArray[np.int64]:
    """Evaluation windows of 512 held-out tokens, spread evenly: (count, 512).

    Parameters
    ----------
    count : "E16" or 16: windows 0, 8, ..., 132 of the 133; "E8" or 8: every second one of those. Other numbers are
        taken evenly spaced from the sixteen. Perplexities of different sets must not be compared.
    """
    number = {"E16": 16, "E8": 8}.get(count) if isinstance(count, str) else count
    if not isinstance(number, (int, np.integer)) or not 1 <= number <= 16:
        raise ValueError(f"count is {count!r}: give E16, E8 or a number from 1 to 16")
    every = every_window(data)
    chosen = np.linspace(0, len(every) - 1, 16).astype(int)
    return every[chosen[:: 16 // number] if 16 % number == 0 else chosen[np.linspace(0, 15, number).astype(int)]]


def every_window(data: str | Path | None = None) -> NDArray[np.int64]:
    """All 133 windows of 512 tokens of the held-out part, (133, 512), without the rest that fills none."""
    ids = tokens("heldout", data)
    return ids[: len(ids) // WINDOW * WINDOW].reshape(-1, WINDOW)


def batch(step: int, *, size: int, length: int, seed: int, data: str | Path | None = None) -> NDArray[np.int64]:
    """Training windows (size, length) of one step: a pure function of seed and step.

    The same seed gives the same batches to every run that is compared.
    """
    train = tokens("train", data)
    start = np.random.default_rng([seed, 7, step]).integers(0, len(train) - length, size)
    return train[start[:, None] + np.arange(length)]


def cross_entropies(
    model: nn.Module, rows: NDArray[np.int64], *, size: int = 1, device: str = "cpu"
) -> NDArray[np.float64]:
    """Mean cross-entropy per token, in nats, of every window: (count,) float64.

    Parameters
    ----------
    model : token ids (batch, time) → logits; moved nowhere.
    rows : (count, time) token ids; each window is read without what precedes it, and scores time − 1 tokens.
    size : windows per forward pass.
    """
    need("torch")
    import torch
    from torch.nn import functional as F

    out = []
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            x = torch.from_numpy(np.array(rows[start : start + size])).to(device)
            logits = model(x)[:, :-1].float()
            loss = F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten(), reduction="none")
            out.append(loss.view(len(x), -1).double().mean(1).cpu().numpy())
    return np.concatenate(out)


def perplexity(losses: Sequence[float] | NDArray) -> float:
    """exp of the mean of per-window cross-entropies (all windows score the same number of tokens)."""
    return float(np.exp(np.mean(losses)))
