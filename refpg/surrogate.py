"""Objectives of a policy update, computed from log-probabilities, each beside its gradient.

Everything here is a function of one number per row: the log-ratio ℓ = log π_θ(a|s) − log π_old(a|s) ::

    r = exp(ℓ)                                               ratio                   [PPO (6)]
    L = Σ_b w_b r_b A_b                                      sampled surrogate       [TRPO (14)]
    L^CLIP = Σ_b w_b min(r_b A_b, clip(r_b, 1 − ε, 1 + ε) A_b)                       [PPO (7)]
    L^KLPEN = Σ_b w_b (r_b A_b − β KL_b)                                             [PPO (8)]
    L^VF = Σ_b w_b (V_b − R_b)²,   S = Σ_b w_b entropy(φ_b)                          [PPO (9)]

Objectives are maximised, the value loss is minimised.  Rows are samples drawn with the old policy and weigh
1/B, unless ``weights`` are given: with every (state, action) as a row and visitation times π_old as weights,
each mean is an exact expectation.  Gradients are with respect to one number per row and include the weights;
multiplied by ∂log π_θ/∂θ and summed over rows they are gradients in θ.

The window around r = 1 is compared in one place and through the log-ratio: r > 1 + ε is ℓ > log1p(ε), and
r < 1 − ε is ℓ < log1p(−ε).  So value, gradient, subgradient and clip fraction always agree about a row.
Nothing is repaired: a ratio too large for its floating-point type is a ValueError, not an infinity.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from refpg.distributions import Family
from refpg.notation import (
    Array,
    Unrepresentable,
    bind_shapes,
    choice,
    count,
    expectation,
    overflow_is_an_error,
    row_weights,
    scalar,
)

# ── ratio ─────────────────────────────────────────────────────────────────────────────────────────


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
    _, r = _log_ratio_and_ratio("ratio", old, new)
    return r


def _log_ratio_and_ratio(function: str, old: Array, new: Array) -> tuple[Array, Array]:
    with np.errstate(over="ignore"):
        log_r = new - old
        r = np.exp(log_r)
    if not (np.isfinite(log_r).all() and np.isfinite(r).all()):
        row = int(np.argmax(~(np.isfinite(log_r) & np.isfinite(r))))
        raise Unrepresentable(
            f"{function}: new_log_prob - old_log_prob is {log_r[row]} in row {row} "
            f"(new_log_prob {new[row]}, old_log_prob {old[row]}), expected a difference whose exponential, "
            f"the ratio, does not overflow {r.dtype}"
        )
    return log_r, r


# ── surrogate ─────────────────────────────────────────────────────────────────────────────────────


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
    _, r, A = _samples("sampled_surrogate", old_log_prob, new_log_prob, advantages)
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
    _, r, A = _samples("sampled_surrogate_gradient", old_log_prob, new_log_prob, advantages)
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


def _samples(function: str, old: Any, new: Any, advantages: Any) -> tuple[Array, Array, Array]:
    old, new, A = bind_shapes(
        function, {}, old_log_prob=(old, "B"), new_log_prob=(new, "B"), advantages=(advantages, "B")
    )
    return *_log_ratio_and_ratio(function, old, new), A


# ── clipped objective ─────────────────────────────────────────────────────────────────────────────


class Subgradient(NamedTuple):
    """The interval of slopes of an objective in each row; one point wherever it is differentiable.

    Fields: ``lowest`` (B,) and ``highest`` (B,), weights included.
    """

    lowest: Array
    highest: Array


class _Window(NamedTuple):
    """Where ratios stand: ``bites`` if the clipped term is strictly the smaller, ``at_kink`` at its onset."""

    lower: float
    upper: float
    below: Array
    above: Array
    bites: Array
    at_kink: Array


def _window(function: str, log_r: Array, A: Array, clip: Any, clip_high: Any) -> _Window:
    clip = scalar(function, "clip", clip, above=0, below=1)
    clip_high = clip if clip_high is None else scalar(function, "clip_high", clip_high, above=0)
    log_lower, log_upper = _log1p(-clip, log_r), _log1p(clip_high, log_r)
    below = log_r.real < log_lower
    above = log_r.real > log_upper
    positive, negative = A.real > 0, A.real < 0
    return _Window(
        lower=1 - clip,
        upper=1 + clip_high,
        below=below,
        above=above,
        bites=(positive & above) | (negative & below),
        at_kink=(positive & (log_r.real == log_upper)) | (negative & (log_r.real == log_lower)),
    )


def _log1p(end: float, log_r: Array) -> Any:
    # In float64 at least: 1 − ε may round to 0 in float32.
    dtype = log_r.real.dtype
    return np.log1p(np.asarray(end, np.result_type(dtype, np.float64))).astype(dtype)


def _effective_ratio(r: Array, A: Array, window: _Window) -> Array:
    # min(rA, clip(r)A) = r̄A.  Choosing r̄ first keeps an r·A that is thrown away from overflowing.
    return np.where(window.bites, np.where(A.real > 0, window.upper, window.lower).astype(r.dtype), r)


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
    log_r, r, A = _samples("clipped_objective", old_log_prob, new_log_prob, advantages)
    window = _window("clipped_objective", log_r, A, clip, clip_high)
    rows = _effective_ratio(r, A, window) * A
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
    log_r, r, A = _samples("clipped_objective_gradient", old_log_prob, new_log_prob, advantages)
    window = _window("clipped_objective_gradient", log_r, A, clip, clip_high)
    rows = np.where(window.bites, 0, r) * A
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
    log_r, r, A = _samples("clipped_objective_subgradient", old_log_prob, new_log_prob, advantages)
    window = _window("clipped_objective_subgradient", log_r, A, clip, clip_high)
    rows = np.where(window.bites, 0, r) * A
    slope = row_weights("clipped_objective_subgradient", weights, rows) * rows
    return Subgradient(
        lowest=np.where(window.at_kink & (A.real > 0), 0, slope),
        highest=np.where(window.at_kink & (A.real < 0), 0, slope),
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
    log_r, r, A = _samples("dual_clipped_objective", old_log_prob, new_log_prob, advantages)
    window = _window("dual_clipped_objective", log_r, A, clip, clip_high)
    c = scalar("dual_clipped_objective", "floor", floor, above=1)
    rows = np.where(_floored(log_r, A, c), c, _effective_ratio(r, A, window)) * A
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
    log_r, r, A = _samples("dual_clipped_objective_gradient", old_log_prob, new_log_prob, advantages)
    window = _window("dual_clipped_objective_gradient", log_r, A, clip, clip_high)
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
    log_r, _, A = _samples("clip_fraction", old_log_prob, new_log_prob, advantages)
    window = _window("clip_fraction", log_r, A, clip, clip_high)
    counted = window.bites if rule == "active" else window.below | window.above
    return expectation(counted, row_weights("clip_fraction", weights, log_r))


# ── KL penalty ────────────────────────────────────────────────────────────────────────────────────


class KLPenalizedGradient(NamedTuple):
    """The two gradients of the penalised objective, (B,) each, weights included.

    Fields: ``new_log_prob`` with respect to log π_θ(a_b|s_b), ``kl`` with respect to KL_b.
    """

    new_log_prob: Array
    kl: Array


@overflow_is_an_error
def kl_penalized_objective(
    old_log_prob: Any, new_log_prob: Any, advantages: Any, kl: Any, kl_penalty: Any, *, weights: Any = None
) -> Any:
    """Return PPO's KL-penalised objective, to be maximised.

    ::

        L^KLPEN = Σ_b w_b (r_b A_b − β KL_b),    KL_b = KL(π_old(·|s_b) ‖ π_θ(·|s_b))

    Parameters
    ----------
    old_log_prob, new_log_prob : (B,) array
        Log-probabilities of the actions taken, nats.
    advantages : (B,) array
        A, return units.
    kl : (B,) array
        KL(old ‖ new) of each row, nats.  Any sign is accepted: an estimate of it may be negative.
    kl_penalty : float
        β ≥ 0, return units per nat.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Return units.

    Raises
    ------
    ValueError
        If a shape disagrees, β < 0, or the ratio overflows.

    References
    ----------
    [PPO (8)]

    Examples
    --------
    >>> float(kl_penalized_objective([0.0], [0.0], [1.0], [0.25], 2.0))
    0.5
    """
    function = "kl_penalized_objective"
    r, A, kl, beta = _penalized(function, old_log_prob, new_log_prob, advantages, kl, kl_penalty)
    rows = r * A - beta * kl
    return expectation(rows, row_weights(function, weights, rows))


@overflow_is_an_error
def kl_penalized_objective_gradient(
    old_log_prob: Any, new_log_prob: Any, advantages: Any, kl: Any, kl_penalty: Any, *, weights: Any = None
) -> KLPenalizedGradient:
    """Return the gradients of `kl_penalized_objective` with respect to new_log_prob and to the KL.

    ::

        ∂L/∂log π_θ(a_b|s_b) = w_b r_b A_b        ∂L/∂KL_b = −β w_b

    Parameters
    ----------
    old_log_prob, new_log_prob, advantages, kl, kl_penalty, weights
        As in `kl_penalized_objective`.

    Returns
    -------
    KLPenalizedGradient
        ``new_log_prob`` and ``kl``, (B,) each.

    Raises
    ------
    ValueError
        As `kl_penalized_objective`.

    Notes
    -----
    The gradient in θ is the sum of both parts, each through its own derivative: the KL through
    `distributions.kl_gradient`, not through the actions taken (see `estimation.kl_estimators`).

    References
    ----------
    [PPO (8)]
    """
    function = "kl_penalized_objective_gradient"
    r, A, kl, beta = _penalized(function, old_log_prob, new_log_prob, advantages, kl, kl_penalty)
    w = row_weights(function, weights, r * A - kl)
    return KLPenalizedGradient(new_log_prob=w * (r * A), kl=-beta * w)


def _penalized(
    function: str, old: Any, new: Any, advantages: Any, kl: Any, kl_penalty: Any
) -> tuple[Array, Array, Array, float]:
    _, r, A = _samples(function, old, new, advantages)
    (kl,) = bind_shapes(function, {"B": len(r)}, kl=(kl, "B"))
    return r, A, kl, scalar(function, "kl_penalty", kl_penalty, least=0)


def kl_penalty_update(kl_penalty: Any, kl: Any, target: Any, *, schedule: str = "paper") -> float:
    """Return the next weight of the KL penalty, from the KL measured after an update.

    ::

        paper        β/2   if d < d_targ / 1.5,   2β   if d > 1.5 d_targ,   else β
        rllib        β/2   if d < d_targ / 2,     1.5β if d > 2 d_targ,     else β
        tf_agents    β/1.5 if d < 0.7 d_targ,     1.5β if d > 1.3 d_targ,   else β;  lowered to 10⁻¹⁵ at least
        pat_coady    β/1.5 if d < d_targ / 2,     1.5β if d > 2 d_targ,     else β;  lowered to 1/35 at least,
                                                                                     raised to 35 at most

    Parameters
    ----------
    kl_penalty : float
        β ≥ 0.
    kl : float
        d, the measured mean KL, nats.  Any sign is accepted: an estimate of it may be negative.
    target : float
        d_targ > 0, nats.
    schedule : {"paper", "rllib", "tf_agents", "pat_coady"}
        Which rule; all but the first are named after the library.

    Returns
    -------
    float
        The next β.

    Raises
    ------
    ValueError
        If an argument is out of range or the schedule unknown, or the next β overflows.

    Notes
    -----
    Convention: both comparisons are strict, so β is kept at either end of the window.

    References
    ----------
    [PPO section 4]

    Examples
    --------
    >>> [kl_penalty_update(1.0, kl, 0.75) for kl in (0.25, 0.75, 1.25)]
    [0.5, 1.0, 2.0]
    """
    function = "kl_penalty_update"
    beta = scalar(function, "kl_penalty", kl_penalty, least=0)
    d = scalar(function, "kl", kl)
    d_targ = scalar(function, "target", target, above=0)
    choice(function, "schedule", schedule, tuple(_SCHEDULES))
    rule = _SCHEDULES[schedule]
    if d < d_targ / rule.below:
        return max(beta / rule.lowered, rule.least)
    if d > d_targ * rule.above:
        if not math.isfinite(beta * rule.raised):
            raise ValueError(f"{function}: kl_penalty is {beta}, expected {rule.raised} times it to be finite")
        return min(beta * rule.raised, rule.most)
    return beta


def proportional_kl_penalty_update(
    kl_penalty: Any, kl: Any, target: Any, *, samples: int, horizon: int, limit: Any = 0.2
) -> float:
    """Return the next weight of the KL penalty by a proportional controller.

    ::

        e = clip(d/d_targ − 1, −limit, limit)
        β ← β (1 + e n/h)

    Parameters
    ----------
    kl_penalty : float
        β ≥ 0.
    kl : float
        d, the measured mean KL, nats.  Any sign is accepted: an estimate of it may be negative.
    target : float
        d_targ > 0, nats.
    samples, horizon : int
        n, the samples the KL was measured on, and h: after h samples an error at its limit has moved β by
        about that part.
    limit : float
        A number > 0.

    Returns
    -------
    float
        The next β.

    Raises
    ------
    ValueError
        If an argument is out of range, or the next β is negative or overflows.

    Notes
    -----
    Convention: there is no window around the target in which β rests, unlike in `kl_penalty_update`.

    References
    ----------
    [RLHF]

    Examples
    --------
    >>> proportional_kl_penalty_update(1.0, 9.0, 6.0, samples=256, horizon=512, limit=0.25)
    1.125
    """
    function = "proportional_kl_penalty_update"
    beta = scalar(function, "kl_penalty", kl_penalty, least=0)
    d = scalar(function, "kl", kl)
    d_targ = scalar(function, "target", target, above=0)
    n, h = count(function, "samples", samples), count(function, "horizon", horizon)
    most = scalar(function, "limit", limit, above=0)
    error = min(max(d / d_targ - 1, -most), most)
    updated = beta * (1 + error * n / h)
    if not 0 <= updated < math.inf:
        raise ValueError(
            f"{function}: kl_penalty would become {updated}, expected a finite number ≥ 0; it is {beta}, "
            f"samples is {n} and horizon is {h}"
        )
    return updated


class _Schedule(NamedTuple):
    """Below d_targ/``below`` β is divided by ``lowered``, above d_targ·``above`` multiplied by ``raised``."""

    below: float
    above: float
    lowered: float
    raised: float
    least: float = 0.0
    most: float = math.inf


_SCHEDULES = {
    "paper": _Schedule(1.5, 1.5, 2.0, 2.0),
    "rllib": _Schedule(2.0, 2.0, 2.0, 1.5),
    "tf_agents": _Schedule(1 / 0.7, 1.3, 1.5, 1.5, least=1e-15),
    "pat_coady": _Schedule(2.0, 2.0, 1.5, 1.5, least=1 / 35, most=35.0),
}


# ── value loss ────────────────────────────────────────────────────────────────────────────────────


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


# ── entropy ───────────────────────────────────────────────────────────────────────────────────────


def entropy_bonus(family: Family, phi: Any, *, weights: Any = None) -> Any:
    """Return the mean entropy of the policy, exact over actions.

    ::

        S = Σ_b w_b entropy(φ_b)

    Parameters
    ----------
    family : Family
        The action distribution.
    phi : (B, K) array
        Its parameters, one row per observation.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Nats; differential entropy, of any sign, where actions are continuous.

    Raises
    ------
    ValueError
        If a shape disagrees.

    Notes
    -----
    Convention: the coefficient c₂ is not included; the sign is that of an objective, larger is more random.

    References
    ----------
    [PPO (9)]
    """
    (phi,) = bind_shapes("entropy_bonus", {}, phi=(phi, "B K"))
    family.check("entropy_bonus", phi)
    entropy = family.entropy(phi)
    return expectation(entropy, row_weights("entropy_bonus", weights, entropy))


def entropy_bonus_gradient(family: Family, phi: Any, *, weights: Any = None) -> Array:
    """Return the gradient of `entropy_bonus` with respect to φ.

    ::

        ∂S/∂φ_b = w_b ∂entropy(φ_b)/∂φ_b

    Parameters
    ----------
    family, phi, weights
        As in `entropy_bonus`.

    Returns
    -------
    (B, K) array
        Weights included; what `network.vjp` takes.

    Raises
    ------
    ValueError
        As `entropy_bonus`.

    References
    ----------
    [PPO (9)]
    """
    (phi,) = bind_shapes("entropy_bonus_gradient", {}, phi=(phi, "B K"))
    family.check("entropy_bonus_gradient", phi)
    w = row_weights("entropy_bonus_gradient", weights, phi)
    gradient: Array = w[:, np.newaxis] * family.entropy_gradient(phi)
    return gradient
