"""Learning curves: refpg's sampled loops on Gymnasium's environments, beside the libraries with the same settings.

* `problems`: environments, thresholds, budgets, hyperparameters;
* `curves`: what a run leaves behind, and when it has reached a threshold;
* `own`: a run of refpg; `peers`: one of stable-baselines3 or sb3-contrib; `evaluation`: one examination for all;
* `oracle`: on an MDP, how the sampled curve approaches the exact one as the batch grows;
* `results`, `report`, `figures`: the numbers as JSON, the page, the pictures.
"""
