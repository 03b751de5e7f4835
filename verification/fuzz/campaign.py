"""The loader and the referee held to each other, on one mutated release after another.

Each release is a function of a seed and its number alone, so a finding is reproduced by these two.
"""

import json
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from types import FrameType
from typing import Any, NamedTuple

from refpg.conformance.ops import OPS
from refpg.conformance.vectors import Axis, Case, VectorError, Vectors, read_release
from verification.fuzz import mutations, referee, seeds

SECONDS = 2.0
LONGEST_MESSAGE = 400
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_KNOWLEDGE = {"conventions.json", "bugs.json", "policy.json", "errata.json", seeds.INDEX}
ALLOWED = _KNOWLEDGE | {f"{seeds.RELEASE}/{op}.json" for op in OPS}

REFUSED, ACCEPTED = "refused", "accepted"
THE_SAME, OTHERWISE = "says what it said before", "says something else that is valid"


class Finding(NamedTuple):
    """What must not happen: the ``number`` of the release, what was ``done`` to it, what is ``amiss``, the files."""

    number: int
    done: str
    amiss: str
    files: dict[str, bytes]


class Result(NamedTuple):
    """What came of one release: the ``kind`` of mutation, REFUSED or ACCEPTED and why, and a finding if there is one.

    ``why`` is the referee's reason for what is refused, and THE_SAME or OTHERWISE for what is accepted.
    """

    kind: str
    outcome: str
    why: str
    finding: Finding | None


class Hang(BaseException):
    """The loader used its time up; no `Exception`, so that nothing in it can catch this."""


def run(count: int, seed: int, first: int = 0) -> Iterator[Result]:
    """Mutate one release after another, and yield what came of each."""
    for number in range(first, first + count):
        random = Random(f"{seed}/{number}")
        trees = seeds.release(random)
        before = _said(trees, "preview")
        done, files = mutations.mutated(trees, random)
        outcome, why, amiss = judged(files)
        if outcome == ACCEPTED and not amiss:
            read = {name: referee.strict_json(content) for name, content in files.items()}
            why = THE_SAME if _said(read, read[seeds.INDEX]["status"]) == before else OTHERWISE
        finding = Finding(number, done, amiss, files) if amiss else None
        yield Result(done.partition(":")[0], outcome, why, finding)


def _said(trees: Mapping[str, Any], status: str) -> str:
    """Return what a release says, however it is written; the rest of its index follows from the files."""
    said = {name: tree for name, tree in trees.items() if name != seeds.INDEX}
    return json.dumps([status, said], sort_keys=True)


def judged(files: dict[str, bytes]) -> tuple[str, str, str]:
    """Load a release, and return REFUSED or ACCEPTED, the referee's reason, and what is amiss; empty if nothing."""
    read, asked = reader(files)
    start = time.process_time()
    try:
        with limited(SECONDS):
            vectors = read_release(read, seeds.RELEASE)
        outcome, amiss = ACCEPTED, ""
    except VectorError as error:
        outcome, amiss = REFUSED, _complaint(str(error))
    except Hang:
        return REFUSED, "", f"not done after {SECONDS} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return REFUSED, "", f"{type(error).__name__}: {error}"
    if time.process_time() - start > SECONDS:
        return outcome, "", f"took {time.process_time() - start:.1f} s"
    if not asked <= ALLOWED:
        return outcome, "", f"opened {sorted(asked - ALLOWED)}"
    why = referee.reason(files, seeds.RELEASE)
    if outcome == ACCEPTED:
        return outcome, why, f"accepted, although: {why}" if why else unfaithful(vectors, files)
    return outcome, why, amiss if why else "refused, although the referee finds nothing: " + _message(files)


def reader(files: Mapping[str, bytes]) -> tuple[Callable[[str, int], bytes], set[str]]:
    """Return a function that hands out the files as a folder would, and the set of names it was asked for."""
    asked: set[str] = set()

    def read(name: str, most: int) -> bytes:
        asked.add(name)
        if name not in files:
            raise VectorError(f"{name}: no such file")
        return files[name][:most]

    return read, asked


def unfaithful(vectors: Vectors, files: Mapping[str, bytes]) -> str:
    """Return where the records are not what the files say, certified numbers bit by bit; empty if nowhere."""
    for op, cases in vectors.cases.items():
        for raw in referee.strict_json(files[f"{seeds.RELEASE}/{op}.json"])["cases"]:
            case = next(case for case in cases if case.id == raw["id"])
            for entry, said in zip(case.expected, raw["expected"], strict=True):
                for path, leaf in said["outputs"].items():
                    value = entry.outputs[path].value
                    read = value.ravel().tolist() if "exact" in leaf else value.astype(">f8").tobytes().hex()
                    if read != (leaf["value"] if "exact" in leaf else "".join(leaf["bits"])):
                        return f"{raw['id']} {path} was read as other numbers"
            if amiss := _misattributed(case, raw["wrong"], vectors.axes):
                return f"{raw['id']} {amiss}"
    return ""


def _misattributed(case: Case, said: Any, axes: Mapping[str, Axis]) -> str:
    """Return under which conventions a wrong answer is not the one the file says; empty if under none."""
    read = {(wrong.bug, *sorted(wrong.conventions.items())): wrong.outputs for wrong in case.wrong}
    for entry in said:
        numbers = {path: leaf["value"] for path, leaf in entry["outputs"].items()}
        for conventions in entry["conventions"]:
            named = sorted((axis, value) for axis, value in conventions.items() if value != axes[axis].default)
            outputs = read.pop((entry["bug"], *named), {})
            flat = {path: [None if x != x else x for x in array.ravel().tolist()] for path, array in outputs.items()}
            if flat != numbers:
                return f"{entry['bug']} under {dict(named)} was read as another answer"
    return f"has answers nobody gave: {list(read)}" if read else ""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `Hang` inside when so many seconds of processor time have been used."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Tally(NamedTuple):
    """How many: ``kinds`` by kind and outcome, ``reasons`` by outcome and why; and the ``findings`` themselves."""

    kinds: Counter[tuple[str, str]]
    reasons: Counter[tuple[str, str]]
    findings: list[Finding]


def tally(results: Iterator[Result]) -> Tally:
    """Count outcomes by kind and by reason, and collect the findings."""
    counted = Tally(Counter(), Counter(), [])
    for kind, outcome, why, finding in results:
        counted.kinds[kind, outcome] += 1
        counted.reasons[outcome, why] += 1
        if finding is not None:
            counted.findings.append(finding)
    return counted


def _complaint(message: str) -> str:
    if len(message) > LONGEST_MESSAGE or _UNPRINTABLE.search(message) or ":" not in message:
        return f"a message that is no short line with its place: {message[:200]!a}"
    return ""


def _message(files: dict[str, bytes]) -> str:
    try:
        read_release(reader(files)[0], seeds.RELEASE)
    except VectorError as error:
        return str(error)
    return "nothing"
