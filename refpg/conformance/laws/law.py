"""What a law is: a statement about the answers of one implementation, and how far they may be from it.

A law is a function of the answers and of drawn inputs; it asks ops, does arithmetic, and returns gaps: differences
that are zero, or not negative, in exact arithmetic.  The bound of a gap comes out of the same arithmetic::

    bound = 16 u E        E the running error of all that entered the gap; 16 is the factor of the vectors' policy

so no law has a tolerance of its own.  A law needs no certified value: it relates answers to each other.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.laws.answers import Answered, Answers, Contradiction
from refpg.conformance.laws.rounding import Rounded, rounded

# Of what was asked and answered, so much is shown of a counterexample.
_ANSWERS = 3
_CHARACTERS = 200


class Gap(NamedTuple):
    """One comparison of a law.

    Fields: ``difference`` of its two sides; ``one_sided`` if only a negative difference breaks the law; ``truncation``,
    an absolute bound of what a finite rule of integration or extrapolation leaves out.
    """

    difference: Rounded
    one_sided: bool = False
    truncation: Any = 0.0


def equal(left: Any, right: Any, truncation: Any = 0.0) -> Gap:
    """Return the gap of left = right."""
    return Gap(rounded(left) - right, truncation=truncation)


def at_least(left: Any, right: Any) -> Gap:
    """Return the gap of left ≥ right."""
    return Gap(rounded(left) - right, one_sided=True)


def never() -> Gap:
    """Return the gap of what must not happen at all, such as a decision that contradicts another."""
    return Gap(Rounded(np.inf))


class Residual(NamedTuple):
    """How far the answers are from a law.

    Fields: ``error``, and its derived ``bound``, both of the entry that is worst; ``note`` says what is wrong where no
    number does: an answer that is not of the right form or not finite, or that no rounding excuses.
    """

    error: float
    bound: float
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the law holds to rounding; what is not a number does not."""
        return self.error <= self.bound and self.error < np.inf

    @property
    def worst(self) -> float:
        """The error in bounds; infinite for what is not a number, whatever the bound."""
        if self.error == 0 or np.isinf(self.error):
            return self.error
        return self.error / self.bound if self.bound > 0 else float("inf")


@dataclass(frozen=True)
class Law:
    """A law of policy-gradient mathematics, to be called on an implementation.

    Fields: ``name``; ``statement`` in one or two sentences; ``source`` where it is from; ``ops`` it asks, with
    ``{family}`` for the variant; ``draw``, the strategy of its inputs in `refpg.conformance.strategies`; ``variants``,
    the families of distributions it is stated for (one empty name if none);
    ``blind``, what it cannot see and why; ``function`` from answers and inputs to gaps.
    """

    name: str
    statement: str
    source: str
    ops: tuple[str, ...]
    draw: str
    variants: tuple[str, ...]
    blind: str
    function: Callable[..., Iterable[Gap]]

    @property
    def subject(self) -> str:
        """The module the law is in."""
        return self.function.__module__.rsplit(".", 1)[1]

    @property
    def kills(self) -> tuple[str, ...]:
        """Ids of the known mistakes that it notices, as measured by ``python -m verification.laws``."""
        return tuple(_kills().get(self.name, ()))

    def ops_of(self, variant: str) -> tuple[str, ...]:
        """Return the ops that a variant asks."""
        return tuple(op.format(family=variant) for op in self.ops)

    def label(self, variant: str) -> str:
        """Return the name with the variant, as tests print it."""
        return f"{self.name}[{variant}]" if variant else self.name

    def __call__(self, implementation: Any, /, **inputs: Any) -> Residual:
        """Try the law on an implementation and drawn inputs.

        Parameters
        ----------
        implementation : Answers, or anything that the judge accepts
            A module, object, mapping or name; None is refpg itself.
        **inputs
            What the strategy ``draw`` gives.

        Returns
        -------
        Residual
            Of the worst entry of the worst gap.
        """
        return self._tried(Answers.of(implementation).listening(), inputs)

    def require(self, implementation: Any, /, **inputs: Any) -> None:
        """Try the law as a test does.

        Parameters
        ----------
        implementation, **inputs
            As in a call.

        Raises
        ------
        AssertionError
            If the law does not hold: with its statement, the error beside its bound, the inputs, what was answered.
        """
        __tracebackhide__ = True
        example = self.broken(Answers.of(implementation), inputs)
        if example is not None:
            raise AssertionError(str(example))

    def broken(self, answers: Answers, inputs: Mapping[str, Any], variant: str = "") -> "Counterexample | None":
        """Return how inputs break the law, or None if it holds on them; ``variant`` is what the report calls it."""
        listener = answers.listening()
        residual = self._tried(listener, inputs)
        if residual.holds:
            return None
        return Counterexample(self, variant, inputs, residual, tuple(listener.heard or ()))

    def _tried(self, answers: Answers, inputs: Mapping[str, Any]) -> Residual:
        try:
            with np.errstate(all="ignore"):
                residuals = [_residual(gap, answers) for gap in self.function(answers, **inputs)]
        except Contradiction as error:
            return Residual(float("inf"), 0.0, str(error))
        # Drawn inputs may leave nothing to compare, such as a search that accepts its first candidate.
        worst = max(residuals, key=lambda residual: residual.worst, default=Residual(0.0, 0.0))
        return worst if np.isfinite(worst.error) else worst._replace(note=_beyond_numbers(answers.heard or ()))


