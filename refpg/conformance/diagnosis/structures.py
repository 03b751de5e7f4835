"""Simple structures: what a wrong answer is in terms of the certified one, where no known mistake explains it.

A rule turns the certified value of an output into an array and has a name.  It is tried on one answer, and must then
hold on all answers of the op, with the lengths and the quantities of each case put in.  Three kinds, in this order::

    forms         factors with a name, transposes, other orders, other shapes, element-wise functions
    quantities    a term that is missing or too many, another quantity, another reduction over the rows
    fits          a factor or a difference that is the same number everywhere, whatever it is
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np

from refpg.conformance.diagnosis.candidates import Told
from refpg.conformance.diagnosis.consistency import RED, Run, beyond_chance, digits, is_array
from refpg.conformance.diagnosis.factors import factors
from refpg.conformance.diagnosis.quantities import Quantity, constants, quantities
from refpg.conformance.ops import OPS
from refpg.conformance.signatures import output_of, parse_type
from refpg.conformance.tolerance import tolerances
from refpg.conformance.verdicts import Comparison, worst_error
from refpg.notation import Array

_CONSTANTS = {"½ log 2π": 0.5 * math.log(2 * math.pi), "½ log 2πe": 0.5 * math.log(2 * math.pi * math.e), "½": 0.5}

_REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "mean": np.mean,
    "sum": np.sum,
    "largest": np.max,
    "smallest": np.min,
    "median": np.median,
}

# Sums of rows and products with them are rounded in another order than the certified value: so many units more.
_ROUNDING = 64 * 2.0**-53

_OF_A_TERM = "is a term missing, there twice, or of the other sign?"

# Somewhere in an op computed in float32 there is an error of so many of its units, relative to the largest entry.
_LEAST_SINGLE_ERROR = 0.25

_SHOWN_CASES = 3


class Finding(NamedTuple):
    """A structure of one output: ``text``; ``against``, the cases of the op on which it does not hold."""

    text: str
    against: tuple[str, ...]


class _View(NamedTuple):
    """One output of one answer, by leaves.  ``part`` of the output: its leaves of that suffix, all of them if empty."""

    told: Told
    output: str
    part: str

    def leaves(self) -> list[Comparison]:
        return [c for c in self.told.outcome.comparisons if output_of(c.path) == self.output and self._has(c)]

    def rest(self) -> list[Comparison]:
        return [c for c in self.told.outcome.comparisons if output_of(c.path) == self.output and not self._has(c)]

    def name(self) -> str:
        return f"{self.output}.{self.part}" if self.part else self.output

    def _has(self, comparison: Comparison) -> bool:
        return not self.part or comparison.path.endswith(self.part)


class _Rule(NamedTuple):
    """What the rule called ``name`` makes of the certified value of a case: ``values`` leaf by leaf, in ``words``.

    ``plain`` rules are those that are likely before anything is known; the others are asked where no plain one holds.
    """

    name: str
    words: str
    values: tuple[Array, ...]
    plain: bool = True


@dataclass(frozen=True)
class Structures:
    """The structures of a ``run``; ``known`` remembers the rules of each answer."""

    run: Run
    known: dict[tuple[int, str, str, int], dict[str, _Rule]] = field(default_factory=dict)

    def find(self, told: Told) -> list[Finding]:
        """Return what can be said about each wrong output of an answer; nothing of an output is no entry."""
        wrong = [c for c in told.outcome.comparisons if c.worst > 1]
        outputs = dict.fromkeys(output_of(c.path) for c in wrong)
        return [found for output in outputs if (found := self._output(told, output)) is not None]

    def _output(self, told: Told, output: str) -> Finding | None:
        whole = _View(told, output, "")
        for c in whole.leaves():
            if c.same_shape and not np.isfinite(c.got).all():
                count = int(np.size(c.got) - np.isfinite(c.got).sum())
                return Finding(f"{c.path} holds NaN or infinity in {count} of {c.got.size} values", ())
        if self._is_single_precision(whole):
            words = "the error is that of float32, but float64 is declared: a conversion on the way? or declare float32"
            return Finding(words, ())
        views = [whole, *(_View(told, output, part) for part in ("W", "b", "log_std"))]
        views = [view for view in views if self._covers_the_wrong(view)]
        found = [self._best(view, kind) for kind in (_forms, _quantities) for view in views]
        found += [self._fit(view) for view in views]
        holding = [finding for finding in found if finding is not None and not finding.against]
        elsewhere = [finding for finding in found if finding is not None]
        if holding or elsewhere:
            return (holding or elsewhere)[0]
        return _other_shape(whole)

    def _covers_the_wrong(self, view: _View) -> bool:
        leaves = view.leaves()
        return bool(leaves) and all(c.worst <= 1 for c in view.rest()) and (not view.part or bool(view.rest()))

    def _best(self, view: _View, kind: "_Kind") -> Finding | None:
        """Return the rules that hold on every answer of the op, else the first that holds on this one."""
        rules = self._rules(view, kind)
        matching = [rule for rule in rules.values() if self._holds(view, rule)]
        if not matching:
            return None
        against = {rule.name: self._against(view, rule.name, kind, len(rules)) for rule in matching}
        holding = [rule for rule in matching if against[rule.name] == ()]
        holding = [rule for rule in holding if rule.plain] or holding
        if holding:
            words = list(dict.fromkeys(rule.words for rule in holding))
            text = words[0] if len(words) == 1 else f"one of: {'; '.join(words[:4])}"
            return Finding(f"{text}{self._suffix(view, holding[0].name, kind)}", ())
        # What holds on some cases alone is said if it is likely at all: the rest would be found by chance.
        plain = [rule for rule in matching if rule.plain and against[rule.name] and kind is _forms]
        for rule in plain:
            if beyond_chance(digits(view.told.outcome, self._widths(view, rule)), len(rules)):
                return Finding(rule.words, against[rule.name] or ())
        return None

    def _against(self, view: _View, name: str, kind: "_Kind", tried: int) -> tuple[str, ...] | None:
        """Return the cases on which a rule does not hold; None if it holds, but may do so by chance."""
        against, found = [], 0.0
        for other in self._alike(view):
            rule = self._rules(other, kind).get(name)
            if rule is None:
                continue
            if not self._holds(other, rule):
                against.append(other.told.outcome.case)
            elif other.told.outcome.verdict in RED:
                found += digits(other.told.outcome, self._widths(other, rule))
        if against:
            return tuple(against)
        return () if beyond_chance(found, tried) else None

    def _suffix(self, view: _View, name: str, kind: "_Kind") -> str:
        told = 0
        for other in self._alike(view):
            rule = self._rules(other, kind).get(name)
            if rule is not None:
                told += any(
                    not is_array(value, c.certified, c.tolerance)
                    for value, c in zip(rule.values, other.leaves(), strict=True)
                )
        return f" (so on all {told} cases that can tell)" if told > 1 else ""

    def _alike(self, view: _View) -> list[_View]:
        """Return the same part of the same output in the other answers of the op, where there is one."""
        views = (view._replace(told=told) for told in self.run.alike(view.told.outcome))
        return [other for other in views if other.leaves()]

    def _rules(self, view: _View, kind: "_Kind") -> dict[str, _Rule]:
        key = id(view.told.outcome), view.output, view.part, id(kind)
        if key not in self.known:
            with np.errstate(all="ignore"):
                self.known[key] = {rule.name: rule for rule in kind(view, self.run)}
        return self.known[key]

    def _holds(self, view: _View, rule: _Rule) -> bool:
        """Return whether the leaves of the view are those of the rule, and the others of the output are certified."""
        return all(c.worst <= 1 for c in view.rest()) and all(
            np.isfinite(value).all() and is_array(c.got, value, _width(c, value))
            for c, value in zip(view.leaves(), rule.values, strict=True)
        )

    def _widths(self, view: _View, rule: _Rule) -> list[Array]:
        widths = {c.path: _width(c, value) for c, value in zip(view.leaves(), rule.values, strict=True)}
        return [widths.get(c.path, np.full(c.got.shape, np.inf)) for c in view.told.outcome.comparisons]

    def _is_single_precision(self, view: _View) -> bool:
        """Return whether all answers of the op are right in float32, and no better than that."""
        policy = self.run.vectors.policy
        if view.told.outcome.dtype != "float64" or not self._resolves_single(view):
            return False
        largest = 0.0
        for other in filter(self._resolves_single, self._alike(view)):
            expected = other.told.case.under(other.told.outcome.conventions)
            assert expected is not None
            tolerance = tolerances(expected.outputs, "float32", policy)
            for c in other.leaves():
                if c.exact or worst_error(c.got, c.certified, tolerance[c.path]) > 1:
                    return False
                size = np.abs(c.certified).max()
                largest = max(largest, float(np.abs(c.got - c.certified).max() / size) if size else 0.0)
        return largest >= _LEAST_SINGLE_ERROR * policy.unit_roundoff["float32"]

    def _resolves_single(self, view: _View) -> bool:
        return "float32" in view.told.case.resolves

    def _fit(self, view: _View) -> Finding | None:
        """Fit a factor and a difference to the answer, and see whether the same number fits the others."""
        if not all(c.same_shape for c in view.leaves()):
            return None
        got = np.concatenate([c.got.ravel() for c in view.leaves()])
        y = np.concatenate([c.certified.ravel() for c in view.leaves()])
        with np.errstate(all="ignore"):
            factor, difference = float(got @ y / (y @ y)), float(np.mean(got - y))
        if np.isfinite(factor) and factor:
            words = f"{factor:.6g} × the certified value, everywhere"
            if found := self._fitted(view, words, lambda certified: factor * certified):
                return found
        if np.isfinite(difference):
            sign = "+" if difference > 0 else "−"
            words = f"the certified value {sign} {abs(difference):.6g}, everywhere"
            return self._fitted(view, words, lambda certified: certified + difference)
        return None

    def _fitted(self, view: _View, words: str, value: Callable[[Array], Array]) -> Finding | None:
        def evidence(of: _View) -> list[float] | None:
            """Return the digits of the error that each entry accounts for; None if an entry is another number."""
            told: list[float] = []
            if any(c.worst > 1 for c in of.rest()):
                return None
            for c in of.leaves():
                target = value(c.certified)
                width = _width(c, target)
                if not is_array(c.got, target, width):
                    return None
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = np.abs(target - c.certified) / width
                told += [min(float(digit), 15.0) for digit in np.log10(ratio[ratio > 1])]
            return told

        here = evidence(view)
        if here is None:
            return None
        others = {other.told.outcome.case: evidence(other) for other in self._alike(view)}
        against = tuple(case for case, told in others.items() if told is None)
        # One entry gave the number; the best of the others in its case, and the best of each other case, confirm it.
        answers = sorted((sorted(told) for told in ([here] if against else others.values()) if told), key=max)
        confirmed = sum(told[-1] for told in answers[:-1]) + sum(told[-2] for told in answers[-1:] if len(told) > 1)
        if not beyond_chance(confirmed, 1):
            return None
        cases = sum(bool(case) for case in others.values())
        so = f" (so on all {cases} cases that can tell)" if cases > 1 and not against else ""
        return Finding(f"{view.name()} is {words}{so}", against)


_Kind = Callable[[_View, Run], Iterator[_Rule]]


def objection(finding: Finding) -> str:
    """Return the sentence on the cases of the op where a structure does not hold."""
    shown = ", ".join(finding.against[:_SHOWN_CASES])
    more = len(finding.against) - _SHOWN_CASES
    return f"not so on {shown}{f' and {more} more' if more > 0 else ''}"


def _width(c: Comparison, value: Array) -> Array:
    """Return the tolerance of a rule's value: that of the certified one, scaled up if the value is larger."""
    if c.exact:
        return np.zeros(value.shape)
    size, largest = np.abs(c.certified).max(), np.abs(value).max(initial=0.0)
    scale = max(1.0, float(largest / size)) if size > 0 else 1.0
    if value.shape != c.certified.shape:
        return np.full(value.shape, c.tolerance.max() * scale * max(1.0, c.certified.size / max(value.size, 1)))
    return c.tolerance * scale + _ROUNDING * np.abs(value)


