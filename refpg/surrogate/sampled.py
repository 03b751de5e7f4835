"""The probability ratio of each row, and the surrogate it weighs.

::

    r = exp(ℓ),   ℓ = log π_θ(a|s) − log π_old(a|s)                                  [PPO (6)]
    L = Σ_b w_b r_b A_b                                                              [TRPO (14)]

Nothing is repaired: a ratio too large for its floating-point type is a ValueError, not an infinity.
"""

from typing import Any

import numpy as np

from refpg.notation import (
    Array,
    Unrepresentable,
    all_finite,
    bind_shapes,
    expectation,
    overflow_is_an_error,
    row_weights,
)


@overflow_is_an_error
def ratio(old_log_prob: Any, new_log_prob: Any) -> Array:
    """Return the probability ratio of the new policy to the old one, one per row.

    ::

        r_b = exp(log π_θ(a_b|s_b) − log π_old(a_b|s_b))

    Parameters
    ----------
    old_log_prob, new_log_prob : (B,) array
        Log-probabilities (or log-densities) of the actions taken, nats.

    Returns
    -------
    (B,) array
        r > 0, dimensionless; 1 where the two policies agree.

    Raises
    ------
    ValueError
        If a shape disagrees, or the ratio overflows the floating-point type.

    References
    ----------
    [PPO (6)]

    Examples
    --------
    >>> import numpy as np
    >>> ratio([0.0, 0.0], [0.0, -np.log(2)])
    array([1. , 0.5])
    """
    old, new = bind_shapes("ratio", {}, old_log_prob=(old_log_prob, "B"), new_log_prob=(new_log_prob, "B"))
    _, r = log_ratio_and_ratio("ratio", old, new)
    return r


def log_ratio_and_ratio(function: str, old: Array, new: Array, *, first: int = 0) -> tuple[Array, Array]:
    """Return ℓ and r = exp(ℓ) of arrays that are bound already.

    Parameters
    ----------
    function : str
        The function that was called, for the message.
    old, new : (B,) array
        log π_old(a|s) and log π_θ(a|s), nats.
    first : int
        The place of the first of these rows in the batch, for the message.

    Returns
    -------
    log_ratio, ratio : (B,) array
        ℓ = new − old, nats, and r.

    Raises
    ------
    ValueError
        If ℓ or r overflows its floating-point type; the message names the first such row.
    """
    with np.errstate(over="ignore"):
        log_r = new - old
        r = np.exp(log_r)
    if not (all_finite(log_r) and all_finite(r)):
        row = int(np.argmax(~(np.isfinite(log_r) & np.isfinite(r))))
        raise Unrepresentable(
            f"{function}: new_log_prob - old_log_prob is {log_r[row]} in row {first + row} "
            f"(new_log_prob {new[row]}, old_log_prob {old[row]}), expected a difference whose exponential, "
            f"the ratio, does not overflow {r.dtype}"
        )
    return log_r, r


@overflow_is_an_error
def sampled_surrogate(old_log_prob: Any, new_log_prob: Any, advantages: Any, *, weights: Any = None) -> Any:
    """Return the importance-sampled surrogate objective L, to be maximised.

    ::

        L = Σ_b w_b r_b A_b

    Parameters
    ----------
    old_log_prob, new_log_prob : (B,) array
        Log-probabilities of the actions taken, nats; the actions were drawn with the old policy.
    advantages : (B,) array
        A, return units.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        L, return units.  At r = 1 it is the mean advantage.

    Raises
    ------
    ValueError
        If a shape disagrees, or the ratio overflows.

    Notes
    -----
    Convention: neither η(π_old) of [TRPO (3)] nor the factor 1/(1 − γ) of [TRPO (13)] is part of L.

    References
    ----------
    [TRPO (14)], [PPO (6)]

    Examples
    --------
    >>> import numpy as np
    >>> float(sampled_surrogate([0.0, 0.0], [np.log(2), 0.0], [1.0, -1.0]))
    0.5
    """
    _, r, A = bind_samples("sampled_surrogate", old_log_prob, new_log_prob, advantages)
    return expectation(r * A, row_weights("sampled_surrogate", weights, r * A))


@overflow_is_an_error
def sampled_surrogate_gradient(old_log_prob: Any, new_log_prob: Any, advantages: Any, *, weights: Any = None) -> Array:
    """Return the gradient of `sampled_surrogate` with respect to the new log-probabilities.

    ::

        ∂L/∂log π_θ(a_b|s_b) = w_b r_b A_b

    Parameters
    ----------
    old_log_prob, new_log_prob, advantages, weights
        As in `sampled_surrogate`.

    Returns
    -------
    (B,) array
        Weights included; its sum is L itself.

    References
    ----------
    [TRPO (14)]
    """
    _, r, A = bind_samples("sampled_surrogate_gradient", old_log_prob, new_log_prob, advantages)
    gradient: Array = row_weights("sampled_surrogate_gradient", weights, r * A) * (r * A)
    return gradient


@overflow_is_an_error
def surrogate_improvement(log_ratio: Any, advantages: Any, *, weights: Any = None) -> Any:
    """Return the change of the surrogate from the old policy, without cancellation.

    ::

        L(θ) − L(θ_old) = Σ_b w_b A_b (r_b − 1) = Σ_b w_b A_b expm1(ℓ_b)

    The difference of two values of `sampled_surrogate` loses all digits as θ → θ_old; this form loses none,
    provided ℓ itself is accurate (`distributions.log_ratio`).

    Parameters
    ----------
    log_ratio : (B,) array
        ℓ = log π_θ − log π_old of the actions taken, nats.
    advantages : (B,) array
        A, return units.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Return units; positive if the new policy is better by this estimate.

    Raises
    ------
    ValueError
        If a shape disagrees, or the ratio overflows.

    References
    ----------
    [TRPO (14)]

    Examples
    --------
    >>> float(surrogate_improvement([1e-20], [1.0]))
    1e-20
    """
    function = "surrogate_improvement"
    log_r, A = bind_shapes(function, {}, log_ratio=(log_ratio, "B"), advantages=(advantages, "B"))
    rows = A * np.expm1(log_r)
    return expectation(rows, row_weights(function, weights, rows))


def bind_samples(function: str, old: Any, new: Any, advantages: Any) -> tuple[Array, Array, Array]:
    """Bind the three arrays every objective of samples is made from.

    Parameters
    ----------
    function : str
        The function that was called, for the message.
    old, new, advantages : (B,) array
        log π_old(a|s) and log π_θ(a|s), nats, and A, return units.

    Returns
    -------
    log_ratio, ratio, advantages : (B,) array
        ℓ, nats, r and A.

    Raises
    ------
    ValueError
        If a shape disagrees or the ratio overflows.
    """
    old, new, A = bind_shapes(
        function, {}, old_log_prob=(old, "B"), new_log_prob=(new, "B"), advantages=(advantages, "B")
    )
    return *log_ratio_and_ratio(function, old, new), A
