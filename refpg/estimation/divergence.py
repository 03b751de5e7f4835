"""KL(old ‖ new) from the log-probabilities of actions that the old policy drew: k1, k2 and k3."""

from typing import Any, NamedTuple

from refpg.distributions.categorical import exponential_remainder
from refpg.notation import Array, bind_shapes, choice, expectation, overflow_is_an_error, row_weights


class KLEstimates(NamedTuple):
    """Three sample estimates of KL(old ‖ new), (B,) each, nats: ``k1``, ``k2`` and ``k3``."""

    k1: Array
    k2: Array
    k3: Array


@overflow_is_an_error
def kl_estimators(old_log_prob: Any, new_log_prob: Any) -> KLEstimates:
    """Return three estimates of KL(old ‖ new) from log-probabilities of actions drawn from the old policy.

    ::

        k1 = −log r        k2 = ½ log² r        k3 = r − 1 − log r        r = π_new(a|s) / π_old(a|s)

    Parameters
    ----------
    old_log_prob, new_log_prob : (B,) array
        Log-probabilities of the actions taken, nats.

    Returns
    -------
    KLEstimates
        ``k1``, ``k2``, ``k3``, (B,) each, nats.  Under the old policy E k1 = E k3 = KL(old ‖ new); k2 is
        biased, at third order.  k2 and k3 are never negative, k1 can be.

    Raises
    ------
    ValueError
        If a shape disagrees, or the ratio overflows.

    Notes
    -----
    Convention: actions are drawn from the *first* argument.  A penalty towards a reference draws them from
    π_θ, which is then first, with r = ref/π_θ; differentiated with the actions held fixed, the estimates are
    no longer of one thing: E ∇k1 = 0, E ∇k2 = ∇KL(π_θ ‖ ref), E ∇k3 = ∇KL(ref ‖ π_θ).

    k3 = e^ℓ − 1 − ℓ is a series for |ℓ| < 0.6, ℓ = log r: expm1(ℓ) − ℓ loses all its digits as ℓ → 0.

    References
    ----------
    [Blog-KL]

    Examples
    --------
    >>> k1, k2, k3 = kl_estimators([0.0], [1e-9])
    >>> float(k1[0]), float(k2[0]), float(k3[0])
    (-1e-09, 5e-19, 5.000000001666667e-19)
    """
    log_r = _log_ratio("kl_estimators", old_log_prob, new_log_prob)
    return KLEstimates(*(kl_estimate(log_r, estimator) for estimator in KLEstimates._fields))


def kl_estimate(log_r: Array, estimator: str) -> Array:
    """Return one of `kl_estimators` from log-ratios that are bound already.

    Parameters
    ----------
    log_r : (B,) array
        log r, nats.
    estimator : {"k1", "k2", "k3"}
        Which one.

    Returns
    -------
    (B,) array
        Nats.
    """
    return {"k1": _k1, "k2": _k2, "k3": exponential_remainder}[estimator](log_r)


def _log_ratio(function: str, old_log_prob: Any, new_log_prob: Any) -> Array:
    old, new = bind_shapes(function, {}, old_log_prob=(old_log_prob, "B"), new_log_prob=(new_log_prob, "B"))
    log_r: Array = new - old
    return log_r


def _k1(log_r: Array) -> Array:
    return -log_r


def _k2(log_r: Array) -> Array:
    k2: Array = log_r**2 / 2
    return k2


@overflow_is_an_error
def approximate_kl(old_log_prob: Any, new_log_prob: Any, *, estimator: str = "k3", weights: Any = None) -> Any:
    """Return the mean of one of the estimators of KL(old ‖ new).

    ::

        Σ_b w_b k_b

    Parameters
    ----------
    old_log_prob, new_log_prob : (B,) array
        Log-probabilities of the actions taken, nats.
    estimator : {"k1", "k2", "k3"}
        Which of `kl_estimators`.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Nats.

    Raises
    ------
    ValueError
        If a shape disagrees, the estimator is unknown, or the ratio overflows.

    References
    ----------
    [Blog-KL]

    Examples
    --------
    >>> float(approximate_kl([0.0, 0.0], [1.0, -1.0], estimator="k2"))
    0.5
    """
    choice("approximate_kl", "estimator", estimator, KLEstimates._fields)
    log_r = _log_ratio("approximate_kl", old_log_prob, new_log_prob)
    k = kl_estimate(log_r, estimator)
    return expectation(k, row_weights("approximate_kl", weights, k))
