"""The devices of this machine."""

from __future__ import annotations

import torch

from prunequant import arguments


def check_device(device: str | torch.device) -> torch.device:
    """A device that exists here.

    Raises
    ------
    TypeError, ValueError : an unknown device, or one this machine (or this build of torch) does not have.

    Examples
    --------
    >>> check_device("cpu")
    device(type='cpu')
    """
    arguments.instance(device, "device", (str, torch.device), "'cpu' or 'cuda' (or 'cuda:0', …)")
    try:
        known = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device is {device!r}: give 'cpu' or 'cuda' (or 'cuda:0', …)") from error
    if known.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}: give 'cpu' or 'cuda' (or 'cuda:0', …)")
    if known.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise ValueError(f"device is {device!r}, but torch sees no GPU here: give 'cpu'")
        if (known.index or 0) >= count:
            raise ValueError(f"device is {device!r}, but there are {count} GPUs here, counted from 0")
    return known
