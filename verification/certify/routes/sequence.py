"""Second routes of the profile `sequence`: lists of the tokens that count, pairs, exact rationals, differences."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from flint import arb

from verification.certify.balls import exact, product, rational, total
from verification.certify.routes import rationals
from verification.certify.routes.policies import Inputs
from verification.certify.routes.trpo import Conventions, Outputs, Route

STEP = -80  # of central differences, a power of two


def _kept(mask: list[list[bool]], *tables: Any) -> list[list[tuple[Any, ...]]]:
    """The tokens that count, sequence by sequence, each with its entries in the tables."""
    rows = zip(mask, *tables, strict=True)
    return [[tuple(rest) for counts, *rest in zip(*row, strict=True) if counts] for row in rows]


def _reduced(sequences: Sequence[Sequence[Any]], constant: Any, aggregation: str) -> Any:
    """One number of the numbers of every sequence: sums of sums, and what they are divided by."""
    sums = [sum(tokens[1:], start=tokens[0]) for tokens in sequences]
    if aggregation == "sequence_mean_token_mean":
        sums = [one / len(tokens) for one, tokens in zip(sums, sequences, strict=True)]
    below = {"token_mean": sum(map(len, sequences))}.get(aggregation, len(sequences))
    above = sum(sums[1:], start=sums[0])
    return above / (below * constant if aggregation == "token_sum_over_constant" else below)


def masked_aggregate_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Sums of the tokens of every sequence and their mean, in exact rationals."""
    sequences = [[x for (x,) in row] for row in _kept(inputs["mask"], rationals.fractions(inputs["values"]))]
    number = _reduced(sequences, Fraction(inputs["constant"]), conventions["sequence.aggregation"])
    return {"aggregate": rationals.ball(number)}


def _scale_of_pairs(numbers: list[arb], conventions: Conventions) -> arb:
    """The standard deviation from the mean squared difference of pairs, kept away from 0 as declared."""
    n = len(numbers)
    squares = total((a - b) ** 2 for i, a in enumerate(numbers) for b in numbers[:i])  # n² × population variance
    number, _, form = conventions["advantage.epsilon"].partition("_")
    epsilon = exact(float(number))
    variance = squares / (n * (n - int(conventions["advantage.ddof"])))
    root = (variance + (epsilon if form == "in_root" else 0)).sqrt()
    return {"": root + epsilon, "in_root": root, "at_least": root.max(epsilon)}[form]


