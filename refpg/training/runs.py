"""Runs by name: an algorithm, an environment and numbers, as they are written on a command line or in a file.

A `Setup` is a run in words.  `prepared` makes of it a `Run`: how it begins, how it goes on from iteration to iteration,
how where it is gets into a file and out of it, and what of an iteration is worth a line.  There are two kinds, with the
same four methods: `ExactRun` on finite MDPs, where every expectation is exact, and `SampledRun` on rollouts.
"""

import difflib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from refpg.linear_quadratic import LinearQuadratic, doubling, point_mass
from refpg.mdp import MDP, chain, cliff, gridworld, kakade_two_state
from refpg.network import Network, initial_parameters
from refpg.notation import choice, count
from refpg.policy import Policy, gaussian_policy, softmax_policy
from refpg.rollout import FiniteWorld, GymWorld, QuadraticWorld, gym_names, gym_world
from refpg.training import exact, sampled
from refpg.training.checkpoint import load_learner, load_standing, save_learner, save_standing
from refpg.training.exact import Iteration, Standing
from refpg.training.presets import PPO_PRESETS, TRPO_PRESETS
from refpg.training.sampled import Learner, SampledIteration, Sampling, ValueFitting, new_learner
from refpg.updates import Adam

ALGORITHMS = ("mm", "npg", "trpo", "ppo")
PRESETS = tuple(PPO_PRESETS)


class Embedded(NamedTuple):
    """An environment that needs no other library: ``make`` makes it; its episodes end after ``time_limit`` actions."""

    make: Callable[[], Any]
    time_limit: int


EMBEDDED: Mapping[str, Embedded] = MappingProxyType(
    {
        "chain": Embedded(lambda: chain(5, discount=0.9, slip=0.1), 50),
        "gridworld": Embedded(lambda: gridworld(["S...", ".##.", "...G"], discount=0.95, slip=0.1), 50),
        "cliff": Embedded(lambda: cliff(discount=0.95), 200),
        "two-state": Embedded(lambda: kakade_two_state(discount=0.9), 50),
        "point-mass": Embedded(point_mass, 50),
        "doubling": Embedded(doubling, 6),
    }
)


class Setup(NamedTuple):
    """A run in words and numbers.

    Fields: ``algorithm`` one of `ALGORITHMS`; ``environment`` one of `EMBEDDED`, or a name of Gymnasium's; ``seed`` of
    all that is drawn; ``environments`` E, side by side; ``steps`` T of each in an iteration, the preset's if None;
    ``preset`` one of `PRESETS`; ``hidden`` widths of the hidden layers of both networks; ``exact`` whether expectations
    are exact, which `mm` always is; ``settings`` options of the loop by name, instead of the preset's.
    """

    algorithm: str
    environment: str
    seed: int
    environments: int = 1
    steps: int | None = None
    preset: str = "paper"
    hidden: tuple[int, ...] = (64, 64)
    exact: bool = False
    settings: Mapping[str, Any] = MappingProxyType({})


class Run(Protocol):
    """A run that can begin, go on, be written down and be read again."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Every option of the loop, by name, given or not."""

    def begin(self, generator: np.random.Generator) -> Any:
        """Return the state before the first iteration."""

    def iterations(self, state: Any, iterations: int) -> Iterator[tuple[dict[str, Any], Any]]:
        """Yield what is worth a line of each iteration, and the state after it."""

    def save(self, path: Path, state: Any) -> None:
        """Write a state to a file."""

    def load(self, path: Path, state: Any) -> Any:
        """Read a state, given one that has just begun."""


# ── sampled ───────────────────────────────────────────────────────────────────────────────────────

_SAMPLED: Mapping[str, Callable[..., Iterator[SampledIteration]]] = MappingProxyType(
    {
        "npg": sampled.sampled_natural_policy_gradient,
        "trpo": sampled.sampled_trpo,
        "ppo": sampled.sampled_ppo,
    }
)


