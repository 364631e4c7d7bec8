//! What can be typed after `corelane`.

use crate::config::{Choice, LogLevel};
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use tuning::profile::PROFILES;

const EXAMPLES: &str = "\
Examples:
  corelane                                  serve 127.0.0.1:1883 on every CPU
  corelane --config corelane.toml           serve what the file says
  corelane --listen 0.0.0.0:1883 --allow-anonymous
                                            let other hosts in, without credentials
  corelane --cpus 0,2-5 --shards 4          choose CPUs and the number of shards
  corelane check --config corelane.toml     name every fault, or say what the file means
  corelane topology                         draw the host and where shards would run
  corelane topology --plan                  the same, and what each shard owns by a rule
  corelane tune                             what the host lacks, and the commands that mend it
  corelane passwd users.txt ann             give a user a password
  corelane acl explain --help               which rule lets a client do what

Exit codes: 0 done, 1 tune found the host wanting or acl explain a denial, 2 wrong usage, 70 a core
failed while running, 78 the configuration or the host does not allow a start.";

const TUNE: &str = "\
Nothing is changed unless --apply or --undo is given. Each need has a severity: \"blocks\" (the
broker can't start), \"limits\" (it will hit a limit), \"costs\" (it is slower), \"tells\".

Examples:
  corelane tune --config corelane.toml      what this configuration needs of this host
  corelane tune --profile low-latency       what a shipped profile needs
  corelane tune --show-profile laptop > corelane.toml
                                            begin a configuration
  corelane tune --apply                     write what is safe to write, noting what was there
  corelane tune --undo                      write it back, except what somebody changed since
  corelane tune --measure --scenario S4 --budget 20m --config corelane.toml
                                            try other plans under load; say so if one is better

Profiles: laptop, two-core-vm, eight-core-vm, sixteen-core, thirty-two-core, sixty-four-core,
dual-socket, low-latency, power-saving.

Exit codes: 0 the host is fit (with --apply and --undo: all is done), 1 something of severity
\"blocks\" or \"limits\" is not met (or not all is done), 2 wrong usage, 78 the configuration has
faults.";

const PASSWD: &str = "\
The password is asked for twice on a terminal, else it is the first line of standard input. The file
is replaced as a whole, so a broker that reads it meanwhile sees the old one or the new one; SIGHUP
makes a running broker read it again. Hashes are argon2id; lines that mosquitto_passwd wrote stay as
they are.

Examples:
  corelane passwd users.txt ann                       create ann, or change the password
  corelane passwd users.txt ann --groups staff,night  the same, and set the groups
  printf '%s' \"$PASSWORD\" | corelane passwd users.txt ann
  corelane passwd users.txt ann --delete";

const EXPLAIN: &str = "\
Examples:
  corelane acl explain --config corelane.toml --user ann --client c1 \\
      --action publish --topic sensors/c1/state
  corelane acl explain --config corelane.toml --action subscribe --topic 'sensors/#'

Exit codes: 0 allowed, 1 denied, 2 wrong usage, 78 the configuration has faults.";

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
    /// Check the host for what the broker needs of it, and mend it when asked to
    #[command(after_help = TUNE)]
    Tune(TuneArgs),
    /// Create, change or delete a user in a password file
    #[command(after_help = PASSWD)]
    Passwd(PasswdArgs),
    /// Rules about what clients may do
    #[command(subcommand)]
    Acl(AclCommand),
}

/// The subcommands of `acl`.
#[derive(Subcommand, Debug)]
pub enum AclCommand {
    /// Say whether a client may publish or subscribe, and which rule on which line says so
    #[command(after_help = EXPLAIN)]
    Explain(ExplainArgs),
}

/// Options of `passwd`.
#[derive(clap::Args, Debug)]
pub struct PasswdArgs {
    /// The password file; made if it is not there
    pub file: PathBuf,
    /// The user name
    pub user: String,
    /// Groups that rules can name, separated by commas; left out, they stay as they are
    #[arg(long, value_name = "LIST", conflicts_with = "delete")]
    pub groups: Option<String>,
    /// What is kept of the password; the SCRAM forms also let clients prove it without showing it
    #[arg(long, value_name = "FORM", conflicts_with = "delete", default_value = "argon2id")]
    #[arg(value_parser = ["argon2id", "scram-sha-256", "scram-sha-512"])]
    pub form: String,
    /// Delete the user
    #[arg(long)]
    pub delete: bool,
}

