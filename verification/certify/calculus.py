"""Derivatives of definitions by power series: the calculus is Arb's, no derivative formula is written here.

Along a line the function becomes a power series, f(x + t·v) = f(x) + t·∇f·v + t²·½ vᵀ∇²f v + …, and ball arithmetic
on truncated series encloses its coefficients.  A gradient is coefficient 1 along every coordinate; a product with the
Hessian is polarised from coefficients 2: eᵀ∇²f v = q(e + v) − q(e) − q(v), q(v) = ½ vᵀ∇²f v.

Functions take a list of numbers and return a number or nested lists of numbers, each an `arb` (it does not depend on t)
or an `arb_series`; they decide their branches on the `constant` coefficient.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from flint import arb, arb_series, ctx

Scalar: TypeAlias = arb | arb_series
Function: TypeAlias = Callable[[list[Scalar]], Any]


@contextmanager
def _order(highest: int) -> Iterator[None]:
    """Keep the coefficients up to that power (python-flint's cap is global, and restored)."""
    before = ctx.cap
    ctx.cap = highest + 1
    try:
        yield
    finally:
        ctx.cap = before


def constant(value: Scalar) -> arb:
    """Return the value at t = 0, the one that branches are decided on."""
    return value[0] if isinstance(value, arb_series) else value


def exponential(value: Scalar) -> Scalar:
    """Return e to the value."""
    return value.exp()


def logarithm(value: Scalar) -> Scalar:
    """Return the natural logarithm."""
    return value.log()


def _coefficient(value: Any, power: int) -> Any:
    if isinstance(value, list):
        return [_coefficient(part, power) for part in value]
    return value[power] if isinstance(value, arb_series) else arb(0)


def along(function: Function, point: Sequence[arb], direction: Sequence[arb | int], power: int) -> Any:
    """Return coefficient ``power`` (at least 1) of t ↦ function(point + t·direction), in the function's structure."""
    with _order(power):
        line = [x if v == 0 else arb_series([x, v]) for x, v in zip(point, direction, strict=True)]
        return _coefficient(function(line), power)


def _coordinate(number: int, length: int) -> list[int]:
    return [int(i == number) for i in range(length)]


def gradient(function: Function, point: Sequence[arb]) -> list[Any]:
    """Return the derivative along every coordinate; of a function with several outputs, the columns of its Jacobian."""
    return [along(function, point, _coordinate(i, len(point)), 1) for i in range(len(point))]


def hessian_product(function: Function, point: Sequence[arb], vector: Sequence[arb]) -> list[arb]:
    """Return the Hessian times a vector, polarised from second coefficients."""

    def q(direction: Sequence[arb]) -> arb:
        return along(function, point, direction, 2)

    q_vector = q(vector)
    product = []
    for i in range(len(point)):
        e = _coordinate(i, len(point))
        product.append(q([a + b for a, b in zip(e, vector, strict=True)]) - q(e) - q_vector)
    return product


def hessian(function: Function, point: Sequence[arb]) -> list[list[arb]]:
    """Return the Hessian, polarised over pairs of coordinates: q(e_i + e_j) − q(e_i) − q(e_j), and 2 q(e_i)."""
    size = len(point)

    def q(*numbers: int) -> arb:
        return along(function, point, [numbers.count(i) for i in range(size)], 2)

    diagonal = [q(i) for i in range(size)]
    result = [[2 * diagonal[i] if i == j else arb(0) for j in range(size)] for i in range(size)]
    for i in range(size):
        for j in range(i):
            result[i][j] = result[j][i] = q(i, j) - diagonal[i] - diagonal[j]
    return result
