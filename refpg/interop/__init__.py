"""Weights in and out: the parameters of other libraries' networks, and files of arrays, as θ and back.

::

    {name: array}  ──layout──►  (network, θ)  ──layout──►  {name: array}

A `Layout` is a record that says which name in a library is which part of θ, and whether its matrices are (in, out) or
(out, in); both directions follow from it.  Nothing is guessed: names and shapes must be exactly those of the layout,
and what no array can tell, the activation and the family, is for the caller to say.  The libraries themselves are
never imported: whatever has ``__array__`` is an array.

* `layout`: `Layout`, and a record for each library;
* `tree`: names of arrays in nested dictionaries and lists;
* `weights`: `read_weights` and `write_weights`;
* `files`: `read_arrays` and `write_arrays`, by the file's ending;
* `npz`, `safetensors`: the two forms of files, from bytes and to bytes.

Examples
--------
A policy of torch, given as the dictionary that its ``state_dict()`` is:

>>> import numpy as np
>>> from refpg import geometry, interop, updates
>>> from refpg.distributions import CATEGORICAL
>>> from refpg.policy import Batch, Policy
>>> state_dict = {"0.weight": np.eye(4, 3), "0.bias": np.zeros(4), "2.weight": np.eye(2, 4), "2.bias": np.zeros(2)}
>>> network, theta = interop.read_weights(state_dict, interop.TORCH, activation="tanh")
>>> policy = Policy(CATEGORICAL, network)
>>> network.sizes, theta.size
((3, 4, 2), 26)
>>> batch = Batch(observations=np.eye(3), actions=np.array([0, 1, 1]), advantages=np.array([1.0, -2.0, 1.0]))
>>> g = updates.surrogate_gradient(policy, theta, batch)
>>> natural = updates.natural_gradient(policy, theta, batch.observations, g, damping=0.1).direction
>>> F = geometry.fisher_matrix(policy, theta, batch.observations)
>>> np.abs(F @ natural + 0.1 * natural - g).max() < 1e-14
np.True_
>>> new = interop.write_weights(network, theta + 0.01 * natural, interop.TORCH, into=state_dict)
>>> new["0.weight"].shape, new["2.bias"].shape
((4, 3), (2,))
"""

from refpg.interop.files import read_arrays, write_arrays
from refpg.interop.layout import (
    EQUINOX,
    FLAX,
    HAIKU,
    KERAS,
    PLAIN,
    SB3_CONTINUOUS,
    SB3_DISCRETE,
    SB3_VALUE,
    TORCH,
    Layout,
)
from refpg.interop.weights import read_weights, write_weights

__all__ = [
    "EQUINOX",
    "FLAX",
    "HAIKU",
    "KERAS",
    "PLAIN",
    "SB3_CONTINUOUS",
    "SB3_DISCRETE",
    "SB3_VALUE",
    "TORCH",
    "Layout",
    "read_arrays",
    "read_weights",
    "write_arrays",
    "write_weights",
]
