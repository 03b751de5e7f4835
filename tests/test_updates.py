"""The updates: optimality, duality and invariance laws, SciPy's solver, and brute-force searches."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
from examples import POLICIES, ROWS, example
from hypothesis import given
from hypothesis import strategies as st

from refpg import geometry, network, policy, solvers, surrogate, updates
from refpg.distributions import CATEGORICAL, DIAGONAL_GAUSSIAN
from refpg.network import Network
from refpg.policy import Batch
from refpg.updates import natural

U = np.finfo(float).eps / 2
WEIGHTS = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])
VALUE_NETWORK = Network((3, 2, 1), "softplus")
VALUE_ARGUMENTS = {
    "value_network": VALUE_NETWORK,
    "value_theta": np.zeros(VALUE_NETWORK.num_parameters),
    "value_targets": np.zeros(ROWS),
}


def policy_gradient(case):
    return updates.surrogate_gradient(case.policy, case.theta, case.batch)


def condition_number(case, damping):
    F = geometry.fisher_matrix(case.policy, case.theta, case.x)
    return np.linalg.cond(F + damping * np.eye(len(F)))


# ---------------------------------------------------------------- natural gradient


def test_direct_takes_the_smaller_matrix_and_says_so():
    """B·K against P = 19: six rows of three logits are fewer, seven are not."""
    small = policy.softmax_policy((4, 2, 3), "silu")
    P = small.network.num_parameters
    assert P == 19
    theta, g = np.linspace(-1, 1, P), np.ones(P)
    chosen = {}
    for rows in (6, 7):
        x = np.random.default_rng(0).normal(size=(rows, 4))
        chosen[rows] = updates.natural_gradient(small, theta, x, g, damping=0.1, method="direct").method
    assert chosen == {6: "dual", 7: "cholesky"}


FREE = {
    # The policy, and the rows of each observation that the Gram matrix is made of.
    "a Gaussian's log σ is solved for by itself": (policy.gaussian_policy((3, 4, 2)), 2),
    "a free logit is coupled to the others": (policy.Policy(CATEGORICAL, Network((3, 4, 2), free=1)), 3),
    "half of the log σ from the network": (policy.Policy(DIAGONAL_GAUSSIAN, Network((3, 4, 3), free=1)), 3),
}


@pytest.mark.parametrize("name", FREE)
def test_the_dual_form_splits_off_the_free_numbers_that_are_not_coupled(name, monkeypatch):
    made, rows = FREE[name]
    generator, B, P = np.random.default_rng(3), 5, made.network.num_parameters
    theta, x, g = generator.normal(size=P), generator.normal(size=(B, 3)), generator.normal(size=P)
    weights = generator.dirichlet(np.ones(B))
    grams = []

    def kept(*args, **options):
        grams.append(geometry.fisher_gram(*args, **options))
        return grams[-1]

    monkeypatch.setattr(natural, "fisher_gram", kept)
    found = updates.natural_gradient(made, theta, x, g, damping=0.25, method="dual", weights=weights).direction
    assert [len(gram) for gram in grams] == [B * rows]
    # The error of solving with F is at most about cond · u, here with a factor P for the growth of the sums.
    H = geometry.fisher_matrix(made, theta, x, weights=weights) + 0.25 * np.eye(P)
    truth = np.linalg.solve(H, g)
    assert np.linalg.norm(found - truth) <= 10 * P * np.linalg.cond(H) * U * np.linalg.norm(truth)


@pytest.mark.parametrize("damping", [1.0, 2.0**-7])
@pytest.mark.parametrize("name", POLICIES)
def test_all_damped_methods_give_one_natural_gradient(name, damping):
    case = example(name)
    g = policy_gradient(case)
    F = geometry.fisher_matrix(case.policy, case.theta, case.x)
    truth = scipy.linalg.solve(F + damping * np.eye(len(F)), g, assume_a="pos")
    # Solvers that form F lose cond·U; P bounds the growth.  CG run P times and more has converged as far as it can.
    bound = 10 * len(g) * condition_number(case, damping) * U * np.linalg.norm(truth)
    without_iterations = [(method, None) for method in ("rows", "cholesky", "dual", "direct")]
    for method, iterations in [*without_iterations, ("cg", 2 * len(g))]:
        x = updates.natural_gradient(
            case.policy, case.theta, case.x, g, damping=damping, method=method, iterations=iterations
        ).direction
        assert np.linalg.norm(x - truth) <= bound, method


@pytest.mark.parametrize("name", POLICIES)
def test_the_minimum_norm_natural_gradient_is_the_pseudo_inverse(name):
    case = example(name)
    g = policy_gradient(case)
    F = geometry.fisher_matrix(case.policy, case.theta, case.x)
    eigenvalues = np.linalg.eigvalsh(F)
    rank = int(np.sum(eigenvalues > 1e-11 * eigenvalues[-1]))
    found = updates.natural_gradient(case.policy, case.theta, case.x, g, damping=0, method="minimum_norm")
    assert found.rank == rank
    truth = np.linalg.pinv(F, rcond=1e-11, hermitian=True) @ g
    condition = eigenvalues[-1] / eigenvalues[-rank]
    assert np.linalg.norm(found.direction - truth) <= 100 * len(g) * condition * U * np.linalg.norm(truth)
    # The gradient of a surrogate lies in the range of F, so F F⁺ g = g.
    np.testing.assert_allclose(F @ found.direction, g, rtol=0, atol=100 * len(g) * np.sqrt(condition) * U)


def test_the_natural_gradient_is_the_fit_of_advantages_by_compatible_features():
    """K01: argmin_w Σ_s w_s Σ_a π(a|s) (ψ(s,a)ᵀw − A(s,a))² = F⁻¹ Σ_s w_s Σ_a π(a|s) ψ A."""
    case = example("categorical")
    table = policy.probability_table(case.policy, case.theta, case.x)
    advantages = np.random.default_rng(3).normal(size=table.shape)
    features, targets = [], []
    for a in range(4):
        psi = policy.log_prob_jacobian(case.policy, case.theta, case.x, np.full(ROWS, a))
        root = np.sqrt(table[:, a] / ROWS)
        features.append(root[:, None] * psi)
        targets.append(root * advantages[:, a])
    fit = scipy.linalg.lstsq(np.concatenate(features), np.concatenate(targets), cond=1e-10)[0]
    gradient = np.concatenate(features).T @ np.concatenate(targets)
    natural = updates.natural_gradient(
        case.policy, case.theta, case.x, gradient, damping=0, method="minimum_norm"
    ).direction
    np.testing.assert_allclose(natural, fit, rtol=0, atol=1e-9 * np.linalg.norm(fit))  # cond(F) ~ 1e5, measured


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": -0.1}, "damping is -0.1"),
        ({"damping": 0}, "damping is 0, expected > 0 with method 'rows'"),
        ({"damping": 0.1, "method": "minimum_norm"}, "damping is 0.1, expected 0"),
        ({"damping": 0.1, "method": "cg"}, "iterations is None"),
        ({"damping": 0.1, "iterations": 3}, "iterations is 3"),
        ({"damping": 0.1, "method": "cg", "iterations": 0}, "iterations is 0"),
        ({"damping": 0.1, "method": "lu"}, "method is 'lu'"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(options, message):
    case = example("categorical")
    with pytest.raises(ValueError, match=f"^natural_gradient: {message}"):
        updates.natural_gradient(case.policy, case.theta, case.x, policy_gradient(case), **options)


# ---------------------------------------------------------------- the step


@pytest.mark.parametrize("name", POLICIES)
def test_the_step_maximises_the_linear_model_inside_the_trust_region(name):
    case = example(name)
    g = policy_gradient(case)
    max_kl, damping = 0.02, 0.05
    new, info = updates.natural_gradient_step(case.policy, case.theta, case.x, g, damping=damping, max_kl=max_kl)
    np.testing.assert_array_equal(new, case.theta + info.step)
    H = geometry.fisher_matrix(case.policy, case.theta, case.x) + damping * np.eye(len(g))
    # Feasible: ½sᵀHs = δ; optimal: no other point of the ellipsoid's surface has a larger gᵀs.
    assert 0.5 * info.step @ H @ info.step == pytest.approx(max_kl, rel=1e4 * U, abs=0)
    assert info.quadratic_kl == pytest.approx(max_kl, rel=10 * U, abs=0)
    optimum = np.sqrt(2 * max_kl * g @ np.linalg.solve(H, g))
    assert info.expected_improvement == pytest.approx(optimum, rel=1e4 * U, abs=0)
    for d in np.random.default_rng(0).normal(size=(50, len(g))):
        on_surface = d * np.sqrt(2 * max_kl / (d @ H @ d))
        assert g @ on_surface < info.expected_improvement
    assert info.kkt_residual < 1e4 * U


@pytest.mark.parametrize("name", POLICIES)
def test_penalty_and_constraint_are_dual(name):
    """With λ* = 1/β the penalised problem max gᵀs − λ* ½sᵀHs has the same solution and no duality gap."""
    case = example(name)
    g = policy_gradient(case)
    _, info = updates.natural_gradient_step(case.policy, case.theta, case.x, g, damping=0.1, max_kl=0.01)
    H = geometry.fisher_matrix(case.policy, case.theta, case.x) + 0.1 * np.eye(len(g))
    penalised = np.linalg.solve(info.multiplier * H, g)
    np.testing.assert_allclose(penalised, info.step, rtol=0, atol=1e4 * U * np.abs(info.step).max())
    dual_value = g @ np.linalg.solve(H, g) / (2 * info.multiplier) + info.multiplier * 0.01
    assert dual_value == pytest.approx(info.expected_improvement, rel=1e4 * U, abs=0)


def test_damping_in_the_step_length_is_a_convention():
    case = example("gaussian, free log-std")
    g = policy_gradient(case)
    steps = {}
    for damped in (True, False):
        _, info = updates.natural_gradient_step(
            case.policy, case.theta, case.x, g, damping=0.5, max_kl=0.01, step_damping=damped
        )
        F = geometry.fisher_matrix(case.policy, case.theta, case.x)
        steps[damped] = 0.5 * info.step @ F @ info.step
    assert steps[False] == pytest.approx(0.01, rel=1e3 * U, abs=0)
    assert steps[True] < 0.9 * steps[False]


def test_step_length_brings_a_direction_to_the_edge():
    beta = updates.step_length([3.0, 4.0], [6.0, 4.0], 17.0)
    assert beta == 1.0  # 2·17/(18 + 16) = 1 exactly
    with pytest.raises(ValueError, match="step_length: directionᵀ·product is -1.0"):
        updates.step_length([1.0], [-1.0], 0.1)
    with pytest.raises(ValueError, match="step_length: max_kl is 0, expected a number > 0"):
        updates.step_length([1.0], [1.0], 0)
    assert updates.step_length([3.0, 4.0], [6.0, 4.0], 17.0, epsilon=102.0) == 0.5  # 2·17/(34 + 102) = 1/4 exactly
    with pytest.raises(ValueError, match="step_length: epsilon is -1.0"):
        updates.step_length([1.0], [1.0], 0.1, epsilon=-1.0)


@pytest.mark.parametrize("epsilon", [0.0, 1e-8])
def test_an_epsilon_in_the_step_length_shortens_the_steps_of_small_gradients(epsilon):
    """½ sᵀHs = δ q/(q + ε), q = gᵀH⁻¹g: with ε = 0 the step does not know the length of the gradient."""
    case = example("gaussian, free log-std")
    H = geometry.fisher_matrix(case.policy, case.theta, case.x)
    H = H + 0.1 * np.eye(len(H))
    for scale in (1.0, 1e-3, 1e-5):
        g = scale * policy_gradient(case)
        q = g @ np.linalg.solve(H, g)
        _, info = updates.natural_gradient_step(
            case.policy, case.theta, case.x, g, damping=0.1, max_kl=0.01, step_epsilon=epsilon
        )
        wanted = 0.01 * q / (q + epsilon)
        assert 0.5 * info.step @ H @ info.step == pytest.approx(wanted, rel=1e4 * U, abs=0)
        assert info.quadratic_kl == pytest.approx(wanted, rel=1e4 * U, abs=0)


def test_a_zero_gradient_leaves_theta_where_it_is():
    case = example("categorical")
    new, info = updates.natural_gradient_step(
        case.policy, case.theta, case.x, np.zeros_like(case.theta), damping=0.1, max_kl=0.01
    )
    assert info.ending is updates.Ending.ZERO_GRADIENT
    np.testing.assert_array_equal(new, case.theta)
    batch = case.batch._replace(advantages=np.zeros(ROWS))
    new, info = updates.trpo_step(case.policy, case.theta, batch, damping=0.1, max_kl=0.01)
    assert (info.ending, info.accepted) == (updates.Ending.ZERO_GRADIENT, -1)
    np.testing.assert_array_equal(new, case.theta)


def test_a_direction_without_curvature_has_its_own_ending():
    case = example("categorical")
    shift = np.zeros_like(case.theta)
    shift[-4:] = 1.0
    theta = np.zeros_like(case.theta)  # uniform policy: F·shift is exactly zero
    new, info = updates.natural_gradient_step(
        case.policy, theta, case.x, shift, damping=0, max_kl=0.01, method="cg", iterations=5
    )
    assert info.ending is updates.Ending.NON_POSITIVE_CURVATURE
    np.testing.assert_array_equal(new, theta)


# ---------------------------------------------------------------- line search and TRPO


def brute_force_search(case, step, max_kl, backtrack, tries, rule):
    """The first accepted j, from plain log-probabilities and nothing shared with the package's search."""
    old = policy.log_prob(case.policy, case.theta, case.x, case.actions)
    for j in range(tries):
        candidate = case.theta + backtrack**j * step
        new = policy.log_prob(case.policy, candidate, case.x, case.actions)
        gain = np.mean(np.exp(new - old) * case.batch.advantages) - np.mean(case.batch.advantages)
        kl = geometry.mean_kl(case.policy, case.theta, candidate, case.x)
        if rule(gain, kl, backtrack**j):
            return j
    return -1


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("stretch", [0.5, 4.0, 64.0])
def test_the_line_search_accepts_what_a_brute_force_search_accepts(name, stretch):
    case = example(name)
    g = policy_gradient(case)
    max_kl = 0.01
    _, natural = updates.natural_gradient_step(case.policy, case.theta, case.x, g, damping=0.1, max_kl=max_kl)
    step = stretch * natural.step
    slope = g @ step
    rules = {
        "improves_and_kl": lambda gain, kl, scale: gain > 0 and kl <= max_kl,
        "improves_and_kl_strict": lambda gain, kl, scale: gain > 0 and kl < max_kl,
        "improves_and_1.5_kl": lambda gain, kl, scale: gain >= 0 and kl <= 1.5 * max_kl,
        "no_worse_and_kl": lambda gain, kl, scale: gain >= 0 and kl <= max_kl,
        "kl_strict": lambda gain, kl, scale: kl < max_kl,
        "tenth_of_expected": lambda gain, kl, scale: gain / (scale * slope) > 0.1,
        "half_of_expected_and_kl_strict": lambda gain, kl, scale: gain / (scale * slope) > 0.5 and kl < max_kl,
    }
    assert set(rules) == set(updates.ACCEPTANCE)
    for accept, rule in rules.items():
        new, info = updates.trust_region_line_search(
            case.policy,
            case.theta,
            case.batch,
            step,
            max_kl=max_kl,
            backtrack=0.75,
            max_backtracks=8,
            accept=accept,
        )
        expected = brute_force_search(case, step, max_kl, 0.75, 8, rule)
        assert info.accepted == expected
        if expected >= 0:
            np.testing.assert_allclose(new, case.theta + 0.75**expected * step, rtol=0, atol=4 * U * np.abs(new).max())
            assert len(info.trials) == expected + 1
        else:
            np.testing.assert_array_equal(new, case.theta)
            near_enough = [rule(trial.improvement, 0.0, trial.scale) for trial in info.trials]
            assert info.ending is (updates.Ending.KL_EXCEEDED if any(near_enough) else updates.Ending.NO_IMPROVEMENT)


