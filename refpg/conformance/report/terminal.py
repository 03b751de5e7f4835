"""The report for a person at a terminal: what is not in order, and the summary.

The first answer of each cause is told in full; others that have the same one only name it.
"""

import math
import textwrap
from collections.abc import Iterator

from refpg.conformance.consequences import CONSEQUENCE
from refpg.conformance.ops import OPS
from refpg.conformance.report.record import (
    NOT_EXECUTED,
    RED,
    cause,
    conventions_of,
    dtypes_of,
    entry,
    findings,
    named,
    pairs,
    plain,
    plain_lines,
    plural,
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
    for outcome in run.outcomes:
        if outcome.verdict is Verdict.HARNESS_ERROR:
            yield from harness_error(outcome)
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
    told: set[tuple[str, str]] = set()
    for i, outcome in enumerate(run.outcomes):
        if outcome.verdict in RED:
            found = cause(run.diagnoses[i]) if i in run.diagnoses else None
            if found in told:
                yield from _again(run, i, *found)
            else:
                yield from mismatch(run, i)
            if found is not None:
                told.add(found)


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
    yield _entry("reproduce", f"refpg show {outcome.case} --as python")


def harness_error(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of a case that could not be judged."""
    yield f"{'HARNESS':<{_MARGIN}}{outcome.case}{_under(outcome)}"
    yield from (_entry("", line) for line in plain_lines(outcome.message))
    yield _entry("reproduce", f"refpg show {outcome.case} --as python")


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
    """Yield, for each explanation that several answers share, one paragraph: what, where, and what it does."""
    for finding in findings(run):
        if len(finding.positions) == 1:
            continue
        outcomes = [run.outcomes[i] for i in finding.positions]
        ops = list(dict.fromkeys(outcome.op for outcome in outcomes))
        yield f"{'FINDING':<{_MARGIN}}{finding.titled(run)}"
        count = f"{plural(len(outcomes), 'answer')} of {plural(len(ops), 'op')}"
        yield from _wrapped("where", f"{count}: {', '.join(ops)}")
        for i in finding.positions:
            for label, text in run.diagnoses[i].lines:
                if label == CONSEQUENCE:
                    yield _entry(label, f"{text} in {run.outcomes[i].case}")


def _conforming(run: Run) -> Iterator[str]:
    for profile in run.profiles:
        conforming = [o for o in run.outcomes if o.verdict is Verdict.CONFORMS and OPS[o.op].profile == profile]
        if conforming:
            worst = max(conforming, key=lambda outcome: outcome.worst)
            ops = len({outcome.op for outcome in conforming})
            text = f"{profile}: {plural(len(conforming), 'answer')} of {plural(ops, 'op')}"
            yield f"{'CONFORMS':<{_MARGIN}}{text:<{_NAME}} worst {times(worst.worst)} in {worst.case}"


def _again(run: Run, i: int, kind: str, name: str) -> Iterator[str]:
    yield _headline(run.outcomes[i])
    again = {
        "bug": f"`{name}` again",
        "convention": f"again: declare {name}",
        "pair": f"again both: {name}",
        "law": f"violated law `{name}` again",
    }
    yield _entry("DIAGNOSIS", again[kind])
    yield from (_entry(label, text) for label, text in run.diagnoses[i].lines if label == CONSEQUENCE)


def _headline(outcome: Outcome) -> str:
    worst = times(outcome.worst) if math.isfinite(outcome.worst) else ""
    return f"{outcome.verdict.value:<{_MARGIN}}{outcome.case + _under(outcome):<{_NAME}} {worst}".rstrip()


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
