"""Duality: SciPy on the same problems, KKT conditions, weak duality at points that are not optimal, brute force in a
plane; Taylor: the orders of the remainders by regression.

Tolerances: U is the unit roundoff.  H has a condition number below 1e4 here, so a solution of H x = g is known to
1e4 U, and what is made of it by a few products to ten times that.
"""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from examples import POLICIES, example
from hypothesis import given
from hypothesis import strategies as st

from refpg import geometry, policy, surrogate, updates
from refpg.plots import worlds
from refpg.policy import Batch, softmax_policy
from refpg.training import exact_batch
from refpg.updates import CostEnding, Ending

U = np.finfo(float).eps / 2
SOLVED = 1e5 * U


def quadratic(seed, size):
    """A positive definite matrix with eigenvalues in [1/64, 64] on random axes, and a gradient."""
    generator = np.random.default_rng(seed)
    axes = scipy.linalg.qr(generator.normal(size=(size, size)))[0]
    H = axes @ np.diag(2.0 ** generator.uniform(-6, 6, size=size)) @ axes.T
    return (H + H.T) / 2, generator.normal(size=size), generator


problems = st.builds(quadratic, seed=st.integers(0, 10**6), size=st.integers(1, 7))
radii = st.sampled_from([1e-6, 0.01, 0.5, 20.0])


# ── one constraint ────────────────────────────────────────────────────────────────────────────────


@given(problems, radii)
def test_the_dual_pair_is_optimal_and_has_no_gap(problem, delta):
    H, g, generator = problem
    found = updates.trust_region_dual(H, g, delta)
    x = np.linalg.solve(H, g)
    assert found.multiplier == pytest.approx(np.sqrt(g @ x / (2 * delta)), rel=SOLVED)
    assert found.value == pytest.approx(g @ found.step, rel=SOLVED)
    assert found.quadratic_kl == pytest.approx(delta, rel=SOLVED)
    assert found.kkt_residual <= SOLVED
    assert abs(found.duality_gap) <= SOLVED * found.value
    np.testing.assert_allclose(found.multiplier * H @ found.step, g, rtol=0, atol=SOLVED * np.linalg.norm(g))
    # Weak duality: no feasible step above the value, and no multiplier whose dual lies below it.
    for d in generator.normal(size=(20, len(g))):
        assert g @ d * np.sqrt(2 * delta / (d @ H @ d)) <= found.value * (1 + SOLVED)
    for beta in found.multiplier * 2.0 ** generator.uniform(-5, 5, size=20):
        assert g @ x / (2 * beta) + beta * delta >= found.value * (1 - SOLVED)


def test_scipy_finds_the_same_step():
    H, g, _ = quadratic(3, 4)
    found = updates.trust_region_dual(H, g, 0.25)
    theirs = scipy.optimize.minimize(
        lambda s: -g @ s,
        0.1 * found.step,
        jac=lambda s: -g,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda s: 0.25 - s @ H @ s / 2, "jac": lambda s: -H @ s},
        options={"ftol": 1e-15, "maxiter": 500},
    )
    np.testing.assert_allclose(theirs.x, found.step, rtol=0, atol=1e-6 * np.abs(found.step).max())  # √ of SciPy's ftol


@given(problems, radii)
def test_radius_and_penalty_are_two_names_of_one_problem(problem, delta):
    H, g, _ = problem
    beta = updates.penalty_of_radius(H, g, delta)
    assert updates.radius_of_penalty(H, g, beta) == pytest.approx(delta, rel=SOLVED)
    assert updates.penalty_of_radius(H, g, updates.radius_of_penalty(H, g, 3.0)) == pytest.approx(3.0, rel=SOLVED)
    penalised, constrained = updates.penalty_step(H, g, beta), updates.trust_region_dual(H, g, delta)
    np.testing.assert_allclose(penalised.step, constrained.step, rtol=0, atol=SOLVED * np.abs(penalised.step).max())
    # The penalised step is the maximum of gᵀs − β ½sᵀHs: its gradient vanishes there.
    np.testing.assert_allclose(g - beta * H @ penalised.step, 0, atol=SOLVED * np.linalg.norm(g))
    assert abs(penalised.duality_gap) <= SOLVED * penalised.value


@pytest.mark.parametrize("unit", [2.0**-700, 1.0, 2.0**700])
def test_the_unit_of_the_gradient_changes_no_digit(unit):
    H, g, _ = quadratic(5, 3)
    one, other = (updates.trust_region_dual(H, scale * g, 0.01) for scale in (1.0, unit))
    np.testing.assert_array_equal(one.step, other.step)
    assert (other.multiplier, other.value) == (unit * one.multiplier, unit * one.value)


