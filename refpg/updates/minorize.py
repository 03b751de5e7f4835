"""The exact step of the minorize–maximization algorithm for a policy that is a table [TRPO Alg. 1].

::

    π_{i+1} = argmax_π M_i(π)          M_i(π) = L_{π_i}(π) − C max_s KL(π_i(·|s) ‖ π(·|s))

For a radius κ that all states share, each state has its own best row (`refpg.updates.tables`), and its multiplier
λ_s(κ) is what a little more radius would gain there.  The radius costs C; so the best one is where the last bit of it
gains in all states together what it costs ::

    max_κ Σ_s ρ(s) v_s(κ) − C κ,   v_s' = λ_s          Σ_s ρ(s) λ_s(κ) = C

a concave problem with one root, since every λ_s falls.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from refpg.notation import Array, bind_shapes, scalar
from refpg.updates.ending import MMEnding
from refpg.updates.tables import SMALLEST, ball, checked_rows, greedy_step, state_problems

LEAST_LOG_RADIUS, LARGEST_LOG_RADIUS = -690.0, 690.0  # log κ of a radius that moves nothing, and one that stops nothing


class MMStep(NamedTuple):
    """What a minorize–maximization step did.

    Fields: ``max_kl`` κ, the radius that pays best, 0 where none does and infinite where it is free; ``multipliers`` λ
    (S,), return units per nat, Σ_s ρ(s) λ_s = C where the policy moved; ``ending``.
    """

    max_kl: float
    multipliers: Array
    ending: MMEnding


def mm_step(policy: Any, advantages: Any, visitation: Any, penalty: float) -> tuple[Array, MMStep]:
    """Return the policy that maximises the minorizer, exactly.

    ::

        argmax_π Σ_s ρ(s) Σ_a π(a|s) A(s,a) − C max_s KL(π_old(·|s) ‖ π(·|s))

    Parameters
    ----------
    policy : (S, A) array
        π_old.
    advantages : (S, A) array
        A, of π_old, return units.
    visitation : (S,) array
        ρ ≥ 0, unnormalised, of π_old.
    penalty : float
        C ≥ 0, return units per nat: `refpg.bounds.penalty_coefficient`, or half of it.

    Returns
    -------
    table : (S, A) array
        The new policy, or π_old itself.
    info : MMStep

    Raises
    ------
    ValueError
        If a shape disagrees, a row is not a distribution, a visitation or C is negative.

    Notes
    -----
    Convention: rows of states that are never visited do not count; they take the step of the same radius.  At C = 0 the
    step is `greedy_step`.

    Where π_old is deterministic in every state visited the first nat buys at most Σ_s ρ(s) max_a A(s,a) ≤ ε/(1 − γ),
    which TRPO's C = 4εγ/(1 − γ)² exceeds for γ > 1/5: the algorithm then never leaves a deterministic policy, good or
    bad.

    Laws: Σ_s ρ λ = C; M does not fall, so with TRPO's C η does not.

    References
    ----------
    [TRPO Alg. 1], [Hui]

    Examples
    --------
    A deterministic row: (1 − e^{−κ}) 8 − 4κ is best where 8e^{−κ} = 4.

    >>> import math
    >>> table, info = mm_step([[1.0, 0.0]], [[0.0, 8.0]], [1.0], penalty=4.0)
    >>> table.round(12), round(info.max_kl / math.log(2), 12), info.ending.name
    (array([[0.5, 0.5]]), 1.0, 'IMPROVED')
    """
    name = "mm_step"
    p, A = checked_rows(name, policy, advantages)
    (rho,) = bind_shapes(name, {"S": len(p)}, visitation=(visitation, "S"))
    if (rho < 0).any():
        raise ValueError(f"{name}: visitation is {rho.min()!r} in state {rho.argmin()}, expected numbers >= 0")
    C = scalar(name, "penalty", penalty, least=0)
    if C == 0:
        table = greedy_step(p, A)
        return table, MMStep(np.inf, np.zeros(len(p)), _ending(p, table))

    log_kappa = _log_radius(p, A, rho, C)
    if log_kappa is None:
        return p.copy(), MMStep(0.0, np.zeros(len(p)), MMEnding.AT_MAXIMUM)
    kappa = float(np.exp(log_kappa))
    table, info = ball(p, A, kappa)
    return table, MMStep(kappa, info.multipliers, _ending(p, table))


def _ending(p: Array, table: Array) -> MMEnding:
    return MMEnding.AT_MAXIMUM if (table == p).all() else MMEnding.IMPROVED


def _log_radius(p: Array, A: Array, rho: Array, C: float) -> float | None:
    """Solve Σ ρ λ(κ) = C for log κ; None if even the first bit of radius costs more than it gains."""
    at = state_problems(p, A)
    certain = at.variance == 0
    if (certain | (rho == 0)).all() and rho @ np.where(at.outside, at.D, 0) <= C:
        return None

    def excess(log_kappa: float) -> float:
        gained = float(rho @ ball(p, A, float(np.exp(log_kappa)))[1].multipliers)
        return float(np.log(max(gained, SMALLEST)) - np.log(C))

    # λ → D √(Var_p d/(2κ)) as κ → 0
    quadratic = float(rho @ (at.D * np.sqrt(at.variance / 2)))
    start = 0.0 if quadratic == 0 else float(2 * (np.log(quadratic) - np.log(C)))
    lower = upper = float(np.clip(start, LEAST_LOG_RADIUS, LARGEST_LOG_RADIUS))
    reach = 1.0
    while excess(lower) < 0:
        if lower == LEAST_LOG_RADIUS:
            return None
        lower, reach = max(lower - reach, LEAST_LOG_RADIUS), 2 * reach
    reach = 1.0
    while excess(upper) > 0:
        if upper == LARGEST_LOG_RADIUS:
            return upper
        upper, reach = min(upper + reach, LARGEST_LOG_RADIUS), 2 * reach
    if lower == upper:
        return lower
    return float(brentq(excess, lower, upper, xtol=4e-16, rtol=4 * np.finfo(np.float64).eps))
