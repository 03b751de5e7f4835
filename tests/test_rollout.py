"""Rollouts: what is drawn has the frequencies that are computed, what ends has ended as it says, and seeds decide all.

Statistical tolerances: a mean over independent environments lies within 5 of its standard errors with probability
1 − 6e-7; the seeds are fixed, so a test passes always or never.
"""


import numpy as np
import pytest
from environments import gymnasium, needs_gymnasium

from refpg import estimation, mdp, rollout
from refpg import linear_quadratic as lq
from refpg.mdp import MDP
from refpg.network import Network
from refpg.policy import gaussian_policy, log_prob, log_prob_vjp, probability_table, softmax_policy
from refpg.rollout import FiniteWorld, GymWorld, QuadraticWorld, gym_world, sample_rollout, start_runs

U = np.finfo(float).eps / 2
DISCOUNT = 0.8


def seeded(seed=0):
    return np.random.default_rng(seed)


def small():
    """An MDP, a policy that is a table of logits, and its θ: W is the table, the biases are 0."""
    world = mdp.random_mdp(seeded(1), states=4, actions=3, discount=DISCOUNT)
    theta = np.concatenate([seeded(2).normal(size=12), np.zeros(3)])
    return world, softmax_policy((4, 3)), theta


def table_of(policy, theta, states=4):
    return probability_table(policy, theta, np.eye(states))


def drawn(world, policy, theta, *, environments, steps, seed=0):
    return sample_rollout(world, policy, theta, start_runs(world, seeded(seed), environments=environments), steps=steps)


def within_standard_errors(samples, expected, errors=5.0):
    """Whether the mean of independent rows of samples is what is expected."""
    mean, deviation = samples.mean(axis=0), samples.std(axis=0, ddof=1)
    assert (np.abs(mean - expected) <= errors * deviation / np.sqrt(len(samples)) + 1e-12).all()


def same(left, right):
    for field, a, b in zip(left._fields, left, right, strict=True):
        assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes()), field


# ── frequencies ───────────────────────────────────────────────────────────────────────────────────


def test_discounted_occupancy_is_the_visitation():
    world, policy, theta = small()
    T = 40
    run, _ = drawn(FiniteWorld(world), policy, theta, environments=4000, steps=T)
    powers = DISCOUNT ** np.arange(T)
    pi = table_of(policy, theta)
    at = mdp.evaluate(world, pi)
    left_out = DISCOUNT**T / (1 - DISCOUNT)
    occupancy = np.einsum("t,tes->es", powers, run.observations)
    within_standard_errors(occupancy, at.visitation - left_out * at.visitation_distribution)
    pairs = np.einsum("t,tes,tea->esa", powers, run.observations, np.eye(3)[run.actions])
    within_standard_errors(pairs, at.visitation[:, None] * pi - left_out * at.visitation_distribution[:, None] * pi)
    within_standard_errors(powers @ run.rewards, at.expected_return - left_out * world.reward.mean())


def test_with_restarts_rows_are_distributed_as_d():
    """After t steps the distribution is d up to γᵗ: at 60 steps 2e-6, far below a standard error."""
    world, policy, theta = small()
    run, _ = drawn(
        FiniteWorld(world, restart_probability=1 - DISCOUNT), policy, theta, environments=4000, steps=60
    )
    at = mdp.evaluate(world, table_of(policy, theta))
    within_standard_errors(run.observations[-1], at.visitation_distribution)
    within_standard_errors(run.truncated[0][:, None], np.array([1 - DISCOUNT]))
    within_standard_errors(run.truncated.mean(axis=0)[:, None], np.array([1 - DISCOUNT]))
    assert not run.terminated.any()


def test_transitions_have_the_probabilities_of_the_mdp():
    world, policy, theta = small()
    run, _ = drawn(FiniteWorld(world), policy, theta, environments=800, steps=50)
    s, a, after = run.observations.argmax(2), run.actions, run.next_observations
    for state, action in np.ndindex(4, 3):
        rows = (s == state) & (a == action)
        assert rows.sum() > 50
        within_standard_errors(after[rows], world.transition[state, action])
        assert (run.rewards[rows] == world.reward[state, action]).all()


