"""Laws of the Kullback–Leibler divergence, of distributions and of policies."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.families import (
    ALL,
    CATEGORICAL,
    DISCRETE,
    FACTORED,
    GAUSSIAN,
    POLICIES,
    average,
    change,
    dimensions,
    discrete_actions,
    log_prob,
    pair,
)
from refpg.conformance.laws.law import Gap, at_least, equal, law
from refpg.conformance.laws.ordinary import flat
from refpg.conformance.laws.parameters import moved, phi_of
from refpg.conformance.laws.quadrature import integral
from refpg.conformance.laws.rounding import Rounded, exp, log, rounded, stack, total


def _kl(f: Answers, family: str, p: Any, q: Any, shared: Any) -> Rounded:
    answer: Rounded = f(f"kl_{family}", **pair(p, q, shared))
    return answer


@law(
    source="[TRPO (11)]",
    ops=("kl_{family}",),
    draw="distributions",
    variants=ALL,
    blind="everything that vanishes when the two are equal: its sign, its direction, its factors",
)
def kl_of_itself_is_zero(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """KL(p ‖ p) = 0."""
    yield equal(_kl(f, family, p, p, shared), 0.0)


@law(
    source="[TRPO (11)]",
    ops=("kl_{family}",),
    draw="distributions",
    variants=ALL,
    blind="its direction and positive factors",
)
def kl_is_not_negative(f: Answers, family: str, p: Any, q: Any, shared: Any) -> Iterator[Gap]:
    """KL(p ‖ q) ≥ 0, Gibbs' inequality."""
    yield at_least(_kl(f, family, p, q, shared), 0.0)


@law(
    source="[TRPO (11)]",
    ops=("kl_{family}", "log_prob_{family}"),
    draw="distributions",
    variants=ALL,
    blind="a wrong distribution that log π and the KL share",
)
def kl_is_the_mean_log_ratio(f: Answers, family: str, p: Any, q: Any, shared: Any) -> Iterator[Gap]:
    """KL(p ‖ q) = E_p[log p(a) − log q(a)], old before new: by enumeration, or at μ ± σ, exact for a parabola."""
    parts = []
    for actions, weight in average(f, family, p, shared, 3):
        log_p, log_q = (log_prob(f, family, one, shared, actions) for one in (p, q))
        parts.append(weight * (log_p - log_q))
    yield equal(_kl(f, family, p, q, shared), total(parts))


@law(
    source="[TRPO (11)]",
    ops=("kl_{family}",),
    draw="distributions",
    variants=FACTORED,
    blind="a mistake that is made in every dimension alike",
)
def kl_adds_over_dimensions(f: Answers, family: str, p: Any, q: Any, shared: Any) -> Iterator[Gap]:
    """Independent dimensions: KL is the sum of the KL of each dimension alone."""
    old, new = dimensions(family, p, shared), dimensions(family, q, shared)
    parts = [_kl(f, family, a, b, common) for (a, common), (b, _) in zip(old, new, strict=True)]
    yield equal(_kl(f, family, p, q, shared), total(parts))


@law(
    source="[TRPO (11)]",
    ops=("kl_{family}",),
    draw="distributions",
    variants=CATEGORICAL,
    blind="what depends on differences of logits alone, however wrongly",
)
def kl_ignores_a_shift_of_the_logits(
    f: Answers, family: str, p: Any, q: Any, shared: Any, shift: Any
) -> Iterator[Gap]:
    """KL is unchanged if constants are added to the logits of a row, another one on either side."""
    p2 = change(p, lambda logits: logits + shift[:, None])
    q2 = change(q, lambda logits: logits - 2 * shift[:, None])
    yield equal(_kl(f, family, p, q, shared), _kl(f, family, p2, q2, shared))


@law(
    source="[TRPO (11)]",
    ops=("kl_{family}",),
    draw="distributions",
    variants=GAUSSIAN,
    blind="what depends on (μ − μ')/σ and σ/σ' alone, however wrongly",
)
def gaussian_kl_has_no_origin_and_no_unit(
    f: Answers, family: str, p: Any, q: Any, shared: Any, shift: Any
) -> Iterator[Gap]:
    """KL is unchanged if both are moved by the same amount, and if both are stretched by the same factor."""
    kl = _kl(f, family, p, q, shared)
    by = shift[:, None]
    old, new = ({**one, "mean": one["mean"] + by} for one in (p, q))
    yield equal(kl, _kl(f, family, old, new, shared))
    c = by / 8
    old, new = ({"mean": one["mean"] * exp(c), "log_std": one["log_std"] + c} for one in (p, q))
    yield equal(kl, _kl(f, family, old, new, shared))


