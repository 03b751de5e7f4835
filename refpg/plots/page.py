"""The page all figures are printed on: one size of type, six inks, and the only place that knows matplotlib.

A line has an ink: a colour that colour-blind people tell from the others (Okabe and Ito's, the two pale ones darkened
until they can be seen on white) *and* a pattern of dashes that a grey print keeps.  Lines carry their names beside
them; there are no legends.  A title is a sentence: what is seen.

matplotlib is imported when the first page is opened, not before: numbers need no drawing.  Its global state is read by
nobody and changed by nobody; what is drawn depends on the version of matplotlib alone.
"""

import functools
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeAlias, TypeVar

import numpy as np

from refpg.notation import choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes as MatplotlibAxes
    from matplotlib.figure import Figure as MatplotlibFigure

    Axes: TypeAlias = MatplotlibAxes
    Figure: TypeAlias = MatplotlibFigure
else:
    Axes = Figure = Any

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

FORMS = ("png", "svg", "pdf")

SIZE = 9.0  # points, of all type but the title's
STYLE: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "font.size": SIZE,
    "mathtext.fontset": "stix",
    "axes.labelsize": SIZE,
    "axes.titlesize": SIZE,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#404040",
    "axes.unicode_minus": True,
    "xtick.labelsize": SIZE - 1,
    "ytick.labelsize": SIZE - 1,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "lines.dash_capstyle": "butt",
    "lines.scale_dashes": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "refpg",
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}