def test_an_action_of_probability_zero_is_never_chosen():
    p = np.array([[0.0, 0.5, 0.0, 0.5, 0.0]] * 4)
    u = np.array([0.0, 0.5 - 2**-54, 0.5, 1 - 2**-53])
    assert rollout.world.chosen(p, u).tolist() == [1, 1, 3, 3]
    assert rollout.world.chosen(p[:1] * 0.999, np.array([1 - 2**-53])).tolist() == [3]


def test_log_probabilities_are_those_of_the_policy():
    world, policy, theta = small()
    run, _ = drawn(FiniteWorld(world), policy, theta, environments=7, steps=5)
    again = log_prob(policy, theta, run.observations.reshape(-1, 4), run.actions.ravel()).reshape(5, 7)
    np.testing.assert_allclose(run.log_prob, again, rtol=0, atol=8 * U)


def test_a_linear_policy_earns_what_the_riccati_theory_says():
    problem = lq.random_problem(seeded(3), states=2, actions=1, discount=0.7)
    gain, log_std = np.array([[0.3, -0.2]]), -0.4
    policy, theta = gaussian_policy((2, 1)), np.concatenate([-gain.ravel(), [0.0, log_std]])
    linear = lq.LinearGaussianPolicy(gain, [[np.exp(2 * log_std)]])
    T = 20
    run, _ = drawn(QuadraticWorld(problem), policy, theta, environments=3000, steps=T)
    after = lq.values(problem, linear, run.next_observations[-1])
    powers = 0.7 ** np.arange(T)
    # With the value of the last state, the discounted sum is unbiased for any T.
    within_standard_errors(powers @ run.rewards + 0.7**T * after, lq.evaluate(problem, linear).expected_return)
    other = lq.sample_trajectories(problem, linear, seeded(9), trajectories=3000, steps=T)
    for t in (0, 1, 5):
        within_standard_errors(run.rewards[t, :, None] - other.rewards[t, :, None], np.zeros(1))


def test_a_quadratic_world_is_cut_by_its_time_limit():
    problem = lq.doubling()
    policy = gaussian_policy((1, 1))
    run, runs = drawn(QuadraticWorld(problem, time_limit=3), policy, np.zeros(3), environments=2, steps=7)
    assert run.truncated[:, 0].tolist() == [False, False, True, False, False, True, False]
    assert not run.terminated.any()
    assert runs.age.tolist() == [1, 1]
    ended = run.truncated[:-1]
    assert (run.observations[1:][~ended] == run.next_observations[:-1][~ended]).all()
    assert (run.observations[1:][ended] != run.next_observations[:-1][ended]).any()
    np.testing.assert_array_equal(run.episode_returns, run.rewards[:6].reshape(2, 3, 2).sum(1).ravel())


# ── endings, advantages ───────────────────────────────────────────────────────────────────────────


def corridor(length=4):
    """States 0 … n − 1 in a row and an end behind them; every action goes on and pays its state's number plus 1."""
    transition = np.zeros((length + 1, 1, length + 1))
    transition[np.arange(length), 0, np.arange(1, length + 1)] = 1
    transition[length, 0, length] = 1
    reward = np.append(np.arange(1.0, length + 1), 0.0)[:, None]
    return MDP(transition=transition, reward=reward, start=np.eye(length + 1)[0], discount=0.5)


