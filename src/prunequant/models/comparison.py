"""What a module answers before and after a change, example by example, so that both are measured on the same inputs.

    result = models.compare_outputs(module, small.module, batches, loss)
    print(result)

`loss` gives one number an example. The differences of these are paired: what is hard about an example is hard for both
modules and drops out, so that an interval from some hundred examples says what thousands could not say unpaired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunequant import arguments, statistics
from prunequant.arguments import shown
from prunequant.models.calibration import FORWARD, Forward, batches_of, run
from prunequant.models.layers import evaluating


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two modules on the same examples; an example is a row of their output along its first axis.

    Parameters
    ----------
    loss_before, loss_after : (examples,) float64; None without a loss.
    difference : after − before, its mean with a Student interval over examples; None without a loss.
    agreement : (examples,) share of an example's positions whose largest output along the last axis is the same one.
    cosine : (examples,) between the two outputs of an example; 1 where both are zero.
    output_error : ‖before − after‖ / ‖before‖ over all outputs.
    """

    loss_before: NDArray[np.float64] | None = field(repr=False)
    loss_after: NDArray[np.float64] | None = field(repr=False)
    difference: statistics.Paired | None
    agreement: NDArray[np.float64] = field(repr=False)
    cosine: NDArray[np.float64] = field(repr=False)
    output_error: float

    @property
    def examples(self) -> int:
        """How many were compared."""
        return len(self.cosine)

    def __str__(self) -> str:
        lines = [
            f"{self.examples} examples: the largest output is the same one in {self.agreement.mean():.1%}, cosine of"
            f" outputs {self.cosine.mean():.5f} (least {self.cosine.min():.5f}), output error {self.output_error:.2%}"
        ]
        if self.difference is not None and self.loss_before is not None and self.loss_after is not None:
            lines.append(f"loss {self.loss_before.mean():.4f} → {self.loss_after.mean():.4f}, paired {self.difference}")
        return "\n".join(lines)


def compare_outputs(
    before: nn.Module,
    after: nn.Module,
    batches: Iterable,
    loss: Callable[[Tensor, Any], Tensor] | None = None,
    *,
    forward: Forward = run,
    confidence: float = 0.95,
) -> Comparison:
    """Run two modules on the same batches, both in evaluation mode, and compare what they answer.

    Parameters
    ----------
    before, after : the modules; neither is changed.
    batches : an iterable of inputs, read once, each a tensor, a tuple of arguments or a dictionary of named ones.
    loss : a function of an output and its batch, (examples,) losses or one for the whole batch. None for no loss.
    forward : a function of module and batch, as for `compress`, for batches of another form. An output that is a tuple
        or a dictionary stands for its `logits`, or its first entry.
    confidence : of the interval, in (0, 1).

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError : an argument of the wrong kind, no batches, outputs of other shapes before and after, a loss
        that is no number an example; outputs or losses that are not finite; a loss of one example alone.

    Examples
    --------
    Batches with labels: `forward` runs the module on the first entry, `loss` reads the second.

    >>> from torch.nn.functional import cross_entropy
    >>> from prunequant import models
    >>> _ = torch.manual_seed(0)
    >>> module = nn.Linear(16, 3)
    >>> batches = [(torch.randn(20, 16), torch.arange(20) % 3) for _ in range(2)]
    >>> forward = lambda module, batch: module(batch[0])
    >>> small = models.compress(module, batches, scheme="INT8 channel", forward=forward)
    >>> result = models.compare_outputs(
    ...     module, small.module, batches, lambda output, batch: cross_entropy(output, batch[1], reduction="none"),
    ...     forward=forward)
    >>> result.examples, result.difference.seeds, bool(result.cosine.min() > 0.99), bool(result.output_error < 0.05)
    (40, 40, True, True)
    """
    for name, module in (("before", before), ("after", after)):
        arguments.instance(module, name, nn.Module, "a torch module")
    if loss is not None:
        arguments.function(loss, "loss", "a function of an output and its batch, or None")
    arguments.function(forward, "forward", FORWARD)
    confidence = arguments.real(confidence, "confidence", 0, 1, open_low=True, open_high=True)
    losses: tuple[list[NDArray], list[NDArray]] = ([], [])
    agreement, cosine, squares = [], [], np.zeros(2)
    with torch.no_grad(), evaluating(before, after):
        for number, batch in enumerate(batches_of(batches, forward=forward), 1):
            pair = [_output(forward(module, batch), number) for module in (before, after)]
            if pair[0].shape != pair[1].shape:
                raise ValueError(f"batch {number} gives {tuple(pair[0].shape)} before and {tuple(pair[1].shape)} after")
            if loss is not None:
                for of_one, output in zip(losses, pair):
                    of_one.append(_losses(loss(output, batch), len(output), number))
            a, b = (output.double().cpu() for output in pair)
            same = (a.argmax(-1) == b.argmax(-1)).double().reshape(len(a), -1).mean(1)
            a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
            agreement.append(same.numpy())
            cosine.append(_cosines(a, b))
            squares += [float(((a - b) ** 2).sum()), float((a**2).sum())]
    if not cosine:
        raise ValueError("batches is empty: give at least one")
    first, second = (np.concatenate(part) if part else None for part in losses)
    if second is not None and len(second) < 2:
        raise ValueError("batches give one loss: an interval needs two examples, and a loss of one number for each")
    difference = None if first is None or second is None else statistics.paired(second - first, confidence)
    error = float(np.sqrt(squares[0] / squares[1])) if squares[1] > 0 else (0.0 if squares[0] == 0 else np.inf)
    return Comparison(first, second, difference, np.concatenate(agreement), np.concatenate(cosine), error)


def _output(answer: Any, number: int) -> Tensor:
    """The tensor that counts of what a module gave."""
    logits = answer.get("logits") if isinstance(answer, dict) else getattr(answer, "logits", None)
    if logits is None and isinstance(answer, tuple | list) and answer:
        logits = answer[0]
    output = answer if logits is None else logits
    if not isinstance(output, Tensor):
        raise TypeError(f"batch {number} gives {shown(answer)}: it must be a tensor, or hold one; give `forward`")
    if output.dim() == 0 or output.numel() == 0:
        raise ValueError(f"batch {number} gives an output of shape {tuple(output.shape)}: one row an example is needed")
    if not torch.isfinite(output).all():
        raise ValueError(f"batch {number} gives NaN or infinity")
    return output if output.dim() > 1 else output[:, None]


def _losses(losses: Any, examples: int, number: int) -> NDArray[np.float64]:
    if not isinstance(losses, Tensor) or losses.shape not in ((examples,), ()):
        shape = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else shown(losses)
        raise ValueError(f"loss gave {shape} for batch {number}: one number for each of {examples} examples is needed")
    values = losses.detach().double().cpu().reshape(-1).numpy()
    if not np.isfinite(values).all():
        raise ValueError(f"loss gave NaN or infinity for batch {number}")
    return values


def _cosines(a: Tensor, b: Tensor) -> NDArray[np.float64]:
    """Of rows; 1 where both are zero, 0 where one is."""
    sizes = [torch.linalg.vector_norm(x, dim=1) for x in (a, b)]
    both, either = (sizes[0] == 0) & (sizes[1] == 0), (sizes[0] == 0) | (sizes[1] == 0)
    cosine = (a * b).sum(1) / torch.where(either, 1.0, sizes[0] * sizes[1])
    return torch.where(both, 1.0, cosine.clamp(-1, 1)).numpy()
