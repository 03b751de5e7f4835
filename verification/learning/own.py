"""A run of refpg: `refpg.training.sampled_ppo`, `sampled_trpo` or `sampled_natural_policy_gradient`."""

from collections.abc import Iterator
from time import process_time
from typing import Any

import numpy as np

from refpg.network import Network
from refpg.policy import Policy, distribution_parameters, gaussian_policy, softmax_policy
from refpg.rollout import FiniteWorld
from refpg.training import (
    SampledIteration,
    Sampling,
    ValueFitting,
    new_learner,
    sampled_natural_policy_gradient,
    sampled_ppo,
    sampled_trpo,
)
from verification.learning.curves import Run
from verification.learning.evaluation import examine
from verification.learning.problems import HIDDEN, PPO, TRPO, Problem, world

LIBRARY = "refpg"
ALGORITHMS = ("ppo", "trpo", "natural_policy_gradient")


def train(environment: str, algorithm: str, seed: int, problem: Problem) -> Run:
    """Train for the budget, then be examined."""
    began = process_time()
    environments = world(environment, problem.environments)
    policy = _policy(environments)
    value_network = Network((policy.network.sizes[0], *HIDDEN, 1), "tanh")
    learner = new_learner(
        environments, policy, value_network, np.random.default_rng(seed), environments=problem.environments
    )
    start = (environments, policy, value_network, learner)
    settings = problem.algorithms[algorithm]
    iterations = problem.iterations(algorithm)
    records = list(_LOOPS[algorithm](start, settings, iterations))
    seconds = process_time() - began
    theta = records[-1].learner.theta

    def most_probable(observations: Any) -> Any:
        phi = distribution_parameters(policy, theta, observations)
        return phi.argmax(axis=1) if policy.family.name == "categorical" else phi[:, : phi.shape[1] // 2]

    return Run(
        environment,
        LIBRARY,
        algorithm,
        seed,
        steps=[record.steps for record in records],
        episodes=[record.episodes for record in records],
        returns=[record.mean_return for record in records],
        evaluation=examine(environment, seed, most_probable),
        seconds=seconds,
    )


def _policy(environments: Any) -> Policy:
    if isinstance(environments, FiniteWorld):
        return softmax_policy((environments.observations.shape[1], *HIDDEN, environments.mdp.actions))
    make = softmax_policy if environments.family == "categorical" else gaussian_policy
    return make((environments.observation_size, *HIDDEN, environments.action_size))


def _ppo(start: Any, at: PPO, iterations: int) -> Iterator[SampledIteration]:
    return sampled_ppo(
        *start,
        iterations=iterations,
        sampling=Sampling(at.steps, at.gamma, at.gae_lambda, normalization="minibatch", advantage_ddof=1),
        epochs=at.epochs,
        minibatch=at.minibatch,
        learning_rate=lambda iteration: at.learning_rate * (1 - (iteration - 1) / iterations),
        clip=at.clip,
        epsilon=at.epsilon,
        value_coefficient=at.value_coefficient,
        max_gradient_norm=at.max_gradient_norm,
        gradient_norm_epsilon=1e-6,
    )


def _shared(at: TRPO, iterations: int) -> dict[str, Any]:
    return {
        "iterations": iterations,
        "sampling": Sampling(at.steps, at.gamma, at.gae_lambda, normalization="batch", advantage_ddof=1),
        "max_kl": at.max_kl,
        "damping": at.damping,
        "cg_iterations": at.cg_iterations,
        "fitting": ValueFitting(at.epochs, at.minibatch, at.learning_rate, at.epsilon),
    }


def _trpo(start: Any, at: TRPO, iterations: int) -> Iterator[SampledIteration]:
    return sampled_trpo(
        *start,
        backtrack=at.backtrack,
        max_backtracks=at.max_backtracks,
        accept="improves_and_kl_strict",
        direction="new_old",
        **_shared(at, iterations),
    )


def _natural_policy_gradient(start: Any, at: TRPO, iterations: int) -> Iterator[SampledIteration]:
    return sampled_natural_policy_gradient(*start, **_shared(at, iterations))


_LOOPS = {"ppo": _ppo, "trpo": _trpo, "natural_policy_gradient": _natural_policy_gradient}
