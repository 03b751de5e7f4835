"""PyTorch as it is installed: torch.distributions, its losses and optimizers, autograd and linear algebra.

Torch has no reinforcement learning of its own.  What is judged is what a hand-written PPO or TRPO rests on: the
distributions with their KL, ``mse_loss``, ``Adam``, and the derivatives that autograd takes of a published objective
written down here.  A value that would only be a formula of this file is declared unsupported.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributions

from refpg.conformance.ops import OPS
from refpg.conformance.peers import _torch_policies as policies
from refpg.conformance.peers._torch_distributions import Family, Inputs, Phi, distribution_ops, numpy_array

name = "torch"
version = version_of("torch")

dtype = "float64"

conventions = {"advantage.ddof": "0", "advantage.epsilon": "0", "value_loss.factor": "1"}

notes = [
    "distributions are those of torch.distributions, KLs its kl_divergence; a mean KL is the mean of its rows",
    "masked actions have the logit −inf; factors of a multi-categorical are one Categorical each, added up",
    "the squashed Gaussian is a TransformedDistribution with TanhTransform(cache_size=1), which keeps u",
    "gradients are torch.autograd's of the published objective, Hessian and Fisher products its double backward",
    "the Fisher matrix is the Hessian of the mean KL at equal parameters; it is solved by torch.linalg",
    "normalize_advantages is torch.nn.functional.layer_norm over the whole batch with eps 0",
]

Parameters = dict[str, Any]


# Distributions.


def _categorical(phi: Phi, inputs: Inputs) -> Any:
    return distributions.Categorical(logits=phi["logits"])


def _masked_categorical(phi: Phi, inputs: Inputs) -> Any:
    forbidden = ~torch.tensor(np.asarray(inputs["mask"], dtype=bool))
    return distributions.Categorical(logits=phi["logits"].masked_fill(forbidden, float("-inf")))


def _bernoulli(phi: Phi, inputs: Inputs) -> Any:
    return distributions.Independent(distributions.Bernoulli(logits=phi["logits"]), 1)


def _gaussian(phi: Phi, inputs: Inputs) -> Any:
    return distributions.Independent(distributions.Normal(phi["mean"], phi["log_std"].exp()), 1)


def _squashed_gaussian(phi: Phi, inputs: Inputs) -> Any:
    squash = distributions.TanhTransform(cache_size=1)
    return distributions.TransformedDistribution(_gaussian(phi, inputs), [squash])


class _Factors:
    """One Categorical for each factor, independent of each other."""

    def __init__(self, factors: Sequence[Any]) -> None:
        self.factors = factors

    def log_prob(self, actions: torch.Tensor) -> Any:
        """Return the sum of the factors'."""
        return sum(factor.log_prob(column) for factor, column in zip(self.factors, actions.T, strict=True))

    def entropy(self) -> Any:
        """Return the sum of the factors'."""
        return sum(factor.entropy() for factor in self.factors)


def _multi_categorical(phi: Phi, inputs: Inputs) -> Any:
    blocks = torch.split(phi["logits"], [int(n) for n in inputs["action_sizes"]], dim=1)
    return _Factors([distributions.Categorical(logits=block) for block in blocks])


def _kl(old: Any, new: Any) -> Any:
    if isinstance(old, _Factors):
        return sum(distributions.kl_divergence(p, q) for p, q in zip(old.factors, new.factors, strict=True))
    return distributions.kl_divergence(old, new)


def _whole_actions(distribution: Any, inputs: Inputs) -> Any:
    return distribution.log_prob(torch.tensor(np.asarray(inputs["actions"], dtype=np.int64)))


def _binary_actions(distribution: Any, inputs: Inputs) -> Any:
    dtype = distribution.base_dist.logits.dtype
    return distribution.log_prob(torch.tensor(np.asarray(inputs["actions"]), dtype=dtype))


def _real_actions(distribution: Any, inputs: Inputs) -> Any:
    return distribution.log_prob(torch.tensor(inputs["actions"]))


