//! Load generator for MQTT brokers; see [`corelane_loadtest::args`] for what it can do.
//!
//! The exit code is zero only when nothing was lost and the broker stayed: 1 is a failed run, 2 a
//! run that the generator itself may have held back, 3 a mistake in the request.

use clap::Parser;
use corelane_loadtest::args::CommandLine;
use corelane_loadtest::{command, process};
use std::process::ExitCode;

fn main() -> ExitCode {
    process::raise_descriptors();
    match command::perform(&CommandLine::parse().command) {
        Ok(done) => ExitCode::from(done.exit_code()),
        Err(error) => {
            eprintln!("corelane-loadtest: {error}");
            ExitCode::from(3)
        }
    }
}
