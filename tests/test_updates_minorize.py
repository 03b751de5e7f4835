"""Steps of tables and the minorize–maximization step: KKT conditions, random feasible rivals, SciPy on the same
problem, brute force with two actions, closed forms.

Tolerances: U is the unit roundoff.  A root in log g is known to 8 eps of |log g| < 350, KL to twice that: 1e4 U.
"""

import mpmath
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from refpg import bounds, updates
from refpg import mdp as mdps
from refpg.policy import probability_table, softmax_policy
from refpg.updates import MMEnding

U = np.finfo(float).eps / 2
ROOT = 1e4 * U


def table(seed, actions, concentration, excluded, scale=1.0, states=3):
    """A policy, some of whose actions are excluded, and advantages that average to 0 under it."""
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.full(actions, concentration), size=states) + 1e-12
    p[:, 1:] *= generator.random((states, actions - 1)) >= excluded
    p /= p.sum(axis=1, keepdims=True)
    A = scale * generator.normal(size=(states, actions))
    return p, A - np.sum(p * A, axis=1, keepdims=True), generator


tables = st.builds(
    table,
    seed=st.integers(0, 10**6),
    actions=st.integers(2, 5),
    concentration=st.sampled_from([0.1, 1.0, 10.0]),
    excluded=st.sampled_from([0.0, 0.4, 1.0]),
    scale=st.sampled_from([1e-150, 1e-3, 1.0, 1e6]),
)
radii = st.sampled_from([1e-20, 1e-8, 1e-3, 0.1, 1.0, 10.0])


def gains(p, new, A):
    return np.sum((new - p) * A, axis=1)


# ── the KL ball ───────────────────────────────────────────────────────────────────────────────────


@given(tables, radii)
def test_the_ball_step_meets_its_kkt_conditions(drawn, kappa):
    """π(a)(ν − A(a)) = λ p(a) with one ν ≥ max A per state, and KL = κ: a linear objective on a convex set."""
    p, A, _ = drawn
    new, info = updates.kl_ball_step(p, A, kappa)
    np.testing.assert_allclose(new.sum(axis=1), 1, rtol=0, atol=8 * U)
    for s in range(len(p)):
        size = np.abs(A[s]).max()
        inside, best = p[s] > 0, A[s].max()
        if np.ptp(A[s][inside]) == 0 and A[s][inside][0] == best:
            np.testing.assert_array_equal(new[s][inside], p[s][inside] / p[s].sum())
            continue
        if (new[s][inside] < p[s][inside] * 1e-140).any():  # as near the corner as floats go: nothing is left to buy
            assert info.multipliers[s] <= 1e-130 * size
            continue
        assert info.kl[s] == pytest.approx(kappa, rel=ROOT)
        nu = A[s] + info.multipliers[s] * p[s] / np.where(inside, new[s], 1)
        # A probability is rounded to U; near the identity ν is the inverse of the step, of relative size √κ.
        tolerance = ROOT * (np.abs(nu[inside]).max() + size)
        assert np.ptp(nu[inside]) <= tolerance
        assert nu[inside].max() >= best - tolerance
        if (new[s][~inside] > 0).any():  # what enters is the best of all, and ν is its advantage
            entered = ~inside & (new[s] > 0)
            assert (A[s][entered] == best).all()
            assert abs(nu[inside].min() - best) <= tolerance


@given(tables, st.sampled_from([1e-3, 0.1, 1.0]))
def test_no_row_inside_the_ball_is_better(drawn, kappa):
    p, A, generator = drawn
    new, _ = updates.kl_ball_step(p, A, kappa)
    distance = bounds.kl_divergence(p, new)
    assert (distance <= kappa * (1 + 1e-9)).all()
    for _ in range(30):
        rival = generator.dirichlet(np.ones(p.shape[1]), size=len(p))
        mixed = p + generator.random((len(p), 1)) ** 3 * (rival - p)
        inside = bounds.kl_divergence(p, mixed) <= kappa
        assert (gains(p, mixed, A)[inside] <= gains(p, new, A)[inside] * (1 + 1e-9) + 1e-12 * np.abs(A).max()).all()
    # Weak duality: λκ bounds what the part beyond any π can bring.
    assert (gains(p, new, A) >= 0).all() or np.abs(gains(p, new, A)).max() <= 8 * U * np.abs(A).max()


