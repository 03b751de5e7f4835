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

from refpg.conformance.laws.answers import Answers, Contradiction
from refpg.conformance.laws.rounding import Rounded, rounded


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

    Fields: ``error``, and its derived ``bound``, both of the entry that is worst; ``note`` says what is wrong with an
    answer that is not even of the right form.
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
        """Ids of the known bugs that it notices, as measured by ``python -m verification.laws``."""
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
        answers = Answers.of(implementation)
        try:
            with np.errstate(all="ignore"):
                residuals = [_residual(gap, answers) for gap in self.function(answers, **inputs)]
        except Contradiction as error:
            return Residual(float("inf"), 0.0, str(error))
        # Drawn inputs may leave nothing to compare, such as a search that accepts its first candidate.
        return max(residuals, key=lambda residual: residual.worst, default=Residual(0.0, 0.0))


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


def plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs as lists and numbers, to be printed."""
    return {name: _plain(value) for name, value in inputs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
