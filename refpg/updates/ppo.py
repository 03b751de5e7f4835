"""PPO: K epochs of Adam on E[min(rÂ, clip(r, 1−ε, 1+ε)Â)] − c₁ L^VF + c₂ S, π_old frozen [PPO (9)]."""

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refpg import network as networks
from refpg.distributions.categorical import exponential_remainder
from refpg.network import Network
from refpg.notation import (
    Array,
    Unrepresentable,
    all_finite,
    bind_shapes,
    choice,
    count,
    expectation,
    finite_results,
    row_weights,
    scalar,
)
from refpg.policy import Batch, Policy
from refpg.rows import row_parts, sum_over_parts
from refpg.surrogate.clipping import clipped_terms
from refpg.surrogate.sampled import log_ratio_and_ratio
from refpg.surrogate.value import value_terms
from refpg.updates.adam import Adam, adam_step


class PPOObjective(NamedTuple):
    """The PPO objective, its gradients and its parts.

    Fields: ``objective`` L^CLIP − c₁ L^VF + c₂ S; ``gradient`` (P,) w.r.t. θ; ``value_gradient`` w.r.t. the value
    network's parameters, None without one; ``clipped_objective``, ``value_loss``, ``entropy`` the three parts before
    their coefficients; ``clip_fraction`` rows with |r − 1| > ε; ``approximate_kl`` the k3 estimate of KL(old ‖ new).
    """

    objective: float
    gradient: Array
    value_gradient: Array | None
    clipped_objective: float
    value_loss: float
    entropy: float
    clip_fraction: float
    approximate_kl: float


class PPOUpdate(NamedTuple):
    """What a PPO update did.

    Fields: ``value_theta`` the value network's new parameters, None without one; ``adam`` the state to continue
    from; ``objectives`` one `PPOObjective` per minibatch, each *before* its step.
    """

    value_theta: Array | None
    adam: Adam
    objectives: tuple[PPOObjective, ...]


@finite_results
def ppo_objective(
    policy: Policy,
    theta: Any,
    batch: Batch,
    *,
    clip: float,
    value_network: Network | None = None,
    value_theta: Any = None,
    value_targets: Any = None,
    value_coefficient: float = 0.0,
    entropy_coefficient: float = 0.0,
    value_factor: float = 1.0,
    value_error: str = "squared",
    executor: Executor | None = None,
) -> PPOObjective:
    """Return the PPO objective with its gradients.

    ::

        L^CLIP(θ) − c₁ L^VF(w) + c₂ S(θ)

        L^CLIP = Σ_b w_b min(r_b Â_b, clip(r_b, 1−ε, 1+ε) Â_b)          r_b = π_θ(a_b|s_b)/π_old(a_b|s_b)
        L^VF   = f Σ_b w_b h(V(s_b) − V_b^target)                        S = Σ_b w_b entropy(π_θ(·|s_b))

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ of the current policy; π_old enters through ``batch.old_log_prob`` alone.
    batch : Batch
        The samples, with ``old_log_prob``.
    clip : float
        ε in (0, 1).
    value_network : Network, optional
        A network with one output, V(s); without it there is no value term.
    value_theta : array
        Its parameters, shape (value_network.num_parameters,).
    value_targets : (B,) array
        V^target, return units.
    value_coefficient, entropy_coefficient : float
        c₁ ≥ 0 and c₂ ≥ 0.
    value_factor : float
        f: 1 as in the paper, ½ in many libraries.
    value_error : {"squared", "smooth_l1"}
        h, as in `surrogate.value_loss`: e² in the paper.
    executor : concurrent.futures.Executor, optional
        Who computes the sums over rows; the result has the same bits for any.

    Returns
    -------
    PPOObjective
        To be maximised.

    Raises
    ------
    ValueError
        If a shape disagrees, ``old_log_prob`` is missing, ε is outside (0, 1), a coefficient is negative, or the three
        value arguments are not given together.

    Notes
    -----
    Convention: advantages are used as given (normalise them before); the gradient at the kinks of the clip is that of
    `surrogate.clipped_objective_gradient`.

    References
    ----------
    [PPO (7)], [PPO (9)]
    """
    name = "ppo_objective"
    if batch.old_log_prob is None:
        raise ValueError(
            f"{name}: batch.old_log_prob is None, expected the (B,) log-probabilities under the old policy"
        )
    value_arguments = (value_network, value_theta, value_targets)
    if len({argument is None for argument in value_arguments}) != 1:
        raise ValueError(
            f"{name}: value_network, value_theta and value_targets are given in part, expected all or none"
        )
    c1 = scalar(name, "value_coefficient", value_coefficient, least=0)
    c2 = scalar(name, "entropy_coefficient", entropy_coefficient, least=0)

    theta, samples = bind_batch(name, policy, theta, batch)
    sums = policy_sums(name, policy, theta, samples, clip=clip, entropy_coefficient=c2, executor=executor)
    value_loss, value_gradient = 0.0, None
    if value_network is not None:
        f = scalar(name, "value_factor", value_factor, above=0)
        h = choice(name, "value_error", value_error, ("squared", "smooth_l1"))
        value_loss, slope = value_sums(
            name, value_network, value_theta, value_targets, samples, factor=f, error=h, executor=executor
        )
        value_gradient = -c1 * slope
    return PPOObjective(
        objective=sums.clipped_objective - c1 * value_loss + c2 * sums.entropy,
        gradient=sums.gradient,
        value_gradient=value_gradient,
        clipped_objective=sums.clipped_objective,
        value_loss=value_loss,
        entropy=sums.entropy,
        clip_fraction=sums.clip_fraction,
        approximate_kl=sums.approximate_kl,
    )


