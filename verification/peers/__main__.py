"""``python -m verification.peers``: judge every library an adapter is bundled for, and write the pages again.

For each library that is installed its page ``NAME-VERSION.md`` is written, in the form ``refpg check NAME --md``
gives it, pages of its other versions are removed, and the counts in ``README.md`` are those of the run.  What the
README says besides counts is written by hand, and stays.  Names on the command line restrict it to those libraries.
"""

import argparse
import re
import sys
from pathlib import Path

from refpg.conformance.adapters import UsageError, bundled
from refpg.conformance.report.markdown import markdown
from refpg.conformance.report.record import origin
from refpg.conformance.run import Run, check
from refpg.files import write_whole

HERE = Path(__file__).parent
README = HERE / "README.md"

_ROW = re.compile(r"\| \[(?P<name>[\w-]+) [^]]*\]\([^)]*\) \| \d* \| \d* \| (?P<text>.*) \|")


def main() -> int:
    """Judge the libraries asked for; return 2 if one of them is not installed."""
    parser = argparse.ArgumentParser(prog="python -m verification.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all unless given: {', '.join(bundled())}")
    parser.add_argument("--jobs", type=int, default=1, help="judge by so many processes")
    arguments = parser.parse_args()
    missing = False
    for name in arguments.names or bundled():
        try:
            run = check(name, jobs=arguments.jobs)
        except UsageError as error:
            print(error, file=sys.stderr)
            missing = True
        else:
            print(write(run))
    return 2 if missing else 0


def write(run: Run) -> str:
    """Write the page and the README's row of a run; return one line about it."""
    name, version = run.adapter.name, run.adapter.version.partition("+")[0]
    page = HERE / f"{name}-{version}.md"
    for old in HERE.glob(f"{name}-[0-9]*.md"):
        if old != page:
            old.unlink()
    write_whole(page, markdown(run, origin()).encode())
    readme = with_counts(README.read_text(encoding="utf-8"), run, f"{name} {version}", page.name)
    write_whole(README, readme.encode())
    counts = run.counts()
    return f"{page.name}: {counts['executed']} executed, {counts['conforms']} conform"


def with_counts(readme: str, run: Run, title: str, page: str) -> str:
    """Return the README with the counts of a run in the row of its library, which is there or added last."""
    counts = run.counts()
    lines = readme.splitlines()
    rows = {found["name"]: i for i, line in enumerate(lines) if (found := _ROW.fullmatch(line))}
    row = rows.get(run.adapter.name)
    text = _ROW.fullmatch(lines[row])["text"] if row is not None else ""  # type: ignore[index]
    line = f"| [{title}]({page}) | {counts['executed']} | {counts['conforms']} | {text} |"
    if row is None:
        lines.insert(max(rows.values()) + 1, line)
    else:
        lines[row] = line
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
