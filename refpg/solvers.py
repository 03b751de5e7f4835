"""Linear systems (F + λI) x = b with a Fisher matrix F = GᵀG, and the search along the solution.

F is (P, P), symmetric and positive *semi*-definite.  G is (N, P), its rows those of every state's Fisher
root, N = B K.  u is the unit roundoff of the dtype and cond the condition number of F + λI::

    which                 needs      costs            relative error    use it
    solve_rows            G, λ       (N + P) P²       about √cond u     as the reference: the most exact
    solve_dual            G, λ > 0   N² (P + N)       about √cond u     when rows are fewer than parameters
    solve_cholesky        F, λ       P³               about cond u      when only F is at hand
    solve_minimum_norm    G          N P min(N, P)    about √cond u     undamped, F singular: F⁺b, the rank
    conjugate_gradient    v → Fv     k products       that of k steps   to reproduce TRPO; if P is too large

Forming F = GᵀG is what loses the digits of the Cholesky form, not the factorisation: the rounding of F moves
a small eigenvalue by u‖F‖, whereas the rounding of G moves a small singular value by u‖G‖ = u√‖F‖.

`backtracking` is the search along a line, which knows nothing of what it searches.  Every iteration that can
end in more than one way says in `reason` how it did.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator

from refpg.notation import Array, bind_shapes, choice, count, finite_results, scalar
from refpg.rows import row_parts

Value = TypeVar("Value")


class CGEnding(Enum):
    """How `conjugate_gradient` ended."""

    CONVERGED = "converged: the residual ‖b − Ax‖ is at most tolerance × ‖b‖"
    ROUNDING_REACHED = (
        "rounding reached: x solves a system that differs from the given one by no more than rounding, "
        "so a further step would follow rounding errors and a smaller tolerance cannot be met"
    )
    ITERATIONS_EXHAUSTED = (
        "iterations exhausted: the residual is still above tolerance × ‖b‖; "
        "allow more iterations or add damping, which lowers the condition number"
    )
    NON_POSITIVE_CURVATURE = (
        "non-positive curvature: pᵀAp is not positive beyond its own rounding error, so A is singular or "
        "indefinite along p; x is the last iterate before it; add damping, or use solve_minimum_norm"
    )
    ZERO_RIGHT_HAND_SIDE = "zero right-hand side: x = 0 is exact and no product was taken; is the gradient really zero?"


class SearchEnding(Enum):
    """How `backtracking` ended."""

    FULL_STEP_ACCEPTED = "full step accepted: the first candidate, at scale 1, was accepted"
    SHORTER_STEP_ACCEPTED = "shorter step accepted: the full step was rejected and a later candidate accepted"
    NONE_ACCEPTED = "none accepted: every candidate was rejected; the scale is 0, the starting point stands"


class CGResult(NamedTuple):
    """What `conjugate_gradient` did in k iterations.

    Fields: ``x`` (P,) the last iterate; ``residual_norms`` (k + 1,) ‖r_0‖ … ‖r_k‖ of the recurrence, in the
    units of b; ``reason`` the ending; ``alphas`` (k,) the step lengths; ``betas`` (k,) the ratios
    ‖r_{j+1}‖²/‖r_j‖²; ``iterates`` (k + 1, P) x_0 … x_k if they were asked for, else None; ``residual`` (P,)
    the recurrence's r_k = b − Ax_k, so that Ax_k is ``b - residual`` without another product.
    """

    x: Array
    residual_norms: Array
    reason: CGEnding
    alphas: Array
    betas: Array
    iterates: Array | None
    residual: Array


class _Stop(NamedTuple):
    """When conjugate gradients stop: ``tolerance``, ``threshold`` and ``minimum`` of `conjugate_gradient`."""

    tolerance: float
    threshold: float
    minimum: int


class MinimumNorm(NamedTuple):
    """The minimum-norm solution.

    Fields: ``x`` (P,) the solution F⁺b; ``rank`` of G, which is that of F; ``outside`` ‖b − F F⁺b‖/‖b‖, the
    relative norm of the part of b outside the row space of G, which x does not answer to (rounding, if b is a
    combination of rows).
    """

    x: Array
    rank: int
    outside: float


class Backtracking(NamedTuple, Generic[Value]):
    """What `backtracking` did.

    Fields: ``accepted`` the index j of the accepted candidate, −1 if none; ``scale`` backtrackʲ, 0 if none;
    ``tried`` the values of the candidates 0 … j in order, rejected ones included; ``reason`` the ending.
    """

    accepted: int
    scale: float
    tried: tuple[Value, ...]
    reason: SearchEnding


@finite_results
def conjugate_gradient(
    product: Callable[[Array], Any],
    b: Any,
    *,
    iterations: int,
    tolerance: float = 0.0,
    threshold: float = 0.0,
    minimum: int = 0,
    start: Any = None,
    trace: bool = False,
) -> CGResult:
    """Solve A x = b by conjugate gradients, from products with A alone.

    ::

        r_0 = b − A x_0,  p_0 = r_0
        α_j = ‖r_j‖² / p_jᵀA p_j
        x_{j+1} = x_j + α_j p_j
        r_{j+1} = r_j − α_j A p_j
        β_j = ‖r_{j+1}‖² / ‖r_j‖²
        p_{j+1} = r_{j+1} + β_j p_j

    x_k minimises ½xᵀAx − bᵀx over x_0 + span(r_0, A r_0, …, A^{k−1} r_0).  In exact arithmetic it is the
    solution after as many iterations as A has distinct eigenvalues with a component in r_0, at most P; before
    that, ‖x_k − x‖_A ≤ 2((√cond − 1)/(√cond + 1))ᵏ ‖x_0 − x‖_A.

    Use it to reproduce TRPO, or when P is too large for a direct form.  At small damping it needs hundreds of
    iterations to be exact: for the exact natural gradient use `solve_rows` or `solve_dual`.

    Parameters
    ----------
    product : callable
        v (P,) → A v (P,), A symmetric and positive definite, damping included.  It is handed a copy, so it
        may overwrite its argument, and its result is read before the next call, so it may reuse it.  It must
        be linear.
    b : (P,) array
        The right-hand side; real, any precision.  Never written to.
    iterations : int
        The largest number of iterations, ≥ 0; one product each.  TRPO uses 10.
    tolerance : float
        The stop rule: ‖r_j‖ ≤ tolerance · ‖b‖, relative, tested before every iteration and after the last.
    threshold : float
        Another, absolute: ‖r_j‖ < threshold, in units of b.  What it does depends on the scale of b.
    minimum : int
        The number of iterations made whatever ``threshold`` says, ≥ 0.
    start : (P,) array, optional
        x_0, in the dtype of b; 0 unless given.  One more product if given.
    trace : bool
        Whether to keep the iterates.

    Returns
    -------
    CGResult
        x, how it ended, and the trace.  x shares no memory with b or ``start`` and is in the dtype of b.

    Raises
    ------
    ValueError
        If a shape disagrees, an argument or a product holds NaN or infinity, or a product changes the dtype.

    Notes
    -----
    Convention: r is the residual of the recurrence, which drifts from b − Ax by rounding.

    Convention: neither rule stops unless it is asked to.  Most implementations of TRPO stop after an iteration
    that leaves rᵀr < 1e-10, ``threshold=1e-5, minimum=1``; stable-baselines3-contrib also before the first one,
    ``threshold=1e-5``.

    Convention: p has non-positive curvature if pᵀAp ≤ P u ‖A‖ ‖p‖², the bound on the rounding error of that
    inner product: its sign is then not known.  Rounding is reached if ‖r‖ ≤ √P u (‖A‖ ‖x‖ + ‖b‖): the
    normwise backward error of x is that of a product of length P.  In both, ‖A‖ is the largest ‖Ap‖/‖p‖ seen.
    Without the second rule, ``tolerance=0`` on a singular A would multiply rounding errors into x along its
    null space.

    Convention: b is scaled by a power of two to magnitude 1, and x scaled back.  No digit changes, and no
    inner product can underflow to 0 or overflow because the gradient is tiny or huge.

    If A is singular and b lies in its range, x converges to the minimum-norm solution (from x_0 = 0).  If b
    lies partly outside, the iterates grow without limit: expect `CGEnding.NON_POSITIVE_CURVATURE`, and use
    `solve_minimum_norm`.

    Differs from ``scipy.sparse.linalg.cg``, whose iterates it otherwise shares to rounding, in that

    1. A is a function v → A v, real; there is no preconditioner;
    2. the number of iterations must be said (SciPy: 10 P);
    3. it stops at ‖r‖ ≤ tolerance ‖b‖, default 0 (SciPy: strictly below max(rtol ‖b‖, atol), default rtol
       1e-5);
    4. the last iterate is tested too (SciPy reports failure if the last iteration allowed is the one that
       converges);
    5. pᵀAp is tested before it divides (SciPy divides by it even if it is zero or negative, and may return
       NaN or an answer for an indefinite matrix without saying so);
    6. it stops when rounding is reached (SciPy with rtol 0 goes on to 0/0);
    7. b = 0 gives a fresh x = 0 (SciPy returns b itself), and ‖b‖ cannot overflow;
    8. longdouble stays longdouble (SciPy computes in float64);
    9. the ending is named, and iterates, residual norms, α and β are returned (SciPy: an integer and a
       callback).

    References
    ----------
    [TRPO App. C]

    Examples
    --------
    One distinct eigenvalue, one iteration:

    >>> import numpy as np
    >>> result = conjugate_gradient(lambda v: 4 * v, np.array([2.0, 8.0]), iterations=10)
    >>> result.x, result.alphas, result.reason.name
    (array([0.5, 2. ]), array([0.25]), 'CONVERGED')
    """
    function = "conjugate_gradient"
    if not callable(product):
        raise ValueError(
            f"{function}: product is of type {type(product).__name__}, expected a function v → A v, "
            "such as matrix.__matmul__"
        )
    (b,) = _real(function, {}, b=(b, "P"))
    iterations = count(function, "iterations", iterations, least=0)
    tolerance = scalar(function, "tolerance", tolerance, least=0)
    threshold = scalar(function, "threshold", threshold, least=0)
    minimum = count(function, "minimum", minimum, least=0)
    x = np.zeros_like(b)
    if start is not None:
        (x,) = _real(function, {"P": b.size}, start=(start, "P"))
        _same_dtype(function, "start", x, b)

    if not b.any():
        return CGResult(
            x=np.zeros_like(b),
            residual_norms=np.zeros(1, b.dtype),
            reason=CGEnding.ZERO_RIGHT_HAND_SIDE,
            alphas=np.zeros(0, b.dtype),
            betas=np.zeros(0, b.dtype),
            iterates=np.zeros((1, b.size), b.dtype) if trace else None,
            residual=np.zeros_like(b),
        )

    def checked(v: Array) -> Array:
        (Av,) = _real(function, {"P": b.size}, **{"product(v)": (product(v.copy()), "P")})
        _same_dtype(function, "product(v)", Av, b)
        return Av

    _, exponent = np.frexp(np.abs(b).max())
    b, x = np.ldexp(b, -exponent), np.ldexp(x, -exponent)
    with np.errstate(over="ignore"):  # infinity is right: every residual is smaller
        stop = _Stop(tolerance, float(np.ldexp(threshold, -exponent)), minimum)
    r = b if start is None else b - checked(x)
    result = _iterate(checked, b, x, r, iterations, stop, trace)
    return result._replace(
        x=np.ldexp(result.x, exponent),
        residual_norms=np.ldexp(result.residual_norms, exponent),
        iterates=None if result.iterates is None else np.ldexp(result.iterates, exponent),
        residual=np.ldexp(result.residual, exponent),
    )


def _iterate(
    product: Callable[[Array], Array],
    b: Array,
    x: Array,
    r: Array,
    iterations: int,
    stop: _Stop,
    trace: bool,
) -> CGResult:
    """Run the recurrences of `conjugate_gradient`; nothing is updated in place, so nothing can be aliased."""
    norm = np.linalg.norm
    P, u = b.size, _roundoff(b)

    p, rr, norm_b = r, r @ r, norm(b)
    norm_A = b.dtype.type(0)  # the largest ‖Ap‖/‖p‖ seen, a lower bound of ‖A‖
    residual_norms, iterates = [np.sqrt(rr)], [x]
    alphas: list[Any] = []
    betas: list[Any] = []

    while True:
        if residual_norms[-1] <= stop.tolerance * norm_b:
            reason = CGEnding.CONVERGED
            break
        if len(alphas) >= stop.minimum and residual_norms[-1] < stop.threshold:
            reason = CGEnding.CONVERGED
            break
        if residual_norms[-1] <= np.sqrt(P) * u * (norm_A * norm(x) + norm_b):
            reason = CGEnding.ROUNDING_REACHED
            break
        if len(alphas) == iterations:
            reason = CGEnding.ITERATIONS_EXHAUSTED
            break

        Ap = product(p)
        pAp, pp = p @ Ap, p @ p
        norm_A = max(norm_A, norm(Ap) / np.sqrt(pp))
        if pAp <= P * u * norm_A * pp:
            reason = CGEnding.NON_POSITIVE_CURVATURE
            break

        alpha = rr / pAp
        x = x + alpha * p
        r = r - alpha * Ap
        rr, rr_before = r @ r, rr
        beta = rr / rr_before
        p = r + beta * p

        residual_norms.append(np.sqrt(rr))
        alphas.append(alpha)
        betas.append(beta)
        if trace:
            iterates.append(x)

    return CGResult(
        x,
        np.array(residual_norms, b.dtype),
        reason,
        np.array(alphas, b.dtype),
        np.array(betas, b.dtype),
        np.array(iterates) if trace else None,
        r,
    )


@finite_results
def solve_cholesky(F: Any, b: Any, damping: float) -> Array:
    """Solve the damped system with the matrix at hand, by its Cholesky factor.

    ::

        F + λI = L Lᵀ
        x = L⁻ᵀ L⁻¹ b

    Use it when F is at hand and the condition number is moderate: x is as exact as F is, with a relative
    error of about cond · u.  If the rows G of F = GᵀG are at hand, `solve_rows` is about √cond more exact,
    and P > N calls for `solve_dual`.  It does not refine: a residual taken through the rounded F cannot see
    the rounding of F.

    Parameters
    ----------
    F : (P, P) array
        Symmetric, positive semi-definite; undamped.  float32 or float64.
    b : (P,) array
        The right-hand side.
    damping : float
        λ ≥ 0.  It may be 0 only if F itself is positive definite.

    Returns
    -------
    (P,) array
        x = (F + λI)⁻¹ b, in the units of b over those of F.

    Raises
    ------
    ValueError
        If F is not symmetric (by more than half of its digits), or F + λI is not positive definite or is
        singular to working precision: its reciprocal condition number is at most P u, within the factor's own
        error.

    Notes
    -----
    Convention: asymmetry by rounding is accepted and the lower triangle read.  The damping is absolute, not a
    multiple of the trace or of the diagonal.

    References
    ----------
    [TRPO (17)], [K01]

    Examples
    --------
    >>> import numpy as np
    >>> solve_cholesky(np.diag([3.0, 0.0]), np.array([8.0, 2.0]), damping=1.0)
    array([2., 2.])
    """
    function = "solve_cholesky"
    F, b = _single_or_double(function, F=(F, "P P"), b=(b, "P"))
    damping = scalar(function, "damping", damping, least=0)
    U = _cholesky(function, "F", F, damping)
    x: Array = scipy.linalg.cho_solve((U, False), b, check_finite=False)
    return x


@finite_results
def solve_rows(G: Any, b: Any, damping: float, *, factorization: str = "qr") -> Array:
    """Solve the damped system through the rows of F = GᵀG, without forming F.

    ::

        [G; √λ I] = Q R                    (N + P, P) = (N + P, P) (P, P)
        GᵀG + λI = RᵀR
        x = R⁻¹ R⁻ᵀ b                      factorization "qr"
        x = V S⁻² Vᵀ b,   R = U S Vᵀ       factorization "svd"

    R is the Cholesky factor of F + λI, found without squaring: a small singular value s of G is known to u‖G‖
    where the Cholesky factorisation knows s² to u‖G‖².  The relative error is about √cond · u for a generic
    b.

    Use it as the reference.  "qr" and "svd" are two routes to the same digits; "qr" is the faster.  With
    fewer rows than parameters `solve_dual` is faster than either.

    Parameters
    ----------
    G : (N, P) array
        Rows with F = GᵀG, weights included.  float32 or float64.
    b : (P,) array
        The right-hand side; it need not lie in the row space of G.
    damping : float
        λ ≥ 0.  It may be 0 only if G has full column rank.
    factorization : {"qr", "svd"}
        How R is inverted.

    Returns
    -------
    (P,) array
        x = (GᵀG + λI)⁻¹ b.

    Raises
    ------
    ValueError
        If GᵀG + λI is singular to working precision: the reciprocal condition number of R is at most (N + P)
        u.

    Notes
    -----
    Convention: no step of iterative refinement is taken; measured, it gained less than a factor of 5, mostly of 2.

    References
    ----------
    [TRPO (17)], [K01]

    Examples
    --------
    >>> import numpy as np
    >>> solve_rows(np.array([[3.0, 0.0]]), np.array([50.0, 32.0]), damping=16.0)
    array([2., 2.])
    """
    function = "solve_rows"
    G, b = _single_or_double(function, G=(G, "N P"), b=(b, "P"))
    damping = scalar(function, "damping", damping, least=0)
    choice(function, "factorization", factorization, ("qr", "svd"))
    N, P = G.shape
    stacked = np.vstack([G, np.sqrt(damping).astype(G.dtype) * np.eye(P, dtype=G.dtype)])
    R: Array = scipy.linalg.qr(stacked, mode="r", check_finite=False)[0][:P]

    # R is known to (N + P) u ‖R‖, so RᵀR is singular to working precision at the square of that.
    least = ((N + P) * _roundoff(G)) ** 2
    _refuse_singular(function, "GᵀG", R, float(np.linalg.norm(R)) ** 2, damping, least=least)
    x: Array
    if factorization == "qr":
        x = scipy.linalg.cho_solve((R, False), b, check_finite=False)
    else:
        _, S, Vt = scipy.linalg.svd(R, check_finite=False)
        x = Vt.T @ (Vt @ b / S / S)
    return x


@finite_results
def solve_dual(G: Any, b: Any, damping: float, gram: Any = None) -> Array:
    """Solve the damped system in the space of rows, the push-through form.

    ::

        z = (GGᵀ + λI)⁻¹ G b               (N,)
        x = (b − Gᵀz) / λ

        (GᵀG + λI)⁻¹ = (I − Gᵀ(GGᵀ + λI)⁻¹G) / λ      because Gᵀ(GGᵀ + λI) = (GᵀG + λI)Gᵀ

    and then one step of refinement, its residual taken through G::

        r = b − λx − Gᵀ(G x)
        x ← x + (r − Gᵀ(GGᵀ + λI)⁻¹ G r) / λ

    Use it when rows are fewer than parameters (N < P): the factorisation is (N, N), and nothing (P, P) is
    formed.  With many rows use `solve_rows` or `solve_cholesky`.

    Parameters
    ----------
    G : (N, P) array, or scipy.sparse.linalg.LinearOperator
        Rows with F = GᵀG, weights included.  float32 or float64.  An operator, such as
        `refpg.geometry.fisher_rows_operator`, needs ``gram``: then no array of P columns is formed.
    b : (P,) array
        The right-hand side; it need not lie in the row space of G.
    damping : float
        λ > 0.
    gram : (N, N) array, optional
        GGᵀ, if it is known more cheaply than by this product; `refpg.geometry.fisher_gram` forms it without
        G.

    Returns
    -------
    (P,) array
        x = (GᵀG + λI)⁻¹ b.

    Raises
    ------
    ValueError
        If the damping is not positive; if ``gram`` is not symmetric, or missing beside an operator; or if
        GGᵀ + λI is singular to working precision.

    Notes
    -----
    It loses digits when ‖G‖² is much larger than λ: on the row space b − Gᵀz is a difference of nearly equal
    vectors and the rounding of GGᵀ counts as in the Cholesky form, so without the refinement the relative
    error is about cond · u.  One step multiplies the error by cond · u again, which leaves about √cond · u +
    (cond · u)²: as exact as `solve_rows` until cond nears 4e10 in float64.  The step is worth it because its
    residual never sees GGᵀ.

    Convention: exactly one step is taken, always.

    References
    ----------
    [TRPO (17)], [K01]

    Examples
    --------
    >>> import numpy as np
    >>> solve_dual(np.array([[3.0, 0.0]]), np.array([50.0, 32.0]), damping=16.0)
    array([2., 2.])
    """
    function = "solve_dual"
    damping = scalar(function, "damping", damping, above=0)
    if isinstance(G, LinearOperator):
        b, gram = _single_or_double(function, b=(b, "P"), gram=(gram, "N N"))
        if G.shape != (len(gram), len(b)):
            raise ValueError(f"{function}: G has shape {G.shape}, expected {(len(gram), len(b))}, as gram and b say")
    elif gram is None:
        G, b = _single_or_double(function, G=(G, "N P"), b=(b, "P"))
        gram = G @ G.T
    else:
        G, b, gram = _single_or_double(function, G=(G, "N P"), b=(b, "P"), gram=(gram, "N N"))
    U = _cholesky(function, "gram", gram, damping)

    def push_through(v: Array) -> Array:
        z = scipy.linalg.cho_solve((U, False), G @ v, check_finite=False)
        pushed: Array = (v - G.T @ z) / damping
        return pushed

    x = push_through(b)
    r = b - damping * x - G.T @ (G @ x)
    return x + push_through(r)


@finite_results
def solve_minimum_norm(G: Any, b: Any, *, rcond: float | None = None) -> MinimumNorm:
    """Solve the undamped, possibly singular system: the least-squares solution of smallest norm.

    ::

        G = U S Vᵀ,  singular values s_i > rcond · max s kept
        x = V S⁻² Vᵀ b = F⁺ b
        outside = ‖b − V Vᵀ b‖ / ‖b‖

    Of all minimisers of ‖F x − b‖, x is the one of smallest norm.  It is the limit of the damped solution as
    λ → 0 if b lies in the row space of G, as the gradient of a surrogate at θ_old does.  A part of b outside
    the row space is projected out, because no x answers to it; ``outside`` reports its relative norm.

    Use it for the undamped natural gradient, whose F is singular as soon as parameters are redundant (softmax
    logits always are), and to learn the rank.

    Parameters
    ----------
    G : (N, P) array
        Rows with F = GᵀG, weights included.  float32 or float64.
    b : (P,) array
        The right-hand side.
    rcond : float, optional
        Relative to the largest singular value of *G*; its square is relative to the largest eigenvalue of F.
        2¹² machine epsilons unless given, 9e-13 in float64: the rounding of a singular value that is exactly 0
        stays below it in matrices of a few thousand rows.  At least one machine epsilon.

    Returns
    -------
    MinimumNorm
        x, the rank, and ``outside``: dimensionless, 0 … 1, and 0 for b = 0.

    Raises
    ------
    ValueError
        If ``rcond`` is below the machine epsilon, or not below 1.

    References
    ----------
    [K01]

    Examples
    --------
    Two parameters that do the same thing share the step:

    >>> import numpy as np
    >>> solution = solve_minimum_norm(np.array([[2.0, 2.0]]), np.array([8.0, 8.0]))
    >>> solution.x.round(12), solution.rank, solution.outside < 1e-15
    (array([1., 1.]), 1, True)
    """
    function = "solve_minimum_norm"
    G, b = _single_or_double(function, G=(G, "N P"), b=(b, "P"))
    epsilon = float(np.finfo(G.dtype).eps)
    rcond = scalar(function, "rcond", 2**12 * epsilon if rcond is None else rcond, least=epsilon, below=1)

    _, S, Vt = scipy.linalg.svd(G, full_matrices=False, check_finite=False)
    rank = int(np.count_nonzero(rcond * S.max() < S))
    S, Vt = S[:rank], Vt[:rank]

    coordinates = Vt @ b
    x = Vt.T @ (coordinates / S / S)
    norm_b = np.linalg.norm(b)
    outside = np.linalg.norm(b - Vt.T @ coordinates) / norm_b if b.any() else 0.0
    return MinimumNorm(x, rank, float(outside))


def backtracking(
    evaluate: Callable[[float], tuple[bool, Value]], *, backtrack: float, max_backtracks: int
) -> Backtracking[Value]:
    """Try ever shorter steps until one is accepted.

    ::

        scale_j = backtrackʲ,   j = 0, 1, …, max_backtracks − 1
        accepted = the first j whose candidate is accepted, −1 if none is

    What is accepted is the caller's rule, and so is building the candidate: always start + scale_j · full
    step, from the starting point, never from the candidate before.

    Parameters
    ----------
    evaluate : callable
        scale → (whether the candidate is accepted, anything worth keeping about it).  Called in the order of
        j, and no further once a candidate is accepted.
    backtrack : float
        The factor between one candidate and the next, in (0, 1).
    max_backtracks : int
        The number of candidates, ≥ 1, the full step among them.

    Returns
    -------
    Backtracking
        The index accepted, its scale, the values tried, and the ending.  The scale is 0 if none is accepted,
        so that start + scale · full step is the starting point.

    Raises
    ------
    ValueError
        If ``evaluate`` does not answer with a pair whose first member is a bool.

    Notes
    -----
    Convention: the scale is the power backtrackʲ, not a running product; for ½ they are the same. NaN needs
    no rule of its own: a comparison with NaN is false, so a rule made of comparisons that must hold rejects
    it.

    References
    ----------
    [TRPO App. C]

    Examples
    --------
    >>> backtracking(lambda scale: (scale < 0.3, scale), backtrack=0.5, max_backtracks=10)[:3]
    (2, 0.25, (1.0, 0.5, 0.25))
    """
    function = "backtracking"
    backtrack = scalar(function, "backtrack", backtrack, above=0, below=1)
    max_backtracks = count(function, "max_backtracks", max_backtracks)

    tried: list[Value] = []
    for j in range(max_backtracks):
        scale = backtrack**j
        answer = evaluate(scale)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], bool | np.bool_)):
            raise ValueError(f"{function}: evaluate({scale!r}) is {answer!r}, expected a pair (bool, value)")
        accept, value = answer
        tried.append(value)
        if accept:
            reason = SearchEnding.SHORTER_STEP_ACCEPTED if j else SearchEnding.FULL_STEP_ACCEPTED
            return Backtracking(j, scale, tuple(tried), reason)
    return Backtracking(-1, 0.0, tuple(tried), SearchEnding.NONE_ACCEPTED)


def _roundoff(array: Array) -> float:
    """Return the unit roundoff u of an array's dtype, half of its machine epsilon."""
    return float(np.finfo(array.dtype).eps) / 2