class Samples(NamedTuple):
    """A batch that has been checked: every field is an array.

    Fields: ``observations``, ``actions``, ``advantages``, ``old_log_prob`` and ``weights``, as in `Batch`.
    """

    observations: Array
    actions: Array
    advantages: Array
    old_log_prob: Array
    weights: Array


class PolicySums(NamedTuple):
    """The terms of the policy, summed over rows.

    Fields: ``clipped_objective`` L^CLIP; ``entropy`` S; ``clip_fraction``; ``approximate_kl``; ``gradient`` (P,) of
    L^CLIP + c₂ S.
    """

    clipped_objective: float
    entropy: float
    clip_fraction: float
    approximate_kl: float
    gradient: Array


def bind_batch(name: str, policy: Policy, theta: Any, batch: Batch) -> tuple[Array, Samples]:
    """Check θ and the samples against the policy and each other.

    Parameters
    ----------
    name : str
        The function that was called, for messages.
    policy, theta, batch
        As in `ppo_objective`; ``old_log_prob`` is there.

    Returns
    -------
    theta : (P,) array
    samples : Samples

    Raises
    ------
    ValueError
        If a shape disagrees, an action is impossible or the weights are not normalised.
    """
    theta, x, old, advantages = bind_shapes(
        name,
        policy.sizes,
        theta=(theta, "P"),
        x=(batch.observations, "B D"),
        old_log_prob=(batch.old_log_prob, "B"),
        advantages=(batch.advantages, "B"),
    )
    phi_shaped = policy.check(name, theta, x)
    action = policy.family.check_action(name, phi_shaped, batch.actions)
    return theta, Samples(x, action, advantages, old, row_weights(name, batch.weights, phi_shaped))


def policy_sums(
    name: str,
    policy: Policy,
    theta: Array,
    samples: Samples,
    *,
    clip: float,
    entropy_coefficient: float,
    executor: Executor | None = None,
) -> PolicySums:
    """Return the terms of the policy of arguments that `bind_batch` has checked, from one pass over the rows.

    Parameters
    ----------
    name : str
        The function that was called, for messages.
    policy, theta
        As in `ppo_objective`.
    samples : Samples
        From `bind_batch`.
    clip, entropy_coefficient, executor
        As in `ppo_objective`.

    Returns
    -------
    PolicySums

    Raises
    ------
    ValueError
        If ε is outside (0, 1), or a ratio, the objective or its gradient overflows.

    References
    ----------
    [PPO (7)], [PPO (9)]
    """
    x, action, A, old, w = samples
    starts = (rows.start for rows in row_parts(len(x)))
    parts = ((start, *part) for start, part in zip(starts, policy.parts(x, action, A, old, w), strict=True))
    term = partial(_policy_term, name, theta, clip, entropy_coefficient)
    sums = _finite(name, sum_over_parts(term, parts, executor))
    objective, entropy, fraction, k3 = map(float, sums[:4])
    return PolicySums(objective, entropy, fraction, k3, gradient=sums[4:])


