"""Closed forms of the distortion of single laws, each written on its own: the oracles of `prunequant.distortion`.

Notation: c the sparsity, φ and Φ the normal density and distribution, b the bits. After Kuzmin et al. 2023.
"""

from __future__ import annotations

import math

import numpy as np
import scipy  # its parts are loaded where they are used

from prunequant import arguments

from .laws import half_line, probabilities


def _shares(sparsity) -> np.ndarray:
    shares = probabilities(sparsity, "sparsity")
    if np.any(shares == 1):
        raise ValueError("sparsity holds 1: it must lie in [0, 1)")
    return shares


def gaussian_pruning_error(sparsity):
    """E x² 1{|x| < t} = c − 2 t φ(t), t = Φ⁻¹((1 + c)/2), for N(0, 1).

    >>> round(float(gaussian_pruning_error(0.75)), 7)
    0.276393
    """
    sparsity = _shares(sparsity)
    t = scipy.special.ndtri((1 + sparsity) / 2)
    density = np.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)
    return sparsity - 2 * t * density


def gaussian_quantization_error(scale: float, low: int, high: int) -> float:
    """E (x − s q)² for N(0, 1) rounded to s·{low … high}, cell by cell.

    A cell [a, b] of level c = s k gives (1 + c²)(Φ(b) − Φ(a)) − [(x − 2c) φ(x)]_a^b; the outer cells reach to infinity.

    >>> round(-10 * math.log10(gaussian_quantization_error(0.33861, -8, 7)), 3)
    19.258
    """
    scale = arguments.real(scale, "scale", 1e-90, 1e90)
    low = arguments.integer(low, "low", -(1 << 16), 1 << 16)
    high = arguments.integer(high, "high", low, 1 << 16)
    k = np.arange(low, high + 1)
    edges = np.concatenate(([-np.inf], scale * (k[:-1] + 0.5), [np.inf]))
    c = scale * k
    density = np.exp(-0.5 * edges**2) / math.sqrt(2 * math.pi)
    x = np.where(np.isfinite(edges), edges, 0.0)
    upper, lower = (x[1:] - 2 * c) * density[1:], (x[:-1] - 2 * c) * density[:-1]
    return float(np.sum((1 + c**2) * np.diff(scipy.special.ndtr(edges)) - upper + lower))


def laplace_pruning_error(sparsity):
    """2 − e^(−τ) (τ² + 2τ + 2), τ = −ln(1 − c), for density e^(−|x|)/2."""
    tau = -np.log1p(-_shares(sparsity))
    return 2 - np.exp(-tau) * (tau**2 + 2 * tau + 2)


def uniform_pruning_error(sparsity):
    """c³/3 on [−1, 1]: the signal-to-noise ratio is −30 log10 c."""
    return _shares(sparsity) ** 3 / 3


def student_inner_second(nu: float, t):
    """∫_0^t x² f_ν for the untruncated Student law, by parts; elementary at ν = 1 and 2.

    The general form cancels near ν = 1 and 2 and for small t: use it away from them (it is an oracle, not the engine).
    """
    nu, t = arguments.real(nu, "nu", 0.1, 1e3), half_line(t)
    if np.any(np.isinf(t)):
        raise ValueError("t holds infinity: it must be finite")
    if nu == 1:
        return (t - np.arctan(t)) / math.pi
    if nu == 2:
        return np.arcsinh(t / math.sqrt(2)) - t / np.sqrt(2 + t * t)
    peak = math.exp(math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)) / math.sqrt(nu * math.pi)
    density = peak * (1 + t * t / nu) ** (-(nu + 1) / 2)
    mass = scipy.special.stdtr(nu, t) - 0.5
    return nu / (nu - 2) * (mass - t * (1 + t * t / nu) * density)


def high_rate_error(scale: float) -> float:
    """s²/12, the rounding error of a fine uniform grid on a smooth law."""
    return arguments.real(scale, "scale", 1e-90, 1e90) ** 2 / 12


def uniform_quantization_snr(bits: int, grid: str = "mid_rise") -> float:
    """Best signal-to-noise ratio in dB on [−1, 1] of a symmetric grid with L levels: 20 log10 L (equal cells).

    L is 2^b for "mid_rise" and 2^b − 1 for "narrow".
    """
    bits = arguments.integer(bits, "bits", 2, 16)
    levels = 2**bits - (arguments.choice(grid, "grid", ("mid_rise", "narrow")) == "narrow")
    return 20 * math.log10(levels)


def two_level_gaussian_error() -> float:
    """1 − 2/π: the best one-bit quantizer of N(0, 1) (Max 1960)."""
    return 1 - 2 / math.pi
