"""Which of several solutions no other beats in everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def nondominated(points: Mapping[str, Sequence[float]]) -> list[str]:
    """Names of the points that no other point beats: Pareto's set, smaller being better in every coordinate.

    Parameters
    ----------
    points : by name the costs, equally many for each. A point is dominated if another is no worse in every cost and
        better in at least one; equal points stay together.

    Raises
    ------
    ValueError : no points, costs of different lengths, or a cost that is not a number.

    Notes
    -----
    O(N²) comparisons.

    Examples
    --------
    >>> nondominated({"small": (1, 9), "fast": (9, 1), "worse": (2, 9), "even": (5, 5)})
    ['small', 'fast', 'even']
    """
    if not points:
        raise ValueError("points is empty: give at least one")
    if len({len(p) for p in points.values()}) != 1:
        raise ValueError(f"points have {sorted({len(p) for p in points.values()})} costs: all need equally many")
    names, costs = list(points), np.array([list(p) for p in points.values()], dtype=float)
    if np.isnan(costs).any():
        raise ValueError(f"{names[int(np.isnan(costs).any(1).argmax())]} has a cost that is not a number")
    no_worse = (costs[:, None] <= costs[None]).all(-1)
    better = (costs[:, None] < costs[None]).any(-1)
    return [name for name, beaten in zip(names, np.asarray((no_worse & better).any(0))) if not beaten]
