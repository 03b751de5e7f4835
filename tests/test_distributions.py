"""The action distributions: every quantity against a second characterisation of it.

Oracles: enumeration of the actions (discrete), Gauss–Hermite quadrature (Gaussian, exact for polynomials), the textbook
definition in mpmath at 600 bits, adaptive quadrature, complex-step derivatives, and laws.

``UNIT`` is the unit roundoff u = 2⁻⁵³.  A bound of n·UNIT relative to the largest entry has the reason n beside it.
"""

import itertools
import pickle
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from refpg import distributions
from refpg.distributions import (
    BERNOULLI,
    CATEGORICAL,
    DIAGONAL_GAUSSIAN,
    SQUASHED_GAUSSIAN,
    Family,
    masked_categorical,
    multi_categorical,
    squash,
    unsquash,
)

UNIT = 2.0**-53
MASK = np.array([[True, False, True, True], [True, True, True, True], [False, False, True, True]])
SIZES = (2, 3)
FAMILIES = {
    "categorical": (CATEGORICAL, 4),
    "masked": (masked_categorical(MASK), 4),
    "multi": (multi_categorical(SIZES), 5),
    "bernoulli": (BERNOULLI, 3),
    "gaussian": (DIAGONAL_GAUSSIAN, 4),
    "squashed": (SQUASHED_GAUSSIAN, 4),
}
DISCRETE = ("categorical", "masked", "multi", "bernoulli")
GAUSSIAN = ("gaussian", "squashed")
PARAMETER_FREE_ENTROPY = ("categorical", "masked", "multi", "bernoulli", "gaussian")
ROWS = 3


class Case(NamedTuple):
    """A family with parameters, a change, a vector and actions, for all rows."""

    family: Family
    phi: np.ndarray
    change: np.ndarray
    v: np.ndarray
    action: np.ndarray


def case(name: str, *, seed: int = 0, change: float = 0.7) -> Case:
    family, K = FAMILIES[name]
    generator = np.random.default_rng([seed, *name.encode()])
    phi = generator.normal(size=(ROWS, K))
    delta = change * generator.normal(size=(ROWS, K))
    return Case(family, phi, delta, generator.normal(size=(ROWS, K)), family.sample(phi, generator))


