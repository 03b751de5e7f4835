"""Integrals with a bound of what the rule leaves out, so that a derivative is held to its function without differences.

A finite difference divides its rounding by a small step.  An integral does the opposite: L(θ + v) − L(θ) = ∫ ∇L · v dt
along the segment, by Gauss's rule, converges like ρ⁻²ⁿ for an analytic integrand and adds no error of its own.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.rounding import Rounded, total

_FINE, _COARSE = 8, 6


def integral(slope: Callable[[float], Rounded]) -> tuple[Rounded, Any]:
    """Return ∫₀¹ slope(t) dt by eight nodes, and its distance from six: a bound of what eight leave out.

    Six nodes are exact for polynomials of degree 11 and eight for 15, so the distance is that of the coarser rule,
    which is the larger of the two errors by a factor ρ⁴.

    Examples
    --------
    >>> from refpg.conformance.laws.rounding import rounded
    >>> value, truncation = integral(lambda t: rounded(t**3))
    >>> abs(float(value.value) - 0.25) < 1e-15, bool(truncation < 1e-15)
    (True, True)
    """
    fine, coarse = _gauss(slope, _FINE), _gauss(slope, _COARSE)
    return fine, np.abs(fine.value - coarse.value)


def _gauss(slope: Callable[[float], Rounded], nodes: int) -> Rounded:
    x, w = np.polynomial.legendre.leggauss(nodes)
    parts = [weight / 2 * slope(float(node)) for node, weight in zip((1 + x) / 2, w, strict=True)]
    return total(parts)


def trapezoid(step: float = 0.25, reach: float = 9.0) -> Iterator[tuple[float, float]]:
    """Yield nodes and weights of the trapezoidal rule on the line, for integrands that fall like a Gaussian of width 1.

    For e^{−x²/2} a step h leaves out 2 exp(−2π²/h²), which is 10⁻¹³⁷ for ¼; beyond ±9 there is 10⁻¹⁸ of its mass.

    Examples
    --------
    >>> abs(sum(w * math.exp(-x * x / 2) for x, w in trapezoid()) - math.sqrt(2 * math.pi)) < 1e-14
    True
    """
    for k in range(-math.ceil(reach / step), math.ceil(reach / step) + 1):
        yield k * step, step
