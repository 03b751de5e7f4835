"""Known mistakes in the operations of the profile `theory`: a definition with one piece replaced."""

from collections.abc import Callable
from typing import Any

from flint import arb

from verification.certify.balls import dot, exact, mean, rational, total, transpose, zeros
from verification.certify.calculus import Scalar, exponential, logarithm
from verification.certify.definitions import theory
from verification.certify.definitions.theory import (
    Conventions,
    Evaluation,
    Ingredients,
    Inputs,
    Matrix,
    Outputs,
    Row,
    Rows,
    Vector,
    Visits,
    both,
    bounds_of,
    divergence,
    evaluation,
    expected_visits,
    gain_seen,
    ingredients,
    largest,
    return_of,
    seen_from,
    softmax,
    total_variation,
    visits_from_start,
    weighed,
)
from verification.certify.mistakes import Mistake
from verification.certify.roots import zero

Answer = Callable[[Inputs, Conventions], Outputs]


# ── Other visits, and other starts ──────────────────────────────────────────────────────────────────────────────────


def _transposed(inputs: Inputs, pi: Matrix) -> Matrix:
    return transpose(expected_visits(inputs, pi))


def _actions_averaged(inputs: Inputs, pi: Matrix) -> Matrix:
    return expected_visits(inputs, [[rational(1, len(row)) for _ in row] for row in pi])


def _start_not_counted(inputs: Inputs, pi: Matrix) -> Matrix:
    """Σ_{t ≥ 1} γᵗ P_πᵗ = N − I."""
    N = expected_visits(inputs, pi)
    return [[entry - int(s == t) for t, entry in enumerate(row)] for s, row in enumerate(N)]


def _by(operation: Callable[..., Outputs], piece: Visits | Rows) -> Answer:
    return lambda inputs, conventions: operation(inputs, conventions, piece)


