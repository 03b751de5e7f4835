"""sb3-contrib as it is installed: TRPO's ``train()``, its conjugate gradients, masked distributions, MaskablePPO.

What TRPO computes is read where it computes it: ``train()`` of a real TRPO object hands its KL and its surrogate to
its own ``_compute_actor_grad``, and there this adapter listens.  Products with the Hessian come from TRPO's own
``hessian_vector_product``; the line search and the full step are a whole ``train()``.
"""

import contextlib
from collections.abc import Callable, Mapping
from importlib.metadata import version as version_of
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import TRPO, MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.utils import conjugate_gradient_solver
from sb3_contrib.trpo import trpo as trpo_module
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy

from refpg.conformance.ops import OPS
from refpg.conformance.peers import _sb3_objects as objects
from refpg.conformance.peers._sb3_distributions import FAMILIES, Family, distribution_ops
from refpg.conformance.peers._sb3_losses import loss_ops
from refpg.conformance.peers._torch_distributions import numpy_array, old_and_new

name = "sb3-contrib"
version = version_of("sb3-contrib")

_QUANTITIES = ("log_prob", "entropy", "kl", "score", "fisher")
_MEAN_KLS = ("categorical", "multi_categorical", "bernoulli", "diagonal_gaussian")

dtype = {
    "*": "float32",
    **{f"{quantity}_masked_categorical": "float64" for quantity in _QUANTITIES},
    **{f"mean_kl_{family}": "float64" for family in _MEAN_KLS},
    "conjugate_gradient": "float64",
}

conventions = {
    "kl.direction": "new_old",
    "line_search.accept": "improves_and_kl_strict",
    "step_length.damping": "damped",
    "conjugate_gradient.stop": "1e-10_from_start",
    "advantage.ddof": "1",
    "advantage.epsilon": "1e-8",
    "approximate_kl.estimator": "k3",
    "clip_fraction.rule": "outside",
    "value_loss.factor": "1",
    "value_loss.clip": "clipped_only",
}

notes = [
    f"with stable-baselines3 {version_of('stable-baselines3')}, torch {torch.__version__}, "
    f"gymnasium {version_of('gymnasium')}",
    "the surrogate, the mean KL and their gradients are those TRPO.train() hands to and gets from _compute_actor_grad",
    "mean_kl_* hand TRPO.train() the two distributions in the order of the question; its own order is KL(new ‖ old)",
    "old and new policy: the policy has the old weights when train() first asks for its distribution, then the new",
    "conjugate_gradient_solver starts from a random x (1e-4 · randn); that draw is held at 0",
    "line_search and step_length hand train() the search direction and its product in the place of the solver's",
    "accepted is the number of candidates train() evaluated, less one, or −1 if it logged a failed line search",
    "the operations of profile ppo are the loss lines of MaskablePPO.train(), with every action allowed",
    "the permutation of the rollout's rows (numpy.random.permutation) is held: rows in the order given",
    "Box observations are cast to float32 and the rollout buffer holds float32, so what passes there is float32",
]

_IN_SB3 = "Stable-Baselines3's; judged there"
_NO_MASKED_TRPO = "there is no trust-region method for masked policies, and nothing else takes the mean of a KL"
_NO_SQUASHED_TRPO = "TRPO has no squashed Gaussian policy (squash_output needs gSDE)"
_NO_EXACT_SOLVE = "linear systems are only solved by truncated conjugate gradients; see fisher_conjugate_gradient"
_ONE_WINDOW = "the ratio is clipped on both sides by one clip_range, and has no second bound"
_NO_KL_PENALTY = "there is no method with a KL penalty"