def test_a_zero_gradient_needs_no_step():
    nothing = [0.0, 0.0]
    for found in (updates.trust_region_dual(np.eye(2), nothing, 1.0), updates.penalty_step(np.eye(2), nothing, 1.0)):
        assert found.step.tolist() == [0.0, 0.0]
        assert (found.value, found.quadratic_kl, found.duality_gap) == (0.0, 0.0, 0.0)
    assert updates.trust_region_dual(np.eye(2), [0.0, 0.0], 1.0).multiplier == 0


def test_it_is_the_step_of_a_network():
    case = example("categorical")
    g = updates.surrogate_gradient(case.policy, case.theta, case.batch)
    H = geometry.fisher_matrix(case.policy, case.theta, case.x) + 0.1 * np.eye(len(g))
    _, theirs = updates.natural_gradient_step(case.policy, case.theta, case.x, g, damping=0.1, max_kl=0.01)
    ours = updates.trust_region_dual(H, g, 0.01)
    np.testing.assert_allclose(ours.step, theirs.step, rtol=0, atol=SOLVED * np.abs(theirs.step).max())
    assert ours.multiplier == pytest.approx(theirs.multiplier, rel=SOLVED)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.eye(2), [1.0], 0.1), "gradient has shape"),
        ((np.eye(2), [1.0, 1.0], 0.0), "max_kl is 0.0, expected a number > 0"),
        ((np.zeros((2, 2)), [1.0, 1.0], 0.1), "not positive definite"),
        (([[1.0, 0.5], [0.0, 1.0]], [1.0, 1.0], 0.1), "not symmetric"),
    ],
)
def test_bad_problems_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        updates.trust_region_dual(*arguments)
    with pytest.raises(ValueError, match="penalty_step: penalty is -1, expected a number > 0"):
        updates.penalty_step(np.eye(1), [1.0], -1)


# ── a cost as well ────────────────────────────────────────────────────────────────────────────────


def costly(seed, size, reach):
    """A problem whose cost constraint lies at ``reach`` times the distance that the trust region has."""
    H, g, generator = quadratic(seed, size)
    b, delta = generator.normal(size=size), 0.1
    return H, g, b, reach * np.sqrt(2 * delta * (b @ np.linalg.solve(H, b))), delta


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(-1.5, 1.5).filter(lambda reach: abs(abs(reach) - 1) > 1e-3))
def test_the_cost_constrained_step_is_optimal(seed, size, reach):
    H, g, b, c, delta = costly(seed, size, reach)
    found = updates.cost_constrained_dual(H, g, b, c, delta)
    scale = np.abs(b) @ np.abs(found.step) + abs(c)
    if reach > 1:
        assert found.ending is CostEnding.RECOVERY
        # The lowest cost inside the trust region: that of the pure descent, and still too high.
        lowest = updates.trust_region_dual(H, -b, delta)
        np.testing.assert_allclose(found.step, lowest.step, rtol=0, atol=SOLVED * np.abs(lowest.step).max())
        assert found.cost == pytest.approx(c - lowest.value, abs=SOLVED * scale)
        assert found.cost > 0
        return
    # KKT: feasible, multipliers not negative, stationary, complementary.  With a convex problem that is optimality.
    # Near the edge of the trust region 2δ − c²/S loses the digits that 1 − |reach| > 1e-3 leaves it: 1e3.
    tolerance = 1e3 * SOLVED
    assert found.quadratic_kl <= delta * (1 + tolerance)
    assert found.cost <= tolerance * scale
    assert min(found.multiplier, found.cost_multiplier) >= -tolerance * (1 + abs(found.cost_multiplier))
    multipliers = found.multiplier * np.linalg.norm(H @ found.step) + abs(found.cost_multiplier) * np.linalg.norm(b)
    assert found.kkt_residual * np.linalg.norm(g) <= tolerance * (np.linalg.norm(g) + multipliers)
    assert abs(found.cost_multiplier * found.cost) <= tolerance * abs(found.cost_multiplier) * scale
    assert found.multiplier * (delta - found.quadratic_kl) <= tolerance * found.multiplier * delta
    q, r, S = (u @ np.linalg.solve(H, v) for u, v in ((g, g), (g, b), (b, b)))
    lam, nu = found.multiplier, found.cost_multiplier
    if lam > 1e-9:
        dual = (q - 2 * nu * r + nu**2 * S) / (2 * lam) + lam * delta - nu * c
        assert dual == pytest.approx(found.value, abs=tolerance * (abs(found.value) + lam * delta + abs(nu * c)))


