// node consumer.mjs EXPORT/2026.1 right|wrong      (reads the JSON form)
import { readFileSync } from "node:fs";

const [folder, choice] = process.argv.slice(2);
const wrong = choice === "wrong";
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

// The implementation; if `wrong`, with a known mistake in each function.

const implementation = {
  gae_rollout({ rewards, values, dones, last_values, gamma, gae_lambda }) { // gae-done-late
    const [T, E] = [rewards.length, last_values.length];
    const advantages = rewards.map(() => Array(E).fill(0));
    for (let t = T - 1; t >= 0; t--) for (let e = 0; e < E; e++) {
      const open = t === T - 1;
      const alive = dones[wrong && !open ? t + 1 : t][e] ? 0 : 1;
      const [next, later] = open ? [last_values[e], 0] : [values[t + 1][e], advantages[t + 1][e]];
      advantages[t][e] = rewards[t][e] + gamma * next * alive - values[t][e] + gamma * gae_lambda * alive * later;
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
  kl_diagonal_gaussian({ old_mean, old_log_std, new_mean, new_log_std }) { // kl-reversed
    const [m0, m1] = wrong ? [new_mean, old_mean] : [old_mean, new_mean];
    const [s0, s1] = wrong ? [new_log_std, old_log_std] : [old_log_std, new_log_std];
    const term = (b, i) => {
      const [scale, shift] = [Math.exp(s0[b][i] - s1[b][i]), (m0[b][i] - m1[b][i]) / Math.exp(s1[b][i])];
      return s1[b][i] - s0[b][i] + 0.5 * (scale * scale + shift * shift - 1);
    };
    return { kl: m0.map((row, b) => sum(row.map((_, i) => term(b, i)))) };
  },
};

// The judge.

const { factor, floor, unit_roundoff } = JSON.parse(readFileSync(`${folder}/../policy.json`, "utf8"));
const u = unit_roundoff.float64;
const halfUlp = (y) => {
  const number = new Float64Array([Math.abs(y)]);
  new BigUint64Array(number.buffer)[0] += 1n;
  return (number[0] - Math.abs(y)) / 2;
};
let [judged, mismatches] = [0, 0];
for (const [op, answer] of Object.entries(implementation)) {
  for (const { id, stability, inputs, expected } of JSON.parse(readFileSync(`${folder}/${op}.json`, "utf8")).cases) {
    if (stability) { console.log(`NOT ASKED  ${id}`); continue; }
    const answers = answer(inputs);
    let worst = 0; // Math.max keeps NaN
    for (const [leaf, { value, R }] of Object.entries(expected[0].outputs)) {
      const output = (name) => name.split(".")[0];
      const ofOutput = Object.keys(expected[0].outputs).filter((name) => output(name) === output(leaf));
      const largest = Math.max(...ofOutput.flatMap((name) => expected[0].outputs[name].R));
      const flat = [answers[leaf]].flat(Infinity);
      value.forEach((y, i) => {
        const tolerance = factor * u * Math.max(R[i], floor * largest) + halfUlp(y);
        worst = Math.max(worst, Math.abs(flat[i] - y) / tolerance);
      });
    }
    console.log(`${worst <= 1 ? "CONFORMS " : "WRONG    "}  ${id}  ${worst.toExponential(1)} x tolerance`);
    judged += 1;
    mismatches += worst <= 1 ? 0 : 1;
  }
}
console.log(`${judged} judged, ${mismatches} wrong`);
process.exit(judged ? Math.min(mismatches, 1) : 4);
