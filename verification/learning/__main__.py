"""``python -m verification.learning``: train refpg and the libraries that are installed, and write the evidence.

Takes about half an hour of one core.  ``results.json``, ``README.md`` and the figures are written to ``--out``; a run
that is there already, with the same settings and the same versions, is not made again.  ``--environments``,
``--algorithms`` and ``--seeds`` make it shorter; "chain" is an embedded environment that needs no Gymnasium.
"""

import argparse
import importlib.util
import platform
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import refpg
from verification.learning import own, report, results
from verification.learning.curves import Run, steps_to
from verification.learning.oracle import approach
from verification.learning.problems import EMBEDDED, GYMNASIUM, PROBLEMS, Problem
from verification.learning.results import Results
from verification.learning.tasks import Task, all_tasks, made

HERE = Path(__file__).parent
LIBRARIES = ("gymnasium", "torch", "stable_baselines3", "sb3_contrib")


def main(given: list[str] | None = None) -> int:
    """Train what is asked for, and write the report."""
    parser = _parser()
    options = parser.parse_args(given)
    _refuse_unknown("--environments", options.environments, tuple(PROBLEMS))
    _refuse_unknown("--algorithms", options.algorithms, own.ALGORITHMS)
    if options.redraw and not (options.out / results.FILE).is_file():
        sys.exit(f"--redraw: there is no {results.FILE} in {options.out}")
    found = results.load(options.out) if options.redraw else _trained(options, _command(parser, options))
    report.save(found, options.out)
    try:
        from verification.learning import figures

        figures.draw(found, options.out)
    except ImportError as error:
        print(f"figures: {error}", file=sys.stderr)
    print("\n".join(report.markdown(found)))
    return 0


def _trained(options: argparse.Namespace, command: str) -> Results:
    """Make the runs that are not there yet, and save the results whenever one has ended."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if "gymnasium" in missing and set(options.environments) != {EMBEDDED}:
        sys.exit(f"gymnasium is not installed: pip install 'refpg[gym]', or --environments {EMBEDDED}")
    options.out.mkdir(parents=True, exist_ok=True)
    problems = {name: _shortened(name, options) for name in options.environments}
    found = Results(date.today().isoformat(), command, _versions(missing), missing, problems, [], None)
    peers = not missing and not options.without_peers
    tasks = all_tasks(problems, options.seeds, peers=peers)
    found = _with_kept(found, tasks, options)
    there = [run[:4] for run in found.runs]
    for run in made([task for task in tasks if task not in there], problems, jobs=options.jobs):
        found = found._replace(runs=sorted([*found.runs, run], key=lambda run: tasks.index(run[:4])))
        results.save(found, options.out)
        print(_line(run, problems[run.environment]), file=sys.stderr, flush=True)
    if options.oracle_seeds and found.approach is None:
        found = found._replace(approach=approach(seeds=options.oracle_seeds))
    results.save(found, options.out)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m verification.learning", description=__doc__)
    parser.add_argument(
        "--environments",
        nargs="+",
        default=list(GYMNASIUM),
        metavar="NAME",
        help=f"of {', '.join(PROBLEMS)}",
    )
    parser.add_argument(
        "--algorithms",
        nargs="+",
        default=list(own.ALGORITHMS),
        metavar="NAME",
        help=f"of {', '.join(own.ALGORITHMS)}",
    )
    parser.add_argument("--seeds", type=int, default=5, help="of each algorithm, from 0")
    parser.add_argument("--budget", type=int, metavar="STEPS", help="actions of each run, instead of the table's")
    parser.add_argument("--oracle-seeds", type=int, default=10, help="of the sampled curves on the MDP; 0 for none")
    parser.add_argument("--without-peers", action="store_true", help="refpg alone")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--redraw", action="store_true", help="only the page and the figures, from results.json")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the report")
    return parser


def _refuse_unknown(option: str, given: list[str], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            sys.exit(f"{option}: {name!r} is unknown, expected some of {', '.join(known)}")


def _shortened(name: str, options: argparse.Namespace) -> Problem:
    """Return a problem with the algorithms and the budget that are asked for."""
    problem = PROBLEMS[name]
    algorithms = {
        algorithm: settings._replace(budget=options.budget or settings.budget)
        for algorithm, settings in problem.algorithms.items()
        if algorithm in options.algorithms
    }
    return problem._replace(algorithms=algorithms)


def _versions(missing: list[str]) -> dict[str, str]:
    """Return the version of everything that takes part."""
    packages = ["numpy", "scipy", *(name.replace("_", "-") for name in LIBRARIES if name not in missing)]
    versions = {name: version(name) for name in packages}
    return {"Python": platform.python_version(), "refpg": refpg.__version__} | versions


def _with_kept(found: Results, tasks: list[Task], options: argparse.Namespace) -> Results:
    """Return the results with what is there already, if it was made with these settings and versions."""
    if not (options.out / results.FILE).is_file():
        return found
    before = results.load(options.out)
    if before.versions != found.versions:
        return found

    def same(run: Run) -> bool:
        old, new = before.problems[run.environment], found.problems[run.environment]
        return old[:2] == new[:2] and old.algorithms[run.algorithm] == new.algorithms[run.algorithm]

    runs = [run for run in before.runs if run[:4] in tasks and same(run)]
    seeds = before.approach.seeds if before.approach else 0
    kept = before.approach if seeds == options.oracle_seeds else None
    return found._replace(runs=sorted(runs, key=lambda run: tasks.index(run[:4])), approach=kept)


def _command(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """Return the command with the options that change what is found."""
    words = ["python -m verification.learning"]
    for name, value in vars(options).items():
        if value != parser.get_default(name) and name not in ("out", "jobs", "redraw"):
            words.append(f"--{name.replace('_', '-')}")
            words += map(str, value) if isinstance(value, list) else [] if value is True else [str(value)]
    return " ".join(words)


def _line(run: Run, problem: Problem) -> str:
    """Return what is said of a run when it ends."""
    reached = steps_to(run, problem.threshold)
    return (
        f"{run.environment} {run.library} {run.algorithm} seed {run.seed}: "
        f"threshold {'not reached' if reached is None else f'reached after {reached:,} steps'}, "
        f"evaluation {sum(run.evaluation) / len(run.evaluation):.1f}, {run.seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
