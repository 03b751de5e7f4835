"""An explanation in words: for a person, and as a record for a machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refpg.conformance.diagnosis.candidates import Bug, Convention
from refpg.conformance.diagnosis.pairs import Pair
from refpg.conformance.diagnosis.structures import Finding, objection
from refpg.conformance.laws.law import Law, Residual, plain
from refpg.conformance.signatures import output_of
from refpg.conformance.vectors import Vectors
from refpg.conformance.verdicts import Outcome

_SHOWN = 3
_PAIRS_SHOWN = 4

Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Diagnosis:
    """An explanation of one wrong answer.

    Fields: ``kind`` is ``"convention"``, ``"bug"``, ``"pair"``, ``"structure"``, ``"law"`` or ``"none"``; ``complete``
    whether no case of the run contradicts it; ``bugs`` and ``conventions`` the candidates, in a pair those of all
    candidates; ``lines`` (label, text) for a person; ``name``, where it needs one, of a violated law, or of two causes
    with how they meet.
    """

    kind: str
    complete: bool
    bugs: tuple[str, ...]
    conventions: tuple[Mapping[str, str], ...]
    lines: Lines
    name: str = ""


def of_conventions(
    outcome: Outcome, chosen: Sequence[Convention], against: Sequence[str], beside: Sequence[Bug], vectors: Vectors
) -> Diagnosis:
    """Say that the answer is right under other conventions.

    ``against`` names the cases that disagree; ``beside`` are known bugs that would look the same.
    """
    names = [_axes(cause.changes) for cause in chosen]
    which = names[0] if len(names) == 1 else f"one of: {'; '.join(names)}"
    bugs = tuple(dict.fromkeys(cause.name for cause in beside))
    if against:
        text = f"{_values(outcome)} the certified answer under {which}"
        lines: Lines = (("DIAGNOSIS", text), _objection(against))
    else:
        text = f"not a bug: {_values(outcome)} the certified answer under another convention; declare {which}"
        otherwise = (("unless", f"it is not meant; then `{name}`: {vectors.bugs[name].title}") for name in bugs)
        lines = (("DIAGNOSIS", text), *otherwise)
    return Diagnosis("convention", not against, bugs, tuple(dict(cause.changes) for cause in chosen), lines)


def of_bugs(
    outcome: Outcome, chosen: Sequence[Bug], against: Sequence[str], complete: bool, seen: int, vectors: Vectors
) -> Diagnosis:
    """Say which known bug it is; ``against`` names the cases that disagree, ``seen`` counts those that can tell."""
    names = tuple(dict.fromkeys(cause.name for cause in chosen))
    only = chosen[0].only
    values = _values(outcome, only)
    cases = f" (so on all {seen} cases that can tell)" if complete and seen > 1 else ""
    if len(names) == 1:
        bug = vectors.bugs[names[0]]
        lines = [("DIAGNOSIS", f"{values} the answer of `{names[0]}`: {bug.title}{cases}")]
        lines += [(label, text) for label, text in (("effect", bug.effect), ("hint", bug.hint)) if text]
        lines += [("seen in", ", ".join(bug.evidence))] if bug.evidence else []
    else:
        lines = [("DIAGNOSIS", f"{values} the answer of one of {len(names)} known bugs{cases}:")]
        lines += [("one of", f"`{name}`: {vectors.bugs[name].title}") for name in names]
        lines += [("hint", "this case cannot tell them apart; `refpg explain` says what exposes each")]
    if only:
        rest = sorted({output_of(c.path) for c in outcome.comparisons} - set(only))
        lines.insert(1, ("but", f"{', '.join(rest)} {'is' if len(rest) == 1 else 'are'} right"))
    if not complete:
        lines.append(_objection(against))
    return Diagnosis("bug", complete, names, (), tuple(lines))


def of_pairs(outcome: Outcome, found: Sequence[Pair], cases: int, vectors: Vectors) -> Diagnosis:
    """Say which two causes it is; they explain every one of so many ``cases``."""
    so = f" (so on all {cases} cases of the op)"
    bugs = tuple(dict.fromkeys(name for pair in found for name in pair.bugs))
    conventions = tuple(dict(changes) for changes in dict.fromkeys(pair.conventions for pair in found) if changes)
    if len(found) > 1:
        lines = [("DIAGNOSIS", f"two causes at once: {_values(outcome)} the answer of one of {len(found)} pairs{so}:")]
        lines += [("one of", _pair(pair)) for pair in found[:_PAIRS_SHOWN]]
        lines += [("one of", f"… and {len(found) - _PAIRS_SHOWN} more")] if len(found) > _PAIRS_SHOWN else []
        return Diagnosis("pair", True, bugs, conventions, tuple(lines))
    lines = [("DIAGNOSIS", f"two causes at once: {_values(outcome)} the answer of {_pair(found[0])}{so}")]
    lines += [("both", f"`{name}`: {vectors.bugs[name].title}") for name in bugs]
    lines += [("both", f"not a bug: declare {_axes(found[0].conventions)}")] if conventions else []
    lines += [("hint", vectors.bugs[name].hint) for name in bugs if vectors.bugs[name].hint]
    return Diagnosis("pair", True, bugs, conventions, tuple(lines), _pair(found[0]))


def of_structures(found: Sequence[Finding], beside: Sequence[Pair] = ()) -> Diagnosis:
    """Say what the answer looks like, output by output, and which known bugs ``beside`` would look the same."""
    against = [finding for finding in found if finding.against]
    lines = [("DIAGNOSIS", finding.text) for finding in dict.fromkeys(found)]
    lines += [("or", f"the same as {_pair(pair)}") for pair in beside[:_PAIRS_SHOWN]]
    lines += [("but", objection(finding)) for finding in dict.fromkeys(against)]
    return Diagnosis("structure", not against, (), (), tuple(lines))


def of_law(law: Law, variant: str, inputs: Mapping[str, Any], residual: Residual) -> Diagnosis:
    """Say which law is violated, by how much, and by which inputs."""
    off = ("off by", f"{residual.error:.3g}, allowed are {residual.bound:.2g}")
    how = ("since", residual.note) if residual.note else off
    lines = [("DIAGNOSIS", f"violated law `{law.label(variant)}`: {law.statement}  {law.source}"), how]
    example = [f"{name} = {value}" for name, value in plain(inputs).items()]
    lines += [("and" if i else "for example", text) for i, text in enumerate(example)]
    ops = [f"`{op}`" for op in law.ops_of(variant)]
    lines += [("between", f"{', '.join(ops[:-1])} and {ops[-1]}, which do not fit together")] if len(ops) > 1 else []
    return Diagnosis("law", True, (), (), tuple(lines), law.name)


def nothing(of_laws: str = "") -> Diagnosis:
    """Say that nothing is known, and what became ``of_laws``."""
    text = "no known bug matches, nor two of them, nor another convention, nor a simple structure"
    remark = (("laws", of_laws),) if of_laws else ()
    return Diagnosis("none", False, (), (), (("DIAGNOSIS", text), *remark))


def _pair(pair: Pair) -> str:
    bugs = " and ".join(f"`{name}`" for name in pair.bugs)
    if len(pair.bugs) == 2:
        return f"{bugs}, {pair.how}"
    if pair.bugs and pair.conventions:
        return f"{bugs} {pair.how}"
    return f"{bugs or _axes(pair.conventions)} {pair.how}"


def _axes(changes: Sequence[tuple[str, str]]) -> str:
    return " and ".join(f"{axis} = {value}" for axis, value in changes)


def _values(outcome: Outcome, only: Sequence[str] = ()) -> str:
    leaves = [c for c in outcome.comparisons if not only or output_of(c.path) in only]
    count = sum(c.got.size for c in leaves)
    of = f" of {', '.join(only)}" if only else ""
    return f"all {count} values{of} equal" if count > 1 else f"the value{of} equals"


def _objection(against: Sequence[str]) -> tuple[str, str]:
    cases = sorted(set(against))
    shown = ", ".join(cases[:_SHOWN]) + (f" and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else "")
    return "but", f"it does not explain the whole run: {shown} disagree{'s' if len(cases) == 1 else ''}"


