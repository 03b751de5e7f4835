"""Laws of padded sequences of tokens: what is aggregated, penalised, rewarded and compared in groups."""

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.law import Gap, at_least, equal, law
from refpg.conformance.laws.ordinary import divisor
from refpg.conformance.laws.quadrature import integral
from refpg.conformance.laws.rounding import Rounded, join, rounded, sqrt, square, total

# Nothing that is drawn leaves this window: |ℓ| ≤ 2.
_WIDE = {"clip": 63 / 64, "clip_high": 8.0}
# The exponential of the difference of two such numbers overflows or is 0, in any format.
_PADDING = 1024.0


def _repadded(f: Answers, op: str, tokens: Mapping[str, Any], mask: Any, **rest: Any) -> Iterator[Gap]:
    """The same with other numbers in the padding, and with a column more of it on either side."""
    before = f(op, **tokens, mask=mask, **rest)
    others = {
        name: np.pad(np.where(mask, x, far), ((0, 0), (1, 1)), constant_values=-far)
        for (name, x), far in zip(tokens.items(), cycle((_PADDING, -_PADDING)))
    }
    after = f(op, **others, mask=np.pad(mask, ((0, 0), (1, 1))), **rest)
    several = isinstance(before, dict)
    for name in before if several else ("",):
        one, other = (answer[name] if several else answer for answer in (before, after))
        if other.value.ndim:
            outside = ~np.pad(mask, ((0, 0), (1, 1)))
            yield equal(Rounded(other.value[outside]), 0.0)  # 0 itself: nothing is computed there
            other = other[:, 1:-1]
        yield equal(other, one)


def _shares(f: Answers, mask: Any) -> Any:
    """What the number of each sequence alone counts for in that of all."""
    if f.conventions["sequence.aggregation"] == "token_mean":
        return mask.sum(axis=1) / mask.sum()
    return np.full(len(mask), 1 / len(mask))


def _divisors(f: Answers, mask: Any, constant: float) -> Any:
    """What the values of the tokens of each sequence are divided by."""
    N, lengths = len(mask), mask.sum(axis=1)
    by = {
        "token_mean": lengths.sum(),
        "sequence_mean_token_mean": N * lengths,
        "sequence_mean_token_sum": N,
        "token_sum_over_constant": N * constant,
    }
    return np.broadcast_to(by[f.conventions["sequence.aggregation"]], N)


def _one_by_one(
    f: Answers, whole: Mapping[str, Rounded], mask: Any, alone: Callable[[slice], Mapping[str, Rounded]]
) -> Iterator[Gap]:
    """An objective is that of its sequences, each with its share; and so is its gradient."""
    shares = _shares(f, mask)
    parts = [alone(slice(i, i + 1)) for i in range(len(mask))]
    for name, answer in whole.items():
        shared = [float(share) * part[name] for share, part in zip(shares, parts, strict=True)]
        yield equal(answer, join(shared) if answer.value.ndim else total(shared))


@law(
    source="[DAPO]",
    ops=("masked_aggregate",),
    draw="sequences",
    blind="the weights of the tokens that count",
)
def padding_changes_no_aggregate(f: Answers, values: Any, mask: Any, constant: float) -> Iterator[Gap]:
    """Other numbers where the mask is false, and more of it, leave the aggregate as it is."""
    yield from _repadded(f, "masked_aggregate", {"values": values}, mask, constant=constant)


@law(
    source="[DAPO]",
    ops=("masked_aggregate",),
    draw="sequences",
    blind="nothing of the weights",
)
def aggregates_weigh_tokens_as_declared(f: Answers, values: Any, mask: Any, constant: float) -> Iterator[Gap]:
    """A value at one token alone counts x/Σ|y|, x/(N |y|), x/N or x/(N constant), and nothing where the mask is false;
    the aggregate of all is their sum."""
    rest = {"mask": mask, "constant": constant}
    weights = np.where(mask, 1 / _divisors(f, mask, constant)[:, None], 0.0)
    parts = []
    for token in np.ndindex(mask.shape):
        alone = np.zeros(mask.shape)
        alone[token] = values[token]
        parts.append(f("masked_aggregate", values=alone, **rest))
        yield equal(parts[-1], weights[token] * rounded(values[token]))
    yield equal(f("masked_aggregate", values=values, **rest), total(parts))


