"""Policy-gradient programs in parts: right as they stand, wrong as soon as one part is replaced.

The programs are those of ordinary libraries — objective, backward pass, Fisher product, conjugate gradients, step,
line search, Adam — with refpg's chapters for what each step means.  What a library leaves to automatic
differentiation, the derivative of an objective by log-probabilities or values, is taken by a complex step::

    ∂f/∂x_i = Im f(x + i h e_i)/h

so that a part is a value alone, and `detach` is what it is called elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refpg import network as networks
from refpg import policy as policies
from refpg import solvers, surrogate
from refpg.conformance.reference import pack, policy_and_theta, step_epsilon, stopping
from refpg.distributions import Family
from refpg.network import Linearization, Network
from refpg.network.layout import split
from refpg.notation import Array
from refpg.policy import Policy
from refpg.updates.trpo import RULES

Conventions = Mapping[str, str]
Parameters = Mapping[str, Any]
Product = Callable[[Array], Array]

_STEPS = {"float64": 1e-100, "float32": 1e-20}  # the square vanishes beside 1, the step itself is representable


def detach(x: Array) -> Array:
    """Return a copy that no derivative sees."""
    return np.array(x.real)


def gradient_of(value: Callable[[Array], Any], x: Array) -> Array:
    """Return the gradient (B,) of a real function of x (B,)."""
    h = _STEPS[x.dtype.name]
    directions = 1j * h * np.eye(len(x), dtype=x.dtype)
    return np.array([np.imag(value(x + direction)) / h for direction in directions], x.dtype)


def row_gradient_of(rows: Callable[[Array], Array], phi: Array) -> Array:
    """Return the gradients (B, K) of B functions, each of its own row of φ (B, K)."""
    h = _STEPS[phi.dtype.name]
    directions = 1j * h * np.eye(phi.shape[1], dtype=phi.dtype)
    return np.stack([np.imag(rows(phi + direction)) / h for direction in directions], axis=1).astype(phi.dtype)


class Search(NamedTuple):
    """What a line search sees.

    Fields: candidates are ``theta`` + scale · ``step`` for each of the ``scales``; a candidate ``improves`` the
    surrogate or not, where the expected improvement may be taken a number of times; it is ``within`` the trust region
    or not.
    """

    theta: Array
    step: Array
    scales: Array
    improves: Callable[..., bool]
    within: Callable[[Array], bool]


class Parts(NamedTuple):
    """The parts of a program.

    Fields: ``family``, what is made of the distribution; ``linearization``, of the network's backward pass; ``ratio``
    of (old, new) log-probabilities; ``objective`` of (r, A, clip); ``surrogate`` of (r, A); ``value_loss`` of
    (V, targets, the error of a row); ``entropy_sign``; ``adam`` of (m, v, t, rates), the direction of its step;
    ``metric`` of (F, v, λ), the damped product; ``solve``, conjugate gradients; ``step_length`` of (xᵀHx, δ);
    ``search``.
    """

    family: Callable[[Family], Family]
    linearization: Callable[[Linearization], Linearization]
    ratio: Callable[[Array, Array], Array]
    objective: Callable[[Array, Array, float], Any]
    surrogate: Callable[[Array, Array], Any]
    value_loss: Callable[[Array, Array, Callable[[Array], Array]], Any]
    entropy_sign: float
    adam: Callable[[Array, Array, int, "Rates"], Array]
    metric: Callable[["Fisher", Array, float], Array]
    solve: Callable[[Product, Array, int], Array]
    step_length: Callable[[Any, float], Any]
    search: Callable[[Search], tuple[Array, int]]


class Rates(NamedTuple):
    """The constants of Adam: ``learning_rate``, ``beta1`` and ``beta2``, ``epsilon``."""

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float


class Fisher(NamedTuple):
    """The Fisher matrix of a batch: its undamped ``product``, its number of ``rows``, and the samples if there are any.

    ``scores`` (B, P) are ∇ log π of the actions taken, ``advantages`` (B,) what they were worth.
    """

    product: Product
    rows: int
    scores: Array
    advantages: Array


# The right parts.


def clip_ratio(r: Array, clip: float) -> Array:
    """Return r, kept within 1 ± ε."""
    return np.where(r.real > 1 + clip, 1 + clip, np.where(r.real < 1 - clip, 1 - clip, r))


def smaller(a: Array, b: Array) -> Array:
    """Return the smaller of two, entry by entry; NaN if either is."""
    return np.where((a.real < b.real) | np.isnan(a), a, b)


def larger(a: Array, b: Array) -> Array:
    """Return the larger of two, entry by entry."""
    return np.where(a.real < b.real, b, a)


def ratio(old: Array, new: Array) -> Array:
    """π_new/π_old."""
    return np.exp(new - old)


def clipped_rows(r: Array, A: Array, clip: float) -> Array:
    """min(rA, clip(r, 1 − ε, 1 + ε)A)."""
    return smaller(clip_ratio(r, clip) * A, r * A)


def _adam_direction(m: Array, v: Array, t: int, rates: Rates) -> Array:
    return m / (1 - rates.beta1**t) / (np.sqrt(v / (1 - rates.beta2**t)) + rates.epsilon)


def damped(fisher: Fisher, v: Array, damping: float) -> Array:
    """(F + λI) v."""
    return fisher.product(v) + damping * v


def conjugate_gradient(product: Product, b: Array, iterations: int) -> Array:
    """x after so many iterations, from x = 0."""
    return solvers.conjugate_gradient(product, b, iterations=iterations).x


def first_accepted(search: Search) -> tuple[Array, int]:
    """Return the first candidate that improves within the trust region, and its number; else θ and −1."""
    for j, scale in enumerate(search.scales):
        candidate = search.theta + scale * search.step
        if search.improves(candidate) and search.within(candidate):
            return candidate, j
    return search.theta, -1


RIGHT = Parts(
    family=lambda family: family,
    linearization=lambda at: at,
    ratio=ratio,
    objective=lambda r, A, clip: clipped_rows(r, A, clip).mean(),
    surrogate=lambda r, A: (r * A).mean(),
    value_loss=lambda V, targets, error: error(V - targets).mean(),
    entropy_sign=1.0,
    adam=_adam_direction,
    metric=damped,
    solve=conjugate_gradient,
    step_length=lambda curvature, max_kl: np.sqrt(2 * max_kl / curvature),
    search=first_accepted,
)


def unpack(net: Network, theta: Array) -> dict[str, Any]:
    """Return θ, or a vector shaped like it, in the structure of the contract, whatever NaN is in it."""
    layers, free = split(net, theta)
    parameters: dict[str, Any] = {"layers": [{"W": W, "b": b} for W, b in layers]}
    return parameters | ({"log_std": free} if net.free else {})


# Families with a wrong log-probability or entropy; their derivatives follow.

Change = Callable[[Family], Family]


def gaussian_only(change: Change) -> Change:
    """Return the change for the Gaussian; the categorical family stays as it is."""
    return lambda family: change(family) if family.name == "diagonal_gaussian" else family


def categorical_only(change: Change) -> Change:
    """Return the change for the categorical family; the Gaussian stays as it is."""
    return lambda family: change(family) if family.name == "categorical" else family


def with_log_prob(log_prob: Callable[[Array, Array], Array]) -> Change:
    """Return the change to another log π(a)."""
    return lambda family: replace(
        family,
        log_prob=log_prob,
        score=lambda phi, action: row_gradient_of(lambda moved: log_prob(moved, action), phi),
    )


def with_entropy(entropy: Callable[[Array], Array]) -> Change:
    """Return the change to another entropy."""
    return lambda family: replace(family, entropy=entropy, entropy_gradient=lambda phi: row_gradient_of(entropy, phi))


# A policy on a batch.


class At(NamedTuple):
    """A ``policy`` with parts replaced, its ``theta``, and its network's ``backward`` pass on some observations."""

    policy: Policy
    theta: Array
    backward: Linearization

    @property
    def phi(self) -> Array:
        """φ of every row."""
        return self.backward.phi

    def log_prob(self, actions: Array) -> Array:
        """log π(a|s) of every row."""
        return self.policy.family.log_prob(self.phi, actions)

    def score_product(self, actions: Array, cotangent: Array) -> Array:
        """Σ_b c_b ∇_θ log π(a_b|s_b)."""
        return self.backward.vjp(cotangent[:, None] * self.policy.family.score(self.phi, actions))

    def scores(self, actions: Array) -> Array:
        """∇_θ log π(a|s) of every row, (B, P)."""
        return np.einsum("bk,bkp->bp", self.policy.family.score(self.phi, actions), self.backward.jacobian())