def support(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every action of a discrete family as (B, ...) rows, with 1 where a row allows it."""
    ones = np.ones(ROWS)
    if name == "categorical":
        return [(np.full(ROWS, a), ones) for a in range(4)]
    if name == "masked":  # where a row forbids the action another is put in its place, with weight 0
        return [(np.where(MASK[:, a], a, 3), MASK[:, a].astype(float)) for a in range(4)]
    choices = [range(n) for n in SIZES] if name == "multi" else [range(2)] * 3
    return [(np.tile(a, (ROWS, 1)), ones) for a in itertools.product(*choices)]


def expectation(name: str, phi: np.ndarray, f: Any) -> np.ndarray:
    """E_a f(a) with a ∼ π_φ: by enumeration, or by Gauss–Hermite in both dimensions, exact to degree 15."""
    family = FAMILIES[name][0]
    if name in DISCRETE:
        terms = []
        for a, allowed in support(name):
            value = f(a)
            weight = allowed * np.exp(family.log_prob(phi, a))
            terms.append(weight.reshape((-1,) + (1,) * (value.ndim - 1)) * value)
        return np.sum(terms, axis=0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    mean, std = phi[:, :2], np.exp(phi[:, 2:])
    weights = weights / weights.sum()
    return np.sum(
        [weights[i] * weights[j] * f(mean + std * np.array([nodes[i], nodes[j]])) for i in range(8) for j in range(8)],
        axis=0,
    )


def derivative(f: Any, at: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Directional derivative by a complex step of 2⁻⁷⁰: the error is of order 2⁻¹⁴⁰, and nothing is subtracted."""
    step = 2.0**-70
    return f(at + 1j * step * along).imag / step


def gradient(f: Any, at: np.ndarray) -> np.ndarray:
    """(B, K) gradient of a row-wise scalar function, one complex step per column."""
    columns = np.eye(at.shape[1])
    return np.stack([derivative(f, at, np.tile(e, (len(at), 1))) for e in columns], axis=1)


def assert_close(got: np.ndarray, expected: np.ndarray, units: float) -> None:
    """Entries agree within ``units`` unit roundoffs of the largest expected one (at least 1)."""
    assert got.shape == expected.shape
    scale = max(1.0, float(np.max(np.abs(expected))))
    assert np.max(np.abs(got - expected)) <= units * UNIT * scale


# Second characterisations in double precision chain two calculations of at most about 60 rounded operations on numbers
# below 8 relative to the scale of the result: 2 · 60 · 8 ≈ 1000.
TWO_ROUTES = 1000


# ---------------------------------------------------------------- identities: derivatives and expectations


@pytest.mark.parametrize("name", FAMILIES)
def test_score_is_the_derivative_of_log_prob(name: str) -> None:
    family, phi, _, _, action = case(name)
    assert_close(family.score(phi, action), gradient(lambda p: family.log_prob(p, action), phi), TWO_ROUTES)


@pytest.mark.parametrize("name", FAMILIES)
def test_score_has_mean_zero_and_covariance_the_fisher_matrix(name: str) -> None:
    family, phi, _, _, _ = case(name)

    def outer(a: np.ndarray) -> np.ndarray:
        s = family.score(phi, a)
        return s[:, :, np.newaxis] * s[:, np.newaxis, :]

    mean = expectation(name, phi, lambda a: family.score(phi, a))
    M = expectation(name, phi, outer)
    assert_close(mean, np.zeros_like(phi), TWO_ROUTES * max(1.0, float(np.max(np.abs(M)))))
    assert_close(family.fisher(phi), M, TWO_ROUTES)


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_sum_to_one(name: str) -> None:
    _, phi, _, _, _ = case(name)
    assert_close(expectation(name, phi, lambda a: np.ones(ROWS)), np.ones(ROWS), TWO_ROUTES)


@pytest.mark.parametrize("name", PARAMETER_FREE_ENTROPY)
def test_entropy_is_the_mean_of_minus_log_prob(name: str) -> None:
    family, phi, _, _, _ = case(name)
    assert_close(family.entropy(phi), expectation(name, phi, lambda a: -family.log_prob(phi, a)), TWO_ROUTES)


@pytest.mark.parametrize("name", FAMILIES)
def test_entropy_gradient_is_the_derivative_of_entropy(name: str) -> None:
    family, phi, _, _, _ = case(name)
    assert_close(family.entropy_gradient(phi), gradient(family.entropy, phi), TWO_ROUTES)


@pytest.mark.parametrize("name", PARAMETER_FREE_ENTROPY)
def test_entropy_gradient_is_minus_the_mean_of_log_prob_times_score(name: str) -> None:
    family, phi, _, _, _ = case(name)
    mean = expectation(name, phi, lambda a: -family.log_prob(phi, a)[:, np.newaxis] * family.score(phi, a))
    assert_close(family.entropy_gradient(phi), mean, TWO_ROUTES)


@pytest.mark.parametrize("name", FAMILIES)
def test_log_ratio_is_the_difference_of_log_probs(name: str) -> None:
    family, phi, change, _, action = case(name)
    difference = family.log_prob(phi + change, action) - family.log_prob(phi, action)
    assert_close(family.log_ratio(phi, change, action), difference, TWO_ROUTES)


@pytest.mark.parametrize("name", FAMILIES)
def test_kl_is_the_mean_of_minus_log_ratio_under_the_old_distribution(name: str) -> None:
    family, phi, change, _, _ = case(name)
    old_first = expectation(name, phi, lambda a: family.log_prob(phi, a) - family.log_prob(phi + change, a))
    new_first = expectation(name, phi + change, lambda a: family.log_prob(phi + change, a) - family.log_prob(phi, a))
    assert_close(family.kl(phi, change), old_first, TWO_ROUTES)
    assert_close(family.kl(phi + change, -change), new_first, TWO_ROUTES)
    # The case tells the directions apart in every row.
    assert np.all(np.abs(old_first - new_first) > 1e-3 * old_first)


@pytest.mark.parametrize("name", FAMILIES)
def test_kl_gradient_is_minus_the_mean_of_the_new_score_under_the_old_distribution(name: str) -> None:
    """The direction-sensitive law: at new ≠ old the gradient knows under which distribution the mean is taken."""
    family, phi, change, _, _ = case(name)
    under_old = -expectation(name, phi, lambda a: family.score(phi + change, a))
    assert_close(family.kl_gradient(phi, change), under_old, TWO_ROUTES)
    assert_close(family.kl_gradient(phi, change), gradient(lambda d: family.kl(phi, d), change), TWO_ROUTES)


@pytest.mark.parametrize("name", FAMILIES)
def test_reverse_kl_gradient_is_the_mean_of_score_times_log_ratio_under_the_new_distribution(name: str) -> None:
    family, phi, change, _, _ = case(name)
    new = phi + change
    under_new = expectation(name, new, lambda a: family.log_ratio(phi, change, a)[:, np.newaxis] * family.score(new, a))
    by_step = gradient(lambda d: family.kl(phi + d, -d), change)
    assert_close(family.reverse_kl_gradient(phi, change), under_new, TWO_ROUTES)
    assert_close(family.reverse_kl_gradient(phi, change), by_step, TWO_ROUTES)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("direction", ["kl", "reverse_kl"])
def test_kl_hessian_product_is_the_derivative_of_the_kl_gradient(name: str, direction: str) -> None:
    family, phi, change, v, _ = case(name)
    by_step = derivative(lambda d: getattr(family, f"{direction}_gradient")(phi, d), change, v)
    assert_close(getattr(family, f"{direction}_hessian_product")(phi, change, v), by_step, TWO_ROUTES)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("direction", ["kl", "reverse_kl"])
def test_fisher_is_the_hessian_of_either_kl_at_no_change(name: str, direction: str) -> None:
    family, phi, _, v, _ = case(name)
    none = np.zeros_like(phi)
    Mv = np.einsum("bij,bj->bi", family.fisher(phi), v)
    by_step = derivative(lambda d: getattr(family, f"{direction}_gradient")(phi, d), none, v)
    assert_close(by_step, Mv, TWO_ROUTES)
    assert_close(getattr(family, f"{direction}_hessian_product")(phi, none, v), Mv, TWO_ROUTES)
    assert_close(family.fisher_product(phi, v), Mv, TWO_ROUTES)


@pytest.mark.parametrize("name", FAMILIES)
def test_fisher_root_squares_to_the_fisher_matrix(name: str) -> None:
    family, phi, _, v, _ = case(name)
    K = phi.shape[1]
    R = family.fisher_root_product(phi, np.tile(np.eye(K), (ROWS, 1, 1)))
    assert_close(np.einsum("bki,bkj->bij", R, R), family.fisher(phi), TWO_ROUTES)
    J = np.stack([v, 2 * v, -v], axis=-1)[..., np.newaxis] * np.array([1.0, 3.0])  # (B, K, 3, 2): any trailing axes
    assert_close(family.fisher_root_product(phi, J), np.einsum("bki,bi...->bk...", R, J), TWO_ROUTES)


@pytest.mark.parametrize("name", DISCRETE)
def test_the_two_directions_of_kl_differ_by_half_the_third_cumulant(name: str) -> None:
    """In natural parameters KL(old ‖ new) − KL(new ‖ old) = −t³ κ₃/6 + O(t⁴), κ₃ = E[(v − E v)³] of the score along v.

    The fourth order of the difference is t⁴ κ₄/12 with κ₄ < 50 here, hence the bound 8 t.
    """
    family, phi, _, v, _ = case(name)
    third = expectation(name, phi, lambda a: np.sum(family.score(phi, a) * v, axis=1) ** 3)
    t = 2.0**-8
    difference = family.kl(phi, t * v) - family.kl(phi + t * v, -t * v)
    assert np.max(np.abs(difference / t**3 + third / 6)) < 8 * t


# ---------------------------------------------------------------- accuracy against the definition in 600 bits


def exact(values: np.ndarray) -> list[mpmath.mpf]:
    return [mpmath.mpf(float(x)) for x in values]


def exact_log_softmax(z: list[mpmath.mpf]) -> list[mpmath.mpf]:
    log_sum = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in z))
    return [x - log_sum for x in z]


