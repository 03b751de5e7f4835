"""The distributions as practitioners write them in NumPy, by a paper's formulas and through logsumexp or expm1."""

from collections.abc import Callable
from typing import Any

import numpy as np

Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]
Textbook = Callable[[Inputs, Conventions], Outputs]
Array = Any


def _softmax(z: Array) -> Array:
    e = np.exp(z - np.max(z, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _log_softmax(z: Array) -> Array:
    shifted = z - np.max(z, axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _normalised(z: Array) -> Array:
    """Logits minus their logsumexp, as libraries keep them: a constant in the logits leaves its rounding behind."""
    largest = np.max(z, axis=-1, keepdims=True)
    return z - (largest + np.log(np.exp(z - largest).sum(axis=-1, keepdims=True)))


def _take(table: Array, actions: Array) -> Array:
    return np.take_along_axis(table, actions[:, None], axis=-1)[:, 0]


def _excess(x: Array) -> Array:
    """exp(x) − 1 − x with its digits: the series where it would cancel."""
    series = np.zeros_like(x)
    small = np.where(np.abs(x) < 0.5, x, 0.0)
    term = small * small / 2
    for n in range(3, 22):
        series = series + term
        term = term * small / n
    return np.where(np.abs(x) < 0.5, series, np.expm1(np.where(np.abs(x) < 0.5, 1.0, x)) - x)


def _kl_of_logits(change: Array, p: Array) -> Array:
    """log1p(Σ p (e^c − 1 − c)), c the change of the logits with its mean removed"""
    c = change - (p * change).sum(axis=-1, keepdims=True)
    c = c - (p * c).sum(axis=-1, keepdims=True)
    return np.log1p((p * _excess(c)).sum(axis=-1))


# ── Categorical, with or without a mask ─────────────────────────────────────────────────────────────────────────────


def _masked(inputs: Inputs, name: str) -> Array:
    return np.where(inputs["mask"], inputs[name], -np.inf) if "mask" in inputs else inputs[name]


def categorical_log_prob(inputs: Inputs, conventions: Conventions) -> Outputs:
    """np.log of the softmax probability"""
    return {"log_prob": np.log(_take(_softmax(_masked(inputs, "logits")), inputs["actions"]))}


def categorical_log_prob_by_lse(inputs: Inputs, conventions: Conventions) -> Outputs:
    """logits minus logsumexp"""
    return {"log_prob": _take(_log_softmax(_masked(inputs, "logits")), inputs["actions"])}


def _sum_where(p: Array, terms: Array) -> Array:
    return np.where(p > 0, p * np.where(p > 0, terms, 0.0), 0.0).sum(axis=-1)


def categorical_entropy(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−Σ p log p, both from softmax"""
    p = _softmax(_masked(inputs, "logits"))
    return {"entropy": -_sum_where(p, np.log(p))}


def categorical_entropy_by_lse(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−Σ p log p with log p = logits − logsumexp"""
    z = _masked(inputs, "logits")
    return {"entropy": -_sum_where(_softmax(z), _log_softmax(z))}


def categorical_kl(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ p (log p − log q) by log-softmax"""
    old, new = _masked(inputs, "old_logits"), _masked(inputs, "new_logits")
    p = _softmax(old)
    return {"kl": _sum_where(p, _log_softmax(old) - _log_softmax(new))}


def categorical_kl_stable(inputs: Inputs, conventions: Conventions) -> Outputs:
    """log1p(Σ p (eᶜ − 1 − c)), c the centred change of the logits"""
    p = _softmax(_masked(inputs, "old_logits"))
    return {"kl": _kl_of_logits(inputs["new_logits"] - inputs["old_logits"], p)}


def categorical_score(inputs: Inputs, conventions: Conventions) -> Outputs:
    """one-hot minus softmax"""
    p = _softmax(_masked(inputs, "logits"))
    return {"logits": np.eye(p.shape[1])[inputs["actions"]] - p}


def categorical_fisher(inputs: Inputs, conventions: Conventions) -> Outputs:
    """diag(p) − p pᵀ"""
    p = _softmax(_masked(inputs, "logits"))
    return {"fisher": p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :]}


def categorical_fisher_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ p s sᵀ over the actions"""
    p = _softmax(_masked(inputs, "logits"))
    scores = np.eye(p.shape[1])[None] - p[:, None, :]  # (B, action, A)
    return {"fisher": np.einsum("ba,bai,baj->bij", p, scores, scores)}


def categorical_log_prob_normalised(inputs: Inputs, conventions: Conventions) -> Outputs:
    """an entry of the normalised logits"""
    return {"log_prob": _take(_normalised(_masked(inputs, "logits")), inputs["actions"])}


def categorical_entropy_normalised(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−Σ p log p with log p the normalised logits and p their softmax"""
    log_p = _normalised(_masked(inputs, "logits"))
    return {"entropy": -_sum_where(_softmax(log_p), log_p)}


def categorical_entropy_by_exponential(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−Σ p log p with log p the normalised logits and p their exponential"""
    log_p = _normalised(_masked(inputs, "logits"))
    return {"entropy": -_sum_where(np.exp(log_p), log_p)}


def categorical_score_normalised(inputs: Inputs, conventions: Conventions) -> Outputs:
    """one-hot minus exp(normalised logits)"""
    p = np.exp(_normalised(_masked(inputs, "logits")))
    return {"logits": np.eye(p.shape[1])[inputs["actions"]] - p}


def categorical_fisher_normalised(inputs: Inputs, conventions: Conventions) -> Outputs:
    """diag(p) − p pᵀ with p = exp(normalised logits)"""
    p = np.exp(_normalised(_masked(inputs, "logits")))
    return {"fisher": p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :]}


def _normalised_first(one: Textbook) -> Textbook:
    """The same with logits that were normalised beforehand, before a mask if there is one."""

    def textbook(inputs: Inputs, conventions: Conventions) -> Outputs:
        logits = {name: _normalised(value) for name, value in inputs.items() if name.endswith("logits")}
        return one(inputs | logits, conventions)

    textbook.__doc__ = f"{one.__doc__}, of logits normalised beforehand"
    return textbook


# ── Multi-categorical: one categorical per factor ───────────────────────────────────────────────────────────────────


def _split(inputs: Inputs) -> list[tuple[Inputs, slice]]:
    stops = np.cumsum(inputs["action_sizes"])
    parts = []
    for number, (stop, size) in enumerate(zip(stops, inputs["action_sizes"], strict=True)):
        place = slice(int(stop - size), int(stop))
        part = {name: inputs[name][:, place] for name in ("logits", "old_logits", "new_logits") if name in inputs}
        if "actions" in inputs:
            part["actions"] = inputs["actions"][:, number]
        parts.append((part, place))
    return parts


def _summed(name: str, one: Textbook) -> Textbook:
    def textbook(inputs: Inputs, conventions: Conventions) -> Outputs:
        return {name: sum(one(part, conventions)[name] for part, _ in _split(inputs))}

    textbook.__doc__ = f"sum over the factors of {one.__doc__}"
    return textbook


def _side_by_side(one: Textbook) -> Textbook:
    def textbook(inputs: Inputs, conventions: Conventions) -> Outputs:
        return {"logits": np.concatenate([one(part, conventions)["logits"] for part, _ in _split(inputs)], axis=1)}

    textbook.__doc__ = f"{one.__doc__}, factor by factor"
    return textbook


def _blocks(one: Textbook) -> Textbook:
    def textbook(inputs: Inputs, conventions: Conventions) -> Outputs:
        rows, size = inputs["logits"].shape
        matrix = np.zeros((rows, size, size))
        for part, place in _split(inputs):
            matrix[:, place, place] = one(part, conventions)["fisher"]
        return {"fisher": matrix}

    textbook.__doc__ = f"one block per factor: {one.__doc__}"
    return textbook


# ── Bernoulli ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def _sigmoid_by_tanh(z: Array) -> Array:
    """As compilers of array programs lower it: the digits of a small probability are those of 1."""
    return 0.5 + 0.5 * np.tanh(0.5 * z)


def bernoulli_log_prob(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ a log p + (1 − a) log(1 − p)"""
    p, a = _sigmoid(inputs["logits"]), inputs["actions"]
    return {"log_prob": (a * np.log(p) + (1 - a) * np.log(1 - p)).sum(axis=-1)}


def bernoulli_log_prob_by_softplus(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−Σ softplus of the logit, its sign flipped where the action is 1"""
    z = inputs["logits"]
    signed = np.where(inputs["actions"] == 1, -z, z)
    return {"log_prob": -np.logaddexp(0.0, signed).sum(axis=-1)}


def bernoulli_entropy(inputs: Inputs, conventions: Conventions) -> Outputs:
    """−Σ p log p + (1 − p) log(1 − p)"""
    p = _sigmoid(inputs["logits"])
    return {"entropy": -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=-1)}


def bernoulli_entropy_by_softplus(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ softplus(z) − z σ(z)"""
    z = inputs["logits"]
    return {"entropy": (np.logaddexp(0.0, z) - z * _sigmoid(z)).sum(axis=-1)}


def bernoulli_kl(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ p log(p/q) + (1 − p) log((1 − p)/(1 − q))"""
    p, q = _sigmoid(inputs["old_logits"]), _sigmoid(inputs["new_logits"])
    return {"kl": (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=-1)}


def bernoulli_kl_stable(inputs: Inputs, conventions: Conventions) -> Outputs:
    """log1p(Σ p (eᶜ − 1 − c)) of the two logits (0, z) of each coin"""
    zero = np.zeros_like(inputs["old_logits"])
    old = np.stack([zero, inputs["old_logits"]], axis=-1)
    change = np.stack([zero, inputs["new_logits"] - inputs["old_logits"]], axis=-1)
    return {"kl": _kl_of_logits(change, _softmax(old)).sum(axis=-1)}


def bernoulli_score(inputs: Inputs, conventions: Conventions) -> Outputs:
    """a − σ(z)"""
    return {"logits": inputs["actions"] - _sigmoid(inputs["logits"])}


def bernoulli_score_by_softplus(inputs: Inputs, conventions: Conventions) -> Outputs:
    """a − exp(−softplus(−z))"""
    return {"logits": inputs["actions"] - np.exp(-np.logaddexp(0.0, -inputs["logits"]))}


def bernoulli_score_by_tanh(inputs: Inputs, conventions: Conventions) -> Outputs:
    """a − ½ − ½ tanh(z/2)"""
    return {"logits": inputs["actions"] - _sigmoid_by_tanh(inputs["logits"])}


def bernoulli_fisher(inputs: Inputs, conventions: Conventions) -> Outputs:
    """diag(p (1 − p))"""
    p = _sigmoid(inputs["logits"])
    return {"fisher": (p * (1 - p))[:, :, None] * np.eye(p.shape[1])}


def bernoulli_fisher_by_tanh(inputs: Inputs, conventions: Conventions) -> Outputs:
    """diag(p (1 − p)), p = ½ + ½ tanh(z/2)"""
    p = _sigmoid_by_tanh(inputs["logits"])
    return {"fisher": (p * (1 - p))[:, :, None] * np.eye(p.shape[1])}


def bernoulli_fisher_by_softplus(inputs: Inputs, conventions: Conventions) -> Outputs:
    """diag(exp(−softplus(−z) − softplus(z)))"""
    z = inputs["logits"]
    variance = np.exp(-np.logaddexp(0.0, -z) - np.logaddexp(0.0, z))
    return {"fisher": variance[:, :, None] * np.eye(z.shape[1])}


# ── Gaussian, with or without tanh ──────────────────────────────────────────────────────────────────────────────────


def _normal(u: Array, mean: Array, log_std: Array) -> Array:
    return -0.5 * ((u - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)


def gaussian_log_prob(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ −½((a − μ)/σ)² − log σ − ½ log 2π"""
    return {"log_prob": _normal(inputs["actions"], inputs["mean"], inputs["log_std"]).sum(axis=-1)}


def gaussian_log_prob_by_variance(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ −(a − μ)²/(2σ²) − ½ log(2πσ²)"""
    variance = np.exp(2 * inputs["log_std"])
    terms = -((inputs["actions"] - inputs["mean"]) ** 2) / (2 * variance) - 0.5 * np.log(2 * np.pi * variance)
    return {"log_prob": terms.sum(axis=-1)}


def gaussian_entropy(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ log σ + ½ log 2πe"""
    return {"entropy": (inputs["log_std"] + 0.5 * np.log(2 * np.pi * np.e)).sum(axis=-1)}


def gaussian_entropy_by_variance(inputs: Inputs, conventions: Conventions) -> Outputs:
    """½ Σ log(2πe σ²)"""
    return {"entropy": 0.5 * np.log(2 * np.pi * np.e * np.exp(inputs["log_std"]) ** 2).sum(axis=-1)}


def gaussian_kl(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ log(σ₁/σ₀) + (σ₀² + (μ₀ − μ₁)²)/(2σ₁²) − ½"""
    old, new = np.exp(inputs["old_log_std"]), np.exp(inputs["new_log_std"])
    shift = inputs["old_mean"] - inputs["new_mean"]
    terms = inputs["new_log_std"] - inputs["old_log_std"] + (old**2 + shift**2) / (2 * new**2) - 0.5
    return {"kl": terms.sum(axis=-1)}


def gaussian_kl_stable(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ ½(eˣ − 1 − x) + ½((μ₀ − μ₁)/σ₁)², x = −2 Δlog σ"""
    change = inputs["new_log_std"] - inputs["old_log_std"]
    shift = (inputs["new_mean"] - inputs["old_mean"]) * np.exp(-inputs["new_log_std"])
    return {"kl": (0.5 * _excess(-2 * change) + 0.5 * shift**2).sum(axis=-1)}


def _gaussian_score(u: Array, mean: Array, log_std: Array) -> Outputs:
    std = np.exp(log_std)
    return {"mean": (u - mean) / std**2, "log_std": ((u - mean) / std) ** 2 - 1}


def gaussian_score(inputs: Inputs, conventions: Conventions) -> Outputs:
    """(a − μ)/σ² and ((a − μ)/σ)² − 1"""
    return _gaussian_score(inputs["actions"], inputs["mean"], inputs["log_std"])


def gaussian_fisher(inputs: Inputs, conventions: Conventions) -> Outputs:
    """diag(1/σ², 2)"""
    precision = 1 / np.exp(inputs["log_std"]) ** 2
    diagonal = np.concatenate([precision, 2.0 * np.ones(precision.shape)], axis=1)
    return {"fisher": diagonal[:, :, None] * np.eye(diagonal.shape[1])}


def squashed_log_prob(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Gaussian log-density minus Σ 2(log 2 − u − softplus(−2u))"""
    u = inputs["pre_tanh_actions"]
    correction = 2 * (np.log(2.0) - u - np.logaddexp(0.0, -2 * u))
    return {"log_prob": (_normal(u, inputs["mean"], inputs["log_std"]) - correction).sum(axis=-1)}


def squashed_log_prob_by_cosh(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Gaussian log-density plus Σ 2 log cosh u"""
    u = inputs["pre_tanh_actions"]
    return {"log_prob": (_normal(u, inputs["mean"], inputs["log_std"]) + 2 * np.log(np.cosh(u))).sum(axis=-1)}


def squashed_entropy(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Gaussian entropy plus E log(1 − tanh² u) by the trapezoidal rule on 217 nodes"""
    t = np.arange(-108, 109) / 12
    weights = np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi) / 12
    u = inputs["mean"][..., None] + np.exp(inputs["log_std"])[..., None] * t
    correction = 2 * (np.log(2.0) - u - np.logaddexp(0.0, -2 * u))
    base = inputs["log_std"] + 0.5 * np.log(2 * np.pi * np.e)
    return {"entropy": (base + (weights * correction).sum(axis=-1)).sum(axis=-1)}


def squashed_score(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the Gaussian score at the pre-tanh action"""
    return _gaussian_score(inputs["pre_tanh_actions"], inputs["mean"], inputs["log_std"])


# ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _six(
    family: str,
    log_prob: tuple[Textbook, ...],
    entropy: tuple[Textbook, ...],
    kl: tuple[Textbook, ...],
    score: tuple[Textbook, ...],
    fisher: tuple[Textbook, ...],
) -> dict[str, tuple[Textbook, ...]]:
    return {
        f"log_prob_{family}": log_prob,
        f"entropy_{family}": entropy,
        f"kl_{family}": kl,
        f"mean_kl_{family}": tuple(_averaged(one) for one in kl),
        f"score_{family}": score,
        f"fisher_{family}": fisher,
    }


def _averaged(one: Textbook) -> Textbook:
    def textbook(inputs: Inputs, conventions: Conventions) -> Outputs:
        return {"mean_kl": np.mean(one(inputs, conventions)["kl"])}

    textbook.__doc__ = f"mean over the rows of {one.__doc__}"
    return textbook


_CATEGORICAL: tuple[tuple[Textbook, ...], ...] = (
    (
        categorical_log_prob,
        categorical_log_prob_by_lse,
        _normalised_first(categorical_log_prob_normalised),
        categorical_log_prob_normalised,
    ),
    (
        categorical_entropy,
        categorical_entropy_by_lse,
        _normalised_first(categorical_entropy_normalised),
        categorical_entropy_by_exponential,
    ),
    (categorical_kl, categorical_kl_stable, _normalised_first(categorical_kl)),
    (categorical_score, _normalised_first(categorical_score_normalised), categorical_score_normalised),
    (
        categorical_fisher,
        categorical_fisher_by_scores,
        _normalised_first(categorical_fisher_normalised),
        categorical_fisher_normalised,
    ),
)
_GAUSSIAN_KL: tuple[Textbook, ...] = (gaussian_kl, gaussian_kl_stable)

TEXTBOOK: dict[str, tuple[Textbook, ...]] = {
    **_six("categorical", *_CATEGORICAL),
    **_six("masked_categorical", *_CATEGORICAL),
    **_six(
        "multi_categorical",
        tuple(_summed("log_prob", one) for one in _CATEGORICAL[0]),
        tuple(_summed("entropy", one) for one in _CATEGORICAL[1]),
        tuple(_summed("kl", one) for one in _CATEGORICAL[2]),
        tuple(_side_by_side(one) for one in _CATEGORICAL[3]),
        tuple(_blocks(one) for one in _CATEGORICAL[4]),
    ),
    **_six(
        "bernoulli",
        (bernoulli_log_prob, bernoulli_log_prob_by_softplus),
        (bernoulli_entropy, bernoulli_entropy_by_softplus),
        (bernoulli_kl, bernoulli_kl_stable),
        (bernoulli_score, bernoulli_score_by_softplus, bernoulli_score_by_tanh),
        (bernoulli_fisher, bernoulli_fisher_by_softplus, bernoulli_fisher_by_tanh),
    ),
    **_six(
        "diagonal_gaussian",
        (gaussian_log_prob, gaussian_log_prob_by_variance),
        (gaussian_entropy, gaussian_entropy_by_variance),
        _GAUSSIAN_KL,
        (gaussian_score,),
        (gaussian_fisher,),
    ),
    **_six(
        "squashed_gaussian",
        (squashed_log_prob, squashed_log_prob_by_cosh),
        (squashed_entropy,),
        _GAUSSIAN_KL,
        (squashed_score,),
        (gaussian_fisher,),
    ),
}
