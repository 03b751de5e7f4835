"""Solvers: conjugate gradients, the direct forms and backtracking, each against a second characterisation.

Exact solutions are rational: every float64 is a fraction, so Gaussian elimination over `fractions.Fraction` has no
error at all.  u is the unit roundoff of float64.
"""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from refpg.solvers import (
    CGEnding,
    SearchEnding,
    backtracking,
    conjugate_gradient,
    solve_cholesky,
    solve_dual,
    solve_minimum_norm,
    solve_rows,
)

U = 2.0**-53


# Exact rational linear algebra and constructed problems.


def rational(array):
    return [[Fraction(float(entry)) for entry in row] for row in np.atleast_2d(array)]


def exact_solve(matrix, right):
    """Solve a nonsingular system of fractions; ``right`` is a list of fractions."""
    n = len(matrix)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(n):
        pivot = next(j for j in range(i, n) if rows[j][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for j in range(i + 1, n):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [a - factor * c for a, c in zip(rows[j], rows[i], strict=True)]
    x = [Fraction(0)] * n
    for i in reversed(range(n)):
        x[i] = (rows[i][n] - sum(rows[i][j] * x[j] for j in range(i + 1, n))) / rows[i][i]
    return x


def exact_product(left, right):
    columns = list(zip(*right, strict=True))
    return [[sum(a * c for a, c in zip(row, column, strict=True)) for column in columns] for row in left]


def exact_transpose(matrix):
    return [list(row) for row in zip(*matrix, strict=True)]


def exact_damped(F, b, damping):
    """(F + λI)⁻¹ b for a matrix of fractions, rounded once."""
    damped = [[*row] for row in F]
    for i in range(len(F)):
        damped[i][i] += Fraction(damping)
    return np.array([float(value) for value in exact_solve(damped, rational(b)[0])])


def exact_rows(G, b, damping):
    rows = rational(G)
    return exact_damped(exact_product(exact_transpose(rows), rows), b, damping)


def orthogonal(generator, n):
    return np.linalg.qr(generator.normal(size=(n, n)))[0]


def symmetric(generator, eigenvalues):
    Q = orthogonal(generator, len(eigenvalues))
    A = (Q * eigenvalues) @ Q.T
    return (A + A.T) / 2


def rows_with(generator, N, P, singular_values):
    k = len(singular_values)
    return (orthogonal(generator, N)[:, :k] * singular_values) @ orthogonal(generator, P)[:, :k].T


def relative(x, expected):
    return np.linalg.norm(x - expected) / np.linalg.norm(expected)


# Conjugate gradients: the mathematics.


def test_iterates_minimise_the_energy_over_the_krylov_spaces():
    """x_k = K (KᵀAK)⁻¹ Kᵀb with K = [b, Ab, …, A^{k−1}b], exactly, by rational arithmetic: no recurrence in it.

    Bound: each of k steps commits relative errors of at most P u, and the map b → x_k amplifies them by cond = 8
    each in α and in x.
    """
    P = 6
    A = symmetric(np.random.default_rng(0), [1, 1.7, 2.5, 4, 6, 8])
    b = np.random.default_rng(1).normal(size=P)
    trace = conjugate_gradient(A.__matmul__, b, iterations=P - 1, trace=True)
    exact_A, exact_b = rational(A), exact_transpose(rational(b))
    krylov = [exact_b]
    for k in range(1, P):
        K = exact_transpose([[entry[0] for entry in vector] for vector in krylov])
        Kt = exact_transpose(K)
        gram = exact_product(Kt, exact_product(exact_A, K))
        coordinates = exact_solve(gram, [entry[0] for entry in exact_product(Kt, exact_b)])
        x_k = np.array([float(row[0]) for row in exact_product(K, [[c] for c in coordinates])])
        assert relative(trace.iterates[k], x_k) <= 8 * 8 * k * P * U
        krylov.append(exact_product(exact_A, krylov[-1]))


@pytest.mark.parametrize("P", [2, 5, 17, 40])
def test_iterates_are_those_of_scipy_to_rounding(P):
    """Two orderings of the same recurrences differ by P u per step, amplified by cond = 10 over at most 8 steps."""
    generator = np.random.default_rng(P)
    A, b = symmetric(generator, np.linspace(1, 10, P)), generator.normal(size=P)
    k = min(P, 8) - 1
    theirs = []
    scipy.sparse.linalg.cg(A, b, rtol=0, maxiter=k, callback=lambda x: theirs.append(x.copy()))
    ours = conjugate_gradient(A.__matmul__, b, iterations=k, trace=True)
    assert len(theirs) == len(ours.iterates) - 1 == k
    for j in range(k):
        assert relative(ours.iterates[j + 1], theirs[j]) <= 10 * (j + 1) * P * U


def test_iterates_from_a_start_are_those_of_scipy_and_of_the_shifted_system():
    generator = np.random.default_rng(3)
    P = 12
    A, b, start = symmetric(generator, np.linspace(1, 5, P)), generator.normal(size=P), generator.normal(size=P)
    theirs = []
    scipy.sparse.linalg.cg(A, b, x0=start, rtol=0, maxiter=4, callback=lambda x: theirs.append(x.copy()))
    ours = conjugate_gradient(A.__matmul__, b, iterations=4, start=start, trace=True)
    shifted = conjugate_gradient(A.__matmul__, b - A @ start, iterations=4, trace=True)
    np.testing.assert_array_equal(ours.iterates[0], start)
    scale = np.linalg.norm(start) + np.linalg.norm(ours.x)  # the sums below round at the size of their terms
    for j in range(4):
        assert np.linalg.norm(ours.iterates[j + 1] - theirs[j]) <= 5 * 4 * P * U * scale
        assert np.linalg.norm(ours.iterates[j + 1] - (start + shifted.iterates[j + 1])) <= 5 * 4 * P * U * scale


@pytest.mark.parametrize("distinct", [1, 2, 3, 5])
def test_convergence_takes_as_many_iterations_as_distinct_eigenvalues(distinct):
    """The dense matrix has clusters of width u‖A‖, not points, so the last residual is rounding, far below 1e-11."""
    eigenvalues = np.repeat(np.arange(1.0, distinct + 1), 7)
    generator = np.random.default_rng(distinct)
    A, b = symmetric(generator, eigenvalues), generator.normal(size=len(eigenvalues))
    result = conjugate_gradient(A.__matmul__, b, iterations=50, tolerance=1e-11)
    assert result.reason is CGEnding.CONVERGED
    assert len(result.alphas) == distinct
    assert relative(result.x, np.linalg.solve(A, b)) <= distinct * 1e-11  # error ≤ cond · residual


def test_only_eigenvalues_with_a_component_in_b_count():
    diagonal, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 6.0, 0, 4.0])
    result = conjugate_gradient(lambda v: diagonal * v, b, iterations=9)
    assert len(result.alphas) == 2
    assert relative(result.x, np.array([0, 3.0, 0, 1.0])) <= 8 * U  # two steps, cond 2, 4 terms