class SampledRun(NamedTuple):
    """A run on rollouts.

    Fields: ``setup``; ``world``, ``policy`` and ``value_network`` that follow from it; ``options`` by name, those of
    records with a dot.
    """

    setup: Setup
    world: FiniteWorld | QuadraticWorld | GymWorld
    policy: Policy
    value_network: Network
    options: Mapping[str, Any]

    def begin(self, generator: np.random.Generator) -> Learner:
        """Start the environments and draw the parameters."""
        return new_learner(
            self.world,
            self.policy,
            self.value_network,
            generator,
            environments=self.setup.environments,
            **_part(self.options, "start"),
        )

    def iterations(self, state: Learner, iterations: int) -> Iterator[tuple[dict[str, Any], Learner]]:
        """Make iterations from rollouts."""
        keywords = _part(self.options) | {"sampling": Sampling(**_part(self.options, "sampling"))}
        if fitting := _part(self.options, "fitting"):
            keywords["fitting"] = ValueFitting(**fitting)
        loop = _SAMPLED[self.setup.algorithm]
        for record in loop(self.world, self.policy, self.value_network, state, iterations=iterations, **keywords):
            yield _line(record), record.learner

    def save(self, path: Path, state: Learner) -> None:
        """Write a learner."""
        save_learner(path, self.world, self.policy, self.value_network, state, _identity(self.setup, self.options))

    def load(self, path: Path, state: Learner) -> Learner:
        """Read a learner."""
        identity = _identity(self.setup, self.options)
        return load_learner(path, self.world, self.policy, self.value_network, state, identity)


# ── exact ─────────────────────────────────────────────────────────────────────────────────────────

_EXACT: Mapping[str, Callable[..., Iterator[Iteration]]] = MappingProxyType(
    {"mm": exact.mm, "npg": exact.natural_policy_gradient, "trpo": exact.trpo, "ppo": exact.ppo}
)


class ExactRun(NamedTuple):
    """A run with exact expectations.

    Fields: ``setup``; ``world`` whose MDP it is; ``policy``, None for `mm`, whose policy is a table; ``options``.
    """

    setup: Setup
    world: FiniteWorld
    policy: Policy | None
    options: Mapping[str, Any]

    def begin(self, generator: np.random.Generator) -> Standing:
        """Begin with the uniform policy: for a network at θ = 0 but for its hidden layers, which are drawn."""
        S, A = self.world.mdp.states, self.world.mdp.actions
        if self.policy is None:
            return Standing(0, np.full((S, A), 1 / A))
        return Standing(0, initial_parameters(self.policy.network, generator, output_scale=0.0))

    def iterations(self, state: Standing, iterations: int) -> Iterator[tuple[dict[str, Any], Standing]]:
        """Make iterations with exact expectations."""
        keywords = _part(self.options)
        if self.setup.algorithm == "ppo":
            keywords["adam"] = state.adam
        where = (state.point,) if self.policy is None else (self.policy, state.point, self.world.observations)
        for record in _EXACT[self.setup.algorithm](self.world.mdp, *where, iterations=iterations, **keywords):
            numbered = record._replace(iteration=state.iteration + record.iteration)
            yield _line(numbered), exact.standing(numbered)

    def save(self, path: Path, state: Standing) -> None:
        """Write where the loop stands."""
        save_standing(path, self.world, self.policy, state, _identity(self.setup, self.options))

    def load(self, path: Path, state: Standing) -> Standing:
        """Read where the loop stood."""
        return load_standing(path, self.world, self.policy, state, _identity(self.setup, self.options))


# ── from words to a run ───────────────────────────────────────────────────────────────────────────


def prepared(setup: Setup) -> Run:
    """Return the run that a setup describes, with nothing drawn yet.

    Parameters
    ----------
    setup : Setup
        The run in words.

    Returns
    -------
    SampledRun or ExactRun

    Raises
    ------
    ValueError
        If a name is unknown, the environment has no observations or actions of a kind that is known, the algorithm
        makes no sense there, or an option is none of the loop's.

    Notes
    -----
    Convention: γ is that of the environment where it has one, for MDPs and linear–quadratic problems, and the preset's
    in Gymnasium.  `npg` has the preset of TRPO, as far as it goes.

    Examples
    --------
    >>> run = prepared(Setup("trpo", "chain", seed=0, steps=100, settings={"max_kl": 0.05}))
    >>> run.options["max_kl"], run.options["damping"], run.options["sampling.gamma"]
    (0.05, 0.1, 0.9)
    """
    name = "train"
    choice(name, "algorithm", setup.algorithm, ALGORITHMS)
    choice(name, "preset", setup.preset, PRESETS)
    count(name, "seed", setup.seed, least=0)
    E = count(name, "environments", setup.environments)
    for width in setup.hidden:
        count(name, "hidden", width)
    made = EMBEDDED[setup.environment].make() if setup.environment in EMBEDDED else _gymnasium_world(setup, E)
    return (_exact_run if setup.exact or setup.algorithm == "mm" else _sampled_run)(setup, made)


_DRAWN = ("environments", "theta", "value_theta")  # of `new_learner`: not numbers that one sets


