"""Laws of divergences between tables, and of the lower bounds of the return."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.law import Gap, at_least, equal, law
from refpg.conformance.laws.rounding import Rounded, log, maximum, rounded, square

_BOUNDS = ("trpo_kl", "trpo_tv", "pinsker", "cpo")


def _tv(f: Answers, old: Any, new: Any) -> dict[str, Rounded]:
    answer: dict[str, Rounded] = f("policy_total_variation", old_probabilities=old, new_probabilities=new)
    return answer


def _kl(f: Answers, p: Any, q: Any, weights: Any = None) -> dict[str, Rounded]:
    """KL(p ‖ q), whichever of the two the implementation calls old."""
    old, new = (p, q) if f.conventions["kl.direction"] == "old_new" else (q, p)
    weights = np.eye(len(p))[0] if weights is None else weights
    answer: dict[str, Rounded] = f(
        "policy_kl", old_probabilities=old, new_probabilities=new, state_weights=weights
    )
    return answer


def _bounds(f: Answers, world: Mapping[str, Any], old: Any, new: Any) -> dict[str, Rounded]:
    answer: dict[str, Rounded] = f("lower_bounds", **world, old_probabilities=old, new_probabilities=new)
    return answer


def _return(f: Answers, world: Mapping[str, Any], pi: Any) -> Rounded:
    answer: Rounded = f("expected_return", **world, probabilities=pi)
    return answer


def _coefficient(f: Answers, advantages: Any, gamma: float) -> Rounded:
    answer: Rounded = f("penalty_coefficient", advantages=advantages, gamma=gamma)
    return answer


# Divergences.


@law(
    source="[TRPO Thm 1]",
    ops=("policy_total_variation",),
    draw="tables",
    blind="nothing of the distance",
)
def total_variation_is_the_probability_that_moves(
    f: Answers, old_probabilities: Any, new_probabilities: Any
) -> Iterator[Gap]:
    """What the new policy gives more to some actions it takes from the others; the largest is that of some state."""
    found = _tv(f, old_probabilities, new_probabilities)
    given = maximum(rounded(new_probabilities) - old_probabilities, 0.0)
    yield equal(found["total_variation"], given.sum(axis=1))
    yield equal(found["max_total_variation"], found["total_variation"].value.max())


@law(
    source="[TRPO Thm 1]",
    ops=("policy_total_variation",),
    draw="tables",
    blind="a factor below 1, or another distance",
)
def total_variation_is_a_distance(
    f: Answers, old_probabilities: Any, new_probabilities: Any, other_probabilities: Any
) -> Iterator[Gap]:
    """It is 0 to itself, the same there and back, no longer than by a detour, and at most 1."""
    first, second, third = old_probabilities, new_probabilities, other_probabilities
    way = _tv(f, first, second)["total_variation"]
    yield equal(_tv(f, first, first)["total_variation"], 0.0)
    yield equal(_tv(f, second, first)["total_variation"], way)
    yield at_least(_tv(f, first, third)["total_variation"] + _tv(f, third, second)["total_variation"], way)
    certain = np.eye(first.shape[1])
    apart = _tv(f, *(np.tile(one, (len(first), 1)) for one in certain[:2]))
    yield equal(apart["total_variation"], 1.0)


@law(
    source="[TRPO (9)]",
    ops=("policy_kl",),
    draw="tables",
    blind="a factor, such as that of another logarithm",
)
def kl_of_tables_is_not_negative(f: Answers, old_probabilities: Any, new_probabilities: Any) -> Iterator[Gap]:
    """KL(p ‖ q) ≥ 0, and KL(p ‖ p) = 0, also where an action has no probability."""
    yield at_least(_kl(f, old_probabilities, new_probabilities)["kl"], 0.0)
    yield equal(_kl(f, old_probabilities, old_probabilities)["kl"], 0.0)


@law(
    source="[TRPO (9)]",
    ops=("policy_kl",),
    draw="tables",
    blind="the entropy of the first policy, which has none here",
)
def kl_of_a_certain_action_is_its_surprise(f: Answers, new_probabilities: Any) -> Iterator[Gap]:
    """KL of a policy that is certain of a to q is −log q(a), in nats."""
    actions = new_probabilities.argmax(axis=1)
    certain = np.eye(new_probabilities.shape[1])[actions]
    q = new_probabilities[np.arange(len(actions)), actions]
    yield equal(_kl(f, certain, new_probabilities)["kl"], -log(rounded(q)))


@law(
    source="[TRPO (9)]",
    ops=("policy_kl",),
    draw="tables",
    blind="what is wrong with the KL of every state",
)
def largest_and_mean_kl_are_of_the_states(
    f: Answers, old_probabilities: Any, new_probabilities: Any, state_weights: Any
) -> Iterator[Gap]:
    """The largest is the largest of the states, the mean that with their weights."""
    found = _kl(f, old_probabilities, new_probabilities, state_weights)
    yield equal(found["max_kl"], found["kl"].value.max())
    yield equal(found["mean_kl"], (found["kl"] * state_weights).sum())


@law(
    source="[TRPO Thm 1]",
    ops=("policy_kl", "policy_total_variation"),
    draw="tables",
    blind="a KL that is too large, or a total variation that is too small",
)
def pinskers_inequality(f: Answers, old_probabilities: Any, new_probabilities: Any) -> Iterator[Gap]:
    """KL ≥ 2 TV² in every state, in both directions."""
    tv = _tv(f, old_probabilities, new_probabilities)["total_variation"]
    for pair in ((old_probabilities, new_probabilities), (new_probabilities, old_probabilities)):
        yield at_least(_kl(f, *pair)["kl"], 2 * square(tv))


# The penalty.


@law(
    source="[TRPO (9)]",
    ops=("penalty_coefficient",),
    draw="tables",
    blind="how it depends on γ",
)
def the_penalty_is_that_of_the_largest_advantage(
    f: Answers, advantages: Any, gamma: float, factor: float
) -> Iterator[Gap]:
    """C(−cA) = c C(A), and only the entry of largest size counts."""
    C = _coefficient(f, advantages, gamma)
    yield equal(_coefficient(f, -factor * advantages, gamma), factor * C)
    sizes = np.abs(advantages)
    yield equal(_coefficient(f, np.where(sizes == sizes.max(), advantages, 0.0), gamma), C)


@law(
    source="[TRPO (9)]",
    ops=("penalty_coefficient",),
    draw="tables",
    blind="a factor that does not depend on γ",
)
def the_penalty_grows_with_the_square_of_the_horizon(
    f: Answers, advantages: Any, gamma: float, other_gamma: float
) -> Iterator[Gap]:
    """C (1 − γ)²/γ is the same for every γ."""
    one, other = (
        _coefficient(f, advantages, g) * (1 - g) * (1 - g) / g for g in (gamma, other_gamma)
    )
    yield equal(one, other)


# Lower bounds.


@law(
    source="[TRPO (10)]",
    ops=("lower_bounds", "expected_return"),
    draw="mdps",
    blind="all penalties",
)
def bounds_touch_the_return_at_the_old_policy(f: Answers, world: Any, probabilities: Any) -> Iterator[Gap]:
    """M(π) = η(π) for each of the bounds: where nothing changes there is no penalty."""
    found, eta = _bounds(f, world, probabilities, probabilities), _return(f, world, probabilities)
    for name in _BOUNDS:
        yield equal(found[name], eta)


@law(
    source="[TRPO (10)]",
    ops=("lower_bounds", "expected_return"),
    draw="mdps",
    blind="bounds that are lower than they need be, and penalties that are too small by less than the room there is",
)
def no_bound_exceeds_the_return(f: Answers, world: Any, probabilities: Any, new_probabilities: Any) -> Iterator[Gap]:
    """η(π') ≥ M(π') for each of the bounds, which is why a step that raises M raises η."""
    found, eta = _bounds(f, world, probabilities, new_probabilities), _return(f, world, new_probabilities)
    for name in _BOUNDS:
        yield at_least(eta, found[name])


@law(
    source="[TRPO (9)]",
    ops=("lower_bounds",),
    draw="mdps",
    blind="the surrogate, and the bound of CPO",
)
def bounds_are_ordered(f: Answers, world: Any, probabilities: Any, new_probabilities: Any) -> Iterator[Gap]:
    """By Pinsker's inequality 2 TV² ≤ KL: that of TV is above that of Pinsker, which is above that of 2 KL."""
    found = _bounds(f, world, probabilities, new_probabilities)
    yield at_least(found["trpo_tv"], found["pinsker"])
    yield at_least(found["pinsker"], found["trpo_kl"])


