"""Bias and variance of estimates: every sample and every trajectory of small worlds enumerated in exact rationals, the
estimators of the package among them, laws, and seeded simulation within five standard errors.

Tolerances: U is the unit roundoff.  A moment here is a sum of at most a few thousand products of numbers below 10,
formed in fewer than 100 dependent operations, and linear systems have conditions below 100: 1e4 U times the size of
the terms, which every comparison names.
"""

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from refpg import estimation, mdp
from refpg.mdp import MDP

U = np.finfo(float).eps / 2
ROUNDING = 1e4 * U

OLD, NEW = np.array([1, 2, 3, 2]) / 8, np.array([3, 1, 2, 2]) / 8
Y = np.array([3.0, -1.0, 5.0, 0.5])


def moments_of(outcomes, truth):
    """Mean, bias and variance of (probability, value) pairs."""
    outcomes = list(outcomes)
    assert sum(p for p, _ in outcomes) == 1
    mean = sum(p * y for p, y in outcomes)
    return mean, mean - truth, sum(p * (y - mean) ** 2 for p, y in outcomes)


def assert_moments(got, expected, size):
    for ours, theirs, unit in zip(got, expected, (size, size, size**2), strict=True):
        assert ours == pytest.approx(float(theirs), rel=0, abs=ROUNDING * unit)


# ── independent draws ─────────────────────────────────────────────────────────────────────────────


def samples(q, n):
    """Every sequence of n draws from q, and its probability."""
    exact = [Fraction(float(x)) for x in q]
    for rows in itertools.product(range(len(q)), repeat=n):
        probability = Fraction(1)
        for a in rows:
            probability *= exact[a]
        if probability:
            yield probability, list(rows)


def rational(array):
    return [Fraction(float(x)) for x in array]


def ordinary(rows, q, p, y):
    return sum(p[a] / q[a] * y[a] for a in rows) / len(rows)


def self_normalized(rows, q, p, y):
    return sum(p[a] / q[a] * y[a] for a in rows) / sum(p[a] / q[a] for a in rows)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["ordinary", "self_normalized"])
def test_importance_sampling_by_every_sample(name, n):
    function = {
        "ordinary": estimation.importance_sampling_moments,
        "self_normalized": estimation.self_normalized_moments,
    }[name]
    q, p, y = map(rational, (OLD, NEW, Y))
    outcomes = ((w, globals()[name](rows, q, p, y)) for w, rows in samples(OLD, n))
    truth = sum(a * b for a, b in zip(p, y, strict=True))
    assert_moments(function(OLD, NEW, Y, n), moments_of(outcomes, truth), size=20)


def test_the_moments_are_those_of_the_estimators():
    """The same, with the package's functions for rows in the place of the rational ones."""
    log_ratio = np.log(NEW / OLD)
    for estimator, function in (
        (estimation.importance_sampling_mean, estimation.importance_sampling_moments),
        (estimation.self_normalized_mean, estimation.self_normalized_moments),
    ):
        outcomes = [(w, Fraction(float(estimator(log_ratio[rows], Y[rows])))) for w, rows in samples(OLD, 3)]
        truth = Fraction(float(NEW @ Y))
        assert_moments(function(OLD, NEW, Y, 3), moments_of(outcomes, truth), size=20)