def test_a_corridor_terminates_at_its_end_and_is_truncated_before_it():
    policy, theta = softmax_policy((5, 1)), np.zeros(6)
    run, runs = drawn(FiniteWorld(corridor()), policy, theta, environments=1, steps=9)
    assert run.rewards.ravel().tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 1]
    assert np.flatnonzero(run.terminated).tolist() == [3, 7]
    assert not run.truncated.any()
    assert run.next_observations[3, 0].argmax() == 4
    assert run.observations[4, 0].argmax() == 0
    assert run.age.ravel().tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert (run.episode_returns.tolist(), run.episode_lengths.tolist()) == ([10, 10], [4, 4])
    assert (runs.age.tolist(), runs.returns.tolist()) == ([1], [1.0])
    cut, _ = drawn(FiniteWorld(corridor(), time_limit=3), policy, theta, environments=1, steps=7)
    assert cut.rewards.ravel().tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert np.flatnonzero(cut.truncated).tolist() == [2, 5]
    assert not cut.terminated.any()
    both, _ = drawn(FiniteWorld(corridor(), time_limit=4), policy, theta, environments=1, steps=4)
    assert (both.terminated & both.truncated).ravel().tolist() == [False, False, False, True]


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("time_limit", [None, 2, 4])
def test_with_the_true_values_no_advantage_is_left_however_an_episode_ends(gae_lambda, time_limit):
    """In a world without chance and with one action A = 0; a lost bootstrap, or one too many, would show."""
    world = corridor()
    V = mdp.evaluate(world, np.ones((5, 1))).values
    policy, finite = softmax_policy((5, 1)), FiniteWorld(world, time_limit=time_limit)
    run, _ = drawn(finite, policy, np.zeros(6), environments=1, steps=11)
    found = rollout.rollout_advantages(run, run.observations @ V, run.next_observations @ V, 0.5, gae_lambda)
    np.testing.assert_allclose(found.advantages, 0, atol=16 * U * V.max())
    wrong = run._replace(terminated=run.terminated | run.truncated)
    lost = rollout.rollout_advantages(wrong, run.observations @ V, run.next_observations @ V, 0.5, gae_lambda)
    assert (np.abs(lost.advantages).max() > 0.5) == (time_limit == 2)


def handmade():
    """Two environments, five steps: a termination, a truncation, both at once, and an open end."""
    generator = seeded(5)
    world, policy, theta = small()
    run, _ = drawn(FiniteWorld(world), policy, theta, environments=2, steps=5)
    terminated, truncated = np.zeros((5, 2), dtype=bool), np.zeros((5, 2), dtype=bool)
    terminated[1, 0] = truncated[3, 0] = True
    terminated[2, 1] = truncated[2, 1] = True
    run = run._replace(terminated=terminated, truncated=truncated, rewards=generator.normal(size=(5, 2)))
    return run, generator.normal(size=(5, 2)), generator.normal(size=(5, 2))


def test_advantages_of_a_rollout_are_the_sums_of_the_definition():
    run, V, V_next = handmade()
    found = rollout.rollout_advantages(run, V, V_next, 0.9, 0.8)
    for e, t in np.ndindex(2, 5):
        total, factor = 0.0, 1.0
        for k in range(t, 5):
            alive = 0.0 if run.terminated[k, e] else 1.0
            total += factor * (run.rewards[k, e] + 0.9 * alive * V_next[k, e] - V[k, e])
            factor *= 0.9 * 0.8
            if run.terminated[k, e] or run.truncated[k, e]:
                break
        assert found.advantages[t, e] == pytest.approx(total, abs=32 * U)
    np.testing.assert_allclose(found.value_targets, found.advantages + V, rtol=0, atol=8 * U)
    exact = estimation.gae(run.rewards, V, V_next, run.terminated, run.truncated, 0.9, 0.8)
    np.testing.assert_array_equal(found.advantages, exact.advantages)


def test_a_buffer_gives_the_same_advantages():
    run, V, V_next = handmade()
    # A buffer has the values of observations only: where nothing ended, next_values are values one row later.
    ended = run.terminated | run.truncated
    V_next[:-1] = np.where(ended[:-1], V_next[:-1], V[1:])
    ours, theirs = (
        function(run, V, V_next, 0.9, 0.8) for function in (rollout.rollout_advantages, rollout.buffer_advantages)
    )
    np.testing.assert_allclose(theirs.advantages, ours.advantages, rtol=0, atol=32 * U)
    np.testing.assert_allclose(theirs.value_targets, ours.value_targets, rtol=0, atol=32 * U)


def test_values_of_a_rollout_are_those_of_the_network_at_each_observation():
    world, policy, theta = small()
    run, _ = drawn(FiniteWorld(world, time_limit=3), policy, theta, environments=2, steps=5)
    V = np.array([1.0, 10.0, 100.0, 1000.0])
    values, next_values = rollout.rollout_values(run, Network((4, 1)), np.append(V, 0.0))
    np.testing.assert_array_equal(values, run.observations @ V)
    np.testing.assert_array_equal(next_values, run.next_observations @ V)
    with pytest.raises(ValueError, match="rollout_values: network has 2 outputs, expected 1"):
        rollout.rollout_values(run, Network((4, 2)), np.zeros(10))


