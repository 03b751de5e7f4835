"""Mistakes in the profile ppo: the clipped objective, values, entropy, Adam."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from refpg.conformance.mutants import programs
from refpg.conformance.mutants.programs import (
    RIGHT,
    Parts,
    Rates,
    categorical_only,
    clip_ratio,
    clipped_rows,
    gaussian_only,
    larger,
    smaller,
    with_entropy,
)
from refpg.conformance.mutants.trpo import LOG_PROBS, RATIOS, SLOPES, WITHOUT_GRADIENT
from refpg.conformance.reference import answers
from refpg.distributions.gaussian import halves
from refpg.notation import Array

Function = Callable[..., Any]
Conventions = Mapping[str, str]


# The clipped objective.


def _clip_product(r: Array, A: Array, clip: float) -> Array:
    return smaller(clip_ratio(r * A, clip) * A, r * A)


def _clip_log_ratio(r: Array, A: Array, clip: float) -> Array:
    low, high = math.exp(-clip), math.exp(clip)
    kept = np.where(r.real > high, high, np.where(r.real < low, low, r))
    return smaller(kept * A, r * A)


def _mean_advantage(r: Array, A: Array, clip: float) -> Any:
    return smaller(r * A.mean(), (clip_ratio(r, clip) * A).mean()).mean()


def _one_normalised(r: Array, A: Array, clip: float) -> Any:
    normalised = (A - A.mean()) / A.std()
    return smaller(r * A, clip_ratio(r, clip) * normalised).mean()


def _by_rows(rows: Callable[[Array, Array, float], Array]) -> Parts:
    return RIGHT._replace(objective=lambda r, A, clip: rows(r, A, clip).mean())


_CLIPS: dict[str, Parts] = {
    "clip-min-before-adv": _by_rows(lambda r, A, clip: smaller(clip_ratio(r, clip), r) * A),
    "clip-no-min": _by_rows(lambda r, A, clip: clip_ratio(r, clip) * A),
    "clip-max-not-min": _by_rows(lambda r, A, clip: larger(r * A, clip_ratio(r, clip) * A)),
    "clip-surr-not-ratio": _by_rows(_clip_product),
    "clip-term-not-times-adv": _by_rows(lambda r, A, clip: smaller(r * A, clip_ratio(r, clip))),
    "dual-clip-all-signs": _by_rows(lambda r, A, clip: larger(clipped_rows(r, A, clip), 3 * A)),
    "loss-double-negation": _by_rows(lambda r, A, clip: -clipped_rows(r, A, clip)),
}
_WINDOW: dict[str, Parts] = {"clip-in-log-ratio": _by_rows(_clip_log_ratio)}
_REDUCTIONS: dict[str, Parts] = {
    "adv-mean-before-ratio": RIGHT._replace(objective=_mean_advantage),
    "advnorm-one-branch": RIGHT._replace(objective=_one_normalised),
    "ratio-broadcast-NxN": _by_rows(lambda r, A, clip: clipped_rows(r[:, None], A, clip)),
    "pg-sum-not-mean": RIGHT._replace(objective=lambda r, A, clip: clipped_rows(r, A, clip).sum()),
}


# The window with two widths, and the bound of rows with A < 0.

Row = Callable[[Array, Array, float, float], Array]


def _with_gradient(ratio: Callable[[Array, Array], Array], row: Row, names: tuple[str, str]) -> Function:
    """The mean of a function of r, A and two numbers by name, and its gradient."""

    def function(old_log_prob: Array, new_log_prob: Array, advantages: Array, **numbers: float) -> dict[str, Any]:
        def objective(new: Array) -> Any:
            return row(ratio(old_log_prob, new), advantages, *(numbers[name] for name in names)).mean()

        return {"objective": objective(new_log_prob), "gradient": programs.gradient_of(objective, new_log_prob)}

    return function


def _kept(r: Array, low: float, high: float) -> Array:
    return np.where(r.real > 1 + high, 1 + high, np.where(r.real < 1 - low, 1 - low, r))


def windowed(r: Array, A: Array, low: float, high: float) -> Array:
    """min(rA, clip(r, 1 − low, 1 + high)A)."""
    return smaller(_kept(r, low, high) * A, r * A)


def _floored(r: Array, A: Array, clip: float, floor: float) -> Array:
    clipped = clipped_rows(r, A, clip)
    return np.where(A < 0, larger(clipped, floor * A), clipped)


def _smaller_of_floor(r: Array, A: Array, clip: float, floor: float) -> Array:
    clipped = clipped_rows(r, A, clip)
    return np.where(A < 0, smaller(clipped, floor * A), clipped)


WINDOWED: dict[str, Row] = {
    "clip-bounds-swapped": lambda r, A, low, high: windowed(r, A, high, low),
    "clip-one-bound": lambda r, A, low, high: windowed(r, A, low, low),
    "clip-no-min": lambda r, A, low, high: _kept(r, low, high) * A,
}
_FLOORED: dict[str, Row] = {
    "dual-clip-all-signs": lambda r, A, clip, floor: larger(clipped_rows(r, A, clip), floor * A),
    "dual-clip-min-not-max": _smaller_of_floor,
}


def _bounded(rows: dict[str, Row], right: Row, names: tuple[str, str]) -> dict[str, Function]:
    """Another function of a row, or the right one of another ratio."""
    by_row = {bug: _with_gradient(programs.ratio, row, names) for bug, row in rows.items()}
    return by_row | {bug: _with_gradient(parts.ratio, right, names) for bug, parts in RATIOS.items()}


def _fraction_by_log_ratio(
    conventions: Conventions, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float
) -> Any:
    log_ratio = new_log_prob - old_log_prob
    if conventions["clip_fraction.rule"] == "outside":
        return (np.abs(log_ratio) > clip).mean()
    return (np.where(advantages > 0, log_ratio > clip, log_ratio < -clip) & (advantages != 0)).mean()


def _mean_ratio(
    conventions: Conventions, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float
) -> Any:
    return np.exp(new_log_prob - old_log_prob).mean()


# KL estimates, penalties.


def _estimate(**wrong: Callable[[Array], Array]) -> Function:
    """The mean of an estimator of the log-ratio d, some of them wrong."""
    estimators = {"k1": lambda d: -d, "k2": lambda d: d**2 / 2, "k3": lambda d: np.expm1(d) - d} | wrong

    def function(conventions: Conventions, old_log_prob: Array, new_log_prob: Array) -> Any:
        return estimators[conventions["approximate_kl.estimator"]](new_log_prob - old_log_prob).mean()

    return function


def _of_other_log_probs(change: Callable[[Array, Array], tuple[Array, Array]]) -> Function:
    def function(conventions: Conventions, old_log_prob: Array, new_log_prob: Array) -> Any:
        old, new = change(old_log_prob, new_log_prob)
        return answers(conventions)["approximate_kl"](old_log_prob=old, new_log_prob=new)

    return function


def _penalty_times(factor: float) -> Function:
    def function(old_log_prob: Array, new_log_prob: Array, advantages: Array, kl: Array, kl_penalty: float) -> Any:
        return (np.exp(new_log_prob - old_log_prob) * advantages - factor * kl_penalty * kl).mean()

    return function


_WINDOWS = {"paper": (1 / 1.5, 1.5), "rllib": (0.5, 2.0), "tf_agents": (0.7, 1.3), "pat_coady": (0.5, 2.0)}
_RAISED: dict[str, Callable[[float], float]] = {
    "paper": lambda beta: 2 * beta,
    "rllib": lambda beta: 1.5 * beta,
    "tf_agents": lambda beta: 1.5 * beta,
    "pat_coady": lambda beta: min(1.5 * beta, 35.0),
}
_LOWERED: dict[str, Callable[[float], float]] = {
    "paper": lambda beta: beta / 2,
    "rllib": lambda beta: beta / 2,
    "tf_agents": lambda beta: max(beta / 1.5, 1e-15),
    "pat_coady": lambda beta: max(beta / 1.5, 1 / 35),
}


def _penalty_inverted(conventions: Conventions, kl_penalty: float, kl: float, target: float) -> float:
    schedule = conventions["kl_penalty.schedule"]
    low, high = _WINDOWS[schedule]
    if kl > high * target:
        return _LOWERED[schedule](kl_penalty)
    return _RAISED[schedule](kl_penalty) if kl < low * target else kl_penalty


def _penalty_always_moves(conventions: Conventions, kl_penalty: float, kl: float, target: float) -> float:
    schedule = conventions["kl_penalty.schedule"]
    return _RAISED[schedule](kl_penalty) if kl > target else _LOWERED[schedule](kl_penalty)


def _controlled(change: Callable[[float], float], per_horizon: bool = True) -> Function:
    """The penalty times 1 + an error of the KL, a function of its relative error, times samples/horizon."""

    def function(kl_penalty: float, kl: float, target: float, samples: int, horizon: int) -> float:
        return kl_penalty * (1 + change(kl / target - 1) * (samples / horizon if per_horizon else 1))

    return function


def _limited(error: float) -> float:
    return min(max(error, -0.2), 0.2)


# Values.


_VALUES: dict[str, Parts] = {
    "vloss-broadcast": RIGHT._replace(value_loss=lambda V, targets, error: error(V[:, None] - targets).mean())
}


Rows = Callable[[Array, Array, Callable[[Array], Array]], Array]


def _clipped_values(maximum: Rows, stale: bool = True) -> Function:
    """The clipped value loss from another maximum of the errors of V and of the clipped V, or without old values."""

    def function(conventions: Conventions, values: Array, old_values: Array, targets: Array, clip: float) -> Any:
        error, form = programs.row_error(conventions), conventions["value_loss.clip"]
        kept = old_values + np.clip(values - old_values, -clip, clip) if stale else values
        rows = maximum(values - targets, kept - targets, error)
        if form != "maximum":
            rows = error(kept - targets) if form == "clipped_only" else np.minimum(error(values - targets), clip)
        return {"1": 1.0, "1/2": 0.5}[conventions["value_loss.factor"]] * rows.mean()

    return function


def _larger(free: Array, kept: Array, error: Callable[[Array], Array]) -> Array:
    return np.maximum(error(free), error(kept))


def _smaller(free: Array, kept: Array, error: Callable[[Array], Array]) -> Array:
    return np.minimum(error(free), error(kept))


def _larger_before_square(free: Array, kept: Array, error: Callable[[Array], Array]) -> Array:
    return error(np.maximum(free, kept))


# Entropy.

_HALF_LOG_2PI_E = 0.5 * (math.log(2 * math.pi) + 1)


def _of_log_std(form: Callable[[Array], Array]) -> Parts:
    """Another entropy of the Gaussian, from its log standard deviations."""
    return RIGHT._replace(family=gaussian_only(with_entropy(lambda phi: form(halves(phi)[1]))))


def _entropy_of_logits(phi: Array) -> Array:
    return -(np.exp(phi) * phi).sum(axis=1)


_ENTROPIES: dict[str, Parts] = {
    "ent-half-logstd": _of_log_std(lambda ls: (0.5 * ls + _HALF_LOG_2PI_E).sum(axis=1)),
    "ent-missing-half": _of_log_std(lambda ls: (2 * ls + 2 * _HALF_LOG_2PI_E).sum(axis=1)),
    "ent-mean-dims": _of_log_std(lambda ls: (ls + _HALF_LOG_2PI_E).mean(axis=1)),
}
_BONUSES: dict[str, Parts] = _ENTROPIES | {
    "ent-missing-dim-factor": _of_log_std(lambda ls: ls.sum(axis=1) + _HALF_LOG_2PI_E),
    "ent-plus-not-times": _of_log_std(lambda ls: (0.5 * (np.log(2 * math.pi + np.exp(2 * ls)) + 1)).sum(axis=1)),
    "ent-sign": RIGHT._replace(family=lambda family: with_entropy(lambda phi: -family.entropy(phi))(family)),
    "cat-logits-as-logp": RIGHT._replace(family=categorical_only(with_entropy(_entropy_of_logits))),
}


# Adam.


def _uncorrected(m: Array, v: Array, t: int, rates: Rates) -> Array:
    return m / (np.sqrt(v) + rates.epsilon)


def _epsilon_in_root(m: Array, v: Array, t: int, rates: Rates) -> Array:
    return m / (1 - rates.beta1**t) / np.sqrt(v / (1 - rates.beta2**t) + rates.epsilon)


def _epsilon_uncorrected(m: Array, v: Array, t: int, rates: Rates) -> Array:
    return math.sqrt(1 - rates.beta2**t) / (1 - rates.beta1**t) * m / (np.sqrt(v) + rates.epsilon)


_ADAMS: dict[str, Parts] = {
    "adam-no-bias-correction": RIGHT._replace(adam=_uncorrected),
    "adam-epsilon-in-root": RIGHT._replace(adam=_epsilon_in_root),
    "adam-epsilon-uncorrected": RIGHT._replace(adam=_epsilon_uncorrected),
    "adam-step-off-by-one": RIGHT._replace(adam=lambda m, v, t, rates: RIGHT.adam(m, v, t + 1, rates)),
    "pg-wrong-sign": RIGHT._replace(adam=lambda m, v, t, rates: -RIGHT.adam(m, v, t, rates)),
}


def _restarted(minibatches: list[Array], **inputs: Any) -> Any:
    """Every minibatch starts from the first parameters and zero moments; the last one's step is kept."""
    return answers({})["ppo_epoch"](minibatches=minibatches[-1:], **inputs)


