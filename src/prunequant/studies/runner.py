"""What chapters record: a list of studies, the command that makes each again, and runs that go on where they stopped.

A study is a function of plain settings that returns what its record holds. It gives its work units to `At.sweep`, which
keeps every finished row at once in the folder `OUT.partial`; the folder goes when the record stands. A study of data
returns files instead. A record that stands, made by the same command, is not made a second time.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from prunequant import arguments, experiments, extras, records

# The studies by name, and the module of this folder that holds each.
STUDIES = {
    "compressed-model": "compressed_model",
    "corpus": "corpus",
    "equal-size-model": "equal_size_model",
    "fashion-mnist-6000": "fashion_mnist_6000",
    "llama-cpp": "llama_cpp_files",
    "llama-speed": "llama_speed",
    "logistic-baseline": "logistic_baseline",
    "lsq-rates": "lsq_rates",
    "lsq-rates-converged-resnet": "lsq_searches",
    "lsq-rates-converged-vit": "lsq_searches",
    "lsq-rates-efficientnet": "lsq_rates",
    "lsq-representations": "lsq_representations",
    "model-reports": "model_reports",
    "order-audit": "order_audit",
    "order-effect": "order_effect",
    "order-embeddings": "order_embeddings",
    "order-language": "order_language",
    "order-outliers": "order_outliers",
    "order-vision": "order_vision",
    "paths-coverage": "paths_coverage",
    "paths-networks": "paths_networks",
    "paths-studies": "paths_studies",
    "phase-diagram": "phase_plan",
    "printed": "printed",
    "published-tensors": "published_tensors",
    "real-weights": "real_weights",
    "threshold-efficientnet": "threshold_efficientnet",
    "ticket-efficientnet": "ticket_efficientnet",
}
MAX_SETTING = 2**31 - 1


@dataclass(frozen=True)
class Given:
    """A setting that is a place on the reader's disk: no record names it. `what` says what lies there."""

    what: str
    required: bool = True


@dataclass(frozen=True)
class Study:
    """One record, or a set of data files: what it is called, what it needs, and the function that makes it.

    `run` is given an `At` and the settings by name, and returns the record without its provenance; further fields of
    that stand under "provenance". A study whose `files` are no JSON returns their bytes by name.
    """

    name: str
    title: str
    files: tuple[str, ...]  # as they lie in the book's folders
    run: Callable[..., Mapping]
    minutes: float  # on two cores of 2020 or later
    settings: Mapping[str, object] = field(default_factory=dict)  # plain values, tuples of them, or `Given`
    needs: tuple[str, ...] = ()  # modules of other packages
    threads: int | None = None  # of each process; all cores unless said
    version: int = 1  # raised by the author when the record may change: an earlier one then no longer answers for it
    show: Callable[[Mapping], str] | None = None  # a few lines about a finished record

    @property
    def data(self) -> bool:
        return not self.files[0].endswith(".json")


@dataclass(frozen=True)
class At:
    """What a study may use beside its settings."""

    store: experiments.Store
    scratch: Path  # for checkpoints; kept until the record is written
    executor: Executor | None = None
    progress: Callable[[int, int], None] | None = None
    log: Callable[[str], None] = lambda text: None
    version: int = 1

    def sweep(
        self, function: Callable, grid: Iterable[Mapping], seeds: Iterable[int] = (0,), *, name: str | None = None
    ) -> list[dict]:
        """`experiments.sweep` over this run's store and processes: rows that are there are not computed again."""
        return experiments.sweep(
            function, grid, seeds, self.executor, self.store, self.progress, name=name, version=self.version
        )


def load(name: str) -> Study:
    """The study of that name.

    Raises
    ------
    TypeError : the name is no string.
    ValueError : there is none; the message lists those there are.
    """
    arguments.instance(name, "name", str, "the name of a record, such as 'order-effect'")
    if name not in STUDIES:
        raise ValueError(f"no record {name!r}; the records are {', '.join(STUDIES)}")
    return import_module(f"{__package__}.{STUDIES[name]}").STUDIES[name]


