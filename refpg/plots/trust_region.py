"""The ridge: a gradient step that walks off it, and a step of the same length inside the trust region that does not.

The world is `worlds.alternation`; the policy does see its state, but the observations of the two states are almost
alike ::

    x_0 = (3, −2),   x_1 = (2, −3)          π(1|s) = 1/(1 + exp(−wᵀx_s))

To tell the states apart is to go along (1, 1), the ridge; along (1, −1), across it, the same change of w does five
times as much, to both states alike, and loses.  So the gradient points across.  The set of mean KL ≤ δ is as long and
thin as the ridge is: measured by what it does to the policy, nothing here is narrow.
"""

from typing import NamedTuple

import numpy as np

from refpg.geometry import mean_kl
from refpg.mdp import evaluate
from refpg.notation import Array, count, scalar
from refpg.plots import page, worlds
from refpg.plots.page import Figure
from refpg.policy import probability_table
from refpg.updates import trust_region_dual

OBSERVATIONS = np.array([[3.0, -2.0], [2.0, -3.0]])
DISCOUNT = 0.8
FIRST = (-0.35, -0.05)


class Ridge(NamedTuple):
    """Numbers of the figure ``trust-region``.

    Fields: ``axes`` (N,) and (N,), the grid over w_1 and w_2; ``expected_return`` (N, N) η, w_2 by rows; ``kl`` (N, N)
    mean KL from the first policy; ``max_kl`` δ; ``first`` (2,); ``gradient_step``, ``trust_region_step`` (2,), of one
    length; ``distance`` (M,) along each; ``gradient_returns``, ``trust_region_returns`` (M,) η there.
    """

    axes: tuple[Array, Array]
    expected_return: Array
    kl: Array
    max_kl: float
    first: Array
    gradient_step: Array
    trust_region_step: Array
    distance: Array
    gradient_returns: Array
    trust_region_returns: Array


def numbers(max_kl: float = 0.03, points: int = 51) -> Ridge:
    """Return η and the mean KL over the plane of the parameters, and along two steps of the same length.

    Parameters
    ----------
    max_kl : float
        δ > 0, nats.
    points : int
        N of the grid, and M of the lines.

    Returns
    -------
    Ridge

    Raises
    ------
    ValueError
        If δ ≤ 0, or ``points`` is not at least 2.

    References
    ----------
    [TRPO (17)], [Hui]
    """
    delta = scalar("trust_region.numbers", "max_kl", max_kl, above=0)
    points = count("trust_region.numbers", "points", points, least=2)
    mdp, policy, w = worlds.alternation(discount=DISCOUNT), worlds.two_actions(2), np.array(FIRST)
    theta, at = worlds.preference(w), worlds.slope(mdp, w, OBSERVATIONS)
    g, natural = at.gradient, trust_region_dual(at.fisher, at.gradient, delta).step

    def expected_return(w: Array) -> float:
        return evaluate(mdp, probability_table(policy, worlds.preference(w), OBSERVATIONS)).expected_return

    def kl(w: Array) -> float:
        return float(mean_kl(policy, theta, worlds.preference(w), OBSERVATIONS, weights=at.weights))

    plain = np.linalg.norm(natural) / np.linalg.norm(g) * g

    grid = np.linspace(-1.0, 1.0, points), np.linspace(-1.0, 1.0, points)
    t = np.linspace(0, 1.5, points)
    return Ridge(
        axes=grid,
        expected_return=np.array([[expected_return(np.array([x, y])) for x in grid[0]] for y in grid[1]]),
        kl=np.array([[kl(np.array([x, y])) for x in grid[0]] for y in grid[1]]),
        max_kl=delta,
        first=w,
        gradient_step=plain,
        trust_region_step=natural,
        distance=t * float(np.linalg.norm(natural)),
        gradient_returns=np.array([expected_return(w + s * plain) for s in t]),
        trust_region_returns=np.array([expected_return(w + s * natural) for s in t]),
    )


@page.house_style
def draw(at: Ridge) -> Figure:
    """Draw the ridge with both steps, and η along them.

    Parameters
    ----------
    at : Ridge
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (plane, along) = page.open_page(
        "A gradient step leaves the ridge and falls; the trust region is as narrow as the ridge, and climbs it",
        columns=2,
        height=3.5,
        right=0.5,
    )
    levels = np.linspace(at.expected_return.min(), at.expected_return.max(), 13)[1:-1]
    plane.contour(*at.axes, at.expected_return, levels, colors="#A8A8A8", linewidths=0.7)
    plane.contour(*at.axes, at.kl, [at.max_kl], colors=page.BLUE.colour, linewidths=1.2)
    plane.set(aspect="equal", xticks=[-1, -0.5, 0, 0.5, 1], yticks=[-1, -0.5, 0, 0.5, 1])
    plane.set_xlabel("parameter $w_1$")
    plane.set_ylabel("parameter $w_2$", labelpad=-2)
    for step, ink in ((at.gradient_step, page.VERMILLION), (at.trust_region_step, page.BLUE)):
        page.arrow(plane, at.first, at.first + step, ink.colour)
    plane.plot(*at.first, "o", color="black", markerfacecolor="white", zorder=5)
    page.note(plane, "natural gradient", tuple(at.first + at.trust_region_step), (4, 5), page.BLUE.colour, over=True)
    page.note(plane, "plain gradient", tuple(at.first + at.gradient_step), (5, -4), page.VERMILLION.colour, over=True)
    page.note(plane, f"mean KL = {at.max_kl}", (-0.95, -0.72), (0, 0), page.BLUE.colour, over=True)

    length = float(np.linalg.norm(at.gradient_step))
    along.set(xlim=(0, at.distance[-1]))
    along.axvline(length, color=page.GREY, linewidth=0.6)
    along.plot(at.distance, at.trust_region_returns, **page.BLUE.line)
    along.plot(at.distance, at.gradient_returns, **page.VERMILLION.line)
    best = at.gradient_returns.argmax()
    top = at.distance[best], at.gradient_returns[best]
    along.plot(*top, "o", color=page.VERMILLION.colour)
    page.note(along, "all that a\nline search finds", top, (-9, 21), page.VERMILLION.colour, ha="center")
    along.set_xlabel("distance from the old parameters")
    along.set_ylabel(r"expected return $\eta$")
    page.name_ends(
        along,
        [
            ("natural", at.trust_region_returns[-1], page.BLUE.colour),
            ("plain", at.gradient_returns[-1], page.VERMILLION.colour),
        ],
    )
    return figure
