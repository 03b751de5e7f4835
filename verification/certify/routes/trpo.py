"""Second routes of the profile `trpo`: backpropagation by hand, quadrature, Krylov spaces, duals and limits."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from flint import arb, arb_mat, fmpq_mat

from verification.certify.balls import Undecided, dot, exact, precision, total
from verification.certify.routes import rationals
from verification.certify.routes.policies import (
    Inputs,
    Vector,
    backward,
    density,
    fisher_rows,
    forward,
    mean_divergence,
    mean_divergence_gradient,
    moved,
    net_of,
    product_of,
    score,
    structure,
    summed,
    vector_of,
    weighted_scores,
)

Conventions = dict[str, str]
Outputs = dict[str, Any]
Route = Callable[[Inputs, Conventions], Outputs]

KRYLOV_BITS = 1024  # powers of a matrix are nearly parallel; the solve loses twice the logarithm of their condition
LIMIT_BITS = 4096
VANISHING = 300  # λ = 2⁻³⁰⁰

# ── Network, surrogate, mean KL ─────────────────────────────────────────────────────────────────────────────────────


def network_forward_by_matrices(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Products of (h, 1) with [W; b], the activations in their hyperbolic and complementary forms."""
    net = net_of(inputs["network"], vector_of(inputs["network"]))
    return {"outputs": [forward(net, x).outputs for x in inputs["observations"]]}


def _gains(inputs: Inputs, theta: Vector, old: Vector) -> list[arb]:
    """A · π/π_old of every row, from densities."""
    net = net_of(inputs["policy"], theta)
    rows = zip(inputs["observations"], inputs["actions"], exact(inputs["advantages"]), old, strict=True)
    return [A * density(net, forward(net, x).outputs, a) / p for x, a, A, p in rows]


