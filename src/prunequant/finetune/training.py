"""One training loop for every case: deterministic, resumable after a kill, with hooks for what compresses.

A batch is a function of the number of the step, so a run that is resumed sees what the run that was killed would have
seen; the checkpoint holds the rest (weights, buffers, optimiser, schedule, hooks, random states, losses).
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from prunequant import threads
from prunequant.arguments import flag, function, instance, integer, path, real, several, shown
from prunequant.finetune import checkpoints
from prunequant.timing.devices import check_device

MAX_SEED = 2**64 - 1
MAX_STEPS = 10**9


class Hook:
    """Something that acts before every forward pass and after every step; the base class does nothing.

    `configuration` returns plain settings (part of what identifies a run); `state_dict` what a resumed run needs.
    """

    def before_forward(self, step: int, steps: int) -> None:
        """Called before the forward pass of step 0 … steps − 1."""

    def after_step(self, step: int, steps: int) -> None:
        """Called after the optimiser has moved the weights."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass

    def configuration(self) -> dict:
        return {}


def seed_everything(seed: int) -> None:
    """Seed torch (every device) and Python's `random`, in [0, 2**64); NumPy code takes its own generators.

    >>> seed_everything(1)
    >>> float(torch.rand(1)) == (seed_everything(1), float(torch.rand(1)))[1]
    True
    """
    seed = _check_seed(seed)
    random.seed(seed)
    torch.manual_seed(seed)


def _check_seed(seed: int) -> int:
    return integer(seed, "seed", 0, MAX_SEED)