def exact_categorical(z: np.ndarray, d: np.ndarray) -> tuple[mpmath.mpf, list[mpmath.mpf], list[mpmath.mpf]]:
    """KL(old ‖ new) = Σ p log(p/q), q − p, and log q − log p, as they are defined."""
    old = exact_log_softmax(exact(z))
    new = exact_log_softmax([a + b for a, b in zip(exact(z), exact(d), strict=True)])
    kl = mpmath.fsum(mpmath.exp(a) * (a - b) for a, b in zip(old, new, strict=True))
    slope = [mpmath.exp(b) - mpmath.exp(a) for a, b in zip(old, new, strict=True)]
    return kl, slope, [b - a for a, b in zip(old, new, strict=True)]


def exact_row(name: str, phi: np.ndarray, change: np.ndarray, row: int) -> tuple[mpmath.mpf, list[mpmath.mpf]]:
    """KL and its gradient of one row by the textbook formulas."""
    z, d = phi[row], change[row]
    if name in ("categorical", "masked"):
        allowed = MASK[row] if name == "masked" else np.ones(4, bool)
        kl, compressed, _ = exact_categorical(z[allowed], d[allowed])
        slope = [mpmath.mpf(0)] * len(z)
        for k, value in zip(np.flatnonzero(allowed), compressed, strict=True):
            slope[k] = value
        return kl, slope
    if name == "multi":
        parts = [exact_categorical(z[:2], d[:2]), exact_categorical(z[2:], d[2:])]
        return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]
    if name == "bernoulli":
        parts = [exact_categorical(np.array([0, a]), np.array([0, b])) for a, b in zip(z, d, strict=True)]
        return mpmath.fsum(part[0] for part in parts), [part[1][1] for part in parts]
    kl, on_mean, on_log_std = mpmath.mpf(0), [], []
    for i in range(2):
        log_std, mean_change, log_std_change = exact(np.array([z[2 + i], d[i], d[2 + i]]))
        old, new = mpmath.exp(2 * log_std), mpmath.exp(2 * (log_std + log_std_change))
        kl += log_std_change + (old + mean_change**2) / (2 * new) - mpmath.mpf(1) / 2
        on_mean.append(mean_change / new)
        on_log_std.append(1 - (old + mean_change**2) / new)
    return kl, on_mean + on_log_std


def units(got: Any, true: mpmath.mpf, scale: mpmath.mpf | None = None) -> float:
    """Error in unit roundoffs of the true value, or of a scale given."""
    return float(abs(mpmath.mpf(float(got)) - true) / (UNIT * abs(true if scale is None else scale)))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_kl_and_its_gradient_keep_their_digits_at_1e_minus_6_12_and_18(name: str, size: float, shift: float) -> None:
    """A KL of size² survives to rounding; the textbook difference of logarithms is off by 1/size² units.

    Bounds: a probability carries |log p| + 6 < 12 units, a centred change 2K < 10, a square doubles it: KL 48.  The
    gradient, relative to the largest entry of its row: 94, the figure of the numerics notes.
    """
    for seed in range(5):
        family, phi, change, _, _ = case(name, seed=seed, change=size)
        if name in ("categorical", "masked"):
            change = change + shift  # a constant added to all logits is not seen
        with mpmath.workprec(600):
            kl, slope = family.kl(phi, change), family.kl_gradient(phi, change)
            for row in range(ROWS):
                true_kl, true_slope = exact_row(name, phi, change, row)
                largest = max(abs(x) for x in true_slope)
                assert size**2 / 300 < true_kl < 300 * size**2
                assert units(kl[row], true_kl) < 48
                assert max(units(a, b, largest) for a, b in zip(slope[row], true_slope, strict=True)) < 94


@pytest.mark.parametrize("size", [1e-3, 1e-9, 1.0])
def test_log_ratio_keeps_its_digits(size: float) -> None:
    """Relative to the largest log-ratio of the row; 94 units as for the gradient, which is p times it."""
    _, phi, change, _, _ = case("categorical", change=size)
    with mpmath.workprec(600):
        for row in range(ROWS):
            _, _, true = exact_categorical(phi[row], change[row])
            got = [CATEGORICAL.log_ratio(phi, change, np.full(ROWS, a))[row] for a in range(4)]
            assert max(units(a, b, max(map(abs, true))) for a, b in zip(got, true, strict=True)) < 94


@pytest.mark.parametrize("size", [1e-3, 1e-9])
def test_gaussian_log_ratio_keeps_its_digits(size: float) -> None:
    """Units of the largest of the two dimensions' terms: e carries 4 roundings, each term less than 12 more."""
    _, phi, change, _, action = case("gaussian", change=size)
    got = DIAGONAL_GAUSSIAN.log_ratio(phi, change, action)
    with mpmath.workprec(600):
        for row in range(ROWS):
            terms, largest = [], mpmath.mpf(0)
            for i in range(2):
                mean, log_std = exact(phi[row, [i, 2 + i]])
                mean_change, log_std_change = exact(change[row, [i, 2 + i]])
                (a,) = exact(action[row, [i]])
                e = (a - mean) * mpmath.exp(-log_std)
                new = (a - mean - mean_change) * mpmath.exp(-log_std - log_std_change)
                terms.append((e**2 - new**2) / 2 - log_std_change)
                parts = (e**2 * log_std_change, e * mean_change * mpmath.exp(-log_std), log_std_change)
                largest = max(largest, *(abs(x) for x in parts))
            assert units(got[row], mpmath.fsum(terms), largest) < 64


