"""Laws of finite MDPs: values, visits, the return, and what it is to first order."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.law import Gap, equal, law
from refpg.conformance.laws.rounding import Rounded, log, rounded

World = Mapping[str, Any]


def _values(f: Answers, world: World, pi: Any) -> tuple[Rounded, Rounded, Rounded]:
    """V, Q, A; where it starts is no input."""
    rest = {name: world[name] for name in ("transition", "reward", "gamma")}
    found = f("policy_evaluation", **rest, probabilities=pi)
    return found["values"], found["action_values"], found["advantages"]


def _visits(f: Answers, world: World, pi: Any) -> Rounded:
    """ρ of sum 1/(1 − γ), whatever is declared; what is paid is no input."""
    rest = {name: world[name] for name in ("transition", "start", "gamma")}
    rho: Rounded = f("visitation", **rest, probabilities=pi)
    return rho / (1 - world["gamma"]) if f.conventions["visitation.normalisation"] == "normalised" else rho


def _return(f: Answers, world: World, pi: Any) -> Rounded:
    answer: Rounded = f("expected_return", **world, probabilities=pi)
    return answer


def _of_two(f: Answers, op: str, world: World, old: Any, new: Any) -> Rounded:
    answer: Rounded = f(op, **world, old_probabilities=old, new_probabilities=new)
    return answer


def _gradient(f: Answers, world: World, logits: Any) -> Rounded:
    answer: Rounded = f("softmax_policy_gradient", **world, logits=logits)
    return answer


def _chain(world: World, pi: Any) -> Any:
    """P_π, exact: eighths of eighths."""
    return (pi[:, :, None] * world["transition"]).sum(axis=1)


def _standing_still(world: World) -> dict[str, Any]:
    """The same rewards in a world that stays in its state, whatever is done."""
    states, actions, _ = world["transition"].shape
    return {**world, "transition": np.tile(np.eye(states)[:, None, :], (1, actions, 1))}


# Values and visits.


@law(
    source="[TRPO section 2]",
    ops=("policy_evaluation",),
    draw="mdps",
    blind="nothing of values that are finite: the equations have one solution",
)
def values_obey_the_bellman_equations(f: Answers, world: Any, probabilities: Any) -> Iterator[Gap]:
    """Q = r + γPV, V = Σ_a π Q, and A = Q − V."""
    V, Q, A = _values(f, world, probabilities)
    yield equal(Q, world["reward"] + world["gamma"] * (rounded(world["transition"]) @ V))
    yield equal(V, (probabilities * Q).sum(axis=1))
    yield equal(A, Q - V[:, None])


@law(
    source="[TRPO section 2]",
    ops=("policy_evaluation",),
    draw="mdps",
    blind="values that are wrong together with their advantages",
)
def advantages_average_to_nothing(f: Answers, world: Any, probabilities: Any) -> Iterator[Gap]:
    """Σ_a π(a|s) A(s,a) = 0 in every state."""
    _, _, A = _values(f, world, probabilities)
    yield equal((probabilities * A).sum(axis=1), 0.0)


@law(
    source="[SB section 3.5]",
    ops=("policy_evaluation",),
    draw="mdps",
    blind="where the rewards lead, if every state is visited as often as it should be in all",
)
def a_constant_reward_is_earned_for_ever(
    f: Answers, world: Any, probabilities: Any, shift: float, factor: float
) -> Iterator[Gap]:
    """Rewards κr + c give κV + c/(1 − γ), likewise Q, and κA."""
    V, Q, A = _values(f, world, probabilities)
    other = _values(f, {**world, "reward": factor * world["reward"] + shift}, probabilities)
    for_ever = rounded(shift) / (1 - world["gamma"])
    for found, expected in zip(other, (factor * V + for_ever, factor * Q + for_ever, factor * A), strict=True):
        yield equal(found, expected)


@law(
    source="[GAE section 4]",
    ops=("policy_evaluation",),
    draw="mdps",
    blind="a factor common to all values and rewards",
)
def shaping_takes_the_potential_off_the_values(
    f: Answers, world: Any, probabilities: Any, potential: Any
) -> Iterator[Gap]:
    """Rewards r + γPΦ − Φ give V − Φ and Q − Φ, and leave A as it is."""
    later = rounded(world["transition"]) @ rounded(potential)
    shaped = rounded(world["reward"]) + world["gamma"] * later - potential[:, None]
    V, Q, A = _values(f, world, probabilities)
    found = _values(f, {**world, "reward": shaped}, probabilities)
    for one, expected in zip(found, (V - potential, Q - potential[:, None], A), strict=True):
        yield equal(one, expected)


@law(
    source="[TRPO section 2]",
    ops=("visitation",),
    draw="mdps",
    blind="nothing of visits that are finite: the equation has one solution",
)
def visits_flow_from_state_to_state(f: Answers, world: Any, probabilities: Any) -> Iterator[Gap]:
    """ρ = ρ₀ + γP_πᵀρ, so that Σ_s ρ(s) = 1/(1 − γ)."""
    rho = _visits(f, world, probabilities)
    yield equal(rho, world["start"] + world["gamma"] * (_chain(world, probabilities).T @ rho))
    yield equal(rho.sum(), 1 / rounded(1 - world["gamma"]))


# The return.


@law(
    source="[TRPO section 2]",
    ops=("expected_return",),
    draw="mdps",
    blind="nothing of a return that is bounded",
)
def the_return_is_a_reward_and_the_return_of_what_follows(f: Answers, world: Any, probabilities: Any) -> Iterator[Gap]:
    """η from ρ₀ is the expected first reward, and γ times η from P_πᵀρ₀."""
    paid = (rounded(world["start"])[:, None] * probabilities * world["reward"]).sum()
    later = {**world, "start": world["start"] @ _chain(world, probabilities)}
    yield equal(_return(f, world, probabilities), paid + world["gamma"] * _return(f, later, probabilities))


@law(
    source="[TRPO section 2]",
    ops=("expected_return", "policy_evaluation"),
    draw="mdps",
    blind="what is wrong with both",
)
def the_return_is_the_value_of_the_start(f: Answers, world: Any, probabilities: Any) -> Iterator[Gap]:
    """η = Σ_s ρ₀(s) V(s)."""
    V, _, _ = _values(f, world, probabilities)
    yield equal(_return(f, world, probabilities), (world["start"] * V).sum())


@law(
    source="[TRPO section 2]",
    ops=("expected_return", "visitation"),
    draw="mdps",
    blind="what is wrong with both",
)
def the_return_is_what_the_visits_are_paid(f: Answers, world: Any, probabilities: Any) -> Iterator[Gap]:
    """η = Σ_s ρ(s) Σ_a π(a|s) r(s,a), the visits not normalised."""
    rho = _visits(f, world, probabilities)
    yield equal(_return(f, world, probabilities), (rho[:, None] * probabilities * world["reward"]).sum())


# The difference of two returns.


@law(
    source="[KL02]",
    ops=("performance_difference",),
    draw="mdps",
    blind="any difference of two numbers, each of one policy",
)
def performance_differences_add_up(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any, other_probabilities: Any
) -> Iterator[Gap]:
    """From π to π' and from π' to π″ is from π to π″, and from π to itself is nothing."""
    first, second, third = probabilities, new_probabilities, other_probabilities

    def difference(old: Any, new: Any) -> Rounded:
        return _of_two(f, "performance_difference", world, old, new)

    yield equal(difference(first, second) + difference(second, third), difference(first, third))
    yield equal(difference(first, first), 0.0)


@law(
    source="[TRPO (1)]",
    ops=("performance_difference",),
    draw="mdps",
    blind="all that moving from state to state does",
)
def performance_difference_where_nothing_moves(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any
) -> Iterator[Gap]:
    """In a world that stays in its state, η' − η = Σ_s ρ₀ Σ_a (π' − π) r / (1 − γ)."""
    found = _of_two(f, "performance_difference", _standing_still(world), probabilities, new_probabilities)
    yield equal(found, _more_paid(world, probabilities, new_probabilities))


def _more_paid(world: World, old: Any, new: Any) -> Rounded:
    paid = (rounded(world["start"])[:, None] * (new - old) * world["reward"]).sum()
    return paid / (1 - world["gamma"])


@law(
    source="[TRPO (1)]",
    ops=("performance_difference", "expected_return"),
    draw="mdps",
    blind="what is wrong with both",
)
def performance_difference_is_that_of_the_returns(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any
) -> Iterator[Gap]:
    """What is called a difference of returns is one."""
    before, after = (_return(f, world, pi) for pi in (probabilities, new_probabilities))
    found = _of_two(f, "performance_difference", world, probabilities, new_probabilities)
    yield equal(found, after - before)


@law(
    source="[TRPO (2)]",
    ops=("performance_difference", "visitation", "policy_evaluation"),
    draw="mdps",
    blind="what is wrong with the visits or the advantages",
)
def performance_difference_is_old_advantage_on_new_visits(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any
) -> Iterator[Gap]:
    """η' − η = Σ_s ρ'(s) Σ_a π'(a|s) A(s,a)."""
    _, _, A = _values(f, world, probabilities)
    rho = _visits(f, world, new_probabilities)
    found = _of_two(f, "performance_difference", world, probabilities, new_probabilities)
    yield equal(found, (rho * (new_probabilities * A).sum(axis=1)).sum())


