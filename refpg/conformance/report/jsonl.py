"""The record of a run: JSON lines with every answer that was given, so that it can be judged again.

A header says who was judged, when, where and by which vectors; one line per verdict holds the answer, exactly; the
footer counts the lines and has the SHA-256 of all bytes before it.  Without the footer the record was cut off.
``data/schema/report.schema.json`` describes each line.

Numbers are the shortest decimal that gives the same float64; what JSON has no number for is a text: ``"NaN"``,
``"Infinity"``, ``"-Infinity"``, and integers beyond 2⁵³.  An answer of more than 10 000 numbers, which no certified
one has, is not kept, only what was said of it.

A record that is read is not trusted: strict JSON, capped sizes, only known names.  What it says of itself is checked
here; what only the vectors know, by `refpg.conformance.replay`.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NoReturn

import numpy as np

from refpg.conformance.adapters import Adapter, UsageError
from refpg.conformance.diagnosis import Diagnosis
from refpg.conformance.ops import OPS, PROFILES
from refpg.conformance.report.record import Origin, ReportError, plain, plain_lines
from refpg.conformance.run import CONFORM, HARNESS, MISMATCH, NOTHING_EXECUTED, USAGE, Run
from refpg.conformance.vectors import VectorError, parse
from refpg.conformance.verdicts import Outcome, Verdict
from refpg.conformance.waivers import EXCUSABLE, Waiver
from refpg.notation import Array

SCHEMA = 1
MAX_BYTES = 128 << 20
MAX_LINE_BYTES = 4 << 20
MAX_LINES = 100_000
MAX_NUMBERS = 10_000

_MOST_AXES = 64  # as many as NumPy has
_MOST_NOTES = 100
_TOO_LARGE = "too large"
_EXACT = 2**53
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_EXITS = (CONFORM, MISMATCH, USAGE, HARNESS, NOTHING_EXECUTED)


@dataclass(frozen=True)
class Line:
    """What a record says of one case.

    Fields: the ``outcome`` without its comparisons; the ``leaves`` of the answer, None if there was none or it was
    ``too_large`` to be kept; the ``diagnosis``, None if there is none; the revision ``rev`` of the case.
    """

    outcome: Outcome
    leaves: Mapping[str, Array] | None
    too_large: bool
    diagnosis: Diagnosis | None
    rev: int


@dataclass(frozen=True)
class Recorded:
    """A record as read.

    Fields: its ``origin``; the ``release`` of the vectors and the SHA-256 of its ``index``; the ``adapter``, without
    functions; ``profiles``, ``only`` and ``waivers`` as in `Run`; the ``lines``; what the footer says: ``counts``, ops
    ``without_vectors``, ``worst_conforming`` and ``exit_code``.
    """

    origin: Origin
    release: str
    index: str
    adapter: Adapter
    profiles: tuple[str, ...]
    only: str
    waivers: Mapping[str, Waiver]
    lines: tuple[Line, ...]
    counts: Mapping[str, int]
    without_vectors: tuple[str, ...]
    worst_conforming: float | None
    exit_code: int


# Writing.


def json_lines(run: Run, origin: Origin) -> Iterator[str]:
    """Yield the record: a header, one line per verdict, a footer.

    Parameters
    ----------
    run : Run
        A finished check.
    origin : Origin
        When and where it was made.

    Yields
    ------
    str
        Strict JSON, without the end of the line.
    """
    sha256 = hashlib.sha256()
    for value in (_header(run, origin), *(_line(run, i) for i in range(len(run.outcomes)))):
        line = _json(value)
        sha256.update(f"{line}\n".encode())
        yield line
    yield _json(
        {
            "kind": "footer",
            "lines": len(run.outcomes),
            "counts": run.counts(),
            "without_vectors": list(run.without_vectors),
            "worst_conforming": run.worst_conforming,
            "exit": run.exit_code,
            "sha256": sha256.hexdigest(),
        }
    )


def _header(run: Run, origin: Origin) -> dict[str, Any]:
    return {
        "kind": "header",
        "schema": SCHEMA,
        "refpg": origin.refpg,
        "release": run.vectors.release,
        "index": run.vectors.index,
        "status": run.vectors.status,
        "target": plain(run.adapter.target),
        "name": plain(run.adapter.name),
        "version": plain(run.adapter.version),
        "notes": [plain(note) for note in run.adapter.notes[:_MOST_NOTES]],
        "dtype": dict(run.adapter.dtypes) or {"*": "float64"},
        "conventions": "all" if run.adapter.under is not None else dict(run.adapter.conventions),
        "profiles": list(run.profiles),
        "only": run.only,
        "waivers": {name: {key: plain(text) for key, text in asdict(one).items()} for name, one in run.waivers.items()},
        "date": origin.date,
        "platform": origin.platform,
        "python": origin.python,
        "numpy": origin.numpy,
        "scipy": origin.scipy,
    }


def _line(run: Run, i: int) -> dict[str, Any]:
    outcome = run.outcomes[i]
    case = run.vectors.case(outcome.case)
    line: dict[str, Any] = {
        "kind": "case",
        "id": outcome.case,
        "rev": case.rev if case is not None else 1,
        "op": outcome.op,
        "profile": OPS[outcome.op].profile,
        "verdict": outcome.verdict.value,
        "dtype": outcome.dtype,
        "conventions": dict(outcome.conventions),
        "worst": _number(outcome.worst) if outcome.comparisons else None,
    }
    if outcome.excused is not None:
        line["excused"] = outcome.excused.value
    if sum(comparison.got.size for comparison in outcome.comparisons) > MAX_NUMBERS:
        line["answer"] = _TOO_LARGE
    elif outcome.comparisons:
        line["answer"] = {comparison.path: _leaf(comparison.got) for comparison in outcome.comparisons}
    if message := plain_lines(outcome.message):
        line["message"] = message
    if printed := plain_lines(outcome.printed):
        line["printed"] = printed
    if outcome.changed:
        line["changed"] = [plain(name) for name in outcome.changed]
    if i in run.diagnoses:
        line["diagnosis"] = _diagnosis(run.diagnoses[i])
    return line


def _leaf(value: Array) -> dict[str, Any]:
    return {"shape": list(value.shape), "value": [_number(number) for number in value.ravel().tolist()]}


def _number(number: float) -> float | str:
    if isinstance(number, int):
        return number if abs(number) <= _EXACT else str(number)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "kind": diagnosis.kind,
        "complete": diagnosis.complete,
        "bugs": list(diagnosis.bugs),
        "conventions": [dict(conventions) for conventions in diagnosis.conventions],
        "lines": [[label, plain(text)] for label, text in diagnosis.lines],
    } | ({"name": plain(diagnosis.name)} if diagnosis.name else {})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


# Reading.


def read_json_lines(content: bytes) -> Recorded:
    """Read a record, and refuse one that is cut off, altered or not what a record is.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    Recorded

    Raises
    ------
    ReportError
        Which line, and what is wrong with it.
    """
    if len(content) > MAX_BYTES or content.count(b"\n") > MAX_LINES:
        raise ReportError(f"larger than {MAX_BYTES} bytes or {MAX_LINES} lines")
    *raw, end = content.split(b"\n")
    if end or not raw:
        raise ReportError("empty" if not content else "the last line has no end: the record was cut off")
    header, last = _Record(raw[0], 1), _Record(raw[-1], len(raw))
    if header.fields.get("kind") != "header":
        raise header.error("is not a header")
    if last.fields.get("kind") != "footer":
        raise last.error("is not a footer: the record was cut off")
    if hashlib.sha256(content[: -len(raw[-1]) - 1]).hexdigest() != last.fields.get("sha256"):
        raise last.error("its SHA-256 is not the one of the lines above: the record was altered or damaged")
    lines = tuple(_read_line(_Record(line, number)) for number, line in enumerate(raw[1:-1], start=2))
    return _read_ends(header, lines, last)


class _Record:
    """One line of the file; every complaint names it."""

    def __init__(self, line: bytes, number: int) -> None:
        self.where = f"line {number}"
        if len(line) > MAX_LINE_BYTES:
            raise self.error(f"longer than {MAX_LINE_BYTES} bytes")
        try:
            value = parse(line, self.where)
        except VectorError as error:
            raise ReportError(str(error)) from None
        if not isinstance(value, dict):
            raise self.error("is not a mapping")
        self.fields: dict[str, Any] = value

    def error(self, message: str) -> ReportError:
        return ReportError(f"{self.where}: {message}"[:400])

    def only(self, required: str, optional: str = "") -> None:
        missing = set(required.split()) - set(self.fields)
        unknown = set(self.fields) - set(required.split()) - set(optional.split())
        if missing or unknown:
            raise self.error(f"missing fields {sorted(missing)}, unknown fields {sorted(unknown)}")

    def refuse(self, key: str, expected: str) -> NoReturn:
        raise self.error(f"{key} is {str(self.fields[key])[:80]!r}, expected {expected}")

    def text(self, key: str) -> str:
        if not isinstance(self.fields[key], str):
            self.refuse(key, "a text")
        return str(self.fields[key])

    def one_of(self, key: str, known: Any, expected: str) -> Any:
        value = self.fields[key]
        if isinstance(value, bool) or not isinstance(value, str | int) or value not in known:
            self.refuse(key, expected)
        return value

    def count(self, key: str) -> int:
        value = self.fields[key]
        if type(value) is not int or value < 0:
            self.refuse(key, "a count")
        return int(value)

    def texts(self, key: str) -> tuple[str, ...]:
        return self._texts(key, self.fields.get(key, []))

    def _texts(self, key: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.error(f"{key} is not a list of texts")
        return tuple(value)

    def words(self, key: str, value: Any) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(word, str) for word in value.values()):
            raise self.error(f"{key} is not a mapping of texts to texts")
        return dict(value)

    def error_in_tolerances(self, key: str) -> float | None:
        value = self.fields[key]
        if value is None:
            return None
        number = _read_number(value)
        if number is None or not number >= 0:
            self.refuse(key, "a number that is not negative, or null")
        return float(number)

    def waivers(self) -> dict[str, Waiver]:
        value = self.fields["waivers"]
        if not isinstance(value, dict):
            raise self.error("waivers is not a mapping")
        waivers = {}
        for name, raw in value.items():
            words = self.words("waivers", raw)
            if set(words) != {"reason", "issue", "expires"}:
                raise self.error(f"the waiver for {name[:60]} is not a reason, an issue and a last day")
            try:
                waivers[name] = Waiver(**words)
            except UsageError as error:
                raise self.error(str(error)) from None
        return waivers

    def diagnosis(self) -> Diagnosis | None:
        value = self.fields.get("diagnosis")
        if value is None:
            return None
        if not isinstance(value, dict) or set(value) - {"name"} != {"kind", "complete", "bugs", "conventions", "lines"}:
            raise self.error("diagnosis is not a mapping of kind, complete, bugs, conventions and lines")
        if not isinstance(value.get("name", ""), str):
            raise self.error("diagnosis has a name that is not a text")
        if not isinstance(value["kind"], str) or not isinstance(value["complete"], bool):
            raise self.error("diagnosis is neither complete nor incomplete, or of no kind")
        if not isinstance(value["conventions"], list) or not isinstance(value["lines"], list):
            raise self.error("diagnosis has no list of conventions or of lines")
        lines = tuple(self._texts("diagnosis", line) for line in value["lines"])
        if any(len(line) != 2 for line in lines):
            raise self.error("diagnosis has lines that are not a label and a text")
        return Diagnosis(
            value["kind"],
            value["complete"],
            self._texts("diagnosis", value["bugs"]),
            tuple(self.words("diagnosis", conventions) for conventions in value["conventions"]),
            tuple((label, text) for label, text in lines),
            value.get("name", ""),
        )

    def leaves(self) -> dict[str, Array] | None:
        value = self.fields.get("answer")
        if value is None or value == _TOO_LARGE:
            return None
        if not isinstance(value, dict) or not value:
            raise self.error("answer is not a mapping of leaves")
        leaves = {path: self._leaf(path, leaf) for path, leaf in value.items()}
        if sum(leaf.size for leaf in leaves.values()) > MAX_NUMBERS:
            raise self.error(f"answer holds more than {MAX_NUMBERS} numbers")
        return leaves

    def _leaf(self, path: str, leaf: Any) -> Array:
        if not isinstance(leaf, dict) or set(leaf) != {"shape", "value"} or not isinstance(leaf["value"], list):
            raise self.error(f"{path[:60]} is not a shape and a value")
        shape, value = leaf["shape"], leaf["value"]
        if not isinstance(shape, list) or len(shape) > _MOST_AXES or any(type(n) is not int or n < 0 for n in shape):
            raise self.error(f"{path[:60]}: shape is not a list of at most {_MOST_AXES} lengths")
        if len(value) != math.prod(shape):
            raise self.error(f"{path[:60]}: value does not have as many numbers as its shape says")
        numbers = [_read_number(number) for number in value]
        if any(number is None for number in numbers):
            raise self.error(f"{path[:60]}: value holds something else than numbers")
        integers = bool(numbers) and all(isinstance(number, int) for number in numbers)
        try:
            return np.array(numbers, dtype=np.int64 if integers else np.float64).reshape(shape)
        except (ValueError, OverflowError):
            raise self.error(f"{path[:60]}: no array can hold it") from None


def _read_number(value: Any) -> float | int | None:
    """Return what `_number` wrote; None for anything else."""
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else _NOT_FINITE.get(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _read_line(line: _Record) -> Line:
    line.only(
        "kind id rev op profile verdict dtype conventions worst", "excused answer message printed changed diagnosis"
    )
    line.one_of("kind", ("case",), "case")
    op = line.one_of("op", OPS, "the name of an op")
    line.one_of("profile", (OPS[op].profile,), OPS[op].profile)
    if not line.text("id").startswith(f"{op}/"):
        line.refuse("id", f"that of a case of {op}")
    known = {verdict.value: verdict for verdict in Verdict}
    verdict = known[line.one_of("verdict", known, f"one of {', '.join(known)}")]
    excusable = {verdict.value: verdict for verdict in EXCUSABLE}
    if (verdict is Verdict.WAIVED) != ("excused" in line.fields):
        raise line.error("what is WAIVED, and nothing else, says what is excused")
    excused = "excused" in line.fields and line.one_of("excused", excusable, f"one of {', '.join(excusable)}")
    worst = line.error_in_tolerances("worst")
    outcome = Outcome(
        line.text("id"),
        op,
        verdict,
        line.text("dtype"),
        line.words("conventions", line.fields["conventions"]),
        math.nan if worst is None else worst,
        message="\n".join(line.texts("message")),
        printed="\n".join(line.texts("printed")),
        changed=line.texts("changed"),
        excused=excusable[excused] if excused else None,
    )
    return Line(outcome, line.leaves(), line.fields.get("answer") == _TOO_LARGE, line.diagnosis(), line.count("rev"))


def _read_ends(header: _Record, lines: tuple[Line, ...], footer: _Record) -> Recorded:
    header.only(
        "kind schema refpg release index status target name version notes dtype conventions profiles only waivers date "
        "platform python numpy scipy"
    )
    header.one_of("schema", (SCHEMA,), f"{SCHEMA}, which this version of refpg reads")
    every = header.fields["conventions"] == "all"
    adapter = Adapter(
        target=header.text("target"),
        name=header.text("name"),
        version=header.text("version"),
        ops=(),
        unsupported={},
        conventions={} if every else header.words("conventions", header.fields["conventions"]),
        dtypes=header.words("dtype", header.fields["dtype"]),
        notes=header.texts("notes"),
        under=(lambda conventions: {}) if every else None,
    )
    profiles = header.texts("profiles")
    if not profiles or not set(profiles) <= set(PROFILES):
        header.refuse("profiles", f"some of {', '.join(PROFILES)}")
    date = header.text("date")
    if not _is_date(date):
        header.refuse("date", "e.g. 2026-01-31T12:00:00Z")
    origin = Origin(date, *(header.text(key) for key in ("refpg", "python", "numpy", "scipy", "platform")))

    footer.only("kind lines counts without_vectors worst_conforming exit sha256")
    if footer.count("lines") != len(lines):
        footer.refuse("lines", f"{len(lines)}, as there are")
    counts = footer.fields["counts"]
    if not isinstance(counts, dict) or not all(type(count) is int for count in counts.values()):
        footer.refuse("counts", "a mapping to counts")
    without = footer.texts("without_vectors")
    if not set(without) <= set(OPS):
        footer.refuse("without_vectors", "names of ops")
    return Recorded(
        origin,
        header.text("release"),
        header.text("index"),
        adapter,
        profiles,
        header.text("only"),
        header.waivers(),
        lines,
        counts,
        without,
        footer.error_in_tolerances("worst_conforming"),
        footer.one_of("exit", _EXITS, "an exit code"),
    )


def _is_date(text: str) -> bool:
    try:
        return _DATE.fullmatch(text) is not None and datetime.fromisoformat(text).year > 0
    except ValueError:
        return False
