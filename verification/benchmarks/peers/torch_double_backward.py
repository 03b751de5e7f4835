"""PyTorch as TRPO is usually written: for each Fisher-vector product the gradient of KL is differentiated again."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from refpg.network import unflatten
from verification.benchmarks.peers import Call
from verification.benchmarks.problems import CLIP, DAMPING, ITERATIONS, MAX_KL, Problem

Leaves = list[torch.Tensor]


def version() -> str:
    """Return the version."""
    return torch.__version__


def leaves_of(problem: Problem, theta: Any, *, differentiable: bool = True) -> Leaves:
    """Return (W₁, b₁, …, log σ) as tensors."""
    layers, free = unflatten(problem.policy.network, theta)
    arrays = [leaf for layer in layers for leaf in layer] + [free]
    return [torch.tensor(array, requires_grad=differentiable) for array in arrays]


def flat(tensors: Any) -> torch.Tensor:
    """Return tensors as one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def mean(leaves: Leaves, x: torch.Tensor) -> torch.Tensor:
    """Return the output of the network."""
    weights, biases = leaves[:-1:2], leaves[1:-1:2]
    h = x
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        h = torch.tanh(torch.addmm(b, h, W))
    return torch.addmm(biases[-1], h, weights[-1])


def log_prob(leaves: Leaves, x: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Return log π(a|s), one per row."""
    log_std = leaves[-1]
    e = (action - mean(leaves, x)) * torch.exp(-log_std)
    return -(e * e / 2 + log_std + math.log(2 * math.pi) / 2).sum(1)


def kl(old_mean: torch.Tensor, old_log_std: torch.Tensor, leaves: Leaves, x: torch.Tensor) -> torch.Tensor:
    """Return the mean of KL(old ‖ new)."""
    log_std = leaves[-1]
    variance = torch.exp(2 * log_std)
    shift = old_mean - mean(leaves, x)
    rows = log_std - old_log_std + (torch.exp(2 * old_log_std) + shift * shift) / (2 * variance) - 0.5
    return rows.sum(1).mean()


def tensors(problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return observations, actions, advantages and old log-probabilities."""
    x, actions, advantages, old, _ = problem.batch
    return tuple(torch.tensor(array) for array in (x, actions, advantages, old))  # type: ignore[return-value]


def _surrogate_gradient(leaves: Leaves, x: torch.Tensor, a: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    log_p = log_prob(leaves, x, a)
    return flat(torch.autograd.grad((torch.exp(log_p - log_p.detach()) * A).mean(), leaves))


def _fisher(leaves: Leaves, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the product with F + λI, a second backward pass through the gradient of KL."""
    with torch.no_grad():
        old_mean, old_log_std = mean(leaves, x), leaves[-1].clone()
    slope = flat(torch.autograd.grad(kl(old_mean, old_log_std, leaves, x), leaves, create_graph=True))
    return lambda v: flat(torch.autograd.grad(slope @ v, leaves, retain_graph=True)) + DAMPING * v


def _solve(F: Callable[[torch.Tensor], torch.Tensor], g: torch.Tensor) -> torch.Tensor:
    x, r, p = torch.zeros_like(g), g.clone(), g.clone()
    rr = r @ r
    for _ in range(ITERATIONS):
        Fp = F(p)
        alpha = rr / (p @ Fp)
        x += alpha * p
        r -= alpha * Fp
        rr, before = r @ r, rr
        p = r + rr / before * p
    return x


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _forward(problem: Problem) -> Call:
    leaves, x = leaves_of(problem, problem.theta), tensors(problem)[0]

    def run() -> torch.Tensor:
        with torch.no_grad():
            return mean(leaves, x)

    return Call(run, lambda found: _with_log_std(problem, _numpy(found)))


def _with_log_std(problem: Problem, outputs: np.ndarray) -> np.ndarray:
    A = problem.sizes[-1]
    return np.concatenate([outputs, np.broadcast_to(problem.theta[-A:], outputs.shape)], axis=1)


def _gradient(problem: Problem) -> Call:
    leaves, (x, a, A, _) = leaves_of(problem, problem.theta), tensors(problem)
    return Call(lambda: _surrogate_gradient(leaves, x, a, A), _numpy)


def _fisher_product(problem: Problem) -> Call:
    F, v = _fisher(leaves_of(problem, problem.theta), tensors(problem)[0]), torch.tensor(problem.v)
    return Call(lambda: F(v), _numpy)


def _conjugate_gradient(problem: Problem) -> Call:
    leaves, x, v = leaves_of(problem, problem.theta), tensors(problem)[0], torch.tensor(problem.v)
    return Call(lambda: _solve(_fisher(leaves, x), v), _numpy)


def _trpo_update(problem: Problem) -> Call:
    leaves, (x, a, A, _) = leaves_of(problem, problem.theta), tensors(problem)

    def run() -> torch.Tensor:
        g = _surrogate_gradient(leaves, x, a, A)
        F = _fisher(leaves, x)
        direction = _solve(F, g)
        step = torch.sqrt(2 * MAX_KL / (direction @ F(direction))) * direction
        with torch.no_grad():
            old_mean, old_log_p = mean(leaves, x), log_prob(leaves, x, a)
            for j in range(10):
                change = torch.split(0.5**j * step, [leaf.numel() for leaf in leaves])
                new = [leaf + part.view_as(leaf) for leaf, part in zip(leaves, change, strict=True)]
                gain = ((torch.exp(log_prob(new, x, a) - old_log_p) - 1) * A).mean()
                if gain > 0 and kl(old_mean, leaves[-1], new, x) <= MAX_KL:
                    return 0.5**j * step
        return torch.zeros_like(step)

    return Call(run, _numpy)


def _mean_kl(problem: Problem) -> Call:
    old, new = (leaves_of(problem, theta, differentiable=False) for theta in (problem.theta, problem.near))
    x = tensors(problem)[0]
    return Call(lambda: kl(mean(old, x), old[-1], new, x), _numpy)


def _clipped_loss(problem: Problem) -> Call:
    leaves, (x, a, A, old) = leaves_of(problem, problem.theta), tensors(problem)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        ratio = torch.exp(log_prob(leaves, x, a) - old)
        loss = torch.minimum(ratio * A, torch.clamp(ratio, 1 - CLIP, 1 + CLIP) * A).mean()
        return flat(torch.autograd.grad(loss, leaves)), loss

    return Call(run, lambda found: np.append(_numpy(found[0]), _numpy(found[1])))


calls = {
    "forward": _forward,
    "gradient": _gradient,
    "fisher_product": _fisher_product,
    "conjugate_gradient": _conjugate_gradient,
    "trpo_update": _trpo_update,
    "mean_kl": _mean_kl,
    "clipped_loss": _clipped_loss,
}
