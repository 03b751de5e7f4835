"""Lower bounds of the expected return: how far the local approximation L can be trusted.

L_π(π') of [TRPO (3)] pretends that the new policy visits the states the old one does.  Every bound here has the form ::

    |η(π') − L_π(π')| ≤ penalty(π, π')            so   L − penalty ≤ η ≤ L + penalty

with a penalty that is 0 at π' = π.  L − penalty is then a minorizer of η that touches it at π, and whoever maximises it
cannot lose: η(π') ≥ L(π') − penalty(π') ≥ L(π) − 0 = η(π), the monotonic improvement of [TRPO (10)].

With η unnormalised, c = γ/(1 − γ)², Ā(s) = Σ_a π'(a|s) A_π(s,a), ε' = max_s |Ā(s)|, ε = max_sa |A_π(s,a)|, TV with
its ½, KL = KL(π ‖ π') and E_d the mean over the visitation distribution of the *old* policy ::

    span        (max Ā − min Ā) c E_d TV
    cpo         2ε' c E_d TV                            [CPO Cor. 1]
    trpo_tv     4ε c (max_s TV)²                        [TRPO Thm 1]
    pinsker     2ε c max_s KL
    trpo_kl     4ε c max_s KL                           [TRPO (9)], the article's M = L − C·KL, C = 4ε c

    cpo_kl      2ε' c √(½ E_d KL)                       [CPO Cor. 3]

In the first block each penalty is at most the next one, for every pair of policies: ½ span ≤ ε' ≤ 2ε max TV by
Hölder, E_d TV ≤ max TV, and TV² ≤ ½KL is Pinsker's inequality.  cpo ≤ cpo_kl by Pinsker and Jensen.

The maximum over states cannot be replaced by the mean in trpo_tv, nor in trpo_kl:
`refpg.mdp.mean_total_variation_counterexample` and `refpg.mdp.mean_kl_counterexample` break what results.  TRPO's
practical step, which limits the mean KL, is a heuristic; what does hold of the mean KL is cpo_kl, with its root.

Policies are tables (S, A); that of a network is `refpg.policy.probability_table` with one row per state.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refpg.distributions.categorical import exponential_remainder
from refpg.mdp import MDP, evaluate, expected_advantages, policy_table
from refpg.notation import Array, bind_shapes, expectation, row_weights, scalar

# ── how far apart two policies are ────────────────────────────────────────────────────────────────


def total_variation(old: Any, new: Any) -> Array:
    """Return the total variation distance of two policies in each state.

    ::

        TV(s) = ½ Σ_a |π(a|s) − π'(a|s)|

    Parameters
    ----------
    old, new : (S, A) arrays
        Probabilities.

    Returns
    -------
    (S,) array
        In [0, 1]: the largest difference of the probabilities of any set of actions.

    Raises
    ------
    ValueError
        If the shapes disagree.

    Notes
    -----
    Convention: with the ½.  Its maximum and its mean over states are ``.max()`` and `state_mean`.

    References
    ----------
    [TRPO Thm 1]

    Examples
    --------
    >>> total_variation([[0.5, 0.5], [1.0, 0.0]], [[0.25, 0.75], [0.0, 1.0]])
    array([0.25, 1.  ])
    """
    old, new = bind_shapes("total_variation", {}, old=(old, "S A"), new=(new, "S A"))
    distance: Array = 0.5 * np.sum(np.abs(old - new), axis=1)
    return distance


def kl_divergence(old: Any, new: Any) -> Array:
    """Return the Kullback–Leibler divergence KL(old ‖ new) of two policies in each state.

    ::

        KL(s) = Σ_a π log(π/π') = Σ_a π ϕ(log(π'/π)),   ϕ(x) = eˣ − 1 − x ≥ 0,   log(π'/π) = log1p((π' − π)/π)

    The second form adds Σ π' − Σ π = 0 and has only non-negative terms: it keeps its digits as π' → π.

    Parameters
    ----------
    old, new : (S, A) arrays
        Probabilities; old first.

    Returns
    -------
    (S,) array
        Nats, ≥ 0; infinite where the new policy excludes an action that the old one takes.

    Raises
    ------
    ValueError
        If the shapes disagree.

    Notes
    -----
    Convention: 0 log 0 = 0.  Its maximum and its mean over states are ``.max()`` and `state_mean`.  For networks
    `refpg.geometry.mean_kl` starts from θ, and does not need probabilities that differ in floating point.

    References
    ----------
    [TRPO (9)]

    Examples
    --------
    >>> h = 2.0**-40
    >>> float(kl_divergence([[0.5, 0.5]], [[0.5 + h, 0.5 - h]])[0]) == 2 * h**2
    True
    """
    old, new = bind_shapes("kl_divergence", {}, old=(old, "S A"), new=(new, "S A"))
    both = (old > 0) & (new > 0)
    p, q = np.where(both, old, 1), np.where(both, new, 1)
    near = np.abs(q - p) <= p / 2  # further apart the quotient's last digit, 1e-16 of p, may be all there is of q
    x = np.where(near, np.log1p(np.where(near, q - p, 0) / p), np.log(q) - np.log(p))
    terms = np.where(x > 1, (q - p) - p * x, p * exponential_remainder(np.minimum(x, 1)))
    terms = np.where(both, terms, new)
    return np.sum(np.where((old > 0) & (new == 0), np.inf, terms), axis=1)


def state_mean(values: Any, weights: Any) -> float:
    """Return the mean of a quantity of each state.

    ::

        E_d[y] = Σ_s d(s) y(s)

    Parameters
    ----------
    values : (S,) array
        y, such as `total_variation` or `kl_divergence`; may be infinite.
    weights : (S,) array
        A *normalised* distribution over states, such as ``visitation_distribution``; a state with weight 0 does not
        count, whatever its value.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes disagree, or the weights are not a distribution: the visitation ρ, of sum 1/(1 − γ), is refused.

    Examples
    --------
    >>> state_mean([1.0, 3.0], [0.25, 0.75])
    2.5
    """
    values = np.asarray(values, dtype=np.float64)
    w = row_weights("state_mean", weights, values)
    return float(expectation(np.where(w > 0, values, 0), w))


# ── the bounds ────────────────────────────────────────────────────────────────────────────────────


class Comparison(NamedTuple):
    """Two policies of an MDP compared: the ingredients of all bounds, exact.

    Fields: ``discount`` γ; ``old_return`` η(π); ``surrogate_gain`` L_π(π') − η(π); ``gap`` η(π') − L_π(π'), what L does
    not see; ``advantages`` A_π (S, A); ``expected_advantages`` Ā (S,), acting once by π'; ``total_variation`` (S,);
    ``kl`` (S,), KL(π ‖ π'); ``weights`` d_π (S,).
    """

    discount: float
    old_return: float
    surrogate_gain: float
    gap: float
    advantages: Array
    expected_advantages: Array
    total_variation: Array
    kl: Array
    weights: Array


class Bound(NamedTuple):
    """A bound of the expected return of a new policy, with what it bounds.

    Fields: ``old_return`` η(π); ``surrogate_gain`` L_π(π') − η(π); ``gap`` η(π') − L_π(π'); ``penalty`` ≥ 0, infinite
    where the KL is.  Gains are kept apart from η(π): for close policies they are far smaller than its last digit.
    """

    old_return: float
    surrogate_gain: float
    gap: float
    penalty: float

    @property
    def new_return(self) -> float:
        """η(π')."""
        return self.old_return + self.gain

    @property
    def surrogate(self) -> float:
        """L_π(π')."""
        return self.old_return + self.surrogate_gain

    @property
    def lower(self) -> float:
        """L − penalty ≤ η(π'); for the penalty of `trpo_kl_bound` this is the article's M."""
        return self.surrogate - self.penalty

    @property
    def upper(self) -> float:
        """L + penalty ≥ η(π')."""
        return self.surrogate + self.penalty

    @property
    def gain(self) -> float:
        """η(π') − η(π)."""
        return self.surrogate_gain + self.gap

    @property
    def guaranteed_gain(self) -> float:
        """L − penalty − η(π) ≤ gain."""
        return self.surrogate_gain - self.penalty

    @property
    def slack(self) -> float:
        """η(π') − (L − penalty) ≥ 0, without the cancellation of the returns."""
        return self.gap + self.penalty

    @property
    def slack_above(self) -> float:
        """(L + penalty) − η(π') ≥ 0."""
        return self.penalty - self.gap


def compare(mdp: MDP, old: Any, new: Any) -> Comparison:
    """Return what all bounds are made of.

    ::

        L − η(π)  = Σ_s ρ_π(s) Ā(s)
        η(π') − L = Σ_s (ρ_π'(s) − ρ_π(s)) Ā(s) = Σ_s ρ_π(s) Σ_a (π'(a|s) − π(a|s)) Ã(s,a)

    where Ã are the advantages of π' in the MDP whose reward is Ā(s): the performance difference once more.  The gap is
    of second order in π' − π, and this form shows it; the difference of two returns would lose it in their rounding.

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.

    References
    ----------
    [TRPO (2)], [TRPO (3)]
    """
    return _compare("compare", mdp, old, new)


def _compare(function: str, mdp: MDP, old: Any, new: Any) -> Comparison:
    old, new = policy_table(function, "old", mdp, old), policy_table(function, "new", mdp, new)
    scalar(function, "mdp.discount", mdp.discount, below=1)
    at = evaluate(mdp, old)
    seen = expected_advantages(at.advantages, old, new)
    shaped = replace(mdp, reward=np.repeat(seen[:, np.newaxis], mdp.actions, axis=1))
    unseen = expected_advantages(evaluate(shaped, new).advantages, old, new)
    return Comparison(
        discount=mdp.discount,
        old_return=at.expected_return,
        surrogate_gain=float(at.visitation @ seen),
        gap=float(at.visitation @ unseen),
        advantages=at.advantages,
        expected_advantages=seen,
        total_variation=total_variation(old, new),
        kl=kl_divergence(old, new),
        weights=at.visitation_distribution,
    )


def penalty_coefficient(advantages: Any, discount: Any) -> float:
    """Return C, by which TRPO's theory multiplies the largest KL.

    ::

        C = 4εγ/(1 − γ)²,   ε = max_sa |A_π(s,a)|

    Parameters
    ----------
    advantages : (S, A) array
        A_π of the current policy; C changes with it.
    discount : float
        γ in [0, 1).

    Returns
    -------
    float
        Return units per nat.

    Raises
    ------
    ValueError
        If γ lies outside [0, 1).

    Notes
    -----
    Convention: as printed.  By Pinsker's inequality with its ½, C/2 suffices (`pinsker_bound`).

    References
    ----------
    [TRPO (9)]

    Examples
    --------
    >>> penalty_coefficient([[1.0, -0.5]], 0.5)
    8.0
    """
    (A,) = bind_shapes("penalty_coefficient", {}, advantages=(advantages, "S A"))
    return 4 * float(np.abs(A).max()) * _drift(scalar("penalty_coefficient", "discount", discount, least=0, below=1))


def _drift(gamma: float) -> float:
    return gamma / (1 - gamma) ** 2


def _times(coefficient: float, divergence: Any) -> float:
    # 0 · ∞ = 0: where nothing is at stake, or γ = 0, the infinite KL does not matter.
    return coefficient * float(divergence) if coefficient else 0.0


def _span(at: Comparison) -> float:
    span = float(np.ptp(at.expected_advantages))
    return span * _drift(at.discount) * state_mean(at.total_variation, at.weights)


def _cpo(at: Comparison) -> float:
    epsilon = float(np.abs(at.expected_advantages).max())
    return 2 * epsilon * _drift(at.discount) * state_mean(at.total_variation, at.weights)


def _trpo_tv(at: Comparison) -> float:
    return penalty_coefficient(at.advantages, at.discount) * float(at.total_variation.max()) ** 2


def _pinsker(at: Comparison) -> float:
    return _times(penalty_coefficient(at.advantages, at.discount) / 2, at.kl.max())


def _trpo_kl(at: Comparison) -> float:
    return _times(penalty_coefficient(at.advantages, at.discount), at.kl.max())


def _cpo_kl(at: Comparison) -> float:
    epsilon = float(np.abs(at.expected_advantages).max())
    return _times(2 * epsilon * _drift(at.discount), np.sqrt(0.5 * state_mean(at.kl, at.weights)))


PENALTIES: dict[str, Callable[[Comparison], float]] = {
    "span": _span,
    "cpo": _cpo,
    "trpo_tv": _trpo_tv,
    "pinsker": _pinsker,
    "trpo_kl": _trpo_kl,
    "cpo_kl": _cpo_kl,
}


def _bound(at: Comparison, penalty: float) -> Bound:
    return Bound(at.old_return, at.surrogate_gain, at.gap, penalty)


def all_bounds(mdp: MDP, old: Any, new: Any) -> dict[str, Bound]:
    """Return every bound that holds for any two policies, by the names of the module's table.

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    dict of str to Bound
        ``span``, ``cpo``, ``trpo_tv``, ``pinsker``, ``trpo_kl``, from the best to the weakest, and ``cpo_kl``.

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.

    Notes
    -----
    Laws: slack ≥ 0 and slack_above ≥ 0; the first five penalties do not decrease; cpo ≤ cpo_kl.

    Examples
    --------
    The smaller the change, the more of it is guaranteed; the maxima of TRPO's theory guarantee little.

    >>> import refpg
    >>> mdp, old, new = refpg.mdp.attained_mixture_example(discount=0.5, mixing=0.125)
    >>> {name: round(bound.guaranteed_gain, 3) for name, bound in all_bounds(mdp, old, new).items()}
    {'span': 0.188, 'cpo': 0.188, 'trpo_tv': 0.125, 'pinsker': -0.284, 'trpo_kl': -0.818, 'cpo_kl': 0.121}
    """
    at = _compare("all_bounds", mdp, old, new)
    return {name: _bound(at, penalty(at)) for name, penalty in PENALTIES.items()}


def span_bound(mdp: MDP, old: Any, new: Any) -> Bound:
    """Return the bound by the span of the expected advantage.

    ::

        |η(π') − L| ≤ (max_s Ā − min_s Ā) γ/(1 − γ)² E_d TV

    Visitations have equal sums, so a constant in Ā does not matter: take the middle of its range off ε'.

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.
    """
    at = _compare("span_bound", mdp, old, new)
    return _bound(at, _span(at))


def cpo_bound(mdp: MDP, old: Any, new: Any) -> Bound:
    """Return the bound by the mean total variation, of constrained policy optimisation.

    ::

        η(π') − η(π) ≥ 1/(1 − γ) E_d,π'[A_π(s,a) − 2γε'/(1 − γ) TV(s)],   ε' = max_s |Ā(s)|

    and, with + for −, from above.

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    Bound
        The constant 2 is attained in the limit of small changes (`refpg.mdp.attained_mixture_example`).

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.

    References
    ----------
    [CPO Cor. 1], [CPO Thm 1]
    """
    at = _compare("cpo_bound", mdp, old, new)
    return _bound(at, _cpo(at))


def trpo_tv_bound(mdp: MDP, old: Any, new: Any) -> Bound:
    """Return the bound by the largest total variation.

    ::

        η(π') ≥ L_π(π') − 4εγ/(1 − γ)² α²,   α = max_s TV(s),   ε = max_sa |A_π(s,a)|

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    Bound
        The constant 4 is attained for α → 0 (`refpg.mdp.attained_total_variation_example`).

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.

    References
    ----------
    [TRPO Thm 1]
    """
    at = _compare("trpo_tv_bound", mdp, old, new)
    return _bound(at, _trpo_tv(at))


def pinsker_bound(mdp: MDP, old: Any, new: Any) -> Bound:
    """Return the bound by the largest KL with half of TRPO's coefficient.

    ::

        η(π') ≥ L_π(π') − ½C max_s KL(π ‖ π'),   ½C = 2εγ/(1 − γ)²          TV² ≤ ½KL

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.

    References
    ----------
    [TRPO Thm 1]
    """
    at = _compare("pinsker_bound", mdp, old, new)
    return _bound(at, _pinsker(at))


def trpo_kl_bound(mdp: MDP, old: Any, new: Any) -> Bound:
    """Return the bound by the largest KL: its lower end is the article's M, the minorizer of TRPO's theory.

    ::

        η(π') ≥ M(π') = L_π(π') − C max_s KL(π(·|s) ‖ π'(·|s)),   C = 4εγ/(1 − γ)²          TV² ≤ KL

    M(π) = η(π): a policy that increases M increases η at least as much.

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    Bound
        With ``lower`` = M and ``guaranteed_gain`` = M(π') − M(π).

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.

    References
    ----------
    [TRPO (9)–(10)], [Hui]
    """
    at = _compare("trpo_kl_bound", mdp, old, new)
    return _bound(at, _trpo_kl(at))


def cpo_kl_bound(mdp: MDP, old: Any, new: Any) -> Bound:
    """Return the bound by the root of the mean KL: what is true of the constraint that TRPO uses in practice.

    ::

        |η(π') − L| ≤ √2 γε'/(1 − γ)² √(E_d KL),   ε' = max_s |Ā(s)|          E_d TV ≤ √(½ E_d KL)

    So if L did not fall and E_d KL ≤ δ, then η fell by at most √(2δ) γε'/(1 − γ)² [CPO Prop. 1].

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, new : (S, A) arrays
        π and π'.

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, or γ = 1.

    Notes
    -----
    Convention: KL(old ‖ new); the paper prints KL(new ‖ old).  TV is symmetric, so both hold.

    References
    ----------
    [CPO Cor. 3], [CPO Prop. 1]
    """
    at = _compare("cpo_kl_bound", mdp, old, new)
    return _bound(at, _cpo_kl(at))


def mixture_bound(mdp: MDP, old: Any, target: Any, mixing: float) -> Bound:
    """Return the bound for a step towards another policy, of conservative policy iteration.

    ::

        π' = (1 − α)π + α π*
        η(π') ≥ L_π(π') − 2ε'γα²/((1 − γ)(1 − γ(1 − α))),   ε' = max_s |Σ_a π*(a|s) A_π(s,a)|

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, target : (S, A) arrays
        π and π*.
    mixing : float
        α in [0, 1].

    Returns
    -------
    Bound
        An equality at `refpg.mdp.attained_mixture_example`, for every γ and α.

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, α lies outside [0, 1], or γ = 1.

    Notes
    -----
    Convention: ε' is that of π*, not of π'; of π' it is α times as large.  The paper normalises returns and advantages
    by 1 − γ; these are not.

    References
    ----------
    [KL02 Thm 4.1]
    """
    at, epsilon, alpha = _mixture("mixture_bound", mdp, old, target, mixing)
    gamma = at.discount
    return _bound(at, 2 * epsilon * gamma * alpha**2 / ((1 - gamma) * ((1 - gamma) + gamma * alpha)))


def simple_mixture_bound(mdp: MDP, old: Any, target: Any, mixing: float) -> Bound:
    """Return the bound of `mixture_bound` in TRPO's simpler and weaker form.

    ::

        η(π') ≥ L_π(π') − 2ε'γ/(1 − γ)² α²

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    old, target : (S, A) arrays
        π and π*.
    mixing : float
        α in [0, 1].

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        If a table is not a policy of this MDP, α lies outside [0, 1], or γ = 1.

    References
    ----------
    [TRPO (6)]
    """
    at, epsilon, alpha = _mixture("simple_mixture_bound", mdp, old, target, mixing)
    return _bound(at, 2 * epsilon * _drift(at.discount) * alpha**2)


def _mixture(function: str, mdp: MDP, old: Any, target: Any, mixing: float) -> tuple[Comparison, float, float]:
    old, target = policy_table(function, "old", mdp, old), policy_table(function, "target", mdp, target)
    alpha = scalar(function, "mixing", mixing, least=0, most=1)
    at = _compare(function, mdp, old, (1 - alpha) * old + alpha * target)
    epsilon = float(np.abs(expected_advantages(at.advantages, old, target)).max())
    return at, epsilon, alpha
