"""refpg's own adapter answers every op of the contract, in the contract's form, under every convention."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refpg.conformance.ops import OPS, Op
from refpg.conformance.reference import answers, pack, policy_and_theta, unpack
from refpg.conformance.signatures import answer_shapes, parse_type, read_inputs
from refpg.conformance.vectors import Axis, frozen, load
from refpg.conformance.verdicts import flatten, native

from . import synthetic

SCALARS: dict[str, Any] = {
    "gamma": 0.75,
    "gae_lambda": 0.5,
    "clip": 0.1875,
    "clip_low": 0.1875,
    "clip_high": 0.25,
    "floor": 1.5,
    "samples": 384,
    "horizon": 1024,
    "kl_penalty": 0.5,
    "kl": 0.0625,
    "target": 0.015625,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.125,
    "step": 3,
    "learning_rate": 0.0625,
    "beta1": 0.875,
    "beta2": 0.9375,
    "epsilon": 0.0009765625,
    "damping": 0.125,
    "iterations": 2,
    "max_kl": 0.0078125,
    "backtrack": 0.5,
    "max_backtracks": 6,
    "penalty": 0.75,
    "constant": 8.0,
}
LENGTHS = {"B": 5, "T": 7, "E": 3, "D": 4, "A": 2, "P": 6, "M": 2, "S": 3, "N": 5}
DISTRIBUTIONS = (
    "transition", "start", "probabilities", "old_probabilities", "new_probabilities", "state_weights", "visitation",
)  # fmt: skip


def example(op: Op, distribution: str) -> dict[str, Any]:
    """Plain inputs of the right types, seeded by the op's name."""
    random = np.random.default_rng(list(op.name.encode()))
    lengths = LENGTHS | {"K": 5}

    def draw(*letters: str) -> Any:
        return (random.integers(-48, 48, [lengths.get(letter, 0) for letter in letters]) / 32).tolist()

    def layers(outputs: int) -> list[dict[str, Any]]:
        widths = (lengths["D"], 3, outputs)
        return [
            {
                "W": (random.integers(-32, 32, pair) / 32).tolist(),
                "b": (random.integers(-32, 32, pair[1]) / 32).tolist(),
            }
            for pair in itertools.pairwise(widths)
        ]

    def parameters() -> dict[str, Any]:
        return {"layers": layers(2)} | ({"log_std": draw("A")} if distribution == "diagonal_gaussian" else {})

    def value(name: str, text: str) -> Any:
        kind, letters, ragged = parse_type(text)
        if kind == "policy":
            return parameters() | {"activation": "tanh", "distribution": distribution}
        if kind == "parameters":
            return parameters()
        if kind == "network":
            return {"layers": layers(1 if name == "value_network" else 5), "activation": "tanh"}
        if ragged:
            return [[0, 2], [4, 1, 3]]
        if name == "action_sizes":
            return [2, 3]
        if name == "mask":
            return [[True] + [row != 2] * (lengths[letters[1]] - 1) for row in range(5)]
        if name == "group":
            return [4, 2, 4, 2, 2]
        if name == "matrix":
            root = random.integers(-8, 8, (6, 6)) / 8
            return (root @ root.T + np.eye(6)).tolist()
        if not letters:
            return SCALARS[name]
        if name in DISTRIBUTIONS:  # rows of three parts or more in 32, so that each sums to 1 and excludes nothing
            *rows, size = [lengths[letter] for letter in letters]
            return ((random.multinomial(32 - 3 * size, np.full(size, 1 / size), rows) + 3) / 32).tolist()
        if kind == "actions" and distribution == "diagonal_gaussian":
            return draw("B", "A")
        if kind in ("int", "actions"):
            zeros = np.zeros([lengths[letter] for letter in letters], dtype=int)
            zeros[..., 0:1] = random.integers(0, 2, zeros[..., 0:1].shape)
            return [0] * 5 if op.name.endswith("masked_categorical") else zeros.tolist()
        if kind == "bool":
            return random.choice([True, False], [lengths[letter] for letter in letters]).tolist()
        drawn = np.array(draw(*letters))
        return (np.abs(drawn) if name in ("second_moment", "kl") else drawn).tolist()

    inputs = {name: value(name, text) for name, text in op.inputs.items()}
    if op.name == "step_length":
        inputs["product"] = (2 * np.array(inputs["direction"])).tolist()
    return inputs


