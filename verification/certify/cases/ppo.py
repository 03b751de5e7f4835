"""The cases of the profile `ppo`.

Every sign of the advantage meets every side of the clip window, with a small positive advantage among them (the only
one that tells clipping rA from clipping r); no ratio is nearer than 2⁻⁶ to a kink.
"""

from typing import Any

from verification.certify.cases import Case
from verification.certify.cases.trpo import (
    Draw,
    categorical_policy,
    gaussian_policy,
    network,
    observed,
    on_grid,
    recorded,
    rollout,
)

CLIP = 3 / 16  # the window is (0.8125, 1.1875): log-ratios −0.2076… and 0.1718…

CELLS = [
    (-1.5, -0.375), (-1.75, 0.0625), (-0.4375, 0.40625),
    (0.3125, -0.3125), (0.1875, -0.09375), (0.625, 0.4375), (0.6875, 0.09375),
    (1.75, -0.46875), (2.25, 0.125), (1.125, 0.34375),
    (0.0, 0.28125),
]  # fmt: skip
"""(advantage, log-ratio): negative, small positive, large positive below, inside and above the window; and zero."""

FEW = [(-2.125, 0.5), (0.4375, 0.3125), (0.8125, 0.0625), (-0.9375, -0.28125), (1.375, -0.53125)]
"""Fewer rows, with another log-probability scale."""

LARGE = [
    (-0.6875, 1.75),
    (0.3125, 1.5),
    (0.5625, -2.25),
    (-1.25, -1.5),
    (2.5, 0.8125),
    (-0.375, -0.0625),
    (0.9375, 0.125),
]
"""Ratios far from 1, as after many epochs."""


BETWEEN = [
    (0.75, 0.21875), (1.25, 0.3125), (-0.5, -0.28125), (-1.125, -0.4375),
    (0.40625, -0.5), (-0.9375, 0.25), (1.5, 0.03125), (-1.75, -0.0625),
]  # fmt: skip
"""Ratios between 1 + 3/16 and 1 + 5/16, between 1 − 5/16 and 1 − 3/16, and outside both windows."""


def _log_probs(seed: int, cells: list[tuple[float, float]]) -> dict[str, Any]:
    draw = Draw(seed)
    old = [on_grid(-1.5 + draw.number(1.25, 7)) for _ in cells]
    new = [p + log_ratio for p, (_, log_ratio) in zip(old, cells, strict=True)]
    return {"old_log_prob": old, "new_log_prob": new}


def _clipping(seed: int, cells: list[tuple[float, float]]) -> dict[str, Any]:
    return _log_probs(seed, cells) | {"advantages": [a for a, _ in cells], "clip": CLIP}


def _row_cases() -> list[Case]:
    batches = [
        ("every-cell-11", "Every sign of the advantage on every side of the window", _clipping(101, CELLS)),
        ("few-rows-5", "Five rows", _clipping(102, FEW)),
        ("large-ratios-7", "Ratios far from 1", _clipping(103, LARGE)),
    ]
    cells = "A < 0, small and large A > 0, each below, inside and above the window."
    cases = []
    for slug, title, batch in batches:
        pair = {name: batch[name] for name in ("old_log_prob", "new_log_prob")}
        cases += [
            Case("ratio", slug, title, "Ratios on both sides of 1.", pair),
            Case("clipped_objective", slug, title, cells, batch),
            Case(
                "clipped_objective_gradient", slug, title, cells + " Zero where clipped on the improving side.", batch
            ),
            Case(
                "clip_fraction",
                slug,
                title,
                "Some rows leave the window on the side where clipping does not act.",
                batch,
                ({"clip_fraction.rule": "active"},),
            ),
            Case(
                "approximate_kl",
                slug,
                title,
                "Log-ratios large enough that the three estimators differ.",
                pair,
                ({"approximate_kl.estimator": "k1"}, {"approximate_kl.estimator": "k2"}),
            ),
        ]
    for slug, title, batch, penalty, seed in (
        ("every-cell-11", "Eleven rows", batches[0][2], 0.75, 104),
        ("few-rows-5", "Five rows with a large penalty", batches[1][2], 3.5, 105),
    ):
        draw = Draw(seed)
        divergences = [abs(draw.number(0.375, 7)) + 2.0**-7 for _ in batch["advantages"]]
        inputs = {name: batch[name] for name in ("old_log_prob", "new_log_prob", "advantages")}
        inputs = inputs | {"kl": divergences, "kl_penalty": penalty}
        purpose = "The divergence of every row is given: it is subtracted, weighed by the penalty, and not clipped."
        cases.append(Case("kl_penalized_objective", slug, title, purpose, inputs))
    return cases


