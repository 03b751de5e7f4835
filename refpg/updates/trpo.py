"""TRPO: the natural-gradient step by conjugate gradients, then a line search on the exact L and KL [TRPO App. C]."""

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refpg import network as networks
from refpg.geometry import DIRECTIONS, directed_kl, fisher_operator
from refpg.notation import (
    Array,
    Unrepresentable,
    bind_shapes,
    choice,
    count,
    expectation,
    finite_results,
    row_weights,
    scalar,
)
from refpg.policy import Batch, Policy
from refpg.rows import sum_over_parts
from refpg.solvers import CGEnding, CGResult, backtracking, conjugate_gradient
from refpg.updates.ending import Ending
from refpg.updates.natural import expected_improvement, step_length, surrogate_gradient


class Rule(NamedTuple):
    """When a candidate is accepted: both must hold.

    Fields: ``improves`` of (improvement, expected improvement); ``within`` of (KL, δ); ``relative`` whether the first
    reads the expected improvement.
    """

    improves: Callable[[float, float], bool]
    within: Callable[[float, float], bool]
    relative: bool = False


RULES: dict[str, Rule] = {
    "improves_and_kl": Rule(lambda gain, expected: gain > 0, lambda kl, delta: kl <= delta),
    "improves_and_kl_strict": Rule(lambda gain, expected: gain > 0, lambda kl, delta: kl < delta),
    "improves_and_1.5_kl": Rule(lambda gain, expected: gain >= 0, lambda kl, delta: kl <= 1.5 * delta),
    "no_worse_and_kl": Rule(lambda gain, expected: gain >= 0, lambda kl, delta: kl <= delta),
    "kl_strict": Rule(lambda gain, expected: True, lambda kl, delta: kl < delta),
    "tenth_of_expected": Rule(lambda gain, expected: gain > max(0.0, 0.1 * expected), lambda kl, delta: True, True),
    "half_of_expected_and_kl_strict": Rule(
        lambda gain, expected: gain > max(0.0, 0.5 * expected), lambda kl, delta: kl < delta, True
    ),
}
ACCEPTANCE = tuple(RULES)


class Trial(NamedTuple):
    """One candidate of a line search: its ``scale``, ``improvement`` of the surrogate and mean ``kl``.

    Where one of them overflows the candidate is rejected, with improvement NaN and KL ∞.
    """

    scale: float
    improvement: float
    kl: float


class LineSearch(NamedTuple):
    """What a line search did.

    Fields: ``accepted`` the index j of the candidate taken, −1 if none; ``ending``; ``trials`` in order.
    """

    accepted: int
    ending: Ending
    trials: tuple[Trial, ...]


class TRPOStep(NamedTuple):
    """What a TRPO update did.

    Fields: ``accepted`` index of the candidate taken, −1 if none; ``ending``; ``full_step`` (P,), before the line
    search; ``step_length`` β; ``gradient`` (P,); ``expected_improvement`` gᵀs of the full step; ``cg``;
    ``trials`` of the line search.
    """

    accepted: int
    ending: Ending
    full_step: Array
    step_length: float
    gradient: Array
    expected_improvement: float
    cg: CGResult
    trials: tuple[Trial, ...]


