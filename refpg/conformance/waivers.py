"""A known failure, excused for a time: with a reason, an issue, and a day on which it is no longer.

A waiver never makes anything green by itself.  It excuses one case that fails; a case that passes, is not executed, or
fails after the waiver expired is red, so that no waiver outlives what it was written for.

In a file, waivers are JSON, which ``data/schema/waivers.schema.json`` describes::

    {"schema": 1, "waivers": {"ratio/log-ratios-of-60-5":
        {"reason": "overflows in float32", "issue": "my_ppo#7", "expires": "2026-12-31"}}}

The name of a waiver there is a case id or a glob, over ops or, with a slash, over case ids, like ``--only``.  A glob
excuses every case that it matches and that fails; it is stale as soon as one of them conforms.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from refpg.conformance.adapters import UsageError, nearest
from refpg.conformance.vectors import VectorError, parse
from refpg.conformance.verdicts import Outcome, Verdict

MAX_BYTES = 1 << 20
MAX_WAIVERS = 10_000

EXCUSABLE = (Verdict.WRONG, Verdict.IMPRECISE, Verdict.HARNESS_ERROR)

_PATTERN = re.compile(r"[a-z0-9_*?\[\]!-]+(/[a-z0-9_.*?\[\]!-]+)?")
_FIELDS = ("reason", "issue", "expires")
_SHOWN = 3


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
            day = date.fromisoformat(self.expires).isoformat()
        except (TypeError, ValueError):
            day = ""
        if day != self.expires:
            raise UsageError(f"Waiver: expires is {self.expires!r}, expected a day such as '2026-12-31'")

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
        _check_waiver(case, waiver)


def read_waivers(path: Path) -> dict[str, Waiver]:
    """Read a file of waivers.

    Parameters
    ----------
    path : Path
        JSON, of at most 1 MiB.

    Returns
    -------
    dict of str to Waiver
        Case id or glob → waiver, in the order of the file.

    Raises
    ------
    UsageError
        If it is not there, or not as ``data/schema/waivers.schema.json`` says.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file of waivers")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        document = parse(content, str(path))
    except VectorError as error:
        raise UsageError(str(error)) from None
    raw = _mapping(str(path), document, ("schema", "waivers"))
    if type(raw["schema"]) is not int or raw["schema"] != 1:
        raise UsageError(f"{path}: schema is {str(raw['schema'])[:20]!r}, this version of refpg reads 1")
    if not isinstance(raw["waivers"], dict) or len(raw["waivers"]) > MAX_WAIVERS:
        raise UsageError(f"{path}: waivers is not a mapping of at most {MAX_WAIVERS} waivers")
    return {name: _read_waiver(f"{path}: {name[:100]}", name, one) for name, one in raw["waivers"].items()}


def concerning(
    waivers: Mapping[str, Waiver], cases: Sequence[str], release: Callable[[], Iterable[str]], today: date
) -> dict[str, Waiver]:
    """Return the waivers that concern some cases, and refuse those that excuse nothing or no longer.

    Parameters
    ----------
    waivers : mapping of str to Waiver
        Case id or glob → waiver.
    cases : sequence of str
        The ids of the cases that are judged.
    release : callable
        Gives the ids of all cases of the release: a waiver for a case that is not judged this time may stand.
    today : date
        By which a waiver may have expired.

    Returns
    -------
    dict of str to Waiver

    Raises
    ------
    UsageError
        If a waiver is for no case of the release or has expired, or a case has two.
    """
    for name, waiver in waivers.items():
        _check_waiver(name, waiver)
    found = {name: waiver for name, waiver in waivers.items() if any(covers(name, case) for case in cases)}
    others = [name for name in waivers if name not in found]
    known = list(release()) if others else []
    complaints = [
        f"a waiver for {name!r}, which no case of the release matches{nearest(name, known)}"
        for name in others
        if not any(covers(name, case) for case in known)
    ]
    complaints += [
        f"the waiver for {name} has expired: {waiver}" for name, waiver in waivers.items() if waiver.expired(today)
    ]
    for case in cases:
        if len(names := [name for name in found if covers(name, case)]) > 1:
            complaints.append(f"{case} has {len(names)} waivers, for {' and for '.join(names)}")
    if complaints:
        more = f"; and {len(complaints) - _SHOWN} more" if len(complaints) > _SHOWN else ""
        raise UsageError("; ".join(complaints[:_SHOWN]) + more)
    return found


