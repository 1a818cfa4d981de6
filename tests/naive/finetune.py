"""Slow, obvious twins of the training tools, written from the papers' formulas."""

import numpy as np
import torch


def lsq_written_out(w, s, bits, factor):
    """Esser et al. 2020, eq. 1-3 through autograd: rounding passes gradients, the step's gradient is scaled."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    s = s * factor + (s - s * factor).detach()  # the value of s, the gradient times the factor
    t = torch.clamp(w / s, low, high)
    return (t + (torch.round(t) - t).detach()) * s


def lsq_gradients_one_by_one(w, s, upstream, bits, factor):
    """The gradients of weights and of one step, by the formula, one weight after another."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    weights, step = [], 0.0
    for value, g in zip(w, upstream):
        t = value / s
        if t <= low:
            slope, through = low, 0.0
        elif t >= high:
            slope, through = high, 0.0
        else:
            slope, through = round(t) - t, 1.0
        weights.append(g * through)
        step += g * slope
    return weights, step * factor


def linear_cka(x, y):
    """Through HSIC with explicit centring matrices (Kornblith et al. 2019, eq. 3)."""
    n = len(x)
    centre = np.eye(n) - np.ones((n, n)) / n

    def hsic(k, l):
        return np.trace(k @ centre @ l @ centre) / (n - 1) ** 2

    k, l = x @ x.T, y @ y.T
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def stored_bits(layers, others, value_bits):
    """layers: (count, bits, density, mask bits a weight, scales); others: count of plain numbers."""
    total = others * value_bits
    for count, bits, density, mask, scales in layers:
        total += count * density * bits + count * mask + 32 * scales
    return total