def test_line_searches_end_early_late_and_never():
    """The three stretches above must not all end alike, or the test above would compare nothing."""
    case = example("categorical")
    _, natural = updates.natural_gradient_step(
        case.policy, case.theta, case.x, policy_gradient(case), damping=0.1, max_kl=0.01
    )
    accepted = [
        updates.trust_region_line_search(
            case.policy,
            case.theta,
            case.batch,
            stretch * natural.step,
            max_kl=0.01,
            backtrack=0.75,
            max_backtracks=8,
        )[1].accepted
        for stretch in (0.5, 4.0, 64.0)
    ]
    assert accepted[0] == 0
    assert accepted[1] >= 3
    assert accepted[2] == -1


def test_candidates_that_overflow_are_rejected_like_any_other():
    case = example("gaussian, free log-std")
    _, natural = updates.natural_gradient_step(
        case.policy, case.theta, case.x, policy_gradient(case), damping=0.1, max_kl=0.01
    )
    new, info = updates.trust_region_line_search(
        case.policy, case.theta, case.batch, 1e150 * natural.step, max_kl=0.01, backtrack=1e-75, max_backtracks=4
    )
    assert np.isinf(info.trials[0].kl)
    assert info.accepted == 2
    assert geometry.mean_kl(case.policy, case.theta, new, case.x) <= 0.01