def test_termination_is_finite():
    """After P iterations the residual is rounding, which P steps with cond 20 amplify."""
    P = 10
    generator = np.random.default_rng(5)
    A, b = symmetric(generator, np.linspace(1, 20, P)), generator.normal(size=P)
    result = conjugate_gradient(A.__matmul__, b, iterations=P)
    assert relative(result.x, exact_damped(rational(A), b, 0)) <= P * P * 20 * U
    assert result.residual_norms[P - 1] > 1e-9 * np.linalg.norm(b)


@pytest.mark.parametrize("spread", [10.0, 1e3, 1e6])
def test_error_in_the_energy_norm_falls_monotonically_below_chebyshevs_bound(spread):
    """‖e_k‖_A ≤ 2((√cond − 1)/(√cond + 1))ᵏ ‖e_0‖_A; rounding leaves a floor of P u √cond ‖e_0‖_A."""
    eigenvalues = np.geomspace(1, spread, 60)
    b = np.random.default_rng(7).normal(size=60)
    iterates = conjugate_gradient(lambda v: eigenvalues * v, b, iterations=80, trace=True).iterates
    errors = np.sqrt(((iterates - b / eigenvalues) ** 2 * eigenvalues).sum(axis=1))
    rate = (np.sqrt(spread) - 1) / (np.sqrt(spread) + 1)
    floor = 60 * U * np.sqrt(spread) * errors[0]
    assert (errors <= 2 * rate ** np.arange(len(errors)) * errors[0] + floor).all()
    assert (errors[1:] <= errors[:-1] + floor).all()


def test_residuals_are_orthogonal_and_directions_conjugate():
    """From the iterates alone: r_j = b − A x_j and p_j ∝ x_{j+1} − x_j.  Each step loses P u cond of orthogonality."""
    P, k, cond = 15, 7, 10.0
    generator = np.random.default_rng(8)
    A, b = symmetric(generator, np.linspace(1, cond, P)), generator.normal(size=P)
    x = conjugate_gradient(A.__matmul__, b, iterations=k, trace=True).iterates
    r = b - x @ A
    p = np.diff(x, axis=0)
    cosines = r @ r.T / np.outer(np.linalg.norm(r, axis=1), np.linalg.norm(r, axis=1))
    energy = p @ A @ p.T
    conjugacy = energy / np.sqrt(np.outer(np.diag(energy), np.diag(energy)))
    # Forming b − A x cancels ‖b‖/‖r_k‖ digits.
    bound = k * P * U * cond * np.linalg.norm(b) / np.linalg.norm(r[-1])
    assert np.abs(cosines - np.eye(k + 1)).max() <= bound
    assert np.abs(conjugacy - np.eye(k)).max() <= bound
    assert bound < 1e-9


def test_alphas_and_betas_are_the_lanczos_tridiagonal_matrix():
    """After termination its eigenvalues are those of A: diagonal 1/α_j + β_{j−1}/α_{j−1}, beside it √β_j/α_j."""
    eigenvalues = np.array([1.0, 2.0, 4.0, 7.0])
    result = conjugate_gradient(lambda v: eigenvalues * v, np.array([1.0, -2.0, 1.0, 3.0]), iterations=4)
    alpha, beta = result.alphas, result.betas
    T = np.diag(1 / alpha + np.append(0, beta[:-1] / alpha[:-1])) + sum(
        np.diag(np.sqrt(beta[:-1]) / alpha[:-1], side) for side in (-1, 1)
    )
    # ‖T‖ = 7, cond 7, four steps of inner products of length 4.
    np.testing.assert_allclose(np.linalg.eigvalsh(T), eigenvalues, rtol=0, atol=7 * 7 * 4 * 4 * U)


def test_trace_is_consistent_with_the_matrix():
    """‖b − A x_j‖ and ‖r_j‖ drift apart by at most P u (‖A‖‖x_j‖ + ‖b‖) per step; A x = b − r needs no product."""
    P = 20
    generator = np.random.default_rng(9)
    A, b = symmetric(generator, np.geomspace(1, 100, P)), generator.normal(size=P)
    result = conjugate_gradient(A.__matmul__, b, iterations=6, trace=True)
    drift = 6 * P * U * (100 * np.linalg.norm(result.x) + np.linalg.norm(b))
    assert result.iterates.shape == (7, P)
    assert result.residual_norms.shape == (7,)
    assert result.alphas.shape == result.betas.shape == (6,)
    true_norms = np.linalg.norm(b - result.iterates @ A, axis=1)
    np.testing.assert_allclose(result.residual_norms, true_norms, rtol=0, atol=drift)
    np.testing.assert_allclose(b - result.residual, A @ result.x, rtol=0, atol=drift)
    np.testing.assert_allclose(result.betas, (true_norms[1:] / true_norms[:-1]) ** 2, rtol=4 * drift / true_norms.min())
    np.testing.assert_array_equal(result.iterates[-1], result.x)
    np.testing.assert_array_equal(result.iterates[0], np.zeros(P))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 16), min_size=1, max_size=6), st.data())
def test_any_diagonal_system_is_solved_to_rounding(eigenvalues, data):
    """Rotations change nothing but rounding, so diagonal matrices are all there is; cond ≤ 16, P ≤ 6."""
    diagonal = np.array(eigenvalues, float)
    b = np.array(data.draw(st.lists(st.integers(-8, 8), min_size=len(diagonal), max_size=len(diagonal))), float)
    result = conjugate_gradient(lambda v: diagonal * v, b, iterations=40)
    assert np.linalg.norm(diagonal * result.x - b) <= 40 * 16 * 6 * U * np.linalg.norm(b)
    assert result.reason in (CGEnding.CONVERGED, CGEnding.ROUNDING_REACHED, CGEnding.ZERO_RIGHT_HAND_SIDE)
    assert (result.reason is CGEnding.ZERO_RIGHT_HAND_SIDE) == (not b.any())
    assert (result.alphas >= (1 - 100 * U) / diagonal.max()).all()  # 1/α is at most a Rayleigh quotient


# Conjugate gradients: endings.


def test_tolerance_is_relative_closed_and_tests_the_last_iterate():
    """diag(1, 3) and b = (1, 1): one step halves the residual exactly."""
    matrix = np.diag([1.0, 3.0])
    at = conjugate_gradient(matrix.__matmul__, np.ones(2), iterations=1, tolerance=0.5)
    below = conjugate_gradient(matrix.__matmul__, np.ones(2), iterations=1, tolerance=np.nextafter(0.5, 0))
    on = conjugate_gradient(matrix.__matmul__, np.ones(2), iterations=9, tolerance=np.nextafter(0.5, 0))
    large = conjugate_gradient(matrix.__matmul__, np.full(2, 1e3), iterations=9, tolerance=0.5)
    assert (at.reason, len(at.alphas)) == (CGEnding.CONVERGED, 1)
    assert (below.reason, len(below.alphas)) == (CGEnding.ITERATIONS_EXHAUSTED, 1)
    assert len(on.alphas) == 2
    assert len(large.alphas) == 1


