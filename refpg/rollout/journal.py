"""What was asked of environments that keep their state to themselves, so that it can be asked again.

There is no door into a Gymnasium environment through which its state could be taken out and put back.  What it can do
is to begin again with the same seeds and be given the same actions: it is then where it was, if it is deterministic.
Whether it is, is seen: everything it answered is in one digest, and must be answered again.

The journal costs memory and time.  It holds every action that the environments have been given since they were started
all together: 1 byte for each action of up to 256 choices, 4 for each entry of one in float32.  A million steps are a
megabyte, or four for every entry; replaying them takes the environments as long as they took at first, without the
policy.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from refpg.notation import Array


class Pages(NamedTuple):
    """A journal as arrays: what is written to a file.

    Fields: ``actions`` (N, E, ...), one entry for each call of all environments; ``seeds`` (M,) of every reset, in the
    order of the resets; ``digest`` (32,), SHA-256 of all answers.
    """

    actions: Array
    seeds: Array
    digest: Array


class Journal:
    """The questions asked since all environments were started, and a digest of the answers.

    Parameters
    ----------
    shape : tuple of int
        Of the actions of one call, (E,) or (E, A).
    dtype : dtype
        In which they are kept.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._shape, self._dtype = shape, dtype
        self._actions = bytearray()
        self._seeds: list[int] = []
        self._digest = hashlib.sha256()

    def asked(self, actions: Array) -> None:
        """Keep the actions of a call."""
        self._actions += np.ascontiguousarray(actions, dtype=self._dtype).tobytes()

    def seeded(self, seeds: Iterable[int]) -> None:
        """Keep the seeds of a reset."""
        self._seeds += seeds

    def answered(self, *arrays: Array) -> None:
        """Let the digest know of an answer."""
        for array in arrays:
            self._digest.update(np.ascontiguousarray(array).tobytes())

    def pages(self) -> Pages:
        """Return all of it as arrays of their own."""
        actions = np.frombuffer(bytes(self._actions), self._dtype).reshape(-1, *self._shape)
        seeds, digest = np.array(self._seeds, dtype=np.int64), np.frombuffer(self._digest.digest(), np.uint8)
        return Pages(actions, seeds, digest)
