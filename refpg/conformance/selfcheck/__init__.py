"""The judge judged: are known mistakes found and named, is nothing right ever flagged, and would a flaw be noticed?

    bugs            mutants × cases × dtypes: every bug is detected, and named
    honest          right by another way: none is flagged
    miniatures      adapters that behave in every way there is: the verdicts and exit codes expected
    comparators     comparisons and exit codes with one flaw: each is caught

A self-check needs NumPy and SciPy alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from refpg.conformance.ops import OPS
from refpg.conformance.run import Run, ops_of
from refpg.conformance.selfcheck import bugs, comparators, honest, miniatures
from refpg.conformance.selfcheck.bugs import Finding
from refpg.conformance.selfcheck.miniatures import Miniature
from refpg.conformance.vectors import Vectors, load

# The part of the mutants that must be named, and before anything else that has the same answers.
NAMED_FIRST = 0.95

Subject = TypeVar("Subject")


class Row(NamedTuple):
    """One line of the table.

    Fields: its ``name``; how many ``subjects`` gave how many ``answers``; how many subjects were ``as_expected``; a
    ``remark``.
    """

    name: str
    subjects: int
    answers: int
    as_expected: int
    remark: str = ""


class Report(NamedTuple):
    """What a self-check found.

    Fields: the ``rows`` of the table; the ``findings`` on the mutants; ``amiss``, a line for everything that is not as
    expected.
    """

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    amiss: tuple[str, ...]

    @property
    def named_first(self) -> int:
        """How many mutants the diagnosis named before anything else."""
        return sum(finding.naming == bugs.NAMINGS[0] for finding in self.findings)

    @property
    def passed(self) -> bool:
        """Whether nothing is amiss, and enough mutants are named first."""
        return not self.amiss and self.named_first >= NAMED_FIRST * len(self.findings)


class _Count:
    """How much is done, told before every subject."""

    def __init__(self, total: int, progress: Callable[[int, int, str], None]) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def each(self, part: str, subjects: Iterable[Subject]) -> Iterator[Subject]:
        for subject in subjects:
            self.progress(self.done, self.total, part)
            yield subject
            self.done += 1


def selfcheck(
    profiles: Sequence[str] = (), progress: Callable[[int, int, str], None] = lambda done, total, part: None
) -> Report:
    """Judge the judge.

    Parameters
    ----------
    profiles : sequence of str
        Take the mutants of these profiles, and the honest variants on them; of all unless given.
    progress : callable
        Called with (done, in all, what is being done).

    Returns
    -------
    Report

    Raises
    ------
    UsageError
        If a profile is unknown.
    VectorError
        If the vectors are not as released.
    """
    everything = load()
    vectors = replace(everything, cases={op: everything.cases[op] for op in ops_of(profiles) if op in everything.cases})
    mutants = bugs.visible(vectors, honest.DTYPES)
    variants = honest.answering(vectors)
    small = miniatures.miniatures()
    flawed = len(comparators.COMPARATORS) + len(comparators.EXIT_RULES)
    count = _Count(len(mutants) + len(variants) + len(small) + flawed, progress)

    found = [bugs.judged(mutant, dtype, vectors) for mutant, dtype in count.each("mutants", mutants)]
    lines = [honest.judged(variant, dtype, vectors) for variant, dtype in count.each("honest variants", variants)]
    runs = [(miniature, miniature.run()) for miniature in count.each("miniature adapters", small)]
    parts = [
        *_of_mutants(found),
        *_of_variants(lines),
        _of_miniatures(runs),
        _of_comparators(everything, count),
        _of_exit_rules(runs, count),
    ]
    progress(count.total, count.total, "")
    return Report(tuple(row for row, _ in parts), tuple(found), tuple(line for _, wrong in parts for line in wrong))


def lines(report: Report) -> Iterator[str]:
    """Write a report for a terminal: the table, what was not named first and what the diagnosis says, what is amiss."""
    width = max(len(row.name) for row in report.rows)
    yield f"{'':{width}}  subjects  answers  as expected"
    for row in report.rows:
        line = f"{row.name:{width}}  {row.subjects:8}  {row.answers:7}  {row.as_expected:11}  {row.remark}"
        yield line.rstrip()
    for finding in report.findings:
        if finding.naming != bugs.NAMINGS[0]:
            bug, op, _ = finding.mutant
            yield f"{finding.naming.upper():10} {bug} in {op}, {finding.dtype}: {finding.instead}"
    for line in report.amiss:
        yield f"AMISS      {line}"
    first, judged = report.named_first, len(report.findings)
    share = f"{first} of {judged} mutants named first ({first / max(judged, 1):.1%})"
    yield f"{share} · {len(report.amiss)} amiss · {'passed' if report.passed else 'FAILED'}"


_Part = tuple[Row, list[str]]


def _of_mutants(found: Sequence[Finding]) -> Iterator[_Part]:
    kinds = dict.fromkeys((OPS[finding.mutant.op].profile, finding.dtype) for finding in found)
    for profile, dtype in sorted(kinds):
        some = [f for f in found if (OPS[f.mutant.op].profile, f.dtype) == (profile, dtype)]
        naming = ", ".join(f"{sum(f.naming == name for f in some)} {name}" for name in bugs.NAMINGS)
        wrong = [
            f"{f.mutant.bug} in {f.mutant.op}, {dtype}: "
            + "; ".join(
                f"{what} {', '.join(cases)}"
                for what, cases in (("undetected on", f.missed), ("seen on", f.strays))
                if cases
            )
            for f in some
            if f.missed or f.strays
        ]
        answers = sum(f.answers for f in some)
        name = f"mutants of {profile}, {dtype}"
        yield Row(name, len(some), answers, len(some) - len(wrong), f"named: {naming}"), wrong


def _of_variants(found: Sequence[honest.Line]) -> Iterator[_Part]:
    for dtype in dict.fromkeys(line.dtype for line in found):
        some = [line for line in found if line.dtype == dtype]
        wrong = [
            f"{line.variant.name}, {dtype}: {outcome.verdict.value} {outcome.case} {outcome.message[-200:]}"
            for line in some
            for outcome in line.flagged
        ]
        worst = max(line.worst for line in some)
        right = sum(not line.flagged for line in some)
        answers = sum(line.answers for line in some)
        yield Row(f"honest variants, {dtype}", len(some), answers, right, f"worst {worst:.2f} × tolerance"), wrong


def _of_miniatures(runs: Sequence[tuple[Miniature, Run | None]]) -> _Part:
    wrong = [f"miniature adapter: {small.name}" for small, run in runs if not small.as_expected(run)]
    answers = sum(len(run.outcomes) for _, run in runs if run is not None)
    return Row("miniature adapters", len(runs), answers, len(runs) - len(wrong), "verdicts and exit codes"), wrong


def _of_comparators(vectors: Vectors, count: _Count) -> _Part:
    known = list(comparators.known_answers(vectors))
    wrong = [
        f"comparator: {name!r} is not caught by any known answer"
        for name in count.each("comparators", comparators.COMPARATORS)
        if comparators.agrees(comparators.COMPARATORS[name], known, vectors.policy)
    ]
    if not comparators.agrees(comparators.right_comparator, known, vectors.policy):
        wrong.append("comparator: the judge's own is wrong about a known answer")
    number = len(comparators.COMPARATORS)
    return Row("comparators with a flaw", number, len(known), number - len(wrong), "caught"), wrong


def _of_exit_rules(runs: Sequence[tuple[Miniature, Run | None]], count: _Count) -> _Part:
    judged = [(small, run) for small, run in runs if run is not None]
    wrong = [
        f"exit code: {name!r} is not caught by any miniature adapter"
        for name in count.each("exit codes", comparators.EXIT_RULES)
        if all(comparators.EXIT_RULES[name](run) == small.exit_code for small, run in judged)
    ]
    number = len(comparators.EXIT_RULES)
    return Row("exit codes with a flaw", number, len(judged), number - len(wrong), "caught"), wrong
