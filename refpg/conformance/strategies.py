"""Hypothesis strategies for policy-gradient inputs: distributions, samples, trajectories, policies, systems.

Every number drawn is a short dyadic fraction, so it is exact in float32, float64 and JSON, and shrinks to integers and
then to 0.  Every draw is well conditioned by construction: logits and log-σ are bounded, matrices are diagonally
dominant, advantages differ.  Lengths of different axes differ.

    distributions(family)           parameters of one to three distributions, actions
    samples()                       log-probabilities, advantages, values of a batch
    trajectories()                  rewards, values, flags of a rollout, (T, E)
    policies(distribution)          a tanh policy of the contract, one near it, observations, actions, advantages
    systems()                       a symmetric positive definite matrix and a right-hand side
    optimizer_states()              parameters, gradient and moments of Adam
    mdps()                          a finite MDP, policies of it
    tables()                        policies as tables, advantages
    sequences()                     log-probabilities, advantages and rewards of padded sequences, and the mask

Each draws a mapping with the keys of its docstring, or those asked for by ``names``; `inputs` draws what a law needs.
`refpg_policies` draws a `refpg.policy.Policy` with its θ instead of layers.
"""

import inspect
from collections.abc import Callable, Collection, Iterable
from functools import cache
from itertools import pairwise, product
from typing import Any, TypeVar

import numpy as np

from refpg.conformance.laws.estimation import values_after
from refpg.conformance.laws.law import Law
from refpg.conformance.reference import policy_and_theta
from refpg.notation import Array
from refpg.policy import Policy, distribution_parameters

try:
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ModuleNotFoundError:
    message = "refpg.conformance.strategies needs hypothesis: pip install 'refpg[test]' adds hypothesis"
    raise ImportError(message) from None

_T = TypeVar("_T")

# Rows and actions of a distribution, and the sizes of factors; different, the smallest first.
_SHAPES = ((2, 3), (3, 2), (4, 3), (5, 4), (3, 5))
_FACTORS = ((2, 3), (3, 2), (2, 4), (2, 3, 2))
# Rows of a batch and widths of a network: features, hidden units, outputs.  Equal hidden widths make a square matrix.
_NETWORKS = ((4, (2, 3)), (3, (2, 4)), (5, (2, 4, 3)), (4, (3, 5, 2)), (5, (3, 4, 4, 2)), (2, (4, 5, 3)))
_ROLLOUTS = ((2, 1), (3, 2), (5, 2), (4, 3), (6, 2))
# States and actions; of tables at least three actions, for one of them is never taken.
_WORLDS = ((2, 3), (3, 2), (4, 3), (3, 4))
_TABLES = ((2, 3), (4, 3), (3, 4))
# Sequences, one group or two of at least two each, and the tokens they are padded to.
_PADDED = ((2, 3), (4, 3), (3, 4), (5, 3))
_EIGHTHS = 8


def dyadics(bound: float = 4.0, bits: int = 5) -> SearchStrategy[float]:
    """Return a strategy of the numbers k/2ⁱ in [−bound, bound], i ≤ ``bits``.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(dyadics(), lambda x: x > 0.6)
    1.0
    """
    return arrays((), bound, bits).map(float)


@st.composite
def arrays(draw: DrawFn, shape: Any, bound: float = 4.0, bits: int = 5, *, distinct: bool = False) -> Array:
    """Draw an array of dyadic fractions with one denominator.

    Parameters
    ----------
    shape : int or tuple of int
        Lengths of the axes.
    bound, bits
        As in `dyadics`.
    distinct : bool
        Whether the entries are to be pairwise different.
    """
    size = int(np.prod(shape))
    i = draw(st.integers(0, bits))
    while distinct and 2 * bound * 2**i + 1 < size:
        i += 1
    top = int(bound * 2**i)
    numerators = draw(st.lists(st.integers(-top, top), min_size=size, max_size=size, unique=distinct))
    return np.array(numerators, dtype=np.float64).reshape(shape) / 2**i


def positive(bits: int = 4, top: float = 2.0) -> SearchStrategy[float]:
    """Return a strategy of dyadic numbers in (0, top], simplest 1."""
    return st.integers(1, int(top * 2**bits)).map(lambda k: k / 2**bits) | st.just(1.0)


def permutations(size: int) -> SearchStrategy[Array]:
    """Return a strategy of permutations of 0, …, size − 1."""
    return st.permutations(range(size)).map(np.array)


