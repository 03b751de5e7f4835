"""PPO's adaptive penalty: β is doubled and halved until the KL of an update is about what was asked for.

::

    max_θ L(θ) − β E_s KL(π_old ‖ π_θ)                β ← β/2  if KL < d/1.5,   2β  if KL > 1.5 d         [PPO (8)]

K steps of Adam on the exact objective, in a chain; then π_old ← π_θ.  The β that keeps the KL at d is known beforehand,
by duality, for the quadratic model of each iteration: √(gᵀF⁻¹g/(2d)).  The rule finds it by looking at the KL alone,
whatever it starts from.
"""

from typing import Any, NamedTuple

import numpy as np

from refpg.distributions import kl
from refpg.geometry import fisher_rows, mean_kl, mean_kl_gradient
from refpg.mdp import chain, evaluate
from refpg.notation import Array, count, scalar
from refpg.plots import page
from refpg.plots.page import Figure
from refpg.policy import log_prob, log_prob_vjp, probability_table, softmax_policy
from refpg.solvers import solve_minimum_norm
from refpg.surrogate import kl_penalized_objective_gradient, kl_penalty_update
from refpg.training import exact_batch
from refpg.updates import Adam, adam_step, surrogate_gradient

STATES, DISCOUNT, SLIP = 5, 0.7, 0.1
FIRST = (1e-3, 10.0)  # β of the two runs, return units of one step per nat
EPOCHS, LEARNING_RATE = 30, 0.05
WINDOW = 1.5


class Run(NamedTuple):
    """A run of PPO with an adaptive penalty.

    Fields: ``penalty`` (N,) β in each iteration, return units of one step per nat; ``kl`` (N,) mean KL after it, nats;
    ``dual`` (N,) the β of the quadratic model whose KL is the target; ``expected_return`` (N,) η after it.
    """

    penalty: Array
    kl: Array
    dual: Array
    expected_return: Array


class Runs(NamedTuple):
    """Numbers of the figure ``penalty``.

    Fields: ``target`` d, nats; ``runs``, each a `Run`, from a penalty that is too small and from one that is too large.
    """

    target: float
    runs: tuple[Run, ...]


def numbers(target: float = 0.01, iterations: int = 40) -> Runs:
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
    policy = softmax_policy((STATES, 2))

    def run(beta: float) -> Run:
        theta = np.zeros(policy.network.num_parameters)
        adam = Adam(np.zeros_like(theta), np.zeros_like(theta))
        rows = []
        for _ in range(iterations):
            rowwise, batch = exact_batch(mdp, policy, theta, x)
            at, old, w = batch.observations, theta, batch.weights
            g = surrogate_gradient(rowwise, old, batch)
            natural = solve_minimum_norm(fisher_rows(rowwise, old, at, weights=w), g).x
            for _ in range(EPOCHS):
                new = log_prob(rowwise, theta, at, batch.actions)
                L = log_prob_vjp(rowwise, theta, at, batch.actions, w * np.exp(new - batch.old_log_prob) * batch.advantages)
                ascent = L - beta * mean_kl_gradient(rowwise, old, theta, at, weights=w)
                theta, adam = adam_step(theta, -ascent, adam, learning_rate=LEARNING_RATE)
            reached = float(mean_kl(rowwise, old, theta, at, weights=w))
            eta = evaluate(mdp, probability_table(policy, theta, x)).expected_return
            rows.append((beta, reached, float(np.sqrt(g @ natural / (2 * d))), eta))
            beta = kl_penalty_update(beta, reached, d)
        return Run(*(np.array(column) for column in zip(*rows, strict=True)))

    return Runs(d, tuple(run(beta) for beta in FIRST))
