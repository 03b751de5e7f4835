"""The figures: their numbers obey the theorems, and what is drawn is these numbers, legible and the same every time.

matplotlib is in the extra `test`: nothing is skipped for the want of it.  Tolerances: U is the unit roundoff; each test
says what rounds.
"""

import builtins
import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from refpg import plots
from refpg.__main__ import main
from refpg.geometry import fisher_matrix
from refpg.mdp import chain, evaluate
from refpg.plots import (
    bounds,
    cg,
    clip,
    cost,
    duality,
    gae,
    line,
    mean_kl,
    mm,
    natural,
    page,
    penalty,
    taylor,
    training,
    trust_region,
    worlds,
)
from refpg.training import exact_batch
from refpg.updates import surrogate_gradient

U = np.finfo(float).eps / 2

RECORDS = {
    "mm": lambda _: mm.numbers(iterations=6, points=41),
    "bounds": lambda generator: bounds.numbers(generator, points=31),
    "mean-kl": lambda _: mean_kl.numbers(points=21),
    "taylor": lambda generator: taylor.numbers(generator, points=13),
    "trust-region": lambda _: trust_region.numbers(points=21),
    "duality": lambda _: duality.numbers(points=8),
    "cost": lambda _: cost.numbers(points=41),
    "natural": lambda _: natural.numbers(points=61, grid=11),
    "cg": lambda generator: cg.numbers(generator),
    "gae": lambda _: gae.numbers(points=41),
    "line": lambda generator: line.numbers(generator, points=21),
    "clip": lambda _: clip.numbers(points=61),
    "penalty": lambda _: penalty.numbers(),
    "training": lambda _: training.numbers(iterations=30),
}


