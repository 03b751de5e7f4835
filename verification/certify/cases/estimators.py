"""Cases of the estimators."""

from random import Random
from typing import Any

from verification.certify.cases import Case
from verification.certify.cases.dyadic import flags, numbers

_GAMMA, _LAMBDA = 63 / 64, 15 / 16


def _episodes(
    seed: int, length: int, width: int, terminated: tuple[Any, ...], truncated: tuple[Any, ...], **extra: float
) -> dict[str, Any]:
    """Draw a rollout whose next values are the next row's, except after an episode's last step and at the end."""
    random = Random(seed)
    values = numbers(random, length, width)
    finals = numbers(random, length, width)
    ends = {*terminated, *truncated}
    following = [
        [finals[t][e] if (t, e) in ends or t == length - 1 else values[t + 1][e] for e in range(width)]
        for t in range(length)
    ]
    return {
        "rewards": numbers(random, length, width),
        "values": values,
        "next_values": following,
        "terminated": flags(length, width, *terminated),
        "truncated": flags(length, width, *truncated),
        "gamma": _GAMMA,
        **extra,
    }


def _without(inputs: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name not in names}


def _rollout(seed: int, length: int, width: int, *dones: tuple[int, int]) -> dict[str, Any]:
    """Draw a rollout buffer with dones and last values."""
    random = Random(seed)
    return {
        "rewards": numbers(random, length, width),
        "values": numbers(random, length, width),
        "dones": flags(length, width, *dones),
        "last_values": numbers(random, width),
        "gamma": _GAMMA,
        "gae_lambda": _LAMBDA,
    }


_ENDINGS = (
    "Each environment ends episodes differently: terminated, truncated, both in turn; V(final), V(first of the next "
    "episode) and V(s_t) all differ, so every confusion of the three shows."
)
_BOUNDARY = (
    "An episode ends in the first row, episodes of one step follow each other, and one ends in the last row: every "
    "flag that is read a row too early or too late shows."
)
_SHORT_SIGHT = "γ = 1/2 and λ = 1/4: a discount, a λ or a default put in the wrong place changes the first digits."

_MIXED = _episodes(11, 7, 3, ((2, 0), (1, 2)), ((4, 1), (4, 2)), gae_lambda=_LAMBDA)
_EDGES = _episodes(12, 6, 4, ((0, 0), (2, 1), (3, 1), (5, 2)), ((0, 3), (1, 3), (5, 0)), gae_lambda=_LAMBDA)
_SHORT = _episodes(13, 8, 2, ((3, 0),), ((5, 1),), gae_lambda=0.25) | {"gamma": 0.5}
_ROLLOUT_MIXED = _rollout(14, 7, 3, (2, 0), (4, 1), (1, 2))
_ROLLOUT_EDGES = _rollout(15, 6, 4, (0, 0), (2, 1), (3, 1), (5, 2))
_ROLLOUT_SHORT = _rollout(16, 8, 2, (3, 0), (6, 1)) | {"gamma": 0.5, "gae_lambda": 0.25}

RETURNS = ({"gae.value_target": "reward_to_go"},)
NORMALISATIONS = tuple(
    ddof | epsilon
    for epsilon in ({}, *({"advantage.epsilon": value} for value in ("1e-8", "1e-6", "1e-8_in_root", "1e-6_at_least")))
    for ddof in ({}, {"advantage.ddof": "1"})
    if ddof | epsilon
)
"""Every way to normalise but the default one."""


def _batches() -> list[Case]:
    random = Random(17)
    advantages = numbers(random, 7)
    offset = [2.0 + a for a in numbers(random, 9, within=0.5)]
    narrow = [1.0 + x for x in numbers(random, 6, within=2.0**-12, step=2.0**-15)]
    purpose = "Few rows, so that N and N − 1 differ; the mean is far from 0 and the deviation from 1."
    close = "Standard deviation near 2⁻¹³: a number added to it, or to the variance, changes the leading digits."
    tiny = [2.0**-21 + x for x in numbers(Random(19), 6, within=2.0**-20, step=2.0**-24)]
    values, targets = numbers(random, 7), numbers(random, 7)
    return [
        Case(
            "normalize_advantages",
            "few-rows-7",
            "Seven advantages",
            purpose,
            {"advantages": [a + 0.75 for a in advantages]},
            NORMALISATIONS,
        ),
        Case(
            "normalize_advantages",
            "far-from-zero-9",
            "A mean of several deviations",
            "The mean is several standard deviations from 0: it must be subtracted, and before the division.",
            {"advantages": offset},
            NORMALISATIONS,
        ),
        Case(
            "normalize_advantages",
            "small-deviation-6",
            "Almost equal advantages",
            close,
            {"advantages": narrow},
            NORMALISATIONS,
        ),
        Case(
            "normalize_advantages",
            "tiny-deviation-6",
            "Advantages near 10⁻⁶",
            "Standard deviation below 10⁻⁶: a floor of that size is the divisor, and every epsilon has another answer.",
            {"advantages": tiny},
            NORMALISATIONS,
        ),
        Case(
            "explained_variance",
            "biased-7",
            "Values with a bias",
            "The residuals have a mean of their own, which the variance removes and the mean square does not.",
            {"values": [v + 0.5 for v in values], "targets": targets},
        ),
        Case(
            "explained_variance",
            "good-fit-9",
            "Values that explain most of the variance",
            "Residuals near 1/8 of the targets: a variance of the values in place of the targets' changes little, and "
            "must still show.",
            {
                "values": _plus(_plus(base := numbers(random, 9), numbers(random, 9, within=0.25)), [0.25] * 9),
                "targets": base,
            },
        ),
        Case(
            "explained_variance",
            "worse-than-the-mean-6",
            "Values worse than a constant",
            "The explained variance is negative, and is not clipped at 0.",
            {"values": numbers(random, 6, within=4.0), "targets": numbers(random, 6, within=1.0)},
        ),
    ]