def test_descent_is_never_accepted():
    case = example("bernoulli")
    step = -1e-3 * policy_gradient(case)
    new, info = updates.trust_region_line_search(case.policy, case.theta, case.batch, step, max_kl=0.01)
    assert (info.accepted, info.ending) == (-1, updates.Ending.NO_IMPROVEMENT)
    assert len(info.trials) == 10
    np.testing.assert_array_equal(new, case.theta)


def test_equality_with_the_radius_is_inside_unless_strict():
    case = example("categorical")
    _, natural = updates.natural_gradient_step(
        case.policy, case.theta, case.x, policy_gradient(case), damping=0.1, max_kl=0.01
    )
    edge = geometry.mean_kl(case.policy, case.theta, case.theta + natural.step, case.x)
    accepted = {
        accept: updates.trust_region_line_search(
            case.policy, case.theta, case.batch, natural.step, max_kl=edge, accept=accept
        )[1].accepted
        for accept in updates.ACCEPTANCE
    }
    strict = {"improves_and_kl_strict", "kl_strict", "half_of_expected_and_kl_strict"}
    assert accepted == {accept: int(accept in strict) for accept in updates.ACCEPTANCE}


@pytest.mark.parametrize("name", POLICIES)
def test_trpo_is_the_four_steps_of_the_paper_with_scipys_conjugate_gradients(name):
    case = example(name)
    damping, max_kl = 2.0**-5, 2.0**-7
    before = case.theta.copy()
    new, info = updates.trpo_step(case.policy, case.theta, case.batch, max_kl=max_kl, damping=damping, iterations=4)
    np.testing.assert_array_equal(case.theta, before)
    H = geometry.fisher_operator(case.policy, case.theta, case.x, damping=damping)
    g = policy.log_prob_jacobian(case.policy, case.theta, case.x, case.actions).T @ case.batch.advantages / ROWS
    x, _ = scipy.sparse.linalg.cg(H, g, rtol=0, atol=0, maxiter=4)
    step = np.sqrt(2 * max_kl / (x @ (H @ x))) * x
    # Four iterations of CG amplify rounding by less than the condition number, here about 1e3.
    np.testing.assert_allclose(info.full_step, step, rtol=0, atol=1e5 * U * np.abs(step).max())
    assert info.accepted >= 0
    np.testing.assert_allclose(new, case.theta + 0.5**info.accepted * step, rtol=0, atol=1e5 * U)
    assert geometry.mean_kl(case.policy, case.theta, new, case.x) <= max_kl
    old_log_prob = policy.log_prob(case.policy, case.theta, case.x, case.actions)
    new_log_prob = policy.log_prob(case.policy, new, case.x, case.actions)
    assert np.mean((np.exp(new_log_prob - old_log_prob) - 1) * case.batch.advantages) > 0


