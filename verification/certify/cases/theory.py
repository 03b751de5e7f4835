"""Cases of the theory: small MDPs and tables of policies whose rows sum to exactly 1 in every format."""

from random import Random
from typing import Any

from verification.certify.cases import Case
from verification.certify.cases.dyadic import numbers

Inputs = dict[str, Any]
Row = list[float]
Table = list[Row]

PARTS = 32
RARE = 2.0**-12
NORMALISED = {"visitation.normalisation": "normalised"}
NEW_OLD = {"kl.direction": "new_old"}


def distribution(random: Random, size: int, least: int = 0) -> Row:
    """Draw probabilities that are multiples of 1/32, each at least ``least`` of them."""
    spare = PARTS - least * size
    cuts = sorted(random.randint(0, spare) for _ in range(size - 1))
    return [(least + b - a) / PARTS for a, b in zip([0, *cuts], [*cuts, spare], strict=True)]


def policy(random: Random, states: int, actions: int) -> Table:
    """Draw a policy that takes every action with probability 1/32 at least."""
    return [distribution(random, actions, least=1) for _ in range(states)]


def moved(random: Random, old: Table, most: int = 6, part: float = 1 / PARTS) -> Table:
    """Shift some parts of probability from one action to another in every state, and leave every action possible."""
    new = []
    for p in old:
        row = list(p)
        giver = row.index(max(row))
        taker = random.choice([a for a in range(len(row)) if a != giver])
        shift = random.randint(1, min(most, round(row[giver] / part) - 1)) * part
        row[giver], row[taker] = row[giver] - shift, row[taker] + shift
        new.append(row)
    return new


def model(random: Random, states: int, actions: int, gamma: float) -> Inputs:
    """Draw an MDP with rewards of both signs and a start that is not uniform."""
    return {
        "transition": [[distribution(random, states) for _ in range(actions)] for _ in range(states)],
        "reward": numbers(random, states, actions),
        "start": distribution(random, states),
        "gamma": gamma,
    }


def without(inputs: Inputs, *names: str) -> Inputs:
    """Return the inputs but for some."""
    return {name: value for name, value in inputs.items() if name not in names}


def of_one_policy(slug: str, title: str, purpose: str, mdp: Inputs, pi: Table) -> list[Case]:
    """The case for every op of one policy."""
    inputs = mdp | {"probabilities": pi}
    return [
        Case("policy_evaluation", slug, title, purpose, without(inputs, "start")),
        Case("visitation", slug, title, purpose, without(inputs, "reward"), (NORMALISED,)),
        Case("expected_return", slug, title, purpose, inputs),
    ]


def of_two_policies(slug: str, title: str, purpose: str, mdp: Inputs, old: Table, new: Table) -> list[Case]:
    """The case for every op of two policies in an MDP, but for the bounds."""
    inputs = mdp | {"old_probabilities": old, "new_probabilities": new}
    return [Case(op, slug, title, purpose, inputs) for op in ("performance_difference", "local_approximation")]


_GENERIC = (
    "Rewards and advantages of both signs, a start and transitions that are not uniform: a transposed table, another "
    "start, another policy or an index in the wrong place changes every number."
)
_SHORT = "γ = 1/2: a discount left out, or one too many, changes the first digits."
_LONG = (
    "γ = 1 − 2⁻¹⁰: values are a thousand times the rewards, advantages are not, and 1/(1 − γ) in the wrong place is a "
    "factor of a thousand."
)

_MODELS = (
    ("both-signs-5x3", 401, 5, 3, 63 / 64, "Rewards of both signs", _GENERIC),
    ("short-sighted-3x4", 402, 3, 4, 0.5, "Small γ", _SHORT),
    ("long-sighted-4x2", 403, 4, 2, 1 - 2.0**-10, "γ near 1", _LONG),
)


def _models() -> list[Case]:
    cases = []
    for slug, seed, states, actions, gamma, title, purpose in _MODELS:
        random = Random(seed)
        mdp = model(random, states, actions, gamma)
        old = policy(random, states, actions)
        new = moved(random, old)
        cases += of_one_policy(slug, title, purpose, mdp, old)
        cases += of_two_policies(slug, title, purpose, mdp, old, new)
        logits = numbers(random, states, actions)
        constants = numbers(random, states, within=4.0, step=0.25)
        logits = [[z + c for z in row] for row, c in zip(logits, constants, strict=True)]
        cases.append(Case("softmax_policy_gradient", slug, title, purpose, mdp | {"logits": logits}))
    return cases