@pytest.mark.parametrize("scale", [1.0, 2.0**-30, 2.0**40, 2.0**-1000])
def test_threshold_is_absolute_and_open_and_waits_for_the_minimum(scale):
    """diag(1, 3) and b = (s, s): ‖b‖ = √2 s, and one step halves the residual exactly."""
    matrix, b = np.diag([1.0, 3.0]), np.full(2, scale)
    half = scale * np.sqrt(0.5)

    def made(**options):
        result = conjugate_gradient(matrix.__matmul__, b, iterations=9, **options)
        return len(result.alphas), result.reason

    assert made(threshold=half * (1 - 1e-12)) == (2, CGEnding.CONVERGED)
    assert made(threshold=half * (1 + 1e-12)) == (1, CGEnding.CONVERGED)
    assert made(threshold=3 * half) == (0, CGEnding.CONVERGED)
    assert made(threshold=3 * half, minimum=1) == (1, CGEnding.CONVERGED)
    assert made(threshold=3 * half, minimum=2) == (2, CGEnding.CONVERGED)


def test_threshold_stops_where_other_implementations_do():
    """rᵀr < 1e-10 after an iteration, written as those write it; and the answer depends on the scale of b."""
    generator = np.random.default_rng(5)
    root = generator.normal(size=(9, 7))
    matrix = root.T @ root + 0.1 * np.eye(7)
    directions, counts = [], []
    for scale in (1e-3, 1e-4, 1e-5, 1e-7):
        b = scale * np.arange(1.0, 8.0)
        x, r, p = np.zeros(7), b, b
        for _ in range(7):
            step = r @ r / (p @ matrix @ p)
            x, after = x + step * p, r - step * (matrix @ p)
            p, r = after + after @ after / (r @ r) * p, after
            if r @ r < 1e-10:
                break
        result = conjugate_gradient(matrix.__matmul__, b, iterations=7, threshold=1e-5, minimum=1)
        # Two roundings of one recursion of at most seven steps at cond(A) < 1e3.
        np.testing.assert_allclose(result.x, x, rtol=0, atol=1e-9 * np.abs(x).max())
        directions.append(x / np.linalg.norm(x))
        counts.append(len(result.alphas))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1 < counts[0]
    assert directions[0] @ directions[-1] < 0.99


def test_a_threshold_beyond_the_largest_number_stops_at_once():
    tiny = np.full(2, 5e-324)
    result = conjugate_gradient(np.eye(2).__matmul__, tiny, iterations=3, threshold=1e300)
    assert (result.reason, len(result.alphas)) == (CGEnding.CONVERGED, 0)


def test_iterations_are_products_and_zero_of_them_is_the_start():
    products = []

    def product(v):
        products.append(v)
        return np.array([1.0, 2.0, 3.0]) * v

    b, start = np.ones(3), np.array([2.0, 0.0, 1.0])
    assert not conjugate_gradient(product, b, iterations=0).x.any()
    assert len(products) == 0
    stopped = conjugate_gradient(product, b, iterations=0, start=start)
    assert stopped.reason is CGEnding.ITERATIONS_EXHAUSTED
    np.testing.assert_array_equal(stopped.x, start)
    assert len(products) == 1
    conjugate_gradient(product, b, iterations=2)
    assert len(products) == 3


def test_a_start_that_solves_the_system_is_returned_as_converged():
    result = conjugate_gradient(lambda v: 2 * v, np.array([2.0, 4.0]), iterations=3, start=np.array([1.0, 2.0]))
    assert result.reason is CGEnding.CONVERGED
    assert len(result.alphas) == 0
    np.testing.assert_array_equal(result.x, [1.0, 2.0])


def test_zero_right_hand_side_has_the_solution_zero_whatever_the_start():
    def product(v):
        raise AssertionError("no product is needed")

    b = np.zeros(3)
    result = conjugate_gradient(product, b, iterations=5, start=np.ones(3), trace=True)
    assert result.reason is CGEnding.ZERO_RIGHT_HAND_SIDE
    np.testing.assert_array_equal(result.x, b)
    np.testing.assert_array_equal(result.iterates, [b])
    np.testing.assert_array_equal(result.residual_norms, [0])
    assert not np.shares_memory(result.x, b)


@pytest.mark.parametrize(
    ("eigenvalues", "b", "iterations"),
    [
        ([1.0, -1.0], [1.0, 1.0], 0),
        ([-1.0, -2.0], [1.0, 1.0], 0),
        ([0.0, 0.0], [1.0, 1.0], 0),
        ([1.0, 2.0, 0.0], [1.0, 1.0, 1.0], 2),
        ([3.0, 3.0, 0.0], [1.0, 1.0, 1.0], 1),
        ([1.0, 2.0, -1e-3], [1.0, 1.0, 1e-3], 2),
    ],
)
def test_non_positive_curvature_ends_the_iteration_before_it_divides(eigenvalues, b, iterations):
    diagonal, b = np.array(eigenvalues), np.array(b)
    result = conjugate_gradient(lambda v: diagonal * v, b, iterations=50, trace=True)
    assert result.reason is CGEnding.NON_POSITIVE_CURVATURE
    assert len(result.alphas) == iterations
    assert np.isfinite(result.x).all()
    assert (result.alphas > 0).all()
    np.testing.assert_array_equal(result.x, result.iterates[-1])


@pytest.mark.parametrize("seed", range(8))
def test_a_null_direction_is_not_followed_although_rounding_makes_its_curvature_positive(seed):
    """All nonzero eigenvalues are 1, b has the part n in the null space.  After one step, exactly, p ∝ n and A p = 0.

    The step is α = ‖b‖²/‖b − n‖², so x = αb; followed further, rounding errors would throw x to about 1/u.
    """
    P, rank = 26, 5
    Q = orthogonal(np.random.default_rng(seed), P)
    G = Q[:, :rank].T
    b = Q[:, 0] + Q[:, rank]
    result = conjugate_gradient(lambda v: G.T @ (G @ v), b, iterations=100)
    assert result.reason is CGEnding.NON_POSITIVE_CURVATURE
    assert relative(result.x, 2 * b) <= 4 * P * U


@pytest.mark.parametrize(
    ("P", "rank", "smallest"),
    [(26, 5, 1e-2), (26, 5, 1e-5), (26, 20, 1e-2), (26, 20, 1e-5), (60, 30, 1e-5), (300, 100, 1e-2)],
)
@pytest.mark.parametrize("kind", ["generic", "rows"])
def test_singular_and_consistent_systems_end_at_the_minimum_norm_solution(P, rank, smallest, kind):
    """tolerance = 0 and no shortage of iterations: rounding must end them before it fills the null space.

    Bound: backward error of √P u, times the condition number on the range; each of the stages adds as much again.
    """
    generator = np.random.default_rng(P + rank)
    V = orthogonal(generator, P)[:rank]
    G = np.sqrt(np.geomspace(1, smallest, rank))[:, np.newaxis] * V
    # Generic in the range, ‖A‖‖x‖ is much larger than ‖b‖; as a combination of rows it is not.
    b = (V if kind == "generic" else G).T @ generator.normal(size=rank)
    result = conjugate_gradient(lambda v: G.T @ (G @ v), b, iterations=3000)
    assert result.reason is CGEnding.ROUNDING_REACHED
    assert relative(result.x, solve_minimum_norm(G, b).x) <= 4 * P * U / smallest


