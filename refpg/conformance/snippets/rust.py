"""A case in Rust: a module with the inputs, the certified answer and the tolerance as constants, and what compares.

An output is flat, row by row; an input has its shape, and the layers of a network are modules ``layers_0``, ….
"""

from typing import Any

import numpy as np

from refpg.conformance.snippets.content import Output, fields, heading, identifier, is_group, outputs, rows, scalar
from refpg.conformance.vectors import Case, Vectors

_TYPES = {"f": "f64", "i": "i64", "b": "bool"}


def rust(case: Case, vectors: Vectors) -> str:
    """Return a case in Rust.

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
    given = ", ".join(f"{_variable(one)}: &[{_type(one.value)}]" for one in answer)
    lines = [
        *(f"// {line}" for line in heading(case, vectors)),
        f"// In a test: assert!({name}::conforms(…)) with what your function makes of {name}::inputs, each array flat.",
        f"mod {name} {{",
        "    #![allow(dead_code)]",
        "",
        *_module("inputs", case.inputs, 4),
        "",
        *_module("certified", {identifier(one.path): one.value.ravel() for one in answer}, 4),
        "",
        *_module("tolerance", {identifier(one.path): one.tolerance.ravel() for one in answer if not one.exact}, 4),
        "",
        f"    pub fn conforms({given}) -> bool {{",
        "        " + "\n            && ".join(map(_comparison, answer)),
        "    }",
        "",
        "    /// What is not a number is not within any tolerance.",
        "    fn within(got: &[f64], certified: &[f64], tolerance: &[f64]) -> bool {",
        "        let close = |i: usize| (got[i] - certified[i]).abs() <= tolerance[i];",
        "        got.len() == certified.len() && (0..got.len()).all(close)",
        "    }",
        "}",
    ]
    return "\n".join(lines)


def _type(value: Any) -> str:
    return _TYPES[np.asarray(value).dtype.kind]


def _variable(one: Output) -> str:
    return identifier(one.path).lower()


def _comparison(one: Output) -> str:
    constant = identifier(one.path).upper()
    if one.exact:
        return f"*{_variable(one)} == certified::{constant}"
    return f"within({_variable(one)}, &certified::{constant}, &tolerance::{constant})"


def _module(name: str, parts: Any, indent: int) -> list[str]:
    pad = " " * indent
    lines = [f"{pad}pub mod {name} {{"]
    for part, value in fields(parts):
        lines += _module(part, value, indent + 4) if is_group(value) else [f"{pad}    {_constant(part, value, indent)}"]
    return [*lines, f"{pad}}}"]


def _constant(name: str, value: Any, indent: int) -> str:
    kind = "&str" if isinstance(value, str) else _type(value)
    for length in reversed(np.shape(value)):
        kind = f"[{kind}; {length}]"
    text = rows(value.tolist(), "[]", indent + 4) if isinstance(value, np.ndarray) else scalar(value)
    return f"pub const {name.upper()}: {kind} = {text};"
