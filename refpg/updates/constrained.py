"""Two constraints: a trust region and a cost, whose dual has a closed form [CPO section 6].

::

    max_s gᵀs      subject to      ½sᵀHs ≤ δ,      c + bᵀs ≤ 0

    q = gᵀH⁻¹g          r = gᵀH⁻¹b          S = bᵀH⁻¹b
    dual    min_{λ, ν ≥ 0}  (q − 2νr + ν²S)/(2λ) + λδ − νc          s = H⁻¹(g − νb)/λ

Either the step of the trust region alone meets the cost constraint, or the cost constraint binds.  There s is the
shortest way to its edge, and then along the edge the part of g that does not see the cost ::

    s = −(c/S) H⁻¹b + x/λ,     x = H⁻¹(g − (r/S)b),   bᵀx = 0          λ = √(xᵀHx/(2δ − c²/S)),   ν = (r + λc)/S

If c > 0 and c²/S ≥ 2δ the edge is out of reach (or just touched): recovery, the step that lowers the cost most.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array, bind_shapes, finite_results, scalar
from refpg.solvers import solve_cholesky
from refpg.updates.duality import trust_region_dual
from refpg.updates.ending import CostEnding


class CostConstrainedDual(NamedTuple):
    """A trust-region problem with a cost constraint and its dual, both solved.

    Fields: ``step`` (P,), s; ``multiplier`` λ of the trust region, return units per nat; ``cost_multiplier`` ν, return
    units per unit of cost; ``value`` gᵀs; ``quadratic_kl`` ½sᵀHs; ``cost`` c + bᵀs after the step; ``kkt_residual``
    ‖g − λHs − νb‖/‖g‖; ``duality_gap`` dual − gᵀs, 0 up to rounding; ``ending``.  In recovery there is no dual: the
    multipliers and the last two are NaN.
    """

    step: Array
    multiplier: float
    cost_multiplier: float
    value: float
    quadratic_kl: float
    cost: float
    kkt_residual: float
    duality_gap: float
    ending: CostEnding


def cost_constrained_dual(
    matrix: Any, gradient: Any, cost_gradient: Any, cost: float, max_kl: float
) -> CostConstrainedDual:
    """Maximise a linear function inside an ellipsoid and on one side of a plane, the step of constrained optimisation.

    ::

        max_s gᵀs   subject to   ½sᵀHs ≤ δ,   c + bᵀs ≤ 0

    Parameters
    ----------
    matrix : (P, P) array
        H, symmetric and positive definite: a Fisher matrix, with its damping.
    gradient : (P,) array
        g, of the objective.
    cost_gradient : (P,) array
        b, of the expected cost.
    cost : float
        c, the expected cost less its limit: positive where the constraint is violated.
    max_kl : float
        δ > 0, nats.

    Returns
    -------
    CostConstrainedDual
        ``ending`` says which constraints bind, or that no step meets the cost constraint: then the step is
        −√(2δ/S) H⁻¹b, or 0 if b = 0 too.

    Raises
    ------
    ValueError
        If a shape disagrees, a number is out of range, or H is not symmetric or singular to working precision.

    Notes
    -----
    Convention: the trust region is ½sᵀHs ≤ δ.  Where g has no part along the edge, every step on the edge is as good:
    λ = 0 and the shortest one is taken, or λ is what rounding left of g and the step has what rounding chose.

    References
    ----------
    [CPO section 6]

    Examples
    --------
    The plane keeps s₁ ≤ 0.6 of the unit disc:

    >>> import numpy as np
    >>> solution = cost_constrained_dual(np.eye(2), [2.0, 1.0], [1.0, 0.0], cost=-0.6, max_kl=0.5)
    >>> solution.step.round(12), round(solution.multiplier, 12), round(solution.cost_multiplier, 12)
    (array([0.6, 0.8]), 1.25, 1.25)
    """
    name = "cost_constrained_dual"
    H, g, b = bind_shapes(
        name, {}, matrix=(matrix, "P P"), gradient=(gradient, "P"), cost_gradient=(cost_gradient, "P")
    )
    c = scalar(name, "cost", cost)
    delta = scalar(name, "max_kl", max_kl, above=0)
    free = trust_region_dual(H, g, delta)
    y = solve_cholesky(H, b, 0.0)
    S = float(b @ y)
    out_of_reach = c * c >= 2 * delta * S
    if c + b @ free.step <= 0 or (out_of_reach and c < 0):
        return _solution(H, g, b, c, delta, free.step, free.multiplier, 0.0, CostEnding.COST_INACTIVE)
    if not b.any():
        return _recovery(H, g, b, c, np.zeros_like(g), CostEnding.INFEASIBLE)
    if out_of_reach:
        return _recovery(H, g, b, c, -np.sqrt(2 * delta / S) * y, CostEnding.RECOVERY)
    r = float(g @ y)
    x = solve_cholesky(H, g - r / S * b, 0.0)
    along = x - b @ x / S * y  # once more, since where g is nearly along b the rounding of x points anywhere
    length, before = float(along @ H @ along), float(x @ H @ x)
    multiplier = float(np.sqrt(length / (2 * delta - c * c / S))) if 4 * length > before else 0.0
    s = -c / S * y + (along / multiplier if multiplier > 0 else 0.0)
    return _solution(H, g, b, c, delta, s, multiplier, (r + multiplier * c) / S, CostEnding.COST_BINDS)


@finite_results
def _solution(
    H: Array, g: Array, b: Array, c: float, delta: float, s: Array, lam: float, nu: float, ending: CostEnding
) -> CostConstrainedDual:
    Hs = H @ s
    value, quadratic_kl, after = float(g @ s), float(0.5 * s @ Hs), float(c + b @ s)
    # The Lagrangian gᵀs − λ(½sᵀHs − δ) − ν(c + bᵀs) at its own maximiser is the dual: what is left are the slacks.
    gap = lam * (delta - quadratic_kl) - nu * after
    norm = np.linalg.norm(g)
    residual = float(np.linalg.norm(g - lam * Hs - nu * b) / norm) if norm > 0 else 0.0
    return CostConstrainedDual(s, lam, nu, value, quadratic_kl, after, residual, gap, ending)


def _recovery(H: Array, g: Array, b: Array, c: float, s: Array, ending: CostEnding) -> CostConstrainedDual:
    return CostConstrainedDual(
        s, np.nan, np.nan, float(g @ s), float(0.5 * s @ H @ s), float(c + b @ s), np.nan, np.nan, ending
    )
