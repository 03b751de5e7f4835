"""Objectives of a policy update, computed from log-probabilities, each beside its gradient.

Everything here is a function of one number per row: the log-ratio ℓ = log π_θ(a|s) − log π_old(a|s).

* `sampled`: the ratio r = exp(ℓ), and the surrogate L;
* `clipping`: PPO's clipped objective and its variants, the clip fraction;
* `penalty`: PPO's KL-penalised objective, and the schedules of its weight;
* `value`: the value loss, plain and clipped;
* `entropy`: the entropy bonus.

Objectives are maximised, the value loss is minimised.  Rows are samples drawn with the old policy and weigh
1/B, unless ``weights`` are given: with every (state, action) as a row and visitation times π_old as weights,
each mean is an exact expectation.  Gradients are with respect to one number per row and include the weights;
multiplied by ∂log π_θ/∂θ and summed over rows they are gradients in θ.
"""

from refpg.surrogate.clipping import (
    Subgradient,
    clip_fraction,
    clipped_objective,
    clipped_objective_gradient,
    clipped_objective_subgradient,
    dual_clipped_objective,
    dual_clipped_objective_gradient,
)
from refpg.surrogate.entropy import entropy_bonus, entropy_bonus_gradient
from refpg.surrogate.penalty import (
    KLPenalizedGradient,
    kl_penalized_objective,
    kl_penalized_objective_gradient,
    kl_penalty_update,
    proportional_kl_penalty_update,
)
from refpg.surrogate.sampled import ratio, sampled_surrogate, sampled_surrogate_gradient, surrogate_improvement
from refpg.surrogate.value import clipped_value_loss, clipped_value_loss_gradient, value_loss, value_loss_gradient

__all__ = [
    "KLPenalizedGradient",
    "Subgradient",
    "clip_fraction",
    "clipped_objective",
    "clipped_objective_gradient",
    "clipped_objective_subgradient",
    "clipped_value_loss",
    "clipped_value_loss_gradient",
    "dual_clipped_objective",
    "dual_clipped_objective_gradient",
    "entropy_bonus",
    "entropy_bonus_gradient",
    "kl_penalized_objective",
    "kl_penalized_objective_gradient",
    "kl_penalty_update",
    "proportional_kl_penalty_update",
    "ratio",
    "sampled_surrogate",
    "sampled_surrogate_gradient",
    "surrogate_improvement",
    "value_loss",
    "value_loss_gradient",
]
