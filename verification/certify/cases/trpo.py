"""The cases of the profile `trpo`.

Numbers are multiples of a power of two, drawn from a seeded stream and kept short, so that float32 holds them;
dimensions are pairwise different; log_std differs from 0 and between dimensions; the new policy differs from the old
one.  Recorded log-probabilities are the true ones, moved by a chosen log-ratio and put on the grid 2⁻⁷, as a rollout
stores them.
"""

import math
from itertools import pairwise
from random import Random
from typing import Any

from verification.certify.cases import Case

GRID = 7  # recorded log-probabilities are multiples of 2⁻⁷


class Draw:
    """A reproducible stream of multiples of 2**-bits in [-largest, largest]."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def number(self, largest: float = 1.0, bits: int = 5) -> float:
        """Draw one number."""
        count = math.floor(largest * 2**bits)
        return math.floor(self._random.random() * (2 * count + 1) - count) / 2**bits

    def numbers(self, *shape: int, largest: float = 1.0, bits: int = 5) -> Any:
        """Draw nested lists of numbers."""
        if len(shape) == 1:
            return [self.number(largest, bits) for _ in range(shape[0])]
        return [self.numbers(*shape[1:], largest=largest, bits=bits) for _ in range(shape[0])]

    def index(self, size: int) -> int:
        """Draw one of 0 … size − 1."""
        return math.floor(self._random.random() * size)


# ── Networks and policies ────────────────────────────────────────────────


def layers(draw: Draw, sizes: tuple[int, ...], *, weights: float = 1.0, biases: float = 0.5, bits: int = 5) -> Any:
    """Layers with those widths."""
    return [
        {"W": draw.numbers(m, n, largest=weights, bits=bits), "b": draw.numbers(n, largest=biases, bits=bits)}
        for m, n in pairwise(sizes)
    ]


def network(draw: Draw, sizes: tuple[int, ...], activation: str = "tanh") -> dict[str, Any]:
    """A network with those widths."""
    return {"layers": layers(draw, sizes), "activation": activation}


def categorical(draw: Draw, sizes: tuple[int, ...], activation: str = "tanh") -> dict[str, Any]:
    """A categorical policy."""
    return network(draw, sizes, activation) | {"distribution": "categorical"}


def gaussian(draw: Draw, sizes: tuple[int, ...], log_std: list[float], activation: str = "tanh") -> dict[str, Any]:
    """A Gaussian policy."""
    return network(draw, sizes, activation) | {"distribution": "diagonal_gaussian", "log_std": log_std}


def parameters(draw: Draw, policy: dict[str, Any], *, largest: float = 1.0, bits: int = 5) -> dict[str, Any]:
    """A vector shaped like the policy's parameters."""
    sizes = (len(policy["layers"][0]["W"]), *(len(layer["b"]) for layer in policy["layers"]))
    vector: dict[str, Any] = {"layers": layers(draw, sizes, weights=largest, biases=largest, bits=bits)}
    if "log_std" in policy:
        vector["log_std"] = draw.numbers(len(policy["log_std"]), largest=largest, bits=bits)
    return vector


