"""Mean KL and the Fisher matrix: each by a second characterisation.

KL by enumeration and at 60 digits; its gradient and Hessian by complex step; F as the Hessian of either KL, as
E[s sᵀ] by enumeration, as rows, as Gram matrix and by sampling within standard errors.
"""

from itertools import pairwise

import mpmath
import numpy as np
import pytest
from examples import FEATURES, POLICIES, ROWS, example
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator

from refpg import geometry, policy
from refpg.policy import gaussian_policy, softmax_policy

U = np.finfo(float).eps / 2
WEIGHTS = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])


def complex_step(function, theta, direction):
    """The derivative of an analytic function along a direction, to rounding."""
    h = 1e-60
    return np.imag(function(theta + 1j * h * direction)) / h


def mean_kl_at_60_digits(theta_old, theta, x, sizes, gaussian):
    """The textbook mean KL of a tanh policy, every operation at 60 digits."""
    with mpmath.workdps(60):

        def outputs(parameters, row):
            values, h = iter(parameters), [mpmath.mpf(v) for v in row]
            for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
                W = [[mpmath.mpf(float(next(values))) for _ in range(fan_out)] for _ in range(fan_in)]
                b = [mpmath.mpf(float(next(values))) for _ in range(fan_out)]
                z = [b[j] + sum(h[i] * W[i][j] for i in range(fan_in)) for j in range(fan_out)]
                h = z if layer == len(sizes) - 2 else [mpmath.tanh(v) for v in z]
            return h, [mpmath.mpf(float(v)) for v in values]

        def row_kl(row):
            (p, p_std), (q, q_std) = outputs(theta_old, row), outputs(theta, row)
            if gaussian:
                return sum(
                    b - a + (mpmath.e ** (2 * a) + (m - n) ** 2) / (2 * mpmath.e ** (2 * b)) - mpmath.mpf(1) / 2
                    for m, n, a, b in zip(p, q, p_std, q_std, strict=True)
                )
            log_p = [v - mpmath.log(sum(mpmath.e**u for u in p)) for v in p]
            log_q = [v - mpmath.log(sum(mpmath.e**u for u in q)) for v in q]
            return sum(mpmath.e**a * (a - b) for a, b in zip(log_p, log_q, strict=True))

        return float(sum(row_kl(row) for row in x.tolist()) / len(x))


@pytest.mark.parametrize("change", [1.0, 1e-3, 1e-6, 1e-11])
@pytest.mark.parametrize("gaussian", [False, True])
def test_mean_kl_keeps_its_digits_down_to_1e_minus_18(gaussian, change):
    sizes = (3, 4, 2)
    subject = gaussian_policy(sizes) if gaussian else softmax_policy(sizes)
    generator = np.random.default_rng(7)
    theta = generator.normal(size=subject.network.num_parameters)
    new = theta + change * generator.normal(size=theta.size)
    x = generator.normal(size=(4, 3))
    truth = mean_kl_at_60_digits(theta, new, x, sizes, gaussian)
    assert truth < 1e3 * change**2  # so that the last one is below 1e-18
    # A change of φ carries a relative error of about (depth × width) U, and KL is quadratic in it.
    assert geometry.mean_kl(subject, theta, new, x) == pytest.approx(truth, rel=100 * U, abs=0)


@pytest.mark.parametrize("name", POLICIES)
def test_mean_kl_is_the_weighted_mean_of_its_rows(name):
    case = example(name)
    rows = [
        geometry.mean_kl(case.policy, case.theta, case.theta_new, case.x, weights=np.eye(ROWS)[b]) for b in range(ROWS)
    ]
    assert min(rows) > 0
    mean = geometry.mean_kl(case.policy, case.theta, case.theta_new, case.x)
    assert mean == pytest.approx(np.mean(rows), rel=10 * U, abs=0)
    weighted = geometry.mean_kl(case.policy, case.theta, case.theta_new, case.x, weights=WEIGHTS)
    assert weighted == pytest.approx(WEIGHTS @ rows, rel=10 * U, abs=0)


def test_mean_kl_enumerates_the_actions_old_first():
    case = example("categorical")
    p = policy.probability_table(case.policy, case.theta, case.x)
    q = policy.probability_table(case.policy, case.theta_new, case.x)
    old_new = np.mean(np.sum(p * np.log(p / q), axis=1))
    new_old = np.mean(np.sum(q * np.log(q / p), axis=1))
    assert abs(old_new / new_old - 1) > 1e-3
    arguments = (case.policy, case.theta, case.theta_new, case.x)
    # Enumerated terms are of size ~ 0.1 and cancel to KL ~ 0.01.
    assert geometry.mean_kl(*arguments) == pytest.approx(old_new, abs=20 * U)
    assert geometry.mean_kl(*arguments, direction="new_old") == pytest.approx(new_old, abs=20 * U)


