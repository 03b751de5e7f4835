"""Boundaries of the theory: γ at 0 and near 1, certain actions, absorbing and unreachable states, policies alike."""

from random import Random

from verification.certify.cases import Case
from verification.certify.cases.dyadic import numbers
from verification.certify.cases.theory import (
    NEW_OLD,
    NORMALISED,
    RARE,
    Inputs,
    Table,
    distribution,
    model,
    moved,
    of_one_policy,
    of_two_policies,
    policy,
    without,
)

_WALK = (
    "Certain actions, an absorbing end that pays nothing, and two states that are never reached, one of which pays for "
    "ever: zeros that are exact, and values that no return contains."
)
_MYOPIC = "γ = 0: values are rewards, the visitation is the start, and L is η of the new policy."
_ALIKE = "The new policy is the old one: nothing is gained, and L and every bound are η."
_NEAR_ONE = (
    "1/(1 − γ) is {size}: the advantages are differences of values that agree in their first digits, and only a "
    "formula in the differences themselves keeps them; the level of the values needs 1 − γ without a subtraction of "
    "sums."
)


def walk() -> Inputs:
    """States 0, 1, 2 in a row and the end 3; states 4 and 5 are never reached."""
    to = [[float(s == t) for t in range(6)] for s in range(6)]
    slip = [0.25, 0.75, 0.0, 0.0, 0.0, 0.0]
    return {
        "transition": [
            [to[1], to[0], slip],
            [to[2], to[0], to[1]],
            [to[3], [0.0, 0.0, 0.5, 0.5, 0.0, 0.0], to[0]],
            [to[3], to[3], to[3]],
            [to[4], to[3], to[5]],
            [to[0], to[4], to[2]],
        ],
        "reward": [
            [-0.5, -1.0, 0.25],
            [-0.5, 1.5, -0.75],
            [2.0, -1.25, -0.5],
            [0.0, 0.0, 0.0],
            [1.0, -1.75, 0.5],
            [-2.0, 0.75, 1.25],
        ],
        "start": to[0],
        "gamma": 63 / 64,
    }


CERTAIN: Table = [[float(a == chosen) for a in range(3)] for chosen in (0, 0, 1, 2, 0, 1)]
"""Forward, and in state 2 the action that only may lead to the end."""

WAVERING: Table = [
    [0.5, 0.0, 0.5],
    [0.75, 0.25, 0.0],
    [0.0, 1.0, 0.0],
    [0.0, 0.0, 1.0],
    [1.0, 0.0, 0.0],
    [0.0, 0.5, 0.5],
]
"""Another action in some states, the same in others."""


def _walks() -> list[Case]:
    slug, title = "absorbing-and-unreachable-6x3", "Certain actions, an absorbing end, states never reached"
    cases = of_one_policy(slug, title, _WALK, walk(), CERTAIN)
    cases += of_two_policies(slug, title, _WALK, walk(), CERTAIN, WAVERING)
    logits = numbers(Random(441), 6, 3)
    cases.append(Case("softmax_policy_gradient", slug, title, _WALK, walk() | {"logits": logits}))
    return cases


def _myopic() -> list[Case]:
    random = Random(442)
    slug, title = "gamma-0-4x3", "γ = 0"
    mdp, old = model(random, 4, 3, 0.0), policy(random, 4, 3)
    new = moved(random, old)
    two = mdp | {"old_probabilities": old, "new_probabilities": new}
    cases = of_one_policy(slug, title, _MYOPIC, mdp, old)
    cases += of_two_policies(slug, title, _MYOPIC, mdp, old, new)
    cases.append(Case("softmax_policy_gradient", slug, title, _MYOPIC, mdp | {"logits": numbers(random, 4, 3)}))
    cases.append(Case("lower_bounds", slug, title, "γ = 0: no state is visited because of an action, L is η.", two))
    nothing = "γ = 0: C is 0, and is 4ε where γ was left out."
    advantages = {"advantages": numbers(random, 4, 3), "gamma": 0.0}
    cases.append(Case("penalty_coefficient", slug, title, nothing, advantages))
    return cases


def _alike() -> list[Case]:
    random = Random(443)
    slug, title = "the-same-policy-4x3", "Old and new policy the same"
    mdp, old = model(random, 4, 3, 0.5), policy(random, 4, 3)
    cases = of_two_policies(slug, title, _ALIKE, mdp, old, old)
    both = {"old_probabilities": old, "new_probabilities": old}
    cases.append(Case("lower_bounds", slug, title, _ALIKE, mdp | both))
    weights = {"state_weights": distribution(random, 4, least=1)}
    purpose = "The new policy is the old one: every divergence is exactly 0."
    cases.append(Case("policy_kl", slug, title, purpose, both | weights, (NEW_OLD,)))
    return cases


