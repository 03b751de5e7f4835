"""The loop over time: from where the environments are, T actions in each."""

import copy
from typing import Any

import numpy as np

from refpg.distributions.categorical import log_softmax
from refpg.notation import Array, bind_shapes, count
from refpg.policy import Policy
from refpg.rollout.record import Rollout
from refpg.rollout.world import Generators, Runs, World, chosen, uniforms


def start_runs(world: World, generator: np.random.Generator, *, environments: int) -> Runs:
    """Start environments, each with a generator of its own.

    Parameters
    ----------
    world : World
        The world.
    generator : numpy.random.Generator
        From which one generator for each environment is spawned.
    environments : int
        E ≥ 1.

    Returns
    -------
    Runs
        Of the first E environments: those of a smaller E are the first of a larger one.

    Raises
    ------
    ValueError
        If E < 1, or the world has another number of environments.
    """
    E = count("start_runs", "environments", environments)
    generators = tuple(generator.spawn(E))
    state, observations = world.start(generators)
    return Runs(observations, state, np.zeros(E, dtype=np.int64), np.zeros(E), generators)


def sample_rollout(world: World, policy: Policy, theta: Any, runs: Runs, *, steps: int) -> tuple[Rollout, Runs]:
    """Act in every environment for some steps.

    Parameters
    ----------
    world : World
        The world.
    policy : Policy
        A policy for its observations and actions.
    theta : (P,) array
        Parameters θ, the same in all steps.
    runs : Runs
        Where the environments are, as from `start_runs` or from the rollout before.
    steps : int
        T ≥ 1.

    Returns
    -------
    rollout : Rollout
    runs : Runs
        Where the environments are afterwards.  The runs given are not changed: an embedded world goes on from them
        again with the same result.

    Raises
    ------
    ValueError
        If the policy is not one for this world, a shape disagrees, or T < 1.

    Notes
    -----
    Convention: episodes go on from rollout to rollout; only a world's own rules end them.  A categorical action is the
    inverse of the distribution function at one uniform number, so that T steps and then T' more are T + T' steps.

    Examples
    --------
    Two states, of which the first leads to the second and the second to an end:

    >>> import numpy as np
    >>> from refpg.mdp import MDP
    >>> from refpg.policy import softmax_policy
    >>> from refpg.rollout import FiniteWorld
    >>> onward = [[[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]], [[0.0, 0.0, 1.0]]]
    >>> mdp = MDP(transition=onward, reward=[[1.0], [2.0], [0.0]], start=[1.0, 0.0, 0.0], discount=0.9)
    >>> world, policy = FiniteWorld(mdp), softmax_policy((3, 1))
    >>> runs = start_runs(world, np.random.default_rng(0), environments=1)
    >>> rollout, runs = sample_rollout(world, policy, np.zeros(4), runs, steps=3)
    >>> rollout.rewards.ravel(), rollout.terminated.ravel(), rollout.episode_returns
    (array([1., 2., 1.]), array([False,  True, False]), array([3.]))
    """
    name = "sample_rollout"
    T = count(name, "steps", steps)
    (theta,) = bind_shapes(name, policy.sizes, theta=(theta, "P"))
    world.check(name, policy)
    runs = runs._replace(generators=copy.deepcopy(runs.generators))
    phi_of = world.acting(policy, theta)
    rows: list[tuple[Array, ...]] = []
    finished: list[tuple[float, int]] = []
    for _ in range(T):
        phi = phi_of(runs)
        actions = _drawn(policy, phi, runs.generators)
        step = world.step(runs, actions)
        rows.append(
            (
                runs.observations,
                actions,
                policy.family.log_prob(phi, actions),
                step.rewards,
                step.terminated,
                step.truncated,
                step.next_observations,
                runs.age,
                step.valid,
            )
        )
        returns, age = runs.returns + step.rewards, runs.age + step.valid
        ended = step.terminated | step.truncated
        finished += zip(returns[ended].tolist(), age[ended].tolist(), strict=True)
        runs = Runs(step.observations, step.state, age * ~ended, np.where(ended, 0.0, returns), runs.generators)
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    episode_returns = np.array([returns for returns, _ in finished])
    episode_lengths = np.array([length for _, length in finished], dtype=np.int64)
    return Rollout._make([*columns, episode_returns, episode_lengths]), runs


def _drawn(policy: Policy, phi: Array, generators: Generators) -> Array:
    """Draw one action for each environment, from its own generator."""
    if policy.family.name == "categorical":
        return chosen(np.exp(log_softmax(phi)), uniforms(generators))
    family = policy.family
    return np.concatenate([family.sample(phi[e : e + 1], generator) for e, generator in enumerate(generators)])
