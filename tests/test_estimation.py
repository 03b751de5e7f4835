"""Estimates from samples: recursions against their definitions as explicit sums of exact rationals, expectations by
enumeration of small distributions, k3 against 400 digits.

Rationals: rewards, values, γ and λ are short dyadic numbers and T ≤ 9, so that every intermediate number of the float64
recursion is exact and the comparison is equality.  U is the unit roundoff of float64.
"""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refpg import estimation

U = np.finfo(float).eps / 2


# ── backward in time ─────────────────────────────────────────────────────────────────────────────


def rollout(seed, shape):
    """A rollout of multiples of 1/4 below 4, with interior terminations, truncations and both at once."""
    generator = np.random.default_rng(seed)
    rewards, values, next_values = generator.integers(-15, 16, (3, *shape)) / 4
    terminated, truncated = generator.random((2, *shape)) < 0.2
    return rewards, values, next_values, terminated, truncated


# γ and λ with at most 3 bits, 9 steps: 9·6 bits of exponent range, 53 bits suffice for γ, λ ∈ {0, ½, ¾, 1}:
# a term needs 4 + 2·2·8 = 36 bits below and 5 above the point, and a sum of 9 of them 4 more.
DYADIC = st.sampled_from([0.0, 0.5, 0.75, 1.0])
SHAPES = st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 3)))
rollouts = st.builds(rollout, st.integers(0, 10**6), SHAPES)


def columns(arrays):
    """Each environment as a list of rows of exact numbers, with its column index."""
    for e in np.ndindex(arrays[0].shape[1:]):
        yield (
            (slice(None), *e),
            [
                [bool(v) if array.dtype == bool else Fraction(float(v)) for v in array[(slice(None), *e)]]
                for array in arrays
            ],
        )


def double_sum(rewards, values, next_values, terminated, truncated, gamma, lam):
    """GAE (16) as printed: for each t, Σ_l (γλ)^l δ_{t+l}, l as long as no earlier step ended the episode."""
    T, gamma, lam = len(rewards), Fraction(gamma), Fraction(lam)
    delta = [rewards[t] - values[t] + (0 if terminated[t] else gamma * next_values[t]) for t in range(T)]
    return [
        sum(
            (gamma * lam) ** lag * delta[t + lag]
            for lag in range(T - t)
            if not any(terminated[k] or truncated[k] for k in range(t, t + lag))
        )
        for t in range(T)
    ]


def reward_sum(rewards, next_values, terminated, truncated, gamma):
    """The return of each step: rewards up to the first end of episode, and what the cut leaves open."""
    T, gamma, returns = len(rewards), Fraction(gamma), []
    for t in range(T):
        end = next((k for k in range(t, T) if terminated[k] or truncated[k]), T - 1)
        total = sum(gamma ** (k - t) * rewards[k] for k in range(t, end + 1))
        if not terminated[end]:
            total += gamma ** (end + 1 - t) * next_values[end]
        returns.append(total)
    return returns


@given(rollouts, DYADIC, DYADIC)
def test_gae_is_its_double_sum(arrays, gamma, lam):
    estimate = estimation.gae(*arrays, gamma, lam)
    for column, exact in columns(arrays):
        advantages = double_sum(*exact, gamma, lam)
        assert [Fraction(float(v)) for v in estimate.advantages[column]] == advantages
        targets = [a + v for a, v in zip(advantages, exact[1], strict=True)]
        assert [Fraction(float(v)) for v in estimate.value_targets[column]] == targets


@given(rollouts, DYADIC)
def test_returns_are_sums_of_rewards(arrays, gamma):
    rewards, _, next_values, terminated, truncated = arrays
    returns = estimation.discounted_returns(rewards, next_values, terminated, truncated, gamma)
    for column, exact in columns([rewards, next_values, terminated, truncated]):
        assert [Fraction(float(v)) for v in returns[column]] == reward_sum(*exact, gamma)


@given(rollouts, DYADIC)
def test_td_errors_by_their_definition(arrays, gamma):
    rewards, values, next_values, terminated, _ = arrays
    delta = estimation.td_errors(rewards, values, next_values, terminated, gamma)
    for column, (r, V, V_next, end) in columns([rewards, values, next_values, terminated]):
        expected = [r[t] + Fraction(gamma) * V_next[t] * (not end[t]) - V[t] for t in range(len(r))]
        assert [Fraction(float(v)) for v in delta[column]] == expected


@given(rollouts, DYADIC)
def test_at_lambda_zero_gae_is_the_td_error(arrays, gamma):
    rewards, values, next_values, terminated, _ = arrays
    delta = estimation.td_errors(rewards, values, next_values, terminated, gamma)
    np.testing.assert_array_equal(estimation.gae(*arrays, gamma, 0.0).advantages, delta)


