"""Honest variants: right by another way, so none of them may be flagged.

The large collection, with every order of summation and automatic differentiation, is ``python -m verification.honest``.
Here are those that live inside the package: refpg in both precisions, on rows, environments and sequences in another
order, on memory in another layout, in a wider format; the ordinary programs that the mutants are made of; textbook
formulas; and the false alarms, code that was reported as a bug somewhere and is right.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax, softmax

from refpg import geometry
from refpg.conformance.mutants import estimators, programs, sequence, theory
from refpg.conformance.ops import OPS
from refpg.conformance.reference import answers, pack, policy_and_theta, step_epsilon, unpack
from refpg.conformance.signatures import parse_type
from refpg.conformance.vectors import Vectors
from refpg.conformance.verdicts import Outcome, Verdict, call, verdict_on
from refpg.notation import Array

Function = Callable[..., Any]
Conventions = Mapping[str, str]
Functions = Mapping[str, Function]

DTYPES = ("float64", "float32")


class Variant(NamedTuple):
    """An honest implementation by ``name``: its ``functions`` by op, from the conventions; the ``dtypes`` it is for."""

    name: str
    functions: Callable[[Conventions], Functions]
    dtypes: tuple[str, ...] = DTYPES


class Line(NamedTuple):
    """What became of a variant in a dtype: how many ``answers``, those ``flagged``, and the ``worst`` in tolerances."""

    variant: Variant
    dtype: str
    answers: int
    flagged: tuple[Outcome, ...]
    worst: float


def answering(vectors: Vectors) -> list[tuple[Variant, str]]:
    """Return every variant that answers some op of the vectors, in every dtype it is meant for."""
    defaults = {name: axis.default for name, axis in vectors.axes.items()}
    return [
        (variant, dtype)
        for variant in VARIANTS
        if set(variant.functions(defaults)) & set(vectors.cases)
        for dtype in variant.dtypes
    ]


def judged(variant: Variant, dtype: str, vectors: Vectors) -> Line:
    """Judge a variant on every case and under every convention that it answers."""
    defaults = {name: axis.default for name, axis in vectors.axes.items()}
    outcomes = []
    for case in (case for cases in vectors.cases.values() for case in cases):
        if dtype not in case.resolves or case.stability:
            continue
        for expected in case.expected:
            functions = variant.functions(defaults | dict(expected.conventions))
            if case.op in functions:
                reply = call(case.op, functions[case.op], case.inputs, case.shapes, dtype)
                outcomes.append(verdict_on(case, expected, reply, dtype, vectors.policy))
    flagged = tuple(outcome for outcome in outcomes if outcome.verdict is not Verdict.CONFORMS)
    return Line(variant, dtype, len(outcomes), flagged, max(outcome.worst for outcome in outcomes))


# refpg in another order, layout or format.


def _reversed(op: str, function: Function) -> Function:
    """Turn the rows B, the environments E and the sequences N around, and the answer back."""

    def turned(types: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _turned(types[name], value, values) for name, value in values.items()}

    def function_of_reversed(**inputs: Any) -> Any:
        answer = function(**turned(OPS[op].inputs, inputs))
        if not isinstance(answer, Mapping) or set(answer) != set(OPS[op].outputs):
            (output,) = OPS[op].outputs
            return turned(OPS[op].outputs, {output: answer})
        return turned(OPS[op].outputs, answer)

    return function_of_reversed


def _turned(text: str, value: Any, inputs: Mapping[str, Any]) -> Any:
    letters = parse_type(text).letters
    if letters == ("M",):  # lists of rows
        return [len(inputs["observations"]) - 1 - rows for rows in value]
    axes = tuple(axis for axis, letter in enumerate(letters) if letter in ("B", "E", "N"))
    return np.flip(value, axes) if axes else value


def _on_other_memory(function: Function) -> Function:
    """Give every matrix column by column, and every vector with gaps."""

    def spread(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.ndim == 1:
            return np.repeat(value, 2)[::2]
        if isinstance(value, np.ndarray):
            return np.asfortranarray(value)
        if isinstance(value, dict):
            return {name: spread(part) for name, part in value.items()}
        return [spread(part) for part in value] if isinstance(value, list) else value

    return lambda **inputs: function(**{name: spread(value) for name, value in inputs.items()})


def _widened(function: Function) -> Function:
    """Compute in float64, and round the answer once."""

    def cast(value: Any, dtype: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: cast(part, dtype) for name, part in value.items()}
        if isinstance(value, list):
            return [cast(part, dtype) for part in value]
        array = np.asarray(value)
        return array.astype(dtype) if array.dtype.kind == "f" and array.ndim else value

    return lambda **inputs: cast(function(**cast(inputs, np.float64)), np.float32)


def _of_every_op(change: Callable[[str, Function], Function]) -> Callable[[Conventions], Functions]:
    return lambda conventions: {op: change(op, function) for op, function in answers(conventions).items()}


# Ordinary programs and textbook formulas.


def _programs(conventions: Conventions) -> Functions:
    without: dict[str, Function] = {
        "ratio": programs.ratios,
        "surrogate": programs.surrogate_value,
        "conjugate_gradient": programs.matrix_conjugate_gradient,
    }
    names = (
        "clipped_objective",
        "clipped_objective_gradient",
        "clipped_objective_parameter_gradient",
        "kl_penalized_objective",
        "entropy_bonus",
        "adam_step",
        "ppo_epoch",
        "surrogate_gradient",
        "fisher_matrix",
        "fisher_vector_product",
        "fisher_conjugate_gradient",
        "natural_gradient",
        "step_length",
        "clip_fraction",
        "value_loss",
        "ppo_objective",
        "mean_kl",
        "mean_kl_gradient",
        "mean_kl_hessian_vector_product",
        "natural_gradient_step",
        "line_search",
        "trpo_step",
    )
    found = without | {name: getattr(programs, name) for name in names}
    of_tokens = ("masked_aggregate", "token_kl_penalty", "token_clipped_objective", "sequence_objective")
    bound = {op: partial(f, programs.RIGHT) for op, f in found.items()} | theory.RIGHT
    bound |= {op: partial(getattr(sequence, op), sequence.RIGHT) for op in of_tokens}
    return {op: partial(f, conventions) if OPS[op].conventions else f for op, f in bound.items()}


_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _categorical_log_prob(logits: Array, actions: Array) -> Array:
    return np.take_along_axis(log_softmax(logits, axis=1), actions[:, None], axis=1)[:, 0]


def _categorical_entropy(logits: Array) -> Array:
    return -(softmax(logits, axis=1) * log_softmax(logits, axis=1)).sum(axis=1)


def _categorical_kl(old_logits: Array, new_logits: Array) -> Array:
    difference = log_softmax(old_logits, axis=1) - log_softmax(new_logits, axis=1)
    return (softmax(old_logits, axis=1) * difference).sum(axis=1)


def _coin_log_prob(logits: Array, actions: Array) -> Array:
    return -np.logaddexp(0, np.where(actions == 1, -logits, logits)).sum(axis=1)


def _gaussian_log_prob(mean: Array, log_std: Array, actions: Array) -> Array:
    return (-((actions - mean) ** 2) / (2 * np.exp(2 * log_std)) - log_std - _HALF_LOG_2PI).sum(axis=1)


def _gaussian_kl(old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array) -> Array:
    spread = np.exp(2 * old_log_std) + (old_mean - new_mean) ** 2
    return (new_log_std - old_log_std + spread / (2 * np.exp(2 * new_log_std)) - 0.5).sum(axis=1)


def _gae_by_sums(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    gamma: float,
    gae_lambda: float,
) -> dict[str, Array]:
    """Σ_l (γλ)^l δ_{t+l} to the end of each episode, every sum on its own."""
    delta = rewards + gamma * np.where(terminated, 0, next_values) - values
    advantages = np.zeros_like(delta)
    for t, e in np.ndindex(delta.shape):
        for later in range(t, len(delta)):
            advantages[t, e] += (gamma * gae_lambda) ** (later - t) * delta[later, e]
            if terminated[later, e] or truncated[later, e]:
                break
    return {"advantages": advantages, "value_targets": advantages + values}


def _with_declared_targets(function: Function, conventions: Conventions) -> Function:
    """Put returns in the place of the λ-returns of a function, if they are declared."""
    names = ("rewards", "next_values", "terminated", "truncated", "gamma")

    def of_returns(**inputs: Any) -> dict[str, Array]:
        returns = answers(conventions)["discounted_returns"](**{name: inputs[name] for name in names})
        return function(**inputs) | {"value_targets": returns}

    return function if conventions["gae.value_target"] == "lambda_return" else of_returns


def _normalize(conventions: Conventions, advantages: Array) -> Array:
    std = advantages.std(ddof=int(conventions["advantage.ddof"]))
    normal: Array = (advantages - advantages.mean()) / estimators.divisor(std, conventions)
    return normal


def _masked_normalize(conventions: Conventions, advantages: Array, mask: Array) -> Array:
    counted = advantages[mask]
    scale = estimators.divisor(counted.std(ddof=int(conventions["advantage.ddof"])), conventions)
    return np.where(mask, (advantages - counted.mean()) / scale, 0)


def _of_blocks(conventions: Conventions, rewards: Array, group: Array) -> Array:
    """Rows sorted by group, cut into blocks, and the advantages put back."""
    order = np.argsort(group, kind="stable")
    advantages = np.empty_like(rewards)
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        r, n = rewards[rows], len(rows)
        centred = r - r.mean()
        if conventions["group.baseline"] == "leave_one_out":
            centred = centred * n / (n - 1)
        std = r.std(ddof=int(conventions["advantage.ddof"]))
        advantages[rows] = centred / (estimators.divisor(std, conventions) if _scaled(conventions) else 1)
    return advantages


def _scaled(conventions: Conventions) -> bool:
    return conventions["group.scale"] == "std"


def _token_rewards(
    scores: Array, log_prob: Array, reference_log_prob: Array, mask: Array, kl_penalty: float
) -> Array:
    """The score where no later token counts."""
    later = np.cumsum(mask[:, ::-1], axis=1)[:, ::-1] - mask
    rewards = -kl_penalty * (log_prob - reference_log_prob) + np.where(later == 0, scores[:, None], 0)
    return np.where(mask, rewards, 0)


def _textbook(conventions: Conventions) -> Functions:
    return {
        "log_prob_categorical": _categorical_log_prob,
        "entropy_categorical": _categorical_entropy,
        "kl_categorical": _categorical_kl,
        "mean_kl_categorical": lambda **inputs: _categorical_kl(**inputs).mean(),
        "log_prob_bernoulli": _coin_log_prob,
        "log_prob_diagonal_gaussian": _gaussian_log_prob,
        "kl_diagonal_gaussian": _gaussian_kl,
        "mean_kl_diagonal_gaussian": lambda **inputs: _gaussian_kl(**inputs).mean(),
        "gae": _with_declared_targets(_gae_by_sums, conventions),
        "td_errors": lambda rewards, values, next_values, terminated, gamma: (
            rewards + gamma * next_values * ~terminated - values
        ),
        "normalize_advantages": partial(_normalize, conventions),
        "masked_normalize_advantages": partial(_masked_normalize, conventions),
        "group_advantages": partial(_of_blocks, conventions),
        "token_rewards": _token_rewards,
        "explained_variance": lambda values, targets: 1 - np.var(targets - values) / np.var(targets),
    }


# False alarms: reported as bugs, and right.


def _kl_hessian_at_old(policy: Any, observations: Array, vector: Any, damping: float) -> Any:
    """The KL is zero at θ_old, and so is its gradient; its Hessian is the Fisher matrix all the same."""
    pi, theta = policy_and_theta(policy)
    v = pack(pi.network, vector)
    return unpack(pi.network, geometry.mean_kl_hessian_vector_product(pi, theta, theta, observations, v) + damping * v)


def _losses(old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float) -> Any:
    """max(−rA, −clip(r)A), because a loss is minimised."""
    r = np.exp(new_log_prob - old_log_prob)
    return -np.maximum(-r * advantages, -np.clip(r, 1 - clip, 1 + clip) * advantages).mean()


def _unbounded_below(old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float) -> Any:
    """For A < 0 a large ratio is not clipped: the objective is a lower bound."""
    r = np.exp(new_log_prob - old_log_prob)
    kept = np.where(advantages < 0, np.maximum(r, 1 - clip), np.clip(r, 1 - clip, 1 + clip))
    return np.minimum(r * advantages, kept * advantages).mean()


def _edge_by_sign(old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float) -> Any:
    """min(rA, (1 ± ε)A), the ratio itself never clipped."""
    r = np.exp(new_log_prob - old_log_prob)
    edge = np.where(advantages > 0, (1 + clip) * advantages, (1 - clip) * advantages)
    return np.minimum(r * advantages, edge).mean()


def _one_sided(old_log_prob: Array, new_log_prob: Array, advantages: Array, clip: float) -> Any:
    """The ratio clipped on one side, by the sign of A, and no minimum."""
    r = np.exp(new_log_prob - old_log_prob)
    return (np.where(advantages > 0, np.minimum(r, 1 + clip), np.maximum(r, 1 - clip)) * advantages).mean()


def _negative_log_probs(old_log_prob: Array, new_log_prob: Array) -> Array:
    """old − new, of negative log-probabilities."""
    old_neglogp, new_neglogp = -old_log_prob, -new_log_prob
    return np.exp(old_neglogp - new_neglogp)


def _by_log_variances(old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array) -> Any:
    """The trace of a ratio of variances, not squared again."""
    old, new = 2 * old_log_std, 2 * new_log_std
    trace, distance = np.exp(old - new).sum(axis=1), ((new_mean - old_mean) ** 2 * np.exp(-new)).sum(axis=1)
    return (0.5 * ((new - old).sum(axis=1) + trace + distance - old_mean.shape[1])).mean()


def _softmax_of_log_probs(logits: Array) -> Array:
    """softmax(log p) = p."""
    p = softmax(log_softmax(logits, axis=1), axis=1)
    return -(p * np.log(p)).sum(axis=1)


def _plus_one(mean: Array, log_std: Array) -> Array:
    """½ (log 2πσ² + 1), which may be negative."""
    return (0.5 * (np.log(2 * math.pi * np.exp(2 * log_std)) + 1)).sum(axis=1)


def _masked_beforehand(next_values: Array, terminated: Array, **inputs: Any) -> Any:
    """No (1 − done) in δ, because the next values are masked before."""
    gamma, gae_lambda, values = inputs["gamma"], inputs["gae_lambda"], inputs["values"]
    delta = inputs["rewards"] + gamma * (next_values * ~terminated) - values
    advantages = np.zeros_like(delta)
    advantages[-1] = delta[-1]  # the last one has no λ in it
    for t in reversed(range(len(delta) - 1)):
        ended = terminated[t] | inputs["truncated"][t]
        advantages[t] = delta[t] + gamma * gae_lambda * np.where(ended, 0, advantages[t + 1])
    return {"advantages": advantages, "value_targets": advantages + values}


def _half_in_curvature(conventions: Conventions, direction: Array, product: Array, max_kl: float) -> Any:
    """½ (xᵀHx + ε), and a division by √(½ (xᵀHx + ε)/δ)."""
    shs = 0.5 * (direction @ product + step_epsilon(conventions))
    return 1 / np.sqrt(shs / max_kl)


def _by_sampled_scores(logits: Array) -> Array:
    """E[s sᵀ] over the policy's own actions; the sign of s is of no account."""
    p = softmax(logits, axis=1)
    s = p[:, None, :] - np.eye(logits.shape[1], dtype=logits.dtype)
    return np.einsum("ba,bai,baj->bij", p, s, s)


