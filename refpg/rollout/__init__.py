"""Trajectories: E environments side by side, T steps of each, and the batch that follows from them.

::

    s_0 ~ ρ₀        a_t ~ π_θ(·|s_t)        s_{t+1} ~ P(·|s_t, a_t)            arrays (T, E, ...), time first

A *world* is E environments and how they move; `Runs` is where they are now; `sample_rollout` goes on from there and
returns a `Rollout` and the next `Runs`.  From a rollout the advantages follow by one function, a batch by another.

Every environment has a random generator of its own, spawned from the one that was given, and everything that happens
to it is drawn from that: what one environment does is the same whether it runs alone or beside a thousand others.  In
a `FiniteWorld` this holds to the last bit.  Where the observations are continuous, φ comes out of a matrix product,
whose last bit may depend on the number of rows: there it holds up to that rounding, for as long as no decision turns on
it.  A Gymnasium environment that is vectorised by its own code may draw for all environments from one generator, and
then it does not hold at all.

* `record`: `Rollout`, the advantages of its rows, the batch of an update;
* `world`: what a world is: `World`, `Runs`, `Step`;
* `finite`: an MDP as a world;
* `quadratic`: a linear–quadratic problem as a world;
* `journal`: what environments were asked, so that it can be asked again;
* `gym`: vector environments of Gymnasium as a world; the library itself is imported when the first one is made;
* `sampling`: the loop over time.
"""

from refpg.rollout.finite import FiniteWorld
from refpg.rollout.gym import GymWorld, gym_names, gym_world
from refpg.rollout.quadratic import QuadraticWorld
from refpg.rollout.record import (
    WEIGHTINGS,
    Rollout,
    buffer_advantages,
    rollout_advantages,
    rollout_batch,
    rollout_values,
)
from refpg.rollout.sampling import sample_rollout, start_runs
from refpg.rollout.world import Runs, Step, World

__all__ = [
    "WEIGHTINGS",
    "FiniteWorld",
    "GymWorld",
    "QuadraticWorld",
    "Rollout",
    "Runs",
    "Step",
    "World",
    "buffer_advantages",
    "gym_names",
    "gym_world",
    "rollout_advantages",
    "rollout_batch",
    "rollout_values",
    "sample_rollout",
    "start_runs",
]