@pytest.mark.parametrize("kappa", [1e-4, 0.05, 0.6931, 3.0])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.01])
def test_two_actions_by_their_one_equation(p, kappa):
    """With two actions the best row is the edge: KL(p ‖ q) = κ solved for q > p in 50 digits."""
    new, _ = updates.kl_ball_step([[p, 1 - p]], [[1.0, -1.0]], kappa)
    with mpmath.workdps(50):
        a, b = mpmath.mpf(p), mpmath.mpf(1 - p)
        low, high = mpmath.mpf(-100), mpmath.log(b)  # of log(1 − q); the KL falls along it
        for _ in range(120):
            middle = (low + high) / 2
            far = a * mpmath.log(a / -mpmath.expm1(middle)) + b * (mpmath.log(b) - middle) > kappa
            low, high = (middle, high) if far else (low, middle)
        truth = -mpmath.expm1(low), mpmath.exp(low)
    assert new[0, 0] == pytest.approx(float(truth[0]), rel=ROOT)
    assert new[0, 1] == pytest.approx(float(truth[1]), rel=100 * ROOT)  # 1 − p is rounded, and the root is steep


def test_scipy_finds_the_same_row():
    p, A, _ = table(7, 4, 1.0, 0.0, states=1)
    new, info = updates.kl_ball_step(p, A, 0.2)
    theirs = scipy.optimize.minimize(
        lambda q: -A[0] @ q,
        p[0],
        jac=lambda q: -A[0],
        method="SLSQP",
        bounds=[(1e-9, 1)] * 4,
        constraints=[
            {"type": "eq", "fun": lambda q: q.sum() - 1},
            {"type": "ineq", "fun": lambda q: 0.2 - p[0] @ np.log(p[0] / q), "jac": lambda q: p[0] / q},
        ],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    np.testing.assert_allclose(new[0], theirs.x, rtol=0, atol=1e-6)  # √ of SciPy's accuracy
    # The multiplier is the slope of the value in κ.
    h = 1e-4
    ahead, behind = (gains(p, updates.kl_ball_step(p, A, 0.2 + t)[0], A)[0] for t in (h, -h))
    assert info.multipliers[0] == pytest.approx((ahead - behind) / (2 * h), rel=1e-6)


def test_an_excluded_action_enters_where_it_is_the_best_and_the_ball_is_large():
    p, A = np.array([[0.5, 0.5, 0.0]]), np.array([[1.0, -1.0, 2.0]])
    enters_at = 0.5 * np.log(1 * 3) + np.log(0.5 / 1 + 0.5 / 3)  # Σ p log(2 − A) + log Σ p/(2 − A)
    near, _ = updates.kl_ball_step(p, A, enters_at * 0.999)
    far, _ = updates.kl_ball_step(p, A, enters_at + np.log(2))
    assert near[0, 2] == 0
    # Beyond it the others lose e^{−(κ − κ_c)} of what they have there, ¾ and ¼.
    np.testing.assert_allclose(far, [[0.375, 0.125, 0.5]], rtol=0, atol=ROOT)
    assert bounds.kl_divergence(p, far)[0] == pytest.approx(enters_at + np.log(2), rel=ROOT)
    # Mirror descent, whose KL is the other one, keeps it out.
    assert updates.mirror_descent_step(p, A, 0.1)[0, 2] == 0
    shared, _ = updates.kl_ball_step([[1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0]], np.log(2))
    np.testing.assert_allclose(shared, [[0.5, 0.25, 0.25]], rtol=0, atol=4 * U)


def test_ties_do_not_move_and_saturated_rows_keep_a_finite_kl():
    p = np.array([[0.25, 0.75], [1.0, 0.0], [1 - 2.0**-40, 2.0**-40]])
    A = np.array([[3.0, 3.0], [1.0, 0.0], [1.0, 0.0]])
    new, info = updates.kl_ball_step(p, A, 1.0)
    np.testing.assert_array_equal(new[:2], p[:2])
    assert info.multipliers[:2].tolist() == [0.0, 0.0]
    kl = bounds.kl_divergence(p, new)
    assert 0 < new[2, 1] < 1e-150
    assert kl[2] == pytest.approx(2.0**-40 * np.log(2.0**-40 / new[2, 1]), rel=0.01)
    assert kl[2] < 1


def test_equal_advantages_are_equal_whatever_the_rounding_of_their_mean():
    """Σ p d of a constant d is not always d in floating point; a policy at its corner must not move for that."""
    generator = np.random.default_rng(0)
    for p in generator.dirichlet(np.ones(5), size=50):
        row = np.append(p / p.sum(), 0.0)
        row /= row.sum()
        _, info = updates.mm_step([row], [[-0.1] * 5 + [0.2]], [1.0], 0.31)
        assert (info.ending, info.max_kl) == (MMEnding.AT_MAXIMUM, 0.0)
        _, info = updates.mm_step([row], [[-0.1] * 5 + [0.2]], [1.0], 0.15)
        assert info.max_kl == pytest.approx(np.log(2), rel=ROOT)


def test_greedy_is_the_limit_of_the_ball():
    p, A, _ = table(11, 4, 1.0, 0.4)
    np.testing.assert_allclose(updates.greedy_step(p, A), updates.kl_ball_step(p, A, 200.0)[0], rtol=0, atol=1e-30)
    tied = updates.greedy_step([[0.2, 0.2, 0.6]], [[1.0, 1.0, 0.0]])
    np.testing.assert_allclose(tied, updates.kl_ball_step([[0.2, 0.2, 0.6]], [[1.0, 1.0, 0.0]], 100.0)[0], atol=1e-15)


def test_the_kl_of_what_a_step_takes_away():
    """A ratio below 1e-16 is no longer 1 + (q − p)/p; the KL is finite there, and known to its last digits."""
    for q in (1e-15, 1e-16, 1e-17, 1e-200, 1e-308):
        with mpmath.workdps(400):
            p = mpmath.mpf(0.5)
            truth = p * mpmath.log(p / mpmath.mpf(q)) + p * mpmath.log(p / mpmath.mpf(1 - q))
        assert bounds.kl_divergence([[0.5, 0.5]], [[q, 1 - q]])[0] == pytest.approx(float(truth), rel=16 * U)


# ── mirror descent, mixtures ──────────────────────────────────────────────────────────────────────


@given(tables, st.sampled_from([1e-3, 0.3, 1.0, 100.0]))
def test_mirror_descent_is_the_gibbs_variational_principle(drawn, ratio):
    """max_π Σ π A − λ KL(π ‖ p) = λ log Σ p exp(A/λ), attained by π alone."""
    p, A, generator = drawn
    price = ratio * np.abs(A).max()
    new = updates.mirror_descent_step(p, A, price)

    def value(q):
        return np.sum(q * A, axis=1) - price * bounds.kl_divergence(q, p)

    top = np.where(p > 0, A, -np.inf).max(axis=1)
    optimum = top + price * np.log(np.sum(p * np.exp(np.where(p > 0, A - top[:, None], 0) / price), axis=1))
    np.testing.assert_allclose(value(new), optimum, rtol=0, atol=1e3 * U * (np.abs(A).max() + price))
    rival = np.where(p > 0, new * np.exp(0.3 * generator.normal(size=p.shape)), 0)
    rival /= rival.sum(axis=1, keepdims=True)
    assert (value(rival) <= optimum + 1e3 * U * (np.abs(A).max() + price)).all()
    assert ((new > 0) == (p > 0)).all()


@pytest.mark.parametrize("discount", [0.01, 0.5, 0.9, 0.999])
def test_the_mixing_maximises_the_bound_of_kakade_and_langford(discount):
    generator = np.random.default_rng(2)
    mdp = mdps.random_mdp(generator, states=4, actions=3, discount=discount)
    old = mdps.random_policy(generator, states=4, actions=3)
    at = mdps.evaluate(mdp, old)
    target = updates.greedy_step(old, at.advantages)
    alpha = updates.conservative_mixing(old, target, at.advantages, at.visitation_distribution, discount)

    def guaranteed(alpha):
        return bounds.mixture_bound(mdp, old, target, alpha).guaranteed_gain

    grid = [guaranteed(a) for a in np.linspace(0, 1, 401)]
    assert guaranteed(alpha) >= max(grid) - 1e-12 * max(grid)
    if alpha < 1:  # an inner maximum: nothing nearby is better, to second order
        assert guaranteed(alpha) >= max(guaranteed(alpha * (1 - 1e-3)), guaranteed(alpha * (1 + 1e-3)))
    mixed = updates.mixture_step(old, target, alpha)
    np.testing.assert_allclose(mixed, (1 - alpha) * old + alpha * target, rtol=4 * U)
    assert bounds.compare(mdp, old, mixed).surrogate_gain > 0


def test_mixing_at_its_ends():
    assert updates.conservative_mixing([[1.0, 0.0]], [[0.0, 1.0]], [[0.0, -1.0]], [1.0], 0.5) == 0.0
    assert updates.conservative_mixing([[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]], [1.0], 0.0) == 1.0
    assert updates.conservative_mixing([[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]], [1.0], 0.5) == 0.0


# ── the minorizer's maximum ───────────────────────────────────────────────────────────────────────


def minorizer(p, new, A, rho, C):
    return rho @ gains(p, new, A) - C * bounds.kl_divergence(p, new).max()


@given(tables, st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e4]))
def test_the_mm_step_is_where_the_radius_pays_its_price(drawn, dear):
    p, A, generator = drawn
    rho = generator.random(len(p))
    C = dear * np.abs(A).max()
    new, info = updates.mm_step(p, A, rho, C)
    rise = minorizer(p, new, A, rho, C)
    size = rho.sum() * np.abs(A).max()
    assert rise >= -8 * U * size
    if info.ending is MMEnding.IMPROVED:
        assert rho @ info.multipliers == pytest.approx(C, rel=ROOT)
        assert bounds.kl_divergence(p, new).max() <= info.max_kl * (1 + 1e-6) + 8 * U * np.sqrt(info.max_kl)
    else:
        np.testing.assert_array_equal(new, p)
    for _ in range(30):
        rival = p + generator.random() ** 4 * (generator.dirichlet(np.ones(p.shape[1]), size=len(p)) - p)
        assert minorizer(p, rival, A, rho, C) <= rise + 8 * U * size
    for scale in (0.5, 0.9, 1.1, 2.0):  # other radii
        if 0 < info.max_kl < np.inf:
            rival = updates.kl_ball_step(p, A, scale * info.max_kl)[0]
            assert minorizer(p, rival, A, rho, C) <= rise + 8 * U * size


