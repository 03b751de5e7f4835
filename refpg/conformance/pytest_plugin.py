"""What pytest prints about the certified vectors: after the collection, what will be judged; at the end, all counts.

It is registered by the installation of refpg, imports nothing of it until a test uses `refpg.conformance.testing`, and
prints nothing before.  The counts are taken from the reports of the tests, so they are whole with several processes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

_PROPERTY = "refpg"  # `refpg.conformance.testing.PROPERTY`, not imported before it is used
_WORDS = {"passed": "conform", "failed": "red", "skipped": "not executed", "waived": "waived"}


def pytest_report_collectionfinish(items: Sequence[pytest.Item]) -> list[str]:
    """Say, for each function that was decorated, what is judged by which release.

    Parameters
    ----------
    items : sequence of pytest.Item
        What was collected and selected.

    Returns
    -------
    list of str
    """
    suites = {suite for item in items if (suite := getattr(getattr(item, "function", None), "refpg_suite", None))}
    return sorted(f"refpg: {suite.title()}" for suite in suites)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Count every vector: executed, red, waived, not executed.

    Parameters
    ----------
    terminalreporter : pytest.TerminalReporter
        Knows all reports.
    """
    ends: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call" and not report.nodeid.endswith("[something-was-executed]"):
                ends.update(value for name, value in report.user_properties if name == _PROPERTY)
    if ends:
        executed = ends.total() - ends["skipped"]
        counts = " · ".join(f"{ends[end]} {words}" for end, words in _WORDS.items() if ends[end])
        terminalreporter.write_line(f"refpg: {ends.total()} vectors · {executed} executed · {counts}")
