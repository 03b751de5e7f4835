"""What the types of the contract mean: reading inputs, and the leaves an answer must have.

The grammar is that of `refpg.conformance.ops`.  An answer is compared leaf by leaf; a leaf is one array, named by its
path: ``advantages``, ``gradient.layers[0].W``, ``gradient.log_std``.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from refpg.conformance.ops import Op
from refpg.network import ACTIVATIONS
from refpg.notation import Array

_TYPE = re.compile(r"(float|int|bool|str|actions|network|policy|parameters)(?:\[([A-Za-z, ]*)\])?(\[\*\])?")
_LARGEST_EXACT_INTEGER = 2**53

_FAMILIES = ("categorical", "diagonal_gaussian")
_MEANINGS = {
    "[*]": ("int[M][*]", "M lists of row numbers, of any lengths"),
    "network": ("network", '{"layers": [{"W": float[in, out], "b": float[out]}, ...], "activation": str}'),
    "policy": (
        "policy",
        'a network with "distribution": "categorical" (its outputs are logits), or "diagonal_gaussian" (means) and '
        '"log_std": float[A]',
    ),
    "parameters": ("parameters", '{"layers": [{"W": ..., "b": ...}, ...]}, and "log_std" where the policy has one'),
    "actions": ("actions[B]", 'int[B] for "categorical", float[B, A] for "diagonal_gaussian"'),
}
_LETTERS = {
    "B": "rows",
    "A": "actions, or the dimensions of an action",
    "K": "outputs of a network, or numbers that set a distribution",
    "T": "time steps, or tokens",
    "E": "environments",
    "D": "features of an observation",
    "M": "minibatches",
    "P": "parameters, layer by layer, W row by row, then b, log_std last",
    "S": "states",
    "N": "sequences of tokens",
}
_LEGEND = 96


class Type(NamedTuple):
    """A parsed type: its ``kind``, its shape ``letters``, and whether it is ``ragged``: lists of any lengths."""

    kind: str
    letters: tuple[str, ...]
    ragged: bool


class Shape(NamedTuple):
    """What one leaf of an answer must be: its ``kind``, float or int, and its ``lengths``."""

    kind: str
    lengths: tuple[int, ...]


def parse_type(text: str) -> Type:
    """Parse a type of the contract.

    Examples
    --------
    >>> parse_type("float[B, A]")
    Type(kind='float', letters=('B', 'A'), ragged=False)
    """
    match = _TYPE.fullmatch(text)
    if match is None:
        raise ValueError(f"parse_type: {text!r} is not a type of the contract")
    kind, letters, ragged = match.groups()
    return Type(kind, tuple(letters.replace(" ", "").split(",")) if letters else (), ragged is not None)


def legend(ops: Iterable[Op]) -> list[str]:
    """Return what the types of some ops mean, line by line, for a person.

    Parameters
    ----------
    ops : iterable of Op
        Only what occurs in their signatures is explained.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from refpg.conformance.ops import OPS
    >>> print(*legend([OPS["log_prob_categorical"]]), sep="\\n")
    float[B, A]  an array of that shape; without brackets, a scalar
    letters      equal letters are equal lengths: B rows; A actions, or the dimensions of an action
    """
    texts = [text for op in ops for text in (*op.inputs.values(), *op.outputs.values())]
    types = [parse_type(text) for text in texts]
    found = {kind for kind, _, _ in types} | {"[*]" for _, _, ragged in types if ragged}
    letters = {letter for _, letters, _ in types for letter in letters}
    if "policy" in found:
        found |= {"network"}
    if "actions" in found:
        letters |= {"A"}
    entries = [("float[B, A]", "an array of that shape; without brackets, a scalar")]
    entries += [entry for kind, entry in _MEANINGS.items() if kind in found]
    if "network" in found:
        hidden = "of the hidden layers, activation(h @ W + b); the last layer is affine"
        entries += [("activation", f"{', '.join(ACTIVATIONS)} (gelu by erf; swish is silu): {hidden}")]
    if letters:
        meanings = "; ".join(f"{letter} {meaning}" for letter, meaning in _LETTERS.items() if letter in letters)
        entries += [("letters", f"equal letters are equal lengths: {meanings}")]
    return [
        line
        for name, meaning in entries
        for line in textwrap.wrap(meaning, _LEGEND, initial_indent=f"{name:<13}", subsequent_indent=" " * 13)
    ]


def read_inputs(op: Op, raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Turn the plain nested numbers of a case into arrays, checked against the signature of its op.

    Parameters
    ----------
    op : Op
        The operation.
    raw : mapping
        Inputs as parsed from JSON: lists, numbers, booleans, strings, mappings.

    Returns
    -------
    inputs : dict
        float64, int64 and bool arrays; scalars stay Python numbers; networks and parameters stay mappings of arrays.
    lengths : dict of str to int
        The length of every shape letter; P is the number of parameters, K the number of distribution parameters.

    Raises
    ------
    ValueError
        If a name, a kind, a number or a shape is not what the signature says.
    """
    if set(raw) != set(op.inputs):
        raise ValueError(f"inputs are {sorted(raw)}, expected {sorted(op.inputs)}")
    lengths: dict[str, int] = {}
    inputs: dict[str, Any] = {}
    policies = [name for name, kind in op.inputs.items() if kind == "policy"]
    for name, text in op.inputs.items():
        if parse_type(text).kind in ("network", "policy"):
            inputs[name] = _read_network(name, raw[name], is_policy=name in policies)
    for name in policies[1:]:
        _same_structure(name, inputs[name], inputs[policies[0]])
    distribution = inputs[policies[0]]["distribution"] if policies else ""
    for name, text in op.inputs.items():
        if name not in inputs:
            inputs[name] = _read_input(name, raw[name], parse_type(text), lengths, distribution)
    _check_networks(inputs, policies, lengths)
    _derive_lengths(op, inputs, policies, lengths)
    return {name: inputs[name] for name in op.inputs}, lengths


