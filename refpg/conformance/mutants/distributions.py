"""Mistakes in the distributions: log-probabilities, entropies, divergences, scores and Fisher matrices of φ."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from refpg.conformance.reference import answers
from refpg.distributions.categorical import log_softmax
from refpg.notation import Array

Function = Callable[..., Any]
Entries = Callable[..., Array]

_RIGHT = answers({})
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_HALF_LOG_2PI_E = _HALF_LOG_2PI + 0.5


def _negated(op: str) -> Function:
    return _scaled(op, lambda inputs: -1)


def _divided(op: str, number: Callable[[dict[str, Any]], int]) -> Function:
    """The mean over so many where the sum is meant."""
    return _scaled(op, lambda inputs: 1 / number(inputs))


def _scaled(op: str, factor: Callable[[dict[str, Any]], float]) -> Function:
    def function(**inputs: Any) -> Any:
        answer = _RIGHT[op](**inputs)
        if isinstance(answer, dict):
            return {name: factor(inputs) * array for name, array in answer.items()}
        return factor(inputs) * answer

    return function


def _summed(op: str) -> Function:
    """Summed over the batch."""
    return lambda **inputs: _RIGHT[op](**inputs).sum()


def _averaged(rows: Function) -> Function:
    return lambda **inputs: rows(**inputs).mean()


def _exchanged(op: str) -> Function:
    """The other direction: old for new and new for old."""
    other = {"old": "new", "new": "old"}

    def function(**inputs: Any) -> Any:
        return _RIGHT[op](**{other.get(name[:3], name[:3]) + name[3:]: value for name, value in inputs.items()})

    return function


def _with_itself(op: str) -> Function:
    """The new distribution compared with itself."""

    def function(**inputs: Any) -> Any:
        return _RIGHT[op](**{name: inputs.get(name.replace("old_", "new_"), inputs[name]) for name in inputs})

    return function


# Discrete families.


def _factors(inputs: dict[str, Any], which: str = "") -> list[Array]:
    """Return the logits of each categorical factor, the forbidden ones −∞."""
    logits = inputs[f"{which}logits"]
    if "action_sizes" in inputs:
        return np.split(logits, np.cumsum(inputs["action_sizes"])[:-1], axis=1)
    if "mask" in inputs:
        return [np.where(inputs["mask"], logits, -np.inf)]
    return [logits]


def _coins(inputs: dict[str, Any], which: str = "") -> Array:
    logits = inputs[f"{which}logits"]
    return np.concatenate([expit(logits), expit(-logits)], axis=1)


def _probabilities(inputs: dict[str, Any], which: str = "") -> Array:
    return np.concatenate([softmax(z, axis=1) for z in _factors(inputs, which)], axis=1)


def _kl_with_epsilon(probabilities: Callable[..., Array]) -> Function:
    def function(**inputs: Any) -> Array:
        p, q = probabilities(inputs, "old_"), probabilities(inputs, "new_")
        return (p * np.log((p + 1e-6) / (q + 1e-6))).sum(axis=1)

    return function


def _kl_unnormalised(**inputs: Any) -> Array:
    return (_probabilities(inputs, "old_") * (inputs["old_logits"] - inputs["new_logits"])).sum(axis=1)


def _number_of_factors(inputs: dict[str, Any]) -> int:
    if "action_sizes" in inputs:
        return len(inputs["action_sizes"])
    return _width(inputs)


def _width(inputs: dict[str, Any]) -> int:
    widths: int = inputs["old_logits" if "old_logits" in inputs else "logits"].shape[1]
    return widths


def _one_hot(inputs: dict[str, Any]) -> Array:
    actions = inputs["actions"].reshape(len(inputs["actions"]), -1)
    widths = [z.shape[1] for z in _factors(inputs)]
    hot = [np.eye(width, dtype=inputs["logits"].dtype)[actions[:, i]] for i, width in enumerate(widths)]
    return np.concatenate(hot, axis=1)


def _diagonal(entries: Array) -> Array:
    return entries[:, :, None] * np.eye(entries.shape[1], dtype=entries.dtype)


def _outer(p: Array) -> Array:
    return p[:, :, None] * p[:, None, :]


def _taken(table: Array, actions: Array) -> Array:
    return np.take_along_axis(table, actions[:, None], axis=1)[:, 0]


def _discrete(family: str) -> dict[str, dict[str, Function]]:
    log_prob, entropy, kl, score, fisher = (
        f"{quantity}_{family}" for quantity in ("log_prob", "entropy", "kl", "score", "fisher")
    )
    coins = family == "bernoulli"
    kls: dict[str, Function] = {
        "kl-reversed": _exchanged(kl),
        "kl-self-zero": _with_itself(kl),
        "kl-negated": _negated(kl),
        "cat-kl-eps": _kl_with_epsilon(_coins if coins else _probabilities),
    }
    if not coins:
        kls["cat-kl-unnormalised"] = _kl_unnormalised
    wrong: dict[str, dict[str, Function]] = {
        log_prob: {"logp-sum-batch": _summed(log_prob)},
        entropy: {"ent-sign": _negated(entropy)},
        score: {
            "score-negated": _negated(score),
            "score-without-mean": lambda **inputs: inputs["actions"] if coins else _one_hot(inputs),
        },
        fisher: {
            "fvp-softmax-metric": lambda **inputs: _diagonal(
                expit(inputs["logits"]) if coins else _probabilities(inputs)
            )
        },
    }
    if family in ("multi_categorical", "bernoulli"):
        kls["kl-mean-dims"] = _divided(kl, _number_of_factors)
        wrong[log_prob]["logp-mean-dims"] = _divided(log_prob, _number_of_factors)
        wrong[entropy]["ent-mean-dims"] = _divided(entropy, _number_of_factors)
        wrong[fisher]["kl-mean-dims"] = _divided(fisher, _number_of_factors)
    else:
        kls["kl-torch-kldiv-convention"] = _divided(kl, _width)
    return wrong | _divergences(family, kls)


def _divergences(family: str, kls: dict[str, Function]) -> dict[str, dict[str, Function]]:
    """The same mistakes by row and in the mean, and the sum in place of the mean."""
    means = {bug: _averaged(rows) for bug, rows in kls.items()}
    return {f"kl_{family}": kls, f"mean_kl_{family}": means | {"kl-sum-not-mean": _summed(f"kl_{family}")}}


# Categorical.


def _twice(logits: Array) -> Array:
    return softmax(softmax(logits, axis=1), axis=1)


def _unshifted(logits: Array) -> Array:
    e = np.exp(logits)
    return e / e.sum(axis=1, keepdims=True)


def _logits_as_probabilities(logits: Array) -> Array:
    return logits / logits.sum(axis=1, keepdims=True)


def _log_prob_of(probabilities: Entries) -> Function:
    return lambda logits, actions: np.log(_taken(probabilities(logits), actions))


def _entropy_of(probabilities: Entries) -> Function:
    def function(logits: Array) -> Array:
        p = probabilities(logits)
        return -(p * np.log(p)).sum(axis=1)

    return function


def _score_of(probabilities: Entries) -> Function:
    return lambda logits, actions: _one_hot({"logits": logits, "actions": actions}) - probabilities(logits)


def _fisher_of(probabilities: Entries) -> Function:
    return lambda logits: _diagonal(probabilities(logits)) - _outer(probabilities(logits))


def _kl_of_logits(old_logits: Array, new_logits: Array) -> Array:
    return (np.exp(old_logits) * (old_logits - new_logits)).sum(axis=1)


def _kl_of_twice(old_logits: Array, new_logits: Array) -> Array:
    p, q = _twice(old_logits), _twice(new_logits)
    return (p * (np.log(p) - np.log(q))).sum(axis=1)


_CATEGORICAL_KLS: dict[str, Function] = {"cat-logits-as-logp": _kl_of_logits, "cat-double-softmax": _kl_of_twice}
_CATEGORICAL: dict[str, dict[str, Function]] = {
    "log_prob_categorical": {
        "cat-logits-as-logp": lambda logits, actions: _taken(logits, actions),
        "cat-double-softmax": _log_prob_of(_twice),
        "cat-overflow": _log_prob_of(_unshifted),
        "cat-logits-as-probs": _log_prob_of(_logits_as_probabilities),
    },
    "entropy_categorical": {
        "cat-logits-as-logp": lambda logits: -(np.exp(logits) * logits).sum(axis=1),
        "cat-double-softmax": _entropy_of(_twice),
        "cat-overflow": _entropy_of(_unshifted),
    },
    "kl_categorical": _CATEGORICAL_KLS,
    "mean_kl_categorical": {bug: _averaged(rows) for bug, rows in _CATEGORICAL_KLS.items()},
    "score_categorical": {
        "cat-double-softmax": _score_of(_twice),
        "cat-overflow": _score_of(_unshifted),
        "cat-logits-as-probs": _score_of(_logits_as_probabilities),
    },
    "fisher_categorical": {
        "cat-double-softmax": _fisher_of(_twice),
        "cat-overflow": _fisher_of(_unshifted),
        "cat-logits-as-probs": _fisher_of(_logits_as_probabilities),
    },
}


# Masked categorical.


def _mask_ignored(op: str) -> Function:
    return lambda mask, **inputs: _RIGHT[op.replace("masked_", "")](**inputs)


def _mask_times_logits(op: str) -> Function:
    def function(mask: Array, **inputs: Any) -> Any:
        masked = {name: value * mask if name.endswith("logits") else value for name, value in inputs.items()}
        return _RIGHT[op.replace("masked_", "")](**masked)

    return function


def _allowed_only(terms: Array, mask: Array) -> Array:
    return np.where(mask, terms, np.zeros_like(terms)).sum(axis=1)


def _unnormalised_entropy(logits: Array, mask: Array) -> Array:
    p = softmax(logits, axis=1) * mask
    return -_allowed_only(p * np.log(softmax(logits, axis=1)), mask)


def _unnormalised_kl(old_logits: Array, new_logits: Array, mask: Array) -> Array:
    p, q = softmax(old_logits, axis=1), softmax(new_logits, axis=1)
    return _allowed_only(p * np.log(p / q), mask)


def _entropy_with_nan(logits: Array, mask: Array) -> Array:
    log_p = log_softmax(np.where(mask, logits, -np.inf))
    return -(np.exp(log_p) * log_p).sum(axis=1)


def _kl_with_nan(old_logits: Array, new_logits: Array, mask: Array) -> Array:
    log_p, log_q = (log_softmax(np.where(mask, logits, -np.inf)) for logits in (old_logits, new_logits))
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=1)


def _masked() -> dict[str, dict[str, Function]]:
    quantities = ("log_prob", "entropy", "kl", "mean_kl", "score", "fisher")
    wrong: dict[str, dict[str, Function]] = {
        op: {"mask-ignored": _mask_ignored(op), "mask-times-logits": _mask_times_logits(op)}
        for op in (f"{quantity}_masked_categorical" for quantity in quantities)
    }
    wrong["entropy_masked_categorical"] |= {
        "mask-unnormalised": _unnormalised_entropy,
        "ent-masked-nan": _entropy_with_nan,
    }
    kls: dict[str, Function] = {"mask-unnormalised": _unnormalised_kl, "ent-masked-nan": _kl_with_nan}
    wrong["kl_masked_categorical"] |= kls
    wrong["mean_kl_masked_categorical"] |= {bug: _averaged(rows) for bug, rows in kls.items()}
    return wrong


# Several choices at once: one softmax over all of them; one side of a coin.


def _joint_log_prob(logits: Array, actions: Array, action_sizes: Array) -> Array:
    starts = np.concatenate([[0], np.cumsum(action_sizes)[:-1]])
    return np.take_along_axis(np.log(softmax(logits, axis=1)), starts + actions, axis=1).sum(axis=1)


def _joint_score(logits: Array, actions: Array, action_sizes: Array) -> Array:
    hot = _one_hot({"logits": logits, "actions": actions, "action_sizes": action_sizes})
    return hot - softmax(logits, axis=1)


def _jointly(op: str) -> Function:
    return lambda action_sizes, **inputs: _RIGHT[op](**inputs)


_MULTI: dict[str, dict[str, Function]] = {
    "log_prob_multi_categorical": {"multi-one-softmax": _joint_log_prob},
    "entropy_multi_categorical": {"multi-one-softmax": _jointly("entropy_categorical")},
    "kl_multi_categorical": {"multi-one-softmax": _jointly("kl_categorical")},
    "mean_kl_multi_categorical": {"multi-one-softmax": _jointly("mean_kl_categorical")},
    "score_multi_categorical": {"multi-one-softmax": _joint_score},
    "fisher_multi_categorical": {"multi-one-softmax": _jointly("fisher_categorical")},
}


def _heads_only(logits: Array, actions: Array) -> Array:
    return (actions * np.log(expit(logits))).sum(axis=1)


def _competing_coins(logits: Array, actions: Array) -> Array:
    log_p = log_softmax(logits)
    return np.where(actions == 1, log_p, np.log(-np.expm1(log_p))).sum(axis=1)


def _heads_entropy(logits: Array) -> Array:
    p = expit(logits)
    return -(p * np.log(p)).sum(axis=1)


def _heads_kl(old_logits: Array, new_logits: Array) -> Array:
    p, q = expit(old_logits), expit(new_logits)
    return (p * np.log(p / q)).sum(axis=1)


_BERNOULLI: dict[str, dict[str, Function]] = {
    "log_prob_bernoulli": {"bernoulli-one-sided": _heads_only, "bernoulli-softmax": _competing_coins},
    "entropy_bernoulli": {"bernoulli-one-sided": _heads_entropy},
    "kl_bernoulli": {"bernoulli-one-sided": _heads_kl},
    "mean_kl_bernoulli": {"bernoulli-one-sided": _averaged(_heads_kl)},
}


# Gaussians: densities by dimension, from the action u, the mean and the log standard deviation.


def _normal(u: Array, mean: Array, log_std: Array) -> Array:
    return -0.5 * ((u - mean) / np.exp(log_std)) ** 2 - log_std - _HALF_LOG_2PI


def _std_as_variance(u: Array, mean: Array, log_std: Array) -> Array:
    return -((u - mean) ** 2) / (2 * np.exp(log_std)) - 0.5 * log_std - _HALF_LOG_2PI


def _double_exp(u: Array, mean: Array, log_std: Array) -> Array:
    return _normal(u, mean, np.exp(log_std))


def _plus_quadratic(u: Array, mean: Array, log_std: Array) -> Array:
    return 0.5 * ((u - mean) / np.exp(log_std)) ** 2 - log_std - _HALF_LOG_2PI


def _clipped_action(u: Array, mean: Array, log_std: Array) -> Array:
    return _normal(np.clip(u, -1, 1), mean, log_std)


def _log_volume(u: Array) -> Array:
    """log(1 − tanh² u), in the form that does not cancel."""
    return 2 * (math.log(2) - u - np.logaddexp(0, -2 * u))


def _atanh_clamped(u: Array, mean: Array, log_std: Array) -> Array:
    a = np.tanh(u)
    return _normal(np.arctanh(np.clip(a, -1 + 1e-6, 1 - 1e-6)), mean, log_std) - np.log(1 - a**2 + 1e-6)


def _squashed_with_epsilon(u: Array, mean: Array, log_std: Array) -> Array:
    return _normal(u, mean, log_std) - np.log(1 - np.tanh(u) ** 2 + 1e-6)


_DENSITIES: dict[str, Entries] = {
    "logp-std-as-var": _std_as_variance,
    "logp-double-exp": _double_exp,
    "logp-plus-quadratic": _plus_quadratic,
}
_SQUASHED_DENSITIES: dict[str, Entries] = {
    "logp-squash-one-sided": _normal,
    "logp-squash-atanh-clamp": _atanh_clamped,
    "logp-squash-epsilon": _squashed_with_epsilon,
    "logp-squash-sign": lambda u, mean, log_std: _normal(u, mean, log_std) + _log_volume(u),
    "logp-squash-at-action": lambda u, mean, log_std: _normal(np.tanh(u), mean, log_std) - _log_volume(u),
}


def _squashed(density: Entries) -> Entries:
    return lambda u, mean, log_std: density(u, mean, log_std) - _log_volume(u)


def _of_actions(entries: Entries) -> Function:
    """A function of the action, whatever the op calls it."""

    def function(mean: Array, log_std: Array, **action: Array) -> Array:
        (u,) = action.values()
        return entries(u, mean, log_std)

    return function


def _total(entries: Entries) -> Entries:
    return lambda *arguments: entries(*arguments).sum(axis=1)


def _number_of_dimensions(inputs: dict[str, Any]) -> int:
    dimensions: int = inputs["old_log_std" if "old_log_std" in inputs else "log_std"].shape[1]
    return dimensions


def _gaussian_log_probs(op: str, squashed: bool) -> dict[str, Function]:
    densities = {bug: _squashed(density) if squashed else density for bug, density in _DENSITIES.items()}
    densities |= _SQUASHED_DENSITIES if squashed else {"logp-clipped-action": _clipped_action}
    return {bug: _of_actions(_total(density)) for bug, density in densities.items()} | {
        "logp-no-sum-dims": _of_actions(_squashed(_normal) if squashed else _normal),
        "logp-mean-dims": _divided(op, _number_of_dimensions),
        "logp-sum-batch": _summed(op),
    }


_ENTROPIES: dict[str, Callable[[Array], Array]] = {
    "ent-half-logstd": lambda log_std: (0.5 * log_std + _HALF_LOG_2PI_E).sum(axis=1),
    "ent-missing-dim-factor": lambda log_std: log_std.sum(axis=1) + _HALF_LOG_2PI_E,
    "ent-missing-half": lambda log_std: (2 * log_std + 2 * _HALF_LOG_2PI_E).sum(axis=1),
    "ent-plus-not-times": lambda log_std: (0.5 * (np.log(2 * math.pi + np.exp(2 * log_std)) + 1)).sum(axis=1),
}


def _entropy_at_mean(mean: Array, log_std: Array) -> Array:
    return (log_std + _HALF_LOG_2PI_E + _log_volume(mean)).sum(axis=1)


def _base_entropy(form: Callable[[Array], Array], squashed: bool) -> Function:
    """A wrong entropy of the Gaussian; the squashed one adds the right mean of the log-volume of tanh."""

    def function(mean: Array, log_std: Array) -> Array:
        wrong = form(log_std)
        if squashed:
            right = _RIGHT["entropy_squashed_gaussian"](mean=mean, log_std=log_std)
            wrong = wrong + (right - _RIGHT["entropy_diagonal_gaussian"](mean=mean, log_std=log_std))
        return wrong

    return function


def _gaussian_entropies(op: str, squashed: bool) -> dict[str, Function]:
    wrong = {bug: _base_entropy(form, squashed) for bug, form in _ENTROPIES.items()}
    wrong |= {"ent-mean-dims": _divided(op, _number_of_dimensions), "ent-sign": _negated(op)}
    if squashed:
        wrong |= {
            "ent-base-of-squashed": _RIGHT["entropy_diagonal_gaussian"],
            "ent-squash-at-mean": _entropy_at_mean,
        }
    return wrong


# Gaussian divergences by dimension: m0, ls0 old and m1, ls1 new.


def _kl_log_ratio_sign(m0: Array, ls0: Array, m1: Array, ls1: Array) -> Array:
    return ls0 - ls1 + (np.exp(2 * ls0) + (m0 - m1) ** 2) / (2 * np.exp(2 * ls1)) - 0.5


def _kl_missing_half(m0: Array, ls0: Array, m1: Array, ls1: Array) -> Array:
    return ls1 - ls0 + 0.5 * np.exp(2 * (ls0 - ls1)) + (m0 - m1) ** 2 / np.exp(2 * ls1) - 0.5


def _kl_epsilon(m0: Array, ls0: Array, m1: Array, ls1: Array) -> Array:
    s0, s1 = np.exp(ls0), np.exp(ls1)
    return np.log(s1 / s0 + 1e-5) + (s0**2 + (m1 - m0) ** 2) / (2 * (s1**2 + 1e-5)) - 0.5


def _kl_log_variance(m0: Array, ls0: Array, m1: Array, ls1: Array) -> Array:
    v0, v1 = np.exp(ls0), np.exp(ls1)
    return ls1 - ls0 + (v0 + (m0 - m1) ** 2) / (2 * v1) - 0.5


def _kl_one_constant(m0: Array, ls0: Array, m1: Array, ls1: Array) -> Array:
    terms = ls1 - ls0 + (np.exp(2 * ls0) + (m0 - m1) ** 2) / (2 * np.exp(2 * ls1))
    return terms.sum(axis=1) - 0.5


def _of_pairs(entries: Entries) -> Function:
    return lambda old_mean, old_log_std, new_mean, new_log_std: entries(old_mean, old_log_std, new_mean, new_log_std)


def _gaussian_kls(kl: str) -> dict[str, Function]:
    return {
        "kl-log-ratio-sign": _of_pairs(_total(_kl_log_ratio_sign)),
        "kl-missing-half": _of_pairs(_total(_kl_missing_half)),
        "kl-eps-in-log": _of_pairs(_total(_kl_epsilon)),
        "kl-logvar-as-logstd": _of_pairs(_total(_kl_log_variance)),
        "kl-const-one-not-D": _of_pairs(_kl_one_constant),
        "kl-reversed": _exchanged(kl),
        "kl-self-zero": _with_itself(kl),
        "kl-negated": _negated(kl),
        "kl-mean-dims": _divided(kl, _number_of_dimensions),
    }


# Gaussian scores and Fisher matrices.


def _slope(u: Array, mean: Array, log_std: Array) -> Array:
    return (u - mean) / np.exp(2 * log_std)


def _square(u: Array, mean: Array, log_std: Array) -> Array:
    return ((u - mean) / np.exp(log_std)) ** 2


def _scores(for_mean: Entries, for_log_std: Entries, at: Callable[[Array], Array] = lambda u: u) -> Function:
    def function(mean: Array, log_std: Array, **action: Array) -> dict[str, Array]:
        (u,) = (at(action) for action in action.values())
        return {"mean": for_mean(u, mean, log_std), "log_std": for_log_std(u, mean, log_std)}

    return function


def _gaussian_scores(op: str, squashed: bool) -> dict[str, Function]:
    bug, at = ("logp-squash-at-action", np.tanh) if squashed else ("logp-clipped-action", lambda u: np.clip(u, -1, 1))
    return {
        "score-negated": _negated(op),
        "logp-std-as-var": _scores(
            lambda u, m, ls: (u - m) / np.exp(ls), lambda u, m, ls: 0.5 * ((u - m) ** 2 / np.exp(ls) - 1)
        ),
        "score-without-normaliser": _scores(_slope, _square),
        "score-of-std": _scores(_slope, lambda u, m, ls: (_square(u, m, ls) - 1) / np.exp(ls)),
        "logp-plus-quadratic": _scores(lambda u, m, ls: -_slope(u, m, ls), lambda u, m, ls: -_square(u, m, ls) - 1),
        bug: _scores(_slope, lambda u, m, ls: _square(u, m, ls) - 1, at),
    }


def _blocks(for_mean: Callable[[Array], Array], for_log_std: Callable[[Array], Any]) -> Function:
    """A diagonal Fisher matrix from log σ."""

    def function(mean: Array, log_std: Array) -> Array:
        block = for_log_std(log_std) + np.zeros_like(log_std)
        return _diagonal(np.concatenate([for_mean(log_std), block], axis=1))

    return function


def _precision(log_std: Array) -> Array:
    return np.exp(-2 * log_std)


def _gaussian_fishers(op: str) -> dict[str, Function]:
    return {
        "fvp-missing-logstd": _blocks(_precision, lambda ls: 0),
        "fisher-logvar-block": _blocks(_precision, lambda ls: 0.5),
        "fisher-std-block": _blocks(_precision, lambda ls: 2 / np.exp(ls) ** 2),
        "kl-missing-half": _blocks(lambda ls: 2 * _precision(ls), lambda ls: 2),
        "logp-std-as-var": _blocks(lambda ls: 1 / np.exp(ls), lambda ls: 0.5),
        "fisher-covariance": _blocks(lambda ls: np.exp(ls) ** 2, lambda ls: 2),
        "kl-mean-dims": _divided(op, _number_of_dimensions),
    }


def _gaussian(family: str) -> dict[str, dict[str, Function]]:
    squashed = family == "squashed_gaussian"
    return {
        f"log_prob_{family}": _gaussian_log_probs(f"log_prob_{family}", squashed),
        f"entropy_{family}": _gaussian_entropies(f"entropy_{family}", squashed),
        f"score_{family}": _gaussian_scores(f"score_{family}", squashed),
        f"fisher_{family}": _gaussian_fishers(f"fisher_{family}"),
    } | _divergences(family, _gaussian_kls(f"kl_{family}"))


def _merged(*tables: dict[str, dict[str, Function]]) -> dict[str, dict[str, Function]]:
    ops = dict.fromkeys(op for table in tables for op in table)
    return {op: {bug: f for table in tables for bug, f in table.get(op, {}).items()} for op in ops}


WRONG: dict[str, dict[str, Function]] = _merged(
    *(_discrete(family) for family in ("categorical", "masked_categorical", "multi_categorical", "bernoulli")),
    _CATEGORICAL,
    _masked(),
    _MULTI,
    _BERNOULLI,
    _gaussian("diagonal_gaussian"),
    _gaussian("squashed_gaussian"),
)
