"""Which parameters of a torch module are matrices that multiply inputs, and what these inputs are.

A `Site` is one such matrix: the weight of a linear layer (also of GPT-2's, stored transposed), of a convolution of one
or two axes, or a projection of `nn.MultiheadAttention` (query, key and value are rows of one parameter, or three
parameters; what reaches the output projection is found by running the attention with the identity in its place).
`watching` shows every site's input to a function just before it is used. All other parameters have a reason not to be
sites, which `why` says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from prunequant.path_following.convolution import positions, unfold
from prunequant.path_following.tensors import as_array

_LAYERS = nn.Linear | nn.Conv1d | nn.Conv2d
_PARTS = ("query", "key", "value")


@dataclass(frozen=True, eq=False)
class Site:
    """A weight (filters, …) that multiplies what a module sees: rows `first` … `stop` − 1 of a parameter, or all.

    A parameter that is `transposed` is stored (inputs, outputs).
    """

    name: str
    module: nn.Module
    attribute: str = "weight"
    first: int = 0
    stop: int | None = None
    transposed: bool = False

    @property
    def rows(self) -> slice:
        return slice(self.first, self.stop)

    @property
    def weight(self) -> torch.Tensor:
        """The weight as the forward pass sees it, a row an output."""
        weight = getattr(self.module, self.attribute).detach()[self.rows]
        return weight.T if self.transposed else weight

    @property
    def groups(self) -> int:
        return getattr(self.module, "groups", 1)

    @property
    def key(self) -> tuple:
        """Equal for sites that are one and the same numbers."""
        tensor = self.module._parameters.get(self.attribute)
        return (id(self.module if tensor is None else tensor), self.attribute, self.first, self.stop)

    @property
    def computed(self) -> bool:
        """Whether the weight is not a parameter itself but computed from others."""
        return self.module._parameters.get(self.attribute) is None

    @property
    def folds(self) -> bool:
        """Whether a weight that is computed can be made a plain parameter."""
        parts = {f"{self.attribute}_g", f"{self.attribute}_v"}
        return parametrize.is_parametrized(self.module, self.attribute) or parts <= self.module._parameters.keys()

    def write(self, weight: torch.Tensor) -> None:
        with torch.no_grad():
            self.weight.copy_(weight.reshape(self.weight.shape))

    def samples(self, x: torch.Tensor) -> int:
        """How many rows or patches this input holds."""
        if not isinstance(self.module, nn.Conv1d | nn.Conv2d):
            return x[..., 0].numel()
        images, shape = _images(self.module, x)
        return positions(tuple(images.shape), **shape)

    def patches(self, x: torch.Tensor, rows: NDArray) -> NDArray:
        """(groups, len(rows), features): these rows or patches of the input."""
        if not isinstance(self.module, nn.Conv1d | nn.Conv2d):
            return as_array(x.reshape(-1, x.shape[-1]))[rows][None]
        images, shape = _images(self.module, x)
        return unfold(images, **shape, groups=self.groups, rows=rows)


def _images(module, x: torch.Tensor) -> tuple[torch.Tensor, dict]:
    """The input of a convolution as (batch, channels, rows, columns), and how it looks at it."""
    axes = len(module.kernel_size)
    x = x if x.dim() == axes + 2 else x[None]  # one image without a batch axis
    ends = [(p // 2, p - p // 2) for p in (d * (k - 1) for d, k in zip(module.dilation, module.kernel_size))]
    if hasattr(module, "padding_of"):
        ends = module.padding_of(*x.shape[2:])
    elif module.padding != "same":
        ends = [(p, p) for p in ((0,) * axes if module.padding == "valid" else module.padding)]
    if module.padding_mode != "zeros":
        x = F.pad(x, [p for pair in reversed(ends) for p in pair], mode=module.padding_mode)
        ends = [(0, 0)] * axes
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if axes == 1:
        x, ends = x[:, :, None], [(0, 0), *ends]
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
    return x, dict(kernel=kernel, stride=stride, padding=tuple(ends), dilation=dilation)


def _is_transposed(module: nn.Module) -> bool:
    """Whether a module is the linear layer of GPT-2 in transformers, whose weight is stored (inputs, outputs)."""
    weight = module._parameters.get("weight")
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and weight is not None and weight.dim() == 2


def sites(model: nn.Module) -> list[Site]:
    """All sites, in the order of the module's children."""
    out, taken = [], set()
    for name, module in model.named_modules():
        dot = f"{name}." if name else ""
        if isinstance(module, nn.MultiheadAttention):
            taken.add(id(module.out_proj))
            width = module.embed_dim
            for i, part in enumerate(_PARTS):
                if module.in_proj_weight is not None:
                    out.append(Site(f"{dot}in_proj.{part}", module, "in_proj_weight", i * width, (i + 1) * width))
                else:
                    out.append(Site(f"{dot}in_proj.{part}", module, f"{part[0]}_proj_weight"))
            out.append(Site(f"{dot}out_proj", module.out_proj))
        elif isinstance(module, _LAYERS) and id(module) not in taken:
            out.append(Site(name, module))
        elif _is_transposed(module):
            out.append(Site(name, module, transposed=True))
    return out


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """The models in evaluation mode, and then every module of them in the mode that it had."""
    modes = {module: module.training for model in models for module in model.modules()}
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def watching(model: nn.Module, watched: list[Site], act: Callable[[Site, torch.Tensor], None]) -> Iterator[None]:
    """Call act(site, input) before every use of a site, without gradients and without fused attention."""
    by_module: dict[nn.Module, list[Site]] = {}
    for site in watched:
        by_module.setdefault(site.module, []).append(site)

    def layer(module, args, kwargs):
        (site,) = by_module[module]
        x = args[0] if args else kwargs.get("input")
        if isinstance(x, torch.Tensor):  # else the module refuses it, in its own words
            act(site, x)

    def attention(module, args, kwargs):
        given = dict(zip(_PARTS, args)) | kwargs
        if not all(isinstance(given.get(part), torch.Tensor) for part in _PARTS):
            return
        for site in by_module.get(module, []):
            act(site, given[site.name.rpartition(".")[2]])
        for site in by_module.get(module.out_proj, []):
            act(site, _attended(module, args, kwargs))

    hooks, inner = [], {m.out_proj for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            hooks.append(module.register_forward_pre_hook(attention, with_kwargs=True))
        elif module in by_module and module not in inner:
            hooks.append(module.register_forward_pre_hook(layer, with_kwargs=True))
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it passes by the modules it fuses
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for hook in hooks:
            hook.remove()


def _attended(module: nn.MultiheadAttention, args, kwargs) -> torch.Tensor:
    """What reaches the output projection: the output of the module with the identity in its place."""
    probe, like = copy.copy(module), module.out_proj.weight
    probe._modules = dict(module._modules)
    identity = nn.Linear(like.shape[1], like.shape[1], bias=False, device=like.device, dtype=like.dtype)
    identity.weight.copy_(torch.eye(like.shape[1]))
    probe._modules["out_proj"] = identity
    return type(module).forward(probe, *args, **kwargs)[0]


def remove_parametrizations(module: nn.Module, name: str, leave_parametrized: bool = True) -> None:
    """`parametrize.remove_parametrizations` that leaves copies of the module as they are.

    A parametrized module and its deep copies share one class, from which torch deletes the tensor's property.
    """
    kind = type(module)
    own = {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}
    module.__class__ = type(kind.__name__, kind.__bases__, own)
    parametrize.remove_parametrizations(module, name, leave_parametrized)


def settle(model: nn.Module) -> None:
    """Turn weights that `parametrize` or weight normalisation compute into plain parameters, in place."""
    for site in sites(model):
        module, name = site.module, site.attribute
        if parametrize.is_parametrized(module, name):
            remove_parametrizations(module, name)
        elif site.folds:
            nn.utils.remove_weight_norm(module, name)


def parameters(model: nn.Module) -> dict[str, tuple[torch.Tensor, list[str]]]:
    """Every parameter once, by its first name: the tensor, and all names it goes by."""
    names: dict[int, tuple[torch.Tensor, list[str]]] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(tensor), (tensor, []))[1].append(name)
    return {entry[1][0]: entry for entry in names.values()}


def buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every buffer that is stored with a model, once, by its first name."""
    stored = model.state_dict(keep_vars=True)
    named = model.named_buffers()
    return {name: tensor for name, tensor in named if name in stored}


def behind(model: nn.Module, site: Site) -> list[str]:
    """First names of the parameters that a site's weight is, or is computed from."""
    module, name = site.module, site.attribute
    own = [module._parameters[name]] if not site.computed else []
    if parametrize.is_parametrized(module, name):
        own = list(module.parametrizations[name].parameters())
    elif site.computed:
        own = [p for key, p in module._parameters.items() if p is not None and key.startswith(f"{name}_")]
    wanted = {id(p) for p in own}
    return [first for first, (tensor, _) in parameters(model).items() if id(tensor) in wanted]


def other_uses(model: nn.Module, site: Site, listed: list[Site]) -> list[str]:
    """Names under which modules that are no sites hold the same parameter, such as an embedding's."""
    known = {(id(s.module), s.attribute) for s in listed}
    modules = dict(model.named_modules(remove_duplicate=False))
    out = []
    for first in [] if site.computed else behind(model, site):
        for name in parameters(model)[first][1]:
            owner, _, leaf = name.rpartition(".")
            if (id(modules[owner]), leaf) not in known:
                out.append(f"{name} of {type(modules[owner]).__name__}")
    return out


def why(model: nn.Module, name: str, tensor: torch.Tensor) -> str:
    """Why a parameter that belongs to no site is left alone."""
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    if leaf.startswith("bias") or max(tensor.dim(), 0) < 2:
        return "a vector or a bias: only matrices are compressed"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "a table that is looked up, not multiplied"
    if isinstance(module, _LAYERS):
        return "the layer's weight is computed from it in every forward pass"
    kind = type(module).__name__
    return f"a parameter of {kind}, which is no linear layer, convolution of one or two axes, or attention"


def layer_seed(seed: int, number: int) -> int:
    """The seed of layer `number` of a network, or of a group of layers: each draws a stream of its own."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0])


def chosen_rows(count: int, wanted: int, seed: int, number: int) -> NDArray:
    """`wanted` of `count` rows, ascending; the number of the layer makes the draw its own."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, number)))
    return np.sort(rng.permutation(count)[:wanted])