def test_scipy_climbs_to_the_same_maximum():
    p, A, _ = table(3, 3, 1.0, 0.0, states=2)
    rho, C = np.array([1.5, 0.5]), 4.0
    new, info = updates.mm_step(p, A, rho, C)

    def rows(z):
        return z[:-1].reshape(2, 3)

    theirs = scipy.optimize.minimize(
        lambda z: -(rho @ gains(p, rows(z), A) - C * z[-1]),
        np.append(p.ravel(), 0.1),
        method="SLSQP",
        bounds=[(1e-9, 1)] * 6 + [(0, None)],
        constraints=[
            {"type": "eq", "fun": lambda z: rows(z).sum(axis=1) - 1},
            {"type": "ineq", "fun": lambda z: z[-1] - np.sum(p * np.log(p / rows(z)), axis=1)},
        ],
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    assert minorizer(p, new, A, rho, C) == pytest.approx(-theirs.fun, rel=1e-8)
    np.testing.assert_allclose(new, rows(theirs.x), rtol=0, atol=1e-5)  # √ of SciPy's accuracy, by differences
    assert info.max_kl == pytest.approx(theirs.x[-1], abs=1e-5)


def test_brute_force_with_two_actions_in_two_states():
    p, A = np.array([[0.5, 0.5], [0.8, 0.2]]), np.array([[1.0, -1.0], [-0.5, 2.0]])
    rho, C = np.array([1.0, 0.75]), 3.0
    new, _ = updates.mm_step(p, A, rho, C)
    q = np.linspace(0, 1, 2003)[1:-1]
    first, second = (p[s, 0] * np.log(p[s, 0] / q) + p[s, 1] * np.log(p[s, 1] / (1 - q)) for s in (0, 1))
    value = (
        rho[0] * (q - 0.5)[:, None] * 2.0
        + rho[1] * (q - 0.8)[None, :] * -2.5
        - C * np.maximum(first[:, None], second[None, :])
    )
    i, j = np.unravel_index(value.argmax(), value.shape)
    np.testing.assert_allclose(new[:, 0], [q[i], q[j]], rtol=0, atol=2e-3)  # the grid's spacing is 5e-4
    assert value.max() <= minorizer(p, new, A, rho, C) + 1e-12


def test_deterministic_policies_leave_only_if_it_pays():
    """(1 − e^{−κ}) ρΔ − Cκ rises at 0 iff ρΔ > C: the corner that TRPO's C never leaves for γ > 1/5."""
    p, A = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 2.0], [-1.0, 0.0]])
    stays, info = updates.mm_step(p, A, [1.0, 1.0], 2.0)
    np.testing.assert_array_equal(stays, p)
    assert (info.ending, info.max_kl) == (MMEnding.AT_MAXIMUM, 0.0)
    leaves, info = updates.mm_step(p, A, [1.0, 1.0], 1.0)
    assert info.max_kl == pytest.approx(np.log(2), rel=ROOT)
    np.testing.assert_allclose(leaves, [[0.5, 0.5], [0.0, 1.0]], rtol=0, atol=ROOT)


