"""Objectives of a policy update: values by exact rationals and closed forms, gradients by complex step and one-sided
differences, conventions at kinks by stepping to the neighbouring floating-point number.

Tolerances: U is the unit roundoff of float64.  A row is a few products, and B ≤ 16 rows are summed: every absolute
bound below is (number of roundings) × U × Σ|terms|.  A row costs at most 6 roundings and the sum at most 8; two
routes compared differ by twice that, less than 32, and by less where it says so.
"""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refpg import surrogate
from refpg.distributions import (
    BERNOULLI,
    CATEGORICAL,
    DIAGONAL_GAUSSIAN,
    SQUASHED_GAUSSIAN,
    masked_categorical,
    multi_categorical,
)
from refpg.surrogate.clipping import clipped_terms
from refpg.surrogate.sampled import log_ratio_and_ratio
from refpg.surrogate.value import value_terms

U = np.finfo(float).eps / 2
CLIP = 3 / 16

# Where a ratio can stand with respect to the window [13/16, 19/16], as log-ratios.
SIDES = {
    "below": np.log(0.5),
    "at lower": np.log1p(-CLIP),
    "inside": np.log(1.0625),
    "at upper": np.log1p(CLIP),
    "above": np.log(1.75),
}
# 0 < A < 1 is in the list: with |A| ≥ 1 alone, clipping r·A instead of r goes unseen.
ADVANTAGES = (-2.0, -0.5, 0.0, 0.3, 2.0)
GRID = [(side, A) for side in SIDES for A in ADVANTAGES]


def complex_step(function, x):
    """The gradient of a real-analytic scalar function of a vector; no subtraction, so exact to rounding."""
    h = 1e-100
    return np.array([np.imag(function(x + 1j * h * unit)) / h for unit in np.eye(len(x))])


def rows(seed, B, scale=0.4):
    """Old and new log-probabilities, advantages and weights of B rows, no ratio at a kink."""
    generator = np.random.default_rng(seed)
    old = generator.normal(-1.0, 1.0, B)
    new = old + generator.normal(0.0, scale, B)
    weights = generator.dirichlet(np.ones(B))
    weights[-1] += 1 - weights.sum()
    return old, new, generator.normal(0.0, 1.5, B), weights


samples = st.builds(rows, st.integers(0, 10**6), st.integers(1, 16))


# ── ratio and surrogate ──────────────────────────────────────────────────────────────────────────


def test_the_ratio_is_that_of_the_probabilities():
    old, new = np.array([0.25, 0.5, 0.125]), np.array([0.5, 0.5, 0.0625])
    # log, subtraction (|log| ≤ 3) and exp: at most (3 + 3 + 1 + 1) roundings of a ratio ≤ 2.
    np.testing.assert_allclose(surrogate.ratio(np.log(old), np.log(new)), new / old, rtol=8 * U)


def test_the_ratio_is_exactly_one_where_the_policies_agree():
    log_prob = np.array([-1e3, -0.1, 0.0, 17.3])
    assert (surrogate.ratio(log_prob, log_prob) == 1).all()


@given(samples)
def test_swapping_old_and_new_inverts_the_ratio(sample):
    old, new, _, _ = sample
    # exp(x) exp(−x) of one and the same rounded x: two roundings of exp, each 1 ulp, and one of the product.
    product = surrogate.ratio(old, new) * surrogate.ratio(new, old)
    np.testing.assert_allclose(product, 1, rtol=5 * U)


def test_a_ratio_far_below_one_keeps_its_digits():
    r = surrogate.ratio([0.0], [-700.0])
    expected = float(mpmath.exp(-700))
    assert r[0] == pytest.approx(expected, rel=4 * U, abs=0)
    assert surrogate.sampled_surrogate([0.0], [-700.0], [3.0]) == pytest.approx(3 * expected, rel=6 * U, abs=0)


@given(samples)
def test_the_surrogate_is_the_weighted_sum_of_ratio_times_advantage(sample):
    old, new, A, w = sample
    exact = sum(
        Fraction(float(wb)) * Fraction(float(mpmath.exp(mpmath.mpf(d)))) * Fraction(float(a))
        for wb, d, a in zip(w, new - old, A, strict=True)
    )
    scale = np.sum(w * np.exp(new - old) * np.abs(A))
    # 3 roundings a row (exp, two products) and at most log2(16) + 4 in the sum.
    assert abs(surrogate.sampled_surrogate(old, new, A, weights=w) - float(exact)) <= 11 * U * scale


def test_rows_weigh_one_over_their_number_unless_weights_are_given():
    old, new, A, _ = rows(5, 8)
    uniform = np.full(8, 1 / 8)
    for function in (surrogate.sampled_surrogate, surrogate.sampled_surrogate_gradient):
        np.testing.assert_array_equal(function(old, new, A), function(old, new, A, weights=uniform))


@given(samples)
def test_the_surrogate_gradient_is_its_complex_step(sample):
    old, new, A, w = sample
    gradient = surrogate.sampled_surrogate_gradient(old, new, A, weights=w)
    numerical = complex_step(lambda x: surrogate.sampled_surrogate(old, x, A, weights=w), new)
    # Both are products of three roundings.
    np.testing.assert_allclose(gradient, numerical, rtol=10 * U)


def test_with_every_action_as_a_row_the_surrogate_is_an_exact_expectation():
    """E_{a ~ old}[(new/old) A] = Σ_a new(a) A(a), in dyadic numbers exactly."""
    old = np.array([0.5, 0.25, 0.125, 0.125])
    new = np.array([0.125, 0.5, 0.25, 0.125])
    A = np.array([1.0, -3.0, 0.5, 7.0])
    value = surrogate.sampled_surrogate(np.log(old), np.log(new), A, weights=old)
    # Terms ≤ 1.5 with log-ratios ≤ 1.4: 8 roundings each, 4 rows.
    assert value == pytest.approx(np.dot(new, A), abs=8 * U * np.dot(new, np.abs(A)))


