"""Counter-based streams against published vectors and the laws they promise."""

import numpy as np
import pytest
from scipy import stats

from prunequant import random as pr

KNOWN_PHILOX = [  # Random123 distribution, kat_vectors, philox4x32 10
    ((0,) * 6, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 6, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("words", "expected"), KNOWN_PHILOX)
def test_philox_gives_the_known_answers_of_random123(words, expected):
    assert tuple(int(w) for w in pr.philox4x32(*(np.uint32(w) for w in words))) == expected


def test_one_bit_of_the_philox_counter_or_key_moves_half_of_the_output():
    """Changing any one counter or key bit changes about half of the 128 output bits."""
    base = [0x12345678, 0x9ABCDEF0, 3, 4, 5, 6]
    reference = pr.philox4x32(*(np.uint32(w) for w in base))
    for k in range(6):
        flipped = list(base)
        flipped[k] ^= 1 << (5 * k)
        other = pr.philox4x32(*(np.uint32(w) for w in flipped))
        distance = sum((int(a) ^ int(b)).bit_count() for a, b in zip(reference, other))
        assert 40 <= distance <= 88


def test_splitmix_gives_its_published_sequence():
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    state, drawn = np.uint64(1234567), []
    for _ in expected:
        state, bits = pr.splitmix64(np.uint64(state))
        drawn.append(int(bits))
    assert drawn == expected


def test_streams_of_neighbouring_seeds_and_trials_start_apart():
    starts = {int(pr.stream(np.uint64(seed), np.uint64(trial))) for seed in range(40) for trial in range(40)}
    assert len(starts) == 1600


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 2**20 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**41 + 1, 2**63 + 5])
def test_bounded_draws_stay_inside_and_fill_their_range_evenly(limit):
    state = pr.stream(np.uint64(3), np.uint64(limit))
    draws = []
    for _ in range(4000):
        state, value = pr.below(np.uint64(state), np.uint64(limit))
        draws.append(int(value))
    assert 0 <= min(draws) and max(draws) < limit
    cells = min(limit, 8)
    observed = np.bincount([d * cells // limit for d in draws], minlength=cells)
    expected = np.diff([-(-limit * k // cells) for k in range(cells + 1)]).astype(float)
    assert cells == 1 or stats.chisquare(observed, expected / expected.sum() * 4000).pvalue > 1e-4


def test_uniform_draws_have_the_mean_and_variance_of_the_unit_interval():
    state = pr.stream(np.uint64(1), np.uint64(2))
    draws = np.empty(20000)
    for i in range(draws.size):
        state, draws[i] = pr.uniform(np.uint64(state))
    assert 0 <= draws.min() and draws.max() < 1
    assert stats.kstest(draws, "uniform").pvalue > 1e-3


def test_a_generator_is_a_function_of_seed_and_keys():
    a, b, c = (pr.generator(5, k).integers(2**60, size=4).tolist() for k in (1, 1, 2))
    assert a == b != c


def test_seeds_and_keys_of_any_width_count_as_python_ints():
    expected = pr.generator(100, 7).integers(2**60)
    for kind in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
        assert pr.generator(kind(100), kind(7)).integers(2**60) == expected


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: pr.generator("0x10"), TypeError, "^seed is '0x10'"),
        (lambda: pr.generator(1, 2, -1), ValueError, r"^keys\[1\] is -1"),
        (lambda: pr.generator(2**128), ValueError, "^seed is"),
        (lambda: pr.generator(True), TypeError, "^seed is True"),
    ],
)
def test_a_bad_seed_or_key_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()