class Counterexample(NamedTuple):
    """Inputs on which a law does not hold; printed, it is what a person wants to read.

    Fields: the ``law`` and its ``variant``; the ``inputs``, the smallest found; how far the answers are from the law
    there, the ``residual``; what was ``answered``, in the order of the questions.
    """

    law: Law
    variant: str
    inputs: Mapping[str, Any]
    residual: Residual
    answered: tuple[Answered, ...] = ()

    def lines(self) -> list[str]:
        """Return the statement, the error beside its bound, the example."""
        how = self.residual.note or f"off by {self.residual.error:.3g}, allowed are {self.residual.bound:.2g}"
        numbers = ", ".join(f"{name} = {value}" for name, value in plain(self.inputs).items())
        return [f"{self.law.label(self.variant)}: {self.law.statement}", how, f"for example {numbers}"]

    def got(self) -> list[str]:
        """Return the first questions with their answers; what is not finite comes first.

        An input that is one of the example is there by its name alone.
        """
        example = plain(self.inputs)
        questions = sorted(self.answered, key=lambda one: one.is_finite)
        lines = list(dict.fromkeys(f"got {_told(one, example)}" for one in questions))
        more = len(lines) - _ANSWERS
        return [*lines[:_ANSWERS], f"and {more} more answer{'s' * (more > 1)}"] if more > 0 else lines

    def __str__(self) -> str:
        return "\n".join([*self.lines(), *self.got()])


LAWS: dict[str, Law] = {}

KILLS = Path(__file__).parent / "kills.json"


@cache
def _kills() -> dict[str, list[str]]:
    document = json.loads(KILLS.read_text(encoding="utf-8"))
    found: dict[str, list[str]] = document["kills"]
    return found


def law(
    *,
    source: str,
    ops: tuple[str, ...],
    draw: str,
    blind: str,
    variants: tuple[str, ...] = ("",),
) -> Callable[[Callable[..., Iterable[Gap]]], Law]:
    """Make a law of a function; its docstring is the statement.

    Parameters
    ----------
    source, ops, draw, blind, variants
        As in `Law`.

    Returns
    -------
    callable
        A decorator; the law is entered in `LAWS` under the function's name.
    """

    def decorate(function: Callable[..., Iterable[Gap]]) -> Law:
        name = function.__name__
        if name in LAWS:
            raise ValueError(f"law: there are two laws called {name}")
        statement = " ".join((inspect.getdoc(function) or "").split())
        LAWS[name] = Law(name, statement, source, ops, draw, variants, blind, function)
        return LAWS[name]

    return decorate


def _residual(gap: Gap, answers: Answers) -> Residual:
    difference = gap.difference
    if difference.size == 0:
        return Residual(0.0, 0.0)
    error = np.maximum(-difference.value, 0.0) if gap.one_sided else np.abs(difference.value)
    error = np.where(np.isfinite(difference.value), error, np.inf)
    bound = answers.margin(difference) + np.asarray(gap.truncation)
    bound = np.broadcast_to(np.where(np.isnan(bound), np.inf, bound), error.shape)
    residuals = [Residual(float(e), float(b)) for e, b in zip(error.ravel(), bound.ravel(), strict=True)]
    return max(residuals, key=lambda residual: residual.worst)


def _beyond_numbers(heard: Iterable[Answered]) -> str:
    """Say why an error is infinite."""
    ops = dict.fromkeys(answered.op for answered in heard if not answered.is_finite)
    return f"the answer of {' and '.join(ops)} is not finite" if ops else "excluded by the law, whatever the rounding"


def _told(answered: Answered, example: Mapping[str, Any]) -> str:
    inputs = [
        name if name in example and example[name] == value else f"{name} = {_cut(value)}"
        for name, value in plain(answered.inputs).items()
    ]
    question = f"{answered.op}({', '.join(inputs)})"
    leaves = plain(answered.leaves)
    if len(leaves) == 1:
        return f"{question} = {_cut(next(iter(leaves.values())))}"
    return f"{question}: {', '.join(f'{path} = {_cut(value)}' for path, value in leaves.items())}"


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]} …"


def plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs as lists and numbers, to be printed."""
    return {name: _plain(value) for name, value in inputs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
