"""Known mistakes in the estimators, in balls."""

from collections.abc import Callable
from typing import Any

from flint import arb

from verification.certify.balls import exact, mean, total, transpose
from verification.certify.mistakes import Mistake

Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]
Series = dict[str, Any]


def _environments(inputs: Inputs) -> list[Series]:
    """Return each environment's series, the rollout form completed to the episode form."""
    if "dones" in inputs:
        never = [[False for _ in row] for row in inputs["dones"]]
        following = [*inputs["values"][1:], inputs["last_values"]]
        inputs = inputs | {"next_values": following, "terminated": inputs["dones"], "truncated": never}
    names = [name for name in ("rewards", "values", "next_values", "terminated", "truncated") if name in inputs]
    columns = {name: transpose(inputs[name]) for name in names}
    series = []
    for number in range(len(columns["rewards"])):
        one: Series = {"gamma": exact(inputs["gamma"]), "lambda": exact(inputs.get("gae_lambda", 1.0))}
        for name in names:
            values = columns[name][number]
            one[name] = list(values) if isinstance(values[0], bool) else exact(values)
        one.setdefault("truncated", [False] * len(one["rewards"]))
        one["decay"] = one["gamma"] * one["lambda"]
        one["cut"] = [a or b for a, b in zip(one["terminated"], one["truncated"], strict=True)]
        series.append(one)
    return series


def _recursion(one: Series) -> list[arb]:
    """GAE on an altered series: ``terminated`` masks δ, ``cut`` the recursion, ``decay`` weighs it."""
    delta = _delta(one)
    advantages: list[arb] = []
    following = arb(0)
    for t in reversed(range(len(delta))):
        following = delta[t] + (0 if one["cut"][t] else one["decay"] * following)
        advantages.insert(0, following)
    return advantages


def _delta(one: Series) -> list[arb]:
    return [
        r + (0 if d else one["gamma"] * n) - v
        for r, v, n, d in zip(one["rewards"], one["values"], one["next_values"], one["terminated"], strict=True)
    ]


def _gae(alter: Callable[[Series], Series], form: Callable[[Series], list[arb]] = _recursion) -> Any:
    """Return the answer of GAE on altered series."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        environments = _environments(inputs)
        advantages = [form(one | alter(one)) for one in environments]
        if conventions["gae.value_target"] == "reward_to_go":
            targets = [_return(one | alter(one)) for one in environments]
        else:
            targets = [
                [a + v for a, v in zip(column, one["values"], strict=True)]
                for column, one in zip(advantages, environments, strict=True)
            ]
        return {"advantages": transpose(advantages), "value_targets": transpose(targets)}

    return answer


def _returns(alter: Callable[[Series], Series]) -> Any:
    """Return the answer of discounted returns on altered series: GAE with λ = 1 and no values but the bootstrap."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        return {"returns": transpose([_return(one | alter(one)) for one in _environments(inputs)])}

    return answer


def _return(one: Series) -> list[arb]:
    result: list[arb] = []
    following = one.get("open", one["next_values"][-1])
    for t in reversed(range(len(one["rewards"]))):
        if one["truncated"][t]:
            following = one["next_values"][t]
        if one["terminated"][t]:
            following = arb(0)
        following = one["rewards"][t] + one["gamma"] * following
        result.insert(0, following)
    return result


def _td(alter: Callable[[Series], Series]) -> Any:
    """Return the answer of the TD errors on altered series."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        return {"td_errors": transpose([_delta(one | alter(one)) for one in _environments(inputs)])}

    return answer


# ── Alterations of a series ─────────────────────────────────────────────────────────────────────────────────────────


def _late(flags: list[bool]) -> list[bool]:
    return [*flags[1:], flags[-1]]


def _early(flags: list[bool]) -> list[bool]:
    return [False, *flags[:-1]]


def _done_late(one: Series) -> Series:
    return {name: _late(one[name]) for name in ("terminated", "truncated", "cut")}


def _done_early(one: Series) -> Series:
    return {name: _early(one[name]) for name in ("terminated", "truncated", "cut")}


def _last_value_wrong(one: Series) -> Series:
    following = [*one["next_values"][:-1], one["values"][-1]]
    return {"next_values": following}


def _no_bootstrap(one: Series) -> Series:
    return {"next_values": [*one["next_values"][:-1], arb(0)], "open": arb(0)}


def _truncation_is_terminal(one: Series) -> Series:
    return {"terminated": one["cut"]}


def _reset_values(one: Series) -> list[arb]:
    """The value of the next row in place of the final observation's at a truncation."""
    following = [*one["values"][1:], one["next_values"][-1]]
    return [
        row if stopped else value
        for value, row, stopped in zip(one["next_values"], following, one["truncated"], strict=True)
    ]


def _truncation_ignored(one: Series) -> Series:
    return {"next_values": _reset_values(one), "cut": one["terminated"], "truncated": [False] * len(one["cut"])}


def _truncation_reset(one: Series) -> Series:
    return {"next_values": _reset_values(one)}


