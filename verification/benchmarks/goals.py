"""What is asked, met or missed: one entry for each figure of each goal."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from verification.benchmarks.machine import jacobian_square_flops
from verification.benchmarks.operations import ALL, OPERATIONS
from verification.benchmarks.problems import problem
from verification.benchmarks.results import Results

_TORCH, _JAX, _CONTRIB = "torch_double_backward", "jax_jit", "sb3_contrib"
_FISHER_SIZES = ("fisher-1k", "fisher-2k", "fisher-6k")
_GIB = 2**30


class Goal(NamedTuple):
    """One figure: the ``goal`` it belongs to, ``what`` was measured, how much was ``wanted``, how much ``found``, and
    whether it is ``met``; None where it was not measured.
    """

    goal: str
    what: str
    wanted: str
    found: str
    met: bool | None


def goals(results: Results) -> list[Goal]:
    """Return every figure of every goal."""
    sources = (_every_operation, _products, _dense, _dual, _small, _growth, _workers, _judge)
    return [goal for source in sources for goal in source(results)]


def _at_least(goal: str, what: str, found: float | None, wanted: float, form: str = "{:.2f} ×") -> Goal:
    return _judged(goal, what, found, f"≥ {form.format(wanted)}", None if found is None else found >= wanted, form)


def _at_most(goal: str, what: str, found: float | None, wanted: float, form: str) -> Goal:
    return _judged(goal, what, found, f"≤ {form.format(wanted)}", None if found is None else found <= wanted, form)


def _judged(goal: str, what: str, found: float | None, wanted: str, met: bool | None, form: str) -> Goal:
    return Goal(goal, what, wanted, "not measured" if found is None else form.format(found), met)


def _every_operation(results: Results) -> Iterator[Goal]:
    operations = ("forward", "gradient", "fisher_product", "conjugate_gradient", "trpo_update")
    for size in ALL:
        for operation in operations:
            what = f"{OPERATIONS[operation].title}, {size}"
            tie = size == "wide" and operation in ("forward", "gradient")
            yield _at_least("not slower than JAX jit", what, results.ratio(size, operation, _JAX), 0.9 if tie else 0.95)
            yield _at_least("twice as fast as torch", what, results.ratio(size, operation, _TORCH), 2.0)
    for size, wanted in (("standard", 5.0), ("large", 10.0), ("wide", 3.0)):
        found = results.ratio(size, "trpo_update", _CONTRIB)
        yield _at_least("TRPO update beside sb3-contrib", f"TRPO update, {size}", found, wanted)


def _products(results: Results) -> Iterator[Goal]:
    for size in ALL:
        product, gradient = results.row(size, "fisher_product"), results.row(size, "gradient")
        cost = None
        if product is not None and gradient is not None:
            cost = float(np.median(product.seconds) / np.median(gradient.seconds))
        most = 1.3 if size == "wide" else 1.1
        yield _at_most("Fisher-vector product", f"beside one gradient, {size}", cost, most, "{:.2f} ×")
    for size, wanted in (("tiny", 20.0), ("standard", 3.0), ("large", 3.0), ("wide", 1.6)):
        found = results.ratio(size, "fisher_product", _TORCH)
        yield _at_least("Fisher-vector product", f"beside torch's double backward, {size}", found, wanted)
    for size, wanted in (("tiny", 5.0), ("standard", 5.0), ("large", 5.0), ("wide", 2.2)):
        found = results.ratio(size, "fisher_product", _CONTRIB)
        yield _at_least("Fisher-vector product", f"beside sb3-contrib, {size}", found, wanted)


def _dense(results: Results) -> Iterator[Goal]:
    for size in _FISHER_SIZES:
        found = results.least_ratio(size, "fisher_matrix")
        yield _at_least("dense Fisher matrix", f"beside the fastest peer, {size}", found, 10.0)
    for size in _FISHER_SIZES:
        row = results.row(size, "fisher_matrix")
        bound = jacobian_square_flops(problem(size)) / results.machine.dsyrk
        found = None if row is None else bound / float(np.median(row.seconds))
        yield _at_least("dense Fisher matrix", f"beside dsyrk of the Jacobian at its peak rate, {size}", found, 4.0)
    for size in _FISHER_SIZES:
        peak = results.peak(size, "fisher_matrix")
        found = None if peak is None else peak.added / (8 * problem(size).theta.size ** 2)
        yield _at_most("dense Fisher matrix", f"memory, matrices of P², {size}", found, 2.0, "{:.2f}")
    peak = results.peak("fisher-20k", "fisher_matrix")
    found = None if peak is None else peak.after / _GIB
    yield _at_most("growth", "dense Fisher matrix, P = 20k, memory", found, 24.0, "{:.1f} GiB")


def _dual(results: Results) -> Iterator[Goal]:
    for size in ("dual-12k", "dual-wide"):
        found = results.least_ratio(size, "natural_gradient")
        yield _at_least("dual natural gradient", f"beside the fastest peer, {size}", found, 10.0)


def _small(results: Results) -> Iterator[Goal]:
    for operation in ("gradient", "mean_kl", "clipped_loss"):
        found = results.ratio("tiny", operation, _TORCH)
        yield _at_least("small calls", f"{OPERATIONS[operation].title}, tiny, beside torch", found, 5.0)
    for share in results.shares:
        what = f"validation of arguments, {OPERATIONS[share.operation].title}, tiny"
        yield _at_most("small calls", what, 100 * share.share, 25.0, "{:.0f} %")


def _growth(results: Results) -> Iterator[Goal]:
    for curve in results.curves:
        if curve.implementation == "reference" and curve.along == "N":
            what = f"{OPERATIONS[curve.operation].title}: exponent of N"
            yield _at_most("growth", what, curve.exponent, 1.1, "{:.2f}")
    if len(results.streams) > 1:
        first, last = results.streams[0], results.streams[-1]
        what = f"peak memory of N = {last.rows:,} streamed rows beside N = {first.rows:,}"
        yield _at_most("growth", what, last.peak / first.peak, 1.1, "{:.2f} ×")


def _workers(results: Results) -> Iterator[Goal]:
    scalings = [scaling for scaling in results.scalings if scaling.kind == "dask"]
    if not scalings:
        yield Goal("workers", "a Dask cluster of two", "≥ 1.70 ×", "not measured", None)
    for scaling in scalings:
        what = f"{OPERATIONS[scaling.operation].title}, N = {scaling.rows:,}, two Dask workers beside one"
        yield _at_least("workers", what, scaling.speedup, 1.7)
    for scaling in results.scalings:
        what = f"{OPERATIONS[scaling.operation].title}, {scaling.kind}: the bits of no executor"
        yield Goal("workers", what, "identical", "identical" if scaling.identical else "different", scaling.identical)


def _judge(results: Results) -> Iterator[Goal]:
    most = {"import refpg": 0.5, "import refpg and all its chapters": 0.5, "refpg check, all profiles": 10.0}
    for wall in results.walls:
        if wall.command in most:
            found = None if wall.failed else float(np.median(wall.seconds))
            yield _at_most("the judge", wall.command, found, most[wall.command], "{:.2f} s")
