"""Boundaries of the distributions: no choice left, certainty, logits of size 1000, deviations of e⁶ and e⁻⁶."""

from random import Random
from typing import Any

from verification.certify.cases import Case
from verification.certify.cases.dyadic import numbers

Table = list[list[float]]

_BY_LSE = (1, 2)  # the algorithms that keep logits beside their logsumexp

_EXTREME: Table = [
    [1000.0, -1000.0, 998.5, 0.25],
    [-996.0, -1000.0, -997.25, -999.5],
    [750.0, 749.0, -750.0, 751.5],
    [-3.0, 2.5, 1000.0, -1000.0],
    [90.0, 89.25, 91.5, -90.0],
]
"""e^z is not a number for three rows in float64, for four in float32, and 0 throughout in one."""

_NO_CHOICE = [
    [False, True, False, False],
    [True, False, False, False],
    [False, False, False, True],
    [False, False, True, False],
    [False, True, False, False],
    [True, False, False, False],
]
_ONLY = [1, 0, 3, 2, 1, 0]

_SMALL_AND_LARGE: Table = [
    [6.0, -6.0, 0.5],
    [-5.75, 5.5, -6.0],
    [-0.25, 6.0, 5.875],
    [-6.0, -5.5, 1.25],
    [5.25, 0.75, -4.5],
]


def _log_prob_entropy_score(family: str, slug: str, title: str, purpose: str, at: Any, actions: Any) -> list[Case]:
    return [
        Case(f"log_prob_{family}", slug, title, purpose, at | actions),
        Case(f"entropy_{family}", slug, title, purpose, at),
        Case(f"score_{family}", slug, title, purpose, at | actions),
    ]


def _categorical() -> list[Case]:
    overflow = (
        "e^z overflows or vanishes unless the largest logit is subtracted first; every answer is an ordinary number."
    )
    title = "Logits of size 1000"
    at, actions = {"logits": _EXTREME}, {"actions": [2, 0, 0, 1, 3]}
    slug = "logits-of-size-1000-5x4"
    random = Random(81)
    old = numbers(random, 5, 4, within=12.0, step=0.25)
    new = [[-x for x in row] for row in numbers(random, 5, 4, within=12.0, step=0.25)]
    far = {"old_logits": old, "new_logits": new}
    apart = (
        "Each policy is nearly sure of what the other excludes: KL is near 20 and depends on its direction most of all."
    )
    return [
        Case("log_prob_categorical", slug, title, overflow, at | actions, algorithms=_BY_LSE),
        Case("entropy_categorical", slug, title, overflow, at, algorithms=_BY_LSE),
        Case("score_categorical", slug, title, overflow, at | actions),
        Case("fisher_categorical", slug, title, overflow, at),
        Case("kl_categorical", "far-apart-5x4", "Policies that contradict each other", apart, far),
        Case("mean_kl_categorical", "far-apart-5x4", "Policies that contradict each other", apart, far),
    ]


def _masked() -> list[Case]:
    random = Random(82)
    logits = numbers(random, 6, 4, within=4.0, step=0.25)
    moved = [
        [x + d for x, d in zip(row, change, strict=True)]
        for row, change in zip(logits, numbers(random, 6, 4), strict=True)
    ]
    purpose = (
        "One action allowed per row: its probability is 1 whatever its logit, and log-probability, entropy, KL, score "
        "and Fisher matrix are exactly 0; 0 · log 0 and a mask that is ignored show at once."
    )
    title = "One allowed action per row"
    at, slug = {"logits": logits, "mask": _NO_CHOICE}, "no-choice-6x4"
    pair = {"old_logits": logits, "new_logits": moved, "mask": _NO_CHOICE}
    return [
        *_log_prob_entropy_score("masked_categorical", slug, title, purpose, at, {"actions": _ONLY}),
        Case("fisher_masked_categorical", slug, title, purpose, at),
        Case("kl_masked_categorical", slug, title, purpose, pair),
        Case("mean_kl_masked_categorical", slug, title, purpose, pair),
    ]


