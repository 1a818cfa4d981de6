"""The experiments of the book on path following, each a function that returns plain rows.

`one_bit_scaling` · `pruned_convolution` · `prune_and_quantize` · `scaling_over_depth` · `weight_laws` ·
`deep_network`, and `compare_quantizers`, `compare_pruners` for one layer with held-out data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.arguments import choice, flag, integer, real, shown
from prunequant.distortion import best_step
from prunequant.models import networks
from prunequant.path_following import theory
from prunequant.path_following.baselines import sparsegpt
from prunequant.path_following.certificates import certificate
from prunequant.path_following.checks import check_failure, check_feedback, check_scaling, check_seed, checked_matrix
from prunequant.path_following.convolution import compress_convolution, unfold
from prunequant.path_following.operators import FiniteGrid, Grid, OneBit, Operator, Prune, PruneThenQuantize
from prunequant.path_following.triangle import compress, prepare, size_for_sparsity
from prunequant.sparsity import magnitude
from prunequant.studies.inputs import DATA, LAWS, data  # noqa: F401 - DATA is part of the studies

if TYPE_CHECKING:
    from torch import Tensor, nn


def one_bit_scaling(
    scalings: Iterable[float] = (1, 2, 4, 8, 16, 32),
    sizes: Iterable[float | None] = (2.0, 1.0, None),
    hidden: Iterable[int] = (512,),
    seeds: int = 3,
    seed: int = 0,
) -> list[dict]:
    """One bit a weight in a small multilayer perceptron, over C, for several choices of the two values ±K.

    sizes : K as a multiple of each neuron's largest weight; None fits K to the neuron's weights in squares and clips
        those beyond it, so that no theorem applies. The last rows are the nearest value with fitted K, by method.
    Accuracies are means over `seeds` roundings.
    """
    model = networks.digits_mlp(tuple(hidden), seed)
    x, _, test, labels = networks.digits()
    rows = []
    for size in sizes:

        def choose(w, size=size):
            if size is None:
                return FiniteGrid(best_step(w, 2, axis=0), 2)
            return OneBit(size * np.maximum(np.abs(w).max(axis=0), np.finfo(np.float32).eps))

        for scaling in scalings:
            runs = [
                networks.compress_network(model, x, choose, scaling=scaling, seed=s, certify=False)
                for s in range(seeds)
            ]
            label = "fitted" if size is None else f"{size:g} × largest"
            rows.append(_network_row(model, runs, test, labels) | {"size": label, "scaling": float(scaling)})
    for label, feedback in (("nearest", "none"), ("gpfq", "path"), ("optq", "optq")):
        runs = [networks.compress_network(model, x, networks.grids(1), feedback, certify=False)]
        rows.append(_network_row(model, runs, test, labels) | {"size": label, "scaling": 1.0})
    return rows


def _network_row(model, runs, test, labels) -> dict:
    return {
        "accuracy": float(np.mean([networks.accuracy(m, test, labels) for m, _ in runs])),
        "original": networks.accuracy(model, test, labels),
        "output_error": float(np.mean([networks.output_error(model, m, test) for m, _ in runs])),
        "saturation": float(np.mean([np.mean([r.saturation for r in reports]) for _, reports in runs])),
        "sparsity": float(np.mean([np.mean([r.sparsity for r in reports]) for _, reports in runs])),
    }


def pruned_convolution(
    sparsities: Iterable[float] = (0.3, 0.5, 0.6, 0.7, 0.8),
    scalings: Iterable[float] = (1.0, 4.0),
    failure: float = 0.01,
    seed: int = 0,
) -> list[dict]:
    """The pruning operator on the second convolution of the digits network, over sparsity, beside its bounds.

    Rows hold the measured largest error over samples and filters, the theorem's bound and the certificate, both for
    all filters at once; "hard" rows have no bound in probability, their certificate is the worst case.
    """
    model = networks.digits_convnet(seed)
    x = model[:3](networks.digits()[0][:40]).detach().numpy().astype(np.float64)
    weight = model[3].weight.detach().numpy().astype(np.float64)
    patches = unfold(x, 3, stride=2, padding=1)[0]
    w = weight.reshape(len(weight), -1).T
    norm, _ = theory.column_norms(patches)
    rows = []
    for stochastic, scaling in [(True, c) for c in scalings] + [(False, 1.0)]:
        for sparsity in sparsities:
            try:
                size, _ = size_for_sparsity(w, patches, sparsity, stochastic, scaling=scaling, seed=seed)
            except ValueError:
                continue
            share = failure / len(weight)
            values, (result,) = compress_convolution(
                weight, x, Prune(size, stochastic), stride=2, padding=1, scaling=scaling, seed=seed, failure=share
            )
            bound = theory.error_bound(size, scaling, norm, len(patches), failure, len(weight))
            rows.append(
                {
                    "operator": "unbiased" if stochastic else "hard",
                    "scaling": scaling,
                    "sparsity": float(np.mean(values == 0)),
                    "size": size,
                    "error": float(result.error.max()),
                    "certificate": float(result.certificate.max()),
                    "bound": bound if stochastic else float("nan"),
                    "relative_error": result.relative_error,
                }
            )
    return rows


def prune_and_quantize(
    sizes: Iterable[float] = (1, 2, 4),
    bits: Iterable[int] = (3, 4, 6),
    scaling: float = 1.0,
    seeds: int = 3,
    seed: int = 0,
    stochastic: bool = True,
) -> list[dict]:
    """Pruning and quantization together on the digits network; K in steps (a multiple, so on the grid).

    Each row has the share of neurons whose certificate held, over all layers and seeds. With ``stochastic=False`` a
    hard threshold and nearest rounding, whose certificates are the worst case.
    """
    model = networks.digits_mlp((64,), seed)
    x, _, test, labels = networks.digits()
    rows = []
    for b in bits:
        for size in sizes:

            def choose(w, b=b, size=size):
                step = best_step(w, 2**b, axis=0)
                return PruneThenQuantize(size * step, step, stochastic)

            runs = [networks.compress_network(model, x, choose, scaling=scaling, seed=s) for s in range(seeds)]
            rows.append(
                _network_row(model, runs, test, labels)
                | {
                    "bits": b,
                    "size": float(size),
                    "certified": float(np.mean([r.certified for _, reports in runs for r in reports])),
                    "slack": float(np.median([r.slack for _, reports in runs for r in reports])),
                }
            )
    return rows


def scaling_over_depth(
    depths: Iterable[int] = (1, 2, 4, 6),
    scalings: Iterable[float] = (1, 2, 4, 16),
    bits: int = 3,
    seeds: int = 3,
    seed: int = 0,
) -> list[dict]:
    """The scaling in networks of growing depth: stochastic rounding at `bits`, output error and accuracy."""
    x, _, test, labels = networks.digits()
    rows = []
    for depth in depths:
        model = networks.digits_mlp((64,) * depth, seed)
        for scaling in scalings:
            runs = [
                networks.compress_network(model, x, networks.grids(bits, True), scaling=scaling, seed=s, certify=False)
                for s in range(seeds)
            ]
            rows.append(
                _network_row(model, runs, test, labels) | {"depth": depth, "scaling": float(scaling), "bits": bits}
            )
    return rows


def _listed(values, name: str) -> tuple:
    """The values of a parameter that takes several, whatever holds them."""
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping) or getattr(values, "ndim", 1) != 1:
        raise TypeError(f"{name} is {shown(values)}: it must be a sequence")
    return tuple(values)


def _widths(bits) -> tuple[int, ...]:
    return tuple(integer(b, f"bits[{i}]", 1, 16) for i, b in enumerate(_listed(bits, "bits")))


def _layer(samples, features, neurons) -> tuple[int, int, int]:
    """Sizes of one layer of a study: what a correction of every weight costs stays at minutes."""
    samples, features = integer(samples, "samples", 1, 2**14), integer(features, "features", 2, 4096)
    neurons = integer(neurons, "neurons", 1, 4096)
    if features**2 * neurons > 2**30:
        raise ValueError(f"features is {features} and neurons is {neurons}: features² · neurons is at most 2^30")
    return samples, features, neurons


def weight_laws(
    laws: Iterable[str] = tuple(LAWS),
    samples: int = 256,
    features: int = 256,
    neurons: int = 64,
    bits: int = 4,
    seed: int = 0,
) -> list[dict]:
    """One layer, one data set, many laws (or initialisations) of its weights: errors, and a bound that never asks.

    The certificate depends on the inputs and the step alone; the steps are fitted to each law.
    """
    laws = tuple(choice(name, f"laws[{i}]", LAWS) for i, name in enumerate(_listed(laws, "laws")))
    (samples, features, neurons), bits = _layer(samples, features, neurons), integer(bits, "bits", 1, 16)
    seed = check_seed(seed)
    x = data("correlated", samples, features, seed)
    rows = []
    for name in laws:
        w = LAWS[name](np.random.default_rng(seed), (features, neurons))
        step = best_step(w, 2**bits, axis=0)
        row = {"law": name, "largest": float(np.abs(w).max())}
        for label, operator, feedback in (
            ("rtn", Grid(step, False), "none"),
            ("gpfq", Grid(step, False), "path"),
            ("spfq", Grid(step), "path"),
            ("optq", Grid(step, False), "optq"),
        ):
            result = compress(w, x, operator, feedback, seed=seed, failure=0.01 / neurons)
            row[label] = result.relative_error
            if label == "spfq":
                row["slack"] = float(np.median(result.certificate / result.error))
                row["held"] = bool(np.all(result.error <= result.certificate))
        rows.append(row)
    return rows


def deep_network(
    model: nn.Module,
    calibration: ArrayLike | Tensor,
    test: ArrayLike | Tensor,
    settings: Iterable[dict],
    seed: int = 0,
    certify: bool = True,
) -> list[dict]:
    """A deep torch network compressed whole, one row a setting: output error and agreement on held-out inputs `test`.

    A setting is a dictionary with `label`, `bits`, `feedback`, `stochastic` and, if wanted, `alignment`. Agreement is
    with the uncompressed network's first answer. Stochastic grids have no end, so that each neuron is certified.
    """
    rows = []
    for setting in settings:
        stochastic = setting["stochastic"]
        small, reports = networks.compress_network(
            model,
            calibration,
            networks.grids(setting["bits"], stochastic, finite=not stochastic),
            setting["feedback"],
            seed=seed,
            alignment=setting.get("alignment"),
            certify=certify and stochastic,
        )
        row = dict(setting) | {
            "agreement": networks.agreement(model, small, test),
            "output_error": networks.output_error(model, small, test),
            "layers": len(reports),
            "median_relative_error": float(np.median([r.relative_error for r in reports])),
        }
        if certify and stochastic:
            row["certified"] = float(np.mean([r.certified for r in reports]))
            row["slack"] = float(np.median([r.slack for r in reports]))
        rows.append(row)
    return rows


METHODS = (
    ("rtn", "none", False, 1.0),
    ("stochastic rtn", "none", True, 1.0),
    ("gpfq", "path", False, 1.0),
    ("spfq", "path", True, 1.0),
    ("spfq C=4", "path", True, 4.0),
    ("optq", "optq", False, 1.0),
    ("stochastic optq", "optq", True, 1.0),
)


def _method(row) -> tuple[str, str, bool, float]:
    if not isinstance(row, list | tuple) or len(row) != 4 or not isinstance(row[0], str):
        raise TypeError(f"methods holds {shown(row)}: it must hold (label, feedback, stochastic, scaling)")
    label, feedback, stochastic, scaling = row
    return label, check_feedback(feedback), flag(stochastic, "methods: stochastic"), check_scaling(scaling)


def compare_quantizers(
    kind: str = "white",
    samples: int = 256,
    features: int = 512,
    neurons: int = 128,
    bits: Iterable[int] = (1, 2, 3, 4),
    seed: int = 0,
    methods: Iterable[tuple[str, str, bool, float]] = METHODS,
) -> list[dict]:
    """Relative output error of each method, on the calibration samples and on 2048 others of the same kind.

    Gaussian weights, 2**bits mid-rise levels, one step for the layer, chosen for each method on its training error.
    """
    (samples, features, neurons), bits = _layer(samples, features, neurons), _widths(bits)
    seed, methods = check_seed(seed), tuple(map(_method, _listed(methods, "methods")))
    both = data(kind, samples + 2048, features, seed)
    x, held_out = both[:samples], both[samples:]
    w = np.random.default_rng(np.random.SeedSequence((seed, 99))).standard_normal((features, neurons))
    layers = {label: prepare(w, x, feedback, scaling) for label, feedback, _, scaling in methods}
    rows = []
    for b in bits:
        base = best_step(w, 2**b)
        for label, _, stochastic, _ in methods:
            results = [
                layers[label].round(FiniteGrid(base * ratio, 2**b, stochastic), seed)
                for ratio in np.linspace(0.7, 1.8, 12)
            ]
            best = min(results, key=lambda r: r.relative_error)
            rows.append(
                {
                    "method": label,
                    "bits": b,
                    "data": kind,
                    "samples": samples,
                    "train": best.relative_error,
                    "held_out": best.held_out_error(held_out),
                }
            )
    return rows


def compare_pruners(
    kind: str = "white",
    samples: int = 128,
    features: int = 256,
    neurons: int = 96,
    sparsities: Iterable[float] = (0.5, 0.7, 0.8, 0.9),
    seed: int = 0,
) -> list[dict]:
    """The same for pruning: magnitude, SparseGPT, hard thresholds with path and OPTQ feedback, unbiased with C.

    The errors of a method that does not reach a sparsity are nan.
    """
    (samples, features, neurons), seed = _layer(samples, features, neurons), check_seed(seed)
    sparsities = tuple(
        real(s, f"sparsities[{i}]", 0, 1, open_low=True, open_high=True)
        for i, s in enumerate(_listed(sparsities, "sparsities"))
    )
    both = data(kind, samples + 2048, features, seed)
    x, held_out = both[:samples], both[samples:]
    w = np.random.default_rng(np.random.SeedSequence((seed, 99))).standard_normal((features, neurons))

    def errors(values):
        return tuple(float(np.linalg.norm(z @ (w - values)) / np.linalg.norm(z @ w)) for z in (x, held_out))

    rows = []
    for sparsity in sparsities:
        masks: dict[str, NDArray | None] = {
            "magnitude": np.where(magnitude(w, sparsity), w, 0),
            "sparsegpt": sparsegpt(w, x, sparsity),
        }
        for label, feedback, stochastic, scaling in (
            ("hard gpfq", "path", False, 1.0),
            ("hard optq", "optq", False, 1.0),
            ("unbiased", "none", True, 1.0),
            ("unbiased C=1", "path", True, 1.0),
            ("unbiased C=4", "path", True, 4.0),
            ("unbiased C=16", "path", True, 16.0),
        ):
            try:
                masks[label] = size_for_sparsity(
                    w, x, sparsity, stochastic, steps=18, feedback=feedback, scaling=scaling, seed=seed
                )[1].weights
            except ValueError:
                masks[label] = None
        for label, values in masks.items():
            train, test = (float("nan"),) * 2 if values is None else errors(values)
            rows.append(
                {
                    "method": label,
                    "sparsity": sparsity,
                    "data": kind,
                    "samples": samples,
                    "train": train,
                    "held_out": test,
                }
            )
    return rows


def coverage(
    kind: str,
    operator: Operator,
    scaling: float = 1.0,
    samples: int = 64,
    features: int = 128,
    seeds: int = 1000,
    failure: float = 0.05,
    seed: int = 0,
) -> dict:
    """How often the theorem's bound and the certificate are passed, over `seeds` roundings of fresh weights.

    One data set of this kind and uniform weights in [−1, 1], one column a seed: given the inputs, their roundings are
    independent.
    """
    samples, features, _ = _layer(samples, features, 1)
    seeds, seed = integer(seeds, "seeds", 1, 2**27 // features), check_seed(seed)
    x = data(kind, samples, features, seed)
    w = np.random.default_rng(np.random.SeedSequence((seed, 7))).uniform(-1, 1, (features, seeds))
    return {"data": kind} | coverage_of(x, w, operator, scaling, failure, seed)


def coverage_of(
    x: NDArray, w: NDArray, operator: Operator, scaling: float = 1.0, failure: float = 0.05, seed: int = 0
) -> dict:
    """The same for given inputs (samples, features) and weights (features, columns), such as a real layer's.

    Repeat the columns to see one layer under many seeds: every column has draws of its own. Slacks are over the
    (1 − failure)-quantile of the error, infinite where that is 0; clipped walks are not counted as
    passing a certificate.
    """
    x, w, failure = checked_matrix("x", x, np.float64), checked_matrix("w", w, np.float64), check_failure(failure)
    if len(w) != x.shape[1]:
        raise ValueError(f"x has shape {x.shape} and w {w.shape}: (samples, features), (features, columns) are needed")
    result = compress(w, x, operator, scaling=scaling, seed=seed, failure=failure)
    clipped = np.asarray(result.saturation) > 0
    norm, _ = theory.column_norms(x)
    bound = theory.error_bound(float(operator.parameter), scaling, norm, len(x), failure)
    bar = certificate(x, operator, scaling, failure)
    typical = float(np.quantile(result.error, 1 - failure))
    return {
        "operator": type(operator).__name__,
        "samples": x.shape[0],
        "features": x.shape[1],
        "scaling": float(scaling),
        "seeds": w.shape[1],
        "failure": failure,
        "bound_passed": int(np.sum((result.error > bound) & ~clipped)),
        "certificate_passed": int(np.sum((result.error > bar) & ~clipped)),
        "clipped": int(clipped.sum()),
        "bound_slack": bound / typical if typical else math.inf,
        "certificate_slack": bar / typical if typical else math.inf,
    }
