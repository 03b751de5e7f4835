"""Mistakes in the estimators: returns, TD errors, advantages, their normalisation, KL estimators."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refpg.conformance.reference import answers
from refpg.notation import Array

Function = Callable[..., Any]
Inputs = dict[str, Any]

_RIGHT = answers({})


# Returns, TD errors and advantages: the right recursion on wrong flags, values or factors.


def _of(op: str, change: Callable[[Inputs], Inputs]) -> Function:
    """The right answer to other inputs."""
    return lambda **inputs: _RIGHT[op](**(inputs | change(inputs)))


def _flags_late(inputs: Inputs) -> Inputs:
    names = [name for name in ("terminated", "truncated") if name in inputs]
    return {name: np.concatenate([inputs[name][1:], inputs[name][-1:]]) for name in names}


def _flags_early(inputs: Inputs) -> Inputs:
    names = [name for name in ("terminated", "truncated") if name in inputs]
    return {name: np.concatenate([np.zeros_like(inputs[name][:1]), inputs[name][:-1]]) for name in names}


def _last_value(value: Callable[[Inputs], Any]) -> Callable[[Inputs], Inputs]:
    """Another value in place of that of the observation after the last row."""
    return lambda inputs: {"next_values": np.concatenate([inputs["next_values"][:-1], [value(inputs)]])}


_own_last_value = _last_value(lambda inputs: inputs["values"][-1])
_no_last_value = _last_value(lambda inputs: np.zeros_like(inputs["next_values"][-1]))
_no_open_end = _last_value(lambda inputs: inputs["next_values"][-1] * inputs["truncated"][-1])


def _truncation_is_terminal(inputs: Inputs) -> Inputs:
    return {"terminated": inputs["terminated"] | inputs["truncated"]}


def _truncation_wins(inputs: Inputs) -> Inputs:
    return {"terminated": inputs["terminated"] & ~inputs["truncated"]}


def _reset_values(inputs: Inputs) -> Inputs:
    following = np.concatenate([inputs["values"][1:], inputs["next_values"][-1:]])
    return {"next_values": np.where(inputs["truncated"], following, inputs["next_values"])}


def _truncation_ignored(inputs: Inputs) -> Inputs:
    return _reset_values(inputs) | {"truncated": np.zeros_like(inputs["truncated"])}


def _current_values(inputs: Inputs) -> Inputs:
    return {"next_values": np.where(inputs["truncated"], inputs["values"], inputs["next_values"])}


def _no_endings(inputs: Inputs) -> Inputs:
    return {name: np.zeros_like(inputs[name]) for name in ("terminated", "truncated") if name in inputs}


def _no_terminations(inputs: Inputs) -> Inputs:
    return {"terminated": np.zeros_like(inputs["terminated"])}


def _undiscounted(inputs: Inputs) -> Inputs:
    return {"gamma": 1.0}


# Advantages by loops of their own, from the inputs of gae.


def _recursion(delta: Array, decay: Array) -> Array:
    advantages = np.zeros_like(delta)
    following = np.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + decay[t] * following
        advantages[t] = following
    return advantages


def _deltas(i: Inputs, alive: Any) -> Array:
    return i["rewards"] + i["gamma"] * i["next_values"] * alive - i["values"]


def _going_on(i: Inputs) -> Array:
    going_on: Array = (~(i["terminated"] | i["truncated"])).astype(i["rewards"].dtype)
    return going_on


def _alive(i: Inputs) -> Array:
    alive: Array = (~i["terminated"]).astype(i["rewards"].dtype)
    return alive


def _without_gamma(i: Inputs) -> Array:
    return _recursion(_deltas(i, _alive(i)), i["gae_lambda"] * _going_on(i))


def _recursion_unmasked(i: Inputs) -> Array:
    return _recursion(_deltas(i, _alive(i)), i["gamma"] * i["gae_lambda"] * np.ones_like(i["rewards"]))


def _deltas_unmasked(i: Inputs) -> Array:
    return _recursion(_deltas(i, 1), i["gamma"] * i["gae_lambda"] * _going_on(i))


def _mask_on_own_value(i: Inputs) -> Array:
    mask = i["gamma"] * _alive(i)
    return _recursion(i["rewards"] + mask * (i["next_values"] - i["values"]), mask * i["gae_lambda"] * _going_on(i))


def _discarded(i: Inputs) -> Array:
    return +i["rewards"]


def _gae_of(change: Callable[[Inputs], Inputs]) -> Function:
    """The right answer to other inputs, with the value targets declared."""
    return lambda conventions, **inputs: answers(conventions)["gae"](**(inputs | change(inputs)))


def _with_targets(advantages: Callable[[Inputs], Array], change: Callable[[Inputs], Inputs] = lambda i: {}) -> Function:
    """Other advantages with the value targets declared: returns are the right ones, of other inputs."""

    def function(conventions: Mapping[str, str], **inputs: Any) -> dict[str, Array]:
        found = advantages(inputs)
        if conventions["gae.value_target"] == "lambda_return":
            return {"advantages": found, "value_targets": found + inputs["values"]}
        return {"advantages": found, "value_targets": _gae_of(change)(conventions, **inputs)["value_targets"]}

    return function


def _right_then(change: Callable[[Array, Inputs], dict[str, Array]]) -> Function:
    """The right advantages, and what is made of them; returns are made of rewards, and so right."""

    def function(conventions: Mapping[str, str], **inputs: Any) -> dict[str, Array]:
        right: dict[str, Array] = answers(conventions)["gae"](**inputs)
        of_values = conventions["gae.value_target"] == "lambda_return"
        return right | change(right["advantages"], inputs) if of_values else right

    return function


def _environments_before_steps(conventions: Mapping[str, str], **inputs: Any) -> dict[str, Array]:
    return {name: _environments_first(table) for name, table in answers(conventions)["gae"](**inputs).items()}


def _environments_first(table: Array) -> Array:
    return table.T.reshape(table.shape)


def _targets_of_normalised(advantages: Array, inputs: Inputs) -> dict[str, Array]:
    normalised = (advantages - advantages.mean()) / advantages.std()
    return {"advantages": advantages, "value_targets": normalised + inputs["values"]}


_GAE: dict[str, Function] = {
    "gae-done-late": _gae_of(_flags_late),
    "gae-done-early": _gae_of(_flags_early),
    "gae-last-value-wrong-obs": _gae_of(_own_last_value),
    "gae-lambda-ignored": _gae_of(lambda inputs: {"gae_lambda": 0.95}),
    "gae-lambda-one": _gae_of(lambda inputs: {"gae_lambda": 1.0}),
    "ret-no-bootstrap": _gae_of(_no_last_value),
    "gae-missing-gamma": _with_targets(_without_gamma),
    "gae-no-mask-recursion": _with_targets(_recursion_unmasked),
    "gae-no-mask-delta": _with_targets(_deltas_unmasked, _no_terminations),
    "gae-mask-kills-v": _with_targets(_mask_on_own_value),
    "gae-discarded": _with_targets(_discarded),
    "gae-flatten-order": _environments_before_steps,
    "vtarget-stale-zero-adv": _right_then(lambda A, inputs: {"advantages": A, "value_targets": 0 + inputs["values"]}),
    "vtarget-normalised": _right_then(_targets_of_normalised),
}
_TRUNCATION: dict[str, Function] = {
    "gae-trunc-as-terminal": _gae_of(_truncation_is_terminal),
    "gae-trunc-not-boundary": _gae_of(_truncation_ignored),
    "gae-trunc-reset-obs": _gae_of(_reset_values),
    "gae-trunc-current-value": _gae_of(_current_values),
    "gae-trunc-over-terminated": _gae_of(_truncation_wins),
}


def _of_a_rollout(function: Function) -> Function:
    """The same mistake in the rollout form: the next values are those of the rows below, and nothing is truncated."""

    def rollout(conventions: Mapping[str, str], dones: Array, last_values: Array, **inputs: Any) -> Any:
        next_values = np.concatenate([inputs["values"][1:], last_values[None]])
        return function(
            conventions, next_values=next_values, terminated=dones, truncated=np.zeros_like(dones), **inputs
        )

    return rollout


# Normalisation, explained variance, KL estimators.


def divisor(deviation: Any, conventions: Mapping[str, str]) -> Any:
    """What advantages are divided by: their standard deviation, kept away from 0 as declared."""
    number, _, form = conventions["advantage.epsilon"].partition("_")
    epsilon = float(number)
    if form == "in_root":
        return np.sqrt(deviation**2 + epsilon)
    return np.maximum(deviation, epsilon) if form == "at_least" else deviation + epsilon


def _std(a: Array, conventions: Mapping[str, str]) -> Any:
    return a.std(ddof=int(conventions["advantage.ddof"]))


def _parenthesis(conventions: Mapping[str, str], advantages: Array) -> Array:
    return advantages - advantages.mean() / divisor(_std(advantages, conventions), conventions)


def _uncentred(conventions: Mapping[str, str], advantages: Array) -> Any:
    return advantages / divisor(_std(advantages, conventions), conventions)


def _by_variance(conventions: Mapping[str, str], advantages: Array) -> Any:
    variance = _std(advantages, conventions) ** 2
    in_root = conventions["advantage.epsilon"] == "1e-8_in_root"
    scale = variance + 1e-8 if in_root else divisor(variance, conventions)
    return (advantages - advantages.mean()) / scale


def _large_epsilon(conventions: Mapping[str, str], advantages: Array) -> Any:
    return (advantages - advantages.mean()) / (_std(advantages, conventions) + 1e-5)


def _estimates(form: Callable[[Array], tuple[Array, Array, Array]]) -> Function:
    """k1, k2 and k3 from the log-ratio d."""

    def function(old_log_prob: Array, new_log_prob: Array) -> dict[str, Array]:
        return dict(zip(("k1", "k2", "k3"), form(new_log_prob - old_log_prob), strict=True))

    return function


WRONG: dict[str, dict[str, Function]] = {
    "kl_estimators": {
        "akl-sign": _estimates(lambda d: (d, d**2 / 2, np.exp(d) - 1 + d)),
        "akl-k2-no-half": _estimates(lambda d: (-d, d**2, np.expm1(d) - d)),
        "akl-minus-ratio": _estimates(lambda d: (-np.exp(d), d**2 / 2, np.expm1(d) - d)),
        "ratio-inverted": _estimates(lambda d: (d, d**2 / 2, np.expm1(-d) + d)),
    },
    "discounted_returns": {
        "gae-done-late": _of("discounted_returns", _flags_late),
        "gae-done-early": _of("discounted_returns", _flags_early),
        "gae-trunc-as-terminal": _of("discounted_returns", _truncation_is_terminal),
        "gae-trunc-over-terminated": _of("discounted_returns", _truncation_wins),
        "ret-no-bootstrap": _of("discounted_returns", _no_open_end),
        "ret-no-reset": _of("discounted_returns", _no_endings),
        "gae-missing-gamma": _of("discounted_returns", _undiscounted),
    },
    "td_errors": {
        "gae-done-late": _of("td_errors", _flags_late),
        "gae-done-early": _of("td_errors", _flags_early),
        "gae-last-value-wrong-obs": _of("td_errors", _own_last_value),
        "gae-no-mask-delta": _of("td_errors", _no_endings),
        "ret-no-bootstrap": _of("td_errors", _no_last_value),
        "gae-missing-gamma": _of("td_errors", _undiscounted),
    },
    "gae": _GAE | _TRUNCATION,
    "gae_rollout": {bug: _of_a_rollout(function) for bug, function in _GAE.items()},
    "normalize_advantages": {
        "advnorm-paren": _parenthesis,
        "advnorm-uncentred": _uncentred,
        "advnorm-by-variance": _by_variance,
        "advnorm-large-epsilon": _large_epsilon,
    },
    "explained_variance": {
        "ev-args-swapped": lambda values, targets: 1 - (targets - values).var() / values.var(),
        "ev-mean-square": lambda values, targets: 1 - ((targets - values) ** 2).mean() / targets.var(),
        "ev-unexplained": lambda values, targets: (targets - values).var() / targets.var(),
    },
}