class Lazily(dict):
    """What is made when it is first asked for, and then kept."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, name):
        return self.setdefault(name, self.make(name))


@pytest.fixture(scope="module")
def records():
    return Lazily(lambda name: RECORDS[name](np.random.default_rng(0)))


@pytest.fixture(scope="module")
def figures(records):
    return Lazily(lambda name: plots.FIGURES[name].draw(records[name]))


def test_every_figure_is_tested():
    assert set(RECORDS) == set(plots.FIGURES)


# ── the numbers ───────────────────────────────────────────────────────────────────────────────────


def test_eta_of_the_central_picture_is_the_parabola(records):
    at, gamma, mu = records["mm"], mm.DISCOUNT, mm.START
    p = at.probability
    parabola = mu * p + (1 - mu) * (1 - p) + 2 * p * (1 - p) * gamma / (1 - gamma)
    np.testing.assert_allclose(at.expected_return, parabola, rtol=0, atol=16 * U)


def test_minorizers_lie_below_eta_and_touch_it_where_the_algorithm_stands(records):
    at = records["mm"]
    assert (at.minorizers <= at.expected_return + 16 * U).all()
    for i, p in enumerate(at.iterates[:-1]):
        old = np.array([[1 - p, p]] * 2)
        touching = mm.trpo_kl_bound(mm._world(), old, old).lower
        assert touching == pytest.approx(at.returns[i], abs=16 * U)


def test_each_iterate_is_the_top_of_the_minorizer_before_it(records):
    """In closed form: g p(1 − p) = C (p − p_i), g the slope of L, which is straight and tangent to the parabola."""
    at, gamma, mu = records["mm"], mm.DISCOUNT, mm.START
    for old, new, C in zip(at.iterates[:-1], at.iterates[1:], at.penalties, strict=True):
        g = 2 * mu - 1 + 2 * (1 - 2 * old) * gamma / (1 - gamma)
        (top,) = (root.real for root in np.roots([g, C - g, -C * old]) if 0 < root.real < 1)
        # a maximum is found from its height, of 1e-12 relative accuracy, to the square root of that
        assert new == pytest.approx(top, abs=1e-5)
    assert (at.tops >= at.minorizers.max(axis=1) - 1e-10).all()
    assert (np.diff(at.returns) > 0).all()
    assert (at.tops >= at.returns[:-1]).all()
    assert (at.tops <= at.returns[1:]).all()


def test_the_penalty_of_the_central_picture_is_the_theorems(records):
    at = records["mm"]
    for p, C in zip(at.iterates[:-1], at.penalties, strict=True):
        epsilon = np.abs(mm.evaluate(mm._world(), np.array([[1 - p, p]] * 2)).advantages).max()
        assert pytest.approx(4 * epsilon * mm.DISCOUNT / (1 - mm.DISCOUNT) ** 2, rel=8 * U) == C


@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_touch_and_keep_their_order(seed):
    at = bounds.numbers(np.random.default_rng(seed), points=15)
    rounding = 1e-12 * at.mixing**2  # slack is relative-accurate, and of the order of α²
    for name, slack in at.slack.items():
        assert (slack >= -rounding).all()
        np.testing.assert_allclose(at.guaranteed[name] + slack, at.gain, rtol=0, atol=64 * U * (1 + slack.max()))
        assert slack[0] < 1e-4 * slack[-1]  # (10⁻³/0.6)² = 3e-6: it touches at α = 0
    chain = [at.slack[name] for name in ("span", "cpo", "trpo_tv", "pinsker", "trpo_kl")]
    for better, weaker in itertools.pairwise(chain):
        assert (better <= weaker + rounding).all()
    assert (at.slack["cpo"] <= at.slack["cpo_kl"] + rounding).all()


def slope(x, y):
    return np.polyfit(np.log(x), np.log(y), 1)[0]


def test_slack_vanishes_with_the_square_of_the_step(records):
    at = records["bounds"]
    near = at.mixing < 1e-2
    for slack in at.slack.values():
        assert slope(at.mixing[near], slack[near]) == pytest.approx(2, abs=0.05)


def test_remainders_of_taylor_have_their_orders(records):
    at = records["taylor"]
    near = at.scale < 0.05
    for values, order in ((at.linear, 2), (at.gap, 2), (at.quadratic, 2), (at.old_new, 3), (at.new_old, 3)):
        assert slope(at.scale[near], values[near]) == pytest.approx(order, abs=0.1)


def test_on_the_ridge_the_gradient_step_falls_and_the_trust_region_rises(records):
    at = records["trust-region"]
    length = np.linalg.norm(at.gradient_step)
    assert np.linalg.norm(at.trust_region_step) == pytest.approx(length, rel=8 * U)
    end = np.abs(at.distance - length).argmin()
    assert at.gradient_returns[end] < at.gradient_returns[0] < at.trust_region_returns[end]
    assert at.gradient_returns.max() < at.trust_region_returns[end]  # the best that a line search can find
    assert at.gradient_returns[1] > at.gradient_returns[0]  # and yet the gradient does ascend, at first


def test_the_step_of_the_trust_region_maximises_the_slope_on_its_ellipse(records):
    at = records["trust-region"]
    here = worlds.slope(worlds.alternation(discount=trust_region.DISCOUNT), at.first, trust_region.OBSERVATIONS)
    s = at.trust_region_step
    assert 0.5 * s @ here.fisher @ s == pytest.approx(at.max_kl, rel=1e-12)
    for direction in np.random.default_rng(0).normal(size=(200, 2)):
        other = direction * np.sqrt(2 * at.max_kl / (direction @ here.fisher @ direction))
        assert here.gradient @ other <= here.gradient @ s * (1 + 1e-12)


def test_the_slope_of_a_world_is_its_derivative():
    mdp, w, x = worlds.alternation(discount=0.8, start=0.3), np.array([0.3, -0.2]), trust_region.OBSERVATIONS
    at, h = worlds.slope(mdp, w, x), 1e-5

    def eta(w):
        return worlds.slope(mdp, w, x).expected_return

    differences = [(eta(w + h * axis) - eta(w - h * axis)) / (2 * h) for axis in np.eye(2)]
    np.testing.assert_allclose(at.gradient, differences, rtol=1e-8)  # h² = 1e-10 times third derivatives of size 10
    p = 1 / (1 + np.exp(-x @ w))
    by_hand = sum(d * q * (1 - q) * np.outer(row, row) for d, q, row in zip(at.weights, p, x, strict=True))
    np.testing.assert_allclose(at.fisher, by_hand, rtol=64 * U)


def test_the_natural_path_does_not_depend_on_units_and_the_plain_one_does(records):
    plain, plain_scaled, one, scaled = records["natural"].flows
    # two integrations of relative accuracy 1e-7 a step
    np.testing.assert_allclose(one.staying, scaled.staying, rtol=0, atol=1e-4)
    assert np.abs(plain.staying - plain_scaled.staying).max() > 0.5
    for flow in records["natural"].flows:
        assert (np.diff(flow.average_reward) > -1e-6).all()
        assert flow.average_reward[-1] > 1.9


def test_the_plain_gradient_stalls_where_kakades_does(records):
    plain, _, one, _ = records["natural"].flows

    def resting(flow):  # how many times as long as it took to come there
        there = flow.time[(flow.average_reward > 0.93) & (flow.average_reward < 1.07)]
        return there[-1] / there[0] if len(there) > 1 else 1.0

    assert resting(plain) > 5
    assert resting(one) < 2


def test_conjugate_gradients_stay_below_chebyshevs_bound_and_are_scipys(records):
    for one in records["cg"]:
        assert (one.error <= one.bound + 1e-14).all()
        assert one.error[0] == pytest.approx(1, rel=4 * U)
        amplified = 10 * len(one.error) * one.condition * U
        np.testing.assert_allclose(one.error, one.scipy_error, rtol=0, atol=amplified)
        assert (np.diff(one.error) <= amplified).all()  # the norm of A is the one that never grows
    assert records["cg"][0].condition < records["cg"][1].condition


def test_along_an_update_the_objectives_keep_their_order_and_share_their_slope(records):
    at = records["line"]
    for one in (at.ppo, at.trpo):
        assert (one.clipped <= one.surrogate + 1e-12).all()
        assert one.kl[0] == one.surrogate[0] == 0
        assert (np.diff(one.kl) > 0).all()
        first = one.scale[1]
        slopes = [values[1] / first for values in (one.expected_return, one.surrogate, one.clipped)]
        assert np.ptp(slopes) < 0.1 * slopes[0]
    new = np.abs(at.trpo.scale - 1).argmin()
    assert 0.5 * at.max_kl < at.trpo.kl[new] <= at.max_kl
    assert at.ppo.clipped[new] > 0.95 * at.ppo.clipped.max()
    assert at.ppo.clipped[-1] < at.ppo.clipped[new]


def test_the_clip_bites_on_one_side(records):
    at = records["clip"]
    r, e = at.ratio, at.clip
    np.testing.assert_allclose(at.clipped[0], np.minimum(r, 1 + e), rtol=8 * U)
    np.testing.assert_allclose(at.clipped[1], -np.maximum(r, 1 - e), rtol=8 * U)
    assert (at.clipped <= at.unclipped + 4 * U).all()
    inside = np.abs(np.abs(r - 1) - e) > 1e-9
    np.testing.assert_allclose(at.slope[0][inside], (r < 1 + e)[inside], rtol=32 * U)
    np.testing.assert_allclose(at.slope[1][inside], -(r > 1 - e)[inside].astype(float), rtol=32 * U)


def test_oracle_curves_end_below_the_best_and_rise_where_a_theorem_says_so(records):
    at = records["training"]
    # the optimum of a chain by hand: always right, solved as linear equations
    mdp = training.chain(training.STATES, discount=training.DISCOUNT, slip=training.SLIP)
    V = np.linalg.solve(np.eye(mdp.states) - mdp.discount * mdp.transition[:, 1], mdp.reward[:, 1])
    assert at.best == pytest.approx(V[0], rel=64 * U)
    for name, returns in at.returns.items():
        assert (returns <= at.best + 64 * U * at.best).all(), name
        assert returns[-1] > at.first, name
    for name in ("mm", "cpi", "mdpo"):
        assert (np.diff(at.returns[name]) >= -64 * U * at.best).all(), name
    assert at.returns["mm"][-1] == min(returns[-1] for returns in at.returns.values())


def test_duality_leaves_no_gap_and_the_dual_is_least_at_the_multiplier(records):
    at = records["duality"]
    for problem in (at.quadratic, at.exact):
        here = np.abs(problem.radius - at.max_kl).argmin()
        assert problem.radius[here] == pytest.approx(at.max_kl, rel=2e-9)  # what SciPy's accuracy may leave
        assert problem.dual.argmin() == here
        assert problem.dual[here] == pytest.approx(problem.gain[here], rel=1e-8)
        feasible = problem.radius <= at.max_kl * (1 + 2e-9)
        assert problem.gain[feasible].max() <= problem.dual.min() * (1 + 1e-8)  # weak duality
        assert (problem.kkt_residual < 1e-6).all()
        assert (np.diff(problem.penalty) < 0).all()  # one penalty for each radius


def test_the_exact_dual_is_the_maximum_of_the_lagrangian_over_all_tables(records):
    """Each state's row apart, by its one probability: no multiplier, no network, no radius."""
    at = records["duality"]
    mdp = worlds.alternation(discount=duality.DISCOUNT)
    p = 1 / (1 + np.exp(-np.array(duality.FIRST)))
    old = np.stack([1 - p, p], axis=1)
    before = evaluate(mdp, old)

    def lost(q, s, beta):
        new = np.array([1 - q, q])
        kl = old[s] @ np.log(old[s] / new)
        return beta * before.visitation_distribution[s] * kl - before.visitation[s] * (new @ before.advantages[s])

    for beta, dual in zip(at.exact.penalty[::4], at.exact.dual[::4], strict=True):
        rows = [
            minimize_scalar(lost, args=(s, beta), bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-10})
            for s in range(2)
        ]
        # D is stationary in the policy: an error of the multiplier, 1e-7, enters once, and that of a row squared
        assert dual == pytest.approx(beta * at.max_kl - sum(row.fun for row in rows), rel=1e-6)


