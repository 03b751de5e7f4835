"""The estimators as practitioners write them in NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np

Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]


def kl_estimators(inputs: Inputs, conventions: Conventions) -> Outputs:
    """exp(d) − 1 − d"""
    d = inputs["new_log_prob"] - inputs["old_log_prob"]
    return {"k1": -d, "k2": 0.5 * d**2, "k3": np.exp(d) - 1 - d}


def kl_estimators_expm1(inputs: Inputs, conventions: Conventions) -> Outputs:
    """expm1(d) − d"""
    d = inputs["new_log_prob"] - inputs["old_log_prob"]
    return {"k1": -d, "k2": d * d / 2, "k3": np.expm1(d) - d}


def kl_estimators_series(inputs: Inputs, conventions: Conventions) -> Outputs:
    """d²/2 + d³/6 + d⁴/24 + d⁵/120 where |d| < 1/1024, expm1(d) − d elsewhere"""
    d = inputs["new_log_prob"] - inputs["old_log_prob"]
    series = d * d * (0.5 + d * (1 / 6 + d * (1 / 24 + d / 120)))
    return {"k1": -d, "k2": d * d / 2, "k3": np.where(np.abs(d) < 2.0**-10, series, np.expm1(d) - d)}


def discounted_returns(inputs: Inputs, conventions: Conventions) -> Outputs:
    """backward loop, the next value bootstrapping where the episode goes on unseen"""
    rewards, next_values = inputs["rewards"], inputs["next_values"]
    terminated, truncated = inputs["terminated"], inputs["truncated"]
    returns = np.zeros_like(rewards)
    following = next_values[-1]
    for t in reversed(range(len(rewards))):
        following = np.where(truncated[t], next_values[t], following)
        following = np.where(terminated[t], 0.0, following)
        following = rewards[t] + inputs["gamma"] * following
        returns[t] = following
    return {"returns": returns}


def td_errors(inputs: Inputs, conventions: Conventions) -> Outputs:
    """r + γ(1 − d)V' − V"""
    alive = 1.0 - inputs["terminated"]
    delta = inputs["rewards"] + inputs["gamma"] * alive * inputs["next_values"] - inputs["values"]
    return {"td_errors": delta}


def gae(inputs: Inputs, conventions: Conventions) -> Outputs:
    """backward recursion on the TD errors"""
    rewards, values, gamma = inputs["rewards"], inputs["values"], inputs["gamma"]
    alive = 1.0 - inputs["terminated"]
    going_on = 1.0 - (inputs["terminated"] | inputs["truncated"])
    advantages = np.zeros_like(rewards)
    following = np.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * inputs["next_values"][t] * alive[t] - values[t]
        following = delta + gamma * inputs["gae_lambda"] * going_on[t] * following
        advantages[t] = following
    return {"advantages": advantages, "value_targets": _targets(advantages + values, inputs, conventions)}


def _targets(lambda_returns: Any, inputs: Inputs, conventions: Conventions) -> Any:
    if conventions["gae.value_target"] == "lambda_return":
        return lambda_returns
    return discounted_returns(inputs, conventions)["returns"]


def gae_by_returns(inputs: Inputs, conventions: Conventions) -> Outputs:
    """TD(λ) returns backward, minus the values"""
    rewards, values, gamma = inputs["rewards"], inputs["values"], inputs["gamma"]
    weight = inputs["gae_lambda"]
    targets = np.zeros_like(rewards)
    following = np.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        last = t == len(rewards) - 1
        ends = inputs["terminated"][t] | inputs["truncated"][t] | last
        mixed = (1 - weight) * inputs["next_values"][t] + weight * following
        mixed = np.where(ends, inputs["next_values"][t], mixed)
        following = rewards[t] + gamma * np.where(inputs["terminated"][t], 0.0, mixed)
        targets[t] = following
    return {"advantages": targets - values, "value_targets": _targets(targets, inputs, conventions)}


def _episodes(inputs: Inputs) -> Inputs:
    following = np.concatenate([inputs["values"][1:], inputs["last_values"][None]])
    never = np.zeros_like(inputs["dones"])
    return inputs | {"next_values": following, "terminated": inputs["dones"], "truncated": never}


def gae_rollout(inputs: Inputs, conventions: Conventions) -> Outputs:
    """backward recursion over a rollout buffer"""
    return gae(_episodes(inputs), conventions)


def gae_rollout_by_returns(inputs: Inputs, conventions: Conventions) -> Outputs:
    """TD(λ) returns over a rollout buffer, minus the values"""
    return gae_by_returns(_episodes(inputs), conventions)


def normalize_advantages(inputs: Inputs, conventions: Conventions) -> Outputs:
    """(A − A.mean())/(A.std() + ε), or over √(A.var() + ε), or max(A.std(), ε)"""
    a, ddof = inputs["advantages"], int(conventions["advantage.ddof"])
    number, _, form = conventions["advantage.epsilon"].partition("_")
    epsilon = float(number)
    if form == "in_root":
        scale = np.sqrt(a.var(ddof=ddof) + epsilon)
    elif form == "at_least":
        scale = np.maximum(a.std(ddof=ddof), epsilon)
    else:
        scale = a.std(ddof=ddof) + epsilon
    return {"normalized": (a - a.mean()) / scale}


def explained_variance(inputs: Inputs, conventions: Conventions) -> Outputs:
    """1 − np.var(targets − values)/np.var(targets)"""
    targets = inputs["targets"]
    return {"explained_variance": 1 - np.var(targets - inputs["values"]) / np.var(targets)}


TEXTBOOK: dict[str, tuple[Callable[[Inputs, Conventions], Outputs], ...]] = {
    "kl_estimators": (kl_estimators, kl_estimators_expm1, kl_estimators_series),
    "discounted_returns": (discounted_returns,),
    "td_errors": (td_errors,),
    "gae": (gae, gae_by_returns),
    "gae_rollout": (gae_rollout, gae_rollout_by_returns),
    "normalize_advantages": (normalize_advantages,),
    "explained_variance": (explained_variance,),
}
