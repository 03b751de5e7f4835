"""Boundaries of the estimators: γ and λ at 0 and 1, both flags at once, few rows, nothing to estimate."""

from random import Random
from typing import Any

from verification.certify.cases import Case
from verification.certify.cases.dyadic import flags, numbers
from verification.certify.cases.estimators import NORMALISATIONS, RETURNS

_GAMMA, _LAMBDA = 63 / 64, 15 / 16
_TERMINATED = ((1, 0), (3, 1), (4, 1), (2, 2))
_TRUNCATED = ((1, 0), (5, 0), (4, 1), (2, 2), (0, 2))
"""Three steps carry both flags, one of them alone carries each."""


def _episodes(seed: int, length: int, width: int, gamma: float, **extra: float) -> dict[str, Any]:
    random = Random(seed)
    values, finals = numbers(random, length, width), numbers(random, length, width)
    terminated = tuple((t, e) for t, e in _TERMINATED if t < length and e < width)
    truncated = tuple((t, e) for t, e in _TRUNCATED if t < length and e < width)
    ends = {*terminated, *truncated}
    return {
        "rewards": numbers(random, length, width),
        "values": values,
        "next_values": [
            [finals[t][e] if (t, e) in ends or t == length - 1 else values[t + 1][e] for e in range(width)]
            for t in range(length)
        ],
        "terminated": flags(length, width, *terminated),
        "truncated": flags(length, width, *truncated),
        "gamma": gamma,
        **extra,
    }


def _without(inputs: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name not in names}


def _rollout(seed: int, length: int, width: int, gamma: float, gae_lambda: float) -> dict[str, Any]:
    random = Random(seed)
    return {
        "rewards": numbers(random, length, width),
        "values": numbers(random, length, width),
        "dones": flags(length, width, (1, 0), (3, 1), (4, 1)),
        "last_values": numbers(random, width),
        "gamma": gamma,
        "gae_lambda": gae_lambda,
    }


_BOTH = (
    "Terminated and truncated on the same step, as a time limit reached in a terminal state: it terminated, and "
    "nothing is bootstrapped there."
)
_MYOPIC = "γ = 0: the advantage is r − V, no value of a next observation enters, and λ does nothing."
_UNDISCOUNTED = "γ = λ = 1: plain sums to the end of the episode; only the flags stop them."
_ONE_STEP = "λ = 0: the advantage is the TD error, and any other λ put in its place changes every row."
_MONTE_CARLO = "λ = 1: the advantage is the discounted return less the value; a λ of 0.95 by default shows."


def _over_time() -> list[Case]:
    cases = []
    for slug, seed, length, width, gamma, gae_lambda, title, purpose in (
        ("both-flags-at-once-7x3", 91, 7, 3, _GAMMA, _LAMBDA, "Both flags on the same step", _BOTH),
        ("gamma-0-6x2", 92, 6, 2, 0.0, _LAMBDA, "γ = 0", _MYOPIC),
        ("gamma-1-lambda-1-6x3", 93, 6, 3, 1.0, 1.0, "γ = λ = 1", _UNDISCOUNTED),
        ("lambda-0-7x2", 94, 7, 2, _GAMMA, 0.0, "λ = 0", _ONE_STEP),
        ("lambda-1-8x3", 95, 8, 3, _GAMMA, 1.0, "λ = 1", _MONTE_CARLO),
    ):
        inputs = _episodes(seed, length, width, gamma, gae_lambda=gae_lambda)
        cases.append(Case("gae", slug, title, purpose, inputs, RETURNS))
        if "both" in slug:
            cases.append(Case("discounted_returns", slug, title, purpose, _without(inputs, "values", "gae_lambda")))
        else:
            rollout = _rollout(seed + 10, length, width, gamma, gae_lambda)
            cases.append(Case("gae_rollout", slug, title, purpose, rollout, RETURNS))
        if slug.startswith("gamma"):
            title, slug = f"γ = {gamma:g}", f"gamma-{gamma:g}-{length}x{width}"
            purpose = (
                _MYOPIC.replace("advantage", "error").replace(", and λ does nothing", "")
                if gamma == 0
                else ("γ = 1: plain sums; only the flags stop them, and a discount by default shows.")
            )
            cases.append(Case("td_errors", slug, title, purpose, _without(inputs, "truncated", "gae_lambda")))
            returns = _without(inputs, "values", "gae_lambda")
            purpose = purpose.replace("the error is r − V", "the return is the reward")
            cases.append(Case("discounted_returns", slug, title, purpose, returns))
    return cases


def _batches() -> list[Case]:
    random = Random(96)
    constant = [0.75] * 8
    equal = [x - 2.0 for x in numbers(random, 6)]
    far = [x - 20.0 for x in numbers(random, 5)]
    return [
        Case(
            "normalize_advantages",
            "three-rows-3",
            "Three rows",
            "N and N − 1 differ by a third: the two conventions of the deviation are 22 % apart.",
            {"advantages": [2.5, -0.75, 1.125]},
            NORMALISATIONS,
        ),
        Case(
            "normalize_advantages",
            "large-magnitudes-8",
            "Advantages of size 10⁶",
            "Unscaled rewards: squares near 10¹², and an answer that does not depend on the scale at all.",
            {"advantages": [2.0**20 * x for x in numbers(random, 8)]},
            NORMALISATIONS,
        ),
        Case(
            "explained_variance",
            "constant-values-8",
            "Values that are all the same",
            "A constant explains nothing, exactly 0, even where it is wrong on average; a variance of the "
            "values in the denominator is 0.",
            {"values": constant, "targets": numbers(random, 8)},
        ),
        Case(
            "explained_variance",
            "exact-values-5",
            "Values equal to their targets",
            "Everything is explained, exactly 1.",
            {"values": (same := numbers(random, 5)), "targets": same},
        ),
        Case(
            "kl_estimators",
            "equal-policies-6",
            "New and old log-probabilities are the same",
            "Every estimate is exactly 0, as in the first step after a rollout; a formula that "
            "lost its constant says −1.",
            {"old_log_prob": equal, "new_log_prob": equal},
        ),
        Case(
            "kl_estimators",
            "log-ratios-of-20-5",
            "Log-ratios of ±20",
            "e²⁰ beside −20: k3 of a row is a huge number or the negative log-ratio less 1.",
            {
                "old_log_prob": far,
                "new_log_prob": [x + d for x, d in zip(far, [19.5, -20.0, 12.25, -18.75, -0.5], strict=True)],
            },
        ),
    ]


CASES: list[Case] = [*_over_time(), *_batches()]
