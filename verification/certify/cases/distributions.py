"""Cases of the distributions: the same few inputs per family, each quantity its own op."""

from random import Random
from typing import Any, NamedTuple

from verification.certify.cases import Case
from verification.certify.cases.dyadic import numbers

Inputs = dict[str, Any]


class _Point(NamedTuple):
    """Distributions at one point, with actions, for log-probability, entropy, score and Fisher matrix."""

    slug: str
    title: str
    purpose: str
    parameters: Inputs
    actions: Inputs
    quantities: tuple[str, ...] = ("log_prob", "entropy", "score", "fisher")


class _Pair(NamedTuple):
    """An old and a new distribution, for the divergences; ``stable`` demands the digits of a stable formula."""

    slug: str
    title: str
    purpose: str
    parameters: Inputs
    quantities: tuple[str, ...] = ("kl", "mean_kl")
    stable: bool = False


def _cases(family: str, points: list[_Point], pairs: list[_Pair]) -> list[Case]:
    found = []
    for point in points:
        for quantity in point.quantities:
            inputs = point.parameters | (point.actions if quantity in ("log_prob", "score") else {})
            found.append(Case(f"{quantity}_{family}", point.slug, point.title, point.purpose, inputs))
    for pair in pairs:
        for quantity in pair.quantities:
            algorithms = (1,) if pair.stable else ()
            found.append(
                Case(
                    f"{quantity}_{family}", pair.slug, pair.title, pair.purpose, pair.parameters, algorithms=algorithms
                )
            )
    return found


def _shifted(table: list[list[float]], constants: list[float]) -> list[list[float]]:
    return [[x + c for x in row] for row, c in zip(table, constants, strict=True)]


def _moved(table: list[list[float]], change: list[list[float]]) -> list[list[float]]:
    return [[x + d for x, d in zip(row, moves, strict=True)] for row, moves in zip(table, change, strict=True)]


def _with(table: list[list[float]], *entries: tuple[int, int, float]) -> list[list[float]]:
    changed = [list(row) for row in table]
    for row, column, value in entries:
        changed[row][column] = value
    return changed


_CONSTANTS = "Every row's logits carry a constant of their own: normalised logits are not to be assumed."
_RARE = (
    "One probability is about 1e-7: a small number added inside a logarithm, or a float32 subtraction from 1, shows."
)
_SURE = "Logits spread over ±40, nearly deterministic rows: the largest logit must be subtracted before exp."
_TINY = {
    "1e-6": (13, "KL near 1e-6: a difference of logarithms keeps nine digits in float64."),
    "1e-12": (23, "KL near 1e-12: a difference of logarithms keeps three digits in float64."),
    "1e-18": (
        33,
        "KL near 1e-18: a difference of logarithms keeps no digit; only a formula in the change itself does.",
    ),
}


def _logits(random: Random, rows: int, width: int) -> list[list[float]]:
    constants = numbers(random, rows, within=6.0, step=0.25)
    return _shifted(numbers(random, rows, width), constants)


def _logit_pairs(family: str, seed: int, rows: int, width: int, extra: Inputs) -> list[_Pair]:
    """Generic pairs with their own constants, a rare choice, and three stability cases."""
    random = Random(seed)
    shape = f"{rows}x{width}"
    old = _logits(random, rows, width)
    moved = _moved(old, numbers(random, rows, width, within=0.75))
    old, moved = _with(old, (3, 1, old[3][0] - 3.0)), _with(moved, (3, 1, old[3][0] - 11.0))  # 1/30 becomes 1e-5
    new = _shifted(moved, numbers(random, rows, within=6.0, step=0.25))
    pairs = [
        _Pair(
            f"row-constants-{shape}",
            "Old and new logits with constants of their own",
            _CONSTANTS,
            {"old_logits": old, "new_logits": new} | extra,
        )
    ]
    rare_old = _with(old, (1, 0, old[1][1] - 15.0), (2, 1, old[2][0] - 4.0))
    rare_new = _with(moved, (1, 0, old[1][1] - 12.0), (2, 1, old[2][0] - 15.0))
    pairs.append(
        _Pair(
            f"rare-choice-{shape}",
            "Probabilities near 1e-7 under the old or the new policy",
            _RARE,
            {"old_logits": rare_old, "new_logits": rare_new} | extra,
        )
    )
    for size, (bits, purpose) in _TINY.items():
        start = numbers(random, rows, width)
        change = numbers(random, rows, width, within=16 * 2.0**-bits, step=2.0**-bits)
        quantities = ("kl",) if size == "1e-6" else ("kl", "mean_kl")
        pairs.append(
            _Pair(
                f"kl-near-{size}-{shape}",
                f"Almost equal policies, KL near {size}",
                purpose,
                {"old_logits": start, "new_logits": _moved(start, change)} | extra,
                quantities,
                size == "1e-18",
            )
        )
    return pairs


