"""The report as Markdown: how it came about, the summary, a table by op, the mismatches as in the terminal."""

import re

from refpg.conformance.ops import PROFILES
from refpg.conformance.report.record import Origin, named, plain
from refpg.conformance.report.terminal import (
    excuses,
    harness_errors,
    mismatches,
    not_executed,
    printed,
    shared,
    summary,
)
from refpg.conformance.run import Run
from refpg.conformance.verdicts import Verdict

_ACTIVE = re.compile(r"([\\`*_{}\[\]<>#|&~])")


def markdown(run: Run, origin: Origin) -> str:
    """Return the report as a page.

    Parameters
    ----------
    run : Run
        A finished check.
    origin : Origin
        When and where it was made.

    Returns
    -------
    str
    """
    target = "" if run.adapter.under is not None else f" {run.adapter.target}"
    profiles = "" if run.profiles == PROFILES else f", profiles {', '.join(run.profiles)}"
    only = f", only {_code(run.only)}" if run.only else ""
    lines = [
        f"# {_text(named(run))} against refpg vectors {run.vectors.release}",
        "",
        f"{_code(f'refpg check{target}')}{profiles}{only} on {origin.day}: refpg {origin.refpg}, "
        f"Python {origin.python}, NumPy {origin.numpy}, SciPy {origin.scipy}.",
        "",
        summary(run),
        "",
    ]
    lines += [f"* {_text(note)}" for note in run.adapter.notes] + [""] * bool(run.adapter.notes)
    lines += ["| op | conform | worst × tolerance | otherwise |", "|---|---|---|---|"]
    for op in dict.fromkeys(outcome.op for outcome in run.outcomes):
        of_op = [outcome for outcome in run.outcomes if outcome.op == op]
        conforming = [outcome.worst for outcome in of_op if outcome.verdict is Verdict.CONFORMS]
        other = [outcome.verdict.value for outcome in of_op if outcome.verdict is not Verdict.CONFORMS]
        otherwise = ", ".join(f"{other.count(value)} {value}" for value in dict.fromkeys(other))
        worst = f"{max(conforming):.2g}" if conforming else ""
        lines.append(f"| `{op}` | {len(conforming)} of {len(of_op)} | {worst} | {otherwise} |")
    details = [*shared(run), *mismatches(run), *harness_errors(run)]
    details += [*printed(run), *excuses(run), *not_executed(run)]
    if details:
        fence = _fence("\n".join(details))
        lines += ["", fence, *details, fence]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Return a text of which Markdown and HTML make nothing else."""
    return _ACTIVE.sub(r"\\\1", plain(text))


def _code(text: str) -> str:
    """Return a text as code, between more backticks than it holds in a row."""
    text = plain(text)
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    ticks = "`" * (longest + 1)
    return f"{ticks} {text} {ticks}" if longest else f"{ticks}{text}{ticks}"


def _fence(text: str) -> str:
    return "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
