"""What is learned, for how long, and with which settings: one table for everybody.

The settings are those common in tuned collections of the libraries (γ = 0.9 on Pendulum, where a swing is short; a
learning rate of PPO that falls to zero), after few trials with refpg.  Nothing is normalised but advantages.  All
networks have two hidden layers of 64 tanh units, policy and values apart, orthogonal weights, and log σ = 0 at first.
"""

from collections.abc import Mapping
from typing import NamedTuple

from refpg.mdp import chain
from refpg.rollout import FiniteWorld, World, gym_world

HIDDEN = (64, 64)
EMBEDDED = "chain"
PEERS = {"ppo": "stable-baselines3", "trpo": "sb3-contrib"}  # whose implementation is run beside refpg's


class PPO(NamedTuple):
    """Settings of PPO.

    Fields: ``budget``, the actions taken by all environments together, at least; ``steps`` of each environment in an
    iteration; γ and λ; ``epochs`` over minibatches of ``minibatch`` rows;
    ``learning_rate`` of the first iteration, falling in proportion to what is left of the budget; ``epsilon`` of Adam;
    ``clip`` ε; c₁; the longest gradient.  Advantages are normalised in each minibatch, with ddof 1.
    """

    budget: int
    steps: int
    gamma: float
    gae_lambda: float
    epochs: int
    minibatch: int
    learning_rate: float
    epsilon: float = 1e-5
    clip: float = 0.2
    value_coefficient: float = 0.5
    max_gradient_norm: float = 0.5


class TRPO(NamedTuple):
    """Settings of TRPO, and of the natural gradient, which has no line search.

    Fields: ``budget`` and ``steps`` as in `PPO`; γ and λ; δ, nats; ``damping``; ``cg_iterations``; the line
    search's ``backtrack`` and ``max_backtracks``; how the value network is fitted.  Advantages are normalised over the
    batch, with ddof 1; a candidate must improve L with KL(new ‖ old) < δ.
    """

    budget: int
    steps: int
    gamma: float
    gae_lambda: float
    max_kl: float
    damping: float = 0.1
    cg_iterations: int = 15
    backtrack: float = 0.8
    max_backtracks: int = 10
    epochs: int = 10
    minibatch: int = 128
    learning_rate: float = 1e-3
    epsilon: float = 1e-5


class Problem(NamedTuple):
    """An environment and what is asked of it.

    Fields: ``environments`` side by side; ``threshold`` of the mean return of 100 episodes; ``algorithms`` by name,
    with their settings.
    """

    environments: int
    threshold: float
    algorithms: Mapping[str, PPO | TRPO]

    def iterations(self, algorithm: str) -> int:
        """Return how many iterations the budget takes."""
        settings = self.algorithms[algorithm]
        return -(-settings.budget // (self.environments * settings.steps))


PROBLEMS = {
    "CartPole-v1": Problem(
        8,
        475.0,
        {
            "ppo": PPO(100_000, 128, 0.99, 0.95, 10, 256, 2e-3),
            "trpo": TRPO(100_000, 128, 0.99, 0.95, 0.02),
            "natural_policy_gradient": TRPO(100_000, 128, 0.99, 0.95, 0.02),
        },
    ),
    "Acrobot-v1": Problem(
        16,
        -100.0,
        {
            "ppo": PPO(80_000, 128, 0.99, 0.95, 10, 256, 2e-3),
            "trpo": TRPO(80_000, 128, 0.99, 0.95, 0.02),
        },
    ),
    "Pendulum-v1": Problem(
        8,
        -200.0,
        {
            "ppo": PPO(150_000, 256, 0.9, 0.95, 10, 128, 1e-3),
            "trpo": TRPO(200_000, 256, 0.9, 0.95, 0.02, learning_rate=3e-3),
        },
    ),
    EMBEDDED: Problem(
        8,
        15.0,
        {
            "ppo": PPO(20_000, 64, 0.95, 0.95, 10, 64, 2e-3),
            "trpo": TRPO(20_000, 64, 0.95, 0.95, 0.02),
            "natural_policy_gradient": TRPO(20_000, 64, 0.95, 0.95, 0.02),
        },
    ),
}
GYMNASIUM = tuple(name for name in PROBLEMS if name != EMBEDDED)


def world(name: str, environments: int) -> World:
    """Return so many environments of a name; the embedded one is a walk of 20 steps, of which 16 can be paid."""
    if name == EMBEDDED:
        return FiniteWorld(chain(5, discount=0.95), time_limit=20)
    return gym_world(name, environments=environments)
