"""The activations: one function of one number each, with two derivatives and its exact change.

::

    value(z)       σ(z)
    slope(z)       σ'(z)
    curvature(z)   σ''(z)
    change(z, dz)  σ(z + dz) − σ(z), without subtracting two nearly equal numbers

``change`` is what lets a tiny step of the parameters be followed through a network to full relative accuracy,
and a huge one without overflow.  With u the unit roundoff its error is at most

* 8 u (1 + m) |change| for tanh, relu, identity, elu and softplus;
* 8 u (1 + m) (|change| + |∫ w|) for silu and 8 u (1 + m²) (|change| + |∫ w|) for gelu, which are z w(z) with
  w the logistic and the normal distribution function: they have a minimum, near which the change itself
  cancels.  The integral runs from z to z + dz.

m is the distance of the segment from z to z + dz to 0 where it lies in a tail in which σ' vanishes (the left one;
for tanh either), else 0: there the argument z + dz of an exponential is rounded.

All functions are element-wise, keep the dtype, and are analytic next to the real axis wherever σ is, so that
complex arguments give complex-step derivatives: branches are decided by the real part, and |z| means ±z.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from refpg.notation import Array


class Activation(NamedTuple):
    """An activation σ as four element-wise functions.

    ::

        value(z) = σ(z)    slope(z) = σ'(z)    curvature(z) = σ''(z)    change(z, dz) = σ(z + dz) − σ(z)

    Examples
    --------
    >>> import numpy as np
    >>> tanh = ACTIVATIONS["tanh"]
    >>> z = np.array([0.0])
    >>> tanh.value(z), tanh.slope(z), tanh.curvature(z), tanh.change(z, np.array([1e-300]))
    (array([0.]), array([1.]), array([-0.]), array([1.e-300]))
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    curvature: Callable[[Array], Array]
    change: Callable[[Array, Array], Array]


# The pieces the activations are made of.


def _size(z: Array) -> Array:
    """Return |z| as the analytic function ±z; like `_positive_part`, 0 belongs to the left."""
    return np.abs(z) if np.isrealobj(z) else np.where(z.real > 0, z, -z)


def _positive_part(z: Array) -> Array:
    """Return max(z, 0)."""
    return np.where(z.real > 0, z, 0.0)


def _negative_part(z: Array) -> Array:
    """Return min(z, 0)."""
    return np.where(z.real > 0, 0.0, z)


def _log1p(y: Array) -> Array:
    """Return log(1 + y) = 2 artanh(y/(2 + y)); NumPy's own complex log1p loses the real part of a small y."""
    logarithm: Array = 2 * np.arctanh(y / (2 + y))
    return logarithm


# tanh


def _tanh_slope(z: Array) -> Array:
    """Return 1 − tanh² z = 4t/(1 + t)², t = e^(−2|z|)."""
    t = np.exp(-2 * _size(z))
    slope: Array = 4 * t
    t += 1  # in place, since a fresh array costs as much as the operation
    slope /= t * t
    return slope


def _tanh_curvature(z: Array) -> Array:
    """Return −2 tanh z (1 − tanh² z)."""
    curvature: Array = -2 * np.tanh(z) * _tanh_slope(z)
    return curvature


def _tanh_change(z: Array, dz: Array) -> Array:
    """Return tanh(z + dz) − tanh z, by `_tanh_change_near` for |dz| <= 1/2, else by `_tanh_change_far`."""
    far = np.abs(dz.real) > 0.5
    if not far.any():
        return _tanh_change_near(z, dz)
    change = _tanh_change_near(z, np.where(far, 0.0, dz))
    change[far] = _tanh_change_far(z[far], dz[far])
    return change


def _tanh_change_near(z: Array, dz: Array) -> Array:
    """Return tanh dz (1 − tanh² z)/(1 + tanh z tanh dz), the addition theorem less tanh z.

    For small dz the denominator is near 1; for large ones of the other sign than z it cancels.
    """
    d = np.tanh(dz)
    change: Array = d * _tanh_slope(z)
    change /= 1 + d * np.tanh(z)
    return change


def _tanh_change_far(z: Array, dz: Array) -> Array:
    """Return tanh(z + dz) − tanh z = sinh dz/(cosh z cosh(z + dz)).

    With e^|·| taken out of each factor, so that nothing overflows::

        ±2 (1 − e^(−2|dz|)) e^(−2m)/((1 + e^(−2|z|))(1 + e^(−2|z + dz|)))

    where 2m = |z| + |z + dz| − |dz|, that is, m is the distance of the segment from z to z + dz to 0.
    """
    end = z + dz
    same_side = (z.real > 0) == (end.real > 0)
    outward = (z.real > 0) == (dz.real > 0)
    m = np.where(same_side, np.where(outward, _size(z), _size(end)), 0.0)
    rise = -np.expm1(-2 * _size(dz))
    size: Array = 2 * rise * np.exp(-2 * m) / ((1 + np.exp(-2 * _size(z))) * (1 + np.exp(-2 * _size(end))))
    return np.where(dz.real > 0, size, -size)


