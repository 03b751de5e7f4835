"""The Gauss–Newton matrix Σ_b J_bᵀ M_b J_b and the Gram matrix of its rows R_b J_b, dense, without their Jacobian.

::

    G = Σ_b J_bᵀ R_bᵀ R_b J_b                                M_b = R_bᵀ R_b

A row of J is a product: the derivative with respect to W_l[a, i] is h_l[a] Δ_l[·, i], with Δ_l = ∂φ/∂z_l and h_l
the input of the layer, a 1 at its end for the bias.  So each block of G, between layers l and m, is one matrix
product over the rows, and the outputs k are summed beforehand::

    G[(l, a, i), (m, c, j)] = Σ_b (h_l[b, a] h_m[b, c]) D[b, i, j]      D = Σ_k (R Δ_l)[b, k, i] (R Δ_m)[b, k, j]

B terms instead of B·K.  For l = m both factors are symmetric, in (a, c) and in (i, j): half of each is enough, a
quarter of the work.  The free entries of φ are a layer whose input is 1.

The same factors give the Gram matrix, whose entries are sums over layers instead of rows::

    (R_b J_b)(R_c J_c)ᵀ[k, j] = Σ_l (h_l[b]·h_l[c]) ((R Δ_l)[b, k]·(R Δ_l)[c, j])

The sums are kept *folded*, [(a, c), (i, j)] for each pair of layers, all in one flat array, until all rows are in it.
"""

from collections.abc import Callable, Iterator
from itertools import accumulate, combinations_with_replacement, pairwise
from typing import NamedTuple

import numpy as np
from scipy.linalg import get_blas_funcs

from refpg.network.layout import Network
from refpg.network.linearization import Linearization
from refpg.notation import Array

RootProduct = Callable[[slice, Array], Array]


def gauss_newton_matrix(at: Linearization, root_product: RootProduct) -> Array:
    """Return Σ_b J_bᵀ R_bᵀ R_b J_b.

    The plain form is ``rows.T @ rows`` with ``rows`` all the R_b J_b, stacked: the same sum in another order.

    Parameters
    ----------
    at : Linearization
        The network around one θ, on B observations.
    root_product : callable (rows, J) -> (rows, K, ...)
        R_b J_b for some consecutive rows, given as a slice, and J (rows, K, ...).

    Returns
    -------
    (P, P) array
        Symmetric to the last bit, positive semi-definite up to rounding.

    References
    ----------
    [TRPO App. C.1], [Martens section 8]

    Examples
    --------
    φ = w x + b at x = 3, with R = 1: the outer product of J = (3, 1) with itself.

    >>> import numpy as np
    >>> from refpg.network import linearize
    >>> at = linearize(Network((1, 1)), np.array([2.0, 1.0]), np.array([[3.0]]))
    >>> gauss_newton_matrix(at, lambda rows, J: J)
    array([[9., 3.],
           [3., 1.]])
    """
    return unfolded(at.net, folded(at, root_product))


def folded(at: Linearization, root_product: RootProduct) -> Array:
    """Return the sums of `gauss_newton_matrix` over these rows, folded: what can be added to those of other rows.

    Parameters
    ----------
    at : Linearization
        The network around one θ, on B observations.
    root_product : callable (rows, J) -> (rows, K, ...)
        R_b J_b for some consecutive rows.

    Returns
    -------
    (Q,) array
        For `unfolded`; Q is at most P²/2 and the lower layers' inputs.
    """
    sums = np.zeros(sum(inputs * outputs for _, inputs, outputs in _pairs(at.net)), at.phi.dtype)
    for leaves in _blocks_of_leaves(at, root_product):
        for (first, second), block in _blocks(at.net, sums):
            if first == second:
                _add_symmetric_product(block, leaves[first])
            else:
                _add_product(block, leaves[first], leaves[second])
    return sums


def unfolded(net: Network, sums: Array) -> Array:
    """Return the matrix whose folded sums are given.

    Parameters
    ----------
    net : Network
        The network.
    sums : (Q,) array
        From `folded`, or a sum of such.

    Returns
    -------
    (P, P) array
        Symmetric to the last bit.
    """
    shapes = _leaf_shapes(net)
    ends = accumulate((inputs * outputs for inputs, outputs in shapes), initial=0)
    places = [slice(start, stop) for start, stop in pairwise(ends)]
    G = np.empty((net.num_parameters,) * 2, sums.dtype)
    for (first, second), block in _blocks(net, sums):
        upper = G[places[first], places[second]]
        target = upper.reshape(*shapes[first], *shapes[second])              # a view, [a, i, c, j]
        if first == second:
            _unfold_symmetric(block, target)
        else:
            _unfold(block, target)
            G[places[second], places[first]] = upper.T
    return G


def gram_matrix(at: Linearization, root_product: RootProduct) -> Array:
    """Return all (R_b J_b)(R_c J_c)ᵀ.

    The plain form is ``rows @ rows.T`` with ``rows`` all the R_b J_b, stacked: the same sum in another order.  It is
    made output by output, so that the long axes, over rows, are the contiguous ones; k ≥ j is enough.

    Parameters
    ----------
    at : Linearization
        The network around one θ, on B observations.
    root_product : callable (rows, J) -> (rows, K, ...)
        R_b J_b for some consecutive rows.

    Returns
    -------
    (B, K, B, K) array
        Symmetric to the last bit, positive semi-definite up to rounding; a transposed view.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    φ = w x + b at x = 3 and x = 1, J = (3, 1) and (1, 1):

    >>> import numpy as np
    >>> from refpg.network import linearize
    >>> at = linearize(Network((1, 1)), np.array([2.0, 1.0]), np.array([[3.0], [1.0]]))
    >>> gram_matrix(at, lambda rows, J: J)[:, 0, :, 0]
    array([[10.,  4.],
           [ 4.,  2.]])
    """
    B, K = at.phi.shape
    gram = np.zeros((K, B, K, B), at.phi.dtype)
    for parts in zip(*_blocks_of_leaves(at, root_product), strict=True):
        h = np.concatenate([leaf.h for leaf in parts])
        root = np.concatenate([leaf.root for leaf in parts]).transpose(1, 0, 2)
        hh = h @ h.T
        reached = np.flatnonzero(root.any(axis=(1, 2)))           # the outputs that this layer has a part in
        for k, j in combinations_with_replacement(reached[::-1], 2):
            gram[k, :, j] += hh * (root[k] @ root[j].T)
    for k in range(K):
        for j in range(k):
            gram[j, :, k] = gram[k, :, j].T
    return gram.transpose(1, 0, 3, 2)


