"""Steps of a policy that is a table: in each state the best new row inside a KL ball, or at a KL price.

::

    KL ball            max_π Σ_a π(a) A(a)   subject to   KL(p ‖ π) ≤ κ          π(a) = λ p(a)/(ν − A(a)),  ν > max A
    mirror descent     max_π Σ_a π(a) A(a) − λ KL(π ‖ p)                         π(a) ∝ p(a) exp(A(a)/λ)      [MDPO]
    mixture            (1 − α)π + α π*                                                                 [KL02 Thm 4.1]

The direction of the KL decides what may happen to an action that the old row p excludes.  KL(new ‖ old) forbids it for
ever.  KL(old ‖ new) does not see it: when κ is large enough, the best row gives it what the other actions lose ::

    π(a) = λ p(a)/(A* − A(a)) where p(a) > 0,   the rest to the excluded action of advantage A* > max_{p>0} A

What is computed is the ratio r = π/p, from d = (A* − A)/D ≥ 0 with D such that E_p d = 1, and g = (ν − A*)/D ≥ 0 ::

    y = (1 − d)/(g + 1)          1 − y = (g + d)/(g + 1)          r = 1/((1 − y) E_p[1/(1 − y)])
    E_p y = 0      so that       E_p[1/(1 − y)] = 1 + E_p[y²/(1 − y)]       λ = D (g + 1)/E_p[1/(1 − y)]

in which nothing cancels, neither for κ → 0, where g → ∞ and KL → ½ Var_p(d)/g², nor for κ → ∞, where g → 0.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.distributions.categorical import exponential_remainder
from refpg.mdp import expected_advantages
from refpg.notation import Array, bind_shapes, row_weights, scalar

SMALLEST = float(np.finfo(np.float64).tiny)  # a probability that would underflow is held here: its KL stays finite
LEAST_GAP = 2.0**-500  # of g: what the other actions keep by then is 2⁻⁵⁰⁰ of what they had
ROOT_STEPS = 100  # the bracket in log g is less than 1000 wide: 64 halvings reach its last digit, Newton's steps take 6


class KLBallStep(NamedTuple):
    """What a step to the edge of a KL ball did, state by state.

    Fields: ``multipliers`` λ (S,), the return units that one more nat would buy, 0 where nothing can be gained;
    ``kl`` (S,), KL(p ‖ π), which is the radius unless even the best row is nearer.
    """

    multipliers: Array
    kl: Array


def kl_ball_step(policy: Any, advantages: Any, max_kl: float) -> tuple[Array, KLBallStep]:
    """Return, in each state, the distribution of the largest expected advantage inside a KL ball.

    ::

        max_π Σ_a π(a) A(a)   subject to   KL(p ‖ π) ≤ κ

        π(a) = λ p(a)/(ν − A(a))          λ from Σ π = 1,   ν from KL = κ: one monotone root per state

    Parameters
    ----------
    policy : (S, A) array
        p, a row of probabilities per state.
    advantages : (S, A) array
        A; a constant in a row does not matter.
    max_kl : float
        κ > 0, nats, the same in every state.

    Returns
    -------
    table : (S, A) array
        π.  Where all advantages are equal the row does not move.
    info : KLBallStep

    Raises
    ------
    ValueError
        If the shapes disagree, a row is not a distribution, or κ ≤ 0.

    Notes
    -----
    Convention: KL(old ‖ new).  An action that p excludes comes in if it is the best one and κ is large enough; several
    such actions share.  A probability too small for a float is held at the smallest normal one, so that the KL stays
    finite.

    Laws: π(a)(ν − A(a)) = λ p(a); the expected advantage is concave in κ, with derivative λ.

    References
    ----------
    [TRPO (10)]

    Examples
    --------
    A deterministic row can only lose e^{−κ} of what it had:

    >>> import math
    >>> table, info = kl_ball_step([[1.0, 0.0]], [[0.0, 8.0]], max_kl=math.log(2))
    >>> table.round(12), info.multipliers.round(12)
    (array([[0.5, 0.5]]), array([4.]))
    """
    name = "kl_ball_step"
    p, A = checked_rows(name, policy, advantages)
    return ball(p, A, scalar(name, "max_kl", max_kl, above=0))


def checked_rows(function: str, policy: Any, advantages: Any) -> tuple[Array, Array]:
    """Check that a policy is a table of probabilities of the shape of its advantages, and return both."""
    p, A = bind_shapes(function, {}, policy=(policy, "S A"), advantages=(advantages, "S A"))
    excess = np.abs(p.sum(axis=1) - 1)
    if (p < 0).any() or (excess > p.shape[1] * np.finfo(np.float64).eps).any():
        s = int(np.argmax(np.where((p < 0).any(axis=1), np.inf, excess)))
        raise ValueError(f"{function}: policy is {p[s].tolist()} in state {s}, expected probabilities that sum to 1")
    return p, A


class StateProblems(NamedTuple):
    """Each state's problem in its own units.

    Fields: ``P`` (S, A), rows that sum to 1; ``d`` (S, A) ≥ 0 with E_P d = 1, or all 1 where nothing can be gained;
    ``D`` (S,) its unit; ``variance`` (S,) of d under P; ``enters`` (S, A), the best actions where P excludes them all.
    """

    P: Array
    d: Array
    D: Array
    variance: Array
    enters: Array

    @property
    def outside(self) -> Array:
        """Whether the best action is one that P excludes."""
        outside: Array = np.any(self.enters, axis=1)
        return outside


def state_problems(p: Array, A: Array) -> StateProblems:
    """Scale a policy's rows and advantages to the units in which the formulas of this module hold."""
    P = p / p.sum(axis=1, keepdims=True)
    d = A.max(axis=1, keepdims=True) - A
    least = np.where(P > 0, d, np.inf).min(axis=1)
    most = np.where(P > 0, d, -np.inf).max(axis=1)
    D = np.where(least == most, least, np.sum(P * d, axis=1))  # no rounding may tell equal advantages apart
    enters = (P == 0) & (d == 0) & (least > 0)[:, np.newaxis]
    d = np.where(D[:, np.newaxis] > 0, d / np.where(D > 0, D, 1)[:, np.newaxis], 1.0)
    return StateProblems(P, d, D, np.sum((np.sqrt(P) * (d - 1)) ** 2, axis=1), enters)


