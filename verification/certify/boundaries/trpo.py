"""Boundaries of the profile `trpo`: θ at θ_old and next to it, kinks, saturation, deep networks, failing searches."""

from fractions import Fraction
from typing import Any

from verification.certify.cases import Case
from verification.certify.cases.trpo import (
    EPSILON,
    HALF,
    LIBRARIES,
    LOOSE,
    NEW_OLD,
    OTHER_RULES,
    STOPS,
    STRICT,
    TENTH,
    UNDAMPED,
    WIDE_LOG_STD,
    Draw,
    actions,
    ascent,
    categorical,
    categorical_policy,
    gaussian_policy,
    layers,
    observed,
    pair,
    parameters,
    positive_definite,
    rollout,
)

REVISIONS = {"gaussian-elu-late-7x2-5-3": 2}
"""Cases whose inputs changed: with the first radius of this one no candidate was accepted, late or at all."""

EXTREME_LOG_STD = [6.0, -5.5, 0.25]
MARGIN = 2.0**-6


def beside_the_kink(seed: int, rows: int) -> dict[str, Any]:
    """A categorical policy with ReLU and a batch: unit j is 2⁻⁶ above or below its kink in row j, by its bias."""
    draw, policy = categorical_policy(seed, (3, 6, 4), "relu")
    observations = draw.numbers(rows, 3, largest=2.0)
    first, *rest = policy["layers"]
    columns = list(zip(*first["W"], strict=True))
    biases = [
        (MARGIN if unit % 2 else -MARGIN) - sum(x * w for x, w in zip(observations[unit], column, strict=True))
        for unit, column in enumerate(columns)
    ]
    for x in observations:
        for bias, column in zip(biases, columns, strict=True):
            z = Fraction(bias) + sum(Fraction(a) * Fraction(w) for a, w in zip(x, column, strict=True))
            if abs(z) < MARGIN:
                raise ValueError(f"beside_the_kink: a unit is {float(z)} from its kink, expected at least {MARGIN}")
    policy = policy | {"layers": [{"W": first["W"], "b": biases}, *rest]}
    return {"policy": policy, "observations": observations, "actions": actions(draw, policy, observations)}


def _forward_cases() -> list[Case]:
    def case(
        slug: str, seed: int, net: tuple[tuple[int, ...], str, float], rows: int, title: str, purpose: str
    ) -> Case:
        draw, (sizes, activation, weights) = Draw(seed), net
        inputs = {
            "network": {"layers": layers(draw, sizes, weights=weights), "activation": activation},
            "observations": draw.numbers(rows, sizes[0], largest=2.0),
        }
        return Case("network_forward", slug, title, purpose, inputs)

    kink = beside_the_kink(402, 7)
    net = {name: kink["policy"][name] for name in ("layers", "activation")}
    return [
        case(
            "tanh-saturated-3-5-4-2",
            401,
            ((3, 5, 4, 2), "tanh", 16.0),
            7,
            "Two hidden layers of saturated tanh",
            "Pre-activations of size 20 and more: units are ±1 to all digits, which any form of tanh must reach "
            "without overflow.",
        ),
        Case(
            "network_forward",
            "relu-kink-3-6-4",
            "Hidden units beside the kink of ReLU",
            "Every unit is 2⁻⁶ from its kink in some row: a bias in the wrong place moves it to the other side.",
            {"network": net, "observations": kink["observations"]},
        ),
        case(
            "softplus-both-tails-3-5-2",
            403,
            ((3, 5, 2), "softplus", 8.0),
            6,
            "Softplus far on both sides of 0",
            "Pre-activations up to ±30: softplus is z, or eᶻ, to many digits.",
        ),
        case(
            "elu-both-tails-4-6-3",
            404,
            ((4, 6, 3), "elu", 8.0),
            5,
            "ELU far on both sides of 0",
            "Pre-activations up to ±30: the units are z, or −1 to all digits.",
        ),
        case(
            "silu-three-hidden-2-5-3-6-4",
            405,
            ((2, 5, 3, 6, 4), "silu", 1.0),
            7,
            "Three hidden layers of SiLU",
            "The activation stands between all layers and not behind the last.",
        ),
    ]


