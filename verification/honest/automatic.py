"""Derivatives by PyTorch and by JAX: the values are written in the library, and nothing is differentiated by hand.

Both libraries offer the same functional transformations (``grad``, ``jvp``, ``jacrev``, ``hessian``), so one class
serves both; what they call differently is a field of `Library`.
"""

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from verification.honest.distributions import LOG_2_PI, Inputs, choices, factors
from verification.honest.ordinary import Ordinary
from verification.honest.parameters import flatten, unflatten
from verification.honest.variants import Functions, Variant

Array = Any


class Library(NamedTuple):
    """A library of differentiable arrays.

    Fields: ``numpy``, its namespace in NumPy's names; ``array``, from NumPy; ``grad``, ``jvp``, ``jacrev`` and
    ``hessian``, its transformations; ``log_softmax``, ``softplus``, ``sigmoid`` and ``erf``, its special functions.
    """

    name: str
    numpy: Any
    array: Callable[[Array], Array]
    grad: Callable[..., Any]
    jvp: Callable[..., Any]
    jacrev: Callable[..., Any]
    hessian: Callable[..., Any]
    log_softmax: Callable[[Array, int], Array]
    softplus: Callable[[Array], Array]
    sigmoid: Callable[[Array], Array]
    erf: Callable[[Array], Array]


def torch_library() -> Library:
    """Return PyTorch; ImportError if it is not installed."""
    import torch

    return Library(
        "torch",
        torch,
        lambda array: torch.from_numpy(np.array(array)),
        torch.func.grad,
        torch.func.jvp,
        torch.func.jacrev,
        torch.func.hessian,
        torch.log_softmax,
        # Not torch.nn.functional.softplus: above its threshold of 20 it drops e^−20 = 2e-9, which float64 resolves.
        lambda z: torch.logaddexp(z, torch.zeros_like(z)),
        torch.sigmoid,
        torch.erf,
    )


def jax_library() -> Library:
    """Return JAX, with float64 switched on for the process; ImportError if it is not installed."""
    import jax

    jax.config.update("jax_enable_x64", True)
    return Library(
        "jax",
        jax.numpy,
        jax.numpy.asarray,
        # Compiled as a whole: JAX would otherwise compile every operation for every shape.
        lambda f, **options: jax.jit(jax.grad(f, **options)),
        jax.jvp,
        lambda f: jax.jit(jax.jacrev(f)),
        lambda f: jax.jit(jax.hessian(f)),
        jax.nn.log_softmax,
        jax.nn.softplus,
        jax.nn.sigmoid,
        jax.scipy.special.erf,
    )


LIBRARIES: dict[str, Callable[[], Library]] = {"torch": torch_library, "jax": jax_library}


def autodiff_variants() -> list[Variant]:
    """Return a variant for each library that is installed."""
    installed = [name for name in LIBRARIES if importlib.util.find_spec(name)]
    return [Variant(name, partial(_functions, LIBRARIES[name]())) for name in installed]


def _functions(library: Library, conventions: Mapping[str, str]) -> Functions:
    return Automatic(library, conventions).ops()


