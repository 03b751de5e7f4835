"""Weights in and out: names and orientations of each library, refusals that show both structures, hostile files.

What the libraries themselves make of the same weights is in `test_interop_peers`.  Nothing here rounds: all comparisons
are of bits.
"""

import io
import json
import os
import pickle
import re
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refpg import interop, network
from refpg.interop import npz, safetensors
from refpg.network import Network

W1 = np.arange(1.0, 7.0).reshape(2, 3)  # (in, out)
B1 = np.array([7.0, 8.0, 9.0])
W2 = np.array([[10.0], [11.0], [12.0]])
B2 = np.array([13.0])
THETA = np.arange(1.0, 14.0)  # (W1, b1, W2, b2): the numbers count θ's places
LOG_STD = np.array([14.0])


def torch_names(first, second, transposed=True):
    matrices = (W1.T, W2.T) if transposed else (W1, W2)
    return {f"{first}.weight": matrices[0], f"{first}.bias": B1, f"{second}.weight": matrices[1], f"{second}.bias": B2}


CRITIC = {"value_net.weight": np.ones((1, 5)), "value_net.bias": np.ones(1)}
CRITIC |= {"mlp_extractor.value_net.0.weight": np.ones((5, 2)), "mlp_extractor.value_net.0.bias": np.ones(5)}
FC = interop.TORCH._replace(layers=("fc1", "out"))
CLEANRL = interop.TORCH._replace(free="actor_logstd", others=("critic.",))

# As the libraries name them: torch 2.13, Stable-Baselines3 2.9, Flax (Linen compact, Linen Sequential, NNX), Haiku
# (nets.MLP, Sequential), Equinox (nn.MLP and Sequential by jax.tree_util.keystr), Keras 3.
LIBRARIES = {
    "torch Sequential": (interop.TORCH, torch_names("0", "2")),
    "torch Sequential with a dropout": (interop.TORCH, torch_names("0", "3")),
    "torch, a Sequential inside a module": (interop.TORCH, torch_names("body.net.2", "body.net.10")),
    "torch, layers named in order": (FC, dict(sorted(torch_names("fc1", "out").items(), reverse=True))),
    "Stable-Baselines3, discrete": (
        interop.SB3_DISCRETE,
        torch_names("mlp_extractor.policy_net.0", "action_net") | CRITIC,
    ),
    "Stable-Baselines3, values": (
        interop.SB3_VALUE,
        torch_names("mlp_extractor.value_net.0", "value_net")
        | {"action_net.weight": W1, "mlp_extractor.policy_net.0.weight": W2, "log_std": B1},
    ),
    "Flax compact": (
        interop.FLAX,
        {"params": {"Dense_0": {"bias": B1, "kernel": W1}, "Dense_1": {"bias": B2, "kernel": W2}}},
    ),
    "Flax Sequential": (
        interop.FLAX,
        {"params": {"layers_0": {"bias": B1, "kernel": W1}, "layers_2": {"bias": B2, "kernel": W2}}},
    ),
    "Flax NNX": (interop.FLAX, {"layers": {0: {"bias": B1, "kernel": W1}, 2: {"bias": B2, "kernel": W2}}}),
    "Flax, flattened by '/'": (
        interop.FLAX,
        {
            "params/Dense_1/bias": B2,
            "params/Dense_1/kernel": W2,
            "params/Dense_0/bias": B1,
            "params/Dense_0/kernel": W1,
        },
    ),
    "Haiku MLP": (interop.HAIKU, {"mlp/~/linear_0": {"b": B1, "w": W1}, "mlp/~/linear_1": {"b": B2, "w": W2}}),
    "Haiku Sequential": (interop.HAIKU, {"linear": {"b": B1, "w": W1}, "linear_1": {"b": B2, "w": W2}}),
    "Equinox MLP": (interop.EQUINOX, torch_names(".layers[0]", ".layers[1]")),
    "Equinox Sequential": (interop.EQUINOX, torch_names(".layers[0]", ".layers[2]")),
    "Keras": (interop.KERAS, [[W1, B1], [], [W2, B2]]),
    "Keras, in tuples": (interop.KERAS, ((W1, B1), (W2, B2))),
    "plain": (interop.PLAIN, {"layers[0].W": W1, "layers[0].b": B1, "layers[1].W": W2, "layers[1].b": B2}),
}
WITH_FREE = {
    "Stable-Baselines3, continuous": (
        interop.SB3_CONTINUOUS,
        {"log_std": LOG_STD} | torch_names("mlp_extractor.policy_net.0", "action_net") | CRITIC,
    ),
    "CleanRL": (
        CLEANRL,
        {"actor_logstd": LOG_STD[None], "critic.0.weight": W1} | torch_names("actor_mean.0", "actor_mean.2"),
    ),
    "plain": (
        interop.PLAIN._replace(free="free"),
        {"layers[0].W": W1, "layers[0].b": B1, "layers[1].W": W2, "layers[1].b": B2, "free": LOG_STD},
    ),
}
NUMBERED = Network((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13), "relu")  # more than ten layers: 10 comes after 9


