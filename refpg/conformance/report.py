"""A finished run, for a terminal, for a machine, for a page.

The machine's form is JSON lines: a header, one line per case, a footer with all counts.  A report without its footer
was cut off and is invalid.  Files appear whole or not at all.
"""

import json
import math
import os
import platform
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy

import refpg
from refpg.conformance.consequences import CONSEQUENCE
from refpg.conformance.diagnosis import Diagnosis
from refpg.conformance.ops import OPS, PROFILES
from refpg.conformance.run import Run
from refpg.conformance.vectors import Case
from refpg.conformance.verdicts import EXECUTED, Comparison, Outcome, Verdict

SCHEMA = 1
_MARGIN = 11
_NAME = 62
_WIDTH = 95
_UNDECLARED_SHOWN = 6

# What several answers have in common: ("bug", its id) or ("convention", what to declare).
_Cause = tuple[str, str]


class ReportError(ValueError):
    """A report that is not one: no header, no footer, or a footer that disagrees with its lines."""


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
    yield _title(run)
    for note in run.adapter.notes:
        yield _entry("note", note)
    yield ""
    yield from _conforming(run)
    yield from _mismatches(run)
    for outcome in run.outcomes:
        if outcome.verdict is Verdict.HARNESS_ERROR:
            yield f"{'HARNESS':<{_MARGIN}}{outcome.case}{_under(outcome)}"
            yield from (_entry("", line) for line in outcome.message.splitlines())
            yield _entry("reproduce", f"refpg show {outcome.case} --as python")
    yield from _not_executed(run)
    yield from findings(run)
    yield summary(run)


def findings(run: Run) -> Iterator[str]:
    """Yield, for each explanation that several answers share, one paragraph: what, where, and what it does.

    Parameters
    ----------
    run : Run
        A finished check.

    Yields
    ------
    str
    """
    shared: dict[_Cause, list[int]] = {}
    for i, diagnosis in run.diagnoses.items():
        if (cause := _cause(diagnosis)) is not None:
            shared.setdefault(cause, []).append(i)
    for (kind, name), positions in shared.items():
        if len(positions) == 1:
            continue
        outcomes = [run.outcomes[i] for i in positions]
        ops = list(dict.fromkeys(outcome.op for outcome in outcomes))
        title = f"`{name}`: {run.vectors.bugs[name].title}" if kind == "bug" else f"declare {name}"
        yield f"{'FINDING':<{_MARGIN}}{title}"
        count = f"{_plural(len(outcomes), 'answer')} of {_plural(len(ops), 'op')}"
        yield from _wrapped("where", f"{count}: {', '.join(ops)}")
        for i in positions:
            for label, text in run.diagnoses[i].lines:
                if label == CONSEQUENCE:
                    yield _entry(label, f"{text} in {run.outcomes[i].case}")


def summary(run: Run) -> str:
    """Return the one line that counts everything."""
    count = run.counts()
    undeclared = {outcome.op for outcome in run.outcomes if outcome.verdict is Verdict.UNDECLARED}
    parts = [f"{count['in_profile']} in profile", f"{count['executed']} executed", f"{count['conforms']} conform"]
    for name, words in (
        ("wrong", "wrong"),
        ("imprecise", "imprecise"),
        ("harness_error", "harness errors"),
        ("unsupported", "unsupported"),
        ("undeclared", f"undeclared ({len(undeclared)} ops)"),
        ("not_asked", "stability cases not asked for (--stability)"),
        ("not_resolved", "not resolved in the dtype"),
        ("no_expected", "without an expected value under the conventions"),
    ):
        if count[name]:
            parts.append(f"{count[name]} {words}")
    if run.without_vectors:
        parts.append(f"{len(run.without_vectors)} ops without vectors in this release")
    if run.worst_conforming is not None:
        parts.append(f"worst conforming {_times(run.worst_conforming)}")
    return f"{' · '.join(parts)}          exit {run.exit_code}"