def added(policy: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """The policy with parameters θ + change."""

    def plus(a: Any, b: Any) -> Any:
        return [plus(x, y) for x, y in zip(a, b, strict=True)] if isinstance(a, list) else a + b

    moved = [
        {name: plus(layer[name], other[name]) for name in ("W", "b")}
        for layer, other in zip(policy["layers"], change["layers"], strict=True)
    ]
    free = {"log_std": plus(policy["log_std"], change["log_std"])} if "log_std" in policy else {}
    return policy | {"layers": moved} | free


# ── Rollouts ────────────────────────────────────────────────

_ACTIVATIONS = {
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "silu": lambda z: z / (1 + math.exp(-z)),
    "softplus": lambda z: math.log1p(math.exp(z)),
    "gelu": lambda z: z * math.erfc(-z / math.sqrt(2)) / 2,
}


def outputs(policy: dict[str, Any], x: list[float]) -> list[float]:
    """The network's outputs, to choose actions and recorded numbers with (they are put on a grid)."""
    h = x
    for number, layer in enumerate(policy["layers"]):
        z = [b + sum(h_i * W_i[j] for h_i, W_i in zip(h, layer["W"], strict=True)) for j, b in enumerate(layer["b"])]
        last = number == len(policy["layers"]) - 1
        h = z if last else [_ACTIVATIONS[policy["activation"]](z_j) for z_j in z]
    return h


def log_prob(policy: dict[str, Any], x: list[float], action: Any) -> float:
    """log π(a|x) in floating point."""
    phi = outputs(policy, x)
    if policy["distribution"] == "categorical":
        return phi[action] - math.log(sum(math.exp(z) for z in phi))
    return sum(
        -(((a - m) / math.exp(s)) ** 2) / 2 - s - math.log(2 * math.pi) / 2
        for a, m, s in zip(action, phi, policy["log_std"], strict=True)
    )


def on_grid(number: float, bits: int = GRID) -> float:
    """The nearest multiple of 2**-bits."""
    return math.floor(number * 2**bits + 0.5) / 2**bits


def actions(draw: Draw, policy: dict[str, Any], observations: list[list[float]]) -> list[Any]:
    """Actions: every choice in turn with random exceptions; or means moved by up to 1.5 standard deviations."""
    if policy["distribution"] == "categorical":
        size = len(policy["layers"][-1]["b"])
        return [(b + draw.index(2)) % size for b in range(len(observations))]
    return [
        [
            on_grid(m + math.exp(s) * draw.number(1.5))
            for m, s in zip(outputs(policy, x), policy["log_std"], strict=True)
        ]
        for x in observations
    ]


def recorded(
    policy: dict[str, Any], observations: list[list[float]], chosen: list[Any], log_ratios: list[float]
) -> list[float]:
    """Old log-probabilities on the grid, such that log(new/old) is near the log-ratio wanted."""
    rows = zip(observations, chosen, log_ratios, strict=True)
    return [on_grid(log_prob(policy, x, a) - wanted) for x, a, wanted in rows]


ADVANTAGES = [1.75, -0.8125, 0.3125, -1.5, 2.25, -0.4375, 0.625, -2.125, 1.125, -0.1875, 0.875]
LOG_RATIOS = [0.3125, -0.25, 0.0625, 0.375, -0.4375, -0.09375, 0.5, 0.125, -0.1875, 0.28125, -0.34375]


def rollout(draw: Draw, policy: dict[str, Any], rows: int, *, old: bool = True, reach: float = 2.0) -> dict[str, Any]:
    """Policy, observations within ``reach``, actions, advantages, and old log-probabilities if wanted."""
    features = len(policy["layers"][0]["W"])
    observations = draw.numbers(rows, features, largest=reach)
    chosen = actions(draw, policy, observations)
    batch = {"policy": policy, "observations": observations, "actions": chosen, "advantages": ADVANTAGES[:rows]}
    if old:
        batch["old_log_prob"] = recorded(policy, observations, chosen, LOG_RATIOS[:rows])
    return batch


LOG_STD = [-0.75, 0.25, -0.375]
"""Different per dimension, none 0."""

WIDE_LOG_STD = [0.5, 0.875, 0.25]
"""The same, with a Fisher matrix whose eigenvalues lie closer together: ten conjugate gradients nearly converge."""


def gaussian_policy(
    seed: int, sizes: tuple[int, ...] = (4, 5, 3), activation: str = "tanh", log_std: list[float] = LOG_STD
) -> tuple[Draw, dict[str, Any]]:
    """A stream and a Gaussian policy of three action dimensions drawn from it."""
    draw = Draw(seed)
    return draw, gaussian(draw, sizes, log_std, activation)


def categorical_policy(
    seed: int, sizes: tuple[int, ...] = (3, 5, 4), activation: str = "tanh"
) -> tuple[Draw, dict[str, Any]]:
    """A stream and a categorical policy drawn from it."""
    draw = Draw(seed)
    return draw, categorical(draw, sizes, activation)


def pair(draw: Draw, old: dict[str, Any], rows: int, largest: float = 0.1875, bits: int = 6) -> dict[str, Any]:
    """Old and new policy and observations."""
    new = added(old, parameters(draw, old, largest=largest, bits=bits))
    features = len(old["layers"][0]["W"])
    return {"old_policy": old, "new_policy": new, "observations": draw.numbers(rows, features, largest=2.0)}


def observed(draw: Draw, policy: dict[str, Any], rows: int) -> dict[str, Any]:
    """A policy and observations."""
    return {"policy": policy, "observations": draw.numbers(rows, len(policy["layers"][0]["W"]), largest=2.0)}


NEW_OLD = {"kl.direction": "new_old"}
UNDAMPED = {"step_length.damping": "undamped"}
STRICT = {"line_search.accept": "improves_and_kl_strict"}
LOOSE = {"line_search.accept": "improves_and_1.5_kl"}
NO_WORSE = {"line_search.accept": "no_worse_and_kl"}
KL_ALONE = {"line_search.accept": "kl_strict"}
TENTH = {"line_search.accept": "tenth_of_expected"}
HALF = {"line_search.accept": "half_of_expected_and_kl_strict"}
EPSILON = {"step_length.epsilon": "1e-8"}
STOP = {"conjugate_gradient.stop": "1e-10"}
FROM_START = {"conjugate_gradient.stop": "1e-10_from_start"}
STOPS = (STOP, FROM_START)
OTHER_RULES = (NO_WORSE, NO_WORSE | NEW_OLD, KL_ALONE, TENTH)
SEARCHES = (NEW_OLD, STRICT, LOOSE, STRICT | NEW_OLD, *OTHER_RULES)
"""Along any step; ``HALF`` only along one that ascends, since libraries ask for a quotient that is positive."""

STEPS = (*SEARCHES, HALF, UNDAMPED)

LIBRARIES = (
    EPSILON,
    *STOPS,
    NO_WORSE | EPSILON,
    NO_WORSE | NEW_OLD | EPSILON,
    LOOSE | STOP,
    STRICT | STOP,
    STRICT | EPSILON | STOP,
    STRICT | NEW_OLD | FROM_START,
    KL_ALONE | STOP,
    TENTH | STOP,
    HALF | STOP,
)
"""Whole steps with an epsilon or a stop: each alone, and as the libraries combine them."""


# ── The cases ────────────────────────────────────────────────


def _forward_cases() -> list[Case]:
    def case(
        slug: str, seed: int, sizes: tuple[int, ...], activation: str, rows: int, title: str, purpose: str
    ) -> Case:
        draw = Draw(seed)
        inputs = {
            "network": network(draw, sizes, activation),
            "observations": draw.numbers(rows, sizes[0], largest=2.0),
        }
        return Case("network_forward", slug, title, purpose, inputs)

    smooth = "Every unit is away from zero and from saturation, on both sides."
    return [
        case("tanh-3-5-4-2", 11, (3, 5, 4, 2), "tanh", 7, "Two hidden layers of tanh", smooth),
        case("relu-4-6-3", 12, (4, 6, 3), "relu", 5, "A hidden layer of ReLU", "Units on both sides of the kink."),
        case("elu-2-5-3", 13, (2, 5, 3), "elu", 7, "A hidden layer of ELU", "Units on both sides of the kink."),
        case("silu-3-4-2", 14, (3, 4, 2), "silu", 5, "A hidden layer of SiLU", smooth),
        case("softplus-2-6-3", 15, (2, 6, 3), "softplus", 5, "A hidden layer of softplus", smooth),
        case(
            "gelu-3-5-2", 16, (3, 5, 2), "gelu", 7, "A hidden layer of GELU", "The exact form with the error function."
        ),
        case("identity-3-4-2", 17, (3, 4, 2), "identity", 6, "A linear network", "No curvature: only the layout of W."),
        case(
            "square-4-4-4",
            18,
            (4, 4, 4),
            "tanh",
            6,
            "Square weight matrices",
            "x Wᵀ has the shape of x W here: only the numbers tell a transposed weight.",
        ),
    ]


def _surrogate_cases() -> list[Case]:
    policies = [
        (
            "gaussian-8x2-5-4-3",
            gaussian_policy(21, (2, 5, 4, 3)),
            8,
            "Gaussian policy, two hidden layers, three action dimensions",
        ),
        ("categorical-7x3-5-4", categorical_policy(22), 7, "Categorical policy, one hidden layer"),
        ("categorical-relu-9x3-6-4", categorical_policy(23, (3, 6, 4), "relu"), 9, "Categorical policy with ReLU"),
    ]
    batches = [(slug, title, rollout(draw, policy, rows)) for slug, (draw, policy), rows, title in policies]
    return [
        Case(op, slug, title, purpose, batch)
        for op, purpose in (
            ("surrogate", "Ratios on both sides of 1 with advantages of both signs, away from θ_old."),
            ("surrogate_gradient", "The gradient away from θ_old, where every row has its own ratio."),
        )
        for slug, title, batch in batches
    ]


def _kl_cases() -> list[Case]:
    def gaussian_pair() -> tuple[Draw, dict[str, Any]]:
        draw, old = gaussian_policy(31)
        return draw, pair(draw, old, 7)

    def gaussian_deep() -> tuple[Draw, dict[str, Any]]:
        draw, old = gaussian_policy(32, (2, 5, 4, 3))
        return draw, pair(draw, old, 8)

    def categorical_pair() -> tuple[Draw, dict[str, Any]]:
        draw, old = categorical_policy(33)
        return draw, pair(draw, old, 7, largest=0.5)

    def categorical_deep() -> tuple[Draw, dict[str, Any]]:
        draw, old = categorical_policy(34, (2, 5, 4, 3))
        return draw, pair(draw, old, 9, largest=0.4375)

    def near() -> tuple[Draw, dict[str, Any]]:
        draw, old = categorical_policy(35)
        return draw, pair(draw, old, 7, largest=2.0**-9, bits=12)

    made = [
        ("gaussian-7x4-5-3", "Gaussian policies, three action dimensions, every log_std changed", gaussian_pair()),
        ("gaussian-8x2-5-4-3", "Gaussian policies, two hidden layers", gaussian_deep()),
        ("categorical-7x3-5-4", "Categorical policies", categorical_pair()),
        ("categorical-9x2-5-4-3", "Categorical policies, two hidden layers", categorical_deep()),
    ]
    cases = []
    for slug, title, (draw, inputs) in made:
        vector = parameters(draw, inputs["old_policy"])
        apart = "Old and new policy are apart, so that the directions and the reductions differ."
        cases += [
            Case("mean_kl", slug, title, apart, inputs, (NEW_OLD,)),
            Case("mean_kl_gradient", slug, title, apart + " The gradient is not zero.", inputs, (NEW_OLD,)),
            Case(
                "mean_kl_hessian_vector_product",
                slug,
                title,
                "Away from θ_old the Hessian is not the Fisher matrix: the curvature of the network contributes.",
                inputs | {"vector": vector},
                (NEW_OLD,),
            ),
        ]
    close = near()[1]
    cases.append(
        Case(
            "mean_kl",
            "categorical-close-7x3-5-4",
            "Categorical policies 2⁻⁹ apart in every parameter",
            "A small KL as between neighbouring updates, where the textbook difference of logarithms loses digits.",
            close,
            (NEW_OLD,),
        )
    )
    return cases


def _fisher_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), rows, title in (
        ("gaussian-7x2-4-3", gaussian_policy(41, (2, 4, 3)), 7, "Gaussian policy, three action dimensions"),
        ("categorical-7x2-3-4", categorical_policy(42, (2, 3, 4)), 7, "Categorical policy"),
    ):
        purpose = "Every entry: the order of the parameters, the mean over rows, the metric of the distribution."
        cases.append(Case("fisher_matrix", slug, title, purpose, observed(draw, policy, rows)))
    for slug, (draw, policy), rows, damping, title in (
        ("gaussian-7x4-5-3", gaussian_policy(43), 7, 2.0**-3, "Gaussian policy, three action dimensions"),
        ("gaussian-8x2-5-4-3", gaussian_policy(44, (2, 5, 4, 3)), 8, 2.0**-5, "Gaussian policy, two hidden layers"),
        ("categorical-7x3-5-4", categorical_policy(45), 7, 2.0**-4, "Categorical policy"),
        (
            "categorical-undamped-9x2-5-4-3",
            categorical_policy(46, (2, 5, 4, 3)),
            9,
            0.0,
            "Categorical policy, no damping",
        ),
    ):
        inputs = observed(draw, policy, rows)
        vector = parameters(draw, policy)
        purpose = "The product with a vector that has a part in every block of the parameters."
        inputs = inputs | {"vector": vector, "damping": damping}
        cases.append(Case("fisher_vector_product", slug, title, purpose, inputs))
    return cases


