"""The operations of the profile `theory`, as defined: expectations over endless trajectories, summed over time.

::

    N = Σ_t (γP_π)ᵗ = (I + M)(I + M²)(I + M⁴) … + R        M = γP_π ≥ 0,   0 ≤ R ≤ γⁿ/(1 − γ) after n terms
    V = N r_π        ρ = ρ₀ᵀ N                             N_st the expected discounted visits of t from s

No equation is solved: the terms are added, and what they leave over is enclosed by its bound.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flint import arb, arb_mat, ctx

from verification.certify.balls import dot, exact, matrix_vector, precision, total, vector_matrix
from verification.certify.calculus import Scalar, exponential, logarithm
from verification.certify.roots import zero
from verification.certify.routes.theory import ROUTES as ROUTES  # the second routes, for the corpus

Inputs = dict[str, Any]
Conventions = dict[str, str]
Outputs = dict[str, Any]
Vector = list[arb]
Matrix = list[list[arb]]
Visits = Callable[[Inputs, Matrix], Matrix]


# ── One policy ──────────────────────────────────────────────────────────────────────────────────────────────────────


def chain(inputs: Inputs, pi: Matrix) -> Matrix:
    """P_π(t|s) = Σ_a π(a|s) P(t|s,a)."""
    return [vector_matrix(p, rows) for p, rows in zip(pi, exact(inputs["transition"]), strict=True)]


def expected_visits(inputs: Inputs, pi: Matrix) -> Matrix:
    """N, by doubling the number of terms until the rest is below the working precision."""
    gamma = exact(inputs["gamma"])
    size = len(pi)
    power = gamma * arb_mat(chain(inputs, pi))
    N = arb_mat(size, size, [int(s == t) for s in range(size) for t in range(size)])
    weight = gamma  # γⁿ after n terms
    while not weight / (1 - gamma) < arb(2) ** -ctx.prec:
        N = N + N * power
        power, weight = power * power, weight * weight
    half = (weight / (1 - gamma)).abs_upper() / 2
    return [[entry + arb(half, half) for entry in row] for row in N.tolist()]


class Evaluation(NamedTuple):
    """V, Q and A of a policy."""

    values: Vector
    action_values: Matrix
    advantages: Matrix


def evaluation(inputs: Inputs, pi: Matrix, visits: Visits = expected_visits) -> Evaluation:
    """V = N r_π, Q = r + γPV, A = Q − V."""
    P, r, gamma = exact(inputs["transition"]), exact(inputs["reward"]), exact(inputs["gamma"])
    V = matrix_vector(visits(inputs, pi), [dot(p, row) for p, row in zip(pi, r, strict=True)])
    Q = [[r[s][a] + gamma * dot(P[s][a], V) for a in range(len(r[s]))] for s in range(len(r))]
    return Evaluation(V, Q, [[q - v for q in row] for row, v in zip(Q, V, strict=True)])


def visits_from_start(inputs: Inputs, pi: Matrix, visits: Visits = expected_visits) -> Vector:
    """ρ = ρ₀ᵀ N, Σ ρ = 1/(1 − γ)."""
    return vector_matrix(exact(inputs["start"]), visits(inputs, pi))


def policy_evaluation(inputs: Inputs, conventions: Conventions, visits: Visits = expected_visits) -> Outputs:
    """V, Q and A as discounted sums over time, the rest of the series enclosed."""
    return evaluation(inputs, exact(inputs["probabilities"]), visits)._asdict()


def visitation(inputs: Inputs, conventions: Conventions, visits: Visits = expected_visits) -> Outputs:
    """Σ_t γᵗ P(s_t = s), the rest of the series enclosed; times 1 − γ if normalised."""
    rho = visits_from_start(inputs, exact(inputs["probabilities"]), visits)
    factor = 1 - exact(inputs["gamma"]) if conventions["visitation.normalisation"] == "normalised" else arb(1)
    return {"visitation": [factor * visited for visited in rho]}


def return_of(inputs: Inputs, pi: Matrix, visits: Visits = expected_visits) -> arb:
    """η = ρ₀ᵀ V."""
    return dot(exact(inputs["start"]), evaluation(inputs, pi, visits).values)


def expected_return(inputs: Inputs, conventions: Conventions, visits: Visits = expected_visits) -> Outputs:
    """ρ₀ᵀ V, V as a discounted sum over time, the rest of the series enclosed."""
    return {"expected_return": return_of(inputs, exact(inputs["probabilities"]), visits)}


def softmax(logits: Sequence[arb]) -> Vector:
    """e^z / Σ e^z."""
    weights = [z.exp() for z in logits]
    whole = total(weights)
    return [w / whole for w in weights]


def softmax_policy_gradient(inputs: Inputs, conventions: Conventions, visits: Visits = expected_visits) -> Outputs:
    """ρ(s) π(a|s) A(s,a), visitation and advantages as discounted sums over time, the rest enclosed."""
    pi = [softmax(row) for row in exact(inputs["logits"])]
    rho, A = visits_from_start(inputs, pi, visits), evaluation(inputs, pi, visits).advantages
    return {"gradient": weighed(rho, pi, A)}


def weighed(rho: Vector, pi: Matrix, A: Matrix) -> Matrix:
    """ρ(s) π(a|s) A(s,a)."""
    rows = zip(rho, pi, A, strict=True)
    return [[visited * p * a for p, a in zip(probabilities, row, strict=True)] for visited, probabilities, row in rows]


# ── Two policies ────────────────────────────────────────────────────────────────────────────────────────────────────


def both(inputs: Inputs) -> tuple[Matrix, Matrix]:
    """π and π'."""
    return exact(inputs["old_probabilities"]), exact(inputs["new_probabilities"])