def _bounded_cases() -> list[Case]:
    """Windows of two widths, and a bound for rows with A < 0."""
    cases = []
    for slug, title, cells, seed, low, high in (
        ("every-cell-11", "Every sign of the advantage on every side of the window", CELLS, 106, CLIP, 0.28125),
        ("between-the-edges-8", "Ratios between the narrow and the wide edge", BETWEEN, 107, CLIP, 0.3125),
        ("wide-below-8", "The window is wider below than above", BETWEEN, 108, 0.328125, CLIP),
    ):
        batch = _clipping(seed, cells)
        inputs = {name: batch[name] for name in batch if name != "clip"} | {"clip_low": low, "clip_high": high}
        purpose = "Each end of the window has its own distance from 1: rows between the two distances tell which."
        cases.append(Case("asymmetric_clipped_objective", slug, title, purpose, inputs))
    for slug, title, cells, seed, floor in (
        ("every-cell-11", "Every sign of the advantage on every side of the window", CELLS, 109, 1.25),
        ("few-rows-5", "Five rows", FEW, 110, 1.5),
        ("large-ratios-7", "Ratios far from 1", LARGE, 113, 3.0),
    ):
        purpose = "Rows with A < 0 above the floor, below it and inside the window; rows with A > 0 are left alone."
        inputs = _clipping(seed, cells) | {"floor": floor}
        cases.append(Case("dual_clipped_objective", slug, title, purpose, inputs))
    for slug, penalty, kl, target, title, purpose in (
        ("far-above", 0.1875, 22.5, 6.0, "Almost four times the target", "The error is at its upper limit."),
        ("slightly-above", 0.3125, 6.75, 6.0, "1.125 times the target", "Within the limits β follows the error."),
        ("slightly-below", 0.4375, 5.25, 6.0, "0.875 times the target", "Within the limits β follows the error."),
        ("far-below", 0.5625, 0.375, 6.0, "A sixteenth of the target", "The error is at its lower limit."),
        ("negative", 0.6875, -0.75, 6.0, "An estimate of the KL that is negative", "As far below the target."),
    ):
        inputs = {"kl_penalty": penalty, "kl": kl, "target": target, "samples": 768, "horizon": 4096}
        cases.append(Case("proportional_kl_penalty_update", slug, title, purpose, inputs))
    return cases


SCHEDULES = tuple({"kl_penalty.schedule": schedule} for schedule in ("rllib", "tf_agents", "pat_coady"))


def _penalty_cases() -> list[Case]:
    return [
        Case(
            "kl_penalty_update",
            slug,
            title,
            purpose,
            {"kl_penalty": penalty, "kl": kl, "target": target},
            SCHEDULES,
        )
        for slug, penalty, kl, target, title, purpose in (
            (
                "far-above",
                0.75,
                0.046875,
                0.015625,
                "Three times the target",
                "Every schedule raises the penalty, by 2 or by 1.5.",
            ),
            (
                "above",
                1.25,
                0.02734375,
                0.015625,
                "1.75 times the target",
                "The paper doubles, another raises by half, others wait for twice the target.",
            ),
            ("inside", 0.625, 0.01171875, 0.015625, "Three quarters of the target", "Nothing changes."),
            (
                "below",
                1.5,
                0.01953125,
                0.03125,
                "0.625 times the target",
                "The paper halves below 1/1.5 of the target, another lowers by a third below 0.7, others wait for 1/2.",
            ),
            (
                "far-below",
                2.5,
                0.00390625,
                0.015625,
                "A quarter of the target",
                "All schedules lower the penalty, to a half or to two thirds.",
            ),
            (
                "slightly-above",
                1.75,
                0.02197265625,
                0.015625,
                "1.4 times the target",
                "Above a window of ±30 %, inside every other one.",
            ),
            (
                "slightly-below",
                0.875,
                0.021484375,
                0.03125,
                "0.68 times the target",
                "Below a window of ±30 %, inside every other one.",
            ),
            (
                "large-penalty",
                27.5,
                0.078125,
                0.015625,
                "Five times the target, and a penalty that is large already",
                "A schedule with a limit of 35 stops there.",
            ),
            (
                "small-penalty",
                0.03515625,
                0.001953125,
                0.015625,
                "An eighth of the target, and a penalty that is small already",
                "A schedule with a limit of 1/35 stops there.",
            ),
            (
                "vanishing-penalty",
                1.25 * 2.0**-50,
                0.0,
                0.015625,
                "A penalty of 10⁻¹⁵",
                "The limits of 10⁻¹⁵ and of 1/35 hold the penalty up; other schedules halve it.",
            ),
        )
    ]


