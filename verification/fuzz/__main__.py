"""``python -m verification.fuzz``: mutated vector files against the loader.

::

    python -m verification.fuzz                                 120,000 files, some ten minutes
    python -m verification.fuzz --files 2000 --seed 7           fewer, others
    python -m verification.fuzz --seed 7 --first 123 --files 1  one of them again, with its files

Exit code 1 if the loader did anything but refuse a file with a `VectorError`, or accept a valid one.
"""

import argparse
import sys
import time
from collections import Counter

from verification.fuzz.campaign import ACCEPTED, REFUSED, Finding, run, tally

SHOWN = 10


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when nothing was found, else 1."""
    parser = argparse.ArgumentParser(prog="python -m verification.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=120_000, metavar="N", help="how many (120000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other files for another seed (0)")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="the number of the first (0)")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    counts, reasons, findings = tally(run(options.files, options.seed, options.first))
    print(f"{'mutation':12} {'files':>8} {REFUSED:>8} {ACCEPTED:>9}")
    for kind in sorted({kind for kind, _ in counts}):
        _row(kind, counts[kind, REFUSED], counts[kind, ACCEPTED])
    total: Counter[str] = Counter()
    for (_, outcome), count in counts.items():
        total[outcome] += count
    _row("all", total[REFUSED], total[ACCEPTED])
    for (outcome, why), count in sorted(reasons.items(), key=lambda item: (item[0][0], -item[1])):
        print(f"{count:8} {outcome}: {why}")
    print(f"{len(findings)} findings, {time.perf_counter() - start:.0f} s")
    for finding in findings[:SHOWN]:
        _show(finding, options.seed, whole=options.files == 1)
    return 1 if findings else 0


def _row(kind: str, refused: int, accepted: int) -> None:
    print(f"{kind:12} {refused + accepted:8} {refused:8} {accepted:9}")


def _show(finding: Finding, seed: int, whole: bool) -> None:
    print(f"\n{finding.done}\n  {ascii(finding.amiss)[:500]}", file=sys.stderr)
    print(f"  python -m verification.fuzz --seed {seed} --first {finding.number} --files 1", file=sys.stderr)
    for name, content in finding.files.items() if whole else ():
        print(f"  {name}: {content[:4000]!r}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