class _Point(NamedTuple):
    """What a value of g means: r (S, A); KL(p ‖ π), λ/D and d log KL/d log g (S,)."""

    ratio: Array
    kl: Array
    multiplier: Array
    slope: Array


def _point(P: Array, d: Array, g: Array) -> _Point:
    g = g[:, np.newaxis]
    y = (1 - d) / (g + 1)
    left = (g + d) / (g + 1)
    inverse = 1 / np.where(P > 0, left, 1)
    surplus = np.sum(P * y * (y * inverse), axis=1, keepdims=True)  # E[1/(1 − y)] − 1
    near = np.abs(y) < 0.5
    log_left = np.where(near, np.log1p(-np.where(near, y, 0)), np.log(np.where(P > 0, left, 1)))
    log_r = np.where(P > 0, -log_left - np.log1p(surplus), 0)
    kl = np.sum(P * exponential_remainder(log_r), axis=1)
    spread = np.sum((np.sqrt(P) * (inverse - (1 + surplus))) ** 2, axis=1)
    slope = -g[:, 0] / (g[:, 0] + 1) * spread / ((1 + surplus[:, 0]) * np.where(kl > 0, kl, 1))
    return _Point(inverse / (1 + surplus), kl, (g[:, 0] + 1) / (1 + surplus[:, 0]), slope)


def ball(p: Array, A: Array, kappa: float) -> tuple[Array, KLBallStep]:
    """Compute `kl_ball_step` for arguments that are known to be good."""
    at = state_problems(p, A)
    g = _gap(at, kappa)
    here = _point(at.P, at.d, g)
    excess = np.where(at.outside & (g == 0), kappa - here.kl, 0)  # of κ, beyond ν = A*
    table = _held(at.P, at.P * here.ratio * np.exp(-excess)[:, np.newaxis])
    table += np.where(at.enters, (-np.expm1(-excess) / np.maximum(at.enters.sum(axis=1), 1))[:, np.newaxis], 0)
    return table / table.sum(axis=1, keepdims=True), KLBallStep(
        multipliers=at.D * here.multiplier * np.exp(-excess),
        kl=here.kl + excess,
    )


