"""What a wrong answer is, as far as the evidence goes.

In this order: the certified answer of a convention that was not declared; the answer of a known bug; a simple
structure.  An explanation is complete if no case of the run contradicts it; where several are left, all are named.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.signatures import output_of
from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import Case, TolerancePolicy, Vectors, Wrong
from refpg.conformance.verdicts import Comparison, Outcome, Verdict, worst_error
from refpg.notation import Array

# A bug is not listed for a case in which its answer is within 4 tolerances of the certified one; a correct
# implementation of the bug may be one further away.
_INVISIBLE = 5.0

_FACTORS = {"½": 0.5, "2": 2.0, "−1": -1.0, "−½": -0.5, "−2": -2.0, "¼": 0.25, "4": 4.0}

_RED = (Verdict.IMPRECISE, Verdict.WRONG)


@dataclass(frozen=True)
class Diagnosis:
    """An explanation of one wrong answer.

    Fields: ``kind`` is ``"convention"``, ``"bug"``, ``"structure"`` or ``"none"``; ``complete`` whether no case of the
    run contradicts it; ``bugs`` and ``conventions`` the candidates; ``lines`` (label, text) for a person.
    """

    kind: str
    complete: bool
    bugs: tuple[str, ...]
    conventions: tuple[Mapping[str, str], ...]
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Candidate:
    """An explanation that may hold for all cases of one op: a bug, or convention values that were not declared."""

    bug: str = ""
    changes: tuple[tuple[str, str], ...] = ()


def diagnose(outcomes: Sequence[Outcome], vectors: Vectors) -> tuple[list[Outcome], dict[int, Diagnosis]]:
    """Explain every wrong or imprecise answer of a run.

    Parameters
    ----------
    outcomes : sequence of Outcome
        All of the run: an explanation must agree with every case that can tell.
    vectors : Vectors
        The release, with all answers of its conventions and bugs.

    Returns
    -------
    outcomes : list of Outcome
        The same, where an imprecise answer that a convention or a bug explains has become WRONG.
    diagnoses : dict of int to Diagnosis
        Position in ``outcomes`` → explanation.
    """
    cases = {outcome.case: vectors.case(outcome.case) for outcome in outcomes}
    told = [(outcome, case) for outcome in outcomes if (case := cases[outcome.case]) and outcome.comparisons]
    final, diagnoses = list(outcomes), {}
    for i, outcome in enumerate(outcomes):
        case = cases[outcome.case]
        if outcome.verdict not in _RED or case is None:
            continue
        diagnosis = _explain(outcome, case, told, vectors)
        if outcome.verdict is Verdict.IMPRECISE and diagnosis.kind in ("convention", "bug"):
            final[i] = replace(outcome, verdict=Verdict.WRONG)
        diagnoses[i] = diagnosis
    return final, diagnoses


def _explain(outcome: Outcome, case: Case, told: list[tuple[Outcome, Case]], vectors: Vectors) -> Diagnosis:
    matching = [
        candidate for candidate in _candidates(outcome, case, vectors) if _agrees(candidate, outcome, case, vectors)
    ]
    against = {candidate: _contradictions(candidate, outcome, told, vectors) for candidate in matching}
    complete = [candidate for candidate in matching if not against[candidate]]
    chosen = _simplest(complete or matching)
    if not chosen:
        return _structure(outcome, case, vectors.policy)
    if chosen[0].changes:
        return _convention(outcome, chosen, against, bool(complete))
    return _bug(outcome, chosen, against, bool(complete), _seen(chosen, outcome, told), vectors)


def _candidates(outcome: Outcome, case: Case, vectors: Vectors) -> list[_Candidate]:
    other = [
        _Candidate(changes=_changes(entry.conventions, outcome, vectors))
        for entry in case.expected
        if dict(entry.conventions) != dict(outcome.conventions)
    ]
    bugs = [_Candidate(bug=wrong.bug) for wrong in case.wrong if dict(wrong.conventions) == dict(outcome.conventions)]
    return other + bugs


def _changes(conventions: Mapping[str, str], outcome: Outcome, vectors: Vectors) -> tuple[tuple[str, str], ...]:
    values = {axis: conventions.get(axis, vectors.axes[axis].default) for axis in OPS[outcome.op].conventions}
    declared = {axis: outcome.conventions.get(axis, vectors.axes[axis].default) for axis in values}
    return tuple(sorted((axis, value) for axis, value in values.items() if value != declared[axis]))


def _changed(outcome: Outcome, changes: tuple[tuple[str, str], ...], vectors: Vectors) -> dict[str, str]:
    """Return the conventions of an outcome with some of them changed, defaults left out."""
    values = dict(outcome.conventions) | dict(changes)
    return {axis: value for axis, value in values.items() if value != vectors.axes[axis].default}


def _agrees(candidate: _Candidate, outcome: Outcome, case: Case, vectors: Vectors) -> bool | None:
    """Return whether the answer is the one the candidate predicts; None if this case cannot tell."""
    if candidate.changes:
        if not {axis for axis, _ in candidate.changes} <= set(OPS[outcome.op].conventions):
            return None
        entry = case.under(_changed(outcome, candidate.changes, vectors))
        if entry is None:
            return None
        tolerance = tolerances(entry.outputs, outcome.dtype, vectors.policy)
        return all(
            worst_error(comparison.got, entry.outputs[comparison.path].value, tolerance[comparison.path]) <= 1
            for comparison in outcome.comparisons
        )
    listed = [wrong for wrong in case.wrong if wrong.bug == candidate.bug]
    for wrong in listed:
        if dict(wrong.conventions) == dict(outcome.conventions):
            return _is_answer_of(wrong, outcome, vectors.policy)
    if listed or outcome.op != case.op:
        return None
    return outcome.worst <= _INVISIBLE


def _is_answer_of(wrong: Wrong, outcome: Outcome, policy: TolerancePolicy) -> bool:
    """Compare with the answer of a bug.

    It has the certified answer's tolerance, scaled up if it is larger, and may be off by √u of its distance from the
    certified answer besides: half of the digits of the effect agree, and a formula that is wrong may round worse.
    """
    for comparison in outcome.comparisons:
        target = wrong.outputs.get(comparison.path, comparison.certified)
        tolerance = comparison.tolerance
        if target.shape != tolerance.shape:
            tolerance = np.full(target.shape, tolerance.max())
        if comparison.got.shape != target.shape:
            return False
        finite = np.isfinite(target)
        if not np.array_equal(finite, np.isfinite(comparison.got)):
            return False
        got, target = np.where(finite, comparison.got, 0.0), np.where(finite, target, 0.0)
        size, wrong_size = np.abs(comparison.certified).max(), np.abs(target).max()
        scale = max(1.0, float(wrong_size / size)) if size > 0 else 1.0
        allowed = tolerance * scale
        if target.shape == comparison.certified.shape:
            effect = np.where(finite, np.abs(target - comparison.certified), 0.0)
            allowed = allowed + math.sqrt(policy.unit_roundoff[outcome.dtype]) * effect
        if worst_error(got, target, allowed) > 1:
            return False
    return True


def _contradictions(
    candidate: _Candidate, outcome: Outcome, told: list[tuple[Outcome, Case]], vectors: Vectors
) -> list[str]:
    """Return the cases of the run that the candidate would have decided otherwise.

    A bug belongs to one op.  A convention belongs to the implementation: another op that conforms as declared, and
    would not under the other value, contradicts it.
    """
    against = []
    for other, case in told:
        same = other.op == outcome.op and dict(other.conventions) == dict(outcome.conventions)
        related = bool(candidate.changes) and other.op != outcome.op and other.verdict is Verdict.CONFORMS
        if (same or related) and _agrees(candidate, other, case, vectors) is False:
            against.append(other.case)
    return against


def _simplest(candidates: list[_Candidate]) -> list[_Candidate]:
    """Prefer conventions to bugs, and fewer changed axes to more."""
    conventions = [candidate for candidate in candidates if candidate.changes]
    if not conventions:
        return list(dict.fromkeys(candidates))
    fewest = min(len(candidate.changes) for candidate in conventions)
    return [candidate for candidate in conventions if len(candidate.changes) == fewest]


def _seen(chosen: list[_Candidate], outcome: Outcome, told: list[tuple[Outcome, Case]]) -> int:
    """Count the cases of the op in which some candidate is visible."""
    bugs = {candidate.bug for candidate in chosen}
    return sum(
        other.op == outcome.op
        and dict(other.conventions) == dict(outcome.conventions)
        and any(wrong.bug in bugs and dict(wrong.conventions) == dict(other.conventions) for wrong in case.wrong)
        for other, case in told
    )


def _values(outcome: Outcome) -> str:
    count = sum(comparison.got.size for comparison in outcome.comparisons)
    return f"all {count} values equal" if count > 1 else "the value equals"


def _objection(chosen: list[_Candidate], against: Mapping[_Candidate, list[str]]) -> tuple[tuple[str, str], ...]:
    cases = sorted({case for candidate in chosen for case in against[candidate]})
    shown = ", ".join(cases[:3]) + (f" and {len(cases) - 3} more" if len(cases) > 3 else "")
    return (("but", f"it does not explain the whole run: {shown} disagree{'s' if len(cases) == 1 else ''}"),)


def _convention(
    outcome: Outcome, chosen: list[_Candidate], against: Mapping[_Candidate, list[str]], complete: bool
) -> Diagnosis:
    names = [" and ".join(f"{axis} = {value}" for axis, value in candidate.changes) for candidate in chosen]
    which = names[0] if len(names) == 1 else f"one of: {'; '.join(names)}"
    if complete:
        text = f"not a bug: {_values(outcome)} the certified answer under another convention; declare {which}"
        lines: tuple[tuple[str, str], ...] = (("DIAGNOSIS", text),)
    else:
        text = f"{_values(outcome)} the certified answer under {which}"
        lines = (("DIAGNOSIS", text), *_objection(chosen, against))
    return Diagnosis("convention", complete, (), tuple(dict(candidate.changes) for candidate in chosen), lines)


def _bug(
    outcome: Outcome,
    chosen: list[_Candidate],
    against: Mapping[_Candidate, list[str]],
    complete: bool,
    seen: int,
    vectors: Vectors,
) -> Diagnosis:
    bugs = tuple(candidate.bug for candidate in chosen)
    cases = f" (so on all {seen} cases that can tell)" if complete and seen > 1 else ""
    if len(bugs) == 1:
        bug = vectors.bugs[bugs[0]]
        lines = [("DIAGNOSIS", f"{_values(outcome)} the answer of `{bugs[0]}`: {bug.title}{cases}")]
        lines += [(label, text) for label, text in (("effect", bug.effect), ("hint", bug.hint)) if text]
        lines += [("seen in", ", ".join(bug.evidence))] if bug.evidence else []
    else:
        lines = [("DIAGNOSIS", f"{_values(outcome)} the answer of one of {len(bugs)} known bugs{cases}:")]
        lines += [("one of", f"`{name}`: {vectors.bugs[name].title}") for name in bugs]
        lines += [("hint", "this case cannot tell them apart; `refpg explain` says what exposes each")]
    if not complete:
        lines += _objection(chosen, against)
    return Diagnosis("bug", complete, bugs, (), tuple(lines))


# Simple structures.


def _structure(outcome: Outcome, case: Case, policy: TolerancePolicy) -> Diagnosis:
    texts = [text for comparisons in _outputs(outcome) if (text := _shape_of_error(comparisons, case, outcome, policy))]
    if texts:
        return Diagnosis("structure", True, (), (), tuple(("DIAGNOSIS", text) for text in dict.fromkeys(texts)))
    text = "no known bug matches, nor another convention, nor a simple structure"
    return Diagnosis("none", False, (), (), (("DIAGNOSIS", text),))


def _outputs(outcome: Outcome) -> list[list[Comparison]]:
    """Return the comparisons of each output that is wrong."""
    groups: dict[str, list[Comparison]] = {}
    for comparison in outcome.comparisons:
        groups.setdefault(output_of(comparison.path), []).append(comparison)
    return [group for group in groups.values() if any(comparison.worst > 1 for comparison in group)]


def _shape_of_error(comparisons: list[Comparison], case: Case, outcome: Outcome, policy: TolerancePolicy) -> str | None:
    name = output_of(comparisons[0].path)
    for comparison in comparisons:
        if not comparison.same_shape:
            return _other_shape(comparison, case)
        if not np.isfinite(comparison.got).all():
            count = int(np.size(comparison.got) - np.isfinite(comparison.got).sum())
            return f"{comparison.path} holds NaN or infinity in {count} of {comparison.got.size} values"
    if any(comparison.exact for comparison in comparisons):
        return None
    return (
        _single_precision(comparisons, case, outcome, policy)
        or _transposed(comparisons)
        or _constant_factor(name, comparisons, case)
    )


def _other_shape(comparison: Comparison, case: Case) -> str:
    got, y = comparison.got, comparison.certified
    text = f"{comparison.path} has shape {got.shape}, expected {y.shape}"
    transposed = got.shape == y.shape[::-1] and got.ndim > 1
    if transposed and worst_error(got.T, y, comparison.tolerance) <= 1:
        return f"{text}: it is the transpose"
    if got.size == y.size and worst_error(got.reshape(y.shape), y, comparison.tolerance) <= 1:
        return f"{text}: the values are right, the shape is not"
    if y.ndim <= 1 and got.ndim == 2 and got.shape[0] == got.shape[1] == max(y.size, case.dims.get("B", 0)):
        return f"{text}: an (N, 1) array met an (N,) array and was broadcast to N × N"
    return text


def _single_precision(
    comparisons: list[Comparison], case: Case, outcome: Outcome, policy: TolerancePolicy
) -> str | None:
    expected = case.under(outcome.conventions)
    if outcome.dtype != "float64" or "float32" not in policy.unit_roundoff or expected is None:
        return None
    tolerance = tolerances(expected.outputs, "float32", policy)
    if all(worst_error(c.got, c.certified, tolerance[c.path]) <= 1 for c in comparisons):
        return "the error is that of float32, but float64 is declared: a conversion on the way? or declare float32"
    return None


def _transposed(comparisons: list[Comparison]) -> str | None:
    wrong = [c for c in comparisons if c.worst > 1]
    for c in wrong:
        if c.got.ndim != 2 or c.got.shape[0] != c.got.shape[1] or worst_error(c.got.T, c.certified, c.tolerance) > 1:
            return None
    return f"{', '.join(c.path for c in wrong)}: the transpose of the certified value"


def _constant_factor(name: str, comparisons: list[Comparison], case: Case) -> str | None:
    got = np.concatenate([c.got.ravel() for c in comparisons])
    y = np.concatenate([c.certified.ravel() for c in comparisons])
    tolerance = np.concatenate([c.tolerance.ravel() for c in comparisons])
    for label, factor in _named_factors(case).items():
        if _is_multiple(got, y, tolerance, factor):
            return f"{name} is {label} × the certified value"
    if np.count_nonzero(y) < 3:
        return None
    factor = float(got @ y / (y @ y))
    if factor == 0:
        return f"{name} is zero everywhere" if not got.any() else None
    if _is_multiple(got, y, tolerance, factor):
        return f"{name} is {factor:.6g} × the certified value, everywhere"
    shift = float(np.mean(got - y))
    if worst_error(got, y + shift, tolerance + np.abs(shift) * 1e-15) <= 1:
        return f"{name} is the certified value {'+' if shift > 0 else '−'} {abs(shift):.6g}, everywhere"
    return None


def _is_multiple(got: Array, y: Array, tolerance: Array, factor: float) -> bool:
    return bool(y.any()) and worst_error(got, factor * y, tolerance * max(1.0, abs(factor))) <= 1


def _named_factors(case: Case) -> dict[str, float]:
    factors = dict(_FACTORS)
    for letter, length in case.dims.items():
        if length > 1:
            factors |= {
                f"1/{letter} ({letter} = {length})": 1 / length,
                f"{letter} (= {length})": float(length),
                f"−1/{letter} ({letter} = {length})": -1 / length,
            }
            if length > 2:
                factors[f"{letter}/({letter} − 1) ({letter} = {length})"] = length / (length - 1)
    return factors
