"""A small toolbox over Arb balls: exact inputs, decided branches, proven rounding.

A ball encloses the true number.  A comparison of balls that is False proves nothing, so branches go through `less`,
`positive` and `equal`, which prove one side or raise `Undecided`; and an output becomes a float only if every number
in its ball rounds to that float.  `certify` repeats a computation at doubled precision until both hold.

The precision is global to python-flint: functions here that depend on it run inside `precision`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from math import inf, isfinite, nextafter
from typing import Any, NamedTuple, TypeAlias

from flint import arb, ctx

Nested: TypeAlias = Any  # a number, or lists of Nested

FIRST_BITS = 192
LAST_BITS = 4096


class Undecided(ArithmeticError):
    """A branch depends on a comparison that the balls do not prove."""


class NotTightEnough(ArithmeticError):
    """A ball holds numbers that round to different floats."""


class Rounded(NamedTuple):
    """An output proven: ``value`` the nearest float64 (ties to even), ``radius`` a bound on the ball's radius."""

    value: float
    radius: float


class Leaf(NamedTuple):
    """An array of an output: ``entries`` in C order, `arb`, `int` or, once certified, `Rounded`."""

    shape: tuple[int, ...]
    entries: list[Any]


class Certified(NamedTuple):
    """Outputs by leaf path (``gradient.layers[0].W``), and the precision in bits at which all were proven."""

    leaves: dict[str, Leaf]
    bits: int


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Run the body at that working precision, and restore the former one."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def exact(numbers: Nested) -> Nested:
    """Convert floats and ints to balls of radius 0; lists, tuples and mappings keep their structure, strings stay.

    A bool is an error: masks and flags are read as they are.
    """
    if isinstance(numbers, bool):
        raise TypeError("exact: a bool is not a number")
    if isinstance(numbers, str):
        return numbers
    if isinstance(numbers, dict):
        return {name: exact(part) for name, part in numbers.items()}
    if isinstance(numbers, list | tuple):
        return [exact(part) for part in numbers]
    if isinstance(numbers, float) and not isfinite(numbers):
        raise ValueError(f"exact: {numbers!r} is not finite")
    return arb(numbers)


def rational(numerator: int, denominator: int) -> arb:
    """Return the ball of a quotient of integers at the current precision."""
    return arb(numerator) / denominator


# ── Branches that are proven ────────────────────────────────────────────────────────────────────────────────────────


def less(a: arb | float, b: arb | float) -> bool:
    """Decide a < b, or raise `Undecided`."""
    a, b = arb(a), arb(b)
    if a < b:
        return True
    if a >= b:
        return False
    raise Undecided(f"is {a} < {b}?")


def positive(a: arb | float) -> bool:
    """Decide a > 0, or raise `Undecided`."""
    return less(0, a)


def equal(a: arb | float, b: arb | float) -> bool:
    """Decide a = b, or raise `Undecided`: only exact balls can be proven equal."""
    a, b = arb(a), arb(b)
    if not a.overlaps(b):
        return False
    if a.is_exact() and b.is_exact():
        return bool(a == b)
    raise Undecided(f"is {a} = {b}?")


def maximum(a: arb, b: arb) -> arb:
    """Return the larger ball, with the comparison decided."""
    return b if less(a, b) else a


def minimum(a: arb, b: arb) -> arb:
    """Return the smaller ball, with the comparison decided."""
    return a if less(a, b) else b


def clip(a: arb, low: arb, high: arb) -> arb:
    """Return a kept within [low, high], with both comparisons decided."""
    return minimum(maximum(a, low), high)


# ── Sums ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def total(terms: Iterable[arb]) -> arb:
    """Return the sum of balls; of none it is exactly 0."""
    result = arb(0)
    for term in terms:
        result = result + term
    return result


def product(factors: Iterable[arb]) -> arb:
    """Return the product of balls; of none it is exactly 1."""
    result = arb(1)
    for factor in factors:
        result = result * factor
    return result


def mean(terms: Sequence[arb]) -> arb:
    """Return the arithmetic mean."""
    return total(terms) / len(terms)


def dot(a: Sequence[arb], b: Sequence[arb]) -> arb:
    """Return Σ a_i b_i."""
    return total(x * y for x, y in zip(a, b, strict=True))


def matrix_vector(matrix: Sequence[Sequence[arb]], vector: Sequence[arb]) -> list[arb]:
    """Return matrix · vector."""
    return [dot(row, vector) for row in matrix]


def vector_matrix(vector: Sequence[arb], matrix: Sequence[Sequence[arb]]) -> list[arb]:
    """Return vectorᵀ · matrix, as a row."""
    return [dot(vector, column) for column in zip(*matrix, strict=True)]


