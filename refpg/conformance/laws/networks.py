"""Laws of the network."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refpg.conformance.laws.answers import Answers
from refpg.conformance.laws.families import POLICIES
from refpg.conformance.laws.law import Gap, equal, law
from refpg.conformance.laws.parameters import mirrored, network_of
from refpg.conformance.laws.rounding import Rounded, rounded, tanh


def _forward(f: Answers, network: Any, observations: Any) -> Rounded:
    answer: Rounded = f("network_forward", network=network, observations=observations)
    return answer


@law(
    source="[TRPO App. C.1]",
    ops=("network_forward",),
    draw="policies",
    variants=POLICIES,
    blind="the hidden layers",
)
def the_last_layer_is_affine(f: Answers, policy: Any, observations: Any) -> Iterator[Gap]:
    """Twice the last weights and biases give twice the outputs; without weights they are the biases, for any size."""
    network = network_of(policy)
    last = network["layers"][-1]
    outputs = _forward(f, network, observations)
    doubled = {name: 2 * part for name, part in last.items()}
    yield equal(_forward(f, {**network, "layers": [*network["layers"][:-1], doubled]}, observations), 2 * outputs)
    constant = {"W": 0 * last["W"], "b": 4 * last["b"] + 1}
    without = _forward(f, {**network, "layers": [*network["layers"][:-1], constant]}, observations)
    yield equal(without, np.tile(constant["b"], (len(observations), 1)))


@law(
    source="[TRPO App. C.1]",
    ops=("network_forward",),
    draw="policies",
    variants=POLICIES,
    blind="an activation other than tanh that is odd",
)
def a_mirrored_unit_changes_nothing(f: Answers, policy: Any, observations: Any, unit: int) -> Iterator[Gap]:
    """tanh is odd: the sign of a hidden unit turned before and after it changes no output."""
    turned = network_of(mirrored(policy, policy, unit) | {"activation": policy["activation"]})
    yield equal(_forward(f, turned, observations), _forward(f, network_of(policy), observations))


@law(
    source="[TRPO App. C.1]",
    ops=("network_forward",),
    draw="policies",
    variants=POLICIES,
    blind="a layer that is wrong wherever it stands",
)
def a_network_is_its_layers_one_after_the_other(f: Answers, policy: Any, observations: Any) -> Iterator[Gap]:
    """The outputs are the last layer of tanh of the network before it, each of them asked for as a network."""
    layers = policy["layers"]
    whole = _forward(f, network_of(policy), observations)
    if len(layers) == 1:
        yield equal(whole, rounded(observations) @ layers[0]["W"] + layers[0]["b"])
        return
    before = _forward(f, {"layers": layers[:-1], "activation": "tanh"}, observations)
    yield equal(whole, _forward(f, {"layers": layers[-1:], "activation": "tanh"}, tanh(before)))


@law(
    source="[TRPO App. C.1]",
    ops=("network_forward",),
    draw="policies",
    variants=POLICIES,
    blind="everything about the activation",
)
def a_single_layer_is_a_matrix_product(f: Answers, policy: Any, observations: Any) -> Iterator[Gap]:
    """One layer is x W + b, W of shape (in, out); rows do not know each other."""
    first = policy["layers"][:1]
    # A square matrix takes its transpose without an error: repeat the layer's rows or columns until it is one.
    W = first[0]["W"]
    D = W.shape[0]
    square = np.tile(W, (1, D))[:, :D] + np.arange(D)
    for layer in (first[0], {"W": square, "b": np.arange(D) / 4.0}):
        outputs = _forward(f, {"layers": [layer], "activation": "tanh"}, observations)
        yield equal(outputs, rounded(observations) @ layer["W"] + layer["b"])
    alone = _forward(f, network_of(policy), observations[:1])
    yield equal(_forward(f, network_of(policy), observations)[:1], alone)