def test_without_a_price_the_step_is_greedy_and_without_advantages_there_is_none():
    p, A, _ = table(5, 3, 1.0, 0.0)
    new, info = updates.mm_step(p, A, np.ones(3), 0.0)
    np.testing.assert_array_equal(new, updates.greedy_step(p, A))
    assert info.max_kl == np.inf
    same, info = updates.mm_step(p, np.zeros_like(A), np.ones(3), 0.0)
    np.testing.assert_allclose(same, p, rtol=4 * U)
    same, info = updates.mm_step(p, np.ones_like(A), np.ones(3), 1.0)
    np.testing.assert_array_equal(same, p)
    assert info.ending is MMEnding.AT_MAXIMUM


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: updates.kl_ball_step([[0.5, 0.6]], [[0, 1]], 1), r"kl_ball_step: policy is \[0.5, 0.6\] in state 0"),
        (lambda: updates.kl_ball_step([[1.5, -0.5]], [[0, 1]], 1), "kl_ball_step: policy"),
        (lambda: updates.kl_ball_step([[0.5, 0.5]], [[0, 1]], 0), "kl_ball_step: max_kl is 0, expected a number > 0"),
        (lambda: updates.mm_step([[0.5, 0.5]], [[0, 1]], [-1.0], 1), "mm_step: visitation is .*-1.0.* in state 0"),
        (lambda: updates.mm_step([[0.5, 0.5]], [[0, 1]], [1.0, 1.0], 1), "mm_step: visitation has shape"),
        (lambda: updates.mm_step([[0.5, 0.5]], [[0, 1]], [1.0], -1), "mm_step: penalty is -1"),
        (lambda: updates.mirror_descent_step([[0.5, 0.5]], [[0, 1]], 0), "mirror_descent_step: temperature is 0"),
        (lambda: updates.mixture_step([[0.5, 0.5]], [[1.0, 0.0]], 2), "mixture_step: mixing is 2"),
        (lambda: updates.greedy_step([[0.5, 0.5]], [[0, 1, 2]]), "greedy_step: advantages has shape"),
    ],
)
def test_bad_tables_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ── the minorizer of a network ────────────────────────────────────────────────────────────────────