@law(
    source="[TRPO (11)]",
    ops=("kl_categorical", "log_prob_categorical"),
    draw="distributions",
    variants=("categorical",),
    blind="mistakes that are linear in the second distribution's logits",
)
def kl_obeys_the_three_point_identity(f: Answers, family: str, p: Any, q: Any, r: Any) -> Iterator[Gap]:
    """KL(p ‖ r) = KL(p ‖ q) + KL(q ‖ r) + Σ (p − q)(z_q − z_r): KL is the Bregman divergence of log Σ eᶻ."""
    rows, size = p["logits"].shape
    probabilities = [
        stack([exp(log_prob(f, family, one, {}, np.full(rows, a))) for a in range(size)], axis=1) for one in (p, q)
    ]
    crossing = ((probabilities[0] - probabilities[1]) * (q["logits"] - r["logits"])).sum(axis=1)
    direct = _kl(f, family, p, r, {})
    yield equal(direct, _kl(f, family, p, q, {}) + _kl(f, family, q, r, {}) + crossing)


@law(
    source="[PPO (9)]",
    ops=("kl_{family}", "entropy_{family}"),
    draw="distributions",
    variants=DISCRETE,
    blind="a wrong distribution that the entropy and the KL share",
)
def kl_to_the_uniform_is_missing_entropy(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """KL(p ‖ uniform) = log of the number of actions − H(p)."""
    numbers = np.sum([counts for _, counts in discrete_actions(family, p, shared)], axis=0)
    uniform = change(p, lambda logits: 0 * logits)
    yield equal(_kl(f, family, p, uniform, shared), log(numbers) - f(f"entropy_{family}", **p, **shared))


@law(
    source="[TRPO (12)]",
    ops=("mean_kl_{family}", "kl_{family}"),
    draw="distributions",
    variants=ALL,
    blind="what is wrong with the KL of a row",
)
def mean_kl_is_the_mean_over_rows(f: Answers, family: str, p: Any, q: Any, shared: Any) -> Iterator[Gap]:
    """The mean KL of distributions is the mean of the KL of the rows."""
    yield equal(f(f"mean_kl_{family}", **pair(p, q, shared)), _kl(f, family, p, q, shared).mean())


def _mean_kl(f: Answers, old: Any, new: Any, observations: Any) -> Rounded:
    answer: Rounded = f("mean_kl", old_policy=old, new_policy=new, observations=observations)
    return answer


@law(
    source="[TRPO (12)]",
    ops=("mean_kl", "network_forward", "kl_{family}"),
    draw="policies",
    variants=POLICIES,
    blind="what is wrong with the network or with the KL of a row",
)
def mean_kl_of_policies_is_that_of_their_distributions(
    f: Answers, family: str, policy: Any, other: Any, observations: Any
) -> Iterator[Gap]:
    """The mean KL of two policies is the mean over observations of the KL of their distributions, in the declared
    direction."""
    old, new = (phi_of(f, one, observations) for one in (policy, other))
    if f.conventions["kl.direction"] == "new_old":
        old, new = new, old
    yield equal(_mean_kl(f, policy, other, observations), _kl(f, family, old, new, {}).mean())


@law(
    source="[TRPO (12)]",
    ops=("mean_kl",),
    draw="policies",
    variants=POLICIES,
    blind="the direction and positive factors",
)
def mean_kl_is_zero_at_the_old_policy_and_nowhere_negative(
    f: Answers, policy: Any, other: Any, observations: Any
) -> Iterator[Gap]:
    """Mean KL(θ, θ) = 0 and mean KL(θ, θ') ≥ 0."""
    yield equal(_mean_kl(f, policy, policy, observations), 0.0)
    yield at_least(_mean_kl(f, policy, other, observations), 0.0)


@law(
    source="[TRPO (12)]",
    ops=("mean_kl_gradient",),
    draw="policies",
    variants=POLICIES,
    blind="all that vanishes at the old policy",
)
def mean_kl_gradient_is_zero_at_the_old_policy(f: Answers, policy: Any, observations: Any) -> Iterator[Gap]:
    """∂KL(θ, θ')/∂θ' = 0 at θ' = θ."""
    gradient = f("mean_kl_gradient", old_policy=policy, new_policy=policy, observations=observations)
    yield equal(flat(gradient), 0.0)


@law(
    source="[TRPO (12)]",
    ops=("mean_kl", "mean_kl_gradient"),
    draw="policies",
    variants=POLICIES,
    blind="a KL that is wrong together with its gradient",
)
def mean_kl_gradient_is_the_derivative_of_mean_kl(
    f: Answers, policy: Any, other: Any, change: Any, observations: Any
) -> Iterator[Gap]:
    """KL(θ, θ' + v) − KL(θ, θ') = ∫ gradient · v along the segment, away from θ."""

    def slope(t: float) -> Rounded:
        gradient = f(
            "mean_kl_gradient", old_policy=policy, new_policy=moved(other, change, t), observations=observations
        )
        return (flat(gradient) * flat(change)).sum()

    rise = _mean_kl(f, policy, moved(other, change, 1.0), observations) - _mean_kl(f, policy, other, observations)
    line, truncation = integral(slope)
    yield equal(rise, line, truncation)


@law(
    source="[TRPO (57)]",
    ops=("mean_kl_gradient", "mean_kl_hessian_vector_product"),
    draw="policies",
    variants=POLICIES,
    blind="a gradient that is wrong together with its derivative",
)
def hessian_of_mean_kl_is_the_derivative_of_its_gradient(
    f: Answers, policy: Any, other: Any, change: Any, observations: Any
) -> Iterator[Gap]:
    """∇KL(θ, θ' + v) − ∇KL(θ, θ') = ∫ Hessian · v along the segment, away from θ."""

    def slope(t: float) -> Rounded:
        at = moved(other, change, t)
        product = f(
            "mean_kl_hessian_vector_product",
            old_policy=policy,
            new_policy=at,
            observations=observations,
            vector=change,
        )
        return flat(product)

    def gradient(t: float) -> Rounded:
        at = moved(other, change, t)
        return flat(f("mean_kl_gradient", old_policy=policy, new_policy=at, observations=observations))

    line, truncation = integral(slope)
    yield equal(gradient(1.0) - gradient(0.0), line, truncation)


@law(
    source="[TRPO (57)]",
    ops=("mean_kl_hessian_vector_product",),
    draw="policies",
    variants=POLICIES,
    blind="any wrong matrix that is symmetric",
)
def hessian_of_mean_kl_is_symmetric(
    f: Answers, policy: Any, other: Any, vector: Any, other_vector: Any, observations: Any
) -> Iterator[Gap]:
    """uᵀ(Hv) = vᵀ(Hu) for the Hessian of the mean KL, at θ and away from it."""
    for new in (policy, other):
        Hv, Hu = (
            flat(
                f(
                    "mean_kl_hessian_vector_product",
                    old_policy=policy,
                    new_policy=new,
                    observations=observations,
                    vector=one,
                )
            )
            for one in (vector, other_vector)
        )
        yield equal((flat(other_vector) * Hv).sum(), (flat(vector) * Hu).sum())


@law(
    source="[TRPO App. C.1]",
    ops=("mean_kl_hessian_vector_product", "fisher_vector_product"),
    draw="policies",
    variants=POLICIES,
    blind="a factor that both products share",
)
def hessian_of_mean_kl_at_the_old_policy_is_fisher(
    f: Answers, policy: Any, vector: Any, observations: Any
) -> Iterator[Gap]:
    """At θ' = θ the Hessian of the mean KL, of either direction, is the Fisher matrix."""
    hessian = f(
        "mean_kl_hessian_vector_product",
        old_policy=policy,
        new_policy=policy,
        observations=observations,
        vector=vector,
    )
    fisher = f("fisher_vector_product", policy=policy, observations=observations, vector=vector, damping=0.0)
    yield equal(flat(hessian), flat(fisher))


@law(
    source="[TRPO App. C]",
    ops=("mean_kl", "fisher_vector_product"),
    draw="policies",
    variants=POLICIES,
    blind="a factor that the KL and the Fisher product share; mistakes of the KL from the fourth order on",
)
def kl_is_half_v_fisher_v(f: Answers, policy: Any, change: Any, observations: Any) -> Iterator[Gap]:
    """KL(θ, θ + tv) + KL(θ, θ − tv) = t² vᵀFv + O(t⁴), extrapolated to t → 0 by Richardson."""

    def ratio(t: float) -> Rounded:
        both = [_mean_kl(f, policy, moved(policy, change, sign * t), observations) for sign in (1.0, -1.0)]
        return (both[0] + both[1]) / t**2

    column = [ratio(0.5**i) for i in range(1, 6)]
    last: Any = column
    for k in range(1, len(column)):
        last, column = column, [
            (4**k * fine - coarse) / (4**k - 1) for coarse, fine in pairwise(column)
        ]
    product = f("fisher_vector_product", policy=policy, observations=observations, vector=change, damping=0.0)
    truncation = np.abs(column[0].value - last[-1].value)
    yield equal(column[0], (flat(change) * flat(product)).sum(), truncation)


@law(
    source="[Blog-KL]",
    ops=("kl_estimators", "kl_categorical", "log_prob_categorical"),
    draw="distributions",
    variants=("categorical",),
    blind="k2, which is biased; what has the right mean under the old policy",
)
def kl_estimators_are_unbiased(f: Answers, family: str, p: Any, q: Any) -> Iterator[Gap]:
    """Σ_a p(a) k1(a) = Σ_a p(a) k3(a) = KL(p ‖ q): actions drawn from the old policy."""
    means: dict[str, list[Rounded]] = {"k1": [], "k3": []}
    for actions, weight in average(f, family, p, {}, 3):
        old, new = (log_prob(f, family, one, {}, actions) for one in (p, q))
        estimates = f("kl_estimators", old_log_prob=old, new_log_prob=new)
        for name, parts in means.items():
            parts.append(weight * estimates[name])
    kl = _kl(f, family, p, q, {})
    for parts in means.values():
        yield equal(total(parts), kl)


@law(
    source="[Blog-KL]",
    ops=("kl_estimators", "ratio"),
    draw="samples",
    blind="a ratio that is wrong in both ops",
)
def kl_estimators_are_functions_of_the_ratio(
    f: Answers, old_log_prob: Any, new_log_prob: Any
) -> Iterator[Gap]:
    """k1 = −log r, k2 = ½ k1², k3 = r − 1 − log r ≥ 0, of the ratio r that the objective uses."""
    both = {"old_log_prob": old_log_prob, "new_log_prob": new_log_prob}
    k, r = f("kl_estimators", **both), f("ratio", **both)
    yield equal(k["k1"], -log(r))
    yield equal(k["k2"], 0.5 * log(r) * log(r))
    yield equal(k["k3"], r - 1 - log(r))
    yield at_least(k["k3"], 0.0)


@law(
    source="[Blog-KL]",
    ops=("approximate_kl", "kl_estimators"),
    draw="samples",
    blind="an estimator that is wrong in both ops",
)
def approximate_kl_is_the_mean_of_its_estimator(
    f: Answers, old_log_prob: Any, new_log_prob: Any
) -> Iterator[Gap]:
    """The approximate KL is the mean over rows of the estimator declared."""
    both = {"old_log_prob": old_log_prob, "new_log_prob": new_log_prob}
    name = f.conventions["approximate_kl.estimator"]
    yield equal(f("approximate_kl", **both), f("kl_estimators", **both)[name].mean())


@law(
    source="[Blog-KL]",
    ops=("approximate_kl",),
    draw="samples",
    blind="factors, and k1 with k2 or k3 mistaken for it near zero",
)
def approximate_kl_vanishes_with_the_change(f: Answers, old_log_prob: Any, shift: float) -> Iterator[Gap]:
    """The approximate KL is 0 if nothing changed; if all log-probabilities fall by c it is c, ½c² or e⁻ᶜ − 1 + c."""
    yield equal(f("approximate_kl", old_log_prob=old_log_prob, new_log_prob=old_log_prob), 0.0)
    c = shift / 8
    exact = {"k1": c, "k2": c * c / 2, "k3": math.expm1(-c) + c}[f.conventions["approximate_kl.estimator"]]
    yield equal(f("approximate_kl", old_log_prob=old_log_prob, new_log_prob=old_log_prob - c), rounded(exact))
