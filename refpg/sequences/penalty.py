"""A term that keeps a policy near a reference, made of the log-probabilities of the tokens it drew.

::

    d = log π_θ − log π_ref        k1 = d        k2 = d²/2        k3 = exp(−d) − 1 + d

All three estimate KL(π_θ ‖ π_ref) from tokens of π_θ, k2 with a bias of third order.  Differentiated with the tokens
held fixed they become estimates of three different things: nothing, ∇KL(π_θ ‖ π_ref) and ∇KL(π_ref ‖ π_θ).
"""

from typing import Any

import numpy as np

from refpg.estimation.divergence import KLEstimates, kl_estimate
from refpg.notation import Array, choice, overflow_is_an_error
from refpg.sequences.aggregation import aggregate, token_weights
from refpg.sequences.tokens import bind_tokens, padded


def penalty_rows(function: str, d: Array, estimator: str) -> tuple[Array, Array]:
    """Return the estimate of each token that counts, and its slope in d.

    Parameters
    ----------
    function : str
        The function that was called, for the message.
    d : array of rows
        log π_θ − log π_ref, nats.
    estimator : {"k1", "k2", "k3"}
        Which one.

    Returns
    -------
    terms, slopes : array of rows
        Nats and dimensionless, without weights.

    Raises
    ------
    ValueError
        If the estimator is unknown.
    """
    choice(function, "estimator", estimator, KLEstimates._fields)
    return kl_estimate(-d, estimator), _slope(d, estimator)


def _slope(d: Array, estimator: str) -> Array:
    if estimator == "k1":
        return np.ones_like(d)
    return d if estimator == "k2" else -np.expm1(-d)


@overflow_is_an_error
def token_kl_penalty(
    log_prob: Any,
    reference_log_prob: Any,
    mask: Any,
    *,
    estimator: str = "k3",
    aggregation: str = "token_mean",
    constant: Any = None,
) -> Any:
    """Return an estimate of KL(π_θ ‖ π_ref) from the tokens that count.

    ::

        Σ_it w_it k(d_it),    d = log π_θ − log π_ref

        k1 = d        k2 = d²/2        k3 = exp(−d) − 1 + d

    Parameters
    ----------
    log_prob, reference_log_prob : (N, T) array
        Log-probabilities of the tokens under the policy that drew them and under the reference, nats.
    mask : (N, T) array of bool
        Which tokens count, one at least in each sequence.
    estimator : {"k1", "k2", "k3"}
        k.
    aggregation, constant
        The weights w, as in `masked_aggregate`.

    Returns
    -------
    scalar
        Nats, of a token where the weights sum to 1; k2 and k3 are never negative, k1 can be.

    Raises
    ------
    ValueError
        If a shape disagrees, no token of a sequence counts, the estimator is unknown, exp(−d) overflows, or the
        aggregation is unknown or does not go with the constant.

    Notes
    -----
    Convention: the policy is first, KL(π_θ ‖ π_ref), as in `estimation.kl_estimators` with the policy as the old one.
    β is not included; the sign is that of a distance, to be subtracted from an objective.

    References
    ----------
    [Blog-KL], [GRPO]

    Examples
    --------
    >>> import numpy as np
    >>> float(token_kl_penalty([[np.log(2), 7.0]], [[0.0, 0.0]], [[True, False]], estimator="k1"))
    0.6931471805599453
    >>> float(token_kl_penalty([[-1e-9]], [[0.0]], [[True]]))
    5.000000001666667e-19
    """
    function = "token_kl_penalty"
    tokens, new, reference = bind_tokens(function, mask, log_prob=log_prob, reference_log_prob=reference_log_prob)
    terms, _ = penalty_rows(function, new - reference, estimator)
    return aggregate(terms, token_weights(function, tokens, terms, aggregation, constant))


@overflow_is_an_error
def token_kl_penalty_gradient(
    log_prob: Any,
    reference_log_prob: Any,
    mask: Any,
    *,
    estimator: str = "k3",
    aggregation: str = "token_mean",
    constant: Any = None,
) -> Array:
    """Return the gradient of `token_kl_penalty` with respect to the policy's log-probabilities.

    ::

        ∂/∂log π_it = w_it k'(d_it)        k1' = 1        k2' = d        k3' = 1 − exp(−d)

    Parameters
    ----------
    log_prob, reference_log_prob, mask, estimator, aggregation, constant
        As in `token_kl_penalty`.

    Returns
    -------
    (N, T) array
        Weights included; exactly 0 where the token does not count.

    Raises
    ------
    ValueError
        As `token_kl_penalty`.

    Notes
    -----
    This is the gradient of the number as it is written, the tokens held fixed: that the policy also decides which
    tokens are drawn is not in it.  With a token drawn from π_θ, the mean of k'(d) ∇log π_θ, given the tokens before
    it, is

        k1    0, whatever the reference
        k2    ∇KL(π_θ ‖ π_ref)
        k3    ∇KL(π_ref ‖ π_θ)

    So k1 belongs into the reward (`token_rewards`), where the score function supplies the gradient, and not into the
    objective; k2 is the one whose gradient is that of the divergence it estimates.

    References
    ----------
    [Blog-KL], [GRPO]

    Examples
    --------
    >>> import numpy as np
    >>> d, reference, mask = [[np.log(2), np.log(4)]], [[0.0, 0.0]], [[True, True]]
    >>> token_kl_penalty_gradient(d, reference, mask)
    array([[0.25 , 0.375]])
    """
    function = "token_kl_penalty_gradient"
    tokens, new, reference = bind_tokens(function, mask, log_prob=log_prob, reference_log_prob=reference_log_prob)
    _, slopes = penalty_rows(function, new - reference, estimator)
    return padded(tokens, token_weights(function, tokens, slopes, aggregation, constant) * slopes)
