"""Estimates from samples, and how good they are: returns, advantages, KL and importance sampling; exact moments.

The estimators, of arrays:

* `returns`: discounted returns, TD errors and GAE: what is summed backward in time;
* `normalization`: advantages of mean 0 and standard deviation 1, explained variance;
* `divergence`: k1, k2 and k3, estimates of KL(old ‖ new);
* `importance`: expectations under one distribution from samples of another.

Their bias and variance, exact, on finite distributions and MDPs; each module says which random experiment it is about:

* `draws`: importance sampling, ordinary and self-normalised, and k1, k2, k3, of n independent draws;
* `tradeoff`: GAE as a function of λ;
* `paths`: the surrogate and the policy gradient from whole trajectories, whose rows are correlated;
* `vine`: several actions in each state of a rollout set, also with common random numbers;
* `discounting`: the policy gradient with and without γᵗ.
"""

from refpg.estimation.discounting import (
    GradientWeighting,
    gradient_weighting,
    opposed_example,
    rotating_example,
    undiscounted_visits,
)
from refpg.estimation.divergence import KLEstimates, approximate_kl, kl_estimators
from refpg.estimation.draws import (
    KLMoments,
    Moments,
    importance_sampling_moments,
    kl_estimator_moments,
    self_normalized_delta_method,
    self_normalized_moments,
)
from refpg.estimation.importance import effective_sample_size, importance_sampling_mean, self_normalized_mean
from refpg.estimation.normalization import explained_variance, normalize_advantages
from refpg.estimation.paths import WEIGHTINGS, GradientMoments, policy_gradient_moments, single_path_moments
from refpg.estimation.returns import Advantages, discounted_returns, gae, gae_rollout, td_errors
from refpg.estimation.tradeoff import AdvantageMoments, gae_moments
from refpg.estimation.vine import ESTIMATORS, return_covariance, vine_moments

__all__ = [
    "ESTIMATORS",
    "WEIGHTINGS",
    "AdvantageMoments",
    "Advantages",
    "GradientMoments",
    "GradientWeighting",
    "KLEstimates",
    "KLMoments",
    "Moments",
    "approximate_kl",
    "discounted_returns",
    "effective_sample_size",
    "explained_variance",
    "gae",
    "gae_moments",
    "gae_rollout",
    "gradient_weighting",
    "importance_sampling_mean",
    "importance_sampling_moments",
    "kl_estimator_moments",
    "kl_estimators",
    "normalize_advantages",
    "opposed_example",
    "policy_gradient_moments",
    "return_covariance",
    "rotating_example",
    "self_normalized_delta_method",
    "self_normalized_mean",
    "self_normalized_moments",
    "single_path_moments",
    "td_errors",
    "undiscounted_visits",
    "vine_moments",
]
