"""Record the ImageNet ticket: book/results/ticket_efficientnet.json.

    python benchmarks/records/ticket_efficientnet.py                     about a minute and a half on two cores
    python benchmarks/records/ticket_efficientnet.py --ticket FILE       keep the ticket (8 MB) as well

Finds all weights of the integer EfficientNet-Lite0 inside a random network, writes the ticket, reads it back, runs it
on scikit-learn's two photographs and compares every logit. The page book/tickets/imagenet-ticket shows the record.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from prunequant.records import provenance
from prunequant.studies.imagenet_ticket import recover_efficientnet

RECORD = Path(__file__).resolve().parents[2] / "book" / "results" / "ticket_efficientnet.json"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ticket", type=Path, default=None, help="where to keep the ticket")
    options.add_argument("--seed", type=int, default=0, help="of the random source")
    options.add_argument("--output", type=Path, default=RECORD)
    given = options.parse_args()
    origin = provenance("python benchmarks/records/ticket_efficientnet.py", load_average=round(os.getloadavg()[0], 1))
    with tempfile.TemporaryDirectory() as folder:
        done = recover_efficientnet(
            given.ticket or Path(folder) / "efficientnet-lite0.ticket",
            given.seed,
            lambda name, i, n: print(f"{i}/{n} {name}", file=sys.stderr),
            given.output,
            origin=origin,
        )
    print(f"{done['logits_differing']} of {done['logits_compared']} logits differ; {done['seconds']}; {given.output}")


if __name__ == "__main__":
    main()