def _real(function: str, sizes: dict[str, int], /, **arguments: tuple[Any, str]) -> tuple[Array, ...]:
    """Check shapes as `bind_shapes` does, and that no argument is complex: conjugation has no place here."""
    arrays = bind_shapes(function, sizes, **arguments)
    for name, array in zip(arguments, arrays, strict=True):
        if array.dtype.kind == "c":
            raise ValueError(f"{function}: {name} has dtype {array.dtype}, expected real numbers")
    return arrays


def _same_dtype(function: str, name: str, array: Array, b: Array) -> None:
    if array.dtype != b.dtype:
        raise ValueError(f"{function}: {name} has dtype {array.dtype}, expected {b.dtype}, that of b")


def _single_or_double(function: str, **arguments: tuple[Any, str]) -> tuple[Array, ...]:
    """Check arguments for LAPACK, which knows two real dtypes; all must have the same one."""
    arrays = _real(function, {}, **arguments)
    dtypes = {name: array.dtype for name, array in zip(arguments, arrays, strict=True)}
    if set(dtypes.values()) not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        given = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise ValueError(f"{function}: the dtypes are {given}, expected all float64 or all float32")
    return arrays


def _cholesky(function: str, name: str, matrix: Array, damping: float) -> Array:
    """Factor matrix + damping I = UᵀU, or say why it cannot be done; only the upper triangle holds U.

    The lower triangle of the matrix is read.  In LAPACK's order it is the upper one: there is nothing to transpose.
    """
    P = len(matrix)
    asymmetry, largest = _asymmetry(matrix)
    if asymmetry > np.sqrt(_roundoff(matrix)) * largest:  # more than half of the digits: that is not rounding
        raise ValueError(
            f"{function}: {name} is not symmetric (largest |{name} − {name}ᵀ| {asymmetry:.1e}, largest entry "
            f"{largest:.1e}), expected a symmetric matrix"
        )
    damped = np.array(matrix, order="C").T
    np.fill_diagonal(damped, np.diagonal(matrix) + damping)
    norm = float(scipy.linalg.norm(damped, 1, check_finite=False))
    try:
        U, _ = scipy.linalg.cho_factor(damped, lower=False, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"{function}: {name} + damping I is not positive definite (damping = {damping!r}), "
            f"expected a positive semi-definite {name} and enough damping"
        ) from None
    factor: Array = U
    # UᵀU is exact for a matrix within P u ‖A‖ of A.
    _refuse_singular(function, name, factor, norm, damping, least=P * _roundoff(matrix))
    return factor


def _asymmetry(matrix: Array) -> tuple[Any, Any]:
    """Return the largest |A − Aᵀ| and the largest |A|, some rows at a time: no other array has the size of A."""
    parts = [(matrix[rows], matrix[:, rows].T) for rows in row_parts(len(matrix))]
    return max(np.abs(a - a_T).max() for a, a_T in parts), max(np.abs(a).max() for a, _ in parts)


def _refuse_singular(function: str, name: str, factor: Array, norm: float, damping: float, *, least: float) -> None:
    """Estimate 1/(‖A‖ ‖A⁻¹‖) from ‖A‖ and A's upper Cholesky factor, and raise if it is at most ``least``."""
    (pocon,) = scipy.linalg.get_lapack_funcs(("pocon",), (factor,))
    reciprocal_condition, _ = pocon(factor, norm, uplo="U")
    if reciprocal_condition <= least:
        raise ValueError(
            f"{function}: {name} + damping I is singular to working precision (reciprocal condition number "
            f"{reciprocal_condition:.1e}, damping = {damping!r}), expected a larger damping; "
            "solve_minimum_norm solves the undamped system"
        )
