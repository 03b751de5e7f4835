"""A recorded run, judged again: its answers by the vectors installed here.

Answers that were recorded are compared anew, with all that follows from it; what needed the implementation — that it
crashed, declared an op unsupported, changed its inputs, violates a law — stays as it was recorded, and so does what
was said of an answer too large to be kept.  Nothing in a record is believed that the vectors can contradict: the
release must be the one that is installed, to the byte, and the cases must be exactly those of the profiles it names.
Nor does a record excuse itself: its waivers are known, and hold again only if they are given again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from refpg.conformance.adapters import UsageError
from refpg.conformance.consequences import CONSEQUENCE
from refpg.conformance.diagnosis import Diagnosis, Last, nobody
from refpg.conformance.laws import LAWS
from refpg.conformance.releases import select
from refpg.conformance.report.jsonl import MAX_BYTES, Line, Recorded, read_json_lines
from refpg.conformance.report.record import Origin, ReportError, pairs, plural
from refpg.conformance.run import Run, explained, ops_of, standing
from refpg.conformance.vectors import DATA, Case, Vectors, load
from refpg.conformance.verdicts import Outcome, Reply, Verdict, verdict_on
from refpg.conformance.waivers import Waiver, excused, waiver_of
from refpg.notation import Array

_COMPARED = (Verdict.CONFORMS, Verdict.IMPRECISE, Verdict.WRONG)
_SHOWN = 10


@dataclass(frozen=True)
class Replay:
    """A run judged again.

    Fields: the ``run`` as it is judged now; its ``origin``, when and where the answers were given; outcomes before and
    after whose verdict ``differs``; how many answers were ``compared`` again, and how many were too large to be
    ``kept`` and have the verdict that was recorded.
    """

    run: Run
    origin: Origin
    differs: tuple[tuple[Outcome, Outcome], ...]
    compared: int
    kept: int


def replay(path: Path, *, waivers: Mapping[str, Waiver] | None = None, data: Path = DATA) -> Replay:
    """Read a record and judge its answers again.

    Parameters
    ----------
    path : Path
        What ``refpg check --out`` wrote.
    waivers : mapping of str to Waiver, optional
        As in `refpg.conformance.run.check`; those of the record do not hold by themselves.
    data : Path
        The vectors.

    Returns
    -------
    Replay

    Raises
    ------
    ReportError
        If it is not a whole record, or of vectors that are not installed or were changed since.
    UsageError
        If there is no such file, or a waiver is for no case or has expired.
    VectorError
        If the vectors installed are not as released.
    """
    recorded = read_json_lines(_content(path))
    vectors = _vectors(recorded, data)
    _check_selection(recorded, vectors)
    for number, line in enumerate(recorded.lines, start=2):
        _check_line(number, line, vectors, recorded)
    before = [line.outcome for line in recorded.lines]
    _check_counts(recorded, _run(recorded, vectors, before, {}, recorded.waivers))
    waived = standing(waivers or {}, [outcome.case for outcome in before], data=data, release=recorded.release)

    judged = [_judged(line, vectors) for line in recorded.lines]
    known = [i for i, line in enumerate(recorded.lines) if not line.too_large]
    final, found = explained([judged[i] for i in known], vectors, _recorded_laws(recorded))
    after = dict(enumerate(judged)) | dict(zip(known, final, strict=True))
    diagnoses = {known[i]: diagnosis for i, diagnosis in found.items()}
    for i, line in enumerate(recorded.lines):
        if line.too_large and line.diagnosis is not None:
            diagnoses[i] = line.diagnosis
    outcomes = excused(after.values(), waived)
    run = _run(recorded, vectors, outcomes, {i: diagnoses[i] for i in sorted(diagnoses)}, waived)
    return Replay(
        run,
        recorded.origin,
        tuple((one, other) for one, other in zip(before, run.outcomes, strict=True) if one.verdict != other.verdict),
        sum(line.leaves is not None for line in recorded.lines),
        len(recorded.lines) - len(known),
    )


def replayed(replay: Replay) -> Iterator[str]:
    """Yield the lines that say what judging again has changed.

    Parameters
    ----------
    replay : Replay
        A run judged again.

    Yields
    ------
    str
    """
    by = f"{replay.origin.date} by refpg {replay.origin.refpg}"
    kept = f"; {plural(replay.kept, 'answer')} too large to be kept" if replay.kept else ""
    changed = f"{plural(len(replay.differs), 'verdict')} changed" if replay.differs else "every verdict as recorded"
    yield f"REPLAYED   recorded {by}: {plural(replay.compared, 'answer')} judged again, {changed}{kept}"
    for before, after in replay.differs[:_SHOWN]:
        under = f"  {pairs(before.conventions)}" if before.conventions else ""
        yield f"CHANGED    {before.case}{under}: recorded {before.verdict.value}, now {after.verdict.value}"
    if len(replay.differs) > _SHOWN:
        yield f"           … and {len(replay.differs) - _SHOWN} more"


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


def _vectors(recorded: Recorded, data: Path) -> Vectors:
    installed = sorted(path.parent.name for path in data.glob("*/index.json"))
    if recorded.release not in installed:
        raise ReportError(
            f"line 1: judged by the vectors {recorded.release[:40]!a}, which are not installed; "
            f"there are {', '.join(installed)}"
        )
    vectors = load(data, release=recorded.release, ops=ops_of(recorded.profiles))
    if vectors.index != recorded.index:
        raise ReportError(
            f"line 1: the vectors {recorded.release} installed are not those it was judged by: "
            f"the SHA-256 of the index is {vectors.index[:16]}…, recorded {recorded.index[:16]!a}…"
        )
    return vectors


def _check_selection(recorded: Recorded, vectors: Vectors) -> None:
    """Refuse a record that leaves cases out, or has others."""
    try:
        cases = select(vectors, ops_of(recorded.profiles), recorded.only)
    except UsageError as error:
        raise ReportError(f"line 1: {error}") from None
    expected = [case.id for case in cases]
    there = [identity for identity, _ in groupby(line.outcome.case for line in recorded.lines)]
    if there != expected:
        other = sorted(set(there) ^ set(expected))
        which = f"{other[0]} is {'missing' if other[0] in expected else 'not one of them'}" if other else "their order"
        raise ReportError(f"its cases are not those of the profiles it names: {which}")
    answers = [(line.outcome.case, frozenset(line.outcome.conventions.items())) for line in recorded.lines]
    if len(set(answers)) != len(answers):
        raise ReportError("two lines have the same case and conventions")


def _check_line(number: int, line: Line, vectors: Vectors, recorded: Recorded) -> None:
    """Refuse what the vectors do not know."""
    outcome, case = line.outcome, vectors.case(line.outcome.case)

    def refuse(message: str) -> None:
        raise ReportError(f"line {number}: {outcome.case}: {message}")

    assert case is not None  # the selection was checked
    if line.rev != case.rev:
        refuse(f"revision {line.rev}, the vectors have {case.rev}")
    if outcome.dtype not in vectors.policy.unit_roundoff:
        refuse(f"unknown dtype {outcome.dtype[:40]!a}")
    if case.under(outcome.conventions) is None:
        refuse(f"nothing is certified under {pairs(outcome.conventions)[:80]!a}")
    diagnosis = line.diagnosis or Diagnosis("none", False, (), (), ())
    if not set(diagnosis.bugs) <= set(vectors.bugs):
        refuse("the diagnosis names an unknown bug")
    if diagnosis.kind == "law" and diagnosis.name not in LAWS:
        refuse("the diagnosis names an unknown law")
    if outcome.verdict is Verdict.WAIVED and waiver_of(outcome.case, recorded.waivers) is None:
        refuse("WAIVED without a waiver")
    verdict = outcome.excused or outcome.verdict
    if line.leaves is None:
        if line.too_large and verdict is not Verdict.WRONG:
            refuse(f"{verdict.value}, with an answer larger than any certified one")
        if verdict in _COMPARED and not line.too_large:
            refuse(f"{verdict.value} without an answer")
        return
    if verdict not in (*_COMPARED, Verdict.HARNESS_ERROR):
        refuse(f"{verdict.value} with an answer")
    if set(line.leaves) != set(case.shapes):
        refuse(f"the answer has the arrays {sorted(line.leaves)[:4]}, expected {sorted(case.shapes)[:4]}")
    for path, leaf in line.leaves.items():
        if case.shapes[path].kind == "int" and leaf.dtype.kind != "i" and leaf.size:
            refuse(f"{path} holds other numbers than integers")


def _recorded_laws(recorded: Recorded) -> Last:
    """Return who says what the search for a violated law found when there was an implementation to ask."""
    said = {
        (line.outcome.case, frozenset(line.outcome.conventions.items())): line.diagnosis
        for line in recorded.lines
        if line.diagnosis is not None and line.diagnosis.kind in ("law", "none")
    }

    def last(outcome: Outcome) -> Diagnosis:
        found = said.get((outcome.case, frozenset(outcome.conventions.items())))
        if found is None:
            return nobody(outcome)
        return replace(found, lines=tuple(line for line in found.lines if line[0] != CONSEQUENCE))

    return last


def _check_counts(recorded: Recorded, run: Run) -> None:
    if set(recorded.without_vectors) & set(run.vectors.cases):
        raise ReportError("the footer says that there are no vectors for an op that has some")
    said = (dict(recorded.counts), recorded.worst_conforming, recorded.exit_code)
    if said != (run.counts(), run.worst_conforming, run.exit_code):
        raise ReportError("the footer does not agree with the lines it counts")


def _run(
    recorded: Recorded,
    vectors: Vectors,
    outcomes: list[Outcome],
    diagnoses: Mapping[int, Diagnosis],
    waivers: Mapping[str, Waiver],
) -> Run:
    return Run(
        recorded.adapter,
        vectors,
        recorded.profiles,
        recorded.only,
        tuple(outcomes),
        diagnoses,
        recorded.without_vectors,
        waivers,
    )


def _judged(line: Line, vectors: Vectors) -> Outcome:
    """Return the outcome as it is without a waiver."""
    if line.leaves is None:
        return replace(line.outcome, verdict=line.outcome.excused or line.outcome.verdict, excused=None)
    outcome, case = line.outcome, vectors.case(line.outcome.case)
    assert case is not None
    expected = case.under(outcome.conventions)
    assert expected is not None
    leaves = {path: _of_kind(line.leaves[path], case, path) for path in case.shapes}
    reply = Reply(leaves=leaves, printed=outcome.printed, changed=outcome.changed)
    return verdict_on(case, expected, reply, outcome.dtype, vectors.policy)


def _of_kind(leaf: Array, case: Case, path: str) -> Array:
    return leaf.astype(np.int64 if case.shapes[path].kind == "int" else np.float64)
