"""One target: exact masks, exact refusals, whatever the shape of the instance."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import subset_sum as naive
from prunequant import subset_sum
from prunequant.subset_sum import SearchTooLarge, _kernels_solve, solvers

small = st.lists(st.integers(-40, 40), max_size=12)


@settings(max_examples=150, deadline=None)
@given(small, st.integers(-200, 200))
def test_solver_agrees_with_enumeration_up_to_twelve_samples(x, target):
    mask = subset_sum.solve(np.array(x, dtype=np.int64), target)
    assert (mask is not None) == (target in naive.all_sums(x))
    if mask is not None:
        assert sum(v for v, bit in zip(x, mask) if bit) == target


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=14), st.data())
def test_a_planted_subset_of_huge_values_is_found_and_a_target_next_to_it_is_judged_exactly(x, data):
    planted = data.draw(st.lists(st.booleans(), min_size=len(x), max_size=len(x)))
    target = sum(v for v, bit in zip(x, planted) if bit)
    mask = subset_sum.solve(np.array(x, dtype=np.int64), target)
    assert mask is not None and int(np.array(x)[mask].sum()) == target
    assert (subset_sum.solve(np.array(x), target + 1) is not None) == (target + 1 in naive.all_sums(x))


@pytest.mark.parametrize(
    ("x", "target", "solvable"),
    [
        ([], 0, True),
        ([], 1, False),
        ([0, 0, 0], 0, True),
        ([0, 0, 0], 1, False),
        ([5, 5, 5, 5], 15, True),
        ([5, 5, 5, 5], 12, False),
        ([2, -4, 6, 8, -10, 12], 7, False),
        ([-3, -5, -9], -12, True),
        ([-3, -5, -9], 3, False),
        ([-3, -5, -9], -18, False),
        ([2**40, -(2**40), 1], 1, True),
        ([2**40] * 20, 20 * 2**40, True),
        ([2**40] * 20, 20 * 2**40 + 1, False),
        ([1], 2**70, False),
        ([1], -(2**70), False),
        ([1, 2, 4, 8, 16, 0, 0], 31, True),
        ([1, 2, 4, 8, 16, 0, 0], 32, False),
    ],
)
def test_adversarial_instances_are_decided_exactly(x, target, solvable):
    mask = subset_sum.solve(np.array(x, dtype=np.int64), target)
    assert (mask is not None) == solvable
    if solvable:
        assert mask.dtype == bool and mask.shape == (len(x),)
        assert sum(v for v, bit in zip(x, mask) if bit) == target


@pytest.mark.parametrize("n", [30, 40, 63, 64, 65, 100, 300])
def test_all_even_samples_and_an_odd_target_are_refused_at_any_length(n):
    x = 2 * np.random.default_rng(n).integers(-(2**15), 2**15, n)
    assert subset_sum.solve(x, 7) is None
    assert not subset_sum.solve_many(np.tile(x, (2, 1)), 7).found.any()


@pytest.mark.parametrize("n", [20, 33, 40, 64, 65, 90])
def test_one_odd_sample_among_even_ones_is_not_fooled_by_the_divisor(n):
    """The even part cannot make the target alone, and no common divisor says so: the full search or the table must."""
    x = 4 * np.random.default_rng(n).integers(1, 2**8, n)
    x[n // 2] = 1
    odd = subset_sum.solve(x, int(x.sum() // 8) * 4 + 1)
    assert odd is not None and odd[n // 2] and x[odd].sum() % 4 == 1
    assert subset_sum.solve(x, int(x.sum() // 8) * 4 + 2) is None


@pytest.mark.parametrize(("bound", "n"), [(2**4, 64), (2**10, 64), (2**20, 64), (2**20, 200), (2**30, 60)])
def test_many_samples_cost_no_more_than_a_prefix_of_them(bound, n):
    rng = np.random.default_rng(1)
    x = rng.integers(-bound, bound + 1, (12, n))
    targets = rng.integers(-bound, bound + 1, 12)
    masks, found = subset_sum.solve_many(x, targets)
    assert found.all()
    assert ((masks * x).sum(1) == targets).all()


def test_a_search_that_the_batch_leaves_open_is_settled_by_a_longer_prefix_and_by_the_table(monkeypatch):
    rng = np.random.default_rng(2)
    x = rng.integers(2**20, 2**21, 40) * 3
    x[-1] = 1
    target = int(x[:20].sum()) + 1  # needs the last sample: every prefix without it fails
    for table_bytes in (1, 2**30):
        monkeypatch.setattr(solvers, "MAX_TABLE_BYTES", table_bytes)
        mask = subset_sum.solve(x, target)
        assert mask is not None and int(x[mask].sum()) == target and mask[-1]


def test_the_table_of_sums_spells_out_a_subset_on_either_side_of_the_middle():
    rng = np.random.default_rng(3)
    for _ in range(40):
        x = rng.integers(-300, 301, 70)
        x[rng.random(70) < 0.1] = 0
        target = int(x[rng.random(70) < rng.random()].sum())
        mask = solvers._settle(x, target)
        assert mask is not None and int(x[mask].sum()) == target


def test_an_instance_beyond_every_method_says_so(monkeypatch):
    """The samples that fit a search are multiples of 3, the target needs the last ones, the sums fit no table."""
    x = 3 * (np.arange(60) + 2**36)
    x[-2:] += 1
    monkeypatch.setattr(solvers, "MAX_MEET_ITEMS", 36)
    with pytest.raises(SearchTooLarge, match=r"60 non-zero values.*first 36"):
        subset_sum.solve(x, int(x[20:].sum()) + 1)


@pytest.mark.parametrize("longest", range(33, 41))
def test_every_length_of_search_ends(longest, monkeypatch):
    """Whatever the longest search is, 40 samples that need the last one are solved, or refused with an error."""
    x = 3 * np.random.default_rng(7).integers(2**34, 2**35, 40)
    x[-1] = 1
    monkeypatch.setattr(solvers, "MAX_MEET_ITEMS", longest)
    monkeypatch.setattr(solvers.kernels, "meet_large", lambda items, prefix, target: (False, np.uint64(0)))
    if longest < 40:
        with pytest.raises(SearchTooLarge, match=f"first {longest}"):
            solvers._settle(x, int(x[:20].sum()) + 1)
    else:
        assert solvers._settle(x, int(x[:20].sum()) + 1) is None


@pytest.mark.parametrize("lengths", [[1, 3], [3, 3], [0, 3], [0, 0]])
def test_any_lengths_from_none_to_all_of_the_samples_are_allowed(lengths):
    assert subset_sum.solve_many(np.ones((2, 3), int), 2, lengths).found.tolist() == [k >= 2 for k in lengths]


def test_a_target_that_the_first_64_samples_cannot_make_is_still_found_with_those_behind_them():
    ones, twos = np.ones(80, int), np.full(70, 2)
    twos[-1] = 1
    for x, target, solvable in ((ones, 75, True), (ones, 81, False), (twos, 17, True), (2 * ones, 17, False)):
        mask = subset_sum.solve(x, target)
        masks, found = subset_sum.solve_many(np.stack([x, x[::-1]]), target)
        assert (mask is not None) == solvable and found.tolist() == [solvable] * 2
        if solvable:
            assert x[mask].sum() == x[masks[0]].sum() == x[::-1][masks[1]].sum() == target


def test_a_row_that_the_batch_leaves_open_has_a_word_that_sums_to_its_target():
    x = 4 * np.random.default_rng(8).integers(1, 2**8, (6, 40))
    x[:, -1] = 1
    targets = x.sum(1) // 8 * 4 + 1  # needs the last sample, beyond every prefix that the batch tries
    status = solvers._solve(x, targets, np.full(6, 40)).status
    assert (status == _kernels_solve.UNDECIDED).all()
    words, found = subset_sum.solve_words(x, targets)
    masks = (words[:, None] >> np.arange(40, dtype=np.uint64)) & np.uint64(1) != 0
    assert found.all() and (words >> np.uint64(40) == 0).all()
    assert ((masks * x).sum(1) == targets).all()


def test_no_search_of_a_batch_outgrows_its_scratch_and_only_a_search_of_the_whole_row_refuses(monkeypatch):
    """The compiled search writes wherever it is told to: its sizes are watched as plain Python, nothing found."""
    tried = []

    def watched(items, count, target, left, right, filter_words, candidates, places, head, chain):
        small, large = count // 2, count - count // 2
        assert left.size >= 2**small and 64 * filter_words.size >= 2 ** (small + 4)
        assert min(right.size, candidates.size, places.size, chain.size, head.size // 2) >= 2**large
        tried.append(count)
        return False, np.uint64(0)

    monkeypatch.setattr(_kernels_solve, "meet", watched)
    words, status = np.zeros(1, np.uint64), np.zeros(1, np.uint8)
    for bits in (1, 4, 10, 20, 22, 26, 30, 40):
        for n in range(1, 65):
            x = np.random.default_rng(n).integers(1, 2**bits, (1, n))
            x[0, -1] = 1
            _kernels_solve.solve_rows.py_func(x, np.array([n]), np.array([1]), words, status, 0, 1)
            refused = bool(tried) and tried[-1] == n
            assert status[0] == (_kernels_solve.IMPOSSIBLE if refused else _kernels_solve.UNDECIDED)
            tried.clear()


def test_sums_are_tabled_where_that_is_far_cheaper_and_searched_where_that_is(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("the dearer way was taken")

    rng = np.random.default_rng(9)
    few_sums, few_samples = rng.integers(1, 4, 60), rng.integers(2**23, 2**24, 40)
    for x, target, other in ((few_sums, 50, "meet_large"), (few_samples, int(few_samples[:16].sum()), "table_witness")):
        with monkeypatch.context() as patch:
            patch.setattr(solvers.kernels, other, refuse)
            assert x[solvers._settle(x, target)].sum() == target


def test_batches_equal_single_solutions_and_respect_lengths():
    rng = np.random.default_rng(4)
    x = rng.integers(-30, 31, (300, 11))
    lengths = rng.integers(0, 12, 300)
    targets = rng.integers(-60, 61, 300)
    masks, found = subset_sum.solve_many(x, targets, lengths)
    words, found_words = subset_sum.solve_words(x, targets, lengths)
    for i in range(300):
        part = x[i, : lengths[i]]
        assert found[i] == found_words[i] == (int(targets[i]) in naive.all_sums(part))
        assert not masks[i, lengths[i] :].any()
        if found[i]:
            assert part[masks[i, : lengths[i]]].sum() == targets[i]
            assert words[i] == sum(1 << int(j) for j in np.flatnonzero(masks[i]))


def test_the_number_of_threads_changes_no_mask():
    rng = np.random.default_rng(5)
    x = rng.integers(-(2**12), 2**12 + 1, (2000, 18))
    targets = rng.integers(-(2**12), 2**12 + 1, 2000)
    before = numba.get_num_threads()
    results = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        results.append(subset_sum.solve_many(x, targets))
    numba.set_num_threads(before)
    assert (results[0].masks == results[1].masks).all() and (results[0].found == results[1].found).all()


def test_a_filter_collision_storm_neither_invents_nor_loses_a_solution():
    """Equal halves, powers of two and multiples of the filter's size: the shapes that hash worst."""
    for x in ([64] * 16, [2**k for k in range(16)], [1 << 30] * 8 + [1] * 8, list(range(0, 64 * 16, 64))):
        sums = naive.all_sums(x)
        for target in [*list(sums)[:40], *(s + 1 for s in list(sums)[:40])]:
            assert (subset_sum.solve(np.array(x), target) is not None) == (target in sums)


