"""What an update sees of itself: L, L^CLIP, KL and η on the line from θ_old through the new θ, and beyond.

One step of PPO and one of TRPO from the same network in the same MDP, both with exact expectations
(`training.ppo`, `training.trpo`).  L is what TRPO believes it gains and L^CLIP what PPO does; η is what is gained.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.geometry import mean_kl
from refpg.mdp import evaluate, random_mdp
from refpg.network import initial_parameters
from refpg.notation import Array, count
from refpg.plots import page
from refpg.plots.page import Axes, Figure
from refpg.policy import log_prob, log_ratio, probability_table, softmax_policy
from refpg.surrogate import clipped_objective, surrogate_improvement
from refpg.training import exact_batch, ppo, trpo

CLIP, MAX_KL = 0.2, 0.01


class Line(NamedTuple):
    """The line through one update.

    Fields: ``scale`` (N,), 0 at θ_old and 1 at the new θ; gains over η(θ_old), return units: ``expected_return`` (N,),
    ``surrogate`` (N,) of L, ``clipped`` (N,) of L^CLIP; ``kl`` (N,) mean KL(old ‖ new), nats.
    """

    scale: Array
    expected_return: Array
    surrogate: Array
    clipped: Array
    kl: Array


class Lines(NamedTuple):
    """Numbers of the figure ``line``.

    Fields: ``ppo`` and ``trpo``, each a `Line`; ``clip`` ε; ``max_kl`` δ.
    """

    ppo: Line
    trpo: Line
    clip: float
    max_kl: float


def numbers(generator: np.random.Generator, *, points: int = 61) -> Lines:
    """Return the objectives along one PPO and one TRPO update.

    Parameters
    ----------
    generator : numpy.random.Generator
        Draws the MDP, of six states, the observations and θ_old.
    points : int
        N, of the grid over [0, 2].

    Returns
    -------
    Lines

    Raises
    ------
    ValueError
        If ``points`` is not at least 2.

    References
    ----------
    [PPO section 3], [TRPO App. C]
    """
    scale = np.linspace(0, 2, count("line.numbers", "points", points, least=2))
    mdp = random_mdp(generator, states=6, actions=3, discount=0.9, concentration=0.3)
    policy, x = softmax_policy((4, 8, 3)), generator.normal(size=(6, 4))
    theta = initial_parameters(policy.network, generator)

    def along(new: Any) -> Line:
        rowwise, batch = exact_batch(mdp, policy, theta, x)
        at = evaluate(mdp, probability_table(policy, theta, x))
        of_all = 1 / (1 - mdp.discount)  # the batch's weights are those of d, whose sum is 1

        def here(t: float) -> tuple[float, ...]:
            moved = theta + t * (new - theta)
            table = probability_table(policy, moved, x)
            log_r = log_ratio(rowwise, theta, moved, batch.observations, batch.actions)
            new_log_prob = log_prob(rowwise, moved, batch.observations, batch.actions)
            clipped = clipped_objective(batch.old_log_prob, new_log_prob, batch.advantages, CLIP, weights=batch.weights)
            return (
                evaluate(mdp, table).expected_return - at.expected_return,
                of_all * float(surrogate_improvement(log_r, batch.advantages, weights=batch.weights)),
                of_all * float(clipped),
                float(mean_kl(policy, theta, moved, x, weights=at.visitation_distribution)),
            )

        return Line(scale, *(np.array(column) for column in zip(*map(here, scale), strict=True)))

    (by_ppo,) = ppo(mdp, policy, theta, x, iterations=1, clip=CLIP, epochs=20, learning_rate=0.02)
    (by_trpo,) = trpo(mdp, policy, theta, x, iterations=1, max_kl=MAX_KL, damping=1e-3)
    return Lines(along(by_ppo.theta), along(by_trpo.theta), CLIP, MAX_KL)


def _panels(gains: Axes, kls: Axes, line: Line, title: str) -> None:
    gains.set_title(title, pad=4)
    gains.set(xlim=(0, 2))
    for axes in (gains, kls):
        axes.axvline(1, color=page.GREY, linewidth=0.6)
    gains.plot(line.scale, line.surrogate, **page.VERMILLION.line)
    gains.plot(line.scale, line.clipped, **page.BLUE.line)
    gains.plot(line.scale, line.expected_return, **page.BLACK.line)
    page.name_ends(
        gains,
        [
            ("$L$", line.surrogate[-1], page.VERMILLION.colour),
            (r"$L^{\mathrm{CLIP}}$", line.clipped[-1], page.BLUE.colour),
            (r"$\eta$", line.expected_return[-1], "black"),
        ],
    )
    kls.plot(line.scale, line.kl, **page.GREEN.line)
    kls.set_xticks([0, 1, 2], [r"$\theta_{\mathrm{old}}$", "update", "twice as far"])
    kls.set_xlabel("along the line through the update")


@page.house_style
def draw(at: Lines) -> Figure:
    """Draw the gains above and the KL below, PPO on the left and TRPO on the right.

    Parameters
    ----------
    at : Lines
        From `numbers`.

    Returns
    -------
    Figure
    """
    figure, (ppo_gains, trpo_gains, ppo_kl, trpo_kl) = page.open_page(
        r"An update stops where its own objective does: $L^{\mathrm{CLIP}}$ turns for PPO, the KL ends TRPO’s step",
        rows=2,
        columns=2,
        height=4.4,
        right=0.55,
        between=(0.25, 0.95),
        share_x=True,
    )
    _panels(ppo_gains, ppo_kl, at.ppo, rf"PPO, $\epsilon = {at.clip}$, 20 epochs")
    _panels(trpo_gains, trpo_kl, at.trpo, rf"TRPO, $\delta = {at.max_kl}$ nats")
    trpo_kl.axhline(at.max_kl, color=page.GREY, linewidth=0.6)
    page.name_ends(trpo_kl, [(r"$\delta$", at.max_kl, page.GREY)])
    for axes in (ppo_gains, trpo_gains):
        axes.set_ylabel("gain, return units")
    for axes in (ppo_kl, trpo_kl):
        axes.set_ylabel("mean KL, nats")
    return figure