def test_the_range_of_scales_of_b_does_not_matter():
    """A power of two scales every number of the result exactly: nothing underflows or overflows on the way."""
    generator = np.random.default_rng(11)
    P = 8
    A, b = symmetric(generator, np.linspace(1, 4, P)), generator.normal(size=P)
    result = conjugate_gradient(A.__matmul__, b, iterations=5, trace=True)
    for exponent in (-900, -400, 3, 900):
        scaled = conjugate_gradient(A.__matmul__, np.ldexp(b, exponent), iterations=5, trace=True)
        assert scaled.reason is result.reason
        np.testing.assert_array_equal(scaled.alphas, result.alphas)
        np.testing.assert_array_equal(scaled.betas, result.betas)
        for field in ("x", "residual_norms", "iterates", "residual"):
            np.testing.assert_array_equal(getattr(scaled, field), np.ldexp(getattr(result, field), exponent))


@pytest.mark.parametrize("cond", [1e4, 1e8, 1e12])
def test_ill_conditioned_definite_systems_are_solved_not_called_singular(cond):
    """P = 2: the backward error √2 u of the ending, and as much from each of at most 10 steps, times cond."""
    diagonal = np.array([1, 1 / cond])
    result = conjugate_gradient(lambda v: diagonal * v, np.ones(2), iterations=10)
    assert result.reason in (CGEnding.CONVERGED, CGEnding.ROUNDING_REACHED)
    assert relative(result.x, np.array([1, cond])) <= 10 * np.sqrt(2) * U * cond


def test_conditions_beyond_the_dtype_end_with_a_reason_not_with_a_warning():
    for cond in (1e14, 1e18, 1e200, 1e300):
        result = conjugate_gradient(lambda v, cond=cond: np.array([1, 1 / cond]) * v, np.ones(2), iterations=30)
        assert isinstance(result.reason, CGEnding)
        assert np.isfinite(result.x).all()


def test_every_ending_is_a_sentence_of_its_own():
    for endings in (CGEnding, SearchEnding):
        sentences = [ending.value for ending in endings]
        assert len(set(sentences)) == len(endings.__members__)
        for ending in endings:
            title, _, explanation = ending.value.partition(": ")
            assert title.replace("-", " ").replace(" ", "_").upper() == ending.name
            assert len(explanation) > 20


# Conjugate gradients: memory, dtypes and refused input.


def test_nothing_given_is_written_to_and_nothing_returned_is_shared():
    P = 9
    generator = np.random.default_rng(12)
    A, b, start = symmetric(generator, np.linspace(1, 9, P)), generator.normal(size=P), generator.normal(size=P)
    b_before, start_before = b.copy(), start.copy()
    for b_given, start_given in ((b, None), (b, start)):
        result = conjugate_gradient(A.__matmul__, b_given, iterations=4, start=start_given, trace=True)
        for given_array in (b, start):
            for returned in (result.x, result.iterates, result.residual):
                assert not np.shares_memory(returned, given_array)
        assert not np.shares_memory(result.x, result.iterates)
    stopped = conjugate_gradient(A.__matmul__, b, iterations=0, start=start)
    assert not np.shares_memory(stopped.x, start)
    assert not np.shares_memory(stopped.residual, b)
    np.testing.assert_array_equal(b, b_before)
    np.testing.assert_array_equal(start, start_before)
    b.setflags(write=False)
    assert conjugate_gradient(A.__matmul__, b, iterations=4).iterates is None


def test_a_product_may_overwrite_its_argument_reuse_its_buffer_or_return_its_argument():
    P = 7
    generator = np.random.default_rng(13)
    A, b = symmetric(generator, np.linspace(1, 9, P)), generator.normal(size=P)
    expected = conjugate_gradient(A.__matmul__, b, iterations=5, trace=True)
    buffer = np.empty(P)

    def reusing(v):
        np.matmul(A, v, out=buffer)
        return buffer

    def overwriting(v):
        v[:] = A @ v
        return v

    for product in (reusing, overwriting):
        result = conjugate_gradient(product, b, iterations=5, trace=True)
        np.testing.assert_array_equal(result.iterates, expected.iterates)
    np.testing.assert_array_equal(conjugate_gradient(lambda v: v, b, iterations=5).x, b)


def test_a_linear_operator_is_a_product():
    A, b = np.diag([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    operator = scipy.sparse.linalg.aslinearoperator(A)
    ours, expected = (conjugate_gradient(f, b, iterations=2).x for f in (operator.matvec, A.__matmul__))
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_the_dtype_is_kept_and_its_precision_used(dtype):
    """cond 4, P = 6, six steps."""
    diagonal = np.linspace(1, 4, 6).astype(dtype)
    solution = np.array([1, -2, 3, -4, 5, -6], dtype)
    result = conjugate_gradient(lambda v: diagonal * v, diagonal * solution, iterations=20, trace=True)
    for array in (result.x, result.residual_norms, result.alphas, result.betas, result.iterates, result.residual):
        assert array.dtype == dtype
    assert np.linalg.norm(result.x - solution) <= 4 * 6 * 6 * np.finfo(dtype).eps * np.linalg.norm(solution)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"product": np.eye(2)}, "conjugate_gradient: product is of type ndarray, expected a function"),
        ({"b": [1.0, np.nan]}, "conjugate_gradient: b holds NaN or infinity"),
        ({"b": [[1.0, 2.0]]}, r"conjugate_gradient: b has shape \(1, 2\)"),
        ({"b": [1j, 2.0]}, "conjugate_gradient: b has dtype complex128, expected real numbers"),
        ({"iterations": -1}, "conjugate_gradient: iterations is -1"),
        ({"iterations": 2.5}, "conjugate_gradient: iterations is 2.5"),
        ({"tolerance": -1e-9}, "conjugate_gradient: tolerance is -1e-09"),
        ({"tolerance": np.nan}, "conjugate_gradient: tolerance is nan"),
        ({"threshold": -1e-9}, "conjugate_gradient: threshold is -1e-09"),
        ({"minimum": -1}, "conjugate_gradient: minimum is -1"),
        ({"start": [1.0, 2.0, 3.0]}, r"conjugate_gradient: start has shape \(3,\), expected \(P,\) where P = 2"),
        ({"start": [np.inf, 0.0]}, "conjugate_gradient: start holds NaN or infinity"),
        ({"start": np.ones(2, np.float32)}, "conjugate_gradient: start has dtype float32, expected float64"),
        ({"product": lambda v: v * np.nan}, r"conjugate_gradient: product\(v\) holds NaN or infinity"),
        ({"product": lambda v: v[:1]}, r"conjugate_gradient: product\(v\) has shape \(1,\), expected \(P,\)"),
        ({"product": lambda v: v[:, np.newaxis]}, r"conjugate_gradient: product\(v\) has shape \(2, 1\)"),
        ({"product": lambda v: v.astype(np.float32)}, r"conjugate_gradient: product\(v\) has dtype float32"),
        ({"product": lambda v: v + 0j}, r"conjugate_gradient: product\(v\) has dtype complex128"),
    ],
)
def test_conjugate_gradient_refuses(change, message):
    arguments = {"product": lambda v: v, "b": [1.0, 2.0], "iterations": 3} | change
    with pytest.raises(ValueError, match=message):
        conjugate_gradient(arguments.pop("product"), arguments.pop("b"), **arguments)


