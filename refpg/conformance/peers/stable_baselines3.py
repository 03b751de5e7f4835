"""Stable-Baselines3 as it is installed: its distributions, its rollout buffer, and PPO's ``train()``.

A loss is what ``PPO.train()`` logged, a gradient what its ``loss.backward()`` left, on a real PPO object with a real
rollout buffer.  Where an operation is given log-probabilities or values, and no policy, the policy object answers
with exactly those; where it is given a policy, it is a real ActorCriticPolicy with those weights.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import explained_variance as library_explained_variance
from stable_baselines3.common.vec_env import DummyVecEnv

from refpg.conformance.ops import OPS
from refpg.conformance.peers import _sb3_objects as objects
from refpg.conformance.peers._sb3_distributions import FAMILIES, distribution_ops
from refpg.conformance.peers._sb3_losses import loss_ops
from refpg.conformance.peers.torch import adam_step as adam_step  # the optimizer is torch's

name = "stable-baselines3"
version = version_of("stable-baselines3")

_QUANTITIES = ("log_prob", "entropy", "kl", "score", "fisher")
_FAMILIES = ("categorical", "multi_categorical", "bernoulli", "diagonal_gaussian")
_SQUASHED = ("log_prob", "kl", "score", "fisher")

dtype = {
    "*": "float32",
    **{f"{quantity}_{family}": "float64" for family in _FAMILIES for quantity in _QUANTITIES},
    **{f"{quantity}_squashed_gaussian": "float64" for quantity in _SQUASHED},
    "explained_variance": "float64",
    "adam_step": "float64",
}

conventions = {
    "advantage.ddof": "1",
    "advantage.epsilon": "1e-8",
    "approximate_kl.estimator": "k3",
    "clip_fraction.rule": "outside",
    "value_loss.factor": "1",
    "value_loss.clip": "clipped_only",
}

notes = [
    f"with torch {torch.__version__}, gymnasium {version_of('gymnasium')}",
    "scores, and the Fisher matrices of distributions, are automatic derivatives of the library's log_prob and KL",
    "kl_divergence leaves Box and MultiBinary action dimensions apart; the kl_* operations sum over them",
    "log_prob_squashed_gaussian hands over both the action and the pre-tanh action, with the default epsilon 1e-6",
    "ratio and normalize_advantages are read from the gradient of the policy loss, where they are the only factor",
    "discounted_returns is the rollout's return for values 0 and gae_lambda 1; td_errors a rollout of one step",
    "adam_step is torch.optim.Adam, the optimizer an ActorCriticPolicy builds by default",
    "the permutation that cuts minibatches (numpy.random.permutation) is held: rows in the order given",
    "Box observations are cast to float32 and the rollout buffer holds float32, so what passes there is float32",
]

_MASKED = "action masks are in sb3-contrib; judged there"
_NO_TRUST_REGION = "trust-region methods are in sb3-contrib; judged there"
_NO_MEAN_KL = "kl_divergence returns one value per row or per action dimension; sb3-contrib's TRPO takes the mean"
_ONE_WINDOW = "PPO clips on both sides by one clip_range, and has no second bound"
_NO_KL_PENALTY = "PPO is implemented with the clipped objective only, not with the KL penalty"

unsupported = {
    **{f"{quantity}_masked_categorical": _MASKED for quantity in _QUANTITIES},
    **{f"mean_kl_{family}": _NO_MEAN_KL for family in FAMILIES},
    "entropy_squashed_gaussian": "entropy() returns None; training uses a sample estimate instead",
    "kl_estimators": "only the mean of k3 exists, inside train(); judged as approximate_kl",
    "kl_penalized_objective": _NO_KL_PENALTY,
    "kl_penalty_update": _NO_KL_PENALTY,
    "proportional_kl_penalty_update": _NO_KL_PENALTY,
    "asymmetric_clipped_objective": _ONE_WINDOW,
    "dual_clipped_objective": _ONE_WINDOW,
    "surrogate": _NO_TRUST_REGION,
    "surrogate_gradient": _NO_TRUST_REGION,
    "mean_kl": _NO_TRUST_REGION,
    "mean_kl_gradient": _NO_TRUST_REGION,
    "mean_kl_hessian_vector_product": _NO_TRUST_REGION,
    "fisher_matrix": _NO_TRUST_REGION,
    "fisher_vector_product": _NO_TRUST_REGION,
    "conjugate_gradient": _NO_TRUST_REGION,
    "fisher_conjugate_gradient": _NO_TRUST_REGION,
    "natural_gradient": _NO_TRUST_REGION,
    "natural_gradient_minimum_norm": _NO_TRUST_REGION,
    "step_length": _NO_TRUST_REGION,
    "natural_gradient_step": _NO_TRUST_REGION,
    "expected_improvement": _NO_TRUST_REGION,
    "line_search": _NO_TRUST_REGION,
    "trpo_step": _NO_TRUST_REGION,
    **dict.fromkeys((name for name, op in OPS.items() if op.profile == "theory"), "there are no exact MDPs"),
    **dict.fromkeys((name for name, op in OPS.items() if op.profile == "sequence"), "there are no padded sequences"),
}

Parameters = dict[str, Any]

for _family in _FAMILIES:
    globals().update(distribution_ops(_family, *_QUANTITIES))
globals().update(distribution_ops("squashed_gaussian", *_SQUASHED))
globals().update(loss_ops(PPO, ActorCriticPolicy))


# Estimators: the rollout buffer, and the collection of rollouts that fills it.


def gae_rollout(
    rewards: NDArray[Any],
    values: NDArray[Any],
    dones: NDArray[np.bool_],
    last_values: NDArray[Any],
    gamma: float,
    gae_lambda: float,
) -> dict[str, NDArray[Any]]:
    """Fill a RolloutBuffer and let it compute; an episode starts where the one before has ended."""
    steps, environments = np.shape(rewards)
    buffer = RolloutBuffer(
        steps,
        objects.unbounded(1),
        spaces.Discrete(2),
        device="cpu",
        gamma=float(gamma),
        gae_lambda=float(gae_lambda),
        n_envs=environments,
    )
    episode_starts = np.concatenate([np.ones((1, environments), dtype=bool), dones[:-1]])
    nothing = np.zeros(environments)
    for t in range(steps):
        buffer.add(
            nothing[:, None],
            nothing,
            rewards[t],
            episode_starts[t],
            objects.float32(values[t]),
            objects.float32(nothing),
        )
    buffer.compute_returns_and_advantage(objects.float32(last_values), np.array(dones[-1]))
    return {"advantages": buffer.advantages, "value_targets": buffer.returns}


def td_errors(
    rewards: NDArray[Any],
    values: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    gamma: float,
) -> NDArray[Any]:
    """Treat every transition as a rollout of one step in an environment of its own: the advantage is its TD error."""
    one_step = gae_rollout(
        rewards=np.reshape(rewards, (1, -1)),
        values=np.reshape(values, (1, -1)),
        dones=np.reshape(terminated, (1, -1)),
        last_values=np.ravel(next_values),
        gamma=gamma,
        gae_lambda=0.0,
    )
    return one_step["advantages"].reshape(np.shape(rewards))


def gae(
    rewards: NDArray[Any],
    values: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> dict[str, NDArray[Any]]:
    """Let PPO collect the rollout from environments that replay it; truncations are then its own business."""
    continues = ~(terminated | truncated)[:-1]
    if not np.array_equal(next_values[:-1][continues], values[1:][continues]):
        raise NotImplementedError("a rollout takes the value of the next observation from the next row")
    return _collect(rewards, values, next_values, terminated, truncated, gamma, gae_lambda)


def discounted_returns(
    rewards: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    gamma: float,
) -> NDArray[Any]:
    """Let PPO collect the rollout with values 0 within the episodes and gae_lambda 1: its returns are Monte-Carlo's."""
    open_end = np.zeros_like(terminated)
    open_end[-1] = True
    next_values = np.where(terminated | truncated | open_end, next_values, 0.0)
    values = np.zeros_like(rewards)
    return _collect(rewards, values, next_values, terminated, truncated, gamma, 1.0)["value_targets"]


