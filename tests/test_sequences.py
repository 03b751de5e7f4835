"""Sequences of tokens: weights in exact rationals, objectives sequence by sequence, gradients by complex step, what the
penalties' gradients estimate by enumeration of tokens and of sequences, and padding that nothing reads.

Tolerances: U is the unit roundoff of float64.  A term costs at most 8 roundings of what it is made of, its weight one,
and the sum of the ≤ 20 terms here at most 8; two routes compared differ by twice that, less than 40 U Σ|w x|.
"""

import itertools
import statistics
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refpg import estimation, sequences, surrogate

U = np.finfo(float).eps / 2
CLIP, CLIP_HIGH = 3 / 16, 5 / 16
LEVELS = ("token", "sequence")
ESTIMATORS = ("k1", "k2", "k3")
AGGREGATIONS = [
    {"aggregation": name} | ({"constant": 8.0} if name == "token_sum_over_constant" else {})
    for name in sequences.AGGREGATIONS
]
by_name = pytest.mark.parametrize("how", AGGREGATIONS, ids=lambda how: how["aggregation"])


def batch(seed, N=4, T=5, scale=0.4):
    """Log-probabilities, advantages and a mask with holes, of N sequences; all lengths occur."""
    generator = np.random.default_rng(seed)
    old = generator.normal(-1.0, 1.0, (N, T))
    new, reference = (old + generator.normal(0.0, scale, (N, T)) for _ in range(2))
    mask = generator.random((N, T)) < 0.6
    mask[np.arange(N), generator.integers(0, T, N)] = True
    return old, new, reference, generator.normal(0.0, 1.5, (N, T)), mask


batches = st.builds(batch, st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 5))


def complex_step(function, x):
    """The gradient of a real-analytic function of an array; no subtraction, so exact to rounding."""
    h, gradient = 1e-100, np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape, complex)
        step[place] = 1j * h
        gradient[place] = np.imag(function(x + step)) / h
    return gradient


def weight(how, mask, i):
    """The weight of a token of sequence i, from the definition, as a rational."""
    N, lengths = len(mask), [int(row.sum()) for row in mask]
    return {
        "token_mean": Fraction(1, sum(lengths)),
        "sequence_mean_token_mean": Fraction(1, N * lengths[i]),
        "sequence_mean_token_sum": Fraction(1, N),
        "token_sum_over_constant": Fraction(1, 8 * N),
    }[how["aggregation"]]


# ── aggregation ──────────────────────────────────────────────────────────────────────────────────


@by_name
@given(batches)
def test_an_aggregate_is_the_sum_of_weights_times_values(how, drawn):
    *_, x, mask = drawn
    terms = [weight(how, mask, i) * Fraction(float(x[i, t])) for i, t in np.argwhere(mask)]
    found = sequences.masked_aggregate(x, mask, **how)
    # A weight is rounded once, a product once; a pairwise sum of at most 20 terms adds at most 20.
    assert abs(Fraction(float(found)) - sum(terms)) <= 22 * U * float(sum(map(abs, terms)))


def test_equal_lengths_make_the_aggregations_multiples_of_each_other():
    x, mask = np.arange(12.0).reshape(3, 4), np.array([[True, False, True, False]] * 3)
    values = [sequences.masked_aggregate(x, mask, **how) for how in AGGREGATIONS]
    np.testing.assert_allclose(values, 5.0 * np.array([1, 1, 2, 2 / 8]), rtol=4 * U)  # of 0 2 4 6 8 10


