"""Lower bounds of η: their ingredients in exact rationals, every theorem on random and on adversarial pairs, the
constants at the pairs that attain them, and the false theorems at the pairs that refute them.

Tolerances: U is the unit roundoff of float64.  A gap or a penalty is a sum over S·A ≤ 30 terms, each a product of
factors accurate to 4·S U (`test_mdp`): 1e3 U relative to the size of the terms has room for both.
"""

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mdp import exact, rational

from refpg import bounds
from refpg import mdp as mdps
from refpg.distributions import CATEGORICAL
from refpg.policy import linearize, probability_table, softmax_policy

U = np.finfo(float).eps / 2
THEOREMS = {
    "span": bounds.span_bound,
    "cpo": bounds.cpo_bound,
    "trpo_tv": bounds.trpo_tv_bound,
    "pinsker": bounds.pinsker_bound,
    "trpo_kl": bounds.trpo_kl_bound,
    "cpo_kl": bounds.cpo_kl_bound,
}
CHAIN = ("span", "cpo", "trpo_tv", "pinsker", "trpo_kl")


def drawn(seed, states, actions, discount, concentration, step, sparse):
    """An MDP with two policies, the new one a part ``step`` of the way to an independent one."""
    generator = np.random.default_rng(seed)
    if sparse:
        mdp = mdps.garnet(
            generator, states=states, actions=actions, branching=min(2, states), discount=discount
        )
    else:
        mdp = mdps.random_mdp(
            generator, states=states, actions=actions, discount=discount, concentration=concentration
        )
    old, target = (
        mdps.random_policy(generator, states=states, actions=actions, concentration=concentration) for _ in range(2)
    )
    return mdps.PolicyPair(mdp, old, (1 - step) * old + step * target)


pairs = st.builds(
    drawn,
    seed=st.integers(0, 10**6),
    states=st.integers(1, 6),
    actions=st.integers(2, 5),
    discount=st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 1 - 1e-9]),
    concentration=st.sampled_from([0.05, 0.3, 1.0]),
    step=st.sampled_from([1.0, 0.25, 2.0**-6, 2.0**-20]),
    sparse=st.booleans(),
)


def size(bound):
    """What the parts of a bound are rounded relative to."""
    return abs(bound.gap) + (0 if math.isinf(bound.penalty) else bound.penalty)


# ── divergences ──────────────────────────────────────────────────────────────────────────────────


def test_total_variation_is_the_largest_difference_of_an_event():
    generator = np.random.default_rng(0)
    old, new = (mdps.random_policy(generator, states=5, actions=4) for _ in range(2))
    events = np.array([[bool(n >> a & 1) for a in range(4)] for n in range(16)])
    largest = np.max((new - old) @ events.T, axis=1)
    np.testing.assert_allclose(bounds.total_variation(old, new), largest, rtol=0, atol=8 * U)


@pytest.mark.parametrize("step", [1.0, 2.0**-10, 2.0**-20, 2.0**-23])
def test_kl_keeps_its_digits(step):
    """Rows are multiples of 2⁻³⁰ or 2⁻⁵³, so they sum to 1 exactly and Σ p log(p/q) in 60 digits is the truth."""
    generator = np.random.default_rng(1)
    old, target = (mdps.random_policy(generator, states=6, actions=4) for _ in range(2))
    new = old + step * (target - old)
    assert (rational(new).sum(axis=1) == 1).all()
    got = bounds.kl_divergence(old, new)
    with mpmath.workdps(60):
        for s in range(6):
            row = zip(old[s].tolist(), new[s].tolist(), strict=True)
            truth = mpmath.fsum(mpmath.mpf(p) * mpmath.log(mpmath.mpf(p) / mpmath.mpf(q)) for p, q in row)
            # Each positive term: difference, quotient, log1p, the square in ϕ of it, product; then 4 of them summed.
            assert abs(got[s] - truth) <= 16 * U * truth