# Direct forms.


def rows_bound(G, damping, x):
    """First-order change of x when the stacked rows R, RᵀR = H = GᵀG + λI, change by (N + P)√P u ‖R‖.

    From H x = b:  δx = −H⁻¹(δRᵀR + RᵀδR)x, so ‖δx‖ ≤ ‖δR‖(‖H⁻¹‖‖Rx‖ + ‖H⁻¹Rᵀ‖‖x‖).  The triangular solves add the first
    term once more.  About √cond · u for a generic b, where ‖Rx‖ is near ‖x‖/√‖H⁻¹‖.
    """
    N, P = G.shape
    s = np.linalg.svd(np.vstack([G, np.sqrt(damping) * np.eye(P)]), compute_uv=False)
    Rx = np.sqrt(np.linalg.norm(G @ x) ** 2 + damping * np.linalg.norm(x) ** 2)
    return (N + P) * np.sqrt(P) * U * s[0] * (2 * Rx / s[-1] ** 2 + np.linalg.norm(x) / s[-1])


def condition(G, damping):
    s = np.zeros(G.shape[1])
    s[: min(G.shape)] = np.linalg.svd(G, compute_uv=False)
    return (s.max() ** 2 + damping) / (s.min() ** 2 + damping)


PROBLEMS = [
    pytest.param(N, P, damping, kind, id=f"{N}x{P}-{damping:g}-{kind}")
    for N, P in ((20, 8), (5, 12), (9, 9))
    for damping in (1.0, 1e-3, 1e-6, 1e-9)
    for kind in ("generic", "rows")
]


def problem(N, P, kind, seed=0):
    generator = np.random.default_rng([seed, N, P])
    G = rows_with(generator, N, P, np.geomspace(1, 1e-6, min(N, P)))
    return G, generator.normal(size=P) if kind == "generic" else G.T @ generator.normal(size=N)


@pytest.mark.parametrize(("N", "P", "damping", "kind"), PROBLEMS)
def test_row_forms_are_exact_to_the_rounding_of_the_rows(N, P, damping, kind):
    """To first order; forming GᵀG would miss this bound by √cond, up to 3e4."""
    G, b = problem(N, P, kind)
    x = exact_rows(G, b, damping)
    bound = rows_bound(G, damping, x)
    assert np.linalg.norm(solve_rows(G, b, damping) - x) <= bound
    assert np.linalg.norm(solve_rows(G, b, damping, factorization="svd") - x) <= bound


@pytest.mark.parametrize(("N", "P", "damping", "kind"), PROBLEMS)
def test_dual_form_is_as_exact_as_the_rows_after_its_refinement(N, P, damping, kind):
    """One refinement: the error (N u cond) of the unrefined form squared, and the rounding of the rows."""
    G, b = problem(N, P, kind)
    x = exact_rows(G, b, damping)
    squared = (N * U * (1 + damping) / damping) ** 2 * np.linalg.norm(x)
    assert np.linalg.norm(solve_dual(G, b, damping) - x) <= rows_bound(G, damping, x) + squared


@pytest.mark.parametrize(("N", "P", "damping", "kind"), PROBLEMS)
def test_cholesky_is_exact_to_the_rounding_of_the_matrix(N, P, damping, kind):
    """Backward error of at most 4P(3P + 1)u‖F‖ (factorisation and two triangular solves), times cond."""
    G, b = problem(N, P, kind)
    F = G.T @ G
    x = exact_damped(rational(F), b, damping)
    assert relative(solve_cholesky(F, b, damping), x) <= 4 * P * (3 * P + 1) * U * condition(G, damping)


def test_rows_lose_only_the_square_root_of_what_cholesky_loses():
    """Measured on one problem: cond 1e9 leaves the matrix form 7 digits or fewer, the row forms more than 10."""
    G, b = problem(20, 8, "generic")
    x = exact_rows(G, b, 1e-9)
    assert relative(solve_cholesky(G.T @ G, b, 1e-9), x) > 1e-9
    for row_form in (solve_rows, solve_dual):
        assert relative(row_form(G, b, 1e-9), x) < 1e-11


@pytest.mark.certify
def test_direct_forms_agree_with_high_precision_on_a_larger_problem():
    """40 digits of mpmath; bounds as above."""
    mpmath = pytest.importorskip("mpmath")
    G, b = problem(9, 24, "generic", seed=1)
    damping = 1e-5
    with mpmath.workdps(40):
        rows = mpmath.matrix(G.tolist())
        damped = rows.T * rows + mpmath.mpf(damping) * mpmath.eye(24)
        solution = mpmath.cholesky_solve(damped, mpmath.matrix(b.tolist()))
        x = np.array([float(entry) for entry in solution])
    bound = rows_bound(G, damping, x)
    assert np.linalg.norm(solve_rows(G, b, damping) - x) <= bound
    assert np.linalg.norm(solve_dual(G, b, damping) - x) <= bound + (9 * U / damping) ** 2 * np.linalg.norm(x)
    # Here the rounding of GᵀG, 9 u, counts too.
    assert relative(solve_cholesky(G.T @ G, b, damping), x) <= (4 * 24 * 73 + 9) * U / damping
    cg = conjugate_gradient(lambda v: G.T @ (G @ v) + damping * v, b, iterations=500)
    assert relative(cg.x, x) <= 4 * np.sqrt(24) * U / damping  # normwise backward error √P u


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([0.125, 1.0, 16.0]), st.data())
def test_all_forms_solve_any_small_damped_system(N, P, damping, data):
    """Entries in −4 … 4: ‖F‖ ≤ 16 · 25, so cond ≤ 3201 and every form is within 4P(3P + 1)u cond."""
    entries = st.integers(-16, 16).map(lambda k: k / 4)
    G = np.array(data.draw(st.lists(st.lists(entries, min_size=P, max_size=P), min_size=N, max_size=N)))
    b = np.array(data.draw(st.lists(entries, min_size=P, max_size=P)))
    x = exact_rows(G, b, damping)
    F = G.T @ G  # exact: multiples of 1/16
    bound = 4 * P * (3 * P + 1) * U * 3201 * np.linalg.norm(x)
    assert np.linalg.norm(solve_cholesky(F, b, damping) - x) <= bound
    assert np.linalg.norm(solve_rows(G, b, damping) - x) <= bound
    assert np.linalg.norm(solve_rows(G, b, damping, factorization="svd") - x) <= bound
    assert np.linalg.norm(solve_dual(G, b, damping) - x) <= bound
    cg = conjugate_gradient(lambda v: F @ v + damping * v, b, iterations=60)
    assert np.linalg.norm(cg.x - x) <= bound


