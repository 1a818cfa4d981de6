"""Record both compressions of real weights, exactly: book/results/real_weights.json.

    python benchmarks/records/real_weights.py                 a few minutes on one core
    python benchmarks/records/real_weights.py --channels 2    a rehearsal, written to _build/

Tensors: every matrix and convolution of EfficientNet-Lite0, and of all-MiniLM-L6-v2 where its package is installed
(`make models`), with the exact best step at 2-8 bits. Layers: channels of seven convolutions of EfficientNet-Lite0 on
the activations of two photographs, both sides solved to the optimum (`proved`), at 2, 3, 4, 8 bits. The pages
book/versus/real-weights and book/versus/exact-optimum show the record.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from prunequant.claims import real_layers, real_records
from prunequant.records import provenance, write_json

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = {"project 96": ()}  # too wide for a proof within the node limit
SDP_UP_TO = 32


def rounded(value):
    """Six significant digits; what is infinite or not a number becomes null."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=12, help="channels of each layer")
    parser.add_argument("--crops", type=int, default=3, help="crops of each photograph")
    arguments = parser.parse_args()
    place = "book/results" if arguments.channels >= 12 else "_build"
    started = time.process_time()
    tensors = []
    for model, weights in (
        ("EfficientNet-Lite0", real_layers.tensors()),
        ("all-MiniLM-L6-v2", real_records.minilm_tensors()),
    ):
        for name, values in weights.items():
            tensors.append({"model": model} | real_records.tensor_row(name, values))
            print(model, name, file=sys.stderr, flush=True)
    layers = []
    for name in real_layers.LAYERS:
        for bits in WIDTHS.get(name, (2, 3, 4, 8)):
            layer = real_layers.layer(name, arguments.crops)
            for channel in layer.channels(arguments.channels):
                sdp = len(layer.weights) <= SDP_UP_TO and bits <= 4
                layers.append(real_records.channel_row(name, channel, bits, arguments.crops, sdp))
            print(name, bits, f"{time.process_time() - started:.0f} s", file=sys.stderr, flush=True)
    about = provenance(
        "python benchmarks/records/real_weights.py",
        channels=arguments.channels,
        crops=arguments.crops,
        cpu_seconds=round(time.process_time() - started),
    )
    record = {"provenance": about, "tensors": rounded(tensors), "layers": rounded(layers)}
    print(write_json(ROOT / place / "real_weights.json", record))


if __name__ == "__main__":
    main()