def test_kl_is_old_before_new_and_agrees_with_the_family():
    generator = np.random.default_rng(2)
    phi, change = generator.normal(size=(5, 3)), generator.normal(size=(5, 3))

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    old, new = softmax(phi), softmax(phi + change)
    np.testing.assert_allclose(bounds.kl_divergence(old, new), CATEGORICAL.kl(phi, change), rtol=100 * U)
    assert (np.abs(bounds.kl_divergence(old, new) / bounds.kl_divergence(new, old) - 1) > 1e-3).all()


def test_kl_with_excluded_actions():
    old, new = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], [[0.75, 0.25], [1.0, 0.0], [0.0, 1.0]]
    assert bounds.kl_divergence(old, new).tolist() == [pytest.approx(-math.log(0.75), rel=4 * U), math.inf, 0.0]


def test_the_mean_over_states_wants_a_distribution():
    mdp, old, new = mdps.attained_mixture_example(discount=0.75, mixing=0.5)
    at = mdps.evaluate(mdp, old)
    assert bounds.state_mean([2.0, math.inf], [1.0, 0.0]) == 2.0
    assert bounds.state_mean(bounds.total_variation(old, new), at.visitation_distribution) == 0.5
    with pytest.raises(ValueError, match=r"^state_mean: weights sum to .*4.0.*they are not normalised"):
        bounds.state_mean(bounds.total_variation(old, new), at.visitation)


@given(pairs)
def test_pinsker(pair):
    _, old, new = pair
    tv, kl = bounds.total_variation(old, new), bounds.kl_divergence(old, new)
    # TV is made of differences of probabilities; each of them is exact or rounded once, in units of 1.
    assert (tv**2 <= kl / 2 * (1 + 1e-9) + 1e3 * U * tv).all()


# ── the ingredients, exactly ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("discount", [0.5, 1 - 2.0**-10, 1 - 2.0**-40])
@pytest.mark.parametrize("step", [1.0, 2.0**-10, 2.0**-20])
def test_gain_and_gap_are_exact_to_rounding(discount, step):
    generator = np.random.default_rng(3)
    mdp = mdps.random_mdp(generator, states=4, actions=3, discount=discount)
    old, target = (mdps.random_policy(generator, states=4, actions=3) for _ in range(2))
    new = old + step * (target - old)
    before, after = exact(mdp, old), exact(mdp, new)
    L_gain = (before.visitation * ((rational(new) - rational(old)) * before.advantages).sum(axis=1)).sum()
    gap = after.expected_return - before.expected_return - L_gain
    at = bounds.compare(mdp, old, new)
    assert abs(Fraction(at.surrogate_gain) - L_gain) <= 1e3 * U * abs(L_gain)
    assert abs(Fraction(at.gap) - gap) <= 1e3 * U * abs(gap)
    bound = bounds.cpo_bound(mdp, old, new)
    assert bound.gain == at.surrogate_gain + at.gap
    assert bound.new_return == pytest.approx(float(after.expected_return), rel=1e3 * U)
    assert bound.surrogate == pytest.approx(mdps.local_approximation(mdp, old, new), rel=1e3 * U)


@given(pairs)
def test_the_gap_is_of_second_order(pair):
    """∇L = ∇η [TRPO (4)]: halving the step quarters the gap, up to the third order."""
    mdp, old, new = pair
    step = new - old
    gaps = [bounds.compare(mdp, old, old + t * step).gap / t**2 for t in (2.0**-8, 2.0**-9)]
    scale = bounds.cpo_bound(mdp, old, new).penalty
    # The third order is t γ/(1 − γ) of the second; rounding of old + t·step is U of old, over t.
    relative = 2.0**-8 * 4 * mdp.discount / (1 - mdp.discount) + 1e3 * U * 2.0**9 / max(np.abs(step).max(), 1e-300)
    assert abs(gaps[0] - gaps[1]) <= min(relative, 4) * scale


