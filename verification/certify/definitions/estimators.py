"""Definitions of the estimators: explicit sums over rewards and errors, no recursion."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from flint import arb

from verification.certify.balls import exact, maximum, mean, rational, total, transpose

Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]


def _end(flags: list[bool], start: int) -> int:
    """Return the last step of the episode that runs at ``start``, or of the data."""
    return next((t for t in range(start, len(flags)) if flags[t]), len(flags) - 1)


def _columns(inputs: Inputs, *names: str) -> list[tuple[Any, ...]]:
    """Return the environments, each as its time series."""
    series = [inputs[name] if isinstance(inputs[name][0][0], bool) else exact(inputs[name]) for name in names]
    return list(zip(*(transpose(one) for one in series), strict=True))


def kl_estimators(inputs: Inputs, conventions: Conventions) -> Outputs:
    """k1 = −log r, k2 = ½ log² r, k3 = r − 1 − log r, as written."""
    rows = list(zip(exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"]), strict=True))
    ratio = [new.exp() / old.exp() for old, new in rows]
    return {
        "k1": [-r.log() for r in ratio],
        "k2": [r.log() * r.log() / 2 for r in ratio],  # not **: it has no square of a ball around 0
        "k3": [r - 1 - r.log() for r in ratio],
    }


def kl_estimators_by_series(inputs: Inputs, conventions: Conventions) -> Outputs:
    """k1, k2 and k3 from the difference d of the log-probabilities, k3 = Σ_{n ≥ 2} dⁿ/n! as ½ d² ₁F₁(1; 3; d)."""
    differences = [
        new - old for old, new in zip(exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"]), strict=True)
    ]
    return {
        "k1": [-d for d in differences],
        "k2": [d * d / 2 for d in differences],
        "k3": [d * d / 2 * arb(d).hypgeom([arb(1)], [arb(3)]) for d in differences],  # ₁F₁(1; 3; d) = 2 (eᵈ − 1 − d)/d²
    }


def discounted_returns(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ_l γˡ r_{t+l} to the end of the episode, plus γⁿ V(next observation) where it did not terminate."""
    columns = _columns(inputs, "rewards", "next_values", "terminated", "truncated")
    return {"returns": transpose([_returns(*one, exact(inputs["gamma"])) for one in columns])}


def _returns(rewards: Any, next_values: Any, terminated: Any, truncated: Any, gamma: arb) -> list[arb]:
    ends = [a or b for a, b in zip(terminated, truncated, strict=True)]
    returns = []
    for t in range(len(rewards)):
        end = _end(ends, t)
        tail = arb(0) if terminated[end] else gamma ** (end - t + 1) * next_values[end]
        returns.append(total(gamma ** (k - t) * rewards[k] for k in range(t, end + 1)) + tail)
    return returns


