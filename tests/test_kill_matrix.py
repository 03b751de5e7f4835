"""The published wrong answers are told from the truth, and the committed matrix is what the published data gives."""

import dataclasses
import math

import numpy as np
import pytest

from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import Wrong, load
from verification import kill_matrix

VECTORS = load()
DISTANCES = list(kill_matrix.distances(VECTORS))
ORDINARY = {case.id for cases in VECTORS.cases.values() for case in cases if not case.stability}
CATALOGUE = kill_matrix.read(kill_matrix.CATALOGUE)["bugs"]
SIZE = 143  # ids of the catalogue that was compiled from public code; none is dropped


def test_the_committed_files_are_what_the_data_gives():
    """If this fails after a change of the data: python -m verification.kill_matrix"""
    differing = [
        path.name for path, text in kill_matrix.regenerated().items() if path.read_text(encoding="utf-8") != text
    ]
    assert differing == []


def test_every_mistake_is_killed_in_float64_by_a_case_that_everyone_is_judged_by():
    shipped = {one.bug for one in DISTANCES}
    killed = {
        one.bug
        for one in DISTANCES
        if one.dtype == "float64" and one.case in ORDINARY and one.tolerances >= kill_matrix.SEPARATION
    }
    assert shipped - killed == set()


def test_every_mistake_explained_is_shipped():
    assert set(VECTORS.bugs) == {one.bug for one in DISTANCES}


def test_no_wrong_answer_is_near_the_truth_in_a_dtype_the_case_resolves():
    near = [one for one in DISTANCES if not one.tolerances >= kill_matrix.SEPARATION]
    assert near == []


@pytest.mark.parametrize("dtype", list(VECTORS.policy.unit_roundoff))
def test_no_case_is_idle(dtype):
    killing = {one.case for one in DISTANCES if one.dtype == dtype}
    resolving = {case.id for cases in VECTORS.cases.values() for case in cases if dtype in case.resolves}
    assert resolving - killing == set()


class TestTheCatalogue:
    def test_no_id_is_lost(self):
        assert len(CATALOGUE) == SIZE

    @pytest.mark.parametrize("bug", CATALOGUE)
    def test_an_id_is_killed_or_has_a_reason_or_is_another_name(self, bug):
        entry = CATALOGUE[bug]
        assert len(entry) == 1, f"{bug} has {sorted(entry)}, expected one of ops, reason and same_as"
        if "ops" in entry:
            assert entry["ops"] == kill_matrix.killing_ops(DISTANCES)[bug]
        elif "same_as" in entry:
            assert "same_as" not in CATALOGUE[entry["same_as"]]
        else:
            assert len(entry["reason"]) > 20

    def test_a_reason_is_dropped_when_the_mistake_is_killed_and_ops_when_it_no_longer_is(self):
        known = {"a": {"reason": "because"}, "b": {"ops": ["gae"]}, "c": {"reason": "still"}}
        assert kill_matrix.catalogue(known, {"a": ["ratio"]}) == {
            "a": {"ops": ["ratio"]},
            "b": {},
            "c": {"reason": "still"},
        }


class TestTheMatrix:
    def rows(self, distance, resolves=("float64", "float32")):
        """A release of one op with two cases, the second of which shows nothing."""
        op, cases = "ratio", VECTORS.cases["ratio"][:2]
        cases = tuple(dataclasses.replace(case, resolves=resolves) for case in cases)
        vectors = dataclasses.replace(VECTORS, cases={op: cases})
        found = [kill_matrix.Distance("late", cases[0].id, {}, dtype, distance) for dtype in resolves]
        return kill_matrix.matrix(vectors, found)["matrix"]["late"], [case.id for case in cases]

    def test_a_case_that_does_not_list_the_mistake_cannot_tell_it(self):
        row, (first, second) = self.rows(1234.5)
        assert row[first] == {"float64": 1230.0, "float32": 1230.0}
        assert row[second] == {"float64": "equal", "float32": "equal"}

    def test_a_dtype_that_is_not_resolved_has_no_distance(self):
        row, (first, second) = self.rows(10.0, resolves=("float64",))
        assert row[first] == {"float64": 10.0, "float32": "unresolved"}
        assert row[second] == {"float64": "equal", "float32": "unresolved"}

    def test_what_is_not_a_number_is_infinitely_far(self):
        row, (first, _) = self.rows(math.inf)
        assert row[first]["float64"] == "infinite"

    def test_of_several_conventions_the_nearest_counts(self):
        case = VECTORS.cases["gae"][0]
        found = [kill_matrix.Distance("late", case.id, {"x": value}, "float64", d) for value, d in (("1", 9), ("2", 7))]
        assert kill_matrix.matrix(VECTORS, found)["matrix"]["late"][case.id]["float64"] == 7

    def test_the_distance_is_in_tolerances_of_the_certified_value(self):
        """An answer 2²⁰ tolerances off in one entry, and right in the others, is at distance 2²⁰."""
        case = VECTORS.cases["ratio"][0]
        leaf = case.expected[0].outputs["ratio"]
        off = np.zeros(leaf.value.shape)
        off[-1] = 2.0**20 * tolerances(case.expected[0].outputs, "float64", VECTORS.policy)["ratio"][-1]
        wrong = Wrong("late", {}, {"ratio": leaf.value + off})
        one = dataclasses.replace(VECTORS, cases={"ratio": (dataclasses.replace(case, wrong=(wrong,)),)})
        found = {distance.dtype: distance.tolerances for distance in kill_matrix.distances(one)}
        # The sum is rounded by half an ulp, which is less than one tolerance.
        assert found["float64"] == pytest.approx(2.0**20, rel=2.0**-20)
        # float32's roundoff is 2²⁹ times float64's, but for the half ulp in both.
        assert found["float32"] == pytest.approx(2.0**-9, rel=0.1)
