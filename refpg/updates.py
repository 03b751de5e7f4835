"""The updates: θ → (θ', info).  The only chapter that makes a new θ.

::

    natural gradient   θ' = θ + √(2δ / gᵀF⁻¹g) F⁻¹g                                   [TRPO (17)], [K01]
    TRPO               the same with F⁻¹g from conjugate gradients, then a line search on the exact L and KL
    PPO                K epochs of Adam on E[min(rÂ, clip(r, 1−ε, 1+ε)Â)], π_old frozen  [PPO (7)]

refpg maximises: g is the gradient of an objective and steps go along it.  A function returns θ' and a record of what
happened; an update that cannot improve returns θ itself and says why.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from refpg import network as networks
from refpg import surrogate
from refpg.estimation import approximate_kl
from refpg.geometry import (
    DIRECTIONS,
    fisher_gram,
    fisher_matrix,
    fisher_operator,
    fisher_rows,
    mean_kl,
)
from refpg.network import Network
from refpg.notation import (
    Array,
    Unrepresentable,
    bind_shapes,
    choice,
    count,
    finite_results,
    row_weights,
    scalar,
)
from refpg.policy import Batch, Policy, linearize, log_prob_vjp, log_ratio
from refpg.solvers import (
    CGResult,
    backtracking,
    conjugate_gradient,
    solve_cholesky,
    solve_dual,
    solve_minimum_norm,
    solve_rows,
)

METHODS = ("rows", "cholesky", "dual", "cg", "minimum_norm")
ACCEPTANCE = ("improves_and_kl", "improves_and_kl_strict", "improves_and_1.5_kl")


class Ending(Enum):
    """How a trust-region update ended; the value is the sentence for a person."""

    ACCEPTED = "a candidate was accepted"
    NO_IMPROVEMENT = "no candidate improved the surrogate"
    KL_EXCEEDED = "candidates improved the surrogate, but none of them inside the trust region"
    NON_POSITIVE_CURVATURE = "the step length is undefined: xᵀFx is not positive (is F singular and undamped?)"
    ZERO_GRADIENT = "the gradient is zero: the policy is stationary"


class NaturalGradient(NamedTuple):
    """A natural gradient and how it was found.

    Fields: ``direction`` (P,), x = (F + λI)⁻¹g; ``rank`` of F where the method measures it (minimum norm), else
    None; ``cg`` the record of conjugate gradients where they were used, else None.
    """

    direction: Array
    rank: int | None
    cg: CGResult | None


class NaturalGradientStep(NamedTuple):
    """What a natural-gradient step did.

    Fields: ``step`` (P,), θ' − θ; ``direction`` (P,), x; ``step_length`` β; ``multiplier`` λ* = 1/β of the trust-region
    constraint, 0 where it does not bind; ``expected_improvement`` gᵀs; ``quadratic_kl`` ½sᵀ(F + λI)s;
    ``kkt_residual`` ‖g − λ*(F + λI)s‖/‖g‖; ``ending``.
    """

    step: Array
    direction: Array
    step_length: float
    multiplier: float
    expected_improvement: float
    quadratic_kl: float
    kkt_residual: float
    ending: Ending


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


class PPOObjective(NamedTuple):
    """The PPO objective, its gradients and its parts.

    Fields: ``objective`` L^CLIP − c₁ L^VF + c₂ S; ``gradient`` (P,) w.r.t. θ; ``value_gradient`` w.r.t. the value
    network's parameters, None without one; ``clipped_objective``, ``value_loss``, ``entropy`` the three parts before
    their coefficients; ``clip_fraction`` rows with |r − 1| > ε; ``approximate_kl`` the k3 estimate of KL(old ‖ new).
    """

    objective: float
    gradient: Array
    value_gradient: Array | None
    clipped_objective: float
    value_loss: float
    entropy: float
    clip_fraction: float
    approximate_kl: float


class Adam(NamedTuple):
    """The state of Adam: ``first_moment`` and ``second_moment`` (P,), ``step`` the number of steps taken."""

    first_moment: Array
    second_moment: Array
    step: int = 0


class PPOUpdate(NamedTuple):
    """What a PPO update did.

    Fields: ``value_theta`` the value network's new parameters, None without one; ``adam`` the state to continue
    from; ``objectives`` one `PPOObjective` per minibatch, each *before* its step.
    """

    value_theta: Array | None
    adam: Adam
    objectives: tuple[PPOObjective, ...]


@finite_results
def surrogate_gradient(policy: Policy, theta: Any, batch: Batch) -> Array:
    """Return the gradient of the surrogate at θ = θ_old, the policy gradient.

    ::

        g = Σ_b w_b Â_b ∇_θ log π_θ(a_b|s_b)          the ratio is 1 at θ_old

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ = θ_old.
    batch : Batch
        The samples; ``old_log_prob`` is not used, since θ is θ_old.

    Returns
    -------
    (P,) array
        Return units per unit of θ; the ascent direction.

    Raises
    ------
    ValueError
        If a shape disagrees, an action is impossible or the weights are not normalised.

    References
    ----------
    [TRPO (14)], [PPO (1)]
    """
    (advantages,) = bind_shapes("surrogate_gradient", {}, advantages=(batch.advantages, "B"))
    w = row_weights("surrogate_gradient", batch.weights, advantages)
    return log_prob_vjp(policy, theta, batch.observations, batch.actions, w * advantages)


def natural_gradient(
    policy: Policy,
    theta: Any,
    x: Any,
    gradient: Any,
    *,
    damping: float,
    method: str = "rows",
    iterations: int | None = None,
    weights: Any = None,
) -> NaturalGradient:
    """Solve (F + λI) x = g for the natural gradient x.

    Which method to use:

    * ``rows`` — the reference: orthogonal factorisation of the rows G, F = GᵀG never formed; error ~ √cond · u.
    * ``cholesky`` — F formed and factorised: fastest when P is a few thousand and B·K ≥ P; error ~ cond · u.
    * ``dual`` — the Gram matrix G Gᵀ instead of F: fastest when B·K < P; needs λ > 0.
    * ``cg`` — TRPO's way: products with F only, the answer after ``iterations`` steps is an approximation.
    * ``minimum_norm`` — λ = 0: F⁺g, the smallest solution, with the rank of F.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ, where the metric is evaluated.
    x : (B, D) array
        Observations.
    gradient : (P,) array
        g, the gradient of an objective to be maximised.
    damping : float
        λ > 0; for ``cg`` also 0; for ``minimum_norm`` exactly 0.
    method : {"rows", "cholesky", "dual", "cg", "minimum_norm"}
        How to solve.
    iterations : int, optional
        Of conjugate gradients: required by ``cg``, refused by the others.
    weights : (B,) array, optional
        Weights of the rows.

    Returns
    -------
    NaturalGradient
        The direction, an ascent direction (gᵀx ≥ 0).

    Raises
    ------
    ValueError
        If a shape disagrees, or the damping or the iterations do not go with the method.

    References
    ----------
    [K01], [TRPO (17)]
    """
    name = "natural_gradient"
    choice(name, "method", method, METHODS)
    (g,) = bind_shapes(name, policy.sizes, gradient=(gradient, "P"))
    damping = scalar(name, "damping", damping, least=0)
    if method == "minimum_norm" and damping != 0:
        raise ValueError(f"{name}: damping is {damping!r}, expected 0 with method 'minimum_norm'")
    if method in ("rows", "cholesky", "dual") and damping == 0:
        raise ValueError(f"{name}: damping is 0, expected > 0 with method {method!r} (or use 'minimum_norm')")
    if (iterations is None) == (method == "cg"):
        raise ValueError(f"{name}: iterations is {iterations!r} with method {method!r}; they belong to 'cg' alone")

    if method == "cg":
        F = fisher_operator(policy, theta, x, damping=damping, weights=weights)
        solution = conjugate_gradient(F.matvec, g, iterations=count(name, "iterations", iterations))
        return NaturalGradient(solution.x, None, solution)
    if method == "cholesky":
        return NaturalGradient(solve_cholesky(fisher_matrix(policy, theta, x, weights=weights), g, damping), None, None)
    G = fisher_rows(policy, theta, x, weights=weights)
    if method == "dual":
        gram = fisher_gram(policy, theta, x, weights=weights)
        return NaturalGradient(solve_dual(G, g, damping, gram=gram), None, None)
    if method == "minimum_norm":
        least = solve_minimum_norm(G, g)
        return NaturalGradient(least.x, least.rank, None)
    return NaturalGradient(solve_rows(G, g, damping), None, None)


@finite_results
def step_length(direction: Any, product: Any, max_kl: float) -> float:
    """Return the factor that brings a direction to the edge of the quadratic trust region.

    ::

        β = √(2δ / xᵀ(F + λI)x)          so that ½ (βx)ᵀ(F + λI)(βx) = δ

    Parameters
    ----------
    direction : (P,) array
        x.
    product : (P,) array
        (F + λI) x, or F x under the undamped convention.
    max_kl : float
        δ > 0, nats.

    Returns
    -------
    float
        β > 0.

    Raises
    ------
    ValueError
        If xᵀ·product is not positive, δ ≤ 0 or a shape disagrees.

    Notes
    -----
    Convention: damping in ``product`` makes the undamped quadratic KL of the step smaller than δ; all common
    implementations do so.

    References
    ----------
    [TRPO App. C]

    Examples
    --------
    >>> step_length([3.0, 4.0], [3.0, 4.0], 0.5)
    0.2
    """
    x, Hx = bind_shapes("step_length", {}, direction=(direction, "P"), product=(product, "P"))
    max_kl = scalar("step_length", "max_kl", max_kl, above=0)
    curvature = float(x @ Hx)
    if curvature <= 0:
        raise ValueError(f"step_length: directionᵀ·product is {curvature!r}, expected a positive curvature")
    return float(np.sqrt(2 * max_kl / curvature))


@finite_results
def expected_improvement(gradient: Any, step: Any) -> float:
    """Return the first-order change of the objective along a step, gᵀs.

    Parameters
    ----------
    gradient : (P,) array
        g.
    step : (P,) array
        s = θ' − θ.

    Returns
    -------
    float
        Return units.

    Raises
    ------
    ValueError
        If the shapes disagree.

    References
    ----------
    [TRPO App. C]

    Examples
    --------
    >>> expected_improvement([1.0, 2.0], [0.5, 0.25])
    1.0
    """
    g, s = bind_shapes("expected_improvement", {}, gradient=(gradient, "P"), step=(step, "P"))
    return float(g @ s)


@finite_results
def natural_gradient_step(
    policy: Policy,
    theta: Any,
    x: Any,
    gradient: Any,
    *,
    damping: float,
    max_kl: float,
    step_damping: bool = True,
    method: str = "rows",
    iterations: int | None = None,
    weights: Any = None,
) -> tuple[Array, NaturalGradientStep]:
    """Step along the natural gradient to the edge of the quadratic trust region.

    ::

        x = (F + λI)⁻¹g          s = √(2δ / xᵀ(F + λI)x) x          θ' = θ + s

    s maximises gᵀs subject to ½sᵀ(F + λI)s ≤ δ; the multiplier of the constraint is λ* = 1/β, and penalising with λ*
    instead of constraining gives the same s: the duality gap is zero.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    gradient : (P,) array
        g, the gradient of an objective to be maximised.
    damping : float
        λ ≥ 0, as `natural_gradient` has it.
    max_kl : float
        δ > 0, nats.
    step_damping : bool
        Whether the step length is measured with F + λI (all common implementations) or with F.
    method : str
        As in `natural_gradient`.
    iterations : int, optional
        As in `natural_gradient`.
    weights : (B,) array, optional
        Weights of the rows.

    Returns
    -------
    theta : (P,) array
        θ'; θ itself if the gradient is zero or the curvature is not positive.
    info : NaturalGradientStep

    Raises
    ------
    ValueError
        If a shape disagrees, δ ≤ 0, or the damping does not go with the method.

    References
    ----------
    [TRPO (17)], [K01]
    """
    name = "natural_gradient_step"
    theta, g = bind_shapes(name, policy.sizes, theta=(theta, "P"), gradient=(gradient, "P"))
    max_kl = scalar(name, "max_kl", max_kl, above=0)
    direction = natural_gradient(
        policy, theta, x, g, damping=damping, method=method, iterations=iterations, weights=weights
    ).direction
    H = fisher_operator(policy, theta, x, damping=damping if step_damping else 0.0, weights=weights)
    Hx = H.matvec(direction)
    if not g.any() or direction @ Hx <= 0:
        ending = Ending.NON_POSITIVE_CURVATURE if g.any() else Ending.ZERO_GRADIENT
        return theta.copy(), NaturalGradientStep(np.zeros_like(theta), direction, 0.0, 0.0, 0.0, 0.0, 0.0, ending)

    beta = step_length(direction, Hx, max_kl)
    s = beta * direction
    return theta + s, NaturalGradientStep(
        step=s,
        direction=direction,
        step_length=beta,
        multiplier=1 / beta,
        expected_improvement=expected_improvement(g, s),
        quadratic_kl=float(0.5 * beta**2 * (direction @ Hx)),
        kkt_residual=float(np.linalg.norm(g - Hx) / np.linalg.norm(g)),
        ending=Ending.ACCEPTED,
    )


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
    accept : {"improves_and_kl", "improves_and_kl_strict", "improves_and_1.5_kl"}
        Improvement > 0 and KL ≤ δ [TRPO App. C]; > 0 and < δ; ≥ 0 and ≤ 1.5 δ.
    direction : {"old_new", "new_old"}
        Direction of the mean KL.

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
    theta, s = bind_shapes(name, policy.sizes, theta=(theta, "P"), full_step=(full_step, "P"))
    (advantages,) = bind_shapes(name, {}, advantages=(batch.advantages, "B"))
    w = row_weights(name, batch.weights, advantages)
    max_kl = scalar(name, "max_kl", max_kl, above=0)
    choice(name, "accept", accept, ACCEPTANCE)
    choice(name, "direction", direction, DIRECTIONS)

    def trial(scale: float) -> tuple[bool, Trial]:
        candidate = theta + scale * s
        try:
            kl = float(mean_kl(policy, theta, candidate, batch.observations, weights=w, direction=direction))
            log_r = log_ratio(policy, theta, candidate, batch.observations, batch.actions)
            improvement = float(surrogate.surrogate_improvement(log_r, advantages, weights=w))
        except Unrepresentable:
            # So far outside any trust region that its KL or a ratio overflows: a rejected candidate like others.
            return False, Trial(scale, np.nan, np.inf)
        if accept == "improves_and_1.5_kl":
            accepted = improvement >= 0 and kl <= 1.5 * max_kl
        elif accept == "improves_and_kl_strict":
            accepted = improvement > 0 and kl < max_kl
        else:
            accepted = improvement > 0 and kl <= max_kl
        return accepted, Trial(scale, improvement, kl)

    search = backtracking(trial, backtrack=backtrack, max_backtracks=max_backtracks)
    if search.accepted >= 0:
        ending = Ending.ACCEPTED
    elif any(candidate.improvement > 0 for candidate in search.tried):
        ending = Ending.KL_EXCEEDED
    else:
        ending = Ending.NO_IMPROVEMENT
    return theta + search.scale * s, LineSearch(search.accepted, ending, search.tried)


@finite_results
def trpo_step(
    policy: Policy,
    theta: Any,
    batch: Batch,
    *,
    max_kl: float,
    damping: float,
    iterations: int = 10,
    backtrack: float = 0.5,
    max_backtracks: int = 10,
    accept: str = "improves_and_kl",
    direction: str = "old_new",
    step_damping: bool = True,
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
    backtrack, max_backtracks, accept, direction
        As in `trust_region_line_search`.
    step_damping : bool
        As in `natural_gradient_step`.

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
    stop of conjugate gradients, other than at an exactly zero residual; damping also in the step length.

    References
    ----------
    [TRPO App. C], [TRPO (17)]
    """
    name = "trpo_step"
    (theta,) = bind_shapes(name, policy.sizes, theta=(theta, "P"))
    max_kl = scalar(name, "max_kl", max_kl, above=0)
    damping = scalar(name, "damping", damping, least=0)
    g = surrogate_gradient(policy, theta, batch)
    H = fisher_operator(policy, theta, batch.observations, damping=damping, weights=batch.weights)
    cg = conjugate_gradient(H.matvec, g, iterations=count(name, "iterations", iterations))
    measure = H if step_damping else fisher_operator(policy, theta, batch.observations, weights=batch.weights)
    Hx = measure.matvec(cg.x)
    if not g.any() or cg.x @ Hx <= 0:
        ending = Ending.NON_POSITIVE_CURVATURE if g.any() else Ending.ZERO_GRADIENT
        return theta.copy(), TRPOStep(-1, ending, np.zeros_like(theta), 0.0, g, 0.0, cg, ())

    beta = step_length(cg.x, Hx, max_kl)
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
    )
    return new, TRPOStep(search.accepted, search.ending, s, beta, g, expected_improvement(g, s), cg, search.trials)


