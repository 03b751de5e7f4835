"""PPO's epochs as implementations run them: clipped or with a KL penalty, and what is customarily added.

`ppo_update` is the paper's update; with every addition off this one is the same, number by number.  The additions, each
off unless asked for ::

    advantages of each minibatch normalised             Â ← (Â − m)/(σ + ε)
    the value loss clipped                              `refpg.surrogate.clipped_value_loss`
    the gradient of both networks shortened             g ← g min(1, c/(‖g‖ + ε))
    an end before all epochs are made                   k3 of a minibatch above a limit
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from refpg import network as networks
from refpg import surrogate
from refpg.estimation import approximate_kl, normalize_advantages
from refpg.network import Network
from refpg.notation import Array, bind_shapes, count, finite_results, scalar
from refpg.policy import Batch, Policy, distribution_parameters
from refpg.updates.adam import Adam, adam_step
from refpg.updates.ending import PPOEnding
from refpg.updates.ppo import Samples, bind_batch, policy_sums, value_sums


class MinibatchStep(NamedTuple):
    """One minibatch, *before* its step.

    Fields: ``objective`` L − c₁ L^VF + c₂ S; ``policy_objective``, ``value_loss``, ``entropy`` the three parts before
    their coefficients; ``approximate_kl`` the k3 estimate of KL(old ‖ new); ``gradient_norm`` of both networks'
    gradient together, before it was shortened.
    """

    objective: float
    policy_objective: float
    value_loss: float
    entropy: float
    approximate_kl: float
    gradient_norm: float


class EpochsUpdate(NamedTuple):
    """What the epochs did.

    Fields: ``value_theta`` the value network's new parameters; ``adam`` the state to continue from, over θ followed by
    them; ``steps`` one `MinibatchStep` per minibatch, the last of which made no step if it was the end; ``ending``.
    """

    value_theta: Array
    adam: Adam
    steps: tuple[MinibatchStep, ...]
    ending: PPOEnding


@finite_results
def ppo_epochs(
    policy: Policy,
    theta: Any,
    batch: Batch,
    *,
    minibatches: Sequence[Sequence[Any]],
    learning_rate: float,
    value_network: Network,
    value_theta: Any,
    value_targets: Any,
    clip: float | None = None,
    kl_penalty: float | None = None,
    value_coefficient: float = 1.0,
    entropy_coefficient: float = 0.0,
    epsilon: float = 1e-8,
    adam: Adam | None = None,
    normalize: bool = False,
    advantage_ddof: int = 0,
    advantage_epsilon: float = 0.0,
    value_clip: float | None = None,
    max_gradient_norm: float | None = None,
    gradient_norm_epsilon: float = 0.0,
    stop_kl: float | None = None,
) -> tuple[Array, EpochsUpdate]:
    """Make K epochs of minibatch Adam on PPO's objective while the old policy stays frozen.

    ::

        clip          Σ_b w_b min(r_b Â_b, clip(r_b, 1−ε, 1+ε) Â_b)         − c₁ L^VF + c₂ S
        KL penalty    Σ_b w_b (r_b Â_b − β KL(π_old(·|s_b) ‖ π_θ(·|s_b)))    − c₁ L^VF + c₂ S

    The old policy is the policy at the θ given: its φ is computed once, before the first epoch.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ = θ_old.
    batch : Batch
        The samples, with ``old_log_prob``, of equal weights.
    minibatches : K lists of integer arrays
        As from `minibatch_order`.
    learning_rate : float
        As in `adam_step`.
    value_network, value_theta : Network, array
        A network with one output, and its parameters.
    value_targets : (B,) array
        R, return units.
    clip, kl_penalty : float
        ε in (0, 1), or β ≥ 0: one of them.
    value_coefficient, entropy_coefficient : float
        c₁ ≥ 0 and c₂ ≥ 0; L^VF is the mean squared error.
    epsilon : float
        As in `adam_step`.
    adam : Adam, optional
        The state to continue from, over θ followed by the value network's parameters.
    normalize : bool
        Whether the advantages of each minibatch of more than one row are normalised.
    advantage_ddof, advantage_epsilon
        As in `refpg.estimation.normalize_advantages`.
    value_clip : float, optional
        How far a value may move from the old one, return units.
    max_gradient_norm : float, optional
        c > 0.
    gradient_norm_epsilon : float
        ε ≥ 0 beside the norm; 1e-6 in PyTorch.
    stop_kl : float, optional
        The k3 of a minibatch, nats, above which neither this step nor another is made.

    Returns
    -------
    theta : (P,) array
        θ'.
    info : EpochsUpdate

    Raises
    ------
    ValueError
        If a shape disagrees, the batch has weights or no ``old_log_prob``, not exactly one of ``clip`` and
        ``kl_penalty`` is given, or a number is out of range.

    References
    ----------
    [PPO Alg. 1], [PPO (7)], [PPO (8)], [PPO (9)]
    """
    name = "ppo_epochs"
    if (clip is None) == (kl_penalty is None):
        raise ValueError(f"{name}: clip is {clip!r} and kl_penalty {kl_penalty!r}, expected one of them")
    if batch.old_log_prob is None or batch.weights is not None:
        raise ValueError(
            f"{name}: batch has old_log_prob {batch.old_log_prob!r} and weights {batch.weights!r}, "
            f"expected log-probabilities, and None for equal weights"
        )
    (theta,) = bind_shapes(name, policy.sizes, theta=(theta, "P"))
    B = len(batch.advantages)
    w, R = bind_shapes(
        name,
        {"Q": value_network.num_parameters, "B": B},
        value_theta=(value_theta, "Q"),
        value_targets=(value_targets, "B"),
    )
    c1 = scalar(name, "value_coefficient", value_coefficient, least=0)
    c2 = scalar(name, "entropy_coefficient", entropy_coefficient, least=0)
    limit = np.inf if stop_kl is None else scalar(name, "stop_kl", stop_kl, above=0)
    longest = np.inf if max_gradient_norm is None else scalar(name, "max_gradient_norm", max_gradient_norm, above=0)
    beside = scalar(name, "gradient_norm_epsilon", gradient_norm_epsilon, least=0)
    count(name, "advantage_ddof", advantage_ddof, least=0)

    P = len(theta)
    x = np.asarray(batch.observations)
    phi_old = distribution_parameters(policy, theta, x)
    V_old = networks.forward(value_network, w, x)[:, 0]
    joint = np.concatenate([theta, w])
    state = Adam(np.zeros_like(joint), np.zeros_like(joint)) if adam is None else adam
    steps = []
    for rows in (rows for epoch in minibatches for rows in epoch):
        here = Batch(x[rows], batch.actions[rows], batch.advantages[rows], batch.old_log_prob[rows])
        if normalize and len(rows) > 1:
            normalized = normalize_advantages(here.advantages, ddof=advantage_ddof, epsilon=advantage_epsilon)
            here = here._replace(advantages=normalized)
        policy_here = policy._replace(family=policy.family.rows(rows))
        _, samples = bind_batch(name, policy_here, joint[:P], here)
        if clip is not None:
            sums = policy_sums(name, policy_here, joint[:P], samples, clip=clip, entropy_coefficient=c2)
            policy_part = _PolicyPart(sums.clipped_objective, sums.entropy, sums.approximate_kl, sums.gradient)
        else:
            policy_part = _penalized_part(policy_here, joint[:P], samples, phi_old[rows], kl_penalty, c2)
        value_loss, value_gradient = _value_part(
            name, value_network, joint[P:], samples, R[rows], V_old[rows], value_clip
        )
        g = np.concatenate([policy_part.gradient, -c1 * value_gradient])
        length = float(np.linalg.norm(g))
        steps.append(
            MinibatchStep(
                objective=policy_part.objective - c1 * value_loss + c2 * policy_part.entropy,
                policy_objective=policy_part.objective,
                value_loss=value_loss,
                entropy=policy_part.entropy,
                approximate_kl=policy_part.approximate_kl,
                gradient_norm=length,
            )
        )
        if policy_part.approximate_kl > limit:
            return joint[:P], EpochsUpdate(joint[P:], state, tuple(steps), PPOEnding.KL_REACHED)
        if longest < length + beside:
            g = g * (longest / (length + beside))
        joint, state = adam_step(joint, -g, state, learning_rate=learning_rate, epsilon=epsilon)
    return joint[:P], EpochsUpdate(joint[P:], state, tuple(steps), PPOEnding.ALL_EPOCHS)


class _PolicyPart(NamedTuple):
    objective: float
    entropy: float
    approximate_kl: float
    gradient: Array


def _penalized_part(
    policy: Policy, theta: Array, samples: Samples, phi_old: Array, kl_penalty: float | None, c2: float
) -> _PolicyPart:
    """Return L − β KL and S with the gradient of L − β KL + c₂ S."""
    family = policy.family
    x, action, A, old, w = samples
    at = networks.linearize_at(policy.network, theta, x)
    new = family.log_prob(at.phi, action)
    change = at.phi - phi_old
    kl = family.kl(phi_old, change)
    objective = surrogate.kl_penalized_objective(old, new, A, kl, kl_penalty, weights=w)
    slope = surrogate.kl_penalized_objective_gradient(old, new, A, kl, kl_penalty, weights=w)
    phi_bar = slope.new_log_prob[:, np.newaxis] * family.score(at.phi, action)
    phi_bar = phi_bar + slope.kl[:, np.newaxis] * family.kl_gradient(phi_old, change)
    if c2:
        phi_bar = phi_bar + c2 * surrogate.entropy_bonus_gradient(family, at.phi, weights=w)
    return _PolicyPart(
        objective=float(objective),
        entropy=float(surrogate.entropy_bonus(family, at.phi, weights=w)),
        approximate_kl=float(approximate_kl(old, new, weights=w)),
        gradient=at.vjp(phi_bar),
    )


def _value_part(
    name: str, network: Network, theta: Array, samples: Samples, R: Array, V_old: Array, clip: float | None
) -> tuple[float, Array]:
    if clip is None:
        return value_sums(name, network, theta, R, samples, factor=1.0, error="squared")
    at = networks.linearize(network, theta, samples.observations)
    V = at.phi[:, 0]
    loss = surrogate.clipped_value_loss(V, V_old, R, clip)
    slope = surrogate.clipped_value_loss_gradient(V, V_old, R, clip)
    return float(loss), at.vjp(slope[:, np.newaxis])
