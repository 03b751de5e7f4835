"""Threads, processes and a Dask cluster: one worker beside two, in turns.

Every bit is compared with no worker at all.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from refpg import geometry, updates
from refpg.notation import Array
from verification.benchmarks import timing
from verification.benchmarks.problems import Problem, Size, problem

GRADIENT = Size((17, 64, 64, 6), 1_000_000)
MATRIX = Size((17, 22, 22, 6), 100_000)


class Scaling(NamedTuple):
    """One ``kind`` of workers on one ``operation``.

    Fields: ``rows``; median seconds of ``alone`` (no executor), ``one`` and ``two`` workers; ``speedup``, the median of
    one over two; whether the results were ``identical`` to the last bit.
    """

    kind: str
    operation: str
    rows: int
    alone: float
    one: float
    two: float
    speedup: float
    identical: bool


def _gradient(inputs: Problem, executor: Executor | None) -> Array:
    return updates.surrogate_gradient(inputs.policy, inputs.theta, inputs.batch, executor=executor)


def _fisher_product(inputs: Problem, executor: Executor | None) -> Array:
    x = inputs.batch.observations
    return geometry.fisher_vector_product(inputs.policy, inputs.theta, x, inputs.v, executor=executor)


def _fisher_matrix(inputs: Problem, executor: Executor | None) -> Array:
    return geometry.fisher_matrix(inputs.policy, inputs.theta, inputs.batch.observations, executor=executor)


OPERATIONS: dict[str, tuple[Size, Callable[[Problem, Executor | None], Array]]] = {
    "gradient": (GRADIENT, _gradient),
    "fisher_product": (GRADIENT, _fisher_product),
    "fisher_matrix": (MATRIX, _fisher_matrix),
}


def scalings(*, repeats: int, budget: float, divide_rows: int = 1) -> tuple[list[Scaling], dict[str, str]]:
    """Measure every kind of workers that is installed, and return why others are not.

    ``divide_rows`` makes every size smaller by a factor, for a quick look.
    """
    missing = {}
    found = []
    for kind, workers in KINDS.items():
        try:
            with workers(1) as one, workers(2) as two:
                for operation, (size, function) in OPERATIONS.items():
                    inputs = problem(operation, size._replace(rows=size.rows // divide_rows))
                    found.append(_scaling(kind, operation, inputs, function, one, two, repeats, budget))
        except ImportError as error:
            missing[kind] = f"not installed: {error}"
    return found, missing


def _scaling(
    kind: str,
    operation: str,
    inputs: Problem,
    function: Callable[[Problem, Executor | None], Array],
    one: Executor,
    two: Executor,
    repeats: int,
    budget: float,
) -> Scaling:
    expected = function(inputs, None)
    identical = all(np.array_equal(function(inputs, executor), expected) for executor in (one, two))
    calls = {
        "alone": lambda: function(inputs, None),
        "one": lambda: function(inputs, one),
        "two": lambda: function(inputs, two),
    }
    seconds = timing.interleaved(calls, repeats=repeats, budget=budget)
    medians = {name: float(np.median(each)) for name, each in seconds.items()}
    _, speedup, _ = timing.ratios(seconds["one"], seconds["two"])
    return Scaling(kind, operation, inputs.rows, **medians, speedup=speedup, identical=identical)


def _threads(workers: int) -> Executor:
    return ThreadPoolExecutor(workers)


def _processes(workers: int) -> Executor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def _dask(workers: int) -> Iterator[Any]:
    """Yield the executor of a local cluster of single-threaded worker processes."""
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        yield client.get_executor(pure=False)


KINDS: dict[str, Callable[[int], contextlib.AbstractContextManager[Any]]] = {
    "threads": _threads,
    "processes": _processes,
    "dask": _dask,
}


def on_every_core() -> None:
    """Let threads and processes started from now on run anywhere."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