@given(samples)
def test_improvement_is_the_difference_of_two_surrogates(sample):
    old, new, A, w = sample
    improvement = surrogate.surrogate_improvement(new - old, A, weights=w)
    before = surrogate.sampled_surrogate(old, old, A, weights=w)
    after = surrogate.sampled_surrogate(old, new, A, weights=w)
    scale = np.sum(w * np.abs(A) * (1 + np.exp(new - old)))
    assert abs(improvement - (after - before)) <= 16 * U * scale


@pytest.mark.parametrize("size", [1e-5, 1e-10, 1e-16, 1e-30])
def test_improvement_keeps_its_digits_near_the_old_policy(size):
    log_ratio, A = size * np.array([1.0, -2.0, 0.5]), np.array([1.0, -1.0, 2.0])
    with mpmath.workdps(60):
        exact = sum(mpmath.mpf(a) * mpmath.expm1(mpmath.mpf(x)) for a, x in zip(A, log_ratio, strict=True)) / 3
    # All terms are positive: expm1, product, weight and sum, 8 roundings and no cancellation.
    assert surrogate.surrogate_improvement(log_ratio, A) == pytest.approx(float(exact), rel=8 * U, abs=0)


# ── clipped objective ────────────────────────────────────────────────────────────────────────────


def clipped_row(log_ratio, A, clip=CLIP, clip_high=None):
    """PPO (7) by cases, as the four words say it: a bound on the gain, none on the loss; 50 digits."""
    clip_high = clip if clip_high is None else clip_high
    with mpmath.workdps(50):
        r = mpmath.exp(mpmath.mpf(float(log_ratio)))
        if A > 0 and r > 1 + mpmath.mpf(clip_high):
            r = 1 + mpmath.mpf(clip_high)
        if A < 0 and r < 1 - mpmath.mpf(clip):
            r = 1 - mpmath.mpf(clip)
        return float(r * mpmath.mpf(float(A)))


@pytest.mark.parametrize(("side", "A"), GRID)
def test_the_clipped_objective_of_one_row(side, A):
    value = surrogate.clipped_objective([0.0], [SIDES[side]], [A], CLIP)
    assert value == pytest.approx(clipped_row(SIDES[side], A), rel=4 * U, abs=0)


def test_the_clipped_objective_in_numbers():
    """Hand-computed: r = ½, 1 1/16, 1¾ against the window [13/16, 19/16]."""
    expected = {
        ("below", 2.0): 1.0,
        ("below", -2.0): -2 * 13 / 16,
        ("below", 0.3): 0.15,
        ("inside", 2.0): 2.125,
        ("inside", -2.0): -2.125,
        ("above", 2.0): 2 * 19 / 16,
        ("above", -2.0): -3.5,
        ("above", 0.3): 0.3 * 19 / 16,
        ("above", 0.0): 0.0,
    }
    for (side, A), value in expected.items():
        assert surrogate.clipped_objective([0.0], [SIDES[side]], [A], CLIP) == pytest.approx(value, rel=4 * U, abs=0)


@given(samples, st.floats(0.01, 0.99), st.floats(0.01, 3.0))
def test_the_clipped_objective_is_the_sum_of_its_rows(sample, clip, clip_high):
    old, new, A, w = sample
    expected = [clipped_row(d, a, clip, clip_high) for d, a in zip(new - old, A, strict=True)]
    value = surrogate.clipped_objective(old, new, A, clip, clip_high=clip_high, weights=w)
    assert abs(value - np.dot(w, expected)) <= 16 * U * np.dot(w, np.abs(expected))


@given(samples, st.floats(0.01, 0.99))
def test_clipping_never_raises_the_objective(sample, clip):
    """L^CLIP is a pessimistic bound of L; row by row it is so exactly, whatever is rounded."""
    old, new, A, _ = sample
    for b in range(len(old)):
        row = slice(b, b + 1)
        clipped = surrogate.clipped_objective(old[row], new[row], A[row], clip)
        assert clipped <= surrogate.sampled_surrogate(old[row], new[row], A[row]) * (1 + np.sign(A[b]) * 2 * U)


@given(samples)
def test_at_the_old_policy_clipping_does_nothing(sample):
    old, _, A, w = sample
    assert surrogate.clipped_objective(old, old, A, 0.01, weights=w) == np.sum(w * A)
    np.testing.assert_array_equal(surrogate.clipped_objective_gradient(old, old, A, 0.01, weights=w), w * A)


@given(samples)
def test_widening_the_window_recovers_the_surrogate_from_below(sample):
    old, new, A, w = sample
    values = [surrogate.clipped_objective(old, new, A, clip, weights=w) for clip in (0.05, 0.2, 0.5, 0.99)]
    scale = np.sum(w * np.abs(A) * (1 + np.exp(new - old)))
    assert (np.diff(values) >= -16 * U * scale).all()


@pytest.mark.parametrize(("side", "A"), GRID)
def test_the_clipped_gradient_away_from_kinks_is_the_complex_step(side, A):
    if side.startswith("at"):
        return
    x = np.array([SIDES[side]])
    numerical = complex_step(lambda x: surrogate.clipped_objective([0.0], x, [A], CLIP), x)
    gradient = surrogate.clipped_objective_gradient([0.0], x, [A], CLIP)
    np.testing.assert_allclose(gradient, numerical, rtol=4 * U)


def one_sided_slope(function, x, step):
    """Difference quotient with the error O(step): 2⁻²⁶ balances truncation |f''| step and rounding U/step."""
    return (function(x + step) - function(x)) / step


@pytest.mark.parametrize("A", ADVANTAGES)
@pytest.mark.parametrize("side", ["at lower", "at upper"])
@pytest.mark.parametrize("clip_high", [None, 0.5])
def test_at_a_kink_the_subgradient_is_spanned_by_the_one_sided_slopes(side, A, clip_high):
    x = SIDES[side] if side == "at lower" or clip_high is None else np.log1p(clip_high)

    def value(x):
        return surrogate.clipped_objective([0.0], [x], [A], CLIP, clip_high=clip_high)

    slopes = [one_sided_slope(value, x, step) for step in (-(2.0**-26), 2.0**-26)]
    lowest, highest = surrogate.clipped_objective_subgradient([0.0], [x], [A], CLIP, clip_high=clip_high)
    # Truncation: r|A|/2 · 2⁻²⁶; rounding: two values to 4 U |rA| over 2⁻²⁶.  Both below 2⁻²³ |rA| ≤ 3·2⁻²³.
    assert lowest[0] == pytest.approx(min(slopes), abs=3 * 2.0**-23)
    assert highest[0] == pytest.approx(max(slopes), abs=3 * 2.0**-23)