def test_unequal_lengths_tell_the_two_means_apart():
    x, mask = [[8.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[True, False, False], [True, True, True]]
    assert [float(sequences.masked_aggregate(x, mask, **how)) for how in AGGREGATIONS] == [2.0, 4.0, 4.0, 0.5]


# ── clipped objective ────────────────────────────────────────────────────────────────────────────


def clipped_by_definition(old, new, A, mask, how, level):
    """One token after the other at 40 digits, and the sum of the sizes of the terms."""
    with mpmath.workdps(40):
        total, size = mpmath.mpf(0), 0.0
        for i, t in np.argwhere(mask):
            own = [t] if level == "token" else np.flatnonzero(mask[i])
            r = mpmath.exp(sum(mpmath.mpf(new[i, k]) - mpmath.mpf(old[i, k]) for k in own) / len(own))
            term = min(r * A[i, t], min(max(r, 1 - CLIP), 1 + CLIP_HIGH) * A[i, t])
            w = weight(how, mask, i)
            total += term * w.numerator / w.denominator
            size += float(w) * float(abs(r * A[i, t]))
        return float(total), size


@by_name
@pytest.mark.parametrize("level", LEVELS)
@given(batches)
def test_the_clipped_objective_token_by_token(how, level, drawn):
    old, new, _, A, mask = drawn
    expected, size = clipped_by_definition(old, new, A, mask, how, level)
    found = sequences.token_clipped_objective(old, new, A, mask, CLIP, clip_high=CLIP_HIGH, level=level, **how)
    # |ℓ| ≤ 8 is rounded with its terms: another 8 roundings of r.
    assert abs(found - expected) <= 60 * U * size


@by_name
@pytest.mark.parametrize("level", LEVELS)
@given(batches)
def test_the_clipped_gradient_is_the_complex_step(how, level, drawn):
    old, new, _, A, mask = drawn
    chosen = {"clip_high": CLIP_HIGH, "level": level} | how
    gradient = sequences.token_clipped_objective_gradient(old, new, A, mask, CLIP, **chosen)
    numerical = complex_step(
        lambda x: sequences.token_clipped_objective(old, x, A, mask, CLIP, **chosen), new
    )
    # The slopes of a sequence may cancel: sizes are those of the terms.
    size = np.abs(gradient) + np.max(np.exp(np.abs(new - old)[mask])) * np.abs(A * mask).max() * max(
        float(weight(how, mask, i)) for i in range(len(mask))
    )
    assert (np.abs(gradient - numerical) <= 40 * U * size).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("clip_high", [None, CLIP_HIGH])
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_one_token_per_sequence_is_the_objective_of_rows(level, clip_high, seed, N):
    """Bit for bit, wherever the token stands: the same operations in the same order."""
    old, new, _, A, _ = batch(seed, N, 3)
    place = np.random.default_rng(seed).integers(0, 3, N)
    mask = np.arange(3) == place[:, None]
    rows = [array[mask] for array in (old, new, A)]
    expected = surrogate.clipped_objective(*rows, CLIP, clip_high=clip_high)
    slopes = surrogate.clipped_objective_gradient(*rows, CLIP, clip_high=clip_high)
    for how in AGGREGATIONS[:3]:
        chosen = {"clip_high": clip_high, "level": level} | how
        assert sequences.token_clipped_objective(old, new, A, mask, CLIP, **chosen) == expected
        gradient = sequences.token_clipped_objective_gradient(old, new, A, mask, CLIP, **chosen)
        np.testing.assert_array_equal(gradient[mask], slopes)


@pytest.mark.parametrize(("A", "end"), [(1.0, CLIP), (-1.0, -CLIP)])
@pytest.mark.parametrize("level", LEVELS)
def test_at_a_kink_the_gradient_is_that_of_the_unclipped_term(A, end, level):
    """And one floating-point number further out, of every token, it is gone."""
    edge = np.log1p(end)
    mask, advantages = [[True, True]], [[A, A]]
    at = sequences.token_clipped_objective_gradient(np.zeros((1, 2)), [[edge] * 2], advantages, mask, CLIP, level=level)
    np.testing.assert_allclose(at, [[(1 + end) * A / 2] * 2], rtol=4 * U)
    beyond = np.nextafter(edge, np.inf * end)
    out = sequences.token_clipped_objective_gradient(
        np.zeros((1, 2)), [[beyond] * 2], advantages, mask, CLIP, level=level
    )
    np.testing.assert_array_equal(out, [[0.0, 0.0]])


def test_a_sequence_is_clipped_by_its_geometric_mean():
    """Ratios 4, 1, ¼·(1 + ε)³·c: each token is outside the window, the sequence inside or outside with c."""
    old, mask, A = np.zeros((1, 3)), np.ones((1, 3), bool), np.ones((1, 3))
    for c, clipped in ((0.99, False), (1.01, True)):
        ratios = np.array([[4.0, 1.0, (1 + CLIP) ** 3 * c / 4]])
        gradient = sequences.token_clipped_objective_gradient(
            old, np.log(ratios), A, mask, CLIP, level="sequence"
        )
        assert (gradient == 0).all() == clipped
        value = sequences.token_clipped_objective(old, np.log(ratios), A, mask, CLIP, level="sequence")
        assert value == pytest.approx((1 + CLIP) * min(1, c ** (1 / 3)), rel=16 * U)


@by_name
def test_the_true_gradient_is_that_of_gspo_token_where_the_advantage_is_constant_alone(how):
    """GSPO's stop-gradient form is w s A, token by token."""
    old, new, _, A, mask = batch(3, scale=0.02)
    for advantages, same in ((A, False), (np.broadcast_to(A[:, :1], A.shape), True)):
        found = sequences.token_clipped_objective_gradient(old, new, advantages, mask, 0.5, level="sequence", **how)
        for i in range(len(mask)):
            s = np.exp((new - old)[i, mask[i]].mean())
            stopped = float(weight(how, mask, i)) * s * advantages[i] * mask[i]
            # The sums over the sequence agree in any case: sequences are pushed alike, tokens in them are not.
            assert found[i].sum() == pytest.approx(stopped.sum(), rel=1e3 * U)
            assert np.allclose(found[i], stopped, rtol=1e3 * U, atol=0) == (same or mask[i].sum() == 1)


# ── penalty ──────────────────────────────────────────────────────────────────────────────────────


@by_name
@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(batches)
def test_the_penalty_gradient_is_the_complex_step(how, estimator, drawn):
    _, new, reference, _, mask = drawn
    chosen = {"estimator": estimator} | how
    gradient = sequences.token_kl_penalty_gradient(new, reference, mask, **chosen)
    numerical = complex_step(lambda x: sequences.token_kl_penalty(x, reference, mask, **chosen), new)
    # k3 for small d is a series, of 16 terms and 3 roundings each, and its derivative another: 100 roundings of |d|.
    np.testing.assert_allclose(gradient, numerical, rtol=100 * U, atol=0)


@by_name
@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(batches)
def test_the_penalty_is_the_weighted_sum_of_the_row_estimators(how, estimator, drawn):
    """With the policy as the one that drew: KL(policy ‖ reference)."""
    _, new, reference, _, mask = drawn
    rows = getattr(estimation.kl_estimators(new[mask], reference[mask]), estimator)
    w = np.array([float(weight(how, mask, i)) for i, _ in np.argwhere(mask)])
    found = sequences.token_kl_penalty(new, reference, mask, estimator=estimator, **how)
    assert abs(found - np.sum(w * rows)) <= 4 * U * np.sum(w * np.abs(rows)) * len(rows)


def softmax(logits):
    """Analytic, so that a complex step goes through it; the reference's largest logit is 0."""
    weights = np.exp(logits)
    return weights / weights.sum(axis=-1, keepdims=True)


# Probabilities in eighths: every token is a row as often as it is drawn of eight, so that a mean is an expectation.
EIGHTHS = np.array([4, 2, 1, 1])
DRAWN = np.repeat(np.arange(4), EIGHTHS)
REFERENCE = np.array([0.125, 0.25, 0.5, 0.125])


def kl(p, q):
    return np.sum(p * (np.log(p) - np.log(q)))


def test_what_the_penalties_estimate_by_enumeration_of_tokens():
    """E k1 = E k3 = KL(π ‖ ref) and E k2 is something else."""
    log_p, log_ref = (np.log(p)[DRAWN][:, None] for p in (EIGHTHS / 8, REFERENCE))
    k1, k2, k3 = (
        sequences.token_kl_penalty(log_p, log_ref, np.ones((8, 1), bool), estimator=one) for one in ESTIMATORS
    )
    exact = kl(EIGHTHS / 8, REFERENCE)
    assert k1 == pytest.approx(exact, rel=40 * U)
    assert k3 == pytest.approx(exact, rel=40 * U)
    assert abs(k2 / exact - 1) > 0.05


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_the_gradients_of_the_penalties_estimate_by_enumeration_of_tokens(estimator):
    """E ∂k1 = 0, E ∂k2 = ∇KL(π ‖ ref), E ∂k3 = ∇KL(ref ‖ π), in the logits of π."""
    logits = np.log(EIGHTHS / 8)
    log_p, log_ref = (np.log(p)[DRAWN][:, None] for p in (EIGHTHS / 8, REFERENCE))
    slopes = sequences.token_kl_penalty_gradient(log_p, log_ref, np.ones((8, 1), bool), estimator=estimator)
    scores = np.eye(4)[DRAWN] - EIGHTHS / 8  # ∂log π(a)/∂logits
    of = {
        "k1": lambda z: 0 * z[0],
        "k2": lambda z: kl(softmax(z), REFERENCE),
        "k3": lambda z: kl(REFERENCE, softmax(z)),
    }
    np.testing.assert_allclose(slopes[:, 0] @ scores, complex_step(of[estimator], logits), atol=40 * U)
    others = [complex_step(one, logits) for name, one in of.items() if name != estimator]
    assert all(np.abs(slopes[:, 0] @ scores - other).max() > 0.05 for other in others)


def two_tokens():
    """All sequences of two tokens of a policy whose second token depends on the first, as often as of 16 are drawn.

    Half of the sequences that begin with 1 end there: their second token is padding.
    """
    logits = {(): np.log([0.75, 0.25]), (0,): np.log([0.5, 0.5]), (1,): np.log([0.25, 0.75])}
    reference = {(): np.log([0.5, 0.5]), (0,): np.log([0.125, 0.875]), (1,): np.log([0.5, 0.5])}
    drawn = [(0, 0)] * 6 + [(0, 1)] * 6 + [(1, 0)] * 1 + [(1, 1)] * 3
    return logits, reference, drawn


def test_a_penalty_in_the_reward_has_the_gradient_of_the_kl_of_whole_sequences():
    """REINFORCE with `token_rewards`: E[Σ_t r_t ∇log π(y)] = ∇(E score − β KL(π(y) ‖ ref(y)))."""
    logits, reference, drawn = two_tokens()
    score, beta = {(0, 0): 1.0, (0, 1): -2.0, (1, 0): 3.0, (1, 1): 0.5}, 0.75
    places = {(): 0, (0,): 2, (1,): 4}

    def log_prob(table, y):
        return [np.log(softmax(table[()]))[y[0]], np.log(softmax(table[y[:1]]))[y[1]]]

    rewards = sequences.token_rewards(
        [score[y] for y in drawn],
        [log_prob(logits, y) for y in drawn],
        [log_prob(reference, y) for y in drawn],
        np.ones((16, 2), bool),
        beta,
    )
    gradient = np.zeros(6)
    for y, total in zip(drawn, rewards.sum(axis=1), strict=True):
        for before, token in (((), y[0]), (y[:1], y[1])):
            place = slice(places[before], places[before] + 2)
            gradient[place] += total / 16 * (np.eye(2)[token] - softmax(logits[before]))

    def objective(z):
        table = {before: z[place : place + 2] for before, place in places.items()}
        value = 0.0
        for y in itertools.product((0, 1), repeat=2):
            log_p = sum(log_prob(table, y))
            value = value + np.exp(log_p) * (score[y] - beta * (log_p - sum(log_prob(reference, y))))
        return value

    exact = complex_step(objective, np.concatenate([logits[before] for before in places]))
    np.testing.assert_allclose(gradient, exact, atol=100 * U)


@pytest.mark.parametrize(("estimator", "forwards"), [("k2", True), ("k3", False)])
def test_in_a_sequence_each_token_has_the_gradient_given_those_before_it(estimator, forwards):
    """Held fixed, what was drawn before is not moved by the penalty: the sum over states visited of their ∇KL."""
    logits, reference, drawn = two_tokens()
    prefixes = [((), y[:1]) for y in drawn]
    log_p, log_ref = (
        [[np.log(softmax(table[before]))[y[t]] for t, before in enumerate(both)]
         for y, both in zip(drawn, prefixes, strict=True)]
        for table in (logits, reference)
    )  # fmt: skip
    slopes = sequences.token_kl_penalty_gradient(
        log_p, log_ref, np.ones((16, 2), bool), estimator=estimator, aggregation="sequence_mean_token_sum"
    )
    for before, visits in (((), 1.0), ((0,), 0.75), ((1,), 0.25)):
        ref = softmax(reference[before])
        exact = complex_step(
            lambda z, ref=ref: kl(softmax(z), ref) if forwards else kl(ref, softmax(z)), logits[before]
        )
        found = sum(
            slopes[n, t] * (np.eye(2)[y[t]] - softmax(logits[before]))
            for n, y in enumerate(drawn)
            for t in (0, 1)
            if prefixes[n][t] == before
        )
        np.testing.assert_allclose(found, visits * exact, atol=100 * U)


def test_k3_keeps_its_digits_near_the_reference():
    d, mask = np.array([[1e-9, -1e-9]]), np.ones((1, 2), bool)
    with mpmath.workdps(60):
        exact = sum(mpmath.exp(-mpmath.mpf(x)) - 1 + mpmath.mpf(x) for x in d[0]) / 2
    assert sequences.token_kl_penalty(d, 0 * d, mask) == pytest.approx(float(exact), rel=8 * U)
    gradient = sequences.token_kl_penalty_gradient(d, 0 * d, mask)
    np.testing.assert_allclose(gradient, [[float(-mpmath.expm1(-x)) / 2 for x in d[0]]], rtol=8 * U)


# ── the objective of sequences ───────────────────────────────────────────────────────────────────


@by_name
@pytest.mark.parametrize(("level", "estimator"), list(itertools.product(LEVELS, ESTIMATORS)))
def test_the_objective_is_the_clipped_one_less_the_penalty(how, level, estimator):
    old, new, reference, A, mask = batch(11)
    beta = 0.375
    tokens = np.broadcast_to(A[:, :1], A.shape)
    chosen = {"clip_high": CLIP_HIGH, "level": level} | how
    found = sequences.sequence_objective(
        old, new, reference, A[:, 0], mask, CLIP, beta, estimator=estimator, **chosen
    )
    parts = (
        sequences.token_clipped_objective(old, new, tokens, mask, CLIP, **chosen),
        beta * sequences.token_kl_penalty(new, reference, mask, estimator=estimator, **how),
    )
    assert abs(found - (parts[0] - parts[1])) <= 40 * U * (abs(A).max() + beta) * 4
    gradient = sequences.sequence_objective_gradient(
        old, new, reference, A[:, 0], mask, CLIP, beta, estimator=estimator, **chosen
    )
    rise = sequences.token_clipped_objective_gradient(old, new, tokens, mask, CLIP, **chosen)
    pull = beta * sequences.token_kl_penalty_gradient(new, reference, mask, estimator=estimator, **how)
    np.testing.assert_allclose(gradient, rise - pull, rtol=0, atol=4 * U * (np.abs(rise) + np.abs(pull)).max())


# ── padding ──────────────────────────────────────────────────────────────────────────────────────


def every_door(old, new, reference, A, mask, order=None):
    """Every function of an (N, T) array, under every convention; one number per sequence moves with ``order``."""
    numbers = np.arange(len(mask)).astype(old.dtype)[slice(None) if order is None else order]
    for how in AGGREGATIONS:
        yield f"aggregate {how}", sequences.masked_aggregate(A, mask, **how)
        for level in LEVELS:
            chosen = (old, new, A, mask, CLIP)
            yield f"clipped {level} {how}", sequences.token_clipped_objective(*chosen, level=level, **how)
            yield f"slopes {level} {how}", sequences.token_clipped_objective_gradient(*chosen, level=level, **how)
        for one in ESTIMATORS:
            yield f"{one} {how}", sequences.token_kl_penalty(new, reference, mask, estimator=one, **how)
            yield f"∂{one} {how}", sequences.token_kl_penalty_gradient(new, reference, mask, estimator=one, **how)
        both = (old, new, reference, numbers, mask, CLIP, 0.5)
        yield f"objective {how}", sequences.sequence_objective(*both, **how)
        yield f"its slopes {how}", sequences.sequence_objective_gradient(*both, **how)
    yield "normalised", sequences.masked_normalize_advantages(A, mask, epsilon=1e-8)
    yield "rewards", sequences.token_rewards(numbers, new, reference, mask, 0.5)


@given(batches)
def test_what_stands_in_the_padding_is_not_read(drawn):
    """Not even numbers whose difference would overflow; and more padding changes no bit."""
    *arrays, mask = drawn
    right = dict(every_door(*arrays, mask))
    for sign, more in ((1, 0), (-1, 3)):
        garbage = [
            np.pad(np.where(mask, array, sign * (-1) ** n * 1e308), ((0, 0), (more, more)), constant_values=1e308)
            for n, array in enumerate(arrays)
        ]
        wider = np.pad(mask, ((0, 0), (more, more)))
        for name, found in every_door(*garbage, wider):
            if np.ndim(found):
                assert (found[~wider] == 0).all(), name
                found = found[:, more : more + mask.shape[1]]
            np.testing.assert_array_equal(found, right[name], err_msg=name)


@given(st.integers(0, 10**6))
def test_sequences_may_change_places(seed):
    *arrays, mask = batch(seed)
    order = np.random.default_rng(seed).permutation(len(mask))
    right = dict(every_door(*arrays, mask))
    A = arrays[3]
    for name, found in every_door(*(array[order] for array in arrays), mask[order], order):
        expected = right[name] if np.ndim(found) == 0 else right[name][order]
        # Another order of at most 20 terms, none above 20 × |A| or the like.
        np.testing.assert_allclose(found, expected, rtol=1e3 * U, atol=1e3 * U * np.abs(A).max(), err_msg=name)


# ── advantages ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("ddof", "deviation"), [(0, statistics.pstdev), (1, statistics.stdev)])
@pytest.mark.parametrize("epsilon", [0.0, 0.25])
def test_advantages_are_normalised_over_the_tokens_that_count(ddof, deviation, epsilon):
    *_, A, mask = batch(5)
    counted = [Fraction(float(one)) for one in A[mask]]
    expected = np.zeros(A.shape)
    expected[mask] = [float((x - sum(counted) / len(counted)) / deviation(counted)) for x in counted]
    sigma = float(deviation(counted))
    found = sequences.masked_normalize_advantages(A, mask, ddof=ddof, epsilon=epsilon)
    right = expected * sigma / (sigma + epsilon)
    np.testing.assert_allclose(found, right, rtol=0, atol=60 * U * np.abs(expected).max())


def test_normalising_with_a_full_mask_is_that_of_a_rollout():
    *_, A, _ = batch(6)
    found = sequences.masked_normalize_advantages(A, np.ones(A.shape, bool), ddof=1, epsilon=1e-8, form="in_root")
    whole = estimation.normalize_advantages(A, ddof=1, epsilon=1e-8, form="in_root")
    np.testing.assert_allclose(found, whole, rtol=8 * U)  # one sum of rows, one of a matrix


REWARDS, GROUP = [3.0, 1.0, -2.0, 0.5, 8.0, 2.0, 0.25], [9, -4, 9, -4, 9, -4, -4]


@pytest.mark.parametrize("scale", ["none", "std"])
@pytest.mark.parametrize("baseline", ["group_mean", "leave_one_out"])
@pytest.mark.parametrize(("ddof", "deviation"), [(0, statistics.pstdev), (1, statistics.stdev)])
def test_group_advantages_in_rationals(scale, baseline, ddof, deviation):
    expected = []
    for i, (r, g) in enumerate(zip(REWARDS, GROUP, strict=True)):
        mates = [Fraction(REWARDS[k]) for k in range(7) if GROUP[k] == g]
        others = [Fraction(REWARDS[k]) for k in range(7) if GROUP[k] == g and k != i]
        compared = mates if baseline == "group_mean" else others
        difference = Fraction(r) - sum(compared) / len(compared)
        expected.append(float(difference) / (1 if scale == "none" else float(deviation(mates))))
    found = sequences.group_advantages(REWARDS, GROUP, baseline=baseline, scale=scale, ddof=ddof)
    # The mean, the deviation and the quotient of at most four numbers.
    np.testing.assert_allclose(found, expected, rtol=0, atol=30 * U * np.abs(expected).max())


@pytest.mark.parametrize("baseline", ["group_mean", "leave_one_out"])
@given(st.lists(st.integers(-64, 64), min_size=6, max_size=6, unique=True), st.integers(-64, 64))
def test_group_advantages_sum_to_zero_and_forget_shift_and_scale(baseline, rewards, shift):
    r, group = np.array(rewards) / 8, np.array([0, 1, 0, 1, 1, 0])
    for scale in ("std", "none"):
        found = sequences.group_advantages(r, group, baseline=baseline, scale=scale)
        for number in (0, 1):
            assert abs(found[group == number].sum()) <= 40 * U * np.abs(found).max()
        shifted = sequences.group_advantages(r + shift / 8 * (group + 1), group, baseline=baseline, scale=scale)
        np.testing.assert_allclose(shifted, found, rtol=0, atol=40 * U * np.abs(found).max())
        scaled = sequences.group_advantages(3 * r, group, baseline=baseline, scale=scale)
        np.testing.assert_allclose(
            scaled, found * (3 if scale == "none" else 1), rtol=0, atol=120 * U * np.abs(found).max()
        )


def test_a_large_common_reward_costs_no_digits():
    """2⁵² + k is exact, and so are its differences: bit for bit the advantages of k."""
    r = np.array(REWARDS) * 4
    for baseline, scale in itertools.product(("group_mean", "leave_one_out"), ("std", "none")):
        near, far = (
            sequences.group_advantages(x, GROUP, baseline=baseline, scale=scale) for x in (r, r + 2.0**52)
        )
        np.testing.assert_array_equal(far, near)


def test_leaving_one_out_is_a_factor():
    own, others = (
        sequences.group_advantages(REWARDS, GROUP, baseline=baseline, scale="none")
        for baseline in ("group_mean", "leave_one_out")
    )
    np.testing.assert_allclose(others, own * np.where(np.array(GROUP) == 9, 3 / 2, 4 / 3), rtol=4 * U)


def test_a_group_is_its_number_wherever_its_members_stand():
    found = sequences.group_advantages(REWARDS, GROUP)
    for number in (9, -4):
        members = np.array(GROUP) == number
        alone = sequences.group_advantages(np.array(REWARDS)[members], np.zeros(members.sum()))
        np.testing.assert_array_equal(found[members], alone)


def test_rewards_that_agree_are_no_advantage():
    """With any ε; without one 0/0 is an error, as of a batch."""
    agree = [1.0, 1.0, 2.0, 4.0], [0, 0, 1, 1]
    np.testing.assert_allclose(sequences.group_advantages(*agree, epsilon=1e-6)[:2], [0, 0], atol=0)
    np.testing.assert_array_equal(sequences.group_advantages(*agree, scale="none"), [0, 0, -1, 1])
    with pytest.raises(ValueError, match="rewards of group 0 has standard deviation 0, expected entries that differ"):
        sequences.group_advantages(*agree)


# ── rewards ──────────────────────────────────────────────────────────────────────────────────────


def test_rewards_in_dyadics():
    """Padding on the right, on the left, and tokens in between that do not count."""
    mask = [[True, True, False], [False, True, True], [True, False, True], [True, False, False]]
    log_prob = -np.arange(12.0).reshape(4, 3)
    reference = log_prob - [[1.0, 2.0, 4.0]]
    found = sequences.token_rewards([16.0, 32.0, 64.0, 128.0], log_prob, reference, mask, 0.5)
    expected = [[-0.5, 15.0, 0.0], [0.0, -1.0, 30.0], [-0.5, 0.0, 62.0], [127.5, 0.0, 0.0]]
    np.testing.assert_array_equal(found, expected)


@given(batches)
def test_the_rewards_of_a_sequence_sum_to_its_score_less_its_log_ratio(drawn):
    _, new, reference, A, mask = drawn
    rewards = sequences.token_rewards(A[:, 0], new, reference, mask, 0.75)
    d = np.where(mask, new - reference, 0)
    size = np.abs(A[:, 0]) + np.abs(d).sum(axis=1)
    assert (np.abs(rewards.sum(axis=1) - (A[:, 0] - 0.75 * d.sum(axis=1))) <= 20 * U * size).all()


# ── types, bad input ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_the_type_of_the_arguments_is_the_type_of_the_result(dtype):
    *arrays, mask = batch(8)
    exact = [array.astype(np.float32) for array in arrays]
    wide = dict(every_door(*(array.astype(np.longdouble) for array in exact), mask))
    for name, found in every_door(*(array.astype(dtype) for array in exact), mask):
        assert found.dtype == dtype, name
        # Values of size O(10), ratios ≤ 4: 200 roundings of the type are ample for all.
        tolerance = 200 * np.finfo(dtype).eps
        np.testing.assert_allclose(found, wide[name], rtol=tolerance, atol=tolerance, err_msg=name)
    r = np.array(REWARDS, dtype)
    found = sequences.group_advantages(r, GROUP, baseline="leave_one_out", scale="none")
    assert found.dtype == dtype
    # 1 − (½ + 2 + ¼)/3, of terms that are twelve times as large.
    assert abs(found[1] - dtype(1) / 12) <= 4 * np.finfo(dtype).eps


Z, ONE, M = [[0.0, 0.0]], [[1.0, 1.0]], [[True, False]]


BAD = [
    (
        lambda: sequences.masked_aggregate(Z, [[True]]),
        r"values has shape \(1, 2\), expected \(N, T\) where T = 1 \(set by mask\)",
    ),
    (lambda: sequences.masked_aggregate(Z, [[1, 0]]), "mask has dtype int64, expected bool"),
    (
        lambda: sequences.masked_aggregate([[1.0], [2.0]], [[True], [False]]),
        "mask has no true entry in sequence 1, expected a token",
    ),
    (
        lambda: sequences.masked_aggregate(Z, M, aggregation="mean"),
        "aggregation is 'mean', expected one of 'token_mean', 'seq",
    ),
    (
        lambda: sequences.masked_aggregate(Z, M, aggregation="token_sum_over_constant"),
        "constant is None, expected a finite number > 0",
    ),
    (
        lambda: sequences.masked_aggregate(Z, M, aggregation="token_sum_over_constant", constant=0.0),
        "constant is 0.0, expected a number > 0",
    ),
    (lambda: sequences.masked_aggregate(Z, M, constant=4.0), "constant is 4.0 with 'token_mean', expected None"),
    (lambda: sequences.masked_aggregate([[np.nan, 0.0]], M), "values holds NaN or infinity"),
    (lambda: sequences.token_clipped_objective(Z, Z, Z, M, 1.0), "clip is 1.0, expected a number > 0 and < 1"),
    (
        lambda: sequences.token_clipped_objective(Z, Z, Z, M, 0.2, level="word"),
        "level is 'word', expected one of 'token', 'sequence'",
    ),
    (lambda: sequences.token_clipped_objective_gradient(Z, [[800.0, 0.0]], Z, M, 0.2), "overflow"),
    (
        lambda: sequences.token_kl_penalty(Z, Z, M, estimator="k4"),
        "estimator is 'k4', expected one of 'k1', 'k2', 'k3'",
    ),
    (lambda: sequences.token_kl_penalty([[-800.0, 0.0]], Z, M), "overflow"),
    (lambda: sequences.token_kl_penalty_gradient([[-800.0, 0.0]], Z, M), "overflow"),
    (
        lambda: sequences.sequence_objective(Z, Z, Z, [1.0, 2.0], M, 0.2, 0.1),
        r"advantages has shape \(2,\), expected \(N,\) where N = 1",
    ),
    (
        lambda: sequences.sequence_objective_gradient(Z, Z, Z, [1.0], M, 0.2, -0.1),
        "kl_penalty is -0.1, expected a number >= 0",
    ),
    (lambda: sequences.token_rewards([1.0], Z, Z, M, -1.0), "kl_penalty is -1.0, expected a number >= 0"),
    (lambda: sequences.token_rewards([1.0], Z, Z, [[False, False]], 1.0), "mask has no true entry in sequence 0"),
    (lambda: sequences.masked_normalize_advantages(Z, [[True, True]]), "advantages has standard deviation 0"),
    (
        lambda: sequences.masked_normalize_advantages(ONE, M, ddof=1),
        "ddof is 1, expected less than the number of advantages, 1",
    ),
    (
        lambda: sequences.group_advantages([1.0], [0], ddof=1),
        "ddof is 1, expected less than the number of rewards of group 0, 1",
    ),
    (
        lambda: sequences.group_advantages([1.0, 2.0, 4.0], [0, 0, 7], baseline="leave_one_out", scale="none"),
        "group has 7 once, expected others to leave it out of",
    ),
    (lambda: sequences.group_advantages([1.0], [0.5]), "group holds non-integer values"),
    (
        lambda: sequences.group_advantages([1.0, 2.0], [0]),
        r"group has shape \(1,\), expected \(N,\) where N = 2 \(set by rewards\)",
    ),
    (
        lambda: sequences.group_advantages([1.0, 2.0], [0, 0], baseline="median"),
        "baseline is 'median', expected one of",
    ),
    (lambda: sequences.group_advantages([1.0, 2.0], [0, 0], scale="max"), "scale is 'max', expected one of"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call, message):
    (function,) = set(call.__code__.co_names) & set(sequences.__all__)
    with pytest.raises(ValueError, match=f"^{function}: {message}"):
        call()


def test_arguments_are_not_changed():
    arrays = batch(2)
    before = [array.copy() for array in arrays]
    dict(every_door(*arrays))
    for array, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, was)
