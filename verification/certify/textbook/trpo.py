"""The profile `trpo` as a practitioner writes it in NumPy: backpropagation by hand, F = JᵀMJ or E[ssᵀ], Cholesky."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any
Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]

LOG_2_PI = float(np.log(2 * np.pi))


# ── Activations ────────────────────────────────────────────────


def _sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def _erf(z: Array) -> Array:
    """The series of positive terms 2/√π e^{−z²} Σ 2ⁿ z²ⁿ⁺¹/(1·3·5…)."""
    term = z
    result = z
    for n in range(1, 60):
        term = term * (2 * z * z) / (2 * n + 1)
        result = result + term
    return 2 / np.sqrt(np.pi) * np.exp(-z * z) * result


class Activation(NamedTuple):
    """A function of z with its two derivatives."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    curvature: Callable[[Array], Array]


def _tanh_slope(z: Array) -> Array:
    h = np.tanh(z)
    return 1 - h * h


def _tanh_curvature(z: Array) -> Array:
    h = np.tanh(z)
    return -2 * h * (1 - h * h)


def _below(z: Array) -> Array:
    return np.exp(np.minimum(z, 0.0))


def _silu_slope(z: Array) -> Array:
    s = _sigmoid(z)
    return s * (1 + z * (1 - s))


def _silu_curvature(z: Array) -> Array:
    s = _sigmoid(z)
    return s * (1 - s) * (2 + z * (1 - 2 * s))


def _sigmoid_slope(z: Array) -> Array:
    s = _sigmoid(z)
    return s * (1 - s)


def _normal_cdf(z: Array) -> Array:
    return 0.5 * (1 + _erf(z / np.sqrt(2.0)))


def _normal_density(z: Array) -> Array:
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


ACTIVATIONS = {
    "tanh": Activation(np.tanh, _tanh_slope, _tanh_curvature),
    "relu": Activation(lambda z: np.maximum(z, 0.0), lambda z: 1.0 * (z > 0), lambda z: 0.0 * z),
    "identity": Activation(lambda z: z, lambda z: 1.0 + 0.0 * z, lambda z: 0.0 * z),
    "elu": Activation(lambda z: np.maximum(z, 0.0) + _below(z) - 1, _below, lambda z: (z < 0) * _below(z)),
    "silu": Activation(lambda z: z * _sigmoid(z), _silu_slope, _silu_curvature),
    "softplus": Activation(lambda z: np.log(1 + np.exp(z)), _sigmoid, _sigmoid_slope),
    "gelu": Activation(
        lambda z: 0.5 * z * (1 + _erf(z / np.sqrt(2.0))),
        lambda z: _normal_cdf(z) + z * _normal_density(z),
        lambda z: (2 - z * z) * _normal_density(z),
    ),
}


# ── The network, forward and backward ────────────────────────────────────────────────


def forward(network: Inputs, x: Array) -> tuple[Array, list[Array], list[Array]]:
    """Outputs, inputs of every layer and pre-activations of every hidden layer."""
    f = ACTIVATIONS[network["activation"]]
    inputs, pre = [x], []
    for layer in network["layers"][:-1]:
        pre.append(inputs[-1] @ layer["W"] + layer["b"])
        inputs.append(f.value(pre[-1]))
    last = network["layers"][-1]
    return inputs[-1] @ last["W"] + last["b"], inputs, pre


def forward_by_columns(network: Inputs, x: Array) -> Array:
    """Outputs, the products written as sums from the bias on."""
    f = ACTIVATIONS[network["activation"]]
    h = x
    for number, layer in enumerate(network["layers"]):
        z = layer["b"] + 0 * h[:, :1]
        for i in range(len(layer["W"])):
            z = z + h[:, i : i + 1] * layer["W"][i]
        h = z if number == len(network["layers"]) - 1 else f.value(z)
    return h


def backward(network: Inputs, inputs: list[Array], pre: list[Array], bar: Array) -> list[Outputs]:
    """Gradient of Σ bar · outputs with respect to every layer."""
    f = ACTIVATIONS[network["activation"]]
    layers: list[Outputs] = []
    for number in reversed(range(len(network["layers"]))):
        layers.insert(0, {"W": inputs[number].T @ bar, "b": np.sum(bar, axis=0)})
        if number:
            bar = (bar @ network["layers"][number]["W"].T) * f.slope(pre[number - 1])
    return layers


def jacobian(policy: Inputs, x: Array) -> Array:
    """∂φ/∂θ of every row, (B, K, P), one backward pass per output."""
    outputs, inputs, pre = forward(policy, x)
    rows, size = outputs.shape
    f = ACTIVATIONS[policy["activation"]]
    per_output = []
    for k in range(size):
        bar = np.zeros((rows, size))
        bar[:, k] = 1.0
        parts: list[Array] = []
        for number in reversed(range(len(policy["layers"]))):
            dW = inputs[number][:, :, None] * bar[:, None, :]
            parts = [dW.reshape(rows, -1), bar, *parts]
            if number:
                bar = (bar @ policy["layers"][number]["W"].T) * f.slope(pre[number - 1])
        per_output.append(np.concatenate(parts, axis=1))
    J = np.stack(per_output, axis=1)
    if "log_std" not in policy:
        return J
    free = len(policy["log_std"])
    top = np.concatenate([J, np.zeros((rows, size, free))], axis=2)
    bottom = np.zeros((rows, free, J.shape[2] + free))
    bottom[:, :, J.shape[2] :] = np.eye(free)
    return np.concatenate([top, bottom], axis=1)


