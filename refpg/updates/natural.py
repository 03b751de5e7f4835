"""The natural gradient, and the step along it to the edge of the quadratic trust region.

::

    g = ∇L(θ)          x = (F + λI)⁻¹ g          s = √(2δ / xᵀ(F + λI)x) x          [TRPO (17)], [K01]
"""

from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refpg.distributions import Family
from refpg.geometry import fisher_gram, fisher_matrix, fisher_operator, fisher_rows, fisher_rows_operator
from refpg.notation import Array, bind_shapes, choice, count, finite_results, row_weights, scalar
from refpg.policy import Batch, Policy, linearize, log_prob_vjp
from refpg.solvers import (
    CGResult,
    conjugate_gradient,
    solve_cholesky,
    solve_dual,
    solve_minimum_norm,
    solve_rows,
)
from refpg.updates.ending import Ending

METHODS = ("rows", "cholesky", "dual", "direct", "cg", "minimum_norm")


class NaturalGradient(NamedTuple):
    """A natural gradient and how it was found.

    Fields: ``direction`` (P,), x = (F + λI)⁻¹g; ``method`` that was used, "dual" or "cholesky" for "direct"; ``rank``
    of F where the method measures it (minimum norm), else None; ``cg`` the record of conjugate gradients where they
    were used, else None.
    """

    direction: Array
    method: str
    rank: int | None = None
    cg: CGResult | None = None


class NaturalGradientStep(NamedTuple):
    """What a natural-gradient step did.

    Fields: ``step`` (P,), θ' − θ; ``direction`` (P,), x; ``step_length`` β; ``multiplier`` λ* = 1/β of the trust-region
    constraint, 0 where it does not bind; ``expected_improvement`` gᵀs; ``quadratic_kl`` ½sᵀ(F + λI)s;
    ``kkt_residual`` ‖g − λ*(F + λI)s‖/‖g‖; ``ending``.
    """

    step: Array
    direction: Array
    step_length: float
    multiplier: float
    expected_improvement: float
    quadratic_kl: float
    kkt_residual: float
    ending: Ending


@finite_results
def surrogate_gradient(policy: Policy, theta: Any, batch: Batch, *, executor: Executor | None = None) -> Array:
    """Return the gradient of the surrogate at θ = θ_old, the policy gradient.

    ::

        g = Σ_b w_b Â_b ∇_θ log π_θ(a_b|s_b)          the ratio is 1 at θ_old

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ = θ_old.
    batch : Batch
        The samples; ``old_log_prob`` is not used, since θ is θ_old.
    executor : concurrent.futures.Executor, optional
        Who computes the sum over rows; the result has the same bits for any.

    Returns
    -------
    (P,) array
        Return units per unit of θ; the ascent direction.

    Raises
    ------
    ValueError
        If a shape disagrees, an action is impossible or the weights are not normalised.

    References
    ----------
    [TRPO (14)], [PPO (1)]
    """
    (advantages,) = bind_shapes("surrogate_gradient", {}, advantages=(batch.advantages, "B"))
    w = row_weights("surrogate_gradient", batch.weights, advantages)
    return log_prob_vjp(policy, theta, batch.observations, batch.actions, w * advantages, executor=executor)


