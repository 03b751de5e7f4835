"""Lagrangian duality: a trust region and a penalty are one problem, seen from two sides.

::

    constrained    max_s  gᵀs             subject to  ½ sᵀHs ≤ δ                  H = F + λI
    penalised      max_s  gᵀs − β ½ sᵀHs
    dual           min_β  D(β) = max_s [gᵀs − β(½ sᵀHs − δ)] = gᵀH⁻¹g/(2β) + βδ

    s = H⁻¹g/β          β = √(gᵀH⁻¹g/(2δ))          δ = gᵀH⁻¹g/(2β²)          gᵀs = D(β) = √(2δ gᵀH⁻¹g)

For every radius δ there is one penalty β with the same solution, and for every β one δ: the two maps are inverse to
each other, and no value lies between the best s and the best β.  Here everything is a matrix and a vector; policies are
in the modules that follow.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array, bind_shapes, finite_results, scalar
from refpg.solvers import solve_cholesky


class TrustRegionDual(NamedTuple):
    """A quadratic trust-region problem and its dual, both solved.

    Fields: ``step`` (P,), s; ``multiplier`` β of the constraint, return units per nat, 0 where the gradient is zero;
    ``value`` gᵀs; ``quadratic_kl`` ½sᵀHs; ``kkt_residual`` ‖g − βHs‖/‖g‖; ``duality_gap`` D(β) − gᵀs, 0 up to rounding.
    """

    step: Array
    multiplier: float
    value: float
    quadratic_kl: float
    kkt_residual: float
    duality_gap: float


@finite_results
def trust_region_dual(matrix: Any, gradient: Any, max_kl: float) -> TrustRegionDual:
    """Maximise a linear function inside an ellipsoid, and return the multiplier that makes it a penalty.

    ::

        max_s gᵀs   subject to   ½sᵀHs ≤ δ

        x = H⁻¹g          β = √(gᵀx/(2δ))          s = x/β          gᵀs = √(2δ gᵀx)

    Parameters
    ----------
    matrix : (P, P) array
        H, symmetric and positive definite: a Fisher matrix, with its damping.
    gradient : (P,) array
        g.
    max_kl : float
        δ > 0, nats.

    Returns
    -------
    TrustRegionDual
        At g = 0 the step, the multiplier and the value are 0.

    Raises
    ------
    ValueError
        If a shape disagrees, δ ≤ 0, or H is not symmetric or singular to working precision.

    Notes
    -----
    Laws: H s β = g; ½sᵀHs = δ; the penalised problem with β has the same solution (`penalty_step`); D(β) = gᵀs.

    References
    ----------
    [TRPO (17)], [Hui]

    Examples
    --------
    >>> import numpy as np
    >>> solution = trust_region_dual(np.diag([4.0, 1.0]), [4.0, 0.0], max_kl=2.0)
    >>> solution.step, solution.multiplier, solution.value, solution.duality_gap
    (array([1., 0.]), 1.0, 4.0, 0.0)
    """
    name = "trust_region_dual"
    H, g = bind_shapes(name, {}, matrix=(matrix, "P P"), gradient=(gradient, "P"))
    delta = scalar(name, "max_kl", max_kl, above=0)
    x, curvature, unit = _natural(H, g)
    if not g.any():
        return TrustRegionDual(np.zeros_like(g), 0.0, 0.0, 0.0, 0.0, 0.0)
    beta = np.sqrt(curvature / (2 * delta))
    return _solved(H, g / unit, x / beta, beta, delta, unit)


@finite_results
def penalty_step(matrix: Any, gradient: Any, penalty: float) -> TrustRegionDual:
    """Maximise a linear function less a quadratic penalty, and return the radius that makes it a constraint.

    ::

        max_s gᵀs − β ½sᵀHs          s = H⁻¹g/β,   δ = ½sᵀHs

    Parameters
    ----------
    matrix : (P, P) array
        H, symmetric and positive definite.
    gradient : (P,) array
        g.
    penalty : float
        β > 0, return units per nat.

    Returns
    -------
    TrustRegionDual
        With ``multiplier`` β and ``quadratic_kl`` the radius δ whose trust region has the same solution.

    Raises
    ------
    ValueError
        If a shape disagrees, β ≤ 0, or H is not symmetric or singular to working precision.

    References
    ----------
    [PPO (5)], [Hui]

    Examples
    --------
    >>> import numpy as np
    >>> penalty_step(np.diag([4.0, 1.0]), [4.0, 0.0], penalty=1.0).quadratic_kl
    2.0
    """
    name = "penalty_step"
    H, g = bind_shapes(name, {}, matrix=(matrix, "P P"), gradient=(gradient, "P"))
    beta = scalar(name, "penalty", penalty, above=0)
    x, curvature, unit = _natural(H, g)
    if not g.any():
        return TrustRegionDual(np.zeros_like(g), beta, 0.0, 0.0, 0.0, 0.0)
    beta /= unit
    return _solved(H, g / unit, x / beta, beta, curvature / (2 * beta**2), unit)


def _natural(H: Array, g: Array) -> tuple[Array, float, float]:
    """Return x = H⁻¹g and gᵀx for g in units of a power of two, so that no square of a gradient leaves the range."""
    unit = float(np.ldexp(1.0, np.frexp(np.abs(g).max())[1]))
    x = solve_cholesky(H, g / unit, 0.0)
    return x, float((g / unit) @ x), unit


def _solved(H: Array, g: Array, s: Array, beta: float, delta: float, unit: float) -> TrustRegionDual:
    value = float(g @ s)
    Hs = H @ s
    dual_value = value / 2 + beta * delta  # gᵀH⁻¹g/(2β) = gᵀs/2, since s = H⁻¹g/β
    return TrustRegionDual(
        step=s,
        multiplier=float(beta * unit),
        value=value * unit,
        quadratic_kl=float(0.5 * s @ Hs),
        kkt_residual=float(np.linalg.norm(g - beta * Hs) / np.linalg.norm(g)),
        duality_gap=float((dual_value - value) * unit),
    )


@finite_results
def penalty_of_radius(matrix: Any, gradient: Any, max_kl: float) -> float:
    """Return the penalty β whose problem has the same solution as the trust region of radius δ.

    ::

        β = √(gᵀH⁻¹g/(2δ))

    Parameters
    ----------
    matrix : (P, P) array
        H, symmetric and positive definite.
    gradient : (P,) array
        g.
    max_kl : float
        δ > 0, nats.

    Returns
    -------
    float
        Return units per nat; 0 if g = 0.

    Raises
    ------
    ValueError
        As `trust_region_dual`.

    Notes
    -----
    Convention: H and g at the current θ.  β belongs to δ only there: a constant β means another radius at every
    iteration, which is why a constraint is easier to choose than a penalty.

    References
    ----------
    [TRPO section 4], [Hui]

    Examples
    --------
    >>> penalty_of_radius([[1.0]], [3.0], max_kl=0.5)
    3.0
    """
    return trust_region_dual(matrix, gradient, max_kl).multiplier


@finite_results
def radius_of_penalty(matrix: Any, gradient: Any, penalty: float) -> float:
    """Return the radius δ of the trust region that has the same solution as the problem with penalty β.

    ::

        δ = gᵀH⁻¹g/(2β²)

    Parameters
    ----------
    matrix : (P, P) array
        H, symmetric and positive definite.
    gradient : (P,) array
        g.
    penalty : float
        β > 0, return units per nat.

    Returns
    -------
    float
        Nats; 0 if g = 0.

    Raises
    ------
    ValueError
        As `penalty_step`.

    References
    ----------
    [TRPO section 4], [Hui]

    Examples
    --------
    >>> radius_of_penalty([[1.0]], [3.0], penalty=3.0)
    0.5
    """
    return penalty_step(matrix, gradient, penalty).quadratic_kl
