"""Second routes of the profile `theory`: linear equations of (state, action) pairs, solved in exact rationals.

::

    Q = r + γ Σ_t P(t|s,a) Σ_b π(b|t) Q(t,b)          μ(t,b) = (ρ₀(t) + γ Σ_sa μ(s,a) P(t|s,a)) π(b|t)

with V = Σ_a π Q, ρ(s) = Σ_a μ(s,a) and η = Σ μ r: nothing is summed over time, and no chain of states is formed.
L is the tangent of η at the old policy, by differences; KL is the integral of its curvature, total variation the
largest difference that any set of actions shows.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

from flint import arb, arb_mat, arb_series, ctx, fmpq, fmpq_mat

from verification.certify.balls import exact, total
from verification.certify.routes.rationals import ball, quotient, root

Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]
Route = Callable[[Inputs, Conventions], Outputs]
Number = Any  # a rational, or a ball
Table = list[list[Number]]

STEP = 80  # bits: differences are taken over 2⁻⁸⁰


# ── Pairs of state and action ───────────────────────────────────────────────────────────────────────────────────────


def _rationals(numbers: Any) -> Any:
    return [_rationals(part) for part in numbers] if isinstance(numbers, list) else quotient(numbers)


def _balls(numbers: Any) -> Any:
    return [_balls(part) for part in numbers] if isinstance(numbers, list) else arb(numbers)


def _flat(table: Table) -> list[Number]:
    return [entry for row in table for entry in row]


def _rows(flat: list[Number], width: int) -> Table:
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def _system(inputs: Inputs, pi: Table, read: Callable[[Any], Any]) -> Table:
    """I − γM, M((s,a), (t,b)) = P(t|s,a) π(b|t)."""
    gamma, pairs = read(inputs["gamma"]), _flat(read(inputs["transition"]))
    M = [[p * q for p, qs in zip(P, pi, strict=True) for q in qs] for P in pairs]
    return [[int(n == m) - gamma * entry for m, entry in enumerate(row)] for n, row in enumerate(M)]


def _solved(system: Table, right: list[Number], matrix: Any) -> list[Number]:
    size = len(right)
    solution = matrix(size, size, _flat(system)).solve(matrix(size, 1, right))
    return list(solution.entries())


def _action_values(inputs: Inputs, pi: Table) -> Table:
    """Q, in rationals."""
    Q = _solved(_system(inputs, pi, _rationals), _flat(_rationals(inputs["reward"])), fmpq_mat)
    return _rows(Q, len(pi[0]))


def _averages(pi: Table, table: Table) -> list[Number]:
    return [sum(p * x for p, x in zip(*rows, strict=True)) for rows in zip(pi, table, strict=True)]


def _occupancies(inputs: Inputs, pi: Table) -> Table:
    """μ, in rationals: the discounted visits of every pair."""
    first = [weight * p for weight, row in zip(_rationals(inputs["start"]), pi, strict=True) for p in row]
    system = _system(inputs, pi, _rationals)
    return _rows(_solved([list(column) for column in zip(*system, strict=True)], first, fmpq_mat), len(pi[0]))


def _return(inputs: Inputs, pi: Table) -> Number:
    """η = Σ μ r, in rationals."""
    rewards = _flat(_rationals(inputs["reward"]))
    return sum(m * r for m, r in zip(_flat(_occupancies(inputs, pi)), rewards, strict=True))


def _advantages(inputs: Inputs, pi: Table) -> Table:
    Q = _action_values(inputs, pi)
    return [[q - v for q in row] for row, v in zip(Q, _averages(pi, Q), strict=True)]


def policy_evaluation_by_pairs(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The linear equations of Q over pairs, in exact rationals."""
    pi = _rationals(inputs["probabilities"])
    Q = _action_values(inputs, pi)
    V = _averages(pi, Q)
    return {
        "values": _balls(V),
        "action_values": _balls(Q),
        "advantages": _balls([[q - v for q in row] for row, v in zip(Q, V, strict=True)]),
    }