def textbook_penalties(mdp, old, new):
    """The six penalties as the papers print them, from NumPy's solve and plain sums."""
    S, gamma = mdp.states, mdp.discount

    def chain(policy):
        return np.einsum("sa,sat->st", policy, mdp.transition), np.sum(policy * mdp.reward, axis=1)

    P, r = chain(old)
    V = np.linalg.solve(np.eye(S) - gamma * P, r)
    A = mdp.reward + gamma * mdp.transition @ V - V[:, None]
    d = (1 - gamma) * np.linalg.solve(np.eye(S) - gamma * P.T, mdp.start)
    expected = np.sum(new * A, axis=1)
    tv = np.abs(new - old).sum(axis=1) / 2
    kl = np.sum(old * np.log(old / new), axis=1)
    epsilon, epsilon_new = np.abs(A).max(), np.abs(expected).max()
    return {
        "span": (expected.max() - expected.min()) * gamma / (1 - gamma) ** 2 * (d @ tv),
        "cpo": d @ (2 * gamma * epsilon_new / (1 - gamma) * tv) / (1 - gamma),
        "trpo_tv": 4 * epsilon * gamma / (1 - gamma) ** 2 * max(tv) ** 2,
        "pinsker": 2 * epsilon * gamma / (1 - gamma) ** 2 * max(kl),
        "trpo_kl": 4 * epsilon * gamma / (1 - gamma) ** 2 * max(kl),
        "cpo_kl": np.sqrt(2) * gamma * epsilon_new / (1 - gamma) ** 2 * np.sqrt(d @ kl),
    }


def test_penalties_are_those_of_the_papers():
    mdp, old, new = drawn(5, 5, 3, 0.9, 1.0, 0.5, sparse=False)
    expected = textbook_penalties(mdp, old, new)
    shared = bounds.all_bounds(mdp, old, new)
    assert list(shared) == list(expected) == list(THEOREMS)
    for name, bound in THEOREMS.items():
        got = bound(mdp, old, new)
        assert got == shared[name]
        assert got.penalty == pytest.approx(expected[name], rel=1e4 * U)


def test_the_coefficient():
    assert bounds.penalty_coefficient([[0.5, -2.0], [1.0, 0.0]], 0.75) == 4 * 2 * 0.75 / 0.0625
    mdp, old, new = drawn(6, 4, 3, 0.75, 1.0, 1.0, sparse=False)
    at = bounds.compare(mdp, old, new)
    C = bounds.penalty_coefficient(at.advantages, 0.75)
    M = mdps.local_approximation(mdp, old, new) - C * bounds.kl_divergence(old, new).max()
    assert bounds.trpo_kl_bound(mdp, old, new).lower == pytest.approx(M, rel=100 * U)


# ── the theorems ─────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=200)
@given(pairs)
def test_every_bound_holds_on_both_sides(pair):
    for bound in bounds.all_bounds(*pair).values():
        assert bound.penalty >= 0
        assert bound.slack >= -1e3 * U * size(bound)
        assert bound.slack_above >= -1e3 * U * size(bound)


@settings(max_examples=200)
@given(pairs)
def test_dominance(pair):
    penalties = {name: bound.penalty for name, bound in bounds.all_bounds(*pair).items()}
    rounding = 1 + 1e3 * U
    for better, weaker in [*itertools.pairwise(CHAIN), ("cpo", "cpo_kl")]:
        assert penalties[better] <= penalties[weaker] * rounding, (better, weaker)


@given(pairs)
def test_monotonic_improvement(pair):
    """M touches η at the old policy, and whoever raises a minorizer raises η at least as much."""
    mdp, old, new = pair
    for name, bound in bounds.all_bounds(mdp, old, old).items():
        assert bound.penalty == bound.gap == bound.surrogate_gain == bound.slack == 0, name
        assert bound.lower == bound.upper == bound.new_return == bound.old_return
    for bound in bounds.all_bounds(mdp, old, new).values():
        assert bound.gain >= bound.guaranteed_gain - 1e3 * U * (size(bound) + abs(bound.surrogate_gain))


@given(pairs)
def test_a_trust_region_step_loses_little(pair):
    """[CPO Prop. 1]: if L did not fall, the loss is at most √(2δ) γε'/(1 − γ)², δ = E_d KL."""
    mdp, old, new = pair
    at = bounds.compare(mdp, old, new)
    if at.surrogate_gain < 0 or not np.isfinite(at.kl).all():
        return
    delta = bounds.state_mean(at.kl, at.weights)
    epsilon = np.abs(at.expected_advantages).max()
    worst = math.sqrt(2 * delta) * mdp.discount * epsilon / (1 - mdp.discount) ** 2
    bound = bounds.cpo_kl_bound(mdp, old, new)
    assert bound.penalty == pytest.approx(worst, rel=100 * U, abs=1e-300)
    assert bound.gain >= -worst * (1 + 1e3 * U)


