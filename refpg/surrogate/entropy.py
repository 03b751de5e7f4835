"""The entropy bonus.

::

    S = Σ_b w_b entropy(φ_b)                                                         [PPO (9)]
"""

from typing import Any

import numpy as np

from refpg.distributions import Family
from refpg.notation import Array, bind_shapes, expectation, row_weights


def entropy_bonus(family: Family, phi: Any, *, weights: Any = None) -> Any:
    """Return the mean entropy of the policy, exact over actions.

    ::

        S = Σ_b w_b entropy(φ_b)

    Parameters
    ----------
    family : Family
        The action distribution.
    phi : (B, K) array
        Its parameters, one row per observation.
    weights : (B,) array, optional
        Weights of the rows, 1/B each unless given.

    Returns
    -------
    scalar
        Nats; differential entropy, of any sign, where actions are continuous.

    Raises
    ------
    ValueError
        If a shape disagrees.

    Notes
    -----
    Convention: the coefficient c₂ is not included; the sign is that of an objective, larger is more random.

    References
    ----------
    [PPO (9)]
    """
    (phi,) = bind_shapes("entropy_bonus", {}, phi=(phi, "B K"))
    family.check("entropy_bonus", phi)
    entropy = family.entropy(phi)
    return expectation(entropy, row_weights("entropy_bonus", weights, entropy))


def entropy_bonus_gradient(family: Family, phi: Any, *, weights: Any = None) -> Array:
    """Return the gradient of `entropy_bonus` with respect to φ.

    ::

        ∂S/∂φ_b = w_b ∂entropy(φ_b)/∂φ_b

    Parameters
    ----------
    family, phi, weights
        As in `entropy_bonus`.

    Returns
    -------
    (B, K) array
        Weights included; what `network.vjp` takes.

    Raises
    ------
    ValueError
        As `entropy_bonus`.

    References
    ----------
    [PPO (9)]
    """
    (phi,) = bind_shapes("entropy_bonus_gradient", {}, phi=(phi, "B K"))
    family.check("entropy_bonus_gradient", phi)
    w = row_weights("entropy_bonus_gradient", weights, phi)
    gradient: Array = w[:, np.newaxis] * family.entropy_gradient(phi)
    return gradient
