"""Factors that have a name: small numbers, and the lengths of a case."""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from refpg.conformance.vectors import Case

_SMALL = {"−1": -1.0, "½": 0.5, "2": 2.0, "−½": -0.5, "−2": -2.0, "¼": 0.25, "4": 4.0}


class Factor(NamedTuple):
    """A factor of a case: ``name``, the same in every case; ``words`` with the numbers put in; ``value``.

    ``plain`` are those that a forgotten mean, a sum or a sign makes; roots and products of lengths are not.
    """

    name: str
    words: str
    value: float
    plain: bool = True


def factors(case: Case) -> Iterator[Factor]:
    """Yield the factors of a case: ±1, 2 and 4, the lengths of its axes and what a wrong mean makes of them."""
    for name, value in _SMALL.items():
        yield Factor(name, name, value)
    lengths = _lengths(case)
    for letter, n in lengths.items():
        yield Factor(f"1/{letter}", f"1/{letter} ({letter} = {n})", 1 / n)
        yield Factor(letter, f"{letter} (= {n})", float(n))
        yield Factor(f"−1/{letter}", f"−1/{letter} ({letter} = {n})", -1 / n)
        yield Factor(f"−{letter}", f"−{letter} ({letter} = {n})", -float(n))
        yield Factor(f"1/√{letter}", f"1/√{letter} ({letter} = {n})", n**-0.5, False)
        yield Factor(f"√{letter}", f"√{letter} ({letter} = {n})", n**0.5, False)
        if n > 2:
            yield Factor(f"{letter}/({letter} − 1)", f"{letter}/({letter} − 1) ({letter} = {n})", n / (n - 1))
            yield Factor(f"({letter} − 1)/{letter}", f"({letter} − 1)/{letter} ({letter} = {n})", (n - 1) / n)
    for one, other in combinations(lengths, 2):
        m, n = lengths[one], lengths[other]
        yield Factor(f"1/({one}·{other})", f"1/({one}·{other}) ({one} = {m}, {other} = {n})", 1 / (m * n), False)
        yield Factor(f"{one}·{other}", f"{one}·{other} (= {m}·{n})", float(m * n), False)
        yield Factor(f"{one}/{other}", f"{one}/{other} (= {m}/{n})", m / n, False)
        yield Factor(f"{other}/{one}", f"{other}/{one} (= {n}/{m})", n / m, False)


def _lengths(case: Case) -> dict[str, int]:
    """Return the lengths above 1; of a number of parameters that is the length of an axis besides, the axis alone."""
    axes = {letter: length for letter, length in case.dims.items() if length > 1}
    return {
        letter: length
        for letter, length in axes.items()
        if letter not in "KP" or all(other == letter or axes[other] != length for other in axes)
    }
