"""A cost constraint beside the trust region: which of them binds, and what a unit of cost is worth.

The world is `worlds.alternation`, seen as in the figure ``trust-region``; action 1 costs 1 each time it is taken ::

    max_s gᵀs   subject to   ½sᵀFs ≤ δ,   c + bᵀs ≤ 0                                            [CPO section 6]

c is the expected cost less its limit.  The further the limit is lowered, the less is gained: by ν for a unit of cost,
the multiplier of its constraint, from the limit that begins to bind to the one that no step meets.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from refpg.notation import Array, count, scalar
from refpg.plots import page, worlds
from refpg.plots.page import Figure
from refpg.plots.trust_region import OBSERVATIONS
from refpg.updates import cost_constrained_dual, trust_region_dual

DISCOUNT = 0.8
FIRST = (-0.35, -0.05)
EXCESS = -0.05  # c of the left panel


class CostConstraint(NamedTuple):
    """Numbers of the figure ``cost``.

    Fields: ``gradient``, ``cost_gradient`` (2,) g and b; ``region`` (M, 2), the edge of the trust region; ``excess`` c
    of the left panel; ``free_step``, ``step`` (2,), without and with the constraint; ``multiplier`` ν there.
    ``excesses`` (N,) c; ``gain`` (N,) gᵀs; ``price`` (N,) ν, return units per unit of cost, NaN in recovery; ``binds``,
    ``reach`` the c from which on the constraint binds, and from which on no step meets it.
    """

    gradient: Array
    cost_gradient: Array
    region: Array
    excess: float
    free_step: Array
    step: Array
    multiplier: float
    excesses: Array
    gain: Array
    price: Array
    binds: float
    reach: float


def numbers(max_kl: float = 0.03, points: int = 121) -> CostConstraint:
    """Return the trust region with its best steps, and the gain as a function of the cost that is left.

    Parameters
    ----------
    max_kl : float
        δ > 0, nats.
    points : int
        M; N is two more.

    Returns
    -------
    CostConstraint

    Raises
    ------
    ValueError
        If δ ≤ 0, or ``points`` is not at least 2.

    References
    ----------
    [CPO section 6]
    """
    delta = scalar("cost.numbers", "max_kl", max_kl, above=0)
    points = count("cost.numbers", "points", points, least=2)
    mdp, w = worlds.alternation(discount=DISCOUNT), np.array(FIRST)
    costs = replace(mdp, reward=np.array([[0.0, 1.0], [0.0, 1.0]]))
    at = worlds.slope(mdp, w, OBSERVATIONS)
    F, g, b = at.fisher, at.gradient, worlds.slope(costs, w, OBSERVATIONS).gradient
    free, cheapest = trust_region_dual(F, g, delta).step, trust_region_dual(F, -b, delta).step
    binds, reach = float(-b @ free), float(-b @ cheapest)
    angle = np.linspace(np.arcsin(binds / reach), np.pi / 2, points)  # the gain is steep where the constraint is missed
    c = np.concatenate([[2 * binds], reach * np.sin(angle), [1.35 * reach]])
    solved = [cost_constrained_dual(F, g, b, float(one), delta) for one in c]
    constrained = cost_constrained_dual(F, g, b, EXCESS, delta)
    circle = np.linspace(0, 2 * np.pi, points)
    ellipse = np.sqrt(2 * delta) * np.linalg.solve(np.linalg.cholesky(F).T, np.stack([np.cos(circle), np.sin(circle)]))
    return CostConstraint(
        gradient=g,
        cost_gradient=b,
        region=ellipse.T,
        excess=EXCESS,
        free_step=free,
        step=constrained.step,
        multiplier=constrained.cost_multiplier,
        excesses=c,
        gain=np.array([one.value for one in solved]),
        price=np.array([one.cost_multiplier for one in solved]),
        binds=binds,
        reach=reach,
    )


@page.house_style
def draw(at: CostConstraint) -> Figure:
    """Draw the region with both steps, and the gain over the excess of cost.

    Parameters
    ----------
    at : CostConstraint
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (plane, gains) = page.open_page(
        r"A cost constraint cuts the trust region; its multiplier $\nu$ is what a unit of cost is worth",
        columns=2,
        height=3.5,
        right=0.3,
    )
    wide = np.array([-0.8, 0.8])
    edge = -(at.excess + at.cost_gradient[0] * wide) / at.cost_gradient[1]
    ticks = [-0.8, -0.4, 0, 0.4, 0.8]
    plane.set(aspect="equal", xlim=wide, ylim=wide, xticks=ticks, yticks=ticks)
    plane.fill_between(wide, edge, wide[0], color="#E4E4E4", linewidth=0)
    plane.plot(*at.region.T, **page.BLACK.line)
    for step, ink in ((at.free_step, page.VERMILLION), (at.step, page.BLUE)):
        page.arrow(plane, np.zeros(2), step, ink.colour)
    plane.plot(0, 0, "o", color="black", markerfacecolor="white", zorder=5)
    page.note(plane, "without", tuple(at.free_step), (2, -11), page.VERMILLION.colour)
    page.note(plane, "with the cost constraint", tuple(at.step), (-6, 14), page.BLUE.colour, ha="right")
    page.note(plane, "costs too much", (0.75, -0.6), (0, 0), page.GREY, ha="right")
    page.note(plane, "trust region", (-0.26, 0.08), (-4, 0), "black", ha="right")
    plane.set_xlabel("step $s_1$")
    plane.set_ylabel("step $s_2$", labelpad=-2)

    held = at.excesses <= at.reach
    gains.set(xlim=(at.excesses[0], at.excesses[-1]), ylim=(-0.45, 0.75))
    for c in (at.binds, at.reach):
        gains.axvline(c, color=page.GREY, linewidth=0.6)
    gains.plot(at.excesses[held], at.gain[held], **page.BLACK.line)
    gains.plot([at.reach, at.excesses[-1]], at.gain[[-1, -1]], **page.VERMILLION.line)
    for where, text in ((at.excesses[0], "not felt"), (at.binds, "binds"), (at.reach, "missed")):
        page.note(gains, text, (where, -0.45), (4, 9), page.GREY)
    here, gain = at.excess, float(at.gradient @ at.step)
    along = np.array([here - 0.3, here + 0.3])
    gains.plot(along, gain - at.multiplier * (along - here), color=page.BLUE.colour, linewidth=0.9)
    gains.plot([here], [gain], "o", color=page.BLUE.colour, markerfacecolor="white", zorder=5)
    page.note(gains, rf"slope $-\nu$,  $\nu = {at.multiplier:.2f}$", (here, gain), (8, 9), page.BLUE.colour)
    gains.set_xlabel("$c$: expected cost, less its limit")
    gains.set_ylabel("gain of the step, return units")
    return figure
