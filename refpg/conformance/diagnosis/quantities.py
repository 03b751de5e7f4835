"""Named quantities that are at hand for a case: what a wrong answer may have been taken for, or may lack.

They are the inputs, the certified answers to the other outputs, and refpg's own answers to the ops whose inputs are
all among the case's.  refpg's answers only lend a name to what was found; nothing is judged by them.
"""

from typing import NamedTuple

import numpy as np

from refpg.conformance.diagnosis.candidates import Told
from refpg.conformance.ops import OPS
from refpg.conformance.reference import answers
from refpg.conformance.signatures import answer_shapes, output_of, parameter_leaves, parse_type
from refpg.conformance.vectors import Vectors
from refpg.conformance.verdicts import flatten, native
from refpg.notation import Array


class Quantity(NamedTuple):
    """A quantity: its ``name``, and its ``leaves``, one array unless it is shaped like parameters."""

    name: str
    leaves: tuple[Array, ...]


def quantities(told: Told, output: str, vectors: Vectors) -> list[Quantity]:
    """Return what is at hand for a case beside one of its outputs.

    Parameters
    ----------
    told : Told
        An answer with its case.
    output : str
        The output in question, which is left out.
    vectors : Vectors
        The release.

    Returns
    -------
    list of Quantity
        Float arrays and parameters, no scalars that are constants of the method: see `constants`.
    """
    case, op = told.case, OPS[told.outcome.op]
    found = []
    for name, text in op.inputs.items():
        kind, letters, _ = parse_type(text)
        if kind == "parameters":
            found.append(Quantity(name, tuple(parameter_leaves(name, case.inputs[name]).values())))
        elif kind == "float" and letters:
            found.append(Quantity(name, (case.inputs[name],)))
    for other in op.outputs:
        if other != output:
            leaves = [c.certified for c in told.outcome.comparisons if output_of(c.path) == other and not c.exact]
            found += [Quantity(other, tuple(leaves))] if leaves else []
    return found + _answers(told, vectors)


def constants(told: Told) -> dict[str, float]:
    """Return the scalar inputs of a case by name: γ, λ, a coefficient, a penalty."""
    op = OPS[told.outcome.op]
    return {name: float(told.case.inputs[name]) for name, text in op.inputs.items() if text == "float"}


def _answers(told: Told, vectors: Vectors) -> list[Quantity]:
    case, asked = told.case, OPS[told.outcome.op]
    functions = answers({axis: record.default for axis, record in vectors.axes.items()})
    found = []
    for name, op in OPS.items():
        if name == asked.name or not op.inputs.items() <= asked.inputs.items():
            continue
        inputs = {argument: case.inputs[argument] for argument in op.inputs}
        shapes = answer_shapes(op, inputs, case.dims)
        try:
            with np.errstate(all="ignore"):
                leaves = flatten(name, functions[name](**native(inputs, "float64")), shapes)
        except (ValueError, ArithmeticError):  # an input of this case that the other op refuses
            continue
        for output, text in op.outputs.items():
            if parse_type(text).kind != "int":
                label = name if len(op.outputs) == 1 else f"{name}.{output}"
                arrays = tuple(leaf for path, leaf in leaves.items() if output_of(path) == output)
                found.append(Quantity(label, arrays))
    return found
