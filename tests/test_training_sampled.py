"""The loops on samples: their updates by other routes, their records recomputed, and the exact loops as their limit.

Statistical tests have fixed seeds; their margins are derived beside them.
"""

import itertools

import numpy as np
import pytest
from bits import leaves, same
from environments import gymnasium, needs_gymnasium
from examples import example

from refpg import estimation, mdp, network, surrogate, training, updates
from refpg import linear_quadratic as lq
from refpg.geometry import mean_kl
from refpg.network import Network
from refpg.policy import entropy, gaussian_policy, log_prob, probability_table, softmax_policy
from refpg.rollout import FiniteWorld, GymWorld, QuadraticWorld, gym_world, rollout_batch, sample_rollout
from refpg.training import PPO_PRESETS, TRPO_PRESETS, Sampling, ValueFitting, new_learner
from refpg.updates import PPOEnding, minibatch_order, ppo_epochs

U = np.finfo(float).eps / 2
DISCOUNT = 0.8
X = np.array([[0.5, -0.1], [0.2, 0.9], [-0.7, 0.4], [-0.3, -0.8], [0.1, 0.3]])
POLICY, VALUES = softmax_policy((2, 4, 3)), Network((2, 3, 1))


def seeded(seed=0):
    return np.random.default_rng(seed)


def finite(**options):
    model = mdp.random_mdp(seeded(1), states=5, actions=3, discount=DISCOUNT)
    return FiniteWorld(model, observations=X, **options)


def learner(world=None, *, environments=4, seed=0, **options):
    world = finite(time_limit=6) if world is None else world
    return new_learner(world, POLICY, VALUES, seeded(seed), environments=environments, policy_scale=1.0, **options)


SAMPLING = Sampling(steps=12, gamma=DISCOUNT, gae_lambda=0.9)
PPO = {"epochs": 3, "minibatch": 16, "learning_rate": 0.02}
LOOPS = {
    "ppo": lambda start, n, **o: training.sampled_ppo(
        finite(time_limit=6), POLICY, VALUES, start, iterations=n, **{"sampling": SAMPLING, "clip": 0.2, **PPO, **o}
    ),
    "ppo-kl": lambda start, n, **o: training.sampled_ppo(
        finite(time_limit=6),
        POLICY,
        VALUES,
        start,
        iterations=n,
        **{"sampling": SAMPLING, "kl_target": 0.01, **PPO, **o},
    ),
    "trpo": lambda start, n, **o: training.sampled_trpo(
        finite(time_limit=6),
        POLICY,
        VALUES,
        start,
        iterations=n,
        **{"sampling": SAMPLING, "max_kl": 0.02, "damping": 0.1, **o},
    ),
    "npg": lambda start, n, **o: training.sampled_natural_policy_gradient(
        finite(time_limit=6),
        POLICY,
        VALUES,
        start,
        iterations=n,
        **{"sampling": SAMPLING, "max_kl": 0.02, "damping": 0.1, "fitting": ValueFitting(lbfgs_iterations=5), **o},
    ),
}


# ── the value network ─────────────────────────────────────────────────────────────────────────────


def test_the_gradient_of_the_value_loss_is_that_of_differences():
    generator = seeded(3)
    w, x, R = generator.normal(size=VALUES.num_parameters), generator.normal(size=(6, 2)), generator.normal(size=6)
    loss, gradient = updates.value_loss_and_gradient(VALUES, w, x, R)
    assert loss == pytest.approx(np.mean((network.forward(VALUES, w, x)[:, 0] - R) ** 2), rel=8 * U)
    h = 1e-5  # central differences: h²/6 of a third derivative of size 10, and U/h
    for p, slope in enumerate(gradient):
        e = h * np.eye(len(w))[p]
        ends = [updates.value_loss_and_gradient(VALUES, w + s * e, x, R)[0] for s in (1, -1)]
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-8)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_lbfgs_finds_the_least_squares_of_a_linear_network(penalty):
    generator = seeded(4)
    x, R = generator.normal(size=(30, 2)), generator.normal(size=30)
    linear = Network((2, 1))
    w, info = updates.fit_values_lbfgs(linear, np.zeros(3), x, R, iterations=100, penalty=penalty)
    design = np.column_stack([x, np.ones(30)])
    exact = np.linalg.solve(design.T @ design / 30 + penalty * np.eye(3), design.T @ R / 30)
    np.testing.assert_allclose(w, exact, atol=1e-4)  # L-BFGS-B stops at gradients of 1e-5
    assert info.loss_after == pytest.approx(np.mean((design @ w - R) ** 2))
    assert info.loss_before == pytest.approx(np.mean(R**2))