@given(st.integers(0, 10**6), SHAPES, DYADIC)
def test_at_lambda_one_gae_is_the_return_less_the_value(seed, shape, gamma):
    """The TD errors telescope where the next value is the value of the next row, inside an episode."""
    rewards, values, next_values, terminated, truncated = rollout(seed, shape)
    inside = ~(terminated | truncated)[:-1]
    next_values[:-1][inside] = values[1:][inside]
    returns = estimation.discounted_returns(rewards, next_values, terminated, truncated, gamma)
    estimate = estimation.gae(rewards, values, next_values, terminated, truncated, gamma, 1.0)
    np.testing.assert_array_equal(estimate.advantages, returns - values)
    np.testing.assert_array_equal(estimate.value_targets, returns)


@given(rollouts, DYADIC, DYADIC)
def test_a_rollout_buffer_is_the_same_estimate(arrays, gamma, lam):
    rewards, values, next_values, dones, _ = arrays
    last = next_values[-1]
    following = np.append(values[1:], [last], axis=0)
    whole = estimation.gae(rewards, values, following, dones, np.zeros_like(dones), gamma, lam)
    buffer = estimation.gae_rollout(rewards, values, dones, last, gamma, lam)
    np.testing.assert_array_equal(buffer, whole)


def test_gae_in_numbers():
    """γ = λ = ½; a termination after step 1, a truncation after step 3, the last row open."""
    estimate = estimation.gae(
        rewards=[1.0, 2.0, 4.0, 8.0, 16.0],
        values=[4.0, 2.0, 8.0, 4.0, 2.0],
        next_values=[2.0, 100.0, 4.0, 12.0, 6.0],
        terminated=[False, True, False, False, False],
        truncated=[False, False, False, True, False],
        gamma=0.5,
        gae_lambda=0.5,
    )
    # δ = 1 + 1 − 4, 2 − 2, 4 + 2 − 8, 8 + 6 − 4, 16 + 3 − 2.
    np.testing.assert_array_equal(estimate.advantages, [-2.0, 0.0, -2 + 10 / 4, 10.0, 17.0])
    np.testing.assert_array_equal(estimate.value_targets, [2.0, 2.0, 8.5, 14.0, 19.0])


def test_a_termination_overrules_a_truncation():
    for truncated in (False, True):
        estimate = estimation.gae([1.0], [0.0], [8.0], [True], [truncated], 0.5, 0.5)
        assert estimate.advantages[0] == 1
        assert estimation.discounted_returns([1.0], [8.0], [True], [truncated], 0.5)[0] == 1


