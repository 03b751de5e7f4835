"""Laws of returns, temporal-difference errors and generalised advantage estimates."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.law import Gap, at_least, equal, law
from refpg.conformance.laws.ordinary import divisor
from refpg.conformance.laws.rounding import Rounded, join, rounded, sqrt, square, where


def values_after(values: Any, next_values: Any, ended: Any) -> Any:
    """Return the value after each action: that of the next row, but ``next_values`` at an ending and the open end.

    Examples
    --------
    >>> values, there = np.array([[1.0], [2.0], [3.0]]), np.array([[7.0], [8.0], [9.0]])
    >>> values_after(values, there, np.array([[True], [False], [False]]))
    array([[7.],
           [3.],
           [9.]])
    """
    last = np.arange(len(values))[:, None] == len(values) - 1
    return np.where(ended | last, next_values, np.concatenate([values[1:], values[-1:]]))


def _gae(
    f: Answers, rewards: Any, values: Any, next_values: Any, terminated: Any, truncated: Any, gamma: Any, lam: Any
) -> dict[str, Rounded]:
    answer: dict[str, Rounded] = f(
        "gae",
        rewards=rewards,
        values=values,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
        gamma=gamma,
        gae_lambda=lam,
    )
    return answer


def _advantages(f: Answers, *rollout: Any) -> Rounded:
    return _gae(f, *rollout)["advantages"]


def _returns(f: Answers, rewards: Any, next_values: Any, terminated: Any, truncated: Any, gamma: Any) -> Rounded:
    answer: Rounded = f(
        "discounted_returns",
        rewards=rewards,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
        gamma=gamma,
    )
    return answer


def _td_errors(f: Answers, rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: Any) -> Rounded:
    answer: Rounded = f(
        "td_errors", rewards=rewards, values=values, next_values=next_values, terminated=terminated, gamma=gamma
    )
    return answer


@law(
    source="[GAE (10)]",
    ops=("td_errors",),
    draw="trajectories",
    blind="nothing of the TD error",
)
def td_error_is_reward_plus_next_value_less_value(
    f: Answers, rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: float
) -> Iterator[Gap]:
    """δ + V(s) = r + γ V(s') where the action did not terminate the episode, and r where it did."""
    delta = _td_errors(f, rewards, values, next_values, terminated, gamma)
    yield equal(delta + values, where(terminated, rewards, rounded(rewards) + gamma * rounded(next_values)))


@law(
    source="[GAE (16)]",
    ops=("gae", "td_errors"),
    draw="trajectories",
    blind="γ in the decay, and a TD error that is wrong in both",
)
def gae_at_lambda_zero_is_the_td_error(
    f: Answers, rewards: Any, values: Any, next_values: Any, terminated: Any, truncated: Any, gamma: float
) -> Iterator[Gap]:
    """A(λ = 0) = δ."""
    A = _advantages(f, rewards, values, next_values, terminated, truncated, gamma, 0.0)
    yield equal(A, _td_errors(f, rewards, values, next_values, terminated, gamma))


@law(
    source="[GAE (18)]",
    ops=("gae", "discounted_returns"),
    draw="trajectories",
    blind="λ, and mistakes that the return shares",
)
def gae_at_lambda_one_is_the_return_less_the_value(
    f: Answers, rewards: Any, values: Any, terminated: Any, truncated: Any, last_values: Any, gamma: float
) -> Iterator[Gap]:
    """A(λ = 1) = R − V, where each next value is the value of the next row, also across a truncation."""
    next_values = np.concatenate([values[1:], last_values[None]])
    A = _advantages(f, rewards, values, next_values, terminated, truncated, gamma, 1.0)
    yield equal(A, _returns(f, rewards, next_values, terminated, truncated, gamma) - values)


@law(
    source="[GAE (16)]",
    ops=("gae", "td_errors"),
    draw="trajectories",
    blind="a TD error that is wrong in both",
)
def gae_is_recursive(
    f: Answers,
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    gamma: float,
    gae_lambda: float,
) -> Iterator[Gap]:
    """A_t = δ_t + γλ A_{t+1}, and A_t = δ_t at the last row and where the action at t ended the episode."""
    A = _advantages(f, rewards, values, next_values, terminated, truncated, gamma, gae_lambda)
    delta = _td_errors(f, rewards, values, next_values, terminated, gamma)
    ended = terminated | truncated
    following = join([A[1:], rounded(0 * rewards[:1])])
    yield equal(A, where(ended, delta, delta + gamma * gae_lambda * following))


@law(
    source="[GAE (16)]",
    ops=("gae",),
    draw="trajectories",
    blind="what is wrong with the advantage",
)
def value_target_is_advantage_plus_value(
    f: Answers,
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    gamma: float,
    gae_lambda: float,
) -> Iterator[Gap]:
    """V_target = A + V, of the advantages as they are; or, if declared, the return, whatever A is."""
    answer = _gae(f, rewards, values, next_values, terminated, truncated, gamma, gae_lambda)
    target = answer["value_targets"]
    if f.conventions["gae.value_target"] == "reward_to_go":
        yield equal(target, _unfolded(target, rewards, next_values, terminated, truncated, gamma))
    else:
        yield equal(target, answer["advantages"] + values)


def _unfolded(R: Rounded, rewards: Any, next_values: Any, terminated: Any, truncated: Any, gamma: float) -> Rounded:
    last = np.arange(len(rewards))[:, None] == len(rewards) - 1
    following = where(truncated | last, next_values, join([R[1:], rounded(0 * rewards[:1])]))
    return where(terminated, rewards, rounded(rewards) + gamma * following)


@law(
    source="[GAE (16)]",
    ops=("gae",),
    draw="trajectories",
    blind="what is linear, however wrongly",
)
def gae_is_linear(
    f: Answers,
    rewards: Any,
    values: Any,
    next_values: Any,
    other_rewards: Any,
    terminated: Any,
    truncated: Any,
    gamma: float,
    gae_lambda: float,
    factor: float,
) -> Iterator[Gap]:
    """Advantages and value targets are linear in rewards and values together: r + c r' and V give those of r and V
    plus c times those of r' and 0."""
    rest = (terminated, truncated, gamma, gae_lambda)
    whole = _gae(f, rewards + factor * other_rewards, values, next_values, *rest)
    first = _gae(f, rewards, values, next_values, *rest)
    second = _gae(f, other_rewards, 0 * values, 0 * next_values, *rest)
    for name, answer in whole.items():
        yield equal(answer, first[name] + factor * second[name])


@law(
    source="[GAE (16)]",
    ops=("gae",),
    draw="trajectories",
    blind="mistakes inside an episode",
)
def nothing_leaks_across_the_end_of_an_episode(
    f: Answers,
    rewards: Any,
    values: Any,
    next_values: Any,
    other_rewards: Any,
    terminated: Any,
    truncated: Any,
    gamma: float,
    gae_lambda: float,
) -> Iterator[Gap]:
    """Rewards and values after an ending change no advantage up to it; nor does the past change the future."""
    ended = terminated | truncated
    rest = (terminated, truncated, gamma, gae_lambda)
    before = _advantages(f, rewards, values, next_values, *rest)
    T = len(rewards)
    for environment in range(rewards.shape[1]):
        for t in np.flatnonzero(ended[:-1, environment]):
            later = np.arange(T)[:, None] > t
            for change, untouched in ((later, slice(0, t + 1)), (~later, slice(t + 1, T))):
                r, v, after = (part + change * (other_rewards + 1) for part in (rewards, values, next_values))
                A = _advantages(f, r, v, values_after(v, after, ended), *rest)
                yield equal(A[untouched, environment], before[untouched, environment])


@law(
    source="[GAE (16)]",
    ops=("gae",),
    draw="trajectories",
    blind="mistakes that do not reach backwards in time",
)
def the_past_does_not_change_advantages(
    f: Answers,
    rewards: Any,
    values: Any,
    next_values: Any,
    other_rewards: Any,
    terminated: Any,
    truncated: Any,
    gamma: float,
    gae_lambda: float,
    row: int,
) -> Iterator[Gap]:
    """Rewards and values up to a row change no advantage and no value target after it."""
    rest = (terminated, truncated, gamma, gae_lambda)
    past = np.arange(len(rewards))[:, None] <= row
    r, v = (part + past * other_rewards for part in (rewards, values))
    before = _gae(f, rewards, values, next_values, *rest)
    after = _gae(f, r, v, values_after(v, next_values, terminated | truncated), *rest)
    for name, answer in before.items():
        yield equal(after[name][row + 1 :], answer[row + 1 :])


@law(
    source="[GAE (16)]",
    ops=("gae",),
    draw="trajectories",
    blind="mistakes that are made in every environment alike",
)
def environments_do_not_mix(
    f: Answers,
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    gamma: float,
    gae_lambda: float,
    order: Any,
) -> Iterator[Gap]:
    """The advantages of an environment are its own: those of a rollout of it alone, in whatever order they stand."""
    rollout = (rewards, values, next_values, terminated, truncated)
    A = _advantages(f, *rollout, gamma, gae_lambda)
    yield equal(_advantages(f, *(part[:, order] for part in rollout), gamma, gae_lambda), A[:, order])
    for e in range(rewards.shape[1]):
        alone = _advantages(f, *(part[:, e : e + 1] for part in rollout), gamma, gae_lambda)
        yield equal(A[:, e : e + 1], alone)


@law(
    source="[GAE section 4]",
    ops=("gae",),
    draw="trajectories",
    blind="the decay γλ, and endings that both the shaping and the estimate treat wrongly",
)
def shaping_by_a_potential_changes_no_advantage(
    f: Answers,
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    potential: Any,
    gamma: float,
    gae_lambda: float,
) -> Iterator[Gap]:
    """r − γΦ(s') + Φ(s), V + Φ in place of r, V: every TD error, and so every advantage, stays.  Φ = 0 at the end."""
    here, there = potential[:-1], np.where(terminated, 0.0, potential[1:])
    shaped = (rewards - gamma * there + here, values + here, next_values + there)
    rest = (terminated, truncated, gamma, gae_lambda)
    yield equal(_advantages(f, *shaped, *rest), _advantages(f, rewards, values, next_values, *rest))


@law(
    source="[GAE (16)]",
    ops=("gae", "discounted_returns", "td_errors"),
    draw="trajectories",
    blind="all that has no part in an ending",
)
def the_value_after_a_termination_does_not_matter(
    f: Answers,
    rewards: Any,
    values: Any,
    next_values: Any,
    other_rewards: Any,
    terminated: Any,
    truncated: Any,
    gamma: float,
    gae_lambda: float,
) -> Iterator[Gap]:
    """The next value of a terminated row changes nothing; a termination overrules a truncation."""
    other = np.where(terminated, next_values + other_rewards + 1, next_values)
    both = (rewards, values, next_values), (rewards, values, other)
    yield equal(*(_advantages(f, *one, terminated, truncated, gamma, gae_lambda) for one in both))
    yield equal(*(_td_errors(f, *one, terminated, gamma) for one in both))
    yield equal(*(_returns(f, rewards, v, terminated, truncated, gamma) for v in (next_values, other)))


@law(
    source="[GAE (16)]",
    ops=("gae", "discounted_returns"),
    draw="trajectories",
    blind="all that has no part in a truncation",
)
def a_truncation_is_continued_by_the_value(
    f: Answers,
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    gamma: float,
    gae_lambda: float,
    row: int,
) -> Iterator[Gap]:
    """Truncated at t, the rollout up to t is as if it had been cut there; c more value after it adds γc."""
    truncated = np.zeros_like(terminated)
    truncated[row] = True
    terminated = terminated & ~truncated
    A = _advantages(f, rewards, values, next_values, terminated, truncated, gamma, gae_lambda)
    # The same up to t, where nothing is truncated and the rollout is at its open end.
    r, v, after, ends = (part[: row + 1] for part in (rewards, values, next_values, terminated))
    never = np.zeros_like(ends)
    yield equal(A[: row + 1], _advantages(f, r, v, after, ends, never, gamma, gae_lambda))
    raised = next_values + 1.0 * truncated
    more = _advantages(f, rewards, values, raised, terminated, truncated, gamma, gae_lambda)
    yield equal(more[row] - A[row], gamma)
    R, higher = (_returns(f, rewards, v, terminated, truncated, gamma) for v in (next_values, raised))
    yield equal(higher[row] - R[row], gamma)
    yield equal(R[: row + 1], _returns(f, r, after, ends, never, gamma))


@law(
    source="[PPO (11)]",
    ops=("gae_rollout", "gae"),
    draw="trajectories",
    blind="mistakes that both forms share",
)
def a_rollout_buffer_is_the_same_estimate(
    f: Answers, rewards: Any, values: Any, dones: Any, last_values: Any, gamma: float, gae_lambda: float
) -> Iterator[Gap]:
    """GAE from a rollout buffer is GAE whose next values are the values one row on, and last_values at the open end."""
    buffer = f(
        "gae_rollout",
        rewards=rewards,
        values=values,
        dones=dones,
        last_values=last_values,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    next_values = np.concatenate([values[1:], last_values[None]])
    general = _gae(f, rewards, values, next_values, dones, np.zeros_like(dones), gamma, gae_lambda)
    for name in ("advantages", "value_targets"):
        yield equal(buffer[name], general[name])


@law(
    source="[PPO (11)]",
    ops=("gae_rollout",),
    draw="trajectories",
    blind="nothing of the advantages",
)
def a_rollout_buffer_unfolds(
    f: Answers, rewards: Any, values: Any, dones: Any, last_values: Any, gamma: float, gae_lambda: float
) -> Iterator[Gap]:
    """A_t + V_t = r_t + (1 − done_t) γ (V_{t+1} + λ A_{t+1}), with done_t said of the action at t; target = A + V."""
    answer = f(
        "gae_rollout",
        rewards=rewards,
        values=values,
        dones=dones,
        last_values=last_values,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    A = answer["advantages"]
    next_values = np.concatenate([values[1:], last_values[None]])
    following = join([A[1:], rounded(0 * rewards[:1])])
    going_on = rounded(rewards) + gamma * (next_values + gae_lambda * following)
    yield equal(A + values, where(dones, rewards, going_on))
    if f.conventions["gae.value_target"] == "reward_to_go":
        target = answer["value_targets"]
        yield equal(target, _unfolded(target, rewards, next_values, dones, np.zeros_like(dones), gamma))
    else:
        yield equal(answer["value_targets"], A + values)


@law(
    source="[TRPO section 2]",
    ops=("discounted_returns",),
    draw="trajectories",
    blind="nothing of the returns",
)
def returns_unfold(
    f: Answers, rewards: Any, next_values: Any, terminated: Any, truncated: Any, gamma: float
) -> Iterator[Gap]:
    """R_t = r_t + γ R_{t+1}; r_t at a termination; r_t + γ V(s') at a truncation and at the open end."""
    R = _returns(f, rewards, next_values, terminated, truncated, gamma)
    yield equal(R, _unfolded(R, rewards, next_values, terminated, truncated, gamma))


@law(
    source="[GAE section 6]",
    ops=("normalize_advantages",),
    draw="samples",
    blind="the order of the rows",
)
def normalised_advantages_have_mean_zero_and_deviation_one(f: Answers, advantages: Any) -> Iterator[Gap]:
    """The mean is 0 and the standard deviation 1, or σ/(σ + ε) and the like, as declared."""
    normal = f("normalize_advantages", advantages=advantages)
    ddof = int(f.conventions["advantage.ddof"])
    yield equal(normal.mean(), 0.0)
    A = rounded(advantages)
    deviation, new = (sqrt(square(x - x.mean()).sum() / (len(x) - ddof)) for x in (A, normal))
    yield equal(new, deviation / divisor(deviation, f.conventions))


@law(
    source="[GAE section 6]",
    ops=("normalize_advantages",),
    draw="samples",
    blind="any standardised score, by whatever deviation",
)
def normalisation_forgets_shift_and_scale(
    f: Answers, advantages: Any, shift: float, factor: float, order: Any
) -> Iterator[Gap]:
    """c + A normalises to the same, cA too (for epsilon = 0), and rows may change places."""
    normal = f("normalize_advantages", advantages=advantages)
    yield equal(f("normalize_advantages", advantages=advantages + shift), normal)
    yield equal(f("normalize_advantages", advantages=advantages[order]), normal[order])
    if f.conventions["advantage.epsilon"] == "0":
        yield equal(f("normalize_advantages", advantages=factor * advantages), normal)


@law(
    source="[GAE section 5]",
    ops=("explained_variance",),
    draw="samples",
    blind="what is wrong with values that are no multiple of the targets",
)
def explained_variance_of_a_multiple(f: Answers, targets: Any, factor: float, shift: float) -> Iterator[Gap]:
    """Values cT + d explain 1 − (1 − c)² of the variance of the targets T."""
    explained = f("explained_variance", values=factor * targets + shift, targets=targets)
    yield equal(explained, 1 - square(1 - rounded(factor)))


@law(
    source="[GAE section 5]",
    ops=("explained_variance",),
    draw="samples",
    blind="a wrong number below 1 that has no unit",
)
def explained_variance_is_at_most_one(
    f: Answers, values: Any, targets: Any, shift: float, factor: float
) -> Iterator[Gap]:
    """The explained variance is at most 1, and knows neither an offset of the values nor the unit of both."""
    explained = f("explained_variance", values=values, targets=targets)
    yield at_least(1.0, explained)
    yield equal(f("explained_variance", values=values + shift, targets=targets), explained)
    yield equal(f("explained_variance", values=factor * values, targets=factor * targets), explained)
