"""Known mistakes in the operations of the profile `sequence`: a definition with one piece replaced, or other lists."""

from collections.abc import Callable, Sequence

from flint import arb

from verification.certify.balls import exact, less, mean, total
from verification.certify.calculus import Scalar, constant, exponential
from verification.certify.definitions import ppo, sequence
from verification.certify.definitions.estimators import deviation_of, divisor_of
from verification.certify.definitions.sequence import (
    RIGHT,
    Conventions,
    Inputs,
    Mask,
    Outputs,
    Pieces,
    Table,
    divisors,
    token_weights,
)
from verification.certify.mistakes import Mistake
from verification.certify.mistakes.ppo import WINDOW_MISTAKES

Answer = Callable[[Inputs, Conventions], Outputs]

# ── Weights ────────────────────────────────────────────────


def _all_alike(lengths: list[int], mask: Mask, number: arb, aggregation: str) -> Table:
    """The weights of sequences of some lengths, for every token there is."""
    below = divisors(lengths, number, aggregation)
    return [[1 / divisor for _ in kept] for kept, divisor in zip(mask, below, strict=True)]


def _unmasked(mask: Mask, number: arb, aggregation: str) -> Table:
    return _all_alike([sum(kept) for kept in mask], mask, number, aggregation)


def _padded(mask: Mask, number: arb, aggregation: str) -> Table:
    everywhere = _all_alike([len(kept) for kept in mask], mask, number, aggregation)
    return [[int(k) * w for k, w in zip(*rows, strict=True)] for rows in zip(mask, everywhere, strict=True)]


def late(mask: Mask) -> Mask:
    """The mask of the tokens before; the one before the first counts."""
    return [[True, *kept[:-1]] for kept in mask]


def _late_weights(mask: Mask, number: arb, aggregation: str) -> Table:
    return token_weights(late(mask), number, aggregation)


def _width_for_constant(mask: Mask, number: arb, aggregation: str) -> Table:
    return token_weights(mask, arb(len(mask[0])), aggregation)


def _plain_mean(mask: Mask, number: arb, aggregation: str) -> Table:
    """1/(N T) for every token there is, whatever the aggregation."""
    return _all_alike([len(kept) for kept in mask], mask, number, "token_mean")


Weights = Callable[[Mask, arb, str], Table]

_UNSHIFTED: dict[str, Weights] = {"mask-numerator": _unmasked, "mask-denominator": _padded}
_WEIGHTS: dict[str, Weights] = _UNSHIFTED | {"ratio-mask-off-by-one": _late_weights}
_CONSTANT: dict[str, Weights] = {"aggregate-constant-is-width": _width_for_constant}


def _weighed(weights: dict[str, Weights]) -> dict[str, Pieces]:
    return {bug: RIGHT._replace(weights=other, penalty_weights=other) for bug, other in weights.items()}


# ── Ratios and penalties ────────────────────────────────────────────────


def _product(log_ratios: Sequence[Scalar], kept: list[bool]) -> Scalar:
    return exponential(total(d for d, counts in zip(log_ratios, kept, strict=True) if counts))


def _mean_over_width(log_ratios: Sequence[Scalar], kept: list[bool]) -> Scalar:
    return exponential(total(d for d, counts in zip(log_ratios, kept, strict=True) if counts) / len(kept))


def _mean_of_ratios(log_ratios: Sequence[Scalar], kept: list[bool]) -> Scalar:
    return mean([exponential(d) for d, counts in zip(log_ratios, kept, strict=True) if counts])


_RATIOS: dict[str, Pieces] = {
    "ratio-always-one": RIGHT._replace(log_ratio=lambda old, new: new - constant(new)),
}
_SEQUENCE_RATIOS: dict[str, Pieces] = {
    "sequence-ratio-product": RIGHT._replace(sequence_ratio=_product),
    "sequence-ratio-over-width": RIGHT._replace(sequence_ratio=_mean_over_width),
    "sequence-ratio-mean-of-ratios": RIGHT._replace(sequence_ratio=_mean_of_ratios),
}
_WINDOWS: dict[str, Pieces] = {bug: RIGHT._replace(row=pieces.windowed_row) for bug, pieces in WINDOW_MISTAKES.items()}


def _no_half(log_prob: Scalar, reference: arb, estimator: str) -> Scalar:
    return (2 if estimator == "k2" else 1) * sequence.penalty_of_token(log_prob, reference, estimator)


def _reversed(log_prob: Scalar, reference: arb, estimator: str) -> Scalar:
    return ppo.k_estimator(reference, log_prob, estimator)


_ESTIMATES: dict[str, Pieces] = {
    "akl-k2-no-half": RIGHT._replace(penalty_row=_no_half),
    "kl-penalty-reversed": RIGHT._replace(penalty_row=_reversed),
}


# ── Objectives ────────────────────────────────────────────────