def at_batch(parts: Parts, policy: Parameters, observations: Array) -> At:
    """Run a policy of the contract on observations."""
    pi, theta = policy_and_theta(policy)
    return at_theta(parts, pi, theta, observations)


def at_theta(parts: Parts, pi: Policy, theta: Array, observations: Array) -> At:
    """Run a policy at θ on observations."""
    backward = parts.linearization(networks.linearize(pi.network, theta, observations))
    return At(Policy(parts.family(pi.family), pi.network), theta, backward)


# Programs of the profile ppo.


def ratios(parts: Parts, old_log_prob: Array, new_log_prob: Array) -> Array:
    """The op ``ratio``."""
    return parts.ratio(old_log_prob, new_log_prob)


def clipped_objective(parts: Parts, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float) -> Any:
    """The op of that name."""
    return parts.objective(parts.ratio(old_log_prob, new_log_prob), advantages, clip)


def clipped_objective_gradient(
    parts: Parts, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float
) -> Array:
    """The op of that name."""
    return gradient_of(lambda new: clipped_objective(parts, old_log_prob, new, advantages, clip), new_log_prob)


def _ascent(parts: Parts, at: At, actions: Array, advantages: Array, old_log_prob: Array, clip: float) -> Array:
    new = at.log_prob(actions)
    return at.score_product(actions, clipped_objective_gradient(parts, old_log_prob, new, advantages, clip))


