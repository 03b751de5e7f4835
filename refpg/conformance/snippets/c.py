"""A case in C99: one constant with the inputs, the certified answer and the tolerance, and a function that compares.

An output is flat, row by row; an input has its shape, and the layers of a network are ``layers_0``, ``layers_1``, ….
"""

from typing import Any

import numpy as np

from refpg.conformance.snippets.content import (
    Output,
    fields,
    heading,
    identifier,
    is_group,
    outputs,
    rows,
    scalar,
)
from refpg.conformance.vectors import Case, Vectors

_TYPES = {"f": "double", "i": "int64_t", "b": "bool"}


def c(case: Case, vectors: Vectors) -> str:
    """Return a case in C.

    Parameters
    ----------
    case : Case
        The case.
    vectors : Vectors
        The release it is of.

    Returns
    -------
    str
        The name of the constant is that of the case; the function is called ``…_conforms``.
    """
    name, answer = identifier(case.id), outputs(case, vectors)
    given = ", ".join(f"const {_type(one.value)} *{identifier(one.path)}" for one in answer)
    lines = [
        *(f"// {line}".rstrip("\\") for line in heading(case, vectors)),
        f"// In a test: assert({name}_conforms(…)) with what your function makes of {name}.inputs, each array flat.",
        "#include <math.h>",
        "#include <stdbool.h>",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        "static const struct {",
        *_group(case.inputs, 4, "inputs"),
        "    struct {",
        *(f"        {_member(identifier(one.path), one.value.ravel())}" for one in answer),
        "    } certified, tolerance;",
        f"}} {name} = {{",
        *_values(case.inputs, 4, "inputs"),
        *_answer("certified", [(one.path, one.value) for one in answer]),
        *_answer("tolerance", [(one.path, one.tolerance.astype(one.value.dtype)) for one in answer]),
        "};",
        "",
        "// What is not a number is not within any tolerance.",
        f"static bool {name}_conforms({given}) {{",
        "    bool conforms = true;",
        *(line for one in answer for line in _comparison(name, one)),
        "    return conforms;",
        "}",
    ]
    return "\n".join(lines)


def _type(value: Any) -> str:
    return _TYPES[np.asarray(value).dtype.kind]


def _member(name: str, value: Any) -> str:
    if isinstance(value, str):
        return f"const char *{name};"
    return f"{_type(value)} {name}{''.join(f'[{length}]' for length in np.shape(value))};"


def _group(value: Any, indent: int, name: str) -> list[str]:
    """Return the declaration of a member; one with parts is a structure."""
    pad = " " * indent
    if not is_group(value):
        return [f"{pad}{_member(name, value)}"]
    inner = [line for part, its in fields(value) for line in _group(its, indent + 4, part)]
    return [f"{pad}struct {{", *inner, f"{pad}}} {name};"]


def _values(value: Any, indent: int, name: str) -> list[str]:
    """Return the value of a member."""
    pad = " " * indent
    if not is_group(value):
        text = rows(value.tolist(), "{}", indent) if isinstance(value, np.ndarray) else scalar(value)
        return [f"{pad}.{name} = {text},"]
    inner = [line for part, its in fields(value) for line in _values(its, indent + 4, part)]
    return [f"{pad}.{name} = {{", *inner, f"{pad}}},"]


def _answer(name: str, values: list[tuple[str, Any]]) -> list[str]:
    inner = [f"        .{identifier(path)} = {rows(value.ravel().tolist(), '{}', 8)}," for path, value in values]
    return [f"    .{name} = {{", *inner, "    },"]


def _comparison(name: str, one: Output) -> list[str]:
    """Return the loop over an output."""
    path = identifier(one.path)
    size, got, certified = one.value.size, f"{path}[i]", f"{name}.certified.{path}[i]"
    within = f"{got} == {certified}" if one.exact else f"fabs({got} - {certified}) <= {name}.tolerance.{path}[i]"
    return [f"    for (size_t i = 0; i < {size}; i++)", f"        conforms = conforms && {within};"]