def _sampled_run(setup: Setup, made: MDP | LinearQuadratic | GymWorld) -> SampledRun:
    loop = _SAMPLED[setup.algorithm]
    named = _defaults(loop, besides=("iterations", "sampling", "fitting")) | {"network.activation": "tanh"}
    named |= _dotted("sampling", _fields(Sampling)) | _dotted("start", _defaults(new_learner, besides=_DRAWN))
    if "fitting" in inspect.signature(loop).parameters:
        named |= _dotted("fitting", _fields(ValueFitting))
    if isinstance(made, MDP):
        named |= {"world.restart_probability": 0.0}
    if not isinstance(made, GymWorld):
        named |= {"world.time_limit": EMBEDDED[setup.environment].time_limit}
    own = {} if isinstance(made, GymWorld) else {"sampling.gamma": made.discount}
    if setup.steps is not None:
        own["sampling.steps"] = count("train", "steps", setup.steps)
    options = named | _preset(setup, named) | own | _settings(setup, named, besides=("sampling.steps",))
    world: FiniteWorld | QuadraticWorld | GymWorld
    if isinstance(made, MDP):
        world = FiniteWorld(made, **_part(options, "world"))
    elif isinstance(made, LinearQuadratic):
        world = QuadraticWorld(made, **_part(options, "world"))
    else:
        world = made
    D, A, discrete = _spaces(world)
    activation = options["network.activation"]
    policy = (softmax_policy if discrete else gaussian_policy)((D, *setup.hidden, A), activation)
    return SampledRun(setup, world, policy, Network((D, *setup.hidden, 1), activation), options)


def _exact_run(setup: Setup, made: MDP | LinearQuadratic | GymWorld) -> ExactRun:
    if not isinstance(made, MDP):
        finite = [known for known, embedded in EMBEDDED.items() if isinstance(embedded.make(), MDP)]
        what = "mm, whose expectations are exact," if setup.algorithm == "mm" else "an exact loop"
        raise ValueError(f"train: {what} needs a finite MDP, expected one of {', '.join(finite)}")
    if setup.environments != 1 or setup.steps is not None:
        raise ValueError("train: exact expectations sample nothing, expected no number of environments or steps")
    named = _defaults(_EXACT[setup.algorithm], besides=("iterations", "adam"))
    if setup.algorithm == "mm":
        if setup.hidden != Setup._field_defaults["hidden"]:
            raise ValueError("train: mm has a table and no network, expected no hidden layers")
        return ExactRun(setup, FiniteWorld(made), None, named | _settings(setup, named))
    named |= {"network.activation": "tanh"}
    own = {"method": "cg"} if setup.algorithm == "npg" else {}
    options = named | _preset(setup, named) | own | _settings(setup, named)
    policy = softmax_policy((made.states, *setup.hidden, made.actions), options["network.activation"])
    return ExactRun(setup, FiniteWorld(made), policy, options)


def _gymnasium_world(setup: Setup, environments: int) -> GymWorld:
    name, wanted = "train", setup.environment
    try:
        known = gym_names()
    except ModuleNotFoundError:
        raise ValueError(
            f"{name}: there is no environment {wanted!r} without Gymnasium{_nearest(wanted, EMBEDDED)}; there are "
            f"{', '.join(EMBEDDED)}, and with pip install 'refpg[gym]' Gymnasium's"
        ) from None
    if ":" not in wanted and wanted not in known:
        raise ValueError(
            f"{name}: there is no environment {wanted!r}{_nearest(wanted, (*EMBEDDED, *known))}; there are "
            f"{', '.join(EMBEDDED)}, and Gymnasium's"
        )
    try:
        return gym_world(wanted, environments=environments)
    except (ValueError, ImportError) as error:
        raise ValueError(f"{name}: {wanted} is of no use here: {error}") from None


def _spaces(world: FiniteWorld | QuadraticWorld | GymWorld) -> tuple[int, int, bool]:
    """Return the lengths of an observation and of what the policy puts out, and whether actions are counted."""
    if isinstance(world, FiniteWorld):
        return world.observations.shape[1], world.mdp.actions, True
    if isinstance(world, QuadraticWorld):
        return *world.problem.action_matrix.shape, False
    return world.observation_size, world.action_size, world.family == "categorical"


# ── options ───────────────────────────────────────────────────────────────────────────────────────