@pytest.mark.parametrize("name", POLICIES)
def test_conjugate_gradients_on_a_policy_pass_through_scipys_iterates(name):
    case = example(name)
    g = policy_gradient(case)
    H = geometry.fisher_operator(case.policy, case.theta, case.x, damping=2.0**-4)
    theirs = []
    scipy.sparse.linalg.cg(H, g, rtol=0, atol=0, maxiter=6, callback=lambda x: theirs.append(x.copy()))
    for iterations, x in enumerate(theirs, start=1):
        ours = updates.natural_gradient(
            case.policy, case.theta, case.x, g, damping=2.0**-4, method="cg", iterations=iterations
        ).direction
        # One algorithm in two orders of operations: rounding of each step is amplified by at most cond(H) a step.
        bound = 10 * iterations * condition_number(case, 2.0**-4) * U * np.linalg.norm(x)
        assert np.linalg.norm(ours - x) <= bound


@given(exponent=st.integers(-20, 20), seed=st.integers(0, 1000))
def test_trpo_does_not_see_the_scale_of_the_advantages(exponent, seed):
    """The step √(2δ/xᵀHx)x is homogeneous of degree 0 in g; a power of two changes no rounding either."""
    case = example("categorical", seed)
    scaled = case.batch._replace(advantages=2.0**exponent * case.batch.advantages)
    one, _ = updates.trpo_step(case.policy, case.theta, case.batch, max_kl=0.01, damping=0.1)
    other, _ = updates.trpo_step(case.policy, case.theta, scaled, max_kl=0.01, damping=0.1)
    np.testing.assert_array_equal(one, other)