@pytest.mark.parametrize("name", POLICIES)
def test_swapping_the_policies_swaps_the_direction(name):
    case = example(name)
    forward = geometry.mean_kl(case.policy, case.theta, case.theta_new, case.x)
    swapped = geometry.mean_kl(case.policy, case.theta_new, case.theta, case.x, direction="new_old")
    assert swapped == pytest.approx(forward, rel=1000 * U, abs=0)


@pytest.mark.parametrize("direction", geometry.DIRECTIONS)
@pytest.mark.parametrize("name", POLICIES)
def test_mean_kl_gradient_is_the_complex_step_derivative(name, direction):
    case = example(name)
    gradient = geometry.mean_kl_gradient(
        case.policy, case.theta, case.theta_new, case.x, weights=WEIGHTS, direction=direction
    )
    for seed in range(3):
        v = np.random.default_rng(seed).normal(size=case.theta.size)
        slope = complex_step(
            lambda theta: geometry.mean_kl(
                case.policy, case.theta, theta, case.x, weights=WEIGHTS, direction=direction
            ),
            case.theta_new,
            v,
        )
        assert gradient @ v == pytest.approx(slope, rel=0, abs=1e3 * U * (np.abs(gradient) @ np.abs(v) + 1))


@pytest.mark.parametrize("direction", geometry.DIRECTIONS)
@pytest.mark.parametrize("name", POLICIES)
def test_hessian_vector_product_away_from_theta_old_is_the_derivative_of_the_gradient(name, direction):
    case = example(name, change=1.0)
    v = np.random.default_rng(5).normal(size=case.theta.size)
    product = geometry.mean_kl_hessian_vector_product(
        case.policy, case.theta, case.theta_new, case.x, v, weights=WEIGHTS, direction=direction
    )
    slope = complex_step(
        lambda theta: geometry.mean_kl_gradient(
            case.policy, case.theta, theta, case.x, weights=WEIGHTS, direction=direction
        ),
        case.theta_new,
        v,
    )
    np.testing.assert_allclose(product, slope, rtol=0, atol=2e3 * U * (np.abs(product).max() + 1))


@pytest.mark.parametrize("direction", geometry.DIRECTIONS)
@pytest.mark.parametrize("name", POLICIES)
def test_at_theta_old_kl_is_zero_and_its_hessian_is_the_fisher_matrix(name, direction):
    case = example(name)
    arguments = (case.policy, case.theta, case.theta, case.x)
    v = np.random.default_rng(2).normal(size=case.theta.size)
    assert geometry.mean_kl(*arguments, direction=direction) == 0
    assert not geometry.mean_kl_gradient(*arguments, direction=direction).any()
    hessian = geometry.mean_kl_hessian_vector_product(*arguments, v, direction=direction)
    fisher = geometry.fisher_vector_product(case.policy, case.theta, case.x, v)
    np.testing.assert_allclose(hessian, fisher, rtol=0, atol=100 * U * np.abs(fisher).max())


@pytest.mark.parametrize("name", POLICIES)
def test_kl_is_half_the_fisher_form_to_second_order(name):
    case = example(name)
    v = np.random.default_rng(4).normal(size=case.theta.size)
    v /= np.linalg.norm(v)
    quadratic = 0.5 * v @ geometry.fisher_vector_product(case.policy, case.theta, case.x, v)
    scales = 2.0 ** -np.arange(4, 12)
    remainders = [
        abs(geometry.mean_kl(case.policy, case.theta, case.theta + t * v, case.x) / t**2 - quadratic) for t in scales
    ]
    # KL = ½t²vᵀFv + O(t³): the remainder of KL/t² is of first order, its slope in log–log is ≥ 1 up to curvature.
    slope = np.polyfit(np.log(scales), np.log(remainders), 1)[0]
    assert slope > 0.9