def test_fitting_by_adam_is_adam_on_the_minibatches():
    generator = seeded(5)
    x, R, w = generator.normal(size=(8, 2)), generator.normal(size=8), generator.normal(size=VALUES.num_parameters)
    order = minibatch_order(seeded(1), rows=8, size=3, epochs=2)
    found, info = updates.fit_values(VALUES, w, x, R, minibatches=order, learning_rate=0.01, epsilon=1e-5)
    state, expected = updates.Adam(np.zeros_like(w), np.zeros_like(w)), w
    for rows in [rows for epoch in order for rows in epoch]:
        at = network.linearize(VALUES, expected, x[rows])
        gradient = at.vjp(2 * (at.phi - R[rows, None]) / len(rows))
        expected, state = updates.adam_step(expected, gradient, state, learning_rate=0.01, epsilon=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert (info.steps, info.adam.step) == (6, 6)
    with pytest.raises(ValueError, match="value_loss_and_gradient: network has 2 outputs"):
        updates.fit_values(Network((2, 2)), np.zeros(6), x, R, minibatches=order, learning_rate=0.1)


# ── PPO's epochs ──────────────────────────────────────────────────────────────────────────────────


def epochs_case(name):
    case = example(name)
    values = Network((3, 4, 1))
    generator = seeded(8)
    B = len(case.actions)
    batch = case.batch._replace(
        advantages=generator.normal(size=B),
        weights=None,
        old_log_prob=log_prob(case.policy, case.theta, case.x, case.actions),
    )
    rest = {
        "minibatches": minibatch_order(seeded(2), rows=B, size=2, epochs=3),
        "learning_rate": 0.05,
        "value_network": values,
        "value_theta": generator.normal(size=values.num_parameters),
        "value_targets": generator.normal(size=B),
        "value_coefficient": 0.7,
        "entropy_coefficient": 0.1,
        "epsilon": 1e-5,
    }
    return case.policy, case.theta, batch, rest


@pytest.mark.parametrize("name", ["categorical", "masked categorical", "gaussian, free log-std", "bernoulli"])
def test_without_additions_the_epochs_are_the_papers_update(name):
    policy, theta, batch, rest = epochs_case(name)
    found, info = ppo_epochs(policy, theta, batch, clip=0.2, **rest)
    expected, other = updates.ppo_update(policy, theta, batch, clip=0.2, **rest)
    # c₁ multiplies the gradient here and the loss's slope there: a few roundings apart, carried through nine steps.
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(info.value_theta, other.value_theta, rtol=1e-12)
    np.testing.assert_allclose(info.adam.second_moment, other.adam.second_moment, rtol=1e-11)
    for field in ("objective", "value_loss", "entropy", "approximate_kl"):
        ours, theirs = ([getattr(step, field) for step in steps] for steps in (info.steps, other.objectives))
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)
    assert info.ending is PPOEnding.ALL_EPOCHS


@pytest.mark.parametrize("name", ["categorical", "gaussian, free log-std"])
def test_the_penalised_objective_and_its_gradient_are_those_of_the_kl(name):
    """At the second step: L − β KL from `mean_kl`, its gradient by central differences of that."""
    policy, theta, batch, rest = epochs_case(name)
    B, beta = len(batch.actions), 3.0
    rest |= {"minibatches": [[np.arange(B)]], "value_coefficient": 0.0, "entropy_coefficient": 0.0}
    moved, _ = ppo_epochs(policy, theta, batch, kl_penalty=beta, **rest)
    _, info = ppo_epochs(policy, theta, batch, kl_penalty=beta, **(rest | {"minibatches": [[np.arange(B)]] * 2}))

    def objective(at):
        ratio = np.exp(log_prob(policy, at, batch.observations, batch.actions) - batch.old_log_prob)
        return np.mean(ratio * batch.advantages) - beta * mean_kl(policy, theta, at, batch.observations)

    assert mean_kl(policy, theta, moved, batch.observations) > 1e-4
    assert info.steps[1].policy_objective == pytest.approx(objective(moved), rel=1e-11)
    h = 1e-5
    gradient = [
        (objective(moved + h * e) - objective(moved - h * e)) / (2 * h) for e in np.eye(len(theta))
    ]
    assert info.steps[1].gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-7)