def test_the_last_term_has_the_exponent_t_minus_one():
    """The erratum of PPO (10) and (11): one reward at the last of T steps, seen from step t, weighs (γλ)^{T−t−1}."""
    T, zero = 6, np.zeros(6)
    never, rewards = np.zeros(6, bool), np.eye(6)[-1]
    advantages = estimation.gae(rewards, zero, zero, never, never, 0.5, 0.75).advantages
    np.testing.assert_array_equal(advantages, [0.375 ** (T - t - 1) for t in range(T)])
    returns = estimation.discounted_returns(rewards, zero, never, never, 0.5)
    np.testing.assert_array_equal(returns, [0.5 ** (T - t - 1) for t in range(T)])
    bootstrap = estimation.discounted_returns(zero, zero + 1, never, never, 0.5)
    np.testing.assert_array_equal(bootstrap, [0.5 ** (T - t) for t in range(T)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_the_decay_is_formed_in_the_precision_of_the_rewards(dtype):
    rewards, zero, never = np.array([0, 1], dtype), np.zeros(2, dtype), np.zeros(2, bool)
    advantages = estimation.gae(rewards, zero, zero, never, never, 0.9, 0.7).advantages
    assert advantages[0] == dtype(0.9) * dtype(0.7)


def test_nothing_leaks_across_the_end_of_an_episode():
    """Changing all of a later episode changes no estimate of an earlier one."""
    rewards, values, next_values, _, _ = rollout(3, (8, 2))
    for flag in (0, 1):
        flags = np.zeros((2, 8, 2), bool)
        flags[flag, 3] = True
        changed = [array.copy() for array in (rewards, values, next_values)]
        for array in changed:
            array[4:] += 100
        before = estimation.gae(rewards, values, next_values, *flags, 0.9, 0.8)
        after = estimation.gae(*changed, *flags, 0.9, 0.8)
        np.testing.assert_array_equal(before.advantages[:4], after.advantages[:4])
        assert (before.advantages[4:] != after.advantages[4:]).all()


def test_environments_do_not_mix():
    arrays = rollout(4, (7, 3))
    together = estimation.gae(*arrays, 0.9, 0.8)
    for e in range(3):
        alone = estimation.gae(*(array[:, e] for array in arrays), 0.9, 0.8)
        np.testing.assert_array_equal(together.advantages[:, e], alone.advantages)


def test_exact_values_leave_no_advantage():
    """On a chain with the true V every δ is 0, whatever λ: GAE is unbiased where V is exact."""
    T, gamma = 12, 0.75
    rewards = np.random.default_rng(0).integers(-8, 9, T) / 8
    never = np.zeros(T, bool)
    returns = estimation.discounted_returns(rewards, np.ones(T), never, never, gamma)
    following = np.append(returns[1:], 1.0)
    estimate = estimation.gae(rewards, returns, following, never, never, gamma, 0.9)
    # Each δ is off by the 3 roundings of its own numbers, |·| ≤ 4, and their sum weighs at most 1/(1 − γλ) < 4.
    np.testing.assert_allclose(estimate.advantages, 0, atol=3 * 4 * 4 * U)


# ── normalisation ────────────────────────────────────────────────────────────────────────────────

vectors = st.builds(
    lambda seed, n: np.random.default_rng(seed).normal(3.0, 2.0, n), st.integers(0, 10**6), st.integers(2, 40)
)


@pytest.mark.parametrize("ddof", [0, 1])
@given(A=vectors)
def test_normalised_advantages_have_mean_zero_and_deviation_one(ddof, A):
    normalized = estimation.normalize_advantages(A, ddof=ddof)
    # Entries ≤ √40 with some 8 roundings each.
    assert abs(normalized.mean()) <= 64 * U
    assert np.sum(normalized**2) / (len(A) - ddof) == pytest.approx(1, rel=64 * U, abs=0)


@given(vectors, st.floats(0.1, 100), st.integers(-1000, 1000))
def test_normalisation_forgets_shift_and_scale(A, scale, shift):
    A = np.round(A * 2**10) / 2**10
    reference = estimation.normalize_advantages(A)
    # Shifting by integers is exact; scaling rounds each entry, |A| ≤ 12, against a deviation that is not small.
    np.testing.assert_allclose(estimation.normalize_advantages(A + shift), reference, rtol=0, atol=256 * U)
    bound = 64 * U * (1 + np.abs(A).max() / A.std()) * np.abs(reference).max()
    np.testing.assert_allclose(estimation.normalize_advantages(A * scale), reference, rtol=0, atol=bound)
    np.testing.assert_allclose(estimation.normalize_advantages(-A), -reference, rtol=0, atol=64 * U)


@given(vectors)
def test_the_two_deviations_differ_by_bessels_factor(A):
    population, bessel = (estimation.normalize_advantages(A, ddof=ddof) for ddof in (0, 1))
    np.testing.assert_allclose(bessel, population * np.sqrt((len(A) - 1) / len(A)), rtol=8 * U)


def test_normalisation_in_numbers():
    """Mean 4, squared deviations 9 + 1 + 1 + 9: σ² = 5 or 20/3."""
    A = [1.0, 3.0, 5.0, 7.0]
    centred = np.array([-3.0, -1.0, 1.0, 3.0])
    np.testing.assert_allclose(estimation.normalize_advantages(A), centred / np.sqrt(5), rtol=8 * U)
    np.testing.assert_allclose(estimation.normalize_advantages(A, ddof=1), centred / np.sqrt(20 / 3), rtol=8 * U)
    np.testing.assert_allclose(estimation.normalize_advantages(A, epsilon=2.0), centred / (np.sqrt(5) + 2), rtol=8 * U)


def test_epsilon_is_added_to_the_deviation_and_not_to_the_variance():
    tiny = np.array([-1.0, 1.0]) * 2.0**-12
    value = estimation.normalize_advantages(tiny, epsilon=2.0**-12)
    np.testing.assert_array_equal(value, [-0.5, 0.5])


def test_epsilon_has_three_forms():
    """Deviation 3 · 2⁻¹², and √ε = 4 · 2⁻¹² in the root: 3, 4 and 5."""
    A = np.array([-3.0, 3.0]) * 2.0**-12
    in_root = estimation.normalize_advantages(A, epsilon=16 * 2.0**-24, form="in_root")
    np.testing.assert_array_equal(in_root, [-0.6, 0.6])  # √(9 + 16) = 5
    np.testing.assert_array_equal(estimation.normalize_advantages(A, epsilon=2.0**-10, form="at_least"), [-0.75, 0.75])
    np.testing.assert_array_equal(estimation.normalize_advantages(A, epsilon=2.0**-12, form="at_least"), [-1, 1])


@given(vectors, st.sampled_from(["added", "in_root", "at_least"]), st.integers(0, 1))
def test_every_form_divides_by_more_as_epsilon_grows_and_by_the_deviation_without_one(A, form, ddof):
    plain = estimation.normalize_advantages(A, ddof=ddof)
    np.testing.assert_array_equal(estimation.normalize_advantages(A, ddof=ddof, form=form), plain)
    sizes = [np.abs(estimation.normalize_advantages(A, ddof=ddof, epsilon=e, form=form)) for e in (1e-6, 1.0, 1e6)]
    assert (sizes[0] <= np.abs(plain) * (1 + 4 * U)).all()
    assert (sizes[1] <= sizes[0] * (1 + 4 * U)).all()
    assert (sizes[2] <= sizes[1] * (1 + 4 * U)).all()


@pytest.mark.parametrize("form", ["added", "in_root", "at_least"])
@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e300])
def test_no_form_overflows_or_loses_the_smaller_number(form, size):
    """With ε = (σ, σ² or σ) all three know their answer; where σ² is no float, ε is lost beside it or all there is."""
    A = np.array([-1.0, 1.0]) * size
    epsilon = size**2 if form == "in_root" and 1e-100 < size < 1e100 else size
    expected = {"added": 0.5, "at_least": 1.0}.get(form)
    if form == "in_root":
        expected = float(1 / mpmath.sqrt(1 + mpmath.mpf(epsilon) / mpmath.mpf(size) ** 2))
    value = estimation.normalize_advantages(A, epsilon=epsilon, form=form)
    np.testing.assert_allclose(value, [-expected, expected], rtol=8 * U)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_reward_to_go_is_the_return_whatever_lambda_is(seed, gamma, lam):
    generator = np.random.default_rng(seed)
    r, V, after = generator.normal(size=(3, 7, 2))
    terminated, truncated = generator.random((2, 7, 2)) < 0.25
    rollout = r, V, after, terminated, truncated, gamma, lam
    returns = estimation.discounted_returns(r, after, terminated, truncated, gamma)
    estimate = estimation.gae(*rollout, value_target="reward_to_go")
    np.testing.assert_array_equal(estimate.value_targets, returns)
    np.testing.assert_array_equal(estimate.advantages, estimation.gae(*rollout).advantages)
    buffer = estimation.gae_rollout(r, V, terminated, after[-1], gamma, lam, value_target="reward_to_go")
    episodes = np.concatenate([V[1:], after[-1:]])
    expected = estimation.discounted_returns(r, episodes, terminated, np.zeros_like(terminated), gamma)
    np.testing.assert_array_equal(buffer.value_targets, expected)