@law(
    source="[GAE section 6]",
    ops=("masked_normalize_advantages",),
    draw="sequences",
    blind="what is wrong with the tokens that count",
)
def padding_changes_no_normalised_advantage(f: Answers, advantages: Any, mask: Any) -> Iterator[Gap]:
    """Other numbers where the mask is false, and more of it, change no advantage; there it is 0."""
    yield from _repadded(f, "masked_normalize_advantages", {"advantages": advantages}, mask)


@law(
    source="[GAE section 6]",
    ops=("masked_normalize_advantages",),
    draw="sequences",
    blind="the order of the tokens",
)
def tokens_that_count_have_mean_zero_and_deviation_one(f: Answers, advantages: Any, mask: Any) -> Iterator[Gap]:
    """Over all tokens that count the mean is 0 and the deviation 1, or σ/(σ + ε) and the like, as declared."""
    normal = f("masked_normalize_advantages", advantages=advantages, mask=mask)[mask]
    ddof = int(f.conventions["advantage.ddof"])
    yield equal(normal.mean(), 0.0)
    A = rounded(advantages)[mask]
    deviation, new = (sqrt(square(x - x.mean()).sum() / (len(x) - ddof)) for x in (A, normal))
    yield equal(new, deviation / divisor(deviation, f.conventions))


@law(
    source="[GAE section 6]",
    ops=("masked_normalize_advantages", "normalize_advantages"),
    draw="sequences",
    blind="a mistake that the normalisation of rows shares",
)
def tokens_are_normalised_like_rows(f: Answers, advantages: Any, mask: Any) -> Iterator[Gap]:
    """The tokens that count, as the rows of a batch, are normalised to the same."""
    normal = f("masked_normalize_advantages", advantages=advantages, mask=mask)[mask]
    yield equal(normal, f("normalize_advantages", advantages=advantages[mask]))


@law(
    source="[GRPO]",
    ops=("group_advantages",),
    draw="sequences",
    blind="what the rewards are divided by, if it is one number for the group",
)
def group_advantages_compare_within_the_group(
    f: Answers, rewards: Any, group: Any, shift: float, factor: float
) -> Iterator[Gap]:
    """They sum to 0 in each group and forget a shift of its rewards; c r gives the same, or c times that undivided."""
    A = f("group_advantages", rewards=rewards, group=group)
    for number in np.unique(group):
        yield equal(A[group == number].sum(), 0.0)
    yield equal(f("group_advantages", rewards=rewards + shift * (group + 1), group=group), A)
    scaled = f("group_advantages", rewards=factor * rewards, group=group)
    if f.conventions["group.scale"] == "none":
        yield equal(scaled, factor * A)
    elif f.conventions["advantage.epsilon"] == "0":
        yield equal(scaled, A)


@law(
    source="[GRPO]",
    ops=("group_advantages",),
    draw="sequences",
    blind="all that is the same in every group",
)
def groups_do_not_mix(f: Answers, rewards: Any, group: Any, order: Any) -> Iterator[Gap]:
    """A group's advantages are those of it alone, whatever its number, wherever its members stand."""
    A = f("group_advantages", rewards=rewards, group=group)
    yield equal(f("group_advantages", rewards=rewards[order], group=group[order]), A[order])
    for number in np.unique(group):
        members = group == number
        renamed = np.full(members.sum(), 5 - number)
        yield equal(f("group_advantages", rewards=rewards[members], group=renamed), A[members])


@law(
    source="[RLOO]",
    ops=("group_advantages",),
    draw="sequences",
    blind="a constant that is added to the advantages of a group",
)
def advantages_differ_as_rewards_do(f: Answers, rewards: Any, group: Any) -> Iterator[Gap]:
    """Within a group A_i − A_j = c (r_i − r_j), with c = 1 or n/(n − 1) by the baseline, over σ if so declared."""
    A = f("group_advantages", rewards=rewards, group=group)
    ddof = int(f.conventions["advantage.ddof"])
    for number in np.unique(group):
        members = group == number
        r, n = rounded(rewards[members]), int(members.sum())
        change = (r[1:] - r[:-1]) * (n if f.conventions["group.baseline"] == "leave_one_out" else n - 1) / (n - 1)
        if f.conventions["group.scale"] == "std":
            sigma = sqrt(square(r - r.mean()).sum() / (n - ddof))
            change = change / divisor(sigma, f.conventions)
        found = A[members]
        yield equal(found[1:] - found[:-1], change)


