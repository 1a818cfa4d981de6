"""Record how often the bounds and certificates of path following are passed: book/results/paths_coverage.json.

    python benchmarks/records/paths_coverage.py                 2000 seeds a case, a few minutes
    python benchmarks/records/paths_coverage.py --seeds 200 --output _build/coverage.json

Five kinds of data × five operators × scalings × two failure probabilities, and real layers: the first layer of a digits
network and layers of EfficientNet-Lite0 on patches of two photographs, each rounded under many seeds. Shown by
book/paths/certificates.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import torch

from prunequant.models import efficientnet, networks
from prunequant.path_following import FiniteGrid, Grid, OneBit, Prune, PruneThenQuantize, theory, unfold
from prunequant.records import provenance, write_json
from prunequant.studies import paths as studies

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results"
LAYERS = ("_conv_stem", "_blocks.1._expand_conv", "_blocks.5._expand_conv", "_blocks.9._project_conv")


def synthetic(seeds: int) -> list[dict]:
    """Uniform weights on five kinds of data; one bit with the scaling of its theorem, so with no clipping."""
    rows, samples, features = [], 64, 256
    for kind in studies.DATA:
        for failure in (0.01, 0.1):
            for scaling in (1.0, 4.0, 16.0):
                for operator in (Grid(0.25), FiniteGrid(0.25, 41), Prune(0.9), PruneThenQuantize(0.75, 0.25)):
                    rows.append(studies.coverage(kind, operator, scaling, samples, features, seeds, failure))
            norms = np.linalg.norm(studies.data(kind, samples, features), axis=0)
            ratio = norms.max() / norms[norms > 0].min()
            scaling = theory.one_bit_scaling(features, min(ratio, 4.0), failure)
            rows.append(studies.coverage(kind, OneBit(2.0), scaling, samples, features, seeds, failure))
    return rows


def real_layers() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, inputs (samples, features), weights (features, neurons))."""
    model = networks.digits_mlp((64,))
    out = [("digits, first layer", networks.digits()[0][:256].numpy(), model[0].weight.detach().numpy().T)]
    net, seen = efficientnet.load_efficientnet_lite0(), {}
    modules = dict(net.named_modules())
    hooks = [
        modules[name].register_forward_pre_hook(lambda m, args, name=name: seen.__setitem__(name, args[0]))
        for name in LAYERS
    ]
    with torch.no_grad():
        net(torch.cat([efficientnet.crops(image, 2, seed=1) for image in efficientnet.photographs().values()]))
    for hook in hooks:
        hook.remove()
    for name in LAYERS:
        m, x = modules[name], seen[name]
        shape = dict(kernel=m.kernel_size, stride=m.stride, padding=m.padding_of(*x.shape[-2:]))
        patches = unfold(x, **shape)[0]
        chosen = np.sort(np.random.default_rng(0).permutation(len(patches))[:512])
        out.append(
            (f"EfficientNet-Lite0, {name}", patches[chosen], m.weight.detach().numpy().reshape(len(m.weight), -1).T)
        )
    return [(name, x.astype(np.float64), w.astype(np.float64)) for name, x, w in out]


def real(seeds: int) -> list[dict]:
    """Real weights and inputs: the first eight neurons of each layer, each under `seeds` seeds."""
    rows = []
    for name, x, w in real_layers():
        step = float(networks.fit_step(w.reshape(-1, 1), 16)[0])
        for operator in (Grid(step), Prune(4 * step), PruneThenQuantize(4 * step, step)):
            for scaling in (1.0, 4.0):
                columns = np.repeat(w[:, :8], seeds // 8, axis=1)
                rows.append({"data": name} | studies.coverage_of(x, columns, operator, scaling, 0.05))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=RESULTS / "paths_coverage.json")
    options = parser.parse_args()
    start = time.time()
    made = synthetic(options.seeds)
    layers = real(options.seeds)
    record = {
        "name": "paths_coverage",
        "seeds": options.seeds,
        "synthetic": made,
        "real": layers,
        "provenance": provenance(
            f"python benchmarks/records/paths_coverage.py --seeds {options.seeds}",
            seconds=round(time.time() - start, 1),
        ),
    }
    write_json(options.output, record)
    rows = made + layers
    print(f"{len(rows)} cases, {sum(r['seeds'] for r in rows)} walks: {options.output}")
    worst = max(r["certificate_passed"] / (r["failure"] * r["seeds"]) for r in rows)
    print(f"certificates passed, most, as a share of what is allowed: {worst:.3f}")


if __name__ == "__main__":
    main()
