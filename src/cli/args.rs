//! What can be typed after `corelane`.

use crate::config::{Choice, LogLevel};
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  corelane                                  serve 127.0.0.1:1883 on every CPU
  corelane --config corelane.toml           serve what the file says
  corelane --listen 0.0.0.0:1883 --allow-anonymous
                                            let other hosts in, without credentials
  corelane --cpus 0,2-5 --shards 4          choose CPUs and the number of shards
  corelane check --config corelane.toml     name every fault, or say what the file means
  corelane topology                         draw the host and where shards would run

Exit codes: 0 done, 2 wrong usage, 78 the configuration or the host does not allow a start.";

/// An MQTT 3.1, 3.1.1 and 5.0 broker: one thread per core, nothing shared between cores.
#[derive(Parser, Debug)]
#[command(name = "corelane", version, about, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do; `serve` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `serve`.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve clients until told to stop (the default)
    #[command(after_help = EXAMPLES)]
    Serve(ServeArgs),
    /// Check a configuration: name every fault with its line, or say what it means
    Check(CheckArgs),
    /// Draw the host's CPUs and where shards would run
    Topology(TopologyArgs),
}

/// Options of `serve`.
#[derive(clap::Args, Clone, Debug)]
pub struct ServeArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen here instead of where the file says; may be given several times
    #[arg(long, short, value_name = "IP:PORT")]
    pub listen: Vec<String>,
    /// Let clients without credentials in at the addresses given with --listen
    #[arg(long, requires = "listen")]
    pub allow_anonymous: bool,
    /// Where shards run.
    #[command(flatten)]
    pub cores: CoreArgs,
    /// How much is logged
    #[arg(long, value_name = "LEVEL", value_parser = log_levels())]
    pub log_level: Option<String>,
}

/// Options of `check`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// The configuration file (TOML); without it, the defaults are explained
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `topology`.
#[derive(clap::Args, Debug)]
pub struct TopologyArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where shards run.
    #[command(flatten)]
    pub cores: CoreArgs,
}

/// Which cores are used.
#[derive(clap::Args, Clone, Debug)]
pub struct CoreArgs {
    /// CPUs that carry shards: "auto" or a list such as 0,2-5
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<String>,
    /// Number of shards; 0 means one for each CPU
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
}

fn log_levels() -> PossibleValuesParser {
    PossibleValuesParser::new(LogLevel::WORDS.iter().map(|(word, _)| *word))
}
