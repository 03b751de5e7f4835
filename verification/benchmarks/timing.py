"""Rounds in which everybody takes turns, so that what disturbs one disturbs all, and ratios are of the same moment."""

import gc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

LEAST_SECONDS = 0.005  # of one measurement: shorter calls are repeated


class Within(NamedTuple):
    """A call that is timed inside a context, whose entry and exit are not."""

    call: Callable[[], Any]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def interleaved(
    calls: Mapping[str, Callable[[], Any] | Within], *, repeats: int, budget: float
) -> dict[str, list[float]]:
    """Return the seconds of each call in each round; at least two rounds, no more once the budget of seconds is spent.

    Round i begins with the i-th call, so that nobody always follows the same other.
    """
    timed = {name: call if isinstance(call, Within) else Within(call) for name, call in calls.items()}
    loops = {name: _loops(call) for name, call in timed.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    begin = perf_counter()
    for round_ in range(repeats):
        if round_ >= 2 and perf_counter() - begin > budget:
            break
        gc.collect()
        for place in range(len(names)):
            name = names[(round_ + place) % len(names)]
            seconds[name].append(_seconds(timed[name], loops[name]))
    return seconds


def ratios(others: list[float], own: list[float]) -> tuple[float, float, float]:
    """Return the quartiles of how many times as long the others took, round by round: lower, median, upper.

    Examples
    --------
    >>> ratios([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    (2.0, 2.0, 2.5)
    """
    lower, median, upper = np.quantile(np.divide(others, own), [0.25, 0.5, 0.75])
    return float(lower), float(median), float(upper)


def _seconds(timed: Within, loops: int) -> float:
    call = timed.call
    with timed.context():
        begin = perf_counter()
        for _ in range(loops):
            call()
        return (perf_counter() - begin) / loops


def _loops(timed: Within) -> int:
    """Return how often a call is made in one measurement; it has been made before, and is warm after."""
    return max(1, int(LEAST_SECONDS / max(min(_seconds(timed, 1) for _ in range(2)), 1e-7)))
