"""V, Q, A, visitation and η of a policy, and what compares two policies, for a discount below 1.

The truth that is computed, where rounded rows do not sum to exactly 1: P_π has the off-diagonal entries
Σ_a π(a|s) P(s'|s,a), and the rest of each row stays.  Advantages are made of value differences, never of Q − V ::

    A(s,a) = r(s,a) − (1 − γ)V(s) + γ Σ_s' P(s'|s,a) (V(s') − V(s))

so they keep their digits when V is 1e12 times as large; and of the rewards less their average (1 − γ)η, since they do
not see a constant.  Sums over a policy's change are written with it ::

    Σ_a π'(a|s) A_π(s,a) = Σ_a (π'(a|s) − π(a|s)) A_π(s,a)          since Σ_a π(a|s) A_π(s,a) = 0

so they keep their digits as π' → π.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.mdp.elimination import Factors, factorize, solve, solve_transposed, value_differences
from refpg.mdp.model import MDP, policy_table
from refpg.notation import Array, Unrepresentable, bind_shapes, finite_results, scalar


class Evaluation(NamedTuple):
    """What a policy is worth in an MDP.

    Fields: ``expected_return`` η; ``values`` V (S,); ``action_values`` Q (S, A); ``advantages`` A (S, A), Σ_a π A = 0;
    ``visitation`` ρ (S,), the expected discounted number of visits, Σ ρ = 1/(1 − γ), TRPO's; and
    ``visitation_distribution`` d = (1 − γ)ρ (S,), Σ d = 1, that of [KL02] and [CPO].
    """

    expected_return: float
    values: Array
    action_values: Array
    advantages: Array
    visitation: Array
    visitation_distribution: Array


class PerformanceDifference(NamedTuple):
    """Both sides of [TRPO (1)], equal in exact arithmetic.

    Fields: ``return_difference`` η(π') − η(π), the difference of two returns; ``advantage_sum``
    Σ_s ρ_π'(s) Σ_a π'(a|s) A_π(s,a), which keeps its digits where the returns nearly agree.
    """

    return_difference: float
    advantage_sum: float


def evaluate(mdp: MDP, policy: Any) -> Evaluation:
    """Return V, Q, A, visitation and expected return of a policy, by elimination.

    ::

        V = (I − γP_π)⁻¹ r_π        Q = r + γPV         A = Q − V         P_π = Σ_a π P,  r_π = Σ_a π r
        ρ = (I − γP_πᵀ)⁻¹ ρ₀        d = (1 − γ)ρ        η = ρ₀ᵀV

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : (S, A) array
        π(a|s).

    Returns
    -------
    Evaluation
        In return units, but for ρ (steps) and d (dimensionless).

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, γ = 1, or a value overflows.

    Notes
    -----
    Convention: r(s,a) is paid at once, so V counts it with weight 1, and ρ counts the start with weight 1.

    Accuracy, with u the unit of rounding and C of the size of S: ρ and d have a *relative* error C u in every entry,
    for every γ < 1.  V, Q and η have it relative to the same quantity with |r| in place of r, so in every entry if the
    rewards are of one sign.  A has an *absolute* error C u times the largest of |r − (1 − γ)η|, |(1 − γ)(V − η)| and
    the differences of V that a step can make.  These grow with 1/(1 − γ) only where the policy cannot return from a
    step.  If parts of the chain are left once in T steps and yet worth the same, the error of A can reach
    T u |r − (1 − γ)η|: the rounding of r_π alone changes A by that.

    d is ρ divided by its own sum, which is 1/(1 − γ): so it sums to 1 as closely as floats can.

    Laws: Σ_a π A = 0; Σ_s ρ r_π = η; both forms of the performance difference agree.

    References
    ----------
    [TRPO section 2], [GTH]

    Examples
    --------
    One state, one action that pays 1: V = 1/(1 − γ), also at 1 − γ = 2⁻⁵⁰.

    >>> forever = MDP(transition=[[[1.0]]], reward=[[1.0]], start=[1.0], discount=1 - 2.0**-50)
    >>> evaluate(forever, [[1.0]]).expected_return == 2.0**50
    True
    """
    pi = policy_table("evaluate", "policy", mdp, policy)
    return _evaluate("evaluate", mdp, pi)


def _evaluate(function: str, mdp: MDP, pi: Array) -> Evaluation:
    P, r, start = mdp.transition, mdp.reward, mdp.start
    gamma = scalar(function, "mdp.discount", mdp.discount, below=1)
    factors = factorize(np.einsum("sa,sat->st", pi, P), gamma)
    rho = solve_transposed(factors, start)
    with np.errstate(over="ignore", invalid="ignore"):
        V = solve(factors, np.sum(pi * r, axis=1))
        Q = r + gamma * (P @ V)
        eta = float(start @ V)
        A = _advantages(factors, P, pi, r - factors.away * eta, gamma)
    if not (np.isfinite(V).all() and np.isfinite(Q).all() and np.isfinite(A).all()):
        raise Unrepresentable(f"{function}: a value overflows, expected mdp.reward of smaller magnitude")
    return Evaluation(eta, V, Q, A, rho, rho / rho.sum())


def _advantages(factors: Factors, P: Array, pi: Array, r: Array, gamma: float) -> Array:
    r_pi = np.sum(pi * r, axis=1)
    V = solve(factors, r_pi)
    D = value_differences(factors, r_pi, V)
    advantages: Array = r - factors.away * V[:, np.newaxis] + gamma * np.einsum("sat,ts->sa", P, D)
    return advantages


def expected_advantages(advantages: Any, old: Any, new: Any) -> Array:
    """Return the expected advantage, over the old policy, of acting by the new one once, in each state.

    ::

        Ā(s) = Σ_a π'(a|s) A_π(s,a) = Σ_a (π'(a|s) − π(a|s)) A_π(s,a)

    Parameters
    ----------
    advantages : (S, A) array
        A_π, of the old policy.
    old, new : (S, A) arrays
        The policies π and π'.

    Returns
    -------
    (S,) array
        Return units; exactly 0 where the policies agree.

    Raises
    ------
    ValueError
        If the shapes disagree.

    References
    ----------
    [TRPO (3)], [KL02 section 4]
    """
    A, old, new = bind_shapes(
        "expected_advantages", {}, advantages=(advantages, "S A"), old=(old, "S A"), new=(new, "S A")
    )
    averaged: Array = np.sum((new - old) * A, axis=1)
    return averaged


def performance_difference(mdp: MDP, old: Any, new: Any) -> PerformanceDifference:
    """Return both sides of the performance difference identity.

    ::

        η(π') − η(π) = Σ_s ρ_π'(s) Σ_a π'(a|s) A_π(s,a)          visits of the *new* policy, advantages of the old

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    PerformanceDifference

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.

    References
    ----------
    [TRPO (1)–(2)], [KL02 Lemma 6.1]

    Examples
    --------
    >>> bandit = MDP(transition=[[[1.0], [1.0]]], reward=[[0.0, 1.0]], start=[1.0], discount=0.5)
    >>> performance_difference(bandit, [[1.0, 0.0]], [[0.25, 0.75]])
    PerformanceDifference(return_difference=1.5, advantage_sum=1.5)
    """
    name = "performance_difference"
    old, new = policy_table(name, "old", mdp, old), policy_table(name, "new", mdp, new)
    before, after = _evaluate(name, mdp, old), _evaluate(name, mdp, new)
    return PerformanceDifference(
        return_difference=after.expected_return - before.expected_return,
        advantage_sum=float(after.visitation @ expected_advantages(before.advantages, old, new)),
    )


@finite_results
def local_approximation(mdp: MDP, old: Any, new: Any) -> float:
    """Return L, the expected return of the new policy if it were visited where the old one is.

    ::

        L_π(π') = η(π) + Σ_s ρ_π(s) Σ_a π'(a|s) A_π(s,a)          the old policy's visits

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    float
        Return units.  L_π(π) = η(π), and L_π and η have the same gradient at π.

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.

    Notes
    -----
    Convention: unnormalised visitation ρ and η(π) are part of L, unlike in `refpg.surrogate.sampled_surrogate`, which
    with weights d_π(s)π(a|s) and the advantages A_π is (1 − γ)(L − η(π)).

    References
    ----------
    [TRPO (3)], [TRPO (4)]
    """
    name = "local_approximation"
    old, new = policy_table(name, "old", mdp, old), policy_table(name, "new", mdp, new)
    at = _evaluate(name, mdp, old)
    return at.expected_return + float(at.visitation @ expected_advantages(at.advantages, old, new))


@finite_results
def softmax_gradient(mdp: MDP, policy: Any) -> Array:
    """Return the policy gradient: the derivative of η by the logits of a softmax policy.

    ::

        ∂η/∂z_sa = ρ_π(s) π(a|s) A_π(s,a)          π(·|s) = softmax(z_s)

    For a tabular policy z is θ.  For a network with one row of observations per state it is the cotangent of its
    outputs, and the network's product with Jᵀ makes it ∇_θ η (see the example).

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : (S, A) array
        π(a|s), the softmax of the logits.

    Returns
    -------
    (S, A) array
        Return units per unit of logit; every row sums to 0.

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, or γ = 1.

    Notes
    -----
    Convention: ρ is unnormalised, so this is the gradient of η itself; the mean over samples drawn from d estimates
    (1 − γ) times it.

    References
    ----------
    [TRPO (4)], [AKLM]

    Examples
    --------
    The exact gradient of a neural policy, in two ways: through the logits, and as the surrogate's gradient with every
    (state, action) as a row and d_π(s)π(a|s) as weights.

    >>> import numpy as np
    >>> import refpg
    >>> from refpg.policy import Batch, linearize, probability_table, softmax_policy
    >>> generator = np.random.default_rng(0)
    >>> mdp = refpg.mdp.random_mdp(generator, states=5, actions=3, discount=0.9)
    >>> policy, x = softmax_policy((2, 4, 3)), generator.normal(size=(5, 2))
    >>> theta = generator.normal(size=policy.network.num_parameters)
    >>> table = probability_table(policy, theta, x)
    >>> gradient = linearize("example", policy, theta, x).vjp(softmax_gradient(mdp, table))

    >>> at = evaluate(mdp, table)
    >>> weights = (at.visitation_distribution[:, np.newaxis] * table).ravel()
    >>> rows = Batch(np.repeat(x, 3, axis=0), np.tile(range(3), 5), at.advantages.ravel(), weights=weights)
    >>> np.allclose(refpg.updates.surrogate_gradient(policy, theta, rows), (1 - 0.9) * gradient, rtol=1e-12)
    True
    """
    pi = policy_table("softmax_gradient", "policy", mdp, policy)
    at = _evaluate("softmax_gradient", mdp, pi)
    gradient: Array = at.visitation[:, np.newaxis] * pi * at.advantages
    return gradient
