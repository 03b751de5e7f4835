"""The value network: its parameters fitted to targets, by epochs of Adam or by SciPy's L-BFGS.

::

    minimise  Σ_b w_b (V_w(s_b) − R_b)²                    ∂/∂w = Jᵀ 2w(V − R),   by the network's own backpropagation
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from refpg import network as networks
from refpg import surrogate
from refpg.network import Network
from refpg.notation import Array, bind_shapes, count, finite_results, scalar
from refpg.updates.adam import Adam, adam_step


class ValueFit(NamedTuple):
    """What fitting a value network did.

    Fields: ``loss_before`` and ``loss_after``, the mean squared error over all rows; ``adam`` the state to continue
    from, None where Adam was not used; ``steps`` of Adam, or iterations of L-BFGS.
    """

    loss_before: float
    loss_after: float
    adam: Adam | None
    steps: int


@finite_results
def value_loss_and_gradient(network: Network, theta: Any, x: Any, targets: Any) -> tuple[float, Array]:
    """Return the mean squared error of a value network, and its gradient.

    ::

        (1/B) Σ_b (V_w(x_b) − R_b)²

    Parameters
    ----------
    network : Network
        With one output.
    theta : array
        Its parameters w.
    x : (B, D) array
        Observations.
    targets : (B,) array
        R, return units.

    Returns
    -------
    loss : float
    gradient : array
        Of the shape of ``theta``; the descent direction is its negative.

    Raises
    ------
    ValueError
        If the network has more than one output, or a shape disagrees.

    References
    ----------
    [PPO (9)]
    """
    name = "value_loss_and_gradient"
    if network.num_outputs != 1:
        raise ValueError(f"{name}: network has {network.num_outputs} outputs, expected 1")
    at = networks.linearize(network, theta, x)
    V = at.phi[:, 0]
    loss = float(surrogate.value_loss(V, targets))
    return loss, at.vjp(surrogate.value_loss_gradient(V, targets)[:, np.newaxis])


def fit_values(
    network: Network,
    theta: Any,
    x: Any,
    targets: Any,
    *,
    minibatches: Sequence[Sequence[Any]],
    learning_rate: float,
    epsilon: float = 1e-8,
    adam: Adam | None = None,
) -> tuple[Array, ValueFit]:
    """Fit a value network by K epochs of minibatch Adam.

    Parameters
    ----------
    network : Network
        With one output.
    theta : array
        Its parameters w.
    x : (B, D) array
        Observations.
    targets : (B,) array
        R, return units.
    minibatches : K lists of integer arrays
        As from `minibatch_order`.
    learning_rate, epsilon
        As in `adam_step`.
    adam : Adam, optional
        The state to continue from.

    Returns
    -------
    theta : array
    info : ValueFit

    Raises
    ------
    ValueError
        If the network has more than one output, or a shape disagrees.

    Examples
    --------
    >>> theta, info = fit_values(
    ...     Network((1, 1)), [0.0, 0.0], [[1.0], [-1.0]], [3.0, 1.0], minibatches=[[[0, 1]]] * 400, learning_rate=0.05
    ... )
    >>> theta.round(2), info.loss_before
    (array([1., 2.]), 5.0)
    """
    theta, x, R = bind_shapes("fit_values", {}, theta=(theta, "P"), x=(x, "B D"), targets=(targets, "B"))
    state = Adam(np.zeros_like(theta), np.zeros_like(theta)) if adam is None else adam
    before, _ = value_loss_and_gradient(network, theta, x, R)
    w, steps = theta, 0
    for epoch in minibatches:
        for rows in epoch:
            _, gradient = value_loss_and_gradient(network, w, x[rows], R[rows])
            w, state = adam_step(w, gradient, state, learning_rate=learning_rate, epsilon=epsilon)
            steps += 1
    after, _ = value_loss_and_gradient(network, w, x, R)
    return w, ValueFit(before, after, state, steps)


def fit_values_lbfgs(
    network: Network, theta: Any, x: Any, targets: Any, *, iterations: int, penalty: float = 0.0
) -> tuple[Array, ValueFit]:
    """Fit a value network to all rows by SciPy's L-BFGS.

    ::

        minimise  (1/B) Σ_b (V_w(x_b) − R_b)² + c ‖w‖²

    Parameters
    ----------
    network : Network
        With one output.
    theta : array
        Its parameters w.
    x : (B, D) array
        Observations.
    targets : (B,) array
        R, return units.
    iterations : int
        At most.
    penalty : float
        c ≥ 0.

    Returns
    -------
    theta : array
    info : ValueFit

    Raises
    ------
    ValueError
        If the network has more than one output, a shape disagrees, or c < 0.

    Examples
    --------
    >>> theta, info = fit_values_lbfgs(Network((1, 1)), [0.0, 0.0], [[1.0], [-1.0]], [3.0, 1.0], iterations=20)
    >>> theta.round(6), info.adam
    (array([1., 2.]), None)
    """
    name = "fit_values_lbfgs"
    theta, x, R = bind_shapes(name, {}, theta=(theta, "P"), x=(x, "B D"), targets=(targets, "B"))
    iterations = count(name, "iterations", iterations)
    c = scalar(name, "penalty", penalty, least=0)

    def penalized(w: Array) -> tuple[float, Array]:
        loss, gradient = value_loss_and_gradient(network, w, x, R)
        return loss + c * float(w @ w), gradient + 2 * c * w

    before, _ = value_loss_and_gradient(network, theta, x, R)
    found = minimize(penalized, theta, jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    after, _ = value_loss_and_gradient(network, found.x, x, R)
    return found.x, ValueFit(before, after, None, int(found.nit))