def cosine(
    optimiser: torch.optim.Optimizer, steps: int, warmup: int = 0, final: float = 0.01
) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule: linear up over `warmup` steps, then half a cosine down to `final` times the rate at the last step.

    Raises
    ------
    TypeError, ValueError : no optimiser, no steps, a warm-up outside [0, steps), a final share outside [0, 1].

    Examples
    --------
    >>> optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> schedule, rates = cosine(optimiser, 4, warmup=1, final=0.1), []
    >>> for _ in range(4):
    ...     rates.append(round(schedule.get_last_lr()[0], 3))
    ...     optimiser.step()
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.55, 0.1]
    """
    instance(optimiser, "optimiser", torch.optim.Optimizer, "a torch optimiser")
    steps = integer(steps, "steps", 1, MAX_STEPS)
    warmup, final = integer(warmup, "warmup", 0, steps - 1), real(final, "final", 0, 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        share = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
        return final + (1 - final) * (1 + math.cos(math.pi * share)) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def parts(batch: object, step: int) -> tuple[torch.Tensor, ...]:
    """A batch as its tensors, or an error that names the step that gave another thing.

    Examples
    --------
    >>> len(parts((torch.ones(2), torch.zeros(2)), 0))
    2
    """
    step = integer(step, "step", 0)
    if not isinstance(batch, tuple | list) or not all(isinstance(part, torch.Tensor) for part in batch) or not batch:
        raise TypeError(f"batches({step}) is {shown(batch)}: a batch must be a tuple of tensors")
    return tuple(batch)


def _check_loss(value: object, step: int) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise TypeError(f"loss gave {shown(value)} at step {step}: it must give a tensor of one number")
    return value


def fit(
    model: nn.Module,
    batches: Callable[[int], tuple],
    *,
    steps: int,
    loss: Callable[..., torch.Tensor],
    optimiser: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    schedule: torch.optim.lr_scheduler.LRScheduler | Sequence[torch.optim.lr_scheduler.LRScheduler] | None = None,
    seed: int,
    device: str | torch.device = "cpu",
    amp: bool = False,
    hooks: Sequence[Hook] = (),
    checkpoint: str | os.PathLike | None = None,
    every: int = 50,
    progress: Callable[[int, int], None] | None = None,
    clip: float | None = None,
    configuration: dict | None = None,
) -> list[float]:
    """Train a model in place for a number of steps.

    Parameters
    ----------
    model : moved to the device and trained in training mode; left in the mode it had.
    batches : function of the step 0 … steps − 1 that returns a tuple of tensors, the same for the same step (this is
        what makes a resumed run exact); they are moved to the device.
    steps : optimiser steps, in [1, 10**9].
    loss : loss(model, *batch) → scalar tensor.
    optimiser : a torch optimiser over the model's parameters, or a sequence of them.
    schedule : a learning-rate schedule (or a sequence), stepped after every step.
    seed : in [0, 2**64), of torch's random numbers inside (dropout); those outside are left as they were.
    device : "cpu" or "cuda".
    amp : run the forward pass in bfloat16 where torch.autocast finds it safe; weights stay in their own precision.
    hooks : objects with the methods of `Hook`, called in their order.
    checkpoint : file to keep the run in. Where it exists the run goes on from it: the numbers are, bit for bit, those
        of a run that was never stopped (same device; on a CPU another number of threads is refused).
    every : steps between two checkpoints; one more is written at the end.
    progress : progress(steps done, steps), after each step.
    clip : largest norm of the gradient, None for no limit.
    configuration : plain values that also identify the run (the loop adds its own arguments, the initial weights and
        the first batch).

    Returns
    -------
    The loss of every step.

    Raises
    ------
    TypeError, ValueError : a bad argument; an unknown device; a checkpoint that is damaged or belongs to another run.
    FloatingPointError : the loss is no longer finite (noticed at the next checkpoint or at the end; no checkpoint of
        such a state is written).
    OSError : the checkpoint cannot be written; the one before is kept.

    Examples
    --------
    >>> seed_everything(0)
    >>> model, x = nn.Linear(2, 1), torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    >>> losses = fit(model, lambda step: (x, x.sum(1, keepdim=True)), steps=200,
    ...              loss=lambda m, x, y: (m(x) - y).square().mean(),
    ...              optimiser=torch.optim.SGD(model.parameters(), lr=0.05), seed=0)
    >>> len(losses), losses[-1] < 1e-6
    (200, True)
    """
    instance(model, "model", nn.Module, "a torch module")
    function(batches, "batches", "a function of the step"), function(loss, "loss", "a function of model and batch")
    steps, every = integer(steps, "steps", 1, MAX_STEPS), integer(every, "every", 1)
    seed, device, amp = _check_seed(seed), check_device(device), flag(amp, "amp")
    optimisers = _sequence(optimiser, "optimiser", torch.optim.Optimizer)
    schedules = _sequence(schedule, "schedule", torch.optim.lr_scheduler.LRScheduler)
    checkpoint = None if checkpoint is None else path(checkpoint, "checkpoint", file=True)
    clip = None if clip is None else real(clip, "clip", 0, open_low=True)
    if progress is not None:
        function(progress, "progress", "a function of two numbers, or None")
    instance(
        {} if configuration is None else configuration, "configuration", dict, "a dictionary of plain values, or None"
    )
    hooks = tuple(several(hooks, "hooks", "a sequence of hooks"))
    for number, hook in enumerate(hooks):
        for name in ("before_forward", "after_step"):
            function(getattr(hook, name, None), f"hooks[{number}].{name}", "a method, as of `Hook`")
    was_training = model.training
    model.to(device).train()
    with threads.using() as pinned, _deterministic(device), torch.random.fork_rng(_cuda_devices(device)):
        torch.manual_seed(seed)
        state = _Run(model, optimisers, schedules, hooks, torch.zeros(steps, device=device), device)
        start, settings = 0, {}
        if checkpoint is not None:
            settings = _settings(state, batches, loss, steps, seed, amp, clip, configuration)
            threads.pin(pinned)
            start = state.load(checkpoint, settings)
        for step in range(start, steps):
            for hook in state.hooks:
                hook.before_forward(step, steps)
            batch = [part.to(device, non_blocking=True) for part in parts(batches(step), step)]
            threads.pin(pinned)
            for each in optimisers:
                each.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
                value = loss(model, *batch)
            _check_loss(value, step).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            for each in optimisers:
                each.step()
            for each in schedules:
                each.step()
            for hook in state.hooks:
                hook.after_step(step, steps)
            threads.pin(pinned)
            state.losses[step] = value.detach()
            done = step + 1
            if done == steps or (checkpoint is not None and done % every == 0):
                state.check_finite(done)
            if checkpoint is not None and (done == steps or done % every == 0):
                state.save(checkpoint, done, settings)
            if progress is not None:
                progress(done, steps)
    for each in optimisers:
        each.zero_grad(set_to_none=True)
    model.train(was_training)
    return state.losses.tolist()


class _Run:
    """All that changes during a run, and how it is written and read."""

    def __init__(self, model, optimisers, schedules, hooks, losses, device):
        self.model, self.optimisers, self.schedules = model, optimisers, schedules
        self.hooks, self.losses, self.device = hooks, losses, device

    def save(self, path: Path, step: int, settings: dict[str, str]) -> None:
        rng = {"torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoints.write(
            path,
            {
                "step": step,
                "hash": _hash(settings),
                "settings": settings,
                "model": self.model.state_dict(),
                "optimisers": [each.state_dict() for each in self.optimisers],
                "schedules": [_plain(each.state_dict()) for each in self.schedules],
                "hooks": [hook.state_dict() for hook in self.hooks],
                "rng": rng,
                "losses": self.losses[:step],
            },
        )

    def load(self, path: str | os.PathLike, settings: dict[str, str]) -> int:
        """Steps already done: 0 where there is no checkpoint."""
        if not Path(path).exists():
            return 0
        state = checkpoints.read(path)
        written = state.get("settings", {})
        if state.get("hash") != _hash(settings):
            checkpoints.check_configuration(path, written, settings)
        for one, saved in ((self.model, state["model"]), *zip(self.optimisers, state["optimisers"])):
            one.load_state_dict(saved)
        for one, saved in (*zip(self.schedules, state["schedules"]), *zip(self.hooks, state["hooks"])):
            one.load_state_dict(saved)
        torch.set_rng_state(state["rng"]["torch"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng"]["cuda"], self.device)
        self.losses[: state["step"]] = state["losses"].to(self.device)
        return state["step"]

    def check_finite(self, done: int) -> None:
        bad = torch.nonzero(~torch.isfinite(self.losses[:done])).reshape(-1)
        if bad.numel():
            step = int(bad[0])
            raise FloatingPointError(f"the loss is {float(self.losses[step])} at step {step}: lower the learning rate")


def _settings(state: _Run, batches, loss, steps, seed, amp, clip, extra) -> dict[str, str]:
    """What identifies a run: its arguments, the initial weights, the first batch."""
    groups = [
        {key: value for key, value in group.items() if key != "params"} | {"parameters": len(group["params"])}
        for each in state.optimisers
        for group in each.param_groups
    ]
    return checkpoints.configuration(
        {
            "steps": steps,
            "seed": seed,
            "device": state.device.type,
            "threads": torch.get_num_threads() if state.device.type == "cpu" else None,
            "amp": amp,
            "clip": clip,
            "loss": getattr(loss, "__qualname__", type(loss).__name__),
            "optimisers": [[type(each).__name__ for each in state.optimisers], groups],
            "schedules": [type(each).__name__ for each in state.schedules],
            "hooks": [[type(hook).__name__, getattr(hook, "configuration", dict)()] for hook in state.hooks],
            "model": [[name, list(value.shape)] for name, value in state.model.state_dict().items()],
            "initial weights": checkpoints.fingerprint(state.model.state_dict().values()),
            "first batch": checkpoints.fingerprint(parts(batches(0), 0)),
            "configuration": extra,
        }
    )


def _hash(settings: dict[str, str]) -> str:
    return hashlib.sha256("\n".join(f"{k}={v}" for k, v in sorted(settings.items())).encode()).hexdigest()


def _plain(state: dict) -> dict:
    """The part of a schedule's state that a weights-only file can hold (its functions are rebuilt by the caller)."""
    plain = (bool, int, float, str, type(None), list, tuple, dict)
    return {key: value for key, value in state.items() if isinstance(value, plain)}


def _sequence(value: object, name: str, kind: type) -> tuple:
    found = () if value is None else tuple(value) if isinstance(value, list | tuple) else (value,)
    for each in found:
        instance(each, name, kind, f"a torch {kind.__name__}, or a sequence of them")
    return found


def _cuda_devices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On a GPU: deterministic kernels where torch has them (a warning where not), no search for the fastest one."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    # Else every new tensor is filled before it is written to, which costs time and changes no result.
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        torch.utils.deterministic.fill_uninitialized_memory = filled
