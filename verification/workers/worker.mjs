// refpg check -- node worker.mjs [wrong]
import { createInterface } from "node:readline";

const wrong = process.argv[2] === "wrong";
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

// The implementation; if `wrong`, with a known mistake in each function but one, which follows another convention.

const implementation = {
  gae({ rewards, values, next_values, terminated, truncated, gamma, gae_lambda }) { // gae-no-mask-recursion
    const advantages = rewards.map((row) => row.map(() => 0));
    for (let t = rewards.length - 1; t >= 0; t--) for (let e = 0; e < rewards[t].length; e++) {
      const later = t + 1 < rewards.length ? advantages[t + 1][e] : 0;
      const delta = rewards[t][e] + gamma * (terminated[t][e] ? 0 : next_values[t][e]) - values[t][e];
      const ended = terminated[t][e] || truncated[t][e];
      advantages[t][e] = delta + gamma * gae_lambda * (ended && !wrong ? 0 : later);
    }
    const value_targets = advantages.map((row, t) => row.map((advantage, e) => advantage + values[t][e]));
    return { advantages, value_targets };
  },
  clipped_objective({ old_log_prob, new_log_prob, advantages, clip }) { // clip-min-before-adv
    const terms = advantages.map((advantage, b) => {
      const ratio = Math.exp(new_log_prob[b] - old_log_prob[b]);
      const clipped = Math.min(Math.max(ratio, 1 - clip), 1 + clip);
      return wrong ? Math.min(ratio, clipped) * advantage : Math.min(ratio * advantage, clipped * advantage);
    });
    return { objective: sum(terms) / terms.length };
  },
  kl_categorical({ old_logits, new_logits }) { // kl-reversed
    const logProb = (logits) => {
      const largest = Math.max(...logits);
      const normaliser = largest + Math.log(sum(logits.map((logit) => Math.exp(logit - largest))));
      return logits.map((logit) => logit - normaliser);
    };
    const kl = (p, q) => sum(p.map((logP, a) => Math.exp(logP) * (logP - q[a])));
    return {
      kl: old_logits.map((row, b) => {
        const [older, newer] = [logProb(row), logProb(new_logits[b])];
        return wrong ? kl(newer, older) : kl(older, newer);
      }),
    };
  },
  normalize_advantages({ advantages }) { // the convention advantage.ddof = 1
    const mean = sum(advantages) / advantages.length;
    const squares = sum(advantages.map((advantage) => (advantage - mean) ** 2));
    const std = Math.sqrt(squares / (advantages.length - (wrong ? 1 : 0)));
    return { normalized: advantages.map((advantage) => (advantage - mean) / std) };
  },
  echo: ({ values }) => ({ values }),
};

// The worker.

// JSON has no word for what is not finite; null would do, and say less.
const exact = (_, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value);
const reply = (message) => process.stdout.write(`${JSON.stringify(message, exact)}\n`);

for await (const line of createInterface({ input: process.stdin })) {
  const { kind, id, op, inputs } = JSON.parse(line);
  if (kind === "bye") break;
  if (kind === "hello") {
    const notes = ["a sample: verification/workers"];
    reply({ kind, id, protocol: 1, name: "worker.mjs", version: "1", ops: Object.keys(implementation), notes });
    continue;
  }
  try {
    reply({ kind: "result", id, outputs: implementation[op](inputs) });
  } catch (error) {
    reply({ kind: "error", id, message: error.stack });
  }
}
