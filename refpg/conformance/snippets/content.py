"""What a snippet says in every language: the heading, the answer with its tolerance, and how arrays are laid out."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.tolerance import tolerances
from refpg.conformance.vectors import Case, Vectors
from refpg.notation import Array


class Output(NamedTuple):
    """One array of the answer: ``path``, certified ``value``, ``tolerance`` of its entries; none if it is ``exact``."""

    path: str
    value: Array
    tolerance: Array
    exact: bool


def heading(case: Case, vectors: Vectors) -> list[str]:
    """Return what the case is, what it is for, and what the numbers hold under."""
    dims = ", ".join(f"{letter} = {length}" for letter, length in case.dims.items())
    under = ", ".join(f"{axis} = {value}" for axis, value in conventions(case, vectors).items())
    return [
        f"{case.id}, revision {case.rev} of the vectors {vectors.release}: {case.title}",
        case.purpose,
        f"{case.reference}  {dims or 'scalars'}; float64{f', {under}' if under else ''}",
    ]


def conventions(case: Case, vectors: Vectors) -> dict[str, str]:
    """Return the value of every axis of the op under which the first certified answer holds."""
    return {axis: vectors.axes[axis].default for axis in OPS[case.op].conventions} | dict(case.expected[0].conventions)


def outputs(case: Case, vectors: Vectors) -> list[Output]:
    """Return the first certified answer, and how far float64 may be from it."""
    certified = case.expected[0].outputs
    tolerance = tolerances(certified, "float64", vectors.policy)
    return [Output(path, leaf.value, np.asarray(tolerance[path]), leaf.exact) for path, leaf in certified.items()]


def identifier(text: str) -> str:
    """Return a name that every language allows.

    Examples
    --------
    >>> identifier("gradient.layers[0].W"), identifier("ratio/log-ratios-of-60-5")
    ('gradient_layers_0_W', 'ratio_log_ratios_of_60_5')
    """
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")


def fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a mapping by name, and those of the lists in it by name and number.

    Examples
    --------
    >>> list(fields({"layers": ({"W": 1}, {"W": 2}), "activation": "tanh"}))
    [('layers_0', {'W': 1}), ('layers_1', {'W': 2}), ('activation', 'tanh')]
    """
    for name, inner in value.items():
        if isinstance(inner, tuple):
            yield from ((f"{name}_{i}", one) for i, one in enumerate(inner))
        else:
            yield name, inner


def is_group(value: Any) -> bool:
    """Return whether a value has parts with names."""
    return isinstance(value, Mapping)


def scalar(value: Any) -> str:
    """Return a number, a text or a truth value as C, JavaScript, Rust and JSON write them."""
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def rows(value: Any, brackets: str, indent: int, write: Callable[[Any], str] = scalar) -> str:
    """Return nested lists in brackets, each innermost row on a line of its own.

    Examples
    --------
    >>> print(rows([[1.0, 2.0], [3.0, 4.0]], "{}", 0))
    {
        {1.0, 2.0},
        {3.0, 4.0},
    }
    """
    if not isinstance(value, list):
        return write(value)
    if not value or not isinstance(value[0], list):
        return f"{brackets[0]}{', '.join(map(write, value))}{brackets[1]}"
    pad = " " * (indent + 4)
    inner = "".join(f"{pad}{rows(row, brackets, indent + 4, write)},\n" for row in value)
    return f"{brackets[0]}\n{inner}{' ' * indent}{brackets[1]}"
