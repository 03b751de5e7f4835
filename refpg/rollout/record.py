"""The record of a rollout, and what follows from it: values, advantages, the batch of an update."""

from typing import Any, NamedTuple

import numpy as np

from refpg import network as networks
from refpg.estimation import Advantages, gae, gae_rollout
from refpg.network import Network
from refpg.notation import Array, bind_shapes, choice, scalar
from refpg.policy import Batch

WEIGHTINGS = ("uniform", "discounted")


class Rollout(NamedTuple):
    """T steps of E environments, one episode after another, time first.

    Fields: ``observations`` (T, E, D); ``actions`` (T, E, ...) as the family has them, before any clipping to bounds;
    ``log_prob`` (T, E) of them when they were drawn, nats; ``rewards`` (T, E); ``terminated`` and ``truncated`` (T, E)
    bool, how the action at t ended its episode, if it did; ``next_observations`` (T, E, D), what the action led to, at
    an end the episode's final observation; ``age`` (T, E), the number of actions before this one in its episode;
    ``valid`` (T, E) bool, False in rows that are no transitions (see `refpg.rollout.gym`); ``episode_returns`` and
    ``episode_lengths`` (M,) of the episodes that ended here, in the order in which they ended, not discounted.
    """

    observations: Array
    actions: Array
    log_prob: Array
    rewards: Array
    terminated: Array
    truncated: Array
    next_observations: Array
    age: Array
    valid: Array
    episode_returns: Array
    episode_lengths: Array


def rollout_values(rollout: Rollout, network: Network, theta: Any) -> tuple[Array, Array]:
    """Return the values of all observations of a rollout, and of all observations that its actions led to.

    Parameters
    ----------
    rollout : Rollout
        The rollout.
    network : Network
        The value network, with one output.
    theta : array
        Its parameters.

    Returns
    -------
    values, next_values : (T, E) arrays
        V(s_t) and V(s_{t+1}), the latter at the end of an episode of its final observation.

    Raises
    ------
    ValueError
        If the network has more than one output, or a shape disagrees.
    """
    if network.num_outputs != 1:
        raise ValueError(f"rollout_values: network has {network.num_outputs} outputs, expected 1")
    shape = rollout.rewards.shape
    values, next_values = (
        networks.forward(network, theta, x.reshape(-1, x.shape[-1])).reshape(shape)
        for x in (rollout.observations, rollout.next_observations)
    )
    return values, next_values


def rollout_advantages(
    rollout: Rollout,
    values: Any,
    next_values: Any,
    gamma: float,
    gae_lambda: float,
    *,
    value_target: str = "lambda_return",
) -> Advantages:
    """Return `refpg.estimation.gae` of a rollout.

    Parameters
    ----------
    rollout : Rollout
        The rollout.
    values, next_values : (T, E) arrays
        V(s_t), and V of what the action at t led to, as from `rollout_values`.
    gamma, gae_lambda, value_target
        As in `refpg.estimation.gae`.

    Returns
    -------
    Advantages
        Â and value targets, (T, E) each.  Rows that are not ``valid`` hold numbers without a meaning.

    Raises
    ------
    ValueError
        As `refpg.estimation.gae`.

    Notes
    -----
    A row that is not valid follows the end of an episode, where the sum is cut: it enters no other row.

    References
    ----------
    [GAE (16)], [PPO (11)]
    """
    return gae(
        rollout.rewards,
        values,
        next_values,
        rollout.terminated,
        rollout.truncated,
        gamma,
        gae_lambda,
        value_target=value_target,
    )


def buffer_advantages(
    rollout: Rollout, values: Any, next_values: Any, gamma: float, gae_lambda: float
) -> Advantages:
    """Return the same advantages by way of a rollout buffer, as libraries compute them.

    ::

        r_t + γ V(s_{t+1})  where truncated        dones = terminated or truncated

    The value of the final observation is paid as a reward, and the step is a done one: `refpg.estimation.gae_rollout`
    then has all it needs, and gives what `rollout_advantages` gives up to rounding.

    Parameters
    ----------
    rollout, values, next_values, gamma, gae_lambda
        As in `rollout_advantages`.

    Returns
    -------
    Advantages

    Raises
    ------
    ValueError
        As `refpg.estimation.gae_rollout`.

    References
    ----------
    [PPO (11)]
    """
    cut = rollout.truncated & ~rollout.terminated
    rewards = rollout.rewards + gamma * np.where(cut, next_values, 0)
    dones = rollout.terminated | rollout.truncated
    return gae_rollout(rewards, values, dones, np.asarray(next_values)[-1], gamma, gae_lambda)


def rollout_batch(
    rollout: Rollout, advantages: Any, *, weighting: str = "uniform", gamma: float | None = None
) -> Batch:
    """Return the valid rows of a rollout as the batch of an update.

    ::

        uniform       w = 1/B                  the mean over all rows, as all libraries take it
        discounted    w ∝ γᵗ, t the age        Σ_s d_π(s) …, the policy gradient of the discounted return

    Parameters
    ----------
    rollout : Rollout
        The rollout.
    advantages : (T, E) array
        Â.
    weighting : {"uniform", "discounted"}
        What a row weighs.
    gamma : float, optional
        γ in [0, 1]: required by "discounted", refused by "uniform".

    Returns
    -------
    Batch
        One row for each valid step, row by row in time, with ``old_log_prob``.

    Raises
    ------
    ValueError
        If a shape disagrees, no row is valid, or γ does not go with the weighting.

    References
    ----------
    [TRPO (14)], [Nota-Thomas]
    """
    name = "rollout_batch"
    T, E = rollout.rewards.shape
    (A,) = bind_shapes(name, {"T": T, "E": E}, advantages=(advantages, "T E"))
    choice(name, "weighting", weighting, WEIGHTINGS)
    if (gamma is None) == (weighting == "discounted"):
        raise ValueError(f"{name}: gamma is {gamma!r} with weighting {weighting!r}; it belongs to 'discounted' alone")
    rows = rollout.valid
    if not rows.any():
        raise ValueError(f"{name}: rollout has no valid row, expected at least one")
    weights = None
    if weighting == "discounted":
        powers = scalar(name, "gamma", gamma, least=0, most=1) ** rollout.age[rows]
        if not powers.sum() > 0:
            raise ValueError(f"{name}: gamma ** age sums to 0 over the rollout, expected a row that still counts")
        weights = powers / powers.sum()
    return Batch(rollout.observations[rows], rollout.actions[rows], A[rows], rollout.log_prob[rows], weights)