def _plus(a: list[float], b: list[float]) -> list[float]:
    return [x + y for x, y in zip(a, b, strict=True)]


def _kl_estimators() -> list[Case]:
    random = Random(18)
    old = [x - 2.5 for x in numbers(random, 7)]
    near = [x - 2.0 for x in numbers(random, 6)]
    wide = [x - 4.0 for x in numbers(random, 5)]
    tiny = [k * 2.0**-20 for k in (3, -5, 8, -13, 16, -2)]
    return [
        Case(
            "kl_estimators",
            "both-signs-7",
            "Ratios on both sides of 1",
            "Log-ratios of both signs and of size up to 1: signs, halves and the direction of the ratio all show.",
            {"old_log_prob": old, "new_log_prob": _plus(old, numbers(random, 7, within=1.0))},
        ),
        Case(
            "kl_estimators",
            "large-changes-5",
            "Log-ratios up to ±6",
            "Ratios from 1/400 to 400: k3 is dominated by the ratio or by the logarithm.",
            {"old_log_prob": wide, "new_log_prob": _plus(wide, [5.5, -6.0, 3.25, -4.5, 6.0])},
        ),
        Case(
            "kl_estimators",
            "nearly-equal-6",
            "Log-ratios near 1e-5",
            "r − 1 − log r is near 1e-10, the difference of numbers near 1: exp(d) − 1 − d keeps six digits.",
            {"old_log_prob": near, "new_log_prob": _plus(near, tiny)},
        ),
        Case(
            "kl_estimators",
            "nearly-equal-stable-6",
            "Log-ratios near 1e-8",
            "k3 is near 1e-16: only a formula without cancellation keeps it, such as expm1(d) − d by its series.",
            {"old_log_prob": near, "new_log_prob": _plus(near, [k * 2.0**-28 for k in (3, -5, 8, -13, 16, -2)])},
            algorithms=(2,),
        ),
    ]


CASES: list[Case] = [
    Case(
        "gae",
        "both-endings-mid-rollout-7x3",
        "Terminations and truncations inside the rollout, open at its end",
        _ENDINGS,
        _MIXED,
        RETURNS,
    ),
    Case(
        "gae",
        "endings-at-the-edges-6x4",
        "Episodes of one step, endings in the first and the last row",
        _BOUNDARY,
        _EDGES,
        RETURNS,
    ),
    Case("gae", "short-sighted-8x2", "Small γ and λ", _SHORT_SIGHT, _SHORT, RETURNS),
    Case(
        "gae_rollout",
        "terminated-mid-rollout-7x3",
        "Episodes that end inside the rollout, open at its end",
        "dones[t] belongs to the action at t; the next row opens the next episode, and its value must not be read.",
        _ROLLOUT_MIXED,
        RETURNS,
    ),
    Case(
        "gae_rollout",
        "endings-at-the-edges-6x4",
        "Episodes of one step, endings in the first and the last row",
        _BOUNDARY,
        _ROLLOUT_EDGES,
        RETURNS,
    ),
    Case("gae_rollout", "short-sighted-8x2", "Small γ and λ", _SHORT_SIGHT, _ROLLOUT_SHORT, RETURNS),
    *(
        Case(op, slug, title, purpose, _without(inputs, *unused))
        for op, unused in (
            ("discounted_returns", ("values", "gae_lambda")),
            ("td_errors", ("truncated", "gae_lambda")),
        )
        for slug, title, purpose, inputs in (
            ("both-endings-mid-rollout-7x3", "Endings inside the rollout, open at its end", _ENDINGS, _MIXED),
            ("endings-at-the-edges-6x4", "Endings in the first and the last row", _BOUNDARY, _EDGES),
            (
                "short-sighted-8x2",
                "Small γ",
                "γ = 1/2: a discount left out or put in the wrong place changes the first digits.",
                _SHORT,
            ),
        )
    ),
    *_batches(),
    *_kl_estimators(),
]
