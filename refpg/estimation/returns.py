"""Returns, temporal-difference errors and advantages of a rollout: what is summed backward in time.

A rollout is arrays (T,) or (T, E): T steps of E environments side by side, one episode after another in time.
Two flags end an episode, and nothing else does ::

    terminated_t    the action at t led to a terminal state, worth 0
    truncated_t     the episode was cut after the action at t: V of the observation it led to is the rest

``next_values[t]`` is the value of the observation the action at t led to: at the end of an episode its
*final* observation, not the first one of the next episode.  The last row is open: ``next_values[T − 1]`` is
the rest, unless it terminated.  Where both flags are set, the step terminated.

Everything backward in time is one recursion, y_t = b_t + c_t y_{t+1} with y_T = 0 ::

    δ_t = r_t + γ (1 − terminated_t) V(s_{t+1}) − V(s_t)          TD error            [GAE (10)]
    Â_t = δ_t + γλ (1 − ended_t) Â_{t+1}                           GAE                 [GAE (16)], [PPO (11)]
    R_t = r_t + γ R_{t+1}, continued by V where it was cut         return

Erratum: [PPO (10)] and [PPO (11)] print T − t + 1 as the exponent of their last reward and last TD error.
It is T − t − 1: the recursion gives γ^{T−t−1} r_{T−1} and (γλ)^{T−t−1} δ_{T−1}.  The exponent T − t of V(s_T)
in (10) is right.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array, bind_shapes, choice, overflow_is_an_error, scalar


class Advantages(NamedTuple):
    """Two arrays of the rollout's shape, return units: ``advantages`` Â and ``value_targets``, Â + V or the returns."""

    advantages: Array
    value_targets: Array


@overflow_is_an_error
def discounted_returns(rewards: Any, next_values: Any, terminated: Any, truncated: Any, gamma: Any) -> Array:
    """Return the discounted sum of rewards from each step to the end of its episode.

    ::

        R_t = r_t + γ · 0                   if terminated_t
            = r_t + γ V(s_{t+1})            if truncated_t, or t = T − 1
            = r_t + γ R_{t+1}               otherwise

    Parameters
    ----------
    rewards : (T,) or (T, E) array
        r_t, the reward of the action at t.
    next_values : (T,) or (T, E) array
        V of the observation the action at t led to; read only where an episode is cut.
    terminated, truncated : (T,) or (T, E) bool array
        How the action at t ended the episode, if it did.
    gamma : float
        γ in [0, 1].

    Returns
    -------
    (T,) or (T, E) array
        R, return units.

    Raises
    ------
    ValueError
        If a shape or kind disagrees, or γ lies outside [0, 1].

    Notes
    -----
    Convention: the discount counts from t, not from the start of the episode.

    References
    ----------
    [TRPO section 2], [PPO (10)]

    Examples
    --------
    >>> discounted_returns([1.0, 1.0, 1.0], [9.0, 9.0, 4.0], [False, True, False], [False] * 3, 0.5)
    array([1.5, 1. , 3. ])
    """
    function = "discounted_returns"
    shape = _shape(function, rewards)
    r, V_next, terminated, truncated = bind_shapes(
        function,
        {},
        rewards=(rewards, shape),
        next_values=(next_values, shape),
        terminated=(terminated, f"bool {shape}"),
        truncated=(truncated, f"bool {shape}"),
    )
    return _returns(r, V_next, terminated, truncated, scalar(function, "gamma", gamma, least=0, most=1))


def _returns(r: Array, V_next: Array, terminated: Array, truncated: Array, gamma: float) -> Array:
    cut = truncated.copy()
    cut[-1] = True
    tail = np.where(cut & ~terminated, V_next, 0)
    return _backward(r + gamma * tail, terminated | cut, (gamma,))


