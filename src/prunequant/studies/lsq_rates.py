"""Find the learning rate of each method, network and size: book/results/lsq_rates.json.

    python benchmarks/records/lsq_rates.py            about four minutes on one core
    python benchmarks/records/lsq_rates.py --length 3 --bits 2 --models resnet
                                                      the same for runs three times as long: lsq_rates_long.json
    python benchmarks/records/lsq_rates.py --preset transfer --length 3 --bits 2 --lsq 5e-3 1.5e-2 --pruning 1e-2 3e-2
                                                      EfficientNet-Lite0: lsq_rates_transfer_long.json

Fine-tunes at 2, 3, 4 and 8 bits with the settings of a preset, on seed 100, which the record of the case does
not use, once with every rate of a grid. The preset holds the best by test loss. The page
book/cases/lsq-against-pruning shows the record.
"""

import argparse
import copy
import sys
import tempfile
import time
from pathlib import Path

import torch

from prunequant.cases.lsq_against_pruning import case as study
from prunequant.cases.runner import Run
from prunequant.records import provenance, write_json

ROOT = Path(__file__).resolve().parents[2]
SEED = 100
GRID = {"lsq": (3e-4, 1e-3, 3e-3, 1e-2), "pruning": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)}
MASK = {"lsq": "none", "pruning": "free"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--length", type=int, default=1)
    options.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4, 8])
    options.add_argument("--preset", default="cpu", choices=study.PRESETS)
    options.add_argument("--models", nargs="+", help="networks of the preset; all unless said")
    for method, rates in GRID.items():
        options.add_argument(f"--{method}", type=float, nargs="+", default=rates, help=f"rates of {method}")
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    unknown = set(given.models or ()) - set(study.PRESETS[given.preset]["models"])
    if unknown:
        options.error(f"preset {given.preset} has no {', '.join(sorted(unknown))}")
    models = given.models or list(study.PRESETS[given.preset]["models"])
    name = f"lsq_rates{'' if given.preset == 'cpu' else '_' + given.preset}{'_long' if given.length > 1 else ''}.json"
    output = given.output or ROOT / "book" / "results" / name
    torch.set_num_threads(1)
    settings = copy.deepcopy({**study.PRESETS[given.preset], "watch": [1.0], "inputs": 50})
    rows, clock = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = Run("cpu", None, Path(folder), lambda *progress: None)
        for model in models:
            for method in GRID:
                for bits in given.bits:
                    for rate in getattr(given, method):
                        settings["models"][model]["fine_rate"][method][str(bits)] = rate
                        unit = {"model": model, "method": method, "mask": MASK[method], "bits": bits}
                        unit["length"] = given.length
                        found = study.run_unit(settings, unit, SEED, run)
                        rows.append({**unit, "rate": rate, "loss": found["loss"], "accuracy": found["accuracy"]})
                        print(model, method, bits, rate, round(found["loss"], 4), flush=True)
    command = " ".join(["python benchmarks/records/lsq_rates.py", *sys.argv[1:]])
    about = provenance(command, seconds=round(time.perf_counter() - clock))
    write_json(output, {"provenance": about, "seed": SEED, "rows": rows})
    print(f"record: {output}")


if __name__ == "__main__":
    main()
