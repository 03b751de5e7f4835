"""Boundaries of the profile `sequence`: huge padding, policies that agree, nearly equal ones, groups of two."""

from random import Random
from typing import Any

from verification.certify.cases import Case
from verification.certify.cases.dyadic import numbers
from verification.certify.cases.estimators import NORMALISATIONS
from verification.certify.cases.sequence import (
    AGGREGATIONS,
    CLIP,
    CLIP_HIGH,
    OTHERWISE,
    SHORT,
    SHORT_CHANGES,
    moved,
    policies,
    referred,
    table,
)

_HUGE = 1000.0
_SEQUENCE = {"ratio.level": "sequence"}


def _padded(rows: list[list[float]], mask: list[list[bool]], number: float) -> list[list[float]]:
    """The number where the mask is false."""
    return [[x if counts else number for x, counts in zip(*line, strict=True)] for line in zip(rows, mask, strict=True)]


def _huge_padding() -> list[Case]:
    title = "Padding whose ratio overflows"
    purpose = "e¹⁰⁰⁰ times 0 is not 0 in floating point: what does not count is selected away, not multiplied away."
    inputs = policies(241, SHORT_CHANGES)
    inputs = {"old_log_prob": _padded(inputs["old_log_prob"], SHORT, -_HUGE), **_new(inputs)}
    window = {"mask": SHORT, "clip": CLIP, "clip_high": CLIP_HIGH, "constant": 4.0}
    pair = referred(242, (2, 3))
    reference = _padded(pair["reference_log_prob"], SHORT, _HUGE)
    return [
        Case(
            "token_clipped_objective",
            "huge-padding-2x3",
            title,
            purpose,
            inputs | {"advantages": [[0.75, 1.25, -0.5], [-1.125, -0.375, -0.875]]} | window,
            (_SEQUENCE,),
        ),
        Case(
            "token_kl_penalty",
            "huge-padding-2x3",
            title,
            purpose,
            pair | {"reference_log_prob": reference, "mask": SHORT, "constant": 4.0},
            ({"kl_penalty.estimator": "k1"}, {"kl_penalty.estimator": "k2"}),
        ),
        Case(
            "masked_aggregate",
            "huge-padding-2x4",
            "Padding of 10⁶",
            "What stands in the padding is far larger than all that counts.",
            {
                "values": _padded(numbers(Random(244), 2, 4), mask := table("xxx.", "xx.."), 2.0**20),
                "mask": mask,
                "constant": 8.0,
            },
            AGGREGATIONS,
        ),
        Case(
            "token_rewards",
            "full-length-2x3",
            "Sequences without padding",
            "The last token there is has the score.",
            referred(245, (2, 3)) | {"scores": [1.5, -0.625], "mask": table("xxx", "xxx"), "kl_penalty": 0.25},
        ),
    ]


def _new(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"new_log_prob": inputs["new_log_prob"]}


def _agreeing() -> list[Case]:
    mask = table("xxxx", "xx..", "x...")
    same = policies(251, [[0.0] * 4] * 3)
    return [
        Case(
            "token_clipped_objective",
            "equal-policies-3x4",
            "New and old log-probabilities are the same",
            "As in the first epoch: every ratio is 1 at either level, and the gradient is the advantage, weighed.",
            same
            | {"advantages": numbers(Random(252), 3, 4), "mask": mask}
            | {"clip": CLIP, "clip_high": CLIP_HIGH, "constant": 8.0},
            (_SEQUENCE,),
        ),
        Case(
            "token_kl_penalty",
            "nearly-equal-stable-2x4",
            "Log-ratios near 1e-6",
            "k3 is near 1e-12: exp(−d) − 1 + d keeps four digits, expm1(−d) + d keeps ten.",
            _near(253) | {"mask": table("xxxx", "xxx."), "constant": 8.0},
            algorithms=(1,),
        ),
    ]


def _near(seed: int) -> dict[str, Any]:
    policy = [[x - 2.0 for x in row] for row in numbers(Random(seed), 2, 4)]
    change = [[k * 2.0**-20 for k in row] for row in ((3, -5, 8, -13), (16, -2, 11, -7))]
    return {"log_prob": policy, "reference_log_prob": moved(policy, change)}


def _few() -> list[Case]:
    tiny = [[2.0**-21 + x for x in row] for row in numbers(Random(261), 2, 4, within=2.0**-20, step=2.0**-24)]
    return [
        Case(
            "masked_normalize_advantages",
            "tiny-deviation-2x4",
            "Advantages near 10⁻⁶",
            "Standard deviation below 10⁻⁶: a floor of that size is the divisor, and every epsilon has another answer.",
            {"advantages": tiny, "mask": table("xxxx", "xx..")},
            NORMALISATIONS,
        ),
        Case(
            "group_advantages",
            "pairs-6",
            "Three groups of two, rewards near 10⁻⁶",
            "The smallest groups: the better one has +1 and the worse −1, unless an epsilon is as large as their "
            "difference; N − 1 is 1.",
            {"rewards": [k * 2.0**-23 for k in (2, 16, -11, 7, -2, 9)], "group": [1, 0, 3, 1, 3, 0]},
            (*NORMALISATIONS, *OTHERWISE),
        ),
        Case(
            "group_advantages",
            "right-or-wrong-9",
            "Rewards of 0 and 1",
            "One of four is right in one group, three of five in the other: a rare success has a large advantage.",
            {
                "rewards": [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0],
                "group": [7, 4, 4, 7, 4, 4, 7, 4, 7],
            },
            OTHERWISE,
        ),
    ]


CASES: list[Case] = [*_huge_padding(), *_agreeing(), *_few()]
