"""Mistakes in the profile trpo: networks, divergences, Fisher products, solvers, steps, line searches."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from refpg.conformance.mutants import programs
from refpg.conformance.mutants.programs import (
    RIGHT,
    Change,
    Conventions,
    Fisher,
    Parameters,
    Parts,
    Product,
    Search,
    categorical_only,
    conjugate_gradient,
    damped,
    detach,
    first_accepted,
    gaussian_only,
    with_log_prob,
)
from refpg.conformance.reference import answers
from refpg.distributions import Family, categorical, gaussian
from refpg.distributions.gaussian import halves
from refpg.network import ACTIVATIONS, Linearization
from refpg.notation import Array

Function = Callable[..., Any]

# Networks.


def _forward(
    network: Parameters,
    observations: Array,
    affine: Callable[[Array, Array, Array], Array] = lambda h, W, b: h @ W + b,
    activation: Callable[[Array], Array] | None = None,
    last: Callable[[Array], Array] = lambda z: z,
) -> Array:
    activation = activation or ACTIVATIONS[network["activation"]].value
    *hidden, output = network["layers"]
    h = observations
    for layer in hidden:
        h = activation(affine(h, layer["W"], layer["b"]))
    return last(affine(h, output["W"], output["b"]))


def _transposed(h: Array, W: Array, b: Array) -> Array:
    return h @ (W.T if W.shape[0] == W.shape[1] else W) + b


def _activated_outputs(network: Parameters, observations: Array) -> Array:
    return _forward(network, observations, last=ACTIVATIONS[network["activation"]].value)


def _gelu_by_tanh(z: Array) -> Array:
    return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def _approximate_gelu(network: Parameters, observations: Array) -> Array:
    return _forward(network, observations, activation=_gelu_by_tanh if network["activation"] == "gelu" else None)


def _with_slopes(slope: Callable[[str, Array], Array | None]) -> Parts:
    """Another derivative of the activation, from its name and z, where there is one."""

    def wrong(at: Linearization) -> Linearization:
        def slopes(block: Any) -> list[Array]:
            inputs = zip(block.h, at.layers[:-1], strict=False)
            other = [slope(at.net.activation, h @ A) for h, A in inputs]
            return [right if new is None else new for right, new in zip(block.slope, other, strict=True)]

        return replace(at, blocks=[replace(block, slope=slopes(block)) for block in at.blocks])

    return RIGHT._replace(linearization=wrong)


def _tanh_of_output(activation: str, z: Array) -> Array | None:
    return 1 - np.tanh(np.tanh(z)) ** 2 if activation == "tanh" else None


def _slope_at_output(activation: str, z: Array) -> Array | None:
    if activation not in ("elu", "silu", "softplus", "gelu"):
        return None
    return ACTIVATIONS[activation].slope(ACTIVATIONS[activation].value(z))


SLOPES: dict[str, Parts] = {
    "tanh-deriv-of-output": _with_slopes(_tanh_of_output),
    "activation-slope-of-output": _with_slopes(_slope_at_output),
}


# Log-probabilities and the surrogate.


def _of_dimensions(
    density: Callable[[Array, Array], Array], reduce: Callable[..., Array] = np.sum
) -> Callable[[Array, Array], Array]:
    """Reduce a function of a − μ and log σ over the action dimensions."""

    def log_prob(phi: Array, action: Array) -> Array:
        mean, log_std = halves(phi)
        return reduce(density(action - mean, log_std), axis=1)

    return log_prob


_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _normal(d: Array, ls: Array) -> Array:
    return -0.5 * (d * np.exp(-ls)) ** 2 - ls - _HALF_LOG_2PI


def _std_as_variance(d: Array, ls: Array) -> Array:
    return -(d**2) / (2 * np.exp(ls)) - 0.5 * ls - _HALF_LOG_2PI


def _plus_quadratic(d: Array, ls: Array) -> Array:
    return 0.5 * (d / np.exp(ls)) ** 2 - ls - _HALF_LOG_2PI


def _logit(phi: Array, action: Array) -> Array:
    return np.take_along_axis(phi, action[:, None], axis=1)[:, 0]


def _twice_normalised(phi: Array, action: Array) -> Array:
    return categorical.log_prob(np.exp(categorical.log_softmax(phi)), action)


def _log_prob(change: Callable[[Change], Change], log_prob: Callable[[Array, Array], Array]) -> Parts:
    return RIGHT._replace(family=change(with_log_prob(log_prob)))


LOG_PROBS: dict[str, Parts] = {
    "logp-mean-dims": _log_prob(gaussian_only, _of_dimensions(_normal, np.mean)),
    "logp-std-as-var": _log_prob(gaussian_only, _of_dimensions(_std_as_variance)),
    "logp-double-exp": _log_prob(gaussian_only, _of_dimensions(lambda d, ls: _normal(d, np.exp(ls)))),
    "logp-plus-quadratic": _log_prob(gaussian_only, _of_dimensions(_plus_quadratic)),
    "cat-logits-as-logp": _log_prob(categorical_only, _logit),
    "cat-double-softmax": _log_prob(categorical_only, _twice_normalised),
}
RATIOS: dict[str, Parts] = {
    "ratio-inverted": RIGHT._replace(ratio=lambda old, new: np.exp(old - new)),
    "ratio-always-one": RIGHT._replace(ratio=lambda old, new: np.exp(new - detach(new))),
}
WITHOUT_GRADIENT: dict[str, Parts] = {
    "ratio-old-not-detached": RIGHT._replace(ratio=lambda old, new: np.exp(new - new))
}
_SURROGATES: dict[str, Parts] = {
    "ratio-broadcast-NxN": RIGHT._replace(surrogate=lambda r, A: (r[:, None] * A).mean()),
    "pg-sum-not-mean": RIGHT._replace(surrogate=lambda r, A: (r * A).sum()),
    "pg-wrong-sign": RIGHT._replace(surrogate=lambda r, A: -(r * A).mean()),
}


# Divergences.

_OF_KL = (
    "kl",
    "kl_gradient",
    "kl_hessian_product",
    "reverse_kl_gradient",
    "reverse_kl_hessian_product",
    "fisher_product",
)


def _scaled(factor: Callable[[Array], float]) -> Change:
    """The KL, and all that is derived from it, times a factor of φ."""

    def times(function: Function) -> Function:
        return lambda phi, *others: factor(phi) * function(phi, *others)

    def scaled(family: Family) -> Family:
        changed: dict[str, Any] = {field: times(getattr(family, field)) for field in _OF_KL}
        return replace(family, **changed)

    return scaled


def _dimensions(phi: Array) -> int:
    return phi.shape[1] // 2


def _by_halves(for_mean: Array, for_log_std: Array) -> Array:
    return np.concatenate([for_mean, for_log_std], axis=1)


def _log_ratio_sign(family: Family) -> Family:
    """log σ₀ − log σ₁ where log σ₁ − log σ₀ is meant: the value and the gradient in log σ change, the Hessian not."""

    def shifted(gradient: Function, by: float) -> Function:
        return lambda phi, change: gradient(phi, change) + by * gaussian.entropy_gradient(phi)

    return replace(
        family,
        kl=lambda phi, change: family.kl(phi, change) - 2 * halves(change)[1].sum(axis=1),
        kl_gradient=shifted(family.kl_gradient, -2),
        reverse_kl_gradient=shifted(family.reverse_kl_gradient, 2),
    )


def _missing_half(family: Family) -> Family:
    """(μ₀ − μ₁)²/σ₁² in place of half of it: twice the right KL, less the part that knows no means."""

    def without_means(array: Array) -> Array:
        on_mean, on_log_std = halves(array)
        return _by_halves(np.zeros_like(on_mean), on_log_std)

    def doubled(right: Function) -> Function:
        return lambda phi, *changes: 2 * right(phi, *changes) - right(phi, *map(without_means, changes))

    return replace(
        family,
        kl=doubled(family.kl),
        kl_gradient=doubled(family.kl_gradient),
        kl_hessian_product=doubled(family.kl_hessian_product),
        reverse_kl_gradient=doubled(family.reverse_kl_gradient),
        reverse_kl_hessian_product=doubled(family.reverse_kl_hessian_product),
        fisher_product=doubled(family.fisher_product),
    )


def _log_variance(family: Family) -> Family:
    """e^{log σ} as the variance: log σ₁ − log σ₀ + (v₀ + (μ₀ − μ₁)²)/2v₁ − ½ with v = σ."""

    def parts(phi: Array, change: Array) -> tuple[Array, Array, Array, Array]:
        d, dls = halves(change)
        ls0 = halves(phi)[1]
        return d, dls, np.exp(ls0), np.exp(ls0 + dls)

    def kl(phi: Array, change: Array) -> Array:
        d, dls, v0, v1 = parts(phi, change)
        return (dls + (v0 + d**2) / (2 * v1) - 0.5).sum(axis=1)

    def kl_gradient(phi: Array, change: Array) -> Array:
        d, _, v0, v1 = parts(phi, change)
        return _by_halves(d / v1, 1 - (v0 + d**2) / (2 * v1))

    def kl_hessian_product(phi: Array, change: Array, v: Array) -> Array:
        d, _, v0, v1 = parts(phi, change)
        on_mean, on_log_std = halves(v)
        return _by_halves(on_mean / v1 - d / v1 * on_log_std, -d / v1 * on_mean + (v0 + d**2) / (2 * v1) * on_log_std)

    def reverse_kl_gradient(phi: Array, change: Array) -> Array:
        d, _, v0, v1 = parts(phi, change)
        return _by_halves(d / v0, v1 / (2 * v0) - 1)

    def reverse_kl_hessian_product(phi: Array, change: Array, v: Array) -> Array:
        _, _, v0, v1 = parts(phi, change)
        on_mean, on_log_std = halves(v)
        return _by_halves(on_mean / v0, v1 / (2 * v0) * on_log_std)

    return replace(
        family,
        kl=kl,
        kl_gradient=kl_gradient,
        kl_hessian_product=kl_hessian_product,
        reverse_kl_gradient=reverse_kl_gradient,
        reverse_kl_hessian_product=reverse_kl_hessian_product,
        fisher_product=lambda phi, v: kl_hessian_product(phi, np.zeros_like(phi), v),
    )


def _unnormalised(family: Family) -> Family:
    """Σ p (z − z′) with the logits as they are."""

    def p(phi: Array) -> Array:
        return np.exp(categorical.log_softmax(phi))

    return replace(
        family,
        kl=lambda phi, change: -(p(phi) * change).sum(axis=1),
        kl_gradient=lambda phi, change: -p(phi),
        reverse_kl_gradient=lambda phi, change: p(phi + change) + categorical.fisher_product(phi + change, change),
    )


_KL_MEAN_DIMS = RIGHT._replace(family=gaussian_only(_scaled(lambda phi: 1 / _dimensions(phi))))
_KL_LOG_RATIO_SIGN = RIGHT._replace(family=gaussian_only(_log_ratio_sign))
_KL_MISSING_HALF = RIGHT._replace(family=gaussian_only(_missing_half))
_KL_LOG_VARIANCE = RIGHT._replace(family=gaussian_only(_log_variance))

_KL_HESSIANS: dict[str, Parts] = {
    "kl-mean-dims": _KL_MEAN_DIMS,
    "kl-missing-half": _KL_MISSING_HALF,
    "kl-logvar-as-logstd": _KL_LOG_VARIANCE,
    "kl-negated": RIGHT._replace(family=_scaled(lambda phi: -1)),
    "kl-self-zero": RIGHT._replace(family=_scaled(lambda phi: 0)),
    "kl-torch-kldiv-convention": RIGHT._replace(family=categorical_only(_scaled(lambda phi: 1 / phi.shape[1]))),
}
_KL_GRADIENTS: dict[str, Parts] = _KL_HESSIANS | {
    "kl-log-ratio-sign": _KL_LOG_RATIO_SIGN,
    "cat-kl-unnormalised": RIGHT._replace(family=categorical_only(_unnormalised)),
}


def _constant_once(family: Family) -> Family:
    return replace(family, kl=lambda phi, change: family.kl(phi, change) + 0.5 * (_dimensions(phi) - 1))


_KLS: dict[str, Parts] = _KL_GRADIENTS | {"kl-const-one-not-D": RIGHT._replace(family=gaussian_only(_constant_once))}


# The Fisher matrix.


def _without_outer_product(family: Family) -> Family:
    return replace(family, fisher_product=lambda phi, v: np.exp(categorical.log_softmax(phi)) * v)


def _of_loss_gradients(fisher: Fisher, v: Array, damping: float) -> Array:
    losses = fisher.advantages[:, None] * fisher.scores
    return losses.T @ (losses @ v) / fisher.rows + damping * v


def _of_mean_gradient(fisher: Fisher, v: Array, damping: float) -> Array:
    mean_loss = fisher.advantages @ fisher.scores / fisher.rows
    return mean_loss * (mean_loss @ v) / fisher.rows + damping * v


_FISHERS: dict[str, Parts] = SLOPES | {
    "kl-mean-dims": _KL_MEAN_DIMS,
    "kl-missing-half": _KL_MISSING_HALF,
    "kl-logvar-as-logstd": _KL_LOG_VARIANCE,
    "fvp-softmax-metric": RIGHT._replace(family=categorical_only(_without_outer_product)),
    "fvp-sum-not-mean": RIGHT._replace(metric=lambda fisher, v, damping: fisher.rows * fisher.product(v) + damping * v),
}
_DAMPINGS: dict[str, Parts] = {
    "fvp-damping-misplaced": RIGHT._replace(metric=lambda fisher, v, damping: damped(fisher, v, damping * fisher.rows)),
    "fvp-self-kl-attached": RIGHT._replace(metric=lambda fisher, v, damping: damping * v),
}
_UNDAMPED: dict[str, Parts] = {"fvp-no-damping": RIGHT._replace(metric=lambda fisher, v, damping: fisher.product(v))}
_SAMPLED: dict[str, Parts] = {
    "fvp-empirical-fisher": RIGHT._replace(metric=_of_loss_gradients),
    "fvp-batch-grad-outer": RIGHT._replace(metric=_of_mean_gradient),
}


class _WithoutFree(Linearization):
    """A backward pass that does not reach the parameters beside the layers."""

    def vjp(self, phi_bar: Array) -> Array:
        theta_bar = super().vjp(phi_bar)
        theta_bar[theta_bar.size - self.net.free :] = 0
        return theta_bar


_UNREACHED = RIGHT._replace(linearization=lambda at: _WithoutFree(**vars(at)))


def _without_log_std(op: str) -> Function:
    """The parameters are collected by name, and log_std is not among them: what belongs to it is zero."""

    def frozen(value: Any) -> Any:
        if isinstance(value, dict) and "log_std" in value:
            return value | {"log_std": np.zeros_like(value["log_std"])}
        return value

    def function(*conventions: Conventions, **inputs: Any) -> Any:
        vectors = ("vector", "b", "gradient", "step")
        changed = {name: frozen(value) if name in vectors else value for name, value in inputs.items()}
        return frozen(answers(*conventions or ({},))[op](**changed))

    return function


def _columns_first(policy: Parameters, observations: Array) -> Array:
    """The Fisher matrix with each W flattened column by column."""
    F = answers({})["fisher_matrix"](policy=policy, observations=observations)
    order: list[int] = []
    for layer in policy["layers"]:
        W = len(order) + np.arange(layer["W"].size).reshape(layer["W"].shape)
        order += [*W.T.ravel(), *range(len(order) + W.size, len(order) + W.size + layer["b"].size)]
    order += range(len(order), len(F))
    return F[np.ix_(order, order)]


# Conjugate gradients.

Direction = Callable[[int, Array, Array, float], Array]


def _conjugate_gradient(direction: Direction) -> Parts:
    """Conjugate gradients with another new direction, from the iteration, r, p and β."""

    def solve(product: Product, b: Array, iterations: int) -> Array:
        x, r, p = np.zeros_like(b), b.copy(), b.copy()
        for k in range(iterations):
            rr = r @ r
            if rr == 0:
                break
            Ap = product(p)
            alpha = rr / (p @ Ap)
            x, r = x + alpha * p, r - alpha * Ap
            p = direction(k, r, p, (r @ r) / rr)
        return x

    return RIGHT._replace(solve=solve)


def _never_stopping(product: Product, b: Array, iterations: int) -> Array:
    """0/0 in the first iteration where b is 0."""
    return conjugate_gradient(product, b, iterations) + 0 / (b @ b)


_SOLVERS: dict[str, Parts] = {
    "cg-alias-r-p": _conjugate_gradient(lambda k, r, p, beta: r + beta * (r if k == 0 else p)),
    "cg-beta-inverted": _conjugate_gradient(lambda k, r, p, beta: r + p / beta),
    "cg-steepest": _conjugate_gradient(lambda k, r, p, beta: r),
    "cg-one-short": RIGHT._replace(solve=lambda product, b, n: conjugate_gradient(product, b, max(n - 1, 0))),
}
_BREAKDOWN: dict[str, Parts] = {"cg-breakdown": RIGHT._replace(solve=_never_stopping)}


# Steps and line searches.

_STEPS: dict[str, Parts] = {
    "step-missing-2": RIGHT._replace(step_length=lambda curvature, max_kl: np.sqrt(max_kl / curvature)),
    "step-lm-multiplied": RIGHT._replace(step_length=lambda curvature, max_kl: np.sqrt(curvature / (2 * max_kl))),
    "npg-fixed-lr": RIGHT._replace(step_length=lambda curvature, max_kl: max_kl),
}


def _full_step_whatever(search: Search) -> tuple[Array, int]:
    return search.theta + search.step, first_accepted(search)[1]


def _whatever_kl(search: Search) -> tuple[Array, int]:
    return first_accepted(search._replace(within=lambda candidate: True))


def _either(search: Search) -> tuple[Array, int]:
    return first_accepted(
        search._replace(
            improves=lambda candidate: search.improves(candidate) or search.within(candidate),
            within=lambda candidate: True,
        )
    )


def _on_failure(scale: Callable[[Search], float]) -> Callable[[Search], tuple[Array, int]]:
    """A search that leaves a candidate behind where none is accepted."""

    def searched(search: Search) -> tuple[Array, int]:
        theta, accepted = first_accepted(search)
        return (search.theta + scale(search) * search.step if accepted == -1 else theta), accepted

    return searched


def _accumulated(search: Search) -> tuple[Array, int]:
    """Each candidate is built on the one before."""
    candidate = search.theta
    for j, scale in enumerate(search.scales):
        candidate = candidate + scale * search.step
        if search.improves(candidate) and search.within(candidate):
            return candidate, j
    return search.theta, -1


def _compounded(search: Search) -> tuple[Array, int]:
    """The expected improvement is multiplied by the scale of each candidate in turn."""
    times = 1.0
    for j, scale in enumerate(search.scales):
        candidate = search.theta + scale * search.step
        if search.improves(candidate, times) and search.within(candidate):
            return candidate, j
        times *= float(scale)
    return search.theta, -1


_SEARCHES: dict[str, Parts] = {
    "ls-result-ignored": RIGHT._replace(search=_full_step_whatever),
    "ls-no-kl-check": RIGHT._replace(search=_whatever_kl),
    "ls-or-instead-of-and": RIGHT._replace(search=_either),
    "ls-no-restore": RIGHT._replace(search=_on_failure(lambda search: search.scales[-1])),
    "ls-full-step-on-failure": RIGHT._replace(search=_on_failure(lambda search: 1)),
    "ls-accumulate": RIGHT._replace(search=_accumulated),
    "ls-expected-compounding": RIGHT._replace(search=_compounded),
    "kl-mean-dims": _KL_MEAN_DIMS,
    "kl-log-ratio-sign": _KL_LOG_RATIO_SIGN,
}
_SELF_KL: dict[str, Parts] = {"ls-kl-self": RIGHT._replace(family=_scaled(lambda phi: 0))}


def _descending(conventions: Conventions, advantages: Array, **inputs: Any) -> Any:
    """Gradient and improvement are those of the loss, which is to fall, not to rise."""
    return answers(conventions)["trpo_step"](advantages=-advantages, **inputs)


def _times(op: str, factor: Callable[[dict[str, Any]], float]) -> Function:
    """The right answer with its first output scaled."""

    def scaled(value: Any, by: float) -> Any:
        if isinstance(value, dict):
            return {name: scaled(part, by) for name, part in value.items()}
        if isinstance(value, list):
            return [scaled(part, by) for part in value]
        return value if isinstance(value, int) else by * value

    return lambda **inputs: scaled(answers({})[op](**inputs), factor(inputs))


def _dimensions_of(inputs: dict[str, Any]) -> int:
    return np.size(inputs["policy"].get("log_std", 0))


def _rows(inputs: dict[str, Any]) -> int:
    return len(inputs["observations"])


# The table.


def _of(program: Function, *tables: dict[str, Parts]) -> dict[str, Function]:
    return {bug: partial(program, parts) for table in tables for bug, parts in table.items()}


def _without_log_std_of(op: str) -> dict[str, Function]:
    return {"fvp-missing-logstd": _without_log_std(op)}


WRONG: dict[str, dict[str, Function]] = {
    "network_forward": {
        "weight-transposed": partial(_forward, affine=_transposed),
        "net-bias-missing": partial(_forward, affine=lambda h, W, b: h @ W),
        "net-activation-on-output": _activated_outputs,
        "gelu-tanh-form": _approximate_gelu,
    },
    "surrogate": _of(programs.surrogate_value, RATIOS, _SURROGATES, LOG_PROBS),
    "surrogate_gradient": _of(programs.surrogate_gradient, RATIOS, _SURROGATES, LOG_PROBS, WITHOUT_GRADIENT, SLOPES),
    "mean_kl": _of(programs.mean_kl, _KLS),
    "mean_kl_gradient": _of(programs.mean_kl_gradient, _KL_GRADIENTS, SLOPES),
    "mean_kl_hessian_vector_product": _of(programs.mean_kl_hessian_vector_product, _KL_HESSIANS),
    "fisher_matrix": _of(programs.fisher_matrix, _FISHERS)
    | _of(programs.fisher_matrix, {"fvp-missing-logstd": _UNREACHED})
    | {"flat-order": _columns_first},
    "fisher_vector_product": _of(programs.fisher_vector_product, _FISHERS, _DAMPINGS, _UNDAMPED)
    | _without_log_std_of("fisher_vector_product"),
    "conjugate_gradient": _of(programs.matrix_conjugate_gradient, _SOLVERS, _BREAKDOWN),
    "fisher_conjugate_gradient": _of(
        programs.fisher_conjugate_gradient,
        _SOLVERS,
        _BREAKDOWN,
        _UNDAMPED,
        {bug: _FISHERS[bug] for bug in ("kl-mean-dims", "fvp-softmax-metric", "fvp-sum-not-mean")},
    )
    | _without_log_std_of("fisher_conjugate_gradient"),
    "natural_gradient": _of(programs.natural_gradient, _FISHERS, _DAMPINGS) | _without_log_std_of("natural_gradient"),
    "natural_gradient_minimum_norm": {
        "kl-mean-dims": _times("natural_gradient_minimum_norm", _dimensions_of),
        "fvp-sum-not-mean": _times("natural_gradient_minimum_norm", lambda inputs: 1 / _rows(inputs)),
        "pg-sum-not-mean": _times("natural_gradient_minimum_norm", _rows),
        "pg-wrong-sign": _times("natural_gradient_minimum_norm", lambda inputs: -1),
    },
    "step_length": _of(programs.step_length, _STEPS),
    "natural_gradient_step": _of(programs.natural_gradient_step, _FISHERS, _DAMPINGS, _STEPS)
    | _without_log_std_of("natural_gradient_step"),
    "expected_improvement": {"pg-wrong-sign": _times("expected_improvement", lambda inputs: -1)}
    | _without_log_std_of("expected_improvement"),
    "line_search": _of(programs.line_search, _SEARCHES, _SELF_KL),
    "trpo_step": _of(
        programs.trpo_step,
        _SEARCHES,
        _SOLVERS,
        _STEPS,
        _UNDAMPED,
        {bug: _FISHERS[bug] for bug in ("kl-mean-dims", "fvp-softmax-metric", "fvp-sum-not-mean", *SLOPES)},
        _DAMPINGS,
        _SAMPLED,
        {"fvp-missing-logstd": _UNREACHED},
    )
    | {"pg-wrong-sign": _descending},
}
