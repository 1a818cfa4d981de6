"""Profiles that stand for other machines: nothing numerical is inherited, and two that are the same are run once."""

import os
import sys

import portability
import pytest

BY_NAME = {profile.name: profile for profile in portability.PROFILES}


@pytest.mark.parametrize("processors", [1, 2, 3])
def test_as_many_threads_as_processors_are_what_one_gets_unasked(processors, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    for count, name in ((1, "one thread"), (2, "two threads")):
        same = portability.same_as(BY_NAME[name], sys.executable)
        assert same.get("same_as") == ("no variables set" if count == processors else None)
        assert bool(same) == bool(same.get("because"))


def test_newest_packages_are_run_where_they_are_other_ones(monkeypatch):
    for differing, same in (([], "this machine"), (["numpy 3.0 for 2.4"], None)):
        monkeypatch.setattr(portability, "differing_packages", lambda python, found=differing: found)
        assert portability.same_as(BY_NAME["newest packages"], sys.executable).get("same_as") == same
    assert portability.same_as(BY_NAME["this machine"], sys.executable) == {}


def test_a_profile_sets_its_own_variables_and_takes_none_of_the_callers(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "NUMBA_CPU_NAME", "PYTHONPATH"):
        monkeypatch.setenv(name, "7")
    found = portability.environment(BY_NAME["no variables set"])
    assert "OMP_NUM_THREADS" not in found and "OPENBLAS_CORETYPE" not in found and "NUMBA_CPU_NAME" not in found
    assert found["PYTHONPATH"].endswith("src") and found["PYTHONHASHSEED"] == "random"
    older = portability.environment(BY_NAME["no AVX2, no FMA"])
    if portability.features(BY_NAME["no AVX2, no FMA"]):
        assert older.get("OPENBLAS_CORETYPE") == BY_NAME["no AVX2, no FMA"].variables.get("OPENBLAS_CORETYPE")
    assert portability.environment(BY_NAME["one thread"])["NUMBA_NUM_THREADS"] == "1"