def positive_definite(draw: Draw, size: int) -> list[list[float]]:
    """A symmetric positive definite matrix BᵀB + I/2 of short numbers."""
    B = draw.numbers(size + 2, size, largest=1.0, bits=3)
    return [[sum(row[i] * row[j] for row in B) + (0.5 if i == j else 0.0) for j in range(size)] for i in range(size)]


def _solver_cases() -> list[Case]:
    cases = []
    for slug, seed, size, iterations, title, purpose in (
        ("one-iteration-6", 51, 6, 1, "One iteration", "The step of steepest descent along b."),
        ("two-iterations-6", 52, 6, 2, "Two iterations", "The second direction is the first that β enters."),
        ("five-iterations-7", 53, 7, 5, "Five iterations", "Short of convergence, so that every iterate counts."),
        ("to-the-end-5", 54, 5, 5, "As many iterations as unknowns", "In exact arithmetic this is the solution."),
    ):
        draw = Draw(seed)
        matrix, b = positive_definite(draw, size), draw.numbers(size, largest=2.0)
        inputs = {"matrix": matrix, "b": b, "iterations": iterations}
        cases.append(Case("conjugate_gradient", slug, title, purpose, inputs, STOPS))
    for slug, (draw, policy), rows, damping, iterations, title in (
        ("gaussian-two-iterations-7x4-5-3", gaussian_policy(55), 7, 2.0**-3, 2, "Gaussian policy, two iterations"),
        (
            "categorical-five-iterations-7x3-5-4",
            categorical_policy(56),
            7,
            2.0**-4,
            5,
            "Categorical policy, five iterations",
        ),
        (
            "gaussian-one-iteration-8x2-5-4-3",
            gaussian_policy(57, (2, 5, 4, 3)),
            8,
            2.0**-5,
            1,
            "Gaussian policy, one iteration",
        ),
    ):
        inputs = observed(draw, policy, rows)
        inputs = inputs | {"b": parameters(draw, policy), "damping": damping, "iterations": iterations}
        purpose = "Conjugate gradients on the damped Fisher matrix through its product."
        cases.append(Case("fisher_conjugate_gradient", slug, title, purpose, inputs, STOPS))
    return cases


