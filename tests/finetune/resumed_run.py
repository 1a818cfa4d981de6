"""A training run for the tests: `python resumed_run.py CHECKPOINT [DIE_AT]` prints a hash of all it ends with.

With DIE_AT the process kills itself, unannounced, after that step. The model uses every part that a checkpoint must
hold: dropout (random states), batch norm (buffers), learned steps under an optimiser of their own, a schedule, a
pruner and a compression with refreshed masks.
"""

import os
import signal
import sys

import torch
from torch import nn

from prunequant.finetune import checkpoints, lsq, pruning, straight_through, training
from prunequant.formats import HBFP


def build():
    training.seed_everything(11)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip
    handle = lsq.attach(model, 3, layers=["0", "8"], first_last=None)
    through = straight_through.attach(model, ["6"], HBFP(4), "2:4", "qs", refresh=3)
    pruner = pruning.GradualPruner(model, ["4"], 0.6, start=1, end=14, every=2)
    weights, steps = handle.groups(lr=0.05)
    optimisers = (
        torch.optim.SGD([weights], lr=0.05, momentum=0.9, weight_decay=1e-4),
        torch.optim.Adam([steps], lr=1e-3),
    )
    schedules = [training.cosine(optimiser, 20, warmup=2) for optimiser in optimisers]
    return model, optimisers, schedules, [pruner, through]


def batches(step):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(12, 8, generator=generator)
    return x, x[:, :3].argmax(1)


def loss(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


def run(checkpoint, die_at=None, **options):
    model, optimisers, schedules, hooks = build()

    def say(done, steps):
        if done == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    given = dict(steps=20, loss=loss, optimiser=optimisers, schedule=schedules, seed=5, hooks=hooks, every=4)
    losses = training.fit(model, batches, checkpoint=checkpoint, progress=say, **{**given, **options})
    state = [t for optimiser in optimisers for s in optimiser.state.values() for t in s.values() if t is not None]
    return losses, checkpoints.fingerprint([*model.state_dict().values(), *state, torch.tensor(losses)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    path = None if sys.argv[1] == "-" else sys.argv[1]
    print(run(path, int(sys.argv[2]) if len(sys.argv) > 2 else None)[1])
