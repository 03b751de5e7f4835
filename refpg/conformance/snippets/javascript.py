"""A case in JavaScript: a constant with the inputs, the certified answer, the tolerance, and a method that compares."""

import json
from collections.abc import Mapping
from typing import Any

from refpg.conformance.snippets.content import heading, identifier, outputs, rows
from refpg.conformance.snippets.plain import simple
from refpg.conformance.vectors import Case, Vectors


def javascript(case: Case, vectors: Vectors) -> str:
    """Return a case in JavaScript.

    Parameters
    ----------
    case : Case
        The case.
    vectors : Vectors
        The release it is of.

    Returns
    -------
    str
        The name of the constant is that of the case.
    """
    name, answer = identifier(case.id), outputs(case, vectors)
    lines = [
        *(f"// {line}" for line in heading(case, vectors)),
        f"// In a test: assert({name}.conforms(answer)), with an array for each key of {name}.certified.",
        f"const {name} = {{",
        f"    inputs: {_literal(simple(case.inputs), 4)},",
        f"    certified: {_literal({one.path: one.value.tolist() for one in answer}, 4)},",
        f"    tolerance: {_literal({one.path: one.tolerance.tolist() for one in answer}, 4)},",
        "    // What is not a number is not within any tolerance.",
        "    conforms(answer) {",
        "        const lengths = value => (Array.isArray(value) ? [value.length, ...lengths(value[0])] : []);",
        "        const flat = value => [value].flat(Infinity);",
        "        return Object.entries(this.certified).every(([name, certified]) => {",
        "            const [got, right, most] = [answer[name], certified, this.tolerance[name]].map(flat);",
        "            const same = String(lengths(answer[name])) === String(lengths(certified));",
        "            return same && right.every((value, i) => Math.abs(got[i] - value) <= most[i]);",
        "        });",
        "    },",
        "};",
    ]
    return "\n".join(lines)


def _literal(value: Any, indent: int) -> str:
    pad = " " * (indent + 4)
    if isinstance(value, Mapping):
        inner = "".join(f"{pad}{_key(key)}: {_literal(part, indent + 4)},\n" for key, part in value.items())
        return f"{{\n{inner}{' ' * indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        inner = "".join(f"{pad}{_literal(part, indent + 4)},\n" for part in value)
        return f"[\n{inner}{' ' * indent}]"
    return rows(value, "[]", indent)


def _key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)
