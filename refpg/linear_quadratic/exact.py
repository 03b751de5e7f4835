"""V, Q, A, visitation and η of a linear Gaussian policy, and what compares two of them.

With e = u + Kx, the action less its mean, and M = A − BK, values are quadratic and advantages are bilinear ::

    P = Q + KᵀRK + γ MᵀPM          G = R + γBᵀPB          E = G K − γBᵀPA
    V(x) = −(xᵀPx + c)             c = (tr GΣ + γ tr PW)/(1 − γ)
    Q(x,u) = V(x) + A(x,u)         A(x,u) = 2 eᵀE x − eᵀG e + tr GΣ

The constant c, the only part that grows with 1/(1 − γ), is not in the advantages: they keep their digits as γ → 1.
They are 0 on average, since E e = 0 and E eeᵀ = Σ.  The second moments of the state are the visitation's part in
every expectation of a quadratic ::

    X = Σ_t γᵗ E x_t x_tᵀ = S + mmᵀ + γ M X Mᵀ + γ/(1 − γ) (W + BΣBᵀ)
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgWarning, cholesky, solve_discrete_lyapunov, solve_triangular

from refpg.distributions.categorical import exponential_remainder
from refpg.linear_quadratic.model import LinearGaussianPolicy, LinearQuadratic, Unstable, closed_loop, definite
from refpg.mdp import PerformanceDifference
from refpg.notation import Array, Unrepresentable, bind_shapes, finite_results


class Evaluation(NamedTuple):
    """What a linear Gaussian policy is worth in a linear–quadratic problem.

    Fields: ``expected_return`` η; ``value_matrix`` P (D, D) and ``value_constant`` c of V(x) = −(xᵀPx + c);
    ``action_curvature`` G (A, A) and ``action_slope`` E (A, D) of A(x,u) = 2eᵀEx − eᵀGe + tr GΣ, e = u + Kx;
    ``visitation_moment`` X (D, D) = Σ_t γᵗ E x_t x_tᵀ, the second moment under the unnormalised visitation ρ of total
    mass 1/(1 − γ); ``visitation_distribution_moment`` (1 − γ)X (D, D), that under d = (1 − γ)ρ, and
    ``visitation_distribution_mean`` (D,), the mean of the state under d.
    """

    expected_return: float
    value_matrix: Array
    value_constant: float
    action_curvature: Array
    action_slope: Array
    visitation_moment: Array
    visitation_distribution_moment: Array
    visitation_distribution_mean: Array


def evaluate(problem: LinearQuadratic, policy: LinearGaussianPolicy) -> Evaluation:
    """Return the value function, the visitation's moments and the expected return, from two Lyapunov equations.

    ::

        P = Q + KᵀRK + γMᵀPM          X = S + mmᵀ + γ/(1 − γ) (W + BΣBᵀ) + γMXMᵀ          M = A − BK
        η = −(mᵀPm + tr PS + c) = −(tr (Q + KᵀRK)X + tr RΣ/(1 − γ))

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1.

    Returns
    -------
    Evaluation
        P, c, G, E and η in return units (per squared unit of what they multiply); X in squared units of the state.

    Raises
    ------
    Unstable
        A ValueError that names the spectral radius, if γρ² ≥ 1 or too near to it for float64.
    ValueError
        If the policy is not one of this problem, or a value overflows.

    Notes
    -----
    Convention: the reward is minus the cost, so η ≤ 0 is maximised; the cost of the start counts with weight 1.

    Accuracy: P and X have an error, relative to their largest entry, of a few units of rounding times
    κ = ‖(I − γM⊗M)⁻¹‖, which is 1/(1 − γρ²) if M is normal: half the digits are lost at 1 − γρ² = 1e-8, all at 1e-16.
    The rounding of A − BK alone changes P by that much, so no other way to solve the equations would do better.  E has
    the error of its terms GK and γBᵀPA, of which nothing is left near the optimum.  As γ → 1 with ρ < 1 nothing is
    lost: 1/(1 − γ) enters only as a factor of c and of X.

    Laws: V is the mean of Q over the policy's actions; both forms of η agree; V(x) = r + γ E V(x').

    References
    ----------
    [Fazel]

    Examples
    --------
    A state that the gain 1 holds at 3 costs 2·9 + 9 at every step; Σ γᵗ = 4/3:

    >>> from refpg.linear_quadratic import doubling
    >>> at = evaluate(doubling(), LinearGaussianPolicy([[1.0]], [[0.0]]))
    >>> at.expected_return, at.value_matrix.item(), at.visitation_moment.item()
    (-36.0, 4.0, 12.0)
    """
    return evaluated("evaluate", "policy", problem, policy)


def evaluated(function: str, name: str, problem: LinearQuadratic, policy: LinearGaussianPolicy) -> Evaluation:
    """Return what `evaluate` does, with messages that name the caller and its argument.

    Parameters
    ----------
    function, name : str
        The caller and the argument that is the policy.
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        The policy.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        As `evaluate` does.
    """
    A, B, Q, R = problem.state_matrix, problem.action_matrix, problem.state_cost, problem.action_cost
    W, m, S, gamma = problem.noise, problem.start_mean, problem.start_covariance, problem.discount
    K, Sigma = policy.gain, policy.covariance
    M = closed_loop(function, name, problem, policy)
    away = 1 - gamma
    with np.errstate(over="ignore", invalid="ignore"):
        P = _lyapunov(function, name, np.sqrt(gamma) * M.T, Q + K.T @ R @ K)
        X = _lyapunov(function, name, np.sqrt(gamma) * M, S + np.outer(m, m) + gamma / away * (W + B @ Sigma @ B.T))
        G = R + gamma * B.T @ P @ B
        E = G @ K - gamma * B.T @ P @ A
        c = float((np.sum(G * Sigma) + gamma * np.sum(P * W)) / away)
        eta = -float(m @ P @ m + np.sum(P * S) + c)
        mean = away * np.linalg.solve(np.eye(len(M)) - gamma * M, m)
    if not (np.isfinite(eta) and np.isfinite(E).all() and np.isfinite(X).all()):
        raise Unrepresentable(f"{function}: a value overflows, expected matrices of smaller magnitude")
    return Evaluation(eta, P, c, G, E, X, away * X, mean)


def _lyapunov(function: str, name: str, a: Array, q: Array) -> Array:
    """Return Y = a Y aᵀ + q, symmetric."""
    if not np.isfinite(q).all():
        raise Unrepresentable(f"{function}: a value overflows, expected matrices of smaller magnitude")
    with warnings.catch_warnings():
        warnings.simplefilter("error", LinAlgWarning)
        try:
            Y = solve_discrete_lyapunov(a, q)
        except (np.linalg.LinAlgError, LinAlgWarning):
            raise Unstable(
                f"{function}: {name} has γρ(A − BK)² too near to 1: the Lyapunov equation is singular in float64"
            ) from None
    return (Y + Y.T) / 2


# ── values, state by state ───────────────────────────────────────────────────────────────────────


@finite_results
def values(problem: LinearQuadratic, policy: LinearGaussianPolicy, x: Any) -> Array:
    """Return V of each row, the expected discounted return from a state.

    ::

        V(x) = −(xᵀPx + c)

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1.
    x : (B, D) array
        States.

    Returns
    -------
    (B,) array
        Return units, ≤ 0.

    Raises
    ------
    ValueError
        If a shape disagrees, or the policy is unstable.

    References
    ----------
    [TRPO section 2], [Fazel]
    """
    at = evaluated("values", "policy", problem, policy)
    (x,) = bind_shapes("values", problem.sizes, x=(x, "B D"))
    return -(_form(at.value_matrix, x) + at.value_constant)


@finite_results
def action_values(problem: LinearQuadratic, policy: LinearGaussianPolicy, x: Any, action: Any) -> Array:
    """Return Q of each row, the expected discounted return of an action in a state.

    ::

        Q(x,u) = −(xᵀQx + uᵀRu + γ (yᵀPy + tr PW + c))          y = Ax + Bu

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1.
    x : (B, D) array
        States.
    action : (B, A) array
        Actions u.

    Returns
    -------
    (B,) array
        Return units, ≤ 0.

    Raises
    ------
    ValueError
        If a shape disagrees, or the policy is unstable.

    References
    ----------
    [TRPO section 2]
    """
    at = evaluated("action_values", "policy", problem, policy)
    x, u = bind_shapes("action_values", problem.sizes, x=(x, "B D"), action=(action, "B A"))
    y = x @ problem.state_matrix.T + u @ problem.action_matrix.T
    later = _form(at.value_matrix, y) + np.sum(at.value_matrix * problem.noise) + at.value_constant
    return -(_form(problem.state_cost, x) + _form(problem.action_cost, u) + problem.discount * later)


@finite_results
def advantages(problem: LinearQuadratic, policy: LinearGaussianPolicy, x: Any, action: Any) -> Array:
    """Return A of each row, how much better an action is than the policy's average one.

    ::

        A(x,u) = 2 eᵀE x − eᵀG e + tr GΣ          e = u + Kx

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    policy : LinearGaussianPolicy
        With γρ(A − BK)² < 1.
    x : (B, D) array
        States.
    action : (B, A) array
        Actions u.

    Returns
    -------
    (B,) array
        Return units.  Unbounded, so ε = max |A| of the bounds of `refpg.bounds` is infinite.

    Raises
    ------
    ValueError
        If a shape disagrees, or the policy is unstable.

    Notes
    -----
    It is Q − V without the subtraction: nothing of the size of V, or of 1/(1 − γ), enters.

    References
    ----------
    [TRPO section 2]
    """
    at = evaluated("advantages", "policy", problem, policy)
    x, u = bind_shapes("advantages", problem.sizes, x=(x, "B D"), action=(action, "B A"))
    e = u + x @ policy.gain.T
    slope = 2 * np.sum(e * (x @ at.action_slope.T), axis=1)
    return slope - _form(at.action_curvature, e) + np.sum(at.action_curvature * policy.covariance)


def _form(matrix: Array, rows: Array) -> Array:
    """Return yᵀ X y of each row y."""
    return np.sum(rows @ matrix * rows, axis=1)


# ── two policies ─────────────────────────────────────────────────────────────────────────────────


@finite_results
def expected_advantages(
    problem: LinearQuadratic, old: LinearGaussianPolicy, new: LinearGaussianPolicy, x: Any
) -> Array:
    """Return the expected advantage, over the old policy, of acting by the new one once, in each state.

    ::

        Ā(x) = E_{u∼π'} A_π(x,u) = −xᵀ(2ΔᵀE + ΔᵀGΔ)x − tr G(Σ' − Σ)          Δ = K' − K

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    old, new : LinearGaussianPolicy
        π and π'; only the old one need be stable.
    x : (B, D) array
        States.

    Returns
    -------
    (B,) array
        Return units; exactly 0 where the policies agree.

    Raises
    ------
    ValueError
        If a shape disagrees, or the old policy is unstable.

    References
    ----------
    [TRPO (3)], [KL02 section 4]
    """
    at = evaluated("expected_advantages", "old", problem, old)
    (x,) = bind_shapes("expected_advantages", problem.sizes, x=(x, "B D"))
    form, constant = _expected_advantage(problem, "expected_advantages", at, old, new)
    return _form(form, x) + constant


def _expected_advantage(
    problem: LinearQuadratic, function: str, at: Evaluation, old: LinearGaussianPolicy, new: LinearGaussianPolicy
) -> tuple[Array, float]:
    """Return the matrix and the constant of Ā(x) = xᵀHx + h."""
    bind_shapes(function, problem.sizes, **{"new.gain": (new.gain, "A D")})
    Delta = new.gain - old.gain
    H = -Delta.T @ (2 * at.action_slope + at.action_curvature @ Delta)
    h = -float(np.sum(at.action_curvature * (new.covariance - old.covariance)))
    return H, h


@finite_results
def performance_difference(
    problem: LinearQuadratic, old: LinearGaussianPolicy, new: LinearGaussianPolicy
) -> PerformanceDifference:
    """Return both sides of the performance difference identity.

    ::

        η(π') − η(π) = ∫ρ_π'(dx) E_{u∼π'} A_π(x,u) = −tr (2ΔᵀE + ΔᵀGΔ)X' − tr G(Σ' − Σ)/(1 − γ)

    X' is the visitation's second moment of the *new* policy, E and G are of the old one.

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    old, new : LinearGaussianPolicy
        π and π', both with γρ(A − BK)² < 1.

    Returns
    -------
    PerformanceDifference
        The record of `refpg.mdp`.

    Raises
    ------
    ValueError
        If a policy is not one of this problem, or unstable.

    References
    ----------
    [TRPO (1)–(2)], [KL02 Lemma 6.1]

    Examples
    --------
    >>> from refpg.linear_quadratic import doubling
    >>> one, two = LinearGaussianPolicy([[1.0]], [[0.0]]), LinearGaussianPolicy([[2.0]], [[0.0]])
    >>> performance_difference(doubling(), one, two)
    PerformanceDifference(return_difference=-18.0, advantage_sum=-18.0)
    """
    name = "performance_difference"
    before, after = evaluated(name, "old", problem, old), evaluated(name, "new", problem, new)
    return PerformanceDifference(
        return_difference=after.expected_return - before.expected_return,
        advantage_sum=_visited(problem, name, before, after.visitation_moment, old, new),
    )


@finite_results
def local_approximation(problem: LinearQuadratic, old: LinearGaussianPolicy, new: LinearGaussianPolicy) -> float:
    """Return L, the expected return of the new policy if it were visited where the old one is.

    ::

        L_π(π') = η(π) + ∫ρ_π(dx) E_{u∼π'} A_π(x,u) = η(π) − tr (2ΔᵀE + ΔᵀGΔ)X − tr G(Σ' − Σ)/(1 − γ)

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    old, new : LinearGaussianPolicy
        π and π'; only the old one need be stable: L is a concave quadratic of K' and does not see that η(π') = −∞.

    Returns
    -------
    float
        Return units.  L_π(π) = η(π), and L_π and η have the same gradient at π.

    Raises
    ------
    ValueError
        If a policy is not one of this problem, or the old one is unstable.

    Notes
    -----
    Convention: unnormalised visitation ρ, as `refpg.mdp.local_approximation`.

    References
    ----------
    [TRPO (3)], [TRPO (4)]
    """
    name = "local_approximation"
    at = evaluated(name, "old", problem, old)
    return at.expected_return + _visited(problem, name, at, at.visitation_moment, old, new)


def _visited(
    problem: LinearQuadratic,
    function: str,
    at: Evaluation,
    X: Array,
    old: LinearGaussianPolicy,
    new: LinearGaussianPolicy,
) -> float:
    """Return ∫ρ(dx) Ā(x) for a visitation of total mass 1/(1 − γ) and second moment X."""
    H, h = _expected_advantage(problem, function, at, old, new)
    return float(np.sum(H * X) + h / (1 - problem.discount))


@finite_results
def kl(old: LinearGaussianPolicy, new: LinearGaussianPolicy, x: Any) -> Array:
    """Return KL(old ‖ new) between the two action distributions of each state.

    ::

        KL(x) = ½ [Σ_i ϕ(log λ_i) + xᵀΔᵀΣ'⁻¹Δx]          Δ = K' − K,  ϕ(y) = eʸ − 1 − y

    with λ_i the eigenvalues of Σ'⁻¹Σ; Σ ϕ(log λ_i) is the usual tr Σ'⁻¹Σ − A − log det Σ'⁻¹Σ, of which nothing cancels.

    Parameters
    ----------
    old, new : LinearGaussianPolicy
        π and π', with positive definite Σ.
    x : (B, D) array
        States.

    Returns
    -------
    (B,) array
        Nats.

    Raises
    ------
    ValueError
        If a shape disagrees, or a covariance is singular.

    Notes
    -----
    The largest KL over all states is infinite unless K' = K: the article's M, L − C max KL, is −∞ for every change of
    the gain.  Here only the mean KL is a trust region.

    References
    ----------
    [TRPO (12)]

    Examples
    --------
    >>> unit = [[1.0]]
    >>> kl(LinearGaussianPolicy([[0.0]], unit), LinearGaussianPolicy([[0.5]], unit), [[0.0], [2.0], [200.0]])
    array([0.e+00, 5.e-01, 5.e+03])
    """
    spread, slope = _divergence("kl", old, new)
    (x,) = bind_shapes("kl", {"D": slope.shape[1]}, x=(x, "B D"))
    return spread + np.sum((x @ slope.T) ** 2, axis=1) / 2


@finite_results
def mean_kl(problem: LinearQuadratic, old: LinearGaussianPolicy, new: LinearGaussianPolicy) -> float:
    """Return KL(old ‖ new) averaged over the states that the old policy visits.

    ::

        E_{x∼d_π} KL(x) = ½ [Σ_i ϕ(log λ_i) + tr Σ'⁻¹Δ (1 − γ)X Δᵀ]

    Parameters
    ----------
    problem : LinearQuadratic
        The problem.
    old, new : LinearGaussianPolicy
        π, with γρ(A − BK)² < 1, and π'; both with positive definite Σ.

    Returns
    -------
    float
        Nats, ≥ 0.

    Raises
    ------
    ValueError
        If a policy is not one of this problem, the old one is unstable or a covariance is singular.

    Notes
    -----
    Convention: the normalised visitation d_π = (1 − γ)ρ_π.  To second order it is ½sᵀFs with `fisher_matrix`.

    References
    ----------
    [TRPO (12)]
    """
    at = evaluated("mean_kl", "old", problem, old)
    bind_shapes("mean_kl", problem.sizes, **{"new.gain": (new.gain, "A D")})
    spread, slope = _divergence("mean_kl", old, new)
    return spread + float(np.sum(_form(at.visitation_distribution_moment, slope))) / 2


def _divergence(function: str, old: LinearGaussianPolicy, new: LinearGaussianPolicy) -> tuple[float, Array]:
    """Return the constant ½ Σ ϕ(log λ_i) and the matrix L'⁻¹Δ of KL(old ‖ new), Σ' = L'L'ᵀ."""
    gains = {"old.gain": (old.gain, "A D"), "new.gain": (new.gain, "A D")}
    bind_shapes(function, {}, **gains)
    old_root = cholesky(definite(function, "old.covariance", old.covariance), lower=True)
    new_root = cholesky(definite(function, "new.covariance", new.covariance), lower=True)
    slope = solve_triangular(new_root, new.gain - old.gain, lower=True)
    return _spread(old.covariance - new.covariance, old_root, new_root), slope


def _spread(difference: Array, old_root: Array, new_root: Array) -> float:
    """Return ½ (tr Σ'⁻¹Σ − A − log det Σ'⁻¹Σ) as a sum of non-negative terms.

    With C = L'⁻¹L, Σ = LLᵀ, it is ½ Σ_i ϕ(2 log C_ii) + ½ Σ_{i>j} C_ij².  Near C = I the logarithm has lost its digits;
    there the eigenvalues of L'⁻¹(Σ − Σ')L'⁻ᵀ are λ − 1, of a difference that is exact.
    """
    C = solve_triangular(new_root, old_root, lower=True)
    if abs(C - np.eye(len(C))).max() > 0.25 / len(C):
        return float(np.sum(exponential_remainder(2 * np.log(np.diag(C)))) + np.sum(np.tril(C, -1) ** 2)) / 2
    whitened = solve_triangular(new_root, difference, lower=True)
    away = np.linalg.eigvalsh(solve_triangular(new_root, whitened.T, lower=True))
    return float(np.sum(exponential_remainder(np.log1p(away)))) / 2
