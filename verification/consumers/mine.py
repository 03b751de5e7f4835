# Three ops, to be replaced by yours; with WRONG in the environment, each makes a known mistake.
import os

import numpy as np

WRONG = "WRONG" in os.environ


def gae_rollout(rewards, values, dones, last_values, gamma, gae_lambda):  # wrong: gae-done-late
    rewards, values, flags = np.array(rewards), np.array(values), np.array(dones, dtype=float)
    if WRONG:
        flags = np.vstack([flags[1:], flags[-1:]])
    next_values, advantages, running = np.vstack([values[1:], last_values]), np.zeros_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * next_values[t] * (1 - flags[t]) - values[t]
        advantages[t] = running = delta + gamma * gae_lambda * (1 - flags[t]) * running
    return {"advantages": advantages, "value_targets": advantages + values}


def clipped_objective(old_log_prob, new_log_prob, advantages, clip):  # wrong: clip-min-before-adv
    ratio, A = np.exp(np.subtract(new_log_prob, old_log_prob)), np.array(advantages)
    clipped = np.clip(ratio, 1 - clip, 1 + clip)
    terms = np.minimum(ratio, clipped) * A if WRONG else np.minimum(ratio * A, clipped * A)
    return {"objective": terms.mean()}


def kl_diagonal_gaussian(old_mean, old_log_std, new_mean, new_log_std):  # wrong: kl-reversed
    m0, s0, m1, s1 = map(np.array, (old_mean, old_log_std, new_mean, new_log_std))
    if WRONG:
        m0, s0, m1, s1 = m1, s1, m0, s0
    terms = s1 - s0 + 0.5 * (np.exp(s0 - s1) ** 2 + ((m0 - m1) / np.exp(s1)) ** 2 - 1)
    return {"kl": terms.sum(axis=1)}
