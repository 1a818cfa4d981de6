"""Slow and obvious twins of prunequant.path_following: the recursions as the papers' own codes write them."""

import math

import numpy as np


def philox(counter, key):
    """Philox4x32-10 on Python integers (Salmon et al. 2011): four 32-bit words."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c3 ^ k1, a & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def draw(neuron, step, seed=0, stream=0):
    """The uniform that one weight uses."""
    words = philox((neuron // 4, step, stream, 0), (seed & 0xFFFFFFFF, seed >> 32))
    return (words[neuron % 4] >> 8) / 2**24


def grid(x, u, step, stochastic=True):
    if not stochastic:
        return step * float(np.rint(x / step))
    low = math.floor(x / step)
    return step * (low + (1 if u < x / step - low else 0))


def finite_grid(x, u, step, levels, stochastic=True):
    values = [(k - (levels - 1) / 2) * step for k in range(levels)]
    if x <= values[0]:
        return values[0]
    if x >= values[-1]:
        return values[-1]
    if not stochastic:
        return values[int(np.rint(x / step - (levels % 2 == 0) / 2)) + levels // 2]
    below = max(v for v in values if v <= x)
    return below + step if u < (x - below) / step else below


def one_bit(x, u, size, stochastic=True):
    if not stochastic:
        return size if x >= 0 else -size
    return size if u < (1 + x / size) / 2 else -size


def prune(x, u, size, stochastic=True, c=1.0):
    """With probability 2|x|/((c+1)K) a survivor, uniform in [cK, K]; given that it survives, u is uniform again."""
    if abs(x) >= c * size:
        return x
    if not stochastic:
        return 0.0
    place = u * ((1 + c) / 2 * size)
    return math.copysign(size * (c + (1 - c) * (place / abs(x))), x) if place < abs(x) else 0.0


def prune_then_quantize(x, u, size, step, stochastic=True):
    """Two draws would do; one is cut in three: first kept or not, then up or down."""
    if not stochastic:
        return 0.0 if abs(x) < size else math.copysign(step * float(np.rint(abs(x) / step)), x)
    keep, target = (abs(x) / size, size / step) if abs(x) < size else (1.0, abs(x) / step)
    if u >= keep:
        return 0.0
    low = math.floor(target)
    return math.copysign(step * (low + (1 if u < keep * (target - low) else 0)), x)


def follow(weights, inputs, rounding, scaling=1.0, seed=0, stream=0):
    """The walk itself: v = w + ⟨X_t, u⟩/(C‖X_t‖²), q = T(v), u += (w − q) X_t; returns (values, final u)."""
    features, neurons = weights.shape
    out, walks = np.zeros((features, neurons)), np.zeros((len(inputs), neurons))
    for n in range(neurons):
        u = np.zeros(len(inputs))
        for t in range(features):
            column = inputs[:, t]
            norm = column @ column
            v = weights[t, n] + (column @ u / (scaling * norm) if norm > 0 else 0.0)
            out[t, n] = rounding(v, draw(n, t, seed, stream))
            u = u + (weights[t, n] - out[t, n]) * column
        walks[:, n] = u
    return out, walks


def align(weights, inputs, changed, order):
    """SPFQ's first phase: `order` passes of rank-one updates."""
    features, neurons = weights.shape
    aligned = np.zeros((features, neurons))
    u = np.zeros((len(inputs), neurons))
    for t in range(features):
        u += np.outer(inputs[:, t], weights[t])
        aligned[t] = changed[:, t] @ u / (changed[:, t] @ changed[:, t])
        u -= np.outer(changed[:, t], aligned[t])
    for _ in range(order - 1):
        for t in range(features):
            u += np.outer(changed[:, t], aligned[t])
            aligned[t] = changed[:, t] @ u / (changed[:, t] @ changed[:, t])
            u -= np.outer(changed[:, t], aligned[t])
    return aligned


def gpfq_changed(weights, inputs, changed, rounding):
    """GPFQ for changed inputs, one phase: q_t = Q(⟨X̃_t, u + w_t X_t⟩/‖X̃_t‖²)."""
    features, neurons = weights.shape
    out = np.zeros((features, neurons))
    for n in range(neurons):
        u = np.zeros(len(inputs))
        for t in range(features):
            u = u + weights[t, n] * inputs[:, t]
            out[t, n] = rounding(changed[:, t] @ u / (changed[:, t] @ changed[:, t]), 0.0)
            u = u - out[t, n] * changed[:, t]
    return out