def _surrogate_cases() -> list[Case]:
    kink = beside_the_kink(411, 7)
    whole = rollout(*categorical_policy(411, (3, 6, 4), "relu"), 7)
    kink |= {"advantages": whole["advantages"], "old_log_prob": whole["old_log_prob"]}
    large = rollout(*gaussian_policy(412, (2, 5, 3), "elu"), 8)
    large["advantages"] = [2.0**12 * a for a in large["advantages"]]
    batches = [
        (
            "categorical-kink-7x3-6-4",
            "Categorical policy with ReLU, units beside the kink",
            "Every hidden unit is 2⁻⁶ from its kink in some row: a slope of 1 on one side, 0 on the other.",
            kink,
        ),
        (
            "gaussian-elu-large-advantages-8x2-5-3",
            "Gaussian policy with ELU, advantages of size 10⁴",
            "Unnormalised advantages, and a derivative of ELU that is taken at the pre-activation.",
            large,
        ),
        (
            "categorical-silu-three-hidden-7x2-5-3-6-4",
            "Categorical policy, three hidden layers of SiLU",
            "Every layer's gradient is carried through all those above it.",
            rollout(*categorical_policy(413, (2, 5, 3, 6, 4), "silu"), 7),
        ),
        (
            "gaussian-log-std-6-8x2-4-3",
            "Gaussian policy with log_std up to ±6",
            "A dimension that is nearly free beside one that is nearly fixed: scores differ by e¹¹, and a variance "
            "taken for a deviation shows.",
            rollout(*gaussian_policy(414, (2, 4, 3), log_std=EXTREME_LOG_STD), 8),
        ),
    ]
    return [
        Case(op, slug, title, purpose, batch)
        for op in ("surrogate", "surrogate_gradient")
        for slug, title, purpose, batch in batches
    ]


def _at_old(draw: Draw, policy: dict[str, Any], rows: int) -> dict[str, Any]:
    batch = observed(draw, policy, rows)
    return {"old_policy": policy, "new_policy": policy, "observations": batch["observations"]}


