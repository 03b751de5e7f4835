"""One operation on one size: agreement first, then interleaved seconds of all who agree."""

import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import NamedTuple

from verification.benchmarks import agreement, timing
from verification.benchmarks.operations import OPERATIONS
from verification.benchmarks.peers import REFERENCE
from verification.benchmarks.problems import Problem


class Row(NamedTuple):
    """What one implementation did.

    Fields: ``size`` and ``operation``; ``implementation``; ``seconds`` of each round; ``distance`` from refpg's answer
    and the ``tolerance`` it is held to; ``differs``, where it computes something else; ``refused``, why it was not
    timed.
    """

    size: str
    operation: str
    implementation: str
    seconds: list[float]
    distance: float
    tolerance: float
    differs: str
    refused: str = ""


def measure(
    problem: Problem,
    operation: str,
    implementations: Mapping[str, ModuleType],
    *,
    repeats: int,
    budget: float,
    only: Iterable[str] | None = None,
) -> list[Row]:
    """Return a row for each implementation that has the operation, refpg's first."""
    rows: dict[str, Row] = {}
    runs = {}
    expected = None
    for name, module in implementations.items():
        if operation not in module.calls or (only is not None and name not in only):
            continue
        try:
            call = module.calls[operation](problem)
            found = call.read(call.run())
        except (RuntimeError, MemoryError, ValueError, TypeError) as error:
            if name == REFERENCE:
                raise
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            rows[name] = Row(problem.name, operation, name, [], float("inf"), 0.0, "", reason)
            continue
        if name == REFERENCE:
            expected = found
        tolerance = OPERATIONS[operation].tolerance if call.tolerance is None else call.tolerance
        distance = agreement.distance(found, expected)
        refused = "" if distance <= tolerance else f"its answer is {distance:.1e} away, more than {tolerance:.0e}"
        rows[name] = Row(problem.name, operation, name, [], distance, tolerance, call.differs, refused)
        if not refused:
            runs[name] = call.run
    seconds = timing.interleaved(runs, repeats=repeats, budget=budget)
    measured = [row._replace(seconds=seconds.get(name, [])) for name, row in rows.items()]
    for row in measured:
        print(row.size, row.operation, row.implementation, row.refused or f"{min(row.seconds):.3g} s", file=sys.stderr)
    return measured