@pytest.mark.parametrize("name", ["categorical", "masked categorical"])
def test_fisher_is_the_expected_outer_product_of_scores_by_enumeration(name):
    case = example(name)
    table = policy.probability_table(case.policy, case.theta, case.x)
    total = np.zeros((case.theta.size,) * 2)
    for b in range(ROWS):
        for a in np.flatnonzero(table[b]):
            score = (
                policy.log_prob_vjp(case.policy, case.theta, case.x[b : b + 1], [a], [1.0])
                if (name == "categorical")
                else _masked_score(case, b, a)
            )
            total += WEIGHTS[b] * table[b, a] * np.outer(score, score)
    fisher = geometry.fisher_matrix(case.policy, case.theta, case.x, weights=WEIGHTS)
    np.testing.assert_allclose(fisher, total, rtol=0, atol=100 * U * np.abs(total).max())


def _masked_score(case, b, a):
    actions = case.actions.copy()
    actions[b] = a
    return policy.log_prob_vjp(case.policy, case.theta, case.x, actions, np.eye(ROWS)[b])


@pytest.mark.parametrize("name", POLICIES)
def test_product_operator_matrix_rows_and_gram_are_one_object(name):
    case = example(name)
    arguments = (case.policy, case.theta, case.x)
    P = case.theta.size
    F = geometry.fisher_matrix(*arguments, weights=WEIGHTS)
    G = geometry.fisher_rows(*arguments, weights=WEIGHTS)
    operator = geometry.fisher_operator(*arguments, damping=0.25, weights=WEIGHTS)
    products = np.stack(
        [geometry.fisher_vector_product(*arguments, e, damping=0.25, weights=WEIGHTS) for e in np.eye(P)],
        axis=1,
    )
    scale = 100 * U * np.abs(F).max() + 4 * U
    np.testing.assert_array_equal(F, F.T)
    np.testing.assert_allclose(products, F + 0.25 * np.eye(P), rtol=0, atol=scale)
    np.testing.assert_allclose(operator @ np.eye(P), products, rtol=0, atol=scale)
    np.testing.assert_allclose(G.T @ G, F, rtol=0, atol=scale)
    rows = geometry.fisher_rows_operator(*arguments, weights=WEIGHTS)
    v, u = (np.random.default_rng(4).normal(size=size) for size in G.shape[::-1])
    np.testing.assert_allclose(rows @ v, G @ v, rtol=0, atol=100 * U * np.abs(G @ v).max())
    np.testing.assert_allclose(rows.T @ u, G.T @ u, rtol=0, atol=100 * U * np.abs(G.T @ u).max())
    gram = geometry.fisher_gram(*arguments, weights=WEIGHTS)
    np.testing.assert_allclose(gram, G @ G.T, rtol=0, atol=100 * U * np.abs(gram).max())
    assert isinstance(operator, LinearOperator)


@pytest.mark.parametrize("name", POLICIES)
def test_the_matrix_without_its_jacobian_is_the_product_of_the_rows(name, monkeypatch):
    """`fisher_matrix` forms the rows when they are few; here it may not, and works on parts of 3 rows."""
    case = example(name)
    G = geometry.fisher_rows(case.policy, case.theta, case.x, weights=WEIGHTS)
    monkeypatch.setattr(geometry, "_FORMED", 0)
    monkeypatch.setattr(geometry, "_ROWS_PER_MATRIX", 3)
    F = geometry.fisher_matrix(case.policy, case.theta, case.x, weights=WEIGHTS)
    np.testing.assert_allclose(F, G.T @ G, rtol=0, atol=100 * U * np.abs(F).max())
    np.testing.assert_array_equal(F, F.T)


@pytest.mark.parametrize("name", POLICIES)
def test_fisher_is_positive_semi_definite_with_the_rank_it_must_have(name):
    case = example(name)
    eigenvalues = np.linalg.eigvalsh(geometry.fisher_matrix(case.policy, case.theta, case.x))
    # eigvalsh is backward stable: an exact zero comes out as at most P·U·‖F‖ or so.
    noise = 10 * case.theta.size * U * eigenvalues[-1]
    assert eigenvalues[0] >= -noise
    K = case.policy.network.num_outputs
    assert np.sum(eigenvalues > noise) <= ROWS * K


def test_a_shift_of_all_logits_is_in_the_null_space():
    case = example("categorical")
    shift = np.zeros(case.theta.size)
    shift[-4:] = 1.0
    product = geometry.fisher_vector_product(case.policy, case.theta, case.x, shift)
    np.testing.assert_allclose(product, 0, rtol=0, atol=10 * U)