def test_weights_are_repetitions():
    """Weights k/8 mean what k copies of the row among 8 mean; dyadic numbers leave only a few roundings."""
    A, V = np.array([1.0, -0.5, 2.0, 0.25]), np.array([0.5, 0.0, 1.0, 1.0])
    copies = np.array([1, 4, 1, 2])
    weights = copies / 8
    repeated = estimation.normalize_advantages(np.repeat(A, copies), epsilon=0.25)
    first = np.cumsum(copies) - copies
    weighted = estimation.normalize_advantages(A, epsilon=0.25, weights=weights)
    np.testing.assert_allclose(weighted, repeated[first], rtol=8 * 2.0**-53)
    explained = estimation.explained_variance(V, A, weights=weights)
    assert explained == pytest.approx(
        estimation.explained_variance(np.repeat(V, copies), np.repeat(A, copies)), rel=0, abs=8 * 2.0**-53
    )
    rollout = estimation.normalize_advantages(A.reshape(2, 2), weights=weights.reshape(2, 2))
    np.testing.assert_array_equal(rollout.ravel(), estimation.normalize_advantages(A, weights=weights))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [0.5, 0.5], "ddof": 1}, "ddof is 1 with weights, expected 0"),
        ({"weights": [[0.5, 0.5]]}, r"weights has shape \(1, 2\), expected \(2,\)"),
        ({"weights": [0.5, 0.6]}, "not normalised"),
    ],
)
def test_weights_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^normalize_advantages: .*{message}"):
        estimation.normalize_advantages([1.0, 2.0], **options)


def test_a_rollout_is_normalised_as_a_whole():
    A = np.random.default_rng(6).normal(size=(5, 3))
    flat = estimation.normalize_advantages(A.ravel())
    np.testing.assert_array_equal(estimation.normalize_advantages(A), flat.reshape(5, 3))


def test_a_large_offset_costs_no_digits():
    """Exact in float64: the entries differ by multiples of 1 around 2⁵⁰."""
    A = 2.0**50 + np.array([0.0, 1.0, 2.0, 5.0])
    reference = estimation.normalize_advantages([0.0, 1.0, 2.0, 5.0])
    np.testing.assert_array_equal(estimation.normalize_advantages(A), reference)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_squares_neither_overflow_nor_vanish(size):
    A = np.array([1.0, 3.0, 5.0, 7.0])
    np.testing.assert_allclose(
        estimation.normalize_advantages(A * size), estimation.normalize_advantages(A), rtol=16 * U
    )
    assert estimation.explained_variance(A * size, 2 * A * size) == pytest.approx(0.75, abs=16 * U)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-300, 1e300])
def test_equal_advantages_have_no_deviation(value):
    """0.1 + 0.1 + 0.1 rounds, so a mean taken naively leaves 10⁻¹⁷ to be normalised to ±1."""
    A = np.full(3, value)
    with pytest.raises(ValueError, match="normalize_advantages: advantages has standard deviation 0"):
        estimation.normalize_advantages(A)
    np.testing.assert_array_equal(estimation.normalize_advantages(A, epsilon=1e-8), np.zeros(3))
    with pytest.raises(ValueError, match="explained_variance: targets has variance 0"):
        estimation.explained_variance([1.0, 2.0, 3.0], A)


# ── explained variance ───────────────────────────────────────────────────────────────────────────


def test_explained_variance_in_rationals():
    """var R = 5, R − V = (0, 2, 2, 0) has variance 1."""
    value = estimation.explained_variance([1.0, 1.0, 3.0, 7.0], [1.0, 3.0, 5.0, 7.0])
    assert value == pytest.approx(0.8, abs=8 * U)