def test_undamped_step_length_reaches_trpo():
    case = example("categorical")
    lengths = [
        updates.trpo_step(case.policy, case.theta, case.batch, max_kl=0.01, damping=0.5, step_damping=damped)[1]
        for damped in (True, False)
    ]
    F = geometry.fisher_matrix(case.policy, case.theta, case.x)
    undamped = lengths[1].full_step
    assert 0.5 * undamped @ F @ undamped == pytest.approx(0.01, rel=1e4 * U, abs=0)
    assert lengths[0].step_length < lengths[1].step_length


def test_trpo_hands_on_when_to_stop_and_what_to_add():
    case = example("categorical")
    small = case.batch._replace(advantages=1e-5 * np.asarray(case.batch.advantages))

    def step(**options):
        return updates.trpo_step(case.policy, case.theta, small, max_kl=0.01, damping=0.1, iterations=6, **options)[1]

    g = step().gradient
    H = geometry.fisher_operator(case.policy, case.theta, case.x, damping=0.1)
    stopped = step(threshold=0.5 * np.linalg.norm(g), minimum=1)
    alone = solvers.conjugate_gradient(H.matvec, g, iterations=6, threshold=0.5 * np.linalg.norm(g), minimum=1)
    np.testing.assert_array_equal(stopped.cg.x, alone.x)
    assert len(stopped.cg.alphas) < len(step().cg.alphas)
    assert len(step(threshold=3 * np.linalg.norm(g), minimum=2).cg.alphas) == 2
    curvature = stopped.cg.x @ H.matvec(stopped.cg.x)
    added = step(threshold=0.5 * np.linalg.norm(g), minimum=1, step_epsilon=3 * curvature)
    assert added.step_length == pytest.approx(stopped.step_length / 2, rel=10 * U, abs=0)


