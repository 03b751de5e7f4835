"""JAX as it is installed: jax.grad, jvp and hessian, jax.nn, jax.scipy.stats, and its conjugate gradients.

JAX has no reinforcement learning of its own.  What is judged is what a hand-written PPO or TRPO rests on:
``log_softmax``, ``norm.logpdf``, ``standardize``, the derivatives JAX takes of a published objective written down
here, ``jax.scipy.sparse.linalg.cg`` and jax.numpy's solvers.  A value that would only be a formula of this file is
declared unsupported.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg
from jax.scipy.stats import norm
from numpy.typing import NDArray

from refpg.conformance.ops import OPS
from refpg.conformance.peers import _jax_policies as policies
from refpg.conformance.peers._jax_distributions import Family, Inputs, Phi, distribution_ops, numpy_arrays

name = "jax"
version = jax.__version__

dtype = "float64"

conventions = {"advantage.ddof": "0", "advantage.epsilon": "0"}

notes = [
    "float64 is switched on (jax_enable_x64); every operation is compiled by jax.jit",
    "log-probabilities are jax.nn.log_softmax and log_sigmoid, and jax.scipy.stats.norm.logpdf; masked logits are −inf",
    "the KLs of policies are the published formulas of those; what is judged are JAX's derivatives of them",
    "Hessian and Fisher products are jax.jvp of jax.grad, matrices jax.hessian",
    "conjugate gradients are jax.scipy.sparse.linalg.cg with tolerance 0, stopped by maxiter",
    "normalize_advantages is jax.nn.standardize with epsilon 0 and its default algorithm",
]


# Distributions.


def _categorical(phi: Phi, inputs: Inputs) -> Any:
    log_p = jax.nn.log_softmax(phi["logits"])
    return jnp.take_along_axis(log_p, jnp.asarray(inputs["actions"])[:, None], axis=1)[:, 0]


def _masked_categorical(phi: Phi, inputs: Inputs) -> Any:
    return _categorical({"logits": jnp.where(inputs["mask"], phi["logits"], -jnp.inf)}, inputs)


def _multi_categorical(phi: Phi, inputs: Inputs) -> Any:
    blocks = jnp.split(phi["logits"], np.cumsum(inputs["action_sizes"])[:-1], axis=1)
    columns = np.asarray(inputs["actions"]).T
    return sum(_categorical({"logits": z}, {"actions": a}) for z, a in zip(blocks, columns, strict=True))


def _bernoulli(phi: Phi, inputs: Inputs) -> Any:
    sign = jnp.where(jnp.asarray(inputs["actions"]) == 1, 1.0, -1.0).astype(phi["logits"].dtype)
    return jax.nn.log_sigmoid(sign * phi["logits"]).sum(axis=1)


def _gaussian(phi: Phi, inputs: Inputs) -> Any:
    return norm.logpdf(jnp.asarray(inputs["actions"]), phi["mean"], jnp.exp(phi["log_std"])).sum(axis=1)


globals().update(
    distribution_ops(
        {
            "categorical": Family(("logits",), _categorical, None, None),
            "masked_categorical": Family(("logits",), _masked_categorical, None, None),
            "multi_categorical": Family(("logits",), _multi_categorical, None, None),
            "bernoulli": Family(("logits",), _bernoulli, None, None),
            "diagonal_gaussian": Family(("mean", "log_std"), _gaussian, None, None),
        }
    )
)


# Derivatives of published objectives.


def _categorical_entropy(phi: Phi, inputs: Inputs) -> Any:
    log_p = jax.nn.log_softmax(phi["logits"])
    return -(jnp.exp(log_p) * log_p).sum(axis=1)


def _categorical_kl(old: Phi, new: Phi, inputs: Inputs) -> Any:
    log_p, log_q = jax.nn.log_softmax(old["logits"]), jax.nn.log_softmax(new["logits"])
    return (jnp.exp(log_p) * (log_p - log_q)).sum(axis=1)


def _gaussian_entropy(phi: Phi, inputs: Inputs) -> Any:
    return (phi["log_std"] + (1 + float(np.log(2 * np.pi))) / 2).sum(axis=1)


def _gaussian_kl(old: Phi, new: Phi, inputs: Inputs) -> Any:
    log_ratio = new["log_std"] - old["log_std"]
    gap = (old["mean"] - new["mean"]) * jnp.exp(-new["log_std"])
    return (log_ratio + (jnp.exp(-2 * log_ratio) + gap**2 - 1) / 2).sum(axis=1)


_PUBLISHED = {
    "categorical": Family(("logits",), _categorical, _categorical_entropy, _categorical_kl),
    "diagonal_gaussian": Family(("mean", "log_std"), _gaussian, _gaussian_entropy, _gaussian_kl),
}


def _clipped(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float) -> Any:
    """Return the mean of min(rA, clip(r, 1 − ε, 1 + ε)A), to be differentiated."""
    r = jnp.exp(new_log_prob - old_log_prob)
    return jnp.minimum(r * advantages, jnp.clip(r, 1 - clip, 1 + clip) * advantages).mean()


_mean_kl = policies.mean_kl_ops(_PUBLISHED)
del _mean_kl["mean_kl"]  # a formula of this file: only its derivatives are JAX's
globals().update(_mean_kl)
globals().update(policies.clipped_gradient_ops(_PUBLISHED, _clipped))
network_forward = policies.network_forward


def softmax_policy_gradient(
    transition: NDArray[Any], reward: NDArray[Any], start: NDArray[Any], gamma: float, logits: NDArray[Any]
) -> NDArray[Any]:
    """Differentiate η = ρ₀ᵀ(I − γP)⁻¹r through softmax and ``jax.numpy.linalg.solve``."""
    P, r, rho = jnp.asarray(transition), jnp.asarray(reward), jnp.asarray(start)

    def eta(theta: Any) -> Any:
        pi = jax.nn.softmax(theta)
        chain, mean_reward = (pi[:, :, None] * P).sum(axis=1), (pi * r).sum(axis=1)
        return rho @ jnp.linalg.solve(jnp.eye(len(rho), dtype=P.dtype) - float(gamma) * chain, mean_reward)

    return np.array(jax.jit(jax.grad(eta))(jnp.asarray(logits)))


# Solvers, and the one estimator there is.


def conjugate_gradient(matrix: NDArray[Any], b: NDArray[Any], iterations: int) -> NDArray[Any]:
    """Call ``cg`` from x = 0."""
    M = jnp.asarray(matrix)
    x, _ = cg(lambda v: M @ v, jnp.asarray(b), tol=0.0, maxiter=int(iterations))
    return np.array(x)


def fisher_conjugate_gradient(
    policy: Mapping[str, Any], observations: NDArray[Any], b: Mapping[str, Any], damping: float, iterations: int
) -> Any:
    """Call ``cg`` with the Fisher product, on the contract's structure of parameters."""
    product = policies.damped_product(policy, _PUBLISHED, observations, damping)
    x, _ = cg(product, policies.theta_of(b), tol=0.0, maxiter=int(iterations))
    return numpy_arrays(x)


