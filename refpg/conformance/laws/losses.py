"""Laws of the value losses, the entropy bonus and PPO's total objective."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.families import POLICIES
from refpg.conformance.laws.law import Gap, at_least, equal, law
from refpg.conformance.laws.ordinary import flat
from refpg.conformance.laws.parameters import log_prob_of, moved, phi_of
from refpg.conformance.laws.quadrature import integral
from refpg.conformance.laws.rounding import Rounded, minimum, rounded, square, total


def _loss(f: Answers, values: Any, targets: Any) -> Rounded:
    answer: Rounded = f("value_loss", values=values, targets=targets)
    return answer


def _clipped(f: Answers, values: Any, old_values: Any, targets: Any, clip: float) -> Rounded:
    answer: Rounded = f("clipped_value_loss", values=values, old_values=old_values, targets=targets, clip=clip)
    return answer


@law(
    source="[PPO (9)]",
    ops=("value_loss",),
    draw="samples",
    blind="the factor in front",
)
def value_loss_is_a_mean_of_squares(
    f: Answers, values: Any, targets: Any, shift: float, factor: float
) -> Iterator[Gap]:
    """0 for perfect values; even, quadratic if declared, without origin; the mean of the losses of the rows alone."""
    loss = _loss(f, values, targets)
    yield equal(_loss(f, targets, targets), 0.0)
    yield equal(_loss(f, targets, values), loss)
    yield equal(_loss(f, values + shift, targets + shift), loss)
    if f.conventions["value_loss.error"] == "squared":
        yield equal(_loss(f, factor * values, factor * targets), factor * (factor * loss))
    rows = [_loss(f, values[n : n + 1], targets[n : n + 1]) for n in range(len(values))]
    yield equal(loss, total(rows) / len(rows))


@law(
    source="[PPO (9)]",
    ops=("value_loss",),
    draw="samples",
    blind="what depends on several rows",
)
def value_loss_of_a_uniform_error(f: Answers, targets: Any, shift: float) -> Iterator[Gap]:
    """Values that are all c too high have the loss c², or ½c² and the like, as declared."""
    half = {"1": 1.0, "1/2": 0.5}[f.conventions["value_loss.factor"]]
    smooth = f.conventions["value_loss.error"] == "smooth_l1"
    size = square(shift) if not smooth else square(shift) / 2 if abs(shift) < 1 else abs(rounded(shift)) - 0.5
    yield equal(_loss(f, targets + shift, targets), half * size)


@law(
    source="[PPO (9)]",
    ops=("clipped_value_loss", "value_loss"),
    draw="samples",
    blind="what is wrong outside the window in the declared direction",
)
def clipped_value_loss_is_pessimistic(
    f: Answers, values: Any, old_values: Any, targets: Any, clip: float
) -> Iterator[Gap]:
    """By the declared form: at least the plain loss and that of the clipped values; just the latter; or never more."""
    loss = _clipped(f, values, old_values, targets, clip)
    if f.conventions["value_loss.clip"] == "clamped_error":
        yield at_least(_loss(f, values, targets), loss)
        return
    kept = np.clip(values, old_values - clip, old_values + clip)
    inside, free = _loss(f, kept, targets), _loss(f, values, targets)
    if f.conventions["value_loss.clip"] == "clipped_only":
        yield equal(loss, inside)
        return
    yield at_least(loss, free)
    yield at_least(loss, inside)
    yield at_least(free + inside, loss)


@law(
    source="[PPO (9)]",
    ops=("clipped_value_loss", "value_loss"),
    draw="samples",
    blind="what is wrong inside the window",
)
def clipped_value_loss_of_a_row_is_one_of_two(
    f: Answers, values: Any, old_values: Any, targets: Any, clip: float
) -> Iterator[Gap]:
    """One row: the larger of the plain loss and that of the value clipped to the old one ± ε; rows are averaged."""
    half = {"1": 1.0, "1/2": 0.5}[f.conventions["value_loss.factor"]]
    rows = []
    for n in range(len(values)):
        one = slice(n, n + 1)
        v, old, target = values[one], old_values[one], targets[one]
        rows.append(_clipped(f, v, old, target, clip))
        choices = [_loss(f, np.clip(v, old - clip, old + clip), target), _loss(f, v, target)]
        if f.conventions["value_loss.clip"] == "clipped_only":
            choices.pop()
        if f.conventions["value_loss.clip"] == "clamped_error":
            choices = [minimum(choices[-1], half * clip)]
        yield equal(rows[-1], max(choices, key=lambda loss: float(loss.value)))
    yield equal(_clipped(f, values, old_values, targets, clip), total(rows) / len(rows))


@law(
    source="[PPO (9)]",
    ops=("clipped_value_loss", "value_loss"),
    draw="samples",
    blind="everything outside the window",
)
def clipped_value_loss_is_plain_inside_the_window(
    f: Answers, values: Any, old_values: Any, targets: Any, clip: float
) -> Iterator[Gap]:
    """Values within ε of the old ones, or of the targets where the error is clamped, have the plain loss."""
    clamped = f.conventions["value_loss.clip"] == "clamped_error"
    near = (targets if clamped else old_values) + clip * np.sign(values) / 2
    yield equal(_clipped(f, near, old_values, targets, clip), _loss(f, near, targets))


@law(
    source="[PPO (9)]",
    ops=("entropy_bonus", "network_forward", "entropy_{family}"),
    draw="policies",
    variants=POLICIES,
    blind="what is wrong with the network or with the entropy of a row",
)
def entropy_bonus_is_the_mean_entropy(f: Answers, family: str, policy: Any, observations: Any) -> Iterator[Gap]:
    """The bonus is the mean over observations of the entropy of the policy's distributions."""
    bonus = f("entropy_bonus", policy=policy, observations=observations)["entropy"]
    yield equal(bonus, f(f"entropy_{family}", **phi_of(f, policy, observations)).mean())


