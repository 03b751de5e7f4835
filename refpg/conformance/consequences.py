"""What a wrong trust-region step does: the KL it really moves."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from refpg.conformance.signatures import output_of
from refpg.conformance.vectors import Case
from refpg.conformance.verdicts import Outcome
from refpg.notation import Array

CONSEQUENCE = "this step"  # the label of the line

# The output that says where the step led, and whether it is θ' or θ' − θ.
_STEPS = {"trpo_step": ("parameters", "point"), "natural_gradient_step": ("step", "difference")}


def consequence(outcome: Outcome, case: Case) -> str | None:
    """Say how far, in the true mean KL(old ‖ new), the returned step moves the policy.

    ::

        KL(old ‖ new) = (1/B) Σ_b KL(π_old(·|x_b) ‖ π_new(·|x_b)),    beside max_kl

    Parameters
    ----------
    outcome : Outcome
        A wrong answer.
    case : Case
        Its case.

    Returns
    -------
    str or None
        None for other ops, and for answers that are not a step of the right shape.
    """
    if outcome.op not in _STEPS:
        return None
    output, meaning = _STEPS[outcome.op]
    leaves = [c for c in outcome.comparisons if output_of(c.path) == output]
    if not leaves or not all(c.same_shape and np.isfinite(c.got).all() for c in leaves):
        return None
    from refpg import geometry
    from refpg.conformance.reference import policy_and_theta

    policy, theta_old = policy_and_theta(case.inputs["policy"])
    step = np.concatenate([c.got.ravel() for c in leaves])  # in the order of θ
    theta = step if meaning == "point" else theta_old + step
    if not np.any(theta != theta_old):
        return "the policy returned is the old one"
    return _sentence(geometry, policy, theta_old, theta, case.inputs)


def _sentence(geometry: Any, policy: Any, theta_old: Array, theta: Array, inputs: Mapping[str, Any]) -> str | None:
    try:
        kl = float(geometry.mean_kl(policy, theta_old, theta, inputs["observations"]))
    except (ValueError, FloatingPointError):  # a step so long that the policy it leads to is not a number
        return None
    return f"KL(old ‖ new) of the step returned {kl:.3g} = {kl / inputs['max_kl']:.2g} × max_kl"