# ── Categorical ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _categorical() -> list[Case]:
    random = Random(21)
    generic = _logits(random, 5, 4)
    rare = _with(_logits(random, 7, 3), (1, 0, -14.0), (4, 2, -12.0))
    sure = numbers(random, 6, 4, within=40.0, step=0.5)
    points = [
        _Point(
            "row-constants-5x4",
            "Logits with a constant per row",
            _CONSTANTS,
            {"logits": generic},
            {"actions": [2, 0, 3, 1, 2]},
        ),
        _Point(
            "rare-action-7x3",
            "Actions taken with probability near 1e-7",
            _RARE,
            {"logits": rare},
            {"actions": [1, 0, 2, 0, 2, 1, 0]},
        ),
        _Point(
            "near-deterministic-6x4", "Logits spread over ±40", _SURE, {"logits": sure}, {"actions": [3, 1, 0, 2, 2, 1]}
        ),
    ]
    return _cases("categorical", points, _logit_pairs("categorical", 22, 5, 4, {}))


def _masked() -> list[Case]:
    random = Random(31)
    masks = [
        [True, False, True, True],
        [True, True, True, True],
        [False, True, True, False],
        [True, True, False, True],
        [False, False, True, False],
    ]
    finite = (
        "Forbidden actions have finite logits, often the largest of their row, and probability exactly 0; one row "
        "allows a single action, one all."
    )
    generic = _with(_logits(random, 5, 4), (0, 1, 9.0), (2, 3, 7.5))
    rare = _with(_logits(random, 5, 4), (1, 2, -15.0), (3, 0, -13.0), (4, 0, 8.0))
    points = [
        _Point(
            "forbidden-largest-5x4",
            "Forbidden actions with the largest logits",
            finite,
            {"logits": generic, "mask": masks},
            {"actions": [2, 3, 1, 0, 2]},
        ),
        _Point(
            "rare-action-5x4",
            "Allowed actions with probability near 1e-7",
            _RARE,
            {"logits": rare, "mask": masks},
            {"actions": [0, 2, 2, 0, 2]},
        ),
    ]
    pairs = _logit_pairs("masked_categorical", 32, 5, 4, {"mask": masks})
    return _cases("masked_categorical", points, pairs)


def _multi() -> list[Case]:
    random = Random(41)
    sizes = {"action_sizes": [3, 2, 4]}
    purpose = "Factors of different sizes side by side; each is normalised by itself. " + _CONSTANTS
    narrow = {"action_sizes": [2, 5]}
    rare = _with(_logits(random, 4, 7), (1, 0, -14.0), (2, 4, -15.0))
    actions = [[2, 0, 3], [0, 1, 1], [1, 1, 0], [2, 0, 2], [0, 1, 3]]
    points = [
        _Point(
            "three-factors-5x9",
            "Three factors of sizes 3, 2 and 4",
            purpose,
            {"logits": _logits(random, 5, 9)} | sizes,
            {"actions": actions},
        ),
        _Point(
            "rare-action-4x7",
            "Two factors of sizes 2 and 5, choices with probability near 1e-7",
            _RARE,
            {"logits": rare} | narrow,
            {"actions": [[1, 3], [0, 4], [1, 2], [0, 1]]},
        ),
    ]
    pairs = _logit_pairs("multi_categorical", 42, 5, 9, sizes)
    return _cases("multi_categorical", points, pairs)


def _bernoulli() -> list[Case]:
    random = Random(51)
    rare = _with(numbers(random, 7, 2), (1, 0, -9.0), (3, 1, 8.5), (5, 0, -8.0))
    sure = numbers(random, 6, 4, within=12.0, step=0.5)
    generic = "Independent coins of different bias; heads and tails both contribute, and the coins of a row are summed."
    points = [
        _Point(
            "coins-5x3",
            "Three coins per row",
            generic,
            {"logits": numbers(random, 5, 3)},
            {"actions": [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0], [1, 0, 0]]},
        ),
        _Point(
            "rare-side-7x2",
            "Sides with probability near 1e-4, taken and not taken",
            "A side of probability 1e-4 is taken: 1 − p keeps few digits of it in float32.",
            {"logits": rare},
            {"actions": [[1, 0], [1, 1], [0, 1], [0, 0], [1, 1], [1, 0], [0, 1]]},
        ),
        _Point(
            "near-deterministic-6x4",
            "Logits spread over ±12",
            "Nearly sure coins in both directions.",
            {"logits": sure},
            {"actions": [[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]]},
            ("entropy", "score", "fisher"),
        ),
    ]
    pairs = []
    for pair in _logit_pairs("bernoulli", 52, 5, 3, {}):
        if pair.slug.startswith("row-constants"):
            pair = pair._replace(
                slug="coins-5x3",
                title="Three coins per row, old and new bias",
                purpose=generic,
                parameters={
                    "old_logits": _with(numbers(random, 5, 3), (3, 1, -3.0)),
                    "new_logits": _with(numbers(random, 5, 3), (3, 1, -11.0)),
                },
            )
        if pair.slug.startswith("rare-choice"):
            old, new = numbers(random, 5, 3), numbers(random, 5, 3)
            pair = pair._replace(
                slug="rare-side-5x3",
                parameters={
                    "old_logits": _with(old, (1, 0, -10.0), (2, 1, 4.0)),
                    "new_logits": _with(new, (1, 0, -8.0), (2, 1, 10.0)),
                },
            )
        pairs.append(pair)
    return _cases("bernoulli", points, pairs)