def test_rows_are_independent_of_their_batch_and_of_its_memory_layout():
    rng = np.random.default_rng(6)
    x = rng.integers(-100, 101, (50, 12)).astype(np.int32)
    whole = subset_sum.solve_many(np.asfortranarray(x), 17)
    parts = [subset_sum.solve_many(x[i : i + 1], 17) for i in range(50)]
    assert (whole.masks == np.concatenate([p.masks for p in parts])).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: subset_sum.solve(np.array([1.5]), 1), TypeError, "x has dtype float64"),
        (lambda: subset_sum.solve(np.array([True]), 1), TypeError, "x has dtype bool"),
        (lambda: subset_sum.solve(np.array([[1]]), 1), ValueError, r"x has shape \(1, 1\)"),
        (lambda: subset_sum.solve(np.array([1]), 1.0), TypeError, "target is 1.0: it must be an integer"),
        (lambda: subset_sum.solve(np.array([2**40 + 1]), 1), ValueError, "largest allowed is 2"),
        (lambda: subset_sum.solve(np.array([2**63 + 1], dtype=np.uint64), 1), ValueError, "largest allowed"),
        (lambda: subset_sum.solve(np.full(2**22, 2**40), 1), ValueError, "sums may pass"),
        (lambda: subset_sum.solve_many(np.ones((2, 3), int), [1, 2, 3]), ValueError, r"targets has shape \(3,\)"),
        (lambda: subset_sum.solve_many(np.ones((2, 3), int), [1.0, 2.0]), TypeError, "targets has dtype float64"),
        (lambda: subset_sum.solve_many(np.ones((2, 3), int), 1, [1]), ValueError, "lengths has shape"),
        (lambda: subset_sum.solve_many(np.ones((2, 3), int), 1, [1, 4]), ValueError, "lengths spans"),
        (lambda: subset_sum.solve_many(np.ones((2, 3), int), 1, [1, -1]), ValueError, "lengths spans"),
        (lambda: subset_sum.solve_words(np.ones((2, 65), int), 1), ValueError, "65 columns"),
    ],
)
def test_bad_input_is_named_before_any_work(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_no_rows_and_no_columns_are_answered():
    assert subset_sum.solve_many(np.empty((0, 5), int), []).masks.shape == (0, 5)
    masks, found = subset_sum.solve_many(np.empty((3, 0), int), [0, 1, 0])
    assert masks.shape == (3, 0) and found.tolist() == [True, False, True]


def test_targets_at_the_edge_of_int64_are_out_of_reach_and_do_not_wrap():
    x = np.array([[1, 2], [-1, -2]])
    extremes = np.array([np.iinfo(np.int64).max, np.iinfo(np.int64).min])
    assert not subset_sum.solve_many(x, extremes).found.any()
    assert not subset_sum.solve_many(x, np.array([2**64 - 1, 5], dtype=np.uint64)).found.any()
    assert not subset_sum.solve_many(x, 2**80).found.any()


def test_a_wrong_mask_from_the_kernel_is_caught(monkeypatch):
    def lying(x, lengths, targets, words, status, start, stop):
        words[start:stop] = 1
        status[start:stop] = _kernels_solve.FOUND

    monkeypatch.setattr(solvers.kernels, "solve_rows", lying)
    with pytest.raises(RuntimeError, match="do not sum"):
        subset_sum.solve_many(np.array([[1, 2, 4]]), [6])
