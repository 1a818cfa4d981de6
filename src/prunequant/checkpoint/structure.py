"""Which tensors of a file are matrices, and along which axis their inputs lie.

Files say shapes and names, not what a tensor does; so the rules are few, and what they decide is named:

    two axes               (out, in), unless GPT-2's Conv1D or an option says (in, out); embeddings by their names
    three, "experts"       (experts, out, in): so many matrices, one after another
    three to five          convolutions, (out, in, kernel …); depthwise where "in" is 1 and "out" is not
    all else               untreated, with the reason
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prunequant.checkpoint import joins as joining
from prunequant.checkpoint import values
from prunequant.checkpoint.files import Contents, Tensor, shown_name
from prunequant.checkpoint.matrices import Matrix, Untreated

_EMBEDDING = re.compile(
    r"(^|[._/])(wte|wpe|embed_tokens|embed_positions|embed_in|tok_embeddings|token_embd|position_embd|token_types"
    r"|(word|token|position|positional|token_type|patch)_embeddings?|embeddings?|embedding_table|emb|shared"
    r"|pos_embed|position_embedding|relative_attention_bias|relative_position_bias_table|codebook)([._/]weight)?$"
)
_EXPERTS = re.compile(r"experts?\b|experts|_exps\b|\bmoe\b")
_CONV1D = re.compile(r"(^|\.)(c_attn|c_proj|c_fc|q_attn)\.weight$")
_UPSAMPLING = re.compile(r"conv_?transpose|deconv|transposed?_conv", re.IGNORECASE)
_COMPUTED = re.compile(r"(^|\.)(cos_cached|sin_cached|rotary_emb\.\w+|inv_freq|attn_mask|causal_mask|masked_bias)$")
_MASK = re.compile(r"(^|\.)attn\.(bias|masked_bias)$|(^|\.)attention\.(bias|masked_bias)$")
_BIAS = re.compile(r"(^|[._])bias(es)?$")


@dataclass(frozen=True)
class Part:
    """A matrix before ties are looked for.

    tensors : those it is made of
    """

    matrix: Matrix
    tensors: tuple[Tensor, ...]


def conv1d_is_transposed(tensors: Iterable[Tensor]) -> bool:
    """Whether layers called c_attn, c_fc and c_proj are GPT-2's Conv1D, (in, out): others use the names for (out, in).

    Those that widen decide: a c_attn or c_fc has more outputs than inputs.
    """
    votes = 0
    for tensor in tensors:
        if len(tensor.shape) == 2 and re.search(r"(^|\.)(c_attn|c_fc)\.weight$", tensor.name):
            votes += int(tensor.shape[1] > tensor.shape[0]) - int(tensor.shape[0] > tensor.shape[1])
    return votes > 0


def reason_against(tensor: Tensor) -> str:
    """Why no matrix is made of a tensor; empty when one is."""
    if not values.readable(tensor.encoding):
        return f"values of {tensor.dtype} are not read"
    if tensor.size == 0:
        return "empty"
    if not tensor.shape:
        return "a scalar"
    if _MASK.search(tensor.name) and len(tensor.shape) >= 2:
        return "an attention mask, which holds no weights"
    if _COMPUTED.search(tensor.name):
        return "computed, not learned"
    if tensor.encoding.integer:
        return f"{'flags' if tensor.dtype == 'BOOL' else 'integers'} without a scale"
    if sum(n > 1 for n in tensor.shape) <= 1 and (len(tensor.shape) == 1 or tensor.shape[0] == 1):
        return "a vector: kept as it is"
    if len(tensor.shape) == 2 and _BIAS.search(tensor.name) and not _EMBEDDING.search(tensor.name):
        return "biases: kept as they are"
    if len(tensor.shape) > 5:
        return f"{len(tensor.shape)} axes: none is known as the input"
    return ""


def _fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def kind_of(tensor: Tensor, conv1d: bool, transposed: Collection[str]) -> str:
    """The kind of a tensor that is a matrix, one of `matrices.KINDS`."""
    axes = len(tensor.shape)
    if axes == 3 and _EXPERTS.search(tensor.name):
        return "experts"
    if axes == 2 and (tensor.axes == "embedding" or _EMBEDDING.search(tensor.name)):
        return "embedding"
    if axes == 2:
        flipped = tensor.axes == "transposed" or _fits(tensor.name, transposed)
        return "linear, transposed" if flipped or (conv1d and _CONV1D.search(tensor.name)) else "linear"
    if math.prod(tensor.shape[:-2]) == 1 and _EMBEDDING.search(tensor.name):
        return "embedding"
    return "depthwise convolution" if tensor.shape[1] == 1 and tensor.shape[0] > 1 else "convolution"


def matrix_of(tensor: Tensor, kind: str, transposed: Collection[str]) -> Matrix:
    """The matrix of a tensor of a kind: rows are outputs."""
    shape, experts = tensor.shape, 1
    read: Callable[[int, int], NDArray]
    if kind == "embedding":
        rows, columns = math.prod(shape[:-1]), shape[-1]
        read = _rows(tensor, columns)
    elif kind == "experts":
        flipped = tensor.axes == "transposed" or _fits(tensor.name, transposed)
        experts, outputs, columns = (shape[0], *((shape[2], shape[1]) if flipped else shape[1:]))
        rows = experts * outputs
        read = _columns_of_each(tensor, outputs, columns) if flipped else _rows(tensor, columns)
    elif kind == "linear, transposed":
        columns, rows = shape
        read = _columns_of_each(tensor, rows, columns)
    elif "convolution" in kind and (tensor.axes == "transposed" or _fits(tensor.name, transposed)
                                    or _UPSAMPLING.search(tensor.name)):  # fmt: skip
        # (in, out, kernel …) as transposed convolutions store it: a row an output all the same
        kernel = math.prod(shape[2:])
        rows, columns = shape[1], shape[0] * kernel
        read = _swapped(tensor, kernel)
    else:
        rows, columns = shape[0], math.prod(shape[1:])
        read = _rows(tensor, columns)
    return Matrix(tensor.name, shape, kind, tensor.dtype, rows, columns, tensor.nbytes, read, experts, (), ())


def narrowed(array: NDArray) -> NDArray[np.float32]:
    """Values as float32; what float32 does not hold becomes infinite, and is found where the matrix is judged."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)


