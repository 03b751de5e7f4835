"""Estimates trade bias for variance: the advantage by λ, an expectation under another policy by dividing through.

The world is a chain, its policy uniform, and V̂ a straight line through the values, fitted where the policy is: an
approximate value function.  What is drawn are not runs but expectations over the pairs (s, a) of d_π(s) π(a|s) ::

    bias²     E_(s,a) (bias(s, a) − Σ_a π bias(s, a))²          a part that all actions share is a baseline
    variance  E_(s,a) var Â(s, a),   /n for the mean of n estimates                                    [GAE (16)]

In one state of the chain Σ_a π'(a) Q(a) is estimated from n actions of π, with r = π'/π ::

    (1/n) Σ_i r_i Q_i    unbiased            Σ_i r_i Q_i / Σ_i r_i    bias ~ 1/n                      [TRPO (16)]

The second is exact for a Q that is constant; the first pays for what all actions have in common.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from refpg.estimation import gae_moments, importance_sampling_moments, self_normalized_moments
from refpg.mdp import Evaluation, chain, evaluate
from refpg.notation import Array, count
from refpg.plots import page
from refpg.plots.page import Figure

STATES, DISCOUNT, SLIP = 8, 0.9, 0.1
SAMPLES = (1, 20)  # n, for which the best λ is marked
STATE, NEW = 4, (0.2, 0.8)  # where actions are weighed, and π' there
MOST_DRAWS = 300


class Trade(NamedTuple):
    """Numbers of the figure ``gae``.

    Fields: ``gae_lambda`` (N,) λ; ``bias_squared``, ``variance`` (N,), return units squared; ``samples`` (K,) n;
    ``total`` (K, N) bias² + variance/n; ``best`` (K,) λ*, where it is least; ``least`` (K,) there.  ``draws`` (M,) n;
    root mean square errors ``ordinary`` (M,) and ``self_normalized`` (M,), and ``self_normalized_bias`` (M,), its
    magnitude, return units.
    """

    gae_lambda: Array
    bias_squared: Array
    variance: Array
    samples: Array
    total: Array
    best: Array
    least: Array
    draws: Array
    ordinary: Array
    self_normalized: Array
    self_normalized_bias: Array


def _line(at: Evaluation) -> Array:
    """Return the straight line through V_π over the states' numbers, weighted by d_π."""
    s = np.arange(len(at.values))
    return np.asarray(np.polyval(np.polyfit(s, at.values, 1, w=np.sqrt(at.visitation_distribution)), s))


def numbers(points: int = 101) -> Trade:
    """Return the exact errors of both kinds of estimates.

    Parameters
    ----------
    points : int
        N, of the grid over λ.

    Returns
    -------
    Trade

    Raises
    ------
    ValueError
        If ``points`` is not at least 2.

    References
    ----------
    [GAE section 3], [TRPO (16)]
    """
    lam = np.linspace(0, 1, count("gae.numbers", "points", points, least=2))
    mdp = chain(STATES, discount=DISCOUNT, slip=SLIP)
    pi = np.full((STATES, 2), 0.5)
    at = evaluate(mdp, pi)
    values, weights = _line(at), at.visitation_distribution[:, np.newaxis] * pi

    def errors(gae_lambda: float) -> tuple[float, float]:
        moments = gae_moments(mdp, pi, values, gae_lambda)
        bias = moments.bias - np.sum(pi * moments.bias, axis=1, keepdims=True)
        return float(np.sum(weights * bias**2)), float(np.sum(weights * moments.variance))

    def total(gae_lambda: float, n: int) -> float:
        bias_squared, variance = errors(gae_lambda)
        return bias_squared + variance / n

    squares, variance = np.array([errors(one) for one in lam]).T
    found = [
        minimize_scalar(total, args=(m,), bounds=(0, 1), method="bounded", options={"xatol": 1e-8}) for m in SAMPLES
    ]
    n = np.unique(np.round(np.geomspace(1, MOST_DRAWS, 25)).astype(int))
    experiment = pi[STATE], np.array(NEW), at.values[STATE] + at.advantages[STATE]
    ordinary = [importance_sampling_moments(*experiment, int(m)) for m in n]
    divided = [self_normalized_moments(*experiment, int(m)) for m in n]
    return Trade(
        gae_lambda=lam,
        bias_squared=squares,
        variance=variance,
        samples=np.array(SAMPLES),
        total=np.array([squares + variance / m for m in SAMPLES]),
        best=np.array([one.x for one in found]),
        least=np.array([one.fun for one in found]),
        draws=n,
        ordinary=np.sqrt([one.mean_squared_error for one in ordinary]),
        self_normalized=np.sqrt([one.mean_squared_error for one in divided]),
        self_normalized_bias=np.abs([one.bias for one in divided]),
    )


@page.house_style
def draw(at: Trade) -> Figure:
    """Draw bias and variance over λ, and the errors of importance sampling over n.

    Parameters
    ----------
    at : Trade
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (advantage, weighing) = page.open_page(
        r"Some bias for less variance: $\lambda$ trades them, and so does dividing by the sum of the ratios",
        columns=2,
        right=1.15,
        between=(0.6, 0.85),
    )
    high = 1.25 * at.total[0, 0]
    advantage.set(xlim=(0, 1), ylim=(0, high))
    advantage.plot(at.gae_lambda, at.bias_squared, **page.BLUE.line)
    advantage.plot(at.gae_lambda, at.variance, **page.VERMILLION.line)
    (one, many), (best, later), (least, fewer) = at.total, at.best, at.least
    for curve, top, ink in ((one, (best, least), page.BLACK), (many, (later, fewer), page.GREEN)):
        advantage.plot(at.gae_lambda, curve, **ink.line)
        advantage.plot(*top, "o", color=ink.colour, markerfacecolor="white", zorder=5)
    page.note(advantage, f"their sum:\nleast at {best:.2f}", (best, least), (0, -17), "black", ha="center")
    mean = f"mean of {at.samples[1]}:\nleast at {later:.2f}"
    page.note(advantage, mean, (later, fewer), (-14, 30), page.GREEN.colour, ha="center")
    middle = len(at.gae_lambda) // 2
    page.note(advantage, "variance", (0, at.variance[0]), (4, -8), page.VERMILLION.colour)
    page.note(advantage, "bias$^2$", (0.5, at.bias_squared[middle]), (-6, -8), page.BLUE.colour, ha="right")
    advantage.set_xlabel(r"$\lambda$")
    advantage.set_ylabel("mean squared error of $A$, return units squared")

    weighing.set(xscale="log", yscale="log", xlim=(at.draws[0], at.draws[-1]))
    weighing.plot(at.draws, at.ordinary, **page.VERMILLION.line)
    weighing.plot(at.draws, at.self_normalized, **page.BLACK.line)
    weighing.plot(at.draws, at.self_normalized_bias, **page.BLUE.line)
    weighing.set_xlabel("number of actions $n$")
    weighing.set_ylabel("root mean square error, return units")
    late = 3 * len(at.draws) // 5
    for curve, slope in ((at.self_normalized, "n^{-1/2}"), (at.self_normalized_bias, "n^{-1}")):
        page.note(weighing, f"${slope}$", (at.draws[late], curve[late]), (3, 8), page.GREY)
    page.name_ends(
        weighing,
        [
            ("ordinary", float(at.ordinary[-1]), page.VERMILLION.colour),
            ("self-normalised", float(at.self_normalized[-1]), "black"),
            ("its bias", float(at.self_normalized_bias[-1]), page.BLUE.colour),
        ],
    )
    return figure