def discounted_returns_by_gae(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The value target of GAE with λ = 1 and values that are zero except where they bootstrap."""
    columns = _columns(inputs, "rewards", "next_values", "terminated", "truncated")
    gamma = exact(inputs["gamma"])
    result = []
    for rewards, next_values, terminated, truncated in columns:
        last = len(rewards) - 1
        ends = [a or b or t == last for t, (a, b) in enumerate(zip(terminated, truncated, strict=True))]
        following = [v if end else arb(0) for v, end in zip(next_values, ends, strict=True)]
        zero = [arb(0) for _ in rewards]
        result.append(_advantages(rewards, zero, following, terminated, ends, gamma, arb(1)))
    return {"returns": transpose(result)}


def td_errors(inputs: Inputs, conventions: Conventions) -> Outputs:
    """δ_t = r_t + γ V(next observation) − V(s_t), without the second term where the episode terminated."""
    gamma = exact(inputs["gamma"])
    columns = _columns(inputs, "rewards", "values", "next_values", "terminated")
    return {"td_errors": transpose([_td_errors(r, v, n, d, gamma) for r, v, n, d in columns])}


def td_errors_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """the same in exact rational numbers, no rounding at all"""
    rows = zip(*(inputs[name] for name in ("rewards", "values", "next_values", "terminated")), strict=True)
    table = []
    for row in rows:
        errors = []
        for reward, value, following, done in zip(*row, strict=True):
            continuation = 0 if done else Fraction(inputs["gamma"]) * Fraction(following)
            error = Fraction(reward) + continuation - Fraction(value)
            errors.append(rational(error.numerator, error.denominator))
        table.append(errors)
    return {"td_errors": table}


def _td_errors(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: arb) -> list[arb]:
    return [
        reward - value if done else reward + gamma * following - value
        for reward, value, following, done in zip(rewards, values, next_values, terminated, strict=True)
    ]


def _advantages(
    rewards: Any, values: Any, next_values: Any, terminated: Any, ends: Any, gamma: arb, gae_lambda: arb
) -> list[arb]:
    """Â_t = Σ_l (γλ)ˡ δ_{t+l}, l up to the end of the episode [GAE (16)]."""
    delta = _td_errors(rewards, values, next_values, terminated, gamma)
    return [
        total((gamma * gae_lambda) ** (k - t) * delta[k] for k in range(t, _end(ends, t) + 1))
        for t in range(len(rewards))
    ]


def _average_of_steps(
    rewards: Any, values: Any, next_values: Any, terminated: Any, ends: Any, gamma: arb, gae_lambda: arb
) -> list[arb]:
    """(1 − λ) Σ_k λᵏ⁻¹ Â^(k), the k-step estimates [GAE (11)–(15)], the last one carrying the rest of the weight."""
    advantages = []
    for t in range(len(rewards)):
        end = _end(ends, t)
        estimates = []
        reward_sum = arb(0)
        for k in range(t, end + 1):
            reward_sum += gamma ** (k - t) * rewards[k]
            bootstrap = arb(0) if terminated[k] else gamma ** (k - t + 1) * next_values[k]
            estimates.append(reward_sum + bootstrap - values[t])
        weights = [(1 - gae_lambda) * gae_lambda**k for k in range(len(estimates) - 1)]
        weights.append(gae_lambda ** (len(estimates) - 1))
        advantages.append(total(w * a for w, a in zip(weights, estimates, strict=True)))
    return advantages


def _as_steps_to_the_end(rewards: Any, values: Any, next_values: Any, terminated: Any, ends: Any, gamma: arb) -> Any:
    """The returns as V plus the advantage of as many steps as there are."""
    longest = _average_of_steps(rewards, values, next_values, terminated, ends, gamma, arb(1))
    return [a + v for a, v in zip(longest, values, strict=True)]


def _as_sums(rewards: Any, values: Any, next_values: Any, terminated: Any, ends: Any, gamma: arb) -> list[arb]:
    return _returns(rewards, next_values, terminated, ends, gamma)


_RETURNS = {_advantages: _as_sums, _average_of_steps: _as_steps_to_the_end}


def _gae(form: Callable[..., list[arb]], inputs: Inputs, conventions: Conventions) -> Outputs:
    gamma, gae_lambda = exact(inputs["gamma"]), exact(inputs["gae_lambda"])
    columns = _columns(inputs, "rewards", "values", "next_values", "terminated", "truncated")
    advantages, targets = [], []
    for rewards, values, next_values, terminated, truncated in columns:
        ends = [a or b for a, b in zip(terminated, truncated, strict=True)]
        advantages.append(form(rewards, values, next_values, terminated, ends, gamma, gae_lambda))
        if conventions["gae.value_target"] == "lambda_return":
            targets.append([a + v for a, v in zip(advantages[-1], values, strict=True)])
        else:
            targets.append(_RETURNS[form](rewards, values, next_values, terminated, ends, gamma))
    return {"advantages": transpose(advantages), "value_targets": transpose(targets)}


def gae(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Â_t = Σ_l (γλ)ˡ δ_{t+l} as the explicit double sum over the rest of the episode."""
    return _gae(_advantages, inputs, conventions)


def gae_by_steps(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Â_t as the exponentially weighted average of the k-step advantage estimates."""
    return _gae(_average_of_steps, inputs, conventions)


def _as_episodes(inputs: Inputs) -> Inputs:
    """A rollout buffer as episodes: the next value is the one of the next row, the last row's is given."""
    following = [*inputs["values"][1:], inputs["last_values"]]
    never = [[False for _ in row] for row in inputs["dones"]]
    return inputs | {"next_values": following, "terminated": inputs["dones"], "truncated": never}


def gae_rollout(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The double sum of GAE, each done a termination, the next value that of the next row."""
    return _gae(_advantages, _as_episodes(inputs), conventions)


def gae_rollout_by_steps(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The weighted average of the k-step estimates, each done a termination."""
    return _gae(_average_of_steps, _as_episodes(inputs), conventions)


_DIVISORS: dict[str, Callable[[arb], arb]] = {  # of the variance; the float64 numbers
    "0": lambda variance: variance.sqrt(),
    "1e-8": lambda variance: variance.sqrt() + exact(1e-8),
    "1e-6": lambda variance: variance.sqrt() + exact(1e-6),
    "1e-8_in_root": lambda variance: (variance + exact(1e-8)).sqrt(),
    "1e-6_at_least": lambda variance: maximum(variance.sqrt(), exact(1e-6)),
}


def deviation_of(numbers: list[arb], conventions: Conventions) -> arb:
    """s, s² the sum of squared deviations over N − ddof, kept away from 0 as declared."""
    centre = mean(numbers)
    variance = total((x - centre) ** 2 for x in numbers) / (len(numbers) - int(conventions["advantage.ddof"]))
    return divisor_of(variance, conventions)


def divisor_of(variance: arb, conventions: Conventions) -> arb:
    """The standard deviation, kept away from 0 as declared."""
    return _DIVISORS[conventions["advantage.epsilon"]](variance)


def normalize_advantages(inputs: Inputs, conventions: Conventions) -> Outputs:
    """(A − mean)/s, s² the sum of squared deviations over N − ddof, and s kept away from 0 as declared."""
    advantages = exact(inputs["advantages"])
    centre, scale = mean(advantages), deviation_of(advantages, conventions)
    return {"normalized": [(a - centre) / scale for a in advantages]}


def normalize_advantages_by_pairs(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The deviations as means of differences A_i − A_j, the variance as ½ the mean squared difference of pairs."""
    advantages = exact(inputs["advantages"])
    n = len(advantages)
    squares = total((a - b) ** 2 for i, a in enumerate(advantages) for b in advantages[:i])  # n² × population variance
    variance = squares / (n * (n - int(conventions["advantage.ddof"])))
    number, _, form = conventions["advantage.epsilon"].partition("_")
    epsilon = exact(float(number))
    root = (variance + (epsilon if form == "in_root" else 0)).sqrt()
    scale = {"": root + epsilon, "in_root": root, "at_least": root.max(epsilon)}[form]
    return {"normalized": [total(a - b for b in advantages) / n / scale for a in advantages]}


def explained_variance(inputs: Inputs, conventions: Conventions) -> Outputs:
    """1 − var(targets − values)/var(targets), each variance about its own mean."""
    values, targets = exact(inputs["values"]), exact(inputs["targets"])
    residuals = [t - v for t, v in zip(targets, values, strict=True)]
    return {"explained_variance": 1 - _variance(residuals) / _variance(targets)}


def _variance(numbers: list[arb]) -> arb:
    centre = mean(numbers)
    return mean([(x - centre) ** 2 for x in numbers])


def explained_variance_by_covariance(inputs: Inputs, conventions: Conventions) -> Outputs:
    """(2 cov(values, targets) − var(values))/var(targets), the moments about zero."""
    values, targets = exact(inputs["values"]), exact(inputs["targets"])

    def covariance(x: list[arb], y: list[arb]) -> arb:
        return mean([a * b for a, b in zip(x, y, strict=True)]) - mean(x) * mean(y)

    return {
        "explained_variance": (2 * covariance(values, targets) - covariance(values, values))
        / covariance(targets, targets)
    }


DEFINITIONS: dict[str, Callable[[Inputs, Conventions], Outputs]] = {
    "kl_estimators": kl_estimators,
    "discounted_returns": discounted_returns,
    "td_errors": td_errors,
    "gae": gae,
    "gae_rollout": gae_rollout,
    "normalize_advantages": normalize_advantages,
    "explained_variance": explained_variance,
}

ROUTES: dict[str, tuple[Callable[[Inputs, Conventions], Outputs], ...]] = {
    "kl_estimators": (kl_estimators_by_series,),
    "discounted_returns": (discounted_returns_by_gae,),
    "td_errors": (td_errors_in_rationals,),
    "gae": (gae_by_steps,),
    "gae_rollout": (gae_rollout_by_steps,),
    "normalize_advantages": (normalize_advantages_by_pairs,),
    "explained_variance": (explained_variance_by_covariance,),
}
