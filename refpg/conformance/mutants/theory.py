"""Mistakes in the profile theory: values, visits, returns, gradients, divergences and bounds of finite MDPs."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from refpg.notation import Array
from refpg.updates.tables import SMALLEST

Function = Callable[..., Any]
Conventions = Mapping[str, str]
Visits = Callable[["World", Array], Array]


class World(NamedTuple):
    """A finite MDP: ``transition``, ``gamma``, ``reward`` and ``start``; the last two are zero where an op has none."""

    transition: Array
    gamma: float
    reward: Array | float = 0.0
    start: Array | float = 0.0


class Evaluation(NamedTuple):
    """V, Q and A of a policy: ``values``, ``action_values``, ``advantages``."""

    values: Array
    action_values: Array
    advantages: Array


def _visits(world: World, pi: Array) -> Array:
    """N = (I − γP_π)⁻¹, the expected discounted visits of each state from each."""
    P_pi = np.einsum("sa,sat->st", pi, world.transition)
    return np.linalg.inv(np.eye(len(pi), dtype=pi.dtype) - world.gamma * P_pi)


def _evaluate(world: World, pi: Array, visits: Visits = _visits) -> Evaluation:
    V = visits(world, pi) @ (pi * world.reward).sum(axis=1)
    Q = world.reward + world.gamma * world.transition @ V
    return Evaluation(V, Q, Q - V[:, None])


def _visitation(world: World, pi: Array, visits: Visits = _visits) -> Array:
    rho: Array = world.start @ visits(world, pi)
    return rho


def _return(world: World, pi: Array, visits: Visits = _visits) -> Any:
    return world.start @ _evaluate(world, pi, visits).values


def _gain(world: World, old: Array, new: Array, visits: Visits = _visits) -> Any:
    """Σ_s ρ_old(s) Σ_a π_new(a|s) A_old(s,a)."""
    return _seen(_visitation(world, old, visits), new, _evaluate(world, old, visits).advantages)


def _seen(rho: Array, pi: Array, A: Array) -> Any:
    return rho @ (pi * A).sum(axis=1)


# Ops, from the expected visits.


def _policy_evaluation(visits: Visits, transition: Array, reward: Array, gamma: float, probabilities: Array) -> Any:
    return _evaluate(World(transition, gamma, reward), probabilities, visits)._asdict()


def _visited(
    visits: Visits, conventions: Conventions, transition: Array, start: Array, gamma: float, probabilities: Array
) -> Array:
    rho = _visitation(World(transition, gamma, start=start), probabilities, visits)
    return (1 - gamma) * rho if conventions["visitation.normalisation"] == "normalised" else rho


def _expected_return(visits: Visits, probabilities: Array, **world: Any) -> Any:
    return _return(World(**world), probabilities, visits)


def _performance_difference(visits: Visits, old_probabilities: Array, new_probabilities: Array, **world: Any) -> Any:
    w = World(**world)
    return _return(w, new_probabilities, visits) - _return(w, old_probabilities, visits)


def _local_approximation(visits: Visits, old_probabilities: Array, new_probabilities: Array, **world: Any) -> Any:
    w = World(**world)
    return _return(w, old_probabilities, visits) + _gain(w, old_probabilities, new_probabilities, visits)


def _softmax_policy_gradient(visits: Visits, logits: Array, **world: Any) -> Array:
    w, pi = World(**world), softmax(logits, axis=1)
    return _visitation(w, pi, visits)[:, None] * pi * _evaluate(w, pi, visits).advantages


def _transposed(world: World, pi: Array) -> Array:
    return _visits(world, pi).T


def _actions_averaged(world: World, pi: Array) -> Array:
    return _visits(world, np.full_like(pi, 1 / pi.shape[1]))


def _start_not_counted(world: World, pi: Array) -> Array:
    return _visits(world, pi) - np.eye(len(pi), dtype=pi.dtype)


def _from_anywhere(program: Function) -> Function:
    def function(*conventions: Conventions, start: Array, **inputs: Any) -> Any:
        return program(_visits, *conventions, start=np.full_like(start, 1 / len(start)), **inputs)

    return function


# Values and advantages.

_BASELINES: dict[str, Callable[[Array], Array]] = {
    "adv-baseline-max": lambda Q: Q - Q.max(axis=1, keepdims=True),
    "adv-baseline-mean": lambda Q: Q - Q.mean(axis=1, keepdims=True),
    "adv-q-for-a": lambda Q: Q,
}


def _other_advantages(form: Callable[[Array], Array]) -> Function:
    def function(transition: Array, reward: Array, gamma: float, probabilities: Array) -> Any:
        right = _evaluate(World(transition, gamma, reward), probabilities)
        return right._replace(advantages=form(right.action_values))._asdict()

    return function


def _reward_late(transition: Array, reward: Array, gamma: float, probabilities: Array) -> Any:
    return _policy_evaluation(_visits, transition, gamma * reward, gamma, probabilities)


def _greedy(transition: Array, reward: Array, gamma: float, probabilities: Array) -> Any:
    """V = max_a Q to its fixed point, by policy iteration."""
    world, choices = World(transition, gamma, reward), np.zeros(len(reward), dtype=np.int64)
    for _ in range(reward.size):
        found = _evaluate(world, np.eye(reward.shape[1], dtype=reward.dtype)[choices])
        best = found.advantages.max(axis=1)
        better = np.where(best > 1e-5 * np.abs(found.values).max(), found.advantages.argmax(axis=1), choices)
        if (better == choices).all():
            break
        choices = better
    return found._asdict()


# Returns, differences, gradients.


def _of_world(form: Callable[[World, Array], Any]) -> Function:
    return lambda probabilities, **world: form(World(**world), probabilities)


def _of_two(form: Callable[[World, Array, Array], Any]) -> Function:
    return lambda old_probabilities, new_probabilities, **world: form(
        World(**world), old_probabilities, new_probabilities
    )


def _of_softmax(form: Callable[[World, Array, Array, Evaluation], Array]) -> Function:
    """A gradient from the world, π, ρ and the evaluation of π."""

    def function(logits: Array, **world: Any) -> Array:
        w, pi = World(**world), softmax(logits, axis=1)
        return form(w, pi, _visitation(w, pi)[:, None], _evaluate(w, pi))

    return function


def _difference_of(form: Callable[[Array], Array]) -> Function:
    return _of_two(lambda w, old, new: _seen(_visitation(w, new), new, form(_evaluate(w, old).action_values)))


def _approximation_of(form: Callable[[Array], Array]) -> Function:
    return _of_two(
        lambda w, old, new: _return(w, old) + _seen(_visitation(w, old), new, form(_evaluate(w, old).action_values))
    )


def _gradient_of(form: Callable[[Array], Array]) -> Function:
    return _of_softmax(lambda w, pi, rho, at: rho * pi * form(at.action_values))


def _new_advantages(w: World, old: Array, new: Array) -> Any:
    return _seen(_visitation(w, new), new, _evaluate(w, new).advantages)


_SURROGATES: dict[str, Callable[[World, Array, Array], Any]] = {
    "surrogate-new-visitation": lambda w, old, new: (
        _return(w, old) + _seen(_visitation(w, new), new, _evaluate(w, old).advantages)
    ),
    "surrogate-without-return": _gain,
    "pdl-missing-factor": lambda w, old, new: _return(w, old) + (1 - w.gamma) * _gain(w, old, new),
}


# Divergences.


def _distances(form: Callable[[Array], Array]) -> Function:
    """A distance by state from |π − π'|, and the largest."""

    def function(old_probabilities: Array, new_probabilities: Array) -> dict[str, Any]:
        distances = form(np.abs(old_probabilities - new_probabilities))
        return {"total_variation": distances, "max_total_variation": distances.max()}

    return function


