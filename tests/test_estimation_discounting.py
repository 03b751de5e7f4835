"""The policy gradient with and without γᵗ: every trajectory enumerated in exact rationals, closed forms, circulation.

Tolerances: U is the unit roundoff; the worlds have a few states, and what is compared is below 10: 1e3 U.
"""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from test_estimation_moments import trajectories, world

from refpg import estimation, mdp
from refpg.mdp import MDP
from refpg.policy import linearize, probability_table, softmax_policy

U = np.finfo(float).eps / 2
ROUNDING = 1e3 * U


@pytest.mark.parametrize("seed", range(3))
def test_what_rows_of_rollouts_estimate(seed):
    """E Σ_t w_t ∇log π(a_t|s_t) A(s_t, a_t) over all trajectories: w = γᵗ gives ∇η, w = 1 the other direction."""
    mdp_, pi, _, _ = world(seed, layered=True)
    A = mdp.evaluate(mdp_, pi).advantages
    gamma = Fraction(mdp_.discount)
    sums = np.zeros((2, 5, 2), dtype=object)
    visits = np.zeros(5, dtype=object)
    for p, states, actions in trajectories(mdp_, pi, 3):
        for t, (s, a) in enumerate(zip(states[:-1], actions, strict=True)):
            score = np.array([Fraction(int(b == a)) - Fraction(pi[s, b]) for b in range(2)])
            for w, total in zip((gamma**t, 1), sums, strict=True):
                total[s] += p * w * score * Fraction(A[s, a])
            visits[s] += p * (s != 4)
    found = estimation.gradient_weighting(mdp_, pi)
    np.testing.assert_allclose(found.weighted, sums[0].astype(float), rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found.unweighted, sums[1].astype(float), rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(estimation.undiscounted_visits(mdp_, pi), visits.astype(float), rtol=0, atol=ROUNDING)
    ours, theirs = (total.astype(float).ravel() for total in sums)
    assert found.cosine == pytest.approx(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs), abs=ROUNDING)


def test_visits_are_the_sum_over_time():
    mdp_ = mdp.gridworld(["S..", "..#", "..G"], discount=0.9, slip=0.25)
    pi = np.tile([1, 3, 3, 1], (mdp_.states, 1)) / 8
    n = estimation.undiscounted_visits(mdp_, pi)
    assert n[-1] == 0
    for T in (1, 7):
        d = mdp.evaluate_horizon(mdp_, pi, T).state_distributions.sum(axis=0)
        np.testing.assert_array_equal(estimation.undiscounted_visits(mdp_, pi, steps=T)[:-1], d[:-1])
    np.testing.assert_allclose(estimation.undiscounted_visits(mdp_, pi, steps=5000), n, rtol=1e-10)
    # ρ tends to n as γ → 1.
    near = replace(mdp_, discount=1 - 2.0**-40)
    rho = mdp.evaluate(near, pi).visitation
    np.testing.assert_allclose(rho[:-1], n[:-1], rtol=2.0**-40 * 1e3)  # 1e3 steps of an episode at the most


def test_where_both_agree():
    generator = np.random.default_rng(1)
    mdp_ = mdp.gridworld(["S..", "..#", "..G"], discount=0.5, slip=0.25)
    pi = mdp.random_policy(generator, states=mdp_.states, actions=4)
    # As γ → 1 the sine of the angle is of first order in 1 − γ.
    aways = 2.0 ** -np.arange(10, 15)
    angles = [
        np.arccos(estimation.gradient_weighting(replace(mdp_, discount=1 - away), pi).cosine) for away in aways
    ]
    assert np.polyfit(np.log(aways), np.log(angles), 1)[0] == pytest.approx(1, abs=0.1)
    # A decision at t = 0 alone.
    bandit = MDP([[[0, 1]] * 2, [[0, 1]] * 2], [[1, 2], [0, 0]], [1, 0], 0.5)
    one = estimation.gradient_weighting(bandit, [[0.25, 0.75]] * 2)
    np.testing.assert_array_equal(one.weighted, one.unweighted)
    assert one.cosine == pytest.approx(1, abs=8 * U)


def test_the_natural_gradient_of_a_table_does_not_see_the_weights():
    """F̃⁺g̃ = F⁺g: the Fisher matrix of a state is weighted like its gradient."""
    mdp_, pi, _, _ = world(1, layered=True)
    found = estimation.gradient_weighting(mdp_, pi)
    rho, n = mdp.evaluate(mdp_, pi).visitation, estimation.undiscounted_visits(mdp_, pi)
    for s in np.flatnonzero(n):
        fisher = np.diag(pi[s]) - np.outer(pi[s], pi[s])
        theirs = np.linalg.pinv(n[s] * fisher) @ found.unweighted[s]
        np.testing.assert_allclose(theirs, np.linalg.pinv(rho[s] * fisher) @ found.weighted[s], rtol=0, atol=ROUNDING)
    assert found.cosine > 0