def _kl_cases() -> list[Case]:
    draw, policy = gaussian_policy(421, (4, 5, 3))
    same = _at_old(draw, policy, 7)
    vector = parameters(draw, policy)
    other_draw, other = categorical_policy(422)
    other_same = _at_old(other_draw, other, 7)
    other_vector = parameters(other_draw, other)
    at_old = "θ is θ_old: "
    cases = [
        Case(
            "mean_kl",
            "gaussian-at-theta-old-7x4-5-3",
            "Gaussian policies, θ = θ_old",
            at_old + "KL is exactly 0, and a constant that does not count the action dimensions shows.",
            same,
            (NEW_OLD,),
        ),
        Case(
            "mean_kl_gradient",
            "gaussian-at-theta-old-7x4-5-3",
            "Gaussian policies, θ = θ_old",
            at_old
            + "the gradient is exactly 0; with the wrong sign of the logarithm it is −2 for every log_std, where "
            "the value is still right.",
            same,
            (NEW_OLD,),
        ),
        Case(
            "mean_kl_hessian_vector_product",
            "gaussian-at-theta-old-7x4-5-3",
            "Gaussian policies, θ = θ_old",
            at_old + "the Hessian of either direction is the Fisher matrix; KL(θ ‖ θ) with both sides moving has none.",
            same | {"vector": vector},
            (NEW_OLD,),
        ),
        Case(
            "mean_kl_hessian_vector_product",
            "categorical-at-theta-old-7x3-5-4",
            "Categorical policies, θ = θ_old",
            at_old + "the Hessian of either direction is the Fisher matrix; KL(θ ‖ θ) with both sides moving has none.",
            other_same | {"vector": other_vector},
            (NEW_OLD,),
        ),
    ]
    for family, make, seed in (("gaussian", gaussian_policy, 423), ("categorical", categorical_policy, 424)):
        shape = "7x4-5-3" if family == "gaussian" else "7x3-5-4"
        name = family.capitalize()
        draw, old = make(seed)
        inputs = pair(draw, old, 7, largest=15 * 2.0**-24, bits=24)
        digits = "KL near 10⁻¹²: the textbook difference of logarithms keeps three digits in float64."
        cases.append(
            Case(
                "mean_kl", f"{family}-kl-near-1e-12-{shape}", f"{name} policies 10⁻⁶ apart", digits, inputs, (NEW_OLD,)
            )
        )
        gradient = "The gradient is near 10⁻⁶, and equals the Fisher matrix times the change to as many digits."
        cases.append(
            Case(
                "mean_kl_gradient",
                f"{family}-kl-near-1e-12-{shape}",
                f"{name} policies 10⁻⁶ apart",
                gradient,
                inputs,
                (NEW_OLD,),
            )
        )
        draw, old = make(seed + 2)
        inputs = pair(draw, old, 7, largest=15 * 2.0**-34, bits=34)
        digits = "KL near 10⁻¹⁸: a difference of logarithms keeps no digit, the change carried through the network all."
        cases.append(
            Case(
                "mean_kl",
                f"{family}-kl-near-1e-18-{shape}",
                f"{name} policies 10⁻⁹ apart",
                digits,
                inputs,
                (NEW_OLD,),
                algorithms=(2,),
            )
        )
    draw, old = gaussian_policy(427, (2, 4, 3), log_std=EXTREME_LOG_STD)
    inputs = pair(draw, old, 8)
    wide = "A dimension that is nearly free beside one that is nearly fixed, which has nearly all of the KL."
    title = "Gaussian policies with log_std up to ±6"
    cases += [
        Case("mean_kl", "gaussian-log-std-6-8x2-4-3", title, wide, inputs, (NEW_OLD,)),
        Case("mean_kl_gradient", "gaussian-log-std-6-8x2-4-3", title, wide, inputs, (NEW_OLD,)),
    ]
    for slug, (draw, old), rows, largest, title in (
        (
            "categorical-gelu-7x3-5-4",
            categorical_policy(428, (3, 5, 4), "gelu"),
            7,
            0.375,
            "Categorical policies with GELU",
        ),
        (
            "gaussian-silu-three-hidden-5x2-4-6-7-3",
            gaussian_policy(429, (2, 4, 6, 7, 3), "silu"),
            5,
            0.125,
            "Gaussian policies, three hidden layers of SiLU",
        ),
    ):
        inputs = pair(draw, old, rows, largest=largest)
        vector = parameters(draw, old)
        slope = "The derivative of the activation is taken at the pre-activation, not at its output."
        curvature = "Away from θ_old the second derivative of the activation enters."
        cases += [
            Case("mean_kl_gradient", slug, title, slope, inputs, (NEW_OLD,)),
            Case("mean_kl_hessian_vector_product", slug, title, curvature, inputs | {"vector": vector}, (NEW_OLD,)),
        ]
    return cases


def sure_policy(seed: int, sizes: tuple[int, ...], factor: float) -> tuple[Draw, dict[str, Any]]:
    """A categorical policy whose last layer is several times as large: nearly deterministic."""
    draw = Draw(seed)
    policy = categorical(draw, sizes)
    *hidden, last = policy["layers"]
    last = {"W": [[factor * w for w in row] for row in last["W"]], "b": last["b"]}
    return draw, policy | {"layers": [*hidden, last]}


def shift_of_logits(policy: dict[str, Any], amounts: list[float]) -> dict[str, Any]:
    """The direction that shifts all logits alike, by Σ h_i amount_i and the last amount: in the null space of F."""
    zero = [{"W": [[0.0] * len(row) for row in layer["W"]], "b": [0.0] * len(layer["b"])} for layer in policy["layers"]]
    width = len(zero[-1]["b"])
    zero[-1] = {"W": [[amount] * width for amount in amounts[:-1]], "b": [amounts[-1]] * width}
    return {"layers": zero}


