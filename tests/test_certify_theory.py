"""The vectors of the theory: exact tables, the enclosed series, and false bounds that their cases refute."""

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")

from flint import arb

from refpg.conformance.ops import OPS
from verification.certify import balls, corpus
from verification.certify.definitions import theory

pytestmark = pytest.mark.certify

CASES = corpus.load_profile("theory").all_cases()
TABLES = ("transition", "start", "probabilities", "old_probabilities", "new_probabilities", "state_weights")


def _committed(op: str, slug: str) -> dict[str, Any]:
    document = json.loads((corpus.DATA / corpus.RELEASE / f"{op}.json").read_bytes())
    found: dict[str, Any] = next(case for case in document["cases"] if case["id"] == f"{op}/{slug}")
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}/{case.slug}")
def test_every_row_of_probabilities_sums_to_exactly_one_in_both_formats(case: Any) -> None:
    """In any order of summation: all partial sums are multiples of the same power of two, and below 1."""
    for name in (name for name in TABLES if name in case.inputs):
        for dtype in (np.float64, np.float32):
            table = np.asarray(case.inputs[name], dtype=dtype)
            if case.slug.startswith("kl-near") and dtype is np.float32:
                continue  # probabilities of more than 24 bits, which float32 is not asked about
            assert (table >= 0).all()
            assert (table.sum(axis=-1) == 1).all(), (name, dtype)
            assert (table[..., ::-1].cumsum(axis=-1)[..., -1] == 1).all(), (name, dtype)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 63 / 64, 1 - 2.0**-40])
def test_the_series_encloses_the_sum_of_a_walk_that_stays(gamma: float) -> None:
    """P = I: every state is visited 1/(1 − γ) times, itself and no other."""
    inputs = {"transition": [[[1.0, 0.0]], [[0.0, 1.0]]], "gamma": gamma}
    exact = 1 / (1 - Fraction(gamma))
    with balls.precision(192):
        N = theory.expected_visits(inputs, [[arb(1)], [arb(1)]])
        for s in range(2):
            for t in range(2):
                true = arb(exact.numerator) / exact.denominator if s == t else arb(0)
                assert N[s][t].overlaps(true)
                assert N[s][t].rad() < arb(2) ** -100


def test_the_ball_holds_what_the_terms_leave_over() -> None:
    """Four terms of a walk to and fro, 1 + 2⁻⁶ and 2⁻³ + 2⁻⁹, are exact in eight bits: only the rest reaches on."""
    inputs = {"transition": [[[0.0, 1.0]], [[1.0, 0.0]]], "gamma": 0.125}
    with balls.precision(8):
        N = theory.expected_visits(inputs, [[arb(1)], [arb(1)]])
    with balls.precision(192):
        assert N[0][0].contains(arb(64) / 63)  # 1/(1 − γ²)
        assert N[0][1].contains(arb(8) / 63)  # γ/(1 − γ²)


def _new_return(inputs: dict[str, Any]) -> float:
    def answer() -> dict[str, Any]:
        return {"return": theory.return_of(inputs, balls.exact(inputs["new_probabilities"]))}

    return balls.certify(answer).leaves["return"].entries[0].value


@pytest.mark.parametrize(
    ("slug", "bug", "bound"),
    [
        ("mean-kl-counterexample-4x2", "mm-mean-kl", "trpo_kl"),
        ("mean-tv-counterexample-2x3", "mm-mean-tv", "trpo_tv"),
    ],
)
def test_with_a_mean_for_the_maximum_the_bound_is_false_and_as_published_it_is_true(
    slug: str, bug: str, bound: str
) -> None:
    case = _committed("lower_bounds", slug)
    (wrong,) = (entry["outputs"][bound]["value"][0] for entry in case["wrong"] if entry["bug"] == bug)
    assert wrong > _new_return(case["inputs"])


