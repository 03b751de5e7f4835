"""The certified vectors: read from files that are trusted only after every check, into records that cannot change.

A release is a folder with ``index.json`` and one file per op; beside it is the knowledge by which it judges:
conventions, bugs, the policy of the tolerance, errata.  The index lists each file with its size and SHA-256.  Only
listed files are opened, none larger than stated, and no byte is parsed before its hash agrees.  JSON is read strictly:
no duplicate key, no NaN or infinity, no unknown field, no number that float64 cannot hold, no text of more than one
line.  Whatever is wrong is a `VectorError` that names the file and the place.

``data/schema`` says the same as JSON Schema, for readers in other languages, and ``python -m verification.fuzz`` holds
the two to each other.
"""

import hashlib
import json
import math
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.signatures import Shape, answer_shapes, read_inputs, read_numbers
from refpg.notation import Array

DATA = Path(__file__).parent / "data"
RELEASE = "2026.1"
KNOWLEDGE = ("bugs.json", "conventions.json", "errata.json", "policy.json")

MAX_INDEX_BYTES = 1 << 20
MAX_FILE_BYTES = 64 << 20
MAX_FILES = 1000
MAX_RECORDS = 10_000
MAX_ENTRIES = 1_000_000
MAX_AXES = 8
MAX_DEPTH = 32
MAX_MESSAGE = 300

_FILE_NAME = re.compile(r"[a-z][a-z0-9_]*\.json")
_RELEASE_NAME = re.compile(r"[0-9]{4}\.[0-9]{1,3}")
_CASE_ID = re.compile(r"([a-z0-9_]+)/[a-z0-9]+(?:[-_.][a-z0-9]+)*")
_BUG_ID = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BITS = re.compile(r"[0-9a-f]{16}")
_DTYPE = re.compile(r"[a-z][a-z0-9]*")
_AXIS = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*")
_AXIS_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+/-]*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# Texts are printed to terminals and into scripts: no control character, no end of a line, nothing that reorders what
# is read, no half of a surrogate pair.
_NOT_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_ZERO = re.compile(r"-?[0.]*[1-9]")
_LARGEST_EXACT_INTEGER = 2**53

# The knowledge is partly written by hand, in a checkout; the op files never are.
_ON_PURPOSE = " (an edit on purpose is vouched for by `python -m verification.certify --seal`)"

# From the name of a file below the data folder and a number of bytes to the content, at most so many bytes of it.
Reader = Callable[[str, int], bytes]


class VectorError(ValueError):
    """A vector file that is not what it must be: missing, altered, malformed or beyond its caps."""


@dataclass(frozen=True)
class Leaf:
    """One certified array: ``value`` within ``radius`` of the truth; ``amplification`` is R of the tolerance.

    An ``exact`` leaf holds integers and has no tolerance.
    """

    value: Array
    exact: bool
    radius: float
    amplification: Array


@dataclass(frozen=True)
class Expected:
    """A certified answer: ``outputs`` by leaf path, under ``conventions``; axes not named have their defaults."""

    conventions: Mapping[str, str]
    outputs: Mapping[str, Leaf]


@dataclass(frozen=True)
class Wrong:
    """The answer of a known ``bug`` under some ``conventions``.

    A leaf not in ``outputs`` equals the certified one; NaN, in the files null, stands for anything not finite.  The
    files write equal outputs of a bug once, with all conventions under which it gives them; here they are shared.
    """

    bug: str
    conventions: Mapping[str, str]
    outputs: Mapping[str, Array]