def _fisher_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), rows, title, purpose in (
        (
            "categorical-nearly-sure-7x2-3-4",
            sure_policy(431, (2, 3, 4), 6.0),
            7,
            "Categorical policy that is nearly deterministic",
            "Rows where p is near 0 or 1 have almost no part in F: p(1 − p) and the product pᵢpⱼ must both be there.",
        ),
        (
            "gaussian-elu-5x2-4-3",
            gaussian_policy(432, (2, 4, 3), "elu"),
            5,
            "Gaussian policy with ELU",
            "The derivative of ELU is taken at the pre-activation, not at its output.",
        ),
    ):
        cases.append(Case("fisher_matrix", slug, title, purpose, observed(draw, policy, rows)))
    for slug, (draw, policy), rows, damping, title, purpose in (
        (
            "gaussian-log-std-6-7x2-4-3",
            gaussian_policy(433, (2, 4, 3), log_std=EXTREME_LOG_STD),
            7,
            2.0**-3,
            "Gaussian policy with log_std up to ±6",
            "The metric of the means runs from e⁻¹² to e¹¹, that of log_std is 2 throughout.",
        ),
        (
            "categorical-softplus-three-hidden-5x2-3-6-7-4",
            categorical_policy(434, (2, 3, 6, 7, 4), "softplus"),
            5,
            2.0**-4,
            "Categorical policy, three hidden layers of softplus",
            "Every layer's part of the product is carried through all those above it.",
        ),
    ):
        inputs = observed(draw, policy, rows)
        inputs |= {"vector": parameters(draw, policy), "damping": damping}
        cases.append(Case("fisher_vector_product", slug, title, purpose, inputs))
    draw, policy = categorical_policy(435)
    inputs = observed(draw, policy, 7) | {"vector": shift_of_logits(policy, [0.5, -1.25, 0.75, 1.5, -0.375, 2.0])}
    cases.append(
        Case(
            "fisher_vector_product",
            "categorical-null-space-7x3-5-4",
            "A vector that shifts all logits alike",
            "F has no part in it: the product is λ times the vector, exactly, unless the metric lacks ppᵀ.",
            inputs | {"damping": 2.0**-3},
        )
    )
    return cases


def _solver_cases() -> list[Case]:
    draw = Draw(441)
    nothing = {"matrix": positive_definite(draw, 6), "b": [0.0] * 6, "iterations": 4}
    draw = Draw(442)
    dense = positive_definite(draw, 7)
    scale = [2.0**k for k in (-3, 2, -1, 3, 0, -2, 1)]
    graded = [[scale[i] * m * scale[j] for j, m in enumerate(row)] for i, row in enumerate(dense)]
    draw = Draw(443)
    u = [1.0, -0.5, 0.75, 0.25, -1.5]
    two = [[1.5 * a * b + (0.625 if i == j else 0.0) for j, b in enumerate(u)] for i, a in enumerate(u)]
    cases = [
        Case(
            "conjugate_gradient",
            "zero-right-hand-side-6",
            "b = 0",
            "x = 0 solves the system before the first iteration, whose first division would be 0/0.",
            nothing,
            STOPS,
        ),
        Case(
            "conjugate_gradient",
            "graded-7",
            "Unknowns of very different scales, four iterations",
            "Eigenvalues over four orders: far from convergence every α and β counts.",
            {"matrix": graded, "b": Draw(444).numbers(7, largest=2.0), "iterations": 4},
            STOPS,
        ),
        Case(
            "conjugate_gradient",
            "two-eigenvalues-5",
            "A matrix with two different eigenvalues, two iterations",
            "It ends after two iterations, however many unknowns there are; the matrix is a multiple of I plus uuᵀ.",
            {"matrix": two, "b": draw.numbers(5, largest=2.0), "iterations": 2},
            STOPS,
        ),
        Case(
            "conjugate_gradient",
            "small-right-hand-side-7",
            "A right-hand side near 10⁻⁴, five iterations",
            "A residual that is small in absolute terms, and a tenth of b: where one stops there, the answer shows it.",
            {"matrix": dense, "b": [2.0**-14 * entry for entry in Draw(447).numbers(7, largest=2.0)], "iterations": 5},
            STOPS,
        ),
        Case(
            "conjugate_gradient",
            "tiny-right-hand-side-6",
            "A right-hand side near 10⁻⁶, three iterations",
            "Too small for an absolute stop, which ends after one iteration or before it.",
            nothing | {"b": [2.0**-20 * entry for entry in Draw(448).numbers(6, largest=1.0)], "iterations": 3},
            STOPS,
        ),
    ]
    draw, policy = gaussian_policy(445, (2, 5, 3))
    zero = {
        "layers": [
            {"W": [[0.0] * len(row) for row in layer["W"]], "b": [0.0] * len(layer["b"])} for layer in policy["layers"]
        ],
        "log_std": [0.0] * 3,
    }
    inputs = observed(draw, policy, 7) | {"b": zero, "damping": 2.0**-3, "iterations": 5}
    cases.append(
        Case(
            "fisher_conjugate_gradient",
            "gaussian-zero-right-hand-side-7x2-5-3",
            "Gaussian policy, b = 0",
            "A gradient that vanishes: x = 0, where the first division would be 0/0.",
            inputs,
            STOPS,
        )
    )
    draw, policy = categorical_policy(446, (2, 5, 3), "silu")
    inputs = observed(draw, policy, 7) | {"b": parameters(draw, policy), "damping": 2.0**-2, "iterations": 10}
    cases.append(
        Case(
            "fisher_conjugate_gradient",
            "categorical-silu-ten-iterations-7x2-5-3",
            "Categorical policy with SiLU, ten iterations",
            "As many iterations as in the paper, on a system damped enough that they converge.",
            inputs,
            STOPS,
        )
    )
    draw, policy = gaussian_policy(449, (4, 5, 3), log_std=WIDE_LOG_STD)
    small = parameters(draw, policy, largest=2.0**-17, bits=22)
    cases.append(
        Case(
            "fisher_conjugate_gradient",
            "gaussian-small-right-hand-side-7x4-5-3",
            "Gaussian policy, a right-hand side near 10⁻⁵",
            "A residual that is small in absolute terms, and a tenth of b: where one stops there, the answer shows it.",
            observed(draw, policy, 7) | {"b": small, "damping": 2.0**-3, "iterations": 5},
            STOPS,
        )
    )
    return cases


