"""The loops on samples: rollout, advantages from a value network, update; again.

::

    rollout     T steps of E environments with π_θ                                     `refpg.rollout`
    Â, R        GAE with V_w, and value targets                                        [GAE (16)]
    θ ← θ'      the update of the algorithm, in which π_old stays π_θ                   `refpg.updates`
    w ← w'      V_w fitted to R

In PPO there are two policies: the old one is φ and log π of the rollout, frozen for K epochs, and the new one is θ; the
next rollout is drawn with θ', which is how the old one is synchronised.

Everything a run goes on from is one record, the `Learner`: with the one of any iteration, a loop makes the iterations
that followed it again, bit for bit, if the world can go back (an MDP and a linear–quadratic problem can; the
environments of Gymnasium keep their state to themselves, and have to be replayed: `refpg.training.checkpoint` does, and
writes a learner to a file).  No record holds a time.
"""

import copy
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from refpg import surrogate
from refpg.estimation import explained_variance, normalize_advantages
from refpg.geometry import DIRECTIONS, mean_kl
from refpg.network import Network, initial_parameters
from refpg.notation import Array, bind_shapes, choice, count, row_weights, scalar
from refpg.policy import Batch, Policy, entropy, log_prob, log_ratio
from refpg.rollout import (
    WEIGHTINGS,
    Rollout,
    Runs,
    World,
    rollout_advantages,
    rollout_batch,
    rollout_values,
    sample_rollout,
    start_runs,
)
from refpg.updates import (
    ACCEPTANCE,
    METHODS,
    Adam,
    fit_values,
    fit_values_lbfgs,
    minibatch_order,
    natural_gradient_step,
    ppo_epochs,
    surrogate_gradient,
    trpo_step,
)

NORMALIZATIONS = ("none", "batch", "minibatch")


class Learner(NamedTuple):
    """All that a run goes on from.

    Fields: ``iteration`` made so far; ``steps``, the actions taken so far in all environments; ``theta`` θ (P,);
    ``value_theta`` w (Q,); ``adam`` the state of what is optimised by it, None at first; ``kl_penalty`` β of PPO's
    adaptive variant, None before it is used; ``runs`` where the environments are; ``generator`` for the order of
    minibatches.
    """

    iteration: int
    steps: int
    theta: Array
    value_theta: Array
    adam: Adam | None
    kl_penalty: float | None
    runs: Runs
    generator: np.random.Generator


class Sampling(NamedTuple):
    """What is drawn in an iteration, and how its advantages are estimated.

    Fields: ``steps`` T of each environment; ``gamma`` γ and ``gae_lambda`` λ; ``value_target`` as in
    `refpg.estimation.gae`; ``weighting`` as in `refpg.rollout.rollout_batch`; ``normalization`` of the advantages, one
    of "none", "batch" and (PPO) "minibatch", with ``advantage_ddof`` and ``advantage_epsilon`` as in
    `refpg.estimation.normalize_advantages`.
    """

    steps: int
    gamma: float
    gae_lambda: float
    value_target: str = "lambda_return"
    weighting: str = "uniform"
    normalization: str = "batch"
    advantage_ddof: int = 0
    advantage_epsilon: float = 1e-8


class ValueFitting(NamedTuple):
    """How TRPO and the natural gradient fit the value network after the policy's step.

    Fields: ``epochs`` of Adam over minibatches of ``minibatch`` rows with ``learning_rate`` and ``epsilon``; or, where
    ``lbfgs_iterations`` is a number, that many iterations of L-BFGS on all rows instead.
    """

    epochs: int = 10
    minibatch: int = 64
    learning_rate: float = 1e-3
    epsilon: float = 1e-8
    lbfgs_iterations: int | None = None


TEN_EPOCHS = ValueFitting()


