"""A check from beginning to end: which cases, under which conventions, and what became of them.

Nothing is silently left out.  Every case of the profiles asked for ends in exactly one verdict, and a run in which
nothing was executed is not green.
"""

import fnmatch
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

from refpg.conformance.adapters import Adapter, UsageError, nearest
from refpg.conformance.consequences import CONSEQUENCE, consequence
from refpg.conformance.diagnosis import Diagnosis, Last, diagnose, nobody
from refpg.conformance.diagnosis.violations import Search
from refpg.conformance.ops import OPS, PROFILES
from refpg.conformance.presets import applied, chosen
from refpg.conformance.vectors import DATA, RELEASE, Axis, Case, Expected, Vectors, load
from refpg.conformance.verdicts import EXECUTED, Outcome, Verdict, verdict_on
from refpg.conformance.waivers import Waiver, concerning, excused, stale
from refpg.conformance.worker import TIMEOUT, opened

CONFORM, MISMATCH, USAGE, HARNESS, NOTHING_EXECUTED = range(5)


@dataclass(frozen=True)
class Run:
    """A finished check.

    Fields: ``adapter`` is what was judged, by which ``vectors``; ``profiles`` and ``only`` what was asked for;
    ``outcomes`` one per case and certified answer, in the order of the contract; ``diagnoses`` by position in it;
    ``without_vectors`` the ops of the profiles that this release has no case for; ``waivers`` of its cases, by id or
    glob.
    """

    adapter: Adapter
    vectors: Vectors
    profiles: tuple[str, ...]
    only: str
    outcomes: tuple[Outcome, ...]
    diagnoses: Mapping[int, Diagnosis]
    without_vectors: tuple[str, ...]
    waivers: Mapping[str, Waiver] = field(default_factory=dict)

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
    def stale(self) -> dict[str, str]:
        """The waivers that have outlived what they were written for, and why."""
        return stale(self.outcomes, self.waivers)

    @property
    def exit_code(self) -> int:
        """0 all executed cases conform, 1 a mismatch, 2 a stale waiver, 3 an error of the harness, 4 nothing executed.

        An error of the harness outranks the others: the run does not say all it should.  What is waived is no
        mismatch, and no execution either.
        """
        count = self.counts()
        if count["harness_error"]:
            return HARNESS
        if self.stale:
            return USAGE
        if count["wrong"] or count["imprecise"]:
            return MISMATCH
        return CONFORM if count["executed"] else NOTHING_EXECUTED


