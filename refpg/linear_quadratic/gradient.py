"""The policy gradient, the Fisher matrix and the natural gradient of a linear Gaussian policy, in closed form.

::

    ∂η/∂K = −2 E X                        F_K = Σ⁻¹ ⊗ (1 − γ)X          F_K⁻¹ ∂η/∂K = −2ΣE/(1 − γ)
    ∂η/∂Σ = −G/(1 − γ)                    F_Σ = ½ Σ⁻¹ ⊗ Σ⁻¹             F_Σ⁻¹ ∂η/∂Σ = −2ΣGΣ/(1 − γ)
    ∂η/∂ls = −2 diag(ΣG)/(1 − γ)          F_ls = I + Σ ∘ Σ⁻¹            2I if Σ is diagonal

The visitation's second moment X, on which the gradient depends, cancels: the natural gradient is a function of E and Σ
alone, as that of a table is A/(1 − γ).  Each is an ascent direction of η, and E = 0 at the optimal gain.

log σ moves the standard deviations and keeps the correlations: Σ = diag(e^ls) C diag(e^ls).
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import block_diag, cho_factor, cho_solve

from refpg.linear_quadratic.exact import evaluated
from refpg.linear_quadratic.model import LinearGaussianPolicy, LinearQuadratic, definite
from refpg.notation import Array, finite_results, scalar


class Direction(NamedTuple):
    """A gradient, or a natural gradient, by the parameters of a linear Gaussian policy.

    Fields: ``gain`` (A, D), by K; ``covariance`` (A, A), by Σ, symmetric; ``log_std`` (A,), by the logarithms of the
    standard deviations at fixed correlations.  The last two are two coordinates for the same change: use one of them.
    """

    gain: Array
    covariance: Array
    log_std: Array


@finite_results
def policy_gradient(problem: LinearQuadratic, policy: LinearGaussianPolicy) -> Direction:
    """Return the gradient of the expected return by the policy's parameters.

    ::

        ∂η/∂K = −2 E X          ∂η/∂Σ = −G/(1 − γ)          ∂η/∂log σ = −2 diag(ΣG)/(1 − γ)

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1; Σ may be singular.

    Returns
    -------
    Direction
        Of η itself, in return units per unit of the parameter.  ∂η/∂Σ is a gradient in the space of symmetric matrices:
        dη = tr (∂η/∂Σ dΣ).

    Raises
    ------
    ValueError
        If the policy is not one of this problem, or unstable.

    Notes
    -----
    Convention: X is unnormalised, so this is the gradient of η; the mean over states drawn from d is (1 − γ) times it.
    Minus the sign of [Fazel], whose C(K) is a cost.  Noise never pays: G is positive definite, so η rises as Σ → 0.

    References
    ----------
    [Fazel], [TRPO (4)]

    Examples
    --------
    >>> from refpg.linear_quadratic import doubling
    >>> policy_gradient(doubling(), LinearGaussianPolicy([[2.0]], [[0.0]])).gain
    array([[-36.]])
    """
    at = evaluated("policy_gradient", "policy", problem, policy)
    away = 1 - problem.discount
    return Direction(
        gain=-2 * at.action_slope @ at.visitation_moment,
        covariance=-at.action_curvature / away,
        log_std=-2 * np.sum(policy.covariance * at.action_curvature, axis=1) / away,
    )


@finite_results
def fisher_matrix(problem: LinearQuadratic, policy: LinearGaussianPolicy) -> Array:
    """Return the mean Fisher matrix of (K, log σ) under the states that the policy visits.

    ::

        F = [ Σ⁻¹ ⊗ (1 − γ)X          0     ]
            [        0          I + Σ ∘ Σ⁻¹ ]          ∘ entry by entry; 2I if Σ is diagonal

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1 and positive definite Σ.

    Returns
    -------
    (A·D + A, A·D + A) array
        Rows and columns: K row by row, then log σ.  Symmetric, positive semi-definite.

    Raises
    ------
    ValueError
        If the policy is not one of this problem, is unstable or Σ is singular.

    Notes
    -----
    Convention: normalised visitation, so F is the Hessian of `mean_kl` at π' = π.  The network policy has W = −Kᵀ: its
    Fisher matrix has the same entries at other places, and more of them for the bias.

    References
    ----------
    [TRPO App. C.1], [K01]
    """
    at = evaluated("fisher_matrix", "policy", problem, policy)
    Sigma = definite("fisher_matrix", "policy.covariance", policy.covariance)
    inverse = _inverse(Sigma)
    blocks: Array = block_diag(
        np.kron(inverse, at.visitation_distribution_moment), np.eye(len(Sigma)) + Sigma * inverse
    )
    return blocks


@finite_results
def natural_gradient(problem: LinearQuadratic, policy: LinearGaussianPolicy) -> Direction:
    """Return the natural gradient F⁻¹∇η in closed form.

    ::

        by K:  −2ΣE/(1 − γ)          by Σ:  −2ΣGΣ/(1 − γ)          by log σ:  (I + Σ∘Σ⁻¹)⁻¹ ∂η/∂log σ

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1 and positive definite Σ.

    Returns
    -------
    Direction
        An ascent direction of η.  It needs no state, and is one solution of F s = ∇η also where F is singular, because
        no state of some direction is ever visited.

    Raises
    ------
    ValueError
        If the policy is not one of this problem, is unstable or Σ is singular.

    Notes
    -----
    Convention: ∇η is unnormalised and F is normalised, hence 1/(1 − γ), as for a table.  [Fazel]'s natural policy
    gradient of a cost, without a discount, is ∇C(K) times the inverse of the state's second moment: 2E, which is this
    one for Σ = σ²I, but for its sign and the factor σ²/(1 − γ).

    Laws: F_K vec(s) = vec(∂η/∂K); the change of the action, s x, does not depend on the units of the state.

    References
    ----------
    [K01], [Fazel]

    Examples
    --------
    >>> from refpg.linear_quadratic import doubling
    >>> natural_gradient(doubling(), LinearGaussianPolicy([[2.0]], [[0.75]])).gain
    array([[-4.]])
    """
    at = evaluated("natural_gradient", "policy", problem, policy)
    Sigma = definite("natural_gradient", "policy.covariance", policy.covariance)
    E, G, away = at.action_slope, at.action_curvature, 1 - problem.discount
    return Direction(
        gain=-2 * Sigma @ E / away,
        covariance=-2 * Sigma @ G @ Sigma / away,
        log_std=np.linalg.solve(np.eye(len(Sigma)) + Sigma * _inverse(Sigma), -2 * np.sum(Sigma * G, axis=1) / away),
    )


def _inverse(Sigma: Array) -> Array:
    inverse: Array = cho_solve(cho_factor(Sigma), np.eye(len(Sigma)))
    return (inverse + inverse.T) / 2


def gauss_newton_step(
    problem: LinearQuadratic, policy: LinearGaussianPolicy, *, step_size: float = 1.0
) -> LinearGaussianPolicy:
    """Return the policy a step towards the gain that is greedy for the old policy's Q.

    ::

        K' = K − α G⁻¹E          α = 1: K' = γ G⁻¹BᵀPA = argmin over the mean of Q, policy iteration

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1; its Σ is kept.
    step_size : float
        α in (0, 2).

    Returns
    -------
    LinearGaussianPolicy
        Stable as well, and no worse: its expected advantage (2α − α²) xᵀEᵀG⁻¹E x is negative in no state.

    Raises
    ------
    ValueError
        If the policy is not one of this problem, is unstable, or α is outside its interval.

    Notes
    -----
    Convention: G⁻¹E is the gradient in a metric of G instead of Σ⁻¹, and half the direction of [Fazel]'s Gauss–Newton
    method, which therefore is policy iteration at a step of ½.  Repeated with α = 1 it converges quadratically to
    `optimum` [Hewer].

    References
    ----------
    [Fazel], [Hewer]

    Examples
    --------
    >>> from refpg.linear_quadratic import doubling
    >>> policy = LinearGaussianPolicy([[2.0]], [[0.0]])
    >>> for _ in range(4):
    ...     policy = gauss_newton_step(doubling(), policy)
    ...     print(f"{policy.gain.item() - 1:.0e}")
    2e-01
    1e-02
    5e-05
    7e-10
    """
    alpha = scalar("gauss_newton_step", "step_size", step_size, above=0, below=2)
    at = evaluated("gauss_newton_step", "policy", problem, policy)
    change = -alpha * np.linalg.solve(at.action_curvature, at.action_slope)
    return LinearGaussianPolicy(policy.gain + change, policy.covariance)
