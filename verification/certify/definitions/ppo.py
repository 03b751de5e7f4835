"""The operations of the profile `ppo`, as defined; derivatives by power series, every kink decided.

min(rA, clip(r, 1 − ε, 1 + ε)A) is decided on r and on the sign of A, not on the products.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from flint import arb

from verification.certify.balls import equal, exact, less, maximum, mean, minimum, positive, rational
from verification.certify.calculus import Function, Scalar, constant, gradient
from verification.certify.definitions import trpo
from verification.certify.definitions.trpo import Conventions, Inputs, Outputs, flatten, unflatten
from verification.certify.routes.ppo import ROUTES as ROUTES  # the second routes, for the corpus

Error = Callable[[Scalar, Scalar], Scalar]
"""The error of one value and its target."""


# ── Rows ────────────────────────────────────────────────


def clipped_term(ratio: Scalar, advantage: arb, clip: arb) -> Scalar:
    """min(rA, clip(r, 1 − ε, 1 + ε)A) of one row."""
    return windowed_term(ratio, advantage, clip, clip)


def windowed_term(ratio: Scalar, advantage: arb, clip_low: arb, clip_high: arb) -> Scalar:
    """min(rA, clip(r, 1 − low, 1 + high)A) of one row."""
    r = constant(ratio)
    below, above = less(r, 1 - clip_low), less(1 + clip_high, r)
    if equal(advantage, 0):
        return arb(0)
    if below and not positive(advantage):
        return (1 - clip_low) * advantage
    if above and positive(advantage):
        return (1 + clip_high) * advantage
    return ratio * advantage


def floored_term(ratio: Scalar, advantage: arb, clip: arb, floor: arb) -> Scalar:
    """The clipped term of one row, at least floor · A where A < 0."""
    if less(advantage, 0) and less(floor, constant(ratio)):
        return floor * advantage
    return clipped_term(ratio, advantage, clip)


def k_estimator(old_log_prob: arb, new_log_prob: arb, estimator: str) -> arb:
    """k1 = −log r, k2 = ½ log² r, k3 = r − 1 − log r."""
    log_ratio = new_log_prob - old_log_prob
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return log_ratio * log_ratio / 2
    return log_ratio.exp() - 1 - log_ratio


class Schedule(NamedTuple):
    """β is ``lowered`` where d < ``low`` · target, and ``raised`` where d > ``high`` · target."""

    low: Fraction
    high: Fraction
    lowered: Callable[[arb], arb]
    raised: Callable[[arb], arb]


SCHEDULES = {
    "paper": Schedule(Fraction(2, 3), Fraction(3, 2), lambda beta: beta / 2, lambda beta: 2 * beta),
    "rllib": Schedule(Fraction(1, 2), Fraction(2), lambda beta: beta / 2, lambda beta: 3 * beta / 2),
    "tf_agents": Schedule(
        Fraction(7, 10), Fraction(13, 10), lambda beta: maximum(2 * beta / 3, exact(1e-15)), lambda beta: 3 * beta / 2
    ),
    "pat_coady": Schedule(
        Fraction(1, 2),
        Fraction(2),
        lambda beta: maximum(2 * beta / 3, rational(1, 35)),
        lambda beta: minimum(3 * beta / 2, arb(35)),
    ),
}


def below(d: arb, part: Fraction, target: arb) -> bool:
    """Whether d < part · target."""
    return less(part.denominator * d, part.numerator * target)


def above(d: arb, part: Fraction, target: arb) -> bool:
    """Whether d > part · target."""
    return less(part.numerator * target, part.denominator * d)


def value_error(value: Scalar, target: arb) -> Scalar:
    """(V − V_target)² of one row."""
    return (value - target) * (value - target)


def smooth_error(value: Scalar, target: arb) -> Scalar:
    """½ e² of one row where |e| < 1, |e| − ½ elsewhere."""
    error = value - target
    if less(1, constant(error)):
        return error - rational(1, 2)
    if less(constant(error), -1):
        return -error - rational(1, 2)
    return error * error / 2


ERRORS: dict[str, Error] = {"squared": value_error, "smooth_l1": smooth_error}


def clipped_value_error(value: arb, old: arb, target: arb, clip: arb, form: str, error: Error) -> arb:
    """The error of V kept within ε of the old value, the larger of that and the error of V, or this up to ε."""
    if form == "clamped_error":
        return minimum(error(value, target), clip)
    if less(value, old - clip):
        kept = old - clip
    elif less(old + clip, value):
        kept = old + clip
    else:
        return error(value, target)
    free, inside = error(value, target), error(kept, target)
    if form == "clipped_only" or less(free, inside):
        return inside
    return free


class Adam(NamedTuple):
    """The state of Adam."""

    parameters: list[arb]
    first_moment: list[arb]
    second_moment: list[arb]


class Rates(NamedTuple):
    """The constants of Adam."""

    learning_rate: arb
    beta1: arb
    beta2: arb
    epsilon: arb


def adam_update(state: Adam, g: list[arb], step: int, rates: Rates) -> Adam:
    """One step that descends g; ``step`` counts from 1."""
    first, second = rates.beta1, rates.beta2
    m = [first * m_i + (1 - first) * g_i for m_i, g_i in zip(state.first_moment, g, strict=True)]
    v = [second * v_i + (1 - second) * g_i * g_i for v_i, g_i in zip(state.second_moment, g, strict=True)]
    theta = [
        t - rates.learning_rate * (m_i / (1 - first**step)) / ((v_i / (1 - second**step)).sqrt() + rates.epsilon)
        for t, m_i, v_i in zip(state.parameters, m, v, strict=True)
    ]
    return Adam(theta, m, v)


# ── The pieces ────────────────────────────────────────────────


class Pieces(NamedTuple):
    """What the definitions are made of; a mistake replaces one."""

    policy: trpo.Pieces
    gradient: Callable[[Function, list[arb]], list[Any]]
    ratios: Callable[[Sequence[Scalar], Sequence[Scalar]], list[Scalar]]
    objective: Callable[[list[Scalar], list[arb], arb], Scalar]
    windowed_row: Callable[[Scalar, arb, arb, arb], Scalar]
    floored_row: Callable[[Scalar, arb, arb, arb], Scalar]
    value_loss: Callable[[list[Scalar], list[arb], Error], Scalar]
    clipped_value_row: Callable[[arb, arb, arb, arb, str, Error], arb]
    k_estimator: Callable[[arb, arb, str], arb]
    entropy_sign: int
    adam: Callable[[Adam, list[arb], int, Rates], Adam]


def ratios_of_rows(old: Sequence[Scalar], new: Sequence[Scalar]) -> list[Scalar]:
    """r of every row."""
    return [trpo.ratio(p, q) for p, q in zip(old, new, strict=True)]


def clipped_mean(ratios: list[Scalar], advantages: list[arb], clip: arb) -> Scalar:
    """Mean of the clipped terms."""
    return mean([clipped_term(r, a, clip) for r, a in zip(ratios, advantages, strict=True)])


def mean_error(values: list[Scalar], targets: list[arb], error: Error) -> Scalar:
    """Mean of the errors of the rows."""
    return mean([error(v, t) for v, t in zip(values, targets, strict=True)])


RIGHT = Pieces(
    policy=trpo.RIGHT,
    gradient=gradient,
    ratios=ratios_of_rows,
    objective=clipped_mean,
    windowed_row=windowed_term,
    floored_row=floored_term,
    value_loss=mean_error,
    clipped_value_row=clipped_value_error,
    k_estimator=k_estimator,
    entropy_sign=1,
    adam=adam_update,
)


def factor_of(conventions: Conventions) -> arb:
    """The factor in front of the squared value error."""
    return {"1": arb(1), "1/2": rational(1, 2)}[conventions["value_loss.factor"]]


def error_of(conventions: Conventions) -> Error:
    """The error of a row."""
    return ERRORS[conventions["value_loss.error"]]


def clipped_objective_at(inputs: Inputs, theta: Sequence[Scalar], rows: Sequence[int], pieces: Pieces) -> Scalar:
    """The clipped objective of some rows at θ."""
    chosen = {name: [inputs[name][row] for row in rows] for name in ("observations", "actions")}
    new = trpo.log_probs(inputs["policy"], theta, chosen, pieces.policy)
    old = exact([inputs["old_log_prob"][row] for row in rows])
    advantages = exact([inputs["advantages"][row] for row in rows])
    return pieces.objective(pieces.ratios(old, new), advantages, arb(inputs["clip"]))


def mean_entropy_at(inputs: Inputs, theta: Sequence[Scalar], pieces: Pieces) -> Scalar:
    """Mean entropy of the policy over the observations."""
    policy = inputs["policy"]
    phis = trpo.phis_of(policy, theta, inputs["observations"], pieces.policy)
    return mean([pieces.policy.entropy(policy["distribution"], phi) for phi in phis])


# ── The operations ────────────────────────────────────────────────


def ratio(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """r of every row."""
    return {"ratio": pieces.ratios(exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"]))}


def _objective_of_new(inputs: Inputs, pieces: Pieces) -> Callable[[list[Scalar]], Scalar]:
    old, advantages, clip = exact(inputs["old_log_prob"]), exact(inputs["advantages"]), arb(inputs["clip"])
    return lambda new: pieces.objective(pieces.ratios(old, new), advantages, clip)


def clipped_objective(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Mean of min(rA, clip(r)A)."""
    return {"objective": _objective_of_new(inputs, pieces)(exact(inputs["new_log_prob"]))}