unsupported = {
    **{
        f"{quantity}_{family}": _IN_SB3
        for quantity in _QUANTITIES
        for family in FAMILIES
        if family != "masked_categorical"
    },
    "mean_kl_masked_categorical": _NO_MASKED_TRPO,
    "mean_kl_squashed_gaussian": _NO_SQUASHED_TRPO,
    "kl_estimators": "only the mean of k3 exists, inside train(); judged as approximate_kl",
    "discounted_returns": _IN_SB3,
    "td_errors": _IN_SB3,
    "gae": _IN_SB3,
    "gae_rollout": _IN_SB3,
    "explained_variance": _IN_SB3,
    "clipped_objective_parameter_gradient": "the loss lines are judged by the gradient for log-probabilities",
    "kl_penalized_objective": _NO_KL_PENALTY,
    "kl_penalty_update": _NO_KL_PENALTY,
    "proportional_kl_penalty_update": _NO_KL_PENALTY,
    "asymmetric_clipped_objective": _ONE_WINDOW,
    "dual_clipped_objective": _ONE_WINDOW,
    "entropy_bonus": _IN_SB3,
    "ppo_objective": _IN_SB3,
    "adam_step": _IN_SB3,
    "ppo_epoch": _IN_SB3,
    "network_forward": _IN_SB3,
    "natural_gradient": _NO_EXACT_SOLVE,
    "natural_gradient_minimum_norm": _NO_EXACT_SOLVE,
    "natural_gradient_step": _NO_EXACT_SOLVE,
    "expected_improvement": "the line search compares surrogates and does not predict their improvement",
    **dict.fromkeys((name for name, op in OPS.items() if op.profile == "theory"), "there are no exact MDPs"),
    **dict.fromkeys((name for name, op in OPS.items() if op.profile == "sequence"), "there are no padded sequences"),
}

globals().update(distribution_ops("masked_categorical", *_QUANTITIES))
globals().update(loss_ops(MaskablePPO, MaskableActorCriticPolicy))  # normalize_advantages is TRPO's, below

Policy = Mapping[str, Any]
Parameters = dict[str, Any]


class _Stop(Exception):
    """Ends a ``train()`` whose remaining lines are not asked for."""


class _Terms(NamedTuple):
    """TRPO's KL and surrogate as ``train()`` forms them, and what ``_compute_actor_grad`` makes of them."""

    kl: torch.Tensor
    surrogate: torch.Tensor
    actor: list[torch.nn.Parameter]
    surrogate_gradient: torch.Tensor
    kl_gradient: torch.Tensor


def _trpo(policy: Policy, observations: NDArray[Any], **settings: Any) -> Any:
    """Return a real TRPO object with these weights; one update of its critic is the least its logs can do with."""
    return objects.actor_critic(TRPO, policy, rows=len(observations), n_critic_updates=1, **settings)


