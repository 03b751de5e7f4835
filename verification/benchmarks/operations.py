"""What is computed, on which sizes, and how near to refpg's an answer must be before anybody is timed."""

from typing import NamedTuple


class Operation(NamedTuple):
    """An operation: its ``title``; the ``sizes`` it is measured on; the ``tolerance``, relative to the largest entry.

    Tolerances: 1e-9 where sums over rows differ in order alone; more where a linear system multiplies rounding by its
    condition, about ‖F‖/λ, at each of ten steps of conjugate gradients.
    """

    title: str
    sizes: tuple[str, ...]
    tolerance: float = 1e-9


ALL = ("tiny", "standard", "large", "wide")

OPERATIONS = {
    "forward": Operation("network, forward", ALL),
    "gradient": Operation("policy gradient", ALL),
    "fisher_product": Operation("another Fisher-vector product at the same θ", ALL),
    "conjugate_gradient": Operation("10 steps of conjugate gradients, from θ", ALL, 1e-6),
    "trpo_update": Operation("TRPO update", ALL, 1e-6),
    "mean_kl": Operation("mean KL of two policies", ("tiny",), 1e-7),
    "clipped_loss": Operation("clipped loss and its gradient", ("tiny",)),
    "fisher_matrix": Operation("dense Fisher matrix", ("fisher-1k", "fisher-2k", "fisher-6k", "fisher-20k")),
    "natural_gradient": Operation("damped natural gradient, exact", ("fisher-6k", "dual-12k", "dual-wide"), 1e-7),
}
