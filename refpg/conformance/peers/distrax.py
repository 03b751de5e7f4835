"""Distrax as it is installed: its distributions, with their log_prob, entropy and kl_divergence.

Scores, Fisher matrices and the trust region's derivatives are JAX's, of Distrax's log_prob and KL.
"""

from collections.abc import Mapping
from importlib.metadata import version as version_of
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.peers import _jax_policies as policies
from refpg.conformance.peers._jax_distributions import Family, Inputs, Phi, distribution_ops

name = "distrax"
version = version_of("distrax")

dtype = "float64"

conventions: Mapping[str, str] = {}

notes = [
    f"with jax {jax.__version__}; float64 is switched on (jax_enable_x64), every operation is compiled by jax.jit",
    "Categorical, Independent Bernoulli and MultivariateNormalDiag; masked actions have the logit −inf",
    "factors of a multi-categorical are one Categorical each, added up",
    "log_prob_squashed_gaussian is the Gaussian's log_prob less Tanh's forward_log_det_jacobian, at u",
    "the KL of squashed Gaussians is that of two Transformed distributions, which share a Block of Tanh",
    "scores, Fisher matrices and the derivatives of policies are JAX's, of these functions",
]


def _one_categorical(logits: Any) -> Any:
    return distrax.Categorical(logits=logits)


def _factors(phi: Phi, inputs: Inputs) -> list[Any]:
    blocks = jnp.split(phi["logits"], np.cumsum(inputs["action_sizes"])[:-1], axis=1)
    return [_one_categorical(block) for block in blocks]


def _masked(phi: Phi, inputs: Inputs) -> Any:
    return _one_categorical(jnp.where(inputs["mask"], phi["logits"], -jnp.inf))


def _categorical(phi: Phi, inputs: Inputs) -> Any:
    return _one_categorical(phi["logits"])


def _bernoulli(phi: Phi, inputs: Inputs) -> Any:
    return distrax.Independent(distrax.Bernoulli(logits=phi["logits"]), reinterpreted_batch_ndims=1)


def _gaussian(phi: Phi, inputs: Inputs) -> Any:
    return distrax.MultivariateNormalDiag(phi["mean"], jnp.exp(phi["log_std"]))


_SQUASH = distrax.Block(distrax.Tanh(), ndims=1)


def _squashed_gaussian(phi: Phi, inputs: Inputs) -> Any:
    return distrax.Transformed(_gaussian(phi, inputs), _SQUASH)


def _family(parameters: tuple[str, ...], build: Any) -> Family:
    return Family(
        parameters,
        lambda phi, inputs: build(phi, inputs).log_prob(jnp.asarray(inputs["actions"])),
        lambda phi, inputs: build(phi, inputs).entropy(),
        lambda old, new, inputs: build(old, inputs).kl_divergence(build(new, inputs)),
    )


def _multi_log_prob(phi: Phi, inputs: Inputs) -> Any:
    columns = jnp.asarray(inputs["actions"]).T
    return sum(factor.log_prob(column) for factor, column in zip(_factors(phi, inputs), columns, strict=True))


def _multi_entropy(phi: Phi, inputs: Inputs) -> Any:
    return sum(factor.entropy() for factor in _factors(phi, inputs))


def _multi_kl(old: Phi, new: Phi, inputs: Inputs) -> Any:
    return sum(p.kl_divergence(q) for p, q in zip(_factors(old, inputs), _factors(new, inputs), strict=True))


def _squashed_log_prob(phi: Phi, inputs: Inputs) -> Any:
    u = jnp.asarray(inputs["pre_tanh_actions"])
    return _gaussian(phi, inputs).log_prob(u) - _SQUASH.forward_log_det_jacobian(u)


FAMILIES = {
    "categorical": _family(("logits",), _categorical),
    "masked_categorical": _family(("logits",), _masked),
    "multi_categorical": Family(("logits",), _multi_log_prob, _multi_entropy, _multi_kl),
    "bernoulli": _family(("logits",), _bernoulli),
    "diagonal_gaussian": _family(("mean", "log_std"), _gaussian),
    "squashed_gaussian": _family(("mean", "log_std"), _squashed_gaussian)._replace(
        log_prob=_squashed_log_prob, entropy=None
    ),
}

globals().update(distribution_ops(FAMILIES))
globals().update(policies.mean_kl_ops(FAMILIES))
entropy_bonus = policies.entropy_bonus(FAMILIES)

unsupported = {
    op.name: "Distrax has distributions only"
    for op in OPS.values()
    if op.name not in globals()
} | {"entropy_squashed_gaussian": "a Transformed distribution has no entropy where the log-determinant varies"}
