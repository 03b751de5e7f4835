"""Orders of summation: what libraries, layouts and compilers do differently with the same sum."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any
BLOCK = 2  # rows of a tile: the smallest that is one
SEED = 20260


class Order(NamedTuple):
    """A way to add: ``total`` along an axis, and the matrix product ``matmul`` of two matrices."""

    name: str
    total: Callable[[Array, int], Array]
    matmul: Callable[[Array, Array], Array]


def _by_terms(total: Callable[[Array, int], Array]) -> Callable[[Array, Array], Array]:
    """Return the matrix product whose inner sums are taken by ``total``."""

    def matmul(left: Array, right: Array) -> Array:
        return total(left[:, :, None] * right[None, :, :], 1)

    return matmul


def _left_to_right(terms: Array, axis: int) -> Array:
    return functools.reduce(np.add, np.moveaxis(terms, axis, 0))


def _right_to_left(terms: Array, axis: int) -> Array:
    return _left_to_right(np.flip(terms, axis), axis)


def _shuffled(terms: Array, axis: int) -> Array:
    order = np.random.default_rng(SEED).permutation(terms.shape[axis])
    return _left_to_right(np.take(terms, order, axis), axis)


def _smallest_first(terms: Array, axis: int) -> Array:
    order = np.argsort(np.abs(terms), axis=axis)
    return _left_to_right(np.take_along_axis(terms, order, axis), axis)


def _tree(terms: Array, axis: int) -> Array:
    parts = list(np.moveaxis(terms, axis, 0))
    while len(parts) > 1:
        odd = parts[len(parts) // 2 * 2 :]
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)] + odd
    return parts[0]


def _kahan(terms: Array, axis: int) -> Array:
    """Sum with the rounding error of every addition carried along."""
    parts = np.moveaxis(terms, axis, 0)
    total, carried = parts[0], np.zeros_like(parts[0])
    for part in parts[1:]:
        corrected = part - carried
        following = total + corrected
        carried = (following - total) - corrected
        total = following
    return total


def _exactly(terms: Array, axis: int) -> Array:
    """Round the exact sum once."""
    return np.apply_along_axis(math.fsum, axis, terms).astype(terms.dtype)


def _exact_product(left: Array, right: Array) -> Array:
    """Add float64 products exactly; of float32 numbers these are exact themselves."""
    products = left.astype(np.float64)[:, :, None] * right.astype(np.float64)[None, :, :]
    return _exactly(products, 1).astype(left.dtype)


def _wider(dtype: Any) -> Any:
    return np.float64 if dtype == np.float32 else np.longdouble


def _accumulated(terms: Array, axis: int) -> Array:
    """Add in the next wider format."""
    return np.sum(terms, axis=axis, dtype=_wider(terms.dtype)).astype(terms.dtype)


def _accumulated_product(left: Array, right: Array) -> Array:
    wide = _wider(left.dtype)
    return (left.astype(wide) @ right.astype(wide)).astype(left.dtype)


def _by_einsum(terms: Array, axis: int) -> Array:
    return np.einsum("i...->...", np.moveaxis(terms, axis, 0))


def _einsum_product(left: Array, right: Array) -> Array:
    return np.einsum("ik,kj->ij", left, right)


def _by_columns(terms: Array, axis: int) -> Array:
    return np.sum(np.asfortranarray(terms), axis=axis)


def _product_by_columns(left: Array, right: Array) -> Array:
    """(BᵀAᵀ)ᵀ of matrices stored column by column."""
    return (np.asfortranarray(right).T @ np.asfortranarray(left).T).T


def _in_blocks(terms: Array, axis: int) -> Array:
    parts = np.moveaxis(terms, axis, 0)
    return _left_to_right(np.stack([np.sum(parts[i : i + BLOCK], axis=0) for i in range(0, len(parts), BLOCK)]), 0)


def _product_in_blocks(left: Array, right: Array) -> Array:
    tiles = [left[:, i : i + BLOCK] @ right[i : i + BLOCK] for i in range(0, len(right), BLOCK)]
    return _left_to_right(np.stack(tiles), 0)


def _numpy(terms: Array, axis: int) -> Array:
    return np.sum(terms, axis=axis)


NUMPY = Order("NumPy's sum and BLAS", _numpy, np.matmul)

ORDERS = (
    NUMPY,
    Order("left to right", _left_to_right, _by_terms(_left_to_right)),
    Order("right to left", _right_to_left, _by_terms(_right_to_left)),
    Order("shuffled", _shuffled, _by_terms(_shuffled)),
    Order("smallest terms first", _smallest_first, _by_terms(_smallest_first)),
    Order("pairs of pairs", _tree, _by_terms(_tree)),
    Order("Kahan", _kahan, _by_terms(_kahan)),
    Order("exact (fsum)", _exactly, _exact_product),
    Order("wide accumulator", _accumulated, _accumulated_product),
    Order("einsum", _by_einsum, _einsum_product),
    Order("column-major", _by_columns, _product_by_columns),
    Order("tiles", _in_blocks, _product_in_blocks),
)
