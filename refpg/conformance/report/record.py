"""What every form of a report says: when and where, the words, and what several answers have in common.

A report is of a `Run`, which `refpg check` makes and `refpg replay` makes again from what was recorded, and of its
`Origin`.  Texts of the implementation judged are hostile: `plain` shows their control characters for what they are,
so that no form can be made to hold them, and each form escapes the rest in its own way.
"""

import platform
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import scipy

import refpg
from refpg.conformance.diagnosis import Diagnosis
from refpg.conformance.run import Run
from refpg.conformance.vectors import Expected
from refpg.conformance.verdicts import CALLED, Comparison, Outcome, Verdict, entry_errors
from refpg.conformance.waivers import waiver_of

RED = (Verdict.IMPRECISE, Verdict.WRONG)
NOT_EXECUTED = tuple(verdict for verdict in Verdict if verdict not in CALLED)

# Control characters, what reorders or hides text, halves of surrogate pairs, and what XML cannot hold.
_HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufffe\uffff]"
)
_LONGEST = 2000
_MOST_LINES = 60


class ReportError(ValueError):
    """A report that is not one: cut off, altered, of vectors that are not installed; or one that cannot be written."""


@dataclass(frozen=True)
class Origin:
    """When and where a run was made.

    Fields: ``date``, in UTC to the second, ISO 8601; the versions of ``refpg``, ``python``, ``numpy`` and ``scipy``;
    ``platform``, the system and the processor.
    """

    date: str
    refpg: str
    python: str
    numpy: str
    scipy: str
    platform: str

    @property
    def day(self) -> str:
        """The date without the time."""
        return self.date.partition("T")[0]


def origin() -> Origin:
    """Return now and here."""
    return Origin(
        datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        refpg.__version__,
        platform.python_version(),
        np.__version__,
        scipy.__version__,
        f"{platform.system()} {platform.machine()}".strip() or "unknown",
    )


def plain(text: str) -> str:
    r"""Return a text as one line without control characters, of at most 2000 characters.

    Examples
    --------
    >>> plain("two\nlines, \x1b[31mred")
    'two\\nlines, \\x1b[31mred'
    """
    shown = _HIDDEN.sub(lambda hidden: hidden[0].encode("unicode_escape").decode("ascii"), text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def plain_lines(text: str) -> list[str]:
    """Return a text of several lines as plain ones; of too many the first, and the last, where a traceback says why."""
    lines = [plain(line) for line in text.expandtabs(4).rstrip().splitlines()]
    if len(lines) > _MOST_LINES:
        half = _MOST_LINES // 2
        lines = [*lines[: half - 1], "…", *lines[-half:]]
    return lines


def named(run: Run) -> str:
    """Return the name and version of what was judged."""
    return plain(f"{run.adapter.name} {run.adapter.version}".rstrip())


def vectors_of(run: Run) -> str:
    """Return the release it was judged by, with its status."""
    return f"{run.vectors.release} ({run.vectors.status})"


def dtypes_of(run: Run) -> str:
    """Return the precisions by which answers were judged."""
    judged = Counter(outcome.dtype for outcome in run.outcomes if outcome.verdict in CALLED)
    return " and ".join(judged) or "float64"


def conventions_of(run: Run) -> str:
    """Return the conventions declared."""
    if run.adapter.under is not None:
        return "every convention"
    return pairs(run.adapter.conventions) or "default conventions"


def pairs(conventions: Mapping[str, str], joint: str = ", ") -> str:
    """Return ``axis = value`` for each; nothing for none.

    Examples
    --------
    >>> pairs({"kl.direction": "new_old"})
    'kl.direction = new_old'
    """
    return joint.join(f"{axis} = {value}" for axis, value in conventions.items())


def waived(run: Run, outcome: Outcome) -> str:
    """Return what is excused of a waived outcome, and by which waiver."""
    said = outcome.excused.value.lower() if outcome.excused is not None else "nothing"
    return f"{said}, excused: {waiver_of(outcome.case, run.waivers)}"


def times(worst: float) -> str:
    """Return an error in tolerances, in words."""
    return f"{worst:.2g} × tolerance"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> plural(1, "answer"), plural(2, "answer")
    ('1 answer', '2 answers')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@dataclass(frozen=True)
class Finding:
    """What is certain, and the answers that have it in common.

    Fields: ``kind`` is ``"bug"``, ``"convention"``, ``"pair"`` or ``"law"``; ``name`` the id of the bug, what to
    declare, both of two causes, or a law that is violated, which explains nothing; ``positions`` of the answers in the
    outcomes of the run.
    """

    kind: str
    name: str
    positions: tuple[int, ...]

    def titled(self, run: Run) -> str:
        """Return the finding in one line."""
        if self.kind == "bug":
            return f"`{self.name}`: {run.vectors.bugs[self.name].title}"
        return {
            "convention": f"declare {self.name}",
            "pair": f"two causes at once: {self.name}",
            "law": f"violated law `{self.name}`",
        }[self.kind]


def cause(diagnosis: Diagnosis) -> tuple[str, str] | None:
    """Return the kind and name of the finding a diagnosis belongs to; None if it is not certain."""
    if not diagnosis.complete or any(label == "one of" for label, _ in diagnosis.lines):
        return None
    bugs, conventions = diagnosis.bugs, [pairs(axes, " and ") for axes in diagnosis.conventions]
    if diagnosis.kind == "bug" and len(bugs) == 1:
        return "bug", bugs[0]
    if diagnosis.kind == "convention" and len(conventions) == 1:
        return "convention", conventions[0]
    if diagnosis.kind == "pair":
        return "pair", plain(diagnosis.name)
    return ("law", diagnosis.name) if diagnosis.kind == "law" else None


def findings(run: Run) -> list[Finding]:
    """Return the explanations of the mismatches of a run, and its violated laws, in the order in which they occur.

    Parameters
    ----------
    run : Run
        A finished check.

    Returns
    -------
    list of Finding
    """
    shared: dict[tuple[str, str], list[int]] = {}
    for i, diagnosis in run.diagnoses.items():
        if run.outcomes[i].verdict in RED and (found := cause(diagnosis)) is not None:
            shared.setdefault(found, []).append(i)
    return [Finding(kind, name, tuple(positions)) for (kind, name), positions in shared.items()]


@dataclass(frozen=True)
class Entry:
    """One number of an answer.

    Fields: its ``place``, the path of the leaf and the index; what the implementation ``got`` and what is
    ``certified``, to the last digit; how far the truth may be from the certified number, its ``accuracy``, in words;
    ``error`` and ``tolerance``.
    """

    place: str
    got: str
    certified: str
    accuracy: str
    error: float
    tolerance: float


def entry(comparison: Comparison, index: tuple[int, ...], expected: Expected | None) -> Entry:
    """Return one number of an answer, beside the certified one.

    Parameters
    ----------
    comparison : Comparison
        Of a leaf of the certified shape.
    index : tuple of int
        Which of its numbers.
    expected : Expected or None
        The certified answer, which knows how accurate it is.

    Returns
    -------
    Entry
    """
    radius = expected.outputs[comparison.path].radius if expected is not None else 0.0
    return Entry(
        comparison.path + (f"[{', '.join(map(str, index))}]" if index else ""),
        repr(comparison.got[index].item()),
        repr(comparison.certified[index].item()),
        "" if comparison.exact else f" ± {radius:.1g}",
        float(entry_errors(comparison.got, comparison.certified)[index]),
        float(comparison.tolerance[index]),
    )
