"""Laws of PPO's clipped objective, its gradient, the clip fraction and the KL penalty."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.families import POLICIES
from refpg.conformance.laws.law import Gap, at_least, equal, law
from refpg.conformance.laws.ordinary import flat
from refpg.conformance.laws.parameters import log_prob_of
from refpg.conformance.laws.rounding import Rounded, log, rounded, total, where


def _clipped(f: Answers, old: Any, new: Any, advantages: Any, clip: float) -> Rounded:
    answer: Rounded = f("clipped_objective", old_log_prob=old, new_log_prob=new, advantages=advantages, clip=clip)
    return answer


def _gradient(f: Answers, old: Any, new: Any, advantages: Any, clip: float) -> Rounded:
    answer: Rounded = f(
        "clipped_objective_gradient", old_log_prob=old, new_log_prob=new, advantages=advantages, clip=clip
    )
    return answer


@law(
    source="[PPO (7)]",
    ops=("clipped_objective",),
    draw="samples",
    blind="everything away from ratio 1, and the clip",
)
def clipping_does_nothing_at_the_old_policy(
    f: Answers, old_log_prob: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """L^CLIP = mean of A if no log-probability has changed."""
    value = _clipped(f, old_log_prob, old_log_prob, advantages, clip)
    yield equal(value, math.fsum(advantages) / len(advantages))


@law(
    source="[PPO section 3]",
    ops=("clipped_objective", "ratio"),
    draw="samples",
    blind="an objective that is lower still",
)
def clipped_objective_is_a_lower_bound(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """L^CLIP ≤ mean of r A: the clip is pessimistic."""
    r = f("ratio", old_log_prob=old_log_prob, new_log_prob=new_log_prob)
    yield at_least((r * advantages).mean(), _clipped(f, old_log_prob, new_log_prob, advantages, clip))


@law(
    source="[PPO (7)]",
    ops=("clipped_objective", "ratio"),
    draw="samples",
    blind="nothing of one row; how rows are put together",
)
def clipped_objective_of_a_row_has_two_cases(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """One row: A min(r, 1 + ε) for A ≥ 0 and A max(r, 1 − ε) for A < 0, so the window has one edge for each sign."""
    r = f("ratio", old_log_prob=old_log_prob, new_log_prob=new_log_prob)
    for n in range(len(advantages)):
        one = slice(n, n + 1)
        value = _clipped(f, old_log_prob[one], new_log_prob[one], advantages[one], clip)
        edge = 1 + clip if advantages[n] >= 0 else 1 - clip
        left = (r.value[n] > edge) == (advantages[n] >= 0)
        kept = where(left, edge, r[n])
        # At the edge both are the same up to the rounding of r.
        yield equal(value, advantages[n] * Rounded(kept.value, np.maximum(kept.error, r[n].error * left)))


@law(
    source="[PPO (7)]",
    ops=("clipped_objective", "clipped_objective_gradient"),
    draw="samples",
    blind="what is wrong with a single row",
)
def clipped_objective_is_a_mean_over_rows(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """The objective is the mean of the objectives of the rows alone; a row's gradient is its own over their number."""
    rows = len(advantages)

    def alone(n: int) -> tuple[Any, Any, Any, float]:
        return old_log_prob[n : n + 1], new_log_prob[n : n + 1], advantages[n : n + 1], clip

    values = [_clipped(f, *alone(n)) for n in range(rows)]
    yield equal(_clipped(f, old_log_prob, new_log_prob, advantages, clip), total(values) / rows)
    gradient = _gradient(f, old_log_prob, new_log_prob, advantages, clip)
    for n in range(rows):
        yield equal(gradient[n : n + 1], _gradient(f, *alone(n)) / rows)


@law(
    source="[PPO (7)]",
    ops=("clipped_objective",),
    draw="samples",
    blind="what scales with the advantages, however wrongly",
)
def clipped_objective_scales_with_the_advantages(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float, factor: float
) -> Iterator[Gap]:
    """c A gives c L^CLIP for c > 0: ε is about the ratio, and not about r A."""
    value = _clipped(f, old_log_prob, new_log_prob, advantages, clip)
    yield equal(_clipped(f, old_log_prob, new_log_prob, factor * advantages, clip), factor * value)


