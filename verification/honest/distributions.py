"""The distributions as one would write them in NumPy, every sum in an order that is left open."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from verification.honest.orders import NUMPY, Order

Array = Any
Inputs = dict[str, Any]
Function = Callable[..., Any]

LOG_2_PI = float(np.log(2 * np.pi))
KINDS = {
    "categorical": "categorical",
    "masked_categorical": "categorical",
    "multi_categorical": "categorical",
    "bernoulli": "bernoulli",
    "diagonal_gaussian": "gaussian",
    "squashed_gaussian": "squashed",
}
QUANTITIES = ("log_prob", "entropy", "kl", "score", "fisher")
STEPS = 8  # nodes of the trapezoidal rule per standard deviation, or per unit where that is wider
TAIL = 9  # standard deviations: the normal density is below float64's roundoff beyond


def factors(inputs: Inputs, name: str) -> list[Array]:
    """Return the logits of every categorical factor, −inf where an action is masked."""
    logits = inputs[name]
    if "mask" in inputs:
        return [np.where(inputs["mask"], logits, np.array(-np.inf, logits.dtype))]
    if "action_sizes" in inputs:
        return np.split(logits, np.cumsum(inputs["action_sizes"])[:-1], axis=1)
    return [logits]


def choices(inputs: Inputs) -> list[Array]:
    """Return the action of every categorical factor."""
    return list(np.reshape(inputs["actions"], (len(inputs["actions"]), -1)).T)


def taken(table: Array, actions: Array) -> Array:
    """Return table[b, actions[b]]."""
    return np.take_along_axis(table, actions[:, None], axis=1)[:, 0]


def one_hot(actions: Array, like: Array) -> Array:
    """Return rows of the identity, in the dtype of ``like``."""
    return np.eye(like.shape[1], dtype=like.dtype)[actions]


def diagonal(entries: Array) -> Array:
    """Return a diagonal matrix per row."""
    return entries[:, :, None] * np.eye(entries.shape[1], dtype=entries.dtype)


class Distributions:
    """The 36 operations on distributions.

    Parameters
    ----------
    order : Order
        How sums are taken.
    conventions : mapping
        A value for every axis.
    """

    def __init__(self, order: Order = NUMPY, conventions: Mapping[str, str] | None = None) -> None:
        self.order = order
        self.conventions = dict(conventions or {})

    def total(self, terms: Array, axis: int = -1) -> Array:
        """Return the sum along an axis."""
        return self.order.total(terms, axis)

    def mean(self, rows: Array) -> Array:
        """Return the mean over rows."""
        return self.total(rows, 0) / len(rows)

    def ops(self) -> dict[str, Function]:
        """Return the function of every op; each takes the inputs as keywords."""
        functions: dict[str, Function] = {}
        for family, kind in KINDS.items():
            for quantity in QUANTITIES:
                functions[f"{quantity}_{family}"] = _of_inputs(getattr(self, f"{kind}_{quantity}"))
            functions[f"mean_kl_{family}"] = self._averaged(getattr(self, f"{kind}_kl"))
        return functions

    def _averaged(self, kl: Callable[[Inputs], Array]) -> Function:
        return lambda **inputs: self.mean(kl(inputs))

    # Categorical, with a mask or in several factors.

    def log_softmax(self, logits: Array) -> Array:
        """Return logits minus their logsumexp, shifted by the largest."""
        shifted = logits - np.max(logits, axis=1, keepdims=True)
        return shifted - np.log(self.total(np.exp(shifted)))[:, None]

    def softmax(self, logits: Array) -> Array:
        """Return exponentials, shifted by the largest, over their sum."""
        e = np.exp(logits - np.max(logits, axis=1, keepdims=True))
        return e / self.total(e)[:, None]

    def expected(self, p: Array, values: Array) -> Array:
        """Return Σ p·values, without the actions that have no probability."""
        return self.total(np.where(p > 0, p * values, np.zeros_like(p)))

    def entropy_of_logits(self, logits: Array) -> Array:
        """Return −Σ p log p."""
        return -self.expected(self.softmax(logits), self.log_softmax(logits))

    def kl_of_logits(self, old: Array, new: Array) -> Array:
        """Return Σ p (log p − log q)."""
        return self.expected(self.softmax(old), self.log_softmax(old) - self.log_softmax(new))

    def fisher_of_logits(self, logits: Array) -> Array:
        """Return diag(p) − ppᵀ."""
        p = self.softmax(logits)
        return diagonal(p) - p[:, :, None] * p[:, None, :]

    def categorical_log_prob(self, inputs: Inputs) -> Array:
        """Σ over the factors of log p(a)."""
        parts = zip(factors(inputs, "logits"), choices(inputs), strict=True)
        return self.total(np.stack([taken(self.log_softmax(z), a) for z, a in parts]), 0)

    def categorical_entropy(self, inputs: Inputs) -> Array:
        """Sum over the factors."""
        return self.total(np.stack([self.entropy_of_logits(z) for z in factors(inputs, "logits")]), 0)

    def categorical_kl(self, inputs: Inputs) -> Array:
        """Sum over the factors."""
        pairs = zip(factors(inputs, "old_logits"), factors(inputs, "new_logits"), strict=True)
        return self.total(np.stack([self.kl_of_logits(old, new) for old, new in pairs]), 0)

    def categorical_score(self, inputs: Inputs) -> Array:
        """One-hot minus p."""
        parts = zip(factors(inputs, "logits"), choices(inputs), strict=True)
        return np.concatenate([one_hot(a, z) - self.softmax(z) for z, a in parts], axis=1)

    def categorical_fisher(self, inputs: Inputs) -> Array:
        """One block per factor."""
        logits = inputs["logits"]
        fisher = np.zeros((*logits.shape, logits.shape[1]), logits.dtype)
        start = 0
        for z in factors(inputs, "logits"):
            end = start + z.shape[1]
            fisher[:, start:end, start:end] = self.fisher_of_logits(z)
            start = end
        return fisher

    # Bernoulli.

    def log_sigmoid(self, logits: Array) -> Array:
        """Return −log(1 + e^−z)."""
        return -np.logaddexp(np.zeros_like(logits), -logits)

    def sigmoid(self, logits: Array) -> Array:
        """Return 1/(1 + e^−z)."""
        return 1 / (1 + np.exp(-logits))

    def bernoulli_log_prob(self, inputs: Inputs) -> Array:
        """log σ(±z)."""
        z = inputs["logits"]
        return self.total(self.log_sigmoid(np.where(inputs["actions"] == 1, z, -z)))

    def bernoulli_entropy(self, inputs: Inputs) -> Array:
        """−Σ p log p + (1 − p) log(1 − p), both sides by σ."""
        z = inputs["logits"]
        return -self.total(self.sigmoid(z) * self.log_sigmoid(z) + self.sigmoid(-z) * self.log_sigmoid(-z))

    def bernoulli_kl(self, inputs: Inputs) -> Array:
        """Both sides of every coin."""
        old, new = inputs["old_logits"], inputs["new_logits"]
        heads = self.sigmoid(old) * (self.log_sigmoid(old) - self.log_sigmoid(new))
        tails = self.sigmoid(-old) * (self.log_sigmoid(-old) - self.log_sigmoid(-new))
        return self.total(heads + tails)

    def bernoulli_score(self, inputs: Inputs) -> Array:
        """σ(−z) for heads, −σ(z) for tails."""
        z = inputs["logits"]
        return np.where(inputs["actions"] == 1, self.sigmoid(-z), -self.sigmoid(z))

    def bernoulli_fisher(self, inputs: Inputs) -> Array:
        """diag σ(z)σ(−z)."""
        z = inputs["logits"]
        return diagonal(self.sigmoid(z) * self.sigmoid(-z))

    # Gaussian, and squashed by tanh.

    def log_density(self, u: Array, mean: Array, log_std: Array) -> Array:
        """Return log N(u) of every dimension."""
        z = (u - mean) / np.exp(log_std)
        return -(z**2) / 2 - log_std - LOG_2_PI / 2

    def gaussian_log_prob(self, inputs: Inputs) -> Array:
        """Σ log N."""
        return self.total(self.log_density(inputs["actions"], inputs["mean"], inputs["log_std"]))

    def gaussian_entropy(self, inputs: Inputs) -> Array:
        """Σ log σ + ½ (log 2π + 1)."""
        return self.total(inputs["log_std"] + (LOG_2_PI + 1) / 2)

    def gaussian_kl(self, inputs: Inputs) -> Array:
        """Σ log(σ₁/σ₀) + (σ₀² + (μ₀ − μ₁)²)/2σ₁² − ½."""
        return self.total(
            self.normal_kl(*(inputs[name] for name in ("old_mean", "old_log_std", "new_mean", "new_log_std")))
        )

    def normal_kl(self, old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array) -> Array:
        """Return KL(old ‖ new) of every dimension."""
        spread = np.exp(old_log_std) ** 2 + (old_mean - new_mean) ** 2
        return new_log_std - old_log_std + spread / (2 * np.exp(new_log_std) ** 2) - 0.5

    def normal_score(self, u: Array, mean: Array, log_std: Array) -> tuple[Array, Array]:
        """Return the score of mean and log_std."""
        z = (u - mean) / np.exp(log_std)
        return z / np.exp(log_std), z * z - 1

    def gaussian_score(self, inputs: Inputs) -> dict[str, Array]:
        """(a − μ)/σ² and ((a − μ)/σ)² − 1."""
        mean, log_std = self.normal_score(inputs["actions"], inputs["mean"], inputs["log_std"])
        return {"mean": mean, "log_std": log_std}

    def gaussian_fisher(self, inputs: Inputs) -> Array:
        """diag(1/σ², 2)."""
        precision = np.exp(-2 * inputs["log_std"])
        return diagonal(np.concatenate([precision, np.full_like(precision, 2)], axis=1))

    def log_slope_of_tanh(self, u: Array) -> Array:
        """Return log(1 − tanh² u) = 2 (log 2 − |u| − log(1 + e^−2|u|))."""
        size = np.abs(u)
        return 2 * (float(np.log(2)) - size - np.log1p(np.exp(-2 * size)))

    def squashed_log_prob(self, inputs: Inputs) -> Array:
        """Σ log N − log(1 − tanh²)."""
        u = inputs["pre_tanh_actions"]
        return self.total(self.log_density(u, inputs["mean"], inputs["log_std"]) - self.log_slope_of_tanh(u))

    def squashed_entropy(self, inputs: Inputs) -> Array:
        """Gaussian entropy plus E log(1 − tanh²) by the trapezoidal rule."""
        mean, log_std = inputs["mean"], inputs["log_std"]
        step = 1 / (STEPS * max(1.0, float(np.exp(log_std.max()))))
        count = int(np.ceil(TAIL / step))
        t = (step * np.arange(-count, count + 1)).astype(mean.dtype)
        weights = (step * np.exp(-(t**2) / 2) / float(np.sqrt(2 * np.pi))).astype(mean.dtype)
        u = mean[:, :, None] + np.exp(log_std)[:, :, None] * t
        correction = self.total(weights * self.log_slope_of_tanh(u))
        return self.total(log_std + (LOG_2_PI + 1) / 2 + correction)

    def squashed_kl(self, inputs: Inputs) -> Array:
        """That of the Gaussians: tanh is one to one."""
        return self.gaussian_kl(inputs)

    def squashed_score(self, inputs: Inputs) -> dict[str, Array]:
        """That of the Gaussian at the pre-tanh action."""
        return self.gaussian_score(inputs | {"actions": inputs["pre_tanh_actions"]})

    def squashed_fisher(self, inputs: Inputs) -> Array:
        """That of the Gaussian."""
        return self.gaussian_fisher(inputs)


def _of_inputs(function: Callable[[Inputs], Any]) -> Function:
    return lambda **inputs: function(inputs)
