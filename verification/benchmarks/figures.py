"""The curves of growth: seconds over N, width and P, both logarithmic, in the style of `refpg.plots`."""

from collections.abc import Iterable
from pathlib import Path

from refpg.plots.files import save
from refpg.plots.page import INKS, Figure, house_style
from verification.benchmarks.growth import Curve
from verification.benchmarks.operations import OPERATIONS
from verification.benchmarks.peers import TITLES
from verification.benchmarks.report import figure_name


def draw(curves: Iterable[Curve], folder: Path) -> list[Path]:
    """Draw a figure for each variable and operation, and return the files; ImportError without matplotlib."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.along, curve.operation), []).append(curve)
    paths = []
    for (along, operation), group in groups.items():
        paths.append(folder / figure_name(along, operation))
        save(_figure(along, operation, group), paths[-1])
    return paths


@house_style
def _figure(along: str, operation: str, curves: list[Curve]) -> Figure:
    from matplotlib.figure import Figure as Page

    page = Page(figsize=(5.2, 3.4), layout="constrained")
    axes = page.subplots()
    for curve, ink in zip(curves, INKS.values(), strict=False):
        known = [(x, y) for x, y in zip(curve.values, curve.seconds, strict=True) if y is not None]
        if not known:
            continue
        x, y = zip(*known, strict=True)
        axes.plot(x, y, marker="o", **ink.line)
        axes.annotate(TITLES[curve.implementation], (x[-1], y[-1]), (4, 0), "data", "offset points", color=ink.colour)
    axes.set(xscale="log", yscale="log", xlabel=along, ylabel="seconds", title=OPERATIONS[operation].title)
    axes.margins(x=0.25)
    return page
