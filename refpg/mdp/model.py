"""The record `MDP`, and the checks that a table is one of probabilities.

A row of n probabilities that were each rounded once, after a division by their rounded sum, sums to 1 within n units
of rounding (eps): that much is accepted, and nothing is rescaled.  What the missing or surplus rounding error means is
settled once: the probability of *staying* is read as what the others leave over, wherever 1 − γ would be small enough
to notice (`refpg.mdp.elimination`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refpg.notation import Array, bind_shapes, scalar


@dataclass(frozen=True, eq=False)
class MDP:
    """A finite Markov decision process with discounted rewards.

    Fields: ``transition`` (S, A, S), P(s'|s,a); ``reward`` (S, A), the expected reward r(s,a), of either sign, so
    that r(s,a,s') enters as Σ_s' P(s'|s,a) r(s,a,s'); ``start`` (S,), the distribution ρ₀ of the first state;
    ``discount`` γ in [0, 1], where 1 is for finite horizons only.

    The arrays are checked and copied into float64 once, here, and cannot be written to afterwards.  A ValueError names
    the state and the action of the first entry that is not finite or negative, and of the first row that does not
    sum to 1 within S units of rounding.

    Examples
    --------
    >>> leaking = [[[1.0, 0.0], [0.5, 0.25]], [[0.0, 1.0], [0.0, 1.0]]]
    >>> MDP(transition=leaking, reward=[[0.0, 0.0], [0.0, 0.0]], start=[1.0, 0.0], discount=0.5)
    Traceback (most recent call last):
        ...
    ValueError: MDP: transition sums to 0.75 in state 0, action 1, expected 1
    """

    transition: Array
    reward: Array
    start: Array
    discount: float

    def __post_init__(self) -> None:
        tables = {
            "transition": _finite("MDP", "transition", self.transition, ("state", "action", "next state")),
            "reward": _finite("MDP", "reward", self.reward, ("state", "action")),
            "start": _finite("MDP", "start", self.start, ("state",)),
        }
        shapes = {"transition": "S A S", "reward": "S A", "start": "S"}
        bind_shapes("MDP", {}, **{name: (table, shapes[name]) for name, table in tables.items()})
        _probabilities("MDP", "transition", tables["transition"], ("state", "action", "next state"))
        _probabilities("MDP", "start", tables["start"], ("state",))
        for name, table in tables.items():
            object.__setattr__(self, name, np.array(table, dtype=np.float64))
            getattr(self, name).flags.writeable = False
        object.__setattr__(self, "discount", scalar("MDP", "discount", self.discount, least=0, most=1))

    @property
    def states(self) -> int:
        """S, the number of states."""
        return len(self.start)

    @property
    def actions(self) -> int:
        """A, the number of actions."""
        return int(self.reward.shape[1])


def policy_table(function: str, name: str, mdp: MDP, policy: Any) -> Array:
    """Check that an argument is a policy of an MDP, and return it.

    Parameters
    ----------
    function, name : str
        The caller and the argument, named in every message.
    mdp : MDP
        Whose states and actions the table must have.
    policy : (S, A) array
        π(a|s).

    Returns
    -------
    (S, A) array
        In float64, not rescaled.

    Raises
    ------
    ValueError
        If the shape disagrees, an entry is not finite or negative, or a state's row does not sum to 1 within A units
        of rounding.

    Examples
    --------
    >>> mdp = MDP(transition=[[[1.0], [1.0]]], reward=[[0.0, 1.0]], start=[1.0], discount=0.5)
    >>> policy_table("evaluate", "policy", mdp, [[1.5, -0.5]])
    Traceback (most recent call last):
        ...
    ValueError: evaluate: policy is -0.5 in state 0, action 1, expected a probability
    """
    axes = ("state", "action")
    table = _finite(function, name, policy, axes)
    (table,) = bind_shapes(function, {"S": mdp.states, "A": mdp.actions}, **{name: (table, "S A")})
    _probabilities(function, name, table, axes)
    return table.astype(np.float64, copy=False)


def _finite(function: str, name: str, value: Any, axes: tuple[str, ...]) -> Array:
    try:
        table = np.asarray(value)
    except ValueError:
        raise ValueError(f"{function}: {name} is ragged, expected rows of equal length") from None
    if table.dtype.kind not in "iuf":
        raise ValueError(f"{function}: {name} has dtype {table.dtype}, expected real numbers")
    if table.ndim == len(axes):
        _refuse(function, name, table, ~np.isfinite(table), axes, "a finite number")
    return table


def _probabilities(function: str, name: str, table: Array, axes: tuple[str, ...]) -> None:
    _refuse(function, name, table, table < 0, axes, "a probability")
    total = table.sum(axis=-1)
    slack = table.shape[-1] * np.finfo(np.float64).eps
    _refuse(function, f"{name} sums to", total, abs(total - 1) > slack, axes[:-1], "1")


def _refuse(function: str, what: str, table: Array, wrong: Array, axes: tuple[str, ...], expected: str) -> None:
    if wrong.any():
        index = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        place = ", ".join(f"{axis} {position}" for axis, position in zip(axes, index, strict=True))
        verb = "" if what.endswith(" to") else " is"
        where = f" in {place}" if place else ""
        raise ValueError(f"{function}: {what}{verb} {table[index]}{where}, expected {expected}")
