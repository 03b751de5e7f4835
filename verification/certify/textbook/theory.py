"""The profile `theory` as a practitioner writes it in NumPy: I − γP_π solved in five ways, expectations as sums."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from verification.certify.textbook.trpo import cholesky_solve, eliminate, rotated_solve

Array = Any
Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]
Operation = Callable[[Inputs, Conventions], Outputs]


# ── Values and visits ────────────────────────────────────────────────


def _identity(size: int, like: Array) -> Array:
    return np.eye(size, dtype=like.dtype)


def _chain(inputs: Inputs, pi: Array) -> Array:
    return np.einsum("sa,sat->st", pi, inputs["transition"])


def _mean_reward(inputs: Inputs, pi: Array) -> Array:
    return np.sum(pi * inputs["reward"], axis=1)


def _decay(inputs: Inputs, pi: Array) -> Array:
    return _identity(len(pi), pi) - inputs["gamma"] * _chain(inputs, pi)


def _values_by_elimination(inputs: Inputs, pi: Array) -> Array:
    return eliminate(_decay(inputs, pi), _mean_reward(inputs, pi))


def _visits_by_elimination(inputs: Inputs, pi: Array) -> Array:
    return eliminate(_decay(inputs, pi).T, inputs["start"])


def _pairs(inputs: Inputs, pi: Array) -> Array:
    """I − γM of (state, action) pairs."""
    size = pi.size
    M = (inputs["transition"][:, :, :, None] * pi).reshape(size, size)
    return _identity(size, pi) - inputs["gamma"] * M


def _values_by_pairs(inputs: Inputs, pi: Array) -> Array:
    Q = eliminate(_pairs(inputs, pi), inputs["reward"].reshape(-1)).reshape(pi.shape)
    return np.sum(pi * Q, axis=1)


def _visits_by_pairs(inputs: Inputs, pi: Array) -> Array:
    first = (inputs["start"][:, None] * pi).reshape(-1)
    return np.sum(eliminate(_pairs(inputs, pi).T, first).reshape(pi.shape), axis=1)


def _sum_over_time(inputs: Inputs, pi: Array) -> Array:
    """Σ_t (γP_π)ᵗ, the number of terms doubled until γᵗ has vanished."""
    power = inputs["gamma"] * _chain(inputs, pi)
    N, weight = _identity(len(pi), pi), float(inputs["gamma"])
    while weight > 1e-40:
        N, power, weight = N + N @ power, power @ power, weight**2
    return N


def _values_over_time(inputs: Inputs, pi: Array) -> Array:
    return _sum_over_time(inputs, pi) @ _mean_reward(inputs, pi)


def _visits_over_time(inputs: Inputs, pi: Array) -> Array:
    return inputs["start"] @ _sum_over_time(inputs, pi)


def _values_in_another_basis(inputs: Inputs, pi: Array) -> Array:
    return rotated_solve(_decay(inputs, pi), _mean_reward(inputs, pi))


def _visits_in_another_basis(inputs: Inputs, pi: Array) -> Array:
    return rotated_solve(_decay(inputs, pi).T, inputs["start"])


class Solver(NamedTuple):
    """A way to V and ρ."""

    name: str
    values: Callable[[Inputs, Array], Array]
    visits: Callable[[Inputs, Array], Array]


SOLVERS = (
    Solver("elimination of states", _values_by_elimination, _visits_by_elimination),
    Solver("elimination of (state, action) pairs", _values_by_pairs, _visits_by_pairs),
    Solver("sum over time", _values_over_time, _visits_over_time),
    Solver("elimination in another orthonormal basis", _values_in_another_basis, _visits_in_another_basis),
)


class Evaluation(NamedTuple):
    """V, Q and A."""

    values: Array
    action_values: Array
    advantages: Array


def _evaluated(inputs: Inputs, pi: Array, solver: Solver) -> Evaluation:
    """Q = r + γPV, A = Q − V."""
    V = solver.values(inputs, pi)
    Q = inputs["reward"] + inputs["gamma"] * np.einsum("sat,t->sa", inputs["transition"], V)
    return Evaluation(V, Q, Q - V[:, None])


# ── γ near 1: the level of V apart from its differences, ρ by its known sum ────────────────────────


def _leveled(inputs: Inputs, pi: Array) -> Evaluation:
    """(I − γP_π)h + c = r_π with h = 0 in the first state, c = (1 − γ)V there; A = r − c + γPh − h."""
    gamma, P = inputs["gamma"], inputs["transition"]
    system = _decay(inputs, pi)
    system[:, 0] = np.ones(len(pi), dtype=pi.dtype)
    solution = eliminate(system, _mean_reward(inputs, pi))
    c, h = solution[0], solution * (np.arange(len(pi)) > 0)
    V = h + c / (1 - gamma)
    A = inputs["reward"] - c + gamma * np.einsum("sat,t->sa", P, h) - h[:, None]
    return Evaluation(V, inputs["reward"] + gamma * np.einsum("sat,t->sa", P, V), A)


def _visits_by_their_sum(inputs: Inputs, pi: Array) -> Array:
    """The balance of all states but the first, and Σ ρ (1 − γ) = 1."""
    away = 1 - inputs["gamma"]
    system, right = _decay(inputs, pi).T.copy(), inputs["start"].copy() * away
    system[0] = np.ones(len(pi), dtype=pi.dtype)
    right[0] = 1.0
    return eliminate(system, right) / away


# ── One policy ────────────────────────────────────────────────


def _by_every_solver(operation: Callable[[Inputs, Conventions, Solver], Outputs]) -> tuple[Operation, ...]:
    """The operation with each solver, documented as such."""

    def made(solver: Solver) -> Operation:
        def run(inputs: Inputs, conventions: Conventions) -> Outputs:
            return operation(inputs, conventions, solver)

        run.__doc__ = f"{operation.__doc__}; {solver.name}"
        return run

    return tuple(made(solver) for solver in SOLVERS)


def policy_evaluation(inputs: Inputs, conventions: Conventions, solver: Solver) -> Outputs:
    """V = r_π + γP_π V, A = Q − V"""
    return _evaluated(inputs, inputs["probabilities"], solver)._asdict()


def policy_evaluation_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """differences of V from the first state and its level apart; A from the differences"""
    return _leveled(inputs, inputs["probabilities"])._asdict()


def _normalised(inputs: Inputs, conventions: Conventions, rho: Array) -> Outputs:
    normalised = conventions["visitation.normalisation"] == "normalised"
    return {"visitation": (1 - inputs["gamma"]) * rho if normalised else rho}


def visitation(inputs: Inputs, conventions: Conventions, solver: Solver) -> Outputs:
    """ρ = ρ₀ + γP_πᵀρ"""
    return _normalised(inputs, conventions, solver.visits(inputs, inputs["probabilities"]))


def visitation_by_its_sum(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the balance of all states but one, and the sum"""
    return _normalised(inputs, conventions, _visits_by_their_sum(inputs, inputs["probabilities"]))


