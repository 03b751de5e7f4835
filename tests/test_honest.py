"""Implementations that are right and round differently are never called wrong.

The tolerance is the judge's own: nothing is typed in here.
"""

from functools import cache

import numpy as np
import pytest

from refpg.conformance.ops import OPS
from refpg.conformance.vectors import load
from refpg.conformance.verdicts import native
from verification.honest.formulas import ComplexStep, SciPy
from verification.honest.orders import ORDERS
from verification.honest.ordinary import Ordinary
from verification.honest.variants import CONVENTIONS, Variant, judge, numpy_variants

VARIANTS = {variant.name: variant for variant in numpy_variants()}
PAIRS = [pytest.param(name, dtype, id=f"{name}, {dtype}") for name in VARIANTS for dtype in VARIANTS[name].dtypes]
DEFAULTS = {name: axis.default for name, axis in load(ops=()).axes.items()}


def described(outcomes):
    return [
        f"{o.verdict.value} {o.case} {dict(o.conventions)}: {o.worst:.3g} × tolerance {o.message}" for o in outcomes
    ]


@pytest.mark.parametrize(("name", "dtype"), PAIRS)
def test_no_variant_is_called_wrong_or_imprecise(name, dtype):
    line = judge(VARIANTS[name], dtype, conventions=({},))
    assert described(line.amiss) == []
    assert line.ops == len(OPS)
    # The other half is room for other machines: honest code that needs it shows that R is measured too small.
    assert line.worst <= 0.5, line.where


@cache
def under_every_convention(name, dtype):
    return judge(VARIANTS[name], dtype, CONVENTIONS)


@pytest.mark.parametrize("name", [ORDERS[0].name, "Libraries"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nor_under_any_convention(name, dtype):
    assert described(under_every_convention(name, dtype).amiss) == []


def test_every_certified_answer_is_asked_for():
    """But those of stability cases, which ask for more digits than ordinary code has."""
    wanted = sum(len(case.expected) for cases in load().cases.values() for case in cases if not case.stability)
    assert under_every_convention(ORDERS[0].name, "float64").executed == wanted


def test_there_are_at_least_twelve():
    assert len(VARIANTS) >= 12


class Numbers:
    """Inputs of one op, its floats in float32, and whether an answer of it holds anything wider."""

    def __init__(self, op):
        self.op = op
        self.inputs = native(load(ops=[op]).cases[op][0].inputs, "float32")

    def dtypes(self, value):
        if isinstance(value, dict):
            return {dtype for part in value.values() for dtype in self.dtypes(part)}
        if isinstance(value, list):
            return {dtype for part in value for dtype in self.dtypes(part)}
        return {value.dtype.name} if hasattr(value, "dtype") else set()


@pytest.mark.parametrize("op", [op for op in OPS if not op.endswith("kl_penalty_update")])
@pytest.mark.parametrize("formula", [Ordinary, SciPy, ComplexStep])
def test_float32_variants_compute_in_float32(op, formula):
    """A float64 in between would be promoted to the end, and hide float32's rounding from the judge."""
    numbers = Numbers(op)
    with np.errstate(all="ignore"):
        answer = formula(conventions=DEFAULTS).ops()[op](**numbers.inputs)
    assert numbers.dtypes(answer) == {"float32"}


class TestOrders:
    @pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
    def test_an_order_of_integers_is_the_sum(self, order):
        """Sums of small integers are exact in any order."""
        generator = np.random.default_rng(1)
        a, b = (generator.integers(-8, 8, shape).astype(np.float32) for shape in ((3, 7), (7, 4)))
        np.testing.assert_array_equal(order.matmul(a, b), (a.astype(int) @ b.astype(int)))
        for axis in (0, 1, -1):
            np.testing.assert_array_equal(order.total(a, axis), a.astype(int).sum(axis))
        assert order.matmul(a, b).dtype == order.total(a, 0).dtype == np.float32

    def test_the_orders_differ(self):
        """Else one of them would be decoration: on a hundred numbers of mixed size no two loops agree everywhere."""
        generator = np.random.default_rng(2)
        terms = (generator.normal(size=(100, 200)) * np.exp(4 * generator.normal(size=(100, 200)))).astype(np.float32)
        loops = [order for order in ORDERS if order.name not in ("exact (fsum)", "wide accumulator", "einsum")]
        sums = {order.name: order.total(terms, 0).tobytes() for order in loops}
        by_blas = {"NumPy's sum and BLAS", "column-major"}
        assert len(set(sums.values())) >= len(sums) - len(by_blas) + 1

    def test_compensated_and_exact_sums_keep_what_a_loop_loses(self):
        terms = np.array([1.0] + [2.0**-30] * 512, dtype=np.float32)
        totals = {order.name: float(order.total(terms, 0)) for order in ORDERS}
        assert totals["left to right"] == 1.0
        assert totals["Kahan"] == totals["exact (fsum)"] == totals["wide accumulator"] == 1 + 2.0**-21


class TestTheTestBites:
    """A variant with a fault is not let through: the judging is real."""

    def faulty(self, op, change):
        def make(conventions):
            functions = Ordinary(conventions=conventions).ops()
            return functions | {op: lambda **inputs: change(functions[op](**inputs))}

        return Variant("faulty", make)

    def test_a_wrong_number_is_amiss(self):
        line = judge(self.faulty("ratio", lambda ratio: ratio * 1.001), "float32", ({},))
        assert {outcome.op for outcome in line.amiss} == {"ratio"}

    def test_a_lost_digit_is_amiss(self):
        line = judge(self.faulty("surrogate", lambda value: value * (1 + 2.0**-40)), "float64", ({},))
        assert {outcome.op for outcome in line.amiss} == {"surrogate"}

    def test_an_exception_is_amiss(self):
        line = judge(self.faulty("gae", lambda answer: 1 / 0), "float64", ({},))
        assert {outcome.verdict.name for outcome in line.amiss} == {"HARNESS_ERROR"}