def test_a_small_radius_has_the_penalty_of_the_quadratic_model(records):
    at = records["duality"]
    invariant = at.quadratic.penalty * np.sqrt(at.quadratic.radius)
    np.testing.assert_allclose(invariant, invariant[0], rtol=64 * U)
    here = worlds.slope(worlds.alternation(discount=duality.DISCOUNT), duality.FIRST, np.eye(2))
    q = here.gradient @ np.linalg.inv(here.fisher) @ here.gradient
    assert invariant[0] == pytest.approx(np.sqrt(q / 2), rel=64 * U)
    # the next term is of the order of √δ, which is 0.07
    np.testing.assert_allclose(at.exact.penalty[0], at.quadratic.penalty[0], rtol=0.04)
    assert at.exact.penalty[-1] < 0.1 * at.quadratic.penalty[-1]


def test_steps_within_a_cost_are_the_best_ones(records):
    at = records["cost"]
    here = worlds.slope(worlds.alternation(discount=cost.DISCOUNT), cost.FIRST, cost.OBSERVATIONS)
    size = 0.5 * np.einsum("mi,ij,mj->m", at.region, here.fisher, at.region)
    np.testing.assert_allclose(size, size[0], rtol=64 * U)
    angle, length = np.linspace(0, 2 * np.pi, 1001), np.sqrt(2 * size[0]) * np.linspace(0, 1, 101)
    unit = np.linalg.solve(np.linalg.cholesky(here.fisher).T, [np.cos(angle), np.sin(angle)]).T
    candidates = (length[:, np.newaxis, np.newaxis] * unit).reshape(-1, 2)
    cheap = at.excess + candidates @ at.cost_gradient <= 0
    for step, allowed in ((at.free_step, np.ones_like(cheap)), (at.step, cheap)):
        assert 0.5 * step @ here.fisher @ step == pytest.approx(size[0], rel=1e-12)
        assert (candidates[allowed] @ here.gradient).max() <= here.gradient @ step * (1 + 1e-12)
        assert (candidates[allowed] @ here.gradient).max() >= 0.98 * here.gradient @ step  # and it is among them
    assert at.excess + at.cost_gradient @ at.step == pytest.approx(0, abs=1e-14)


