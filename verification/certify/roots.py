"""Zeros of n functions of n unknowns, proven by Krawczyk's test.

::

    K(X) = x − Y f(x) + (I − Y f'(X))(X − x)          Y ≈ f'(x)⁻¹,  x the middle of the box X

If K(X) lies inside X, the box holds exactly one zero, and K(X) holds it too.  Newton's method finds the middle; f' is
enclosed by power series over the whole box (`calculus`).
"""

from collections.abc import Callable, Sequence

from flint import arb, arb_mat, ctx

from verification.certify.balls import Undecided
from verification.certify.calculus import Scalar, gradient

System = Callable[[list[Scalar]], list[Scalar]]

STEPS = 60  # of Newton's method, which doubles the digits of a guess with each


def _column(entries: Sequence[arb]) -> arb_mat:
    return arb_mat([[entry] for entry in entries])


def _jacobian(system: System, point: Sequence[arb]) -> arb_mat:
    return arb_mat(gradient(system, point)).transpose()


def _middle(entries: Sequence[arb]) -> list[arb]:
    return [entry.mid() for entry in entries]


def zero(system: System, guess: Sequence[float]) -> list[arb]:
    """Return balls around the one zero that a small box around the guess's limit under Newton's method holds.

    Raises `Undecided` if the box is not proven to hold one at this precision.
    """
    x = [arb(number) for number in guess]
    for _ in range(STEPS):
        try:
            step = _jacobian(system, x).solve(_column(system(x))).entries()
        except ZeroDivisionError:
            raise Undecided("the derivative of a system of equations may be singular") from None
        x = _middle([a - b for a, b in zip(x, step, strict=True)])
        if all(abs(move) < arb(2) ** (8 - ctx.prec) * (1 + abs(a)) for move, a in zip(step, x, strict=True)):
            break
    radius = arb(2) ** -(ctx.prec // 2)
    box = [arb(a, radius) for a in x]
    Y = arb_mat(_rows_of_middles(_jacobian(system, x).inv()))
    identity = arb_mat(len(x), len(x), [int(i == j) for i in range(len(x)) for j in range(len(x))])
    spread = _column([a - b for a, b in zip(box, x, strict=True)])
    image = (_column(x) - Y * _column(system(x)) + (identity - Y * _jacobian(system, box)) * spread).entries()
    if not all(a.contains_interior(b) for a, b in zip(box, image, strict=True)):
        raise Undecided("a zero of a system of equations is not proven")
    return list(image)


def _rows_of_middles(matrix: arb_mat) -> list[list[arb]]:
    return [_middle(row) for row in matrix.tolist()]
