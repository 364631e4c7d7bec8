//! What is wrong with a configuration, in words that tell how to mend it.

use std::fmt;

/// One fault of a configuration text. Pure value, any core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Line in the text, counted from 1; `None` where no line holds the fault (a value typed on
    /// the command line, a default).
    pub line: Option<usize>,
    /// Path of the key, such as `session.max_inflight`; empty for faults of TOML's own syntax.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl std::error::Error for Fault {}