@law(
    source="[RLHF]",
    ops=("token_rewards",),
    draw="sequences",
    blind="to which token what is paid",
)
def token_rewards_sum_to_the_score_less_the_log_ratio(
    f: Answers, rewards: Any, new_log_prob: Any, reference_log_prob: Any, mask: Any, kl_penalty: float
) -> Iterator[Gap]:
    """Over a sequence they sum to score − β log(π(y)/π_ref(y))."""
    paid = _rewards(f, rewards, new_log_prob, reference_log_prob, mask, kl_penalty)
    d = rounded(np.where(mask, new_log_prob - reference_log_prob, 0.0))
    yield equal(paid.sum(axis=1), rewards - kl_penalty * d.sum(axis=1))


@law(
    source="[RLHF]",
    ops=("token_rewards",),
    draw="sequences",
    blind="nothing of the rewards",
)
def the_score_is_paid_at_the_end_and_the_price_everywhere(
    f: Answers, rewards: Any, new_log_prob: Any, reference_log_prob: Any, mask: Any, kl_penalty: float
) -> Iterator[Gap]:
    """At the reference the last token that counts gets the score and no other anything; a score of 0 leaves −β d."""
    tokens = np.arange(mask.shape[1])
    last = tokens == np.max(np.where(mask, tokens, -1), axis=1)[:, None]
    at_reference = _rewards(f, rewards, new_log_prob, new_log_prob, mask, kl_penalty)
    yield equal(at_reference, np.where(last, rewards[:, None], 0.0))
    unscored = _rewards(f, 0 * rewards, new_log_prob, reference_log_prob, mask, kl_penalty)
    yield equal(unscored, np.where(mask, kl_penalty * (reference_log_prob - new_log_prob), 0.0))


def _rewards(f: Answers, scores: Any, log_prob: Any, reference: Any, mask: Any, beta: float) -> Rounded:
    answer: Rounded = f(
        "token_rewards",
        scores=scores,
        log_prob=log_prob,
        reference_log_prob=reference,
        mask=mask,
        kl_penalty=beta,
    )
    return answer


@law(
    source="[RLHF]",
    ops=("token_rewards",),
    draw="sequences",
    blind="what is wrong with the tokens that count",
)
def padding_changes_no_reward(
    f: Answers, rewards: Any, new_log_prob: Any, reference_log_prob: Any, mask: Any, kl_penalty: float
) -> Iterator[Gap]:
    """Other numbers where the mask is false, and more of it, change no reward; there it is 0."""
    tokens = {"log_prob": new_log_prob, "reference_log_prob": reference_log_prob}
    yield from _repadded(f, "token_rewards", tokens, mask, scores=rewards, kl_penalty=kl_penalty)


def _penalty(f: Answers, log_prob: Any, reference: Any, mask: Any, constant: float) -> dict[str, Rounded]:
    answer: dict[str, Rounded] = f(
        "token_kl_penalty", log_prob=log_prob, reference_log_prob=reference, mask=mask, constant=constant
    )
    return answer


@law(
    source="[Blog-KL]",
    ops=("token_kl_penalty",),
    draw="sequences",
    blind="what is wrong with the tokens that count",
)
def padding_changes_no_penalty(
    f: Answers, new_log_prob: Any, reference_log_prob: Any, mask: Any, constant: float
) -> Iterator[Gap]:
    """Other numbers where the mask is false, and more of it, change neither the penalty nor its gradient, 0 there."""
    tokens = {"log_prob": new_log_prob, "reference_log_prob": reference_log_prob}
    yield from _repadded(f, "token_kl_penalty", tokens, mask, constant=constant)


@law(
    source="[Blog-KL]",
    ops=("token_kl_penalty",),
    draw="sequences",
    blind="all that vanishes at the reference: a factor, the direction",
)
def penalties_vanish_at_the_reference(
    f: Answers, new_log_prob: Any, reference_log_prob: Any, mask: Any, constant: float
) -> Iterator[Gap]:
    """Where the policy is the reference the penalty is 0; k2 and k3 are never negative, and have no slope there."""
    there = _penalty(f, new_log_prob, new_log_prob, mask, constant)
    yield equal(there["penalty"], 0.0)
    if f.conventions["kl_penalty.estimator"] != "k1":
        yield equal(there["gradient"], 0.0)
        yield at_least(_penalty(f, new_log_prob, reference_log_prob, mask, constant)["penalty"], 0.0)


