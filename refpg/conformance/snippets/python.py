"""A case as a Python script: it runs as it is, with refpg's own function where yours is to be put."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from refpg.conformance.ops import OPS
from refpg.conformance.snippets.plain import simple
from refpg.conformance.tolerance import tolerances
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
    tolerance = tolerances(case.expected[0].outputs, "float64", vectors.policy)
    largest = {path: f"{values.max():.2g}" for path, values in tolerance.items()}
    defaults = {axis: vectors.axes[axis].default for axis in OPS[case.op].conventions}
    lines += [
        "",
        f"# The largest tolerance in float64: {', '.join(f'{path} {value}' for path, value in largest.items())}",
        "",
        "from refpg.conformance.reference import answers",
        "",
        f"{case.op} = answers({defaults!r})[{case.op!r}]  # put your own function here",
        f"print({case.op}(**inputs))",
        "print(certified)",
    ]
    return "\n".join(lines)


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
