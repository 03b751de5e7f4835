"""Sums over rows: what executors may not change, and what happens when a worker does not come back."""

import os
import tracemalloc
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from refpg import estimation, geometry, network, rows, surrogate, updates
from refpg.distributions import BERNOULLI, masked_categorical
from refpg.network import Network
from refpg.notation import Unrepresentable
from refpg.policy import (
    Batch,
    Policy,
    distribution_parameters,
    gaussian_policy,
    log_prob,
    log_prob_vjp,
    sample,
    softmax_policy,
)

ROWS = 2 * rows.ROWS_PER_PART * rows.PARTS_PER_TASK + 77
GENERATOR = np.random.default_rng(20261122)
X = GENERATOR.normal(size=(ROWS, 3))
W = np.full(ROWS, 1 / ROWS)
MASK = GENERATOR.random((ROWS, 3)) < 0.7
MASK[:, 1] = True
POLICIES = {
    "gaussian": gaussian_policy((3, 5, 2)),
    "categorical": softmax_policy((3, 5, 4), "silu"),
    "masked": Policy(masked_categorical(MASK), Network((3, 4, 3))),
    "bernoulli": Policy(BERNOULLI, Network((3, 4, 2), "relu")),
}
VALUES = Network((3, 4, 1))


class Late(Executor):
    """Runs all calls when a first result is asked for, the newest call first: never in the order they came."""

    def __init__(self):
        self.calls = []

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        self.calls.append((future, function, args))
        original = future.result

        def result(timeout=None):
            self.run_all()
            return original(timeout)

        future.result = result
        return future

    def run_all(self):
        while self.calls:
            future, function, args = self.calls.pop()
            future.set_result(function(*args))


def value_arguments(targets):
    """What `ppo_objective` takes beside policy and samples."""
    theta = np.random.default_rng(6).normal(size=VALUES.num_parameters)
    value = {"value_network": VALUES, "value_theta": theta, "value_targets": targets}
    return value | {"clip": 0.2, "value_coefficient": 0.5, "entropy_coefficient": 0.25}


def quantities(policy, executor):
    """Everything that is a sum over rows, by an executor."""
    generator = np.random.default_rng(5)
    P = policy.network.num_parameters
    theta, step, v = 0.3 * generator.normal(size=(3, P))
    actions = sample(policy, theta, X, generator)
    A = generator.normal(size=ROWS)
    near = theta + 0.1 * step
    yield geometry.mean_kl(policy, theta, near, X, executor=executor)
    yield geometry.mean_kl(policy, theta, near, X, direction="new_old", executor=executor)
    yield geometry.mean_kl_gradient(policy, theta, near, X, executor=executor)
    yield geometry.mean_kl_hessian_vector_product(policy, theta, near, X, v, executor=executor)
    yield geometry.fisher_vector_product(policy, theta, X, v, damping=0.5, executor=executor)
    yield geometry.fisher_operator(policy, theta, X, damping=0.5, executor=executor) @ v
    yield geometry.fisher_matrix(policy, theta, X, executor=executor)
    yield log_prob_vjp(policy, theta, X, actions, A, executor=executor)
    yield updates.surrogate_gradient(policy, theta, Batch(X, actions, A), executor=executor)
    new, info = updates.trpo_step(policy, theta, Batch(X, actions, A), max_kl=0.01, damping=0.1, executor=executor)
    yield new
    yield [(trial.scale, trial.improvement, trial.kl) for trial in info.trials]
    samples = Batch(X, actions, A, log_prob(policy, near, X, actions))
    objective = updates.ppo_objective(policy, theta, samples, **value_arguments(A), executor=executor)
    yield np.concatenate([objective.gradient, objective.value_gradient])
    yield [objective.objective, objective.value_loss, objective.clip_fraction, objective.approximate_kl]
    cholesky = {"damping": 0.5, "method": "cholesky", "executor": executor}
    yield updates.natural_gradient(policy, theta, X, info.gradient, **cholesky).direction


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_no_executor_changes_a_bit(policy):
    alone = list(quantities(policy, None))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(5) as five:
        for executor in (one, five, Late()):
            for value, expected in zip(quantities(policy, executor), alone, strict=True):
                np.testing.assert_array_equal(value, expected)


def test_processes_change_no_bit():
    alone = list(quantities(POLICIES["masked"], None))
    with ProcessPoolExecutor(2) as executor:
        for value, expected in zip(quantities(POLICIES["masked"], executor), alone, strict=True):
            np.testing.assert_array_equal(value, expected)