def same(one, other):
    """Whether two nested structures hold the same bits."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


class TestEachLibrary:
    @pytest.mark.parametrize("library", LIBRARIES)
    def test_every_weight_finds_its_place(self, library):
        layout, arrays = LIBRARIES[library]
        net, theta = interop.read_weights(arrays, layout, activation="relu")
        assert net == Network((2, 3, 1), "relu")
        assert theta.tolist() == THETA.tolist()

    @pytest.mark.parametrize("library", WITH_FREE)
    def test_the_log_standard_deviation_comes_last(self, library):
        layout, arrays = WITH_FREE[library]
        net, theta = interop.read_weights(arrays, layout, activation="tanh")
        assert net == Network((2, 3, 1), "tanh", free=1)
        assert theta.tolist() == [*THETA, 14.0]

    @pytest.mark.parametrize("library", [*LIBRARIES, *WITH_FREE])
    def test_theta_goes_back_where_it_came_from(self, library):
        layout, arrays = (LIBRARIES | WITH_FREE)[library]
        before = pickle.dumps(arrays)
        net, theta = interop.read_weights(arrays, layout, activation="tanh")
        back = interop.write_weights(net, theta, layout, into=arrays)
        assert type(back) is type(arrays)
        assert same(back, arrays)
        moved = interop.write_weights(net, theta + 100, layout, into=arrays)
        assert interop.read_weights(moved, layout, activation="tanh")[1].tolist() == (theta + 100).tolist()
        assert pickle.dumps(arrays) == before

    @pytest.mark.parametrize("layout", [layout for layout, _ in LIBRARIES.values()], ids=list(LIBRARIES))
    def test_new_arrays_are_read_as_what_they_were(self, layout):
        layout = layout if layout.layers is None else layout._replace(layers=tuple("abcdefghijkl"))
        theta = np.arange(float(NUMBERED.num_parameters))
        arrays = interop.write_weights(NUMBERED, theta, layout)
        net, back = interop.read_weights(
            arrays if layout != interop.KERAS else nested(arrays), layout, activation="relu", sizes=NUMBERED.sizes
        )
        assert net == NUMBERED
        assert back.tolist() == theta.tolist()

    def test_a_linear_policy_has_the_last_layer_alone(self):
        arrays = {"action_net.weight": W1.T, "action_net.bias": B1} | CRITIC
        net, _ = interop.read_weights(arrays, interop.SB3_DISCRETE, activation="tanh")
        assert net.sizes == (2, 3)

    def test_what_belongs_to_something_else_is_not_looked_at(self):
        """Not even converted; and it is handed back as the same object."""
        arrays = torch_names("0", "2") | {"critic.log": "not an array", "critic.0.weight": object()}
        layout = interop.TORCH._replace(others=("critic.",))
        net, theta = interop.read_weights(arrays, layout, activation="tanh")
        back = interop.write_weights(net, theta, layout, into=arrays)
        assert back["critic.0.weight"] is arrays["critic.0.weight"]

    def test_any_mapping_and_any_array_will_do(self):
        class Tensor:
            def __init__(self, value):
                self.value = value

            def __array__(self, dtype=None, copy=None):
                return np.array(self.value, dtype)

        arrays = MappingProxyType(OrderedDict((name, Tensor(value)) for name, value in torch_names("0", "2").items()))
        _, theta = interop.read_weights(arrays, interop.TORCH, activation="tanh")
        assert theta.tolist() == THETA.tolist()

    def test_theta_is_a_copy_and_so_are_the_arrays(self):
        arrays = {"0.weight": np.ones((1, 2)), "0.bias": np.ones(1)}
        net, theta = interop.read_weights(arrays, interop.TORCH, activation="tanh")
        theta[:] = 5.0
        assert arrays["0.weight"].tolist() == [[1.0, 1.0]]
        back = interop.write_weights(net, theta, interop.TORCH)
        back["0.weight"][:] = 6.0
        assert theta.tolist() == [5.0, 5.0, 5.0]


def nested(flat):
    """Keras' lists of lists, from the names [0][0], [0][1], ..."""
    values = list(flat.values())
    return [list(pair) for pair in zip(values[::2], values[1::2], strict=True)]


widths = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)