def test_every_ending_is_reached():
    cases = [costly(seed, 3, reach) for seed in range(5) for reach in (-2, 0, 2)]
    reached = {updates.cost_constrained_dual(*case).ending for case in cases}
    assert reached == {CostEnding.COST_INACTIVE, CostEnding.COST_BINDS, CostEnding.RECOVERY}
    stuck = updates.cost_constrained_dual(np.eye(2), [1.0, 0.0], [0.0, 0.0], 0.5, 0.1)
    assert (stuck.ending, stuck.step.tolist(), stuck.cost) == (CostEnding.INFEASIBLE, [0.0, 0.0], 0.5)
    idle = updates.cost_constrained_dual(np.eye(2), [1.0, 0.0], [0.0, 0.0], -0.5, 0.5)
    assert (idle.ending, idle.step.tolist()) == (CostEnding.COST_INACTIVE, [1.0, 0.0])


@pytest.mark.parametrize("reach", [-0.9, -0.3, 0.0, 0.4, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_scipy_solves_the_same_quadratic_program(seed, reach):
    H, g, b, c, delta = costly(seed, 4, reach)
    found = updates.cost_constrained_dual(H, g, b, c, delta)
    theirs = scipy.optimize.minimize(
        lambda s: -g @ s,
        -c / (b @ np.linalg.solve(H, b)) * np.linalg.solve(H, b),
        jac=lambda s: -g,
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": lambda s: delta - s @ H @ s / 2, "jac": lambda s: -H @ s},
            {"type": "ineq", "fun": lambda s: -c - b @ s, "jac": lambda s: -b},
        ],
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    # SciPy may end because its line search finds nothing better, with the point that it was asked for.
    assert found.value == pytest.approx(-theirs.fun, rel=1e-6)  # what SciPy's ftol is good for


def test_brute_force_in_the_plane():
    H, g, b, c, delta = costly(8, 2, 0.5)
    found = updates.cost_constrained_dual(H, g, b, c, delta)
    angle, length = np.meshgrid(np.linspace(0, 2 * np.pi, 4001), np.linspace(0, 1, 1001))
    circle = np.stack([np.cos(angle), np.sin(angle)])
    to_ellipse = np.sqrt(2 * delta) * np.linalg.inv(np.linalg.cholesky(H)).T
    s = length * np.einsum("ij,jkl->ikl", to_ellipse, circle)
    allowed = np.where(c + np.tensordot(b, s, 1) <= 0, np.tensordot(g, s, 1), -np.inf)
    # The grid misses the maximum by at most its spacing, 1.6e-3 of the trust region, and beats it never.
    size = updates.trust_region_dual(H, g, delta).value
    assert found.value - 2e-3 * size * 4 <= allowed.max() <= found.value + 1e-12 * size


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_gradient_along_the_cost_leaves_the_edge_free(sign):
    found = updates.cost_constrained_dual(np.eye(2), [sign, 0.0], [1.0, 0.0], 0.25, 0.5)
    if sign > 0:  # the objective is the cost: go to the edge and no further, the shortest way
        assert (found.step.tolist(), found.multiplier, found.cost_multiplier) == ([-0.25, 0.0], 0.0, 1.0)
        assert found.kkt_residual == 0
    else:
        assert (found.step.tolist(), found.ending) == ([-1.0, 0.0], CostEnding.COST_INACTIVE)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_gradients_along_the_cost_up_to_rounding(size):
    """g = b/3: what is left of g along the edge is rounding, and points anywhere."""
    for seed in range(40):
        H, _, b, c, delta = costly(seed, size, 0.1 + 0.02 * (seed % 40))
        found = updates.cost_constrained_dual(H, b / 3, b, c, delta)
        assert found.cost == pytest.approx(0, abs=SOLVED * (abs(c) + np.abs(b) @ np.abs(found.step)))
        assert found.quadratic_kl <= delta * (1 + SOLVED)
        assert found.cost_multiplier == pytest.approx(1 / 3, rel=SOLVED)
        assert found.value == pytest.approx(-c / 3, rel=SOLVED)


@pytest.mark.parametrize("size", [1, 3])
def test_a_plane_that_touches_the_trust_region(size):
    """All of the region is allowed, or one point of it: rounding decides which words are used, never the step."""
    for seed in range(40):
        H, g, b, c, delta = costly(seed, size, -1.0)
        for edge in (c, np.nextafter(c, 0), np.nextafter(c, -np.inf)):
            found = updates.cost_constrained_dual(H, b, b, edge, delta)
            assert found.ending in (CostEnding.COST_INACTIVE, CostEnding.COST_BINDS)
            # A rounding of c by U moves the point of contact by √U.
            assert found.value == pytest.approx(-c, rel=1e-7)
            assert found.quadratic_kl == pytest.approx(delta, rel=1e-7)
            recovered = updates.cost_constrained_dual(H, g, b, -edge, delta)
            assert recovered.cost == pytest.approx(0, abs=1e-7 * abs(c))


# ── the exact trust region beside the quadratic one ───────────────────────────────────────────────


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "gaussian, free log-std"])
def test_the_exact_trust_region_is_feasible_stationary_and_better(name):
    case = example(name)
    new, info = updates.exact_trust_region_step(case.policy, case.theta, case.batch, max_kl=0.01)
    assert info.ending is Ending.ACCEPTED
    np.testing.assert_array_equal(new, case.theta + info.step)
    old = policy.log_prob(case.policy, case.theta, case.x, case.actions)
    moved = policy.log_prob(case.policy, new, case.x, case.actions)
    gain = np.mean((np.exp(moved - old) - 1) * case.batch.advantages)
    assert info.improvement == pytest.approx(gain, rel=1e-10)
    assert info.kl == geometry.mean_kl(case.policy, case.theta, new, case.x) <= 0.01 * (1 + 1e-9)
    assert info.kl == pytest.approx(0.01, rel=1e-6)  # the constraint binds: the gradient is not zero inside
    assert info.multiplier > 0
    # SciPy stops at a relative change of 1e-12, where the gradient may still be its root, 1e-6.
    assert info.kkt_residual <= 3e-6
    # No point nearby is inside and better, nor is the quadratic step once it is brought inside.
    generator = np.random.default_rng(0)
    def excess(t):
        return geometry.mean_kl(case.policy, case.theta, case.theta + t * info.quadratic_step, case.x) - 0.01

    quadratic_edge = scipy.optimize.brentq(excess, 0.01, 1.5)
    rivals = [quadratic_edge * info.quadratic_step]
    rivals += [t * info.step + 0.05 * np.linalg.norm(info.step) * d / np.linalg.norm(d)
               for t in (0.9, 0.97, 1.0) for d in generator.normal(size=(30, len(new)))]
    for s in rivals:
        if geometry.mean_kl(case.policy, case.theta, case.theta + s, case.x) <= 0.01:
            there = policy.log_prob(case.policy, case.theta + s, case.x, case.actions)
            assert np.mean((np.exp(there - old) - 1) * case.batch.advantages) < info.improvement