def test_small_probabilities_and_complements_keep_their_digits() -> None:
    """p within 1e-22 of 1: score 1 − p_a, Fisher p(1 − p), KL and gradient, all relative to themselves."""
    phi, change = np.array([[50.0, 0.0, -3.0]]), np.array([[5.0, 5.75, 4.5]])
    with mpmath.workprec(600):
        p = [mpmath.exp(x) for x in exact_log_softmax(exact(phi[0]))]
        kl, slope, log_r = exact_categorical(phi[0], change[0])
        assert units(CATEGORICAL.score(phi, np.array([0]))[0, 0], 1 - p[0]) < 8
        assert units(CATEGORICAL.fisher(phi)[0, 0, 0], p[0] * (1 - p[0])) < 8
        assert units(CATEGORICAL.fisher_product(phi, np.array([[1.0, 0.0, 0.0]]))[0, 0], p[0] * (1 - p[0])) < 64
        assert units(CATEGORICAL.kl(phi, change)[0], kl) < 128  # |log p| = 53 units, doubled
        for k in range(3):
            assert units(CATEGORICAL.kl_gradient(phi, change)[0, k], slope[k]) < 128
            assert units(CATEGORICAL.log_ratio(phi, change, np.array([k]))[0], log_r[k]) < 128
        entropy = -mpmath.fsum(x * mpmath.log(x) for x in p)
        assert units(CATEGORICAL.entropy(phi)[0], entropy) < 128
        one, other = mpmath.exp(-50) / (1 + mpmath.exp(-50)), 1 / (1 + mpmath.exp(-50))
        assert units(BERNOULLI.score(np.array([[50.0]]), np.array([[1]]))[0, 0], one) < 8
        assert units(BERNOULLI.fisher(np.array([[-50.0]]))[0, 0, 0], one * other) < 8
        assert units(BERNOULLI.log_prob(np.array([[50.0]]), np.array([[1]]))[0], mpmath.log(other)) < 8


@pytest.mark.parametrize(
    ("z", "d"),
    [
        ([0.0, -1000.0, 3.0], [0.0, 2000.0, 1.0]),  # an impossible action becomes certain
        ([0.0, -1000.0, 3.0], [0.0, 900.0, -700.0]),
        ([0.0, -40.0, -1.0], [0.0, 38.0, 0.5]),  # e^c overflows nothing, but 1 < c
        ([1.0, 0.0, -0.5], [0.0, 1.5, -0.25]),
        ([1000.0, -1000.0, 0.0], [-2000.0, 2000.0, 0.0]),
        ([0.0, -5.0, -5.0], [0.0, 7.0, 7.5]),  # just beyond the border of the two forms
        ([0.0, -1.0, -2.0], [0.55, -0.65, 0.6]),  # about the border of the series
    ],
)
def test_large_changes_agree_with_the_definition(z: list[float], d: list[float]) -> None:
    """KL relative to itself; gradient and log-ratio relative to the largest; logits of 1000 carry 1000 units into p."""
    phi, change = np.array([z, [0.0, 0.0, 0.0]]), np.array([d, [1e-9, 0.0, 0.0]])
    with mpmath.workprec(6000):  # e^{−2000} beside 1
        kl, slope, log_r = exact_categorical(phi[0], change[0])
        bound = 16 + 2 * float(np.max(np.abs(z)) + np.max(np.abs(d)))
        assert units(CATEGORICAL.kl(phi, change)[0], kl) < bound
        got = CATEGORICAL.kl_gradient(phi, change)[0]
        assert max(units(a, b, max(map(abs, slope))) for a, b in zip(got, slope, strict=True)) < bound
        for k in range(3):
            ratio = CATEGORICAL.log_ratio(phi, change, np.array([k, k]))[0]
            assert units(ratio, log_r[k], max(map(abs, log_r))) < bound
        logit, by = mpmath.mpf(z[1]), mpmath.mpf(d[1])
        pair = exact_categorical(np.array([0.0, float(logit)]), np.array([0.0, float(by)]))
        assert units(BERNOULLI.kl(phi[:, 1:2], change[:, 1:2])[0], pair[0]) < bound
        assert units(BERNOULLI.kl_gradient(phi[:, 1:2], change[:, 1:2])[0, 0], pair[1][1]) < bound
    # The other row is not disturbed by its neighbour's form: KL = ½ p(1 − p) d² = 1e-18/9.
    assert CATEGORICAL.kl(phi, change)[1] == pytest.approx(1e-18 / 9, rel=1e-9)  # third order: d/9


# ---------------------------------------------------------------- one family as a special case of another


def test_masked_is_the_categorical_of_the_allowed_actions() -> None:
    family, phi, change, v, action = case("masked")
    for row in range(ROWS):
        allowed = MASK[row]
        z, d, w = phi[[row]][:, allowed], change[[row]][:, allowed], v[[row]][:, allowed]
        a = np.array([np.flatnonzero(allowed).tolist().index(action[row])])
        assert_close(family.log_prob(phi, action)[[row]], CATEGORICAL.log_prob(z, a), 4)
        assert_close(family.entropy(phi)[[row]], CATEGORICAL.entropy(z), 4)
        assert_close(family.kl(phi, change)[[row]], CATEGORICAL.kl(z, d), 4)
        assert_close(family.log_ratio(phi, change, action)[[row]], CATEGORICAL.log_ratio(z, d, a), 4)
        assert_close(family.fisher(phi)[row][np.ix_(allowed, allowed)], CATEGORICAL.fisher(z)[0], 4)
        assert_close(family.fisher_product(phi, v)[[row]][:, allowed], CATEGORICAL.fisher_product(z, w), 4)