def flatten(parameters: Inputs) -> Array:
    """θ as one vector."""
    parts = [part.reshape(-1) for layer in parameters["layers"] for part in (layer["W"], layer["b"])]
    return np.concatenate(parts + ([parameters["log_std"]] if "log_std" in parameters else []))


def unflatten(like: Inputs, flat: Array) -> Outputs:
    """The vector in the structure of the parameters."""
    layers, start = [], 0
    for layer in like["layers"]:
        (m, n) = layer["W"].shape
        layers.append({"W": flat[start : start + m * n].reshape(m, n), "b": flat[start + m * n : start + m * n + n]})
        start += m * n + n
    return {"layers": layers} | ({"log_std": flat[start:]} if "log_std" in like else {})


def with_parameters(policy: Inputs, flat: Array) -> Inputs:
    """The policy with those parameters."""
    return policy | unflatten(policy, flat)


# ── Distributions ────────────────────────────────────────────────


def softmax(logits: Array) -> Array:
    """Probabilities."""
    e = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def log_softmax(logits: Array) -> Array:
    """Log-probabilities by the log-sum-exp."""
    shifted = logits - np.max(logits, axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def one_hot(actions: Array, size: int) -> Array:
    """Rows of the identity."""
    return np.eye(size)[np.asarray(actions)]


def log_prob(policy: Inputs, outputs: Array, actions: Array) -> Array:
    """log π(a|s) of every row."""
    if policy["distribution"] == "categorical":
        return np.sum(one_hot(actions, outputs.shape[1]) * log_softmax(outputs), axis=1)
    z = (actions - outputs) / np.exp(policy["log_std"])
    return np.sum(-0.5 * z**2 - policy["log_std"] - 0.5 * LOG_2_PI, axis=1)


def log_prob_by_density(policy: Inputs, outputs: Array, actions: Array) -> Array:
    """log π(a|s) as the logarithm of the probability, or with the variance."""
    if policy["distribution"] == "categorical":
        return np.log(np.sum(one_hot(actions, outputs.shape[1]) * softmax(outputs), axis=1))
    variance = np.exp(policy["log_std"]) ** 2
    terms = -((actions - outputs) ** 2) / (2 * variance) - 0.5 * np.log(2 * np.pi * variance)
    return np.sum(terms, axis=1)


def score(policy: Inputs, outputs: Array, actions: Array) -> tuple[Array, Array]:
    """∂ log π/∂(outputs, log_std) of every row."""
    if policy["distribution"] == "categorical":
        return one_hot(actions, outputs.shape[1]) - softmax(outputs), None
    std = np.exp(policy["log_std"])
    z = (actions - outputs) / std
    return z / std, z**2 - 1


def kl_rows(policy: Inputs, p: Array, q: Array, p_log_std: Array, q_log_std: Array) -> Array:
    """KL(p ‖ q) of every row from outputs and log_std."""
    if policy["distribution"] == "categorical":
        log_p, log_q = log_softmax(p), log_softmax(q)
        return np.sum(np.exp(log_p) * (log_p - log_q), axis=1)
    terms = q_log_std - p_log_std + (np.exp(p_log_std) ** 2 + (p - q) ** 2) / (2 * np.exp(q_log_std) ** 2) - 0.5
    return np.sum(terms, axis=1)


def kl_rows_by_ratio(policy: Inputs, p: Array, q: Array, p_log_std: Array, q_log_std: Array) -> Array:
    """KL(p ‖ q) of every row by the ratio of probabilities, or of variances."""
    if policy["distribution"] == "categorical":
        first, second = softmax(p), softmax(q)
        return np.sum(first * np.log(first / second), axis=1)
    ratio = (np.exp(p_log_std) / np.exp(q_log_std)) ** 2
    t = ((p - q) / np.exp(q_log_std)) ** 2
    return 0.5 * np.sum(ratio + t - 1 - np.log(ratio), axis=1)


def _excess(x: Array) -> Array:
    """eˣ − 1 − x, by its series near 0."""
    tail = 1.0 + 0.0 * x
    for n in range(20, 2, -1):
        tail = 1 + tail * x / n
    near = np.abs(x) < 1
    return np.where(near, 0.5 * x * x * tail, np.expm1(np.where(near, 1.0, x)) - x)


# ── Surrogate and mean KL ────────────────────────────────────────────────


def gradient_of_log_probs(policy: Inputs, inputs: Inputs, cotangent: Array) -> Outputs:
    """Σ_b cotangent_b ∇ log π(a_b|x_b)."""
    outputs, h, z = forward(policy, inputs["observations"])
    to_outputs, to_log_std = score(policy, outputs, inputs["actions"])
    layers = backward(policy, h, z, cotangent[:, None] * to_outputs)
    free = {} if to_log_std is None else {"log_std": np.sum(cotangent[:, None] * to_log_std, axis=0)}
    return {"layers": layers} | free


def _log_probs(inputs: Inputs, policy: Inputs, log_prob: Callable[..., Array] = log_prob) -> Array:
    return log_prob(policy, forward(policy, inputs["observations"])[0], inputs["actions"])


def network_forward(inputs: Inputs, conventions: Conventions) -> Outputs:
    """matrix products"""
    return {"outputs": forward(inputs["network"], inputs["observations"])[0]}


def network_forward_by_columns(inputs: Inputs, conventions: Conventions) -> Outputs:
    """sums from the bias on"""
    return {"outputs": forward_by_columns(inputs["network"], inputs["observations"])}


def surrogate(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of exp(new − old) · A"""
    r = np.exp(_log_probs(inputs, inputs["policy"]) - inputs["old_log_prob"])
    return {"surrogate": np.mean(r * inputs["advantages"])}


def surrogate_by_density(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the same from the logarithm of the density"""
    r = np.exp(_log_probs(inputs, inputs["policy"], log_prob_by_density) - inputs["old_log_prob"])
    return {"surrogate": np.sum(r * inputs["advantages"]) / len(r)}


def surrogate_gradient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """backpropagation of r · A · score"""
    r = np.exp(_log_probs(inputs, inputs["policy"]) - inputs["old_log_prob"])
    cotangent = r * inputs["advantages"] / len(r)
    return {"gradient": gradient_of_log_probs(inputs["policy"], inputs, cotangent)}


def surrogate_gradient_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the mean of the scores of single rows, weighed by r · A"""
    policy = inputs["policy"]
    r = np.exp(_log_probs(inputs, policy, log_prob_by_density) - inputs["old_log_prob"])
    outputs = forward(policy, inputs["observations"])[0]
    to_outputs, to_log_std = score(policy, outputs, inputs["actions"])
    s = to_outputs if to_log_std is None else np.concatenate([to_outputs, to_log_std], axis=1)
    J = jacobian(policy, inputs["observations"])
    per_row = np.sum(s[:, :, None] * J, axis=1)
    return {"gradient": unflatten(policy, np.mean((r * inputs["advantages"])[:, None] * per_row, axis=0))}


class _Pair(NamedTuple):
    """Old and new outputs and log_std."""

    old: Array
    new: Array
    old_log_std: Array
    new_log_std: Array


def _pair(inputs: Inputs) -> _Pair:
    old, new = inputs["old_policy"], inputs["new_policy"]
    x = inputs["observations"]
    return _Pair(forward(old, x)[0], forward(new, x)[0], old.get("log_std"), new.get("log_std"))


def _mean_kl(inputs: Inputs, conventions: Conventions, rows: Callable[..., Array]) -> Array:
    p = _pair(inputs)
    if conventions["kl.direction"] == "old_new":
        return np.mean(rows(inputs["new_policy"], p.old, p.new, p.old_log_std, p.new_log_std))
    return np.mean(rows(inputs["new_policy"], p.new, p.old, p.new_log_std, p.old_log_std))


def mean_kl(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ p (log p − log q), or the closed form of Gaussians"""
    return {"mean_kl": _mean_kl(inputs, conventions, kl_rows)}


def mean_kl_by_ratio(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the same by ratios of probabilities or variances"""
    return {"mean_kl": _mean_kl(inputs, conventions, kl_rows_by_ratio)}


def _changed_outputs(policy: Inputs, x: Array, W_changes: list[Array], b_changes: list[Array]) -> Array:
    """φ(θ + dθ) − φ(θ), the change carried through the layers: dh = sinh(dz)/(cosh z cosh(z + dz)) for tanh."""
    f = ACTIVATIONS[policy["activation"]]
    h, dh = x, 0.0 * x
    for number, layer in enumerate(policy["layers"]):
        dW, db = W_changes[number], b_changes[number]
        z = h @ layer["W"] + layer["b"]
        dz = (h + dh) @ dW + dh @ layer["W"] + db
        h = f.value(z)
        dh = np.sinh(dz) / (np.cosh(z) * np.cosh(z + dz)) if f.value is np.tanh else f.value(z + dz) - h
    return dz


def mean_kl_by_change(inputs: Inputs, conventions: Conventions) -> Outputs:
    """log(1 + Σ p (eᶜ − 1 − c)), or Σ ½(e⁻²ᵈ − 1 + 2d) + ½(dμ/σ₁)², from the change of the parameters"""
    p, q = inputs["old_policy"], inputs["new_policy"]
    if conventions["kl.direction"] == "new_old":
        p, q = q, p
    pairs = list(zip(p["layers"], q["layers"], strict=True))
    W_changes, b_changes = ([b[name] - a[name] for a, b in pairs] for name in ("W", "b"))
    dz = _changed_outputs(p, inputs["observations"], W_changes, b_changes)
    if p["distribution"] == "categorical":
        probability = softmax(forward(p, inputs["observations"])[0])
        c = dz - np.sum(probability * dz, axis=1, keepdims=True)
        c = c - np.sum(probability * c, axis=1, keepdims=True)
        return {"mean_kl": np.mean(np.log1p(np.sum(probability * _excess(c), axis=1)))}
    d = q["log_std"] - p["log_std"]
    terms = 0.5 * _excess(-2 * d) + 0.5 * (dz / np.exp(q["log_std"])) ** 2
    return {"mean_kl": np.mean(np.sum(terms, axis=1))}


def _kl_slopes(inputs: Inputs, conventions: Conventions) -> tuple[Array, Array]:
    """∂KL/∂(new outputs, new log_std) of every row."""
    p = _pair(inputs)
    forwards = conventions["kl.direction"] == "old_new"
    if inputs["new_policy"]["distribution"] == "categorical":
        if forwards:
            return softmax(p.new) - softmax(p.old), None
        log_q, log_p = log_softmax(p.new), log_softmax(p.old)
        q = np.exp(log_q)
        gap = log_q - log_p
        return q * (gap - np.sum(q * gap, axis=1, keepdims=True)), None
    v0, v1 = np.exp(2 * p.old_log_std), np.exp(2 * p.new_log_std)
    difference = p.new - p.old
    if forwards:
        return difference / v1, 1 - (v0 + difference**2) / v1
    return difference / v0, v1 / v0 - 1 + 0 * difference


def mean_kl_gradient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """backpropagation of ∂KL/∂φ"""
    policy = inputs["new_policy"]
    to_outputs, to_log_std = _kl_slopes(inputs, conventions)
    _, h, z = forward(policy, inputs["observations"])
    rows = len(to_outputs)
    layers = backward(policy, h, z, to_outputs / rows)
    free = {} if to_log_std is None else {"log_std": np.sum(to_log_std / rows, axis=0)}
    return {"gradient": {"layers": layers} | free}


def mean_kl_gradient_by_jacobian(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the mean of Jᵀ ∂KL/∂φ over rows"""
    policy = inputs["new_policy"]
    to_outputs, to_log_std = _kl_slopes(inputs, conventions)
    s = to_outputs if to_log_std is None else np.concatenate([to_outputs, to_log_std], axis=1)
    J = jacobian(policy, inputs["observations"])
    return {"gradient": unflatten(policy, np.mean(np.sum(s[:, :, None] * J, axis=1), axis=0))}


def _kl_curvature(inputs: Inputs, conventions: Conventions, dphi: Array, dlog_std: Array) -> tuple[Array, Array]:
    """Derivative of `_kl_slopes` along a change of outputs and log_std."""
    p = _pair(inputs)
    forwards = conventions["kl.direction"] == "old_new"
    if inputs["new_policy"]["distribution"] == "categorical":
        log_q, log_p = log_softmax(p.new), log_softmax(p.old)
        q = np.exp(log_q)
        dlog_q = dphi - np.sum(q * dphi, axis=1, keepdims=True)
        dq = q * dlog_q
        if forwards:
            return dq, None
        gap = log_q - log_p
        mean_gap = np.sum(q * gap, axis=1, keepdims=True)
        dmean = np.sum(dq * gap + q * dlog_q, axis=1, keepdims=True)
        return dq * (gap - mean_gap) + q * (dlog_q - dmean), None
    v0, v1 = np.exp(2 * p.old_log_std), np.exp(2 * p.new_log_std)
    difference = p.new - p.old
    if forwards:
        return (
            dphi / v1 - 2 * difference * dlog_std / v1,
            -2 * difference * dphi / v1 + 2 * (v0 + difference**2) / v1 * dlog_std,
        )
    return dphi / v0, 2 * v1 / v0 * dlog_std + 0 * difference


def mean_kl_hessian_vector_product(inputs: Inputs, conventions: Conventions) -> Outputs:
    """forward-over-reverse differentiation written out"""
    policy, vector = inputs["new_policy"], inputs["vector"]
    f = ACTIVATIONS[policy["activation"]]
    outputs, h, z = forward(policy, inputs["observations"])
    rows, depth = len(outputs), len(policy["layers"])
    tangents, pre_tangents = [0 * h[0]], []
    for number in range(depth):
        W, dW, db = policy["layers"][number]["W"], vector["layers"][number]["W"], vector["layers"][number]["b"]
        dz = tangents[number] @ W + h[number] @ dW + db
        pre_tangents.append(dz)
        if number < depth - 1:
            tangents.append(f.slope(z[number]) * dz)
    to_outputs, _ = _kl_slopes(inputs, conventions)
    d_outputs, d_log_std = _kl_curvature(inputs, conventions, pre_tangents[-1], vector.get("log_std"))
    bar, dbar = to_outputs / rows, d_outputs / rows
    layers: list[Outputs] = []
    for number in reversed(range(depth)):
        dW = tangents[number].T @ bar + h[number].T @ dbar
        layers.insert(0, {"W": dW, "b": np.sum(dbar, axis=0)})
        if number:
            W, V = policy["layers"][number]["W"], vector["layers"][number]["W"]
            h_bar, h_dbar = bar @ W.T, dbar @ W.T + bar @ V.T
            slope, curvature = f.slope(z[number - 1]), f.curvature(z[number - 1])
            bar, dbar = h_bar * slope, h_dbar * slope + h_bar * curvature * pre_tangents[number - 1]
    free = {} if d_log_std is None else {"log_std": np.sum(d_log_std / rows, axis=0)}
    return {"product": {"layers": layers} | free}


# ── Fisher matrix ────────────────────────────────────────────────


def _metric(policy: Inputs, outputs: Array) -> Array:
    """M of every row, (B, K, K)."""
    if policy["distribution"] == "categorical":
        p = softmax(outputs)
        return p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :]
    size = outputs.shape[1]
    diagonal = np.concatenate([1 / np.exp(policy["log_std"]) ** 2, np.full(size, 2.0)])
    return (diagonal * np.eye(2 * size))[None] * np.ones((len(outputs), 1, 1))


def fisher_by_metric(policy: Inputs, x: Array) -> Array:
    """Mean of JᵀMJ."""
    M, J = _metric(policy, forward(policy, x)[0]), jacobian(policy, x)
    total = 0.0
    for row in range(len(x)):
        total = total + J[row].T @ (M[row] @ J[row])
    return total / len(x)


def fisher_by_scores(policy: Inputs, x: Array) -> Array:
    """Mean of E[ssᵀ] over the actions; for Gaussians, of rows divided by σ."""
    outputs, J = forward(policy, x)[0], jacobian(policy, x)
    total = 0.0
    if policy["distribution"] == "categorical":
        p = softmax(outputs)
        for a in range(outputs.shape[1]):
            s = J[:, a] - np.sum(p[:, :, None] * J, axis=1)
            total = total + (p[:, a : a + 1] * s).T @ s
        return total / len(x)
    size = outputs.shape[1]
    scale = np.concatenate([1 / np.exp(policy["log_std"]), np.full(size, np.sqrt(2.0))])
    for k in range(2 * size):
        s = J[:, k] * scale[k]
        total = total + s.T @ s
    return total / len(x)


def _actions(policy: Inputs, outputs: Array) -> list[tuple[Array, Array]]:
    """Weights and actions that have the E[ssᵀ] of the distribution: all of them, or Gauss–Hermite's three points."""
    if policy["distribution"] == "categorical":
        p = softmax(outputs)
        return [(p[:, a], np.full(len(outputs), a)) for a in range(outputs.shape[1])]
    points = ((-np.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (np.sqrt(3.0), 1 / 6))
    std = np.exp(policy["log_std"])
    nodes = []
    for node in itertools.product(points, repeat=outputs.shape[1]):
        weight = np.prod([weight for _, weight in node])
        nodes.append((np.full(len(outputs), weight), outputs + std * np.array([t for t, _ in node])))
    return nodes


def fisher_by_enumeration(policy: Inputs, x: Array) -> Array:
    """Mean of E[ssᵀ], the scores formed action by action."""
    outputs, J = forward(policy, x)[0], jacobian(policy, x)
    total = 0.0
    for weight, actions in _actions(policy, outputs):
        to_outputs, to_log_std = score(policy, outputs, actions)
        to_phi = to_outputs if to_log_std is None else np.concatenate([to_outputs, to_log_std], axis=1)
        s = np.sum(to_phi[:, :, None] * J, axis=1)
        total = total + (weight[:, None] * s).T @ s
    return total / len(x)


Fisher = Callable[[Inputs, Array], Array]


def _damped(inputs: Inputs, fisher: Fisher) -> Array:
    F = fisher(inputs["policy"], inputs["observations"])
    return F + inputs["damping"] * np.eye(len(F))


def fisher_matrix(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of JᵀMJ"""
    return {"fisher": fisher_by_metric(inputs["policy"], inputs["observations"])}


def fisher_matrix_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of E[ssᵀ]"""
    return {"fisher": fisher_by_scores(inputs["policy"], inputs["observations"])}


def _fisher_product(policy: Inputs, x: Array, v: Array, damping: Array) -> Array:
    """Jᵀ M J v + λv of every row, then the mean."""
    M, J = _metric(policy, forward(policy, x)[0]), jacobian(policy, x)
    total = 0.0
    for row in range(len(x)):
        total = total + J[row].T @ (M[row] @ (J[row] @ v))
    return total / len(x) + damping * v


def fisher_vector_product(inputs: Inputs, conventions: Conventions) -> Outputs:
    """y = Jv, My, Jᵀ(My)"""
    policy = inputs["policy"]
    product = _fisher_product(policy, inputs["observations"], flatten(inputs["vector"]), inputs["damping"])
    return {"product": unflatten(policy, product)}


def fisher_vector_product_by_matrix(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the matrix E[ssᵀ] + λI times the vector"""
    product = _damped(inputs, fisher_by_scores) @ flatten(inputs["vector"])
    return {"product": unflatten(inputs["policy"], product)}


def fisher_matrix_by_enumeration(inputs: Inputs, conventions: Conventions) -> Outputs:
    """mean of E[ssᵀ], the scores formed action by action, Gaussian ones at the nodes of a quadrature"""
    return {"fisher": fisher_by_enumeration(inputs["policy"], inputs["observations"])}


def fisher_vector_product_by_enumeration(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the matrix E[ssᵀ] + λI, its scores formed action by action, times the vector"""
    product = _damped(inputs, fisher_by_enumeration) @ flatten(inputs["vector"])
    return {"product": unflatten(inputs["policy"], product)}


# ── Solvers ────────────────────────────────────────────────


def _stops(conventions: Conventions, made: int, rr: Array) -> bool:
    """Whether conjugate gradients end after so many iterations with rᵀr."""
    rule = conventions["conjugate_gradient.stop"]
    return rr == 0 or (rr < 1e-10 and (rule == "1e-10_from_start" or (rule == "1e-10" and made > 0)))


def cg(conventions: Conventions, product: Callable[[Array], Array], b: Array, iterations: int) -> Array:
    """Conjugate gradients from zero, by the recursion of Hestenes and Stiefel."""
    x, r, p = 0.0 * b, b, b
    rr = np.sum(r * r)
    for made in range(iterations):
        if _stops(conventions, made, rr):
            break
        Ap = product(p)
        alpha = rr / np.sum(p * Ap)
        x = x + alpha * p
        r = r - alpha * Ap
        new = np.sum(r * r)
        p = r + (new / rr) * p
        rr = new
    return x


def cg_with_true_residual(
    conventions: Conventions, product: Callable[[Array], Array], b: Array, iterations: int
) -> Array:
    """Conjugate gradients from zero, with the residual b − Ax and β = −rᵀAp/pᵀAp."""
    x, r, p = 0.0 * b, b, b
    for number in range(iterations):
        if not np.any(r != 0):
            break
        # The sum would count as one more rounding where nobody asks for it.
        if conventions["conjugate_gradient.stop"] != "never" and _stops(conventions, number, np.sum(r * r)):
            break
        Ap = product(p)
        curvature = np.sum(p * Ap)
        x = x + np.sum(r * p) / curvature * p
        if number < iterations - 1:
            r = b - product(x)
            p = r - np.sum(r * Ap) / curvature * p
    return x


def conjugate_gradient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """recursion for the residual"""
    return {"x": cg(conventions, lambda v: inputs["matrix"] @ v, inputs["b"], inputs["iterations"])}


def conjugate_gradient_true_residual(inputs: Inputs, conventions: Conventions) -> Outputs:
    """residual b − Ax in every iteration"""
    x = cg_with_true_residual(conventions, lambda v: inputs["matrix"] @ v, inputs["b"], inputs["iterations"])
    return {"x": x}


def fisher_conjugate_gradient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """recursion for the residual, F v by Jᵀ M J v"""
    policy, x, damping = inputs["policy"], inputs["observations"], inputs["damping"]
    M, J = _metric(policy, forward(policy, x)[0]), jacobian(policy, x)

    def product(v: Array) -> Array:
        total = 0.0
        for row in range(len(x)):
            total = total + J[row].T @ (M[row] @ (J[row] @ v))
        return total / len(x) + damping * v

    return {"x": unflatten(policy, cg(conventions, product, flatten(inputs["b"]), inputs["iterations"]))}


def fisher_conjugate_gradient_by_matrix(inputs: Inputs, conventions: Conventions) -> Outputs:
    """residual b − Ax in every iteration, F formed as E[ssᵀ]"""
    F = _damped(inputs, fisher_by_scores)
    x = cg_with_true_residual(conventions, lambda v: F @ v, flatten(inputs["b"]), inputs["iterations"])
    return {"x": unflatten(inputs["policy"], x)}


def cholesky_solve(matrix: Array, b: Array) -> Array:
    """Solve by L Lᵀ, column by column."""
    size = len(b)
    L = 0.0 * matrix
    for k in range(size):
        column = matrix[k:, k]
        if k:
            column = column - L[k:, :k] @ L[k, :k]
        L[k:, k] = column / np.sqrt(column[0])
    y = 0.0 * b
    for k in range(size):
        y[k] = (b[k] - (np.sum(L[k, :k] * y[:k]) if k else 0.0)) / L[k, k]
    x = 0.0 * b
    for k in reversed(range(size)):
        x[k] = (y[k] - (np.sum(L[k + 1 :, k] * x[k + 1 :]) if k < size - 1 else 0.0)) / L[k, k]
    return x


def eliminate(matrix: Array, b: Array) -> Array:
    """Solve by Gaussian elimination, row by row."""
    size = len(b)
    work = np.concatenate([matrix, b[:, None]], axis=1)
    for k in range(size - 1):
        factors = work[k + 1 :, k : k + 1] / work[k, k]
        work[k + 1 :, k:] = work[k + 1 :, k:] - factors * work[k : k + 1, k:]
    x = 0.0 * b
    for k in reversed(range(size)):
        rest = work[k, size] - (np.sum(work[k, k + 1 : size] * x[k + 1 :]) if k < size - 1 else 0.0)
        x[k] = rest / work[k, k]
    return x


def rotated_solve(matrix: Array, b: Array) -> Array:
    """Solve in another orthonormal basis, as eigenvalue methods do: what rounds there is the norm, not the entries."""
    size = len(b)
    reflection = np.eye(size) - np.full((size, size), 2.0) / size
    return reflection @ eliminate(reflection @ matrix @ reflection, reflection @ b)


def natural_gradient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """F = JᵀMJ, Cholesky"""
    x = cholesky_solve(_damped(inputs, fisher_by_metric), flatten(inputs["gradient"]))
    return {"direction": unflatten(inputs["policy"], x)}


def natural_gradient_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """F = E[ssᵀ], elimination"""
    x = eliminate(_damped(inputs, fisher_by_scores), flatten(inputs["gradient"]))
    return {"direction": unflatten(inputs["policy"], x)}


def natural_gradient_rotated(inputs: Inputs, conventions: Conventions) -> Outputs:
    """F = E[ssᵀ] from the scores of single actions, solved in another basis"""
    x = rotated_solve(_damped(inputs, fisher_by_enumeration), flatten(inputs["gradient"]))
    return {"direction": unflatten(inputs["policy"], x)}


def _whitened_rows(inputs: Inputs) -> tuple[Array, Array]:
    """G and y with F = GᵀG and g = Gᵀy, G having as many rows as F can have rank."""
    policy, x = inputs["policy"], inputs["observations"]
    outputs, J = forward(policy, x)[0], jacobian(policy, x)
    rows = len(x)
    weight = inputs["advantages"] / np.sqrt(rows * 1.0)
    if policy["distribution"] == "categorical":
        p, size = softmax(outputs), outputs.shape[1]
        parts, targets = [], []
        for k in range(size - 1):  # LDLᵀ of diag p − ppᵀ: stick-breaking
            tail = np.sum(p[:, k + 1 :], axis=1)
            here = p[:, k] + tail
            scale = np.sqrt(p[:, k] * tail / here)
            after = np.sum(p[:, k + 1 :, None] * J[:, k + 1 :], axis=1) / tail[:, None]
            parts.append(scale[:, None] * (J[:, k] - after) / np.sqrt(rows * 1.0))
            taken, later = 1.0 * (inputs["actions"] == k), 1.0 * (inputs["actions"] > k)
            targets.append(weight * scale * (taken / p[:, k] - later / tail))
        return np.concatenate(parts), np.concatenate(targets)
    size = outputs.shape[1]
    std = np.exp(policy["log_std"])
    to_outputs, to_log_std = score(policy, outputs, inputs["actions"])
    means = [J[:, k] / std[k] / np.sqrt(rows * 1.0) for k in range(size)]
    targets = [weight * to_outputs[:, k] * std[k] for k in range(size)]
    root = np.sqrt(2.0)
    free = [root * J[0, size:]]
    free_targets = [np.mean(inputs["advantages"][:, None] * to_log_std, axis=0) / root]
    return np.concatenate(means + free), np.concatenate(targets + free_targets)


def natural_gradient_minimum_norm(inputs: Inputs, conventions: Conventions) -> Outputs:
    """rows of F = GᵀG; Gᵀ(GGᵀ)⁻¹y, or the normal equations with the known null space filled"""
    G, y = _whitened_rows(inputs)
    policy = inputs["policy"]
    null = len(policy["layers"][-1]["W"]) + 1 if policy["distribution"] == "categorical" else 0
    rank = min(len(G), G.shape[1] - null)
    if rank == len(G):
        x = G.T @ cholesky_solve(G @ G.T, y)
    else:
        x = eliminate(G.T @ G + _shifts(policy), G.T @ y)
    return {"direction": unflatten(policy, x), "rank": rank}


def natural_gradient_minimum_norm_by_fisher(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the same with F = JᵀMJ where it is the smaller matrix, and elimination"""
    G, y = _whitened_rows(inputs)
    policy = inputs["policy"]
    null = len(policy["layers"][-1]["W"]) + 1 if policy["distribution"] == "categorical" else 0
    rank = min(len(G), G.shape[1] - null)
    if rank == len(G):
        x = G.T @ eliminate(G @ G.T, y)
    else:
        cotangent = inputs["advantages"] / len(inputs["advantages"])
        g = flatten(gradient_of_log_probs(policy, inputs, cotangent))
        x = cholesky_solve(fisher_by_metric(policy, inputs["observations"]) + _shifts(policy), g)
    return {"direction": unflatten(policy, x), "rank": rank}


def natural_gradient_minimum_norm_from_gradient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """F⁺g itself: Gᵀ(GGᵀ)⁻²G g, or the matrix F in another basis with the known null space filled"""
    G, _ = _whitened_rows(inputs)
    policy = inputs["policy"]
    null = len(policy["layers"][-1]["W"]) + 1 if policy["distribution"] == "categorical" else 0
    rank = min(len(G), G.shape[1] - null)
    g = flatten(gradient_of_log_probs(policy, inputs, inputs["advantages"] / len(inputs["advantages"])))
    if rank == len(G):
        K = G @ G.T
        x = G.T @ rotated_solve(K, rotated_solve(K, G @ g))
    else:
        x = rotated_solve(fisher_by_enumeration(policy, inputs["observations"]) + _shifts(policy), g)
    return {"direction": unflatten(policy, x), "rank": rank}


def _shifts(policy: Inputs) -> Array:
    """ZZᵀ of the shifts of all logits alike; a Gaussian policy has none."""
    if policy["distribution"] != "categorical":
        return 0.0
    size = sum(layer["W"].size + layer["b"].size for layer in policy["layers"])
    m, n = policy["layers"][-1]["W"].shape
    Z = np.zeros((size, m + 1))
    for unit in range(m + 1):
        start = size - (m + 1 - unit) * n
        Z[start : start + n, unit] = 1.0
    return Z @ Z.T


# ── The step ────────────────────────────────────────────────


def _with_epsilon(conventions: Conventions, quadratic: Array) -> Array:
    # + 0 would count as one more rounding.
    epsilon = float(conventions["step_length.epsilon"])
    return quadratic + epsilon if epsilon else quadratic


def step_length(inputs: Inputs, conventions: Conventions) -> Outputs:
    """√(2δ/(xᵀHx + ε))"""
    quadratic = _with_epsilon(conventions, np.sum(inputs["direction"] * inputs["product"]))
    return {"step_length": np.sqrt(2 * inputs["max_kl"] / quadratic)}


def step_length_by_multiplier(inputs: Inputs, conventions: Conventions) -> Outputs:
    """1/√(½ (xᵀHx + ε)/δ)"""
    half = 0.5 * _with_epsilon(conventions, inputs["direction"] @ inputs["product"])
    return {"step_length": 1 / np.sqrt(half / inputs["max_kl"])}


def _scaled(inputs: Inputs, conventions: Conventions, H: Array, x: Array) -> Array:
    quadratic = np.sum(x * (H @ x))
    if conventions["step_length.damping"] == "undamped":
        quadratic = quadratic - inputs["damping"] * np.sum(x * x)
    if quadratic == 0:
        return x
    return np.sqrt(2 * inputs["max_kl"] / _with_epsilon(conventions, quadratic)) * x


def natural_gradient_step(inputs: Inputs, conventions: Conventions) -> Outputs:
    """F = JᵀMJ, Cholesky, √(2δ/xᵀHx)"""
    H = _damped(inputs, fisher_by_metric)
    x = cholesky_solve(H, flatten(inputs["gradient"]))
    return {"step": unflatten(inputs["policy"], _scaled(inputs, conventions, H, x))}


def natural_gradient_step_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """F = E[ssᵀ], elimination, √(2δ/xᵀHx)"""
    H = _damped(inputs, fisher_by_scores)
    x = eliminate(H, flatten(inputs["gradient"]))
    return {"step": unflatten(inputs["policy"], _scaled(inputs, conventions, H, x))}


def natural_gradient_step_rotated(inputs: Inputs, conventions: Conventions) -> Outputs:
    """F = E[ssᵀ] from the scores of single actions, solved in another basis, √(2δ/xᵀHx)"""
    H = _damped(inputs, fisher_by_enumeration)
    x = rotated_solve(H, flatten(inputs["gradient"]))
    return {"step": unflatten(inputs["policy"], _scaled(inputs, conventions, H, x))}


def expected_improvement(inputs: Inputs, conventions: Conventions) -> Outputs:
    """dot product of the flat vectors"""
    return {"expected_improvement": flatten(inputs["gradient"]) @ flatten(inputs["step"])}


def expected_improvement_by_layers(inputs: Inputs, conventions: Conventions) -> Outputs:
    """sum of the dot products of the parts"""
    g, s = inputs["gradient"], inputs["step"]
    parts = [np.sum(a[name] * b[name]) for a, b in zip(g["layers"], s["layers"], strict=True) for name in ("W", "b")]
    if "log_std" in g:
        parts.append(np.sum(g["log_std"] * s["log_std"]))
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return {"expected_improvement": total}


def _search(inputs: Inputs, conventions: Conventions, step: Array) -> Outputs:
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    old, advantages, max_kl = _log_probs(inputs, policy), inputs["advantages"], inputs["max_kl"]
    rule = conventions["line_search.accept"]
    before, slope = np.mean(advantages), np.sum(_gradient_at_old(inputs) * step)
    for j in range(inputs["max_backtracks"]):
        candidate = theta + inputs["backtrack"] ** j * step
        moved = with_parameters(policy, candidate)
        gain = np.mean(np.exp(_log_probs(inputs, moved) - old) * advantages) - before
        divergence = _mean_kl({**inputs, "old_policy": policy, "new_policy": moved}, conventions, kl_rows)
        expected = inputs["backtrack"] ** j * slope
        if rule == "improves_and_kl":
            accepted = gain > 0 and divergence <= max_kl
        elif rule == "improves_and_kl_strict":
            accepted = gain > 0 and divergence < max_kl
        elif rule == "improves_and_1.5_kl":
            accepted = gain >= 0 and divergence <= 1.5 * max_kl
        elif rule == "no_worse_and_kl":
            accepted = gain >= 0 and divergence <= max_kl
        elif rule == "kl_strict":
            accepted = divergence < max_kl
        elif rule == "tenth_of_expected":
            accepted = gain > 0 and gain > 0.1 * expected
        else:
            accepted = gain > 0 and gain > 0.5 * expected and divergence < max_kl
        if accepted:
            return {"parameters": unflatten(policy, candidate), "accepted": j}
    return {"parameters": unflatten(policy, theta + 0.0 * step), "accepted": -1}


def line_search(inputs: Inputs, conventions: Conventions) -> Outputs:
    """backtracking from the full step"""
    return _search(inputs, conventions, flatten(inputs["full_step"]))


def _gradient_at_old(inputs: Inputs) -> Array:
    cotangent = inputs["advantages"] / len(inputs["advantages"])
    return flatten(gradient_of_log_probs(inputs["policy"], inputs, cotangent))


def trpo_step(inputs: Inputs, conventions: Conventions) -> Outputs:
    """F = JᵀMJ, conjugate gradients by the recursion, backtracking"""
    H = _damped(inputs, fisher_by_metric)
    x = cg(conventions, lambda v: H @ v, _gradient_at_old(inputs), inputs["iterations"])
    return _search(inputs, conventions, _scaled(inputs, conventions, H, x))


def trpo_step_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """F = E[ssᵀ], conjugate gradients with the residual b − Ax, backtracking"""
    H = _damped(inputs, fisher_by_scores)
    x = cg_with_true_residual(conventions, lambda v: H @ v, _gradient_at_old(inputs), inputs["iterations"])
    return _search(inputs, conventions, _scaled(inputs, conventions, H, x))


TEXTBOOK: dict[str, tuple[Callable[[Inputs, Conventions], Outputs], ...]] = {
    "network_forward": (network_forward, network_forward_by_columns),
    "surrogate": (surrogate, surrogate_by_density),
    "surrogate_gradient": (surrogate_gradient, surrogate_gradient_by_scores),
    "mean_kl": (mean_kl, mean_kl_by_ratio, mean_kl_by_change),
    "mean_kl_gradient": (mean_kl_gradient, mean_kl_gradient_by_jacobian),
    "mean_kl_hessian_vector_product": (mean_kl_hessian_vector_product,),
    "fisher_matrix": (fisher_matrix, fisher_matrix_by_scores, fisher_matrix_by_enumeration),
    "fisher_vector_product": (
        fisher_vector_product,
        fisher_vector_product_by_matrix,
        fisher_vector_product_by_enumeration,
    ),
    "conjugate_gradient": (conjugate_gradient, conjugate_gradient_true_residual),
    "fisher_conjugate_gradient": (fisher_conjugate_gradient, fisher_conjugate_gradient_by_matrix),
    "natural_gradient": (natural_gradient, natural_gradient_by_scores, natural_gradient_rotated),
    "natural_gradient_minimum_norm": (
        natural_gradient_minimum_norm,
        natural_gradient_minimum_norm_by_fisher,
        natural_gradient_minimum_norm_from_gradient,
    ),
    "step_length": (step_length, step_length_by_multiplier),
    "natural_gradient_step": (natural_gradient_step, natural_gradient_step_by_scores, natural_gradient_step_rotated),
    "expected_improvement": (expected_improvement, expected_improvement_by_layers),
    "line_search": (line_search,),
    "trpo_step": (trpo_step, trpo_step_by_scores),
}
