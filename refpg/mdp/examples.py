"""MDPs to compute with: random ones, small worlds, and the pairs at which a bound is attained or a false one fails.

Random probabilities are whole multiples of 2⁻³⁰, so each row sums to exactly 1 and exact rational arithmetic sees the
same MDP as floating point.  Elsewhere probabilities are as given, or differ from 1 by one rounding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from refpg.mdp.model import MDP
from refpg.notation import Array, count, scalar

GRID = 2**30  # one over the smallest random probability


class PolicyPair(NamedTuple):
    """An example about two policies: ``mdp``, ``old`` π and ``new`` π', tables (S, A)."""

    mdp: MDP
    old: Array
    new: Array


# ── random ────────────────────────────────────────────────────────────────────────────────────────


def random_mdp(
    generator: np.random.Generator, *, states: int, actions: int, discount: float, concentration: float = 1.0
) -> MDP:
    """Draw an MDP in which every state can follow every other.

    Parameters
    ----------
    generator : numpy.random.Generator
        The only source of randomness.
    states, actions : int
        S and A.
    discount : float
        γ.
    concentration : float
        Of the Dirichlet distribution of each row and of the start; small values make rows nearly deterministic.

    Returns
    -------
    MDP
        Rewards are standard normal.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> random_mdp(np.random.default_rng(0), states=3, actions=2, discount=0.9).transition.shape
    (3, 2, 3)
    """
    S, A = count("random_mdp", "states", states), count("random_mdp", "actions", actions)
    concentration = scalar("random_mdp", "concentration", concentration, above=0)
    return MDP(
        transition=_dirichlet(generator, (S, A), S, concentration),
        reward=generator.normal(size=(S, A)),
        start=_dirichlet(generator, (), S, concentration),
        discount=discount,
    )


def random_policy(generator: np.random.Generator, *, states: int, actions: int, concentration: float = 1.0) -> Array:
    """Draw a policy, each state's row from a Dirichlet distribution.

    Parameters
    ----------
    generator : numpy.random.Generator
        The only source of randomness.
    states, actions : int
        S and A.
    concentration : float
        Small values make the policy nearly deterministic.

    Returns
    -------
    (S, A) array
        π(a|s).

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    S, A = count("random_policy", "states", states), count("random_policy", "actions", actions)
    return _dirichlet(generator, (S,), A, scalar("random_policy", "concentration", concentration, above=0))


def garnet(generator: np.random.Generator, *, states: int, actions: int, branching: int, discount: float) -> MDP:
    """Draw a Garnet: from each state, each action can lead to a few states only.

    Parameters
    ----------
    generator : numpy.random.Generator
        The only source of randomness.
    states, actions : int
        S and A.
    branching : int
        How many next states each (state, action) has, at most S; they are drawn without replacement.
    discount : float
        γ.

    Returns
    -------
    MDP
        The probabilities are the lengths of the pieces of [0, 1] between ``branching − 1`` uniform cuts; rewards are
        standard normal; the start is uniform, as closely as the grid of probabilities allows.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Convention: Garnets differ between papers in their rewards; here one per (state, action), as in [Garnet].

    References
    ----------
    [Garnet]

    Examples
    --------
    >>> mdp = garnet(np.random.default_rng(0), states=6, actions=2, branching=2, discount=0.9)
    >>> int((mdp.transition > 0).sum(axis=-1).max())
    2
    """
    S, A = count("garnet", "states", states), count("garnet", "actions", actions)
    b = count("garnet", "branching", branching)
    if b > S:
        raise ValueError(f"garnet: branching is {b}, expected at most states = {S}")
    P = np.zeros((S, A, S))
    for s in range(S):
        for a in range(A):
            cuts = np.sort(generator.integers(0, GRID, size=b - 1, endpoint=True))
            P[s, a, generator.choice(S, size=b, replace=False)] = np.diff([0, *cuts, GRID]) / GRID
    ends = np.arange(S + 1) * GRID // S
    return MDP(P, generator.normal(size=(S, A)), np.diff(ends) / GRID, discount)


def _dirichlet(generator: np.random.Generator, rows: tuple[int, ...], outcomes: int, concentration: float) -> Array:
    p = generator.dirichlet(np.full(outcomes, concentration), size=rows)
    return generator.multinomial(GRID, p) / GRID


# ── small worlds ──────────────────────────────────────────────────────────────────────────────────


def chain(states: int, *, discount: float, slip: float = 0.0) -> MDP:
    """Return a walk on a line from its left end, paid at its right end.

    Parameters
    ----------
    states : int
        S ≥ 2, from left to right.
    discount : float
        γ.
    slip : float
        Probability in [0, 1] of a step in the opposite direction.

    Returns
    -------
    MDP
        Action 0 goes left, action 1 right; a step off either end stays.  Acting in the last state pays 1.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> chain(3, discount=0.9).transition[1].tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    S = count("chain", "states", states, least=2)
    slip = scalar("chain", "slip", slip, least=0, most=1)
    P = np.zeros((S, 2, S))
    for s in range(S):
        left, right = max(s - 1, 0), min(s + 1, S - 1)
        for a, (meant, opposite) in enumerate(((left, right), (right, left))):
            P[s, a, meant] += 1 - slip
            P[s, a, opposite] += slip
    reward = np.zeros((S, 2))
    reward[-1] = 1
    return MDP(P, reward, np.eye(S)[0], discount)