@st.composite
def masks(draw: DrawFn, rows: int, size: int) -> Array:
    """Draw a mask (rows, size) with at least one action allowed in every row, and one forbidden somewhere."""
    mask = np.array(draw(st.lists(st.booleans(), min_size=rows * size, max_size=rows * size))).reshape(rows, size)
    allowed = draw(st.lists(st.integers(0, size - 1), min_size=rows, max_size=rows))
    mask[0] = True
    mask[0, (allowed[0] + 1) % size] = False
    mask[np.arange(rows), allowed] = True
    return mask


class _Asked:
    """The values drawn so far, by name; a name that was not asked for is not drawn."""

    def __init__(self, draw: DrawFn, names: Collection[str] | None) -> None:
        self.draw, self.names = draw, names
        self.drawn: dict[str, Any] = {}

    def give(self, name: str, value: Any) -> None:
        if self.names is None or name in self.names:
            self.drawn[name] = value

    def ask(self, name: str, make: Callable[[], SearchStrategy[Any]]) -> None:
        if self.names is None or name in self.names:
            self.drawn[name] = self.draw(make())


@st.composite
def parameters(draw: DrawFn, family: str, rows: int, size: int) -> dict[str, Array]:
    """Draw the parameters of a distribution: logits, or mean and log_std."""
    if family in ("diagonal_gaussian", "squashed_gaussian"):
        return {"mean": draw(arrays((rows, size), 2)), "log_std": draw(arrays((rows, size), 1))}
    return {"logits": draw(arrays((rows, size), 3))}


@st.composite
def distributions(draw: DrawFn, family: str, names: Collection[str] | None = None) -> dict[str, Any]:
    """Draw ``family``, ``shared``, distributions ``p``, ``q``, ``r``, ``actions``, ``shift`` (B,), ``order``, ``row``.

    ``order`` is a permutation of the actions or dimensions, ``row`` the index of a row.
    """
    rows, size = draw(st.sampled_from(_SHAPES))
    if family == "squashed_gaussian" or family == "diagonal_gaussian":
        size = min(size, 3)
    shared: dict[str, Any] = {}
    if family == "multi_categorical":
        factors = draw(st.sampled_from(_FACTORS))
        shared, size = {"action_sizes": np.array(factors)}, sum(factors)
    asked = _Asked(draw, names)
    if family == "masked_categorical":
        shared = {"mask": draw(masks(rows, size))}
    asked.give("family", family)
    asked.give("shared", shared)
    for name in "pqr":
        asked.ask(name, lambda: parameters(family, rows, size))
    asked.ask("actions", lambda: _actions(family, shared, rows, size))
    asked.ask("shift", lambda: arrays((rows,), 8))
    asked.ask("order", lambda: permutations(size))
    asked.ask("row", lambda: st.integers(0, rows - 1))
    return asked.drawn


@st.composite
def _actions(draw: DrawFn, family: str, shared: dict[str, Any], rows: int, size: int) -> Array:
    if family == "masked_categorical":
        return np.array([draw(st.sampled_from(np.flatnonzero(row).tolist())) for row in shared["mask"]])
    if family == "categorical":
        return draw(_choices([size] * rows))
    if family == "multi_categorical":
        return draw(_choices(list(shared["action_sizes"]) * rows)).reshape(rows, -1)
    if family == "bernoulli":
        return draw(_choices([2] * (rows * size))).reshape(rows, size)
    return draw(arrays((rows, size), 3))


def _choices(sizes: Iterable[int]) -> SearchStrategy[Array]:
    return st.tuples(*(st.integers(0, int(size) - 1) for size in sizes)).map(lambda chosen: np.array(chosen, np.int64))


