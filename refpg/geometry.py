"""The geometry of the trust region: mean KL between policies, its derivatives, and the Fisher matrix.

::

    KL(θ_old, θ) = Σ_b w_b KL(π_θold(·|x_b) ‖ π_θ(·|x_b))                      [TRPO (12)]
    F(θ)         = Σ_b w_b J_bᵀ M_b J_b = ∂²KL(θ, θ')/∂θ'² at θ' = θ          [TRPO App. C.1]

    J_b = ∂φ_θ(x_b)/∂θ     (K, P)   Jacobian of the network
    M_b                    (K, K)   Fisher matrix of the distribution's parameters at φ_θ(x_b)

Value, gradient and Hessian of KL all vanish or agree for both directions at θ = θ_old; away from it the direction
matters, and it is always named: old before new.  F is positive semi-definite, often singular; damping is added in
one place, `fisher_vector_product`, and its operator.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from refpg import network as networks
from refpg.distributions import Family
from refpg.network import Linearization, RootProduct, folded, gram_matrix, unfolded
from refpg.notation import (
    Array,
    bind_shapes,
    choice,
    count,
    expectation,
    finite_results,
    row_weights,
    scalar,
)
from refpg.policy import Policy, linearize, log_prob_jacobian
from refpg.rows import sum_over_parts

DIRECTIONS = ("old_new", "new_old")
_FORMED = 2**25
_MULTIPLIED = 2**16
_ROWS_PER_MATRIX = 4096


@finite_results
def mean_kl(
    policy: Policy,
    theta_old: Any,
    theta: Any,
    x: Any,
    *,
    weights: Any = None,
    direction: str = "old_new",
    executor: Executor | None = None,
) -> Any:
    """Return the KL divergence between two policies, averaged over states.

    ::

        Σ_b w_b KL(π_θold(·|x_b) ‖ π_θ(·|x_b))          direction "old_new"
        Σ_b w_b KL(π_θ(·|x_b) ‖ π_θold(·|x_b))          direction "new_old"

    The change θ − θ_old is carried through the network and enters only non-negative terms, so that the *relative*
    error stays a few units of rounding down to KL = 1e-18, where a difference of log-probabilities has no digit left.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta_old, theta : (P,) array
        Parameters of the old and of the new policy.
    x : (B, D) array
        Observations.
    weights : (B,) array, optional
        Weights of the rows, Σ w = 1; 1/B each unless given.
    direction : {"old_new", "new_old"}
        Which policy the expectation is under.
    executor : concurrent.futures.Executor, optional
        Who computes the sum over rows; the result has the same bits for any.

    Returns
    -------
    scalar
        Mean KL, nats, ≥ 0.

    Raises
    ------
    ValueError
        If a shape disagrees, the weights are not normalised, or the direction is unknown.

    Notes
    -----
    Convention: summed over action dimensions, averaged over rows; old ‖ new unless said otherwise.

    References
    ----------
    [TRPO (12)]

    Examples
    --------
    A constant policy whose first logit grows from 0 to log 3, p = (½, ½) to q = (¾, ¼):

    >>> import numpy as np
    >>> from refpg.policy import softmax_policy
    >>> theta = np.array([0.0, 0.0, np.log(3.0), 0.0])
    >>> kl = mean_kl(softmax_policy((1, 2)), np.zeros(4), theta, np.ones((1, 1)))
    >>> bool(np.isclose(kl, 0.5 * np.log(4 / 3), rtol=1e-15))
    True
    """
    theta_old, theta, x, w = _bind_pair("mean_kl", policy, theta_old, theta, x, weights, direction)
    return sum_over_parts(partial(_mean_kl, theta_old, theta, direction), policy.parts(x, w), executor)


def _mean_kl(theta_old: Array, theta: Array, direction: str, policy: Policy, x: Array, w: Array) -> Any:
    phi, change = networks.change_at(policy.network, theta_old, theta - theta_old, x)
    return expectation(directed_kl(policy.family, phi, change, direction), w)


def directed_kl(family: Family, phi: Array, change: Array, direction: str) -> Array:
    """Return KL(φ_old ‖ φ_new) or KL(φ_new ‖ φ_old) of each row (B,), from φ_old and its exact change, unchecked."""
    return family.kl(phi, change) if direction == "old_new" else family.kl(phi + change, -change)


@finite_results
def mean_kl_gradient(
    policy: Policy,
    theta_old: Any,
    theta: Any,
    x: Any,
    *,
    weights: Any = None,
    direction: str = "old_new",
    executor: Executor | None = None,
) -> Array:
    """Return the gradient of the mean KL with respect to the new policy's parameters.

    ::

        Σ_b w_b J_b(θ)ᵀ ∂KL_b/∂φ_new

    Parameters
    ----------
    policy : Policy
        The policy.
    theta_old, theta : (P,) array
        Parameters of the old and of the new policy.
    x : (B, D) array
        Observations.
    weights : (B,) array, optional
        Weights of the rows.
    direction : {"old_new", "new_old"}
        Which policy the expectation is under.
    executor : concurrent.futures.Executor, optional
        Who computes the sum over rows; the result has the same bits for any.

    Returns
    -------
    (P,) array
        Nats per unit of θ; zero at θ = θ_old.

    Raises
    ------
    ValueError
        If a shape disagrees, the weights are not normalised, or the direction is unknown.

    References
    ----------
    [TRPO (12)]
    """
    theta_old, theta, x, w = _bind_pair("mean_kl_gradient", policy, theta_old, theta, x, weights, direction)
    return sum_over_parts(partial(_mean_kl_gradient, theta_old, theta, direction), policy.parts(x, w), executor)


def _mean_kl_gradient(theta_old: Array, theta: Array, direction: str, policy: Policy, x: Array, w: Array) -> Array:
    phi, change = networks.change_at(policy.network, theta_old, theta - theta_old, x)
    family = policy.family
    slope = family.kl_gradient if direction == "old_new" else family.reverse_kl_gradient
    return networks.linearize_at(policy.network, theta, x).vjp(w[:, None] * slope(phi, change))


@finite_results
def mean_kl_hessian_vector_product(
    policy: Policy,
    theta_old: Any,
    theta: Any,
    x: Any,
    v: Any,
    *,
    weights: Any = None,
    direction: str = "old_new",
    executor: Executor | None = None,
) -> Array:
    """Multiply the Hessian of the mean KL at the *new* policy, wherever it is, by a vector.

    ::

        H v = Σ_b w_b [ J_bᵀ (∂²KL_b/∂φ²) J_b v + Σ_k (∂KL_b/∂φ_k) ∇²φ_bk v ]

    The first term is of Gauss–Newton form; the second, the curvature of the network, vanishes at θ = θ_old, where KL
    is minimal, and H becomes the Fisher matrix.  Away from θ_old H can be indefinite.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta_old, theta : (P,) array
        Parameters of the old and of the new policy.
    x : (B, D) array
        Observations.
    v : (P,) array
        The vector to multiply.
    weights : (B,) array, optional
        Weights of the rows.
    direction : {"old_new", "new_old"}
        Which policy the expectation is under.
    executor : concurrent.futures.Executor, optional
        Who computes the sum over rows; the result has the same bits for any.

    Returns
    -------
    (P,) array
        H v, undamped.

    Raises
    ------
    ValueError
        If a shape disagrees, the weights are not normalised, or the direction is unknown.

    References
    ----------
    [TRPO (57)]
    """
    name = "mean_kl_hessian_vector_product"
    theta_old, theta, x, w = _bind_pair(name, policy, theta_old, theta, x, weights, direction)
    (v,) = bind_shapes(name, policy.sizes, v=(v, "P"))
    return sum_over_parts(partial(_kl_hessian_product, theta_old, theta, v, direction), policy.parts(x, w), executor)


def _kl_hessian_product(
    theta_old: Array, theta: Array, v: Array, direction: str, policy: Policy, x: Array, w: Array
) -> Array:
    phi, change = networks.change_at(policy.network, theta_old, theta - theta_old, x)
    w = w[:, None]
    family = policy.family
    if direction == "old_new":
        slope, curvature = family.kl_gradient, family.kl_hessian_product
    else:
        slope, curvature = family.reverse_kl_gradient, family.reverse_kl_hessian_product

    at = networks.linearize_at(policy.network, theta, x)
    Jv = at.jvp(v)                                    # v → Jv        (P,) → (B, K)
    HJv = curvature(phi, change, Jv)                  # Jv → ∂²KL Jv  (B, K) → (B, K)
    gauss_newton = at.vjp(w * HJv)                    #               (B, K) → (P,)
    network_curvature = at.curvature_product(w * slope(phi, change), v)
    return gauss_newton + network_curvature


@finite_results
def fisher_vector_product(
    policy: Policy,
    theta: Any,
    x: Any,
    v: Any,
    *,
    damping: float = 0.0,
    weights: Any = None,
    executor: Executor | None = None,
) -> Array:
    """Multiply the mean Fisher matrix by a vector, without forming the matrix.

    ::

        (F + λI) v = Σ_b w_b J_bᵀ M_b J_b v + λ v

    One sweep forward (J v) and one backward (Jᵀ u): F is the Hessian of the mean KL at θ_old = θ, where the curvature
    of the network drops out, so no second derivative is needed.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ, where the metric is evaluated.
    x : (B, D) array
        Observations.
    v : (P,) array
        The vector to multiply.
    damping : float
        λ ≥ 0.
    weights : (B,) array, optional
        Weights of the rows; 1/B each unless given.
    executor : concurrent.futures.Executor, optional
        Who computes the sum over rows; the result has the same bits for any.

    Returns
    -------
    (P,) array
        (F + λI) v.

    Raises
    ------
    ValueError
        If a shape disagrees, the damping is negative or the weights are not normalised.

    Notes
    -----
    Convention: the expectation over actions is exact, not sampled, and all rows are used; the 10 % sub-sample of
    [TRPO App. C.1] is a speed-up, not part of F.  For several products at one θ use `fisher_operator`.

    References
    ----------
    [TRPO App. C.1], [TRPO (57)]

    Examples
    --------
    Two actions and a constant observation 0, so that only the biases matter and F is diag(p) − p pᵀ in their block:

    >>> import numpy as np
    >>> from refpg.policy import softmax_policy
    >>> v = np.array([0.0, 0.0, 1.0, 0.0])
    >>> fisher_vector_product(softmax_policy((1, 2)), np.zeros(4), np.zeros((1, 1)), v)
    array([ 0.  ,  0.  ,  0.25, -0.25])
    """
    theta, x, w = _bind("fisher_vector_product", policy, theta, x, weights)
    (v,) = bind_shapes("fisher_vector_product", policy.sizes, v=(v, "P"))
    damping = scalar("fisher_vector_product", "damping", damping, least=0)
    return sum_over_parts(partial(_fisher_product_at, theta, v), policy.parts(x, w), executor) + damping * v


def _fisher_product_at(theta: Array, v: Array, policy: Policy, x: Array, w: Array) -> Array:
    return _fisher_product(v, policy.family, networks.linearize_at(policy.network, theta, x), w)


def _fisher_product(v: Array, family: Family, at: Linearization, w: Array) -> Array:
    Jv = at.jvp(v)                                    # v → Jv         (P,) → (B, K)
    MJv = family.fisher_product(at.phi, Jv)           # Jv → MJv       (B, K) → (B, K)
    return at.vjp(w[:, None] * MJv)                   # MJv → JᵀMJv    (B, K) → (P,)


@finite_results
def fisher_operator(
    policy: Policy,
    theta: Any,
    x: Any,
    *,
    damping: float = 0.0,
    weights: Any = None,
    executor: Executor | None = None,
) -> LinearOperator:
    """Return F + λI as a SciPy operator that linearises the network once for all its products.

    Where B·K·P is small, products are Gᵀ(G v) with the rows G of `fisher_rows` formed once: the value is that of
    `fisher_vector_product` up to rounding, and two products with a matrix that stays in cache take a tenth of the time
    of the many small operations of a network.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ, where the metric is evaluated.
    x : (B, D) array
        Observations.
    damping : float
        λ ≥ 0.
    weights : (B,) array, optional
        Weights of the rows.
    executor : concurrent.futures.Executor, optional
        Who computes the products; the result has the same bits for any.  Threads share the linearised network,
        to processes it is sent with each product.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        Of shape (P, P), symmetric; ``operator @ v`` equals `fisher_vector_product`, and any of SciPy's
        solvers takes it.

    Raises
    ------
    ValueError
        If a shape disagrees, the damping is negative or the weights are not normalised.

    References
    ----------
    [TRPO App. C.1]
    """
    theta, x, w = _bind("fisher_operator", policy, theta, x, weights)
    damping = scalar("fisher_operator", "damping", damping, least=0)
    P = policy.network.num_parameters
    if len(x) * policy.network.num_outputs * P <= _MULTIPLIED:
        G = _rows(theta, policy, x, w)
        return _symmetric_operator(lambda v: (G @ v) @ G + damping * v, P, G.dtype)
    parts = [
        (part.family, networks.linearize_at(part.network, theta, part_x), part_w)
        for part, part_x, part_w in policy.parts(x, w)
    ]
    return _symmetric_operator(
        lambda v: sum_over_parts(partial(_fisher_product, v), parts, executor) + damping * v, P, parts[0][1].phi.dtype
    )


def _symmetric_operator(product: Callable[[Array], Array], P: int, dtype: Any) -> LinearOperator:
    def flat_product(v: Array) -> Array:
        with np.errstate(all="ignore"):          # solvers judge products by their result
            return product(np.reshape(v, P))

    return LinearOperator((P, P), matvec=flat_product, rmatvec=flat_product, dtype=dtype)


@finite_results
def fisher_rows(policy: Policy, theta: Any, x: Any, *, weights: Any = None) -> Array:
    """Return a square-root form of the Fisher matrix: rows G with F = GᵀG.

    ::

        G_b = √w_b R_b J_b          R_bᵀR_b = M_b

    Every exact natural gradient works on G: forming F = GᵀG squares the condition number, and that, not the solver,
    is where digits are lost.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    weights : (B,) array, optional
        Weights of the rows.

    Returns
    -------
    (B·K, P) array
        G, the K rows of each observation together.

    Raises
    ------
    ValueError
        If a shape disagrees or the weights are not normalised.

    References
    ----------
    [TRPO App. C.1]
    """
    theta, x, w = _bind("fisher_rows", policy, theta, x, weights)
    return _rows(theta, policy, x, w)


def _rows(theta: Array, policy: Policy, x: Array, w: Array) -> Array:
    at = networks.linearize_at(policy.network, theta, x)
    RJ = policy.family.fisher_root_product(at.phi, at.jacobian())
    return (np.sqrt(w)[:, None, None] * RJ).reshape(-1, policy.network.num_parameters)


def fisher_rows_operator(policy: Policy, theta: Any, x: Any, *, weights: Any = None) -> LinearOperator:
    """Return the rows G of `fisher_rows` as a SciPy operator: products with G and Gᵀ, no array of P columns.

    ::

        G v = √w R J v          Gᵀ u = Jᵀ Rᵀ √w u

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    weights : (B,) array, optional
        Weights of the rows.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        Of shape (B·K, P), real.

    Raises
    ------
    ValueError
        If a shape disagrees or the weights are not normalised.

    References
    ----------
    [TRPO App. C.1]
    """
    at = linearize("fisher_rows_operator", policy, theta, x)
    B, K = at.phi.shape
    root_weights = np.sqrt(row_weights("fisher_rows_operator", weights, at.phi))[:, None, None]
    every_unit_vector = np.broadcast_to(np.eye(K, dtype=at.phi.dtype), (B, K, K))
    R = root_weights * policy.family.fisher_root_product(at.phi, every_unit_vector)

    def product(v: Array) -> Array:
        Jv = at.jvp(np.ravel(v))
        return (R @ Jv[:, :, None]).ravel()

    def transposed_product(u: Array) -> Array:
        return at.vjp((np.reshape(u, (B, 1, K)) @ R)[:, 0])

    shape = (B * K, policy.network.num_parameters)
    return LinearOperator(shape, matvec=product, rmatvec=transposed_product, dtype=at.phi.dtype)


@finite_results
def fisher_matrix(
    policy: Policy, theta: Any, x: Any, *, weights: Any = None, executor: Executor | None = None
) -> Array:
    """Return the mean Fisher matrix of the policy's parameters, with the expectation over actions exact.

    ::

        F = Σ_b w_b J_bᵀ M_b J_b = GᵀG = E_s E_a[∇log π ∇log πᵀ]

    A small matrix is formed as GᵀG, the specification; a larger one, with the same value up to rounding, without J, as
    `refpg.network.gauss_newton_matrix` explains: K times fewer operations.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    weights : (B,) array, optional
        Weights of the rows.
    executor : concurrent.futures.Executor, optional
        Who computes the sum over rows; the result has the same bits for any.

    Returns
    -------
    (P, P) array
        Symmetric, positive semi-definite; undamped.

    Raises
    ------
    ValueError
        If a shape disagrees or the weights are not normalised.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    >>> import numpy as np
    >>> from refpg.policy import softmax_policy
    >>> fisher_matrix(softmax_policy((1, 2)), np.zeros(4), np.zeros((1, 1)))[2:, 2:]
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    theta, x, w = _bind("fisher_matrix", policy, theta, x, weights)
    if len(x) * policy.network.num_outputs * policy.network.num_parameters**2 <= _FORMED:
        G = fisher_rows(policy, theta, x, weights=w)
        return G.T @ G
    parts = policy.parts(x, w, length=_ROWS_PER_MATRIX)
    return unfolded(policy.network, sum_over_parts(partial(_folded_fisher, theta), parts, executor, parts_per_task=1))