class SampledIteration(NamedTuple):
    """One iteration of a sampled loop: the policy π' after it, compared on the batch with π, which drew the batch.

    Fields: ``iteration`` from 1; ``steps``, the actions taken up to here; ``episodes`` that ended in this rollout, with
    ``mean_return`` and ``mean_length`` over them, not discounted, None without one; ``surrogate_before`` Σ w Â and
    ``surrogate_after`` Σ w r Â, with advantages normalised over the batch or not at all; ``kl_old_new`` and
    ``kl_new_old`` mean KL, nats; ``entropy`` of π', mean over rows, nats; ``step_norm`` ‖θ' − θ‖; ``gradient_norm``
    ‖∇L(θ)‖ of the surrogate alone; ``clip_fraction`` of rows with |r − 1| > ε under π', None where nothing is clipped;
    ``explained_variance`` of the value targets by the values before the fit, None if all targets are equal;
    ``value_loss_before`` and ``value_loss_after`` mean squared errors; ``kl_penalty`` β that was used, or None;
    ``step`` the update's own record, with conjugate gradients and line search, or one entry per minibatch; ``ending``
    how the update ended;
    ``learner`` from which the next iteration goes on.
    """

    iteration: int
    steps: int
    episodes: int
    mean_return: float | None
    mean_length: float | None
    surrogate_before: float
    surrogate_after: float
    kl_old_new: float
    kl_new_old: float
    entropy: float
    step_norm: float
    gradient_norm: float
    clip_fraction: float | None
    explained_variance: float | None
    value_loss_before: float
    value_loss_after: float
    kl_penalty: float | None
    step: Any
    ending: Enum
    learner: Learner


def new_learner(
    world: World,
    policy: Policy,
    value_network: Network,
    generator: np.random.Generator,
    *,
    environments: int,
    theta: Any = None,
    value_theta: Any = None,
    hidden_scale: float = 2**0.5,
    policy_scale: float = 0.01,
    value_scale: float = 1.0,
    log_std: float = 0.0,
) -> Learner:
    """Begin a run: start the environments and draw the parameters that are not given.

    Parameters
    ----------
    world : World
        The world.
    policy : Policy
        A policy for its observations and actions.
    value_network : Network
        With the same inputs and one output.
    generator : numpy.random.Generator
        The only source of randomness.
    environments : int
        E ≥ 1.
    theta, value_theta : arrays, optional
        θ (P,) and w (Q,); orthogonal weights and zero biases, `refpg.network.initial_parameters`, unless given.
    hidden_scale, policy_scale, value_scale : float
        Of the hidden layers, and of each network's last one; the defaults are those common in libraries.
    log_std : float
        Of the state-independent log σ, where the policy has them.

    Returns
    -------
    Learner

    Raises
    ------
    ValueError
        If a shape disagrees, the policy is none for this world, or the value network has more than one output.
    """
    name = "new_learner"
    world.check(name, policy)
    if value_network.num_outputs != 1 or value_network.sizes[0] != policy.network.sizes[0]:
        raise ValueError(
            f"{name}: value_network has sizes {value_network.sizes}, "
            f"expected {policy.network.sizes[0]} inputs and 1 output"
        )
    # The environments first: what they draw does not depend on what the networks are.
    runs = start_runs(world, generator, environments=environments)
    if theta is None:
        theta = initial_parameters(
            policy.network, generator, scale=hidden_scale, output_scale=policy_scale, free=log_std
        )
    if value_theta is None:
        value_theta = initial_parameters(value_network, generator, scale=hidden_scale, output_scale=value_scale)
    theta, w = bind_shapes(
        name,
        {**policy.sizes, "Q": value_network.num_parameters},
        theta=(theta, "P"),
        value_theta=(value_theta, "Q"),
    )
    return Learner(0, 0, theta, w, None, None, runs, copy.deepcopy(generator))


class _Samples(NamedTuple):
    """What an update sees: the batch, values and value targets of its rows, and a generator of its own."""

    batch: Batch
    values: Array
    targets: Array
    generator: np.random.Generator


class _Updated(NamedTuple):
    """What an update made, and the surrogate's gradient at the old policy.

    ``kl_penalty`` is for the next iteration, ``used_kl_penalty`` was for this one.
    """

    theta: Array
    value_theta: Array
    adam: Adam | None
    step: Any
    gradient: Array
    kl_penalty: float | None = None
    used_kl_penalty: float | None = None


_Update = Callable[[Learner, _Samples], _Updated]


def _loop(
    function: str,
    world: World,
    policy: Policy,
    value_network: Network,
    learner: Learner,
    iterations: int,
    sampling: Sampling,
    update: _Update,
    clip: float | None = None,
) -> Iterator[SampledIteration]:
    """Make iterations, one after the other: all that the algorithms have in common."""
    iterations = count(function, "iterations", iterations, least=0)
    _check_sampling(function, sampling)

    def run(learner: Learner) -> Iterator[SampledIteration]:
        for _ in range(iterations):
            rollout, runs = sample_rollout(world, policy, learner.theta, learner.runs, steps=sampling.steps)
            samples = _estimated(rollout, value_network, learner, sampling)
            done = update(learner, samples)
            after = Learner(
                iteration=learner.iteration + 1,
                steps=learner.steps + int(rollout.valid.sum()),
                theta=done.theta,
                value_theta=done.value_theta,
                adam=done.adam,
                kl_penalty=done.kl_penalty,
                runs=runs,
                generator=samples.generator,
            )
            new_values = rollout_values(rollout, value_network, after.value_theta)[0][rollout.valid]
            yield _record(policy, learner, after, rollout, samples, new_values, done, clip)
            learner = after

    return run(learner)


