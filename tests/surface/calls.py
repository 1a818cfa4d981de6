"""A working call of every public callable: the canonical arguments, by the parameter's name, by room, by callable.

For a parameter the first of these that exists counts: CALLS[callable], ROOMS[room], EVERYWHERE, its own default. An
entry is a function of nothing that makes a fresh value. Parameters with a default are left out of the canonical call
unless CALLS names them, and get their entry only when it is their turn to be varied. Arrays hold numbers that every
float type represents, so that a cast is the same array.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from prunequant import (
    checkpoint,
    records,
    timing,
)
from prunequant import distortion as D
from prunequant import formats as F
from prunequant import interplay as I
from prunequant import optimum as O
from prunequant import path_following as P
from prunequant import tickets as T
from prunequant.experiments import Store
from prunequant.finetune import checkpoints, lsq
from prunequant.finetune import straight_through as through
from prunequant.formats.base import to_blocks
from prunequant.models import compression, networks
from prunequant.pages import plotting, widgets
from prunequant.tickets import blocks, certificate
from prunequant.tickets.carve import prune
from prunequant.tolerance import Tolerance
from surface.walk import Target

Entry = Callable[[], object]

# Of these only the named parameters are varied: the others describe the check, and are given by the library itself.
ONLY = {
    "extras.submodule": ("package",),  # a name it has not is an AttributeError, as Python asks of a module
    "arguments.shown": (),  # any value at all, each shown as what it is
    "arguments.is_tensor": (),  # any value at all
    "arguments.integer": ("value",),
    "arguments.real": ("value",),
    "arguments.flag": ("value",),
    "arguments.choice": ("value",),
    "arguments.instance": ("value",),
    "arguments.function": ("value",),
    "arguments.path": ("value",),
    "arguments.several": (),  # gives back the value in the kind that it came in
    "arguments.integers": ("x",),
    "arguments.booleans": ("x",),
    "arguments.numbers": ("x",),
    "arguments.output": ("out",),
    "formats.Integer.parameters": (),  # takes the package's own view of an array
    "experiments.plain": (),  # any value at all; its error names the type
    "experiments.unit_key": ("name", "version", "seed"),
    "finetune.checkpoints.check_configuration": (),  # compares what two runs wrote
    "finetune.checkpoints.configuration": (),
    **dict.fromkeys(  # called by the loop of finetune.training.fit
        (
            f"finetune.{owner}.{name}"
            for owner in ("pruning.FixedMask", "pruning.GradualPruner", "straight_through.StraightThrough")
            for name in ("before_forward", "after_step", "load_state_dict")
        ),
        (),
    ),
    "finetune.pruning.GradualPruner.prune": (),
    "records.write_json": ("path",),
    "records.provenance": ("command",),
}

# Experiments of the book, with a run time of seconds for any argument.
EXPERIMENTS = {
    "models.networks.digits_mlp": "trains a network",
    "models.networks.digits_convnet": "trains a network",
    "studies.paths.one_bit_scaling": "trains networks",
    "studies.paths.pruned_convolution": "trains a network",
    "studies.paths.prune_and_quantize": "trains networks",
    "studies.paths.scaling_over_depth": "trains networks",
    "studies.paths.deep_network": "compresses a trained network",
    "tickets.certificate.record": "measures the shipped table for minutes",
    "cases.runner.run_case": "runs a case study; tests/cases/test_runner.py gives it every argument of a wrong kind",
    "timing.clock.limits": "measures the machine",
    "timing.clock.captured": "needs a GPU",
}

# Constructors that one function calls, with arguments that it has checked.
HANDLES = {
    "finetune.lsq.LSQ": "finetune.lsq.attach",
    "finetune.lsq.LSQWeight": "finetune.lsq.attach",
    "finetune.straight_through.Compressed": "finetune.straight_through.attach",
    "finetune.straight_through.StraightThrough": "finetune.straight_through.attach",
    "pages.widgets.Widget": "pages.widgets.slider",
}


def constant(value: object) -> Entry:
    return lambda: value


def array(*values: object, dtype: type = np.float64) -> Entry:
    return lambda: np.array(values, dtype=dtype)


def eighths(*shape: int, seed: int = 0) -> np.ndarray:
    """Floats of few bits, none zero, no two magnitudes of a row equal for small shapes."""
    k = np.random.default_rng(seed).permutation(math.prod(shape)) + 1
    return (k * np.where(np.random.default_rng(seed + 1).random(k.size) < 0.5, -1, 1) / 8.0).reshape(shape)


def whole(*shape: int, seed: int = 0, largest: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(-largest, largest + 1, shape)


def gram() -> np.ndarray:
    x = eighths(6, 4, seed=5)
    return x.T @ x + np.eye(4)


@functools.cache
def network() -> T.Network:
    return T.random_network((4, 3, 2), 7, seed=0)


@functools.cache
def plan() -> T.Plan:
    return T.plan(network(), failure=1e-6)


@functools.cache
def ticket() -> T.Ticket:
    return T.find(network(), plan(), seed=1)


@functools.cache
def recipe() -> T.Recipe:
    return T.Recipe(0, "relu", 7, 7, (64, 64), False)


@functools.cache
def pair() -> T.Pair:
    return T.find_pair(whole(3, 3, largest=4), 7, failure=1e-6, seed=1)


@functools.cache
def attention() -> blocks.Attention:
    return blocks.Attention(*(whole(4, 4, seed=s, largest=3) for s in range(4)), heads=2, temperature=2e-3, levels=15)


@functools.cache
def torch_network():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).eval()


def torch_module():
    """A layer of each kind that is compressed, fresh, so that a call may change it."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()


def normed_module():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


def optimiser():
    import torch

    return torch.optim.SGD(torch_module().parameters(), lr=0.5)


def small_matrix(*shape: int):
    import torch

    return torch.from_numpy(eighths(*shape).astype(np.float32))


