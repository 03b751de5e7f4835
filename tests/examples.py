"""Small policies of every family, with observations and actions, for the tests of the chapters."""

from typing import NamedTuple

import numpy as np

from refpg.distributions import (
    BERNOULLI,
    CATEGORICAL,
    DIAGONAL_GAUSSIAN,
    SQUASHED_GAUSSIAN,
    Family,
    masked_categorical,
    multi_categorical,
)
from refpg.network import Network
from refpg.notation import Array
from refpg.policy import Batch, Policy, sample

ROWS, FEATURES = 5, 3
MASK = np.array(
    [[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 1, 1], [0, 0, 1, 1]],
    dtype=bool,
)


class Example(NamedTuple):
    """A policy with parameters, observations, actions, a batch and a second parameter vector."""

    policy: Policy
    theta: Array
    theta_new: Array
    x: Array
    actions: Array
    batch: Batch


def _policy(family: Family, outputs: int, activation: str, free: int = 0, hidden: tuple[int, ...] = (4,)) -> Policy:
    return Policy(family, Network((FEATURES, *hidden, outputs), activation, free))


POLICIES = {
    "categorical": _policy(CATEGORICAL, 4, "tanh"),
    "masked categorical": _policy(masked_categorical(MASK), 4, "silu"),
    "multi-categorical": _policy(multi_categorical((2, 3)), 5, "softplus"),
    "bernoulli": _policy(BERNOULLI, 2, "gelu"),
    "gaussian, free log-std": _policy(DIAGONAL_GAUSSIAN, 2, "tanh", free=2),
    "gaussian, state-dependent log-std": _policy(DIAGONAL_GAUSSIAN, 4, "elu", hidden=(4, 6)),
    "squashed gaussian": _policy(SQUASHED_GAUSSIAN, 2, "tanh", free=2),
}


def example(name: str, seed: int = 0, change: float = 0.3) -> Example:
    """Return the named policy at seeded random parameters; θ_new lies about ``change`` away from θ."""
    policy = POLICIES[name]
    generator = np.random.default_rng([seed, *name.encode()])
    P = policy.network.num_parameters
    theta = generator.normal(scale=0.7, size=P)
    theta_new = theta + change * generator.normal(size=P) / np.sqrt(P)
    x = generator.normal(size=(ROWS, FEATURES))
    actions = sample(policy, theta, x, generator)
    advantages = generator.normal(size=ROWS)
    return Example(policy, theta, theta_new, x, actions, Batch(x, actions, advantages))
