"""Record the experiments on small trained networks: book/results/paths_studies.json.

    python benchmarks/records/paths_studies.py                  about five minutes of one core
    python benchmarks/records/paths_studies.py --quick --output _build/studies.json

One bit in a multilayer perceptron over the scaling (book/paths/few-levels), the scaling over depth
(book/paths/honest-comparison), the pruning operator on a convolution over sparsity, and pruning with quantization
(book/paths/pruning-and-both). The networks are
trained here, on scikit-learn's digits. Training in floating point differs in its last bits from machine to machine,
which is why the pages show this record.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

from prunequant.records import provenance, write_json
from prunequant.studies import paths as studies

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "paths_studies.json")
    options = parser.parse_args()
    quick, start = options.quick, time.time()
    seeds = 1 if quick else 5
    record = {
        "name": "paths_studies",
        "one_bit_scaling": [
            row | {"hidden": hidden}
            for hidden in ((32,) if quick else (128, 512))
            for row in studies.one_bit_scaling(
                (1, 16) if quick else (1, 2, 4, 8, 16, 32, 64), hidden=(hidden,), seeds=seeds
            )
        ],
        "scaling_over_depth": studies.scaling_over_depth(
            (1, 4) if quick else (1, 2, 4, 6), (1, 2, 4, 16), seeds=1 if quick else 3
        ),
        "pruned_convolution": studies.pruned_convolution(
            (0.5, 0.7) if quick else (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8), (1.0, 4.0)
        ),
        "prune_and_quantize": [
            row | {"stochastic": stochastic}
            for stochastic in (True, False)
            for row in studies.prune_and_quantize(
                (1, 4) if quick else (1, 2, 4, 8), (4,) if quick else (3, 4, 6), seeds=seeds, stochastic=stochastic
            )
        ],
    }
    for row in record["pruned_convolution"]:
        row["bound"] = None if row["bound"] != row["bound"] else row["bound"]  # JSON has no nan
    command = "python benchmarks/records/paths_studies.py" + (" --quick" if quick else "")
    record["provenance"] = provenance(command, seconds=round(time.time() - start, 1))
    write_json(options.output, record)
    print(options.output)


if __name__ == "__main__":
    main()
