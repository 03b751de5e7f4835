"""How far ordinary code may be from the answer of an op: its textbook formula in running error analysis.

Nothing here is an expected value.  Of every op only the *error* is used: it is what turns the answers of an
implementation into numbers with a derived margin.  The formulas are the least careful ones that are in use, such as
log p of a softmax or log(1 − p) of a sigmoid, so that no honest implementation has a larger error.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refpg.conformance.laws import tables
from refpg.conformance.laws.rounding import (
    LIBRARY,
    Rounded,
    choose,
    exp,
    join,
    log,
    maximum,
    minimum,
    rounded,
    solve,
    sqrt,
    square,
    stack,
    tanh,
    total,
    where,
)

Conventions = Mapping[str, str]
Formula = Callable[..., Any]

_LOG_2_PI = math.log(2 * math.pi)
_QUADRATURE = 32.0  # roundings of weights, nodes and a pairwise sum of a few hundred terms
_USED, _UNUSED = 1e-6, 1e-11  # eigenvalues of F beside the largest: between the two the rank is undecided


# Categorical families: φ are logits, the probabilities a softmax, with forbidden actions left out.


def _softmax(z: Any, mask: Any = True) -> Rounded:
    z = rounded(z)
    e = where(mask, exp(z - z.value.max(axis=-1, keepdims=True)), 0.0)
    return e / e.sum(axis=-1)[..., None]


def _log_softmax(z: Any, mask: Any = True) -> Rounded:
    """log p from p, or z − logsumexp z, whichever rounds more."""
    z = rounded(z)
    p = _softmax(z, mask)
    by_log = log(where(mask, p, 1.0))
    largest = np.abs(z.value).max(axis=-1, keepdims=True)
    return where(mask, Rounded(by_log.value, by_log.error + 4 * largest), 0.0)


def _categorical_log_prob(logits: Any, actions: Any, mask: Any = True) -> Rounded:
    return _log_softmax(logits, mask)[np.arange(len(actions)), np.asarray(actions)]


def _categorical_entropy(logits: Any, mask: Any = True) -> Rounded:
    return -(_softmax(logits, mask) * _log_softmax(logits, mask)).sum(axis=-1)


def _categorical_kl(old: Any, new: Any, mask: Any = True) -> Rounded:
    """Σ p log p − Σ p log q: the terms of the entropy and of the cross entropy, added separately."""
    p = _softmax(old, mask)
    return (p * _log_softmax(old, mask)).sum(axis=-1) - (p * _log_softmax(new, mask)).sum(axis=-1)


def _categorical_score(logits: Any, actions: Any, mask: Any = True) -> Rounded:
    return _one_hot(actions, rounded(logits).shape[1]) - _softmax(logits, mask)


def _one_hot(actions: Any, size: int) -> Any:
    return np.eye(size)[np.asarray(actions)]


def _categorical_fisher(logits: Any, mask: Any = True) -> Rounded:
    p = _softmax(logits, mask)
    return p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :]


def _factors(sizes: Any) -> list[slice]:
    ends = np.cumsum(sizes)
    return [slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)]


def _multi_fisher(logits: Any, action_sizes: Any) -> Rounded:
    logits = rounded(logits)
    rows, size = logits.shape
    value, error = np.zeros((rows, size, size)), np.zeros((rows, size, size))
    for place in _factors(action_sizes):
        block = _categorical_fisher(logits[:, place])
        value[:, place, place], error[:, place, place] = block.value, block.error
    return Rounded(value, error)


_MULTI: dict[str, Formula] = {
    "log_prob": lambda logits, action_sizes, actions: total(
        [
            _categorical_log_prob(rounded(logits)[:, place], np.asarray(actions)[:, i])
            for i, place in enumerate(_factors(action_sizes))
        ]
    ),
    "entropy": lambda logits, action_sizes: total(
        [_categorical_entropy(rounded(logits)[:, place]) for place in _factors(action_sizes)]
    ),
    "kl": lambda old_logits, new_logits, action_sizes: total(
        [
            _categorical_kl(rounded(old_logits)[:, place], rounded(new_logits)[:, place])
            for place in _factors(action_sizes)
        ]
    ),
    "score": lambda logits, action_sizes, actions: join(
        [
            _categorical_score(rounded(logits)[:, place], np.asarray(actions)[:, i])
            for i, place in enumerate(_factors(action_sizes))
        ],
        axis=1,
    ),
    "fisher": _multi_fisher,
}


def _coin(logits: Any) -> tuple[Rounded, Rounded]:
    """p and 1 − p, the latter by subtraction."""
    p = 1 / (1 + exp(-rounded(logits)))
    return p, 1 - p


def _log_coin(logits: Any) -> tuple[Rounded, Rounded]:
    """log p and log(1 − p), with room for the softplus of a large logit."""
    size = 2 * np.abs(rounded(logits).value)
    p, q = (log(part) for part in _coin(logits))
    return Rounded(p.value, p.error + size), Rounded(q.value, q.error + size)


def _bernoulli_kl(old_logits: Any, new_logits: Any) -> Rounded:
    p, q = _coin(old_logits)
    (log_p, log_q), (new_p, new_q) = _log_coin(old_logits), _log_coin(new_logits)
    return (p * (log_p - new_p) + q * (log_q - new_q)).sum(axis=-1)


def _bernoulli_log_prob(logits: Any, actions: Any) -> Rounded:
    log_p, log_q = _log_coin(logits)
    return where(np.asarray(actions) == 1, log_p, log_q).sum(axis=-1)


def _bernoulli_entropy(logits: Any) -> Rounded:
    (p, q), (log_p, log_q) = _coin(logits), _log_coin(logits)
    return -(p * log_p + q * log_q).sum(axis=-1)


def _bernoulli_fisher(logits: Any) -> Rounded:
    p, q = _coin(logits)
    return (p * q)[:, :, None] * np.eye(p.shape[1])


_BERNOULLI: dict[str, Formula] = {
    "log_prob": _bernoulli_log_prob,
    "entropy": _bernoulli_entropy,
    "kl": _bernoulli_kl,
    "score": lambda logits, actions: np.asarray(actions) - _coin(logits)[0],
    "fisher": _bernoulli_fisher,
}


# Gaussian families: φ is (mean, log_std).


def _standard(actions: Any, mean: Any, log_std: Any) -> Rounded:
    return (rounded(actions) - mean) / exp(log_std)


def _gaussian_log_prob(mean: Any, log_std: Any, actions: Any) -> Rounded:
    """With ½ log 2πσ² as one logarithm."""
    z = _standard(actions, mean, log_std)
    return (-0.5 * square(z) - 0.5 * log(2 * math.pi * exp(2 * rounded(log_std)))).sum(axis=-1)


def _gaussian_entropy(mean: Any, log_std: Any) -> Rounded:
    return (0.5 * (_LOG_2_PI + 1) + rounded(log_std)).sum(axis=-1)


def _gaussian_kl(old_mean: Any, old_log_std: Any, new_mean: Any, new_log_std: Any) -> Rounded:
    difference = rounded(old_mean) - new_mean
    old_variance, new_variance = (exp(2 * rounded(log_std)) for log_std in (old_log_std, new_log_std))
    spread = (old_variance + square(difference)) / (2 * new_variance)
    return (log(exp(new_log_std) / exp(old_log_std)) + spread - 0.5).sum(axis=-1)


def _gaussian_score(mean: Any, log_std: Any, actions: Any) -> dict[str, Rounded]:
    z = _standard(actions, mean, log_std)
    return {"mean": z / exp(log_std), "log_std": square(z) - 1}


def _gaussian_fisher(mean: Any, log_std: Any) -> Rounded:
    log_std = rounded(log_std)
    diagonal = join([exp(-2 * log_std), rounded(np.full(log_std.shape, 2.0))], axis=1)
    return diagonal[:, :, None] * np.eye(diagonal.shape[1])


_GAUSSIAN: dict[str, Formula] = {
    "log_prob": _gaussian_log_prob,
    "entropy": _gaussian_entropy,
    "kl": _gaussian_kl,
    "score": _gaussian_score,
    "fisher": _gaussian_fisher,
}


def _squashed_log_prob(mean: Any, log_std: Any, pre_tanh_actions: Any) -> Rounded:
    """With log(1 − tanh² u) as it stands, whose subtraction cancels for a large u."""
    volume = log(1 - square(tanh(pre_tanh_actions)))
    return _gaussian_log_prob(mean, log_std, pre_tanh_actions) - volume.sum(axis=-1)


def _squashed_entropy(mean: Any, log_std: Any) -> Rounded:
    """H(N) − 2 E log cosh u: log cosh u ≤ |u|, averaged with positive weights of sum 1 by quadrature."""
    mean, sigma = rounded(mean), exp(log_std)
    far = np.abs(mean.value) + 6 * sigma.value
    volume = Rounded(far, mean.error + 6 * sigma.error + _QUADRATURE * far)
    return _gaussian_entropy(mean, log_std) - 2 * volume.sum(axis=-1)


_SQUASHED: dict[str, Formula] = {
    "log_prob": _squashed_log_prob,
    "entropy": _squashed_entropy,
    "kl": _gaussian_kl,
    "score": lambda mean, log_std, pre_tanh_actions: _gaussian_score(mean, log_std, pre_tanh_actions),
    "fisher": _gaussian_fisher,
}

_CATEGORICAL: dict[str, Formula] = {
    "log_prob": _categorical_log_prob,
    "entropy": _categorical_entropy,
    "kl": lambda old_logits, new_logits, mask=True: _categorical_kl(old_logits, new_logits, mask),
    "score": _categorical_score,
    "fisher": _categorical_fisher,
}

_FAMILIES = {
    "categorical": _CATEGORICAL,
    "masked_categorical": _CATEGORICAL,
    "multi_categorical": _MULTI,
    "bernoulli": _BERNOULLI,
    "diagonal_gaussian": _GAUSSIAN,
    "squashed_gaussian": _SQUASHED,
}


def _mean_of(formula: Formula) -> Formula:
    return lambda **inputs: formula(**inputs).mean()


_DISTRIBUTIONS: dict[str, Formula] = {
    f"{quantity}_{family}": formula
    for family, formulas in _FAMILIES.items()
    for quantity, formula in (formulas | {"mean_kl": _mean_of(formulas["kl"])}).items()
}


# Estimators.


def _kl_estimators(old_log_prob: Any, new_log_prob: Any) -> dict[str, Rounded]:
    d = rounded(new_log_prob) - old_log_prob
    return {"k1": -d, "k2": 0.5 * square(d), "k3": (exp(d) - 1) - d}


def _backwards(steps: Rounded, decay: Rounded, last: Rounded) -> Rounded:
    """x_t = steps_t + decay_t x_{t+1}, from the last row on."""
    rows = [last]
    for t in reversed(range(len(steps))):
        rows.append(steps[t] + decay[t] * rows[-1])
    return stack(rows[:0:-1])


def _alive(flags: Any) -> Any:
    return 1.0 - np.asarray(flags, dtype=float)


def _discounted_returns(rewards: Any, next_values: Any, terminated: Any, truncated: Any, gamma: Any) -> Rounded:
    T = len(rounded(rewards))
    open_end = _alive(terminated) * np.maximum(np.asarray(truncated), np.arange(T)[:, None] == T - 1)
    going_on = _alive(np.asarray(terminated) | np.asarray(truncated)) * (np.arange(T)[:, None] < T - 1)
    steps = rounded(rewards) + gamma * rounded(next_values) * open_end
    return _backwards(steps, rounded(going_on * gamma), rounded(np.zeros(steps.shape[1])))


def _td_errors(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: Any) -> Rounded:
    return rounded(rewards) + gamma * rounded(next_values) * _alive(terminated) - values


def _gae(
    conventions: Conventions,
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    gamma: Any,
    gae_lambda: Any,
) -> dict[str, Rounded]:
    delta = _td_errors(rewards, values, next_values, terminated, gamma)
    going_on = _alive(np.asarray(terminated) | np.asarray(truncated))
    advantages = _backwards(delta, rounded(gamma) * gae_lambda * going_on, rounded(np.zeros(delta.shape[1])))
    if conventions["gae.value_target"] == "reward_to_go":
        returns = _discounted_returns(rewards, next_values, terminated, truncated, gamma)
        return {"advantages": advantages, "value_targets": returns}
    return {"advantages": advantages, "value_targets": advantages + values}


def _gae_rollout(
    conventions: Conventions, rewards: Any, values: Any, dones: Any, last_values: Any, gamma: Any, gae_lambda: Any
) -> dict[str, Rounded]:
    next_values = join([rounded(values)[1:], rounded(last_values)[None]])
    return _gae(conventions, rewards, values, next_values, dones, np.zeros_like(dones), gamma, gae_lambda)


def _variance(x: Rounded, ddof: int = 0) -> Rounded:
    """E x² − (E x)², whose terms are the larger ones."""
    size = len(x)
    centred = x - x.mean()
    value = square(centred).sum() / (size - ddof)
    return Rounded(value.value, value.error + (size + 4) * (x.value**2).mean() * size / (size - ddof))


def _normalize_advantages(conventions: Conventions, advantages: Any) -> Rounded:
    A = rounded(advantages)
    return (A - A.mean()) / _deviation(conventions, A)


def _deviation(conventions: Conventions, A: Rounded) -> Rounded:
    return divisor(sqrt(_variance(A, int(conventions["advantage.ddof"]))), conventions)


def divisor(deviation: Rounded, conventions: Conventions) -> Rounded:
    """What advantages are divided by: their standard deviation, kept away from 0 as declared."""
    number, _, form = conventions["advantage.epsilon"].partition("_")
    if form == "in_root":
        return sqrt(square(deviation) + float(number))
    return maximum(deviation, float(number)) if form == "at_least" else deviation + float(number)


def _explained_variance(values: Any, targets: Any) -> Rounded:
    return 1 - _variance(rounded(targets) - values) / _variance(rounded(targets))


# Proximal policy optimisation.


def _ratio(old_log_prob: Any, new_log_prob: Any) -> Rounded:
    return exp(rounded(new_log_prob) - old_log_prob)


def _clip(x: Rounded, clip: Any, clip_high: Any = None) -> Rounded:
    return minimum(maximum(x, 1 - rounded(clip)), 1 + rounded(clip if clip_high is None else clip_high))


def _clipped_objective(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Rounded:
    r = _ratio(old_log_prob, new_log_prob)
    return minimum(r * advantages, _clip(r, clip) * advantages).mean()


def _active(r: Rounded, advantages: Any, clip: Any, clip_high: Any = None) -> tuple[Rounded, Rounded]:
    """The edge of the window on the improving side, and the ratio, turned so that the window is left upwards."""
    A = np.asarray(rounded(advantages).value)
    edge = where(A < 0, -(1 - rounded(clip)), 1 + rounded(clip if clip_high is None else clip_high))
    return where(A < 0, -r, r), edge


def _clipped_slopes(r: Rounded, advantages: Any, clip: Any, clip_high: Any = None) -> Rounded:
    rA = r * advantages
    turned, edge = _active(r, advantages, clip, clip_high)
    at_zero = rounded(advantages).value == 0  # whichever branch: the gradient is zero
    return where(at_zero, 0.0, choose(turned, edge, rA, 0 * rA))


def _clipped_objective_gradient(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Rounded:
    r = _ratio(old_log_prob, new_log_prob)
    return _clipped_slopes(r, advantages, clip) / len(r)


def _clip_fraction(
    conventions: Conventions, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any
) -> Rounded:
    r = _ratio(old_log_prob, new_log_prob)
    A = np.asarray(rounded(advantages).value)
    if conventions["clip_fraction.rule"] == "active":
        turned, edge = _active(r, advantages, clip)
        return (choose(turned, edge, 0.0, 1.0) * (A != 0)).mean()
    return choose(abs(r - 1), clip, 0.0, 1.0).mean()


def _approximate_kl(conventions: Conventions, old_log_prob: Any, new_log_prob: Any) -> Rounded:
    return _kl_estimators(old_log_prob, new_log_prob)[conventions["approximate_kl.estimator"]].mean()


def _kl_penalized_objective(old_log_prob: Any, new_log_prob: Any, advantages: Any, kl: Any, kl_penalty: Any) -> Rounded:
    return (_ratio(old_log_prob, new_log_prob) * advantages - rounded(kl) * kl_penalty).mean()


def _kl_penalty_update(conventions: Conventions, kl_penalty: Any, kl: Any, target: Any) -> Rounded:
    schedule = conventions["kl_penalty.schedule"]
    beta, kl, target = rounded(kl_penalty), rounded(kl), rounded(target)
    low, high = {"paper": (1 / 1.5, 1.5), "tf_agents": (0.7, 1.3)}.get(schedule, (0.5, 2.0))
    raised = (2.0 if schedule == "paper" else 1.5) * beta
    lowered = beta / (1.5 if schedule in ("tf_agents", "pat_coady") else 2.0)
    if schedule == "pat_coady":
        raised, lowered = minimum(raised, 35.0), maximum(lowered, 1 / 35)
    if schedule == "tf_agents":
        lowered = maximum(lowered, 1e-15)
    return choose(kl, low * target, lowered, choose(kl, high * target, beta, raised))


def _factor(conventions: Conventions) -> float:
    return {"1": 1.0, "1/2": 0.5}[conventions["value_loss.factor"]]


def _error(e: Rounded, conventions: Conventions) -> Rounded:
    if conventions["value_loss.error"] == "squared":
        return square(e)
    slope = minimum(maximum(e, -1.0), 1.0)
    return slope * (e - slope / 2)


def _value_loss(conventions: Conventions, values: Any, targets: Any) -> Rounded:
    return _factor(conventions) * _error(rounded(values) - targets, conventions).mean()


def _clipped_value_loss(conventions: Conventions, values: Any, old_values: Any, targets: Any, clip: Any) -> Rounded:
    v, old = rounded(values), rounded(old_values)
    kept = old + minimum(maximum(v - old, -rounded(clip)), clip)
    inside, free = _error(kept - targets, conventions), _error(v - targets, conventions)
    form = conventions["value_loss.clip"]
    if form == "clamped_error":
        return _factor(conventions) * minimum(free, clip).mean()
    return _factor(conventions) * (inside if form == "clipped_only" else maximum(inside, free)).mean()


def _adam_step(
    parameters: Any,
    gradient: Any,
    first_moment: Any,
    second_moment: Any,
    step: int,
    learning_rate: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
) -> dict[str, Rounded]:
    g = rounded(gradient)
    # The weights 1 − β and the corrections 1 − βᵗ are one subtraction each, of numbers near 1.
    rest1, rest2 = 1 - rounded(beta1), 1 - rounded(beta2)
    m = beta1 * rounded(first_moment) + rest1 * g
    v = beta2 * rounded(second_moment) + rest2 * square(g)
    bias1, bias2 = (1 - Rounded(beta**step, (LIBRARY + step) * beta**step) for beta in (beta1, beta2))
    root = sqrt(v / bias2)
    return {
        "parameters": rounded(parameters) - learning_rate * (m / bias1) / (root + epsilon),
        "first_moment": m,
        "second_moment": v,
    }


# Networks: tanh layers, their derivatives forwards and backwards, one row of the batch after the other.


def _forward(net: Mapping[str, Any], x: Any) -> tuple[Rounded, list[Rounded], list[Rounded]]:
    """Outputs, inputs of every layer, slopes of every hidden layer."""
    if net["activation"] != "tanh":
        raise NotImplementedError(f"no margin for the activation {net['activation']}; laws draw tanh networks")
    inputs, slopes = [rounded(x)], []
    for layer in net["layers"][:-1]:
        h = tanh(inputs[-1] @ layer["W"] + layer["b"])
        inputs.append(h)
        slopes.append(1 - square(h))
    last = net["layers"][-1]
    return inputs[-1] @ last["W"] + last["b"], inputs, slopes


def _jvp(net: Mapping[str, Any], inputs: list[Rounded], slopes: list[Rounded], v: Mapping[str, Any]) -> Any:
    """Change of the outputs, and of the inputs of every layer, along v."""
    change = rounded(np.zeros(inputs[0].shape))
    changes = [change]
    for i, (layer, dot) in enumerate(zip(net["layers"], v["layers"], strict=True)):
        change = inputs[i] @ dot["W"] + changes[-1] @ layer["W"] + dot["b"]
        if i < len(slopes):
            changes.append(slopes[i] * change)
    return change, changes


def _rows_vjp(
    net: Mapping[str, Any], inputs: list[Rounded], slopes: list[Rounded], bar: Rounded
) -> list[dict[str, Rounded]]:
    """Gradient of bar · outputs, one per row of the batch: the layers, with the batch in front."""
    layers: list[dict[str, Rounded]] = []
    for i in reversed(range(len(net["layers"]))):
        layers.insert(0, {"W": inputs[i][:, :, None] * bar[:, None, :], "b": bar})
        if i:
            bar = (bar @ rounded(net["layers"][i]["W"]).T) * slopes[i - 1]
    return layers


def _total(layers: list[dict[str, Rounded]]) -> list[dict[str, Rounded]]:
    return [{name: part.sum(axis=0) for name, part in layer.items()} for layer in layers]


def network_forward(network: Mapping[str, Any], observations: Any) -> Rounded:
    """Return the outputs of a tanh network with their margin."""
    return _forward(network, observations)[0]


def _is_gaussian(policy: Mapping[str, Any]) -> bool:
    return policy["distribution"] == "diagonal_gaussian"


def _spread(policy: Mapping[str, Any], rows: int) -> Rounded:
    """log σ of every row."""
    log_std = rounded(policy["log_std"])
    return stack([log_std] * rows)


def _policy_log_prob(policy: Mapping[str, Any], outputs: Rounded, actions: Any) -> Rounded:
    if _is_gaussian(policy):
        return _gaussian_log_prob(outputs, _spread(policy, len(outputs)), actions)
    return _categorical_log_prob(outputs, actions)


def _gradient(
    policy: Mapping[str, Any], inputs: list[Rounded], slopes: list[Rounded], bar: Rounded, free: Rounded | None
) -> dict[str, Any]:
    """Gradient with respect to θ from that with respect to the outputs, and to log σ of every row."""
    gradient: dict[str, Any] = {"layers": _total(_rows_vjp(policy, inputs, slopes, bar))}
    return gradient if free is None else gradient | {"log_std": free.sum(axis=0)}


def _log_prob_gradient(policy: Mapping[str, Any], observations: Any, actions: Any, weights: Rounded) -> dict[str, Any]:
    """Σ weights ∂ log π/∂θ."""
    outputs, inputs, slopes = _forward(policy, observations)
    if not _is_gaussian(policy):
        bar = weights[:, None] * _categorical_score(outputs, actions)
        return _gradient(policy, inputs, slopes, bar, None)
    score = _gaussian_score(outputs, _spread(policy, len(outputs)), actions)
    bar, free = (weights[:, None] * score[name] for name in ("mean", "log_std"))
    return _gradient(policy, inputs, slopes, bar, free)


def _surrogate(policy: Any, observations: Any, actions: Any, advantages: Any, old_log_prob: Any) -> Rounded:
    new = _policy_log_prob(policy, network_forward(policy, observations), actions)
    return (_ratio(old_log_prob, new) * advantages).mean()


def _surrogate_gradient(
    policy: Any, observations: Any, actions: Any, advantages: Any, old_log_prob: Any
) -> dict[str, Any]:
    new = _policy_log_prob(policy, network_forward(policy, observations), actions)
    weights = _ratio(old_log_prob, new) * advantages
    return _log_prob_gradient(policy, observations, actions, weights / len(weights))


def _clipped_parameter_gradient(
    policy: Any, observations: Any, actions: Any, advantages: Any, old_log_prob: Any, clip: Any
) -> dict[str, Any]:
    new = _policy_log_prob(policy, network_forward(policy, observations), actions)
    weights = _clipped_objective_gradient(old_log_prob, new, advantages, clip)
    return _log_prob_gradient(policy, observations, actions, weights)


def _policy_entropy_gradient(policy: Any, outputs: Rounded) -> tuple[Rounded, Rounded | None]:
    rows = len(outputs)
    if _is_gaussian(policy):
        return rounded(np.zeros(outputs.shape)), rounded(np.ones(outputs.shape)) / rows
    p, log_p = _softmax(outputs), _log_softmax(outputs)
    return -p * (log_p - (p * log_p).sum(axis=1)[:, None]) / rows, None


def _entropy_bonus(policy: Any, observations: Any) -> dict[str, Any]:
    outputs, inputs, slopes = _forward(policy, observations)
    if _is_gaussian(policy):
        entropy = _gaussian_entropy(outputs, _spread(policy, len(outputs)))
    else:
        entropy = _categorical_entropy(outputs)
    bar, free = _policy_entropy_gradient(policy, outputs)
    return {"entropy": entropy.mean(), "gradient": _gradient(policy, inputs, slopes, bar, free)}


def _plus(a: Any, b: Any, factor: Any) -> Any:
    """a + factor · b for parameters."""
    if isinstance(a, dict):
        return {name: _plus(a[name], b[name], factor) for name in a}
    if isinstance(a, list):
        return [_plus(one, other, factor) for one, other in zip(a, b, strict=True)]
    return a + factor * b


def _ppo_objective(
    conventions: Conventions,
    policy: Any,
    value_network: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    old_log_prob: Any,
    value_targets: Any,
    clip: Any,
    value_coefficient: Any,
    entropy_coefficient: Any,
) -> dict[str, Any]:
    new = _policy_log_prob(policy, network_forward(policy, observations), actions)
    entropy = _entropy_bonus(policy, observations)
    values, inputs, slopes = _forward(value_network, observations)
    error = values[:, 0] - value_targets
    loss = _value_loss(conventions, values[:, 0], value_targets)
    slope = 2 * error if conventions["value_loss.error"] == "squared" else minimum(maximum(error, -1.0), 1.0)
    bar = -_factor(conventions) * rounded(value_coefficient) * slope / len(error)
    clipped = _clipped_parameter_gradient(policy, observations, actions, advantages, old_log_prob, clip)
    return {
        "objective": _clipped_objective(old_log_prob, new, advantages, clip)
        - value_coefficient * loss
        + entropy_coefficient * entropy["entropy"],
        "policy_gradient": _plus(clipped, entropy["gradient"], entropy_coefficient),
        "value_gradient": {"layers": _total(_rows_vjp(value_network, inputs, slopes, bar[:, None]))},
    }


# The mean KL of two policies, in either direction.


def _kl_of_policies(conventions: Conventions, old_policy: Any, new_policy: Any, observations: Any) -> Rounded:
    pair = [(policy, network_forward(policy, observations)) for policy in (old_policy, new_policy)]
    (old, p), (new, q) = pair if conventions["kl.direction"] == "old_new" else pair[::-1]
    if _is_gaussian(old):
        return _gaussian_kl(p, _spread(old, len(p)), q, _spread(new, len(q))).mean()
    return _categorical_kl(p, q).mean()


def _kl_bar(conventions: Conventions, old: Any, p: Rounded, new: Any, q: Rounded) -> tuple[Rounded, Rounded | None]:
    """Gradient of the KL of every row with respect to the new outputs and log σ."""
    forwards = conventions["kl.direction"] == "old_new"
    if _is_gaussian(old):
        s0, s1 = _spread(old, len(p)), _spread(new, len(q))
        change, v0, v1 = q - p, exp(2 * s0), exp(2 * s1)
        if forwards:
            return change / v1, 1 - (v0 + square(change)) / v1
        return change / v0, v1 / v0 - 1
    if forwards:
        return _softmax(q) - _softmax(p), None
    surprise = _log_softmax(q) - _log_softmax(p)
    return _softmax(q) * (surprise - (_softmax(q) * surprise).sum(axis=1)[:, None]), None


def _mean_kl_gradient(conventions: Conventions, old_policy: Any, new_policy: Any, observations: Any) -> dict[str, Any]:
    p = network_forward(old_policy, observations)
    q, inputs, slopes = _forward(new_policy, observations)
    bar, free = _kl_bar(conventions, old_policy, p, new_policy, q)
    rows = len(q)
    return _gradient(new_policy, inputs, slopes, bar / rows, None if free is None else free / rows)


def _kl_bar_change(
    conventions: Conventions, old: Any, p: Rounded, new: Any, q: Rounded, dq: Rounded, ds: Rounded | None
) -> tuple[Rounded, Rounded | None]:
    """Change of `_kl_bar` as the new outputs and log σ change."""
    forwards = conventions["kl.direction"] == "old_new"
    if ds is not None:
        s0, s1 = _spread(old, len(p)), _spread(new, len(q))
        change, v0, v1 = q - p, exp(2 * s0), exp(2 * s1)
        if forwards:
            return (
                dq / v1 - 2 * change / v1 * ds,
                2 * (v0 + square(change)) / v1 * ds - 2 * change / v1 * dq,
            )
        return dq / v0, 2 * v1 / v0 * ds
    prob = _softmax(q)
    dprob = prob * (dq - (prob * dq).sum(axis=1)[:, None])
    if forwards:
        return dprob, None
    surprise = _log_softmax(q) - _log_softmax(p)
    centred = surprise - (prob * surprise).sum(axis=1)[:, None]
    dsurprise = dq - (prob * dq).sum(axis=1)[:, None]
    return dprob * centred + prob * (dsurprise - (dprob * surprise).sum(axis=1)[:, None]), None


def _mean_kl_hessian_vector_product(
    conventions: Conventions, old_policy: Any, new_policy: Any, observations: Any, vector: Any
) -> dict[str, Any]:
    p = network_forward(old_policy, observations)
    q, inputs, slopes = _forward(new_policy, observations)
    rows = len(q)
    dq, changes = _jvp(new_policy, inputs, slopes, vector)
    ds = stack([rounded(vector["log_std"])] * rows) if _is_gaussian(new_policy) else None
    bar, _ = _kl_bar(conventions, old_policy, p, new_policy, q)
    dbar, dfree = _kl_bar_change(conventions, old_policy, p, new_policy, q, dq, ds)
    layers: list[dict[str, Rounded]] = []
    for i in reversed(range(len(new_policy["layers"]))):
        W, dW = rounded(new_policy["layers"][i]["W"]), rounded(vector["layers"][i]["W"])
        product = changes[i][:, :, None] * bar[:, None, :] + inputs[i][:, :, None] * dbar[:, None, :]
        layers.insert(0, {"W": product / rows, "b": dbar / rows})
        if i:
            back, h = bar @ W.T, inputs[i]
            dbar = (dbar @ W.T + bar @ dW.T) * slopes[i - 1] - 2 * h * changes[i] * back
            bar = back * slopes[i - 1]
    product = {"layers": _total(layers)}
    return product if dfree is None else product | {"log_std": dfree.sum(axis=0) / rows}


# The Fisher matrix.


def flat(parameters: Mapping[str, Any]) -> Rounded:
    """Return parameters of the contract as one vector θ: W row by row, b, layer after layer, log_std last."""
    parts = [rounded(layer[name]) for layer in parameters["layers"] for name in ("W", "b")]
    parts += [rounded(parameters["log_std"])] if "log_std" in parameters else []
    return join([part.reshape(-1) for part in parts])


def shaped(like: Mapping[str, Any], vector: Rounded) -> dict[str, Any]:
    """Return a vector in the structure of the parameters of a policy or network."""
    layers, start = [], 0
    for layer in like["layers"]:
        new = {}
        for name in ("W", "b"):
            shape = rounded(layer[name]).shape
            size = math.prod(shape)
            new[name] = vector[start : start + size].reshape(*shape)
            start += size
        layers.append(new)
    return {"layers": layers} | ({"log_std": vector[start:]} if "log_std" in like else {})


def _jacobian(policy: Mapping[str, Any], observations: Any) -> tuple[Rounded, Rounded]:
    """J of every row (B, K, P), with log σ among φ where there is one, and the Fisher matrix M of φ."""
    outputs, inputs, slopes = _forward(policy, observations)
    rows, size = outputs.shape
    per_output = []
    for k in range(size):
        bar = np.zeros((rows, size))
        bar[:, k] = 1.0
        layers = _rows_vjp(policy, inputs, slopes, rounded(bar))
        per_output.append(join([part.reshape(rows, -1) for layer in layers for part in layer.values()], axis=1))
    J = stack(per_output, axis=1)
    if not _is_gaussian(policy):
        return J, _categorical_fisher(outputs)
    P = J.shape[2]
    top = join([J, np.zeros((rows, size, size))], axis=2)
    bottom = np.zeros((rows, size, P + size))
    bottom[:, :, P:] = np.eye(size)
    return join([top, bottom], axis=1), _gaussian_fisher(outputs, _spread(policy, rows))


def _transposed(J: Rounded) -> Rounded:
    return Rounded(np.swapaxes(J.value, 1, 2), np.swapaxes(J.error, 1, 2))


def fisher_matrix(policy: Mapping[str, Any], observations: Any) -> Rounded:
    """Return the Fisher matrix of a policy with the margin of its entries."""
    J, M = _jacobian(policy, observations)
    return (_transposed(J) @ (M @ J)).mean(axis=0)


def _fisher_vector_product(policy: Any, observations: Any, vector: Any, damping: Any) -> dict[str, Any]:
    J, M = _jacobian(policy, observations)
    v = flat(vector)
    product = (_transposed(J) @ (M @ (J @ v)[:, :, None])).mean(axis=0)[:, 0]
    return shaped(policy, product + damping * v)


def _damped(policy: Any, observations: Any, damping: Any) -> Rounded:
    F = fisher_matrix(policy, observations)
    return F + rounded(damping) * np.eye(len(F))


# Solvers and steps.


def _conjugate_gradient(conventions: Conventions, matrix: Any, b: Any, iterations: int) -> Rounded:
    """x_k is the best of the Krylov space: rounding turns the space by cond · u in every iteration.

    ::

        |x̂ − x| ≤ k (n + 8) cond · |A⁻¹| (E_A |x| + E_b + n |A| |x| + |b|)
    """
    A, right = rounded(matrix), rounded(b)
    x = _krylov(conventions["conjugate_gradient.stop"], A.value, right.value, iterations)
    n = len(right)
    size = np.abs(A.value) @ np.abs(x)
    condition = np.linalg.cond(A.value)
    backward = A.error @ np.abs(x) + right.error + n * size + np.abs(right.value)
    spread = np.abs(np.linalg.inv(A.value)) @ backward
    return Rounded(x, iterations * (n + 8) * condition * spread.max(initial=0.0))


def _krylov(stop: str, A: Any, b: Any, iterations: int) -> Any:
    x, r = np.zeros_like(b), b.copy()
    p, rr = r.copy(), b @ b
    for made in range(iterations):
        if rr <= (1e-14 * np.abs(b).max(initial=0.0)) ** 2:
            break
        if rr < 1e-10 and (stop == "1e-10_from_start" or (stop == "1e-10" and made > 0)):
            break
        Ap = A @ p
        alpha = rr / (p @ Ap)
        x, r = x + alpha * p, r - alpha * Ap
        rr, before = r @ r, rr
        p = r + rr / before * p
    return x


def _fisher_conjugate_gradient(
    conventions: Conventions, policy: Any, observations: Any, b: Any, damping: Any, iterations: int
) -> dict[str, Any]:
    H = _damped(policy, observations, damping)
    return shaped(policy, _conjugate_gradient(conventions, H, flat(b), iterations))


def _direction(policy: Any, observations: Any, gradient: Any, damping: Any) -> Rounded:
    return solve(_damped(policy, observations, damping), flat(gradient))


def _natural_gradient(policy: Any, observations: Any, gradient: Any, damping: Any) -> dict[str, Any]:
    return shaped(policy, _direction(policy, observations, gradient, damping))


def _minimum_norm(policy: Any, observations: Any, actions: Any, advantages: Any) -> dict[str, Any]:
    """x = F⁺g: as `solve`, on the range of F; unbounded where a small singular value leaves the rank undecided."""
    F = fisher_matrix(policy, observations)
    outputs = network_forward(policy, observations)
    g = flat(_log_prob_gradient(policy, observations, actions, rounded(advantages) / len(outputs)))
    values, vectors = np.linalg.eigh(F.value)
    largest = max(values.max(), 0.0)
    used = values > _USED * largest
    decided = bool(np.all(used | (values < _UNUSED * largest))) and largest > 0
    inverse = (vectors[:, used] / values[used]) @ vectors[:, used].T
    x = inverse @ g.value
    noise = np.linalg.norm(F.error) + len(x) ** 2 * np.linalg.norm(F.value)
    wedin = (
        noise
        * np.linalg.norm(inverse, 2)
        * (2 * np.linalg.norm(x) + np.linalg.norm(inverse, 2) * np.linalg.norm(g.value))
    )
    error = np.linalg.norm(inverse, 2) * np.linalg.norm(g.error) + wedin if decided else np.inf
    return {
        "direction": shaped(policy, Rounded(x, error)),
        "rank": Rounded(used.sum(), 0.0 if decided else np.inf),
    }


def _step_length(conventions: Conventions, direction: Any, product: Any, max_kl: Any) -> Rounded:
    curvature = (rounded(direction) * product).sum()
    epsilon = float(conventions["step_length.epsilon"])
    return sqrt(2 * rounded(max_kl) / (curvature + epsilon if epsilon else curvature))


def _natural_gradient_step(
    conventions: Conventions, policy: Any, observations: Any, gradient: Any, damping: Any, max_kl: Any
) -> dict[str, Any]:
    damped = conventions["step_length.damping"] == "damped"
    x = _direction(policy, observations, gradient, damping)
    H = _damped(policy, observations, damping if damped else 0.0)
    return shaped(policy, _step_length(conventions, x, H @ x, max_kl) * x)


def _expected_improvement(gradient: Any, step: Any) -> Rounded:
    return (flat(gradient) * flat(step)).sum()


# A search ends in a decision; its parameters are θ + bʲ s, or θ, and carry the rounding of that sum.


def _searched(policy: Any, step: Rounded) -> dict[str, Any]:
    theta = flat(policy)
    return {
        "parameters": shaped(policy, Rounded((theta + step).value, (theta + step).error + np.abs(theta.value))),
        "accepted": Rounded(0.0),
    }


def _line_search(
    conventions: Conventions,
    policy: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    full_step: Any,
    max_kl: Any,
    backtrack: Any,
    max_backtracks: int,
) -> dict[str, Any]:
    step = flat(full_step)
    return _searched(policy, Rounded(step.value, step.error + 2 * max_backtracks * np.abs(step.value)))


def _trpo_step(
    conventions: Conventions,
    policy: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    max_kl: Any,
    damping: Any,
    iterations: int,
    backtrack: Any,
    max_backtracks: int,
) -> dict[str, Any]:
    outputs = network_forward(policy, observations)
    g = _log_prob_gradient(policy, observations, actions, rounded(advantages) / len(outputs))
    H = _damped(policy, observations, damping)
    x = _conjugate_gradient(conventions, H, flat(g), iterations)
    if not x.value.any():
        return _searched(policy, x)
    measured = H if conventions["step_length.damping"] == "damped" else _damped(policy, observations, 0.0)
    step = _step_length(conventions, x, measured @ x, max_kl) * x
    return _searched(policy, Rounded(step.value, step.error + 2 * max_backtracks * np.abs(step.value)))


def _ppo_epoch(
    policy: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    old_log_prob: Any,
    minibatches: Any,
    clip: Any,
    learning_rate: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
) -> dict[str, Any]:
    x, A, old = (rounded(part) for part in (observations, advantages, old_log_prob))
    a = rounded(actions) if _is_gaussian(policy) else np.asarray(actions)
    theta = flat(policy)
    state = {"first_moment": rounded(0 * theta.value), "second_moment": rounded(0 * theta.value)}
    for step, rows in enumerate(minibatches, start=1):
        now = {**policy, **shaped(policy, theta)}
        ascent = flat(_clipped_parameter_gradient(now, x[rows], a[rows], A[rows], old[rows], clip))
        after = _adam_step(theta, -ascent, **state, step=step, learning_rate=learning_rate,
                           beta1=beta1, beta2=beta2, epsilon=epsilon)  # fmt: skip
        theta, state = after["parameters"], {name: after[name] for name in state}
    return shaped(policy, theta)


# Sequences of tokens: what does not count is a zero before anything is computed of it.


def _masked_aggregate(conventions: Conventions, values: Any, mask: Any, constant: Any) -> Rounded:
    """A sum of all tokens; or of each sequence first, and then of these."""
    x, lengths = where(mask, values, 0.0), np.asarray(mask).sum(axis=1)
    aggregation = conventions["sequence.aggregation"]
    if aggregation == "token_mean":
        return x.sum() / lengths.sum()
    sums = x.sum(axis=1)
    if aggregation == "sequence_mean_token_mean":
        sums = sums / lengths
    return sums.mean() / (constant if aggregation == "token_sum_over_constant" else 1.0)


def _token_weights(conventions: Conventions, mask: Any, constant: Any) -> Rounded:
    N, lengths = len(mask), np.asarray(mask).sum(axis=1)[:, None]
    divisors = {
        "token_mean": rounded(lengths.sum()),
        "sequence_mean_token_mean": rounded(N * lengths),
        "sequence_mean_token_sum": rounded(N),
        "token_sum_over_constant": N * rounded(constant),
    }
    return where(mask, 1 / divisors[conventions["sequence.aggregation"]], 0.0)


def _means_of_sequences(x: Rounded, mask: Any) -> Rounded:
    return where(mask, (x.sum(axis=1) / np.asarray(mask).sum(axis=1))[:, None], 0.0)


def _masked_normalize_advantages(conventions: Conventions, advantages: Any, mask: Any) -> Rounded:
    counted = _normalize_advantages(conventions, rounded(advantages)[mask])
    value, error = np.zeros(np.shape(mask)), np.zeros(np.shape(mask))
    value[mask], error[mask] = counted.value, counted.error
    return Rounded(value, error)


def _group_advantages(conventions: Conventions, rewards: Any, group: Any) -> Rounded:
    """The mean of the others as their sum over their number."""
    r, advantages = rounded(rewards), []
    for i, number in enumerate(group):
        members = np.asarray(group) == number
        compared = members.copy()
        compared[i] = conventions["group.baseline"] == "group_mean"
        difference = r[i] - r[compared].mean()
        advantages.append(
            difference / _deviation(conventions, r[members]) if conventions["group.scale"] == "std" else difference
        )
    return stack(advantages)


def _token_rewards(scores: Any, log_prob: Any, reference_log_prob: Any, mask: Any, kl_penalty: Any) -> Rounded:
    tokens = np.arange(np.shape(mask)[1])
    last = np.max(np.where(mask, tokens, -1), axis=1)
    price = -kl_penalty * where(mask, rounded(log_prob) - reference_log_prob, 0.0)
    return price + where(tokens == last[:, None], rounded(scores)[:, None], 0.0)


def _penalties(conventions: Conventions, new: Any, reference: Any, mask: Any) -> tuple[Rounded, Rounded]:
    d = where(mask, rounded(new) - reference, 0.0)
    return {
        "k1": (d, rounded(np.ones(d.shape))),
        "k2": (0.5 * square(d), d),
        "k3": ((exp(-d) - 1) + d, 1 - exp(-d)),
    }[conventions["kl_penalty.estimator"]]


def _token_kl_penalty(
    conventions: Conventions, log_prob: Any, reference_log_prob: Any, mask: Any, constant: Any
) -> dict[str, Rounded]:
    k, slopes = _penalties(conventions, log_prob, reference_log_prob, mask)
    return {
        "penalty": _masked_aggregate(conventions, k, mask, constant),
        "gradient": _token_weights(conventions, mask, constant) * slopes,
    }


def _token_clipped_objective(
    conventions: Conventions,
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: Any,
    clip_high: Any,
    constant: Any,
) -> dict[str, Rounded]:
    log_r, A = (where(mask, x, 0.0) for x in (rounded(new_log_prob) - old_log_prob, advantages))
    of_sequence = conventions["ratio.level"] == "sequence"
    r = exp(_means_of_sequences(log_r, mask) if of_sequence else log_r)
    slopes = _clipped_slopes(r, A, clip, clip_high)
    slopes = _means_of_sequences(slopes, mask) if of_sequence else slopes
    terms = minimum(r * A, _clip(r, clip, clip_high) * A)
    return {
        "objective": _masked_aggregate(conventions, terms, mask, constant),
        "gradient": _token_weights(conventions, mask, constant) * slopes,
    }


def _sequence_objective(
    conventions: Conventions,
    old_log_prob: Any,
    new_log_prob: Any,
    reference_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: Any,
    clip_high: Any,
    kl_penalty: Any,
    constant: Any,
) -> dict[str, Rounded]:
    A = where(mask, rounded(advantages)[:, None], 0.0)
    clipped = _token_clipped_objective(
        conventions, old_log_prob, new_log_prob, A, mask, clip, clip_high, constant
    )
    penalty = _token_kl_penalty(conventions, new_log_prob, reference_log_prob, mask, constant)
    return {
        "objective": clipped["objective"] - kl_penalty * penalty["penalty"],
        "gradient": clipped["gradient"] - kl_penalty * penalty["gradient"],
    }


_WITH_CONVENTIONS: dict[str, Formula] = {
    "gae": _gae,
    "gae_rollout": _gae_rollout,
    "normalize_advantages": _normalize_advantages,
    "clip_fraction": _clip_fraction,
    "approximate_kl": _approximate_kl,
    "kl_penalty_update": _kl_penalty_update,
    "value_loss": _value_loss,
    "clipped_value_loss": _clipped_value_loss,
    "ppo_objective": _ppo_objective,
    "mean_kl": _kl_of_policies,
    "mean_kl_gradient": _mean_kl_gradient,
    "mean_kl_hessian_vector_product": _mean_kl_hessian_vector_product,
    "conjugate_gradient": _conjugate_gradient,
    "fisher_conjugate_gradient": _fisher_conjugate_gradient,
    "step_length": _step_length,
    "natural_gradient_step": _natural_gradient_step,
    "line_search": _line_search,
    "trpo_step": _trpo_step,
    "masked_aggregate": _masked_aggregate,
    "masked_normalize_advantages": _masked_normalize_advantages,
    "group_advantages": _group_advantages,
    "token_kl_penalty": _token_kl_penalty,
    "token_clipped_objective": _token_clipped_objective,
    "sequence_objective": _sequence_objective,
    **tables.WITH_CONVENTIONS,
}
_WITHOUT_CONVENTIONS: dict[str, Formula] = _DISTRIBUTIONS | {
    "kl_estimators": _kl_estimators,
    "discounted_returns": _discounted_returns,
    "td_errors": _td_errors,
    "explained_variance": _explained_variance,
    "ratio": _ratio,
    "clipped_objective": _clipped_objective,
    "clipped_objective_gradient": _clipped_objective_gradient,
    "clipped_objective_parameter_gradient": _clipped_parameter_gradient,
    "kl_penalized_objective": _kl_penalized_objective,
    "entropy_bonus": _entropy_bonus,
    "adam_step": _adam_step,
    "ppo_epoch": _ppo_epoch,
    "network_forward": network_forward,
    "surrogate": _surrogate,
    "surrogate_gradient": _surrogate_gradient,
    "fisher_matrix": fisher_matrix,
    "fisher_vector_product": _fisher_vector_product,
    "natural_gradient": _natural_gradient,
    "natural_gradient_minimum_norm": _minimum_norm,
    "expected_improvement": _expected_improvement,
    "token_rewards": _token_rewards,
    **tables.WITHOUT_CONVENTIONS,
}


WITH_MARGINS = (*_WITHOUT_CONVENTIONS, *_WITH_CONVENTIONS)


def margins(op: str, conventions: Conventions, inputs: Mapping[str, Any]) -> Any:
    """Return the answer of ordinary code to an op, of which the errors count.

    Parameters
    ----------
    op : str
        Name of the op.
    conventions : mapping of str to str
        A value for every axis.
    inputs : mapping
        Inputs of the op; `Rounded` where they are themselves answers.

    Returns
    -------
    Rounded, or a mapping of outputs
        In the structure of the contract.
    """
    with np.errstate(all="ignore"):
        if op in _WITH_CONVENTIONS:
            return _WITH_CONVENTIONS[op](conventions, **inputs)
        return _WITHOUT_CONVENTIONS[op](**inputs)
