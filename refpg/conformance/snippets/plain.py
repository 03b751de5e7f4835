"""A case as JSON: all that is known of it."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from refpg.conformance.vectors import Case, Vectors


def plain(case: Case, vectors: Vectors) -> str:
    """Return a case as JSON.

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
    return json.dumps(_fields(case), ensure_ascii=False, indent=1)


def simple(value: Any) -> Any:
    """Return arrays and read-only mappings as lists and dicts."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: simple(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [simple(inner) for inner in value]
    return value


def _fields(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "rev": case.rev,
        "op": case.op,
        "title": case.title,
        "purpose": case.purpose,
        "stability": case.stability,
        "reference": case.reference,
        "dims": simple(case.dims),
        "inputs": simple(case.inputs),
        "expected": [
            {
                "conventions": simple(entry.conventions),
                "outputs": {
                    path: {"value": leaf.value.tolist(), "radius": leaf.radius, "R": leaf.amplification.tolist()}
                    for path, leaf in entry.outputs.items()
                },
            }
            for entry in case.expected
        ],
        "wrong": [
            {"bug": wrong.bug, "conventions": simple(wrong.conventions), "outputs": simple(wrong.outputs)}
            for wrong in case.wrong
        ],
        "resolves": list(case.resolves),
        "provenance": simple(case.provenance),
    }
