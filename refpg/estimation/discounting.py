"""The policy gradient weighs a state visited at t by γᵗ; practice does not: what the difference does.

::

    ∂η/∂z_sa = ρ_π(s) π(a|s) A_π(s,a),    ρ_π = Σ_t γᵗ d_t            the gradient of η             [TRPO (4)]
    g̃_sa     = n_π(s) π(a|s) A_π(s,a),    n_π = Σ_t d_t               what the mean over rows of rollouts estimates

A_π is discounted in both; d_t is the distribution of the state at t.  Episodes end in a terminal state, one that
is never left and pays nothing, or after T steps; there n_π is finite.

For tabular logits g̃ is ∇η with each state's block multiplied by n(s)/ρ(s): an ascent direction of η, and its natural
gradient is the same, because the Fisher matrix is multiplied likewise.  Where states share parameters neither holds:
in `opposed_example` g̃ is the opposite of ∇η.  And in general g̃ is the gradient of no function at all [Nota-Thomas]:
in `rotating_example`, with tabular logits, its Jacobian is nowhere symmetric.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refpg.mdp import MDP, evaluate, evaluate_horizon, policy_table, softmax_gradient
from refpg.notation import Array, count, scalar


class GradientWeighting(NamedTuple):
    """The policy gradient, and the direction that practice takes in its place.

    Fields: ``weighted`` ∇η, states weighing ρ; ``unweighted``, states weighing n; both (S, A), by logits, or by the
    parameters (P,); ``cosine`` of the angle between them, None if one of them is 0.
    """

    weighted: Array
    unweighted: Array
    cosine: float | None


def gradient_weighting(
    mdp: MDP,
    policy: Any,
    *,
    steps: int | None = None,
    vjp: Callable[[Array], Array] | None = None,
) -> GradientWeighting:
    """Return the policy gradient with and without γᵗ.

    ::

        ∇η = Jᵀ (ρ π A)        g̃ = Jᵀ (n π A)        J = ∂z/∂θ

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : (S, A) array
        π, the softmax of the logits z.
    steps : int, optional
        T of `undiscounted_visits`; A_π is that of the endless process also then, a cut being bootstrapped.
    vjp : callable, optional
        (S, A) cotangent of the logits → gradient of the parameters, Jᵀ; the logits are the parameters unless given.
        For a network it is ``linearize(...).vjp``; for one row of logits that all states share, the sum over states.

    Returns
    -------
    GradientWeighting
        Return units per unit of parameter.

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, γ = 1, T < 1, or a state that is not terminal is visited for ever.

    Notes
    -----
    Convention: sums over an episode, not means over its rows: the mean differs by the expected length of an episode.

    Laws: the two agree where all visits are at t = 0, and as γ → 1; for tabular logits the cosine is positive, unless
    all that is learnt is learnt after T.

    References
    ----------
    [TRPO (4)], [Nota-Thomas]

    Examples
    --------
    >>> import numpy as np
    >>> uniform = np.full((4, 2), 0.5)
    >>> for vjp in (None, lambda z: z.sum(axis=0)):                      # tabular logits; one row that states share
    ...     print(f"{gradient_weighting(opposed_example(discount=0.5), uniform, vjp=vjp).cosine:.3f}")
    0.947
    -1.000
    """
    name = "gradient_weighting"
    pi = policy_table(name, "policy", mdp, policy)
    scalar(name, "mdp.discount", mdp.discount, below=1)
    visits = _visits(name, mdp, pi, steps)
    cotangents = (softmax_gradient(mdp, pi), visits[:, np.newaxis] * pi * evaluate(mdp, pi).advantages)
    weighted, unweighted = cotangents if vjp is None else (np.asarray(vjp(cotangent)) for cotangent in cotangents)
    sizes = np.linalg.norm(weighted), np.linalg.norm(unweighted)
    cosine = float(np.sum(weighted / sizes[0] * (unweighted / sizes[1]))) if all(sizes) else None
    return GradientWeighting(weighted, unweighted, cosine)


def undiscounted_visits(mdp: MDP, policy: Any, *, steps: int | None = None) -> Array:
    """Return the expected number of visits to each state in an episode.

    ::

        n = Σ_t d_t,    d_0 = ρ₀,    d_{t+1} = P_πᵀ d_t,    over states that are not terminal

    Parameters
    ----------
    mdp : MDP
        A state is terminal if every action stays there and pays nothing.  γ is not read.
    policy : (S, A) array
        π.
    steps : int, optional
        T, after which an episode is cut; never unless given.

    Returns
    -------
    (S,) array
        0 at terminal states.  Its sum is the expected length of an episode.

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, T < 1, or, where no T is given, a state is visited from which the
        policy never reaches a terminal one.

    References
    ----------
    [Nota-Thomas]

    Examples
    --------
    >>> coin = MDP(transition=[[[0.75, 0.25]], [[0.0, 1.0]]], reward=[[1.0], [0.0]], start=[1.0, 0.0], discount=0.9)
    >>> undiscounted_visits(coin, [[1.0], [1.0]])
    array([4., 0.])
    >>> undiscounted_visits(coin, [[1.0], [1.0]], steps=2)
    array([1.75, 0.  ])
    """
    name = "undiscounted_visits"
    return _visits(name, mdp, policy_table(name, "policy", mdp, policy), steps)


def _visits(function: str, mdp: MDP, pi: Array, steps: int | None) -> Array:
    S = mdp.states
    terminal = (mdp.transition[np.arange(S), :, np.arange(S)] == 1).all(axis=1) & (mdp.reward == 0).all(axis=1)
    if steps is not None:
        T = count(function, "steps", steps)
        return np.where(terminal, 0, evaluate_horizon(mdp, pi, T).state_distributions.sum(axis=0))
    P_pi = np.einsum("sa,sat->st", pi, mdp.transition)
    visited = _reached(P_pi, mdp.start > 0)
    stuck = visited & ~_reached(P_pi.T, terminal)
    if stuck.any():
        raise ValueError(
            f"{function}: state {np.flatnonzero(stuck)[0]} is visited for ever, expected a policy that ends every "
            "episode in a terminal state, or steps"
        )
    alive = visited & ~terminal
    n = np.zeros(S)
    n[alive] = np.linalg.solve(np.eye(alive.sum()) - P_pi[np.ix_(alive, alive)].T, mdp.start[alive])
    return n


def _reached(P: Array, start: Array) -> Array:
    reached = start
    for _ in range(len(P)):
        reached = reached | (reached @ P > 0)
    return reached


# ── examples ──────────────────────────────────────────────────────────────────────────────────────


def rotating_example(*, discount: float) -> MDP:
    """Return an MDP in which the direction without γᵗ is the gradient of no function.

    In state 0, action 1 goes on to state 1, and action 0 ends the episode and pays ½γ; in state 1, action 1 pays 1 and
    action 0 nothing, and the episode ends.  With p and q the probabilities of action 1, sigmoids of x and y ::

        η  = p γ q + (1 − p) ½γ
        ∇η = (γ p(1 − p) (q − ½),  γ p q(1 − q))
        g̃  = (γ p(1 − p) (q − ½),    p q(1 − q))

        ∂g̃_x/∂y − ∂g̃_y/∂x = −(1 − γ) p(1 − p) q(1 − q) < 0        everywhere: the field turns

    Parameters
    ----------
    discount : float
        γ < 1.

    Returns
    -------
    MDP
        Three states, of which state 2 is terminal.

    Raises
    ------
    ValueError
        If γ lies outside [0, 1).

    References
    ----------
    [Nota-Thomas]

    Examples
    --------
    >>> import numpy as np
    >>> gradient_weighting(rotating_example(discount=0.5), np.full((3, 2), 0.5)).unweighted[:2, 1].tolist()
    [0.0, 0.125]
    """
    gamma = scalar("rotating_example", "discount", discount, least=0, below=1)
    P = np.zeros((3, 2, 3))
    P[0, 1, 1] = P[0, 0, 2] = 1
    P[1:, :, 2] = 1
    return MDP(P, np.array([[gamma / 2, 0], [0, 1], [0, 0]]), np.eye(3)[0], gamma)


def opposed_example(*, discount: float) -> MDP:
    """Return an MDP in which the direction without γᵗ is downhill, for parameters that all states share.

    In state 0, action 0 leads to state 1 and action 1 to state 2, and nothing is paid.  There, action 1 costs
    ½(1 + γ); state 2 pays 1 for having been reached; then the episode ends.  With p the probability of action 1 in all
    three states, σ(x) ::

        η_γ'  = γ' p ½(1 − γ)               rises with p, for whatever discount γ' it is measured by
        ∂η/∂x =  γ ½(1 − γ) p(1 − p)
        g̃     =   −½(1 − γ) p(1 − p)

    Who follows g̃ ends at p = 0, the worst policy there is, by the discounted and by the undiscounted return.

    Parameters
    ----------
    discount : float
        γ < 1, by which the advantages are formed.

    Returns
    -------
    MDP
        Four states, of which state 3 is terminal.

    Raises
    ------
    ValueError
        If γ lies outside [0, 1).

    References
    ----------
    [Nota-Thomas]

    Examples
    --------
    >>> import numpy as np
    >>> z = gradient_weighting(opposed_example(discount=0.5), np.full((4, 2), 0.5), vjp=lambda z: z.sum(axis=0))
    >>> z.weighted.tolist(), z.unweighted.tolist()
    ([-0.03125, 0.03125], [0.0625, -0.0625])
    """
    gamma = scalar("opposed_example", "discount", discount, least=0, below=1)
    cost = (1 + gamma) / 2
    P = np.zeros((4, 2, 4))
    P[0, 0, 1] = P[0, 1, 2] = 1
    P[1:, :, 3] = 1
    return MDP(P, np.array([[0, 0], [0, -cost], [1, 1 - cost], [0, 0]]), np.eye(4)[0], gamma)