def _check_sampling(function: str, sampling: Sampling) -> None:
    count(function, "sampling.steps", sampling.steps)
    scalar(function, "sampling.gamma", sampling.gamma, least=0, most=1)
    scalar(function, "sampling.gae_lambda", sampling.gae_lambda, least=0, most=1)
    choice(function, "sampling.weighting", sampling.weighting, WEIGHTINGS)
    choice(function, "sampling.normalization", sampling.normalization, NORMALIZATIONS)


def _estimated(rollout: Rollout, network: Network, learner: Learner, sampling: Sampling) -> _Samples:
    values, next_values = rollout_values(rollout, network, learner.value_theta)
    gamma = sampling.gamma
    found = rollout_advantages(
        rollout, values, next_values, gamma, sampling.gae_lambda, value_target=sampling.value_target
    )
    discounted = sampling.weighting == "discounted"
    batch = rollout_batch(
        rollout, found.advantages, weighting=sampling.weighting, gamma=gamma if discounted else None
    )
    if sampling.normalization == "batch":
        normalized = normalize_advantages(
            batch.advantages,
            ddof=sampling.advantage_ddof,
            epsilon=sampling.advantage_epsilon,
            weights=batch.weights,
        )
        batch = batch._replace(advantages=normalized)
    # A copy of the generator, so that the learner of each record stays what it was.
    generator = copy.deepcopy(learner.generator)
    return _Samples(batch, values[rollout.valid], found.value_targets[rollout.valid], generator)


def _record(
    policy: Policy,
    before: Learner,
    after: Learner,
    rollout: Rollout,
    samples: _Samples,
    new_values: Array,
    done: _Updated,
    clip: float | None,
) -> SampledIteration:
    batch, values, targets = samples.batch, samples.values, samples.targets
    x, w = batch.observations, row_weights("sampled iteration", batch.weights, batch.advantages)
    old, new = before.theta, after.theta
    L = float(w @ batch.advantages)
    gain = surrogate.surrogate_improvement(log_ratio(policy, old, new, x, batch.actions), batch.advantages, weights=w)
    clipped = None
    if clip is not None:
        log_p = log_prob(policy, new, x, batch.actions)
        clipped = float(surrogate.clip_fraction(batch.old_log_prob, log_p, batch.advantages, clip, weights=w))
    episodes = len(rollout.episode_returns)
    return SampledIteration(
        iteration=after.iteration,
        steps=after.steps,
        episodes=episodes,
        mean_return=float(rollout.episode_returns.mean()) if episodes else None,
        mean_length=float(rollout.episode_lengths.mean()) if episodes else None,
        surrogate_before=L,
        surrogate_after=L + float(gain),
        kl_old_new=float(mean_kl(policy, old, new, x, weights=w)),
        kl_new_old=float(mean_kl(policy, old, new, x, weights=w, direction="new_old")),
        entropy=float(w @ entropy(policy, new, x)),
        step_norm=float(np.linalg.norm(new - old)),
        gradient_norm=float(np.linalg.norm(done.gradient)),
        clip_fraction=clipped,
        explained_variance=float(explained_variance(values, targets)) if np.ptp(targets) > 0 else None,
        value_loss_before=float(surrogate.value_loss(values, targets)),
        value_loss_after=float(surrogate.value_loss(new_values, targets)),
        kl_penalty=done.used_kl_penalty,
        step=done.step,
        ending=done.step.ending,
        learner=after,
    )


def _fitted(network: Network, learner: Learner, samples: _Samples, fitting: ValueFitting) -> tuple[Array, Adam | None]:
    x, R = samples.batch.observations, samples.targets
    if fitting.lbfgs_iterations is not None:
        w, _ = fit_values_lbfgs(network, learner.value_theta, x, R, iterations=fitting.lbfgs_iterations)
        return w, learner.adam
    order = minibatch_order(samples.generator, rows=len(R), size=fitting.minibatch, epochs=fitting.epochs)
    w, info = fit_values(
        network,
        learner.value_theta,
        x,
        R,
        minibatches=order,
        learning_rate=fitting.learning_rate,
        epsilon=fitting.epsilon,
        adam=learner.adam,
    )
    return w, info.adam