def _squashed_actions(distribution: Any, inputs: Inputs) -> Any:
    (squash,) = distribution.transforms
    return distribution.log_prob(squash(torch.tensor(inputs["pre_tanh_actions"])))


_FAMILIES = {
    "categorical": Family(("logits",), _categorical, _whole_actions),
    "masked_categorical": Family(("logits",), _masked_categorical, _whole_actions),
    "multi_categorical": Family(("logits",), _multi_categorical, _whole_actions),
    "bernoulli": Family(("logits",), _bernoulli, _binary_actions),
    "diagonal_gaussian": Family(("mean", "log_std"), _gaussian, _real_actions),
    "squashed_gaussian": Family(("mean", "log_std"), _squashed_gaussian, _squashed_actions),
}
_QUANTITIES = ("log_prob", "entropy", "kl", "mean_kl", "score", "fisher")
_LACKING = {"entropy_squashed_gaussian": "a TransformedDistribution has no entropy"}

for _name, _family in _FAMILIES.items():
    _quantities = [quantity for quantity in _QUANTITIES if f"{quantity}_{_name}" not in _LACKING]
    globals().update(distribution_ops(_name, _family, _kl, *_quantities))


# What torch.nn.functional and torch.optim have.


def normalize_advantages(advantages: NDArray[Any]) -> NDArray[Any]:
    """Call ``layer_norm`` on the batch as one layer, with eps 0 under the root."""
    A = torch.tensor(advantages)
    return numpy_array(torch.nn.functional.layer_norm(A, A.shape, eps=0.0))


