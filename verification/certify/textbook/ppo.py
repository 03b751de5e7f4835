"""The profile `ppo` as a practitioner writes it in NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from verification.certify.textbook.trpo import (
    LOG_2_PI,
    backward,
    flatten,
    forward,
    gradient_of_log_probs,
    jacobian,
    log_prob,
    log_prob_by_density,
    log_softmax,
    softmax,
    unflatten,
    with_parameters,
)

Array = Any
Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]


def _ratio(inputs: Inputs) -> Array:
    return np.exp(inputs["new_log_prob"] - inputs["old_log_prob"])


def _ratio_of_probabilities(inputs: Inputs) -> Array:
    return np.exp(inputs["new_log_prob"]) / np.exp(inputs["old_log_prob"])


def ratio(inputs: Inputs, conventions: Conventions) -> Outputs:
    """exp(new − old)"""
    return {"ratio": _ratio(inputs)}


def ratio_of_probabilities(inputs: Inputs, conventions: Conventions) -> Outputs:
    """exp(new)/exp(old)"""
    return {"ratio": _ratio_of_probabilities(inputs)}


def _clipped(r: Array, clip: Array) -> Array:
    return np.maximum(np.minimum(r, 1 + clip), 1 - clip)


def clipped_objective(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of min(rA, clip(r)A)"""
    r, A = _ratio(inputs), inputs["advantages"]
    return {"objective": np.mean(np.minimum(r * A, _clipped(r, inputs["clip"]) * A))}


def clipped_objective_of_probabilities(inputs: Inputs, conventions: Conventions) -> Outputs:
    """minus the mean of max(−rA, −clip(r)A), r a quotient of probabilities"""
    r, A = _ratio_of_probabilities(inputs), inputs["advantages"]
    return {"objective": -np.mean(np.maximum(-A * r, -A * _clipped(r, inputs["clip"])))}


def _active(r: Array, A: Array, clip: Array) -> Array:
    """Rows whose clipped term is the smaller one."""
    return ((A > 0) & (r > 1 + clip)) | ((A < 0) & (r < 1 - clip))


def clipped_objective_gradient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """rA/B where the clipped term is not the smaller"""
    r, A = _ratio(inputs), inputs["advantages"]
    return {"gradient": r * A * (1.0 - _active(r, A, inputs["clip"])) / len(A)}


