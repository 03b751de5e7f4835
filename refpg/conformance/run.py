"""A check from beginning to end: which cases, under which conventions, and what became of them.

Nothing is silently left out.  Every case of the profiles asked for ends in exactly one verdict, and a run in which
nothing was executed is not green.
"""

import fnmatch
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refpg.conformance.adapters import Adapter, UsageError, nearest, resolve
from refpg.conformance.consequences import CONSEQUENCE, consequence
from refpg.conformance.diagnosis import Diagnosis, diagnose
from refpg.conformance.ops import OPS, PROFILES
from refpg.conformance.vectors import DATA, RELEASE, Axis, Case, Expected, Vectors, load
from refpg.conformance.verdicts import EXECUTED, Outcome, Verdict, judge

CONFORM, MISMATCH, USAGE, HARNESS, NOTHING_EXECUTED = range(5)


@dataclass(frozen=True)
class Run:
    """A finished check.

    Fields: ``adapter`` is what was judged, by which ``vectors``; ``profiles`` and ``only`` what was asked for;
    ``outcomes`` one per case and certified answer, in the order of the contract; ``diagnoses`` by position in it;
    ``without_vectors`` the ops of the profiles that this release has no case for.
    """

    adapter: Adapter
    vectors: Vectors
    profiles: tuple[str, ...]
    only: str
    outcomes: tuple[Outcome, ...]
    diagnoses: Mapping[int, Diagnosis]
    without_vectors: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Return how many cases ended in each verdict, with those in the profile and those executed."""
        tally = Counter(outcome.verdict for outcome in self.outcomes)
        executed = sum(tally[verdict] for verdict in EXECUTED)
        return {"in_profile": len(self.outcomes), "executed": executed} | {
            verdict.name.lower(): tally[verdict] for verdict in Verdict
        }

    @property
    def worst_conforming(self) -> float | None:
        """The largest error of a conforming case, in tolerances; None if nothing conforms."""
        return max((o.worst for o in self.outcomes if o.verdict is Verdict.CONFORMS), default=None)

    @property
    def exit_code(self) -> int:
        """0 all executed cases conform, 1 a mismatch, 3 an error of the harness, 4 nothing was executed.

        An error of the harness outranks a mismatch: the run does not say all it should.
        """
        count = self.counts()
        if count["harness_error"]:
            return HARNESS
        if count["wrong"] or count["imprecise"]:
            return MISMATCH
        return CONFORM if count["executed"] else NOTHING_EXECUTED


def check(
    target: Any = None,
    *,
    profiles: Sequence[str] = (),
    only: str = "",
    dtype: str | None = None,
    stability: bool = False,
    data: Path = DATA,
    release: str = RELEASE,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Judge an implementation by the certified vectors.

    Parameters
    ----------
    target : None, str or any object
        What to judge, see `refpg.conformance.adapters.resolve`; None is this installation of refpg, which is checked
        under every convention for which a case has a certified answer.
    profiles : sequence of str
        Groups of ops; all of them unless given.
    only : str
        A glob over ops and case ids, e.g. ``"kl*"`` or ``"gae/*7x3"``.
    dtype : str, optional
        Judge by this precision, whatever the target declares.
    stability : bool
        Judge the stability cases too, which ask for digits that ordinary correct code does not have; refpg itself is
        always judged by them.
    data, release
        The vectors.
    progress : callable, optional
        Called with (cases done, cases in all).

    Returns
    -------
    Run

    Raises
    ------
    UsageError
        If a name is unknown, or the target is not there or contradicts itself.
    TargetCrash
        If the target raises while it is loaded.
    VectorError
        If the vectors are not as released.
    """
    ops = ops_of(profiles)
    if only and "/" not in only:
        ops = _matching_ops(ops, only)
    vectors = load(data, release=release, ops=ops)
    cases = [case for op in ops for case in vectors.cases.get(op, ())]
    if "/" in only:
        cases = _matching_cases(cases, only)
        ops = list(dict.fromkeys(case.op for case in cases))
    if dtype is not None and dtype not in vectors.policy.unit_roundoff:
        known = vectors.policy.unit_roundoff
        raise UsageError(f"dtype {dtype!r} is unknown{nearest(dtype, known)}, expected {' or '.join(known)}")
    adapter = resolve(target, vectors.axes, vectors.policy.unit_roundoff)
    if dtype is not None:
        adapter = replace(adapter, dtypes={"*": dtype})
    work = [(case, expected) for case in cases for expected in _variants(case, adapter, vectors.axes)]
    outcomes = []
    for done, (case, expected) in enumerate(work):
        if progress is not None:
            progress(done, len(work))
        outcomes.append(_judge(case, expected, adapter, vectors, stability))
    if progress is not None:
        progress(len(work), len(work))
    final, diagnoses = diagnose(outcomes, vectors)
    return Run(
        adapter,
        vectors,
        tuple(profiles) or PROFILES,
        only,
        tuple(final),
        _with_consequences(final, diagnoses, vectors),
        tuple(op for op in ops if op not in vectors.cases),
    )