def natural_gradient(
    policy: Policy,
    theta: Any,
    x: Any,
    gradient: Any,
    *,
    damping: float,
    method: str = "rows",
    iterations: int | None = None,
    weights: Any = None,
    executor: Executor | None = None,
) -> NaturalGradient:
    """Solve (F + λI) x = g for the natural gradient x.

    Which method to use:

    * ``rows`` — the reference: orthogonal factorisation of the rows G, F = GᵀG never formed; error ~ √cond · u.
    * ``cholesky`` — F formed and factorised: fastest when P is a few thousand and B·K ≥ P; error ~ cond · u.
    * ``dual`` — the Gram matrix G Gᵀ instead of F: fastest when B·K < P; needs λ > 0.  Free numbers of θ that M does
      not couple to the network's outputs, a Gaussian's log σ, are solved for by themselves: G has fewer rows.
    * ``direct`` — ``dual`` when B·K < P, else ``cholesky``; the result says which.
    * ``cg`` — TRPO's way: products with F only, the answer after ``iterations`` steps is an approximation.
    * ``minimum_norm`` — λ = 0: F⁺g, the smallest solution, with the rank of F.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ, where the metric is evaluated.
    x : (B, D) array
        Observations.
    gradient : (P,) array
        g, the gradient of an objective to be maximised.
    damping : float
        λ > 0; for ``cg`` also 0; for ``minimum_norm`` exactly 0.
    method : {"rows", "cholesky", "dual", "direct", "cg", "minimum_norm"}
        How to solve.
    iterations : int, optional
        Of conjugate gradients: required by ``cg``, refused by the others.
    weights : (B,) array, optional
        Weights of the rows.
    executor : concurrent.futures.Executor, optional
        Who computes the sums over rows of F; the result has the same bits for any.

    Returns
    -------
    NaturalGradient
        The direction, an ascent direction (gᵀx ≥ 0).

    Raises
    ------
    ValueError
        If a shape disagrees, or the damping or the iterations do not go with the method.

    References
    ----------
    [K01], [TRPO (17)]
    """
    name = "natural_gradient"
    choice(name, "method", method, METHODS)
    (g,) = bind_shapes(name, policy.sizes, gradient=(gradient, "P"))
    damping = scalar(name, "damping", damping, least=0)
    if method == "minimum_norm" and damping != 0:
        raise ValueError(f"{name}: damping is {damping!r}, expected 0 with method 'minimum_norm'")
    if method in ("rows", "cholesky", "dual", "direct") and damping == 0:
        raise ValueError(f"{name}: damping is 0, expected > 0 with method {method!r} (or use 'minimum_norm')")
    if (iterations is None) == (method == "cg"):
        raise ValueError(f"{name}: iterations is {iterations!r} with method {method!r}; they belong to 'cg' alone")

    if method == "direct":
        method = "dual" if len(x) * policy.network.num_outputs < len(g) else "cholesky"

    if method == "cg":
        F = fisher_operator(policy, theta, x, damping=damping, weights=weights, executor=executor)
        solution = conjugate_gradient(F.matvec, g, iterations=count(name, "iterations", iterations))
        return NaturalGradient(solution.x, method, cg=solution)
    if method == "cholesky":
        matrix = fisher_matrix(policy, theta, x, weights=weights, executor=executor)
        return NaturalGradient(solve_cholesky(matrix, g, damping), method)
    if method == "dual":
        return NaturalGradient(_dual(policy, theta, x, g, damping, weights), method)
    rows = fisher_rows(policy, theta, x, weights=weights)
    if method == "minimum_norm":
        least = solve_minimum_norm(rows, g)
        return NaturalGradient(least.x, method, rank=least.rank)
    return NaturalGradient(solve_rows(rows, g, damping), method)


def _dual(policy: Policy, theta: Any, x: Any, g: Array, damping: float, weights: Any) -> Array:
    """Return (F + λI)⁻¹g by the Gram matrix, block by block where F is block diagonal.

    F couples the free numbers of θ to the weights through M alone.  Where R, with RᵀR = M, is block diagonal too::

        F = Σ_b w_b diag(J_bᵀ R_outᵀ R_out J_b, R_freeᵀ R_free)
    """
    at = linearize("natural_gradient", policy, theta, x)
    (B, K), outputs, free = at.phi.shape, policy.network.sizes[-1], policy.network.free
    every_unit_vector = np.broadcast_to(np.eye(K, dtype=at.phi.dtype), (B, K, K))
    R = policy.family.fisher_root_product(at.phi, every_unit_vector)
    if not free or R[:, :outputs, outputs:].any() or R[:, outputs:, :outputs].any():
        return _solve_by_gram(policy, theta, x, g, damping, weights)

    theta = np.asarray(theta)
    of_outputs = Policy(_of_outputs(policy.family, theta[-free:]), policy.network._replace(free=0))
    root_weights = np.sqrt(row_weights("natural_gradient", weights, at.phi))[:, None, None]
    free_rows = (root_weights * R[:, outputs:, outputs:]).reshape(-1, free)
    return np.concatenate(
        [
            _solve_by_gram(of_outputs, theta[:-free], x, g[:-free], damping, weights),
            solve_rows(free_rows, g[-free:], damping),
        ]
    )


def _solve_by_gram(policy: Policy, theta: Any, x: Any, g: Array, damping: float, weights: Any) -> Array:
    gram = fisher_gram(policy, theta, x, weights=weights)
    G = fisher_rows_operator(policy, theta, x, weights=weights)
    return solve_dual(G, g, damping, gram=gram)


def _of_outputs(family: Family, free: Array) -> Family:
    """Return the family of the network's outputs where the free entries of φ are known: R loses their columns."""

    def root_product(phi: Array, J: Array) -> Array:
        B, outputs = phi.shape
        whole_phi = np.concatenate([phi, np.broadcast_to(free, (B, len(free)))], axis=1)
        whole_J = np.concatenate([J, np.zeros((B, len(free), *J.shape[2:]), J.dtype)], axis=1)
        return family.fisher_root_product(whole_phi, whole_J)[:, :outputs]

    return replace(
        family,
        check=lambda function, phi: None,
        fisher_root_product=root_product,
        rows=lambda index: _of_outputs(family.rows(index), free),
    )