def _natural_gradient_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), rows, damping, title in (
        ("gaussian-7x4-5-3", gaussian_policy(61), 7, 2.0**-3, "Gaussian policy, three action dimensions"),
        ("gaussian-8x2-5-4-3", gaussian_policy(62, (2, 5, 4, 3)), 8, 2.0**-5, "Gaussian policy, two hidden layers"),
        ("categorical-7x3-5-4", categorical_policy(63), 7, 2.0**-5, "Categorical policy"),
        (
            "categorical-relu-9x3-6-4",
            categorical_policy(444, (3, 6, 4), "relu"),
            9,
            2.0**-4,
            "Categorical policy with ReLU",
        ),
    ):
        inputs = observed(draw, policy, rows)
        inputs = inputs | {"gradient": parameters(draw, policy), "damping": damping}
        solved = "A gradient with parts outside the range of F, where the damping decides."
        cases.append(Case("natural_gradient", slug, title, solved, inputs))
        if "relu" not in slug:
            length = "The step along the natural gradient, as long as the quadratic model allows."
            step = inputs | {"max_kl": 2.0**-6}
            cases.append(Case("natural_gradient_step", slug, title, length, step, (UNDAMPED, EPSILON)))
    for slug, (draw, policy), rows, title, purpose in (
        (
            "categorical-few-rows-5x2-4-3",
            categorical_policy(65, (2, 4, 3)),
            5,
            "Categorical policy with fewer rows than parameters",
            "The rank is B(A − 1): the rows decide.",
        ),
        (
            "categorical-many-rows-11x2-1-3",
            categorical_policy(66, (2, 1, 3)),
            11,
            "Categorical policy with more rows than parameters",
            "The rank is short of P by the shifts of all logits alike.",
        ),
        (
            "gaussian-few-rows-5x4-6-3",
            gaussian_policy(67, (4, 6, 3)),
            5,
            "Gaussian policy with fewer rows than parameters",
            "The rank is BA + A: the means of every row and each log_std once.",
        ),
    ):
        inputs = rollout(draw, policy, rows, old=False)
        cases.append(Case("natural_gradient_minimum_norm", slug, title, purpose, inputs))
    return cases


