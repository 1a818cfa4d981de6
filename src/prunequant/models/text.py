"""What the matrices of a model file see on a text: the model and its tokenizer are loaded by transformers.

Names are those of the file: transformers' own for a folder, where a file saved from the model without its head lacks
a prefix, and for a GGUF file those of transformers' map between the two. Rows that GGUF permutes are outputs, so that
Gram matrices of inputs are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunequant import arguments, extras
from prunequant.checkpoint import Model
from prunequant.checkpoint.calibration import GRAM
from prunequant.models.calibration import Grams
from prunequant.models.inventory import Inventory

WINDOWS, WINDOW = 16, 512  # of 512 tokens each: 8192 tokens, some 30 kB of English


def text_grams(
    model: Model,
    text: str,
    *,
    windows: int = WINDOWS,
    window: int = WINDOW,
    skip: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """The Gram matrix of what every linear layer of a language model sees on a text, for `compress` and `allocate`.

    Parameters
    ----------
    model : open, a folder with config.json, safetensors and the files of a tokenizer, or a GGUF file with its own:
        what `transformers` loads, which must be installed (extra `export`). Nothing is downloaded, no code of the
        folder is run.
    text : cut into windows of `window` tokens, without special ones.
    windows : at most so many are run, spread evenly over the text; 1 or more.
    window : 2 tokens or more, as many as the model has positions for at most.
    skip : tokens at the start of every window that the model reads and that are not counted, fewer than `window`. The
        inputs of the first token can be so much larger than all others that a sum of squares sees little else (in one
        matrix of SmolLM2 they are 99.8 % of it). Where errors of outputs are compared, leave it out; where codes are
        chosen, as by OPTQ, do not: a model whose first token is lost loses all others with it.
    progress : called with windows done and in all.

    Returns
    -------
    {"NAME.gram": (columns, columns) float64}, Σ x xᵀ over the tokens that count, for every matrix NAME of the file that
    is the weight of a linear layer, and of nothing else (as a tied embedding is); for
    `checkpoint.calibration.write_inputs`. A layer that sees other than one row a token, as an expert does to which a
    router sends some of them, counts all its rows: which of them are the first is not known.

    Raises
    ------
    MissingExtra : transformers, or what it needs for GGUF, is not installed.
    ValueError : a model or a tokenizer that transformers cannot load, a text without one whole window, a window that
        is longer than the model takes, a file whose names are not those of the model.

    Notes
    -----
    The model is in memory in float32, and the Gram matrix of every layer in float64. All of the text is tokenized,
    seconds for ten million characters.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from safetensors.numpy import save_file
    >>> from prunequant.checkpoint import open_model
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save_file({"layer.weight": np.eye(32, dtype=np.float32)}, path)
    >>> with open_model(path) as model:
    ...     text_grams(model, "a text")
    Traceback (most recent call last):
    ValueError: model.safetensors is no GGUF file, and no folder with config.json: transformers loads no other, \