def _total_variation(old: Array, new: Array) -> Array:
    distances: Array = 0.5 * np.abs(old - new).sum(axis=1)
    return distances


def _mean_distance(old_probabilities: Array, new_probabilities: Array) -> dict[str, Any]:
    distances = _total_variation(old_probabilities, new_probabilities)
    return {"total_variation": distances, "max_total_variation": distances.mean()}


def _directed(conventions: Conventions, old: Array, new: Array) -> tuple[Array, Array]:
    return (old, new) if conventions["kl.direction"] == "old_new" else (new, old)


def _kl(p: Array, q: Array) -> Array:
    terms = p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, q, 1))
    return terms.sum(axis=1)


def _cross_entropy(p: Array, q: Array) -> Array:
    return -(p * np.log(np.where(p > 0, q, 1))).sum(axis=1)


def _kl_with_epsilon(p: Array, q: Array) -> Array:
    return (p * np.log((p + 1e-6) / (q + 1e-6))).sum(axis=1)


def _kl_without_guard(p: Array, q: Array) -> Array:
    return (p * np.log(p / q)).sum(axis=1)


def _divergence(
    kl: Callable[[Array, Array], Array] = _kl,
    summary: Callable[[Array, Array], dict[str, Any]] = lambda weights, kl: {},
) -> Function:
    """Another KL, or from the weights of the states and the right KL another summary of it."""

    def function(
        conventions: Conventions, old_probabilities: Array, new_probabilities: Array, state_weights: Array
    ) -> dict[str, Any]:
        found = kl(*_directed(conventions, old_probabilities, new_probabilities))
        right = {"kl": found, "max_kl": found.max(), "mean_kl": state_weights @ found}
        return right | summary(state_weights, found)

    return function


