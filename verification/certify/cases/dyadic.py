"""Draws of short dyadic numbers: multiples of a power of two, exact in every floating-point format."""

from random import Random
from typing import Any


def numbers(random: Random, *shape: int, within: float = 2.0, step: float = 2.0**-5) -> Any:
    """Draw a nested list of multiples of ``step`` in [−within, within], none of them 0."""
    if shape:
        return [numbers(random, *shape[1:], within=within, step=step) for _ in range(shape[0])]
    reach = round(within / step)
    return random.choice([-1, 1]) * random.randint(1, reach) * step


def positives(random: Random, *shape: int, within: float = 2.0, step: float = 2.0**-5) -> Any:
    """Draw a nested list of positive multiples of ``step`` up to ``within``."""
    if shape:
        return [positives(random, *shape[1:], within=within, step=step) for _ in range(shape[0])]
    return random.randint(1, round(within / step)) * step


def flags(length: int, width: int, *places: tuple[int, int]) -> list[list[bool]]:
    """Return a table of flags, true at the places (row, column)."""
    return [[(row, column) in places for column in range(width)] for row in range(length)]
