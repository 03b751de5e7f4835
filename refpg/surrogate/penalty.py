"""The KL-penalised objective, and how its weight follows the KL that was measured.

::

    L^KLPEN = Σ_b w_b (r_b A_b − β KL_b)                                             [PPO (8)]
"""

import math
from typing import Any, NamedTuple

from refpg.notation import Array, bind_shapes, choice, count, expectation, overflow_is_an_error, row_weights, scalar
from refpg.surrogate.sampled import bind_samples


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
    _, r, A = bind_samples(function, old, new, advantages)
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
