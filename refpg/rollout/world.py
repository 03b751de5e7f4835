"""What a world is: E environments, how they start, how they move, and what is known of where they are."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from refpg.notation import Array
from refpg.policy import Policy

Generators = tuple[np.random.Generator, ...]


class Runs(NamedTuple):
    """Where E environments are: all that sampling goes on from.

    Fields: ``observations`` (E, D), in which the next actions are chosen; ``state`` the world's own; ``age`` (E,)
    actions since the last start; ``returns`` (E,) rewards since then, not discounted; ``generators`` one for each
    environment.
    """

    observations: Array
    state: Any
    age: Array
    returns: Array
    generators: Generators


class Step(NamedTuple):
    """What one action in each environment led to.

    Fields: ``state`` the world's own, from which to go on; ``observations`` (E, D) in which the next actions are
    chosen, of a new episode where one ended; ``next_observations`` (E, D) what the actions led to, at an end the
    *final* observation; ``rewards`` (E,); ``terminated``, ``truncated`` (E,) bool; ``valid`` (E,) bool, False where no
    action was taken because the environment was starting again.
    """

    state: Any
    observations: Array
    next_observations: Array
    rewards: Array
    terminated: Array
    truncated: Array
    valid: Array


class World(Protocol):
    """E environments and how they move.  What is drawn for an environment is drawn from its own generator."""

    def check(self, function: str, policy: Policy) -> None:
        """Refuse, in the name of a function, a policy whose observations or actions are not those of the world."""

    def start(self, generators: Generators) -> tuple[Any, Array]:
        """Start all environments, one for each generator; return the world's own state and the observations (E, D)."""

    def acting(self, policy: Policy, theta: Array) -> Callable[[Runs], Array]:
        """Return the function from where the environments are to φ (E, K), for as long as θ stays."""

    def step(self, runs: Runs, actions: Array) -> Step:
        """Act in every environment."""

    def description(self) -> dict[str, Any]:
        """Return what it is, in numbers and words alone: worlds of one description are to move alike."""

    def saved(self, runs: Runs) -> dict[str, Array]:
        """Return what, besides the other fields of the runs, it takes to be there again: arrays of numbers."""

    def restored(self, runs: Runs, arrays: Mapping[str, Array]) -> Any:
        """Be there again: return the world's own state where `saved` made the arrays; ``runs`` has the other fields.

        A ValueError says what is wrong with them, and goes on with a sentence that names where they come from.
        """


def entries(arrays: Mapping[str, Array], name: str, shape: tuple[int | None, ...], dtype: Any) -> Array:
    """Return one of some arrays that were read, if it is as it was written.

    Parameters
    ----------
    arrays : mapping of str to array
        All that were read.
    name : str
        Of the one that is wanted.
    shape : tuple of int or None
        Its lengths; None where any will do.
    dtype : dtype
        Its dtype.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        If it is missing, has another dtype or shape, or holds a number that is not finite.  The message continues a
        sentence that names where the arrays come from.
    """
    if name not in arrays:
        raise ValueError(f"has no {name}")
    array = arrays[name]
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"holds {name} in {array.dtype}, expected {np.dtype(dtype)}")
    fits = len(array.shape) == len(shape)
    if not fits or any(want not in (None, have) for have, want in zip(array.shape, shape, strict=True)):
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"holds {name} of shape {array.shape}, expected ({expected}{',' * (len(shape) == 1)})")
    if not np.isfinite(array).all():
        raise ValueError(f"holds {name} with an entry that is not finite")
    return array


def digest(tables: Iterable[Array]) -> str:
    """Return SHA-256 of all numbers of a world, by which two of one description are told apart.

    Parameters
    ----------
    tables : iterable of array
        The numbers, in a fixed order.

    Returns
    -------
    str
        In hexadecimal digits.
    """
    return hashlib.sha256(b"".join(table.tobytes() for table in tables)).hexdigest()


def uniforms(generators: Generators) -> Array:
    """Draw one number from [0, 1) for each environment."""
    return np.array([generator.random() for generator in generators])


def chosen(probabilities: Array, u: Array) -> Array:
    """Return, for each row of probabilities (E, N) and number u (E,) in [0, 1), where the cumulative sum passes u.

    ::

        min {j : p_0 + … + p_j > u Σ p}

    An entry of probability 0 is never chosen, whatever rounding does.
    """
    cumulative = np.cumsum(probabilities, axis=1)
    passed: Array = np.sum(cumulative <= (u * cumulative[:, -1])[:, np.newaxis], axis=1)
    return passed
