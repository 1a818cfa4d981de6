"""Every format has one name, and every named format has a twin, a row on its page, and the promises that it states."""

import sys
from pathlib import Path

import numpy as np
import pytest

from prunequant.formats import HBFP, MX, TABLE, Format, Integer, named, names

sys.path.insert(0, str(Path(__file__).parents[1]))
from naive import formats as naive

ROOT = Path(__file__).parents[2]


def test_a_name_is_a_format_and_no_format_has_two():
    assert named("MXFP4") == MX("fp4_e2m1") and named("INT4") == Integer(4, granularity="row")
    assert named("HBFP6", block=8) == HBFP(6, 8) and named("INT4", block=np.uint8(64)) == Integer(4, granularity=64)
    assert all(isinstance(named(name), Format) for name in names())
    assert len(set(TABLE.values())) == len(names())


def test_a_default_may_be_spelled_out():
    for full, short in (("INT4 narrow", "INT4"), ("MXFP6 E2M3", "MXFP6"), ("INT8 row", "INT8")):
        assert named(full) == named(short) and full not in names()


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        TABLE["INT4"] = Integer(4)


def test_another_name_is_refused_with_all_there_are():
    for bad, error in (("INT9", ValueError), ("int4", ValueError), (4, TypeError), (None, TypeError), ([], TypeError)):
        with pytest.raises(error, match=r"^name is .*'MXFP4'"):
            named(bad)
    for bad, error in ((0, ValueError), (2.0, TypeError)):
        with pytest.raises(error, match=r"^block is"):
            named("INT4", block=bad)


@pytest.mark.parametrize("name", names())
def test_every_named_format_is_its_slow_twin(name):
    x = np.random.default_rng(1).standard_t(3, (12, 24)).astype(np.float32)
    x[1] = np.round(x[1] * 4) / 4
    x[2], x[3, ::2] = 0, 0
    x[4] = np.abs(x[4])
    fmt = named(name, block=8)
    np.testing.assert_array_equal(fmt.quantize(x), naive.matrix(x, fmt))


@pytest.mark.parametrize("name", names())
def test_every_named_format_has_a_row_on_the_page_of_formats(name):
    page = (ROOT / "book" / "interplay" / "formats.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    family = type(named(name)).__name__
    assert any(line.startswith(f"| {'INT' if family == 'Integer' else family}") for line in rows)
