"""Changing the code behind a claim: what is changed, and what is not."""

import importlib.util

import pytest


def test_the_kernels_that_a_claim_calls_are_among_the_functions_it_runs():
    from mutate import functions

    ran = functions("kumar2025.lemma2")
    assert all(first <= last for _, _, first, last in ran)
    assert any(file.startswith("subset_sum/_kernels") for file, *_ in ran)
    assert not any(file.startswith("claims/") for file, *_ in ran)


def test_a_file_that_can_call_a_changed_one_is_compiled_anew_however_it_imports_it():
    from mutate import dependents

    assert {"formats/_kernels.py", "formats/_kernels_error.py"} <= dependents("formats/_kernels.py")
    assert "subset_sum/_kernels_count.py" in dependents("subset_sum/_kernels_reach.py")  # from ._kernels_reach
    assert {"random.py", "subset_sum/_kernels_hitting.py"} <= dependents("random.py")
    assert "formats/_kernels.py" not in dependents("subset_sum/_kernels_count.py")


@pytest.mark.skipif(importlib.util.find_spec("cosmic_ray") is None, reason="make mutate installs cosmic-ray")
def test_changes_are_drawn_with_a_seed_and_lie_inside_what_the_claim_runs():
    from mutate import changes, functions

    ran = functions("kumar2025.lemma2")
    drawn = changes("kumar2025.lemma2", 3, 1)
    assert drawn == changes("kumar2025.lemma2", 3, 1) != changes("kumar2025.lemma2", 3, 2)
    assert len({(change["file"], change["line"]) for change in drawn}) == 3
    for change in drawn:
        assert any(f == change["file"] and first < change["line"] <= last for f, _, first, last in ran)
