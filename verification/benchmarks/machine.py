"""What this machine can do at best, measured in the same run, and what is installed on it."""

import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from time import perf_counter
from types import ModuleType
from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dsyrk

from verification.benchmarks.peers import TITLES
from verification.benchmarks.problems import Problem

_SIZE = 1024


class Machine(NamedTuple):
    """The machine.

    Fields: ``processor``, its ``cores``; ``threads`` given to everybody; best rates of ``dgemm`` and ``dsyrk``, flop/s;
    ``versions`` of what is installed; ``missing``, what is not and why.
    """

    processor: str
    cores: int
    threads: int
    dgemm: float
    dsyrk: float
    versions: dict[str, str]
    missing: dict[str, str]


def machine(threads: int, there: Mapping[str, ModuleType], missing: Mapping[str, str]) -> Machine:
    """Look at the machine, and measure it."""
    versions = {"Python": platform.python_version()} | {
        TITLES[name]: module.version() for name, module in there.items()
    }
    versions |= {package: _version(package) for package in ("scipy", "distributed")}
    return Machine(_processor(), os.cpu_count() or 1, threads, *_rates(), versions, dict(missing))


def product_flops(problem: Problem) -> float:
    """Return the operations of one Fisher-vector product: four products of matrices per layer, two in the first."""
    products = ((2 if first else 4) * inputs * outputs for first, (inputs, outputs) in _layers(problem))
    return 2.0 * problem.rows * sum(products)


def gradient_flops(problem: Problem) -> float:
    """Return the operations of one gradient: three products of matrices per layer, two in the first."""
    products = ((2 if first else 3) * inputs * outputs for first, (inputs, outputs) in _layers(problem))
    return 2.0 * problem.rows * sum(products)


def jacobian_square_flops(problem: Problem) -> float:
    """Return the operations of dsyrk on the Jacobian of the network's outputs: N·A·P²."""
    return float(problem.rows * problem.sizes[-1] * len(problem.theta) ** 2)


def _layers(problem: Problem) -> list[tuple[bool, tuple[int, int]]]:
    return [(position == 0, pair) for position, pair in enumerate(problem.policy.network.layer_sizes)]


def _rates() -> tuple[float, float]:
    """Return the best rates of a product of square matrices, and of a symmetric one, flop/s."""
    A = np.asfortranarray(np.random.default_rng(0).normal(size=(_SIZE, _SIZE)))
    out = np.empty_like(A)
    return (
        2 * _SIZE**3 / min(_seconds(lambda: np.matmul(A, A, out=out)) for _ in range(9)),
        _SIZE**3 / min(_seconds(lambda: dsyrk(1.0, A)) for _ in range(9)),
    )


def _seconds(call: Callable[[], object]) -> float:
    begin = perf_counter()
    call()
    return perf_counter() - begin


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version_of(package)
    except PackageNotFoundError:
        return "not installed"
