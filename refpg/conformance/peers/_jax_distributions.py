"""What the contract asks of distributions that are functions of JAX arrays.

Scores are the derivative of the library's own log-probability, Fisher matrices the second derivative of its own KL at
equal parameters, both by JAX.  Every operation is compiled as a whole: JAX would otherwise compile each of its steps
for each shape.  Importing this module switches float64 on for the process; float32 arrays stay float32.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

Inputs = Mapping[str, Any]
Phi = Mapping[str, Any]


class Family(NamedTuple):
    """One family of the contract in a library's functions, each one number per row; None for what it does not have.

    Fields: ``parameters`` names its inputs that are φ; ``log_prob`` is called with φ and the inputs, ``entropy``
    likewise, ``kl`` with the old φ, the new φ and the inputs.
    """

    parameters: tuple[str, ...]
    log_prob: Callable[[Phi, Inputs], Any] | None
    entropy: Callable[[Phi, Inputs], Any] | None
    kl: Callable[[Phi, Phi, Inputs], Any] | None


def phi_of(family: Family, inputs: Inputs, prefix: str = "") -> dict[str, Any]:
    """Return φ as JAX arrays."""
    return {name: jnp.asarray(inputs[prefix + name]) for name in family.parameters}


def numpy_arrays(tree: Any) -> Any:
    """Return a copy of the numbers of all arrays, in the same structure."""
    return jax.tree.map(np.array, tree)


def distribution_ops(families: Mapping[str, Family]) -> dict[str, Callable[..., Any]]:
    """Return every operation that the families' functions answer, by name."""
    ops: dict[str, Callable[..., Any]] = {}
    for name, family in families.items():
        ops |= {f"{quantity}_{name}": op for quantity, op in _of_family(family).items()}
    return ops


def _of_family(family: Family) -> dict[str, Callable[..., Any]]:
    def compiled(f: Callable[..., Any], *prefixes: str) -> Callable[..., Any]:
        """Return f of φ (or of the φ of each prefix) and of the other inputs, which are constants of the program."""

        def op(**inputs: Any) -> Any:
            phis = [phi_of(family, inputs, prefix) for prefix in prefixes]
            return numpy_arrays(jax.jit(lambda *arrays: f(*arrays, inputs))(*phis))

        return op

    ops = {}
    if family.log_prob is not None:
        log_prob = family.log_prob
        ops["log_prob"] = compiled(log_prob, "")
        ops["score"] = compiled(lambda phi, inputs: jax.grad(lambda one: log_prob(one, inputs).sum())(phi), "")
    if family.entropy is not None:
        ops["entropy"] = compiled(family.entropy, "")
    if family.kl is not None:
        kl = family.kl
        ops["kl"] = compiled(kl, "old_", "new_")
        ops["mean_kl"] = compiled(lambda old, new, inputs: kl(old, new, inputs).mean(), "old_", "new_")
        ops["fisher"] = compiled(lambda phi, inputs: _fisher(kl, family.parameters, phi, inputs), "")
    return ops


def _fisher(kl: Callable[[Phi, Phi, Inputs], Any], parameters: tuple[str, ...], phi: Phi, inputs: Inputs) -> Any:
    """Return the Hessian of the KL of every row at equal parameters, φ in one row: means before log_std."""
    rows = jnp.concatenate([phi[name] for name in parameters], axis=1)
    widths = np.cumsum([phi[name].shape[1] for name in parameters])[:-1]

    def kl_of(row: Any, other: Inputs) -> Any:
        def divergence(new: Any) -> Any:
            p, q = (dict(zip(parameters, jnp.split(z[None], widths, axis=1), strict=True)) for z in (row, new))
            return kl(p, q, other)[0]

        return jax.hessian(divergence)(row)

    if "mask" in inputs:
        return jax.vmap(lambda row, mask: kl_of(row, {"mask": mask[None]}))(rows, jnp.asarray(inputs["mask"]))
    return jax.vmap(lambda row: kl_of(row, inputs))(rows)
