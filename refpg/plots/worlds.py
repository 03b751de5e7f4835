"""The small worlds of the figures, and policies of two actions whose every number means something."""

from typing import Any, NamedTuple

import numpy as np

from refpg.geometry import fisher_matrix
from refpg.mdp import MDP, evaluate
from refpg.network import flatten
from refpg.notation import Array, bind_shapes
from refpg.policy import Policy, linearize, probability_table, softmax_policy


def alternation(*, discount: float, start: float = 0.5) -> MDP:
    """Return the world that pays 1 for every change of its state.

    Action a leads to state a; it pays if that is another state.  A policy that sees the state earns 1 each time.  One
    that does not, and takes action 1 with probability p, changes it with 2p(1 − p) ::

        η(p) = μp + (1 − μ)(1 − p) + 2p(1 − p) γ/(1 − γ),   μ = ρ₀(0)

    a parabola: the best such policy is stochastic.

    Parameters
    ----------
    discount : float
        γ.
    start : float
        μ, the probability that it starts in state 0.

    Returns
    -------
    MDP

    Examples
    --------
    >>> from refpg.mdp import evaluate
    >>> mdp = alternation(discount=0.5)
    >>> [float(evaluate(mdp, [[1 - p, p], [1 - p, p]]).expected_return) for p in (0.0, 0.5)]
    [0.5, 1.0]
    """
    reward = 1 - np.eye(2)
    return MDP(np.stack([np.eye(2)] * 2), reward, np.array([start, 1 - start]), discount)


def two_actions(observations: int) -> Policy:
    """Return the policy of two actions that is linear in its observations.

    Parameters
    ----------
    observations : int
        D.

    Returns
    -------
    Policy
        With the parameters `preference`.
    """
    return softmax_policy((observations, 2))


def preference(weights: Any) -> Array:
    """Return the θ with which a policy of `two_actions` prefers action 1 by the weighted sum of its observations.

    ::

        π(1|s) = 1/(1 + exp(−wᵀx_s))

    Parameters
    ----------
    weights : (D,) array
        w; the logit of action 0 and the biases are 0.

    Returns
    -------
    (P,) array
        θ, linear in w, and as long as w is.

    Raises
    ------
    ValueError
        If w is not a vector.

    Examples
    --------
    >>> from refpg.policy import probability_table
    >>> probability_table(two_actions(1), preference([np.log(3)]), [[1.0]]).round(12)
    array([[0.25, 0.75]])
    """
    (w,) = bind_shapes("preference", {}, weights=(weights, "D"))
    layer = np.stack([np.zeros_like(w), w], axis=1)
    return flatten(two_actions(len(w)).network, [(layer, np.zeros(2))])


class Slope(NamedTuple):
    """What there is to know of a `preference` before a step.

    Fields: ``expected_return`` η; ``gradient`` (D,) ∂η/∂w; ``fisher`` (D, D) the Fisher matrix of w over d_π;
    ``weights`` (S,) d_π.
    """

    expected_return: float
    gradient: Array
    fisher: Array
    weights: Array


def slope(mdp: MDP, weights: Any, x: Any) -> Slope:
    """Return η with its gradient and the Fisher matrix, by the weights of a `preference`.

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    weights : (D,) array
        w.
    x : (S, D) array
        One row of observations per state.

    Returns
    -------
    Slope

    Raises
    ------
    ValueError
        If a shape disagrees, or γ = 1.

    Examples
    --------
    The return of `alternation` seen by nobody, η(p) = ½ + p(1 − p)·2 at γ = ½, has its maximum at p = ½, w = 0:

    >>> at = slope(alternation(discount=0.5), [0.0], [[1.0], [1.0]])
    >>> at.expected_return, abs(float(at.gradient[0])) < 1e-15, at.fisher
    (1.0, True, array([[0.25]]))
    """
    w, x = bind_shapes("slope", {"S": mdp.states}, weights=(weights, "D"), x=(x, "S D"))
    policy, theta = two_actions(len(w)), preference(w)
    plane = np.stack([preference(axis) for axis in np.eye(len(w))])  # ∂θ/∂w, rows of length 1
    table = probability_table(policy, theta, x)
    at = evaluate(mdp, table)
    d = at.visitation_distribution
    return Slope(
        expected_return=at.expected_return,
        gradient=plane @ linearize("slope", policy, theta, x).vjp(at.visitation[:, np.newaxis] * table * at.advantages),
        fisher=plane @ fisher_matrix(policy, theta, x, weights=d) @ plane.T,
        weights=d,
    )