# Forms.


def _forms(view: _View, run: Run) -> Iterator[_Rule]:
    leaves = view.leaves()
    y = [c.certified for c in leaves]
    name = view.name()

    def rule(label: str, words: str, change: Callable[[Array], Array]) -> _Rule:
        return _Rule(label, words, tuple(change(array) for array in y))

    yield rule("zero", f"{name} is zero everywhere", np.zeros_like)
    if not any(c.exact for c in leaves):
        for factor in factors(view.told.case):
            words = f"{name} is {factor.words} × the certified value"
            yield _Rule(factor.name, words, tuple(factor.value * array for array in y), factor.plain)
        for label, words, function in _FUNCTIONS:
            yield rule(label, f"{name} is {words} the certified value", function)._replace(plain=False)
    flat = [c.path for c in leaves if c.certified.ndim == 2]
    if flat:
        words = f"{', '.join(flat)}: the transpose of the certified value"
        if any(c.certified.shape[0] != c.certified.shape[1] for c in leaves if c.certified.ndim == 2):
            words = f"{_shapes(view)}: it is the transpose"
        yield rule("transpose", words, lambda array: array.T if array.ndim == 2 else array)
        words = f"{name} has the certified values in another memory order: rows were read as columns"
        yield rule("memory order", words, lambda array: array.ravel(order="F").reshape(array.shape))
        yield rule("memory order, back", words, lambda array: array.ravel().reshape(array.shape, order="F"))
    if len(y) == 1 and y[0].ndim:
        yield from _orders(view, y[0])
    for label, words, change in _SHAPES:
        if max(array.ndim for array in y) > 1 or not label.endswith(("rows", "in rows")):
            yield rule(label, f"{_shapes(view)}: {words}", change)


