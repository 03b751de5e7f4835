"""The loops: from policy to policy, one record per iteration.

::

    minorize_maximize           x_{i+1} = argmax M_i,   M_i ≤ η,   M_i(x_i) = η(x_i)          η never falls
    mm, parametric_mm           M = L − C max_s KL                                            [TRPO Alg. 1], [Hui]
    conservative_policy_iteration    π ← (1 − α)π + α greedy                                  [KL02 Thm 4.1]
    mdpo                        π ∝ π exp(A/λ)                                                [MDPO]
    natural_policy_gradient     θ ← θ + √(2δ/gᵀF⁻¹g) F⁻¹g                                     [K01]
    trpo                        conjugate gradients, line search on L and the mean KL         [TRPO App. C]
    ppo                         K epochs on the clipped objective, then π_old ← π             [PPO Alg. 1]

All these are exact: the environment is a finite MDP, and g, L, KL and F are expectations over its states and actions.
Names that begin with ``sampled_`` are for samples, as everywhere in this package: `sampled_natural_policy_gradient`,
`sampled_trpo` and `sampled_ppo` see the world through rollouts alone, and their advantages through a value network.

* `exact`: the loops on finite MDPs;
* `sampled`: the loops on rollouts;
* `presets`: the choices of the papers and of libraries, by name;
* `checkpoint`: all that a run goes on from, in a file and out of it;
* `runs`: runs by name, an algorithm, an environment and numbers;
* `folder`: a run that is kept in a folder, and gone on with from there.
"""

from refpg.training.checkpoint import load_learner, load_standing, save_learner, save_standing
from refpg.training.exact import (
    MINORIZERS,
    Iteration,
    MMIterate,
    NotMonotone,
    Standing,
    conservative_policy_iteration,
    exact_batch,
    mdpo,
    minorize_maximize,
    mm,
    natural_policy_gradient,
    parametric_mm,
    ppo,
    standing,
    trpo,
)
from refpg.training.folder import Kept, resume, start, train
from refpg.training.presets import PPO_PRESETS, TRPO_PRESETS
from refpg.training.runs import ALGORITHMS, EMBEDDED, PRESETS, Setup, prepared
from refpg.training.sampled import (
    NORMALIZATIONS,
    Learner,
    SampledIteration,
    Sampling,
    ValueFitting,
    new_learner,
    sampled_natural_policy_gradient,
    sampled_ppo,
    sampled_trpo,
)

__all__ = [
    "ALGORITHMS",
    "EMBEDDED",
    "MINORIZERS",
    "NORMALIZATIONS",
    "PPO_PRESETS",
    "PRESETS",
    "TRPO_PRESETS",
    "Iteration",
    "Kept",
    "Learner",
    "MMIterate",
    "NotMonotone",
    "SampledIteration",
    "Sampling",
    "Setup",
    "Standing",
    "ValueFitting",
    "conservative_policy_iteration",
    "exact_batch",
    "load_learner",
    "load_standing",
    "mdpo",
    "minorize_maximize",
    "mm",
    "natural_policy_gradient",
    "new_learner",
    "parametric_mm",
    "ppo",
    "prepared",
    "resume",
    "sampled_natural_policy_gradient",
    "sampled_ppo",
    "sampled_trpo",
    "save_learner",
    "save_standing",
    "standing",
    "start",
    "train",
    "trpo",
]
