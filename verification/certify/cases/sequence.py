"""Cases of the profile `sequence`.

Sequences end at different tokens, or have tokens inside that do not count, and what stands there is of the same size
as everything else: it must not show.  No ratio, of a token or of a sequence, is nearer than 2⁻⁷ to an edge.
"""

from random import Random
from typing import Any

from verification.certify.cases import Case
from verification.certify.cases.dyadic import numbers

CLIP, CLIP_HIGH = 3 / 16, 9 / 32  # the window is (0.8125, 1.28125): log-ratios −0.2076… and 0.2478…

AGGREGATIONS = tuple(
    {"sequence.aggregation": value}
    for value in ("sequence_mean_token_mean", "sequence_mean_token_sum", "token_sum_over_constant")
)
"""Every aggregation but the default one."""

_LEVELS = ({}, {"ratio.level": "sequence"})
_ESTIMATORS = ({}, {"kl_penalty.estimator": "k1"}, {"kl_penalty.estimator": "k2"})


def combined(*axes: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
    """Every combination of the values of some axes, except the defaults of all."""
    found: list[dict[str, str]] = [{}]
    for values in axes:
        found = [one | value for one in found for value in values]
    return tuple(one for one in found if one)


CLIPPED = combined(({}, *AGGREGATIONS), _LEVELS)
PENALISED = combined(({}, *AGGREGATIONS), _ESTIMATORS)
WHOLE = (
    *combined(({}, *AGGREGATIONS), _LEVELS, _ESTIMATORS[:2]),
    *({"kl_penalty.estimator": "k2"} | level for level in _LEVELS),
)
"""Every way to aggregate, with every ratio, with every penalty, with both: but the defaults, and k2 elsewhere."""

PUBLISHED = (
    {"sequence.aggregation": "sequence_mean_token_mean"},
    {"sequence.aggregation": "sequence_mean_token_mean", "ratio.level": "sequence"},
    {"sequence.aggregation": "token_sum_over_constant"},
    {"kl_penalty.estimator": "k1"},
    {"kl_penalty.estimator": "k2"},
)
"""GRPO, GSPO, Dr. GRPO; and the penalties of REINFORCE-like losses, with the mean over tokens."""


def table(*rows: str) -> list[list[bool]]:
    """A mask, drawn: x where the token counts."""
    return [[letter == "x" for letter in row] for row in rows]


def moved(start: list[list[float]], by: list[list[float]]) -> list[list[float]]:
    """The sum of two tables."""
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(start, by, strict=True)]


RIGHT_PADDED = table("xxxxx", "xxx..", "xx...")
HOLES = table(".xx..x", "x.xx..")
SHORT = table("xxx", "xx.")

HOLE_CHANGES = [[0.5, -0.28125, -0.40625, 1.0, 0.25, -0.15625], [0.4375, -0.75, 0.15625, 0.28125, -0.5, 0.625]]
"""Means −0.28125, below the window, and 0.291…, above."""
HOLE_ADVANTAGES = [[1.5, -0.5, 0.75, -2.0, 1.0, -1.25], [0.3125, 1.75, -0.625, 0.5625, -1.0, 2.5]]
SHORT_CHANGES = [[0.1875, 0.46875, 0.28125], [-0.3125, 0.1875, -0.75]]
"""Means 0.3125, above the window, and −0.0625, inside."""
PAIR = table("xxxx", "xx..")
PAIR_CHANGES = [[0.40625, 0.21875, 0.53125, -0.03125], [-0.34375, -0.15625, 0.09375, 0.625]]
"""Means 0.28125, above the window, and −0.25, below."""
PAIR_ADVANTAGES = [[1.25, 0.375, -0.75, -1.5], [-0.875, 0.5, 0.25, -2.0]]


def policies(seed: int, changes: list[list[float]]) -> dict[str, Any]:
    """Log-probabilities before and after the changes."""
    old = [[x - 2.0 for x in row] for row in numbers(Random(seed), *_size(changes), within=1.5)]
    return {"old_log_prob": old, "new_log_prob": moved(old, changes)}


def referred(seed: int, shape: tuple[int, int], within: float = 0.75) -> dict[str, Any]:
    """Log-probabilities of a policy and of its reference."""
    random = Random(seed)
    policy = [[x - 2.0 for x in row] for row in numbers(random, *shape, within=1.5)]
    reference = moved(policy, numbers(random, *shape, within=within))
    return {"log_prob": policy, "reference_log_prob": reference}


def _size(rows: list[list[Any]]) -> tuple[int, int]:
    return len(rows), len(rows[0])


def _reductions() -> list[Case]:
    purpose = "Lengths differ, so that every aggregation has another answer; what stands in the padding does not count."
    return [
        Case(
            "masked_aggregate",
            slug,
            title,
            purpose,
            {"values": numbers(Random(seed), *_size(mask)), "mask": mask, "constant": constant},
            AGGREGATIONS,
        )
        for slug, seed, mask, constant, title in (
            ("padded-right-3x5", 201, RIGHT_PADDED, 8.0, "Sequences of five, three and two tokens"),
            ("holes-2x6", 202, HOLES, 12.0, "Tokens that do not count before, between and after those that do"),
            ("one-token-4x3", 203, table("x..", "xxx", ".x.", "xx."), 6.0, "Sequences of a single token"),
        )
    ]


