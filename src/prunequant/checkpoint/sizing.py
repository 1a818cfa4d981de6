"""A plan for a file of a given size: what the file has beside its tensors is counted, to the byte.

The headers of a file name the scheme of every matrix, so that their size follows from the plan, and the room for the
matrices from their size. So a plan is made with the headers of the smallest one set aside, the writer of the file says
what its headers take, and if that is more, it is set aside and the plan is made again. What is set aside only grows,
and the schemes' names differ by a few letters: the second plan nearly always fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any

from prunequant.checkpoint.allocation import Allocation, allocate, document_of, sizes_of, untreated_bytes

Predict = Callable[[Mapping[str, str]], int]


def plan_file(
    report: Any, predict: Predict, budget: float | None = None, *, megabytes: float | None = None, **options: Any
) -> Allocation:
    """`allocate` for a file: its megabytes are those of the file, headers included.

    Parameters
    ----------
    report, budget, megabytes, options : as `allocate` has them
    predict : the bytes of the file that a plan writes, from the names of its schemes by matrix

    Returns
    -------
    Allocation : whose `megabytes` are what `predict` says. With a budget in megabytes it is the best plan that leaves
        as much room for headers as `overhead_bytes` says, or a few bytes more.

    Raises
    ------
    TypeError, ValueError : as `allocate`
    """

    def beside(tensors: Mapping[str, str], bits: int, untreated: int) -> int:
        return predict(tensors) - -(-bits // 8) - untreated

    document = document_of(report)
    if megabytes is None:
        plan = allocate(report, budget, **options)
        return replace(plan, overhead_bytes=beside(plan.tensors, plan.bits, plan.untreated_bytes))
    sizes = sizes_of(document, options.get("schemes"))
    smallest = {name: min(size.items(), key=itemgetter(1))[0] for name, size in sizes.items()}
    bits = sum(sizes[name][scheme] for name, scheme in smallest.items())
    aside = max(0, beside(smallest, bits, sum(map(untreated_bytes, document["untreated"]))))
    while True:
        plan = allocate(report, budget, megabytes=megabytes, overhead_bytes=aside, **options)
        needed = beside(plan.tensors, plan.bits, plan.untreated_bytes)
        if needed <= aside:
            return replace(plan, overhead_bytes=needed)
        aside = needed
