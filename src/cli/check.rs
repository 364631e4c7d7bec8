//! `corelane check`: is the file right, and what does it mean?

use super::args::CheckArgs;
use super::refusal::Refusal;
use super::{effective, print};
use crate::config::explain;

/// Prints what the configuration means.
///
/// # Errors
/// The file can't be read or has faults.
pub fn run(args: &CheckArgs) -> Result<(), Refusal> {
    let config = effective::file(args.config.as_deref())?;
    effective::provisions(&config, args.config.as_deref())?;
    let title = match &args.config {
        Some(path) => format!("{} is valid", path.display()),
        None => "No file given; these are the defaults".into(),
    };
    print(&format!("{title}\n\n{}", explain(&config)))
}