# relu


def _relu_slope(z: Array) -> Array:
    """Return 1 for z > 0, else 0: the slope at the kink is 0."""
    return np.where(z.real > 0, np.ones_like(z), 0.0)


def _relu_change(z: Array, dz: Array) -> Array:
    """Return max(z + dz, 0) − max(z, 0): dz, z + dz, −z or 0, by the sides of the kink."""
    end = z + dz
    return np.where(end.real > 0, np.where(z.real > 0, dz, end), np.where(z.real > 0, -z, 0.0))


def _negative_part_change(z: Array, dz: Array) -> Array:
    """Return min(z + dz, 0) − min(z, 0), what `_relu_change` leaves of dz."""
    end = z + dz
    return np.where(end.real > 0, np.where(z.real > 0, 0.0, -z), np.where(z.real > 0, end, dz))


# identity


def _identity(z: Array) -> Array:
    """Return z."""
    return z


def _identity_change(z: Array, dz: Array) -> Array:
    """Return (z + dz) − z = dz."""
    return dz


# elu


def _elu(z: Array) -> Array:
    """Return z for z > 0, else e^z − 1."""
    return _positive_part(z) + np.expm1(_negative_part(z))


def _elu_slope(z: Array) -> Array:
    """Return 1 for z > 0, else e^z: the slope is continuous."""
    slope: Array = np.exp(_negative_part(z))
    return slope


def _elu_curvature(z: Array) -> Array:
    """Return 0 for z > 0, else e^z: the curvature at the kink is that from the left, 1."""
    return np.where(z.real > 0, 0.0, _elu_slope(z))


def _elu_change(z: Array, dz: Array) -> Array:
    """Return the change of max(z, 0) plus that of exp min(z, 0), which have the same sign.

    The second is ±e^top (1 − e^(−|d|)), with d the change of min(z, 0) and top the larger of its two ends.
    """
    d = _negative_part_change(z, dz)
    top = np.where(d.real > 0, _negative_part(z + dz), _negative_part(z))
    size = -np.exp(top) * np.expm1(-_size(d))
    return _relu_change(z, dz) + np.where(d.real > 0, size, -size)


# The logistic function σ(z) = 1/(1 + e^(−z)) and its integral and multiple, softplus and silu


def _logistic(z: Array) -> Array:
    """Return 1/(1 + e^(−z)) = e^z/(1 + e^z), by the one that cannot overflow."""
    t = np.exp(-_size(z))
    value: Array = np.where(z.real > 0, 1.0, t) / (1 + t)
    return value


def _logistic_slope(z: Array) -> Array:
    """Return σ(z)(1 − σ(z)) = σ(z) σ(−z)."""
    slope: Array = _logistic(z) * _logistic(-z)
    return slope


def _softplus(z: Array) -> Array:
    """Return log(1 + e^z) = max(z, 0) + log1p(e^(−|z|))."""
    return _positive_part(z) + _log1p(np.exp(-_size(z)))


def _softplus_change(z: Array, dz: Array) -> Array:
    """Return log((1 + e^(z + dz))/(1 + e^z)) = log1p(σ(z) expm1(dz)).

    That is for |dz| <= 1/2.  For larger changes e^dz may overflow and 1 + σ(z) expm1(dz) cancel; then the two
    parts of softplus are changed by themselves, which loses no more than a factor 6 (at dz = 1/2, z + dz =
    0).
    """
    near = np.abs(dz.real) <= 0.5
    ratio = _log1p(_logistic(z) * np.expm1(np.where(near, dz, 0.0)))
    parts = _relu_change(z, dz) + (_log1p(np.exp(-_size(z + dz))) - _log1p(np.exp(-_size(z))))
    return np.where(near, ratio, parts)


def _silu(z: Array) -> Array:
    """Return z σ(z)."""
    value: Array = z * _logistic(z)
    return value


def _silu_slope(z: Array) -> Array:
    """Return σ(z)(1 + z σ(−z))."""
    slope: Array = _logistic(z) * (1 + z * _logistic(-z))
    return slope


def _silu_curvature(z: Array) -> Array:
    """Return σ(z) σ(−z)(2 − z tanh(z/2)), because σ(z) − σ(−z) = tanh(z/2)."""
    curvature: Array = _logistic_slope(z) * (2 - z * np.tanh(z / 2))
    return curvature


