# python consumer.py EXPORT/2026.1 right|wrong      (reads the JSON form; needs NumPy, not refpg)
import json
import sys
from pathlib import Path

import numpy as np

folder, wrong = Path(sys.argv[1]), sys.argv[2] == "wrong"

# The implementation; if `wrong`, with a known mistake in each function.


def gae_rollout(rewards, values, dones, last_values, gamma, gae_lambda):  # gae-done-late
    flags = np.vstack([dones[1:], dones[-1:]]) if wrong else dones
    next_values, advantages, running = np.vstack([values[1:], last_values]), np.zeros_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * next_values[t] * (1 - flags[t]) - values[t]
        advantages[t] = running = delta + gamma * gae_lambda * (1 - flags[t]) * running
    return {"advantages": advantages, "value_targets": advantages + values}


def clipped_objective(old_log_prob, new_log_prob, advantages, clip):  # clip-min-before-adv
    ratio = np.exp(new_log_prob - old_log_prob)
    clipped = np.clip(ratio, 1 - clip, 1 + clip)
    right = np.minimum(ratio * advantages, clipped * advantages)
    return {"objective": np.mean(np.minimum(ratio, clipped) * advantages if wrong else right)}


def kl_diagonal_gaussian(old_mean, old_log_std, new_mean, new_log_std):  # kl-reversed
    m0, s0, m1, s1 = old_mean, old_log_std, new_mean, new_log_std
    if wrong:
        m0, s0, m1, s1 = m1, s1, m0, s0
    terms = s1 - s0 + 0.5 * (np.exp(s0 - s1) ** 2 + ((m0 - m1) / np.exp(s1)) ** 2 - 1)
    return {"kl": terms.sum(axis=1)}


# The judge.

policy = json.loads((folder.parent / "policy.json").read_text())
unit = policy["factor"] * policy["unit_roundoff"]["float64"]
judged = mismatches = 0
for function in (gae_rollout, clipped_objective, kl_diagonal_gaussian):
    for case in json.loads((folder / f"{function.__name__}.json").read_text())["cases"]:
        if case["stability"]:
            print(f"NOT ASKED  {case['id']}")
            continue
        inputs = {name: np.array(value, dtype=np.float64) for name, value in case["inputs"].items()}
        outputs = case["expected"][0]["outputs"]
        worst = 0.0
        answers = function(**inputs)
        for leaf, output in outputs.items():
            value, R = np.array(output["value"]), np.array(output["R"])
            of_output = [other["R"] for name, other in outputs.items() if name.split(".")[0] == leaf.split(".")[0]]
            tolerance = unit * np.maximum(R, policy["floor"] * np.max(np.concatenate(of_output)))
            tolerance += 0.5 * np.spacing(np.abs(value))
            error = np.abs(np.reshape(answers[leaf], value.shape) - value) / tolerance
            worst = np.maximum(worst, error.max())  # keeps NaN
        print(f"{'CONFORMS ' if worst <= 1 else 'WRONG    '}  {case['id']}  {worst:.2g} x tolerance")
        judged, mismatches = judged + 1, mismatches + (not worst <= 1)
print(f"{judged} judged, {mismatches} wrong")
sys.exit(mismatches > 0 if judged else 4)
