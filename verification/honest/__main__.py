"""``python -m verification.honest``: judge every honest variant, in every dtype, and print how near it comes.

Automatic differentiation is judged where PyTorch or JAX is installed.  Exit code 1 if an honest variant is called
wrong or imprecise.
"""

import argparse
import sys
from fnmatch import fnmatch

from verification.honest.automatic import autodiff_variants
from verification.honest.variants import judge, numpy_variants


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if every variant conforms everywhere."""
    parser = argparse.ArgumentParser(prog="python -m verification.honest", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="the variants whose name matches")
    options = parser.parse_args(arguments)
    amiss = 0
    print(f"{'variant':22} {'dtype':8} executed ops  amiss  worst  where")
    for variant in numpy_variants() + autodiff_variants():
        if not fnmatch(variant.name, options.only):
            continue
        for dtype in variant.dtypes:
            line = judge(variant, dtype)
            amiss += len(line.amiss)
            print(
                f"{line.variant:22} {dtype:8} {line.executed:8} {line.ops:3} {len(line.amiss):6}  {line.worst:5.2f}  "
                f"{line.where}",
                flush=True,
            )
            for outcome in line.amiss:
                print(f"  {outcome.verdict.value} {outcome.case} {outcome.worst:.2g} {outcome.message[-200:]}")
    return 1 if amiss else 0


if __name__ == "__main__":
    sys.exit(main())