def test_a_masked_action_has_no_probability_no_score_and_is_not_seen() -> None:
    family, phi, change, v, action = case("masked")
    other, other_change = np.where(MASK, phi, 1e3), np.where(MASK, change, -77.0)
    results = {
        "score": family.score(phi, action),
        "entropy_gradient": family.entropy_gradient(phi),
        "kl_gradient": family.kl_gradient(phi, change),
        "kl_hessian_product": family.kl_hessian_product(phi, change, v),
        "reverse_kl_gradient": family.reverse_kl_gradient(phi, change),
        "reverse_kl_hessian_product": family.reverse_kl_hessian_product(phi, change, v),
        "fisher_product": family.fisher_product(phi, v),
        "fisher_root_product": family.fisher_root_product(phi, v),
    }
    for field, value in results.items():
        assert np.all(value[~MASK] == 0), field
    assert np.all(family.fisher(phi)[~MASK] == 0)
    assert np.array_equal(family.kl(phi, change), family.kl(other, other_change))
    assert np.array_equal(family.log_prob(phi, action), family.log_prob(other, action))
    assert np.array_equal(family.kl_gradient(phi, change), family.kl_gradient(other, other_change))
    drawn = family.sample(other, np.random.default_rng(0))
    assert MASK[np.arange(ROWS), drawn].all()
    far = np.where(MASK, phi - 2.0**40, 0.0)  # a large negative number in place of −∞ would win here
    assert np.all(family.fisher(far)[~MASK] == 0)
    assert MASK[np.arange(ROWS), family.sample(far, np.random.default_rng(0))].all()


def test_bernoulli_is_the_categorical_with_logits_zero_and_z() -> None:
    _, phi, change, _, action = case("bernoulli")
    pairs, pair_change = (np.stack([np.zeros_like(y), y], axis=-1) for y in (phi, change))
    for i in range(3):
        p, d, a = pairs[:, i], pair_change[:, i], action[:, i]
        one, by = phi[:, [i]], change[:, [i]]
        assert_close(BERNOULLI.log_prob(one, a[:, np.newaxis]), CATEGORICAL.log_prob(p, a), 16)
        assert_close(BERNOULLI.entropy(one), CATEGORICAL.entropy(p), 16)
        assert_close(BERNOULLI.kl(one, by), CATEGORICAL.kl(p, d), 16)
        assert_close(BERNOULLI.log_ratio(one, by, a[:, np.newaxis]), CATEGORICAL.log_ratio(p, d, a), 16)
        assert_close(BERNOULLI.kl_gradient(one, by)[:, 0], CATEGORICAL.kl_gradient(p, d)[:, 1], 16)


def test_rows_restricts_a_mask_and_leaves_other_families_as_they_are() -> None:
    family, phi, change, _, action = case("masked")
    some = np.array([2, 0])
    assert np.array_equal(family.rows(some).kl(phi[some], change[some]), family.kl(phi, change)[some])
    assert np.array_equal(family.rows(slice(1, 3)).log_prob(phi[1:], action[1:]), family.log_prob(phi, action)[1:])
    for constant in (CATEGORICAL, BERNOULLI, DIAGONAL_GAUSSIAN, SQUASHED_GAUSSIAN):
        assert constant.rows(some) is constant
    multi = case("multi")
    assert np.array_equal(multi.family.rows(some).entropy(multi.phi[some]), multi.family.entropy(multi.phi)[some])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_can_be_sent_to_another_process(name: str) -> None:
    family, phi, change, _, _ = case(name)
    assert np.array_equal(pickle.loads(pickle.dumps(family)).kl(phi, change), family.kl(phi, change))


# ---------------------------------------------------------------- the squashed Gaussian


@pytest.mark.parametrize(("mean", "log_std"), [(0.3, -0.7), (-1.2, 0.4), (0.0, -3.0)])
def test_squashed_density_integrates_to_one(mean: float, log_std: float) -> None:
    """Over a in (−1, 1), adaptive quadrature asked for 1e-10."""
    phi = np.array([[mean, log_std]])

    def density(a: float) -> float:
        return float(np.exp(SQUASHED_GAUSSIAN.log_prob(phi, unsquash(np.array([[a]]))))[0])

    total, error = scipy.integrate.quad(density, -1, 1, points=[np.tanh(mean)], limit=200, epsabs=1e-10, epsrel=1e-10)
    assert abs(total - 1) < max(1e-9, 2 * error)


@pytest.mark.parametrize("u", [0.0, 1e-9, -0.01, 0.7, -5.0, 20.0, -400.0])
def test_squashed_log_prob_is_the_change_of_variables(u: float) -> None:
    """log N(u) − log(1 − tanh² u) with 2600 bits for 1 − tanh²; 8 units of the larger of the two terms."""
    mean, log_std = 0.25, -0.5
    with mpmath.workprec(2600):
        sigma = mpmath.exp(log_std)
        e = (mpmath.mpf(u) - mean) / sigma
        normal = -(e**2) / 2 - log_std - mpmath.log(2 * mpmath.pi) / 2
        jacobian = -mpmath.log(1 - mpmath.tanh(mpmath.mpf(u)) ** 2)
        got = SQUASHED_GAUSSIAN.log_prob(np.array([[mean, log_std]]), np.array([[u]]))[0]
        assert units(got, normal + jacobian, max(abs(normal), abs(jacobian), mpmath.mpf(1))) < 8