@pytest.mark.parametrize("case", [case for case in CASES if case.op == "lower_bounds"], ids=lambda case: case.slug)
def test_the_published_bounds_are_bounds_in_their_order(case: Any) -> None:
    """Each is certified to the last digit, so that equality (γ = 0, equal policies) is exact."""
    outputs = _committed("lower_bounds", case.slug)["expected"][0]["outputs"]
    lower = {name: leaf["value"][0] for name, leaf in outputs.items()}
    assert lower["trpo_kl"] <= lower["pinsker"] <= lower["trpo_tv"] <= lower["cpo"] <= _new_return(case.inputs)


def test_both_sides_of_the_performance_difference_are_published() -> None:
    """η(new) − η(old) of the series is the difference of the returns that are published apart, up to their rounding."""
    for slug in ("both-signs-5x3", "short-sighted-3x4", "long-sighted-4x2"):
        case = _committed("performance_difference", slug)
        (old,) = _committed("expected_return", slug)["expected"][0]["outputs"]["expected_return"]["value"]
        difference = case["expected"][0]["outputs"]["performance_difference"]["value"][0]
        new = _new_return(case["inputs"])
        # Three numbers rounded by half a unit each, and their difference.
        assert abs((new - old) - difference) <= 2 * np.spacing(max(abs(new), abs(old)))


STEPS = [case for case in CASES if case.op == "mm_step"]


def _minorizer(inputs: Any, table: Any) -> Any:
    """M less η(old), one number per table of a stack."""
    p, A, rho = (np.array(inputs[name]) for name in ("old_probabilities", "advantages", "visitation"))
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(p > 0, p * np.log(p / table), 0.0).sum(axis=-1)
    return ((rho[:, None] * table * A).sum(axis=(-2, -1))) - inputs["penalty"] * kl.max(axis=-1)


@pytest.mark.parametrize("case", STEPS, ids=lambda case: case.slug)
def test_no_other_table_has_a_higher_minorizer_than_the_published_one(case: Any) -> None:
    """M is concave, so that a higher table far away would show as one nearby: towards any other, M falls."""
    outputs = _committed("mm_step", case.slug)["expected"][0]["outputs"]
    best = np.array(outputs["probabilities"]["value"]).reshape(outputs["probabilities"]["shape"])
    random = np.random.default_rng(17)
    p = np.array(case.inputs["old_probabilities"])
    others = np.concatenate([random.dirichlet(np.ones(p.shape[1]), size=(400, len(p))), p[None]])
    highest = _minorizer(case.inputs, best)
    for part in (1.0, 2.0**-4, 2.0**-8):
        # M is of the size of its terms, ρA below 8 a state: its rounding is far below 2⁻⁴⁰.
        assert (_minorizer(case.inputs, (1 - part) * best + part * others) <= highest + 2.0**-40).all()
    assert highest > _minorizer(case.inputs, p)
    assert (np.abs(best.sum(axis=1) - 1) <= 4 * np.finfo(float).eps).all()


def test_the_value_of_the_dual_is_where_its_two_halves_meet() -> None:
    for case in (case for case in CASES if case.op == "trust_region_dual"):
        outputs = _committed("trust_region_dual", case.slug)["expected"][0]["outputs"]
        (beta,), (value,) = (outputs[name]["value"] for name in ("multiplier", "value"))
        H, g, delta = (np.array(case.inputs[name]) for name in ("matrix", "gradient", "max_kl"))
        s = np.array(outputs["step"]["value"])
        assert value == pytest.approx(2 * beta * delta, rel=4 * np.finfo(float).eps)
        assert 0.5 * s @ H @ s == pytest.approx(delta, rel=1e-12)
        # The residual of a step rounded entry by entry, as large as the terms that make it.
        assert (np.abs(g - beta * H @ s) <= 1e-14 * beta * np.abs(H) @ np.abs(s)).all()


def test_the_profile_has_an_op_for_every_definition() -> None:
    assert [op.name for op in OPS.values() if op.profile == "theory"] == list(theory.DEFINITIONS)