@st.composite
def samples(draw: DrawFn, names: Collection[str] | None = None) -> dict[str, Any]:
    """Draw a batch of B rows, as the objectives see it.

    ``old_log_prob``, ``new_log_prob``, ``other_log_prob``, ``advantages``, ``other_advantages``, ``values``,
    ``old_values``, ``targets``, ``kl`` ≥ 0 are (B,); ``clip`` < 1 and ``wider``, between it and 1; ``kl_penalty``,
    ``target`` and ``factor`` > 0; ``shift``; ``order`` permutes the rows; ``mean_kl`` is one number.
    """
    rows = draw(st.integers(2, 6))
    asked = _Asked(draw, names)
    for name in ("old_log_prob", "new_log_prob", "other_log_prob"):
        asked.ask(name, lambda: arrays(rows, 1))
    for name in ("advantages", "other_advantages"):
        asked.ask(name, lambda: arrays(rows, 4, distinct=True))
    for name in ("values", "old_values", "targets"):
        asked.ask(name, lambda: arrays(rows, 4, distinct=True))
    asked.ask("kl", lambda: arrays(rows, 1).map(np.abs))
    asked.ask("clip", lambda: st.integers(1, 7).map(lambda k: k / 16))
    asked.ask("wider", lambda: st.integers(8, 15).map(lambda k: k / 16))
    for name in ("kl_penalty", "target", "factor", "mean_kl"):
        asked.ask(name, lambda: positive(top=4.0))
    asked.ask("shift", lambda: dyadics(8))
    asked.ask("order", lambda: permutations(rows))
    return asked.drawn


@st.composite
def trajectories(draw: DrawFn, names: Collection[str] | None = None) -> dict[str, Any]:
    """Draw a rollout of T rows in E environments.

    ``rewards``, ``values``, ``next_values``, ``other_rewards`` are (T, E) floats; ``terminated``, ``truncated``,
    ``dones`` (T, E) flags with an ending inside the rollout; ``potential`` (T + 1, E) and ``last_values`` (E,);
    ``gamma`` and ``gae_lambda`` in (0, 1); ``row`` < T − 1; ``order`` permutes the environments; ``factor`` > 0.
    Where no flag ends the episode, the next value is the value of the next row, as it is one observation.
    """
    T, E = draw(st.sampled_from(_ROLLOUTS))
    asked = _Asked(draw, names)
    for name in ("rewards", "values", "next_values", "other_rewards"):
        asked.ask(name, lambda: arrays((T, E), 4, 3))
    for name in ("terminated", "truncated", "dones"):
        asked.ask(name, lambda: _flags(T, E))
    if "values" in asked.drawn and "next_values" in asked.drawn:
        ended = np.any([asked.drawn.get(name, np.zeros((T, E), bool)) for name in ("terminated", "truncated")], axis=0)
        asked.drawn["next_values"] = values_after(asked.drawn["values"], asked.drawn["next_values"], ended)
    asked.ask("potential", lambda: arrays((T + 1, E), 4, 3))
    asked.ask("last_values", lambda: arrays(E, 4, 3))
    for name in ("gamma", "gae_lambda"):
        asked.ask(name, lambda: st.integers(1, 15).map(lambda k: k / 16))
    asked.ask("row", lambda: st.integers(0, T - 2))
    asked.ask("order", lambda: permutations(E))
    asked.ask("factor", lambda: positive())
    return asked.drawn


@st.composite
def _flags(draw: DrawFn, T: int, E: int) -> Array:
    flags = np.array(draw(st.lists(st.booleans(), min_size=T * E, max_size=T * E))).reshape(T, E)
    flags[draw(st.integers(0, T - 2)), draw(st.integers(0, E - 1))] = True
    return flags


@st.composite
def _layers(draw: DrawFn, sizes: tuple[int, ...], bound: float, bits: int) -> dict[str, Any]:
    layers = []
    for m, n in pairwise(sizes):
        layers.append({"W": draw(arrays((m, n), bound, bits)), "b": draw(arrays(n, bound, bits))})
    return {"layers": layers}


@st.composite
def _policy_parameters(
    draw: DrawFn, distribution: str, sizes: tuple[int, ...], bound: float, bits: int
) -> dict[str, Any]:
    theta = draw(_layers(sizes, bound, bits))
    if distribution == "diagonal_gaussian":
        theta["log_std"] = draw(arrays(sizes[-1], bound, bits))
    return theta