def test_a_gradient_below_the_threshold_is_no_gradient():
    case = example("categorical")
    new, info = updates.trpo_step(case.policy, case.theta, case.batch, max_kl=0.01, damping=0.1, threshold=1e3)
    np.testing.assert_array_equal(new, case.theta)
    assert (info.ending, info.accepted) == (updates.Ending.ZERO_GRADIENT, -1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_kl": 0.0}, "max_kl is 0.0, expected a number > 0"),
        ({"damping": -1.0}, "damping is -1.0"),
        ({"accept": "always"}, "accept is 'always'"),
        ({"direction": "both"}, "direction is 'both'"),
        ({"backtrack": 1.0}, "backtrack is 1.0"),
        ({"max_backtracks": 0}, "max_backtracks is 0"),
        ({"iterations": 0}, "iterations is 0"),
    ],
)
def test_trpo_refuses_bad_numbers(options, message):
    case = example("categorical")
    with pytest.raises(ValueError, match=message):
        updates.trpo_step(case.policy, case.theta, case.batch, **({"max_kl": 0.01, "damping": 0.1} | options))


# ---------------------------------------------------------------- PPO


def ppo_batch(case, weights=None):
    """A batch whose old policy lies a little away from θ, so that some ratios are clipped."""
    shift = 0.5 * np.sin(np.arange(ROWS) + 1.0)
    old = policy.log_prob(case.policy, case.theta, case.x, case.actions) + shift
    return Batch(case.x, case.actions, case.batch.advantages, old, weights)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", POLICIES)
