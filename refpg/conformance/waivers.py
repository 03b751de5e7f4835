"""A known failure, excused for a time: with a reason, an issue, and a day on which it is no longer.

A waiver never makes anything green by itself.  It excuses one case that fails; a case that passes, is not executed, or
fails after the waiver expired is red, so that no waiver outlives what it was written for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from refpg.conformance.adapters import UsageError, nearest


@dataclass(frozen=True)
class Waiver:
    """An excuse for a case that is known to fail.

    Fields: ``reason`` why it fails and is left so; ``issue`` where that is tracked; ``expires``, the last day on which
    the waiver holds, ISO 8601.
    """

    reason: str
    issue: str
    expires: str

    def __post_init__(self) -> None:
        for field in ("reason", "issue"):
            text = getattr(self, field)
            if not isinstance(text, str) or not text.strip():
                raise UsageError(f"Waiver: {field} is {text!r}, expected a text that says something")
        try:
            date.fromisoformat(self.expires)
        except (TypeError, ValueError):
            raise UsageError(f"Waiver: expires is {self.expires!r}, expected a day such as '2026-12-31'") from None

    def expired(self, today: date) -> bool:
        """Return whether the last day is over."""
        return today > date.fromisoformat(self.expires)

    def __str__(self) -> str:
        return f"{self.reason} ({self.issue}, until {self.expires})"


def check_waivers(waivers: Mapping[str, Waiver], cases: Iterable[str]) -> None:
    """Refuse waivers for cases that are not there.

    Parameters
    ----------
    waivers : mapping of str to Waiver
        By case id.
    cases : iterable of str
        The ids of the cases that are judged.

    Raises
    ------
    UsageError
        If one is for no case, or is not a waiver.
    """
    known = list(cases)
    for case, waiver in waivers.items():
        if case not in known:
            raise UsageError(f"a waiver for {case!r}, which is not among the {len(known)} cases{nearest(case, known)}")
        if not isinstance(waiver, Waiver):
            raise UsageError(f"the waiver for {case} is a {type(waiver).__name__}, expected Waiver(...)")
