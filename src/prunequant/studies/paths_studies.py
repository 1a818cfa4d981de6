"""Experiments on small trained networks, compressed along paths.

One bit in a multilayer perceptron over the scaling (book/paths/few-levels), the scaling over depth
(book/paths/honest-comparison), the pruning operator on a convolution over sparsity, and pruning with quantization
(book/paths/pruning-and-both). The networks are trained here, on scikit-learn's digits, in double precision: a
difference in the last bit between two machines grows a few hundredfold, so that what is printed does not feel it.
"""

from __future__ import annotations

from prunequant.experiments import grid
from prunequant.studies import paths as studies
from prunequant.studies.runner import At, Study


def one_bit_unit(hidden: int, scalings: list, seeds: int, seed: int) -> dict:
    """One bit over the scaling, one hidden layer of so many neurons."""
    rows = studies.one_bit_scaling(tuple(scalings), hidden=(hidden,), seeds=seeds)
    return {"rows": [row | {"hidden": hidden} for row in rows]}


def depth_unit(depths: list, scalings: list, seeds: int, seed: int) -> dict:
    """The scaling over depth."""
    return {"rows": studies.scaling_over_depth(tuple(depths), tuple(scalings), seeds=seeds)}


def convolution_unit(sparsities: list, scalings: list, seed: int) -> dict:
    """The pruning operator on a convolution over sparsity."""
    rows = studies.pruned_convolution(tuple(sparsities), tuple(scalings))
    return {"rows": [row | {"bound": None if row["bound"] != row["bound"] else row["bound"]} for row in rows]}  # no nan


def both_unit(stochastic: bool, scalings: list, bits: list, seeds: int, seed: int) -> dict:
    """Pruning with quantization."""
    rows = studies.prune_and_quantize(tuple(scalings), tuple(bits), seeds=seeds, stochastic=stochastic)
    return {"rows": [row | {"stochastic": stochastic} for row in rows]}


def make(at: At, quick: bool) -> dict:
    """All four experiments; `quick` is a rehearsal on few settings and one seed."""

    def rows(function, units: list[dict], part: str) -> list[dict]:
        return [row for unit in at.sweep(function, units, name=f"paths_studies: {part}") for row in unit["rows"]]

    seeds = 1 if quick else 5
    scalings = [1, 16] if quick else [1, 2, 4, 8, 16, 32, 64]
    sparsities = [0.5, 0.7] if quick else [0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8]
    depth = {"depths": [1, 4] if quick else [1, 2, 4, 6], "scalings": [1, 2, 4, 16], "seeds": 1 if quick else 3}
    both: dict[str, list] = {
        "scalings": [[1, 4] if quick else [1, 2, 4, 8]],
        "bits": [[4] if quick else [3, 4, 6]],
        "seeds": [seeds],
    }
    hidden = grid(hidden=[32] if quick else [128, 512], scalings=[scalings], seeds=[seeds])
    return {
        "name": "paths_studies",
        "one_bit_scaling": rows(one_bit_unit, hidden, "one bit"),
        "scaling_over_depth": rows(depth_unit, [depth], "depth"),
        "pruned_convolution": rows(
            convolution_unit, [{"sparsities": sparsities, "scalings": [1.0, 4.0]}], "convolution"
        ),
        "prune_and_quantize": rows(both_unit, grid(stochastic=[True, False], **both), "both"),
    }


STUDIES = {
    "paths-studies": Study(
        "paths-studies",
        "small trained networks compressed along paths",
        ("paths_studies.json",),
        make,
        10,
        {"quick": False},
        needs=("torch", "sklearn"),
        threads=2,
        version=2,  # trained in float64; the exact step
    )
}