def _from_anywhere(operation: Callable[..., Outputs]) -> Answer:
    """The operation with a uniform start."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        size = len(inputs["start"])
        return operation(inputs | {"start": [rational(1, size)] * size}, conventions)

    return answer


# ── Values and advantages ───────────────────────────────────────────────────────────────────────────────────────────


def _evaluated(change: Callable[[Inputs, Evaluation], Evaluation]) -> Answer:
    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        return change(inputs, evaluation(inputs, exact(inputs["probabilities"])))._asdict()

    return answer


def _scaled(factor: arb, table: Any) -> Any:
    return [_scaled(factor, part) for part in table] if isinstance(table, list) else factor * table


def _reward_late(inputs: Inputs, right: Evaluation) -> Evaluation:
    """r(s, a) is received at the next step: γ times everything."""
    gamma = exact(inputs["gamma"])
    return Evaluation(*(_scaled(gamma, part) for part in right))


def _greedy(inputs: Inputs, right: Evaluation) -> Evaluation:
    """V = max_a Q in place of the average, to its fixed point: policy iteration until no action is better."""
    pi: Matrix = zeros(len(right.values), len(right.advantages[0]))
    choices = [0] * len(pi)
    while True:
        greedy = [[arb(int(a == chosen)) for a in range(len(row))] for row, chosen in zip(pi, choices, strict=True)]
        found = evaluation(inputs, greedy)
        better = [
            max(range(len(row)), key=lambda a, row=row, chosen=chosen: float(row[a].mid()) + 1e-30 * (a == chosen))
            for row, chosen in zip(found.advantages, choices, strict=True)
        ]
        if better == choices:
            return found
        choices = better


def _above_largest(Q: Matrix) -> Matrix:
    return [[q - largest(row) for q in row] for row in Q]


def _above_average(Q: Matrix) -> Matrix:
    return [[q - mean(row) for q in row] for row in Q]


def _advantages(form: Callable[[Matrix], Matrix]) -> Answer:
    return _evaluated(lambda inputs, right: right._replace(advantages=form(right.action_values)))


BASELINES: dict[str, Callable[[Matrix], Matrix]] = {
    "adv-baseline-max": _above_largest,
    "adv-baseline-mean": _above_average,
    "adv-q-for-a": lambda Q: Q,
}


# ── Visitation, return, gradient ────────────────────────────────────────────────────────────────────────────────────


def _normalised_return(inputs: Inputs, conventions: Conventions) -> Outputs:
    right = theory.expected_return(inputs, conventions)["expected_return"]
    return {"expected_return": (1 - exact(inputs["gamma"])) * right}


def _late_return(inputs: Inputs, conventions: Conventions) -> Outputs:
    right = theory.expected_return(inputs, conventions)["expected_return"]
    return {"expected_return": exact(inputs["gamma"]) * right}


def _gradient(form: Callable[[Inputs, Vector, Matrix, Evaluation], Matrix]) -> Answer:
    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        pi = [softmax(row) for row in exact(inputs["logits"])]
        return {"gradient": form(inputs, visits_from_start(inputs, pi), pi, evaluation(inputs, pi))}

    return answer


def _gradient_with(advantages: Callable[[Matrix], Matrix]) -> Answer:
    return _gradient(lambda inputs, rho, pi, at: weighed(rho, pi, advantages(at.action_values)))


def _ones(table: Matrix) -> Matrix:
    return [[arb(1) for _ in row] for row in table]


# ── Two policies ────────────────────────────────────────────────────────────────────────────────────────────────────


def _difference(form: Callable[[Inputs, Matrix, Matrix], arb]) -> Answer:
    return lambda inputs, conventions: {"performance_difference": form(inputs, *both(inputs))}


def _difference_of(form: Callable[[Matrix], Matrix]) -> Answer:
    """Something else than advantages, over the visits of the new policy."""

    def difference(inputs: Inputs, old: Matrix, new: Matrix) -> arb:
        return seen_from(visits_from_start(inputs, new), new, form(evaluation(inputs, old).action_values))

    return _difference(difference)


def _new_advantages(inputs: Inputs, old: Matrix, new: Matrix) -> arb:
    return seen_from(visits_from_start(inputs, new), new, evaluation(inputs, new).advantages)


def _normalised_difference(inputs: Inputs, old: Matrix, new: Matrix) -> arb:
    return (1 - exact(inputs["gamma"])) * (return_of(inputs, new) - return_of(inputs, old))


def _approximation(form: Callable[[Inputs, Matrix, Matrix], arb]) -> Answer:
    return lambda inputs, conventions: {"local_approximation": form(inputs, *both(inputs))}


def _approximation_of(form: Callable[[Matrix], Matrix]) -> Answer:
    def approximation(inputs: Inputs, old: Matrix, new: Matrix) -> arb:
        gain = seen_from(visits_from_start(inputs, old), new, form(evaluation(inputs, old).action_values))
        return return_of(inputs, old) + gain

    return _approximation(approximation)


def _normalised_approximation(inputs: Inputs, old: Matrix, new: Matrix) -> arb:
    return return_of(inputs, old) + (1 - exact(inputs["gamma"])) * gain_seen(inputs)


SURROGATES: dict[str, Callable[[Inputs, Matrix, Matrix], arb]] = {
    "surrogate-new-visitation": lambda inputs, old, new: return_of(inputs, new),
    "surrogate-without-return": lambda inputs, old, new: gain_seen(inputs),
    "pdl-missing-factor": _normalised_approximation,
}


# ── Divergences ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _distances(form: Callable[[Vector, Vector], arb]) -> Answer:
    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        distances = [form(p, q) for p, q in zip(*both(inputs), strict=True)]
        return {"total_variation": distances, "max_total_variation": largest(distances)}

    return answer


def _gaps(p: Vector, q: Vector) -> Vector:
    return [abs(x - y) for x, y in zip(p, q, strict=True)]


def _mean_distance(inputs: Inputs, conventions: Conventions) -> Outputs:
    distances = total_variation(*both(inputs))
    return {"total_variation": distances, "max_total_variation": mean(distances)}


def _directed(inputs: Inputs, conventions: Conventions) -> tuple[Matrix, Matrix]:
    old, new = both(inputs)
    return (old, new) if conventions["kl.direction"] == "old_new" else (new, old)


def _kl_of(term: Callable[[arb, arb], arb]) -> Answer:
    """Other terms in the sum over actions."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        pairs = zip(*_directed(inputs, conventions), strict=True)
        kl = [total(term(x, y) for x, y in zip(p, q, strict=True)) for p, q in pairs]
        return {"kl": kl, "max_kl": largest(kl), "mean_kl": dot(exact(inputs["state_weights"]), kl)}

    return answer


def _taken(term: Callable[[arb, arb], arb]) -> Callable[[arb, arb], arb]:
    return lambda x, y: arb(0) if x.is_zero() else term(x, y)


def _with_constant(x: arb, y: arb) -> arb:
    small = exact(1e-6)
    return x * ((x + small) / (y + small)).log()


def _without_guard(x: arb, y: arb) -> arb:
    return arb.nan() if x.is_zero() else x * (x / y).log()