def _step_cases() -> list[Case]:
    cases = []
    for slug, seed, size, max_kl, title in (
        ("seven-parameters", 71, 7, 2.0**-7, "Seven parameters"),
        ("eleven-parameters", 72, 11, 3 * 2.0**-8, "Eleven parameters"),
    ):
        draw = Draw(seed)
        direction = draw.numbers(size, largest=2.0)
        matrix = positive_definite(draw, size)
        product = [sum(m * x for m, x in zip(row, direction, strict=True)) for row in matrix]
        inputs = {"direction": direction, "product": product, "max_kl": max_kl}
        purpose = "A direction that is not of unit length, with the product of a positive definite matrix."
        cases.append(Case("step_length", slug, title, purpose, inputs, (EPSILON,)))
    for slug, (draw, policy), title in (
        ("gaussian-4-5-3", gaussian_policy(73), "Parameters of a Gaussian policy"),
        ("categorical-3-5-4", categorical_policy(74), "Parameters of a categorical policy"),
    ):
        gradient = parameters(draw, policy)
        step = parameters(draw, policy, largest=0.25, bits=7)
        purpose = "The sum runs over every block of the parameters."
        cases.append(Case("expected_improvement", slug, title, purpose, {"gradient": gradient, "step": step}))
    return cases


def ascent(policy: dict[str, Any], batch: dict[str, Any], length: float, bits: int = 9) -> dict[str, Any]:
    """A step near ``length`` times the direction of the surrogate gradient, by differences, on a grid."""
    draw_free = {name: part for name, part in policy.items() if name in ("layers", "log_std")}
    entries = _flat(draw_free)

    def objective(values: list[float]) -> float:
        moved = policy | _unflat(draw_free, values)
        rows = zip(batch["observations"], batch["actions"], batch["advantages"], strict=True)
        return sum(a * (log_prob(moved, x, u)) for x, u, a in rows) / len(batch["advantages"])

    slope = []
    for i, value in enumerate(entries):
        above, below = list(entries), list(entries)
        above[i], below[i] = value + 2.0**-12, value - 2.0**-12
        slope.append((objective(above) - objective(below)) * 2.0**11)
    norm = math.sqrt(sum(s * s for s in slope))
    return _unflat(draw_free, [on_grid(length * s / norm, bits) for s in slope])