def _defaults(function: Callable[..., Any], besides: tuple[str, ...]) -> dict[str, Any]:
    """Return a function's keywords and their defaults, None where a preset or the user has to choose."""
    keywords = inspect.signature(function).parameters.values()
    return {
        keyword.name: None if keyword.default is keyword.empty else keyword.default
        for keyword in keywords
        if keyword.kind is keyword.KEYWORD_ONLY and keyword.name not in besides
    }


def _fields(record: Any) -> dict[str, Any]:
    return {field: record._field_defaults.get(field) for field in record._fields}


def _preset(setup: Setup, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a preset says of the options that the loop has."""
    chosen = (PPO_PRESETS if setup.algorithm == "ppo" else TRPO_PRESETS)[setup.preset]
    flat: dict[str, Any] = {}
    for key, value in chosen.items():
        if isinstance(value, Sampling | ValueFitting):
            flat |= _dotted(key, value._asdict())
        else:
            flat[key] = value
    return {key: value for key, value in flat.items() if key in named}


def _settings(setup: Setup, named: Mapping[str, Any], besides: tuple[str, ...] = ()) -> dict[str, Any]:
    known = [key for key in named if key not in besides]
    for key in setup.settings:
        if key not in known:
            raise ValueError(
                f"train: {setup.algorithm} on {setup.environment} has no option {key!r}{_nearest(key, known)}; "
                f"it has {', '.join(sorted(known))}"
            )
    return dict(setup.settings)


def _dotted(record: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{record}.{field}": value for field, value in fields.items()}


def _part(options: Mapping[str, Any], record: str = "") -> dict[str, Any]:
    """Return the options of one record by its fields, or those of the loop itself."""
    if not record:
        return {key: value for key, value in options.items() if "." not in key}
    dotted = f"{record}."
    return {key.removeprefix(dotted): value for key, value in options.items() if key.startswith(dotted)}


def _nearest(word: str, known: Iterable[str]) -> str:
    by_small = {name.rpartition(".")[2].lower(): name for name in known} | {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_small, n=3)
    return f" (did you mean {' or '.join(dict.fromkeys(by_small[one] for one in close))}?)" if close else ""


def _identity(setup: Setup, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a run this run and no other, besides its world and its networks."""
    return {
        "algorithm": setup.algorithm,
        "environment": setup.environment,
        "seed": setup.seed,
        "environments": setup.environments,
        "options": dict(options),
    }


def setting(text: str) -> tuple[str, Any]:
    """Return the name and the value of an option as it is written on a command line.

    Parameters
    ----------
    text : str
        ``name=value``; a value that JSON can read is what JSON says it is, anything else a word.

    Returns
    -------
    name : str
    value : object

    Raises
    ------
    ValueError
        If there is no ``=``.

    Examples
    --------
    >>> setting("max_kl=0.02"), setting("clip=null"), setting("direction=new_old")
    (('max_kl', 0.02), ('clip', None), ('direction', 'new_old'))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"train: --set {text}: expected name=value, e.g. max_kl=0.02")
    try:
        return name, json.loads(value, parse_constant=str)
    except ValueError:
        return name, value


def widths(text: str) -> tuple[int, ...]:
    """Return the widths of hidden layers as they are written on a command line.

    Parameters
    ----------
    text : str
        Integers with commas between them; without any the networks have no hidden layer.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If something else is among them.

    Examples
    --------
    >>> widths("64,64"), widths("")
    ((64, 64), ())
    """
    try:
        found = tuple(int(word) for word in text.split(",")) if text else ()
    except ValueError:
        found = (0,)
    if any(width < 1 for width in found):
        raise ValueError(f"train: --hidden {text}: expected widths with commas between them, e.g. 64,64")
    return found


# ── a line of an iteration ────────────────────────────────────────────────────────────────────────

_NO_LINE = ("learner", "policy", "theta")  # of a record: they are in the checkpoint


def _line(record: SampledIteration | Iteration) -> dict[str, Any]:
    return {key: _words(value) for key, value in record._asdict().items() if key not in _NO_LINE}


def _words(value: Any) -> Any:
    """Return a record in the words of JSON: numbers that are not finite become null, endings their names.

    Arrays are left out but for norms of residuals, and what is told of every minibatch becomes their number.
    """
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        line: dict[str, Any] = {}
        for key, one in value._asdict().items():
            if key in ("steps", "objectives"):
                line["minibatches"] = len(one)
            elif key == "residual_norms":
                line[key] = [_words(float(norm)) for norm in one]
            elif one is not None and not isinstance(one, np.ndarray | Adam):
                line[key] = _words(one)
        return line
    if isinstance(value, tuple):
        return [_words(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
