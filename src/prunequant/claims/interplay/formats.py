"""The claim that each format is its specification, bit for bit."""

import ml_dtypes
import numpy as np

from prunequant.formats import ELEMENTS, MX

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 44
EQUAL = "no value differs from the specification's"

ML_DTYPES = {
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
}


def _away(x: np.ndarray, fmt: MX) -> np.ndarray:
    """The format with ties rounded away from zero: what some emulators do."""
    element, scale = ELEMENTS[fmt.element], np.repeat(fmt.scales(x), fmt.block, axis=1)
    t = np.abs(x.astype(np.float64)) / scale
    exponent = np.maximum(np.frexp(t)[1] - 1, element.least_exponent)
    step = np.ldexp(1.0, exponent - element.mantissa_bits)
    return np.copysign(np.minimum(np.floor(t / step + 0.5) * step, element.largest) * scale, x)


def _against_ml_dtypes(budget: Budget, quantize) -> Evidence:
    """Values whose microscaled result differs from the specification written with ml_dtypes' casts."""
    generator = np.random.default_rng(SEED)
    rows = budget.pick(2_000, 20_000, 200_000)
    x = generator.standard_normal((rows, 64))
    x[1::4] *= np.exp(generator.normal(0, 8, x[1::4].shape))
    x[2::4] = generator.integers(-96, 97, x[2::4].shape) / 16
    x[3::16], x[7::16] = 0, x[7::16] * 1e-41
    x = x.astype(np.float32)
    differ = compared = 0
    for name, kind in ML_DTYPES.items():
        blocks = x.reshape(-1, 32).astype(np.float64)
        largest = np.abs(blocks).max(axis=1, keepdims=True)
        exponent = np.frexp(largest)[1] - 1 - ELEMENTS[name].largest_exponent
        scale = np.ldexp(1.0, np.where(largest > 0, np.clip(exponent, -127, 127), -127))
        inside = np.clip(blocks / scale, -ELEMENTS[name].largest, ELEMENTS[name].largest).astype(np.float32)
        expected = (inside.astype(kind).astype(np.float64) * scale).reshape(x.shape)
        differ += int(np.count_nonzero(quantize(x, MX(name)) != expected))
        compared += x.size
    figures = (Figure("values that differ", differ), Figure("values compared", compared))
    return Evidence({EQUAL: differ == 0}, figures, trials=compared, seed=SEED)


@claim(
    id="ours.formats",
    title="Each format is its specification, bit for bit",
    statement=r"""The microscaling formats of this library (MXFP4, MXFP6, MXFP8 with E8M0 scales) give on every
finite float32 the value that the specification prescribes: scale from the exponent of the largest magnitude,
elements rounded half to even and saturated. The tests hold all formats against further oracles: exact rational
arithmetic, gfloat, torch and torchao.""",
    source=Source("ours", "tested", "ours"),
    verdict=Verdict.HOLDS,
    remark="No difference on millions of values, subnormal numbers, ties and saturation among them.",
)
def formats(budget: Budget) -> Evidence:
    """Against the specification written with the casts of ml_dtypes."""
    return _against_ml_dtypes(budget, lambda x, fmt: fmt.quantize(x))


@formats.control("ties rounded away from zero", breaks=EQUAL)
def _(budget: Budget) -> Evidence:
    return _against_ml_dtypes(budget, _away)
