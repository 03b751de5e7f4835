"""Linear–quadratic–Gaussian control: against sums over time at 60 digits, quadrature, networks, samples and laws.

Tolerances: U is the unit roundoff.  A Lyapunov equation has the condition number κ = ‖(I − γM⊗M)⁻¹‖, and what is
solved here is solved to 20 κ U of the largest entry (8 κ U is the worst that was seen); products of a few matrices on
top of it, and the sums of a test's own second route, are covered by 200 κ U of the size of what is summed.
"""

import dataclasses
import itertools
from typing import NamedTuple

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refpg import estimation, geometry, surrogate, updates
from refpg import linear_quadratic as lq
from refpg.linear_quadratic import LinearGaussianPolicy, LinearQuadratic
from refpg.network import flatten
from refpg.notation import Unrepresentable
from refpg.policy import Batch, gaussian_policy, log_prob, log_prob_jacobian

U = np.finfo(float).eps / 2
SHAPES = ((1, 1), (2, 1), (3, 2), (4, 3), (11, 2))


class World(NamedTuple):
    """A problem with two stable policies."""

    problem: LinearQuadratic
    old: LinearGaussianPolicy
    new: LinearGaussianPolicy


def covariance(generator, n, diagonal=False):
    G = generator.normal(size=(n, n + 1))
    return np.diag((G * G).mean(axis=1)) if diagonal else G @ G.T / n


def world(states=3, actions=2, discount=0.9, seed=0, diagonal=False):
    generator = np.random.default_rng([states, actions, seed])
    problem = lq.random_problem(generator, states=states, actions=actions, discount=discount, growth=0.7)
    stable = []
    while len(stable) < 2:
        gain = 0.15 * generator.normal(size=(actions, states))
        policy = LinearGaussianPolicy(gain, covariance(generator, actions, diagonal))
        if np.sqrt(discount) * abs(np.linalg.eigvals(closed(problem, policy))).max() < 0.95:
            stable.append(policy)
    return World(problem, *stable)


def closed(problem, policy):
    return problem.state_matrix - problem.action_matrix @ policy.gain


def condition(problem, *policies):
    """κ, the largest of the policies'."""
    D = len(problem.start_mean)
    products = [problem.discount * np.kron(M, M) for M in (closed(problem, policy) for policy in policies)]
    return max(np.linalg.norm(np.linalg.inv(np.eye(D * D) - product), 2) for product in products)


def complex_step(function, at):
    """The gradient of a real-analytic function: no difference is taken, so it is exact to rounding."""
    at = np.asarray(at, float)
    flat = [
        np.imag(function(at + 1e-60j * np.eye(at.size)[i].reshape(at.shape))) / 1e-60 for i in range(at.size)
    ]
    return np.reshape(flat, at.shape)


def near(got, want, tol):
    """Equal to within ``tol`` of the largest entry wanted."""
    np.testing.assert_allclose(got, want, rtol=0, atol=tol * np.max(np.abs(want)))


# ── against sums over time, at 60 digits ─────────────────────────────────────────────────────────


class Exact(NamedTuple):
    """η, P, c, X and E, as matrices of 60 digits."""

    expected_return: mp.mpf
    P: mp.matrix
    c: mp.mpf
    X: mp.matrix
    E: mp.matrix
    G: mp.matrix


def trace(matrix):
    return sum(matrix[i, i] for i in range(matrix.rows))


def summed_over_time(a, q):
    """Σ_t aᵗ q (aᵗ)ᵀ: the first 2ⁿ⁺¹ terms are the first 2ⁿ, and the same 2ⁿ steps later."""
    total = q
    while mp.mnorm(a, "f") > mp.mpf(10) ** -70:
        total = total + a * total * a.T
        a = a * a
    return total


def exact(problem, policy):
    with mp.workdps(60):
        A, B, Q, R = (
            mp.matrix(array.tolist())
            for array in (problem.state_matrix, problem.action_matrix, problem.state_cost, problem.action_cost)
        )
        W, S = mp.matrix(problem.noise.tolist()), mp.matrix(problem.start_covariance.tolist())
        m, gamma = mp.matrix(problem.start_mean.tolist()), mp.mpf(problem.discount)
        K, Sigma = mp.matrix(policy.gain.tolist()), mp.matrix(policy.covariance.tolist())
        M, root, away = A - B * K, mp.sqrt(gamma), 1 - gamma
        cost = Q + K.T * R * K
        P = summed_over_time(root * M.T, cost)
        X = summed_over_time(root * M, S + m * m.T + gamma / away * (W + B * Sigma * B.T))
        # Value, once from every state, and once as the costs of all states visited: two routes in themselves.
        c = (trace(R * Sigma) + gamma * trace(P * (W + B * Sigma * B.T))) / away
        eta = -((m.T * P * m)[0] + trace(P * S) + c)
        visited = -(trace(cost * X) + trace(R * Sigma) / away)
        assert abs(eta - visited) <= mp.mpf(10) ** -40 * abs(eta)
        G = R + gamma * B.T * P * B
        return Exact(eta, P, c, X, G * K - gamma * B.T * P * A, G)


def off(got, want):
    """The largest error, relative to the largest entry."""
    got, want = np.atleast_2d(got), mp.matrix(want) if not isinstance(want, mp.matrix) else want
    places = list(itertools.product(range(want.rows), range(want.cols)))
    with mp.workdps(60):
        error = max(abs(mp.mpf(float(got[place])) - want[place]) for place in places)
        return float(error / max(abs(want[place]) for place in places))


@pytest.mark.parametrize("discount", [0.1, 0.9, 1 - 1e-12])
@pytest.mark.parametrize("shape", SHAPES[:4])
def test_evaluate_is_the_sum_over_time(shape, discount):
    problem, policy, _ = world(*shape, discount=discount)
    truth, got = exact(problem, policy), lq.evaluate(problem, policy)
    tol = 20 * condition(problem, policy) * U
    assert off(got.value_matrix, truth.P) <= tol
    assert off(got.value_constant, [truth.c]) <= 2 * tol
    assert off(got.expected_return, [truth.expected_return]) <= 2 * tol
    assert off(got.visitation_moment, truth.X) <= tol
    assert off(got.visitation_distribution_moment, truth.X * (1 - mp.mpf(discount))) <= tol
    assert off(got.action_curvature, truth.G) <= 2 * tol
    # E is a difference: its error is that of GK.
    gains = np.linalg.norm(policy.gain) + np.linalg.norm(problem.state_matrix)
    size = np.linalg.norm(got.action_curvature) * (1 + gains)
    assert off(got.action_slope, truth.E) * np.abs(got.action_slope).max() <= 2 * tol * size