def _gap(at: StateProblems, kappa: float) -> Array:
    """Solve KL(g) = κ in each state, by Newton's method in log g and log KL inside a bracket that halving keeps small.

    KL falls from g = 0 on, and KL ≤ E[y²/(1 − y)] ≤ Var_p(d)/g²: the bracket's upper end.  In these coordinates its
    slope falls from 0 to −2, so that Newton's steps from there do not overshoot.
    """
    least = np.where(at.outside, 0.0, LEAST_GAP)
    saturated = (at.variance == 0) | (_point(at.P, at.d, least).kl <= kappa)
    lower = np.full(len(least), np.log(LEAST_GAP))
    upper = 0.5 * (np.log(np.where(saturated, 1, at.variance)) - np.log(kappa))
    u = upper
    for _ in range(ROOT_STEPS):
        here = _point(at.P, at.d, np.exp(u))
        too_far = here.kl > kappa
        lower, upper = np.where(too_far, u, lower), np.where(too_far, upper, u)
        missing = np.log(np.where(here.kl > 0, here.kl, SMALLEST)) - np.log(kappa)
        newton = u - missing / np.where(here.slope < 0, here.slope, -1)
        eps = np.finfo(np.float64).eps
        settled = (np.abs(newton - u) <= 8 * eps * (1 + np.abs(u))) | (np.abs(missing) <= 2 * eps)
        if (settled | saturated).all():
            break
        inside = (newton > lower) & (newton < upper)
        u = np.where(settled, u, np.where(inside, newton, 0.5 * (lower + upper)))
    return np.where(saturated, least, np.exp(u))


def _held(p: Array, table: Array) -> Array:
    """Return a table in which no probability that p has underflows."""
    return np.where(p > 0, np.maximum(table, SMALLEST), 0.0)


def greedy_step(policy: Any, advantages: Any) -> Array:
    """Return the limit of `kl_ball_step` for κ → ∞: all probability goes to the best actions.

    Parameters
    ----------
    policy : (S, A) array
        p, a row of probabilities per state.
    advantages : (S, A) array
        A.

    Returns
    -------
    (S, A) array
        Where several actions are best they keep their proportions, or share if p excludes them all.

    Raises
    ------
    ValueError
        If the shapes disagree or a row is not a distribution.

    References
    ----------
    [KL02 section 4]

    Examples
    --------
    >>> greedy_step([[0.25, 0.25, 0.5], [1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    array([[0.5, 0.5, 0. ],
           [0. , 1. , 0. ]])
    """
    p, A = checked_rows("greedy_step", policy, advantages)
    best = A.max(axis=1, keepdims=True) == A
    kept = np.where(best, p, 0)
    table = np.where((kept > 0).any(axis=1, keepdims=True), kept, best)
    return table / table.sum(axis=1, keepdims=True)


def mirror_descent_step(policy: Any, advantages: Any, temperature: float) -> Array:
    """Return, in each state, the distribution that is best at a price for KL(new ‖ old).

    ::

        max_π Σ_a π(a) A(a) − λ KL(π ‖ p)          π(a) = p(a) exp(A(a)/λ)/Σ_b p(b) exp(A(b)/λ)

    With λ = (1 − γ)/step it is the natural policy gradient of a tabular softmax policy [AKLM].

    Parameters
    ----------
    policy : (S, A) array
        p, a row of probabilities per state.
    advantages : (S, A) array
        A; a constant in a row does not matter.
    temperature : float
        λ > 0, return units per nat.

    Returns
    -------
    (S, A) array
        π.  An excluded action stays excluded, and a possible one possible: a probability too small for a float is held
        at the smallest normal one.

    Raises
    ------
    ValueError
        If the shapes disagree, a row is not a distribution, or λ ≤ 0.

    Notes
    -----
    Law: Σ_a π A ≥ Σ_a p A in every state, for every λ; with the advantages of p, η does not fall.

    References
    ----------
    [MDPO], [AKLM]

    Examples
    --------
    >>> import math
    >>> mirror_descent_step([[0.5, 0.5]], [[math.log(3), 0.0]], temperature=1.0).round(12)
    array([[0.75, 0.25]])
    """
    name = "mirror_descent_step"
    p, A = checked_rows(name, policy, advantages)
    price = scalar(name, "temperature", temperature, above=0)
    best = np.where(p > 0, A, -np.inf).max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        table = p * np.exp(np.minimum((A - best) / price, 0))
    table = _held(p, table / table.sum(axis=1, keepdims=True))
    return table / table.sum(axis=1, keepdims=True)