HALF = {"value_loss.factor": "1/2"}
SMOOTH = {"value_loss.error": "smooth_l1"}
ONLY = {"value_loss.clip": "clipped_only"}
CLAMPED = {"value_loss.clip": "clamped_error"}
CLIPPED = (HALF, ONLY, HALF | ONLY, CLAMPED, HALF | CLAMPED, SMOOTH, SMOOTH | ONLY)
"""The clipped losses; nobody halves the smooth error, which has its ½, or clamps it."""


def _value_cases() -> list[Case]:
    cases = []
    for slug, seed, rows, title in (("seven-rows", 111, 7, "Seven rows"), ("ten-rows", 112, 10, "Ten rows")):
        draw = Draw(seed)
        inputs = {"values": draw.numbers(rows, largest=2.0), "targets": draw.numbers(rows, largest=3.0)}
        purpose = "Errors of both signs, on either side of ±1; their mean is not zero, nor that of the targets."
        cases.append(Case("value_loss", slug, title, purpose, inputs, (HALF, SMOOTH)))
    for slug, change, error, title, purpose in (
        (
            "every-cell-9",
            [0.5, 0.5, -0.5, -0.625, 0.09375, -0.125, 0.4375, 0.15625, -0.40625],
            [0.75, -0.6875, -0.5, 0.8125, 0.625, -0.75, -1.125, -0.4375, 0.28125],
            "Values that left the window towards the target and away from it",
            "Both signs of the error, below, inside and above the window; each error is the larger one in some row.",
        ),
        (
            "negative-errors-6",
            [0.5, -0.4375, 0.34375, -0.0625, 0.125, 0.625],
            [-0.25, -0.8125, -1.25, -0.5, -0.75, -1.5],
            "Values below their targets",
            "Where errors are negative, the larger error is not the larger square.",
        ),
    ):
        draw = Draw(len(change))
        old = draw.numbers(len(change), largest=1.5)
        values = [v + c for v, c in zip(old, change, strict=True)]
        targets = [v - e for v, e in zip(values, error, strict=True)]
        inputs = {"values": values, "old_values": old, "targets": targets, "clip": CLIP}
        cases.append(Case("clipped_value_loss", slug, title, purpose, inputs, CLIPPED))
    return cases