def check(
    target: Any = None,
    *,
    profiles: Sequence[str] = (),
    only: str = "",
    dtype: str | None = None,
    conventions: str | Mapping[str, str] | None = None,
    stability: bool = False,
    timeout: float = TIMEOUT,
    in_process: bool = False,
    jobs: int = 1,
    laws: bool = True,
    waivers: Mapping[str, Waiver] | None = None,
    data: Path = DATA,
    release: str = RELEASE,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Judge an implementation by the certified vectors.

    Parameters
    ----------
    target : None, str, Command or any object
        What to judge.  A string (see `refpg.conformance.adapters.resolve`) is served by a process of its own, so that
        it can neither hang the judge nor crash it; a `refpg.conformance.worker.Command` starts a worker in any
        language; any other object answers in this process.  None is this installation of refpg, which is checked under
        every convention for which a case has a certified answer.
    profiles : sequence of str
        Groups of ops; all of them unless given.
    only : str
        A glob over ops and case ids, e.g. ``"kl*"`` or ``"gae/*7x3"``.
    dtype : str, optional
        Judge by this precision, whatever the target declares.
    conventions : str or mapping, optional
        The name of a preset, or axis → value: declared besides what the target declares, which they must not
        contradict.  refpg itself is then checked under these alone.
    stability : bool
        Judge the stability cases too, which ask for digits that ordinary correct code does not have; refpg itself is
        always judged by them.
    timeout : float
        Seconds a process has for one case; then it is stopped, and the case is an error of the harness.
    in_process : bool
        Load a string target into this process, where a debugger sees it and nothing stops it.
    jobs : int
        Judge by so many processes; the result is the same.  Without effect where no process is started.
    laws : bool
        Look for a law that is violated, with hypothesis, where nothing else explains a wrong answer.
    waivers : mapping of str to Waiver, optional
        Case id, or a glob like ``only``, → why it may fail, and until when.  A waiver for a case that conforms is red.
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
        If a name is unknown, the target is not there or contradicts itself, or a waiver is for no case or has expired.
    TargetCrash
        If the target raises while it is loaded.
    VectorError
        If the vectors are not as released.
    """
    vectors, ops, cases = selected(profiles, only, data=data, release=release)
    if dtype is not None and dtype not in vectors.policy.unit_roundoff:
        known = vectors.policy.unit_roundoff
        raise UsageError(f"dtype {dtype!r} is unknown{nearest(dtype, known)}, expected {' or '.join(known)}")
    waived = standing(waivers or {}, [case.id for case in cases], data=data, release=release)
    known_dtypes = vectors.policy.unit_roundoff
    with opened(
        target, vectors.axes, known_dtypes, timeout=timeout, in_process=in_process, jobs=jobs, release=release
    ) as adapter:
        if dtype is not None:
            adapter = replace(adapter, dtypes={"*": dtype})
        if conventions is not None:
            stability = stability or adapter.under is not None
            adapter = applied(adapter, chosen(conventions, vectors.axes, data), vectors.axes)
        work = [(case, expected) for case in cases for expected in _variants(case, adapter, vectors.axes)]
        outcomes = _outcomes(work, adapter, vectors, stability, jobs, progress)
        final, diagnoses = explained(outcomes, vectors, Search(adapter) if laws else nobody)
    return Run(
        replace(adapter, ask=None, echo=None),  # nobody answers any more
        vectors,
        tuple(profiles) or PROFILES,
        only,
        tuple(excused(final, waived)),
        diagnoses,
        tuple(op for op in ops if op not in vectors.cases),
        waived,
    )


def standing(
    waivers: Mapping[str, Waiver], cases: Sequence[str], *, data: Path = DATA, release: str = RELEASE
) -> dict[str, Waiver]:
    """Return the waivers that concern the cases of a run and hold today.

    Parameters
    ----------
    waivers : mapping of str to Waiver
        Case id or glob → waiver.
    cases : sequence of str
        The ids of the cases that are judged.
    data, release
        As in `check`.

    Returns
    -------
    dict of str to Waiver

    Raises
    ------
    UsageError
        As in `refpg.conformance.waivers.concerning`.
    """
    return concerning(waivers, cases, lambda: load(data, release=release).ids(), date.today())


def selected(
    profiles: Sequence[str] = (), only: str = "", *, data: Path = DATA, release: str = RELEASE
) -> tuple[Vectors, list[str], list[Case]]:
    """Return the vectors, the ops and the cases that are asked for.

    Parameters
    ----------
    profiles, only, data, release
        As in `check`.

    Returns
    -------
    vectors : Vectors
        Those of the ops.
    ops : list of str
        In the order of the contract.
    cases : list of Case
        In the same order.

    Raises
    ------
    UsageError, VectorError
        As in `check`.
    """
    ops = ops_of(profiles)
    if only and "/" not in only:
        ops = _matching_ops(ops, only)
    if not (data / release).is_dir():
        installed = sorted(path.parent.name for path in data.glob("*/index.json"))
        raise UsageError(f"there is no release {release!r} of the vectors; installed: {', '.join(installed)}")
    vectors = load(data, release=release, ops=ops)
    cases = [case for op in ops for case in vectors.cases.get(op, ())]
    if "/" in only:
        cases = _matching_cases(cases, only)
        ops = list(dict.fromkeys(case.op for case in cases))
    return vectors, ops, cases


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


def _outcomes(
    work: Sequence[tuple[Case, Expected | None]],
    adapter: Adapter,
    vectors: Vectors,
    stability: bool,
    jobs: int,
    progress: Callable[[int, int], None] | None,
) -> list[Outcome]:
    """Judge everything, in order; a worker's ops side by side, the cases of an op one after the other."""
    done, counting = 0, threading.Lock()

    def of_op(cases: Sequence[tuple[Case, Expected | None]]) -> list[Outcome]:
        nonlocal done
        outcomes = []
        for case, expected in cases:
            with counting:
                if progress is not None:
                    progress(done, len(work))
                done += 1
            outcomes.append(_judge(case, expected, adapter, vectors, stability))
        return outcomes

    ops = [list(cases) for _, cases in groupby(work, key=lambda one: one[0].op)]
    with ThreadPoolExecutor(jobs) if adapter.ask is not None and jobs > 1 else nullcontext() as pool:
        found = pool.map(of_op, ops) if pool is not None else map(of_op, ops)
        outcomes = [outcome for outcomes in found for outcome in outcomes]
    if progress is not None:
        progress(len(work), len(work))
    return outcomes


def _judge(
    case: Case, expected: Expected | None, adapter: Adapter, vectors: Vectors, stability: bool
) -> Outcome:
    dtype = adapter.dtype(case.op)
    conventions = expected.conventions if expected is not None else {}

    def untried(verdict: Verdict, message: str) -> Outcome:
        return Outcome(case.id, case.op, verdict, dtype, conventions, message=message)

    if case.op in adapter.unsupported:
        return untried(Verdict.UNSUPPORTED, adapter.unsupported[case.op])
    if case.op not in adapter.ops:
        return untried(Verdict.UNDECLARED, "neither implemented nor declared unsupported")
    if case.stability and not stability and adapter.under is None:
        return untried(Verdict.NOT_ASKED, "digits that only a careful formula has; --stability asks for them")
    if dtype not in case.resolves:
        return untried(Verdict.NOT_RESOLVED, f"the case tells nothing in {dtype}")
    if expected is None:
        return untried(Verdict.NO_EXPECTED, "no certified answer under the conventions declared")
    defaults = {name: axis.default for name, axis in vectors.axes.items()}
    reply = adapter.reply(case, defaults | dict(expected.conventions))
    return verdict_on(case, expected, reply, dtype, vectors.policy)


def explained(
    outcomes: Sequence[Outcome], vectors: Vectors, last: Last = nobody
) -> tuple[list[Outcome], dict[int, Diagnosis]]:
    """Explain every wrong or imprecise answer of a run, and say what a wrong step does.

    Parameters
    ----------
    outcomes, vectors, last
        As in `refpg.conformance.diagnosis.diagnose`.

    Returns
    -------
    outcomes, diagnoses
        Likewise.
    """
    final, diagnoses = diagnose(outcomes, vectors, last)
    for i, diagnosis in diagnoses.items():
        case = vectors.case(final[i].case)
        assert case is not None
        effect = consequence(final[i], case)
        if effect:
            diagnoses[i] = replace(diagnosis, lines=(*diagnosis.lines, (CONSEQUENCE, effect)))
    return final, diagnoses