def surrogate_by_densities(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Mean of A π/π_old, π the product of the densities of the dimensions, or the softmax as written."""
    old = [p.exp() for p in exact(inputs["old_log_prob"])]
    gains = _gains(inputs, vector_of(inputs["policy"]), old)
    return {"surrogate": total(gains) / len(gains)}


def policy_gradient(policy: Inputs, inputs: Inputs, theta: Vector, weights: Callable[[Any, int], arb]) -> Vector:
    """Σ_b w_b ∇ log π(a_b|x_b) by hand; w_b is a function of the density of the row, and of b."""
    net = net_of(policy, theta)
    rows = []
    for b, (x, action) in enumerate(zip(inputs["observations"], inputs["actions"], strict=True)):
        row = forward(net, x)
        weight = weights(density(net, row.outputs, action), b)
        chosen = action if net.categorical else exact(action)
        outputs_bar, log_std_bar = ([weight * s for s in part] for part in score(net, row.outputs, chosen))
        rows.append(backward(net, row, outputs_bar, log_std_bar))
    return summed(rows)


def surrogate_gradient_by_hand(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Backpropagation by hand of r A times the score."""
    advantages, old = exact(inputs["advantages"]), exact(inputs["old_log_prob"])
    policy = inputs["policy"]
    g = policy_gradient(
        policy, inputs, vector_of(policy), lambda p, b: p / old[b].exp() * advantages[b] / len(advantages)
    )
    return {"gradient": structure(policy, g)}


def mean_kl_by_bregman(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The Bregman divergence of the log-normaliser, one formula for both families."""
    old, new = inputs["old_policy"], inputs["new_policy"]
    direction = conventions["kl.direction"]
    return {"mean_kl": mean_divergence(new, vector_of(old), vector_of(new), inputs["observations"], direction)}


def mean_kl_gradient_by_hand(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Backpropagation by hand of q − p and its like."""
    old, new = inputs["old_policy"], inputs["new_policy"]
    direction = conventions["kl.direction"]
    g = mean_divergence_gradient(new, vector_of(old), vector_of(new), inputs["observations"], direction)
    return {"gradient": structure(new, g)}


def mean_kl_hessian_vector_product_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Central difference, step 2⁻⁸⁰, of the gradient by hand."""
    old, new = vector_of(inputs["old_policy"]), vector_of(inputs["new_policy"])
    vector, step = vector_of(inputs["vector"]), arb(2) ** -80
    above, below = (
        mean_divergence_gradient(
            inputs["new_policy"],
            old,
            moved(new, sign * step, vector),
            inputs["observations"],
            conventions["kl.direction"],
        )
        for sign in (1, -1)
    )
    product = [(a - b) / (2 * step) for a, b in zip(above, below, strict=True)]
    return {"product": structure(inputs["new_policy"], product)}


# ── The Fisher matrix, and systems with it ──────────────────────────────────────────────────────────────────────────


def fisher_matrix_by_scores(inputs: Inputs, conventions: Conventions) -> Outputs:
    """E[ssᵀ] of the scores by hand, over all actions or by a quadrature that is exact."""
    policy = inputs["policy"]
    S = weighted_scores(policy, vector_of(policy), inputs["observations"])
    return {"fisher": (S.transpose() * S).tolist()}


def fisher_vector_product_by_rows(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Gᵀ(Gv) + λv with F = GᵀG, the rows by hand."""
    policy, v = inputs["policy"], vector_of(inputs["vector"])
    G = fisher_rows(policy, vector_of(policy), inputs["observations"])
    return {"product": structure(policy, moved(product_of(G.transpose(), product_of(G, v)), arb(inputs["damping"]), v))}


def _damped_matrix(policy: Inputs, observations: Any, damping: Any) -> arb_mat:
    G = fisher_rows(policy, vector_of(policy), observations)
    F = G.transpose() * G
    for i in range(F.nrows()):
        F[i, i] += arb(damping)
    return F


def krylov_minimiser(matrix: arb_mat, b: Vector, iterations: int) -> Vector:
    """argmin ½xᵀAx − bᵀx over the span of b, Ab, …, A^{k−1}b; 0 if b is 0."""
    if all(entry.is_zero() for entry in b):
        return b
    basis = [b]
    for _ in range(iterations - 1):
        basis.append(product_of(matrix, basis[-1]))
    K = arb_mat(basis).transpose()
    small = K.transpose() * (matrix * K)
    y = small.solve(K.transpose() * arb_mat([[entry] for entry in b]))
    return (K * y).entries()


def krylov_solution(conventions: Conventions, matrix: arb_mat, b: Vector, iterations: int) -> Vector:
    """The minimiser over the first Krylov space that leaves a residual small enough to stop at, or over the last."""
    rule = conventions["conjugate_gradient.stop"]
    if rule == "1e-10_from_start" and _small(b):
        return [arb(0) for _ in b]
    for k in range(1, iterations if rule != "never" else 1):
        x = krylov_minimiser(matrix, b, k)
        if _small(moved(b, arb(-1), product_of(matrix, x))):
            return x
    return krylov_minimiser(matrix, b, iterations)


def _small(r: Vector) -> bool:
    return _proven(dot(r, r) < arb(1e-10), dot(r, r) >= arb(1e-10))


def conjugate_gradient_by_krylov(inputs: Inputs, conventions: Conventions) -> Outputs:
    """argmin of ½xᵀAx − bᵀx over the span of b, Ab, …, A^{k−1}b, in exact rationals."""
    matrix = fmpq_mat([[rationals.quotient(entry) for entry in row] for row in inputs["matrix"]])
    b = fmpq_mat([[rationals.quotient(entry)] for entry in inputs["b"]])
    if not any(inputs["b"]):
        return {"x": exact(inputs["b"])}
    rule, small = conventions["conjugate_gradient.stop"], rationals.quotient(1e-10)
    power, basis, x = b, [], 0 * b
    for _ in range(inputs["iterations"]):
        r = b - matrix * x
        if (rule == "1e-10_from_start" or (rule == "1e-10" and basis)) and (r.transpose() * r)[0, 0] < small:
            break
        basis.append(power.entries())
        power = matrix * power
        K = fmpq_mat(basis).transpose()
        x = K * (K.transpose() * matrix * K).solve(K.transpose() * b)
    return {"x": [arb(entry.p) / arb(entry.q) for entry in x.entries()]}


def fisher_conjugate_gradient_by_krylov(inputs: Inputs, conventions: Conventions) -> Outputs:
    """argmin over the span of b, Ab, …, A^{k−1}b, A = GᵀG + λI by hand, at 1024 bits."""
    with precision(KRYLOV_BITS):
        A = _damped_matrix(inputs["policy"], inputs["observations"], inputs["damping"])
        x = krylov_solution(conventions, A, vector_of(inputs["b"]), inputs["iterations"])
    return {"x": structure(inputs["policy"], x)}


def _dual_solution(inputs: Inputs, g: Vector) -> Vector:
    """(GᵀG + λI)⁻¹ g = (g − Gᵀ(GGᵀ + λI)⁻¹Gg)/λ."""
    policy, damping = inputs["policy"], arb(inputs["damping"])
    G = fisher_rows(policy, vector_of(policy), inputs["observations"])
    gram = G * G.transpose()
    for i in range(gram.nrows()):
        gram[i, i] += damping
    y = gram.solve(G * arb_mat([[entry] for entry in g])).entries()
    return [(a - b) / damping for a, b in zip(g, product_of(G.transpose(), y), strict=True)]


def natural_gradient_by_dual(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The dual (push-through) form (g − Gᵀ(GGᵀ + λI)⁻¹Gg)/λ, F = GᵀG by hand."""
    return {"direction": structure(inputs["policy"], _dual_solution(inputs, vector_of(inputs["gradient"])))}


def _gradient_at_old(inputs: Inputs) -> Vector:
    """Mean of A times the score, the ratio being 1."""
    advantages = exact(inputs["advantages"])
    policy = inputs["policy"]
    return policy_gradient(policy, inputs, vector_of(policy), lambda p, b: advantages[b] / len(advantages))


def natural_gradient_minimum_norm_by_limit(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The limit of vanishing damping: (F + λI)⁻¹g at λ = 2⁻³⁰⁰, the rank as the trace of (F + λI)⁻¹F."""
    with precision(LIMIT_BITS):
        damping = arb(2) ** -VANISHING
        policy = inputs["policy"]
        S = weighted_scores(policy, vector_of(policy), inputs["observations"])
        F = S.transpose() * S
        damped = arb_mat(F)
        for i in range(F.nrows()):
            damped[i, i] += damping
        inverse = damped.inv()
        x = product_of(inverse, _gradient_at_old(inputs))
        effective = (inverse * F).trace()
        rank = round(float(effective.mid()))
        if not abs(effective - rank) < arb(2) ** -64:
            raise Undecided(f"is the rank {effective}?")
    return {"direction": structure(policy, x), "rank": rank}


# ── Steps ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def step_length_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The quadratic form in exact rationals, its root by integers."""
    x, product = rationals.fractions(inputs["direction"]), rationals.fractions(inputs["product"])
    form = sum((a * b for a, b in zip(x, product, strict=True)), Fraction(float(conventions["step_length.epsilon"])))
    return {"step_length": rationals.ball(rationals.root(2 * Fraction(inputs["max_kl"]) / form))}


def natural_gradient_step_by_dual(inputs: Inputs, conventions: Conventions) -> Outputs:
    """x in the dual form, as long as √(2δ/gᵀx), or √(2δ/(gᵀx − λxᵀx)) undamped: no product with F."""
    g = vector_of(inputs["gradient"])
    x = _dual_solution(inputs, g)
    form = dot(g, x)
    if conventions["step_length.damping"] == "undamped":
        form = form - arb(inputs["damping"]) * dot(x, x)
    beta = (2 * arb(inputs["max_kl"]) / (form + arb(float(conventions["step_length.epsilon"])))).sqrt()
    return {"step": structure(inputs["policy"], [beta * x_i for x_i in x])}


def expected_improvement_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The sum over the blocks in exact rationals."""
    g, s = inputs["gradient"], inputs["step"]
    found = Fraction(0)
    for one, two in zip(g["layers"], s["layers"], strict=True):
        for name in ("W", "b"):
            found += _inner(rationals.fractions(one[name]), rationals.fractions(two[name]))
    if "log_std" in g:
        found += _inner(rationals.fractions(g["log_std"]), rationals.fractions(s["log_std"]))
    return {"expected_improvement": rationals.ball(found)}


def _inner(a: Any, b: Any) -> Fraction:
    if isinstance(a, list):
        return sum((_inner(x, y) for x, y in zip(a, b, strict=True)), Fraction(0))
    return Fraction(a * b)


def _all_candidates(inputs: Inputs, conventions: Conventions, step: Vector) -> Outputs:
    """Judge every candidate from densities and Bregman divergences, then take the first of those accepted."""
    policy, theta = inputs["policy"], vector_of(inputs["policy"])
    net = net_of(policy, theta)
    samples = zip(inputs["observations"], inputs["actions"], strict=True)
    old = [density(net, forward(net, x).outputs, a) for x, a in samples]
    average = total(exact(inputs["advantages"])) / len(old)
    limit, rule = arb(inputs["max_kl"]), conventions["line_search.accept"]
    part = {"tenth_of_expected": arb(1) / 10, "half_of_expected_and_kl_strict": arb(1) / 2}.get(rule)
    slope = arb(0) if part is None else dot(_gradient_at_old(inputs), step)
    accepted = []
    for j in range(inputs["max_backtracks"]):
        candidate = moved(theta, arb(inputs["backtrack"]) ** j, step)
        gains = _gains(inputs, candidate, old)
        gain = total(gains) / len(gains) - average
        kl = mean_divergence(policy, theta, candidate, inputs["observations"], conventions["kl.direction"])
        if rule in ("improves_and_1.5_kl", "no_worse_and_kl"):
            improves = _proven(gain >= 0, gain < 0)
        else:
            improves = rule == "kl_strict" or _proven(gain > 0, gain <= 0)
        if improves and part is not None:
            quotient = gain / (slope * arb(inputs["backtrack"]) ** j)
            improves = _proven(quotient > part, quotient <= part)
        most = limit * 3 / 2 if rule == "improves_and_1.5_kl" else limit
        # For a KL that is not δ exactly, ≤ and < are one question.
        accepted.append(improves and (rule == "tenth_of_expected" or _proven(kl < most, kl > most)))
    number = accepted.index(True) if True in accepted else -1
    found = theta if number < 0 else moved(theta, arb(inputs["backtrack"]) ** number, step)
    return {"parameters": structure(policy, found), "accepted": number}


def _proven(yes: bool, no: bool) -> bool:
    if not (yes or no):
        raise Undecided("a candidate of the line search lies on an edge")
    return yes


def line_search_of_all(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Every candidate judged, by densities and Bregman divergences; the first accepted of all."""
    return _all_candidates(inputs, conventions, vector_of(inputs["full_step"]))


def trpo_step_by_krylov(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Gradient by hand, minimiser over the Krylov space, length from its projected form, every candidate judged."""
    policy = inputs["policy"]
    with precision(KRYLOV_BITS):
        g = _gradient_at_old(inputs)
        A = _damped_matrix(policy, inputs["observations"], inputs["damping"])
        x = krylov_solution(conventions, A, g, inputs["iterations"])
        step = x
        if not all(entry.is_zero() for entry in x):
            form = dot(g, x)  # = xᵀ(F + λI)x: x minimises over a space that holds it
            if conventions["step_length.damping"] == "undamped":
                form = form - arb(inputs["damping"]) * dot(x, x)
            beta = (2 * arb(inputs["max_kl"]) / (form + arb(float(conventions["step_length.epsilon"])))).sqrt()
            step = [beta * x_i for x_i in x]
    return _all_candidates(inputs, conventions, step)


ROUTES: dict[str, tuple[Route, ...]] = {
    "network_forward": (network_forward_by_matrices,),
    "surrogate": (surrogate_by_densities,),
    "surrogate_gradient": (surrogate_gradient_by_hand,),
    "mean_kl": (mean_kl_by_bregman,),
    "mean_kl_gradient": (mean_kl_gradient_by_hand,),
    "mean_kl_hessian_vector_product": (mean_kl_hessian_vector_product_by_differences,),
    "fisher_matrix": (fisher_matrix_by_scores,),
    "fisher_vector_product": (fisher_vector_product_by_rows,),
    "conjugate_gradient": (conjugate_gradient_by_krylov,),
    "fisher_conjugate_gradient": (fisher_conjugate_gradient_by_krylov,),
    "natural_gradient": (natural_gradient_by_dual,),
    "natural_gradient_minimum_norm": (natural_gradient_minimum_norm_by_limit,),
    "step_length": (step_length_in_rationals,),
    "natural_gradient_step": (natural_gradient_step_by_dual,),
    "expected_improvement": (expected_improvement_in_rationals,),
    "line_search": (line_search_of_all,),
    "trpo_step": (trpo_step_by_krylov,),
}
