"""Taylor's expansions of L and KL along a direction of a neural policy: coefficients from derivatives of log π, orders
of what they leave out by regression of logarithms.

With ℓ = log π_θ+tv(a|s), primes d/dt at t = 0, and means over states and actions ::

    L(θ + tv) = E Â + t E[Âℓ'] + t²/2 E[Â(ℓ'' + ℓ'²)] + O(t³)
    KL(old ‖ new) = t²/2 E ℓ'² + t³/6 (3E[ℓ'ℓ''] + κ₃) + O(t⁴)
    KL(new ‖ old) = t²/2 E ℓ'² + t³/6 (3E[ℓ'ℓ''] + 2κ₃) + O(t⁴)          κ₃ = E ℓ'³

κ₃, the third cumulant of the score along v, is all that tells the directions apart.  E[ℓ'ℓ''] is 0 in natural
parameters, and then the coefficients are κ₃/6 and κ₃/3 (`test_updates_duality`); in those of a network it is not.

Tolerance: what is fitted has the next order as a relative error of the size of STEPS, so a slope is off by less than
0.2; a wrong coefficient would turn it into the order before, off by 1.
"""

import itertools

import numpy as np
import pytest
from examples import MASK, POLICIES, ROWS, example

from refpg import geometry, policy, surrogate

U = np.finfo(float).eps / 2
STEPS = 2.0 ** -np.arange(7, 12)
DISCRETE = ("categorical", "masked categorical", "multi-categorical", "bernoulli")


def order(remainders):
    """The exponent of a power law in STEPS, by regression of logarithms."""
    return np.polyfit(np.log(STEPS), np.log(np.abs(remainders)), 1)[0]


def direction(case, seed=3):
    v = np.random.default_rng(seed).normal(size=case.theta.size)
    return v / np.linalg.norm(v)


def along(case, v, actions):
    """ℓ' and ℓ'' of each row: the score along v, and its derivative by a complex step."""
    h = 1e-60
    score = policy.log_prob_jacobian(case.policy, case.theta + 1j * h * v, case.x, actions) @ v
    return score.real, score.imag / h


def every_action(name):
    """(actions, possible) for each action: one for each row, and whether the row allows it."""
    everywhere = np.ones(ROWS, dtype=bool)
    if name == "multi-categorical":
        for pair in itertools.product(range(2), range(3)):
            yield np.tile(pair, (ROWS, 1)), everywhere
    elif name == "bernoulli":
        for pair in itertools.product(range(2), repeat=2):
            yield np.tile(pair, (ROWS, 1)), everywhere
    else:
        mask = MASK if name == "masked categorical" else np.ones_like(MASK)
        for a in range(4):
            yield np.where(mask[:, a], a, np.argmax(mask, axis=1)), mask[:, a]


def expectation(name, case, v, function):
    """E_s E_a of a function of ℓ' and ℓ'', by enumeration."""
    total = 0.0
    for actions, possible in every_action(name):
        p = np.exp(policy.log_prob(case.policy, case.theta, case.x, actions))
        total += np.mean(np.where(possible, p * function(*along(case, v, actions)), 0))
    return total


def third_cumulant(name, case, v):
    if name in DISCRETE:
        return expectation(name, case, v, lambda score, _: score**3)
    # A Gaussian's score is m z + l(z² − 1) with m = dμ/σ, l = d log σ: Ez⁴ = 3 and E z⁶ = 15 make it 6m²l + 8l³.
    # Squashing changes no log-ratio.
    h = 1e-60
    phi = policy.distribution_parameters(case.policy, case.theta + 1j * h * v, case.x)
    mean, log_std = np.split(phi, 2, axis=1)
    m, ell = mean.imag / h / np.exp(log_std.real), log_std.imag / h
    return np.mean(np.sum(6 * m**2 * ell + 8 * ell**3, axis=1))


def kl_along(case, v, which):
    there = [case.theta + t * v for t in STEPS]
    return np.array([geometry.mean_kl(case.policy, case.theta, theta, case.x, direction=which) for theta in there])


@pytest.mark.parametrize("name", POLICIES)
def test_the_second_order_of_the_surrogate(name):
    case = example(name)
    v, A = direction(case), case.batch.advantages
    first, second = along(case, v, case.actions)
    gains = np.array(
        [
            surrogate.surrogate_improvement(
                policy.log_ratio(case.policy, case.theta, case.theta + t * v, case.x, case.actions), A
            )
            for t in STEPS
        ]
    )
    linear = gains - STEPS * np.mean(A * first)
    assert order(linear) == pytest.approx(2, abs=0.2)
    assert order(linear - STEPS**2 / 2 * np.mean(A * (second + first**2))) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("name", POLICIES)
def test_the_directions_of_the_kl_differ_by_the_third_cumulant(name):
    case = example(name)
    v = direction(case)
    apart = kl_along(case, v, "new_old") - kl_along(case, v, "old_new")
    assert order(apart) == pytest.approx(3, abs=0.2)
    assert order(apart - STEPS**3 / 6 * third_cumulant(name, case, v)) == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize(("which", "times"), [("old_new", 1), ("new_old", 2)])
@pytest.mark.parametrize("name", DISCRETE)
def test_the_third_order_of_the_kl(name, which, times):
    case = example(name)
    v = direction(case)
    kl = kl_along(case, v, which)
    quadratic = expectation(name, case, v, lambda score, _: score**2)
    fisher = v @ geometry.fisher_vector_product(case.policy, case.theta, case.x, v)
    assert quadratic == pytest.approx(fisher, rel=1e3 * U)
    cubic = 3 * expectation(name, case, v, lambda score, slope: score * slope) + times * third_cumulant(name, case, v)
    beyond = kl - STEPS**2 / 2 * fisher
    assert order(beyond) == pytest.approx(3, abs=0.2)
    assert order(beyond - STEPS**3 / 6 * cubic) == pytest.approx(4, abs=0.2)


def test_curvature_of_the_network_is_part_of_the_third_order():
    """κ₃ alone is the third order in natural parameters, not in those of a network."""
    case = example("categorical")
    v = direction(case)
    mixed = expectation("categorical", case, v, lambda score, slope: score * slope)
    assert abs(3 * mixed) > 0.05 * abs(third_cumulant("categorical", case, v))