def expected_return(inputs: Inputs, conventions: Conventions, solver: Solver) -> Outputs:
    """ρ₀ᵀV"""
    return {"expected_return": np.sum(inputs["start"] * solver.values(inputs, inputs["probabilities"]))}


def expected_return_of_visits(inputs: Inputs, conventions: Conventions, solver: Solver) -> Outputs:
    """ρᵀr_π"""
    pi = inputs["probabilities"]
    return {"expected_return": np.sum(solver.visits(inputs, pi) * _mean_reward(inputs, pi))}


def expected_return_by_its_level(inputs: Inputs, conventions: Conventions) -> Outputs:
    """ρ₀ᵀV, differences of V from the first state and its level apart"""
    return {"expected_return": np.sum(inputs["start"] * _leveled(inputs, inputs["probabilities"]).values)}


def _softmax(logits: Array) -> Array:
    e = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def softmax_policy_gradient(inputs: Inputs, conventions: Conventions, solver: Solver) -> Outputs:
    """ρ π (Q − V)"""
    pi = _softmax(inputs["logits"])
    return {"gradient": solver.visits(inputs, pi)[:, None] * pi * _evaluated(inputs, pi, solver).advantages}


def softmax_policy_gradient_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """ρ π A, A from differences of V, ρ by its sum"""
    pi = _softmax(inputs["logits"])
    return {"gradient": _visits_by_their_sum(inputs, pi)[:, None] * pi * _leveled(inputs, pi).advantages}


# ── Two policies ────────────────────────────────────────────────


def _both(inputs: Inputs) -> tuple[Array, Array]:
    return inputs["old_probabilities"], inputs["new_probabilities"]


def performance_difference(inputs: Inputs, conventions: Conventions, solver: Solver) -> Outputs:
    """ρ₀ᵀV' − ρ₀ᵀV"""
    before, after = (np.sum(inputs["start"] * solver.values(inputs, pi)) for pi in _both(inputs))
    return {"performance_difference": after - before}


def performance_difference_of_advantages(inputs: Inputs, conventions: Conventions, solver: Solver) -> Outputs:
    """Σ ρ' Σ π'A"""
    old, new = _both(inputs)
    gains = np.sum(new * _evaluated(inputs, old, solver).advantages, axis=1)
    return {"performance_difference": np.sum(solver.visits(inputs, new) * gains)}


