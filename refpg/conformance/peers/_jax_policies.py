"""Policies of the contract in JAX: θ is the contract's own structure of layers, which JAX differentiates as it is.

The network is made of jax.nn's activations and of products; log π, entropy and KL are those of a library's families.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from refpg.conformance.peers._jax_distributions import Family, numpy_arrays

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "identity": jax.nn.identity,
    "elu": jax.nn.elu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
}

Theta = Any
Families = Mapping[str, Family]


def theta_of(parameters: Mapping[str, Any]) -> Theta:
    """Return θ: the layers, and log_std where there is one; raveled, W comes before b and log_std last."""
    layers = [{"W": jnp.asarray(layer["W"]), "b": jnp.asarray(layer["b"])} for layer in parameters["layers"]]
    return {"layers": layers} | ({"log_std": jnp.asarray(parameters["log_std"])} if "log_std" in parameters else {})


def forward(activation: str, theta: Theta, x: Any) -> Any:
    """Return the network's outputs."""
    if activation not in ACTIVATIONS:
        raise NotImplementedError(f"no function of jax.nn is known for the activation {activation!r}")
    *hidden, last = theta["layers"]
    h = x
    for layer in hidden:
        h = ACTIVATIONS[activation](h @ layer["W"] + layer["b"])
    return h @ last["W"] + last["b"]


class Policy:
    """θ ↦ the distribution parameters of each row, and a library's functions of them."""

    def __init__(self, policy: Mapping[str, Any], families: Families, observations: Any) -> None:
        self.family = families[policy["distribution"]]
        self.activation = policy["activation"]
        self.theta = theta_of(policy)
        self.x = jnp.asarray(observations)

    def phi(self, theta: Theta) -> dict[str, Any]:
        """Return φ of every row."""
        outputs = forward(self.activation, theta, self.x)
        if "log_std" not in theta:
            return {"logits": outputs}
        return {"mean": outputs, "log_std": jnp.broadcast_to(theta["log_std"], outputs.shape)}

    def log_prob(self, theta: Theta, actions: Any) -> Any:
        """Return log π(a|s) of every row."""
        assert self.family.log_prob is not None
        return self.family.log_prob(self.phi(theta), {"actions": actions})

    def entropy(self, theta: Theta) -> Any:
        """Return the mean entropy."""
        assert self.family.entropy is not None
        return self.family.entropy(self.phi(theta), {}).mean()

    def kl_from(self, old: "Policy") -> Callable[[Theta], Any]:
        """Return θ ↦ mean KL(old ‖ θ)."""
        kl = self.family.kl
        assert kl is not None
        phi = jax.lax.stop_gradient(old.phi(old.theta))
        return lambda theta: kl(phi, self.phi(theta), {}).mean()


def network_forward(network: Mapping[str, Any], observations: Any) -> Any:
    """Evaluate the network."""
    program = jax.jit(lambda theta, x: forward(network["activation"], theta, x))
    return np.array(program(theta_of(network), jnp.asarray(observations)))


def mean_kl_ops(families: Families) -> dict[str, Callable[..., Any]]:
    """Return mean_kl and its derivatives by jax.grad, jax.jvp (forward over reverse) and jax.hessian, by name."""

    def new_and_kl(old_policy: Any, new_policy: Any, observations: Any) -> tuple[Theta, Callable[[Theta], Any]]:
        new = Policy(new_policy, families, observations)
        return new.theta, new.kl_from(Policy(old_policy, families, observations))

    def mean_kl(old_policy: Any, new_policy: Any, observations: Any) -> Any:
        theta, kl = new_and_kl(old_policy, new_policy, observations)
        return np.array(jax.jit(kl)(theta))

    def mean_kl_gradient(old_policy: Any, new_policy: Any, observations: Any) -> Any:
        theta, kl = new_and_kl(old_policy, new_policy, observations)
        return numpy_arrays(jax.jit(jax.grad(kl))(theta))

    def mean_kl_hessian_vector_product(old_policy: Any, new_policy: Any, observations: Any, vector: Any) -> Any:
        theta, kl = new_and_kl(old_policy, new_policy, observations)
        return numpy_arrays(hessian_product(kl, theta)(theta_of(vector)))

    def fisher_matrix(policy: Any, observations: Any) -> Any:
        return np.array(fisher(policy, families, observations))

    def fisher_vector_product(policy: Any, observations: Any, vector: Any, damping: float) -> Any:
        product = damped_product(policy, families, observations, damping)
        return numpy_arrays(product(theta_of(vector)))

    return {
        op.__name__: op
        for op in (mean_kl, mean_kl_gradient, mean_kl_hessian_vector_product, fisher_matrix, fisher_vector_product)
    }