def ops_of(profiles: Sequence[str]) -> list[str]:
    """Return the ops of the profiles, of all if none is named; raise `UsageError` for an unknown profile."""
    for profile in profiles:
        if profile not in PROFILES:
            close = nearest(profile, PROFILES)
            raise UsageError(f"there is no profile {profile!r}{close}; there are {', '.join(PROFILES)}")
    return [op for op in OPS if not profiles or OPS[op].profile in profiles]


def _matching_ops(ops: list[str], only: str) -> list[str]:
    matching = [op for op in ops if fnmatch.fnmatchcase(op, only)]
    if not matching:
        raise UsageError(f"--only {only}: no op of the profiles matches{nearest(only, ops)}")
    return matching


def _matching_cases(cases: list[Case], only: str) -> list[Case]:
    matching = [case for case in cases if fnmatch.fnmatchcase(case.id, only)]
    if not matching:
        close = nearest(only, [case.id for case in cases])
        raise UsageError(f"--only {only}: no case of the profiles matches{close}")
    return matching


def _variants(case: Case, adapter: Adapter, axes: Mapping[str, Axis]) -> tuple[Expected | None, ...]:
    """Return the certified answers to compare with: the one declared (None if there is none), or all of them."""
    if adapter.under is not None:
        return case.expected
    relevant = OPS[case.op].conventions
    declared = {
        axis: value for axis, value in adapter.conventions.items() if axis in relevant and value != axes[axis].default
    }
    return (case.under(declared),)


def _judge(
    case: Case, expected: Expected | None, adapter: Adapter, vectors: Vectors, stability: bool
) -> Outcome:
    dtype = adapter.dtype(case.op)
    conventions = expected.conventions if expected is not None else {}

    def untried(verdict: Verdict, message: str) -> Outcome:
        return Outcome(case.id, case.op, verdict, dtype, conventions, message=message)

    if case.op in adapter.unsupported:
        return untried(Verdict.UNSUPPORTED, adapter.unsupported[case.op])
    if case.op not in adapter.functions:
        return untried(Verdict.UNDECLARED, "neither implemented nor declared unsupported")
    if case.stability and not stability and adapter.under is None:
        return untried(Verdict.NOT_ASKED, "digits that only a careful formula has; --stability asks for them")
    if dtype not in case.resolves:
        return untried(Verdict.NOT_RESOLVED, f"the case tells nothing in {dtype}")
    if expected is None:
        return untried(Verdict.NO_EXPECTED, "no certified answer under the conventions declared")
    functions = adapter.functions
    if adapter.under is not None:
        defaults = {name: axis.default for name, axis in vectors.axes.items()}
        functions = adapter.under(defaults | dict(expected.conventions))
    return judge(case, expected, functions[case.op], dtype, vectors.policy)


def _with_consequences(
    outcomes: Sequence[Outcome], diagnoses: Mapping[int, Diagnosis], vectors: Vectors
) -> dict[int, Diagnosis]:
    extended = {}
    for i, diagnosis in diagnoses.items():
        case = vectors.case(outcomes[i].case)
        assert case is not None
        effect = consequence(outcomes[i], case)
        lines = (*diagnosis.lines, (CONSEQUENCE, effect)) if effect else diagnosis.lines
        extended[i] = replace(diagnosis, lines=lines)
    return extended