def json_lines(run: Run) -> Iterator[str]:
    """Yield the report for machines: a header, one line per case, a footer.

    Parameters
    ----------
    run : Run
        A finished check.

    Yields
    ------
    str
        Strict JSON: an error that is not a finite number is null.
    """
    yield _json(
        {
            "kind": "header",
            "schema": SCHEMA,
            "refpg": refpg.__version__,
            "release": run.vectors.release,
            "status": run.vectors.status,
            "target": run.adapter.target,
            "name": run.adapter.name,
            "version": run.adapter.version,
            "notes": list(run.adapter.notes),
            "dtype": dict(run.adapter.dtypes) or {"*": "float64"},
            "conventions": "all" if run.adapter.under is not None else dict(run.adapter.conventions),
            "profiles": list(run.profiles),
            "only": run.only,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        }
    )
    for i, outcome in enumerate(run.outcomes):
        yield _json(_record(run, i, outcome))
    yield _json(
        {
            "kind": "footer",
            "counts": run.counts(),
            "without_vectors": list(run.without_vectors),
            "worst_conforming": run.worst_conforming,
            "exit": run.exit_code,
        }
    )


def read_json_lines(text: str) -> list[dict[str, Any]]:
    """Parse a report of `json_lines`, and refuse one that is cut off.

    Parameters
    ----------
    text : str
        The file's content.

    Returns
    -------
    list of dict
        Header, cases, footer.

    Raises
    ------
    ReportError
        If the header or the footer is missing, or the footer counts other lines than there are.
    """
    try:
        lines = [json.loads(line) for line in text.splitlines()]
    except ValueError as error:
        raise ReportError(f"not JSON lines: {error}") from None
    kinds = [line.get("kind") if isinstance(line, dict) else None for line in lines]
    if not kinds or kinds[0] != "header":
        raise ReportError("no header")
    if kinds[-1] != "footer":
        raise ReportError("no footer: the report was cut off")
    if kinds[1:-1] != ["case"] * (len(lines) - 2):
        raise ReportError("lines that are not cases")
    if lines[-1].get("counts", {}).get("in_profile") != len(lines) - 2:
        raise ReportError(f"the footer does not count the {len(lines) - 2} cases there are")
    return lines


def markdown(run: Run, date: str) -> str:
    """Return the report as a page: how it came about, the summary, a table by op, and each mismatch as in the terminal.

    Parameters
    ----------
    run : Run
        A finished check.
    date : str
        The day of the run, ISO 8601.

    Returns
    -------
    str
    """
    command = "refpg check" if run.adapter.under is not None else f"refpg check {run.adapter.target}"
    profiles = "" if run.profiles == PROFILES else f", profiles {', '.join(run.profiles)}"
    only = f", only {run.only}" if run.only else ""
    lines = [
        f"# {_named(run)} against refpg vectors {run.vectors.release}",
        "",
        f"`{command}`{profiles}{only} on {date}: refpg {refpg.__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, SciPy {scipy.__version__}.",
        "",
        summary(run),
        "",
    ]
    lines += [f"* {note}" for note in run.adapter.notes] + [""] * bool(run.adapter.notes)
    lines += ["| op | conform | worst × tolerance | otherwise |", "|---|---|---|---|"]
    for op in dict.fromkeys(outcome.op for outcome in run.outcomes):
        of_op = [outcome for outcome in run.outcomes if outcome.op == op]
        conforming = [outcome.worst for outcome in of_op if outcome.verdict is Verdict.CONFORMS]
        other = [outcome.verdict.value for outcome in of_op if outcome.verdict is not Verdict.CONFORMS]
        otherwise = ", ".join(f"{other.count(value)} {value}" for value in dict.fromkeys(other))
        worst = f"{max(conforming):.2g}" if conforming else ""
        lines.append(f"| `{op}` | {len(conforming)} of {len(of_op)} | {worst} | {otherwise} |")
    details = [*findings(run), *_mismatches(run), *_not_executed(run)]
    if details:
        lines += ["", "```", *details, "```"]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old content or all of the new.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    text : str
        The content, written as UTF-8.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp is private; a report is not
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _named(run: Run) -> str:
    return f"{run.adapter.name} {run.adapter.version}".rstrip()