@given(vectors, st.integers(-100, 100), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, -1.0]))
def test_explained_variance_of_scaled_targets(R, offset, scale):
    """V = sR + c explains 1 − (1 − s)²: all of it at s = 1, nothing at s = 0 and s = 2."""
    R = np.round(R * 2**10) / 2**10
    value = estimation.explained_variance(scale * R + offset, R)
    # Exact in these dyadics up to the centring: |R − V| ≤ 200 loses nothing, 64 roundings of numbers ≤ 4.
    assert value == pytest.approx(1 - (1 - scale) ** 2, abs=256 * U)
    assert value <= 1


@given(vectors)
def test_explained_variance_is_the_squared_correlation_of_the_best_line(R):
    """At the least-squares slope it is r², NumPy's correlation coefficient squared."""
    V = R + np.random.default_rng(1).normal(size=len(R))
    slope = np.dot(V - V.mean(), R - R.mean()) / np.sum((V - V.mean()) ** 2)
    value = estimation.explained_variance(slope * V, R)
    # The residual is stationary in the slope; 128 roundings of relative numbers that may be amplified by |R|/σ ≤ 2⁷.
    assert value == pytest.approx(np.corrcoef(V, R)[0, 1] ** 2, abs=2.0**7 * 128 * U)


def test_the_denominator_is_the_variance_of_the_targets():
    assert estimation.explained_variance([0.0, 1.0], [0.0, 4.0]) == pytest.approx(1 - 9 / 16, abs=8 * U)
    assert estimation.explained_variance([0.0, 4.0], [0.0, 1.0]) == pytest.approx(1 - 9, abs=64 * U)


# ── KL from samples ──────────────────────────────────────────────────────────────────────────────

OLD = np.array([0.5, 0.25, 0.125, 0.125])
NEW = np.array([0.125, 0.25, 0.125, 0.5])


def kl(p, q):
    return np.sum(p * np.log(p / q))


def test_two_estimators_are_unbiased_and_one_is_not():
    """Every action as a row, weighing π_old: the expectation itself.  Here KL(old ‖ new) = ¾·log 2."""
    k1, k2, k3 = (
        estimation.approximate_kl(np.log(OLD), np.log(NEW), estimator=name, weights=OLD) for name in ("k1", "k2", "k3")
    )
    exact = 0.75 * np.log(2)
    # Four terms below 1, some 8 roundings each.
    assert k1 == pytest.approx(exact, abs=32 * U)
    assert k3 == pytest.approx(exact, abs=32 * U)
    # ½ E log² r = ½ (½ (2 log 2)² + ⅛ (2 log 2)²) = 5/4 log² 2.
    assert k2 == pytest.approx(1.25 * np.log(2) ** 2, abs=32 * U)


def test_the_default_estimator_is_k3_and_the_mean_is_uniform():
    old, new = np.log(OLD), np.log(NEW)
    k3 = estimation.kl_estimators(old, new).k3
    assert estimation.approximate_kl(old, new) == estimation.approximate_kl(old, new, estimator="k3")
    assert estimation.approximate_kl(old, new) == pytest.approx(k3.mean(), rel=8 * U, abs=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_estimators_differentiate_three_different_things(seed):
    """The bias of a penalty: rows drawn from π_θ and held fixed, θ differentiated through the log-probability alone."""
    generator = np.random.default_rng(seed)
    logits, reference = generator.normal(size=(2, 5))
    h = 1e-100

    def log_softmax(z):
        return z - np.log(np.sum(np.exp(z)))

    log_ref = log_softmax(reference)
    p = np.exp(log_softmax(logits))
    q = np.exp(log_ref)

    def gradient(function):
        return np.array([np.imag(function(log_softmax(logits + 1j * h * unit))) / h for unit in np.eye(5)])

    def mean_of(name):
        return lambda log_p: np.sum(p * getattr(estimation.kl_estimators(log_p, log_ref + 0j), name))

    def forward(log_p):
        return np.sum(np.exp(log_p) * (log_p - log_ref))

    def backward(log_p):
        return np.sum(q * (log_ref - log_p))

    # Sums of 5 terms of size O(1).
    np.testing.assert_allclose(gradient(mean_of("k1")), 0, atol=64 * U)
    np.testing.assert_allclose(gradient(mean_of("k2")), gradient(forward), atol=64 * U)
    np.testing.assert_allclose(gradient(mean_of("k3")), gradient(backward), atol=64 * U)
    # The three are really different.
    assert np.abs(gradient(forward) - gradient(backward)).max() > 1e-2


def k3_at_400_digits(x):
    with mpmath.workdps(400):
        return float(mpmath.expm1(mpmath.mpf(float(x))) - mpmath.mpf(float(x)))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("size", [1e-150, 1e-30, 1e-16, 1e-8, 1e-4, 0.1, 0.59999, 0.6, 0.60001, 1.0, 1.5, 5.0, 700.0])
def test_k3_keeps_its_digits(size, sign):
    estimate = estimation.kl_estimators([0.0], [sign * size])
    # Series: 3 roundings and 18 damped ones; direct form: expm1(x) − x amplifies by at most 4 at |x| = 0.6.
    assert estimate.k3[0] == pytest.approx(k3_at_400_digits(sign * size), rel=8 * U, abs=0)
    assert estimate.k1[0] == -sign * size
    assert estimate.k2[0] == size**2 / 2


def test_k3_keeps_its_digits_in_float32():
    x = np.float32([1e-8, -1e-6, 1e-3, -0.3, 0.7])
    k3 = estimation.kl_estimators(np.zeros(5, np.float32), x).k3
    assert k3.dtype == np.float32
    np.testing.assert_allclose(k3, [k3_at_400_digits(v) for v in x], rtol=8 * 2.0**-24)


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=20))
def test_k3_is_never_negative(log_ratio):
    k3 = estimation.kl_estimators(np.zeros(len(log_ratio)), log_ratio).k3
    assert (k3 >= 0).all()
    assert (k3[np.abs(log_ratio) > 1e-150] > 0).all()


