"""Independent Bernoulli actions (multi-binary), φ = logits z, one per action dimension.

::

    π(a) = Π_i p_i^{a_i} (1 − p_i)^{1 − a_i}     p = σ(z) = 1/(1 + e^{−z}),  a ∈ {0, 1}
    M = diag(p (1 − p))

Each dimension is the categorical distribution with logits (0, z).  Functions here are the fields of the
record `refpg.distributions.Family` and do not validate.
"""

from typing import Any

import numpy as np

from refpg.distributions.categorical import log_mean_exp
from refpg.notation import Array, bind_shapes


def softplus(x: Array) -> Array:
    """log(1 + eˣ) = max(x, 0) + log1p(e^{−|x|})."""
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(np.where(x.real > 0, -x, x)))


def sigmoid(x: Array) -> Array:
    """σ(x) = 1/(1 + t) or t/(1 + t) with t = e^{−|x|}: accurate in both tails, and 1 − σ(x) = σ(−x)."""
    t = np.exp(np.where(x.real > 0, -x, x))
    return np.where(x.real > 0, 1, t) / (1 + t)


def _divergence(phi: Array, change: Array) -> tuple[Array, Array, Array]:
    """Return c of action 0, c of action 1 and KL, each (B, A): the categorical with logits (0, z)."""
    c_0 = -sigmoid(phi) * change
    c_1 = sigmoid(-phi) * change
    log_p = np.stack([-softplus(phi), -softplus(-phi)], axis=-1)
    return c_0, c_1, log_mean_exp(log_p, np.stack([c_0, c_1], axis=-1))


def _variance(phi: Array) -> Array:
    """p (1 − p) = σ(z) σ(−z)."""
    return sigmoid(phi) * sigmoid(-phi)


def check(function: str, phi: Array) -> None:
    """Accept any number of logits."""


def check_action(function: str, phi: Array, action: Any) -> Array:
    """Return the actions as (B, A) integers; ValueError unless each is 0 or 1."""
    B, A = phi.shape
    (a,) = bind_shapes(function, {"B": B, "A": A}, action=(action, "int B A"))
    outside = (a < 0) | (a > 1)
    if outside.any():
        b, i = np.argwhere(outside)[0]
        raise ValueError(f"{function}: action is {a[b, i]} in row {b}, column {i}, expected 0 or 1")
    return a


def log_prob(phi: Array, action: Array) -> Array:
    """log π(a) = −Σ_i softplus(−s_i), s = z where a = 1, −z where a = 0."""
    return -np.sum(softplus(np.where(action == 1, -phi, phi)), axis=1)


def score(phi: Array, action: Array) -> Array:
    """∂ log π(a)/∂z = a − p: 1 − p = σ(−z) where a = 1, −σ(z) where a = 0."""
    return np.where(action == 1, sigmoid(-phi), -sigmoid(phi))


def entropy(phi: Array) -> Array:
    """H = Σ_i p softplus(−z) + (1 − p) softplus(z)."""
    return np.sum(sigmoid(phi) * softplus(-phi) + sigmoid(-phi) * softplus(phi), axis=1)


def entropy_gradient(phi: Array) -> Array:
    """∂H/∂z = −p (1 − p) z."""
    return -_variance(phi) * phi


def log_ratio(phi: Array, change: Array, action: Array) -> Array:
    """log π'(a) − log π(a) = Σ_i c_a − KL_i, c_1 = (1 − p) Δ, c_0 = −p Δ."""
    c_0, c_1, divergence = _divergence(phi, change)
    return np.sum(np.where(action == 1, c_1, c_0) - divergence, axis=1)


def kl(phi: Array, change: Array) -> Array:
    """KL(φ ‖ φ + Δ) = Σ_i log(p e^{(1−p)Δ} + (1 − p) e^{−pΔ})."""
    return np.sum(_divergence(phi, change)[2], axis=1)


def kl_gradient(phi: Array, change: Array) -> Array:
    """∂KL(φ ‖ φ + Δ)/∂Δ = q − p = p (1 − q) expm1(Δ) = −q (1 − p) expm1(−Δ), q = σ(z + Δ).

    The form whose exponent is not positive is taken.
    """
    rises = change.real > 0
    fall = np.expm1(np.where(rises, -change, change))
    new = phi + change
    return np.where(rises, -sigmoid(new) * sigmoid(-phi), sigmoid(phi) * sigmoid(-new)) * fall


def kl_hessian_product(phi: Array, change: Array, v: Array) -> Array:
    """∂²KL(φ ‖ φ + Δ)/∂Δ² v = q (1 − q) v."""
    return _variance(phi + change) * v


def reverse_kl_gradient(phi: Array, change: Array) -> Array:
    """∂KL(φ + Δ ‖ φ)/∂Δ = q (1 − q) Δ."""
    return _variance(phi + change) * change


def reverse_kl_hessian_product(phi: Array, change: Array, v: Array) -> Array:
    """∂²KL(φ + Δ ‖ φ)/∂Δ² v = q (1 − q) (1 + (1 − 2q) Δ) v."""
    new = phi + change
    return _variance(new) * (1 + (sigmoid(-new) - sigmoid(new)) * change) * v


def fisher(phi: Array) -> Array:
    """M = diag(p (1 − p))."""
    return _variance(phi)[:, :, np.newaxis] * np.eye(phi.shape[1], dtype=phi.dtype)


def fisher_product(phi: Array, v: Array) -> Array:
    """M v = p (1 − p) v."""
    return _variance(phi) * v


def fisher_root_product(phi: Array, J: Array) -> Array:
    """R J with R = diag(√(p (1 − p)))."""
    root = np.sqrt(_variance(phi))
    return root.reshape(root.shape + (1,) * (J.ndim - 2)) * J


def sample(phi: Array, generator: np.random.Generator) -> Array:
    """Draw a_i = 1 where U_i < p_i, U uniform on [0, 1)."""
    return (generator.random(size=phi.shape) < sigmoid(phi)).astype(np.int64)