# Bounds.


def _coefficient(
    factor: Callable[[float], float] = lambda gamma: 4 * gamma / (1 - gamma) ** 2,
    epsilon: Callable[[Array], Any] = lambda A: np.abs(A).max(),
) -> Function:
    return lambda advantages, gamma: epsilon(advantages) * factor(gamma)


class Ingredients(NamedTuple):
    """What the bounds are made of.

    Fields: ``surrogate`` L; ``epsilon`` max |A|; ``epsilon_new`` max |Σ_a π'A|; ``drift`` γ/(1 − γ)²; ``max_kl`` and
    ``max_tv`` over the states; ``mean_tv`` over those the old policy visits.
    """

    surrogate: Any
    epsilon: Any
    epsilon_new: Any
    drift: float
    max_kl: Any
    max_tv: Any
    mean_tv: Any


def _ingredients(w: World, old: Array, new: Array) -> Ingredients:
    A, tv = _evaluate(w, old).advantages, _total_variation(old, new)
    return Ingredients(
        surrogate=_return(w, old) + _gain(w, old, new),
        epsilon=np.abs(A).max(),
        epsilon_new=np.abs((new * A).sum(axis=1)).max(),
        drift=w.gamma / (1 - w.gamma) ** 2,
        max_kl=_kl(old, new).max(),
        max_tv=tv.max(),
        mean_tv=(1 - w.gamma) * (_visitation(w, old) @ tv),
    )


def _lower(i: Ingredients) -> dict[str, Any]:
    return {
        "trpo_kl": i.surrogate - 4 * i.epsilon * i.drift * i.max_kl,
        "trpo_tv": i.surrogate - 4 * i.epsilon * i.drift * i.max_tv**2,
        "pinsker": i.surrogate - 2 * i.epsilon * i.drift * i.max_kl,
        "cpo": i.surrogate - 2 * i.epsilon_new * i.drift * i.mean_tv,
    }


def _bounds(**changes: Callable[[World, Array, Array, Ingredients], Any]) -> Function:
    """The bounds with some ingredients replaced."""

    def lower(w: World, old: Array, new: Array) -> dict[str, Any]:
        right = _ingredients(w, old, new)
        return _lower(right._replace(**{name: change(w, old, new, right) for name, change in changes.items()}))

    return _of_two(lower)


def _bounds_around(surrogate: Callable[[World, Array, Array], Any]) -> Function:
    return _bounds(surrogate=lambda w, old, new, right: surrogate(w, old, new))


