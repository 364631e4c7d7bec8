//! The `corelane` command: what was typed, what is meant, and one file for each subcommand.
//!
//! Invariants worth naming:
//! * [`args`] holds what was typed and decides nothing; [`effective`] turns it into a checked
//!   [`Config`](crate::config::Config);
//! * every refusal names what is wrong and what mends it, and ends with exit code 78,
//!   or 70 where the broker was already running.

mod acl;
pub mod args;
mod check;
mod effective;
mod load;
mod log;
mod passwd;
mod refusal;
mod serve;
mod topology;
mod tune;

pub use log::timestamp;

use args::{AclCommand, Args, Command};
use clap::Parser;
use refusal::Refusal;
use std::io::Write;
use std::process::ExitCode;

/// Exit code of a refused configuration or start (EX_CONFIG of sysexits.h), so that a supervisor
/// does not restart in vain.
pub const EXIT_CONFIG: u8 = 78;

/// Exit code of `corelane tune` where the host falls short of what the broker needs, and of
/// `corelane acl explain` where the client may not.
pub const EXIT_WANTING: u8 = 1;

/// Exit code of a broker that failed while it was running (EX_SOFTWARE): a restart may help.
pub const EXIT_SOFTWARE: u8 = 70;

/// Runs the command that the process was started with. Errors of usage end the process with
/// clap's exit code 2.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        None => serve::run(&args.serve).map(|()| true),
        Some(Command::Serve(serve)) => serve::run(serve).map(|()| true),
        Some(Command::Check(check)) => check::run(check).map(|()| true),
        Some(Command::Topology(topology)) => topology::run(topology).map(|()| true),
        Some(Command::Tune(tune)) => tune::run(tune),
        Some(Command::Passwd(passwd)) => passwd::run(passwd).map(|()| true),
        Some(Command::Acl(AclCommand::Explain(explain))) => acl::run(explain),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_WANTING),
        Err(refusal) => {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "corelane: {refusal}");
            ExitCode::from(if refusal.while_running { EXIT_SOFTWARE } else { EXIT_CONFIG })
        }
    }
}

/// Writes `text` to standard output. A reader that went away (`corelane check | head`) is no
/// error.
fn print(text: &str) -> Result<(), Refusal> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Refusal::new(
            format!("standard output can't be written: {error}"),
            "give it a place to write to",
        )),
        _ => Ok(()),
    }
}