def _summarised(form: Callable[[Vector, Vector], dict[str, arb]]) -> Answer:
    """The KL of every state is right, and the largest or the mean is another: ``form(weights, kl)``."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        right = theory.policy_kl(inputs, conventions)
        return right | form(exact(inputs["state_weights"]), right["kl"])

    return answer


# ── Bounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _coefficient(epsilon: Callable[[Matrix], arb], factor: Callable[[arb], arb]) -> Answer:
    """ε and what it is multiplied by."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        A, gamma = exact(inputs["advantages"]), exact(inputs["gamma"])
        return {"penalty_coefficient": epsilon(A) * factor(gamma)}

    return answer


def _fourfold(gamma: arb) -> arb:
    return 4 * theory.drift(gamma)


def _unsquared(gamma: arb) -> arb:
    return gamma / (1 - gamma)


def _without_gamma(gamma: arb) -> arb:
    return 1 / ((1 - gamma) * (1 - gamma))


def _signed(A: Matrix) -> arb:
    return largest([a for row in A for a in row])


def _average(A: Matrix) -> arb:
    return mean([abs(a) for row in A for a in row])


def _bounds(change: Callable[[Inputs, Ingredients], dict[str, arb]]) -> Answer:
    """The bounds with some ingredients replaced."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        right = ingredients(inputs)
        return bounds_of(right._replace(**change(inputs, right)))

    return answer


def _bounds_after(change: Callable[[Ingredients, Outputs], Outputs]) -> Answer:
    """Some bounds replaced."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        right = ingredients(inputs)
        return bounds_of(right) | change(right, bounds_of(right))

    return answer


def _old_advantages(inputs: Inputs) -> Matrix:
    return evaluation(inputs, both(inputs)[0]).advantages


def _mean_kl(inputs: Inputs) -> arb:
    old, new = both(inputs)
    return (1 - exact(inputs["gamma"])) * dot(visits_from_start(inputs, old), divergence(old, new))


def _mean_tv(inputs: Inputs, weights: Vector) -> arb:
    return dot(weights, total_variation(*both(inputs)))


def _new_mean_tv(inputs: Inputs) -> arb:
    return (1 - exact(inputs["gamma"])) * _mean_tv(inputs, visits_from_start(inputs, both(inputs)[1]))


def _two_for_four(made: Ingredients, right: Outputs) -> Outputs:
    half = 2 * made.epsilon * made.drift * made.max_tv * made.max_tv
    return {"trpo_kl": right["pinsker"], "trpo_tv": made.surrogate - half}


def _penalty_added(made: Ingredients, right: Outputs) -> Outputs:
    return {name: 2 * made.surrogate - bound for name, bound in right.items()}


def _tv_not_squared(made: Ingredients, right: Outputs) -> Outputs:
    return {"trpo_tv": made.surrogate - 4 * made.epsilon * made.drift * made.max_tv}


_BOUNDS: dict[str, Answer] = {
    "mm-constant": _bounds(lambda inputs, right: {"drift": _unsquared(exact(inputs["gamma"]))}),
    "mm-gamma-missing": _bounds(lambda inputs, right: {"drift": _without_gamma(exact(inputs["gamma"]))}),
    "mm-epsilon-signed": _bounds(lambda inputs, right: {"epsilon": _signed(_old_advantages(inputs))}),
    "mm-epsilon-expected": _bounds(lambda inputs, right: {"epsilon": right.epsilon_new}),
    "mm-mean-kl": _bounds(lambda inputs, right: {"max_kl": _mean_kl(inputs)}),
    "mm-mean-tv": _bounds(lambda inputs, right: {"max_tv": right.mean_tv}),
    "kl-reversed": _bounds(lambda inputs, right: {"max_kl": largest(divergence(*reversed(both(inputs))))}),
    "tv-no-half": _bounds(lambda inputs, right: {"max_tv": 2 * right.max_tv, "mean_tv": 2 * right.mean_tv}),
    "cpo-unnormalised": _bounds(lambda inputs, right: {"mean_tv": right.mean_tv / (1 - exact(inputs["gamma"]))}),
    "cpo-new-visitation": _bounds(lambda inputs, right: {"mean_tv": _new_mean_tv(inputs)}),
    "mm-two-for-four": _bounds_after(_two_for_four),
    "mm-penalty-added": _bounds_after(_penalty_added),
    "mm-tv-not-squared": _bounds_after(_tv_not_squared),
}


def _bounds_around(surrogate: Callable[[Inputs, Matrix, Matrix], arb]) -> Answer:
    return _bounds(lambda inputs, right: {"surrogate": surrogate(inputs, *both(inputs))})


