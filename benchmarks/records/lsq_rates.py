"""Find the learning rate of each method, network and size: book/results/lsq_rates.json.

    python benchmarks/records/lsq_rates.py            about four minutes on one core

Fine-tunes at 2, 3, 4 and 8 bits with the settings of the preset cpu, on seed 100, which the record of the case does
not use, once with every rate of a grid. The preset holds the best by test loss. The page
book/cases/lsq-against-pruning shows the record.
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch

from prunequant.experiments import provenance, write_json
from prunequant.finetune import lsq_against_pruning as study
from prunequant.finetune.case import Run

ROOT = Path(__file__).resolve().parents[2]
SEED = 100
GRID = {"lsq": (3e-4, 1e-3, 3e-3, 1e-2), "pruning": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)}
MASK = {"lsq": "none", "pruning": "free"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=ROOT / "book" / "results" / "lsq_rates.json")
    given = options.parse_args()
    torch.set_num_threads(1)
    settings = copy.deepcopy({**study.PRESETS["cpu"], "watch": [1.0], "inputs": 50})
    rows, clock = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = Run("cpu", None, Path(folder), lambda *progress: None)
        for model in settings["models"]:
            for method, rates in GRID.items():
                for bits in (2, 3, 4, 8):
                    for rate in rates:
                        settings["models"][model]["fine_rate"][method][str(bits)] = rate
                        unit = {"model": model, "method": method, "mask": MASK[method], "bits": bits, "length": 1}
                        found = study.run_unit(settings, unit, SEED, run)
                        rows.append({**unit, "rate": rate, "loss": found["loss"], "accuracy": found["accuracy"]})
                        print(model, method, bits, rate, round(found["loss"], 4), flush=True)
    about = provenance("python benchmarks/records/lsq_rates.py", seconds=round(time.perf_counter() - clock))
    write_json(given.output, {"provenance": about, "seed": SEED, "rows": rows})
    print(f"record: {given.output}")


if __name__ == "__main__":
    main()
