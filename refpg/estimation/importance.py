"""An expectation under one distribution from samples of another: importance sampling of rows."""

from typing import Any

import numpy as np

from refpg.notation import bind_shapes, expectation, overflow_is_an_error, row_weights


@overflow_is_an_error
def importance_sampling_mean(log_ratio: Any, values: Any, *, weights: Any = None) -> Any:
    """Return the importance-sampling estimate of an expectation under p from samples of q.

    ::

        E_p[y] = E_q[(p/q) y] ≈ Σ_b w_b exp(ℓ_b) y_b,    ℓ = log p − log q

    Parameters
    ----------
    log_ratio : (B,) array
        ℓ of the samples, which were drawn from q.
    values : (B,) array
        y of the samples.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Unbiased, in the units of y.

    Raises
    ------
    ValueError
        If a shape disagrees, or the ratio overflows.

    Notes
    -----
    With every outcome as a row and q as weights it is E_p[y] exactly.

    References
    ----------
    [TRPO (14)]

    Examples
    --------
    >>> import numpy as np
    >>> float(importance_sampling_mean([np.log(2), -np.log(2)], [1.0, 2.0]))
    1.5
    """
    function = "importance_sampling_mean"
    log_r, y = bind_shapes(function, {}, log_ratio=(log_ratio, "B"), values=(values, "B"))
    rows = np.exp(log_r) * y
    return expectation(rows, row_weights(function, weights, rows))


@overflow_is_an_error
def self_normalized_mean(log_ratio: Any, values: Any, *, weights: Any = None) -> Any:
    """Return the self-normalised importance-sampling estimate of an expectation under p from samples of q.

    ::

        Σ_b w_b exp(ℓ_b) y_b / Σ_b w_b exp(ℓ_b)

    Parameters
    ----------
    log_ratio : (B,) array
        ℓ = log p − log q of the samples, up to a common constant.
    values : (B,) array
        y of the samples.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Between min y and max y; biased, but consistent, and blind to the normalisation of p and q.

    Raises
    ------
    ValueError
        If a shape disagrees.

    References
    ----------
    [TRPO (14)]

    Examples
    --------
    >>> float(self_normalized_mean([1000.0, 1000.0, 0.0], [1.0, 5.0, 7.0]))
    3.0
    """
    function = "self_normalized_mean"
    log_r, y = bind_shapes(function, {}, log_ratio=(log_ratio, "B"), values=(values, "B"))
    w = row_weights(function, weights, log_r + y)
    # The common factor exp(−max ℓ) cancels; the maximum is over the rows that count.
    r = np.exp(np.where(w > 0, log_r - log_r.real[w > 0].max(), -np.inf))
    return expectation(r * y, w) / expectation(r, w)


@overflow_is_an_error
def effective_sample_size(log_ratio: Any) -> Any:
    """Return the number of samples of p that the weighted samples of q are worth.

    ::

        (Σ_b exp ℓ_b)² / Σ_b exp(2ℓ_b)

    Parameters
    ----------
    log_ratio : (B,) array
        ℓ = log p − log q of the samples, up to a common constant.

    Returns
    -------
    scalar
        Between 1 (one sample has all the weight) and B (all weigh the same).

    Raises
    ------
    ValueError
        If the shape disagrees.

    Notes
    -----
    It is B / (1 + the squared coefficient of variation of the ratios).

    Examples
    --------
    >>> float(effective_sample_size([0.0, 0.0, 0.0, -800.0]))
    3.0
    """
    (log_r,) = bind_shapes("effective_sample_size", {}, log_ratio=(log_ratio, "B"))
    r = np.exp(log_r - log_r.real.max())
    return np.sum(r) ** 2 / np.sum(r**2)
