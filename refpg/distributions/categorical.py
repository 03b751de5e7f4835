"""The categorical distribution over A actions, φ = logits z.

::

    log π(a) = z_a − log Σ_j e^{z_j}            p = softmax(z)
    M = diag(p) − p pᵀ                          Fisher matrix of z, singular along (1, ..., 1)
    KL(φ ‖ φ + Δ) = log E_p e^c                 c = Δ − E_p Δ

Everything that compares two distributions is a function of the centred change c: it does not see a constant
added to all logits, nothing in it cancels, and ``log π'(a) − log π(a) = c_a − KL``.  A logit of −∞ is an
action with probability exactly 0, which is how a mask is applied; the change of such a logit is any finite
number, and not seen. Functions here are the fields of the record `refpg.distributions.Family` and do not
validate.
"""

from functools import cache
from itertools import count
from typing import Any

import numpy as np

from refpg.notation import Array, bind_shapes

SERIES_BELOW = 0.6  # below, the series of eˣ − 1 − x is taken; at 0.6 the difference loses less than two bits


def exponential_remainder(x: Array) -> Array:
    """Return what is left of the exponential after its first two terms, to full relative accuracy.

    ::

        ϕ(x) = eˣ − 1 − x = ½x² (1 + x/3 + x²/12 + …)
    """
    near = np.abs(x.real) < SERIES_BELOW
    y = np.where(near, x, 0)
    last, *others = _remainder_coefficients(y.real.dtype)
    series = np.full_like(y, last)
    for coefficient in others:
        series *= y
        series += coefficient
    return np.where(near, y * y / 2 * series, np.expm1(x) - x)


@cache
def _remainder_coefficients(dtype: np.dtype[Any]) -> tuple[Array, ...]:
    """Return 2/n!, n = N, …, 3, 2: from the last whose term 2 · 0.6ⁿ⁻²/n! is seen in this precision down to 1."""
    coefficients = [dtype.type(1)]
    for n in count(3):
        following = coefficients[-1] / n
        if following * SERIES_BELOW ** (n - 2) < np.finfo(dtype).eps / 8:
            break
        coefficients.append(following)
    return tuple(np.asarray(coefficient) for coefficient in reversed(coefficients))


def log_softmax(z: Array) -> Array:
    """Return the log-probabilities of all actions (last axis).

    ::

        log p_j = d_j − log1p(Σ_{j≠m} e^{d_j}),   d = z − z_m,   m = argmax z

    Equal to z − log Σ eᶻ; the largest probability keeps the digits of its distance from 1.
    """
    m = np.argmax(z.real, axis=-1)[..., np.newaxis]
    d = z - np.take_along_axis(z, m, axis=-1)
    e = np.exp(d)
    np.put_along_axis(e, m, 0, axis=-1)
    return d - np.log1p(np.sum(e, axis=-1, keepdims=True))


def centred(p: Array, v: Array) -> Array:
    """Return v − E_p v over axis 1; p is (B, K), v is (B, K, ...).

    ::

        v − E_p v = w − Σ_j p_j w_j,    w = v − v_m,    m = argmax p

    Measured from the most probable entry, a constant in v is gone before anything is rounded, and where p_m is
    close to 1 the entry of m, −Σ_{j≠m} p_j w_j, is small without cancellation.
    """
    p = p.reshape(p.shape + (1,) * (v.ndim - 2))
    m = np.argmax(p.real, axis=1, keepdims=True)
    w = v - np.take_along_axis(v, m, axis=1)
    return w - np.sum(p * w, axis=1, keepdims=True)


def log_mean_exp(log_p: Array, c: Array) -> Array:
    """Return log E_p e^c over the last axis for a centred c, E_p c = 0.

    ::

        log E_p e^c = log1p(Σ_j p_j ϕ(c_j)),   ϕ(x) = eˣ − 1 − x ≥ 0

    All terms are non-negative, so the value is accurate however small.  Where some p_j e^{c_j} > e the value
    exceeds 1 and log Σ e^{log p + c} loses nothing, and cannot overflow.
    """
    joint = log_p + c
    top = np.max(joint.real, axis=-1, keepdims=True)
    far = top + np.log(np.sum(np.exp(joint - top), axis=-1, keepdims=True))

    p = np.exp(log_p)
    c = np.where(top > 1, 0, c)
    grows = c.real > 1
    moderate = p * exponential_remainder(np.where(grows, 0, c))
    large = np.exp(np.where(grows, joint, -np.inf)) - p * np.where(grows, 1 + c, 0)
    near = np.log1p(np.sum(np.where(grows, large, moderate), axis=-1, keepdims=True))
    return np.where(top > 1, far, near)[..., 0]


def _centred_change(phi: Array, change: Array) -> tuple[Array, Array]:
    log_p = log_softmax(phi)
    return log_p, centred(np.exp(log_p), change)


def _chosen(values: Array, action: Array) -> Array:
    chosen: Array = np.take_along_axis(values, action[..., np.newaxis], axis=-1)[..., 0]
    return chosen


