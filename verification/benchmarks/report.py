"""What a run found, as JSON for machines and as Markdown for people.  Files are written whole or not at all."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from refpg.files import write_whole
from verification.benchmarks import timing
from verification.benchmarks.goals import Goal, goals
from verification.benchmarks.measurement import Row
from verification.benchmarks.operations import OPERATIONS
from verification.benchmarks.peers import NAMES, TITLES
from verification.benchmarks.problems import SIZES
from verification.benchmarks.results import Results

_MIB = 2**20
_MARK = {True: "met", False: "**missed**", None: "not measured"}


def save(results: Results, folder: Path) -> None:
    """Write ``results.json`` and ``README.md`` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = _plain(results) | {"goals": [_plain(goal) for goal in goals(results)]}
    write_whole(folder / "results.json", (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    write_whole(folder / "README.md", ("\n".join(markdown(results)) + "\n").encode())


def load(folder: Path) -> Results:
    """Read what `save` wrote."""
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results: Results = _typed(content, Results)
    return results


def markdown(results: Results) -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# refpg beside its peers"
    yield ""
    yield from _origin(results)
    for heading, lines in (
        ("The goals", _goals(goals(results))),
        ("Ratios", _ratios(results)),
        ("Not like for like", _differences(results.rows)),
        ("Memory", _memory(results)),
        ("Growth", _growth(results)),
        ("Checks of arguments", _shares(results)),
        ("Workers", _scalings(results)),
        ("Processes", _walls(results)),
    ):
        body = list(lines)
        if body:
            yield from ("", f"## {heading}", "", *body)


def _origin(results: Results) -> Iterator[str]:
    machine = results.machine
    yield (
        f"{results.date}, {machine.processor}, {machine.cores} cores, {machine.threads} thread(s) for everybody; "
        f"dgemm {machine.dgemm / 1e9:.0f} GFLOP/s, dsyrk {machine.dsyrk / 1e9:.0f} GFLOP/s. float64. "
        + ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        + "."
    )
    yield ""
    yield (
        "Everybody is given the same inputs, must give the same answer, and takes turns in one process. A ratio is the "
        "time of a peer over refpg's in the same round: the median, and the quartiles behind it. Above 1, refpg "
        "is faster."
    )
    if machine.missing:
        yield ""
        yield from (f"* {name}: {reason}" for name, reason in machine.missing.items())


def _goals(found: Iterable[Goal]) -> Iterator[str]:
    yield "| goal | what | wanted | found | |"
    yield "|---|---|--:|--:|---|"
    for goal in found:
        yield f"| {goal.goal} | {goal.what} | {goal.wanted} | {goal.found} | {_MARK[goal.met]} |"


def _ratios(results: Results) -> Iterator[str]:
    names = [name for name in NAMES[1:] if any(row.implementation == name for row in results.rows)]
    shown = " | ".join(TITLES[name] for name in names)
    yield f"| size | operation | refpg | of dgemm | {shown} | rounds |"
    yield "|---|---|--:|--:|" + "--:|" * len(names) + "--:|"
    for size in SIZES:
        for operation, described in OPERATIONS.items():
            own = results.row(size, operation)
            if own is None:
                continue
            fraction = results.fraction_of_peak(own)
            cells = [_ratio(results, own, name) for name in names]
            peak = "" if fraction is None else f"{100 * fraction:.0f} %"
            yield (
                f"| {size} | {described.title} | {seconds_text(float(np.median(own.seconds)))} | {peak} | "
                + " | ".join(cells)
                + f" | {len(own.seconds)} |"
            )
    yield ""
    yield from (
        f"* {name}: widths {', '.join(map(str, size.widths))}, N = {size.rows:,}" for name, size in SIZES.items()
    )


def _ratio(results: Results, own: Row, name: str) -> str:
    wanted = (own.size, own.operation, name)
    row = next((row for row in results.rows if row[:3] == wanted), None)
    if row is None:
        return ""
    if row.refused:
        return "refused"
    lower, median, upper = timing.ratios(row.seconds, own.seconds)
    return f"**{median:.3g}** ({lower:.3g}–{upper:.3g})"


def _differences(rows: Iterable[Row]) -> Iterator[str]:
    said = set()
    for row in rows:
        note = (row.implementation, row.operation, row.differs)
        if row.differs and note not in said:
            said.add(note)
            yield f"* {TITLES[row.implementation]}, {_title(row)}: {row.differs}; held to {row.tolerance:.0e}."
        if row.refused:
            yield f"* {TITLES[row.implementation]}, {_title(row)}, {row.size}: refused, {row.refused}."


def _title(row: Row) -> str:
    return OPERATIONS[row.operation].title


def _memory(results: Results) -> Iterator[str]:
    if not results.peaks:
        return
    yield "Peak of the resident memory, each in a process of its own: what the operation added, and the whole."
    yield ""
    yield "| size | operation | implementation | added, MiB | whole, MiB |"
    yield "|---|---|---|--:|--:|"
    for peak in results.peaks:
        figures = peak.failed or f"{peak.added / _MIB:,.0f} | {peak.after / _MIB:,.0f}"
        yield f"| {peak.size} | {OPERATIONS[peak.operation].title} | {TITLES[peak.implementation]} | {figures} |"


def _growth(results: Results) -> Iterator[str]:
    if results.curves:
        yield "| along | operation | implementation | values | seconds | exponent |"
        yield "|---|---|---|---|---|--:|"
    for curve in results.curves:
        seconds = ", ".join("–" if one is None else seconds_text(one) for one in curve.seconds)
        yield (
            f"| {curve.along} | {OPERATIONS[curve.operation].title} | {TITLES[curve.implementation]} | "
            f"{', '.join(f'{value:,}' for value in curve.values)} | {seconds} | {curve.exponent:.2f} |"
        )
    for curve_name in dict.fromkeys((curve.along, curve.operation) for curve in results.curves):
        along, operation = curve_name
        yield ""
        yield f"![{OPERATIONS[operation].title} over {along}]({figure_name(along, operation)})"
    if results.streams:
        yield ""
        yield "| rows streamed | peak, MiB | seconds |"
        yield "|--:|--:|--:|"
        yield from (f"| {one.rows:,} | {one.peak / _MIB:,.0f} | {one.seconds:.3g} |" for one in results.streams)


def figure_name(along: str, operation: str) -> str:
    """Return the name of the file with a figure of growth."""
    return f"{operation}-over-{along}.svg"


def _shares(results: Results) -> Iterator[str]:
    for share in results.shares:
        yield f"* {OPERATIONS[share.operation].title}: {100 * share.share:.0f} % of {seconds_text(share.seconds)}"


def _scalings(results: Results) -> Iterator[str]:
    if not results.scalings:
        return
    yield "| workers | operation | rows | no executor | one | two | one ÷ two | bits |"
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for one in results.scalings:
        yield (
            f"| {one.kind} | {OPERATIONS[one.operation].title} | {one.rows:,} | {seconds_text(one.alone)} | "
            f"{seconds_text(one.one)} | {seconds_text(one.two)} | {one.speedup:.2f} | "
            f"{'identical' if one.identical else '**different**'} |"
        )


def _walls(results: Results) -> Iterator[str]:
    for wall in results.walls:
        yield f"* {wall.command}: {wall.failed or seconds_text(float(np.median(wall.seconds)))}"


def seconds_text(seconds: float) -> str:
    """Return a time in the unit that suits it, with three digits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _plain(value: Any) -> Any:
    """Return named tuples as dictionaries, all the way down."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(field) for name, field in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _typed(value: Any, wanted: Any) -> Any:
    """Return the value of a type that `_plain` was given; null, in the place of a float, was not finite."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if hasattr(wanted, "_fields"):
        hints = get_type_hints(wanted)
        return wanted(**{name: _typed(value[name], hints[name]) for name in wanted._fields})
    if origin in (list, Sequence):
        return [_typed(item, inner[0]) for item in value]
    if origin is UnionType:
        return None if value is None else _typed(value, inner[0])
    return float("inf") if wanted is float and value is None else value