def mixture_step(policy: Any, target: Any, mixing: float) -> Array:
    """Return a step towards another policy, of conservative policy iteration.

    ::

        π' = (1 − α)π + α π*

    Parameters
    ----------
    policy, target : (S, A) arrays
        π and π*.
    mixing : float
        α in [0, 1], as from `conservative_mixing`.

    Returns
    -------
    (S, A) array
        π'.

    Raises
    ------
    ValueError
        If the shapes disagree, a row is not a distribution, or α lies outside [0, 1].

    References
    ----------
    [KL02 section 4], [TRPO (5)]

    Examples
    --------
    >>> mixture_step([[1.0, 0.0]], [[0.0, 1.0]], 0.25)
    array([[0.75, 0.25]])
    """
    name = "mixture_step"
    old, target = bind_shapes(name, {}, policy=(policy, "S A"), target=(target, "S A"))
    checked_rows(name, old, old)
    checked_rows(name, target, target)
    alpha = scalar(name, "mixing", mixing, least=0, most=1)
    table = (1 - alpha) * old + alpha * target
    return table / table.sum(axis=1, keepdims=True)


def conservative_mixing(policy: Any, target: Any, advantages: Any, weights: Any, discount: float) -> float:
    """Return the mixing α that maximises the lower bound of the return of a mixture.

    ::

        η((1 − α)π + απ*) − η(π) ≥ α G − 2ε'γα²/((1 − γ)(1 − γ(1 − α)))

        G = Σ_s ρ_π(s) Ā(s),   ε' = max_s |Ā(s)|,   Ā(s) = Σ_a π*(a|s) A_π(s,a)
        α = (1 − γ)/γ (1/√(1 − z) − 1),   z = (1 − γ)G/(2ε') ≤ ½          at most 1, and 0 if G ≤ 0

    Parameters
    ----------
    policy, target : (S, A) arrays
        π and π*.
    advantages : (S, A) array
        A_π.
    weights : (S,) array
        The visitation distribution d_π = (1 − γ)ρ_π.
    discount : float
        γ in [0, 1).

    Returns
    -------
    float
        α in [0, 1].

    Raises
    ------
    ValueError
        If the shapes disagree, the weights are not a distribution, or γ lies outside [0, 1).

    Notes
    -----
    The zero of the bound's derivative G − (2ε'/(1 − γ))(1 − 1/(1 + t)²), t = γα/(1 − γ).  Dropping γα from the bound's
    denominator, as TRPO (6) does, would give the smaller α = (1 − γ)z/(2γ).

    References
    ----------
    [KL02 Thm 4.1], [TRPO (6)]

    Examples
    --------
    z = 7/16, so 1/√(1 − z) = 4/3:

    >>> old, target, advantages = [[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2, [[0.0, 1.0], [0.0, 0.75]]
    >>> round(conservative_mixing(old, target, advantages, [0.5, 0.5], discount=0.5), 12)
    0.333333333333
    """
    name = "conservative_mixing"
    seen = expected_advantages(advantages, policy, target)
    d = row_weights(name, weights, seen)
    gamma = scalar(name, "discount", discount, least=0, below=1)
    gain, epsilon = float(d @ seen), float(np.abs(seen).max())
    if gain <= 0:
        return 0.0
    t = float(np.expm1(-0.5 * np.log1p(-gain / (2 * epsilon))))
    return (1 - gamma) * t / gamma if (1 - gamma) * t < gamma else 1.0
