"""RLax as it is installed: its policy-gradient losses, advantage and return estimates, and distributions.

Gradients are JAX's, of RLax's losses, log-probabilities and KLs.  RLax works on one trajectory at a time; the adapter
hands over one environment, cut where a trajectory was truncated, and puts the pieces side by side again.
"""

import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version as version_of
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rlax
from numpy.typing import NDArray

from refpg.conformance.ops import OPS
from refpg.conformance.peers import _jax_policies as policies
from refpg.conformance.peers._jax_distributions import Family, Inputs, Phi, distribution_ops

name = "rlax"
version = version_of("rlax")

dtype = "float64"

conventions = {"value_loss.factor": "1/2"}

notes = [
    f"with jax {jax.__version__}, distrax {version_of('distrax')}; float64 is switched on (jax_enable_x64)",
    "distributions are rlax.softmax and rlax.gaussian_diagonal; masked actions have the logit −inf",
    "discounts are γ, and 0 where an episode terminated; a truncated trajectory is cut and continued by its last value",
    "advantages are truncated_generalized_advantage_estimation, value targets lambda_returns",
    "the losses take probability ratios: jnp.exp of the difference of log-probabilities is the adapter's",
    "the surrogate is clipped_surrogate_pg_loss with an infinite epsilon; value_loss is the mean of l2_loss",
    "scores, Fisher matrices and the derivatives of policies are JAX's, of these functions",
]

with warnings.catch_warnings():  # RLax announces that its distributions will move to Distrax
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    _SOFTMAX, _GAUSSIAN = rlax.softmax(), rlax.gaussian_diagonal()


# Distributions.


def _categorical(logits_of: Callable[[Phi, Inputs], Any]) -> Family:
    def kl(old: Phi, new: Phi, inputs: Inputs) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            return _SOFTMAX.kl(logits_of(old, inputs), logits_of(new, inputs))

    return Family(
        ("logits",),
        lambda phi, inputs: _SOFTMAX.logprob(jnp.asarray(inputs["actions"]), logits_of(phi, inputs)),
        lambda phi, inputs: _SOFTMAX.entropy(logits_of(phi, inputs)),
        kl,
    )


def _std(phi: Phi) -> Any:
    return jnp.exp(phi["log_std"])


FAMILIES = {
    "categorical": _categorical(lambda phi, inputs: phi["logits"]),
    "masked_categorical": _categorical(lambda phi, inputs: jnp.where(inputs["mask"], phi["logits"], -jnp.inf)),
    "diagonal_gaussian": Family(
        ("mean", "log_std"),
        lambda phi, inputs: _GAUSSIAN.logprob(jnp.asarray(inputs["actions"]), phi["mean"], _std(phi)),
        lambda phi, inputs: _GAUSSIAN.entropy(phi["mean"], _std(phi)),
        lambda old, new, inputs: _GAUSSIAN.kl(old["mean"], _std(old), new["mean"], _std(new)),
    ),
}

globals().update(distribution_ops(FAMILIES))


# Estimators.


def _by_trajectory(ends: NDArray[np.bool_], estimate: Callable[[slice, int], Any]) -> NDArray[Any]:
    """Return what `estimate` answers for the rows of every trajectory of every environment, as one (T, E) array."""
    steps, environments = np.shape(ends)
    columns = []
    for e in range(environments):
        cuts = [0, *(np.flatnonzero(ends[:-1, e]) + 1), steps]
        pieces = [estimate(slice(a, b), e) for a, b in pairwise(cuts)]
        columns.append(np.concatenate([np.asarray(piece) for piece in pieces]))
    return np.stack(columns, axis=1)


def _discounts(rewards: NDArray[Any], terminated: NDArray[np.bool_], gamma: float) -> NDArray[Any]:
    return np.where(terminated, 0.0, float(gamma)).astype(rewards.dtype)


def discounted_returns(
    rewards: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    gamma: float,
) -> NDArray[Any]:
    """Call ``discounted_returns`` on every trajectory."""
    discounts = _discounts(rewards, terminated, gamma)
    return _by_trajectory(
        truncated, lambda t, e: rlax.discounted_returns(rewards[t, e], discounts[t, e], next_values[t, e])
    )