def _policy_term(
    name: str,
    theta: Array,
    clip: float,
    c2: float,
    first: int,
    policy: Policy,
    x: Array,
    action: Array,
    A: Array,
    old: Array,
    w: Array,
) -> Array:
    """Return some rows' parts of (L^CLIP, S, clip fraction, k3, ∇(L^CLIP + c₂ S))."""
    at, family = networks.linearize_at(policy.network, theta, x), policy.family
    log_r, r = log_ratio_and_ratio(name, old, family.log_prob(at.phi, action), first=first)
    clipped = clipped_terms(name, log_r, r, A, clip, w)
    entropy = expectation(family.entropy(at.phi), w)
    k3 = expectation(exponential_remainder(log_r), w)
    phi_bar = clipped.gradient[:, None] * family.score(at.phi, action)
    if c2:
        phi_bar = phi_bar + c2 * (w[:, None] * family.entropy_gradient(at.phi))
    return np.concatenate([[clipped.objective, entropy, clipped.fraction, k3], at.vjp(phi_bar)])


def value_sums(
    name: str,
    network: Network,
    theta: Any,
    targets: Any,
    samples: Samples,
    *,
    factor: float,
    error: str,
    executor: Executor | None = None,
) -> tuple[float, Array]:
    """Return the value loss of a network with its gradient, on a batch that `bind_batch` has checked.

    Parameters
    ----------
    name : str
        The function that was called, for messages.
    network, theta, targets
        ``value_network``, ``value_theta`` and ``value_targets`` of `ppo_objective`.
    samples : Samples
        From `bind_batch`; observations and weights are used.
    factor, error
        As in `surrogate.value_loss`.
    executor
        As in `ppo_objective`.

    Returns
    -------
    loss : float
        L^VF, squared return units.
    gradient : array
        ∂L^VF/∂w, of the length of w.

    Raises
    ------
    ValueError
        If a shape disagrees, the network has not one output, or the loss or its gradient overflows.

    References
    ----------
    [PPO (9)]
    """
    networks.check_network(name, network)
    if network.num_outputs != 1:
        raise ValueError(f"{name}: value_network has {network.num_outputs} outputs, expected 1")
    x, w = samples.observations, samples.weights
    theta, x, targets = bind_shapes(
        name,
        {"Q": network.num_parameters, "D": network.sizes[0], "B": len(x)},
        value_theta=(theta, "Q"),
        observations=(x, "B D"),
        value_targets=(targets, "B"),
    )
    parts = ((x[rows], targets[rows], w[rows]) for rows in row_parts(len(x)))
    sums = _finite(name, sum_over_parts(partial(_value_term, network, theta, factor, error), parts, executor))
    return float(sums[0]), sums[1:]


def _value_term(network: Network, theta: Array, factor: float, error: str, x: Array, R: Array, w: Array) -> Array:
    """Return some rows' parts of (L^VF, ∂L^VF/∂w)."""
    at = networks.linearize_at(network, theta, x)
    loss, slope = value_terms(at.phi[:, 0], R, factor, error, w)
    return np.concatenate([[loss], at.vjp(slope[:, None])])


def _finite(name: str, sums: Array) -> Array:
    if not all_finite(sums):
        raise Unrepresentable(f"{name}: the result overflows, expected parameters and batch of smaller magnitude")
    return sums


def minibatch_order(generator: np.random.Generator, *, rows: int, size: int, epochs: int) -> list[list[Array]]:
    """Draw the order in which K epochs visit the rows of a batch.

    Parameters
    ----------
    generator : numpy.random.Generator
        The only source of randomness.
    rows : int
        B.
    size : int
        Rows per minibatch; the last one of an epoch is smaller where ``size`` does not divide B.
    epochs : int
        K.

    Returns
    -------
    list of K lists of integer arrays
        Each inner list is a partition of 0 … B − 1.

    Raises
    ------
    ValueError
        If a number is not a positive integer.

    References
    ----------
    [PPO Alg. 1]
    """
    rows = count("minibatch_order", "rows", rows)
    size = count("minibatch_order", "size", size)
    epochs = count("minibatch_order", "epochs", epochs)
    cuts = range(size, rows, size)
    return [np.split(generator.permutation(rows), cuts) for _ in range(epochs)]


