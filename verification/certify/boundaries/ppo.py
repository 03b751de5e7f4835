"""Boundaries of the profile `ppo`: beside the edges of the clip window, huge advantages, nothing to learn."""

from typing import Any

from verification.certify.boundaries.trpo import beside_the_kink, sure_policy
from verification.certify.cases import Case
from verification.certify.cases.ppo import CELLS, CLIP, CLIPPED, FEW, HALF, SCHEDULES, SMOOTH
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

ACTIVE = {"clip_fraction.rule": "active"}

EDGES = [
    (-1.25, -0.2109375), (0.6875, -0.2109375), (-0.4375, -0.203125), (1.5, -0.203125),
    (-2.125, 0.1640625), (0.3125, 0.1640625), (-0.8125, 0.1796875), (1.75, 0.1796875), (0.4375, 0.1796875),
]  # fmt: skip
"""Ratios 0.8098, 0.8162 | 1.1783, 1.1968 about the window (0.8125, 1.1875)."""

NARROW = [
    (-1.5, -0.0234375), (0.4375, -0.0234375), (2.25, 0.0234375), (-0.6875, 0.0234375),
    (0.8125, 0.0078125), (-1.125, -0.0078125), (1.25, 0.3125),
]  # fmt: skip


def _log_probs(seed: int, log_ratios: list[float]) -> dict[str, list[float]]:
    draw = Draw(seed)
    old = [on_grid(-1.5 + draw.number(1.25, 7)) for _ in log_ratios]
    return {"old_log_prob": old, "new_log_prob": [p + d for p, d in zip(old, log_ratios, strict=True)]}


def _clipping(seed: int, cells: list[tuple[float, float]], clip: float = CLIP, scale: float = 1.0) -> dict[str, Any]:
    return _log_probs(seed, [d for _, d in cells]) | {"advantages": [scale * a for a, _ in cells], "clip": clip}


def _row_cases() -> list[Case]:
    cases = []
    for slug, title, purpose, batch in (
        (
            "beside-the-edges-9",
            "Ratios within 1 % of both edges of the window",
            "On either side of either edge with advantages of both signs: a window measured in the log-ratio has other "
            "edges, and rows on the wrong side.",
            _clipping(151, EDGES),
        ),
        (
            "advantages-of-size-100000-7",
            "Advantages of size 10⁵",
            "Unnormalised advantages: the ratio is clipped, not the product, and both branches have the same one.",
            _clipping(152, CELLS[:7], scale=2.0**16),
        ),
        (
            "narrow-window-7",
            "A window of ±2⁻⁶",
            "Log-ratios of 0.02 are outside: nearly all rows are clipped or push back.",
            _clipping(153, NARROW, 2.0**-6),
        ),
    ):
        cases += [
            Case("clipped_objective", slug, title, purpose, batch),
            Case("clipped_objective_gradient", slug, title, purpose, batch),
            Case("clip_fraction", slug, title, purpose, batch, (ACTIVE,)),
        ]
    estimators = ({"approximate_kl.estimator": "k1"}, {"approximate_kl.estimator": "k2"})
    equal = _log_probs(154, [0.0] * 6)
    close = _log_probs(155, [k * 2.0**-20 for k in (3, -5, 8, -13, 16, -2, 7)])
    far = _log_probs(156, [60.0, -55.5, 40.25, -62.0, 0.5])
    batch = _clipping(157, [(0.0, d) for _, d in CELLS[:6]])
    penalised = {name: batch[name] for name in ("old_log_prob", "new_log_prob", "advantages")}
    return [
        *cases,
        Case(
            "ratio",
            "nearly-one-7",
            "Log-ratios near 10⁻⁵",
            "As in the first epoch: a ratio that is 1 by construction, or inverted, is off in the sixth digit.",
            close,
        ),
        Case(
            "ratio",
            "log-ratios-of-60-5",
            "Log-ratios of ±60",
            "Ratios from 10⁻²⁷ to 10²⁶ are still numbers: nothing is clamped here.",
            far,
        ),
        Case(
            "approximate_kl",
            "equal-policies-6",
            "New and old log-probabilities are the same",
            "Every estimator is exactly 0; one that lost its constant says −1.",
            equal,
            estimators,
        ),
        Case(
            "approximate_kl",
            "nearly-equal-7",
            "Log-ratios near 10⁻⁵",
            "k1 is the mean of small numbers of both signs, k2 and k3 are near 10⁻¹⁰: the estimators differ by orders.",
            close,
            estimators,
        ),
        Case(
            "kl_penalized_objective",
            "zero-advantages-6",
            "No advantage anywhere",
            "What is left is −β times the mean KL: its sign, and that it is there at all.",
            penalised | {"kl": [0.125, 0.03125, 0.25, 0.0625, 0.40625, 0.1875], "kl_penalty": 1.75},
        ),
    ]