def attached_weight():
    module = torch_module()
    through.attach(module, None, F.Integer(4), "2:4", "sq")
    return module[0].parametrizations.weight[0]


def batch_of(step: int) -> tuple:
    return (samples() + step,)


def batches() -> list:
    return [samples(), samples() / 2]


def samples():
    import torch

    return torch.from_numpy(eighths(6, 4).astype(np.float32))


def labels():
    import torch

    return torch.tensor([0, 1, 0, 1, 1, 0])


def new_file(name: str) -> str:
    """A path in the current folder at which nothing is left from another call."""
    Path(name).unlink(missing_ok=True)
    return name


def unit(n: int, seed: int) -> dict:
    """A work unit of a sweep."""
    return {"sum": n + seed}


@functools.cache
def model_report() -> checkpoint.Report:
    return checkpoint.report("model.safetensors", (2.25, 4.25), group=32, threads=1)


def model_plan() -> checkpoint.Allocation:
    return checkpoint.allocate(model_report(), 5.0)


def normal(*shape: int, seed: int = 2) -> np.ndarray:
    """Normal values that bfloat16 holds."""
    drawn = np.random.default_rng(seed).standard_normal(shape).astype(np.float16)
    return drawn.astype(ml_dtypes.bfloat16).astype(np.float64)


def tensor() -> np.ndarray:
    """No scale or code of any format lies at a tie, so that no precision decides one."""
    return normal(3, 32, seed=9)


def encoded(fmt: F.Format) -> Entry:
    return lambda: fmt.encode(tensor())


# A format of each class in the table; of two, those that the slow twins in twins.py take.
FAMILIES: dict[str, F.Format] = {
    **{f"formats.{type(F.named(name)).__name__}": F.named(name, block=8) for name in reversed(F.names())},
    "formats.Integer": F.Integer(4),
    "formats.HBFP": F.HBFP(4, 8),
}


EVERYWHERE: dict[str, Entry] = {
    "seed": constant(3),
    "axis": constant(-1),
    "bits": constant(4),
    "sparsity": constant(0.5),
    "failure": constant(0.125),
    "confidence": constant(0.75),
    "trials": constant(50),
    "fmt": lambda: F.Integer(4),
    "law": lambda: D.Gaussian(),
    "operator": lambda: P.Grid(0.25),
    "pattern": constant("2:4"),
    "path": constant("file.json"),
    "rng": lambda: np.random.default_rng(0),
    "x": lambda: eighths(3, 8),
    "order": constant(2),
}