def _title(run: Run) -> str:
    judged = Counter(outcome.dtype for outcome in run.outcomes if outcome.verdict in EXECUTED)
    dtypes = " and ".join(judged) or "float64"
    if run.adapter.under is not None:
        conventions = "every convention"
    else:
        declared = [f"{axis} = {value}" for axis, value in run.adapter.conventions.items()]
        conventions = ", ".join(declared) or "default conventions"
    vectors = f"vectors {run.vectors.release} ({run.vectors.status})"
    return f"{_named(run)} · {vectors} · {', '.join(run.profiles)} · {dtypes} · {conventions}"


def _conforming(run: Run) -> Iterator[str]:
    for profile in run.profiles:
        conforming = [o for o in run.outcomes if o.verdict is Verdict.CONFORMS and OPS[o.op].profile == profile]
        if conforming:
            worst = max(conforming, key=lambda outcome: outcome.worst)
            ops = len({outcome.op for outcome in conforming})
            text = f"{profile}: {_plural(len(conforming), 'answer')} of {_plural(ops, 'op')}"
            yield f"{'CONFORMS':<{_MARGIN}}{text:<{_NAME}} worst {_times(worst.worst)} in {worst.case}"


def _cause(diagnosis: Diagnosis) -> _Cause | None:
    """Return what answers with the same explanation have in common; None if it is not certain."""
    if diagnosis.complete and len(diagnosis.bugs) == 1:
        return "bug", diagnosis.bugs[0]
    if diagnosis.complete and len(diagnosis.conventions) == 1:
        return "convention", " and ".join(f"{axis} = {value}" for axis, value in diagnosis.conventions[0].items())
    return None


def _mismatches(run: Run) -> Iterator[str]:
    """Yield each mismatch, the first one of each cause in full."""
    told: set[_Cause] = set()
    for i, outcome in enumerate(run.outcomes):
        if outcome.verdict in (Verdict.IMPRECISE, Verdict.WRONG):
            cause = _cause(run.diagnoses[i])
            if cause in told:
                yield from _again(run, i, outcome, cause)
            else:
                yield from _mismatch(run, i, outcome)
            if cause is not None:
                told.add(cause)


def _again(run: Run, i: int, outcome: Outcome, cause: _Cause | None) -> Iterator[str]:
    assert cause is not None
    yield _headline(outcome)
    yield _entry("DIAGNOSIS", f"`{cause[1]}` again" if cause[0] == "bug" else f"again: declare {cause[1]}")
    yield from (_entry(label, text) for label, text in run.diagnoses[i].lines if label == CONSEQUENCE)


def _headline(outcome: Outcome) -> str:
    worst = _times(outcome.worst) if math.isfinite(outcome.worst) else ""
    return f"{outcome.verdict.value:<{_MARGIN}}{outcome.case + _under(outcome):<{_NAME}} {worst}".rstrip()


def _mismatch(run: Run, i: int, outcome: Outcome) -> Iterator[str]:
    yield _headline(outcome)
    case = run.vectors.case(outcome.case)
    assert case is not None
    for comparison in [c for c in outcome.comparisons if c.worst > 1][:3]:
        yield _entry("", _first_error(comparison, case, outcome))
    wrong = sum(comparison.worst > 1 for comparison in outcome.comparisons)
    if wrong > 3:
        yield _entry("", f"… and {wrong - 3} more of {len(outcome.comparisons)} arrays")
    for label, text in run.diagnoses[i].lines:
        yield _entry(label, text)
    if outcome.changed:
        yield _entry("also", f"the call changed its inputs: {', '.join(outcome.changed)}")
    yield _entry("reproduce", f"refpg show {outcome.case} --as python")


