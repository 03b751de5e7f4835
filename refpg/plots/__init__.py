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
* `clip`: the clipped objective of one sample;
* `training`: the learning curves of all loops;
* `worlds`: the MDPs and policies that were made for them;
* `page`: type, inks, names beside lines, and the bytes of a file;
* `files`: where figures are written.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refpg.notation import choice
from refpg.plots import bounds, cg, clip, line, mm, natural, taylor, training, trust_region
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
