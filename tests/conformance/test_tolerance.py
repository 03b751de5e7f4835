"""The tolerance is the documented line, entry by entry."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import Leaf, TolerancePolicy
from refpg.notation import Array

POLICY = TolerancePolicy(16.0, 0.3, {"float64": 2.0**-53, "float32": 2.0**-24}, "")


def leaf(values: list[float], amplification: list[float], *, exact: bool = False) -> Leaf:
    return Leaf(np.array(values), exact, 0.0, np.array(amplification))


def test_the_documented_line_in_exact_arithmetic() -> None:
    y, R = [1.0, -3.0, 0.0], [2.0, 0.125, 5.0]
    tol = tolerances({"y": leaf(y, R)}, "float32", POLICY)["y"]
    for i in range(3):
        half_ulp = Fraction(math.ulp(y[i])) / 2
        exact = 16 * Fraction(2.0**-24) * max(Fraction(R[i]), Fraction(0.3) * 5) + half_ulp
        # Four roundings, of relative size 2^-53 each.
        assert abs(Fraction(float(tol[i])) - exact) <= 4 * Fraction(1, 2**53) * exact


def test_the_floor_looks_at_all_leaves_of_the_same_output_and_no_other() -> None:
    outputs = {
        "gradient.layers[0].W": leaf([0.0], [0.0]),
        "gradient.layers[0].b": leaf([0.0], [10.0]),
        "entropy": leaf([0.0], [0.5]),
    }
    for order in (outputs, dict(reversed(outputs.items()))):
        tol = tolerances(order, "float64", POLICY)
        assert_floors(tol)


def assert_floors(tol: dict[str, Array]) -> None:
    assert tol["gradient.layers[0].W"][0] == 16 * 2.0**-53 * (0.3 * 10)
    assert tol["gradient.layers[0].b"][0] == 16 * 2.0**-53 * 10
    assert tol["entropy"][0] == 16 * 2.0**-53 * 0.5


def test_an_exact_leaf_has_no_tolerance() -> None:
    assert tolerances({"rank": leaf([3.0], [7.0], exact=True)}, "float32", POLICY)["rank"].tolist() == [0.0]


def test_without_amplification_the_value_must_be_correctly_rounded() -> None:
    tol = tolerances({"y": leaf([1.0], [0.0])}, "float64", POLICY)["y"]
    assert tol[0] == np.spacing(1.0) / 2


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1, max_size=6),
    st.sampled_from(["float64", "float32"]),
)
def test_it_never_shrinks_with_less_precision_or_more_amplification(
    pairs: list[tuple[float, float]], dtype: str
) -> None:
    y, R = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    tol = tolerances({"y": leaf(y, R)}, dtype, POLICY)["y"]
    assert (tol >= tolerances({"y": leaf(y, R)}, "float64", POLICY)["y"]).all()
    assert (tol <= tolerances({"y": leaf(y, [2 * r for r in R])}, dtype, POLICY)["y"]).all()
    assert (tol >= 0).all()
