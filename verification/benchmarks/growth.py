"""How time grows with the rows N, the width and the parameters P: interleaved, on families of sizes."""

from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

import numpy as np

from refpg.policy import gaussian_policy
from verification.benchmarks.measurement import measure
from verification.benchmarks.peers import REFERENCE
from verification.benchmarks.problems import Size, problem

_RIVALS = (REFERENCE, "torch_double_backward", "torch_func", "jax_jit", "backpack")


class Family(NamedTuple):
    """Sizes along one variable, ``along``: its name; ``operation``; ``sizes`` by its value."""

    along: str
    operation: str
    sizes: dict[int, Size]


def _parameters(width: int) -> int:
    return gaussian_policy((17, width, width, 6)).network.num_parameters


FAMILIES = (
    Family("N", "gradient", {n: Size((17, 64, 64, 6), n) for n in (512, 2048, 8192, 32768, 131072)}),
    Family("N", "fisher_product", {n: Size((17, 64, 64, 6), n) for n in (512, 2048, 8192, 32768, 131072)}),
    Family("width", "fisher_product", {w: Size((17, w, w, 6), 2048) for w in (16, 32, 64, 128, 256, 512)}),
    Family("P", "fisher_matrix", {_parameters(w): Size((17, w, w, 6), 1024) for w in (8, 16, 32, 64)}),
)


class Curve(NamedTuple):
    """Median seconds of one implementation.

    Fields: ``along``, the variable; its ``values``; the ``seconds``, None where it was refused.
    """

    along: str
    operation: str
    implementation: str
    values: list[int]
    seconds: list[float | None]

    @property
    def exponent(self) -> float:
        """The slope of log seconds over log values, over the upper half of the values."""
        known = [(x, y) for x, y in zip(self.values, self.seconds, strict=True) if y is not None]
        upper = known[len(known) // 2 - (len(known) % 2 == 0) :]
        x, y = np.log(np.array(upper, dtype=float)).T
        return float(np.polyfit(x, y, 1)[0])


def curves(implementations: Mapping[str, ModuleType], *, repeats: int, budget: float) -> list[Curve]:
    """Measure every family."""
    found = []
    for family in FAMILIES:
        medians: dict[str, list[float | None]] = {}
        for value, size in family.sizes.items():
            inputs = problem(f"{family.along}={value}", size)
            rows = measure(inputs, family.operation, implementations, repeats=repeats, budget=budget, only=_RIVALS)
            for row in rows:
                median = float(np.median(row.seconds)) if row.seconds else None
                medians.setdefault(row.implementation, []).append(median)
        found += [
            Curve(family.along, family.operation, name, list(family.sizes), seconds)
            for name, seconds in medians.items()
        ]
    return found