@finite_results
def ppo_update(
    policy: Policy,
    theta: Any,
    batch: Batch,
    *,
    clip: float,
    minibatches: Sequence[Sequence[Any]],
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    adam: Adam | None = None,
    value_network: Network | None = None,
    value_theta: Any = None,
    value_targets: Any = None,
    value_coefficient: float = 0.0,
    entropy_coefficient: float = 0.0,
    value_factor: float = 1.0,
    value_error: str = "squared",
    executor: Executor | None = None,
) -> tuple[Array, PPOUpdate]:
    """Make one PPO update: K epochs of minibatch Adam ascent while the old policy stays frozen.

    π_old is present only as ``batch.old_log_prob``, computed before the first epoch and never again: the article's
    second network.  It is synchronised by the caller, who samples the next batch with the θ' returned here.

    Parameters
    ----------
    policy : Policy
        The policy.
    theta : (P,) array
        Parameters θ, at the start equal to θ_old.
    batch : Batch
        The samples, with ``old_log_prob``.
    clip : float
        ε in (0, 1); 0.2 in the paper.
    minibatches : K lists of integer arrays
        The rows of each minibatch, epoch by epoch, as from `minibatch_order`.
    learning_rate, beta1, beta2, epsilon
        As in `adam_step`.
    adam : Adam, optional
        The state to continue from, over θ followed by the value network's parameters; zero moments unless given.
    value_network, value_theta, value_targets, value_coefficient, entropy_coefficient, value_factor, value_error
        As in `ppo_objective`; both networks are updated by the same Adam.
    executor
        As in `ppo_objective`.

    Returns
    -------
    theta : (P,) array
        θ'.
    info : PPOUpdate

    Raises
    ------
    ValueError
        If a shape disagrees, a minibatch names a row that does not exist or names one twice, or an argument of
        `ppo_objective` or `adam_step` is refused.

    Notes
    -----
    Convention: each minibatch's weights are renormalised to sum to 1; the gradient is not clipped by norm.

    References
    ----------
    [PPO Alg. 1], [PPO (9)]
    """
    name = "ppo_update"
    (theta,) = bind_shapes(name, policy.sizes, theta=(theta, "P"))
    P = len(theta)
    joint = theta if value_network is None else np.concatenate([theta, np.asarray(value_theta, dtype=theta.dtype)])
    state = Adam(np.zeros_like(joint), np.zeros_like(joint)) if adam is None else adam
    objectives = []
    for epoch in minibatches:
        for minibatch in epoch:
            rows = _rows_of(name, minibatch, len(batch.advantages))
            here = ppo_objective(
                policy._replace(family=policy.family.rows(rows)),
                joint[:P],
                _restricted(name, batch, rows),
                clip=clip,
                value_network=value_network,
                value_theta=None if value_network is None else joint[P:],
                value_targets=None if value_targets is None else np.asarray(value_targets)[rows],
                value_coefficient=value_coefficient,
                entropy_coefficient=entropy_coefficient,
                value_factor=value_factor,
                value_error=value_error,
                executor=executor,
            )
            ascent = (
                here.gradient if here.value_gradient is None else np.concatenate([here.gradient, here.value_gradient])
            )
            joint, state = adam_step(
                joint, -ascent, state, learning_rate=learning_rate, beta1=beta1, beta2=beta2, epsilon=epsilon
            )
            objectives.append(here)
    return joint[:P], PPOUpdate(None if value_network is None else joint[P:], state, tuple(objectives))


def _rows_of(name: str, minibatch: Any, rows: int) -> Array:
    (index,) = bind_shapes(name, {}, minibatch=(minibatch, "int M"))
    if (index < 0).any() or (index >= rows).any() or len(np.unique(index)) != len(index):
        raise ValueError(f"{name}: minibatch is {index.tolist()}, expected distinct rows in 0 … {rows - 1}")
    return index


def _restricted(name: str, batch: Batch, rows: Array) -> Batch:
    def of(field: Any) -> Any:
        return None if field is None else np.asarray(field)[rows]

    weights = of(batch.weights)
    if weights is not None and not weights.sum() > 0:
        raise ValueError(f"{name}: weights of the minibatch {rows.tolist()} sum to {weights.sum()!r}, expected > 0")
    return Batch(
        of(batch.observations),
        of(batch.actions),
        of(batch.advantages),
        of(batch.old_log_prob),
        None if weights is None else weights / weights.sum(),
    )
