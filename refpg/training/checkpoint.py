"""Checkpoints: all that a run goes on from, in one file.

A `Learner` is everything a sampled run goes on from, a `Standing` everything an exact one does.  Either is written to a
NumPy archive (``.npz``) of plain arrays, among them one of the bytes of a description in JSON: the counters, the states
of the random generators, and what the run is a run *of*.  The file appears whole or not at all.

It is read into a record of the same kind that has just begun: ``load_learner(path, ..., fresh, ...)``.  From the fresh
one it is known which arrays there must be, of which lengths and dtypes, so that a file is believed nothing; and what
the run was of is held against what is to go on, name by name.  A number of iterations done in one process, and the rest
in another, are the same bits as if they had been done in one.

What a world does about its own state is its own matter: a finite MDP and a linear–quadratic problem write down where
they are, environments of Gymnasium what they were asked (`refpg.rollout.journal`).

Nothing in a file is ever executed, and nothing is pickled.
"""

import copy
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refpg.files import parsed_json, write_whole
from refpg.interop import npz
from refpg.mdp import policy_table
from refpg.network import Network
from refpg.notation import Array
from refpg.policy import Policy
from refpg.rollout import FiniteWorld, Runs, World
from refpg.rollout.world import entries
from refpg.training.exact import Standing
from refpg.training.sampled import Learner
from refpg.updates import Adam

SCHEMA = 1
MOST_BYTES = 2**31
_FORM = "refpg checkpoint"
_GENERATORS = ("PCG64", "PCG64DXSM")  # those whose state is a few integers, none of which is an index into memory
_WORLD = "world."


def save_learner(
    path: str | os.PathLike[str],
    world: World,
    policy: Policy,
    value_network: Network,
    learner: Learner,
    run: Mapping[str, Any],
) -> None:
    """Write all that a sampled run goes on from to a file.

    Parameters
    ----------
    path : path
        In a folder that exists; a file that is there is replaced by the whole new one.
    world : World
        The world.  Of Gymnasium's it must be the one that the learner was trained in, at its last record.
    policy : Policy
        The policy.
    value_network : Network
        V_w.
    learner : Learner
        From `new_learner`, or of a record.
    run : mapping
        Whatever else decides what the next iterations are, in the words of JSON: the algorithm, its options, a seed.

    Raises
    ------
    ValueError
        If ``run`` is not for JSON, a generator is none of PCG64's, or Gymnasium's environments have gone on.
    OSError
        If the file cannot be written.

    Notes
    -----
    Convention: the same learner gives the same bytes.  The size is that of θ, w and the two moments of Adam; with
    Gymnasium every action taken so far comes to it, each time anew, which `refpg.rollout.journal` counts.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from refpg.mdp import chain
    >>> from refpg.policy import softmax_policy
    >>> from refpg.training import Sampling, new_learner, sampled_trpo
    >>> world, policy, values = FiniteWorld(chain(3, discount=0.9)), softmax_policy((3, 2)), Network((3, 1))
    >>> sampling = Sampling(steps=20, gamma=0.9, gae_lambda=1.0)
    >>> def trained(learner, iterations):
    ...     return list(sampled_trpo(world, policy, values, learner, iterations=iterations, sampling=sampling,
    ...                              max_kl=0.01, damping=0.1))[-1].learner
    >>> def begin():
    ...     return new_learner(world, policy, values, np.random.default_rng(0), environments=2)
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "run.npz"
    ...     save_learner(file, world, policy, values, trained(begin(), 2), {"algorithm": "trpo"})
    ...     again = load_learner(file, world, policy, values, begin(), {"algorithm": "trpo"})
    >>> bool((trained(again, 1).theta == trained(begin(), 3).theta).all())
    True
    """
    name, runs = "save_learner", learner.runs
    arrays = {
        "theta": learner.theta,
        "value_theta": learner.value_theta,
        **_moments(learner.adam),
        "observations": runs.observations,
        "age": runs.age,
        "returns": runs.returns,
        **{_WORLD + key: array for key, array in world.saved(runs).items()},
    }
    description = {
        "of": _of_sampled(world, policy, value_network, run),
        "iteration": learner.iteration,
        "steps": learner.steps,
        "kl_penalty": learner.kl_penalty,
        "adam_step": None if learner.adam is None else learner.adam.step,
        "generator": _state_of(name, learner.generator),
        "environments": [_state_of(name, generator) for generator in runs.generators],
    }
    _write(name, path, description, arrays)


