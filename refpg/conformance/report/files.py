"""Reports as files: every path is looked at before anything is judged, and each file appears whole or not at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from refpg.conformance.adapters import UsageError
from refpg.conformance.report.badge import badge
from refpg.conformance.report.html import html
from refpg.conformance.report.jsonl import json_lines
from refpg.conformance.report.junit import junit
from refpg.conformance.report.markdown import markdown
from refpg.conformance.report.record import Origin, ReportError
from refpg.conformance.run import Run
from refpg.files import write_whole

# The option that asks for a form, and what it is.
FORMS: Mapping[str, str] = {
    "out": "as JSON lines with every answer, which refpg replay judges again",
    "junit": "as JUnit's XML, for continuous integration",
    "html": "as a page for a browser, a single file",
    "md": "as Markdown",
    "badge": "as an SVG: how many cases of the whole profile conform",
}

_RENDER: Mapping[str, Callable[[Run, Origin], str]] = {
    "out": lambda run, origin: "".join(f"{line}\n" for line in json_lines(run, origin)),
    "junit": junit,
    "html": html,
    "md": markdown,
    "badge": lambda run, origin: badge(run),
}


def destinations(asked: Mapping[str, Any], only: str) -> dict[str, Path]:
    """Return the files to be written, by form, if each of them can be.

    Parameters
    ----------
    asked : mapping
        Form → path or None; other names are not looked at.
    only : str
        To which ops or cases the run is narrowed; nothing if it is not.

    Returns
    -------
    dict of str to Path

    Raises
    ------
    UsageError
        If a file cannot be written, two forms have the same file, or a narrowed run is to have a badge.
    """
    paths = {form: Path(asked[form]) for form in FORMS if asked.get(form) is not None}
    for form, path in paths.items():
        if path.is_dir() or not path.parent.is_dir():
            raise UsageError(f"{path} cannot be written: there is no folder {path.parent}, or it is a folder itself")
        if not os.access(path.parent, os.W_OK):
            raise UsageError(f"{path} cannot be written: nothing may be written to {path.parent}")
        same = [other for other, its in paths.items() if its.resolve() == path.resolve() and other != form]
        if same:
            raise UsageError(f"--{form} and --{same[0]} name the same file, {path}")
    if "badge" in paths and only:
        raise UsageError(f"--badge with only {only}: the denominator of a badge is the whole profile")
    return paths


def write_all(paths: Mapping[str, Path], run: Run, origin: Origin) -> None:
    """Write a run in each form asked for.

    Parameters
    ----------
    paths : mapping of str to Path
        From `destinations`.
    run : Run
        A finished check.
    origin : Origin
        When and where it was made.

    Raises
    ------
    ReportError
        If a file cannot be written after all.
    """
    for form, path in paths.items():
        try:
            write_whole(path, _RENDER[form](run, origin).encode())
        except OSError as error:
            raise ReportError(f"{path} cannot be written: {error.strerror or error}") from None