def clipped_objective_parameter_gradient(
    parts: Parts, policy: Parameters, observations: Array, **samples: Any
) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    return unpack(at.policy.network, _ascent(parts, at, **samples))


def kl_penalized_objective(
    parts: Parts, old_log_prob: Array, new_log_prob: Array, advantages: Array, kl: Array, kl_penalty: float
) -> Any:
    """The op of that name."""
    return (parts.ratio(old_log_prob, new_log_prob) * advantages - kl_penalty * kl).mean()


def clip_fraction(
    parts: Parts, conventions: Conventions, old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float
) -> Any:
    """The op of that name."""
    r = parts.ratio(old_log_prob, new_log_prob)
    below, above = r < 1 - clip, r > 1 + clip
    if conventions["clip_fraction.rule"] == "outside":
        return (below | above).mean()
    return ((above & (advantages > 0)) | (below & (advantages < 0))).mean()


def _factor(conventions: Conventions) -> float:
    return {"1": 1.0, "1/2": 0.5}[conventions["value_loss.factor"]]


def value_loss(parts: Parts, conventions: Conventions, values: Array, targets: Array) -> Any:
    """The op of that name."""
    return _factor(conventions) * parts.value_loss(values, targets, row_error(conventions))


def row_error(conventions: Conventions) -> Callable[[Array], Array]:
    """Return the declared error of a row, a function of V − target."""
    if conventions["value_loss.error"] == "squared":
        return np.square

    def smooth(e: Array) -> Array:
        return np.where(np.abs(e.real) < 1, e**2 / 2, np.where(e.real < 0, -e, e) - 0.5)

    return smooth


def entropy_bonus(parts: Parts, policy: Parameters, observations: Array) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    return {"entropy": _mean_entropy(at), "gradient": unpack(at.policy.network, _mean_entropy_gradient(at))}


