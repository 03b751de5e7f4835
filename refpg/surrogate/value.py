"""The error of the value function, plain and clipped: minimised, unlike everything else here.

::

    L^VF = Σ_b w_b (V_b − R_b)²                                                      [PPO (9)]
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array, bind_shapes, choice, expectation, overflow_is_an_error, row_weights, scalar


class ValueTerms(NamedTuple):
    """The value loss and its slope: ``loss`` of `value_loss`, ``gradient`` (B,) of `value_loss_gradient`."""

    loss: Any
    gradient: Array


@overflow_is_an_error
def value_loss(values: Any, targets: Any, *, factor: Any = 1.0, error: str = "squared", weights: Any = None) -> Any:
    """Return the mean error of the values, to be minimised.

    ::

        L^VF = factor Σ_b w_b h(V_b − R_b)

        squared      h(e) = e²
        smooth_l1    h(e) = e²/2 if |e| < 1,  else |e| − 1/2

    Parameters
    ----------
    values : (B,) array
        V, the value function at the observations, return units.
    targets : (B,) array
        R = V^targ, return units.
    factor : float
        A number > 0: 1 in the paper, ½ in much code.
    error : {"squared", "smooth_l1"}
        The error of a row.  The smooth one has a scale, 1 return unit.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        L^VF ≥ 0, squared return units.

    Raises
    ------
    ValueError
        If a shape disagrees, the factor is not positive, or the error is unknown.

    References
    ----------
    [PPO (9)]

    Examples
    --------
    >>> float(value_loss([1.0, 2.0], [1.0, 4.0]))
    2.0
    """
    V, R, factor = _values("value_loss", values, targets, factor, error)
    rows = _error(V - R, error)
    return factor * expectation(rows, row_weights("value_loss", weights, rows))


@overflow_is_an_error
def value_loss_gradient(
    values: Any, targets: Any, *, factor: Any = 1.0, error: str = "squared", weights: Any = None
) -> Array:
    """Return the gradient of `value_loss` with respect to the values.

    ::

        squared      ∂L^VF/∂V_b = 2 factor w_b (V_b − R_b)
        smooth_l1    ∂L^VF/∂V_b = factor w_b clip(V_b − R_b, −1, 1)

    Parameters
    ----------
    values, targets, factor, error, weights
        As in `value_loss`.

    Returns
    -------
    (B,) array
        Weights included; an ascent direction of the loss.

    Raises
    ------
    ValueError
        As `value_loss`.

    References
    ----------
    [PPO (9)]
    """
    V, R, factor = _values("value_loss_gradient", values, targets, factor, error)
    gradient: Array = factor * row_weights("value_loss_gradient", weights, V - R) * _slope(V - R, error)
    return gradient


def value_terms(V: Array, R: Array, factor: float, error: str, w: Array) -> ValueTerms:
    """Return the value loss and its gradient, of arguments that a door has checked, from one error per row.

    Parameters
    ----------
    V, R : (B,) array
        Values and targets, return units.
    factor, error
        As in `value_loss`.
    w : (B,) array
        Weights of the rows.  Those of a part of a batch sum to less than 1, and the loss is the part's share.

    Returns
    -------
    ValueTerms
        With the bits of `value_loss` and `value_loss_gradient`; overflow is not looked for.

    References
    ----------
    [PPO (9)]

    Examples
    --------
    >>> import numpy as np
    >>> terms = value_terms(np.array([1.0, 2.0]), np.array([1.0, 4.0]), 0.5, "squared", np.array([0.5, 0.5]))
    >>> float(terms.loss), terms.gradient
    (1.0, array([ 0., -1.]))
    """
    e = V - R
    return ValueTerms(loss=factor * expectation(_error(e, error), w), gradient=factor * w * _slope(e, error))


def _values(function: str, values: Any, targets: Any, factor: Any, error: str) -> tuple[Array, Array, float]:
    V, R = bind_shapes(function, {}, values=(values, "B"), targets=(targets, "B"))
    choice(function, "error", error, ("squared", "smooth_l1"))
    return V, R, scalar(function, "factor", factor, above=0)


def _error(e: Array, error: str) -> Array:
    if error == "squared":
        return e**2
    inner = _slope(e, error)
    rows: Array = inner * (e - inner / 2)  # e²/2 where it is e, |e| − 1/2 where it is ±1
    return rows


def _slope(e: Array, error: str) -> Array:
    return 2 * e if error == "squared" else np.where(np.abs(e.real) < 1, e, np.sign(e.real))


@overflow_is_an_error
def clipped_value_loss(
    values: Any,
    old_values: Any,
    targets: Any,
    clip: Any,
    *,
    form: str = "maximum",
    factor: Any = 1.0,
    error: str = "squared",
    weights: Any = None,
) -> Any:
    """Return the mean error with the values kept near the old ones, or with the error kept small, to be minimised.

    ::

        V̄ = V_old + clip(V − V_old, −ε, ε),    h(e) as in `value_loss`

        maximum          factor Σ_b w_b max(h(V_b − R_b), h(V̄_b − R_b))
        clipped_only     factor Σ_b w_b h(V̄_b − R_b)
        clamped_error    factor Σ_b w_b min(h(V_b − R_b), ε)

    Parameters
    ----------
    values : (B,) array
        V, return units.
    old_values : (B,) array
        V_old, the values when the samples were drawn, return units.
    targets : (B,) array
        R, return units.
    clip : float
        ε > 0, return units: unlike that of the ratio it has a scale, and may exceed 1.  Squared return units where it
        bounds the error itself.
    form : {"maximum", "clipped_only", "clamped_error"}
        The larger of the two errors; that of V̄ alone; or that of V up to ε, whatever V_old is.
    factor : float
        A number > 0.
    error : {"squared", "smooth_l1"}
        The error of a row.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Squared return units.  "maximum" is at least `value_loss`, and at least "clipped_only"; "clamped_error" is at
        most `value_loss`.

    Raises
    ------
    ValueError
        If a shape disagrees, ε or the factor is not positive, or the form or the error is unknown.

    Notes
    -----
    Convention: the paper has no value clipping; all forms come from code.  The maximum is that of the
    *squared* errors.

    References
    ----------
    [PPO (9)]

    Examples
    --------
    V moved by 2 towards the target; only 1 of it counts.

    >>> float(clipped_value_loss([2.0], [0.0], [2.0], 1.0))
    1.0
    """
    function = "clipped_value_loss"
    V, clipped, R, factor = _clipped_values(function, values, old_values, targets, clip, form, factor, error)
    if form == "clamped_error":
        rows = _error(V - R, error)
        rows = np.where(rows.real > clip, np.asarray(clip, rows.dtype), rows)
    else:
        takes_clipped = _larger(clipped - R, V - R) | (form == "clipped_only")
        rows = _error(np.where(takes_clipped, clipped - R, V - R), error)
    return factor * expectation(rows, row_weights(function, weights, rows))


@overflow_is_an_error
def clipped_value_loss_gradient(
    values: Any,
    old_values: Any,
    targets: Any,
    clip: Any,
    *,
    form: str = "maximum",
    factor: Any = 1.0,
    error: str = "squared",
    weights: Any = None,
) -> Array:
    """Return the gradient of `clipped_value_loss` with respect to the values.

    ::

        maximum          0 if |V̄_b − R_b| > |V_b − R_b|,  else factor w_b h'(V_b − R_b)
        clipped_only     0 if |V_b − V_old,b| > ε,         else factor w_b h'(V_b − R_b)
        clamped_error    0 if h(V_b − R_b) > ε,            else factor w_b h'(V_b − R_b)

    Parameters
    ----------
    values, old_values, targets, clip, form, factor, error, weights
        As in `clipped_value_loss`.

    Returns
    -------
    (B,) array
        Weights included.

    Raises
    ------
    ValueError
        As `clipped_value_loss`.

    Notes
    -----
    Convention: at a kink, |V − V_old| = ε, two equal errors or an error of ε, the gradient is that of the error as
    it is.
    """
    function = "clipped_value_loss_gradient"
    V, clipped, R, factor = _clipped_values(function, values, old_values, targets, clip, form, factor, error)
    if form == "clamped_error":
        constant = _error(V - R, error).real > clip
    else:
        constant = clipped != V if form == "clipped_only" else _larger(clipped - R, V - R)
    gradient: Array = factor * row_weights(function, weights, V - R) * np.where(constant, 0, _slope(V - R, error))
    return gradient


def _clipped_values(
    function: str, values: Any, old_values: Any, targets: Any, clip: Any, form: str, factor: Any, error: str
) -> tuple[Array, Array, Array, float]:
    V, V_old, R = bind_shapes(function, {}, values=(values, "B"), old_values=(old_values, "B"), targets=(targets, "B"))
    clip = scalar(function, "clip", clip, above=0)
    choice(function, "form", form, ("maximum", "clipped_only", "clamped_error"))
    choice(function, "error", error, ("squared", "smooth_l1"))
    move = (V - V_old).real
    # Inside the window V̄ is V itself: V_old + (V − V_old) would differ from it by rounding.
    clipped = np.where(move > clip, V_old + clip, np.where(move < -clip, V_old - clip, V))
    return V, clipped, R, scalar(function, "factor", factor, above=0)


def _larger(a: Array, b: Array) -> Array:
    # Of two errors, not of their squares, which underflow to a false tie.
    larger: Array = np.abs(a.real) > np.abs(b.real)
    return larger
