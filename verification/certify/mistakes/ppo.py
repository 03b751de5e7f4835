"""Known mistakes in the operations of the profile `ppo`: a definition with one piece replaced."""

from collections.abc import Callable, Sequence
from fractions import Fraction

from flint import arb

from verification.certify.balls import exact, less, maximum, mean, minimum, positive, rational, total
from verification.certify.calculus import Scalar, constant, exponential
from verification.certify.definitions import ppo, trpo
from verification.certify.definitions.ppo import (
    RIGHT,
    Adam,
    Conventions,
    Error,
    Inputs,
    Outputs,
    Pieces,
    Rates,
    Schedule,
    clipped_term,
)
from verification.certify.definitions.trpo import Phi
from verification.certify.mistakes import Mistake
from verification.certify.mistakes.trpo import (
    LOG_PROB_MISTAKES,
    SLOPE_MISTAKES,
    ratio_always_one,
    ratio_inverted,
    ratio_without_gradient,
)

Answer = Callable[[Inputs, Conventions], Outputs]
Operation = Callable[..., Outputs]
Row = Callable[[Scalar, arb, arb], Scalar]


def made_of(operation: Operation, pieces: dict[str, Pieces]) -> list[Mistake]:
    """One mistake per piece replaced."""

    def answer(replaced: Pieces) -> Answer:
        return lambda inputs, conventions: operation(inputs, conventions, replaced)

    return [Mistake(bug, operation.__name__, answer(replaced)) for bug, replaced in pieces.items()]


# ── Objectives ────────────────────────────────────────────────


def _smaller(a: Scalar, b: Scalar) -> Scalar:
    return a if less(constant(a), constant(b)) else b


def _larger(a: Scalar, b: Scalar) -> Scalar:
    return b if less(constant(a), constant(b)) else a


def _kept(value: Scalar, clip: arb) -> Scalar:
    if less(constant(value), 1 - clip):
        return 1 - clip
    return 1 + clip if less(1 + clip, constant(value)) else value


def _outside(ratio: Scalar, clip: arb) -> bool:
    return less(constant(ratio), 1 - clip) or less(1 + clip, constant(ratio))


def _minimum_before_advantage(r: Scalar, A: arb, clip: arb) -> Scalar:
    return _smaller(r, 1 + clip) * A


def _no_minimum(r: Scalar, A: arb, clip: arb) -> Scalar:
    return _kept(r, clip) * A


def _maximum(r: Scalar, A: arb, clip: arb) -> Scalar:
    return _larger(r * A, _kept(r, clip) * A) if _outside(r, clip) else r * A


def _clipped_surrogate(r: Scalar, A: arb, clip: arb) -> Scalar:
    return _smaller(r * A, _kept(r * A, clip) * A)


def _clipped_term_without_advantage(r: Scalar, A: arb, clip: arb) -> Scalar:
    return _smaller(r * A, _kept(r, clip))


def _window_of_log_ratio(r: Scalar, A: arb, clip: arb) -> Scalar:
    if positive(A):
        return clip.exp() * A if less(clip.exp(), constant(r)) else r * A
    return (-clip).exp() * A if less(constant(r), (-clip).exp()) else r * A


def _dual_for_all_signs(r: Scalar, A: arb, clip: arb) -> Scalar:
    return _larger(clipped_term(r, A, clip), 3 * A)


def _row_mean(row: Row) -> Callable[[list[Scalar], list[arb], arb], Scalar]:
    return lambda ratios, advantages, clip: mean([row(r, A, clip) for r, A in zip(ratios, advantages, strict=True)])


def _negated(ratios: list[Scalar], advantages: list[arb], clip: arb) -> Scalar:
    return -ppo.clipped_mean(ratios, advantages, clip)


def _summed(ratios: list[Scalar], advantages: list[arb], clip: arb) -> Scalar:
    return len(ratios) * ppo.clipped_mean(ratios, advantages, clip)


def _advantages_averaged_first(ratios: list[Scalar], advantages: list[arb], clip: arb) -> Scalar:
    average = mean(advantages)
    second = mean([_kept(r, clip) * A for r, A in zip(ratios, advantages, strict=True)])
    return mean([_smaller(r * average, second) for r in ratios])