@given(pairs, st.sampled_from([0.0, 2.0**-20, 0.125, 0.5, 1.0]))
def test_mixtures(pair, mixing):
    mdp, old, target = pair
    tight = bounds.mixture_bound(mdp, old, target, mixing)
    simple = bounds.simple_mixture_bound(mdp, old, target, mixing)
    assert tight.slack >= -1e3 * U * size(tight)
    assert tight.slack_above >= -1e3 * U * size(tight)
    assert tight.penalty <= simple.penalty * (1 + 8 * U)
    assert tight[:3] == simple[:3]
    at = bounds.compare(mdp, old, target)
    # L is linear in the mixing; what is rounded is (1 − α)π + απ*, by U in each probability.
    rounding = 1e3 * U * np.abs(at.advantages).max() / (1 - mdp.discount)
    assert abs(tight.surrogate_gain - mixing * at.surrogate_gain) <= rounding


def neighbour(generator, rows):
    """Another table of probabilities: each row mixed with a random one."""
    random = generator.dirichlet(np.full(rows.shape[-1], 0.2), size=rows.shape[:-1])
    t = generator.choice([1.0, 0.3, 0.05, 0.01]) * generator.integers(0, 2, size=(*rows.shape[:-1], 1))
    mixed = (1 - t) * rows + t * random
    return mixed / mixed.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("name", CHAIN)
def test_an_adversary_cannot_break_a_bound(name):
    """Hill climbing over MDPs and policies for the largest |gap|/penalty: it climbs, and never past 1."""
    generator = np.random.default_rng([len(name), *name.encode()])
    best, champion = 0.0, None
    for _ in range(500):
        if champion is None:
            P, r = generator.dirichlet(np.full(3, 0.2), size=(3, 2)), generator.normal(size=(3, 2))
            trial = P, r, *generator.dirichlet(np.full(2, 0.5), size=(2, 3))
        else:
            P, r, old, new = champion
            noise = generator.choice([1.0, 0.1]) * generator.normal(size=(3, 2)) * generator.integers(0, 2, size=(3, 2))
            trial = neighbour(generator, P), r + noise, neighbour(generator, old), neighbour(generator, new)
        P, r, old, new = trial
        bound = THEOREMS[name](mdps.MDP(P, r, [1.0, 0.0, 0.0], 0.5), old, new)
        if not 0 < bound.penalty < math.inf:
            continue
        ratio = abs(bound.gap) / bound.penalty
        assert ratio <= 1 + 1e3 * U
        if ratio > best:
            best, champion = ratio, trial
    reached = {"span": 0.4, "cpo": 0.4, "trpo_tv": 0.15, "pinsker": 0.15, "trpo_kl": 0.08}
    assert best > reached[name], best


# ── constants that are attained ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("discount", [0.01, 0.5, 0.99, 1 - 2.0**-40])
@pytest.mark.parametrize("mixing", [1.0, 0.5, 2.0**-10, 2.0**-30])
def test_the_mixture_bound_is_an_equality(discount, mixing):
    mdp, old, new = mdps.attained_mixture_example(discount=discount, mixing=mixing)
    target = np.array([[0.0, 1.0], [0.0, 1.0]])
    bound = bounds.mixture_bound(mdp, old, target, mixing)
    gamma, alpha = Fraction(discount), Fraction(mixing)
    gap = -2 * gamma * alpha**2 / ((1 - gamma) * (1 - gamma * (1 - alpha)))
    assert abs(Fraction(bound.gap) - gap) <= 100 * U * abs(gap)
    assert abs(bound.slack) <= 100 * U * bound.penalty
    np.testing.assert_array_equal(new, (1 - mixing) * old + mixing * target)