/// Options of `acl explain`.
#[derive(clap::Args, Debug)]
pub struct ExplainArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// The user name as it would be proven; left out, the client is anonymous
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The client id
    #[arg(long, value_name = "ID", default_value = "")]
    pub client: String,
    /// A topic, or for subscribe a filter
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,
    /// What the client wants
    #[arg(long, value_name = "ACTION", value_parser = ["publish", "subscribe"])]
    pub action: String,
    /// QoS of the message, or the one asked for
    #[arg(long, value_name = "0|1|2", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// The message has the RETAIN flag
    #[arg(long)]
    pub retain: bool,
    /// Groups of the user, instead of those in the password file
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// The listener that the client comes by, by its name; left out, the first one
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    pub address: Option<std::net::IpAddr>,
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
    /// Also draw which shard owns what: pins of topics and clients, listeners
    #[arg(long)]
    pub plan: bool,
    /// Ask a running broker which subtrees make its cores hot, and say what would level them;
    /// --config is then the file that it runs with
    #[arg(long, conflicts_with_all = ["plan", "json"])]
    pub load: bool,
    /// The broker to ask
    #[arg(long, value_name = "HOST:PORT", requires = "load", default_value = "127.0.0.1:1883")]
    pub broker: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `tune`.
#[derive(clap::Args, Debug)]
pub struct TuneArgs {
    /// The configuration file (TOML) whose needs count
    #[arg(long, short, value_name = "FILE", conflicts_with = "profile")]
    pub config: Option<PathBuf>,
    /// A shipped profile whose needs count
    #[arg(long, value_name = "NAME", value_parser = profiles())]
    pub profile: Option<String>,
    /// Print a shipped profile and do nothing else
    #[arg(long, value_name = "NAME", value_parser = profiles(), exclusive = true)]
    pub show_profile: Option<String>,
    /// Where shards run.
    #[command(flatten)]
    pub cores: CoreArgs,
    /// Connections that are expected in all; without it, what the listeners let in
    #[arg(long, value_name = "N")]
    pub connections: Option<u64>,
    /// Write what is safe to write: kernel settings, governor, packet steering
    #[arg(long, conflicts_with = "undo")]
    pub apply: bool,
    /// Write back what --apply found
    #[arg(long)]
    pub undo: bool,
    /// Where --apply notes what it found
    #[arg(long, value_name = "FILE", default_value = "/var/lib/corelane/tune.json")]
    pub state: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Search for a better configuration by load on this host, with `corelane-loadtest tune`
    #[arg(long, conflicts_with_all = ["profile", "connections", "apply", "undo", "json"])]
    pub measure: bool,
    /// With --measure: the load, a shipped scenario (S1 to S14) or a TOML file
    #[arg(long, value_name = "NAME|FILE", requires = "measure")]
    pub scenario: Option<String>,
    /// With --measure: how long the search may take, such as 90s, 10m or 2h
    #[arg(long, value_name = "TIME", requires = "measure")]
    pub budget: Option<String>,
    /// With --measure: where the better configuration and the report are written
    #[arg(long, value_name = "DIR", requires = "measure")]
    pub out: Option<PathBuf>,
    /// With --measure, behind --: more options of `corelane-loadtest tune`
    #[arg(last = true, value_name = "OPTION", requires = "measure")]
    pub more: Vec<String>,
}

fn profiles() -> PossibleValuesParser {
    PossibleValuesParser::new(PROFILES.iter().map(|profile| profile.name))
}

/// Which cores are used.
#[derive(clap::Args, Clone, Debug)]
pub struct CoreArgs {
    /// CPUs that carry shards: "auto", "numa:0" or a list such as 0,2-5
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<String>,
    /// Number of shards; 0 means one for each CPU
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
}

fn log_levels() -> PossibleValuesParser {
    PossibleValuesParser::new(LogLevel::WORDS.iter().map(|(word, _)| *word))
}