def _multi() -> list[Case]:
    random = Random(83)
    at = {"logits": numbers(random, 6, 5, within=20.0, step=0.5), "action_sizes": [3, 2]}
    purpose = "Logits spread over ±20 in every factor: nearly sure choices beside choices of probability 1e-15."
    actions = [[2, 1], [0, 0], [1, 1], [2, 0], [0, 1], [1, 0]]
    title = "Nearly sure factors"
    return _log_prob_entropy_score("multi_categorical", "nearly-sure-6x5", title, purpose, at, {"actions": actions})


def _bernoulli() -> list[Case]:
    logits = [[100.0, -90.0, 0.5], [-110.5, 87.25, -1.0], [95.0, -2.0, 120.0], [1.5, -99.0, -105.0]]
    actions = [[0, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 1]]
    purpose = (
        "The side taken has probability 1e-40 and less: 1 − p is 0 in any precision, while the log-probability is an "
        "ordinary number."
    )
    title = "Logits of size 100"
    at = {"logits": logits}
    return [
        Case(
            "log_prob_bernoulli", "logits-of-size-100-4x3", title, purpose, at | {"actions": actions}, algorithms=(1,)
        ),
        Case("score_bernoulli", "logits-of-size-100-4x3", title, purpose, at | {"actions": actions}),
    ]


def _gaussian() -> list[Case]:
    random = Random(84)
    means = numbers(random, 5, 3)
    steps = numbers(random, 5, 3, within=1.5, step=0.5)
    powers = [[2.0 ** round(s / 0.6931) for s in row] for row in _SMALL_AND_LARGE]
    actions = [[m + k * p for m, k, p in zip(*rows, strict=True)] for rows in zip(means, steps, powers, strict=True)]
    purpose = (
        "Deviations from e⁻⁶ to e⁶ side by side, as after a run that collapsed or ran away: numbers added to a "
        "variance, clamps and a variance taken for a deviation show."
    )
    title, slug = "log_std up to ±6", "log-std-6-5x3"
    at = {"mean": means, "log_std": _SMALL_AND_LARGE}
    moved = [[m + k * p / 4 for m, k, p in zip(*rows, strict=True)] for rows in zip(means, steps, powers, strict=True)]
    new_log_std = [
        [s + d for s, d in zip(row, change, strict=True)]
        for row, change in zip(_SMALL_AND_LARGE, numbers(random, 5, 3, within=0.375), strict=True)
    ]
    pair = {"old_mean": means, "old_log_std": _SMALL_AND_LARGE, "new_mean": moved, "new_log_std": new_log_std}
    far = numbers(random, 5, 3, within=1.0)
    saturated = [[30.0, -0.5, 1.25], [0.75, -25.5, 36.0], [-40.0, 1.0, 0.25], [12.5, -1.75, -33.0], [-0.25, 28.0, 2.0]]
    deep = (
        "Pre-tanh actions beyond ±25: the action rounds to ±1 even in float64, and log(1 − tanh²) is −∞ by its "
        "textbook formula; the correction −2|u| + 2 log 2 is an ordinary number."
    )
    return [
        *_log_prob_entropy_score("diagonal_gaussian", slug, title, purpose, at, {"actions": actions}),
        Case("fisher_diagonal_gaussian", slug, title, purpose, at),
        Case("kl_diagonal_gaussian", slug, title, purpose, pair),
        Case("mean_kl_diagonal_gaussian", slug, title, purpose, pair),
        Case(
            "log_prob_squashed_gaussian",
            "saturated-in-float64-5x3",
            "Actions that round to ±1 in float64",
            deep,
            {
                "mean": [
                    [u - 2.0 * d for u, d in zip(*rows, strict=True)] for rows in zip(saturated, far, strict=True)
                ],
                "log_std": far,
                "pre_tanh_actions": saturated,
            },
        ),
    ]


CASES: list[Case] = [*_categorical(), *_masked(), *_multi(), *_bernoulli(), *_gaussian()]