def test_ppo_gradients_are_complex_step_derivatives_of_the_three_terms(name, weights):
    case = example(name)
    batch = ppo_batch(case, weights)
    w = np.full(ROWS, 1 / ROWS) if weights is None else weights
    generator = np.random.default_rng(8)
    value_theta = generator.normal(size=VALUE_NETWORK.num_parameters)
    targets = generator.normal(size=ROWS)
    found = updates.ppo_objective(
        case.policy,
        case.theta,
        batch,
        clip=0.2,
        value_network=VALUE_NETWORK,
        value_theta=value_theta,
        value_targets=targets,
        value_coefficient=0.75,
        entropy_coefficient=0.125,
        value_factor=0.5,
    )

    def objective(theta, value_parameters):
        new = policy.log_prob(case.policy, theta, case.x, case.actions)
        r = np.exp(new - batch.old_log_prob)
        outside = np.where(r.real > 1.2, 1.2, np.where(r.real < 0.8, 0.8, r))
        unclipped, clipped = r * batch.advantages, outside * batch.advantages
        lower = np.where(unclipped.real <= clipped.real, unclipped, clipped)
        values = network.forward(VALUE_NETWORK, value_parameters, case.x)[:, 0]
        entropy = policy.entropy(case.policy, theta, case.x)
        return w @ (lower - 0.75 * 0.5 * (values - targets) ** 2 + 0.125 * entropy)

    assert 0 < found.clip_fraction < 1
    assert found.objective == pytest.approx(objective(case.theta, value_theta), abs=100 * U)
    h = 1e-60
    for i, e in enumerate(np.eye(case.theta.size)):
        slope = np.imag(objective(case.theta + 1j * h * e, value_theta)) / h
        assert found.gradient[i] == pytest.approx(slope, abs=500 * U * (1 + np.abs(found.gradient).max()))
    for i, e in enumerate(np.eye(value_theta.size)):
        slope = np.imag(objective(case.theta, value_theta + 1j * h * e)) / h
        assert found.value_gradient[i] == pytest.approx(slope, abs=500 * U * (1 + np.abs(found.value_gradient).max()))


def test_adam_is_the_exponential_averages_of_its_definition():
    generator = np.random.default_rng(2)
    gradients = generator.normal(size=(6, 3))
    theta, state = np.zeros(3), updates.Adam(np.zeros(3), np.zeros(3))
    expected = np.zeros(3)
    for t in range(1, 7):
        theta, state = updates.adam_step(
            theta, gradients[t - 1], state, learning_rate=0.125, beta1=0.75, beta2=0.875, epsilon=1e-5
        )
        decay1, decay2 = 0.75 ** np.arange(t)[::-1], 0.875 ** np.arange(t)[::-1]
        m_hat = decay1 @ gradients[:t] / decay1.sum()  # an exponentially weighted *mean*
        v_hat = decay2 @ gradients[:t] ** 2 / decay2.sum()
        expected -= 0.125 * m_hat / (np.sqrt(v_hat) + 1e-5)
        np.testing.assert_allclose(theta, expected, rtol=0, atol=50 * U)
    assert state.step == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"epsilon": 0.0}, "epsilon"),
    ],
)
def test_adam_refuses_bad_numbers(options, message):
    state = updates.Adam(np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match=f"^adam_step: {message}"):
        updates.adam_step(np.zeros(2), np.ones(2), state, **({"learning_rate": 0.1} | options))
    with pytest.raises(ValueError, match="^adam_step: second_moment has a negative entry"):
        updates.adam_step(np.zeros(2), np.ones(2), updates.Adam(np.zeros(2), -np.ones(2)), learning_rate=0.1)


def test_minibatches_partition_the_rows_in_every_epoch():
    order = updates.minibatch_order(np.random.default_rng(0), rows=11, size=4, epochs=3)
    assert [[len(rows) for rows in epoch] for epoch in order] == [[4, 4, 3]] * 3
    for epoch in order:
        assert sorted(np.concatenate(epoch).tolist()) == list(range(11))
    assert not np.array_equal(np.concatenate(order[0]), np.concatenate(order[1]))


@pytest.mark.parametrize("name", POLICIES)
def test_the_old_policy_stays_frozen_for_k_epochs(name):
    """With K = 4 full-batch epochs: the ratio is 1 in the first only, and each gradient is taken against π_old."""
    case = example(name)
    old = policy.log_prob(case.policy, case.theta, case.x, case.actions)
    batch = case.batch._replace(old_log_prob=old)
    full = [[np.arange(ROWS)]] * 4
    new, info = updates.ppo_update(case.policy, case.theta, batch, clip=0.2, minibatches=full, learning_rate=0.05)
    first, *later = info.objectives
    assert first.approximate_kl == 0
    assert first.objective == pytest.approx(np.mean(batch.advantages), abs=10 * U)
    assert all(epoch.approximate_kl > 1e-6 for epoch in later)

    theta, state = case.theta, updates.Adam(np.zeros_like(case.theta), np.zeros_like(case.theta))
    for _ in range(4):
        log_prob = policy.log_prob(case.policy, theta, case.x, case.actions)
        cotangent = surrogate.clipped_objective_gradient(old, log_prob, batch.advantages, 0.2)
        gradient = policy.log_prob_vjp(case.policy, theta, case.x, case.actions, cotangent)
        theta, state = updates.adam_step(theta, -gradient, state, learning_rate=0.05)
    np.testing.assert_allclose(new, theta, rtol=0, atol=1e4 * U)  # Adam divides by |g|: rounding of g is amplified
    np.testing.assert_allclose(info.adam.first_moment, state.first_moment, rtol=0, atol=1e3 * U)


