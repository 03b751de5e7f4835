"""Exact moments of the vine estimate, which tries several actions in each state of a rollout set.

The random experiment [TRPO section 5.2]: the states s_1, …, s_N are given.  In each of them actions are chosen, and
after each action the old policy plays one rollout, whose discounted return Q̂ has the mean Q_π(s, a) and the variance
that `gae_moments` knows for λ = 1.  For each state ::

    ordinary          L̂(s) = (1/K) Σ_k r(a_k) Q̂_k,    a_k ~ π independent,    r = π'/π
    self-normalised   L̂(s) = Σ_k r(a_k) Q̂_k / Σ_k r(a_k)                                  [TRPO (16)]
    every action      L̂(s) = Σ_a π'(a|s) Q̂_a, each action once                            [TRPO (15)]

and the estimate is the mean over the rollout set.  States are independent of each other.  The rollouts of one state are
either independent, or play with *common random numbers*: at each step one number U chooses the action and one number W
the next state, by inversion of the cumulative probabilities in the order of the table, and all rollouts of the state
use the same U and W.  Two of them are then a Markov chain of pairs of states ::

    Cov(Q̂(s,a), Q̂(s,a')) = Σ ν(t, t') {γ²(V(t) − E V)(V(t') − E' V) + γ² c(t, t')}
    c(t, t')              = Σ μ {A(t,b) + γ(V(u) − E V)} {A(t',b') + γ(V(u') − E' V)} + γ² Σ μ c(u, u')

with ν and μ the probabilities that the same numbers lead to both, which are the lengths of intersections of
intervals.  Rollouts that meet stay together.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.estimation.draws import Moments, likelihood_ratios, multinomial
from refpg.estimation.tradeoff import gae_moments
from refpg.mdp import MDP, evaluate, policy_table
from refpg.mdp.elimination import factorize, solve
from refpg.notation import Array, Unrepresentable, bind_shapes, choice, count, scalar

ESTIMATORS = ("ordinary", "self_normalized", "every_action")


def vine_moments(
    mdp: MDP,
    old: Any,
    new: Any,
    states: Any,
    *,
    estimator: str = "self_normalized",
    draws: int | None = None,
    improvement: bool = False,
    common_random_numbers: bool = False,
) -> Moments:
    """Return bias and variance of the vine estimate over a fixed rollout set.

    ::

        L̂ = (1/N) Σ_n L̂(s_n)

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π, which draws actions and plays the rollouts, and π'.
    states : (N,) int array
        The rollout set; a state that is named twice is visited twice, independently.
    estimator : {"ordinary", "self_normalized", "every_action"}
        L̂(s).
    draws : int, optional
        K, actions per state; for the first two.
    improvement : bool
        Whether what the same rollouts say of π' = π is subtracted: the estimate is then that of L(π') − L(π).
    common_random_numbers : bool
        Whether the rollouts of one state share theirs.

    Returns
    -------
    Moments
        Of the estimate of (1/N) Σ_n Σ_a π'(a|s_n) Q_π(s_n, a); of π' − π in place of π' for the improvement.

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, γ = 1, a state does not exist, K is missing, < 1 or not to be given, the
        estimator is unknown, a self-normalised estimate can be 0/0, its counts are too many, or a moment overflows.

    Notes
    -----
    Convention: Q̂ are returns of the whole future, not cut.  A constant added to Q̂ changes no more than the mean of the
    self-normalised estimate and that of every action; it changes the variance of the ordinary one.

    Common random numbers help differences of actions: of the improvement, not of L itself, where what the rollouts have
    in common adds up.

    Laws: without randomness in the MDP and π, every action has variance 0; for K = 1 the self-normalised estimate is
    that of π, not π'.

    References
    ----------
    [TRPO (15)–(16)], [TRPO section 5.2]

    Examples
    --------
    >>> import numpy as np
    >>> from refpg.mdp import random_mdp, random_policy
    >>> generator = np.random.default_rng(0)
    >>> mdp = random_mdp(generator, states=3, actions=2, discount=0.9)
    >>> old, new = (random_policy(generator, states=3, actions=2) for _ in range(2))
    >>> for shared in (False, True):
    ...     one, other = (
    ...         vine_moments(mdp, old, new, [0, 1, 2], draws=4, improvement=improvement, common_random_numbers=shared)
    ...         for improvement in (False, True)
    ...     )
    ...     print(f"L: {one.mean:.2f} ± {one.variance**0.5:.2f}, gain: {other.mean:.3f} ± {other.variance**0.5:.3f}")
    L: 10.69 ± 0.50, gain: -0.024 ± 0.173
    L: 10.69 ± 0.86, gain: -0.024 ± 0.136
    """
    name = "vine_moments"
    old, new = policy_table(name, "old", mdp, old), policy_table(name, "new", mdp, new)
    scalar(name, "mdp.discount", mdp.discount, below=1)
    choice(name, "estimator", estimator, ESTIMATORS)
    (visited,) = bind_shapes(name, {}, states=(states, "int N"))
    if (visited < 0).any() or (visited >= mdp.states).any():
        raise ValueError(f"{name}: states holds {visited.tolist()}, expected numbers of states below {mdp.states}")
    if (draws is None) != (estimator == "every_action"):
        raise ValueError(f"{name}: draws is {draws!r}, expected a number of actions, and None for 'every_action'")
    K = 0 if draws is None else count(name, "draws", draws)
    at = evaluate(mdp, old)
    single = gae_moments(mdp, old, at.values, 1.0).variance
    shared = return_covariance(mdp, old) if common_random_numbers else np.zeros((*single.shape, mdp.actions))
    biases, variances = np.zeros((2, mdp.states))
    for s in np.unique(visited):
        rollouts = _Rollouts(old[s], at.action_values[s], single[s], shared[s])
        if estimator == "every_action":
            variances[s] = _every_action(rollouts, new[s], improvement)
        elif estimator == "ordinary":
            biases[s], variances[s] = _ordinary(rollouts, new[s], improvement, K)
        else:
            biases[s], variances[s] = _self_normalized(name, rollouts, new[s], improvement, K)
    wanted = np.sum((new - old if improvement else new) * at.action_values, axis=1)
    bias = float(np.mean(biases[visited]))
    moments = Moments(float(np.mean(wanted[visited])) + bias, bias, float(np.mean(variances[visited]) / len(visited)))
    if not np.isfinite(moments).all():
        raise Unrepresentable(f"{name}: a moment overflows, expected mdp.reward of smaller magnitude")
    return moments


class _Rollouts(NamedTuple):
    """What is known of the rollouts from one state.

    Fields: ``old`` (A,), π(·|s); ``mean`` (A,), Q; ``alone`` (A,), the variance of one rollout; ``apart`` (A, A), the
    covariance of the rollouts of two draws.
    """

    old: Array
    mean: Array
    alone: Array
    apart: Array


def _every_action(at: _Rollouts, new: Array, improvement: bool) -> Any:
    w = new - at.old if improvement else new
    return w**2 @ (at.alone - at.apart.diagonal()) + w @ at.apart @ w


def _ordinary(at: _Rollouts, new: Array, improvement: bool, K: int) -> tuple[Any, Any]:
    q, Q = at.old, at.mean
    drawn = q > 0
    # The weight of a draw, r or r − 1, and q times it.
    f = np.where(drawn, new / np.where(drawn, q, 1) - improvement, 0)
    w = q * f
    one = q @ (f * Q - w @ Q) ** 2 + q @ (f**2 * at.alone)
    return np.where(drawn, 0, -new) @ Q, (one + (K - 1) * (w @ at.apart @ w)) / K


def _self_normalized(function: str, at: _Rollouts, new: Array, improvement: bool, K: int) -> tuple[Any, Any]:
    counts, probability = multinomial(function, at.old, K)
    shares = counts * likelihood_ratios(function, at.old, new)
    w = shares / shares.sum(axis=1, keepdims=True) - improvement * counts / K
    # Given the counts: the rollouts of one action divide its weight equally, and covariances join all of them.
    squares = w**2 / np.maximum(counts, 1)
    noise = squares @ (at.alone - at.apart.diagonal()) + np.einsum("na,ab,nb->n", w, at.apart, w)
    # The weights sum to 1, or to 0: Q counts from its mean.
    mean = new @ at.mean
    error = w @ (at.mean - mean) - improvement * (new - at.old) @ (at.mean - mean)
    bias = probability @ error
    return bias, probability @ ((error - bias) ** 2 + noise)


def return_covariance(mdp: MDP, policy: Any) -> Array:
    """Return the covariance of the returns of two actions of a state, played with common random numbers.

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : (S, A) array
        π, which acts after the first action.

    Returns
    -------
    (S, A, A) array
        Cov(Q̂(s,a), Q̂(s,a')), return units squared; symmetric and positive semi-definite.  On the diagonal two rollouts
        are the same one: its variance.

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, γ = 1, or a covariance overflows.

    Notes
    -----
    Convention: one number U per step chooses actions, one number W next states, by inversion of the cumulative
    probabilities in the order of the table.  Another order of states or actions is another experiment.

    References
    ----------
    [TRPO section 5.2]

    Examples
    --------
    The same lottery follows both actions: their difference is known without noise.

    >>> lottery = MDP(
    ...     transition=[[[0, 0.5, 0.5], [0, 0.5, 0.5]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2],
    ...     reward=[[0, 1], [0, 0], [4, 4]], start=[1, 0, 0], discount=0.5,
    ... )
    >>> return_covariance(lottery, [[0.5, 0.5]] * 3)[0].tolist()
    [[4.0, 4.0], [4.0, 4.0]]
    """
    name = "return_covariance"
    pi = policy_table(name, "policy", mdp, policy)
    gamma = scalar(name, "mdp.discount", mdp.discount, below=1)
    at = evaluate(mdp, pi)
    P, S = mdp.transition, mdp.states
    V = at.values
    next_state = _coupled(P)
    with np.errstate(over="ignore", invalid="ignore"):
        surprise = gamma * (V - (P @ V)[..., np.newaxis])
        step = at.advantages[..., np.newaxis] + surprise
        actions = _coupled(pi)
        # c(s, s'): both act by the same U and move by the same W.
        revealed = np.einsum("sapb,satpbu,sat,pbu->sp", actions, next_state, step, step, optimize=True)
        pairs = np.einsum("sapb,satpbu->sptu", actions, next_state, optimize=True).reshape(S * S, S * S)
        c = solve(factorize(pairs, gamma**2), revealed.ravel()).reshape(S, S)
        here = np.einsum("satsbu->satbu", next_state)
        covariance: Array = np.einsum("satbu,sat,sbu->sab", here, surprise, surprise, optimize=True)
        covariance += gamma**2 * np.einsum("satbu,tu->sab", here, c, optimize=True)
    if not np.isfinite(covariance).all():
        raise Unrepresentable(f"{name}: a covariance overflows, expected mdp.reward of smaller magnitude")
    return covariance


def _coupled(p: Array) -> Array:
    """Return the probability that one uniform number, inverted through two rows of p (..., n), gives i and j.

    The result has the shape (..., n, ..., n): all pairs of rows.
    """
    upper = np.cumsum(p, axis=-1)
    upper[..., -1] = 1
    lower = upper - p
    ends = np.minimum.outer(upper, upper)
    starts = np.maximum.outer(lower, lower)
    coupled: Array = np.maximum(ends - starts, 0)
    return coupled