@pytest.mark.parametrize("log_std", [-6.0, -1.0, -0.01, 0.01, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("mean", [0.0, 0.3, -2.0, 9.0])
def test_squashed_entropy_and_gradient_agree_with_adaptive_quadrature(mean: float, log_std: float) -> None:
    """mpmath's tanh–sinh in 100 bits; relative to the largest term, 2 E log cosh u ≤ 2(|μ| + σ).

    215 terms below 1 are added: 215 roundings of a partial sum, plus 16 for the terms.
    """
    phi = np.array([[mean, log_std]])
    with mpmath.workprec(100):
        mu, sigma = mpmath.mpf(mean), mpmath.exp(mpmath.mpf(log_std))
        pieces = [mu + sigma * k for k in range(-12, 13, 2)]
        pieces = sorted({*pieces, *(mpmath.mpf(k) for k in (-6, -2, 0, 2, 6) if pieces[0] < k < pieces[-1])})

        def mean_of(f: Any) -> mpmath.mpf:
            return mpmath.quad(lambda u: mpmath.npdf(u, mu, sigma) * f(u), pieces)

        log_cosh = mean_of(lambda u: mpmath.log(mpmath.cosh(u)))
        entropy = log_std + mpmath.log(2 * mpmath.pi * mpmath.e) / 2 - 2 * log_cosh
        on_mean = -2 * mean_of(mpmath.tanh)
        on_log_std = 1 - 2 * mean_of(lambda u: mpmath.tanh(u) * (u - mu))
        scale = abs(mu) + sigma + 2
        assert units(SQUASHED_GAUSSIAN.entropy(phi)[0], entropy, 2 * scale) < 231
        got = SQUASHED_GAUSSIAN.entropy_gradient(phi)[0]
        assert units(got[0], on_mean, mpmath.mpf(2)) < 231
        assert units(got[1], on_log_std, 2 * scale) < 231


@pytest.mark.parametrize("log_std", [10.0, 20.0])
def test_squashed_entropy_of_a_very_wide_gaussian_is_that_of_the_absolute_value(log_std: float) -> None:
    """log cosh u = |u| − log 2 + log1p(e^{−2|u|}), and the mean of the last is π²/12 times the density at 0."""
    mean, std = 3.0, np.exp(log_std)
    absolute = std * np.sqrt(2 / np.pi) * np.exp(-(mean**2) / (2 * std**2)) + mean * scipy.special.erf(
        mean / (std * np.sqrt(2))
    )
    rest = np.pi**2 / (12 * std * np.sqrt(2 * np.pi))
    expected = log_std + 0.5 * np.log(2 * np.pi * np.e) - 2 * (absolute - np.log(2) + rest)
    got = SQUASHED_GAUSSIAN.entropy(np.array([[mean, log_std]]))[0]
    assert abs(got - expected) <= 16 * UNIT * abs(expected) + 10 / std**3  # next order of the density at 0: μ²/σ³


def test_squash_and_unsquash_are_inverse_and_refuse_the_border() -> None:
    u = np.array([[0.0, 0.5, -3.0]])
    assert_close(unsquash(squash(u)), u, 400)  # artanh near tanh(3): slope cosh² 3 = 101, relative to 3, a few units
    for border in (1.0, -1.0, 1.5):
        with pytest.raises(ValueError, match="unsquash: action is .* expected a number strictly between"):
            unsquash(np.array([[0.0, border]]))


# ---------------------------------------------------------------- sampling


def test_discrete_frequencies_are_the_probabilities() -> None:
    """Pearson's χ² over 20 000 seeded draws, at the 1e-4 level."""
    N = 20_000
    for name in DISCRETE:
        family, phi, _, _, _ = case(name)
        row = 0
        draws_family = masked_categorical(np.tile(MASK[row], (N, 1))) if name == "masked" else family
        draws = draws_family.sample(np.tile(phi[row], (N, 1)), np.random.default_rng(7))
        observed, expected = [], []
        for a, allowed in support(name):
            hits = draws == a[row] if draws.ndim == 1 else (draws == a[row]).all(axis=1)
            if allowed[row]:
                observed.append(int(hits.sum()))
                expected.append(N * float(np.exp(family.log_prob(phi, a))[row]))
        assert sum(observed) == N
        assert scipy.stats.chisquare(observed, expected, sum_check=False).pvalue > 1e-4, name


def test_gaussian_draws_follow_the_gaussian() -> None:
    """Kolmogorov–Smirnov per dimension, and no correlation beyond 5 standard errors."""
    N = 20_000
    phi = np.array([[0.5, -2.0, -1.0, 0.75]])
    draws = DIAGONAL_GAUSSIAN.sample(np.tile(phi, (N, 1)), np.random.default_rng(3))
    for i in range(2):
        test = scipy.stats.kstest(draws[:, i], scipy.stats.norm(phi[0, i], np.exp(phi[0, 2 + i])).cdf)
        assert test.pvalue > 1e-4
    assert abs(np.corrcoef(draws.T)[0, 1]) < 5 / np.sqrt(N)


@pytest.mark.parametrize("name", FAMILIES)
def test_sampling_uses_only_the_generator_and_gives_valid_actions(name: str) -> None:
    family, phi, _, _, _ = case(name)
    first = distributions.sample(family, phi, np.random.default_rng(11))
    again = distributions.sample(family, phi, np.random.default_rng(11))
    assert np.array_equal(first, again)
    assert distributions.log_prob(family, phi, first).shape == (ROWS,)
    if name in GAUSSIAN:
        assert family.sample(phi.astype(np.float32), np.random.default_rng(1)).dtype == np.float32


# ---------------------------------------------------------------- types, extremes, doors


def every_field(c: Case) -> dict[str, np.ndarray]:
    family, phi, change, v, action = c
    return {
        "log_prob": family.log_prob(phi, action),
        "score": family.score(phi, action),
        "entropy": family.entropy(phi),
        "entropy_gradient": family.entropy_gradient(phi),
        "log_ratio": family.log_ratio(phi, change, action),
        "kl": family.kl(phi, change),
        "kl_gradient": family.kl_gradient(phi, change),
        "kl_hessian_product": family.kl_hessian_product(phi, change, v),
        "reverse_kl_gradient": family.reverse_kl_gradient(phi, change),
        "reverse_kl_hessian_product": family.reverse_kl_hessian_product(phi, change, v),
        "fisher": family.fisher(phi),
        "fisher_product": family.fisher_product(phi, v),
        "fisher_root_product": family.fisher_root_product(phi, np.stack([v, -v], axis=-1)),
    }


def of_type(c: Case, dtype: type) -> Case:
    action = c.action if c.action.dtype.kind == "i" else c.action.astype(np.zeros(0, dtype).real.dtype)
    return Case(c.family, c.phi.astype(dtype), c.change.astype(dtype), c.v.astype(dtype), action)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [np.float32, np.longdouble, np.complex64, np.complex128, np.clongdouble])
def test_every_type_is_kept_and_agrees_with_float64(name: str, dtype: type) -> None:
    reference = every_field(case(name))
    for field, value in every_field(of_type(case(name), dtype)).items():
        assert value.dtype == dtype, field
        unit = max(UNIT, float(np.finfo(dtype).eps) / 2)
        scale = max(1.0, float(np.max(np.abs(reference[field]))))
        assert np.max(np.abs(value - reference[field])) <= TWO_ROUTES * unit * scale, field


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "squashed"])
def test_long_double_is_more_accurate_than_double(name: str) -> None:
    """The constants, too, are long double: KL, log-probability and entropy against mpmath, in units of long double."""
    if np.finfo(np.longdouble).eps > 2.0**-60:
        pytest.skip("long double is double here")
    c = of_type(case(name), np.longdouble)
    with mpmath.workprec(200):
        true, _ = exact_row(name, case(name).phi, case(name).change, 0)
        high, low = float(c.family.kl(c.phi, c.change)[0]), c.family.kl(c.phi, c.change)[0]
        got = mpmath.mpf(high) + mpmath.mpf(float(low - np.longdouble(high)))
        assert abs(got - true) < 200 * mpmath.mpf(2) ** -64 * max(true, 1)


