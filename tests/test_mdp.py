"""Finite MDPs: against exact rational arithmetic, enumeration of trajectories, closed forms and laws.

Tolerances: U is the unit roundoff of float64.  Elimination updates an entry at most S times by one product, one
quotient and one sum of positive numbers, and a pivot is a sum of S of them.  Nothing cancels, so the roundings only add
up, and most of them belong to paths that weigh little: 4 S U, relative to a quantity made of positive terms, is
a third of the worst case and at least four times what is seen (17 U at S = 20).
"""

import itertools
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refpg import mdp as mdps
from refpg import updates
from refpg.distributions import CATEGORICAL
from refpg.mdp import MDP
from refpg.network import Network
from refpg.notation import Unrepresentable
from refpg.policy import Batch, Policy, linearize, probability_table, softmax_policy

U = np.finfo(float).eps / 2
AWAY = (0.5, 2.0**-4, 1e-3, 1e-6, 1e-12, 2.0**-52)  # 1 − γ; the float γ = 1 − away is the truth


class Exact(NamedTuple):
    """V, the values V̂ of the absolute rewards, ρ, A and η as rational numbers."""

    values: list
    absolute_values: list
    visitation: list
    advantages: list
    expected_return: Fraction


def solve(matrix, right):
    """Gauss–Jordan elimination of rational numbers; the columns of the result solve for the columns of ``right``."""
    rows = [list(row) + list(extra) for row, extra in zip(matrix, right, strict=True)]
    for j in range(len(rows)):
        pivot = next(i for i in range(j, len(rows)) if rows[i][j])
        rows[j], rows[pivot] = rows[pivot], rows[j]
        rows[j] = [x / rows[j][j] for x in rows[j]]
        for i in range(len(rows)):
            if i != j and rows[i][j]:
                factor = rows[i][j]
                rows[i] = [x - factor * y for x, y in zip(rows[i], rows[j], strict=True)]
    return [row[len(matrix) :] for row in rows]


def rational(array):
    return np.vectorize(lambda x: Fraction(float(x)), otypes=[object])(array)


def exact(mdp, policy):
    """The definition, in rational numbers: rows of these MDPs sum to exactly 1, so there is only one truth."""
    P, r, start, pi = rational(mdp.transition), rational(mdp.reward), rational(mdp.start), rational(policy)
    assert (P.sum(axis=2) == 1).all()
    assert (pi.sum(axis=1) == 1).all()
    gamma, S = Fraction(mdp.discount), mdp.states
    unit = np.array([[Fraction(int(s == t)) for t in range(S)] for s in range(S)])
    system = unit - gamma * (pi[:, :, None] * P).sum(axis=1)
    right = np.stack([(pi * r).sum(axis=1), (pi * abs(r)).sum(axis=1)], axis=1)
    V, V_hat = np.array(solve(system.tolist(), right.tolist())).T
    rho = np.array(solve(system.T.tolist(), start[:, None].tolist()))[:, 0]
    A = r + gamma * (P * V).sum(axis=2) - V[:, None]
    return Exact(V, V_hat, rho, A, (start * V).sum())


def two_classes(generator, discount):
    """Two sets of three states that are never left, and a state that leads to either: V differs by 1/(1 − γ)."""
    P = np.zeros((7, 2, 7))
    for block in (slice(0, 3), slice(3, 6)):
        P[block, :, block] = mdps.random_mdp(generator, states=3, actions=2, discount=0.5).transition
    P[6, 0, 0] = P[6, 1, 4] = 1
    start = np.array([1, 1, 1, 1, 1, 1, 2]) / 8
    return MDP(P, generator.normal(size=(7, 2)), start, discount)