@overflow_is_an_error
def td_errors(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: Any) -> Array:
    """Return the temporal-difference error of each step.

    ::

        δ_t = r_t + γ (1 − terminated_t) V(s_{t+1}) − V(s_t)

    Parameters
    ----------
    rewards : (T,) or (T, E) array
        r_t.
    values : (T,) or (T, E) array
        V(s_t), the value of the observation the action was chosen in.
    next_values : (T,) or (T, E) array
        V of the observation the action led to.
    terminated : (T,) or (T, E) bool array
        Whether that observation is terminal, and worth 0.
    gamma : float
        γ in [0, 1].

    Returns
    -------
    (T,) or (T, E) array
        δ, return units.

    Raises
    ------
    ValueError
        If a shape or kind disagrees, or γ lies outside [0, 1].

    Notes
    -----
    Convention: a truncation does not enter; it is a step like any other, valued at its final observation.

    References
    ----------
    [GAE (10)], [PPO (12)]

    Examples
    --------
    >>> td_errors([1.0, 1.0], [2.0, 2.0], [4.0, 4.0], [False, True], 0.5)
    array([ 1., -1.])
    """
    shape = _shape("td_errors", rewards)
    r, V, V_next, terminated = bind_shapes(
        "td_errors",
        {},
        rewards=(rewards, shape),
        values=(values, shape),
        next_values=(next_values, shape),
        terminated=(terminated, f"bool {shape}"),
    )
    return _td_errors(r, V, V_next, terminated, scalar("td_errors", "gamma", gamma, least=0, most=1))


def _td_errors(r: Array, V: Array, V_next: Array, terminated: Array, gamma: float) -> Array:
    return r + gamma * np.where(terminated, 0, V_next) - V


@overflow_is_an_error
def gae(
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    gamma: Any,
    gae_lambda: Any,
    *,
    value_target: str = "lambda_return",
) -> Advantages:
    """Return the generalised advantage estimates of a rollout, and value targets.

    ::

        Â_t = Σ_{l ≥ 0} (γλ)^l δ_{t+l},    l up to the end of the episode or of the rollout
            = δ_t + γλ (1 − ended_t) Â_{t+1},    Â_T = 0

        target_t = Â_t + V(s_t)                            lambda_return
                 = R_t of `discounted_returns`             reward_to_go

    λ = 0 gives the TD error; λ = 1 gives `discounted_returns` − V.

    Parameters
    ----------
    rewards : (T,) or (T, E) array
        r_t.
    values : (T,) or (T, E) array
        V(s_t).
    next_values : (T,) or (T, E) array
        V of the observation the action at t led to, at the end of an episode its final one.
    terminated, truncated : (T,) or (T, E) bool array
        How the action at t ended the episode, if it did.
    gamma : float
        γ in [0, 1].
    gae_lambda : float
        λ in [0, 1].
    value_target : {"lambda_return", "reward_to_go"}
        Whether the value targets depend on λ.

    Returns
    -------
    Advantages
        ``advantages`` Â (not normalised) and ``value_targets``, return units.

    Raises
    ------
    ValueError
        If a shape or kind disagrees, γ or λ lies outside [0, 1], or the value target is unknown.

    Notes
    -----
    Convention: termination and truncation both cut the sum; only termination removes the bootstrap value.
    The sum is not renormalised where it is cut.  Value targets are the λ-returns Â + V unless asked otherwise.

    References
    ----------
    [GAE (16)], [PPO (11)], [PPO (12)]

    Examples
    --------
    With V = 0 and γ = 1 the estimate is a λ-weighted sum of rewards:

    >>> zero, never = [0.0, 0.0, 0.0], [False, False, False]
    >>> gae([4.0, 2.0, 1.0], zero, zero, never, never, 1.0, 0.5).advantages
    array([5.25, 2.5 , 1.  ])
    """
    shape = _shape("gae", rewards)
    r, V, V_next, terminated, truncated = bind_shapes(
        "gae",
        {},
        rewards=(rewards, shape),
        values=(values, shape),
        next_values=(next_values, shape),
        terminated=(terminated, f"bool {shape}"),
        truncated=(truncated, f"bool {shape}"),
    )
    gamma = scalar("gae", "gamma", gamma, least=0, most=1)
    gae_lambda = scalar("gae", "gae_lambda", gae_lambda, least=0, most=1)
    choice("gae", "value_target", value_target, ("lambda_return", "reward_to_go"))
    return _gae(r, V, V_next, terminated, truncated, gamma, gae_lambda, value_target)