def _kl_and_surrogate(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Run ``train()`` until it hands its KL and its surrogate to ``_compute_actor_grad``."""
    heard = []

    def listen(kl_div: torch.Tensor, policy_objective: torch.Tensor) -> None:
        heard.append((kl_div, policy_objective))
        raise _Stop

    with (
        mock.patch.object(model, "_compute_actor_grad", listen),
        contextlib.suppress(_Stop),
        objects.rows_in_order(),
    ):
        model.train()
    return heard[0]


def _terms(model: Any) -> _Terms:
    """Listen to ``train()``, then call the real ``_compute_actor_grad`` with what was heard."""
    kl, surrogate = _kl_and_surrogate(model)
    actor, surrogate_gradient, kl_gradient, _ = model._compute_actor_grad(kl, surrogate)
    return _Terms(kl, surrogate, actor, surrogate_gradient, kl_gradient)


def _flat(model: Any, actor: list[torch.nn.Parameter], parameters: Parameters) -> torch.Tensor:
    """Return the contract's parameters as one vector in the order of TRPO's actor parameters."""
    entries = objects.actor_entries(model.policy, parameters)
    return torch.cat([entries[parameter].reshape(-1) for parameter in actor])


def _structured(model: Any, actor: list[torch.nn.Parameter], vector: torch.Tensor) -> Parameters:
    """Return one vector in the order of TRPO's actor parameters as the contract's parameters."""
    pieces = torch.split(vector, [parameter.numel() for parameter in actor])
    entries = dict(zip(actor, pieces, strict=True))
    return objects.actor_of(model.policy, lambda parameter: entries[parameter].view(parameter.shape))


# Surrogate and mean KL: what train() hands to _compute_actor_grad.


def _samples_terms(
    policy: Policy, observations: Any, actions: Any, advantages: Any, old_log_prob: Any
) -> tuple[Any, _Terms]:
    model = _trpo(policy, observations)
    objects.fill(
        model, observations=observations, actions=actions, advantages=advantages, old_log_prob=old_log_prob
    )
    return model, _terms(model)


def surrogate(**inputs: Any) -> float:
    """Listen to ``train()``."""
    _, terms = _samples_terms(**inputs)
    return terms.surrogate.item()


def surrogate_gradient(**inputs: Any) -> Parameters:
    """Listen to ``train()``."""
    model, terms = _samples_terms(**inputs)
    return _structured(model, terms.actor, terms.surrogate_gradient)


def _policies_terms(old_policy: Policy, new_policy: Policy, observations: Any) -> tuple[Any, _Terms]:
    """Listen to ``train()`` of a policy whose weights change from old to new after its first distribution.

    ``train()`` asks for the old distribution first and for the new one, which carries gradients, second.
    """
    model = _trpo(old_policy, observations, cg_damping=0.0)
    distribution_at = model.policy.get_distribution
    weights = iter([old_policy, new_policy])

    def old_then_new(batch: torch.Tensor) -> Any:
        objects.load_actor(model.policy, next(weights))
        return distribution_at(batch)

    objects.fill_nothing(model, observations)
    with mock.patch.object(model.policy, "get_distribution", old_then_new):
        return model, _terms(model)


def mean_kl(old_policy: Policy, new_policy: Policy, observations: Any) -> float:
    """Listen to ``train()``."""
    _, terms = _policies_terms(old_policy, new_policy, observations)
    return terms.kl.item()


def mean_kl_gradient(old_policy: Policy, new_policy: Policy, observations: Any) -> Parameters:
    """Listen to ``train()``."""
    model, terms = _policies_terms(old_policy, new_policy, observations)
    return _structured(model, terms.actor, terms.kl_gradient)


def mean_kl_hessian_vector_product(
    old_policy: Policy, new_policy: Policy, observations: Any, vector: Parameters
) -> Parameters:
    """Call TRPO's ``hessian_vector_product`` with damping 0."""
    model, terms = _policies_terms(old_policy, new_policy, observations)
    product = _product(model, terms, _flat(model, terms.actor, vector))
    return _structured(model, terms.actor, product)


def _product(model: Any, terms: _Terms, vector: torch.Tensor) -> torch.Tensor:
    """Call TRPO's ``hessian_vector_product``, which adds the model's ``cg_damping``."""
    product: torch.Tensor = model.hessian_vector_product(terms.actor, terms.kl_gradient, vector)
    return product


def _given_distributions(
    first: Any, second: Any, action_space: Any, rows: int, advantages: Any = 0.0, **settings: Any
) -> Any:
    """Return a real TRPO object whose policy answers ``train()`` with these distributions, in this order."""
    model = objects.algorithm(
        TRPO, ActorCriticPolicy, objects.unbounded(1), action_space, rows=rows, **settings
    )
    answers = iter([first, second])
    model.policy.get_distribution = lambda batch: next(answers)
    objects.fill_nothing(model, np.zeros((rows, 1)), advantages=advantages)
    return model


def _mean_kl_between(family: Family) -> Callable[..., float]:
    """Return the operation mean_kl_* of a family: ``train()`` forms the mean KL(second ‖ first)."""

    def mean_kl_given(**inputs: Any) -> float:
        old, new = old_and_new(family, inputs)
        rows = len(inputs[f"old_{family.parameters[0]}"])
        kl, _ = _kl_and_surrogate(_given_distributions(new, old, family.action_space(inputs), rows))
        return kl.item()

    return mean_kl_given


globals().update({f"mean_kl_{family}": _mean_kl_between(FAMILIES[family]) for family in _MEAN_KLS})


def normalize_advantages(advantages: NDArray[Any]) -> NDArray[Any]:
    """Let TRPO normalise: where the ratio is 1 the derivative of the surrogate for a row is (normalised)/B."""
    rows = len(advantages)
    log_prob = torch.zeros(rows, requires_grad=True)
    distribution = CategoricalDistribution(2).proba_distribution(torch.zeros(rows, 2))
    distribution.log_prob = lambda actions: log_prob
    model = _given_distributions(
        distribution, distribution, spaces.Discrete(2), rows, advantages, normalize_advantage=True
    )
    _, surrogate = _kl_and_surrogate(model)
    (gradient,) = torch.autograd.grad(surrogate, log_prob)
    return rows * numpy_array(gradient)


# Fisher matrix and conjugate gradients: the Hessian of the KL where old and new policy are the same.


def fisher_vector_product(policy: Policy, observations: Any, vector: Parameters, damping: float) -> Parameters:
    """Call TRPO's ``hessian_vector_product``."""
    model, terms = _policies_terms(policy, policy, observations)
    model.cg_damping = float(damping)
    return _structured(model, terms.actor, _product(model, terms, _flat(model, terms.actor, vector)))


def fisher_matrix(policy: Policy, observations: Any) -> NDArray[Any]:
    """Call TRPO's ``hessian_vector_product`` for every unit vector."""
    model, terms = _policies_terms(policy, policy, observations)
    size = len(terms.kl_gradient)
    columns = [_product(model, terms, unit) for unit in torch.eye(size)]
    place = objects.vector_of(_structured(model, terms.actor, torch.arange(size)))
    fisher: NDArray[Any] = torch.stack(columns, dim=1).numpy()[np.ix_(place, place)]
    return fisher


def _start_at_zero() -> Any:
    """Hold the random start of the library's conjugate gradients, 1e-4 · randn, at 0."""
    return mock.patch.object(torch, "randn_like", torch.zeros_like)


def conjugate_gradient(matrix: NDArray[Any], b: NDArray[Any], iterations: int) -> NDArray[Any]:
    """Call the library's solver."""
    dense = torch.tensor(matrix)
    with _start_at_zero():
        x = conjugate_gradient_solver(lambda vector: dense @ vector, torch.tensor(b), max_iter=int(iterations))
    return numpy_array(x)


def fisher_conjugate_gradient(
    policy: Policy, observations: Any, b: Parameters, damping: float, iterations: int
) -> Parameters:
    """Call the library's solver with TRPO's ``hessian_vector_product``, as ``train()`` does."""
    model, terms = _policies_terms(policy, policy, observations)
    model.cg_damping = float(damping)
    with _start_at_zero():
        x = conjugate_gradient_solver(
            lambda vector: _product(model, terms, vector),
            _flat(model, terms.actor, b),
            max_iter=int(iterations),
        )
    return _structured(model, terms.actor, x)


# The update: a whole train().


def step_length(direction: NDArray[Any], product: NDArray[Any], max_kl: float) -> float:
    """Hand ``train()`` the direction and its product, and measure the first candidate, which starts from zero.

    The policy, a linear Bernoulli one of one action, is only there to have as many parameters as the direction.
    """
    features = len(direction) - 1  # the last parameter is the bias
    if features < 1:
        raise NotImplementedError("no ActorCriticPolicy has a single parameter")
    zero = [{"W": np.zeros((features, 1)), "b": np.zeros(1)}]
    model = _trpo(
        {"layers": zero, "activation": "identity", "distribution": "bernoulli"},
        np.zeros((1, features)),
        target_kl=float(max_kl),
        line_search_max_iter=1,
    )
    objects.fill_nothing(model, np.zeros((1, features)))
    asked = _watch(model)
    _train_along(model, lambda actor: objects.float32(direction), lambda along: objects.float32(product))
    _, _, candidate = asked
    largest = np.argmax(np.abs(direction))
    return float(candidate[largest] / direction[largest])


def line_search(
    policy: Policy,
    observations: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    full_step: Parameters,
    max_kl: float,
    backtrack: float,
    max_backtracks: int,
) -> dict[str, Any]:
    """Hand ``train()`` the full step as its search direction, and a product that makes the step length 1."""
    model = _trpo(
        policy,
        observations,
        target_kl=float(max_kl),
        line_search_shrinking_factor=float(backtrack),
        line_search_max_iter=int(max_backtracks),
    )
    _fill_at_old_policy(model, observations, actions, advantages)
    asked = _watch(model)

    def unit_length(along: torch.Tensor) -> torch.Tensor:
        """Return v with vᵀ(full step) = 2 max_kl, in one entry whose product is exact where there is one."""
        quotient = 2 * max_kl / along
        exact = quotient * along == 2 * max_kl
        one = torch.argmax(along.abs() * exact if exact.any() else along.abs())
        product = torch.zeros_like(along)
        product[one] = quotient[one]
        return product

    _train_along(model, lambda actor: _flat(model, actor, full_step), unit_length)
    return _outcome(model, asked)


def trpo_step(
    policy: Policy,
    observations: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    max_kl: float,
    damping: float,
    iterations: int,
    backtrack: float,
    max_backtracks: int,
) -> dict[str, Any]:
    """Run ``train()``."""
    model = _trpo(
        policy,
        observations,
        target_kl=float(max_kl),
        cg_damping=float(damping),
        cg_max_steps=int(iterations),
        line_search_shrinking_factor=float(backtrack),
        line_search_max_iter=int(max_backtracks),
    )
    _fill_at_old_policy(model, observations, actions, advantages)
    asked = _watch(model)
    with _start_at_zero(), objects.rows_in_order():
        try:
            model.train()
        except ZeroDivisionError:
            raise NotImplementedError("train() divides by the curvature of the direction, which is 0 here") from None
    return _outcome(model, asked)


def _fill_at_old_policy(model: Any, observations: Any, actions: Any, advantages: Any) -> None:
    """Fill the buffer with the policy's own log-probabilities, as a rollout does."""
    with torch.no_grad():
        _, log_prob, _ = model.policy.evaluate_actions(
            objects.float32(observations), objects.float32(actions)
        )
    objects.fill(
        model, observations=observations, actions=actions, advantages=advantages, old_log_prob=log_prob.numpy()
    )


def _watch(model: Any) -> list[NDArray[Any]]:
    """Record the actor's parameters whenever ``train()`` asks for a distribution: old, current, each candidate."""
    distribution_at = model.policy.get_distribution
    asked: list[NDArray[Any]] = []

    def watch(batch: torch.Tensor) -> Any:
        asked.append(objects.vector_of(objects.actor_of(model.policy)))
        return distribution_at(batch)

    model.policy.get_distribution = watch
    return asked


def _train_along(
    model: Any,
    direction: Callable[[list[torch.nn.Parameter]], torch.Tensor],
    product: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Run ``train()`` with a given search direction and its product in the place of the solver's."""

    def given_product(actor: Any, kl_gradient: Any, vector: torch.Tensor, retain_graph: bool = True) -> Any:
        return product(vector)

    def given_direction(hessian_vector_product: Any, b: torch.Tensor, max_iter: int) -> torch.Tensor:
        actor, _ = hessian_vector_product.args
        return direction(actor)

    with (
        mock.patch.object(model, "hessian_vector_product", given_product),
        mock.patch.object(trpo_module, "conjugate_gradient_solver", given_direction),
        objects.rows_in_order(),
    ):
        model.train()


def _outcome(model: Any, asked: list[NDArray[Any]]) -> dict[str, Any]:
    """Return the new parameters and the index of the accepted candidate; two distributions precede the first."""
    succeeded = model.logger.name_to_value["train/is_line_search_success"] == 1.0
    return {
        "parameters": objects.actor_of(model.policy),
        "accepted": len(asked) - 3 if succeeded else -1,
    }