def two_parts(generator, discount):
    """Two sets of three states, between which one step in 2²⁰ leads; rewards of 1000 and a little."""
    P = np.zeros((6, 2, 6))
    for block in (slice(0, 3), slice(3, 6)):
        P[block, :, block] = mdps.random_mdp(generator, states=3, actions=2, discount=0.5).transition
    for s, t in ((0, 5), (4, 1)):
        P[s, :, s] += P[s, :, (s + 1) % 3 + s // 3 * 3] - 2.0**-20
        P[s, :, (s + 1) % 3 + s // 3 * 3] = 0
        P[s, :, t] = 2.0**-20
    return MDP(P, 1000 + generator.normal(size=(6, 2)), np.full(6, 1 / 8) + 1 / 8 * np.eye(6)[:2].sum(axis=0), discount)


def world(name, away):
    """An MDP and a policy of the kind named, with 1 − γ = away."""
    generator = np.random.default_rng([len(name), *name.encode()])
    discount = 1 - away
    concentration = 0.2 if name == "nearly deterministic" else 1.0
    mdp = {
        "dense": lambda: mdps.random_mdp(generator, states=6, actions=3, discount=discount),
        "nearly deterministic": lambda: mdps.random_mdp(
            generator, states=6, actions=2, discount=discount, concentration=0.05
        ),
        "garnet": lambda: mdps.garnet(generator, states=8, actions=3, branching=2, discount=discount),
        "one state": lambda: mdps.random_mdp(generator, states=1, actions=3, discount=discount),
        "chain, drift to the left": lambda: mdps.chain(20, discount=discount, slip=2.0**-4),
        "chain, drift to the right": lambda: mdps.chain(20, discount=discount, slip=2.0**-4),
        "two classes": lambda: two_classes(generator, discount),
        "rarely left": lambda: MDP(
            [[[1 - 2.0**-45, 2.0**-45]], [[2.0**-30, 1 - 2.0**-30]]], [[1.0], [-1.0]], [0.5, 0.5], discount
        ),
        "two parts, large equal rewards": lambda: two_parts(generator, discount),
    }[name]()
    if name.startswith("chain"):
        return mdp, np.tile([1.0, 0.0] if name.endswith("left") else [0.0, 1.0], (20, 1))
    return mdp, mdps.random_policy(generator, states=mdp.states, actions=mdp.actions, concentration=concentration)


WORLDS = (
    "dense",
    "nearly deterministic",
    "garnet",
    "one state",
    "chain, drift to the left",
    "chain, drift to the right",
    "two classes",
    "rarely left",
    "two parts, large equal rewards",
)


def largest(values):
    return float(max(abs(x) for x in np.ravel(values)))


# ── against exact rational numbers ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("name", WORLDS)
def test_evaluate_is_the_exact_answer_to_rounding(name, away):
    mdp, policy = world(name, away)
    truth, got = exact(mdp, policy), mdps.evaluate(mdp, policy)
    tol = 4 * mdp.states * U
    # Entry by entry: ρ and d relative to themselves, V and η relative to the values of |r|.
    assert all(abs(Fraction(x) - y) <= tol * y for x, y in zip(got.visitation, truth.visitation, strict=True))
    gone = Fraction(1) - Fraction(mdp.discount)
    d = got.visitation_distribution
    assert all(abs(Fraction(x) - gone * y) <= tol * gone * y for x, y in zip(d, truth.visitation, strict=True))
    V = zip(got.values, truth.values, truth.absolute_values, strict=True)
    assert all(abs(Fraction(x) - y) <= tol * y_hat for x, y, y_hat in V)
    eta_hat = sum(rational(mdp.start) * truth.absolute_values)
    assert abs(Fraction(got.expected_return) - truth.expected_return) <= tol * eta_hat
    # Q has one step more, of which the rewards are those of one action.
    Q_hat = abs(rational(mdp.reward)) + Fraction(mdp.discount) * (
        (rational(mdp.transition) * truth.absolute_values).sum(axis=2)
    )
    Q = truth.advantages + truth.values[:, None]
    assert (abs(rational(got.action_values) - Q) <= (tol + 4 * U) * Q_hat).all()


def reach(mdp, truth):
    """The size of what advantages are sums of: rewards and (1 − γ)V less their average, differences of V in a step."""
    V, possible = truth.values, (mdp.transition > 0).any(axis=1)
    differences = [abs(V[s] - V[t]) for s, t in zip(*np.nonzero(possible), strict=True)]
    gone = Fraction(1) - Fraction(mdp.discount)
    average = gone * truth.expected_return
    return max(largest(rational(mdp.reward) - average), largest(gone * V - average), largest(differences))


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("name", WORLDS)
def test_advantages_keep_their_digits_as_gamma_approaches_one(name, away):
    mdp, policy = world(name, away)
    truth, got = exact(mdp, policy), mdps.evaluate(mdp, policy)
    error = largest(rational(got.advantages) - truth.advantages)
    assert error <= 4 * mdp.states * U * reach(mdp, truth)


@pytest.mark.parametrize("name", ["dense", "garnet", "chain, drift to the right"])
def test_the_difference_of_q_and_v_would_not_keep_them(name):
    mdp, policy = world(name, 1e-12)
    truth, got = exact(mdp, policy), mdps.evaluate(mdp, policy)
    naive = rational(got.action_values - got.values[:, None])
    assert largest(naive - truth.advantages) > 1e6 * 4 * mdp.states * U * reach(mdp, truth)


def test_advantages_within_a_class_do_not_see_the_other_class():
    """V differs by 1e12 between the classes, but no step of these six states does."""
    mdp, policy = world("two classes", 1e-12)
    truth, got = exact(mdp, policy), mdps.evaluate(mdp, policy)
    assert largest(truth.values[:3] - truth.values[3:6]) > 1e10
    within = mdps.MDP(mdp.transition[:6, :, :6], mdp.reward[:6], np.full(6, 1 / 6), mdp.discount)
    scale = reach(within, truth._replace(values=truth.values[:6]))
    assert scale < 100
    assert largest(rational(got.advantages[:6]) - truth.advantages[:6]) <= 4 * 7 * U * scale


def test_the_probability_of_staying_is_what_the_others_leave_over():
    """A row that sums to 1 − 2⁻⁵³ is a row of a Markov chain, not one that leaks away within 1e16 steps."""
    P = [[[np.nextafter(0.5, 0), 0.5]], [[0.0, 1.0]]]
    mdp = MDP(P, [[1.0], [1.0]], [1.0, 0.0], 1 - 2.0**-52)
    assert mdp.transition[0, 0, 0] < 0.5
    assert abs(mdps.evaluate(mdp, np.ones((2, 1))).values * 2.0**-52 - 1).max() <= 8 * U


# ── laws ─────────────────────────────────────────────────────────────────────────────────────────


def drawn(seed, states, actions, away, concentration):
    generator = np.random.default_rng(seed)
    mdp = mdps.random_mdp(
        generator, states=states, actions=actions, discount=1 - away, concentration=concentration
    )
    old, new = (
        mdps.random_policy(generator, states=states, actions=actions, concentration=concentration) for _ in range(2)
    )
    return mdps.PolicyPair(mdp, old, new)


pairs = st.builds(
    drawn,
    seed=st.integers(0, 10**6),
    states=st.integers(1, 7),
    actions=st.integers(1, 4),
    away=st.sampled_from([1.0, 0.5, 0.1, 1e-3, 1e-9]),
    concentration=st.sampled_from([0.1, 1.0, 10.0]),
)


@given(pairs)
def test_definitions(pair):
    mdp, policy, _ = pair
    eta, V, Q, A, rho, d = mdps.evaluate(mdp, policy)
    gone = 1 - mdp.discount
    tol = 8 * (mdp.states + mdp.actions) * U
    size = np.abs(mdp.reward).max() / gone
    np.testing.assert_allclose(V, (policy * Q).sum(axis=1), rtol=0, atol=tol * size)
    np.testing.assert_allclose(Q, mdp.reward + mdp.discount * mdp.transition @ V, rtol=0, atol=tol * size)
    np.testing.assert_allclose((policy * A).sum(axis=1), 0, rtol=0, atol=tol * max(1, np.abs(A).max()) * 10)
    np.testing.assert_allclose(rho.sum() * gone, 1, rtol=tol)
    np.testing.assert_allclose(d.sum(), 1, rtol=mdp.states * U)
    np.testing.assert_allclose(rho, d / gone, rtol=tol)
    np.testing.assert_allclose(rho @ (policy * mdp.reward).sum(axis=1), eta, rtol=0, atol=tol * size)
    np.testing.assert_allclose(mdp.start @ V, eta, rtol=0, atol=tol * size)


@given(pairs)
def test_performance_difference(pair):
    mdp, old, new = pair
    left, right = mdps.performance_difference(mdp, old, new)
    size = np.abs(mdp.reward).max() / (1 - mdp.discount)
    assert abs(left - right) <= 32 * (mdp.states + mdp.actions) * U * size
    assert mdps.performance_difference(mdp, old, old) == (0.0, 0.0)
    assert mdps.performance_difference(mdp, new, old).return_difference == -left


def test_performance_difference_keeps_its_digits_where_the_returns_agree():
    mdp, old = world("dense", 1e-12)
    towards = mdps.random_policy(np.random.default_rng(5), states=6, actions=3)
    step = (towards - old) * 2.0**-20  # a multiple of 2⁻⁵⁰: old + step is exact
    new = old + step
    truth = exact(mdp, new).expected_return - exact(mdp, old).expected_return
    left, right = mdps.performance_difference(mdp, old, new)
    assert abs(Fraction(right) - truth) <= 1e-13 * abs(truth)
    assert abs(Fraction(left) - truth) > 1e-13 * abs(truth)


@given(pairs)
def test_local_approximation_touches_the_return(pair):
    mdp, old, new = pair
    at = mdps.evaluate(mdp, old)
    assert mdps.local_approximation(mdp, old, old) == at.expected_return
    # L is linear in π' and its advantages are those of Q: Σ ρ Σ (π' − π) Q.
    gain = np.sum(at.visitation[:, None] * (new - old) * at.action_values)
    size = np.abs(mdp.reward).max() / (1 - mdp.discount) ** 2
    assert abs(mdps.local_approximation(mdp, old, new) - at.expected_return - gain) <= 100 * U * size


def test_scaling_rewards_by_a_power_of_two_scales_every_value_exactly():
    mdp, policy = world("garnet", 1e-3)
    doubled = mdps.evaluate(MDP(mdp.transition, 2 * mdp.reward, mdp.start, mdp.discount), policy)
    at = mdps.evaluate(mdp, policy)
    for field in ("expected_return", "values", "action_values", "advantages"):
        np.testing.assert_array_equal(getattr(doubled, field), 2 * np.asarray(getattr(at, field)))
    np.testing.assert_array_equal(doubled.visitation, at.visitation)


# ── the policy gradient ──────────────────────────────────────────────────────────────────────────


def textbook_return(mdp, table):
    """η by the textbook's linear solve, for complex policies too: what is differentiated below."""
    P, r = np.einsum("sa,sat->st", table, mdp.transition), np.sum(table * mdp.reward, axis=1)
    return mdp.start @ np.linalg.solve(np.eye(mdp.states) - mdp.discount * P, r)


def complex_step(function, at):
    """The gradient of a real-analytic function: no difference is taken, so it is exact to rounding."""
    h = 1e-60
    return np.array([np.imag(function(at + 1j * h * unit)) / h for unit in np.eye(len(at))])


def test_the_tabular_gradient_is_the_derivative_by_the_logits():
    mdp = mdps.random_mdp(np.random.default_rng(0), states=5, actions=3, discount=0.9)
    z = np.random.default_rng(1).normal(size=15)

    def softmax(z):
        e = np.exp(z.reshape(5, 3))
        return e / e.sum(axis=1, keepdims=True)

    slope = complex_step(lambda z: textbook_return(mdp, softmax(z)), z)
    gradient = mdps.softmax_gradient(mdp, softmax(z))
    # The textbook solve has a condition number below 1/(1 − γ) · 2; 100 covers its length.
    np.testing.assert_allclose(gradient.ravel(), slope, rtol=0, atol=100 * U * 20 * np.abs(slope).max())
    np.testing.assert_allclose(gradient.sum(axis=1), 0, rtol=0, atol=100 * U)


def neural():
    generator = np.random.default_rng(3)
    mdp = mdps.garnet(generator, states=6, actions=3, branching=3, discount=0.9)
    policy, x = softmax_policy((2, 5, 3)), generator.normal(size=(6, 2))
    theta = generator.normal(size=policy.network.num_parameters)
    return mdp, policy, theta, x


def test_the_gradient_of_a_network_is_the_derivative_of_its_return():
    mdp, policy, theta, x = neural()
    slope = complex_step(lambda theta: textbook_return(mdp, probability_table(policy, theta, x)), theta)
    table = probability_table(policy, theta, x)
    gradient = linearize("test", policy, theta, x).vjp(mdps.softmax_gradient(mdp, table))
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=1000 * U * np.abs(slope).max())


def test_the_surrogate_gradient_is_exact_with_visitation_as_weights():
    mdp, policy, theta, x = neural()
    slope = complex_step(lambda theta: textbook_return(mdp, probability_table(policy, theta, x)), theta)
    table = probability_table(policy, theta, x)
    at = mdps.evaluate(mdp, table)
    weights = (at.visitation_distribution[:, None] * table).ravel()
    rows = Batch(np.repeat(x, 3, axis=0), np.tile(range(3), 6), at.advantages.ravel(), weights=weights)
    gradient = updates.surrogate_gradient(policy, theta, rows)
    scaled = (1 - mdp.discount) * slope
    np.testing.assert_allclose(gradient, scaled, rtol=0, atol=1000 * U * np.abs(scaled).max())


def test_the_tabular_natural_gradient_is_the_advantage():
    """F⁺∇η moves the logits by A/(1 − γ), up to a constant in each state: a step of π exp(A)."""
    mdp = mdps.random_mdp(np.random.default_rng(7), states=4, actions=3, discount=0.9)
    policy, x = Policy(CATEGORICAL, Network((4, 3), "identity")), np.eye(4)
    theta = np.random.default_rng(8).normal(size=policy.network.num_parameters)
    table = probability_table(policy, theta, x)
    at = mdps.evaluate(mdp, table)
    model = linearize("test", policy, theta, x)
    gradient = model.vjp(mdps.softmax_gradient(mdp, table))
    natural = updates.natural_gradient(
        policy, theta, x, gradient, damping=0.0, method="minimum_norm", weights=at.visitation_distribution
    )
    change = model.jvp(natural.direction)
    centred = change - (table * change).sum(axis=1, keepdims=True)
    # √cond(F) is below 1e3 here.
    np.testing.assert_allclose(centred, at.advantages / (1 - 0.9), rtol=0, atol=1e5 * U * np.abs(centred).max())


# ── finite horizon ───────────────────────────────────────────────────────────────────────────────


def enumerated(mdp, policies, T, state=None, action=None, t0=0):
    """Σ over all trajectories from t0 of probability × discounted rewards, one by one, in rational numbers."""
    P, r, pi, gamma = rational(mdp.transition), rational(mdp.reward), rational(policies), Fraction(mdp.discount)
    total = Fraction(0)
    S, A = mdp.reward.shape
    steps = T - t0
    for states in itertools.product(range(S), repeat=steps):
        for actions in itertools.product(range(A), repeat=steps):
            if (state is not None and states[0] != state) or (action is not None and actions[0] != action):
                continue
            weight = Fraction(1) if state is not None else rational(mdp.start)[states[0]]
            gain = Fraction(0)
            for k in range(steps):
                if k > 0 or action is None:
                    weight *= pi[t0 + k, states[k], actions[k]]
                if k + 1 < steps:
                    weight *= P[states[k], actions[k], states[k + 1]]
                gain += gamma**k * r[states[k], actions[k]]
            total += weight * gain
    return total


@pytest.mark.parametrize("discount", [1.0, 0.75])
def test_finite_horizon_is_the_sum_over_trajectories(discount):
    generator = np.random.default_rng(2)
    T = 3
    mdp = mdps.random_mdp(generator, states=3, actions=2, discount=discount)
    policies = np.stack([mdps.random_policy(generator, states=3, actions=2) for _ in range(T)])
    got = mdps.evaluate_horizon(mdp, policies, T)
    tol = 40 * U * np.abs(mdp.reward).max()
    assert abs(got.expected_return - enumerated(mdp, policies, T)) <= tol
    assert (got.values[T] == 0).all()
    for t in range(T):
        for s in range(3):
            V = enumerated(mdp, policies, T, state=s, t0=t)
            assert abs(got.values[t, s] - V) <= tol
            for a in range(2):
                Q = enumerated(mdp, policies, T, state=s, action=a, t0=t)
                assert abs(got.action_values[t, s, a] - Q) <= tol
                assert abs(got.advantages[t, s, a] - (Q - V)) <= tol


def test_distributions_of_states_in_time():
    mdp = mdps.chain(4, discount=0.5)
    got = mdps.evaluate_horizon(mdp, np.tile([0.0, 1.0], (4, 1)), 5)
    np.testing.assert_array_equal(got.state_distributions, np.eye(4)[[0, 1, 2, 3, 3]])
    np.testing.assert_array_equal(got.visitation, [1, 0.5, 0.25, 0.125 + 0.0625])
    assert got.expected_return == 0.125 + 0.0625


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_performance_difference_in_finite_time(discount):
    generator = np.random.default_rng(4)
    T = 7
    mdp = mdps.garnet(generator, states=5, actions=3, branching=2, discount=discount)
    old, new = (
        np.stack([mdps.random_policy(generator, states=5, actions=3) for _ in range(T)]) for _ in range(2)
    )
    before, after = mdps.evaluate_horizon(mdp, old, T), mdps.evaluate_horizon(mdp, new, T)
    weights = discount ** np.arange(T)[:, None] * after.state_distributions
    gain = np.sum(weights[:, :, None] * new * before.advantages)
    assert abs(after.expected_return - before.expected_return - gain) <= 100 * U * T * np.abs(mdp.reward).max()
    np.testing.assert_allclose(weights.sum(axis=0), after.visitation, rtol=20 * U)


def test_a_long_horizon_is_an_infinite_one():
    mdp, policy = world("dense", 0.5)
    long, ever = mdps.evaluate_horizon(mdp, policy, 70), mdps.evaluate(mdp, policy)
    # What is missing is 2⁻⁷⁰ of it.
    np.testing.assert_allclose(long.expected_return, ever.expected_return, rtol=0, atol=50 * U)
    np.testing.assert_allclose(long.values[0], ever.values, rtol=0, atol=50 * U)
    np.testing.assert_allclose(long.advantages[0], ever.advantages, rtol=0, atol=50 * U)
    np.testing.assert_allclose(long.visitation, ever.visitation, rtol=0, atol=50 * U)


def test_one_policy_for_all_steps_is_the_same_as_one_for_each():
    mdp, policy = world("garnet", 0.5)
    one, each = (mdps.evaluate_horizon(mdp, p, 4) for p in (policy, np.stack([policy] * 4)))
    for a, b in zip(one, each, strict=True):
        np.testing.assert_array_equal(a, b)


# ── constructors ─────────────────────────────────────────────────────────────────────────────────


def test_random_probabilities_sum_to_exactly_one():
    generator = np.random.default_rng(0)
    for mdp in (
        mdps.random_mdp(generator, states=7, actions=3, discount=0.9, concentration=0.1),
        mdps.garnet(generator, states=7, actions=3, branching=4, discount=0.9),
    ):
        assert (rational(mdp.transition).sum(axis=2) == 1).all()
        assert rational(mdp.start).sum() == 1
    assert (rational(mdps.random_policy(generator, states=9, actions=4)).sum(axis=1) == 1).all()


def test_random_constructors_are_functions_of_the_generator():
    for draw in (
        lambda g: mdps.random_mdp(g, states=3, actions=2, discount=0.9).transition,
        lambda g: mdps.garnet(g, states=5, actions=2, branching=2, discount=0.9).reward,
        lambda g: mdps.random_policy(g, states=3, actions=2),
    ):
        np.testing.assert_array_equal(draw(np.random.default_rng(1)), draw(np.random.default_rng(1)))
        assert (draw(np.random.default_rng(1)) != draw(np.random.default_rng(2))).any()


def test_a_garnet_branches_as_often_as_asked():
    mdp = mdps.garnet(np.random.default_rng(0), states=9, actions=4, branching=3, discount=0.9)
    np.testing.assert_array_equal((mdp.transition > 0).sum(axis=2), 3)
    assert len({tuple(np.flatnonzero(row)) for row in mdp.transition.reshape(-1, 9)}) > 20
    assert np.ptp(mdp.start) <= 2.0**-30


def test_the_chain_walked_to_its_end():
    mdp = mdps.chain(5, discount=0.5)
    right = mdps.evaluate(mdp, np.tile([0.0, 1.0], (5, 1)))
    np.testing.assert_array_equal(right.values, 2 * 0.5 ** np.arange(4, -1, -1.0))
    np.testing.assert_array_equal(mdp.reward, [[0, 0]] * 4 + [[1, 1]])
    slipping = mdps.chain(3, discount=0.5, slip=0.25).transition
    np.testing.assert_array_equal(slipping[1], [[0.75, 0, 0.25], [0.25, 0, 0.75]])
    np.testing.assert_array_equal(slipping[0], [[0.75, 0.25, 0], [0.25, 0.75, 0]])


def test_the_map_of_a_gridworld():
    #   S .        state 0, 1        up, right, down, left
    #   # C
    #   G S                2, 3
    mdp = mdps.gridworld(
        ["S.", "#C", "GS"], discount=0.5, slip=0.5, step_reward=-1.0, goal_reward=8.0, cliff_reward=-16.0
    )
    np.testing.assert_array_equal(mdp.start, [0.5, 0, 0, 0.5])
    np.testing.assert_array_equal(mdp.transition[0, 1], [0.5, 0.5, 0, 0])  # both sides are walls
    np.testing.assert_array_equal(mdp.transition[1, 2], [0.5 * 0.5 + 0.25, 0.25, 0, 0.5 * 0.5])  # cliff, left, edge
    assert mdp.reward[1, 2] == -16 / 2 - 1 / 4 - 1 / 4
    np.testing.assert_array_equal(mdp.transition[2], np.tile(np.eye(4)[2], (4, 1)))
    assert (mdp.reward[2] == 0).all()
    assert mdp.reward[3, 3] == 8 / 2 - 1 / 4 - 16 / 4
    np.testing.assert_array_equal(mdp.transition[3, 3], [0.125, 0, 0.5, 0.375])


def test_a_slip_goes_to_either_side():
    up, right, down, left = 1, 5, 7, 3  # neighbours of cell 4 on an open map
    mdp = mdps.gridworld(["S..", "...", "..."], discount=0.5, slip=0.25)
    around = [(up, left, right), (right, up, down), (down, right, left), (left, down, up)]
    for action, (ahead, *sides) in enumerate(around):
        expected = np.zeros(9)
        expected[ahead], expected[sides] = 0.75, 0.125
        np.testing.assert_array_equal(mdp.transition[4, action], expected)


def test_the_cliff():
    mdp = mdps.cliff(discount=0.5)
    assert mdp.states == 4 * 12 - 10
    always_right = mdps.evaluate(mdp, np.tile([0.0, 1.0, 0.0, 0.0], (38, 1)))
    assert always_right.expected_return == -200  # −100 at every step, from the start to the start


def test_kakades_two_states():
    """Staying in 0 with 0.8 and in 1 with 0.1 stalls: the gradient of state 1 is smaller than that of 0."""
    mdp = mdps.kakade_two_state(discount=1 - 2.0**-10)
    at = mdps.evaluate(mdp, [[0.8, 0.2], [0.1, 0.9]])
    # Balance 0.2 d₀ = 0.9 d₁ up to 1 − γ; the average reward is 0.8 d₀ + 0.2 d₁.
    np.testing.assert_allclose(at.visitation_distribution, [9 / 11, 2 / 11], atol=2.0**-9)
    np.testing.assert_allclose(at.expected_return * 2.0**-10, (0.8 * 9 + 0.2 * 2) / 11, atol=2.0**-9)
    stalled = np.array([[1 - 1e-4, 1e-4], [0.5, 0.5]])
    gradient = mdps.softmax_gradient(mdp, stalled)
    assert np.abs(gradient).max() * (1 - mdp.discount) < 1e-3
    best = mdps.evaluate(mdp, [[0.0, 1.0], [1.0, 0.0]])
    assert best.expected_return > 1.9 * mdps.evaluate(mdp, stalled).expected_return * 0.99


# ── what is refused ──────────────────────────────────────────────────────────────────────────────

GOOD = {
    "transition": [[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.25, 0.75]]],
    "reward": [[0.0, 1.0], [2.0, 3.0]],
    "start": [0.5, 0.5],
    "discount": 0.5,
}