def gridworld(
    layout: Sequence[str],
    *,
    discount: float,
    slip: float = 0.0,
    step_reward: float = 0.0,
    goal_reward: float = 1.0,
    cliff_reward: float = -100.0,
) -> MDP:
    """Return the MDP of a map.

    Parameters
    ----------
    layout : sequence of str
        The rows of the map: ``S`` a start, ``G`` a goal, ``C`` a cliff, ``#`` a wall, ``.`` free.
    discount : float
        γ.
    slip : float
        Probability in [0, 1] that the step goes to one of the two sides of its direction, half of it each.
    step_reward, goal_reward, cliff_reward : float
        What a step pays, by what it enters: a free cell (or a wall, which it does not enter), a goal, a cliff.

    Returns
    -------
    MDP
        States are the cells other than walls and cliffs, row by row; the actions are up, right, down, left.  A goal is
        never left again and pays nothing more.  A step into a cliff leads to the start; the start is uniform over
        the cells ``S``.

    Raises
    ------
    ValueError
        If the map is not a rectangle of these letters with a start, or a number is out of range.

    Examples
    --------
    >>> mdp = gridworld(["S.", "#G"], discount=0.9)
    >>> mdp.states, mdp.transition[1, 2].tolist(), float(mdp.reward[1, 2])
    (3, [0.0, 0.0, 1.0], 1.0)
    """
    name = "gridworld"
    slip = scalar(name, "slip", slip, least=0, most=1)
    pays = {
        "free": scalar(name, "step_reward", step_reward),
        "G": scalar(name, "goal_reward", goal_reward),
        "C": scalar(name, "cliff_reward", cliff_reward),
    }
    rows = list(layout)
    if len({len(row) for row in rows}) != 1 or set("".join(rows)) - set("SGC#.") or "S" not in "".join(rows):
        raise ValueError(f"{name}: layout is {rows!r}, expected rows of equal length of the letters S, G, C, # and .")
    cells = {(y, x): letter for y, row in enumerate(rows) for x, letter in enumerate(row)}
    index = {cell: n for n, cell in enumerate(cell for cell in cells if cells[cell] not in "#C")}
    S = len(index)
    start = np.array([float(cells[cell] == "S") for cell in index])
    start /= start.sum()

    P, r = np.zeros((S, 4, S)), np.zeros((S, 4))
    directions = ((-1, 0), (0, 1), (1, 0), (0, -1))
    for (y, x), s in index.items():
        for a in range(4):
            if cells[y, x] == "G":
                P[s, a, s] = 1
                continue
            for turn, probability in ((0, 1 - slip), (1, slip / 2), (-1, slip / 2)):
                dy, dx = directions[(a + turn) % 4]
                entered = (y + dy, x + dx)
                letter = cells.get(entered, "#")
                r[s, a] += probability * pays.get(letter, pays["free"])
                if letter == "C":
                    P[s, a] += probability * start
                else:
                    P[s, a, s if letter == "#" else index[entered]] += probability
    return MDP(P, r, start, discount)


