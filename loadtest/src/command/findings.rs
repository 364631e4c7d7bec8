//! What the runs of one command amount to: requirements, the files asked for, the exit code.

use super::{Done, Result};
use crate::args::OutputArgs;
use crate::comparison::Row;
use crate::outcome::Outcome;
use crate::{export, html};

/// Outcomes gathered by one command.
pub struct Findings<'a> {
    output: &'a OutputArgs,
    outcomes: Vec<Outcome>,
    done: Done,
}

impl<'a> Findings<'a> {
    /// None yet.
    pub fn new(output: &'a OutputArgs) -> Findings<'a> {
        Findings { output, outcomes: Vec::new(), done: Done::Passed }
    }

    /// Takes one outcome in and says at once which requirement it does not hold.
    pub fn take(&mut self, outcome: Outcome) {
        self.note(Done::of(&outcome));
        self.demand(&outcome);
        self.outcomes.push(outcome);
    }

    /// The same for one of several brokers side by side: that the generator was the bottleneck is
    /// told in the table and fails nothing, unless something is required.
    pub fn take_side(&mut self, outcome: Outcome) {
        let done = Done::of(&outcome);
        if done != Done::NoVerdict || !self.output.require.is_empty() {
            self.note(done);
        }
        self.demand(&outcome);
        self.outcomes.push(outcome);
    }

    /// Something ended like this.
    pub fn note(&mut self, done: Done) {
        self.done = self.done.max(done);
    }

    fn demand(&mut self, outcome: &Outcome) {
        for requirement in &self.output.require {
            if let Some(fault) = requirement.fault(outcome) {
                eprintln!("{} {} {fault}", outcome.scenario.name, outcome.versions.broker);
                self.note(Done::Failed);
            }
        }
    }

    /// Writes what was asked for.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(self, rows: &[Row]) -> Result<Done> {
        if let Some(directory) = &self.output.csv {
            export::csv(directory, &self.outcomes)
                .map_err(|error| format!("--csv {}: {error}", directory.display()))?;
        }
        if let Some(file) = &self.output.html {
            std::fs::write(file, html::page(&self.outcomes, rows))
                .map_err(|error| format!("--html {}: {error}", file.display()))?;
        }
        Ok(self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::find;

    #[test]
    fn a_requirement_that_does_not_hold_outweighs_a_busy_generator() {
        let output =
            OutputArgs { require: vec!["rate>=1".parse().expect("valid")], ..Default::default() };
        let mut outcome = Outcome::new(find("S1").expect("shipped"));
        outcome.generator.bottleneck = true;
        let mut findings = Findings::new(&output);
        findings.take(outcome);
        assert_eq!(findings.finish(&[]).expect("nothing to write").exit_code(), 1);
    }
}