def _of(operation: Callable[..., Outputs], *tables: dict[str, Pieces]) -> list[Mistake]:
    """One mistake per piece replaced."""

    def answer(replaced: Pieces) -> Answer:
        return lambda inputs, conventions: operation(inputs, conventions, replaced)

    return [Mistake(bug, operation.__name__, answer(pieces)) for table in tables for bug, pieces in table.items()]


def _poisoned(operation: Callable[..., Outputs], terms: Callable[[Inputs, Conventions], Table]) -> Mistake:
    """NaN where the term of a token that does not count overflows before it meets its 0: the value, its own slope."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        spoilt = [
            [not counts and bool(abs(x) > arb(2) ** 1024) for counts, x in zip(*line, strict=True)]
            for line in zip(inputs["mask"], terms(inputs, conventions), strict=True)
        ]
        right = operation(inputs, conventions)
        name = next(iter(right))
        lost = any(map(any, spoilt))
        return {
            name: arb.nan() if lost else right[name],
            "gradient": [
                [arb.nan() if bad else g for bad, g in zip(*line, strict=True)]
                for line in zip(spoilt, right["gradient"], strict=True)
            ],
        }

    return Mistake("mask-nan-times-zero", operation.__name__, answer)


def _to_old_policy(inputs: Inputs, conventions: Conventions) -> Outputs:
    return sequence.sequence_objective(inputs | {"reference_log_prob": inputs["old_log_prob"]}, conventions)


# ── Advantages and rewards ────────────────────────────────────────────────


def _normalised(statistics: Callable[[Table, Mask, int], list[arb]], zero: bool = True) -> Answer:
    """The normalised advantages of other numbers, one list per sequence."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        mask, advantages = inputs["mask"], exact(inputs["advantages"])
        rows = []
        for i, (line, kept) in enumerate(zip(advantages, mask, strict=True)):
            counted = statistics(advantages, mask, i)
            centre, scale = mean(counted), deviation_of(counted, conventions)
            normalised = [(a - centre) / scale for a in line]
            rows.append([x if counts or not zero else arb(0) for x, counts in zip(normalised, kept, strict=True)])
        return {"normalized": rows}

    return answer


def _that_count(advantages: Table, mask: Mask, i: int) -> list[arb]:
    return [a for line, kept in zip(advantages, mask, strict=True) for a, k in zip(line, kept, strict=True) if k]


def _all_there_are(advantages: Table, mask: Mask, i: int) -> list[arb]:
    return [a for line in advantages for a in line]


