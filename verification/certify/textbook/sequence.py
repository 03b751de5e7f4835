"""The profile `sequence` as a practitioner writes it in NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]


def _lengths(inputs: Inputs) -> Array:
    """How many tokens of each sequence count, in the dtype of the inputs."""
    return np.sum(inputs["mask"], axis=1).astype(inputs["constant"].dtype)


def _aggregate(values: Array, inputs: Inputs, conventions: Conventions) -> Array:
    """Masked sums, and what they are divided by."""
    mask, aggregation = inputs["mask"], conventions["sequence.aggregation"]
    kept = np.where(mask, values, 0.0)
    if aggregation == "token_mean":
        return np.sum(kept) / float(np.sum(mask))
    per_sequence = np.sum(kept, axis=1)
    if aggregation == "sequence_mean_token_mean":
        per_sequence = per_sequence / _lengths(inputs)
    if aggregation == "token_sum_over_constant":
        per_sequence = per_sequence / inputs["constant"]
    return np.sum(per_sequence) / len(mask)


def _weights(inputs: Inputs, conventions: Conventions) -> Array:
    """The weight of every token."""
    mask, aggregation = inputs["mask"], conventions["sequence.aggregation"]
    ones = np.where(mask, 1.0 + 0.0 * inputs["constant"], 0.0)
    if aggregation == "token_mean":
        return ones / float(np.sum(mask))
    if aggregation == "sequence_mean_token_mean":
        ones = ones / _lengths(inputs)[:, None]
    if aggregation == "token_sum_over_constant":
        ones = ones / inputs["constant"]
    return ones / len(mask)


def masked_aggregate(inputs: Inputs, conventions: Conventions) -> Outputs:
    """masked sums, divided"""
    return {"aggregate": _aggregate(inputs["values"], inputs, conventions)}


def masked_aggregate_weighed(inputs: Inputs, conventions: Conventions) -> Outputs:
    """sum of weights times values"""
    return {"aggregate": np.sum(_weights(inputs, conventions) * np.where(inputs["mask"], inputs["values"], 0.0))}


def _divisor(numbers: Array, conventions: Conventions) -> Array:
    ddof = int(conventions["advantage.ddof"])
    number, _, form = conventions["advantage.epsilon"].partition("_")
    epsilon = float(number)
    if form == "in_root":
        return np.sqrt(numbers.var(ddof=ddof) + epsilon)
    std = numbers.std(ddof=ddof)
    return np.maximum(std, epsilon) if form == "at_least" else std + epsilon


def masked_normalize_advantages(inputs: Inputs, conventions: Conventions) -> Outputs:
    """(A − A[mask].mean())/(A[mask].std() + ε), 0 elsewhere"""
    a, mask = inputs["advantages"], inputs["mask"]
    normalized = (a - a[mask].mean()) / _divisor(a[mask], conventions)
    return {"normalized": np.where(mask, normalized, 0.0)}


def group_advantages(inputs: Inputs, conventions: Conventions) -> Outputs:
    """a loop over the groups"""
    rewards, group = inputs["rewards"], inputs["group"]
    advantages = 0.0 * rewards
    for number in np.unique(group):
        r = rewards[group == number]
        baseline = r.mean() if conventions["group.baseline"] == "group_mean" else (np.sum(r) - r) / (len(r) - 1)
        centred = r - baseline
        advantages[group == number] = centred / _divisor(r, conventions) if _scaled(conventions) else centred
    return {"advantages": advantages}


def _scaled(conventions: Conventions) -> bool:
    return conventions["group.scale"] == "std"


def token_rewards(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−β (log π − log π_ref), the score added at the last index of the mask"""
    mask = inputs["mask"]
    rewards = np.where(mask, -inputs["kl_penalty"] * (inputs["log_prob"] - inputs["reference_log_prob"]), 0.0)
    last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
    rows = np.arange(len(mask))
    rewards[rows, last] = rewards[rows, last] + inputs["scores"]
    return {"rewards": rewards}


Estimates = Callable[[Array, str], tuple[Array, Array]]


def _as_written(d: Array, estimator: str) -> tuple[Array, Array]:
    """d, ½d² or exp(−d) − 1 + d, and its slope."""
    if estimator == "k1":
        return d, 1.0 + 0.0 * d
    if estimator == "k2":
        return 0.5 * d**2, d
    return np.exp(-d) - 1 + d, 1 - np.exp(-d)


def _with_expm1(d: Array, estimator: str) -> tuple[Array, Array]:
    """The same, expm1(−d) + d for k3."""
    return (np.expm1(-d) + d, -np.expm1(-d)) if estimator == "k3" else _as_written(d, estimator)


def _penalty(d: Array, inputs: Inputs, conventions: Conventions, estimates: Estimates) -> tuple[Array, Array]:
    """The aggregate of the estimates, and the weighed slopes."""
    k, slope = estimates(np.where(inputs["mask"], d, 0.0), conventions["kl_penalty.estimator"])
    return _aggregate(k, inputs, conventions), _weights(inputs, conventions) * slope


def token_kl_penalty(inputs: Inputs, conventions: Conventions) -> Outputs:
    """d, ½d² or exp(−d) − 1 + d, aggregated, and weights times the slope"""
    d = inputs["log_prob"] - inputs["reference_log_prob"]
    penalty, gradient = _penalty(d, inputs, conventions, _as_written)
    return {"penalty": penalty, "gradient": gradient}