# ── Gaussian ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _gaussian(squashed: bool) -> list[Case]:
    family = "squashed_gaussian" if squashed else "diagonal_gaussian"
    random = Random(71 if squashed else 61)
    name = "pre_tanh_actions" if squashed else "actions"
    spread = (
        "Standard deviations differ from 1, from row to row and from dimension to dimension; some actions lie "
        "beyond ±1."
    )
    narrow = (
        "Standard deviations near 0.01 beside larger ones: numbers added to a variance, or a variance taken for a "
        "deviation, show."
    )

    def deviations(rows: int, width: int) -> list[list[float]]:
        drawn: list[list[float]] = numbers(random, rows, width, within=1.0)
        return drawn

    def near(means: list[list[float]], log_stds: list[list[float]]) -> list[list[float]]:
        """Actions within two deviations or so: u = μ + k 2^⌊log₂ σ⌋."""
        return [
            [
                m + random.choice([-1.5, -1.0, -0.5, 0.5, 1.0, 1.5]) * 2.0 ** round(s / 0.6931)
                for m, s in zip(ms, ss, strict=True)
            ]
            for ms, ss in zip(means, log_stds, strict=True)
        ]

    mean_a, std_a = numbers(random, 5, 3), deviations(5, 3)
    mean_b, std_b = numbers(random, 7, 2), _with(deviations(7, 2), (2, 0, -4.5), (5, 1, -4.25))
    points = [
        _Point(
            "spread-5x3",
            "Three dimensions, every deviation different",
            spread,
            {"mean": mean_a, "log_std": std_a},
            {name: near(mean_a, std_a)},
        ),
        _Point(
            "narrow-7x2",
            "A standard deviation near 0.01",
            narrow,
            {"mean": mean_b, "log_std": std_b},
            {name: near(mean_b, std_b)},
        ),
    ]
    if squashed:
        mean_c, std_c = numbers(random, 4, 3, within=1.0), deviations(4, 3)
        far = _with(near(mean_c, std_c), (0, 1, 9.5), (1, 2, -8.5), (2, 0, 11.0), (3, 1, -10.25))
        points.append(
            _Point(
                "saturated-4x3",
                "Actions whose tanh is 1 to many digits",
                "Pre-tanh actions beyond ±8: the action rounds to ±1 in float32, and 1 − tanh² has few digits "
                "left; the pre-tanh value must be kept, never recovered from the action.",
                {"mean": mean_c, "log_std": std_c},
                {name: far},
                ("log_prob", "score"),
            )
        )
    pairs = [_gaussian_pair(random, 5, 3, "spread-5x3", "Mean and deviation both change", spread)]
    pair = _gaussian_pair(random, 6, 2, "narrow-6x2", "A standard deviation near 0.01, old and new", narrow)
    for which in ("old", "new"):
        pair.parameters[f"{which}_log_std"][1][0] = {"old": -4.5, "new": -4.25}[which]
        pair.parameters[f"{which}_mean"][1][0] = {"old": 0.5, "new": 0.5 + 2.0**-7}[which]
    pairs.append(pair)
    for size, (bits, purpose) in _TINY.items():
        mean, log_std = numbers(random, 5, 3), deviations(5, 3)
        step = 2.0**-bits
        new = {
            "new_mean": _moved(mean, numbers(random, 5, 3, within=8 * step, step=step)),
            "new_log_std": _moved(log_std, numbers(random, 5, 3, within=8 * step, step=step)),
        }
        quantities = ("kl",) if size == "1e-6" else ("kl", "mean_kl")
        pairs.append(
            _Pair(
                f"kl-near-{size}-5x3",
                f"Almost equal policies, KL near {size}",
                purpose,
                {"old_mean": mean, "old_log_std": log_std} | new,
                quantities,
                size == "1e-18",
            )
        )
    return _cases(family, points, pairs)


def _gaussian_pair(random: Random, rows: int, width: int, slug: str, title: str, purpose: str) -> _Pair:
    mean, log_std = numbers(random, rows, width), numbers(random, rows, width, within=1.0)
    return _Pair(
        slug,
        title,
        purpose,
        {
            "old_mean": mean,
            "old_log_std": log_std,
            "new_mean": _moved(mean, numbers(random, rows, width, within=0.5)),
            "new_log_std": _moved(log_std, numbers(random, rows, width, within=0.375)),
        },
    )


CASES: list[Case] = [*_categorical(), *_masked(), *_multi(), *_bernoulli(), *_gaussian(False), *_gaussian(True)]