def _with_rare_actions(old: Table, new: Table) -> tuple[Table, Table]:
    """Make the first action of one state rare under the new policy, and of another under the old one."""
    old, new = [list(row) for row in old], [list(row) for row in new]
    for row, spared in ((new[0], RARE), (old[1], RARE)):
        row[-1] += row[0] - spared
        row[0] = spared
    return old, new


def _tables() -> list[Case]:
    cases = []
    for slug, seed, states, actions, title, purpose in (
        ("five-states-5x3", 411, 5, 3, "Five states", "Differences of both signs in every state, of different sizes."),
        ("four-actions-3x4", 412, 3, 4, "Four actions", "Several actions gain and several lose: no one entry says it."),
        ("nine-states-9x2", 413, 9, 2, "Nine states", "Many states, few of which are far from the old policy."),
    ):
        random = Random(seed)
        old, new = policy(random, states, actions), policy(random, states, actions)
        inputs = {"old_probabilities": old, "new_probabilities": new}
        cases.append(Case("policy_total_variation", slug, title, purpose, inputs))
        near, farther = _with_rare_actions(old, moved(random, old))
        purpose = (
            "A change of some tenths, as an update makes, and one rare action each under the old and the new policy: "
            "the directions differ, and the state where the policy moved most is not the one that weighs most."
        )
        inputs = {
            "old_probabilities": near,
            "new_probabilities": farther,
            "state_weights": distribution(random, states),
        }
        cases.append(Case("policy_kl", slug, title, purpose, inputs, (NEW_OLD,)))
    random = Random(414)
    old = [[1 - 2.0**-18 - 0.25, 2.0**-18, 0.25], *policy(random, 3, 3)]
    new = [[0.5, 0.25, 0.25], [1 - 2.0**-19 - 0.5, 0.5, 2.0**-19], *policy(random, 2, 3)]
    cases.append(
        Case(
            "policy_kl",
            "rare-actions-4x3",
            "Probabilities near 1e-6 under the old or the new policy",
            "A small number added inside a logarithm shows where a probability is as small.",
            {"old_probabilities": old, "new_probabilities": new, "state_weights": distribution(random, 4, least=1)},
            (NEW_OLD,),
        )
    )
    return cases


_SIGNED = "The advantage of the largest magnitude is negative: without the absolute value ε is another one."


def _coefficients() -> list[Case]:
    cases = []
    for slug, seed, states, actions, gamma, worst, title, purpose in (
        ("largest-is-negative-4x3", 421, 4, 3, 63 / 64, -2.5, "The largest advantage is negative", _SIGNED),
        ("short-sighted-3x4", 422, 3, 4, 0.5, 2.25, "Small γ", _SHORT),
        ("long-sighted-5x2", 423, 5, 2, 1 - 2.0**-10, -2.75, "γ near 1", _LONG),
    ):
        advantages = numbers(Random(seed), states, actions)
        advantages[1][1] = worst
        cases.append(Case("penalty_coefficient", slug, title, purpose, {"advantages": advantages, "gamma": gamma}))
    return cases


