"""The clipped objective, its variants with two ends and with a floor, and the fraction of rows that are clipped.

::

    L^CLIP = Σ_b w_b min(r_b A_b, clip(r_b, 1 − ε, 1 + ε) A_b)                       [PPO (7)]

The window around r = 1 is compared in one place and through the log-ratio: r > 1 + ε is ℓ > log1p(ε), and
r < 1 − ε is ℓ < log1p(−ε).  So value, gradient, subgradient and clip fraction always agree about a row.

The functions of samples are the specification, and the doors; `clipped_terms` is three of them from one window.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array, choice, expectation, overflow_is_an_error, row_weights, scalar
from refpg.surrogate.sampled import bind_samples


class Subgradient(NamedTuple):
    """The interval of slopes of an objective in each row; one point wherever it is differentiable.

    Fields: ``lowest`` (B,) and ``highest`` (B,), weights included.
    """

    lowest: Array
    highest: Array


class ClippedTerms(NamedTuple):
    """The clipped objective and what is asked beside it.

    Fields: ``objective`` of `clipped_objective`; ``gradient`` (B,) of `clipped_objective_gradient`; ``fraction`` of
    `clip_fraction`, by the rule "outside".
    """

    objective: Any
    gradient: Array
    fraction: Any


class RatioWindow(NamedTuple):
    """Where ratios stand with respect to the window.

    Fields: ``lower`` and ``upper``, its ends, with ``log_lower`` and ``log_upper``; ``below`` and ``above`` it, (B,)
    flags; ``bites`` if the clipped term is strictly the smaller.
    """

    lower: float
    upper: float
    log_lower: Any
    log_upper: Any
    below: Array
    above: Array
    bites: Array


def ratio_window(function: str, log_r: Array, A: Array, clip: Any, clip_high: Any) -> RatioWindow:
    """Compare ratios with the window, through their logarithms.

    Parameters
    ----------
    function : str
        The function that was called, for the message.
    log_r, A : (B,) array
        ℓ, nats, and the advantages, whose sign says which end of the window bites.
    clip : float
        ε in (0, 1).
    clip_high : float or None
        ε of the upper end, > 0; that of the lower end if None.

    Returns
    -------
    RatioWindow

    Raises
    ------
    ValueError
        If an ε is out of range.
    """
    clip = scalar(function, "clip", clip, above=0, below=1)
    clip_high = clip if clip_high is None else scalar(function, "clip_high", clip_high, above=0)
    log_lower, log_upper = _log1p(-clip, log_r), _log1p(clip_high, log_r)
    below = log_r.real < log_lower
    above = log_r.real > log_upper
    return RatioWindow(
        lower=1 - clip,
        upper=1 + clip_high,
        log_lower=log_lower,
        log_upper=log_upper,
        below=below,
        above=above,
        bites=((A.real > 0) & above) | ((A.real < 0) & below),
    )


def _log1p(end: float, log_r: Array) -> Any:
    # In float64 at least: 1 − ε may round to 0 in float32.
    dtype = log_r.real.dtype
    return dtype.type(np.log1p(np.result_type(dtype, np.float64).type(end)))


def effective_ratio(r: Array, A: Array, window: RatioWindow) -> Array:
    """Return r̄, with min(rA, clip(r)A) = r̄A.

    Parameters
    ----------
    r, A : (B,) array
        Ratios and advantages.
    window : RatioWindow
        Where they stand.

    Returns
    -------
    (B,) array
        r, or the end of the window where the clip bites.
    """
    # Choosing r̄ first keeps an r·A that is thrown away from overflowing.
    end = np.where(A.real > 0, r.dtype.type(window.upper), r.dtype.type(window.lower))
    return np.where(window.bites, end, r)


def clipped_slope(r: Array, A: Array, window: RatioWindow) -> Array:
    """Return the derivative of min(rA, clip(r)A) with respect to log r.

    Parameters
    ----------
    r, A : (B,) array
        Ratios and advantages.
    window : RatioWindow
        Where they stand.

    Returns
    -------
    (B,) array
        rA, or 0 where the clip bites.
    """
    slope: Array = np.where(window.bites, 0, r) * A
    return slope


def clipped_terms(function: str, log_r: Array, r: Array, A: Array, clip: Any, w: Array) -> ClippedTerms:
    """Return the clipped objective, its gradient and the clip fraction of arrays that are bound already.

    One ratio and one window serve all three, with the bits of `clipped_objective`, `clipped_objective_gradient` and
    `clip_fraction`.

    Parameters
    ----------
    function : str
        The function that was called, for the message.
    log_r, r, A : (B,) array
        ℓ, nats, r = exp(ℓ) and A, as from `refpg.surrogate.sampled.log_ratio_and_ratio`.
    clip : float
        ε in (0, 1).
    w : (B,) array
        Weights of the rows.  Those of a part of a batch sum to less than 1, and the terms are the part's shares.

    Returns
    -------
    ClippedTerms
        Overflow is not looked for.

    Raises
    ------
    ValueError
        If ε lies outside (0, 1).

    References
    ----------
    [PPO (7)]

    Examples
    --------
    >>> import numpy as np
    >>> r = np.array([2.0, 1.0])
    >>> terms = clipped_terms("f", np.log(r), r, np.array([1.0, 3.0]), 0.5, np.array([0.5, 0.5]))
    >>> float(terms.objective), terms.gradient, float(terms.fraction)
    (2.25, array([0. , 1.5]), 0.5)
    """
    window = ratio_window(function, log_r, A, clip, None)
    return ClippedTerms(
        objective=expectation(effective_ratio(r, A, window) * A, w),
        gradient=w * clipped_slope(r, A, window),
        fraction=expectation(window.below | window.above, w),
    )


@overflow_is_an_error
def clipped_objective(
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    clip: Any,
    *,
    clip_high: Any = None,
    weights: Any = None,
) -> Any:
    """Return PPO's clipped objective, to be maximised.

    ::

        L^CLIP = Σ_b w_b min(r_b A_b, clip(r_b, 1 − ε, 1 + ε) A_b)

               = Σ_b w_b r̄_b A_b,    r̄ = min(r, 1 + ε) if A > 0,  max(r, 1 − ε) if A < 0

    The clip bites on one side only: where it takes the reward away from moving further, never where the
    unclipped term is already the smaller one.  L^CLIP ≤ L, with equality near r = 1.

    Parameters
    ----------
    old_log_prob, new_log_prob : (B,) array
        Log-probabilities of the actions taken, nats.
    advantages : (B,) array
        A, return units.
    clip : float
        ε in (0, 1); 0.2 in the paper.
    clip_high : float, optional
        ε of the upper end, any number > 0, if it is not that of the lower end.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        L^CLIP, return units.

    Raises
    ------
    ValueError
        If a shape disagrees, ε lies outside (0, 1), or the ratio overflows.

    Notes
    -----
    Convention: an asymmetric window is [1 − clip, 1 + clip_high].

    References
    ----------
    [PPO (7)], [DAPO]

    Examples
    --------
    Ratio 2, ε = ½: the gain is clipped to 1.5, the loss is not clipped.

    >>> import numpy as np
    >>> float(clipped_objective([0.0], [np.log(2)], [1.0], 0.5))
    1.5
    >>> float(clipped_objective([0.0], [np.log(2)], [-1.0], 0.5))
    -2.0
    """
    log_r, r, A = bind_samples("clipped_objective", old_log_prob, new_log_prob, advantages)
    window = ratio_window("clipped_objective", log_r, A, clip, clip_high)
    rows = effective_ratio(r, A, window) * A
    return expectation(rows, row_weights("clipped_objective", weights, rows))


@overflow_is_an_error
def clipped_objective_gradient(
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    clip: Any,
    *,
    clip_high: Any = None,
    weights: Any = None,
) -> Array:
    """Return the gradient of `clipped_objective` with respect to the new log-probabilities.

    ::

        ∂L^CLIP/∂log π_θ(a_b|s_b) = 0            if A_b > 0 and r_b > 1 + ε, or A_b < 0 and r_b < 1 − ε
                                  = w_b r_b A_b  otherwise

    Parameters
    ----------
    old_log_prob, new_log_prob, advantages, clip, clip_high, weights
        As in `clipped_objective`.

    Returns
    -------
    (B,) array
        Weights included.

    Raises
    ------
    ValueError
        As `clipped_objective`.

    Notes
    -----
    Convention: where both terms of the min are equal the gradient is that of the unclipped term r·A: at
    r = 1 ± ε exactly, and wherever the clip does not bite.  At the kinks any number between 0 and w r A is a
    supergradient (`clipped_objective_subgradient`).  Exactly means ℓ = log1p(±ε), rounded to the type of ℓ.

    References
    ----------
    [PPO (7)]

    Examples
    --------
    >>> import numpy as np
    >>> clipped_objective_gradient([0.0, 0.0], [np.log(2), np.log(2)], [1.0, -1.0], 0.5)
    array([ 0., -1.])
    """
    log_r, r, A = bind_samples("clipped_objective_gradient", old_log_prob, new_log_prob, advantages)
    window = ratio_window("clipped_objective_gradient", log_r, A, clip, clip_high)
    rows = clipped_slope(r, A, window)
    gradient: Array = row_weights("clipped_objective_gradient", weights, rows) * rows
    return gradient


@overflow_is_an_error
def clipped_objective_subgradient(
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    clip: Any,
    *,
    clip_high: Any = None,
    weights: Any = None,
) -> Subgradient:
    """Return the interval of slopes of `clipped_objective` in each new log-probability.

    ::

        at the kink (A > 0 and r = 1 + ε, or A < 0 and r = 1 − ε):   between 0 and w_b r_b A_b
        elsewhere:                                                   the gradient alone

    As a function of ℓ the slope falls at a kink, from rA to 0 for A > 0 and from 0 to rA for A < 0.  The
    interval holds the two one-sided slopes and all between: Clarke's generalised gradient.

    Parameters
    ----------
    old_log_prob, new_log_prob, advantages, clip, clip_high, weights
        As in `clipped_objective`.

    Returns
    -------
    Subgradient
        ``lowest`` and ``highest``, (B,) each, weights included.

    Raises
    ------
    ValueError
        As `clipped_objective`.

    References
    ----------
    [PPO (7)]

    Examples
    --------
    >>> import numpy as np
    >>> interval = clipped_objective_subgradient([0.0], [np.log1p(0.5)], [2.0], 0.5)
    >>> interval.lowest, interval.highest
    (array([0.]), array([3.]))
    """
    log_r, r, A = bind_samples("clipped_objective_subgradient", old_log_prob, new_log_prob, advantages)
    window = ratio_window("clipped_objective_subgradient", log_r, A, clip, clip_high)
    rows = clipped_slope(r, A, window)
    slope = row_weights("clipped_objective_subgradient", weights, rows) * rows
    return Subgradient(
        lowest=np.where((A.real > 0) & (log_r.real == window.log_upper), 0, slope),
        highest=np.where((A.real < 0) & (log_r.real == window.log_lower), 0, slope),
    )


@overflow_is_an_error
def dual_clipped_objective(
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    clip: Any,
    *,
    floor: Any,
    clip_high: Any = None,
    weights: Any = None,
) -> Any:
    """Return the dual-clipped objective, which bounds the loss of a row with negative advantage.

    ::

        Σ_b w_b max(min(r_b A_b, clip(r_b, 1 − ε, 1 + ε) A_b), c A_b)   for A_b < 0
        Σ_b w_b     min(r_b A_b, clip(r_b, 1 − ε, 1 + ε) A_b)           for A_b ≥ 0

    Parameters
    ----------
    old_log_prob, new_log_prob, advantages, clip
        As in `clipped_objective`.
    floor : float
        c > 1: a row with A < 0 is worth at least c·A, whatever its ratio.
    clip_high, weights
        As in `clipped_objective`.

    Returns
    -------
    scalar
        Return units; at least `clipped_objective`.

    Raises
    ------
    ValueError
        As `clipped_objective`, or if c ≤ 1.

    Notes
    -----
    Convention: rows with A ≥ 0 are left alone; a max over all rows would give them c·A.

    References
    ----------
    [Dual-clip], [PPO (7)]

    Examples
    --------
    >>> import numpy as np
    >>> float(dual_clipped_objective([0.0], [np.log(8)], [-1.0], 0.5, floor=3))
    -3.0
    """
    log_r, r, A = bind_samples("dual_clipped_objective", old_log_prob, new_log_prob, advantages)
    window = ratio_window("dual_clipped_objective", log_r, A, clip, clip_high)
    c = scalar("dual_clipped_objective", "floor", floor, above=1)
    rows = np.where(_floored(log_r, A, c), c, effective_ratio(r, A, window)) * A
    return expectation(rows, row_weights("dual_clipped_objective", weights, rows))


@overflow_is_an_error
def dual_clipped_objective_gradient(
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    clip: Any,
    *,
    floor: Any,
    clip_high: Any = None,
    weights: Any = None,
) -> Array:
    """Return the gradient of `dual_clipped_objective` with respect to the new log-probabilities.

    ::

        0                                        if A_b < 0 and r_b > c
        the gradient of the clipped objective    otherwise

    Parameters
    ----------
    old_log_prob, new_log_prob, advantages, clip, floor, clip_high, weights
        As in `dual_clipped_objective`.

    Returns
    -------
    (B,) array
        Weights included.

    Raises
    ------
    ValueError
        As `dual_clipped_objective`.

    Notes
    -----
    Convention: at r = c, as at r = 1 ± ε, the gradient is that of r·A.
    """
    log_r, r, A = bind_samples("dual_clipped_objective_gradient", old_log_prob, new_log_prob, advantages)
    window = ratio_window("dual_clipped_objective_gradient", log_r, A, clip, clip_high)
    c = scalar("dual_clipped_objective_gradient", "floor", floor, above=1)
    rows = np.where(window.bites | _floored(log_r, A, c), 0, r) * A
    gradient: Array = row_weights("dual_clipped_objective_gradient", weights, rows) * rows
    return gradient


def _floored(log_r: Array, A: Array, c: float) -> Array:
    floored: Array = (A.real < 0) & (log_r.real > _log1p(c - 1, log_r))
    return floored


@overflow_is_an_error
def clip_fraction(
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    clip: Any,
    *,
    clip_high: Any = None,
    rule: str = "outside",
    weights: Any = None,
) -> Any:
    """Return the fraction of rows that are clipped.

    ::

        outside    Σ_b w_b 1[r_b < 1 − ε or r_b > 1 + ε]
        active     Σ_b w_b 1[clip(r_b, 1 − ε, 1 + ε) A_b < r_b A_b]

    Parameters
    ----------
    old_log_prob, new_log_prob, advantages, clip, clip_high
        As in `clipped_objective`.
    rule : {"outside", "active"}
        Count the ratios outside the window, or only the rows whose gradient the clip removes.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        In [0, 1]; "active" never exceeds "outside".

    Raises
    ------
    ValueError
        As `clipped_objective`, or if the rule is unknown.

    Notes
    -----
    Convention: both rules are in use under this name; a ratio at the end of the window counts for neither.

    References
    ----------
    [PPO section 3]

    Examples
    --------
    >>> import numpy as np
    >>> samples = [0.0, 0.0], [np.log(2), np.log(2)], [1.0, -1.0], 0.5
    >>> float(clip_fraction(*samples)), float(clip_fraction(*samples, rule="active"))
    (1.0, 0.5)
    """
    choice("clip_fraction", "rule", rule, ("outside", "active"))
    log_r, _, A = bind_samples("clip_fraction", old_log_prob, new_log_prob, advantages)
    window = ratio_window("clip_fraction", log_r, A, clip, clip_high)
    counted = window.bites if rule == "active" else window.below | window.above
    return expectation(counted, row_weights("clip_fraction", weights, log_r))
