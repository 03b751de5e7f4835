"""Vector environments of Gymnasium as a world: what the library does at the end of an episode, and what is made of it.

Its *autoreset mode* says what happens after an action that ended an episode ::

    NEXT_STEP   the final observation is returned; the next step ignores its action, and returns the first observation
                of a new episode.  That step is no transition: its row is not ``valid``, and no batch has it.
    SAME_STEP   the first observation of a new episode is returned; the final one is in ``info["final_obs"]``.
    DISABLED    the final observation is returned; the world resets the environment itself, with a seed of its own.

In all three ``next_observations`` is what the action led to, terminated and truncated are told apart, and the return of
an episode is the sum of its rewards.  With NEXT_STEP an environment acts once less per episode in the same T steps;
with the other two the rollouts differ by the seeds of their resets alone.

Actions of a Box are those of a Gaussian and may lie outside of the bounds: the environment gets them clipped, the
rollout keeps them as they were drawn, since that is what ``log_prob`` belongs to.  Observations of a Discrete space are
unit vectors.  Other spaces are refused.

What an environment draws comes from its own random numbers, seeded from the generator of `Runs`.  The environments keep
their state to themselves, so that one can go on only from where they are.

Gymnasium is imported when it is needed, not before.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array, count
from refpg.policy import Policy, distribution_parameters
from refpg.rollout.world import Generators, Runs, Step

NEXT_STEP, SAME_STEP, DISABLED = "NextStep", "SameStep", "Disabled"


class _State(NamedTuple):
    """Fields: ``ticks`` the calls answered by the environments; ``ended`` (E,) bool, where the last was an end."""

    ticks: int
    ended: Array


class GymWorld:
    """A vector environment of Gymnasium, version 1.1 or later, as a world.

    Parameters
    ----------
    environments : gymnasium.vector.VectorEnv
        In any autoreset mode; with Discrete or flat Box observations, and Discrete or flat Box actions.

    Raises
    ------
    ValueError
        If a space is of another kind, or the autoreset mode is not stated.
    """

    def __init__(self, environments: Any) -> None:
        name = "GymWorld"
        mode = environments.metadata.get("autoreset_mode")
        mode = getattr(mode, "value", mode)
        if mode not in (NEXT_STEP, SAME_STEP, DISABLED):
            raise ValueError(
                f"{name}: metadata['autoreset_mode'] of the environments is {mode!r}, "
                f"expected one of gymnasium.vector.AutoresetMode"
            )
        self.environments = environments
        self.autoreset_mode: str = mode
        self.observation_size = _size(name, "observations", environments.single_observation_space)
        self.action_size = _size(name, "actions", environments.single_action_space)
        self._ticks = 0

    @property
    def family(self) -> str:
        """The name of the family whose actions the environments take."""
        return "categorical" if _is_discrete(self.environments.single_action_space) else "diagonal_gaussian"

    def check(self, function: str, policy: Policy) -> None:
        """Refuse a policy whose observations or actions are not those of the spaces."""
        outputs = self.action_size if self.family == "categorical" else 2 * self.action_size
        seen = (policy.family.name, policy.network.sizes[0], policy.network.num_outputs)
        if seen != (self.family, self.observation_size, outputs):
            raise ValueError(
                f"{function}: policy is {seen[0]} with {seen[1]} inputs and {seen[2]} outputs, "
                f"expected {self.family} with {self.observation_size} inputs and {outputs} outputs"
            )

    def start(self, generators: Generators) -> tuple[Any, Array]:
        """Reset all environments, each with a seed drawn from its generator."""
        E = self.environments.num_envs
        if len(generators) != E:
            raise ValueError(f"GymWorld: {len(generators)} environments are to start, expected {E}")
        seeds = [_seed(generator) for generator in generators]
        vector = _gymnasium().vector
        one_by_one = isinstance(self.environments.unwrapped, vector.SyncVectorEnv | vector.AsyncVectorEnv)
        observations, _ = self.environments.reset(seed=seeds if one_by_one else seeds[0])
        self._ticks += 1
        return _State(self._ticks, np.zeros(E, dtype=bool)), self._seen(observations)

    def acting(self, policy: Policy, theta: Array) -> Callable[[Runs], Array]:
        """Evaluate the network in the observations of the environments."""
        return lambda runs: distribution_parameters(policy, theta, runs.observations)

    def step(self, runs: Runs, actions: Array) -> Step:
        """Act in every environment, and start again where an episode ended, as the autoreset mode has it."""
        if runs.state.ticks != self._ticks:
            raise ValueError(
                f"GymWorld: the runs given are those after call {runs.state.ticks}, but the environments have answered "
                f"{self._ticks}: expected the last runs, since an environment cannot go back"
            )
        resetting = runs.state.ended & (self.autoreset_mode == NEXT_STEP)
        observed, rewards, terminated, truncated, info = self.environments.step(self._acted(actions))
        # A copy: an environment may return its own buffers, and overwrite them.
        terminated, truncated = np.array(terminated) & ~resetting, np.array(truncated) & ~resetting
        reached = self._seen(observed)
        ended = terminated | truncated
        following = reached.copy()
        if ended.any() and self.autoreset_mode == SAME_STEP:
            reached[ended] = self._final(info, ended)
        if ended.any() and self.autoreset_mode == DISABLED:
            following[ended] = self._restarted(runs.generators, ended)
        self._ticks += 1
        return Step(
            state=_State(self._ticks, ended),
            observations=following,
            next_observations=reached,
            rewards=np.where(resetting, 0.0, rewards),
            terminated=terminated,
            truncated=truncated,
            valid=~resetting,
        )

    def _final(self, info: dict[str, Any], ended: Array) -> Array:
        if "final_obs" not in info:
            raise ValueError(
                f"GymWorld: an episode ended and info has the keys {sorted(info)}, expected 'final_obs' among them"
            )
        return self._seen(np.stack([info["final_obs"][e] for e in np.flatnonzero(ended)]))

    def _restarted(self, generators: Generators, ended: Array) -> Array:
        seeds = [_seed(generator) if over else None for generator, over in zip(generators, ended, strict=True)]
        observations, _ = self.environments.reset(seed=seeds, options={"reset_mask": ended.copy()})
        return self._seen(observations)[ended]

    def _seen(self, observations: Any) -> Array:
        """Return observations as float64 rows, in a new array."""
        space = self.environments.single_observation_space
        if _is_discrete(space):
            return np.eye(self.observation_size)[np.asarray(observations) - space.start]
        return np.array(observations, dtype=np.float64)

    def _acted(self, actions: Array) -> Array:
        space = self.environments.single_action_space
        if _is_discrete(space):
            shifted: Array = actions + space.start
            return shifted
        clipped: Array = np.clip(actions, space.low, space.high).astype(space.dtype)
        return clipped


def gym_world(name: str, *, environments: int, **options: Any) -> GymWorld:
    """Make environments of Gymnasium by name, in one process, in the autoreset mode DISABLED.

    Parameters
    ----------
    name : str
        As registered with Gymnasium, for example "CartPole-v1".
    environments : int
        E ≥ 1.
    **options
        For the environment itself.

    Returns
    -------
    GymWorld

    Raises
    ------
    ValueError
        If Gymnasium knows no such environment, or a space is refused.
    ModuleNotFoundError
        If Gymnasium is not installed.
    """
    E = count("gym_world", "environments", environments)
    gymnasium = _gymnasium()
    mode = gymnasium.vector.AutoresetMode.DISABLED
    try:
        made = gymnasium.make_vec(
            name, num_envs=E, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options
        )
    except gymnasium.error.Error as error:
        raise ValueError(f"gym_world: name is {name!r}, which Gymnasium cannot make: {error}") from None
    return GymWorld(made)


def _gymnasium() -> ModuleType:
    try:
        import gymnasium
    except ModuleNotFoundError:
        raise ModuleNotFoundError("refpg.rollout.gym needs Gymnasium: pip install 'refpg[gym]'") from None
    return gymnasium


def _is_discrete(space: Any) -> bool:
    return isinstance(space, _gymnasium().spaces.Discrete)


def _size(function: str, what: str, space: Any) -> int:
    if _is_discrete(space):
        return int(space.n)
    if isinstance(space, _gymnasium().spaces.Box) and len(space.shape) == 1:
        return int(space.shape[0])
    raise ValueError(f"{function}: the space of {what} is {space}, expected Discrete or a Box of one axis")


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**31))