# The return to first order.


@law(
    source="[TRPO (3)]",
    ops=("local_approximation",),
    draw="mdps",
    blind="its slope, if it has only one, and its value at the old policy",
)
def the_approximation_is_linear_in_the_new_policy(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any, other_probabilities: Any
) -> Iterator[Gap]:
    """L of the policy midway between two is midway between their L."""
    one, other, midway = (
        _of_two(f, "local_approximation", world, probabilities, new)
        for new in (new_probabilities, other_probabilities, (new_probabilities + other_probabilities) / 2)
    )
    yield equal(midway, (one + other) / 2)


@law(
    source="[TRPO (3)]",
    ops=("local_approximation",),
    draw="mdps",
    blind="all that moving from state to state does",
)
def the_approximation_is_exact_where_nothing_moves(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any
) -> Iterator[Gap]:
    """In a world that stays in its state, L_π(π') = Σ_s ρ₀ Σ_a π' r / (1 − γ)."""
    found = _of_two(f, "local_approximation", _standing_still(world), probabilities, new_probabilities)
    yield equal(found, _more_paid(world, 0.0, new_probabilities))


@law(
    source="[TRPO (3)]",
    ops=("local_approximation", "expected_return", "visitation", "policy_evaluation"),
    draw="mdps",
    blind="what is wrong with the return, the visits or the advantages",
)
def the_approximation_is_old_advantage_on_old_visits(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any
) -> Iterator[Gap]:
    """L_π(π') = η + Σ_s ρ(s) Σ_a π'(a|s) A(s,a)."""
    _, _, A = _values(f, world, probabilities)
    gain = (_visits(f, world, probabilities) * (new_probabilities * A).sum(axis=1)).sum()
    found = _of_two(f, "local_approximation", world, probabilities, new_probabilities)
    yield equal(found, _return(f, world, probabilities) + gain)


