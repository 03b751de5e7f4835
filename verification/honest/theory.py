"""Finite MDPs as one would write them in NumPy: I − γP_π solved by LAPACK, expectations as sums."""

from typing import Any

import numpy as np

from verification.honest.distributions import Function, Inputs
from verification.honest.networks import Networks

Array = Any


class Theory(Networks):
    """The twelve operations on tables of transitions, rewards and policies."""

    def ops(self) -> dict[str, Function]:
        """Return the function of every op."""
        names = (
            "policy_evaluation",
            "visitation",
            "expected_return",
            "performance_difference",
            "local_approximation",
            "softmax_policy_gradient",
            "policy_total_variation",
            "policy_kl",
            "penalty_coefficient",
            "lower_bounds",
            "mm_step",
            "trust_region_dual",
        )
        return super().ops() | {name: getattr(self, name) for name in names}

    # One policy.

    def chain(self, transition: Array, pi: Array) -> Array:
        """Return P_π."""
        return self.total(pi[:, :, None] * transition, 1)

    def decay(self, transition: Array, gamma: float, pi: Array) -> Array:
        """Return I − γP_π."""
        return np.eye(len(pi), dtype=pi.dtype) - gamma * self.chain(transition, pi)

    def state_values(self, transition: Array, reward: Array, gamma: float, pi: Array) -> Array:
        """Return V."""
        return np.linalg.solve(self.decay(transition, gamma, pi), self.total(pi * reward))

    def visits(self, transition: Array, start: Array, gamma: float, pi: Array) -> Array:
        """Return ρ, of sum 1/(1 − γ)."""
        return np.linalg.solve(self.decay(transition, gamma, pi).T, start)

    def action_values(self, transition: Array, reward: Array, gamma: float, V: Array) -> Array:
        """Return Q."""
        return reward + gamma * self.total(transition * V)

    def advantages(self, transition: Array, reward: Array, gamma: float, pi: Array) -> Array:
        """Return A = Q − V."""
        V = self.state_values(transition, reward, gamma, pi)
        return self.action_values(transition, reward, gamma, V) - V[:, None]

    def policy_evaluation(self, transition: Array, reward: Array, gamma: float, probabilities: Array) -> Inputs:
        """V, Q, A."""
        V = self.state_values(transition, reward, gamma, probabilities)
        Q = self.action_values(transition, reward, gamma, V)
        return {
            "values": V,
            "action_values": Q,
            "advantages": self.advantages(transition, reward, gamma, probabilities),
        }

    def visitation(self, transition: Array, start: Array, gamma: float, probabilities: Array) -> Array:
        """ρ, or (1 − γ)ρ."""
        rho = self.visits(transition, start, gamma, probabilities)
        return (1 - gamma) * rho if self.conventions["visitation.normalisation"] == "normalised" else rho

    def expected_return(
        self, transition: Array, reward: Array, start: Array, gamma: float, probabilities: Array
    ) -> Array:
        """ρ₀ᵀV."""
        return self.dot(start, self.state_values(transition, reward, gamma, probabilities))

    def softmax_policy_gradient(
        self, transition: Array, reward: Array, start: Array, gamma: float, logits: Array
    ) -> Array:
        """ρ π A."""
        pi = self.softmax(logits)
        rho = self.visits(transition, start, gamma, pi)
        return rho[:, None] * pi * self.advantages(transition, reward, gamma, pi)

    # Two policies.

    def gains(self, advantages: Array, old: Array, new: Array) -> Array:
        """Return Σ_a π' A of every state."""
        return self.total(new * advantages)

    def performance_difference(
        self,
        transition: Array,
        reward: Array,
        start: Array,
        gamma: float,
        old_probabilities: Array,
        new_probabilities: Array,
    ) -> Array:
        """η(π') − η(π)."""
        before, after = (
            self.expected_return(transition, reward, start, gamma, pi) for pi in (old_probabilities, new_probabilities)
        )
        return after - before

    def local_approximation(
        self,
        transition: Array,
        reward: Array,
        start: Array,
        gamma: float,
        old_probabilities: Array,
        new_probabilities: Array,
    ) -> Array:
        """η(π) + Σ ρ Σ π' A."""
        A = self.advantages(transition, reward, gamma, old_probabilities)
        rho = self.visits(transition, start, gamma, old_probabilities)
        eta = self.expected_return(transition, reward, start, gamma, old_probabilities)
        return eta + self.dot(rho, self.gains(A, old_probabilities, new_probabilities))

    def distances(self, old: Array, new: Array) -> Array:
        """Return the total variation of every state."""
        return self.total(np.abs(old - new)) / 2

    def policy_total_variation(self, old_probabilities: Array, new_probabilities: Array) -> Inputs:
        """½ Σ |π − π'|, and the largest."""
        found = self.distances(old_probabilities, new_probabilities)
        return {"total_variation": found, "max_total_variation": np.max(found)}

    def kl_of_probabilities(self, p: Array, q: Array) -> Array:
        """Return Σ p (log p − log q) of every state, without the actions that have no probability."""
        return self.expected(p, np.log(p) - np.log(q))

    def policy_kl(self, old_probabilities: Array, new_probabilities: Array, state_weights: Array) -> Inputs:
        """KL of every state, the largest, the mean."""
        pair = (old_probabilities, new_probabilities)
        kl = self.kl_of_probabilities(*(pair if self.conventions["kl.direction"] == "old_new" else pair[::-1]))
        return {"kl": kl, "max_kl": np.max(kl), "mean_kl": self.dot(state_weights, kl)}

    # Bounds.

    def penalty_coefficient(self, advantages: Array, gamma: float) -> Array:
        """4εγ/(1 − γ)²."""
        return 4 * np.max(np.abs(advantages)) * gamma / (1 - gamma) ** 2

    def lower_bounds(
        self,
        transition: Array,
        reward: Array,
        start: Array,
        gamma: float,
        old_probabilities: Array,
        new_probabilities: Array,
    ) -> Inputs:
        """L less the penalties."""
        old, new = old_probabilities, new_probabilities
        A = self.advantages(transition, reward, gamma, old)
        L = self.local_approximation(transition, reward, start, gamma, old, new)
        C = self.penalty_coefficient(A, gamma)
        C_new = self.penalty_coefficient(self.gains(A, old, new)[:, None], gamma)
        kl, distances = np.max(self.kl_of_probabilities(old, new)), self.distances(old, new)
        weights = (1 - gamma) * self.visits(transition, start, gamma, old)
        return {
            "trpo_kl": L - C * kl,
            "trpo_tv": L - C * np.max(distances) ** 2,
            "pinsker": L - C / 2 * kl,
            "cpo": L - C_new / 2 * self.dot(weights, distances),
        }

    # Steps.

    def halved(self, falling: Function, target: Array, size: int) -> Array:
        """Return where falling functions take values."""
        low, high = np.full(size, -32.0, target.dtype), np.full(size, 32.0, target.dtype)
        for _ in range(64):
            middle = (low + high) / 2
            above = falling(middle) > target
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return low

    def mm_step(self, old_probabilities: Array, advantages: Array, visitation: Array, penalty: float) -> Inputs:
        """π = λp/(ν − A) with one KL in all states, halved for."""
        p, A = old_probabilities, advantages

        def row(t: Array) -> tuple[Array, Array, Array]:
            away = (A.max(axis=1) + np.exp(t))[:, None] - A
            weights = p / away
            whole = self.total(weights)
            excess = self.total(p * np.log(away)) + np.log(whole)
            return weights / whole[:, None], excess, 1 / whole

        def inside(log_kl: Array) -> Array:
            return self.halved(lambda t: row(t)[1], np.exp(log_kl), len(p))

        def divisor(log_kl: Array) -> Array:
            return np.atleast_1d(self.dot(visitation, row(inside(log_kl))[2]))

        log_kl = self.halved(divisor, np.asarray(penalty, p.dtype), 1)
        return {"probabilities": row(inside(log_kl))[0], "max_kl": np.exp(log_kl[0])}

    def trust_region_dual(self, matrix: Array, gradient: Array, max_kl: float) -> Inputs:
        """H⁻¹g by LAPACK, scaled."""
        x = np.linalg.solve(matrix, gradient)
        value = np.sqrt(2 * max_kl * self.dot(gradient, x))
        return {"step": 2 * max_kl / value * x, "multiplier": value / (2 * max_kl), "value": value}
