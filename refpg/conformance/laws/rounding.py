"""Running error analysis: a number, and how far ordinary code may be from it.

::

    x̂ = x (1 + …),   |x̂ − x| ≤ u · error        to first order in u, error in the units of x

Every elementary operation rounds once; a sum of n terms n − 1 times, in whatever order; a function of the library to
one unit in the last place.  What is computed by `Rounded` numbers therefore carries a bound that was derived from the
magnitudes of all terms, and not typed in.  A comparison that rounding could turn over makes the bound infinite.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refpg.notation import Array

LIBRARY = 2.0  # roundings of exp, log and the like: one unit in the last place is two roundoffs


class Rounded:
    """Values and the first-order bound of their rounding errors, in units of the roundoff.

    Fields: ``value`` and ``error``, float64 arrays of one shape.
    """

    __slots__ = ("error", "value")
    __array_ufunc__ = None  # NumPy arrays leave the arithmetic to this class

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        self.value: Array = np.asarray(value, dtype=np.float64)
        error = np.asarray(error, dtype=np.float64)
        self.error: Array = error if error.shape == self.value.shape else np.broadcast_to(error, self.value.shape)

    def __repr__(self) -> str:
        return f"Rounded({self.value!r}, {self.error!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.value.shape

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.value.size

    @property
    def T(self) -> "Rounded":
        """The transpose."""
        return Rounded(self.value.T, self.error.T)

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, key: Any) -> "Rounded":
        return Rounded(self.value[key], self.error[key])

    def reshape(self, *shape: int) -> "Rounded":
        """The same entries in another shape."""
        return Rounded(self.value.reshape(*shape), self.error.reshape(*shape))

    def sum(self, axis: int | None = None) -> "Rounded":
        """Sum along an axis, or of all entries."""
        value = self.value.sum(axis=axis)
        terms = self.value.size if axis is None else self.value.shape[axis]
        error = self.error.sum(axis=axis) + (terms - 1) * np.abs(self.value).sum(axis=axis)
        return Rounded(value, error)

    def mean(self, axis: int | None = None) -> "Rounded":
        """Mean along an axis, or of all entries."""
        return self.sum(axis) / (self.value.size if axis is None else self.value.shape[axis])

    def __neg__(self) -> "Rounded":
        return Rounded(-self.value, self.error)

    def __abs__(self) -> "Rounded":
        return Rounded(np.abs(self.value), self.error)

    def __add__(self, other: Any) -> "Rounded":
        a, b = self, rounded(other)
        value = a.value + b.value
        return Rounded(value, a.error + b.error + np.abs(value))

    def __sub__(self, other: Any) -> "Rounded":
        return self + -rounded(other)

    def __mul__(self, other: Any) -> "Rounded":
        a, b = self, rounded(other)
        value = a.value * b.value
        return Rounded(value, _times(np.abs(a.value), b.error) + _times(np.abs(b.value), a.error) + np.abs(value))

    def __truediv__(self, other: Any) -> "Rounded":
        a, b = self, rounded(other)
        value = a.value / b.value
        return Rounded(value, (a.error + _times(np.abs(value), b.error)) / np.abs(b.value) + np.abs(value))

    def __matmul__(self, other: Any) -> "Rounded":
        a, b = self, rounded(other)
        A, B = np.abs(a.value), np.abs(b.value)
        return Rounded(a.value @ b.value, A @ b.error + a.error @ B + A.shape[-1] * (A @ B))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> "Rounded":
        return rounded(other) - self

    def __rtruediv__(self, other: Any) -> "Rounded":
        return rounded(other) / self

    def __rmatmul__(self, other: Any) -> "Rounded":
        return rounded(other) @ self


def rounded(value: Any) -> Rounded:
    """Return a `Rounded` as it is, and anything else as exact."""
    return value if isinstance(value, Rounded) else Rounded(value)


def _times(size: Array, error: Array) -> Array:
    """Return size · error, where an unbounded error of what is multiplied by zero does no harm."""
    with np.errstate(invalid="ignore"):
        return np.where(size == 0, 0.0, size * error)


def _function(value: Array, slope: Array, x: Rounded, roundings: float = LIBRARY) -> Rounded:
    return Rounded(value, _times(np.abs(slope), x.error) + roundings * np.abs(value))


def exp(x: Any) -> Rounded:
    """Return eˣ."""
    x = rounded(x)
    value = np.exp(x.value)
    return _function(value, value, x)


def log(x: Any) -> Rounded:
    """Return log x."""
    x = rounded(x)
    return _function(np.log(x.value), 1 / x.value, x)


def tanh(x: Any) -> Rounded:
    """Return tanh x."""
    x = rounded(x)
    value = np.tanh(x.value)
    return _function(value, 1 - value**2, x)


def sqrt(x: Any) -> Rounded:
    """Return √x; the error of √0 is unbounded unless that zero is exact."""
    x = rounded(x)
    value = np.sqrt(x.value)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(x.error > 0, 0.5 / value, 0.0)
    return _function(value, slope, x, 1.0)


def square(x: Any) -> Rounded:
    """Return x²."""
    return rounded(x) * x


def where(condition: Any, a: Any, b: Any) -> Rounded:
    """Choose by a condition that is certain."""
    a, b = rounded(a), rounded(b)
    return Rounded(np.where(condition, a.value, b.value), np.where(condition, a.error, b.error))


def minimum(a: Any, b: Any) -> Rounded:
    """Return the smaller one; min is continuous, so the larger of two errors bounds its own."""
    a, b = rounded(a), rounded(b)
    value, (left, right) = np.minimum(a.value, b.value), np.broadcast_arrays(a.error, b.error)
    decided = np.where(a.value < b.value, left, right)
    return Rounded(value, np.where(certain(a, b), decided, np.maximum(left, right)))


def maximum(a: Any, b: Any) -> Rounded:
    """Return the larger one."""
    return -minimum(-rounded(a), -rounded(b))


_CERTAIN = 2.0**-18  # 64 roundoffs of float32, the coarsest dtype judged


def certain(a: Any, b: Any) -> Array:
    """Return where a < b or a > b whatever the rounding."""
    a, b = rounded(a), rounded(b)
    return np.abs(a.value - b.value) > _CERTAIN * (a.error + b.error)


def choose(a: Any, b: Any, below: Any, above: Any) -> Rounded:
    """Return ``below`` where a < b and ``above`` elsewhere, of unbounded error where that is not certain."""
    a, b = rounded(a), rounded(b)
    chosen = where(a.value < b.value, below, above)
    return Rounded(chosen.value, np.where(certain(a, b), chosen.error, np.inf))


def join(parts: Sequence[Any], axis: int = 0) -> Rounded:
    """Concatenate along an axis."""
    parts = [rounded(part) for part in parts]
    return Rounded(
        np.concatenate([part.value for part in parts], axis), np.concatenate([part.error for part in parts], axis)
    )


def stack(parts: Sequence[Any], axis: int = 0) -> Rounded:
    """Stack along a new axis."""
    parts = [rounded(part) for part in parts]
    return Rounded(np.stack([part.value for part in parts], axis), np.stack([part.error for part in parts], axis))


def total(parts: Sequence[Rounded]) -> Rounded:
    """Return the sum of equally shaped numbers."""
    return stack(parts).sum(axis=0)


def solve(A: Rounded, b: Rounded) -> Rounded:
    """Return A⁻¹b of a positive definite A, by any stable elimination.

    ::

        |δx| ≤ |A⁻¹| (E_A |x| + E_b + 3n² max|A| Σ|x|)        E the errors of what is given; the last term: Cholesky
    """
    n = len(b)
    inverse = np.abs(np.linalg.inv(A.value))
    x = np.linalg.solve(A.value, b.value)
    backward = A.error @ np.abs(x) + b.error + 3 * n**2 * np.abs(A.value).max() * np.abs(x).sum()
    return Rounded(x, inverse @ backward)


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to the leaves of nested mappings and lists."""
    if isinstance(tree, dict):
        return {name: tree_map(function, part) for name, part in tree.items()}
    if isinstance(tree, list):
        return [tree_map(function, part) for part in tree]
    return function(tree)