def check(function: str, phi: Array) -> None:
    """Accept any number of logits: one action, the certain one, is a distribution too."""


def check_action(function: str, phi: Array, action: Any) -> Array:
    """Return the actions as (B,) integers; ValueError unless each is one of 0, ..., A − 1."""
    B, A = phi.shape
    (a,) = bind_shapes(function, {"B": B}, action=(action, "int B"))
    outside = (a < 0) | (a >= A)
    if outside.any():
        b = int(np.argmax(outside))
        raise ValueError(f"{function}: action is {a[b]} in row {b}, expected an integer from 0 to {A - 1}")
    return a


def log_prob(phi: Array, action: Array) -> Array:
    """log π(a) = (log softmax z)_a."""
    return _chosen(log_softmax(phi), action)


def score(phi: Array, action: Array) -> Array:
    """∂ log π(a)/∂z = e_a − p, with 1 − p_a = −expm1(log p_a)."""
    log_p = log_softmax(phi)
    index = action[..., np.newaxis]
    gradient = -np.exp(log_p)
    np.put_along_axis(gradient, index, -np.expm1(np.take_along_axis(log_p, index, axis=-1)), axis=-1)
    return gradient


def entropy(phi: Array) -> Array:
    """H = −Σ p log p, with 0 log 0 = 0."""
    log_p = log_softmax(phi)
    return np.sum(-np.exp(log_p) * np.where(log_p.real == -np.inf, 0, log_p), axis=-1)


def entropy_gradient(phi: Array) -> Array:
    """∂H/∂z = −p (log p + H) = −p (z − E_p z) = −M z."""
    log_p = log_softmax(phi)
    return -np.exp(log_p) * centred(np.exp(log_p), np.where(log_p.real == -np.inf, 0, log_p))


def log_ratio(phi: Array, change: Array, action: Array) -> Array:
    """log π'(a) − log π(a) = c_a − KL(φ ‖ φ + Δ)."""
    log_p, c = _centred_change(phi, change)
    return _chosen(c, action) - log_mean_exp(log_p, c)


def kl(phi: Array, change: Array) -> Array:
    """KL(φ ‖ φ + Δ) = log E_p e^c."""
    log_p, c = _centred_change(phi, change)
    return log_mean_exp(log_p, c)


def kl_gradient(phi: Array, change: Array) -> Array:
    """∂KL(φ ‖ φ + Δ)/∂Δ = q − p = p expm1(log q − log p), q = softmax(z + Δ)."""
    log_p, c = _centred_change(phi, change)
    log_r = c - log_mean_exp(log_p, c)[..., np.newaxis]
    p = np.exp(log_p)
    grows = log_r.real > 1
    return np.where(
        grows,
        np.exp(np.where(grows, log_p + log_r, 0)) - p,  # p may be 0 in floating point where q is not
        p * np.expm1(np.where(grows, 0, log_r)),
    )


def kl_hessian_product(phi: Array, change: Array, v: Array) -> Array:
    """∂²KL(φ ‖ φ + Δ)/∂Δ² v = M(φ + Δ) v."""
    return fisher_product(phi + change, v)


def reverse_kl_gradient(phi: Array, change: Array) -> Array:
    """∂KL(φ + Δ ‖ φ)/∂Δ = q (log q − log p − KL) = q (Δ − E_q Δ) = M(φ + Δ) Δ."""
    return fisher_product(phi + change, change)


def reverse_kl_hessian_product(phi: Array, change: Array, v: Array) -> Array:
    """∂²KL(φ + Δ ‖ φ)/∂Δ² v = q (w + c w − E_q[c w]), c = Δ − E_q Δ, w = v − E_q v."""
    q = np.exp(log_softmax(phi + change))
    c = centred(q, change)
    w = centred(q, v)
    return q * (w + centred(q, c * w))


def fisher(phi: Array) -> Array:
    """M = diag(p) − p pᵀ, the diagonal as p (1 − p) with 1 − p = −expm1(log p)."""
    log_p = log_softmax(phi)
    p = np.exp(log_p)
    M = -p[:, :, np.newaxis] * p[:, np.newaxis, :]
    k = np.arange(p.shape[1])
    M[:, k, k] = p * -np.expm1(log_p)
    return M


def fisher_product(phi: Array, v: Array) -> Array:
    """M v = p (v − E_p v)."""
    p = np.exp(log_softmax(phi))
    return p * centred(p, v)


def fisher_root_product(phi: Array, J: Array) -> Array:
    """R J with R = diag(√p) (I − 1 pᵀ), so that Rᵀ R = M: the rows √p_k (J_k − E_p J)."""
    p = np.exp(log_softmax(phi))
    return np.sqrt(p).reshape(p.shape + (1,) * (J.ndim - 2)) * centred(p, J)


def sample(phi: Array, generator: np.random.Generator) -> Array:
    """Draw a = argmax_j (log p_j + G_j) with independent standard Gumbel G: P(a = j) = p_j."""
    actions: Array = np.argmax(log_softmax(phi) + generator.gumbel(size=phi.shape), axis=-1)
    return actions
