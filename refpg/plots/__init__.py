"""The article's figures, drawn from exact numbers.

Each module is one figure: ``numbers`` returns a record in which every curve is computed by the chapters above, and
``draw`` puts it on a page of matplotlib (the extra ``plot``).  The numbers are held to the theorems by tests: what a
picture shows is not a sketch of the theory but the theory, evaluated.

* `mm`: η and the minorizers that touch it, with the iterates of the exact algorithm;
* `bounds`: every lower bound of η, in their order;
* `taylor`: what L and the Fisher matrix leave over;
* `trust_region`: the ridge, a gradient step beside a trust region;
* `natural`: the two-state example of [K01], plain and natural gradient;
* `cg`: conjugate gradients, their bound, and SciPy's;
* `line`: what an update of PPO and one of TRPO see of themselves;
* `duality`: the dual function, and the penalty of every radius;
* `cost`: a cost constraint beside the trust region, and its price;
* `mean_kl`: two pairs of policies for which a bound with the mean does not hold;
* `gae`: bias and variance of advantages by λ, and of importance sampling;
* `clip`: the clipped objective of one sample;
* `penalty`: PPO's adaptive penalty on its way to its target;
* `training`: the learning curves of all loops;
* `learning_curve`: the curve of one run, which is no figure of the article;
* `worlds`: the MDPs and policies that were made for them;
* `page`: type, inks, names beside lines, and the bytes of a file;
* `files`: where figures are written.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refpg.notation import choice
from refpg.plots import (
    bounds,
    cg,
    clip,
    cost,
    duality,
    gae,
    learning_curve,
    line,
    mean_kl,
    mm,
    natural,
    penalty,
    taylor,
    training,
    trust_region,
)
from refpg.plots.files import destinations, save
from refpg.plots.page import FORMS, Figure, MissingMatplotlib, render, require_matplotlib

__all__ = [
    "FIGURES",
    "FORMS",
    "Figure",
    "MissingMatplotlib",
    "Plate",
    "destinations",
    "figure",
    "learning_curve",
    "render",
    "save",
]


class Plate(NamedTuple):
    """A figure that can be asked for by name.

    Fields: ``title``; ``caption``, what it shows of the theory; ``numbers``, generator → its record; ``draw``, record →
    figure; ``drawn`` whether anything of it is drawn at random.
    """

    title: str
    caption: str
    numbers: Callable[[np.random.Generator], Any]
    draw: Callable[[Any], Figure]
    drawn: bool


FIGURES = {
    "mm": Plate(
        "minorize–maximization: η and the lower bounds it climbs by",
        "Minorize–maximization: the expected return η of an MDP with one number p to be chosen, and the article's "
        "lower bounds M = L − C·max KL with C as in the theorem. Each M touches η where the algorithm stands (circle), "
        "lies below it everywhere, and its top (triangle) is the next iterate: η ≥ M ≥ the η before.",
        lambda _: mm.numbers(),
        mm.draw,
        False,
    ),
    "bounds": Plate(
        "every lower bound of η, in their order",
        "Every lower bound of η between a policy and the greedy one. Left: what each guarantees; the article's bound, "
        "C·max KL, is the first to guarantee nothing. Right: how far each is below η; all vanish as α² does, and "
        "span, CPO, max TV², C/2·max KL, C·max KL keep this order.",
        bounds.numbers,
        bounds.draw,
        True,
    ),
    "mean-kl": Plate(
        "max KL → mean KL: two counterexamples",
        "Max KL → mean KL is no theorem. Two families of pairs of policies in which L sees no change: the loss of η is "
        "more than C times the mean of TV² (left, for every β below 0.2) or of KL (right, for every γ below 0.028) "
        "allows. With the maximum over states both bounds hold; what holds with a mean has TV, or the root of KL.",
        lambda _: mean_kl.numbers(),
        mean_kl.draw,
        False,
    ),
    "taylor": Plate(
        "Taylor's expansion: what L and the Fisher matrix leave over",
        "Taylor's expansion. Left: η − L and L − its tangent both fall as t². Right: ½t²sᵀFs differs from KL by t³, in "
        "either direction of KL: both have the Fisher matrix as their second derivative.",
        taylor.numbers,
        taylor.draw,
        True,
    ),
    "trust-region": Plate(
        "the ridge: trust region against line search",
        "The ridge. Two steps of the same length: along the gradient η first rises and then falls below where it was; "
        "the natural gradient, to the edge of the trust region, rises. Line search alone finds the top of the plain "
        "curve; the trust region asks first how far, then in which direction.",
        lambda _: trust_region.numbers(),
        trust_region.draw,
        False,
    ),
    "duality": Plate(
        "Lagrangian duality: a radius for every penalty",
        "Lagrangian duality, for the quadratic model and for L and KL themselves. Left: the dual function of the trust "
        "region with δ = 0.5; its least value is the gain of the best step, there is no gap. Right: the penalty that "
        "has the same solution as each radius. Both problems agree on small radii, where β falls as δ^(−1/2).",
        lambda _: duality.numbers(),
        duality.draw,
        False,
    ),
    "cost": Plate(
        "a cost constraint, and what a unit of cost is worth",
        "A cost constraint beside the trust region, as in constrained policy optimisation. Left: the best step with "
        "and without it. Right: the gain by what the cost exceeds its limit; it falls with the slope ν, the multiplier "
        "of the constraint, from where it is first felt to where no step in the region meets it.",
        lambda _: cost.numbers(),
        cost.draw,
        False,
    ),
    "natural": Plate(
        "Kakade's two states: plain and natural gradient",
        "Kakade's two states, gradients followed continuously. The plain one takes another path if the logit of state "
        "1 is measured in other units (c), and for c = 1 it rests for a long time at the reward of state 0. The "
        "natural one goes one path, at one speed: dots are computed with c = 3, the line with c = 1.",
        lambda _: natural.numbers(),
        natural.draw,
        False,
    ),
    "cg": Plate(
        "conjugate gradients, their bound, and SciPy's",
        "Conjugate gradients on the Fisher matrix of a policy, for two dampings λ: the error in the norm of the matrix "
        "never exceeds the bound from its condition number κ, and refpg's iterates are SciPy's. After TRPO's ten steps "
        "the direction is exact to 10⁻³ or to 10⁻¹, as the damping has it.",
        cg.numbers,
        cg.draw,
        True,
    ),
    "gae": Plate(
        "bias and variance of advantages and of importance sampling",
        "Exact errors of two kinds of estimates. Left: advantages from a value function that is a straight line: bias² "
        "falls with λ and variance rises; the best λ is the larger, the more estimates are averaged. Right: an "
        "expectation under a new policy from n actions of the old one: self-normalised importance sampling has a bias, "
        "of order 1/n, and an error far below that of the ordinary estimate.",
        lambda _: gae.numbers(),
        gae.draw,
        False,
    ),
    "line": Plate(
        "L, L^CLIP, KL and η along an update of PPO and of TRPO",
        "The line through one exact update of PPO and one of TRPO: L, the clipped objective, the expected return "
        "itself, and below the mean KL. L^CLIP ≤ L, and all three leave θ_old with one slope; PPO goes about where "
        "L^CLIP is highest, TRPO to where the KL is δ.",
        line.numbers,
        line.draw,
        True,
    ),
    "clip": Plate(
        "the clipped objective for both signs of the advantage",
        "PPO's objective for one sample. For A > 0 it is flat above 1 + ε, for A < 0 below 1 − ε; it is nowhere above "
        "rA.",
        lambda _: clip.numbers(),
        clip.draw,
        False,
    ),
    "penalty": Plate(
        "PPO's adaptive penalty on its way to its target",
        "PPO's adaptive penalty with exact expectations, from a β that is ten times too small and one that is ten "
        "times too large. Above: the KL of each update, and the window around the target in which β is kept. Below: β "
        "and the multiplier that duality gives for a trust region of that radius.",
        lambda _: penalty.numbers(),
        penalty.draw,
        False,
    ),
    "training": Plate(
        "oracle learning curves of all loops",
        "Oracle learning curves: the loops with exact expectations on a chain of five states. η never falls for MM, "
        "CPI and MDPO, as their theorems say; MM, whose C is the theorem's, is the slowest.",
        lambda _: training.numbers(),
        training.draw,
        False,
    ),
}


def figure(name: str, generator: np.random.Generator) -> Figure:
    """Compute the numbers of a figure and draw it.

    Parameters
    ----------
    name : str
        One of ``FIGURES``.
    generator : numpy.random.Generator
        For the figures whose MDP or network is drawn at random.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no such figure.
    MissingMatplotlib
        If matplotlib is not installed.
    """
    require_matplotlib()
    plate = FIGURES[choice("figure", "name", name, tuple(FIGURES))]
    return plate.draw(plate.numbers(generator))
