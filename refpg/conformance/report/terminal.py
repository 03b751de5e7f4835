"""The report for a person at a terminal: what is not in order, and the summary.

The first answer of each cause is told in full; others that have the same one only name it.
"""

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from refpg.conformance.consequences import CONSEQUENCE
from refpg.conformance.ops import OPS
from refpg.conformance.report.record import (
    NOT_EXECUTED,
    RED,
    Finding,
    conventions_of,
    dtypes_of,
    entry,
    explained,
    findings,
    named,
    pairs,
    plain,
    plain_lines,
    plural,
    reproduced,
    said_last,
    times,
    vectors_of,
    waived,
)
from refpg.conformance.run import Run
from refpg.conformance.vectors import Expected
from refpg.conformance.verdicts import Comparison, Outcome, Verdict

_MARGIN = 11
_NAME = 62
_WIDTH = 95
_UNDECLARED_SHOWN = 6


def terminal(run: Run) -> Iterator[str]:
    """Yield the lines for a person: what was judged, whatever is not in order, and the summary.

    Parameters
    ----------
    run : Run
        A finished check.

    Yields
    ------
    str
    """
    vectors, profiles = f"vectors {vectors_of(run)}", ", ".join(run.profiles)
    yield f"{named(run)} · {vectors} · {profiles} · {dtypes_of(run)} · {conventions_of(run)}"
    for note in run.adapter.notes:
        yield _entry("note", note)
    yield ""
    yield from _conforming(run)
    yield from mismatches(run)
    yield from harness_errors(run)
    yield from printed(run)
    yield from excuses(run)
    yield from not_executed(run)
    yield from shared(run)
    yield summary(run)


def summary(run: Run) -> str:
    """Return the one line that counts everything."""
    count = run.counts()
    undeclared = {outcome.op for outcome in run.outcomes if outcome.verdict is Verdict.UNDECLARED}
    parts = [f"{count['in_profile']} in profile", f"{count['executed']} executed", f"{count['conforms']} conform"]
    for name, words in (
        ("wrong", "wrong"),
        ("imprecise", "imprecise"),
        ("harness_error", "harness errors"),
        ("waived", "waived"),
        ("unsupported", "unsupported"),
        ("undeclared", f"undeclared ({len(undeclared)} ops)"),
        ("not_asked", "stability cases not asked for (--stability)"),
        ("not_resolved", "not resolved in the dtype"),
        ("no_expected", "without an expected value under the conventions"),
    ):
        if count[name]:
            parts.append(f"{count[name]} {words}")
    if run.stale:
        parts.append(plural(len(run.stale), "stale waiver"))
    if run.without_vectors:
        parts.append(f"{len(run.without_vectors)} ops without vectors in this release")
    if run.worst_conforming is not None:
        parts.append(f"worst conforming {times(run.worst_conforming)}")
    return f"{' · '.join(parts)}          exit {run.exit_code}"


def mismatches(run: Run) -> Iterator[str]:
    """Yield the lines of every mismatch, the first one of each cause in full."""
    told = _told_before(run)
    for i, outcome in enumerate(run.outcomes):
        if outcome.verdict in RED:
            yield from _again(run, i, told[i]) if i in told else mismatch(run, i)


def mismatch(run: Run, i: int) -> Iterator[str]:
    """Yield the lines of one mismatch in full: the first wrong number of each array, the diagnosis, the command."""
    outcome = run.outcomes[i]
    yield _headline(outcome)
    case = run.vectors.case(outcome.case)
    expected = case.under(outcome.conventions) if case is not None else None
    for comparison in [c for c in outcome.comparisons if c.worst > 1][:3]:
        yield _entry("", _first_error(comparison, expected))
    wrong = sum(comparison.worst > 1 for comparison in outcome.comparisons)
    if wrong > 3:
        yield _entry("", f"… and {wrong - 3} more of {len(outcome.comparisons)} arrays")
    for label, text in run.diagnoses[i].lines if i in run.diagnoses else ():
        yield _entry(label, text)
    if outcome.changed:
        yield _entry("also", f"the call changed its inputs: {', '.join(outcome.changed)}")
    yield _entry("reproduce", reproduced(outcome))


def harness_errors(run: Run) -> Iterator[str]:
    """Yield the lines of every case that could not be judged, the first one of each reason in full."""
    told = _told_before(run)
    for i, outcome in enumerate(run.outcomes):
        if outcome.verdict is Verdict.HARNESS_ERROR and i in told:
            yield _harness(outcome)
            yield _entry("again", said_last(outcome))
        elif outcome.verdict is Verdict.HARNESS_ERROR:
            yield from harness_error(outcome)


