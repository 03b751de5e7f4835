"""Exact rational arithmetic: floats are rationals, and a root is the integer root of a scaled numerator."""

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt
from typing import Any

from flint import arb, fmpq

from verification.certify.balls import rational

BITS = 600  # after the binary point of a root


def fractions(numbers: Any) -> Any:
    """Convert floats and ints, in nested lists, to the rationals that they are."""
    if isinstance(numbers, list):
        return [fractions(part) for part in numbers]
    return Fraction(numbers)


def ball(number: Fraction) -> arb:
    """Return the ball of a rational."""
    return rational(number.numerator, number.denominator)


def balls(numbers: Any) -> Any:
    """Return the balls of nested rationals."""
    return [balls(part) for part in numbers] if isinstance(numbers, list) else ball(numbers)


def quotient(number: float) -> fmpq:
    """Return a float as the rational of FLINT's exact matrices."""
    return fmpq(*Fraction(number).as_integer_ratio())


def mean(numbers: Sequence[Fraction]) -> Fraction:
    """Return the arithmetic mean."""
    return sum(numbers, Fraction(0)) / len(numbers)


def root(number: Fraction) -> Fraction:
    """Return the square root, 600 bits after the point: ⌊√(n d 4ᵏ)⌋/(d 2ᵏ) of n/d."""
    n, d = number.as_integer_ratio()
    return Fraction(isqrt(n * d << 2 * BITS), d << BITS)