class TestRoundTrips:
    @given(
        sizes=widths,
        free=st.integers(0, 3),
        dtype=st.sampled_from([np.float16, np.float32, np.float64, np.longdouble]),
        layout=st.sampled_from([interop.TORCH, interop.FLAX, interop.HAIKU, interop.EQUINOX, interop.PLAIN]),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_theta_to_arrays_to_theta_is_the_identity_on_bits(self, sizes, free, dtype, layout, seed):
        net = Network(sizes, "elu", free=free)
        theta = np.random.default_rng(seed).normal(size=net.num_parameters).astype(dtype)
        theta[0] = -0.0
        layout = layout._replace(free="log_std" if free else None)
        arrays = interop.write_weights(net, theta, layout)
        again, back = interop.read_weights(arrays, layout, activation="elu")
        assert again == net
        assert same(back, theta)

    @given(sizes=widths, seed=st.integers(0, 2**32 - 1))
    def test_torch_computes_x_w_transposed(self, sizes, seed):
        """torch's Linear is x Wᵀ + b: evaluated by hand from the arrays, beside the network from θ."""
        generator = np.random.default_rng(seed)
        net = Network(sizes, "identity")
        theta = generator.integers(-8, 9, net.num_parameters).astype(float)  # integers: nothing rounds
        x = generator.integers(-8, 9, (3, sizes[0])).astype(float)
        arrays = interop.write_weights(net, theta, interop.TORCH)
        h = x
        for position in range(len(sizes) - 1):
            h = h @ arrays[f"{2 * position}.weight"].T + arrays[f"{2 * position}.bias"]
        assert np.array_equal(h, network.forward(net, theta, x))

    @given(sizes=widths, seed=st.integers(0, 2**32 - 1))
    def test_keras_computes_x_kernel(self, sizes, seed):
        generator = np.random.default_rng(seed)
        net = Network(sizes, "identity")
        theta = generator.integers(-8, 9, net.num_parameters).astype(float)
        x = generator.integers(-8, 9, (3, sizes[0])).astype(float)
        h = x
        for kernel, bias in nested(interop.write_weights(net, theta, interop.KERAS)):
            h = h @ kernel + bias
        assert np.array_equal(h, network.forward(net, theta, x))

    def test_a_square_matrix_is_turned_by_the_layout_alone(self):
        square = np.array([[1.0, 2.0], [3.0, 4.0]])
        bias = np.array([5.0, 6.0])
        _, torch = interop.read_weights({"0.weight": square, "0.bias": bias}, interop.TORCH, activation="tanh")
        _, plain = interop.read_weights(
            {"layers[0].W": square, "layers[0].b": bias}, interop.PLAIN, activation="tanh"
        )
        assert torch.tolist() == [1.0, 3.0, 2.0, 4.0, 5.0, 6.0]
        assert plain.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def refusal(arrays, layout=interop.TORCH, **options):
    with pytest.raises(ValueError, match=r"^read_weights: ") as error:
        interop.read_weights(arrays, layout, **{"activation": "tanh"} | options)
    return str(error.value)


def marked(message):
    """The lines of a message that do not agree, without their padding."""
    return [" ".join(line.split()) for line in message.splitlines() if line.startswith("  ≠")]


class TestRefusals:
    def test_both_structures_are_shown_line_by_line(self):
        arrays = torch_names("0", "2", transposed=False) | {"3.running_mean": np.ones(1)}
        message = refusal(arrays, sizes=(2, 3, 1))
        assert message.splitlines() == [
            "read_weights: the arrays are not those of a network of widths (2, 3, 1) in the layout torch (out, in)",
            "    given                           expected",
            "  ≠ 0.weight       (2, 3) float64   0.weight (3, 2)",
            "    0.bias         (3,)   float64   0.bias   (3,)",
            "  ≠ 2.weight       (3, 1) float64   2.weight (1, 3)",
            "    2.bias         (1,)   float64   2.bias   (1,)",
            "  ≠ 3.running_mean (1,)   float64   —",
            "Expected is module.state_dict(). A layout can name the layers in order, layers=(...), the free entries, "
            "free=..., and beginnings of names that belong to something else, others=(...)",
        ]

    @pytest.mark.parametrize(
        ("change", "lines"),
        [
            pytest.param({"2.bias": None}, ["≠ — 2.bias (1,)"], id="no bias"),
            pytest.param({"2.weight": None}, ["≠ — 2.weight (1, 3)"], id="no weight"),
            pytest.param({"0.bias": np.ones(2)}, ["≠ 0.bias (2,) float64 0.bias (3,)"], id="length of a bias"),
            pytest.param({"2.weight": W2}, ["≠ 2.weight (3, 1) float64 2.weight (1, 3)"], id="orientation"),
            pytest.param(
                {"2.weight": np.ones((1, 4))}, ["≠ 2.weight (1, 4) float64 2.weight (1, 3)"], id="layers do not chain"
            ),
            pytest.param({"1.weight": np.ones(3), "1.bias": np.ones(3)}, None, id="a layer norm"),
            pytest.param({"log_std": np.ones(1)}, ["≠ log_std (1,) float64 —"], id="free entries not in the layout"),
            pytest.param({"0.weight": np.ones((3, 2, 1, 1))}, None, id="a convolution"),
            pytest.param({"0.bias": np.ones((3, 1))}, ["≠ 0.bias (3, 1) float64 0.bias (3,)"], id="axes of a bias"),
        ],
    )
    def test_what_does_not_fit_is_marked(self, change, lines):
        arrays = {name: value for name, value in (torch_names("0", "2") | change).items() if value is not None}
        message = refusal(arrays, sizes=(2, 3, 1))
        assert marked(message) if lines is None else marked(message) == lines

    @pytest.mark.parametrize("change", [{"2.bias": None}, {"0.bias": np.ones(2)}, {"2.weight": np.ones((1, 4))}])
    def test_nothing_is_derived_from_what_does_not_fit(self, change):
        """Without stated sizes the matrices say what is expected, and everything else is held against them."""
        arrays = {name: value for name, value in (torch_names("0", "2") | change).items() if value is not None}
        assert len(marked(refusal(arrays))) == 1

    def test_one_layer_too_few_or_too_many(self):
        arrays = torch_names("0", "2")
        assert marked(refusal(arrays, sizes=(2, 3, 4, 1))) == [
            "≠ 2.weight (1, 3) float64 2.weight (4, 3)",
            "≠ 2.bias (1,) float64 2.bias (4,)",
            "≠ — <layer 3>.weight (1, 4)",
            "≠ — <layer 3>.bias (1,)",
        ]
        assert "≠ 2.bias (1,) float64 —" in marked(refusal(arrays, sizes=(2, 3)))

    def test_the_wrong_order_of_named_layers(self):
        message = refusal(torch_names("fc1", "out"), FC._replace(layers=("out", "fc1")))
        assert "≠ fc1.weight (3, 2) float64 fc1.weight (3, 1)" in marked(message)

    def test_names_that_nobody_counts_are_not_guessed(self):
        message = refusal(torch_names("fc1", "fc2"))
        assert "no layer is recognised" in message
        assert "fc1.weight (3, 2) float64" in message
        assert "layers=(...)" in message

    @pytest.mark.parametrize("arrays", [{}, [], {"critic.0.weight": W1}])
    def test_no_arrays_are_no_network(self, arrays):
        assert "no layer is recognised" in refusal(arrays, interop.TORCH._replace(others=("critic.",)))

    def test_two_networks_are_not_mixed(self):
        arrays = torch_names("actor.0", "actor.2") | torch_names("critic.0", "critic.2")
        assert "others=('critic.',)" in refusal(arrays)
        net, _ = interop.read_weights(arrays, interop.TORCH._replace(others=("critic.",)), activation="tanh")
        assert net.sizes == (2, 3, 1)

    def test_two_layers_with_one_number(self):
        arrays = {"linear": {"w": W1, "b": B1}, "linear_0": {"w": W2, "b": B2}}
        assert "'linear', 'linear_0' are not counted one by one" in refusal(arrays, interop.HAIKU)

    def test_gsde_and_images_are_refused(self):
        _, arrays = WITH_FREE["Stable-Baselines3, continuous"]
        assert marked(refusal(arrays | {"log_std": np.ones((3, 1))}, interop.SB3_CONTINUOUS))
        message = refusal(arrays | {"features_extractor.cnn.0.weight": np.ones((2, 2, 3, 3))}, interop.SB3_CONTINUOUS)
        assert marked(message) == ["≠ features_extractor.cnn.0.weight (2, 2, 3, 3) float64 —"]

    def test_a_log_std_that_is_not_there_or_not_expected(self):
        _, arrays = WITH_FREE["Stable-Baselines3, continuous"]
        assert marked(refusal(arrays, interop.SB3_DISCRETE)) == ["≠ log_std (1,) float64 —"]
        without = {name: value for name, value in arrays.items() if name != "log_std"}
        assert marked(refusal(without, interop.SB3_CONTINUOUS)) == ["≠ — log_std (?,)"]

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ([1.0, 2.0, 3.0], "two arrays|is a float, expected an array"),
            (None, "0.bias is a NoneType, expected an array"),
            (np.array([1, 2, 3]), "0.bias has dtype int64, expected float64, float32 or float16; cast it"),
            (np.array([1j, 2, 3]), "0.bias has dtype complex128"),
            (np.array(["a", "b", "c"]), "0.bias has dtype <U1"),
            (np.array([None, None, None]), "0.bias has dtype object"),
            (np.ones(0), r"0.bias has shape \(0,\), expected at least one entry"),
            (np.array([1.0, np.nan, 2.0]), "0.bias holds NaN or infinity"),
            (np.array([1.0, -np.inf, 2.0]), "0.bias holds NaN or infinity"),
        ],
    )
    def test_what_is_no_array_of_finite_numbers(self, value, words):
        assert re.search(words, refusal(torch_names("0", "2") | {"0.bias": value}))

    def test_an_array_that_cannot_be_read_says_why(self):
        class OnAnotherDevice:
            def __array__(self, dtype=None, copy=None):
                raise TypeError("it is on another device")

        message = refusal(torch_names("0", "2") | {"2.bias": OnAnotherDevice()})
        assert message == "read_weights: 2.bias cannot be read as an array: it is on another device"

    def test_mixed_dtypes(self):
        message = refusal(torch_names("0", "2") | {"2.bias": B2.astype(np.float32)})
        assert "2 dtypes, expected one" in message
        assert "2.bias   (1,)   float32" in message

    def test_names_are_printable_and_messages_bounded(self):
        arrays = torch_names("0", "2") | {"\x1b[31mred\n" + "a" * 1000: B1} | {f"x{i}": B1 for i in range(1000)}
        message = refusal(arrays)
        assert "\x1b" not in message
        assert "… and " in message
        assert len(message) < 10_000
        assert all(len(line) < 160 for line in message.splitlines()[1:-1])

    @pytest.mark.parametrize("arrays", [None, 3, "weights.npz", np.ones(3)])
    def test_what_is_no_mapping(self, arrays):
        assert "expected a mapping of names to arrays" in refusal(arrays)

    def test_one_name_for_two_arrays(self):
        assert "two arrays have the name '0.bias'" in refusal({"0.bias": B1, "0": {"bias": B1}})

    def test_the_activation_and_the_sizes_are_checked(self):
        arrays = torch_names("0", "2")
        assert "activation is 'sin', expected one of 'tanh'" in refusal(arrays, activation="sin")
        assert "sizes[1] is 0" in refusal(arrays, sizes=(2, 0))
        assert "expected two or more widths" in refusal(arrays, sizes=(2,))

    def test_an_array_named_twice_in_a_layout(self):
        assert "names an array twice" in refusal(torch_names("0", "2"), interop.TORCH._replace(layers=("0", "0")))

    @pytest.mark.parametrize(
        ("net", "theta", "layout", "words"),
        [
            (Network((2, 3, 1)), THETA[1:], interop.TORCH, r"theta has shape \(12,\)"),
            (Network((2, 3, 1), free=1), np.ones(14), interop.TORCH, "network.free is 1 and layout.free is None"),
            (Network((2, 3, 1)), THETA, interop.SB3_CONTINUOUS, "network.free is 0 and layout.free is 'log_std'"),
            (Network((2, 3, 1)), THETA, FC._replace(layers=("a",)), "names 1 layers, expected 2"),
        ],
    )
    def test_what_cannot_be_written(self, net, theta, layout, words):
        with pytest.raises(ValueError, match=f"^write_weights: .*{words}"):
            interop.write_weights(net, theta, layout)

    def test_what_does_not_fit_into_the_arrays_given(self):
        with pytest.raises(ValueError, match="^write_weights: ") as error:
            interop.write_weights(Network((3, 3, 1)), np.ones(16), interop.TORCH, into=torch_names("0", "2"))
        assert marked(str(error.value)) == ["≠ 0.weight (3, 2) float64 0.weight (3, 3)"]

    def test_free_entries_that_do_not_fit_into_the_array_given(self):
        layout, arrays = WITH_FREE["CleanRL"]
        arrays = arrays | {"actor_logstd": np.ones((2, 1))}
        with pytest.raises(ValueError, match="^write_weights: ") as error:
            interop.write_weights(Network((2, 3, 1), free=1), np.ones(14), layout, into=arrays)
        assert marked(str(error.value)) == ["≠ actor_logstd (2, 1) float64 actor_logstd (1,)"]