@pytest.mark.parametrize("gap", [1e-2, 1e-5, 1e-8, 1e-11])
def test_what_is_lost_near_the_border_of_stability(gap):
    """A normal M with γρ² = 1 − gap: κ is 1/gap, and the error follows it but not more."""
    problem, policy, _ = world(3, 2)
    V = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    free = V @ np.diag([1, -0.5, 0.25]) @ V.T * np.sqrt((1 - gap) / problem.discount)
    problem = dataclasses.replace(problem, state_matrix=free)
    policy = LinearGaussianPolicy(np.zeros((2, 3)), policy.covariance)
    truth, got = exact(problem, policy), lq.evaluate(problem, policy)
    assert 0.5 < condition(problem, policy) * gap < 2
    assert off(got.value_matrix, truth.P) <= 20 * U / gap
    assert off(got.visitation_moment, truth.X) <= 20 * U / gap


def test_where_the_linear_equations_are_singular_in_float64_the_policy_is_refused():
    """γρ² = 1 − 2⁻⁵⁰ and a coupling of 1e3, so that κ is beyond 1e50."""
    near_two = 2 - 2.0**-50
    problem = dataclasses.replace(
        world(2, 1, discount=0.25).problem, state_matrix=np.array([[near_two, 1e3], [0.0, near_two]])
    )
    with pytest.raises(lq.Unstable, match="^evaluate: policy has γρ.* too near to 1: the Lyapunov equation"):
        lq.evaluate(problem, LinearGaussianPolicy([[0.0, 0.0]], [[0.0]]))


# ── one dimension, by quadrature ─────────────────────────────────────────────────────────────────