def test_the_cost_counted_is_that_of_action_1():
    """b is the derivative of the expected discounted number of times that action 1 is taken."""
    mdp, w, h = worlds.alternation(discount=cost.DISCOUNT), np.array(cost.FIRST), 1e-5

    def times(w):
        p = 1 / (1 + np.exp(-cost.OBSERVATIONS @ w))
        return evaluate(mdp, np.stack([1 - p, p], axis=1)).visitation @ p

    differences = [(times(w + h * axis) - times(w - h * axis)) / (2 * h) for axis in np.eye(2)]
    np.testing.assert_allclose(cost.numbers(points=2).cost_gradient, differences, rtol=1e-8)


def test_the_multiplier_is_what_a_unit_of_cost_is_worth(records):
    """The gain is concave in c: between two points it falls by no less than the first ν, no more than the second."""
    at = records["cost"]
    held = at.excesses < at.reach
    c, gain, price = at.excesses[held], at.gain[held], at.price[held]
    falls = -np.diff(gain) / np.diff(c)
    assert (price[:-1] <= falls + 1e-9).all()
    assert (falls <= price[1:] + 1e-9).all()
    assert price[0] == price[1] == 0  # where it is not felt
    assert (price[2:] > 0).all()
    after = np.flatnonzero(c > at.excess)[0]
    assert price[after - 1] < at.multiplier < price[after]
    assert at.gain[-1] == at.gain[-2] < gain.min()  # missed: the step that costs least, whatever it loses