def _truncation_current(one: Series) -> Series:
    return {
        "next_values": [
            v if stopped else n
            for v, n, stopped in zip(one["values"], one["next_values"], one["truncated"], strict=True)
        ]
    }


def _lambda_ignored(one: Series) -> Series:
    return {"decay": one["gamma"] * exact(0.95)}


def _lambda_one(one: Series) -> Series:
    return {"decay": one["gamma"]}


def _truncation_first(one: Series) -> Series:
    return {"terminated": [d and not c for d, c in zip(one["terminated"], one["truncated"], strict=True)]}


def _missing_gamma(one: Series) -> Series:
    return {"decay": one["lambda"]}


def _no_mask_recursion(one: Series) -> Series:
    return {"cut": [False] * len(one["cut"])}


def _no_mask_delta(one: Series) -> Series:
    return {"terminated": [False] * len(one["terminated"])}


def _unchanged(one: Series) -> Series:
    return {}


def _mask_kills_value(one: Series) -> list[arb]:
    """Â = r + m (λ Â' + (1 − λ) V' …) with γ(1 − d) also on −V: −V is lost at ends and scaled by γ elsewhere."""
    result: list[arb] = []
    following = arb(0)
    for t in reversed(range(len(one["rewards"]))):
        mask = arb(0) if one["terminated"][t] else one["gamma"]
        carried = arb(0) if one["cut"][t] else one["lambda"] * following
        following = one["rewards"][t] + mask * (one["next_values"][t] + carried - one["values"][t])
        result.insert(0, following)
    return result


def _discarded(one: Series) -> list[arb]:
    return list(one["rewards"])


def _flatten_order(inputs: Inputs, conventions: Conventions) -> Outputs:
    right = _gae(_unchanged)(inputs, conventions)
    return {name: _reordered(table) for name, table in right.items()}


def _reordered(table: list[list[arb]]) -> list[list[arb]]:
    """Read a (T, E) table as if its flat form were ordered by environment."""
    width = len(table[0])
    flat = [entry for column in transpose(table) for entry in column]
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def _target_without_advantage(inputs: Inputs, conventions: Conventions) -> Outputs:
    right = _gae(_unchanged)(inputs, conventions)
    return (
        right
        if conventions["gae.value_target"] == "reward_to_go"
        else right | {"value_targets": exact(inputs["values"])}
    )


def _target_of_normalised(inputs: Inputs, conventions: Conventions) -> Outputs:
    right = _gae(_unchanged)(inputs, conventions)
    if conventions["gae.value_target"] == "reward_to_go":
        return right
    flat = [a for row in right["advantages"] for a in row]
    centre, scale = mean(flat), _deviation(flat)
    targets = [
        [(a - centre) / scale + v for a, v in zip(row, values, strict=True)]
        for row, values in zip(right["advantages"], exact(inputs["values"]), strict=True)
    ]
    return {"advantages": right["advantages"], "value_targets": targets}


def _return_unreset(one: Series) -> Series:
    never = [False] * len(one["rewards"])
    return {"terminated": never, "truncated": never}


# ── Normalisation, explained variance, KL estimators ────────────────────────────────────────────────────────────────


def _deviation(numbers: list[arb], ddof: int = 0) -> arb:
    centre = mean(numbers)
    return (total((x - centre) ** 2 for x in numbers) / (len(numbers) - ddof)).sqrt()


def _scale(inputs: Inputs, conventions: Conventions) -> arb:
    return _divisor(_deviation(exact(inputs["advantages"]), int(conventions["advantage.ddof"])), conventions)


def _divisor(deviation: arb, conventions: Conventions) -> arb:
    number, _, form = conventions["advantage.epsilon"].partition("_")
    epsilon = exact(float(number))
    if form == "in_root":
        return (deviation**2 + epsilon).sqrt()
    return deviation.max(epsilon) if form == "at_least" else deviation + epsilon


def _normalise_parentheses(inputs: Inputs, conventions: Conventions) -> Outputs:
    advantages = exact(inputs["advantages"])
    return {"normalized": [a - mean(advantages) / _scale(inputs, conventions) for a in advantages]}


def _normalise_uncentred(inputs: Inputs, conventions: Conventions) -> Outputs:
    return {"normalized": [a / _scale(inputs, conventions) for a in exact(inputs["advantages"])]}


def _normalise_by_variance(inputs: Inputs, conventions: Conventions) -> Outputs:
    advantages = exact(inputs["advantages"])
    variance = _deviation(advantages, int(conventions["advantage.ddof"])) ** 2
    in_root = conventions["advantage.epsilon"] == "1e-8_in_root"  # and the root is forgotten
    scale = variance + exact(1e-8) if in_root else _divisor(variance, conventions)
    return {"normalized": [(a - mean(advantages)) / scale for a in advantages]}


def _normalise_large_epsilon(inputs: Inputs, conventions: Conventions) -> Outputs:
    advantages = exact(inputs["advantages"])
    scale = _deviation(advantages, int(conventions["advantage.ddof"])) + exact(1e-5)
    return {"normalized": [(a - mean(advantages)) / scale for a in advantages]}