def _penalty_once(old_log_prob: Array, new_log_prob: Array, advantages: Array, kl: Array, kl_penalty: float) -> Any:
    """The penalty in a term of its own, and the KL in the reward set to zero."""
    in_reward = 0 * kl
    r = np.exp(new_log_prob - old_log_prob)
    return (r * advantages - kl_penalty * in_reward).mean() - kl_penalty * kl.mean()


FALSE_ALARMS: dict[str, tuple[str, Callable[[Conventions], Function]]] = {
    "fa-kl-zero-at-old": ("fisher_vector_product", lambda conventions: _kl_hessian_at_old),
    "fa-max-vs-min": ("clipped_objective", lambda conventions: _losses),
    "fa-neglogp": ("ratio", lambda conventions: _negative_log_probs),
    "fa-unbounded-neg": ("clipped_objective", lambda conventions: _unbounded_below),
    "fa-spinup-coef": ("clipped_objective", lambda conventions: _edge_by_sign),
    "fa-torchrl-onesided": ("clipped_objective", lambda conventions: _one_sided),
    "fa-logvar-trace": ("mean_kl_diagonal_gaussian", lambda conventions: _by_log_variances),
    "fa-softmax-logp": ("entropy_categorical", lambda conventions: _softmax_of_log_probs),
    "fa-entropy-plus-one": ("entropy_diagonal_gaussian", lambda conventions: _plus_one),
    "fa-tianshou-gae": ("gae", partial(_with_declared_targets, _masked_beforehand)),
    "fa-rlax-gae": ("gae", partial(_with_declared_targets, _masked_beforehand)),
    "fa-tianshou-old-logp": ("trpo_step", lambda conventions: _programs(conventions)["trpo_step"]),
    "fa-shs-half": ("step_length", lambda conventions: partial(_half_in_curvature, conventions)),
    "fa-acktr-empirical": ("fisher_categorical", lambda conventions: _by_sampled_scores),
    "fa-returns-adv-plus-v": ("gae", partial(_with_declared_targets, _gae_by_sums)),
    "fa-neg-entropy": ("entropy_diagonal_gaussian", lambda conventions: _plus_one),
    "fa-kl-twice": ("kl_penalized_objective", lambda conventions: _penalty_once),
}


def _false_alarm(op: str, function: Callable[[Conventions], Function], conventions: Conventions) -> Functions:
    return {op: function(conventions)}


VARIANTS = (
    Variant("refpg", answers),
    Variant("rows, environments and sequences in reverse", _of_every_op(_reversed)),
    Variant("column-major and strided", _of_every_op(lambda op, function: _on_other_memory(function))),
    Variant("float64 inside", _of_every_op(lambda op, function: _widened(function)), ("float32",)),
    Variant("ordinary programs", _programs),
    Variant("textbook formulas", _textbook),
    *(Variant(name, partial(_false_alarm, op, function)) for name, (op, function) in FALSE_ALARMS.items()),
)