@overflow_is_an_error
def gae_rollout(
    rewards: Any,
    values: Any,
    dones: Any,
    last_values: Any,
    gamma: Any,
    gae_lambda: Any,
    *,
    value_target: str = "lambda_return",
) -> Advantages:
    """Return `gae` from a rollout buffer, which holds no values of final observations.

    ::

        next_values_t = values_{t+1},    next_values_{T−1} = last_values,    terminated = dones

    Parameters
    ----------
    rewards : (T,) or (T, E) array
        r_t.
    values : (T,) or (T, E) array
        V(s_t).
    dones : (T,) or (T, E) bool array
        Whether the action at t ended the episode.
    last_values : scalar or (E,) array
        V of the observations after the last row; ignored where the last row is done.
    gamma : float
        γ in [0, 1].
    gae_lambda : float
        λ in [0, 1].
    value_target : {"lambda_return", "reward_to_go"}
        As in `gae`.

    Returns
    -------
    Advantages
        ``advantages`` Â (not normalised) and ``value_targets``, return units.

    Raises
    ------
    ValueError
        If a shape or kind disagrees, γ or λ lies outside [0, 1], or the value target is unknown.

    Notes
    -----
    Convention: ``dones[t]`` belongs to the action at t; it does not say that observation t starts an episode.
    Every done is taken for a termination; where truncations are to be kept apart, use `gae`.

    References
    ----------
    [PPO (11)], [PPO (12)], [GAE (16)]

    Examples
    --------
    >>> gae_rollout([1.0, 1.0], [0.0, 0.0], [False, False], 8.0, 0.5, 0.5).advantages
    array([2.25, 5.  ])
    """
    shape = _shape("gae_rollout", rewards)
    r, V, done, V_last = bind_shapes(
        "gae_rollout",
        {},
        rewards=(rewards, shape),
        values=(values, shape),
        dones=(dones, f"bool {shape}"),
        last_values=(last_values, shape.removeprefix("T").strip()),
    )
    gamma = scalar("gae_rollout", "gamma", gamma, least=0, most=1)
    gae_lambda = scalar("gae_rollout", "gae_lambda", gae_lambda, least=0, most=1)
    choice("gae_rollout", "value_target", value_target, ("lambda_return", "reward_to_go"))
    V_next = np.concatenate([V[1:], V_last[np.newaxis]])
    return _gae(r, V, V_next, done, np.zeros_like(done), gamma, gae_lambda, value_target)


def _gae(
    r: Array,
    V: Array,
    V_next: Array,
    terminated: Array,
    truncated: Array,
    gamma: float,
    gae_lambda: float,
    value_target: str,
) -> Advantages:
    delta = _td_errors(r, V, V_next, terminated, gamma)
    A = _backward(delta, terminated | truncated, (gamma, gae_lambda))
    targets = A + V if value_target == "lambda_return" else _returns(r, V_next, terminated, truncated, gamma)
    return Advantages(advantages=A, value_targets=targets)


def _backward(b: Array, ended: Array, factors: tuple[float, ...]) -> Array:
    """Return the solution of y_t = b_t + c_t y_{t+1}, y_T = 0, where c is the product of factors, 0 at an end."""
    # The product is formed in the precision of b, which may be wider than float64.
    c = np.where(ended, 0, np.prod(np.array(factors, b.real.dtype)))
    y = np.empty_like(b)
    y[-1] = b[-1]
    for t in range(len(b) - 2, -1, -1):
        y[t] = b[t] + c[t] * y[t + 1]
    return y


def _shape(function: str, rewards: Any) -> str:
    try:
        return "T" if np.ndim(rewards) == 1 else "T E"
    except ValueError:
        raise ValueError(f"{function}: rewards is ragged, expected rows of equal length") from None