def _penalty_cases() -> list[Case]:
    return [
        Case("kl_penalty_update", slug, title, purpose, {"kl_penalty": beta, "kl": kl, "target": target}, SCHEDULES)
        for slug, beta, kl, target, title, purpose in (
            (
                "just-inside-above",
                1.375,
                0.0234375 - 2.0**-12,
                2.0**-6,
                "Just below 1.5 times the target",
                "Inside the band of the paper: nothing changes, and a schedule without a band doubles.",
            ),
            (
                "just-outside-above",
                0.875,
                0.0234375 + 2.0**-12,
                2.0**-6,
                "Just above 1.5 times the target",
                "The paper doubles, others wait for twice the target.",
            ),
            (
                "just-outside-below",
                2.25,
                2.0**-6 - 2.0**-12,
                0.0234375,
                "Just below the target over 1.5",
                "The paper halves, others wait for half the target.",
            ),
            (
                "zero-kl",
                3.0,
                0.0,
                2.0**-6,
                "The policy did not move",
                "A KL of exactly 0 is below every band: all schedules lower the penalty.",
            ),
        )
    ]


def _value_cases() -> list[Case]:
    draw = Draw(161)
    values = draw.numbers(6, largest=2.0)
    huge = {
        "values": [4096 * v for v in draw.numbers(8, largest=2.0)],
        "targets": [4096 * t for t in draw.numbers(8, largest=3.0)],
    }
    step = 2.0**-8
    changes = [CLIP - step, CLIP + step, -CLIP + step, -CLIP - step, CLIP + step, -CLIP - step, 0.0]
    errors = [0.5, -0.625, -0.375, 0.75, 0.4375, -0.5, 0.25]
    old = draw.numbers(7, largest=1.5)
    near = [v + c for v, c in zip(old, changes, strict=True)]
    return [
        Case(
            "value_loss",
            "exact-values-6",
            "Values equal to their targets",
            "The loss is exactly 0; a column against a row leaves twice the variance.",
            {"values": values, "targets": values},
            (HALF, SMOOTH),
        ),
        Case(
            "value_loss",
            "returns-of-size-10000-8",
            "Returns of size 10⁴",
            "Unscaled rewards: squares near 10⁸, and no clipping of the error.",
            huge,
            (HALF, SMOOTH),
        ),
        Case(
            "clipped_value_loss",
            "beside-the-edges-7",
            "Changes within 2 % of both edges of the window",
            "On either side of either edge, towards the target and away from it, and one value that did not change.",
            {
                "values": near,
                "old_values": old,
                "targets": [v - e for v, e in zip(near, errors, strict=True)],
                "clip": CLIP,
            },
            CLIPPED,
        ),
    ]


def _on_cells(draw: Draw, policy: dict[str, Any], cells: list[tuple[float, float]]) -> dict[str, Any]:
    inputs = rollout(draw, policy, len(cells), old=False)
    inputs |= {"advantages": [a for a, _ in cells], "clip": CLIP}
    log_ratios = [d for _, d in cells]
    return inputs | {"old_log_prob": recorded(policy, inputs["observations"], inputs["actions"], log_ratios)}


def _gradient_cases() -> list[Case]:
    slope = "The derivative of {} is taken at the pre-activation, not at its output."
    cases = []
    for slug, (draw, policy), cells, title, purpose in (
        (
            "gaussian-elu-11x2-4-3",
            gaussian_policy(171, (2, 4, 3), "elu"),
            CELLS,
            "Gaussian policy with ELU, every cell",
            slope.format("ELU"),
        ),
        (
            "categorical-gelu-5x3-6-4",
            categorical_policy(172, (3, 6, 4), "gelu"),
            FEW,
            "Categorical policy with GELU",
            slope.format("GELU"),
        ),
        (
            "gaussian-three-hidden-5x2-4-6-7-3",
            gaussian_policy(173, (2, 4, 6, 7, 3)),
            FEW,
            "Gaussian policy, three hidden layers",
            "Every layer's gradient is carried through all those above it.",
        ),
    ):
        cases.append(Case("clipped_objective_parameter_gradient", slug, title, purpose, _on_cells(draw, policy, cells)))
    inputs = beside_the_kink(174, 7)
    inputs |= {"advantages": [a for a, _ in CELLS[:7]], "clip": CLIP}
    log_ratios = [d for _, d in CELLS[:7]]
    inputs["old_log_prob"] = recorded(inputs["policy"], inputs["observations"], inputs["actions"], log_ratios)
    purpose = "Every hidden unit is 2⁻⁶ from its kink in some row: a slope of 1 on one side, 0 on the other."
    title = "Categorical policy with ReLU, units beside the kink"
    cases.append(Case("clipped_objective_parameter_gradient", "categorical-kink-7x3-6-4", title, purpose, inputs))
    return cases


