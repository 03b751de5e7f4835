"""What a name stands for that a report, a message or a listing has used: ``refpg explain NAME``.

Cases, ops, axes of convention, known bugs, laws and presets have names of their own; whatever is printed about one of
them ends in a name that can be asked for next.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from refpg.conformance.adapters import UsageError, nearest
from refpg.conformance.laws import LAWS
from refpg.conformance.ops import OPS
from refpg.conformance.presets import presets
from refpg.conformance.vectors import Case, Vectors

_LABEL = 10
_WIDTH = 100


class _Kind(NamedTuple):
    """Things of one kind: their ``names``, and what ``explains`` one of them."""

    names: Iterable[str]
    explains: Callable[[str, Vectors], Iterator[str]]


def explanation(name: str, vectors: Vectors) -> list[str]:
    """Return what is known of a name, line by line.

    Parameters
    ----------
    name : str
        Of an op, an axis, a bug, a law or a preset; of all that are called so.
    vectors : Vectors
        The whole release.

    Returns
    -------
    list of str

    Raises
    ------
    UsageError
        If nothing is called so.

    Examples
    --------
    >>> from refpg.conformance.vectors import load
    >>> explanation("kl.direction", load())[0]
    'kl.direction is an axis: Direction of the mean KL between the old and the new policy'
    """
    kinds = _kinds(vectors)
    lines = [line for kind in kinds.values() if name in kind.names for line in kind.explains(name, vectors)]
    if not lines:
        known = [known for kind in kinds.values() for known in kind.names]
        close = nearest(name, [*known, *vectors.ids()])
        raise UsageError(f"there is no {' or '.join(kinds)} {name!r}{close}; `refpg explain` lists what there is")
    return lines


def contents(vectors: Vectors) -> Iterator[str]:
    """Yield the names that can be explained, by kind.

    Parameters
    ----------
    vectors : Vectors
        The whole release.

    Yields
    ------
    str
    """
    for kind, (names, _) in _kinds(vectors).items():
        yield from _entry(kind, ", ".join(names), indent="")
    yield from _entry("case", "op/slug, as `refpg vectors list` has them", indent="")


def case_explanation(case: Case) -> Iterator[str]:
    """Yield what a case is for, and what it tells, line by line.

    Parameters
    ----------
    case : Case
        The case.

    Yields
    ------
    str
    """
    yield f"{case.id}, revision {case.rev}: {case.title}"
    yield from _entry("purpose", case.purpose)
    yield from _entry("equation", f"{case.reference}  ({OPS[case.op].summary})")
    yield from _entry("dims", ", ".join(f"{letter} = {length}" for letter, length in case.dims.items()))
    yield from _entry("resolves", ", ".join(case.resolves))
    for entry in case.expected[1:]:
        yield from _entry("also", f"certified under {_pairs(entry.conventions)}")
    yield from _entry("tells", ", ".join(dict.fromkeys(wrong.bug for wrong in case.wrong)) or "no known bug")
    for route in case.provenance["routes"]:
        yield from _entry("certified", route)


def _kinds(vectors: Vectors) -> dict[str, _Kind]:
    return {
        "op": _Kind(OPS, _op),
        "axis": _Kind(vectors.axes, _axis),
        "bug": _Kind(vectors.bugs, _bug),
        "law": _Kind(LAWS, _law),
        "preset": _Kind(presets(vectors.axes), _preset),
    }


def _op(name: str, vectors: Vectors) -> Iterator[str]:
    op, cases = OPS[name], vectors.cases.get(name, ())
    yield f"{name} is an op of the profile {op.profile}: {op.summary}  {op.source}"
    for label, types in (("inputs", op.inputs), ("outputs", op.outputs)):
        yield from _entry(label, ", ".join(f"{what}: {kind}" for what, kind in types.items()))
    for axis in op.conventions:
        yield from _entry("axis", f"{axis} = {' or '.join(vectors.axes[axis].values)}")
    yield from _entry("refpg has", f"refpg.{op.chapter}")
    yield from _entry("cases", ", ".join(case.id for case in cases) or "none in this release")
    for bug in dict.fromkeys(wrong.bug for case in cases for wrong in case.wrong):
        yield from _entry("mistake", f"{bug}: {vectors.bugs[bug].title}")
    yield from _entry("laws", ", ".join(law.name for law in LAWS.values() if name in law.ops))


def _axis(name: str, vectors: Vectors) -> Iterator[str]:
    axis = vectors.axes[name]
    yield f"{name} is an axis: {axis.title}"
    for value, meaning in axis.values.items():
        yield from _entry("value", f"{value}{' (default)' if value == axis.default else ''}: {meaning}")
    yield from _entry("of", ", ".join(op.name for op in OPS.values() if name in op.conventions) or "no op")
    for preset, its in presets(vectors.axes).items():
        if name in its.conventions:
            yield from _entry("preset", f"{preset}: {its.conventions[name]}")


def _bug(name: str, vectors: Vectors) -> Iterator[str]:
    bug = vectors.bugs[name]
    yield f"{name}: {bug.title}"
    for label in ("wrong", "right", "effect", "hint", "exposes", "hides"):
        yield from _entry(label, getattr(bug, label))
    yield from _entry("seen in", ", ".join(bug.evidence))
    cases = [
        case.id for of_op in vectors.cases.values() for case in of_op if any(wrong.bug == name for wrong in case.wrong)
    ]
    yield from _entry("found by", ", ".join(cases) or "no case of this release")


def _law(name: str, vectors: Vectors) -> Iterator[str]:
    law = LAWS[name]
    yield f"{name} is a law of the subject {law.subject}: {law.statement}  {law.source}"
    yield from _entry("of", ", ".join(law.ops))
    yield from _entry("kills", ", ".join(law.kills) or "no known bug")
    yield from _entry("blind to", law.blind)


def _preset(name: str, vectors: Vectors) -> Iterator[str]:
    preset = presets(vectors.axes)[name]
    yield f"{name} is a preset: {preset.library} ({preset.looked_at})"
    yield from _entry("declares", _pairs(preset.conventions) or "nothing: no axis is touched")
    for text in preset.beyond:
        yield from _entry("beyond", text)
    yield from _entry("source", ", ".join(preset.source))


def _pairs(conventions: Mapping[str, str]) -> str:
    return ", ".join(f"{axis} = {value}" for axis, value in conventions.items())


def _entry(label: str, text: str, indent: str = "  ") -> Iterator[str]:
    """Yield a text beside its label, wrapped; nothing, if there is no text."""
    head = f"{indent}{label:<{_LABEL}}"
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
        break_long_words=False,
    )
