//! Instructions per operation of what runs for every message, counted by valgrind's callgrind:
//! a count does not depend on how busy the machine is.
//!
//! `cargo bench --bench cost` in `benches/` counts and prints; with `-- --check` it fails where a
//! count is more than 5 % above `cost.txt`, with `-- --bless` it writes that file. The counts
//! belong to one compiler: `--check` under another one only prints.
//!
//! The program runs itself under callgrind, with `NAME ROUNDS`, twice per operation; the difference
//! between the two is free of the setting-up.

mod callgrind;
mod work;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use work::{WORKLOADS, Workload};

/// A count may be this many percent above the recorded one.
const TOLERANCE: f64 = 5.0;
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cost.txt");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => count(&Mode::Print),
        ["--check"] => count(&Mode::Check),
        ["--bless"] => count(&Mode::Bless),
        [name, rounds] => {
            let rounds = rounds.parse().expect("a number of rounds");
            let work = WORKLOADS.iter().find(|work| work.name == name).expect("a workload");
            let mut round = (work.begin)();
            (0..rounds).for_each(|_| round());
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("cost: expected nothing, --check, --bless, or a name and a number of rounds");
            ExitCode::FAILURE
        }
    }
}

#[derive(PartialEq)]
enum Mode {
    Print,
    Check,
    Bless,
}

fn count(mode: &Mode) -> ExitCode {
    let compiler = compiler();
    let (recorded_by, recorded) = read_record();
    let comparable = recorded_by == compiler;
    if !comparable && *mode != Mode::Bless {
        println!("recorded with {recorded_by}, this is {compiler}: differences mean little");
    }
    let (mut text, mut worse) = (format!("{compiler}\n"), 0);
    for work in &WORKLOADS {
        let Workload { name, what, .. } = work;
        let each = instructions(work);
        let _ = writeln!(text, "{name} {each:.0}");
        let change = recorded.get(*name).map(|before| 100.0 * (each - before) / before);
        let shown = change.map_or("new".to_owned(), |change| format!("{change:+.1} %"));
        println!("{name:12} {each:7.0} instructions  {shown:>8}   {what}");
        worse += usize::from(change.is_some_and(|change| change > TOLERANCE));
    }
    if *mode == Mode::Bless {
        std::fs::write(RECORD, text).expect("the record can be written");
    }
    if *mode == Mode::Check && comparable && worse > 0 {
        eprintln!(
            "cost: {worse} of these cost over {TOLERANCE} % more than recorded; mend it, or record \
             the new counts with --bless and say why"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output().expect("rustc tells its version");
    String::from_utf8_lossy(&version.stdout).trim().to_owned()
}

fn read_record() -> (String, BTreeMap<String, f64>) {
    let text = std::fs::read_to_string(RECORD).unwrap_or_default();
    let (compiler, rows) = text.split_once('\n').unwrap_or_default();
    let rows = rows.lines().filter_map(|row| row.split_once(' '));
    let counts = rows.map(|(name, count)| (name.to_owned(), count.parse().expect("a count")));
    (compiler.to_owned(), counts.collect())
}

/// Instructions per operation of a workload.
fn instructions(work: &Workload) -> f64 {
    const ROUNDS: usize = 40;
    let (few, many) = (collected(work.name, ROUNDS), collected(work.name, 2 * ROUNDS));
    (many - few) / (ROUNDS * work.operations) as f64
}

/// Instructions of a whole run under callgrind.
fn collected(name: &str, rounds: usize) -> f64 {
    let said = callgrind::run(&[name, &rounds.to_string()], Path::new("/dev/null"));
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = line.unwrap_or_else(|| panic!("callgrind gave no count:\n{said}"));
    number.trim().parse().expect("a number")
}
