"""A finished run, for a terminal, for a machine, for a page.

    record      what every form says: when and where, the words, what answers have in common
    terminal    for a person at a terminal
    jsonl       the record as JSON lines, written and read: the one form that holds every answer
    junit       for continuous integration
    markdown    for a repository
    html        for a browser, with ``page.css`` and ``page.js`` in it
    badge       for the top of a README
    files       where they are written
"""

from refpg.conformance.report.badge import badge
from refpg.conformance.report.files import FORMS, destinations, write_all
from refpg.conformance.report.html import html
from refpg.conformance.report.jsonl import Recorded, json_lines, read_json_lines
from refpg.conformance.report.junit import junit
from refpg.conformance.report.markdown import markdown
from refpg.conformance.report.record import Origin, ReportError, findings, origin
from refpg.conformance.report.terminal import summary, terminal

__all__ = [
    "FORMS",
    "Origin",
    "Recorded",
    "ReportError",
    "badge",
    "destinations",
    "findings",
    "html",
    "json_lines",
    "junit",
    "markdown",
    "origin",
    "read_json_lines",
    "summary",
    "terminal",
    "write_all",
]