@finite_results
def trust_region_line_search(
    policy: Policy,
    theta: Any,
    batch: Batch,
    full_step: Any,
    *,
    max_kl: float,
    backtrack: float = 0.5,
    max_backtracks: int = 10,
    accept: str = "improves_and_kl",
    direction: str = "old_new",
    executor: Executor | None = None,
) -> tuple[Array, LineSearch]:
    """Shrink a step until the exact surrogate improves and the exact mean KL is inside the trust region.

    ::

        θ_j = θ + b^j s,   j = 0, 1, ...          L(θ_j) − L(θ) = Σ_b w_b Â_b expm1(log r_b(θ_j))

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ = θ_old.
    batch : Batch
        The samples; ``old_log_prob`` is not used, since θ is θ_old.
    full_step : (P,) array
        s.
    max_kl : float
        δ > 0, nats.
    backtrack : float
        b in (0, 1).
    max_backtracks : int
        Number of candidates tried, ≥ 1.
    accept : str
        The rule, with ΔL = L(θ_j) − L(θ) and b^j gᵀs the improvement expected of θ_j, g = ∇L(θ)::

            improves_and_kl                   ΔL > 0 and KL ≤ δ [TRPO App. C]
            improves_and_kl_strict            ΔL > 0 and KL < δ
            improves_and_1.5_kl               ΔL ≥ 0 and KL ≤ 1.5 δ
            no_worse_and_kl                   ΔL ≥ 0 and KL ≤ δ
            kl_strict                         KL < δ
            tenth_of_expected                 ΔL > 0 and ΔL > b^j gᵀs/10
            half_of_expected_and_kl_strict    ΔL > 0 and ΔL > b^j gᵀs/2, KL < δ
    direction : {"old_new", "new_old"}
        Direction of the mean KL.
    executor : concurrent.futures.Executor, optional
        Who computes the sums over rows; the result has the same bits for any.

    Returns
    -------
    theta : (P,) array
        The first candidate accepted; θ itself if none is.
    info : LineSearch

    Raises
    ------
    ValueError
        If a shape disagrees, δ ≤ 0, b outside (0, 1) or a name is unknown.

    References
    ----------
    [TRPO App. C]
    """
    name = "trust_region_line_search"
    theta, s, x, advantages = bind_shapes(
        name,
        policy.sizes,
        theta=(theta, "P"),
        full_step=(full_step, "P"),
        observations=(batch.observations, "B D"),
        advantages=(batch.advantages, "B"),
    )
    actions = policy.family.check_action(name, policy.check(name, theta, x), batch.actions)
    w = row_weights(name, batch.weights, advantages)
    max_kl = scalar(name, "max_kl", max_kl, above=0)
    choice(name, "accept", accept, ACCEPTANCE)
    choice(name, "direction", direction, DIRECTIONS)
    rule = RULES[accept]
    slope = 0.0
    if rule.relative:
        slope = expected_improvement(surrogate_gradient(policy, theta, batch, executor=executor), s)

    def trial(scale: float) -> tuple[bool, Trial]:
        term = partial(_improvement_and_kl, theta, theta + scale * s, direction)
        try:
            improvement, kl = map(float, sum_over_parts(term, policy.parts(x, actions, advantages, w), executor))
        except Unrepresentable:
            improvement, kl = np.nan, np.inf
        if not np.isfinite([improvement, kl]).all():
            # So far outside any trust region that its KL or a ratio overflows: a rejected candidate like others.
            return False, Trial(scale, np.nan, np.inf)
        accepted = rule.improves(improvement, scale * slope) and rule.within(kl, max_kl)
        return accepted, Trial(scale, improvement, kl)

    search = backtracking(trial, backtrack=backtrack, max_backtracks=max_backtracks)
    if search.accepted >= 0:
        ending = Ending.ACCEPTED
    elif any(rule.improves(tried.improvement, tried.scale * slope) for tried in search.tried):
        ending = Ending.KL_EXCEEDED
    else:
        ending = Ending.NO_IMPROVEMENT
    return theta + search.scale * s, LineSearch(search.accepted, ending, search.tried)


def _improvement_and_kl(
    theta_old: Array, theta: Array, direction: str, policy: Policy, x: Array, action: Array, advantages: Array, w: Array
) -> Array:
    """Return some rows' parts of L(θ) − L(θ_old) and of the mean KL, from one pass through the network."""
    phi, change = networks.forward_change(policy.network, theta_old, theta - theta_old, x)
    log_r = policy.family.log_ratio(phi, change, action)
    kl = directed_kl(policy.family, phi, change, direction)
    return np.array([expectation(advantages * np.expm1(log_r), w), expectation(kl, w)])


