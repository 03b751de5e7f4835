"""A case in Julia: a module with the inputs, the certified answer and the tolerance, and a function that compares.

Arrays have the shapes of the case and the order of its indices.  Julia counts from 1; actions, minibatches and other
indices in the data count from 0.
"""

import json
from typing import Any

import numpy as np

from refpg.conformance.snippets.content import heading, identifier, is_group, outputs
from refpg.conformance.vectors import Case, Vectors


def julia(case: Case, vectors: Vectors) -> str:
    """Return a case in Julia.

    Parameters
    ----------
    case : Case
        The case.
    vectors : Vectors
        The release it is of.

    Returns
    -------
    str
        The name of the module is that of the case.
    """
    name, answer = identifier(case.id), outputs(case, vectors)
    lines = [
        *(f"# {line}" for line in heading(case, vectors)),
        f"# In a test: @test {name}.conforms(answer), with an array for each key of {name}.certified.",
        f"module {name}",
        "",
        f"const inputs = {_literal(case.inputs, 0)}",
        "",
        f"const certified = {_dictionary({one.path: one.value for one in answer})}",
        "",
        f"const tolerance = {_dictionary({one.path: one.tolerance for one in answer})}",
        "",
        "# What is not a number is not within any tolerance.",
        "within(got, right, most) = size(got) == size(right) && all(abs.(got .- right) .<= most)",
        "",
        "conforms(answer) = all(within(answer[name], certified[name], tolerance[name]) for name in keys(certified))",
        "",
        "end",
    ]
    return "\n".join(lines)


def _dictionary(values: dict[str, Any]) -> str:
    inner = "".join(f"    {json.dumps(path)} => {_literal(value, 4)},\n" for path, value in values.items())
    return f"Dict(\n{inner})"


def _literal(value: Any, indent: int) -> str:
    """Return a named tuple, a vector of anything, an array, or a scalar."""
    pad = " " * (indent + 4)
    if is_group(value):
        inner = "".join(f"{pad}{name} = {_literal(part, indent + 4)},\n" for name, part in value.items())
        return f"(\n{inner}{' ' * indent})"
    if isinstance(value, tuple):
        inner = "".join(f"{pad}{_literal(part, indent + 4)},\n" for part in value)
        return f"[\n{inner}{' ' * indent}]"
    if isinstance(value, np.ndarray):
        return _array(value, pad, " " * indent)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("$", "\\$")
    return _scalar(value)


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _array(value: np.ndarray[Any, Any], pad: str, end: str) -> str:
    """Return a scalar, a vector, a matrix by rows, or of more axes the entries: Julia's first index is the fastest."""
    if value.ndim == 0:
        return _scalar(value.item())
    if value.ndim == 2 and value.shape[1] > 1:
        rows = "".join(f"{pad}{' '.join(map(_scalar, row))}\n" for row in value.tolist())
        return f"[\n{rows}{end}]"
    flat = f"[{', '.join(map(_scalar, value.ravel().tolist()))}]"
    if value.ndim == 1:
        return flat
    lengths = ", ".join(map(str, reversed(value.shape)))
    axes = ", ".join(str(axis) for axis in range(value.ndim, 0, -1))
    return f"permutedims(reshape({flat}, {lengths}), ({axes}))"
