"""Parameters as layers and as one vector, in the order of the contract: W row by row, b, ``log_std`` last."""

from typing import Any

import numpy as np

Array = Any
Layers = dict[str, Any]


def flatten(parameters: Layers) -> Array:
    """Return θ, or a vector shaped like it, as one vector."""
    parts = [np.ravel(layer[name]) for layer in parameters["layers"] for name in ("W", "b")]
    return np.concatenate(parts + ([parameters["log_std"]] if "log_std" in parameters else []))


def unflatten(like: Layers, vector: Array) -> Layers:
    """Return the vector in the structure of parameters; it may belong to any library that slices and reshapes."""
    layers, start = [], 0
    for layer in like["layers"]:
        rows, columns = layer["W"].shape
        middle, end = start + rows * columns, start + (rows + 1) * columns
        layers.append({"W": vector[start:middle].reshape((rows, columns)), "b": vector[middle:end]})
        start = end
    return {"layers": layers} | ({"log_std": vector[start:]} if "log_std" in like else {})
