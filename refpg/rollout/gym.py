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
their state to themselves, so that one can go on only from where they are; a world that is there no more comes there
again by a replay (`refpg.rollout.journal`, which also says what that costs).

Gymnasium is imported when it is needed, not before.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from refpg.notation import Array, count
from refpg.policy import Policy, distribution_parameters
from refpg.rollout.journal import Journal
from refpg.rollout.world import Generators, Runs, Step, entries

_SEEDS = 2**31
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
        self._journal = self._blank()

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

    def description(self) -> dict[str, Any]:
        """The names of the environment and of its spaces, and the autoreset mode."""
        spec = self.environments.spec
        return {
            "kind": "Gymnasium",
            "environment": None if spec is None else spec.id,
            "observations": str(self.environments.single_observation_space),
            "actions": str(self.environments.single_action_space),
            "autoreset_mode": self.autoreset_mode,
        }

    def start(self, generators: Generators) -> tuple[Any, Array]:
        """Reset all environments, each with a seed drawn from its generator."""
        E = self.environments.num_envs
        if len(generators) != E:
            raise ValueError(f"GymWorld: {len(generators)} environments are to start, expected {E}")
        return self._started([_seed(generator) for generator in generators])

    def _started(self, seeds: list[int]) -> tuple[_State, Array]:
        vector, environments = _gymnasium().vector, self.environments
        one_by_one = isinstance(environments.unwrapped, vector.SyncVectorEnv | vector.AsyncVectorEnv)
        observations, _ = environments.reset(seed=seeds if one_by_one else seeds[0])
        seen = self._seen(observations)
        self._journal = self._blank()
        self._journal.seeded(seeds)
        self._journal.answered(seen)
        self._ticks += 1
        return _State(self._ticks, np.zeros(len(seeds), dtype=bool)), seen

    def _blank(self) -> Journal:
        E, space = self.environments.num_envs, self.environments.single_action_space
        if _is_discrete(space):
            return Journal((E,), np.min_scalar_type(self.action_size - 1))
        return Journal((E, self.action_size), space.dtype)

    def acting(self, policy: Policy, theta: Array) -> Callable[[Runs], Array]:
        """Evaluate the network in the observations of the environments."""
        return lambda runs: distribution_parameters(policy, theta, runs.observations)

    def step(self, runs: Runs, actions: Array) -> Step:
        """Act in every environment, and start again where an episode ended, as the autoreset mode has it."""
        self._check_last(runs)

        def drawn(ended: Array) -> list[int]:
            return [_seed(runs.generators[e]) for e in np.flatnonzero(ended)]

        return self._answer(runs.state, self._within(actions), drawn)

    def _check_last(self, runs: Runs) -> None:
        if runs.state.ticks != self._ticks:
            raise ValueError(
                f"GymWorld: the runs given are those after call {runs.state.ticks}, but the environments have answered "
                f"{self._ticks}: expected the last runs, since an environment cannot go back"
            )

    def _answer(self, state: _State, actions: Array, seeds: Callable[[Array], list[int]]) -> Step:
        """Act; ``seeds`` gives those of the environments whose episode ended, where it is for the world to reset."""
        resetting = state.ended & (self.autoreset_mode == NEXT_STEP)
        self._journal.asked(actions)
        observed, rewards, terminated, truncated, info = self.environments.step(self._acted(actions))
        # A copy: an environment may return its own buffers, and overwrite them.
        terminated, truncated = np.array(terminated) & ~resetting, np.array(truncated) & ~resetting
        reached = self._seen(observed)
        ended = terminated | truncated
        following = reached.copy()
        if ended.any() and self.autoreset_mode == SAME_STEP:
            reached[ended] = self._final(info, ended)
        if ended.any() and self.autoreset_mode == DISABLED:
            following[ended] = self._restarted(seeds(ended), ended)
        self._ticks += 1
        step = Step(
            state=_State(self._ticks, ended),
            observations=following,
            next_observations=reached,
            rewards=np.where(resetting, 0.0, rewards),
            terminated=terminated,
            truncated=truncated,
            valid=~resetting,
        )
        self._journal.answered(following, reached, step.rewards, terminated, truncated)
        return step

    def saved(self, runs: Runs) -> dict[str, Array]:
        """Return the journal: every action since all environments were started, every seed, and a digest."""
        self._check_last(runs)
        return self._journal.pages()._asdict()

    def restored(self, runs: Runs, arrays: Mapping[str, Array]) -> _State:
        """Start the environments again, give them the same actions, and hold their answers against the digest."""
        blank = self._blank().pages()
        actions = entries(arrays, "actions", (None, *blank.actions.shape[1:]), blank.actions.dtype)
        seeds = entries(arrays, "seeds", (None,), blank.seeds.dtype)
        digest = entries(arrays, "digest", blank.digest.shape, blank.digest.dtype)
        E = self.environments.num_envs
        if len(seeds) < E or ((seeds < 0) | (seeds >= _SEEDS)).any():
            raise ValueError(f"holds seeds that are none, expected at least {E} from 0 to {_SEEDS - 1}")
        if _is_discrete(self.environments.single_action_space) and (actions >= self.action_size).any():
            raise ValueError(f"holds actions up to {actions.max()}, expected them from 0 to {self.action_size - 1}")
        if (self._within(actions) != actions).any():
            raise ValueError("holds actions outside of the bounds of their space")
        rest = iter(seeds[E:].tolist())
        state, seen = self._started(seeds[:E].tolist())
        for row in actions:
            step = self._answer(state, row, lambda ended: [next(rest, 0) for _ in range(ended.sum())])
            state, seen = step.state, step.observations
        if self._journal.pages().digest.tobytes() != digest.tobytes():
            raise ValueError(
                "was replayed, and the environments answered otherwise than before: another version of them or of "
                "Gymnasium, or environments that draw from something else than their seed"
            )
        if (seen != runs.observations).any() or next(rest, None) is not None:
            raise ValueError("was replayed, and contradicts itself: its observations or seeds are not those of its end")
        return state

    def _final(self, info: dict[str, Any], ended: Array) -> Array:
        if "final_obs" not in info:
            raise ValueError(
                f"GymWorld: an episode ended and info has the keys {sorted(info)}, expected 'final_obs' among them"
            )
        return self._seen(np.stack([info["final_obs"][e] for e in np.flatnonzero(ended)]))

    def _restarted(self, seeds: list[int], ended: Array) -> Array:
        self._journal.seeded(seeds)
        given: list[int | None] = [None] * len(ended)
        for e, seed in zip(np.flatnonzero(ended), seeds, strict=True):
            given[e] = seed
        observations, _ = self.environments.reset(seed=given, options={"reset_mask": ended.copy()})
        return self._seen(observations)[ended]

    def _seen(self, observations: Any) -> Array:
        """Return observations as float64 rows, in a new array."""
        space = self.environments.single_observation_space
        if _is_discrete(space):
            return np.eye(self.observation_size)[np.asarray(observations) - space.start]
        return np.array(observations, dtype=np.float64)

    def _within(self, actions: Array) -> Array:
        """Return actions as they are kept: those of a Box within its bounds, those of a Discrete space from 0."""
        space = self.environments.single_action_space
        if _is_discrete(space):
            return actions
        clipped: Array = np.clip(actions, space.low, space.high).astype(space.dtype)
        return clipped

    def _acted(self, actions: Array) -> Array:
        """Return actions as the environments take them."""
        space = self.environments.single_action_space
        if _is_discrete(space):
            shifted: Array = np.asarray(actions, dtype=np.int64) + space.start
            return shifted
        return actions


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


def gym_names() -> tuple[str, ...]:
    """Return the names that `gym_world` can be asked for.

    Returns
    -------
    tuple of str
        As registered with Gymnasium, in alphabetical order.

    Raises
    ------
    ModuleNotFoundError
        If Gymnasium is not installed.
    """
    return tuple(sorted(_gymnasium().registry))


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
    return int(generator.integers(_SEEDS))
