"""A case as a Python script: it runs as it is, with refpg's own function where yours is to be put.

What is compared, and how, needs NumPy alone: two dictionaries by array, and a function that says yes or no.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.snippets.content import conventions, outputs
from refpg.conformance.snippets.plain import simple
from refpg.conformance.vectors import Case, Vectors


def python(case: Case, vectors: Vectors) -> str:
    """Return a case as a script.

    Parameters
    ----------
    case : Case
        The case.
    vectors : Vectors
        The release it is of.

    Returns
    -------
    str
    """
    lines = [
        f"# {case.id}, revision {case.rev}: {case.title}",
        f"# {case.purpose}",
        f"# {case.reference}  dims {simple(case.dims)}",
        "import numpy as np",
        "",
        f"inputs = {_literal(case.inputs, 0)}",
    ]
    for entry in case.expected:
        under = ", ".join(f"{axis} = {value}" for axis, value in entry.conventions.items()) or "the default conventions"
        name = "certified" if entry is case.expected[0] else "another"
        values = {path: leaf.value for path, leaf in entry.outputs.items()}
        lines += ["", f"# Certified under {under}.", f"{name} = {_literal(values, 0)}"]
    answer = outputs(case, vectors)
    tolerance = {one.path: one.tolerance.astype(one.value.dtype) for one in answer}
    lines += [
        "",
        "# Of each number in float64.",
        f"tolerance = {_literal(tolerance, 0)}",
        "",
        "",
        "def conforms(answer):",
        '    """Whether an answer, array by array as in `certified`, lies within the tolerance."""',
        "    return all(  # NaN is within no tolerance",
        "        np.shape(answer[name]) == right.shape",
        "        and np.all(abs(np.subtract(answer[name], right)) <= tolerance[name])",
        "        for name, right in certified.items()",
        "    )",
        "",
        "",
        "from refpg.conformance.reference import answers",
        "",
        f"{case.op} = answers({conventions(case, vectors)!r})[{case.op!r}]  # put your own function here",
        f"answer = {case.op}(**inputs)",
        *_by_array([one.path for one in answer], OPS[case.op].outputs),
        "for name in certified:",
        "    print(name, answer[name], certified[name], sep='\\n')",
        "assert conforms(answer)",
    ]
    return "\n".join(lines)


def _by_array(paths: list[str], names: Mapping[str, str]) -> list[str]:
    """Return the lines that make of what a function returned, perhaps one bare output, a dictionary by array."""
    lines = []
    if len(names) == 1:
        (name,) = names
        lines += [f"if not isinstance(answer, dict) or {name!r} not in answer:", f"    answer = {{{name!r}: answer}}"]
    if set(paths) != set(names):
        lines += ["answer = {", *(f"    {path!r}: answer{_keys(path)}," for path in paths), "}"]
    return lines


def _keys(path: str) -> str:
    """Return the brackets that lead to an array: ``['gradient']['layers'][0]['W']``."""
    return "".join(f"[{part}]" if part.isdigit() else f"[{part!r}]" for part in re.findall(r"\w+", path))


def _literal(value: Any, indent: int) -> str:
    """Return a Python expression for inputs; arrays of rows one row a line."""
    pad = " " * (indent + 4)
    if isinstance(value, np.ndarray):
        rows = value.tolist()
        if value.ndim > 1:
            rows_text = "".join(f"{pad}{row},\n" for row in rows)
            return f"np.array([\n{rows_text}{' ' * indent}])"
        return f"np.array({rows})"
    if isinstance(value, Mapping):
        items = "".join(f"{pad}{key!r}: {_literal(inner, indent + 4)},\n" for key, inner in value.items())
        return f"{{\n{items}{' ' * indent}}}"
    if isinstance(value, tuple):
        items = "".join(f"{pad}{_literal(inner, indent + 4)},\n" for inner in value)
        return f"[\n{items}{' ' * indent}]"
    return repr(value)