def _bounds_after(change: Callable[[Ingredients], dict[str, Any]]) -> Function:
    """Some bounds replaced."""

    def lower(w: World, old: Array, new: Array) -> dict[str, Any]:
        right = _ingredients(w, old, new)
        return _lower(right) | change(right)

    return _of_two(lower)


def _two_for_four(i: Ingredients) -> dict[str, Any]:
    penalty = 2 * i.epsilon * i.drift
    return {"trpo_kl": i.surrogate - penalty * i.max_kl, "trpo_tv": i.surrogate - penalty * i.max_tv**2}


def _penalty_added(i: Ingredients) -> dict[str, Any]:
    return {name: 2 * i.surrogate - bound for name, bound in _lower(i).items()}


def _tv_not_squared(i: Ingredients) -> dict[str, Any]:
    return {"trpo_tv": i.surrogate - 4 * i.epsilon * i.drift * i.max_tv}


# Steps.


class Row(NamedTuple):
    """The best ``probabilities`` of each state inside a KL ball, with their ``kl`` and ``multiplier``."""

    probabilities: Array
    kl: Array
    multiplier: Array


Rows = Callable[[Array, Array, Array], Row]  # of p, A and an unknown per state that falls as the radius grows


def _by_gap(p: Array, A: Array, t: Array) -> Row:
    away = (A.max(axis=1) + np.exp(t))[:, None] - A
    multiplier = 1 / (p / away).sum(axis=1)
    pi = multiplier[:, None] * p / away
    return Row(pi, _kl(p, np.where(p > 0, pi, 1)), multiplier)


def _by_tilting(p: Array, A: Array, t: Array) -> Row:
    pi = softmax(np.log(np.where(p > 0, p, SMALLEST)) + A / np.exp(t)[:, None], axis=1)
    return Row(pi, _kl(pi, np.where(p > 0, p, SMALLEST)), np.exp(t))


def _halved(falling: Callable[[Array], Array], target: Any, size: int) -> Array:
    """Where falling functions take values, by halving."""
    low, high = np.full(size, -40.0), np.full(size, 40.0)
    for _ in range(64):
        middle = (low + high) / 2
        above = falling(middle) > target
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return low


def _mm_step(rows: Rows = _by_gap, weights: Callable[[Array], Array] = lambda rho: rho) -> Function:
    """One radius for all states, where the last bit of it gains what it costs."""

    def function(old_probabilities: Array, advantages: Array, visitation: Array, penalty: float) -> dict[str, Any]:
        p, A, rho = (np.asarray(x, np.float64) for x in (old_probabilities, advantages, weights(visitation)))

        def inside(log_kl: Array) -> Row:
            return rows(p, A, _halved(lambda t: rows(p, A, t).kl, np.exp(log_kl), len(p)))

        log_kl = _halved(lambda log_kl: rho @ inside(log_kl).multiplier, penalty, 1)
        found = inside(log_kl)
        return {"probabilities": found.probabilities, "max_kl": found.kl.max()}

    return function


def _at_price(price: Callable[[float, Array], Array | float]) -> Function:
    """Every state for itself, at a price made of C and ρ."""

    def function(old_probabilities: Array, advantages: Array, visitation: Array, penalty: float) -> dict[str, Any]:
        p, A, rho = (np.asarray(x, np.float64) for x in (old_probabilities, advantages, visitation))
        gains = rho > 0  # what gains nothing is not paid for
        p_there, A_there, asked = p[gains], A[gains], price(float(penalty), rho[gains])
        t = _halved(lambda t: -_by_gap(p_there, A_there, t).multiplier, -asked, len(p_there))
        found = _by_gap(p_there, A_there, t)
        table = p.copy()
        table[gains] = found.probabilities
        return {"probabilities": table, "max_kl": found.kl.max()}

    return function


def _dual(change: Callable[[dict[str, Any], float], dict[str, Any]] = lambda right, delta: {}) -> Function:
    """The solution of the trust-region problem, changed, from what is right and δ."""

    def function(matrix: Array, gradient: Array, max_kl: float) -> dict[str, Any]:
        x = np.linalg.solve(matrix, gradient)
        beta = np.sqrt(gradient @ x / (2 * max_kl))
        right = {"step": x / beta, "multiplier": beta, "value": gradient @ x / beta}
        return right | change(right, max_kl)

    return function


