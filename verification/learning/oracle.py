"""On an MDP: how the curve of sampled training approaches the exact one as the batch grows.

::

    d(M) = √ mean over seeds and iterations of (η(π̂_i) − η(π_i))²           π_i exact, π̂_i from M episodes each

Both are the natural gradient of a table of logits on a chain, and every η is exact: what differs is that one takes its
expectations from samples.  They are estimates without bias: λ = 1, rows weighted by γᵗ, and episodes so long that γᵗ is
nothing at their end.  So θ̂ − θ falls like M^(−½), and η is smooth: d does too, in log–log a line of slope −½.  Where M
is small the terms of second order, which fall like M^(−1), make it steeper.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from refpg.mdp import MDP, chain, evaluate
from refpg.network import Network
from refpg.notation import Array
from refpg.policy import Policy, probability_table, softmax_policy
from refpg.rollout import FiniteWorld
from refpg.training import (
    Sampling,
    ValueFitting,
    natural_policy_gradient,
    new_learner,
    sampled_natural_policy_gradient,
)

STATES, DISCOUNT, SLIP = 3, 0.5, 0.1
LENGTH = 20  # actions of an episode: γ^20 = 1e-6
ITERATIONS = 10
MAX_KL, DAMPING = 0.01, 0.01
EPISODES = (64, 128, 256, 512, 1024)


class Approach(NamedTuple):
    """Fields: ``episodes`` M in each iteration; ``distances`` d(M), return units; ``slope`` of log d over log M, by
    least squares, and its ``standard_error`` over seeds; ``exact`` η(π_i); ``seeds``.
    """

    episodes: Sequence[int]
    distances: Sequence[float]
    slope: float
    standard_error: float
    exact: Sequence[float]
    seeds: int


def approach(*, seeds: int, episodes: Sequence[int] = EPISODES, iterations: int = ITERATIONS) -> Approach:
    """Run both for each number of episodes and each seed."""
    mdp = chain(STATES, discount=DISCOUNT, slip=SLIP)
    policy, x = softmax_policy((STATES, 2)), np.eye(STATES)
    theta = np.zeros(policy.network.num_parameters)
    step = {"max_kl": MAX_KL, "damping": DAMPING}
    records = natural_policy_gradient(mdp, policy, theta, x, iterations=iterations, **step)
    exact = np.array([record.expected_return for record in records])
    off = np.array(
        [[_sampled(mdp, policy, theta, seed, M, iterations) - exact for M in episodes] for seed in range(seeds)]
    )
    by_seed = np.sqrt(np.mean(off**2, axis=2))
    distances = np.sqrt(np.mean(off**2, axis=(0, 2)))
    slopes = [_slope(episodes, line) for line in by_seed]
    error = np.std(slopes, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
    return Approach(
        list(episodes), distances.tolist(), _slope(episodes, distances), float(error), exact.tolist(), seeds
    )


def _sampled(mdp: MDP, policy: Policy, theta: Array, seed: int, episodes: int, iterations: int) -> Array:
    """Return the exact η of each policy of a sampled run."""
    world, value_network = FiniteWorld(mdp, time_limit=LENGTH), Network((STATES, 1))
    value_theta = np.zeros(value_network.num_parameters)
    generator = np.random.default_rng([seed, episodes])
    records = sampled_natural_policy_gradient(
        world,
        policy,
        value_network,
        new_learner(
            world, policy, value_network, generator, environments=episodes, theta=theta, value_theta=value_theta
        ),
        iterations=iterations,
        sampling=Sampling(LENGTH, DISCOUNT, 1.0, weighting="discounted", normalization="none"),
        max_kl=MAX_KL,
        damping=DAMPING,
        method="direct",
        cg_iterations=None,
        fitting=ValueFitting(lbfgs_iterations=20),
    )
    x = np.eye(STATES)
    tables = (probability_table(policy, record.learner.theta, x) for record in records)
    return np.array([evaluate(mdp, table).expected_return for table in tables])


def _slope(episodes: Sequence[int], distances: Array) -> float:
    return float(np.polyfit(np.log(episodes), np.log(distances), 1)[0])
