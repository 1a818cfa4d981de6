"""Printed numbers beside ours: the comparison can say no, and the record is what the code computes."""

import pytest

from prunequant import records
from prunequant.claims import Verdict, registry
from prunequant.studies import printed


def item(value, **more):
    return printed.Printed("kuzmin2023", "here", "a number", printed=value, **more)


def test_equal_means_that_ours_rounds_to_the_digits_that_are_printed():
    assert printed.judged(item(5.6), 5.585) == printed.EQUAL
    assert printed.judged(item(19.1), 19.258) == printed.OFF
    assert printed.judged(item((1.0, 2.0)), (1.04, 2.06)) == printed.OFF


def test_a_number_read_off_a_figure_is_equal_within_what_can_be_read():
    assert printed.judged(item(40.0, read=0.6), 40.57) == printed.EQUAL
    assert printed.judged(item(40.0, read=0.5), 40.57) == printed.OFF


def test_as_many_numbers_are_compared_as_are_printed():
    with pytest.raises(ValueError, match="2 numbers are printed and 1 are ours"):
        printed.judged(item((1.0, 2.0)), 1.0)


def test_a_figure_that_the_ledger_does_not_have_is_an_error():
    with pytest.raises(KeyError, match="has no figure"):
        printed.ledger("kumar2025.lemma2", "a figure that nobody measured")


def test_the_record_is_what_is_computed_today_and_leads_to_claims_that_exist():
    record = records.read("printed.json")
    assert record["rows"] == printed.rows()
    assert set(record["statuses"]) == set(printed.STATUSES)
    for row in record["rows"]:
        assert row["status"] in printed.STATUSES
        assert not row["claim"] or row["claim"] in registry(), row
        assert row["why"] or row["status"] == printed.EQUAL, row


def test_equal_and_off_follow_from_numbers_and_a_failure_from_its_claims_verdict():
    for entry in printed.ALL:
        assert entry.status not in (printed.EQUAL, printed.OFF), entry.what
        if entry.status == printed.FAILS:
            assert registry()[entry.claim].verdict in (Verdict.CONDITIONAL, Verdict.FAILS_AS_STATED), entry.what