finite_or_not = st.floats(allow_nan=True, allow_infinity=True, width=64)
file_arrays = st.dictionaries(
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8).filter(str.isprintable),
    st.builds(
        lambda values, dtype, columns: np.array(values * columns, dtype=np.uint64)
        .view(np.float64)
        .astype(dtype)
        .reshape(len(values), columns),
        st.lists(st.integers(0, 2**63), min_size=1, max_size=4),
        st.sampled_from([np.float64, np.float32, np.float16]),
        st.integers(1, 3),
    ),
    max_size=4,
)
ENDINGS = (".npz", ".safetensors")


@pytest.mark.parametrize("ending", ENDINGS)
class TestFiles:
    def test_weights_travel_through_a_file(self, ending, tmp_path):
        layout, arrays = WITH_FREE["Stable-Baselines3, continuous"]
        path = tmp_path / f"weights{ending}"
        interop.write_arrays(path, arrays)
        _, theta = interop.read_weights(interop.read_arrays(path), layout, activation="tanh")
        assert theta.tolist() == [*THETA, 14.0]

    def test_arrays_come_back_bit_for_bit(self, ending, tmp_path_factory):
        path = tmp_path_factory.mktemp("bits") / f"arrays{ending}"

        @given(arrays=file_arrays)
        @settings(max_examples=40)
        def bits(arrays):
            with np.errstate(all="ignore"):
                interop.write_arrays(path, arrays)
            back = interop.read_arrays(path)
            assert set(back) == set(arrays)
            assert all(same(back[name], arrays[name]) for name in arrays)
            assert all(array.flags.writeable for array in back.values())

        with np.errstate(all="ignore"):
            bits()

    def test_any_order_in_memory_and_of_bytes(self, ending, tmp_path):
        path = tmp_path / f"arrays{ending}"
        value = np.arange(6.0).reshape(2, 3)
        interop.write_arrays(path, {"columns": np.asfortranarray(value), "big": value.astype(">f8"), "scalar": B2[0]})
        back = interop.read_arrays(path)
        assert same(back["columns"], value)
        assert same(back["big"], value)
        assert back["scalar"].shape == ()

    def test_the_same_arrays_give_the_same_bytes(self, ending, tmp_path):
        one, other = tmp_path / f"one{ending}", tmp_path / f"other{ending}"
        interop.write_arrays(one, torch_names("0", "2"))
        time.sleep(0.01)
        interop.write_arrays(other, torch_names("0", "2"))
        assert one.read_bytes() == other.read_bytes()

    def test_a_write_that_fails_leaves_what_was_there(self, ending, tmp_path, monkeypatch):
        path = tmp_path / f"weights{ending}"
        interop.write_arrays(path, {"a": B1})

        def full(*_):
            raise OSError("no space left")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            interop.write_arrays(path, {"a": B2})
        assert same(interop.read_arrays(path), {"a": B1})
        assert list(tmp_path.iterdir()) == [path]

    def test_a_new_file_has_the_permissions_of_any_other(self, ending, tmp_path):
        path, other = tmp_path / f"weights{ending}", tmp_path / "other"
        interop.write_arrays(path, {"a": B1})
        other.touch()
        assert path.stat().st_mode == other.stat().st_mode

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"a": np.array([1, 2])}, "a has dtype int64"),
            ({"a": np.ones(2, np.longdouble)}, "a has dtype (float128|longdouble)"),
            ({"a": np.array([None])}, "a has dtype object"),
            ({"a": [1.0]}, "a is a list, expected an array"),
            ({"": B1}, "'' is no name"),
            ({"a\0b": B1}, r"'a\\x00b' is no name"),
            ({"\udcff": B1}, r"'\\udcff' is no name"),
            ({"__metadata__": B1}, "'__metadata__' is no name"),
            ({3: B1}, "3 is no name"),
            ([B1], "arrays is a list"),
        ],
    )
    def test_what_cannot_be_written(self, ending, arrays, words, tmp_path):
        with pytest.raises(ValueError, match=f"^write_arrays: {words}"):
            interop.write_arrays(tmp_path / f"weights{ending}", arrays)
        assert not list(tmp_path.iterdir())

    def test_places_that_cannot_be_written_or_read(self, ending, tmp_path):
        (tmp_path / f"folder{ending}").mkdir()
        for path in (tmp_path / "missing" / f"a{ending}", tmp_path / f"folder{ending}"):
            with pytest.raises(ValueError, match="expected a file in a folder that exists"):
                interop.write_arrays(path, {"a": B1})
            with pytest.raises(ValueError, match="is not there or is no file"):
                interop.read_arrays(path)

    def test_a_large_file_is_not_opened(self, ending, tmp_path):
        path = tmp_path / f"large{ending}"
        interop.write_arrays(path, {"a": np.ones(1000)})
        with pytest.raises(ValueError, match=r"bytes, expected at most most_bytes = 8000"):
            interop.read_arrays(path, most_bytes=8000)
        assert interop.read_arrays(path, most_bytes=path.stat().st_size)["a"].sum() == 1000

    def test_every_truncation_is_refused(self, ending, tmp_path):
        path = tmp_path / f"weights{ending}"
        interop.write_arrays(path, {"0.weight": W1, "0.bias": B1.astype(np.float32)})
        data = path.read_bytes()
        for length in range(len(data)):
            path.write_bytes(data[:length])
            with pytest.raises(ValueError, match="^read_arrays: "):
                interop.read_arrays(path)

    def test_damage_is_refused_or_read_as_other_numbers_and_never_anything_else(self, ending, tmp_path):
        """An .npz has a checksum of its numbers, a .safetensors has none."""
        path = tmp_path / f"weights{ending}"
        interop.write_arrays(path, {"0.weight": W1, "0.bias": B1.astype(np.float32)})
        data = path.read_bytes()
        generator = np.random.default_rng(0)
        refused = 0
        for _ in range(1500):
            damaged = bytearray(data)
            for place in generator.integers(0, len(data), generator.integers(1, 4)):
                damaged[place] = generator.integers(0, 256)
            answer = answer_to(damaged, ending)
            if isinstance(answer, str):
                assert answer.startswith(("has ", "holds ", "is damaged ", "ends within ", "unpacks to "))
                assert len(answer) < 300
                refused += 1
            else:
                assert all(array.dtype.kind == "f" for array in answer.values())
        assert refused > 300