@finite_results
def ppo_objective(
    policy: Policy,
    theta: Any,
    batch: Batch,
    *,
    clip: float,
    value_network: Network | None = None,
    value_theta: Any = None,
    value_targets: Any = None,
    value_coefficient: float = 0.0,
    entropy_coefficient: float = 0.0,
    value_factor: float = 1.0,
) -> PPOObjective:
    """Return the PPO objective with its gradients.

    ::

        L^CLIP(θ) − c₁ L^VF(w) + c₂ S(θ)

        L^CLIP = Σ_b w_b min(r_b Â_b, clip(r_b, 1−ε, 1+ε) Â_b)          r_b = π_θ(a_b|s_b)/π_old(a_b|s_b)
        L^VF   = f Σ_b w_b (V(s_b) − V_b^target)²                        S = Σ_b w_b entropy(π_θ(·|s_b))

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ of the current policy; π_old enters through ``batch.old_log_prob`` alone.
    batch : Batch
        The samples, with ``old_log_prob``.
    clip : float
        ε in (0, 1).
    value_network : Network, optional
        A network with one output, V(s); without it there is no value term.
    value_theta : array
        Its parameters, shape (value_network.num_parameters,).
    value_targets : (B,) array
        V^target, return units.
    value_coefficient, entropy_coefficient : float
        c₁ ≥ 0 and c₂ ≥ 0.
    value_factor : float
        f: 1 as in the paper, ½ in many libraries.

    Returns
    -------
    PPOObjective
        To be maximised.

    Raises
    ------
    ValueError
        If a shape disagrees, ``old_log_prob`` is missing, ε is outside (0, 1), a coefficient is negative, or the three
        value arguments are not given together.

    Notes
    -----
    Convention: advantages are used as given (normalise them before); the gradient at the kinks of the clip is that of
    `surrogate.clipped_objective_gradient`.

    References
    ----------
    [PPO (7)], [PPO (9)]
    """
    name = "ppo_objective"
    if batch.old_log_prob is None:
        raise ValueError(
            f"{name}: batch.old_log_prob is None, expected the (B,) log-probabilities under the old policy"
        )
    value_arguments = (value_network, value_theta, value_targets)
    if len({argument is None for argument in value_arguments}) != 1:
        raise ValueError(
            f"{name}: value_network, value_theta and value_targets are given in part, expected all or none"
        )
    c1 = scalar(name, "value_coefficient", value_coefficient, least=0)
    c2 = scalar(name, "entropy_coefficient", entropy_coefficient, least=0)

    at = linearize(name, policy, theta, batch.observations)
    action = policy.family.check_action(name, at.phi, batch.actions)
    old, advantages = bind_shapes(
        name, {"B": len(at.phi)}, old_log_prob=(batch.old_log_prob, "B"), advantages=(batch.advantages, "B")
    )
    w = row_weights(name, batch.weights, at.phi)
    new = policy.family.log_prob(at.phi, action)
    clipped = float(surrogate.clipped_objective(old, new, advantages, clip, weights=w))
    d_new = surrogate.clipped_objective_gradient(old, new, advantages, clip, weights=w)
    entropy = float(surrogate.entropy_bonus(policy.family, at.phi, weights=w))
    phi_bar = d_new[:, None] * policy.family.score(at.phi, action)
    if c2:
        phi_bar = phi_bar + c2 * surrogate.entropy_bonus_gradient(policy.family, at.phi, weights=w)

    value_loss, value_gradient = 0.0, None
    if value_network is not None:
        values_at, loss, d_values = _value_term(
            name, value_network, value_theta, value_targets, batch.observations, w, value_factor
        )
        value_loss, value_gradient = loss, values_at.vjp(-c1 * d_values[:, None])
    return PPOObjective(
        objective=clipped - c1 * value_loss + c2 * entropy,
        gradient=at.vjp(phi_bar),
        value_gradient=value_gradient,
        clipped_objective=clipped,
        value_loss=value_loss,
        entropy=entropy,
        clip_fraction=float(surrogate.clip_fraction(old, new, advantages, clip, weights=w)),
        approximate_kl=float(approximate_kl(old, new, weights=w)),
    )