def changed(name, index, value):
    array = np.array(GOOD[name], dtype=float)
    array[index] = value
    return {**GOOD, name: array}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (changed("transition", (1, 0, 1), 0.75), r"^MDP: transition sums to 1.25 in state 1, action 0, expected 1$"),
        (changed("transition", (1, 1, 0), 0.25 + 1e-12), r"^MDP: transition sums to .* in state 1, action 1"),
        (changed("transition", (1, 0), [1.5, -0.5]), r"transition is -0.5 in state 1, action 0, next state 1, .* prob"),
        (changed("transition", (0, 1, 0), np.nan), r"transition is nan in state 0, action 1, next state 0"),
        (changed("reward", (1, 0), np.inf), r"^MDP: reward is inf in state 1, action 0, expected a finite number$"),
        (changed("start", 1, 0.25), r"^MDP: start sums to 0.75, expected 1$"),
        (changed("start", slice(None), [-0.5, 1.5]), r"^MDP: start is -0.5 in state 0, expected a probability$"),
        ({**GOOD, "transition": np.ones((2, 2, 3)) / 3}, r"^MDP: transition has shape \(2, 2, 3\), .* \(S, A, S\)"),
        ({**GOOD, "transition": np.ones((2, 2))}, r"^MDP: transition has shape \(2, 2\), expected \(S, A, S\)"),
        ({**GOOD, "reward": np.ones((2, 3))}, r"^MDP: reward has shape \(2, 3\), .* where A = 2 \(set by transition\)"),
        ({**GOOD, "start": [1.0]}, r"^MDP: start has shape \(1,\), .* where S = 2"),
        ({**GOOD, "reward": [[0, 1], [2, 3j]]}, r"^MDP: reward has dtype complex128, expected real numbers"),
        ({**GOOD, "reward": [[0, 1], [2]]}, r"^MDP: reward is ragged"),
        ({**GOOD, "discount": 1.5}, r"^MDP: discount is 1.5, expected a number >= 0 and <= 1"),
        ({**GOOD, "discount": -0.1}, r"^MDP: discount is -0.1"),
    ],
)
def test_an_mdp_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MDP(**arguments)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.25]], r"^evaluate: policy sums to 0.75 in state 1, expected 1$"),
        ([[1.5, -0.5], [0.5, 0.5]], r"^evaluate: policy is -0.5 in state 0, action 1, expected a probability$"),
        ([[0.5, 0.5], [np.nan, 0.5]], r"^evaluate: policy is nan in state 1, action 0"),
        ([[0.5, 0.5]], r"^evaluate: policy has shape \(1, 2\), expected \(S, A\) where S = 2"),
        ([0.5, 0.5], r"^evaluate: policy has shape \(2,\), expected \(S, A\)"),
    ],
)
def test_a_policy_that_is_none_is_refused(policy, message):
    with pytest.raises(ValueError, match=message):
        mdps.evaluate(MDP(**GOOD), policy)


