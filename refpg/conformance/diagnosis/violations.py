"""The last question, where nothing else explains an answer: which law does the implementation break, and where?

It is put to the implementation itself, by the door through which it was judged, with inputs that hypothesis draws and
makes smaller.  The draws are seeded; what the implementation prints or warns of meanwhile is not shown; and whatever
goes wrong in the search, the report is what it would have been without.
"""

import contextlib
import io
import time
import warnings
from dataclasses import replace
from typing import Any

from refpg.conformance.adapters import Adapter
from refpg.conformance.diagnosis import texts
from refpg.conformance.diagnosis.texts import Diagnosis
from refpg.conformance.laws.answers import Answers
from refpg.conformance.verdicts import Outcome

# For all searches of a run together.  What a fast implementation is told does not depend on it.
SECONDS = 60.0


class Search:
    """Looks for violated laws of one implementation, once for each op under each choice of conventions."""

    def __init__(self, adapter: Adapter, seconds: float = SECONDS) -> None:
        self._adapter, self._seconds = adapter, seconds
        self._clock = _Clock(seconds)
        self._known: dict[tuple[str, frozenset[tuple[str, str]]], Diagnosis] = {}

    def __call__(self, outcome: Outcome) -> Diagnosis:
        """Return the law that the op of a wrong answer breaks, or say that none was found."""
        question = outcome.op, frozenset(outcome.conventions.items())
        if question not in self._known:
            try:
                self._known[question] = self._search(outcome)
            except (Exception, SystemExit):  # of the search or of the implementation: the verdict stands without
                self._known[question] = texts.nothing()
        return self._known[question]

    def _search(self, outcome: Outcome) -> Diagnosis:
        try:
            from refpg.conformance.laws import concerning, violated
        except ImportError:
            return texts.nothing("not tried: pip install 'refpg[test]' adds hypothesis, which looks for a violated one")
        conventions = dict(self._adapter.conventions) | dict(outcome.conventions)
        implementation = _Limited(self._adapter, conventions, self._clock)
        tried = {law.name for law, variant in concerning(outcome.op) if not implementation.missing(law.ops_of(variant))}
        with contextlib.redirect_stdout(_Nowhere()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = violated(implementation, outcome.op)
        if found is not None:
            return texts.of_law(found.law, found.variant, found.inputs, found.residual)
        if self._clock.is_up:
            return texts.nothing(f"none is seen violated, but the search was stopped after {self._seconds:g} s")
        return texts.nothing(f"none of the {len(tried)} that can be tried is seen violated" if tried else "")


class _Clock:
    """Runs from the first question on."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, float("inf")

    @property
    def is_up(self) -> bool:
        return time.monotonic() > self._end

    def start(self) -> None:
        self._end = min(self._end, time.monotonic() + self._seconds)


class _Limited(Answers):
    """An implementation that is asked no more when time is up."""

    def __init__(self, adapter: Adapter, conventions: dict[str, str], clock: _Clock) -> None:
        super().__init__(replace(adapter, conventions=conventions))
        self._clock = clock

    def __call__(self, op: str, **inputs: Any) -> Any:
        self._clock.start()
        if self._clock.is_up:
            raise TimeoutError
        return super().__call__(op, **inputs)


class _Nowhere(io.TextIOBase):
    """Standard output during a search."""

    def write(self, text: str) -> int:
        return len(text)