@law(
    source="[Blog-KL]",
    ops=("token_kl_penalty", "kl_estimators", "masked_aggregate"),
    draw="sequences",
    blind="a mistake that the estimators of rows share, and the gradient",
)
def penalties_aggregate_the_estimators_of_rows(
    f: Answers, new_log_prob: Any, reference_log_prob: Any, mask: Any, constant: float
) -> Iterator[Gap]:
    """The penalty is the aggregate of the declared estimator, of tokens that the policy, not the reference, drew."""
    rows = f("kl_estimators", old_log_prob=new_log_prob.ravel(), new_log_prob=reference_log_prob.ravel())
    k = rows[f.conventions["kl_penalty.estimator"]].reshape(*mask.shape)
    penalty = _penalty(f, new_log_prob, reference_log_prob, mask, constant)["penalty"]
    yield equal(penalty, f("masked_aggregate", values=k, mask=mask, constant=constant))


@law(
    source="[Blog-KL]",
    ops=("token_kl_penalty",),
    draw="sequences",
    blind="a penalty that is wrong together with its gradient",
)
def penalty_gradient_is_the_derivative_of_the_penalty(
    f: Answers, old_log_prob: Any, new_log_prob: Any, reference_log_prob: Any, mask: Any, constant: float
) -> Iterator[Gap]:
    """The penalty's change is the line integral of its gradient, between any two policies."""
    step = new_log_prob - old_log_prob

    def at(t: float) -> dict[str, Rounded]:
        return _penalty(f, old_log_prob + t * step, reference_log_prob, mask, constant)

    line, truncation = integral(lambda t: (at(t)["gradient"] * step).sum())
    yield equal(at(1.0)["penalty"] - at(0.0)["penalty"], line, truncation)


@law(
    source="[Blog-KL]",
    ops=("token_kl_penalty",),
    draw="sequences",
    blind="a penalty that is right of each sequence alone",
)
def penalties_are_those_of_the_sequences(
    f: Answers, new_log_prob: Any, reference_log_prob: Any, mask: Any, constant: float
) -> Iterator[Gap]:
    """Penalty and gradient are those of each sequence alone times its share, the mean or |y|/Σ|y|."""
    whole = _penalty(f, new_log_prob, reference_log_prob, mask, constant)

    def alone(one: slice) -> dict[str, Rounded]:
        return _penalty(f, new_log_prob[one], reference_log_prob[one], mask[one], constant)

    yield from _one_by_one(f, whole, mask, alone)


def _clipped(f: Answers, old: Any, new: Any, advantages: Any, mask: Any, **rest: float) -> dict[str, Rounded]:
    answer: dict[str, Rounded] = f(
        "token_clipped_objective", old_log_prob=old, new_log_prob=new, advantages=advantages, mask=mask, **rest
    )
    return answer


@law(
    source="[PPO (7)]",
    ops=("token_clipped_objective",),
    draw="sequences",
    blind="what is wrong with the tokens that count",
)
def padding_changes_no_clipped_objective(
    f: Answers,
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: float,
    clip_high: float,
    constant: float,
) -> Iterator[Gap]:
    """Other numbers where the mask is false, and more of it, change neither objective nor gradient, 0 there."""
    tokens = {"old_log_prob": old_log_prob, "new_log_prob": new_log_prob, "advantages": advantages}
    rest = {"clip": clip, "clip_high": clip_high, "constant": constant}
    yield from _repadded(f, "token_clipped_objective", tokens, mask, **rest)


@law(
    source="[PPO (7)]",
    ops=("token_clipped_objective", "masked_aggregate"),
    draw="sequences",
    blind="everything away from ratio 1, and the clip",
)
def at_the_old_policy_every_ratio_is_one(
    f: Answers, old_log_prob: Any, advantages: Any, mask: Any, clip: float, clip_high: float, constant: float
) -> Iterator[Gap]:
    """Of tokens or of sequences: the objective is the aggregate of A, and its gradient sums to it."""
    answer = _clipped(
        f, old_log_prob, old_log_prob, advantages, mask, clip=clip, clip_high=clip_high, constant=constant
    )
    aggregate = f("masked_aggregate", values=advantages, mask=mask, constant=constant)
    yield equal(answer["objective"], aggregate)
    yield equal(answer["gradient"].sum(), aggregate)