def test_with_the_mean_the_bound_of_total_variation_is_broken_and_with_the_maximum_it_holds(records):
    at, gamma = records["mean-kl"].total_variation, mean_kl.DISCOUNT
    beta = at.parameter
    np.testing.assert_allclose(at.loss, beta * gamma / ((1 - gamma) * (1 - gamma + gamma * beta)), rtol=32 * U)
    # β comes back from 1 − β, of which it is the rest
    np.testing.assert_allclose(at.by_mean, 4 * gamma * beta**2 / (1 - gamma) ** 2, rtol=8 * U / beta.min())
    np.testing.assert_allclose(at.by_max, gamma / (1 - gamma) ** 2, rtol=32 * U)  # TV = ½ in state 1
    np.testing.assert_array_equal(at.surrogate, 0)
    np.testing.assert_array_equal(at.loss > at.by_mean, 4 * beta * (1 - gamma + gamma * beta) < 1 - gamma)
    assert at.loss[0] > at.by_mean[0]
    assert at.loss[-1] < at.by_mean[-1]
    assert (at.loss <= np.minimum(at.by_max, at.by_cpo)).all()


def test_with_the_mean_the_bound_of_kl_is_broken_and_with_the_maximum_it_holds(records):
    at = records["mean-kl"].kl
    gamma = at.parameter
    near, far = -0.5 * np.log(4 * 0.6 * 0.4), -0.5 * np.log(4 * 0.95 * 0.05)  # of state 0, and of states 1 and 2
    C = 4 * gamma / (1 - gamma) ** 2
    np.testing.assert_allclose(at.loss, 0.18 * gamma, rtol=64 * U)
    np.testing.assert_allclose(at.by_mean, C * ((1 - gamma) * near + gamma * (1 - gamma) * far), rtol=64 * U)
    np.testing.assert_allclose(at.by_max, C * far, rtol=64 * U)
    np.testing.assert_allclose(at.surrogate, 0, atol=16 * U)
    np.testing.assert_array_equal(at.loss > at.by_mean, gamma < 0.028)
    assert (at.loss <= np.minimum(at.by_max, at.by_cpo)).all()


def test_lambda_trades_bias_for_variance(records):
    """At both ends by hand: one random next state at λ = 0, no bias but a baseline's at λ = 1."""
    at = records["gae"]
    mdp, S = chain(gae.STATES, discount=gae.DISCOUNT, slip=gae.SLIP), np.arange(gae.STATES)
    pi = np.full((gae.STATES, 2), 0.5)
    here = evaluate(mdp, pi)
    d, V = here.visitation_distribution, here.values
    X = np.stack([np.ones_like(V), S], axis=1)
    fitted = X @ np.linalg.solve(X.T @ (d[:, np.newaxis] * X), X.T @ (d * V))
    target = mdp.reward + mdp.discount * mdp.transition @ fitted  # its mean over actions is a baseline
    bias = target - target.mean(axis=1, keepdims=True) - here.advantages
    spread = mdp.transition @ fitted**2 - (mdp.transition @ fitted) ** 2
    assert at.bias_squared[0] == pytest.approx(np.sum(d[:, np.newaxis] * pi * bias**2), rel=1e-11)
    assert at.variance[0] == pytest.approx(mdp.discount**2 * np.sum(d[:, np.newaxis] * pi * spread), rel=1e-11)
    assert at.bias_squared[-1] < 1e-28 * V.max() ** 2
    assert (np.diff(at.bias_squared) < 0).all()
    assert at.variance[-1] == at.variance.max() > 10 * at.variance[0]


def test_the_best_lambda_is_where_the_error_is_least(records):
    at = records["gae"]
    spacing = at.gae_lambda[1]
    for n, total, best, least in zip(at.samples, at.total, at.best, at.least, strict=True):
        np.testing.assert_allclose(total, at.bias_squared + at.variance / n, rtol=4 * U)
        assert 0 < best < 1
        assert least <= total.min()
        assert abs(at.gae_lambda[total.argmin()] - best) < spacing
        # near its minimum a parabola through three points of the grid has it to the square of the spacing
        i = total.argmin() + np.array([-1, 0, 1])
        a, b, _ = np.polyfit(at.gae_lambda[i], total[i], 2)
        assert -b / (2 * a) == pytest.approx(best, abs=10 * spacing**2)
    assert at.best[0] < at.best[1]