def test_undamped_systems_of_full_rank_are_solved():
    """cond(F) = 1e4: the row form within its bound, the matrix form within its own."""
    G = rows_with(np.random.default_rng(2), 11, 6, np.geomspace(1, 1e-2, 6))
    b = np.random.default_rng(3).normal(size=6)
    x = exact_rows(G, b, 0)
    for factorization in ("qr", "svd"):
        assert np.linalg.norm(solve_rows(G, b, 0.0, factorization=factorization) - x) <= rows_bound(G, 0, x)
    # 11 u for the rounding of GᵀG beside the backward error of the factorisation.
    assert relative(solve_cholesky(G.T @ G, b, 0.0), x) <= (4 * 6 * 19 + 11) * U * 1e4
    assert np.linalg.norm(solve_minimum_norm(G, b).x - x) <= rows_bound(G, 0, x)


def test_the_given_gram_matrix_is_used_and_the_refinement_forgives_its_rounding():
    """A Gram matrix wrong by 1e-7 makes the unrefined form wrong by up to 1e-7 cond, the refined one by its square."""
    G, b = problem(5, 12, "generic")
    damping = 0.01
    x = exact_rows(G, b, damping)
    np.testing.assert_array_equal(solve_dual(G, b, damping, G @ G.T), solve_dual(G, b, damping))
    error = relative(solve_dual(G, b, damping, G @ G.T * (1 + 1e-7)), x)
    assert 0 < error <= (1e-7 / damping) ** 2
    assert relative(solve_dual(G, b, damping, 2 * G @ G.T), x) > 1e-3


def forms(G):
    F = G.T @ G
    return {
        "cholesky": lambda b, damping: solve_cholesky(F, b, damping),
        "rows": lambda b, damping: solve_rows(G, b, damping),
        "svd": lambda b, damping: solve_rows(G, b, damping, factorization="svd"),
        "dual": lambda b, damping: solve_dual(G, b, damping),
    }


@pytest.mark.parametrize("form", ["cholesky", "rows", "svd", "dual"])
def test_damping_obeys_its_laws(form):
    """Resolvent identity x_λ − x_κ = (κ − λ)(F + λI)⁻¹x_κ; x shrinks as λ grows; λx → b, the error at most ‖F‖/λ.

    Rounding: cond ≤ 101 in all of it, so relative errors stay below 4P(3P + 1) u · 101 = 1e-11.
    """
    generator = np.random.default_rng(20)
    G, b = rows_with(generator, 10, 6, np.geomspace(1, 0.1, 6)), generator.normal(size=6)
    solve = forms(G)[form]
    x_small, x_large = solve(b, 0.01), solve(b, 0.5)
    assert np.linalg.norm(x_small - x_large - 0.49 * solve(x_large, 0.01)) <= 1e-11 * np.linalg.norm(x_small)
    norms = [np.linalg.norm(solve(b, damping)) for damping in (0.01, 0.1, 1.0, 10.0, 1e6)]
    assert (np.diff(norms) < 0).all()
    assert relative(1e6 * solve(b, 1e6), b) <= 1e-6
    assert relative(1e6 * solve(b, 1e6), b) >= 1e-8 - 1e-11  # F ≥ 0.01: damping is neither lost nor doubled
    assert b @ x_small > 0


def test_damping_is_a_shift_of_the_spectrum():
    """(F + cI) + λI = F + (c + λ)I, with dyadic numbers and so the same matrix, bit for bit."""
    F, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -3.0])
    np.testing.assert_array_equal(solve_cholesky(F + 0.25 * np.eye(2), b, 0.5), solve_cholesky(F, b, 0.75))


@pytest.mark.parametrize("damping", [1e-2, 1e-4, 1e-6])
def test_minimum_norm_solution_is_the_limit_of_vanishing_damping(damping):
    """b in the row space, singular values ≥ ½: ‖x_λ − x_0‖ ≤ λ/(¼ + λ) ‖x_0‖, and at least λ/(1 + λ) ‖x_0‖."""
    G = rows_with(np.random.default_rng(21), 4, 9, [1.0, 0.8, 0.6, 0.5])
    b = G.T @ np.array([1.0, -2.0, 0.5, 1.0])
    x = solve_minimum_norm(G, b).x
    change = relative(solve_dual(G, b, damping), x)
    rounding = 4 * 9 * 28 * U / damping
    assert damping / (1 + damping) - rounding <= change <= damping / (0.25 + damping) + rounding


def test_minimum_norm_solution_rank_and_outside_are_those_of_an_exactly_singular_matrix():
    """G = L C with integer factors of full rank r, so F⁺ = Cᵀ(CCᵀ)⁻¹(LᵀL)⁻¹(CCᵀ)⁻¹C in rational arithmetic.

    Bound as for the rows, the singular values those that are not zero.
    """
    generator = np.random.default_rng(22)
    for N, P, r in ((7, 5, 3), (4, 9, 2), (6, 6, 5), (3, 8, 3)):
        L = np.vstack([np.eye(r, dtype=int), generator.integers(-3, 4, (N - r, r))])
        C = np.hstack([np.eye(r, dtype=int), generator.integers(-3, 4, (r, P - r))])
        G, b = (L @ C).astype(float), generator.integers(-5, 6, P).astype(float)
        exact_L, exact_C, exact_b = rational(L), rational(C), exact_transpose(rational(b))
        CCt = exact_product(exact_C, exact_transpose(exact_C))
        LtL = exact_product(exact_transpose(exact_L), exact_L)
        first = exact_solve(CCt, [row[0] for row in exact_product(exact_C, exact_b)])
        second = exact_solve(CCt, exact_solve(LtL, first))

        x, inside = (
            np.array([float(row[0]) for row in exact_product(exact_transpose(exact_C), [[c] for c in coordinates])])
            for coordinates in (second, first)
        )
        solution = solve_minimum_norm(G, b)
        s = np.linalg.svd(G, compute_uv=False)[:r]
        # The last term: a part of b outside meets a row space that is known to u‖G‖/s_r only.
        terms = 2 * np.linalg.norm(G @ x) / s[-1] ** 2, np.linalg.norm(x) / s[-1], np.linalg.norm(b) / s[-1] ** 3
        bound = (N + P) * np.sqrt(P) * U * s[0] * sum(terms)
        assert solution.rank == r
        assert np.linalg.norm(solution.x - x) <= bound
        outside = np.linalg.norm(b - inside) / np.linalg.norm(b)
        assert abs(solution.outside - outside) <= (N + P) * np.sqrt(P) * U * s[0] / s[-1]
        # Moore–Penrose: F x is the projection of b, and x has no part in the null space.
        again = solve_minimum_norm(G, G.T @ (G @ solution.x))
        assert relative(again.x, solution.x) <= (N + P) * P * U * (s[0] / s[-1]) ** 2
        assert again.outside <= (N + P) * np.sqrt(P) * U * s[0] / s[-1]


def test_minimum_norm_projects_out_what_no_row_answers_to_and_says_how_much():
    solution = solve_minimum_norm(np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([8.0, 1.0, 3.0]))
    np.testing.assert_allclose(solution.x, [2.0, 1.0, 0.0], rtol=8 * U)
    assert solution.rank == 2
    assert solution.outside == pytest.approx(3 / np.sqrt(74), rel=8 * U)


