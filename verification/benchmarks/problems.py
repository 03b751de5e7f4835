"""The sizes, and the inputs every implementation is given: a tanh network and a Gaussian head with a free log σ.

All numbers are representable in float32, which is what some libraries cast them to; log σ is the same in every
dimension, so that a library with a unit metric differs by a factor.
"""

from typing import NamedTuple

import numpy as np

from refpg.network import initial_parameters
from refpg.notation import Array
from refpg.policy import Batch, Policy, gaussian_policy, log_prob

DAMPING = 0.1
MAX_KL = 0.01
ITERATIONS = 10
CLIP = 0.2
LOG_STD = -0.5


class Problem(NamedTuple):
    """One size with its inputs.

    Fields: ``name``; ``policy``; ``theta`` (P,); ``near`` (P,), parameters close by; ``v`` (P,); ``batch`` with
    observations, actions, advantages and old log-probabilities, those of ``near``.
    """

    name: str
    policy: Policy
    theta: Array
    near: Array
    v: Array
    batch: Batch

    @property
    def sizes(self) -> tuple[int, ...]:
        """The widths (D, ..., A)."""
        return self.policy.network.sizes

    @property
    def rows(self) -> int:
        """N."""
        return len(self.batch.observations)


class Size(NamedTuple):
    """The ``widths`` (D, ..., A) and the number of ``rows`` N."""

    widths: tuple[int, ...]
    rows: int


SIZES = {
    "tiny": Size((3, 16, 2), 32),
    "standard": Size((17, 64, 64, 6), 2048),
    "large": Size((17, 64, 64, 6), 50_000),
    "wide": Size((376, 256, 256, 17), 2048),
    "fisher-1k": Size((17, 22, 22, 6), 2048),
    "fisher-2k": Size((17, 34, 34, 6), 2048),
    "fisher-6k": Size((17, 64, 64, 6), 2048),
    "fisher-20k": Size((17, 128, 128, 6), 2048),
    "dual-12k": Size((17, 100, 100, 6), 512),
    "dual-wide": Size((376, 256, 256, 17), 128),
}


def problem(name: str, size: Size | None = None) -> Problem:
    """Return the inputs of a size: of `SIZES` unless another is given under a name of its own."""
    widths, rows = SIZES[name] if size is None else size
    generator = np.random.default_rng(20261122)
    policy = gaussian_policy(widths)
    theta = _short(initial_parameters(policy.network, generator, output_scale=0.3, free=LOG_STD))
    step = _short(0.02 * generator.normal(size=theta.shape) / np.sqrt(widths[0]))
    near = theta + step
    x = _short(generator.normal(size=(rows, widths[0])))
    actions = _short(generator.normal(size=(rows, widths[-1])))
    advantages = _short(generator.normal(size=rows))
    old = log_prob(policy, near, x, actions)
    v = generator.normal(size=theta.shape)
    return Problem(name, policy, theta, near, v, Batch(x, actions, advantages, old))


def _short(array: Array) -> Array:
    """Round to what float32 can hold."""
    return array.astype(np.float32).astype(np.float64)
