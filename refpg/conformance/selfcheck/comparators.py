"""Comparator mutants: a comparison with one flaw must disagree with what is known to be right or wrong.

A comparator says whether an answer passes.  The known answers are those of the vectors: the certified ones, those of
refpg, and certified ones at nine tenths of the tolerance must pass; the wrong answers of the bugs, and certified ones
that were spoilt in one way each, must not.  The comparator of `refpg.conformance.verdicts` agrees with all of them;
every mutant must disagree with one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from refpg.conformance.reference import answers
from refpg.conformance.run import CONFORM, HARNESS, MISMATCH, NOTHING_EXECUTED, Run
from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import Case, Expected, TolerancePolicy, Vectors
from refpg.conformance.verdicts import call, compare
from refpg.notation import Array

Leaves = dict[str, Array]
Tolerances = Mapping[str, Array]
Comparator = Callable[[Leaves, Expected, str, TolerancePolicy], bool]
ExitRule = Callable[[Run], int]


class Known(NamedTuple):
    """An answer's ``leaves``, what is ``expected``, the ``dtype`` it is judged by, and whether it ``passes``."""

    leaves: Leaves
    expected: Expected
    dtype: str
    passes: bool


def right_comparator(leaves: Leaves, expected: Expected, dtype: str, policy: TolerancePolicy) -> bool:
    """The judge's own: every leaf within its tolerance."""
    return all(comparison.worst <= 1 for comparison in compare(leaves, expected, dtype, policy))


def known_answers(vectors: Vectors) -> Iterator[Known]:
    """Yield answers that must pass, and answers that must not, of the first case of every op, in every dtype."""
    functions = answers({name: axis.default for name, axis in vectors.axes.items()})
    for op, (case, *_) in vectors.cases.items():
        expected = case.expected[0]
        right = {path: leaf.value for path, leaf in expected.outputs.items()}
        for dtype in case.resolves:
            reply = call(op, functions[op], case.inputs, case.shapes, dtype)
            if reply.leaves is not None:
                yield Known(dict(reply.leaves), expected, dtype, True)
            yield Known(right, expected, dtype, True)
            yield from _moved(right, expected, dtype, vectors.policy)
            yield from (Known(wrong, expected, dtype, False) for wrong in _wrong(case, expected, right))


def _moved(right: Leaves, expected: Expected, dtype: str, policy: TolerancePolicy) -> Iterator[Known]:
    """Certified answers moved by nine tenths of the tolerance, and one entry by two tolerances, up and down.

    Where nothing is tolerated, that entry is moved to the next number.
    """
    tolerance = tolerances(expected.outputs, dtype, policy)
    yield Known({path: value + 0.9 * tolerance[path] for path, value in right.items()}, expected, dtype, True)
    for path, value in right.items():
        if expected.outputs[path].exact:
            yield Known(right | {path: value + 1}, expected, dtype, False)
            continue
        for way in (-2, 2):
            last, allowed = value.copy(), tolerance[path].flat[-1]
            y = last.flat[-1]
            last.flat[-1] = y + way * allowed if allowed else np.nextafter(y, way * np.inf)
            yield Known(right | {path: last}, expected, dtype, False)


def _wrong(case: Case, expected: Expected, right: Leaves) -> Iterator[Leaves]:
    """The answers of bugs, and certified answers spoilt in one leaf."""
    for wrong in case.wrong:
        if dict(wrong.conventions) == dict(expected.conventions):
            yield right | dict(wrong.outputs)
    for path, value in right.items():
        if value.dtype.kind == "f":
            for number in (np.nan, np.inf):
                spoilt = value.copy()
                spoilt.flat[0] = number
                yield right | {path: spoilt}
        yield right | {path: value[..., None]}
        yield right | {path: value[None]}
        if value.ndim:
            yield right | {path: value[:0]}
            yield right | {path: np.concatenate([value, value[:1]])}
        if value.ndim == 2 and value.shape[0] != value.shape[1]:
            yield right | {path: value.T}


# Comparisons of a leaf with one flaw.

Leaf = Callable[[Array, Array, Array], bool]


def _error(got: Array, y: Array) -> Array:
    return np.where(np.isfinite(got), np.abs(got - y), np.inf)


def _within(got: Array, y: Array, tol: Array) -> bool:
    return got.shape == y.shape and bool((_error(got, y) <= tol).all())


def _broadcast(got: Array, y: Array, tol: Array) -> bool:
    try:
        return bool((_error(got, y) <= tol).all())
    except ValueError:
        return False


def _raveled(got: Array, y: Array, tol: Array) -> bool:
    return got.size == y.size and _within(got.ravel(), y.ravel(), tol.ravel())


def _cut_to_size(got: Array, y: Array, tol: Array) -> bool:
    return got.size >= y.size and _within(got.ravel()[: y.size], y.ravel(), tol.ravel())


def _of(flaw: Leaf) -> Comparator:
    """Compare every leaf with the flaw."""

    def comparator(leaves: Leaves, expected: Expected, dtype: str, policy: TolerancePolicy) -> bool:
        tolerance = tolerances(expected.outputs, dtype, policy)
        return all(flaw(leaves[path], leaf.value, tolerance[path]) for path, leaf in expected.outputs.items())

    return comparator


def _same_shape(test: Leaf) -> Comparator:
    return _of(lambda got, y, tol: got.shape == y.shape and test(got, y, tol))