def test_a_network_that_is_a_table_finds_the_table_s_maximum():
    """One-hot observations make every table possible: SciPy's climb and the exact step end at one M."""
    generator = np.random.default_rng(1)
    mdp = mdps.random_mdp(generator, states=3, actions=3, discount=0.5)
    tabular, x = softmax_policy((3, 3)), np.eye(3)
    theta = generator.normal(size=tabular.network.num_parameters)
    p = probability_table(tabular, theta, x)
    at = mdps.evaluate(mdp, p)
    C = bounds.penalty_coefficient(at.advantages, 0.5)
    new, info = updates.parametric_mm_step(tabular, theta, x, at.advantages, at.visitation, C)
    exact, step = updates.mm_step(p, at.advantages, at.visitation, C)
    assert info.ending is MMEnding.IMPROVED
    best = minorizer(p, exact, at.advantages, at.visitation, C)
    assert info.minorizer_gain == pytest.approx(best, rel=1e-8)  # SciPy stops at 1e-12, where the constraint is at 1e-9
    np.testing.assert_allclose(probability_table(tabular, new, x), exact, rtol=0, atol=1e-5)
    assert info.max_kl == pytest.approx(step.max_kl, rel=1e-4)
    assert info.kkt_residual < 1e-5
    # ∇L = Σ μ_s ∇KL_s with μ_s = ρ_s λ_s: the two sets of multipliers are one.
    np.testing.assert_allclose(info.multipliers, at.visitation * step.multipliers, rtol=1e-3)


