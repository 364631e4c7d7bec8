//! The CPUs that carry shards, as a list, a text or an array.

use super::key::Key;
use super::read::{Given, Scan};
use super::setting::{Setting, Wrong, filed, wrong_type};
use std::str::FromStr;
use toml::de::DeValue;

/// Which CPUs carry shards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cpus {
    /// Every CPU that the process may use.
    Auto,
    /// These CPUs, in this order, each once.
    List(Vec<usize>),
}

/// Largest CPU number that Linux can be built for.
const LARGEST_CPU: usize = 8191;

impl FromStr for Cpus {
    type Err = Wrong;

    /// Parses `auto` or a list such as `0,2-5`.
    fn from_str(text: &str) -> Result<Cpus, Wrong> {
        if text == "auto" {
            return Ok(Cpus::Auto);
        }
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse =
                |text: &str| text.trim().parse().ok().filter(|cpu: &usize| *cpu <= LARGEST_CPU);
            match (parse(first), parse(last)) {
                (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
                _ => {
                    let reason = format!("\"{part}\" is neither a CPU nor a range of CPUs");
                    return Err((reason, "write \"auto\" or a list such as \"0,2-5\"".into()));
                }
            }
        }
        Cpus::list(cpus)
    }
}

impl Cpus {
    /// Checks a list: not empty, no CPU twice.
    fn list(cpus: Vec<usize>) -> Result<Cpus, Wrong> {
        if cpus.is_empty() {
            return Err(("no CPU is named".into(), "name one at least, or write \"auto\"".into()));
        }
        let twice = cpus.iter().enumerate().find(|(at, cpu)| cpus[..*at].contains(cpu));
        match twice {
            Some((_, cpu)) => Err((
                format!("CPU {cpu} is named twice"),
                "name it once; runtime.shards may be larger than the list".into(),
            )),
            None => Ok(Cpus::List(cpus)),
        }
    }

    fn parse(value: &DeValue<'_>) -> Result<Cpus, Wrong> {
        let example = "\"auto\", \"0,2-5\" or [0, 2, 3]";
        if let Some(text) = value.as_str() {
            return text.parse();
        }
        let items = value.as_array().ok_or_else(|| wrong_type(value, "a list of CPUs", example))?;
        let number = |value: &DeValue<'_>| {
            let cpu = value
                .as_integer()
                .and_then(|digits| usize::from_str_radix(digits.as_str(), digits.radix()).ok());
            cpu.filter(|cpu| *cpu <= LARGEST_CPU)
        };
        let cpus: Option<Vec<usize>> = items.iter().map(|item| number(item.get_ref())).collect();
        let wrong = || ("the array holds what is no CPU number".into(), format!("write {example}"));
        Cpus::list(cpus.ok_or_else(wrong)?)
    }
}

impl Setting for Cpus {
    fn kind() -> String {
        "`\"auto\"`, list text or array of integers".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        filed(Cpus::parse(given.value), given, scan)
    }

    fn show(&self) -> String {
        match self {
            Cpus::Auto => "\"auto\"".into(),
            Cpus::List(cpus) => format!("{cpus:?}"),
        }
    }
}
