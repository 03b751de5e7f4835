"""The updates: θ → (θ', info), and table → (table, info).  The only chapter that makes a new policy.

::

    natural gradient   θ' = θ + √(2δ / gᵀF⁻¹g) F⁻¹g                                   [TRPO (17)], [K01]
    TRPO               the same with F⁻¹g from conjugate gradients, then a line search on the exact L and KL
    PPO                K epochs of Adam on E[min(rÂ, clip(r, 1−ε, 1+ε)Â)], π_old frozen  [PPO (7)]
    MM                 π' = argmax L − C max_s KL(π ‖ π'), the algorithm with the guarantee  [TRPO Alg. 1]

refpg maximises: g is the gradient of an objective and steps go along it.  A function returns θ' and a record of what
happened; an update that cannot improve returns θ itself and says why.

* `ending`: the names of how updates end;
* `duality`: trust region ↔ penalty for a quadratic model, with multiplier, KKT residual and duality gap;
* `constrained`: the same with a second, linear constraint, the cost of CPO;
* `natural`: the natural gradient, and the step to the edge of the quadratic trust region;
* `trpo`: conjugate gradients and line search;
* `nonlinear`: the trust region and the minorizer of a network with the exact KL, by SciPy's optimiser;
* `adam`, `ppo`: the PPO objective, its minibatches and epochs;
* `epochs`: the same with a KL penalty, and with what implementations add;
* `values`: the value network fitted to targets;
* `tables`: steps of a policy that is a table: KL ball, mirror descent, mixture;
* `minorize`: the exact minorize–maximization step of a table.
"""

from refpg.updates.adam import Adam, adam_step
from refpg.updates.constrained import CostConstrainedDual, cost_constrained_dual
from refpg.updates.duality import (
    TrustRegionDual,
    penalty_of_radius,
    penalty_step,
    radius_of_penalty,
    trust_region_dual,
)
from refpg.updates.ending import CostEnding, Ending, MMEnding, PPOEnding
from refpg.updates.epochs import EpochsUpdate, MinibatchStep, ppo_epochs
from refpg.updates.minorize import MMStep, mm_step
from refpg.updates.natural import (
    METHODS,
    NaturalGradient,
    NaturalGradientStep,
    expected_improvement,
    natural_gradient,
    natural_gradient_step,
    step_length,
    surrogate_gradient,
)
from refpg.updates.nonlinear import (
    ExactTrustRegion,
    ParametricMMStep,
    exact_trust_region_step,
    parametric_mm_step,
)
from refpg.updates.ppo import PPOObjective, PPOUpdate, minibatch_order, ppo_objective, ppo_update
from refpg.updates.tables import (
    KLBallStep,
    conservative_mixing,
    greedy_step,
    kl_ball_step,
    mirror_descent_step,
    mixture_step,
)
from refpg.updates.trpo import ACCEPTANCE, LineSearch, Trial, TRPOStep, trpo_step, trust_region_line_search
from refpg.updates.values import ValueFit, fit_values, fit_values_lbfgs, value_loss_and_gradient

__all__ = [
    "ACCEPTANCE",
    "METHODS",
    "Adam",
    "CostConstrainedDual",
    "CostEnding",
    "Ending",
    "EpochsUpdate",
    "ExactTrustRegion",
    "KLBallStep",
    "LineSearch",
    "MMEnding",
    "MMStep",
    "MinibatchStep",
    "NaturalGradient",
    "NaturalGradientStep",
    "PPOEnding",
    "PPOObjective",
    "PPOUpdate",
    "ParametricMMStep",
    "TRPOStep",
    "Trial",
    "TrustRegionDual",
    "ValueFit",
    "adam_step",
    "conservative_mixing",
    "cost_constrained_dual",
    "exact_trust_region_step",
    "expected_improvement",
    "fit_values",
    "fit_values_lbfgs",
    "greedy_step",
    "kl_ball_step",
    "minibatch_order",
    "mirror_descent_step",
    "mixture_step",
    "mm_step",
    "natural_gradient",
    "natural_gradient_step",
    "parametric_mm_step",
    "penalty_of_radius",
    "penalty_step",
    "ppo_epochs",
    "ppo_objective",
    "ppo_update",
    "radius_of_penalty",
    "step_length",
    "surrogate_gradient",
    "trpo_step",
    "trust_region_dual",
    "trust_region_line_search",
    "value_loss_and_gradient",
]
