"""The six families of action distributions, as the laws speak of them: their inputs, their actions, exact averages.

A distribution is ``p``, the mapping of its parameters; what two distributions have in common (a mask, the sizes of the
factors) is ``shared``.  Discrete families are averaged over all actions, Gaussian ones over the nodes of a rule that is
exact for the polynomials concerned.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.rounding import Rounded, exp, join, rounded, where

CATEGORICAL = ("categorical", "masked_categorical", "multi_categorical")
DISCRETE = (*CATEGORICAL, "bernoulli")
GAUSSIAN = ("diagonal_gaussian", "squashed_gaussian")
ALL = (*DISCRETE, *GAUSSIAN)
FACTORED = ("multi_categorical", "bernoulli", *GAUSSIAN)
POLICIES = ("categorical", "diagonal_gaussian")

Parameters = Mapping[str, Any]


class Node(NamedTuple):
    """One action of every row and its ``weight`` (B,) in an average over all actions."""

    actions: Any
    weight: Rounded


def pair(old: Parameters, new: Parameters, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of an op about an old and a new distribution."""
    named = {f"old_{name}": value for name, value in old.items()} | {f"new_{name}": v for name, v in new.items()}
    return named | dict(shared)


def action_name(family: str) -> str:
    """Return what the contract calls the action of a family."""
    return "pre_tanh_actions" if family == "squashed_gaussian" else "actions"


def log_prob(f: Answers, family: str, p: Parameters, shared: Mapping[str, Any], actions: Any) -> Rounded:
    """Ask for the log-probability of actions."""
    answer: Rounded = f(f"log_prob_{family}", **p, **shared, **{action_name(family): actions})
    return answer


def score(f: Answers, family: str, p: Parameters, shared: Mapping[str, Any], actions: Any) -> Rounded:
    """Ask for the score, (B, K): log σ after the mean."""
    answer = f(f"score_{family}", **p, **shared, **{action_name(family): actions})
    return join([answer["mean"], answer["log_std"]], axis=1) if isinstance(answer, dict) else answer


def change(p: Parameters, function: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the parameters with a function applied to each of them."""
    return {name: function(value) for name, value in p.items()}


def discrete_actions(family: str, p: Parameters, shared: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield every action of a discrete family, with the rows (B,) for which it counts.

    With a mask, the j-th action is the j-th one allowed in each row; rows with fewer are given their first again.
    """
    rows, size = rounded(p["logits"]).shape
    everywhere = np.ones(rows, dtype=bool)
    if family == "masked_categorical":
        mask = np.asarray(shared["mask"])
        for j in range(mask.sum(axis=1).max()):
            counts = mask.sum(axis=1) > j
            yield np.array([np.flatnonzero(row)[j if ok else 0] for row, ok in zip(mask, counts, strict=True)]), counts
    elif family == "categorical":
        for action in range(size):
            yield np.full(rows, action), everywhere
    else:
        sizes = shared["action_sizes"] if family == "multi_categorical" else [2] * size
        for combination in itertools.product(*(range(n) for n in sizes)):
            yield np.tile(np.array(combination), (rows, 1)), everywhere


def average(f: Answers, family: str, p: Parameters, shared: Mapping[str, Any], degree: int) -> Iterator[Node]:
    """Yield actions with weights: all of a discrete family, or nodes exact for polynomials in the action.

    ::

        Σ_a π(a) g(a),    or    Σ w_k g(μ + σ x_k),  exact for a sum over dimensions of polynomials of degree 3
                          (``degree`` 3: x = ±1), or for products over dimensions of degree 5 each (x = 0, ±√3)

    The probabilities of a discrete family are those that the implementation answers.
    """
    if family in DISCRETE:
        for actions, counts in discrete_actions(family, p, shared):
            yield Node(actions, where(counts, exp(log_prob(f, family, p, shared, actions)), 0.0))
        return
    mean, sigma = rounded(p["mean"]), exp(p["log_std"])
    rows, size = mean.shape
    if degree <= 3:
        for sign in (1.0, -1.0):
            yield Node(mean + sign * sigma, rounded(np.full(rows, 0.5)))
        return
    rule = ((0.0, 2 / 3), (math.sqrt(3), 1 / 6), (-math.sqrt(3), 1 / 6))
    for nodes in itertools.product(rule, repeat=size):
        weight = math.prod(w for _, w in nodes)
        yield Node(mean + np.array([x for x, _ in nodes]) * sigma, Rounded(np.full(rows, weight), size * weight))


def dimensions(family: str, p: Parameters, shared: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Split a factored family into its factors, one (p, shared) each."""
    if family == "multi_categorical":
        ends = np.cumsum(shared["action_sizes"])
        return [
            ({"logits": p["logits"][:, end - size : end]}, {"action_sizes": np.array([size])})
            for end, size in zip(ends, shared["action_sizes"], strict=True)
        ]
    size = rounded(next(iter(p.values()))).shape[1]
    return [({name: value[:, i : i + 1] for name, value in p.items()}, {}) for i in range(size)]
