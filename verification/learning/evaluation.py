"""One examination for all: 100 new episodes with the most probable actions, the same beginnings for everybody."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refpg.rollout import Runs, start_runs
from verification.learning.curves import EPISODES
from verification.learning.problems import world

_BEGINNINGS = 20_000  # far from the seeds that anybody trains with


def examine(name: str, seed: int, choose: Callable[[Any], Any]) -> list[float]:
    """Return the returns of 100 episodes in which an observation (E, D) is answered by actions."""
    environments = world(name, EPISODES)
    runs = start_runs(environments, np.random.default_rng(_BEGINNINGS + seed), environments=EPISODES)
    returns, running = np.zeros(EPISODES), np.ones(EPISODES, dtype=bool)
    while running.any():
        step = environments.step(runs, choose(runs.observations))
        returns += running * step.rewards
        ended = step.terminated | step.truncated
        running &= ~ended
        runs = Runs(step.observations, step.state, (runs.age + 1) * ~ended, runs.returns, runs.generators)
    return returns.tolist()
