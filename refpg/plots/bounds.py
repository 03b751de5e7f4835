"""Every lower bound of η on the way from a policy to the greedy one, and how far below η each lies.

    π_α = (1 − α)π + α π*,   π*(s) = argmax_a A_π(s,a)          L − penalty ≤ η(π_α)

All penalties of `refpg.bounds` vanish with α², as η − L does: near π they are parallel in log–log, and what tells
them apart is the constant.
"""

from typing import NamedTuple

import numpy as np

from refpg.bounds import PENALTIES, all_bounds
from refpg.mdp import evaluate, random_mdp, random_policy
from refpg.notation import Array, count
from refpg.plots import page
from refpg.plots.page import Figure
from refpg.updates import greedy_step, mixture_step

NAMES = {
    "span": "span",
    "cpo": "CPO",
    "trpo_tv": r"max TV$^2$",
    "pinsker": r"$C/2\ $max KL",
    "trpo_kl": r"$C\ $max KL",
    "cpo_kl": r"mean KL$^{1/2}$",
}
BRIEF = {"trpo_tv": r"TV$^2$", "pinsker": r"$C/2$", "trpo_kl": "$C$"}  # where curves are close
INKS = {
    "span": page.BLUE,
    "cpo": page.GREEN,
    "trpo_tv": page.PURPLE,
    "pinsker": page.BROWN,
    "trpo_kl": page.VERMILLION,
    "cpo_kl": page.Ink(page.GREY, (9.0, 2.0)),
}


class LowerBounds(NamedTuple):
    """Numbers of the figure ``bounds``.

    Fields: ``mixing`` (N,) α; ``gain`` (N,) η(π_α) − η(π); ``guaranteed`` name → (N,), L − penalty − η(π); ``slack``
    name → (N,), η − (L − penalty), computed without cancellation; ``gap`` (N,) η − L.
    """

    mixing: Array
    gain: Array
    guaranteed: dict[str, Array]
    slack: dict[str, Array]
    gap: Array


def numbers(generator: np.random.Generator, *, points: int = 61) -> LowerBounds:
    """Return the bounds along the way to the greedy policy in a random MDP.

    Parameters
    ----------
    generator : numpy.random.Generator
        Draws the MDP, of four states, and π.
    points : int
        N, of the grid over α, which is logarithmic.

    Returns
    -------
    LowerBounds

    Raises
    ------
    ValueError
        If ``points`` is not at least 2.

    References
    ----------
    [TRPO (9)], [CPO Cor. 1]
    """
    mdp = random_mdp(generator, states=4, actions=3, discount=0.5)
    old = random_policy(generator, states=4, actions=3, concentration=2.0)
    target = greedy_step(old, evaluate(mdp, old).advantages)
    alpha = np.logspace(-3, np.log10(0.6), count("bounds.numbers", "points", points, least=2))
    found = [all_bounds(mdp, old, mixture_step(old, target, float(a))) for a in alpha]
    return LowerBounds(
        mixing=alpha,
        gain=np.array([bounds["span"].gain for bounds in found]),
        guaranteed={name: np.array([bounds[name].guaranteed_gain for bounds in found]) for name in PENALTIES},
        slack={name: np.array([bounds[name].slack for bounds in found]) for name in PENALTIES},
        gap=np.array([bounds["span"].gap for bounds in found]),
    )


@page.house_style
def draw(at: LowerBounds) -> Figure:
    """Draw the gain with all that is guaranteed of it, and the slack of each bound.

    Parameters
    ----------
    at : LowerBounds
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (gains, slacks) = page.open_page(
        r"Every bound lies below $\eta$ and touches it at $\pi$; they differ by constants, and in a fixed order",
        columns=2,
        widths=(1.35, 1),
        right=0.85,
        between=(0.6, 1.3),
    )
    near = at.mixing <= 0.25
    alpha, highest = at.mixing[near], float(at.gain[near].max())
    low = -0.35 * highest
    gains.set(xlim=(0, alpha[-1]), ylim=(low, 1.05 * highest))
    gains.plot(alpha, at.gain[near], **page.BLACK.line, linewidth=2.0)
    ends = [(r"$\eta$", float(at.gain[near][-1]), "black")]
    leaving = 0
    for name, ink in reversed(INKS.items()):
        curve = at.guaranteed[name][near]
        gains.plot(alpha, curve, **ink.line)
        if curve[-1] >= low:
            ends.append((NAMES[name], float(curve[-1]), ink.colour))
        else:  # it leaves the panel: beside it, each name a line above the last
            height = low + (0.06 + 0.06 * leaving) * (highest - low)
            where = float(alpha[curve >= height][-1]), height
            page.note(gains, BRIEF.get(name, NAMES[name]), where, (5, 0), ink.colour, over=True)
            leaving += 1
    gains.axhline(0, color=page.GREY, linewidth=0.6)
    gains.set_xlabel(r"mixing $\alpha$: $(1-\alpha)\,\pi + \alpha\,\pi_{\mathrm{greedy}}$")
    gains.set_ylabel(r"gain over $\eta(\pi)$, and what is guaranteed of it")
    page.name_ends(gains, ends)

    slacks.set(xscale="log", yscale="log", xlim=(at.mixing[0], at.mixing[-1]))
    for name, ink in INKS.items():
        slacks.plot(at.mixing, at.slack[name], **ink.line)
    slacks.set_xlabel(r"mixing $\alpha$")
    slacks.set_ylabel(r"slack: $\eta$ $-$ lower bound")
    page.name_ends(slacks, [(NAMES[name], float(at.slack[name][-1]), ink.colour) for name, ink in INKS.items()])
    return figure