@law(
    source="[TRPO (9)]",
    ops=("lower_bounds",),
    draw="mdps",
    blind="what is measured in rewards and knows no constant: a wrong penalty",
)
def bounds_follow_the_rewards(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any, shift: float, factor: float
) -> Iterator[Gap]:
    """Rewards κr + c give κM + c/(1 − γ)."""
    found = _bounds(f, world, probabilities, new_probabilities)
    other = _bounds(
        f, {**world, "reward": factor * world["reward"] + shift}, probabilities, new_probabilities
    )
    for name in _BOUNDS:
        yield equal(other[name], factor * found[name] + rounded(shift) / (1 - world["gamma"]))


@law(
    source="[TRPO (9)]",
    ops=(
        "lower_bounds",
        "local_approximation",
        "policy_evaluation",
        "policy_kl",
        "policy_total_variation",
        "penalty_coefficient",
    ),
    draw="mdps",
    blind="what is wrong with the surrogate, the advantages, the divergences or C",
)
def bounds_are_the_surrogate_less_a_penalty(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any
) -> Iterator[Gap]:
    """L − M is C max KL(π ‖ π'), half of it by Pinsker, or C (max TV)², with C of the old advantages."""
    old, new = probabilities, new_probabilities
    found, L = _bounds(f, world, old, new), _approximation(f, world, old, new)
    C = _coefficient(f, _advantages(f, world, old), world["gamma"])
    by_kl = C * _kl(f, old, new)["max_kl"]
    yield equal(L - found["trpo_kl"], by_kl)
    yield equal(L - found["pinsker"], by_kl / 2)
    yield equal(L - found["trpo_tv"], C * square(_tv(f, old, new)["max_total_variation"]))
    yield equal(L - found["trpo_kl"], 2 * (L - found["pinsker"]))


