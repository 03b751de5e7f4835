"""Arithmetic on the parameters of the contract: moving a policy, and the distributions it stands for."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.ordinary import flat, shaped
from refpg.conformance.laws.rounding import Rounded, rounded, stack


def moved(policy: Mapping[str, Any], step: Any, length: float = 1.0) -> dict[str, Any]:
    """Return the policy at θ + length · step; the step is a vector or shaped like the parameters."""
    s = flat(step) if isinstance(step, Mapping) else rounded(step)
    return {**policy, **shaped(policy, flat(policy) + length * s)}


def scaled(parameters: Mapping[str, Any], factor: Any) -> dict[str, Any]:
    """Return parameters times a number."""
    return shaped(parameters, flat(parameters) * factor)


def network_of(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network of a policy, as the contract's op wants it."""
    return {"layers": policy["layers"], "activation": policy["activation"]}


def phi_of(f: Answers, policy: Mapping[str, Any], observations: Any) -> dict[str, Any]:
    """Ask for the network's outputs, and return the parameters of the distributions."""
    outputs = f("network_forward", network=network_of(policy), observations=observations)
    if policy["distribution"] == "categorical":
        return {"logits": outputs}
    return {"mean": outputs, "log_std": stack([rounded(policy["log_std"])] * len(outputs))}


def log_prob_of(f: Answers, policy: Mapping[str, Any], observations: Any, actions: Any) -> Rounded:
    """Ask for log π_θ(a|s) of every row, through the network and the family."""
    answer: Rounded = f(f"log_prob_{policy['distribution']}", **phi_of(f, policy, observations), actions=actions)
    return answer


def mirrored(policy: Mapping[str, Any], parameters: Mapping[str, Any], unit: int) -> dict[str, Any]:
    """Return parameters with the sign of one unit of the first hidden layer turned, before and after its tanh."""
    layers = [{name: rounded(layer[name]) for name in ("W", "b")} for layer in parameters["layers"]]
    if len(layers) > 1:
        sign = np.ones(layers[0]["b"].shape)
        sign[unit % sign.size] = -1.0
        layers[0] = {"W": layers[0]["W"] * sign, "b": layers[0]["b"] * sign}
        layers[1] = {"W": layers[1]["W"] * sign[:, None], "b": layers[1]["b"]}
    return {**parameters, "layers": layers}