def test_a_network_s_step_is_stationary_and_does_what_it_says():
    generator = np.random.default_rng(6)
    mdp = mdps.garnet(generator, states=4, actions=3, branching=2, discount=0.3)
    policy, x = softmax_policy((2, 3, 3)), generator.normal(size=(4, 2))
    theta = generator.normal(size=policy.network.num_parameters)
    p = probability_table(policy, theta, x)
    at = mdps.evaluate(mdp, p)
    C = bounds.penalty_coefficient(at.advantages, 0.3)
    new, info = updates.parametric_mm_step(policy, theta, x, at.advantages, at.visitation, C)
    after = bounds.trpo_kl_bound(mdp, p, probability_table(policy, new, x))
    assert info.minorizer_gain == pytest.approx(after.guaranteed_gain, rel=1e-9)
    assert info.surrogate_gain == pytest.approx(after.surrogate_gain, rel=1e-9)
    assert info.kkt_residual < 1e-5
    assert info.multipliers.sum() == pytest.approx(C, rel=1e-12)
    assert after.gain >= after.guaranteed_gain > 0
    for d in generator.normal(size=(40, len(theta))):
        for length in (0.01, 0.1):
            rival = probability_table(policy, new + length * np.linalg.norm(info.step) * d / np.linalg.norm(d), x)
            assert bounds.trpo_kl_bound(mdp, p, rival).guaranteed_gain < info.minorizer_gain
    still, rest = updates.parametric_mm_step(policy, theta, x, np.zeros_like(p), at.visitation, C)
    assert rest.ending is MMEnding.AT_MAXIMUM
    np.testing.assert_array_equal(still, theta)
