"""Learning curves with their spread, and the approach to the oracle, on the page of `refpg.plots`."""

from pathlib import Path

import numpy as np

from refpg.plots.files import save
from refpg.plots.page import BLACK, BLUE, GREY, VERMILLION, Figure, house_style, name_ends, note, open_page
from verification.learning.curves import Run, latest_mean
from verification.learning.oracle import Approach
from verification.learning.report import APPROACH, TITLES, figure_name, grouped, minus
from verification.learning.results import Results

PANELS = {"PPO": ("ppo",), "TRPO": ("trpo", "natural_policy_gradient")}
INKS = {
    ("ppo", "refpg"): BLACK,
    ("ppo", "stable-baselines3"): VERMILLION,
    ("trpo", "refpg"): BLACK,
    ("trpo", "sb3-contrib"): VERMILLION,
    ("natural_policy_gradient", "refpg"): BLUE,
}


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw all figures and return their files; ImportError without matplotlib."""
    drawn = {folder / figure_name(name): _curves(results, name) for name in results.problems}
    if results.approach is not None:
        drawn[folder / APPROACH] = _approach(results.approach)
    for path, figure in drawn.items():
        save(figure, path)
    return list(drawn)


@house_style
def _curves(results: Results, environment: str) -> Figure:
    """Draw the mean over the latest 100 episodes: the median over the seeds as a line, the quartiles as a band."""
    groups, problem = grouped(results, environment), results.problems[environment]
    shown = {title: [key for key in groups if key[0] in names] for title, names in PANELS.items()}
    shown = {title: keys for title, keys in shown.items() if keys}
    seeds = max(len(runs) for runs in groups.values())
    last = max(run.steps[-1] for runs in groups.values() for run in runs)
    figure, panels = open_page(
        f"{environment}: mean return of the latest 100 episodes, median and quartiles of {seeds} seeds",
        rows=len(shown),
        height=1.2 + 2.1 * len(shown),
        right=1.15,
        share_x=True,
    )
    for axes, (title, keys) in zip(panels, shown.items(), strict=True):
        ends = []
        for key in keys:
            ink, (steps, quartiles) = INKS[key], _spread(groups[key])
            axes.fill_between(steps, quartiles[0], quartiles[2], color=ink.colour, alpha=0.15, linewidth=0)
            axes.plot(steps, quartiles[1], **ink.line)
            name = TITLES[key[0]] if key[0] == "natural_policy_gradient" else key[1]
            ends.append((name, quartiles[1][-1], ink.colour))
        axes.axhline(problem.threshold, color=GREY, linewidth=0.8)
        axes.set(xlim=(0, last), ylabel="return", title=title)
        note(axes, "threshold", (0, problem.threshold), (4, -7), GREY)
        name_ends(axes, ends)
    panels[-1].set_xlabel("actions taken")
    return figure


def _spread(runs: list[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps after which every seed has ended an episode, and the quartiles of the latest means there."""
    means = np.array([[mean for _, mean in latest_mean(run)] for run in runs])
    known = ~np.isnan(means).any(axis=0)
    return np.array(runs[0].steps)[known], np.quantile(means[:, known], (0.25, 0.5, 0.75), axis=0)


@house_style
def _approach(at: Approach) -> Figure:
    """Draw the distance over the episodes of an iteration, and a line of slope −½."""
    figure, (axes,) = open_page("Sampled training approaches the exact curve as the batch grows", left=0.85)
    M, d = np.array(at.episodes, dtype=float), np.array(at.distances)
    half = np.exp(np.mean(np.log(d * np.sqrt(M)))) / np.sqrt(M)
    axes.plot(M, half, color=GREY, linewidth=0.8)
    axes.plot(M, d, marker="o", markerfacecolor="none", **BLACK.line)
    axes.set(xscale="log", yscale="log", xlabel="episodes M of an iteration", ylabel="distance of η from the exact η")
    axes.set_ylim(d.min() / 2, 2 * d.max())
    axes.set_xticks(M, [f"{episodes:,}" for episodes in at.episodes])
    axes.set_xticks([], minor=True)
    note(axes, "slope −½", (M[-2], half[-2]), (0, 14), GREY)
    note(axes, f"fitted slope {minus(at.slope)}", (M[0], d[0]), (0, 14), BLACK.colour)
    return figure
