"""Whether an explanation holds on the whole run, and whether it could do so by chance."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from refpg.conformance.diagnosis.candidates import Bug, Cause, Convention, Prediction, Told
from refpg.conformance.vectors import Vectors
from refpg.conformance.verdicts import Outcome, Verdict, entry_errors, worst_error
from refpg.notation import Array

RED = (Verdict.IMPRECISE, Verdict.WRONG)

# An explanation found by trial must be a thousand times less likely to agree by chance than to be tried.
_MARGIN_DIGITS = 3.0
# The decimal digits of a float64, and the most that one answer counts for.
_MOST_DIGITS = 15.0


@dataclass(frozen=True)
class Run:
    """What a run tells: ``all`` cases in which something was compared, and the ``vectors`` it was judged by.

    ``predicted`` remembers what single causes predict.
    """

    all: tuple[Told, ...]
    vectors: Vectors
    predicted: dict[tuple[Cause, int], Prediction | None] = field(default_factory=dict)

    def alike(self, outcome: Outcome) -> list[Told]:
        """Return the cases of the same op under the same conventions: what one explanation must hold for."""
        conventions = dict(outcome.conventions)
        return [
            told
            for told in self.all
            if told.outcome.op == outcome.op and dict(told.outcome.conventions) == conventions
        ]

    def prediction(self, cause: Cause, told: Told) -> Prediction | None:
        """Return the answer a cause predicts, None if this case cannot tell."""
        key = cause, id(told.outcome)
        if key not in self.predicted:
            self.predicted[key] = cause.predict(told, self.vectors)
        return self.predicted[key]

    def agrees(self, cause: Cause, told: Told) -> bool | None:
        """Return whether the answer is the one predicted; None if this case cannot tell."""
        prediction = self.prediction(cause, told)
        return None if prediction is None else is_answer(prediction, told.outcome)

    def contradictions(self, cause: Cause, outcome: Outcome) -> list[str]:
        """Return the cases that the cause would have decided otherwise.

        A bug belongs to one op.  A convention belongs to the implementation: another op that conforms as declared, and
        would not under the other value, contradicts it.
        """
        concerned = self.alike(outcome)
        if isinstance(cause, Convention):
            concerned += [
                told
                for told in self.all
                if told.outcome.op != outcome.op and told.outcome.verdict is Verdict.CONFORMS
            ]
        return [told.outcome.case for told in concerned if self.agrees(cause, told) is False]

    def seen(self, causes: Iterable[Cause], outcome: Outcome) -> int:
        """Count the cases of the op in which one of the bugs is visible."""
        bugs = [cause for cause in causes if isinstance(cause, Bug)]
        return sum(any(bug.visible(told) for bug in bugs) for told in self.alike(outcome))


def is_answer(prediction: Prediction, outcome: Outcome) -> bool:
    """Return whether every leaf is the one predicted; where NaN is predicted, anything that is not finite is."""
    return all(
        is_array(c.got, prediction.values[c.path], prediction.allowed[c.path]) for c in outcome.comparisons
    )


def is_array(got: Array, target: Array, allowed: Array) -> bool:
    """Return whether an array is another, entry by entry within what is allowed; NaN is anything not finite."""
    if got.shape != target.shape:
        return False
    finite = np.isfinite(target)
    if not np.array_equal(finite, np.isfinite(got)):
        return False
    return worst_error(np.where(finite, got, 0.0), np.where(finite, target, 0.0), allowed) <= 1


def digits(outcome: Outcome, allowed: Sequence[Array]) -> float:
    """Return how many digits of the worst error an explanation accounts for, over the leaves that are not exact.

    ::

        log10 max_i |got_i − y_i| / allowed_i          at most 15
    """
    most = 0.0
    for comparison, width in zip(outcome.comparisons, allowed, strict=True):
        if comparison.exact:
            continue
        if not comparison.same_shape or width.shape != comparison.got.shape:
            return _MOST_DIGITS
        error = entry_errors(comparison.got, comparison.certified)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(error > 0, error / width, 0.0)
        most = max(most, float(ratio.max(initial=0.0)))
    return min(_MOST_DIGITS, math.log10(most)) if most > 1 else 0.0


def beyond_chance(found: float, tried: int) -> bool:
    """Return whether so many digits in agreement are not to be had by trying so many explanations.

    Examples
    --------
    >>> beyond_chance(8.0, 1000), beyond_chance(3.5, 1000)
    (True, False)
    """
    return found >= math.log10(max(tried, 1)) + _MARGIN_DIGITS
