"""Measured amplification: how far ordinary code lands from the certified value, per unit of rounding.

::

    R_i = max over algorithms of √( (1/K) Σ_k ((y_i^(k) − y_i) / u)² )        K = 24, u = 2⁻⁴⁰

y^(k) is the output of ordinary NumPy code whose every floating-point result is multiplied by 1 + u·ξ, ξ uniform on
(−1, 1): Monte-Carlo arithmetic.  Sums and products are accumulated one term after the other.  u is far above 2⁻⁵³,
so the noise stands for the rounding of any shorter format, and R does not depend on a dtype.

The same bits come out on every machine: + − × ÷ and √ are exactly rounded everywhere, the other functions are
evaluated by Arb and rounded, and the noise is a seeded PCG64.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

import numpy as np
from flint import arb

from verification.certify.balls import Leaf, leaves, precision

UNIT = 2.0**-40
SAMPLES = 24
DIGITS = 3

_FUNCTIONS: dict[np.ufunc, Callable[..., arb]] = {
    np.exp: arb.exp,
    np.expm1: arb.expm1,
    np.exp2: lambda x: arb(2) ** x,
    np.log: arb.log,
    np.log1p: arb.log1p,
    np.log2: lambda x: arb.log(x) / arb(2).log(),
    np.tanh: arb.tanh,
    np.sinh: arb.sinh,
    np.cosh: arb.cosh,
    np.arctanh: arb.atanh,
    np.sin: arb.sin,
    np.cos: arb.cos,
    np.power: lambda x, y: x ** (int(y.fmpq()) if y.is_integer() else y),
    np.float_power: lambda x, y: x ** (int(y.fmpq()) if y.is_integer() else y),
    np.logaddexp: lambda x, y: (x.exp() + y.exp()).log(),
}
_ROUNDED = {np.add, np.subtract, np.multiply, np.divide, np.sqrt, np.square, np.reciprocal, np.hypot}
_EXACT = {
    np.negative, np.positive, np.absolute, np.fabs, np.maximum, np.minimum, np.fmax, np.fmin, np.sign, np.copysign,
    np.floor, np.ceil, np.rint, np.trunc, np.conjugate, np.clip if isinstance(np.clip, np.ufunc) else np.maximum,
}  # fmt: skip
_PREDICATES = {
    np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.isfinite, np.isnan, np.isinf,
    np.signbit, np.logical_and, np.logical_or, np.logical_not, np.logical_xor,
}  # fmt: skip

_generator = np.random.Generator(np.random.PCG64(0))


def _noise(result: Any) -> Any:
    xi = 2.0 * _generator.random(np.shape(result)) - 1.0
    return result * (1.0 + UNIT * xi)


def _reproducible(ufunc: np.ufunc, *inputs: Any) -> Any:
    """Evaluate a transcendental function to the nearest float, the same on every machine."""
    function = _FUNCTIONS[ufunc]

    def one(*numbers: float) -> float:
        if all(np.isfinite(number) for number in numbers):
            value = function(*(arb(float(number)) for number in numbers))
            if value.is_finite() and abs(value) < arb(2) ** 1023:
                return float(value)
        with np.errstate(all="ignore"):  # 0, ±∞ and overflow are special values, not rounded ones
            return float(ufunc(*numbers))

    with precision(96):
        return np.vectorize(one, otypes=[np.float64])(*inputs)[()]


def _apply(ufunc: np.ufunc, *inputs: Any) -> Any:
    """One elementary operation on plain arrays, with its noise."""
    if ufunc in _FUNCTIONS:
        return _noise(_reproducible(ufunc, *inputs))
    if ufunc in _ROUNDED:
        result = ufunc(*inputs)
        return _noise(result) if np.asarray(result).dtype.kind == "f" else result
    if ufunc in _EXACT or ufunc in _PREDICATES:
        return ufunc(*inputs)
    raise NotImplementedError(f"Monte-Carlo arithmetic has no {ufunc.__name__}")


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Noisy) else value


def _wrap(value: Any) -> Any:
    value = np.asarray(value)
    return value.view(Noisy) if value.dtype.kind == "f" else value[()]


def _wrap_all(value: Any) -> Any:
    """Wrap what a NumPy function returned: some, such as np.where, drop the subclass."""
    if isinstance(value, list | tuple):
        return type(value)(_wrap_all(part) for part in value)
    return _wrap(value) if isinstance(value, np.ndarray | np.floating) else value


class Noisy(np.ndarray):
    """A float64 array whose every arithmetic result carries a random relative error below u."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        plain = [_plain(value) for value in inputs]
        with np.errstate(all="ignore"):
            if method == "__call__" and ufunc is np.matmul:
                result = _matmul(*plain)
            elif method == "__call__":
                if keywords.get("where", True) is not True:
                    raise NotImplementedError("Monte-Carlo arithmetic has no where=")
                result = _apply(ufunc, *plain)
            elif method == "reduce":
                result = _reduce(ufunc, plain[0], **keywords)
            elif method == "accumulate":
                result = _accumulate(ufunc, plain[0], **keywords)
            elif method == "outer":
                a, b = np.asarray(plain[0]), np.asarray(plain[1])
                result = _apply(ufunc, a.reshape(a.shape + (1,) * b.ndim), b)
            else:
                raise NotImplementedError(f"Monte-Carlo arithmetic has no {ufunc.__name__}.{method}")
        if out is not None and out[0] is not None:
            _plain(out[0])[...] = result
            return out[0]
        return _wrap(result)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        if function in _REPLACED:
            return _wrap(_REPLACED[function](*arguments, **keywords))
        if function in _REFUSED or function.__module__.startswith("numpy.linalg"):
            raise NotImplementedError(f"Monte-Carlo arithmetic has no {function.__module__}.{function.__name__}")
        return _wrap_all(super().__array_function__(function, types, arguments, keywords))

    def __getitem__(self, key: Any) -> Any:
        return _wrap(super().__getitem__(key))  # an entry stays noisy

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def dot(self, other: Any) -> Any:
        """Noisy matrix product."""
        return _wrap(_dot(self, other))

    def cumsum(self, axis: int | None = None) -> Any:
        """Noisy running sum."""
        return _wrap(_cumsum(self, axis))


