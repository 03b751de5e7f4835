"""PPO's adaptive penalty: β is doubled and halved until the KL of an update is about what was asked for.

::

    max_θ L(θ) − β E_s KL(π_old ‖ π_θ)                β ← β/2  if KL < d/1.5,   2β  if KL > 1.5 d         [PPO (8)]

K steps of Adam on the exact objective, in a chain; then π_old ← π_θ.  The β whose solution has the KL d is known
beforehand, by duality, for the quadratic model of each iteration: √(gᵀF⁻¹g/(2d)).  The rule sees the KL alone, and
finds that β to within its factor of 2, whatever it starts from.  When all is learnt, K steps of Adam no longer reach d
and β falls for ever; that is not drawn.
"""

from typing import NamedTuple

import numpy as np

from refpg.geometry import fisher_rows, mean_kl, mean_kl_gradient
from refpg.mdp import chain
from refpg.notation import Array, count, scalar
from refpg.plots import page
from refpg.plots.page import Axes, Figure
from refpg.policy import log_prob, log_prob_vjp, softmax_policy
from refpg.solvers import solve_minimum_norm
from refpg.surrogate import kl_penalty_update, sampled_surrogate_gradient
from refpg.training import exact_batch
from refpg.updates import Adam, adam_step, surrogate_gradient

STATES, DISCOUNT, SLIP = 8, 0.9, 0.1
FIRST = (0.5, 50.0)  # β of the two runs, in units of the reward of one step per nat
EPOCHS, LEARNING_RATE = 40, 0.01
WINDOW = 1.5  # around d, in which β is kept


class Run(NamedTuple):
    """A run of PPO with an adaptive penalty.

    Fields: ``penalty`` (N,) β of each iteration, (1 − γ)η per nat; ``kl`` (N,) mean KL after it, nats; ``multiplier``
    (N,) the β whose solution has the KL d, by the quadratic model there.
    """

    penalty: Array
    kl: Array
    multiplier: Array


class Runs(NamedTuple):
    """Numbers of the figure ``penalty``.

    Fields: ``target`` d, nats; ``runs``, each a `Run`, from a penalty that is too small and from one that is too large.
    """

    target: float
    runs: tuple[Run, ...]


def numbers(target: float = 1e-3, iterations: int = 18) -> Runs:
    """Return β and the KL of both runs.

    Parameters
    ----------
    target : float
        d > 0, nats.
    iterations : int
        N.

    Returns
    -------
    Runs

    Raises
    ------
    ValueError
        If d ≤ 0, or ``iterations`` is not a positive integer.

    References
    ----------
    [PPO (8)], [PPO section 4]
    """
    d = scalar("penalty.numbers", "target", target, above=0)
    iterations = count("penalty.numbers", "iterations", iterations)
    mdp, x = chain(STATES, discount=DISCOUNT, slip=SLIP), np.eye(STATES)
    softmax = softmax_policy((STATES, 2))

    def run(beta: float) -> Run:
        theta = np.zeros(softmax.network.num_parameters)
        adam = Adam(np.zeros_like(theta), np.zeros_like(theta))
        seen = []
        for _ in range(iterations):
            policy, batch = exact_batch(mdp, softmax, theta, x)
            s, a, w, old = batch.observations, batch.actions, batch.weights, theta
            g = surrogate_gradient(policy, old, batch)
            natural = solve_minimum_norm(fisher_rows(policy, old, s, weights=w), g).x
            for _ in range(EPOCHS):
                log_p = log_prob(policy, theta, s, a)
                slope = sampled_surrogate_gradient(batch.old_log_prob, log_p, batch.advantages, weights=w)
                ascent = log_prob_vjp(policy, theta, s, a, slope)
                ascent -= beta * mean_kl_gradient(policy, old, theta, s, weights=w)
                theta, adam = adam_step(theta, -ascent, adam, learning_rate=LEARNING_RATE)
            kl = float(mean_kl(policy, old, theta, s, weights=w))
            seen.append((beta, kl, float(np.sqrt(g @ natural / (2 * d)))))
            beta = kl_penalty_update(beta, kl, d)
        return Run(*np.array(seen).T)

    return Runs(d, tuple(run(beta) for beta in FIRST))


def _panels(kls: Axes, penalties: Axes, run: Run, target: float) -> None:
    i = np.arange(1, len(run.kl) + 1)
    kls.set_title(rf"from $\beta = {run.penalty[0]:g}$", pad=4)
    kls.set(yscale="log", xlim=(0.5, len(i) + 0.5), ylim=(3e-6, 0.3))
    kls.axhspan(target / WINDOW, target * WINDOW, color="#E4E4E4", linewidth=0)
    kls.plot(i, run.kl, **page.GREEN.line)
    kls.plot(i, run.kl, "o", color=page.GREEN.colour, markersize=2.5)
    penalties.set(yscale="log", ylim=(0.3, 100))
    penalties.plot(i, run.multiplier, **page.BLACK.line)
    penalties.plot(i, run.penalty, **page.VERMILLION.line, drawstyle="steps-mid")
    penalties.set_xticks(range(0, len(i) + 1, 5)[1:])
    penalties.set_xlabel("iteration")
    kls.set_ylabel("mean KL of the update, nats")
    penalties.set_ylabel(r"penalty $\beta$")


@page.house_style
def draw(at: Runs) -> Figure:
    """Draw the KL above and β below, from a small β on the left and from a large one on the right.

    Parameters
    ----------
    at : Runs
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, panels = page.open_page(
        r"Halved and doubled, $\beta$ finds the multiplier of the trust region, and the KL its target",
        rows=2,
        columns=len(at.runs),
        height=4.4,
        right=0.75,
        between=(0.25, 1.25),
        share_x=True,
    )
    for kls, penalties, run in zip(panels[:2], panels[2:], at.runs, strict=True):
        _panels(kls, penalties, run, at.target)
        page.name_ends(kls, [("target", at.target, page.GREY)])
        page.name_ends(
            penalties,
            [("rule", run.penalty[-1], page.VERMILLION.colour), ("multiplier", run.multiplier[-1], "black")],
        )
    return figure
