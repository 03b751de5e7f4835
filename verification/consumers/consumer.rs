// rustc -O consumer.rs && ./consumer EXPORT/2026.1 right|wrong      (reads the text form)
use std::{collections::HashMap, env, fs, process::exit};

type Arrays<'a> = HashMap<&'a str, Vec<f64>>;

// The implementation; if `wrong`, with a known mistake in each function.

fn gae_rollout(x: &Arrays, wrong: bool) -> Arrays<'static> { // gae-done-late
    let (rewards, values, dones, last) = (&x["rewards"], &x["values"], &x["dones"], &x["last_values"]);
    let (gamma, lambda, n, e) = (x["gamma"][0], x["gae_lambda"][0], rewards.len(), last.len());
    let (mut advantages, mut targets) = (vec![0.0; n], vec![0.0; n]);
    for i in (0..n).rev() { // from the last row up; i + e is the next time step of the same environment
        let open = i + e >= n;
        let alive = 1.0 - dones[if wrong && !open { i + e } else { i }];
        let (next, later) = if open { (last[i + e - n], 0.0) } else { (values[i + e], advantages[i + e]) };
        advantages[i] = rewards[i] + gamma * next * alive - values[i] + gamma * lambda * alive * later;
        targets[i] = advantages[i] + values[i];
    }
    HashMap::from([("advantages", advantages), ("value_targets", targets)])
}

fn clipped_objective(x: &Arrays, wrong: bool) -> Arrays<'static> { // clip-min-before-adv
    let (old, new, a, clip) = (&x["old_log_prob"], &x["new_log_prob"], &x["advantages"], x["clip"][0]);
    let term = |b: usize| {
        let r = (new[b] - old[b]).exp();
        let c = r.clamp(1.0 - clip, 1.0 + clip);
        if wrong { r.min(c) * a[b] } else { (r * a[b]).min(c * a[b]) }
    };
    HashMap::from([("objective", vec![(0..a.len()).map(term).sum::<f64>() / a.len() as f64])])
}

fn kl_diagonal_gaussian(x: &Arrays, wrong: bool) -> Arrays<'static> { // kl-reversed
    let (old, new) = ((&x["old_mean"], &x["old_log_std"]), (&x["new_mean"], &x["new_log_std"]));
    let ((m0, s0), (m1, s1)) = if wrong { (new, old) } else { (old, new) };
    let term = |i: usize| {
        let (scale, shift) = ((s0[i] - s1[i]).exp(), (m0[i] - m1[i]) / s1[i].exp());
        s1[i] - s0[i] + 0.5 * (scale * scale + shift * shift - 1.0)
    };
    let (b, a) = (x["B"][0] as usize, x["A"][0] as usize);
    HashMap::from([("kl", (0..b).map(|row| (row * a..(row + 1) * a).map(term).sum()).collect())])
}

// The judge.

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let [_, folder, choice] = &arguments[..] else { exit(2) };
    let implementation: [(&str, fn(&Arrays, bool) -> Arrays<'static>); 3] = [
        ("gae_rollout", gae_rollout),
        ("clipped_objective", clipped_objective),
        ("kl_diagonal_gaussian", kl_diagonal_gaussian),
    ];
    let number = |word: &str| word.parse::<f64>().expect("a number");
    let (mut judged, mut mismatches) = (0, 0);
    for (op, function) in implementation {
        let Ok(text) = fs::read_to_string(format!("{folder}/{op}.txt")) else {
            eprintln!("cannot read the vectors of {op}");
            exit(2)
        };
        let (mut factor, mut floor, mut u, mut id, mut stability) = (0.0, 0.0, 0.0, "", false);
        let mut table: HashMap<&str, Arrays> = HashMap::new(); // keyword → name → entries
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "tolerance" => (factor, floor) = (number(words[1]), number(words[2])),
                "roundoff" if words[1] == "float64" => u = number(words[2]),
                "case" => { (id, stability) = (words[1], words[3] == "1"); table.clear() }
                "dim" | "input" | "value" | "R" | "largest" => {
                    let entries = words[4 + number(words[3]) as usize..].iter().map(|word| number(word)).collect();
                    let keyword = if words[0] == "dim" { "input" } else { words[0] };
                    table.entry(keyword).or_default().entry(words[1]).or_insert(entries); // the first stays
                }
                "end" if stability => println!("NOT ASKED  {id}"),
                "end" => {
                    let answers = function(&table["input"], choice == "wrong");
                    let mut worst = 0.0f64;
                    for (leaf, value) in &table["value"] {
                        for (i, y) in value.iter().enumerate() {
                            let r = table["R"][leaf][i].max(floor * table["largest"][leaf][0]);
                            let half_ulp = 0.5 * (f64::from_bits(y.abs().to_bits() + 1) - y.abs());
                            let error = (answers[leaf][i] - y).abs() / (factor * u * r + half_ulp);
                            worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
                        }
                    }
                    println!("{}  {id}  {worst:.2e} x tolerance", if worst <= 1.0 { "CONFORMS " } else { "WRONG    " });
                    judged += 1;
                    mismatches += (worst > 1.0) as i32;
                }
                _ => {}
            }
        }
    }
    println!("{judged} judged, {mismatches} wrong");
    exit(if judged == 0 { 4 } else { (mismatches > 0) as i32 })
}