def test_a_network_shares_its_parameters_between_states():
    mdp_, _, _, generator = world(2, layered=True)
    policy, x = softmax_policy((2, 3, 2)), generator.normal(size=(5, 2))
    theta = generator.normal(size=policy.network.num_parameters)
    pi = probability_table(policy, theta, x)
    at = linearize("test", policy, theta, x)
    found = estimation.gradient_weighting(mdp_, pi, vjp=at.vjp)
    np.testing.assert_array_equal(found.weighted, at.vjp(mdp.softmax_gradient(mdp_, pi)))
    tables = estimation.gradient_weighting(mdp_, pi)
    np.testing.assert_array_equal(found.unweighted, at.vjp(tables.unweighted))
    assert found.cosine != tables.cosine


# ── no gradient ───────────────────────────────────────────────────────────────────────────────────


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def field(gamma, x, y):
    """Both directions of the rotating example along (x, y), the logits of action 1 in states 0 and 1."""
    p, q = sigmoid(x), sigmoid(y)
    table = [[1 - p, p], [1 - q, q], [0.5, 0.5]]
    found = estimation.gradient_weighting(estimation.rotating_example(discount=gamma), table)
    return np.array([found.weighted[:2, 1], found.unweighted[:2, 1]])


@pytest.mark.parametrize("gamma", [0.25, 0.5, 0.9])
def test_the_closed_form_of_the_rotating_example(gamma):
    for x, y in np.random.default_rng(2).normal(size=(5, 2)):
        p, q = sigmoid(x), sigmoid(y)
        exact, practice = field(gamma, x, y)
        np.testing.assert_allclose(
            exact, [gamma * p * (1 - p) * (q - 0.5), gamma * p * q * (1 - q)], rtol=0, atol=ROUNDING
        )
        np.testing.assert_allclose(practice, [exact[0], exact[1] / gamma], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("gamma", [0.25, 0.5, 0.9])
def test_the_direction_of_practice_is_the_gradient_of_nothing(gamma):
    """Around a closed path a gradient does no work.  The other field does (1 − γ)ΔpΔq: the integral of its rotation.

    Gauss–Legendre on each side of a rectangle: 20 points are exact to 1e-12 for these sigmoids.
    """
    (x0, x1), (y0, y1) = (-0.5, 1.0), (-1.0, 0.25)
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    nodes, weights = np.polynomial.legendre.leggauss(20)
    work = np.zeros(2)
    for start, end in zip(np.array(corners[:-1]), np.array(corners[1:]), strict=True):
        for node, weight in zip(nodes, weights, strict=True):
            x, y = start + (end - start) * (node + 1) / 2
            work += weight / 2 * field(gamma, x, y) @ (end - start)
    assert work[0] == pytest.approx(0, abs=1e-12)
    area = (sigmoid(x1) - sigmoid(x0)) * (sigmoid(y1) - sigmoid(y0))
    assert work[1] == pytest.approx((1 - gamma) * area, abs=1e-12)


@pytest.mark.parametrize("gamma", [0.25, 0.5, 0.9])
def test_the_direction_of_practice_can_be_downhill(gamma):
    example = estimation.opposed_example(discount=gamma)
    slope = (1 - gamma) / 2
    for p in (0.125, 0.5, 0.875):
        shared = np.tile([1 - p, p], (4, 1))
        found = estimation.gradient_weighting(example, shared, vjp=lambda z: z.sum(axis=0))
        assert found.weighted[1] == pytest.approx(gamma * slope * p * (1 - p), abs=ROUNDING)
        assert found.unweighted[1] == pytest.approx(-slope * p * (1 - p), abs=ROUNDING)
        assert found.cosine == pytest.approx(-1, abs=8 * U)
        # The return rises with p, whatever discount measures it.
        for measure in (gamma, 0.99):
            eta = mdp.evaluate(replace(example, discount=measure), shared).expected_return
            assert eta == pytest.approx(measure * p * slope, abs=ROUNDING)
        assert mdp.evaluate_horizon(replace(example, discount=1.0), shared, 2).expected_return == pytest.approx(
            p * slope, abs=ROUNDING
        )
        assert estimation.gradient_weighting(example, shared).cosine > 0


# ── the door ──────────────────────────────────────────────────────────────────────────────────────


def test_nothing_to_learn_has_no_angle():
    idle = MDP([[[0, 1]] * 2, [[0, 1]] * 2], np.zeros((2, 2)), [1, 0], 0.5)
    assert estimation.gradient_weighting(idle, np.full((2, 2), 0.5)).cosine is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: estimation.undiscounted_visits(mdp.chain(3, discount=0.5), [[0.5, 0.5]] * 3),
            "undiscounted_visits: state 0 is visited for ever, expected a policy that ends",
        ),
        # A state that is never left, but pays, is no end of an episode.
        (lambda: estimation.undiscounted_visits(MDP([[[1.0]]], [[1.0]], [1.0], 0.5), [[1.0]]), "visited for ever"),
        (lambda: estimation.gradient_weighting(mdp.chain(3, discount=0.5), [[0.5, 0.5]] * 3, steps=0), "steps is 0"),
        (lambda: estimation.gradient_weighting(mdp.chain(3, discount=1.0), [[0.5, 0.5]] * 3), "mdp.discount is 1.0"),
        (lambda: estimation.rotating_example(discount=1.0), "rotating_example: discount is 1.0"),
        (lambda: estimation.opposed_example(discount=-0.5), "opposed_example: discount is -0.5"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