@given(st.integers(0, 10**6), st.floats(1e-12, 1.0))
def test_k2_and_k3_agree_to_second_order(seed, size):
    """k3 − k2 = x³/6 + …: the remainder of the exponential is at most |x|³ e^|x| / 6."""
    x = size * np.random.default_rng(seed).uniform(-1, 1, 5)
    _, k2, k3 = estimation.kl_estimators(np.zeros(5), x)
    assert (np.abs(k3 - k2) <= np.abs(x) ** 3 * np.exp(np.abs(x)) / 6 + 8 * U * k2).all()


# ── importance sampling ──────────────────────────────────────────────────────────────────────────


def test_importance_sampling_by_enumeration():
    """Every outcome as a row, weighing q: Σ_a q (p/q) y = Σ_a p y."""
    y = np.array([3.0, -1.0, 5.0, 0.5])
    log_ratio = np.log(NEW / OLD)
    expected = np.dot(NEW, y)
    for mean in (estimation.importance_sampling_mean, estimation.self_normalized_mean):
        assert mean(log_ratio, y, weights=OLD) == pytest.approx(expected, abs=32 * U * np.dot(NEW, np.abs(y)))
    assert estimation.importance_sampling_mean(log_ratio, np.ones(4), weights=OLD) == pytest.approx(1, abs=32 * U)


def test_the_ordinary_estimate_is_unbiased_and_the_self_normalised_is_not():
    """All 4² samples of size 2, each with its probability under q."""
    y = np.array([3.0, -1.0, 5.0, 0.5])
    log_ratio = np.log(NEW / OLD)
    ordinary = normalized = 0.0
    for i, j in np.ndindex(4, 4):
        pair, probability = [i, j], OLD[i] * OLD[j]
        ordinary += probability * estimation.importance_sampling_mean(log_ratio[pair], y[pair])
        normalized += probability * estimation.self_normalized_mean(log_ratio[pair], y[pair])
    assert ordinary == pytest.approx(np.dot(NEW, y), abs=64 * U)
    assert abs(normalized - np.dot(NEW, y)) > 0.1


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(-1000, 1000))
def test_the_self_normalised_estimate_is_a_mean_and_ignores_a_common_factor(seed, B, shift):
    generator = np.random.default_rng(seed)
    log_ratio = np.round(generator.normal(size=B) * 2**20) / 2**20
    y = generator.normal(size=B)
    value = estimation.self_normalized_mean(log_ratio, y)
    assert y.min() - 16 * U <= value <= y.max() + 16 * U * np.abs(y).max()
    # The shift is exact in these dyadics, and so are the differences to the largest.
    assert estimation.self_normalized_mean(log_ratio + shift, y) == value
    assert estimation.self_normalized_mean(log_ratio, np.full(B, 2.5)) == pytest.approx(2.5, rel=16 * U, abs=0)


def test_rows_without_weight_do_not_matter():
    value = estimation.self_normalized_mean([5000.0, 0.0, 0.0], [7.0, 1.0, 2.0], weights=[0.0, 0.5, 0.5])
    assert value == 1.5


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(-1000, 1000), st.floats(0, 20))
def test_the_effective_sample_size_lies_between_one_and_the_number_of_samples(seed, B, shift, scale):
    log_ratio = np.round(scale * np.random.default_rng(seed).normal(size=B) * 2**20) / 2**20
    size = estimation.effective_sample_size(log_ratio)
    assert 1 - 16 * U <= size <= B * (1 + 16 * U)
    assert estimation.effective_sample_size(log_ratio + shift) == size


def test_the_effective_sample_size_in_closed_form():
    assert estimation.effective_sample_size(np.full(7, 900.0)) == 7
    assert estimation.effective_sample_size([0.0, -900.0, -900.0]) == 1
    # Ratios 1, 2, 3: 36/14.
    assert estimation.effective_sample_size(np.log([1.0, 2.0, 3.0])) == pytest.approx(36 / 14, rel=16 * U, abs=0)