def test_long_double_gaussian_constants_are_long_double() -> None:
    if np.finfo(np.longdouble).eps > 2.0**-60:
        pytest.skip("long double is double here")
    phi, action = np.zeros((1, 2), np.longdouble), np.zeros((1, 1), np.longdouble)
    with mpmath.workprec(200):
        for value, true in (
            (DIAGONAL_GAUSSIAN.log_prob(phi, action)[0], -mpmath.log(2 * mpmath.pi) / 2),
            (DIAGONAL_GAUSSIAN.entropy(phi)[0], (1 + mpmath.log(2 * mpmath.pi)) / 2),
        ):
            high = float(value)
            got = mpmath.mpf(high) + mpmath.mpf(float(value - np.longdouble(high)))
            assert abs(got - true) < 4 * mpmath.mpf(2) ** -64


def test_long_double_root_of_two_is_long_double() -> None:
    one = np.ones((1, 2), np.longdouble)
    root = DIAGONAL_GAUSSIAN.fisher_root_product(one, one)[0, 1]
    assert abs(root * root - 2) <= 4 * np.finfo(np.longdouble).eps


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_extreme_parameters_give_finite_results_without_a_warning(name: str, dtype: type) -> None:
    """Logits of ±1000, log σ of ±20 (a change of 40 in log σ squares to e⁸⁰, past float32, so ±20 there)."""
    family, K = FAMILIES[name]
    generator = np.random.default_rng(5)
    size = 20.0 if name in GAUSSIAN else 1000.0
    largest_change = size if dtype == np.float32 else 2 * size
    for _ in range(10):
        phi = size * generator.choice([-1.0, -0.5, 0.0, 1.0], size=(ROWS, K))
        change = size * generator.choice([-2.0, 0.001, 0.0, 1.9], size=(ROWS, K))
        change = np.clip(change, -largest_change, largest_change)
        c = Case(family, phi, change, generator.normal(size=(ROWS, K)), family.sample(phi, generator))
        with np.errstate(all="warn", under="ignore"):
            for field, value in every_field(of_type(c, dtype)).items():
                assert np.isfinite(value).all(), field
    assert np.all(family.kl(phi, change) >= 0)


@given(
    st.lists(st.tuples(*[st.floats(-1e3, 1e3) for _ in range(2)]), min_size=1, max_size=6),
    st.floats(-1e3, 1e3),
)
def test_categorical_laws_for_any_logits(rows: list[tuple[float, float]], shift: float) -> None:
    """KL ≥ 0, q − p sums to 0, and adding a constant to the change does not matter (beyond its own rounding)."""
    z, d = np.array(rows).T[:, np.newaxis, :]
    kl, slope = CATEGORICAL.kl(z, d), CATEGORICAL.kl_gradient(z, d)
    assert kl[0] >= 0
    assert abs(slope.sum()) <= 4000 * UNIT * len(rows)  # p and q carry |log p| ≤ 2000 units each
    # change + shift is rounded to 2000 u, and KL has slope at most 2 in the change
    assert abs(CATEGORICAL.kl(z, d + shift)[0] - kl[0]) <= 2 * len(rows) * 4000 * UNIT
    p = np.exp([CATEGORICAL.log_prob(z, np.array([a]))[0] for a in range(len(rows))])
    assert abs(p.sum() - 1) <= 4000 * UNIT * len(rows)
    assert 0 <= CATEGORICAL.entropy(z)[0] <= np.log(len(rows)) + 4000 * UNIT * len(rows)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_doors_are_the_fields_with_arguments_checked(name: str) -> None:
    family, phi, change, v, action = case(name)
    new = phi + change
    exact_change = new - phi
    pairs = [
        (distributions.log_prob(family, phi, action), family.log_prob(phi, action)),
        (distributions.score(family, phi, action), family.score(phi, action)),
        (distributions.entropy(family, phi), family.entropy(phi)),
        (distributions.entropy_gradient(family, phi), family.entropy_gradient(phi)),
        (distributions.kl(family, phi, new), family.kl(phi, exact_change)),
        (distributions.kl_gradient(family, phi, new), family.kl_gradient(phi, exact_change)),
        (distributions.log_ratio(family, phi, new, action), family.log_ratio(phi, exact_change, action)),
        (distributions.fisher(family, phi), family.fisher(phi)),
        (distributions.fisher_product(family, phi, v), family.fisher_product(phi, v)),
    ]
    for got, expected in pairs:
        assert np.array_equal(got, expected)