def _flat(tree: Any) -> list[float]:
    if isinstance(tree, dict):
        return [x for part in tree.values() for x in _flat(part)]
    if isinstance(tree, list):
        return [x for part in tree for x in _flat(part)]
    return [tree]


def _unflat(like: Any, values: list[float]) -> Any:
    stream = iter(values)

    def build(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: build(part) for name, part in tree.items()}
        if isinstance(tree, list):
            return [build(part) for part in tree]
        return next(stream)

    return build(like)


def _search_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), rows, length, max_kl, backtrack, most, title, purpose in (
        (
            "gaussian-at-once-7x4-5-3",
            gaussian_policy(202),
            7,
            0.0625,
            2.0**-6,
            0.5,
            10,
            "Accepted at the first candidate",
            "A short step that improves inside the trust region and shrinks some standard deviations.",
        ),
        (
            "gaussian-after-three-8x2-5-4-3",
            gaussian_policy(235, (2, 5, 4, 3)),
            8,
            0.25,
            2.0**-6,
            0.8125,
            10,
            "Accepted after at least three reductions",
            "The first candidates improve but leave the trust region, whose edge depends on the direction of the KL.",
        ),
        (
            "categorical-after-three-7x3-5-4",
            categorical_policy(233),
            7,
            0.75,
            2.0**-6,
            0.8125,
            10,
            "Categorical policy, accepted after at least three reductions",
            "The first candidates improve but leave the trust region, whose edge depends on the direction of the KL.",
        ),
        (
            "categorical-never-7x3-5-4",
            categorical_policy(224),
            7,
            -0.25,
            2.0**-6,
            0.8125,
            6,
            "No candidate is accepted",
            "The step descends: the parameters stay and the search says so.",
        ),
        (
            "gaussian-too-far-7x4-5-3",
            gaussian_policy(225),
            7,
            0.75,
            2.0**-8,
            0.8125,
            4,
            "No candidate lies within the trust region",
            "All candidates improve, none is near enough: the parameters stay.",
        ),
        (
            "gaussian-every-rule-7x4-5-3",
            gaussian_policy(225),
            7,
            1.0,
            2.75,
            0.875,
            12,
            "Every rule accepts another candidate",
            "The first candidate within the trust region loses, the next gains little, and only later ones gain a "
            "tenth and half of what their length promises.",
        ),
    ):
        batch = rollout(draw, policy, rows, old=False)
        inputs = batch | {
            "full_step": ascent(policy, batch, length),
            "max_kl": max_kl,
            "backtrack": backtrack,
            "max_backtracks": most,
        }
        variants = SEARCHES if length < 0 else (*SEARCHES, HALF)
        cases.append(Case("line_search", slug, title, purpose, inputs, variants))
    return cases