@law(
    source="[CPO Cor. 1]",
    ops=(
        "lower_bounds",
        "local_approximation",
        "policy_evaluation",
        "visitation",
        "policy_total_variation",
        "penalty_coefficient",
    ),
    draw="mdps",
    blind="what is wrong with the surrogate, the advantages, the visits, the distances or C",
)
def the_bound_of_cpo_is_by_the_mean_distance(
    f: Answers, world: Any, probabilities: Any, new_probabilities: Any
) -> Iterator[Gap]:
    """L − M is half the C of max_s |Σ_a π'A|, times the TV averaged over the states the old policy visits."""
    old, new = probabilities, new_probabilities
    rest = {name: world[name] for name in ("transition", "start", "gamma")}
    rho = f("visitation", **rest, probabilities=old)
    weights = rho if f.conventions["visitation.normalisation"] == "normalised" else (1 - world["gamma"]) * rho
    gains = (new * _advantages(f, world, old)).sum(axis=1)
    penalty = _coefficient(f, gains[:, None], world["gamma"]) / 2
    mean = (weights * _tv(f, old, new)["total_variation"]).sum()
    yield equal(_approximation(f, world, old, new) - _bounds(f, world, old, new)["cpo"], penalty * mean)


def _approximation(f: Answers, world: Mapping[str, Any], old: Any, new: Any) -> Rounded:
    answer: Rounded = f("local_approximation", **world, old_probabilities=old, new_probabilities=new)
    return answer


def _advantages(f: Answers, world: Mapping[str, Any], pi: Any) -> Rounded:
    rest = {name: world[name] for name in ("transition", "reward", "gamma")}
    answer: Rounded = f("policy_evaluation", **rest, probabilities=pi)["advantages"]
    return answer
