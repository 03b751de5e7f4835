"""The vectors as lines of words, for languages without a JSON parser: one file per op, nothing nested.

`FORMAT` is the documentation, and goes into the README of every export.
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refpg.conformance.signatures import output_of
from refpg.conformance.vectors import Case, Expected, VectorError, Vectors
from refpg.notation import Array

FORMAT = """\
A file is ASCII text; a line is words with one blank between them.  The first word says what the line is, the second of
what; how many follow is always known from the words before them, so that `scanf` can read them, and entries begin at
the sixth.  A reader skips the lines it has no use for.  Lines come in this order, and nothing refers to a later one:

```
refpg-vectors 1 RELEASE OP N           first line: form 1, the release, the op, the number of cases that follow
tolerance DTYPE U FACTOR FLOOR         the constants of the tolerance, U the unit roundoff; one line per dtype
case ID REV STABILITY                  a case begins; STABILITY is 1 if only a carefully arranged formula has its digits
resolves DTYPE                         the case is worth judging in this dtype; one line each
dim LETTER int 1 - LENGTH              the length of a shape letter
input NAME KIND SIZE SHAPE ENTRY…      an input
answer N AXIS VALUE …                  a certified answer begins, under N conventions; the first has N = 0: the defaults
value NAME KIND SIZE SHAPE ENTRY…      a leaf of the answer: the certified values; its lines up to R follow it
bits NAME bits SIZE SHAPE ENTRY…       the same numbers, as the 16 hexadecimal digits of each float64
radius NAME float 1 - ENTRY            the truth is within this distance of value
largest NAME float 1 - ENTRY           the largest R of the whole output that the leaf belongs to
R NAME float SIZE SHAPE ENTRY…         the amplification of rounding, entry by entry: all is there to judge the leaf
mistake BUG N AXIS VALUE …             the answer of a known bug begins (bugs.json says what it is), under N conventions
wrong NAME KIND SIZE SHAPE ENTRY…      a leaf of it; leaves not listed are as certified
end ID                                 the case is complete
```

KIND is `float`, `int`, `bool` (entries 0 and 1), `str` (one word) or `bits`.  SIZE is the number of entries.  SHAPE is
one word, `-` for a scalar and else the lengths: `6x4` is a matrix of 6 rows; the last index is the fastest.  A float is
the shortest decimal that reads back as the same float64; entries of `wrong` may be `NaN`, which stands for anything not
finite.  An output of kind `int` is exact: it has no `bits` and no `radius`, and its R is 0.

Nested inputs are spread over lines: `policy.layers[0].W`, `policy.layers[0].b`, …, `policy.log_std`,
`policy.activation`; a list of lists of unequal lengths is `name[0]`, `name[1]`, …

An implementation conforms in a dtype if for every entry i of every leaf

    |answer_i − value_i| ≤ FACTOR · U · max(R_i, FLOOR · largest) + ½ ulp(value_i)

