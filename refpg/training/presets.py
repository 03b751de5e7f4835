"""The choices that papers and libraries made, as keywords of the sampled loops.

``paper`` is what [PPO App. A] and [TRPO App. D] print for continuous control.  TRPO's paper has no value network and
prints no damping: λ = 0.1, the fit of that network and the number of steps, which is PPO's, are this package's choice.
``stable-baselines3`` are the defaults of that library's PPO, and of sb3-contrib's TRPO, in version 2.9.  The number of
environments is not among them, because a learner has it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from refpg.training.sampled import Sampling, ValueFitting

PPO_PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": MappingProxyType(
            {
                "sampling": Sampling(steps=2048, gamma=0.99, gae_lambda=0.95),
                "clip": 0.2,
                "epochs": 10,
                "minibatch": 64,
                "learning_rate": 3e-4,
            }
        ),
        "stable-baselines3": MappingProxyType(
            {
                "sampling": Sampling(
                    steps=2048,
                    gamma=0.99,
                    gae_lambda=0.95,
                    normalization="minibatch",
                    advantage_ddof=1,
                    advantage_epsilon=1e-8,
                ),
                "clip": 0.2,
                "epochs": 10,
                "minibatch": 64,
                "learning_rate": 3e-4,
                "epsilon": 1e-5,
                "value_coefficient": 0.5,
                "max_gradient_norm": 0.5,
                "gradient_norm_epsilon": 1e-6,
            }
        ),
    }
)

TRPO_PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": MappingProxyType(
            {
                "sampling": Sampling(steps=2048, gamma=0.99, gae_lambda=1.0),
                "max_kl": 0.01,
                "damping": 0.1,
                "cg_iterations": 10,
                "fitting": ValueFitting(epochs=10, minibatch=64, learning_rate=3e-4),
            }
        ),
        "stable-baselines3": MappingProxyType(
            {
                "sampling": Sampling(
                    steps=2048,
                    gamma=0.99,
                    gae_lambda=0.95,
                    normalization="batch",
                    advantage_ddof=1,
                    advantage_epsilon=1e-8,
                ),
                "max_kl": 0.01,
                "damping": 0.1,
                "cg_iterations": 15,
                "backtrack": 0.8,
                "max_backtracks": 10,
                "accept": "improves_and_kl_strict",
                "direction": "new_old",
                "fitting": ValueFitting(epochs=10, minibatch=128, learning_rate=1e-3, epsilon=1e-5),
            }
        ),
    }
)
