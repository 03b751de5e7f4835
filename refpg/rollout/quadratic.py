"""A linear–quadratic problem as a world: for any Gaussian policy, not only the linear ones that are exact."""

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from refpg.linear_quadratic import LinearQuadratic, covariance_root
from refpg.notation import Array, count
from refpg.policy import Policy, distribution_parameters
from refpg.rollout.world import Generators, Runs, Step, digest


@dataclass(frozen=True, eq=False)
class QuadraticWorld:
    """A linear system with Gaussian noise and quadratic cost, in any number of environments.

    ::

        x₀ ~ N(m, S)          x' = A x + B u + w,  w ~ N(0, W)          r = −(xᵀQx + uᵀRu)

    Fields: ``problem`` the system; ``time_limit`` the number of actions after which an episode is truncated, or None.
    It never terminates.  What `refpg.linear_quadratic.sample_trajectories` draws of a linear policy, this draws of any
    Gaussian one.

    Examples
    --------
    >>> from refpg.linear_quadratic import LinearQuadratic
    >>> still = LinearQuadratic(
    ...     state_matrix=[[0.5]], action_matrix=[[1.0]], state_cost=[[1.0]], action_cost=[[1.0]],
    ...     noise=[[0.0]], start_mean=[8.0], start_covariance=[[0.0]], discount=0.5,
    ... )
    >>> import numpy as np
    >>> QuadraticWorld(still).start((np.random.default_rng(0),))[1]
    array([[8.]])
    """

    problem: LinearQuadratic
    time_limit: int | None = None

    def __post_init__(self) -> None:
        if self.time_limit is not None:
            object.__setattr__(self, "time_limit", count("QuadraticWorld", "time_limit", self.time_limit))

    def description(self) -> dict[str, Any]:
        """Its sizes, what ends an episode, and a digest of all its numbers."""
        *matrices, discount = astuple(self.problem)
        states, actions = self.problem.action_matrix.shape
        return {
            "kind": "linear–quadratic problem",
            "states": states,
            "actions": actions,
            "discount": discount,
            "time_limit": self.time_limit,
            "numbers": digest(matrices),
        }

    def saved(self, runs: Runs) -> dict[str, Array]:
        """Return nothing: the world has no state but what is observed."""
        return {}

    def restored(self, runs: Runs, arrays: Mapping[str, Array]) -> None:
        """Return the state, which is None."""

    def check(self, function: str, policy: Policy) -> None:
        """Refuse a policy that is not a Gaussian over the actions, or does not see the states."""
        D, A = self.problem.action_matrix.shape
        seen = (policy.family.name, policy.network.sizes[0], policy.network.num_outputs)
        if seen != ("diagonal_gaussian", D, 2 * A):
            raise ValueError(
                f"{function}: policy is {seen[0]} with {seen[1]} inputs and {seen[2]} outputs, "
                f"expected diagonal_gaussian with {D} inputs and {2 * A} outputs"
            )

    def start(self, generators: Generators) -> tuple[None, Array]:
        """Draw x₀ in each environment; the world has no state but what is observed."""
        root = covariance_root(self.problem.start_covariance)
        return None, self.problem.start_mean + _products(root, _normals(generators, len(root)))

    def acting(self, policy: Policy, theta: Array) -> Callable[[Runs], Array]:
        """Evaluate the network in the states where the environments are."""
        return lambda runs: distribution_parameters(policy, theta, runs.observations)

    def step(self, runs: Runs, actions: Array) -> Step:
        """Move every state; draw a new one where the time is up."""
        x, u, at = runs.observations, actions, self.problem
        E = len(x)
        noise = _products(covariance_root(at.noise), _normals(runs.generators, x.shape[1]))
        reached = _products(at.state_matrix, x) + _products(at.action_matrix, u) + noise
        cost = np.sum(x * _products(at.state_cost, x), axis=1) + np.sum(u * _products(at.action_cost, u), axis=1)
        truncated = np.zeros(E, dtype=bool) if self.time_limit is None else runs.age + 1 >= self.time_limit
        following = reached.copy()
        if truncated.any():
            again = tuple(runs.generators[e] for e in np.flatnonzero(truncated))
            following[truncated] = self.start(again)[1]
        return Step(
            state=None,
            observations=following,
            next_observations=reached,
            rewards=-cost,
            terminated=np.zeros(E, dtype=bool),
            truncated=truncated,
            valid=np.ones(E, dtype=bool),
        )


def _normals(generators: Generators, size: int) -> Array:
    return np.stack([generator.standard_normal(size) for generator in generators])


def _products(matrix: Any, rows: Array) -> Array:
    """Return M x for each row x; by sums of its own, so that a row's bits do not depend on how many there are."""
    return np.einsum("ij,ej->ei", matrix, rows)