# ── Steps ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _row_by_tilting(p: Vector, A: Vector, t: Scalar) -> Row:
    """The best row inside KL(π ‖ p): π ∝ p e^(A/λ), λ = eᵗ."""
    weights = [x * exponential(a / exponential(t)) for x, a in zip(p, A, strict=True)]
    whole = total(weights)
    probabilities = [weight / whole for weight in weights]
    mean_advantage = total(x * a for x, a in zip(probabilities, A, strict=True))
    return Row(probabilities, mean_advantage / exponential(t) - logarithm(whole), exponential(t))


def _at_price(price: Callable[[Inputs, arb], arb]) -> Answer:
    """Every state for itself: λ_s is a price of its own, from the inputs and ρ(s)."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        tables = exact(inputs["old_probabilities"]), exact(inputs["advantages"]), exact(inputs["visitation"])
        rows = []
        for p, A, visited in zip(*tables, strict=True):
            if visited.is_zero():  # what gains nothing is not paid for
                rows.append(Row(p, arb(0), arb(0)))
                continue
            asked = price(inputs, visited)
            guess = theory.halved(lambda t, p=p, A=A: -theory.row_by_gap(p, A, t).multiplier, -asked)
            (t,) = zero(lambda t, p=p, A=A, asked=asked: [theory.row_by_gap(p, A, t[0]).multiplier - asked], [guess])
            rows.append(theory.row_by_gap(p, A, t))
        return {"probabilities": [row.probabilities for row in rows], "max_kl": largest([row.kl for row in rows])}

    return answer


def _of_other_weights(weights: Callable[[Vector], Vector]) -> Answer:
    """The visitation replaced by something made of it."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        return theory.mm_step(inputs | {"visitation": weights(exact(inputs["visitation"]))}, conventions)

    return answer


def _normalised(rho: Vector) -> Vector:
    return [visited / total(rho) for visited in rho]