def _mean_entropy(at: At) -> Any:
    return at.policy.family.entropy(at.phi).mean()


def _mean_entropy_gradient(at: At) -> Array:
    return at.backward.vjp(at.policy.family.entropy_gradient(at.phi) / len(at.phi))


def ppo_objective(
    parts: Parts,
    conventions: Conventions,
    policy: Parameters,
    value_network: Parameters,
    observations: Array,
    value_targets: Array,
    value_coefficient: float,
    entropy_coefficient: float,
    **samples: Any,
) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    values_at = _value_network(parts, value_network, observations)
    V = values_at.phi[:, 0]
    c1, c2 = value_coefficient * _factor(conventions), entropy_coefficient * parts.entropy_sign
    new = at.log_prob(samples["actions"])
    clipped = clipped_objective(parts, samples["old_log_prob"], new, samples["advantages"], samples["clip"])
    error = row_error(conventions)
    d_values = gradient_of(lambda values: parts.value_loss(values, value_targets, error), V)
    ascent = _ascent(parts, at, **samples) + c2 * _mean_entropy_gradient(at)
    return {
        "objective": clipped - c1 * parts.value_loss(V, value_targets, error) + c2 * _mean_entropy(at),
        "policy_gradient": unpack(at.policy.network, ascent),
        "value_gradient": unpack(values_at.net, values_at.vjp(-c1 * d_values[:, None])),
    }


def _value_network(parts: Parts, layers: Parameters, observations: Array) -> Linearization:
    widths = [layer["W"].shape for layer in layers["layers"]]
    net = Network((widths[0][0], *(width for _, width in widths)), layers["activation"])
    return parts.linearization(networks.linearize(net, pack(net, layers), observations))


def adam_step(
    parts: Parts,
    parameters: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    step: int,
    **rates: float,
) -> dict[str, Array]:
    """The op of that name."""
    r = Rates(**rates)
    m = r.beta1 * first_moment + (1 - r.beta1) * gradient
    v = r.beta2 * second_moment + (1 - r.beta2) * gradient**2
    theta = parameters - r.learning_rate * parts.adam(m, v, step, r)
    return {"parameters": theta, "first_moment": m, "second_moment": v}


def ppo_epoch(
    parts: Parts,
    policy: Parameters,
    observations: Array,
    actions: Array,
    advantages: Array,
    old_log_prob: Array,
    minibatches: list[Array],
    clip: float,
    **rates: Any,
) -> dict[str, Any]:
    """The op of that name."""
    pi, theta = policy_and_theta(policy)
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    state: dict[str, Any] = {"parameters": theta, "first_moment": m, "second_moment": v}
    for step, rows in enumerate(minibatches, start=1):
        at = at_theta(parts, pi, state["parameters"], observations[rows])
        ascent = _ascent(parts, at, actions[rows], advantages[rows], old_log_prob[rows], clip)
        state = adam_step(parts, gradient=-ascent, step=step, **state, **rates)
    return unpack(pi.network, state["parameters"])


# Programs of the profile trpo.


def surrogate_value(
    parts: Parts, policy: Parameters, observations: Array, actions: Array, advantages: Array, old_log_prob: Array
) -> Any:
    """The op ``surrogate``."""
    new = at_batch(parts, policy, observations).log_prob(actions)
    return parts.surrogate(parts.ratio(old_log_prob, new), advantages)


def surrogate_gradient(
    parts: Parts, policy: Parameters, observations: Array, actions: Array, advantages: Array, old_log_prob: Array
) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    return unpack(at.policy.network, _surrogate_gradient(parts, at, actions, advantages, old_log_prob))


def _surrogate_gradient(parts: Parts, at: At, actions: Array, advantages: Array, old_log_prob: Array) -> Array:
    def value(new: Array) -> Any:
        return parts.surrogate(parts.ratio(old_log_prob, new), advantages)

    return at.score_product(actions, gradient_of(value, at.log_prob(actions)))


