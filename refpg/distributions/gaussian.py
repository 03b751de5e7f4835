"""The diagonal Gaussian, φ = (mean μ, log standard deviation ls), K = 2A.

::

    log π(a) = −Σ_i [½ e_i² + ls_i + ½ log 2π]        e = (a − μ)/σ,  σ = e^{ls}
    M = diag(1/σ², 2)
    KL(φ ‖ φ + Δ) = ½ Σ_i [ϕ(−2 Δls_i) + (Δμ_i/σ'_i)²]      ϕ(x) = eˣ − 1 − x,  σ' = e^{ls + Δls}

The last line equals Σ [ls' − ls + (σ² + (μ − μ')²)/(2σ'²) − ½] and does not cancel.  Functions here are the
fields of the record `refpg.distributions.Family` and do not validate.
"""

from typing import Any

import numpy as np

from refpg.distributions.categorical import exponential_remainder
from refpg.notation import Array, bind_shapes


def halves(phi: Array) -> tuple[Array, Array]:
    """Split (B, 2A) into the entries of the mean and of log_std, (B, A) each."""
    A = phi.shape[1] // 2
    return phi[:, :A], phi[:, A:]


def _log_two_pi(phi: Array) -> Any:
    """log 2π in the precision of φ, π as 4 arctan 1."""
    one = phi.real.dtype.type(1)
    return np.log(8 * np.arctan(one))


def check(function: str, phi: Array) -> None:
    """Raise ValueError unless K is even: as many log_std as means."""
    if phi.shape[1] % 2:
        raise ValueError(f"{function}: phi has shape {phi.shape}, expected (B, 2A): means, then log_std")