so give inputs as .npz
    """
    if progress is not None:
        arguments.function(progress, "progress", "a function of two numbers")
    ids = windows_of(model, text, windows=windows, window=window, skip=skip)  # refused before the weights are read
    with _quiet():
        module = _loaded(model.path.name, _place(model))
        _check_vocabulary(module, ids)

        def batches() -> Iterator[dict[str, Tensor]]:
            for done, row in enumerate(ids):
                if progress is not None:
                    progress(done, len(ids))
                yield {"input_ids": row[None]}

        inventory = Inventory(module)
        sums = Grams(inventory.key, ids.shape[1], skip=int(skip), of=ids.shape[1])
        sums.collect(module, inventory.open, batches())
        grams = sums.by_parameter(inventory)
        names = _names(module, model)
    if progress is not None:
        progress(len(ids), len(ids))
    found = {name + GRAM: grams[own + GRAM] for own, name in names.items() if own + GRAM in grams}
    if not found:
        raise ValueError(f"{model.path.name} has no matrix that transformers knows as a linear layer by its name")
    return found


def windows_of(model: Model, text: str, *, windows: int = WINDOWS, window: int = WINDOW, skip: int = 0) -> Tensor:
    """The token ids that `text_grams` runs: all that it refuses is refused here, but for what the weights are.

    Parameters
    ----------
    model, text, windows, window, skip : as for `text_grams`.

    Returns
    -------
    (windows, window) int64 : whole windows of the text, evenly spread; fewer where it has no more.

    Raises
    ------
    MissingExtra, TypeError, ValueError : as `text_grams`. No weight is read.
    """
    arguments.instance(model, "model", Model, "an open model, by `checkpoint.open_model`")
    arguments.instance(text, "text", str, "a text")
    windows, window = arguments.integer(windows, "windows", 1), arguments.integer(window, "window", 2)
    arguments.integer(skip, "skip", 0, window - 1)
    place = _place(model)
    with _quiet():
        return _tokens(model.path.name, place, text, windows, window)


def _place(model: Model) -> dict[str, Any]:
    """What tells transformers which files to load."""
    path = model.path
    if model.format == "GGUF":
        extras.need("gguf")
        extras.need("accelerate")
        file = path if path.is_file() else next(path.glob("*.gguf"))
        return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    if model.format != "safetensors" or not (path / "config.json").is_file():
        beside = " (give the folder)" if (path.parent / "config.json").is_file() else ""
        raise ValueError(
            f"{path.name} is no GGUF file, and no folder with config.json{beside}: transformers loads no other, so give"
            " inputs as .npz"
        )
    return {"pretrained_model_name_or_path": str(path)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither its bars nor its warnings: what matters of them is an error here."""
    logging = extras.need("transformers.utils.logging")
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _tokens(name: str, place: dict[str, Any], text: str, windows: int, window: int) -> Tensor:
    """(windows, window): whole windows of the text, evenly spread; fewer where it has no more."""
    transformers = extras.need("transformers")
    config = _by_transformers(name, "is no model", transformers.AutoConfig, place)
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and window > longest:
        raise ValueError(f"window is {window}: the model takes {longest} tokens at most")
    tokenizer = _by_transformers(name, "has no tokenizer", transformers.AutoTokenizer, place)
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.long)
    whole = len(ids) // window
    if whole == 0:
        raise ValueError(f"the text is too short: it has {len(ids)} tokens, and one window takes {window}")
    count = min(windows, whole)
    chosen = torch.arange(count) * whole // count
    return ids[: whole * window].view(whole, window)[chosen]


def _loaded(name: str, place: dict[str, Any]) -> nn.Module:
    """The model in float32, of the class that its configuration names: its parameters are called as in the file."""
    transformers = extras.need("transformers")
    config = _by_transformers(name, "is no model", transformers.AutoConfig, place)
    kind = getattr(transformers, (getattr(config, "architectures", None) or [""])[0], None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        kind = transformers.AutoModelForCausalLM
    only = {} if "gguf_file" in place else {"use_safetensors": True}  # pickles are never read
    module, about = _by_transformers(
        name, "is no model", kind, place, dtype=torch.float32, output_loading_info=True, **only
    )
    if lacking := sorted(about["missing_keys"]):  # which transformers fills with random values
        raise ValueError(f"{name} lacks {len(lacking)} parameters of a {type(module).__name__}, such as {lacking[0]}")
    module.config.use_cache = False
    return module.eval()


def _by_transformers(name: str, what: str, kind: Any, place: dict[str, Any], **options: Any) -> Any:
    try:
        return kind.from_pretrained(**place, local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # its loaders fail in many ways, each of them here
        words = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name} {what} that transformers can load: {words}") from error


def _check_vocabulary(module: Any, ids: Tensor) -> None:
    known, last = module.get_input_embeddings().num_embeddings, int(ids.max())
    if last >= known:
        raise ValueError(
            f"the tokenizer has a token {last}, and the model only {known} tokens: they do not belong together"
        )


def _names(module: Any, model: Model) -> dict[str, str]:
    """Names of the file's matrices by those of the module's parameters."""
    matrices = {m.name for m in model.matrices}
    if model.format == "GGUF":
        from transformers.modeling_gguf_pytorch_utils import (
            TENSOR_PROCESSORS,
            TensorProcessor,
            get_gguf_hf_weights_map,
        )

        processor = TENSOR_PROCESSORS.get(model.metadata["general.architecture"], TensorProcessor)
        stored = get_gguf_hf_weights_map(module, processor(config=module.config.to_dict()))
        return {own: name for name, own in stored.items() if name in matrices}
    names = {}
    prefix = f"{module.base_model_prefix}."
    for own, _ in module.named_parameters():
        for name in (own, own.removeprefix(prefix), prefix + own):
            if name in matrices:
                names[own] = name
                break
    return names
