"""Oracle learning curves: every loop of `refpg.training` on one MDP, with exact expectations.

These are the curves an algorithm would have with infinitely many samples.  What is drawn is the distance to the best
return, max η − η, in log–log: minorize–maximization is guaranteed never to fall, and pays for it with speed.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from refpg import training as loops
from refpg.mdp import MDP, chain, evaluate
from refpg.notation import Array, count
from refpg.plots import page
from refpg.plots.page import Figure
from refpg.policy import softmax_policy
from refpg.training import Iteration
from refpg.updates import greedy_step

STATES, DISCOUNT, SLIP = 5, 0.7, 0.1
MAX_KL, DAMPING, CLIP, TEMPERATURE = 0.01, 1e-2, 0.2, 0.5

NAMES = {
    "mm": ("MM", page.VERMILLION),
    "cpi": ("CPI", page.BROWN),
    "mdpo": ("MDPO", page.GREEN),
    "npg": ("NPG", page.BLUE),
    "trpo": ("TRPO", page.BLACK),
    "ppo": ("PPO", page.PURPLE),
}


class LearningCurves(NamedTuple):
    """Numbers of the figure ``training``.

    Fields: ``first`` η(π_0), of the uniform policy; ``best`` max η; ``returns`` name → (N,) η after 1 … N iterations.
    """

    first: float
    best: float
    returns: dict[str, Array]


def _best(mdp: MDP) -> float:
    policy = np.full((mdp.states, mdp.actions), 1 / mdp.actions)
    while True:  # policy iteration: finitely many tables, each better than the last
        at = evaluate(mdp, policy)
        better = greedy_step(policy, at.advantages)
        if (better == policy).all():
            return at.expected_return
        policy = better


def numbers(iterations: int = 150) -> LearningCurves:
    """Return η of every loop at every iteration, from the uniform policy of a chain.

    Parameters
    ----------
    iterations : int
        N.

    Returns
    -------
    LearningCurves

    Raises
    ------
    ValueError
        If ``iterations`` is not a positive integer.

    References
    ----------
    [TRPO Alg. 1], [KL02 Thm 4.1], [MDPO], [K01], [TRPO App. C], [PPO Alg. 1]
    """
    n = count("training.numbers", "iterations", iterations)
    mdp = chain(STATES, discount=DISCOUNT, slip=SLIP)
    uniform = np.full((STATES, 2), 0.5)
    policy, x = softmax_policy((STATES, 2)), np.eye(STATES)
    theta = np.zeros(policy.network.num_parameters)
    runs: dict[str, Iterator[Iteration]] = {
        "mm": loops.mm(mdp, uniform, iterations=n),
        "cpi": loops.conservative_policy_iteration(mdp, uniform, iterations=n),
        "mdpo": loops.mdpo(mdp, uniform, iterations=n, temperature=TEMPERATURE),
        "npg": loops.natural_policy_gradient(mdp, policy, theta, x, iterations=n, max_kl=MAX_KL, damping=DAMPING),
        "trpo": loops.trpo(mdp, policy, theta, x, iterations=n, max_kl=MAX_KL, damping=DAMPING),
        "ppo": loops.ppo(mdp, policy, theta, x, iterations=n, clip=CLIP, epochs=10, learning_rate=0.03),
    }
    return LearningCurves(
        first=evaluate(mdp, uniform).expected_return,
        best=_best(mdp),
        returns={name: np.array([record.expected_return for record in run]) for name, run in runs.items()},
    )


@page.house_style
def draw(at: LearningCurves) -> Figure:
    """Draw the distance of every loop to the best return.

    Parameters
    ----------
    at : LearningCurves
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (axes,) = page.open_page("With exact gradients every loop learns; the guarantee costs speed", right=0.7)
    iterations = len(next(iter(at.returns.values())))
    i = np.arange(1, iterations + 1)
    floor = 1e-6 * (at.best - at.first)
    axes.set(xscale="log", yscale="log", xlim=(1, iterations), ylim=(floor, 2 * (at.best - at.first)))
    ends = []
    for key, (name, ink) in NAMES.items():
        off = at.best - at.returns[key]
        seen = slice(None, int(np.argmax(off < floor)) + 1 if (off < floor).any() else None)
        dots = {"marker": "o", "linestyle": "", "color": ink.colour, "markerfacecolor": "none"}
        axes.plot(i[seen], np.maximum(off[seen], floor / 10), **(dots if key == "npg" else ink.line))  # on TRPO's line
        if off[-1] >= floor:
            ends.append((name, off[-1], ink.colour))
        else:
            side = 1 if key == "npg" else -1
            page.note(axes, name, (i[seen][-1], floor), (6 * side, 8), ink.colour, ha="left" if side > 0 else "right")
    axes.set_xlabel("iteration")
    axes.set_ylabel(r"distance to the best return, $\max\,\eta - \eta$")
    page.name_ends(axes, ends)
    return figure