def test_one_dimension_is_a_markov_chain_on_a_grid():
    """Trapezoidal quadrature of a Gaussian kernel is a finite chain; its linear equations know no Lyapunov equation.

    The rule is exact to exp(−2π²σ²/h²), far below U, and a state within ±5 reaches ±14 with a chance far below U.
    """
    gamma, a, b, q, r, w, m, s = 0.8, 1.1, 0.5, 1.3, 0.7, 0.6, 0.4, 0.5
    k, sigma2 = 1.2, 0.9
    problem = LinearQuadratic([[a]], [[b]], [[q]], [[r]], [[w]], [m], [[s]], gamma)
    policy = LinearGaussianPolicy([[k]], [[sigma2]])
    x, h = np.linspace(-14, 14, 281, retstep=True)

    def density(y, mean, variance):
        return np.exp(-((y - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    chain = h * density(x[None, :], (a - b * k) * x[:, None], w + b * b * sigma2)
    reward = -(q * x * x + r * (k * k * x * x + sigma2))
    start = h * density(x, m, s)
    V = np.linalg.solve(np.eye(len(x)) - gamma * chain, reward)
    rho = np.linalg.solve(np.eye(len(x)) - gamma * chain.T, start)

    at = lq.evaluate(problem, policy)
    inner = abs(x) < 5
    near(lq.values(problem, policy, x[inner, None]), V[inner], 1e-12)
    near(at.expected_return, start @ V, 1e-12)
    near(at.visitation_moment, [[rho @ (x * x)]], 1e-12)
    near(at.visitation_distribution_mean, [(1 - gamma) * rho @ x], 1e-12)
    # Q and A: one action, then the chain.
    u = np.array([-1.5, 0.3, 2.0])
    places = np.array([130, 145, 160])
    points = x[places]
    later = np.array([h * density(x, a * y + b * v, w) @ V for y, v in zip(points, u, strict=True)])
    Q = -(q * points**2 + r * u**2) + gamma * later
    near(lq.action_values(problem, policy, points[:, None], u[:, None]), Q, 1e-12)
    near(lq.advantages(problem, policy, points[:, None], u[:, None]), Q - V[places], 1e-11)


# ── laws of the values ───────────────────────────────────────────────────────────────────────────


def hermite(dimensions, nodes=3):
    """Points and weights that average polynomials of degree 2·nodes − 1 over N(0, I) exactly."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.array(list(itertools.product(points, repeat=dimensions)))
    return grid, np.prod(list(itertools.product(weights / weights.sum(), repeat=dimensions)), axis=1)


worlds = st.builds(
    world,
    states=st.integers(1, 5),
    actions=st.integers(1, 3),
    discount=st.sampled_from([0.01, 0.5, 0.9, 0.999]),
    seed=st.integers(0, 10**6),
)


@given(worlds)
def test_the_bellman_equations(drawn):
    """V(x) = E_u Q(x,u),  Q(x,u) = r + γ E V(x'),  E_u A = 0, with the expectations by Gauss–Hermite quadrature."""
    problem, policy, _ = drawn
    D, A = problem.action_matrix.shape
    generator = np.random.default_rng(0)
    z, weights = hermite(A)
    e = z @ np.linalg.cholesky(policy.covariance).T
    tol = 200 * condition(problem, policy) * U
    for x in generator.normal(size=(3, D)):
        rows = np.tile(x, (len(e), 1))
        u = e - policy.gain @ x
        Q = lq.action_values(problem, policy, rows, u)
        advantages = lq.advantages(problem, policy, rows, u)
        (V,) = lq.values(problem, policy, x[None])
        near(weights @ Q, V, tol)
        assert abs(weights @ advantages) <= tol * abs(advantages).max()
        near(Q - V, advantages, tol * abs(V) / abs(advantages).max() + tol)
        # One action, all the noise.
        z_w, weights_w = hermite(D, nodes=2)
        after = problem.state_matrix @ x + problem.action_matrix @ u[0] + z_w @ np.linalg.cholesky(problem.noise).T
        reward = -(x @ problem.state_cost @ x + u[0] @ problem.action_cost @ u[0])
        near(Q[0], reward + problem.discount * weights_w @ lq.values(problem, policy, after), tol)


@given(worlds)
def test_the_return_is_the_cost_of_the_states_visited(drawn):
    problem, policy, _ = drawn
    at = lq.evaluate(problem, policy)
    cost = problem.state_cost + policy.gain.T @ problem.action_cost @ policy.gain
    action_noise = np.sum(problem.action_cost * policy.covariance) / (1 - problem.discount)
    total = np.sum(cost * at.visitation_moment) + action_noise
    near(at.expected_return, -total, 200 * condition(problem, policy) * U)


@given(worlds)
def test_the_performance_difference(drawn):
    problem, old, new = drawn
    left, right = lq.performance_difference(problem, old, new)
    size = abs(lq.evaluate(problem, old).expected_return) + abs(lq.evaluate(problem, new).expected_return)
    assert abs(left - right) <= 200 * condition(problem, old, new) ** 2 * U * size
    assert lq.performance_difference(problem, old, old) == (0.0, 0.0)
    # The right side is the mean of the expected advantages over the new policy's states.
    states, weights = lq.visitation_rule(problem, new)
    mean = weights @ lq.expected_advantages(problem, old, new, states) / (1 - problem.discount)
    assert abs(mean - right) <= 200 * condition(problem, old, new) ** 2 * U * size


def test_the_performance_difference_keeps_its_digits_where_the_returns_agree():
    problem, old, _ = world(discount=1 - 1e-9)
    new = LinearGaussianPolicy(old.gain * (1 + 2.0**-25), old.covariance)
    with mp.workdps(60):
        truth = exact(problem, new).expected_return - exact(problem, old).expected_return
    left, right = lq.performance_difference(problem, old, new)
    tol = 200 * condition(problem, old) ** 2 * U
    assert abs(right / truth - 1) <= tol < 1e-9
    assert abs(left / truth - 1) > tol


@given(worlds)
def test_the_local_approximation_touches_the_return(drawn):
    """Equal at π, equal in slope: η − L falls as the square of the step in every direction."""
    problem, old, new = drawn
    at = lq.evaluate(problem, old)
    assert lq.local_approximation(problem, old, old) == at.expected_return

    def between(t):
        return LinearGaussianPolicy(
            old.gain + t * (new.gain - old.gain), old.covariance + t * (new.covariance - old.covariance)
        )

    # η − L by the exact right side of the performance difference, so that nothing cancels.
    gaps = []
    for t in (2.0**-8, 2.0**-9):
        gain = lq.performance_difference(problem, old, between(t)).advantage_sum
        gaps.append(gain - (lq.local_approximation(problem, old, between(t)) - at.expected_return))
    noise = 1e3 * U * abs(at.expected_return) * condition(problem, old)
    assert abs(gaps[0]) <= noise or abs(gaps[0] / gaps[1] / 4 - 1) <= 0.2 + 4 * noise / abs(gaps[0])


def test_the_local_approximation_does_not_see_instability():
    """Without control η is −∞; L goes on as the quadratic it is."""
    two, none = LinearGaussianPolicy([[2.0]], [[0.0]]), LinearGaussianPolicy([[0.0]], [[0.0]])
    with pytest.raises(lq.Unstable, match="^performance_difference: new has the spectral radius"):
        lq.performance_difference(lq.doubling(), two, none)
    # E = 2, G = 2.5 and X = 9 at the gain 2: −54 − (2·2·(−2) + 2.5·4)·9.
    assert lq.local_approximation(lq.doubling(), two, none) == pytest.approx(-72, rel=10 * U)


def test_values_by_hand():
    problem, policy = lq.doubling(), LinearGaussianPolicy([[1.5]], [[0.0]])
    # M = ½: P = 2 + 1.5² + P/16.
    assert lq.evaluate(problem, policy).value_matrix.item() == pytest.approx(4.25 / (1 - 1 / 16), rel=4 * U)
    instant = dataclasses.replace(problem, discount=0.0)
    at = lq.evaluate(instant, LinearGaussianPolicy([[5.0]], [[7.0]]))
    assert at.expected_return == -(9 * 2 + 25 * 9 + 7)
    assert at.visitation_moment.item() == at.visitation_distribution_moment.item() == 9
    assert at.visitation_distribution_mean.item() == 3


def test_costs_scale_every_value_exactly():
    problem, policy, _ = world(4, 3)
    doubled = dataclasses.replace(problem, state_cost=2 * problem.state_cost, action_cost=2 * problem.action_cost)
    at, twice = lq.evaluate(problem, policy), lq.evaluate(doubled, policy)
    for field in ("expected_return", "value_matrix", "value_constant", "action_curvature", "action_slope"):
        np.testing.assert_array_equal(getattr(twice, field), 2 * np.asarray(getattr(at, field)))
    np.testing.assert_array_equal(twice.visitation_moment, at.visitation_moment)


def test_the_units_of_the_state_do_not_matter():
    """In y = Tx the return, the KL and the natural gradient's effect on the action, s x, are the same."""
    problem, old, new = world(3, 2)
    T = np.random.default_rng(5).normal(size=(3, 3))
    back = np.linalg.inv(T)
    other = dataclasses.replace(
        problem,
        state_matrix=T @ problem.state_matrix @ back,
        action_matrix=T @ problem.action_matrix,
        state_cost=back.T @ problem.state_cost @ back,
        noise=T @ problem.noise @ T.T,
        start_mean=T @ problem.start_mean,
        start_covariance=T @ problem.start_covariance @ T.T,
    )
    there = [LinearGaussianPolicy(policy.gain @ back, policy.covariance) for policy in (old, new)]
    tol = 200 * condition(other, there[0]) * np.linalg.cond(T) ** 2 * U
    near(lq.evaluate(other, there[0]).expected_return, lq.evaluate(problem, old).expected_return, tol)
    near(lq.mean_kl(other, *there), lq.mean_kl(problem, old, new), tol)
    near(lq.natural_gradient(other, there[0]).gain @ T, lq.natural_gradient(problem, old).gain, tol)


# ── KL ───────────────────────────────────────────────────────────────────────────────────────────


def textbook_kl(old, new, x):
    """½ [tr Σ'⁻¹Σ − A + log det Σ' − log det Σ + dᵀΣ'⁻¹d] at 60 digits."""
    with mp.workdps(60):
        Sigma, Sigma_new = mp.matrix(old.covariance.tolist()), mp.matrix(new.covariance.tolist())
        d = (mp.matrix(new.gain.tolist()) - mp.matrix(old.gain.tolist())) * mp.matrix(x.tolist())
        inverse = Sigma_new**-1
        spread = trace(inverse * Sigma) - Sigma.rows + mp.log(mp.det(Sigma_new) / mp.det(Sigma))
        return (spread + (d.T * inverse * d)[0]) / 2


@pytest.mark.parametrize("size", [3.0, 0.3, 1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("actions", [1, 2, 3])
def test_kl_keeps_its_digits(actions, size):
    _, old, other = world(3, actions)
    step = size * np.diag(np.diag(other.covariance)) + size * 0.1 * other.covariance
    for new in (
        LinearGaussianPolicy(old.gain + size * other.gain, old.covariance + step),
        LinearGaussianPolicy(old.gain, old.covariance + step),
        LinearGaussianPolicy(old.gain + size * other.gain, old.covariance),
    ):
        x = np.random.default_rng(1).normal(size=(4, 3))
        got = lq.kl(old, new, x)
        tol = 50 * np.linalg.cond(new.covariance) * np.linalg.cond(old.covariance) * U
        for row, value in zip(x, got, strict=True):
            truth = textbook_kl(old, new, row)
            assert value > 0
            # The gains' difference is rounded once by the test itself: it is the truth of what was given.
            assert abs(mp.mpf(float(value)) / truth - 1) <= tol
    assert (lq.kl(old, old, np.ones((2, 3))) == 0).all()


def test_covariances_far_apart():
    _, old, _ = world(2, 2)
    for spread in (np.diag([1e-12, 1e12]), np.diag([1e9, 1e8])):
        new = LinearGaussianPolicy(old.gain, spread)
        x = np.zeros((1, 2))
        for pair in ((old, new), (new, old)):
            assert abs(lq.kl(*pair, x)[0] / textbook_kl(*pair, x[0]) - 1) <= 1e3 * U


def test_mean_kl_is_the_mean_over_states_and_the_largest_has_no_bound():
    problem, old, new = world(3, 2)
    states, weights = lq.visitation_rule(problem, old)
    near(lq.mean_kl(problem, old, new), weights @ lq.kl(old, new, states), 200 * condition(problem, old) * U)
    far = np.array([[1.0, 2.0, 3.0]]) * np.array([[1e3], [1e6], [1e9]])
    kl = lq.kl(old, new, far)
    np.testing.assert_allclose(kl[1:] / kl[:-1], 1e6, rtol=1e-4)


# ── the policy gradient, the Fisher matrix, the natural gradient ─────────────────────────────────


def textbook_return(problem, K, Sigma):
    """η by the sum over time, for complex K and Σ: what is differentiated below."""
    A, B, gamma = problem.state_matrix, problem.action_matrix, problem.discount
    a = np.sqrt(gamma) * (A - B @ K)
    P = problem.state_cost + K.T @ problem.action_cost @ K
    for _ in range(60):
        P = P + a.T @ P @ a
        a = a @ a
    m, spread = problem.start_mean, problem.noise + B @ Sigma @ B.T
    c = (np.sum(problem.action_cost * Sigma) + gamma * np.sum(P * spread)) / (1 - gamma)
    return -(m @ P @ m + np.sum(P * problem.start_covariance) + c)


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_policy_gradient_is_the_derivative_of_the_return(shape, diagonal):
    problem, policy, _ = world(*shape, diagonal=diagonal)
    got = lq.policy_gradient(problem, policy)
    K, Sigma = policy.gain, policy.covariance
    tol = 200 * condition(problem, policy) * U
    near(got.gain, complex_step(lambda K: textbook_return(problem, K, Sigma), K), tol)
    near(got.covariance, complex_step(lambda Sigma: textbook_return(problem, K, Sigma), Sigma), tol)

    def of_log_std(shift):
        return textbook_return(problem, K, np.exp(shift)[:, None] * Sigma * np.exp(shift))

    near(got.log_std, complex_step(of_log_std, np.zeros(len(Sigma))), tol)


def log_density(policy, log_std_shift, gain_shift, x, u):
    """log N(u; −Kx, Σ) with shifted parameters, by the textbook's formula."""
    scale = np.exp(log_std_shift)
    e = (u + (policy.gain + gain_shift) @ x) / scale
    Sigma = policy.covariance
    return -(e @ np.linalg.solve(Sigma, e)) / 2 - np.sum(log_std_shift)


@pytest.mark.parametrize("diagonal", [True, False])
def test_the_fisher_matrix_is_the_mean_of_score_times_score(diagonal):
    """Scores by complex step; Gauss–Hermite over actions (degree 4), the visitation rule over states (degree 2)."""
    problem, policy, _ = world(3, 2, diagonal=diagonal)
    states, state_weights = lq.visitation_rule(problem, policy)
    z, action_weights = hermite(2)
    root = np.linalg.cholesky(policy.covariance)
    F = np.zeros((8, 8))
    for (x, w), (e, v) in itertools.product(
        zip(states, state_weights, strict=True), zip(z @ root.T, action_weights, strict=True)
    ):
        u = e - policy.gain @ x

        def of(theta, x=x, u=u):
            return log_density(policy, theta[6:], theta[:6].reshape(2, 3), x, u)

        score = complex_step(of, np.zeros(8))
        F += w * v * np.outer(score, score)
    tol = 200 * np.linalg.cond(policy.covariance) * condition(problem, policy) * U
    near(lq.fisher_matrix(problem, policy), F, tol)
    if diagonal:
        near(lq.fisher_matrix(problem, policy)[6:, 6:], 2 * np.eye(2), 4 * U)


def moved(policy, step):
    """The policy at a step of (K, log σ)."""
    A, D = policy.gain.shape
    scale = np.exp(step[A * D :])
    return LinearGaussianPolicy(
        policy.gain + step[: A * D].reshape(A, D), scale[:, None] * policy.covariance * scale
    )


def test_the_fisher_matrix_is_the_curvature_of_both_kl():
    problem, policy, _ = world(3, 2)
    F = lq.fisher_matrix(problem, policy)
    s = np.random.default_rng(2).normal(size=8)
    quadratic = s @ F @ s / 2
    for t in (1e-3, 1e-4):
        forward = lq.mean_kl(problem, policy, moved(policy, t * s)) / t**2
        assert abs(forward / quadratic - 1) <= 10 * t


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_natural_gradient_solves_the_fisher_equations(shape, diagonal):
    problem, policy, _ = world(*shape, diagonal=diagonal)
    g, s = lq.policy_gradient(problem, policy), lq.natural_gradient(problem, policy)
    F = lq.fisher_matrix(problem, policy)
    gradient, direction = (np.concatenate([d.gain.ravel(), d.log_std]) for d in (g, s))
    tol = 200 * np.linalg.cond(policy.covariance) * condition(problem, policy) * U
    near(F @ direction, gradient, tol)
    assert gradient @ direction > 0
    # By Σ: the metric is ½ tr Σ⁻¹ U Σ⁻¹ U.
    inverse = np.linalg.inv(policy.covariance)
    near(inverse @ s.covariance @ inverse / 2, g.covariance, tol)


def test_the_natural_gradient_where_some_states_are_never_visited():
    problem, policy, _ = world(3, 2)
    blind = dataclasses.replace(
        problem,
        state_matrix=np.diag([0.5, 0.6, 0.7]),
        action_matrix=np.array([[1.0, 0.2], [0.3, 1.0], [0.0, 0.0]]),
        noise=np.zeros((3, 3)),
        start_covariance=np.zeros((3, 3)),
        start_mean=np.array([1.0, -1.0, 0.0]),
    )
    F, g = lq.fisher_matrix(blind, policy), lq.policy_gradient(blind, policy)
    assert np.linalg.matrix_rank(F) == 6                     # of 8: the third state is always 0
    near(F[:6, :6] @ lq.natural_gradient(blind, policy).gain.ravel(), g.gain.ravel(), 1e4 * U)


# ── the optimum ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("growth", [0.5, 0.999, 1.5])
@pytest.mark.parametrize("shape", SHAPES[:4])
def test_the_optimum_is_the_limit_of_dynamic_programming(shape, growth):
    """P_{T+1} = min over u of the cost of one step and P_T after it, from P_0 = 0: T steps to go."""
    states, actions = shape
    problem = lq.random_problem(
        np.random.default_rng(states), states=states, actions=actions, discount=0.9, growth=growth
    )
    A, B, gamma = problem.state_matrix, problem.action_matrix, problem.discount
    P = np.zeros_like(A)
    for _ in range(3000):
        joint = np.hstack([A, B])
        H = gamma * joint.T @ P @ joint
        H[:states, :states] += problem.state_cost
        H[states:, states:] += problem.action_cost
        K = np.linalg.solve(H[states:, states:], H[states:, :states])
        P = H[:states, :states] - H[:states, states:] @ K
    got = lq.optimum(problem)
    tol = 1e3 * U * condition(problem, LinearGaussianPolicy(got.gain, np.eye(actions))) * np.linalg.cond(P)
    near(got.value_matrix, P, tol)
    near(got.gain, K, tol)


@pytest.mark.parametrize("shape", SHAPES)
def test_policy_iteration_converges_quadratically_to_the_optimum(shape):
    problem, policy, _ = world(*shape)
    best = lq.optimum(problem)
    errors, returns = [], []
    for _ in range(9):
        errors.append(np.linalg.norm(policy.gain - best.gain))
        returns.append(lq.evaluate(problem, policy).expected_return)
        policy = lq.gauss_newton_step(problem, policy)
    assert errors[-1] <= 1e-10
    assert all(after >= before - 1e-12 * abs(before) for before, after in itertools.pairwise(returns))
    steep = [(a, b) for a, b in itertools.pairwise(errors) if 1e-6 < a < 0.05 * np.linalg.norm(best.gain)]
    assert all(b <= 100 * a * a for a, b in steep)
    # The noise costs what tr GΣ says, and nothing else.
    at = lq.evaluate(problem, policy)
    quiet = lq.evaluate(problem, LinearGaussianPolicy(best.gain, np.zeros_like(policy.covariance)))
    near(quiet.expected_return, best.expected_return, 1e4 * U * condition(problem, policy))
    near(quiet.value_constant, best.value_constant, 1e4 * U * condition(problem, policy))
    noise = np.sum(at.action_curvature * policy.covariance) / (1 - problem.discount)
    near(best.expected_return - at.expected_return, noise, 1e-9)


@given(worlds)
def test_no_policy_is_better_than_the_optimum(drawn):
    problem, old, new = drawn
    best = lq.optimum(problem)
    for policy in (old, new):
        assert lq.evaluate(problem, policy).expected_return <= best.expected_return
    at = lq.evaluate(problem, LinearGaussianPolicy(best.gain, old.covariance))
    size = np.linalg.norm(at.action_curvature) * (1 + np.linalg.norm(best.gain)) * np.linalg.norm(problem.state_matrix)
    assert np.abs(at.action_slope).max() <= 1e4 * U * size * condition(problem, old)


@given(worlds, st.floats(0.05, 1.95))
def test_gauss_newton_stays_stable_and_never_falls(drawn, step_size):
    problem, old, _ = drawn
    new = lq.gauss_newton_step(problem, old, step_size=step_size)
    assert new.covariance.tolist() == old.covariance.tolist()
    gain = lq.performance_difference(problem, old, new).advantage_sum
    at = lq.evaluate(problem, old)
    E = at.action_slope
    better = E.T @ np.linalg.solve(at.action_curvature, E)
    promised = (2 * step_size - step_size**2) * np.sum(better * lq.evaluate(problem, new).visitation_moment)
    size = 1e3 * U * condition(problem, old, new) * np.linalg.cond(at.action_curvature)
    assert abs(gain - promised) <= size * max(abs(promised), abs(at.expected_return))


def test_gauss_newton_is_the_greedy_policy():
    """At α = 1 the new mean is where Q is largest: Q falls by eᵀGe from there."""
    problem, policy, _ = world(3, 2)
    greedy = lq.gauss_newton_step(problem, policy)
    generator = np.random.default_rng(0)
    x, e = generator.normal(size=(20, 3)), generator.normal(size=(20, 2))
    u = -x @ greedy.gain.T
    top, beside = lq.action_values(problem, policy, x, u), lq.action_values(problem, policy, x, u + e)
    G = lq.evaluate(problem, policy).action_curvature
    near(top - beside, np.sum(e @ G * e, axis=1), 1e4 * U * condition(problem, policy))


# ── the network policy ───────────────────────────────────────────────────────────────────────────


def affine(problem):
    """The same problem with a last entry of the state that is always 1: gains are then affine."""

    def bordered(matrix, corner=0.0):
        return np.block([[matrix, np.zeros((len(matrix), 1))], [np.zeros((1, len(matrix))), np.array([[corner]])]])

    return LinearQuadratic(
        state_matrix=bordered(problem.state_matrix, 1.0),
        action_matrix=np.vstack([problem.action_matrix, np.zeros((1, problem.action_matrix.shape[1]))]),
        state_cost=bordered(problem.state_cost),
        action_cost=problem.action_cost,
        noise=bordered(problem.noise),
        start_mean=np.append(problem.start_mean, 1.0),
        start_covariance=bordered(problem.start_covariance),
        discount=problem.discount,
    )


def parameters(policy, bias=None):
    """The network without hidden layers that is this policy, and its θ = (−Kᵀ, b, log σ)."""
    A, D = policy.gain.shape
    net = gaussian_policy((D, A))
    b = np.zeros(A) if bias is None else bias
    log_std = np.log(np.diag(policy.covariance)) / 2
    return net, flatten(net.network, [(-policy.gain.T, b)], log_std)


def with_bias(policy, b=None):
    """The same policy on the state with a 1, −K̃(x, 1) = −Kx + b."""
    b = np.zeros(len(policy.gain)) if b is None else b
    return LinearGaussianPolicy(np.hstack([policy.gain, -b[:, None]]), policy.covariance)


def network_order(A, D):
    """Where the entries of θ = (W, b, log σ) stand in (K̃ row by row, log σ), and their signs: (Wᵀ b) = −K̃."""
    places = np.arange(A * (D + 1)).reshape(A, D + 1)
    order = np.concatenate([places[:, :D].T.ravel(), places[:, D], A * (D + 1) + np.arange(A)])
    return order, np.where(order < A * (D + 1), -1.0, 1.0)


def network_vector(direction):
    """A direction of (K̃, log σ) as one of θ."""
    A, wide = direction.gain.shape
    order, signs = network_order(A, wide - 1)
    return signs * np.concatenate([direction.gain.ravel(), direction.log_std])[order]


def exact_batch(problem, policy, actions=3):
    """Every state of the visitation rule with every action of Gauss–Hermite: gradients of degree 4 are exact."""
    states, weights = lq.visitation_rule(problem, policy)
    z, action_weights = hermite(len(policy.gain), actions)
    e = z @ np.diag(np.sqrt(np.diag(policy.covariance)))
    x = np.repeat(states, len(e), axis=0)
    u = np.tile(e, (len(states), 1)) - x @ policy.gain.T
    return Batch(x, u, lq.advantages(problem, policy, x, u), weights=np.outer(weights, action_weights).ravel())


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_the_visitation_rule_has_the_moments_of_the_visitation(shape):
    problem, policy, _ = world(*shape)
    at = lq.evaluate(problem, policy)
    states, weights = lq.visitation_rule(problem, policy)
    assert weights.sum() == pytest.approx(1, abs=len(weights) * U)
    tol = 50 * U
    near(weights @ states, at.visitation_distribution_mean, tol * np.abs(states).max() / np.abs(weights @ states).max())
    near(states.T @ (weights[:, None] * states), at.visitation_distribution_moment, tol)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_functions_of_samples_are_exact_for_the_network_policy(shape):
    """Mean KL, Fisher matrix, policy gradient and natural gradient of a network, biases included, with few states."""
    problem, old, new = world(*shape, diagonal=True)
    states, weights = lq.visitation_rule(problem, old)
    net, theta = parameters(old)
    theta_new = parameters(new)[1]
    tol = 200 * condition(problem, old) * U

    near(geometry.mean_kl(net, theta, theta_new, states, weights=weights), lq.mean_kl(problem, old, new), tol)

    wide = affine(problem)
    order, signs = network_order(*old.gain.shape)
    F = lq.fisher_matrix(wide, with_bias(old))[np.ix_(order, order)] * np.outer(signs, signs)
    near(geometry.fisher_matrix(net, theta, states, weights=weights), F, tol)

    # Mean over the normalised visitation: (1 − γ) times the gradient of η.
    gradient = updates.surrogate_gradient(net, theta, exact_batch(problem, old))
    away = 1 - problem.discount
    near(gradient, away * network_vector(lq.policy_gradient(wide, with_bias(old))), 10 * tol)
    natural = updates.natural_gradient(
        net, theta, states, gradient, damping=0.0, method="minimum_norm", weights=weights
    )
    assert natural.rank == len(theta)
    closed_form = away * network_vector(lq.natural_gradient(wide, with_bias(old)))
    near(natural.direction, closed_form, 100 * np.linalg.cond(F) * condition(problem, old) * U)


def test_the_sampled_surrogate_is_l_when_its_states_and_actions_are_exact():
    """With states of the visitation rule and actions by quadrature under the *new* policy, (1 − γ)(L − η)."""
    problem, old, new = world(3, 2, diagonal=True)
    states, weights = lq.visitation_rule(problem, old)
    z, action_weights = hermite(2)
    x = np.repeat(states, len(z), axis=0)
    u = np.tile(z @ np.linalg.cholesky(new.covariance).T, (len(states), 1)) - x @ new.gain.T
    mean = np.outer(weights, action_weights).ravel() @ lq.advantages(problem, old, x, u)
    away = 1 - problem.discount
    L = lq.local_approximation(problem, old, new) - lq.evaluate(problem, old).expected_return
    near(mean, away * L, 1e4 * U * condition(problem, old))


# ── samples ──────────────────────────────────────────────────────────────────────────────────────


def within_four_standard_errors(samples, truth, size=None):
    """Every entry of the mean over the first axis; each must be known to a tenth of the largest, or of ``size``."""
    error = np.abs(samples.mean(axis=0) - truth)
    standard_error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert (error <= 4 * standard_error).all(), (error / standard_error).max()
    assert (standard_error <= 0.1 * (np.max(np.abs(truth)) if size is None else size)).all(), "too few samples"


def endings(T, N):
    """Nothing terminates, and the last step is a truncation."""
    return np.zeros((T, N), bool), np.repeat(np.arange(T)[:, None] == T - 1, N, axis=1)


def values_along(problem, policy, states):
    return lq.values(problem, policy, states.reshape(-1, states.shape[-1])).reshape(states.shape[:2])


def test_sampled_returns_have_the_mean_eta():
    problem, policy, _ = world(3, 2, discount=0.8)
    run = lq.sample_trajectories(problem, policy, np.random.default_rng(0), trajectories=20_000, steps=20)
    V = values_along(problem, policy, run.states)
    returns = estimation.discounted_returns(run.rewards, V[1:], *endings(*run.rewards.shape), gamma=0.8)
    within_four_standard_errors(returns[0], lq.evaluate(problem, policy).expected_return)
    # From each state, and from each state and action.
    within_four_standard_errors(returns[0] - V[0], 0, size=abs(V[0]).mean())
    Q = lq.action_values(problem, policy, run.states[3], run.actions[3])
    within_four_standard_errors(returns[3] - Q, 0, size=abs(Q).mean())


def test_the_error_of_a_sampled_return_falls_as_the_root_of_the_samples():
    """64 repetitions know the error to 9 %, so its slope over a factor 64 to about 0.03."""
    problem, policy, _ = world(2, 1, discount=0.8)
    eta = lq.evaluate(problem, policy).expected_return
    sizes, repetitions, generator = np.array([16, 64, 256, 1024]), 64, np.random.default_rng(1)
    errors = []
    for size in sizes:
        run = lq.sample_trajectories(problem, policy, generator, trajectories=size * repetitions, steps=30)
        V = values_along(problem, policy, run.states[-2:])
        returns = 0.8 ** np.arange(30) @ run.rewards + 0.8**30 * V[-1]
        means = returns.reshape(repetitions, size).mean(axis=1)
        errors.append(np.sqrt(np.mean((means - eta) ** 2)))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.1


def test_visited_states_have_the_moments_of_the_visitation():
    problem, policy, _ = world(3, 2, discount=0.9)
    at = lq.evaluate(problem, policy)
    x = lq.sample_states(problem, policy, np.random.default_rng(0), samples=50_000)
    within_four_standard_errors(x[:, :, None] * x[:, None, :], at.visitation_distribution_moment)
    error = x.mean(axis=0) - at.visitation_distribution_mean
    assert (abs(error) <= 4 * x.std(axis=0) / np.sqrt(len(x))).all()
    # And they are the states of trajectories, weighted by (1 − γ)γᵗ.
    run = lq.sample_trajectories(problem, policy, np.random.default_rng(1), trajectories=4000, steps=150)
    weighted = 0.1 * 0.9 ** np.arange(150) @ (run.states[:-1] ** 2).reshape(150, -1)
    within_four_standard_errors(weighted.reshape(4000, 3), np.diag(at.visitation_distribution_moment))


def test_with_no_discount_of_time_the_start_is_all_that_is_visited():
    problem, policy, _ = world(2, 1, discount=0.5)
    instant = dataclasses.replace(problem, discount=0.0, start_covariance=np.zeros((2, 2)))
    x = lq.sample_states(instant, policy, np.random.default_rng(0), samples=5)
    np.testing.assert_array_equal(x, np.tile(problem.start_mean, (5, 1)))


def gradient_of_eta(problem, policy):
    return network_vector(lq.policy_gradient(affine(problem), with_bias(policy)))


def test_the_score_function_gradient_converges():
    """(1 − γ)∇η = E_d E_π[∇log π Q] = E_d E_π[∇log π A], for all of θ."""
    problem, policy, _ = world(3, 2, discount=0.8, diagonal=True)
    net, theta = parameters(policy)
    generator = np.random.default_rng(0)
    x = lq.sample_states(problem, policy, generator, samples=50_000)
    u = -x @ policy.gain.T + generator.normal(size=(len(x), 2)) @ np.linalg.cholesky(policy.covariance).T
    score = log_prob_jacobian(net, theta, x, u)
    truth = 0.2 * gradient_of_eta(problem, policy)
    within_four_standard_errors(score * lq.advantages(problem, policy, x, u)[:, None], truth)
    within_four_standard_errors(score * lq.action_values(problem, policy, x, u)[:, None], truth)


@pytest.mark.parametrize("gae_lambda", [1.0, 0.5])
def test_the_gradient_from_trajectories_with_gae_converges(gae_lambda):
    """∇η = E Σ_t γᵗ ∇log π(u_t|x_t) Â_t: with exact values every λ is unbiased; 0.8⁶⁰ = 2e-6 is cut off."""
    problem, policy, _ = world(2, 2, discount=0.8, diagonal=True)
    net, theta = parameters(policy)
    T, N = 60, 8000
    run = lq.sample_trajectories(problem, policy, np.random.default_rng(0), trajectories=N, steps=T)
    V = values_along(problem, policy, run.states)
    A_hat = estimation.gae(run.rewards, V[:-1], V[1:], *endings(T, N), gamma=0.8, gae_lambda=gae_lambda).advantages
    score = log_prob_jacobian(net, theta, run.states[:-1].reshape(-1, 2), run.actions.reshape(-1, 2)).reshape(T, N, -1)
    estimates = np.einsum("t,tn,tnp->np", 0.8 ** np.arange(T), A_hat, score)
    within_four_standard_errors(estimates, gradient_of_eta(problem, policy))


def test_without_the_discount_of_time_the_sampled_gradient_is_another():
    """What practice leaves out, γᵗ on the states, is a bias that this problem shows."""
    problem, policy, _ = world(2, 2, discount=0.8, diagonal=True)
    net, theta = parameters(policy)
    T, N = 60, 4000
    run = lq.sample_trajectories(problem, policy, np.random.default_rng(0), trajectories=N, steps=T)
    x, u = run.states[:-1].reshape(-1, 2), run.actions.reshape(-1, 2)
    score = log_prob_jacobian(net, theta, x, u) * lq.advantages(problem, policy, x, u)[:, None]
    estimates = score.reshape(T, N, -1).mean(axis=0) / 0.2
    with pytest.raises(AssertionError):
        within_four_standard_errors(estimates, gradient_of_eta(problem, policy))


def nearby(policy, generator, size):
    A, D = policy.gain.shape
    scale = np.exp(size * generator.normal(size=A))
    return LinearGaussianPolicy(
        policy.gain + size * generator.normal(size=(A, D)), scale[:, None] * policy.covariance * scale
    )


def test_importance_sampling_gives_another_policys_return():
    """η(π') from π's trajectories, each reward weighted by the ratios of all actions so far."""
    problem, old, _ = world(2, 1, discount=0.5, diagonal=True)
    new = nearby(old, np.random.default_rng(3), 0.03)
    (net, theta), (_, theta_new) = parameters(old), parameters(new)
    T, N = 12, 40_000
    run = lq.sample_trajectories(problem, old, np.random.default_rng(0), trajectories=N, steps=T)
    x, u = run.states[:-1].reshape(-1, 2), run.actions.reshape(-1, 1)
    log_ratio = (log_prob(net, theta_new, x, u) - log_prob(net, theta, x, u)).reshape(T, N)
    products = np.exp(np.cumsum(log_ratio, axis=0))
    later = 0.5**T * products[-1] * lq.values(problem, new, run.states[T])
    within_four_standard_errors(
        0.5 ** np.arange(T) @ (products * run.rewards) + later, lq.evaluate(problem, new).expected_return
    )


def test_the_sampled_surrogate_converges_to_l():
    problem, old, _ = world(3, 2, discount=0.8, diagonal=True)
    new = nearby(old, np.random.default_rng(3), 0.05)
    (net, theta), (_, theta_new) = parameters(old), parameters(new)
    generator = np.random.default_rng(0)
    x = lq.sample_states(problem, old, generator, samples=100_000)
    u = -x @ old.gain.T + generator.normal(size=(len(x), 2)) @ np.linalg.cholesky(old.covariance).T
    before, after = log_prob(net, theta, x, u), log_prob(net, theta_new, x, u)
    A = lq.advantages(problem, old, x, u)
    # The mean of A is known to be 0: r − 1 in place of r.
    samples = np.expm1(after - before) * A
    truth = 0.2 * (lq.local_approximation(problem, old, new) - lq.evaluate(problem, old).expected_return)
    within_four_standard_errors(samples, truth)
    assert surrogate.sampled_surrogate(before, after, A) - A.mean() == pytest.approx(samples.mean(), rel=1e-9)


def test_geometry_at_sampled_states_converges():
    problem, old, new = world(3, 2, discount=0.8, diagonal=True)
    (net, theta), (_, theta_new) = parameters(old), parameters(new)
    x = lq.sample_states(problem, old, np.random.default_rng(0), samples=20_000)
    within_four_standard_errors(lq.kl(old, new, x), lq.mean_kl(problem, old, new))
    near(geometry.mean_kl(net, theta, theta_new, x), lq.kl(old, new, x).mean(), 1e3 * U)
    parts = np.array_split(x, 200)
    F = np.array([geometry.fisher_matrix(net, theta, part) for part in parts])
    states, weights = lq.visitation_rule(problem, old)
    truth = geometry.fisher_matrix(net, theta, states, weights=weights)
    random = F.std(axis=0) > 1e-9                            # the block of log σ is 2I at every state
    within_four_standard_errors(F[:, random], truth[random])
    near(F[0][~random], truth[~random], 1e3 * U)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────

GOOD = {
    "state_matrix": np.eye(2),
    "action_matrix": np.ones((2, 1)),
    "state_cost": np.eye(2),
    "action_cost": np.eye(1),
    "noise": np.eye(2),
    "start_mean": np.zeros(2),
    "start_covariance": np.eye(2),
    "discount": 0.5,
}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("state_matrix", np.ones((2, 3)), r"state_matrix has shape \(2, 3\), expected \(D, D\)"),
        ("action_matrix", np.ones((3, 1)), r"action_matrix has shape \(3, 1\), expected \(D, A\) where D = 2"),
        ("state_cost", [[1.0, 2.0], [0.0, 1.0]], r"state_cost is 2.0 at \(0, 1\) and 0.0 at \(1, 0\), expected a symm"),
        ("state_cost", [[1.0, 2.0], [2.0, 1.0]], "state_cost has the eigenvalue -1.0.*, expected a positive semi-def"),
        ("action_cost", [[0.0]], "action_cost has the eigenvalue 0.0, expected a positive definite matrix"),
        ("action_cost", [[-1.0]], "action_cost has the eigenvalue -1.0, expected a positive definite matrix"),
        ("action_cost", np.eye(2), r"action_cost has shape \(2, 2\), expected \(A, A\) where A = 1"),
        ("noise", -np.eye(2), "noise has the eigenvalue -1.0, expected a positive semi-definite matrix"),
        ("start_mean", np.zeros((2, 1)), r"start_mean has shape \(2, 1\), expected \(D,\)"),
        ("start_mean", [np.nan, 0.0], "start_mean holds NaN or infinity"),
        ("start_covariance", np.eye(3), r"start_covariance has shape \(3, 3\)"),
        ("start_covariance", 1j * np.eye(2), "start_covariance has dtype complex128, expected real numbers"),
        ("discount", 1.0, "discount is 1.0, expected a number >= 0 and < 1"),
        ("discount", -0.1, "discount is -0.1"),
    ],
)
def test_problems_that_cannot_be(field, value, message):
    with pytest.raises(ValueError, match=f"^LinearQuadratic: {message}"):
        LinearQuadratic(**{**GOOD, field: value})


def test_matrices_rounded_by_a_product_are_symmetric():
    G = np.random.default_rng(0).normal(size=(5, 2))
    policy = LinearGaussianPolicy(np.zeros((5, 1)), np.einsum("ik,jk->ij", G, G) * (1 + U * np.tri(5)))
    assert (policy.covariance == policy.covariance.T).all()
    with pytest.raises(ValueError, match="read-only"):
        policy.covariance[0, 0] = 1.0


@pytest.mark.parametrize(
    "call",
    [
        lq.evaluate,
        lq.policy_gradient,
        lq.natural_gradient,
        lq.fisher_matrix,
        lq.gauss_newton_step,
        lq.visitation_rule,
        lambda problem, policy: lq.values(problem, policy, np.zeros((1, 2))),
        lambda problem, policy: lq.action_values(problem, policy, np.zeros((1, 2)), np.zeros((1, 1))),
        lambda problem, policy: lq.advantages(problem, policy, np.zeros((1, 2)), np.zeros((1, 1))),
        lambda problem, policy: lq.sample_states(problem, policy, np.random.default_rng(0), samples=1),
        lambda problem, policy: lq.performance_difference(problem, policy, policy),
        lambda problem, policy: lq.local_approximation(problem, policy, policy),
        lambda problem, policy: lq.expected_advantages(problem, policy, policy, np.zeros((1, 2))),
        lambda problem, policy: lq.mean_kl(problem, policy, policy),
    ],
)
def test_unstable_and_foreign_policies_are_refused_by_name(call):
    problem = LinearQuadratic(**GOOD)
    unstable = LinearGaussianPolicy([[1.0, -2.0]], [[1.0]])          # A − BK has the eigenvalues 1 and 2
    message = r"^\w+: (policy|old) has the spectral radius ρ\(A − BK\) = 2.0.* and γρ² = 2.0.*, expected γρ² < 1"
    with pytest.raises(lq.Unstable, match=message):
        call(problem, unstable)
    with pytest.raises(ValueError, match=r"^\w+: (policy|old).gain has shape \(1, 3\), expected \(A, D\) where D = 2"):
        call(problem, LinearGaussianPolicy(np.zeros((1, 3)), [[1.0]]))


@pytest.mark.parametrize("call", [lq.fisher_matrix, lq.natural_gradient])
def test_a_deterministic_policy_has_no_metric(call):
    problem, policy, _ = world(2, 2)
    still = LinearGaussianPolicy(policy.gain, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="policy.covariance has the eigenvalue 0.0, expected a positive definite"):
        call(problem, still)
    for pair, name in (((still, policy), "old"), ((policy, still), "new")):
        with pytest.raises(ValueError, match=f"^kl: {name}.covariance has the eigenvalue 0.0"):
            lq.kl(*pair, np.zeros((1, 2)))
    assert np.isfinite(lq.policy_gradient(problem, still).gain).all()


def test_a_system_that_cannot_be_stabilised_has_no_optimum():
    problem = LinearQuadratic(**{**GOOD, "state_matrix": 3 * np.eye(2), "action_matrix": np.array([[1.0], [0.0]])})
    with pytest.raises(ValueError, match="^optimum: the Riccati equation has no stabilising solution"):
        lq.optimum(problem)


def test_what_overflows_is_refused():
    problem = LinearQuadratic(**{**GOOD, "state_cost": 1e308 * np.eye(2), "start_mean": np.array([10.0, 0.0])})
    with pytest.raises(Unrepresentable, match="^evaluate: a value overflows"):
        lq.evaluate(problem, LinearGaussianPolicy([[0.5, 0.5]], [[1.0]]))
    with pytest.raises(Unrepresentable, match="^evaluate: A − BK overflows"):
        lq.evaluate(
            LinearQuadratic(**{**GOOD, "action_matrix": 1e200 * np.ones((2, 1))}),
            LinearGaussianPolicy([[1e200, 0.0]], [[1.0]]),
        )


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("trajectories", lambda *at: lq.sample_trajectories(*at, trajectories=0, steps=1)),
        ("steps", lambda *at: lq.sample_trajectories(*at, trajectories=1, steps=0)),
        ("samples", lambda *at: lq.sample_states(*at, samples=0)),
        ("states", lambda _, __, generator: lq.random_problem(generator, states=0, actions=1, discount=0.5)),
        ("actions", lambda _, __, generator: lq.random_problem(generator, states=1, actions=1.5, discount=0.5)),
    ],
)
def test_numbers_of_nothing_are_refused(name, call):
    problem, policy, _ = world(2, 1)
    with pytest.raises(ValueError, match=rf"^\w+: {name} is .*, expected an integer >= 1"):
        call(problem, policy, np.random.default_rng(0))


def test_foreign_policies_are_not_sampled():
    problem, policy = lq.doubling(), LinearGaussianPolicy([[1.0, 1.0]], [[0.0]])
    with pytest.raises(ValueError, match=r"^sample_trajectories: policy.gain has shape \(1, 2\), expected \(A, D\)"):
        lq.sample_trajectories(problem, policy, np.random.default_rng(0), trajectories=1, steps=1)


@pytest.mark.parametrize("step_size", [0.0, 2.0, -1.0, np.nan])
def test_steps_that_promise_nothing_are_refused(step_size):
    problem, policy, _ = world(2, 1)
    with pytest.raises(ValueError, match="gauss_newton_step: step_size"):
        lq.gauss_newton_step(problem, policy, step_size=step_size)