LOGITS = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distributions.entropy(CATEGORICAL, [[np.nan, 0]]), "entropy: phi holds NaN or infinity"),
        (lambda: distributions.entropy(CATEGORICAL, [[-np.inf, 0]]), "entropy: phi holds NaN or infinity"),
        (lambda: distributions.entropy(CATEGORICAL, np.zeros(3)), r"entropy: phi has shape \(3,\), expected \(B, K\)"),
        (lambda: distributions.fisher(CATEGORICAL, np.zeros((0, 3))), "fisher: phi has shape .* it is empty"),
        (lambda: distributions.kl(CATEGORICAL, LOGITS, np.zeros((2, 4))), r"kl: phi_new has shape \(2, 4\), .* K = 3"),
        (lambda: distributions.kl(CATEGORICAL, LOGITS, np.full((2, 3), np.inf)), "kl: phi_new holds NaN"),
        (lambda: distributions.log_prob(CATEGORICAL, LOGITS, [0, 3]), "log_prob: action is 3 in row 1, .* 0 to 2"),
        (lambda: distributions.score(CATEGORICAL, LOGITS, [-1, 0]), "score: action is -1 in row 0, .* 0 to 2"),
        (lambda: distributions.score(CATEGORICAL, LOGITS, [0.5, 0]), "score: action holds non-integer values"),
        (lambda: distributions.score(CATEGORICAL, LOGITS, [np.nan, 0]), "score: action holds NaN"),
        (lambda: distributions.score(CATEGORICAL, LOGITS, [0]), r"score: action has shape \(1,\), .* B = 2"),
        (lambda: distributions.score(CATEGORICAL, LOGITS, [[0], [1]]), r"score: action has shape \(2, 1\)"),
        (
            lambda: distributions.log_prob(BERNOULLI, LOGITS, [[0, 1, 0], [0, 2, 1]]),
            "log_prob: action is 2 in row 1, column 1, expected 0 or 1",
        ),
        (lambda: distributions.log_prob(BERNOULLI, LOGITS, [[0, 1, 0.5]] * 2), "log_prob: action holds non-integer"),
        (lambda: distributions.log_prob(BERNOULLI, LOGITS, [0, 1]), r"log_prob: action has shape \(2,\)"),
        (lambda: distributions.kl(DIAGONAL_GAUSSIAN, LOGITS, LOGITS), r"kl: phi has shape \(2, 3\), .* \(B, 2A\)"),
        (lambda: distributions.entropy(SQUASHED_GAUSSIAN, LOGITS), r"phi has shape \(2, 3\), expected \(B, 2A\)"),
        (
            lambda: distributions.log_prob(DIAGONAL_GAUSSIAN, np.zeros((2, 4)), np.zeros((2, 4))),
            r"log_prob: action has shape \(2, 4\), .* A = 2",
        ),
        (lambda: distributions.log_prob(DIAGONAL_GAUSSIAN, np.zeros((1, 2)), [[np.inf]]), "log_prob: action holds NaN"),
        (lambda: distributions.entropy(multi_categorical((2, 2)), LOGITS), r"phi has shape \(2, 3\), .* \(B, 4\)"),
        (
            lambda: distributions.log_prob(multi_categorical((1, 2)), LOGITS, [[0, 1], [0, 2]]),
            "log_prob: action is 2 in row 1, .* 0 to 1",
        ),
        (
            lambda: distributions.log_prob(multi_categorical((1, 2)), LOGITS, [0, 1]),
            r"log_prob: action has shape \(2,\), expected \(B, A\)",
        ),
        (lambda: multi_categorical(()), "multi_categorical: sizes is empty"),
        (lambda: multi_categorical((2, 0)), "multi_categorical: sizes is 0, expected an integer >= 1"),
        (lambda: masked_categorical([[1, 0]]), "masked_categorical: mask has dtype int64, expected bool"),
        (
            lambda: masked_categorical(np.array([[True, True], [False, False]])),
            "masked_categorical: mask allows no action in row 1, expected at least one",
        ),
        (
            lambda: distributions.log_prob(masked_categorical(np.array([[True, False]])), [[0.0, 0.0]], [1]),
            "log_prob: action is 1 in row 0, expected an action the mask allows",
        ),
        (
            lambda: distributions.entropy(masked_categorical(MASK), np.zeros((2, 4))),
            r"entropy: phi has shape \(2, 4\), expected the mask's \(3, 4\)",
        ),
        (lambda: distributions.fisher_product(BERNOULLI, LOGITS, np.zeros((2, 2))), r"fisher_product: v has shape"),
        (lambda: distributions.sample(CATEGORICAL, LOGITS, 3), "sample: generator is 3, expected a numpy.random"),
        (
            lambda: distributions.sample(CATEGORICAL, LOGITS * 1j, np.random.default_rng(0)),
            "sample: phi has dtype complex128, expected real",
        ),
        (
            lambda: distributions.fisher(DIAGONAL_GAUSSIAN, [[0.0, -1000.0]]),
            "fisher: overflow encountered in .*, expected phi of smaller magnitude",
        ),
        (
            lambda: distributions.kl(CATEGORICAL, [[1e308, 0.0]], [[-1e308, 0.0]]),
            "kl: overflow encountered in subtract, expected phi_old, phi_new of smaller magnitude",
        ),
    ],
)
def test_wrong_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_arguments_are_not_changed() -> None:
    for name in FAMILIES:
        c = case(name)
        copies = [array.copy() for array in c[1:]]
        every_field(c)
        for array, copy in zip(c[1:], copies, strict=True):
            assert np.array_equal(array, copy)