def _policy_cases() -> list[Case]:
    cells, few = [c for _, c in CELLS], [c for _, c in FEW]
    signs, few_signs = [a for a, _ in CELLS], [a for a, _ in FEW]
    cases = []
    for slug, (draw, policy), log_ratios, advantages, title in (
        (
            "gaussian-11x4-5-3",
            gaussian_policy(121),
            cells,
            signs,
            "Gaussian policy, three action dimensions, every cell",
        ),
        (
            "categorical-11x2-5-4-3",
            categorical_policy(122, (2, 5, 4, 3)),
            cells,
            signs,
            "Categorical policy, two hidden layers, every cell",
        ),
        (
            "categorical-relu-5x3-6-4",
            categorical_policy(123, (3, 6, 4), "relu"),
            few,
            few_signs,
            "Categorical policy with ReLU",
        ),
    ):
        rows = len(advantages)
        inputs = rollout(draw, policy, rows, old=False) | {"advantages": advantages, "clip": CLIP}
        inputs["old_log_prob"] = recorded(policy, inputs["observations"], inputs["actions"], log_ratios)
        purpose = "Rows that are clipped on the improving side give nothing, those clipped on the other side push back."
        cases.append(Case("clipped_objective_parameter_gradient", slug, title, purpose, inputs))
        if "relu" not in slug:
            value_network = network(draw, (len(inputs["observations"][0]), 6, 1))
            total = inputs | {
                "value_network": value_network,
                "value_targets": draw.numbers(rows, largest=3.0),
                "value_coefficient": 0.625,
                "entropy_coefficient": 0.09375,
            }
            purpose = "All three terms with coefficients that are not 0 or 1."
            cases.append(Case("ppo_objective", slug, title, purpose, total, (HALF, SMOOTH)))
    for slug, (draw, policy), rows, title in (
        ("gaussian-7x4-5-3", gaussian_policy(124), 7, "Gaussian policy, three action dimensions"),
        ("categorical-7x3-5-4", categorical_policy(125), 7, "Categorical policy"),
        ("categorical-9x2-5-4-3", categorical_policy(126, (2, 5, 4, 3)), 9, "Categorical policy, two hidden layers"),
    ):
        purpose = "The value and the gradient: a constant or a factor can be missing in one of them."
        cases.append(Case("entropy_bonus", slug, title, purpose, observed(draw, policy, rows)))
    return cases


def _adam_cases() -> list[Case]:
    cases = []
    for slug, seed, size, step, epsilon, title, purpose in (
        (
            "first-step-5",
            131,
            5,
            1,
            2.0**-10,
            "The first step",
            "From zero moments: the correction of the bias is largest.",
        ),
        ("third-step-7", 132, 7, 3, 2.0**-10, "The third step", "With moments of earlier gradients."),
        ("large-epsilon-6", 133, 6, 4, 2.0**-3, "A large epsilon", "Where epsilon stands in the formula is visible."),
    ):
        draw = Draw(seed)
        zero = [0.0] * size
        g = draw.numbers(size, largest=1.0)
        inputs = {
            "parameters": draw.numbers(size, largest=1.0),
            "gradient": [x if abs(x) > 2.0**-3 else x + 0.25 for x in g],
            "first_moment": zero if step == 1 else draw.numbers(size, largest=0.5, bits=6),
            "second_moment": zero
            if step == 1
            else [abs(x) + 2.0**-5 for x in draw.numbers(size, largest=0.25, bits=7)],
            "step": step,
            "learning_rate": 2.0**-5,
            "beta1": 0.875,
            "beta2": 1 - 2.0**-6,
            "epsilon": epsilon,
        }
        cases.append(Case("adam_step", slug, title, purpose, inputs))
    return cases


def _epoch_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), rows, minibatches, title in (
        (
            "gaussian-9x4-5-3",
            gaussian_policy(141),
            9,
            [[4, 0, 7], [2, 8, 5, 1], [6, 3]],
            "Gaussian policy, three minibatches of different sizes",
        ),
        (
            "categorical-8x3-5-4",
            categorical_policy(142),
            8,
            [[1, 6, 3], [7, 0], [5], [2, 4]],
            "Categorical policy, four minibatches, one of a single row",
        ),
        (
            "gaussian-equal-sizes-10x2-5-4-3",
            gaussian_policy(143, (2, 5, 4, 3)),
            10,
            [[6, 1, 9, 4], [0, 8, 3, 5], [7, 2]],
            "Gaussian policy, minibatches cut from one permutation, the last one smaller",
        ),
    ):
        inputs = rollout(draw, policy, rows) | {
            "minibatches": minibatches,
            "clip": CLIP,
            "learning_rate": 2.0**-5,
            "beta1": 0.875,
            "beta2": 1 - 2.0**-6,
            "epsilon": 2.0**-7,
        }
        purpose = "The recorded log-probabilities stay while the policy moves; the mean is over the minibatch."
        cases.append(Case("ppo_epoch", slug, title, purpose, inputs))
    return cases


CASES: list[Case] = [
    *_row_cases(),
    *_bounded_cases(),
    *_penalty_cases(),
    *_value_cases(),
    *_policy_cases(),
    *_adam_cases(),
    *_epoch_cases(),
]
