"""BackPACK: the exact square root of the Gauss–Newton matrix, one extension of the backward pass, then its square."""

import warnings
from importlib.metadata import version as version_of
from typing import Any

import numpy as np
import torch
from backpack import backpack, extend
from backpack.extensions import SqrtGGNExact

from refpg.network import unflatten
from refpg.notation import Array
from verification.benchmarks.peers import Call
from verification.benchmarks.peers.torch_double_backward import tensors
from verification.benchmarks.problems import LOG_STD, Problem


def version() -> str:
    """Return the version."""
    return version_of("backpack-for-pytorch")


def _modules(problem: Problem) -> torch.nn.Sequential:
    layers, _ = unflatten(problem.policy.network, problem.theta)
    modules: list[torch.nn.Module] = []
    for W, b in layers:
        linear = torch.nn.Linear(*W.shape, dtype=torch.float64)
        linear.weight.data.copy_(torch.tensor(W).T)
        linear.bias.data.copy_(torch.tensor(b))
        modules += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*modules[:-1])


def order_in_theta(problem: Problem) -> Array:
    """Return where in θ each entry of torch's (out, in) weights and biases stands."""
    layers, _ = unflatten(problem.policy.network, np.arange(len(problem.theta), dtype=np.float64))
    return np.concatenate([part for W, b in layers for part in (W.T.ravel(), b)]).astype(int)


def _fisher_matrix(problem: Problem) -> Call:
    network, loss, x = extend(_modules(problem)), extend(torch.nn.MSELoss()), tensors(problem)[0]
    A, P = problem.sizes[-1], len(problem.theta)

    def run() -> torch.Tensor:
        outputs = network(x)
        with backpack(SqrtGGNExact()), warnings.catch_warnings():  # that the observations need no gradient
            warnings.simplefilter("ignore", UserWarning)
            loss(outputs, torch.zeros_like(outputs)).backward()
        roots = [leaf.sqrt_ggn_exact for leaf in network.parameters()]
        V = torch.cat([root.reshape(root.shape[0] * root.shape[1], -1) for root in roots], 1)
        for leaf in network.parameters():
            leaf.grad = None
            del leaf.sqrt_ggn_exact
        return V.T @ V

    def read(found: Any) -> Array:
        F = np.zeros((P, P))
        order = order_in_theta(problem)
        F[np.ix_(order, order)] = found.detach().numpy() * (A / 2) * np.exp(-2 * LOG_STD)
        F[-A:, -A:] = 2 * np.eye(A)
        return F

    return Call(run, read, "unit metric, mean over outputs, no log σ: scaled, and that block added, after the clock")


calls = {"fisher_matrix": _fisher_matrix}
