"""The operations of the profile `sequence`, as defined: sums over tokens with weights that the mask alone decides.

A token of weight 0 is not looked at, whatever stands there.  Gradients are power series of the whole number.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from flint import arb

from verification.certify.balls import exact, mean, total
from verification.certify.calculus import Scalar, exponential, gradient
from verification.certify.definitions.estimators import deviation_of
from verification.certify.definitions.ppo import k_estimator, windowed_term
from verification.certify.definitions.trpo import Conventions, Inputs, Outputs
from verification.certify.routes.sequence import ROUTES as ROUTES  # the second routes, for the corpus

Mask: TypeAlias = list[list[bool]]
Table: TypeAlias = Sequence[Sequence[Any]]

# ── Tokens ────────────────────────────────────────────────


def divisors(lengths: list[int], constant: arb, aggregation: str) -> list[arb]:
    """What the tokens of each sequence are divided by, from the number of tokens in each."""
    n = len(lengths)
    if aggregation == "token_mean":
        return [arb(sum(lengths))] * n
    if aggregation == "sequence_mean_token_mean":
        return [arb(n * length) for length in lengths]
    return [n * (constant if aggregation == "token_sum_over_constant" else arb(1))] * n


def token_weights(mask: Mask, constant: arb, aggregation: str) -> Table:
    """The weight of every token, 0 where it does not count."""
    below = divisors([sum(kept) for kept in mask], constant, aggregation)
    return [[int(counts) / divisor for counts in kept] for kept, divisor in zip(mask, below, strict=True)]


def aggregate(weights: Table, row: Callable[[int, int], Scalar]) -> Scalar:
    """Σ w x over the tokens with a weight, x = row(sequence, token)."""
    places = [(i, t, w) for i, line in enumerate(weights) for t, w in enumerate(line)]
    return total(w * row(i, t) for i, t, w in places if not w.is_zero())


def log_ratio(old: Scalar, new: Scalar) -> Scalar:
    """log π_new/π_old of one token."""
    return new - old


def sequence_ratio(log_ratios: Sequence[Scalar], kept: list[bool]) -> Scalar:
    """exp of the mean log-ratio of the tokens that count."""
    return exponential(mean([d for d, counts in zip(log_ratios, kept, strict=True) if counts]))


# ── The pieces ────────────────────────────────────────────────


class Pieces(NamedTuple):
    """What the definitions are made of; a mistake replaces one."""

    weights: Callable[[Mask, arb, str], Table]
    log_ratio: Callable[[Scalar, Scalar], Scalar]
    sequence_ratio: Callable[[Sequence[Scalar], list[bool]], Scalar]
    row: Callable[[Scalar, arb, arb, arb], Scalar]
    penalty_weights: Callable[[Mask, arb, str], Table]
    penalty_row: Callable[[Scalar, arb, str], Scalar]
    penalty_sign: int


def penalty_of_token(log_prob: Scalar, reference: arb, estimator: str) -> Scalar:
    """k1 = d, k2 = ½ d², k3 = exp(−d) − 1 + d: the estimators of KL(policy ‖ reference), the policy's token drawn."""
    return k_estimator(log_prob, reference, estimator)


RIGHT = Pieces(
    weights=token_weights,
    log_ratio=log_ratio,
    sequence_ratio=sequence_ratio,
    row=windowed_term,
    penalty_weights=token_weights,
    penalty_row=penalty_of_token,
    penalty_sign=1,
)


def ratios(old: Table, new: Table, mask: Mask, level: str, pieces: Pieces) -> Table:
    """The ratio of every token, its own or that of its sequence."""
    changes = [[pieces.log_ratio(p, q) for p, q in zip(*rows, strict=True)] for rows in zip(old, new, strict=True)]
    if level == "token":
        return [[exponential(d) for d in line] for line in changes]
    return [[pieces.sequence_ratio(line, kept)] * len(line) for line, kept in zip(changes, mask, strict=True)]


def in_rows(flat: Sequence[Any], length: int) -> list[list[Any]]:
    """A flat list as rows of that length."""
    return [list(flat[start : start + length]) for start in range(0, len(flat), length)]


def with_gradient(name: str, objective: Callable[[Table], Scalar], point: Table) -> Outputs:
    """A function of log-probabilities, and its gradient."""
    width = len(point[0])
    g = gradient(lambda flat: objective(in_rows(flat, width)), [x for line in point for x in line])
    return {name: objective(point), "gradient": in_rows(g, width)}


# ── The operations ────────────────────────────────────────────────


