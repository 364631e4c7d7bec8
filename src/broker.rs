//! Starting and stopping a broker from code.

use crate::config::Config;
use std::fmt;
use tuning::placement::ShardPlace;

/// Why the broker could not start, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartError {
    /// What went wrong.
    pub message: String,
    /// What mends it.
    pub remedy: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for StartError {}

/// Runs a broker with one shard for each of `places` until it is told to stop.
///
/// # Errors
/// The host refuses something that the broker needs.
pub fn serve(config: &Config, places: &[ShardPlace]) -> Result<(), StartError> {
    let _ = (config, places);
    Err(StartError { message: "not wired yet".into(), remedy: "wait for the shell".into() })
}
