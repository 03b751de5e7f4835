"""PPO's clipped objective of one sample, as a function of the ratio, for both signs of the advantage [PPO (7)]."""

from typing import NamedTuple

import numpy as np

from refpg.notation import Array, count, scalar
from refpg.plots import page
from refpg.plots.page import Figure
from refpg.surrogate import clipped_objective, clipped_objective_gradient, ratio


class Clipping(NamedTuple):
    """Numbers of the figure ``clip``.

    Fields: ``clip`` ε; ``ratio`` (N,) r; and for A = +1 and A = −1, in this order, ``unclipped`` (2, N) rA; ``clipped``
    (2, N) min(rA, clip(r, 1 − ε, 1 + ε)A); ``slope`` (2, N) its derivative by r.
    """

    clip: float
    ratio: Array
    unclipped: Array
    clipped: Array
    slope: Array


def numbers(clip: float = 0.2, points: int = 401) -> Clipping:
    """Return the objective and its slope for A = ±1.

    Parameters
    ----------
    clip : float
        ε in (0, 1).
    points : int
        N, of the grid over r.

    Returns
    -------
    Clipping

    Raises
    ------
    ValueError
        If ε lies outside (0, 1), or ``points`` is not at least 2.

    References
    ----------
    [PPO (7)]
    """
    epsilon = scalar("clip.numbers", "clip", clip, above=0, below=1)
    new = np.log(np.linspace(0.4, 1.6, count("clip.numbers", "points", points, least=2)))
    old = np.zeros_like(new)
    r = ratio(old, new)

    def of_each(advantage: float) -> Array:
        return np.array([clipped_objective([0.0], [log_r], [advantage], epsilon) for log_r in new])

    def slope(advantage: float) -> Array:
        one = np.full_like(r, advantage)
        return clipped_objective_gradient(old, new, one, epsilon, weights=np.full_like(r, 1 / len(r))) * len(r) / r

    return Clipping(
        clip=epsilon,
        ratio=r,
        unclipped=np.stack([r, -r]),
        clipped=np.stack([of_each(1.0), of_each(-1.0)]),
        slope=np.stack([slope(1.0), slope(-1.0)]),
    )


@page.house_style
def draw(at: Clipping) -> Figure:
    """Draw the objective for a good and for a bad action.

    Parameters
    ----------
    at : Clipping
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, panels = page.open_page(
        "The clip takes away the reward for going further, and never the way back", columns=2, height=3.1, right=0.3
    )
    for axes, clipped, unclipped, sign in zip(panels, at.clipped, at.unclipped, (1, -1), strict=True):
        edge = 1 + sign * at.clip
        axes.set(xlim=(at.ratio[0], at.ratio[-1]))
        axes.axvline(1, color=page.GREY, linewidth=0.6)
        axes.plot([edge, edge], [sign * edge, unclipped.min()], color=page.GREY, linewidth=0.6, linestyle=(0, (2, 2)))
        axes.plot(at.ratio, unclipped, **page.VERMILLION.line)
        axes.plot(at.ratio, clipped, **page.BLACK.line, linewidth=2.0)
        axes.plot([1], [sign], "o", color="black", markerfacecolor="white", zorder=4)
        axes.set_xticks([0.5, 1 - at.clip, 1, 1 + at.clip, 1.5])
        axes.set_xlabel(r"ratio $r = \pi_\theta(a\mid s)\,/\,\pi_{\mathrm{old}}(a\mid s)$")
        axes.set_title(r"$A = +1$: a good action" if sign > 0 else r"$A = -1$: a bad action", pad=4)
    good, bad = panels
    good.set_ylabel("objective, return units")
    bad.set_ylabel("objective, return units")
    page.note(good, r"$rA$", (1.42, 1.42), (-5, 5), page.VERMILLION.colour, ha="right")
    page.note(good, r"$L^{\mathrm{CLIP}}$", (1.4, 1 + at.clip), (0, -9), "black", ha="center")
    page.note(bad, r"$rA$", (0.55, -0.55), (6, 5), page.VERMILLION.colour)
    page.note(bad, r"$L^{\mathrm{CLIP}}$", (0.58, -(1 - at.clip)), (0, -9), "black", ha="center")
    return figure