def _natural_gradient_cases() -> list[Case]:
    cases = []
    draw, policy = gaussian_policy(451, (2, 4, 3), "elu")
    elu = observed(draw, policy, 7) | {"gradient": parameters(draw, policy), "damping": 2.0**-4}
    draw, policy = categorical_policy(452)
    shift = shift_of_logits(policy, [-0.75, 0.5, 1.25, -1.0, 0.25, -1.5])
    null = observed(draw, policy, 7) | {"gradient": shift, "damping": 2.0**-3}
    draw, policy = categorical_policy(453, (2, 4, 3))
    tiny = observed(draw, policy, 5) | {
        "gradient": parameters(draw, policy, largest=2.0**-9, bits=14),
        "damping": 2.0**-4,
    }
    slope = "The derivative of ELU is taken at the pre-activation, not at its output."
    cases += [
        Case("natural_gradient", "gaussian-elu-7x2-4-3", "Gaussian policy with ELU", slope, elu),
        Case(
            "natural_gradient",
            "categorical-null-space-7x3-5-4",
            "A gradient that shifts all logits alike",
            "F has no part in it: the answer is the gradient divided by λ, exactly, unless the metric lacks ppᵀ.",
            null,
        ),
        Case(
            "natural_gradient_step",
            "gaussian-elu-7x2-4-3",
            "Gaussian policy with ELU",
            slope,
            elu | {"max_kl": 2.0**-7},
            (UNDAMPED, EPSILON),
        ),
        Case(
            "natural_gradient_step",
            "categorical-small-gradient-5x2-4-3",
            "A gradient near 10⁻³",
            "The step does not depend on the length of the gradient: what scales with it shows.",
            tiny | {"max_kl": 2.0**-6},
            (UNDAMPED, EPSILON),
        ),
    ]
    for slug, (draw, policy), rows, title, purpose in (
        (
            "gaussian-many-rows-11x2-1-3",
            gaussian_policy(454, (2, 1, 3)),
            11,
            "Gaussian policy with more rows than parameters",
            "F is regular and its inverse the only inverse: the rank is P.",
        ),
        (
            "categorical-three-hidden-3x2-4-5-7-6",
            categorical_policy(455, (2, 4, 5, 7, 6)),
            3,
            "Categorical policy, three hidden layers, few rows",
            "The rank is B(A − 1) = 15 of 127 parameters: F is far from regular.",
        ),
    ):
        inputs = rollout(draw, policy, rows, old=False)
        cases.append(Case("natural_gradient_minimum_norm", slug, title, purpose, inputs))
    return cases


