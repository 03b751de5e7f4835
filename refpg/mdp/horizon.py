"""The same quantities for T steps, where nothing is stationary and γ may be 1.

::

    V_T = 0        Q_t = r + γ P V_{t+1}        V_t = Σ_a π_t Q_t        A_t = Q_t − V_t        t = T − 1, …, 0
    d_0 = ρ₀       d_{t+1} = P_πᵀ d_t           ρ = Σ_t γᵗ d_t           η = ρ₀ᵀ V_0

Values count from t on: a reward at t + k weighs γᵏ in V_t, and γ^{t+k} in η.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.mdp.model import MDP, policy_table
from refpg.notation import Array, Unrepresentable, count


class HorizonEvaluation(NamedTuple):
    """What a policy is worth in the first T steps of an MDP.

    Fields: ``expected_return`` η; ``values`` V_t (T + 1, S), of which the last is 0; ``action_values`` Q_t and
    ``advantages`` A_t (T, S, A); ``state_distributions`` d_t (T, S), the distribution of the state at t, undiscounted,
    each row sums to 1; ``visitation`` ρ (S,) = Σ_t γᵗ d_t, Σ ρ = 1 + γ + … + γ^{T−1}.
    """

    expected_return: float
    values: Array
    action_values: Array
    advantages: Array
    state_distributions: Array
    visitation: Array


def evaluate_horizon(mdp: MDP, policy: Any, horizon: int) -> HorizonEvaluation:
    """Return V_t, Q_t, A_t and the distributions of states for an episode of T steps.

    Parameters
    ----------
    mdp : MDP
        With any γ in [0, 1].
    policy : (S, A) or (T, S, A) array
        π(a|s) for all steps, or π_t(a|s) of each.
    horizon : int
        T ≥ 1.

    Returns
    -------
    HorizonEvaluation

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP (the message names the step, the state and the action), there is not
        one for each step, T < 1, or a value overflows.

    Notes
    -----
    Convention: time enters only here, not in the MDP; rewards end after T steps, with nothing paid for the last state.

    Advantages are taken between the actions of one state, A_t = y − Σ_a π_t y with
    y = r + γ Σ_s' P (V_{t+1}(s') − V_{t+1}(s)), so the size of V drops out before anything is subtracted.

    Laws: η(π') − η(π) = Σ_t γᵗ Σ_s d'_t(s) Σ_a π'_t(a|s) A_t(s,a); for T → ∞ and γ < 1 all is that of `evaluate`.

    References
    ----------
    [TRPO section 2], [KL02 Lemma 6.1]

    Examples
    --------
    >>> walk = MDP(transition=[[[0.0, 1.0]], [[1.0, 0.0]]], reward=[[1.0], [0.0]], start=[1.0, 0.0], discount=1.0)
    >>> evaluate_horizon(walk, [[1.0], [1.0]], 3).values[:, 0]
    array([2., 1., 1., 0.])
    """
    name = "evaluate_horizon"
    T = count(name, "horizon", horizon)
    pi = _policies(name, mdp, policy, T)
    P, r, gamma = mdp.transition, mdp.reward, mdp.discount
    V = np.zeros((T + 1, mdp.states))
    Q = np.empty_like(pi)
    A = np.empty_like(pi)
    with np.errstate(over="ignore", invalid="ignore"):
        for t in reversed(range(T)):
            Q[t] = r + gamma * (P @ V[t + 1])
            V[t] = np.sum(pi[t] * Q[t], axis=1)
            differences = V[t + 1][np.newaxis, :] - V[t + 1][:, np.newaxis]
            y = r + gamma * np.einsum("sat,st->sa", P, differences)
            A[t] = y - np.sum(pi[t] * y, axis=1, keepdims=True)
    if not (np.isfinite(V).all() and np.isfinite(Q).all() and np.isfinite(A).all()):
        raise Unrepresentable(f"{name}: a value overflows, expected mdp.reward of smaller magnitude")

    d = np.empty((T, mdp.states))
    d[0] = mdp.start
    for t in range(T - 1):
        d[t + 1] = np.einsum("s,sa,sat->t", d[t], pi[t], P)
    return HorizonEvaluation(
        expected_return=float(mdp.start @ V[0]),
        values=V,
        action_values=Q,
        advantages=A,
        state_distributions=d,
        visitation=gamma ** np.arange(T) @ d,
    )


def _policies(function: str, mdp: MDP, policy: Any, T: int) -> Array:
    if np.ndim(policy) != 3:
        table = policy_table(function, "policy", mdp, policy)
        return np.repeat(table[np.newaxis], T, axis=0)
    if len(policy) != T:
        raise ValueError(f"{function}: policy has {len(policy)} steps, expected horizon = {T}")
    return np.stack([policy_table(function, f"policy at step {t}", mdp, policy[t]) for t in range(T)])