def test_errors_of_importance_sampling_are_those_of_counted_draws_and_fall_as_theory_says(records):
    at = records["gae"]
    here = evaluate(chain(gae.STATES, discount=gae.DISCOUNT, slip=gae.SLIP), np.full((gae.STATES, 2), 0.5))
    Q, new = here.values[gae.STATE] + here.advantages[gae.STATE], np.array(gae.NEW)
    for i, n in enumerate(at.draws):
        k = np.arange(n + 1)  # how often action 1 was drawn, of n times
        sums = np.stack([n - k, k], axis=1) * (new / 0.5)
        probability = binom.pmf(k, n, 0.5)
        for estimate, error in ((sums @ Q / n, at.ordinary), (sums @ Q / sums.sum(axis=1), at.self_normalized)):
            assert error[i] == pytest.approx(np.sqrt(probability @ (estimate - new @ Q) ** 2), rel=1e-9)
        bias = probability @ (sums @ Q / sums.sum(axis=1) - new @ Q)
        assert at.self_normalized_bias[i] == pytest.approx(abs(bias), rel=1e-9)
    many = at.draws >= 30
    assert slope(at.draws, at.ordinary) == pytest.approx(-0.5, abs=1e-12)
    assert slope(at.draws[many], at.self_normalized[many]) == pytest.approx(-0.5, abs=0.05)
    assert slope(at.draws[many], at.self_normalized_bias[many]) == pytest.approx(-1, abs=0.1)
    assert (at.self_normalized < at.ordinary).all()


def test_the_adaptive_penalty_follows_the_rule_and_comes_to_the_multiplier(records):
    at = records["penalty"]
    d = at.target
    for run, first in zip(at.runs, penalty.FIRST, strict=True):
        assert run.penalty[0] == first
        factors = np.where(run.kl < d / 1.5, 0.5, np.where(run.kl > 1.5 * d, 2.0, 1.0))
        np.testing.assert_array_equal(run.penalty[1:], (run.penalty * factors)[:-1])
        assert not d / 10 < run.kl[0] < 10 * d
        assert (np.abs(np.log(run.kl[7:] / d)) < np.log(2)).all()
        assert (np.abs(np.log(run.penalty[7:] / run.multiplier[7:])) < np.log(2)).all()
    assert at.runs[0].kl[0] > d > at.runs[1].kl[0]


def test_the_first_multiplier_is_that_of_the_quadratic_model(records):
    mdp, x = chain(penalty.STATES, discount=penalty.DISCOUNT, slip=penalty.SLIP), np.eye(penalty.STATES)
    softmax = penalty.softmax_policy((penalty.STATES, 2))
    theta = np.zeros(softmax.network.num_parameters)
    policy, batch = exact_batch(mdp, softmax, theta, x)
    g = surrogate_gradient(policy, theta, batch)
    F = fisher_matrix(policy, theta, batch.observations, weights=batch.weights)
    beta = np.sqrt(g @ np.linalg.pinv(F, rcond=1e-12, hermitian=True) @ g / (2 * records["penalty"].target))
    for run in records["penalty"].runs:
        assert run.multiplier[0] == pytest.approx(beta, rel=1e-9)


# ── the drawing ───────────────────────────────────────────────────────────────────────────────────


def lines_of(figure):
    return [drawn for axes in figure.axes for drawn in axes.lines]