def token_kl_penalty_with_expm1(inputs: Inputs, conventions: Conventions) -> Outputs:
    """expm1(−d) + d, aggregated, and weights times −expm1(−d)"""
    d = inputs["log_prob"] - inputs["reference_log_prob"]
    penalty, gradient = _penalty(d, inputs, conventions, _with_expm1)
    return {"penalty": penalty, "gradient": gradient}


def _clipped(log_ratio: Array, A: Array, inputs: Inputs, conventions: Conventions) -> tuple[Array, Array]:
    """The aggregate of min(rA, clip(r)A), and its gradient."""
    mask, low, high = inputs["mask"], 1 - inputs["clip"], 1 + inputs["clip_high"]
    lengths = _lengths(inputs)[:, None]
    d = np.where(mask, log_ratio, 0.0)
    of_sequences = conventions["ratio.level"] == "sequence"
    if of_sequences:
        d = np.sum(d, axis=1)[:, None] / lengths + 0.0 * d
    r = np.exp(d)
    objective = _aggregate(np.minimum(r * A, np.maximum(np.minimum(r, high), low) * A), inputs, conventions)
    active = ((A > 0) & (r > high)) | ((A < 0) & (r < low))
    slope = _weights(inputs, conventions) * r * np.where(active | ~mask, 0.0, A)
    if of_sequences:
        slope = np.where(mask, np.sum(slope, axis=1)[:, None] / lengths + 0.0 * d, 0.0)
    return objective, slope


def _clipped_weighed(quotients: Array, A: Array, inputs: Inputs, conventions: Conventions) -> tuple[Array, Array]:
    """The same of quotients of probabilities, sequence by sequence."""
    mask, low, high = inputs["mask"], 1 - inputs["clip"], 1 + inputs["clip_high"]
    w = _weights(inputs, conventions)
    objective, gradient = 0.0 * inputs["constant"], 0.0 * w
    for i, kept in enumerate(mask):
        r, a, v = quotients[i][kept], A[i][kept], w[i][kept]
        of_sequence = conventions["ratio.level"] == "sequence"
        if of_sequence:
            r = np.exp(np.sum(np.log(r)) / len(r)) + 0.0 * r
        clipped = np.maximum(np.minimum(r, high), low)
        objective = objective - np.sum(v * np.maximum(-a * r, -a * clipped))
        pushes = np.where(a > 0, r < high, r > low)
        slope = v * a * r * pushes
        gradient[i, kept] = np.sum(slope) / len(r) + 0.0 * r if of_sequence else slope
    return objective, gradient


def token_clipped_objective(inputs: Inputs, conventions: Conventions) -> Outputs:
    """aggregate of min(rA, clip(r)A), and w rA where the clipped term is not the smaller"""
    d = inputs["new_log_prob"] - inputs["old_log_prob"]
    objective, gradient = _clipped(d, inputs["advantages"], inputs, conventions)
    return {"objective": objective, "gradient": gradient}


def token_clipped_objective_of_probabilities(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the same by sequence, r a quotient of probabilities"""
    objective, gradient = _clipped_weighed(_quotients(inputs), inputs["advantages"], inputs, conventions)
    return {"objective": objective, "gradient": gradient}


def _quotients(inputs: Inputs) -> Array:
    new, old = (np.where(inputs["mask"], inputs[name], 0.0) for name in ("new_log_prob", "old_log_prob"))
    return np.exp(new) / np.exp(old)


def sequence_objective(inputs: Inputs, conventions: Conventions) -> Outputs:
    """clipped objective less β times the penalty, gradients likewise"""
    new, A = inputs["new_log_prob"], inputs["advantages"][:, None] + 0.0 * inputs["new_log_prob"]
    gain, slope = _clipped(new - inputs["old_log_prob"], A, inputs, conventions)
    penalty, push = _penalty(new - inputs["reference_log_prob"], inputs, conventions, _as_written)
    beta = inputs["kl_penalty"]
    return {"objective": gain - beta * penalty, "gradient": slope - beta * push}


def sequence_objective_of_probabilities(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the same by sequence, r a quotient of probabilities, expm1(−d) + d for k3"""
    new, A = inputs["new_log_prob"], inputs["advantages"][:, None] + 0.0 * inputs["new_log_prob"]
    gain, slope = _clipped_weighed(_quotients(inputs), A, inputs, conventions)
    penalty, push = _penalty(new - inputs["reference_log_prob"], inputs, conventions, _with_expm1)
    beta = inputs["kl_penalty"]
    return {"objective": gain - beta * penalty, "gradient": slope - beta * push}


TEXTBOOK: dict[str, tuple[Callable[[Inputs, Conventions], Outputs], ...]] = {
    "masked_aggregate": (masked_aggregate, masked_aggregate_weighed),
    "masked_normalize_advantages": (masked_normalize_advantages,),
    "group_advantages": (group_advantages,),
    "token_rewards": (token_rewards,),
    "token_kl_penalty": (token_kl_penalty, token_kl_penalty_with_expm1),
    "token_clipped_objective": (token_clipped_objective, token_clipped_objective_of_probabilities),
    "sequence_objective": (sequence_objective, sequence_objective_of_probabilities),
}
