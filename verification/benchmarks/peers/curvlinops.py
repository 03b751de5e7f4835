"""curvlinops: its Gauss–Newton operator, of torch's KL of Normals at equal parameters."""

from importlib.metadata import version as version_of
from typing import Any

import torch
from curvlinops import GGNLinearOperator

from verification.benchmarks.peers import Call
from verification.benchmarks.peers.torch_double_backward import flat, leaves_of, mean, tensors
from verification.benchmarks.problems import DAMPING, Problem


def version() -> str:
    """Return the version."""
    return version_of("curvlinops-for-pytorch")


class _Outputs(torch.nn.Module):
    """From observations to (mean, log σ)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.leaves = torch.nn.ParameterList(leaves_of(problem, problem.theta, differentiable=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        leaves = list(self.leaves)
        outputs = mean(leaves, x)
        return torch.cat([outputs, leaves[-1].expand(outputs.shape)], 1)


class _KLOfNormals(torch.nn.Module):
    """The mean over the rows of KL(labels ‖ predictions)."""

    reduction = "mean"

    def forward(self, predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        new, old = (self._normal(phi) for phi in (predictions, labels))
        return torch.distributions.kl_divergence(old, new).sum(1).mean()

    def _normal(self, phi: torch.Tensor) -> Any:
        outputs, log_std = phi.chunk(2, 1)
        return torch.distributions.Normal(outputs, log_std.exp(), validate_args=False)


def _fisher_product(problem: Problem) -> Call:
    outputs, x = _Outputs(problem), tensors(problem)[0]
    with torch.no_grad():
        labels = outputs(x)
    F = GGNLinearOperator(outputs, _KLOfNormals(), list(outputs.leaves), [(x, labels)], check_deterministic=False)
    v = torch.tensor(problem.v)
    parts = torch.split(v, [leaf.numel() for leaf in outputs.leaves])
    directions = [part.view_as(leaf) for part, leaf in zip(parts, outputs.leaves, strict=True)]
    return Call(
        lambda: flat(F @ directions) + DAMPING * v,
        lambda found: found.detach().numpy(),
        "the operator runs the network forward again for each product",
    )


calls = {"fisher_product": _fisher_product}