def test_a_long_gradient_is_shortened_to_its_limit_and_a_short_one_left():
    policy, theta, batch, rest = epochs_case("categorical")
    rest |= {"minibatches": [[np.arange(5)]]}
    _, free = ppo_epochs(policy, theta, batch, clip=0.2, **rest)
    g = free.adam.first_moment / 0.1  # m = (1 − β₁) g after one step
    assert free.steps[0].gradient_norm == pytest.approx(np.linalg.norm(g), rel=1e-14)
    for limit, beside in ((0.3, 0.0), (0.3, 0.05), (100.0, 0.0)):
        options = {"max_gradient_norm": limit, "gradient_norm_epsilon": beside}
        _, held = ppo_epochs(policy, theta, batch, clip=0.2, **rest, **options)
        factor = min(1.0, limit / (np.linalg.norm(g) + beside))
        np.testing.assert_allclose(held.adam.first_moment, 0.1 * factor * g, rtol=1e-13)
    assert np.linalg.norm(g) > 0.5


def test_normalised_minibatches_forget_shift_and_scale():
    policy, theta, batch, rest = epochs_case("categorical")
    rest |= {"minibatches": [[np.array([0, 1, 2]), np.array([3, 4])]]}
    options = {"normalize": True, "advantage_ddof": 1}
    one, _ = ppo_epochs(policy, theta, batch, clip=0.2, **rest, **options)
    other = batch._replace(advantages=5 * batch.advantages - 3)
    two, _ = ppo_epochs(policy, theta, other, clip=0.2, **rest, **options)
    np.testing.assert_allclose(one, two, rtol=1e-11)
    plain, _ = ppo_epochs(policy, theta, batch, clip=0.2, **rest)
    assert np.abs(one - plain).max() > 1e-6
    # A single row has no deviation: it is left as it is.
    rest |= {"minibatches": [[np.array([0])]]}
    np.testing.assert_array_equal(
        ppo_epochs(policy, theta, batch, clip=0.2, **rest, **options)[0],
        ppo_epochs(policy, theta, batch, clip=0.2, **rest)[0],
    )


def test_the_epochs_stop_where_the_kl_passes_its_limit():
    policy, theta, batch, rest = epochs_case("categorical")
    _, whole = ppo_epochs(policy, theta, batch, clip=0.2, **rest)
    kl = [step.approximate_kl for step in whole.steps]
    limit = 0.5 * max(kl)
    last = next(i for i, value in enumerate(kl) if value > limit)
    assert 0 < last < len(kl) - 1
    stopped, info = ppo_epochs(policy, theta, batch, clip=0.2, stop_kl=limit, **rest)
    order = [rows for epoch in rest["minibatches"] for rows in epoch]
    before, other = ppo_epochs(policy, theta, batch, clip=0.2, **(rest | {"minibatches": [order[:last]]}))
    np.testing.assert_array_equal(stopped, before)
    np.testing.assert_array_equal(info.value_theta, other.value_theta)
    assert (info.ending, len(info.steps), info.adam.step) == (PPOEnding.KL_REACHED, last + 1, last)


