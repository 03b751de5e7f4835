"""θ from the arrays of a library, and back into them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from refpg.interop import tree
from refpg.interop.layout import Layout
from refpg.network import ACTIVATIONS, Network, flatten, unflatten
from refpg.notation import Array, bind_shapes, choice, count

_Shape = tuple[int | None, ...]  # None where the arrays do not tell a length
_MOST_LINES = 60  # of a message


def read_weights(
    arrays: Any, layout: Layout, *, activation: str, sizes: Sequence[int] | None = None
) -> tuple[Network, Array]:
    """Return the network and the flat θ that a library's arrays are.

    ::

        θ = (W₁, b₁, …, W_L, b_L, free),   W_l (in, out) row by row, transposed where the library has (out, in)

    Parameters
    ----------
    arrays : mapping of str to array
        Or nested dictionaries, lists and tuples of arrays, as the library has them; anything with ``__array__``.
    layout : Layout
        The names and orientations, such as `TORCH`.
    activation : str
        The activation of the hidden layers.  No library keeps it with the weights.
    sizes : sequence of int, optional
        The widths (D, ..., outputs) that the network must have; without them those of the arrays.

    Returns
    -------
    network : Network
        Its widths, activation and number of free entries.
    theta : (P,) array
        θ, a new array in the dtype of the arrays, bit for bit.

    Raises
    ------
    ValueError
        If a name is missing or left over, a shape is another, dtypes are mixed, or an entry is NaN or infinite.  A
        message about names and shapes lists what was given beside what was expected.

    Notes
    -----
    Convention: every array must have its place, or begin with one of ``layout.others``.  A layer without a bias is
    refused: θ has all biases, and its Fisher matrix would have more rows than the library's.  Free entries may have
    axes of length 1 before the last.

    A square matrix says nothing about its orientation, and two layers of one shape nothing about their order: the
    layout alone decides, and a wrong one then goes unseen.  Numbered layers are taken to be applied as they are
    counted.  Sequential modules are; but Flax and Haiku count layers as they are *made*, which in nested calls,
    ``Dense(2)(tanh(Dense(4)(x)))``, is from the last to the first: name those in order, ``layers=(...)``.

    Examples
    --------
    >>> import numpy as np
    >>> from refpg.interop import FLAX, TORCH
    >>> kernel = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> read_weights({"params": {"Dense_0": {"bias": np.zeros(2), "kernel": kernel}}}, FLAX, activation="tanh")
    (Network(sizes=(3, 2), activation='tanh', free=0), array([1., 2., 3., 4., 5., 6., 0., 0.]))

    A matrix (in, out) under torch's names, where the layout has (out, in):

    >>> read_weights({"0.weight": kernel, "0.bias": np.zeros(2)}, TORCH, activation="tanh", sizes=(3, 2))
    Traceback (most recent call last):
        ...
    ValueError: read_weights: the arrays are not those of a network of widths (3, 2) in the layout torch (out, in)
        given                     expected
      ≠ 0.weight (3, 2) float64   0.weight (2, 3)
        0.bias   (2,)   float64   0.bias   (2,)
    Expected is module.state_dict(). A layout can name the layers in order, layers=(...), the free entries, free=..., \
