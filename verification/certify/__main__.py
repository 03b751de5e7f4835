"""``python -m verification.certify``: regenerate the published values, or check that they regenerate.

::

    python -m verification.certify               write every file of refpg/conformance/data that is computed
    python -m verification.certify --check       regenerate in memory and compare byte for byte
    python -m verification.certify --only gae    some ops only (a shell pattern); the index keeps the others
    python -m verification.certify --seal        no op: only what is quick, the texts, the policy and the index, which
                                                 vouches for conventions.json and errata.json as they are
"""

import argparse
import sys
import time

from verification.certify import corpus


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when everything regenerated and nothing is amiss, else 1."""
    parser = argparse.ArgumentParser(prog="python -m verification.certify", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files on disk instead of writing")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="the ops whose name matches")
    parser.add_argument("--seal", action="store_true", help="certify no op; write the texts, the policy and the index")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    print(f"{'op':40} cases precision agreement routes wrong nearest ordinary   time")
    generated = corpus.generate("" if options.seal else options.only, _print_row)
    cases = sum(row.cases for row in generated.rows)
    print(f"{len(generated.rows)} ops, {cases} cases, {time.perf_counter() - start:.1f} s")
    problems = list(generated.problems)
    if options.check:
        problems += [f"{name} differs from what is regenerated" for name in corpus.differences(generated.files)]
    else:
        corpus.write(generated.files)
    for problem in problems:
        print(f"amiss: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _print_row(row: corpus.Row) -> None:
    agreement = "-" if row.agreement is None else f"{row.agreement} bits"
    print(
        f"{row.op:40} {row.cases:5} {row.bits:9} {agreement:>9} {row.routes:6} {row.wrong:5} {row.separation:7.2g} "
        f"{row.ordinary:8.2g} {row.seconds:5.1f}s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
