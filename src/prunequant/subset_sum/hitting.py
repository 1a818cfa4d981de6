"""Hitting times: how many random samples until a target, or every target, is a subset sum.

The first prefix of one long random sample that succeeds; its distribution function over trials is the whole curve
"success probability against number of samples" in one pass. The points of one such curve come from the same trials:
each has the right law, but they are not independent of one another.
"""

import math

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import choice, integer, shown
from prunequant.threads import run_rows

from . import _kernels_hitting as kernels
from ._validate import MAX_SUM, MAX_TABLE_BYTES, MAX_VALUE

MAX_SAMPLES = 2**16
MAX_TRIALS = 2**27  # their times fill 1 GiB
SAMPLERS = {"signed": kernels.SIGNED, "positive": kernels.POSITIVE, "product": kernels.PRODUCT}


def hitting_times(
    n_max: int,
    bound: int,
    targets: str | int | tuple[int, int],
    trials: int,
    seed: int,
    sampler: str = "signed",
    trial_offset: int = 0,
) -> NDArray[np.int64]:
    """For each random trial the number of samples in the first prefix that reaches its targets.

    Parameters
    ----------
    n_max : int in [0, 2**16] — samples drawn at most; a trial that needs more gives n_max + 1
    bound : int in [1, 2**40] — M, the largest magnitude of a sample; n_max·M up to about 2**32
    targets : "all", every allowed t; "random", one allowed t != 0 a trial, uniform; an int, that t in every trial;
        or a pair (low, high), every allowed t of that window
    trials : int in [0, 2**27] — each takes the time below: run many as shards
    seed : int in [0, 2**64 - 1]
    sampler : "signed", uniform on {-M..M}, allowed t: |t| <= M; "positive", uniform on {1..M}, allowed t: 1..M;
        "product", a·b with a uniform on {1..K}, b on {-K..K}, K² = M, allowed t: the multiples of K with |t| <= M
    trial_offset : int in [0, 2**62] — the number of the first trial: shards of a sweep share a seed and count no
        trial twice

    Returns
    -------
    (trials,) int64

    Raises
    ------
    TypeError, ValueError : an argument outside the above; a bit set of n_max·M sums that passes `MAX_TABLE_BYTES`

    Notes
    -----
    Trial i is a function of (seed, trial_offset + i) alone, whatever the number of threads. O(n·M·k/128) word
    operations for k samples. Kumar & Natale 2025, Lemma 4, which bounds P(time > n).

    Examples
    --------
    >>> times = hitting_times(40, 256, "random", 2000, seed=1)
    >>> shard = hitting_times(40, 256, "random", 1000, seed=1, trial_offset=1000)
    >>> int(np.median(times)), bool((times[1000:] == shard).all())
    (10, True)
    """
    n_max, bound = integer(n_max, "n_max", 0, MAX_SAMPLES), integer(bound, "bound", 1, MAX_VALUE)
    trials, seed = integer(trials, "trials", 0, MAX_TRIALS), integer(seed, "seed", 0, 2**64 - 1)
    offset = integer(trial_offset, "trial_offset", 0, MAX_SUM)
    sampler = choice(sampler, "sampler", SAMPLERS)
    if 2 * (n_max * bound // 64 + 2) * 8 > MAX_TABLE_BYTES:
        raise ValueError(f"n_max {n_max} samples up to {bound}: their sums need more than {MAX_TABLE_BYTES} bytes")
    root = math.isqrt(bound)
    if sampler == "product" and root * root != bound:
        raise ValueError(f"bound is {bound}: the sampler 'product' needs a square, K² for factors up to K")
    step = root if sampler == "product" else 1
    low, high = (1 if sampler == "positive" else -bound), bound
    random_target = False
    if isinstance(targets, str):
        if targets not in ("all", "random"):
            raise ValueError(
                f"targets is {shown(targets)}: it must be 'all', 'random', an integer or a pair (low, high)"
            )
        random_target = targets == "random"
    elif isinstance(targets, tuple):
        if len(targets) != 2:
            raise ValueError(f"targets is {shown(targets)}: a window is a pair (low, high)")
        low, high = (integer(t, f"targets[{i}]") for i, t in enumerate(targets))
        low, high = -(-low // step) * step, high // step * step
        if low > high:
            raise ValueError(f"targets is {shown(targets)}: the window holds no multiple of {step}")
    else:
        low = high = integer(targets, "targets")
        step = 1
    out = np.empty(trials, dtype=np.int64)
    if max(abs(low), abs(high)) > n_max * bound and not random_target:  # out of reach of every sum
        out[:] = n_max + 1
        return out
    code = SAMPLERS[sampler]
    run_rows(
        lambda start, stop: kernels.hitting_rows(
            n_max, code, bound, root, low, high, step, random_target, np.uint64(seed), offset, out, start, stop
        ),
        trials,
        8,
    )
    return out