def test_every_function_says_its_own_name():
    mdp, good, bad = MDP(**GOOD), np.full((2, 2), 0.5), np.full((2, 2), 0.25)
    for name in ("performance_difference", "local_approximation"):
        function = getattr(mdps, name)
        with pytest.raises(ValueError, match=rf"^{name}: old sums to 0.5 in state 0"):
            function(mdp, bad, good)
        with pytest.raises(ValueError, match=rf"^{name}: new sums to 0.5 in state 0"):
            function(mdp, good, bad)
        with pytest.raises(ValueError, match=rf"^{name}: mdp.discount is 1.0, expected a number < 1"):
            function(MDP(**{**GOOD, "discount": 1.0}), good, good)
    with pytest.raises(ValueError, match=r"^expected_advantages: new has shape \(1, 2\), .* S = 2"):
        mdps.expected_advantages(good, good, good[:1])
    with pytest.raises(ValueError, match=r"^softmax_gradient: policy sums to 0.5"):
        mdps.softmax_gradient(mdp, bad)
    with pytest.raises(ValueError, match=r"^evaluate_horizon: policy at step 1 sums to 0.5 in state 0"):
        mdps.evaluate_horizon(mdp, [good, bad], 2)
    with pytest.raises(ValueError, match=r"^evaluate_horizon: policy has 2 steps, expected horizon = 3"):
        mdps.evaluate_horizon(mdp, [good, good], 3)
    with pytest.raises(ValueError, match=r"^evaluate_horizon: horizon is 0, expected an integer >= 1"):
        mdps.evaluate_horizon(mdp, good, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: mdps.random_mdp(g, states=0, actions=1, discount=0.5), "^random_mdp: states is 0"),
        (lambda g: mdps.random_policy(g, states=1, actions=0), "^random_policy: actions is 0"),
        (lambda g: mdps.random_policy(g, states=1, actions=2, concentration=0), "^random_policy: concentration is 0"),
        (
            lambda g: mdps.garnet(g, states=2, actions=1, branching=3, discount=0.5),
            "^garnet: branching is 3, expected at most states = 2",
        ),
        (lambda g: mdps.chain(1, discount=0.5), "^chain: states is 1, expected an integer >= 2"),
        (lambda g: mdps.chain(3, discount=0.5, slip=2), "^chain: slip is 2"),
        (lambda g: mdps.gridworld(["S.", "G"], discount=0.5), "^gridworld: layout is .* equal length"),
        (lambda g: mdps.gridworld(["..", ".G"], discount=0.5), "^gridworld: layout"),
        (lambda g: mdps.gridworld(["Sx"], discount=0.5), "^gridworld: layout"),
        (lambda g: mdps.attained_mixture_example(discount=0.5, mixing=2), "^attained_mixture_example: mixing is 2"),
        (lambda g: mdps.attained_total_variation_example(discount=0.5, shift=0.6), "shift is 0.6"),
        (lambda g: mdps.mean_total_variation_counterexample(discount=0.5, leaving=-1), "leaving is -1"),
    ],
)
def test_constructors_refuse_what_they_cannot_build(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))