def test_exact_and_quadratic_trust_regions_agree_as_the_radius_shrinks():
    case = example("gaussian, free log-std")
    apart, deltas = [], 10.0 ** np.array([-4.0, -5.0, -6.0])
    for delta in deltas:
        _, info = updates.exact_trust_region_step(case.policy, case.theta, case.batch, max_kl=delta)
        apart.append(abs(info.improvement / info.quadratic_improvement - 1))
        _, natural = updates.natural_gradient_step(
            case.policy, case.theta, case.x, updates.surrogate_gradient(case.policy, case.theta, case.batch),
            damping=0, max_kl=delta, method="minimum_norm",
        )
        np.testing.assert_allclose(info.quadratic_step, natural.step, rtol=0, atol=1e-9 * np.abs(natural.step).max())
    # What Taylor leaves out is one order higher: of relative size √δ.
    assert np.polyfit(np.log(deltas), np.log(apart), 1)[0] == pytest.approx(0.5, abs=0.1)
    assert apart[-1] < 0.01


def test_no_gradient_no_step():
    case = example("categorical")
    batch = case.batch._replace(advantages=np.zeros(len(case.x)))
    new, info = updates.exact_trust_region_step(case.policy, case.theta, batch, max_kl=0.01)
    assert info.ending is Ending.ZERO_GRADIENT
    np.testing.assert_array_equal(new, case.theta)


# ── Taylor: what is left out, and of which order ──────────────────────────────────────────────────


def order(steps, remainders):
    """The exponent of a power law, by regression of logarithms."""
    return np.polyfit(np.log(steps), np.log(np.abs(remainders)), 1)[0]


STEPS = 2.0 ** -np.arange(8, 13)


