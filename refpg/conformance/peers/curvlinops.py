"""curvlinops as it is installed: its Gauss–Newton and Hessian operators, and their inverse by conjugate gradients.

The Gauss–Newton matrix of a negative log-likelihood, or of a KL at equal parameters, is the Fisher matrix: of a
categorical policy that of ``CrossEntropyLoss``, of a Gaussian one that of torch's KL between two Normals, since the
library's own losses have no log_std.  FisherMCLinearOperator draws actions; what it estimates is no certified number.
"""

import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version as version_of
from typing import Any

import torch
from curvlinops import CGInverseLinearOperator, GGNLinearOperator, HessianLinearOperator
from curvlinops.examples import IdentityLinearOperator, TensorLinearOperator
from linear_operator.utils.warnings import NumericalWarning
from numpy.typing import NDArray

from refpg.conformance.ops import OPS
from refpg.conformance.peers import _torch_policies as policies
from refpg.conformance.peers._torch_distributions import numpy_array

name = "curvlinops"
version = version_of("curvlinops-for-pytorch")

dtype = "float64"

conventions: Mapping[str, str] = {}

notes = [
    f"with torch {torch.__version__}, linear_operator {version_of('linear_operator')}",
    "the Fisher matrix is GGNLinearOperator's: of CrossEntropyLoss, or of torch's KL of Normals at equal parameters",
    "its labels are the policy's own distributions; those of CrossEntropyLoss do not enter the Gauss–Newton matrix",
    "derivatives of the mean KL are HessianLinearOperator's of the same losses, with the old policy as labels",
    "damping is a multiple of the library's identity, added by the library",
    "CGInverseLinearOperator runs as many iterations as asked for: its tolerances are 0, its eps the smallest number",
]

Parameters = dict[str, Any]


class _Outputs(policies.Policy):
    """The policy as curvlinops wants it: a module from observations to the parameters φ of the distribution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, or the means beside the log_std."""
        outputs = self.network(x)
        return outputs if self.discrete else torch.cat([outputs, self.log_std.expand(outputs.shape)], dim=1)

    def labels(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the loss compares predictions with: probabilities, or φ."""
        with torch.no_grad():
            phi = self(x)
            return torch.softmax(phi, dim=1) if self.discrete else phi


class _KLOfNormals(torch.nn.Module):  # type: ignore[misc,unused-ignore]
    """The mean over the rows of torch's KL(labels ‖ predictions), as a loss of curvlinops."""

    reduction = "mean"

    def forward(self, predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        new, old = (self.normal(phi) for phi in (predictions, labels))
        return torch.distributions.kl_divergence(old, new).sum(dim=1).mean()

    def normal(self, phi: torch.Tensor) -> Any:
        """Return the distribution; its arguments are not inspected, which vmap could not do."""
        mean, log_std = phi.chunk(2, dim=1)
        return torch.distributions.Normal(mean, log_std.exp(), validate_args=False)


def _operator(kind: Any, old_policy: Mapping[str, Any], new_policy: Mapping[str, Any], observations: Any) -> Any:
    """Return the library's operator of the mean KL(old ‖ ·) at the new policy."""
    old, new, x = _Outputs(old_policy), _Outputs(new_policy), torch.tensor(observations)
    loss = torch.nn.CrossEntropyLoss() if new.discrete else _KLOfNormals()
    return kind(new, loss, new.leaves(), [(x, old.labels(x))])


def _fisher(policy: Mapping[str, Any], observations: Any) -> Any:
    return _operator(GGNLinearOperator, policy, policy, observations)


def _damped(policy: Mapping[str, Any], observations: Any, like: policies.Tensors, damping: float) -> Any:
    first = like[0]
    identity = IdentityLinearOperator([tuple(tensor.shape) for tensor in like], first.device, first.dtype)
    return _fisher(policy, observations) + float(damping) * identity


def mean_kl_gradient(
    old_policy: Mapping[str, Any], new_policy: Mapping[str, Any], observations: NDArray[Any]
) -> Parameters:
    """Call ``gradient_and_loss``; a cross-entropy and a KL have the same gradient."""
    gradient, _ = _operator(HessianLinearOperator, old_policy, new_policy, observations).gradient_and_loss()
    return policies.parameters_of(gradient)


def mean_kl_hessian_vector_product(
    old_policy: Mapping[str, Any],
    new_policy: Mapping[str, Any],
    observations: NDArray[Any],
    vector: Mapping[str, Any],
) -> Parameters:
    """Multiply by the Hessian operator."""
    hessian = _operator(HessianLinearOperator, old_policy, new_policy, observations)
    return policies.parameters_of(hessian @ policies.tensors_of(vector))


def fisher_matrix(policy: Mapping[str, Any], observations: NDArray[Any]) -> NDArray[Any]:
    """Multiply the identity by the Gauss–Newton operator, column by column."""
    like = _Outputs(policy).leaves()
    identity = torch.eye(sum(tensor.numel() for tensor in like), dtype=like[0].dtype)
    F = _fisher(policy, observations)
    columns = [policies.vector_of(F @ policies.tensors_from(e, like)) for e in identity]
    return numpy_array(torch.stack(columns, dim=1))


def fisher_vector_product(
    policy: Mapping[str, Any], observations: NDArray[Any], vector: Mapping[str, Any], damping: float
) -> Parameters:
    """Multiply by the Gauss–Newton operator plus a multiple of the identity."""
    v = policies.tensors_of(vector)
    return policies.parameters_of(_damped(policy, observations, v, damping) @ v)


def conjugate_gradient(matrix: NDArray[Any], b: NDArray[Any], iterations: int) -> NDArray[Any]:
    """Multiply b by the inverse of the matrix as the library's operator."""
    return numpy_array(_inverse(TensorLinearOperator(torch.tensor(matrix)), iterations)(torch.tensor(b)))


def fisher_conjugate_gradient(
    policy: Mapping[str, Any], observations: NDArray[Any], b: Mapping[str, Any], damping: float, iterations: int
) -> Parameters:
    """Multiply b by the inverse of the damped Gauss–Newton operator."""
    right = policies.tensors_of(b)
    return policies.parameters_of(_inverse(_damped(policy, observations, right, damping), iterations)(right))


def _inverse(operator: Any, iterations: int) -> Callable[[Any], Any]:
    """Return multiplication by the inverse after so many iterations, whatever the residual is by then."""
    tiny = float(torch.finfo(operator.dtype).tiny)
    inverse = CGInverseLinearOperator(
        operator, max_iter=int(iterations), max_tridiag_iter=0, tolerance=0.0, stop_updating_after=0.0, eps=tiny
    )

    def product(b: Any) -> Any:
        with warnings.catch_warnings():  # that the tolerance, which is 0, was not reached
            warnings.simplefilter("ignore", NumericalWarning)
            return inverse @ b

    return product


_ONLY_OPERATORS = "curvlinops has linear operators of losses, and their inverses, only"
_NO_EXACT_SOLVE = "linear systems are solved by iteration; see fisher_conjugate_gradient"

unsupported = {op: _ONLY_OPERATORS for op in OPS if op not in globals()} | {
    "mean_kl": "the loss of its operators is the cross-entropy, which is the KL but for a constant",
    "natural_gradient": _NO_EXACT_SOLVE,
    "natural_gradient_minimum_norm": _NO_EXACT_SOLVE,
    "natural_gradient_step": _NO_EXACT_SOLVE,
}
