"""Optax as it is installed: Adam, the cross-entropies, the KL of log-probabilities and the squared errors."""

from importlib.metadata import version as version_of
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from refpg.conformance.ops import OPS
from refpg.conformance.peers._jax_distributions import Family, distribution_ops

name = "optax"
version = version_of("optax")

dtype = "float64"

conventions = {"value_loss.factor": "1"}

notes = [
    f"with jax {jax.__version__}; float64 is switched on (jax_enable_x64)",
    "log-probabilities are minus softmax_cross_entropy_with_integer_labels and minus sigmoid_binary_cross_entropy",
    "KLs are losses.kl_divergence_with_log_targets of jax.nn.log_softmax; scores and Fisher matrices JAX's, of these",
    "adam_step is optax.adam's update and apply_updates, with its state set to the moments given",
    "value_loss is the mean of squared_error",
]


def _categorical_log_prob(phi: Any, inputs: Any) -> Any:
    return -optax.losses.softmax_cross_entropy_with_integer_labels(phi["logits"], jnp.asarray(inputs["actions"]))


def _categorical_kl(old: Any, new: Any, inputs: Any) -> Any:
    log_p, log_q = jax.nn.log_softmax(old["logits"]), jax.nn.log_softmax(new["logits"])
    return optax.losses.kl_divergence_with_log_targets(log_predictions=log_q, log_targets=log_p)


def _masked_log_prob(phi: Any, inputs: Any) -> Any:
    labels = jnp.asarray(inputs["actions"])
    allowed = jnp.asarray(inputs["mask"])
    return -optax.losses.softmax_cross_entropy_with_integer_labels(phi["logits"], labels, where=allowed)


def _bernoulli_log_prob(phi: Any, inputs: Any) -> Any:
    labels = jnp.asarray(inputs["actions"], dtype=phi["logits"].dtype)
    return -optax.losses.sigmoid_binary_cross_entropy(phi["logits"], labels).sum(axis=1)


globals().update(
    distribution_ops(
        {
            "categorical": Family(("logits",), _categorical_log_prob, None, _categorical_kl),
            "masked_categorical": Family(("logits",), _masked_log_prob, None, None),
            "bernoulli": Family(("logits",), _bernoulli_log_prob, None, None),
        }
    )
)


def value_loss(values: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """Take the mean of ``squared_error``."""
    return np.array(optax.losses.squared_error(jnp.asarray(values), jnp.asarray(targets)).mean())


def adam_step(
    parameters: NDArray[Any],
    gradient: NDArray[Any],
    first_moment: NDArray[Any],
    second_moment: NDArray[Any],
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> dict[str, NDArray[Any]]:
    """Set the state of ``optax.adam`` to the moments given, and apply its update."""
    adam = optax.adam(float(learning_rate), b1=float(beta1), b2=float(beta2), eps=float(epsilon))
    theta = jnp.asarray(parameters)
    before, *rest = adam.init(theta)
    moments = before._replace(
        count=jnp.asarray(int(step) - 1, before.count.dtype),
        mu=jnp.asarray(first_moment),
        nu=jnp.asarray(second_moment),
    )
    updates, (after, *_) = adam.update(jnp.asarray(gradient), (moments, *rest), theta)
    return {
        "parameters": np.array(optax.apply_updates(theta, updates)),
        "first_moment": np.array(after.mu),
        "second_moment": np.array(after.nu),
    }


_LOSSES_ONLY = "Optax has losses of labels and logits, and no distributions"
_NOT_IN_OPTAX = "Optax has optimizers and losses; this is neither"

unsupported = {
    op.name: _LOSSES_ONLY if op.profile == "distributions" else _NOT_IN_OPTAX
    for op in OPS.values()
    if op.name not in globals()
}