def _value_term(
    name: str, network: Network, theta: Any, targets: Any, x: Any, w: Array, factor: float
) -> tuple[networks.Linearization, float, Array]:
    if network.num_outputs != 1:
        raise ValueError(f"{name}: value_network has {network.num_outputs} outputs, expected 1")
    theta, x = bind_shapes(
        name,
        {"Q": network.num_parameters, "D": network.sizes[0], "B": len(w)},
        value_theta=(theta, "Q"),
        observations=(x, "B D"),
    )
    (targets,) = bind_shapes(name, {"B": len(w)}, value_targets=(targets, "B"))
    at = networks.linearize(network, theta, x)
    values = at.phi[:, 0]
    loss = float(surrogate.value_loss(values, targets, factor=factor, weights=w))
    return at, loss, surrogate.value_loss_gradient(values, targets, factor=factor, weights=w)


@finite_results
def adam_step(
    theta: Any,
    gradient: Any,
    state: Adam,
    *,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Array, Adam]:
    """Make one step of Adam, *descending* the gradient.

    ::

        m ← β₁m + (1 − β₁)g          v ← β₂v + (1 − β₂)g²          t ← t + 1
        θ' = θ − α m̂/(√v̂ + ε)        m̂ = m/(1 − β₁ᵗ)   v̂ = v/(1 − β₂ᵗ)

    Parameters
    ----------
    theta : (P,) array
        Parameters.
    gradient : (P,) array
        Gradient of a loss; pass the negative of an objective's gradient to ascend it.
    state : Adam
        The moments and the number of steps taken; ``Adam(zeros, zeros)`` to begin.
    learning_rate : float
        α > 0.
    beta1, beta2 : float
        Decay rates in [0, 1).
    epsilon : float
        ε > 0, added to the root of the bias-corrected second moment as published; PPO implementations
        customarily use 1e-5.

    Returns
    -------
    theta : (P,) array
        θ'.
    state : Adam

    Raises
    ------
    ValueError
        If a shape disagrees or a number is out of range.

    References
    ----------
    [Adam Alg. 1]

    Examples
    --------
    The first step has length α in every coordinate, whatever the size of the gradient:

    >>> import numpy as np
    >>> theta, state = adam_step(np.zeros(2), [3.0, -0.5], Adam(np.zeros(2), np.zeros(2)), learning_rate=0.1)
    >>> theta.round(6)
    array([-0.1,  0.1])
    """
    name = "adam_step"
    theta, g, m, v = bind_shapes(
        name,
        {},
        theta=(theta, "P"),
        gradient=(gradient, "P"),
        first_moment=(state.first_moment, "P"),
        second_moment=(state.second_moment, "P"),
    )
    alpha = scalar(name, "learning_rate", learning_rate, above=0)
    beta1 = scalar(name, "beta1", beta1, least=0, below=1)
    beta2 = scalar(name, "beta2", beta2, least=0, below=1)
    epsilon = scalar(name, "epsilon", epsilon, above=0)
    if (v < 0).any():
        raise ValueError(f"{name}: second_moment has a negative entry, expected a mean of squares")
    t = count(name, "step", state.step, least=0) + 1

    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return theta - alpha * m_hat / (np.sqrt(v_hat) + epsilon), Adam(m, v, t)


