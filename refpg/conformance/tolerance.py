"""How far a correct implementation may be from the certified value: derived, never typed in.

R_i is the measured amplification of rounding: the rms error of component i, in units of roundoff, when ordinary
textbook code runs with every operation randomly perturbed.  It is stored with each vector, so the tolerance for any
precision is one line, in any language.
"""

from collections.abc import Mapping

import numpy as np

from refpg.conformance.signatures import output_of
from refpg.conformance.vectors import Leaf, TolerancePolicy
from refpg.notation import Array


def tolerances(outputs: Mapping[str, Leaf], dtype: str, policy: TolerancePolicy) -> dict[str, Array]:
    """Return the absolute tolerance of every entry of a certified answer.

    ::

        tol_i(dtype) = 16 · u(dtype) · max(R_i, 0.3 · max_j R_j) + ½ ulp64(y_i)

        j runs over all leaves of the same output; 16 and 0.3 are the policy's factor and floor

    The floor keeps an entry whose own error happens to cancel from being held to less than the entries beside it; the
    last term is the rounding of the certified value itself to float64.

    Parameters
    ----------
    outputs : mapping of str to Leaf
        Leaf path → certified leaf.
    dtype : str
        The precision the implementation declares, a key of ``policy.unit_roundoff``.
    policy : TolerancePolicy
        The constants.

    Returns
    -------
    dict of str to array
        In the units of each leaf; zero for exact leaves.

    Examples
    --------
    >>> import numpy as np
    >>> from types import MappingProxyType
    >>> policy = TolerancePolicy(16, 0.3, {"float64": 2.0**-53, "float32": 2.0**-24}, "")
    >>> leaf = Leaf(np.array([1.0, 0.0]), False, 0.0, np.array([1.0, 0.0]))
    >>> tol = tolerances({"y": leaf}, "float64", policy)["y"]
    >>> bool((tol == [16 * 2.0**-53 + 2.0**-53, 16 * 2.0**-53 * 0.3]).all())
    True
    """
    u = policy.unit_roundoff[dtype]
    largest: dict[str, float] = {}
    for path, leaf in outputs.items():
        name = output_of(path)
        largest[name] = max(largest.get(name, 0.0), float(leaf.amplification.max(initial=0.0)))
    tolerance = {}
    for path, leaf in outputs.items():
        if leaf.exact:
            tolerance[path] = np.zeros(leaf.value.shape)
            continue
        R = np.maximum(leaf.amplification, policy.floor * largest[output_of(path)])
        half_ulp = 0.5 * np.spacing(np.abs(leaf.value))
        tolerance[path] = policy.factor * u * R + half_ulp
    return tolerance
