"""Modules of every kind that weights come in, small: what compresses a module is tested on each of them."""

import warnings

import torch
import torch.nn.utils.prune
from torch import nn


class Tied(nn.Module):
    """Two layers with one weight, and a third of its own."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.c(torch.relu(self.a(torch.relu(self.a(x)))))


class Experts(nn.Module):
    """Fused experts: one parameter [experts, in, out]."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(6, 3), nn.Parameter(torch.randn(3, 6, 6))

    def forward(self, x):
        return torch.einsum("ne,ni,eio->no", self.gate(x).softmax(-1), x, self.experts)


class Language(nn.Module):
    """An embedding tied to the last layer, and a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.table, self.middle, self.last = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9, bias=False)
        self.last.weight, self.spare = self.table.weight, nn.Linear(6, 6)

    def forward(self, x):
        return self.last(self.middle(self.table(x)))


class Attention(nn.Module):
    """Cross attention with keys and values of other widths."""

    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(6, 2, kdim=4, vdim=5, add_bias_kv=True, batch_first=True)

    def forward(self, x):
        return self.attend(x, key=x[..., :4], value=x[..., 1:])[0]


class Conv1D(nn.Module):
    """The linear layer of GPT-2 in transformers: its weight is stored (inputs, outputs)."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


def weight_normed(modern):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed = nn.utils.parametrizations.weight_norm if modern else nn.utils.weight_norm
        return nn.Sequential(normed(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 3))


def encoder(layers):
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12), layers, enable_nested_tensor=False)


def masked():
    return nn.Sequential(nn.utils.prune.l1_unstructured(nn.Linear(6, 6), "weight", 0.5), nn.Linear(6, 3))


ZOO = {
    "experts": (Experts, (8, 6)),
    "language": (Language, None),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), (4, 5, 6)),
    "encoder": (lambda: encoder(2), (4, 5, 6)),
    "decoder layer": (lambda: Pair(nn.TransformerDecoderLayer(6, 2, 12)), (4, 5, 6)),
    "cross attention": (Attention, (4, 5, 6)),
    "tied": (Tied, (8, 6)),
    "twice": (Twice, (8, 6)),
    "transposed": (lambda: nn.Sequential(Conv1D(8, 6), nn.ReLU(), Conv1D(4, 8)), (3, 5, 6)),
    "weight norm": (lambda: weight_normed(True), (8, 6)),
    "old weight norm": (lambda: weight_normed(False), (8, 6)),
    "orthogonal": (lambda: nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(6, 6))), (8, 6)),
    "spectral norm": (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 6)), nn.Linear(6, 3)), (8, 6)),
    "masked": (masked, (8, 6)),
    "recurrent": (lambda: nn.Sequential(nn.Linear(6, 6), First(nn.LSTM(6, 4)), nn.Linear(4, 2)), (5, 3, 6)),
    "one axis": (lambda: nn.Sequential(nn.Conv1d(6, 4, 3, padding="same", groups=2), nn.BatchNorm1d(4)), (5, 6, 9)),
    "mirrored": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=(2, 1), padding_mode="reflect")), (5, 2, 6, 6)),
    "three axes": (lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.ConvTranspose3d(4, 1, 3)), (2, 1, 5, 5, 5)),
    "no batch": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(0), nn.Linear(64, 2)), (2, 6, 6)),
    "bilinear": (lambda: Pair(nn.Bilinear(6, 6, 3)), (8, 6)),
}


class Pair(nn.Module):
    """A module of two inputs, given one twice."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x, x + 1)


class First(Pair):
    def forward(self, x):
        return self.inner(x)[0]


def build(name):
    make, shape = ZOO[name]
    torch.manual_seed(1)
    return make(), torch.arange(9) if shape is None else torch.randn(shape)