@pytest.mark.parametrize("A", ADVANTAGES)
@pytest.mark.parametrize("side", ["at lower", "at upper"])
def test_at_a_kink_the_gradient_is_that_of_the_unclipped_term(side, A):
    gradient = surrogate.clipped_objective_gradient([0.0], [SIDES[side]], [A], CLIP)
    unclipped = surrogate.sampled_surrogate_gradient([0.0], [SIDES[side]], [A])
    np.testing.assert_array_equal(gradient, unclipped)
    lowest, highest = surrogate.clipped_objective_subgradient([0.0], [SIDES[side]], [A], CLIP)
    assert lowest[0] <= gradient[0] <= highest[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_one_step_beyond_the_kink_the_gradient_is_gone(dtype):
    wide = np.longdouble if dtype is np.longdouble else np.float64
    upper, lower = dtype(np.log1p(wide(CLIP))), dtype(np.log1p(wide(-CLIP)))
    outside = np.array([np.nextafter(upper, dtype(1)), np.nextafter(lower, dtype(-1))])
    inside = np.array([np.nextafter(upper, dtype(0)), np.nextafter(lower, dtype(0))])
    A, old = np.array([1, -1], dtype), np.zeros(2, dtype)
    assert (surrogate.clipped_objective_gradient(old, outside, A, CLIP) == 0).all()
    assert (surrogate.clipped_objective_gradient(old, inside, A, CLIP) != 0).all()
    assert (surrogate.clipped_objective_gradient(old, np.array([upper, lower]), A, CLIP) != 0).all()


@pytest.mark.parametrize(("side", "A"), GRID)
def test_the_subgradient_is_one_point_where_there_is_no_kink(side, A):
    kink = (side == "at upper" and A > 0) or (side == "at lower" and A < 0)
    interval = surrogate.clipped_objective_subgradient([0.0], [SIDES[side]], [A], CLIP)
    gradient = surrogate.clipped_objective_gradient([0.0], [SIDES[side]], [A], CLIP)
    if kink:
        assert {interval.lowest[0], interval.highest[0]} == {0.0, gradient[0]}
    else:
        assert interval.lowest[0] == interval.highest[0] == gradient[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@given(samples, st.floats(0.01, 0.99))
def test_one_window_has_the_bits_of_three(dtype, sample, clip):
    """Behind the rows of the sample stand two at each end of the window."""
    old, new, A, w = (array.astype(dtype) for array in sample)
    ends = np.log1p(np.asarray([-clip, -clip, clip, clip], np.result_type(dtype, float))).astype(dtype)
    old, new = np.append(old, np.zeros(4, dtype)), np.append(new, ends)
    A, w = np.append(A, np.array([1, -1, 1, -1], dtype)), np.append(w / w.sum() / 2, np.full(4, 0.125, dtype))
    found = clipped_terms("f", *log_ratio_and_ratio("f", old, new), A, clip, w)
    np.testing.assert_array_equal(found.objective, surrogate.clipped_objective(old, new, A, clip, weights=w))
    gradient = surrogate.clipped_objective_gradient(old, new, A, clip, weights=w)
    np.testing.assert_array_equal(found.gradient, gradient)
    np.testing.assert_array_equal(found.fraction, surrogate.clip_fraction(old, new, A, clip, weights=w))
    assert found.gradient.dtype == gradient.dtype == dtype


@given(samples, st.floats(0.01, 4.0), st.sampled_from(["squared", "smooth_l1"]))
def test_one_error_has_the_bits_of_the_value_loss_and_its_gradient(sample, factor, error):
    V, R, _, w = sample
    found = value_terms(V, R, factor, error, w)
    assert found.loss == surrogate.value_loss(V, R, factor=factor, error=error, weights=w)
    gradient = surrogate.value_loss_gradient(V, R, factor=factor, error=error, weights=w)
    np.testing.assert_array_equal(found.gradient, gradient)


def test_a_ratio_that_overflows_is_named_by_its_place_in_the_batch():
    old, new = np.zeros(3), np.array([0.0, 800.0, 900.0])
    with pytest.raises(ValueError, match=r"^f: new_log_prob - old_log_prob is 800.0 in row 513 "):
        log_ratio_and_ratio("f", old, new, first=512)


@given(samples, st.floats(0.01, 0.9), st.floats(0.01, 3.0))
def test_the_clipped_gradient_of_many_rows_is_the_complex_step(sample, clip, clip_high):
    old, new, A, w = sample
    numerical = complex_step(
        lambda x: surrogate.clipped_objective(old, x, A, clip, clip_high=clip_high, weights=w), new
    )
    gradient = surrogate.clipped_objective_gradient(old, new, A, clip, clip_high=clip_high, weights=w)
    np.testing.assert_allclose(gradient, numerical, rtol=10 * U)
    subgradient = surrogate.clipped_objective_subgradient(old, new, A, clip, clip_high=clip_high, weights=w)
    np.testing.assert_array_equal(subgradient, [gradient, gradient])


# ── dual clip ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("log_ratio", [*SIDES.values(), np.log(2.9), np.log(3.1), 5.0])
@pytest.mark.parametrize("A", ADVANTAGES)
def test_the_dual_clip_acts_on_negative_advantages_alone(log_ratio, A):
    value = surrogate.dual_clipped_objective([0.0], [log_ratio], [A], CLIP, floor=3)
    expected = clipped_row(log_ratio, A)
    if A < 0:
        expected = max(expected, 3 * A)
    assert value == pytest.approx(expected, rel=4 * U, abs=0)


@given(samples, st.floats(1.01, 3.0))
def test_the_dual_clipped_gradient_is_the_complex_step(sample, floor):
    old, new, A, w = sample
    arguments = {"floor": floor, "clip_high": 0.3, "weights": w}
    new = old + 3 * (new - old)
    numerical = complex_step(lambda x: surrogate.dual_clipped_objective(old, x, A, 0.2, **arguments), new)
    gradient = surrogate.dual_clipped_objective_gradient(old, new, A, 0.2, **arguments)
    np.testing.assert_allclose(gradient, numerical, rtol=10 * U)


def test_at_the_dual_kink_the_gradient_is_that_of_the_unclipped_term():
    x = np.log1p(2.0)
    beyond = np.nextafter(x, 9)
    at, after = (surrogate.dual_clipped_objective_gradient([0.0], [y], [-1.0], 0.2, floor=3) for y in (x, beyond))
    assert at[0] == pytest.approx(-3, rel=4 * U, abs=0)
    assert after[0] == 0


# ── clip fraction ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("side", "A"), GRID)
def test_the_clip_fraction_of_one_row(side, A):
    outside = surrogate.clip_fraction([0.0], [SIDES[side]], [A], CLIP)
    active = surrogate.clip_fraction([0.0], [SIDES[side]], [A], CLIP, rule="active")
    assert outside == (side in ("below", "above"))
    assert active == ((side == "above" and A > 0) or (side == "below" and A < 0))


@given(samples)
def test_the_active_rows_are_those_without_gradient(sample):
    old, new, A, w = sample
    gradient = surrogate.clipped_objective_gradient(old, new, A, 0.2, weights=w)
    fraction = surrogate.clip_fraction(old, new, A, 0.2, rule="active", weights=w)
    assert fraction == pytest.approx(w[gradient == 0].sum(), abs=8 * U)
    assert fraction <= surrogate.clip_fraction(old, new, A, 0.2, weights=w) + 8 * U


def test_the_clip_fraction_respects_an_asymmetric_window():
    new = np.log([0.7, 0.9, 1.3, 1.5])
    assert surrogate.clip_fraction(np.zeros(4), new, np.ones(4), 0.2, clip_high=0.4) == 0.5
    assert surrogate.clip_fraction(np.zeros(4), new, np.ones(4), 0.2) == 0.75


# ── KL penalty ───────────────────────────────────────────────────────────────────────────────────


@given(samples, st.sampled_from([0.0, 0.125, 3.0]))
def test_the_penalised_objective_is_the_surrogate_less_the_mean_kl(sample, beta):
    old, new, A, w = sample
    kl = np.random.default_rng(0).exponential(size=len(old))
    value = surrogate.kl_penalized_objective(old, new, A, kl, beta, weights=w)
    expected = surrogate.sampled_surrogate(old, new, A, weights=w) - beta * np.dot(w, kl)
    scale = np.sum(w * (np.exp(new - old) * np.abs(A) + beta * kl))
    assert abs(value - expected) <= 20 * U * scale


@given(samples, st.sampled_from([0.0, 0.125, 3.0]))
def test_the_penalised_gradients_are_complex_steps(sample, beta):
    old, new, A, w = sample
    kl = np.random.default_rng(1).exponential(size=len(old))
    gradient = surrogate.kl_penalized_objective_gradient(old, new, A, kl, beta, weights=w)
    by_log_prob = complex_step(lambda x: surrogate.kl_penalized_objective(old, x, A, kl, beta, weights=w), new)
    by_kl = complex_step(lambda x: surrogate.kl_penalized_objective(old, new, A, x, beta, weights=w), kl)
    np.testing.assert_allclose(gradient.new_log_prob, by_log_prob, rtol=10 * U)
    np.testing.assert_allclose(gradient.kl, by_kl, rtol=10 * U)


@pytest.mark.parametrize(
    ("schedule", "kl", "factor"),
    [
        # Target 3/4: the ends of the paper's window are 1/2 and 9/8, of RLlib's 3/8 and 3/2, all exact.
        ("paper", 0.0, 0.5),
        ("paper", np.nextafter(0.5, 0), 0.5),
        ("paper", 0.5, 1.0),
        ("paper", 0.75, 1.0),
        ("paper", 1.125, 1.0),
        ("paper", np.nextafter(1.125, 2), 2.0),
        ("paper", 9.0, 2.0),
        ("rllib", 0.0, 0.5),
        ("rllib", np.nextafter(0.375, 0), 0.5),
        ("rllib", 0.375, 1.0),
        ("rllib", 0.5, 1.0),
        ("rllib", 1.5, 1.0),
        ("rllib", np.nextafter(1.5, 2), 1.5),
        ("pat_coady", np.nextafter(0.375, 0), 1 / 1.5),
        ("pat_coady", 0.375, 1.0),
        ("pat_coady", 1.5, 1.0),
        ("pat_coady", np.nextafter(1.5, 2), 1.5),
        # 0.7 and 1.3 are no floats: a millionth beside the ends of ±30 %.
        ("tf_agents", 0.525 - 1e-6, 1 / 1.5),
        ("tf_agents", 0.525 + 1e-6, 1.0),
        ("tf_agents", 0.975 - 1e-6, 1.0),
        ("tf_agents", 0.975 + 1e-6, 1.5),
    ],
)
def test_the_penalty_moves_strictly_outside_its_window(schedule, kl, factor):
    # 0.375/1.5 and 0.375 · (1/1.5) differ by a rounding of 1/1.5; all other factors are exact.
    assert surrogate.kl_penalty_update(0.375, kl, 0.75, schedule=schedule) == pytest.approx(0.375 * factor, rel=2 * U)


def test_the_penalty_follows_the_paper_by_default():
    assert surrogate.kl_penalty_update(1.0, 1.2, 0.75) == 2
    assert surrogate.kl_penalty_update(1.0, -0.1, 0.75) == 0.5, "an estimate of the KL may be negative"
    assert surrogate.kl_penalty_update(0.0, 9.0, 0.75) == 0


@pytest.mark.parametrize(
    ("schedule", "beta", "kl", "updated"),
    [
        ("pat_coady", 30.0, 9.0, 35.0),
        ("pat_coady", 40.0, 9.0, 35.0),
        ("pat_coady", 40.0, 0.75, 40.0),
        ("pat_coady", 1 / 32, 0.0, 1 / 35),
        ("pat_coady", 0.0, 0.0, 1 / 35),
        ("tf_agents", 30.0, 9.0, 45.0),
        ("tf_agents", 1.2e-15, 0.0, 1e-15),
        ("tf_agents", 0.0, 0.0, 1e-15),
        ("paper", 0.0, 0.0, 0.0),
    ],
)
def test_limits_hold_the_penalty_where_it_moves(schedule, beta, kl, updated):
    assert surrogate.kl_penalty_update(beta, kl, 0.75, schedule=schedule) == updated


@given(st.floats(0, 8), st.floats(-1, 20), st.floats(0.125, 8), st.integers(1, 512), st.integers(512, 4096))
def test_the_controller_is_proportional_within_its_limits(beta, kl, target, n, h):
    def moved(d, **options):
        return surrogate.proportional_kl_penalty_update(beta, d, target, samples=n, horizon=h, **options)

    # A handful of roundings of numbers up to β; the relative error cancels to an absolute 2 U beside 1.
    margin = 8 * U * beta
    assert moved(target) == beta
    assert moved(1e6) == pytest.approx(beta * (1 + 0.2 * n / h), abs=margin)
    assert moved(-1e6) == pytest.approx(beta * (1 - 0.2 * n / h), abs=margin)
    assert beta * (1 - 0.2 * n / h) - margin <= moved(kl) <= beta * (1 + 0.2 * n / h) + margin
    gain = beta * (1 + (Fraction(kl) / Fraction(target) - 1) * Fraction(n, h))
    if gain >= 0:
        assert moved(kl, limit=1e3) == pytest.approx(float(gain), abs=margin * max(1, abs(kl) / target))


# ── value loss ───────────────────────────────────────────────────────────────────────────────────


def test_the_value_loss_in_rationals():
    V, R = np.array([1.5, -2.0, 0.25]), np.array([1.0, 1.0, 0.75])
    assert surrogate.value_loss(V, R, weights=[0.5, 0.25, 0.25]) == 0.125 + 2.25 + 0.0625
    assert surrogate.value_loss(V, R, weights=[0.5, 0.25, 0.25], factor=0.5) == (0.125 + 2.25 + 0.0625) / 2


def test_the_smooth_error_is_hubers_in_dyadics():
    """½e² up to |e| = 1, where both branches are ½ and have slope ±1, and |e| − ½ beyond; gradients clip(e, −1, 1)."""
    errors = np.array([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.5])
    for e, size, slope in zip(errors, [2.5, 0.5, 0.125, 0, 0.03125, 0.5, 2], np.clip(errors, -1, 1), strict=True):
        assert surrogate.value_loss([4 + e], [4.0], error="smooth_l1") == size
        assert surrogate.value_loss_gradient([4 + e], [4.0], error="smooth_l1")[0] == slope
    whole = surrogate.value_loss(4 + errors, np.full(7, 4.0), error="smooth_l1", factor=0.5)
    assert whole == pytest.approx((2.5 + 0.5 + 0.125 + 0.03125 + 0.5 + 2) / 14, rel=8 * U)


@given(samples, st.floats(0.01, 4.0), st.sampled_from(["squared", "smooth_l1"]))
def test_a_clamped_error_is_the_smaller_of_two(sample, limit, error):
    """Row by row; and a change of the old values changes nothing."""
    V, V_old, R, w = sample
    rows = [surrogate.value_loss([v], [r], error=error) for v, r in zip(V, R, strict=True)]
    options = {"form": "clamped_error", "error": error, "weights": w}
    loss = surrogate.clipped_value_loss(V, V_old, R, limit, **options)
    assert loss == pytest.approx(np.minimum(rows, limit) @ w, rel=16 * U)
    assert loss == surrogate.clipped_value_loss(V, V_old + 1, R, limit, **options)
    gradient = surrogate.clipped_value_loss_gradient(V, V_old, R, limit, **options)
    free = surrogate.value_loss_gradient(V, R, error=error, weights=w)
    np.testing.assert_array_equal(gradient, np.where(np.array(rows) > limit, 0, free))


@given(samples, st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from(["squared", "smooth_l1"]))
def test_the_value_gradient_is_the_complex_step(sample, factor, error):
    V, R, _, w = sample
    numerical = complex_step(lambda x: surrogate.value_loss(x, R, factor=factor, error=error, weights=w), V)
    gradient = surrogate.value_loss_gradient(V, R, factor=factor, error=error, weights=w)
    np.testing.assert_allclose(gradient, numerical, rtol=8 * U)


# V_old = 1, ε = ½: V̄ lies in [½, 3/2].  Targets on both sides of it, near and far.
VALUES = (-1.0, 0.25, 0.5, 0.75, 1.0, 1.375, 1.5, 2.0, 4.0)
TARGETS = (-3.0, 0.375, 0.5, 1.0, 1.25, 1.75, 5.0)


@pytest.mark.parametrize("V", VALUES)
@pytest.mark.parametrize("R", TARGETS)
def test_the_clipped_value_loss_of_one_row(V, R):
    """All numbers are short dyadics: equality."""
    kept = sorted([0.5, V, 1.5])[1]
    squares = [(Fraction(v) - Fraction(R)) ** 2 for v in (V, kept)]
    assert surrogate.clipped_value_loss([V], [1.0], [R], 0.5) == max(squares)
    assert surrogate.clipped_value_loss([V], [1.0], [R], 0.5, form="clipped_only") == squares[1]
    assert surrogate.clipped_value_loss([V], [1.0], [R], 0.5, factor=0.5) == max(squares) / 2


@pytest.mark.parametrize("form", ["maximum", "clipped_only"])
@pytest.mark.parametrize("V", VALUES)
@pytest.mark.parametrize("R", TARGETS)
def test_the_clipped_value_gradient_of_one_row(form, V, R):
    """Where both one-sided slopes agree, their value; at a kink the slope of the unclipped error.

    The loss is piecewise quadratic, and in these dyadics the central parts of the quotients are exact: a one-sided
    quotient with h = 2⁻²⁰ is off by exactly h or 0.
    """

    def value(x):
        return surrogate.clipped_value_loss([x], [1.0], [R], 0.5, form=form, factor=0.5)

    h = 2.0**-20
    left, right = one_sided_slope(value, V, -h), one_sided_slope(value, V, h)
    gradient = surrogate.clipped_value_loss_gradient([V], [1.0], [R], 0.5, form=form, factor=0.5)[0]
    if abs(left - right) <= h:
        assert gradient == pytest.approx(left, abs=h)
    else:
        assert gradient == V - R


@given(
    samples,
    st.floats(0.01, 2.0),
    st.sampled_from(["maximum", "clipped_only", "clamped_error"]),
    st.sampled_from(["squared", "smooth_l1"]),
)
def test_the_clipped_value_gradient_is_the_complex_step(sample, clip, form, error):
    V, V_old, R, w = sample

    def loss(x):
        return surrogate.clipped_value_loss(x, V_old, R, clip, form=form, error=error, weights=w)

    gradient = surrogate.clipped_value_loss_gradient(V, V_old, R, clip, form=form, error=error, weights=w)
    np.testing.assert_allclose(gradient, complex_step(loss, V), rtol=8 * U)


@given(samples)
def test_clipping_values_is_pessimistic_and_does_nothing_inside_the_window(sample):
    V, V_old, R, w = sample
    plain = surrogate.value_loss(V, R, weights=w)
    maximum = surrogate.clipped_value_loss(V, V_old, R, 0.1, weights=w)
    assert maximum >= plain * (1 - 8 * U)
    assert maximum >= surrogate.clipped_value_loss(V, V_old, R, 0.1, form="clipped_only", weights=w) * (1 - 8 * U)
    # Wide enough, it is the same loss to the last bit: V̄ is V, not V_old + (V − V_old).
    for form in ("maximum", "clipped_only"):
        assert surrogate.clipped_value_loss(V, V_old, R, 100.0, form=form, weights=w) == plain


def test_the_maximum_is_of_the_squares_and_not_of_the_errors():
    """Both errors negative: the larger error is the smaller square."""
    assert surrogate.clipped_value_loss([2.0], [1.0], [4.0], 0.5) == 2.5**2
    assert surrogate.clipped_value_loss([-1.0], [1.0], [4.0], 0.5) == 5.0**2


def test_inside_the_window_the_clipped_value_is_the_value_itself():
    """V_old + (V − V_old) would be 0 here, not 1/10."""
    for form in ("maximum", "clipped_only"):
        assert surrogate.clipped_value_loss([0.1], [2.0**60], [0.0], 2.0**61, form=form) == 0.1**2
        gradient = surrogate.clipped_value_loss_gradient([0.1], [2.0**60], [0.0], 2.0**61, form=form)
        assert gradient[0] == 0.2


def test_errors_whose_squares_underflow_are_still_compared():
    V, V_old, R = [3e-200], [0.0], [4e-200]
    gradient = surrogate.clipped_value_loss_gradient(V, V_old, R, 1e-200)
    np.testing.assert_array_equal(gradient, [0.0])


# ── entropy ──────────────────────────────────────────────────────────────────────────────────────

FAMILIES = {
    "categorical": (CATEGORICAL, 4),
    "masked categorical": (masked_categorical(np.array([[True, False, True, True]] * 3)), 4),
    "multi-categorical": (multi_categorical((2, 3)), 5),
    "bernoulli": (BERNOULLI, 2),
    "gaussian": (DIAGONAL_GAUSSIAN, 4),
    "squashed gaussian": (SQUASHED_GAUSSIAN, 4),
}


def test_the_entropy_bonus_in_closed_form():
    phi = np.zeros((3, 5))
    assert surrogate.entropy_bonus(CATEGORICAL, phi) == pytest.approx(np.log(5), rel=8 * U, abs=0)
    gaussian = np.array([[7.0, -1.0, 0.25, 0.5], [0.0, 0.0, 1.0, -2.0]])
    expected = 0.75 * 0.75 + 0.25 * -1.0 + np.log(2 * np.pi * np.e)
    value = surrogate.entropy_bonus(DIAGONAL_GAUSSIAN, gaussian, weights=[0.75, 0.25])
    assert value == pytest.approx(expected, rel=16 * U, abs=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_entropy_gradient_is_the_complex_step(name):
    family, K = FAMILIES[name]
    phi = np.random.default_rng(3).normal(size=(3, K))
    w = np.array([0.5, 0.375, 0.125])
    gradient = surrogate.entropy_bonus_gradient(family, phi, weights=w)
    h = 1e-100
    for b, k in np.ndindex(phi.shape):
        shifted = phi.astype(complex)
        shifted[b, k] += 1j * h
        numerical = np.imag(surrogate.entropy_bonus(family, shifted, weights=w)) / h
        # Entropy and its gradient are sums of up to 5 terms of size O(1), some 30 roundings.
        assert gradient[b, k] == pytest.approx(numerical, abs=64 * U)


# ── types, extremes, bad input ───────────────────────────────────────────────────────────────────


def every_door(cast):
    """Each function on the same five rows, as name → result."""
    old, new, A, _ = (cast(v) for v in rows(11, 5, scale=0.4))
    kl, V_old = cast(np.linspace(0.1, 0.5, 5)), new - old
    return {
        "ratio": surrogate.ratio(old, new),
        "sampled_surrogate": surrogate.sampled_surrogate(old, new, A),
        "sampled_surrogate_gradient": surrogate.sampled_surrogate_gradient(old, new, A),
        "surrogate_improvement": surrogate.surrogate_improvement(new - old, A),
        "clipped_objective": surrogate.clipped_objective(old, new, A, 0.2, clip_high=0.3),
        "clipped_objective_gradient": surrogate.clipped_objective_gradient(old, new, A, 0.2),
        "lowest": surrogate.clipped_objective_subgradient(old, new, A, 0.2).lowest,
        "highest": surrogate.clipped_objective_subgradient(old, new, A, 0.2).highest,
        "dual_clipped_objective": surrogate.dual_clipped_objective(old, new, A, 0.2, floor=1.25),
        "dual_clipped_objective_gradient": surrogate.dual_clipped_objective_gradient(old, new, A, 0.2, floor=1.25),
        "kl_penalized_objective": surrogate.kl_penalized_objective(old, new, A, kl, 0.7),
        "new_log_prob": surrogate.kl_penalized_objective_gradient(old, new, A, kl, 0.7).new_log_prob,
        "kl": surrogate.kl_penalized_objective_gradient(old, new, A, kl, 0.7).kl,
        "value_loss": surrogate.value_loss(new, A, factor=0.5),
        "value_loss_gradient": surrogate.value_loss_gradient(new, A),
        "smooth_l1": surrogate.value_loss(new, A, error="smooth_l1"),
        "smooth_l1_gradient": surrogate.value_loss_gradient(new, A, error="smooth_l1"),
        "clamped_error": surrogate.clipped_value_loss(new, V_old, A, 0.3, form="clamped_error"),
        "clipped_value_loss": surrogate.clipped_value_loss(new, V_old, A, 0.3),
        "clipped_only": surrogate.clipped_value_loss(new, V_old, A, 0.3, form="clipped_only"),
        "clipped_value_loss_gradient": surrogate.clipped_value_loss_gradient(new, V_old, A, 0.3),
        "entropy_bonus": surrogate.entropy_bonus(CATEGORICAL, np.stack([old, new], axis=1)),
        "entropy_bonus_gradient": surrogate.entropy_bonus_gradient(CATEGORICAL, np.stack([old, new], axis=1)),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_the_type_of_the_arguments_is_the_type_of_the_result(dtype):
    reference = every_door(lambda v: v.astype(np.float32).astype(np.longdouble))
    for name, result in every_door(lambda v: v.astype(np.float32).astype(dtype)).items():
        # −β w is real whatever the KL.
        assert np.asarray(result).dtype == (np.finfo(dtype).dtype if name == "kl" else dtype), name
        # Values of size O(1) from float32-exact inputs; ratios ≤ 4, so 64 roundings of the type are ample for
        # 5 rows, whose log-probabilities |ℓ| ≤ 4 enter through exp.
        error = np.abs(np.asarray(result) - reference[name])
        assert np.max(error) <= 64 * np.finfo(dtype).eps, name


def test_float32_counts_are_float32():
    A = np.ones(3, np.float32)
    assert surrogate.clip_fraction(0 * A, A, A, 0.2).dtype == np.float32


def test_nothing_overflows_on_the_way_to_a_finite_answer():
    """r·A = 1e310 is thrown away by the min, and must not be formed."""
    value = surrogate.clipped_objective([0.0], [np.log(1e10)], [1e300], 0.2)
    assert value == pytest.approx(1.2e300, rel=4 * U, abs=0)
    assert surrogate.clipped_objective_gradient([0.0], [np.log(1e10)], [1e300], 0.2)[0] == 0
    assert surrogate.dual_clipped_objective([0.0], [np.log(1e10)], [-1e300], 0.2, floor=3) == -3e300


@pytest.mark.parametrize("log_prob", [-1e3, -1e5, -1e308])
def test_a_vanishing_ratio_is_zero(log_prob):
    assert surrogate.ratio([0.0], [log_prob])[0] == 0
    assert surrogate.sampled_surrogate([0.0], [log_prob], [-2.0]) == 0
    assert surrogate.clipped_objective([0.0], [log_prob], [-2.0], 0.25) == -1.5
    assert surrogate.surrogate_improvement([log_prob], [3.0]) == -3


SAMPLES = {
    "ratio": lambda old, new: surrogate.ratio(old, new),
    "sampled_surrogate": lambda old, new: surrogate.sampled_surrogate(old, new, [1.0]),
    "sampled_surrogate_gradient": lambda old, new: surrogate.sampled_surrogate_gradient(old, new, [1.0]),
    "clipped_objective": lambda old, new: surrogate.clipped_objective(old, new, [1.0], 0.2),
    "clipped_objective_gradient": lambda old, new: surrogate.clipped_objective_gradient(old, new, [1.0], 0.2),
    "clipped_objective_subgradient": lambda old, new: surrogate.clipped_objective_subgradient(old, new, [1.0], 0.2),
    "dual_clipped_objective": lambda old, new: surrogate.dual_clipped_objective(old, new, [1.0], 0.2, floor=3),
    "dual_clipped_objective_gradient": lambda old, new: surrogate.dual_clipped_objective_gradient(
        old, new, [1.0], 0.2, floor=3
    ),
    "clip_fraction": lambda old, new: surrogate.clip_fraction(old, new, [1.0], 0.2),
    "kl_penalized_objective": lambda old, new: surrogate.kl_penalized_objective(old, new, [1.0], [0.0], 1.0),
    "kl_penalized_objective_gradient": lambda old, new: surrogate.kl_penalized_objective_gradient(
        old, new, [1.0], [0.0], 1.0
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 88), (np.float64, 709), (np.complex128, 709)])
def test_an_overflowing_ratio_is_an_error_that_names_the_log_probabilities(name, dtype, limit):
    old = np.zeros(1, dtype)
    SAMPLES[name](old, np.full(1, limit, dtype))
    with pytest.raises(ValueError, match=rf"^{name}: new_log_prob - old_log_prob is .*row 0.*overflow"):
        SAMPLES[name](old, np.full(1, limit + 1, dtype))


def test_a_difference_of_log_probabilities_that_overflows_is_an_error():
    with pytest.raises(ValueError, match="ratio: new_log_prob - old_log_prob is -inf in row 1"):
        surrogate.ratio([0.0, 1e308], [0.0, -1e308])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surrogate.surrogate_improvement([800.0], [1.0]), "surrogate_improvement: overflow .*log_ratio, adv"),
        (lambda: surrogate.sampled_surrogate([0.0], [700.0], [1e9]), "sampled_surrogate: overflow .* advantages of"),
        (lambda: surrogate.value_loss([1e200], [0.0]), "value_loss: overflow .* values, targets of smaller"),
        (lambda: surrogate.clipped_value_loss([1e200], [0.0], [0.0], 1.0), "clipped_value_loss: overflow"),
        (lambda: surrogate.kl_penalty_update(1e308, 1.0, 0.1), "kl_penalty is 1e.308, expected 2.0 times it"),
    ],
)
def test_any_other_overflow_is_an_error_too(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["clipped_objective", "clipped_objective_gradient", "clip_fraction"])
@pytest.mark.parametrize("clip", [0.0, 1.0, -0.2, 1.5, np.nan, np.inf, "0.2", None, True, [0.2]])
def test_a_clip_outside_zero_to_one_is_an_error(name, clip):
    with pytest.raises(ValueError, match=f"^{name}: clip is .* expected a (finite )?number > 0 and < 1"):
        getattr(surrogate, name)([0.0], [0.0], [1.0], clip)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surrogate.clipped_objective([0.0], [0.0], [1.0], 0.2, clip_high=0.0), "clip_high is 0.0"),
        (lambda: surrogate.dual_clipped_objective([0.0], [0.0], [1.0], 0.2, floor=1.0), "floor is 1.0"),
        (lambda: surrogate.clip_fraction([0.0], [0.0], [1.0], 0.2, rule="any"), "rule is 'any'"),
        (lambda: surrogate.ratio([0.0, 0.0], [0.0]), r"new_log_prob has shape \(1,\), expected \(B,\) where B = 2"),
        (lambda: surrogate.ratio([[0.0]], [[0.0]]), r"old_log_prob has shape \(1, 1\), expected \(B,\)"),
        (lambda: surrogate.ratio([], []), "it is empty"),
        (lambda: surrogate.ratio([np.nan], [0.0]), "old_log_prob holds NaN"),
        (lambda: surrogate.ratio([0.0], [-np.inf]), "new_log_prob holds NaN or infinity"),
        (lambda: surrogate.sampled_surrogate([0.0] * 2, [0.0] * 2, [[1.0], [2.0]]), r"advantages has shape \(2, 1\)"),
        (lambda: surrogate.sampled_surrogate([0.0], [0.0], [1.0], weights=[0.5]), "weights sum to"),
        (lambda: surrogate.sampled_surrogate([0.0], [0.0], [1.0], weights=[1.0, 0.0]), "weights has shape"),
        (lambda: surrogate.value_loss([0.0], [[0.0]]), "targets has shape"),
        (lambda: surrogate.value_loss([0.0], [0.0], factor=0.0), "factor is 0.0"),
        (lambda: surrogate.clipped_value_loss([0.0], [0.0], [0.0], 0.0), "clip is 0.0, expected a number > 0"),
        (lambda: surrogate.clipped_value_loss([0.0], [0.0], [0.0], 1.0, form="min"), "form is 'min'"),
        (lambda: surrogate.clipped_value_loss([0.0], [0.0] * 2, [0.0], 1.0), "old_values has shape"),
        (lambda: surrogate.kl_penalized_objective([0.0], [0.0], [1.0], [0.0], -1.0), "kl_penalty is -1.0"),
        (lambda: surrogate.kl_penalized_objective([0.0], [0.0], [1.0], 0.0, 1.0), r"kl has shape \(\)"),
        (lambda: surrogate.kl_penalty_update(-1.0, 0.1, 0.1), "kl_penalty is -1.0"),
        (lambda: surrogate.kl_penalty_update(1.0, np.nan, 0.1), "kl is nan"),
        (lambda: surrogate.kl_penalty_update(1.0, 0.1, 0.0), "target is 0.0"),
        (lambda: surrogate.kl_penalty_update(1.0, 0.1, 0.1, schedule="ppo2"), "schedule is 'ppo2'"),
        (lambda: surrogate.value_loss([0.0], [0.0], error="huber"), "value_loss: error is 'huber'"),
        (lambda: surrogate.clipped_value_loss([0.0], [0.0], [0.0], 1.0, error="l1"), "error is 'l1'"),
        (lambda: surrogate.proportional_kl_penalty_update(1.0, 0.1, 0.0, samples=1, horizon=1), "target is 0.0"),
        (lambda: surrogate.proportional_kl_penalty_update(1.0, 0.1, 0.1, samples=0, horizon=1), "samples is 0"),
        (lambda: surrogate.proportional_kl_penalty_update(1.0, 0.1, 0.1, samples=1, horizon=0.5), "horizon is 0.5"),
        (
            lambda: surrogate.proportional_kl_penalty_update(1.0, 0.0, 0.1, samples=9, horizon=1),
            "kl_penalty would become -0.8",
        ),
        (lambda: surrogate.entropy_bonus(CATEGORICAL, [0.0, 1.0]), r"phi has shape \(2,\), expected \(B, K\)"),
        (lambda: surrogate.entropy_bonus(DIAGONAL_GAUSSIAN, [[0.0, 1.0, 2.0]]), "entropy_bonus: "),
        (lambda: surrogate.entropy_bonus_gradient(DIAGONAL_GAUSSIAN, [[0.0]]), "entropy_bonus_gradient: "),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_arguments_are_not_changed():
    old, new, A, w = rows(2, 6)
    copies = [v.copy() for v in (old, new, A, w)]
    surrogate.clipped_objective_subgradient(old, new, A, 0.2, weights=w)
    surrogate.clipped_value_loss_gradient(old, new, A, 0.2, weights=w)
    surrogate.kl_penalized_objective_gradient(old, new, A, A, 0.2, weights=w)
    for before, after in zip(copies, (old, new, A, w), strict=True):
        np.testing.assert_array_equal(before, after)