DRAWN = {
    "mm": lambda at: [(at.probability, at.expected_return), (at.iterates, at.returns)],
    "bounds": lambda at: [(at.mixing, slack) for slack in at.slack.values()],
    "taylor": lambda at: [(at.scale, y) for y in (at.linear, at.gap, at.quadratic, at.old_new, at.new_old)],
    "trust-region": lambda at: [(at.distance, at.gradient_returns), (at.distance, at.trust_region_returns)],
    "mean-kl": lambda at: [
        (one.parameter, y / unit)
        for one, unit in ((at.total_variation, 1), (at.kl, at.kl.parameter))
        for y in (one.loss, one.by_max, one.by_mean, one.by_cpo)
    ],
    "duality": lambda at: [
        pair for one in (at.quadratic, at.exact) for pair in ((one.penalty, one.dual), (one.radius, one.penalty))
    ],
    "cost": lambda at: [at.region.T, (at.excesses[:-1], at.gain[:-1])],
    "gae": lambda at: [
        *((at.gae_lambda, y) for y in (at.bias_squared, at.variance, *at.total)),
        *((at.draws, y) for y in (at.ordinary, at.self_normalized, at.self_normalized_bias)),
    ],
    "penalty": lambda at: [(range(1, 19), y) for run in at.runs for y in run],
    "natural": lambda at: [(flow.time, flow.average_reward) for flow in at.flows[:3]],
    "cg": lambda at: [(range(len(one.error)), y) for one in at for y in (one.error, one.scipy_error, one.bound)],
    "line": lambda at: [
        (one.scale, y) for one in (at.ppo, at.trpo) for y in (one.expected_return, one.surrogate, one.clipped, one.kl)
    ],
    "clip": lambda at: [(at.ratio, y) for y in (*at.clipped, *at.unclipped)],
    "training": lambda at: [(range(1, 31), at.best - at.returns[name]) for name in ("mm", "cpi", "ppo")],
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_lines_are_the_numbers(name, records, figures):
    drawn = [np.array(one.get_xydata()) for one in lines_of(figures[name])]
    for x, y in DRAWN[name](records[name]):
        wanted = np.column_stack([x, y])
        assert any(one.shape == wanted.shape and np.array_equal(one, wanted) for one in drawn)


def test_the_minorizers_drawn_are_the_first_ones(records, figures):
    at = records["mm"]
    for i in range(3):
        finite = np.isfinite(at.minorizers[i])
        wanted = np.column_stack([at.probability[finite], at.minorizers[i, finite]])
        assert any(np.array_equal(one.get_xydata(), wanted) for one in lines_of(figures["mm"]))


@pytest.mark.parametrize("name", RECORDS)
def test_axes_are_labelled_and_the_title_is_a_sentence(name, figures):
    figure = figures[name]
    for axes in figure.axes:
        assert axes.get_ylabel()
        assert axes.get_xlabel() or axes.get_shared_x_axes().get_siblings(axes) != [axes]
        assert axes.get_legend() is None
    (title,) = figure.texts
    assert len(title.get_text().split()) > 5


def texts_of(figure):
    """Every visible text with its box, in pixels; ticks outside the limits are not drawn."""
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            shown = {label for tick in axis._update_ticks() for label in (tick.label1, tick.label2)}
            every = {label for tick in (*axis.majorTicks, *axis.minorTicks) for label in (tick.label1, tick.label2)}
            hidden |= every - shown
    visible = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in visible if text not in hidden]


def assert_legible(figure):
    boxes = texts_of(figure)
    width, height = figure.canvas.get_width_height()
    for text, box in boxes:
        assert 0 <= box.x0 < box.x1 <= width, text
        assert 0 <= box.y0 < box.y1 <= height, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        # boxes hold ascenders and descenders that most letters have not: a fifth of the type may be shared
        assert min(across, up) < 0.2 * page.SIZE * figure.dpi / 72, (one, other)


@pytest.mark.parametrize("name", RECORDS)
def test_no_text_lies_on_another_or_leaves_the_page(name, figures):
    assert_legible(figures[name])


@pytest.mark.parametrize("name", [name for name, plate in plots.FIGURES.items() if plate.drawn])
@pytest.mark.parametrize("seed", [1, 2])
def test_other_seeds_are_legible_too(name, seed):
    assert_legible(plots.FIGURES[name].draw(RECORDS[name](np.random.default_rng(seed))))


def rgb(colour):
    return np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])


def linear(colour):
    c = rgb(colour)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return linear(colour) @ [0.2126, 0.7152, 0.0722]


DICHROMACY = {  # Viénot, Brettel, Mollon 1999: linear RGB as a protanope and a deuteranope see it
    "protanopia": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
    "deuteranopia": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
}


@pytest.mark.parametrize("name", page.INKS)
def test_every_ink_is_dark_enough_on_white(name):
    """3 : 1, what WCAG 2 asks of graphics; grey type has 4.5 : 1, what it asks of text."""
    assert 1.05 / (luminance(page.INKS[name].colour) + 0.05) >= 3
    assert 1.05 / (luminance(page.GREY) + 0.05) >= 4.5


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(page.INKS, 2)))
def test_inks_differ_in_dashes_and_to_the_colour_blind(one, other):
    a, b = page.INKS[one], page.INKS[other]
    assert a.dashes != b.dashes  # in grey print, where colours may be one
    for matrix in DICHROMACY.values():
        seen = [np.clip(matrix @ linear(ink.colour), 0, 1) ** (1 / 2.2) for ink in (a, b)]
        assert np.abs(seen[0] - seen[1]).max() > 0.08


