"""``python -m verification.kill_matrix``: which case tells which mistake from the truth, in each dtype, and by how far.

The matrix is computed from the published data alone: the wrong answers shipped with each case, and the tolerance of
each dtype.  It is written to ``kill_matrix.json``; what it means for the catalogue of mistakes, to
``catalogue.json``.  After any change of the data, run the command again.

An entry of the matrix is the distance between the wrong and the certified answer in tolerances, the smallest over the
conventions of the case, or the reason why there is none::

    "equal"         the mistake's answer is within 4 tolerances (float64) of the truth: this case cannot show it
    "unresolved"    the tolerance of the dtype is too coarse for this case
    "infinite"      the answer has another shape, is not a number, or has another integer
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from refpg.conformance.vectors import Case, Vectors, Wrong, load
from refpg.conformance.verdicts import compare
from refpg.files import write_whole

MATRIX = Path(__file__).parent / "kill_matrix.json"
CATALOGUE = Path(__file__).parent / "catalogue.json"

SEPARATION = 4  # tolerances between a listed wrong answer and the truth, as the certifier demands
DIGITS = 3

REASONS = {
    "equal": "the mistake's answer is within 4 tolerances of the truth: this case cannot show it",
    "unresolved": "the tolerance of the dtype is too coarse for this case",
    "infinite": "another shape, not a number, or another integer",
}


class Distance(NamedTuple):
    """How far a shipped wrong answer is from the certified one, in tolerances of a dtype the case resolves."""

    bug: str
    case: str
    conventions: Mapping[str, str]
    dtype: str
    tolerances: float


def distances(vectors: Vectors) -> Iterator[Distance]:
    """Yield the distance of every wrong answer shipped, in every dtype its case resolves."""
    for cases in vectors.cases.values():
        for case in cases:
            for wrong in case.wrong:
                for dtype in case.resolves:
                    yield Distance(wrong.bug, case.id, wrong.conventions, dtype, _distance(case, wrong, dtype, vectors))


def _distance(case: Case, wrong: Wrong, dtype: str, vectors: Vectors) -> float:
    expected = case.under(wrong.conventions)
    if expected is None:
        raise ValueError(f"{case.id} has no certified answer under the conventions of {wrong.bug}")
    answer = {path: wrong.outputs.get(path, leaf.value) for path, leaf in expected.outputs.items()}
    return max(comparison.worst for comparison in compare(answer, expected, dtype, vectors.policy))


def matrix(vectors: Vectors, found: Iterable[Distance]) -> dict[str, Any]:
    """Return the matrix: mistake → case → dtype → distance or reason.

    A mistake has an entry for every case of the ops it is known to touch.
    """
    nearest: dict[tuple[str, str, str], float] = {}
    for one in found:
        place = one.bug, one.case, one.dtype
        nearest[place] = min(one.tolerances, nearest.get(place, math.inf))
    touched = {(bug, case.split("/")[0]) for bug, case, _ in nearest}
    rows: dict[str, dict[str, dict[str, float | str]]] = {}
    for bug, op in sorted(touched):
        for case in vectors.cases[op]:
            rows.setdefault(bug, {})[case.id] = {
                dtype: _entry(case, dtype, nearest.get((bug, case.id, dtype))) for dtype in vectors.policy.unit_roundoff
            }
    return {"schema": 1, "release": vectors.release, "reasons": REASONS, "matrix": rows}


def _entry(case: Case, dtype: str, distance: float | None) -> float | str:
    if dtype not in case.resolves:
        return "unresolved"
    if distance is None:
        return "equal"
    return "infinite" if math.isinf(distance) else float(f"{distance:.{DIGITS - 1}e}")


def killing_ops(found: Iterable[Distance]) -> dict[str, list[str]]:
    """Return mistake → the ops in which some case tells it from the truth in float64."""
    ops: dict[str, set[str]] = {}
    for one in found:
        if one.dtype == "float64" and one.tolerances >= SEPARATION:
            ops.setdefault(one.bug, set()).add(one.case.split("/")[0])
    return {bug: sorted(names) for bug, names in ops.items()}


def catalogue(known: Mapping[str, Mapping[str, Any]], killed: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the catalogue brought up to date: the ops of what is killed; what is not keeps the reason it has.

    Parameters
    ----------
    known : mapping
        Id → {"ops": [...]}, {"reason": text} or {"same_as": id}.
    killed : mapping
        From `killing_ops`.

    Returns
    -------
    dict
        An id that is no longer killed has no ops and no reason: someone must write one.
    """
    return {
        bug: {"ops": killed[bug]} if bug in killed else {key: text for key, text in entry.items() if key != "ops"}
        for bug, entry in known.items()
    }


def read(path: Path) -> dict[str, Any]:
    """Return a committed document."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def regenerated() -> dict[Path, str]:
    """Return the text of both files, from the published data and the reasons written by hand."""
    vectors = load()
    found = list(distances(vectors))
    known = read(CATALOGUE)
    return {
        MATRIX: layout(matrix(vectors, found)),
        CATALOGUE: layout(known | {"bugs": catalogue(known["bugs"], killing_ops(found))}),
    }


def layout(document: dict[str, Any]) -> str:
    """Write JSON with one record per line: a small difference shows as a small difference."""
    return "".join(_lines(document, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    if not isinstance(value, dict) or not any(isinstance(part, dict) for part in value.values()):
        yield json.dumps(value, ensure_ascii=False, allow_nan=False)
        return
    yield "{"
    for number, (name, part) in enumerate(value.items()):
        yield f"{',' if number else ''}\n{indent} {json.dumps(name, ensure_ascii=False)}: "
        yield from _lines(part, indent + " ")
    yield f"\n{indent}}}"


def main() -> int:
    """Write both files; return 1 if a mistake of the catalogue is left without a reason."""
    for path, text in regenerated().items():
        write_whole(path, text.encode())
    rows, bugs = read(MATRIX)["matrix"], read(CATALOGUE)["bugs"]
    print(f"{len(rows)} mistakes, {len({case for row in rows.values() for case in row})} cases")
    killed = sum("ops" in entry for entry in bugs.values())
    print(f"catalogue: {len(bugs)} ids, {killed} killed, {len(bugs) - killed} not")
    left = [bug for bug, entry in bugs.items() if not entry]
    for bug in left:
        print(f"{bug} is no longer killed and has no reason: write one in {CATALOGUE.name}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