def test_the_clipped_value_loss_is_that_of_the_values_before_the_epochs():
    policy, theta, batch, rest = epochs_case("categorical")
    rest |= {"minibatches": [[np.arange(5)]] * 2, "learning_rate": 0.3}
    _, info = ppo_epochs(policy, theta, batch, clip=0.2, value_clip=0.1, **rest)
    rest |= {"minibatches": [[np.arange(5)]]}
    _, first = ppo_epochs(policy, theta, batch, clip=0.2, value_clip=0.1, **rest)
    old, new = (
        network.forward(rest["value_network"], w, batch.observations)[:, 0]
        for w in (rest["value_theta"], first.value_theta)
    )
    expected = surrogate.clipped_value_loss(new, old, rest["value_targets"], 0.1)
    assert info.steps[1].value_loss == pytest.approx(float(expected), rel=1e-13)
    assert expected != surrogate.value_loss(new, rest["value_targets"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": None}, "clip is None and kl_penalty None, expected one of them"),
        ({"kl_penalty": 1.0}, "clip is 0.2 and kl_penalty 1.0"),
        ({"stop_kl": 0.0}, "stop_kl is 0.0"),
        ({"max_gradient_norm": -1.0}, "max_gradient_norm is -1.0"),
        ({"value_coefficient": -1.0}, "value_coefficient is -1.0"),
        ({"value_targets": np.zeros(3)}, "value_targets has shape"),
    ],
)
def test_epochs_refuse_what_they_cannot_use(change, message):
    policy, theta, batch, rest = epochs_case("categorical")
    with pytest.raises(ValueError, match=f"ppo_epochs: {message}"):
        ppo_epochs(policy, theta, batch, **({"clip": 0.2} | rest | change))
    with pytest.raises(ValueError, match="ppo_epochs: batch has old_log_prob None"):
        ppo_epochs(policy, theta, batch._replace(old_log_prob=None), clip=0.2, **rest)


# ── the loops ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_is_the_same_for_a_seed_and_goes_on_from_any_iteration(loop):
    whole = list(LOOPS[loop](learner(), 4))
    same(tuple(whole), tuple(LOOPS[loop](learner(), 4)))
    for stop in (0, 1, 3):
        middle = whole[stop].learner
        same(tuple(whole[stop + 1 :]), tuple(LOOPS[loop](middle, 3 - stop)))
    assert list(leaves(whole[0])) != list(leaves(next(LOOPS[loop](learner(seed=1), 1))))
    assert [record.iteration for record in whole] == [1, 2, 3, 4]
    assert [record.steps for record in whole] == [48, 96, 144, 192]


@pytest.mark.parametrize("loop", LOOPS)
def test_records_say_what_happened(loop):
    """Each number again, from the rollout drawn again, and tables of probabilities."""
    before = learner()
    for record in LOOPS[loop](before, 3):
        run, runs = sample_rollout(finite(time_limit=6), POLICY, before.theta, before.runs, steps=12)
        same(record.learner.runs, runs)
        V, V_next = (
            network.forward(VALUES, before.value_theta, x.reshape(-1, 2)).reshape(12, 4)
            for x in (run.observations, run.next_observations)
        )
        found = estimation.gae(run.rewards, V, V_next, run.terminated, run.truncated, DISCOUNT, 0.9)
        A = found.advantages
        A = (A - A.mean()) / (A.std() + 1e-8)
        batch = rollout_batch(run, A)
        x, a = batch.observations, batch.actions
        pi, pi_new = (probability_table(POLICY, theta, x) for theta in (before.theta, record.learner.theta))
        ratio = (pi_new / pi)[np.arange(48), a]
        assert record.surrogate_before == pytest.approx(0, abs=1e-14)
        assert record.surrogate_after == pytest.approx(np.mean(ratio * batch.advantages), abs=1e-13)
        assert record.kl_old_new == pytest.approx(np.mean(np.sum(pi * np.log(pi / pi_new), axis=1)), rel=1e-9)
        assert record.kl_new_old == pytest.approx(np.mean(np.sum(pi_new * np.log(pi_new / pi), axis=1)), rel=1e-9)
        assert record.entropy == pytest.approx(-np.mean(np.sum(pi_new * np.log(pi_new), axis=1)), rel=1e-12)
        assert record.entropy == pytest.approx(np.mean(entropy(POLICY, record.learner.theta, x)), rel=1e-12)
        assert record.step_norm == pytest.approx(np.linalg.norm(record.learner.theta - before.theta))
        score = np.eye(3)[a] - pi
        at = network.linearize(POLICY.network, before.theta, x)
        g = at.vjp(score * batch.advantages[:, None] / 48)
        assert record.gradient_norm == pytest.approx(np.linalg.norm(g), rel=1e-11)
        R = found.value_targets.ravel()
        assert record.explained_variance == pytest.approx(1 - np.var(R - V.ravel()) / np.var(R), rel=1e-11)
        assert record.value_loss_before == pytest.approx(np.mean((R - V.ravel()) ** 2), rel=1e-12)
        fitted = network.forward(VALUES, record.learner.value_theta, x)[:, 0]
        assert record.value_loss_after == pytest.approx(np.mean((R - fitted) ** 2), rel=1e-12)
        assert record.value_loss_after < record.value_loss_before
        assert record.episodes == 8
        assert record.mean_length == 6
        assert record.mean_return == pytest.approx(run.rewards.sum() / 8)
        # Adam goes on from iteration to iteration: 3 epochs of 48/16 minibatches, or 10 of one; L-BFGS leaves it alone.
        steps_of_adam = {"ppo": 9, "ppo-kl": 9, "trpo": 10}
        if loop in steps_of_adam:
            assert record.learner.adam.step == steps_of_adam[loop] * record.iteration
        else:
            assert record.learner.adam is None
        if loop == "ppo":
            assert record.clip_fraction == pytest.approx(np.mean(np.abs(ratio - 1) > 0.2), rel=1e-14)
        else:
            assert record.clip_fraction is None
        if loop == "trpo":
            assert record.step.trials[record.step.accepted].kl == pytest.approx(record.kl_old_new)
            assert record.kl_old_new <= 0.02
            assert len(record.step.cg.residual_norms) > 1
        before = record.learner