@pytest.mark.parametrize("name", POLICIES)
def test_orders_of_the_remainders(name):
    """L − L(θ) − gᵀs is of second order in s, KL − ½sᵀFs of third, in both directions."""
    case = example(name)
    g = updates.surrogate_gradient(case.policy, case.theta, case.batch)
    F = geometry.fisher_matrix(case.policy, case.theta, case.x)
    v = np.random.default_rng(1).normal(size=len(g))
    v /= np.linalg.norm(v)
    linear, cubic = [], {"old_new": [], "new_old": []}
    for t in STEPS:
        log_r = policy.log_ratio(case.policy, case.theta, case.theta + t * v, case.x, case.actions)
        linear.append(surrogate.surrogate_improvement(log_r, case.batch.advantages) - t * g @ v)
        for direction, remainders in cubic.items():
            kl = geometry.mean_kl(case.policy, case.theta, case.theta + t * v, case.x, direction=direction)
            remainders.append(kl - t**2 / 2 * v @ F @ v)
    # The next order adds a relative STEPS to what is fitted: a slope away from the integer by less than 0.2.
    assert order(STEPS, linear) == pytest.approx(2, abs=0.2)
    for remainders in cubic.values():
        assert order(STEPS, remainders) == pytest.approx(3, abs=0.2)


def test_the_third_order_tells_the_directions_of_the_kl_apart():
    """Logits linear in θ are natural parameters: old‖new leaves κ₃/6, new‖old κ₃/3, κ₃ = E_d E_π (v_a − E_π v)³."""
    generator = np.random.default_rng(4)
    linear = softmax_policy((3, 4))
    theta, v = generator.normal(size=(2, 16))
    x = generator.normal(size=(6, 3))
    table = policy.probability_table(linear, theta, x)
    change = policy.distribution_parameters(linear, v, x)
    centred = change - np.sum(table * change, axis=1, keepdims=True)
    kappa_2, kappa_3 = (np.mean(np.sum(table * centred**n, axis=1)) for n in (2, 3))
    F = geometry.fisher_matrix(linear, theta, x)
    assert kappa_2 == pytest.approx(v @ F @ v, rel=1e3 * U)
    t = 2.0**-16
    left = {
        direction: (geometry.mean_kl(linear, theta, theta + t * v, x, direction=direction) - t**2 / 2 * kappa_2) / t**3
        for direction in geometry.DIRECTIONS
    }
    # The fourth order is t·κ₄/24 and t·κ₄/8 of a κ₄ of the size of E|v|⁴.
    bound = t * np.max(np.abs(centred)) ** 4
    assert left["old_new"] == pytest.approx(kappa_3 / 6, abs=bound)
    assert left["new_old"] == pytest.approx(kappa_3 / 3, abs=bound)
    assert abs(kappa_3 / 6) > 20 * bound


def test_exact_batches_are_no_less_good():
    """`exact_trust_region_step` takes weights: a state counted twice weighs twice."""
    case = example("categorical")
    twice = np.append(np.arange(len(case.x)), 0)
    weights = np.full(len(case.x), 1 / 6)
    weights[0] = 2 / 6
    one = updates.exact_trust_region_step(case.policy, case.theta, case.batch._replace(weights=weights), max_kl=0.01)[1]
    repeated = Batch(case.x[twice], case.actions[twice], case.batch.advantages[twice])
    other = updates.exact_trust_region_step(case.policy, case.theta, repeated, max_kl=0.01)[1]
    assert one.improvement == pytest.approx(other.improvement, rel=1e-6)  # √ of SciPy's ftol
    assert np.abs(one.quadratic_improvement / other.quadratic_improvement - 1) < 1e-6


@pytest.mark.parametrize(
    ("discount", "w", "radius"),
    [
        (0.5, (0.2, 0.9), 10**-0.75),
        (0.8, (-0.9, 0.3), 10**-0.5),
        (0.8, (0.4, -0.6), 10**-0.75),
        (0.9, (-0.9, 0.3), 10**-1.5),
    ],
)
def test_a_point_just_outside_is_brought_to_the_edge(discount, w, radius):
    """SciPy ends a little outside here; half of its step would be inside, and far from stationary."""
    theta = worlds.preference(np.array(w))
    mdp = worlds.alternation(discount=discount)
    table, batch = exact_batch(mdp, worlds.two_actions(2), theta, np.eye(2))
    _, info = updates.exact_trust_region_step(table, theta, batch, max_kl=radius)
    assert info.kl == pytest.approx(radius, rel=2e-9)
    assert info.kkt_residual < 1e-5