@finite_results
def step_length(direction: Any, product: Any, max_kl: float, *, epsilon: float = 0.0) -> float:
    """Return the factor that brings a direction to the edge of the quadratic trust region.

    ::

        β = √(2δ / (xᵀ(F + λI)x + ε))          ε = 0: ½ (βx)ᵀ(F + λI)(βx) = δ

    Parameters
    ----------
    direction : (P,) array
        x.
    product : (P,) array
        (F + λI) x, or F x under the undamped convention.
    max_kl : float
        δ > 0, nats.
    epsilon : float
        ε ≥ 0, nats.

    Returns
    -------
    float
        β > 0.

    Raises
    ------
    ValueError
        If xᵀ·product is not positive, δ ≤ 0, ε < 0 or a shape disagrees.

    Notes
    -----
    Convention: damping in ``product`` makes the undamped quadratic KL of the step smaller than δ; all common
    implementations do so.

    Convention: ε is 0 here and 1e-8 in spinningup, garage, pfrl and omnisafe, where it shortens the steps of small
    gradients: by half a percent where xᵀ(F + λI)x is 1e-6.

    References
    ----------
    [TRPO App. C]

    Examples
    --------
    >>> step_length([3.0, 4.0], [3.0, 4.0], 0.5)
    0.2
    """
    x, Hx = bind_shapes("step_length", {}, direction=(direction, "P"), product=(product, "P"))
    max_kl = scalar("step_length", "max_kl", max_kl, above=0)
    epsilon = scalar("step_length", "epsilon", epsilon, least=0)
    curvature = float(x @ Hx)
    if curvature <= 0:
        raise ValueError(f"step_length: directionᵀ·product is {curvature!r}, expected a positive curvature")
    return float(np.sqrt(2 * max_kl / (curvature + epsilon)))


@finite_results
def expected_improvement(gradient: Any, step: Any) -> float:
    """Return the first-order change of the objective along a step, gᵀs.

    Parameters
    ----------
    gradient : (P,) array
        g.
    step : (P,) array
        s = θ' − θ.

    Returns
    -------
    float
        Return units.

    Raises
    ------
    ValueError
        If the shapes disagree.

    References
    ----------
    [TRPO App. C]

    Examples
    --------
    >>> expected_improvement([1.0, 2.0], [0.5, 0.25])
    1.0
    """
    g, s = bind_shapes("expected_improvement", {}, gradient=(gradient, "P"), step=(step, "P"))
    return float(g @ s)


@finite_results
def natural_gradient_step(
    policy: Policy,
    theta: Any,
    x: Any,
    gradient: Any,
    *,
    damping: float,
    max_kl: float,
    step_damping: bool = True,
    step_epsilon: float = 0.0,
    method: str = "rows",
    iterations: int | None = None,
    weights: Any = None,
) -> tuple[Array, NaturalGradientStep]:
    """Step along the natural gradient to the edge of the quadratic trust region.

    ::

        x = (F + λI)⁻¹g          s = √(2δ / xᵀ(F + λI)x) x          θ' = θ + s

    s maximises gᵀs subject to ½sᵀ(F + λI)s ≤ δ; the multiplier of the constraint is λ* = 1/β, and penalising with λ*
    instead of constraining gives the same s: the duality gap is zero.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    gradient : (P,) array
        g, the gradient of an objective to be maximised.
    damping : float
        λ ≥ 0, as `natural_gradient` has it.
    max_kl : float
        δ > 0, nats.
    step_damping : bool
        Whether the step length is measured with F + λI (all common implementations) or with F.
    step_epsilon : float
        ε of the step length, as in `step_length`.
    method : str
        As in `natural_gradient`.
    iterations : int, optional
        As in `natural_gradient`.
    weights : (B,) array, optional
        Weights of the rows.

    Returns
    -------
    theta : (P,) array
        θ'; θ itself if the gradient is zero or the curvature is not positive.
    info : NaturalGradientStep

    Raises
    ------
    ValueError
        If a shape disagrees, δ ≤ 0, or the damping does not go with the method.

    References
    ----------
    [TRPO (17)], [K01]
    """
    name = "natural_gradient_step"
    theta, g = bind_shapes(name, policy.sizes, theta=(theta, "P"), gradient=(gradient, "P"))
    max_kl = scalar(name, "max_kl", max_kl, above=0)
    direction = natural_gradient(
        policy, theta, x, g, damping=damping, method=method, iterations=iterations, weights=weights
    ).direction
    H = fisher_operator(policy, theta, x, damping=damping if step_damping else 0.0, weights=weights)
    Hx = H.matvec(direction)
    if not g.any() or direction @ Hx <= 0:
        ending = Ending.NON_POSITIVE_CURVATURE if g.any() else Ending.ZERO_GRADIENT
        return theta.copy(), NaturalGradientStep(np.zeros_like(theta), direction, 0.0, 0.0, 0.0, 0.0, 0.0, ending)

    beta = step_length(direction, Hx, max_kl, epsilon=step_epsilon)
    s = beta * direction
    return theta + s, NaturalGradientStep(
        step=s,
        direction=direction,
        step_length=beta,
        multiplier=1 / beta,
        expected_improvement=expected_improvement(g, s),
        quadratic_kl=float(0.5 * beta**2 * (direction @ Hx)),
        kkt_residual=float(np.linalg.norm(g - Hx) / np.linalg.norm(g)),
        ending=Ending.ACCEPTED,
    )
