"""stable-baselines3: a real ActorCriticPolicy, asked the way PPO.train() asks it."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from refpg.network import unflatten
from refpg.notation import Array
from verification.benchmarks.peers import Call
from verification.benchmarks.peers.torch_double_backward import flat, tensors
from verification.benchmarks.problems import CLIP, Problem

FLOAT32 = "Box observations are cast to float32, and back to float64 by a features extractor of ours"


def version() -> str:
    """Return the version."""
    return str(stable_baselines3.__version__)


class InDoublePrecision(BaseFeaturesExtractor):
    """The observations, in float64 again after the cast that the library makes."""

    def __init__(self, observation_space: gymnasium.Space) -> None:
        super().__init__(observation_space, features_dim=observation_space.shape[0])

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations.double()


def spaces_of(problem: Problem) -> tuple[Any, Any]:
    """Return the observation and the action space."""
    D, A = problem.sizes[0], problem.sizes[-1]
    return spaces.Box(-np.inf, np.inf, (D,), np.float32), spaces.Box(-(2.0**30), 2.0**30, (A,), np.float32)


def policy_arguments(problem: Problem) -> Mapping[str, Any]:
    """Return what makes an ActorCriticPolicy of the problem's network, with the smallest critic there is."""
    return {
        "net_arch": {"pi": list(problem.sizes[1:-1]), "vf": []},
        "activation_fn": torch.nn.Tanh,
        "features_extractor_class": InDoublePrecision,
    }


def actor_parameters(policy: Any) -> list[torch.nn.Parameter]:
    """Return the actor's weights and biases in order, then log σ."""
    linear = [module for module in policy.mlp_extractor.policy_net if isinstance(module, torch.nn.Linear)]
    return [leaf for module in (*linear, policy.action_net) for leaf in (module.weight, module.bias)] + [policy.log_std]


def load(policy: Any, problem: Problem) -> None:
    """Put θ into the actor, in float64."""
    policy.double()
    layers, free = unflatten(problem.policy.network, problem.theta)
    arrays = [part for W, b in layers for part in (W.T, b)] + [free]
    for leaf, array in zip(actor_parameters(policy), arrays, strict=True):
        leaf.data.copy_(torch.tensor(np.ascontiguousarray(array)))


def in_order(problem: Problem, leaves: Any) -> Array:
    """Return tensors in the order of the actor's parameters as one vector in the order of θ."""
    arrays = [leaf.detach().numpy() for leaf in leaves]
    return np.concatenate([array.T.ravel() if array.ndim == 2 else array for array in arrays])


def _policy(problem: Problem) -> Any:
    policy = ActorCriticPolicy(*spaces_of(problem), lambda _: 0.0, **policy_arguments(problem))
    load(policy, problem)
    return policy


def _forward(problem: Problem) -> Call:
    policy, x = _policy(problem), tensors(problem)[0].float()

    def run() -> Any:
        with torch.no_grad():
            return policy.get_distribution(x)

    def read(found: Any) -> Array:
        normal = found.distribution
        return np.concatenate([normal.mean.numpy(), np.log(normal.stddev.numpy())], axis=1)

    return Call(run, read, f"it also builds the distribution; {FLOAT32}")


def _gradient(problem: Problem) -> Call:
    policy, (x, a, A, _) = _policy(problem), tensors(problem)
    leaves, x = actor_parameters(policy), x.float()

    def run() -> Any:
        log_p = policy.get_distribution(x).log_prob(a)
        return torch.autograd.grad((torch.exp(log_p - log_p.detach()) * A).mean(), leaves)

    return Call(run, lambda found: in_order(problem, found), FLOAT32)


def _clipped_loss(problem: Problem) -> Call:
    policy, (x, a, A, old) = _policy(problem), tensors(problem)
    leaves, x = actor_parameters(policy), x.float()

    def run() -> Any:
        ratio = torch.exp(policy.get_distribution(x).log_prob(a) - old)
        loss = torch.min(A * ratio, A * torch.clamp(ratio, 1 - CLIP, 1 + CLIP)).mean()
        gradient = torch.autograd.grad(loss, leaves)
        flat(gradient)
        return gradient, loss

    return Call(run, lambda found: np.append(in_order(problem, found[0]), found[1].item()), FLOAT32)


calls = {"forward": _forward, "gradient": _gradient, "clipped_loss": _clipped_loss}
