// rustc -O consumer.rs && ./consumer < EXPORT/2026.1/OP.txt      (reads the text form)
mod mine;
use std::{collections::HashMap, io, process::exit};

fn main() {
    let text = io::read_to_string(io::stdin()).expect("text");
    let (mut missing, mut judged, mut wrong) = (0, 0, 0);
    let (mut unit, mut floor, mut largest) = (0.0, 0.0, 0.0);
    let (mut op, mut stability, mut conforms) = ("", false, true);
    let (mut input, mut answers, mut value) = (HashMap::new(), None, vec![]);
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &&str| word.parse::<f64>().expect("a number");
        let entries = || words[5..].iter().map(number).collect::<Vec<f64>>();
        match words[0] {
            "refpg-vectors" => (op, missing) = (words[3], missing + number(&words[4]) as i32),
            "tolerance" if words[1] == "float64" => {
                (unit, floor) = (number(&words[2]) * number(&words[3]), number(&words[4]))
            }
            "case" => (stability, conforms) = (words[3] == "1", true),
            "dim" | "input" => drop(input.insert(words[1], entries())),
            "answer" if words[1] == "0" && !stability => answers = Some(mine::answer(op, &input)),
            "answer" => answers = None,
            "value" => value = entries(),
            "largest" => largest = entries()[0],
            "R" => for (i, r) in entries().iter().enumerate() {
                let Some(answers) = &answers else { continue };
                let half_ulp = (f64::from_bits(value[i].abs().to_bits() + 1) - value[i].abs()) / 2.0;
                let tolerance = unit * r.max(floor * largest) + half_ulp;
                conforms &= (answers[words[1]][i] - value[i]).abs() <= tolerance;
            },
            "end" => {
                let verdict = if stability { "NOT ASKED" } else if conforms { "CONFORMS" } else { "WRONG" };
                println!("{verdict:10} {}", words[1]);
                missing -= 1;
                judged += !stability as i32;
                wrong += !conforms as i32;
            }
            _ => {}
        }
    }
    println!("{judged} judged, {wrong} wrong, {missing} missing");
    exit(if missing != 0 || judged == 0 { 4 } else { (wrong > 0) as i32 })
}
