"""The network: θ, x → φ, a multilayer perceptron differentiated by hand.

::

    h₀ = x,   h_l = σ(h_{l−1} W_l + b_l)  (l < L),   φ = (h_{L−1} W_L + b_L, free)

    x (B, D)  →  φ (B, K),    J = ∂φ/∂θ (B, K, P)

This is the only chapter in which θ has layers; everywhere else it is one flat vector of P numbers, laid out
as (W₁, b₁, …, W_L, b_L, free) with each W_l (in, out) row by row.  The rest of the package needs of a
network: φ, the products J v and Jᵀ φ̄, for exact methods J itself or J Jᵀ, and for Hessians the curvature
Σ φ̄ ∇²φ v.

* `layout`: `Network`, `flatten`, `unflatten`, `initial_parameters`;
* `activations`: each σ with σ', σ'' and its exact change;
* `linearization`: `forward`, `forward_change`, `linearize` and the products; for arguments that a door has checked,
  `forward_at`, `linearize_at` and `change_at`;
* `gauss_newton`: Σ JᵀMJ and its Gram matrix, dense, without their Jacobian.
"""

from refpg.network.activations import ACTIVATIONS, Activation
from refpg.network.gauss_newton import RootProduct, folded, gauss_newton_matrix, gram_matrix, unfolded
from refpg.network.layout import Network, check_network, flatten, initial_parameters, unflatten
from refpg.network.linearization import (
    Linearization,
    change_at,
    forward,
    forward_at,
    forward_change,
    jacobian,
    jvp,
    linearize,
    linearize_at,
    vjp,
)

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Linearization",
    "Network",
    "RootProduct",
    "change_at",
    "check_network",
    "flatten",
    "folded",
    "forward",
    "forward_at",
    "forward_change",
    "gauss_newton_matrix",
    "gram_matrix",
    "initial_parameters",
    "jacobian",
    "jvp",
    "linearize",
    "linearize_at",
    "unflatten",
    "unfolded",
    "vjp",
]
