"""torch.func: Jacobians by vmap(jacrev), the obvious way to a dense Fisher matrix; products by jvp and vjp.

The head's log σ has a constant Jacobian; its block of the Fisher matrix, 2I, is written down instead of differentiated.
"""

import numpy as np
import torch
from torch.func import jacrev, jvp, vjp, vmap

from verification.benchmarks.peers import Call
from verification.benchmarks.peers.torch_double_backward import flat, leaves_of, mean, tensors
from verification.benchmarks.problems import DAMPING, Problem


def version() -> str:
    """Return the version."""
    return torch.__version__


def _rows(problem: Problem) -> "tuple[tuple[torch.Tensor, ...], torch.Tensor]":
    leaves = leaves_of(problem, problem.theta, differentiable=False)
    return tuple(leaves), tensors(problem)[0]


def _fisher_product(problem: Problem) -> Call:
    leaves, x = _rows(problem)
    v = torch.tensor(problem.v)
    parts = torch.split(v, [leaf.numel() for leaf in leaves])
    directions = tuple(part.view_as(leaf) for part, leaf in zip(parts, leaves, strict=True))

    def outputs(*theta: torch.Tensor) -> torch.Tensor:
        return mean(list(theta), x)

    def run() -> torch.Tensor:
        _, Jv = jvp(outputs, leaves, directions)
        _, transposed = vjp(outputs, *leaves)
        JtMJv = flat(transposed(Jv * torch.exp(-2 * leaves[-1]) / len(x)))
        JtMJv[-len(leaves[-1]) :] += 2 * directions[-1]
        return JtMJv + DAMPING * v

    return Call(run, torch.Tensor.numpy)


def _root_rows(problem: Problem) -> torch.Tensor:
    """Return the rows √w R J of the network's outputs, (N·A, P without log σ)."""
    leaves, x = _rows(problem)

    def output(network: "tuple[torch.Tensor, ...]", row: torch.Tensor) -> torch.Tensor:
        return mean([*network, leaves[-1]], row[None])[0]

    J = vmap(jacrev(output), (None, 0))(leaves[:-1], x)
    G = torch.cat([leaf.reshape(*leaf.shape[:2], -1) for leaf in J], 2)
    G *= (torch.exp(-leaves[-1]) / len(x) ** 0.5)[:, None]
    return G.reshape(-1, G.shape[-1])


def _fisher_matrix(problem: Problem) -> Call:
    A = problem.sizes[-1]

    def run() -> torch.Tensor:
        G = _root_rows(problem)
        return torch.block_diag(G.T @ G, 2 * torch.eye(A, dtype=torch.float64))

    return Call(run, torch.Tensor.numpy)


def _natural_gradient(problem: Problem) -> Call:
    A, P, v = problem.sizes[-1], len(problem.theta), torch.tensor(problem.v)
    g, g_log_std = v[:-A], v[-A:]

    def damped(matrix: torch.Tensor) -> torch.Tensor:
        matrix.diagonal().add_(DAMPING)
        return torch.linalg.cholesky(matrix)

    def primal() -> torch.Tensor:
        G = _root_rows(problem)
        return torch.cholesky_solve(g[:, None], damped(G.T @ G))[:, 0]

    def dual() -> torch.Tensor:
        G = _root_rows(problem)
        return (g - G.T @ torch.cholesky_solve((G @ g)[:, None], damped(G @ G.T))[:, 0]) / DAMPING

    solve = dual if problem.rows * A < P else primal
    return Call(lambda: torch.cat([solve(), g_log_std / (2 + DAMPING)]), np.asarray)


calls = {"fisher_product": _fisher_product, "fisher_matrix": _fisher_matrix, "natural_gradient": _natural_gradient}
