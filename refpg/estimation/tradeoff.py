"""Bias and variance of generalised advantage estimates, as exact functions of λ.

The random experiment: from the state s and the action a on, the policy acts and the MDP moves; V̂ is any table of
values; what is estimated is A_π(s, a) ::

    Â = Σ_{l ≥ 0} (γλ)^l δ_l,    δ_l = r(s_l, a_l) + γ V̂(s_{l+1}) − V̂(s_l),    s_0 = s, a_0 = a             [GAE (16)]

Both moments come from the recursion Â_l = δ_l + γλ Â_{l+1}.  With e = V̂ − V_π, δ is the TD error of V_π, whose mean is
A_π, and γ e(s') − e(s) more.  With b(s) the bias of Â in the mean over the actions of s ::

    bias(s,a) = β(s,a) + γλ Σ_s' P b(s')          β = γ P e − e          b = (I − γλP_π)⁻¹ Σ_a π β
              = γ(1 − λ) P (I − γλP_π)⁻¹ e − e(s)

    var(s,a)  = Var_{s'|s,a}[y(s')] + (γλ)² Σ_s' P v(s')                 y = γ V̂ + γλ b
    v         = (I − (γλ)² P_π)⁻¹ Σ_a π {(E Â(s,a) − b(s))² + Var_{s'|s,a}[y]}

The second is the law of total variance: each step adds the variance of what it reveals, and nothing is subtracted.
At λ = 1, y = γ V_π: the variance does not depend on V̂, and the bias −e(s) is the same for all actions, a baseline.  At
λ = 0 one next state is all that varies.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.mdp import MDP, evaluate, policy_table
from refpg.mdp.elimination import factorize, solve
from refpg.notation import Array, Unrepresentable, bind_shapes, count, scalar


class AdvantageMoments(NamedTuple):
    """Moments of Â for each state and first action, (S, A) each.

    Fields: ``mean`` E Â; ``bias`` E Â − A_π, return units; ``variance``, return units squared.
    """

    mean: Array
    bias: Array
    variance: Array

    @property
    def mean_squared_error(self) -> Array:
        """E(Â − A_π)² = bias² + variance, (S, A)."""
        return self.bias**2 + self.variance


def gae_moments(mdp: MDP, policy: Any, values: Any, gae_lambda: Any, *, steps: int | None = None) -> AdvantageMoments:
    """Return bias and variance of generalised advantage estimates, for every state and first action.

    ::

        Â = Σ_{l < T} (γλ)^l δ_l,    δ_l = r(s_l, a_l) + γ V̂(s_{l+1}) − V̂(s_l)

    Parameters
    ----------
    mdp : MDP
        With γ < 1.  The reward paid is r(s, a), without noise of its own.
    policy : (S, A) array
        π, which acts after the first action.
    values : (S,) array
        V̂.  A terminal state is one that is never left and pays nothing; it has to have the value 0, as in `gae`.
    gae_lambda : float
        λ in [0, 1].
    steps : int, optional
        T ≥ 1, after which the sum is cut, with V̂ as the rest; never unless given.

    Returns
    -------
    AdvantageMoments
        Against A_π of the whole future, also where the sum is cut.

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, γ = 1, λ lies outside [0, 1], the shape of the values disagrees,
        T < 1, or a moment overflows.

    Notes
    -----
    Convention: the first action is given, not drawn.  A cut is a truncation: it bootstraps.

    Accuracy: the bias is as accurate as V̂ − V_π is.  The variance is a sum of squares of differences, of which none is
    subtracted; that γλ and (γλ)² are rounded changes it by a unit of rounding times 1/(1 − (γλ)²).

    Laws: at λ = 1 the bias is V_π(s) − V̂(s), whatever the action, and the variance does not depend on V̂; at λ = 0 the
    variance is γ² Var V̂(s'); with V̂ = V_π the bias is 0 for every λ, and the variance rises with λ.

    References
    ----------
    [GAE (16)], [GAE section 3]

    Examples
    --------
    Values that are 0 everywhere: the less bias, the more variance.

    >>> import numpy as np
    >>> from refpg.mdp import random_mdp, random_policy
    >>> generator = np.random.default_rng(0)
    >>> mdp = random_mdp(generator, states=4, actions=2, discount=0.9)
    >>> pi = random_policy(generator, states=4, actions=2)
    >>> for lam in (0.0, 0.5, 0.9, 1.0):
    ...     moments = gae_moments(mdp, pi, np.zeros(4), lam)
    ...     bias = moments.bias - np.sum(pi * moments.bias, axis=1, keepdims=True)    # what is no baseline
    ...     print(f"{lam:.1f}  {np.abs(bias).max():.2f}  {moments.variance.max():.2f}")
    0.0  0.55  0.00
    0.5  0.28  0.22
    0.9  0.06  1.33
    1.0  0.00  2.73
    """
    name = "gae_moments"
    pi = policy_table(name, "policy", mdp, policy)
    gamma = scalar(name, "mdp.discount", mdp.discount, below=1)
    decay = gamma * scalar(name, "gae_lambda", gae_lambda, least=0, most=1)
    (V_hat,) = bind_shapes(name, {"S": mdp.states}, values=(values, "S"))
    at = evaluate(mdp, pi)
    P = mdp.transition
    P_pi = np.einsum("sa,sat->st", pi, P)
    with np.errstate(over="ignore", invalid="ignore"):
        e = V_hat - at.values
        beta = gamma * (P @ e) - e[:, np.newaxis]

        def step(b: Array) -> _Step:
            return _first_step(P, pi, at.advantages, beta + decay * (P @ b), gamma * V_hat + decay * b)

        if steps is None:
            b = solve(factorize(P_pi, decay), np.sum(pi * beta, axis=1))
            v = solve(factorize(P_pi, decay**2), step(b).revealed)
        else:
            b, v = np.zeros((2, mdp.states))
            for _ in range(count(name, "steps", steps) - 1):
                now = step(b)
                b, v = now.state_bias, now.revealed + decay**2 * (P_pi @ v)
        bias, _, next_variance, _ = step(b)
        variance = next_variance + decay**2 * (P @ v)
    if not (np.isfinite(bias).all() and np.isfinite(variance).all()):
        raise Unrepresentable(f"{name}: a moment overflows, expected values and mdp.reward of smaller magnitude")
    return AdvantageMoments(mean=at.advantages + bias, bias=bias, variance=variance)


class _Step(NamedTuple):
    """One step of the recursions.

    Fields: ``bias`` (S, A) of Â; ``state_bias`` (S,), its mean over actions; ``next_variance`` (S, A), what the next
    state adds to the variance; ``revealed`` (S,), what action and next state add.
    """

    bias: Array
    state_bias: Array
    next_variance: Array
    revealed: Array


def _first_step(P: Array, pi: Array, A: Array, bias: Array, y: Array) -> _Step:
    state_bias = np.sum(pi * bias, axis=1)
    next_variance = np.einsum("sat,sat->sa", P, (y - (P @ y)[:, :, np.newaxis]) ** 2)
    # E Â(s,a) − b(s), whose mean over actions is 0: Σ_a π A = 0.
    surprise = A + bias - state_bias[:, np.newaxis]
    return _Step(bias, state_bias, next_variance, np.sum(pi * (surprise**2 + next_variance), axis=1))
