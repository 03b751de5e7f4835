"""``python -m verification.benchmarks``: measure refpg and every peer that is installed, and print the goals.

Runs for about an hour on an idle machine.  ``results.json``, ``README.md`` and the figures are written to ``--out``.
With ``--sizes`` or ``--operations`` only these are measured, and other goals are "not measured".
"""

import argparse
import os
import sys
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIELDS = {
    "ratios": ("machine", "rows"),  # the rates of the machine belong to the ratios
    "memory": ("peaks",),
    "growth": ("curves",),
    "streaming": ("streams",),
    "validation": ("shares",),
    "workers": ("scalings",),
    "processes": ("walls",),
}
PARTS = tuple(FIELDS)


def main(given: list[str] | None = None) -> int:
    """Measure what is asked for, and write the report."""
    options = _parser().parse_args(given)
    _limit_threads(options.threads)  # before NumPy is loaded

    from verification.benchmarks import (
        growth,
        machine,
        memory,
        processes,
        readme,
        report,
        streaming,
        validation,
        workers,
    )
    from verification.benchmarks.measurement import measure
    from verification.benchmarks.operations import OPERATIONS
    from verification.benchmarks.peers import installed
    from verification.benchmarks.problems import SIZES, problem
    from verification.benchmarks.results import Results

    if options.readme:
        readme.write(report.load(options.out))
        return 0
    _refuse_unknown("--sizes", options.sizes, tuple(SIZES))
    _refuse_unknown("--operations", options.operations, tuple(OPERATIONS))
    _refuse_unknown("--parts", options.parts, PARTS)
    there, missing = installed()
    _limit_torch(options.threads)
    turns = {"repeats": options.repeats, "budget": options.budget}
    results = Results(date.today().isoformat(), machine.machine(options.threads, there, missing), [])
    if options.keep:
        results = _kept(report.load(options.out), results, options.parts)
    chosen = [
        (size, operation)
        for size in options.sizes or [name for name in SIZES if name != "fisher-20k" or options.all_sizes]
        for operation, described in OPERATIONS.items()
        if size in described.sizes and operation in (options.operations or OPERATIONS)
    ]

    if "ratios" in options.parts:
        for size in dict.fromkeys(size for size, _ in chosen):
            inputs = problem(size)
            only = _affordable(size)
            for operation in [operation for of, operation in chosen if of == size]:
                results.rows.extend(measure(inputs, operation, there, **turns, only=only))
    if "memory" in options.parts:
        large = ("fisher_matrix", "natural_gradient", "trpo_update")
        results = results._replace(
            peaks=[
                memory.peak(name, operation, size)
                for size, operation in chosen
                if operation in large and size != "tiny"
                for name, module in there.items()
                if operation in module.calls and name in (_affordable(size) or there)
            ]
        )
    if "growth" in options.parts:
        results = results._replace(curves=growth.curves(there, **turns))
    if "streaming" in options.parts:
        results = results._replace(streams=[streaming.stream(rows) for rows in options.stream])
    if "validation" in options.parts:
        results = results._replace(shares=validation.shares(**turns))
    workers.on_every_core()
    if "workers" in options.parts:
        scalings, absent = workers.scalings(**turns, divide_rows=options.divide_rows)
        results = results._replace(scalings=scalings)
        results.machine.missing.update(absent)
    if "processes" in options.parts:
        results = results._replace(walls=processes.walls(repeats=min(options.repeats, 5), suite=options.suite))

    report.save(results, options.out)
    if results.curves:
        try:
            from verification.benchmarks.figures import draw

            draw(results.curves, options.out)
        except ImportError as error:
            print(f"figures: {error}", file=sys.stderr)
    print("\n".join(report.markdown(results)))
    return 0


def _kept(before: Any, now: Any, parts: list[str]) -> Any:
    """Return an earlier run without the parts that are measured again; the machine and all versions must be its own."""
    for name in ("processor", "cores", "threads", "versions"):
        if getattr(before.machine, name) != getattr(now.machine, name):
            sys.exit(f"--keep: {name} was {getattr(before.machine, name)}, and is {getattr(now.machine, name)}")
    anew = {field: getattr(now, field) for part in parts for field in FIELDS[part]}
    return before._replace(date=now.date, **anew)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m verification.benchmarks", description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=[], metavar="SIZE", help="only these sizes")
    parser.add_argument("--operations", "--ops", nargs="+", default=[], metavar="OP", help="only these operations")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--all-sizes", action="store_true", help="the dense Fisher matrix of P = 20k too")
    parser.add_argument("--suite", action="store_true", help="time the test suite too")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of each operation")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds after which an operation's rounds end")
    parser.add_argument("--threads", type=int, default=1, help="for everybody; refpg's are its executor's")
    parser.add_argument(
        "--stream", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], metavar="ROWS", help="rows streamed"
    )
    parser.add_argument("--divide-rows", type=int, default=1, metavar="K", help="a K-th of the workers' rows")
    parser.add_argument("--keep", action="store_true", help="what --parts leaves out stays as it is in --out")
    parser.add_argument("--readme", action="store_true", help="measure nothing: write the README's table from --out")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the report")
    return parser


def _affordable(size: str) -> tuple[str, ...] | None:
    """Return who alone is asked, None for all: at P = 20k the Jacobian of the others fits in no memory of ours."""
    return ("reference",) if size == "fisher-20k" else None


def _refuse_unknown(option: str, given: list[str], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            sys.exit(f"{option}: {name!r} is unknown, expected some of {', '.join(known)}")


def _limit_threads(threads: int) -> None:
    """Give every library so many threads, and the process so many cores; refpg's are its executor's, not its BLAS's."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _limit_torch(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main())
