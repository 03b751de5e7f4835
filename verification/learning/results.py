"""What a command found, as one record and as JSON.  A file is written whole or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refpg.files import write_whole
from verification.learning.curves import Run, steps_to
from verification.learning.oracle import Approach
from verification.learning.problems import PPO, TRPO, Problem

FILE = "results.json"


class Results(NamedTuple):
    """Fields: ``date``; ``command``; ``versions`` of what is installed; ``missing``, what is not; ``problems`` by name;
    ``runs``; ``approach`` to the oracle, None if it was not asked for.
    """

    date: str
    command: str
    versions: dict[str, str]
    missing: Sequence[str]
    problems: dict[str, Problem]
    runs: Sequence[Run]
    approach: Approach | None


def save(results: Results, folder: Path) -> None:
    """Write ``results.json``, a run to a line."""
    head = results._asdict() | {
        "problems": {name: _problem(problem) for name, problem in results.problems.items()},
        "approach": None if results.approach is None else results.approach._asdict(),
    }
    runs = [_run(run, results.problems[run.environment]) for run in head.pop("runs")]
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    lines = ",\n  ".join(json.dumps(run, ensure_ascii=False) for run in runs)
    write_whole(folder / FILE, f'{text},\n "runs": [\n  {lines}\n ]\n}}\n'.encode())


def load(folder: Path) -> Results:
    """Read what `save` has written."""
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    approach = content["approach"]
    return Results(
        content["date"],
        content["command"],
        content["versions"],
        content["missing"],
        {name: _read_problem(given) for name, given in content["problems"].items()},
        [Run(**{name: run[name] for name in Run._fields}) for run in content["runs"]],
        None if approach is None else Approach(**approach),
    )


def _problem(problem: Problem) -> dict[str, Any]:
    algorithms = {name: settings._asdict() for name, settings in problem.algorithms.items()}
    return problem._asdict() | {"algorithms": algorithms}


def _read_problem(given: dict[str, Any]) -> Problem:
    algorithms = {name: (PPO if name == "ppo" else TRPO)(**settings) for name, settings in given["algorithms"].items()}
    return Problem(**given | {"algorithms": algorithms})


def _run(run: Run, problem: Problem) -> dict[str, Any]:
    """Return a run with what follows from it, for those who read the file without this package."""
    returns = [None if mean is None else round(mean, 4) for mean in run.returns]
    rounded = run._replace(returns=returns, evaluation=[round(one, 4) for one in run.evaluation])
    rounded = rounded._replace(seconds=round(run.seconds, 2))
    return rounded._asdict() | {
        "steps_to_threshold": steps_to(rounded, problem.threshold),
        "evaluation_mean": round(sum(rounded.evaluation) / len(rounded.evaluation), 4),
    }