where ulp(y) is the distance from |y| to the next larger float64.  An answer that is NaN does not conform.
"""

_ORDER = re.compile(r"(resolves )+(dim )*(input )+(answer (value (bits radius )?largest R )+)+(mistake (wrong )+)*")
_NUMBER = {
    "float": re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?"),
    "int": re.compile(r"-?[0-9]{1,16}"),
    "bool": re.compile(r"[01]"),
    "bits": re.compile(r"[0-9a-f]{16}"),
    "str": re.compile(r"\S+"),
}
_SHAPE = re.compile(r"-|[1-9][0-9]{0,6}(x[1-9][0-9]{0,6})*")
_DTYPE = {np.dtype(np.float64): "float", np.dtype(np.int64): "int", np.dtype(np.bool_): "bool"}


@dataclass(frozen=True)
class TextCase:
    """A case as lines: ``id``, ``rev``, ``stability``, and the ``lines`` between ``case`` and ``end``."""

    id: str
    rev: int
    stability: bool
    lines: tuple[str, ...]


@dataclass(frozen=True)
class TextFile:
    """A file of the line-based form: its ``release`` and ``op``, the lines of ``constants``, the ``cases``."""

    release: str
    op: str
    constants: tuple[str, ...]
    cases: tuple[TextCase, ...]


def text_of(op: str, vectors: Vectors) -> str:
    """Return the file of an op, as `FORMAT` documents it.

    Parameters
    ----------
    op : str
        An op the release has cases of.
    vectors : Vectors
        The release.

    Returns
    -------
    str
        Lines, each ended by a newline.

    Raises
    ------
    VectorError
        If a string among the inputs is not one word.
    """
    lines = [f"refpg-vectors 1 {vectors.release} {op} {len(vectors.cases[op])}", *constants_of(vectors)]
    for case in vectors.cases[op]:
        lines += [f"case {case.id} {case.rev} {int(case.stability)}", *lines_of(case), f"end {case.id}"]
    return "".join(f"{line}\n" for line in lines)


def constants_of(vectors: Vectors) -> list[str]:
    """Return the lines that hold the constants of the tolerance."""
    policy = vectors.policy
    return [f"tolerance {dtype} {u!r} {policy.factor!r} {policy.floor!r}" for dtype, u in policy.unit_roundoff.items()]


def lines_of(case: Case) -> list[str]:
    """Return what lies between the lines ``case`` and ``end``.

    Parameters
    ----------
    case : Case
        From a release that was read.

    Returns
    -------
    list of str

    Raises
    ------
    VectorError
        If a string among the inputs is not one word.
    """
    lines = [f"resolves {dtype}" for dtype in case.resolves]
    lines += [_line("dim", letter, length) for letter, length in case.dims.items()]
    for name, value in case.inputs.items():
        for path, inner in _flat(name, value):
            if isinstance(inner, str) and not _NUMBER["str"].fullmatch(inner):
                raise VectorError(f"{case.id}: the input {path} is {inner!r}, which is not one word")
            lines.append(_line("input", path, inner))
    for entry in case.expected:
        lines += [_under("answer", entry.conventions), *_answer(entry)]
    for wrong in case.wrong:
        lines.append(_under(f"mistake {wrong.bug}", wrong.conventions))
        lines += [_line("wrong", path, value) for path, value in wrong.outputs.items()]
    return lines


def _answer(entry: Expected) -> Iterator[str]:
    largest: dict[str, float] = {}
    for path, leaf in entry.outputs.items():
        output = output_of(path)
        largest[output] = max(largest.get(output, 0.0), float(leaf.amplification.max()))
    for path, leaf in entry.outputs.items():
        yield _line("value", path, leaf.value)
        if not leaf.exact:
            digits = " ".join(struct.pack(">d", y).hex() for y in leaf.value.ravel())
            yield " ".join(("bits", path, "bits", *_size_and_shape(leaf.value), digits))
            yield _line("radius", path, leaf.radius)
        yield _line("largest", path, largest[output_of(path)])
        yield _line("R", path, leaf.amplification)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Spread nested inputs over paths, in the order they have."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from _flat(f"{name}[{i}]", inner)
    else:
        yield name, value


def _under(start: str, conventions: Mapping[str, str]) -> str:
    pairs = [word for axis, value in conventions.items() for word in (axis, value)]
    return " ".join((start, str(len(conventions)), *pairs))


def _size_and_shape(array: Array) -> tuple[str, str]:
    return str(array.size), "x".join(map(str, array.shape)) or "-"


def _line(keyword: str, name: str, value: Any) -> str:
    if isinstance(value, str):
        return f"{keyword} {name} str 1 - {value}"
    array = np.asarray(value)
    entries = ("NaN" if y != y else str(int(y)) if isinstance(y, bool) else repr(y) for y in array.ravel().tolist())
    return " ".join((keyword, name, _DTYPE[array.dtype], *_size_and_shape(array), *entries))


def read(content: bytes, where: str) -> TextFile:
    """Read a file of the line-based form and check that it is exactly as `FORMAT` says.

    Parameters
    ----------
    content : bytes
        The file.
    where : str
        Named in the message.

    Returns
    -------
    TextFile

    Raises
    ------
    VectorError
        If a line, the order of the lines, a count or a number is not as documented, or value and bits differ.
    """
    if not content.isascii() or not content.endswith(b"\n"):
        raise VectorError(f"{where}: not lines of ASCII text")
    lines = content.decode("ascii").removesuffix("\n").split("\n")
    head = re.fullmatch(r"refpg-vectors 1 (\S+) (\S+) ([0-9]{1,6})", lines[0])
    if head is None:
        raise VectorError(f"{where}: the first line is {lines[0][:60]!r}, expected refpg-vectors 1 RELEASE OP N")
    starts = [i for i, line in enumerate(lines) if line.startswith("case ")]
    constants = lines[1 : starts[0] if starts else None]
    number = _NUMBER["float"].pattern
    if not re.fullmatch(rf"(tolerance [a-z0-9]+( {number}){{3}} )+", "".join(f"{line} " for line in constants)):
        raise VectorError(f"{where}: the constants of the tolerance are not as documented")
    cases = tuple(_read_case(lines[i:j], where) for i, j in zip(starts, [*starts[1:], len(lines)], strict=True))
    if len(cases) != int(head[3]):
        raise VectorError(f"{where}: holds {len(cases)} cases, its first line says {head[3]}")
    if len({case.id for case in cases}) != len(cases):
        raise VectorError(f"{where}: two cases have the same id")
    return TextFile(head[1], head[2], tuple(constants), cases)


def _read_case(lines: list[str], where: str) -> TextCase:
    head = re.fullmatch(r"case (\S+) ([1-9][0-9]{0,5}) ([01])", lines[0])
    if head is None or lines[-1] != f"end {head[1]}":
        raise VectorError(f"{where}: {lines[0][:60]!r} is not followed by a whole case")
    body, here = lines[1:-1], f"{where}: {head[1]}"
    if not _ORDER.fullmatch("".join(f"{line.split(' ', 1)[0]} " for line in body)):
        raise VectorError(f"{here}: its lines are not in the documented order")
    sections: list[dict[tuple[str, str], tuple[tuple[str, str], list[str]]]] = [{}]
    titles = [line for line in body if line.startswith(("answer ", "mistake "))]
    if len(set(titles)) != len(titles):
        raise VectorError(f"{here}: two answers are of the same kind")
    for line in body:
        words = line.split(" ")
        if words[0] in ("answer", "mistake"):
            _check_title(words, here)
            sections.append({})
        elif words[0] != "resolves":
            key = (words[0], words[1] if len(words) > 1 else "")
            if key in sections[-1]:
                raise VectorError(f"{here}: {' '.join(key)[:80]} is there twice")
            sections[-1][key] = _read_array(words, here)
    for section in sections:
        _check_answer(section, here)
    return TextCase(head[1], int(head[2]), head[3] == "1", tuple(body))


def _check_title(words: list[str], here: str) -> None:
    rest = words[1:] if words[0] == "answer" else words[2:]
    if not rest or not re.fullmatch(r"[0-9]{1,2}", rest[0]) or len(rest) != 1 + 2 * int(rest[0]) or "" in words:
        raise VectorError(f"{here}: {' '.join(words)[:80]!r} does not say its conventions")


def _read_array(words: list[str], here: str) -> tuple[tuple[str, str], list[str]]:
    """Return kind and shape, as words, and the entries."""
    kind, size, shape = (*words[2:5], "", "", "")[:3]
    entries = words[5:]
    pattern = _NUMBER.get(kind)
    nan = words[0] == "wrong" and kind == "float"
    if (
        pattern is None
        or not _SHAPE.fullmatch(shape)
        or size != str(len(entries))
        or len(entries) != math.prod(map(int, shape.replace("-", "1").split("x")))
        or not all(pattern.fullmatch(entry) or (nan and entry == "NaN") for entry in entries)
        or (kind == "float" and any(math.isinf(float(entry)) for entry in entries))
    ):
        raise VectorError(f"{here}: {' '.join(words[:5])[:80]!r} … is not an array as documented")
    return (kind, shape), entries


def _check_answer(section: Mapping[tuple[str, str], tuple[tuple[str, str], list[str]]], here: str) -> None:
    largest: dict[str, float] = {}
    leaves = [name for keyword, name in section if keyword == "value"]
    for name in leaves:
        (kind, shape), entries = section["value", name]
        wanted = {"largest": ("float", "-"), "R": ("float", shape)}
        if kind == "float":
            wanted |= {"bits": ("bits", shape), "radius": ("float", "-")}
        if any(section.get((keyword, name), ((), []))[0] != written for keyword, written in wanted.items()):
            raise VectorError(f"{here}: {name} lacks one of {', '.join(wanted)}, or their shapes differ")
        if kind == "float" and [struct.pack(">d", float(y)).hex() for y in entries] != section["bits", name][1]:
            raise VectorError(f"{here}: {name}: value and bits are different numbers")
        amplification = [float(entry) for entry in section["R", name][1]]
        if min(amplification) < 0 or float(section["largest", name][1][0]) < max(amplification):
            raise VectorError(f"{here}: {name}: R is not between 0 and the largest")
        largest[output_of(name)] = max(largest.get(output_of(name), 0.0), max(amplification))
    for name in leaves:
        if float(section["largest", name][1][0]) != largest[output_of(name)]:
            raise VectorError(f"{here}: {name}: largest is not the largest R of the output")