_ANONYMOUS = {  # what a file would say of when and by what it was written
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class MissingMatplotlib(ImportError):
    """Figures are asked for, and matplotlib is not installed."""


class Ink(NamedTuple):
    """What a line is drawn with: its ``colour``; its ``dashes``, on and off in line widths, none for a solid one."""

    colour: str
    dashes: tuple[float, ...]

    @property
    def line(self) -> dict[str, Any]:
        """The arguments of ``axes.plot``."""
        return {"color": self.colour, "linestyle": (0, self.dashes) if self.dashes else "-"}


BLACK = Ink("#000000", ())
BLUE = Ink("#0072B2", (6.0, 1.6))
VERMILLION = Ink("#D55E00", (2.4, 1.4))
GREEN = Ink("#00795A", (7.0, 1.5, 1.2, 1.5))
PURPLE = Ink("#B8578F", (1.0, 1.2))
BROWN = Ink("#7A3B00", (4.0, 1.3, 1.0, 1.3, 1.0, 1.3))
INKS = {"black": BLACK, "blue": BLUE, "vermillion": VERMILLION, "green": GREEN, "purple": PURPLE, "brown": BROWN}
GREY = "#6E6E6E"  # of what is there to be compared with: bounds of regions, levels, slopes


def require_matplotlib() -> None:
    """Say how to install matplotlib if it is missing.

    Raises
    ------
    MissingMatplotlib
        If it cannot be imported.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise MissingMatplotlib("figures need matplotlib: pip install 'refpg[plot]'") from None


def house_style(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function draw in the style of this page, whatever the reader's own matplotlib is set to.

    Parameters
    ----------
    draw : callable
        A function that makes or renders a figure.

    Returns
    -------
    callable
        The same, with the reader's settings put back after it.
    """

    @functools.wraps(draw)
    def styled(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        require_matplotlib()
        import matplotlib

        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            return draw(*args, **kwargs)

    return styled


def open_page(
    sentence: str,
    *,
    rows: int = 1,
    columns: int = 1,
    height: float = 3.4,
    left: float = 0.62,
    right: float = 0.2,
    between: tuple[float, float] = (0.62, 0.7),
    widths: Sequence[float] | None = None,
    share_x: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Return a blank figure of the width of a printed page, and its panels from left to right, top to bottom.

    Parameters
    ----------
    sentence : str
        What is seen; the title.
    rows, columns : int
        Of panels.
    height : float
        Inches; the width is 6.5.
    left, right : float
        Margins, inches.
    between : (float, float)
        The space between rows and between columns, inches.
    widths : sequence of float, optional
        Relative widths of the columns.
    share_x : bool
        Whether the panels of a column have one axis.

    Returns
    -------
    figure : matplotlib.figure.Figure
    panels : list of matplotlib.axes.Axes
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    width, top, bottom = 6.5, 0.5, 0.48
    figure = NewFigure(figsize=(width, height))
    FigureCanvasAgg(figure)
    down, across = between
    panel_height = (height - top - bottom - (rows - 1) * down) / rows
    panel_width = (width - left - right - (columns - 1) * across) / columns
    grid = figure.add_gridspec(
        rows,
        columns,
        left=left / width,
        right=1 - right / width,
        top=1 - top / height,
        bottom=bottom / height,
        hspace=down / panel_height,
        wspace=across / panel_width,
        width_ratios=widths,
    )
    panels = grid.subplots(squeeze=False, sharex="col" if share_x else False).ravel().tolist()
    figure.text(0.1 / width, 1 - 0.1 / height, sentence, fontsize=SIZE + 1.5, ha="left", va="top")
    return figure, panels


def note(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float],
    colour: str,
    *,
    ha: str = "left",
    over: bool = False,
) -> None:
    """Write a name beside a point of a line.

    Parameters
    ----------
    axes : Axes
        The panel.
    text : str
        The name.
    at : (float, float)
        The point, in the units of the axes.
    offset : (float, float)
        From there to the middle of the text's end, points.
    colour : str
        That of the line.
    ha : {"left", "center", "right"}
        Which end of the text is meant.
    over : bool
        Whether the text lies over lines, and pales them.
    """
    pale = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8} if over else None
    axes.annotate(text, at, offset, textcoords="offset points", color=colour, ha=ha, va="center", bbox=pale)


def arrow(axes: Axes, start: Any, end: Any, colour: str) -> None:
    """Draw an arrow from one point to another.

    Parameters
    ----------
    axes : Axes
        The panel.
    start, end : (2,) array
        In the units of the axes.
    colour : str
        Of the arrow.
    """
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", tuple(end), tuple(start), arrowprops=style)


def name_ends(axes: Axes, ends: Sequence[tuple[str, float, str]], *, gap: float = 1.25) -> None:
    """Write the names of lines in the right margin, each at the height where its line ends, and none on another.

    Parameters
    ----------
    axes : Axes
        The panel, with its limits and scales set.
    ends : sequence of (name, y, colour)
        What to write, at which height, in the units of the axes.
    gap : float
        The least distance of two names, in sizes of type.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    points = axes.get_position().height * figure.get_size_inches()[1] * 72
    to_fraction = axes.transData + axes.transAxes.inverted()
    across = axes.get_xlim()[1]
    heights = np.array([to_fraction.transform((across, y))[1] for _, y, _ in ends])
    for (name, _, colour), height in zip(ends, spread(heights * points, gap * SIZE, points), strict=True):
        axes.annotate(
            name, (1, height / points), (4, 0), "axes fraction", "offset points", color=colour, ha="left", va="center"
        )


def spread(heights: Any, gap: float, top: float) -> Any:
    """Return heights as near to the given ones as a least distance allows.

    ::

        min Σ (y − h)²   subject to   y_(k+1) ≥ y_k + gap,   0 ≤ y ≤ top

    After y_k − k·gap the constraint is that of an increasing sequence: neighbours in the wrong order are pooled.

    Parameters
    ----------
    heights : (N,) array
        Where the names belong.
    gap : float
        The least distance.
    top : float
        Names stay within [0, top], if they fit.

    Returns
    -------
    (N,) array
        In the order given.

    Examples
    --------
    >>> spread([5.0, 1.0, 5.0], 2.0, 10.0).tolist()
    [4.0, 1.0, 6.0]
    """
    h = np.asarray(heights, dtype=float)
    order = np.argsort(h, kind="stable")
    shift = gap * np.arange(len(h))
    pools: list[list[float]] = []
    for value in np.clip(h, 0, top)[order] - shift:
        pools.append([value])
        while len(pools) > 1 and np.mean(pools[-2]) >= np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    increasing = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools])
    room = max(top - shift[-1], 0.0)
    spaced = np.empty_like(h)
    spaced[order] = np.clip(increasing, 0, room) + shift
    return spaced


@house_style
def render(figure: Figure, form: str) -> bytes:
    """Return a figure as a file, the same bytes whenever it is drawn by the same matplotlib.

    Parameters
    ----------
    figure : Figure
        From a ``draw`` of this chapter.
    form : {"png", "svg", "pdf"}
        PNG has 200 dots to the inch; in SVG letters are outlines.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If the form is unknown.
    """
    choice("render", "form", form, FORMS)
    file = io.BytesIO()
    figure.savefig(file, format=form, metadata=_ANONYMOUS[form])
    return file.getvalue()
