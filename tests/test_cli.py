"""The planner's command says what the library says, and bad input ends in one line and exit code 2."""

from fractions import Fraction

import pytest
from typer.testing import CliRunner

from prunequant import tickets
from prunequant.cli import app

RUN = CliRunner()


def test_plan_prints_the_plan_of_the_library():
    result = RUN.invoke(app, ["plan", "--widths", "784,128,10", "--bits", "4", "--failure", "0.01"])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(tickets.plan((784, 128, 10), Fraction(1, 7), Fraction(1, 7), 0.01))


def test_bits_may_differ_from_layer_to_layer():
    result = RUN.invoke(app, ["plan", "--widths", "8,6,3", "--bits", "4,3", "--no-signed-inputs"])
    made = tickets.plan((8, 6, 3), (Fraction(1, 7), Fraction(1, 3)), None, 0.01, signed_inputs=False)
    assert result.output.strip() == str(made)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--widths", "8,x"], "invalid literal"),
        (["--widths", "8"], "at least two"),
        (["--widths", "8,4", "--bits", "1"], "at least 2"),
        (["--widths", "8,4", "--bits", "4,4,4"], "3 entries"),
        (["--widths", "8,4", "--failure", "2"], "failure"),
        (["--widths", "8,4", "--bits", "4", "--source-bits", "3"], "not a multiple"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_in_one_line(arguments, message):
    result = RUN.invoke(app, ["plan", *arguments])
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output