def check_needs(study: Study) -> None:
    """Find out before any work whether the packages are there.

    Raises
    ------
    ModuleNotFoundError : one is not; the message says what brings it.
    """
    for module in study.needs:
        if find_spec(module) is None:
            if module in extras.EXTRAS:
                raise extras.MissingExtra(module, extras.EXTRAS[module])
            raise ModuleNotFoundError(f"this needs {module}: run `make models` in a checkout", name=module)


def needs(study: Study) -> list[str]:
    """In words, what a study needs beside the base installation: extras, packages, files."""
    brought = dict.fromkeys(f"[{extras.EXTRAS[m]}]" if m in extras.EXTRAS else m for m in study.needs)
    return [*brought, *(s.what for s in study.settings.values() if isinstance(s, Given) and s.required)]


def check_settings(study: Study, given: Mapping[str, object]) -> dict[str, object]:
    """All settings of a run: those given, checked, and the study's own for the rest.

    Raises
    ------
    TypeError, ValueError : a setting that the study does not have, of another kind or out of range; a file that is
        required and not given, or not there.
    """
    arguments.instance(given, "settings", Mapping, "a mapping of settings by name")
    unknown = set(given) - set(study.settings)
    if unknown:
        strange, known = ", ".join(sorted(map(str, unknown))), ", ".join(study.settings) or "none"
        raise ValueError(f"record {study.name} has no setting {strange}; it has {known}")
    return {name: _checked(name, given.get(name, usual), usual) for name, usual in study.settings.items()}


def _checked(name: str, value: object, usual: object) -> object:
    if isinstance(usual, Given):
        if value is usual:
            if usual.required:
                raise ValueError(f"{name} is not given: it must be {usual.what}")
            return None
        place = arguments.path(value, name)
        if usual.required and not place.exists():
            raise ValueError(f"{name} is {place}: nothing is there; it must be {usual.what}")
        return place
    if isinstance(usual, bool):
        return arguments.flag(value, name)
    if isinstance(usual, int):
        return arguments.integer(value, name, 0 if name in ("seed", "block") else 1, MAX_SETTING)
    if isinstance(usual, float):
        return arguments.real(value, name, 0, open_low=True)
    if isinstance(usual, tuple):
        values = arguments.instance(value, name, (tuple, list), "a sequence of values")
        if not values:
            raise ValueError(f"{name} is empty: at least one value is needed")
        return tuple(_checked(name, each, usual[0]) for each in values)
    return arguments.instance(value, name, str, "a string")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parse(study: Study, words: Sequence[str]) -> dict[str, object]:
    """Settings from the words of a command line, such as `--seeds 4`.

    Raises
    ------
    ValueError : an option that the study does not have, or a value that is none; the message names it.

    Examples
    --------
    >>> parse(load("order-effect"), ["--seeds", "4"])
    {'seeds': 4}
    """
    parser = _Parser(prog=f"prunequant record {study.name}", add_help=False, allow_abbrev=False)
    for name, usual in study.settings.items():
        options: dict = {"default": argparse.SUPPRESS}
        if isinstance(usual, bool):
            options["action"] = "store_true"
        elif isinstance(usual, tuple):
            options |= {"nargs": "+", "type": type(usual[0])}
        elif isinstance(usual, int | float):
            options["type"] = type(usual)
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, **options)
    known, rest = parser.parse_known_args(list(words))
    if rest:
        known_options = ", ".join(f"--{name.replace('_', '-')}" for name in study.settings) or "none of its own"
        raise ValueError(f"record {study.name} has no option {rest[0]}; it has {known_options}")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in vars(known).items()}