def masked_aggregate(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Σ w x, the weights made of the mask."""
    values = exact(inputs["values"])
    weights = pieces.weights(inputs["mask"], arb(inputs["constant"]), conventions["sequence.aggregation"])
    return {"aggregate": aggregate(weights, lambda i, t: values[i][t])}


def masked_normalize_advantages(inputs: Inputs, conventions: Conventions) -> Outputs:
    """(A − mean)/s over the tokens that count, 0 elsewhere."""
    mask, advantages = inputs["mask"], exact(inputs["advantages"])
    counted = [a for line, kept in zip(advantages, mask, strict=True) for a, k in zip(line, kept, strict=True) if k]
    centre, scale = mean(counted), deviation_of(counted, conventions)
    rows = [zip(line, kept, strict=True) for line, kept in zip(advantages, mask, strict=True)]
    return {"normalized": [[(a - centre) / scale if k else arb(0) for a, k in row] for row in rows]}


def group_advantages(inputs: Inputs, conventions: Conventions) -> Outputs:
    """(reward − baseline)/s, both over the sequences of the group, or over the others of it."""
    rewards, group = exact(inputs["rewards"]), inputs["group"]
    advantages = []
    for i, reward in enumerate(rewards):
        members = [j for j, number in enumerate(group) if number == group[i]]
        others = [j for j in members if j != i]
        baseline = mean([rewards[j] for j in (members if conventions["group.baseline"] == "group_mean" else others)])
        scaled = conventions["group.scale"] == "std"
        scale = deviation_of([rewards[j] for j in members], conventions) if scaled else arb(1)
        advantages.append((reward - baseline) / scale)
    return {"advantages": advantages}


def token_rewards(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−β d of every token that counts, and the score at the last of them."""
    columns = [inputs["mask"], *(exact(inputs[name]) for name in ("log_prob", "reference_log_prob", "scores"))]
    beta = arb(inputs["kl_penalty"])
    rewards = []
    for kept, policy, reference, score in zip(*columns, strict=True):
        last = max(t for t, counts in enumerate(kept) if counts)
        tokens = enumerate(zip(kept, policy, reference, strict=True))
        rewards.append([-beta * (p - q) + (score if t == last else 0) if k else arb(0) for t, (k, p, q) in tokens])
    return {"rewards": rewards}


def _penalty(policy: Table, reference: Table, inputs: Inputs, conventions: Conventions, pieces: Pieces) -> Scalar:
    estimator, aggregation = conventions["kl_penalty.estimator"], conventions["sequence.aggregation"]
    weights = pieces.penalty_weights(inputs["mask"], arb(inputs["constant"]), aggregation)
    return aggregate(weights, lambda i, t: pieces.penalty_row(policy[i][t], reference[i][t], estimator))


def token_kl_penalty(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Σ w k, and its gradient with respect to the policy's log-probabilities."""
    reference = exact(inputs["reference_log_prob"])
    return with_gradient(
        "penalty",
        lambda policy: _penalty(policy, reference, inputs, conventions, pieces),
        exact(inputs["log_prob"]),
    )


def _gain(new: Table, advantages: Table, inputs: Inputs, conventions: Conventions, pieces: Pieces) -> Scalar:
    old, mask = exact(inputs["old_log_prob"]), inputs["mask"]
    low, high = arb(inputs["clip"]), arb(inputs["clip_high"])
    weights = pieces.weights(mask, arb(inputs["constant"]), conventions["sequence.aggregation"])
    r = ratios(old, new, mask, conventions["ratio.level"], pieces)
    return aggregate(weights, lambda i, t: pieces.row(r[i][t], advantages[i][t], low, high))


def token_clipped_objective(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Σ w min(rA, clip(r)A), r of the token or of its sequence, and its gradient."""
    advantages = exact(inputs["advantages"])
    return with_gradient(
        "objective",
        lambda new: _gain(new, advantages, inputs, conventions, pieces),
        exact(inputs["new_log_prob"]),
    )


def sequence_objective(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Σ w min(rA, clip(r)A) − β Σ w k, one A per sequence, and its gradient."""
    advantages = [[a] * len(kept) for a, kept in zip(exact(inputs["advantages"]), inputs["mask"], strict=True)]
    reference, beta = exact(inputs["reference_log_prob"]), pieces.penalty_sign * arb(inputs["kl_penalty"])

    def objective(new: Table) -> Scalar:
        gain = _gain(new, advantages, inputs, conventions, pieces)
        return gain - beta * _penalty(new, reference, inputs, conventions, pieces)

    return with_gradient("objective", objective, exact(inputs["new_log_prob"]))


DEFINITIONS: dict[str, Callable[[Inputs, Conventions], Outputs]] = {
    "masked_aggregate": masked_aggregate,
    "masked_normalize_advantages": masked_normalize_advantages,
    "group_advantages": group_advantages,
    "token_rewards": token_rewards,
    "token_kl_penalty": token_kl_penalty,
    "token_clipped_objective": token_clipped_objective,
    "sequence_objective": sequence_objective,
}