def natural_gradient(
    policy: Mapping[str, Any], observations: NDArray[Any], gradient: Mapping[str, Any], damping: float
) -> Any:
    """Solve with the Fisher matrix by ``jax.numpy.linalg.solve``."""
    g, structure = ravel_pytree(policies.theta_of(gradient))
    F = policies.fisher(policy, _PUBLISHED, observations)
    return numpy_arrays(structure(jnp.linalg.solve(F + float(damping) * jnp.eye(len(g), dtype=g.dtype), g)))


def natural_gradient_minimum_norm(
    policy: Mapping[str, Any], observations: NDArray[Any], actions: NDArray[Any], advantages: NDArray[Any]
) -> dict[str, Any]:
    """Call ``jax.numpy.linalg.lstsq``, with its own cut-off for the rank."""
    pi = policies.Policy(policy, _PUBLISHED, observations)
    A = jnp.asarray(advantages)
    gradient = jax.grad(lambda theta: (pi.log_prob(theta, actions) * A).mean())(pi.theta)
    g, structure = ravel_pytree(gradient)
    direction, _, rank, _ = jnp.linalg.lstsq(policies.fisher(policy, _PUBLISHED, observations), g)
    return {"direction": numpy_arrays(structure(direction)), "rank": int(rank)}


def normalize_advantages(advantages: NDArray[Any]) -> NDArray[Any]:
    """Call ``jax.nn.standardize`` on the whole batch."""
    return np.array(jax.nn.standardize(jnp.asarray(advantages), epsilon=0.0))


_NO_OBJECTS = "JAX has no distributions, only log-probabilities; the value would be this adapter's own formula"
_ONLY_A_FORMULA = "JAX has no such function; the value would be this adapter's own formula"
_NO_OPTIMIZER = "JAX has no optimizers; see optax"

unsupported = {
    op.name: _NO_OBJECTS if op.profile == "distributions" else _ONLY_A_FORMULA
    for op in OPS.values()
    if op.name not in globals()
} | {"adam_step": _NO_OPTIMIZER, "ppo_epoch": _NO_OPTIMIZER}