@dataclass(frozen=True)
class Case:
    """One test case: exact inputs, certified answers, the wrong answers of known bugs.

    Fields: ``id`` (op/slug) is permanent, ``rev`` counts its revisions; ``op`` it belongs to; ``title``, ``purpose``
    and ``reference`` (an equation) are for people; ``dims`` shape letter → length; ``inputs`` as
    `signatures.read_inputs` has them; ``shapes`` of the leaves of an answer; ``expected`` answers, first that of the
    default conventions; ``wrong`` answers, in the order of the certified ones; the dtypes it ``resolves``: in others
    the tolerance hides too much; ``provenance``, the routes by which it was certified and their precision.  A
    ``stability`` case asks for digits that only a carefully arranged formula has; ordinary correct code is not expected
    to pass.
    """

    id: str
    op: str
    rev: int
    title: str
    purpose: str
    stability: bool
    reference: str
    dims: Mapping[str, int]
    inputs: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    expected: tuple[Expected, ...]
    wrong: tuple[Wrong, ...]
    resolves: tuple[str, ...]
    provenance: Mapping[str, Any]

    def under(self, conventions: Mapping[str, str]) -> Expected | None:
        """Return the certified answer under the conventions given (defaults left out), or None."""
        return next((entry for entry in self.expected if dict(entry.conventions) == dict(conventions)), None)


@dataclass(frozen=True)
class Axis:
    """One legitimate difference between implementations: its title, default, and values with their meaning."""

    title: str
    default: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class Bug:
    """A known mistake, in words.

    Fields: ``title``; ``wrong`` is what is computed, ``right`` what should be; ``effect`` on training; ``hint`` where
    to look; what ``exposes`` and what ``hides`` it; ``evidence`` where it was seen.
    """

    title: str
    wrong: str
    right: str
    effect: str
    hint: str
    exposes: str
    hides: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Erratum:
    """What was found wrong with a published case.

    Fields: ``case`` by id and the ``rev`` that was wrong; the ``date`` it was recorded, ISO 8601; ``what`` became of
    it, ``"withdrawn"`` for good or ``"corrected"`` in a later revision; ``why``, in words.
    """

    case: str
    rev: int
    date: str
    what: str
    why: str


@dataclass(frozen=True)
class TolerancePolicy:
    """The constants of the tolerance: ``factor``, ``floor`` and ``unit_roundoff`` by dtype, explained in ``text``.

    See `refpg.conformance.tolerance`.
    """

    factor: float
    floor: float
    unit_roundoff: Mapping[str, float]
    text: str


@dataclass(frozen=True)
class Vectors:
    """A release of certified vectors with the knowledge needed to judge by them.

    Fields: ``release``, its ``status``, and the SHA-256 of its ``index``; ``cases`` by op; convention ``axes`` by name;
    ``bugs`` by id; the tolerance ``policy``; the ``errata``, in which every case withdrawn or corrected stays listed.
    """

    release: str
    status: str
    index: str
    cases: Mapping[str, tuple[Case, ...]]
    axes: Mapping[str, Axis]
    bugs: Mapping[str, Bug]
    policy: TolerancePolicy
    errata: tuple[Erratum, ...]

    def case(self, case_id: str) -> Case | None:
        """Return the case of that id, or None."""
        return next((case for case in self.cases.get(case_id.split("/")[0], ()) if case.id == case_id), None)

    def ids(self) -> list[str]:
        """Return the id of every case, in the order of the files."""
        return [case.id for cases in self.cases.values() for case in cases]


def load(data: Path = DATA, *, release: str = RELEASE, ops: Collection[str] | None = None) -> Vectors:
    """Read a release of vectors.

    Parameters
    ----------
    data : Path
        The folder holding ``conventions.json``, ``bugs.json``, ``policy.json``, ``errata.json`` and one folder per
        release.
    release : str
        The release, e.g. ``"2026.1"``.
    ops : collection of str, optional
        Read the files of these ops only; everything listed, unless given.

    Returns
    -------
    Vectors
        Every array in it is read-only.

    Raises
    ------
    VectorError
        If anything in the files is not as documented.
    """
    return read_release(lambda name, most: _read_file(data / name, most), release, ops=ops)