@pytest.mark.parametrize("discount", [0.01, 0.5, 0.99])
def test_the_constants_of_cpo_and_of_trpo_6_are_attained_in_the_limit(discount):
    for mixing in (2.0**-10, 2.0**-20, 2.0**-30):
        mdp, old, new = mdps.attained_mixture_example(discount=discount, mixing=mixing)
        expected = (1 - discount) / (1 - discount + discount * mixing)
        target = np.array([[0.0, 1.0], [0.0, 1.0]])
        for bound in (
            bounds.cpo_bound(mdp, old, new),
            bounds.span_bound(mdp, old, new),
            bounds.simple_mixture_bound(mdp, old, target, mixing),
        ):
            assert -bound.gap / bound.penalty == pytest.approx(expected, rel=100 * U)
    assert expected > 1 - 1e-6  # 1.99 for 2 would be false here


@pytest.mark.parametrize("discount", [0.01, 0.5, 0.99])
def test_the_upper_bound_is_attained_as_well(discount):
    mdp, old, new = mdps.attained_mixture_example(discount=discount, mixing=2.0**-30)
    mirrored = mdps.MDP(mdp.transition, -mdp.reward, mdp.start, discount)
    bound = bounds.cpo_bound(mirrored, old, new)
    assert 1 - 1e-6 < bound.gap / bound.penalty <= 1 + 100 * U
    assert bound.slack_above < 1e-6 * bound.penalty


@pytest.mark.parametrize("discount", [0.01, 0.5, 0.99])
def test_the_constant_of_trpos_theorem_is_attained_in_the_limit(discount):
    for shift in (2.0**-3, 2.0**-10, 2.0**-30):
        mdp, old, new = mdps.attained_total_variation_example(discount=discount, shift=shift)
        assert (bounds.total_variation(old, new) == shift).all()
        bound = bounds.trpo_tv_bound(mdp, old, new)
        expected = (1 - discount) / (1 - discount + discount * shift)
        assert -bound.gap / bound.penalty == pytest.approx(expected, rel=100 * U)
        cpo = bounds.cpo_bound(mdp, old, new)
        assert cpo.penalty == pytest.approx(bound.penalty, rel=100 * U)  # ε' = 2αε and E_d TV = α
    assert expected > 1 - 1e-6


# ── not a theorem ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("discount", [1e-3, 0.1, 0.5, 0.9, 0.99, 1 - 1e-6])
@pytest.mark.parametrize("beta", [0.5, 0.1, 1e-2, 1e-3, 1e-8])
def test_the_mean_of_tv_squared_is_no_bound(discount, beta):
    mdp, old, new = mdps.mean_total_variation_counterexample(discount=discount, leaving=beta)
    at = bounds.compare(mdp, old, new)
    gap = -beta * discount / ((1 - discount) * (1 - discount + discount * beta))
    assert at.surrogate_gain == 0
    assert at.gap == pytest.approx(gap, rel=100 * U)
    assert np.abs(at.advantages).max() == 1
    mean = bounds.state_mean(at.total_variation**2, at.weights)
    assert mean == pytest.approx(beta**2, rel=100 * U)
    false_penalty = bounds.penalty_coefficient(at.advantages, discount) * mean
    broken = at.gap < -false_penalty
    assert broken == (4 * beta * (1 - discount + discount * beta) < 1 - discount)
    assert broken or 8 * beta > 1 - discount  # every γ has a β that breaks it
    # What the maximum says is true, at the same pair.
    for name in ("span", "cpo", "trpo_tv"):
        bound = THEOREMS[name](mdp, old, new)
        assert bound.slack >= 0
    assert bounds.trpo_kl_bound(mdp, old, new).penalty == math.inf


def test_the_mean_kl_is_no_bound():
    mdp, old, new = mdps.mean_kl_counterexample()
    at = bounds.compare(mdp, old, new)
    false_penalty = bounds.penalty_coefficient(at.advantages, 0.01) * bounds.state_mean(at.kl, at.weights)
    assert abs(at.surrogate_gain) <= 4 * U
    assert at.gap == pytest.approx(-0.0018, rel=1e-13)
    assert false_penalty == pytest.approx(0.00116, abs=5e-6)
    assert at.surrogate_gain + at.gap < at.surrogate_gain - false_penalty
    for name, bound in bounds.all_bounds(mdp, old, new).items():
        assert bound.slack > 0, name


