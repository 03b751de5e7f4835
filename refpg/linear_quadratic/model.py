"""The records `LinearQuadratic` and `LinearGaussianPolicy`, what they check, and when a policy has a finite value.

A symmetric matrix that was computed by rounded products is symmetric, and semi-definite, within a few units of
rounding: D eps times its largest entry, or eigenvalue, is accepted.  What is kept is its symmetric part, all that a
quadratic form sees of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refpg.notation import Array, Unrepresentable, bind_shapes, scalar


class Unstable(ValueError):
    """A policy lets discounted second moments of the state grow without bound: γ ρ(A − BK)² ≥ 1."""


@dataclass(frozen=True, eq=False)
class LinearQuadratic:
    """A linear system with Gaussian noise and quadratic cost, discounted, for ever.

    ::

        x₀ ∼ N(m, S)          x' = A x + B u + w,  w ∼ N(0, W)          r(x, u) = −(xᵀQx + uᵀRu)

    Fields: ``state_matrix`` A (D, D); ``action_matrix`` B (D, A); ``state_cost`` Q (D, D), symmetric, semi-definite;
    ``action_cost`` R (A, A), symmetric, positive definite; ``noise`` W (D, D), a covariance; ``start_mean`` m (D,);
    ``start_covariance`` S (D, D); ``discount`` γ in [0, 1).  There is no ½ in the cost.

    The arrays are checked and copied into float64 once, here, and cannot be written to afterwards.  A ValueError names
    the matrix, and the entries or the eigenvalue that are wrong.

    A goal other than 0, or an action that is affine in the state, is a state with one more entry that is always 1.

    Examples
    --------
    >>> LinearQuadratic(
    ...     state_matrix=[[1.0]], action_matrix=[[1.0]], state_cost=[[1.0]], action_cost=[[-2.0]],
    ...     noise=[[0.0]], start_mean=[1.0], start_covariance=[[0.0]], discount=0.5,
    ... )
    Traceback (most recent call last):
        ...
    ValueError: LinearQuadratic: action_cost has the eigenvalue -2.0, expected a positive definite matrix
    """

    state_matrix: Array
    action_matrix: Array
    state_cost: Array
    action_cost: Array
    noise: Array
    start_mean: Array
    start_covariance: Array
    discount: float

    def __post_init__(self) -> None:
        shapes = {
            "state_matrix": "D D",
            "action_matrix": "D A",
            "state_cost": "D D",
            "action_cost": "A A",
            "noise": "D D",
            "start_mean": "D",
            "start_covariance": "D D",
        }
        name = "LinearQuadratic"
        arrays = bind_shapes(name, {}, **{field: (getattr(self, field), shape) for field, shape in shapes.items()})
        for field, array in zip(shapes, arrays, strict=True):
            _keep(self, field, array)
        for field in ("state_cost", "noise", "start_covariance"):
            _keep(self, field, semidefinite(name, field, getattr(self, field)))
        _keep(self, "action_cost", definite(name, "action_cost", self.action_cost))
        object.__setattr__(self, "discount", scalar(name, "discount", self.discount, least=0, below=1))

    @property
    def sizes(self) -> dict[str, int]:
        """The lengths D and A, for `refpg.notation.bind_shapes`."""
        states, actions = self.action_matrix.shape
        return {"D": states, "A": actions}


@dataclass(frozen=True, eq=False)
class LinearGaussianPolicy:
    """A Gaussian policy whose mean is linear in the state.

    ::

        u ∼ N(−K x, Σ)

    Fields: ``gain`` K (A, D), with the minus sign of control theory; ``covariance`` Σ (A, A), semi-definite: 0 is a
    deterministic policy, which has a return and values, but no density, so no KL and no Fisher matrix.

    The network policy of this record is `refpg.policy.gaussian_policy((D, A))` with W = −Kᵀ, b = 0 and
    log σ = ½ log diag Σ, if Σ is diagonal.

    Examples
    --------
    >>> LinearGaussianPolicy(gain=[[0.5, 1.0]], covariance=[[0.25]]).gain.shape
    (1, 2)
    """

    gain: Array
    covariance: Array

    def __post_init__(self) -> None:
        name = "LinearGaussianPolicy"
        K, Sigma = bind_shapes(name, {}, gain=(self.gain, "A D"), covariance=(self.covariance, "A A"))
        _keep(self, "gain", K)
        _keep(self, "covariance", Sigma)
        _keep(self, "covariance", semidefinite(name, "covariance", self.covariance))


def _keep(record: Any, field: str, array: Array) -> None:
    if array.dtype.kind == "c":
        raise ValueError(f"{type(record).__name__}: {field} has dtype {array.dtype}, expected real numbers")
    kept = np.array(array, dtype=np.float64)
    kept.flags.writeable = False
    object.__setattr__(record, field, kept)


def semidefinite(function: str, name: str, matrix: Array) -> Array:
    """Check that a matrix is symmetric and positive semi-definite, within rounding, and return its symmetric part.

    Parameters
    ----------
    function, name : str
        The caller and the argument, named in every message.
    matrix : (D, D) array
        Finite real numbers.

    Returns
    -------
    (D, D) array
        ½(X + Xᵀ).

    Raises
    ------
    ValueError
        If entries across the diagonal differ, or an eigenvalue is negative.

    Examples
    --------
    >>> import numpy as np
    >>> semidefinite("f", "noise", np.array([[1.0, 0.5], [0.0, 1.0]]))
    Traceback (most recent call last):
        ...
    ValueError: f: noise is 0.5 at (0, 1) and 0.0 at (1, 0), expected a symmetric matrix
    """
    symmetric = _symmetric(function, name, matrix)
    eigenvalues = np.linalg.eigvalsh(symmetric)
    if eigenvalues[0] < -_slack(matrix) * eigenvalues[-1]:
        raise ValueError(
            f"{function}: {name} has the eigenvalue {float(eigenvalues[0])}, expected a positive semi-definite matrix"
        )
    return symmetric


def definite(function: str, name: str, matrix: Array) -> Array:
    """Check that a matrix is symmetric, within rounding, and has a Cholesky factor; return its symmetric part.

    Parameters
    ----------
    function, name : str
        The caller and the argument, named in every message.
    matrix : (A, A) array
        Finite real numbers.

    Returns
    -------
    (A, A) array
        ½(X + Xᵀ).

    Raises
    ------
    ValueError
        If entries across the diagonal differ, or the matrix is singular or indefinite.

    Examples
    --------
    >>> import numpy as np
    >>> definite("kl", "new.covariance", np.zeros((1, 1)))
    Traceback (most recent call last):
        ...
    ValueError: kl: new.covariance has the eigenvalue 0.0, expected a positive definite matrix
    """
    symmetric = _symmetric(function, name, matrix)
    try:
        np.linalg.cholesky(symmetric)
    except np.linalg.LinAlgError:
        least = float(np.linalg.eigvalsh(symmetric)[0])
        raise ValueError(
            f"{function}: {name} has the eigenvalue {least}, expected a positive definite matrix"
        ) from None
    return symmetric


def _symmetric(function: str, name: str, matrix: Array) -> Array:
    half = matrix / 2
    apart = abs(half - half.T)
    if apart.max() > _slack(matrix) * abs(half).max():
        i, j = (int(k) for k in np.unravel_index(int(np.argmax(apart)), apart.shape))
        here, across = float(matrix[i, j]), float(matrix[j, i])
        raise ValueError(
            f"{function}: {name} is {here} at ({i}, {j}) and {across} at ({j}, {i}), expected a symmetric matrix"
        )
    symmetric: Array = half + half.T
    return symmetric


def _slack(matrix: Array) -> float:
    return len(matrix) * float(np.finfo(np.float64).eps)


def closed_loop(function: str, name: str, problem: LinearQuadratic, policy: LinearGaussianPolicy) -> Array:
    """Return M = A − BK, by which the mean of the state moves, if the policy has a finite value.

    ::

        γ ρ(M)² < 1          ρ the largest magnitude of an eigenvalue

    Then every discounted second moment Σ_t γᵗ E x_t x_tᵀ is finite, and so is every quantity of this chapter.

    Parameters
    ----------
    function, name : str
        The caller and the argument that is the policy, named in every message.
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        The policy.

    Returns
    -------
    (D, D) array

    Raises
    ------
    Unstable
        A ValueError: if γρ² ≥ 1.
    ValueError
        If the policy is not one of this problem.

    Notes
    -----
    Convention: the condition is asked of the system whatever the cost sees of it, so a policy whose growing states cost
    nothing is refused too.

    Examples
    --------
    >>> growing = LinearQuadratic(
    ...     state_matrix=[[2.0]], action_matrix=[[1.0]], state_cost=[[1.0]], action_cost=[[1.0]],
    ...     noise=[[0.0]], start_mean=[1.0], start_covariance=[[0.0]], discount=0.5,
    ... )
    >>> closed_loop("evaluate", "policy", growing, LinearGaussianPolicy([[1.0]], [[0.0]]))
    array([[1.]])
    >>> closed_loop("evaluate", "policy", growing, LinearGaussianPolicy([[0.5]], [[0.0]]))
    Traceback (most recent call last):
        ...
    refpg.linear_quadratic.model.Unstable: evaluate: policy has the spectral radius ρ(A − BK) = 1.5 and γρ² = 1.125, \
expected γρ² < 1
    """
    bind_shapes(function, problem.sizes, **{f"{name}.gain": (policy.gain, "A D")})
    with np.errstate(over="ignore", invalid="ignore"):
        M = problem.state_matrix - problem.action_matrix @ policy.gain
    if not np.isfinite(M).all():
        raise Unrepresentable(f"{function}: A − BK overflows, expected {name}.gain of smaller magnitude")
    radius = float(abs(np.linalg.eigvals(M)).max())
    with np.errstate(over="ignore"):
        squared = float(problem.discount * np.square(radius))
    if not squared < 1:
        raise Unstable(
            f"{function}: {name} has the spectral radius ρ(A − BK) = {radius!r} and γρ² = {squared!r}, expected γρ² < 1"
        )
    return M