def read_release(read: Reader, release: str, *, ops: Collection[str] | None = None) -> Vectors:
    """Read a release of vectors from anything that holds files: a folder, an archive, memory.

    Parameters
    ----------
    read : callable
        From the name of a file, e.g. ``"2026.1/index.json"``, and a number of bytes to its content, of which no more
        than so many bytes are needed; raises `VectorError` if there is no such file.
    release, ops
        As in `load`.

    Returns
    -------
    Vectors

    Raises
    ------
    VectorError
        If anything in the files is not as documented.
    """
    if not _RELEASE_NAME.fullmatch(release):
        raise VectorError(f"{release!r} is not the name of a release, expected e.g. {RELEASE!r}")
    content = _content(read, f"{release}/index.json", MAX_INDEX_BYTES)
    here = _Place("index.json")
    index = here.document(parse(content, here.name), "schema release status knowledge files")
    if index["release"] != release:
        raise here.error(f"release is {str(index['release'])[:40]!r}, expected {release!r}")
    status = here.text(index, "status")
    seals = _read_seals(here, index["knowledge"])
    axes = _read_axes(read, seals)
    bugs = _read_bugs(read, seals)
    policy = _read_policy(read, seals)
    errata = _read_errata(read, seals)
    cases: dict[str, tuple[Case, ...]] = {}
    listed = set()
    for entry in here.records(index["files"], "name sha256 bytes cases", most=MAX_FILES):
        name = here.text(entry, "name")
        if not _FILE_NAME.fullmatch(name) or name.removesuffix(".json") not in OPS:
            raise here.error(f"{name[:60]!r} is not a file name of an op")
        op = name.removesuffix(".json")
        if op in listed:
            raise here.error(f"{name} is listed twice")
        listed.add(op)
        seal = _read_seal(here.at(name), entry, here.integer(entry, "cases", least=1))
        if ops is None or op in ops:
            cases[op] = _read_cases(read, release, seal, op, axes, bugs, policy)
    _check_errata(errata, cases)
    return Vectors(
        release,
        status,
        hashlib.sha256(content).hexdigest(),
        MappingProxyType({op: cases[op] for op in OPS if op in cases}),
        MappingProxyType(axes),
        MappingProxyType(bugs),
        policy,
        errata,
    )


def parse(content: bytes, where: str) -> Any:
    """Parse strict JSON: UTF-8, no duplicate key, no NaN, no number or text that does not survive the way.

    A number must fit float64: neither overflow, nor vanish, nor be an integer beyond ±2^53.  A text is one line without
    control characters.  Brackets nest 32 deep at most.

    Parameters
    ----------
    content : bytes
        The text.
    where : str
        Named in the message.

    Returns
    -------
    Any
        Mappings, lists, strings, numbers, booleans, None.

    Raises
    ------
    VectorError
        If it is not strict JSON.

    Examples
    --------
    >>> parse(b'{"a": [1, 0.5]}', "example")
    {'a': [1, 0.5]}
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise VectorError(f"{where}: duplicate key {twice[:60]!a}")
        return mapping

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise VectorError(f"{where}: the number {text[:40]} overflows float64")
        if number == 0 and _NOT_ZERO.match(text):
            raise VectorError(f"{where}: the number {text[:40]} vanishes in float64")
        return number

    def exact(text: str) -> int:
        # 17 characters hold ±2^53; a longer text is not even converted, which would take its length squared.
        if len(text) > 17 or abs(number := int(text)) > _LARGEST_EXACT_INTEGER:
            raise VectorError(f"{where}: the integer {text[:40]} is beyond ±2^53")
        return number

    def constant(text: str) -> float:
        raise VectorError(f"{where}: {text} is not a number")

    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=unique,
            parse_float=finite,
            parse_int=exact,
            parse_constant=constant,
        )
    except VectorError:
        raise
    except RecursionError:
        raise VectorError(f"{where}: nested too deeply") from None
    except ValueError as error:  # a syntax error, or bytes that are not UTF-8
        raise VectorError(f"{where}: {error}"[:MAX_MESSAGE]) from None
    _check_texts_and_depth(value, where)
    return value


def _check_texts_and_depth(value: Any, where: str) -> None:
    """Walk the nesting level by level; recursion is what a hostile file would exhaust."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise VectorError(f"{where}: nested more than {MAX_DEPTH} deep")
        inner: list[Any] = []
        for part in level:
            if isinstance(part, str):
                if _NOT_ONE_LINE.search(part):
                    raise VectorError(f"{where}: the text {part[:40]!a} is not one line of plain characters")
            elif isinstance(part, list):
                inner += part
            elif isinstance(part, dict):
                inner += part.keys()
                inner += part.values()
        level, depth = inner, depth + 1