def ppo_case(policy):
    """θ and samples of an old policy close by, with weights."""
    generator = np.random.default_rng(7)
    theta = 0.3 * generator.normal(size=policy.network.num_parameters)
    actions = sample(policy, theta, X, generator)
    old = log_prob(policy, theta, X, actions) + 0.2 * generator.normal(size=ROWS)
    w = generator.random(ROWS)
    return theta, Batch(X, actions, generator.normal(size=ROWS), old, w / w.sum())


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_the_ppo_objective_of_many_parts_is_that_of_the_functions_of_whole_batches(policy):
    theta, batch = ppo_case(policy)
    _, actions, A, old, w = batch
    arguments = value_arguments(A)
    found = updates.ppo_objective(policy, theta, batch, **arguments)

    new, phi = log_prob(policy, theta, X, actions), distribution_parameters(policy, theta, X)
    V = network.forward(VALUES, arguments["value_theta"], X)[:, 0]
    # Two orders of one sum of terms of the size of 1: each is off by at most the rounding of the additions in a row.
    near = {"rtol": 0, "atol": 512 * 2.0**-53}
    samples = old, new, A, 0.2
    np.testing.assert_allclose(found.clipped_objective, surrogate.clipped_objective(*samples, weights=w), **near)
    np.testing.assert_allclose(found.clip_fraction, surrogate.clip_fraction(*samples, weights=w), **near)
    np.testing.assert_allclose(found.approximate_kl, estimation.approximate_kl(old, new, weights=w), **near)
    np.testing.assert_allclose(found.entropy, surrogate.entropy_bonus(policy.family, phi, weights=w), **near)
    np.testing.assert_allclose(found.value_loss, surrogate.value_loss(V, A, weights=w), **near)
    slope = surrogate.clipped_objective_gradient(*samples, weights=w)
    gradient = log_prob_vjp(policy, theta, X, actions, slope) + 0.25 * network.vjp(
        policy.network, theta, X, surrogate.entropy_bonus_gradient(policy.family, phi, weights=w)
    )
    np.testing.assert_allclose(found.gradient, gradient, **near)
    d_values = surrogate.value_loss_gradient(V, A, weights=w)[:, np.newaxis]
    expected = -0.5 * network.vjp(VALUES, arguments["value_theta"], X, d_values)
    np.testing.assert_allclose(found.value_gradient, expected, **near)


def test_a_ratio_of_a_later_part_is_named_by_its_row():
    theta, batch = ppo_case(POLICIES["gaussian"])
    batch.old_log_prob[[5000, 6000]] = -1e4
    with ThreadPoolExecutor(2) as executor, pytest.raises(ValueError, match="^ppo_objective: .* in row 5000 "):
        updates.ppo_objective(POLICIES["gaussian"], theta, batch, clip=0.2, executor=executor)


def test_overflow_in_a_thread_is_an_error_of_the_door():
    theta, batch = ppo_case(POLICIES["gaussian"])
    batch = batch._replace(advantages=np.full(ROWS, 1.7e308))
    message = "^ppo_objective: the result overflows"
    with ThreadPoolExecutor(2) as executor, pytest.raises(Unrepresentable, match=message):
        updates.ppo_objective(POLICIES["gaussian"], theta, batch, clip=0.2, executor=executor)


def test_the_ppo_objective_takes_no_more_memory_for_more_rows():
    """Less than a byte for each further row; one more array of numbers, one per row, would be eight."""
    policy = POLICIES["gaussian"]
    theta, whole = ppo_case(policy)
    arguments = value_arguments(whole.advantages)

    def peak(rows):
        x, actions, A, old, w = (np.ascontiguousarray(field[:rows]) for field in whole)
        batch = Batch(x, actions, A, old, w / w.sum())
        here = arguments | {"value_targets": A}
        updates.ppo_objective(policy, theta, batch, **here)
        tracemalloc.start()
        try:
            updates.ppo_objective(policy, theta, batch, **here)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    task = rows.ROWS_PER_PART * rows.PARTS_PER_TASK
    assert peak(2 * task) - peak(task) < task


@pytest.mark.parametrize("count", [1, 2, 8, 9, 300])
def test_the_sum_is_that_of_the_tasks_in_order(count):
    """Integers and powers of two chosen so that every order of additions but one gives other bits."""
    values = [np.array([1.0 + i, 2.0 ** (50 * (i % 3)), 1 / (i + 1)]) for i in range(count)]
    found = rows.sum_over_parts(np.negative, ((value,) for value in values))
    expected = None
    for start in range(0, count, rows.PARTS_PER_TASK):
        task = -values[start]
        for value in values[start + 1 : start + rows.PARTS_PER_TASK]:
            task = task - value
        expected = task if expected is None else expected + task
    np.testing.assert_array_equal(found, expected)