@finite_results
def trpo_step(
    policy: Policy,
    theta: Any,
    batch: Batch,
    *,
    max_kl: float,
    damping: float,
    iterations: int = 10,
    threshold: float = 0.0,
    minimum: int = 0,
    backtrack: float = 0.5,
    max_backtracks: int = 10,
    accept: str = "improves_and_kl",
    direction: str = "old_new",
    step_damping: bool = True,
    step_epsilon: float = 0.0,
    executor: Executor | None = None,
) -> tuple[Array, TRPOStep]:
    """Make one update of trust-region policy optimisation.

    ::

        g = ∇L(θ)                                    surrogate gradient
        x ≈ (F + λI)⁻¹ g                             ``iterations`` steps of conjugate gradients
        s = √(2δ / xᵀ(F + λI)x) x                    the edge of the quadratic trust region
        θ' = θ + b^j s                               the first j that improves L with mean KL ≤ δ

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ = θ_old.
    batch : Batch
        The samples; ``old_log_prob`` is not used, since θ is θ_old.
    max_kl : float
        δ > 0, nats; 0.01 in the paper's experiments.
    damping : float
        λ ≥ 0.
    iterations : int
        Of conjugate gradients; k = 10 in the paper.
    threshold, minimum
        When conjugate gradients stop before that, as in `refpg.solvers.conjugate_gradient`.
    backtrack, max_backtracks, accept, direction
        As in `trust_region_line_search`.
    step_damping, step_epsilon
        As in `natural_gradient_step`.
    executor : concurrent.futures.Executor, optional
        Who computes the sums over rows; the result has the same bits for any.

    Returns
    -------
    theta : (P,) array
        θ', or θ itself if the update could not improve.
    info : TRPOStep
        With ``ending`` and ``accepted``.

    Raises
    ------
    ValueError
        If a shape disagrees, an action is impossible, δ ≤ 0, λ < 0 or a name is unknown.

    Notes
    -----
    Convention: KL old ‖ new, summed over action dimensions; the true mean over all rows for F; x₀ = 0 and no early
    stop of conjugate gradients, other than at a residual of rounding size; damping also in the step length, and no ε.

    References
    ----------
    [TRPO App. C], [TRPO (17)]
    """
    name = "trpo_step"
    (theta,) = bind_shapes(name, policy.sizes, theta=(theta, "P"))
    max_kl = scalar(name, "max_kl", max_kl, above=0)
    damping = scalar(name, "damping", damping, least=0)
    g = surrogate_gradient(policy, theta, batch, executor=executor)
    H = fisher_operator(
        policy, theta, batch.observations, damping=damping, weights=batch.weights, executor=executor
    )
    cg = conjugate_gradient(
        H.matvec, g, iterations=count(name, "iterations", iterations), threshold=threshold, minimum=minimum
    )
    if step_damping:
        Hx = g - cg.residual  # without another product
    else:
        Hx = fisher_operator(policy, theta, batch.observations, weights=batch.weights, executor=executor).matvec(cg.x)
    if cg.x @ Hx <= 0:
        moved = cg.x.any() or cg.reason is CGEnding.NON_POSITIVE_CURVATURE
        ending = Ending.NON_POSITIVE_CURVATURE if moved else Ending.ZERO_GRADIENT
        return theta.copy(), TRPOStep(-1, ending, np.zeros_like(theta), 0.0, g, 0.0, cg, ())

    beta = step_length(cg.x, Hx, max_kl, epsilon=step_epsilon)
    s = beta * cg.x
    new, search = trust_region_line_search(
        policy,
        theta,
        batch,
        s,
        max_kl=max_kl,
        backtrack=backtrack,
        max_backtracks=max_backtracks,
        accept=accept,
        direction=direction,
        executor=executor,
    )
    return new, TRPOStep(search.accepted, search.ending, s, beta, g, expected_improvement(g, s), cg, search.trials)