def _reduce(
    ufunc: np.ufunc, array: Any, axis: Any = 0, dtype: Any = None, keepdims: bool = False, where: Any = True,
    initial: Any = None,
) -> Any:  # fmt: skip
    array = np.asarray(array)
    if where is not True:
        raise NotImplementedError("Monte-Carlo arithmetic has no where=")
    if ufunc not in (np.add, np.multiply) or array.dtype.kind != "f":
        return ufunc.reduce(array, axis=axis, keepdims=keepdims)
    axes = range(array.ndim) if axis is None else [axis] if np.ndim(axis) == 0 else axis
    axes = sorted(int(number) % max(array.ndim, 1) for number in axes)
    kept = [number for number in range(array.ndim) if number not in axes]
    terms = array.transpose(axes + kept).reshape(-1, *(array.shape[number] for number in kept))
    result = terms[0] if len(terms) else np.full(terms.shape[1:], float(ufunc.identity or 0))
    for term in terms[1:]:
        result = _apply(ufunc, result, term)
    if keepdims:
        result = np.reshape(result, [1 if number in axes else n for number, n in enumerate(array.shape)])
    return result


def _accumulate(ufunc: np.ufunc, array: Any, axis: int = 0, dtype: Any = None) -> Any:
    moved = np.moveaxis(np.asarray(array), axis, 0)
    result = np.array(moved)
    for index in range(1, len(moved)):
        result[index] = _apply(ufunc, result[index - 1], moved[index])
    return np.moveaxis(result, 0, axis)


def _matmul(a: Any, b: Any) -> Any:
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim == 1 or b.ndim == 1:
        left = a[None, :] if a.ndim == 1 else a
        right = b[:, None] if b.ndim == 1 else b
        result = _matmul(left, right)
        if b.ndim == 1:
            result = result[..., 0]
        return result[..., 0, :] if a.ndim == 1 and b.ndim > 1 else result[..., 0] if a.ndim == 1 else result
    return _reduce(np.add, _apply(np.multiply, a[..., :, :, None], b[..., None, :, :]), axis=-2)


def _dot(a: Any, b: Any) -> Any:
    a, b = np.asarray(_plain(a)), np.asarray(_plain(b))
    if a.ndim == 0 or b.ndim == 0:
        return _apply(np.multiply, a, b)
    if a.ndim > 2 or b.ndim > 2:
        raise NotImplementedError("Monte-Carlo arithmetic has no dot of more than two axes")
    return _matmul(a, b)


def _cumsum(array: Any, axis: int | None = None) -> Any:
    array = np.asarray(_plain(array))
    return _accumulate(np.add, array.ravel() if axis is None else array, axis or 0)


def _einsum(subscripts: str, *operands: Any) -> Any:
    left, _, right = subscripts.replace(" ", "").partition("->")
    labels = left.split(",")
    letters = sorted(set("".join(labels)))
    if "->" not in subscripts:
        right = "".join(letter for letter in letters if left.count(letter) == 1)
    result: Any = None
    for label, operand in zip(labels, operands, strict=True):
        array = np.asarray(_plain(operand))
        if len(set(label)) != len(label):
            raise NotImplementedError("Monte-Carlo arithmetic has no einsum with a repeated letter in one operand")
        array = array.transpose([label.index(letter) for letter in letters if letter in label])
        array = array[tuple(slice(None) if letter in label else None for letter in letters)]
        result = array if result is None else _apply(np.multiply, result, array)
    result = np.broadcast_to(result, np.broadcast_shapes(result.shape))
    summed = tuple(number for number, letter in enumerate(letters) if letter not in right)
    result = _reduce(np.add, result, axis=summed) if summed else result
    kept = [letter for letter in letters if letter in right]
    return np.transpose(result, [kept.index(letter) for letter in right])


