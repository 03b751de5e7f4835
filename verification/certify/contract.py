"""Inputs and outputs read by the contract: dimensions bound to shape letters, lists turned into arrays."""

import re
from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np

from refpg.conformance.ops import Op

_TYPE = re.compile(r"(float|int|bool|str|actions|policy|network|parameters)((?:\[[^\]]*\])*)")


def parse(kind: str) -> tuple[str, list[str]]:
    """Split ``float[B, A]`` into the element kind and the shape letters."""
    match = _TYPE.fullmatch(kind)
    if match is None:
        raise ValueError(f"the contract has no type {kind!r}")
    letters = re.findall(r"\w+|\*", match[2])
    return match[1], letters


def dimensions(op: Op, inputs: dict[str, Any]) -> dict[str, int]:
    """Check inputs against the op's types, and return the lengths bound to the shape letters."""
    if set(inputs) != set(op.inputs):
        raise ValueError(f"{op.name}: inputs are {sorted(inputs)}, the contract has {sorted(op.inputs)}")
    lengths: dict[str, int] = {}
    for name, kind in op.inputs.items():
        element, letters = parse(kind)
        if element in ("policy", "network", "parameters", "str"):
            continue
        _bind(f"{op.name}: {name}", element, letters, inputs[name], lengths)
    return lengths


def _bind(where: str, element: str, letters: list[str], value: Any, lengths: dict[str, int]) -> None:
    if not letters:
        if element == "actions":  # an integer, or a list of floats
            numbers = value if isinstance(value, list) else [value]
            kinds: tuple[type, ...] = (float,) if isinstance(value, list) else (int,)
        else:
            numbers, kinds = [value], {"float": (float,), "int": (int,), "bool": (bool,)}[element]
        for number in numbers:
            if type(number) not in kinds or (isinstance(number, float) and not isfinite(number)):
                raise ValueError(f"{where} holds {number!r}, expected {element}")
        return
    if not isinstance(value, list):
        raise ValueError(f"{where} holds {value!r}, expected a list over {letters[0]}")
    if letters[0] != "*" and lengths.setdefault(letters[0], len(value)) != len(value):
        raise ValueError(f"{where} has {len(value)} entries along {letters[0]}, expected {lengths[letters[0]]}")
    for part in value:
        _bind(where, element, letters[1:], part, lengths)


def arrays(op: Op, inputs: dict[str, Any], wrap: Callable[[Any], Any] = np.asarray) -> dict[str, Any]:
    """Turn inputs into arrays: floats by ``wrap`` (which chooses the dtype), integers and flags as they are.

    Structures keep their form with arrays inside; rows of unequal lengths become a list of integer arrays.
    """
    return {name: _array(parse(kind), inputs[name], wrap) for name, kind in op.inputs.items()}


def _array(kind: tuple[str, list[str]], value: Any, wrap: Callable[[Any], Any]) -> Any:
    element, letters = kind
    if element in ("policy", "network", "parameters"):
        return _structure(value, wrap)
    if element == "str" or (element == "int" and not letters):
        return value
    if "*" in letters:
        return [np.asarray(part) for part in value]
    if element == "float" or (element == "actions" and isinstance(value[0], list)):
        return wrap(np.asarray(value, dtype=np.float64))
    return np.asarray(value)


def _structure(value: Any, wrap: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _structure(part, wrap) for name, part in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_structure(part, wrap) for part in value]
    return value if isinstance(value, str) else wrap(np.asarray(value, dtype=np.float64))
