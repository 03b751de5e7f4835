"""sb3-contrib's TRPO: its own products, conjugate gradients and ``train()``.

It averages the KL over the A dimensions of the action, so its Fisher matrix is F/A.  With damping λ/A and radius δ/A
its step is that of the others, and so it is asked.
"""

import copy
import warnings
from functools import partial
from typing import Any

import numpy as np
import sb3_contrib
import torch
from sb3_contrib import TRPO
from sb3_contrib.common.utils import conjugate_gradient_solver
from stable_baselines3.common.distributions import kl_divergence
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy

from refpg.conformance.peers._sb3_objects import SpacesOnly
from refpg.notation import Array
from verification.benchmarks.peers import Call
from verification.benchmarks.peers.stable_baselines3 import (
    FLOAT32,
    actor_parameters,
    in_order,
    load,
    policy_arguments,
    spaces_of,
)
from verification.benchmarks.peers.torch_double_backward import tensors
from verification.benchmarks.problems import DAMPING, ITERATIONS, MAX_KL, Problem

OVER_DIMENSIONS = "KL averaged over action dimensions: asked with λ/A and δ/A, and its products multiplied by A"


def version() -> str:
    """Return the version."""
    return str(sb3_contrib.__version__)


def _model(problem: Problem) -> Any:
    A = problem.sizes[-1]
    with warnings.catch_warnings():  # about rows that no minibatch divides
        warnings.simplefilter("ignore", UserWarning)
        model = TRPO(
            ActorCriticPolicy,
            SpacesOnly(*spaces_of(problem)),
            device="cpu",
            n_steps=problem.rows,
            batch_size=problem.rows,
            normalize_advantage=False,
            cg_max_steps=ITERATIONS,
            cg_damping=DAMPING / A,
            target_kl=MAX_KL / A,
            line_search_shrinking_factor=0.5,
            n_critic_updates=0,
            policy_kwargs=dict(policy_arguments(problem)),
        )
    model.set_logger(Logger(None, []))
    load(model.policy, problem)
    return model


def _fill(model: Any, problem: Problem) -> None:
    """Put the samples into the real rollout buffer."""
    x, a, A, _ = tensors(problem)
    buffer = model.rollout_buffer
    with torch.no_grad():
        old = model.policy.get_distribution(x.float()).log_prob(a)
    for name, rows in (("observations", x), ("actions", a), ("advantages", A), ("log_probs", old)):
        getattr(buffer, name)[:, 0] = rows.numpy()
    buffer.pos, buffer.full = problem.rows, True


def _product(model: Any, problem: Problem) -> Any:
    """Return TRPO's own Hessian-vector product, over the actor's parameters in their own order."""
    x = tensors(problem)[0].float()
    leaves = actor_parameters(model.policy)
    with torch.no_grad():
        old = copy.copy(model.policy.get_distribution(x))  # as train() does: the policy has one object
    divergence = kl_divergence(model.policy.get_distribution(x), old).mean()
    slope = torch.cat([g.reshape(-1) for g in torch.autograd.grad(divergence, leaves, create_graph=True)])
    return partial(model.hessian_vector_product, leaves, slope)


def _vector(problem: Problem, model: Any) -> torch.Tensor:
    """Return v in the order of the actor's parameters."""
    return torch.tensor(problem.v)[torch.tensor(_order(problem, model))]


def _order(problem: Problem, model: Any) -> Array:
    """Return where in θ each entry of the actor's parameters stands."""
    place = np.arange(len(problem.theta))
    parts, start = [], 0
    for leaf in actor_parameters(model.policy):
        part = place[start : start + leaf.numel()]
        start += leaf.numel()
        parts.append(part.reshape(tuple(leaf.T.shape)).T.ravel() if leaf.ndim == 2 else part)
    return np.concatenate(parts)


def _reader(problem: Problem, model: Any, factor: float) -> Any:
    def read(found: torch.Tensor) -> Array:
        answer = np.empty(len(found))
        answer[_order(problem, model)] = found.detach().numpy() * factor
        return answer

    return read


def _fisher_product(problem: Problem) -> Call:
    model = _model(problem)
    F, v = _product(model, problem), _vector(problem, model)
    return Call(lambda: F(v), _reader(problem, model, problem.sizes[-1]), f"{OVER_DIMENSIONS}; {FLOAT32}")


def _conjugate_gradient(problem: Problem) -> Call:
    model = _model(problem)
    v = _vector(problem, model)

    def run() -> torch.Tensor:
        return conjugate_gradient_solver(_product(model, problem), v, max_iter=ITERATIONS)

    note = f"starts at 1e-4 random numbers, so 11 products; {OVER_DIMENSIONS}; {FLOAT32}"
    return Call(run, _reader(problem, model, 1 / problem.sizes[-1]), note, tolerance=1e-2)


def _trpo_update(problem: Problem) -> Call:
    model = _model(problem)
    _fill(model, problem)
    leaves = actor_parameters(model.policy)
    before = [leaf.detach().clone() for leaf in leaves]

    def run() -> list[torch.Tensor]:
        for leaf, value in zip(leaves, before, strict=True):
            leaf.data = value.clone()
        with warnings.catch_warnings():  # the mean of no value losses
            warnings.simplefilter("ignore", RuntimeWarning)
            model.train()
        return [leaf.data - value for leaf, value in zip(leaves, before, strict=True)]

    note = f"train() with no critic update; starts at 1e-4 random numbers, so 12 products; {OVER_DIMENSIONS}; {FLOAT32}"
    return Call(run, lambda found: in_order(problem, found), note, tolerance=1e-2)


calls = {"fisher_product": _fisher_product, "conjugate_gradient": _conjugate_gradient, "trpo_update": _trpo_update}