def test_a_term_that_gives_its_argument_back_is_not_written_to():
    values = [np.full(2, float(i)) for i in range(40)]
    total = rows.sum_over_parts(np.asarray, ((value,) for value in values))
    np.testing.assert_array_equal(total, [780.0, 780.0])
    np.testing.assert_array_equal(values, [[float(i)] * 2 for i in range(40)])


def test_parts_are_made_as_they_are_needed():
    """No more parts exist at once than tasks may be under way."""
    alive = most = 0

    def parts():
        nonlocal alive, most
        for i in range(5000):
            alive += 1
            most = max(most, alive)
            yield (float(i),)

    def term(value):
        nonlocal alive
        alive -= 1
        return value

    with ThreadPoolExecutor(1) as executor:
        assert rows.sum_over_parts(term, parts(), executor) == 5000 * 4999 / 2
    assert most <= (rows._TASKS_IN_FLIGHT + 1) * rows.PARTS_PER_TASK


@pytest.mark.parametrize("function", [rows.sum_over_parts, rows.mean_over_batches])
def test_nothing_to_add_is_an_error(function):
    with pytest.raises(ValueError, match=f"{function.__name__}: .* is empty, expected one or more"):
        function(np.mean, [])


def test_an_executor_must_be_one():
    with pytest.raises(ValueError, match="executor is 2, expected a concurrent.futures.Executor"):
        geometry.mean_kl(POLICIES["gaussian"], np.zeros(34), np.ones(34), X, executor=2)


def _die(theta, policy, x, w):
    os._exit(7)


def _fail_on_the_second(value):
    if value == 100:
        raise ArithmeticError("the second")
    return value


def test_a_worker_that_is_killed_is_an_error_and_no_sum():
    with ProcessPoolExecutor(1) as executor, pytest.raises(BrokenExecutor):
        rows.sum_over_parts(partial(_die, None), POLICIES["gaussian"].parts(X, W), executor)


def test_a_term_that_fails_fails_the_sum():
    with ThreadPoolExecutor(2) as executor, pytest.raises(ArithmeticError, match="the second"):
        rows.sum_over_parts(_fail_on_the_second, ((i,) for i in range(1000)), executor)


# What is larger than memory


def test_the_mean_over_batches_is_the_mean_of_all_rows():
    """Exact numbers: dyadic rows whose every partial sum is representable."""
    x = np.arange(96.0).reshape(48, 2) / 8
    batches = [x[:5], x[5:6], x[6:30], x[30:]]
    mean = rows.mean_over_batches(partial(np.mean, axis=0), iter(batches))
    np.testing.assert_allclose(mean, [float(Fraction(47, 8)), float(Fraction(48, 8))], rtol=4 * 2.0**-53)


def test_batches_of_unequal_length_give_the_gradient_and_fisher_matrix_of_the_whole():
    policy = POLICIES["gaussian"]
    generator = np.random.default_rng(6)
    theta = 0.3 * generator.normal(size=policy.network.num_parameters)
    whole = Batch(X, sample(policy, theta, X, generator), generator.normal(size=ROWS))
    cuts = [0, 11, 700, 7777, ROWS]

    def batches():
        for start, stop in pairwise(cuts):
            yield Batch(*(field[start:stop] for field in whole[:3]))

    with ThreadPoolExecutor(2) as executor:
        found = rows.mean_over_batches(partial(updates.surrogate_gradient, policy, theta), batches(), executor=executor)
    expected = updates.surrogate_gradient(policy, theta, whole)
    # Two orders of one sum: each is off by at most the rounding of its additions, far fewer than 512 in a row.
    terms = np.abs(expected).max() + 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=512 * 2.0**-53 * terms)

    def fisher(batch):
        return geometry.fisher_matrix(policy, theta, batch.observations)

    F = geometry.fisher_matrix(policy, theta, X)
    found = rows.mean_over_batches(fisher, batches())
    np.testing.assert_allclose(found, F, rtol=0, atol=512 * 2.0**-53 * np.abs(F).max())


def test_a_batch_without_rows_is_refused():
    with pytest.raises(ValueError, match="a batch has no rows"):
        rows.mean_over_batches(np.mean, [np.ones(3), np.ones(0)])


def test_a_memory_mapped_array_is_read_part_by_part(tmp_path):
    path = tmp_path / "observations.npy"
    np.save(path, X)
    mapped = np.load(path, mmap_mode="r")
    policy, theta = POLICIES["gaussian"], np.linspace(-1, 1, 34)
    found = geometry.mean_kl(policy, theta, theta / 2, mapped)
    np.testing.assert_array_equal(found, geometry.mean_kl(policy, theta, theta / 2, X))
