"""The policy: log-probability and its gradients, against enumeration and complex-step differences."""

import numpy as np
import pytest
from examples import MASK, POLICIES, example

from refpg import geometry, notation
from refpg import policy as policies
from refpg.distributions import CATEGORICAL, DIAGONAL_GAUSSIAN
from refpg.network import Network
from refpg.notation import Unrepresentable, bind_shapes
from refpg.policy import Policy

U = np.finfo(float).eps / 2


def complex_step(function, theta, direction):
    """The derivative of an analytic function along a direction, to rounding: Im f(θ + ih v)/h, with no difference."""
    h = 1e-60
    return np.imag(function(theta + 1j * h * direction)) / h


@pytest.mark.parametrize("name", POLICIES)
def test_log_prob_vjp_is_the_derivative_of_log_prob(name):
    case = example(name)
    generator = np.random.default_rng(1)
    cotangent = generator.normal(size=len(case.x))
    v = generator.normal(size=len(case.theta))
    gradient = policies.log_prob_vjp(case.policy, case.theta, case.x, case.actions, cotangent)
    slope = complex_step(
        lambda theta: policies.log_prob(case.policy, theta, case.x, case.actions) @ cotangent, case.theta, v
    )
    # Both sides are sums of < 1000 products; rounding grows at most linearly with their number and size.
    bound = 1e3 * U * (np.abs(gradient) @ np.abs(v) + 1)
    assert abs(gradient @ v - slope) <= bound


@pytest.mark.parametrize("name", POLICIES)
def test_log_prob_jacobian_holds_the_gradient_of_each_row(name):
    case = example(name)
    jacobian = policies.log_prob_jacobian(case.policy, case.theta, case.x, case.actions)
    for b in range(len(case.x)):
        one = np.eye(len(case.x))[b]
        row = policies.log_prob_vjp(case.policy, case.theta, case.x, case.actions, one)
        np.testing.assert_allclose(jacobian[b], row, rtol=0, atol=100 * U * (1 + np.abs(row).max()))


@pytest.mark.parametrize("name", POLICIES)
def test_log_ratio_agrees_with_the_difference_where_the_difference_has_digits(name):
    case = example(name)
    arguments = (case.x, case.actions)
    old = policies.log_prob(case.policy, case.theta, *arguments)
    new = policies.log_prob(case.policy, case.theta_new, *arguments)
    ratio = policies.log_ratio(case.policy, case.theta, case.theta_new, *arguments)
    np.testing.assert_allclose(ratio, new - old, rtol=0, atol=200 * U * (1 + np.abs(old).max()))


@pytest.mark.parametrize("name", POLICIES)
def test_log_ratio_keeps_its_digits_as_theta_approaches_theta_old(name):
    case = example(name)
    step = 2.0**-60 * (case.theta_new - case.theta)
    small = policies.log_ratio(case.policy, np.zeros_like(case.theta), step, case.x, case.actions)
    at_zero = policies.log_prob_jacobian(case.policy, np.zeros_like(case.theta), case.x, case.actions)
    # The remainder of first order is about step² ~ 1e-37 against values of 1e-19; rounding is a few hundred U.
    scale = np.abs(at_zero) @ np.abs(step)
    np.testing.assert_array_less(np.abs(small - at_zero @ step), 500 * U * scale + 1e-300)


@pytest.mark.parametrize("name", ["categorical", "masked categorical"])
def test_the_table_enumerates_the_actions(name):
    case = example(name)
    table = policies.probability_table(case.policy, case.theta, case.x)
    np.testing.assert_allclose(table.sum(axis=1), 1, rtol=0, atol=8 * U)
    taken = table[np.arange(len(case.x)), case.actions]
    np.testing.assert_allclose(
        taken, np.exp(policies.log_prob(case.policy, case.theta, case.x, case.actions)), rtol=8 * U
    )
    if name == "masked categorical":
        assert (table[~MASK] == 0).all()
    entropy = -np.sum(np.where(table > 0, table * np.log(np.where(table > 0, table, 1)), 0), axis=1)
    np.testing.assert_allclose(policies.entropy(case.policy, case.theta, case.x), entropy, rtol=50 * U)


