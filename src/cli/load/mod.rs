//! `corelane topology --load`: which subtree makes which core of a running broker hot, and what
//! would level it.

mod advice;
mod read;

use super::print;
use super::refusal::Refusal;
use crate::shard::Placement;
use advice::Verdict;
use std::fmt::Write as _;

/// What one core tells of the topics that it owns. Weights are messages that were looked at, and
/// one more for each other core that one went to.
#[derive(Clone, Default, PartialEq, Debug)]
struct CoreLoad {
    /// All that was looked at.
    sampled: u64,
    /// Shares of the heaviest subtrees, as the owner is decided by them.
    subtrees: Vec<(String, f64)>,
    /// The same with one topic level more.
    deeper: Vec<(String, f64)>,
}

/// Asks the broker at `address` and prints what it tells. `rules` makes the placement of so many
/// cores from the configuration that the broker runs with.
///
/// # Errors
/// The broker can't be reached, refuses, or tells nothing.
pub fn run(address: &str, rules: impl Fn(usize) -> Placement) -> Result<(), Refusal> {
    let loads = read::read(address)?;
    print(&table(&loads))?;
    print(&verdict(&advice::advise(&loads, &rules(loads.len()))))
}

/// One line per core.
fn table(loads: &[CoreLoad]) -> String {
    let whole: u64 = loads.iter().map(|load| load.sampled).sum();
    let mean = whole as f64 / loads.len().max(1) as f64;
    let mut out = String::from("core  x mean  heaviest subtrees that it owns, of all load\n");
    for (core, load) in loads.iter().enumerate() {
        let share = load.sampled as f64 / whole.max(1) as f64;
        let subtrees = load.subtrees.iter().take(3);
        let subtrees: Vec<String> = subtrees
            .map(|(prefix, part)| format!("{prefix} {:.0} %", 100.0 * part * share))
            .collect();
        let times = load.sampled as f64 / mean.max(1.0);
        let _ = writeln!(out, "{core:4}  {times:6.2}  {}", subtrees.join(", "));
    }
    out
}

/// The advice in words, and the lines for the configuration.
fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::OneCore => "\none core: there is nothing to level\n".into(),
        Verdict::TooFew { sampled } => format!(
            "\ntoo few messages to judge ({sampled} looked at, {} per core needed): ask again \
             under load\n",
            advice::FEW
        ),
        Verdict::Balanced { now } => {
            format!("\nbalanced: the fullest core has {now:.2} times the mean; nothing to change\n")
        }
        Verdict::Nothing { now, heaviest } => {
            let mut out = format!("\nthe fullest core has {now:.2} times the mean, and no rule ");
            let _ = writeln!(out, "about owners would make that less");
            if let Some(prefix) = heaviest {
                let _ = writeln!(
                    out,
                    "`{prefix}` alone is more than a core's share; where its subscribers are on \
                     many cores, their part can be done by the publishers' cores:\n\n\
                     [[topics.route]]\nprefix = {}\nmode = \"publisher\"",
                    advice::quoted(prefix)
                );
            }
            out
        }
        Verdict::Change { now, mean, worst, what, lines } => format!(
            "\nthe fullest core has {now:.2} times the mean; {what} makes that {mean:.2} on \
             average of {} other starts and {worst:.2} at worst. In the configuration, instead of \
             the keys of these names, then restart:\n\n{lines}",
            advice::STARTS
        ),
    }
}
