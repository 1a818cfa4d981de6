"""What the layers of a module see on batches of inputs: Gram matrices, from a sample of rows, and batches of any form.

A batch is a tensor, or a tuple or list of the positional arguments of a module, or a dictionary of its named ones. The
Gram matrix Σ x xᵀ of a layer's inputs is all that methods and output errors need: it is summed over batches, uses and
rows in double precision, and its size does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prunequant import arguments
from prunequant.arguments import shown
from prunequant.models.inventory import Inventory
from prunequant.models.layers import Site, chosen_rows, evaluating, watching
from prunequant.path_following.checks import check_seed

Batch: TypeAlias = Tensor | tuple | list | Mapping[str, Any]
Forward: TypeAlias = Callable[[nn.Module, Any], Any]

_NO_BATCHES = "{name} is {given}: it must be an iterable of batches, such as a list [x]"
FORWARD = "a function of a module and a batch"
_ROWS = 4096  # drawn a batch for a layer of few features; else four times its features


def run(module: nn.Module, batch: Batch) -> Any:
    """The module's answer to a batch.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Linear(2, 3)
    >>> x = torch.ones(5, 2)
    >>> [tuple(run(layer, batch).shape) for batch in (x, (x,), {"input": x})]
    [(5, 3), (5, 3), (5, 3)]
    """
    arguments.instance(module, "module", nn.Module, "a torch module")
    if not isinstance(batch, Tensor | Mapping | tuple | list):
        raise TypeError(_not_a_batch(batch, "batch"))
    try:
        if isinstance(batch, Tensor):
            return module(batch)
        return module(**batch) if isinstance(batch, Mapping) else module(*batch)
    except TypeError as error:
        raise TypeError(f"batch is {shown(batch)}: the module does not take it ({error})") from error


def _not_a_batch(batch: object, name: str) -> str:
    return (
        f"{name} is {shown(batch)}: it must be a tensor, a tuple of arguments or a dictionary of named ones; for"
        " another form give `forward`, a function of module and batch"
    )


def batches_of(batches: object, name: str = "batches", forward: Forward | None = None) -> Iterator:
    """The batches one by one; a single tensor or dictionary is none: its rows would be taken for batches.

    With `run` as `forward` each must have a form that `run` knows.

    Raises
    ------
    TypeError : batches that are no iterable of batches; at its turn, a batch of another form.
    """
    if isinstance(batches, Tensor | Mapping | str | bytes) or not isinstance(batches, Iterable):
        raise TypeError(_NO_BATCHES.format(name=name, given=shown(batches)))
    try:
        given = (batch for batch in batches)
    except TypeError:  # an array without axes
        raise TypeError(_NO_BATCHES.format(name=name, given=shown(batches))) from None
    return _known(given, name) if forward is run else given


def _known(batches: Iterator, name: str) -> Iterator[Batch]:
    for number, batch in enumerate(batches):
        if not isinstance(batch, Tensor | Mapping | tuple | list):
            raise TypeError(_not_a_batch(batch, f"{name}[{number}]"))
        yield batch


def input_grams(
    module: nn.Module, batches: Iterable, *, samples: int | None = None, seed: int = 0, forward: Forward = run
) -> dict[str, NDArray[np.float64]]:
    """What the layers of a module see, for `prunequant compress --calibrate`: save it with ``numpy.savez``.

    Parameters
    ----------
    module, batches, samples, seed, forward : as for `compress`.

    Returns
    -------
    {"NAME.gram": (features, features) float64}, Σ x xᵀ for every parameter NAME that is one matrix: not the weights of
    grouped convolutions, nor a parameter whose parts see different inputs. (A matrix that the file does not have is
    rounded to nearest.)

    Examples
    --------
    >>> import torch
    >>> module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    >>> {name: gram.tolist() for name, gram in input_grams(module, [torch.eye(3), torch.eye(3)]).items()}
    {'0.weight.gram': [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]}
    """
    arguments.instance(module, "module", nn.Module, "a torch module")
    samples = None if samples is None else arguments.integer(samples, "samples", 1)
    arguments.function(forward, "forward", FORWARD)
    inventory = Inventory(module)
    grams = Grams(inventory.key, samples, check_seed(seed))
    grams.collect(module, inventory.open, batches_of(batches, forward=forward), forward)
    return grams.by_parameter(inventory)


class Grams:
    """Sums of x xᵀ over what each weight of a module sees.

    Parameters
    ----------
    key : of the weight of each layer, by the layer's name (`Inventory.key`).
    samples : rows or patches that a use of a layer gives a batch, drawn; None for 4096, or four times the features.
    seed : of the draws.
    skip, of : where a use has `of` rows, as a window has tokens, the first `skip` of them are left out. Of a use with
        another number of rows nobody knows which are the first: all of them count.

    Attributes
    ----------
    matrices : (groups, features, features) float64, by the weight's key.
    rows : how many rows were summed, by the weight's key.
    uses : how often the weight ran in the first batch in which it did, by its key.
    stages : the names of the layers in the order in which they first ran; those that read one tensor stand together.
    """

    def __init__(
        self, key: Mapping[str, tuple], samples: int | None = None, seed: int = 0, *, skip: int = 0, of: int = 0
    ) -> None:
        self.key, self.samples, self.seed, self.skip, self.of = key, samples, seed, skip, of
        self.matrices: dict[tuple, NDArray[np.float64]] = {}
        self.rows: dict[tuple, int] = {}
        self.uses: dict[tuple, int] = {}
        self.stages: list[list[str]] = []
        self._last: tuple[Tensor, int, NDArray] | None = None  # layers that share their input come in a row

    def collect(
        self,
        model: nn.Module,
        sites: Iterable[Site],
        batches: Iterable,
        forward: Forward = run,
        stop: bool = False,
        name: str = "batches",
    ) -> None:
        """Run a module on batches and see what these layers see; `stop` each run when all of them have been used.

        An error names the batches by `name`.

        Raises
        ------
        ValueError : inputs of a layer that are not finite.
        """
        sites = list(sites)
        with evaluating(model):
            for number, batch in enumerate(batches, 1):
                uses: dict[str, int] = {}

                def see(site: Site, x: Tensor, number=number, uses=uses) -> None:
                    uses[site.name] = uses.get(site.name, 0) + 1
                    self._add(site, x, number, name)
                    if stop and len(uses) == len(sites):
                        raise _Enough

                with watching(model, sites, see), suppress(_Enough):
                    try:
                        forward(model, batch)
                    except TypeError as error:
                        if forward is not run:
                            raise
                        raise TypeError(f"{name}[{number - 1}]: {error}") from error
                self._last = None
                self._count(uses)

    def by_parameter(self, inventory: Inventory) -> dict[str, NDArray[np.float64]]:
        """{"NAME.gram": (features, features) float64} for each parameter NAME that is one matrix; see `input_grams`."""
        by_name: dict[str, NDArray[np.float64]] = {}
        differing: set[str] = set()
        for site in inventory.leaders:
            gram, names = self.matrices.get(site.key), inventory.parameters[site.key]
            if gram is None or len(gram) > 1 or len(names) > 1:
                continue
            if names[0] in by_name and not np.array_equal(by_name[names[0]], gram[0]):
                differing.add(names[0])
            by_name[names[0]] = gram[0]
        return {f"{name}.gram": gram for name, gram in by_name.items() if name not in differing}

    def _count(self, uses: Mapping[str, int]) -> None:
        """Uses of the weights, from those of the layers in one batch."""
        counts: dict[tuple, int] = {}
        for name, times in uses.items():
            counts[self.key[name]] = counts.get(self.key[name], 0) + times
        for key, times in counts.items():
            self.uses.setdefault(key, times)

    def _add(self, site: Site, x: Tensor, batch: int, name: str) -> None:
        count, features = site.samples(x), site.weight[0].numel()
        if count == 0:
            return
        first = self.skip if count == self.of else 0
        key, wanted = self.key[site.name], min(count - first, self.samples or max(_ROWS, 4 * features))
        shares = not isinstance(site.module, nn.Conv1d | nn.Conv2d) and not x.is_inference()
        version = x._version if shares else 0
        same = shares and self._last is not None and self._last[0] is x and self._last[1] == version
        if not same or self._last is None:
            rows = first + chosen_rows(count - first, wanted, self.seed, batch)
            gram = _grams(site.patches(x, rows), site.name, f"batch {batch} of {name}")
            self._last = (x, version, gram)
        if key in self.matrices:
            self.matrices[key] += self._last[2]
        else:
            self.matrices[key] = self._last[2].copy()
            if same:
                self.stages[-1].append(site.name)
            else:
                self.stages.append([site.name])
        self.rows[key] = self.rows.get(key, 0) + wanted


class _Enough(Exception):
    """What was to be seen has been seen."""


def _grams(patches: NDArray, name: str, batch: str) -> NDArray[np.float64]:
    """(groups, features, features) of (groups, rows, features)."""
    wide = patches.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError(f"layer {name} sees NaN or infinity in {batch}: the module or the batch is at fault")
    return wide.swapaxes(1, 2) @ wide