def seen_from(rho: Vector, pi: Matrix, A: Matrix) -> arb:
    """Σ_s ρ(s) Σ_a π(a|s) A(s,a)."""
    return total(total(row) for row in weighed(rho, pi, A))


def performance_difference(inputs: Inputs, conventions: Conventions, visits: Visits = expected_visits) -> Outputs:
    """η(new) − η(old), each a discounted sum over time, the rest of the series enclosed."""
    old, new = both(inputs)
    return {"performance_difference": return_of(inputs, new, visits) - return_of(inputs, old, visits)}


def gain_seen(inputs: Inputs, visits: Visits = expected_visits) -> arb:
    """L − η(old) = Σ_s ρ_old(s) Σ_a π_new(a|s) A_old(s,a)."""
    old, new = both(inputs)
    return seen_from(visits_from_start(inputs, old, visits), new, evaluation(inputs, old, visits).advantages)


def local_approximation(inputs: Inputs, conventions: Conventions, visits: Visits = expected_visits) -> Outputs:
    """η(old) + Σ_s ρ_old(s) Σ_a π_new(a|s) A_old(s,a), discounted sums over time, the rest enclosed."""
    old, _ = both(inputs)
    return {"local_approximation": return_of(inputs, old, visits) + gain_seen(inputs, visits)}


def largest(numbers: Sequence[arb]) -> arb:
    """The maximum, by Arb's own function: it is continuous, and which entry is the largest need not be decided."""
    result = numbers[0]
    for number in numbers[1:]:
        result = result.max(number)
    return result


def total_variation(old: Matrix, new: Matrix) -> Vector:
    """½ Σ_a |π − π'| of every state."""
    return [total(abs(p - q) for p, q in zip(*rows, strict=True)) / 2 for rows in zip(old, new, strict=True)]


def policy_total_variation(inputs: Inputs, conventions: Conventions) -> Outputs:
    """½ Σ_a |π − π'| of every state, and the largest."""
    distances = total_variation(*both(inputs))
    return {"total_variation": distances, "max_total_variation": largest(distances)}


def divergence(p: Matrix, q: Matrix) -> Vector:
    """Σ p log(p/q) of every state, over the actions with p > 0."""
    return [
        total(x * (x / y).log() for x, y in zip(*rows, strict=True) if not x.is_zero())
        for rows in zip(p, q, strict=True)
    ]


