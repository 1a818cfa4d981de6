"""Ways to store and multiply the weights of a linear layer y = x Wᵀ, and the bytes that each of them stores.

A scheme is a storage format together with a kernel that multiplies it as it is stored. Formats without a kernel, a mask
kept as a bitmap for instance, save room in a file and no time; they are not here. No torch: the kernels are in
`timing.kernels`.

    bytes of W (outputs n, inputs k)            what is stored
    fp32, fp32-packed   4nk                     packed: in the order the kernel reads
    bf16, bf16-packed   2nk
    int8, int8-fbgemm   nk + 4n                 a float32 scale per output; activations quantized when they arrive
    int8-weight         nk + 2n                 a bfloat16 scale per output; activations stay bfloat16
    int4-weight, -32    nk/2 + 4nk/g            4-bit codes, bfloat16 scale and offset per g inputs (g = 64, 32)
    fp8                 nk + 4n                 e4m3 and a float32 scale per output; activations e4m3 too
    2:4-bf16            nk + nk/8               half of the values, 2 bits for the place of each
    2:4-int8, 2:4-fp8   nk/2 + nk/8 + 4n
    csr-P               8·nnz + 4(n + 1)        float32 values, 32-bit column indices, row starts; P percent pruned
    scipy-P             8·nnz + 4(n + 1)        the same arrays, SciPy's product
    2:4-csr             4nk + 4(n + 1)          a 2:4 mask, stored and multiplied as CSR
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from prunequant import arguments

KINDS = ("dense", "quantization", "pruning", "both")
_FIXED = {
    "fp32": ("dense float32", "dense"),
    "fp32-packed": ("dense float32, packed", "dense"),
    "bf16": ("dense bfloat16", "dense"),
    "bf16-packed": ("dense bfloat16, packed", "dense"),
    "int8": ("int8, inputs too", "quantization"),
    "int8-fbgemm": ("int8, torch's layer", "quantization"),
    "int8-weight": ("int8 weights only", "quantization"),
    "int4-weight": ("int4 weights only, groups of 64", "quantization"),
    "int4-weight-32": ("int4 weights only, groups of 32", "quantization"),
    "fp8": ("fp8, inputs too", "quantization"),
    "2:4-bf16": ("2:4 bfloat16", "pruning"),
    "2:4-int8": ("2:4 int8, inputs too", "both"),
    "2:4-fp8": ("2:4 fp8, inputs too", "both"),
    "2:4-csr": ("2:4 in CSR", "pruning"),
}
LARGEST = 1 << 24  # outputs, inputs, rows of a batch
_SPARSE = re.compile(r"(csr|scipy)-(\d{1,2})")


@dataclass(frozen=True)
class Scheme:
    """One way to store and multiply a matrix.

    Attributes
    ----------
    name : as in the table of this module.
    label : the same in words.
    kind : "dense", "quantization", "pruning" or "both".
    pruned : the fraction of the weights that is set to zero.
    """

    name: str
    label: str
    kind: str
    pruned: float = 0.0


def scheme(name: str) -> Scheme:
    """The scheme of that name.

    >>> scheme("csr-90")
    Scheme(name='csr-90', label='CSR, 90 % pruned', kind='pruning', pruned=0.9)
    """
    arguments.instance(name, "name", str, "the name of a scheme, such as 'csr-50'")
    if name in _FIXED:
        label, kind = _FIXED[name]
        return Scheme(name, label, kind, 0.5 if name.startswith("2:4") else 0.0)
    matched = _SPARSE.fullmatch(name)
    if not matched or not 1 <= int(matched[2]) <= 99:
        known = f"{', '.join(_FIXED)}, csr-P or scipy-P with P from 1 to 99"
        raise ValueError(f"name is {arguments.shown(name)}: there is no such scheme; give one of {known}")
    label = "CSR" if matched[1] == "csr" else "CSR of SciPy"
    return Scheme(name, f"{label}, {matched[2]} % pruned", "pruning", int(matched[2]) / 100)


def kept_weights(name: str, outputs: int, inputs: int) -> int:
    """Weights that are not pruned: all but the integer part of (pruned fraction)·nk, or half for 2:4."""
    size = _size(outputs, "outputs") * _size(inputs, "inputs")
    return size - int(round(100 * scheme(name).pruned) * size // 100)


def stored_bytes(name: str, outputs: int, inputs: int) -> int:
    """Bytes of the weights of an (outputs, inputs) layer as the scheme stores them: values, scales, indices, masks.

    Parameters
    ----------
    name : a scheme of this module.
    outputs, inputs : the sizes, in [1, 2**24]; inputs a multiple of the group of a grouped scheme, of 4 for 2:4.

    Raises
    ------
    TypeError, ValueError : an unknown scheme, or sizes it cannot store.

    Examples
    --------
    >>> [stored_bytes(s, 576, 576) for s in ("fp32", "int8", "int4-weight", "csr-50")]
    [1327104, 334080, 186624, 1329412]
    """
    kind = scheme(name)
    outputs, inputs = _size(outputs, "outputs"), _size(inputs, "inputs")
    size = outputs * inputs
    if name.startswith("int4"):
        group = group_of(name)
        if inputs % group:
            raise ValueError(f"inputs is {inputs}: {name} needs a multiple of its group, {group}")
        return size // 2 + 4 * size // group
    if name.startswith("2:4"):
        if inputs % 4:
            raise ValueError(f"inputs is {inputs}: 2:4 needs a multiple of 4")
    if name.startswith("2:4") and name != "2:4-csr":
        return size + size // 8 if name == "2:4-bf16" else size // 2 + size // 8 + 4 * outputs
    if kind.pruned:
        return 8 * kept_weights(name, outputs, inputs) + 4 * (outputs + 1)
    if kind.name.startswith(("fp32", "bf16")):
        return size * (4 if kind.name.startswith("fp32") else 2)
    return size + outputs * (2 if name == "int8-weight" else 4)


def group_of(name: str) -> int:
    """Inputs that share a scale in a grouped scheme."""
    return 32 if scheme(name).name.endswith("-32") else 64


def operations(name: str, outputs: int, inputs: int, batch: int) -> int:
    """Multiplications and additions that the scheme cannot avoid: 2 · (weights kept) · batch."""
    return 2 * kept_weights(name, outputs, inputs) * _size(batch, "batch")


def moved_bytes(name: str, outputs: int, inputs: int, batch: int) -> int:
    """Bytes that must cross the memory bus once: the stored weights, and float32 (or bfloat16) inputs and outputs."""
    name, batch = scheme(name).name, _size(batch, "batch")
    halves = name.startswith(("bf16", "fp8", "int4")) or name in ("int8-weight", "2:4-bf16", "2:4-fp8")
    value = 2 if halves else 4
    return stored_bytes(name, outputs, inputs) + value * batch * (int(outputs) + int(inputs))


def roofline(moved: float, work: float, bandwidth: float, peak: float) -> float:
    """Seconds below which no kernel can come: max(bytes / bandwidth, operations / peak).

    Williams, Waterman and Patterson 2009. `peak` is that of the arithmetic the kernel uses.

    >>> roofline(1e9, 1e9, bandwidth=2e10, peak=1e11)
    0.05
    """
    moved, work = arguments.real(moved, "moved", 0), arguments.real(work, "work", 0)
    bandwidth = arguments.real(bandwidth, "bandwidth", 0, open_low=True)
    peak = arguments.real(peak, "peak", 0, open_low=True)
    return max(moved / bandwidth, work / peak)


def _size(value: int, name: str) -> int:
    return arguments.integer(value, name, 1, LARGEST)