def sampled_natural_policy_gradient(
    world: World,
    policy: Policy,
    value_network: Network,
    learner: Learner,
    *,
    iterations: int,
    sampling: Sampling,
    max_kl: float,
    damping: float,
    method: str = "cg",
    cg_iterations: int | None = 10,
    fitting: ValueFitting = TEN_EPOCHS,
) -> Iterator[SampledIteration]:
    """Iterate a policy along the natural gradient that is estimated from rollouts.

    ::

        θ' = θ + √(2δ/gᵀx) x,   x ≈ (F + λI)⁻¹ g          g from Â, F exact over actions, in the states visited

    Parameters
    ----------
    world : World
        The world.
    policy : Policy
        The policy.
    value_network : Network
        V_w, with one output.
    learner : Learner
        As from `new_learner`, or the ``learner`` of a record, from which to go on.
    iterations : int
        How many.
    sampling : Sampling
        What is drawn in each.
    max_kl : float
        δ > 0, nats.
    damping, method
        As in `refpg.updates.natural_gradient`.
    cg_iterations : int, optional
        Of conjugate gradients, where that is the method, and None where it is not.
    fitting : ValueFitting
        How V_w is fitted, after the step.

    Returns
    -------
    iterator of SampledIteration
        With ``step`` of type `refpg.updates.NaturalGradientStep`.

    Raises
    ------
    ValueError
        If a shape disagrees or a number is out of range; some of it only at the first iteration.

    References
    ----------
    [K01], [TRPO (17)]
    """
    name = "sampled_natural_policy_gradient"
    scalar(name, "max_kl", max_kl, above=0)
    choice(name, "method", method, METHODS)
    choice(name, "sampling.normalization", sampling.normalization, NORMALIZATIONS[:2])

    def update(learner: Learner, samples: _Samples) -> _Updated:
        batch = samples.batch
        g = surrogate_gradient(policy, learner.theta, batch)
        theta, step = natural_gradient_step(
            policy,
            learner.theta,
            batch.observations,
            g,
            damping=damping,
            max_kl=max_kl,
            method=method,
            iterations=cg_iterations,
            weights=batch.weights,
        )
        w, adam = _fitted(value_network, learner, samples, fitting)
        return _Updated(theta, w, adam, step, g)

    return _loop(name, world, policy, value_network, learner, iterations, sampling, update)


def sampled_trpo(
    world: World,
    policy: Policy,
    value_network: Network,
    learner: Learner,
    *,
    iterations: int,
    sampling: Sampling,
    max_kl: float,
    damping: float,
    cg_iterations: int = 10,
    backtrack: float = 0.5,
    max_backtracks: int = 10,
    accept: str = "improves_and_kl",
    direction: str = "old_new",
    fitting: ValueFitting = TEN_EPOCHS,
) -> Iterator[SampledIteration]:
    """Iterate a policy by TRPO from rollouts.

    Parameters
    ----------
    world, policy, value_network, learner, iterations, sampling
        As in `sampled_natural_policy_gradient`.
    max_kl, damping
        As in `refpg.updates.trpo_step`.
    cg_iterations : int
        Of conjugate gradients.
    backtrack, max_backtracks, accept, direction
        As in `refpg.updates.trpo_step`.
    fitting : ValueFitting
        How V_w is fitted, after the step.

    Returns
    -------
    iterator of SampledIteration
        With ``step`` of type `refpg.updates.TRPOStep`: residuals and ending of conjugate gradients, and every trial of
        the line search.

    Raises
    ------
    ValueError
        If a shape disagrees, a number is out of range or a name unknown; some of it only at the first iteration.

    References
    ----------
    [TRPO App. C], [Hui]
    """
    name = "sampled_trpo"
    scalar(name, "max_kl", max_kl, above=0)
    choice(name, "accept", accept, ACCEPTANCE)
    choice(name, "direction", direction, DIRECTIONS)
    choice(name, "sampling.normalization", sampling.normalization, NORMALIZATIONS[:2])

    def update(learner: Learner, samples: _Samples) -> _Updated:
        theta, step = trpo_step(
            policy,
            learner.theta,
            samples.batch,
            max_kl=max_kl,
            damping=damping,
            iterations=cg_iterations,
            backtrack=backtrack,
            max_backtracks=max_backtracks,
            accept=accept,
            direction=direction,
        )
        w, adam = _fitted(value_network, learner, samples, fitting)
        return _Updated(theta, w, adam, step, step.gradient)

    return _loop(name, world, policy, value_network, learner, iterations, sampling, update)