@st.composite
def policies(draw: DrawFn, distribution: str, names: Collection[str] | None = None) -> dict[str, Any]:
    """Draw a policy of the contract, with tanh layers, and what goes with it.

    ``policy``; ``other``, a policy near it; ``vector``, ``other_vector`` and the small ``change``, shaped like its
    parameters; ``observations`` (B, D), ``actions`` near the policy's, ``advantages`` (B,); ``value_network`` with one
    output and ``value_targets`` (B,); ``log_ratio`` (B,); ``damping``, ``clip``, ``max_kl``, ``coefficient``,
    ``factor`` > 0; ``iterations`` ≤ 3 (after two, steepest descent and conjugate gradients are on one ray); ``unit`` of
    the first hidden layer, modulo its width; ``order`` of the rows; ``family``, the distribution.
    """
    rows, sizes = draw(st.sampled_from(_NETWORKS))
    if distribution == "categorical" and sizes[-1] == 2 and rows != 3 and len(sizes) > 2:
        sizes = (*sizes[:-1], 3 if 3 not in sizes[:-1] else 4)
    asked = _Asked(draw, names)
    head = {"activation": "tanh", "distribution": distribution}
    policy = draw(_policy_parameters(distribution, sizes, 1, 4)) | head
    asked.give("family", distribution)
    asked.give("policy", policy)
    for name in ("vector", "other_vector"):
        asked.ask(name, lambda: _policy_parameters(distribution, sizes, 2, 3))
    asked.ask("change", lambda: _policy_parameters(distribution, sizes, 0.25, 6))
    asked.ask("other", lambda: _policy_parameters(distribution, sizes, 0.25, 6).map(lambda by: _moved(policy, by)))
    asked.ask("observations", lambda: arrays((rows, sizes[0]), 2, 4))
    if distribution == "categorical":
        asked.ask("actions", lambda: _actions(distribution, {}, rows, sizes[-1]))
    else:
        asked.ask("actions", lambda: arrays((rows, sizes[-1]), 1).map(lambda by: by + _means(policy, asked.drawn)))
    asked.ask("advantages", lambda: arrays(rows, 4, distinct=True))
    asked.ask("value_network", lambda: _layers((*sizes[:-1], 1), 1, 4).map(lambda net: net | {"activation": "tanh"}))
    asked.ask("value_targets", lambda: arrays(rows, 4))
    asked.ask("log_ratio", lambda: arrays(rows, 1))
    asked.ask("clip", lambda: st.integers(1, 7).map(lambda k: k / 16))
    asked.ask("damping", lambda: st.integers(2, 16).map(lambda k: k / 16))
    asked.ask("max_kl", lambda: st.integers(1, 16).map(lambda k: k / 64))
    for name in ("coefficient", "factor"):
        asked.ask(name, lambda: positive())
    asked.ask("iterations", lambda: st.integers(1, 3))
    asked.ask("unit", lambda: st.integers(0, 5))
    asked.ask("order", lambda: permutations(rows))
    return asked.drawn