def masked_normalize_advantages_by_pairs(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The deviations as means of differences A_i − A_j of tokens that count, the variance from pairs of them."""
    advantages = exact(inputs["advantages"])
    counted = [a for row in _kept(inputs["mask"], advantages) for (a,) in row]
    scale = _scale_of_pairs(counted, conventions)
    differences = [[total(a - b for b in counted) / len(counted) / scale for a in line] for line in advantages]
    rows = [zip(*row, strict=True) for row in zip(inputs["mask"], differences, strict=True)]
    return {"normalized": [[x if counts else arb(0) for counts, x in row] for row in rows]}


def group_advantages_by_pairs(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Differences from the others of the group, summed, over n or over n − 1; the variance from pairs."""
    rewards, group = exact(inputs["rewards"]), inputs["group"]
    advantages = []
    for reward, number in zip(rewards, group, strict=True):
        members = [r for r, other in zip(rewards, group, strict=True) if other == number]
        pairs = len(members) - (conventions["group.baseline"] == "leave_one_out")
        difference = total(reward - r for r in members) / pairs
        divided = conventions["group.scale"] == "std"
        advantages.append(difference / _scale_of_pairs(members, conventions) if divided else difference)
    return {"advantages": advantages}


def token_rewards_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """β (reference − policy) from the end backwards, in exact rationals; the first that counts has the score."""
    numbers = [rationals.fractions(inputs[name]) for name in ("log_prob", "reference_log_prob")]
    rewards = []
    for score, kept, policy, reference in zip(inputs["scores"], inputs["mask"], *numbers, strict=True):
        waiting, row = Fraction(score), []
        for counts, p, q in reversed(list(zip(kept, policy, reference, strict=True))):
            row.append(Fraction(inputs["kl_penalty"]) * (q - p) + waiting if counts else Fraction(0))
            waiting = Fraction(0) if counts else waiting
        rewards.append(row[::-1])
    return {"rewards": rationals.balls(rewards)}


# ── Objectives and penalties ────────────────────────────────────────────────────────────────────────────────────────


def _by_differences(name: str, value: Callable[[list[list[arb]]], arb], point: list[list[arb]]) -> Outputs:
    """A function of a table, and its central differences, step 2⁻⁸⁰."""
    step = arb(2) ** STEP

    def moved(place: tuple[int, int], by: arb) -> arb:
        return value([[x + by if (i, t) == place else x for t, x in enumerate(row)] for i, row in enumerate(point)])

    places = [[(i, t) for t in range(len(row))] for i, row in enumerate(point)]
    slopes = [[(moved(place, step) - moved(place, -step)) / (2 * step) for place in row] for row in places]
    return {name: value(point), "gradient": slopes}


def _estimate(policy: arb, reference: arb, estimator: str) -> arb:
    """k1 and k2 from the logarithm of the quotient, k3 = ½d² ₁F₁(1; 3; −d)."""
    d = (policy.exp() / reference.exp()).log()
    return {"k1": d, "k2": d * d / 2}.get(estimator, d * d / 2 * arb(-d).hypgeom([arb(1)], [arb(3)]))


def _penalty(policy: Any, inputs: Inputs, conventions: Conventions) -> arb:
    estimator = conventions["kl_penalty.estimator"]
    rows = _kept(inputs["mask"], policy, exact(inputs["reference_log_prob"]))
    estimates = [[_estimate(p, q, estimator) for p, q in row] for row in rows]
    return _reduced(estimates, arb(inputs["constant"]), conventions["sequence.aggregation"])


def token_kl_penalty_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Estimators of the quotient of the probabilities, reduced by sequence, and central differences."""
    return _by_differences("penalty", lambda policy: _penalty(policy, inputs, conventions), exact(inputs["log_prob"]))


def _gain(new: Any, advantages: Any, inputs: Inputs, conventions: Conventions) -> arb:
    """min(rA, clip(r)A) as printed, with Arb's own min and max, r a quotient of probabilities or its |y|th root."""
    low, high = 1 - arb(inputs["clip"]), 1 + arb(inputs["clip_high"])
    gains = []
    for row in _kept(inputs["mask"], exact(inputs["old_log_prob"]), new, advantages):
        quotients = [q.exp() / p.exp() for p, q, _ in row]
        if conventions["ratio.level"] == "sequence":
            quotients = [product(quotients) ** rational(1, len(row))] * len(row)
        terms = zip(quotients, row, strict=True)
        gains.append([(r * A).min(r.max(low).min(high) * A) for r, (_, _, A) in terms])
    return _reduced(gains, arb(inputs["constant"]), conventions["sequence.aggregation"])


def token_clipped_objective_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """min(rA, clip(r)A) as printed, reduced by sequence, no branch decided, and central differences."""
    advantages = exact(inputs["advantages"])
    return _by_differences(
        "objective", lambda new: _gain(new, advantages, inputs, conventions), exact(inputs["new_log_prob"])
    )


def sequence_objective_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The gain as printed less β times the penalty, each reduced by sequence, and central differences."""
    advantages = [[a] * len(kept) for a, kept in zip(exact(inputs["advantages"]), inputs["mask"], strict=True)]
    beta = arb(inputs["kl_penalty"])

    def value(new: Any) -> arb:
        return _gain(new, advantages, inputs, conventions) - beta * _penalty(new, inputs, conventions)

    return _by_differences("objective", value, exact(inputs["new_log_prob"]))


ROUTES: dict[str, tuple[Route, ...]] = {
    "masked_aggregate": (masked_aggregate_in_rationals,),
    "masked_normalize_advantages": (masked_normalize_advantages_by_pairs,),
    "group_advantages": (group_advantages_by_pairs,),
    "token_rewards": (token_rewards_in_rationals,),
    "token_kl_penalty": (token_kl_penalty_by_differences,),
    "token_clipped_objective": (token_clipped_objective_by_differences,),
    "sequence_objective": (sequence_objective_by_differences,),
}
