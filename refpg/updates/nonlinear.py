"""Steps of a network's policy on the exact L and KL, without Taylor's expansion, by SciPy's optimiser.

::

    trust region       max_θ' L(θ')   subject to   E_s KL(π_θ ‖ π_θ') ≤ δ                             [TRPO (12)]
    minorizer          max_θ' L(θ') − C max_s KL(π_θ(·|s) ‖ π_θ'(·|s))                               [TRPO Alg. 1]

The maximum over states has a kink wherever two states are equally far; as ``max L − C t`` subject to ``KL_s ≤ t`` it
has none.  Both problems are posed in the metric of the quadratic model, θ' = θ + σ W⁻ᵀ u with W Wᵀ = F + ρI, so that
u has length about 1, and they start from the quadratic model's own step, since at θ the gradient of the KL is 0 and
constrains nothing.

SciPy is only asked for a point.  What a point is worth is computed here, and a point that is not better than where it
came from is not taken.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from scipy.optimize import minimize, nnls

from refpg import surrogate
from refpg.geometry import fisher_matrix, fisher_rows, mean_kl, mean_kl_gradient
from refpg.network import jacobian
from refpg.notation import Array, Unrepresentable, bind_shapes, count, finite_results, row_weights, scalar
from refpg.policy import Batch, Policy, linearize, log_prob_vjp, log_ratio, parameters_and_change, probability_table
from refpg.solvers import backtracking, solve_minimum_norm
from refpg.updates.ending import Ending, MMEnding
from refpg.updates.natural import surrogate_gradient

RIDGE = 2.0**-6  # × the mean eigenvalue of F: coordinates in which nothing is far; no part of the problem
INSIDE = 1e-9  # relative excess of the KL that SciPy's accuracy may leave
ACCURACY = 1e-12  # relative change of the objective at which SciPy is content


class ExactTrustRegion(NamedTuple):
    """A step to the best point of the exact trust region, beside that of the quadratic model.

    Fields: ``step`` (P,), θ' − θ; ``improvement`` of the surrogate and mean ``kl`` there; ``multiplier`` λ and
    ``kkt_residual`` ‖∇L − λ∇KL‖/‖∇L(θ)‖; ``quadratic_step`` (P,),
    the undamped one of smallest norm, with the exact ``quadratic_improvement`` and ``quadratic_kl`` at its end, NaN and
    ∞ if they overflow; ``message`` SciPy's own account; ``ending``.
    """

    step: Array
    improvement: float
    kl: float
    multiplier: float
    kkt_residual: float
    quadratic_step: Array
    quadratic_improvement: float
    quadratic_kl: float
    message: str
    ending: Ending


class ParametricMMStep(NamedTuple):
    """A step to the best point found on the minorizer of a network's policy.

    Fields: ``step`` (P,), θ' − θ; ``minorizer_gain`` M(θ') − M(θ) ≥ 0; ``surrogate_gain`` L(θ') − L(θ); ``max_kl``;
    ``multipliers`` μ (S,), Σ μ = C, of the states' KL; ``kkt_residual`` ‖∇L − Σ_s μ_s ∇KL_s‖/‖∇L(θ)‖; ``message``
    SciPy's own account; ``ending``.
    """

    step: Array
    minorizer_gain: float
    surrogate_gain: float
    max_kl: float
    multipliers: Array
    kkt_residual: float
    message: str
    ending: MMEnding


@finite_results
def exact_trust_region_step(
    policy: Policy, theta: Any, batch: Batch, *, max_kl: float, max_iterations: int = 200
) -> tuple[Array, ExactTrustRegion]:
    """Maximise the surrogate inside the trust region of the exact mean KL.

    ::

        max_θ' Σ_b w_b Â_b π_θ'(a_b|s_b)/π_θ(a_b|s_b)      subject to      Σ_b w_b KL(π_θ ‖ π_θ')(s_b) ≤ δ

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ = θ_old.
    batch : Batch
        The samples; ``old_log_prob`` is not used, since θ is θ_old.
    max_kl : float
        δ > 0, nats.
    max_iterations : int
        Of SciPy's sequential quadratic programming.

    Returns
    -------
    theta : (P,) array
        θ', inside the trust region up to 1e-9 δ; θ itself if the gradient is zero or nothing better was found.
    info : ExactTrustRegion
        The surrogate is not concave in θ: ``kkt_residual`` says that the point is stationary, and no more.

    Raises
    ------
    ValueError
        If a shape disagrees, an action is impossible, or δ ≤ 0.

    Notes
    -----
    Convention: KL old ‖ new, undamped.  As δ → 0 the step becomes that of `natural_gradient_step`.

    References
    ----------
    [TRPO (12)], [Hui]
    """
    name = "exact_trust_region_step"
    (theta,) = bind_shapes(name, policy.sizes, theta=(theta, "P"))
    delta = scalar(name, "max_kl", max_kl, above=0)
    iterations = count(name, "max_iterations", max_iterations)
    x, actions = batch.observations, batch.actions
    (advantages,) = bind_shapes(name, {}, advantages=(batch.advantages, "B"))
    w = row_weights(name, batch.weights, advantages)
    g = surrogate_gradient(policy, theta, batch)
    zero = np.zeros_like(theta)
    if not g.any():
        nothing = ExactTrustRegion(zero, 0.0, 0.0, 0.0, 0.0, zero, 0.0, 0.0, "", Ending.ZERO_GRADIENT)
        return theta.copy(), nothing

    def improvement(s: Array) -> float:
        log_r = log_ratio(policy, theta, theta + s, x, actions)
        return float(surrogate.surrogate_improvement(log_r, advantages, weights=w))

    def improvement_gradient(s: Array) -> Array:
        r = np.exp(log_ratio(policy, theta, theta + s, x, actions))
        return log_prob_vjp(policy, theta + s, x, actions, w * advantages * r)

    def kl(s: Array) -> float:
        return float(mean_kl(policy, theta, theta + s, x, weights=w))

    def kl_gradient(s: Array) -> Array:
        return mean_kl_gradient(policy, theta, theta + s, x, weights=w)

    natural = solve_minimum_norm(fisher_rows(policy, theta, x, weights=w), g).x
    quadratic = np.sqrt(2 * delta / (g @ natural)) * natural
    size, unit = np.sqrt(2 * delta), float(g @ quadratic)
    W = _metric(fisher_matrix(policy, theta, x, weights=w))

    def at(u: Array) -> Array:
        return size * scipy.linalg.solve_triangular(W, u, lower=True, trans="T")

    def into(gradient: Array) -> Array:
        return size * scipy.linalg.solve_triangular(W, gradient, lower=True)

    def inside(s: Array) -> Array:
        """Return s, shortened until it improves L inside the trust region, at its edge if it was outside; or 0."""
        return _shortened(s, lambda s: improvement(s) > 0 and kl(s) <= delta * (1 + INSIDE), to_the_edge=True)

    start = inside(quadratic)
    u, message = _ask(
        start=W.T @ start / size,
        objective=lambda u: improvement(at(u)) / unit,
        gradient=lambda u: into(improvement_gradient(at(u))) / unit,
        room=lambda u: np.array([1 - kl(at(u)) / delta]),
        room_gradient=lambda u: -into(kl_gradient(at(u)))[np.newaxis] / delta,
        iterations=iterations,
    )
    s = max((inside(at(u)), start), key=improvement)
    try:
        quadratic_improvement, quadratic_kl = improvement(quadratic), kl(quadratic)
    except Unrepresentable:
        quadratic_improvement, quadratic_kl = np.nan, np.inf
    L_gradient, K_gradient = improvement_gradient(s), kl_gradient(s)
    steepness = float(K_gradient @ K_gradient)
    multiplier = max(float(L_gradient @ K_gradient) / steepness, 0.0) if steepness > 0 else 0.0
    return theta + s, ExactTrustRegion(
        step=s,
        improvement=improvement(s),
        kl=kl(s),
        multiplier=multiplier,
        kkt_residual=float(np.linalg.norm(L_gradient - multiplier * K_gradient) / np.linalg.norm(g)),
        quadratic_step=quadratic,
        quadratic_improvement=quadratic_improvement,
        quadratic_kl=quadratic_kl,
        message=message,
        ending=Ending.ACCEPTED if s.any() else Ending.NO_IMPROVEMENT,
    )


def _shortened(s: Array, good: Callable[[Array], bool], *, to_the_edge: bool = False) -> Array:
    """Return the longest of s, s/2, s/4, … that is good, or 0; or the edge between it and what is twice as long."""

    def trial(scale: float) -> tuple[bool, None]:
        try:
            return bool(good(scale * s)), None
        except Unrepresentable:  # so far away that its KL or a ratio overflows: a candidate that is not good
            return False, None

    low = backtracking(trial, backtrack=0.5, max_backtracks=60).scale
    high = min(2 * low, 1.0) if to_the_edge else low
    while high - low > ACCURACY * high:                # the edge of what is good: SciPy's points lie a little outside
        middle = (low + high) / 2
        low, high = (middle, high) if trial(middle)[0] else (low, middle)
    shortened: Array = low * s
    return shortened


def _metric(F: Array) -> Array:
    """Return the Cholesky factor of F plus a ridge, as coordinates for an optimiser."""
    ridge = RIDGE * float(np.trace(F)) / len(F)
    factor: Array = scipy.linalg.cholesky(F + ridge * np.eye(len(F)), lower=True)
    return factor


def _ask(
    *,
    start: Array,
    objective: Callable[[Array], float],
    gradient: Callable[[Array], Array],
    room: Callable[[Array], Array],
    room_gradient: Callable[[Array], Array],
    iterations: int,
) -> tuple[Array, str]:
    """Ask SciPy for the maximum of an objective where there is room (≥ 0); return its point and its message."""
    try:
        answer = minimize(
            lambda u: -objective(u),
            start,
            jac=lambda u: -gradient(u),
            method="SLSQP",
            constraints={"type": "ineq", "fun": room, "jac": room_gradient},
            options={"maxiter": iterations, "ftol": ACCURACY},
        )
    except Unrepresentable as error:
        return start, str(error)
    return answer.x, str(answer.message)


@finite_results
def parametric_mm_step(
    policy: Policy,
    theta: Any,
    x: Any,
    advantages: Any,
    visitation: Any,
    penalty: float,
    *,
    max_iterations: int = 200,
) -> tuple[Array, ParametricMMStep]:
    """Climb the minorizer of a network's policy as far as SciPy's optimiser finds a way.

    ::

        M(θ') − M(θ) = Σ_s ρ(s) Σ_a (π_θ'(a|s) − π_θ(a|s)) A(s,a) − C max_s KL(π_θ(·|s) ‖ π_θ'(·|s))

    Parameters
    ----------
    policy : Policy
        A policy whose family is categorical or masked categorical.
    theta : (P,) array
        Parameters θ = θ_old.
    x : (S, D) array
        One row of observations per state.
    advantages : (S, A) array
        A of the current policy, return units.
    visitation : (S,) array
        ρ > 0 somewhere, unnormalised.
    penalty : float
        C > 0, return units per nat: `refpg.bounds.penalty_coefficient`, or half of it.
    max_iterations : int
        Of SciPy's sequential quadratic programming.

    Returns
    -------
    theta : (P,) array
        θ', with M(θ') > M(θ); θ itself if no such point was found.
    info : ParametricMMStep
        M is not concave in θ: ``kkt_residual`` says that the point is stationary, and no more.

    Raises
    ------
    ValueError
        If a shape disagrees, the family has no table, C ≤ 0, or no visitation is positive.

    Notes
    -----
    Law: M does not fall, whatever the optimiser does; so with TRPO's C η does not.

    References
    ----------
    [TRPO Alg. 1], [Hui]
    """
    name = "parametric_mm_step"
    (theta,) = bind_shapes(name, policy.sizes, theta=(theta, "P"))
    p = probability_table(policy, theta, x)
    A, rho = bind_shapes(
        name, {"S": p.shape[0], "A": p.shape[1]}, advantages=(advantages, "S A"), visitation=(visitation, "S")
    )
    if (rho < 0).any() or not rho.any():
        raise ValueError(f"{name}: visitation is {rho.tolist()}, expected numbers >= 0, not all of them 0")
    C = scalar(name, "penalty", penalty, above=0)
    iterations = count(name, "max_iterations", max_iterations)

    def parts(s: Array) -> tuple[Array, Array, Array]:
        """φ, its change and the log-ratios of all actions after a step."""
        phi, change = parameters_and_change(name, policy, theta, theta + s, x)
        columns = [policy.family.log_ratio(phi, change, np.full(len(phi), a)) for a in range(p.shape[1])]
        return phi, change, np.where(p > 0, np.stack(columns, axis=1), 0)

    def gain(s: Array) -> float:
        return float(rho @ np.sum(p * np.expm1(parts(s)[2]) * A, axis=1))

    def gain_gradient(s: Array) -> Array:
        q = p * np.exp(parts(s)[2])
        centred = A - np.sum(q * A, axis=1, keepdims=True)
        return linearize(name, policy, theta + s, x).vjp(rho[:, np.newaxis] * q * centred)

    def kl(s: Array) -> Array:
        phi, change, _ = parts(s)
        return policy.family.kl(phi, change)

    def kl_gradient(s: Array) -> Array:
        phi, change, _ = parts(s)
        return np.einsum("sk,skp->sp", policy.family.kl_gradient(phi, change), jacobian(policy.network, theta + s, x))

    g = gain_gradient(np.zeros_like(theta))
    if not g.any():
        nothing = ParametricMMStep(
            np.zeros_like(theta), 0.0, 0.0, 0.0, np.zeros(len(p)), 0.0, "", MMEnding.AT_MAXIMUM
        )
        return theta.copy(), nothing

    # The model along the natural gradient, τ gᵀn − C ½τ² max_s nᵀF_s n, chooses the start and the units.
    W = _metric(fisher_matrix(policy, theta, x, weights=rho / rho.sum()))
    natural = scipy.linalg.cho_solve((W, True), g)
    steepest = max(float(np.sum((root @ natural) ** 2)) for root in _fisher_roots(policy, theta, x))
    tau = float(g @ natural) / (C * steepest)
    unit = 0.5 * tau * float(g @ natural)
    radius = unit / C
    size = tau * np.sqrt(g @ natural)

    def at(u: Array) -> Array:
        return size * scipy.linalg.solve_triangular(W, u[:-1], lower=True, trans="T")

    def into(gradient: Array) -> Array:
        return size * scipy.linalg.solve_triangular(W, gradient, lower=True)

    u, message = _ask(
        start=np.append(W.T @ (tau * natural) / size, 1.0),
        objective=lambda u: gain(at(u)) / unit - u[-1],
        gradient=lambda u: np.append(into(gain_gradient(at(u))) / unit, -1.0),
        room=lambda u: u[-1] - kl(at(u)) / radius,
        room_gradient=lambda u: np.column_stack([-into(kl_gradient(at(u)).T).T / radius, np.ones(len(p))]),
        iterations=iterations,
    )

    def rise(s: Array) -> float:
        return gain(s) - C * float(kl(s).max())

    candidates = [_shortened(s, lambda s: rise(s) > 0) for s in (at(u), tau * natural)]
    s = max(candidates, key=rise)
    distances, slopes = kl(s), kl_gradient(s)
    multipliers, residual = _multipliers(gain_gradient(s), slopes, distances, C)
    return theta + s, ParametricMMStep(
        step=s,
        minorizer_gain=rise(s),
        surrogate_gain=gain(s),
        max_kl=float(distances.max()),
        multipliers=multipliers,
        kkt_residual=residual / float(np.linalg.norm(g)),
        message=message,
        ending=MMEnding.IMPROVED if s.any() else MMEnding.NO_IMPROVEMENT,
    )


def _fisher_roots(policy: Policy, theta: Array, x: Any) -> Array:
    """Return R_s J_s of every state, (S, K, P): F_s = (R_s J_s)ᵀ R_s J_s."""
    at = linearize("parametric_mm_step", policy, theta, x)
    return policy.family.fisher_root_product(at.phi, at.jacobian())


def _multipliers(g: Array, slopes: Array, distances: Array, C: float) -> tuple[Array, float]:
    """Return μ ≥ 0, Σ μ = C, on the farthest states, that explain g best as Σ μ ∇KL; and what is left of g."""
    farthest = distances >= distances.max() * (1 - 1e-6)
    columns = C * slopes[farthest].T
    heavy = 1e3 * (np.linalg.norm(columns) + np.linalg.norm(g))  # Σ μ = C, as an equation that outweighs the others
    share, _ = nnls(np.vstack([columns, np.full((1, columns.shape[1]), heavy)]), np.append(g, heavy))
    multipliers = np.zeros(len(distances))
    multipliers[farthest] = C * share / share.sum()
    return multipliers, float(np.linalg.norm(g - multipliers @ slopes))
