"""Conjugate gradients on a Fisher matrix: the error of each iterate, what the theory promises, and SciPy's iterates.

::

    ‖x_k − x‖_A ≤ 2((√κ − 1)/(√κ + 1))ᵏ ‖x‖_A,   A = F + λI,   κ = cond A,   ‖v‖_A = √(vᵀAv)

x is `solvers.solve_rows`, by orthogonal factors.  The bound knows of the spectrum of A only where it begins and ends.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg

from refpg.geometry import fisher_matrix, fisher_rows
from refpg.network import initial_parameters
from refpg.notation import Array, count
from refpg.plots import page
from refpg.plots.page import Figure
from refpg.policy import gaussian_policy
from refpg.solvers import conjugate_gradient, solve_rows

DAMPINGS = (1e-1, 1e-3)


class Convergence(NamedTuple):
    """Conjugate gradients on one system.

    Fields: ``damping`` λ; ``condition`` κ; and for k = 0, 1, …, relative to ‖x‖_A: ``error`` (K + 1,) of refpg's
    iterates, ``scipy_error`` (K + 1,) of SciPy's, ``bound`` (K + 1,), at most 1.
    """

    damping: float
    condition: float
    error: Array
    scipy_error: Array
    bound: Array


def numbers(generator: np.random.Generator, *, iterations: int = 60) -> tuple[Convergence, ...]:
    """Return the errors for two dampings, the one that TRPO uses and a small one.

    Parameters
    ----------
    generator : numpy.random.Generator
        Draws a Gaussian policy, 64 observations, and the right-hand side.
    iterations : int
        K.

    Returns
    -------
    tuple of Convergence

    Raises
    ------
    ValueError
        If ``iterations`` is not a positive integer.

    References
    ----------
    [TRPO App. C], [Hestenes-Stiefel]
    """
    iterations = count("cg.numbers", "iterations", iterations)
    policy = gaussian_policy((4, 8, 2))
    theta = initial_parameters(policy.network, generator)
    x = generator.normal(size=(64, 4))
    F, rows = fisher_matrix(policy, theta, x), fisher_rows(policy, theta, x)
    b = F @ generator.normal(size=len(theta))  # a gradient lies in the range of F
    return tuple(_convergence(F, rows, b, damping, iterations) for damping in DAMPINGS)


def _convergence(F: Array, rows: Array, b: Array, damping: float, iterations: int) -> Convergence:
    A = F + damping * np.eye(len(F))
    solution = solve_rows(rows, b, damping)

    def error(iterates: Array) -> Array:
        off = iterates - solution
        squares: Array = np.einsum("kp,pq,kq->k", off, A, off)
        return np.sqrt(squares / (solution @ A @ solution))

    ours = conjugate_gradient(A.__matmul__, b, iterations=iterations, trace=True).iterates
    assert ours is not None  # a trace was asked for
    theirs = [np.zeros_like(b)]
    scipy.sparse.linalg.cg(A, b, rtol=0, atol=0, maxiter=len(ours) - 1, callback=lambda x: theirs.append(x.copy()))
    root = np.sqrt(np.linalg.cond(A))
    k = np.arange(len(ours))
    return Convergence(
        damping=damping,
        condition=float(root**2),
        error=error(ours),
        scipy_error=error(np.array(theirs)),
        bound=np.minimum(2 * ((root - 1) / (root + 1)) ** k, 1),
    )


@page.house_style
def draw(at: tuple[Convergence, ...]) -> Figure:
    """Draw the errors over the iterations, for each damping.

    Parameters
    ----------
    at : tuple of Convergence
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, panels = page.open_page(
        "Conjugate gradients stay below their bound, and refpg’s iterates are SciPy’s", columns=len(at), right=0.3
    )
    longest = max(len(one.error) for one in at) - 1
    for axes, one in zip(panels, at, strict=True):
        k = np.arange(len(one.error))
        axes.set(yscale="log", xlim=(0, longest), ylim=(1e-14, 3))
        axes.axvline(10, color=page.GREY, linewidth=0.6)
        page.note(axes, "TRPO", (10, 1e-13), (4, 0), page.GREY)
        axes.plot(k, one.bound, **page.VERMILLION.line)
        axes.plot(k, one.error, **page.BLACK.line)
        axes.plot(k, one.scipy_error, "o", color=page.BLUE.colour, markerfacecolor="none", markersize=4.5)
        axes.set_title(rf"$\lambda = {one.damping:g}$,  $\kappa = {one.condition:.0f}$", pad=4)
        axes.set_xlabel("iteration $k$")
        axes.set_ylabel(r"error $\Vert x_k - x\Vert_A\,/\,\Vert x\Vert_A$")
        middle = len(k) // 2
        page.note(axes, "bound", (middle, one.bound[middle]), (3, 8), page.VERMILLION.colour)
        page.note(axes, "refpg", (middle, one.error[middle]), (8, 8), "black")
        later = 3 * len(k) // 4
        page.note(axes, "SciPy", (later, one.error[later]), (8, 8), page.BLUE.colour)
    return figure
