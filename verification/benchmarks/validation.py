"""What the checks of arguments cost: tiny calls with them, and with every check replaced by handing the argument on.

The arguments are arrays of the right kind, so that the checks change nothing: the answers are compared bit by bit.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from verification.benchmarks import timing
from verification.benchmarks.peers import reference
from verification.benchmarks.problems import problem

CALLS = ("forward", "gradient", "mean_kl", "clipped_loss")


class Share(NamedTuple):
    """The median ``share`` of an ``operation``'s time that is checks of its arguments; ``seconds`` of the whole."""

    operation: str
    share: float
    seconds: float


def shares(*, repeats: int, budget: float) -> list[Share]:
    """Measure the tiny calls, with and without checks in turns."""
    inputs = problem("tiny")
    found = []
    for operation in CALLS:
        call = reference.calls[operation](inputs)
        with unchecked():
            bare = call.read(call.run())
        np.testing.assert_array_equal(bare, call.read(call.run()))
        seconds = timing.interleaved(
            {"checked": call.run, "unchecked": timing.Within(call.run, unchecked)}, repeats=repeats, budget=budget
        )
        parts = 1 - np.divide(seconds["unchecked"], seconds["checked"])
        found.append(Share(operation, float(np.median(parts)), float(np.median(seconds["checked"]))))
    return found


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Replace every check of `refpg.notation`, wherever refpg has imported it."""
    with contextlib.ExitStack() as stack:
        for module in [module for name, module in sys.modules.items() if name.startswith("refpg.")]:
            for name, stand_in in _STAND_INS.items():
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, stand_in))
        yield


def _given(function: str, sizes: Any, /, **arguments: tuple[Any, str]) -> tuple[Any, ...]:
    return tuple(value for value, _ in arguments.values())


def _equal_weights(function: str, weights: Any, values: Any) -> Any:
    return np.full(len(values), 1 / len(values)) if weights is None else weights


def _value(function: str, name: str, value: Any, *allowed: Any, **ends: Any) -> Any:
    return value


_STAND_INS = {
    "bind_shapes": _given,
    "row_weights": _equal_weights,
    "scalar": _value,
    "count": _value,
    "choice": _value,
    "check_network": lambda function, net: None,
}
