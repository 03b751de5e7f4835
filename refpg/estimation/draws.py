"""Exact moments of estimates from n independent draws: importance sampling and the estimators of KL.

The random experiment: n outcomes are drawn independently from a distribution q over A outcomes, and serve an
expectation under another one, p, with r = p/q ::

    E_p[y] = Σ_a p(a) y(a) ≈ (1/n) Σ_i r(a_i) y(a_i)                     ordinary
                           ≈ Σ_i r(a_i) y(a_i) / Σ_i r(a_i)              self-normalised        [TRPO (16)]

With the actions of one state as outcomes, q = π, p = π' and y = A(s, ·) it is the expected advantage of one state; with
all pairs (s, a) as outcomes, q = d(s)π(a|s), p = d(s)π'(a|s), it is the surrogate.  Nothing is simulated: an
estimate that sees only how often each outcome was drawn has a finite number of values, and these are enumerated.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import comb

from refpg.bounds import kl_divergence
from refpg.estimation.divergence import kl_estimators
from refpg.notation import Array, bind_shapes, count, overflow_is_an_error

MOST_COUNTS = 10**6  # how many vectors of counts are enumerated at most
MOST_DRAWS = 1000  # of more draws, a binomial coefficient can overflow


class Moments(NamedTuple):
    """What an estimate is in the mean, and how far from it.

    Fields: ``mean`` E ŷ; ``bias`` E ŷ − y of the number y that is estimated; ``variance`` E(ŷ − E ŷ)², units squared.
    """

    mean: float
    bias: float
    variance: float

    @property
    def mean_squared_error(self) -> float:
        """E(ŷ − y)² = bias² + variance."""
        return self.bias**2 + self.variance


class KLMoments(NamedTuple):
    """`Moments` of the means of three estimators of KL(old ‖ new): ``k1``, ``k2`` and ``k3``, nats."""

    k1: Moments
    k2: Moments
    k3: Moments


@overflow_is_an_error
def importance_sampling_moments(old: Any, new: Any, values: Any, draws: int) -> Moments:
    """Return bias and variance of the ordinary importance-sampling estimate.

    ::

        ŷ = (1/n) Σ_i r(a_i) y(a_i),    a_i ~ q independent,    r = p/q

        E ŷ = Σ_{q > 0} p y             var ŷ = (1/n) Σ_a q (r y − E ŷ)²

    Parameters
    ----------
    old, new : (A,) arrays
        q, from which is drawn, and p, under which the expectation is wanted.
    values : (A,) array
        y.
    draws : int
        n.

    Returns
    -------
    Moments
        Of the estimate of E_p[y].  The bias is what p has where q has nothing: 0 if q covers p.

    Raises
    ------
    ValueError
        If the shapes disagree, old or new is not a distribution, n < 1, or a ratio overflows.

    Notes
    -----
    Convention: the moments are those of `importance_sampling_mean` over n rows.

    Laws: the variance is 0 for p|y| ∝ q and y of one sign; for y constant it is y² χ²(p ‖ q)/n, not 0.

    References
    ----------
    [TRPO (14)]

    Examples
    --------
    >>> importance_sampling_moments([0.5, 0.5], [0.75, 0.25], [1.0, 1.0], draws=1)
    Moments(mean=1.0, bias=0.0, variance=0.25)
    """
    function = "importance_sampling_moments"
    q, p, y = _two_distributions(function, old, new, values)
    n = count(function, "draws", draws)
    drawn = q > 0
    row = np.where(drawn, p / np.where(drawn, q, 1) * y, 0)
    mean = np.sum(q * row)
    return Moments(
        mean=float(mean),
        bias=float(np.sum(np.where(drawn, 0, -p * y))),
        variance=float(np.sum(q * (row - mean) ** 2) / n),
    )


@overflow_is_an_error
def self_normalized_moments(old: Any, new: Any, values: Any, draws: int) -> Moments:
    """Return bias and variance of the self-normalised importance-sampling estimate, by enumeration.

    ::

        ŷ = Σ_a c_a r_a y_a / Σ_a c_a r_a,    (c_1, …, c_A) ~ multinomial(n, q)

    Every vector of counts is visited, C(n + A − 1, A − 1) of them.

    Parameters
    ----------
    old, new : (A,) arrays
        q, from which is drawn, and p, under which the expectation is wanted.
    values : (A,) array
        y.
    draws : int
        n.

    Returns
    -------
    Moments
        Of the estimate of E_p[y].

    Raises
    ------
    ValueError
        If the shapes disagree, old or new is not a distribution, n < 1 or n > 1000, there are more than a million
        vectors of counts, or an outcome that q draws has p = 0: the estimate is then 0/0 with a positive probability.

    Notes
    -----
    Convention: the moments are those of `self_normalized_mean` over n rows.

    Laws: for n = 1 the estimate is y itself, so its mean is E_q[y]; a constant added to y adds to the mean alone; the
    variance is 0 where y is constant, which the ordinary estimate does not achieve.

    References
    ----------
    [TRPO (16)]

    Examples
    --------
    >>> self_normalized_moments([0.5, 0.5], [0.75, 0.25], [0.0, 1.0], draws=1)
    Moments(mean=0.5, bias=0.25, variance=0.25)
    """
    function = "self_normalized_moments"
    q, p, y = _two_distributions(function, old, new, values)
    n = count(function, "draws", draws)
    counts, probability = multinomial(function, q, n)
    r = likelihood_ratios(function, q, p)
    target = np.sum(p * y)
    # Deviations from the target are averaged, so the bias does not drown in the size of y.
    error = counts @ (r * (y - target)) / (counts @ r)
    bias = np.sum(probability * error)
    return Moments(
        mean=float(target + bias),
        bias=float(bias),
        variance=float(np.sum(probability * (error - bias) ** 2)),
    )


@overflow_is_an_error
def self_normalized_delta_method(old: Any, new: Any, values: Any, draws: int) -> Moments:
    """Return the delta method's approximation of the moments of the self-normalised estimate: first order in 1/n.

    ::

        ȳ = Σ_{q > 0} p y / R,    R = Σ_{q > 0} p                 what the estimate tends to
        bias     ≈ ȳ − E_p[y] − Σ_a q (r/R)² (y − ȳ) / n
        variance ≈ Σ_a q (r/R)² (y − ȳ)² / n

    Parameters
    ----------
    old, new : (A,) arrays
        q, from which is drawn, and p, under which the expectation is wanted.
    values : (A,) array
        y.
    draws : int
        n.

    Returns
    -------
    Moments
        Approximations, whose errors are of second order in 1/n; `self_normalized_moments` are exact.

    Raises
    ------
    ValueError
        If the shapes disagree, old or new is not a distribution, n < 1, or an outcome that q draws has p = 0.

    References
    ----------
    [TRPO (16)]

    Examples
    --------
    >>> old, new, y = [0.5, 0.5], [0.75, 0.25], [0.0, 1.0]
    >>> for moments in (self_normalized_delta_method, self_normalized_moments):
    ...     print(f"{moments(old, new, y, draws=100).bias:.6f}")
    0.001875
    0.001889
    """
    function = "self_normalized_delta_method"
    q, p, y = _two_distributions(function, old, new, values)
    n = count(function, "draws", draws)
    r = likelihood_ratios(function, q, p)
    target = np.sum(p * y)
    covered = np.sum(q * r)
    limit = np.sum(q * r * (y - target)) / covered
    error = y - target - limit
    squared = q * (r / covered) ** 2
    bias = limit - np.sum(squared * error) / n
    return Moments(mean=float(target + bias), bias=float(bias), variance=float(np.sum(squared * error**2) / n))


@overflow_is_an_error
def kl_estimator_moments(old: Any, new: Any, draws: int = 1) -> KLMoments:
    """Return bias and variance of the means of k1, k2 and k3 over n draws from the old policy.

    ::

        k̂ = (1/n) Σ_i k(log r(a_i)),    a_i ~ old independent,    r = new/old

        bias k1 = 0        bias k2 = E_old[k2 − k3] + bias k3        bias k3 = −Σ_{old = 0} new

    Parameters
    ----------
    old, new : (A,) arrays
        Probabilities of the actions of one state.
    draws : int
        n.

    Returns
    -------
    KLMoments
        Of the estimates of KL(old ‖ new), nats.  k3 is unbiased where the old policy takes every action that the new
        one takes: it counts on E_old[r] = 1.

    Raises
    ------
    ValueError
        If the shapes disagree, old or new is not a distribution, n < 1, or the new policy excludes an action that the
        old one takes: KL is then infinite.

    Notes
    -----
    Convention: actions are drawn from the *first* argument, as in `kl_estimators`.

    Accuracy: the bias of k2 has an absolute error of a few units of rounding of KL; it is of third order in new − old.

    References
    ----------
    [Blog-KL]

    Examples
    --------
    The variance of k1 is of first order in KL, that of k3 of second:

    >>> close = kl_estimator_moments([0.5, 0.5], [0.51, 0.49])
    >>> bool(close.k1.variance > 1e3 * close.k3.variance)
    True
    """
    function = "kl_estimator_moments"
    p, q = _distributions(function, old, new)
    n = count(function, "draws", draws)
    drawn = p > 0
    if (drawn & (q == 0)).any():
        raise ValueError(f"{function}: new is 0 where old is not, expected a finite KL(old ‖ new)")
    kl = kl_divergence(p[np.newaxis], q[np.newaxis])[0]
    p_drawn, q_drawn = p[drawn], q[drawn]
    near = np.abs(q_drawn - p_drawn) <= p_drawn / 2
    closeness = np.where(near, (q_drawn - p_drawn) / p_drawn, 0)
    log_r = np.where(near, np.log1p(closeness), np.log(q_drawn) - np.log(p_drawn))
    k1, k2, k3 = kl_estimators(np.zeros_like(log_r), log_r)
    unseen = np.sum(np.where(drawn, 0, -q))

    def moments(k: Array, bias: Any) -> Moments:
        return Moments(float(kl + bias), float(bias), float(np.sum(p_drawn * (k - kl - bias) ** 2) / n))

    return KLMoments(
        k1=moments(k1, 0.0),
        k2=moments(k2, np.sum(p_drawn * (k2 - k3)) + unseen),
        k3=moments(k3, unseen),
    )


# ── the experiment ────────────────────────────────────────────────────────────────────────────────


def multinomial(function: str, q: Array, draws: int) -> tuple[Array, Array]:
    """Return every vector of counts of n draws from q, (N, A), and its probability (N,).

    Parameters
    ----------
    function : str
        The caller, named in the message.
    q : (A,) array
        A distribution; outcomes with q = 0 are never drawn, and their counts are 0.
    draws : int
        n.

    Returns
    -------
    tuple of arrays
        Counts as floats, and multinomial probabilities.

    Raises
    ------
    ValueError
        If there are more than a million of them, or n > 1000.

    Examples
    --------
    >>> import numpy as np
    >>> multinomial("f", np.array([0.5, 0.5]), 2)
    (array([[0., 2.],
           [1., 1.],
           [2., 0.]]), array([0.25, 0.5 , 0.25]))
    """
    outcomes = np.flatnonzero(q)
    number = math.comb(draws + len(outcomes) - 1, len(outcomes) - 1)
    if number > MOST_COUNTS or draws > MOST_DRAWS:
        raise ValueError(
            f"{function}: {draws} draws of {len(outcomes)} outcomes have {number} vectors of counts, "
            f"expected at most {MOST_COUNTS} vectors of at most {MOST_DRAWS} draws"
        )
    counts, probability, left = np.zeros((1, len(q))), np.ones(1), np.array([draws])
    for position, a in enumerate(outcomes[:-1]):
        # Outcome a takes 0, …, left of the draws that the outcomes before it left over: a binomial distribution.
        rows = np.repeat(np.arange(len(left)), left + 1)
        taken = np.concatenate([np.arange(n + 1) for n in left])
        counts, probability, left = counts[rows], probability[rows], left[rows]
        counts[:, a] = taken
        others = q[outcomes[position + 1 :]].sum()
        here, there = q[a] / (q[a] + others), others / (q[a] + others)
        probability = probability * comb(left, taken) * here**taken * there ** (left - taken)
        left = left - taken
    counts[:, outcomes[-1]] = left
    return counts, probability


def likelihood_ratios(function: str, q: Array, p: Array) -> Array:
    """Return r = p/q where q draws, 0 elsewhere, of distributions that a self-normalised estimate can be made from.

    Parameters
    ----------
    function : str
        The caller, named in the message.
    q, p : arrays
        Of one shape; ``old`` and ``new`` in the message.

    Returns
    -------
    array
        r, of that shape.

    Raises
    ------
    ValueError
        If an outcome that q draws has p = 0.
    """
    drawn = q > 0
    if (drawn & (p == 0)).any():
        raise ValueError(
            f"{function}: new is 0 where old is not, expected new > 0: the estimate can be 0/0"
        )
    ratios: Array = np.where(drawn, p / np.where(drawn, q, 1), 0)
    return ratios


def _two_distributions(function: str, old: Any, new: Any, values: Any) -> tuple[Array, Array, Array]:
    q, p = _distributions(function, old, new)
    (y,) = bind_shapes(function, {"A": len(q)}, values=(values, "A"))
    return q, p, y


def _distributions(function: str, old: Any, new: Any) -> tuple[Array, Array]:
    old, new = bind_shapes(function, {}, old=(old, "A"), new=(new, "A"))
    for name, table in (("old", old), ("new", new)):
        if table.dtype.kind == "c" or (table < 0).any():
            raise ValueError(f"{function}: {name} has a negative or complex entry, expected probabilities")
        if abs(table.sum() - 1) > len(table) * np.finfo(table.dtype).eps:
            raise ValueError(f"{function}: {name} sums to {float(table.sum())}, expected 1")
    return old, new
