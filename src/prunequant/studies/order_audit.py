"""Every small vector, every format, every norm: how often each statement about the two orders is false.

The page book/interplay/find-a-counterexample counts the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite

from prunequant.formats import HBFP, MX, Integer
from prunequant.interplay.audit import FORMATS, Share, audit, table
from prunequant.studies.runner import At, Study


def make(at: At, pattern: str, radius: int, length: int, block: int) -> dict:
    """Counts of all statements; with `block` > 0 of five formats whose blocks have so many values."""
    formats = dict(FORMATS)
    if block:
        formats = {
            "INT3 narrow": Integer(3, granularity=block),
            "INT4 narrow": Integer(4, granularity=block),
            "HBFP4": HBFP(4, block),
            "HBFP6": HBFP(6, block),
            "MXFP4 E2M1": MX("fp4_e2m1", block),
        }
    shares = audit(formats, pattern if ":" in pattern else float(pattern), radius=radius, length=length)
    # JSON has no infinity, which is the norm of the largest entry: written "inf"
    rows = [{**asdict(share), "norm": share.norm if isfinite(share.norm) else str(share.norm)} for share in shares]
    return {"pattern": pattern, "rows": rows}


def show(record: Mapping) -> str:
    """The table of a record."""
    shares = [
        Share(**{**row, "norm": float(row["norm"]), "smallest": row["smallest"] and tuple(row["smallest"])})
        for row in record["rows"]
    ]
    head = f"share of {shares[0].vectors:,} vectors that break a statement ('sq': prune, then quantize)"
    return f"{head}\n\n{table(shares)}"


STUDIES = {
    "order-audit": Study(
        "order-audit",
        "all small vectors against the statements on order",
        ("order_audit.json",),
        make,
        0.2,
        {"pattern": "2:4", "radius": 12, "length": 4, "block": 0},
        show=show,
    )
}
