"""Derivatives by PyTorch and by JAX are never called wrong, in float64 or float32."""

import importlib

import pytest

from refpg.conformance.ops import OPS
from verification.honest.automatic import LIBRARIES, autodiff_variants
from verification.honest.variants import Variant, judge

pytestmark = [
    pytest.mark.peers,
    # PyTorch's own transformations still import what it deprecates.
    pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning"),
]

DERIVATIVES = (
    *(f"{quantity}_{family}" for quantity in ("score", "fisher") for family in ("categorical", "masked_categorical")),
    *(f"{quantity}_{family}" for quantity in ("score", "fisher") for family in ("bernoulli", "diagonal_gaussian")),
    "clipped_objective_gradient",
    "clipped_objective_parameter_gradient",
    "entropy_bonus",
    "ppo_objective",
    "surrogate_gradient",
    "mean_kl_gradient",
    "mean_kl_hessian_vector_product",
    "fisher_matrix",
    "fisher_vector_product",
    "natural_gradient",
)
# JAX compiles every operation for every shape, which takes minutes over all ops; PyTorch is judged on all of them.
JUDGED = {"torch": tuple(OPS), "jax": DERIVATIVES}
CONVENTIONS = {"torch": ({}, {"kl.direction": "new_old"}), "jax": ({},)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_automatic_differentiation_conforms(name, dtype):
    importorskip(name)
    (whole,) = (variant for variant in autodiff_variants() if variant.name == name)

    def make(conventions):
        functions = whole.make(conventions)
        return {op: functions[op] for op in JUDGED[name]}

    line = judge(Variant(name, make), dtype, CONVENTIONS[name])
    assert [(o.case, o.verdict.value, o.worst, o.message) for o in line.amiss] == []
    assert line.ops == len(JUDGED[name])


def importorskip(name):
    """Skip where the library is not installed; a library that is there and broken is an error."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
