"""A finite MDP as a world: states are drawn, everything else about it is known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refpg.mdp import MDP
from refpg.notation import Array, bind_shapes, count, scalar
from refpg.policy import Policy, distribution_parameters
from refpg.rollout.world import Generators, Runs, Step, chosen, digest, entries, uniforms


@dataclass(frozen=True, eq=False)
class FiniteWorld:
    """An MDP whose states are drawn, in any number of environments.

    Fields: ``mdp`` the MDP; ``observations`` (S, D), what a policy sees of each state, the unit vectors unless given;
    ``time_limit`` the number of actions after which an episode is truncated, or None; ``restart_probability`` with
    which it is truncated after any action.

    An episode terminates where nothing more can happen: in a state that no action leaves and no action is rewarded in.
    Its value is 0 exactly.

    With ``restart_probability`` 1 − γ the states of a long rollout are distributed as d_π, so that means over its rows
    are the expectations of the theory; a truncation loses nothing, since the value of the final observation is known.

    Examples
    --------
    >>> from refpg.mdp import chain
    >>> FiniteWorld(chain(3, discount=0.9)).observations.shape
    (3, 3)
    """

    mdp: MDP
    observations: Any = None
    time_limit: int | None = None
    restart_probability: float = 0.0

    def __post_init__(self) -> None:
        name, S = "FiniteWorld", self.mdp.states
        x = np.eye(S) if self.observations is None else self.observations
        (x,) = bind_shapes(name, {"S": S}, observations=(x, "S D"))
        object.__setattr__(self, "observations", x)
        if self.time_limit is not None:
            object.__setattr__(self, "time_limit", count(name, "time_limit", self.time_limit))
        scalar(name, "restart_probability", self.restart_probability, least=0, most=1)

    @cached_property
    def terminal(self) -> Array:
        """Whether nothing more can happen in a state, (S,) bool."""
        states = np.arange(self.mdp.states)
        stays: Array = (self.mdp.transition[states, :, states] == 1).all(axis=1)
        return stays & (self.mdp.reward == 0).all(axis=1)

    def description(self) -> dict[str, Any]:
        """Its sizes, what ends an episode, and a digest of all its numbers."""
        numbers = (self.mdp.transition, self.mdp.reward, self.mdp.start, self.observations)
        return {
            "kind": "finite MDP",
            "states": self.mdp.states,
            "actions": self.mdp.actions,
            "discount": self.mdp.discount,
            "time_limit": self.time_limit,
            "restart_probability": self.restart_probability,
            "numbers": digest(numbers),
        }

    def saved(self, runs: Runs) -> dict[str, Array]:
        """Return the states s (E,)."""
        return {"states": np.asarray(runs.state, dtype=np.int64)}

    def restored(self, runs: Runs, arrays: Mapping[str, Array]) -> Array:
        """Return the states, if they are states and are what the runs observe."""
        s = entries(arrays, "states", (len(runs.generators),), np.int64)
        if ((s < 0) | (s >= self.mdp.states)).any():
            raise ValueError(f"holds states {s.tolist()}, expected them from 0 to {self.mdp.states - 1}")
        if (self.observations[s] != runs.observations).any():
            raise ValueError("holds observations that are not those of its states")
        return s

    def check(self, function: str, policy: Policy) -> None:
        """Refuse a policy that is not categorical over the actions, or does not see the observations."""
        D, A = self.observations.shape[1], self.mdp.actions
        seen = (policy.family.name, policy.network.sizes[0], policy.network.num_outputs)
        if seen != ("categorical", D, A):
            raise ValueError(
                f"{function}: policy is {seen[0]} with {seen[1]} inputs and {seen[2]} outputs, "
                f"expected categorical with {D} inputs and {A} outputs"
            )

    def start(self, generators: Generators) -> tuple[Array, Array]:
        """Draw s_0 ~ ρ₀ in each environment; the world's own state is s (E,)."""
        s = self._started(generators)
        return s, self.observations[s]

    def _started(self, generators: Generators) -> Array:
        start = np.broadcast_to(self.mdp.start, (len(generators), self.mdp.states))
        return chosen(start, uniforms(generators))

    def acting(self, policy: Policy, theta: Array) -> Callable[[Runs], Array]:
        """Evaluate the network once, in all states: what an environment sees does not depend on the others."""
        phi = distribution_parameters(policy, theta, self.observations)
        return lambda runs: phi[runs.state]

    def step(self, runs: Runs, actions: Array) -> Step:
        """Draw s' ~ P(·|s, a), and s_0 ~ ρ₀ where an episode ended."""
        s = runs.state
        reached = chosen(self.mdp.transition[s, actions], uniforms(runs.generators))
        terminated = self.terminal[reached]
        truncated = np.zeros(len(s), dtype=bool)
        if self.restart_probability:
            truncated |= uniforms(runs.generators) < self.restart_probability
        if self.time_limit is not None:
            truncated |= runs.age + 1 >= self.time_limit
        ended = terminated | truncated
        following = reached.copy()
        if ended.any():
            following[ended] = self._started(tuple(runs.generators[e] for e in np.flatnonzero(ended)))
        return Step(
            state=following,
            observations=self.observations[following],
            next_observations=self.observations[reached],
            rewards=self.mdp.reward[s, actions],
            terminated=terminated,
            truncated=truncated,
            valid=np.ones(len(s), dtype=bool),
        )
