//! Load generator for MQTT brokers.
//!
//! Four modes: `run` drives one shape against a running broker, `compare` starts brokers and
//! drives them in turn, `idle` weighs connections that do nothing, `soak` looks for growth.
//! The exit code is zero only when nothing was lost and the broker stayed.

mod args;
mod broker;
mod client;
mod compare;
mod dial;
mod engine;
mod idle;
mod measure;
mod report;
mod shape;
mod soak;
mod truth;
mod wire;

use args::{Action, CommandLine, RunArgs};
use clap::Parser;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    broker::raise_descriptors();
    let result = match CommandLine::parse().command {
        Action::Run(args) => run(&args),
        Action::Compare(args) => compare::compare(&args),
        Action::Idle(args) => idle::idle(&args),
        Action::Soak(args) => soak::soak(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("corelane-loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One shape against a running broker; tells whether it passed.
fn run(args: &RunArgs) -> io::Result<bool> {
    if let Some(cpu) = args.load_cpu {
        broker::pin(cpu)?;
    }
    let account = args.target.pid.map(broker::Cpu::new);
    let shape = args.shape.shape();
    let engine =
        engine::Engine::connect(&shape, args.target.address, args.limits.limits(), account)?;
    let outcome = engine.run();
    if args.json {
        println!("{}", report::outcome_json(&outcome));
    } else {
        println!("{}", report::outcome_text(&outcome));
    }
    Ok(outcome.passed())
}