def _product_change(z: Array, dz: Array, weight: Callable[[Array], Array], weight_change: Array) -> Array:
    """Return the change of z w(z) for a rising w from 0 to 1, given w(z + dz) − w(z).

    ::

        (z + dz) w(z + dz) − z w(z) = dz w(larger) + smaller (w(z + dz) − w(z))

    with larger and smaller, in magnitude, of z and z + dz.  The equation holds either way round; this way
    both terms are small where w is, so a walk in from far out on the negative side does not subtract large
    numbers.
    """
    end = z + dz
    end_is_larger = np.abs(end.real) >= np.abs(z.real)
    larger = np.where(end_is_larger, end, z)
    smaller = np.where(end_is_larger, z, end)
    change: Array = dz * weight(larger) + smaller * weight_change
    return change


def _silu_change(z: Array, dz: Array) -> Array:
    """Return (z + dz) σ(z + dz) − z σ(z), with the change of σ that of ½ tanh(z/2)."""
    return _product_change(z, dz, _logistic, _tanh_change(z / 2, dz / 2) / 2)


# gelu, z times the standard normal distribution function Φ

# Beyond 200 standard deviations φ is 0 in every dtype, even longdouble, and z² need not be formed.
_FAR = 200.0

# Nodes and weights of Gauss–Legendre quadrature on [0, 1].  Eight points integrate the φ of
# `_normal_cdf_change` to a relative error below 1e-19: with |dz|(1 + |z|) <= 1 its logarithm changes by at
# most 3/2 along the segment.
_NODES = ((np.polynomial.legendre.leggauss(8)[0] + 1) / 2).tolist()
_WEIGHTS = (np.polynomial.legendre.leggauss(8)[1] / 2).tolist()


def _within_reach(z: Array) -> Array:
    """Return z, moved to ±200 where it lies beyond: Φ and φ are the same there."""
    return np.where(z.real > _FAR, _FAR, np.where(z.real < -_FAR, -_FAR, z))


def _normal_density(z: Array) -> Array:
    """Return φ(z) = e^(−z²/2)/√(2π)."""
    z = _within_reach(z)
    density: Array = np.exp(-(z * z) / 2) / math.sqrt(2 * math.pi)
    return density


def _normal_cdf(z: Array) -> Array:
    """Return Φ(z) = ½ erfc(−z/√2).

    SciPy has no erfc of longdouble, which therefore gets the accuracy of float64 here.
    """
    argument = _within_reach(z) * -math.sqrt(0.5)
    if argument.dtype == np.longdouble:
        argument = argument.astype(np.float64)
    cdf: Array = special.erfc(argument) / 2
    return cdf.astype(z.dtype, copy=False)


def _normal_cdf_change(z: Array, dz: Array) -> Array:
    """Return Φ(z + dz) − Φ(z).

    For |dz|(1 + |z|) <= 1 it is dz ∫₀¹ φ(z + t dz) dt, by Gauss–Legendre quadrature.  For larger changes the
    two values are well apart, taken where Φ is small: Φ(b) − Φ(a) = Φ(−a) − Φ(−b).
    """
    end = z + dz
    near = np.abs(dz.real) <= 1 / (1 + np.abs(z.real))
    step = np.where(near, dz, 0.0)
    integral = step * sum(w * _normal_density(z + t * step) for t, w in zip(_NODES, _WEIGHTS, strict=True))
    right = z.real + end.real > 0
    difference = _normal_cdf(np.where(right, -z, end)) - _normal_cdf(np.where(right, -end, z))
    return np.where(near, integral, difference)


def _gelu(z: Array) -> Array:
    """Return z Φ(z)."""
    value: Array = z * _normal_cdf(z)
    return value


def _gelu_slope(z: Array) -> Array:
    """Return Φ(z) + z φ(z)."""
    slope: Array = _normal_cdf(z) + z * _normal_density(z)
    return slope


def _gelu_curvature(z: Array) -> Array:
    """Return (2 − z²) φ(z)."""
    z = _within_reach(z)
    curvature: Array = (2 - z * z) * _normal_density(z)
    return curvature


def _gelu_change(z: Array, dz: Array) -> Array:
    """Return (z + dz) Φ(z + dz) − z Φ(z)."""
    return _product_change(z, dz, _normal_cdf, _normal_cdf_change(z, dz))


_SILU = Activation(_silu, _silu_slope, _silu_curvature, _silu_change)

ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(np.tanh, _tanh_slope, _tanh_curvature, _tanh_change),
    "relu": Activation(_positive_part, _relu_slope, np.zeros_like, _relu_change),
    "identity": Activation(_identity, np.ones_like, np.zeros_like, _identity_change),
    "elu": Activation(_elu, _elu_slope, _elu_curvature, _elu_change),
    "silu": _SILU,
    "swish": _SILU,
    "softplus": Activation(_softplus, _logistic, _logistic_slope, _softplus_change),
    "gelu": Activation(_gelu, _gelu_slope, _gelu_curvature, _gelu_change),
}
