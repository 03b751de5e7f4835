"""The door for pytest: one test for each certified vector.

::

    import my_ppo
    from refpg.conformance.testing import Waiver, vectors

    @vectors(my_ppo, profile="ppo", vectors="2026.1")
    def test_the_mathematics():
        '''Every certified case of PPO's operations.'''

The decorated function may be empty: the judging is done before its body is run.  All cases are judged together when
the first of them is asked for, so that a diagnosis knows all the evidence.  A case that the target does not answer is
skipped, with the reason; if nothing at all is answered, the test ``something-was-executed`` is red.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from refpg.conformance.adapters import UsageError
from refpg.conformance.report.terminal import harness_error, mismatch
from refpg.conformance.run import Run, check, selected
from refpg.conformance.verdicts import Outcome, Verdict
from refpg.conformance.waivers import Waiver, check_waivers
from refpg.conformance.worker import TIMEOUT

__all__ = ["Waiver", "vectors"]

SOMETHING = "something-was-executed"
PROPERTY = "refpg"

_NONE: Mapping[str, Waiver] = MappingProxyType({})
_FAILS = (Verdict.WRONG, Verdict.IMPRECISE, Verdict.HARNESS_ERROR)


class Settled(NamedTuple):
    """How a test ends: ``end`` is passed, failed, skipped or waived; ``text`` says why."""

    end: str
    text: str


class Suite:
    """The cases of one decorated function: what was asked, and what came of it once it was judged."""

    def __init__(self, target: Any, waive: Mapping[str, Waiver], **asked: Any) -> None:
        self.target, self.waive, self.asked = target, dict(waive), asked
        _, _, cases = selected(asked["profiles"], asked["only"], release=asked["release"])
        self.cases = [case.id for case in cases]
        check_waivers(self.waive, self.cases)

    @functools.cached_property
    def run(self) -> Run:
        """The judgement; made once."""
        return check(self.target, **self.asked)

    def title(self) -> str:
        """Return one line: target, release, cases, waivers."""
        if isinstance(self.target, str | None):
            name = self.target or "refpg"
        else:
            name = getattr(self.target, "__name__", type(self.target).__name__)
        profiles = ", ".join(self.asked["profiles"]) or "every profile"
        waived = f", {len(self.waive)} waived" if self.waive else ""
        return f"{name} · vectors {self.asked['release']} · {profiles} · {len(self.cases)} cases{waived}"

    def settle(self, case: str, today: date) -> Settled:
        """Return how the test of a case ends."""
        if case == SOMETHING:
            return self._something()
        positions = [i for i, outcome in enumerate(self.run.outcomes) if outcome.case == case]
        outcomes = [self.run.outcomes[i] for i in positions]
        failing = [i for i in positions if self.run.outcomes[i].verdict in _FAILS]
        text = "\n".join(line for i in failing for line in self._lines(i))
        executed = failing or any(outcome.verdict is Verdict.CONFORMS for outcome in outcomes)
        waiver = self.waive.get(case)
        if waiver is None:
            if not executed:
                return Settled("skipped", _unexecuted(outcomes[0]))
            return Settled("failed", text) if failing else Settled("passed", "")
        if not failing:
            what = "conforms" if executed else f"was not executed ({_unexecuted(outcomes[0])})"
            return Settled("failed", f"STALE WAIVER  {case} {what}: remove its waiver, {waiver}")
        if waiver.expired(today):
            return Settled("failed", f"EXPIRED WAIVER  of {case}: {waiver}\n{text}")
        return Settled("waived", str(waiver))

    def _something(self) -> Settled:
        if self.run.counts()["executed"]:
            return Settled("passed", "")
        reasons = dict.fromkeys(outcome.message for outcome in self.run.outcomes)
        return Settled(
            "failed",
            f"nothing was executed, so nothing is known: {self.run.adapter.name} answers none of the {len(self.cases)} "
            f"cases.\nWrite one of the functions that `refpg ops` lists, such as {self.run.outcomes[0].op}.\n"
            f"Reasons given: {'; '.join(list(reasons)[:3])}",
        )

    def _lines(self, i: int) -> list[str]:
        outcome = self.run.outcomes[i]
        return list(harness_error(outcome) if outcome.verdict is Verdict.HARNESS_ERROR else mismatch(self.run, i))


def vectors(
    target: Any = None,
    *,
    vectors: str,
    profile: str | Sequence[str] = (),
    only: str = "",
    dtype: str | None = None,
    stability: bool = False,
    timeout: float = TIMEOUT,
    waive: Mapping[str, Waiver] = _NONE,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn a test function into one test for each certified vector.

    Parameters
    ----------
    target : None, str, Command or any object
        What is judged, as in `refpg.conformance.run.check`: an object answers in this process, where a debugger sees
        it; the path of a ``.py`` file is served by a process of its own, where it may crash or hang.
    vectors : str
        The release, e.g. ``"2026.1"``.  A newer refpg with newer vectors changes nothing until this does.
    profile : str or sequence of str
        Groups of ops; all of them unless given.
    only, dtype, stability, timeout
        As in `refpg.conformance.run.check`.
    waive : mapping of str to Waiver
        Case id → why it may fail.  A waived case that conforms is red.

    Returns
    -------
    callable
        A decorator.  The function's own fixtures stay; its body is run after a case was found to conform.

    Raises
    ------
    UsageError
        If a name is unknown, a waiver is for no case, or the function already has an argument called ``vector``.
    VectorError
        If the vectors are not as released.
    """
    profiles = (profile,) if isinstance(profile, str) else tuple(profile)
    suite = Suite(
        target,
        waive,
        profiles=profiles,
        only=only,
        dtype=dtype,
        stability=stability,
        timeout=timeout,
        release=vectors,
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)
        if "vector" in signature.parameters:
            taken = "vector is the name under which each case is passed; call it otherwise"
            raise UsageError(f"{function.__name__}: {taken}")
        wants_properties = "record_property" in signature.parameters

        @functools.wraps(function)
        def test(*arguments: Any, vector: str, **fixtures: Any) -> None:
            record = fixtures["record_property"] if wants_properties else fixtures.pop("record_property")
            settled = suite.settle(vector, date.today())
            record(PROPERTY, settled.end)
            if settled.end == "skipped":
                pytest.skip(settled.text)
            if settled.end == "waived":
                pytest.xfail(settled.text)
            if settled.end == "failed":
                pytest.fail(settled.text, pytrace=False)
            function(*arguments, **fixtures)

        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in ("vector", "record_property")
            if name not in signature.parameters
        ]
        test.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
        test.refpg_suite = suite  # type: ignore[attr-defined]
        ids = [*suite.cases, SOMETHING]
        decorated: Callable[..., Any] = pytest.mark.parametrize("vector", ids, ids=ids)(test)
        return decorated

    return decorate


def _unexecuted(outcome: Outcome) -> str:
    if outcome.verdict is Verdict.UNSUPPORTED:
        return outcome.message
    return f"{outcome.verdict.value.lower()}: {outcome.message}"