def _nearly_alike() -> list[Case]:
    cases = []
    random = Random(444)
    mdp, old = model(random, 5, 3, 63 / 64), policy(random, 5, 3)
    inputs = mdp | {"old_probabilities": old, "new_probabilities": moved(random, old, 6, 2.0**-20)}
    purpose = (
        "The policies differ by 1e-6: the difference of two returns has lost six digits, the advantages summed over "
        "the *change* of the policy have not."
    )
    title = "Almost equal policies"
    cases.append(Case("performance_difference", "nearly-alike-5x3", title, purpose, inputs, algorithms=(8,)))
    weights = {"state_weights": distribution(random, 5, least=1)}
    for size, bits, algorithms, purpose in (
        ("1e-12", 22, (), "KL near 1e-12: a difference of logarithms keeps three digits in float64."),
        ("1e-16", 28, (2,), "KL near 1e-16: a difference of logarithms keeps no digit; a formula in the change does."),
    ):
        pair = {"old_probabilities": old, "new_probabilities": moved(random, old, 6, 2.0**-bits)}
        slug, title = f"kl-near-{size}-5x3", f"Almost equal policies, KL near {size}"
        cases.append(Case("policy_kl", slug, title, purpose, pair | weights, (NEW_OLD,), algorithms=algorithms))
    return cases


def _certain_actions() -> list[Case]:
    old = [[1.0, 0.0, 0.0], [0.0, 0.25, 0.75], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    new = [[0.75, 0.25, 0.0], [0.0, RARE, 1 - RARE], [0.125, 0.5, 0.375], [0.0, 0.0, 1.0]]
    given = {"old_probabilities": old, "new_probabilities": new}
    apart = {
        "old_probabilities": [[1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]],
        "new_probabilities": [[0.0, 0.0, 0.25, 0.75], [0.5, 0.0, 0.0, 0.5]],
    }
    return [
        Case(
            "policy_kl",
            "certain-actions-4x3",
            "Actions that the old policy never takes",
            "0 log 0 = 0: an action that the old policy never takes adds nothing, whatever the new one does.",
            given | {"state_weights": [0.25, 0.5, 0.125, 0.125]},
        ),
        Case(
            "policy_total_variation",
            "certain-actions-4x3",
            "Certain actions",
            "One state where nothing changed, one where a certain action is given up in part.",
            given,
        ),
        Case(
            "policy_total_variation",
            "nothing-in-common-2x4",
            "Policies with no action in common",
            "The distance is 1, the largest there is: without the ½ it would be 2.",
            apart,
        ),
    ]


def _near_one() -> list[Case]:
    cases = []
    for bits in (16, 40):
        random = Random(450 + bits)
        gamma = 1 - 2.0**-bits
        slug, title = f"one-minus-gamma-2-to-minus-{bits}-5x3", f"γ = 1 − 2^−{bits}"
        purpose = _NEAR_ONE.format(size={16: "65536", 40: "10¹²"}[bits])
        mdp, pi = model(random, 5, 3, gamma), policy(random, 5, 3)
        mdp["reward"] = [[abs(r) for r in row] for row in mdp["reward"]]  # the level is of one sign
        one = mdp | {"probabilities": pi}
        logits = {"logits": numbers(random, 5, 3)}
        cases += [
            Case("policy_evaluation", slug, title, purpose, without(one, "start"), algorithms=(4,)),
            Case("visitation", slug, title, purpose, without(one, "reward"), (NORMALISED,), algorithms=(4,)),
            Case("expected_return", slug, title, purpose, one, algorithms=(8,)),
            Case("softmax_policy_gradient", slug, title, purpose, mdp | logits, algorithms=(4,)),
        ]
    return cases


def _steps() -> list[Case]:
    random = Random(481)
    old = policy(random, 4, 3)
    old[1] = [0.375, 0.625, 0.0]
    advantages = numbers(random, 4, 3)
    advantages[1] = [1.25, -0.5, 0.75]
    inputs = {
        "old_probabilities": old,
        "advantages": advantages,
        "visitation": [1.5, 0.25, 0.0, 2.25],
        "penalty": 4.0,
    }
    graded = [[4.0**i * (1.0 if i == j else 0.25 / (1 << abs(i - j))) * 4.0**j for j in range(6)] for i in range(6)]
    uneven = {"matrix": graded, "gradient": numbers(random, 6), "max_kl": 2.0**-5}
    return [
        Case(
            "mm_step",
            "never-visited-and-excluded-4x3",
            "A state that is never visited, an action that is never taken",
            "The state that is never visited moves by the same radius and costs nothing; the action without "
            "probability, which is not the best, gets none: 0 log 0 = 0.",
            inputs,
        ),
        Case(
            "trust_region_dual",
            "graded-6",
            "Directions whose curvatures differ by six orders",
            "The step goes where the curvature is small; a step along the gradient would be another one.",
            uneven,
        ),
    ]


CASES: list[Case] = [
    *_walks(),
    *_myopic(),
    *_alike(),
    *_nearly_alike(),
    *_certain_actions(),
    *_near_one(),
    *_steps(),
]