_FUNCTIONS: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
    ("absolute", "the absolute value of", np.abs),
    ("reciprocal", "one over", lambda y: 1 / y),
    ("square", "the square of", np.square),
    ("root", "the square root of", np.sqrt),
    ("exponential", "the exponential of", np.exp),
    ("logarithm", "the logarithm of", np.log),
    ("integer", "the integer part of", np.trunc),
)

_RIGHT_VALUES = "the values are right, the shape is not"
_SHAPES: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
    ("column", _RIGHT_VALUES, lambda y: y[..., None]),
    ("row", _RIGHT_VALUES, lambda y: y[None]),
    ("flat", _RIGHT_VALUES, np.ravel),
    ("sum of all", "it is the sum of the certified values", np.sum),
    ("mean of all", "it is the mean of the certified values", np.mean),
    ("sum of rows", "it is the sum of the certified rows", lambda y: y.sum(axis=0) if y.ndim else y),
    ("mean of rows", "it is the mean of the certified rows", lambda y: y.mean(axis=0) if y.ndim else y),
    ("sum in rows", "it is the sum over the last axis", lambda y: y.sum(axis=-1) if y.ndim else y),
    ("mean in rows", "it is the mean over the last axis", lambda y: y.mean(axis=-1) if y.ndim else y),
)