def _tolerated(change: Callable[[Tolerances, Expected, str, TolerancePolicy], Tolerances]) -> Comparator:
    """Compare every leaf rightly, by another tolerance."""

    def comparator(leaves: Leaves, expected: Expected, dtype: str, policy: TolerancePolicy) -> bool:
        tolerance = change(tolerances(expected.outputs, dtype, policy), expected, dtype, policy)
        return all(_within(leaves[path], leaf.value, tolerance[path]) for path, leaf in expected.outputs.items())

    return comparator


def _some_leaves(rule: Callable[[list[bool]], bool]) -> Comparator:
    def comparator(leaves: Leaves, expected: Expected, dtype: str, policy: TolerancePolicy) -> bool:
        tolerance = tolerances(expected.outputs, dtype, policy)
        return rule([_within(leaves[path], leaf.value, tolerance[path]) for path, leaf in expected.outputs.items()])

    return comparator


def _floats_alone(leaves: Leaves, expected: Expected, dtype: str, policy: TolerancePolicy) -> bool:
    tolerance = tolerances(expected.outputs, dtype, policy)
    return all(leaf.exact or _within(leaves[p], leaf.value, tolerance[p]) for p, leaf in expected.outputs.items())


def _allclose(got: Array, y: Array, tol: Array) -> bool:
    return bool(np.allclose(got, y, rtol=1e-5, atol=1e-8))


def _unfloored(tolerance: Tolerances, expected: Expected, dtype: str, policy: TolerancePolicy) -> dict[str, Array]:
    scale = policy.factor * policy.unit_roundoff[dtype]
    return {path: scale * leaf.amplification * (not leaf.exact) for path, leaf in expected.outputs.items()}


def _of_single_precision(
    tolerance: Tolerances, expected: Expected, dtype: str, policy: TolerancePolicy
) -> dict[str, Array]:
    return tolerances(expected.outputs, "float32", policy)


def _times(factor: float) -> Comparator:
    return _tolerated(lambda tolerance, *_: {path: factor * value for path, value in tolerance.items()})


COMPARATORS: dict[str, Comparator] = {
    "no absolute value": _same_shape(lambda got, y, tol: bool(((got - y <= tol) & np.isfinite(got)).all())),
    "absolute value of the sum": _same_shape(
        lambda got, y, tol: bool(np.isfinite(got).all() and abs(np.sum(got - y)) <= tol.sum())
    ),
    "mean of the errors": _same_shape(lambda got, y, tol: bool(_error(got, y).mean() <= tol.mean())),
    "largest tolerance for all entries": _same_shape(lambda got, y, tol: bool((_error(got, y) <= tol.max()).all())),
    "first entry alone": _same_shape(lambda got, y, tol: bool((_error(got, y) <= tol).flat[0])),
    "any entry": _same_shape(lambda got, y, tol: bool((_error(got, y) <= tol).any())),
    "absolute values compared": _of(lambda got, y, tol: _within(np.abs(got), np.abs(y), tol)),
    "shapes broadcast": _of(_broadcast),
    "shapes not looked at": _of(_raveled),
    "what is too much is cut": _of(_cut_to_size),
    "NaN passes": _same_shape(lambda got, y, tol: not (np.abs(got - y) > tol).any()),
    "NaN is zero": _same_shape(lambda got, y, tol: _within(np.nan_to_num(got, posinf=0.0), y, tol)),
    "infinity passes": _same_shape(lambda got, y, tol: _within(np.where(np.isinf(got), y, got), y, tol)),
    "numpy.allclose": _same_shape(_allclose),
    "everything passes": lambda leaves, expected, dtype, policy: True,
    "nothing passes": lambda leaves, expected, dtype, policy: False,
    "any leaf": _some_leaves(any),
    "first leaf alone": _some_leaves(lambda found: found[0]),
    "integers not looked at": _floats_alone,
    "equality demanded": _times(0.0),
    "twice the tolerance and more": _times(2.5),
    "half the tolerance": _times(0.5),
    "no floor of the tolerance": _tolerated(_unfloored),
    "float32's tolerance for float64": _tolerated(_of_single_precision),
}

# Rules for the exit code with one flaw; the miniature adapters are what they are tried on.

EXIT_RULES: dict[str, ExitRule] = {
    "green if nothing is wrong": lambda run: MISMATCH if run.exit_code == MISMATCH else CONFORM,
    "green if nothing was executed": lambda run: CONFORM if run.exit_code == NOTHING_EXECUTED else run.exit_code,
    "errors of the harness ignored": lambda run: CONFORM if run.exit_code == HARNESS else run.exit_code,
    "errors of the harness are mismatches": lambda run: MISMATCH if run.exit_code == HARNESS else run.exit_code,
    "imprecise is green": lambda run: run.exit_code if run.counts()["wrong"] else CONFORM,
    "unsupported counts as executed": lambda run: CONFORM if run.counts()["unsupported"] else run.exit_code,
    "undeclared counts as executed": lambda run: CONFORM if run.counts()["undeclared"] else run.exit_code,
    "red if anything is unsupported": lambda run: MISMATCH if run.counts()["unsupported"] else run.exit_code,
    "always green": lambda run: CONFORM,
    "always red": lambda run: MISMATCH,
}


def agrees(comparator: Comparator, known: Iterable[Known], policy: TolerancePolicy) -> bool:
    """Return whether a comparator says of every known answer what is known of it."""
    with np.errstate(all="ignore"):
        return all(comparator(k.leaves, k.expected, k.dtype, policy) == k.passes for k in known)