# ── batches ───────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_has_the_valid_rows_in_time():
    run, V, _ = handmade()
    valid = np.ones((5, 2), dtype=bool)
    valid[2, 0] = False
    run = run._replace(valid=valid, age=np.array([[0, 3], [1, 4], [0, 5], [1, 0], [0, 1]]))
    batch = rollout.rollout_batch(run, V)
    rows = [(t, e) for t in range(5) for e in range(2) if (t, e) != (2, 0)]
    assert batch.weights is None
    for b, (t, e) in enumerate(rows):
        assert batch.observations[b].tolist() == run.observations[t, e].tolist()
        assert (batch.actions[b], batch.advantages[b], batch.old_log_prob[b]) == (
            run.actions[t, e],
            V[t, e],
            run.log_prob[t, e],
        )
    weights = rollout.rollout_batch(run, V, weighting="discounted", gamma=0.5).weights
    powers = np.array([0.5 ** run.age[row] for row in rows])
    np.testing.assert_allclose(weights, powers / powers.sum(), rtol=4 * U)
    # 0⁰ = 1: with γ = 0 only the first action of each episode counts.
    first = rollout.rollout_batch(run, V, weighting="discounted", gamma=0.0).weights
    assert np.flatnonzero(first).tolist() == [b for b, row in enumerate(rows) if run.age[row] == 0]


def gradients_of_paths(world, policy, theta, V, paths, steps, gae_lambda, seed):
    """One estimate of the policy gradient for each environment, and that of the batch of all."""
    run, _ = drawn(FiniteWorld(world), policy, theta, environments=paths, steps=steps, seed=seed)
    found = rollout.rollout_advantages(run, run.observations @ V, run.next_observations @ V, DISCOUNT, gae_lambda)
    batch = rollout.rollout_batch(run, found.advantages, weighting="discounted", gamma=DISCOUNT)
    whole = log_prob_vjp(policy, theta, batch.observations, batch.actions, batch.weights * batch.advantages)
    weights = (1 - DISCOUNT) * DISCOUNT ** np.arange(steps)
    score = np.eye(3)[run.actions] - table_of(policy, theta)[run.observations.argmax(2)]
    each = np.einsum("t,te,tes,tea->esa", weights, found.advantages, run.observations, score)
    return each.reshape(paths, -1), whole[:12]


def test_sampled_gradients_have_the_moments_that_are_computed():
    """Mean and covariance against `estimation.policy_gradient_moments`, biased by wrong values and all."""
    world, policy, theta = small()
    V, T, N = np.array([1.0, -0.5, 0.3, 0.0]), 12, 6000
    each, whole = gradients_of_paths(world, policy, theta, V, N, T, 0.6, seed=3)
    truth = estimation.policy_gradient_moments(world, table_of(policy, theta), V, 0.6, steps=T)
    within_standard_errors(each, truth.mean.ravel())
    mean = each.mean(axis=0)
    # The batch divides by the weights it has: Σ_{t<T} (1 − γ)γᵗ = 1 − γᵀ.
    np.testing.assert_allclose(whole * (1 - DISCOUNT**T), mean, rtol=0, atol=1e-13)
    products = np.einsum("ei,ej->eij", each - truth.mean.ravel(), each - truth.mean.ravel())
    within_standard_errors(products, truth.covariance.reshape(12, 12))


def test_sampled_gradients_converge_with_slope_minus_one_half():
    """The root mean squared error of 24 repetitions falls as N^(−1/2); its relative error is about 1/√(2·24·3)."""
    world, policy, theta = small()
    pi = table_of(policy, theta)
    V = mdp.evaluate(world, pi).values
    exact = (1 - DISCOUNT) * mdp.softmax_gradient(world, pi).ravel()
    sizes = np.array([8, 32, 128, 512])
    errors = []
    for size in sizes:
        each, _ = gradients_of_paths(world, policy, theta, V, 24 * size, 30, 0.9, seed=int(size))
        means = each.reshape(24, size, 12).mean(axis=1)
        errors.append(np.sqrt(np.mean(np.sum((means - exact) ** 2, axis=1))))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.07)
    variance = np.einsum("sasa", estimation.policy_gradient_moments(world, pi, V, 0.9, steps=30).covariance)
    np.testing.assert_allclose(np.array(errors) * np.sqrt(sizes), np.sqrt(variance), rtol=0.3)