def command(study: Study, settings: Mapping[str, object]) -> str:
    """The line that makes a record with these settings; what is usual is not said, nor any place on a disk.

    Examples
    --------
    >>> command(load("order-effect"), {"seeds": 4})
    'prunequant record order-effect --seeds 4'
    """
    words = ["prunequant", "record", study.name]
    for name, value in settings.items():
        usual = study.settings[name]
        if isinstance(usual, Given) or value == usual:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if not isinstance(value, bool):
            values = value if isinstance(value, tuple) else (value,)
            words += [repr(v) if isinstance(v, float) else str(v) for v in values]
    return shlex.join(words)


def run_study(
    name: str,
    settings: Mapping[str, object] | None = None,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    executor: Executor | None = None,
    about: Mapping[str, object] | None = None,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> Mapping:
    """Make a record and return it; with `out` also write it.

    Parameters
    ----------
    name : one of `STUDIES`.
    settings : replaces single settings of the study.
    out : where the record goes, or the folder of several files. Finished rows lie in the folder `OUT.partial` until
        the record is written.
    resume : go on with what `OUT.partial` holds; without it neither that nor the record may exist. A record at `out`
        that the same command has made is returned as it is: nothing is computed.
    executor : runs the work units; this process unless given.
    about : further fields of the provenance.
    progress, log : called with (units done, units) of a sweep, and with a line about it.

    Raises
    ------
    TypeError, ValueError : an unknown record or setting, or a setting out of range; a damaged record or store; a
        record of another command at `out`.
    FileExistsError : `out` or its partial folder exists and `resume` is not set.
    BlockingIOError : another process is at work on the same record.
    ModuleNotFoundError : a package that the study needs is not installed.
    """
    study = load(name)
    used = check_settings(study, {} if settings is None else settings)
    resume, line = arguments.flag(resume, "resume"), command(study, used)
    if out is not None and resume and not study.data:
        record = standing(study, arguments.path(out, "out"), line)
        if record is not None:
            return record
    check_needs(study)
    with experiments.workplace(out, resume) as folder:
        store = experiments.Store(folder / "rows.jsonl")
        before = len(store.rows)
        at = At(store, folder, executor, progress, log or (lambda text: None), study.version)
        start = time.perf_counter()
        content = dict(study.run(at, **used))
        if study.data:
            if out is not None:
                _write_files(study, Path(out), content)
        else:
            more = {"seconds": round(time.perf_counter() - start), **(about or {}), **content.pop("provenance", {})}
            if before:  # work units that an earlier run had finished: the seconds are those of the rest
                more["resumed"] = before
            if study.version > 1:
                more["version"] = study.version
            content = json.loads(
                json.dumps({"provenance": records.provenance(line, **more), **content}, default=experiments.plain)
            )
            if out is not None:
                records.write_json(out, content)
    return content


def standing(study: Study, path: Path, line: str) -> dict | None:
    """The record at a path if it is there and this command made it; None where nothing is.

    Raises
    ------
    ValueError : no record, or that of another command or of an earlier version of the study.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        provenance = record["provenance"]
        by, version = provenance["command"], provenance.get("version", 1)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no record ({error!r}): move it away") from None
    if (by, version) != (line, study.version):
        raise ValueError(
            f"{path} was made by {by!r}, version {version}, not by {line!r}, version {study.version}: move it away, or "
            "give another --out"
        )
    return record


def _write_files(study: Study, out: Path, files: Mapping[str, bytes]) -> None:
    if set(files) != set(study.files):
        raise ValueError(f"record {study.name} made {', '.join(files)}; {', '.join(study.files)} were due")
    for name, data in files.items():
        records.write_bytes(out if len(files) == 1 else out / name, data)


def last_made(study: Study) -> str:
    """The date of the record that `prunequant.records` finds; of data, whether it is there."""
    try:
        if study.data:
            return "ships" if all(records.find(name) for name in study.files) else ""
        return records.read(study.files[0])["provenance"]["date"]
    except FileNotFoundError:
        return "never"
    except (ValueError, KeyError, TypeError):
        return "damaged"