def load_learner(
    path: str | os.PathLike[str],
    world: World,
    policy: Policy,
    value_network: Network,
    learner: Learner,
    run: Mapping[str, Any],
    *,
    most_bytes: int = MOST_BYTES,
) -> Learner:
    """Read from a file all that a sampled run goes on from.

    Parameters
    ----------
    path : path
        As written by `save_learner`.
    world, policy, value_network
        As they were, made anew.
    learner : Learner
        One that has just begun with these, from `new_learner`; its random numbers do not matter, since all of them are
        in the file.
    run : mapping
        As it was.
    most_bytes : int
        A larger file is not opened.

    Returns
    -------
    Learner
        The one that was saved.  The iterations that follow are those that would have followed, bit for bit, on the same
        machine with the same versions of NumPy and SciPy and the same number of threads.

    Raises
    ------
    ValueError
        If it is no such file, is too large or damaged, or is of another run: then with each name that differs, and
        both of its values; or if environments, asked again, answer otherwise.

    Notes
    -----
    Convention: Gymnasium's environments are started again and given every action again; this takes as long as they took
    at first.
    """
    name, fresh, runs = "load_learner", learner, learner.runs
    description, arrays = _read(name, path, most_bytes, _of_sampled(world, policy, value_network, run))
    try:
        _only(description, ("iteration", "steps", "kl_penalty", "adam_step", "generator", "environments"))
        P, Q, E = len(fresh.theta), len(fresh.value_theta), len(runs.generators)
        states = description["environments"]
        if not isinstance(states, list) or len(states) != E:
            raise ValueError(f"holds environments that are no list of {E} states")
        beta = description["kl_penalty"]
        if beta is not None and not (type(beta) in (int, float) and 0 <= beta < np.inf):
            raise ValueError(f"holds kl_penalty {beta!r}, expected a finite number >= 0 or null")
        there = Runs(
            observations=_like(arrays, "observations", runs.observations),
            state=None,
            age=_like(arrays, "age", runs.age),
            returns=_like(arrays, "returns", runs.returns),
            generators=tuple(
                _generator_in(state, generator) for state, generator in zip(states, runs.generators, strict=True)
            ),
        )
        if (there.age < 0).any():
            raise ValueError(f"holds age {there.age.min()}, expected at least 0")
        again = Learner(
            iteration=_count(description, "iteration"),
            steps=_count(description, "steps"),
            theta=_like(arrays, "theta", fresh.theta),
            value_theta=_like(arrays, "value_theta", fresh.value_theta),
            adam=_adam(description, arrays, (Q, P + Q)),
            kl_penalty=beta,
            runs=there,
            generator=_generator_in(description["generator"], fresh.generator),
        )
        own = {key.removeprefix(_WORLD): arrays.pop(key) for key in list(arrays) if key.startswith(_WORLD)}
        _nothing_more(arrays)
        return again._replace(runs=there._replace(state=world.restored(there, own)))
    except ValueError as error:
        raise ValueError(f"{name}: {path} {error}") from None


def save_standing(
    path: str | os.PathLike[str], world: FiniteWorld, policy: Policy | None, at: Standing, run: Mapping[str, Any]
) -> None:
    """Write all that an exact loop goes on from to a file.

    Parameters
    ----------
    path : path
        As in `save_learner`.
    world : FiniteWorld
        The MDP, and what is observed of its states.
    policy : Policy, optional
        Whose θ the point is; None where it is a table.
    at : Standing
        From `standing`.
    run : mapping
        As in `save_learner`.

    Raises
    ------
    ValueError
        If ``run`` is not for JSON.
    OSError
        If the file cannot be written.
    """
    description = {
        "of": _of_exact(world, policy, run),
        "iteration": at.iteration,
        "adam_step": None if at.adam is None else at.adam.step,
    }
    _write("save_standing", path, description, {"point": at.point, **_moments(at.adam)})


def load_standing(
    path: str | os.PathLike[str],
    world: FiniteWorld,
    policy: Policy | None,
    at: Standing,
    run: Mapping[str, Any],
    *,
    most_bytes: int = MOST_BYTES,
) -> Standing:
    """Read from a file all that an exact loop goes on from.

    Parameters
    ----------
    path : path
        As written by `save_standing`.
    world, policy
        As they were, made anew.
    at : Standing
        Where a loop begins.
    run : mapping
        As it was.
    most_bytes : int
        A larger file is not opened.

    Returns
    -------
    Standing

    Raises
    ------
    ValueError
        If it is no such file, is too large or damaged, or is of another run.
    """
    name = "load_standing"
    description, arrays = _read(name, path, most_bytes, _of_exact(world, policy, run))
    try:
        _only(description, ("iteration", "adam_step"))
        point = _like(arrays, "point", at.point)
        if policy is None:
            policy_table("its", "point", world.mdp, point)
        again = Standing(_count(description, "iteration"), point, _adam(description, arrays, (len(point),)))
        _nothing_more(arrays)
        return again
    except ValueError as error:
        raise ValueError(f"{name}: {path} {error}") from None


# ── what a run is of ──────────────────────────────────────────────────────────────────────────────


def _of_sampled(world: World, policy: Policy, values: Network, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "sampled",
        "world": world.description(),
        "policy": {"family": policy.family.name, **policy.network._asdict()},
        "value_network": values._asdict(),
        "run": dict(run),
    }