ROOMS: dict[str, dict[str, Entry]] = {
    "arguments": {
        "value": constant(4),
        "name": constant("value"),
        "x": lambda: whole(2, 3),
        "out": lambda: np.zeros((2, 3)),
        "shape": constant((2, 3)),
        "dtype": constant(np.float64),
        "inputs": lambda: (np.ones((2, 3)),),
        "wanted": constant("a number"),
    },
    "distortion": {
        "t": array(0.25, 1.0, 2.5),
        "x": array(-1.5, -0.25, 0.5, 2.0, 1.0, 0.125, -0.75, 0.375),
        "p": array(0.25, 0.5),
        "probability": array(0.125, 0.5, 0.75),
        "low": array(-1.0, 0.25),
        "high": array(0.5, 2.0),
        "size": constant(5),
        "keep": constant(0.25),
        "rate": constant(2.0),
        "budget": constant(4.0),
        "scale": constant(0.25),
        "nu": constant(4.0),
        "clip": constant(8.0),
        "beta": constant(1.5),
        "family": lambda: D.generalized_normal(),
        "block": constant(4),
        "widest": constant(1e4),
        "points": constant(6),
    },
    "experiments": {
        "function": constant(unit),
        "parameters": lambda: {"n": 4},
        "grid": lambda: [{"n": 2}, {"n": 3}],
        "seeds": constant((0, 1)),
        "rows": lambda: [{"a": 1}],
        "key": constant("00ff"),
        "row": lambda: {"sum": 4},
        "value": lambda: np.float64(0.5),
        "command": constant("prunequant verify"),
        "axes": constant([1, 2]),
        "store": lambda: new_file("store.jsonl"),
        "progress": constant(lambda done, of: None),
    },
    "formats": {
        "x": tensor,
        "rounding": constant("stochastic"),
        "codes": lambda: np.array([1, -1, 2, -8], dtype=np.int8),
        "packed": lambda: np.array([31, 32], dtype=np.uint8),
        "count": constant(3),
        "shape": constant((3, 32)),
        "block": constant(8),
        "element": constant("fp4_e2m1"),
        "tensor_scale": constant(0.0625),
        "largest": constant(4.0),
        "granularity": constant("row"),
        "out": lambda: np.zeros((3, 32)),
        "scale": constant(0.25),
        "t": array(0.3, -1.6, 5.0),
        "values": array(0.5, -1.5, 6.0),
    },
    "interplay": {
        "x": lambda: normal(4, 8),
        "w": lambda: normal(4, 8, seed=3),
        "p": constant(2.0),
        "which": constant("both"),
        "theorem": constant("order"),
        "p_values": array(0.125, 0.25, 0.5),
        "differences": array(1.0, 2.0, 2.5, 0.5),
        "dense": array(1.0, 1.125, 0.875),
        "pruned": array(1.25, 1.375, 1.125),
        "quantized": array(1.0, 1.25, 1.0),
        "both": array(1.5, 1.625, 1.25),
        "weights": lambda: [normal(4, 8), normal(4, 4, seed=1)],
        "biases": lambda: [np.zeros(4), np.zeros(4)],
        "inputs": lambda: normal(6, 8, seed=4),
        "labels": lambda: np.array([0, 1, 2, 3, 0, 1]),
        "activations": lambda: F.Integer(8),
        "saliency": lambda: np.abs(eighths(4, 8, seed=7)),
        "transform": constant(np.log),
        "shape": constant(4),
    },
    "statistics": {
        "p_values": array(0.01, 0.04, 0.03),
        "values": array(1.0, 2.0, 2.5),
        "name": constant("values"),
        "a": array(1.0, 2.0, 2.5),
        "b": array(0.5, 2.0, 1.5),
        "successes": constant(40),
        "test_share": constant(0.2),
        "differences": array(1.0, 2.0, 2.5, 0.5),
    },
    "checkpoint": {
        "path": constant("model.safetensors"),
        "model": constant("model.safetensors"),
        "against": constant("model.safetensors"),
        "out": lambda: new_file("out.safetensors"),
        "calibrate": constant("inputs.npz"),
        "transposed": constant(("v*",)),
        "settings": lambda: checkpoint.Settings(),
        "scheme": constant("2:4 INT4 g32"),
        "plan": lambda: {"w": "INT4 g32"},
        "progress": constant(lambda done, of, name: None),
        "weights_read": constant(lambda name, weights: None),
        "threads": constant(1),
        "rows": constant(8),
        "columns": constant(64),
        "report": lambda: model_report().to_json(),
        "budget": constant(5.0),
        "megabytes": constant(0.0025),
        "schemes": constant(("INT4 *", "INT8 g32")),
        "sensitivities": lambda: {"w": 2.0},
        "errors": lambda: {"w": {"INT4 channel": 0.25, "INT8 channel": 0.125}},
    },
    "optimum": {
        "weights": array(0.5, -1.25, 0.875, 2.0),
        "gram": gram,
        "keep": constant(2),
        "mask": lambda: np.array([True, False, True, True]),
        "scale": constant(0.25),
        "error": constant(0.5),
        "bound": constant(0.25),
        "node_limit": constant(1000),
        "p": gram,
        "d": array(0.25, 0.5, -0.25, 1.0),
        "cuts": lambda: np.array([[0], [0], [-1], [1]]),
        "nu": lambda: np.full((4, 1), 0.125),
        "low": lambda: np.full(4, -2),
        "high": lambda: np.full(4, 2),
        "mu": lambda: np.full(4, 0.125),
        "order": lambda: np.array([2, 0, 3, 1]),
        "errors": lambda: np.array([[4.0, 1.5, 0.25], [3.0, 0.5, 0.125]]),
        "sizes": lambda: np.array([0, 2, 4]),
        "budget": constant(6),
    },
    "path_following": {
        "weights": lambda: eighths(8, 3, seed=4) / 4,
        "inputs": lambda: eighths(16, 8, seed=6) / 16,
        "quantized_inputs": lambda: np.roll(eighths(16, 8, seed=6), 1, axis=1) / 16,
        "weight": lambda: eighths(4, 2, 2, 2) / 4,
        "kernel": constant(2),
        "rows": lambda: np.array([0, 2]),
        "x": array(0.25, -1.5, 0.625),
        "u": array(0.25, 0.5, 0.75),
        "values": array(-1.0, 0.0, 1.0),
        "probabilities": array(0.25, 0.5, 0.25),
        "other_values": array(-2.0, 0.0, 2.0),
        "other_probabilities": array(0.25, 0.5, 0.25),
        "at": array(0.0, 0.5),
        "sigma": constant(1.5),
        "step": constant(0.25),
        "levels": constant(8),
        "size": constant(0.5),
        "start": constant(0),
        "stop": constant(1),
        "scaling": constant(2.0),
        "alignment": constant(2),
        "damping": constant(0.25),
        "stream": constant(1),
        "z": array(0.0, 0.5),
        "parameter": constant(0.5),
        "column_norm": constant(2.0),
        "samples": constant(64),
        "features": constant(128),
        "neurons": constant(4),
        "largest_weight": constant(1.0),
        "ratio": constant(1.0),
        "room": constant(0.5),
        "c": constant(1.0),
        "probability": constant(0.25),
        "deviation": constant(1.0),
        "rounding": lambda: P.Grid(0.25, False),
        "block": constant(4),
        "kind": constant("white"),
        "w": lambda: eighths(8, 1, seed=4)[:, 0] / 4,
        "model": torch_network,
        "other": torch_network,
        "calibration": lambda: samples(),
        "labels": lambda: np.array([0, 1, 0, 1, 1, 0]),
        "seeds": constant(2),
    },
    "random": {"keys": constant(1)},
    "extras": {"error": lambda: ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")},
    "records": {"name": constant("lsq_rates.json")},
    "tolerance": {
        "reason": constant("a network trained here"),
        "absolute": constant(0.25),
        "fields": lambda: {"reason": "a network trained here", "relative": 0.5},
        "reference": constant("1,234.5"),
        "number": constant("1,234.5"),
        "tolerance": lambda: Tolerance("a network trained here", relative=0.5),
    },
    "sparsity": {
        "quantized": lambda: np.round(eighths(3, 8)),
        "score": lambda: np.abs(eighths(3, 8)),
        "original": lambda: eighths(3, 8),
        "count": constant(8),
        "k": constant(5),
        "n": constant(2),
        "m": constant(4),
        "out": lambda: np.zeros((3, 8)),
    },
    "subset_sum": {
        "x": lambda: np.array([3, -1, 4, 7, 2, -5, 6, 1]),
        "low": constant(-3),
        "high": constant(9),
        "target": constant(8),
        "targets": lambda: np.array([8, 3]),
        "lengths": lambda: np.array([8, 6]),
        "out": lambda: np.zeros(13, dtype=np.uint64),
        "n": constant(12),
        "bound": constant(16),
        "n_max": constant(20),
        "covered": constant(5),
        "window": constant(9),
        "block": constant(4),
        "block_failure": constant(0.125),
        "z": constant(3),
    },
    "tickets": {
        "x": lambda: whole(5, 4, largest=20),
        "inputs": lambda: whole(5, 4, largest=20),
        "shape": constant((4, 3, 2)),
        "target": network,
        "plan": plan,
        "recipe": recipe,
        "network": network,
        "weights": lambda: [whole(3, 4), whole(2, 3)],
        "levels": constant(7),
        "divisors": constant((3, 2)),
        "constants": constant((1, 2)),
        "kernel": lambda: whole(2, 3, largest=4),
        "source": constant(7),
        "of": lambda: certificate.law("relu", 7, 7),
        "kind": constant("relu"),
        "units": constant(8),
        "layer": constant(0),
        "matrix": constant(0),
        "half_range": constant(7),
        "columns": constant(4),
        "width": constant(8),
        "start": constant(2),
        "count": constant(5),
        "pair": pair,
        "block": attention,
        "divisor": constant(3),
        "padding": constant(1),
        "blocks": constant((64, 64)),
        "reach": constant(9),
        "target_step": constant(Fraction(1, 7)),
        "source_step": constant(Fraction(1, 7)),
        "log_failure": constant(-4.0),
        "sizes": constant((4, 2)),
        "u": lambda: np.array([1, -1, 2]),
        "v": lambda: np.array([2, 2, -1]),
        "probes": lambda: whole(6, 2, largest=5),
        "energy": constant(2.0),
        "hidden_step": constant(0.25),
        "seeds": constant((1, 2)),
        "steps": lambda: (Fraction(1, 7), Fraction(1, 3)),
        "d": constant(2),
        "wanted": constant(0.5),
        "grid": constant(2),
        "largest": constant(64),
        "depthwise": constant(False),
        "source_levels": constant(7),
        "maps": lambda: (
            [lambda x, w=w: x @ w.T for w in attention().matrices()]
            if callable(getattr(attention(), "matrices", None))
            else [lambda x, w=w: x @ w.T for w in attention().matrices]
        ),
    },
}
# Networks and studies take what the room takes that they are about.
ROOMS["models"] = {
    **ROOMS["tickets"],
    **ROOMS["path_following"],
    "module": torch_module,
    "before": torch_module,
    "after": torch_module,
    "batches": batches,
    "batch": samples,
    "held_out": batches,
    "scheme": constant("INT4 channel"),
    "method": constant("nearest"),
    "forward": constant(lambda module, batch: module(batch)),
    "loss": constant(lambda output, batch: output.square().mean(1)),
    "progress": constant(lambda done, of, name: None),
    "part": constant("heldout"),
}
ROOMS["finetune"] = {
    "model": torch_module,
    "model_a": torch_module,
    "model_b": torch_module,
    "layers": constant(["0", "2"]),
    "masks": lambda: {"0": np.arange(32).reshape(8, 4) % 2 == 0},
    "batches": constant(batch_of),
    "inputs": samples,
    "count": constant(2),
    "x": lambda: eighths(6, 4),
    "y": lambda: eighths(6, 4, seed=3),
    "step": constant(3),
    "start": constant(0),
    "end": constant(4),
    "steps": constant(8),
    "final": constant(0.75),
    "bits_by_layer": lambda: {"0": 4},
    "density_by_layer": lambda: {"0": 0.5},
    "scales_by_layer": lambda: {"0": 8},
    "total_bits": constant(700.0),
}
ROOMS["finetune"] |= {
    "batch": lambda: (samples(),),
    "weight": lambda: torch_module()[0].weight,
    "w": lambda: torch_module()[0].weight.detach(),
    "shape": constant((8, 4)),
    "rows": lambda: torch_module()[0].weight.detach(),
    "module": lambda: torch_module()[0],
    "state": lambda: {"step": 3, "masks": {}},
    "tensors": lambda: [samples()],
    "settings": lambda: {"steps": 3},
    "stored": lambda: {"steps": "3"},
    "wanted": lambda: {"steps": "3"},
    "path": constant("run.pt"),
    "per": constant("row"),
    "ties": constant("first"),
    "gradient": constant("dense"),
    "order": constant("sq"),
    "pattern": constant("2:4"),
    "refresh": constant(2),
    "device": constant("cpu"),
    "clip": constant(1.0),
    "every": constant(2),
    "warmup": constant(1),
    "checkpoint": lambda: new_file("train.pt"),
    "loss": constant(lambda model, x: model(x).square().mean()),
    "forward": constant(lambda model, x: model(x)),
    "optimiser": optimiser,
    "progress": constant(lambda step, steps: None),
    "configuration": lambda: {"rate": 0.5},
}
ROOMS["cases"] = {
    "name": constant("hardware"),
    "device": constant("cpu"),
    "path": constant("case.json"),
    "record": lambda: json.loads(Path("case.json").read_text(encoding="utf-8")),
}
ROOMS["pages"] = {
    "name": constant("a-figure"),
    "stops": constant(["one", "two"]),
    "x": array(0.0, 0.5, 1.0),
    "curves": lambda: [widgets.Curve("a", "pruning", np.arange(6.0).reshape(2, 3))],
    "slider_label": constant("which"),
    "x_label": constant("x"),
    "y_label": constant("y"),
    "readings": constant(["first", "second"]),
    "choices": lambda: {"of": ["this", "that"]},
    "bars": constant(["a", "b", "c"]),
    "shares": lambda: np.arange(6.0).reshape(2, 3) / 8,
    "notes": lambda: [["n"] * 3] * 2,
    "start": constant(1),
    "rows": constant(2),
    "columns": constant(1),
    "height": constant(3.0),
}
ROOMS["timing"] = {
    "weight": lambda: small_matrix(8, 64),
    "x": lambda: small_matrix(2, 64),
    "top": constant(127.0),
    "group": constant(32),
    "device": constant("cpu"),
    "sweep": constant(4096),
    "call": constant(lambda: None),
    "sibling": constant(lambda: None),
    "siblings": lambda: {"a": lambda: None},
    "about": constant(1e-4),
    "calls": lambda: {"a": lambda: None, "b": lambda: None},
    "watch": lambda: timing.clock.Stopwatch("cpu", 4096),
    "rounds": constant(2),
    "seconds": lambda: {"a": {"cold": [1.0, 2.0]}, "b": {"cold": [2.0, 1.5]}},
    "names": constant(("a", "b")),
    "kind": constant("cold"),
    "times": constant([1.0, 2.0, 4.0]),
    "baseline": constant([1.0, 1.5, 2.0]),
    "moved": constant(1e9),
    "work": constant(2e9),
    "bandwidth": constant(2e10),
    "peak": constant(1e11),
    "name": constant("csr-50"),
    "outputs": constant(8),
    "inputs": constant(64),
    "batch": constant(2),
}
ROOMS["threads"] = {
    "torch": constant(1),
    "kernels": constant(1),
    "threads": constant(1),
    "rows": constant(10),
    "work": constant(lambda start, stop: stop - start),
}
ROOMS["parallel"] = {"kernel": constant(sum)}
ROOMS["studies"] = {**ROOMS["subset_sum"], **ROOMS["path_following"]}

ROOMS["models"] |= {
    "split": constant("half"),
    "test": constant(1),
}

CALLS: dict[str, dict[str, Entry]] = {
    "arguments.flag": {"value": constant(True)},
    "arguments.choice": {"value": constant("even"), "options": constant(("even", "stochastic"))},
    "arguments.real": {"value": constant(0.5)},
    "arguments.instance": {"kind": constant(int)},
    "arguments.function": {"value": constant(len)},
    "arguments.path": {"value": constant("rows.json")},
    "arguments.several": {"value": constant((1, 2))},
    "arguments.output": {"name": constant("out")},
    "arguments.integers": {"name": constant("x")},
    "arguments.booleans": {"name": constant("x"), "x": lambda: np.array([[True, False], [False, True]])},
    "arguments.numbers": {"name": constant("x")},
    "checkpoint.Allocation.check": {
        "matrices": lambda: [{"name": name, "rows": 8, "columns": 64} for name in ("v", "w")],
    },
    "checkpoint.Allocation.from_json": {"plan": lambda: model_plan().to_json()},
    "checkpoint.Scheme.named": {"name": constant("2:4 INT4 g32")},
    "checkpoint.allocate": {"budget": constant(5.0)},
    "checkpoint.Report.to_html": {"plan": model_plan},
    "checkpoint.compress": {"scheme": constant("2:4 INT4 g32")},
    "checkpoint.report": {"budgets": constant((2.25, 4.25)), "group": constant(32)},
    "checkpoint.verify_file": {"path": constant("compressed.safetensors")},
    "distortion.Empirical.truncated_moment": {"low": constant(-1.0), "high": constant(0.5)},
    "distortion.make_grid": {"bits": constant(3)},
    "distortion.stored_bits": {"value_bits": constant(16)},
    "distortion.equal_size_keep": {"value_bits": constant(16)},
    "distortion.splits": {"bits": constant((2, 3, 4))},
    "experiments.lock": {"file": lambda: tempfile.TemporaryFile(), "wait": constant(False)},
    "experiments.processes": {"jobs": constant(1)},
    "experiments.unit_key": {"name": constant("sums.total"), "version": constant(1)},
    "formats.named": {"name": constant("MXFP4")},
    "experiments.workplace": {"out": constant(None), "resume": constant(False)},
    "records.beside": {"path": constant("rows.json")},
    "records.provenance": {"command": constant("prunequant record order-effect")},
    "records.write_bytes": {"path": constant("rows.bin"), "data": constant(b"rows")},
    "records.write_json": {"path": constant("rows.json"), "value": constant([1])},
    "records.write_text": {"path": constant("rows.txt"), "text": constant("rows")},
    "formats.integer_snr": {"bits": constant((2, 4)), "scale": array(0.5, 0.125)},
    "formats.integer_squared_errors": {"bits": constant((2, 4)), "scale": array(0.5, 0.125)},
    **{f"{name}.decode": {"encoded": encoded(fmt)} for name, fmt in FAMILIES.items()},
    "formats.Integer.parameters": {"blocks": lambda: to_blocks(tensor(), None, -1)},
    "formats.Element": {
        "exponent_bits": constant(2),
        "mantissa_bits": constant(1),
        "bias": constant(1),
        "largest": constant(6.0),
    },
    "formats.Element.from_codes": {
        "codes": lambda: np.array([1, 3, 9], dtype=np.uint8),
        "dtype": constant(np.dtype(np.float32)),
    },
    "interplay.counterexample": {"statement": constant("qs<=sq"), "trials": constant(200), "radius": constant(3)},
    "interplay.DotProducts.rms": {"which": constant("sq")},
    "interplay.DotProducts.exceeds": {"which": constant("sq")},
    "interplay.Orders.error": {"which": constant("sq")},
    "interplay.hypotheses": {"axis": constant(1), "saliency": constant(False)},
    "optimum.sdp_bound": {"bits": constant(2), "scale": constant(1.0), "cuts": constant(1)},
    "optimum.layer_bound": {"bits": constant(2), "scale": constant(1.0)},
    "path_following.compress_convolution": {
        "inputs": lambda: eighths(2, 2, 4, 4) / 16,
        "quantized_inputs": lambda: eighths(2, 2, 4, 4, seed=9) / 16,
    },
    "path_following.unfold": {"x": lambda: eighths(2, 2, 4, 4), "rows": lambda: np.array([0, 2])},
    "path_following.round_to_codes": {
        "gram": lambda: eighths(16, 8, seed=6).T @ eighths(16, 8, seed=6) / 256,
        "grid": lambda: P.CodeGrid(np.full((1, 3), 0.0625), -8, 7),
        "mask": lambda: np.arange(24).reshape(8, 3) % 5 > 0,
    },
    "path_following.size_for_sparsity": {"steps": constant(4), "operator": constant(P.Prune)},
    "models.compress": {"inputs": constant("original")},
    "models.digits.by_class": {"labels": lambda: np.array([0, 1, 0, 1, 1, 0])},
    "finetune.batch_norm.reestimate": {"model": normed_module},
    "finetune.checkpoints.read": {"path": constant("kept.pt")},
    "finetune.pruning.GradualPruner": {"every": constant(2)},
    "finetune.sizes.account": {"mask": constant("bitmap")},
    "finetune.training.fit": {"model": lambda: torch_module(), "steps": constant(3)},
    "pages.plotting.figure": {"height": constant(3.0)},
    "pages.widgets.menus": {"readings": constant(["first", "second"]), "start": constant((1,))},
    "timing.codes.magnitude_mask": {"name": constant("csr-50")},
    "timing.kernels.Kernel.error": {"rows": constant(2)},
    "timing.clock.interleave": {"seconds": constant(10.0)},
    "threads.run_rows": {"minimum": constant(2)},
    "models.networks.accuracy": {"inputs": lambda: samples(), "labels": lambda: labels()},
    "models.networks.agreement": {"inputs": lambda: samples()},
    "models.networks.output_error": {"inputs": lambda: samples()},
    "studies.paths.weight_laws": {
        "laws": constant(("gaussian", "signs")),
        "samples": constant(16),
        "features": constant(16),
        "neurons": constant(4),
    },
    "studies.paths.compare_quantizers": {
        "samples": constant(16),
        "features": constant(16),
        "neurons": constant(4),
        "bits": constant((2, 3)),
    },
    "studies.paths.compare_pruners": {
        "samples": constant(16),
        "features": constant(16),
        "neurons": constant(4),
        "sparsities": constant((0.5, 0.75)),
    },
    "studies.paths.coverage": {
        "samples": constant(8),
        "features": constant(16),
        "seeds": constant(20),
    },
    "studies.paths.coverage_of": {"x": lambda: eighths(16, 8, seed=6) / 16, "w": lambda: eighths(8, 1) / 4},
    "sparsity.joint": {"quantized": lambda: np.round(eighths(3, 8))},
    "subset_sum.solve_many": {"x": lambda: whole(2, 8, largest=9)},
    "subset_sum.solve_words": {"x": lambda: whole(2, 8, largest=9)},
    "subset_sum.karmarkar_karp_many": {"x": lambda: whole(2, 8, largest=9)},
    "subset_sum.theory.certified_samples": {"targets": constant("one")},
    "subset_sum.hitting_times": {"targets": constant("random")},
    "subset_sum.theory.critical_density": {"window": constant(0.5)},
    "subset_sum.theory.critical_window": {"window": constant(0.5)},
    "subset_sum.theory.window_kappa": {"window": constant(0.5)},
    "subset_sum.theory.partition_integral": {"x": lambda: np.array([7, 6, 5, 3, 3, 1, 1, 1]), "z": constant(1)},
    "subset_sum.theory.expected_growth": {"window": constant(9)},
    "tickets.Plan": {
        name: lambda name=name: getattr(plan(), name)
        for name in (
            *("shape", "target", "source", "blocks", "signed_inputs", "constants", "depth", "asked", "certified"),
            *("method", "confidence"),
        )
    },
    "tickets.blocks.Attention": {
        "query": lambda: whole(4, 4, largest=3),
        "key": lambda: whole(4, 4, seed=1, largest=3),
        "value": lambda: whole(4, 4, seed=2, largest=3),
        "output": lambda: whole(4, 4, seed=3, largest=3),
        "heads": constant(2),
        "temperature": constant(2e-3),
        "levels": constant(15),
    },
    "extras.need": {"module": constant("torch.nn")},
    "extras.submodule": {"package": constant("prunequant.timing"), "name": constant("schemes")},
    "extras.submodules": {"package": constant("prunequant.timing")},
    "tolerance.Tolerance": {"absolute": constant(0.25)},
    "tolerance.compare": {"text": constant("loss 0.195 at step 4"), "reference": constant("loss 0.2 at step 4")},
    "tickets.Recipe": {"target": constant(7)},
    "tickets.Network": {
        "weights": lambda: [whole(3, 4), whole(2, 4)],
        "levels": constant(15),
        "constants": constant((0, 2)),
    },
    "tickets.Pair.forward": {"x": lambda: whole(2, 3, 1, 1, largest=5)},
    "tickets.Plan.with_blocks": {"blocks": constant((64, (64, 32)))},
    "tickets.Ticket.load": {"path": constant("kept.safetensors")},
    "tickets.Ticket.save": {"path": constant("new.safetensors")},
    "tickets.carve": {"target": lambda: whole(2, 3), "u": lambda: None},
    "tickets.quietest": {"target": lambda: whole(2, 3)},
    "tickets.find_pair": {"target": constant(7), "failure": constant(2.0**-20)},
    "tickets.plan": {"target_step": constant(Fraction(1, 7))},
    "tickets.random_network": {"divisors": constant((3, 2))},
    "tickets.blocks.residual": {"weights": lambda: whole(3, 3), "x": lambda: whole(5, 3)},
    "tickets.blocks.residual_ticket": {"x": lambda: whole(5, 3)},
    "tickets.blocks.ShallowResidual.forward": {"x": lambda: np.abs(whole(5, 3))},
    "tickets.blocks.find_shallow_residual": {"weights": lambda: whole(3, 3)},
    "distortion.best_step": {"levels": constant(7)},
    "tickets.blocks.find_attention": {"levels": constant(3)},
    "tickets.certificate.most_window_units": {"reach": constant(7)},
    "tickets.certificate.law": {"target": constant(7), "reach": constant(None)},
    "tickets.certificate.common_grid": {"target": constant(3)},
    "tickets.certificate.choose_blocks": {"weight_counts": lambda: np.array([0, 1, 1, 0, 2, 0, 0, 3])},
    "tickets.controls.undersized": {"plan": lambda: plan().with_blocks((16, 16))},
    "tickets.controls.single_weight_success": {"target": constant(7), "trials": constant(50)},
    "tickets.controls.least_width": {"levels": constant(3), "layers": constant(5)},
    "tickets.counting.counting_bound": {"levels": constant((1, 1))},
    "tickets.counting.distinct_functions": {"u": lambda: whole(2, 2, largest=2), "v": lambda: whole(2, 2, seed=1)},
    "tickets.counting.reached_targets": {
        "functions": lambda: T.counting.distinct_functions(
            whole(2, 2, largest=2), whole(2, 2, seed=1, largest=2), whole(6, 2, largest=5)
        ),
        "outputs": constant(2),
        "source": constant(1),
        "target": constant(1),
    },
    "tickets.counting.least_parameters": {"levels": constant(1), "trials": constant(20), "largest": constant(16)},
    "tickets.noise.correlated_variance": {"layer": lambda: prune(T.carve(whole(2, 3), recipe(), 1), 1)},
    "tickets.noise.interior_rounding": {"weights": constant(20), "samples": constant(20), "units": constant(60)},
    "tickets.source.dense": {"shape": constant((3, 4))},
    "tickets.structured.matrix": {"kernel": lambda: whole(2, 3, 2, 2)},
    "tickets.structured.convolve": {"x": lambda: whole(2, 3, 5, 4, largest=5), "kernel": lambda: whole(2, 3, 2, 2)},
    "tickets.structured.pad": {"x": lambda: whole(2, 3, 5, 4, largest=5)},
    "tickets.structured.recipe_for": {"weights": lambda: whole(2, 3), "target": constant(7), "reach": constant(None)},
}

# A parameter that needs another one given with it.
WITH = {
    ("distortion.best_scale", "block"): ("axis",),
    ("distortion.best_step", "block"): ("axis",),
    ("checkpoint.verify_file", "transposed"): ("against",),
    ("path_following.compress", "alignment"): ("quantized_inputs",),
    ("path_following.compress_convolution", "alignment"): ("quantized_inputs",),
    ("path_following.prepare", "alignment"): ("quantized_inputs",),
}

# Where a call takes one of several parameters: which are left out when it is this one's turn.
INSTEAD_OF = {
    ("checkpoint.allocate", "megabytes"): ("budget",),
    ("checkpoint.compress", "budget"): ("scheme",),
    ("checkpoint.compress", "plan"): ("scheme",),
    ("checkpoint.compress", "megabytes"): ("scheme",),
}

# Calls that may refuse every argument, and say why: a law of atoms has no density, these blocks choose their scale.
MAY_REFUSE = {
    "distortion.Empirical.density",
    "distortion.Empirical.inner",
    "distortion.Empirical.inner_by_quadrature",
    *(f"{name}.quantize: scale" for name, fmt in FAMILIES.items() if not fmt.takes_scale),
}

# Results that hold NaN by definition for some arguments: a ratio of moments of numbers that are all equal is 0/0.
# Figures of a network that were not asked for, or have no error to be measured against, are nan too.
# So are the spread of one seed, and the errors of a method that does not reach a sparsity.
MAY_BE_NAN = {
    "distortion.Empirical",
    "finetune.cka.compare",
    "finetune.cka.linear_cka",
    "models.networks.compress_network",
    "studies.paths.compare_pruners",
    "tickets.controls.undersized",
}

# Results that are seconds of a clock, never the same twice: only that there are as many is compared.
SECONDS = ("timing.clock.Stopwatch", "timing.clock.interleave")

# Valid values whose work is long by nature, as their documentation says, and the seconds that it may take.
LONG = {
    "tickets.find_pair: target": 60.0,  # measures a law that the recorded table does not have
    "tickets.blocks.find_attention: levels": 60.0,
    "tickets.blocks.find_shallow_residual: levels": 60.0,
    "tickets.structured.recipe_for: reach": 60.0,
    "finetune.training.fit: steps": 120.0,  # a step takes milliseconds
    "finetune.batch_norm.reestimate: count": 120.0,
    "timing.clock.interleave: rounds": 60.0,  # rounds of half a millisecond, as many as are asked for
    "distortion.crossover: bits": 10.0,  # the best scale of a law of each parameter
    "studies.paths.compare_pruners: features": 10.0,  # a layer of a thousand features, pruned in eight ways
    "studies.paths.compare_quantizers: features": 10.0,
}

# What of a result counts where it also remembers how it came about: the array as it was given, a value before rounding.
SEEN_AS = {
    P.Result: lambda made: (made.weights, made.saturation, made.scaling, made.failure),
    P.Prepared: lambda made: (made.round(P.Grid(0.25)).weights, made.feedback, made.scaling, made.damping),
}

# Not among the uses of an object whose constructor is varied: they write files, or decode what another format encoded.
SEPARATE = {
    "experiments.Store.add",
    "formats.Element.from_codes",
    "formats.Element.to_codes",
    *(f"{name}.decode" for name in FAMILIES),
    "tickets.Ticket.save",
}

# An instance for the methods of a class; without an entry the canonical call of its constructor.
INSTANCES: dict[str, Entry] = {
    "checkpoint.Allocation": model_plan,
    "checkpoint.Compressed": lambda: checkpoint.compress("model.safetensors", new_file("one.file"), scheme="NF4"),
    "checkpoint.Model": lambda: checkpoint.open_model("model.safetensors"),
    "checkpoint.Report": model_report,
    "checkpoint.Scheme": lambda: checkpoint.Scheme.named("2:4 INT4 g32"),
    "experiments.Store": lambda: Store(new_file("kept.jsonl")),
    "formats.Element": lambda: F.ELEMENTS["fp4_e2m1"],
    **{name: constant(fmt) for name, fmt in FAMILIES.items()},
    "distortion.Gaussian": lambda: D.Gaussian(),
    "distortion.Laplace": lambda: D.Laplace(),
    "distortion.Logistic": lambda: D.Logistic(),
    "distortion.Uniform": lambda: D.Uniform(),
    "interplay.Comparison": lambda: I.compare(eighths(4, 8), F.Integer(4), "2:4"),
    "interplay.DotProducts": lambda: I.dot_products(eighths(4, 8), eighths(4, 8, seed=3), F.Integer(4), "2:4"),
    "interplay.Hypotheses": lambda: I.hypotheses(F.HBFP(6), 0.5),
    "interplay.Orders": lambda: I.apply_orders(eighths(4, 8), F.Integer(4), "2:4"),
    "optimum.Solution": lambda: O.nearest(np.array([0.5, -1.25, 0.875, 2.0]), gram(), 4),
    "path_following.Prepared": lambda: P.prepare(eighths(8, 3, seed=4) / 4, eighths(16, 8, seed=6) / 16),
    "path_following.Result": lambda: P.compress(eighths(8, 3, seed=4) / 4, eighths(16, 8, seed=6) / 16, P.Grid(0.25)),
    "finetune.lsq.LSQ": lambda: lsq.attach(torch_module(), 4),
    "finetune.straight_through.StraightThrough": lambda: through.attach(
        torch_module(), None, F.Integer(4), "2:4", "sq"
    ),
    "finetune.straight_through.Compressed": lambda: attached_weight(),
    "models.compression.CompressedLayer": lambda: compression.compress(torch_module()).layers[0],
    "pages.plotting.Role": lambda: plotting.PRUNING,
    "timing.kernels.Kernel": lambda: timing.kernels.prepare("csr-50", small_matrix(8, 64)),
    "models.networks.LayerReport": lambda: networks.LayerReport("a", 1, 2, 3, 4, *[0.5] * 7),
    "tickets.Network": network,
    "tickets.Pair": pair,
    "tickets.Plan": plan,
    "tickets.Ticket": ticket,
    "tickets.blocks.ShallowResidual": lambda: blocks.find_shallow_residual(whole(3, 3), 7, 1),
    "tickets.blocks.Attention": attention,
    "tickets.blocks.AttentionTicket": lambda: blocks.find_attention(attention(), 3, 1),
}


def prepare_folder() -> None:
    """The files that canonical calls read, in the current folder."""
    ticket().save("kept.safetensors")
    weights = {name: normal(8, 64, seed=seed).astype(np.float32) for seed, name in enumerate("vw")}
    save_file(weights, "model.safetensors")
    np.savez("inputs.npz", w=normal(80, 64))
    checkpoints.write("kept.pt", {"step": 3})
    shutil.copy(records.find("case_hardware_cpu.json"), "case.json")
    checkpoint.compress("model.safetensors", "compressed.safetensors", scheme="INT4 g32")


def left_out(target: Target) -> bool:
    """Whether a callable is not called: an experiment, or a constructor that one function alone calls."""
    return target.name in (HANDLES if target.kind == "constructor" else EXPERIMENTS)


def entry(target: Target, name: str) -> Entry | None:
    for table in (CALLS.get(target.name, {}), ROOMS.get(target.room, {})):
        if name in table:
            return table[name]
    parameter = target.parameters[name]
    if parameter.default is not parameter.empty and parameter.default is not None:
        return constant(parameter.default)
    if name in EVERYWHERE:
        return EVERYWHERE[name]
    return constant(None) if parameter.default is None else None


def varied(target: Target) -> list[str]:
    """The parameters whose turn it is."""
    names = [n for n, p in target.parameters.items() if p.kind is not p.VAR_KEYWORD or n in ROOMS.get(target.room, {})]
    if target.name in ONLY:
        names = [n for n in names if n in ONLY[target.name]]
    return names


def instance(target: Target) -> object:
    name = target.name.rsplit(".", 1)[0]
    if name in INSTANCES:
        return INSTANCES[name]()
    constructor = Target(target.room, name, target.owner, target.owner, "constructor")
    return call(constructor, arguments(constructor))


def arguments(target: Target, *also: str) -> dict[str, object]:
    """Fresh canonical arguments: all that are required, those that CALLS names, and `also`."""
    also = (*also, *(other for name in also for other in WITH.get((target.name, name), ())))
    given = {}
    left_out = {other for name in also for other in INSTEAD_OF.get((target.name, name), ())}
    for name, p in target.parameters.items():
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            wanted = name in also or target.name.startswith(("experiments.grid", "arguments.output"))
        else:
            wanted = p.default is p.empty or name in CALLS.get(target.name, {}) or name in also
        wanted = wanted and name not in left_out
        if wanted and (made := entry(target, name)) is not None:
            given[name] = made()
        elif wanted and p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            raise LookupError(f"give {target.name} a canonical call in tests/surface/calls.py: no value for {name!r}")
    return given


def call(target: Target, given: dict[str, object], owner: object = None) -> object:
    """The call itself; `*keys` is given as one value or a tuple of them, `**axes` as the value of an axis `axes`."""
    positional, named = [], {}
    parameters = target.parameters
    spread = any(p.kind is p.VAR_POSITIONAL for n, p in parameters.items() if n in given)
    for name, value in given.items():
        p = parameters[name]
        if p.kind is p.VAR_POSITIONAL:
            positional += list(value) if type(value) is tuple else [value]
        elif p.kind is p.POSITIONAL_ONLY or (spread and p.kind is p.POSITIONAL_OR_KEYWORD):
            positional.append(value)
        else:
            named[name] = value
    if target.kind == "method":
        positional = [owner, *positional]
    result = target.function(*positional, **named)
    if isinstance(result, contextlib.AbstractContextManager) and hasattr(result, "gen"):
        with result as inside:  # its work begins when it is entered
            if isinstance(inside, Path) and not inside.exists():  # a place to write to, of a new name at every call
                inside.touch()
                return inside.parent
            return inside
    return list(itertools.islice(result, 100)) if inspect.isgenerator(result) else result
