"""The kernels behind `linear_schemes`: torch's own, and SciPy's, each on weights stored as it reads them.

`prepare` turns a float32 matrix into a `Kernel`, or raises `Unavailable` with the reason in one line: a scheme that a
device or a build of torch does not offer is a finding, not a crash. Each kernel knows the matrix it represents and what
exact arithmetic would make of its stored numbers, so that a speed never stands without an error beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from prunequant.arguments import instance, integer
from prunequant.timing.codes import four_bit_codes, magnitude_mask, row_codes, two_of_four, two_of_four_mask
from prunequant.timing.schemes import group_of, scheme, stored_bytes

FLOAT8 = torch.float8_e4m3fn
LARGEST_BATCH = 1 << 16
PAD = 32  # rows to which CUDA's int8 and fp8 products of few rows are padded


class Unavailable(RuntimeError):
    """This scheme does not run here; the message says why."""

    def __init__(self, why: object) -> None:
        text = " ".join(str(why).split())
        super().__init__(text if len(text) <= 160 else text[:157] + "...")


@dataclass(frozen=True)
class Kernel:
    """Stored weights and the product with them.

    Attributes
    ----------
    name : the scheme.
    run : inputs (batch, k) of type `dtype`, or (k, batch) if `transposed`, → outputs, in the same layout.
    weights : (n, k) float32 — the matrix that the stored numbers stand for.
    stored : every tensor that `run` reads, by what it is.
    exact : inputs (batch, k) → (batch, n) float64, exact arithmetic on the stored numbers and quantized inputs.
    """

    name: str
    run: Callable[[Tensor], Tensor]
    weights: Tensor
    stored: dict[str, Tensor]
    dtype: torch.dtype = torch.float32
    transposed: bool = False
    exact: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)

    @property
    def bytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(t.numel() * t.element_size() for t in self.stored.values())

    def inputs(self, x: Tensor) -> Tensor:
        """(batch, k) float32 in the type and layout that `run` reads."""
        instance(x, "x", Tensor, "a tensor (batch, inputs)")
        if x.dim() != 2 or x.shape[1] != self.weights.shape[1] or not len(x) or not x.is_floating_point():
            wanted = f"(batch, {self.weights.shape[1]}) floats"
            raise ValueError(f"x is {tuple(x.shape)} {x.dtype}: it must be {wanted}")
        x = x.to(self.dtype)
        if not self.transposed:
            return x.contiguous()
        return x[0].contiguous() if len(x) == 1 else x.t().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """(batch, k) → (batch, n) float32, whatever `run` wants."""
        y = self.run(self.inputs(x)).float()
        return y if not self.transposed else y[None] if y.ndim == 1 else y.t()

    def error(self, x: Tensor, rows: int = 64) -> float:
        """‖y − exact‖/‖exact‖ over the first rows of a batch: what the arithmetic of the kernel adds."""
        self.inputs(x)
        rows = integer(rows, "rows", 1)
        sample = x if self.name == "int8-fbgemm" else x[:rows]  # its inputs share one scale, which all of them decide
        exact = (self.exact or self._product)(sample)[:rows]
        return float((self(x)[:rows].double() - exact).norm() / exact.norm())

    def _product(self, x: Tensor) -> Tensor:
        return x.to(self.dtype).double() @ self.weights.double().t()


def prepare(name: str, weight: Tensor, batch: int = 1) -> Kernel:
    """Store a matrix as a scheme does.

    Parameters
    ----------
    name : a scheme of `linear_schemes`.
    weight : (n, k) float32, on the device where it will be multiplied.
    batch : the batch it is packed for, in [1, 65536], where packing depends on it.

    Raises
    ------
    Unavailable : the device, the build of torch or the shape does not allow it; the message says why.
    ValueError : an unknown scheme.
    """
    scheme(name)
    instance(weight, "weight", Tensor, "an (outputs, inputs) float32 matrix")
    batch = integer(batch, "batch", 1, LARGEST_BATCH)
    if weight.ndim != 2 or weight.dtype != torch.float32:
        raise ValueError(f"weight is {tuple(weight.shape)} {weight.dtype}: give an (outputs, inputs) float32 matrix")
    try:
        stored_bytes(name, *weight.shape)
        family = name.split("-")[0]
        if name in ("fp32-packed", "bf16-packed"):
            family = "packed"
        elif name in ("int8-fbgemm", "int8-weight", "2:4-int8", "2:4-fp8", "2:4-bf16", "2:4-csr"):
            family = name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse and quantized tensors unfinished
            kernel = _PREPARE[family](name, weight.detach(), batch)
            kernel(torch.zeros(batch, weight.shape[1], device=weight.device))  # what fails must fail here
    except Unavailable:
        raise
    except Exception as error:  # each missing kernel fails in its own way; the reason goes into the record
        text = str(error)
        raise Unavailable(text if len(text.split()) > 2 else f"{type(error).__name__}: {text}") from error
    return kernel


def _fp32(name, weight, batch):
    return Kernel(name, lambda x: F.linear(x, weight), weight, {"values": weight})


def _bf16(name, weight, batch):
    rounded = weight.bfloat16()
    return Kernel(name, lambda x: F.linear(x, rounded), rounded.float(), {"values": rounded}, torch.bfloat16)


def _packed(name, weight, batch):
    if weight.is_cuda:
        raise Unavailable("packed weights are oneDNN's, for CPUs; CUDA's dense product packs nothing")
    stored = weight.bfloat16() if name == "bf16-packed" else weight
    packed = torch.ops.mkldnn._reorder_linear_weight(stored, batch)
    return Kernel(
        name,
        lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], ""),
        stored.float(),
        {"values (packed)": stored},
        stored.dtype,
    )


def _padded(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 0, PAD - len(x))) if x.is_cuda and len(x) < PAD else x


def _int8(name, weight, batch):
    codes, scale = row_codes(weight, 127)
    stored, scale = codes.round().to(torch.int8), scale.flatten()
    turned = stored.t()

    def run(x):
        step = x.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
        product = torch._int_mm(_padded((x / step).round_().to(torch.int8)), turned)
        return product[: len(x)].float().mul_(step).mul_(scale)

    def exact(x):
        step = x.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
        return ((x / step).round().double() @ stored.double().t()) * step.double() * scale.double()

    return Kernel(name, run, stored * scale[:, None], {"values": stored, "scales": scale}, exact=exact)


def _int8_fbgemm(name, weight, batch):
    if weight.is_cuda:
        raise Unavailable("torch's quantized linear layer runs on CPUs only")
    scale = row_codes(weight, 127)[1].flatten()
    zeros = torch.zeros(len(weight), dtype=torch.long)
    quantized = torch.quantize_per_channel(weight, scale.double(), zeros, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(quantized, None)
    values = quantized.dequantize()

    def exact(x):
        step, zero = torch._choose_qparams_per_tensor(x, True)
        taken = torch.quantize_per_tensor(x, float(step), int(zero), torch.quint8).dequantize()
        return taken.double() @ values.double().t()

    stored = {"values (packed)": quantized.int_repr(), "scales": scale}
    return Kernel(
        name,
        lambda x: torch.ops.quantized.linear_dynamic(x, packed, reduce_range=True),
        values,
        stored,
        exact=exact,
    )


def _int8_weight(name, weight, batch):
    scale = row_codes(weight, 127)[1].bfloat16()
    stored = (weight / scale.float()).round().clamp(-127, 127).to(torch.int8)
    scale = scale.flatten()
    values = stored * scale.float()[:, None]
    return Kernel(
        name,
        lambda x: torch._weight_int8pack_mm(x, stored, scale),
        values,
        {"values": stored, "scales": scale},
        torch.bfloat16,
    )


def _int4(name, weight, batch):
    group = group_of(name)
    codes, pairs, values = four_bit_codes(weight, group)
    if weight.is_cuda:
        tiles = next((t for t in (8, 4, 2) if weight.shape[1] % (16 * t) == 0), None)
        if tiles is None or weight.shape[0] % 8:
            raise Unavailable(f"shape {tuple(weight.shape)}: CUDA's int4 product needs k % 32 = 0 and n % 8 = 0")
        packed = torch._convert_weight_to_int4pack((codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8), tiles)
        product = torch._weight_int4pack_mm
    else:
        packed = torch._convert_weight_to_int4pack_for_cpu(codes, 1)
        product = torch._weight_int4pack_mm_for_cpu
    return Kernel(
        name,
        lambda x: product(x, packed, group, pairs),
        values,
        {"values": packed, "scales and offsets": pairs},
        torch.bfloat16,
    )


def _fp8(name, weight, batch):
    codes, scale = row_codes(weight, 448)
    stored, turned = codes.to(FLOAT8), scale.t().contiguous()
    run, exact = _fp8_product(lambda x, step: torch._scaled_mm(x, stored.t(), step, turned, out_dtype=torch.bfloat16))
    values = stored.float() * scale
    return Kernel(name, run, values, {"values": stored, "scales": scale}, torch.bfloat16, exact=exact(values))


def _fp8_product(product):
    """Quantize inputs by row to e4m3, then multiply; and the same in exact arithmetic, given the values."""

    def taken(x):
        step = x.float().abs().amax(1, keepdim=True).clamp_min(1e-30) / 448
        return (x.float() / step).to(FLOAT8), step

    def run(x):
        codes, step = taken(_padded(x))
        return product(codes, step)[: len(x)]

    def exact(values):
        def of(x):
            codes, step = taken(x.bfloat16())
            return (codes.float().double() * step.double()) @ values.double().t()

        return of

    return run, exact


def _two_four_bf16(name, weight, batch):
    if not weight.is_cuda:
        raise Unavailable("2:4 products are made for CUDA only")
    pruned = two_of_four(weight).bfloat16()
    packed = torch.sparse.to_sparse_semi_structured(pruned)
    stored = {k: v for k in ("packed", "meta") if (v := getattr(packed, k, None)) is not None}
    return Kernel(name, lambda x: F.linear(x, packed), pruned.float(), stored, torch.bfloat16)


def _two_four_int8(name, weight, batch):
    if not weight.is_cuda:
        raise Unavailable("2:4 products are made for CUDA only")
    codes, scale = row_codes(two_of_four(weight), 127)
    stored, scale = codes.round().to(torch.int8), scale.flatten()
    packed = torch._cslt_compress(stored)

    def run(x):
        step = x.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
        taken = _padded((x / step).round_().to(torch.int8))
        product = torch._cslt_sparse_mm(packed, taken.t(), out_dtype=torch.int32).t()
        return product[: len(x)].float().mul_(step).mul_(scale)

    def exact(x):
        step = x.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
        return ((x / step).round().double() @ stored.double().t()) * step.double() * scale.double()

    return Kernel(name, run, stored * scale[:, None], {"packed": packed, "scales": scale}, exact=exact)


def _two_four_fp8(name, weight, batch):
    if not weight.is_cuda:
        raise Unavailable("2:4 products are made for CUDA only")
    from torchao.ops import rowwise_scaled_linear_sparse_cutlass_f8f8, to_sparse_semi_structured_cutlass_sm9x_f8

    codes, scale = row_codes(two_of_four(weight), 448)
    values = codes.to(FLOAT8).float() * scale
    packed, meta = to_sparse_semi_structured_cutlass_sm9x_f8(codes.to(FLOAT8))
    flat = scale.flatten()

    def product(x, step):
        return rowwise_scaled_linear_sparse_cutlass_f8f8(
            x, step.flatten(), packed, meta, flat, out_dtype=torch.bfloat16
        )

    run, exact = _fp8_product(product)
    stored = {"packed": packed, "places": meta, "scales": flat}
    return Kernel(name, run, values, stored, torch.bfloat16, exact=exact(values))


def _sparse(name, weight):
    """The pruned matrix, and its CSR arrays by name with 32-bit indices."""
    mask = two_of_four_mask(weight) if name == "2:4-csr" else magnitude_mask(weight, name)
    values = weight * mask
    columns = mask.nonzero()[:, 1].int()
    starts = torch.zeros(len(values) + 1, dtype=torch.int32, device=weight.device)
    starts[1:] = mask.sum(1).cumsum(0)
    return values, {"values": weight[mask], "columns": columns, "starts": starts}


def _csr(name, weight, batch):
    values, stored = _sparse(name, weight)
    matrix = torch.sparse_csr_tensor(stored["starts"], stored["columns"], stored["values"], size=values.shape)
    return Kernel(name, lambda x: matrix @ x, values, stored, transposed=True)


def _scipy(name, weight, batch):
    if weight.is_cuda:
        raise Unavailable("SciPy multiplies on CPUs only")
    from scipy.sparse import csr_array

    values, stored = _sparse(name, weight)
    matrix = csr_array(tuple(stored[k].numpy() for k in ("values", "columns", "starts")), shape=tuple(values.shape))
    return Kernel(name, lambda x: torch.from_numpy(matrix @ x.numpy()), values, stored, transposed=True)


_PREPARE = {
    "fp32": _fp32,
    "bf16": _bf16,
    "packed": _packed,
    "int8": _int8,
    "int8-fbgemm": _int8_fbgemm,
    "int8-weight": _int8_weight,
    "int4": _int4,
    "fp8": _fp8,
    "2:4-bf16": _two_four_bf16,
    "2:4-int8": _two_four_int8,
    "2:4-fp8": _two_four_fp8,
    "2:4-csr": _csr,
    "csr": _csr,
    "scipy": _scipy,
}
