"""Laws of the ratio, the surrogate and its gradient."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.families import POLICIES, average, log_prob
from refpg.conformance.laws.law import Gap, equal, law
from refpg.conformance.laws.ordinary import flat
from refpg.conformance.laws.parameters import log_prob_of, moved, phi_of
from refpg.conformance.laws.quadrature import integral
from refpg.conformance.laws.rounding import Rounded, exp, total


def _ratio(f: Answers, old: Any, new: Any) -> Rounded:
    answer: Rounded = f("ratio", old_log_prob=old, new_log_prob=new)
    return answer


@law(
    source="[PPO (6)]",
    ops=("ratio",),
    draw="samples",
    blind="which of the two is old: the inverse ratio obeys it as well",
)
def ratios_multiply(f: Answers, old_log_prob: Any, new_log_prob: Any, other_log_prob: Any) -> Iterator[Gap]:
    """r(a, a) = 1 and r(a, b) r(b, c) = r(a, c)."""
    yield equal(_ratio(f, old_log_prob, old_log_prob), 1.0)
    chain = _ratio(f, old_log_prob, other_log_prob) * _ratio(f, other_log_prob, new_log_prob)
    yield equal(chain, _ratio(f, old_log_prob, new_log_prob))


@law(
    source="[PPO (6)]",
    ops=("ratio",),
    draw="samples",
    blind="what is wrong with the log-probabilities it is given",
)
def ratio_doubles_with_the_new_probability(f: Answers, old_log_prob: Any, shift: float) -> Iterator[Gap]:
    """r = e^c if the new log-probability is c above the old one."""
    c = shift / 8
    yield equal(_ratio(f, old_log_prob, old_log_prob + c), exp(c))


@law(
    source="[TRPO (14)]",
    ops=("ratio", "log_prob_{family}"),
    draw="distributions",
    variants=("categorical", "bernoulli"),
    blind="nothing of the ratio",
)
def ratio_moves_an_average_to_the_new_policy(
    f: Answers, family: str, p: Any, q: Any, shared: Any, shift: Any
) -> Iterator[Gap]:
    """Importance sampling: Σ_a p(a) r(a) g(a) = Σ_a q(a) g(a) for any g."""
    sampled, exact = [], []
    for k, (actions, weight) in enumerate(average(f, family, p, shared, 3)):
        old, new = (log_prob(f, family, one, shared, actions) for one in (p, q))
        g = k % 3 + shift
        sampled.append(weight * _ratio(f, old, new) * g)
        exact.append(exp(new) * g)
    yield equal(total(sampled), total(exact))


@law(
    source="[TRPO (14)]",
    ops=("surrogate", "network_forward", "log_prob_{family}"),
    draw="policies",
    variants=POLICIES,
    blind="all that is right where the ratio is 1",
)
def surrogate_at_the_old_policy_is_the_mean_advantage(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any
) -> Iterator[Gap]:
    """L(θ_old) = mean of A."""
    old = log_prob_of(f, policy, observations, actions)
    value = f(
        "surrogate",
        policy=policy,
        observations=observations,
        actions=actions,
        advantages=advantages,
        old_log_prob=old,
    )
    yield equal(value, math.fsum(advantages) / len(advantages))


@law(
    source="[TRPO (14)]",
    ops=("surrogate", "network_forward", "log_prob_{family}", "ratio"),
    draw="policies",
    variants=POLICIES,
    blind="what is wrong with the network, log π or the ratio",
)
def surrogate_is_the_mean_of_ratio_times_advantage(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any, log_ratio: Any
) -> Iterator[Gap]:
    """L(θ) = mean of r A, each row by itself, with r from log π_θ and the old log-probability."""
    new = log_prob_of(f, policy, observations, actions)
    old = new - log_ratio
    value = f(
        "surrogate",
        policy=policy,
        observations=observations,
        actions=actions,
        advantages=advantages,
        old_log_prob=old,
    )
    yield equal(value, (_ratio(f, old, new) * advantages).mean())


@law(
    source="[TRPO (14)]",
    ops=("surrogate", "surrogate_gradient"),
    draw="policies",
    variants=POLICIES,
    blind="a value that is wrong together with its gradient",
)
def surrogate_gradient_is_the_derivative_of_the_surrogate(
    f: Answers, policy: Any, change: Any, observations: Any, actions: Any, advantages: Any, log_ratio: Any
) -> Iterator[Gap]:
    """L(θ + v) − L(θ) = ∫ gradient · v along the segment."""
    rest = {
        "observations": observations,
        "actions": actions,
        "advantages": advantages,
        "old_log_prob": log_ratio - 2.0,
    }

    def slope(t: float) -> Rounded:
        gradient = f("surrogate_gradient", policy=moved(policy, change, t), **rest)
        return (flat(gradient) * flat(change)).sum()

    rise = f("surrogate", policy=moved(policy, change, 1.0), **rest) - f("surrogate", policy=policy, **rest)
    line, truncation = integral(slope)
    yield equal(rise, line, truncation)


@law(
    source="[TRPO (14)]",
    ops=("surrogate", "surrogate_gradient"),
    draw="policies",
    variants=POLICIES,
    blind="what is wrong with the ratio",
)
def surrogate_is_linear_in_the_advantages(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any, log_ratio: Any, factor: float
) -> Iterator[Gap]:
    """L and its gradient are those of the rows, added and divided by their number; c A gives c times both."""
    old = log_ratio - 2.0
    rows = len(advantages)

    def both(select: Any, A: Any) -> list[Rounded]:
        batch = {
            "policy": policy,
            "observations": observations[select],
            "actions": actions[select],
            "advantages": A,
            "old_log_prob": old[select],
        }
        return [f("surrogate", **batch), flat(f("surrogate_gradient", **batch))]

    together = both(slice(None), advantages)
    larger = both(slice(None), -factor * advantages)
    alone = [both(slice(n, n + 1), advantages[n : n + 1]) for n in range(rows)]
    for i, whole in enumerate(together):
        yield equal(larger[i], -factor * whole)
        parts = [one[i] for one in alone]
        yield equal(whole, total(parts) / rows)


@law(
    source="[TRPO (14)]",
    ops=("surrogate_gradient", "network_forward", "log_prob_{family}"),
    draw="policies",
    variants=POLICIES,
    blind="a factor common to all gradients, such as their sign",
)
def a_baseline_costs_nothing(f: Answers, family: str, policy: Any, observations: Any) -> Iterator[Gap]:
    """E_π[∇log π] = 0: the gradients of all actions, weighted with their probabilities, cancel in every row."""
    one = observations[:1]
    phi = phi_of(f, policy, one)
    parts = []
    for actions, weight in average(f, family, phi, {}, 3):
        gradient = f(
            "surrogate_gradient",
            policy=policy,
            observations=one,
            actions=actions,
            advantages=np.ones(1),
            old_log_prob=f(f"log_prob_{family}", **phi, actions=actions),
        )
        parts.append(weight[0] * flat(gradient))
    yield equal(total(parts), 0.0)