def sampled_ppo(
    world: World,
    policy: Policy,
    value_network: Network,
    learner: Learner,
    *,
    iterations: int,
    sampling: Sampling,
    epochs: int,
    minibatch: int,
    learning_rate: float | Callable[[int], float],
    clip: float | None = None,
    kl_target: float | None = None,
    initial_kl_penalty: float = 1.0,
    schedule: str = "paper",
    epsilon: float = 1e-8,
    value_coefficient: float = 1.0,
    entropy_coefficient: float = 0.0,
    value_clip: float | None = None,
    max_gradient_norm: float | None = None,
    gradient_norm_epsilon: float = 0.0,
    stop_kl: float | None = None,
) -> Iterator[SampledIteration]:
    """Iterate a policy by PPO from rollouts: K epochs against a frozen old policy, then π_old ← π.

    ::

        clipped          E[min(r Â, clip(r, 1−ε, 1+ε) Â)]
        adaptive KL      E[r Â − β KL(π_old ‖ π)],   β doubled or halved after each iteration by the KL it came to

    Parameters
    ----------
    world, policy, value_network, learner, iterations, sampling
        As in `sampled_natural_policy_gradient`; the weighting is "uniform".
    epochs : int
        K.
    minibatch : int
        Rows of a minibatch; the last one of an epoch may be smaller.
    learning_rate : float or callable
        Of Adam, or a function from the number of the iteration, which is 1 at first, to it.
    clip : float, optional
        ε of the clipped variant.
    kl_target : float, optional
        d_targ of the adaptive variant, nats; one of the two is given.
    initial_kl_penalty : float
        β at the first iteration of the adaptive variant; the learner has the later ones.
    schedule : str
        As in `refpg.surrogate.kl_penalty_update`.
    epsilon, value_coefficient, entropy_coefficient, value_clip, max_gradient_norm, gradient_norm_epsilon, stop_kl
        As in `refpg.updates.ppo_epochs`.

    Returns
    -------
    iterator of SampledIteration
        With ``step`` of type `refpg.updates.EpochsUpdate`.

    Raises
    ------
    ValueError
        If not exactly one of ``clip`` and ``kl_target`` is given, a shape disagrees or a number is out of range; some
        of it only at the first iteration.

    References
    ----------
    [PPO Alg. 1], [PPO (7)], [PPO (8)], [Hui]
    """
    name = "sampled_ppo"
    if (clip is None) == (kl_target is None):
        raise ValueError(f"{name}: clip is {clip!r} and kl_target {kl_target!r}, expected one of them")
    epochs, minibatch = count(name, "epochs", epochs), count(name, "minibatch", minibatch)
    choice(name, "sampling.weighting", sampling.weighting, ("uniform",))
    if kl_target is not None:
        scalar(name, "kl_target", kl_target, above=0)
        scalar(name, "initial_kl_penalty", initial_kl_penalty, least=0)

    def update(learner: Learner, samples: _Samples) -> _Updated:
        beta = None
        if kl_target is not None:
            beta = initial_kl_penalty if learner.kl_penalty is None else learner.kl_penalty
        rows = len(samples.targets)
        theta, step = ppo_epochs(
            policy,
            learner.theta,
            samples.batch,
            minibatches=minibatch_order(samples.generator, rows=rows, size=minibatch, epochs=epochs),
            learning_rate=learning_rate(learner.iteration + 1) if callable(learning_rate) else learning_rate,
            value_network=value_network,
            value_theta=learner.value_theta,
            value_targets=samples.targets,
            clip=clip,
            kl_penalty=beta,
            value_coefficient=value_coefficient,
            entropy_coefficient=entropy_coefficient,
            epsilon=epsilon,
            adam=learner.adam,
            normalize=sampling.normalization == "minibatch",
            advantage_ddof=sampling.advantage_ddof,
            advantage_epsilon=sampling.advantage_epsilon,
            value_clip=value_clip,
            max_gradient_norm=max_gradient_norm,
            gradient_norm_epsilon=gradient_norm_epsilon,
            stop_kl=stop_kl,
        )
        g = surrogate_gradient(policy, learner.theta, samples.batch)
        if beta is None:
            return _Updated(theta, step.value_theta, step.adam, step, g)
        kl = mean_kl(policy, learner.theta, theta, samples.batch.observations)
        following = surrogate.kl_penalty_update(beta, kl, kl_target, schedule=schedule)
        return _Updated(theta, step.value_theta, step.adam, step, g, following, beta)

    return _loop(name, world, policy, value_network, learner, iterations, sampling, update, clip)
