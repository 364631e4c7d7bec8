//! CPUs and shards as a list, a text or an array.

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
    /// Those of these NUMA nodes that the process may use, node by node.
    Numa(Vec<usize>),
    /// These CPUs, in this order, each once.
    List(Vec<usize>),
}

/// Largest CPU number that Linux can be built for.
const LARGEST_CPU: usize = 8191;

/// Reads a list such as `0,2-5`.
fn numbers(text: &str) -> Result<Vec<usize>, Wrong> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parse = |text: &str| text.trim().parse().ok().filter(|cpu: &usize| *cpu <= LARGEST_CPU);
        match (parse(first), parse(last)) {
            (Some(first), Some(last)) if first <= last => numbers.extend(first..=last),
            _ => {
                let reason = format!("\"{part}\" is neither a CPU nor a range of CPUs");
                let remedy = "write \"auto\", \"numa:0\" or a list such as \"0,2-5\"";
                return Err((reason, remedy.into()));
            }
        }
    }
    Ok(numbers)
}

/// Reads an array of numbers.
fn array(value: &DeValue<'_>, what: &str, example: &str) -> Result<Vec<usize>, Wrong> {
    let items = value.as_array().ok_or_else(|| wrong_type(value, what, example))?;
    let number = |value: &DeValue<'_>| {
        let number = value
            .as_integer()
            .and_then(|digits| usize::from_str_radix(digits.as_str(), digits.radix()).ok());
        number.filter(|number| *number <= LARGEST_CPU)
    };
    let numbers: Option<Vec<usize>> = items.iter().map(|item| number(item.get_ref())).collect();
    let wrong = || ("the array holds what is no CPU number".into(), format!("write {example}"));
    numbers.ok_or_else(wrong)
}

/// The first number that comes twice.
fn twice(numbers: &[usize]) -> Option<usize> {
    let twice = numbers.iter().enumerate().find(|(at, number)| numbers[..*at].contains(number));
    twice.map(|(_, number)| *number)
}

impl FromStr for Cpus {
    type Err = Wrong;

    /// Parses `auto`, `numa:0` or a list such as `0,2-5`.
    fn from_str(text: &str) -> Result<Cpus, Wrong> {
        if text == "auto" {
            return Ok(Cpus::Auto);
        }
        let Some(nodes) = text.strip_prefix("numa:") else { return Cpus::list(numbers(text)?) };
        let wrong = || {
            let reason = format!("\"{nodes}\" names no NUMA nodes");
            (reason, "write \"numa:0\" or \"numa:0,1\"".to_owned())
        };
        let nodes = numbers(nodes).map_err(|_| wrong())?;
        if twice(&nodes).is_some() { Err(wrong()) } else { Ok(Cpus::Numa(nodes)) }
    }
}

impl Cpus {
    /// Checks a list: not empty, no CPU twice.
    fn list(cpus: Vec<usize>) -> Result<Cpus, Wrong> {
        if cpus.is_empty() {
            return Err(("no CPU is named".into(), "name one at least, or write \"auto\"".into()));
        }
        match twice(&cpus) {
            Some(cpu) => Err((
                format!("CPU {cpu} is named twice"),
                "name it once; runtime.shards may be larger than the list".into(),
            )),
            None => Ok(Cpus::List(cpus)),
        }
    }

    fn parse(value: &DeValue<'_>) -> Result<Cpus, Wrong> {
        match value.as_str() {
            Some(text) => text.parse(),
            None => {
                let example = "\"auto\", \"numa:0\", \"0,2-5\" or [0, 2, 3]";
                Cpus::list(array(value, "a list of CPUs", example)?)
            }
        }
    }
}

impl Setting for Cpus {
    fn kind() -> String {
        "`\"auto\"`, `\"numa:0\"`, list text or array of integers".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        filed(Cpus::parse(given.value), given, scan)
    }

    fn show(&self) -> String {
        match self {
            Cpus::Auto => "\"auto\"".into(),
            Cpus::Numa(nodes) => format!("\"numa:{}\"", listed(nodes)),
            Cpus::List(cpus) => format!("{cpus:?}"),
        }
    }
}

/// The numbers with commas between them.
fn listed(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Numbers of CPUs or shards, each once; may be empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Numbers(Vec<usize>);

impl Numbers {
    /// The numbers in the order in which they were written.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    fn parse(value: &DeValue<'_>) -> Result<Numbers, Wrong> {
        let example = "\"0,2-5\", [0, 2, 3] or []";
        let list = match value.as_str() {
            Some("") => Vec::new(),
            Some(text) => {
                numbers(text).map_err(|(reason, _)| (reason, format!("write {example}")))?
            }
            None => array(value, "a list of numbers", example)?,
        };
        match twice(&list) {
            Some(number) => Err((format!("{number} is named twice"), "name it once".into())),
            None => Ok(Numbers(list)),
        }
    }
}

impl Setting for Numbers {
    fn kind() -> String {
        "list text or array of integers".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        filed(Numbers::parse(given.value), given, scan)
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}