def harness_error(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of a case that could not be judged."""
    yield _harness(outcome)
    yield from (_entry("", line) for line in plain_lines(outcome.message))
    yield _entry("reproduce", reproduced(outcome))


def printed(run: Run) -> Iterator[str]:
    """Yield one line for each op that wrote to standard output; what it wrote is in the record and on the page."""
    wrote = Counter(outcome.op for outcome in run.outcomes if plain_lines(outcome.printed))
    for op, count in wrote.items():
        yield f"{'PRINTED':<{_MARGIN}}{op}: {plural(count, 'case')} wrote to standard output"


def excuses(run: Run) -> Iterator[str]:
    """Yield the lines of what is waived, and of the waivers that are stale."""
    for i, outcome in enumerate(run.outcomes):
        if outcome.verdict is Verdict.WAIVED:
            yield _headline(outcome)
            yield _entry("waived", waived(run, outcome))
            for label, text in run.diagnoses[i].lines[:1] if i in run.diagnoses else ():
                yield _entry(label, text)
    for name, why in run.stale.items():
        yield f"{'STALE':<{_MARGIN}}the waiver for {name}: {why}"
        yield _entry("remove it", str(run.waivers[name]))


def not_executed(run: Run) -> Iterator[str]:
    """Yield the lines of what was not executed, by reason."""
    for verdict in NOT_EXECUTED:
        of_verdict = [outcome for outcome in run.outcomes if outcome.verdict is verdict]
        for message in dict.fromkeys(outcome.message for outcome in of_verdict):
            cases = [outcome.op for outcome in of_verdict if outcome.message == message]
            yield f"{verdict.value + ' ':<{_MARGIN}}{plural(len(cases), 'case')}: {plain(message)}"
            ops = list(dict.fromkeys(cases))
            rest = len(ops) - _UNDECLARED_SHOWN
            if verdict is Verdict.UNDECLARED and rest > 0:
                ops = [*ops[:_UNDECLARED_SHOWN], f"… and {rest} more (`refpg ops` lists them all)"]
            yield from _wrapped("", ", ".join(ops))
    if run.without_vectors:
        more = f" and {len(run.without_vectors) - 6} more" if len(run.without_vectors) > 6 else ""
        yield f"{'NO VECTORS':<{_MARGIN}}{', '.join(run.without_vectors[:6])}{more}"


def shared(run: Run) -> Iterator[str]:
    """Yield one paragraph for each cause: what, where, and what it does; at the end, what they leave unexplained."""
    for finding in findings(run):
        yield f"{'FINDING':<{_MARGIN}}{finding.titled(run)}"
        noun = "case" if finding.kind == "crash" else "answer"
        yield from _where(run, finding.positions, noun)
        for i in finding.positions:
            for label, text in run.diagnoses[i].lines if i in run.diagnoses else ():
                if label == CONSEQUENCE:
                    yield _entry(label, f"{text} in {run.outcomes[i].case}")
    whole = explained(run)
    if whole.causes and whole.without:
        yield f"{'FINDINGS':<{_MARGIN}}{whole}"
        yield from _where(run, whole.without, "case")


def _where(run: Run, positions: Sequence[int], noun: str) -> Iterator[str]:
    outcomes = [run.outcomes[i] for i in positions]
    ops = list(dict.fromkeys(outcome.op for outcome in outcomes))
    count = f"{plural(len(outcomes), noun)} of {plural(len(ops), 'op')}: {', '.join(ops)}"
    yield from _wrapped("where", count if len(outcomes) > 1 else outcomes[0].case + _under(outcomes[0]))


def _conforming(run: Run) -> Iterator[str]:
    for profile in run.profiles:
        conforming = [o for o in run.outcomes if o.verdict is Verdict.CONFORMS and OPS[o.op].profile == profile]
        if conforming:
            worst = max(conforming, key=lambda outcome: outcome.worst)
            ops = len({outcome.op for outcome in conforming})
            text = f"{profile}: {plural(len(conforming), 'answer')} of {plural(ops, 'op')}"
            yield f"{'CONFORMS':<{_MARGIN}}{text:<{_NAME}} worst {times(worst.worst)} in {worst.case}"


def _told_before(run: Run) -> dict[int, Finding]:
    """Return the findings by position, but for the first position of each, where it is told in full."""
    return {i: finding for finding in findings(run) for i in finding.positions[1:]}


def _again(run: Run, i: int, finding: Finding) -> Iterator[str]:
    yield _headline(run.outcomes[i])
    again = {
        "bug": f"`{finding.name}` again",
        "convention": f"again: declare {finding.name}",
        "pair": f"again both: {finding.name}",
        "structure": "the same structure again",
        "law": f"violated law `{finding.name}` again",
    }
    yield _entry("DIAGNOSIS", again[finding.kind])
    yield from (_entry(label, text) for label, text in run.diagnoses[i].lines if label == CONSEQUENCE)


def _headline(outcome: Outcome) -> str:
    worst = times(outcome.worst) if math.isfinite(outcome.worst) else ""
    return f"{outcome.verdict.value:<{_MARGIN}}{outcome.case + _under(outcome):<{_NAME}} {worst}".rstrip()


def _harness(outcome: Outcome) -> str:
    return f"{'HARNESS':<{_MARGIN}}{outcome.case}{_under(outcome)}"


def _first_error(comparison: Comparison, expected: Expected | None) -> str:
    if not comparison.same_shape:
        return f"{comparison.path}  got shape {comparison.got.shape}, certified {comparison.certified.shape}"
    indices = comparison.wrong_entries()
    first = entry(comparison, tuple(int(i) for i in indices[0]), expected)
    count = f"        (first of {len(indices)} wrong of {comparison.got.size})" if comparison.got.size > 1 else ""
    return f"{first.place}  got {first.got}   certified {first.certified}{first.accuracy}{count}"


def _entry(label: str, text: str) -> str:
    text = plain(text)
    return f"{'':<{_MARGIN}}{label + ' ':<15}{text}" if label else f"{'':<{_MARGIN}}{text}"


def _wrapped(label: str, text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH):
        yield _entry(label, line)
        label = " " if label else ""


def _under(outcome: Outcome) -> str:
    under = pairs(outcome.conventions, "  ")
    return f"  {under}" if under else ""