def optq(weights, inputs, rounding, damping=0.01):
    """OPTQ as published: the upper Cholesky factor of the inverse Hessian, errors sent to all later features."""
    h = inputs.T @ inputs
    h = h + damping * np.mean(np.diag(h)) * np.eye(len(h))
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    w, out = weights.copy(), np.zeros_like(weights)
    for t in range(len(w)):
        for n in range(w.shape[1]):
            out[t, n] = rounding(w[t, n], draw(n, t))
        w[t + 1 :] -= np.outer(upper[t, t + 1 :], (w[t] - out[t]) / upper[t, t])
    return out


def path_energy_bound(weights, values, inputs, half_steps, damping, order):
    """Bounds on each neuron's squared output error, the error of the outputs handed on feature by feature."""
    ridge = damping * np.mean(np.sum(inputs**2, axis=0))
    bounds = []
    for w, q, half in zip(weights.T, values.T, half_steps.T):
        wrong, bound = np.zeros(len(inputs)), 0.0
        for t in order:
            x = inputs[:, t]
            energy = x @ x + ridge
            r = w[t] + (wrong @ x / energy if x.any() else 0) - q[t]
            bound += max(half[t], abs(r)) ** 2 * energy
            wrong = wrong + (w[t] - q[t]) * x
        bounds.append(bound)
    return np.array(bounds)


def patches(x, kernel, stride, padding, dilation, groups):
    """unfold with six loops."""
    (kh, kw), (sh, sw), (dh, dw) = kernel, stride, dilation
    (top, bottom), (left, right) = padding
    batch, channels, height, width = x.shape
    padded = np.zeros((batch, channels, height + top + bottom, width + left + right))
    padded[:, :, top : top + height, left : left + width] = x
    rows = (padded.shape[2] - (kh - 1) * dh - 1) // sh + 1
    columns = (padded.shape[3] - (kw - 1) * dw - 1) // sw + 1
    out = []
    for g in range(groups):
        lines = []
        for b in range(batch):
            for i in range(rows):
                for j in range(columns):
                    line = []
                    for c in range(g * channels // groups, (g + 1) * channels // groups):
                        for p in range(kh):
                            for q in range(kw):
                                line.append(padded[b, c, i * sh + p * dh, j * sw + q * dw])
                    lines.append(line)
        out.append(lines)
    return np.array(out)


def round_to_codes(weights, gram, scales, zeros, group, low, high, feedback, damping=0.01, mask=None, width=0, keep=0):
    """The weights changed after every step, as OPTQ's and SparseGPT's own codes do it; (values, mask).

    "optq" by inverses of what is left of the damped Gram matrix, "path" by the walk in the Gram matrix.
    """
    features, neurons = weights.shape
    h = np.array(gram, dtype=float)
    mean = np.mean(np.diagonal(h))
    for t in range(features):
        h[t, t] += damping * mean
    out, stays = np.zeros(weights.shape), np.ones(weights.shape, bool) if mask is None else np.array(mask)
    for n in range(neurons):
        w = weights[:, n].astype(float)

        def mended(t, n=n, w=w):
            if feedback == "optq":
                return w[t]
            pull = sum(gram[t, s] * (weights[s, n] - out[s, n]) for s in range(t))
            return weights[t, n] + pull / h[t, t] if gram[t, t] > 0 else weights[t, n]

        for t in range(features):
            inverse = np.linalg.inv(h[t:, t:])
            if width and t % width == 0:
                costs = []
                for i in range(t, min(t + width, features)):
                    costs.append(w[i] ** 2 / np.linalg.inv(h[i:, i:])[0, 0])
                for rank, i in enumerate(np.argsort(-np.array(costs), kind="stable")):
                    stays[t + i, n] = rank < keep
            v = mended(t)
            if not stays[t, n]:
                q = 0.0
            elif scales is None:
                q = v
            else:
                s, z = scales[group[t], n], zeros[group[t], n]
                q = s * (min(max(np.rint(v / s + z), low), high) - z)
            out[t, n] = q
            if feedback == "optq":
                w[t:] -= (v - q) / inverse[0, 0] * inverse[:, 0]
    return out, stays