def answer_to(data, ending):
    """The arrays, or the message by which they are refused."""
    try:
        return npz.decoded(bytes(data), 2**20) if ending == ".npz" else safetensors.decoded(bytes(data))
    except ValueError as error:
        return str(error)


def safetensors_file(header, numbers=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def entry(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class TestSafetensors:
    def test_the_bytes_are_those_of_the_format(self):
        data = safetensors.encoded({"b": np.array([1.0], np.float32), "a": np.array([[2.0, 3.0]])})
        length = int.from_bytes(data[:8], "little")
        assert json.loads(data[8 : 8 + length]) == {
            "a": entry(0, 16, [1, 2], "F64"),
            "b": entry(16, 20, [1]),
        }
        assert data[8 + length :] == struct.pack("<ddf", 2.0, 3.0, 1.0)

    def test_the_numbers_are_aligned(self):
        lengths = [int.from_bytes(safetensors.encoded({"a" * n: B1})[:8], "little") for n in range(1, 9)]
        assert {length % 8 for length in lengths} == {0}

    def test_metadata_is_allowed_and_of_no_consequence(self):
        data = safetensors_file({"__metadata__": {"format": "pt"}, "a": entry(0, 4, [1])}, struct.pack("<f", 2.5))
        assert same(safetensors.decoded(data), {"a": np.array([2.5], np.float32)})

    @pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -2.5, 2.0**127, 2.0**-133, np.inf, -np.inf])
    def test_bfloat16_becomes_float32_exactly(self, value):
        """bfloat16 is the upper half of a float32; these have nothing in the lower half."""
        upper = struct.pack("<f", value)[2:]
        (back,) = safetensors.decoded(safetensors_file({"a": entry(0, 2, [], "BF16")}, upper)).values()
        assert back.dtype == np.float32
        assert back.tobytes() == np.float32(value).tobytes()

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "0 bytes and declares a header of 0"),
            (struct.pack("<Q", 2**63) + b"{}", "declares a header of 9223372036854775808"),
            (struct.pack("<Q", 2**21) + b" " * 2**21, "at most 1048576"),
            (struct.pack("<Q", 3) + b"{}", "declares a header of 3"),
            (safetensors_file(b"[]"), "no JSON object"),
            (safetensors_file(b"{}}"), "no JSON"),
            (safetensors_file(b'{"a": \xff}'), "no JSON"),
            (safetensors_file(b"[" * 100_000), "no JSON"),
            (safetensors_file(b'{"a": ' + b"9" * 5000 + b"}"), "no JSON"),
            (safetensors_file(b'{"a": 1, "a": 2}'), "a name occurs twice"),
            (safetensors_file({"a": 3}), "without exactly a dtype"),
            (safetensors_file({"a": {"dtype": "F32", "shape": [1]}}), "without exactly a dtype"),
            (safetensors_file({"a": entry(0, 8, [1], "I64")}, bytes(8)), "dtype I64, expected F64, F32, F16, BF16"),
            (safetensors_file({"a": entry(0, 4, [1], ["F32"])}, bytes(4)), "expected F64"),
            (safetensors_file({"a": entry(0, 4, [True])}, bytes(4)), "integers >= 0"),
            (safetensors_file({"a": entry(0, 4, [1.0])}, bytes(4)), "integers >= 0"),
            (safetensors_file({"a": entry(0, 4, [-1])}, bytes(4)), "integers >= 0"),
            (safetensors_file({"a": entry(-4, 0, [1])}, bytes(4)), "integers >= 0"),
            (safetensors_file({"a": entry(0, 4, 1)}, bytes(4)), "integers >= 0"),
            (safetensors_file({"a": entry(0, 4, [1] * 33)}, bytes(4)), "33 axes"),
            (safetensors_file({"a": entry(0, 8, [1])}, bytes(8)), "another length"),
            (safetensors_file({"a": entry(0, 4, [2**62, 2**62])}, bytes(4)), "another length"),
            (safetensors_file({"a": entry(0, 4, [2**62, 4])}, bytes(4)), "another length"),
            (safetensors_file({"a": entry(0, 0, [0])}), "another length"),
            (safetensors_file({"a": entry(0, 0, [0, 2**70])}), "another length"),
            (safetensors_file({"a": entry(0, 8, [2])}, bytes(4)), "outside the file"),
            (safetensors_file({"a": entry(4, 8, [1])}, bytes(8)), "overlap or leave gaps"),
            (safetensors_file({"a": entry(0, 4, [1])}, bytes(8)), "overlap or leave gaps"),
            (safetensors_file({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, bytes(4)), "overlap"),
            (safetensors_file({"a": entry(0, 8, [2]), "b": entry(4, 8, [1])}, bytes(8)), "overlap"),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, data, words):
        with pytest.raises(ValueError, match=re.escape(words)):
            safetensors.decoded(data)


