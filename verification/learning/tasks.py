"""Which runs are made, and their making: each in a process that has one thread, so many at a time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import NamedTuple
from unittest import mock

from verification.learning import own
from verification.learning.curves import Run
from verification.learning.problems import EMBEDDED, PEERS, Problem

ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Task(NamedTuple):
    """One run that is to be made: the first fields of its `Run`."""

    environment: str
    library: str
    algorithm: str
    seed: int


def all_tasks(problems: Mapping[str, Problem], seeds: int, *, peers: bool) -> list[Task]:
    """Return the runs in the order of the page: by environment, algorithm, library and seed."""
    return [
        Task(environment, library, algorithm, seed)
        for environment, problem in problems.items()
        for algorithm in problem.algorithms
        for library in (own.LIBRARY, *([PEERS[algorithm]] if peers and algorithm in PEERS else []))
        for seed in range(seeds)
        if library == own.LIBRARY or environment != EMBEDDED
    ]


def made(tasks: Sequence[Task], problems: Mapping[str, Problem], *, jobs: int) -> Iterator[Run]:
    """Yield the runs as they end; refpg's first, and the libraries' seed by seed, in case there is no time for all."""
    order = sorted(tasks, key=lambda task: (0, 0) if task.library == own.LIBRARY else (1, task.seed))
    with (
        mock.patch.dict(os.environ, ONE_THREAD),  # which the processes inherit, and their libraries read
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool,
    ):
        for future in as_completed([pool.submit(_train, task, problems[task.environment]) for task in order]):
            yield future.result()


def _train(task: Task, problem: Problem) -> Run:
    if task.library == own.LIBRARY:
        return own.train(task.environment, task.algorithm, task.seed, problem)
    from verification.learning import peers

    return peers.train(task.environment, task.algorithm, task.seed, problem)
