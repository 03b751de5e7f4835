"""Linear–quadratic–Gaussian control: the continuous problem with an exact answer, the Gaussian twin of `refpg.mdp`.

::

    x' = A x + B u + w,   w ∼ N(0, W)          r(x, u) = −(xᵀQx + uᵀRu)          u ∼ N(−Kx, Σ)

    V(x) = −(xᵀPx + c)                         P = Q + KᵀRK + γ(A − BK)ᵀP(A − BK)
    A(x,u) = 2eᵀEx − eᵀGe + tr GΣ              e = u + Kx,  G = R + γBᵀPB,  E = GK − γBᵀPA
    ∂η/∂K = −2EX                               X = Σ_t γᵗ E x_t x_tᵀ
    F⁻¹∂η/∂K = −2ΣE/(1 − γ)                    K* − K = −G⁻¹E, again and again

Control theory minimises a cost; this package maximises, so the reward is minus the cost and no value is positive.  The
state is the observation x of `refpg.policy`, u its action.  What is a vector over states in a finite MDP is a quadratic
here, and what is the visitation ρ there is its second moment X.

* `model`: the records `LinearQuadratic` and `LinearGaussianPolicy`; the condition γρ(A − BK)² < 1;
* `exact`: `evaluate` (P, c, G, E, X, η), V, Q, A, the performance difference, L, KL;
* `gradient`: the policy gradient, the Fisher matrix and the natural gradient; Gauss–Newton, which is policy iteration;
* `optimal`: the Riccati equation;
* `sampling`: trajectories, visited states, and the few states that stand for all in the mean of a quadratic;
* `examples`: a problem one can do by hand, and random ones.
"""

from refpg.linear_quadratic.exact import (
    Evaluation,
    action_values,
    advantages,
    evaluate,
    expected_advantages,
    kl,
    local_approximation,
    mean_kl,
    performance_difference,
    values,
)
from refpg.linear_quadratic.examples import doubling, point_mass, random_problem
from refpg.linear_quadratic.gradient import (
    Direction,
    fisher_matrix,
    gauss_newton_step,
    natural_gradient,
    policy_gradient,
)
from refpg.linear_quadratic.model import LinearGaussianPolicy, LinearQuadratic, Unstable
from refpg.linear_quadratic.optimal import Optimum, optimum
from refpg.linear_quadratic.sampling import (
    StateRule,
    Trajectories,
    covariance_root,
    sample_states,
    sample_trajectories,
    visitation_rule,
)

__all__ = [
    "Direction",
    "Evaluation",
    "LinearGaussianPolicy",
    "LinearQuadratic",
    "Optimum",
    "StateRule",
    "Trajectories",
    "Unstable",
    "action_values",
    "advantages",
    "covariance_root",
    "doubling",
    "evaluate",
    "expected_advantages",
    "fisher_matrix",
    "gauss_newton_step",
    "kl",
    "local_approximation",
    "mean_kl",
    "natural_gradient",
    "optimum",
    "performance_difference",
    "point_mass",
    "policy_gradient",
    "random_problem",
    "sample_states",
    "sample_trajectories",
    "values",
    "visitation_rule",
]
