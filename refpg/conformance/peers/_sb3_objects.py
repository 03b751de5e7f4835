"""Real Stable-Baselines3 objects that hold the contract's numbers; shared by the adapters of both packages.

Weights of the contract are (in, out), torch's are (out, in): the transposition happens in `load_layers` and
`layers_of`, nowhere else.  Training code draws a permutation of the rollout's rows; `rows_in_order` holds that draw,
so that a row of the answer is the row of the question.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy

from refpg.conformance.peers._torch_distributions import numpy_array
from refpg.conformance.peers._torch_policies import ACTIVATIONS


class SpacesOnly(gymnasium.Env):  # type: ignore[misc,unused-ignore]
    """An environment that declares an observation and an action space and is never stepped."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space = observation_space
        self.action_space = action_space


def float32(value: ArrayLike) -> Any:
    """Return a float32 tensor with a copy of the numbers; the libraries' rollout buffers hold float32."""
    return torch.tensor(np.asarray(value, dtype=np.float32))


def unbounded(width: int) -> Any:
    """Return the space of real vectors of this width, as an observation space."""
    return spaces.Box(-np.inf, np.inf, (width,), np.float32)


def action_space(policy: Mapping[str, Any]) -> Any:
    """Return the action space of a policy of the contract; the bounds of a Box play no part in training."""
    width = np.shape(policy["layers"][-1]["W"])[1]
    if policy["distribution"] == "categorical":
        return spaces.Discrete(width)
    if policy["distribution"] == "bernoulli":
        return spaces.MultiBinary(width)
    return spaces.Box(-(2.0**30), 2.0**30, (width,), np.float32)


def hidden_sizes(network: Mapping[str, Any]) -> list[int]:
    """Return the widths of the hidden layers."""
    return [np.shape(layer["W"])[1] for layer in network["layers"][:-1]]


def activation(*networks: Mapping[str, Any]) -> type[torch.nn.Module]:
    """Return the activation that the networks' hidden layers share; an ActorCriticPolicy has only one."""
    names = {network["activation"] for network in networks if len(network["layers"]) > 1}
    if len(names) > 1:
        raise NotImplementedError(f"an ActorCriticPolicy has one activation for policy and values, not {sorted(names)}")
    name = names.pop() if names else "identity"
    if name not in ACTIVATIONS:
        raise NotImplementedError(f"no torch module is known for the activation {name!r}")
    return ACTIVATIONS[name]


def algorithm(
    kind: Any, policy_class: Any, observation_space: Any, action_space: Any, *, rows: int, **settings: Any
) -> Any:
    """Return a real algorithm object (PPO, TRPO, …) with a rollout buffer of so many rows and a silent logger."""
    settings = {"n_steps": rows, "batch_size": rows, "normalize_advantage": False} | settings
    with warnings.catch_warnings():  # about a last minibatch that is smaller than the others
        warnings.simplefilter("ignore", UserWarning)
        model = kind(policy_class, SpacesOnly(observation_space, action_space), device="cpu", **settings)
    return silent(model)


def silent(model: Any) -> Any:
    """Give the model a logger that only remembers, in ``name_to_value``, and return the model."""
    model.set_logger(Logger(None, []))
    return model


