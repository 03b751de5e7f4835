"""A run of stable-baselines3's PPO or sb3-contrib's TRPO, with the settings, the network and the budget of refpg's.

What stays different is theirs: float32, the order of random draws, and in TRPO the start and stop of conjugate
gradients.  Their learning rate is a function of what is left *after* an iteration's rollout; its values are refpg's.
"""

from time import process_time
from typing import Any

import torch
from sb3_contrib import TRPO as ContribTRPO
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from verification.learning.curves import Run
from verification.learning.evaluation import examine
from verification.learning.problems import HIDDEN, PEERS, PPO, TRPO, Problem


def train(environment: str, algorithm: str, seed: int, problem: Problem) -> Run:
    """Train for the budget, then be examined."""
    torch.set_num_threads(1)
    began = process_time()
    environments = make_vec_env(environment, n_envs=problem.environments, seed=seed)
    settings = problem.algorithms[algorithm]
    iterations = problem.iterations(algorithm)
    make, keywords = _MAKERS[algorithm](settings, iterations)
    model = make(
        "MlpPolicy",
        environments,
        n_steps=settings.steps,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        normalize_advantage=True,
        policy_kwargs={
            "net_arch": {"pi": list(HIDDEN), "vf": list(HIDDEN)},
            "activation_fn": torch.nn.Tanh,
            "optimizer_kwargs": {"eps": settings.epsilon},
        },
        seed=seed,
        device="cpu",
        **keywords,
    )
    curve = _Curve()
    model.learn(iterations * settings.steps * problem.environments, callback=curve)
    seconds = process_time() - began

    def most_probable(observations: Any) -> Any:
        return model.predict(observations.astype("float32"), deterministic=True)[0]

    return Run(
        environment,
        PEERS[algorithm],
        algorithm,
        seed,
        steps=curve.steps,
        episodes=[len(ended) for ended in curve.ended],
        returns=[sum(ended) / len(ended) if ended else None for ended in curve.ended],
        evaluation=examine(environment, seed, most_probable),
        seconds=seconds,
    )


class _Curve(BaseCallback):
    """What refpg's records say, in the library's words: the returns of the episodes that ended in each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.ended: list[list[float]] = []

    def _on_rollout_start(self) -> None:
        self.ended.append([])

    def _on_step(self) -> bool:
        self.ended[-1] += [float(info["episode"]["r"]) for info in self.locals["infos"] if "episode" in info]
        return True

    def _on_rollout_end(self) -> None:
        self.steps.append(self.num_timesteps)


def _ppo(at: PPO, iterations: int) -> tuple[Any, dict[str, Any]]:
    return SB3PPO, {
        "n_epochs": at.epochs,
        "batch_size": at.minibatch,
        "learning_rate": lambda left: at.learning_rate * (left + 1 / iterations),
        "clip_range": at.clip,
        "ent_coef": 0.0,
        "vf_coef": at.value_coefficient,
        "max_grad_norm": at.max_gradient_norm,
    }


def _trpo(at: TRPO, iterations: int) -> tuple[Any, dict[str, Any]]:
    return ContribTRPO, {
        "target_kl": at.max_kl,
        "cg_damping": at.damping,
        "cg_max_steps": at.cg_iterations,
        "line_search_shrinking_factor": at.backtrack,
        "line_search_max_iter": at.max_backtracks,
        "n_critic_updates": at.epochs,
        "batch_size": at.minibatch,
        "learning_rate": at.learning_rate,
    }


_MAKERS = {"ppo": _ppo, "trpo": _trpo}
