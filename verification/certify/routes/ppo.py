"""Second routes of the profile `ppo`: formulas as printed, central differences, exact rationals, moments as sums."""

from collections.abc import Callable
from fractions import Fraction
from math import inf
from typing import Any

from flint import arb

from verification.certify.balls import Undecided, dot, exact, rational, total
from verification.certify.routes import rationals
from verification.certify.routes.policies import (
    Inputs,
    Vector,
    backward,
    density,
    forward,
    moved,
    net_of,
    probabilities,
    structure,
    summed,
    vector_of,
)
from verification.certify.routes.trpo import Conventions, Outputs, Route, policy_gradient

# ── Ratios and objectives ───────────────────────────────────────────────────────────────────────────────────────────


def _quotients(inputs: Inputs) -> Vector:
    """π_new/π_old as the quotient of the probabilities."""
    pairs = zip(exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"]), strict=True)
    return [new.exp() / old.exp() for old, new in pairs]


def ratio_of_probabilities(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The quotient of the two probabilities."""
    return {"ratio": _quotients(inputs)}


def _as_printed(ratios: Vector, advantages: Vector, clip: arb) -> arb:
    """Mean of min(rA, clip(r, 1 − ε, 1 + ε)A), with Arb's own min and max: nothing is decided."""
    terms = [(r * A).min(r.max(1 - clip).min(1 + clip) * A) for r, A in zip(ratios, advantages, strict=True)]
    return total(terms) / len(terms)


def clipped_objective_as_printed(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Mean of min(rA, clip(r)A) as printed, no branch decided."""
    return {"objective": _as_printed(_quotients(inputs), exact(inputs["advantages"]), arb(inputs["clip"]))}


def clipped_objective_gradient_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Central differences, step 2⁻⁸⁰, of the objective as printed."""
    old, new = exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"])
    advantages, clip, step = exact(inputs["advantages"]), arb(inputs["clip"]), arb(2) ** -80

    def objective(changed: int, by: arb) -> arb:
        pairs = enumerate(zip(old, new, strict=True))
        ratios = [(q + (by if b == changed else 0)).exp() / p.exp() for b, (p, q) in pairs]
        return _as_printed(ratios, advantages, clip)

    return {"gradient": [(objective(b, step) - objective(b, -step)) / (2 * step) for b in range(len(old))]}


def _with_gradient_by_differences(inputs: Inputs, row: Callable[[arb, arb], arb]) -> Outputs:
    """The mean over rows of a function of r and A, and its central differences, step 2⁻⁸⁰, row by row."""
    step = arb(2) ** -80
    values, slopes = [], []
    for old, new, A in zip(*(exact(inputs[n]) for n in ("old_log_prob", "new_log_prob", "advantages")), strict=True):
        at, after, before = (row((new + by).exp() / old.exp(), A) for by in (0 * step, step, -step))
        values.append(at)
        slopes.append((after - before) / (2 * step) / len(inputs["advantages"]))
    return {"objective": total(values) / len(values), "gradient": slopes}


def asymmetric_clipped_objective_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """min(rA, clip(r)A) as printed, no branch decided, and central differences of it."""
    low, high = 1 - arb(inputs["clip_low"]), 1 + arb(inputs["clip_high"])
    return _with_gradient_by_differences(inputs, lambda r, A: (r * A).min(r.max(low).min(high) * A))


def dual_clipped_objective_by_differences(inputs: Inputs, conventions: Conventions) -> Outputs:
    """max(min(rA, clip(r)A), cA) of the rows with A < 0 as printed, and central differences of it."""
    clip, floor = arb(inputs["clip"]), arb(inputs["floor"])

    def row(r: arb, A: arb) -> arb:
        clipped = (r * A).min(r.max(1 - clip).min(1 + clip) * A)
        return clipped.max(floor * A) if A < 0 else clipped

    return _with_gradient_by_differences(inputs, row)


def _pushes(ratio: arb, advantage: arb, clip: arb) -> bool:
    """Whether a row has a gradient: not where its gain has reached the bound on the gain."""
    improving = ratio - 1 if advantage > 0 else 1 - ratio
    if not (improving < clip or improving > clip):
        raise Undecided(f"is {improving} < {clip}?")
    return bool(improving < clip)


def _clipped_gradient(policy: Inputs, inputs: Inputs, theta: Vector, rows: list[int]) -> Vector:
    """Backpropagation by hand of rA/B times the score, over the rows that push."""
    chosen = {name: [inputs[name][row] for row in rows] for name in ("observations", "actions")}
    advantages = exact([inputs["advantages"][row] for row in rows])
    old = exact([inputs["old_log_prob"][row] for row in rows])
    clip = arb(inputs["clip"])

    def weight(p: arb, b: int) -> arb:
        r = p / old[b].exp()
        if advantages[b].is_zero() or not _pushes(r, advantages[b], clip):
            return arb(0)
        return r * advantages[b] / len(rows)

    return policy_gradient(policy, chosen, theta, weight)


def _every_row(inputs: Inputs) -> list[int]:
    return list(range(len(inputs["advantages"])))


def clipped_objective_parameter_gradient_by_hand(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Backpropagation by hand of the rows whose gain has not reached its bound."""
    policy = inputs["policy"]
    g = _clipped_gradient(policy, inputs, vector_of(policy), _every_row(inputs))
    return {"gradient": structure(policy, g)}


def clip_fraction_by_logarithms(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Log-ratios against log(1 ± ε), an integer count."""
    clip = arb(inputs["clip"])
    low, high = (1 - clip).log(), (1 + clip).log()
    counted = 0
    columns = (exact(inputs[name]) for name in ("old_log_prob", "new_log_prob", "advantages"))
    for old, new, advantage in zip(*columns, strict=True):
        d = new - old
        if not (d < low or d > low) or not (d < high or d > high):
            raise Undecided(f"is {d} inside ({low}, {high})?")
        outside = d < low or d > high
        helps = (d > 0 and advantage > 0) or (d < 0 and advantage < 0)  # the ratio moved the way the advantage asks
        counted += outside and (helps or conventions["clip_fraction.rule"] == "outside")
    return {"clip_fraction": rational(counted, len(inputs["advantages"]))}


# ── Estimators and penalties ────────────────────────────────────────────────────────────────────────────────────────


def approximate_kl_of_quotients(inputs: Inputs, conventions: Conventions) -> Outputs:
    """k1 and k2 from the logarithm of the quotient, k3 = ½d² ₁F₁(1; 3; d)."""
    estimator = conventions["approximate_kl.estimator"]
    rows = []
    for r in _quotients(inputs):
        d = r.log()
        rows.append({"k1": -d, "k2": d * d / 2}.get(estimator, d * d / 2 * d.hypgeom([arb(1)], [arb(3)])))
    return {"approximate_kl": total(rows) / len(rows)}


def kl_penalized_objective_of_means(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Mean gain, less β times the mean KL in exact rationals."""
    gain = dot(_quotients(inputs), exact(inputs["advantages"])) / len(inputs["advantages"])
    penalty = Fraction(inputs["kl_penalty"]) * rationals.mean(rationals.fractions(inputs["kl"]))
    return {"objective": gain - rationals.ball(penalty)}


def kl_penalty_update_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """d/t against the ends of the window, and β between its limits, in exact rationals."""
    beta, relative = Fraction(inputs["kl_penalty"]), Fraction(inputs["kl"]) / Fraction(inputs["target"])
    low, high, lowered, raised, least, most = {
        "paper": ("2/3", "3/2", "1/2", "2", 0, inf),
        "rllib": ("1/2", "2", "1/2", "3/2", 0, inf),
        "tf_agents": ("7/10", "13/10", "2/3", "3/2", 1e-15, inf),
        "pat_coady": ("1/2", "2", "2/3", "3/2", Fraction(1, 35), 35),
    }[conventions["kl_penalty.schedule"]]
    if relative < Fraction(low):
        beta = max(Fraction(lowered) * beta, Fraction(least))
    elif relative > Fraction(high):
        beta = min(Fraction(raised) * beta, most)
    return {"kl_penalty": rationals.ball(Fraction(beta))}


def proportional_kl_penalty_update_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """β + β e n/h in exact rationals."""
    beta, limit = Fraction(inputs["kl_penalty"]), Fraction(0.2)
    excess = (Fraction(inputs["kl"]) - Fraction(inputs["target"])) / Fraction(inputs["target"])
    error = sorted((-limit, excess, limit))[1]
    return {"kl_penalty": rationals.ball(beta + beta * error * Fraction(inputs["samples"], inputs["horizon"]))}


# ── Values and entropy ──────────────────────────────────────────────────────────────────────────────────────────────


def _factor(conventions: Conventions) -> Fraction:
    return Fraction(conventions["value_loss.factor"])


def _slope(error: Any, conventions: Conventions) -> Any:
    """Half the slope of e², or the slope of the smooth error: e, kept within ±1."""
    if conventions["value_loss.error"] == "squared" or abs(error) < 1:
        return error
    return error / abs(error)


def _size(error: Fraction, conventions: Conventions) -> Fraction:
    """e², or e clip(e) − ½ clip(e)²."""
    if conventions["value_loss.error"] == "squared":
        return error**2
    slope = _slope(error, conventions)
    return slope * error - slope**2 / 2


def value_loss_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Mean of the errors in exact rationals."""
    pairs = zip(rationals.fractions(inputs["values"]), rationals.fractions(inputs["targets"]), strict=True)
    rows = [_size(v - t, conventions) for v, t in pairs]
    return {"loss": rationals.ball(_factor(conventions) * rationals.mean(rows))}


def clipped_value_loss_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """max(h(V − T), h(V_old + clip(V − V_old, ±ε) − T)) as printed, or min(h(V − T), ε), in exact rationals."""
    clip = Fraction(inputs["clip"])
    rows = []
    columns = (rationals.fractions(inputs[name]) for name in ("values", "old_values", "targets"))
    for v, old, t in zip(*columns, strict=True):
        free = _size(v - t, conventions)
        kept = _size(old + max(-clip, min(clip, v - old)) - t, conventions)
        forms = {"maximum": max(kept, free), "clipped_only": kept, "clamped_error": min(free, clip)}
        rows.append(forms[conventions["value_loss.clip"]])
    return {"loss": rationals.ball(_factor(conventions) * rationals.mean(rows))}


def _mean_entropy(policy: Inputs, theta: Vector, observations: Any) -> tuple[arb, Vector]:
    """Mean entropy and its gradient: log Z − E[z], with slopes −p(z − E[z]); or ½ log det 2πeΣ, with slope 1."""
    net = net_of(policy, theta)
    values, gradients = [], []
    for x in observations:
        row = forward(net, x)
        if net.categorical:
            p = probabilities(row.outputs)
            average = dot(p, row.outputs)
            values.append(total(z.exp() for z in row.outputs).log() - average)
            slopes = [p_k * (average - z) for p_k, z in zip(p, row.outputs, strict=True)]
            gradients.append(backward(net, row, slopes, []))
        else:
            determinant = arb(1)
            for log_std in net.log_std:
                determinant = determinant * 2 * arb.pi() * (1 + 2 * log_std).exp()
            values.append(determinant.log() / 2)
            gradients.append(backward(net, row, [arb(0)] * len(row.outputs), [arb(1)] * len(net.log_std)))
    count = len(values)
    return total(values) / count, [entry / count for entry in summed(gradients)]


def entropy_bonus_by_hand(inputs: Inputs, conventions: Conventions) -> Outputs:
    """log Z − E[z], or ½ log det 2πeΣ; backpropagation by hand."""
    policy = inputs["policy"]
    value, g = _mean_entropy(policy, vector_of(policy), inputs["observations"])
    return {"entropy": value, "gradient": structure(policy, g)}


def ppo_objective_by_hand(inputs: Inputs, conventions: Conventions) -> Outputs:
    """The clipped term as printed, and the three gradients by hand."""
    policy, network = inputs["policy"], inputs["value_network"]
    theta, rows = vector_of(policy), _every_row(inputs)
    c1, c2 = arb(inputs["value_coefficient"]) * rationals.ball(_factor(conventions)), arb(inputs["entropy_coefficient"])
    net = net_of(policy, theta)
    samples = zip(inputs["observations"], inputs["actions"], exact(inputs["old_log_prob"]), strict=True)
    ratios = [density(net, forward(net, x).outputs, a) / old.exp() for x, a, old in samples]
    clipped = _as_printed(ratios, exact(inputs["advantages"]), arb(inputs["clip"]))
    entropy, entropy_gradient = _mean_entropy(policy, theta, inputs["observations"])
    values = net_of(network, vector_of(network))
    errors, gradients = [], []
    for x, target in zip(inputs["observations"], exact(inputs["value_targets"]), strict=True):
        row = forward(values, x)
        error = row.outputs[0] - target
        slope = _slope(error, conventions)
        squared = conventions["value_loss.error"] == "squared"
        errors.append(error * error if squared else slope * error - slope * slope / 2)
        gradients.append(backward(values, row, [-c1 * slope * (2 if squared else 1) / len(rows)], []))
    return {
        "objective": clipped - c1 * total(errors) / len(rows) + c2 * entropy,
        "policy_gradient": structure(
            policy, moved(_clipped_gradient(policy, inputs, theta, rows), c2, entropy_gradient)
        ),
        "value_gradient": structure(network, summed(gradients)),
    }


# ── Adam ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def adam_step_in_rationals(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Moments and quotient in exact rationals, the root by integers."""
    names = ("parameters", "gradient", "first_moment", "second_moment")
    columns = (rationals.fractions(inputs[name]) for name in names)
    rate, beta1, beta2, epsilon = (Fraction(inputs[name]) for name in ("learning_rate", "beta1", "beta2", "epsilon"))
    t = inputs["step"]
    rows = []
    for parameter, g, m, v in zip(*columns, strict=True):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        step = m / (1 - beta1**t) / (rationals.root(v / (1 - beta2**t)) + epsilon)
        rows.append([parameter - rate * step, m, v])
    parameters, first, second = (list(column) for column in zip(*rationals.balls(rows), strict=True))
    return {"parameters": parameters, "first_moment": first, "second_moment": second}


def _average(gradients: list[Vector], beta: arb, power: int) -> Vector:
    """Σ_i β^{t−i} g_iⁿ / Σ_i β^{t−i}: a bias-corrected moment is a weighted average of all gradients so far."""
    weights = [beta ** (len(gradients) - 1 - i) for i in range(len(gradients))]
    entries = zip(*gradients, strict=True)
    return [total(w * g**power for w, g in zip(weights, row, strict=True)) / total(weights) for row in entries]


def ppo_epoch_by_averages(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Gradients by hand; Adam's corrected moments as weighted averages of all gradients so far."""
    policy = inputs["policy"]
    theta = vector_of(policy)
    beta1, beta2 = arb(inputs["beta1"]), arb(inputs["beta2"])
    gradients: list[Vector] = []
    for rows in inputs["minibatches"]:
        gradients.append(_clipped_gradient(policy, inputs, theta, rows))
        pairs = zip(_average(gradients, beta1, 1), _average(gradients, beta2, 2), strict=True)
        step = [m / (v.sqrt() + arb(inputs["epsilon"])) for m, v in pairs]
        theta = moved(theta, arb(inputs["learning_rate"]), step)
    return {"parameters": structure(policy, theta)}


ROUTES: dict[str, tuple[Route, ...]] = {
    "ratio": (ratio_of_probabilities,),
    "clipped_objective": (clipped_objective_as_printed,),
    "clipped_objective_gradient": (clipped_objective_gradient_by_differences,),
    "clipped_objective_parameter_gradient": (clipped_objective_parameter_gradient_by_hand,),
    "asymmetric_clipped_objective": (asymmetric_clipped_objective_by_differences,),
    "dual_clipped_objective": (dual_clipped_objective_by_differences,),
    "clip_fraction": (clip_fraction_by_logarithms,),
    "approximate_kl": (approximate_kl_of_quotients,),
    "kl_penalized_objective": (kl_penalized_objective_of_means,),
    "kl_penalty_update": (kl_penalty_update_in_rationals,),
    "proportional_kl_penalty_update": (proportional_kl_penalty_update_in_rationals,),
    "value_loss": (value_loss_in_rationals,),
    "clipped_value_loss": (clipped_value_loss_in_rationals,),
    "entropy_bonus": (entropy_bonus_by_hand,),
    "ppo_objective": (ppo_objective_by_hand,),
    "adam_step": (adam_step_in_rationals,),
    "ppo_epoch": (ppo_epoch_by_averages,),
}
