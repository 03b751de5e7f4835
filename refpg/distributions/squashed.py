"""The tanh-squashed diagonal Gaussian: a = tanh(u), u ∼ N(μ, σ²), φ = (μ, ls), K = 2A.

::

    log π(a) = log N(u; μ, σ) − Σ_i log(1 − tanh² u_i)          (density of a, on (−1, 1)^A)
    H = H(N) + Σ_i E log(1 − tanh² u_i)

The action argument is the value *before* tanh, u: near ±1 the number a no longer determines u.  tanh does not
depend on φ, so score, ratio, KL and Fisher matrix are those of the Gaussian; only log π and the entropy
differ.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.special

from refpg.distributions import gaussian
from refpg.notation import Array, bind_shapes

# Trapezoidal nodes x = −20, ..., 20; see `_expectation` for why this step and this range.
QUADRATURE_STEP = 3 / 16
QUADRATURE_NODES = QUADRATURE_STEP * np.arange(-107, 108)


def log_cosh(u: Array) -> Array:
    """Return log cosh u = |u| + log1p(½ expm1(−2|u|)), which is small with u.

    ::

        log(1 − tanh² u) = −2 log cosh u = 2 (log 2 − u − softplus(−2u))
    """
    size = np.where(u.real < 0, -u, u)
    return size + np.log1p(np.expm1(-2 * size) / 2)


def squash(u: Array) -> Array:
    """Return the action a = tanh(u).

    Parameters
    ----------
    u : (B, A) array
        Values before squashing.

    Returns
    -------
    (B, A) array
        Actions in [−1, 1]; ±1 where tanh rounds to it.

    Raises
    ------
    ValueError
        If u is not a finite (B, A) array.

    Examples
    --------
    >>> squash([[0.0, 0.5493061443340548]])
    array([[0. , 0.5]])
    """
    (u,) = bind_shapes("squash", {}, u=(u, "B A"))
    return np.tanh(u)


def unsquash(action: Array) -> Array:
    """Return the value before squashing, u = artanh(a).

    Parameters
    ----------
    action : (B, A) array
        Actions strictly between −1 and 1.

    Returns
    -------
    (B, A) array
        Values u with tanh(u) = a.

    Raises
    ------
    ValueError
        If an action is not strictly inside (−1, 1): its u is infinite, or does not exist.

    Examples
    --------
    >>> unsquash([[0.0, 0.5]])
    array([[0.        , 0.54930614]])
    """
    (a,) = bind_shapes("unsquash", {}, action=(action, "B A"))
    outside = (a.real <= -1) | (a.real >= 1)
    if outside.any():
        raise ValueError(f"unsquash: action is {a[outside][0]}, expected a number strictly between -1 and 1")
    return np.arctanh(a)


def _erf(x: Array) -> Array:
    """erf; SciPy has no long double version, and float64 accuracy is all the quadrature promises."""
    if x.dtype in (np.longdouble, np.clongdouble):
        double = np.complex128 if x.dtype.kind == "c" else np.float64
        return scipy.special.erf(x.astype(double)).astype(x.dtype)
    return scipy.special.erf(x)


def log_prob(phi: Array, action: Array) -> Array:
    """log π(tanh u) = log N(u; μ, σ) + 2 Σ_i log cosh u_i."""
    return gaussian.log_prob(phi, action) + 2 * np.sum(log_cosh(action), axis=1)


def _expectation(phi: Array, f: Callable[[Array], Array]) -> Array:
    """E f(u), u ∼ N(μ, σ²), by the trapezoidal rule, (B, A); f must die out beyond |u| = 20 where σ ≥ 1.

    The rule runs over x = (u − μ)/σ where σ < 1 and over x = u where σ ≥ 1.  Either way the Gaussian is at least
    as wide as a standard one, and the singularities of f, those of log cosh and tanh at u = ±iπ/2, are at
    least d = π/2 away from the real axis: the error of the rule is about e^{−2πd/step} = e^{−52}, and the part
    beyond |x| = 20 is below e^{−200} (σ < 1) or e^{−40}, both less than rounding.  A rule over (u − μ)/σ alone
    would need σ times as many nodes when σ is large.
    """
    mean, log_std = gaussian.halves(phi)
    std = np.exp(log_std)
    narrow = log_std.real < 0
    total = np.zeros_like(mean)
    for x in QUADRATURE_NODES.tolist():
        u = np.where(narrow, mean + std * x, x)
        t = np.where(narrow, x, (x - mean) / np.where(narrow, 1, std))
        total += np.exp(-t * t / 2) * f(u) / np.where(narrow, 1, std)
    return total * (QUADRATURE_STEP / math.sqrt(2 * math.pi))


def entropy(phi: Array) -> Array:
    """H = H(N) − 2 Σ_i E log cosh u_i.

    ::

        log cosh u + log 2 = s(u) + r(u)
        s(u) = E|u + n| = √(2/π) e^{−u²/2} + u erf(u/√2)          n standard normal
        E s = τ s(μ/τ)                                            τ² = σ² + 1

    The smooth absolute value s takes away the growth of log cosh, and its mean is closed because u + n is
    Gaussian again; what is left, r, dies out beyond |u| = 20 and goes to quadrature.
    """
    mean, log_std = gaussian.halves(phi)
    tau = np.sqrt(np.exp(2 * log_std) + 1)
    smooth = _smooth_absolute(mean / tau) * tau
    rest = _expectation(phi, lambda u: log_cosh(u) + math.log(2) - _smooth_absolute(u))
    return gaussian.entropy(phi) - 2 * np.sum(smooth + rest - math.log(2), axis=1)


def entropy_gradient(phi: Array) -> Array:
    """∂H/∂(μ, ls) = (−2 E tanh u, 1 − 2 σ² E[1 − tanh² u]); the second by Stein's identity.

    ::

        E tanh u = erf(μ/τ√2) + E[tanh u − erf(u/√2)],    τ² = σ² + 1
    """
    mean, log_std = gaussian.halves(phi)
    tau = np.sqrt(np.exp(2 * log_std) + 1)
    root_half = math.sqrt(0.5)
    rest = _expectation(phi, lambda u: np.tanh(u) - _erf(u * root_half))
    mean_tanh = _erf(mean / tau * root_half) + rest
    mean_slope = _expectation(phi, _tanh_slope)
    return np.concatenate([-2 * mean_tanh, 1 - 2 * np.exp(2 * log_std) * mean_slope], axis=1)


def _smooth_absolute(u: Array) -> Array:
    """s(u) = E|u + n| = √(2/π) e^{−u²/2} + u erf(u/√2), n standard normal."""
    return math.sqrt(2 / math.pi) * np.exp(-u * u / 2) + u * _erf(u * math.sqrt(0.5))


def _tanh_slope(u: Array) -> Array:
    """1 − tanh² u = 4t/(1 + t)², t = e^{−2|u|}."""
    t = np.exp(-2 * np.where(u.real < 0, -u, u))
    return 4 * t / (1 + t) ** 2
