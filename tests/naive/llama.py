"""A Llama in plain NumPy, one token and one head at a time: slow and obvious."""

import numpy as np


def rotate(x, time, base):
    """Pairs of neighbours (x[2i], x[2i+1]) turned by time·base^(−2i/len)."""
    out = np.array(x, dtype=np.float64)
    for i in range(0, len(x), 2):
        angle = time * base ** (-i / len(x))
        out[i] = x[i] * np.cos(angle) - x[i + 1] * np.sin(angle)
        out[i + 1] = x[i] * np.sin(angle) + x[i + 1] * np.cos(angle)
    return out


def norm(x, w, epsilon):
    return x / np.sqrt(np.mean(x**2) + epsilon) * w


def logits(state, config, tokens):
    """(time, vocabulary) in float64 from a state dict of NumPy arrays."""
    c, w = config, {k: np.asarray(v, dtype=np.float64) for k, v in state.items()}
    x = [w["embedding.weight"][t] for t in tokens]
    for n in range(c.layers):
        here = {name.split(".")[2]: v for name, v in w.items() if name.startswith(f"blocks.{n}.")}
        keys, values, queries = [], [], []
        for t, h in enumerate(x):
            y = norm(h, here["norm_attention"], c.epsilon)
            queries.append([rotate(v, t, c.base) for v in (here["q"] @ y).reshape(c.heads, c.head)])
            keys.append([rotate(v, t, c.base) for v in (here["k"] @ y).reshape(c.kv_heads, c.head)])
            values.append((here["v"] @ y).reshape(c.kv_heads, c.head))
        for t in range(len(x)):
            mixed = []
            for h in range(c.heads):
                group = h // (c.heads // c.kv_heads)
                scores = np.array([queries[t][h] @ keys[u][group] / np.sqrt(c.head) for u in range(t + 1)])
                share = np.exp(scores - scores.max())
                share /= share.sum()
                mixed.append(sum(share[u] * values[u][group] for u in range(t + 1)))
            x[t] = x[t] + here["o"] @ np.concatenate(mixed)
            y = norm(x[t], here["norm_mlp"], c.epsilon)
            gate = here["gate"] @ y
            x[t] = x[t] + here["down"] @ (gate / (1 + np.exp(-gate)) * (here["up"] @ y))
    return np.array([w["embedding.weight"] @ norm(h, w["norm.weight"], c.epsilon) for h in x])
