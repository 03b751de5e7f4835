"""The learning curve of one run, from the lines it wrote: what a policy is worth, by what it has seen."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array
from refpg.plots import page
from refpg.plots.page import Figure


class LearningCurve(NamedTuple):
    """What is drawn of a run.

    Fields: ``sentence`` the title; ``seen`` (N,) actions taken, or iterations where nothing is drawn at random;
    ``returns`` (N,) mean return of the episodes that ended in an iteration, NaN where none did, or η; ``axes`` the
    names of the two.
    """

    sentence: str
    seen: Array
    returns: Array
    axes: tuple[str, str]


def numbers(sentence: str, lines: Sequence[Mapping[str, Any]]) -> LearningCurve:
    """Return the curve of some iterations.

    Parameters
    ----------
    sentence : str
        What was run.
    lines : sequence of mapping
        One for each iteration: what a run writes of it.

    Returns
    -------
    LearningCurve

    Examples
    --------
    >>> curve = numbers("two", [{"steps": 8, "mean_return": None}, {"steps": 16, "mean_return": 1.5}])
    >>> curve.seen, curve.returns, curve.axes
    (array([ 8., 16.]), array([nan, 1.5]), ('actions', 'mean return of episodes'))
    """
    sampled = "steps" in lines[0]
    across, up = ("steps", "mean_return") if sampled else ("iteration", "expected_return")
    named = ("actions", "mean return of episodes") if sampled else ("iteration", r"expected return, $\eta$")
    seen, returns = (np.array([line[key] for line in lines], dtype=float) for key in (across, up))
    return LearningCurve(sentence, seen, returns, named)


@page.house_style
def draw(at: LearningCurve) -> Figure:
    """Draw the curve; where no episode ended there is no point, and the line goes on from the last one.

    Parameters
    ----------
    at : LearningCurve
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (axes,) = page.open_page(at.sentence, left=0.8)
    known = np.isfinite(at.returns)
    axes.plot(at.seen[known], at.returns[known], **page.BLACK.line, marker="o", markersize=2.5)
    axes.set_xlim(0, at.seen[-1] * 1.02)
    axes.set_xlabel(at.axes[0])
    axes.set_ylabel(at.axes[1])
    return figure