def _one_branch_normalised(ratios: list[Scalar], advantages: list[arb], clip: arb) -> Scalar:
    average = mean(advantages)
    std = mean([(A - average) * (A - average) for A in advantages]).sqrt()
    if std.is_zero():
        return arb.nan()
    rows = zip(ratios, advantages, strict=True)
    return mean([_smaller(r * A, _kept(r, clip) * ((A - average) / std)) for r, A in rows])


def _all_pairs(ratios: list[Scalar], advantages: list[arb], clip: arb) -> Scalar:
    return mean([clipped_term(r, A, clip) for r in ratios for A in advantages])


CLIP_MISTAKES: dict[str, Pieces] = {
    "clip-min-before-adv": RIGHT._replace(objective=_row_mean(_minimum_before_advantage)),
    "clip-no-min": RIGHT._replace(objective=_row_mean(_no_minimum)),
    "clip-max-not-min": RIGHT._replace(objective=_row_mean(_maximum)),
    "clip-surr-not-ratio": RIGHT._replace(objective=_row_mean(_clipped_surrogate)),
    "clip-term-not-times-adv": RIGHT._replace(objective=_row_mean(_clipped_term_without_advantage)),
    "dual-clip-all-signs": RIGHT._replace(objective=_row_mean(_dual_for_all_signs)),
    "loss-double-negation": RIGHT._replace(objective=_negated),
}

WINDOW: dict[str, Pieces] = {"clip-in-log-ratio": RIGHT._replace(objective=_row_mean(_window_of_log_ratio))}


def _kept_between(r: Scalar, low: arb, high: arb) -> Scalar:
    if less(constant(r), 1 - low):
        return 1 - low
    return 1 + high if less(1 + high, constant(r)) else r


WINDOW_MISTAKES: dict[str, Pieces] = {
    "clip-bounds-swapped": RIGHT._replace(windowed_row=lambda r, A, low, high: ppo.windowed_term(r, A, high, low)),
    "clip-one-bound": RIGHT._replace(windowed_row=lambda r, A, low, high: ppo.windowed_term(r, A, low, low)),
    "clip-no-min": RIGHT._replace(windowed_row=lambda r, A, low, high: _kept_between(r, low, high) * A),
}


def _smaller_of_floor(r: Scalar, A: arb, clip: arb, floor: arb) -> Scalar:
    clipped = clipped_term(r, A, clip)
    return _smaller(clipped, floor * A) if less(A, 0) else clipped


FLOOR_MISTAKES: dict[str, Pieces] = {
    "dual-clip-all-signs": RIGHT._replace(
        floored_row=lambda r, A, clip, floor: _larger(clipped_term(r, A, clip), floor * A)
    ),
    "dual-clip-min-not-max": RIGHT._replace(floored_row=_smaller_of_floor),
}

REDUCTION_MISTAKES: dict[str, Pieces] = {
    "adv-mean-before-ratio": RIGHT._replace(objective=_advantages_averaged_first),
    "advnorm-one-branch": RIGHT._replace(objective=_one_branch_normalised),
    "ratio-broadcast-NxN": RIGHT._replace(objective=_all_pairs),
    "pg-sum-not-mean": RIGHT._replace(objective=_summed),
}


def _rows(ratio: Callable[[Scalar, Scalar], Scalar]) -> Callable[[Sequence[Scalar], Sequence[Scalar]], list[Scalar]]:
    return lambda old, new: [ratio(p, q) for p, q in zip(old, new, strict=True)]


RATIO_MISTAKES: dict[str, Pieces] = {
    "ratio-inverted": RIGHT._replace(ratios=_rows(ratio_inverted)),
    "ratio-always-one": RIGHT._replace(ratios=_rows(ratio_always_one)),
}

GRADIENT_MISTAKES: dict[str, Pieces] = {"ratio-old-not-detached": RIGHT._replace(ratios=_rows(ratio_without_gradient))}

POLICY_MISTAKES: dict[str, Pieces] = {
    bug: RIGHT._replace(policy=trpo.RIGHT._replace(log_prob=log_prob)) for bug, log_prob in LOG_PROB_MISTAKES.items()
}

SLOPES: dict[str, Pieces] = {bug: RIGHT._replace(policy=pieces) for bug, pieces in SLOPE_MISTAKES.items()}


