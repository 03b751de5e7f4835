"""Lagrangian duality: for every radius of a trust region there is a penalty with the same solution, and no gap.

The world is `worlds.alternation`, with one logit per state, so that a policy is any table.  The problem is posed
twice, for the quadratic model and for L and KL themselves, and a solution is known by its radius ::

    max gain   subject to   KL ≤ δ              gain = gᵀs,  KL = ½sᵀFs     or     gain = L − η,  KL = E_s KL

    D(β) = max [gain − β (KL − δ)]  ≥  the best gain,   equal at one β

L is linear in the table and KL convex: also the exact problem has no gap.  The maximum in D(β) is where the trust
region of some radius ends, the one whose multiplier is β: solved for all radii, the problem draws its dual.
"""

from typing import NamedTuple

import numpy as np

from refpg.notation import Array, count, scalar
from refpg.plots import page, worlds
from refpg.plots.page import Figure
from refpg.training import exact_batch
from refpg.updates import exact_trust_region_step, penalty_of_radius, penalty_step

DISCOUNT = 0.8
FIRST = (0.5, 0.5)


class Solutions(NamedTuple):
    """The solutions of a trust-region problem for radii from δ/100 to 10 δ.

    Fields: ``radius`` (N,) KL of the solution, nats; ``penalty`` (N,) β, return units per nat; ``gain`` (N,) return
    units; ``kkt_residual`` (N,), relative to the gradient; ``dual`` (N,) D(β) of the radius δ, return units.
    """

    radius: Array
    penalty: Array
    gain: Array
    kkt_residual: Array
    dual: Array


class Duality(NamedTuple):
    """Numbers of the figure ``duality``.

    Fields: ``max_kl`` δ of the left panel, nats; ``quadratic`` and ``exact``, each `Solutions`.
    """

    max_kl: float
    quadratic: Solutions
    exact: Solutions


def numbers(max_kl: float = 0.5, points: int = 20) -> Duality:
    """Return the solutions of the quadratic and of the exact problem, and the dual functions they draw.

    Parameters
    ----------
    max_kl : float
        δ > 0, nats, of the left panel.
    points : int
        Radii in each decade; N is three times as many, and one.

    Returns
    -------
    Duality

    Raises
    ------
    ValueError
        If δ ≤ 0, or ``points`` is not a positive integer.

    References
    ----------
    [TRPO (12)], [PPO (5)], [Hui]
    """
    delta = scalar("duality.numbers", "max_kl", max_kl, above=0)
    points = count("duality.numbers", "points", points)
    radii = delta * 10 ** (np.arange(-2 * points, points + 1) / points)
    mdp, w, x = worlds.alternation(discount=DISCOUNT), np.array(FIRST), np.eye(2)
    at, theta = worlds.slope(mdp, w, x), worlds.preference(w)
    policy, batch = exact_batch(mdp, worlds.two_actions(2), theta, x)
    of_all = 1 / (1 - DISCOUNT)  # the batch's weights are those of d, whose sum is 1

    def solutions(rows: list[tuple[float, float, float, float]]) -> Solutions:
        radius, beta, gain, residual = np.array(rows).T
        return Solutions(radius, beta, gain, residual, dual=gain - beta * (radius - delta))

    quadratic = [penalty_step(at.fisher, at.gradient, penalty_of_radius(at.fisher, at.gradient, r)) for r in radii]
    exact = [exact_trust_region_step(policy, theta, batch, max_kl=r)[1] for r in radii]
    return Duality(
        max_kl=delta,
        quadratic=solutions([(one.quadratic_kl, one.multiplier, one.value, one.kkt_residual) for one in quadratic]),
        exact=solutions(
            [(one.kl, of_all * one.multiplier, of_all * one.improvement, one.kkt_residual) for one in exact]
        ),
    )


@page.house_style
def draw(at: Duality) -> Figure:
    """Draw both dual functions with their minima, and the penalty of every radius.

    Parameters
    ----------
    at : Duality
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (dual, penalty) = page.open_page(
        r"The least value of the dual is the best step’s gain: to each radius $\delta$ belongs one penalty $\beta$",
        columns=2,
        right=0.4,
        between=(0.6, 0.85),
    )
    here = 2 * (len(at.exact.radius) // 3)  # the index of δ
    dual.set(xlim=(0, 6), ylim=(1.9, 4.4))
    penalty.set(xscale="log", yscale="log", xlim=(at.exact.radius[0], at.exact.radius[-1]), ylim=(0.02, 50))
    for problem, ink in ((at.quadratic, page.BLUE), (at.exact, page.BLACK)):
        best = float(problem.penalty[here]), float(problem.gain[here])
        dual.plot(problem.penalty, problem.dual, **ink.line)
        dual.plot([0, best[0]], [best[1]] * 2, color=ink.colour, linewidth=0.6)
        penalty.plot(problem.radius, problem.penalty, **ink.line)
        for axes, point in ((dual, best), (penalty, (at.max_kl, best[0]))):
            axes.plot(*point, "o", color=ink.colour, markerfacecolor="white", zorder=5)
    page.note(dual, "gain of the best step", (at.exact.penalty[here], at.exact.gain[here]), (8, -9), "black")
    page.note(dual, "quadratic", (0.9, 3.9), (6, 0), page.BLUE.colour)
    page.note(dual, "exact", (4.5, 2.95), (8, -2), "black")
    page.note(penalty, "quadratic", (1.2, 1.65), (4, 7), page.BLUE.colour)
    page.note(penalty, "exact", (1.4, 0.2), (-8, 0), "black", ha="right")
    page.note(penalty, r"$\delta^{-1/2}$", (0.03, 10.5), (-6, -12), page.GREY, ha="right")
    dual.set_xlabel(r"penalty $\beta$, return units per nat")
    dual.set_ylabel(r"dual function $D(\beta)$, return units")
    penalty.set_xlabel(r"radius $\delta$, nats")
    penalty.set_ylabel(r"penalty $\beta$, return units per nat")
    return figure
