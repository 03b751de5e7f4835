"""Estimates from samples: returns, temporal-difference errors, advantages, KL and importance sampling.

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

from refpg.notation import (
    Array,
    bind_shapes,
    choice,
    count,
    expectation,
    overflow_is_an_error,
    row_weights,
    scalar,
)


class Advantages(NamedTuple):
    """Two arrays of the rollout's shape, return units: ``advantages`` Â and ``value_targets`` Â + V."""

    advantages: Array
    value_targets: Array


class KLEstimates(NamedTuple):
    """Three sample estimates of KL(old ‖ new), (B,) each, nats: ``k1``, ``k2`` and ``k3``."""

    k1: Array
    k2: Array
    k3: Array


# ── backward in time ──────────────────────────────────────────────────────────────────────────────


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
    gamma = scalar(function, "gamma", gamma, least=0, most=1)
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
) -> Advantages:
    """Return the generalised advantage estimates of a rollout, and the value targets they imply.

    ::

        Â_t = Σ_{l ≥ 0} (γλ)^l δ_{t+l},    l up to the end of the episode or of the rollout
            = δ_t + γλ (1 − ended_t) Â_{t+1},    Â_T = 0

        target_t = Â_t + V(s_t)

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

    Returns
    -------
    Advantages
        ``advantages`` Â (not normalised) and ``value_targets`` Â + V, return units.

    Raises
    ------
    ValueError
        If a shape or kind disagrees, or γ or λ lies outside [0, 1].

    Notes
    -----
    Convention: termination and truncation both cut the sum; only termination removes the bootstrap value.
    The sum is not renormalised where it is cut.  Value targets are the λ-returns Â + V, not the returns.

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
    return _gae(r, V, V_next, terminated, terminated | truncated, gamma, gae_lambda)


@overflow_is_an_error
def gae_rollout(rewards: Any, values: Any, dones: Any, last_values: Any, gamma: Any, gae_lambda: Any) -> Advantages:
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

    Returns
    -------
    Advantages
        ``advantages`` Â (not normalised) and ``value_targets`` Â + V, return units.

    Raises
    ------
    ValueError
        If a shape or kind disagrees, or γ or λ lies outside [0, 1].

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
    V_next = np.concatenate([V[1:], V_last[np.newaxis]])
    return _gae(r, V, V_next, done, done, gamma, gae_lambda)


def _gae(
    r: Array, V: Array, V_next: Array, terminated: Array, ended: Array, gamma: float, gae_lambda: float
) -> Advantages:
    delta = _td_errors(r, V, V_next, terminated, gamma)
    A = _backward(delta, ended, (gamma, gae_lambda))
    return Advantages(advantages=A, value_targets=A + V)


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


# ── normalisation ─────────────────────────────────────────────────────────────────────────────────


@overflow_is_an_error
def normalize_advantages(advantages: Any, *, ddof: int = 0, epsilon: Any = 0.0, weights: Any = None) -> Array:
    """Shift advantages to mean 0 and divide them by their standard deviation.

    ::

        Â ← (Â − m) / (σ + ε),    m = Σ w Â,    σ² = N/(N − ddof) Σ w (Â − m)²

    Parameters
    ----------
    advantages : (B,) or (T, E) array
        Â; mean and σ are over all N entries.
    ddof : int
        0 (population) or 1 (Bessel); less than N, and 0 where weights are given.
    epsilon : float
        ε ≥ 0, added to σ, not to σ².
    weights : array, optional
        Weights of the entries, of the shape of ``advantages``, Σ w = 1; 1/N each unless given.

    Returns
    -------
    array
        The shape given, dimensionless.

    Raises
    ------
    ValueError
        If σ + ε = 0 (all entries equal and no ε), ddof ≥ N, ddof goes with weights, ε < 0, or the weights are not
        normalised.

    Notes
    -----
    Convention: ddof, ε and the set of rows (minibatch or batch) differ between libraries; the defaults are
    the population standard deviation and no ε.

    References
    ----------
    [GAE section 6]

    Examples
    --------
    >>> normalize_advantages([1.0, 3.0])
    array([-1.,  1.])
    """
    function = "normalize_advantages"
    shape = _rows_or_rollout(function, "advantages", advantages)
    (A,) = bind_shapes(function, {}, advantages=(advantages, shape))
    ddof = count(function, "ddof", ddof, least=0)
    epsilon = scalar(function, "epsilon", epsilon, least=0)
    if ddof >= A.size:
        raise ValueError(f"{function}: ddof is {ddof}, expected less than the number of advantages, {A.size}")
    if ddof and weights is not None:
        raise ValueError(f"{function}: ddof is {ddof} with weights, expected 0: Bessel's correction counts equal rows")
    w = _weights_of_entries(function, weights, A)
    c = _centred(A, w)
    largest = np.abs(c.real).max()
    if largest == 0:
        if epsilon == 0:
            raise ValueError(f"{function}: advantages has standard deviation 0, expected entries that differ")
        return c
    # σ is formed from c/max|c|, whose squares neither overflow nor underflow.
    sigma = largest * np.sqrt(expectation((c / largest) ** 2, w) * (A.size / (A.size - ddof)))
    normalized: Array = c / (sigma + epsilon)
    return normalized


def _rows_or_rollout(function: str, name: str, value: Any) -> str:
    try:
        return "T E" if np.ndim(value) == 2 else "B"
    except ValueError:
        raise ValueError(f"{function}: {name} is ragged, expected rows of equal length") from None


def _weights_of_entries(function: str, weights: Any, y: Array) -> Array:
    if weights is None:
        return row_weights(function, None, y.ravel()).reshape(y.shape)
    if np.shape(weights) != y.shape:
        raise ValueError(f"{function}: weights has shape {np.shape(weights)}, expected {y.shape}, one for each entry")
    return row_weights(function, np.ravel(weights), y.ravel()).reshape(y.shape)


def _centred(y: Array, w: Array) -> Array:
    # Shifted by one entry first: exact 0 where all are equal, and no digits lost to a large common offset.
    shifted = y - y.flat[0]
    centred: Array = shifted - expectation(shifted, w)
    return centred


@overflow_is_an_error
def explained_variance(values: Any, targets: Any, *, weights: Any = None) -> Any:
    """Return the fraction of the variance of the targets that the values explain.

    ::

        1 − var(R − V) / var(R)

    Parameters
    ----------
    values : (B,) or (T, E) array
        V, return units.
    targets : (B,) or (T, E) array
        R, return units.
    weights : array, optional
        Weights of the entries, of the shape of ``values``, Σ w = 1; 1/N each unless given.

    Returns
    -------
    scalar
        At most 1, dimensionless: 1 if V = R + constant, 0 if V is constant, negative if V is worse than that.

    Raises
    ------
    ValueError
        If a shape disagrees, the targets are all equal, or the weights are not normalised.

    Notes
    -----
    Convention: the denominator is the variance of the targets, not of the values; ddof cancels.  A constant
    offset of the values is forgiven, unlike in the coefficient of determination.

    References
    ----------
    [GAE section 5]

    Examples
    --------
    >>> float(explained_variance([0.5, 1.0], [1.0, 2.0]))
    0.75
    """
    function = "explained_variance"
    shape = _rows_or_rollout(function, "values", values)
    V, R = bind_shapes(function, {}, values=(values, shape), targets=(targets, shape))
    w = _weights_of_entries(function, weights, R)
    total, residual = _centred(R, w), _centred(R - V, w)
    largest = np.abs(total.real).max()
    if largest == 0:
        raise ValueError(f"{function}: targets has variance 0, expected entries that differ")
    return 1 - expectation((residual / largest) ** 2, w) / expectation((total / largest) ** 2, w)


# ── KL from samples ───────────────────────────────────────────────────────────────────────────────


@overflow_is_an_error
def kl_estimators(old_log_prob: Any, new_log_prob: Any) -> KLEstimates:
    """Return three estimates of KL(old ‖ new) from log-probabilities of actions drawn from the old policy.

    ::

        k1 = −log r        k2 = ½ log² r        k3 = r − 1 − log r        r = π_new(a|s) / π_old(a|s)

    Parameters
    ----------
    old_log_prob, new_log_prob : (B,) array
        Log-probabilities of the actions taken, nats.

    Returns
    -------
    KLEstimates
        ``k1``, ``k2``, ``k3``, (B,) each, nats.  Under the old policy E k1 = E k3 = KL(old ‖ new); k2 is
        biased, at third order.  k2 and k3 are never negative, k1 can be.

    Raises
    ------
    ValueError
        If a shape disagrees, or the ratio overflows.

    Notes
    -----
    Convention: actions are drawn from the *first* argument.  A penalty towards a reference draws them from
    π_θ, which is then first, with r = ref/π_θ; differentiated with the actions held fixed, the estimates are
    no longer of one thing: E ∇k1 = 0, E ∇k2 = ∇KL(π_θ ‖ ref), E ∇k3 = ∇KL(ref ‖ π_θ).

    k3 is a series for |log r| < 0.6: expm1(x) − x loses all its digits as x → 0.

    References
    ----------
    [Blog-KL]

    Examples
    --------
    >>> k1, k2, k3 = kl_estimators([0.0], [1e-9])
    >>> float(k1[0]), float(k2[0]), float(k3[0])
    (-1e-09, 5e-19, 5.000000001666667e-19)
    """
    log_r = _log_ratio("kl_estimators", old_log_prob, new_log_prob)
    return KLEstimates(k1=_k1(log_r), k2=_k2(log_r), k3=_k3(log_r))


def _log_ratio(function: str, old_log_prob: Any, new_log_prob: Any) -> Array:
    old, new = bind_shapes(function, {}, old_log_prob=(old_log_prob, "B"), new_log_prob=(new_log_prob, "B"))
    log_r: Array = new - old
    return log_r


def _k1(log_r: Array) -> Array:
    return -log_r


def _k2(log_r: Array) -> Array:
    k2: Array = log_r**2 / 2
    return k2


def _k3(log_r: Array) -> Array:
    small = np.abs(log_r.real) < 0.6
    # x²/2 (1 + x/3 (1 + x/4 (…))): the first term left out, 2·0.6¹⁷/19!, is below the rounding of longdouble.
    x = np.where(small, log_r, 0)
    series = np.ones_like(x)
    for n in range(18, 2, -1):
        series = 1 + x / n * series
    return np.where(small, x**2 / 2 * series, np.expm1(log_r) - log_r)


@overflow_is_an_error
def approximate_kl(old_log_prob: Any, new_log_prob: Any, *, estimator: str = "k3", weights: Any = None) -> Any:
    """Return the mean of one of the estimators of KL(old ‖ new).

    ::

        Σ_b w_b k_b

    Parameters
    ----------
    old_log_prob, new_log_prob : (B,) array
        Log-probabilities of the actions taken, nats.
    estimator : {"k1", "k2", "k3"}
        Which of `kl_estimators`.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Nats.

    Raises
    ------
    ValueError
        If a shape disagrees, the estimator is unknown, or the ratio overflows.

    References
    ----------
    [Blog-KL]

    Examples
    --------
    >>> float(approximate_kl([0.0, 0.0], [1.0, -1.0], estimator="k2"))
    0.5
    """
    choice("approximate_kl", "estimator", estimator, ("k1", "k2", "k3"))
    log_r = _log_ratio("approximate_kl", old_log_prob, new_log_prob)
    k = {"k1": _k1, "k2": _k2, "k3": _k3}[estimator](log_r)
    return expectation(k, row_weights("approximate_kl", weights, k))


# ── importance sampling ───────────────────────────────────────────────────────────────────────────


@overflow_is_an_error
def importance_sampling_mean(log_ratio: Any, values: Any, *, weights: Any = None) -> Any:
    """Return the importance-sampling estimate of an expectation under p from samples of q.

    ::

        E_p[y] = E_q[(p/q) y] ≈ Σ_b w_b exp(ℓ_b) y_b,    ℓ = log p − log q

    Parameters
    ----------
    log_ratio : (B,) array
        ℓ of the samples, which were drawn from q.
    values : (B,) array
        y of the samples.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Unbiased, in the units of y.

    Raises
    ------
    ValueError
        If a shape disagrees, or the ratio overflows.

    Notes
    -----
    With every outcome as a row and q as weights it is E_p[y] exactly.

    References
    ----------
    [TRPO (14)]

    Examples
    --------
    >>> import numpy as np
    >>> float(importance_sampling_mean([np.log(2), -np.log(2)], [1.0, 2.0]))
    1.5
    """
    function = "importance_sampling_mean"
    log_r, y = bind_shapes(function, {}, log_ratio=(log_ratio, "B"), values=(values, "B"))
    rows = np.exp(log_r) * y
    return expectation(rows, row_weights(function, weights, rows))


@overflow_is_an_error
def self_normalized_mean(log_ratio: Any, values: Any, *, weights: Any = None) -> Any:
    """Return the self-normalised importance-sampling estimate of an expectation under p from samples of q.

    ::

        Σ_b w_b exp(ℓ_b) y_b / Σ_b w_b exp(ℓ_b)

    Parameters
    ----------
    log_ratio : (B,) array
        ℓ = log p − log q of the samples, up to a common constant.
    values : (B,) array
        y of the samples.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Between min y and max y; biased, but consistent, and blind to the normalisation of p and q.

    Raises
    ------
    ValueError
        If a shape disagrees.

    References
    ----------
    [TRPO (14)]

    Examples
    --------
    >>> float(self_normalized_mean([1000.0, 1000.0, 0.0], [1.0, 5.0, 7.0]))
    3.0
    """
    function = "self_normalized_mean"
    log_r, y = bind_shapes(function, {}, log_ratio=(log_ratio, "B"), values=(values, "B"))
    w = row_weights(function, weights, log_r + y)
    # The common factor exp(−max ℓ) cancels; the maximum is over the rows that count.
    r = np.exp(np.where(w > 0, log_r - log_r.real[w > 0].max(), -np.inf))
    return expectation(r * y, w) / expectation(r, w)


@overflow_is_an_error
def effective_sample_size(log_ratio: Any) -> Any:
    """Return the number of samples of p that the weighted samples of q are worth.

    ::

        (Σ_b exp ℓ_b)² / Σ_b exp(2ℓ_b)

    Parameters
    ----------
    log_ratio : (B,) array
        ℓ = log p − log q of the samples, up to a common constant.

    Returns
    -------
    scalar
        Between 1 (one sample has all the weight) and B (all weigh the same).

    Raises
    ------
    ValueError
        If the shape disagrees.

    Notes
    -----
    It is B / (1 + the squared coefficient of variation of the ratios).

    Examples
    --------
    >>> float(effective_sample_size([0.0, 0.0, 0.0, -800.0]))
    3.0
    """
    (log_r,) = bind_shapes("effective_sample_size", {}, log_ratio=(log_ratio, "B"))
    r = np.exp(log_r - log_r.real.max())
    return np.sum(r) ** 2 / np.sum(r**2)
