"""The optimal gain, from the Riccati equation.

::

    P* = Q + γAᵀP*A − γ²AᵀP*B (R + γBᵀP*B)⁻¹ BᵀP*A          K* = γ (R + γBᵀP*B)⁻¹ BᵀP*A

The discount is part of the system: √γA and √γB without a discount have the same equation.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_discrete_are

from refpg.linear_quadratic.model import LinearQuadratic
from refpg.notation import Array, finite_results


class Optimum(NamedTuple):
    """The best stable linear policy, u = −K*x without noise.

    Fields: ``gain`` K* (A, D); ``value_matrix`` P* (D, D); ``value_constant`` c* = γ tr P*W/(1 − γ);
    ``expected_return`` η* = −(mᵀP*m + tr P*S + c*).
    """

    gain: Array
    value_matrix: Array
    value_constant: float
    expected_return: float


@finite_results
def _solution(problem: LinearQuadratic) -> tuple[Array, Array, float, float]:
    A, B, Q, R = problem.state_matrix, problem.action_matrix, problem.state_cost, problem.action_cost
    W, m, S, gamma = problem.noise, problem.start_mean, problem.start_covariance, problem.discount
    root = np.sqrt(gamma)
    P = solve_discrete_are(root * A, root * B, Q, R)
    K = gamma * np.linalg.solve(R + gamma * B.T @ P @ B, B.T @ P @ A)
    c = float(gamma * np.sum(P * W) / (1 - gamma))
    return K, P, c, -float(m @ P @ m + np.sum(P * S) + c)


def optimum(problem: LinearQuadratic) -> Optimum:
    """Return the optimal gain, its value function and its expected return.

    Parameters
    ----------
    problem : LinearQuadratic
        The problem; (√γA, √γB) must be stabilisable.

    Returns
    -------
    Optimum
        Among the policies with γρ(A − BK)² < 1, and among all if the cost sees every state that would grow: one that
        costs nothing is controlled here all the same.  K* does not depend on Σ, W or the start.

    Raises
    ------
    ValueError
        If no gain makes γρ² < 1, or the cost does not see a state on the border of it.

    Notes
    -----
    Laws: E = 0 at K*; the limit of `gauss_newton_step`; η ≤ η* for every policy.

    References
    ----------
    [Hewer]

    Examples
    --------
    >>> from refpg.linear_quadratic import doubling
    >>> at = optimum(doubling())
    >>> round(at.gain.item(), 14), round(at.value_matrix.item(), 13), round(at.expected_return, 12)
    (1.0, 4.0, -36.0)
    """
    try:
        return Optimum(*_solution(problem))
    except np.linalg.LinAlgError:
        raise ValueError(
            "optimum: the Riccati equation has no stabilising solution, expected state_matrix and action_matrix such "
            "that some gain makes γρ(A − BK)² < 1, and a state_cost that sees what does not decay by itself"
        ) from None
