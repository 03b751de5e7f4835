"""refpg's own answers: every op of the contract through the package's public functions, under any conventions.

This is an adapter like anyone else's.  It holds no mathematics: it packs layers into θ, calls a chapter, and unpacks.
A function whose op has conventions takes them first, as a mapping of all its axes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from refpg import bounds, distributions, estimation, geometry, mdp, network, sequences, solvers, surrogate, updates
from refpg import policy as policies
from refpg.conformance.ops import OPS
from refpg.distributions import Family
from refpg.mdp import MDP
from refpg.network import Network
from refpg.notation import Array, expectation, row_weights
from refpg.policy import Batch, Policy

Answer = Callable[..., Any]
Conventions = Mapping[str, str]


def answers(conventions: Conventions) -> dict[str, Answer]:
    """Return refpg's function for every op, bound to the conventions.

    Parameters
    ----------
    conventions : mapping of str to str
        A value for every axis, e.g. ``{"kl.direction": "old_new", ...}``.

    Returns
    -------
    dict of str to callable
        Op name → function of the op's inputs as keywords.

    Examples
    --------
    >>> answers({})["ratio"](old_log_prob=[-1.0], new_log_prob=[-1.0])
    array([1.])
    """
    bound = {name: partial(function, conventions) for name, function in _OPS_WITH_CONVENTIONS.items()}
    functions = _DISTRIBUTION_OPS | _OPS_WITHOUT_CONVENTIONS | bound
    return {name: functions[name] for name in OPS}


def policy_and_theta(layers: Mapping[str, Any]) -> tuple[Policy, Array]:
    """Pack a policy of the contract into refpg's (policy, θ).

    Parameters
    ----------
    layers : mapping
        ``{"layers", "activation", "distribution"}`` and ``"log_std"`` for the Gaussian.

    Returns
    -------
    policy : Policy
    theta : (P,) array
    """
    make = policies.softmax_policy if layers["distribution"] == "categorical" else policies.gaussian_policy
    policy = make(_sizes(layers), layers["activation"])
    return policy, pack(policy.network, layers)


def pack(net: Network, parameters: Mapping[str, Any]) -> Array:
    """Flatten parameters of the contract to θ, or to a vector shaped like it."""
    layers = [(layer["W"], layer["b"]) for layer in parameters["layers"]]
    free = parameters.get("log_std", np.zeros(0, layers[0][0].dtype))
    return network.flatten(net, layers, free)


def unpack(net: Network, theta: Array) -> dict[str, Any]:
    """Return θ, or a vector shaped like it, in the structure of the contract."""
    layers, free = network.unflatten(net, theta)
    parameters: dict[str, Any] = {"layers": [{"W": W, "b": b} for W, b in layers]}
    return parameters | ({"log_std": free} if net.free else {})


def _sizes(layers: Mapping[str, Any]) -> tuple[int, ...]:
    weights = [layer["W"] for layer in layers["layers"]]
    return (weights[0].shape[0], *(W.shape[1] for W in weights))


def _network_and_theta(layers: Mapping[str, Any]) -> tuple[Network, Array]:
    net = Network(_sizes(layers), layers["activation"])
    return net, pack(net, layers)


# Distributions: φ is the logits, or (mean, log_std) side by side.


def _family(name: str, inputs: Mapping[str, Any]) -> Family:
    if name == "masked_categorical":
        return distributions.masked_categorical(inputs["mask"])
    if name == "multi_categorical":
        return distributions.multi_categorical(tuple(int(size) for size in inputs["action_sizes"]))
    return {
        "categorical": distributions.CATEGORICAL,
        "bernoulli": distributions.BERNOULLI,
        "diagonal_gaussian": distributions.DIAGONAL_GAUSSIAN,
        "squashed_gaussian": distributions.SQUASHED_GAUSSIAN,
    }[name]


def _phi(inputs: Mapping[str, Any], prefix: str = "") -> Array:
    if f"{prefix}logits" in inputs:
        return np.asarray(inputs[f"{prefix}logits"])
    return np.concatenate([inputs[f"{prefix}mean"], inputs[f"{prefix}log_std"]], axis=1)


def _action(inputs: Mapping[str, Any]) -> Any:
    return inputs["pre_tanh_actions"] if "pre_tanh_actions" in inputs else inputs["actions"]


def _log_prob(name: str, **inputs: Any) -> Any:
    return distributions.log_prob(_family(name, inputs), _phi(inputs), _action(inputs))


def _entropy(name: str, **inputs: Any) -> Any:
    return distributions.entropy(_family(name, inputs), _phi(inputs))


def _kl(name: str, **inputs: Any) -> Any:
    return distributions.kl(_family(name, inputs), _phi(inputs, "old_"), _phi(inputs, "new_"))


def _mean_kl_of_rows(name: str, **inputs: Any) -> Any:
    kl = _kl(name, **inputs)
    return expectation(kl, row_weights("mean_kl", None, kl))


def _score(name: str, **inputs: Any) -> Any:
    score = distributions.score(_family(name, inputs), _phi(inputs), _action(inputs))
    if "logits" in inputs:
        return score
    mean, log_std = np.split(score, 2, axis=1)
    return {"mean": mean, "log_std": log_std}


def _fisher(name: str, **inputs: Any) -> Any:
    return distributions.fisher(_family(name, inputs), _phi(inputs))


_QUANTITIES: dict[str, Answer] = {
    "log_prob": _log_prob,
    "entropy": _entropy,
    "kl": _kl,
    "mean_kl": _mean_kl_of_rows,
    "score": _score,
    "fisher": _fisher,
}
_FAMILIES = (
    "categorical",
    "masked_categorical",
    "multi_categorical",
    "bernoulli",
    "diagonal_gaussian",
    "squashed_gaussian",
)
_DISTRIBUTION_OPS: dict[str, Answer] = {
    f"{quantity}_{family}": partial(function, family)
    for family in _FAMILIES
    for quantity, function in _QUANTITIES.items()
}


# Estimators.


def _kl_estimators(old_log_prob: Any, new_log_prob: Any) -> Any:
    estimates = estimation.kl_estimators(old_log_prob, new_log_prob)
    return {"k1": estimates.k1, "k2": estimates.k2, "k3": estimates.k3}


def _discounted_returns(rewards: Any, next_values: Any, terminated: Any, truncated: Any, gamma: Any) -> Any:
    return estimation.discounted_returns(rewards, next_values, terminated, truncated, gamma)


def _td_errors(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: Any) -> Any:
    return estimation.td_errors(rewards, values, next_values, terminated, gamma)


def _gae(
    conventions: Conventions,
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    gamma: Any,
    gae_lambda: Any,
) -> Any:
    target = conventions["gae.value_target"]
    rollout = rewards, values, next_values, terminated, truncated
    estimate = estimation.gae(*rollout, gamma, gae_lambda, value_target=target)
    return {"advantages": estimate.advantages, "value_targets": estimate.value_targets}


def _gae_rollout(
    conventions: Conventions,
    rewards: Any,
    values: Any,
    dones: Any,
    last_values: Any,
    gamma: Any,
    gae_lambda: Any,
) -> Any:
    target = conventions["gae.value_target"]
    estimate = estimation.gae_rollout(rewards, values, dones, last_values, gamma, gae_lambda, value_target=target)
    return {"advantages": estimate.advantages, "value_targets": estimate.value_targets}


def _normalize_advantages(conventions: Conventions, advantages: Any) -> Any:
    return estimation.normalize_advantages(advantages, **_deviation(conventions))


def _deviation(conventions: Conventions) -> dict[str, Any]:
    epsilon, _, form = conventions["advantage.epsilon"].partition("_")
    return {"ddof": int(conventions["advantage.ddof"]), "epsilon": float(epsilon), "form": form or "added"}


def _explained_variance(values: Any, targets: Any) -> Any:
    return estimation.explained_variance(values, targets)


# Proximal policy optimisation.


def _ratio(old_log_prob: Any, new_log_prob: Any) -> Any:
    return surrogate.ratio(old_log_prob, new_log_prob)


def _clipped_objective(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Any:
    return surrogate.clipped_objective(old_log_prob, new_log_prob, advantages, clip)


def _clipped_objective_gradient(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Any:
    return surrogate.clipped_objective_gradient(old_log_prob, new_log_prob, advantages, clip)


def _asymmetric_clipped_objective(
    old_log_prob: Any, new_log_prob: Any, advantages: Any, clip_low: Any, clip_high: Any
) -> Any:
    samples = old_log_prob, new_log_prob, advantages, clip_low
    return {
        "objective": surrogate.clipped_objective(*samples, clip_high=clip_high),
        "gradient": surrogate.clipped_objective_gradient(*samples, clip_high=clip_high),
    }


def _dual_clipped_objective(old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any, floor: Any) -> Any:
    samples = old_log_prob, new_log_prob, advantages, clip
    return {
        "objective": surrogate.dual_clipped_objective(*samples, floor=floor),
        "gradient": surrogate.dual_clipped_objective_gradient(*samples, floor=floor),
    }


def _clipped_objective_parameter_gradient(
    policy: Any, observations: Any, actions: Any, advantages: Any, old_log_prob: Any, clip: Any
) -> Any:
    pi, theta = policy_and_theta(policy)
    batch = Batch(observations, actions, advantages, old_log_prob)
    return unpack(pi.network, updates.ppo_objective(pi, theta, batch, clip=clip).gradient)


def _clip_fraction(conventions: Conventions, old_log_prob: Any, new_log_prob: Any, advantages: Any, clip: Any) -> Any:
    rule = conventions["clip_fraction.rule"]
    return surrogate.clip_fraction(old_log_prob, new_log_prob, advantages, clip, rule=rule)


def _approximate_kl(conventions: Conventions, old_log_prob: Any, new_log_prob: Any) -> Any:
    estimator = conventions["approximate_kl.estimator"]
    return estimation.approximate_kl(old_log_prob, new_log_prob, estimator=estimator)


def _kl_penalized_objective(old_log_prob: Any, new_log_prob: Any, advantages: Any, kl: Any, kl_penalty: Any) -> Any:
    return surrogate.kl_penalized_objective(old_log_prob, new_log_prob, advantages, kl, kl_penalty)


def _kl_penalty_update(conventions: Conventions, kl_penalty: Any, kl: Any, target: Any) -> Any:
    return surrogate.kl_penalty_update(kl_penalty, kl, target, schedule=conventions["kl_penalty.schedule"])


def _proportional_kl_penalty_update(kl_penalty: Any, kl: Any, target: Any, samples: int, horizon: int) -> Any:
    return surrogate.proportional_kl_penalty_update(kl_penalty, kl, target, samples=samples, horizon=horizon)


def _factor(conventions: Conventions) -> float:
    return {"1": 1.0, "1/2": 0.5}[conventions["value_loss.factor"]]


def _value_loss(conventions: Conventions, values: Any, targets: Any) -> Any:
    return surrogate.value_loss(values, targets, factor=_factor(conventions), error=conventions["value_loss.error"])


def _clipped_value_loss(conventions: Conventions, values: Any, old_values: Any, targets: Any, clip: Any) -> Any:
    return surrogate.clipped_value_loss(
        values,
        old_values,
        targets,
        clip,
        form=conventions["value_loss.clip"],
        factor=_factor(conventions),
        error=conventions["value_loss.error"],
    )


def _entropy_bonus(policy: Any, observations: Any) -> Any:
    pi, theta = policy_and_theta(policy)
    phi = policies.distribution_parameters(pi, theta, observations)
    phi_bar = surrogate.entropy_bonus_gradient(pi.family, phi)
    return {
        "entropy": surrogate.entropy_bonus(pi.family, phi),
        "gradient": unpack(pi.network, network.vjp(pi.network, theta, observations, phi_bar)),
    }


def _ppo_objective(
    conventions: Conventions,
    policy: Any,
    value_network: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    old_log_prob: Any,
    value_targets: Any,
    clip: Any,
    value_coefficient: Any,
    entropy_coefficient: Any,
) -> Any:
    pi, theta = policy_and_theta(policy)
    value_net, value_theta = _network_and_theta(value_network)
    result = updates.ppo_objective(
        pi,
        theta,
        Batch(observations, actions, advantages, old_log_prob),
        clip=clip,
        value_network=value_net,
        value_theta=value_theta,
        value_targets=value_targets,
        value_coefficient=value_coefficient,
        entropy_coefficient=entropy_coefficient,
        value_factor=_factor(conventions),
        value_error=conventions["value_loss.error"],
    )
    assert result.value_gradient is not None
    return {
        "objective": result.objective,
        "policy_gradient": unpack(pi.network, result.gradient),
        "value_gradient": unpack(value_net, result.value_gradient),
    }


def _adam_step(
    parameters: Any,
    gradient: Any,
    first_moment: Any,
    second_moment: Any,
    step: int,
    learning_rate: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
) -> Any:
    # The contract numbers the step to be made; refpg's state counts the steps made.
    before = updates.Adam(first_moment, second_moment, step - 1)
    theta, after = updates.adam_step(
        parameters, gradient, before, learning_rate=learning_rate, beta1=beta1, beta2=beta2, epsilon=epsilon
    )
    return {"parameters": theta, "first_moment": after.first_moment, "second_moment": after.second_moment}


def _ppo_epoch(
    policy: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    old_log_prob: Any,
    minibatches: Any,
    clip: Any,
    learning_rate: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
) -> Any:
    pi, theta = policy_and_theta(policy)
    theta, _ = updates.ppo_update(
        pi,
        theta,
        Batch(observations, actions, advantages, old_log_prob),
        clip=clip,
        minibatches=[minibatches],
        learning_rate=learning_rate,
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
    )
    return unpack(pi.network, theta)


# Trust-region policy optimisation.


def _network_forward(**inputs: Any) -> Any:
    net, theta = _network_and_theta(inputs["network"])
    return network.forward(net, theta, inputs["observations"])


def _surrogate(policy: Any, observations: Any, actions: Any, advantages: Any, old_log_prob: Any) -> Any:
    pi, theta = policy_and_theta(policy)
    new_log_prob = policies.log_prob(pi, theta, observations, actions)
    return surrogate.sampled_surrogate(old_log_prob, new_log_prob, advantages)


def _surrogate_gradient(policy: Any, observations: Any, actions: Any, advantages: Any, old_log_prob: Any) -> Any:
    pi, theta = policy_and_theta(policy)
    new_log_prob = policies.log_prob(pi, theta, observations, actions)
    cotangent = surrogate.sampled_surrogate_gradient(old_log_prob, new_log_prob, advantages)
    return unpack(pi.network, policies.log_prob_vjp(pi, theta, observations, actions, cotangent))


def _mean_kl(conventions: Conventions, old_policy: Any, new_policy: Any, observations: Any) -> Any:
    pi, theta_old = policy_and_theta(old_policy)
    _, theta = policy_and_theta(new_policy)
    return geometry.mean_kl(pi, theta_old, theta, observations, direction=conventions["kl.direction"])


def _mean_kl_gradient(conventions: Conventions, old_policy: Any, new_policy: Any, observations: Any) -> Any:
    pi, theta_old = policy_and_theta(old_policy)
    _, theta = policy_and_theta(new_policy)
    direction = conventions["kl.direction"]
    return unpack(pi.network, geometry.mean_kl_gradient(pi, theta_old, theta, observations, direction=direction))


def _mean_kl_hessian_vector_product(
    conventions: Conventions, old_policy: Any, new_policy: Any, observations: Any, vector: Any
) -> Any:
    pi, theta_old = policy_and_theta(old_policy)
    _, theta = policy_and_theta(new_policy)
    product = geometry.mean_kl_hessian_vector_product(
        pi, theta_old, theta, observations, pack(pi.network, vector), direction=conventions["kl.direction"]
    )
    return unpack(pi.network, product)


def _fisher_matrix(policy: Any, observations: Any) -> Any:
    pi, theta = policy_and_theta(policy)
    return geometry.fisher_matrix(pi, theta, observations)


def _fisher_vector_product(policy: Any, observations: Any, vector: Any, damping: Any) -> Any:
    pi, theta = policy_and_theta(policy)
    v = pack(pi.network, vector)
    return unpack(pi.network, geometry.fisher_vector_product(pi, theta, observations, v, damping=damping))


def stopping(conventions: Conventions) -> dict[str, Any]:
    """Return when conjugate gradients stop by the convention declared, as arguments of the solver."""
    rules: dict[str, dict[str, Any]] = {
        "never": {},
        "1e-10": {"threshold": 1e-5, "minimum": 1},  # rᵀr < 1e-10
        "1e-10_from_start": {"threshold": 1e-5},
    }
    return rules[conventions["conjugate_gradient.stop"]]


def _conjugate_gradient(conventions: Conventions, matrix: Any, b: Any, iterations: int) -> Any:
    return solvers.conjugate_gradient(
        lambda v: matrix @ v, b, iterations=iterations, **stopping(conventions)
    ).x


def _fisher_conjugate_gradient(
    conventions: Conventions, policy: Any, observations: Any, b: Any, damping: Any, iterations: int
) -> Any:
    pi, theta = policy_and_theta(policy)
    H = geometry.fisher_operator(pi, theta, observations, damping=damping)
    solution = solvers.conjugate_gradient(
        H.matvec, pack(pi.network, b), iterations=iterations, **stopping(conventions)
    )
    return unpack(pi.network, solution.x)


def _natural_gradient(policy: Any, observations: Any, gradient: Any, damping: Any) -> Any:
    pi, theta = policy_and_theta(policy)
    g = pack(pi.network, gradient)
    return unpack(pi.network, updates.natural_gradient(pi, theta, observations, g, damping=damping).direction)


def _natural_gradient_minimum_norm(policy: Any, observations: Any, actions: Any, advantages: Any) -> Any:
    pi, theta = policy_and_theta(policy)
    g = updates.surrogate_gradient(pi, theta, Batch(observations, actions, advantages))
    found = updates.natural_gradient(pi, theta, observations, g, damping=0.0, method="minimum_norm")
    return {"direction": unpack(pi.network, found.direction), "rank": found.rank}


def step_epsilon(conventions: Conventions) -> float:
    """Return ε of the step length by the convention declared."""
    return float(conventions["step_length.epsilon"])


def _step_length(conventions: Conventions, direction: Any, product: Any, max_kl: Any) -> Any:
    return updates.step_length(direction, product, max_kl, epsilon=step_epsilon(conventions))


def _step_damping(conventions: Conventions) -> bool:
    return conventions["step_length.damping"] == "damped"


def _natural_gradient_step(
    conventions: Conventions, policy: Any, observations: Any, gradient: Any, damping: Any, max_kl: Any
) -> Any:
    pi, theta = policy_and_theta(policy)
    _, info = updates.natural_gradient_step(
        pi,
        theta,
        observations,
        pack(pi.network, gradient),
        damping=damping,
        max_kl=max_kl,
        step_damping=_step_damping(conventions),
        step_epsilon=step_epsilon(conventions),
    )
    return unpack(pi.network, info.step)


def _expected_improvement(gradient: Any, step: Any) -> Any:
    net = Network(_sizes(gradient), free=np.size(gradient.get("log_std", ())))
    return updates.expected_improvement(pack(net, gradient), pack(net, step))


def _line_search(
    conventions: Conventions,
    policy: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    full_step: Any,
    max_kl: Any,
    backtrack: Any,
    max_backtracks: int,
) -> Any:
    pi, theta = policy_and_theta(policy)
    theta, info = updates.trust_region_line_search(
        pi,
        theta,
        Batch(observations, actions, advantages),
        pack(pi.network, full_step),
        max_kl=max_kl,
        backtrack=backtrack,
        max_backtracks=max_backtracks,
        accept=conventions["line_search.accept"],
        direction=conventions["kl.direction"],
    )
    return {"parameters": unpack(pi.network, theta), "accepted": info.accepted}


def _trpo_step(
    conventions: Conventions,
    policy: Any,
    observations: Any,
    actions: Any,
    advantages: Any,
    max_kl: Any,
    damping: Any,
    iterations: int,
    backtrack: Any,
    max_backtracks: int,
) -> Any:
    pi, theta = policy_and_theta(policy)
    theta, info = updates.trpo_step(
        pi,
        theta,
        Batch(observations, actions, advantages),
        max_kl=max_kl,
        damping=damping,
        iterations=iterations,
        backtrack=backtrack,
        max_backtracks=max_backtracks,
        accept=conventions["line_search.accept"],
        direction=conventions["kl.direction"],
        step_damping=_step_damping(conventions),
        step_epsilon=step_epsilon(conventions),
        **stopping(conventions),
    )
    return {"parameters": unpack(pi.network, theta), "accepted": info.accepted}


# Theory.  Its chapters are exact and compute in float64, whatever the format of the tables: nothing is cast here.


def _policy_evaluation(transition: Any, reward: Any, gamma: Any, probabilities: Any) -> Any:
    anywhere = np.eye(len(transition))[0]  # where it starts does not change what a state is worth
    at = mdp.evaluate(MDP(transition, reward, anywhere, gamma), probabilities)
    return {"values": at.values, "action_values": at.action_values, "advantages": at.advantages}


def _visitation(conventions: Conventions, transition: Any, start: Any, gamma: Any, probabilities: Any) -> Any:
    unpaid = np.zeros_like(probabilities)
    at = mdp.evaluate(MDP(transition, unpaid, start, gamma), probabilities)
    scaled = {"unnormalised": at.visitation, "normalised": at.visitation_distribution}
    return scaled[conventions["visitation.normalisation"]]


def _expected_return(transition: Any, reward: Any, start: Any, gamma: Any, probabilities: Any) -> Any:
    return mdp.evaluate(MDP(transition, reward, start, gamma), probabilities).expected_return


def _performance_difference(
    transition: Any, reward: Any, start: Any, gamma: Any, old_probabilities: Any, new_probabilities: Any
) -> Any:
    model = MDP(transition, reward, start, gamma)
    return mdp.performance_difference(model, old_probabilities, new_probabilities).advantage_sum


def _local_approximation(
    transition: Any, reward: Any, start: Any, gamma: Any, old_probabilities: Any, new_probabilities: Any
) -> Any:
    return mdp.local_approximation(MDP(transition, reward, start, gamma), old_probabilities, new_probabilities)


def _softmax_policy_gradient(transition: Any, reward: Any, start: Any, gamma: Any, logits: Any) -> Any:
    # A table of logits is a network without hidden layers that is shown the states as unit vectors.
    S, A = logits.shape
    tabular, one_hot = policies.softmax_policy((S, A)), np.eye(S)
    theta = network.flatten(tabular.network, [(np.asarray(logits, dtype=np.float64), np.zeros(A))], np.zeros(0))
    probabilities = policies.probability_table(tabular, theta, one_hot)
    return mdp.softmax_gradient(MDP(transition, reward, start, gamma), probabilities)


def _policy_total_variation(old_probabilities: Any, new_probabilities: Any) -> Any:
    distances = bounds.total_variation(old_probabilities, new_probabilities)
    return {"total_variation": distances, "max_total_variation": distances.max()}


def _policy_kl(conventions: Conventions, old_probabilities: Any, new_probabilities: Any, state_weights: Any) -> Any:
    directed = {"old_new": (old_probabilities, new_probabilities), "new_old": (new_probabilities, old_probabilities)}
    kl = bounds.kl_divergence(*directed[conventions["kl.direction"]])
    return {"kl": kl, "max_kl": kl.max(), "mean_kl": bounds.state_mean(kl, state_weights)}


def _penalty_coefficient(advantages: Any, gamma: Any) -> Any:
    return bounds.penalty_coefficient(advantages, gamma)


def _lower_bounds(
    transition: Any, reward: Any, start: Any, gamma: Any, old_probabilities: Any, new_probabilities: Any
) -> Any:
    found = bounds.all_bounds(MDP(transition, reward, start, gamma), old_probabilities, new_probabilities)
    return {name: found[name].lower for name in ("trpo_kl", "trpo_tv", "pinsker", "cpo")}


def _mm_step(old_probabilities: Any, advantages: Any, visitation: Any, penalty: Any) -> Any:
    table, info = updates.mm_step(old_probabilities, advantages, visitation, penalty)
    return {"probabilities": table, "max_kl": info.max_kl}


def _trust_region_dual(matrix: Any, gradient: Any, max_kl: Any) -> Any:
    solved = updates.trust_region_dual(matrix, gradient, max_kl)
    return {"step": solved.step, "multiplier": solved.multiplier, "value": solved.value}


# Sequences of tokens.


def _aggregation(conventions: Conventions, constant: Any) -> dict[str, Any]:
    aggregation = conventions["sequence.aggregation"]
    has_part = aggregation == "token_sum_over_constant"
    return {"aggregation": aggregation, "constant": constant if has_part else None}


def _masked_aggregate(conventions: Conventions, values: Any, mask: Any, constant: Any) -> Any:
    return sequences.masked_aggregate(values, mask, **_aggregation(conventions, constant))


def _masked_normalize_advantages(conventions: Conventions, advantages: Any, mask: Any) -> Any:
    return sequences.masked_normalize_advantages(advantages, mask, **_deviation(conventions))


def _group_advantages(conventions: Conventions, rewards: Any, group: Any) -> Any:
    baseline, scale = conventions["group.baseline"], conventions["group.scale"]
    return sequences.group_advantages(rewards, group, baseline=baseline, scale=scale, **_deviation(conventions))


def _token_rewards(scores: Any, log_prob: Any, reference_log_prob: Any, mask: Any, kl_penalty: Any) -> Any:
    return sequences.token_rewards(scores, log_prob, reference_log_prob, mask, kl_penalty)


def _token_kl_penalty(
    conventions: Conventions, log_prob: Any, reference_log_prob: Any, mask: Any, constant: Any
) -> Any:
    tokens = log_prob, reference_log_prob, mask
    chosen = {"estimator": conventions["kl_penalty.estimator"]} | _aggregation(conventions, constant)
    return {
        "penalty": sequences.token_kl_penalty(*tokens, **chosen),
        "gradient": sequences.token_kl_penalty_gradient(*tokens, **chosen),
    }


def _token_clipped_objective(
    conventions: Conventions,
    old_log_prob: Any,
    new_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: Any,
    clip_high: Any,
    constant: Any,
) -> Any:
    tokens = old_log_prob, new_log_prob, advantages, mask, clip
    chosen = {"clip_high": clip_high, "level": conventions["ratio.level"]} | _aggregation(conventions, constant)
    return {
        "objective": sequences.token_clipped_objective(*tokens, **chosen),
        "gradient": sequences.token_clipped_objective_gradient(*tokens, **chosen),
    }


def _sequence_objective(
    conventions: Conventions,
    old_log_prob: Any,
    new_log_prob: Any,
    reference_log_prob: Any,
    advantages: Any,
    mask: Any,
    clip: Any,
    clip_high: Any,
    kl_penalty: Any,
    constant: Any,
) -> Any:
    batch = old_log_prob, new_log_prob, reference_log_prob, advantages, mask, clip, kl_penalty
    chosen = {
        "clip_high": clip_high,
        "level": conventions["ratio.level"],
        "estimator": conventions["kl_penalty.estimator"],
    } | _aggregation(conventions, constant)
    return {
        "objective": sequences.sequence_objective(*batch, **chosen),
        "gradient": sequences.sequence_objective_gradient(*batch, **chosen),
    }


_OPS_WITHOUT_CONVENTIONS: dict[str, Answer] = {
    "kl_estimators": _kl_estimators,
    "discounted_returns": _discounted_returns,
    "td_errors": _td_errors,
    "explained_variance": _explained_variance,
    "ratio": _ratio,
    "clipped_objective": _clipped_objective,
    "clipped_objective_gradient": _clipped_objective_gradient,
    "clipped_objective_parameter_gradient": _clipped_objective_parameter_gradient,
    "asymmetric_clipped_objective": _asymmetric_clipped_objective,
    "dual_clipped_objective": _dual_clipped_objective,
    "kl_penalized_objective": _kl_penalized_objective,
    "proportional_kl_penalty_update": _proportional_kl_penalty_update,
    "entropy_bonus": _entropy_bonus,
    "adam_step": _adam_step,
    "ppo_epoch": _ppo_epoch,
    "network_forward": _network_forward,
    "surrogate": _surrogate,
    "surrogate_gradient": _surrogate_gradient,
    "fisher_matrix": _fisher_matrix,
    "fisher_vector_product": _fisher_vector_product,
    "natural_gradient": _natural_gradient,
    "natural_gradient_minimum_norm": _natural_gradient_minimum_norm,
    "expected_improvement": _expected_improvement,
    "policy_evaluation": _policy_evaluation,
    "expected_return": _expected_return,
    "performance_difference": _performance_difference,
    "local_approximation": _local_approximation,
    "softmax_policy_gradient": _softmax_policy_gradient,
    "policy_total_variation": _policy_total_variation,
    "penalty_coefficient": _penalty_coefficient,
    "lower_bounds": _lower_bounds,
    "mm_step": _mm_step,
    "trust_region_dual": _trust_region_dual,
    "token_rewards": _token_rewards,
}
_OPS_WITH_CONVENTIONS: dict[str, Answer] = {
    "gae": _gae,
    "gae_rollout": _gae_rollout,
    "normalize_advantages": _normalize_advantages,
    "clip_fraction": _clip_fraction,
    "approximate_kl": _approximate_kl,
    "kl_penalty_update": _kl_penalty_update,
    "value_loss": _value_loss,
    "clipped_value_loss": _clipped_value_loss,
    "ppo_objective": _ppo_objective,
    "mean_kl": _mean_kl,
    "mean_kl_gradient": _mean_kl_gradient,
    "mean_kl_hessian_vector_product": _mean_kl_hessian_vector_product,
    "conjugate_gradient": _conjugate_gradient,
    "fisher_conjugate_gradient": _fisher_conjugate_gradient,
    "step_length": _step_length,
    "natural_gradient_step": _natural_gradient_step,
    "line_search": _line_search,
    "trpo_step": _trpo_step,
    "visitation": _visitation,
    "policy_kl": _policy_kl,
    "masked_aggregate": _masked_aggregate,
    "masked_normalize_advantages": _masked_normalize_advantages,
    "group_advantages": _group_advantages,
    "token_kl_penalty": _token_kl_penalty,
    "token_clipped_objective": _token_clipped_objective,
    "sequence_objective": _sequence_objective,
}