class _Leaf(NamedTuple):
    """One layer's factors for some rows: ``h`` (rows, in), its 1 included, and ``root`` = R Δ (rows, K, out)."""

    h: Array
    root: Array


def _leaf_shapes(net: Network) -> list[tuple[int, int]]:
    """Return the (in, out) of each layer with its bias, and of the free entries, in the order of θ."""
    layers = [(inputs + 1, outputs) for inputs, outputs in net.layer_sizes]
    return [*layers, (1, net.free)] if net.free else layers


def _pairs(net: Network) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Yield the pairs of layers (l, m), l ≤ m, with the numbers of their (a, c) and (i, j)."""
    shapes = _leaf_shapes(net)
    for pair in combinations_with_replacement(range(len(shapes)), 2):
        (inputs_l, outputs_l), (inputs_m, outputs_m) = (shapes[position] for position in pair)
        if pair[0] == pair[1]:
            yield pair, inputs_l * (inputs_l + 1) // 2, outputs_l * (outputs_l + 1) // 2
        else:
            yield pair, inputs_l * inputs_m, outputs_l * outputs_m


def _blocks(net: Network, sums: Array) -> Iterator[tuple[tuple[int, int], Array]]:
    """Yield each pair of layers with its view [(a, c), (i, j)] into the folded sums."""
    start = 0
    for pair, inputs, outputs in _pairs(net):
        end = start + inputs * outputs
        yield pair, sums[start:end].reshape(inputs, outputs)
        start = end


def _blocks_of_leaves(at: Linearization, root_product: RootProduct) -> Iterator[list[_Leaf]]:
    """Yield the factors of all layers, for each block of rows."""
    K, outputs, free = at.net.num_outputs, at.net.sizes[-1], at.net.free
    for block, deltas in zip(at.blocks, at.deltas(), strict=True):
        n = len(block.h[0])
        leaves = []
        for h, delta in zip(block.h, deltas, strict=True):
            derivative = np.zeros((n, K, delta.shape[2]), at.phi.dtype)
            derivative[:, :outputs] = delta
            leaves.append(_Leaf(h, root_product(block.rows, derivative)))
        if free:
            one = np.ones((n, 1), at.phi.dtype)
            derivative = np.zeros((n, K, free), at.phi.dtype)
            derivative[:, outputs:] = np.eye(free)
            leaves.append(_Leaf(one, root_product(block.rows, derivative)))
        yield leaves


def _add_product(block: Array, first: _Leaf, second: _Leaf) -> None:
    """Add Σ_b (h_l[a] h_m[c]) D[i, j] to the sums of a pair of layers."""
    n = len(first.h)
    hh = first.h[:, :, None] * second.h[:, None, :]
    D = first.root.transpose(0, 2, 1) @ second.root
    _accumulate(block, hh.reshape(n, -1), D.reshape(n, -1))


def _add_symmetric_product(block: Array, leaf: _Leaf) -> None:
    """Add the same for a layer with itself, of a ≤ c and i ≤ j only."""
    a, c = np.triu_indices(leaf.h.shape[1])
    i, j = np.triu_indices(leaf.root.shape[2])
    D = leaf.root.transpose(0, 2, 1) @ leaf.root
    _accumulate(block, leaf.h[:, a] * leaf.h[:, c], D[:, i, j])


def _accumulate(block: Array, hh: Array, D: Array) -> None:
    """Add hhᵀ D to the block where it stands: it is the largest array there is, and is touched once."""
    if block.dtype.char in "fdFD" and hh.dtype == D.dtype == block.dtype:
        (gemm,) = get_blas_funcs(("gemm",), dtype=block.dtype)
        gemm(1.0, D.T, hh.T, beta=1.0, c=block.T, trans_b=True, overwrite_c=True)
    else:
        block += hh.T @ D


def _unfold(block: Array, target: Array) -> None:
    """Write the sums of two layers, [(a, c), (i, j)], as [a, i, c, j]."""
    inputs_l, outputs_l, inputs_m, outputs_m = target.shape
    target[:] = block.reshape(inputs_l, inputs_m, outputs_l, outputs_m).transpose(0, 2, 1, 3)


def _unfold_symmetric(block: Array, target: Array) -> None:
    """Write the sums of one layer, each also where its mirror images stand."""
    ac, ij = _pair_numbers(target.shape[0]), _pair_numbers(target.shape[1])
    for a, numbers in enumerate(ac):                                         # one a at a time, to keep memory small
        target[a] = block[numbers][:, ij].transpose(1, 0, 2)


def _pair_numbers(n: int) -> Array:
    """Return the symmetric (n, n) table of the place of (a, c), a ≤ c, in `numpy.triu_indices`."""
    numbers = np.empty((n, n), np.intp)
    a, c = np.triu_indices(n)
    numbers[a, c] = numbers[c, a] = np.arange(len(a))
    return numbers
