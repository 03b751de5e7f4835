"""Problems with an answer one can do by hand, and random ones."""

import numpy as np

from refpg.linear_quadratic.model import LinearQuadratic
from refpg.notation import Array, count, scalar


def doubling() -> LinearQuadratic:
    """Return a scalar system that doubles its state, of which every quantity is a small number.

    ::

        x₀ = 3,   x' = 2x + u,   r = −(2x² + u²),   γ = ¼          K* = 1,  P* = 4,  η* = −36

    Without control P = 2 + ¼·4P has no solution: γρ² = 1.

    Returns
    -------
    LinearQuadratic
    """
    return LinearQuadratic(
        state_matrix=np.array([[2.0]]),
        action_matrix=np.array([[1.0]]),
        state_cost=np.array([[2.0]]),
        action_cost=np.array([[1.0]]),
        noise=np.array([[0.0]]),
        start_mean=np.array([3.0]),
        start_covariance=np.array([[0.0]]),
        discount=0.25,
    )


def point_mass() -> LinearQuadratic:
    """Return a mass on a line that is to be pushed to 0 and to rest there.

    ::

        x = (position, velocity)         position' = position + velocity/8,   velocity' = velocity + u/8 + noise
        x₀ ~ N(0, I)                     r = −(position² + velocity²/8 + u²/8),   γ = 0.95,   noise of variance 1/64

    Returns
    -------
    LinearQuadratic

    Examples
    --------
    >>> from refpg.linear_quadratic.optimal import optimum
    >>> best = optimum(point_mass())
    >>> best.gain.round(2).tolist(), round(best.expected_return, 1)
    ([[1.99, 2.14]], -10.4)
    """
    step = 0.125
    return LinearQuadratic(
        state_matrix=np.array([[1.0, step], [0.0, 1.0]]),
        action_matrix=np.array([[0.0], [step]]),
        state_cost=np.diag([1.0, 0.125]),
        action_cost=np.array([[0.125]]),
        noise=np.diag([0.0, 1 / 64]),
        start_mean=np.zeros(2),
        start_covariance=np.eye(2),
        discount=0.95,
    )


def random_problem(
    generator: np.random.Generator, *, states: int, actions: int, discount: float, growth: float = 0.9
) -> LinearQuadratic:
    """Draw a problem with dense matrices.

    Parameters
    ----------
    generator : numpy.random.Generator
        The only source of randomness.
    states, actions : int
        D and A.
    discount : float
        γ in (0, 1).
    growth : float
        √γ ρ(A) > 0, so the gain 0 is stable below 1.

    Returns
    -------
    LinearQuadratic
        A is normal and scaled, B and m are normal; Q, R, W and S are GGᵀ/n with G normal (n, n).

    Raises
    ------
    ValueError
        If a number is outside its interval.

    Examples
    --------
    >>> problem = random_problem(np.random.default_rng(0), states=3, actions=2, discount=0.81, growth=0.9)
    >>> bool(np.isclose(abs(np.linalg.eigvals(problem.state_matrix)).max(), 1.0, rtol=1e-14))
    True
    """
    name = "random_problem"
    D, A = count(name, "states", states), count(name, "actions", actions)
    gamma = scalar(name, "discount", discount, above=0, below=1)
    growth = scalar(name, "growth", growth, above=0)

    def covariance(n: int) -> Array:
        G = generator.standard_normal((n, n))
        return G @ G.T / n

    free = generator.standard_normal((D, D))
    return LinearQuadratic(
        state_matrix=free * growth / (np.sqrt(gamma) * abs(np.linalg.eigvals(free)).max()),
        action_matrix=generator.standard_normal((D, A)),
        state_cost=covariance(D),
        action_cost=covariance(A),
        noise=covariance(D),
        start_mean=generator.standard_normal(D),
        start_covariance=covariance(D),
        discount=gamma,
    )
