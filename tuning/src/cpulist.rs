//! The kernel's way of writing sets of CPUs: `0,2-5`.

use std::fmt;

/// Largest CPU number that Linux can be built for.
pub const LARGEST_CPU: usize = 8191;

/// A text that is no list of CPUs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListError {
    /// The part of the list that can't be read.
    pub part: String,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is neither a CPU nor a range of CPUs", self.part)
    }
}

impl std::error::Error for ListError {}

/// Reads a list such as `0,2-5`. The empty text is the empty list; the order is kept, and a CPU
/// named twice comes twice.
///
/// # Errors
/// Names the first part that is neither a CPU nor an ascending range.
pub fn parse(text: &str) -> Result<Vec<usize>, ListError> {
    let text = text.trim();
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (cpu(first), cpu(last)) {
            (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
            _ => return Err(ListError { part: part.into() }),
        }
    }
    Ok(cpus)
}

fn cpu(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|cpu| *cpu <= LARGEST_CPU)
}

/// Writes a list in the same way; neighbours that ascend become a range.
pub fn show(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|left, right| left + 1 == *right);
    let texts = runs.map(|run| match run {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    texts.collect::<Vec<_>>().join(",")
}
