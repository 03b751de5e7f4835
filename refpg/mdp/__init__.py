"""The finite Markov decision process: every quantity of the theory, computed from its definition.

::

    V = r_π + γ P_π V,   Q = r + γ P V,   A = Q − V,   η(π) = ρ₀ᵀ V                     [TRPO section 2]
    ρ_π = ρ₀ + γ P_πᵀ ρ_π                  visitation, Σ_s ρ_π(s) = 1/(1 − γ)
    d_π = (1 − γ) ρ_π                      visitation distribution, Σ_s d_π(s) = 1
    η(π') = η(π) + Σ_s ρ_π'(s) Σ_a π'(a|s) A_π(s,a)                                     [TRPO (2)]
    L_π(π') = η(π) + Σ_s ρ_π(s) Σ_a π'(a|s) A_π(s,a)                                    [TRPO (3)]

A policy is a table π(a|s) of shape (S, A): that of a network is `refpg.policy.probability_table` with one row of
observations per state, and from there on it is judged like any other.

* `model`: the record `MDP` and what it checks;
* `elimination`: I − γP_π factorised without a subtraction, so that nothing is lost as γ → 1;
* `exact`: `evaluate` (V, Q, A, ρ, d, η), the performance difference, L, the policy gradient;
* `horizon`: the same for T steps and a policy that may change with time;
* `examples`: random MDPs, chains, gridworlds, and the pairs of policies at which bounds are attained or fail.
"""

from refpg.mdp.exact import (
    Evaluation,
    PerformanceDifference,
    evaluate,
    expected_advantages,
    local_approximation,
    performance_difference,
    softmax_gradient,
)
from refpg.mdp.examples import (
    PolicyPair,
    attained_mixture_example,
    attained_total_variation_example,
    chain,
    cliff,
    garnet,
    gridworld,
    kakade_two_state,
    mean_kl_counterexample,
    mean_total_variation_counterexample,
    random_mdp,
    random_policy,
)
from refpg.mdp.horizon import HorizonEvaluation, evaluate_horizon
from refpg.mdp.model import MDP, policy_table

__all__ = [
    "MDP",
    "Evaluation",
    "HorizonEvaluation",
    "PerformanceDifference",
    "PolicyPair",
    "attained_mixture_example",
    "attained_total_variation_example",
    "chain",
    "cliff",
    "evaluate",
    "evaluate_horizon",
    "expected_advantages",
    "garnet",
    "gridworld",
    "kakade_two_state",
    "local_approximation",
    "mean_kl_counterexample",
    "mean_total_variation_counterexample",
    "performance_difference",
    "policy_table",
    "random_mdp",
    "random_policy",
    "softmax_gradient",
]
