"""Mistakes in the profile sequence: masks, aggregation, ratios, penalties, rewards and advantages of groups."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.mutants.estimators import divisor
from refpg.conformance.mutants.ppo import WINDOWED, windowed
from refpg.conformance.mutants.programs import detach, gradient_of
from refpg.conformance.reference import answers
from refpg.notation import Array

Function = Callable[..., Any]
Conventions = Mapping[str, str]
Weights = Callable[[Array, float, str], Array]


# The program: one number of the tokens and its gradient, in parts.


def divisors(lengths: Array, constant: float, aggregation: str) -> Array:
    """Return what the tokens of each sequence are divided by, from the number of tokens in each."""
    n = len(lengths)
    by = {
        "token_mean": lengths.sum(),
        "sequence_mean_token_mean": n * lengths,
        "sequence_mean_token_sum": n,
        "token_sum_over_constant": n * constant,
    }
    return np.broadcast_to(by[aggregation], lengths.shape)[:, None]


def token_weights(mask: Array, constant: float, aggregation: str) -> Array:
    """Return the weight of every token."""
    return mask / divisors(mask.sum(axis=1), constant, aggregation)


def weighed(weights: Array, values: Array) -> Array:
    """Return w x of the tokens with a weight."""
    return np.where(weights != 0, weights * values, 0)


def looked_at(weights: Array, values: Array) -> Array:
    """Return the values of the tokens with a weight, 0 elsewhere: what is not looked at cannot overflow."""
    return np.where(weights != 0, values, 0)


def sequence_mean(log_ratio: Array, mask: Array) -> Array:
    """Return the mean over the tokens that count, for every token of the sequence."""
    mean = np.where(mask, log_ratio, 0).sum(axis=1, keepdims=True) / mask.sum(axis=1, keepdims=True)
    return np.broadcast_to(mean, log_ratio.shape)


def estimate(d: Array, estimator: str) -> Array:
    """Return k1, k2 or k3 of KL(policy ‖ reference) from d = log π − log π_ref."""
    if estimator == "k3":
        return np.expm1(-d) + d
    return d if estimator == "k1" else d**2 / 2


class Parts(NamedTuple):
    """The parts of the program.

    Fields: ``weights`` and ``penalty_weights`` of (mask, constant, aggregation); ``log_ratio`` of (old, new);
    ``sequence_ratio`` of (log-ratios, mask); ``row`` of (r, A, ε below, ε above); ``estimate`` of (d, estimator);
    ``penalty_sign``.
    """

    weights: Weights
    penalty_weights: Weights
    log_ratio: Callable[[Array, Array], Array]
    sequence_ratio: Callable[[Array, Array], Array]
    row: Callable[[Array, Array, float, float], Array]
    estimate: Callable[[Array, str], Array]
    penalty_sign: float


RIGHT = Parts(
    weights=token_weights,
    penalty_weights=token_weights,
    log_ratio=lambda old, new: new - old,
    sequence_ratio=lambda log_ratio, mask: np.exp(sequence_mean(log_ratio, mask)),
    row=windowed,
    estimate=estimate,
    penalty_sign=1.0,
)


def _gain(
    parts: Parts, conventions: Conventions, new: Array, old: Array, A: Array, mask: Array, **numbers: float
) -> Array:
    """Return w min(rA, clip(r)A) of every token, r its own or that of its sequence."""
    weights = parts.weights(mask, numbers["constant"], conventions["sequence.aggregation"])
    log_ratio = parts.log_ratio(old, new)
    of_tokens = conventions["ratio.level"] == "token"
    r = np.exp(looked_at(weights, log_ratio)) if of_tokens else parts.sequence_ratio(log_ratio, mask)
    return weighed(weights, parts.row(r, A, numbers["clip"], numbers["clip_high"]))


def _penalty(
    parts: Parts, conventions: Conventions, new: Array, reference: Array, mask: Array, constant: float
) -> Array:
    """Return w k of every token."""
    weights = parts.penalty_weights(mask, constant, conventions["sequence.aggregation"])
    return weighed(weights, parts.estimate(looked_at(weights, new - reference), conventions["kl_penalty.estimator"]))


def _with_gradient(name: str, terms: Callable[[Array], Array], x: Array) -> dict[str, Any]:
    """Return the sum of the terms of all tokens, and its gradient; of a term that overflows, only its own is lost."""

    def finite(flat: Array) -> Any:
        rows = terms(flat.reshape(x.shape))
        return rows[np.isfinite(rows.real)].sum()

    rows, slopes = terms(x), gradient_of(finite, x.ravel()).reshape(x.shape)
    return {name: rows.sum(), "gradient": np.where(np.isfinite(rows), slopes, np.nan)}


def masked_aggregate(parts: Parts, conventions: Conventions, values: Array, mask: Array, constant: float) -> Any:
    """The answer to masked_aggregate."""
    return weighed(parts.weights(mask, constant, conventions["sequence.aggregation"]), values).sum()


def token_kl_penalty(
    parts: Parts, conventions: Conventions, log_prob: Array, reference_log_prob: Array, mask: Array, constant: float
) -> dict[str, Any]:
    """The answer to token_kl_penalty."""
    return _with_gradient(
        "penalty", lambda new: _penalty(parts, conventions, new, reference_log_prob, mask, constant), log_prob
    )


def token_clipped_objective(
    parts: Parts, conventions: Conventions, old_log_prob: Array, new_log_prob: Array, advantages: Array, **rest: Any
) -> dict[str, Any]:
    """The answer to token_clipped_objective."""
    return _with_gradient(
        "objective", lambda new: _gain(parts, conventions, new, old_log_prob, advantages, **rest), new_log_prob
    )


def sequence_objective(
    parts: Parts,
    conventions: Conventions,
    old_log_prob: Array,
    new_log_prob: Array,
    reference_log_prob: Array,
    advantages: Array,
    mask: Array,
    kl_penalty: float,
    **numbers: float,
) -> dict[str, Any]:
    """The answer to sequence_objective."""
    beta = parts.penalty_sign * kl_penalty

    def terms(new: Array) -> Array:
        gain = _gain(parts, conventions, new, old_log_prob, advantages[:, None], mask, **numbers)
        return gain - beta * _penalty(parts, conventions, new, reference_log_prob, mask, numbers["constant"])

    return _with_gradient("objective", terms, new_log_prob)


# Weights.


def _late(mask: Array) -> Array:
    return np.concatenate([np.ones_like(mask[:, :1]), mask[:, :-1]], axis=1)


def _full_lengths(mask: Array) -> Array:
    return np.full(len(mask), mask.shape[1])


def _unmasked(mask: Array, constant: float, aggregation: str) -> Array:
    return np.ones(mask.shape) / divisors(mask.sum(axis=1), constant, aggregation)


def _padding_counted(mask: Array, constant: float, aggregation: str) -> Array:
    return mask / divisors(_full_lengths(mask), constant, aggregation)


def _plain_mean(mask: Array, constant: float, aggregation: str) -> Array:
    return np.full(mask.shape, 1 / mask.size)


def _of_weights(weights: Weights) -> Parts:
    return RIGHT._replace(weights=weights, penalty_weights=weights)


_MASKS: dict[str, Parts] = {
    "mask-numerator": _of_weights(_unmasked),
    "mask-denominator": _of_weights(_padding_counted),
}
_SHIFTED: dict[str, Parts] = {
    "ratio-mask-off-by-one": _of_weights(lambda mask, constant, by: token_weights(_late(mask), constant, by))
}
_CONSTANTS: dict[str, Parts] = {
    "aggregate-constant-is-width": _of_weights(lambda mask, constant, by: token_weights(mask, mask.shape[1], by))
}


# Ratios, clips, penalties.


def _over_width(log_ratio: Array, mask: Array) -> Array:
    return np.exp(np.broadcast_to(np.where(mask, log_ratio, 0).mean(axis=1, keepdims=True), mask.shape))


def _product(log_ratio: Array, mask: Array) -> Array:
    return np.exp(np.broadcast_to(np.where(mask, log_ratio, 0).sum(axis=1, keepdims=True), mask.shape))


_PRODUCT: dict[str, Parts] = {"sequence-ratio-product": RIGHT._replace(sequence_ratio=_product)}
_RATIOS: dict[str, Parts] = _PRODUCT | {
    "ratio-always-one": RIGHT._replace(log_ratio=lambda old, new: new - detach(new)),
    "sequence-ratio-over-width": RIGHT._replace(sequence_ratio=_over_width),
    "sequence-ratio-mean-of-ratios": RIGHT._replace(sequence_ratio=lambda d, mask: sequence_mean(np.exp(d), mask)),
}
_WINDOWS: dict[str, Parts] = {bug: RIGHT._replace(row=row) for bug, row in WINDOWED.items()}
_REVERSED: dict[str, Parts] = {"kl-penalty-reversed": RIGHT._replace(estimate=lambda d, name: estimate(-d, name))}
_ESTIMATES: dict[str, Parts] = _REVERSED | {
    "akl-k2-no-half": RIGHT._replace(estimate=lambda d, name: d**2 if name == "k2" else estimate(d, name)),
}
_WHOLE: dict[str, Parts] = {
    "kl-reward-sign": RIGHT._replace(penalty_sign=-1.0),
    "kl-added-after-masked-mean": RIGHT._replace(penalty_weights=_plain_mean),
}


def _times_zero(op: str, terms: Callable[[Conventions, Mapping[str, Any]], Array]) -> Function:
    """The right answer, and the terms of the tokens that do not count, times 0."""

    def function(conventions: Conventions, **inputs: Any) -> dict[str, Any]:
        nothing = 0 * np.where(inputs["mask"], 0, terms(conventions, inputs))
        (name, value), (_, gradient) = answers(conventions)[op](**inputs).items()
        return {name: value + nothing.sum(), "gradient": gradient + nothing}

    return function


def _unbounded_gains(conventions: Conventions, inputs: Mapping[str, Any]) -> Array:
    """rA where no clip bounds it, A < 0."""
    old, new, mask = inputs["old_log_prob"], inputs["new_log_prob"], inputs["mask"]
    r = np.exp(new - old) if conventions["ratio.level"] == "token" else RIGHT.sequence_ratio(new - old, mask)
    return np.where(inputs["advantages"] < 0, r * inputs["advantages"], 0)


def _all_estimates(conventions: Conventions, inputs: Mapping[str, Any]) -> Array:
    return estimate(inputs["log_prob"] - inputs["reference_log_prob"], conventions["kl_penalty.estimator"])


def _to_the_old_policy(conventions: Conventions, **inputs: Any) -> Any:
    reference = {"reference_log_prob": inputs["old_log_prob"]}
    return answers(conventions)["sequence_objective"](**(inputs | reference))


# Advantages.


def _masked(form: Callable[[Array, Array, Conventions], Array], zero: bool = True) -> Function:
    """Normalised advantages of all tokens, from (advantages, mask, conventions)."""

    def function(conventions: Conventions, advantages: Array, mask: Array) -> Array:
        normalized = form(advantages, mask, conventions)
        return np.where(mask, normalized, 0) if zero else normalized

    return function


def _std(a: Array, conventions: Conventions) -> Any:
    return divisor(a.std(ddof=int(conventions["advantage.ddof"])), conventions)


def _mean_over_padding(a: Array, mask: Array, conventions: Conventions) -> Array:
    centred = a - a.mean()
    variance = (centred[mask] ** 2).sum() / (mask.sum() - int(conventions["advantage.ddof"]))
    return centred / divisor(np.sqrt(variance), conventions)


Choice = Callable[[Array, Any], Array]


def _same_number(group: Array, number: Any) -> Array:
    return group == number


def _everyone(group: Array, number: Any) -> Array:
    return np.full(group.shape, True)


def _first_group(group: Array, number: Any) -> Array:
    return group == group[0]


def _level(r: Array, members: Array, form: str) -> Any:
    if form == "group_mean":
        return members.mean()
    return (members.sum() - r) / (len(members) - 1)


def _grouped(
    centred_on: Choice = _same_number,
    scaled_by: Choice = _same_number,
    level: Callable[[Array, Array, str], Any] = _level,
    numbers: Callable[[Array], Array] = lambda group: group,
) -> Function:
    """Advantages of groups with other members for the baseline or the scale, another baseline, other groups."""

    def function(conventions: Conventions, rewards: Array, group: Array) -> Array:
        group = numbers(group)
        advantages = np.zeros_like(rewards)
        for number in np.unique(group):
            rows = group == number
            baseline = level(rewards[rows], rewards[centred_on(group, number)], conventions["group.baseline"])
            scaled = conventions["group.scale"] == "std"
            scale = _std(rewards[scaled_by(group, number)], conventions) if scaled else 1
            advantages[rows] = (rewards[rows] - baseline) / scale
        return advantages

    return function


def _over_n(r: Array, members: Array, form: str) -> Any:
    return members.mean() if form == "group_mean" else (members.sum() - r) / len(members)


# Rewards.


def _last(mask: Array) -> Array:
    return mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)


def _at(columns: Callable[[Array], Any]) -> Callable[[Array], Array]:
    """True at one column of each row."""
    return lambda mask: np.arange(mask.shape[1]) == np.reshape(columns(mask), (-1, 1))


_at_the_last = _at(_last)


def _rewarded(
    scored: Callable[[Array], Array] = _at_the_last,
    sign: float = -1.0,
    everywhere: bool = False,
    altered: Callable[[Array], Array] = lambda mask: mask,
) -> Function:
    """Rewards with the score in other places, another factor of d, or of other tokens."""

    def function(scores: Array, log_prob: Array, reference_log_prob: Array, mask: Array, kl_penalty: float) -> Array:
        mask = altered(mask)
        d = log_prob - reference_log_prob
        penalised = d if everywhere else np.where(mask, d, 0)
        return sign * kl_penalty * penalised + np.where(scored(mask), scores[:, None], 0)

    return function


def _of(program: Function, *tables: dict[str, Parts]) -> dict[str, Function]:
    return {bug: partial(program, parts) for table in tables for bug, parts in table.items()}


WRONG: dict[str, dict[str, Function]] = {
    "masked_aggregate": _of(masked_aggregate, _MASKS, _SHIFTED, _CONSTANTS),
    "masked_normalize_advantages": {
        "advnorm-includes-padding": _masked(lambda a, mask, by: (a - a.mean()) / _std(a, by)),
        "advnorm-mean-over-padding": _masked(_mean_over_padding),
        "padding-not-zeroed": _masked(lambda a, mask, by: (a - a[mask].mean()) / _std(a[mask], by), zero=False),
        "advnorm-paren": _masked(lambda a, mask, by: a - a[mask].mean() / _std(a[mask], by)),
    },
    "group_advantages": {
        "group-batch-statistics": _grouped(_everyone, _everyone),
        "group-batch-deviation": _grouped(scaled_by=_everyone),
        "advnorm-first-group-only": _grouped(_first_group, _first_group),
        "group-order-assumed": _grouped(numbers=np.sort),
        "leave-one-out-over-n": _grouped(level=_over_n),
    },
    "token_rewards": {
        "kl-reward-sign": _rewarded(sign=1.0),
        "kl-penalty-ignored": _rewarded(sign=0.0),
        "padding-not-zeroed": _rewarded(everywhere=True),
        "ratio-mask-off-by-one": _rewarded(altered=_late),
        "score-at-the-end-of-the-padding": _rewarded(_at(lambda mask: mask.shape[1] - 1)),
        "score-one-late": _rewarded(_at(lambda mask: np.minimum(_last(mask) + 1, mask.shape[1] - 1))),
        "score-at-every-token": _rewarded(lambda mask: mask),
    },
    "token_kl_penalty": _of(token_kl_penalty, _MASKS, _ESTIMATES)
    | {"mask-nan-times-zero": _times_zero("token_kl_penalty", _all_estimates)},
    "token_clipped_objective": _of(token_clipped_objective, _MASKS, _SHIFTED, _WINDOWS, _RATIOS)
    | {"mask-nan-times-zero": _times_zero("token_clipped_objective", _unbounded_gains)},
    "sequence_objective": _of(sequence_objective, _MASKS, _PRODUCT, _REVERSED, _WHOLE)
    | {"kl-penalty-of-old-policy": _to_the_old_policy},
}
