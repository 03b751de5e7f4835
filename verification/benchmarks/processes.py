"""Whole processes: how long it takes to import refpg, to judge it, and to run its tests."""

import subprocess
import sys
from time import perf_counter
from typing import NamedTuple

COMMANDS = {
    "python": ("-c", "pass"),
    "import refpg": ("-c", "import refpg"),
    "import refpg and all its chapters": (
        "-c",
        "import refpg; [getattr(refpg, chapter) for chapter in refpg.CHAPTERS]",
    ),
    "refpg check, all profiles": ("-m", "refpg", "check", "--jobs", "1"),
    "refpg check, all profiles, two jobs": ("-m", "refpg", "check", "--jobs", "2"),
}
SUITE = "the test suite"
SUITE_COMMAND = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


class Wall(NamedTuple):
    """The wall time of a ``command``: the ``seconds`` of each run; ``failed``, its last line if it did not end well."""

    command: str
    seconds: list[float]
    failed: str = ""


def walls(*, repeats: int, suite: bool) -> list[Wall]:
    """Run every command so many times, in turns, and the test suite once if asked."""
    rounds = [{name: _run(name, arguments) for name, arguments in COMMANDS.items()} for _ in range(repeats)]
    found = []
    for name in COMMANDS:
        failed = next((one[name].failed for one in rounds if one[name].failed), "")
        found.append(Wall(name, [one[name].seconds[0] for one in rounds], failed))
    return found + ([_run(SUITE, SUITE_COMMAND)] if suite else [])


def _run(name: str, arguments: tuple[str, ...]) -> Wall:
    begin = perf_counter()
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    seconds = perf_counter() - begin
    lines = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
    return Wall(name, [seconds], (lines[-1] if lines else f"exit {ended.returncode}") if ended.returncode else "")