def clipped_objective_gradient(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Its gradient with respect to the new log-probabilities."""
    return {"gradient": pieces.gradient(_objective_of_new(inputs, pieces), exact(inputs["new_log_prob"]))}


def clipped_objective_parameter_gradient(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Its gradient with respect to θ."""
    policy, rows = inputs["policy"], range(len(inputs["advantages"]))
    g = pieces.gradient(lambda theta: clipped_objective_at(inputs, theta, rows, pieces), flatten(policy))
    return {"gradient": unflatten(policy, g)}


def _with_gradient(inputs: Inputs, row: Callable[[Scalar, arb], Scalar], pieces: Pieces) -> Outputs:
    """The mean of a function of the rows' ratios and advantages, and its gradient."""
    old, advantages = exact(inputs["old_log_prob"]), exact(inputs["advantages"])

    def objective(new: list[Scalar]) -> Scalar:
        return mean([row(r, a) for r, a in zip(pieces.ratios(old, new), advantages, strict=True)])

    new = exact(inputs["new_log_prob"])
    return {"objective": objective(new), "gradient": pieces.gradient(objective, new)}


def asymmetric_clipped_objective(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Mean of min(rA, clip(r)A), the window with two widths, and its gradient."""
    low, high = arb(inputs["clip_low"]), arb(inputs["clip_high"])
    return _with_gradient(inputs, lambda r, a: pieces.windowed_row(r, a, low, high), pieces)


def dual_clipped_objective(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Mean of min(rA, clip(r)A), bounded below where A < 0, and its gradient."""
    clip, floor = arb(inputs["clip"]), arb(inputs["floor"])
    return _with_gradient(inputs, lambda r, a: pieces.floored_row(r, a, clip, floor), pieces)


def clip_fraction(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """The fraction of rows outside the window, or of rows whose clipped term is the smaller."""
    clip = arb(inputs["clip"])
    ratios = pieces.ratios(exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"]))
    clipped = 0
    for r, advantage in zip(ratios, exact(inputs["advantages"]), strict=True):
        below, above = less(r, 1 - clip), less(1 + clip, r)
        if conventions["clip_fraction.rule"] == "outside":
            clipped += below or above
        else:
            clipped += (above and less(0, advantage)) or (below and less(advantage, 0))
    return {"clip_fraction": rational(clipped, len(ratios))}


def approximate_kl(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Mean of one estimator of KL(old ‖ new)."""
    estimator = conventions["approximate_kl.estimator"]
    rows = zip(exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"]), strict=True)
    return {"approximate_kl": mean([pieces.k_estimator(p, q, estimator) for p, q in rows])}


def kl_penalized_objective(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Mean of rA − β KL."""
    ratios = pieces.ratios(exact(inputs["old_log_prob"]), exact(inputs["new_log_prob"]))
    beta = arb(inputs["kl_penalty"])
    rows = zip(ratios, exact(inputs["advantages"]), exact(inputs["kl"]), strict=True)
    return {"objective": mean([r * a - beta * d for r, a, d in rows])}


def kl_penalty_update(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """The next β."""
    beta, d, target = arb(inputs["kl_penalty"]), arb(inputs["kl"]), arb(inputs["target"])
    rule = SCHEDULES[conventions["kl_penalty.schedule"]]
    if below(d, rule.low, target):
        return {"kl_penalty": rule.lowered(beta)}
    return {"kl_penalty": rule.raised(beta) if above(d, rule.high, target) else beta}


def proportional_kl_penalty_update(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """β(1 + e n/h), e = d/t − 1 kept within ±0.2, the float64 number."""
    error = relative_error(inputs)
    limit = exact(0.2)
    return moved_penalty(inputs, maximum(minimum(error, limit), -limit))


def relative_error(inputs: Inputs) -> arb:
    """d/t − 1."""
    return arb(inputs["kl"]) / arb(inputs["target"]) - 1


def moved_penalty(inputs: Inputs, error: arb) -> Outputs:
    """β(1 + error · n/h)."""
    part = rational(inputs["samples"], inputs["horizon"])
    return {"kl_penalty": arb(inputs["kl_penalty"]) * (1 + error * part)}


def value_loss(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Mean of the declared error, times the factor."""
    loss = pieces.value_loss(exact(inputs["values"]), exact(inputs["targets"]), error_of(conventions))
    return {"loss": factor_of(conventions) * loss}


def clipped_value_loss(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Mean of the clipped error, times the factor."""
    clip, form, error = arb(inputs["clip"]), conventions["value_loss.clip"], error_of(conventions)
    columns = (exact(inputs[name]) for name in ("values", "old_values", "targets"))
    rows = [pieces.clipped_value_row(v, old, t, clip, form, error) for v, old, t in zip(*columns, strict=True)]
    return {"loss": factor_of(conventions) * mean(rows)}


def entropy_bonus(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Mean entropy and its gradient."""
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    g = pieces.gradient(lambda t: mean_entropy_at(inputs, t, pieces), theta)
    return {"entropy": mean_entropy_at(inputs, theta, pieces), "gradient": unflatten(policy, g)}


def ppo_objective(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """L^CLIP − c₁ (V − V_target)² + c₂ entropy, and its gradients."""
    policy, network = inputs["policy"], inputs["value_network"]
    theta, weights = flatten(policy), flatten(network)
    rows = range(len(inputs["advantages"]))
    c1 = arb(inputs["value_coefficient"]) * factor_of(conventions)
    c2 = arb(inputs["entropy_coefficient"]) * pieces.entropy_sign
    targets = exact(inputs["value_targets"])

    def policy_part(t: Sequence[Scalar]) -> Scalar:
        return clipped_objective_at(inputs, t, rows, pieces) + c2 * mean_entropy_at(inputs, t, pieces)

    def value_part(w: Sequence[Scalar]) -> Scalar:
        rows = trpo.outputs_of_network(network, w, inputs["observations"], pieces.policy)
        return -c1 * pieces.value_loss([value for (value,) in rows], targets, error_of(conventions))

    return {
        "objective": policy_part(theta) + value_part(weights),
        "policy_gradient": unflatten(policy, pieces.gradient(policy_part, theta)),
        "value_gradient": unflatten(network, pieces.gradient(value_part, weights)),
    }


def _rates(inputs: Inputs) -> Rates:
    return Rates(*(arb(inputs[name]) for name in Rates._fields))


def adam_step(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """One step of Adam that descends the gradient."""
    state = Adam(*(exact(inputs[name]) for name in Adam._fields))
    return pieces.adam(state, exact(inputs["gradient"]), inputs["step"], _rates(inputs))._asdict()


def ppo_epoch(inputs: Inputs, conventions: Conventions, pieces: Pieces = RIGHT) -> Outputs:
    """Adam ascends the clipped objective of one minibatch after the other."""
    policy, theta = inputs["policy"], flatten(inputs["policy"])
    state = Adam(theta, [arb(0)] * len(theta), [arb(0)] * len(theta))
    for step, rows in enumerate(inputs["minibatches"], start=1):
        g = pieces.gradient(lambda t, rows=rows: clipped_objective_at(inputs, t, rows, pieces), state.parameters)
        state = pieces.adam(state, [-g_i for g_i in g], step, _rates(inputs))
    return {"parameters": unflatten(policy, state.parameters)}


DEFINITIONS: dict[str, Callable[[Inputs, Conventions], Outputs]] = {
    "ratio": ratio,
    "clipped_objective": clipped_objective,
    "clipped_objective_gradient": clipped_objective_gradient,
    "clipped_objective_parameter_gradient": clipped_objective_parameter_gradient,
    "asymmetric_clipped_objective": asymmetric_clipped_objective,
    "dual_clipped_objective": dual_clipped_objective,
    "clip_fraction": clip_fraction,
    "approximate_kl": approximate_kl,
    "kl_penalized_objective": kl_penalized_objective,
    "kl_penalty_update": kl_penalty_update,
    "proportional_kl_penalty_update": proportional_kl_penalty_update,
    "value_loss": value_loss,
    "clipped_value_loss": clipped_value_loss,
    "entropy_bonus": entropy_bonus,
    "ppo_objective": ppo_objective,
    "adam_step": adam_step,
    "ppo_epoch": ppo_epoch,
}
