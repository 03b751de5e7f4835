"""What a variant is, and how it is judged: the adapter handed to the judge, and the line it leaves in the table."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.run import check
from refpg.conformance.vectors import load
from refpg.conformance.verdicts import EXECUTED, Outcome, Verdict
from verification.honest.formulas import FORMULAS, Upcast
from verification.honest.orders import ORDERS, Order
from verification.honest.ordinary import Ordinary

DTYPES = ("float64", "float32")

# Every value of every axis, in combinations for which there are certified answers.
CONVENTIONS: tuple[dict[str, str], ...] = (
    {},
    {
        "kl.direction": "new_old",
        "advantage.ddof": "1",
        "approximate_kl.estimator": "k1",
        "clip_fraction.rule": "active",
        "kl_penalty.schedule": "rllib",
        "value_loss.factor": "1/2",
        "value_loss.clip": "clipped_only",
        "line_search.accept": "improves_and_kl_strict",
        "visitation.normalisation": "normalised",
    },
    {
        "advantage.epsilon": "1e-8",
        "approximate_kl.estimator": "k2",
        "value_loss.clip": "clipped_only",
        "line_search.accept": "improves_and_1.5_kl",
    },
    {
        "value_loss.factor": "1/2",
        "step_length.damping": "undamped",
        "advantage.epsilon": "1e-6",
        "kl_penalty.schedule": "tf_agents",
    },
    {
        "advantage.ddof": "1",
        "advantage.epsilon": "1e-8",
        "kl.direction": "new_old",
        "value_loss.clip": "clamped_error",
    },
    {
        "line_search.accept": "improves_and_kl_strict",
        "advantage.epsilon": "1e-8_in_root",
        "kl_penalty.schedule": "pat_coady",
        "value_loss.error": "smooth_l1",
        "value_loss.clip": "clipped_only",
    },
    {"advantage.ddof": "1", "advantage.epsilon": "1e-6_at_least", "value_loss.error": "smooth_l1"},
    {"advantage.epsilon": "1e-6_at_least", "value_loss.clip": "clamped_error", "value_loss.factor": "1/2"},
    {"advantage.ddof": "1", "advantage.epsilon": "1e-6", "gae.value_target": "reward_to_go"},
    {"advantage.ddof": "1", "advantage.epsilon": "1e-8_in_root", "gae.value_target": "reward_to_go"},
    {"line_search.accept": "no_worse_and_kl"},
    {"line_search.accept": "no_worse_and_kl", "kl.direction": "new_old"},
    {"line_search.accept": "kl_strict"},
    {"line_search.accept": "tenth_of_expected"},
    {"line_search.accept": "half_of_expected_and_kl_strict"},
    {"step_length.epsilon": "1e-8"},
    {"conjugate_gradient.stop": "1e-10"},
    {"conjugate_gradient.stop": "1e-10_from_start"},
    {"line_search.accept": "no_worse_and_kl", "step_length.epsilon": "1e-8"},
    {"line_search.accept": "no_worse_and_kl", "kl.direction": "new_old", "step_length.epsilon": "1e-8"},
    {"line_search.accept": "improves_and_1.5_kl", "conjugate_gradient.stop": "1e-10"},
    {"line_search.accept": "improves_and_kl_strict", "conjugate_gradient.stop": "1e-10"},
    {
        "line_search.accept": "improves_and_kl_strict",
        "step_length.epsilon": "1e-8",
        "conjugate_gradient.stop": "1e-10",
    },
    {
        "line_search.accept": "improves_and_kl_strict",
        "kl.direction": "new_old",
        "conjugate_gradient.stop": "1e-10_from_start",
    },
    {"line_search.accept": "kl_strict", "conjugate_gradient.stop": "1e-10"},
    {"line_search.accept": "tenth_of_expected", "conjugate_gradient.stop": "1e-10"},
    {"line_search.accept": "half_of_expected_and_kl_strict", "conjugate_gradient.stop": "1e-10"},
    {"group.baseline": "leave_one_out", "group.scale": "none"},
    {"group.baseline": "leave_one_out"},
    {"group.scale": "none"},
    *(
        {"sequence.aggregation": aggregation, "ratio.level": level, "kl_penalty.estimator": estimator}
        for aggregation in (
            "token_mean",
            "sequence_mean_token_mean",
            "sequence_mean_token_sum",
            "token_sum_over_constant",
        )
        for level in ("token", "sequence")
        for estimator in ("k1", "k2", "k3")
    ),
)

Functions = Mapping[str, Callable[..., Any]]


class Variant(NamedTuple):
    """An honest implementation.

    Fields: ``name``; ``make``, from conventions (a value for every axis) to functions; ``dtypes`` it is meant for.
    """

    name: str
    make: Callable[[Mapping[str, str]], Functions]
    dtypes: tuple[str, ...] = DTYPES


class Line(NamedTuple):
    """What became of a variant in a dtype.

    Fields: answers ``executed`` and ``ops`` they belong to; ``worst`` error in tolerances and ``where``; the outcomes
    that are ``amiss``.
    """

    variant: str
    dtype: str
    executed: int
    ops: int
    worst: float
    where: str
    amiss: tuple[Outcome, ...]


def judge(variant: Variant, dtype: str, conventions: Iterable[Mapping[str, str]] = CONVENTIONS) -> Line:
    """Judge a variant by the vectors, as a user's adapter is judged.

    Parameters
    ----------
    variant : Variant
        What to judge.
    dtype : {"float64", "float32"}
        The precision it computes in.
    conventions : iterable of mapping
        Declared one after the other; an answer certified under two of them counts once.

    Returns
    -------
    Line
    """
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], Outcome] = {}
    for declared in conventions:
        functions = variant.make(_defaults() | dict(declared))
        concerned = {op for op in functions if not declared or set(declared) & set(OPS[op].conventions)}
        adapter: dict[str, Any] = {op: _quietly(functions[op]) for op in concerned}
        profiles = sorted({OPS[op].profile for op in concerned})
        run = check(adapter | {"name": variant.name, "dtype": dtype, "conventions": dict(declared)}, profiles=profiles)
        for outcome in run.outcomes:
            if outcome.verdict in EXECUTED:
                seen.setdefault((outcome.case, tuple(sorted(outcome.conventions.items()))), outcome)
    outcomes = list(seen.values())
    amiss = tuple(outcome for outcome in outcomes if outcome.verdict is not Verdict.CONFORMS)
    worst = max((outcome for outcome in outcomes if outcome.comparisons), key=lambda outcome: outcome.worst)
    ops = len({outcome.op for outcome in outcomes})
    return Line(variant.name, dtype, len(outcomes), ops, worst.worst, _place(worst), amiss)


def _defaults() -> dict[str, str]:
    return {name: axis.default for name, axis in load(ops=()).axes.items()}


def _quietly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a branch that is not taken meet log 0 or 0 · ∞, as it does in ordinary code."""

    def quiet(**inputs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(**inputs)

    return quiet


def _place(outcome: Outcome) -> str:
    worst = max(outcome.comparisons, key=lambda comparison: comparison.worst)
    chosen = ", ".join(f"{axis} = {value}" for axis, value in outcome.conventions.items())
    return f"{outcome.case} {worst.path}" + (f" ({chosen})" if chosen else "")


def numpy_variants() -> list[Variant]:
    """Return the variants that need NumPy and SciPy only."""
    by_order = [Variant(order.name, partial(_ordinary, order)) for order in ORDERS]
    by_formula = [
        Variant(formula.__name__, partial(_formula, formula), ("float32",) if formula is Upcast else DTYPES)
        for formula in FORMULAS
    ]
    return by_order + by_formula


def _ordinary(order: Order, conventions: Mapping[str, str]) -> Functions:
    return Ordinary(order, conventions).ops()


def _formula(formula: type[Ordinary], conventions: Mapping[str, str]) -> Functions:
    return formula(conventions=conventions).ops()
