"""Record whole networks compressed along paths: book/results/paths_networks.json.

    python benchmarks/records/paths_networks.py                 about five minutes of one core
    python benchmarks/records/paths_networks.py --quick --output _build/networks.json

EfficientNet-Lite0 (ImageNet weights, 50 layers) calibrated on crops of scikit-learn's two photographs, every layer with
the compressed network's own inputs, and the digits network, where there are labels. Agreement is with the uncompressed
network's first answer on other crops: two photographs are a small world, so the output error says more. Shown by
book/paths/honest-comparison.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch

from prunequant.models import efficientnet, networks
from prunequant.records import provenance, write_json
from prunequant.studies import paths as studies

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results"
# OPTQ as published corrects within a layer; aligned, it also mends what the layers below have changed, as GPFQ does
METHODS = (
    {"label": "rtn", "feedback": "none", "stochastic": False},
    {"label": "gpfq", "feedback": "path", "stochastic": False},
    {"label": "spfq", "feedback": "path", "stochastic": True},
    {"label": "optq", "feedback": "optq", "stochastic": False},
    {"label": "optq aligned", "feedback": "optq", "stochastic": False, "alignment": 1},
)


def digits(bits) -> list[dict]:
    """Accuracy on 500 test digits, two hidden layers."""
    model = networks.digits_mlp((64, 64))
    x, _, test, labels = networks.digits()
    rows = []
    for b in bits:
        for method in METHODS:
            stochastic = method["stochastic"]
            small, reports = networks.compress_network(
                model,
                x,
                networks.grids(b, stochastic, finite=not stochastic),
                method["feedback"],
                alignment=method.get("alignment"),
                certify=stochastic,
            )
            rows.append(
                {
                    "label": method["label"],
                    "bits": b,
                    "accuracy": networks.accuracy(small, test, labels),
                    "original": networks.accuracy(model, test, labels),
                    "output_error": networks.output_error(model, small, test),
                    "layers": [r.row() for r in reports] if stochastic else [],
                }
            )
    return rows


def deep(bits, crops: int) -> dict:
    """EfficientNet-Lite0: one row a setting, and the layers of one certified run."""
    model = efficientnet.load_efficientnet_lite0()
    pictures = efficientnet.photographs().values()
    calibration = torch.cat([efficientnet.crops(p, crops, seed=1) for p in pictures])
    test = torch.cat([efficientnet.crops(p, 2 * crops, seed=2) for p in pictures])
    rows = []
    for b in bits:
        for method in METHODS:
            rows += studies.deep_network(model, calibration, test, [method | {"bits": b}])
            print({k: rows[-1][k] for k in ("label", "bits", "agreement", "output_error")}, flush=True)
    _, reports = networks.compress_network(model, calibration, networks.grids(6, True, finite=False))
    return {"calibration": len(calibration), "test": len(test), "rows": rows, "layers": [r.row() for r in reports]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "paths_networks.json")
    options = parser.parse_args()
    start = time.time()
    record = {
        "name": "paths_networks",
        "digits": digits((4,) if options.quick else (2, 3, 4, 6)),
        "efficientnet": deep((6,) if options.quick else (8, 6, 4), 4 if options.quick else 8),
    }
    command = "python benchmarks/records/paths_networks.py" + (" --quick" if options.quick else "")
    record["provenance"] = provenance(command, seconds=round(time.time() - start, 1))
    write_json(options.output, record)
    print(options.output)


if __name__ == "__main__":
    main()