def _in_one_state(old: Any, new: Any, state: int) -> Any:
    changed = old.copy()
    changed[state % len(old)] = new[state % len(old)]
    return changed


def _slope(f: Answers, world: World, old: Any, new: Any, slope: Rounded) -> Gap:
    """Gap of a slope of η at the old policy towards a new one that differs in one state.

    ::

        η(π + t(π' − π)) − η(π) = t s / (1 − t d) = D_t,    so that s (D_1 − D_½) = D_1 D_½

    for a change of one row of P_π changes (I − γP_π)⁻¹ by a matrix of rank one: no limit has to be taken.
    """
    eta = _return(f, world, old)
    half, whole = (_return(f, world, pi) - eta for pi in ((old + new) / 2, new))
    return equal(slope * (whole - half), whole * half)


@law(
    source="[TRPO (4)]",
    ops=("local_approximation", "expected_return"),
    draw="mdps",
    blind="the difference between L and η beyond first order",
)
def the_approximation_touches_the_return(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any, state: int
) -> Iterator[Gap]:
    """At the old policy L is η and has the slope of η."""
    new = _in_one_state(probabilities, new_probabilities, state)
    at_old = _of_two(f, "local_approximation", world, probabilities, probabilities)
    yield equal(at_old, _return(f, world, probabilities))
    rise = _of_two(f, "local_approximation", world, probabilities, new) - at_old
    yield _slope(f, world, probabilities, new, rise)


@law(
    source="[TRPO (4)]",
    ops=("softmax_policy_gradient",),
    draw="mdps",
    blind="a factor of each state",
)
def the_policy_gradient_of_a_state_sums_to_nothing(f: Answers, world: Any, logits: Any) -> Iterator[Gap]:
    """Σ_a ∂η/∂z(s,a) = 0: a constant in the logits of a state changes nothing."""
    yield equal(_gradient(f, world, logits).sum(axis=1), 0.0)


@law(
    source="[AKLM]",
    ops=("softmax_policy_gradient",),
    draw="mdps",
    blind="all that moving from state to state does",
)
def the_policy_gradient_where_nothing_moves(f: Answers, world: Any, probabilities: Any) -> Iterator[Gap]:
    """In a world that stays in its state, ∂η/∂z(s,a) = ρ₀ π (r − Σ_b π r) / (1 − γ)."""
    pi, r = rounded(probabilities), rounded(world["reward"])
    found = _gradient(f, _standing_still(world), log(pi))
    better = r - (pi * r).sum(axis=1)[:, None]
    yield equal(found, world["start"][:, None] * pi * better / (1 - world["gamma"]))


@law(
    source="[AKLM]",
    ops=("softmax_policy_gradient", "visitation", "policy_evaluation"),
    draw="mdps",
    blind="what is wrong with the visits or the advantages",
)
def the_policy_gradient_is_advantage_on_visits(f: Answers, world: Any, probabilities: Any) -> Iterator[Gap]:
    """∂η/∂z(s,a) = ρ(s) π(a|s) A(s,a) of the policy softmax(z)."""
    _, _, A = _values(f, world, probabilities)
    found = _gradient(f, world, log(rounded(probabilities)))
    yield equal(found, _visits(f, world, probabilities)[:, None] * probabilities * A)


@law(
    source="[TRPO (4)]",
    ops=("softmax_policy_gradient", "expected_return"),
    draw="mdps",
    blind="what is wrong with the return",
)
def the_policy_gradient_is_the_slope_of_the_return(
    f: Answers, world: Any, probabilities: Any, state: int
) -> Iterator[Gap]:
    """∂η/∂z(s,a) is π(a|s) times the slope of η when the policy in s moves towards a."""
    s = state % len(probabilities)
    gradient = _gradient(f, world, log(rounded(probabilities)))
    for action, certain in enumerate(np.eye(probabilities.shape[1])):
        new = probabilities.copy()
        new[s] = certain
        yield _slope(f, world, probabilities, new, gradient[s, action] / probabilities[s, action])