def _mean_over_padding(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The mean of all there are, and the deviation of the tokens that count about that mean."""
    mask, advantages = inputs["mask"], exact(inputs["advantages"])
    centre, counted = mean(_all_there_are(advantages, mask, 0)), _that_count(advantages, mask, 0)
    squares = total((a - centre) * (a - centre) for a in counted)
    scale = divisor_of(squares / (len(counted) - int(conventions["advantage.ddof"])), conventions)
    rows = [zip(*line, strict=True) for line in zip(advantages, mask, strict=True)]
    return {"normalized": [[(a - centre) / scale if k else arb(0) for a, k in row] for row in rows]}


def _normalise_parentheses(inputs: Inputs, conventions: Conventions) -> Outputs:
    mask, advantages = inputs["mask"], exact(inputs["advantages"])
    counted = _that_count(advantages, mask, 0)
    shift = mean(counted) / deviation_of(counted, conventions)
    rows = [zip(*line, strict=True) for line in zip(advantages, mask, strict=True)]
    return {"normalized": [[a - shift if k else arb(0) for a, k in row] for row in rows]}


Statistics = Callable[[list[arb], list[int], int], list[arb]]


def _members(rewards: list[arb], group: list[int], i: int) -> list[arb]:
    return [r for r, number in zip(rewards, group, strict=True) if number == group[i]]


def _everyone(rewards: list[arb], group: list[int], i: int) -> list[arb]:
    return list(rewards)


def _first_group(rewards: list[arb], group: list[int], i: int) -> list[arb]:
    return _members(rewards, group, 0)


def in_blocks(group: list[int]) -> list[int]:
    """The numbers of the groups, each as often as it is there, in order."""
    return sorted(group)


def _grouped(
    centred_on: Statistics = _members,
    scaled_by: Statistics = _members,
    baseline: Callable[[arb, list[arb], str], arb] | None = None,
    numbers: Callable[[list[int]], list[int]] = lambda group: group,
) -> Answer:
    """The advantages with other members for the baseline, for the scale, or another baseline of them."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        rewards, group = exact(inputs["rewards"]), numbers(inputs["group"])
        advantages = []
        for i, reward in enumerate(rewards):
            level = (baseline or _baseline)(reward, centred_on(rewards, group, i), conventions["group.baseline"])
            scaled = conventions["group.scale"] == "std"
            scale = deviation_of(scaled_by(rewards, group, i), conventions) if scaled else arb(1)
            advantages.append((reward - level) / scale)
        return {"advantages": advantages}

    return answer


def _baseline(reward: arb, members: list[arb], form: str) -> arb:
    """The mean of the members, or of all but the reward itself."""
    if form == "group_mean":
        return mean(members)
    return (total(members) - reward) / (len(members) - 1)


def _others_over_n(reward: arb, members: list[arb], form: str) -> arb:
    return mean(members) if form == "group_mean" else (total(members) - reward) / len(members)


def _rewarded(
    place: Callable[[list[bool]], Callable[[int], bool]] = lambda kept: lambda t: t == last_of(kept),
    sign: int = -1,
    everywhere: bool = False,
    altered: Callable[[Mask], Mask] = lambda mask: mask,
) -> Answer:
    """The rewards with the score in other places, another factor of d, or of other tokens."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        mask = altered(inputs["mask"])
        columns = [mask, *(exact(inputs[name]) for name in ("log_prob", "reference_log_prob", "scores"))]
        beta = arb(inputs["kl_penalty"])
        rewards = []
        for kept, policy, reference, score in zip(*columns, strict=True):
            scored = place(kept)
            line = []
            for t, (counts, p, q) in enumerate(zip(kept, policy, reference, strict=True)):
                penalty = sign * beta * (p - q) if counts or everywhere else arb(0)
                line.append(penalty + (score if scored(t) else 0))
            rewards.append(line)
        return {"rewards": rewards}

    return answer


def last_of(kept: list[bool]) -> int:
    """The last token that counts."""
    return max(t for t, counts in enumerate(kept) if counts)


_SCORES: dict[str, Answer] = {
    "kl-reward-sign": _rewarded(sign=1),
    "kl-penalty-ignored": _rewarded(sign=0),
    "padding-not-zeroed": _rewarded(everywhere=True),
    "ratio-mask-off-by-one": _rewarded(altered=late),
    "score-at-the-end-of-the-padding": _rewarded(lambda kept: lambda t: t == len(kept) - 1),
    "score-one-late": _rewarded(lambda kept: lambda t: t == min(last_of(kept) + 1, len(kept) - 1)),
    "score-at-every-token": _rewarded(lambda kept: lambda t: kept[t]),
}

_GROUPS: dict[str, Answer] = {
    "group-batch-statistics": _grouped(_everyone, _everyone),
    "group-batch-deviation": _grouped(scaled_by=_everyone),
    "advnorm-first-group-only": _grouped(_first_group, _first_group),
    "group-order-assumed": _grouped(numbers=in_blocks),
    "leave-one-out-over-n": _grouped(baseline=_others_over_n),
}

_NORMALISED: dict[str, Answer] = {
    "advnorm-includes-padding": _normalised(_all_there_are),
    "advnorm-mean-over-padding": _mean_over_padding,
    "padding-not-zeroed": _normalised(_that_count, zero=False),
    "advnorm-paren": _normalise_parentheses,
}


def _gains(inputs: Inputs, conventions: Conventions) -> Table:
    """rA of every token where A < 0, and so unbounded."""
    old, new = exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"])
    r = sequence.ratios(old, new, inputs["mask"], conventions["ratio.level"], RIGHT)
    rows = zip(r, exact(inputs["advantages"]), strict=True)
    return [[p * A if less(A, 0) else arb(0) for p, A in zip(*row, strict=True)] for row in rows]


def _estimates(inputs: Inputs, conventions: Conventions) -> Table:
    """The estimate of every token."""
    rows = zip(exact(inputs["log_prob"]), exact(inputs["reference_log_prob"]), strict=True)
    estimator = conventions["kl_penalty.estimator"]
    return [[sequence.penalty_of_token(p, q, estimator) for p, q in zip(*row, strict=True)] for row in rows]


MISTAKES: list[Mistake] = [
    *_of(sequence.masked_aggregate, _weighed(_WEIGHTS | _CONSTANT)),
    *(Mistake(bug, "masked_normalize_advantages", answer) for bug, answer in _NORMALISED.items()),
    *(Mistake(bug, "group_advantages", answer) for bug, answer in _GROUPS.items()),
    *(Mistake(bug, "token_rewards", answer) for bug, answer in _SCORES.items()),
    *_of(sequence.token_kl_penalty, _weighed(_UNSHIFTED), _ESTIMATES),
    _poisoned(sequence.token_kl_penalty, _estimates),
    *_of(sequence.token_clipped_objective, _weighed(_WEIGHTS), _WINDOWS, _RATIOS, _SEQUENCE_RATIOS),
    _poisoned(sequence.token_clipped_objective, _gains),
    *_of(
        sequence.sequence_objective,
        _weighed(_UNSHIFTED),
        {
            "sequence-ratio-product": _SEQUENCE_RATIOS["sequence-ratio-product"],
            "kl-penalty-reversed": _ESTIMATES["kl-penalty-reversed"],
            "kl-reward-sign": RIGHT._replace(penalty_sign=-1),
            "kl-added-after-masked-mean": RIGHT._replace(penalty_weights=_plain_mean),
        },
    ),
    Mistake("kl-penalty-of-old-policy", "sequence_objective", _to_old_policy),
]