def _read_file(path: Path, most: int) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise VectorError(f"{path.name}: not a regular file")
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise VectorError(f"{path.name}: cannot be read ({error.strerror})") from None


def _content(read: Reader, name: str, limit: int) -> bytes:
    content = read(name, limit + 1)
    if len(content) > limit:
        raise VectorError(f"{_last(name)}: larger than {limit} bytes")
    return content


def _document(
    read: Reader, name: str, limit: int, seals: Mapping[str, "_Seal"], fields: str
) -> tuple["_Place", dict[str, Any]]:
    """Read a file of the knowledge, of the schema this version knows, with these fields."""
    here, content = _Place(name), _content(read, name, limit)
    _check_seal(here, content, seals[name], _ON_PURPOSE)
    return here, here.document(parse(content, here.name), fields)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


class _Place:
    """Where in the files we are; every complaint names it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def at(self, part: str) -> "_Place":
        return _Place(f"{self.name}: {part}")

    def error(self, message: str) -> VectorError:
        return VectorError(f"{self.name}: {message}"[:MAX_MESSAGE])

    def mapping(self, value: Any, required: str, optional: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error("not a mapping")
        missing, unknown = set(required.split()) - set(value), set(value) - set(f"{required} {optional}".split())
        if missing or unknown:
            raise self.error(f"missing fields {sorted(missing)}, unknown fields {sorted(unknown)}")
        return value

    def records(self, value: Any, required: str, *, most: int = MAX_RECORDS) -> list[dict[str, Any]]:
        if not isinstance(value, list) or len(value) > most:
            raise self.error(f"not a list of at most {most} records")
        return [self.mapping(record, required) for record in value]

    def text(self, record: Mapping[str, Any], key: str, *, empty: bool = False) -> str:
        if not isinstance(record[key], str) or (not record[key] and not empty):
            raise self.error(f"{key} is not a text")
        return str(record[key])

    def number(self, record: Mapping[str, Any], key: str, *, least: float, most: float = 1e300) -> float:
        value = record[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.error(f"{key} is not a number between {least} and {most}")
        return float(value)

    def integer(self, record: Mapping[str, Any], key: str, *, least: int) -> int:
        value = record[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(f"{key} is not an integer of at least {least}")
        return value

    def boolean(self, record: Mapping[str, Any], key: str) -> bool:
        if not isinstance(record[key], bool):
            raise self.error(f"{key} is not true or false")
        return bool(record[key])

    def texts(self, value: Any, *, least: int = 0) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
            raise self.error("not a list of texts")
        if len(value) < least:
            raise self.error("an empty list")
        return tuple(value)

    def document(self, value: Any, fields: str) -> dict[str, Any]:
        record = self.mapping(value, fields)
        if type(record["schema"]) is not int or record["schema"] != 1:
            raise self.error(f"schema is {str(record['schema'])[:20]!r}, this version of refpg reads 1")
        return record


def _read_axes(read: Reader, seals: Mapping[str, "_Seal"]) -> dict[str, Axis]:
    here, content = _document(read, "conventions.json", MAX_INDEX_BYTES, seals, "schema axes")
    axes = {}
    for name, raw in _items(here, content["axes"]):
        there = here.at(name[:60])
        if not _AXIS.fullmatch(name):
            raise there.error("not the name of an axis")
        record = there.mapping(raw, "title default values")
        values = {value: there.text(record["values"], value) for value, _ in _items(there, record["values"])}
        if not all(_AXIS_VALUE.fullmatch(value) for value in values):
            raise there.error(f"the values are {list(values)}, expected short words")
        if not isinstance(record["default"], str) or record["default"] not in values:
            raise there.error("default is not one of the values")
        axes[name] = Axis(there.text(record, "title"), record["default"], MappingProxyType(values))
    for op in OPS.values():
        if not set(op.conventions) <= set(axes):
            raise here.error(f"{op.name} needs the axes {list(op.conventions)}")
    return axes


def _read_bugs(read: Reader, seals: Mapping[str, "_Seal"]) -> dict[str, Bug]:
    here, content = _document(read, "bugs.json", MAX_FILE_BYTES, seals, "schema bugs")
    bugs = {}
    for name, raw in _items(here, content["bugs"]):
        there = here.at(name[:60])
        if not _BUG_ID.fullmatch(name):
            raise there.error("not the id of a bug")
        fields = "title wrong right effect hint exposes hides"
        record = there.mapping(raw, f"{fields} evidence")
        texts = {field: there.text(record, field, empty=field != "title") for field in fields.split()}
        bugs[name] = Bug(**texts, evidence=there.texts(record["evidence"]))
    return bugs


def _read_policy(read: Reader, seals: Mapping[str, "_Seal"]) -> TolerancePolicy:
    here, content = _document(read, "policy.json", MAX_INDEX_BYTES, seals, "schema factor floor unit_roundoff text")
    roundoff = {}
    for dtype, _ in _items(here, content["unit_roundoff"]):
        if not _DTYPE.fullmatch(dtype):
            raise here.error(f"{dtype[:40]!r} is not the name of a dtype")
        roundoff[dtype] = here.number(content["unit_roundoff"], dtype, least=0.0)
        if not 0 < roundoff[dtype] < 1:
            raise here.error(f"unit_roundoff of {dtype} is not between 0 and 1")
    if "float64" not in roundoff:
        raise here.error("unit_roundoff lacks float64")
    return TolerancePolicy(
        here.number(content, "factor", least=1.0, most=1000.0),
        here.number(content, "floor", least=0.0, most=1.0),
        MappingProxyType(roundoff),
        here.text(content, "text"),
    )


def _read_errata(read: Reader, seals: Mapping[str, "_Seal"]) -> tuple[Erratum, ...]:
    here, content = _document(read, "errata.json", MAX_INDEX_BYTES, seals, "schema errata")
    errata: dict[tuple[str, int], Erratum] = {}
    for record in here.records(content["errata"], "case rev date what why"):
        identity = here.text(record, "case")
        there = here.at(identity[:60])
        if not _CASE_ID.fullmatch(identity):
            raise there.error("not the id of a case")
        if record["what"] not in ("withdrawn", "corrected"):
            raise there.error(f"what is {str(record['what'])[:40]!r}, expected withdrawn or corrected")
        day = there.text(record, "date")
        if not _is_date(day):
            raise there.error(f"date is {day[:40]!r}, expected e.g. 2026-01-31")
        rev = there.integer(record, "rev", least=1)
        if (identity, rev) in errata:
            raise there.error(f"revision {rev} is listed twice")
        errata[identity, rev] = Erratum(identity, rev, day, record["what"], there.text(record, "why"))
    return tuple(errata.values())


def _is_date(text: str) -> bool:
    try:
        return _DATE.fullmatch(text) is not None and date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _check_errata(errata: tuple[Erratum, ...], cases: Mapping[str, tuple[Case, ...]]) -> None:
    """Refuse a case that is present although it was withdrawn, or in a revision that was corrected."""
    present = {case.id: case.rev for of_op in cases.values() for case in of_op}
    for erratum in errata:
        if erratum.case not in present:
            continue
        if erratum.what == "withdrawn":
            raise VectorError(f"errata.json: {erratum.case} was withdrawn on {erratum.date}, and is still present")
        if present[erratum.case] <= erratum.rev:
            raise VectorError(f"errata.json: {erratum.case} was corrected after revision {erratum.rev}")


def _items(here: _Place, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise here.error("not a mapping")
    return list(value.items())


class _Seal(NamedTuple):
    """What the index says about a file; knowledge has no ``cases``."""

    name: str
    sha256: str
    size: int
    cases: int


def _read_seals(here: _Place, raw: Any) -> dict[str, _Seal]:
    """Read what the index says about the knowledge: about each of its files, and no other."""
    entries = here.records(raw, "name sha256 bytes")
    seals = {name: _read_seal(here.at(name), entry) for entry in entries if (name := here.text(entry, "name"))}
    if sorted(entry["name"] for entry in entries) != sorted(KNOWLEDGE):
        raise here.error(f"knowledge is {[name[:20] for name in seals][:8]}, expected {', '.join(KNOWLEDGE)}")
    return seals


def _read_seal(here: _Place, entry: Mapping[str, Any], cases: int = 0) -> _Seal:
    size = here.integer(entry, "bytes", least=2)
    if not isinstance(entry["sha256"], str) or not _SHA256.fullmatch(entry["sha256"]):
        raise here.error("sha256 is not 64 hexadecimal digits")
    if size > MAX_FILE_BYTES:
        raise here.error(f"larger than {MAX_FILE_BYTES} bytes")
    return _Seal(entry["name"], entry["sha256"], size, cases)


def _check_seal(here: _Place, content: bytes, seal: _Seal, on_purpose: str = "") -> None:
    if len(content) != seal.size:
        raise here.error(f"has {len(content)} bytes, the index says {seal.size}{on_purpose}")
    if hashlib.sha256(content).hexdigest() != seal.sha256:
        raise here.error(f"its SHA-256 is not the one of the index; the file was altered or damaged{on_purpose}")


def _read_cases(
    read: Reader,
    release: str,
    seal: _Seal,
    op: str,
    axes: Mapping[str, Axis],
    bugs: Mapping[str, Bug],
    policy: TolerancePolicy,
) -> tuple[Case, ...]:
    here = _Place(seal.name)
    content = _content(read, f"{release}/{seal.name}", seal.size)
    _check_seal(here, content, seal)
    record = here.document(parse(content, seal.name), "schema op cases")
    if record["op"] != op:
        raise here.error(f"op is {str(record['op'])[:40]!r}, expected {op!r}")
    fields = "id rev title purpose stability reference dims inputs expected wrong resolves provenance"
    raw_cases = here.records(record["cases"], fields)
    if len(raw_cases) != seal.cases:
        raise here.error(f"holds {len(raw_cases)} cases, the index says {seal.cases}")
    cases = tuple(_read_case(here, raw, op, axes, bugs, policy) for raw in raw_cases)
    if len({case.id for case in cases}) != len(cases):
        raise here.error("two cases have the same id")
    return cases


def _read_case(
    file: _Place,
    raw: Mapping[str, Any],
    op: str,
    axes: Mapping[str, Axis],
    bugs: Mapping[str, Bug],
    policy: TolerancePolicy,
) -> Case:
    identity = file.text(raw, "id")
    match = _CASE_ID.fullmatch(identity)
    if match is None or match[1] != op:
        raise file.error(f"{identity[:60]!r} is not the id of a case of {op}")
    here = file.at(identity)
    try:
        inputs, lengths = read_inputs(OPS[op], here.mapping(raw["inputs"], " ".join(OPS[op].inputs)))
        shapes = answer_shapes(OPS[op], inputs, lengths)
    except VectorError:
        raise
    except ValueError as error:
        raise here.error(str(error)) from None
    dims = {letter: here.integer(raw["dims"], letter, least=1) for letter, _ in _items(here, raw["dims"])}
    if any(lengths.get(letter) != length for letter, length in dims.items()):
        raise here.error(f"dims are {dims}, the inputs have {lengths}")
    expected = tuple(
        _read_expected(here, entry, op, shapes, axes) for entry in here.records(raw["expected"], "conventions outputs")
    )
    if not expected or expected[0].conventions:
        raise here.error("the first expected answer is not that of the default conventions")
    if len({frozenset(entry.conventions.items()) for entry in expected}) != len(expected):
        raise here.error("two expected answers have the same conventions")
    wrong = [
        answer
        for entry in here.records(raw["wrong"], "bug conventions outputs")
        for answer in _read_wrong(here, entry, op, shapes, axes, bugs)
    ]
    _check_wrong(here, wrong, expected)
    resolves = here.at("resolves").texts(raw["resolves"], least=1)
    if len(set(resolves)) != len(resolves) or not set(resolves) <= set(policy.unit_roundoff):
        raise here.error(f"resolves is {list(resolves)}, expected some of {list(policy.unit_roundoff)}")
    provenance = _read_provenance(here.at("provenance"), raw["provenance"])
    return Case(
        identity,
        op,
        here.integer(raw, "rev", least=1),
        here.text(raw, "title"),
        here.text(raw, "purpose"),
        here.boolean(raw, "stability"),
        here.text(raw, "reference"),
        MappingProxyType(lengths | dims),
        frozen(inputs),
        MappingProxyType(shapes),
        expected,
        _ordered(wrong, expected),
        resolves,
        frozen(provenance),
    )


def _read_provenance(here: _Place, raw: Any) -> dict[str, Any]:
    provenance = here.mapping(raw, "routes precision_bits", "agreement_bits amplification")
    for field in {"routes", "amplification"} & set(provenance):
        here.at(field).texts(provenance[field], least=1)
    for field in {"precision_bits", "agreement_bits"} & set(provenance):
        here.integer(provenance, field, least=1)
    return provenance


def _read_conventions(here: _Place, raw: Any, op: str, axes: Mapping[str, Axis]) -> Mapping[str, str]:
    for axis, value in _items(here, raw):
        if axis not in OPS[op].conventions or not isinstance(value, str) or value not in axes[axis].values:
            raise here.error(f"{axis[:40]} = {str(value)[:40]} is not a convention of {op}")
    return MappingProxyType({axis: value for axis, value in raw.items() if value != axes[axis].default})


def _read_expected(
    case: _Place, raw: Mapping[str, Any], op: str, shapes: Mapping[str, Shape], axes: Mapping[str, Axis]
) -> Expected:
    here = case.at("expected")
    conventions = _read_conventions(here, raw["conventions"], op, axes)
    outputs = here.mapping(raw["outputs"], " ".join(shapes))
    return Expected(
        conventions,
        MappingProxyType({path: _read_leaf(here.at(path), outputs[path], shapes[path]) for path in shapes}),
    )


def _read_leaf(here: _Place, raw: Any, shape: Shape) -> Leaf:
    if shape.kind == "int":
        record = here.mapping(raw, "shape value exact")
        if record["exact"] is not True:
            raise here.error("an integer output is exact")
        value = _read_array(here, record, "int", shape.lengths)
        return Leaf(value, True, 0.0, _frozen_array(np.zeros(value.shape)))
    record = here.mapping(raw, "shape value bits radius R")
    value = _read_array(here, record, "float", shape.lengths)
    bits = here.at("bits").texts(record["bits"])
    if len(bits) != value.size or not all(_BITS.fullmatch(text) for text in bits):
        raise here.error(f"bits is not a list of {value.size} × 16 hexadecimal digits")
    if [int(text, 16) for text in bits] != value.ravel().view(np.uint64).tolist():
        raise here.error("value and bits are different numbers")
    amplification = _read_array(here, {"shape": record["shape"], "value": record["R"]}, "float", shape.lengths)
    if (amplification < 0).any():
        raise here.error("R is negative")
    return Leaf(value, False, here.number(record, "radius", least=0.0), amplification)


def _read_wrong(
    case: _Place,
    raw: Mapping[str, Any],
    op: str,
    shapes: Mapping[str, Shape],
    axes: Mapping[str, Axis],
    bugs: Mapping[str, Bug],
) -> list[Wrong]:
    """Return an answer once under each of its conventions, the arrays shared."""
    bug = case.text(raw, "bug")
    here = case.at(f"wrong {bug[:60]}")
    if bug not in bugs:
        raise here.error("is not in bugs.json")
    combinations = raw["conventions"]
    if not isinstance(combinations, list) or not 1 <= len(combinations) <= MAX_RECORDS:
        raise here.error(f"conventions is not a list of 1 to {MAX_RECORDS} combinations")
    outputs = {}
    for path, leaf in _items(here, raw["outputs"]):
        if path not in shapes:
            raise here.error(f"{path[:60]!r} is not a leaf of the answer")
        record = here.at(path).mapping(leaf, "shape value")
        outputs[path] = _read_wrong_array(here.at(path), record, shapes[path].kind)
    if not outputs:
        raise here.error("has no output")
    shared = MappingProxyType(outputs)
    return [Wrong(bug, _read_conventions(here, conventions, op, axes), shared) for conventions in combinations]


def _check_wrong(case: _Place, wrong: list[Wrong], expected: tuple[Expected, ...]) -> None:
    certified = {frozenset(entry.conventions.items()) for entry in expected}
    told = set()
    for entry in wrong:
        here, conventions = case.at(f"wrong {entry.bug}"), frozenset(entry.conventions.items())
        if conventions not in certified:
            raise here.error(f"there is no certified answer under {dict(entry.conventions)}")
        if (entry.bug, conventions) in told:
            raise here.error(f"two answers under {dict(entry.conventions)}")
        told.add((entry.bug, conventions))


def _ordered(wrong: list[Wrong], expected: tuple[Expected, ...]) -> tuple[Wrong, ...]:
    """Sort by the certified answer of the same conventions; those of the same one stay as they stand in the file."""
    place = {frozenset(entry.conventions.items()): number for number, entry in enumerate(expected)}
    return tuple(sorted(wrong, key=lambda entry: place[frozenset(entry.conventions.items())]))


def _read_wrong_array(here: _Place, record: Mapping[str, Any], kind: str) -> Array:
    flat = record["value"]
    if kind != "float" or not isinstance(flat, list) or None not in flat:
        return _read_array(here, record, kind, None)
    zeroed = dict(record) | {"value": [0.0 if value is None else value for value in flat]}
    array = _read_array(here, zeroed, kind, None).copy()
    array[np.array([value is None for value in flat]).reshape(array.shape)] = np.nan
    return _frozen_array(array)


def _read_array(here: _Place, record: Mapping[str, Any], kind: str, expected: tuple[int, ...] | None) -> Array:
    """Read a flat C-order list; a wrong answer may have a shape of its own (``expected`` None)."""
    shape, flat = record["shape"], record["value"]
    if not isinstance(shape, list) or len(shape) > MAX_AXES:
        raise here.error(f"shape is not a list of at most {MAX_AXES} lengths")
    if not all(type(length) is int and 1 <= length <= MAX_ENTRIES for length in shape):
        raise here.error(f"shape is not a list of lengths between 1 and {MAX_ENTRIES}")
    if expected is not None and tuple(shape) != expected:
        raise here.error(f"shape is {shape}, expected {list(expected)}")
    if not isinstance(flat, list) or len(flat) > MAX_ENTRIES or len(flat) != math.prod(shape):
        raise here.error("value does not have as many entries as its shape says")
    if any(isinstance(entry, list) for entry in flat):
        raise here.error("value is not a flat list")
    try:
        return _frozen_array(read_numbers("value", flat, kind).reshape(shape))
    except ValueError as error:
        raise here.error(str(error)) from None


def _frozen_array(array: Array) -> Array:
    array.setflags(write=False)
    return array


def frozen(value: Any) -> Any:
    """Return nested mappings, lists and arrays as read-only ones."""
    if isinstance(value, np.ndarray):
        return _frozen_array(value)
    if isinstance(value, dict):
        return MappingProxyType({key: frozen(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return tuple(frozen(inner) for inner in value)
    return value
