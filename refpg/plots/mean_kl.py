"""Max KL → mean KL is no theorem: two pairs of policies that lose more than a bound with the mean would allow.

In both pairs L sees no change, L_π(π') = η(π), so a lower bound is a bound of the loss ::

    η(π) − η(π')  ≤  4εγ/(1 − γ)² max_s D(s)                                         [TRPO Thm 1], [TRPO (9)]
                  ≰  4εγ/(1 − γ)² Σ_s d_π(s) D(s)                    D = TV² or KL, in each of the two examples
                  ≤  what [CPO Cor. 1] and [CPO Cor. 3] allow: the mean of TV, the root of the mean of KL

States that π hardly visits hardly count in the mean, and π' may go there: the loss is linear in how often it does, and
a mean of squares is not.
"""

from typing import NamedTuple

import numpy as np

from refpg.bounds import compare, cpo_bound, cpo_kl_bound, penalty_coefficient, state_mean, trpo_kl_bound, trpo_tv_bound
from refpg.mdp import mean_kl_counterexample, mean_total_variation_counterexample
from refpg.mdp.examples import PolicyPair
from refpg.notation import Array, count
from refpg.plots import page
from refpg.plots.page import Axes, Figure

DISCOUNT = 0.5  # of the first example
LEAST_LEAVING, MOST_LEAVING = 0.005, 0.4  # β of the first example
LEAST_DISCOUNT, MOST_DISCOUNT = 0.001, 0.06  # γ of the second one


class Losses(NamedTuple):
    """A family of pairs of policies, and the loss that bounds allow it.

    Fields: ``parameter`` (N,); and in return units ``loss`` (N,) η(π) − η(π'); ``surrogate`` (N,) L_π(π') − η(π);
    ``by_max`` (N,), by the theorem; ``by_mean`` (N,), with the mean instead, which is no theorem; ``by_cpo`` (N,), by
    the theorem for means.
    """

    parameter: Array
    loss: Array
    surrogate: Array
    by_max: Array
    by_mean: Array
    by_cpo: Array


class Counterexamples(NamedTuple):
    """Numbers of the figure ``mean-kl``.

    Fields: ``total_variation``, over β, the probability of leaving; ``kl``, over γ; each `Losses`.
    """

    total_variation: Losses
    kl: Losses


def _row(pair: PolicyPair, *, of_kl: bool) -> tuple[float, ...]:
    seen = compare(*pair)
    C = penalty_coefficient(seen.advantages, seen.discount)
    divergence = seen.kl if of_kl else seen.total_variation**2
    theorem, in_the_mean = (trpo_kl_bound, cpo_kl_bound) if of_kl else (trpo_tv_bound, cpo_bound)
    allowed = theorem(*pair)
    return (
        -allowed.gain,
        seen.surrogate_gain,
        -allowed.guaranteed_gain,
        C * state_mean(divergence, seen.weights) - seen.surrogate_gain,
        -in_the_mean(*pair).guaranteed_gain,
    )


def numbers(points: int = 101) -> Counterexamples:
    """Return the losses of both families of pairs, and what bounds allow.

    Parameters
    ----------
    points : int
        N, of the grids over β and γ.

    Returns
    -------
    Counterexamples

    Raises
    ------
    ValueError
        If ``points`` is not at least 2.

    References
    ----------
    [TRPO Thm 1], [TRPO (12)], [CPO Cor. 3]
    """
    points = count("mean_kl.numbers", "points", points, least=2)
    beta = np.geomspace(LEAST_LEAVING, MOST_LEAVING, points)
    gamma = np.linspace(LEAST_DISCOUNT, MOST_DISCOUNT, points)
    leaving = [mean_total_variation_counterexample(discount=DISCOUNT, leaving=float(b)) for b in beta]
    rarely = [mean_kl_counterexample(discount=float(g)) for g in gamma]
    return Counterexamples(
        total_variation=Losses(beta, *np.array([_row(pair, of_kl=False) for pair in leaving]).T),
        kl=Losses(gamma, *np.array([_row(pair, of_kl=True) for pair in rarely]).T),
    )


def _panel(axes: Axes, at: Losses, unit: Array, names: tuple[str, str, str]) -> None:
    x, inks = at.parameter, (page.GREEN, page.VERMILLION, page.BLUE)
    axes.set(yscale="log", xlim=(x[0], x[-1]))
    axes.fill_between(x, at.by_mean / unit, at.loss / unit, where=at.loss > at.by_mean, color="#F6DDCB", linewidth=0)
    for curve, ink in zip((at.by_max, at.by_mean, at.by_cpo), inks, strict=True):
        axes.plot(x, curve / unit, **ink.line)
    axes.plot(x, at.loss / unit, **page.BLACK.line, linewidth=2.0)
    ends = [
        (name, float(curve[-1] / unit[-1]), ink.colour)
        for name, curve, ink in zip(names, (at.by_max, at.by_mean, at.by_cpo), inks, strict=True)
    ]
    page.name_ends(axes, [("loss", float(at.loss[-1] / unit[-1]), "black"), *ends])


@page.house_style
def draw(at: Counterexamples) -> Figure:
    """Draw the losses and what each bound allows, over the parameter of each family.

    Parameters
    ----------
    at : Counterexamples
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (variation, kl) = page.open_page(
        "The theorem has the maximum over states: with the mean instead, a policy may lose more than is allowed",
        columns=2,
        right=0.85,
        between=(0.6, 1.5),
    )
    _panel(variation, at.total_variation, np.ones_like(at.kl.parameter), ("max TV$^2$", "mean TV$^2$", "mean TV"))
    variation.set_xscale("log")
    variation.set_xlabel(r"probability $\beta$ of leaving state 0")
    variation.set_ylabel(r"loss of $\eta$, and what is allowed")
    _panel(kl, at.kl, at.kl.parameter, ("max KL", "mean KL", "mean KL$^{1/2}$"))  # all are of the order of γ
    kl.set_xlabel(r"discount factor $\gamma$")
    kl.set_ylabel(r"loss of $\eta$ and what is allowed, divided by $\gamma$")
    for axes, middle in ((variation, (0.006, 4e-3)), (kl, (0.002, 0.15))):
        page.note(axes, "broken", middle, (0, 0), page.VERMILLION.colour)
    return figure