def npy(value, **changes):
    """A .npy whose header says something else than its numbers."""
    file = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(value) | changes
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + value.tobytes()


def headed(text):
    """A .npy with this header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(members, packing=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as target:
        for name, content in members:
            target.writestr(name, content)
    return file.getvalue()


def lying(data, size):
    """The archive, with another unpacked size in its directory and in front of its only member."""
    changed = bytearray(data)
    directory = data.index(b"PK\x01\x02")
    changed[directory + 24 : directory + 28] = struct.pack("<I", size)
    changed[22:26] = struct.pack("<I", size)
    return bytes(changed)


DEFLATED = archive([("a.npy", npy(B1))], zipfile.ZIP_DEFLATED)


def with_offset(data, offset):
    """The archive, whose directory says in its 64-bit field that its only member begins there."""
    directory, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    field = struct.pack("<HHQ", 1, 8, offset)
    entry, tail = bytearray(data[directory:end]), bytearray(data[end:])
    entry[30:32] = struct.pack("<H", len(field))
    entry[42:46] = b"\xff" * 4
    tail[12:16] = struct.pack("<I", len(entry) + len(field))
    return data[:directory] + bytes(entry) + field + bytes(tail)


class TestNpz:
    def test_numpy_reads_it(self, tmp_path):
        path = tmp_path / "weights.npz"
        interop.write_arrays(path, torch_names("0", "2"))
        with np.load(path, allow_pickle=False) as loaded:
            assert same({name: loaded[name] for name in loaded.files}, torch_names("0", "2"))

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_it_reads_numpys(self, save, tmp_path):
        path = tmp_path / "weights.npz"
        save(path, **torch_names("0", "2"))
        back = interop.read_arrays(path)
        assert interop.read_weights(back, interop.TORCH, activation="tanh")[1].tolist() == THETA.tolist()

    def test_a_pickle_is_never_opened(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "opened"),)

        path = tmp_path / "weights.npz"
        np.savez(path, a=np.array([Bomb()], dtype=object))
        (tmp_path / "opened").rmdir() if (tmp_path / "opened").exists() else None
        with pytest.raises(ValueError, match="holds a of dtype object"):
            interop.read_arrays(path)
        assert not (tmp_path / "opened").exists()

    def test_a_bomb_is_not_unpacked(self):
        data = archive([("a.npy", bytes(10**8))], zipfile.ZIP_DEFLATED)
        assert len(data) < 10**6
        with pytest.raises(ValueError, match="unpacks to 100000000 bytes"):
            npz.decoded(data, 10**7)

    def test_a_bomb_that_lies_about_its_size_is_unpacked_no_further_than_it_says(self):
        data = lying(archive([("a.npy", bytes(10**8))], zipfile.ZIP_DEFLATED), 1000)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="is damaged in a.npy"):
                npz.decoded(data, 10**7)
            assert tracemalloc.get_traced_memory()[1] < 10**7
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (archive([("a.txt", b"")]), "different names ending in .npy"),
            (archive([("a.npy", b"")]), "without a header"),
            (archive([("a.npy", b"\x93NUMPY\x09\x00" + bytes(100))]), "without a header"),
            (archive([("a.npy", npy(B1))], zipfile.ZIP_BZIP2), "packing NumPy does not write"),
            (archive([("a.npy", npy(B1))], zipfile.ZIP_LZMA), "packing NumPy does not write"),
            (archive([("a.npy", npy(B1, shape=(4,)))]), "24 bytes, which is not the shape (4,)"),
            (archive([("a.npy", npy(B1, shape=(2**40,)))]), "not the shape"),
            (archive([("a.npy", npy(B1, shape=(2**32, 2**32)))]), "not the shape"),
            (archive([("a.npy", npy(B1, shape=(-3, -1)))]), "not the shape"),
            (archive([("a.npy", npy(np.ones(0)))]), "0 bytes"),
            (archive([("a.npy", npy(np.array([1, 2])))]), "dtype int64"),
            (archive([("a.npy", npy(np.ones(2, np.longdouble)))]), "dtype "),
            (archive([("a.npy", npy(B1, descr="|O"))]), "dtype object"),
            (archive([("a.npy", npy(B1, descr="(3,)f8", shape=()))]), "of dtype ("),
            (archive([("a.npy", npy(B1, descr="no such thing"))]), "without a header"),
            (archive([("a.npy", npy(B1).replace(b"(3,)", b"(3L,"))]), "without a header"),
            (archive([("a.npy", npy(B1).replace(b"(3,), }", b"(3L,),}"))]), "without a header"),
            (archive([("a.npy", npy(np.ones(1), shape=(1,) * 65))]), "impossible shape"),
            (archive([("a.npy", headed(b"-" * 9000 + b"1"))]), "without a header"),
            (archive([("a.npy", headed(b"(" * 9000))]), "without a header"),
            (archive([("a.npy", headed(b"{[]: 1}"))]), "without a header"),
            (archive([("a.npy", headed(b"{1: 2, 'descr': 3}"))]), "without a header"),
            (DEFLATED[:35] + b"\xff" + DEFLATED[36:], "is damaged in a.npy: Error -3"),
            (lying(DEFLATED, len(npy(B1)) + 1), "ends within a.npy"),
            (with_offset(archive([("a.npy", npy(B1))]), 2**63), "is damaged in a.npy"),
            (with_offset(archive([("a.npy", npy(B1))]), 2**62), "is damaged in a.npy"),
            (archive([("é.npy", npy(B1))]).replace("é".encode(), b"\xff\xff"), "is damaged or no archive"),
            (b"PK\x05\x06" + bytes(17), "no archive"),
            (pickle.dumps(B1), "no archive"),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, data, words):
        with pytest.raises(ValueError, match=re.escape(words)):
            npz.decoded(data, 2**20)

    def test_two_members_of_one_name(self):
        with pytest.warns(UserWarning, match="Duplicate name"):
            data = archive([("a.npy", npy(B1)), ("a.npy", npy(B2))])
        with pytest.raises(ValueError, match="different names"):
            npz.decoded(data, 2**20)