def test_the_penalty_follows_the_kl_it_led_to():
    records = list(LOOPS["ppo-kl"](learner(), 6, learning_rate=0.004, initial_kl_penalty=2.0))
    assert records[0].kl_penalty == 2.0
    for here, after in itertools.pairwise(records):
        expected = surrogate.kl_penalty_update(here.kl_penalty, here.kl_old_new, 0.01)
        assert after.kl_penalty == expected
    assert len({record.kl_penalty for record in records}) > 1
    # The direction is old ‖ new: with a limit between the two, the other one would decide otherwise.
    first = records[0]
    target = 1.5 * (first.kl_old_new + first.kl_new_old) / 2
    (again,) = LOOPS["ppo-kl"](learner(), 1, learning_rate=0.004, initial_kl_penalty=2.0, kl_target=target)
    assert again.kl_old_new == first.kl_old_new
    assert again.learner.kl_penalty == surrogate.kl_penalty_update(2.0, first.kl_old_new, target)
    assert again.learner.kl_penalty != surrogate.kl_penalty_update(2.0, first.kl_new_old, target)


def test_a_learning_rate_may_depend_on_the_iteration():
    first = next(LOOPS["ppo"](learner(), 1, learning_rate=0.02))
    falling = list(LOOPS["ppo"](learner(), 2, learning_rate=lambda i: 0.02 if i == 1 else 1e-9))
    same(first, falling[0])
    assert falling[1].step_norm < 1e-6


@pytest.mark.parametrize("preset", PPO_PRESETS)
def test_presets_are_keywords_of_the_loops(preset):
    assert list(PPO_PRESETS) == list(TRPO_PRESETS)
    for loop, presets in ((training.sampled_ppo, PPO_PRESETS), (training.sampled_trpo, TRPO_PRESETS)):
        keywords = dict(presets[preset])
        keywords["sampling"] = keywords["sampling"]._replace(steps=20)
        world = finite(restart_probability=0.1)
        (record,) = loop(world, POLICY, VALUES, learner(world), iterations=1, **keywords)
        assert record.step_norm > 0


# ── the exact loops as the limit ──────────────────────────────────────────────────────────────────

TABLE, STATE_VALUES = softmax_policy((5, 3)), Network((5, 1))


def oracle_case():
    """A policy that is a table of logits, and the true values: rows are distributed as d where restarts are 1 − γ."""
    model = mdp.random_mdp(seeded(1), states=5, actions=3, discount=DISCOUNT)
    world = FiniteWorld(model, restart_probability=1 - DISCOUNT)
    theta = np.concatenate([0.5 * seeded(2).normal(size=15), np.zeros(3)])
    V = mdp.evaluate(model, probability_table(TABLE, theta, np.eye(5))).values
    return model, world, theta, np.append(V, 0.0)


def run_from(world, theta, w, *, environments, steps, seed, loop, iterations=1, **options):
    start = new_learner(
        world, TABLE, STATE_VALUES, seeded(seed), environments=environments, theta=theta, value_theta=w
    )
    sampling = Sampling(steps=steps, gamma=DISCOUNT, gae_lambda=0.5, normalization="none")
    return list(loop(world, TABLE, STATE_VALUES, start, iterations=iterations, sampling=sampling, **options))


