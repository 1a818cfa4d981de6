"""The same triangular rounding in torch, for tensors that live on an accelerator.

Same operators, same counter-based draws (Philox4x32-10 written in 64-bit integer arithmetic), same block structure:
the result differs from the compiled kernel only through the rounding of the matrix products, which may flip a choice
that lies within 1e-7 of its threshold. Runs on any device, also on the CPU, where it is tested.
"""

from __future__ import annotations

import numpy as np
import torch

from . import _kernels
from .checks import check_output
from .layer import Layer, Rounding
from .result import Result
from .tensors import rounded_to

_M0, _M1, _W0, _W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF


def _product(a: int, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of a·b, both of 32 bits, without leaving int64."""
    low = a * (b & 0xFFFF)
    high = a * (b >> 16) + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def philox_uniforms(neurons: int, steps: torch.Tensor, stream: int, seed: int) -> torch.Tensor:
    """(len(steps), neurons) float32: the draws of the compiled kernel for these steps."""
    groups = torch.arange((neurons + 3) // 4, device=steps.device, dtype=torch.int64)
    c0, c1 = (t.clone() for t in torch.broadcast_tensors(groups[None, :], steps.to(torch.int64)[:, None]))
    c2, c3 = torch.full_like(c0, stream), torch.zeros_like(c0)
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(10):
        high0, low0 = _product(_M0, c0)
        high1, low1 = _product(_M1, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    words = torch.stack([c0, c1, c2, c3], -1).flatten(1)[:, :neurons]
    return (words >> 8).to(torch.float32) * 2.0**-24


def round_row(kind, stochastic, v, draws, first, second, levels):
    """(T(v), clipped) for one row, as `_kernels.round_row`."""
    clipped = torch.zeros_like(v, dtype=torch.bool)
    if kind == _kernels.GRID:
        z = v / first
        low = torch.floor(z)
        return first * (low + (draws < z - low) if stochastic else torch.round(z)), clipped
    if kind == _kernels.FINITE:
        offset = 0.5 if levels % 2 == 0 else 0.0
        bottom, top, slack = -(levels // 2), (levels - 1) // 2, 0.0 if stochastic else 0.5
        z = v / first - offset
        clipped = (z < bottom - slack) | (z > top + slack)
        low = torch.floor(z)
        k = low + (draws < z - low) if stochastic else torch.round(z)
        return first * (k.clamp(bottom, top) + offset), clipped
    if kind == _kernels.PRUNE:
        size, drawn = v.abs(), torch.zeros_like(v)
        if stochastic:
            place = draws * ((1 + second) * 0.5 * first)
            survivor = torch.copysign(first * (second + (1 - second) * (place / size)), v)
            drawn = torch.where(place < size, survivor, drawn)
        return torch.where(size < second * first, drawn, v), clipped
    z = v.abs() / first
    inside = z < second
    if stochastic:
        keep = torch.where(inside, z / second, torch.ones_like(z))
        target = torch.where(inside, second, z)
        low = torch.floor(target)
        k = torch.where(draws < keep, low + (draws < keep * (target - low)), torch.zeros_like(z))
    else:
        k = torch.where(inside, torch.zeros_like(z), torch.round(z))
    return torch.where(k != 0, torch.copysign(first * k, v), torch.zeros_like(z)), clipped


def _factor(x, feedback, scaling, damping):
    """(factor, gain) on the device; see `gram.feedback_factor`."""
    features = x.shape[1]
    if feedback == "none":
        return None, x.new_zeros(features)
    size = x.abs().max()
    scale = torch.where(size > 0, 2.0 ** -torch.round(torch.log2(size)).clamp_min(-1000), torch.ones_like(size))
    x = x * scale
    g = x.T @ x
    diagonal = g.diagonal()
    if feedback == "optq":
        h = g.double()
        d = h.diagonal()
        ridge = damping * d.mean().clamp_min(torch.finfo(h.dtype).tiny)
        h = h + torch.diag(torch.where(d > 0, ridge, ridge.clamp_min(1.0)))
        lower, fault = torch.linalg.cholesky_ex(h.flip(0, 1))
        pivots = lower.diagonal().flip(0) ** 2
        if int(fault) or bool((pivots <= features * torch.finfo(h.dtype).eps * h.diagonal()).any()):
            raise ValueError("inputs are singular and damping is too small: raise damping, or use feedback='path'")
        lower = (lower / lower.diagonal()).T.flip(0, 1)
        return lower.to(x.dtype), x.new_full((features,), 1 / scaling)
    eps = torch.finfo(x.dtype).eps
    live = diagonal > eps * eps * diagonal.max()
    return g, torch.where(live, 1 / (scaling * (torch.where(live, diagonal, 1.0) + damping * diagonal.mean())), 0.0)


def _align(w, x, y, order, damping):
    """See `gram.align`; float64 on the device."""
    if order == 0:
        return w.double()
    w, x, y = w.double(), x.double(), y.double()
    if order == "least-squares" and damping == 0:
        return w + torch.linalg.pinv(y) @ ((x - y) @ w)
    h, b = y.T @ y, y.T @ x
    diagonal = h.diagonal().clone()
    h.diagonal().add_(damping * diagonal.mean())
    b.diagonal().add_(damping * diagonal.mean())
    if order == "least-squares":
        return w + torch.linalg.pinv(h, hermitian=True) @ ((b - h) @ w)
    eps = torch.finfo(h.dtype).eps
    dead = diagonal <= eps * eps * diagonal.max()
    h[dead] = 0
    h[:, dead] = 0
    h[dead, dead] = 1
    target, aligned = b @ w, b.tril() @ w
    target[dead] = aligned[dead] = w[dead]
    aligned = torch.linalg.solve_triangular(h.tril(), aligned, upper=False)
    for _ in range(order - 1):
        aligned = torch.linalg.solve_triangular(h.tril(), target - h.triu(1) @ aligned, upper=False)
    return aligned


def compress_tensors(layer: Layer, rounding: Rounding, sizes) -> Result:
    """`compress` on the device of the weights as given; `sizes` are those of the rounding for this layer."""
    given: torch.Tensor = layer.given
    rule = layer.rule
    seed, stream, device = rounding.seed, rounding.stream, given.device
    start = torch.from_numpy(np.ascontiguousarray(layer.weights)).to(device)
    inputs = torch.from_numpy(np.array(layer.inputs)).to(device)
    aligned = None
    if layer.quantized_inputs is not None:
        changed = torch.from_numpy(np.array(layer.quantized_inputs)).to(device)
        aligned = _align(start, inputs, changed, layer.passes, rule.damping)
        start, inputs = aligned.to(start.dtype), changed
    factor, gain = _factor(inputs, rule.feedback, rule.scaling, rule.damping)
    kind, stochastic, first, second, levels = sizes
    first, second = torch.from_numpy(first.copy()).to(device), torch.from_numpy(second.copy()).to(device)
    features, neurons = start.shape
    out, errors = torch.empty_like(start), torch.zeros_like(start)
    clipped = torch.zeros(neurons, dtype=torch.int64, device=device)
    for top in range(0, features, _kernels.BLOCK):
        rows = min(_kernels.BLOCK, features - top)
        steps = torch.arange(top, top + rows, device=device)
        draws = philox_uniforms(neurons, steps, stream, seed) if stochastic else torch.zeros(rows, 1, device=device)
        block = None if factor is None else factor[top : top + rows, :top] @ errors[:top]
        for r in range(rows):
            t = top + r
            v = start[t]
            if block is not None:
                v = v + gain[t] * (block[r] + factor[t, top:t] @ errors[top:t])
            out[t], outside = round_row(kind, stochastic, v, draws[r], first, second, levels)
            errors[t] = start[t] - out[t]
            clipped += outside
    values = out.cpu().numpy()
    check_output(values)
    half = layer.half
    rounded_to(values, half)  # refuses what the dtype does not hold
    return Result(
        weights=out if half is None else out.to(given.dtype),
        saturation=clipped.double() / features,
        operator=rounding.operator,
        failure=rounding.failure,
        layer=layer,
        aligned=None if aligned is None else aligned.cpu().numpy(),
        exact=None if half is None else values,
    )