def performance_difference_of_changes(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ ρ' Σ (π' − π)Q; elimination of states"""
    old, new = _both(inputs)
    gains = np.sum((new - old) * _evaluated(inputs, old, SOLVERS[0]).action_values, axis=1)
    return {"performance_difference": np.sum(_visits_by_elimination(inputs, new) * gains)}


def _approximated(inputs: Inputs, solver: Solver) -> tuple[Array, Array, Array]:
    """L, ρ and A."""
    old, new = _both(inputs)
    A, rho = _evaluated(inputs, old, solver).advantages, solver.visits(inputs, old)
    eta = np.sum(inputs["start"] * solver.values(inputs, old))
    return eta + np.sum(rho * np.sum(new * A, axis=1)), rho, A


def local_approximation(inputs: Inputs, conventions: Conventions, solver: Solver) -> Outputs:
    """η + Σ ρ Σ π'A"""
    return {"local_approximation": _approximated(inputs, solver)[0]}


def policy_total_variation(inputs: Inputs, conventions: Conventions) -> Outputs:
    """½ Σ |π − π'|"""
    old, new = _both(inputs)
    distances = 0.5 * np.sum(np.abs(old - new), axis=1)
    return {"total_variation": distances, "max_total_variation": np.max(distances)}


def policy_total_variation_by_overlap(inputs: Inputs, conventions: Conventions) -> Outputs:
    """1 − Σ min(π, π')"""
    old, new = _both(inputs)
    distances = 1 - np.sum(np.minimum(old, new), axis=1)
    return {"total_variation": distances, "max_total_variation": np.max(distances)}


def _kl(p: Array, q: Array) -> Array:
    """Σ p (log p − log q)"""
    return np.sum(np.where(p > 0, p * (np.log(np.where(p > 0, p, 1.0)) - np.log(np.where(p > 0, q, 1.0))), 0.0), axis=1)


def _kl_of_quotients(p: Array, q: Array) -> Array:
    """Σ p log(p/q)"""
    return np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / np.where(p > 0, q, 1.0)), 0.0), axis=1)


def _kl_of_changes(p: Array, q: Array) -> Array:
    """Σ p (x − log(q/p)) + (mass of q where p = 0), x = (q − p)/p; by its series where x is small"""
    taken = p > 0
    below = np.where(taken, p, 1.0)
    x, ratio = np.where(taken, (q - p) / below, 0.0), np.where(taken, q, 1.0) / below
    series = x * x * (0.5 - x * (1 / 3 - x * (0.25 - x * (0.2 - x / 6))))
    excess = np.where(np.abs(x) < 2.0**-10, series, x - np.log(ratio))
    return np.sum(np.where(taken, p * excess, q), axis=1)


def _divergences(form: Callable[[Array, Array], Array]) -> Operation:
    def run(inputs: Inputs, conventions: Conventions) -> Outputs:
        old, new = _both(inputs)
        kl = form(old, new) if conventions["kl.direction"] == "old_new" else form(new, old)
        return {"kl": kl, "max_kl": np.max(kl), "mean_kl": np.sum(inputs["state_weights"] * kl)}

    run.__doc__ = form.__doc__
    return run


# ── Bounds ────────────────────────────────────────────────


def penalty_coefficient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """4 max|A| γ/(1 − γ)²"""
    gamma = inputs["gamma"]
    return {"penalty_coefficient": 4 * np.max(np.abs(inputs["advantages"])) * gamma / (1 - gamma) ** 2}


def lower_bounds(inputs: Inputs, conventions: Conventions, solver: Solver) -> Outputs:
    """L less the penalties, Σ p (log p − log q)"""
    old, new = _both(inputs)
    gamma = inputs["gamma"]
    L, rho, A = _approximated(inputs, solver)
    distances, drift = 0.5 * np.sum(np.abs(old - new), axis=1), gamma / (1 - gamma) ** 2
    epsilon, expected = np.max(np.abs(A)), np.max(np.abs(np.sum(new * A, axis=1)))
    kl = np.max(_kl(old, new))
    return {
        "trpo_kl": L - 4 * epsilon * drift * kl,
        "trpo_tv": L - 4 * epsilon * drift * np.max(distances) ** 2,
        "pinsker": L - 2 * epsilon * drift * kl,
        "cpo": L - 2 * expected * drift * np.sum((1 - gamma) * rho * distances),
    }


# ── Steps ────────────────────────────────────────────────