def actor_critic(
    kind: Any,
    policy: Mapping[str, Any],
    *,
    rows: int,
    value_network: Mapping[str, Any] | None = None,
    policy_kwargs: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """Return a real algorithm whose ActorCriticPolicy has the given weights; `value_network` is its critic's."""
    networks = [policy] if value_network is None else [policy, value_network]
    model = algorithm(
        kind,
        ActorCriticPolicy,
        unbounded(np.shape(policy["layers"][0]["W"])[0]),
        action_space(policy),
        rows=rows,
        policy_kwargs={
            "net_arch": {
                "pi": hidden_sizes(policy),
                "vf": [] if value_network is None else hidden_sizes(value_network),
            },
            "activation_fn": activation(*networks),
            **(policy_kwargs or {}),
        },
        **settings,
    )
    load_actor(model.policy, policy)
    if value_network is not None:
        load_layers(critic_modules(model.policy), value_network["layers"])
    return model


def actor_modules(policy: Any) -> list[Any]:
    """Return the linear layers of the policy's actor, in order."""
    return [*_linear(policy.mlp_extractor.policy_net), policy.action_net]


def critic_modules(policy: Any) -> list[Any]:
    """Return the linear layers of the policy's critic, in order."""
    return [*_linear(policy.mlp_extractor.value_net), policy.value_net]


def _linear(sequence: Any) -> list[Any]:
    return [module for module in sequence if isinstance(module, torch.nn.Linear)]


def load_layers(modules: Sequence[Any], layers: Sequence[Mapping[str, ArrayLike]]) -> None:
    """Put the contract's layers into torch's linear modules."""
    for module, layer in zip(modules, layers, strict=True):
        module.weight.data.copy_(float32(layer["W"]).T)
        module.bias.data.copy_(float32(layer["b"]))


def load_actor(policy: Any, parameters: Mapping[str, Any]) -> None:
    """Put the contract's layers, and log_std where there is one, into the policy's actor."""
    load_layers(actor_modules(policy), parameters["layers"])
    if "log_std" in parameters:
        policy.log_std.data.copy_(float32(parameters["log_std"]))


Read = Callable[[Any], Any]  # from one of the policy's parameters to a tensor of its shape


def layers_of(modules: Sequence[Any], read: Read) -> list[dict[str, NDArray[Any]]]:
    """Return what `read` finds for each parameter of the modules, as the contract's layers."""
    return [{"W": numpy_array(read(module.weight)).T, "b": numpy_array(read(module.bias))} for module in modules]


def actor_of(policy: Any, read: Read = lambda parameter: parameter) -> dict[str, Any]:
    """Return what `read` finds for each parameter of the actor (by default its value), as the contract's parameters."""
    parameters: dict[str, Any] = {"layers": layers_of(actor_modules(policy), read)}
    if hasattr(policy, "log_std"):
        parameters["log_std"] = numpy_array(read(policy.log_std))
    return parameters


def actor_entries(policy: Any, parameters: Mapping[str, Any]) -> dict[Any, Any]:
    """Return which numbers of the contract's parameters belong to which of the actor's parameters, in its shape."""
    entries: dict[Any, Any] = {}
    for module, layer in zip(actor_modules(policy), parameters["layers"], strict=True):
        entries |= {module.weight: float32(layer["W"]).T, module.bias: float32(layer["b"])}
    return entries | ({policy.log_std: float32(parameters["log_std"])} if hasattr(policy, "log_std") else {})


def vector_of(parameters: Mapping[str, Any]) -> NDArray[Any]:
    """Return the contract's parameters as one vector: every W and b in order, log_std last."""
    leaves = [leaf for layer in parameters["layers"] for leaf in (layer["W"], layer["b"])]
    leaves += [parameters["log_std"]] if "log_std" in parameters else []
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def critic_of(policy: Any, read: Read) -> dict[str, Any]:
    """Return what `read` finds for each parameter of the critic, as the contract's parameters."""
    return {"layers": layers_of(critic_modules(policy), read)}


def ascent_gradient(parameter: Any) -> Any:
    """Return −p.grad: the libraries minimise losses, the contract maximises objectives."""
    return -parameter.grad


def fill(
    model: Any,
    *,
    observations: ArrayLike,
    actions: ArrayLike,
    old_log_prob: ArrayLike,
    advantages: ArrayLike,
    values: ArrayLike = 0.0,
    value_targets: ArrayLike = 0.0,
) -> None:
    """Fill the model's real rollout buffer, one environment, with the rows given."""
    buffer = model.rollout_buffer
    rows = buffer.buffer_size
    old_log_probs = np.broadcast_to(old_log_prob, rows)
    old_values = np.broadcast_to(values, rows)
    for row in range(rows):
        buffer.add(
            np.asarray(observations)[row],
            np.asarray(actions)[row],
            0.0,
            0.0,
            float32(old_values[row : row + 1]),
            float32(old_log_probs[row : row + 1]),
        )
    buffer.advantages[:, 0] = advantages
    buffer.returns[:, 0] = value_targets


def fill_nothing(model: Any, observations: ArrayLike, *, advantages: ArrayLike = 0.0) -> None:
    """Fill the model's real rollout buffer where actions and log-probabilities play no part."""
    actions = np.zeros((len(np.asarray(observations)), *model.action_space.shape))
    fill(model, observations=observations, actions=actions, old_log_prob=0.0, advantages=advantages)


@contextlib.contextmanager
def rows_in_order(order: ArrayLike | None = None) -> Iterator[None]:
    """Hold the permutation a rollout buffer draws (`numpy.random.permutation`) at `order`, by default 0, 1, 2, ….

    The buffer cuts the permuted rows into minibatches of the algorithm's batch_size.
    """

    def permutation(rows: int) -> NDArray[Any]:
        return np.arange(rows) if order is None else np.asarray(order)

    with mock.patch.object(np.random, "permutation", permutation):
        yield