@given(st.integers(0, 10**6), st.integers(2, 20))
def test_the_effective_sample_size_is_that_of_the_variance_of_the_ratios(seed, B):
    """B / (1 + cv²), with NumPy's mean and variance."""
    log_ratio = np.random.default_rng(seed).normal(size=B)
    r = np.exp(log_ratio)
    expected = B / (1 + r.var() / r.mean() ** 2)
    assert estimation.effective_sample_size(log_ratio) == pytest.approx(expected, rel=64 * U, abs=0)


# ── types, extremes, bad input ───────────────────────────────────────────────────────────────────


def every_door(cast):
    """Each function on the same seven steps, as name → result."""
    generator = np.random.default_rng(9)
    r, V, V_next = (cast(v) for v in generator.normal(size=(3, 7)))
    ended, cut = np.arange(7) == 2, np.arange(7) == 4
    advantages, targets = estimation.gae(r, V, V_next, ended, cut, 0.9, 0.8)
    k1, k2, k3 = estimation.kl_estimators(r, V)
    return {
        "discounted_returns": estimation.discounted_returns(r, V_next, ended, cut, 0.9),
        "td_errors": estimation.td_errors(r, V, V_next, ended, 0.9),
        "advantages": advantages,
        "value_targets": targets,
        "gae_rollout": estimation.gae_rollout(r, V, ended, V_next[-1], 0.9, 0.8).advantages,
        "normalize_advantages": estimation.normalize_advantages(r, ddof=1, epsilon=0.01),
        "explained_variance": estimation.explained_variance(r, V),
        "k1": k1,
        "k2": k2,
        "k3": k3,
        "approximate_kl": estimation.approximate_kl(r, V),
        "importance_sampling_mean": estimation.importance_sampling_mean(r, V),
        "self_normalized_mean": estimation.self_normalized_mean(r, V),
        "effective_sample_size": estimation.effective_sample_size(r),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_the_type_of_the_arguments_is_the_type_of_the_result(dtype):
    reference = every_door(lambda v: v.astype(np.float32).astype(np.longdouble))
    for name, result in every_door(lambda v: v.astype(np.float32).astype(dtype)).items():
        assert np.asarray(result).dtype == dtype, name
        # Numbers below 16 from 7 float32-exact rows: 64 roundings of the type are ample.
        error = np.abs(np.asarray(result) - reference[name])
        assert np.max(error) <= 16 * 64 * np.finfo(dtype).eps, name


@pytest.mark.parametrize("name", ["normalize_advantages", "explained_variance", "self_normalized_mean"])
def test_what_is_divided_is_still_analytic(name):
    """A complex step agrees with a central difference, so nothing took an absolute value on the way."""
    x = np.array([0.5, -1.25, 2.0, 0.25])
    other = np.array([1.0, 0.0, -0.5, 3.0])
    function = {
        "normalize_advantages": lambda x: estimation.normalize_advantages(x)[0],
        "explained_variance": lambda x: estimation.explained_variance(other + 0 * x, x),
        "self_normalized_mean": lambda x: estimation.self_normalized_mean(x, other),
    }[name]
    for unit in np.eye(4):
        numerical = (function(x + 2.0**-17 * unit) - function(x - 2.0**-17 * unit)) / 2.0**-16
        # Truncation |f'''| 2⁻³⁴/6 with |f'''| < 2⁶, rounding 2⁶ U·2¹⁶.
        assert np.imag(function(x + 1e-100j * unit)) / 1e-100 == pytest.approx(numerical, abs=2.0**-27)


@pytest.mark.parametrize("log_ratio", [-1e3, -1e5, -1e150])
def test_a_vanishing_ratio_is_zero(log_ratio):
    assert estimation.importance_sampling_mean([log_ratio], [2.0]) == 0
    assert estimation.self_normalized_mean([log_ratio, 0.0], [9.0, 2.0]) == 2
    assert estimation.effective_sample_size([log_ratio, 0.0]) == 1
    assert estimation.kl_estimators([0.0], [log_ratio]).k3[0] == -log_ratio - 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimation.kl_estimators([0.0], [800.0]), "kl_estimators: overflow .* old_log_prob, new_log_prob"),
        (lambda: estimation.kl_estimators([0.0], [-1e200]), "kl_estimators: overflow"),
        (lambda: estimation.approximate_kl([0.0], [800.0]), "approximate_kl: overflow .* old_log_prob, new_log"),
        (lambda: estimation.importance_sampling_mean([800.0], [0.0]), "importance_sampling_mean: overflow .*log_ratio"),
        (lambda: estimation.discounted_returns([1e308] * 2, [0.0] * 2, [False] * 2, [False] * 2, 1), "overflow"),
        (lambda: estimation.gae_rollout([1e308], [-1e308], [True], 0.0, 1, 1), "gae_rollout: overflow .* rewards"),
    ],
)
def test_an_overflow_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_estimators_that_need_no_ratio_survive_one_that_overflows():
    assert estimation.approximate_kl([0.0], [800.0], estimator="k1") == -800
    assert estimation.approximate_kl([0.0], [800.0], estimator="k2") == 320000


