"""Record the orthogonality threshold of EfficientNet-Lite0: book/results/threshold_efficientnet.json.

    python benchmarks/records/threshold_efficientnet.py               16 crops, a few minutes on two cores
    python benchmarks/records/threshold_efficientnet.py --crops 4     a rehearsal

There is no ImageNet here. The loss of a compressed network is its cross-entropy against the dense network's own
probabilities on crops of scikit-learn's two photographs: the dense value is their entropy, and what compression adds is
a Kullback-Leibler divergence. Pairs are crops: the intervals speak of crops of these two photographs, not of images.
Convolutions are matrices (outputs, inputs); "2:4" is applied where the row divides by 4, that is to all but the
depthwise filters and the stem, which are then quantized only.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from prunequant.formats import HBFP, MX, Integer
from prunequant.interplay import apply_orders, threshold
from prunequant.records import provenance, write_json
from prunequant.statistics import paired

ROOT = Path(__file__).resolve().parents[2]
FORMATS = {
    "INT8": Integer(8, granularity="row"),
    "INT4": Integer(4, granularity="row"),
    "HBFP6": HBFP(6),
    "MXFP8": MX("fp8_e4m3"),
    "MXFP4": MX("fp4_e2m1"),
}
BOTH = ("sq", "qs first", "qs random", "qs magnitude", "joint")


def compressed(w: np.ndarray, fmt, pattern, kind: str) -> np.ndarray:
    """One layer's weights (outputs, ...) under one kind of compression, its rows flattened."""
    rows = w.reshape(w.shape[0], -1)
    if isinstance(pattern, str) and rows.shape[1] % int(pattern.split(":")[1]):
        return w if kind == "s" else fmt.quantize(rows).reshape(w.shape)
    order, _, ties = kind.partition(" ")
    made = apply_orders(rows, fmt, pattern, (order,) if order in ("sq", "qs", "joint") else (), ties or "first")
    values = {"s": made.pruned, "q": made.quantized, **made.compressed}[order]
    return values.reshape(w.shape)


def main() -> None:
    import torch

    from prunequant.models import efficientnet

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--crops", type=int, default=16)
    options.add_argument("--output", type=Path, default=ROOT / "book" / "results" / "threshold_efficientnet.json")
    given = options.parse_args()
    clock = time.perf_counter()
    model = efficientnet.load_efficientnet_lite0()
    images = efficientnet.photographs()
    half = given.crops // 2
    x = torch.cat([efficientnet.crops(image, half, seed=k) for k, image in enumerate(images.values())])
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    dense = [layer.weight.detach().clone() for layer in layers]

    def log_probabilities() -> torch.Tensor:
        with torch.no_grad():
            return torch.log_softmax(torch.cat([model(part) for part in x.split(8)]), dim=1)

    target = log_probabilities()
    entropy = -(target.exp() * target).sum(dim=1).double().numpy()

    def losses(fmt, pattern, kind: str) -> tuple[np.ndarray, float]:
        with torch.no_grad():
            for layer, w in zip(layers, dense):
                layer.weight.copy_(torch.from_numpy(compressed(w.numpy(), fmt, pattern, kind)))
        found = log_probabilities()
        with torch.no_grad():
            for layer, w in zip(layers, dense):
                layer.weight.copy_(w)
        agree = float((found.argmax(dim=1) == target.argmax(dim=1)).double().mean())
        return -(target.exp() * found).sum(dim=1).double().numpy(), agree

    rows = []
    quantized = {name: losses(fmt, 0.0, "q") for name, fmt in FORMATS.items()}
    for pattern in (0.1, 0.2, "2:4"):
        pruned = losses(FORMATS["INT8"], pattern, "s")
        for name, fmt in FORMATS.items():
            found = {"s": pruned, "q": quantized[name], **{kind: losses(fmt, pattern, kind) for kind in BOTH}}
            loss = {kind: values for kind, (values, _) in found.items()}
            row = {
                "pattern": str(pattern),
                "format": name,
                "loss": {"dense": float(entropy.mean()), **{k: float(v.mean()) for k, v in loss.items()}},
                "same top-1": {kind: share for kind, (_, share) in found.items()},
            }
            for kind in ("sq", "qs first", "qs random"):
                t = threshold(entropy, loss["s"], loss["q"], loss[kind])
                row[f"{kind} over threshold"] = {"threshold": t.value, "compounds": t.compounds, **asdict(t.excess)}
            for kind in ("qs first", "qs random", "qs magnitude", "joint"):
                row[f"{kind} minus sq"] = asdict(paired(loss[kind] - loss["sq"]))
            rows.append(row)
            print(
                pattern,
                name,
                {k: round(v, 3) for k, v in row["loss"].items()},
                row["sq over threshold"]["compounds"],
                flush=True,
            )
    about = provenance(
        f"python benchmarks/records/threshold_efficientnet.py --crops {given.crops}",
        crops=given.crops,
        seconds=round(time.perf_counter() - clock),
    )
    write_json(given.output, {"provenance": about, "rows": rows})
    print(f"record: {given.output}")


if __name__ == "__main__":
    main()