def _entropy_cases() -> list[Case]:
    return [
        Case(
            "entropy_bonus",
            slug,
            title,
            purpose,
            observed(draw, policy, rows),
        )
        for slug, (draw, policy), rows, title, purpose in (
            (
                "categorical-nearly-sure-7x3-5-4",
                sure_policy(181, (3, 5, 4), 8.0),
                7,
                "Categorical policy that is nearly deterministic",
                "Probabilities down to 10⁻¹⁰: p log p and its gradient are small and stay so.",
            ),
            (
                "gaussian-log-std-6-5x4-6-3",
                gaussian_policy(182, (4, 6, 3), log_std=[6.0, -5.5, -6.0]),
                5,
                "Gaussian policy with log_std up to ±6",
                "The entropy is negative here, as a differential entropy may be.",
            ),
            (
                "categorical-silu-9x2-5-3",
                categorical_policy(183, (2, 5, 3), "silu"),
                9,
                "Categorical policy with SiLU",
                "The derivative of SiLU is taken at the pre-activation, not at its output.",
            ),
        )
    ]


def _total_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), cells, title, purpose in (
        (
            "categorical-zero-advantages-7x3-5-4",
            categorical_policy(184),
            [(0.0, d) for _, d in CELLS[:7]],
            "Categorical policy, no advantage anywhere",
            "The clipped term and its gradient vanish: what is left are the entropy and the value loss, each with its "
            "sign and coefficient.",
        ),
        (
            "gaussian-softplus-5x2-4-3",
            gaussian_policy(185, (2, 4, 3), "softplus"),
            FEW,
            "Gaussian policy with softplus",
            "The derivative of softplus is taken at the pre-activation, not at its output.",
        ),
    ):
        inputs = _on_cells(draw, policy, cells) | {
            "value_network": network(draw, (len(policy["layers"][0]["W"]), 6, 1), policy["activation"]),
            "value_targets": draw.numbers(len(cells), largest=3.0),
            "value_coefficient": 0.375,
            "entropy_coefficient": 0.15625,
        }
        cases.append(Case("ppo_objective", slug, title, purpose, inputs, (HALF, SMOOTH)))
    return cases


def _adam_cases() -> list[Case]:
    cases = []
    for slug, seed, size, changed, title, purpose in (
        (
            "zero-gradient-6",
            191,
            6,
            {"gradient": [0.0] * 6, "step": 5},
            "A gradient of zero",
            "The parameters go on moving by what the moments remember.",
        ),
        (
            "step-1000-5",
            192,
            5,
            {"step": 1000, "beta2": 1 - 2.0**-10},
            "The thousandth step",
            "The first moment needs no correction any more, the second still does: 1 − β₂ᵗ is 0.62.",
        ),
        (
            "usual-constants-7",
            193,
            7,
            {"learning_rate": 3e-4, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "step": 2},
            "The constants of most libraries",
            "β = 0.9 and 0.999, ε = 10⁻⁸, as the float64 numbers they are stored as.",
        ),
    ):
        draw = Draw(seed)
        inputs = {
            "parameters": draw.numbers(size, largest=1.0),
            "gradient": [x + (0.25 if x >= 0 else -0.25) for x in draw.numbers(size, largest=1.0)],
            "first_moment": draw.numbers(size, largest=0.5, bits=6),
            "second_moment": [abs(x) + 2.0**-5 for x in draw.numbers(size, largest=0.25, bits=7)],
            "step": 1,
            "learning_rate": 2.0**-5,
            "beta1": 0.875,
            "beta2": 1 - 2.0**-6,
            "epsilon": 2.0**-10,
        } | changed
        cases.append(Case("adam_step", slug, title, purpose, inputs))
    return cases


def _epoch_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), rows, minibatches, advantages, title, purpose in (
        (
            "gaussian-elu-8x4-5-3",
            gaussian_policy(194, (4, 5, 3), "elu"),
            8,
            [[5, 2, 7, 0], [1, 6, 3, 4]],
            {},
            "Gaussian policy with ELU, two minibatches of one size",
            "Between the minibatches the policy moves and the recorded log-probabilities stay.",
        ),
        (
            "categorical-first-without-gradient-7x3-5-4",
            categorical_policy(195),
            7,
            [[3, 0], [5, 1], [6], [2, 4]],
            {0: 0.0, 3: 0.0},
            "Categorical policy, a first minibatch without a gradient",
            "The first step is 0/(0 + ε) = 0, and counts: the second step's correction is that of t = 2.",
        ),
    ):
        inputs = rollout(draw, policy, rows)
        inputs["advantages"] = [advantages.get(row, a) for row, a in enumerate(inputs["advantages"])]
        inputs |= {
            "minibatches": minibatches,
            "clip": CLIP,
            "learning_rate": 2.0**-5,
            "beta1": 0.875,
            "beta2": 1 - 2.0**-6,
            "epsilon": 2.0**-7,
        }
        cases.append(Case("ppo_epoch", slug, title, purpose, inputs))
    return cases


CASES: list[Case] = [
    *_row_cases(),
    *_penalty_cases(),
    *_value_cases(),
    *_gradient_cases(),
    *_entropy_cases(),
    *_total_cases(),
    *_adam_cases(),
    *_epoch_cases(),
]