def hessian_product(f: Callable[[Theta], Any], theta: Theta) -> Callable[[Theta], Theta]:
    """Return v ↦ (∂²f/∂θ²) v, forward over reverse."""
    return jax.jit(lambda v: jax.jvp(jax.grad(f), (theta,), (v,))[1])


def damped_product(
    policy: Mapping[str, Any], families: Families, observations: Any, damping: float
) -> Callable[[Theta], Theta]:
    """Return v ↦ (F + λI) v with F the Hessian of the mean KL at equal parameters."""
    pi = Policy(policy, families, observations)
    product = hessian_product(pi.kl_from(pi), pi.theta)
    return lambda v: jax.tree.map(lambda a, b: a + float(damping) * b, product(v), v)


def fisher(policy: Mapping[str, Any], families: Families, observations: Any) -> Any:
    """Return the Hessian of the mean KL at equal parameters by jax.hessian, in the order of the contract."""
    pi = Policy(policy, families, observations)
    theta, structure = ravel_pytree(pi.theta)
    kl = pi.kl_from(pi)
    return jax.jit(jax.hessian(lambda flat: kl(structure(flat))))(theta)


Clipped = Callable[[Any, Any, Any, float], Any]  # the objective of old and new log-probability, advantages and clip


def clipped_gradient_ops(families: Families, clipped: Clipped) -> dict[str, Callable[..., Any]]:
    """Return the gradients by jax.grad of a clipped objective, and of the surrogate, which is unclipped, by name."""

    def clipped_objective_gradient(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float) -> Any:
        old, new, A = (jnp.asarray(each) for each in (old_log_prob, new_log_prob, advantages))
        return np.array(jax.jit(jax.grad(lambda one: clipped(old, one, A, float(clip))))(new))

    def clipped_objective_parameter_gradient(
        policy: Any, observations: Any, actions: Any, advantages: Any, old_log_prob: Any, clip: float
    ) -> Any:
        pi = Policy(policy, families, observations)
        old, A = jnp.asarray(old_log_prob), jnp.asarray(advantages)
        gradient = jax.grad(lambda theta: clipped(old, pi.log_prob(theta, actions), A, float(clip)))
        return numpy_arrays(jax.jit(gradient)(pi.theta))

    def surrogate_gradient(policy: Any, observations: Any, actions: Any, advantages: Any, old_log_prob: Any) -> Any:
        return clipped_objective_parameter_gradient(
            policy, observations, actions, advantages, old_log_prob, float("inf")
        )

    return {
        op.__name__: op
        for op in (clipped_objective_gradient, clipped_objective_parameter_gradient, surrogate_gradient)
    }


def entropy_bonus(families: Families) -> Callable[..., Any]:
    """Return the operation: the mean entropy and its gradient by jax.value_and_grad."""

    def op(policy: Any, observations: Any) -> Any:
        pi = Policy(policy, families, observations)
        entropy, gradient = jax.jit(jax.value_and_grad(pi.entropy))(pi.theta)
        return {"entropy": np.array(entropy), "gradient": numpy_arrays(gradient)}

    return op