class _Replay(gymnasium.Env):  # type: ignore[misc,unused-ignore]
    """One environment of a recorded rollout, whose observation is its own value."""

    observation_space = objects.unbounded(1)
    action_space = spaces.Discrete(2)

    def __init__(self, rewards: Any, values: Any, next_values: Any, terminated: Any, truncated: Any) -> None:
        self.rows = list(zip(next_values, rewards, terminated, truncated, strict=True))
        self.first_values = [*values, 0.0]
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Return the observation of the current row; an episode begins there."""
        return np.array([self.first_values[self.t]], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Return the recorded reward and the observation the recorded action led to."""
        next_value, reward, terminated, truncated = self.rows[self.t]
        self.t += 1
        return np.array([next_value], np.float32), float(reward), bool(terminated), bool(truncated), {}


def _collect(
    rewards: Any, values: Any, next_values: Any, terminated: Any, truncated: Any, gamma: float, gae_lambda: float
) -> dict[str, NDArray[Any]]:
    """Run the real ``learn()`` of PPO on the recorded rollout, without its training step.

    The critic is linear with weight 1 and bias 0, so that it returns the observation, which is the value.
    """
    steps, environments = np.shape(rewards)
    recorded = np.stack([rewards, values, next_values, terminated, truncated]).transpose(2, 0, 1)
    model = PPO(
        ActorCriticPolicy,
        DummyVecEnv([lambda columns=columns: _Replay(*columns) for columns in recorded]),
        n_steps=steps,
        batch_size=steps * environments,
        gamma=float(gamma),
        gae_lambda=float(gae_lambda),
        normalize_advantage=False,
        policy_kwargs={"net_arch": []},
        device="cpu",
    )
    objects.silent(model)
    objects.load_layers([model.policy.value_net], [{"W": [[1.0]], "b": [0.0]}])
    model.train = lambda: None
    model.learn(steps * environments, log_interval=None)
    return {"advantages": model.rollout_buffer.advantages, "value_targets": model.rollout_buffer.returns}