@pytest.fixture(scope="module")
def axes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Axis]:
    return load(synthetic.write(tmp_path_factory.mktemp("data"))).axes


def distributions_of(op: Op) -> tuple[str, ...]:
    return (
        ("categorical", "diagonal_gaussian") if {"policy", "parameters"} & set(op.inputs.values()) else ("categorical",)
    )


@pytest.mark.parametrize("name", OPS)
def test_every_op_is_answered_in_form_under_every_convention(name: str, axes: Mapping[str, Axis]) -> None:
    op = OPS[name]
    defaults = {axis: axes[axis].default for axis in axes}
    for distribution in distributions_of(op):
        inputs, lengths = read_inputs(op, example(op, distribution))
        shapes = answer_shapes(op, inputs, lengths)
        for values in itertools.product(*(axes[axis].values for axis in op.conventions)):
            conventions = defaults | dict(zip(op.conventions, values, strict=True))
            leaves = flatten(name, answers(conventions)[name](**native(frozen(inputs), "float64")), shapes)
            for path, shape in shapes.items():
                assert leaves[path].shape == shape.lengths, (conventions, path)
                assert np.isfinite(leaves[path]).all(), (conventions, path)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.conventions])
def test_every_axis_of_an_op_is_passed_on(name: str, axes: Mapping[str, Axis]) -> None:
    """An axis that the adapter forgets would give the same answer, or no error, under a value that does not exist."""
    op = OPS[name]
    inputs, _ = read_inputs(op, example(op, "categorical"))
    defaults = {axis: axes[axis].default for axis in axes}
    for axis in set(op.conventions) - {"step_length.damping"}:  # a yes or no, not a name
        with pytest.raises((ValueError, KeyError)):
            answers(defaults | {axis: "nonsense"})[name](**native(frozen(inputs), "float64"))


def test_the_damping_of_the_step_length_changes_the_step(axes: Mapping[str, Axis]) -> None:
    defaults = {axis: axes[axis].default for axis in axes}
    op = OPS["natural_gradient_step"]
    inputs, _ = read_inputs(op, example(op, "categorical"))
    damped, undamped = (
        answers(defaults | {"step_length.damping": value})[op.name](**native(frozen(inputs), "float64"))
        for value in ("damped", "undamped")
    )
    # xᵀFx < xᵀ(F + λI)x, so the undamped step is the longer one.
    assert np.linalg.norm(undamped["layers"][0]["W"]) > np.linalg.norm(damped["layers"][0]["W"])


def test_the_first_step_of_adam_has_the_length_of_the_learning_rate() -> None:
    """With zero moments the bias correction leaves m̂/√v̂ = ±1, up to ε; the contract calls this step 1."""
    answer = answers({})["adam_step"](
        parameters=np.zeros(2),
        gradient=np.array([4.0, -0.5]),
        first_moment=np.zeros(2),
        second_moment=np.zeros(2),
        step=1,
        learning_rate=0.25,
        beta1=0.875,
        beta2=0.9375,
        epsilon=2.0**-60,
    )
    # A few roundings: 8 units of 2^-53 relative to ¼.
    assert np.abs(answer["parameters"] - [-0.25, 0.25]).max() <= 8 * 2.0**-55


def test_parameters_are_packed_in_the_order_of_the_contract() -> None:
    layers = {
        "layers": [
            {"W": np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), "b": np.array([7.0, 8.0])},
            {"W": np.array([[9.0], [10.0]]), "b": np.array([11.0])},
        ],
        "activation": "tanh",
        "distribution": "diagonal_gaussian",
        "log_std": np.array([12.0]),
    }
    policy, theta = policy_and_theta(layers)
    assert theta.tolist() == list(range(1, 13))
    again = unpack(policy.network, theta)
    assert pack(policy.network, again).tolist() == list(range(1, 13))
    assert again["log_std"].tolist() == [12.0]
    assert again["layers"][1]["W"].shape == (2, 1)


def test_the_release_is_read_and_judged(tmp_path: Path) -> None:
    """The synthetic line search goes through reference, packing and all."""
    vectors = load(synthetic.write(tmp_path))
    case = vectors.cases["line_search"][0]
    defaults = {name: axis.default for name, axis in vectors.axes.items()}
    answer = answers(defaults)["line_search"](**native(case.inputs, "float64"))
    assert answer["parameters"]["layers"][0]["W"].tolist() == [[0.625, -0.25]]
    assert answer["accepted"] == 0