def _orders(view: _View, y: Array) -> Iterator[_Rule]:
    letters = parse_type(OPS[view.told.outcome.op].outputs[view.output]).letters
    for axis in range(y.ndim):
        along = f"along {letters[axis]}" if axis < len(letters) else f"along axis {axis}"
        for words, values in (
            ("reversed", np.flip(y, axis)),
            ("one place late, the last one first,", np.roll(y, 1, axis)),
            ("one place early, the first one last,", np.roll(y, -1, axis)),
            ("sorted", np.sort(y, axis)),
        ):
            yield _Rule(f"{words} {axis}", f"{view.name()} has the certified values {words} {along}", (values,))


def _shapes(view: _View) -> str:
    c = next((c for c in view.leaves() if not c.same_shape), view.leaves()[0])
    return f"{c.path} has shape {c.got.shape}, expected {c.certified.shape}"


def _other_shape(view: _View) -> Finding | None:
    """Say what is wrong with the shape, where the values say nothing."""
    for c in view.leaves():
        if c.same_shape:
            continue
        got, y = c.got, c.certified
        rows = max(y.size, view.told.case.dims.get("B", 0))
        text = f"{c.path} has shape {got.shape}, expected {y.shape}"
        if y.ndim <= 1 and got.shape == (rows, rows):
            text += ": an (N, 1) array met an (N,) array and was broadcast to N × N"
        elif not y.ndim and np.isfinite(got).all() and is_array(got.mean(), y, _width(c, y)):
            text += ": its mean is the certified value; the mean was not taken"
        return Finding(text, ())
    return None


