"""θ as layers: the one place that knows which entry of the flat vector is which weight.

::

    θ = (W₁, b₁, W₂, b₂, …, W_L, b_L, free)

    W_l  (in, out)  row by row: entry (i, j) of W_l stands i·out + j places after its first
    b_l  (out,)
    free (F,)       numbers of φ that no observation changes, such as a log standard deviation

    P = Σ_l (in_l + 1) out_l + F
"""

from typing import NamedTuple

import numpy as np

from refpg.network.activations import ACTIVATIONS
from refpg.notation import Array, bind_shapes, choice, count, scalar


class Network(NamedTuple):
    """A multilayer perceptron: its widths, its activation, and how many outputs do not depend on the input.

    ::

        h₀ = x,   h_l = σ(h_{l−1} W_l + b_l)  (l < L),   φ = (h_{L−1} W_L + b_L, free)

    Fields: ``sizes`` are the widths (D, hidden …, outputs); ``activation`` is the name of σ in `ACTIVATIONS`,
    applied by the hidden layers only; ``free`` is the number of state-independent entries at the end of φ.

    Examples
    --------
    >>> net = Network((3, 5, 2), "tanh", free=2)
    >>> net.num_parameters, net.num_outputs
    (34, 4)
    """

    sizes: tuple[int, ...]
    activation: str = "tanh"
    free: int = 0

    @property
    def num_parameters(self) -> int:
        """P = Σ_l (in_l + 1) out_l + F, the length of θ."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.layer_sizes) + self.free

    @property
    def num_outputs(self) -> int:
        """K, the length of φ: the outputs of the last layer and the free entries."""
        return self.sizes[-1] + self.free

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """The (in, out) of each layer."""
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))


def check_network(function: str, net: Network) -> None:
    """Check that a network can exist.

    Parameters
    ----------
    function : str
        The caller, named in every message.
    net : Network
        The network.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, one is not a positive integer, ``free`` is negative, or the
        activation is unknown.

    Examples
    --------
    >>> check_network("forward", Network((3, 0, 2)))
    Traceback (most recent call last):
        ...
    ValueError: forward: sizes[1] is 0, expected an integer >= 1
    """
    if not isinstance(net.sizes, tuple) or len(net.sizes) < 2:
        raise ValueError(
            f"{function}: sizes is {net.sizes!r}, expected a tuple of two or more widths (D, ..., outputs)"
        )
    for position, size in enumerate(net.sizes):
        count(function, f"sizes[{position}]", size)
    count(function, "free", net.free, least=0)
    choice(function, "activation", net.activation, tuple(ACTIVATIONS))


def split(net: Network, theta: Array) -> tuple[list[tuple[Array, Array]], Array]:
    """Return the views of `unflatten`, unchecked."""
    layers, free = affine_maps(net, theta)
    return [(A[:-1], A[-1]) for A in layers], free


def affine_maps(net: Network, theta: Array) -> tuple[list[Array], Array]:
    """Return views of each layer's matrix A_l = [W_l; b_l] and of the free numbers, unchecked.

    ::

        h W_l + b_l = [h 1] A_l

    A row of weights follows the other in θ and the bias follows the last, so that A_l stands there as it is.

    Parameters
    ----------
    net : Network
        The network.
    theta : (P,) array
        Its parameters, a direction in their space, or where a gradient is to be written.

    Returns
    -------
    layers : list of (in + 1, out) arrays
    free : (F,) array
    """
    layers = []
    start = 0
    for inputs, outputs in net.layer_sizes:
        end = start + (inputs + 1) * outputs
        layers.append(theta[start:end].reshape(inputs + 1, outputs))
        start = end
    return layers, theta[start:]


def unflatten(net: Network, theta: Array) -> tuple[list[tuple[Array, Array]], Array]:
    """Return θ as its layers and free numbers.

    ::

        θ = (W₁, b₁, …, W_L, b_L, free),   W_l row by row

    Parameters
    ----------
    net : Network
        The network.
    theta : (P,) array
        Its parameters.

    Returns
    -------
    layers : list of (W, b)
        W (in, out) and b (out,) of each layer, as views into ``theta``.
    free : (F,) array
        The state-independent entries of φ, a view; empty if there are none.

    Raises
    ------
    ValueError
        If the network or the length of ``theta`` is impossible.

    Examples
    --------
    >>> import numpy as np
    >>> layers, free = unflatten(Network((2, 3), free=1), np.arange(10.0))
    >>> layers
    [(array([[0., 1., 2.],
           [3., 4., 5.]]), array([6., 7., 8.]))]
    >>> free
    array([9.])
    """
    check_network("unflatten", net)
    (theta,) = bind_shapes("unflatten", {"P": net.num_parameters}, theta=(theta, "P"))
    return split(net, theta)


def flatten(net: Network, layers: list[tuple[Array, Array]], free: Array | None = None) -> Array:
    """Return layers and free numbers as the flat vector θ, the inverse of `unflatten`.

    ::

        θ = (W₁, b₁, …, W_L, b_L, free),   W_l row by row

    Parameters
    ----------
    net : Network
        The network.
    layers : list of (W, b)
        W (in, out) and b (out,) of each layer.
    free : (F,) array or None
        The state-independent entries of φ; None or empty if there are none.

    Returns
    -------
    (P,) array
        θ, a new array.

    Raises
    ------
    ValueError
        If the number of layers or a shape disagrees with the network.

    Examples
    --------
    >>> import numpy as np
    >>> flatten(Network((2, 1)), [(np.array([[1.0], [2.0]]), np.array([3.0]))])
    array([1., 2., 3.])
    """
    check_network("flatten", net)
    if len(layers) != len(net.layer_sizes):
        raise ValueError(f"flatten: layers has length {len(layers)}, expected {len(net.layer_sizes)}")
    leaves: list[Array] = []
    for position, ((inputs, outputs), (W, b)) in enumerate(zip(net.layer_sizes, layers, strict=True)):
        name = f"layers[{position}]"
        leaf = {f"{name}.W": (W, "I O"), f"{name}.b": (b, "O")}
        W, b = bind_shapes("flatten", {"I": inputs, "O": outputs}, **leaf)
        leaves += [W.ravel(), b]
    if net.free:
        leaves += bind_shapes("flatten", {"F": net.free}, free=(free, "F"))
    elif free is not None and np.size(free):
        raise ValueError(f"flatten: free has {np.size(free)} entries, expected none")
    return np.concatenate(leaves)


def initial_parameters(
    net: Network,
    generator: np.random.Generator,
    *,
    scale: float = 1.0,
    output_scale: float = 1.0,
    free: float = 0.0,
) -> Array:
    """Draw parameters: orthogonal weights, zero biases.

    ::

        W_l = c_l Q,   QᵀQ = I or QQᵀ = I,   b_l = 0

        c_l = scale in the hidden layers, output_scale in the last

    Q is the orthogonal factor of a standard normal matrix, with the signs that make the diagonal of R
    positive: it is uniform (Haar) among the matrices with orthonormal rows or columns.

    Parameters
    ----------
    net : Network
        The network.
    generator : numpy.random.Generator
        The only source of randomness.
    scale, output_scale : float
        Every singular value of the hidden weights, and of the last layer's, >= 0.
    free : float
        The value of every state-independent entry.

    Returns
    -------
    (P,) array
        θ in float64.

    Raises
    ------
    ValueError
        If the network is impossible or a scale is negative.

    Notes
    -----
    Convention: libraries differ in the scales (√2 for hidden layers and 0.01 for the policy's last one are common);
    none is hidden here, and the defaults scale nothing.

    References
    ----------
    [Saxe]

    Examples
    --------
    One input and one output leave only a sign:

    >>> import numpy as np
    >>> net, generator = Network((1, 1), free=1), np.random.default_rng(0)
    >>> np.abs(initial_parameters(net, generator, output_scale=0.5, free=-1.0))
    array([0.5, 0. , 1. ])
    """
    check_network("initial_parameters", net)
    scale = scalar("initial_parameters", "scale", scale, least=0)
    output_scale = scalar("initial_parameters", "output_scale", output_scale, least=0)
    free = scalar("initial_parameters", "free", free)
    theta = np.zeros(net.num_parameters)
    layers, free_part = split(net, theta)
    for W, _ in layers:
        W[:] = scale * _orthogonal(W.shape, generator)
    last = layers[-1][0]
    last[:] = output_scale * _orthogonal(last.shape, generator)
    free_part[:] = free
    return theta


def _orthogonal(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Return a uniformly random matrix with orthonormal columns (if tall) or rows (if wide)."""
    inputs, outputs = shape
    normal = generator.standard_normal((max(shape), min(shape)))
    Q, R = np.linalg.qr(normal)
    Q = Q * np.where(np.diag(R) < 0, -1.0, 1.0)
    return Q if inputs >= outputs else Q.T
