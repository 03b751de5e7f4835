"""``python -m verification.accuracy``: refpg's own error in float64, in units in the last place, op by op.

The answers are those of refpg's adapter, on every case and under every convention with a certified answer; the
certified values are correctly rounded, so half a unit of what is shown may be theirs.  The table is printed, and
written into README.md between its two markers.

::

    ulp error of an entry    |got − y| / ulp(y)                  y ≠ 0
    normwise                 max_i |got_i − y_i| / ulp(max_i |y_i|), per leaf of an answer
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refpg.conformance.run import check
from refpg.conformance.signatures import output_of
from refpg.conformance.verdicts import Comparison, Outcome, entry_errors
from verification.marked import rewrite

README = Path(__file__).parent / "README.md"
MARK = "accuracy"


class Row(NamedTuple):
    """The errors of one output of an op over all its cases, in ulps.

    Fields: ``answers`` compared and ``entries`` in them; ``median`` and ``worst`` over the entries that are not zero;
    ``normwise``, the worst over leaves; ``where`` the worst entry is.
    """

    op: str
    output: str
    answers: int
    entries: int
    median: float
    worst: float
    normwise: float
    where: str


def measure() -> list[Row]:
    """Return a row for every output of every op that is not an integer, in the order of the contract."""
    groups: dict[tuple[str, str], list[tuple[Outcome, Comparison]]] = {}
    for outcome in check(None).outcomes:
        for comparison in outcome.comparisons:
            if not comparison.exact:
                groups.setdefault((outcome.op, output_of(comparison.path)), []).append((outcome, comparison))
    return [_row(op, output, compared) for (op, output), compared in groups.items()]


def ulps(got: np.ndarray, certified: np.ndarray) -> np.ndarray:
    """Return the errors of the entries that are not zero, in ulps of the certified value.

    Examples
    --------
    >>> import numpy as np
    >>> ulps(np.array([1.0, 1.0 + 2**-51, 0.0]), np.array([1.0, 1.0, 0.0]))
    array([0., 2.])
    """
    sized = certified != 0
    return entry_errors(got, certified)[sized] / np.spacing(np.abs(certified[sized]))


def normwise(got: np.ndarray, certified: np.ndarray) -> float:
    """Return the largest error in ulps of the largest entry; of nothing but zeros, 0 if they are met and else infinity.

    Examples
    --------
    >>> import numpy as np
    >>> normwise(np.array([4.0, 2**-52]), np.array([4.0, 0.0]))
    0.25
    """
    error, size = float(entry_errors(got, certified).max()), float(np.abs(certified).max())
    return error / float(np.spacing(size)) if size > 0 else (0.0 if error == 0 else np.inf)


def _row(op: str, output: str, compared: list[tuple[Outcome, Comparison]]) -> Row:
    errors = [ulps(comparison.got, comparison.certified) for _, comparison in compared]
    every = np.concatenate(errors)
    largest = [float(one.max(initial=0.0)) for one in errors]
    outcome, comparison = compared[int(np.argmax(largest))]
    return Row(
        op,
        output,
        len({(outcome.case, tuple(outcome.conventions.items())) for outcome, _ in compared}),
        sum(comparison.certified.size for _, comparison in compared),
        float(np.median(every)) if every.size else 0.0,
        max(largest),
        max(normwise(comparison.got, comparison.certified) for _, comparison in compared),
        f"{outcome.case.partition('/')[2]}" + (f" {comparison.path}" if comparison.path != output else ""),
    )


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of the Markdown table."""
    yield "| op | output | answers | entries | median | worst | normwise | worst entry in |"
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for row in rows:
        numbers = " | ".join(f"{number:.3g}" for number in (row.median, row.worst, row.normwise))
        where = row.where if row.worst > 0 else "–"
        yield f"| `{row.op}` | {row.output} | {row.answers} | {row.entries} | {numbers} | {where} |"


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write it into the README."""
    parser = argparse.ArgumentParser(prog="python -m verification.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--print", action="store_true", help="print only, and leave README.md as it is")
    options = parser.parse_args(arguments)
    lines = list(table(measure()))
    print("\n".join(lines))
    if not options.print:
        rewrite(README, MARK, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