def mean_kl_counterexample() -> Inputs:
    """The pair of `refpg.mdp.mean_kl_counterexample` with dyadic numbers, its two middle states not quite alike."""
    first = [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    then = [[0.0, 0.0, 0.0, 1.0]] * 2
    return {
        "transition": [first, then, then, then],
        "reward": [[0.0, 0.0], [-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]],
        "start": [1.0, 0.0, 0.0, 0.0],
        "gamma": 2.0**-7,
        "old_probabilities": [[0.5, 0.5]] * 4,
        "new_probabilities": [[19 / 32, 13 / 32], [61 / 64, 3 / 64], [1 / 16, 15 / 16], [0.5, 0.5]],
    }


def mean_total_variation_counterexample() -> Inputs:
    """The pair of `refpg.mdp.mean_total_variation_counterexample` with a third action, and no action given up."""
    stay, leave, there = [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]
    return {
        "transition": [[stay, leave, stay], [there, there, there]],
        "reward": [[0.0, 0.0, 0.0], [1.0, -1.0, 0.0]],
        "start": [1.0, 0.0],
        "gamma": 0.5,
        "old_probabilities": [[15 / 16, 0.0, 1 / 16], [0.5, 0.5, 0.0]],
        "new_probabilities": [[29 / 32, 1 / 32, 1 / 16], [1 / 64, 63 / 64, 0.0]],
    }


def _bounds() -> list[Case]:
    cases = []
    for slug, seed, states, actions, gamma, title, purpose in (
        ("both-signs-5x3", 437, 5, 3, 0.25, "Rewards of both signs", _GENERIC),
        ("short-sighted-3x4", 432, 3, 4, 0.5, "Small γ", _SHORT),
        ("long-sighted-4x2", 433, 4, 2, 1 - 2.0**-10, "γ near 1", _LONG),
    ):
        random = Random(seed)
        mdp, old = model(random, states, actions, gamma), policy(random, states, actions)
        inputs = mdp | {"old_probabilities": old, "new_probabilities": moved(random, old, 4)}
        cases.append(Case("lower_bounds", slug, title, purpose, inputs))
    cases.append(
        Case(
            "lower_bounds",
            "mean-kl-counterexample-4x2",
            "Where the mean KL gives no bound",
            "The policy moves most in states that are seldom visited: with the mean KL in place of the largest, the "
            "new policy's return lies below what would be called its bound.",
            mean_kl_counterexample(),
        )
    )
    cases.append(
        Case(
            "lower_bounds",
            "mean-tv-counterexample-2x3",
            "Where the mean total variation gives no bound",
            "The old policy never visits the state in which the new one loses: with the mean total variation squared "
            "in place of the largest, the new policy's return lies below what would be called its bound.",
            mean_total_variation_counterexample(),
        )
    )
    return cases


def _mm_steps() -> list[Case]:
    cases = []
    for slug, seed, states, actions, penalty, title, purpose in (
        (
            "both-signs-5x3",
            461,
            5,
            3,
            8.0,
            "A step of some tenths",
            "All states move to the same KL, however often they are visited: with a mean or a sum of KLs each would go "
            "its own way.",
        ),
        (
            "four-actions-3x4",
            462,
            3,
            4,
            3.0,
            "A large step",
            "A penalty that is soon paid for: the row is proportional to p/(ν − A), and far from p e^(A/λ).",
        ),
        (
            "dear-4x2",
            463,
            4,
            2,
            96.0,
            "A dear step",
            "A penalty as large as the theory's: the policy hardly moves, and where it moves to is told by the last "
            "digits of ordinary formulas.",
        ),
    ):
        random = Random(seed)
        inputs = {
            "old_probabilities": policy(random, states, actions),
            "advantages": numbers(random, states, actions),
            "visitation": [4 * part for part in distribution(random, states, least=2)],
            "penalty": penalty,
        }
        cases.append(Case("mm_step", slug, title, purpose, inputs))
    return cases


def _duals() -> list[Case]:
    cases = []
    for slug, seed, size, max_kl, title, purpose in (
        (
            "seven-parameters",
            471,
            7,
            2.0**-7,
            "Seven parameters",
            "A dense positive definite matrix, and a radius as in practice: β is far from 1.",
        ),
        (
            "five-parameters-wide",
            472,
            5,
            3.0,
            "A wide trust region",
            "β is below 1, and is not its own inverse.",
        ),
    ):
        random = Random(seed)
        B = numbers(random, size + 2, size)
        matrix = [[sum(row[i] * row[j] for row in B) + 0.5 * (i == j) for j in range(size)] for i in range(size)]
        inputs = {"matrix": matrix, "gradient": numbers(random, size), "max_kl": max_kl}
        cases.append(Case("trust_region_dual", slug, title, purpose, inputs))
    return cases


CASES: list[Case] = [*_models(), *_tables(), *_coefficients(), *_bounds(), *_mm_steps(), *_duals()]
