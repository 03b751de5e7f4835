"""The distribution classes of Stable-Baselines3 and sb3-contrib, and what the contract asks of each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import MaskableCategoricalDistribution
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
    kl_divergence,
)

from refpg.conformance.peers import _torch_distributions
from refpg.conformance.peers._torch_distributions import Inputs, Phi


class Family(NamedTuple):
    """How one family of the contract is built from the library's class.

    Fields: ``parameters`` names its inputs that are φ; ``build`` makes the library's distribution from φ and the
    other inputs; ``log_prob`` calls the distribution's own; ``action_space`` is the space that leads to this class.
    """

    parameters: tuple[str, ...]
    build: Callable[[Phi, Inputs], Any]
    log_prob: Callable[[Any, Inputs], Any]
    action_space: Callable[[Inputs], Any]


def _categorical(phi: Phi, inputs: Inputs) -> Any:
    return CategoricalDistribution(phi["logits"].shape[1]).proba_distribution(phi["logits"])


def _masked_categorical(phi: Phi, inputs: Inputs) -> Any:
    distribution = MaskableCategoricalDistribution(phi["logits"].shape[1]).proba_distribution(phi["logits"])
    distribution.apply_masking(np.array(inputs["mask"], dtype=bool))
    return distribution


def _multi_categorical(phi: Phi, inputs: Inputs) -> Any:
    return MultiCategoricalDistribution([int(n) for n in inputs["action_sizes"]]).proba_distribution(phi["logits"])


def _bernoulli(phi: Phi, inputs: Inputs) -> Any:
    return BernoulliDistribution(phi["logits"].shape[1]).proba_distribution(phi["logits"])


def _diagonal_gaussian(phi: Phi, inputs: Inputs) -> Any:
    return DiagGaussianDistribution(phi["mean"].shape[1]).proba_distribution(phi["mean"], phi["log_std"])


def _squashed_gaussian(phi: Phi, inputs: Inputs) -> Any:
    return SquashedDiagGaussianDistribution(phi["mean"].shape[1]).proba_distribution(phi["mean"], phi["log_std"])


def _whole_actions(distribution: Any, inputs: Inputs) -> Any:
    return distribution.log_prob(torch.tensor(np.asarray(inputs["actions"], dtype=np.int64)))


def _binary_actions(distribution: Any, inputs: Inputs) -> Any:
    logits = distribution.distribution.logits
    return distribution.log_prob(torch.tensor(np.asarray(inputs["actions"]), dtype=logits.dtype))


def _real_actions(distribution: Any, inputs: Inputs) -> Any:
    return distribution.log_prob(torch.tensor(np.asarray(inputs["actions"])))


def _pre_tanh_actions(distribution: Any, inputs: Inputs) -> Any:
    u = torch.tensor(np.asarray(inputs["pre_tanh_actions"]))
    return distribution.log_prob(torch.tanh(u), gaussian_actions=u)


def _discrete(inputs: Inputs) -> Any:
    return spaces.Discrete(np.shape(inputs["old_logits"])[1])


def _multi_discrete(inputs: Inputs) -> Any:
    return spaces.MultiDiscrete([int(n) for n in inputs["action_sizes"]])


def _multi_binary(inputs: Inputs) -> Any:
    return spaces.MultiBinary(np.shape(inputs["old_logits"])[1])


def _box(inputs: Inputs) -> Any:
    return spaces.Box(-(2.0**30), 2.0**30, (np.shape(inputs["old_mean"])[1],), np.float32)


FAMILIES = {
    "categorical": Family(("logits",), _categorical, _whole_actions, _discrete),
    "masked_categorical": Family(("logits",), _masked_categorical, _whole_actions, _discrete),
    "multi_categorical": Family(("logits",), _multi_categorical, _whole_actions, _multi_discrete),
    "bernoulli": Family(("logits",), _bernoulli, _binary_actions, _multi_binary),
    "diagonal_gaussian": Family(("mean", "log_std"), _diagonal_gaussian, _real_actions, _box),
    "squashed_gaussian": Family(("mean", "log_std"), _squashed_gaussian, _pre_tanh_actions, _box),
}


def kl_per_row(old: Any, new: Any) -> Any:
    """Return the library's ``kl_divergence``, summed over action dimensions where the library leaves them apart."""
    kl = kl_divergence(old, new)
    return kl.sum(dim=1) if kl.ndim == 2 else kl


def distribution_ops(name: str, *quantities: str) -> dict[str, Callable[..., Any]]:
    """Return the operations of one family, by name; `quantities` among log_prob, entropy, kl, score, fisher."""
    return _torch_distributions.distribution_ops(name, FAMILIES[name], kl_per_row, *quantities)