def covers(name: str, case: str) -> bool:
    """Return whether the waiver of that name is for a case.

    Examples
    --------
    >>> covers("kl_*", "kl_bernoulli/rare-5"), covers("kl_*", "mean_kl_bernoulli/rare-5")
    (True, False)
    >>> covers("ratio/log-ratios-of-60-5", "ratio/log-ratios-of-60-5"), covers("*/*-5", "ratio/log-ratios-of-60-5")
    (True, True)
    """
    return fnmatch.fnmatchcase(case if "/" in name else case.partition("/")[0], name)


def excused(outcomes: Iterable[Outcome], waivers: Mapping[str, Waiver]) -> list[Outcome]:
    """Return the outcomes of a run, where those that fail and have a waiver are WAIVED.

    Parameters
    ----------
    outcomes : iterable of Outcome
        Judged and explained.
    waivers : mapping of str to Waiver
        From `concerning`.

    Returns
    -------
    list of Outcome
        One that is WAIVED has the verdict it had before in ``excused``.
    """
    return [
        replace(outcome, verdict=Verdict.WAIVED, excused=outcome.verdict)
        if outcome.verdict in EXCUSABLE and waiver_of(outcome.case, waivers) is not None
        else outcome
        for outcome in outcomes
    ]


def waiver_of(case: str, waivers: Mapping[str, Waiver]) -> Waiver | None:
    """Return the waiver for a case, or None."""
    return next((waiver for name, waiver in waivers.items() if covers(name, case)), None)


def stale(outcomes: Iterable[Outcome], waivers: Mapping[str, Waiver]) -> dict[str, str]:
    """Return the waivers that have outlived what they were written for.

    Parameters
    ----------
    outcomes : iterable of Outcome
        Of `excused`.
    waivers : mapping of str to Waiver
        From `concerning`.

    Returns
    -------
    dict of str to str
        The name of a waiver → what its cases do instead of failing: a case conforms, or all were left out.
    """
    verdicts: dict[str, set[Verdict]] = {}
    for outcome in outcomes:
        verdicts.setdefault(outcome.case, set()).add(outcome.verdict)
    found = {}
    for name in waivers:
        covered = {case: ends for case, ends in verdicts.items() if covers(name, case)}
        failing = [case for case, ends in covered.items() if Verdict.WAIVED in ends]
        right = [case for case, ends in covered.items() if Verdict.CONFORMS in ends and case not in failing]
        if right:
            more = f" and {len(right) - 1} more" if len(right) > 1 else ""
            found[name] = f"{right[0]}{more} conform{'' if more else 's'}"
        elif not failing:
            ends = sorted({end.value.lower() for ends in covered.values() for end in ends})
            found[name] = f"nothing was executed ({', '.join(ends)})"
    return found


def _check_waiver(name: str, waiver: Any) -> None:
    if not isinstance(waiver, Waiver):
        raise UsageError(f"the waiver for {name} is a {type(waiver).__name__}, expected Waiver(...)")


def _read_waiver(here: str, name: str, raw: Any) -> Waiver:
    if not _PATTERN.fullmatch(name):
        raise UsageError(f"{here}: neither a case id nor a glob, expected e.g. ratio/few-rows-5, kl_* or */*-5")
    record = _mapping(here, raw, _FIELDS)
    try:
        return Waiver(**record)
    except UsageError as error:
        raise UsageError(f"{here}: {error}") from None


def _mapping(here: str, value: Any, fields: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{here}: not a mapping")
    if set(value) != set(fields):
        missing, unknown = sorted(set(fields) - set(value)), sorted(key[:40] for key in set(value) - set(fields))
        raise UsageError(f"{here}: missing fields {missing}, unknown fields {unknown}")
    return value
