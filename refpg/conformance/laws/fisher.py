"""Laws of the Fisher matrix, of distributions and of policies."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.families import ALL, CATEGORICAL, POLICIES, average, change, score
from refpg.conformance.laws.law import Gap, at_least, equal, law
from refpg.conformance.laws.ordinary import flat, shaped
from refpg.conformance.laws.parameters import phi_of
from refpg.conformance.laws.rounding import Rounded, join, rounded, total


def _product(f: Answers, policy: Any, observations: Any, vector: Any, damping: Any = 0.0) -> Rounded:
    """(F + damping I) v as one vector."""
    shape = vector if isinstance(vector, dict) else shaped(policy, vector)
    return flat(
        f("fisher_vector_product", policy=policy, observations=observations, vector=shape, damping=damping)
    )


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_{family}", "score_{family}", "log_prob_{family}"),
    draw="distributions",
    variants=ALL,
    blind="the sign of the score; a score that is wrong in both",
)
def fisher_is_mean_score_outer_product(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """M = E[score scoreᵀ] over all actions, or at μ, μ ± √3 σ in every dimension, exact to degree five."""
    first = change(p, lambda value: value[:, :2]) if family.endswith("gaussian") else p
    parts = []
    for actions, weight in average(f, family, first, shared, 5):
        s = score(f, family, first, shared, actions)
        parts.append(weight[:, None, None] * (s[:, :, None] * s[:, None, :]))
    yield equal(f(f"fisher_{family}", **first, **shared), total(parts))


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_{family}",),
    draw="distributions",
    variants=ALL,
    blind="any positive semi-definite matrix",
)
def fisher_of_a_distribution_is_symmetric_and_not_negative(
    f: Answers, family: str, p: Any, q: Any, shared: Any
) -> Iterator[Gap]:
    """M = Mᵀ and xᵀMx ≥ 0 for any x."""
    M = f(f"fisher_{family}", **p, **shared)
    yield equal(M, Rounded(np.swapaxes(M.value, 1, 2), np.swapaxes(M.error, 1, 2)))
    x = join(list(q.values()), axis=1)
    yield at_least((x * (M @ x[:, :, None])[:, :, 0]).sum(axis=1), 0.0)


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_{family}",),
    draw="distributions",
    variants=CATEGORICAL,
    blind="what is orthogonal to the vector of ones, such as a factor",
)
def fisher_of_logits_is_singular_along_ones(f: Answers, family: str, p: Any, shared: Any) -> Iterator[Gap]:
    """M 1 = 0: a shift of all logits is no change of the distribution."""
    yield equal(f(f"fisher_{family}", **p, **shared).sum(axis=2), 0.0)


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_matrix", "surrogate_gradient", "network_forward", "log_prob_{family}"),
    draw="policies",
    variants=POLICIES,
    blind="a gradient of log π that is wrong in both",
)
def fisher_matrix_is_mean_score_outer_product(
    f: Answers, family: str, policy: Any, observations: Any
) -> Iterator[Gap]:
    """F of one observation is E_π[∇log π ∇log πᵀ], each ∇log π asked for as a surrogate gradient at ratio 1."""
    one = observations[:1]
    phi = phi_of(f, policy, one)
    parts = []
    for actions, weight in average(f, family, phi, {}, 5):
        gradient = f(
            "surrogate_gradient",
            policy=policy,
            observations=one,
            actions=actions,
            advantages=np.ones(1),
            old_log_prob=f(f"log_prob_{family}", **phi, actions=actions),
        )
        g = flat(gradient)
        parts.append(weight[0] * (g[:, None] * g[None, :]))
    yield equal(f("fisher_matrix", policy=policy, observations=one), total(parts))


@law(
    source="[TRPO (12)]",
    ops=("fisher_matrix", "fisher_vector_product"),
    draw="policies",
    variants=POLICIES,
    blind="the Fisher matrix of a single row",
)
def fisher_is_a_mean_over_rows(f: Answers, policy: Any, vector: Any, observations: Any) -> Iterator[Gap]:
    """F, and F v, of a batch are the means of those of its rows alone."""
    rows = [observations[n : n + 1] for n in range(len(observations))]
    matrices = [f("fisher_matrix", policy=policy, observations=x) for x in rows]
    yield equal(f("fisher_matrix", policy=policy, observations=observations), total(matrices) / len(rows))
    products = [_product(f, policy, x, vector) for x in rows]
    yield equal(_product(f, policy, observations, vector), total(products) / len(rows))


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_matrix", "fisher_vector_product"),
    draw="policies",
    variants=POLICIES,
    blind="what the matrix and the product have wrong in common",
)
def fisher_product_is_the_matrix_times_the_vector(
    f: Answers, policy: Any, vector: Any, observations: Any
) -> Iterator[Gap]:
    """The product without damping is F v, parameters in the order of θ."""
    F = f("fisher_matrix", policy=policy, observations=observations)
    yield equal(_product(f, policy, observations, vector), F @ flat(vector))


@law(
    source="[TRPO App. C]",
    ops=("fisher_vector_product",),
    draw="policies",
    variants=POLICIES,
    blind="the matrix itself",
)
def damping_adds_a_multiple_of_the_vector(
    f: Answers, policy: Any, vector: Any, observations: Any, damping: float
) -> Iterator[Gap]:
    """(F + λI)v − Fv = λv, whatever the number of rows or dimensions."""
    damped, free = (_product(f, policy, observations, vector, by) for by in (damping, 0.0))
    yield equal(damped - free, damping * flat(vector))


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_vector_product",),
    draw="policies",
    variants=POLICIES,
    blind="any wrong matrix",
)
def fisher_product_is_linear(
    f: Answers, policy: Any, vector: Any, other_vector: Any, observations: Any, factor: float
) -> Iterator[Gap]:
    """F(u + cv) = Fu + cFv; a product asked for twice is the same, so no row is drawn anew."""
    u, v = flat(other_vector), flat(vector)
    Fu, Fv = (_product(f, policy, observations, one) for one in (other_vector, vector))
    yield equal(_product(f, policy, observations, u + factor * v), Fu + factor * Fv)


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_vector_product",),
    draw="policies",
    variants=POLICIES,
    blind="any wrong matrix that is symmetric and positive semi-definite",
)
def fisher_product_is_symmetric_and_not_negative(
    f: Answers, policy: Any, vector: Any, other_vector: Any, observations: Any
) -> Iterator[Gap]:
    """uᵀFv = vᵀFu and vᵀFv ≥ 0."""
    u, v = flat(other_vector), flat(vector)
    Fu, Fv = (_product(f, policy, observations, one) for one in (other_vector, vector))
    yield equal((u * Fv).sum(), (v * Fu).sum())
    yield at_least((v * Fv).sum(), 0.0)


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_matrix",),
    draw="policies",
    variants=POLICIES,
    blind="any wrong matrix that is symmetric and positive semi-definite",
)
def fisher_matrix_is_symmetric_and_not_negative(
    f: Answers, policy: Any, vector: Any, observations: Any
) -> Iterator[Gap]:
    """F = Fᵀ and vᵀFv ≥ 0."""
    F, v = f("fisher_matrix", policy=policy, observations=observations), flat(vector)
    yield equal(F, F.T)
    yield at_least((v * (F @ v)).sum(), 0.0)


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_vector_product",),
    draw="policies",
    variants=("categorical",),
    blind="all directions but one",
)
def fisher_does_not_see_a_shift_of_the_logits(f: Answers, policy: Any, observations: Any) -> Iterator[Gap]:
    """F v = 0 where v adds a constant to the last biases of a softmax policy."""
    v = {"layers": [{name: 0 * part for name, part in layer.items()} for layer in policy["layers"]]}
    v["layers"][-1]["b"] = v["layers"][-1]["b"] + 1.0
    yield equal(_product(f, policy, observations, v), 0.0)


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_vector_product",),
    draw="policies",
    variants=("diagonal_gaussian",),
    blind="the block of the network's weights",
)
def fisher_of_log_std_is_two(f: Answers, policy: Any, vector: Any, observations: Any) -> Iterator[Gap]:
    """F v = 2v for a v in log σ alone: its block is 2I, whatever σ and the rows, and it is coupled to nothing."""
    v = {"layers": [{name: 0 * part for name, part in layer.items()} for layer in policy["layers"]]}
    v["log_std"] = vector["log_std"]
    yield equal(_product(f, policy, observations, v), 2 * flat(v))


@law(
    source="[TRPO App. C.1]",
    ops=("fisher_vector_product", "network_forward", "fisher_{family}"),
    draw="policies",
    variants=POLICIES,
    blind="the layers before the last",
)
def fisher_of_the_last_bias_is_that_of_the_outputs(
    f: Answers, family: str, policy: Any, vector: Any, observations: Any
) -> Iterator[Gap]:
    """For a v in the last bias, that part of F v is the mean over rows of M v, M the Fisher matrix of the outputs."""
    v = {"layers": [{name: 0 * part for name, part in layer.items()} for layer in policy["layers"]]}
    v["layers"][-1]["b"] = vector["layers"][-1]["b"]
    if "log_std" in policy:
        v["log_std"] = 0 * policy["log_std"]
    K = policy["layers"][-1]["b"].size
    M = f(f"fisher_{family}", **phi_of(f, policy, observations))[:, :K, :K]
    product = f("fisher_vector_product", policy=policy, observations=observations, vector=v, damping=0.0)
    yield equal(product["layers"][-1]["b"], (M @ rounded(v["layers"][-1]["b"])).mean(axis=0))
