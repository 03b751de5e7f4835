"""What the contract asks of a distribution that is built of torch tensors.

Scores are the derivative of the library's own ``log_prob``, Fisher matrices the second derivative of its own KL at
equal parameters, both by torch's automatic differentiation.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Inputs = Mapping[str, Any]
Phi = dict[str, torch.Tensor]
KL = Callable[[Any, Any], Any]


class Family(NamedTuple):
    """How one family of the contract is built from a library's class.

    Fields: ``parameters`` names its inputs that are φ; ``build`` makes the library's distribution from φ and the
    other inputs; ``log_prob`` calls the distribution's own, one number per row.
    """

    parameters: tuple[str, ...]
    build: Callable[[Phi, Inputs], Any]
    log_prob: Callable[[Any, Inputs], Any]


def leaves(family: Any, inputs: Inputs, prefix: str = "") -> Phi:
    """Return φ as leaf tensors, with the dtype of the inputs, that record gradients."""
    return {name: torch.tensor(np.asarray(inputs[prefix + name])).requires_grad_() for name in family.parameters}


def old_and_new(family: Any, inputs: Inputs) -> tuple[Any, Any]:
    """Return the library's two distributions of a KL."""
    return tuple(family.build(leaves(family, inputs, prefix), inputs) for prefix in ("old_", "new_"))


def distribution_ops(name: str, family: Any, kl_per_row: KL, *quantities: str) -> dict[str, Callable[..., Any]]:
    """Return operations of one family, by name.

    Parameters
    ----------
    name : str
        What the contract calls the family.
    family : Family
        Or any object with its fields.
    kl_per_row : callable
        The library's KL of two of its distributions, one number per row.
    *quantities : str
        Among log_prob, entropy, kl, mean_kl, score, fisher.
    """

    def log_prob(**inputs: Any) -> NDArray[Any]:
        distribution = family.build(leaves(family, inputs), inputs)
        return numpy_array(family.log_prob(distribution, inputs))

    def entropy(**inputs: Any) -> NDArray[Any]:
        return numpy_array(family.build(leaves(family, inputs), inputs).entropy())

    def kl(**inputs: Any) -> NDArray[Any]:
        return numpy_array(kl_per_row(*old_and_new(family, inputs)))

    def mean_kl(**inputs: Any) -> NDArray[Any]:
        return numpy_array(kl_per_row(*old_and_new(family, inputs)).mean())

    def score(**inputs: Any) -> dict[str, NDArray[Any]]:
        phi = leaves(family, inputs)
        rows = family.log_prob(family.build(phi, inputs), inputs)
        gradients = torch.autograd.grad(rows.sum(), list(phi.values()))
        return {name: numpy_array(gradient) for name, gradient in zip(phi, gradients, strict=True)}

    def fisher(**inputs: Any) -> NDArray[Any]:
        here = family.build({name: leaf.detach() for name, leaf in leaves(family, inputs).items()}, inputs)
        phi = leaves(family, inputs)
        kl = kl_per_row(here, family.build(phi, inputs))
        gradient = torch.cat(torch.autograd.grad(kl.sum(), list(phi.values()), create_graph=True), dim=1)
        rows = [
            torch.cat(torch.autograd.grad(column.sum(), list(phi.values()), retain_graph=True), dim=1)
            for column in gradient.unbind(dim=1)
        ]
        return numpy_array(torch.stack(rows, dim=1))

    every = {"log_prob": log_prob, "entropy": entropy, "kl": kl, "mean_kl": mean_kl, "score": score, "fisher": fisher}
    return {f"{quantity}_{name}": every[quantity] for quantity in quantities}


def numpy_array(tensor: Any) -> NDArray[Any]:
    """Return a copy of the tensor's numbers, without its gradient."""
    return np.array(tensor.detach().numpy())
