// Three ops, to be replaced by yours; with WRONG in the environment, each makes a known mistake.
use std::{collections::HashMap, env};

type Arrays<'a> = HashMap<&'a str, Vec<f64>>;

pub fn answer(op: &str, input: &Arrays) -> Arrays<'static> {
    let wrong = env::var_os("WRONG").is_some();
    match op {
        "gae_rollout" => gae_rollout(input, wrong),
        "clipped_objective" => clipped_objective(input, wrong),
        "kl_diagonal_gaussian" => kl_diagonal_gaussian(input, wrong),
        _ => panic!("there is no {}", op),
    }
}

// wrong: gae-done-late
fn gae_rollout(x: &Arrays, wrong: bool) -> Arrays<'static> {
    let (rewards, values, dones, last) = (&x["rewards"], &x["values"], &x["dones"], &x["last_values"]);
    let (gamma, lambda, n, e) = (x["gamma"][0], x["gae_lambda"][0], rewards.len(), last.len());
    let (mut advantages, mut targets) = (vec![0.0; n], vec![0.0; n]);
    // from the last row up; i + e is the next time step of the same environment
    for i in (0..n).rev() {
        let open = i + e >= n;
        let alive = 1.0 - dones[if wrong && !open { i + e } else { i }];
        let (next, later) = if open { (last[i + e - n], 0.0) } else { (values[i + e], advantages[i + e]) };
        advantages[i] = rewards[i] + gamma * next * alive - values[i] + gamma * lambda * alive * later;
        targets[i] = advantages[i] + values[i];
    }
    HashMap::from([("advantages", advantages), ("value_targets", targets)])
}

// wrong: clip-min-before-adv
fn clipped_objective(x: &Arrays, wrong: bool) -> Arrays<'static> {
    let (old, new, a, clip) = (&x["old_log_prob"], &x["new_log_prob"], &x["advantages"], x["clip"][0]);
    let term = |b: usize| {
        let r = (new[b] - old[b]).exp();
        let c = r.clamp(1.0 - clip, 1.0 + clip);
        if wrong { r.min(c) * a[b] } else { (r * a[b]).min(c * a[b]) }
    };
    HashMap::from([("objective", vec![(0..a.len()).map(term).sum::<f64>() / a.len() as f64])])
}

// wrong: kl-reversed
fn kl_diagonal_gaussian(x: &Arrays, wrong: bool) -> Arrays<'static> {
    let (old, new) = ((&x["old_mean"], &x["old_log_std"]), (&x["new_mean"], &x["new_log_std"]));
    let ((m0, s0), (m1, s1)) = if wrong { (new, old) } else { (old, new) };
    let term = |i: usize| {
        let (scale, shift) = ((s0[i] - s1[i]).exp(), (m0[i] - m1[i]) / s1[i].exp());
        s1[i] - s0[i] + 0.5 * (scale * scale + shift * shift - 1.0)
    };
    let (b, a) = (x["B"][0] as usize, x["A"][0] as usize);
    HashMap::from([("kl", (0..b).map(|row| (row * a..(row + 1) * a).map(term).sum()).collect())])
}