def _divergence(
    parts: Parts, conventions: Conventions, old_policy: Parameters, new_policy: Parameters, observations: Array
) -> tuple[At, Array, Array, bool]:
    old, new = (at_batch(parts, policy, observations) for policy in (old_policy, new_policy))
    return new, old.phi, new.phi - old.phi, conventions["kl.direction"] == "old_new"


def mean_kl(parts: Parts, conventions: Conventions, **inputs: Any) -> Any:
    """The op of that name."""
    new, phi, change, forward = _divergence(parts, conventions, **inputs)
    kl = new.policy.family.kl
    return (kl(phi, change) if forward else kl(new.phi, -change)).mean()


def mean_kl_gradient(parts: Parts, conventions: Conventions, **inputs: Any) -> dict[str, Any]:
    """The op of that name."""
    new, phi, change, forward = _divergence(parts, conventions, **inputs)
    family = new.policy.family
    slope = family.kl_gradient if forward else family.reverse_kl_gradient
    return unpack(new.policy.network, new.backward.vjp(slope(phi, change) / len(phi)))


def mean_kl_hessian_vector_product(
    parts: Parts, conventions: Conventions, vector: Parameters, **inputs: Any
) -> dict[str, Any]:
    """The op of that name."""
    new, phi, change, forward = _divergence(parts, conventions, **inputs)
    family, v = new.policy.family, pack(new.policy.network, vector)
    slope = family.kl_gradient if forward else family.reverse_kl_gradient
    curvature = family.kl_hessian_product if forward else family.reverse_kl_hessian_product
    gauss_newton = new.backward.vjp(curvature(phi, change, new.backward.jvp(v)))
    product = gauss_newton + new.backward.curvature_product(slope(phi, change), v)
    return unpack(new.policy.network, product / len(phi))


def _fisher(at: At, actions: Array | None = None, advantages: Array | None = None) -> Fisher:
    def product(v: Array) -> Array:
        return at.backward.vjp(at.policy.family.fisher_product(at.phi, at.backward.jvp(v))) / len(at.phi)

    none = np.zeros(0, at.theta.dtype)
    scores = none if actions is None else at.scores(actions)
    return Fisher(product, len(at.phi), scores, none if advantages is None else advantages)


def _matrix(parts: Parts, fisher: Fisher, size: int, dtype: Any, damping: float) -> Array:
    return np.stack([parts.metric(fisher, v, damping) for v in np.eye(size, dtype=dtype)], axis=1)


def fisher_matrix(parts: Parts, policy: Parameters, observations: Array) -> Array:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    return _matrix(parts, _fisher(at), at.theta.size, at.theta.dtype, 0.0)


def fisher_vector_product(
    parts: Parts, policy: Parameters, observations: Array, vector: Parameters, damping: float
) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    return unpack(at.policy.network, parts.metric(_fisher(at), pack(at.policy.network, vector), damping))


def _solved(parts: Parts, conventions: Conventions, product: Product, b: Array, iterations: int) -> Array:
    """x after as many iterations as right conjugate gradients make before they stop."""
    stop = stopping(conventions)
    if stop:
        iterations = len(solvers.conjugate_gradient(product, b, iterations=iterations, **stop).alphas)
    return parts.solve(product, b, iterations)


def matrix_conjugate_gradient(
    parts: Parts, conventions: Conventions, matrix: Array, b: Array, iterations: int
) -> Array:
    """The op ``conjugate_gradient``."""
    return _solved(parts, conventions, lambda v: matrix @ v, b, iterations)


def fisher_conjugate_gradient(
    parts: Parts,
    conventions: Conventions,
    policy: Parameters,
    observations: Array,
    b: Parameters,
    damping: float,
    iterations: int,
) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    fisher = _fisher(at)
    x = _solved(
        parts, conventions, lambda v: parts.metric(fisher, v, damping), pack(at.policy.network, b), iterations
    )
    return unpack(at.policy.network, x)