def _step_cases() -> list[Case]:
    cases = []
    for slug, seed, size, scale, max_kl, title, purpose in (
        (
            "small-curvature-5",
            461,
            5,
            2.0**-12,
            2.0**-7,
            "A quadratic form near 10⁻⁶",
            "A small gradient makes a long step.",
        ),
        (
            "large-curvature-8",
            462,
            8,
            2.0**10,
            2.0**-9,
            "A quadratic form near 10⁷",
            "A large gradient makes a short step; multiplying where one should divide is off by 10⁹.",
        ),
    ):
        draw = Draw(seed)
        direction = [scale * x for x in draw.numbers(size, largest=2.0)]
        product = [sum(m * x for m, x in zip(row, direction, strict=True)) for row in positive_definite(draw, size)]
        inputs = {"direction": direction, "product": product, "max_kl": max_kl}
        cases.append(Case("step_length", slug, title, purpose, inputs, (EPSILON,)))
    draw, policy = gaussian_policy(463)
    gradient = parameters(draw, policy)
    step = parameters(draw, policy, largest=0.25, bits=7)
    rest = sum(
        a * b
        for one, two in zip(gradient["layers"], step["layers"], strict=True)
        for g_row, s_row in zip([*one["W"], one["b"]], [*two["W"], two["b"]], strict=True)
        for a, b in zip(g_row, s_row, strict=True)
    )
    balanced = (
        {"layers": gradient["layers"], "log_std": [0.5, -0.25, 1.0]},
        {
            "layers": step["layers"],
            "log_std": [0.125, 0.0625, -rest - 0.046875],
        },
    )
    draw, policy = categorical_policy(464, (2, 5, 3))
    gradient = parameters(draw, policy)
    flat = {"layers": [{name: _scaled(layer[name], -(2.0**-4)) for name in ("W", "b")} for layer in gradient["layers"]]}
    return [
        *cases,
        Case(
            "expected_improvement",
            "gaussian-cancelling-4-5-3",
            "Layers and log_std cancel",
            "The sum is exactly 0: a sum that leaves out log_std is not.",
            {"gradient": balanced[0], "step": balanced[1]},
        ),
        Case(
            "expected_improvement",
            "categorical-descending-2-5-3",
            "A step down the gradient",
            "The change is negative, and is reported so.",
            {"gradient": gradient, "step": flat},
        ),
    ]


def _scaled(value: Any, by: float) -> Any:
    return [_scaled(part, by) for part in value] if isinstance(value, list) else by * value


def _search_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), rows, length, max_kl, backtrack, most, advantages, variants, title, purpose in (
        (
            "gaussian-elu-late-7x2-5-3",
            gaussian_policy(471, (2, 5, 3), "elu"),
            7,
            0.5,
            2.0**-4,
            0.8125,
            12,
            None,
            (NEW_OLD, STRICT, LOOSE, STRICT | NEW_OLD, *OTHER_RULES, HALF),
            "Gaussian policy with ELU, accepted after at least five reductions",
            "The accepted step is a power b^j of the full one with j ≥ 5: an accumulated or absolute factor shows.",
        ),
        (
            "categorical-zero-advantages-7x3-5-4",
            categorical_policy(472),
            7,
            0.125,
            2.0**-6,
            0.5,
            5,
            0.0,
            (NEW_OLD, STRICT, LOOSE, STRICT | NEW_OLD, *OTHER_RULES, HALF),
            "No advantage anywhere",
            "Nothing improves strictly, so that nothing is accepted; a rule that asks for no loss only takes the first "
            "candidate inside the trust region.",
        ),
        (
            "categorical-three-hidden-too-far-5x2-6-3-7-4",
            categorical_policy(473, (2, 6, 3, 7, 4)),
            5,
            1.0,
            2.0**-9,
            0.8125,
            3,
            None,
            (NEW_OLD, STRICT, STRICT | NEW_OLD, *OTHER_RULES, HALF),
            "Categorical policy, three hidden layers, too few reductions",
            "All candidates improve, none is near enough: the parameters stay.",
        ),
    ):
        batch = rollout(draw, policy, rows, old=False)
        step = ascent(policy, batch, length)
        if advantages is not None:
            batch["advantages"] = [advantages] * rows
        inputs = batch | {"full_step": step, "max_kl": max_kl, "backtrack": backtrack, "max_backtracks": most}
        cases.append(Case("line_search", slug, title, purpose, inputs, variants, REVISIONS.get(slug, 1)))
    return cases


