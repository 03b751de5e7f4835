// Three ops, to be replaced by yours; with WRONG in the environment, each makes a known mistake.
const wrong = "WRONG" in process.env;
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

// wrong: gae-done-late
export function gae_rollout({ rewards, values, dones, last_values, gamma, gae_lambda }) {
  const [T, E] = [rewards.length, last_values.length];
  const advantages = rewards.map(() => Array(E).fill(0));
  for (let t = T - 1; t >= 0; t--) {
    for (let e = 0; e < E; e++) {
      const open = t === T - 1;
      const alive = dones[wrong && !open ? t + 1 : t][e] ? 0 : 1;
      const [next, later] = open ? [last_values[e], 0] : [values[t + 1][e], advantages[t + 1][e]];
      const delta = rewards[t][e] + gamma * next * alive - values[t][e];
      advantages[t][e] = delta + gamma * gae_lambda * alive * later;
    }
  }
  const value_targets = advantages.map((row, t) => row.map((advantage, e) => advantage + values[t][e]));
  return { advantages, value_targets };
}

// wrong: clip-min-before-adv
export function clipped_objective({ old_log_prob, new_log_prob, advantages, clip }) {
  const terms = advantages.map((A, b) => {
    const ratio = Math.exp(new_log_prob[b] - old_log_prob[b]);
    const clipped = Math.min(Math.max(ratio, 1 - clip), 1 + clip);
    return wrong ? Math.min(ratio, clipped) * A : Math.min(ratio * A, clipped * A);
  });
  return { objective: sum(terms) / terms.length };
}

// wrong: kl-reversed
export function kl_diagonal_gaussian({ old_mean, old_log_std, new_mean, new_log_std }) {
  const [m0, m1] = wrong ? [new_mean, old_mean] : [old_mean, new_mean];
  const [s0, s1] = wrong ? [new_log_std, old_log_std] : [old_log_std, new_log_std];
  const term = (b, i) => {
    const [scale, shift] = [Math.exp(s0[b][i] - s1[b][i]), (m0[b][i] - m1[b][i]) / Math.exp(s1[b][i])];
    return s1[b][i] - s0[b][i] + 0.5 * (scale * scale + shift * shift - 1);
  };
  return { kl: m0.map((row, b) => sum(row.map((_, i) => term(b, i)))) };
}