def test_the_table_belongs_to_categorical_policies():
    case = example("bernoulli")
    with pytest.raises(ValueError, match=r"probability_table: policy is of family 'bernoulli'"):
        policies.probability_table(case.policy, case.theta, case.x)


def test_gaussian_policy_ends_with_the_log_standard_deviations():
    policy = policies.gaussian_policy((2, 3))
    theta = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.5, 0.25, 0.125, -1.0, -2.0, -3.0])
    phi = policies.distribution_parameters(policy, theta, [[1.0, 10.0]])
    assert phi.tolist() == [[41.5, 52.25, 63.125, -1.0, -2.0, -3.0]]


def test_sampling_is_a_function_of_the_generator():
    case = example("squashed gaussian")
    draws = [policies.sample(case.policy, case.theta, case.x, np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(draws[0], draws[1])


@pytest.mark.parametrize("name", POLICIES)
def test_bad_arguments_are_refused_by_name(name):
    case = example(name)
    with pytest.raises(ValueError, match=r"^log_prob_vjp: theta has shape .* where P ="):
        policies.log_prob_vjp(case.policy, case.theta[1:], case.x, case.actions, np.ones(len(case.x)))
    with pytest.raises(ValueError, match=r"^log_prob_vjp: cotangent has shape"):
        policies.log_prob_vjp(case.policy, case.theta, case.x, case.actions, np.ones(2))
    with pytest.raises(ValueError, match=r"^log_ratio: x has shape .* where D = 3"):
        policies.log_ratio(case.policy, case.theta, case.theta, case.x[:, 1:], case.actions)


def test_overflow_is_an_error_and_never_a_warning():
    policy = policies.gaussian_policy((2, 3, 1), "identity")
    theta = np.full(policy.network.num_parameters, 1e200)
    for call in (
        lambda: policies.distribution_parameters(policy, theta, [[1.0, 1.0]]),
        lambda: policies.linearize("f", policy, theta, [[1.0, 1.0]]),
        lambda: policies.log_prob(policy, np.append(np.zeros(13), -1000.0), [[1.0, 1.0]], [[1.0]]),
        lambda: policies.log_ratio(policy, np.zeros_like(theta), theta, [[1.0, 1.0]], [[1.0]]),
        lambda: geometry.fisher_operator(policy, theta, [[1.0, 1.0]]),
        lambda: geometry.fisher_gram(policy, theta, [[1.0, 1.0]]),
        lambda: geometry.mean_kl(policy, np.zeros_like(theta), theta, [[1.0, 1.0]]),
    ):
        with pytest.raises(notation.Unrepresentable, match="overflows, expected .* of smaller magnitude"):
            call()


def test_outputs_that_do_not_fit_the_family_are_refused():
    from refpg.distributions import DIAGONAL_GAUSSIAN
    from refpg.network import Network

    odd = policies.Policy(DIAGONAL_GAUSSIAN, Network((2, 3)))
    (theta,) = bind_shapes("test", {}, theta=(np.zeros(9), "P"))
    with pytest.raises(ValueError, match="^distribution_parameters: "):
        policies.distribution_parameters(odd, theta, np.ones((1, 2)))


@pytest.mark.parametrize(
    ("door", "arguments"),
    [
        (geometry.mean_kl, (np.zeros(4), np.zeros(4), np.zeros((1, 1)))),
        (geometry.fisher_vector_product, (np.zeros(4), np.zeros((1, 1)), np.zeros(4))),
        (policies.log_prob_vjp, (np.zeros(4), np.zeros((1, 1)), [0], np.zeros(1))),
    ],
)
def test_a_door_refuses_a_network_that_cannot_exist(door, arguments):
    """Parts of the rows are not checked again, so the door must."""
    impossible = Policy(CATEGORICAL, Network((1, 2), "sine"))
    with pytest.raises(ValueError, match=f"{door.__name__}: activation is 'sine', expected one of"):
        door(impossible, *arguments)


def test_an_overflow_that_the_result_would_hide_is_refused():
    """log σ = +∞ in both policies: every term of KL would be 0, and the answer finite."""
    wide = Policy(DIAGONAL_GAUSSIAN, Network((1, 2)))
    theta = np.array([0.0, 1e200, 0.0, 0.0])
    with pytest.raises(Unrepresentable, match="overflows, expected theta"):
        geometry.mean_kl(wide, theta, theta, np.array([[1e200]]))