def test_the_mean_kl_counterexample_belongs_to_small_discounts():
    """At γ = 0.5 the same pair obeys the false bound: one example at one γ decides nothing about another."""
    at = bounds.compare(*mdps.mean_kl_counterexample(discount=0.5))
    assert at.gap > -bounds.penalty_coefficient(at.advantages, 0.5) * bounds.state_mean(at.kl, at.weights)


# ── networks, infinities, errors ─────────────────────────────────────────────────────────────────


def test_a_network_is_judged_by_its_table():
    generator = np.random.default_rng(11)
    mdp = mdps.garnet(generator, states=6, actions=3, branching=3, discount=0.75)
    policy, x = softmax_policy((2, 5, 3)), generator.normal(size=(6, 2))
    theta = generator.normal(size=policy.network.num_parameters)
    table = probability_table(policy, theta, x)
    at = mdps.evaluate(mdp, table)
    gradient = mdps.softmax_gradient(mdp, table)
    ascent = linearize("test", policy, theta, x).vjp(gradient)
    gains = []
    for step in (2.0**-6, 2.0**-12):
        better = probability_table(policy, theta + step * ascent, x)
        bound = bounds.cpo_bound(mdp, table, better)
        gains.append(bound.gain / step)
        assert bound.slack >= 0
        assert bound.gain > 0
    assert gains[1] == pytest.approx(ascent @ ascent, rel=2.0**-6)  # the first order of η is the gradient's
    assert at.expected_return == bound.old_return


def test_an_infinite_kl_is_an_infinite_penalty_unless_nothing_is_at_stake():
    mdp, old, new = mdps.mean_total_variation_counterexample(discount=0.5, leaving=0.5)
    bound = bounds.trpo_kl_bound(mdp, old, new)
    assert (bound.lower, bound.upper, bound.slack) == (-math.inf, math.inf, math.inf)
    # State 1 has weight 0 under the old policy: the mean KL does not see it.
    assert math.isfinite(bounds.cpo_kl_bound(mdp, old, new).penalty)
    worthless = mdps.MDP(mdp.transition, np.zeros((2, 2)), mdp.start, 0.5)
    assert all(b.penalty == b.slack == 0 for b in bounds.all_bounds(worthless, old, new).values())
    myopic = mdps.MDP(mdp.transition, mdp.reward, mdp.start, 0.0)
    assert all(b.penalty == b.slack == 0 for b in bounds.all_bounds(myopic, old, new).values())


def test_bad_arguments_are_refused_by_name():
    mdp, old, new = mdps.mean_kl_counterexample()
    wrong = old.copy()
    wrong[2, 1] = 0.75
    functions = {f"{name}_bound": function for name, function in THEOREMS.items()}
    functions |= {"all_bounds": bounds.all_bounds, "compare": bounds.compare}
    whole = mdps.MDP(mdp.transition, mdp.reward, mdp.start, 1.0)
    for name, function in functions.items():
        with pytest.raises(ValueError, match=rf"^{name}: old sums to 1.25 in state 2, expected 1$"):
            function(mdp, wrong, new)
        with pytest.raises(ValueError, match=rf"^{name}: new sums to 1.25 in state 2, expected 1$"):
            function(mdp, old, wrong)
        with pytest.raises(ValueError, match=rf"^{name}: mdp.discount is 1.0, expected a number < 1"):
            function(whole, old, new)
    for function in (bounds.mixture_bound, bounds.simple_mixture_bound):
        with pytest.raises(ValueError, match=rf"^{function.__name__}: target sums to 1.25 in state 2"):
            function(mdp, old, wrong, 0.5)
        with pytest.raises(ValueError, match=rf"^{function.__name__}: mixing is 1.5"):
            function(mdp, old, new, 1.5)
    for function in (bounds.total_variation, bounds.kl_divergence):
        with pytest.raises(ValueError, match=rf"^{function.__name__}: new has shape \(1, 2\), .* S = 4"):
            function(old, new[:1])
    with pytest.raises(ValueError, match=r"^penalty_coefficient: discount is 1.0, expected a number >= 0 and < 1"):
        bounds.penalty_coefficient(old, 1.0)