@pytest.mark.parametrize("algorithm", ["trpo", "ppo"])
def test_one_sampled_step_approaches_the_exact_one_with_slope_minus_one_half(algorithm):
    """The distance to the exact θ' over batches of 4ᵏ rows; eight repetitions, so 1/√(16·17) = 6 % of each."""
    model, world, theta, w = oracle_case()
    if algorithm == "trpo":
        options = {"max_kl": 0.01, "damping": 0.01}
        (exact,) = training.trpo(model, TABLE, theta, np.eye(5), iterations=1, cg_iterations=25, **options)
        options |= {"cg_iterations": 25, "fitting": ValueFitting(epochs=1, minibatch=10**6)}
        loop = training.sampled_trpo
    else:
        # A large ε makes Adam's step a smooth function of the gradient.
        options = {"clip": 0.2, "epochs": 3, "learning_rate": 0.5, "epsilon": 1.0}
        (exact,) = training.ppo(model, TABLE, theta, np.eye(5), iterations=1, **options)
        options |= {"minibatch": 10**6}
        loop = training.sampled_ppo
    sizes, distances = np.array([20, 80, 320]), []
    for environments in sizes:
        found = [
            run_from(world, theta, w, environments=int(environments), steps=40, seed=seed, loop=loop, **options)
            for seed in range(8)
        ]
        errors = [np.sum((records[0].learner.theta - exact.theta) ** 2) for records in found]
        distances.append(np.sqrt(np.mean(errors)))
    slope = np.polyfit(np.log(sizes), np.log(distances), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.1)
    assert distances[-1] < 0.3 * np.linalg.norm(exact.theta - theta)


def test_a_sampled_run_approaches_the_oracle_curve_as_the_batch_grows():
    model, world, theta, w = oracle_case()
    options = {"max_kl": 0.02, "damping": 0.01}
    exact = [r.expected_return for r in training.trpo(model, TABLE, theta, np.eye(5), iterations=6, **options)]
    started = mdp.evaluate(model, probability_table(TABLE, theta, np.eye(5))).expected_return
    gaps = []
    for environments in (5, 500):
        records = run_from(
            world,
            theta,
            w,
            environments=environments,
            steps=40,
            seed=1,
            loop=training.sampled_trpo,
            iterations=6,
            fitting=ValueFitting(lbfgs_iterations=50),
            **options,
        )
        tables = [probability_table(TABLE, record.learner.theta, np.eye(5)) for record in records]
        found = [mdp.evaluate(model, table).expected_return for table in tables]
        gaps.append(np.abs(np.array(found) - exact).max())
    # A hundredfold batch: ten times closer in the mean, so three times is a wide margin for one seed.
    assert gaps[1] < gaps[0] / 3
    assert gaps[1] < 0.05 * (exact[-1] - started)


def test_gaussian_policies_learn_to_control_a_linear_system():
    """The returns of the linear policies found are exact, by the Lyapunov equation."""
    problem = lq.random_problem(seeded(3), states=2, actions=1, discount=0.7)
    world, policy, values = QuadraticWorld(problem, time_limit=20), gaussian_policy((2, 1)), Network((2, 16, 1))
    start = new_learner(world, policy, values, seeded(), environments=16, theta=np.zeros(4))

    def exact(theta):
        return lq.evaluate(
            problem, lq.LinearGaussianPolicy(-theta[:2][None], [[np.exp(2 * theta[3])]])
        ).expected_return

    directly = {"method": "cholesky", "cg_iterations": None}
    best = lq.optimum(problem)
    sampling = Sampling(steps=40, gamma=0.7, gae_lambda=0.9, weighting="discounted")
    shared = {"max_kl": 0.05, "damping": 0.01, "fitting": ValueFitting(lbfgs_iterations=50)}
    for loop, options in ((training.sampled_natural_policy_gradient, directly), (training.sampled_trpo, {})):
        run = loop(world, policy, values, start, iterations=15, sampling=sampling, **shared, **options)
        records = list(run)
        # Of the gap to the best gain with the same noise, most is closed; a bias b that is not 0 costs a little.
        theta = records[-1].learner.theta.copy()
        assert abs(theta[2]) < 0.5
        reachable = lq.evaluate(
            problem, lq.LinearGaussianPolicy(best.gain, [[np.exp(2 * theta[3])]])
        ).expected_return
        assert reachable - exact(theta) < 0.2 * (reachable - exact(np.zeros(4)))