def _exactly(parts: Parts, at: At, g: Array, damping: float) -> Array:
    return np.linalg.solve(_matrix(parts, _fisher(at), g.size, g.dtype, damping), g)


def natural_gradient(
    parts: Parts, policy: Parameters, observations: Array, gradient: Parameters, damping: float
) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    return unpack(at.policy.network, _exactly(parts, at, pack(at.policy.network, gradient), damping))


def step_length(
    parts: Parts, conventions: Conventions, direction: Array, product: Array, max_kl: float
) -> Any:
    """The op of that name."""
    return parts.step_length(direction @ product + step_epsilon(conventions), max_kl)


def _full_step(
    parts: Parts, conventions: Conventions, fisher: Fisher, x: Array, damping: float, max_kl: float
) -> Array:
    if not x.any():
        return x
    Hx = parts.metric(fisher, x, damping if conventions["step_length.damping"] == "damped" else 0.0)
    return parts.step_length(x @ Hx + step_epsilon(conventions), max_kl) * x


def natural_gradient_step(
    parts: Parts,
    conventions: Conventions,
    policy: Parameters,
    observations: Array,
    gradient: Parameters,
    damping: float,
    max_kl: float,
) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    x = _exactly(parts, at, pack(at.policy.network, gradient), damping)
    return unpack(at.policy.network, _full_step(parts, conventions, _fisher(at), x, damping, max_kl))


def line_search(parts: Parts, conventions: Conventions, full_step: Parameters, **inputs: Any) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, inputs["policy"], inputs["observations"])
    g = _surrogate_gradient(parts, at, inputs["actions"], inputs["advantages"], at.log_prob(inputs["actions"]))
    return _searched(parts, conventions, g, pack(at.policy.network, full_step), **inputs)


def _searched(
    parts: Parts,
    conventions: Conventions,
    g: Array,
    step: Array,
    policy: Parameters,
    observations: Array,
    actions: Array,
    advantages: Array,
    max_kl: float,
    backtrack: float,
    max_backtracks: int,
) -> dict[str, Any]:
    pi, theta = policy_and_theta(policy)
    old = at_theta(RIGHT, pi, theta, observations)
    family = parts.family(pi.family)
    rule = RULES[conventions["line_search.accept"]]

    def improves(candidate: Array, times: float = 1.0) -> bool:
        try:
            log_ratio = policies.log_ratio(pi, theta, candidate, observations, actions)
            gain = surrogate.surrogate_improvement(log_ratio, advantages)
        except ValueError:  # a policy that is not a number fails every comparison
            return False
        return rule.improves(float(gain), times * float(g @ (candidate - theta)))

    def within(candidate: Array) -> bool:
        try:
            _, change = networks.forward_change(pi.network, theta, candidate - theta, observations)
        except ValueError:
            return False
        if conventions["kl.direction"] == "old_new":
            kl = family.kl(old.phi, change).mean()
        else:
            kl = family.kl(old.phi + change, -change).mean()
        return rule.within(float(kl), max_kl)

    scales = np.array([backtrack**j for j in range(max_backtracks)], theta.dtype)
    found, accepted = parts.search(Search(theta, step, scales, improves, within))
    return {"parameters": unpack(pi.network, found), "accepted": accepted}


def trpo_step(
    parts: Parts,
    conventions: Conventions,
    policy: Parameters,
    observations: Array,
    actions: Array,
    advantages: Array,
    max_kl: float,
    damping: float,
    iterations: int,
    **search: Any,
) -> dict[str, Any]:
    """The op of that name."""
    at = at_batch(parts, policy, observations)
    g = _surrogate_gradient(parts, at, actions, advantages, at.log_prob(actions))
    fisher = _fisher(at, actions, advantages)
    x = _solved(parts, conventions, lambda v: parts.metric(fisher, v, damping), g, iterations)
    step = _full_step(parts, conventions, fisher, x, damping, max_kl)
    return _searched(parts, conventions, g, step, policy, observations, actions, advantages, max_kl, **search)