@law(
    source="[PPO (9)]",
    ops=("entropy_bonus",),
    draw="policies",
    variants=POLICIES,
    blind="an entropy that is wrong together with its gradient",
)
def entropy_gradient_is_the_derivative_of_the_bonus(
    f: Answers, policy: Any, change: Any, observations: Any
) -> Iterator[Gap]:
    """H(θ + v) − H(θ) = ∫ gradient · v along the segment."""

    def bonus(t: float) -> dict[str, Any]:
        answer: dict[str, Any] = f("entropy_bonus", policy=moved(policy, change, t), observations=observations)
        return answer

    line, truncation = integral(lambda t: (flat(bonus(t)["gradient"]) * flat(change)).sum())
    yield equal(bonus(1.0)["entropy"] - bonus(0.0)["entropy"], line, truncation)


@law(
    source="[PPO (9)]",
    ops=(
        "ppo_objective",
        "clipped_objective",
        "clipped_objective_parameter_gradient",
        "value_loss",
        "entropy_bonus",
        "network_forward",
        "log_prob_{family}",
    ),
    draw="policies",
    variants=POLICIES,
    blind="what is wrong with one of the three terms in the op of that term too",
)
def ppo_objective_has_three_terms(
    f: Answers,
    policy: Any,
    value_network: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    log_ratio: Any,
    value_targets: Any,
    clip: float,
    coefficient: float,
    factor: float,
) -> Iterator[Gap]:
    """L^CLIP − c₁ value loss + c₂ entropy, and the policy's gradient that of the first and the last."""
    new = log_prob_of(f, policy, observations, actions)
    batch = {"observations": observations, "actions": actions, "advantages": advantages}
    old = new - log_ratio
    total = f(
        "ppo_objective",
        policy=policy,
        value_network=value_network,
        **batch,
        old_log_prob=old,
        value_targets=value_targets,
        clip=clip,
        value_coefficient=coefficient,
        entropy_coefficient=factor,
    )
    clipped = f("clipped_objective", old_log_prob=old, new_log_prob=new, advantages=advantages, clip=clip)
    values = f("network_forward", network=value_network, observations=observations)[:, 0]
    loss, entropy = _loss(f, values, value_targets), f("entropy_bonus", policy=policy, observations=observations)
    yield equal(total["objective"], clipped - coefficient * loss + factor * entropy["entropy"])
    gradient = f("clipped_objective_parameter_gradient", policy=policy, **batch, old_log_prob=old, clip=clip)
    yield equal(flat(total["policy_gradient"]), flat(gradient) + factor * flat(entropy["gradient"]))


@law(
    source="[PPO (9)]",
    ops=("ppo_objective",),
    draw="policies",
    variants=POLICIES,
    blind="the policy's gradient, and a value loss that is wrong together with its gradient",
)
def value_gradient_is_the_derivative_of_the_objective(
    f: Answers,
    policy: Any,
    value_network: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    log_ratio: Any,
    value_targets: Any,
    clip: float,
    coefficient: float,
) -> Iterator[Gap]:
    """The objective's change as the value network moves is the line integral of its value gradient."""
    # The slope of the smooth error has kinks, which a quadrature does not see through: it is asked beyond them.
    far = 256.0 if f.conventions["value_loss.error"] == "smooth_l1" else 0.0
    step = {
        "layers": [
            {name: np.sign(part - 1 / 32) / 16 for name, part in layer.items()} for layer in value_network["layers"]
        ]
    }

    def objective(t: float) -> dict[str, Any]:
        answer: dict[str, Any] = f(
            "ppo_objective",
            policy=policy,
            value_network=moved(value_network, step, t),
            observations=observations,
            actions=actions,
            advantages=advantages,
            old_log_prob=rounded(log_ratio - 2.0),
            value_targets=value_targets + far,
            clip=clip,
            value_coefficient=coefficient,
            entropy_coefficient=0.0,
        )
        return answer

    line, truncation = integral(lambda t: (flat(objective(t)["value_gradient"]) * flat(step)).sum())
    yield equal(objective(1.0)["objective"] - objective(0.0)["objective"], line, truncation)