def _kl_of_row(p: Array, away: Array, whole: Array, pi: Array) -> Array:
    """Σ p log(p/π)"""
    return np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / np.where(p > 0, pi, 1.0)), 0.0), axis=1)


def _kl_of_gaps(p: Array, away: Array, whole: Array, pi: Array) -> Array:
    """Σ p log(ν − A) + log Σ p/(ν − A)"""
    return np.sum(p * np.log(away), axis=1) + np.log(whole)


def _mm_step(kl_of: Callable[..., Array]) -> Operation:
    """Newton's method for log κ, and inside it for log(ν − max A) of every state."""

    def run(inputs: Inputs, conventions: Conventions) -> Outputs:
        p, A, rho, C = (inputs[name] for name in ("old_probabilities", "advantages", "visitation", "penalty"))
        below = np.max(A, axis=1)[:, None] - A
        variance = np.sum(p * below**2, axis=1) - np.sum(p * below, axis=1) ** 2
        log_kl = 2 * (np.log(np.sum(rho * np.sqrt(0.5 * variance))) - np.log(C))
        for _ in range(12):
            t = 0.5 * (np.log(variance) - log_kl)
            for _ in range(14):
                g = np.exp(t)
                away = below + g[:, None]
                whole, squares = np.sum(p / away, axis=1), np.sum(p / away**2, axis=1)
                pi = p / away / whole[:, None]
                kl = kl_of(p, away, whole, pi)
                slope = g * (whole - squares / whole)
                t = t - (np.log(kl) - log_kl) * kl / slope
            multiplier = 1 / whole
            gained = np.sum(rho * multiplier)
            growth = np.sum(rho * multiplier**2 * g * squares * kl / slope) / gained
            log_kl = log_kl - (np.log(gained) - np.log(C)) / growth
        return {"probabilities": pi, "max_kl": np.exp(log_kl)}

    run.__doc__ = f"Newton's method for log κ and log(ν − max A); {kl_of.__doc__}"
    return run


def trust_region_dual(inputs: Inputs, conventions: Conventions) -> Outputs:
    """elimination, β = √(gᵀx/2δ)"""
    g = inputs["gradient"]
    x = eliminate(inputs["matrix"], g)
    beta = np.sqrt(np.sum(g * x) / (2 * inputs["max_kl"]))
    return {"step": x / beta, "multiplier": beta, "value": np.sum(g * (x / beta))}


def trust_region_dual_by_length(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Cholesky, √(2δ/xᵀHx) x, the multiplier as the quotient of the value and 2δ"""
    g, H = inputs["gradient"], inputs["matrix"]
    x = cholesky_solve(H, g)
    step = np.sqrt(2 * inputs["max_kl"] / np.sum(x * (H @ x))) * x
    return {"step": step, "multiplier": np.sum(g * step) / (2 * inputs["max_kl"]), "value": np.sum(g * step)}


def trust_region_dual_rotated(inputs: Inputs, conventions: Conventions) -> Outputs:
    """solved in another basis, the value √(2δ gᵀx)"""
    g, delta = inputs["gradient"], inputs["max_kl"]
    x = rotated_solve(inputs["matrix"], g)
    value = np.sqrt(2 * delta * np.sum(g * x))
    return {"step": x * (2 * delta / value), "multiplier": value / (2 * delta), "value": value}


TEXTBOOK: dict[str, tuple[Operation, ...]] = {
    "policy_evaluation": (*_by_every_solver(policy_evaluation), policy_evaluation_by_differences),
    "visitation": (*_by_every_solver(visitation), visitation_by_its_sum),
    "expected_return": (
        *_by_every_solver(expected_return),
        *_by_every_solver(expected_return_of_visits),
        expected_return_by_its_level,
    ),
    "performance_difference": (
        *_by_every_solver(performance_difference),
        *_by_every_solver(performance_difference_of_advantages),
        performance_difference_of_changes,
    ),
    "local_approximation": _by_every_solver(local_approximation),
    "softmax_policy_gradient": (*_by_every_solver(softmax_policy_gradient), softmax_policy_gradient_by_differences),
    "policy_total_variation": (policy_total_variation, policy_total_variation_by_overlap),
    "policy_kl": (_divergences(_kl), _divergences(_kl_of_quotients), _divergences(_kl_of_changes)),
    "penalty_coefficient": (penalty_coefficient,),
    "lower_bounds": _by_every_solver(lower_bounds),
    "mm_step": (_mm_step(_kl_of_row), _mm_step(_kl_of_gaps)),
    "trust_region_dual": (trust_region_dual, trust_region_dual_by_length, trust_region_dual_rotated),
}
