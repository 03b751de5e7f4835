"""The two-state example of [K01]: where the plain gradient stalls, and what a change of units does to it.

Staying in state 0 pays 1 and staying in state 1 pays 2.  At first the policy is mostly in state 0; the plain gradient
weighs every state by its visits, so it first learns to stay where less is paid, and by that sees the other state still
less.  Both gradients are followed continuously, dw/dt = g and dw/dt = F⁻¹g, in two units of the same policies ::

    logit of leaving:   x_0 = (1, 0),  x_1 = (0, c)          c = 1 and c = 3

The plain path depends on c.  The natural one cannot: F changes as g does.
"""

from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import expit

from refpg.mdp import evaluate, kakade_two_state
from refpg.notation import Array, count
from refpg.plots import page, worlds
from refpg.plots.page import Figure

DISCOUNT = 0.99
LEAVING = (0.2, 0.8)  # in state 0 and state 1, at first: four fifths of the time are spent in state 0
UNITS = (1.0, 3.0)
SOLVER = {"method": "LSODA", "rtol": 1e-7, "atol": 1e-7}


class Flow(NamedTuple):
    """A path from the first policy along one of the gradients.

    Fields: ``natural`` which; ``unit`` c; ``time`` (N,) t; ``staying`` (N, 2) π(stay|s); ``average_reward`` (N,)
    (1 − γ)η.
    """

    natural: bool
    unit: float
    time: Array
    staying: Array
    average_reward: Array


class Flows(NamedTuple):
    """Numbers of the figure ``natural``.

    Fields: ``flows`` plain and natural, each in both units; ``staying`` (M,) the grid of π(stay|s);
    ``average_reward`` (M, M) there, state 1 by rows.
    """

    flows: tuple[Flow, ...]
    staying: Array
    average_reward: Array


def _staying(w: Array, x: Array) -> Array:
    return expit(-w @ x.T)


def numbers(points: int = 361, grid: int = 41) -> Flows:
    """Return the paths of both gradients in both units, and the average reward over all policies.

    Parameters
    ----------
    points : int
        N, of times: from 10⁻² to 10⁴, and to 30 for the natural gradient, which by then is there.
    grid : int
        M.

    Returns
    -------
    Flows

    Raises
    ------
    ValueError
        If a number is not at least 2.

    References
    ----------
    [K01]
    """
    mdp = kakade_two_state(discount=DISCOUNT)
    points = count("natural.numbers", "points", points, least=2)
    p = np.linspace(0.01, 0.99, count("natural.numbers", "grid", grid, least=2))
    logits = np.log(np.array(LEAVING) / (1 - np.array(LEAVING)))

    def average_reward(staying: Array) -> float:
        return (1 - DISCOUNT) * evaluate(mdp, np.stack([staying, 1 - staying], axis=1)).expected_return

    def flow(natural: bool, unit: float) -> Flow:
        x = np.diag([1.0, unit])
        log_t = np.linspace(np.log(1e-2), np.log(30 if natural else 1e4), points)

        def velocity(u: float, w: Array) -> Array:  # by u = log t: dw/du = t dw/dt
            at = worlds.slope(mdp, w, x)
            g = (1 - DISCOUNT) * at.gradient
            direction = np.linalg.solve(at.fisher, g) if natural else g
            return np.asarray(np.exp(u) * direction)

        path = solve_ivp(velocity, (log_t[0], log_t[-1]), logits / np.diag(x), t_eval=log_t, **SOLVER).y.T
        staying = _staying(path, x)
        return Flow(natural, unit, np.exp(log_t), staying, np.array([average_reward(row) for row in staying]))

    return Flows(
        flows=tuple(flow(natural, unit) for natural in (False, True) for unit in UNITS),
        staying=p,
        average_reward=np.array([[average_reward(np.array([first, second])) for first in p] for second in p]),
    )


@page.house_style
def draw(at: Flows) -> Figure:
    """Draw the paths among all policies, and what they earn over time.

    Parameters
    ----------
    at : Flows
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (plane, earned) = page.open_page(
        "The plain gradient’s path depends on units and may stall; the natural gradient’s does not",
        columns=2,
        height=3.5,
        right=0.3,
    )
    levels = plane.contour(
        at.staying, at.staying, at.average_reward, [0.25, 0.5, 0.75, 1.0, 1.25, 1.5], colors="#B4B4B4", linewidths=0.6
    )
    column = at.average_reward[:, len(at.staying) // 5]
    beside = [(at.staying[len(at.staying) // 5], np.interp(level, column, at.staying)) for level in levels.levels]
    plane.clabel(levels, fontsize=6.5, colors=page.GREY, manual=beside)
    plane.set(aspect="equal", xlim=(0, 1), ylim=(0, 1.02))
    plane.set_xlabel("probability of staying in state 0")
    plane.set_ylabel("probability of staying in state 1")
    earned.set(xscale="log", xlim=(1e-2, 1e4), ylim=(0.6, 2.1))
    earned.axhline(1, color=page.GREY, linewidth=0.6)
    earned.set_xlabel("time along the gradient")
    earned.set_ylabel(r"average reward $(1-\gamma)\,\eta$")
    inks = {(False, UNITS[0]): page.VERMILLION, (False, UNITS[1]): page.PURPLE, (True, UNITS[0]): page.BLUE}
    for flow in at.flows:
        every = len(flow.time) // 12
        if (flow.natural, flow.unit) in inks:
            ink = inks[flow.natural, flow.unit]
            plane.plot(*flow.staying.T, **ink.line)
            earned.plot(flow.time, flow.average_reward, **ink.line)
        else:  # the natural path in other units is the same; dots show that it is there
            plane.plot(*flow.staying[::every].T, "o", color=page.BLUE.colour, markersize=3.5)
            earned.plot(flow.time[::every], flow.average_reward[::every], "o", color=page.BLUE.colour, markersize=3.5)
    slow, fast = at.flows[:2]
    page.note(
        plane, f"plain, $c = {slow.unit:g}$", (0.99, 0.2), (0, -16), page.VERMILLION.colour, ha="right", over=True
    )
    page.note(plane, f"plain, $c = {fast.unit:g}$", (0.83, 0.5), (-5, 0), page.PURPLE.colour, ha="right", over=True)
    page.note(plane, "natural", (0.3, 1.0), (0, -10), page.BLUE.colour, ha="center", over=True)
    page.note(earned, f"plain, $c = {slow.unit:g}$", (230, 1.5), (5, 0), page.VERMILLION.colour)
    page.note(earned, f"plain, $c = {fast.unit:g}$", (3.4, 1.4), (5, 0), page.PURPLE.colour)
    page.note(earned, "natural,\nany $c$", (1.6, 1.6), (-8, 0), page.BLUE.colour, ha="right")
    plane.plot(*at.flows[0].staying[0], "o", color="black", markerfacecolor="white", zorder=5)
    return figure