def clipped_objective_gradient_of_probabilities(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the same, r a quotient of probabilities"""
    r, A = _ratio_of_probabilities(inputs), inputs["advantages"]
    return {"gradient": A / len(A) * r * (1.0 - _active(r, A, inputs["clip"]))}


def _asymmetric(r: Array, inputs: Inputs) -> Outputs:
    A, low, high = inputs["advantages"], 1 - inputs["clip_low"], 1 + inputs["clip_high"]
    active = ((A > 0) & (r > high)) | ((A < 0) & (r < low))
    rows = np.minimum(r * A, np.maximum(np.minimum(r, high), low) * A)
    return {"objective": np.mean(rows), "gradient": r * A * (1.0 - active) / len(A)}


def asymmetric_clipped_objective(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of min(rA, clip(r)A), and rA/B where the clipped term is not the smaller"""
    return _asymmetric(_ratio(inputs), inputs)


def asymmetric_clipped_objective_of_probabilities(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the same, r a quotient of probabilities"""
    return _asymmetric(_ratio_of_probabilities(inputs), inputs)


def _dual(r: Array, inputs: Inputs) -> Outputs:
    A, clip, floor = inputs["advantages"], inputs["clip"], inputs["floor"]
    clipped = np.minimum(r * A, _clipped(r, clip) * A)
    rows = np.where(A < 0, np.maximum(clipped, floor * A), clipped)
    constant = _active(r, A, clip) | ((A < 0) & (r > floor))
    return {"objective": np.mean(rows), "gradient": r * A * (1.0 - constant) / len(A)}


def dual_clipped_objective(inputs: Inputs, conventions: Conventions) -> Outputs:
    """max(min(rA, clip(r)A), cA) where A < 0, and rA/B where none of the bounds is reached"""
    return _dual(_ratio(inputs), inputs)


def dual_clipped_objective_of_probabilities(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the same, r a quotient of probabilities"""
    return _dual(_ratio_of_probabilities(inputs), inputs)


def clipped_objective_parameter_gradient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """backpropagation of the rows that are not clipped"""
    return {"gradient": _clipped_gradient(inputs["policy"], inputs, inputs["clip"])}


def _clipped_gradient(policy: Inputs, batch: Inputs, clip: Array) -> Outputs:
    new = log_prob(policy, forward(policy, batch["observations"])[0], batch["actions"])
    r, A = np.exp(new - batch["old_log_prob"]), batch["advantages"]
    cotangent = r * A * (1.0 - _active(r, A, clip)) / len(A)
    return gradient_of_log_probs(policy, batch, cotangent)


def clipped_objective_parameter_gradient_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of the scores of single rows, weighed"""
    return {"gradient": _clipped_gradient_by_scores(inputs)}


def _clipped_gradient_by_scores(inputs: Inputs) -> Outputs:
    policy = inputs["policy"]
    outputs = forward(policy, inputs["observations"])[0]
    new = log_prob_by_density(policy, outputs, inputs["actions"])
    r, A = np.exp(new - inputs["old_log_prob"]), inputs["advantages"]
    weight = r * A * (1.0 - _active(r, A, inputs["clip"]))
    if policy["distribution"] == "categorical":
        s = np.eye(outputs.shape[1])[inputs["actions"]] - softmax(outputs)
    else:
        z = (inputs["actions"] - outputs) / np.exp(policy["log_std"])
        s = np.concatenate([z / np.exp(policy["log_std"]), (z - 1) * (z + 1)], axis=1)
    per_row = np.sum(s[:, :, None] * jacobian(policy, inputs["observations"]), axis=1)
    return unflatten(policy, np.mean(weight[:, None] * per_row, axis=0))


def clip_fraction(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of the flags"""
    r, A, clip = _ratio(inputs), inputs["advantages"], inputs["clip"]
    flags = np.abs(r - 1) > clip if conventions["clip_fraction.rule"] == "outside" else _active(r, A, clip)
    return {"clip_fraction": np.sum(1.0 * flags + 0.0 * r) / len(r)}


def approximate_kl(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of −d, ½d² or exp(d) − 1 − d"""
    d = inputs["new_log_prob"] - inputs["old_log_prob"]
    rows = {"k1": lambda: -d, "k2": lambda: 0.5 * d**2, "k3": lambda: (np.exp(d) - 1) - d}
    return {"approximate_kl": np.mean(rows[conventions["approximate_kl.estimator"]]())}


def approximate_kl_of_ratios(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of −log r, ½ log² r or r − 1 − log r"""
    r = _ratio(inputs)
    rows = {"k1": lambda: -np.log(r), "k2": lambda: np.log(r) ** 2 / 2, "k3": lambda: r - 1 - np.log(r)}
    return {"approximate_kl": np.mean(rows[conventions["approximate_kl.estimator"]]())}


def kl_penalized_objective(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of rA − β KL"""
    rows = _ratio(inputs) * inputs["advantages"] - inputs["kl_penalty"] * inputs["kl"]
    return {"objective": np.mean(rows)}


def kl_penalized_objective_of_means(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of rA less β times the mean of KL"""
    gain = np.mean(_ratio_of_probabilities(inputs) * inputs["advantages"])
    return {"objective": gain - inputs["kl_penalty"] * np.mean(inputs["kl"])}


def kl_penalty_update(inputs: Inputs, conventions: Conventions) -> Outputs:
    """comparison with the target"""
    beta, d, target = inputs["kl_penalty"], inputs["kl"], inputs["target"]
    schedule = conventions["kl_penalty.schedule"]
    if schedule == "paper":
        return {"kl_penalty": beta * (0.5 if d < target / 1.5 else 2.0 if d > target * 1.5 else 1.0)}
    if schedule == "rllib":
        return {"kl_penalty": beta * (1.5 if d > 2.0 * target else 0.5 if d < 0.5 * target else 1.0)}
    if schedule == "tf_agents":
        least = 1e-15 * (1.0 + 0.0 * beta)
        factor = 1.5 if d > 1.3 * target else 1.0 / 1.5 if d < 0.7 * target else 1.0
        return {"kl_penalty": np.maximum(beta * factor, least)}
    if d > 2.0 * target:
        return {"kl_penalty": np.minimum(1.5 * beta, 35.0 + 0.0 * beta)}
    return {"kl_penalty": np.maximum(beta / 1.5, 1.0 / (35.0 + 0.0 * beta)) if d < 0.5 * target else beta}


def proportional_kl_penalty_update(inputs: Inputs, conventions: Conventions) -> Outputs:
    """β (1 + clip(d/t − 1) n/h)"""
    error = np.maximum(np.minimum(inputs["kl"] / inputs["target"] - 1, 0.2), -0.2)
    return {"kl_penalty": inputs["kl_penalty"] * (1 + error * inputs["samples"] / inputs["horizon"])}


def _factor(conventions: Conventions) -> float:
    return {"1": 1.0, "1/2": 0.5}[conventions["value_loss.factor"]]


def _error(e: Array, conventions: Conventions) -> tuple[Array, Array]:
    """The squared or the smooth error, and its slope."""
    if conventions["value_loss.error"] == "squared":
        return e**2, 2.0 * e
    return np.where(np.abs(e) < 1, 0.5 * e**2, np.abs(e) - 0.5), np.maximum(np.minimum(e, 1.0), -1.0)


def value_loss(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of the errors"""
    rows, _ = _error(inputs["values"] - inputs["targets"], conventions)
    return {"loss": _factor(conventions) * np.mean(rows)}


def clipped_value_loss(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of the larger error"""
    v, old, targets, clip = inputs["values"], inputs["old_values"], inputs["targets"], inputs["clip"]
    kept = old + np.maximum(np.minimum(v - old, clip), -clip)
    (error, _), (error_kept, _) = _error(v - targets, conventions), _error(kept - targets, conventions)
    rows = {
        "maximum": lambda: np.maximum(error, error_kept),
        "clipped_only": lambda: error_kept,
        "clamped_error": lambda: np.minimum(error, clip),
    }[conventions["value_loss.clip"]]()
    return {"loss": _factor(conventions) * np.mean(rows)}


def _entropy(policy: Inputs, outputs: Array) -> tuple[Array, Array]:
    """Mean entropy, and its gradient with respect to the outputs."""
    if policy["distribution"] == "categorical":
        log_p = log_softmax(outputs)
        p = np.exp(log_p)
        entropy = -np.sum(p * log_p, axis=1)
        return np.mean(entropy), -p * (log_p + entropy[:, None]) / len(outputs)
    return np.sum(policy["log_std"] + 0.5 * (LOG_2_PI + 1)), 0.0 * outputs


def _entropy_gradient(policy: Inputs, x: Array) -> Outputs:
    outputs, h, z = forward(policy, x)
    free = {"log_std": 1.0 + 0.0 * policy["log_std"]} if "log_std" in policy else {}
    return {"layers": backward(policy, h, z, _entropy(policy, outputs)[1])} | free


def entropy_bonus(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−Σ p log p, or Σ log σ + ½ log 2πe, and backpropagation"""
    policy, x = inputs["policy"], inputs["observations"]
    return {"entropy": _entropy(policy, forward(policy, x)[0])[0], "gradient": _entropy_gradient(policy, x)}


def entropy_bonus_by_jacobian(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−Σ p log p with p normalised first, or ½ Σ log 2πeσ², and the mean of Jᵀ ∂H/∂φ"""
    policy, x = inputs["policy"], inputs["observations"]
    outputs, J = forward(policy, x)[0], jacobian(policy, x)
    if policy["distribution"] == "categorical":
        p = softmax(outputs)
        entropy = -np.sum(p * np.log(p), axis=1)
        s = -p * (np.log(p) + entropy[:, None])
    else:
        variance = np.exp(policy["log_std"]) ** 2
        entropy = np.sum(0.5 * np.log(2 * np.pi * np.e * variance)) + 0.0 * outputs[:, 0]
        s = np.concatenate([0.0 * outputs, 1.0 + 0.0 * outputs], axis=1)
    gradient = np.mean(np.sum(s[:, :, None] * J, axis=1), axis=0)
    return {"entropy": np.mean(entropy), "gradient": unflatten(policy, gradient)}


def _added(a: Outputs, b: Outputs, weight: Array) -> Outputs:
    layers = [
        {name: one[name] + weight * two[name] for name in ("W", "b")}
        for one, two in zip(a["layers"], b["layers"], strict=True)
    ]
    return {"layers": layers} | ({"log_std": a["log_std"] + weight * b["log_std"]} if "log_std" in a else {})


def ppo_objective(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the three terms and their gradients by backpropagation"""
    policy, network, x = inputs["policy"], inputs["value_network"], inputs["observations"]
    outputs = forward(policy, x)[0]
    c1, c2 = inputs["value_coefficient"] * _factor(conventions), inputs["entropy_coefficient"]
    new = log_prob(policy, outputs, inputs["actions"])
    r, A = np.exp(new - inputs["old_log_prob"]), inputs["advantages"]
    clipped = np.mean(np.minimum(r * A, _clipped(r, inputs["clip"]) * A))
    values, h, z = forward(network, x)
    error, slope = _error(values[:, 0] - inputs["value_targets"], conventions)
    policy_gradient = _added(_clipped_gradient(policy, inputs, inputs["clip"]), _entropy_gradient(policy, x), c2)
    bar = (-c1 * slope / len(error))[:, None]
    return {
        "objective": clipped - c1 * np.mean(error) + c2 * _entropy(policy, outputs)[0],
        "policy_gradient": policy_gradient,
        "value_gradient": {"layers": backward(network, h, z, bar)},
    }


def _adam(theta: Array, g: Array, m: Array, v: Array, step: int, inputs: Inputs) -> tuple[Array, Array, Array]:
    b1, b2 = inputs["beta1"], inputs["beta2"]
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat, v_hat = m / (1 - b1**step), v / (1 - b2**step)
    return theta - inputs["learning_rate"] * m_hat / (np.sqrt(v_hat) + inputs["epsilon"]), m, v


def _adam_scaled(theta: Array, g: Array, m: Array, v: Array, step: int, inputs: Inputs) -> tuple[Array, Array, Array]:
    b1, b2 = inputs["beta1"], inputs["beta2"]
    m = m + (1 - b1) * (g - m)
    v = v + (1 - b2) * (g * g - v)
    root = np.sqrt(v) / np.sqrt(1 - b2**step) + inputs["epsilon"]
    return theta - inputs["learning_rate"] / (1 - b1**step) * (m / root), m, v


def adam_step(inputs: Inputs, conventions: Conventions) -> Outputs:
    """moments, bias correction, step"""
    names = ("parameters", "gradient", "first_moment", "second_moment", "step")
    theta, m, v = _adam(*(inputs[name] for name in names), inputs)
    return {"parameters": theta, "first_moment": m, "second_moment": v}


def adam_step_scaled(inputs: Inputs, conventions: Conventions) -> Outputs:
    """moments as running averages, bias correction in the step length"""
    names = ("parameters", "gradient", "first_moment", "second_moment", "step")
    theta, m, v = _adam_scaled(*(inputs[name] for name in names), inputs)
    return {"parameters": theta, "first_moment": m, "second_moment": v}


def _epoch(inputs: Inputs, adam: Callable[..., tuple[Array, Array, Array]], by_scores: bool) -> Outputs:
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    m, v = 0.0 * theta, 0.0 * theta
    for step, rows in enumerate(inputs["minibatches"], start=1):
        names = ("observations", "actions", "advantages", "old_log_prob")
        batch = {name: inputs[name][rows] for name in names}
        moved = with_parameters(policy, theta)
        if by_scores:
            g = _clipped_gradient_by_scores(batch | {"policy": moved, "clip": inputs["clip"]})
        else:
            g = _clipped_gradient(moved, batch, inputs["clip"])
        theta, m, v = adam(theta, -flatten(g), m, v, step, inputs)
    return {"parameters": unflatten(policy, theta)}


def ppo_epoch(inputs: Inputs, conventions: Conventions) -> Outputs:
    """backpropagation and Adam"""
    return _epoch(inputs, _adam, False)


def ppo_epoch_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """scores of single rows, and Adam with the bias corrected in the step length"""
    return _epoch(inputs, _adam_scaled, True)


TEXTBOOK: dict[str, tuple[Callable[[Inputs, Conventions], Outputs], ...]] = {
    "ratio": (ratio, ratio_of_probabilities),
    "clipped_objective": (clipped_objective, clipped_objective_of_probabilities),
    "clipped_objective_gradient": (clipped_objective_gradient, clipped_objective_gradient_of_probabilities),
    "clipped_objective_parameter_gradient": (
        clipped_objective_parameter_gradient,
        clipped_objective_parameter_gradient_by_scores,
    ),
    "asymmetric_clipped_objective": (
        asymmetric_clipped_objective,
        asymmetric_clipped_objective_of_probabilities,
    ),
    "dual_clipped_objective": (dual_clipped_objective, dual_clipped_objective_of_probabilities),
    "clip_fraction": (clip_fraction,),
    "approximate_kl": (approximate_kl, approximate_kl_of_ratios),
    "kl_penalized_objective": (kl_penalized_objective, kl_penalized_objective_of_means),
    "kl_penalty_update": (kl_penalty_update,),
    "proportional_kl_penalty_update": (proportional_kl_penalty_update,),
    "value_loss": (value_loss,),
    "clipped_value_loss": (clipped_value_loss,),
    "entropy_bonus": (entropy_bonus, entropy_bonus_by_jacobian),
    "ppo_objective": (ppo_objective,),
    "adam_step": (adam_step, adam_step_scaled),
    "ppo_epoch": (ppo_epoch, ppo_epoch_by_scores),
}