def visitation_of_pairs(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The flow equations of pairs, in exact rationals; normalised by its own sum."""
    rho = [sum(row) for row in _occupancies(inputs, _rationals(inputs["probabilities"]))]
    whole = sum(rho) if conventions["visitation.normalisation"] == "normalised" else 1
    return {"visitation": _balls([visited / whole for visited in rho])}


def expected_return_of_pairs(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ μ r over the discounted visits of pairs, in exact rationals."""
    return {"expected_return": arb(_return(inputs, _rationals(inputs["probabilities"])))}


def softmax_policy_gradient_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Central differences of η in every logit, step 2⁻⁸⁰, from the equations of pairs in balls."""
    logits, rewards, step = exact(inputs["logits"]), _flat(exact(inputs["reward"])), arb(2) ** -STEP

    def policy(s: int, a: int, by: arb) -> Table:
        weights = [[z.exp() for z in row] for row in logits]
        weights[s][a] = weights[s][a] * by.exp()
        return [[w / total(row) for w in row] for row in weights]

    def value(pi: Table) -> arb:
        Q = _rows(_solved(_system(inputs, pi, exact), rewards, arb_mat), len(pi[0]))
        return total(p * v for p, v in zip(exact(inputs["start"]), _averages(pi, Q), strict=True))

    return {
        "gradient": [
            [(value(policy(s, a, step)) - value(policy(s, a, -step))) / (2 * step) for a in range(len(logits[s]))]
            for s in range(len(logits))
        ]
    }


# ── Two policies ────────────────────────────────────────────────────────────────────────────────────────────────────


def _both(inputs: Inputs) -> tuple[Table, Table]:
    return _rationals(inputs["old_probabilities"]), _rationals(inputs["new_probabilities"])


def performance_difference_of_advantages(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ μ_new A_old over pairs: the visits of the new policy, the advantages of the old, in exact rationals."""
    old, new = _both(inputs)
    pairs = zip(_flat(_occupancies(inputs, new)), _flat(_advantages(inputs, old)), strict=True)
    return {"performance_difference": arb(sum(m * a for m, a in pairs))}


def _tangent(inputs: Inputs, old: Table, new: Table) -> Number:
    """η(π) + dη((1 − α)π + απ')/dα at α = 0, by central differences in rationals, step 2⁻⁸⁰."""
    h = fmpq(1, 2**STEP)

    def mixed(alpha: Number) -> Table:
        return [
            [(1 - alpha) * p + alpha * q for p, q in zip(*rows, strict=True)] for rows in zip(old, new, strict=True)
        ]

    slope = (_return(inputs, mixed(h)) - _return(inputs, mixed(-h))) / (2 * h)
    return _return(inputs, old) + slope


def local_approximation_as_tangent(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The tangent of η at the old policy towards the new one, by differences in exact rationals."""
    return {"local_approximation": arb(_tangent(inputs, *_both(inputs)))}


def _sets(size: int) -> Iterator[tuple[int, ...]]:
    for length in range(size + 1):
        yield from combinations(range(size), length)


def _distances(old: Table, new: Table) -> list[Number]:
    """The largest |π(B) − π'(B)| over all sets B of actions, in every state."""
    return [max(abs(sum(p[a] - q[a] for a in B)) for B in _sets(len(p))) for p, q in zip(old, new, strict=True)]


def policy_total_variation_over_sets(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The largest difference in the probability of any set of actions, in exact rationals."""
    distances = _distances(*_both(inputs))
    return {"total_variation": _balls(distances), "max_total_variation": arb(max(distances))}


def _divergence(p: Sequence[Number], q: Sequence[Number]) -> arb:
    """KL(p ‖ q) from its curvature on the segment from p to q: Taylor's theorem with the rest as Euler's integral.

    Σ_{p > 0} p (∫₀¹ (1 − t) x²/(1 + tx)² dt − x),   x = (q − p)/p,   the integral ½x² ₂F₁(2, 1; 3; −x)
    """
    changes = [(x, (y - x) / x) for x, y in zip(p, q, strict=True) if x > 0]
    return total(arb(x) * (arb(c * c) / 2 * arb(-c).hypgeom_2f1(2, 1, 3) - arb(c)) for x, c in changes)


def _divergences(p: Table, q: Table) -> list[arb]:
    return [_divergence(*rows) for rows in zip(p, q, strict=True)]


def _largest(numbers: list[arb]) -> arb:
    return max(numbers, key=lambda number: float(number.mid()))


def policy_kl_by_curvature(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The curvature of KL integrated along the segment between the policies, as a hypergeometric function."""
    old, new = _both(inputs)
    kl = _divergences(old, new) if conventions["kl.direction"] == "old_new" else _divergences(new, old)
    mean = total(weight * one for weight, one in zip(exact(inputs["state_weights"]), kl, strict=True))
    return {"kl": kl, "max_kl": _largest(kl), "mean_kl": mean}


# ── Bounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _drift(gamma: float) -> arb:
    """Σ_t t γᵗ as γ times the derivative of the geometric series."""
    before = ctx.cap
    ctx.cap = 2
    try:
        return arb(gamma) * (1 / arb_series([1 - arb(gamma), -1]))[1]
    finally:
        ctx.cap = before


def penalty_coefficient_by_series(inputs: Inputs, conventions: Conventions) -> Outputs:
    """4ε Σ_t t γᵗ, the sum as a derivative of the geometric series."""
    A = _flat(_rationals(inputs["advantages"]))
    return {"penalty_coefficient": 4 * arb(max(*A, -min(A))) * _drift(inputs["gamma"])}


def lower_bounds_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """L as a tangent and all but KL in exact rationals; KL from its curvature."""
    old, new = _both(inputs)
    A, distances = _advantages(inputs, old), _distances(old, new)
    rho = [sum(row) for row in _occupancies(inputs, old)]
    mean = sum(visited * distance for visited, distance in zip(rho, distances, strict=True)) / sum(rho)
    L, c = arb(_tangent(inputs, old, new)), _drift(inputs["gamma"])
    epsilon = max(*_flat(A), -min(_flat(A)))
    expected = max(abs(average) for average in _averages(new, A))
    kl = _largest(_divergences(old, new))
    return {
        "trpo_kl": L - 4 * arb(epsilon) * c * kl,
        "trpo_tv": L - 4 * arb(epsilon * max(distances) ** 2) * c,
        "pinsker": L - 2 * arb(epsilon) * c * kl,
        "cpo": L - 2 * arb(expected * mean) * c,
    }


# ── Steps ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _root(falling: Callable[[arb], arb]) -> arb:
    """Return the root of a falling function by regula falsi, each end's weight halved while it stays (Illinois)."""
    low, high, reach = arb(0), arb(0), arb(1)
    while falling(low) < 0:
        low, reach = low - reach, 2 * reach
    while falling(high) > 0:
        high, reach = high + reach, 2 * reach
    above, below = falling(low), falling(high)
    while high - low > arb(2) ** (32 - ctx.prec) and above > 0 > below:
        middle = ((low * below - high * above) / (below - above)).mid()
        value = falling(middle).mid()
        if value > 0:
            low, above, below = middle, value, below / 2
        elif value < 0:
            high, below, above = middle, value, above / 2
        else:
            return middle
    return ((low + high) / 2).mid()


def _inside(p: list[Number], A: list[Number], kl: arb) -> tuple[list[arb], arb]:
    """The row proportional to p/(ν − A) at that KL from p, and ν."""
    best = max(A)

    def row(u: arb) -> tuple[list[arb], arb]:
        nu = best + u.exp()
        weights = [x / (nu - a) for x, a in zip(p, A, strict=True)]
        whole = total(weights)
        return [weight / whole for weight in weights], nu

    def excess(u: arb) -> arb:
        pi, _ = row(u)
        found = -total(arb(x) * ((y - x) / x).log1p() for x, y in zip(p, pi, strict=True) if x > 0)
        return (found / kl).log().mid()

    return row(_root(excess))


def mm_step_by_radius(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The radius where the last bit of it gains what it costs, by regula falsi in it and in ν."""
    old, A = _rationals(inputs["old_probabilities"]), _rationals(inputs["advantages"])
    rho, price = exact(inputs["visitation"]), exact(inputs["penalty"])

    def gained(log_kl: arb) -> arb:
        rows = [_inside(p, row, log_kl.exp()) for p, row in zip(old, A, strict=True)]
        slopes = [
            nu - total(x * a for x, a in zip(pi, row, strict=True)) for (pi, nu), row in zip(rows, A, strict=True)
        ]
        return total(weight * slope for weight, slope in zip(rho, slopes, strict=True))

    kl = _root(lambda log_kl: (gained(log_kl) / price).log().mid()).exp()
    return {"probabilities": [_inside(p, row, kl)[0] for p, row in zip(old, A, strict=True)], "max_kl": kl}


def trust_region_dual_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """H⁻¹g in exact rationals; the value from the dual √(2δ gᵀH⁻¹g), the multiplier as its slope in δ, by integers."""
    g = _rationals(inputs["gradient"])
    x = _solved(_rationals(inputs["matrix"]), g, fmpq_mat)
    form, delta = Fraction(str(sum(a * b for a, b in zip(g, x, strict=True)))), Fraction(inputs["max_kl"])
    value = root(2 * delta * form)
    beta = value / (2 * delta)
    return {"step": [arb(entry) / ball(beta) for entry in x], "multiplier": ball(beta), "value": ball(value)}


ROUTES: dict[str, tuple[Route, ...]] = {
    "policy_evaluation": (policy_evaluation_by_pairs,),
    "visitation": (visitation_of_pairs,),
    "expected_return": (expected_return_of_pairs,),
    "performance_difference": (performance_difference_of_advantages,),
    "local_approximation": (local_approximation_as_tangent,),
    "softmax_policy_gradient": (softmax_policy_gradient_by_differences,),
    "policy_total_variation": (policy_total_variation_over_sets,),
    "policy_kl": (policy_kl_by_curvature,),
    "penalty_coefficient": (penalty_coefficient_by_series,),
    "lower_bounds": (lower_bounds_in_rationals,),
    "mm_step": (mm_step_by_radius,),
    "trust_region_dual": (trust_region_dual_in_rationals,),
}