@law(
    source="[PPO (7)]",
    ops=("clipped_objective",),
    draw="samples",
    blind="an objective that does not know the clip",
)
def clipped_objective_rises_with_the_window(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float, wider: float
) -> Iterator[Gap]:
    """A wider window never lowers L^CLIP."""
    narrow, wide = (_clipped(f, old_log_prob, new_log_prob, advantages, c) for c in (clip, wider))
    yield at_least(wide, narrow)


@law(
    source="[PPO (7)]",
    ops=("clipped_objective",),
    draw="samples",
    blind="a wrong objective that is concave, such as one without a clip",
)
def clipped_objective_is_concave_in_the_ratio(
    f: Answers, old_log_prob: Any, new_log_prob: Any, other_log_prob: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """At the mean of two ratios a row's objective is at least the mean of the two objectives."""
    old = rounded(0 * old_log_prob)
    pair = [rounded(new_log_prob), rounded(other_log_prob)]
    middle = log(0.5 * (np.e ** pair[0].value + np.e ** pair[1].value))
    for n in range(len(advantages)):
        one = slice(n, n + 1)
        ends = [_clipped(f, old[one], new[one], advantages[one], clip) for new in pair]
        yield at_least(_clipped(f, old[one], middle[one], advantages[one], clip), 0.5 * (ends[0] + ends[1]))


@law(
    source="[PPO (7)]",
    ops=("clipped_objective", "clipped_objective_gradient"),
    draw="samples",
    blind="an objective that is wrong together with its gradient",
)
def clipped_gradient_of_a_row_is_its_objective_or_zero(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """∂(rA)/∂log π = rA: a row's gradient equals its objective, and is 0 where that is at an edge (1 ± ε)A."""
    for n in range(len(advantages)):
        one = slice(n, n + 1)
        row = (old_log_prob[one], new_log_prob[one], advantages[one], clip)
        value, gradient = _clipped(f, *row), _gradient(f, *row)[0]
        at_edge = (1 + clip if advantages[n] >= 0 else 1 - clip) * advantages[n]
        clipped = bool(np.abs(value.value - at_edge) <= f.margin(value))
        yield equal(gradient, 0.0 if clipped else value)


@law(
    source="[PPO (7)]",
    ops=("clipped_objective_gradient",),
    draw="samples",
    blind="everything away from ratio 1, and the clip",
)
def clipped_gradient_at_the_old_policy_is_the_policy_gradient(
    f: Answers, old_log_prob: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """∂L^CLIP/∂log π = A/B if no log-probability has changed."""
    yield equal(_gradient(f, old_log_prob, old_log_prob, advantages, clip), rounded(advantages) / len(advantages))


@law(
    source="[PPO (7)]",
    ops=(
        "clipped_objective_parameter_gradient",
        "clipped_objective_gradient",
        "surrogate_gradient",
        "network_forward",
        "log_prob_{family}",
    ),
    draw="policies",
    variants=POLICIES,
    blind="a gradient of log π that is wrong in both",
)
def clipped_parameter_gradient_is_the_chain_rule(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any, log_ratio: Any, clip: float
) -> Iterator[Gap]:
    """∂L^CLIP/∂θ = Σ w ∇log π with w = ∂L^CLIP/∂log π: the surrogate gradient, at ratio 1, of the advantages B w."""
    new = log_prob_of(f, policy, observations, actions)
    old = new - log_ratio
    samples = {"policy": policy, "observations": observations, "actions": actions}
    direct = f(
        "clipped_objective_parameter_gradient", **samples, advantages=advantages, old_log_prob=old, clip=clip
    )
    weights = len(advantages) * _gradient(f, old, new, advantages, clip)
    by_chain = f("surrogate_gradient", **samples, advantages=weights, old_log_prob=new)
    yield equal(flat(direct), flat(by_chain))


@law(
    source="[PPO (7)]",
    ops=("clipped_objective_parameter_gradient", "surrogate_gradient", "network_forward", "log_prob_{family}"),
    draw="policies",
    variants=POLICIES,
    blind="everything away from the old policy, and the clip",
)
def clipped_and_trust_region_gradients_start_alike(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """At θ_old PPO's gradient is that of TRPO's surrogate."""
    old = log_prob_of(f, policy, observations, actions)
    batch = {
        "policy": policy,
        "observations": observations,
        "actions": actions,
        "advantages": advantages,
        "old_log_prob": old,
    }
    clipped = f("clipped_objective_parameter_gradient", **batch, clip=clip)
    yield equal(flat(clipped), flat(f("surrogate_gradient", **batch)))


@law(
    source="[PPO section 3]",
    ops=("clip_fraction", "ratio"),
    draw="samples",
    blind="what is wrong with the ratio",
)
def clip_fraction_counts_rows(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float
) -> Iterator[Gap]:
    """The clip fraction is the number of rows beyond the window, by the declared rule, over the number of rows."""
    r = f("ratio", old_log_prob=old_log_prob, new_log_prob=new_log_prob)
    beyond = np.abs(r.value - 1) > clip
    if f.conventions["clip_fraction.rule"] == "active":
        beyond &= (r.value - 1) * advantages > 0
    fraction = f(
        "clip_fraction", old_log_prob=old_log_prob, new_log_prob=new_log_prob, advantages=advantages, clip=clip
    )
    yield equal(fraction, beyond.sum() / len(beyond))


@law(
    source="[PPO section 3]",
    ops=("clip_fraction",),
    draw="samples",
    blind="how many rows are beyond the window if some are",
)
def clip_fraction_falls_with_the_window(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float, wider: float
) -> Iterator[Gap]:
    """The clip fraction is 0 at the old policy, between 0 and 1, and not larger for a wider window."""
    batch = {"old_log_prob": old_log_prob, "new_log_prob": new_log_prob, "advantages": advantages}
    narrow, wide = (f("clip_fraction", **batch, clip=c) for c in (clip, wider))
    yield at_least(narrow, wide)
    yield at_least(wide, 0.0)
    yield at_least(1.0, narrow)
    yield equal(f("clip_fraction", **batch | {"new_log_prob": old_log_prob}, clip=clip), 0.0)


@law(
    source="[PPO (8)]",
    ops=("kl_penalized_objective", "ratio"),
    draw="samples",
    blind="what is wrong with the ratio, or with the KL it is given",
)
def kl_penalty_is_subtracted(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, kl: Any, kl_penalty: float
) -> Iterator[Gap]:
    """L^KLPEN = mean of r A − β mean of KL."""
    r = f("ratio", old_log_prob=old_log_prob, new_log_prob=new_log_prob)
    value = f(
        "kl_penalized_objective",
        old_log_prob=old_log_prob,
        new_log_prob=new_log_prob,
        advantages=advantages,
        kl=kl,
        kl_penalty=kl_penalty,
    )
    yield equal(value, (r * advantages).mean() - kl_penalty * rounded(kl).mean())


@law(
    source="[PPO section 4]",
    ops=("kl_penalty_update",),
    draw="samples",
    blind="the factors, and where the window ends",
)
def penalty_follows_the_kl(
    f: Answers, kl_penalty: float, mean_kl: float, target: float, factor: float
) -> Iterator[Gap]:
    """β rises with a KL far above the target, falls far below it, stays at it; only the ratio KL/target matters."""

    def update(beta: float, kl: float, wanted: float) -> Rounded:
        answer: Rounded = f("kl_penalty_update", kl_penalty=beta, kl=kl, target=wanted)
        return answer

    yield equal(update(kl_penalty, target, target), kl_penalty)
    yield at_least(update(kl_penalty, 8 * target, target), 1.25 * kl_penalty)
    yield at_least(0.75 * kl_penalty, update(kl_penalty, target / 8, target))
    once = update(kl_penalty, mean_kl, target)
    yield equal(update(factor * kl_penalty, mean_kl, target), factor * once)
    yield equal(update(kl_penalty, 4 * mean_kl, 4 * target), once)
    yield at_least(update(kl_penalty, 2 * mean_kl, target), once)