def _fraction_by_log_ratio(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Rows counted where |log r| > ε."""
    clip, clipped = arb(inputs["clip"]), 0
    columns = (exact(inputs[name]) for name in ("old_log_prob", "new_log_prob", "advantages"))
    for old, new, A in zip(*columns, strict=True):
        below, above = less(new - old, -clip), less(clip, new - old)
        if conventions["clip_fraction.rule"] == "outside":
            clipped += below or above
        else:
            clipped += (above and less(0, A)) or (below and less(A, 0))
    return {"clip_fraction": rational(clipped, len(inputs["advantages"]))}


def _ratio_logged(inputs: Inputs, conventions: Conventions) -> Outputs:
    ratios = ppo.ratio(inputs, conventions)["ratio"]
    return {"clip_fraction": mean(ratios)}


# ── Estimators and penalties ────────────────────────────────────────────────


def _estimator(name: str, row: Callable[[arb], arb]) -> Pieces:
    """Pieces whose estimator ``name`` is another function of the log-ratio."""
    return RIGHT._replace(
        k_estimator=lambda p, q, estimator: row(q - p) if estimator == name else ppo.k_estimator(p, q, estimator)
    )


ESTIMATOR_MISTAKES: dict[str, Pieces] = {
    "akl-sign": _estimator("k1", lambda d: d),
    "akl-k2-no-half": _estimator("k2", lambda d: d * d),
    "akl-minus-ratio": _estimator("k3", lambda d: -d.exp()),
    "ratio-inverted": RIGHT._replace(k_estimator=lambda p, q, estimator: ppo.k_estimator(q, p, estimator)),
    "ratio-always-one": RIGHT._replace(k_estimator=lambda p, q, estimator: arb(0)),
}


def _with_kl_times(factor: float) -> Answer:
    return lambda inputs, conventions: ppo.kl_penalized_objective(
        inputs | {"kl_penalty": factor * inputs["kl_penalty"]}, conventions
    )


def _penalty(change: Callable[[Schedule], Schedule]) -> Answer:
    """The next β by another schedule."""

    def answer(inputs: Inputs, conventions: Conventions) -> Outputs:
        beta, d, target = arb(inputs["kl_penalty"]), arb(inputs["kl"]), arb(inputs["target"])
        rule = change(ppo.SCHEDULES[conventions["kl_penalty.schedule"]])
        if ppo.above(d, rule.high, target):
            return {"kl_penalty": rule.raised(beta)}
        return {"kl_penalty": rule.lowered(beta) if ppo.below(d, rule.low, target) else beta}

    return answer


def _inverted(rule: Schedule) -> Schedule:
    return rule._replace(lowered=rule.raised, raised=rule.lowered)


def _without_dead_band(rule: Schedule) -> Schedule:
    return rule._replace(low=Fraction(1), high=Fraction(1))


def _controller(error: Callable[[Inputs], arb]) -> Answer:
    return lambda inputs, conventions: ppo.moved_penalty(inputs, error(inputs))


def _controller_inverted(inputs: Inputs, conventions: Conventions) -> Outputs:
    right = ppo.proportional_kl_penalty_update(inputs, conventions)["kl_penalty"]
    return {"kl_penalty": 2 * arb(inputs["kl_penalty"]) - right}


def _controller_without_horizon(inputs: Inputs, conventions: Conventions) -> Outputs:
    return ppo.proportional_kl_penalty_update(inputs | {"samples": 1, "horizon": 1}, conventions)


# ── Values and entropy ────────────────────────────────────────────────


def _all_pairs_error(values: list[Scalar], targets: list[arb], error: Error) -> Scalar:
    return mean([error(v, t) for v in values for t in targets])


def _kept_value(v: arb, old: arb, clip: arb) -> arb:
    return maximum(minimum(v, old + clip), old - clip)


def _smaller_error(v: arb, old: arb, t: arb, clip: arb, form: str, error: Error) -> arb:
    if form != "maximum" or not (less(v, old - clip) or less(old + clip, v)):
        return ppo.clipped_value_error(v, old, t, clip, form, error)
    return minimum(error(v, t), error(_kept_value(v, old, clip), t))


def _old_is_current(v: arb, old: arb, t: arb, clip: arb, form: str, error: Error) -> arb:
    return ppo.clipped_value_error(v, v, t, clip, form, error)


def _larger_before_square(v: arb, old: arb, t: arb, clip: arb, form: str, error: Error) -> arb:
    if form != "maximum" or not (less(v, old - clip) or less(old + clip, v)):
        return ppo.clipped_value_error(v, old, t, clip, form, error)
    return error(maximum(v - t, _kept_value(v, old, clip) - t), arb(0))


VALUE_CLIP_MISTAKES: dict[str, Pieces] = {
    "vclip-min": RIGHT._replace(clipped_value_row=_smaller_error),
    "vclip-old-is-current": RIGHT._replace(clipped_value_row=_old_is_current),
    "vclip-max-before-square": RIGHT._replace(clipped_value_row=_larger_before_square),
}

VALUE_MISTAKES: dict[str, Pieces] = {"vloss-broadcast": RIGHT._replace(value_loss=_all_pairs_error)}


def _entropy(form: Callable[[str, Phi], Scalar]) -> Pieces:
    return RIGHT._replace(policy=trpo.RIGHT._replace(entropy=form))


def _gaussian_entropy(form: Callable[[list[Scalar]], Scalar]) -> Pieces:
    """Pieces with another Gaussian entropy, as a function of the log standard deviations."""
    return _entropy(
        lambda distribution, phi: (
            trpo.entropy(distribution, phi) if distribution == "categorical" else form(phi[len(phi) // 2 :])
        )
    )


def _half_log_2_pi_e() -> arb:
    return (2 * arb.pi() * arb(1).exp()).log() / 2


def _unnormalised_entropy(distribution: str, phi: Phi) -> Scalar:
    if distribution != "categorical":
        return trpo.entropy(distribution, phi)
    return -total(exponential(z) * z for z in phi)


def _plus_not_times(log_stds: list[Scalar]) -> Scalar:
    return total((1 + (2 * arb.pi() + exponential(2 * ls)).log()) / 2 for ls in log_stds)


ENTROPY_MISTAKES: dict[str, Pieces] = {
    "ent-half-logstd": _gaussian_entropy(lambda ls: total(s / 2 + _half_log_2_pi_e() for s in ls)),
    "ent-missing-dim-factor": _gaussian_entropy(lambda ls: total(ls) + _half_log_2_pi_e()),
    "ent-missing-half": _gaussian_entropy(lambda ls: total(2 * s + 2 * _half_log_2_pi_e() for s in ls)),
    "ent-plus-not-times": _gaussian_entropy(_plus_not_times),
    "ent-mean-dims": _gaussian_entropy(lambda ls: mean([s + _half_log_2_pi_e() for s in ls])),
    "cat-logits-as-logp": _entropy(_unnormalised_entropy),
}

ENTROPY_SIGN: dict[str, Pieces] = {"ent-sign": _entropy(lambda distribution, phi: -trpo.entropy(distribution, phi))}

BONUS_SIGN: dict[str, Pieces] = {"ent-bonus-sign": RIGHT._replace(entropy_sign=-1)}


# ── Adam ────────────────────────────────────────────────


def _adam(step_of: Callable[[arb, arb, int, Rates], arb]) -> Pieces:
    """Adam whose step is another function of the moments, uncorrected, and the number of the step."""

    def update(state: Adam, g: list[arb], step: int, rates: Rates) -> Adam:
        right = ppo.adam_update(state, g, step, rates)
        moments = zip(state.parameters, right.first_moment, right.second_moment, strict=True)
        parameters = [t - rates.learning_rate * step_of(m, v, step, rates) for t, m, v in moments]
        return right._replace(parameters=parameters)

    return RIGHT._replace(adam=update)


def _uncorrected(m: arb, v: arb, step: int, rates: Rates) -> arb:
    return m / (v.sqrt() + rates.epsilon)


def _epsilon_in_root(m: arb, v: arb, step: int, rates: Rates) -> arb:
    return m / (1 - rates.beta1**step) / (v / (1 - rates.beta2**step) + rates.epsilon).sqrt()


def _epsilon_uncorrected(m: arb, v: arb, step: int, rates: Rates) -> arb:
    return m / (1 - rates.beta1**step) * (1 - rates.beta2**step).sqrt() / (v.sqrt() + rates.epsilon)


def _one_step_late(m: arb, v: arb, step: int, rates: Rates) -> arb:
    later = step + 1
    return m / (1 - rates.beta1**later) / ((v / (1 - rates.beta2**later)).sqrt() + rates.epsilon)


def _ascending(m: arb, v: arb, step: int, rates: Rates) -> arb:
    return -m / (1 - rates.beta1**step) / ((v / (1 - rates.beta2**step)).sqrt() + rates.epsilon)


ADAM_MISTAKES: dict[str, Pieces] = {
    "adam-no-bias-correction": _adam(_uncorrected),
    "adam-epsilon-in-root": _adam(_epsilon_in_root),
    "adam-epsilon-uncorrected": _adam(_epsilon_uncorrected),
    "adam-step-off-by-one": _adam(_one_step_late),
    "pg-wrong-sign": _adam(_ascending),
}


# ── The catalogue ────────────────────────────────────────────────


def _restarted(inputs: Inputs, conventions: Conventions) -> Outputs:
    """Every minibatch starts from the policy that drew the actions; the last one's step is kept."""
    return ppo.ppo_epoch(inputs | {"minibatches": inputs["minibatches"][-1:]}, conventions)


MISTAKES: list[Mistake] = [
    *made_of(ppo.ratio, RATIO_MISTAKES),
    *made_of(ppo.clipped_objective, CLIP_MISTAKES | WINDOW | REDUCTION_MISTAKES | RATIO_MISTAKES),
    *made_of(
        ppo.clipped_objective_gradient, CLIP_MISTAKES | WINDOW | REDUCTION_MISTAKES | RATIO_MISTAKES | GRADIENT_MISTAKES
    ),
    *made_of(
        ppo.clipped_objective_parameter_gradient,
        CLIP_MISTAKES | REDUCTION_MISTAKES | RATIO_MISTAKES | GRADIENT_MISTAKES | POLICY_MISTAKES | SLOPES,
    ),
    *made_of(ppo.asymmetric_clipped_objective, WINDOW_MISTAKES | RATIO_MISTAKES),
    *made_of(ppo.dual_clipped_objective, FLOOR_MISTAKES | RATIO_MISTAKES),
    *made_of(ppo.clip_fraction, RATIO_MISTAKES),
    Mistake("clipfrac-wrong", "clip_fraction", _ratio_logged),
    Mistake("clip-in-log-ratio", "clip_fraction", _fraction_by_log_ratio),
    *made_of(ppo.approximate_kl, ESTIMATOR_MISTAKES),
    *made_of(ppo.kl_penalized_objective, RATIO_MISTAKES),
    Mistake("kl-negated", "kl_penalized_objective", _with_kl_times(-1.0)),
    Mistake("kl-self-zero", "kl_penalized_objective", _with_kl_times(0.0)),
    Mistake("beta-inverted", "kl_penalty_update", _penalty(_inverted)),
    Mistake("beta-no-dead-band", "kl_penalty_update", _penalty(_without_dead_band)),
    Mistake("beta-inverted", "proportional_kl_penalty_update", _controller_inverted),
    Mistake("beta-error-unclipped", "proportional_kl_penalty_update", _controller(ppo.relative_error)),
    Mistake("beta-horizon-ignored", "proportional_kl_penalty_update", _controller_without_horizon),
    *made_of(ppo.value_loss, VALUE_MISTAKES),
    *made_of(ppo.clipped_value_loss, VALUE_CLIP_MISTAKES),
    *made_of(
        ppo.entropy_bonus,
        ENTROPY_MISTAKES | ENTROPY_SIGN | SLOPES,
    ),
    *made_of(
        ppo.ppo_objective,
        CLIP_MISTAKES
        | WINDOW
        | REDUCTION_MISTAKES
        | RATIO_MISTAKES
        | POLICY_MISTAKES
        | SLOPES
        | VALUE_MISTAKES
        | BONUS_SIGN
        | {bug: ENTROPY_MISTAKES[bug] for bug in ("ent-half-logstd", "ent-mean-dims", "ent-missing-half")},
    ),
    *made_of(ppo.adam_step, ADAM_MISTAKES),
    *made_of(
        ppo.ppo_epoch,
        CLIP_MISTAKES | RATIO_MISTAKES | ADAM_MISTAKES | SLOPES,
    ),
    Mistake("epoch-restarted", "ppo_epoch", _restarted),
]