# ── seeds ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [{}, {"time_limit": 3}, {"restart_probability": 0.3}])
def test_an_environment_does_the_same_alone_and_in_company(options):
    world, policy, theta = small()
    finite = FiniteWorld(world, **options)
    many, _ = drawn(finite, policy, theta, environments=9, steps=20)
    for E in (1, 2, 5):
        few, _ = drawn(finite, policy, theta, environments=E, steps=20)
        for name in ("observations", "actions", "log_prob", "rewards", "truncated", "next_observations", "age"):
            assert getattr(few, name).tobytes() == getattr(many, name)[:, :E].tobytes(), name


def test_a_rollout_can_be_cut_anywhere_and_taken_again():
    world, policy, theta = small()
    finite = FiniteWorld(world, time_limit=4)
    start = start_runs(finite, seeded(), environments=3)
    whole, end = sample_rollout(finite, policy, theta, start, steps=10)
    first, middle = sample_rollout(finite, policy, theta, start, steps=3)
    rest, also_end = sample_rollout(finite, policy, theta, middle, steps=7)
    same(whole, type(whole)(*(np.concatenate(parts) for parts in zip(first, rest, strict=True))))
    assert end.age.tolist() == also_end.age.tolist()
    assert end.returns.tolist() == also_end.returns.tolist()
    again, _ = sample_rollout(finite, policy, theta, start, steps=10)
    same(whole, again)
    other, _ = drawn(finite, policy, theta, environments=3, steps=10, seed=1)
    assert other.actions.tolist() != whole.actions.tolist()


def test_environments_are_independent():
    """No two environments are dealt the same numbers: equal first ten actions would have probability 3⁻¹⁰ a pair."""
    world, policy, theta = small()
    run, _ = drawn(FiniteWorld(world), policy, theta, environments=20, steps=30)
    assert len({tuple(column) for column in run.actions.T.tolist()}) == 20


def test_a_quadratic_world_is_the_same_alone_up_to_rounding_of_the_network():
    problem = lq.random_problem(seeded(3), states=3, actions=2, discount=0.9)
    policy = gaussian_policy((3, 5, 2))
    theta = 0.3 * seeded(4).normal(size=policy.network.num_parameters)
    many, _ = drawn(QuadraticWorld(problem), policy, theta, environments=6, steps=8)
    alone, _ = drawn(QuadraticWorld(problem), policy, theta, environments=1, steps=8)
    np.testing.assert_allclose(alone.rewards, many.rewards[:, :1], rtol=1e-11)


# ── Gymnasium ─────────────────────────────────────────────────────────────────────────────────────