def gae_with(**changes):
    arguments = {
        "rewards": [1.0, 2.0],
        "values": [0.0, 0.0],
        "next_values": [0.0, 0.0],
        "terminated": [False, True],
        "truncated": [False, False],
        "gamma": 0.9,
        "gae_lambda": 0.9,
    }
    return estimation.gae(**(arguments | changes))


@pytest.mark.parametrize("name", ["terminated", "truncated"])
@pytest.mark.parametrize("flags", [[0, 1], [0.0, 1.0], ["no", "yes"], [None, True]])
def test_flags_are_bool_and_nothing_else(name, flags):
    with pytest.raises(ValueError, match=f"^gae: {name} has dtype .*, expected bool"):
        gae_with(**{name: flags})
    with pytest.raises(ValueError, match="^gae_rollout: dones has dtype .*, expected bool"):
        estimation.gae_rollout([1.0, 2.0], [0.0, 0.0], flags, 0.0, 0.9, 0.9)


@pytest.mark.parametrize("name", ["gamma", "gae_lambda"])
@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, np.inf, "0.9", None, [0.9], True])
def test_gamma_and_lambda_lie_between_zero_and_one(name, value):
    with pytest.raises(ValueError, match=f"^gae: {name} is .* expected a (finite )?number >= 0 and <= 1"):
        gae_with(**{name: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gae_with(values=[0.0]), r"gae: values has shape \(1,\), expected \(T,\) where T = 2"),
        (lambda: gae_with(rewards=[[1.0, 2.0]]), r"gae: values has shape \(2,\), expected \(T, E\)"),
        (lambda: gae_with(rewards=[[1.0], [1.0, 2.0]]), "gae: rewards is ragged"),
        (lambda: gae_with(rewards=[1.0, np.nan]), "gae: rewards holds NaN"),
        (lambda: gae_with(rewards=[]), "gae: rewards has shape .* it is empty"),
        (lambda: gae_with(rewards=3.0), r"gae: rewards has shape \(\), expected \(T, E\)"),
        (
            lambda: estimation.gae_rollout([1.0], [0.0], [True], [0.0], 0.9, 0.9),
            r"gae_rollout: last_values has shape \(1,\), expected \(\)",
        ),
        (
            lambda: estimation.gae_rollout([[1.0, 1.0]], [[0.0, 0.0]], [[True, True]], [0.0], 0.9, 0.9),
            r"gae_rollout: last_values has shape \(1,\), expected \(E,\) where E = 2",
        ),
        (
            lambda: estimation.discounted_returns([1.0], [0.0], [1], [False], 0.9),
            "discounted_returns: terminated has dtype int64, expected bool",
        ),
        (lambda: estimation.td_errors([1.0], [0.0], [0.0], [False], 2.0), "td_errors: gamma is 2.0"),
        (lambda: estimation.normalize_advantages([1.0], ddof=1), "ddof is 1, expected less than .* 1"),
        (lambda: estimation.normalize_advantages([1.0, 2.0], form="rsqrt"), "form is 'rsqrt'"),
        (
            lambda: estimation.gae_rollout([1.0], [0.0], [False], 0.0, 1.0, 1.0, value_target="td"),
            "gae_rollout: value_target is 'td'",
        ),
        (lambda: estimation.normalize_advantages([1.0]), "standard deviation 0"),
        (lambda: estimation.normalize_advantages([1.0, 2.0], ddof=-1), "ddof is -1"),
        (lambda: estimation.normalize_advantages([1.0, 2.0], ddof=0.5), "ddof is 0.5"),
        (lambda: estimation.normalize_advantages([1.0, 2.0], epsilon=-1e-8), "epsilon is -1e-08"),
        (lambda: estimation.normalize_advantages([[1.0], [2.0, 3.0]]), "advantages is ragged"),
        (lambda: estimation.normalize_advantages([]), "it is empty"),
        (lambda: estimation.explained_variance([1.0], [1.0, 2.0]), "targets has shape"),
        (lambda: estimation.kl_estimators([0.0], [0.0, 0.0]), "new_log_prob has shape"),
        (lambda: estimation.kl_estimators([0.0], [np.inf]), "new_log_prob holds NaN or infinity"),
        (lambda: estimation.approximate_kl([0.0], [0.0], estimator="k4"), "estimator is 'k4'"),
        (lambda: estimation.approximate_kl([0.0], [0.0], weights=[2.0]), "approximate_kl: weights sum to"),
        (lambda: estimation.importance_sampling_mean([0.0], [0.0, 1.0]), "values has shape"),
        (lambda: estimation.self_normalized_mean([0.0], [1.0], weights=[-1.0]), "weights has a negative"),
        (lambda: estimation.effective_sample_size([[0.0]]), r"log_ratio has shape \(1, 1\), expected \(B,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_arguments_are_not_changed():
    arrays = rollout(8, (6, 2))
    copies = [array.copy() for array in arrays]
    estimation.gae(*arrays, 0.9, 0.9)
    rewards, _, next_values, terminated, truncated = arrays
    estimation.discounted_returns(rewards, next_values, terminated, truncated, 0.9)
    estimation.normalize_advantages(rewards)
    for before, after in zip(copies, arrays, strict=True):
        np.testing.assert_array_equal(before, after)