def _means(policy: dict[str, Any], drawn: dict[str, Any]) -> Any:
    """The means of the policy on the observations, to sixteenths: an action far from all of them has no density."""
    if "observations" not in drawn:
        return 0.0
    pi, theta = policy_and_theta(policy)
    phi = distribution_parameters(pi, theta, drawn["observations"])
    return np.rint(16 * phi[:, : phi.shape[1] // 2]) / 16


def _moved(policy: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    moved = {
        "layers": [
            {name: layer[name] + change[name] for name in ("W", "b")}
            for layer, change in zip(policy["layers"], by["layers"], strict=True)
        ]
    }
    return policy | moved | ({"log_std": policy["log_std"] + by["log_std"]} if "log_std" in policy else {})


def refpg_policies(distribution: str) -> SearchStrategy[tuple[Policy, Array]]:
    """Return a strategy of refpg's own form of a policy and its parameters, (Policy, θ)."""
    return policies(distribution, ("policy",)).map(lambda drawn: policy_and_theta(drawn["policy"]))


@st.composite
def systems(draw: DrawFn, names: Collection[str] | None = None) -> dict[str, Any]:
    """Draw ``matrix`` (P, P), symmetric positive definite with a condition below 32, and ``b`` (P,), not zero.

    Also ``iterations`` ≤ P, ``factor`` > 0, ``order``, a permutation of the coordinates, and ``max_kl`` > 0.
    """
    P = draw(st.integers(2, 5))
    asked = _Asked(draw, names)
    asked.ask("matrix", lambda: matrices(P))
    asked.ask("b", lambda: arrays(P, 4, distinct=True))
    asked.ask("iterations", lambda: st.integers(1, P))
    asked.ask("factor", lambda: positive())
    asked.ask("order", lambda: permutations(P))
    asked.ask("max_kl", lambda: st.integers(1, 16).map(lambda k: k / 64))
    return asked.drawn


@st.composite
def matrices(draw: DrawFn, size: int) -> Array:
    """Draw a symmetric matrix whose diagonal, 1 to 8 above the sum of its row, holds the eigenvalues in [1, 24]."""
    lower = np.tril(draw(arrays((size, size), 2, 2)), -1)
    off = lower + lower.T
    diagonal = np.array(draw(st.lists(st.integers(1, 8), min_size=size, max_size=size)), dtype=float)
    return off + np.diag(np.abs(off).sum(axis=1) + diagonal)


@st.composite
def optimizer_states(draw: DrawFn, names: Collection[str] | None = None) -> dict[str, Any]:
    """Draw ``parameters``, ``gradient``, ``first_moment``, ``second_moment`` > 0 (P,), and ``step`` ≥ 1 of Adam.

    ``learning_rate``, ``epsilon`` > 0 and ``beta1``, ``beta2`` in (0, 1); no gradient is 0; ``factor`` is 2, 4 or 8.
    """
    P = draw(st.integers(1, 4))
    asked = _Asked(draw, names)
    for name in ("parameters", "first_moment"):
        asked.ask(name, lambda: arrays(P))
    asked.ask("gradient", lambda: arrays(P).map(lambda g: np.where(g == 0, 1.0, g)))
    asked.ask("second_moment", lambda: arrays(P, 4, 3).map(lambda v: np.abs(v) + 0.125))
    asked.ask("step", lambda: st.integers(1, 5))
    asked.ask("learning_rate", lambda: positive())
    asked.ask("epsilon", lambda: st.integers(1, 8).map(lambda k: k / 64))
    asked.ask("beta1", lambda: st.integers(1, 7).map(lambda k: k / 8))
    asked.ask("beta2", lambda: st.integers(8, 15).map(lambda k: k / 16))
    asked.ask("factor", lambda: st.integers(1, 3).map(lambda k: 2.0**k))
    return asked.drawn


def probabilities(*shape: int, positive: bool = False) -> SearchStrategy[Array]:
    """Return a strategy of probabilities in eighths, whose sum along the last axis, of at most four entries, is 1.

    Parameters
    ----------
    *shape : int
        Lengths of the axes.
    positive : bool
        Whether none may be 0.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(probabilities(2, positive=True), lambda p: p[0] < 0.5)
    array([0.125, 0.875])
    """
    *rows, size = shape
    count = int(np.prod(rows))
    drawn = st.lists(st.sampled_from(_eighths(size, int(positive))), min_size=count, max_size=count)
    return drawn.map(lambda numerators: np.array(numerators, dtype=np.float64).reshape(shape) / _EIGHTHS)


@cache
def _eighths(size: int, least: int) -> list[tuple[int, ...]]:
    """Return the numerators of all rows of sum 1, the most certain first."""
    rows = [row for row in product(range(least, _EIGHTHS + 1), repeat=size) if sum(row) == _EIGHTHS]
    return sorted(rows, key=lambda row: (-max(row), row.index(max(row))))


def _discounts() -> SearchStrategy[float]:
    return st.integers(1, 7).map(lambda k: k / 8)


@st.composite
def mdps(draw: DrawFn, names: Collection[str] | None = None) -> dict[str, Any]:
    """Draw a finite MDP of S states and A actions: ``world``, a mapping, and policies of it, (S, A), positive.

    ``world`` has ``transition`` (S, A, S), ``reward`` (S, A), ``start`` (S,) and ``gamma`` ≤ 7/8; the policies are
    ``probabilities``, ``new_probabilities``, ``other_probabilities`` and the softmax of ``logits``.  Also ``potential``
    (S,), ``shift``, ``factor`` > 0, and a ``state``, modulo S.
    """
    S, A = draw(st.sampled_from(_WORLDS))
    asked = _Asked(draw, names)
    worlds = {
        "transition": probabilities(S, A, S),
        "reward": arrays((S, A), 4, 3),
        "start": probabilities(S),
        "gamma": _discounts(),
    }
    asked.ask("world", lambda: st.fixed_dictionaries(worlds))
    for name in ("probabilities", "new_probabilities", "other_probabilities"):
        asked.ask(name, lambda: probabilities(S, A, positive=True))
    asked.ask("logits", lambda: arrays((S, A), 2))
    asked.ask("potential", lambda: arrays(S, 4, 3))
    asked.ask("shift", lambda: dyadics(4, 3))
    asked.ask("factor", lambda: positive())
    asked.ask("state", lambda: st.integers(0, 3))
    return asked.drawn


@st.composite
def tables(draw: DrawFn, names: Collection[str] | None = None) -> dict[str, Any]:
    """Draw policies as tables (S, A), of which none takes the last action in state 0, and all take all others.

    ``old_probabilities``, ``new_probabilities``, ``other_probabilities``; ``state_weights`` (S,), of sum 1;
    ``advantages`` (S, A), pairwise different in size; ``gamma`` and ``other_gamma`` ≤ 7/8; ``factor`` > 0.
    """
    S, A = draw(st.sampled_from(_TABLES))
    asked = _Asked(draw, names)
    for name in ("old_probabilities", "new_probabilities", "other_probabilities"):
        asked.ask(name, lambda: _never_the_last_at_first(S, A))
    asked.ask("state_weights", lambda: probabilities(S))
    asked.ask("advantages", lambda: _of_different_sizes(S, A))
    for name in ("gamma", "other_gamma"):
        asked.ask(name, _discounts)
    asked.ask("factor", lambda: positive())
    return asked.drawn


@st.composite
def sequences(draw: DrawFn, names: Collection[str] | None = None) -> dict[str, Any]:
    """Draw N sequences padded to T tokens, and the ``mask`` (N, T) of those that count, on any side and in between.

    ``old_log_prob``, ``new_log_prob``, ``reference_log_prob``, ``values``, ``advantages``, ``other_values`` are (N, T);
    ``rewards`` and ``group``, in which no sequence is alone, (N,); ``clip`` < 1, ``clip_high``,
    ``kl_penalty``, ``constant`` and ``factor`` > 0; ``shift``; ``order`` permutes the sequences.
    """
    N, T = draw(st.sampled_from(_PADDED))
    asked = _Asked(draw, names)
    asked.ask("mask", lambda: masks(N, T))
    for name in ("old_log_prob", "new_log_prob", "reference_log_prob"):
        asked.ask(name, lambda: arrays((N, T), 1))
    for name in ("values", "advantages", "other_values"):
        asked.ask(name, lambda: arrays((N, T), 4, distinct=True))
    asked.ask("rewards", lambda: arrays(N, 4, distinct=True))
    asked.ask("group", lambda: permutations(N).map(lambda order: order % (N // 2)))
    asked.ask("clip", lambda: st.integers(1, 7).map(lambda k: k / 16))
    asked.ask("clip_high", lambda: st.integers(1, 15).map(lambda k: k / 16))
    for name in ("kl_penalty", "constant", "factor"):
        asked.ask(name, lambda: positive(top=4.0))
    asked.ask("shift", lambda: dyadics(8))
    asked.ask("order", lambda: permutations(N))
    return asked.drawn


@st.composite
def _never_the_last_at_first(draw: DrawFn, S: int, A: int) -> Array:
    first = np.append(draw(probabilities(A - 1, positive=True)), 0.0)
    return np.vstack([first, draw(probabilities(S - 1, A, positive=True))])


@st.composite
def _of_different_sizes(draw: DrawFn, S: int, A: int) -> Array:
    sizes = draw(arrays((S, A), 4, 3, distinct=True)) + 5.0
    signs = draw(st.lists(st.sampled_from((1.0, -1.0)), min_size=S * A, max_size=S * A))
    return sizes * np.reshape(signs, (S, A))


_DRAWS: dict[str, Callable[..., SearchStrategy[dict[str, Any]]]] = {
    "distributions": distributions,
    "samples": samples,
    "trajectories": trajectories,
    "policies": policies,
    "systems": systems,
    "optimizer_states": optimizer_states,
    "mdps": mdps,
    "tables": tables,
    "sequences": sequences,
}


def inputs(law: Law, variant: str = "") -> SearchStrategy[dict[str, Any]]:
    """Return the strategy of what a law needs.

    Parameters
    ----------
    law : Law
        The law.
    variant : str
        One of its variants; empty if it has none.

    Returns
    -------
    strategy of dict
        The keyword arguments of the law.

    Raises
    ------
    ValueError
        If the law is not stated for the variant.
    """
    if variant not in law.variants:
        known = ", ".join(repr(known) for known in law.variants)
        raise ValueError(f"inputs: {law.name} has no variant {variant!r}, expected {known}")
    names = set(list(inspect.signature(law.function).parameters)[1:])
    strategy = _DRAWS[law.draw]
    return strategy(variant, names) if variant else strategy(names)