def test_what_the_old_policy_never_draws_is_bias():
    old, new, y = [0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [1.0, 2.0, 8.0]
    assert estimation.importance_sampling_moments(old, new, y, 5).bias == -2
    # Self-normalised: E[y | drawn] = (¼ + 1)/¾ in the limit, not 3¼.
    for function in (estimation.self_normalized_delta_method, estimation.self_normalized_moments):
        assert function(old, new, y, 400).bias == pytest.approx(5 / 3 - 13 / 4, abs=2e-3)


def test_laws_of_importance_sampling():
    of = estimation.importance_sampling_moments
    assert of(OLD, NEW, OLD / NEW, 3).variance <= ROUNDING  # p y ∝ q
    chi_squared = np.sum((NEW - OLD) ** 2 / OLD)
    assert of(OLD, NEW, np.full(4, 7.0), 3).variance == pytest.approx(49 * chi_squared / 3, rel=ROUNDING)
    of = estimation.self_normalized_moments
    assert of(OLD, NEW, np.full(4, 7.0), 3)[1:] == (0.0, 0.0)
    shifted, plain = of(OLD, NEW, Y + 1000, 3), of(OLD, NEW, Y, 3)
    assert shifted.bias == pytest.approx(plain.bias, abs=ROUNDING * 1000)
    assert shifted.mean == pytest.approx(plain.mean + 1000, abs=ROUNDING * 1000)
    assert of(OLD, NEW, Y, 1).mean == pytest.approx(OLD @ Y, abs=ROUNDING)
    same = of(OLD, OLD, Y, 3)
    assert same.variance == pytest.approx(OLD @ (Y - OLD @ Y) ** 2 / 3, rel=ROUNDING)
    assert same.mean_squared_error == same.bias**2 + same.variance


def test_the_delta_method_is_right_to_first_order():
    """Its errors fall as n⁻²: a regression of logarithms; 1000 draws of three outcomes can be enumerated."""
    old, new, y = np.array([2, 3, 3]) / 8, np.array([4, 1, 3]) / 8, [3.0, -1.0, 0.5]
    draws = [250, 500, 1000]
    exact, delta = (
        [function(old, new, y, n) for n in draws]
        for function in (estimation.self_normalized_moments, estimation.self_normalized_delta_method)
    )
    for field in ("bias", "variance"):
        off = [abs(getattr(a, field) - getattr(b, field)) for a, b in zip(exact, delta, strict=True)]
        # The next order is a relative c/n of what is fitted, with c of the size of the cubes of the ratios, 10.
        assert np.polyfit(np.log(draws), np.log(off), 1)[0] == pytest.approx(-2, abs=0.1)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_the_estimators_of_kl_by_every_sample(name, n):
    old, new = np.log(OLD), np.log(NEW)
    outcomes = [
        (w, Fraction(float(estimation.approximate_kl(old[rows], new[rows], estimator=name))))
        for w, rows in samples(OLD, n)
    ]
    truth = Fraction(float(OLD @ (old - new)))
    assert_moments(getattr(estimation.kl_estimator_moments(OLD, NEW, n), name), moments_of(outcomes, truth), size=2)


def test_k3_counts_on_the_support():
    moments = estimation.kl_estimator_moments([0.5, 0.5, 0.0], [0.25, 0.5, 0.25])
    assert (moments.k1.bias, moments.k3.bias) == (0, -0.25)
    assert moments.k1.mean == pytest.approx(np.log(2) / 2, rel=8 * U)


def test_orders_of_the_estimators_of_kl():
    """KL and var k1 are of second order in t, the bias of k2 of third, var k3 of fourth."""
    ts = 2.0 ** -np.arange(5, 10)
    direction = np.array([1, 1, -1, -1]) / 32
    moments = [estimation.kl_estimator_moments(OLD, OLD + t * direction) for t in ts]

    def order(values):
        return np.polyfit(np.log(ts), np.log(np.abs(values)), 1)[0]

    # The next order is a relative max t·direction/OLD ≤ 1/128 of what is fitted.
    assert order([m.k1.mean for m in moments]) == pytest.approx(2, abs=0.05)
    assert order([m.k1.variance for m in moments]) == pytest.approx(2, abs=0.05)
    assert order([m.k2.bias for m in moments]) == pytest.approx(3, abs=0.05)
    assert order([m.k3.variance for m in moments]) == pytest.approx(4, abs=0.05)


# ── small worlds, and all their trajectories ──────────────────────────────────────────────────────


def world(seed, layered=False):
    """A few states, two actions, probabilities in quarters, γ = ¾; layered: a trajectory ends within three steps."""
    generator = np.random.default_rng(seed)
    S = 5 if layered else 3
    P = np.zeros((S, 2, S))
    if layered:
        # 0, 1 → 2, 3 → … → 4, which is terminal; from 0 and 1 one of 2, 3, 4 follows.
        P[:2, :, 2:] = generator.multinomial(4, [1 / 3] * 3, size=(2, 2)) / 4
        P[2, :, 3:] = generator.multinomial(4, [1 / 2] * 2, size=2) / 4
        P[3:, :, 4] = 1
    else:
        P[:] = generator.multinomial(4, [1 / 3] * 3, size=(3, 2)) / 4
    reward = generator.integers(-8, 9, (S, 2)) / 4
    if layered:
        reward[-1] = 0
    start = np.append(np.array([1, 3]) / 4, np.zeros(S - 2))
    one, other = generator.integers(1, 4, (2, S, 1)) / 4
    return MDP(P, reward, start, 0.75), np.hstack([one, 1 - one]), np.hstack([other, 1 - other]), generator


def trajectories(world_, pi, T, first=None):
    """(probability, states s_0 … s_T, actions) of every trajectory; from a state and action if they are given."""
    P, start, table = world_.transition, world_.start, pi

    def go(probability, states, actions):
        if len(actions) == T and len(states) == T + 1:
            yield probability, states, actions
        elif len(states) == len(actions):
            for t in np.flatnonzero(P[states[-1], actions[-1]]):
                yield from go(probability * Fraction(P[states[-1], actions[-1], t]), [*states, int(t)], actions)
        else:
            for a in np.flatnonzero(table[states[-1]]):
                yield from go(probability * Fraction(table[states[-1], a]), states, [*actions, int(a)])

    if first is not None:
        yield from go(Fraction(1), [first[0]], [first[1]])
    else:
        for s in np.flatnonzero(start):
            yield from go(Fraction(start[s]), [int(s)], [])


def double_sum(world_, V, lam, states, actions, t=0):
    """GAE (16) of step t of a trajectory."""
    gamma, T = Fraction(world_.discount), len(actions)
    return sum(
        (gamma * Fraction(lam)) ** (k - t)
        * (
            Fraction(world_.reward[states[k], actions[k]])
            + gamma * Fraction(V[states[k + 1]])
            - Fraction(V[states[k]])
        )
        for k in range(t, T)
    )


LAMBDAS = [0.0, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("steps", [1, 2, 3, None])
@pytest.mark.parametrize("seed", range(2))
def test_gae_by_every_trajectory(seed, steps, lam):
    mdp_, pi, _, generator = world(seed, layered=steps is None)
    V = generator.integers(-8, 9, mdp_.states) / 4
    if steps is None:
        V[-1] = 0  # terminal
    A = mdp.evaluate(mdp_, pi).advantages
    got = estimation.gae_moments(mdp_, pi, V, lam, steps=steps)
    for s, a in np.ndindex(A.shape):
        outcomes = [
            (p, double_sum(mdp_, V, lam, states, actions))
            for p, states, actions in trajectories(mdp_, pi, steps or 3, first=(s, a))
        ]
        expected = moments_of(outcomes, Fraction(A[s, a]))
        assert_moments((got.mean[s, a], got.bias[s, a], got.variance[s, a]), expected, size=10)
    np.testing.assert_array_equal(got.mean_squared_error, got.bias**2 + got.variance)


def test_the_cut_sum_tends_to_the_endless_one():
    mdp_, pi, _, _ = world(4)
    V = np.array([1.0, -2.0, 0.5])
    for lam in LAMBDAS:
        endless, cut = (estimation.gae_moments(mdp_, pi, V, lam, steps=T) for T in (None, 150))
        for one, other in zip(endless, cut, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=100 * ROUNDING)  # (¾)¹⁵⁰ = 1e-19


def test_laws_of_gae():
    generator = np.random.default_rng(0)
    mdp_ = mdp.random_mdp(generator, states=5, actions=3, discount=0.9)
    pi = mdp.random_policy(generator, states=5, actions=3)
    at = mdp.evaluate(mdp_, pi)
    V, other = generator.normal(size=(2, 5))
    P = mdp_.transition
    e = V - at.values

    one = estimation.gae_moments(mdp_, pi, V, 1.0)
    np.testing.assert_allclose(one.bias, np.repeat(-e[:, None], 3, axis=1), rtol=0, atol=100 * ROUNDING)
    independent = estimation.gae_moments(mdp_, pi, other, 1.0).variance
    np.testing.assert_allclose(one.variance, independent, rtol=0, atol=1e3 * ROUNDING)

    zero = estimation.gae_moments(mdp_, pi, V, 0.0)
    np.testing.assert_allclose(zero.variance, 0.81 * (P @ V**2 - (P @ V) ** 2), rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(zero.bias, 0.9 * (P @ e) - e[:, None], rtol=0, atol=ROUNDING)

    previous = -1.0
    for lam in np.linspace(0, 1, 11):
        exact = estimation.gae_moments(mdp_, pi, at.values, lam)
        assert np.abs(exact.bias).max() == 0
        assert (exact.variance > previous).all()
        previous = exact.variance
        # bias(s,a) = γ(1 − λ) P (I − γλP_π)⁻¹ e − e(s), in one line of NumPy
        P_pi = np.einsum("sa,sat->st", pi, P)
        closed = 0.9 * (1 - lam) * (P @ np.linalg.solve(np.eye(5) - 0.9 * lam * P_pi, e)) - e[:, None]
        np.testing.assert_allclose(
            estimation.gae_moments(mdp_, pi, V, lam).bias, closed, rtol=0, atol=100 * ROUNDING
        )


@pytest.mark.parametrize("away", [0.5, 2.0**-20, 2.0**-40])
def test_the_variance_of_an_endless_sum_of_coins(away):
    """Rewards ±1 in one state: after the first, Σ γ²ˡ = γ²/(1 − γ²)."""
    gamma = 1 - away
    coin = MDP([[[1.0], [1.0]]], [[-1.0, 1.0]], [1.0], gamma)
    expected = Fraction(gamma) ** 2 / (1 - Fraction(gamma) ** 2)
    found = estimation.gae_moments(coin, [[0.5, 0.5]], [0.0], 1.0)
    np.testing.assert_allclose(found.variance, float(expected), rtol=8 * U / away)
    np.testing.assert_array_equal(found.mean, [[-1.0, 1.0]])


def draw(generator, p):
    """One draw from each row of p (N, n)."""
    return np.minimum((generator.random((len(p), 1)) > np.cumsum(p, axis=1)).sum(axis=1), p.shape[1] - 1)


def test_gae_by_simulation():
    """20,000 trajectories of 60 steps with the package's `gae`: (0.9·0.8)⁶⁰ = 3e-9 is left out."""
    generator = np.random.default_rng(1)
    mdp_ = mdp.random_mdp(generator, states=4, actions=2, discount=0.9)
    pi = mdp.random_policy(generator, states=4, actions=2)
    V = generator.normal(size=4)
    N, T = 20_000, 60
    s, a = np.full(N, 2), np.full(N, 1)
    rewards, values, next_values = np.empty((3, T, N))
    for t in range(T):
        rewards[t], values[t] = mdp_.reward[s, a], V[s]
        s = draw(generator, mdp_.transition[s, a])
        next_values[t] = V[s]
        a = draw(generator, pi[s])
    never = np.zeros((T, N), dtype=bool)
    found = estimation.gae(rewards, values, next_values, never, never, 0.9, 0.8).advantages[0]
    expected = estimation.gae_moments(mdp_, pi, V, 0.8)
    deviation = np.sqrt(expected.variance[2, 1])
    assert abs(found.mean() - expected.mean[2, 1]) < 5 * deviation / np.sqrt(N)
    fourth = np.mean((found - found.mean()) ** 4)
    assert abs(found.var() - expected.variance[2, 1]) < 5 * np.sqrt((fourth - deviation**4) / N)


# ── along one path ────────────────────────────────────────────────────────────────────────────────


def weights_of(weighting, gamma, T):
    gamma = Fraction(gamma)
    return [(1 - gamma) * gamma**t if weighting == "discounted" else Fraction(1, T) for t in range(T)]


@pytest.mark.parametrize("weighting", estimation.WEIGHTINGS)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("T", [1, 2, 3])
def test_single_path_by_every_trajectory(T, known, weighting):
    mdp_, pi, new, generator = world(2)
    at = mdp.evaluate(mdp_, pi)
    y = generator.integers(-8, 9, pi.shape) / 4
    gamma, w = Fraction(mdp_.discount), weights_of(weighting, mdp_.discount, T)

    def estimate(states, actions):
        total = Fraction(0)
        for t in range(T):
            r = Fraction(new[states[t], actions[t]]) / Fraction(pi[states[t], actions[t]])
            pays = sum(gamma ** (k - t) * Fraction(mdp_.reward[states[k], actions[k]]) for k in range(t, T))
            total += w[t] * r * (Fraction(y[states[t], actions[t]]) if known else pays)
        return total

    truth = Fraction(float(at.visitation_distribution @ np.sum(new * (y if known else at.action_values), axis=1)))
    outcomes = ((p, estimate(states, actions)) for p, states, actions in trajectories(mdp_, pi, T))
    mean, bias, variance = moments_of(outcomes, truth)
    for paths in (1, 7):
        got = estimation.single_path_moments(
            mdp_, pi, new, y if known else None, steps=T, paths=paths, weighting=weighting
        )
        assert_moments(got, (mean, bias, variance / paths), size=20)


def test_the_bias_of_a_cut_is_what_lies_behind_it():
    """γᵀ of what the state distribution at T goes on to collect."""
    mdp_, pi, new, _ = world(3)
    at = mdp.evaluate(mdp_, pi)
    seen = np.sum(new * at.advantages, axis=1)
    for T in (1, 4, 9):
        later = mdp.evaluate_horizon(mdp_, pi, T + 1).state_distributions[-1]
        rest = mdp.evaluate(MDP(mdp_.transition, mdp_.reward, later, 0.75), pi).visitation_distribution @ seen
        got = estimation.single_path_moments(mdp_, pi, new, at.advantages, steps=T)
        assert got.bias == pytest.approx(-(0.75**T) * rest, abs=ROUNDING)


def test_a_path_without_memory_is_a_sample_of_independent_rows():
    """If the next state does not depend on anything and starts alike, the rows of a path are i.i.d. draws."""
    generator = np.random.default_rng(6)
    start = np.array([1, 1, 2]) / 4
    mdp_ = MDP(np.tile(start, (3, 2, 1)), generator.normal(size=(3, 2)), start, 0.75)
    pi, new = (mdp.random_policy(generator, states=3, actions=2) for _ in range(2))
    y = generator.normal(size=(3, 2))
    path = estimation.single_path_moments(mdp_, pi, new, y, steps=11, weighting="uniform")
    rows = estimation.importance_sampling_moments(
        (start[:, None] * pi).ravel(), (start[:, None] * new).ravel(), y.ravel(), 11
    )
    assert path.mean == pytest.approx(rows.mean, abs=ROUNDING)
    assert path.variance == pytest.approx(rows.variance, rel=ROUNDING)
    # With memory they are not: a path that stays where it starts is one draw of the state.
    staying = MDP(np.repeat(np.eye(3)[:, None], 2, axis=1), mdp_.reward, start, 0.75)
    assert estimation.single_path_moments(staying, pi, new, y, steps=11, weighting="uniform").variance > path.variance


@pytest.mark.parametrize("weighting", estimation.WEIGHTINGS)
@pytest.mark.parametrize("lam", [0.0, 0.75, 1.0])
def test_the_policy_gradient_by_every_trajectory(lam, weighting):
    T = 3
    mdp_, pi, _, generator = world(5)
    V = generator.integers(-8, 9, 3) / 4
    w = weights_of(weighting, mdp_.discount, T)
    total, square = np.zeros(6, dtype=object), np.zeros((6, 6), dtype=object)
    for p, states, actions in trajectories(mdp_, pi, T):
        g = np.zeros((3, 2), dtype=object)
        for t in range(T):
            score = np.array([Fraction(int(a == actions[t])) - Fraction(pi[states[t], a]) for a in range(2)])
            g[states[t]] += w[t] * score * double_sum(mdp_, V, lam, states, actions, t)
        total = total + p * g.ravel()
        square = square + p * np.outer(g.ravel(), g.ravel())
    covariance = square - np.outer(total, total)
    got = estimation.policy_gradient_moments(mdp_, pi, V, lam, steps=T, paths=3, weighting=weighting)
    np.testing.assert_allclose(got.mean.ravel(), total.astype(float), rtol=0, atol=10 * ROUNDING)
    np.testing.assert_allclose(
        got.covariance.reshape(6, 6), covariance.astype(float) / 3, rtol=0, atol=100 * ROUNDING
    )
    truth = 0.25 * mdp.softmax_gradient(mdp_, pi)
    np.testing.assert_allclose(got.bias, got.mean - truth, rtol=0, atol=ROUNDING)
    error = np.trace(covariance.astype(float)) / 3 + np.sum(got.bias**2)
    assert got.mean_squared_error == pytest.approx(error, abs=100 * ROUNDING)


def test_when_the_policy_gradient_is_unbiased():
    mdp_, pi, _, _ = world(7)
    V = np.array([2.0, -1.0, 0.5])
    exact = mdp.evaluate(mdp_, pi).values
    for values, lam in ((V, 1.0), (exact, 0.0), (exact, 0.5)):
        bias = estimation.policy_gradient_moments(mdp_, pi, values, lam, steps=120).bias
        assert np.abs(bias).max() < 100 * ROUNDING + 100 * 0.75**120
    assert np.abs(estimation.policy_gradient_moments(mdp_, pi, V, 0.0, steps=120).bias).max() > 1e-3
    uniform = estimation.policy_gradient_moments(mdp_, pi, exact, 0.5, steps=120, weighting="uniform")
    assert np.abs(uniform.bias).max() > 1e-3


# ── the vine ──────────────────────────────────────────────────────────────────────────────────────


def rollout(mdp_, pi, s, a, numbers):
    """The return of one rollout that reads its numbers, quarters of [0, 1) taken by their middle, two per step."""
    total, weight = Fraction(0), Fraction(1)
    for U_, W in numbers:
        if U_ is not None:
            a = int(np.searchsorted(np.cumsum(pi[s]), (U_ + 0.5) / 4))
        total += weight * Fraction(mdp_.reward[s, a])
        weight *= Fraction(mdp_.discount)
        s = int(np.searchsorted(np.cumsum(mdp_.transition[s, a]), (W + 0.5) / 4))
    assert s == 4
    return total


def numbers():
    """All numbers of three steps; the last decision of a state pays and ends, so its W does not matter."""
    for W0, U1, W1, U2 in itertools.product(range(4), repeat=4):
        yield [(None, W0), (U1, W1), (U2, 0)]


@pytest.mark.parametrize("s", [0, 1, 2])
def test_common_random_numbers_by_every_number(s):
    mdp_, pi, _, _ = world(1, layered=True)
    G = np.array([[rollout(mdp_, pi, s, a, z) for a in range(2)] for z in numbers()])
    apart = G - G.sum(axis=0) / Fraction(len(G))
    covariance = (apart.T @ apart / Fraction(len(G))).astype(float)
    np.testing.assert_allclose(estimation.return_covariance(mdp_, pi)[s], covariance, rtol=0, atol=100 * ROUNDING)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("improvement", [False, True])
@pytest.mark.parametrize("estimator", estimation.ESTIMATORS)
def test_the_vine_by_every_number(estimator, improvement, shared):
    """Two actions per state; the returns of both are enumerated, with the same numbers or with two independent ones."""
    mdp_, pi, new, _ = world(8, layered=True)
    Q = mdp.evaluate(mdp_, pi).action_values
    expected = []
    for s in (0, 1):
        G = np.array([[rollout(mdp_, pi, s, a, z) for a in range(2)] for z in numbers()])
        joint = {}
        for i, j in itertools.product(range(2), repeat=2):
            if shared:
                found = Counter((z[i], z[j]) for z in G)
            else:
                ours, theirs = Counter(G[:, i]), Counter(G[:, j])
                found = {(x, y): n * m for (x, n), (y, m) in itertools.product(ours.items(), theirs.items())}
            number = sum(found.values())
            joint[i, j] = [(Fraction(n, number), pair) for pair, n in found.items()]
        p, q = rational(new[s]), rational(pi[s])
        r = [p[a] / q[a] for a in range(2)]
        outcomes = []
        for (i, j), pairs in joint.items():
            if estimator == "every_action":
                if (i, j) == (0, 1):
                    w = [p[a] - q[a] * improvement for a in range(2)]
                    outcomes += [(weight, w[0] * x + w[1] * y) for weight, (x, y) in pairs]
                continue
            if estimator == "ordinary":
                w = [(r[i] - improvement) / 2, (r[j] - improvement) / 2]
            else:
                w = [r[k] / (r[i] + r[j]) - Fraction(int(improvement), 2) for k in (i, j)]
            outcomes += [(q[i] * q[j] * weight, w[0] * x + w[1] * y) for weight, (x, y) in pairs]
        truth = Fraction(float((new[s] - pi[s] * improvement) @ Q[s]))
        expected.append(moments_of(outcomes, truth))
    one, other = expected
    # The rollout set 0, 1, 1: means of three, the variances of independent states.
    mean, bias = ((one[k] + 2 * other[k]) / 3 for k in range(2))
    got = estimation.vine_moments(
        mdp_, pi, new, [0, 1, 1], estimator=estimator, draws=None if estimator == "every_action" else 2,
        improvement=improvement, common_random_numbers=shared,
    )
    assert_moments(got, (mean, bias, (one[2] + 2 * other[2]) / 9), size=10)


def test_common_random_numbers_in_a_world_without_end():
    """Simulation of both actions of a state with the same numbers: 20,000 pairs, 150 steps, 0.9¹⁵⁰ = 1e-7."""
    generator = np.random.default_rng(3)
    mdp_ = mdp.random_mdp(generator, states=4, actions=3, discount=0.9)
    pi = mdp.random_policy(generator, states=4, actions=3)
    N = 20_000
    s, a = np.zeros((N, 3), dtype=int), np.tile(np.arange(3), (N, 1))
    G, weight = np.zeros((N, 3)), 1.0
    chosen, reached = np.cumsum(pi, axis=1)[:, :-1], np.cumsum(mdp_.transition, axis=2)[:, :, :-1]
    for _ in range(150):
        G += weight * mdp_.reward[s, a]
        weight *= 0.9
        s = (generator.random((N, 1, 1)) > reached[s, a]).sum(axis=2)
        a = (generator.random((N, 1, 1)) > chosen[s]).sum(axis=2)
    expected = estimation.return_covariance(mdp_, pi)[0]
    apart = G - G.mean(axis=0)
    products = apart[:, :, None] * apart[:, None, :]
    assert (np.abs(products.mean(axis=0) - expected) < 5 * products.std(axis=0) / np.sqrt(N)).all()
    alone = estimation.gae_moments(mdp_, pi, np.zeros(4), 1.0).variance
    covariances = estimation.return_covariance(mdp_, pi)
    np.testing.assert_allclose(np.diagonal(covariances, axis1=1, axis2=2), alone, rtol=100 * ROUNDING)
    assert all(np.linalg.eigvalsh(covariance)[0] > -ROUNDING for covariance in covariances)


def test_laws_of_the_vine():
    mdp_, pi, new, _ = world(8, layered=True)
    of = estimation.vine_moments
    # K = 1: the self-normalised estimate is one rollout of the old policy.
    one = of(mdp_, pi, new, [0], draws=1)
    assert one.mean == pytest.approx(mdp.evaluate(mdp_, pi).values[0], abs=ROUNDING)
    # Many draws: no bias is left, and only what a rollout of every action adds.
    biases = [abs(of(mdp_, pi, new, [0], draws=K).bias) for K in (50, 100)]
    assert biases[0] / biases[1] == pytest.approx(2, abs=0.1)
    # Nothing random: every action once is exact.
    still = MDP(np.repeat(np.eye(3)[:, None], 2, axis=1), np.ones((3, 2)) * [[1.0, 2.0]], np.eye(3)[0], 0.5)
    fixed = np.repeat([[1.0, 0.0]], 3, axis=0)
    assert of(still, fixed, np.full((3, 2), 0.5), [0, 2], estimator="every_action")[1:] == (0.0, 0.0)


def test_common_random_numbers_help_differences():
    """Both actions lead to the same lottery: the improvement has no noise left, the surrogate all of it."""
    lottery = MDP(
        [[[0, 0.5, 0.5], [0, 0.5, 0.5]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2], [[0, 1], [0, 0], [4, 4]], [1, 0, 0], 0.5
    )
    pi, new = np.full((3, 2), 0.5), np.tile([0.25, 0.75], (3, 1))
    for improvement, expected in ((False, 4.0), (True, 0.0)):
        got = estimation.vine_moments(
            lottery, pi, new, [0], estimator="every_action", improvement=improvement, common_random_numbers=True
        )
        assert got.variance == pytest.approx(expected, abs=ROUNDING)
    alone = estimation.vine_moments(lottery, pi, new, [0], estimator="every_action", improvement=True)
    assert alone.variance == pytest.approx(2 * 0.25**2 * 4, rel=ROUNDING)


# ── the door ──────────────────────────────────────────────────────────────────────────────────────

WORLD, PI, OTHER, _ = world(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimation.importance_sampling_moments([0.5, 0.6], [0.5, 0.5], [0, 0], 1), "old sums to 1.1"),
        (lambda: estimation.importance_sampling_moments([0.5, 0.5], [1.5, -0.5], [0, 0], 1), "new has a negative"),
        (lambda: estimation.importance_sampling_moments([0.5, 0.5], [0.5, 0.5], [0], 1), "values has shape"),
        (lambda: estimation.importance_sampling_moments([0.5, 0.5], [0.5, 0.5], [0, 0], 0), "draws is 0"),
        (lambda: estimation.self_normalized_moments([0.5, 0.5], [1.0, 0.0], [0, 0], 1), "new is 0 where old is not"),
        (
            lambda: estimation.self_normalized_moments([0.25] * 4, [0.25] * 4, [0] * 4, 1000),
            "1000 draws of 4 outcomes have 167668501 vectors of counts, expected at most 1000000",
        ),
        (lambda: estimation.self_normalized_moments([0.5] * 2, [0.5] * 2, [0] * 2, 1001), "of at most 1000 draws"),
        (lambda: estimation.self_normalized_delta_method([0.5, 0.5], [1.0, 0.0], [0, 0], 1), "new is 0 where old"),
        (lambda: estimation.kl_estimator_moments([0.5, 0.5], [1.0, 0.0]), r"expected a finite KL\(old ‖ new\)"),
        (lambda: estimation.gae_moments(WORLD, PI, [0.0] * 4, 0.5), r"values has shape \(4,\)"),
        (lambda: estimation.gae_moments(WORLD, PI, [0.0] * 3, 1.5), "gae_moments: gae_lambda is 1.5"),
        (lambda: estimation.gae_moments(WORLD, PI, [0.0] * 3, 0.5, steps=0), "gae_moments: steps is 0"),
        (lambda: estimation.gae_moments(WORLD, PI, [1e200] * 2 + [0.0], 0.5), "a moment overflows"),
        (lambda: estimation.single_path_moments(WORLD, PI, OTHER, steps=0), "single_path_moments: steps is 0"),
        (lambda: estimation.single_path_moments(WORLD, PI, OTHER, steps=1, weighting="none"), "weighting is 'none'"),
        (lambda: estimation.single_path_moments(WORLD, PI, OTHER, [[1.0]], steps=1), "values has shape"),
        (lambda: estimation.single_path_moments(WORLD, PI, OTHER, np.full((3, 2), 1e200), steps=2), "a moment overf"),
        (lambda: estimation.policy_gradient_moments(WORLD, PI, [0.0], 1.0, steps=1), "values has shape"),
        (lambda: estimation.policy_gradient_moments(WORLD, PI, [0.0] * 3, 1.0, steps=1, paths=0), "paths is 0"),
        (lambda: estimation.vine_moments(WORLD, PI, OTHER, [3], draws=1), r"states holds \[3\], expected numbers"),
        (lambda: estimation.vine_moments(WORLD, PI, OTHER, [0]), "draws is None, expected a number of actions"),
        (lambda: estimation.vine_moments(WORLD, PI, OTHER, [0], estimator="every_action", draws=2), "draws is 2"),
        (lambda: estimation.vine_moments(WORLD, PI, OTHER, [0], estimator="tree", draws=2), "estimator is 'tree'"),
        (lambda: estimation.return_covariance(MDP([[[1.0]]], [[0.0]], [1.0], 1.0), [[1.0]]), "mdp.discount is 1.0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
