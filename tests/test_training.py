"""The loops: what the theory promises at every iterate, value iteration's optimum, and the same loops written out.

Tolerances: U is the unit roundoff.  A record's gains are relative-accurate; what theory promises of the exact
maximiser is broken by the rounding of a table, U of each probability, by at most about (S + A) U ε/(1 − γ).
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refpg import bounds, geometry, surrogate, training, updates
from refpg import mdp as mdps
from refpg.distributions import masked_categorical
from refpg.network import Network
from refpg.policy import Policy, linearize, log_prob, log_prob_vjp, probability_table, softmax_policy
from refpg.training import NotMonotone

U = np.finfo(float).eps / 2


def drawn(seed, states, actions, discount, concentration, sparse):
    generator = np.random.default_rng(seed)
    if sparse:
        mdp = mdps.garnet(generator, states=states, actions=actions, branching=min(2, states), discount=discount)
    else:
        mdp = mdps.random_mdp(generator, states=states, actions=actions, discount=discount)
    return mdp, mdps.random_policy(generator, states=states, actions=actions, concentration=concentration)


worlds = st.builds(
    drawn,
    seed=st.integers(0, 10**6),
    states=st.integers(1, 6),
    actions=st.integers(1, 4),
    discount=st.sampled_from([0.0, 0.05, 0.5, 0.9, 0.99, 1 - 1e-6]),
    concentration=st.sampled_from([0.05, 0.3, 1.0]),
    sparse=st.booleans(),
)


def rounding(mdp, policy):
    epsilon = np.abs(mdps.evaluate(mdp, policy).advantages).max()
    return 32 * (mdp.states + mdp.actions) * U * epsilon / (1 - mdp.discount)


def optimum(mdp):
    """The best return, by policy iteration: the greedy policy until none is better."""
    policy = np.eye(mdp.actions)[np.zeros(mdp.states, dtype=int)]
    while True:
        at = mdps.evaluate(mdp, policy)
        greedy = np.eye(mdp.actions)[at.advantages.argmax(axis=1)]
        if (np.max(at.advantages, axis=1) <= 1e-12 * np.abs(at.advantages).max()).all():
            return at.expected_return
        policy = greedy


def value_iteration(mdp):
    V = np.zeros(mdp.states)
    for _ in range(4000):
        V = np.max(mdp.reward + mdp.discount * mdp.transition @ V, axis=1)
    return mdp.start @ V


def test_policy_iteration_and_value_iteration_agree_on_the_optimum():
    for seed in range(5):
        mdp, _ = drawn(seed, 5, 3, 0.9, 1.0, sparse=False)
        assert optimum(mdp) == pytest.approx(value_iteration(mdp), rel=1e-10)


def network_case(discount=0.9, seed=3):
    generator = np.random.default_rng(seed)
    mdp = mdps.garnet(generator, states=6, actions=3, branching=3, discount=discount)
    policy, x = softmax_policy((2, 5, 3)), generator.normal(size=(6, 2))
    return mdp, policy, generator.normal(size=policy.network.num_parameters), x


# ── the chain of inequalities, at every iterate ───────────────────────────────────────────────────


@settings(max_examples=40)
@given(worlds, st.sampled_from(["trpo_kl", "pinsker"]))
def test_mm_rises_at_every_iterate_by_at_least_what_m_rises(world, bound):
    mdp, policy = world
    before = policy
    for record in training.mm(mdp, policy, iterations=5, bound=bound):
        slip = rounding(mdp, before)
        assert record.guaranteed_gain >= -slip
        assert record.gain >= record.guaranteed_gain - slip
        assert record.slack >= -slip
        # The same, from the textbook's definitions, as far as the digits of η go.
        size = np.abs(mdp.reward).max() / (1 - mdp.discount) ** 2
        eta = [mdps.evaluate(mdp, table).expected_return for table in (before, record.policy)]
        assert record.old_return == pytest.approx(eta[0], abs=1e4 * U * size)
        assert record.expected_return == pytest.approx(eta[1], abs=1e4 * U * size)
        at = mdps.evaluate(mdp, before)
        C = (4 if bound == "trpo_kl" else 2) * np.abs(at.advantages).max() * mdp.discount / (1 - mdp.discount) ** 2
        assert record.penalty == pytest.approx(C, rel=1e-12)
        L = mdps.local_approximation(mdp, before, record.policy)
        assert record.surrogate == pytest.approx(L, abs=1e4 * U * size)
        kl = bounds.kl_divergence(before, record.policy)
        assert (record.max_kl, record.mean_kl) == (kl.max(), bounds.state_mean(kl, at.visitation_distribution))
        if C:
            assert record.minorizer == pytest.approx(record.surrogate - C * kl.max(), abs=1e4 * U * size)
        assert record.step.ending is record.ending
        before = record.policy


@settings(max_examples=30)
@given(worlds, st.sampled_from([0.01, 1.0, 100.0]))
def test_mirror_descent_and_conservative_policy_iteration_rise(world, temperature):
    mdp, policy = world
    before = policy
    for record in training.mdpo(mdp, policy, iterations=5, temperature=temperature):
        assert record.gain >= -rounding(mdp, before)
        assert record.slack >= -rounding(mdp, before)  # infinite, where an action is given up
        before = record.policy
    before = policy
    for record in training.conservative_policy_iteration(mdp, policy, iterations=5):
        at = mdps.evaluate(mdp, before)
        promised = bounds.mixture_bound(mdp, before, updates.greedy_step(before, at.advantages), record.step)
        assert promised.guaranteed_gain >= -rounding(mdp, before)
        assert record.gain >= promised.guaranteed_gain - rounding(mdp, before)
        before = record.policy


def test_a_network_climbs_its_minorizer():
    mdp, policy, theta, x = network_case(discount=0.3)
    records = list(training.parametric_mm(mdp, policy, theta, x, iterations=2))
    for record in records:
        assert record.gain >= record.guaranteed_gain > 0
        assert record.guaranteed_gain == pytest.approx(record.step.minorizer_gain, rel=1e-7)  # it is made of a table
        np.testing.assert_array_equal(record.policy, probability_table(policy, record.theta, x))
    returns = [records[0].old_return] + [record.expected_return for record in records]
    assert all(later > earlier for earlier, later in itertools.pairwise(returns))


# ── to the optimum ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(4))
def test_mm_converges_to_the_optimum(seed):
    """Each losing probability falls by a factor 1 + ρΔ/C or more, Δ its disadvantage: at γ = 1/20 that is soon."""
    mdp, policy = drawn(seed, 3, 3, 0.05, 1.0, sparse=False)
    records = list(training.mm(mdp, policy, iterations=150))
    best, first = optimum(mdp), records[0].old_return
    assert best - records[-1].expected_return <= 1e-4 * (best - first)
    assert best >= records[-1].expected_return - 1e3 * U * abs(best)


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_mirror_descent_converges_to_the_optimum_as_fast_as_is_proved(seed, discount):
    """η* − η_k ≤ (λ log A + span V)/((1 − γ) k): the rate of the natural gradient from the uniform policy [AKLM]."""
    mdp, _ = drawn(seed, 5, 3, discount, 1.0, sparse=True)
    best, price = optimum(mdp), 0.05
    span = np.ptp(mdp.reward) / (1 - discount)  # of V, to which η may rise
    for record in training.mdpo(mdp, np.full((5, 3), 1 / 3), iterations=200, temperature=price):
        k = record.iteration
        assert best - record.expected_return <= (price * math.log(3) + span) / ((1 - discount) * k) + 1e-9
    assert best - record.expected_return <= 1e-6 * span


def test_conservative_policy_iteration_ends_where_no_action_is_better():
    mdp, policy = drawn(1, 3, 2, 0.1, 1.0, sparse=False)
    records = list(training.conservative_policy_iteration(mdp, policy, iterations=400))
    best = optimum(mdp)
    assert best - records[-1].expected_return <= 1e-6 * (best - records[0].old_return)


@pytest.mark.parametrize("method", ["natural_policy_gradient", "trpo", "ppo"])
def test_networks_learn_without_sampling(method):
    mdp, policy, theta, x = network_case()
    options = {
        "natural_policy_gradient": {"max_kl": 0.02, "damping": 1e-3},
        "trpo": {"max_kl": 0.02, "damping": 1e-3},
        "ppo": {"clip": 0.2, "epochs": 10, "learning_rate": 0.02},
    }[method]
    records = list(getattr(training, method)(mdp, policy, theta, x, iterations=40, **options))
    best, first = optimum(mdp), records[0].old_return
    assert best - records[-1].expected_return <= 0.1 * (best - first)
    for earlier, later in itertools.pairwise(records):
        assert later.old_return == pytest.approx(earlier.expected_return, rel=1e-9)
        assert later.slack >= 0  # M is a lower bound of η whoever made the step
        assert later.theta is not earlier.theta
    # It is not the guarantee that made them fast: M falls at once.
    assert records[0].guaranteed_gain < 0 < records[0].gain


# ── the loops are the updates ─────────────────────────────────────────────────────────────────────


def test_mm_is_the_general_loop_with_the_article_s_m():
    mdp, policy = drawn(2, 4, 3, 0.3, 1.0, sparse=False)

    def eta(table):
        return mdps.evaluate(mdp, table).expected_return

    def M(table):
        return lambda new: bounds.trpo_kl_bound(mdp, table, new).lower

    def step(_, table):
        at = mdps.evaluate(mdp, table)
        return updates.mm_step(table, at.advantages, at.visitation, bounds.penalty_coefficient(at.advantages, 0.3))[0]

    general = training.minorize_maximize(eta, M, step, policy, iterations=10, tolerance=1e-13)
    for ours, theirs in zip(training.mm(mdp, policy, iterations=10), general, strict=True):
        np.testing.assert_array_equal(ours.policy, theirs.point)
        assert ours.expected_return == pytest.approx(theirs.objective, rel=1e-13)
        assert ours.minorizer == pytest.approx(theirs.minorizer, rel=1e-13)
        assert ours.slack == pytest.approx(theirs.slack, abs=1e-13)


@pytest.mark.parametrize(
    ("minorizer", "maximizer", "message"),
    [
        (lambda x: lambda y: -((y - x) ** 2) - 2, lambda M, x: x / 2, "the minorizer is .* the objective"),
        (lambda x: lambda y: -x * x + 5 * abs(y - x), lambda M, x: x / 2, "expected the minorizer between the two"),
        (lambda x: lambda y: -x * x - 2 * x * (y - x) - (y - x) ** 2, lambda M, x: 2 * x, "expected the minorizer"),
    ],
    ids=["does not touch", "is not below", "step descends"],
)
def test_a_false_minorizer_is_found_out(minorizer, maximizer, message):
    with pytest.raises(NotMonotone, match=message):
        list(training.minorize_maximize(lambda x: -x * x, minorizer, maximizer, 1.0, iterations=3))


def test_a_step_that_breaks_the_promise_stops_the_loop(monkeypatch):
    mdp, policy = drawn(4, 4, 3, 0.9, 1.0, sparse=False)
    loops = training.exact
    monkeypatch.setattr(loops, "mirror_descent_step", lambda p, A, price: updates.mirror_descent_step(p, -A, price))
    with pytest.raises(NotMonotone, match="mdpo: at iteration 1 η rises by -"):
        list(training.mdpo(mdp, policy, iterations=3, temperature=1.0))
    monkeypatch.setattr(
        loops, "mm_step", lambda p, A, rho, C: (updates.kl_ball_step(p, A, 1.0)[0], updates.mm_step(p, A, rho, C)[1])
    )
    with pytest.raises(NotMonotone, match="mm: at iteration 1 .* M by -"):
        list(training.mm(mdp, policy, iterations=3))


def test_exact_batches_have_exact_means():
    mdp, policy, theta, x = network_case()
    table = probability_table(policy, theta, x)
    at = mdps.evaluate(mdp, table)
    rowwise, batch = training.exact_batch(mdp, policy, theta, x)
    gradient = linearize("test", policy, theta, x).vjp(mdps.softmax_gradient(mdp, table))
    found = updates.surrogate_gradient(rowwise, theta, batch)
    np.testing.assert_allclose(found, 0.1 * gradient, rtol=0, atol=1e3 * U * np.abs(gradient).max())
    new = theta + 0.1 * np.random.default_rng(0).normal(size=len(theta))
    moved = probability_table(policy, new, x)
    L = surrogate.sampled_surrogate(
        batch.old_log_prob, log_prob(rowwise, new, batch.observations, batch.actions), batch.advantages,
        weights=batch.weights,
    )
    assert pytest.approx(0.1 * (mdps.local_approximation(mdp, table, moved) - at.expected_return), abs=1e3 * U) == L
    mean = bounds.state_mean(bounds.kl_divergence(table, moved), at.visitation_distribution)
    found = geometry.mean_kl(rowwise, theta, new, batch.observations, weights=batch.weights)
    assert found == pytest.approx(mean, rel=1e-11)


def test_trpo_s_records_are_of_its_updates():
    mdp, policy, theta, x = network_case()
    for record in training.trpo(mdp, policy, theta, x, iterations=3, max_kl=0.01, damping=0.01):
        rowwise, batch = training.exact_batch(mdp, policy, theta, x)
        new, info = updates.trpo_step(rowwise, theta, batch, max_kl=0.01, damping=0.01)
        np.testing.assert_array_equal(record.theta, new)
        assert record.ending is info.ending
        assert record.mean_kl <= 0.01 * (1 + 1e-12)
        # What the line search saw of L, times 1/(1 − γ), is what the record says.
        seen = info.trials[info.accepted].improvement / 0.1
        assert record.surrogate - record.old_return == pytest.approx(seen, rel=1e-9)
        theta = new


def test_ppo_is_adam_on_the_exact_clipped_objective_with_a_frozen_old_policy():
    mdp, policy, theta, x = network_case()
    state = updates.Adam(np.zeros_like(theta), np.zeros_like(theta))
    for record in training.ppo(mdp, policy, theta, x, iterations=3, clip=0.1, epochs=4, learning_rate=0.05):
        old = probability_table(policy, theta, x)
        at = mdps.evaluate(mdp, old)
        for epoch in range(4):
            r = probability_table(policy, theta, x) / old
            A, d = at.advantages, at.visitation_distribution[:, None]
            active = np.where(A > 0, r < 1.1, r > 0.9)
            assert epoch == 0 or not np.array_equal(r, np.ones_like(r))
            # ∇ Σ d π_old min(rA, clip(r)A) = Σ d π_old r A ∇log π on the side where the ratio may still move.
            cotangent = (d * old * r * A * active).ravel()
            gradient = log_prob_vjp(policy, theta, np.repeat(x, 3, axis=0), np.tile(range(3), 6), cotangent)
            theta, state = updates.adam_step(theta, -gradient, state, learning_rate=0.05)
        np.testing.assert_allclose(record.theta, theta, rtol=0, atol=1e-8)  # Adam divides by |g|: rounding is amplified
        theta = record.theta


def test_the_natural_gradient_of_a_table_is_mirror_descent():
    """F⁺∇η = A/(1 − γ) up to a constant per state: the step is π exp(A/λ), λ from its length [AKLM]."""
    generator = np.random.default_rng(5)
    mdp = mdps.random_mdp(generator, states=4, actions=3, discount=0.8)
    tabular, x = softmax_policy((4, 3)), np.eye(4)
    theta = generator.normal(size=tabular.network.num_parameters)
    table = probability_table(tabular, theta, x)
    (record,) = training.natural_policy_gradient(
        mdp, tabular, theta, x, iterations=1, max_kl=0.05, damping=0, method="minimum_norm"
    )
    # x solves F x = (1 − γ)∇η over d: logits move by β A.
    price = record.step.multiplier
    np.testing.assert_allclose(
        record.policy, updates.mirror_descent_step(table, mdps.evaluate(mdp, table).advantages, price), rtol=1e-9
    )


def test_masked_policies_train_and_keep_their_mask():
    generator = np.random.default_rng(8)
    mdp = mdps.random_mdp(generator, states=4, actions=3, discount=0.7)
    mask = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1]], dtype=bool)
    policy, x = Policy(masked_categorical(mask), Network((2, 4, 3), "tanh")), generator.normal(size=(4, 2))
    theta = generator.normal(size=policy.network.num_parameters)
    for method, options in [
        ("trpo", {"max_kl": 0.01, "damping": 0.01}),
        ("ppo", {"clip": 0.2, "epochs": 4, "learning_rate": 0.01}),
        ("natural_policy_gradient", {"max_kl": 0.01, "damping": 0.01}),
        ("parametric_mm", {}),
    ]:
        for record in getattr(training, method)(mdp, policy, theta, x, iterations=2, **options):
            assert (record.policy[~mask] == 0).all()
            assert record.gain > 0


# ── doors ─────────────────────────────────────────────────────────────────────────────────────────


def test_no_iterations_no_records():
    mdp, policy = drawn(0, 2, 2, 0.5, 1.0, sparse=False)
    assert list(training.mm(mdp, policy, iterations=0)) == []


def test_one_action_is_one_policy():
    mdp, policy = drawn(0, 3, 1, 0.9, 1.0, sparse=False)
    (record,) = training.mm(mdp, policy, iterations=1)
    assert (record.gain, record.max_kl, record.ending) == (0.0, 0.0, updates.MMEnding.AT_MAXIMUM)


@pytest.mark.parametrize("discount", [0.1, 0.5])
def test_a_deterministic_policy_is_left_only_if_gamma_is_small(discount):
    """Σ ρ max A ≤ ε/(1 − γ) < C = 4εγ/(1 − γ)² for γ > 1/5: the article's M has its maximum where one stands."""
    bandit = mdps.MDP([[[1.0], [1.0]]], [[0.0, 1.0]], [1.0], discount)
    (record,) = training.mm(bandit, [[1.0, 0.0]], iterations=1)
    assert (record.gain > 0) == (discount < 0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, p: training.mm(m, p[:, :1], iterations=1), "mm: policy"),
        (lambda m, p: training.mm(m, p, iterations=-1), "mm: iterations is -1"),
        (lambda m, p: training.mm(m, p, iterations=1, bound="cpo"), "mm: bound is 'cpo'"),
        (lambda m, p: training.mdpo(m, p, iterations=1, temperature=0), "mdpo: temperature is 0"),
        (
            lambda m, p: training.trpo(
                m, softmax_policy((1, 2)), np.zeros(4), np.ones((5, 1)), iterations=1, max_kl=1, damping=1
            ),
            r"trpo: x has shape \(5, 1\)",
        ),
        (
            lambda m, p: training.ppo(
                m, softmax_policy((1, 2)), np.zeros(4), np.ones((2, 1)), iterations=1, clip=2, epochs=1, learning_rate=1
            ),
            "ppo: clip is 2",
        ),
    ],
)
def test_bad_arguments_are_refused_at_the_door(call, message):
    """At the call, not at the first record."""
    mdp, policy = drawn(0, 2, 2, 0.5, 1.0, sparse=False)
    with pytest.raises(ValueError, match=message):
        call(mdp, policy)


def test_gamma_one_is_refused():
    mdp = mdps.MDP([[[1.0], [1.0]]], [[0.0, 1.0]], [1.0], 1.0)
    with pytest.raises(ValueError, match="mm: mdp.discount is 1.0, expected a number < 1"):
        training.mm(mdp, [[0.5, 0.5]], iterations=1)
