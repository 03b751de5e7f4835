"""The short form of a report, between two markers of the project's README."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from verification.benchmarks.goals import Goal, goals
from verification.benchmarks.operations import OPERATIONS
from verification.benchmarks.peers import NAMES, REFERENCE, TITLES
from verification.benchmarks.problems import SIZES
from verification.benchmarks.report import seconds_text
from verification.benchmarks.results import Results
from verification.marked import rewrite

README = Path(__file__).parents[2] / "README.md"
MARK = "benchmarks"


def write(results: Results, path: Path = README) -> None:
    """Replace what stands between the markers."""
    rewrite(path, MARK, lines(results))


def lines(results: Results) -> Iterator[str]:
    """Yield the ratios, then every goal with how many of its figures are met, and those that are missed."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield f"{results.date}, {machine.processor}, {machine.threads} thread for everybody, float64. {versions}."
    yield ""
    yield from _ratios(results)
    yield ""
    yield from _goals(goals(results))


def _ratios(results: Results) -> Iterator[str]:
    names = [name for name in NAMES if name != REFERENCE and any(row.implementation == name for row in results.rows)]
    yield "| operation | size | refpg | " + " | ".join(TITLES[name] for name in names) + " |"
    yield "|---|---|--:|" + "--:|" * len(names)
    for operation, described in OPERATIONS.items():
        for size in SIZES:
            own = results.row(size, operation)
            if own is None:
                continue
            ratios = [results.ratio(size, operation, name) for name in names]
            cells = ["" if ratio is None else f"{ratio:.3g} ×" for ratio in ratios]
            took = seconds_text(float(np.median(own.seconds)))
            yield f"| {described.title} | {size} | {took} | {' | '.join(cells)} |"


def _goals(found: Iterable[Goal]) -> Iterator[str]:
    figures = list(found)
    yield "| goal | figures met | missed |"
    yield "|---|--:|---|"
    for name in dict.fromkeys(goal.goal for goal in figures):
        of_goal = [goal for goal in figures if goal.goal == name]
        met = sum(goal.met is True for goal in of_goal)
        missed = [f"{goal.what}: {goal.found}, wanted {goal.wanted}" for goal in of_goal if goal.met is False]
        unmeasured = [f"{goal.what}: not measured" for goal in of_goal if goal.met is None]
        yield f"| {name} | {met} of {len(of_goal)} | {'; '.join(missed + unmeasured) or '–'} |"