def policy_kl(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Σ_a p log(p/q) of every state, the largest, and the weighted mean."""
    old, new = both(inputs)
    kl = divergence(old, new) if conventions["kl.direction"] == "old_new" else divergence(new, old)
    return {"kl": kl, "max_kl": largest(kl), "mean_kl": dot(exact(inputs["state_weights"]), kl)}


# ── Bounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def magnitude(A: Matrix) -> arb:
    """ε = max_sa |A(s,a)|."""
    return largest([abs(a) for row in A for a in row])


def drift(gamma: arb) -> arb:
    """γ/(1 − γ)²."""
    return gamma / ((1 - gamma) * (1 - gamma))


def penalty_coefficient(inputs: Inputs, conventions: Conventions) -> Outputs:
    """4εγ/(1 − γ)², ε the largest |A|."""
    return {"penalty_coefficient": 4 * magnitude(exact(inputs["advantages"])) * drift(exact(inputs["gamma"]))}


class Ingredients(NamedTuple):
    """What the bounds are made of.

    Fields: ``surrogate`` L; ``epsilon`` max |A|; ``epsilon_new`` ε' = max_s |Σ_a π'A|; ``drift`` γ/(1 − γ)²;
    ``max_kl``, ``max_tv`` over all states; ``mean_tv`` over the old policy's normalised visitation.
    """

    surrogate: arb
    epsilon: arb
    epsilon_new: arb
    drift: arb
    max_kl: arb
    max_tv: arb
    mean_tv: arb


def ingredients(inputs: Inputs) -> Ingredients:
    """Return what the bounds are made of."""
    old, new = both(inputs)
    gamma, A = exact(inputs["gamma"]), evaluation(inputs, old).advantages
    distances = total_variation(old, new)
    return Ingredients(
        surrogate=return_of(inputs, old) + gain_seen(inputs),
        epsilon=magnitude(A),
        epsilon_new=largest([abs(dot(p, row)) for p, row in zip(new, A, strict=True)]),
        drift=drift(gamma),
        max_kl=largest(divergence(old, new)),
        max_tv=largest(distances),
        mean_tv=(1 - gamma) * dot(visits_from_start(inputs, old), distances),
    )


def bounds_of(made: Ingredients) -> Outputs:
    """L less each penalty."""
    L, epsilon, c = made.surrogate, made.epsilon, made.drift
    return {
        "trpo_kl": L - 4 * epsilon * c * made.max_kl,
        "trpo_tv": L - 4 * epsilon * c * made.max_tv * made.max_tv,
        "pinsker": L - 2 * epsilon * c * made.max_kl,
        "cpo": L - 2 * made.epsilon_new * c * made.mean_tv,
    }


def lower_bounds(inputs: Inputs, conventions: Conventions) -> Outputs:
    """L less each penalty, L and visitation as discounted sums over time, the rest enclosed."""
    return bounds_of(ingredients(inputs))


# ── Steps ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Row(NamedTuple):
    """The best row of one state inside a KL ball: its ``kl``, and the ``multiplier`` λ of that constraint."""

    probabilities: list[Scalar]
    kl: Scalar
    multiplier: Scalar


Rows = Callable[[Vector, Vector, Scalar], Row]  # of p, A and an unknown that falls as the radius grows


def row_by_gap(p: Vector, A: Vector, t: Scalar) -> Row:
    """π = λp/(ν − A), ν = max A + eᵗ: where A(a) − λp(a)/π(a) = ν for all actions, stationary for KL(p ‖ π)."""
    away = [largest(A) - a + exponential(t) for a in A]
    multiplier = 1 / total(x / gap for x, gap in zip(p, away, strict=True))
    kl = total(x * logarithm(gap / multiplier) for x, gap in zip(p, away, strict=True) if not x.is_zero())
    return Row([multiplier * x / gap for x, gap in zip(p, away, strict=True)], kl, multiplier)


def halved(falling: Callable[[arb], arb], target: arb) -> float:
    """Return about where a falling function takes a value, by forty halvings; far too low it may be no number."""
    low, high = -64.0, 64.0
    with precision(64):
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if falling(arb(middle)) < target else (middle, high)
    return low


def of_one_radius(inputs: Inputs, rows: Rows = row_by_gap) -> list[Row]:
    """The rows of max Σ_s ρ(s) Σ_a π A − C max_s KL: the KL of all states is one, and Σ_s ρ(s) λ_s = C."""
    states = list(zip(exact(inputs["old_probabilities"]), exact(inputs["advantages"]), strict=True))
    rho, C = exact(inputs["visitation"]), exact(inputs["penalty"])

    def unknowns(log_kl: arb) -> list[float]:
        return [halved(lambda t, p=p, A=A: rows(p, A, t).kl, log_kl.exp()) for p, A in states]

    def price(log_kl: arb) -> arb:
        found = [rows(p, A, arb(t)).multiplier for (p, A), t in zip(states, unknowns(log_kl), strict=True)]
        return dot(rho, found)

    def stationary(t: list[Scalar]) -> list[Scalar]:
        found = [rows(p, A, unknown) for (p, A), unknown in zip(states, t, strict=True)]
        apart = [row.kl - found[-1].kl for row in found[:-1]]
        return [*apart, total(weight * row.multiplier for weight, row in zip(rho, found, strict=True)) - C]

    t = zero(stationary, unknowns(arb(halved(price, C))))
    return [rows(p, A, unknown) for (p, A), unknown in zip(states, t, strict=True)]


def mm_step(inputs: Inputs, conventions: Conventions, rows: Rows = row_by_gap) -> Outputs:
    """The stationary point of the concave problem: one KL in all states, Σ ρ λ = C; Krawczyk's test proves it."""
    found = of_one_radius(inputs, rows)
    return {"probabilities": [row.probabilities for row in found], "max_kl": found[-1].kl}


def trust_region_dual(inputs: Inputs, conventions: Conventions) -> Outputs:
    """s = H⁻¹g/β with ½ sᵀHs = δ, β = √(gᵀH⁻¹g/(2δ)); the ball solve proves H regular."""
    H, g = arb_mat(exact(inputs["matrix"])), exact(inputs["gradient"])
    x = H.solve(arb_mat([[entry] for entry in g])).entries()
    beta = (dot(g, x) / (2 * exact(inputs["max_kl"]))).sqrt()
    step = [entry / beta for entry in x]
    return {"step": step, "multiplier": beta, "value": dot(g, step)}


DEFINITIONS: dict[str, Callable[[Inputs, Conventions], Outputs]] = {
    "policy_evaluation": policy_evaluation,
    "visitation": visitation,
    "expected_return": expected_return,
    "performance_difference": performance_difference,
    "local_approximation": local_approximation,
    "softmax_policy_gradient": softmax_policy_gradient,
    "policy_total_variation": policy_total_variation,
    "policy_kl": policy_kl,
    "penalty_coefficient": penalty_coefficient,
    "lower_bounds": lower_bounds,
    "mm_step": mm_step,
    "trust_region_dual": trust_region_dual,
}