def _first_error(comparison: Comparison, case: Case, outcome: Outcome) -> str:
    if not comparison.same_shape:
        return f"{comparison.path}  got shape {comparison.got.shape}, certified {comparison.certified.shape}"
    indices = comparison.wrong_entries()
    index = tuple(int(i) for i in indices[0])
    place = f"[{', '.join(map(str, index))}]" if index else ""
    got, certified = comparison.got[index].item(), comparison.certified[index].item()
    expected = case.under(outcome.conventions)
    radius = expected.outputs[comparison.path].radius if expected is not None else 0.0
    accuracy = "" if comparison.exact else f" ± {radius:.1g}"
    count = f"        (first of {len(indices)} wrong of {comparison.got.size})" if comparison.got.size > 1 else ""
    return f"{comparison.path}{place}  got {got!r}   certified {certified!r}{accuracy}{count}"


def _not_executed(run: Run) -> Iterator[str]:
    for verdict in (
        Verdict.UNSUPPORTED,
        Verdict.UNDECLARED,
        Verdict.NOT_ASKED,
        Verdict.NOT_RESOLVED,
        Verdict.NO_EXPECTED,
    ):
        of_verdict = [outcome for outcome in run.outcomes if outcome.verdict is verdict]
        for message in dict.fromkeys(outcome.message for outcome in of_verdict):
            cases = [outcome.op for outcome in of_verdict if outcome.message == message]
            yield f"{verdict.value + ' ':<{_MARGIN}}{_plural(len(cases), 'case')}: {message}"
            ops = list(dict.fromkeys(cases))
            rest = len(ops) - _UNDECLARED_SHOWN
            if verdict is Verdict.UNDECLARED and rest > 0:
                ops = [*ops[:_UNDECLARED_SHOWN], f"… and {rest} more (`refpg ops` lists them all)"]
            yield from _wrapped("", ", ".join(ops))
    if run.without_vectors:
        more = f" and {len(run.without_vectors) - 6} more" if len(run.without_vectors) > 6 else ""
        yield f"{'NO VECTORS':<{_MARGIN}}{', '.join(run.without_vectors[:6])}{more}"


def _record(run: Run, i: int, outcome: Outcome) -> dict[str, Any]:
    record: dict[str, Any] = {
        "kind": "case",
        "id": outcome.case,
        "op": outcome.op,
        "profile": OPS[outcome.op].profile,
        "verdict": outcome.verdict.value,
        "dtype": outcome.dtype,
        "conventions": dict(outcome.conventions),
        "worst": outcome.worst if math.isfinite(outcome.worst) else None,
    }
    if outcome.message:
        record["message"] = outcome.message
    if outcome.printed:
        record["printed"] = outcome.printed
    if outcome.changed:
        record["changed"] = list(outcome.changed)
    if i in run.diagnoses:
        diagnosis = run.diagnoses[i]
        record["diagnosis"] = {
            "kind": diagnosis.kind,
            "complete": diagnosis.complete,
            "bugs": list(diagnosis.bugs),
            "conventions": [dict(conventions) for conventions in diagnosis.conventions],
            "lines": [list(line) for line in diagnosis.lines],
        }
    return record


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _entry(label: str, text: str) -> str:
    return f"{'':<{_MARGIN}}{label + ' ':<15}{text}" if label else f"{'':<{_MARGIN}}{text}"


def _wrapped(label: str, text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH):
        yield _entry(label, line)
        label = " " if label else ""


def _under(outcome: Outcome) -> str:
    return "".join(f"  {axis} = {value}" for axis, value in outcome.conventions.items())


def _times(worst: float) -> str:
    return f"{worst:.2g} × tolerance"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
