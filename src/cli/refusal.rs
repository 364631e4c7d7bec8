//! Why a command ends without having done its work.

use crate::auth::ReadError;
use crate::broker::StartError;
use crate::config::Fault;
use std::fmt;

/// What is wrong and what mends it, ready to be printed.
#[derive(Debug)]
pub struct Refusal {
    text: String,
    /// The broker had started; a supervisor may start it again.
    pub while_running: bool,
}

impl Refusal {
    /// A refusal for one reason.
    pub fn new(message: impl fmt::Display, remedy: impl fmt::Display) -> Refusal {
        Refusal { text: format!("{message}; {remedy}"), while_running: false }
    }

    /// A refusal of a configuration from `source` for all of its faults.
    pub fn faulty(source: &str, faults: &[Fault]) -> Refusal {
        Refusal::listed(source, faults)
    }

    /// A refusal of what `source` holds for all of its faults.
    pub fn listed(source: &str, faults: &[impl fmt::Display]) -> Refusal {
        let count = match faults.len() {
            1 => "one fault".into(),
            count => format!("{count} faults"),
        };
        let lines: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
        Refusal { text: format!("{source} has {count}{}", lines.concat()), while_running: false }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Refusal {
        Refusal::listed(&error.file.display().to_string(), &error.faults)
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Refusal {
        let while_running = error.while_running;
        Refusal { while_running, ..Refusal::new(error.message, error.remedy) }
    }
}
