"""I − γP factorised without a subtraction, so that no digit is lost as γ → 1.

States are eliminated one after the other.  Eliminating j sends everything that went to j where j goes next; what
remains is a smaller process of the same kind, watched only while it is in the remaining states ::

    leave_j = Σ_{k remains} W_jk + (1 − γ) time_j       the rate at which j is left, for other states or for ever
    W_ik   ← W_ik + W_ij W_jk / leave_j                 i goes to k by way of j
    time_i ← time_i + W_ij time_j / leave_j             the steps spent among eliminated states count for i

Textbook elimination takes the pivot 1 − γ P_jj − …, a difference that has no correct digit when 1 − γ = 1e-16.  Here
it is the *sum* of what leaves, as Grassmann, Taksar and Heyman do for γ = 1 [GTH]: only positive numbers are added,
multiplied and divided, and every entry of (I − γP)⁻¹ comes out with a small relative error.  The diagonal of P is
not read: staying is what is left of 1.  For γ ≥ ½ the float 1 − γ is exact.

The state that is left the soonest is eliminated first.  That keeps time_j/leave_j, the excursions among eliminated
states, short, and these are what rounding errors of value *differences* grow with.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from refpg.notation import Array

# Overflow is judged by what comes out, under the caller's name.
_triangular = functools.partial(solve_triangular, check_finite=False)


class Factors(NamedTuple):
    """I − γP = L U with the states in the order of their elimination; all off-diagonal entries are ≤ 0.

    Fields: ``order`` (S,), the states as they were eliminated; ``lower`` (S, S), L, unit diagonal; ``upper`` (S, S),
    U, with the rates ``leave`` on its diagonal; ``time`` (S,), L⁻¹1; ``away`` the float 1 − γ.
    """

    order: Array
    lower: Array
    upper: Array
    time: Array
    away: float


def factorize(P: Array, gamma: float) -> Factors:
    """Eliminate all states of a Markov chain with transition matrix P (S, S) that survives a step with γ < 1."""
    S = len(P)
    away = 1 - gamma
    W = gamma * P
    np.fill_diagonal(W, 0)
    time = np.ones(S)
    remains = np.ones(S)
    order = np.empty(S, dtype=np.int64)
    lower, upper = np.eye(S), np.zeros((S, S))
    for n in range(S):
        leave = W @ remains + away * time
        order[n] = j = np.argmin(np.where(remains > 0, time / leave, np.inf))
        remains[j] = 0
        arrive = W[:, j] * remains / leave[j]
        depart = W[j] * remains
        lower[:, j] -= arrive
        upper[j] = -depart
        upper[j, j] = leave[j]
        time += arrive * time[j]
        W += np.outer(arrive, depart)
        np.fill_diagonal(W, 0)
    here = np.ix_(order, order)
    return Factors(order, lower[here], upper[here], time[order], away)


def solve(factors: Factors, b: Array) -> Array:
    """Return x = (I − γP)⁻¹ b, b (S,): the values of rewards b.

    Its error is a few units of rounding of (I − γP)⁻¹|b|, entry by entry; so for b ≥ 0 every entry is accurate.
    """
    y = _triangular(factors.lower, b[factors.order], lower=True, unit_diagonal=True)
    x = np.empty_like(y)
    x[factors.order] = _triangular(factors.upper, y)
    return x


def solve_transposed(factors: Factors, b: Array) -> Array:
    """Return x = (I − γPᵀ)⁻¹ b, b (S,) ≥ 0: the visitation from a start b, every entry accurate."""
    y = _triangular(factors.upper, b[factors.order], trans="T")
    x = np.empty_like(y)
    x[factors.order] = _triangular(factors.lower, y, lower=True, trans="T", unit_diagonal=True)
    return x


def value_differences(factors: Factors, b: Array, x: Array) -> Array:
    """Return D_st = x_s − x_t of x = `solve(factors, b)`, (S, S), accurate where x is large and nearly constant.

    ::

        leave_j D_jt = b̃_j − time_j (1 − γ) x_t + Σ_{k later} W_jk D_kt          b̃ = L⁻¹ b,    t later than j

    It is the equation of j less x_t times the sum of its row: differences are made of differences.  Subtracting
    values of size 1/(1 − γ) would leave errors of u/(1 − γ); these are u times the excursions of j.
    """
    order, L, U, time, away = factors
    b = _triangular(L, b[order], lower=True, unit_diagonal=True)
    c = away * x[order]
    D = np.zeros((len(c), len(c)))
    for j in reversed(range(len(c))):
        later = slice(j + 1, None)
        D[j, later] = (b[j] - time[j] * c[later] - U[j, later] @ D[later, later]) / U[j, j]
        D[later, j] = -D[j, later]
    differences = np.empty_like(D)
    differences[np.ix_(order, order)] = D
    return differences
