"""What every form of a report says: when and where, the words, and what several answers have in common.

A report is of a `Run`, which `refpg check` makes and `refpg replay` makes again from what was recorded, and of its
`Origin`.  Texts of the implementation judged are hostile: `plain` shows their control characters for what they are,
so that no form can be made to hold them, and each form escapes the rest in its own way.
"""

import platform
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
FAILED = (*RED, Verdict.HARNESS_ERROR)
NOT_EXECUTED = tuple(verdict for verdict in Verdict if verdict not in CALLED)

# Control characters, what reorders or hides text, halves of surrogate pairs, and what XML cannot hold.
_HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufffe\uffff]"
)
_NUMBER = re.compile(r"\d+")
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


def reproduced(outcome: Outcome) -> str:
    """Return the command that shows a case, under the conventions it was judged by."""
    under = "".join(f" --declare {axis}={value}" for axis, value in outcome.conventions.items())
    return f"refpg show {outcome.case} --as python{under}"


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


def said_last(outcome: Outcome) -> str:
    """Return the last line of what became of a case that could not be judged: of a traceback, the exception."""
    return (plain_lines(outcome.message) or ["no message"])[-1]


@dataclass(frozen=True)
class Finding:
    """What is certain, and the cases that have it in common.

    Fields: ``kind`` is ``"bug"``, ``"convention"``, ``"pair"``, ``"structure"``, ``"law"`` or ``"crash"``; ``name`` the
    id of the bug, what to declare, both of two causes, the structure in words, a law that is violated, which explains
    nothing, or why nothing could be judged; ``positions`` of the cases in the outcomes of the run; ``op`` where it
    belongs to one, as structures and crashes do.
    """

    kind: str
    name: str
    positions: tuple[int, ...]
    op: str = ""

    def titled(self, run: Run) -> str:
        """Return the finding in one line."""
        if self.kind == "bug":
            return f"`{self.name}`: {run.vectors.bugs[self.name].title}"
        return {
            "convention": f"declare {self.name}",
            "pair": f"two causes at once: {self.name}",
            "law": f"violated law `{self.name}`",
            "structure": f"`{self.op}`: {self.name}",
            "crash": f"`{self.op}`: {self.name}",
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
    if diagnosis.kind == "structure":
        return "structure", plain("; ".join(text for label, text in diagnosis.lines if label == "DIAGNOSIS"))
    return ("law", diagnosis.name) if diagnosis.kind == "law" else None


def findings(run: Run) -> list[Finding]:
    """Return whatever is certain of the failures of a run, each cause once, in the order in which they occur.

    Parameters
    ----------
    run : Run
        A finished check.

    Returns
    -------
    list of Finding
        Structures and crashes of one op are the same if their words are, whatever the numbers: shapes vary with the
        case.
    """
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for i, outcome in enumerate(run.outcomes):
        one = _finding(run, i) if outcome.verdict in FAILED else None
        if one is not None:
            words = _NUMBER.sub("#", one.name) if one.op else one.name
            alike.setdefault((one.kind, one.op, words), []).append(one)
    return [replace(ones[0], positions=tuple(i for one in ones for i in one.positions)) for ones in alike.values()]


def _finding(run: Run, i: int) -> Finding | None:
    outcome = run.outcomes[i]
    if outcome.verdict is Verdict.HARNESS_ERROR:
        return Finding("crash", said_last(outcome), (i,), outcome.op)
    if i not in run.diagnoses or (found := cause(run.diagnoses[i])) is None:
        return None
    return Finding(*found, (i,), outcome.op if found[0] == "structure" else "")


@dataclass(frozen=True)
class Explained:
    """How far the findings go.

    Fields: ``causes`` that were found, of which a violated law is none; how many ``failures`` there are, answers that
    do not conform and cases that could not be judged; the positions of those ``without`` a certain cause.
    """

    causes: int
    failures: int
    without: tuple[int, ...]

    def __str__(self) -> str:
        """Return what the causes explain, to be said after the failures."""
        explain = f"{plural(self.causes, 'cause')} {'explains' if self.causes == 1 else 'explain'}"
        left = len(self.without)
        if not left:
            return f"{explain} {'all of them' if self.failures > 1 else 'it'}"
        rest = f"{left} {'has' if left == 1 else 'have'} no certain cause"
        return f"{explain} {self.failures - left} of {self.failures} failures; {rest}"


def explained(run: Run) -> Explained:
    """Return how many causes explain how many of the failures of a run, and which they do not explain.

    Parameters
    ----------
    run : Run
        A finished check.

    Returns
    -------
    Explained
    """
    causes = [finding for finding in findings(run) if finding.kind != "law"]
    failed = [i for i, outcome in enumerate(run.outcomes) if outcome.verdict in FAILED]
    certain = {i for finding in causes for i in finding.positions}
    return Explained(len(causes), len(failed), tuple(i for i in failed if i not in certain))


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
