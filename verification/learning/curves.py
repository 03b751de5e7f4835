"""What a run leaves behind, and when it has reached a threshold."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

EPISODES = 100  # of which a threshold takes the mean


class Run(NamedTuple):
    """A learning curve and its examination.

    Fields: what was run: ``environment``, ``library``, ``algorithm``, ``seed``; iteration by iteration ``steps``, the
    actions taken so far, ``episodes`` that ended in it, and their mean return in ``returns``, None without one, not
    discounted and as they were drawn; ``evaluation`` the returns of 100 new episodes with the most probable actions,
    after the last iteration; ``seconds`` of processor time that the training took.
    """

    environment: str
    library: str
    algorithm: str
    seed: int
    steps: Sequence[int]
    episodes: Sequence[int]
    returns: Sequence[float | None]
    evaluation: Sequence[float]
    seconds: float


def latest_mean(run: Run) -> list[tuple[int, float]]:
    """Return, after each iteration, how many episodes the latest iterations had and the mean of their returns.

    They are the fewest iterations that have 100 episodes; all of them, as long as there are fewer.
    """
    means = []
    for end in range(1, len(run.steps) + 1):
        episodes, total = 0, 0.0
        for i in reversed(range(end)):
            if run.episodes[i]:
                episodes += run.episodes[i]
                total += run.episodes[i] * run.returns[i]
            if episodes >= EPISODES:
                break
        means.append((episodes, total / episodes if episodes else np.nan))
    return means


def steps_to(run: Run, threshold: float) -> int | None:
    """Return the actions taken when the mean over the latest 100 episodes first reached a threshold, None if never."""
    for steps, (episodes, mean) in zip(run.steps, latest_mean(run), strict=True):
        if episodes >= EPISODES and mean >= threshold:
            return steps
    return None