def _dual(change: Callable[[dict[str, Any], arb], dict[str, Any]]) -> Answer:
    """The solution changed, from what is right and δ."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        right = theory.trust_region_dual(inputs, conventions)
        return right | change(right, exact(inputs["max_kl"]))

    return answer


def _without_two(right: dict[str, Any], delta: arb) -> dict[str, Any]:
    half = arb(2).sqrt()
    return {
        "step": _scaled(1 / half, right["step"]),
        "multiplier": half * right["multiplier"],
        "value": right["value"] / half,
    }


_STEPS: dict[str, Answer] = {
    "kl-reversed": _by(theory.mm_step, _row_by_tilting),
    "mm-mean-kl": _at_price(lambda inputs, visited: exact(inputs["penalty"]) / total(exact(inputs["visitation"]))),
    "mm-sum-kl": _at_price(lambda inputs, visited: exact(inputs["penalty"]) / visited),
    "pdl-missing-factor": _of_other_weights(_normalised),
    "mm-no-visitation": _of_other_weights(lambda rho: [arb(1)] * len(rho)),
}
_DUALS: dict[str, Answer] = {
    "step-missing-2": _dual(_without_two),
    "dual-multiplier-inverted": _dual(lambda right, delta: {"multiplier": 1 / right["multiplier"]}),
    "dual-half-of-value": _dual(lambda right, delta: {"value": right["multiplier"] * delta}),
    "pg-wrong-sign": _dual(lambda right, delta: {"step": _scaled(arb(-1), right["step"]), "value": -right["value"]}),
}


MISTAKES: list[Mistake] = [
    *(
        Mistake("mdp-transposed", operation.__name__, _by(operation, _transposed))
        for operation in (
            theory.policy_evaluation,
            theory.visitation,
            theory.expected_return,
            theory.performance_difference,
            theory.local_approximation,
            theory.softmax_policy_gradient,
        )
    ),
    *(
        Mistake("mdp-actions-averaged", operation.__name__, _by(operation, _actions_averaged))
        for operation in (theory.policy_evaluation, theory.visitation, theory.expected_return)
    ),
    *(
        Mistake("visits-without-start", operation.__name__, _by(operation, _start_not_counted))
        for operation in (theory.visitation, theory.expected_return)
    ),
    *(
        Mistake("mdp-uniform-start", operation.__name__, _from_anywhere(operation))
        for operation in (
            theory.visitation,
            theory.expected_return,
            theory.performance_difference,
            theory.local_approximation,
            theory.softmax_policy_gradient,
        )
    ),
    Mistake("mdp-reward-late", "policy_evaluation", _evaluated(_reward_late)),
    Mistake("mdp-reward-late", "expected_return", _late_return),
    Mistake("mdp-greedy-values", "policy_evaluation", _evaluated(_greedy)),
    Mistake("return-normalised", "expected_return", _normalised_return),
    *(Mistake(bug, "policy_evaluation", _advantages(form)) for bug, form in BASELINES.items()),
    *(Mistake(bug, "performance_difference", _difference_of(form)) for bug, form in BASELINES.items()),
    *(Mistake(bug, "local_approximation", _approximation_of(form)) for bug, form in BASELINES.items()),
    *(Mistake(bug, "softmax_policy_gradient", _gradient_with(form)) for bug, form in BASELINES.items()),
    Mistake("pdl-missing-factor", "performance_difference", _difference(_normalised_difference)),
    Mistake("pdl-old-visitation", "performance_difference", _difference(lambda inputs, old, new: gain_seen(inputs))),
    Mistake("pdl-new-advantages", "performance_difference", _difference(_new_advantages)),
    Mistake(
        "pdl-sign",
        "performance_difference",
        _difference(lambda inputs, old, new: return_of(inputs, old) - return_of(inputs, new)),
    ),
    *(Mistake(bug, "local_approximation", _approximation(form)) for bug, form in SURROGATES.items()),
    Mistake(
        "surrogate-old-actions", "local_approximation", _approximation(lambda inputs, old, new: return_of(inputs, old))
    ),
    Mistake(
        "pdl-missing-factor",
        "softmax_policy_gradient",
        _gradient(lambda inputs, rho, pi, at: weighed(_scaled(1 - exact(inputs["gamma"]), rho), pi, at.advantages)),
    ),
    Mistake(
        "pg-no-visitation",
        "softmax_policy_gradient",
        _gradient(lambda inputs, rho, pi, at: weighed([arb(1)] * len(rho), pi, at.advantages)),
    ),
    Mistake(
        "pg-first-state-only",
        "softmax_policy_gradient",
        _gradient(lambda inputs, rho, pi, at: weighed(exact(inputs["start"]), pi, at.advantages)),
    ),
    Mistake(
        "pg-no-probability",
        "softmax_policy_gradient",
        _gradient(lambda inputs, rho, pi, at: weighed(rho, _ones(pi), at.advantages)),
    ),
    Mistake(
        "pg-wrong-sign",
        "softmax_policy_gradient",
        _gradient(lambda inputs, rho, pi, at: weighed(_scaled(arb(-1), rho), pi, at.advantages)),
    ),
    Mistake("tv-no-half", "policy_total_variation", _distances(lambda p, q: total(_gaps(p, q)))),
    Mistake("tv-largest-entry", "policy_total_variation", _distances(lambda p, q: largest(_gaps(p, q)))),
    Mistake("mm-mean-tv", "policy_total_variation", _mean_distance),
    Mistake("mm-mean-kl", "policy_kl", _summarised(lambda weights, kl: {"max_kl": dot(weights, kl)})),
    Mistake("kl-uniform-mean", "policy_kl", _summarised(lambda weights, kl: {"mean_kl": mean(kl)})),
    Mistake("kl-in-bits", "policy_kl", _kl_of(_taken(lambda x, y: x * (x / y).log() / arb(2).log()))),
    Mistake("kl-cross-entropy", "policy_kl", _kl_of(_taken(lambda x, y: -x * y.log()))),
    Mistake("cat-kl-eps", "policy_kl", _kl_of(_with_constant)),
    Mistake("ent-masked-nan", "policy_kl", _kl_of(_without_guard)),
    Mistake("mm-constant", "penalty_coefficient", _coefficient(theory.magnitude, lambda gamma: 4 * _unsquared(gamma))),
    Mistake(
        "mm-gamma-missing",
        "penalty_coefficient",
        _coefficient(theory.magnitude, lambda gamma: 4 * _without_gamma(gamma)),
    ),
    Mistake(
        "mm-two-for-four", "penalty_coefficient", _coefficient(theory.magnitude, lambda gamma: 2 * theory.drift(gamma))
    ),
    Mistake("mm-epsilon-signed", "penalty_coefficient", _coefficient(_signed, _fourfold)),
    Mistake("mm-epsilon-mean", "penalty_coefficient", _coefficient(_average, _fourfold)),
    *(Mistake(bug, "lower_bounds", answer) for bug, answer in _BOUNDS.items()),
    *(Mistake(bug, "lower_bounds", _bounds_around(form)) for bug, form in SURROGATES.items()),
    *(Mistake(bug, "mm_step", answer) for bug, answer in _STEPS.items()),
    *(Mistake(bug, "trust_region_dual", answer) for bug, answer in _DUALS.items()),
]