def _of_exact(world: FiniteWorld, policy: Policy | None, run: Mapping[str, Any]) -> dict[str, Any]:
    network = "a table" if policy is None else {"family": policy.family.name, **policy.network._asdict()}
    return {"kind": "exact", "world": world.description(), "policy": network, "run": dict(run)}


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Yield what two nested mappings differ in, a line for each name.

    Parameters
    ----------
    there, here : object
        What JSON made of one and of the other.
    name : str
        Under which they are found.

    Returns
    -------
    iterator of str

    Examples
    --------
    >>> list(differences({"seed": 0, "run": {"clip": 0.2}}, {"seed": 0, "run": {"clip": 0.1}}))
    ['run.clip is 0.2 there and 0.1 here']
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            yield from differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
    elif there != here or type(there) is not type(here):
        yield f"{name} is {there!r} there and {here!r} here"


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


def _write(
    function: str, path: str | os.PathLike[str], description: dict[str, Any], arrays: Mapping[str, Array]
) -> None:
    whole = {"form": _FORM, "schema": SCHEMA, **description}
    try:
        text = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{function}: run is {description['of']['run']!r}, expected JSON: {error}") from None
    letters = np.frombuffer(text.encode(), np.uint8)
    write_whole(Path(path), npz.encoded({"description": letters, **arrays}))


def _read(
    function: str, path: str | os.PathLike[str], most_bytes: int, of: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the description, without what it is of, and all other arrays."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{function}: {path} is not there or is no file, expected a checkpoint")
    if (size := path.stat().st_size) > most_bytes:
        raise ValueError(f"{function}: {path} has {size} bytes, expected at most most_bytes = {most_bytes}")
    try:
        arrays = npz.decoded(path.read_bytes(), most_bytes, counts=True)
        description = _described(entries(arrays, "description", (None,), np.uint8).tobytes())
        del arrays["description"]
        was = description.pop("of", None)
        if unlike := list(differences(was, json.loads(json.dumps(of)))):
            raise ValueError(f"is of another run: {'; '.join(unlike)}")
    except ValueError as error:
        raise ValueError(f"{function}: {path} {error}") from None
    return description, arrays


def _described(text: bytes) -> dict[str, Any]:
    try:
        description = parsed_json(text.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"has a description that is no JSON: {error}") from None
    if not isinstance(description, dict) or description.pop("form", None) != _FORM:
        raise ValueError(f"is no {_FORM}")
    schema = description.pop("schema", None)
    if schema != SCHEMA or type(schema) is not int:
        raise ValueError(f"has schema {schema!r}, expected {SCHEMA}: it is of another version of refpg")
    return description


def _only(description: Mapping[str, Any], names: tuple[str, ...]) -> None:
    if set(description) != set(names):
        raise ValueError(f"describes {', '.join(sorted(description)) or 'nothing'}, expected {', '.join(names)}")


def _count(description: Mapping[str, Any], key: str) -> int:
    value = description[key]
    if type(value) is not int or value < 0:
        raise ValueError(f"holds {key} {value!r}, expected an integer >= 0")
    return value


def _like(arrays: dict[str, Array], key: str, fresh: Array) -> Array:
    """Take an array out, if it is of the shape and dtype of the fresh one."""
    array = entries(arrays, key, fresh.shape, fresh.dtype)
    del arrays[key]
    return array


def _nothing_more(arrays: Mapping[str, Array]) -> None:
    if arrays:
        raise ValueError(f"holds {', '.join(sorted(arrays))} besides, expected nothing more")


def _moments(adam: Adam | None) -> dict[str, Array]:
    return {} if adam is None else {"first_moment": adam.first_moment, "second_moment": adam.second_moment}


def _adam(description: Mapping[str, Any], arrays: dict[str, Array], lengths: tuple[int, ...]) -> Adam | None:
    if description["adam_step"] is None:
        return None
    length = len(arrays["first_moment"]) if arrays.get("first_moment", np.array(0)).ndim == 1 else -1
    if length not in lengths:
        raise ValueError(f"holds no first_moment of length {' or '.join(map(str, lengths))}")
    blank = np.zeros(length)
    m, v = _like(arrays, "first_moment", blank), _like(arrays, "second_moment", blank)
    if (v < 0).any():
        raise ValueError(f"holds second_moment {v.min()}, expected at least 0")
    return Adam(m, v, _count(description, "adam_step"))


# ── generators ────────────────────────────────────────────────────────────────────────────────────


def _state_of(function: str, generator: np.random.Generator) -> dict[str, Any]:
    state = dict(generator.bit_generator.state)
    if state["bit_generator"] not in _GENERATORS:
        raise ValueError(f"{function}: a generator is {state['bit_generator']}, expected {' or '.join(_GENERATORS)}")
    return state


def _generator_in(state: Any, fresh: np.random.Generator) -> np.random.Generator:
    """Return a generator in a state that was read; what NumPy made of it must be what was read."""
    again = copy.deepcopy(fresh)
    if type(again.bit_generator).__name__ not in _GENERATORS:
        raise ValueError(f"is to go on with {type(again.bit_generator).__name__}, expected {' or '.join(_GENERATORS)}")
    try:
        again.bit_generator.state = state
        kept = again.bit_generator.state == state
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError):
        kept = False
    if not kept:
        raise ValueError(f"holds a state that is none of {type(again.bit_generator).__name__}")
    return again