def _folded_fisher(theta: Array, policy: Policy, x: Array, w: Array) -> Array:
    at = networks.linearize_at(policy.network, theta, x)
    return folded(at, _root_product(policy, at, w))


def _root_product(policy: Policy, at: Linearization, w: Array) -> RootProduct:
    """Return the product with √w R of some consecutive rows."""
    root_weights = np.sqrt(w)[:, None, None]

    def product(rows: slice, J: Array) -> Array:
        return root_weights[rows] * policy.family.rows(rows).fisher_root_product(at.phi[rows], J)

    return product


def _bind(function: str, policy: Policy, theta: Any, x: Any, weights: Any) -> tuple[Array, Array, Array]:
    """Check and return θ, the observations and the weights of the rows."""
    theta, x = bind_shapes(function, policy.sizes, theta=(theta, "P"), x=(x, "B D"))
    return theta, x, row_weights(function, weights, policy.check(function, theta, x))


def _bind_pair(
    function: str, policy: Policy, theta_old: Any, theta: Any, x: Any, weights: Any, direction: str
) -> tuple[Array, Array, Array, Array]:
    """Check and return θ_old, θ, the observations and the weights of the rows; and check the direction."""
    choice(function, "direction", direction, DIRECTIONS)
    (theta_old,) = bind_shapes(function, policy.sizes, theta_old=(theta_old, "P"))
    return theta_old, *_bind(function, policy, theta, x, weights)


