"""Laws of conjugate gradients and of the natural gradient."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers, Unanswerable
from refpg.conformance.laws.families import POLICIES
from refpg.conformance.laws.law import Gap, at_least, equal, law
from refpg.conformance.laws.ordinary import flat, shaped
from refpg.conformance.laws.parameters import log_prob_of
from refpg.conformance.laws.rounding import Rounded, rounded


def _cg(f: Answers, matrix: Any, b: Any, iterations: int) -> Rounded:
    answer: Rounded = f("conjugate_gradient", matrix=matrix, b=b, iterations=iterations)
    return answer


def _without_stop(f: Answers) -> None:
    if f.conventions["conjugate_gradient.stop"] != "never":
        raise Unanswerable("stated for conjugate gradients that do not stop early")


def _residuals(f: Answers, matrix: Any, b: Any, iterations: int) -> Iterator[Rounded]:
    """b − A x_k for k = 1, 2, … up to the iterations, or to the first that is zero to rounding."""
    for k in range(1, iterations + 1):
        r = b - rounded(matrix) @ _cg(f, matrix, b, k)
        yield r
        if (np.abs(r.value) <= f.margin(r)).all():
            return


@law(
    source="[Hestenes-Stiefel]",
    ops=("conjugate_gradient",),
    draw="systems",
    blind="the way to the solution",
)
def cg_ends_after_as_many_iterations_as_unknowns(f: Answers, matrix: Any, b: Any) -> Iterator[Gap]:
    """A x = b after P iterations at the latest."""
    _without_stop(f)
    *_, last = _residuals(f, matrix, b, len(b))
    yield equal(last, 0.0)


@law(
    source="[Hestenes-Stiefel]",
    ops=("conjugate_gradient",),
    draw="systems",
    blind="a wrong length of the first step that is made up for later",
)
def cg_residuals_are_orthogonal(f: Answers, matrix: Any, b: Any, iterations: int) -> Iterator[Gap]:
    """The residual b − A x_k is orthogonal to all residuals before it, the first of which is b."""
    _without_stop(f)
    residuals = list(_residuals(f, matrix, b, iterations))
    before = [rounded(b), *residuals[:-1]]
    for k, r in enumerate(residuals):
        for earlier in before[: k + 1]:
            yield equal((r * earlier).sum(), 0.0)


@law(
    source="[Hestenes-Stiefel]",
    ops=("conjugate_gradient",),
    draw="systems",
    blind="all iterations but the first",
)
def the_first_iteration_is_steepest_descent(f: Answers, matrix: Any, b: Any) -> Iterator[Gap]:
    """x_1 = (bᵀb / bᵀAb) b."""
    right = rounded(b)
    yield equal(_cg(f, matrix, b, 1), (right * b).sum() / (right * (rounded(matrix) @ b)).sum() * b)


@law(
    source="[Hestenes-Stiefel]",
    ops=("conjugate_gradient",),
    draw="systems",
    blind="what has no unit and treats all coordinates alike, however wrongly",
)
def cg_follows_scale_and_order(
    f: Answers, matrix: Any, b: Any, iterations: int, factor: float, order: Any
) -> Iterator[Gap]:
    """c b gives c x, c A gives x/c, and renamed coordinates a renamed x."""
    _without_stop(f)
    # Not beyond the solution, where another law is about what happens.
    k = sum(1 for _ in _residuals(f, matrix, b, iterations))
    x = _cg(f, matrix, b, k)
    yield equal(_cg(f, matrix, factor * b, k), factor * x)
    yield equal(_cg(f, factor * matrix, b, k), x / factor)
    yield equal(_cg(f, matrix[np.ix_(order, order)], b[order], k), x[order])


@law(
    source="[Hestenes-Stiefel]",
    ops=("conjugate_gradient",),
    draw="systems",
    blind="everything but the start",
)
def cg_solves_zero_by_zero(f: Answers, matrix: Any, b: Any, iterations: int) -> Iterator[Gap]:
    """b = 0 has the solution 0, after any number of iterations."""
    # To go on where the solution was reached on the way is 0/0 as well: honest code leaves that to its caller.
    yield equal(_cg(f, matrix, 0 * b, iterations), 0.0)


@law(
    source="[TRPO App. C]",
    ops=("fisher_conjugate_gradient",),
    draw="policies",
    variants=POLICIES,
    blind="everything but the start",
)
def cg_on_a_policy_solves_zero_by_zero(
    f: Answers, policy: Any, vector: Any, observations: Any, damping: float, iterations: int
) -> Iterator[Gap]:
    """A gradient of 0 has the direction 0, after any number of iterations."""
    b = shaped(vector, rounded(0 * flat(vector).value))
    x = f(
        "fisher_conjugate_gradient",
        policy=policy,
        observations=observations,
        b=b,
        damping=damping,
        iterations=iterations,
    )
    yield equal(flat(x), 0.0)


@law(
    source="[TRPO App. C]",
    ops=("fisher_conjugate_gradient", "conjugate_gradient", "fisher_matrix"),
    draw="policies",
    variants=POLICIES,
    blind="what is wrong with the matrix or the iteration in both",
)
def cg_on_a_policy_is_cg_on_its_matrix(
    f: Answers, policy: Any, vector: Any, observations: Any, damping: float, iterations: int
) -> Iterator[Gap]:
    """Conjugate gradients by products with the policy are those on the matrix F + λI."""
    b = shaped(policy, rounded(flat(vector).value + 1.0))
    x = f(
        "fisher_conjugate_gradient",
        policy=policy,
        observations=observations,
        b=b,
        damping=damping,
        iterations=iterations,
    )
    F = f("fisher_matrix", policy=policy, observations=observations)
    H = F + damping * np.eye(len(F))
    yield equal(flat(x), _cg(f, H, flat(b), iterations))


def _natural(f: Answers, policy: Any, observations: Any, gradient: Any, damping: float) -> dict[str, Any]:
    shape = gradient if isinstance(gradient, dict) else shaped(policy, gradient)
    answer: dict[str, Any] = f(
        "natural_gradient", policy=policy, observations=observations, gradient=shape, damping=damping
    )
    return answer


@law(
    source="[K01]",
    ops=("natural_gradient", "fisher_vector_product"),
    draw="policies",
    variants=POLICIES,
    blind="a Fisher matrix that is wrong in both",
)
def natural_gradient_solves_the_fisher_system(
    f: Answers, policy: Any, vector: Any, observations: Any, damping: float
) -> Iterator[Gap]:
    """(F + λI) x = g."""
    x = _natural(f, policy, observations, vector, damping)
    product = f("fisher_vector_product", policy=policy, observations=observations, vector=x, damping=damping)
    yield equal(flat(product), flat(vector))


@law(
    source="[K01]",
    ops=("natural_gradient",),
    draw="policies",
    variants=POLICIES,
    blind="any symmetric positive definite matrix in place of F",
)
def natural_gradient_is_linear_and_ascends(
    f: Answers, policy: Any, vector: Any, other_vector: Any, observations: Any, damping: float, factor: float
) -> Iterator[Gap]:
    """x is linear in g, gᵀx ≥ 0, ‖x‖ ≤ ‖g‖/λ, and uᵀx(g) = gᵀx(u)."""
    g, u = flat(vector), flat(other_vector)
    x, y = (flat(_natural(f, policy, observations, one, damping)) for one in (vector, other_vector))
    yield equal(flat(_natural(f, policy, observations, g + factor * u, damping)), x + factor * y)
    yield equal((u * x).sum(), (g * y).sum())
    yield at_least((g * x).sum(), 0.0)
    yield at_least((g * g).sum() / damping**2, (x * x).sum())


@law(
    source="[K01]",
    ops=(
        "natural_gradient_minimum_norm",
        "fisher_matrix",
        "surrogate_gradient",
        "network_forward",
        "log_prob_{family}",
    ),
    draw="policies",
    variants=POLICIES,
    blind="a Fisher matrix or gradient that is wrong in both",
)
def minimum_norm_solves_and_is_shortest(
    f: Answers, policy: Any, observations: Any, actions: Any, advantages: Any
) -> Iterator[Gap]:
    """F x = g, and x is orthogonal to the null space of F, whose dimension is P − rank."""
    samples = {"policy": policy, "observations": observations, "actions": actions, "advantages": advantages}
    answer = f("natural_gradient_minimum_norm", **samples)
    F = f("fisher_matrix", policy=policy, observations=observations)
    old = log_prob_of(f, policy, observations, actions)
    g = flat(f("surrogate_gradient", **samples, old_log_prob=old))
    x = flat(answer["direction"])
    yield equal(F @ x, g)
    values, vectors = np.linalg.eigh((F.value + F.value.T) / 2)
    null = values < 1e-6 * values.max()
    # A basis from a matrix with an error: its vectors are turned by that error over the gap of the spectrum.
    gap = values[~null].min(initial=np.inf)
    turned = (np.linalg.norm(F.error) + len(values) ** 2 * values.max()) / gap
    basis = Rounded(vectors[:, null], turned)
    yield equal(basis.T @ x, 0.0)
    yield equal(answer["rank"], (~null).sum())