def explained_variance(values: NDArray[Any], targets: NDArray[Any]) -> float:
    """Call the library's function."""
    return library_explained_variance(values, targets)


# PPO on real policies: train(), and the gradients it leaves.


def clipped_objective_parameter_gradient(
    policy: Mapping[str, Any],
    observations: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    old_log_prob: NDArray[Any],
    clip: float,
) -> Parameters:
    """Run ``train()`` on a real policy and read the gradients it leaves."""
    model = _train(
        policy,
        observations=observations,
        actions=actions,
        advantages=advantages,
        old_log_prob=old_log_prob,
        clip_range=float(clip),
        ent_coef=0.0,
        vf_coef=0.0,
    )
    return objects.actor_of(model.policy, objects.ascent_gradient)


def entropy_bonus(policy: Mapping[str, Any], observations: NDArray[Any]) -> dict[str, Any]:
    """Run ``train()`` with advantages 0 and an entropy coefficient of 1, so that the entropy is all there is."""
    rows = len(observations)
    model = _train(
        policy,
        observations=observations,
        actions=np.zeros((rows, *objects.action_space(policy).shape)),
        advantages=np.zeros(rows),
        old_log_prob=np.zeros(rows),
        ent_coef=1.0,
        vf_coef=0.0,
    )
    return {
        "entropy": -model.logger.name_to_value["train/entropy_loss"],
        "gradient": objects.actor_of(model.policy, objects.ascent_gradient),
    }


def ppo_objective(
    policy: Mapping[str, Any],
    value_network: Mapping[str, Any],
    observations: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    old_log_prob: NDArray[Any],
    value_targets: NDArray[Any],
    clip: float,
    value_coefficient: float,
    entropy_coefficient: float,
) -> dict[str, Any]:
    """Run ``train()`` on a real policy and critic."""
    model = _train(
        policy,
        value_network=value_network,
        observations=observations,
        actions=actions,
        advantages=advantages,
        old_log_prob=old_log_prob,
        value_targets=value_targets,
        clip_range=float(clip),
        ent_coef=float(entropy_coefficient),
        vf_coef=float(value_coefficient),
    )
    return {
        "objective": -model.logger.name_to_value["train/loss"],
        "policy_gradient": objects.actor_of(model.policy, objects.ascent_gradient),
        "value_gradient": objects.critic_of(model.policy, objects.ascent_gradient),
    }


def ppo_epoch(
    policy: Mapping[str, Any],
    observations: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    old_log_prob: NDArray[Any],
    minibatches: Sequence[Sequence[int]],
    clip: float,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> dict[str, Any]:
    """Run ``train()`` for one epoch, with the permutation it draws held at the minibatches given."""
    sizes = [len(minibatch) for minibatch in minibatches]
    order = [int(row) for minibatch in minibatches for row in minibatch]
    if sorted(order) != list(range(len(observations))):
        raise NotImplementedError("a rollout buffer hands out every row exactly once in an epoch")
    if any(size != sizes[0] for size in sizes[:-1]) or sizes[-1] > sizes[0]:
        raise NotImplementedError("a rollout buffer cuts minibatches of equal size, except a smaller last one")
    model = _train(
        policy,
        observations=observations,
        actions=actions,
        advantages=advantages,
        old_log_prob=old_log_prob,
        order=order,
        batch_size=sizes[0],
        clip_range=float(clip),
        ent_coef=0.0,
        vf_coef=0.0,
        learning_rate=float(learning_rate),
        policy_kwargs={"optimizer_kwargs": {"betas": (float(beta1), float(beta2)), "eps": float(epsilon)}},
    )
    return {"parameters": objects.actor_of(model.policy)}


def _train(
    policy: Mapping[str, Any],
    *,
    observations: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    old_log_prob: NDArray[Any],
    value_targets: Any = 0.0,
    value_network: Mapping[str, Any] | None = None,
    order: Sequence[int] | None = None,
    **settings: Any,
) -> Any:
    """Run one epoch of the real ``train()`` on a real PPO object without gradient clipping, and return the object."""
    model = objects.actor_critic(
        PPO,
        policy,
        rows=len(observations),
        value_network=value_network,
        n_epochs=1,
        max_grad_norm=float("inf"),
        **settings,
    )
    objects.fill(
        model,
        observations=observations,
        actions=actions,
        old_log_prob=old_log_prob,
        advantages=advantages,
        value_targets=value_targets,
    )
    with objects.rows_in_order(order):
        model.train()
    return model


# Networks.


def network_forward(network: Mapping[str, Any], observations: NDArray[Any]) -> NDArray[Any]:
    """Evaluate the mean of a real ActorCriticPolicy with these weights; any network can be the mean of a Gaussian."""
    width = np.shape(network["layers"][-1]["W"])[1]
    policy = {**network, "distribution": "diagonal_gaussian", "log_std": np.zeros(width)}
    model = objects.actor_critic(PPO, policy, rows=len(observations))
    with torch.no_grad():
        return model.policy.get_distribution(objects.float32(observations)).distribution.mean.numpy()
