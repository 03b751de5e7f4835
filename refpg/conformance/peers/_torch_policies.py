"""Policies of the contract as real torch modules, and the carrying of their parameters in and out.

Weights of the contract are (in, out), torch's are (out, in): the transposition happens in `tensors_of`,
`parameters_of` and `vector_of`, nowhere else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refpg.conformance.peers._torch_distributions import numpy_array

ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "tanh": torch.nn.Tanh,
    "relu": torch.nn.ReLU,
    "identity": torch.nn.Identity,
    "elu": torch.nn.ELU,
    "silu": torch.nn.SiLU,
    "swish": torch.nn.SiLU,
    "softplus": torch.nn.Softplus,
    "gelu": torch.nn.GELU,
}

Tensors = Sequence[torch.Tensor]


def tensors_of(parameters: Mapping[str, Any]) -> list[torch.Tensor]:
    """Return the contract's parameters, or a vector shaped like them, as tensors in torch's shapes; log_std last."""
    arrays = [leaf for layer in parameters["layers"] for leaf in (np.transpose(layer["W"]), layer["b"])]
    arrays += [parameters["log_std"]] if "log_std" in parameters else []
    return [torch.tensor(np.ascontiguousarray(array)) for array in arrays]


def parameters_of(tensors: Tensors) -> dict[str, Any]:
    """Return tensors in the order of `tensors_of` as the contract's parameters."""
    arrays = [numpy_array(tensor).T for tensor in tensors]
    layers = len(arrays) // 2 * 2
    parameters: dict[str, Any] = {
        "layers": [{"W": W, "b": b} for W, b in zip(arrays[0:layers:2], arrays[1:layers:2], strict=True)]
    }
    return parameters | ({"log_std": arrays[layers]} if len(arrays) > layers else {})


def vector_of(tensors: Tensors) -> torch.Tensor:
    """Return tensors in the order of `tensors_of` as one vector in the order of the contract: W row by row, then b."""
    return torch.cat([tensor.T.reshape(-1) if tensor.ndim == 2 else tensor for tensor in tensors])


def tensors_from(vector: torch.Tensor, like: Tensors) -> list[torch.Tensor]:
    """Return a vector in the order of the contract as tensors shaped like those given."""
    parts = torch.split(vector, [tensor.numel() for tensor in like])
    return [
        part.reshape(tensor.shape[::-1]).T.contiguous() if tensor.ndim == 2 else part
        for part, tensor in zip(parts, like, strict=True)
    ]


def network(net: Mapping[str, Any]) -> torch.nn.Sequential:
    """Return a Sequential of Linear layers and activations with the contract's weights, in their dtype."""
    if net["activation"] not in ACTIVATIONS:
        raise NotImplementedError(f"no torch module is known for the activation {net['activation']!r}")
    modules: list[torch.nn.Module] = []
    for layer in net["layers"]:
        width_in, width_out = np.shape(layer["W"])
        linear = torch.nn.Linear(width_in, width_out, dtype=torch.tensor(layer["W"]).dtype)
        modules += [linear, ACTIVATIONS[net["activation"]]()]
    sequence = torch.nn.Sequential(*modules[:-1])
    for parameter, tensor in zip(sequence.parameters(), tensors_of({"layers": net["layers"]}), strict=True):
        parameter.data.copy_(tensor)
    return sequence


class Policy(torch.nn.Module):  # type: ignore[misc,unused-ignore]
    """A policy of the contract; called with observations, it returns a distribution of torch.distributions."""

    def __init__(self, policy: Mapping[str, Any]) -> None:
        super().__init__()
        self.discrete = policy["distribution"] == "categorical"
        self.network = network(policy)
        if not self.discrete:
            self.log_std = torch.nn.Parameter(torch.tensor(np.asarray(policy["log_std"])))

    def forward(self, x: torch.Tensor) -> Any:
        """Return π(·|x), one distribution per row."""
        outputs = self.network(x)
        if self.discrete:
            return torch.distributions.Categorical(logits=outputs)
        return torch.distributions.Independent(torch.distributions.Normal(outputs, self.log_std.exp()), 1)

    def leaves(self) -> list[torch.nn.Parameter]:
        """Return θ in the order of `tensors_of`; a module's own order has log_std first."""
        return [*self.network.parameters(), *([] if self.discrete else [self.log_std])]

    def gradient(self, objective: torch.Tensor) -> list[torch.Tensor]:
        """Return ∂objective/∂θ by ``torch.autograd.grad``; zeros where it does not depend on a parameter."""
        return list(torch.autograd.grad(objective, self.leaves(), materialize_grads=True))

    def hessian_product(self, objective: torch.Tensor) -> "HessianProduct":
        """Return v ↦ (∂²objective/∂θ²) v."""
        return HessianProduct(objective, self.leaves())


class HessianProduct:
    """v ↦ Hv by differentiating twice in reverse: H v = ∂/∂θ ⟨∂f/∂θ, v⟩."""

    def __init__(self, objective: torch.Tensor, leaves: Tensors) -> None:
        self.leaves = leaves
        self.gradient = torch.autograd.grad(objective, leaves, create_graph=True, materialize_grads=True)

    def __call__(self, vector: Tensors) -> list[torch.Tensor]:
        """Return Hv, in the shapes of the parameters."""
        slope = sum((g * v).sum() for g, v in zip(self.gradient, vector, strict=True))
        return list(torch.autograd.grad(slope, self.leaves, retain_graph=True, materialize_grads=True))

    def matrix(self) -> torch.Tensor:
        """Return H column by column, in the order of the contract."""
        leaf = self.leaves[0]
        identity = torch.eye(sum(leaf.numel() for leaf in self.leaves), dtype=leaf.dtype)
        return torch.stack([vector_of(self(tensors_from(e, self.leaves))) for e in identity], dim=1)


def mean_kl(old: Policy, new: Policy, observations: NDArray[Any]) -> torch.Tensor:
    """Return the mean over the rows of torch's KL(old ‖ new), differentiable in the new policy."""
    x = torch.tensor(observations)
    with torch.no_grad():
        before = old(x)
    return torch.distributions.kl_divergence(before, new(x)).mean()