def test_minimum_norm_of_zero_matrices_and_zero_vectors():
    nothing = solve_minimum_norm(np.zeros((2, 3)), np.array([0.0, 3.0, 4.0]))
    assert (nothing.rank, nothing.outside, nothing.x.tolist()) == (0, 1.0, [0.0, 0.0, 0.0])
    zero = solve_minimum_norm(np.eye(3), np.zeros(3))
    assert (zero.rank, zero.outside, zero.x.tolist()) == (3, 0.0, [0.0, 0.0, 0.0])


def test_rcond_is_relative_to_the_singular_values_of_the_rows():
    """1e-11 of the largest is kept, 1e-13 dropped, at every scale; relative to eigenvalues of F both would go."""
    for scale in (1e-100, 1.0, 1e100):
        assert solve_minimum_norm(scale * np.diag([1.0, 1e-11]), np.ones(2)).rank == 2
        assert solve_minimum_norm(scale * np.diag([1.0, 1e-13]), np.ones(2)).rank == 1
    assert solve_minimum_norm(np.diag([1.0, 1e-11]), np.ones(2), rcond=1e-10).rank == 1
    assert solve_minimum_norm(np.diag([1.0, 0.5]), np.ones(2), rcond=0.5).rank == 1  # the threshold itself is dropped


@pytest.mark.parametrize("seed", range(20))
def test_a_singular_matrix_is_refused_even_where_rounding_lets_it_factor(seed):
    """Rank 3 of 6; the smallest pivot is rounding of either sign."""
    G = np.random.default_rng(seed).normal(size=(3, 6))
    b = np.ones(6)
    with pytest.raises(ValueError, match=r"solve_cholesky: F \+ damping I is (not positive definite|singular)"):
        solve_cholesky(G.T @ G, b, 0.0)
    with pytest.raises(ValueError, match=r"solve_rows: GᵀG \+ damping I is singular to working precision"):
        solve_rows(G, b, 0.0)
    with pytest.raises(ValueError, match=r"solve_rows: GᵀG \+ damping I is singular to working precision"):
        solve_rows(np.vstack([G, G, G]), b, 0.0, factorization="svd")
    with pytest.raises(ValueError, match=r"solve_dual: gram \+ damping I is (not positive definite|singular)"):
        solve_dual(np.vstack([G, G]), b, 1e-300)


def test_the_smallest_damping_that_counts_is_accepted():
    """cond(GᵀG + λI) = 1e20, beyond Cholesky; cond of the stacked rows is 1e10, which the rows resolve."""
    G = np.array([[1.0, 1.0]])
    b = np.array([1.0, 2.0])
    x = exact_rows(G, b, 2e-20)
    assert np.linalg.norm(solve_rows(G, b, 2e-20) - x) <= rows_bound(G, 2e-20, x)
    with pytest.raises(ValueError, match="damping"):
        solve_cholesky(G.T @ G, b, 2e-20)


def test_what_counts_as_singular_does_not_depend_on_the_scale():
    """cond 4 is accepted and cond 1e18 refused, whatever the unit of F."""
    b = np.ones(2)
    for scale in (1e-100, 1.0, 1e100):
        for solve in (lambda s: solve_cholesky(np.diag(s**2), b, 0.0), lambda s: solve_rows(np.diag(s), b, 0.0)):
            s = np.sqrt(scale) * np.array([1.0, 2.0])
            np.testing.assert_allclose(solve(s), b / s**2, rtol=32 * U)  # P = 2, cond 4, a square and a root
        with pytest.raises(ValueError, match="singular to working precision"):
            solve_cholesky(scale * np.diag([1.0, 1e-18]), b, 0.0)
        with pytest.raises(ValueError, match="singular to working precision"):
            solve_rows(scale * np.diag([1.0, 1e-18]), b, 0.0)


OPERATOR = scipy.sparse.linalg.aslinearoperator(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
MATRIX, ROWS, RIGHT = np.eye(2), np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]), np.ones(2)


@pytest.mark.parametrize(
    ("solve", "message"),
    [
        (lambda: solve_cholesky(MATRIX, RIGHT, -0.1), "solve_cholesky: damping is -0.1, expected a number >= 0"),
        (lambda: solve_rows(ROWS, RIGHT, -0.1), "solve_rows: damping is -0.1, expected a number >= 0"),
        (lambda: solve_dual(ROWS, RIGHT, 0.0), "solve_dual: damping is 0.0, expected a number > 0"),
        (lambda: solve_cholesky(MATRIX, RIGHT, np.nan), "solve_cholesky: damping is nan"),
        (lambda: solve_cholesky(ROWS, RIGHT, 1.0), r"solve_cholesky: F has shape \(3, 2\), expected \(P, P\)"),
        (lambda: solve_cholesky(MATRIX, np.ones(3), 1.0), r"solve_cholesky: b has shape \(3,\), expected \(P,\)"),
        (lambda: solve_rows(ROWS, np.ones(3), 1.0), r"solve_rows: b has shape \(3,\), expected \(P,\)"),
        (lambda: solve_dual(ROWS, np.ones(3), 1.0), r"solve_dual: b has shape \(3,\), expected \(P,\)"),
        (lambda: solve_minimum_norm(ROWS, np.ones(3)), r"solve_minimum_norm: b has shape \(3,\), expected \(P,\)"),
        (lambda: solve_cholesky(MATRIX, RIGHT * np.nan, 1.0), "solve_cholesky: b holds NaN or infinity"),
        (lambda: solve_cholesky([[1.0, np.inf], [np.inf, 1.0]], RIGHT, 1.0), "solve_cholesky: F holds NaN or infinity"),
        (lambda: solve_rows(ROWS * np.nan, RIGHT, 1.0), "solve_rows: G holds NaN or infinity"),
        (lambda: solve_dual(ROWS * np.nan, RIGHT, 1.0), "solve_dual: G holds NaN or infinity"),
        (lambda: solve_minimum_norm(ROWS, RIGHT * np.nan), "solve_minimum_norm: b holds NaN or infinity"),
        (lambda: solve_cholesky([[1.0, 2.0], [0.0, 9.0]], RIGHT, 1.0), "solve_cholesky: F is not symmetric"),
        (lambda: solve_cholesky([[1.0, 2.0], [2.0, 1.0]], RIGHT, 0.5), "F .* not positive definite .*damping = 0.5"),
        (lambda: solve_cholesky(-MATRIX, RIGHT, 0.0), "solve_cholesky: F .* is not positive definite"),
        (lambda: solve_dual(ROWS, RIGHT, 1.0, MATRIX), r"solve_dual: gram has shape \(2, 2\), expected \(N, N\)"),
        (lambda: solve_dual(OPERATOR, RIGHT, 1.0), "solve_dual: gram has dtype object"),
        (
            lambda: solve_dual(OPERATOR, RIGHT, 1.0, MATRIX),
            r"solve_dual: G has shape \(3, 2\), expected \(2, 2\), as gram and b say",
        ),
        (lambda: solve_dual(ROWS, RIGHT, 1.0, np.tri(3)), "solve_dual: gram is not symmetric"),
        (lambda: solve_dual(ROWS, RIGHT, 1.0, -9 * np.eye(3)), "solve_dual: gram .* is not positive definite"),
        (lambda: solve_rows(ROWS, RIGHT, 1.0, factorization="lu"), "solve_rows: factorization is 'lu'"),
        (lambda: solve_rows(ROWS + 0j, RIGHT, 1.0), "solve_rows: G has dtype complex128, expected real numbers"),
        (lambda: solve_rows(ROWS, RIGHT.astype(np.float32), 1.0), "solve_rows: the dtypes are G float64, b float32"),
        (lambda: solve_rows(ROWS.astype(np.longdouble), RIGHT.astype(np.longdouble), 1.0), "expected all float64 or"),
        (lambda: solve_minimum_norm(ROWS, RIGHT, rcond=0.0), "rcond is 0.0, expected a number >= 2.2"),
        (lambda: solve_minimum_norm(ROWS, RIGHT, rcond=1.0), "solve_minimum_norm: rcond is 1.0"),
        (
            lambda: solve_minimum_norm(ROWS.astype(np.float32), RIGHT.astype(np.float32), rcond=1e-12),
            "solve_minimum_norm: rcond is 1e-12, expected a number >= 1.19",
        ),
    ],
)
def test_direct_forms_refuse(solve, message):
    with pytest.raises(ValueError, match=message):
        solve()