and beginnings of names that belong to something else, others=(...)
    """
    function = "read_weights"
    choice(function, "activation", activation, tuple(ACTIVATIONS))
    if sizes is not None:
        sizes = tuple(count(function, f"sizes[{position}]", size) for position, size in enumerate(sizes))
        if len(sizes) < 2:
            raise ValueError(f"{function}: sizes is {sizes}, expected two or more widths (D, ..., outputs)")
    given = _given(function, layout, arrays)
    layers = layout.layers_among(function, given)
    widths = _widths(layout, layers, given) if sizes is None else sizes
    free = given[layout.free].size if layout.free in given else None
    _compare(function, layout, given, widths, _expected(function, layout, layers, widths, free))
    for name, array in given.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{function}: {tree.shown(name)} holds NaN or infinity, expected finite numbers")
    if len(dtypes := {array.dtype for array in given.values()}) > 1:
        table = _table((name, array.shape, array.dtype) for name, array in given.items())
        raise ValueError("\n    ".join([f"{function}: the arrays are of {len(dtypes)} dtypes, expected one", *table]))

    network = Network(tuple(int(width or 0) for width in widths), activation, free=free or 0)
    names = [layout.arrays_of(layer) for layer in layers]
    pairs = [(given[W].T if layout.transposed else given[W], given[b]) for W, b in names]
    return network, flatten(network, pairs, None if free is None else given[str(layout.free)].reshape(-1))


def write_weights(network: Network, theta: Any, layout: Layout, *, into: Any = None) -> Any:
    """Return θ as the arrays of a library, the inverse of `read_weights`.

    ::

        θ = (W₁, b₁, …, W_L, b_L, free),   W_l (in, out) row by row, transposed where the library has (out, in)

    Parameters
    ----------
    network : Network
        The network.
    theta : (P,) array
        Its parameters.
    layout : Layout
        The names and orientations, such as `TORCH`.
    into : mapping, list or tuple, optional
        Arrays of such a network, as the library has them.  They are not changed: the result is nested in the same way,
        with new arrays in their places and everything else as it is.

    Returns
    -------
    dict, list or tuple
        The arrays, new ones in the dtype of ``theta``, bit for bit.  Without ``into`` a flat dictionary, whose layers
        have the names in the layout, or else those that the library would give them.

    Raises
    ------
    ValueError
        If θ does not fit the network, or the network not ``into``; the message lists both side by side.

    Examples
    --------
    >>> import numpy as np
    >>> from refpg.interop import KERAS, TORCH
    >>> network, theta = Network((2, 1)), np.array([1.0, 2.0, 3.0])
    >>> write_weights(network, theta, TORCH)
    {'0.weight': array([[1., 2.]]), '0.bias': array([3.])}
    >>> write_weights(network, theta, KERAS, into=[[np.zeros((2, 1)), np.zeros(1)], []])
    [[array([[1.],
           [2.]]), array([3.])], []]
    """
    function = "write_weights"
    if bool(network.free) != (layout.free is not None):
        raise ValueError(
            f"{function}: network.free is {network.free} and layout.free is {layout.free!r}, expected the name of the "
            f"free entries where there are any, and None where there are none"
        )
    (theta,) = bind_shapes(function, {"P": network.num_parameters}, theta=(theta, "P"))
    given = None if into is None else _given(function, layout, into)
    layers = layout.new_layers(len(network.layer_sizes)) if given is None else layout.layers_among(function, given)
    expected = _expected(function, layout, layers, network.sizes, network.free or None)
    if given is not None:
        _compare(function, layout, given, network.sizes, expected)
    elif len(layers) != len(network.layer_sizes):
        raise ValueError(
            f"{function}: the layout names {len(layers)} layers, expected {len(network.layer_sizes)} for a network of "
            f"widths {network.sizes}"
        )

    pairs, free = unflatten(network, theta)
    parts = [part for W, b in pairs for part in (W.T if layout.transposed else W, b)] + ([free] if network.free else [])
    new = {name: np.array(part, order="C") for name, part in zip(expected, parts, strict=True)}
    if given is None:
        return new
    return tree.replaced(into, {name: part.reshape(given[name].shape) for name, part in new.items()}, layout.separator)


def _given(function: str, layout: Layout, arrays: Any) -> dict[str, Array]:
    """Return the arrays that concern the network, by name."""
    found = tree.leaves(function, arrays, layout.separator)
    return {name: tree.array(function, name, leaf) for name, leaf in found.items() if layout.concerns(name)}


def _widths(layout: Layout, layers: Sequence[str], given: Mapping[str, Array]) -> _Shape:
    """Return the width of the input and of each layer's output, as the matrices have them."""
    pairs: list[_Shape] = []
    for layer in layers:
        W = given.get(layout.arrays_of(layer)[0])
        pair = W.shape if W is not None and W.ndim == 2 else (None, None)
        pairs.append(pair[::-1] if layout.transposed else pair)
    return *(pair[0] for pair in pairs[:1]), *(pair[1] for pair in pairs)


def _expected(
    function: str, layout: Layout, layers: Sequence[str], widths: Sequence[int | None], free: int | None
) -> dict[str, _Shape]:
    """Return the name and shape of each array of a network of these widths; layers that have no name are counted."""
    shapes: list[tuple[str, _Shape]] = []
    for position, (inputs, outputs) in enumerate(pairwise(widths)):
        W, b = layout.arrays_of(layers[position] if position < len(layers) else f"<layer {position + 1}>")
        shapes += [(W, (outputs, inputs) if layout.transposed else (inputs, outputs)), (b, (outputs,))]
    shapes += [] if layout.free is None else [(layout.free, (free,))]
    if len(dict(shapes)) < len(shapes):
        raise ValueError(f"{function}: the layout names an array twice, expected {len(shapes)} different names")
    return dict(shapes)


def _fits(layout: Layout, name: str, given: tuple[int, ...], expected: _Shape | None) -> bool:
    if name == layout.free:
        return given[-1:] == expected and all(length == 1 for length in given[:-1])
    return given == expected


def _compare(
    function: str,
    layout: Layout,
    given: Mapping[str, Array],
    widths: Sequence[int | None],
    expected: Mapping[str, _Shape],
) -> None:
    """Refuse arrays that are not exactly those expected, in a message that lists both."""
    names = [*expected, *(name for name in given if name not in expected)]
    fits = [name in given and _fits(layout, name, given[name].shape, expected.get(name)) for name in names]
    if expected and all(fits):
        return
    left = ["given", *_table((name, given[name].shape, given[name].dtype) if name in given else () for name in names)]
    right = ["expected", *_table((name, expected[name]) if name in expected else () for name in names)]
    width = max(map(len, left))
    lines = [
        f"  {' ' if fit else '≠'} {one:{width}}   {other}".rstrip()
        for fit, one, other in zip([True, *fits], left, right, strict=True)
    ]
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"    … and {len(lines) - _MOST_LINES} more"]
    orientation = "(out, in)" if layout.transposed else "(in, out)"
    what = f"a network of widths {_shape(tuple(widths))}" if expected else "a network, no layer is recognised:"
    raise ValueError(
        f"{function}: the arrays are not those of {what} in the layout {layout.name} {orientation}\n"
        + "\n".join(lines)
        + f"\nExpected is {layout.source}. A layout can name the layers in order, layers=(...), the free entries, "
        "free=..., and beginnings of names that belong to something else, others=(...)"
    )


def _table(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    """Return rows of name, shape and dtype as lines in columns; a row of nothing is a dash."""
    cells = [
        [tree.shown(row[0]), _shape(row[1]), *map(str, row[2:])] if row else ["—"]
        for row in rows
    ]
    columns = max(map(len, cells), default=0)
    widths = [max(len(row[column]) for row in cells if column < len(row)) for column in range(columns)]
    return [" ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)).rstrip() for row in cells]


def _shape(shape: _Shape) -> str:
    lengths = ["?" if length is None else str(length) for length in shape]
    return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"