def test_minibatches_are_visited_in_the_order_given():
    case = example("masked categorical")
    old = policy.log_prob(case.policy, case.theta, case.x, case.actions)
    batch = case.batch._replace(old_log_prob=old, weights=WEIGHTS)
    order = [[[3, 0], [1, 4, 2]]]
    new, info = updates.ppo_update(case.policy, case.theta, batch, clip=0.2, minibatches=order, learning_rate=0.05)
    assert info.objectives[0].objective == pytest.approx(
        WEIGHTS[[3, 0]] @ batch.advantages[[3, 0]] / WEIGHTS[[3, 0]].sum(), abs=10 * U
    )
    assert info.objectives[1].approximate_kl > 0
    reverse, _ = updates.ppo_update(
        case.policy, case.theta, batch, clip=0.2, minibatches=[order[0][::-1]], learning_rate=0.05
    )
    assert np.abs(new - reverse).max() > 1e-3


def test_both_networks_share_one_adam():
    case = example("gaussian, free log-std")
    batch = ppo_batch(case)
    value_theta = np.random.default_rng(9).normal(size=VALUE_NETWORK.num_parameters)
    options = {
        "clip": 0.2,
        "minibatches": [[np.arange(ROWS)]] * 2,
        "learning_rate": 0.01,
        "value_network": VALUE_NETWORK,
        "value_targets": np.arange(ROWS) / 4,
        "value_coefficient": 0.5,
    }
    new, info = updates.ppo_update(case.policy, case.theta, batch, value_theta=value_theta, **options)
    assert info.adam.step == 2
    assert info.adam.first_moment.shape == (case.theta.size + value_theta.size,)
    assert info.objectives[1].value_loss < info.objectives[0].value_loss
    continued, again = updates.ppo_update(
        case.policy, new, batch, value_theta=info.value_theta, adam=info.adam, **options
    )
    assert again.adam.step == 4
    whole, _ = updates.ppo_update(
        case.policy,
        case.theta,
        batch,
        value_theta=value_theta,
        **(options | {"minibatches": [[np.arange(ROWS)]] * 4}),
    )
    np.testing.assert_array_equal(continued, whole)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"old_log_prob": None}, {}, "batch.old_log_prob is None"),
        ({}, {"clip": 0.0}, "clip"),
        ({}, {"clip": 1.0}, "clip"),
        ({}, {"entropy_coefficient": -0.1}, "entropy_coefficient is -0.1"),
        ({}, {"value_network": VALUE_NETWORK}, "given in part"),
        ({}, VALUE_ARGUMENTS | {"value_factor": 0.0}, "^ppo_objective: value_factor is 0.0"),
        ({}, VALUE_ARGUMENTS | {"value_error": "cubed"}, "^ppo_objective: value_error is 'cubed'"),
        ({}, VALUE_ARGUMENTS | {"value_network": Network((3, 2, 2))}, "value_network has 2 outputs"),
        ({}, VALUE_ARGUMENTS | {"value_targets": np.zeros(3)}, "^ppo_objective: value_targets has shape"),
        ({}, VALUE_ARGUMENTS | {"value_targets": np.full(ROWS, 1e200)}, "^ppo_objective: the result overflows"),
        ({"advantages": np.full(ROWS, 1.7e308)}, {}, "^ppo_objective: the result overflows"),
        ({"old_log_prob": np.zeros(3)}, {}, "old_log_prob has shape"),
    ],
)
def test_the_ppo_objective_refuses_bad_arguments(change, options, message):
    case = example("categorical")
    batch = ppo_batch(case)._replace(**change)
    with pytest.raises(ValueError, match=message):
        updates.ppo_objective(case.policy, case.theta, batch, **({"clip": 0.2} | options))


@pytest.mark.parametrize("rows", [[0, 0], [5], [-1], []])
def test_rows_that_do_not_exist_are_refused(rows):
    case = example("categorical")
    with pytest.raises(ValueError, match="^ppo_update: minibatch"):
        updates.ppo_update(case.policy, case.theta, ppo_batch(case), clip=0.2, minibatches=[[rows]], learning_rate=0.1)