def _explained(numerator: str, denominator: str) -> Any:
    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        parts = {"values": exact(inputs["values"]), "targets": exact(inputs["targets"])}
        parts["residuals"] = [t - v for t, v in zip(parts["targets"], parts["values"], strict=True)]
        below = _deviation(parts[denominator]) ** 2
        if numerator == "mean square":
            return {"explained_variance": 1 - mean([e * e for e in parts["residuals"]]) / below}
        return {"explained_variance": 1 - _deviation(parts[numerator]) ** 2 / below}

    return answer


def _explained_ratio(inputs: Inputs, conventions: Conventions) -> Outputs:
    right = _explained("residuals", "targets")(inputs, conventions)["explained_variance"]
    return {"explained_variance": 1 - right}


def _estimators(form: Callable[[arb], tuple[arb, arb, arb]]) -> Any:
    """Return the answer whose k1, k2, k3 are functions of d = new − old."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        pairs = zip(exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"]), strict=True)
        rows = [form(new - old) for old, new in pairs]
        return {name: list(column) for name, column in zip(("k1", "k2", "k3"), zip(*rows, strict=True), strict=True)}

    return answer


_GAE: dict[str, Any] = {
    "gae-done-late": _gae(_done_late),
    "gae-done-early": _gae(_done_early),
    "gae-last-value-wrong-obs": _gae(_last_value_wrong),
    "gae-mask-kills-v": _gae(_unchanged, _mask_kills_value),
    "gae-discarded": _gae(_unchanged, _discarded),
    "gae-missing-gamma": _gae(_missing_gamma),
    "gae-lambda-ignored": _gae(_lambda_ignored),
    "gae-lambda-one": _gae(_lambda_one),
    "gae-no-mask-recursion": _gae(_no_mask_recursion),
    "gae-no-mask-delta": _gae(_no_mask_delta),
    "gae-flatten-order": _flatten_order,
    "ret-no-bootstrap": _gae(_no_bootstrap),
    "vtarget-stale-zero-adv": _target_without_advantage,
    "vtarget-normalised": _target_of_normalised,
}
_TRUNCATION: dict[str, Callable[[Series], Series]] = {
    "gae-trunc-as-terminal": _truncation_is_terminal,
    "gae-trunc-not-boundary": _truncation_ignored,
    "gae-trunc-reset-obs": _truncation_reset,
    "gae-trunc-current-value": _truncation_current,
    "gae-trunc-over-terminated": _truncation_first,
}

MISTAKES: list[Mistake] = [
    *(Mistake(bug, op, answer) for op in ("gae", "gae_rollout") for bug, answer in _GAE.items()),
    *(Mistake(bug, "gae", _gae(alter)) for bug, alter in _TRUNCATION.items()),
    Mistake("gae-done-late", "td_errors", _td(_done_late)),
    Mistake("gae-done-early", "td_errors", _td(_done_early)),
    Mistake("gae-last-value-wrong-obs", "td_errors", _td(_last_value_wrong)),
    Mistake("gae-no-mask-delta", "td_errors", _td(_no_mask_delta)),
    Mistake("ret-no-bootstrap", "td_errors", _td(_no_bootstrap)),
    Mistake("gae-missing-gamma", "td_errors", _td(lambda one: {"gamma": arb(1)})),
    Mistake("gae-done-late", "discounted_returns", _returns(_done_late)),
    Mistake("gae-done-early", "discounted_returns", _returns(_done_early)),
    Mistake("gae-trunc-as-terminal", "discounted_returns", _returns(_truncation_is_terminal)),
    Mistake("gae-trunc-over-terminated", "discounted_returns", _returns(_truncation_first)),
    Mistake("ret-no-bootstrap", "discounted_returns", _returns(lambda one: {"open": arb(0)})),
    Mistake("ret-no-reset", "discounted_returns", _returns(_return_unreset)),
    Mistake("gae-missing-gamma", "discounted_returns", _returns(lambda one: {"gamma": arb(1)})),
    Mistake("advnorm-paren", "normalize_advantages", _normalise_parentheses),
    Mistake("advnorm-uncentred", "normalize_advantages", _normalise_uncentred),
    Mistake("advnorm-by-variance", "normalize_advantages", _normalise_by_variance),
    Mistake("advnorm-large-epsilon", "normalize_advantages", _normalise_large_epsilon),
    Mistake("ev-args-swapped", "explained_variance", _explained("residuals", "values")),
    Mistake("ev-mean-square", "explained_variance", _explained("mean square", "targets")),
    Mistake("ev-unexplained", "explained_variance", _explained_ratio),
    Mistake("akl-sign", "kl_estimators", _estimators(lambda d: (d, d * d / 2, d.exp() - 1 + d))),
    Mistake("akl-k2-no-half", "kl_estimators", _estimators(lambda d: (-d, d * d, d.exp() - 1 - d))),
    Mistake("akl-minus-ratio", "kl_estimators", _estimators(lambda d: (-d.exp(), d * d / 2, d.exp() - 1 - d))),
    Mistake("ratio-inverted", "kl_estimators", _estimators(lambda d: (d, d * d / 2, (-d).exp() - 1 + d))),
]