@pytest.mark.parametrize("name", RECORDS)
def test_lines_of_one_panel_differ_without_colour(name, figures):
    """Curves in one panel never share their dashes: solid ones are told apart by their markers or are rulers."""
    for axes in figures[name].axes:
        curves = [one for one in axes.lines if len(one.get_xdata()) > 2 and one.get_linestyle() != "None"]
        styles = [one._unscaled_dash_pattern for one in curves]
        assert len(set(map(str, styles))) == len(styles), styles


# ── bytes, settings, errors ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", plots.FORMS)
def test_the_same_numbers_are_the_same_bytes(form, records, figures):
    again = plots.FIGURES["clip"].draw(records["clip"])
    first, second = plots.render(figures["clip"], form), plots.render(again, form)
    assert first == second
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[form]
    assert first.startswith(start)
    for trace in (b"Date", b"matplotlib.org", b"Software"):
        assert trace not in first


def test_the_readers_settings_neither_matter_nor_change(records):
    plain = plots.render(plots.FIGURES["clip"].draw(records["clip"]), "svg")
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 20, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert plots.render(plots.FIGURES["clip"].draw(records["clip"]), "svg") == plain
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_imported():
    program = (
        "import sys, refpg\n"
        "record = refpg.plots.clip.numbers()\n"
        "assert 'matplotlib' not in sys.modules, 'numbers need no drawing'\n"
        "refpg.plots.render(refpg.plots.clip.draw(record), 'svg')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_names_in_the_margin_keep_their_distance_and_their_order():
    heights = np.random.default_rng(0).uniform(0, 100, size=8)
    spaced = page.spread(heights, 11.0, 100.0)
    assert (np.argsort(spaced) == np.argsort(heights)).all()
    assert np.diff(np.sort(spaced)).min() >= 11 - 1e-9
    assert 0 <= spaced.min() <= spaced.max() <= 100
    np.testing.assert_array_equal(page.spread([10.0, 50.0], 11.0, 100.0), [10.0, 50.0])


def test_the_command_line_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "clip"]) == 0
    assert capsys.readouterr().out == "wrote clip.svg\n"
    assert main(["plot", "clip", "--out", "picture.png"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.svg", "picture.png"]
    assert main(["plot"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == list(plots.FIGURES)


def test_a_seed_is_another_draw(tmp_path):
    for seed in ("0", "1"):
        assert main(["plot", "cg", "--seed", seed, "--out", str(tmp_path / f"{seed}.svg")]) == 0
    assert (tmp_path / "0.svg").read_bytes() != (tmp_path / "1.svg").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clop"], "there is no figure 'clop' (did you mean clip?)"),
        (["clip", "--out", "clip.jpg"], "plot clip: clip.jpg ends in '.jpg', expected .png, .svg, .pdf"),
        (["clip", "--out", "nowhere/clip.svg"], "expected a file in a folder that exists"),
        (["clip", "--seed", "1"], "nothing of this figure is drawn at random"),
        (["bounds", "--seed", "-1"], "--seed"),
        (["all"], "plot all: --out is missing, expected a folder"),
        (["all", "--out", "file"], "is a file, expected a folder"),
    ],
)
def test_the_command_line_says_what_is_wrong(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["plot", *words]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_matplotlib_the_message_names_the_extra(monkeypatch, capsys, tmp_path):
    real = builtins.__import__

    def missing(name, *rest):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert main(["plot", "clip", "--out", str(tmp_path / "clip.svg")]) == 2
    assert "pip install 'refpg[plot]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(figures, tmp_path, monkeypatch):
    path = tmp_path / "clip.svg"
    path.write_text("old")

    def failing(*_):
        raise OSError("no space")

    monkeypatch.setattr("refpg.files.os.replace", failing)
    with pytest.raises(OSError, match="no space"):
        plots.save(figures["clip"], path)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["clip.svg"]


def test_the_page_of_figures_is_what_the_registry_says():
    from verification.figures.__main__ import HERE
    from verification.figures.__main__ import page as gallery

    assert (HERE / "README.md").read_text(encoding="utf-8") == gallery()
    for form in ("svg", "png"):
        assert {path.stem for path in HERE.glob(f"*.{form}")} == set(plots.FIGURES)