@law(
    source="[PPO (7)]",
    ops=("token_clipped_objective", "clipped_objective", "clipped_objective_gradient"),
    draw="sequences",
    blind="all that has to do with several tokens in a sequence",
)
def one_token_per_sequence_is_a_batch_of_rows(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, mask: Any, clip: float, constant: float
) -> Iterator[Gap]:
    """Where one token of each sequence counts, objective and gradient are PPO's, or that over the constant."""
    first = np.argmax(mask, axis=1)
    single = np.arange(mask.shape[1]) == first[:, None]
    rest = {"clip": clip, "clip_high": clip, "constant": constant}
    answer = _clipped(f, old_log_prob, new_log_prob, advantages, single, **rest)
    rows = {
        "old_log_prob": old_log_prob[single],
        "new_log_prob": new_log_prob[single],
        "advantages": advantages[single],
        "clip": clip,
    }
    divided_by = constant if f.conventions["sequence.aggregation"] == "token_sum_over_constant" else 1.0
    yield equal(divided_by * answer["objective"], f("clipped_objective", **rows))
    yield equal(divided_by * answer["gradient"][single], f("clipped_objective_gradient", **rows))


@law(
    source="[PPO (7)]",
    ops=("token_clipped_objective",),
    draw="sequences",
    blind="an objective that is right of each sequence alone",
)
def clipped_objectives_are_those_of_the_sequences(
    f: Answers,
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: float,
    clip_high: float,
    constant: float,
) -> Iterator[Gap]:
    """Objective and gradient are those of each sequence alone times its share, the mean or |y|/Σ|y|."""
    rest = {"clip": clip, "clip_high": clip_high, "constant": constant}
    tokens = old_log_prob, new_log_prob, advantages, mask
    whole = _clipped(f, *tokens, **rest)
    yield from _one_by_one(f, whole, mask, lambda one: _clipped(f, *(x[one] for x in tokens), **rest))


@law(
    source="[GSPO]",
    ops=("token_clipped_objective",),
    draw="sequences",
    blind="what depends on the lengths as the declared aggregation does",
)
def tokens_said_twice_change_no_mean(
    f: Answers,
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: float,
    clip_high: float,
    constant: float,
) -> Iterator[Gap]:
    """Every token twice: a mean stays and its gradient is shared, a sum doubles; the ratio of a sequence stays."""
    rest = {"clip": clip, "clip_high": clip_high, "constant": constant}
    once = _clipped(f, old_log_prob, new_log_prob, advantages, mask, **rest)
    tokens = (np.concatenate([x, x], axis=1) for x in (old_log_prob, new_log_prob, advantages, mask))
    twice = _clipped(f, *tokens, **rest)
    times = 1.0 if f.conventions["sequence.aggregation"] in ("token_mean", "sequence_mean_token_mean") else 2.0
    yield equal(twice["objective"], times * once["objective"])
    for half in np.split(np.arange(2 * mask.shape[1]), 2):
        yield equal(twice["gradient"][:, half], times / 2 * once["gradient"])


@law(
    source="[GSPO]",
    ops=("token_clipped_objective", "clipped_objective", "masked_aggregate"),
    draw="sequences",
    blind="how the ratios of the tokens make that of the sequence, where they differ",
)
def equal_ratios_make_the_level_indifferent(
    f: Answers, old_log_prob: Any, rewards: Any, advantages: Any, mask: Any, clip: float, constant: float
) -> Iterator[Gap]:
    """Where all tokens of a sequence have one ratio, it is the sequence's: the aggregate of what rows would give."""
    new = old_log_prob + rewards[:, None] / 4
    answer = _clipped(f, old_log_prob, new, advantages, mask, clip=clip, clip_high=clip, constant=constant)
    rows = [
        f(
            "clipped_objective",
            old_log_prob=old_log_prob[i, t : t + 1],
            new_log_prob=new[i, t : t + 1],
            advantages=advantages[i, t : t + 1],
            clip=clip,
        ).reshape(1)
        for i, t in np.ndindex(mask.shape)
    ]
    terms = join(rows).reshape(*mask.shape)
    yield equal(answer["objective"], f("masked_aggregate", values=terms, mask=mask, constant=constant))