def _trpo_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), rows, (max_kl, iterations, backtrack, most), variants, title, purpose in (
        (
            "gaussian-late-8x2-4-3",
            gaussian_policy(504, (2, 4, 3)),
            8,
            (16.0, 3, 0.875, 15),
            (NEW_OLD, STRICT, LOOSE, STRICT | NEW_OLD, *OTHER_RULES, HALF, UNDAMPED),
            "Gaussian policy, accepted after at least five reductions",
            "A trust region far too large for the quadratic model: the power b^j of the full step is tested at j ≥ 5.",
        ),
        (
            "categorical-never-7x2-4-3",
            categorical_policy(508, (2, 4, 3)),
            7,
            (16.0, 5, 0.875, 5),
            (NEW_OLD, STRICT, STRICT | NEW_OLD, *OTHER_RULES, HALF, UNDAMPED),
            "Categorical policy, no candidate accepted",
            "All candidates overshoot: some lie inside the trust region, none improves; the old policy comes back.",
        ),
        (
            "gaussian-elu-never-8x2-4-3",
            gaussian_policy(504, (2, 4, 3), "elu"),
            8,
            (4.0, 3, 0.875, 2),
            (NEW_OLD, STRICT, STRICT | NEW_OLD, *OTHER_RULES, HALF, UNDAMPED),
            "Gaussian policy with ELU, no candidate accepted",
            "All candidates improve, none lies inside the trust region: neither the last nor the first may stay.",
        ),
        (
            "categorical-silu-three-hidden-9x2-3-4-5-3",
            categorical_policy(551, (2, 3, 4, 5, 3), "silu"),
            9,
            (2.0**-9, 3, 0.5, 6),
            (NEW_OLD, STRICT, STRICT | NEW_OLD, *OTHER_RULES, HALF, UNDAMPED),
            "Categorical policy, three hidden layers of SiLU, the full step accepted",
            "Gradient and Fisher matrix are carried through every layer with the slopes of SiLU.",
        ),
    ):
        inputs = rollout(draw, policy, rows, old=False) | {
            "max_kl": max_kl,
            "damping": 2.0**-4,
            "iterations": iterations,
            "backtrack": backtrack,
            "max_backtracks": most,
        }
        cases.append(Case("trpo_step", slug, title, purpose, inputs, variants))
    draw, policy = gaussian_policy(505, (2, 5, 3))
    inputs = rollout(draw, policy, 7, old=False) | {
        "advantages": [0.0] * 7,
        "max_kl": 2.0**-7,
        "damping": 2.0**-4,
        "iterations": 5,
        "backtrack": 0.5,
        "max_backtracks": 4,
    }
    purpose = "No gradient, no direction, 0/0 in every quotient; nothing improves, so that nothing is accepted."
    title = "Gaussian policy, no advantage anywhere"
    variants = (NEW_OLD, STRICT, STRICT | NEW_OLD, TENTH, HALF)
    cases.append(Case("trpo_step", "gaussian-zero-advantages-7x2-5-3", title, purpose, inputs, variants))
    draw, policy = gaussian_policy(313, log_std=WIDE_LOG_STD)
    inputs = rollout(draw, policy, 9, old=False, reach=1.0)
    inputs |= {
        "advantages": [2.0**-15 * advantage for advantage in inputs["advantages"]],
        "max_kl": 2.0**-7,
        "damping": 2.0**-3,
        "iterations": 5,
        "backtrack": 0.8125,
        "max_backtracks": 10,
    }
    purpose = "Nothing but the unit of reward is small: what is added to xᵀHx shows, and where rᵀr is small enough."
    title = "Gaussian policy, advantages near 10⁻⁵"
    cases.append(Case("trpo_step", "gaussian-small-advantages-9x4-5-3", title, purpose, inputs, LIBRARIES))
    return cases


CASES: list[Case] = [
    *_forward_cases(),
    *_surrogate_cases(),
    *_kl_cases(),
    *_fisher_cases(),
    *_solver_cases(),
    *_natural_gradient_cases(),
    *_step_cases(),
    *_search_cases(),
    *_trpo_cases(),
]