class Automatic(Ordinary):
    """All operations, with values and derivatives by a library; loops and searches stay in Python."""

    def __init__(self, library: Library, conventions: Mapping[str, str]) -> None:
        super().__init__(conventions=conventions)
        self.library = library
        self.xp = library.numpy

    # Between NumPy and the library.

    def native(self, value: Any) -> Any:
        """Return the library's arrays in place of NumPy's."""
        if isinstance(value, dict):
            return {name: self.native(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self.native(part) for part in value]
        return self.library.array(value) if isinstance(value, np.ndarray) else value

    def evaluated(self, f: Callable[..., Array], *inputs: Any) -> Array:
        """Return f of the inputs, as a NumPy array."""
        return np.asarray(f(*(self.native(value) for value in inputs)))

    def gradient(self, f: Callable[[Inputs], Array], policy: Inputs) -> Array:
        """Return ∂f/∂θ as one vector."""
        theta = self.native(flatten(policy))
        return np.asarray(self.library.grad(lambda one: f(self.at(policy, one)))(theta))

    def at(self, policy: Inputs, theta: Array) -> Inputs:
        """Return the policy with the parameters of a native vector."""
        return policy | unflatten(policy, theta)

    # Distributions.

    def native_log_softmax(self, logits: Array) -> Array:
        """Return log p by the library."""
        return self.library.log_softmax(logits, -1)

    def native_kl_of_logits(self, old: Array, new: Array) -> Array:
        """Return Σ p (log p − log q) of every row."""
        log_p, log_q = self.native_log_softmax(old), self.native_log_softmax(new)
        return (self.xp.exp(log_p) * (log_p - log_q)).sum(-1)

    def native_log_density(self, u: Array, mean: Array, log_std: Array) -> Array:
        """Return log N(u) of every dimension."""
        return -(((u - mean) / self.xp.exp(log_std)) ** 2) / 2 - log_std - LOG_2_PI / 2

    def native_normal_kl(self, old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array) -> Array:
        """Return KL(old ‖ new) of every dimension."""
        exp = self.xp.exp
        spread = exp(2 * old_log_std) + (old_mean - new_mean) ** 2
        return new_log_std - old_log_std + spread * exp(-2 * new_log_std) / 2 - 0.5

    def native_coin_kl(self, old: Array, new: Array) -> Array:
        """Return KL(old ‖ new) of every coin: σ(old)(old − new) + softplus(new) − softplus(old)."""
        softplus = self.library.softplus
        return self.library.sigmoid(old) * (old - new) + softplus(new) - softplus(old)

    def log_softmax(self, logits: Array) -> Array:
        """By the library."""
        return self.evaluated(self.native_log_softmax, logits)

    def softmax(self, logits: Array) -> Array:
        """exp(log p)."""
        return np.exp(self.log_softmax(logits))

    def log_sigmoid(self, logits: Array) -> Array:
        """Minus the library's softplus."""
        return self.evaluated(lambda z: -self.library.softplus(-z), logits)

    def sigmoid(self, logits: Array) -> Array:
        """By the library."""
        return self.evaluated(self.library.sigmoid, logits)

    def log_density(self, u: Array, mean: Array, log_std: Array) -> Array:
        """By the library."""
        return self.evaluated(self.native_log_density, u, mean, log_std)

    def normal_kl(self, old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array) -> Array:
        """By the library."""
        return self.evaluated(self.native_normal_kl, old_mean, old_log_std, new_mean, new_log_std)

    def log_slope_of_tanh(self, u: Array) -> Array:
        """2 (log 2 − u − softplus(−2u)) by the library."""
        return self.evaluated(lambda v: 2 * (float(np.log(2)) - v - self.library.softplus(-2 * v)), u)

    def categorical_score(self, inputs: Inputs) -> Array:
        """∂ log p(a)/∂ logits; masked logits are constants."""
        scores = []
        for logits, actions in zip(factors(inputs, "logits"), choices(inputs), strict=True):
            chosen = self.native(np.eye(logits.shape[1], dtype=bool)[actions])

            def log_prob(z: Array, chosen: Array = chosen) -> Array:
                return self.xp.where(chosen, self.native_log_softmax(z), 0.0).sum()

            scores.append(np.asarray(self.library.grad(log_prob)(self.native(logits))))
        return np.concatenate(scores, axis=1)

    def bernoulli_score(self, inputs: Inputs) -> Array:
        """∂ log p/∂ logits."""
        signs = self.native(np.where(inputs["actions"] == 1, -1.0, 1.0).astype(inputs["logits"].dtype))
        log_prob = self.library.grad(lambda z: -self.library.softplus(signs * z).sum())
        return np.asarray(log_prob(self.native(inputs["logits"])))

    def gaussian_score(self, inputs: Inputs) -> dict[str, Array]:
        """∂ log N/∂(μ, log σ)."""
        u, mean, log_std = (self.native(inputs[name]) for name in ("actions", "mean", "log_std"))
        density = self.library.grad(lambda m, s: self.native_log_density(u, m, s).sum(), argnums=(0, 1))
        to_mean, to_log_std = density(mean, log_std)
        return {"mean": np.asarray(to_mean), "log_std": np.asarray(to_log_std)}

    def hessians(self, kl: Callable[[Array, Array], Array], phi: Array) -> Array:
        """Return the Hessian of KL(φ ‖ ·) at φ of every row."""
        return np.stack([np.asarray(self.library.hessian(partial(kl, row))(row)) for row in self.native(phi)])

    def fisher_of_logits(self, logits: Array) -> Array:
        """Hessian of the KL on the actions allowed; nothing on the others."""
        allowed = np.isfinite(logits)
        fisher = np.zeros((*logits.shape, logits.shape[1]), logits.dtype)
        for matrix, row, kept in zip(fisher, logits, allowed, strict=True):
            matrix[np.ix_(kept, kept)] = self.hessians(self.native_kl_of_logits, row[None, kept])[0]
        return fisher

    def bernoulli_fisher(self, inputs: Inputs) -> Array:
        """Hessian of the KL."""
        return self.hessians(lambda old, new: self.native_coin_kl(old, new).sum(), inputs["logits"])

    def gaussian_fisher(self, inputs: Inputs) -> Array:
        """Hessian of the KL of mean and log σ; the mean does not matter."""
        log_std = inputs["log_std"]
        width = log_std.shape[1]

        def kl(old: Array, new: Array) -> Array:
            return self.native_normal_kl(old[:width], old[width:], new[:width], new[width:]).sum()

        return self.hessians(kl, np.concatenate([np.zeros_like(log_std), log_std], axis=1))

    # The policy.

    def activation(self, name: str, z: Array) -> Array:
        """Return the activation in the library's functions."""
        xp = self.xp
        if name == "tanh":
            return xp.tanh(z)
        if name == "relu":
            return xp.where(z > 0, z, 0.0)
        if name == "elu":
            return xp.where(z > 0, z, xp.expm1(xp.where(z > 0, 0.0, z)))
        if name == "silu":
            return z * self.library.sigmoid(z)
        if name == "softplus":
            return self.library.softplus(z)
        if name == "gelu":
            return z * (1 + self.library.erf(z * float(np.sqrt(0.5)))) / 2
        return z

    def native_forward(self, net: Inputs, x: Array) -> Array:
        """Return the outputs."""
        h = x
        for layer in net["layers"][:-1]:
            h = self.activation(net["activation"], h @ layer["W"] + layer["b"])
        return h @ net["layers"][-1]["W"] + net["layers"][-1]["b"]

    def native_log_probs(self, policy: Inputs, x: Array, actions: Array) -> Array:
        """Return log π(a|s) of every row; categorical actions are one-hot here."""
        outputs = self.native_forward(policy, x)
        if policy["distribution"] == "categorical":
            return (actions * self.native_log_softmax(outputs)).sum(-1)
        return self.native_log_density(actions, outputs, policy["log_std"]).sum(-1)

    def native_divergence(self, old: Inputs, new: Inputs, x: Array) -> Array:
        """Return the mean KL in the direction declared."""
        one, other = (old, new) if self.conventions["kl.direction"] == "old_new" else (new, old)
        p, q = self.native_forward(one, x), self.native_forward(other, x)
        if one["distribution"] == "categorical":
            return self.native_kl_of_logits(p, q).mean()
        return self.native_normal_kl(p, one["log_std"], q, other["log_std"]).sum(-1).mean()

    def native_clipped(self, old: Array, new: Array, advantages: Array, clip: float) -> Array:
        """Return the clipped objective."""
        r = self.xp.exp(new - old)
        return self.xp.minimum(r * advantages, self.xp.clip(r, 1 - clip, 1 + clip) * advantages).mean()

    def encoded(self, policy: Inputs, x: Array, actions: Array) -> Array:
        """Return one-hot rows for a categorical policy, the actions themselves for a Gaussian."""
        if policy["distribution"] != "categorical":
            return actions
        return np.eye(policy["layers"][-1]["b"].size, dtype=x.dtype)[actions]

    def forward(self, net: Inputs, x: Array) -> Array:
        """By the library."""
        return self.evaluated(self.native_forward, net, x)

    def log_probs(self, policy: Inputs, x: Array, actions: Array) -> Array:
        """By the library."""
        return self.evaluated(self.native_log_probs, policy, x, self.encoded(policy, x, actions))

    def divergence(self, old: Inputs, new: Inputs, x: Array) -> Array:
        """By the library."""
        return self.evaluated(self.native_divergence, old, new, x)

    def clipped_objective(self, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float) -> Array:
        """By the library."""
        return self.evaluated(self.native_clipped, old_log_prob, new_log_prob, advantages, clip)

    def clipped_objective_gradient(
        self, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float
    ) -> Array:
        """By the library."""
        old, new, weights = (self.native(array) for array in (old_log_prob, new_log_prob, advantages))
        return np.asarray(self.library.grad(lambda one: self.native_clipped(old, one, weights, clip))(new))

    def clipped_gradient(
        self, policy: Inputs, x: Array, actions: Array, advantages: Array, old_log_prob: Array, clip: float
    ) -> Array:
        """By the library, through the network."""
        chosen, rows, old, weights = self.native([self.encoded(policy, x, actions), x, old_log_prob, advantages])
        return self.gradient(
            lambda pi: self.native_clipped(old, self.native_log_probs(pi, rows, chosen), weights, clip), policy
        )

    def entropy_gradient(self, policy: Inputs, x: Array) -> Array:
        """By the library."""
        rows = self.native(x)

        def entropy(pi: Inputs) -> Array:
            if pi["distribution"] != "categorical":
                return (pi["log_std"] + (LOG_2_PI + 1) / 2).sum()
            log_p = self.native_log_softmax(self.native_forward(pi, rows))
            return -(self.xp.exp(log_p) * log_p).sum(-1).mean()

        return self.gradient(entropy, policy)

    def error_gradient(self, net: Inputs, x: Array, targets: Array) -> Array:
        """By the library."""
        rows, wanted = self.native([x, targets])
        squared = self.conventions["value_loss.error"] == "squared"

        def loss(one: Any) -> Any:
            e = self.native_forward(one, rows)[:, 0] - wanted
            within = e.clip(-1, 1)
            return (e**2 if squared else within * (e - within / 2)).mean()

        return self.gradient(loss, net)

    def policy_gradient(self, policy: Inputs, x: Array, actions: Array, weights: Array) -> Array:
        """By the library."""
        chosen, rows, each = self.native([self.encoded(policy, x, actions), x, weights])
        return self.gradient(lambda pi: (each * self.native_log_probs(pi, rows, chosen)).mean(), policy)

    def surrogate_gradient(
        self, policy: Inputs, observations: Array, actions: Array, advantages: Array, old_log_prob: Array
    ) -> Inputs:
        """By the library, through the ratio."""
        encoded = self.encoded(policy, observations, actions)
        chosen, rows, old, weights = self.native([encoded, observations, old_log_prob, advantages])

        def surrogate(pi: Inputs) -> Array:
            return (self.xp.exp(self.native_log_probs(pi, rows, chosen) - old) * weights).mean()

        return unflatten(policy, self.gradient(surrogate, policy))

    def divergence_of(self, old: Inputs, new: Inputs, x: Array) -> Callable[[Array], Array]:
        """Return θ ↦ mean KL between the old policy and θ."""
        before, rows = self.native(old), self.native(x)
        return lambda theta: self.native_divergence(before, self.at(new, theta), rows)

    def divergence_gradient(self, old: Inputs, new: Inputs, x: Array) -> Array:
        """By the library."""
        return np.asarray(self.library.grad(self.divergence_of(old, new, x))(self.native(flatten(new))))

    def divergence_hessian_product(self, old: Inputs, new: Inputs, x: Array, vector: Inputs) -> Array:
        """Forward over reverse."""
        gradient = self.library.grad(self.divergence_of(old, new, x))
        point, direction = self.native(flatten(new)), self.native(flatten(vector))
        return np.asarray(self.library.jvp(gradient, (point,), (direction,))[1])

    def fisher_product(self, policy: Inputs, x: Array) -> Callable[[Array], Array]:
        """The Hessian product of the mean KL at the old policy, as TRPO codes have it."""
        return lambda v: self.divergence_hessian_product(policy, policy, x, unflatten(policy, v))

    def fisher(self, policy: Inputs, x: Array) -> Array:
        """Hessian of the mean KL at the old policy."""
        return np.asarray(self.library.hessian(self.divergence_of(policy, policy, x))(self.native(flatten(policy))))

    def jacobian(self, policy: Inputs, x: Array) -> Array:
        """Jacobian of φ by reverse mode."""
        rows = self.native(x)

        def phi(theta: Array) -> Array:
            pi = self.at(policy, theta)
            outputs = self.native_forward(pi, rows)
            if "log_std" not in pi:
                return outputs
            return self.xp.concatenate([outputs, pi["log_std"] + 0 * outputs], -1)

        return np.asarray(self.library.jacrev(phi)(self.native(flatten(policy))))

    # Sequences of tokens.

    def native_aggregate(self, values: Array, mask: Array, constant: float) -> Array:
        """Return one number of the tokens that count."""
        aggregation = self.conventions["sequence.aggregation"]
        sums, lengths = self.xp.where(mask, values, 0.0).sum(-1), mask.sum(-1)
        if aggregation == "token_mean":
            return sums.sum() / lengths.sum()
        if aggregation == "sequence_mean_token_mean":
            return (sums / lengths).mean()
        return sums.mean() / (constant if aggregation == "token_sum_over_constant" else 1)

    def native_gain(
        self, new: Array, old: Array, A: Array, mask: Array, clip: float, clip_high: float, constant: float
    ) -> Array:
        """Return the aggregate of min(rA, clip(r)A); padding is selected away before the exponential."""
        d = self.xp.where(mask, new - old, 0.0)
        if self.conventions["ratio.level"] == "sequence":
            d = (d.sum(-1) / mask.sum(-1))[:, None] + 0 * d
        r = self.xp.exp(d)
        rows = self.xp.minimum(r * A, self.xp.clip(r, 1 - clip, 1 + clip_high) * A)
        return self.native_aggregate(rows, mask, constant)

    def native_penalty(self, new: Array, reference: Array, mask: Array, constant: float) -> Array:
        """Return the aggregate of the estimates."""
        d = self.xp.where(mask, new - reference, 0.0)
        estimator = self.conventions["kl_penalty.estimator"]
        rows = d if estimator == "k1" else d**2 / 2 if estimator == "k2" else self.xp.exp(-d) - 1 + d
        return self.native_aggregate(rows, mask, constant)

    def gain(self, *batch: Any) -> Array:
        """By the library."""
        return self.evaluated(self.native_gain, *batch)

    def gain_gradient(self, *batch: Any) -> Array:
        """By the library."""
        return np.asarray(self.library.grad(self.native_gain)(*(self.native(value) for value in batch)))

    def penalty(self, *batch: Any) -> Array:
        """By the library."""
        return self.evaluated(self.native_penalty, *batch)

    def penalty_gradient(self, *batch: Any) -> Array:
        """By the library."""
        return np.asarray(self.library.grad(self.native_penalty)(*(self.native(value) for value in batch)))

    # Finite MDPs.

    def softmax_policy_gradient(
        self, transition: Array, reward: Array, start: Array, gamma: float, logits: Array
    ) -> Array:
        """The return, by the library's own solver, differentiated."""
        P, r, rho, identity = self.native([transition, reward, start, np.eye(len(start), dtype=start.dtype)])

        def eta(z: Array) -> Array:
            pi = self.xp.exp(self.native_log_softmax(z))
            chain, mean_reward = (pi[:, :, None] * P).sum(1), (pi * r).sum(-1)
            return (rho * self.xp.linalg.solve(identity - gamma * chain, mean_reward)).sum()

        return np.asarray(self.library.grad(eta)(self.native(logits)))