def _norm(array: Any) -> Any:
    flat = np.asarray(_plain(array)).ravel()
    return _apply(np.sqrt, _reduce(np.add, _apply(np.multiply, flat, flat)))


def _solve(matrix: Any, right: Any) -> Any:
    """Gaussian elimination with partial pivoting."""
    a, b = np.array(_plain(matrix)), np.array(_plain(right))
    for column in range(len(a)):
        pivot = column + int(np.argmax(np.abs(a[column:, column])))
        a[[column, pivot]], b[[column, pivot]] = a[[pivot, column]], b[[pivot, column]]
        for row in range(column + 1, len(a)):
            factor = _apply(np.divide, a[row, column], a[column, column])
            a[row, column:] = _apply(np.subtract, a[row, column:], _apply(np.multiply, factor, a[column, column:]))
            b[row] = _apply(np.subtract, b[row], _apply(np.multiply, factor, b[column]))
    x = np.zeros_like(b)
    for row in reversed(range(len(a))):
        rest = b[row]
        for column in range(row + 1, len(a)):
            rest = _apply(np.subtract, rest, _apply(np.multiply, a[row, column], x[column]))
        x[row] = _apply(np.divide, rest, a[row, row])
    return x


def _cholesky(matrix: Any) -> Any:
    a = np.array(_plain(matrix))
    factor = np.zeros_like(a)
    for row in range(len(a)):
        for column in range(row + 1):
            rest = a[row, column]
            for inner in range(column):
                rest = _apply(np.subtract, rest, _apply(np.multiply, factor[row, inner], factor[column, inner]))
            if row == column:
                factor[row, row] = _apply(np.sqrt, rest)
            else:
                factor[row, column] = _apply(np.divide, rest, factor[column, column])
    return factor


_REPLACED: dict[Any, Callable[..., Any]] = {
    np.dot: _dot,
    np.inner: lambda a, b: _dot(a, np.asarray(_plain(b)).T),
    np.vdot: lambda a, b: _dot(np.ravel(_plain(a)), np.ravel(_plain(b))),
    np.outer: lambda a, b: _apply(np.multiply, np.ravel(_plain(a))[:, None], np.ravel(_plain(b))),
    np.cumsum: _cumsum,
    np.einsum: _einsum,
    np.linalg.norm: _norm,
    np.linalg.solve: _solve,
    np.linalg.cholesky: _cholesky,
}
_REFUSED = {np.convolve, np.correlate, np.cumprod, np.interp, np.kron, np.trapezoid}


def measure(
    run: Callable[[Callable[[Any], Any]], dict[str, Any]],
    certified: dict[str, Leaf],
    seed: str,
) -> dict[str, list[float]]:
    """Return the rms error of ordinary code in units of u, per leaf and entry.

    Parameters
    ----------
    run : callable
        Given a function that makes a float array noisy, returns the outputs of one run.
    certified : dict of Leaf
        The certified floats.
    seed : str
        Names the stream of noise.
    """
    global _generator
    _generator = np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16])))
    truth = {path: np.array([entry.value for entry in leaf.entries]) for path, leaf in certified.items() if _real(leaf)}
    squares = {path: np.zeros_like(values) for path, values in truth.items()}
    for _ in range(SAMPLES):
        found = plain_leaves(run(lambda array: np.asarray(array, dtype=np.float64).view(Noisy)))
        for path, values in truth.items():
            shape, flat = found[path]
            if shape != certified[path].shape:
                raise ValueError(f"{seed}: {path} has shape {shape}, certified is {certified[path].shape}")
            squares[path] += ((flat - values) / UNIT) ** 2
    return {path: [round_up(value) for value in np.sqrt(sums / SAMPLES)] for path, sums in squares.items()}


def _real(leaf: Leaf) -> bool:
    return not any(isinstance(entry, int) for entry in leaf.entries)


def plain_leaves(outputs: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], np.ndarray]]:
    """Flatten outputs of ordinary code to leaf paths with shape and flat values."""
    listed = leaves({name: _listed(value) for name, value in outputs.items()})
    return {path: (leaf.shape, np.array(leaf.entries, dtype=np.float64)) for path, leaf in listed.items()}


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: [_listed(layer) for layer in part] if name == "layers" else _listed(part)
            for name, part in value.items()
        }
    return np.asarray(_plain(value)).tolist()


def round_up(value: float) -> float:
    """Round a non-negative number up to three digits."""
    if not np.isfinite(value):
        raise ValueError(f"the amplification is {value}: ordinary code fails on this case")
    return float(Context(prec=DIGITS, rounding=ROUND_CEILING).create_decimal(Decimal(float(value))))


def worst(measured: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Return the entrywise maximum over algorithms."""
    return {
        path: [max(values) for values in zip(*(one[path] for one in measured), strict=True)] for path in measured[0]
    }
