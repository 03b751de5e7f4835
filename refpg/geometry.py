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

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from refpg.network import Linearization
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
from refpg.policy import Policy, linearize, log_prob_jacobian, parameters_and_change

DIRECTIONS = ("old_new", "new_old")


@finite_results
def mean_kl(
    policy: Policy, theta_old: Any, theta: Any, x: Any, *, weights: Any = None, direction: str = "old_new"
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
    choice("mean_kl", "direction", direction, DIRECTIONS)
    phi, change = parameters_and_change("mean_kl", policy, theta_old, theta, x)
    w = row_weights("mean_kl", weights, phi)
    if direction == "old_new":
        kl = policy.family.kl(phi, change)
    else:
        kl = policy.family.kl(phi + change, -change)
    return expectation(kl, w)


@finite_results
def mean_kl_gradient(
    policy: Policy, theta_old: Any, theta: Any, x: Any, *, weights: Any = None, direction: str = "old_new"
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
    choice("mean_kl_gradient", "direction", direction, DIRECTIONS)
    phi, change = parameters_and_change("mean_kl_gradient", policy, theta_old, theta, x)
    w = row_weights("mean_kl_gradient", weights, phi)
    family = policy.family
    slope = family.kl_gradient if direction == "old_new" else family.reverse_kl_gradient
    return linearize("mean_kl_gradient", policy, theta, x).vjp(w[:, None] * slope(phi, change))


@finite_results
def mean_kl_hessian_vector_product(
    policy: Policy, theta_old: Any, theta: Any, x: Any, v: Any, *, weights: Any = None, direction: str = "old_new"
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
    choice(name, "direction", direction, DIRECTIONS)
    phi, change = parameters_and_change(name, policy, theta_old, theta, x)
    (v,) = bind_shapes(name, policy.sizes, v=(v, "P"))
    w = row_weights(name, weights, phi)[:, None]
    family = policy.family
    if direction == "old_new":
        slope, curvature = family.kl_gradient, family.kl_hessian_product
    else:
        slope, curvature = family.reverse_kl_gradient, family.reverse_kl_hessian_product

    at = linearize(name, policy, theta, x)
    Jv = at.jvp(v)                                    # v → Jv        (P,) → (B, K)
    HJv = curvature(phi, change, Jv)                  # Jv → ∂²KL Jv  (B, K) → (B, K)
    gauss_newton = at.vjp(w * HJv)                    #               (B, K) → (P,)
    network_curvature = at.curvature_product(w * slope(phi, change), v)
    return gauss_newton + network_curvature


@finite_results
def fisher_vector_product(
    policy: Policy, theta: Any, x: Any, v: Any, *, damping: float = 0.0, weights: Any = None
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
    at = linearize("fisher_vector_product", policy, theta, x)
    (v,) = bind_shapes("fisher_vector_product", policy.sizes, v=(v, "P"))
    damping = scalar("fisher_vector_product", "damping", damping, least=0)
    w = row_weights("fisher_vector_product", weights, at.phi)
    return _fisher_product(policy, at, w, v, damping)


def _fisher_product(policy: Policy, at: Linearization, w: Array, v: Array, damping: float) -> Array:
    Jv = at.jvp(v)                                    # v → Jv         (P,) → (B, K)
    MJv = policy.family.fisher_product(at.phi, Jv)    # Jv → MJv       (B, K) → (B, K)
    JtMJv = at.vjp(w[:, None] * MJv)                  # MJv → JᵀMJv    (B, K) → (P,)
    return JtMJv + damping * v


def fisher_operator(
    policy: Policy, theta: Any, x: Any, *, damping: float = 0.0, weights: Any = None
) -> LinearOperator:
    """Return F + λI as a SciPy operator that linearises the network once for all its products.

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
    at = linearize("fisher_operator", policy, theta, x)
    damping = scalar("fisher_operator", "damping", damping, least=0)
    w = row_weights("fisher_operator", weights, at.phi)
    P = policy.network.num_parameters

    def product(v: Array) -> Array:
        return _fisher_product(policy, at, w, np.reshape(v, P), damping)

    return LinearOperator((P, P), matvec=product, rmatvec=product, dtype=at.phi.dtype)


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
    at = linearize("fisher_rows", policy, theta, x)
    root_weights = np.sqrt(row_weights("fisher_rows", weights, at.phi))
    RJ = policy.family.fisher_root_product(at.phi, at.jacobian())
    return (root_weights[:, None, None] * RJ).reshape(-1, policy.network.num_parameters)


@finite_results
def fisher_matrix(policy: Policy, theta: Any, x: Any, *, weights: Any = None) -> Array:
    """Return the mean Fisher matrix of the policy's parameters, with the expectation over actions exact.

    ::

        F = Σ_b w_b J_bᵀ M_b J_b = GᵀG = E_s E_a[∇log π ∇log πᵀ]

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
    G = fisher_rows(policy, theta, x, weights=weights)
    return G.T @ G


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
    at = linearize("fisher_gram", policy, theta, x)
    B, K = at.phi.shape
    root_weights = np.sqrt(row_weights("fisher_gram", weights, at.phi))[:, None, None]

    def rooted(rows: Array) -> Array:
        return root_weights * policy.family.fisher_root_product(at.phi, rows)

    left = rooted(at.gram().reshape(B, K, B * K)).reshape(B * K, B * K)       # G Jᵀ
    return rooted(left.T.reshape(B, K, B * K)).reshape(B * K, B * K)          # G Gᵀ, symmetric


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
