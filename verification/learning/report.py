"""The page: what a record of results says, for people.  Nothing is on it that is not in ``results.json``."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from refpg.files import write_whole
from verification.learning import oracle
from verification.learning.curves import EPISODES, Run, steps_to
from verification.learning.problems import HIDDEN, Problem
from verification.learning.results import Results
from verification.learning.tasks import all_tasks

PAGE = "README.md"
TITLES = {"ppo": "PPO", "trpo": "TRPO", "natural_policy_gradient": "NPG"}
APPROACH = "approach.svg"


def save(results: Results, folder: Path) -> None:
    """Write ``README.md`` into the folder."""
    write_whole(folder / PAGE, ("\n".join(markdown(results)) + "\n").encode())


def figure_name(environment: str) -> str:
    """Return the name of the file with the learning curves of an environment."""
    return f"{environment}.svg"


def markdown(results: Results) -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# Learning"
    yield ""
    yield (
        f"`{results.command}`, {results.date}. "
        + ", ".join(f"{name} {version}" for name, version in results.versions.items())
        + ". One thread a run."
    )
    if results.missing:
        yield ""
        yield f"Not installed: {', '.join(results.missing)}."
    absent = list(_absent(results))
    if absent:
        yield ""
        yield f"**Not run:** {'; '.join(absent)}. The command makes these runs and keeps the others."
    yield ""
    yield (
        f"Everybody has the same settings, network and budget. A threshold is *reached* when the mean return of the "
        f"latest {EPISODES} episodes is not below it, as they were drawn in training. *Afterwards* is the mean return "
        f"of {EPISODES} new episodes at the end of the budget, with the most probable actions: the median over the "
        f"seeds, and the worst."
    )
    for environment, problem in results.problems.items():
        yield from ("", f"## {environment}", "")
        yield from _environment(results, environment, problem)
    if results.approach is not None:
        yield from ("", "## The oracle's curve", "")
        yield from _approach(results.approach)
    yield from ("", "## Settings", "")
    yield from _settings(results)


def _environment(results: Results, environment: str, problem: Problem) -> Iterator[str]:
    groups = grouped(results, environment)
    budgets = {TITLES[name]: f"{settings.budget:,}" for name, settings in problem.algorithms.items()}
    yield (
        f"Threshold {problem.threshold:g}. Steps are actions of {problem.environments} environments together; the "
        f"budget is {', '.join(f'{budget} of {title}' for title, budget in budgets.items())}."
    )
    yield ""
    yield "| algorithm | by | reached | steps to it, median | most | afterwards, median | worst | seeds not below | s |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for (algorithm, library), runs in groups.items():
        yield _row(TITLES[algorithm], library, runs, problem.threshold)
    yield ""
    for (algorithm, library), runs in groups.items():
        if library == "refpg":
            yield f"* {_claim(TITLES[algorithm], runs, problem.threshold)}"
    yield ""
    yield f"![{environment}]({figure_name(environment)})"


def _absent(results: Results) -> Iterator[str]:
    """Yield what is missing for everybody to have as many seeds as whoever has the most."""
    there = {run[:4] for run in results.runs}
    seeds = 1 + max((run.seed for run in results.runs), default=-1)
    missing = [task for task in all_tasks(results.problems, seeds, peers=True) if task not in there]
    for environment, library, algorithm in dict.fromkeys(task[:3] for task in missing):
        numbers = [str(task.seed) for task in missing if task[:3] == (environment, library, algorithm)]
        yield f"{TITLES[algorithm]} of {library} on {environment}, seed {', '.join(numbers)}"


def grouped(results: Results, environment: str) -> dict[tuple[str, str], list[Run]]:
    """Return the runs of an environment by algorithm and library."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in results.runs:
        if run.environment == environment:
            groups.setdefault((run.algorithm, run.library), []).append(run)
    return groups


def _row(title: str, library: str, runs: list[Run], threshold: float) -> str:
    reached = [steps for run in runs if (steps := steps_to(run, threshold)) is not None]
    everybody = len(reached) == len(runs)
    # The median of all seeds, as long as more than half of them have one.
    steps = sorted(reached)[(len(runs) - 1) // 2] if len(reached) > (len(runs) - 1) // 2 else None
    means = [float(np.mean(run.evaluation)) for run in runs]
    cells = (
        title,
        library,
        f"{len(reached)} of {len(runs)}",
        "–" if steps is None else f"{steps:,}",
        f"{max(reached):,}" if everybody else "–",
        f"{np.median(means):.1f}",
        f"{min(means):.1f}",
        f"{sum(mean >= threshold for mean in means)} of {len(runs)}",
        f"{np.median([run.seconds for run in runs]):.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _claim(title: str, runs: list[Run], threshold: float) -> str:
    reached = {run.seed: steps_to(run, threshold) for run in runs}
    never = [str(seed) for seed, steps in reached.items() if steps is None]
    below = [str(run.seed) for run in runs if np.mean(run.evaluation) < threshold]
    if never:
        said = f"{title} **does not reach** the threshold with seed {', '.join(never)}"
    else:
        said = f"{title} reaches the threshold on all {len(runs)} seeds, within {max(reached.values()):,} steps"
    return f"{said}; afterwards below it with seed {', '.join(below)}." if below else f"{said}."


def _approach(at: oracle.Approach) -> Iterator[str]:
    yield (
        f"A chain of {oracle.STATES} states, γ = {oracle.DISCOUNT}: the natural gradient from M episodes an iteration "
        f"beside the exact one. The distance of their curves is the root of the mean square of η(π̂) − η(π) over "
        f"{len(at.exact)} iterations and {at.seeds} seeds. Its slope in log–log is **{minus(at.slope)}** ± "
        f"{at.standard_error:.2f} (standard error over seeds); −½ is expected of a mean of M."
    )
    yield ""
    yield "| M | distance |"
    yield "|--:|--:|"
    yield from (f"| {M:,} | {d:.3g} |" for M, d in zip(at.episodes, at.distances, strict=True))
    yield ""
    yield f"![distance over M]({APPROACH})"


def minus(number: float) -> str:
    """Return a number with two decimals, and a minus sign that is one."""
    return f"{number:.2f}".replace("-", "−")


def _settings(results: Results) -> Iterator[str]:
    for environment, problem in results.problems.items():
        for settings in dict.fromkeys(problem.algorithms.values()):
            shared = [TITLES[name] for name, other in problem.algorithms.items() if other == settings]
            values = ", ".join(f"{name} {value:,g}" for name, value in settings._asdict().items())
            yield f"* {environment}, {' and '.join(shared)}: {values}"
    yield ""
    yield (
        f"Two hidden layers of {HIDDEN[0]} tanh units, policy and values apart. PPO's learning rate falls in "
        f"proportion to what is left of the budget; advantages are normalised, observations and rewards are not."
    )