def _trpo_cases() -> list[Case]:
    cases = []
    for slug, (draw, policy), reach, rows, damping, iterations, max_kl, backtrack, title, purpose in (
        (
            "gaussian-9x4-5-3",
            gaussian_policy(313, log_std=WIDE_LOG_STD),
            1.0,
            9,
            2.0**-3,
            10,
            2.0**-7,
            0.8125,
            "Gaussian policy, three action dimensions",
            "The usual update: the sum over action dimensions enters F, the step length and the line search.",
        ),
        (
            "gaussian-full-step-11x2-5-3",
            gaussian_policy(455, (2, 5, 3)),
            1.0,
            11,
            2.0**-5,
            5,
            2.0**-7,
            0.8125,
            "Gaussian policy, little damping, the full step accepted",
            "The KL of the step is close to its limit, so that a wrong measure of it shows in how far the step goes.",
        ),
        (
            "categorical-11x3-5-4",
            categorical_policy(336),
            2.0,
            11,
            2.0**-3,
            10,
            2.0**-7,
            0.8125,
            "Categorical policy",
            "The usual update of a policy over choices.",
        ),
        (
            "gaussian-two-iterations-8x2-5-4-3",
            gaussian_policy(93, (2, 5, 4, 3)),
            2.0,
            8,
            2.0**-4,
            2,
            2.0**-6,
            0.5,
            "Gaussian policy, two iterations of conjugate gradients",
            "Far from convergence, the iterate itself is tested.",
        ),
        (
            "categorical-backtracked-9x2-5-4-3",
            categorical_policy(311, (2, 5, 4, 3)),
            2.0,
            9,
            2.0**-4,
            5,
            2.0**-2,
            0.8125,
            "Categorical policy, backtracked",
            "A large trust region where the quadratic model fails: the line search shortens the step.",
        ),
    ):
        inputs = rollout(draw, policy, rows, old=False, reach=reach) | {
            "max_kl": max_kl,
            "damping": damping,
            "iterations": iterations,
            "backtrack": backtrack,
            "max_backtracks": 10,
        }
        variants = STEPS if iterations == 10 else (STRICT | NEW_OLD, LOOSE, *OTHER_RULES, HALF, UNDAMPED)
        cases.append(Case("trpo_step", slug, title, purpose, inputs, (*variants, *LIBRARIES)))
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