def cliff(*, discount: float) -> MDP:
    """Return the cliff walk: 4 × 12 cells, −1 a step, −100 and back to the start for stepping into the cliff.

    Parameters
    ----------
    discount : float
        γ.

    Returns
    -------
    MDP
        The states and actions are those of `gridworld`; the start is state 36, the goal state 37.

    References
    ----------
    [SB section 6.5]

    Examples
    --------
    Along the edge the goal is 13 steps away:

    >>> from refpg.mdp.exact import evaluate
    >>> mdp = cliff(discount=0.5)
    >>> edge = np.zeros((38, 4))
    >>> edge[:, 1] = 1                                       # right ...
    >>> edge[36] = [1, 0, 0, 0]                              # ... but up from the start
    >>> edge[35] = [0, 0, 1, 0]                              # ... and down to the goal
    >>> float(evaluate(mdp, edge).expected_return) == -2 * (1 - 0.5**13)
    True
    """
    layout = ["." * 12] * 3 + ["S" + "C" * 10 + "G"]
    return gridworld(layout, discount=discount, step_reward=-1.0, goal_reward=-1.0, cliff_reward=-100.0)


def kakade_two_state(*, discount: float) -> MDP:
    """Return the two-state example on which the plain policy gradient stalls and the natural one does not.

    Staying in state 0 pays 1, staying in state 1 pays 2, changing pays nothing.  A policy that mostly stays in state 0
    seldom sees state 1, and its gradient there is small with ρ(1), though that is what it has to learn.

    Parameters
    ----------
    discount : float
        γ; the source maximises the average reward, which is (1 − γ)η for γ → 1.

    Returns
    -------
    MDP
        Action 0 stays, action 1 changes; the start is state 0 with probability 0.8.

    References
    ----------
    [K01]

    Examples
    --------
    >>> kakade_two_state(discount=0.9).reward.tolist()
    [[1.0, 0.0], [2.0, 0.0]]
    """
    stay, change = np.eye(2), np.eye(2)[::-1]
    return MDP(np.stack([stay, change], axis=1), np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([0.8, 0.2]), discount)


# ── bounds attained, and false bounds refuted ─────────────────────────────────────────────────────


def attained_mixture_example(*, discount: float, mixing: float) -> PolicyPair:
    """Return the pair at which the bound for mixtures of [KL02 Thm 4.1] is an equality.

    Two states, two actions.  In state 0, action 1 pays 1 and leads to state 1; there it pays −1; everything else stays
    and pays nothing.  The old policy always takes action 0, the new one takes action 1 with probability α in both
    states, so L sees a gain of α for ever where each visit to state 1 loses it ::

        η(π') − L(π') = −2γα²/((1 − γ)(1 − γ(1 − α)))

    Parameters
    ----------
    discount : float
        γ.
    mixing : float
        α in [0, 1]: π' = (1 − α)π + α π*, π* always taking action 1.

    Returns
    -------
    PolicyPair
        For α → 0 it attains the constants of [TRPO (6)] and [CPO Cor. 1] as well.

    Raises
    ------
    ValueError
        If α lies outside [0, 1].

    References
    ----------
    [KL02 Thm 4.1]
    """
    alpha = scalar("attained_mixture_example", "mixing", mixing, least=0, most=1)
    P = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    r = np.array([[0.0, 1.0], [0.0, -1.0]])
    old = np.array([[1.0, 0.0], [1.0, 0.0]])
    new = np.array([[1 - alpha, alpha], [1 - alpha, alpha]])
    return PolicyPair(MDP(P, r, np.array([1.0, 0.0]), discount), old, new)


