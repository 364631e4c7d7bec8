//! `corelane topology`: the host and the shards on it, as a picture.

use super::args::TopologyArgs;
use super::refusal::Refusal;
use super::{effective, print};
use tuning::picture;

/// Prints the picture.
///
/// # Errors
/// The configuration has faults, or the host has no such CPUs.
pub fn run(args: &TopologyArgs) -> Result<(), Refusal> {
    let config = effective::topology(args.config.as_deref(), &args.cores)?;
    let (topology, plan) = effective::place(&config)?;
    print(&picture::draw(&topology, &plan))
}