@finite_results
def fisher_gram(policy: Policy, theta: Any, x: Any, *, weights: Any = None) -> Array:
    """Return the Gram matrix of the Fisher rows, G Gᵀ, without forming the Jacobian.

    ::

        (G Gᵀ)_bc = √w_b √w_c R_b (J_b J_cᵀ) R_cᵀ

    It has the same non-zero eigenvalues as F and is the smaller matrix when B·K < P: the dual form of the
    natural gradient.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    weights : (B,) array, optional
        Weights of the rows.

    Returns
    -------
    (B·K, B·K) array
        Symmetric, positive semi-definite, rows ordered as in `fisher_rows`.

    Raises
    ------
    ValueError
        If a shape disagrees or the weights are not normalised.

    References
    ----------
    [TRPO App. C.1]
    """
    theta, x, w = _bind("fisher_gram", policy, theta, x, weights)
    at = networks.linearize_at(policy.network, theta, x)
    rows = at.phi.size
    return gram_matrix(at, _root_product(policy, at, w)).reshape(rows, rows)


@finite_results
def sampled_fisher_matrix(
    policy: Policy, theta: Any, x: Any, generator: np.random.Generator, *, samples: int, weights: Any = None
) -> Array:
    """Estimate the Fisher matrix from scores at actions drawn from the policy itself.

    ::

        F̂ = (1/n) Σ_i Σ_b w_b ∇log π(a_bi|x_b) ∇log π(a_bi|x_b)ᵀ          a_bi ∼ π_θ(·|x_b)

    Unbiased for F; its standard error falls as 1/√n.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    generator : numpy.random.Generator
        The only source of randomness.
    samples : int
        Actions drawn per row, n ≥ 1.
    weights : (B,) array, optional
        Weights of the rows.

    Returns
    -------
    (P, P) array
        Symmetric, positive semi-definite.

    Raises
    ------
    ValueError
        If a shape disagrees, ``samples`` < 1 or the weights are not normalised.

    References
    ----------
    [TRPO App. C.1]
    """
    at = linearize("sampled_fisher_matrix", policy, theta, x)
    samples = count("sampled_fisher_matrix", "samples", samples)
    w = row_weights("sampled_fisher_matrix", weights, at.phi)
    jacobian = at.jacobian()
    total = np.zeros((policy.network.num_parameters,) * 2)
    for _ in range(samples):
        score_phi = policy.family.score(at.phi, policy.family.sample(at.phi, generator))
        score = np.sqrt(w)[:, None] * np.einsum("bk,bkp->bp", score_phi, jacobian)
        total += score.T @ score
    return total / samples


@finite_results
def empirical_fisher_matrix(policy: Policy, theta: Any, x: Any, action: Any, *, weights: Any = None) -> Array:
    """Return the *empirical* Fisher matrix: outer products of the scores at given actions.

    ::

        F_emp = Σ_b w_b ∇log π(a_b|x_b) ∇log π(a_b|x_b)ᵀ

    At actions drawn from π_θ it is a one-sample estimate of F; at any other actions it is another matrix, and not
    the Hessian of a KL divergence.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ.
    x : (B, D) array
        Observations.
    action : array
        One action per row.
    weights : (B,) array, optional
        Weights of the rows.

    Returns
    -------
    (P, P) array
        Symmetric, positive semi-definite, of rank at most B.

    Raises
    ------
    ValueError
        If a shape disagrees, an action is impossible or the weights are not normalised.

    References
    ----------
    [Martens section 11]
    """
    scores = log_prob_jacobian(policy, theta, x, action)
    w = row_weights("empirical_fisher_matrix", weights, scores)
    rows = np.sqrt(w)[:, None] * scores
    return rows.T @ rows