@law(
    source="[GSPO]",
    ops=("token_clipped_objective", "ratio", "masked_aggregate"),
    draw="sequences",
    blind="the clip, and the gradient",
)
def without_a_clip_ratio_times_advantage_is_aggregated(
    f: Answers, old_log_prob: Any, new_log_prob: Any, advantages: Any, mask: Any, constant: float
) -> Iterator[Gap]:
    """In a window that nothing leaves: r of the token, or of the mean of the log-ratios of its sequence, times A."""
    log_r = rounded(np.where(mask, new_log_prob - old_log_prob, 0.0))
    if f.conventions["ratio.level"] == "sequence":
        log_r = (log_r.sum(axis=1) / mask.sum(axis=1))[:, None] + np.zeros(mask.shape)
    r = f("ratio", old_log_prob=np.zeros(mask.size), new_log_prob=log_r.reshape(-1)).reshape(*mask.shape)
    answer = _clipped(f, old_log_prob, new_log_prob, advantages, mask, **_WIDE, constant=constant)
    yield equal(answer["objective"], f("masked_aggregate", values=r * advantages, mask=mask, constant=constant))


@law(
    source="[PPO (7)]",
    ops=("token_clipped_objective",),
    draw="sequences",
    blind="the clip, and an objective that is wrong together with its gradient",
)
def token_gradient_is_the_derivative_of_the_objective(
    f: Answers,
    old_log_prob: Any,
    new_log_prob: Any,
    reference_log_prob: Any,
    advantages: Any,
    mask: Any,
    constant: float,
) -> Iterator[Gap]:
    """In a window that nothing leaves the objective's change is the line integral of its gradient, at either level."""
    step = new_log_prob - reference_log_prob

    def at(t: float) -> dict[str, Rounded]:
        new = reference_log_prob + t * step
        return _clipped(f, old_log_prob, new, advantages, mask, **_WIDE, constant=constant)

    line, truncation = integral(lambda t: (at(t)["gradient"] * step).sum())
    yield equal(at(1.0)["objective"] - at(0.0)["objective"], line, truncation)


@law(
    source="[GRPO]",
    ops=("sequence_objective", "token_clipped_objective", "token_kl_penalty"),
    draw="sequences",
    blind="a mistake that one of the two terms shares",
)
def sequence_objective_has_two_terms(
    f: Answers,
    old_log_prob: Any,
    new_log_prob: Any,
    reference_log_prob: Any,
    rewards: Any,
    mask: Any,
    clip: float,
    clip_high: float,
    kl_penalty: float,
    constant: float,
) -> Iterator[Gap]:
    """Value and gradient: the clipped objective, whose tokens have the advantage of their sequence, less β penalty."""
    rest = {"clip": clip, "clip_high": clip_high, "constant": constant}
    both = f(
        "sequence_objective",
        old_log_prob=old_log_prob,
        new_log_prob=new_log_prob,
        reference_log_prob=reference_log_prob,
        advantages=rewards,
        mask=mask,
        kl_penalty=kl_penalty,
        **rest,
    )
    tokens = np.repeat(rewards[:, None], mask.shape[1], axis=1)
    clipped = _clipped(f, old_log_prob, new_log_prob, tokens, mask, **rest)
    penalty = _penalty(f, new_log_prob, reference_log_prob, mask, constant)
    yield equal(both["objective"], clipped["objective"] - kl_penalty * penalty["penalty"])
    yield equal(both["gradient"], clipped["gradient"] - kl_penalty * penalty["gradient"])


@law(
    source="[GRPO]",
    ops=("sequence_objective",),
    draw="sequences",
    blind="what is wrong with the tokens that count",
)
def padding_changes_no_sequence_objective(
    f: Answers,
    old_log_prob: Any,
    new_log_prob: Any,
    reference_log_prob: Any,
    rewards: Any,
    mask: Any,
    clip: float,
    clip_high: float,
    kl_penalty: float,
    constant: float,
) -> Iterator[Gap]:
    """Other numbers where the mask is false, and more of it, change neither objective nor gradient, 0 there."""
    tokens = {
        "old_log_prob": old_log_prob,
        "new_log_prob": new_log_prob,
        "reference_log_prob": reference_log_prob,
    }
    rest = {"clip": clip, "clip_high": clip_high, "kl_penalty": kl_penalty, "constant": constant}
    yield from _repadded(f, "sequence_objective", tokens, mask, advantages=rewards, **rest)
