"""The operations of PPO and TRPO as one would write them in NumPy, on top of the pieces of the other modules."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from verification.honest.distributions import LOG_2_PI, Function, Inputs
from verification.honest.networks import moved
from verification.honest.parameters import flatten, unflatten
from verification.honest.sequences import Sequences

Array = Any


class Ordinary(Sequences):
    """All operations of the contract."""

    def ops(self) -> dict[str, Function]:
        """Return the function of every op."""
        names = (
            "ratio",
            "clipped_objective",
            "clipped_objective_gradient",
            "clipped_objective_parameter_gradient",
            "asymmetric_clipped_objective",
            "dual_clipped_objective",
            "clip_fraction",
            "approximate_kl",
            "kl_penalized_objective",
            "kl_penalty_update",
            "proportional_kl_penalty_update",
            "value_loss",
            "clipped_value_loss",
            "entropy_bonus",
            "ppo_objective",
            "adam_step",
            "ppo_epoch",
            "network_forward",
            "surrogate",
            "surrogate_gradient",
            "mean_kl",
            "mean_kl_gradient",
            "mean_kl_hessian_vector_product",
            "fisher_matrix",
            "fisher_vector_product",
            "conjugate_gradient",
            "fisher_conjugate_gradient",
            "natural_gradient",
            "natural_gradient_minimum_norm",
            "step_length",
            "natural_gradient_step",
            "expected_improvement",
            "line_search",
            "trpo_step",
        )
        return super().ops() | {name: getattr(self, name) for name in names}

    # The clipped objective and its neighbours.

    def clipped(self, r: Array, clip: float) -> Array:
        """Return r within 1 ± clip, branches on the real part."""
        return np.where(r.real > 1 + clip, 1 + clip + 0 * r, np.where(r.real < 1 - clip, 1 - clip + 0 * r, r))

    def clipped_objective(self, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float) -> Array:
        """Mean of min(rA, clip(r)A)."""
        r = self.ratio(old_log_prob, new_log_prob)
        one, other = r * advantages, self.clipped(r, clip) * advantages
        return self.mean(np.where(other.real < one.real, other, one))

    def active(self, r: Array, advantages: Array, clip: float) -> Array:
        """Return the rows whose clipped term is the smaller one."""
        return np.where(advantages > 0, r > 1 + clip, r < 1 - clip) & (advantages != 0)

    def clipped_objective_gradient(
        self, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float
    ) -> Array:
        """rA/B of the rows that are not clipped."""
        r = self.ratio(old_log_prob, new_log_prob)
        return np.where(self.active(r, advantages, clip), 0 * r, r * advantages / len(r))

    def asymmetric_clipped_objective(
        self, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip_low: float, clip_high: float
    ) -> dict[str, Array]:
        """Mean of rA up to the edge on the improving side, and rA/B of the rows short of it."""
        r = self.ratio(old_log_prob, new_log_prob)
        beyond = np.where(advantages > 0, r > 1 + clip_high, r < 1 - clip_low) & (advantages != 0)
        edge = np.where(advantages > 0, 1 + clip_high + 0 * r, 1 - clip_low + 0 * r)
        rows = np.where(beyond, edge, r) * advantages
        return {"objective": self.mean(rows), "gradient": np.where(beyond, 0 * r, r * advantages / len(r))}

    def dual_clipped_objective(
        self, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float, floor: float
    ) -> dict[str, Array]:
        """The same with one width, and with another edge where A < 0 and r is large."""
        r = self.ratio(old_log_prob, new_log_prob)
        beyond, floored = self.active(r, advantages, clip), (advantages < 0) & (r > floor)
        rows = np.where(floored, floor + 0 * r, np.where(beyond, self.clipped(r, clip), r)) * advantages
        slopes = np.where(beyond | floored, 0 * r, r * advantages / len(r))
        return {"objective": self.mean(rows), "gradient": slopes}

    def clipped_gradient(
        self, policy: Inputs, x: Array, actions: Array, advantages: Array, old_log_prob: Array, clip: float
    ) -> Array:
        """Return the gradient with respect to the parameters, as one vector."""
        new = self.log_probs(policy, x, actions)
        cotangent = self.clipped_objective_gradient(old_log_prob, new, advantages, clip)
        return self.pulled_back(policy, x, cotangent[:, None] * self.scores(policy, x, actions))

    def clipped_objective_parameter_gradient(
        self, policy: Inputs, observations: Array, actions: Array, advantages: Array, old_log_prob: Array, clip: float
    ) -> Inputs:
        """Backpropagation of the rows that are not clipped."""
        gradient = self.clipped_gradient(policy, observations, actions, advantages, old_log_prob, clip)
        return unflatten(policy, gradient)

    def clip_fraction(self, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float) -> Array:
        """Mean of the flags."""
        r = self.ratio(old_log_prob, new_log_prob)
        outside = self.conventions["clip_fraction.rule"] == "outside"
        flags = np.abs(r - 1) > clip if outside else self.active(r, advantages, clip)
        return self.mean(flags.astype(r.dtype))

    def approximate_kl(self, old_log_prob: Array, new_log_prob: Array) -> Array:
        """Mean of one estimator."""
        return self.mean(self.kl_estimators(old_log_prob, new_log_prob)[self.conventions["approximate_kl.estimator"]])

    def kl_penalized_objective(
        self, old_log_prob: Array, new_log_prob: Array, advantages: Array, kl: Array, kl_penalty: float
    ) -> Array:
        """Mean of rA − β KL."""
        return self.mean(self.ratio(old_log_prob, new_log_prob) * advantages - kl_penalty * kl)

    def kl_penalty_update(self, kl_penalty: float, kl: float, target: float) -> float:
        """Raise, lower or keep."""
        schedule = self.conventions["kl_penalty.schedule"]
        low, high = {"paper": (1 / 1.5, 1.5), "tf_agents": (0.7, 1.3)}.get(schedule, (0.5, 2.0))
        if kl > high * target:
            raised = kl_penalty * (2.0 if schedule == "paper" else 1.5)
            return min(raised, 35.0) if schedule == "pat_coady" else raised
        if kl < low * target:
            lowered = kl_penalty / (1.5 if schedule in ("tf_agents", "pat_coady") else 2.0)
            return max(lowered, {"tf_agents": 1e-15, "pat_coady": 1 / 35}.get(schedule, 0.0))
        return kl_penalty

    def proportional_kl_penalty_update(
        self, kl_penalty: float, kl: float, target: float, samples: int, horizon: int
    ) -> Array:
        """β + β e n/h."""
        error = np.clip((kl - target) / target, -0.2, 0.2)
        return kl_penalty + kl_penalty * error * (samples / horizon)

    @property
    def factor(self) -> float:
        """The factor of the error."""
        return 0.5 if self.conventions["value_loss.factor"] == "1/2" else 1.0

    def within_one(self, e: Array) -> Array:
        """Return e within ±1, branches on the real part."""
        return np.where(np.abs(e.real) < 1, e, np.sign(e.real))

    def error(self, e: Array) -> Array:
        """Return the error of rows that are e off: e², or the smooth one."""
        if self.conventions["value_loss.error"] == "squared":
            return e**2
        slope = self.within_one(e)
        return slope * (e - slope / 2)

    def value_loss(self, values: Array, targets: Array) -> Array:
        """Mean error."""
        return self.factor * self.mean(self.error(values - targets))

    def clipped_value_loss(self, values: Array, old_values: Array, targets: Array, clip: float) -> Array:
        """Mean of the larger error, of the clipped one, or of the error up to the clip."""
        kept = old_values + np.clip(values - old_values, -clip, clip)
        free, rows = self.error(values - targets), self.error(kept - targets)
        if self.conventions["value_loss.clip"] == "maximum":
            rows = np.maximum(rows, free)
        if self.conventions["value_loss.clip"] == "clamped_error":
            rows = np.minimum(free, clip)
        return self.factor * self.mean(rows)

    def entropy(self, policy: Inputs, x: Array) -> Array:
        """Return the mean entropy."""
        outputs = self.forward(policy, x)
        if policy["distribution"] == "categorical":
            return self.mean(self.entropy_of_logits(outputs))
        return self.total(policy["log_std"] + (LOG_2_PI + 1) / 2, 0)

    def entropy_gradient(self, policy: Inputs, x: Array) -> Array:
        """Return the gradient of the mean entropy, as one vector."""
        outputs = self.forward(policy, x)
        if policy["distribution"] == "categorical":
            surprise = self.log_softmax(outputs) + self.entropy_of_logits(outputs)[:, None]
            return self.pulled_back(policy, x, -self.softmax(outputs) * surprise / len(x))
        nothing = np.zeros_like(outputs)
        return self.pulled_back(policy, x, np.concatenate([nothing, nothing + 1], axis=1) / len(x))

    def entropy_bonus(self, policy: Inputs, observations: Array) -> Inputs:
        """Mean entropy and its gradient."""
        gradient = unflatten(policy, self.entropy_gradient(policy, observations))
        return {"entropy": self.entropy(policy, observations), "gradient": gradient}

    def error_gradient(self, net: Inputs, x: Array, targets: Array) -> Array:
        """Return the gradient of the mean error of a value network, as one vector."""
        e = self.forward(net, x)[:, 0] - targets
        slope = 2 * e if self.conventions["value_loss.error"] == "squared" else self.within_one(e)
        return self.backward(net, x, (slope / len(e))[:, None])

    def ppo_objective(
        self,
        policy: Inputs,
        value_network: Inputs,
        observations: Array,
        actions: Array,
        advantages: Array,
        old_log_prob: Array,
        value_targets: Array,
        clip: float,
        value_coefficient: float,
        entropy_coefficient: float,
    ) -> Inputs:
        """The three terms, and their gradients."""
        new = self.log_probs(policy, observations, actions)
        values = self.forward(value_network, observations)[:, 0]
        objective = self.clipped_objective(old_log_prob, new, advantages, clip)
        objective = objective - value_coefficient * self.value_loss(values, value_targets)
        objective = objective + entropy_coefficient * self.entropy(policy, observations)
        gradient = self.clipped_gradient(policy, observations, actions, advantages, old_log_prob, clip)
        gradient = gradient + entropy_coefficient * self.entropy_gradient(policy, observations)
        error = self.error_gradient(value_network, observations, value_targets)
        return {
            "objective": objective,
            "policy_gradient": unflatten(policy, gradient),
            "value_gradient": unflatten(value_network, -value_coefficient * self.factor * error),
        }

    def adam(
        self, theta: Array, g: Array, m: Array, v: Array, step: int, rate: float, b1: float, b2: float, epsilon: float
    ) -> tuple[Array, Array, Array]:
        """Return θ and the moments after a step: moments, bias correction, step."""
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        root = np.sqrt(v / (1 - b2**step)) + epsilon
        return theta - rate * (m / (1 - b1**step)) / root, m, v

    def adam_step(
        self,
        parameters: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        step: int,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> Inputs:
        """One step."""
        theta, m, v = self.adam(
            parameters, gradient, first_moment, second_moment, step, learning_rate, beta1, beta2, epsilon
        )
        return {"parameters": theta, "first_moment": m, "second_moment": v}

    def ppo_epoch(
        self,
        policy: Inputs,
        observations: Array,
        actions: Array,
        advantages: Array,
        old_log_prob: Array,
        minibatches: list[Array],
        clip: float,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> Inputs:
        """Ascent, minibatch by minibatch."""
        theta = flatten(policy)
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for step, rows in enumerate(minibatches, start=1):
            batch = (array[rows] for array in (observations, actions, advantages, old_log_prob))
            g = self.clipped_gradient(moved(policy, theta), *batch, clip)
            theta, m, v = self.adam(theta, -g, m, v, step, learning_rate, beta1, beta2, epsilon)
        return unflatten(policy, theta)

    # Surrogate, KL, Fisher.

    def surrogate(
        self, policy: Inputs, observations: Array, actions: Array, advantages: Array, old_log_prob: Array
    ) -> Array:
        """Mean of rA."""
        return self.mean(self.ratio(old_log_prob, self.log_probs(policy, observations, actions)) * advantages)

    def policy_gradient(self, policy: Inputs, x: Array, actions: Array, weights: Array) -> Array:
        """Return the mean of weights · ∇ log π, as one vector."""
        return self.pulled_back(policy, x, (weights / len(x))[:, None] * self.scores(policy, x, actions))

    def surrogate_gradient(
        self, policy: Inputs, observations: Array, actions: Array, advantages: Array, old_log_prob: Array
    ) -> Inputs:
        """Backpropagation of rA · score."""
        r = self.ratio(old_log_prob, self.log_probs(policy, observations, actions))
        return unflatten(policy, self.policy_gradient(policy, observations, actions, r * advantages))

    def mean_kl(self, old_policy: Inputs, new_policy: Inputs, observations: Array) -> Array:
        """In the direction declared."""
        return self.divergence(old_policy, new_policy, observations)

    def mean_kl_gradient(self, old_policy: Inputs, new_policy: Inputs, observations: Array) -> Inputs:
        """Backpropagation of ∂KL/∂φ."""
        return unflatten(new_policy, self.divergence_gradient(old_policy, new_policy, observations))

    def mean_kl_hessian_vector_product(
        self, old_policy: Inputs, new_policy: Inputs, observations: Array, vector: Inputs
    ) -> Inputs:
        """Forward over reverse."""
        product = self.divergence_hessian_product(old_policy, new_policy, observations, vector)
        return unflatten(new_policy, product)

    def fisher_matrix(self, policy: Inputs, observations: Array) -> Array:
        """F."""
        return self.fisher(policy, observations)

    def damped_product(self, policy: Inputs, x: Array, damping: float) -> Callable[[Array], Array]:
        """Return v ↦ (F + damping) v."""
        product = self.fisher_product(policy, x)
        return lambda v: product(v) + damping * v

    def fisher_vector_product(self, policy: Inputs, observations: Array, vector: Inputs, damping: float) -> Inputs:
        """(F + λ)v."""
        return unflatten(policy, self.damped_product(policy, observations, damping)(flatten(vector)))

    # Solvers.

    def stops(self, made: int, rr: Array) -> bool:
        """Return whether conjugate gradients end after so many iterations with rᵀr."""
        rule = self.conventions["conjugate_gradient.stop"]
        if rule == "never" or (rule == "1e-10" and made == 0):
            return bool(rr == 0)
        return bool(rr.real < 1e-10)

    def cg(self, product: Callable[[Array], Array], b: Array, iterations: int) -> Array:
        """Return x after so many iterations from zero."""
        x, r, p = np.zeros_like(b), b.copy(), b.copy()
        rr = self.dot(r, r)
        for made in range(iterations):
            if self.stops(made, rr):
                break
            Ap = product(p)
            alpha = rr / self.dot(p, Ap)
            x = x + alpha * p
            r = r - alpha * Ap
            before, rr = rr, self.dot(r, r)
            p = r + (rr / before) * p
        return x

    def conjugate_gradient(self, matrix: Array, b: Array, iterations: int) -> Array:
        """On a matrix."""
        return self.cg(lambda v: self.product(matrix, v), b, iterations)

    def fisher_conjugate_gradient(
        self, policy: Inputs, observations: Array, b: Inputs, damping: float, iterations: int
    ) -> Inputs:
        """On the damped Fisher matrix."""
        product = self.damped_product(policy, observations, damping)
        return unflatten(policy, self.cg(product, flatten(b), iterations))

    def solved(self, policy: Inputs, x: Array, g: Array, damping: float) -> Array:
        """Return (F + damping)⁻¹ g by Cholesky's factor."""
        F = self.fisher(policy, x)
        L = np.linalg.cholesky(F + damping * np.eye(len(F), dtype=F.dtype))
        return solve_triangular(L.T, solve_triangular(L, g, lower=True))

    def natural_gradient(self, policy: Inputs, observations: Array, gradient: Inputs, damping: float) -> Inputs:
        """(F + λ)⁻¹ g."""
        return unflatten(policy, self.solved(policy, observations, flatten(gradient), damping))

    def minimum_norm(self, policy: Inputs, x: Array, g: Array) -> tuple[Array, int]:
        """Return F⁺ g and the rank of F by the singular values of its rows: V S⁻² Vᵀ g."""
        _, s, Vt = np.linalg.svd(self.fisher_rows(policy, x), full_matrices=False)
        rank = int(np.sum(s > s[0] * len(g) * np.finfo(s.dtype).eps))
        V = Vt[:rank].T
        return self.product(V, self.product(V.T, g) / s[:rank] ** 2), rank

    def natural_gradient_minimum_norm(
        self, policy: Inputs, observations: Array, actions: Array, advantages: Array
    ) -> Inputs:
        """F⁺ g of the surrogate's gradient."""
        g = self.policy_gradient(policy, observations, actions, advantages)
        x, rank = self.minimum_norm(policy, observations, g)
        return {"direction": unflatten(policy, x), "rank": rank}

    def curvature(self, direction: Array, product: Array) -> Array:
        """xᵀHx + ε."""
        return self.dot(direction, product) + float(self.conventions["step_length.epsilon"])

    def step_length(self, direction: Array, product: Array, max_kl: float) -> Array:
        """√(2δ/(xᵀHx + ε))."""
        return np.sqrt(2 * max_kl / self.curvature(direction, product))

    def scaled(self, policy: Inputs, x: Array, direction: Array, damping: float, max_kl: float) -> Array:
        """Return the direction with quadratic KL equal to max_kl."""
        damped = self.conventions["step_length.damping"] == "damped"
        product = self.damped_product(policy, x, damping if damped else 0.0)(direction)
        return self.step_length(direction, product, max_kl) * direction

    def natural_gradient_step(
        self, policy: Inputs, observations: Array, gradient: Inputs, damping: float, max_kl: float
    ) -> Inputs:
        """The natural gradient, scaled."""
        direction = self.solved(policy, observations, flatten(gradient), damping)
        return unflatten(policy, self.scaled(policy, observations, direction, damping, max_kl))

    def expected_improvement(self, gradient: Inputs, step: Inputs) -> Array:
        """gᵀs."""
        return self.dot(flatten(gradient), flatten(step))

    def searched(
        self,
        policy: Inputs,
        x: Array,
        actions: Array,
        advantages: Array,
        step: Array,
        max_kl: float,
        backtrack: float,
        max_backtracks: int,
    ) -> Inputs:
        """Return the first candidate that is accepted, else the old parameters."""
        rule = self.conventions["line_search.accept"]
        theta, old = flatten(policy), self.log_probs(policy, x, actions)
        slope = self.dot(self.policy_gradient(policy, x, actions, advantages), step)
        for j in range(max_backtracks):
            candidate = theta + backtrack**j * step
            new = moved(policy, candidate)
            gain = self.mean((self.ratio(old, self.log_probs(new, x, actions)) - 1) * advantages)
            kl = self.divergence(policy, new, x)
            if {
                "improves_and_kl": gain > 0 and kl <= max_kl,
                "improves_and_kl_strict": gain > 0 and kl < max_kl,
                "improves_and_1.5_kl": gain >= 0 and kl <= 1.5 * max_kl,
                "no_worse_and_kl": gain >= 0 and kl <= max_kl,
                "kl_strict": kl < max_kl,
                "tenth_of_expected": gain > 0 and gain > 0.1 * backtrack**j * slope,
                "half_of_expected_and_kl_strict": gain > 0 and gain > 0.5 * backtrack**j * slope and kl < max_kl,
            }[rule]:
                return {"parameters": unflatten(policy, candidate), "accepted": j}
        return {"parameters": unflatten(policy, theta), "accepted": -1}

    def line_search(
        self,
        policy: Inputs,
        observations: Array,
        actions: Array,
        advantages: Array,
        full_step: Inputs,
        max_kl: float,
        backtrack: float,
        max_backtracks: int,
    ) -> Inputs:
        """From a step that is given."""
        return self.searched(
            policy, observations, actions, advantages, flatten(full_step), max_kl, backtrack, max_backtracks
        )

    def trpo_step(
        self,
        policy: Inputs,
        observations: Array,
        actions: Array,
        advantages: Array,
        max_kl: float,
        damping: float,
        iterations: int,
        backtrack: float,
        max_backtracks: int,
    ) -> Inputs:
        """Gradient, conjugate gradients, length, search."""
        g = self.policy_gradient(policy, observations, actions, advantages)
        direction = self.cg(self.damped_product(policy, observations, damping), g, iterations)
        step = self.scaled(policy, observations, direction, damping, max_kl)
        return self.searched(policy, observations, actions, advantages, step, max_kl, backtrack, max_backtracks)
