"""Singular Gram matrices: a proof is given of the optimum only."""

import numpy as np
import pytest

from prunequant import optimum

DUPLICATED = np.array([[7.0, -3.0, 3.0], [-3.0, 6.0, -6.0], [3.0, -6.0, 6.0]])


def test_a_constant_row_is_counted_in_quantization_and_in_pruning():
    found = optimum.best_quantization(np.array([1.3, -1.4, 0.9]), DUPLICATED, 2, 1.0)
    assert found.error == pytest.approx(1.71) and found.proved
    gram = np.array([[4.0, 0.0, 4.0], [0.0, 4.0, 0.0], [4.0, 0.0, 4.0]])
    found = optimum.best_pruning(np.array([-0.5, 1.4, -1.4]), gram, 2, refit=False)
    assert found.error == pytest.approx(1.0) and found.proved
    np.testing.assert_array_equal(found.values, [0.0, 1.4, -1.4])
