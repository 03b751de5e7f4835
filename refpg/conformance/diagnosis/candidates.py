"""Single causes, a convention that was not declared or a known bug, and the answers they predict."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.signatures import output_of
from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import Case, Expected, Vectors, Wrong
from refpg.conformance.verdicts import Comparison, Outcome
from refpg.notation import Array

# A bug is not listed for a case in which its answer is within 4 tolerances of the certified one; a correct
# implementation of the bug may be one further away.
INVISIBLE = 5.0

_FLOOR = 0.3  # of the largest effect in a leaf


class Told(NamedTuple):
    """What the run tells about one case: the ``outcome``, in which something was compared, and the ``case``."""

    outcome: Outcome
    case: Case


class Prediction(NamedTuple):
    """The answer an explanation predicts: ``values`` by leaf path, and how far from them an answer is ``allowed``.

    NaN stands for anything that is not finite.
    """

    values: Mapping[str, Array]
    allowed: Mapping[str, Array]


@dataclass(frozen=True)
class Convention:
    """Convention values that were not declared: ``changes``, pairs of axis and value."""

    changes: tuple[tuple[str, str], ...]

    def expected(self, told: Told, vectors: Vectors) -> Expected | None:
        """Return the certified answer under the conventions so changed, None if the case has none."""
        if not {axis for axis, _ in self.changes} <= set(OPS[told.outcome.op].conventions):
            return None
        values = dict(told.outcome.conventions) | dict(self.changes)
        return told.case.under({axis: value for axis, value in values.items() if value != vectors.axes[axis].default})

    def predict(self, told: Told, vectors: Vectors) -> Prediction | None:
        """Return the certified answer under the conventions so changed, None if the case has none."""
        entry = self.expected(told, vectors)
        if entry is None:
            return None
        values = {path: leaf.value for path, leaf in entry.outputs.items()}
        return Prediction(values, tolerances(entry.outputs, told.outcome.dtype, vectors.policy))


@dataclass(frozen=True)
class Bug:
    """A known bug by ``name``; in the outputs named ``only``, the others being right, or in all if none is named."""

    name: str
    only: tuple[str, ...] = ()

    def answer(self, told: Told) -> Mapping[str, Array] | None:
        """Return its answer, the certified one where it is not visible; None if the case cannot tell."""
        certified = {comparison.path: comparison.certified for comparison in told.outcome.comparisons}
        wrong = self._wrong(told)
        if wrong is None:
            return None if self._listed(told.case) else certified
        return certified | {path: value for path, value in wrong.outputs.items() if self._touches(path)}

    def predict(self, told: Told, vectors: Vectors) -> Prediction | None:
        """Return its answer, and how far an implementation that has it may be from that.

        Where the bug is visible that is the certified answer's tolerance, scaled up if the wrong one is larger, and √u
        of the distance between the two besides: half of the digits of the effect agree, and a formula that is wrong
        may round worse.
        """
        values = self.answer(told)
        if values is None:
            return None
        visible = self._wrong(told) is not None
        if not visible:
            return Prediction(values, {c.path: INVISIBLE * c.tolerance for c in told.outcome.comparisons})
        u = vectors.policy.unit_roundoff[told.outcome.dtype]
        return Prediction(values, {c.path: allowed(c, values[c.path], u) for c in told.outcome.comparisons})

    def visible(self, told: Told) -> bool:
        """Return whether the case lists an answer of the bug under the conventions of the outcome."""
        return self._wrong(told) is not None

    def _touches(self, path: str) -> bool:
        return not self.only or output_of(path) in self.only

    def _listed(self, case: Case) -> bool:
        return any(wrong.bug == self.name for wrong in case.wrong)

    def _wrong(self, told: Told) -> Wrong | None:
        for wrong in told.case.wrong:
            if wrong.bug == self.name and dict(wrong.conventions) == dict(told.outcome.conventions):
                return wrong
        return None


Cause = Convention | Bug


def allowed(comparison: Comparison, target: Array, u: float, effect: Array | None = None) -> Array:
    """Return how far from a wrong answer an implementation that makes the mistake may be, entry by entry.

    ``effect`` is the distance of the mistake's answer from the certified one, unless given |target − certified|.
    """
    tolerance = comparison.tolerance
    if target.shape != tolerance.shape:
        tolerance = np.full(target.shape, tolerance.max())
    finite = np.isfinite(target)
    size, wrong_size = np.abs(comparison.certified).max(), np.abs(np.where(finite, target, 0.0)).max()
    scale = max(1.0, float(wrong_size / size)) if size > 0 else 1.0
    if target.shape != comparison.certified.shape:
        return tolerance * scale
    if effect is None:
        effect = np.where(finite, np.abs(target - comparison.certified), 0.0)
    # As with tolerances, an entry on which the mistake happens to have little effect rounds like those beside it.
    effect = np.maximum(effect, _FLOOR * effect.max())
    return tolerance * scale + math.sqrt(u) * effect


def causes(told: Told, vectors: Vectors) -> Iterator[Cause]:
    """Yield every convention and every bug of which the case has an answer."""
    for entry in told.case.expected:
        if dict(entry.conventions) != dict(told.outcome.conventions):
            yield Convention(_changes(entry.conventions, told.outcome, vectors))
    for wrong in told.case.wrong:
        if dict(wrong.conventions) == dict(told.outcome.conventions):
            yield Bug(wrong.bug)


def in_some_outputs(bugs: Iterable[Bug], outcome: Outcome) -> Iterator[Bug]:
    """Yield every bug as if it were only in those outputs that are wrong, where some output is right."""
    outputs = {output_of(comparison.path) for comparison in outcome.comparisons}
    wrong = {output_of(comparison.path) for comparison in outcome.comparisons if comparison.worst > 1}
    if wrong < outputs:
        yield from (Bug(bug.name, tuple(sorted(wrong))) for bug in bugs)


def _changes(conventions: Mapping[str, str], outcome: Outcome, vectors: Vectors) -> tuple[tuple[str, str], ...]:
    values = {axis: conventions.get(axis, vectors.axes[axis].default) for axis in OPS[outcome.op].conventions}
    declared = {axis: outcome.conventions.get(axis, vectors.axes[axis].default) for axis in values}
    return tuple(sorted((axis, value) for axis, value in values.items() if value != declared[axis]))