if gymnasium is not None:

    class Counter(gymnasium.Env):
        """Episodes of 3 and 2 actions in turn: the first kind terminates, the second is truncated.

        An observation is (episode, step); the reward is 10 · episode + step + action/2.
        """

        def __init__(self, start=0, observation_space=None, action_space=None):
            box = gymnasium.spaces.Box(-1e6, 1e6, (2,), np.float32)
            self.observation_space = observation_space or box
            self.action_space = action_space or gymnasium.spaces.Discrete(2, start=start)
            self.first = start
            self.episode = -1

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.episode, self.count = self.episode + 1, 0
            return self.seen(), {}

        def seen(self):
            return np.array([self.episode, self.count], dtype=np.float32)

        def step(self, action):
            reward = 10 * self.episode + self.count + (action - self.first) / 2
            self.count += 1
            odd = self.episode % 2
            return self.seen(), reward, not odd and self.count == 3, bool(odd) and self.count == 2, {}

    class Walk(gymnasium.Env):
        """A Gaussian walk from a random place, drawn from the environment's own numbers; it ends beyond 2."""

        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        action_space = gymnasium.spaces.Box(-0.5, 0.5, (1,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.x = self.np_random.normal()
            return np.array([self.x]), {}

        def step(self, action):
            assert self.action_space.contains(action)
            self.x += self.np_random.normal() + action[0]
            return np.array([self.x]), float(action[0]), bool(abs(self.x) > 2), False, {}

    MODES = list(gymnasium.vector.AutoresetMode)
else:
    MODES = []


def vector(make, mode, environments=1):
    return GymWorld(gymnasium.vector.SyncVectorEnv([make] * environments, autoreset_mode=mode))


def counted(mode, environments=1, steps=12):
    world = vector(Counter, mode, environments)
    return drawn(world, softmax_policy((2, 2)), np.zeros(6), environments=environments, steps=steps)


def transitions(run, e=0):
    rows = np.flatnonzero(run.valid[:, e])
    columns = (run.observations, run.next_observations, run.terminated, run.truncated, run.age)
    return [tuple(column[t, e].tolist() for column in columns) for t in rows]


@needs_gymnasium
@pytest.mark.parametrize("mode", MODES)
def test_every_autoreset_mode_has_the_same_transitions(mode):
    run, _ = counted(mode, environments=2)
    expected = [
        ([0, 0], [0, 1], False, False, 0),
        ([0, 1], [0, 2], False, False, 1),
        ([0, 2], [0, 3], True, False, 2),
        ([1, 0], [1, 1], False, False, 0),
        ([1, 1], [1, 2], False, True, 1),
        ([2, 0], [2, 1], False, False, 0),
        ([2, 1], [2, 2], False, False, 1),
        ([2, 2], [2, 3], True, False, 2),
        ([3, 0], [3, 1], False, False, 0),
    ]
    for e in range(2):
        assert transitions(run, e)[: len(expected)] == expected
    rows = run.valid
    paid = 10 * run.observations[..., 0] + run.observations[..., 1] + run.actions / 2
    np.testing.assert_array_equal(run.rewards[rows], paid[rows])
    skips = mode == gymnasium.vector.AutoresetMode.NEXT_STEP
    assert np.flatnonzero(~rows[:, 0]).tolist() == ([3, 6, 10] if skips else [])
    assert not run.rewards[~rows].any()


@needs_gymnasium
@pytest.mark.parametrize("mode", MODES)
def test_returns_of_episodes_are_the_sums_of_their_rewards(mode):
    run, runs = counted(mode, steps=9)
    lengths, returns = [], []
    total = length = 0
    for t in np.flatnonzero(run.valid[:, 0]):
        total, length = total + run.rewards[t, 0], length + 1
        if run.terminated[t, 0] or run.truncated[t, 0]:
            lengths.append(length)
            returns.append(total)
            total = length = 0
    assert run.episode_lengths.tolist() == lengths == [3, 2, 3][: len(lengths)]
    assert run.episode_returns.tolist() == returns
    assert len(returns) >= 2
    assert (runs.age.tolist(), runs.returns.tolist()) == ([length], [total])


@needs_gymnasium
@pytest.mark.parametrize("mode", MODES)
def test_the_final_observation_is_bootstrapped_where_truncated_and_only_there(mode):
    """λ = 0: Â = r + γV(final)·[not terminated] − V, by the numbers of the observations, V = 100·episode + step."""
    run, _ = counted(mode)
    V = np.array([100.0, 1.0])
    found = rollout.rollout_advantages(run, run.observations @ V, run.next_observations @ V, 0.5, 0.0)
    for t in np.flatnonzero(run.valid[:, 0]):
        episode, step = run.observations[t, 0]
        final = 0.0 if episode % 2 == 0 and step == 2 else 100 * episode + step + 1
        expected = run.rewards[t, 0] + 0.5 * final - (100 * episode + step)
        assert found.advantages[t, 0] == expected
    # λ = 1, V = 0 is the plain sum to the end of the episode: a row that is no transition is in none.
    sums = rollout.rollout_advantages(run, 0 * run.rewards, 0 * run.rewards, 1.0, 1.0).advantages[:, 0]
    first = [t for t in np.flatnonzero(run.valid[:, 0]) if run.age[t, 0] == 0][: len(run.episode_returns)]
    assert sums[first].tolist() == run.episode_returns.tolist()


@needs_gymnasium
@pytest.mark.parametrize("mode", MODES)
def test_gymnasium_is_the_same_for_a_seed_and_beside_others(mode):
    policy = gaussian_policy((1, 1))
    theta = np.array([0.3, 0.0, 0.2])
    runs = {}
    for E in (1, 3, 3):
        world = vector(Walk, mode, E)
        run, after = drawn(world, policy, theta, environments=E, steps=30, seed=7)
        run2, _ = sample_rollout(world, policy, theta, after, steps=5)
        if E in runs:
            same(runs[E][0], run)
            same(runs[E][1], run2)
        runs[E] = run, run2
    # One input, one output and no bias: no matrix product rounds differently for other numbers of rows.
    for alone, beside in zip(runs[1], runs[3], strict=True):
        for field in ("observations", "actions", "rewards", "terminated", "valid", "next_observations", "log_prob"):
            np.testing.assert_array_equal(getattr(alone, field), getattr(beside, field)[:, :1])
    assert runs[1][0].terminated.sum() > 3
    seeds = [int(generator.integers(2**31)) for generator in seeded(7).spawn(3)]
    starts = [gymnasium.utils.seeding.np_random(seed)[0].normal() for seed in seeds]
    assert runs[3][0].observations[0, :, 0].tolist() == starts


@needs_gymnasium
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", [3, 4, 5])
def test_a_rollout_of_gymnasium_can_be_cut_at_an_ending(mode, cut):
    """The cuts are before, at and after the step in which NEXT_STEP starts again."""
    whole, end = counted(mode, environments=2)
    policy, theta, world = softmax_policy((2, 2)), np.zeros(6), vector(Counter, mode, 2)
    first, middle = sample_rollout(world, policy, theta, start_runs(world, seeded(), environments=2), steps=cut)
    rest, also_end = sample_rollout(world, policy, theta, middle, steps=12 - cut)
    same(whole, type(whole)(*(np.concatenate(parts) for parts in zip(first, rest, strict=True))))
    assert end.age.tolist() == also_end.age.tolist()
    assert end.returns.tolist() == also_end.returns.tolist()


@needs_gymnasium
def test_actions_are_clipped_at_the_door_and_kept_as_drawn():
    policy, theta = gaussian_policy((1, 1)), np.array([0.0, 0.0, 1.0])
    run, _ = drawn(vector(Walk, MODES[0], 2), policy, theta, environments=2, steps=20)
    inside = np.clip(run.actions[..., 0], -0.5, 0.5).astype(np.float32)
    assert (np.abs(run.actions) > 0.5).any()
    np.testing.assert_array_equal(run.rewards[run.valid], inside[run.valid])


@needs_gymnasium
def test_discrete_spaces_are_counted_from_their_start():
    spaces = gymnasium.spaces

    class Shifted(Counter):
        def __init__(self):
            super().__init__(start=3, observation_space=spaces.Discrete(4, start=-1))

        def seen(self):
            return np.int64(self.count - 1)

    run, _ = drawn(vector(Shifted, MODES[1]), softmax_policy((4, 2)), np.zeros(10), environments=1, steps=4)
    assert run.observations[:, 0].tolist() == np.eye(4)[[0, 1, 2, 0]].tolist()
    assert run.next_observations[:, 0].tolist() == np.eye(4)[[1, 2, 3, 1]].tolist()
    assert set(run.actions.ravel().tolist()) <= {0, 1}


@needs_gymnasium
def test_what_cannot_be_sampled_is_refused():
    spaces = gymnasium.spaces
    for wrong in (spaces.MultiBinary(3), spaces.Box(0, 1, (2, 2)), spaces.Dict(a=spaces.Discrete(2))):
        with pytest.raises(ValueError, match="GymWorld: the space of observations is .*, expected Discrete or a Box"):
            vector(lambda space=wrong: Counter(observation_space=space), MODES[0])
    with pytest.raises(ValueError, match="GymWorld: the space of actions is MultiDiscrete"):
        vector(lambda: Counter(action_space=spaces.MultiDiscrete([2, 2])), MODES[0])
    with pytest.raises(ValueError, match="gym_world: name is 'Nowhere-v0', which Gymnasium cannot make"):
        gym_world("Nowhere-v0", environments=1)
    silent = gymnasium.vector.SyncVectorEnv([Counter])
    silent.metadata = {}
    with pytest.raises(ValueError, match=r"metadata\['autoreset_mode'\] of the environments is None"):
        GymWorld(silent)
    world = vector(Counter, MODES[0])
    with pytest.raises(ValueError, match="GymWorld: 2 environments are to start, expected 1"):
        start_runs(world, seeded(), environments=2)
    runs = start_runs(world, seeded(), environments=1)
    policy, theta = softmax_policy((2, 2)), np.zeros(6)
    sample_rollout(world, policy, theta, runs, steps=1)
    with pytest.raises(ValueError, match="GymWorld: the runs given are those after call 1, .* answered 2"):
        sample_rollout(world, policy, theta, runs, steps=1)
    with pytest.raises(ValueError, match="policy is diagonal_gaussian with 2 inputs .*, expected categorical with 2"):
        sample_rollout(world, gaussian_policy((2, 2)), np.zeros(8), runs, steps=1)


@needs_gymnasium
def test_environments_are_made_by_name():
    world = gym_world("CartPole-v1", environments=2)
    assert (world.family, world.observation_size, world.action_size) == ("categorical", 4, 2)
    run, _ = drawn(world, softmax_policy((4, 2)), np.zeros(10), environments=2, steps=60)
    assert run.terminated.any()
    assert run.valid.all()
    assert run.episode_returns.tolist() == run.episode_lengths.tolist()


# ── bad input ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w, p, t, r: sample_rollout(w, p, t, r, steps=0), "sample_rollout: steps is 0"),
        (lambda w, p, t, r: sample_rollout(w, p, t[:-1], r, steps=1), "sample_rollout: theta has shape"),
        (
            lambda w, p, t, r: sample_rollout(w, softmax_policy((4, 2)), np.zeros(10), r, steps=1),
            "policy is categorical with 4 inputs and 2 outputs, expected categorical with 4 inputs and 3 outputs",
        ),
        (
            lambda w, p, t, r: sample_rollout(QuadraticWorld(lq.doubling()), p, t, r, steps=1),
            "sample_rollout: policy is categorical .*, expected diagonal_gaussian with 1 inputs and 2 outputs",
        ),
        (lambda w, p, t, r: start_runs(w, seeded(), environments=0), "start_runs: environments is 0"),
        (lambda w, p, t, r: FiniteWorld(w.mdp, time_limit=0), "FiniteWorld: time_limit is 0"),
        (lambda w, p, t, r: FiniteWorld(w.mdp, observations=np.eye(3)), "FiniteWorld: observations has shape"),
        (lambda w, p, t, r: FiniteWorld(w.mdp, restart_probability=1.5), "FiniteWorld: restart_probability is 1.5"),
        (lambda w, p, t, r: QuadraticWorld(lq.doubling(), time_limit=0), "QuadraticWorld: time_limit is 0"),
        (lambda w, p, t, r: rollout.rollout_batch(handmade()[0], np.zeros((5, 3))), "advantages has shape"),
        (lambda w, p, t, r: rollout.rollout_batch(handmade()[0], np.zeros((5, 2)), gamma=0.5), "gamma is 0.5 with"),
        (
            lambda w, p, t, r: rollout.rollout_batch(handmade()[0], np.zeros((5, 2)), weighting="discounted"),
            "gamma is None with weighting 'discounted'",
        ),
        (lambda w, p, t, r: rollout.rollout_batch(handmade()[0], np.zeros((5, 2)), weighting="γ"), "weighting is 'γ'"),
        (
            lambda w, p, t, r: rollout.rollout_batch(
                handmade()[0]._replace(valid=np.zeros((5, 2), dtype=bool)), np.zeros((5, 2))
            ),
            "rollout has no valid row",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    world, policy, theta = small()
    finite = FiniteWorld(world)
    with pytest.raises(ValueError, match=message):
        call(finite, policy, theta, start_runs(finite, seeded(), environments=2))