def test_rounded_rows_are_accepted_and_kept():
    generator = np.random.default_rng(0)
    P = generator.random((50, 3, 50))
    P /= P.sum(axis=2, keepdims=True)
    assert (P.sum(axis=2) != 1).any()
    mdp = MDP(P, np.zeros((50, 3)), np.full(50, 1 / 50), 0.9)
    np.testing.assert_array_equal(mdp.transition, P)


def test_an_mdp_is_a_copy_that_cannot_be_written_to():
    P = np.array(GOOD["transition"])
    mdp = MDP(P, GOOD["reward"], GOOD["start"], 0.5)
    P[0, 0] = 0
    assert mdp.transition[0, 0, 0] == 1
    for table in (mdp.transition, mdp.reward, mdp.start):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0


def test_overflow_is_an_error_and_never_a_warning():
    huge = MDP([[[1.0], [1.0]]], [[1e300, -1e300]], [1.0], 1 - 2.0**-50)
    with pytest.raises(Unrepresentable, match=r"^evaluate: a value overflows, expected mdp.reward of smaller"):
        mdps.evaluate(huge, [[1.0, 0.0]])
    with pytest.raises(Unrepresentable, match=r"^evaluate_horizon: a value overflows"):
        mdps.evaluate_horizon(MDP([[[1.0]]], [[1e308]], [1.0], 1.0), [[1.0]], 3)
