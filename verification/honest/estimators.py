"""The estimators as one would write them in NumPy: backward recursions, and sums in an order that is left open."""

from typing import Any

import numpy as np

from verification.honest.distributions import Distributions, Function

Array = Any


class Estimators(Distributions):
    """The seven operations on rewards, values and log-probabilities."""

    def ops(self) -> dict[str, Function]:
        """Return the function of every op."""
        names = (
            "kl_estimators",
            "discounted_returns",
            "td_errors",
            "gae",
            "gae_rollout",
            "normalize_advantages",
            "explained_variance",
        )
        return super().ops() | {name: getattr(self, name) for name in names}

    def excess(self, d: Array) -> Array:
        """Return e^d − 1 − d."""
        return np.exp(d) - 1 - d

    def kl_estimators(self, old_log_prob: Array, new_log_prob: Array) -> dict[str, Array]:
        """k1, k2 and k3 of the log-ratio."""
        d = new_log_prob - old_log_prob
        return {"k1": -d, "k2": d**2 / 2, "k3": self.excess(d)}

    def decayed(self, terms: Array, carried: Array) -> Array:
        """Return y with y_t = terms_t + carried_t · y_{t+1}."""
        sums = np.zeros_like(terms)
        following = np.zeros_like(terms[0])
        for t in reversed(range(len(terms))):
            following = terms[t] + carried[t] * following
            sums[t] = following
        return sums

    def discounted_returns(
        self, rewards: Array, next_values: Array, terminated: Array, truncated: Array, gamma: float
    ) -> Array:
        """Rewards, with the value of the next observation paid where an episode is cut open."""
        last = np.zeros_like(terminated)
        last[-1] = True
        paid = rewards + gamma * np.where((truncated | last) & ~terminated, next_values, np.zeros_like(rewards))
        going_on = (~(terminated | truncated)).astype(rewards.dtype)
        return self.decayed(paid, gamma * going_on)

    def td_errors(self, rewards: Array, values: Array, next_values: Array, terminated: Array, gamma: float) -> Array:
        """r + γV' − V."""
        alive = (~terminated).astype(rewards.dtype)
        return rewards + gamma * next_values * alive - values

    def gae(
        self,
        rewards: Array,
        values: Array,
        next_values: Array,
        terminated: Array,
        truncated: Array,
        gamma: float,
        gae_lambda: float,
    ) -> dict[str, Array]:
        """Σ (γλ)^l δ to the end of the episode."""
        going_on = (~(terminated | truncated)).astype(rewards.dtype)
        errors = self.td_errors(rewards, values, next_values, terminated, gamma)
        advantages = self.decayed(errors, gamma * gae_lambda * going_on)
        targets = advantages + values
        if self.conventions["gae.value_target"] == "reward_to_go":
            targets = self.discounted_returns(rewards, next_values, terminated, truncated, gamma)
        return {"advantages": advantages, "value_targets": targets}

    def gae_rollout(
        self, rewards: Array, values: Array, dones: Array, last_values: Array, gamma: float, gae_lambda: float
    ) -> dict[str, Array]:
        """The same with the values of the rows below as next values."""
        next_values = np.concatenate([values[1:], last_values[None]])
        never = np.zeros_like(dones)
        return self.gae(rewards, values, next_values, dones, never, gamma, gae_lambda)

    def deviation(self, a: Array, ddof: int) -> Array:
        """Return the root of the mean squared distance from the mean."""
        return np.sqrt(self.total((a - self.mean(a)) ** 2, 0) / (len(a) - ddof))

    def divisor(self, a: Array) -> Array:
        """Return std + ε, or another divisor that is not 0."""
        number, _, form = self.conventions["advantage.epsilon"].partition("_")
        epsilon, std = float(number), self.deviation(a, int(self.conventions["advantage.ddof"]))
        return {
            "": std + epsilon,
            "in_root": np.sqrt(std**2 + epsilon),
            "at_least": np.where(std < epsilon, epsilon, std).astype(std.dtype),
        }[form]

    def normalize_advantages(self, advantages: Array) -> Array:
        """(A − mean)/(std + ε), or another divisor that is not 0."""
        return (advantages - self.mean(advantages)) / self.divisor(advantages)

    def explained_variance(self, values: Array, targets: Array) -> Array:
        """1 − var(targets − values)/var(targets)."""
        return 1 - self.deviation(targets - values, 0) ** 2 / self.deviation(targets, 0) ** 2