def minibatch_order(generator: np.random.Generator, *, rows: int, size: int, epochs: int) -> list[list[Array]]:
    """Draw the order in which K epochs visit the rows of a batch.

    Parameters
    ----------
    generator : numpy.random.Generator
        The only source of randomness.
    rows : int
        B.
    size : int
        Rows per minibatch; the last one of an epoch is smaller where ``size`` does not divide B.
    epochs : int
        K.

    Returns
    -------
    list of K lists of integer arrays
        Each inner list is a partition of 0 … B − 1.

    Raises
    ------
    ValueError
        If a number is not a positive integer.

    References
    ----------
    [PPO Alg. 1]
    """
    rows = count("minibatch_order", "rows", rows)
    size = count("minibatch_order", "size", size)
    epochs = count("minibatch_order", "epochs", epochs)
    cuts = range(size, rows, size)
    return [np.split(generator.permutation(rows), cuts) for _ in range(epochs)]


@finite_results
def ppo_update(
    policy: Policy,
    theta: Any,
    batch: Batch,
    *,
    clip: float,
    minibatches: Sequence[Sequence[Any]],
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    adam: Adam | None = None,
    value_network: Network | None = None,
    value_theta: Any = None,
    value_targets: Any = None,
    value_coefficient: float = 0.0,
    entropy_coefficient: float = 0.0,
    value_factor: float = 1.0,
) -> tuple[Array, PPOUpdate]:
    """Make one PPO update: K epochs of minibatch Adam ascent while the old policy stays frozen.

    π_old is present only as ``batch.old_log_prob``, computed before the first epoch and never again: the article's
    second network.  It is synchronised by the caller, who samples the next batch with the θ' returned here.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ, at the start equal to θ_old.
    batch : Batch
        The samples, with ``old_log_prob``.
    clip : float
        ε in (0, 1); 0.2 in the paper.
    minibatches : K lists of integer arrays
        The rows of each minibatch, epoch by epoch, as from `minibatch_order`.
    learning_rate, beta1, beta2, epsilon
        As in `adam_step`.
    adam : Adam, optional
        The state to continue from, over θ followed by the value network's parameters; zero moments unless given.
    value_network, value_theta, value_targets, value_coefficient, entropy_coefficient, value_factor
        As in `ppo_objective`; both networks are updated by the same Adam.

    Returns
    -------
    theta : (P,) array
        θ'.
    info : PPOUpdate

    Raises
    ------
    ValueError
        If a shape disagrees, a minibatch names a row that does not exist or names one twice, or an argument of
        `ppo_objective` or `adam_step` is refused.

    Notes
    -----
    Convention: each minibatch's weights are renormalised to sum to 1; the gradient is not clipped by norm.

    References
    ----------
    [PPO Alg. 1], [PPO (9)]
    """
    name = "ppo_update"
    (theta,) = bind_shapes(name, policy.sizes, theta=(theta, "P"))
    P = len(theta)
    joint = theta if value_network is None else np.concatenate([theta, np.asarray(value_theta, dtype=theta.dtype)])
    state = Adam(np.zeros_like(joint), np.zeros_like(joint)) if adam is None else adam
    objectives = []
    for epoch in minibatches:
        for minibatch in epoch:
            rows = _rows_of(name, minibatch, len(batch.advantages))
            here = ppo_objective(
                policy._replace(family=policy.family.rows(rows)),
                joint[:P],
                _restricted(name, batch, rows),
                clip=clip,
                value_network=value_network,
                value_theta=None if value_network is None else joint[P:],
                value_targets=None if value_targets is None else np.asarray(value_targets)[rows],
                value_coefficient=value_coefficient,
                entropy_coefficient=entropy_coefficient,
                value_factor=value_factor,
            )
            ascent = (
                here.gradient if here.value_gradient is None else np.concatenate([here.gradient, here.value_gradient])
            )
            joint, state = adam_step(
                joint, -ascent, state, learning_rate=learning_rate, beta1=beta1, beta2=beta2, epsilon=epsilon
            )
            objectives.append(here)
    return joint[:P], PPOUpdate(None if value_network is None else joint[P:], state, tuple(objectives))


def _rows_of(name: str, minibatch: Any, rows: int) -> Array:
    (index,) = bind_shapes(name, {}, minibatch=(minibatch, "int M"))
    if (index < 0).any() or (index >= rows).any() or len(np.unique(index)) != len(index):
        raise ValueError(f"{name}: minibatch is {index.tolist()}, expected distinct rows in 0 … {rows - 1}")
    return index


def _restricted(name: str, batch: Batch, rows: Array) -> Batch:
    def of(field: Any) -> Any:
        return None if field is None else np.asarray(field)[rows]

    weights = of(batch.weights)
    if weights is not None and not weights.sum() > 0:
        raise ValueError(f"{name}: weights of the minibatch {rows.tolist()} sum to {weights.sum()!r}, expected > 0")
    return Batch(
        of(batch.observations),
        of(batch.actions),
        of(batch.advantages),
        of(batch.old_log_prob),
        None if weights is None else weights / weights.sum(),
    )