def _advantages() -> list[Case]:
    scattered = "The mean is far from 0 and the deviation from 1, over the tokens that count and over all others."
    drawn = [[a + 0.75 for a in row] for row in numbers(Random(211), 3, 4)]
    cases = [
        Case(
            "masked_normalize_advantages",
            "padded-right-3x4",
            "Sequences of four, three and one tokens",
            scattered,
            {"advantages": drawn, "mask": table("xxxx", "xxx.", "x...")},
            ({"advantage.ddof": "1"}, {"advantage.ddof": "1", "advantage.epsilon": "1e-8"}),
        ),
        Case(
            "masked_normalize_advantages",
            "holes-2x5",
            "Tokens that do not count before, between and after those that do",
            scattered,
            {"advantages": numbers(Random(212), 2, 5, within=3.0), "mask": table(".xx.x", "x.xx.")},
            ({"advantage.epsilon": "1e-8_in_root"},),
        ),
    ]
    for slug, seed, group, title, purpose in (
        (
            "interleaved-7",
            213,
            [2, 0, 2, 0, 0, 2, 0],
            "Two groups, interleaved",
            "Groups of three and of four in no order: their members are found by number, not by place.",
        ),
        (
            "in-blocks-8",
            214,
            [5, 5, 5, 5, 1, 1, 1, 1],
            "Two groups of four, one after the other",
            "The rewards of one group are all above those of the other: statistics of the batch differ from the "
            "group's in the first digit.",
        ),
    ):
        rewards = numbers(Random(seed), len(group))
        if slug.startswith("in"):
            rewards = [r + (2.5 if number == 5 else 0.0) for r, number in zip(rewards, group, strict=True)]
        cases.append(
            Case("group_advantages", slug, title, purpose, {"rewards": rewards, "group": group}, BASELINES[slug])
        )
    return cases


OTHERWISE = ({"group.baseline": "leave_one_out"}, {"group.scale": "none"})
"""The other baseline, and no scale."""
BASELINES = {
    "interleaved-7": ({"advantage.ddof": "1"}, *OTHERWISE, OTHERWISE[0] | OTHERWISE[1]),
    "in-blocks-8": OTHERWISE,
}


def _penalties() -> list[Case]:
    cases = []
    for slug, seed, mask, beta, title in (
        ("padded-right-3x5", 221, RIGHT_PADDED, 0.125, "Sequences of five, three and two tokens"),
        ("holes-2x6", 222, HOLES, 0.375, "Tokens that do not count before, between and after those that do"),
    ):
        inputs = referred(seed, _size(mask)) | {"mask": mask}
        rewards = {"scores": numbers(Random(seed), len(mask)), "kl_penalty": beta}
        purpose = "The score stands at the last token that counts, not at the last there is, and at no other."
        cases.append(Case("token_rewards", slug, title, purpose, inputs | rewards))
    for slug, seed, mask, constant, variants, title in (
        ("padded-right-2x3", 223, SHORT, 4.0, PENALISED, "Sequences of three and of two tokens"),
        ("holes-2x6", 224, HOLES, 8.0, PUBLISHED_PENALTIES, "Tokens that do not count, between others"),
    ):
        inputs = referred(seed, _size(mask)) | {"mask": mask, "constant": constant}
        purpose = "Log-ratios of both signs, large enough that the three estimators and their slopes differ."
        cases.append(Case("token_kl_penalty", slug, title, purpose, inputs, variants))
    return cases


PUBLISHED_PENALTIES = tuple(variant for variant in PUBLISHED if "ratio.level" not in variant)


def _objectives() -> list[Case]:
    cells = "Both signs of the advantage below, inside and above the window, for tokens and for sequences."
    cases = [
        Case(
            "token_clipped_objective",
            slug,
            title,
            cells,
            policies(seed, changes)
            | {"advantages": advantages, "mask": mask}
            | {"clip": CLIP, "clip_high": CLIP_HIGH, "constant": constant},
            variants,
        )
        for slug, seed, changes, advantages, mask, constant, variants, title in (
            (
                "padded-right-2x4",
                235,
                PAIR_CHANGES,
                PAIR_ADVANTAGES,
                PAIR,
                6.0,
                CLIPPED,
                "Sequences of four and of two tokens",
            ),
            (
                "holes-2x6",
                232,
                HOLE_CHANGES,
                HOLE_ADVANTAGES,
                HOLES,
                12.0,
                (AGGREGATIONS[0], AGGREGATIONS[0] | {"ratio.level": "sequence"}),
                "Tokens that do not count before, between and after those that do",
            ),
        )
    ]
    for slug, seed, changes, advantages, mask, constant, variants, title in (
        (
            "padded-right-2x3",
            233,
            SHORT_CHANGES,
            [1.375, -0.8125],
            SHORT,
            4.0,
            WHOLE,
            "Sequences of three and of two tokens",
        ),
        (
            "holes-2x6",
            234,
            HOLE_CHANGES,
            [-1.25, 0.9375],
            HOLES,
            8.0,
            PUBLISHED[:4],
            "Tokens that do not count before, between and after those that do",
        ),
    ):
        inputs = policies(seed, changes)
        reference = referred(seed, _size(mask))
        shift = moved(reference["reference_log_prob"], [[-x for x in row] for row in reference["log_prob"]])
        inputs |= {
            "reference_log_prob": moved(inputs["new_log_prob"], shift),
            "advantages": advantages,
            "mask": mask,
            "clip": CLIP,
            "clip_high": CLIP_HIGH,
            "kl_penalty": 0.15625,
            "constant": constant,
        }
        purpose = "The penalty is of the size of the gain: its sign, its weights and its estimator all show."
        cases.append(Case("sequence_objective", slug, title, purpose, inputs, variants))
    return cases


CASES: list[Case] = [*_reductions(), *_advantages(), *_penalties(), *_objectives()]
