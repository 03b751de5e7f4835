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
FIRST = (-0.9, 0.3)
DECADES = 2.0  # on either side of δ


class Solutions(NamedTuple):
    """The solutions of a trust-region problem for all radii.

    Fields: ``radius`` (N,) δ, nats, that of the left panel in the middle; ``penalty`` (N,) β, return units per nat;
    ``gain`` (N,) of the best step; ``dual`` (N,) D(β) of the problem in the middle, return units.
    """

    radius: Array
    penalty: Array
    gain: Array
    dual: Array


class Duality(NamedTuple):
    """Numbers of the figure ``duality``.

    Fields: ``max_kl`` δ of the left panel, nats; ``quadratic`` and ``exact``, each `Solutions`.
    """

    max_kl: float
    quadratic: Solutions
    exact: Solutions


def numbers(max_kl: float = 0.1, points: int = 41) -> Duality:
    """Return the solutions of the quadratic and of the exact problem, and the dual functions they draw.

    Parameters
    ----------
    max_kl : float
        δ > 0, nats.
    points : int
        N, odd: of radii on either side of δ, and δ.

    Returns
    -------
    Duality

    Raises
    ------
    ValueError
        If δ ≤ 0, or ``points`` is not an odd number of at least 3.

    References
    ----------
    [TRPO (12)], [PPO (5)], [Hui]
    """
    delta = scalar("duality.numbers", "max_kl", max_kl, above=0)
    points = count("duality.numbers", "points", points, least=3)
    if points % 2 == 0:
        raise ValueError(f"duality.numbers: points is {points}, expected an odd number")
    radius = delta * np.logspace(-DECADES, DECADES / 2, points)
    mdp, w, x = worlds.alternation(discount=DISCOUNT), np.array(FIRST), np.eye(2)
    at, theta = worlds.slope(mdp, w, x), worlds.preference(w)
    return Duality(delta, None, None)