def test_asymmetry_is_refused_above_half_of_the_digits_and_below_that_the_lower_triangle_is_read():
    """√u · 9 = 9.5e-8 lies between the two asymmetries."""
    b = np.array([1.0, 2.0])
    lower = solve_cholesky([[1.0, 2.5], [2.5, 9.0]], b, 1.0)
    np.testing.assert_array_equal(solve_cholesky([[1.0, 2.5 + 9e-8], [2.5, 9.0]], b, 1.0), lower)
    with pytest.raises(ValueError, match=r"solve_cholesky: F is not symmetric \(largest \|F − Fᵀ\| 1.0e-07"):
        solve_cholesky([[1.0, 2.5 + 1e-7], [2.5, 9.0]], b, 1.0)


@pytest.mark.parametrize("order", ["C", "F"])
def test_direct_forms_write_to_nothing_they_are_given(order):
    G, b = problem(9, 9, "generic")
    arrays = {"F": G.T @ G, "G": G, "b": b, "gram": G @ G.T}
    arrays = {name: np.array(array, order=order) for name, array in arrays.items()}
    before = {name: array.copy() for name, array in arrays.items()}
    F, G, b, gram = arrays.values()
    for _ in range(2):  # writable, then read-only
        results = [
            solve_cholesky(F, b, 0.5),
            solve_rows(G, b, 0.5),
            solve_rows(G, b, 0.5, factorization="svd"),
            solve_dual(G, b, 0.5),
            solve_dual(G, b, 0.5, gram),
            solve_minimum_norm(G, b).x,
        ]
        for array in arrays.values():
            array.setflags(write=False)
            assert not any(np.shares_memory(array, result) for result in results)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_float32_stays_float32():
    """cond ≤ 101, P = 6: 4P(3P + 1)·2⁻²⁴·101 = 3e-3 at worst; 100 roundings is what a random walk of them gives."""
    generator = np.random.default_rng(30)
    G = rows_with(generator, 10, 6, np.geomspace(1, 0.1, 6)).astype(np.float32)
    b = generator.normal(size=6).astype(np.float32)
    x = exact_rows(G, b, 0.01)
    for form, solve in forms(G).items():
        assert solve(b, 0.01).dtype == np.float32, form
        assert relative(solve(b, 0.01), x) <= 4 * 6 * 19 * 2.0**-24 * 101
    solution = solve_minimum_norm(G, b)
    assert solution.x.dtype == np.float32
    assert solution.rank == 6
    assert solve_minimum_norm(np.diag([1.0, 2.0**-12]).astype(np.float32), np.ones(2, np.float32)).rank == 1


def test_repeated_calls_agree_bit_for_bit():
    G, b = problem(20, 8, "generic")
    F = G.T @ G
    calls = [
        lambda: solve_cholesky(F, b, 1e-3),
        lambda: solve_rows(G, b, 1e-3),
        lambda: solve_rows(G, b, 1e-3, factorization="svd"),
        lambda: solve_dual(G, b, 1e-3),
        lambda: solve_minimum_norm(G, b).x,
        lambda: conjugate_gradient(lambda v: F @ v + 1e-3 * v, b, iterations=15, trace=True).iterates,
    ]
    for call in calls:
        assert call().tobytes() == call().tobytes()


# Backtracking.


@pytest.mark.parametrize(
    ("largest", "accepted", "reason"),
    [
        (1.0, 0, SearchEnding.FULL_STEP_ACCEPTED),
        (0.125, 3, SearchEnding.SHORTER_STEP_ACCEPTED),
        (0.0625, 4, SearchEnding.SHORTER_STEP_ACCEPTED),
        (0.0624, -1, SearchEnding.NONE_ACCEPTED),
    ],
)
def test_backtracking_takes_the_first_candidate_accepted_and_tries_no_other(largest, accepted, reason):
    calls = []

    def evaluate(scale):
        calls.append(scale)
        return scale <= largest, f"at {scale}"

    result = backtracking(evaluate, backtrack=0.5, max_backtracks=5)
    tried = [1.0, 0.5, 0.25, 0.125, 0.0625][: accepted + 1 if accepted >= 0 else 5]
    assert calls == tried
    assert result.tried == tuple(f"at {scale}" for scale in tried)
    assert (result.accepted, result.reason) == (accepted, reason)
    assert result.scale == (tried[-1] if accepted >= 0 else 0.0)


def test_backtracking_scales_are_powers_and_do_not_drift():
    result = backtracking(lambda scale: (False, scale), backtrack=0.8, max_backtracks=15)
    for j, scale in enumerate(result.tried):
        # pow is within one unit of rounding of the exact power of the float 0.8; a running product drifts
        assert abs(Fraction(scale) - Fraction(0.8) ** j) <= 2 * U * Fraction(0.8) ** j
    assert backtracking(lambda scale: (False, scale), backtrack=0.8, max_backtracks=1).tried == (1.0,)


def test_backtracking_accepts_numpy_booleans_and_rejects_comparisons_with_nan():
    result = backtracking(lambda scale: (np.float64("nan") > 0, scale), backtrack=0.5, max_backtracks=2)
    assert result.reason is SearchEnding.NONE_ACCEPTED
    assert backtracking(lambda scale: (np.True_, None), backtrack=0.5, max_backtracks=2).accepted == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backtrack": 0.0}, "backtracking: backtrack is 0.0"),
        ({"backtrack": 1.0}, "backtracking: backtrack is 1.0"),
        ({"max_backtracks": 0}, "backtracking: max_backtracks is 0, expected an integer >= 1"),
        ({"evaluate": lambda scale: True}, r"backtracking: evaluate\(1.0\) is True, expected a pair"),
        ({"evaluate": lambda scale: (np.nan, 0)}, r"backtracking: evaluate\(1.0\) is \(nan, 0\), expected a pair"),
    ],
)
def test_backtracking_refuses(change, message):
    arguments = {"evaluate": lambda scale: (True, scale), "backtrack": 0.5, "max_backtracks": 3} | change
    with pytest.raises(ValueError, match=message):
        backtracking(arguments.pop("evaluate"), **arguments)
