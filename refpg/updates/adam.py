"""Adam, the optimiser that PPO implementations use [Adam Alg. 1]."""

from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array, bind_shapes, count, finite_results, scalar


class Adam(NamedTuple):
    """The state of Adam: ``first_moment`` and ``second_moment`` (P,), ``step`` the number of steps taken."""

    first_moment: Array
    second_moment: Array
    step: int = 0


@finite_results
def adam_step(
    theta: Any,
    gradient: Any,
    state: Adam,
    *,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Array, Adam]:
    """Make one step of Adam, *descending* the gradient.

    ::

        m ← β₁m + (1 − β₁)g          v ← β₂v + (1 − β₂)g²          t ← t + 1
        θ' = θ − α m̂/(√v̂ + ε)        m̂ = m/(1 − β₁ᵗ)   v̂ = v/(1 − β₂ᵗ)

    Parameters
    ----------
    theta : (P,) array
        Parameters.
    gradient : (P,) array
        Gradient of a loss; pass the negative of an objective's gradient to ascend it.
    state : Adam
        The moments and the number of steps taken; ``Adam(zeros, zeros)`` to begin.
    learning_rate : float
        α > 0.
    beta1, beta2 : float
        Decay rates in [0, 1).
    epsilon : float
        ε > 0, added to the root of the bias-corrected second moment as published; PPO implementations
        customarily use 1e-5.

    Returns
    -------
    theta : (P,) array
        θ'.
    state : Adam

    Raises
    ------
    ValueError
        If a shape disagrees or a number is out of range.

    References
    ----------
    [Adam Alg. 1]

    Examples
    --------
    The first step has length α in every coordinate, whatever the size of the gradient:

    >>> import numpy as np
    >>> theta, state = adam_step(np.zeros(2), [3.0, -0.5], Adam(np.zeros(2), np.zeros(2)), learning_rate=0.1)
    >>> theta.round(6)
    array([-0.1,  0.1])
    """
    name = "adam_step"
    theta, g, m, v = bind_shapes(
        name,
        {},
        theta=(theta, "P"),
        gradient=(gradient, "P"),
        first_moment=(state.first_moment, "P"),
        second_moment=(state.second_moment, "P"),
    )
    alpha = scalar(name, "learning_rate", learning_rate, above=0)
    beta1 = scalar(name, "beta1", beta1, least=0, below=1)
    beta2 = scalar(name, "beta2", beta2, least=0, below=1)
    epsilon = scalar(name, "epsilon", epsilon, above=0)
    if (v < 0).any():
        raise ValueError(f"{name}: second_moment has a negative entry, expected a mean of squares")
    t = count(name, "step", state.step, least=0) + 1

    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return theta - alpha * m_hat / (np.sqrt(v_hat) + epsilon), Adam(m, v, t)