def value_loss(values: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """Call ``mse_loss``."""
    return numpy_array(torch.nn.functional.mse_loss(torch.tensor(values), torch.tensor(targets)))


def adam_step(
    parameters: NDArray[Any],
    gradient: NDArray[Any],
    first_moment: NDArray[Any],
    second_moment: NDArray[Any],
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> dict[str, NDArray[Any]]:
    """Set ``torch.optim.Adam`` to the moments given and let it take one step."""
    parameter = torch.nn.Parameter(torch.tensor(parameters))
    parameter.grad = torch.tensor(gradient)
    adam = _adam([parameter], learning_rate, beta1, beta2, epsilon)
    state = {
        "step": torch.tensor(float(step - 1)),
        "exp_avg": torch.tensor(first_moment),
        "exp_avg_sq": torch.tensor(second_moment),
    }
    adam.state[parameter] = state
    adam.step()
    return {
        "parameters": numpy_array(parameter),
        "first_moment": numpy_array(state["exp_avg"]),
        "second_moment": numpy_array(state["exp_avg_sq"]),
    }


def _adam(leaves: Any, learning_rate: float, beta1: float, beta2: float, epsilon: float, **settings: Any) -> Any:
    betas = (float(beta1), float(beta2))
    return torch.optim.Adam(leaves, lr=float(learning_rate), betas=betas, eps=float(epsilon), **settings)


# Derivatives of published objectives.


def _clipped(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float) -> Any:
    """Return the mean of min(rA, clip(r, 1 − ε, 1 + ε)A), to be differentiated."""
    r = torch.exp(new_log_prob - old_log_prob)
    return torch.minimum(r * advantages, torch.clamp(r, 1 - clip, 1 + clip) * advantages).mean()


def clipped_objective_gradient(
    old_log_prob: NDArray[Any], new_log_prob: NDArray[Any], advantages: NDArray[Any], clip: float
) -> NDArray[Any]:
    """Differentiate the clipped objective with respect to the new log-probabilities."""
    new = torch.tensor(new_log_prob).requires_grad_()
    objective = _clipped(torch.tensor(old_log_prob), new, torch.tensor(advantages), float(clip))
    return numpy_array(*torch.autograd.grad(objective, new))


def _clipped_of(
    pi: policies.Policy, observations: Any, actions: Any, advantages: Any, old_log_prob: Any, clip: float
) -> Any:
    log_prob = pi(torch.tensor(observations)).log_prob(torch.tensor(actions))
    return _clipped(torch.tensor(old_log_prob), log_prob, torch.tensor(advantages), float(clip))


def clipped_objective_parameter_gradient(
    policy: Mapping[str, Any],
    observations: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    old_log_prob: NDArray[Any],
    clip: float,
) -> Parameters:
    """Differentiate the clipped objective through log_prob and the network."""
    pi = policies.Policy(policy)
    objective = _clipped_of(pi, observations, actions, advantages, old_log_prob, clip)
    return policies.parameters_of(pi.gradient(objective))


def entropy_bonus(policy: Mapping[str, Any], observations: NDArray[Any]) -> dict[str, Any]:
    """Differentiate the mean of the distribution's entropy."""
    pi = policies.Policy(policy)
    entropy = pi(torch.tensor(observations)).entropy().mean()
    return {"entropy": numpy_array(entropy), "gradient": policies.parameters_of(pi.gradient(entropy))}


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
    """Differentiate clipped objective − c₁ mse_loss + c₂ entropy."""
    pi, critic = policies.Policy(policy), policies.network(value_network)
    x = torch.tensor(observations)
    error = torch.nn.functional.mse_loss(critic(x)[:, 0], torch.tensor(value_targets))
    clipped = _clipped_of(pi, observations, actions, advantages, old_log_prob, clip)
    objective = clipped - float(value_coefficient) * error + float(entropy_coefficient) * pi(x).entropy().mean()
    value_gradient = torch.autograd.grad(objective, list(critic.parameters()), retain_graph=True)
    return {
        "objective": numpy_array(objective),
        "policy_gradient": policies.parameters_of(pi.gradient(objective)),
        "value_gradient": policies.parameters_of(value_gradient),
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
    """Let ``torch.optim.Adam(maximize=True)`` ascend the clipped objective."""
    pi = policies.Policy(policy)
    adam = _adam(pi.leaves(), learning_rate, beta1, beta2, epsilon, maximize=True)
    for minibatch in minibatches:
        rows = [int(row) for row in minibatch]
        adam.zero_grad()
        _clipped_of(pi, observations[rows], actions[rows], advantages[rows], old_log_prob[rows], clip).backward()
        adam.step()
    return {"parameters": policies.parameters_of(pi.leaves())}


def surrogate_gradient(
    policy: Mapping[str, Any],
    observations: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    old_log_prob: NDArray[Any],
) -> Parameters:
    """Differentiate the mean of r·A."""
    pi = policies.Policy(policy)
    log_prob = pi(torch.tensor(observations)).log_prob(torch.tensor(actions))
    surrogate = (torch.exp(log_prob - torch.tensor(old_log_prob)) * torch.tensor(advantages)).mean()
    return policies.parameters_of(pi.gradient(surrogate))


def softmax_policy_gradient(
    transition: NDArray[Any], reward: NDArray[Any], start: NDArray[Any], gamma: float, logits: NDArray[Any]
) -> NDArray[Any]:
    """Differentiate η = ρ₀ᵀ(I − γP)⁻¹r through softmax and ``torch.linalg.solve``."""
    P, r, rho = torch.tensor(transition), torch.tensor(reward), torch.tensor(start)
    theta = torch.tensor(logits).requires_grad_()
    pi = torch.softmax(theta, dim=1)
    chain, mean_reward = (pi[:, :, None] * P).sum(dim=1), (pi * r).sum(dim=1)
    values = torch.linalg.solve(torch.eye(len(rho), dtype=P.dtype) - float(gamma) * chain, mean_reward)
    return numpy_array(*torch.autograd.grad(rho @ values, theta))


# The trust region.


def network_forward(network: Mapping[str, Any], observations: NDArray[Any]) -> NDArray[Any]:
    """Call a Sequential of Linear layers and activations."""
    return numpy_array(policies.network(network)(torch.tensor(observations)))


def mean_kl(
    old_policy: Mapping[str, Any], new_policy: Mapping[str, Any], observations: NDArray[Any]
) -> NDArray[Any]:
    """Call ``kl_divergence`` of the policies' distributions."""
    return numpy_array(policies.mean_kl(policies.Policy(old_policy), policies.Policy(new_policy), observations))


def mean_kl_gradient(
    old_policy: Mapping[str, Any], new_policy: Mapping[str, Any], observations: NDArray[Any]
) -> Parameters:
    """Differentiate it with respect to the new policy."""
    new = policies.Policy(new_policy)
    return policies.parameters_of(new.gradient(policies.mean_kl(policies.Policy(old_policy), new, observations)))


def mean_kl_hessian_vector_product(
    old_policy: Mapping[str, Any],
    new_policy: Mapping[str, Any],
    observations: NDArray[Any],
    vector: Mapping[str, Any],
) -> Parameters:
    """Differentiate it twice."""
    new = policies.Policy(new_policy)
    product = new.hessian_product(policies.mean_kl(policies.Policy(old_policy), new, observations))
    return policies.parameters_of(product(policies.tensors_of(vector)))


def _fisher(policy: Mapping[str, Any], observations: NDArray[Any]) -> policies.HessianProduct:
    pi = policies.Policy(policy)
    return pi.hessian_product(policies.mean_kl(pi, pi, observations))


def fisher_matrix(policy: Mapping[str, Any], observations: NDArray[Any]) -> NDArray[Any]:
    """Differentiate the mean KL twice at equal parameters, column by column."""
    return numpy_array(_fisher(policy, observations).matrix())


def fisher_vector_product(
    policy: Mapping[str, Any], observations: NDArray[Any], vector: Mapping[str, Any], damping: float
) -> Parameters:
    """Differentiate the mean KL twice at equal parameters, in one direction."""
    v = policies.tensors_of(vector)
    Fv = _fisher(policy, observations)(v)
    return policies.parameters_of([a.detach() + float(damping) * b for a, b in zip(Fv, v, strict=True)])


def natural_gradient(
    policy: Mapping[str, Any], observations: NDArray[Any], gradient: Mapping[str, Any], damping: float
) -> Parameters:
    """Solve with the Fisher matrix by ``torch.linalg.solve``."""
    like = policies.tensors_of(gradient)
    F = _fisher(policy, observations).matrix()
    damped = F + float(damping) * torch.eye(len(F), dtype=F.dtype)
    return policies.parameters_of(policies.tensors_from(torch.linalg.solve(damped, policies.vector_of(like)), like))


def natural_gradient_minimum_norm(
    policy: Mapping[str, Any], observations: NDArray[Any], actions: NDArray[Any], advantages: NDArray[Any]
) -> dict[str, Any]:
    """Call ``torch.linalg.lstsq`` by singular values, with its own cut-off for the rank."""
    pi = policies.Policy(policy)
    log_prob = pi(torch.tensor(observations)).log_prob(torch.tensor(actions))
    g = pi.gradient((torch.exp(log_prob - log_prob.detach()) * torch.tensor(advantages)).mean())
    found = torch.linalg.lstsq(_fisher(policy, observations).matrix(), policies.vector_of(g)[:, None], driver="gelsd")
    direction = policies.tensors_from(found.solution[:, 0], g)
    return {"direction": policies.parameters_of(direction), "rank": int(found.rank)}


_ONLY_A_FORMULA = "torch has no such function; the value would be this adapter's own formula"
_NO_ESTIMATORS = "torch has no estimators of advantages or returns"
_NO_SOLVER = "torch has no conjugate gradients"
_NO_TRUST_REGION = "torch has no trust-region step"
_NOTHING_EXACT = "torch has no finite MDPs, bounds or duals; only its derivatives are judged"

unsupported = {
    op.name: _NOTHING_EXACT if op.profile == "theory" else _ONLY_A_FORMULA
    for op in OPS.values()
    if op.name not in globals()
} | {
    **_LACKING,
    **dict.fromkeys(("discounted_returns", "td_errors", "gae", "gae_rollout", "explained_variance"), _NO_ESTIMATORS),
    "conjugate_gradient": _NO_SOLVER,
    "fisher_conjugate_gradient": _NO_SOLVER,
    "line_search": _NO_TRUST_REGION,
    "trpo_step": _NO_TRUST_REGION,
}