def _without_two(right: dict[str, Any], delta: float) -> dict[str, Any]:
    return {
        "step": right["step"] / math.sqrt(2),
        "multiplier": right["multiplier"] * math.sqrt(2),
        "value": right["value"] / math.sqrt(2),
    }


# The table, and the right programs.

RIGHT: dict[str, Function] = {
    "policy_evaluation": partial(_policy_evaluation, _visits),
    "visitation": partial(_visited, _visits),
    "expected_return": partial(_expected_return, _visits),
    "performance_difference": partial(_performance_difference, _visits),
    "local_approximation": partial(_local_approximation, _visits),
    "softmax_policy_gradient": partial(_softmax_policy_gradient, _visits),
    "policy_total_variation": _distances(lambda gaps: 0.5 * gaps.sum(axis=1)),
    "policy_kl": _divergence(),
    "penalty_coefficient": _coefficient(),
    "lower_bounds": _bounds(),
    "mm_step": _mm_step(),
    "trust_region_dual": _dual(),
}


def _with(program: Function, *bugs: str) -> dict[str, Function]:
    visits = {
        "mdp-transposed": _transposed,
        "mdp-actions-averaged": _actions_averaged,
        "visits-without-start": _start_not_counted,
    }
    from_anywhere = {"mdp-uniform-start": _from_anywhere(program)} if "mdp-uniform-start" in bugs else {}
    return {bug: partial(program, visits[bug]) for bug in bugs if bug in visits} | from_anywhere


