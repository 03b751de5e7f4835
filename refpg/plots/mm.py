"""The article's central picture: minorize–maximization on an expected return one can see.

The world is `worlds.alternation`, the policy does not see its state: it takes action 1 with probability p, and η(p) is
a parabola.  KL(π_i ‖ π) is the same in both states, so the article's minorizer is a function of p as well ::

    M_i(p) = L_i(p) − C_i KL(p_i ‖ p),   C_i = 4 ε_i γ/(1 − γ)²,   L_i a straight line          [TRPO (9)]

Nothing is adapted for the picture but the world: γ is small, since C grows with 1/(1 − γ)² and steps shrink with it.
"""

from typing import NamedTuple

import numpy as np

from refpg.bounds import trpo_kl_bound
from refpg.mdp import MDP, evaluate
from refpg.notation import Array, count
from refpg.plots import page, worlds
from refpg.plots.page import Figure
from refpg.policy import probability_table
from refpg.training import parametric_mm

DISCOUNT, START, FIRST = 0.25, 0.6, 0.12
INKS = (page.BLUE, page.VERMILLION, page.GREEN)  # of the first minorizers, those that are drawn
NAMED = 5  # iterates; the others are where the eye expects them


class Minorization(NamedTuple):
    """Numbers of the figure ``mm``.

    Fields: ``probability`` (N,) p; ``expected_return`` (N,) η(p); ``minorizers`` (K, N) M_i(p), −∞ where its KL is
    infinite; ``iterates`` (K + 1,) p_0 … p_K; ``returns`` (K + 1,) η(p_i); ``tops`` (K,) M_i(p_{i+1}), its maximum;
    ``penalties`` (K,) C_i.
    """

    probability: Array
    expected_return: Array
    minorizers: Array
    iterates: Array
    returns: Array
    tops: Array
    penalties: Array


def _blind(p: float) -> Array:
    return np.array([[1 - p, p]] * 2)


def _world() -> MDP:
    return worlds.alternation(discount=DISCOUNT, start=START)


def numbers(iterations: int = 10, points: int = 301) -> Minorization:
    """Return η, the minorizers, and the iterates of the exact algorithm.

    Parameters
    ----------
    iterations : int
        K.
    points : int
        N, of the grid over p.

    Returns
    -------
    Minorization

    Raises
    ------
    ValueError
        If a number is not a positive integer.

    Notes
    -----
    Laws: M_i ≤ η everywhere; M_i(p_i) = η(p_i); η(p_{i+1}) ≥ M_i(p_{i+1}) ≥ η(p_i).

    References
    ----------
    [TRPO (10)], [Hui]
    """
    iterations = count("mm.numbers", "iterations", iterations)
    p = np.linspace(0, 1, count("mm.numbers", "points", points, least=2))
    mdp, blind = _world(), np.ones((2, 1))
    policy, theta = worlds.two_actions(1), worlds.preference([np.log(FIRST / (1 - FIRST))])
    first = float(probability_table(policy, theta, blind)[0, 1])
    records = list(parametric_mm(mdp, policy, theta, blind, iterations=iterations))
    iterates = np.array([first, *(float(record.policy[0, 1]) for record in records)])
    return Minorization(
        probability=p,
        expected_return=np.array([evaluate(mdp, _blind(q)).expected_return for q in p]),
        minorizers=np.array([[trpo_kl_bound(mdp, _blind(at), _blind(q)).lower for q in p] for at in iterates[:-1]]),
        iterates=iterates,
        returns=np.array([records[0].old_return, *(record.expected_return for record in records)]),
        tops=np.array([record.minorizer for record in records]),
        penalties=np.array([record.penalty for record in records]),
    )


@page.house_style
def draw(at: Minorization) -> Figure:
    """Draw η, the first minorizers with their tops, and the steps from one to the next.

    Parameters
    ----------
    at : Minorization
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (axes,) = page.open_page(
        r"Each step goes to the top of a lower bound $M_i$ that touches $\eta$ where one stands: $\eta$ never falls",
        height=3.9,
    )
    low = 0.36
    finite = np.isfinite(at.minorizers)
    axes.set(xlim=(0, 1), ylim=(low, 0.7))
    axes.set_xlabel(r"probability $p$ of action 1, the same in both states")
    axes.set_ylabel(r"expected return $\eta$")
    axes.plot(at.probability, at.expected_return, **page.BLACK.line, linewidth=2.0, zorder=3)
    page.note(axes, r"$\eta$", (0.97, float(np.interp(0.97, at.probability, at.expected_return))), (0, 11), "black")
    for i, ink in enumerate(INKS[: len(at.tops)]):
        axes.plot(at.probability[finite[i]], at.minorizers[i, finite[i]], **ink.line)
        new, top = at.iterates[i + 1], at.tops[i]
        axes.plot([new, new], [top, at.returns[i + 1]], color=ink.colour, linewidth=0.9)
        axes.plot([new], [top], "^", color=ink.colour, markersize=5.5, zorder=4)
        right = np.flatnonzero((at.probability > new) & finite[i])
        end = right[np.abs(at.minorizers[i, right] - (low + 0.06)).argmin()]
        page.note(axes, f"$M_{i}$", (at.probability[end], at.minorizers[i, end]), (6, 2), ink.colour)
    axes.plot(at.iterates, at.returns, "o", color="black", markerfacecolor="white", markersize=5, zorder=5)
    for i, (p, eta) in enumerate(zip(at.iterates[:NAMED], at.returns, strict=False)):
        page.note(axes, f"$p_{i}$", (p, eta), (-6, 7), "black", ha="right")
    constant = rf"$C = 4\,\varepsilon\gamma/(1-\gamma)^2$ as in the theorem; $\gamma = {DISCOUNT}$"
    page.note(axes, constant, (0, 0.7), (8, -6), page.GREY)
    return figure
