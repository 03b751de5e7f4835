"""States and trajectories of a linear–quadratic problem: drawn at random, or a few that are exact for quadratics."""

from typing import NamedTuple

import numpy as np

from refpg.linear_quadratic.exact import evaluated
from refpg.linear_quadratic.model import LinearGaussianPolicy, LinearQuadratic, closed_loop
from refpg.notation import Array, bind_shapes, count


class Trajectories(NamedTuple):
    """Rollouts of N independent runs over T steps, time first.

    Fields: ``states`` (T + 1, N, D), the last of which no action follows; ``actions`` (T, N, A); ``rewards`` (T, N).
    Nothing ends: the end at T is a truncation, after which V(states[T]) is due.
    """

    states: Array
    actions: Array
    rewards: Array


class StateRule(NamedTuple):
    """States with weights.  Fields: ``states`` (B, D); ``weights`` (B,), Σ w = 1."""

    states: Array
    weights: Array


def sample_trajectories(
    problem: LinearQuadratic,
    policy: LinearGaussianPolicy,
    generator: np.random.Generator,
    *,
    trajectories: int,
    steps: int,
) -> Trajectories:
    """Draw trajectories of the policy from the start distribution.

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        Any, stable or not.
    generator : numpy.random.Generator
        The only source of randomness.
    trajectories, steps : int
        N ≥ 1 and T ≥ 1.

    Returns
    -------
    Trajectories

    Raises
    ------
    ValueError
        If the policy is not one of this problem, or a number is below 1.

    Examples
    --------
    >>> still = LinearQuadratic(
    ...     state_matrix=[[0.5]], action_matrix=[[1.0]], state_cost=[[1.0]], action_cost=[[1.0]],
    ...     noise=[[0.0]], start_mean=[8.0], start_covariance=[[0.0]], discount=0.5,
    ... )
    >>> policy = LinearGaussianPolicy([[0.0]], [[0.0]])
    >>> run = sample_trajectories(still, policy, np.random.default_rng(0), trajectories=1, steps=3)
    >>> run.states.ravel(), run.rewards.ravel()
    (array([8., 4., 2., 1.]), array([-64., -16.,  -4.]))
    """
    name = "sample_trajectories"
    N, T = count(name, "trajectories", trajectories), count(name, "steps", steps)
    bind_shapes(name, problem.sizes, **{"policy.gain": (policy.gain, "A D")})
    Q, R = problem.state_cost, problem.action_cost
    D, A = problem.action_matrix.shape
    x = np.empty((T + 1, N, D))
    u = np.empty((T, N, A))
    noise, spread = covariance_root(problem.noise), covariance_root(policy.covariance)
    x[0] = problem.start_mean + generator.standard_normal((N, D)) @ covariance_root(problem.start_covariance).T
    for t in range(T):
        u[t] = -x[t] @ policy.gain.T + generator.standard_normal((N, A)) @ spread.T
        mean = x[t] @ problem.state_matrix.T + u[t] @ problem.action_matrix.T
        x[t + 1] = mean + generator.standard_normal((N, D)) @ noise.T
    return Trajectories(x, u, -np.sum(x[:T] @ Q * x[:T], axis=2) - np.sum(u @ R * u, axis=2))


def sample_states(
    problem: LinearQuadratic, policy: LinearGaussianPolicy, generator: np.random.Generator, *, samples: int
) -> Array:
    """Draw independent states from the visitation distribution d_π.

    ::

        x ∼ N(m_t, S_t) at a time t drawn with probability (1 − γ)γᵗ

    A mixture of the Gaussians of all times, not itself a Gaussian.

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1.
    generator : numpy.random.Generator
        The only source of randomness.
    samples : int
        B ≥ 1.

    Returns
    -------
    (B, D) array

    Raises
    ------
    ValueError
        If the policy is not one of this problem, or unstable, or ``samples`` < 1.

    Notes
    -----
    It runs for the longest of the times drawn, about (log B)/(1 − γ) steps.
    """
    name = "sample_states"
    B = count(name, "samples", samples)
    M = closed_loop(name, "policy", problem, policy)
    spread = problem.action_matrix @ policy.covariance @ problem.action_matrix.T
    noise = covariance_root(problem.noise + spread)
    left = generator.geometric(1 - problem.discount, size=B) - 1               # steps still to go
    x = problem.start_mean + generator.standard_normal((B, len(M))) @ covariance_root(problem.start_covariance).T
    while (going := left > 0).any():
        x[going] = x[going] @ M.T + generator.standard_normal((going.sum(), len(M))) @ noise.T
        left -= going
    return x


def visitation_rule(problem: LinearQuadratic, policy: LinearGaussianPolicy) -> StateRule:
    """Return 2D states over which every quadratic has exactly its mean under the visitation distribution d_π.

    ::

        x_±i = μ ± √D C_i          weights 1/(2D)          μ = E_d x,  Σ_i C_iC_iᵀ = E_d xxᵀ − μμᵀ

    They are what all the states of a finite MDP with d_π as weights are: with them as rows, mean KL, Fisher matrix and
    whatever else is quadratic in the state are exact for a policy that is linear in it.

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1.

    Returns
    -------
    StateRule
        2D rows; the weights are all 1/(2D).

    Raises
    ------
    ValueError
        If the policy is not one of this problem, or unstable.

    Notes
    -----
    Only the first two moments are those of d_π: d_π is a mixture of Gaussians and its fourth moments are larger.

    Examples
    --------
    >>> still = LinearQuadratic(
    ...     state_matrix=[[0.0]], action_matrix=[[1.0]], state_cost=[[1.0]], action_cost=[[1.0]],
    ...     noise=[[4.0]], start_mean=[0.0], start_covariance=[[4.0]], discount=0.5,
    ... )
    >>> visitation_rule(still, LinearGaussianPolicy([[0.0]], [[0.0]]))
    StateRule(states=array([[ 2.],
           [-2.]]), weights=array([0.5, 0.5]))
    """
    at = evaluated("visitation_rule", "policy", problem, policy)
    mean = at.visitation_distribution_mean
    D = len(mean)
    offsets = np.sqrt(D) * covariance_root(at.visitation_distribution_moment - np.outer(mean, mean)).T
    return StateRule(np.concatenate([mean + offsets, mean - offsets]), np.full(2 * D, 1 / (2 * D)))


def covariance_root(covariance: Array) -> Array:
    """Return a symmetric C with CCᵀ = Σ, singular ones included; a negative eigenvalue is rounding, and is 0."""
    eigenvalues, V = np.linalg.eigh(covariance)
    root: Array = V * np.sqrt(np.maximum(eigenvalues, 0)) @ V.T
    return root