WRONG: dict[str, dict[str, Function]] = {
    "policy_evaluation": _with(_policy_evaluation, "mdp-transposed", "mdp-actions-averaged")
    | {bug: _other_advantages(form) for bug, form in _BASELINES.items()}
    | {"mdp-reward-late": _reward_late, "mdp-greedy-values": _greedy},
    "visitation": _with(
        _visited, "mdp-transposed", "mdp-actions-averaged", "visits-without-start", "mdp-uniform-start"
    ),
    "expected_return": _with(
        _expected_return, "mdp-transposed", "mdp-actions-averaged", "visits-without-start", "mdp-uniform-start"
    )
    | {
        "mdp-reward-late": _of_world(lambda w, pi: w.gamma * _return(w, pi)),
        "return-normalised": _of_world(lambda w, pi: (1 - w.gamma) * _return(w, pi)),
    },
    "performance_difference": _with(_performance_difference, "mdp-transposed", "mdp-uniform-start")
    | {bug: _difference_of(form) for bug, form in _BASELINES.items()}
    | {
        "pdl-missing-factor": _of_two(lambda w, old, new: (1 - w.gamma) * (_return(w, new) - _return(w, old))),
        "pdl-old-visitation": _of_two(_gain),
        "pdl-new-advantages": _of_two(_new_advantages),
        "pdl-sign": _of_two(lambda w, old, new: _return(w, old) - _return(w, new)),
    },
    "local_approximation": _with(_local_approximation, "mdp-transposed", "mdp-uniform-start")
    | {bug: _approximation_of(form) for bug, form in _BASELINES.items()}
    | {bug: _of_two(form) for bug, form in _SURROGATES.items()}
    | {"surrogate-old-actions": _of_two(lambda w, old, new: _return(w, old) + _gain(w, old, old))},
    "softmax_policy_gradient": _with(_softmax_policy_gradient, "mdp-transposed", "mdp-uniform-start")
    | {bug: _gradient_of(form) for bug, form in _BASELINES.items()}
    | {
        "pdl-missing-factor": _of_softmax(lambda w, pi, rho, at: (1 - w.gamma) * rho * pi * at.advantages),
        "pg-no-visitation": _of_softmax(lambda w, pi, rho, at: pi * at.advantages),
        "pg-first-state-only": _of_softmax(lambda w, pi, rho, at: np.reshape(w.start, (-1, 1)) * pi * at.advantages),
        "pg-no-probability": _of_softmax(lambda w, pi, rho, at: rho * at.advantages),
        "pg-wrong-sign": _of_softmax(lambda w, pi, rho, at: -rho * pi * at.advantages),
    },
    "policy_total_variation": {
        "tv-no-half": _distances(lambda gaps: gaps.sum(axis=1)),
        "tv-largest-entry": _distances(lambda gaps: gaps.max(axis=1)),
        "mm-mean-tv": _mean_distance,
    },
    "policy_kl": {
        "mm-mean-kl": _divergence(summary=lambda weights, kl: {"max_kl": weights @ kl}),
        "kl-uniform-mean": _divergence(summary=lambda weights, kl: {"mean_kl": kl.mean()}),
        "kl-in-bits": _divergence(lambda p, q: _kl(p, q) / math.log(2)),
        "kl-cross-entropy": _divergence(_cross_entropy),
        "cat-kl-eps": _divergence(_kl_with_epsilon),
        "ent-masked-nan": _divergence(_kl_without_guard),
    },
    "penalty_coefficient": {
        "mm-constant": _coefficient(lambda gamma: 4 * gamma / (1 - gamma)),
        "mm-gamma-missing": _coefficient(lambda gamma: 4 / (1 - gamma) ** 2),
        "mm-two-for-four": _coefficient(lambda gamma: 2 * gamma / (1 - gamma) ** 2),
        "mm-epsilon-signed": _coefficient(epsilon=lambda A: A.max()),
        "mm-epsilon-mean": _coefficient(epsilon=lambda A: np.abs(A).mean()),
    },
    "lower_bounds": {
        "mm-constant": _bounds(drift=lambda w, old, new, right: w.gamma / (1 - w.gamma)),
        "mm-gamma-missing": _bounds(drift=lambda w, old, new, right: 1 / (1 - w.gamma) ** 2),
        "mm-epsilon-signed": _bounds(epsilon=lambda w, old, new, right: _evaluate(w, old).advantages.max()),
        "mm-epsilon-expected": _bounds(epsilon=lambda w, old, new, right: right.epsilon_new),
        "mm-mean-kl": _bounds(max_kl=lambda w, old, new, right: (1 - w.gamma) * (_visitation(w, old) @ _kl(old, new))),
        "mm-mean-tv": _bounds(max_tv=lambda w, old, new, right: right.mean_tv),
        "kl-reversed": _bounds(max_kl=lambda w, old, new, right: _kl(new, old).max()),
        "tv-no-half": _bounds(
            max_tv=lambda w, old, new, right: 2 * right.max_tv, mean_tv=lambda w, old, new, right: 2 * right.mean_tv
        ),
        "cpo-unnormalised": _bounds(mean_tv=lambda w, old, new, right: right.mean_tv / (1 - w.gamma)),
        "cpo-new-visitation": _bounds(
            mean_tv=lambda w, old, new, right: (1 - w.gamma) * (_visitation(w, new) @ _total_variation(old, new))
        ),
        "mm-two-for-four": _bounds_after(_two_for_four),
        "mm-penalty-added": _bounds_after(_penalty_added),
        "mm-tv-not-squared": _bounds_after(_tv_not_squared),
    }
    | {bug: _bounds_around(form) for bug, form in _SURROGATES.items()},
    "mm_step": {
        "kl-reversed": _mm_step(_by_tilting),
        "mm-mean-kl": _at_price(lambda C, rho: C / rho.sum()),
        "mm-sum-kl": _at_price(lambda C, rho: C / rho),
        "pdl-missing-factor": _mm_step(weights=lambda rho: rho / rho.sum()),
        "mm-no-visitation": _mm_step(weights=np.ones_like),
    },
    "trust_region_dual": {
        "step-missing-2": _dual(_without_two),
        "dual-multiplier-inverted": _dual(lambda right, delta: {"multiplier": 1 / right["multiplier"]}),
        "dual-half-of-value": _dual(lambda right, delta: {"value": right["multiplier"] * delta}),
        "pg-wrong-sign": _dual(lambda right, delta: {"step": -right["step"], "value": -right["value"]}),
    },
}