def attained_total_variation_example(*, discount: float, shift: float) -> PolicyPair:
    """Return the pair at which the bound with the largest total variation, [TRPO Thm 1], is attained for α → 0.

    Two states, three actions.  Actions 0 and 1 stay and pay −1 and +1; the old policy takes each half of the time.
    Action 2 pays 1 and leads from state 0 to state 1, where it stays and pays nothing.  The new policy shifts α, in
    state 0 from action 0 to action 2, in state 1 from action 1 to action 0: the expected advantage is as large as a
    shift of α can make it, 2α, and changes its sign with the state ::

        η(π') − L(π') = −4γα²/((1 − γ)(1 − γ(1 − α))),          against −4γα²/(1 − γ)² of the bound

    Parameters
    ----------
    discount : float
        γ.
    shift : float
        α in [0, ½], the total variation in both states.

    Returns
    -------
    PolicyPair

    Raises
    ------
    ValueError
        If α lies outside [0, ½].

    References
    ----------
    [TRPO Thm 1]
    """
    alpha = scalar("attained_total_variation_example", "shift", shift, least=0, most=0.5)
    stay, leave = np.eye(2), np.array([[0.0, 1.0], [0.0, 1.0]])
    r = np.array([[-1.0, 1.0, 1.0], [-1.0, 1.0, 0.0]])
    old = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    new = np.array([[0.5 - alpha, 0.5, alpha], [0.5 + alpha, 0.5 - alpha, 0.0]])
    mdp = MDP(np.stack([stay, stay, leave], axis=1), r, np.array([1.0, 0.0]), discount)
    return PolicyPair(mdp, old, new)


def mean_total_variation_counterexample(*, discount: float, leaving: float) -> PolicyPair:
    """Return a pair that breaks the bound of [TRPO Thm 1] if its largest TV² is replaced by the mean TV².

    Two states.  State 0 pays nothing; its action 1 leads to state 1, for ever.  There action 0 pays 1 and action 1
    pays −1.  The old policy never leaves state 0, so it gives state 1 no weight; the new one leaves with probability β
    and always loses in state 1 ::

        η(π') = −βγ/((1 − γ)(1 − γ + γβ))          against −4γβ²/(1 − γ)² of the false bound

    Parameters
    ----------
    discount : float
        γ in (0, 1).
    leaving : float
        β in [0, 1]; the false bound is broken iff 4β(1 − γ + γβ) < 1 − γ, for every γ if β is small enough.

    Returns
    -------
    PolicyPair

    Raises
    ------
    ValueError
        If β lies outside [0, 1].

    Notes
    -----
    The new policy excludes an action of state 1 that the old one takes: there KL(old ‖ new) is infinite.
    """
    beta = scalar("mean_total_variation_counterexample", "leaving", leaving, least=0, most=1)
    P = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    r = np.array([[0.0, 0.0], [1.0, -1.0]])
    old = np.array([[1.0, 0.0], [0.5, 0.5]])
    new = np.array([[1 - beta, beta], [0.0, 1.0]])
    return PolicyPair(MDP(P, r, np.array([1.0, 0.0]), discount), old, new)


def mean_kl_counterexample(*, discount: float = 0.01) -> PolicyPair:
    """Return a pair that breaks the bound [TRPO (9)] if its largest KL is replaced by the mean KL.

    From state 0 actions 0 and 1 lead to states 1 and 2; there they pay −1 and 1 and lead to state 3, for ever and for
    nothing.  The old policy is uniform.  The new one goes to state 1 with 0.6, where it loses with 0.95, and to state 2
    with 0.4, where it wins with 0.95: L sees no change, but η falls by 0.18γ.

    Parameters
    ----------
    discount : float
        γ; states 1 and 2 have a weight of order γ in the mean, so the false bound is broken for small γ only.

    Returns
    -------
    PolicyPair
        At γ = 0.01: η(π') − η(π) = −0.0018, against −0.00116 of the false bound.
    """
    P = np.zeros((4, 2, 4))
    P[0] = [[0, 1, 0, 0], [0, 0, 1, 0]]
    P[1:, :, 3] = 1
    r = np.array([[0.0, 0.0], [-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]])
    old = np.full((4, 2), 0.5)
    new = np.array([[0.6, 0.4], [0.95, 0.05], [0.05, 0.95], [0.5, 0.5]])
    return PolicyPair(MDP(P, r, np.eye(4)[0], discount), old, new)
