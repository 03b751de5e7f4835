"""θ, x → φ and everything first and second order about it: forward, change, and the linear map J = ∂φ/∂θ.

::

    forward     z_l = h_{l−1} W_l + b_l            h_l = σ(z_l)
    change      dz_l = (h_{l−1} + dh_{l−1}) dW_l + dh_{l−1} W_l + db_l     dh_l = σ(z_l + dz_l) − σ(z_l)
    tangent     ż_l = h_{l−1} Ẇ_l + ḣ_{l−1} W_l + ḃ_l      ḣ_l = σ'(z_l) ∘ ż_l
    cotangent   W̄_l = h_{l−1}ᵀ z̄_l    b̄_l = 1ᵀ z̄_l        z̄_{l−1} = σ'(z_{l−1}) ∘ (z̄_l W_lᵀ)

The last layer has no activation: φ = (z_L, free).  A dot is a derivative along a direction of θ, a bar the
derivative of ⟨φ̄, φ⟩.  These lines are the specification.  What is computed keeps a 1 at the end of each h, which
takes the bias into the matrix product, as θ has it below its weights::

    z = [h 1] A          A = [W; b]          Ā = [h 1]ᵀ z̄

Rows are independent; they are handled in the parts of `refpg.rows`, which stay in cache, and sums over rows are matrix
products within a part, added in the order of the parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from refpg.network.activations import ACTIVATIONS
from refpg.network.layout import Network, affine_maps, check_network
from refpg.notation import Array, Unrepresentable, all_finite, bind_shapes, finite_results
from refpg.rows import row_parts

Layers = list[Array]


@finite_results
def forward(net: Network, theta: Array, x: Array) -> Array:
    """Return the parameters of the action distribution, one row per observation.

    ::

        h₀ = x,   h_l = σ(h_{l−1} W_l + b_l)  (l < L),   φ = (h_{L−1} W_L + b_L, free)

    Parameters
    ----------
    net : Network
        The network.
    theta : (P,) array
        Its parameters θ.
    x : (B, D) array
        Observations.

    Returns
    -------
    (B, K) array
        φ.

    Raises
    ------
    ValueError
        If the network is impossible or a shape disagrees.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    >>> import numpy as np
    >>> forward(Network((1, 1, 1), "relu"), np.array([2.0, 0.0, 1.0, 5.0]), np.array([[-1.0], [3.0]]))
    array([[ 5.],
           [11.]])
    """
    theta, x = _bind("forward", net, theta, x)
    return forward_at(net, theta, x)


def forward_at(net: Network, theta: Array, x: Array) -> Array:
    """Return `forward` of arguments that a door has checked.

    Parameters
    ----------
    net, theta, x
        As in `forward`.

    Returns
    -------
    (B, K) array
        φ; infinite or NaN where it overflows.
    """
    layers, free = affine_maps(net, theta)
    outputs = [_forward(net, layers, x[rows])[0][-1] for rows in row_parts(len(x))]
    return _with_free(np.concatenate(outputs), free)


@finite_results
def forward_change(net: Network, theta: Array, theta_change: Array, x: Array) -> tuple[Array, Array]:
    """Return φ and its exact change when θ is changed, to full relative accuracy however small the change.

    ::

        dh₀ = 0
        dz_l = (h_{l−1} + dh_{l−1}) dW_l + dh_{l−1} W_l + db_l
        dh_l = σ(z_l + dz_l) − σ(z_l)
        dφ = (dz_L, dfree) = φ(θ + dθ) − φ(θ)

    Not a linearisation: the equations hold for any dθ.  The difference of two forward passes has a rounding
    error of the size of φ; this one has a rounding error of the size of the terms of dz, which shrink with
    dθ.

    Parameters
    ----------
    net : Network
        The network.
    theta : (P,) array
        Its parameters θ.
    theta_change : (P,) array
        The change dθ.
    x : (B, D) array
        Observations.

    Returns
    -------
    phi, phi_change : (B, K) arrays
        φ(θ) and φ(θ + dθ) − φ(θ).

    Raises
    ------
    ValueError
        If the network is impossible or a shape disagrees.

    Examples
    --------
    A change far below the rounding of φ:

    >>> import numpy as np
    >>> theta, change = np.array([0.0, 1.0]), np.array([0.0, 1e-30])
    >>> forward_change(Network((1, 1)), theta, change, np.array([[1.0]]))
    (array([[1.]]), array([[1.e-30]]))
    """
    theta, x, theta_change = _bind("forward_change", net, theta, x, theta_change=(theta_change, "P"))
    return change_at(net, theta, theta_change, x)


@finite_results
def linearize(net: Network, theta: Array, x: Array) -> "Linearization":
    """Return φ and the linear map J = ∂φ/∂θ at θ, from one forward pass.

    ::

        φ(θ + v) = φ + J v + O(‖v‖²)

    Parameters
    ----------
    net : Network
        The network.
    theta : (P,) array
        The parameters θ at which to linearise.
    x : (B, D) array
        Observations.

    Returns
    -------
    Linearization
        φ, and products with J that repeat no forward pass.

    Raises
    ------
    ValueError
        If the network is impossible or a shape disagrees.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    φ = w x + b, so J = (x, 1):

    >>> import numpy as np
    >>> at = linearize(Network((1, 1)), np.array([2.0, 1.0]), np.array([[3.0]]))
    >>> at.phi, at.jvp(np.array([1.0, 0.0])), at.vjp(np.array([[1.0]]))
    (array([[7.]]), array([[3.]]), array([3., 1.]))
    """
    theta, x = _bind("linearize", net, theta, x)
    return linearize_at(net, theta, x)


def linearize_at(net: Network, theta: Array, x: Array) -> "Linearization":
    """Return `linearize` of arguments that a door has checked: its parts are not checked again.

    Parameters
    ----------
    net, theta, x
        As in `linearize`.

    Returns
    -------
    Linearization

    Raises
    ------
    Unrepresentable
        If φ overflows.
    """
    at = _linearize(net, theta, x)
    if not all_finite(at.phi):
        raise Unrepresentable("linearize: the result overflows, expected theta, x of smaller magnitude")
    return at


def change_at(net: Network, theta: Array, theta_change: Array, x: Array) -> tuple[Array, Array]:
    """Return `forward_change` of arguments that a door has checked: its parts are not checked again.

    Parameters
    ----------
    net, theta, theta_change, x
        As in `forward_change`.

    Returns
    -------
    phi, phi_change : (B, K) arrays

    Raises
    ------
    Unrepresentable
        If one of them overflows.
    """
    layers, free = affine_maps(net, theta)
    changes, free_change = affine_maps(net, theta_change)
    blocks = [_forward_change(net, layers, changes, x[rows]) for rows in row_parts(len(x))]
    phi = _with_free(np.concatenate([z for z, _ in blocks]), free)
    phi_change = _with_free(np.concatenate([dz for _, dz in blocks]), free_change)
    if not (all_finite(phi) and all_finite(phi_change)):
        arguments = "theta, theta_change, x"
        raise Unrepresentable(f"forward_change: the result overflows, expected {arguments} of smaller magnitude")
    return phi, phi_change


@dataclass(frozen=True)
class _Block:
    """What a forward pass leaves behind for some consecutive rows.

    Fields: ``rows``, their place in the batch; ``h``, the input [h 1] of each layer (L arrays); ``slope``, σ'(z_l) of
    each hidden layer (L − 1 arrays).
    """

    rows: slice
    h: list[Array]
    slope: list[Array]


@dataclass(frozen=True)
class Linearization:
    """The network around one θ, on one batch: φ and the linear map J = ∂φ/∂θ.

    ::

        jvp(v)    = J v              (P,)   → (B, K)
        vjp(φ̄)    = Jᵀ φ̄            (B, K) → (P,)     a sum over rows, not a mean
        jacobian  = J                (B, K, P)
        curvature_product(φ̄, v) = Σ_bk φ̄_bk ∇²φ_bk v

    Made by `linearize`.  No product repeats the forward pass, and none checks its arguments.  Transposes of
    complex arrays are not conjugated, so every product is analytic in its arguments.

    Fields: ``net``; ``phi`` (B, K); ``layers``, the [W; b] at which it was made, views into θ; ``blocks``,
    what the forward pass left behind.

    References
    ----------
    [TRPO App. C.1]
    """

    net: Network
    phi: Array
    layers: Layers
    blocks: list[_Block]

    def jvp(self, v: Array) -> Array:
        """Return J v, the derivative of φ along v.

        ::

            v = (Ẇ₁, ḃ₁, …, Ẇ_L, ḃ_L, ḟ)
            ż_l = h_{l−1} Ẇ_l + ḣ_{l−1} W_l + ḃ_l      ḣ_l = σ'(z_l) ∘ ż_l
            J v = (ż_L, ḟ)

        Parameters
        ----------
        v : (P,) array
            A direction in the space of θ.

        Returns
        -------
        (B, K) array
            J v.
        """
        directions, free_dot = affine_maps(self.net, v)
        outputs = [self._tangents(block, directions)[-1] for block in self.blocks]
        return _with_free(np.concatenate(outputs), free_dot)

    def vjp(self, phi_bar: Array) -> Array:
        """Return Jᵀ φ̄ = Σ_b J_bᵀ φ̄_b, the gradient of ⟨φ̄, φ⟩, summed over rows.

        ::

            φ̄ = (z̄_L, f̄)
            W̄_l = h_{l−1}ᵀ z̄_l      b̄_l = 1ᵀ z̄_l      z̄_{l−1} = σ'(z_{l−1}) ∘ (z̄_l W_lᵀ)
            Jᵀ φ̄ = (W̄₁, b̄₁, …, W̄_L, b̄_L, 1ᵀ f̄)

        Parameters
        ----------
        phi_bar : (B, K) array
            One cotangent per row; weights of the rows are the caller's.

        Returns
        -------
        (P,) array
            Jᵀ φ̄.
        """
        return reduce(np.add, [self._block_vjp(block, phi_bar[block.rows]) for block in self.blocks])

    def gram_product(self, u: Array) -> Array:
        """Return J Jᵀ u, one vjp and one jvp.

        Parameters
        ----------
        u : (B, K) array
            A cotangent.

        Returns
        -------
        (B, K) array
            J Jᵀ u.
        """
        return self.jvp(self.vjp(u))

    def jacobian(self) -> Array:
        """Return J.

        ::

            ∂φ_bk/∂W_l[i, j] = h_{l−1}[b, i] Δ_l[b, k, j]      ∂φ_bk/∂b_l[j] = 1 Δ_l[b, k, j]

        with Δ_l = ∂φ/∂z_l, see `deltas`.  A free entry has derivative 1 with respect to itself.

        Returns
        -------
        (B, K, P) array
            J.
        """
        B, K = self.phi.shape
        outputs = self.net.sizes[-1]
        J = np.zeros((B, K, self.net.num_parameters), self.phi.dtype)
        for block, deltas in zip(self.blocks, self.deltas(), strict=True):
            outer = [h[:, None, :, None] * delta[:, :, None, :] for h, delta in zip(block.h, deltas, strict=True)]
            J_block = np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in outer], axis=2)
            J[block.rows, :outputs, : J_block.shape[2]] = J_block
        J[:, outputs:, self.net.num_parameters - self.net.free :] = np.eye(self.net.free)
        return J

    def curvature_product(self, phi_bar: Array, v: Array) -> Array:
        """Return Σ_bk φ̄_bk ∇²φ_bk v, the derivative of vjp(φ̄) along v with φ̄ held fixed.

        Each line of the vjp, differentiated::

            W̄_l = h_{l−1}ᵀ z̄_l                      W̄̇_l = ḣ_{l−1}ᵀ z̄_l + h_{l−1}ᵀ z̄̇_l
            b̄_l = 1ᵀ z̄_l                            b̄̇_l = 1ᵀ z̄̇_l
            h̄_{l−1} = z̄_l W_lᵀ                      h̄̇_{l−1} = z̄̇_l W_lᵀ + z̄_l Ẇ_lᵀ
            z̄_{l−1} = σ'(z_{l−1}) ∘ h̄_{l−1}         z̄̇_{l−1} = σ'' ∘ ż_{l−1} ∘ h̄_{l−1} + σ' ∘ h̄̇_{l−1}

        It is the term of the Hessian of a function of φ that the Gauss–Newton matrix leaves out [TRPO (57)].

        Parameters
        ----------
        phi_bar : (B, K) array
            The weight φ̄ of each second derivative.
        v : (P,) array
            A direction in the space of θ.

        Returns
        -------
        (P,) array
            The product, summed over rows; its free entries are 0, because φ is linear in them.

        References
        ----------
        [TRPO (57)]
        """
        directions, _ = affine_maps(self.net, v)
        return reduce(
            np.add,
            [self._block_curvature_product(block, phi_bar[block.rows], directions) for block in self.blocks],
        )

    def deltas(self) -> Iterator[list[Array]]:
        """Yield, for each block of rows, the derivatives of the outputs with respect to each layer's z.

        ::

            Δ_L = I,   Δ_{l−1} = (Δ_l W_lᵀ) ∘ σ'(z_{l−1})

        Yields
        ------
        list of L arrays (rows, outputs, out_l)
            Δ_1, …, Δ_L.
        """
        outputs = self.net.sizes[-1]
        for block in self.blocks:
            rows = len(block.h[0])
            delta = np.broadcast_to(np.eye(outputs, dtype=self.phi.dtype), (rows, outputs, outputs))
            deltas = [delta]
            for A, slope in zip(self.layers[:0:-1], block.slope[::-1], strict=True):
                delta = (delta @ A[:-1].T) * slope[:, None, :]
                deltas.append(delta)
            yield deltas[::-1]

    def _tangents(self, block: _Block, directions: Layers) -> list[Array]:
        """Return ż_1, …, ż_L of some rows."""
        tangents = [block.h[0] @ directions[0]]
        for h, slope, A, A_dot in zip(block.h[1:], block.slope, self.layers[1:], directions[1:], strict=True):
            h_dot = slope * tangents[-1]
            z_dot = h @ A_dot
            z_dot += h_dot @ A[:-1]
            tangents.append(z_dot)
        return tangents

    def _before_activation(self, block: _Block, position: int) -> Array:
        """Return z of a hidden layer again; it is not kept, since the curvature alone asks for it."""
        return block.h[position] @ self.layers[position]

    def _block_vjp(self, block: _Block, phi_bar: Array) -> Array:
        """Return Jᵀφ̄ of some rows; each Ā is written where it stands in θ."""
        outputs = self.net.sizes[-1]
        gradient = np.empty(self.net.num_parameters, np.result_type(self.phi, phi_bar))
        leaves, free_bar = affine_maps(self.net, gradient)
        phi_bar[:, outputs:].sum(axis=0, out=free_bar)
        z_bar = phi_bar[:, :outputs]
        for position in reversed(range(len(leaves))):
            np.matmul(block.h[position].T, z_bar, out=leaves[position])
            if position > 0:
                h_bar = z_bar @ self.layers[position][:-1].T
                z_bar = block.slope[position - 1] * h_bar
        return gradient

    def _block_curvature_product(self, block: _Block, phi_bar: Array, directions: Layers) -> Array:
        """Return the derivative of `_block_vjp` along the directions."""
        curvature = ACTIVATIONS[self.net.activation].curvature
        tangents = self._tangents(block, directions)
        z_bar = phi_bar[:, : self.net.sizes[-1]]
        z_bar_dot = np.zeros_like(tangents[-1], np.result_type(tangents[-1], phi_bar))
        leaves = [np.zeros(self.net.free, z_bar_dot.dtype)]
        for position in reversed(range(len(self.layers))):
            h = block.h[position]
            A_bar_dot = h.T @ z_bar_dot
            if position > 0:
                slope, z_dot = block.slope[position - 1], tangents[position - 1]
                W, W_dot = self.layers[position][:-1], directions[position][:-1]
                h_dot = slope * z_dot
                A_bar_dot[:-1] += h_dot.T @ z_bar
            leaves.append(A_bar_dot.ravel())
            if position > 0:
                h_bar = z_bar @ W.T
                h_bar_dot = z_bar_dot @ W.T + z_bar @ W_dot.T
                z = self._before_activation(block, position - 1)
                z_bar = slope * h_bar
                z_bar_dot = curvature(z) * z_dot * h_bar + slope * h_bar_dot
        return np.concatenate(leaves[::-1])


@finite_results
def jvp(net: Network, theta: Array, x: Array, v: Array) -> Array:
    """Return J v, the derivative of φ along v.

    ::

        J v = d/dt φ(θ + t v) at t = 0

    For several products at one θ, `linearize` once.

    Parameters
    ----------
    net : Network
        The network.
    theta : (P,) array
        Its parameters θ.
    x : (B, D) array
        Observations.
    v : (P,) array
        A direction in the space of θ.

    Returns
    -------
    (B, K) array
        J v.

    Raises
    ------
    ValueError
        If the network is impossible or a shape disagrees.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    >>> import numpy as np
    >>> jvp(Network((1, 1)), np.array([2.0, 1.0]), np.array([[3.0]]), np.array([1.0, 0.0]))
    array([[3.]])
    """
    theta, x, v = _bind("jvp", net, theta, x, v=(v, "P"))
    return _linearize(net, theta, x).jvp(v)


@finite_results
def vjp(net: Network, theta: Array, x: Array, phi_bar: Array) -> Array:
    """Return Jᵀ φ̄, the gradient of ⟨φ̄, φ(θ)⟩ with respect to θ.

    ::

        Jᵀ φ̄ = Σ_b J_bᵀ φ̄_b

    For several products at one θ, `linearize` once.

    Parameters
    ----------
    net : Network
        The network.
    theta : (P,) array
        Its parameters θ.
    x : (B, D) array
        Observations.
    phi_bar : (B, K) array
        One cotangent per row.

    Returns
    -------
    (P,) array
        Jᵀ φ̄, a sum over rows, not a mean.

    Raises
    ------
    ValueError
        If the network is impossible or a shape disagrees.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    >>> import numpy as np
    >>> vjp(Network((1, 1)), np.array([2.0, 1.0]), np.array([[3.0], [4.0]]), np.array([[1.0], [1.0]]))
    array([7., 2.])
    """
    theta, x, phi_bar = _bind("vjp", net, theta, x, phi_bar=(phi_bar, "B K"))
    return _linearize(net, theta, x).vjp(phi_bar)


@finite_results
def jacobian(net: Network, theta: Array, x: Array) -> Array:
    """Return J = ∂φ/∂θ, one matrix per row.

    ::

        J[b, k, p] = ∂φ_k(x_b)/∂θ_p

    Parameters
    ----------
    net : Network
        The network.
    theta : (P,) array
        Its parameters θ.
    x : (B, D) array
        Observations.

    Returns
    -------
    (B, K, P) array
        J.

    Raises
    ------
    ValueError
        If the network is impossible or a shape disagrees.

    References
    ----------
    [TRPO App. C.1]

    Examples
    --------
    >>> import numpy as np
    >>> jacobian(Network((1, 1), free=1), np.array([2.0, 1.0, 0.0]), np.array([[3.0]]))
    array([[[3., 1., 0.],
            [0., 0., 1.]]])
    """
    theta, x = _bind("jacobian", net, theta, x)
    return _linearize(net, theta, x).jacobian()


def _bind(function: str, net: Network, theta: Array, x: Array, **more: tuple[Array, str]) -> tuple[Array, ...]:
    """Check the arguments of a door against the network and each other."""
    check_network(function, net)
    sizes = {"P": net.num_parameters, "D": net.sizes[0], "K": net.num_outputs}
    return bind_shapes(function, sizes, theta=(theta, "P"), x=(x, "B D"), **more)


def _with_free(outputs: Array, free: Array) -> Array:
    """Return the outputs of the last layer, followed in each row by the free entries."""
    rows, width = outputs.shape
    phi = np.empty((rows, width + len(free)), np.result_type(outputs, free))
    phi[:, :width] = outputs
    phi[:, width:] = free
    return phi


def _with_one(h: Array) -> Array:
    """Return [h 1], a copy."""
    rows, width = h.shape
    extended = np.empty((rows, width + 1), h.dtype)
    extended[:, :width] = h
    extended[:, width] = 1
    return extended


def _forward(net: Network, layers: Layers, x: Array) -> tuple[list[Array], list[Array]]:
    """Return z_1, …, z_L and the inputs [h_0 1], …, [h_{L−1} 1] of the layers."""
    value = ACTIVATIONS[net.activation].value
    h = [_with_one(x)]
    z = [h[0] @ layers[0]]
    for A in layers[1:]:
        h.append(_with_one(value(z[-1])))
        z.append(h[-1] @ A)
    return z, h


def _forward_change(net: Network, layers: Layers, changes: Layers, x: Array) -> tuple[Array, Array]:
    """Return z_L and dz_L."""
    activation = ACTIVATIONS[net.activation]
    h = _with_one(x)
    z = h @ layers[0]
    dz = h @ changes[0]
    for A, dA in zip(layers[1:], changes[1:], strict=True):
        h, dh = activation.value(z), activation.change(z, dz)
        z = _with_one(h) @ A
        dz = _with_one(h + dh) @ dA
        dz += dh @ A[:-1]
    return z, dz


def _linearize(net: Network, theta: Array, x: Array) -> Linearization:
    """Run the forward pass of `linearize` on checked arguments."""
    layers, free = affine_maps(net, theta)
    slope = ACTIVATIONS[net.activation].slope
    blocks = []
    outputs = []
    for rows in row_parts(len(x)):
        z, h = _forward(net, layers, x[rows])
        blocks.append(_Block(rows, h, [slope(z_l) for z_l in z[:-1]]))
        outputs.append(z[-1])
    return Linearization(net, _with_free(np.concatenate(outputs), free), layers, blocks)
