"""Exact distortion of a law, or of given weights, under quantization, magnitude pruning, and both at one budget."""

from ._kernels import warm
from .accounting import (
    binary_entropy,
    equal_size_keep,
    mask_bits,
    mask_overhead,
    stored_bits,
)
from .budget import (
    Crossover,
    Family,
    Split,
    advantage,
    clipped_student,
    crossover,
    equal_size_sparsity,
    generalized_normal,
    splits,
    student_on,
)
from .coding import entropy_coded, integer_entropy
from .empirical import Empirical
from .grids import integer_range, make_grid
from .laws import Gaussian, GeneralizedNormal, Laplace, Law, Logistic, Uniform
from .scale import best_scale, best_step, scale_error
from .snr import Distortion, joint, joint_snr, pruning, pruning_snr, quantization, quantization_snr
from .student import StudentT

__all__ = [
    "Crossover",
    "Distortion",
    "Empirical",
    "Family",
    "Gaussian",
    "GeneralizedNormal",
    "Laplace",
    "Law",
    "Logistic",
    "Split",
    "StudentT",
    "Uniform",
    "advantage",
    "best_scale",
    "best_step",
    "binary_entropy",
    "clipped_student",
    "crossover",
    "entropy_coded",
    "equal_size_keep",
    "equal_size_sparsity",
    "generalized_normal",
    "integer_entropy",
    "integer_range",
    "joint",
    "joint_snr",
    "make_grid",
    "mask_bits",
    "mask_overhead",
    "pruning",
    "pruning_snr",
    "quantization",
    "quantization_snr",
    "scale_error",
    "splits",
    "stored_bits",
    "student_on",
    "warm",
]
