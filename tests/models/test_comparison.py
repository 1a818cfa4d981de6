"""Two modules on the same inputs: losses paired example by example, agreement, cosine, output error."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from prunequant import models, statistics


class Answer(dict):
    """What language models of a well-known library answer: a dictionary whose entries are attributes too."""

    __getattr__ = dict.get


class Talkative(nn.Module):
    def __init__(self, inner, form):
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, x):
        y = self.inner(x)
        return {"tuple": (y, None), "dict": {"logits": y}, "answer": Answer(logits=y), "tensor": y}[self.form]


@pytest.fixture
def pair():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(8, 5), nn.Dropout(0.5)).train()
    second = nn.Sequential(nn.Linear(8, 5), nn.Dropout(0.5)).eval()
    second.load_state_dict({key: value + 0.2 * torch.randn_like(value) for key, value in first.state_dict().items()})
    return first, second


def run(module, batch):
    return module(batch[0])


def loss(output, batch):
    return cross_entropy(output, batch[1], reduction="none")


def test_everything_is_what_it_is_by_hand(pair):
    batches = [(torch.randn(n, 8), torch.arange(n) % 5) for n in (7, 4)]
    result = models.compare_outputs(*pair, batches, loss, forward=run, confidence=0.9)
    x, labels = (torch.cat(part) for part in zip(*batches))
    with torch.no_grad():
        a, b = (module[0](x).double() for module in pair)
    assert np.allclose(result.loss_before, cross_entropy(a, labels, reduction="none"), rtol=1e-5)
    assert np.allclose(result.loss_after, cross_entropy(b, labels, reduction="none"), rtol=1e-5)
    assert result.difference == statistics.paired(result.loss_after - result.loss_before, 0.9)
    assert np.array_equal(result.agreement, (a.argmax(1) == b.argmax(1)).double())
    assert np.allclose(result.cosine, nn.functional.cosine_similarity(a, b))
    assert result.output_error == pytest.approx(float((a - b).norm() / a.norm()), rel=1e-6)
    assert result.examples == 11 and "11 examples" in str(result) and "paired" in str(result)
    assert pair[0].training and not pair[1].training and pair[0][1].training


def test_a_module_against_itself_differs_in_nothing(pair):
    x = torch.randn(6, 3, 8)
    same = models.compare_outputs(pair[0], pair[0], [x], lambda output, batch: output.mean((1, 2)))
    assert same.difference.mean == 0 and same.difference.p == 1 and same.output_error == 0
    assert same.agreement.tolist() == [1.0] * 6 and np.allclose(same.cosine, 1)
    zero = nn.Linear(8, 5)
    nn.init.zeros_(zero.weight), nn.init.zeros_(zero.bias)
    assert models.compare_outputs(zero, zero, [x]).cosine.tolist() == [1.0] * 6
    assert models.compare_outputs(pair[0], zero, [x]).cosine.tolist() == [0.0] * 6
    assert models.compare_outputs(zero, pair[0], [x]).output_error == math.inf


def test_agreement_counts_positions_within_an_example(pair):
    x = torch.randn(6, 3, 8)
    result = models.compare_outputs(*pair, [x])
    with torch.no_grad():
        same = pair[0][0](x).argmax(-1) == pair[1][0](x).argmax(-1)
    assert np.allclose(result.agreement, same.double().mean(1)) and result.difference is None
    assert 0 < result.agreement.mean() < 1 and "paired" not in str(result)


@pytest.mark.parametrize("form", ["tuple", "dict", "answer"])
def test_an_answer_of_another_form_stands_for_its_logits(pair, form):
    x = torch.randn(6, 8)
    plain, other = (
        models.compare_outputs(Talkative(pair[0], f), Talkative(pair[1], f), [{"x": x}]) for f in ("tensor", form)
    )
    assert np.array_equal(plain.cosine, other.cosine) and plain.output_error == other.output_error


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(batches=[]), ValueError, "batches is empty"),
        (dict(batches=torch.ones(3, 8)), TypeError, "batches is"),
        (dict(before=3), TypeError, "before is 3"),
        (dict(after=nn.Linear(8, 4)), ValueError, r"batch 1 gives \(3, 5\) before and \(3, 4\) after"),
        (dict(loss=3), TypeError, "loss is 3"),
        (dict(loss=lambda o, b: 3.0), ValueError, "loss gave 3.0 for batch 1"),
        (dict(loss=lambda o, b: o), ValueError, r"loss gave shape \(3, 5\) for batch 1: one number for each of 3"),
        (dict(loss=lambda o, b: o.sum() / 0), ValueError, "loss gave NaN or infinity for batch 1"),
        (dict(loss=lambda o, b: o.sum()), ValueError, "interval needs two examples"),
        (dict(batches=[torch.full((3, 8), math.nan)]), ValueError, "batch 1 gives NaN"),
        (dict(confidence=1), ValueError, "confidence is 1"),
        (dict(forward=lambda m, b: "text"), TypeError, "batch 1 gives 'text'"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(pair, change, error, message):
    given = dict(before=pair[0], after=pair[1], batches=[torch.ones(3, 8)]) | change
    with pytest.raises(error, match=message):
        models.compare_outputs(**given)


def test_one_loss_alone_has_no_interval_and_the_message_says_what_is_asked(pair):
    batch = (torch.randn(6, 8), torch.arange(6) % 5)
    with pytest.raises(ValueError, match="batches give one loss: an interval needs two examples"):
        models.compare_outputs(*pair, [batch], lambda y, b: loss(y, b).mean(), forward=run)