@needs_gymnasium
@pytest.mark.parametrize("algorithm", ["ppo", "trpo"])
def test_cart_pole_is_learnt(algorithm):
    """From 20 or so actions an episode to 100 and more in 14 336 steps."""
    world, policy, values = gym_world("CartPole-v1", environments=8), softmax_policy((4, 32, 2)), Network((4, 32, 1))
    start = new_learner(world, policy, values, seeded(), environments=8)
    sampling = Sampling(steps=256, gamma=0.99, gae_lambda=0.95)
    if algorithm == "ppo":
        options = {"clip": 0.2, "epochs": 10, "minibatch": 256, "learning_rate": 3e-3}
        loop = training.sampled_ppo
    else:
        options = {"max_kl": 0.02, "damping": 0.1, "fitting": ValueFitting(minibatch=128, learning_rate=3e-3)}
        loop = training.sampled_trpo
    records = list(loop(world, policy, values, start, iterations=7, sampling=sampling, **options))
    assert records[0].mean_return < 35
    assert records[-1].mean_return > 100
    assert records[-1].entropy < records[0].entropy


@needs_gymnasium
def test_rows_that_are_no_transitions_are_not_counted():
    mode = gymnasium.vector.AutoresetMode.NEXT_STEP
    environments = gymnasium.make_vec(
        "CartPole-v1", num_envs=2, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}
    )
    world, policy, values = GymWorld(environments), softmax_policy((4, 2)), Network((4, 1))
    start = new_learner(world, policy, values, seeded(), environments=2)
    sampling = Sampling(steps=80, gamma=0.99, gae_lambda=0.95)
    options = {"max_kl": 0.01, "damping": 0.1}
    first, second = training.sampled_trpo(world, policy, values, start, iterations=2, sampling=sampling, **options)
    # Every episode that ended is followed by a row that is none, unless that row is in the next rollout.
    assert 160 - first.steps in (first.episodes, first.episodes - 1, first.episodes - 2)
    assert first.episodes > 2
    assert second.steps < first.steps + 160


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LOOPS["ppo"](learner(), 1, clip=None), "sampled_ppo: clip is None and kl_target None"),
        (lambda: LOOPS["ppo"](learner(), 1, kl_target=0.1), "sampled_ppo: clip is 0.2 and kl_target 0.1"),
        (lambda: LOOPS["ppo"](learner(), 1, epochs=0), "sampled_ppo: epochs is 0"),
        (lambda: LOOPS["ppo"](learner(), -1), "sampled_ppo: iterations is -1"),
        (lambda: LOOPS["ppo-kl"](learner(), 1, kl_target=0.0), "sampled_ppo: kl_target is 0.0"),
        (lambda: LOOPS["trpo"](learner(), 1, max_kl=0.0), "sampled_trpo: max_kl is 0.0"),
        (lambda: LOOPS["trpo"](learner(), 1, accept="never"), "sampled_trpo: accept is 'never'"),
        (lambda: LOOPS["npg"](learner(), 1, method="magic"), "sampled_natural_policy_gradient: method is 'magic'"),
        (
            lambda: LOOPS["trpo"](learner(), 1, sampling=SAMPLING._replace(normalization="minibatch")),
            "sampled_trpo: sampling.normalization is 'minibatch'",
        ),
        (lambda: LOOPS["ppo"](learner(), 1, sampling=SAMPLING._replace(gamma=1.5)), "sampling.gamma is 1.5"),
        (
            lambda: LOOPS["ppo"](learner(), 1, sampling=SAMPLING._replace(weighting="discounted")),
            "sampled_ppo: sampling.weighting is 'discounted'",
        ),
        (lambda: learner(theta=np.zeros(3)), "new_learner: theta has shape"),
        (
            lambda: new_learner(finite(), POLICY, Network((3, 1)), seeded(), environments=1),
            r"new_learner: value_network has sizes \(3, 1\), expected 2 inputs and 1 output",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
