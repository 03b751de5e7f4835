"""refpg's own error is measured in the units it says, and the published table is complete."""

import numpy as np
import pytest

from refpg.conformance.ops import OPS
from verification import accuracy
from verification.marked import replaced

BEGIN, END = f"<!-- {accuracy.MARK} -->", f"<!-- /{accuracy.MARK} -->"
BETWEEN = accuracy.README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def test_the_committed_table_names_every_op():
    assert [op for op in OPS if f"| `{op}` |" not in BETWEEN] == []


def test_the_committed_table_names_nothing_else():
    named = {line.split("`")[1] for line in BETWEEN.splitlines() if line.startswith("| `")}
    assert named == set(OPS)


def test_one_spacing_is_one_ulp():
    y = np.array([1.0, -3.0, 2.0**-1000])
    np.testing.assert_array_equal(accuracy.ulps(np.nextafter(y, np.inf), y), np.ones(3))


def test_a_zero_has_no_ulp_but_counts_normwise():
    got, y = np.array([8.0, 2.0**-50]), np.array([8.0, 0.0])
    np.testing.assert_array_equal(accuracy.ulps(got, y), [0.0])
    assert accuracy.normwise(got, y) == 2.0**-50 / np.spacing(8.0)
    assert accuracy.normwise(np.array([1.0]), np.array([0.0])) == np.inf
    assert accuracy.normwise(np.array([0.0]), np.array([0.0])) == 0.0


def test_what_is_not_a_number_is_infinitely_wrong():
    assert accuracy.ulps(np.array([np.nan]), np.array([1.0])) == [np.inf]
    assert accuracy.normwise(np.array([np.nan]), np.array([1.0])) == np.inf


def test_the_table_replaces_what_is_between_the_markers_and_nothing_else():
    text = f"above\n{BEGIN}\nold\n{END}\nbelow\n"
    assert replaced(text, accuracy.MARK, ["new"]) == f"above\n{BEGIN}\nnew\n{END}\nbelow\n"


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", BEGIN * 2])
def test_a_readme_without_its_markers_is_refused(text):
    with pytest.raises(ValueError, match="must hold"):
        replaced(text, accuracy.MARK, ["new"])


def test_every_output_that_is_not_an_integer_has_a_row():
    rows = {(row.op, row.output) for row in accuracy.measure()}
    assert rows == {(op.name, output) for op in OPS.values() for output, kind in op.outputs.items() if kind != "int"}