def check_action(function: str, phi: Array, action: Any) -> Array:
    """Return the actions as (B, A) floats."""
    B, K = phi.shape
    (a,) = bind_shapes(function, {"B": B, "A": K // 2}, action=(action, "B A"))
    return a


def log_prob(phi: Array, action: Array) -> Array:
    """log π(a) = −Σ_i [½ e² + ls + ½ log 2π]."""
    mean, log_std = halves(phi)
    e = (action - mean) * np.exp(-log_std)
    log_density: Array = -(e * e / 2 + log_std + _log_two_pi(phi) / 2).sum(axis=1)
    return log_density


def score(phi: Array, action: Array) -> Array:
    """∂ log π(a)/∂(μ, ls) = (e/σ, (e − 1)(e + 1))."""
    mean, log_std = halves(phi)
    inverse_std = np.exp(-log_std)
    e = (action - mean) * inverse_std
    return np.concatenate([e * inverse_std, (e - 1) * (e + 1)], axis=1)


def entropy(phi: Array) -> Array:
    """H = Σ_i [ls + ½ log 2πe]."""
    _, log_std = halves(phi)
    total: Array = (log_std + (_log_two_pi(phi) + 1) / 2).sum(axis=1)
    return total


def entropy_gradient(phi: Array) -> Array:
    """∂H/∂(μ, ls) = (0, 1)."""
    mean, log_std = halves(phi)
    return np.concatenate([np.zeros_like(mean), np.ones_like(log_std)], axis=1)


def log_ratio(phi: Array, change: Array, action: Array) -> Array:
    """log π'(a) − log π(a) = Σ_i [½ (e − e')(e + e') − Δls], e − e' = −e expm1(−Δls) + Δμ/σ'."""
    mean, log_std = halves(phi)
    mean_change, log_std_change = halves(change)
    e = (action - mean) * np.exp(-log_std)
    difference = -e * np.expm1(-log_std_change) + mean_change * np.exp(-(log_std + log_std_change))
    return np.sum(difference * (e + (e - difference)) / 2 - log_std_change, axis=1)


def kl(phi: Array, change: Array) -> Array:
    """KL(φ ‖ φ + Δ) = ½ Σ_i [ϕ(−2 Δls) + (Δμ/σ')²]."""
    _, log_std = halves(phi)
    mean_change, log_std_change = halves(change)
    shift = mean_change * np.exp(-(log_std + log_std_change))
    twice: Array = (exponential_remainder(-2 * log_std_change) + shift * shift).sum(axis=1)
    return twice / 2


def kl_gradient(phi: Array, change: Array) -> Array:
    """∂KL(φ ‖ φ + Δ)/∂(Δμ, Δls) = (Δμ/σ'², −expm1(−2 Δls) − (Δμ/σ')²)."""
    _, log_std = halves(phi)
    mean_change, log_std_change = halves(change)
    inverse_std = np.exp(-(log_std + log_std_change))
    shift = mean_change * inverse_std
    return np.concatenate([shift * inverse_std, -np.expm1(-2 * log_std_change) - shift * shift], axis=1)


def kl_hessian_product(phi: Array, change: Array, v: Array) -> Array:
    """∂²KL(φ ‖ φ + Δ)/∂Δ² v, per dimension [[1/σ'², −2Δμ/σ'²], [−2Δμ/σ'², 2 (σ/σ')² + 2 (Δμ/σ')²]] v."""
    _, log_std = halves(phi)
    mean_change, log_std_change = halves(change)
    v_mean, v_log_std = halves(v)
    inverse_std = np.exp(-(log_std + log_std_change))
    shift = mean_change * inverse_std
    curvature = 2 * (np.exp(-2 * log_std_change) + shift * shift)
    coupling = -2 * shift * inverse_std
    on_mean = inverse_std * inverse_std * v_mean + coupling * v_log_std
    on_log_std = coupling * v_mean + curvature * v_log_std
    return np.concatenate([on_mean, on_log_std], axis=1)


def reverse_kl_gradient(phi: Array, change: Array) -> Array:
    """∂KL(φ + Δ ‖ φ)/∂(Δμ, Δls) = (Δμ/σ², expm1(2 Δls))."""
    _, log_std = halves(phi)
    mean_change, log_std_change = halves(change)
    return np.concatenate([mean_change * np.exp(-2 * log_std), np.expm1(2 * log_std_change)], axis=1)


def reverse_kl_hessian_product(phi: Array, change: Array, v: Array) -> Array:
    """∂²KL(φ + Δ ‖ φ)/∂Δ² v = (v_μ/σ², 2 (σ'/σ)² v_ls)."""
    _, log_std = halves(phi)
    _, log_std_change = halves(change)
    v_mean, v_log_std = halves(v)
    return np.concatenate([np.exp(-2 * log_std) * v_mean, 2 * np.exp(2 * log_std_change) * v_log_std], axis=1)


def fisher(phi: Array) -> Array:
    """M = diag(1/σ², 2)."""
    return fisher_product(phi, np.ones_like(phi))[:, :, np.newaxis] * np.eye(phi.shape[1], dtype=phi.dtype)


def fisher_product(phi: Array, v: Array) -> Array:
    """M v = (v_μ/σ², 2 v_ls)."""
    _, log_std = halves(phi)
    v_mean, v_log_std = halves(v)
    return np.concatenate([np.exp(-2 * log_std) * v_mean, 2 * v_log_std], axis=1)


def fisher_root_product(phi: Array, J: Array) -> Array:
    """R J with R = diag(1/σ, √2)."""
    _, log_std = halves(phi)
    root = np.concatenate([np.exp(-log_std), np.sqrt(np.full_like(log_std, 2))], axis=1)
    return root.reshape(root.shape + (1,) * (J.ndim - 2)) * J


def sample(phi: Array, generator: np.random.Generator) -> Array:
    """Draw a = μ + σ n, n standard normal."""
    mean, log_std = halves(phi)
    actions: Array = mean + np.exp(log_std) * generator.standard_normal(size=mean.shape).astype(phi.dtype)
    return actions
