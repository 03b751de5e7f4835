"""Two causes at once, where no single one explains the run.

Only single wrong answers are shipped, and no code is run here.  What two mistakes do together is known without running
them in five ways::

    under another convention   the bug's answer under a convention that was not declared, which is shipped
    in different outputs       one bug's answer in some outputs of the op, the other's in the rest
    added                      a + b − y: their effects meet in different terms or different entries
    multiplied                 c · b where a = c · y: one of them is a factor
    scaled                     f · b, f a factor with a name, such as −1 or 1/B

Mistakes that act on each other's results in another way are not found, and nothing is said of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from refpg.conformance.diagnosis.candidates import INVISIBLE, Bug, Cause, Convention, Told, allowed, causes
from refpg.conformance.diagnosis.consistency import RED, Run, beyond_chance, digits, is_array
from refpg.conformance.diagnosis.factors import factors
from refpg.conformance.signatures import output_of
from refpg.conformance.verdicts import Comparison, Outcome
from refpg.notation import Array

# Shipped answers are correctly rounded; a quotient of two is so many units of roundoff away from a common factor.
_QUOTIENT = 8 * 2.0**-53

# Two parts are told to be both there where neither of them alone gives the answer, in at least so many cases.
_DECISIVE_CASES = 2


class Pair(NamedTuple):
    """Two causes that explain an op: ``bugs`` and ``conventions`` of them, and ``how`` they meet, in words."""

    bugs: tuple[str, ...]
    conventions: tuple[tuple[str, str], ...]
    how: str


@dataclass(frozen=True)
class _Trial:
    """One way for two causes to meet.

    Fields: ``pair`` is what to say; ``parts`` the causes, neither of which must do alone; ``sources`` whose answers
    ``meet``, leaf by leaf, in the answer of both: given the comparison and the leaf of each source, None if they
    cannot; ``factor`` by name where one part is no more than that.
    """

    pair: Pair
    parts: tuple[Cause, ...]
    sources: tuple["Cause | _Under", ...]
    meet: Callable[[Comparison, Sequence[Array], float], Array | None]
    factor: str = ""


@dataclass(frozen=True)
class _Under:
    """A bug under a convention that was not declared."""

    bug: Bug
    convention: Convention


def pairs(outcome: Outcome, run: Run) -> list[Pair]:
    """Return the pairs of causes that explain every answer of the op, and could not do so by chance.

    Parameters
    ----------
    outcome : Outcome
        A wrong answer of the op, under the conventions that were declared.
    run : Run
        All of the run.

    Returns
    -------
    list of Pair
        Several if the run cannot tell them apart.  A known cause with a factor is a guess beside two known causes: if
        there are any of the latter, the former are not returned.
    """
    group = run.alike(outcome)
    red = [told for told in group if told.outcome.verdict in RED]
    if len(red) < _DECISIVE_CASES:
        return []
    # The smallest wrong answer first: it refutes at the least cost.
    group = sorted(group, key=lambda told: (told not in red, sum(c.got.size for c in told.outcome.comparisons)))
    trials = list(_trials(group, run))
    found = [trial for trial in trials if _explains(trial, group, run, len(trials))]
    known = [trial for trial in found if not trial.factor]
    named = {(trial.pair.bugs, trial.pair.conventions, trial.factor): trial.pair for trial in reversed(known or found)}
    return list(reversed(named.values()))


def _explains(trial: _Trial, group: list[Told], run: Run, tried: int) -> bool:
    found, decisive = 0.0, 0
    for told in group:
        widths: list[Array] = []
        for value, width in _answer(trial, told, run):
            c = told.outcome.comparisons[len(widths)]
            if value is None or not is_array(c.got, value, width):
                return False
            widths.append(width)
        if not widths:  # this case cannot tell
            continue
        if told.outcome.verdict in RED and not any(run.agrees(part, told) for part in trial.parts):
            decisive += 1
            found += digits(told.outcome, widths)
    return decisive >= _DECISIVE_CASES and beyond_chance(found, tried)


def _answer(trial: _Trial, told: Told, run: Run) -> Iterator[tuple[Array | None, Array]]:
    """Yield, leaf by leaf, what both causes together give, None if they cannot meet, and how far from it one may be."""
    answers = [_source(source, told, run) for source in trial.sources]
    factor = next((f.value for f in factors(told.case) if f.name == trial.factor), None) if trial.factor else 1.0
    if factor is None or any(answer is None for answer in answers):
        return
    visible = all(part.visible(told) for part in trial.parts if isinstance(part, Bug))
    u = run.vectors.policy.unit_roundoff[told.outcome.dtype]
    for c in told.outcome.comparisons:
        leaves = [answer[c.path] for answer in answers if answer is not None]
        value = trial.meet(c, leaves, factor)
        if value is None or value.shape != c.certified.shape or not np.isfinite(value).all():
            yield None, c.tolerance
            continue
        effect = sum(np.abs(leaf - c.certified) for leaf in leaves)
        width = allowed(c, value, u, effect) * (1.0 if visible else INVISIBLE)
        yield value, np.zeros_like(width) if c.exact else width


def _source(source: "Cause | _Under", told: Told, run: Run) -> dict[str, Array] | None:
    if not isinstance(source, _Under):
        prediction = run.prediction(source, told)
        return None if prediction is None else dict(prediction.values)
    entry = source.convention.expected(told, run.vectors)
    if entry is None:
        return None
    values = {path: leaf.value for path, leaf in entry.outputs.items()}
    for wrong in told.case.wrong:
        if wrong.bug == source.bug.name and dict(wrong.conventions) == dict(entry.conventions):
            return values | dict(wrong.outputs)
    return values


def _trials(group: list[Told], run: Run) -> Iterator[_Trial]:
    known = list(dict.fromkeys(cause for told in group for cause in causes(told, run.vectors)))
    bugs = [cause for cause in known if isinstance(cause, Bug)]
    outputs = sorted({output_of(c.path) for c in group[0].outcome.comparisons})
    for convention in (cause for cause in known if isinstance(cause, Convention)):
        axes = " and ".join(f"{axis} = {value}" for axis, value in convention.changes)
        for name in dict.fromkeys(wrong.bug for told in group for wrong in told.case.wrong):
            pair = Pair((name,), convention.changes, f"under {axes}")
            yield _Trial(pair, (Bug(name), convention), (_Under(Bug(name), convention),), _alone)
    for one, other in combinations(bugs, 2):
        for chosen in _splits(outputs):
            rest = tuple(output for output in outputs if output not in chosen)
            parts = Bug(one.name, chosen), Bug(other.name, rest)
            how = f"the first in {', '.join(chosen)}, the second in {', '.join(rest)}"
            yield _Trial(Pair((one.name, other.name), (), how), parts, parts, _either)
        for how, meet in (("their effects added", _sum), ("multiplied, as one is a factor", _product)):
            yield _Trial(Pair((one.name, other.name), (), how), (one, other), (one, other), meet)
    for name in dict.fromkeys(factor.name for told in group for factor in factors(told.case)):
        for cause in known:
            bug = (cause.name,) if isinstance(cause, Bug) else ()
            changes = cause.changes if isinstance(cause, Convention) else ()
            yield _Trial(Pair(bug, changes, f"times {name}"), (cause,), (cause,), _alone, name)


def _splits(outputs: list[str]) -> Iterator[tuple[str, ...]]:
    for size in range(1, len(outputs)):
        yield from combinations(outputs, size)


def _alone(c: Comparison, leaves: Sequence[Array], factor: float) -> Array:
    return leaves[0] if c.exact else factor * leaves[0]


def _either(c: Comparison, leaves: Sequence[Array], factor: float) -> Array:
    """Return the leaf of the part that is in this output; that of the other part is the certified one."""
    a, b = leaves
    return b if a is c.certified else a


def _sum(c: Comparison, leaves: Sequence[Array], factor: float) -> Array | None:
    a, b = leaves
    return a + b - c.certified if a.shape == b.shape == c.certified.shape else None


def _product(c: Comparison, leaves: Sequence[Array], factor: float) -> Array | None:
    a, b = leaves
    if a.shape == b.shape == c.certified.shape:
        for one, other in ((a, b), (b, a)):
            if (common := _common_factor(one, c.certified)) is not None:
                return common * other
    return None


def _common_factor(a: Array, y: Array) -> float | None:
    """Return c if a = c · y everywhere."""
    if not y.any():
        return None if a.any() else 1.0
    at = np.unravel_index(np.abs(y).argmax(), y.shape)
    factor = float(a[at] / y[at])
    return factor if (np.abs(a - factor * y) <= _QUOTIENT * np.abs(factor * y)).all() else None
