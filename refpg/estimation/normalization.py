"""Advantages of mean 0 and standard deviation 1, and how much of a variance is explained.

σ and variances are formed from deviations divided by the largest of them, so that no square overflows or underflows.
"""

from typing import Any

import numpy as np

from refpg.notation import (
    Array,
    bind_shapes,
    choice,
    count,
    expectation,
    overflow_is_an_error,
    row_weights,
    scalar,
)


@overflow_is_an_error
def normalize_advantages(
    advantages: Any, *, ddof: int = 0, epsilon: Any = 0.0, form: str = "added", weights: Any = None
) -> Array:
    """Shift advantages to mean 0 and divide them by their standard deviation.

    ::

        m = Σ w Â,    σ² = N/(N − ddof) Σ w (Â − m)²

        added       Â ← (Â − m) / (σ + ε)
        in_root     Â ← (Â − m) / √(σ² + ε)
        at_least    Â ← (Â − m) / max(σ, ε)

    Parameters
    ----------
    advantages : (B,) or (T, E) array
        Â; mean and σ are over all N entries.
    ddof : int
        0 (population) or 1 (Bessel); less than N, and 0 where weights are given.
    epsilon : float
        ε ≥ 0, in the units of σ, or of σ² where it is added to that.
    form : {"added", "in_root", "at_least"}
        How ε keeps the divisor away from 0.
    weights : array, optional
        Weights of the entries, of the shape of ``advantages``, Σ w = 1; 1/N each unless given.

    Returns
    -------
    array
        The shape given, dimensionless.

    Raises
    ------
    ValueError
        If the divisor is 0 (all entries equal and no ε), ddof ≥ N, ddof goes with weights, ε < 0, the form is
        unknown, or the weights are not normalised.

    Notes
    -----
    Convention: ddof, ε, its form and the set of rows (minibatch or batch) differ between libraries; the defaults
    are the population standard deviation and no ε.

    References
    ----------
    [GAE section 6]

    Examples
    --------
    >>> normalize_advantages([1.0, 3.0])
    array([-1.,  1.])
    """
    function = "normalize_advantages"
    shape = _rows_or_rollout(function, "advantages", advantages)
    (A,) = bind_shapes(function, {}, advantages=(advantages, shape))
    if ddof and weights is not None:
        raise ValueError(f"{function}: ddof is {ddof} with weights, expected 0: Bessel's correction counts equal rows")
    w = _weights_of_entries(function, weights, A)
    return standardized(function, "advantages", A, w, ddof=ddof, epsilon=epsilon, form=form)


def standardized(
    function: str, name: str, A: Array, w: Array, *, ddof: int, epsilon: Any, form: str
) -> Array:
    """Standardise an array that is bound already, as `normalize_advantages` says.

    Parameters
    ----------
    function, name : str
        The function that was called and what it calls the array, for the message.
    A, w : array
        The entries and their weights, of one shape.
    ddof, epsilon, form
        As in `normalize_advantages`.

    Returns
    -------
    array
        The shape given, dimensionless.

    Raises
    ------
    ValueError
        If the divisor is 0, ddof ≥ N, ε < 0, or the form is unknown.
    """
    ddof = count(function, "ddof", ddof, least=0)
    epsilon = scalar(function, "epsilon", epsilon, least=0)
    choice(function, "form", form, ("added", "in_root", "at_least"))
    if ddof >= A.size:
        raise ValueError(f"{function}: ddof is {ddof}, expected less than the number of {name}, {A.size}")
    c = centred(A, w)
    largest = np.abs(c.real).max()
    if largest == 0:
        if epsilon == 0:
            raise ValueError(f"{function}: {name} has standard deviation 0, expected entries that differ")
        return c
    # σ is formed from c/max|c|, whose squares neither overflow nor underflow; √ε beside it is one deviation more.
    unit = max(largest, largest.dtype.type(np.sqrt(epsilon))) if form == "in_root" else largest
    variance = expectation((c / unit) ** 2, w) * (A.size / (A.size - ddof))
    if form == "in_root":
        variance = variance + (np.sqrt(epsilon) / unit) ** 2
    sigma = unit * np.sqrt(variance)
    if form == "added":
        sigma = sigma + epsilon
    elif form == "at_least" and sigma.real < epsilon:
        sigma = largest.dtype.type(epsilon)
    normalized: Array = c / sigma
    return normalized


def _rows_or_rollout(function: str, name: str, value: Any) -> str:
    try:
        return "T E" if np.ndim(value) == 2 else "B"
    except ValueError:
        raise ValueError(f"{function}: {name} is ragged, expected rows of equal length") from None


def _weights_of_entries(function: str, weights: Any, y: Array) -> Array:
    if weights is None:
        return row_weights(function, None, y.ravel()).reshape(y.shape)
    if np.shape(weights) != y.shape:
        raise ValueError(f"{function}: weights has shape {np.shape(weights)}, expected {y.shape}, one for each entry")
    return row_weights(function, np.ravel(weights), y.ravel()).reshape(y.shape)


def centred(y: Array, w: Array) -> Array:
    """Return the deviations of entries from their mean.

    Parameters
    ----------
    y, w : array
        The entries and their weights, of one shape.

    Returns
    -------
    array
        y − Σ w y.
    """
    # Shifted by one entry first: exact 0 where all are equal, and no digits lost to a large common offset.
    shifted = y - y.flat[0]
    deviations: Array = shifted - expectation(shifted, w)
    return deviations


@overflow_is_an_error
def explained_variance(values: Any, targets: Any, *, weights: Any = None) -> Any:
    """Return the fraction of the variance of the targets that the values explain.

    ::

        1 − var(R − V) / var(R)

    Parameters
    ----------
    values : (B,) or (T, E) array
        V, return units.
    targets : (B,) or (T, E) array
        R, return units.
    weights : array, optional
        Weights of the entries, of the shape of ``values``, Σ w = 1; 1/N each unless given.

    Returns
    -------
    scalar
        At most 1, dimensionless: 1 if V = R + constant, 0 if V is constant, negative if V is worse than that.

    Raises
    ------
    ValueError
        If a shape disagrees, the targets are all equal, or the weights are not normalised.

    Notes
    -----
    Convention: the denominator is the variance of the targets, not of the values; ddof cancels.  A constant
    offset of the values is forgiven, unlike in the coefficient of determination.

    References
    ----------
    [GAE section 5]

    Examples
    --------
    >>> float(explained_variance([0.5, 1.0], [1.0, 2.0]))
    0.75
    """
    function = "explained_variance"
    shape = _rows_or_rollout(function, "values", values)
    V, R = bind_shapes(function, {}, values=(values, shape), targets=(targets, shape))
    w = _weights_of_entries(function, weights, R)
    total, residual = centred(R, w), centred(R - V, w)
    largest = np.abs(total.real).max()
    if largest == 0:
        raise ValueError(f"{function}: targets has variance 0, expected entries that differ")
    return 1 - expectation((residual / largest) ** 2, w) / expectation((total / largest) ** 2, w)
