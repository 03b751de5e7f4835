"""What a world is: E environments, how they start, how they move, and what is known of where they are."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from refpg.notation import Array
from refpg.policy import Policy

Generators = tuple[np.random.Generator, ...]


class Runs(NamedTuple):
    """Where E environments are: all that sampling goes on from.

    Fields: ``observations`` (E, D), in which the next actions are chosen; ``state`` the world's own; ``age`` (E,)
    actions since the last start; ``returns`` (E,) rewards since then, not discounted; ``generators`` one for each
    environment.
    """

    observations: Array
    state: Any
    age: Array
    returns: Array
    generators: Generators


class Step(NamedTuple):
    """What one action in each environment led to.

    Fields: ``state`` the world's own, from which to go on; ``observations`` (E, D) in which the next actions are
    chosen, of a new episode where one ended; ``next_observations`` (E, D) what the actions led to, at an end the
    *final* observation; ``rewards`` (E,); ``terminated``, ``truncated`` (E,) bool; ``valid`` (E,) bool, False where no
    action was taken because the environment was starting again.
    """

    state: Any
    observations: Array
    next_observations: Array
    rewards: Array
    terminated: Array
    truncated: Array
    valid: Array


class World(Protocol):
    """E environments and how they move.  What is drawn for an environment is drawn from its own generator."""

    def check(self, function: str, policy: Policy) -> None:
        """Refuse, in the name of a function, a policy whose observations or actions are not those of the world."""

    def start(self, generators: Generators) -> tuple[Any, Array]:
        """Start all environments, one for each generator; return the world's own state and the observations (E, D)."""

    def acting(self, policy: Policy, theta: Array) -> Callable[[Runs], Array]:
        """Return the function from where the environments are to φ (E, K), for as long as θ stays."""

    def step(self, runs: Runs, actions: Array) -> Step:
        """Act in every environment."""


def uniforms(generators: Generators) -> Array:
    """Draw one number from [0, 1) for each environment."""
    return np.array([generator.random() for generator in generators])


def chosen(probabilities: Array, u: Array) -> Array:
    """Return, for each row of probabilities (E, N) and number u (E,) in [0, 1), where the cumulative sum passes u.

    ::

        min {j : p_0 + … + p_j > u Σ p}

    An entry of probability 0 is never chosen, whatever rounding does.
    """
    cumulative = np.cumsum(probabilities, axis=1)
    passed: Array = np.sum(cumulative <= (u * cumulative[:, -1])[:, np.newaxis], axis=1)
    return passed