def test_a_gaussian_policy_that_is_linear_has_the_fisher_matrix_of_least_squares():
    subject = gaussian_policy((FEATURES, 2))
    generator = np.random.default_rng(11)
    theta = generator.normal(size=subject.network.num_parameters)
    x = generator.normal(size=(ROWS, FEATURES))
    rows = np.concatenate([x, np.ones((ROWS, 1))], axis=1)  # the bias is a feature that is always 1
    design = rows.T @ rows / ROWS
    precision = np.diag(np.exp(-2 * theta[-2:]))
    expected = np.zeros((theta.size,) * 2)
    expected[:8, :8] = np.kron(design, precision)
    expected[8:, 8:] = 2 * np.eye(2)
    fisher = geometry.fisher_matrix(subject, theta, x)
    np.testing.assert_allclose(fisher, expected, rtol=0, atol=50 * U * np.abs(expected).max())


@pytest.mark.parametrize("name", POLICIES)
def test_sampled_scores_estimate_the_fisher_matrix_within_standard_errors(name):
    case = example(name)
    arguments = (case.policy, case.theta, case.x)
    F = geometry.fisher_matrix(*arguments)
    v = np.random.default_rng(6).normal(size=case.theta.size)
    estimates = np.array(
        [
            v @ geometry.sampled_fisher_matrix(*arguments, np.random.default_rng(seed), samples=50) @ v
            for seed in range(40)
        ]
    )
    standard_error = estimates.std(ddof=1) / np.sqrt(len(estimates))
    assert abs(estimates.mean() - v @ F @ v) < 4 * standard_error
    assert standard_error < 0.1 * (v @ F @ v)


def test_the_empirical_fisher_is_another_matrix():
    case = example("gaussian, free log-std")
    arguments = (case.policy, case.theta, case.x)
    empirical = geometry.empirical_fisher_matrix(*arguments, case.actions)
    scores = policy.log_prob_jacobian(*arguments, case.actions)
    total = sum(np.outer(s, s) for s in scores) / ROWS
    np.testing.assert_allclose(empirical, total, rtol=0, atol=20 * U * np.abs(total).max())
    assert np.linalg.matrix_rank(empirical) == ROWS
    assert np.abs(empirical - geometry.fisher_matrix(*arguments)).max() > 0.1


@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple),
    gaussian=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_kl_is_non_negative_and_fisher_products_are_symmetric_for_random_shapes(sizes, gaussian, seed):
    subject = gaussian_policy(sizes) if gaussian else softmax_policy(sizes)
    generator = np.random.default_rng(seed)
    theta, new, v, w = generator.normal(size=(4, subject.network.num_parameters))
    x = generator.normal(size=(3, sizes[0]))
    for direction in geometry.DIRECTIONS:
        assert geometry.mean_kl(subject, theta, new, x, direction=direction) >= 0
    Fv, Fw = (geometry.fisher_vector_product(subject, theta, x, u) for u in (v, w))
    scale = np.linalg.norm(Fv) * np.linalg.norm(w) + np.linalg.norm(Fw) * np.linalg.norm(v)
    assert abs(w @ Fv - v @ Fw) <= 100 * U * (scale + U)
    assert v @ Fv >= -100 * U * scale


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda e: geometry.mean_kl(e.policy, e.theta, e.theta, e.x, direction="forward"),
            "mean_kl: direction",
        ),
        (
            lambda e: geometry.mean_kl(e.policy, e.theta, e.theta, e.x, weights=np.ones(ROWS)),
            "mean_kl: weights",
        ),
        (lambda e: geometry.mean_kl(e.policy, e.theta, e.theta[1:], e.x), "mean_kl: theta has"),
        (
            lambda e: geometry.mean_kl(e.policy, e.theta * np.nan, e.theta, e.x),
            "mean_kl: theta_old holds NaN",
        ),
        (lambda e: geometry.mean_kl(e.policy, e.theta, e.theta, e.x[:0]), "mean_kl: x .* empty"),
        (
            lambda e: geometry.fisher_vector_product(e.policy, e.theta, e.x, e.theta, damping=-1e-9),
            "fisher_vector_product: damping is -1e-09, expected a number >= 0",
        ),
        (
            lambda e: geometry.fisher_vector_product(e.policy, e.theta, e.x, e.theta[1:]),
            "fisher_vector_product: v",
        ),
        (
            lambda e: geometry.sampled_fisher_matrix(e.policy, e.theta, e.x, np.random.default_rng(0), samples=0),
            "sampled_fisher_matrix: samples is 0",
        ),
        (
            lambda e: geometry.empirical_fisher_matrix(e.policy, e.theta, e.x, e.actions + 7),
            "log_prob_jacobian: action",
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(example("categorical"))