# Quantities.


def _quantities(view: _View, run: Run) -> Iterator[_Rule]:
    leaves = view.leaves()
    if view.part or any(c.exact for c in leaves):
        return
    y = tuple(c.certified for c in leaves)
    name = view.output
    scalars = constants(view.told)
    for label, value in scalars.items():
        yield _Rule(f"× {label}", f"{name} is the certified value × {label}", tuple(value * leaf for leaf in y))
        yield _Rule(f"× −{label}", f"{name} is the certified value × −{label}", tuple(-value * leaf for leaf in y))
        if value:
            yield _Rule(f"/ {label}", f"{name} is the certified value / {label}", tuple(leaf / value for leaf in y))
    at_hand = quantities(view.told, name, run.vectors)
    coefficients = {"": 1.0, "2 · ": 2.0}
    coefficients |= {f"{n}{label} · ": k * value for label, value in scalars.items() for n, k in coefficients.items()}
    for term in [*_terms(at_hand, y), *_numbers(view, y)]:
        yield _Rule(term.name, f"{name} is {term.name}, another quantity", term.leaves)
        yield _Rule(f"−{term.name}", f"{name} is −{term.name}, another quantity", tuple(-leaf for leaf in term.leaves))
        for label, value in coefficients.items():
            for sign, factor in (("+", value), ("−", -value)):
                what = f"{name} is the certified value {sign} {label}{term.name}"
                values = tuple(leaf + factor * part for leaf, part in zip(y, term.leaves, strict=True))
                yield _Rule(f"{sign} {label}{term.name}", f"{what}: {_OF_A_TERM}", values)


def _terms(at_hand: list[Quantity], y: tuple[Array, ...]) -> Iterator[Quantity]:
    """Yield what is shaped like the answer; for a scalar that is what its rows reduce to."""
    shapes = [leaf.shape for leaf in y]
    for quantity in at_hand:
        if [leaf.shape for leaf in quantity.leaves] == shapes:
            yield Quantity(f"`{quantity.name}`", quantity.leaves)
    if shapes != [()]:
        return
    rows = [(f"`{q.name}`", q.leaves[0]) for q in at_hand if len(q.leaves) == 1 and q.leaves[0].ndim]
    for name, values in rows:
        for word, reduce in _REDUCTIONS.items():
            yield Quantity(f"the {word} of {name}", (np.asarray(reduce(values)),))
    for (one, a), (other, b) in combinations(rows, 2):
        if a.shape == b.shape:
            for word in ("mean", "sum"):
                yield Quantity(f"the {word} of {one} · {other}", (np.asarray(_REDUCTIONS[word](a * b)),))


def _numbers(view: _View, y: tuple[Array, ...]) -> Iterator[Quantity]:
    """Yield constants that formulas hold, alone and once per entry of an axis."""
    for label, value in _CONSTANTS.items():
        yield Quantity(label, tuple(np.full(leaf.shape, value) for leaf in y))
        for letter, length in view.told.case.dims.items():
            for count, times in ((letter, length), (f"({letter} − 1)", length - 1)):
                yield Quantity(f"{count} · {label}", tuple(np.full(leaf.shape, times * value) for leaf in y))
