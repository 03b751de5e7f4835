"""Laws of log-probabilities, entropies and scores of the six families."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.families import (
    ALL,
    CATEGORICAL,
    DISCRETE,
    FACTORED,
    GAUSSIAN,
    action_name,
    average,
    change,
    dimensions,
    discrete_actions,
    log_prob,
    score,
)
from refpg.conformance.laws.law import Gap, at_least, equal, law
from refpg.conformance.laws.quadrature import integral, trapezoid
from refpg.conformance.laws.rounding import Rounded, exp, join, log, rounded, square, tanh, total, where


@law(
    source="[TRPO (14)]",
    ops=("log_prob_{family}",),
    draw="distributions",
    variants=DISCRETE,
    blind="another distribution over the same actions that is normalised too, such as the softmax of a softmax",
)
def probabilities_sum_to_one(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """Σ_a exp log π(a) = 1 over all (allowed) actions."""
    weights = [node.weight for node in average(f, family, p, shared, 3)]
    yield equal(total(weights), 1.0)


@law(
    source="[TRPO (14)]",
    ops=("log_prob_{family}",),
    draw="distributions",
    variants=GAUSSIAN,
    blind="another density that is normalised too: a wrong mean, or a scale that is wrong in the exponent and in front",
)
def density_integrates_to_one(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """∫ π(a) da = 1 in one dimension; for the squashed Gaussian with da = (1 − tanh² u) du."""
    first = change(p, lambda value: value[:, :1])
    mean, sigma = rounded(first["mean"]), exp(first["log_std"])
    parts = []
    for x, weight in trapezoid():
        u = mean + x * sigma
        density = exp(log_prob(f, family, first, shared, u))
        volume = 1 - square(tanh(u))[:, 0] if family == "squashed_gaussian" else 1.0
        parts.append(weight * density * volume * sigma[:, 0])
    yield equal(total(parts), 1.0)


@law(
    source="[TRPO (14)]",
    ops=("log_prob_{family}",),
    draw="distributions",
    variants=CATEGORICAL,
    blind="what depends on differences of logits alone, however wrongly",
)
def log_prob_ignores_a_shift_of_the_logits(
    f: Answers, family: str, p: Any, shared: Any, actions: Any, shift: Any
) -> Iterator[Gap]:
    """log π is unchanged if a constant is added to all logits of a row."""
    shifted = change(p, lambda logits: logits + shift[:, None])
    yield equal(log_prob(f, family, p, shared, actions), log_prob(f, family, shifted, shared, actions))


@law(
    source="[TRPO (14)]",
    ops=("log_prob_{family}",),
    draw="distributions",
    variants=CATEGORICAL,
    blind="a factor common to all differences would be seen; what the normaliser is, is not",
)
def log_odds_are_differences_of_logits(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """log π(a) − log π(a') = z_a − z_a' for the logits z, summed over the factors."""
    logits = p["logits"]
    found = list(discrete_actions(family, p, shared))
    first, _ = found[0]
    offset = log_prob(f, family, p, shared, first)
    for actions, counts in found[1:]:
        odds = log_prob(f, family, p, shared, actions) - offset
        chosen = _chosen(logits, actions, shared) - _chosen(logits, first, shared)
        yield equal(odds[counts], chosen[counts])


def _chosen(logits: Any, actions: Any, shared: Any) -> Any:
    rows = np.arange(len(logits))
    if actions.ndim == 1:
        return logits[rows, actions]
    starts = np.cumsum(shared["action_sizes"]) - shared["action_sizes"]
    return logits[rows[:, None], starts + actions].sum(axis=1)


@law(
    source="[TRPO (14)]",
    ops=("log_prob_{family}",),
    draw="distributions",
    variants=FACTORED,
    blind="a mistake that is made in every dimension alike",
)
def log_prob_adds_over_dimensions(f: Answers, family: str, p: Any, shared: Any, actions: Any) -> Iterator[Gap]:
    """Independent dimensions: log π(a) is the sum of the log π(a_i) of each dimension alone."""
    parts = []
    for i, (one, common) in enumerate(dimensions(family, p, shared)):
        parts.append(log_prob(f, family, one, common, actions[:, i : i + 1]))
    yield equal(log_prob(f, family, p, shared, actions), total(parts))


@law(
    source="[TRPO (14)]",
    ops=("log_prob_{family}",),
    draw="distributions",
    variants=ALL,
    blind="all that is done to each row by itself",
)
def log_prob_of_a_row_is_its_own(
    f: Answers, family: str, p: Any, shared: Any, actions: Any, row: int
) -> Iterator[Gap]:
    """The log-probability of a row does not depend on the other rows of the batch."""
    one = slice(row, row + 1)
    common = {name: value[one] if name == "mask" else value for name, value in shared.items()}
    alone = log_prob(f, family, change(p, lambda value: value[one]), common, actions[one])
    yield equal(log_prob(f, family, p, shared, actions)[one], alone)


@law(
    source="[TRPO (14)]",
    ops=("log_prob_diagonal_gaussian",),
    draw="distributions",
    variants=("diagonal_gaussian",),
    blind="the normalising constant, and all that is even in a − μ",
)
def gaussian_log_prob_is_a_parabola_of_curvature_one(
    f: Answers, family: str, p: Any, shared: Any, actions: Any
) -> Iterator[Gap]:
    """log π(μ) − log π(μ ± dσ) = ½ Σ d²: even about the mean, and of curvature 1/σ²."""
    mean, sigma = p["mean"], exp(p["log_std"])
    top = log_prob(f, family, p, shared, mean)
    for sign in (1.0, -1.0):
        below = log_prob(f, family, p, shared, mean + sign * actions * sigma)
        yield equal(top - below, 0.5 * square(actions).sum(axis=1))


@law(
    source="[SAC App. C]",
    ops=("log_prob_squashed_gaussian", "log_prob_diagonal_gaussian"),
    draw="distributions",
    variants=("squashed_gaussian",),
    blind="what is wrong with the Gaussian underneath, and actions far in the saturated tails",
)
def squashing_adds_the_log_volume(f: Answers, family: str, p: Any, shared: Any, actions: Any) -> Iterator[Gap]:
    """log π(tanh u) = log N(u) − Σ log(1 − tanh² u)."""
    base = log_prob(f, "diagonal_gaussian", p, shared, actions)
    volume = log(1 - square(tanh(actions))).sum(axis=1)
    yield equal(log_prob(f, family, p, shared, actions), base - volume)


@law(
    source="[PPO (9)]",
    ops=("entropy_{family}", "log_prob_{family}"),
    draw="distributions",
    variants=(*DISCRETE, "diagonal_gaussian"),
    blind="a wrong distribution that log π and the entropy share",
)
def entropy_is_mean_surprise(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """H = −Σ_a π(a) log π(a): all actions, or μ ± σ, which average a parabola exactly."""
    parts = [
        -node.weight * log_prob(f, family, p, shared, node.actions) for node in average(f, family, p, shared, 3)
    ]
    yield equal(f(f"entropy_{family}", **p, **shared), total(parts))


@law(
    source="[SAC App. C]",
    ops=("entropy_squashed_gaussian", "log_prob_squashed_gaussian"),
    draw="distributions",
    variants=("squashed_gaussian",),
    blind="a wrong distribution that log π and the entropy share",
)
def squashed_entropy_is_mean_surprise(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """H = −∫ N(u) log π(tanh u) du, in one dimension by the trapezoidal rule."""
    # The rule converges like exp(−π²/hσ), log cosh having its poles at ±iπ/2: narrow Gaussians need few nodes.
    first = {"mean": p["mean"][:, :1], "log_std": np.minimum(p["log_std"][:, :1], 0.0)}
    mean, sigma = rounded(first["mean"]), exp(first["log_std"])
    parts, coarse = [], []
    for i, (x, weight) in enumerate(trapezoid(1 / 8)):
        surprise = -log_prob(f, family, first, shared, mean + x * sigma)
        parts.append(weight * math.exp(-x * x / 2) / math.sqrt(2 * math.pi) * surprise)
        coarse.extend([2 * parts[-1].value] if i % 2 == 0 else [])
    line = total(parts)
    yield equal(f(f"entropy_{family}", **first, **shared), line, np.abs(line.value - sum(coarse)))


@law(
    source="[PPO (9)]",
    ops=("entropy_{family}",),
    draw="distributions",
    variants=FACTORED,
    blind="a mistake that is made in every dimension alike",
)
def entropy_adds_over_dimensions(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """Independent dimensions: the entropy is the sum of the entropies of each dimension alone."""
    parts = [f(f"entropy_{family}", **one, **common) for one, common in dimensions(family, p, shared)]
    yield equal(f(f"entropy_{family}", **p, **shared), total(parts))


@law(
    source="[PPO (9)]",
    ops=("entropy_{family}",),
    draw="distributions",
    variants=DISCRETE,
    blind="a wrong value between the bounds",
)
def discrete_entropy_is_between_zero_and_uniform(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """0 ≤ H ≤ log of the number of (allowed) actions, and H is that logarithm if all logits are equal."""
    entropy = f(f"entropy_{family}", **p, **shared)
    numbers = np.sum([counts for _, counts in discrete_actions(family, p, shared)], axis=0)
    flat = change(p, lambda logits: 0 * logits + 1.0 * (family != "bernoulli"))
    yield at_least(entropy, 0.0)
    yield at_least(log(numbers), entropy)
    yield equal(f(f"entropy_{family}", **flat, **shared), log(numbers))


@law(
    source="[PPO (9)]",
    ops=("entropy_diagonal_gaussian",),
    draw="distributions",
    variants=("diagonal_gaussian",),
    blind="the constant ½ log 2πe of every dimension",
)
def gaussian_entropy_grows_by_the_log_scale(
    f: Answers, family: str, p: Any, shared: Any, shift: Any
) -> Iterator[Gap]:
    """H does not depend on μ, and grows by A·c if all log σ grow by c."""
    moved = {"mean": p["mean"] + shift[:, None], "log_std": p["log_std"] + shift[:, None] / 4}
    entropy, wider = (f("entropy_diagonal_gaussian", **one) for one in (p, moved))
    yield equal(wider - entropy, p["mean"].shape[1] * shift / 4)


@law(
    source="[TRPO App. C.1]",
    ops=("score_{family}", "log_prob_{family}"),
    draw="distributions",
    variants=DISCRETE,
    blind="a factor common to all scores, such as their sign",
)
def mean_score_is_zero(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """E[∂ log π/∂φ] = 0, by enumeration: a baseline costs nothing."""
    parts = [
        node.weight[:, None] * score(f, family, p, shared, node.actions)
        for node in average(f, family, p, shared, 3)
    ]
    yield equal(total(parts), 0.0)


@law(
    source="[TRPO App. C.1]",
    ops=("score_{family}",),
    draw="distributions",
    variants=GAUSSIAN,
    blind="a factor common to all scores of a parameter, such as their sign or 1/σ",
)
def mean_gaussian_score_is_zero(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """E[∂ log π/∂(μ, log σ)] = 0: the mean of the scores at μ ± σ, exact for parabolas."""
    parts = [
        node.weight[:, None] * score(f, family, p, shared, node.actions)
        for node in average(f, family, p, shared, 3)
    ]
    yield equal(total(parts), 0.0)


@law(
    source="[TRPO App. C.1]",
    ops=("score_{family}", "log_prob_{family}"),
    draw="distributions",
    variants=ALL,
    blind="nothing of the score, if log π is right; both may be wrong together",
)
def score_is_the_derivative_of_log_prob(
    f: Answers, family: str, p: Any, q: Any, shared: Any, actions: Any
) -> Iterator[Gap]:
    """log π_q(a) − log π_p(a) = ∫ score · dφ along the segment from p to a point towards q."""
    by = {name: (q[name] - p[name]) / 8 for name in p}

    def slope(t: float) -> Rounded:
        at = {name: p[name] + rounded(t) * by[name] for name in p}
        return (score(f, family, at, shared, actions) * join(list(by.values()), axis=1)).sum(axis=1)

    end = {name: p[name] + by[name] for name in p}
    change_of_log_prob = log_prob(f, family, end, shared, actions) - log_prob(f, family, p, shared, actions)
    line, truncation = integral(slope)
    yield equal(change_of_log_prob, line, truncation)


@law(
    source="[TRPO App. C.1]",
    ops=(
        "log_prob_masked_categorical",
        "entropy_masked_categorical",
        "score_masked_categorical",
        "fisher_masked_categorical",
    ),
    draw="distributions",
    variants=("masked_categorical",),
    blind="all that is wrong among the allowed actions",
)
def forbidden_actions_do_not_matter(
    f: Answers, family: str, p: Any, q: Any, shared: Any, actions: Any
) -> Iterator[Gap]:
    """Logits of forbidden actions change nothing, and have neither score nor Fisher information."""
    mask = shared["mask"]
    other = {"logits": np.where(mask, p["logits"], q["logits"])}
    yield equal(log_prob(f, family, p, shared, actions), log_prob(f, family, other, shared, actions))
    yield equal(*(f("entropy_masked_categorical", **one, **shared) for one in (p, other)))
    gradient = score(f, family, p, shared, actions)
    yield equal(gradient, score(f, family, other, shared, actions))
    yield equal(where(mask, 0.0, gradient), 0.0)
    fisher = f("fisher_masked_categorical", **p, **shared)
    allowed = mask[:, :, None] & mask[:, None, :]
    yield equal(where(allowed, 0.0, fisher), 0.0)


@law(
    source="[TRPO (14)]",
    ops=("log_prob_masked_categorical", "log_prob_categorical"),
    draw="distributions",
    variants=("masked_categorical",),
    blind="what the two families have wrong in common",
)
def a_mask_is_conditioning(f: Answers, family: str, p: Any, shared: Any, actions: Any) -> Iterator[Gap]:
    """log π_masked(a) = log π(a) − log π(allowed), all from the categorical without a mask."""
    logits, mask = p["logits"], shared["mask"]
    rows, size = logits.shape
    parts = [
        where(mask[:, a], exp(f("log_prob_categorical", logits=logits, actions=np.full(rows, a))), 0.0)
        for a in range(size)
    ]
    free = f("log_prob_categorical", logits=logits, actions=actions)
    masked = f("log_prob_masked_categorical", **p, **shared, **{action_name(family): actions})
    yield equal(masked, free - log(total(parts)))
