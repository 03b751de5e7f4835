"""Sequences of tokens as one would write them in NumPy: masked sums by sequence, divided at the end."""

from typing import Any

import numpy as np

from verification.honest.distributions import Function
from verification.honest.theory import Theory

Array = Any


class Sequences(Theory):
    """The seven operations on tokens, masks and groups."""

    def ops(self) -> dict[str, Function]:
        """Return the function of every op."""
        names = (
            "masked_aggregate",
            "masked_normalize_advantages",
            "group_advantages",
            "token_rewards",
            "token_kl_penalty",
            "token_clipped_objective",
            "sequence_objective",
        )
        return super().ops() | {name: getattr(self, name) for name in names}

    # Tokens that count.

    def kept(self, mask: Array, values: Array) -> Array:
        """Return the values, 0 where the mask is false."""
        return np.where(mask, values, np.zeros_like(values))

    def lengths(self, mask: Array, like: Array) -> Array:
        """Return how many tokens of each sequence count, in the format of ``like``."""
        return mask.sum(axis=1).astype(like.real.dtype)

    def masked_aggregate(self, values: Array, mask: Array, constant: float) -> Array:
        """Sums of the sequences, divided as declared."""
        aggregation = self.conventions["sequence.aggregation"]
        sums, lengths = self.total(self.kept(mask, values), 1), self.lengths(mask, values)
        if aggregation == "token_mean":
            return self.total(sums, 0) / self.total(lengths, 0)
        if aggregation == "sequence_mean_token_mean":
            return self.mean(sums / lengths)
        return self.mean(sums / constant if aggregation == "token_sum_over_constant" else sums)

    def weighed(self, slopes: Array, mask: Array, constant: float) -> Array:
        """Return slopes times the weights of their tokens."""
        aggregation, lengths = self.conventions["sequence.aggregation"], self.lengths(mask, slopes)
        kept = self.kept(mask, slopes)
        if aggregation == "token_mean":
            return kept / self.total(lengths, 0)
        if aggregation == "sequence_mean_token_mean":
            kept = kept / lengths[:, None]
        return kept / len(mask) / (constant if aggregation == "token_sum_over_constant" else 1)

    def along(self, mask: Array, values: Array) -> Array:
        """Return the mean of each sequence's tokens, at every token that counts."""
        means = self.total(self.kept(mask, values), 1) / self.lengths(mask, values)
        return self.kept(mask, means[:, None] + np.zeros_like(values))

    # Advantages and rewards.

    def masked_normalize_advantages(self, advantages: Array, mask: Array) -> Array:
        """The tokens that count, taken out, normalised and put back."""
        normalized = np.zeros_like(advantages)
        normalized[mask] = self.normalize_advantages(advantages[mask])
        return normalized

    def group_advantages(self, rewards: Array, group: Array) -> Array:
        """Group by group."""
        advantages = np.zeros_like(rewards)
        for number in dict.fromkeys(group.tolist()):
            rows = group == number
            r, n = rewards[rows], int(rows.sum())
            baseline = self.mean(r)
            if self.conventions["group.baseline"] == "leave_one_out":
                baseline = (self.total(r, 0) - r) / (n - 1)
            scale = self.divisor(r) if self.conventions["group.scale"] == "std" else 1
            advantages[rows] = (r - baseline) / scale
        return advantages

    def token_rewards(
        self, scores: Array, log_prob: Array, reference_log_prob: Array, mask: Array, kl_penalty: float
    ) -> Array:
        """−β d, and the score at the last true of the mask."""
        rewards = self.kept(mask, kl_penalty * (reference_log_prob - log_prob))
        for row, kept, score in zip(rewards, mask, scores, strict=True):
            row[np.flatnonzero(kept)[-1]] += score
        return rewards

    # Objectives and penalties.

    def ratio(self, old_log_prob: Array, new_log_prob: Array) -> Array:
        """exp(new − old)."""
        return np.exp(new_log_prob - old_log_prob)

    def penalty(self, new: Array, reference: Array, mask: Array, constant: float) -> Array:
        """Return the aggregate of the estimates."""
        d = self.kept(mask, new - reference)
        rows = {"k1": lambda: d, "k2": lambda: d**2 / 2, "k3": lambda: self.excess(-d)}
        return self.masked_aggregate(rows[self.conventions["kl_penalty.estimator"]](), mask, constant)

    def penalty_gradient(self, new: Array, reference: Array, mask: Array, constant: float) -> Array:
        """Return its gradient."""
        d = self.kept(mask, new - reference)
        slopes = {"k1": lambda: np.ones_like(d), "k2": lambda: d, "k3": lambda: 1 - np.exp(-d)}
        return self.weighed(slopes[self.conventions["kl_penalty.estimator"]](), mask, constant)

    def token_kl_penalty(
        self, log_prob: Array, reference_log_prob: Array, mask: Array, constant: float
    ) -> dict[str, Array]:
        """The penalty and its gradient."""
        batch = log_prob, reference_log_prob, mask, constant
        return {"penalty": self.penalty(*batch), "gradient": self.penalty_gradient(*batch)}

    def token_ratios(self, old: Array, new: Array, mask: Array) -> Array:
        """Return the ratio of every token, or of its sequence."""
        if self.conventions["ratio.level"] == "token":
            return self.ratio(self.kept(mask, old), self.kept(mask, new))
        d = self.along(mask, new - old)
        return self.ratio(np.zeros_like(d), d)

    def edges(self, r: Array, A: Array, clip: float, clip_high: float) -> tuple[Array, Array]:
        """Return which tokens are beyond the edge on the improving side, and that edge."""
        beyond = np.where(A > 0, r.real > 1 + clip_high, r.real < 1 - clip) & (A != 0)
        return beyond, np.where(A > 0, 1 + clip_high + 0 * r, 1 - clip + 0 * r)

    def gain(
        self, new: Array, old: Array, A: Array, mask: Array, clip: float, clip_high: float, constant: float
    ) -> Array:
        """Return the aggregate of rA up to the edge."""
        r = self.token_ratios(old, new, mask)
        beyond, edge = self.edges(r, A, clip, clip_high)
        return self.masked_aggregate(np.where(beyond, edge, r) * A, mask, constant)

    def gain_gradient(
        self, new: Array, old: Array, A: Array, mask: Array, clip: float, clip_high: float, constant: float
    ) -> Array:
        """Return its gradient."""
        r = self.token_ratios(old, new, mask)
        beyond, _ = self.edges(r, A, clip, clip_high)
        slopes = self.weighed(np.where(beyond, 0 * r, r * A), mask, constant)
        return slopes if self.conventions["ratio.level"] == "token" else self.along(mask, slopes)

    def token_clipped_objective(
        self,
        old_log_prob: Array,
        new_log_prob: Array,
        advantages: Array,
        mask: Array,
        clip: float,
        clip_high: float,
        constant: float,
    ) -> dict[str, Array]:
        """The gain and its gradient."""
        batch = new_log_prob, old_log_prob, advantages, mask, clip, clip_high, constant
        return {"objective": self.gain(*batch), "gradient": self.gain_gradient(*batch)}

    def sequence_objective(
        self,
        old_log_prob: Array,
        new_log_prob: Array,
        reference_log_prob: Array,
        advantages: Array,
        mask: Array,
        clip: float,
        clip_high: float,
        kl_penalty: float,
        constant: float,
    ) -> dict[str, Array]:
        """Gain less penalty."""
        A = advantages[:, None] + np.zeros_like(new_log_prob)
        batch = new_log_prob, old_log_prob, A, mask, clip, clip_high, constant
        reference = new_log_prob, reference_log_prob, mask, constant
        return {
            "objective": self.gain(*batch) - kl_penalty * self.penalty(*reference),
            "gradient": self.gain_gradient(*batch) - kl_penalty * self.penalty_gradient(*reference),
        }
