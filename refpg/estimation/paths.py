"""Exact moments of estimates from whole trajectories, whose rows are correlated.

The random experiment: N independent trajectories of T steps, s_0 ~ ρ₀, a_t ~ π(·|s_t), s_{t+1} ~ P(·|s_t, a_t); the
estimate is the mean of N sums over time.  What is summed backward in time is a vector that contains all that is needed
of the future, by a linear recursion that the step (s, a, s') decides ::

    x_t = b(s_t, a_t, s_{t+1}) + C(s_t, a_t) x_{t+1},    x_T = 0

    m_t(s) = E{b + C m_{t+1}(s')}
    V_t(s) = E{u uᵀ} + E{C V_{t+1}(s') Cᵀ},    u = b + C m_{t+1}(s') − m_t(s)

m and V are mean and covariance of x_t given s_t = s.  The last line is the law of total variance: what a step reveals,
and what it leaves open.  No variance is a difference of larger moments, and all correlations along the path are in it.

The weights of the steps are those of theory, (1 − γ)γᵗ, or those of practice, 1/T; both sum to 1 (nearly, for γᵗ), and
both stand for the visitation distribution d_π, of which only the first give the right mean as T → ∞.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.estimation.draws import Moments
from refpg.mdp import MDP, evaluate, policy_table, softmax_gradient
from refpg.notation import Array, Unrepresentable, bind_shapes, choice, count, scalar

WEIGHTINGS = ("discounted", "uniform")


class GradientMoments(NamedTuple):
    """What an estimate of the policy gradient is in the mean, and how far from it.

    Fields: ``mean`` and ``bias`` (S, A); ``covariance`` (S, A, S, A).
    """

    mean: Array
    bias: Array
    covariance: Array

    @property
    def mean_squared_error(self) -> float:
        """E‖ĝ − g‖² = ‖bias‖² + the trace of the covariance."""
        return float(np.sum(self.bias**2) + np.einsum("sasa", self.covariance))


def single_path_moments(
    mdp: MDP,
    old: Any,
    new: Any,
    values: Any = None,
    *,
    steps: int,
    paths: int = 1,
    weighting: str = "discounted",
) -> Moments:
    """Return bias and variance of the surrogate as it is estimated along trajectories of the old policy.

    ::

        L̂ = Σ_{t < T} w_t r_t y_t,    r_t = π'(a_t|s_t)/π(a_t|s_t),    w_t = (1 − γ)γᵗ or 1/T

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π, which acts, and π', for which the surrogate is wanted.
    values : (S, A) array, optional
        y(s, a), known, such as the exact advantages.  Unless given, y_t is what the trajectory itself pays from t on,
        r(s_t, a_t) + γ r(s_{t+1}, a_{t+1}) + …, the Q of TRPO's single path, without what comes after T.
    steps : int
        T.
    paths : int
        N, whose mean is taken.
    weighting : {"discounted", "uniform"}
        w_t.

    Returns
    -------
    Moments
        Of the estimate of Σ_s d_π(s) Σ_a π'(a|s) y(s,a), with y = Q_π where the values are not given.

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, γ = 1, a shape disagrees, T < 1, N < 1, the weighting is unknown, or a
        moment overflows.

    Notes
    -----
    Convention: normalised by d, as `refpg.surrogate.sampled_surrogate`; with y = A_π it estimates
    (1 − γ)(L_π(π') − η(π)).

    Laws: with known values and discounted weights the bias is that of the cut, of size γᵀ; if the path forgets its
    state at every step, the variance is that of independent draws.

    References
    ----------
    [TRPO (14)], [TRPO section 5.1]

    Examples
    --------
    The mean over all rows of a rollout does not average over d, but over undiscounted visits:

    >>> from refpg.mdp import chain
    >>> mdp = chain(3, discount=0.5)
    >>> right, y = [[0.0, 1.0]] * 3, [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    >>> for weighting in WEIGHTINGS:
    ...     print(f"{single_path_moments(mdp, right, right, y, steps=50, weighting=weighting).mean:.4f}")
    0.2500
    0.9600
    """
    name = "single_path_moments"
    old, new = policy_table(name, "old", mdp, old), policy_table(name, "new", mdp, new)
    gamma, T, N = _experiment(name, mdp, steps, paths, weighting)
    at = evaluate(mdp, old)
    ratio = np.where(old > 0, new / np.where(old > 0, old, 1), 0)
    onward, scale = (gamma, 1 - gamma) if weighting == "discounted" else (1.0, 1 / T)
    if values is None:
        # x = (return from t on, Σ of the rows from t on)
        target = at.action_values
        b = np.stack([mdp.reward, ratio * mdp.reward], axis=-1)
        C = np.zeros((*ratio.shape, 2, 2))
        C[..., 0, 0], C[..., 1, 0], C[..., 1, 1] = gamma, gamma * ratio, onward
    else:
        (target,) = bind_shapes(name, {"S": mdp.states, "A": mdp.actions}, values=(values, "S A"))
        b = (ratio * target)[..., np.newaxis]
        C = np.full((*ratio.shape, 1, 1), onward)
    mean, covariance = _moments(name, mdp, old, b[:, :, np.newaxis], C, T)
    wanted = float(at.visitation_distribution @ np.sum(new * target, axis=1))
    estimated = scale * float(mean[-1])
    return Moments(estimated, estimated - wanted, scale**2 * float(covariance[-1, -1]) / N)


def policy_gradient_moments(
    mdp: MDP,
    policy: Any,
    values: Any,
    gae_lambda: Any,
    *,
    steps: int,
    paths: int = 1,
    weighting: str = "discounted",
) -> GradientMoments:
    """Return bias and covariance of the policy gradient as it is estimated from rollouts with GAE.

    ::

        ĝ = Σ_{t < T} w_t ∇_z log π(a_t|s_t) Â_t,    Â_t = Σ_{l < T − t} (γλ)^l δ_{t+l},    w_t = (1 − γ)γᵗ or 1/T

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : (S, A) array
        π, the softmax of the logits z by which is differentiated.
    values : (S,) array
        V̂.
    gae_lambda : float
        λ in [0, 1].
    steps : int
        T; the last state is bootstrapped with V̂.
    paths : int
        N, whose mean is taken.
    weighting : {"discounted", "uniform"}
        w_t.

    Returns
    -------
    GradientMoments
        Of the estimate of (1 − γ)∇_z η, ``softmax_gradient`` times 1 − γ.

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, γ = 1, λ lies outside [0, 1], a shape disagrees, T < 1, N < 1, the
        weighting is unknown, or a moment overflows.

    Notes
    -----
    The covariance of x = (Â, ĝ) has (1 + S A)² entries per state, and a step takes about S² A times as many products:
    this is for small MDPs.

    Laws: with V̂ = V_π, or λ = 1 and any V̂, the bias under discounted weights is of size γᵀ; in every state the entries
    of ĝ sum to 0.

    References
    ----------
    [GAE (16)], [PPO (1)]

    Examples
    --------
    A baseline changes no mean, and takes most of the variance:

    >>> from refpg.mdp import MDP
    >>> bandit = MDP(transition=[[[1.0], [1.0]]], reward=[[9.0, 11.0]], start=[1.0], discount=0.0)
    >>> for baseline in (0.0, 10.0):
    ...     moments = policy_gradient_moments(bandit, [[0.5, 0.5]], [baseline], 1.0, steps=1)
    ...     print(moments.mean.tolist(), moments.covariance[0, 0, 0, 0])
    [[-0.5, 0.5]] 25.0
    [[-0.5, 0.5]] 0.0
    """
    name = "policy_gradient_moments"
    pi = policy_table(name, "policy", mdp, policy)
    gamma, T, N = _experiment(name, mdp, steps, paths, weighting)
    decay = gamma * scalar(name, "gae_lambda", gae_lambda, least=0, most=1)
    (V,) = bind_shapes(name, {"S": mdp.states}, values=(values, "S"))
    onward, scale = (gamma, 1 - gamma) if weighting == "discounted" else (1.0, 1 / T)
    S, A = pi.shape
    P = S * A
    delta = mdp.reward[:, :, np.newaxis] + gamma * V - V[:, np.newaxis, np.newaxis]
    # ∂ log π(a|s)/∂z_s'a' = 1[s = s'] (1[a = a'] − π(a'|s))
    score = np.einsum("sp,sab->sapb", np.eye(S), np.eye(A) - pi[:, np.newaxis]).reshape(S, A, P)
    # x = (Â, ĝ):  Â_t = δ + γλ Â_{t+1},  ĝ_t = ∇log π Â_t + onward ĝ_{t+1}
    b = np.concatenate([delta[..., np.newaxis], delta[..., np.newaxis] * score[:, :, np.newaxis]], axis=-1)
    C = np.zeros((S, A, 1 + P, 1 + P))
    C[..., 0, 0] = decay
    C[..., 1:, 0] = decay * score
    C[..., 1:, 1:] = onward * np.eye(P)
    mean, covariance = _moments(name, mdp, pi, b, C, T)
    estimated = scale * mean[1:].reshape(S, A)
    return GradientMoments(
        mean=estimated,
        bias=estimated - (1 - gamma) * softmax_gradient(mdp, pi),
        covariance=scale**2 * covariance[1:, 1:].reshape(S, A, S, A) / N,
    )


def _experiment(function: str, mdp: MDP, steps: int, paths: int, weighting: str) -> tuple[float, int, int]:
    choice(function, "weighting", weighting, WEIGHTINGS)
    gamma = scalar(function, "mdp.discount", mdp.discount, below=1)
    return gamma, count(function, "steps", steps), count(function, "paths", paths)


def _moments(function: str, mdp: MDP, pi: Array, b: Array, C: Array, T: int) -> tuple[Array, Array]:
    """Return mean (k,) and covariance (k, k) of x_0: b (S, A, S or 1, k), C (S, A, k, k)."""
    P = mdp.transition
    m, V = np.zeros((mdp.states, b.shape[-1])), np.zeros((mdp.states, b.shape[-1], b.shape[-1]))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(T):
            x = b + np.einsum("saij,tj->sati", C, m)
            m = np.einsum("sa,sat,sati->si", pi, P, x)
            u = x - m[:, np.newaxis, np.newaxis]
            revealed = np.einsum("sa,sat,sati,satj->sij", pi, P, u, u, optimize=True)
            V = revealed + np.einsum("sa,saik,sat,tkl,sajl->sij", pi, C, P, V, C, optimize=True)
        mean = mdp.start @ m
        apart = m - mean
        covariance = np.einsum("s,si,sj->ij", mdp.start, apart, apart) + np.einsum("s,sij->ij", mdp.start, V)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise Unrepresentable(f"{function}: a moment overflows, expected values and mdp.reward of smaller magnitude")
    return mean, covariance