def transpose(matrix: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return the transposed nested list."""
    return [list(column) for column in zip(*matrix, strict=True)]


def zeros(*shape: int) -> Nested:
    """Return nested lists of exact zeros."""
    return [zeros(*shape[1:]) for _ in range(shape[0])] if shape else arb(0)


# ── Rounding that is proven ─────────────────────────────────────────────────────────────────────────────────────────


def to_float(ball: arb | int) -> Rounded:
    """Return the float64 nearest to every number in the ball (ties to even), and a bound on the ball's radius.

    Both ends of the ball are taken as exact rationals; rounding is monotone, so equal roundings of the ends prove it.
    A value below the smallest subnormal is 0.0.

    Raises
    ------
    NotTightEnough
        If the ends round differently, or the ball is not finite.
    """
    ball = arb(ball)
    if not ball.is_finite():
        raise NotTightEnough(f"{ball} is not finite")
    if ball.abs_upper() < arb(2) ** -1100:  # far below half the smallest subnormal, 2⁻¹⁰⁷⁵
        low = high = 0.0
    else:
        middle, radius = _fraction(ball.mid()), _fraction(ball.rad())
        low, high = _nearest(middle - radius), _nearest(middle + radius)
    if low != high or not isfinite(low):
        raise NotTightEnough(f"{ball} rounds to {low!r} or {high!r}")
    return Rounded(low + 0.0, _radius_bound(ball))  # + 0.0: no negative zero


def _fraction(point: arb) -> Fraction:
    mantissa, exponent = (int(part) for part in point.man_exp())
    if exponent < -20_000:  # only a radius or an end far below float64's range; keep the rational small, outward
        return Fraction(1 if mantissa > 0 else -1 if mantissa < 0 else 0, 2**10_000)
    return Fraction(mantissa) * Fraction(2) ** exponent


def _nearest(number: Fraction) -> float:
    try:
        return number.numerator / number.denominator  # Python's integer division rounds correctly, subnormals included
    except OverflowError:
        return inf if number > 0 else -inf


def _radius_bound(ball: arb) -> float:
    radius = _fraction(ball.rad())
    bound = _nearest(radius)
    return bound if Fraction(bound) >= radius else nextafter(bound, inf)


# ── Outputs as leaves ───────────────────────────────────────────────────────────────────────────────────────────────


def leaves(outputs: dict[str, Any]) -> dict[str, Leaf]:
    """Flatten outputs to leaf paths: ``gradient.layers[1].b``; nested lists become a shape and entries in C order."""
    flat: dict[str, Leaf] = {}
    for name, value in outputs.items():
        _collect(name, value, flat)
    return flat


def _collect(path: str, value: Any, flat: dict[str, Leaf]) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            if name == "layers":
                for number, layer in enumerate(part):
                    _collect(f"{path}.layers[{number}]", layer, flat)
            else:
                _collect(f"{path}.{name}", part, flat)
    else:
        shape = _shape(value)
        entries = list(_entries(value))
        size = 1
        for length in shape:
            size *= length
        if size != len(entries):
            raise ValueError(f"{path} is ragged")
        flat[path] = Leaf(shape, entries)


def _shape(value: Nested) -> tuple[int, ...]:
    return (len(value), *_shape(value[0])) if isinstance(value, list | tuple) else ()


def _entries(value: Nested) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _entries(part)
    else:
        yield value


# ── Certification ───────────────────────────────────────────────────────────────────────────────────────────────────


def certify(function: Callable[[], dict[str, Any]], *, nan: bool = False) -> Certified:
    """Evaluate the function at 192 bits, doubling to 4096, until every branch is decided and every output rounded.

    Parameters
    ----------
    function : callable
        Returns outputs: nested lists of `arb` or `int`, or structures of parameters.
    nan : bool
        Whether a NaN ball, or one beyond the range of float64, is an answer (a mistake may have it), given as NaN.

    Raises
    ------
    Undecided, NotTightEnough
        If 4096 bits are not enough: a tie, a kink hit exactly, or a value that is exactly zero or undefined.
    """
    bits = FIRST_BITS
    while True:
        try:
            with precision(bits):
                found = leaves(function())
                return Certified({path: _round_leaf(leaf, nan) for path, leaf in found.items()}, bits)
        except (Undecided, NotTightEnough):
            bits *= 2
            if bits > LAST_BITS:
                raise


def _round_leaf(leaf: Leaf, nan: bool) -> Leaf:
    return Leaf(leaf.shape, [_round_entry(entry, nan) for entry in leaf.entries])


def _round_entry(entry: Any, nan: bool) -> Rounded | int:
    if isinstance(entry, int):
        return int(entry)
    if nan and (entry.is_nan() or (entry.is_finite() and abs(entry) > arb(2) ** 1024)):
        return Rounded(float("nan"), inf)
    return to_float(entry)