def _rows(tensor: Tensor, columns: int) -> Callable[[int, int], NDArray]:
    def read(first: int, stop: int) -> NDArray:
        return narrowed(tensor.read(first * columns, stop * columns)).reshape(stop - first, columns)

    return read


def _columns_of_each(tensor: Tensor, rows: int, columns: int) -> Callable[[int, int], NDArray]:
    """Rows of (…, columns, rows) as stored: one matrix after another, each turned."""

    def read(first: int, stop: int) -> NDArray:
        out = np.empty((stop - first, columns), np.float32)
        at = first
        while at < stop:
            expert, row = divmod(at, rows)
            count = min(stop - at, rows - row)
            base = expert * rows * columns
            _turn(tensor, base, rows, columns, row, out[at - first : at - first + count])
            at += count
        return out

    return read


def _turn(tensor: Tensor, base: int, rows: int, columns: int, row: int, out: NDArray) -> None:
    """Columns row … of the stored (columns, rows) into the rows of `out`, in bounded pieces."""
    count = len(out)
    if 4 * count >= rows:  # most of each stored line is wanted: read lines
        step = max((1 << 20) // rows, 1)
        for start in range(0, columns, step):
            end = min(start + step, columns)
            lines = narrowed(tensor.read(base + start * rows, base + end * rows)).reshape(end - start, rows)
            out[:, start:end] = lines[:, row : row + count].T
    else:
        for line in range(columns):
            at = base + line * rows + row
            out[:, line] = narrowed(tensor.read(at, at + count))


def _swapped(tensor: Tensor, kernel: int) -> Callable[[int, int], NDArray]:
    inputs, outputs = tensor.shape[:2]

    def read(first: int, stop: int) -> NDArray:
        out = np.empty((stop - first, inputs, kernel), np.float32)
        for line in range(inputs):
            at = (line * outputs + first) * kernel
            out[:, line] = narrowed(tensor.read(at, at + (stop - first) * kernel)).reshape(stop - first, kernel)
        return out.reshape(stop - first, inputs * kernel)

    return read


def own_bytes(tensors: Iterable[Tensor]) -> dict[str, int]:
    """Bytes of each tensor that no other one before it holds, by name: storage that is shared is counted once."""
    own: dict[str, int] = {}
    placed: dict[str, list[tuple[int, int, int, Tensor]]] = {}
    for number, tensor in enumerate(tensors):
        if tensor.place is None:
            own[tensor.name] = tensor.nbytes
        else:
            file, start, stop = tensor.place
            placed.setdefault(file, []).append((start, number, stop, tensor))
    for spans in placed.values():
        edge = 0
        for start, _, stop, tensor in sorted(spans, key=lambda row: row[:2]):
            own[tensor.name] = min(max(stop - max(start, edge), 0), tensor.nbytes)
            edge = max(edge, stop)
    return own


def tie(parts: list[Part], own: dict[str, int], notes: list[str]) -> tuple[list[Matrix], int]:
    """One matrix for all of equal content, the first; bytes of the further copies, which are said.

    Equal are dtype, shape and every byte. Nearly all that differ do so in their first, middle or last bytes: only the
    others are read.
    """
    alike: dict[tuple, list[Part]] = {}
    for part in parts:
        alike.setdefault((part.matrix.kind, *((t.dtype, t.shape) for t in part.tensors)), []).append(part)
    same: dict[str, list[str]] = {}
    drop: set[str] = set()
    copies = 0
    for group in alike.values():
        if len(group) < 2:
            continue
        sampled: dict[tuple, list[Part]] = {}
        for part in group:
            sampled.setdefault(tuple(t.sample() for t in part.tensors), []).append(part)
        for candidates in sampled.values():
            for first, other in _equal(candidates):
                drop.add(other.matrix.name)
                same.setdefault(first.matrix.name, []).append(other.matrix.name)
                more = sum(own[t.name] for t in other.tensors)
                copies += more
                where = f"stored again in {more} bytes" if more else "stored once"
                a, b = shown_name(first.matrix.name), shown_name(other.matrix.name)
                notes.append(f"{b} holds the same as {a}, {where}: it is counted once, as {a}")
    tied = []
    for part in parts:
        if part.matrix.name in drop:
            continue
        nbytes = sum(own[t.name] for t in part.tensors)
        tied.append(replace(part.matrix, nbytes=nbytes, aliases=tuple(same.get(part.matrix.name, ()))))
    return tied, copies


def _equal(candidates: list[Part]) -> Iterable[tuple[Part, Part]]:
    if len(candidates) < 2:
        return
    first: dict[tuple, Part] = {}
    for part in candidates:
        key = tuple(t.digest() for t in part.tensors)
        if key in first:
            yield first[key], part
        else:
            first[key] = part


def build(contents: Contents, transposed: Collection[str] = ()) -> tuple[list[Matrix], list[Untreated], list[str], int]:
    """Matrices, what is untreated, notes, and bytes of copies of tied tensors."""
    notes = list(contents.notes)
    own = own_bytes(contents.tensors.values())
    conv1d = conv1d_is_transposed(contents.tensors.values())
    joins = joining.join(contents)
    notes += joins.notes
    joined = {join.weight.name: join for join in joins.joined}
    used = joins.used
    parts: list[Part] = []
    untreated = [Untreated(*row) for row in contents.untreated]
    for tensor in contents.tensors.values():
        if tensor.name in joined:
            joined_part = _joined(joined[tensor.name])
            if isinstance(joined_part, Part):
                parts.append(joined_part)
                continue
            joins.failed[tensor.name] = joined_part
            used -= {part.name for part in joined[tensor.name].parts}
    for tensor in contents.tensors.values():
        if tensor.name in used:
            continue
        codes = joining.belongs_to(tensor.name, joins.failed)
        reason = joins.failed.get(tensor.name, "") or (codes and f"belongs to {shown_name(codes)}, which is not joined")
        reason = reason or reason_against(tensor)
        if reason:
            untreated.append(Untreated(tensor.name, tensor.shape, tensor.dtype, own[tensor.name], reason))
        else:
            parts.append(Part(matrix_of(tensor, kind_of(tensor, conv1d, transposed), transposed), (tensor,)))
    order = {name: number for number, name in enumerate(contents.tensors)}
    parts.sort(key=lambda part: order[part.matrix.name])
    matrices, copies = tie(parts, own, notes)
    return matrices, untreated, notes, copies


def _joined(join: joining.Joined) -> Part | str:
    """The matrix of codes and scales, or why there is none."""
    weight, shape = join.weight, join.shape
    if 0 in shape:
        return "empty"
    name = re.sub(r"qweight$", "weight", re.sub(r"_(packed|blocks)$", "", weight.name))
    kind = kind_of(replace(weight, name=name, shape=shape, axes=""), False, ())
    if len(shape) == 3 and kind != "experts":
        return "three axes with scales, and no name says that these are experts"
    rows, experts = math.prod(shape[:-1]), shape[0] if len(shape) == 3 else 1
    names = tuple(part.name for part in join.parts)

    def read(first: int, stop: int) -> NDArray:
        with np.errstate(all="ignore"):  # what scales make infinite is found where the matrix is judged
            return join.read(first, stop)

    matrix = Matrix(weight.name, weight.shape, kind, join.dtype, rows, shape[-1], 0, read, experts, (), names)
    return Part(matrix, join.parts)
