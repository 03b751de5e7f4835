"""Nobody is timed whose answer is another: largest difference from refpg's, relative to its largest entry."""

import numpy as np

from refpg.notation import Array


def distance(found: Array, expected: Array) -> float:
    """Return max|found − expected| / max|expected|, infinite where the shapes differ.

    Examples
    --------
    >>> distance(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    0.5
    >>> distance(np.ones(2), np.ones(3))
    inf
    """
    if np.shape(found) != np.shape(expected):
        return float("inf")
    error = float(np.max(np.abs(np.asarray(found) - expected)))
    return error / float(np.max(np.abs(expected))) if np.isfinite(error) else float("inf")