def answer_shapes(op: Op, inputs: Mapping[str, Any], lengths: Mapping[str, int]) -> dict[str, Shape]:
    """Return the leaves an answer of the op must have, in order.

    Parameters
    ----------
    op : Op
        The operation.
    inputs, lengths : mapping
        From `read_inputs`.

    Returns
    -------
    dict of str to Shape
        Leaf path → kind and lengths.  An output of type ``parameters`` is shaped like the policy of the inputs; one
        named ``value_…`` like the value network.
    """
    shapes: dict[str, Shape] = {}
    for name, text in op.outputs.items():
        kind, letters, _ = parse_type(text)
        if kind == "parameters":
            like = _shaped_like(op, inputs, name)
            shapes |= {path: Shape("float", leaf.shape) for path, leaf in parameter_leaves(name, like).items()}
        else:
            shapes[name] = Shape(kind, tuple(lengths[letter] for letter in letters))
    return shapes


def parameter_leaves(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten ``{"layers": [{"W", "b"}, ...], "log_std"}`` to leaf paths, in the order of θ.

    Examples
    --------
    >>> list(parameter_leaves("gradient", {"layers": [{"W": 0, "b": 1}], "log_std": 2}))
    ['gradient.layers[0].W', 'gradient.layers[0].b', 'gradient.log_std']
    """
    leaves = {
        f"{name}.layers[{i}].{letter}": layer[letter]
        for i, layer in enumerate(parameters["layers"])
        for letter in ("W", "b")
    }
    return leaves | ({f"{name}.log_std": parameters["log_std"]} if "log_std" in parameters else {})


def output_of(path: str) -> str:
    """Return the name of the output a leaf belongs to.

    Examples
    --------
    >>> output_of("gradient.layers[0].W")
    'gradient'
    """
    return path.split(".", 1)[0]


def read_numbers(name: str, value: Any, kind: str) -> Array:
    """Turn nested lists of JSON numbers into an array without changing any of them.

    Parameters
    ----------
    name : str
        Named in the message.
    value : number or nested lists
        Booleans are not numbers; integers must be exact in float64.
    kind : {"float", "int", "bool"}
        float64, int64 or bool is returned.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        If the lists are ragged or empty, or an entry is of another kind.
    """
    lengths: list[int] = []
    entries = [value]
    while isinstance(entries[0], list):
        if any(not isinstance(entry, list) or len(entry) != len(entries[0]) for entry in entries):
            raise ValueError(f"{name} is ragged, expected rows of equal length")
        lengths.append(len(entries[0]))
        entries = [inner for entry in entries for inner in entry]
        if not entries:
            raise ValueError(f"{name} is empty")
    wanted = {"float": (int, float), "int": (int,), "bool": (bool,)}[kind]
    for entry in entries:
        if not isinstance(entry, wanted) or (isinstance(entry, bool) and kind != "bool"):
            raise ValueError(f"{name} holds {str(entry)[:40]!r}, expected {kind}")
        if isinstance(entry, int) and abs(entry) > _LARGEST_EXACT_INTEGER:
            raise ValueError(f"{name} holds an integer beyond ±2^53")
    dtype = {"float": np.float64, "int": np.int64, "bool": np.bool_}[kind]
    return np.array(entries, dtype=dtype).reshape(lengths)


def _read_input(name: str, value: Any, expected: Type, lengths: dict[str, int], distribution: str) -> Any:
    kind, letters, ragged = expected
    if kind == "str":
        if not isinstance(value, str):
            raise ValueError(f"{name} is not a string")
        return value
    if kind == "parameters":
        return _read_parameters(name, value)
    if kind == "actions":
        kind, letters = ("int", letters) if distribution == "categorical" else ("float", (*letters, "A"))
    if ragged:
        if not isinstance(value, list) or not value or not all(isinstance(row, list) for row in value):
            raise ValueError(f"{name} is not a list of lists")
        _bind(name, letters, (len(value),), lengths)
        return [read_numbers(f"{name}[{i}]", row, kind) for i, row in enumerate(value)]
    array = read_numbers(name, value, kind)
    _bind(name, letters, array.shape, lengths)
    return array if letters else array.item()


def _bind(name: str, letters: tuple[str, ...], shape: tuple[int, ...], lengths: dict[str, int]) -> None:
    if len(shape) != len(letters):
        raise ValueError(f"{name} has shape {shape}, expected ({', '.join(letters)})")
    for letter, length in zip(letters, shape, strict=True):
        if lengths.setdefault(letter, length) != length:
            raise ValueError(f"{name} has shape {shape}, expected {letter} = {lengths[letter]}")


def _keys(name: str, value: Any, required: set[str], optional: frozenset[str] = frozenset()) -> None:
    if not isinstance(value, dict) or not required <= set(value) <= required | optional:
        raise ValueError(f"{name} is not a mapping with the keys {sorted(required | optional)}")


def _read_parameters(name: str, value: Any, more: frozenset[str] = frozenset()) -> dict[str, Any]:
    _keys(name, value, {"layers"}, more | {"log_std"})
    if not isinstance(value["layers"], list) or not value["layers"]:
        raise ValueError(f"{name}.layers is not a list of layers")
    layers: list[dict[str, Array]] = []
    for i, layer in enumerate(value["layers"]):
        where = f"{name}.layers[{i}]"
        _keys(where, layer, {"W", "b"})
        weights, bias = (read_numbers(f"{where}.{key}", layer[key], "float") for key in ("W", "b"))
        widths = weights.shape
        if len(widths) != 2 or bias.shape != widths[1:] or (layers and layers[-1]["b"].shape != widths[:1]):
            raise ValueError(f"{where} has shapes W {widths} and b {bias.shape}, expected (in, out) and (out,)")
        layers.append({"W": weights, "b": bias})
    parameters: dict[str, Any] = {"layers": layers}
    if "log_std" in value:
        parameters["log_std"] = read_numbers(f"{name}.log_std", value["log_std"], "float")
        if parameters["log_std"].shape != layers[-1]["b"].shape:
            raise ValueError(f"{name}.log_std has shape {parameters['log_std'].shape}, expected one per mean")
    return parameters


def _read_network(name: str, value: Any, *, is_policy: bool) -> dict[str, Any]:
    words = frozenset({"activation", "distribution"} if is_policy else {"activation"})
    parameters = _read_parameters(name, value, words)
    for word in words:
        if not isinstance(value.get(word), str):
            raise ValueError(f"{name}.{word} is not a string")
    if is_policy and value["distribution"] not in _FAMILIES:
        raise ValueError(f"{name}.distribution is {value['distribution']!r}, expected {', '.join(_FAMILIES)}")
    gaussian = is_policy and value["distribution"] == "diagonal_gaussian"
    if gaussian != ("log_std" in parameters):
        raise ValueError(f"{name}.log_std belongs to diagonal_gaussian, and only there")
    return parameters | {word: value[word] for word in sorted(words)}


def _check_networks(inputs: Mapping[str, Any], policies: list[str], lengths: Mapping[str, int]) -> None:
    for name, value in inputs.items():
        if isinstance(value, dict) and "activation" in value and value["layers"][0]["W"].shape[0] != lengths["D"]:
            raise ValueError(f"{name} takes {value['layers'][0]['W'].shape[0]} features, expected D = {lengths['D']}")
    shaped = [name for name, value in inputs.items() if isinstance(value, dict) and "activation" not in value]
    for name in shaped:
        _same_structure(name, inputs[name], inputs[policies[0] if policies else shaped[0]])
    if policies and "A" in lengths:
        means = inputs[policies[0]]["layers"][-1]["b"].size
        if lengths["A"] != means:
            raise ValueError(f"actions have {lengths['A']} dimensions, the policy {means}")


def _same_structure(name: str, value: Mapping[str, Any], like: Mapping[str, Any]) -> None:
    if {path: leaf.shape for path, leaf in parameter_leaves("", value).items()} != {
        path: leaf.shape for path, leaf in parameter_leaves("", like).items()
    }:
        raise ValueError(f"{name} is not shaped like the parameters it belongs to")


def _derive_lengths(op: Op, inputs: Mapping[str, Any], policies: list[str], lengths: dict[str, int]) -> None:
    if policies:
        lengths["P"] = sum(leaf.size for leaf in parameter_leaves("", inputs[policies[0]]).values())
    elif "network" in inputs:
        lengths["K"] = inputs["network"]["layers"][-1]["b"].size
    elif op.profile == "distributions" and "K" not in lengths:
        lengths["K"] = lengths["A"] * (2 if "gaussian" in op.name else 1)


def _shaped_like(op: Op, inputs: Mapping[str, Any], output: str) -> Mapping[str, Any]:
    if output.startswith("value_"):
        like: Mapping[str, Any] = inputs["value_network"]
    else:
        like = next(inputs[name] for name, kind in op.inputs.items() if kind in ("policy", "parameters"))
    return like