def _of(program: Function, *tables: dict[str, Parts]) -> dict[str, Function]:
    return {bug: partial(program, parts) for table in tables for bug, parts in table.items()}


WRONG: dict[str, dict[str, Function]] = {
    "ratio": _of(programs.ratios, RATIOS),
    "clipped_objective": _of(programs.clipped_objective, _CLIPS, _WINDOW, _REDUCTIONS, RATIOS),
    "clipped_objective_gradient": _of(
        programs.clipped_objective_gradient, _CLIPS, _WINDOW, _REDUCTIONS, RATIOS, WITHOUT_GRADIENT
    ),
    "clipped_objective_parameter_gradient": _of(
        programs.clipped_objective_parameter_gradient,
        _CLIPS,
        _REDUCTIONS,
        RATIOS,
        WITHOUT_GRADIENT,
        LOG_PROBS,
        SLOPES,
    ),
    "asymmetric_clipped_objective": _bounded(WINDOWED, windowed, ("clip_low", "clip_high")),
    "dual_clipped_objective": _bounded(_FLOORED, _floored, ("clip", "floor")),
    "clip_fraction": _of(programs.clip_fraction, RATIOS)
    | {"clipfrac-wrong": _mean_ratio, "clip-in-log-ratio": _fraction_by_log_ratio},
    "approximate_kl": {
        "akl-sign": _estimate(k1=lambda d: d),
        "akl-k2-no-half": _estimate(k2=lambda d: d**2),
        "akl-minus-ratio": _estimate(k3=lambda d: -np.exp(d)),
        "ratio-inverted": _of_other_log_probs(lambda old, new: (new, old)),
        "ratio-always-one": _of_other_log_probs(lambda old, new: (new, new)),
    },
    "kl_penalized_objective": _of(programs.kl_penalized_objective, RATIOS)
    | {"kl-negated": _penalty_times(-1), "kl-self-zero": _penalty_times(0)},
    "kl_penalty_update": {"beta-inverted": _penalty_inverted, "beta-no-dead-band": _penalty_always_moves},
    "proportional_kl_penalty_update": {
        "beta-inverted": _controlled(lambda error: -_limited(error)),
        "beta-error-unclipped": _controlled(lambda error: error),
        "beta-horizon-ignored": _controlled(_limited, per_horizon=False),
    },
    "value_loss": _of(programs.value_loss, _VALUES),
    "clipped_value_loss": {
        "vclip-min": _clipped_values(_smaller),
        "vclip-old-is-current": _clipped_values(_larger, stale=False),
        "vclip-max-before-square": _clipped_values(_larger_before_square),
    },
    "entropy_bonus": _of(programs.entropy_bonus, _BONUSES, SLOPES),
    "ppo_objective": _of(
        programs.ppo_objective,
        _CLIPS,
        _WINDOW,
        _REDUCTIONS,
        RATIOS,
        LOG_PROBS,
        SLOPES,
        _VALUES,
        _ENTROPIES,
        {"ent-bonus-sign": RIGHT._replace(entropy_sign=-1.0)},
    ),
    "adam_step": _of(programs.adam_step, _ADAMS),
    "ppo_epoch": _of(programs.ppo_epoch, _CLIPS, RATIOS, _ADAMS, SLOPES) | {"epoch-restarted": _restarted},
}