def td_errors(
    rewards: NDArray[Any],
    values: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    gamma: float,
) -> NDArray[Any]:
    """Call ``td_learning`` on every transition."""
    discounts = _discounts(rewards, terminated, gamma)
    every = jax.vmap(jax.vmap(rlax.td_learning))
    return np.array(every(*(jnp.asarray(each) for each in (values, rewards, discounts, next_values))))


def gae(
    rewards: NDArray[Any],
    values: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> dict[str, NDArray[Any]]:
    """Call ``truncated_generalized_advantage_estimation`` and ``lambda_returns`` on every trajectory."""
    continues = ~(terminated | truncated)[:-1]
    if not np.array_equal(next_values[:-1][continues], values[1:][continues]):
        raise NotImplementedError("a trajectory takes the value of the next observation from the next row")
    discounts = _discounts(rewards, terminated, gamma)
    mixing = rewards.dtype.type(gae_lambda)

    def advantages(t: slice, e: int) -> Any:
        of_states = np.append(values[t, e], next_values[t, e][-1])
        return rlax.truncated_generalized_advantage_estimation(rewards[t, e], discounts[t, e], mixing, of_states)

    def targets(t: slice, e: int) -> Any:
        return rlax.lambda_returns(rewards[t, e], discounts[t, e], next_values[t, e], mixing)

    return {
        "advantages": _by_trajectory(truncated, advantages),
        "value_targets": _by_trajectory(truncated, targets),
    }


def gae_rollout(
    rewards: NDArray[Any],
    values: NDArray[Any],
    dones: NDArray[np.bool_],
    last_values: NDArray[Any],
    gamma: float,
    gae_lambda: float,
) -> dict[str, NDArray[Any]]:
    """Take the next row's value as the next value, and every end as a termination."""
    next_values = np.concatenate([values[1:], np.asarray(last_values)[None]])
    never = np.zeros_like(dones)
    return gae(rewards, values, next_values, dones, never, gamma, gae_lambda)


# Losses.


def _clipped(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: float) -> Any:
    return -rlax.clipped_surrogate_pg_loss(jnp.exp(new_log_prob - old_log_prob), advantages, clip)


globals().update(policies.clipped_gradient_ops(FAMILIES, _clipped))
globals().update(policies.mean_kl_ops(FAMILIES))


def clipped_objective(
    old_log_prob: NDArray[Any], new_log_prob: NDArray[Any], advantages: NDArray[Any], clip: float
) -> NDArray[Any]:
    """Call ``clipped_surrogate_pg_loss``, which is minus the objective."""
    old, new, A = (jnp.asarray(each) for each in (old_log_prob, new_log_prob, advantages))
    return np.array(_clipped(old, new, A, float(clip)))


def surrogate(
    policy: Mapping[str, Any],
    observations: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    old_log_prob: NDArray[Any],
) -> NDArray[Any]:
    """Call ``clipped_surrogate_pg_loss`` with an infinite epsilon."""
    pi = policies.Policy(policy, FAMILIES, observations)
    log_prob = pi.log_prob(pi.theta, actions)
    return np.array(_clipped(jnp.asarray(old_log_prob), log_prob, jnp.asarray(advantages), float("inf")))


def value_loss(values: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """Take the mean of ``l2_loss``, which is half the square."""
    return np.array(rlax.l2_loss(jnp.asarray(values), jnp.asarray(targets)).mean())


entropy_bonus = policies.entropy_bonus(FAMILIES)

_NO_FAMILY = "RLax has softmax and diagonal Gaussian distributions only"
_NO_SQUASHED = "rlax.squashed_gaussian squashes the mean and bounds σ too: another distribution"
_NOT_IN_RLAX = "RLax has no such function"
_NO_TRUST_REGION = "RLax has no trust-region methods, and no solvers"
_TRUST_REGION = ("conjugate", "natural", "line_search", "trpo_step", "step_length", "expected_improvement")


def _reason(op: str) -> str:
    if op.endswith("_squashed_gaussian"):
        return _NO_SQUASHED
    if OPS[op].profile == "distributions":
        return _NO_FAMILY
    return _NO_TRUST_REGION if any(word in op for word in _TRUST_REGION) else _NOT_IN_RLAX


unsupported = {op: _reason(op) for op in OPS if op not in globals()} | {
    "network_forward": "RLax has no networks",
    "adam_step": "optimizers are in optax; judged there",
    "ppo_epoch": "RLax has losses, and no training",
    **{op.name: "RLax has no finite MDPs, bounds or duals" for op in OPS.values() if op.profile == "theory"},
}
