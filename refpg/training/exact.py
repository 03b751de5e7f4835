"""The loops with exact expectations: from policy to policy on a finite MDP, one record per iteration.

g, L, KL and F are expectations over the states and actions of the MDP, and nothing is drawn.  These are the learning
curves that an algorithm would have with infinitely many samples; what a sampled run loses against them is its
estimation error.

A loop is a generator and makes one update per iteration.  Every record compares the new policy with the one before it:
η, L, the article's M with its C, and the KL.  Of `mm`, `parametric_mm`, `mdpo` and `conservative_policy_iteration` the
theory promises that η does not fall, and a loop that saw it fall would raise `NotMonotone`.  Of the others it does not:
their records say by how much M was missed.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from refpg.bounds import Bound, compare, penalty_coefficient, state_mean
from refpg.mdp import MDP, Evaluation, evaluate, policy_table
from refpg.notation import Array, bind_shapes, choice, count, scalar
from refpg.policy import Batch, Policy, log_prob, probability_table
from refpg.updates import (
    ACCEPTANCE,
    METHODS,
    Adam,
    conservative_mixing,
    greedy_step,
    mirror_descent_step,
    mixture_step,
    mm_step,
    natural_gradient_step,
    parametric_mm_step,
    ppo_update,
    surrogate_gradient,
    trpo_step,
)

Point = TypeVar("Point")

MINORIZERS = {"trpo_kl": 1.0, "pinsker": 0.5}  # by the names of `refpg.bounds`: what multiplies 4εγ/(1 − γ)²


class Standing(NamedTuple):
    """All that an exact loop goes on from.

    Fields: ``iteration`` made so far; ``point`` the policy: a table (S, A), or θ (P,) of a network; ``adam`` the state
    of PPO's optimiser, None for all other loops and before its first step.
    """

    iteration: int
    point: Array
    adam: Adam | None = None


class NotMonotone(ArithmeticError):
    """An objective fell, or a minorizer was none, where the theory says that this cannot be: something is wrong."""


class MMIterate(NamedTuple, Generic[Point]):
    """One iteration of the minorize–maximization algorithm.

    Fields: ``iteration`` from 1; ``point`` the new one; ``objective`` η there; ``minorizer`` M there; ``slack``
    η − M ≥ 0, what the minorizer did not promise.
    """

    iteration: int
    point: Point
    objective: float
    minorizer: float
    slack: float


class Iteration(NamedTuple):
    """One iteration of a loop: the new policy π', compared with the policy π before it.

    Fields: ``iteration`` from 1; ``policy`` the table π' (S, A); ``theta`` θ' (P,) of a network, else None;
    ``old_return`` η(π); ``expected_return`` η(π'); ``gain`` η(π') − η(π), to full relative accuracy; ``surrogate``
    L_π(π'); ``minorizer`` M_π(π') = L − C max KL, −∞ where the KL is infinite; ``guaranteed_gain`` M_π(π') − η(π);
    ``slack`` η(π') − M_π(π') ≥ 0; ``penalty`` C; ``max_kl`` and ``mean_kl`` of KL(π ‖ π') over all states and over
    d_π, nats; ``step`` the update's own record, or None; ``ending`` how the update ended, None where it can end in one
    way only.
    """

    iteration: int
    policy: Array
    theta: Array | None
    old_return: float
    expected_return: float
    gain: float
    surrogate: float
    minorizer: float
    guaranteed_gain: float
    slack: float
    penalty: float
    max_kl: float
    mean_kl: float
    step: Any
    ending: Enum | None


def standing(record: Iteration) -> Standing:
    """Return where a loop stands after an iteration.

    Parameters
    ----------
    record : Iteration
        Of any exact loop.

    Returns
    -------
    Standing
        A loop that is begun at its ``point`` (PPO: with its ``adam`` besides) makes the iterations that would have
        followed, bit for bit; it counts them from 1 again.
    """
    point = record.policy if record.theta is None else record.theta
    return Standing(record.iteration, point, getattr(record.step, "adam", None))


# ── the algorithm behind all others ───────────────────────────────────────────────────────────────


def minorize_maximize(
    objective: Callable[[Point], float],
    minorizer: Callable[[Point], Callable[[Point], float]],
    maximizer: Callable[[Callable[[Point], float], Point], Point],
    start: Point,
    *,
    iterations: int,
    tolerance: float = 0.0,
) -> Iterator[MMIterate[Point]]:
    """Maximise an objective by maximising, again and again, a function below it that touches it where one stands.

    ::

        M_i = minorizer(x_i):   M_i ≤ η,   M_i(x_i) = η(x_i)          x_{i+1} = argmax M_i

        η(x_{i+1}) ≥ M_i(x_{i+1}) ≥ M_i(x_i) = η(x_i)

    Parameters
    ----------
    objective : callable
        x → η(x).
    minorizer : callable
        x → M, itself a function of a point.
    maximizer : callable
        (M, x) → the next point: the maximum of M, or any point where M is not lower than at x.
    start : object
        x_0, of any type.
    iterations : int
        How many.
    tolerance : float
        By how much rounding may break the three relations of the second line.

    Returns
    -------
    iterator of MMIterate

    Raises
    ------
    NotMonotone
        While iterating, if M does not touch η at x_i, is lower at x_{i+1} than at x_i, or is above η there.

    References
    ----------
    [TRPO (10)], [Hui]

    Examples
    --------
    The maximum of −x² + 2 cos x; its second derivative is at least −4, so M is a parabola that steep:

    >>> import math
    >>> def objective(x):
    ...     return -x * x + 2 * math.cos(x)
    >>> def minorizer(x):
    ...     slope = -2 * x - 2 * math.sin(x)
    ...     return lambda y: objective(x) + slope * (y - x) - 2 * (y - x) ** 2
    >>> def maximizer(M, x):
    ...     return x - (x + math.sin(x)) / 2
    >>> loop = minorize_maximize(objective, minorizer, maximizer, 2.0, iterations=4, tolerance=1e-15)
    >>> [round(iterate.point, 3) for iterate in loop]
    [0.545, 0.013, 0.0, 0.0]
    """
    name = "minorize_maximize"
    iterations = count(name, "iterations", iterations, least=0)
    tolerance = scalar(name, "tolerance", tolerance, least=0)

    def run() -> Iterator[MMIterate[Point]]:
        x, value = start, objective(start)
        for i in range(1, iterations + 1):
            M = minorizer(x)
            touch = M(x)
            if not abs(touch - value) <= tolerance:
                raise NotMonotone(f"{name}: at iteration {i} the minorizer is {touch!r}, the objective {value!r}")
            y = maximizer(M, x)
            bound, new = M(y), objective(y)
            if not (bound >= value - tolerance and new >= bound - tolerance):
                raise NotMonotone(
                    f"{name}: at iteration {i} the objective goes from {value!r} to {new!r} and the minorizer to "
                    f"{bound!r}, expected the minorizer between the two"
                )
            yield MMIterate(i, y, new, bound, new - bound)
            x, value = y, new

    return run()


# ── exact batches and records ─────────────────────────────────────────────────────────────────────


def exact_batch(mdp: MDP, policy: Policy, theta: Any, x: Any) -> tuple[Policy, Batch]:
    """Return every possible (state, action) as a batch, weighted so that its means are the expectations.

    ::

        weights d_π(s) π_θ(a|s)          advantages A_π(s,a)

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : Policy
        A policy whose family is categorical or masked categorical.
    theta : (P,) array
        Parameters θ.
    x : (S, D) array
        One row of observations per state.

    Returns
    -------
    policy : Policy
        The policy with one row per (state, action): it differs from the one given where the family knows its rows.
    batch : Batch
        With ``old_log_prob`` at θ.

    Raises
    ------
    ValueError
        If a shape disagrees, the family has no table, or γ = 1.

    Notes
    -----
    Convention: weights are normalised, so means are (1 − γ) times sums over ρ; log-probabilities are those at θ.

    References
    ----------
    [TRPO (14)]

    Examples
    --------
    >>> import numpy as np
    >>> import refpg
    >>> mdp = refpg.mdp.chain(3, discount=0.5)
    >>> policy = refpg.policy.softmax_policy((3, 2))
    >>> _, batch = exact_batch(mdp, policy, np.zeros(8), np.eye(3))
    >>> len(batch.actions), abs(float(batch.weights @ batch.advantages)) < 1e-15
    (6, True)
    """
    table = _table("exact_batch", mdp, policy, theta, x)
    return _exact_batch(policy, theta, x, table, evaluate(mdp, table))


def _exact_batch(policy: Policy, theta: Any, x: Any, table: Array, at: Evaluation) -> tuple[Policy, Batch]:
    state, action = np.nonzero(table)
    weights = at.visitation_distribution[state] * table[state, action]
    rowwise = policy._replace(family=policy.family.rows(state))
    observations = np.asarray(x)[state]
    return rowwise, Batch(
        observations=observations,
        actions=action,
        advantages=at.advantages[state, action],
        old_log_prob=log_prob(rowwise, theta, observations, action),
        weights=weights / weights.sum(),
    )


def _table(function: str, mdp: MDP, policy: Policy, theta: Any, x: Any) -> Array:
    bind_shapes(function, {**policy.sizes, "S": mdp.states}, theta=(theta, "P"), x=(x, "S D"))
    return policy_table(function, "policy", mdp, probability_table(policy, theta, x))


def _iteration(
    i: int, mdp: MDP, old: Array, new: Array, theta: Array | None, step: Any, *, bound: str = "trpo_kl"
) -> Iteration:
    seen = compare(mdp, old, new)
    C = MINORIZERS[bound] * penalty_coefficient(seen.advantages, mdp.discount)
    max_kl = float(seen.kl.max())
    # 0 · ∞ = 0: where nothing is at stake, or γ = 0, an infinite KL costs nothing.
    at = Bound(seen.old_return, seen.surrogate_gain, seen.gap, C * max_kl if C else 0.0)
    return Iteration(
        iteration=i,
        policy=new,
        theta=theta,
        old_return=at.old_return,
        expected_return=at.new_return,
        gain=at.gain,
        surrogate=at.surrogate,
        minorizer=at.lower,
        guaranteed_gain=at.guaranteed_gain,
        slack=at.slack,
        penalty=C,
        max_kl=max_kl,
        mean_kl=state_mean(seen.kl, seen.weights),
        step=step,
        ending=getattr(step, "ending", None),
    )


def _rising(function: str, mdp: MDP, old: Array, here: Iteration, *, guaranteed: bool) -> Iteration:
    """Return a record in which η rose, or M where it is to rise first; rounding of the new table is forgiven."""
    S, A = here.policy.shape
    size = float(np.abs(evaluate(mdp, old).advantages).max()) / (1 - mdp.discount)
    rounding = 16 * (S + A) * np.finfo(np.float64).eps * size
    least = min(here.gain, here.guaranteed_gain) if guaranteed else here.gain
    if not least >= -rounding:
        raise NotMonotone(
            f"{function}: at iteration {here.iteration} η rises by {here.gain!r} and M by {here.guaranteed_gain!r}, "
            f"expected at least 0 within {rounding:.1e}"
        )
    return here


# ── tables ────────────────────────────────────────────────────────────────────────────────────────


def mm(mdp: MDP, policy: Any, *, iterations: int, bound: str = "trpo_kl") -> Iterator[Iteration]:
    """Iterate the policy by maximising the article's lower bound, exactly.

    ::

        π_{i+1} = argmax_π L_{π_i}(π) − C max_s KL(π_i ‖ π),   C = 4εγ/(1 − γ)²,   ε = max |A_{π_i}|

        η(π_{i+1}) ≥ M_i(π_{i+1}) ≥ M_i(π_i) = η(π_i)

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : (S, A) array
        π_0.
    iterations : int
        How many.
    bound : {"trpo_kl", "pinsker"}
        C as printed, or the half of it that Pinsker's inequality allows.

    Returns
    -------
    iterator of Iteration
        With ``step`` of type `refpg.updates.MMStep`.

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, γ = 1, or a name is unknown.
    NotMonotone
        While iterating, if M or η fell.

    Notes
    -----
    C is that of the theory, and makes steps of at most about ((1 − γ)/γ)²/32 nats: the guarantee costs speed.

    References
    ----------
    [TRPO Alg. 1], [Hui]

    Examples
    --------
    >>> import numpy as np
    >>> import refpg
    >>> mdp = refpg.mdp.chain(4, discount=0.5)
    >>> records = list(mm(mdp, np.full((4, 2), 0.5), iterations=50))
    >>> all(later.expected_return > earlier.expected_return for earlier, later in zip(records, records[1:]))
    True
    """
    name = "mm"
    table = _start(name, mdp, policy)
    iterations = count(name, "iterations", iterations, least=0)
    choice(name, "bound", bound, tuple(MINORIZERS))

    def run(table: Array) -> Iterator[Iteration]:
        for i in range(1, iterations + 1):
            at = evaluate(mdp, table)
            C = MINORIZERS[bound] * penalty_coefficient(at.advantages, mdp.discount)
            new, step = mm_step(table, at.advantages, at.visitation, C)
            here = _iteration(i, mdp, table, new, None, step, bound=bound)
            yield _rising(name, mdp, table, here, guaranteed=True)
            table = new

    return run(table)


def _start(function: str, mdp: MDP, policy: Any) -> Array:
    scalar(function, "mdp.discount", mdp.discount, below=1)
    return policy_table(function, "policy", mdp, policy)


def conservative_policy_iteration(mdp: MDP, policy: Any, *, iterations: int) -> Iterator[Iteration]:
    """Iterate the policy by small steps towards the greedy policy, each the one of the largest guarantee.

    ::

        π_{i+1} = (1 − α)π_i + α π*,   π*(s) = argmax_a A_{π_i}(s,a)          α from `refpg.updates.conservative_mixing`

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : (S, A) array
        π_0.
    iterations : int
        How many.

    Returns
    -------
    iterator of Iteration
        With ``step`` the α.  C and M are TRPO's, for comparison; the guarantee is [KL02 Thm 4.1].

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, or γ = 1.
    NotMonotone
        While iterating, if η fell.

    References
    ----------
    [KL02 Thm 4.1]
    """
    name = "conservative_policy_iteration"
    table = _start(name, mdp, policy)
    iterations = count(name, "iterations", iterations, least=0)

    def run(table: Array) -> Iterator[Iteration]:
        for i in range(1, iterations + 1):
            at = evaluate(mdp, table)
            target = greedy_step(table, at.advantages)
            alpha = conservative_mixing(table, target, at.advantages, at.visitation_distribution, mdp.discount)
            new = mixture_step(table, target, alpha)
            yield _rising(name, mdp, table, _iteration(i, mdp, table, new, None, alpha), guaranteed=False)
            table = new

    return run(table)


def mdpo(mdp: MDP, policy: Any, *, iterations: int, temperature: float) -> Iterator[Iteration]:
    """Iterate the policy by mirror descent, in every state exactly.

    ::

        π_{i+1} = argmax_π E_d[Σ_a π A − λ KL(π ‖ π_i)]          π_{i+1} ∝ π_i exp(A_{π_i}/λ)

    With λ = (1 − γ)/step it is the natural policy gradient of a tabular softmax policy [AKLM].

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : (S, A) array
        π_0; an action that it excludes stays excluded.
    iterations : int
        How many.
    temperature : float
        λ > 0, return units per nat.

    Returns
    -------
    iterator of Iteration

    Raises
    ------
    ValueError
        If the table is not a policy of this MDP, γ = 1, or λ ≤ 0.
    NotMonotone
        While iterating, if η fell.

    References
    ----------
    [MDPO], [AKLM]
    """
    name = "mdpo"
    table = _start(name, mdp, policy)
    iterations = count(name, "iterations", iterations, least=0)
    price = scalar(name, "temperature", temperature, above=0)

    def run(table: Array) -> Iterator[Iteration]:
        for i in range(1, iterations + 1):
            new = mirror_descent_step(table, evaluate(mdp, table).advantages, price)
            yield _rising(name, mdp, table, _iteration(i, mdp, table, new, None, None), guaranteed=False)
            table = new

    return run(table)


# ── networks ──────────────────────────────────────────────────────────────────────────────────────

Update = Callable[[Array, Array, Evaluation], tuple[Array, Any]]


def _of_network(
    mdp: MDP, policy: Policy, theta: Array, x: Any, table: Array, iterations: int, update: Update
) -> Iterator[Iteration]:
    """Make an update (θ, table, its evaluation) → (θ', record) again and again."""
    for i in range(1, iterations + 1):
        theta, step = update(theta, table, evaluate(mdp, table))
        new = probability_table(policy, theta, x)
        yield _iteration(i, mdp, table, new, theta, step)
        table = new


def parametric_mm(
    mdp: MDP, policy: Policy, theta: Any, x: Any, *, iterations: int, max_iterations: int = 200
) -> Iterator[Iteration]:
    """Iterate a network's policy by climbing the article's lower bound with SciPy's optimiser.

    Parameters
    ----------
    mdp : MDP
        With 0 < γ < 1.
    policy : Policy
        A policy whose family is categorical or masked categorical.
    theta : (P,) array
        θ_0.
    x : (S, D) array
        One row of observations per state.
    iterations : int
        How many.
    max_iterations : int
        Of SciPy, in each.

    Returns
    -------
    iterator of Iteration
        With ``step`` of type `refpg.updates.ParametricMMStep`.

    Raises
    ------
    ValueError
        If a shape disagrees, the family has no table, or γ is 0 or 1.
    NotMonotone
        While iterating, if M or η fell.

    References
    ----------
    [TRPO Alg. 1], [Hui]
    """
    name = "parametric_mm"
    table = _table(name, mdp, policy, theta, x)
    scalar(name, "mdp.discount", mdp.discount, above=0, below=1)
    iterations = count(name, "iterations", iterations, least=0)

    def update(theta: Array, table: Array, at: Evaluation) -> tuple[Array, Any]:
        C = penalty_coefficient(at.advantages, mdp.discount)
        return parametric_mm_step(policy, theta, x, at.advantages, at.visitation, C, max_iterations=max_iterations)

    def run(old: Array) -> Iterator[Iteration]:
        for here in _of_network(mdp, policy, np.asarray(theta), x, table, iterations, update):
            yield _rising(name, mdp, old, here, guaranteed=True)
            old = here.policy

    return run(table)


def natural_policy_gradient(
    mdp: MDP,
    policy: Policy,
    theta: Any,
    x: Any,
    *,
    iterations: int,
    max_kl: float,
    damping: float,
    method: str = "rows",
    cg_iterations: int | None = None,
) -> Iterator[Iteration]:
    """Iterate a network's policy along its exact natural gradient.

    ::

        θ_{i+1} = θ_i + √(2δ/gᵀx) x,   x = (F + λI)⁻¹g,   g = ∇η(θ_i),   F over d_π

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : Policy
        A policy whose family is categorical or masked categorical.
    theta : (P,) array
        θ_0.
    x : (S, D) array
        One row of observations per state.
    iterations : int
        How many.
    max_kl : float
        δ > 0, nats.
    damping, method
        As in `refpg.updates.natural_gradient`.
    cg_iterations : int, optional
        Of conjugate gradients, where that is the method.

    Returns
    -------
    iterator of Iteration
        With ``step`` of type `refpg.updates.NaturalGradientStep`, in units of (1 − γ)η.

    Raises
    ------
    ValueError
        If a shape disagrees, the family has no table, γ = 1, δ ≤ 0, or the damping does not go with the method.

    References
    ----------
    [K01], [Hui]
    """
    name = "natural_policy_gradient"
    table = _table(name, mdp, policy, theta, x)
    scalar(name, "mdp.discount", mdp.discount, below=1)
    iterations = count(name, "iterations", iterations, least=0)
    scalar(name, "max_kl", max_kl, above=0)
    choice(name, "method", method, METHODS)

    def update(theta: Array, table: Array, at: Evaluation) -> tuple[Array, Any]:
        rowwise, batch = _exact_batch(policy, theta, x, table, at)
        return natural_gradient_step(
            policy,
            theta,
            x,
            surrogate_gradient(rowwise, theta, batch),
            damping=damping,
            max_kl=max_kl,
            method=method,
            iterations=cg_iterations,
            weights=at.visitation_distribution,
        )

    return _of_network(mdp, policy, np.asarray(theta), x, table, iterations, update)


def trpo(
    mdp: MDP,
    policy: Policy,
    theta: Any,
    x: Any,
    *,
    iterations: int,
    max_kl: float,
    damping: float,
    cg_iterations: int = 10,
    backtrack: float = 0.5,
    max_backtracks: int = 10,
    accept: str = "improves_and_kl",
) -> Iterator[Iteration]:
    """Iterate a network's policy by TRPO with exact expectations.

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : Policy
        A policy whose family is categorical or masked categorical.
    theta : (P,) array
        θ_0.
    x : (S, D) array
        One row of observations per state.
    iterations : int
        How many.
    max_kl : float
        δ > 0, nats.
    damping : float
        λ ≥ 0.
    cg_iterations : int
        Of conjugate gradients.
    backtrack, max_backtracks, accept
        As in `refpg.updates.trpo_step`.

    Returns
    -------
    iterator of Iteration
        With ``step`` of type `refpg.updates.TRPOStep`, in units of (1 − γ)η.

    Raises
    ------
    ValueError
        If a shape disagrees, the family has no table, γ = 1, δ ≤ 0, λ < 0, or a name is unknown.

    Notes
    -----
    The mean KL is that of d_π, and limits neither the largest KL nor the loss of η: `refpg.bounds.cpo_kl_bound`.

    References
    ----------
    [TRPO App. C], [Hui]
    """
    name = "trpo"
    table = _table(name, mdp, policy, theta, x)
    scalar(name, "mdp.discount", mdp.discount, below=1)
    iterations = count(name, "iterations", iterations, least=0)
    scalar(name, "max_kl", max_kl, above=0)
    choice(name, "accept", accept, ACCEPTANCE)

    def update(theta: Array, table: Array, at: Evaluation) -> tuple[Array, Any]:
        rowwise, batch = _exact_batch(policy, theta, x, table, at)
        return trpo_step(
            rowwise,
            theta,
            batch,
            max_kl=max_kl,
            damping=damping,
            iterations=cg_iterations,
            backtrack=backtrack,
            max_backtracks=max_backtracks,
            accept=accept,
        )

    return _of_network(mdp, policy, np.asarray(theta), x, table, iterations, update)


def ppo(
    mdp: MDP,
    policy: Policy,
    theta: Any,
    x: Any,
    *,
    iterations: int,
    clip: float,
    epochs: int,
    learning_rate: float,
    epsilon: float = 1e-8,
    entropy_coefficient: float = 0.0,
    adam: Adam | None = None,
) -> Iterator[Iteration]:
    """Iterate a network's policy by PPO on the exact clipped objective: K steps of Adam, then π_old ← π.

    ::

        L^CLIP = Σ_s d_π(s) Σ_a π(a|s) min(r A_π, clip(r, 1−ε, 1+ε) A_π),   r = π_θ(a|s)/π(a|s)

    Parameters
    ----------
    mdp : MDP
        With γ < 1.
    policy : Policy
        A policy whose family is categorical or masked categorical.
    theta : (P,) array
        θ_0.
    x : (S, D) array
        One row of observations per state.
    iterations : int
        How many times π_old is synchronised.
    clip : float
        ε in (0, 1).
    epochs : int
        K, gradient steps on all states and actions between synchronisations.
    learning_rate, epsilon
        As in `refpg.updates.adam_step`; the moments are kept from iteration to iteration.
    entropy_coefficient : float
        c₂ ≥ 0.
    adam : Adam, optional
        From which to go on: that of the last record's ``step``.

    Returns
    -------
    iterator of Iteration
        With ``step`` of type `refpg.updates.PPOUpdate`.

    Raises
    ------
    ValueError
        If a shape disagrees, the family has no table, γ = 1, or a number is out of range.

    References
    ----------
    [PPO Alg. 1], [Hui]
    """
    name = "ppo"
    table = _table(name, mdp, policy, theta, x)
    scalar(name, "mdp.discount", mdp.discount, below=1)
    iterations = count(name, "iterations", iterations, least=0)
    epochs = count(name, "epochs", epochs)
    scalar(name, "clip", clip, above=0, below=1)
    scalar(name, "learning_rate", learning_rate, above=0)

    def update(theta: Array, table: Array, at: Evaluation) -> tuple[Array, Any]:
        nonlocal adam
        rowwise, batch = _exact_batch(policy, theta, x, table, at)
        theta, step = ppo_update(
            rowwise,
            theta,
            batch,
            clip=clip,
            minibatches=[[np.arange(len(batch.actions))]] * epochs,
            learning_rate=learning_rate,
            epsilon=epsilon,
            adam=adam,
            entropy_coefficient=entropy_coefficient,
        )
        adam = step.adam
        return theta, step

    return _of_network(mdp, policy, np.asarray(theta), x, table, iterations, update)
