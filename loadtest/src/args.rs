//! What the user typed.

mod tune;

pub use tune::TuneArgs;

use crate::broker::Running;
use crate::engine::Target;
use crate::require::Requirement;
use crate::scenario::{Kind, Protocol, Scenario, ScenarioError, Shape, Transport, find};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Load generator for MQTT brokers: scenarios, open and closed loops, checked deliveries.
///
/// It says when it was the bottleneck itself, and then gives no verdict.
#[derive(Parser, Debug)]
#[command(version)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Action,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Run a scenario (S1 to S14-wss, or a TOML file) or a shape against a running broker.
    Run(RunArgs),
    /// Start brokers, run the same load against them in turn and compare.
    Compare(CompareArgs),
    /// Run a scenario against a bare relay of the same bytes: the limit of this host.
    Limit(LimitArgs),
    /// Hold connections that do nothing and report the broker's memory for each.
    Idle(IdleArgs),
    /// Live through a long mix of everything and report whether the broker's memory grew.
    Soak(SoakArgs),
    /// Stand between clients and a broker and record the shape of their traffic into a file.
    ///
    /// Passes every byte on unchanged and at once. The file has connect times, subscriptions,
    /// topics (hashed unless told otherwise), QoS, sizes and times; never client identifiers, user
    /// names, passwords or payloads. Plain TCP only; two threads for each connection, so that some
    /// thousands fit.
    Record(RecordArgs),
    /// Send what was recorded to a broker again, faster or many times, and check every delivery.
    ///
    /// Clients connect, subscribe, publish and leave at the times of the recording; latency counts
    /// from there. The clock stops before the first publication until all that was subscribed
    /// before it is. What cannot be as it was recorded is told in the result.
    Replay(ReplayArgs),
    /// Search for a better configuration of corelane on this host, and say so only if one is.
    ///
    /// Plans that differ from the configuration as given in one key run against it, round by round
    /// and in random order, each time with a fresh broker. Those that are worse are dropped; a
    /// winner is named when rounds of its own show that it is better, with an error of 5 % at most
    /// whatever the machine does. Otherwise the verdict is "no significant difference". Writes
    /// corelane-tuned.toml (only if something is better) and corelane-tune.html.
    Tune(TuneArgs),
    /// List the shipped scenarios, or print one as TOML.
    Scenarios(ScenariosArgs),
    /// The relay that `limit` starts.
    #[command(hide = true)]
    Relay(RelayArgs),
}

/// A load shape; what is not given has the shape's default.
#[derive(Args, Clone, Debug)]
pub struct ShapeArgs {
    /// How publishers and subscribers are joined.
    #[arg(long, value_enum)]
    pub shape: Option<Kind>,
    /// The "many" of the shape [fan-in 50, fan-out 100, pairs 100].
    #[arg(long)]
    pub peers: Option<usize>,
    /// QoS of publications and subscriptions [shape 0; scenario: its own].
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: Option<u8>,
    /// Payload bytes, at least 24 [shape 64; scenario: its own].
    #[arg(long)]
    pub payload: Option<usize>,
    /// Packets a publisher puts into one write, at most; 1 is "single" [64].
    #[arg(long)]
    pub batch: Option<usize>,
    /// Protocol level: 4 is MQTT 3.1.1 [shape 4; scenario: its own].
    #[arg(long, value_parser = clap::value_parser!(u8).range(4..=5))]
    pub version: Option<u8>,
    /// Messages a publisher may have sent that some subscriber lacks [up to 1024, by shape].
    #[arg(long)]
    pub window: Option<usize>,
    /// QoS 1, 2: unacknowledged messages per publisher [64 when batched, 16 when single].
    #[arg(long)]
    pub inflight: Option<usize>,
    /// Open loop: messages per second over all publishers.
    #[arg(long)]
    pub rate: Option<f64>,
}

impl ShapeArgs {
    fn protocol(&self) -> Option<Protocol> {
        self.version.map(|level| if level == 5 { Protocol::V5 } else { Protocol::V311 })
    }

    /// The shape meant.
    pub fn shape(&self) -> Shape {
        let mut shape = Shape::new(self.shape.unwrap_or(Kind::Pipe));
        shape.peers = self.peers.unwrap_or(shape.peers).max(1);
        shape.batch = self.batch.unwrap_or(shape.batch).max(1);
        shape.qos = self.qos.unwrap_or(shape.qos);
        self.refine(&mut shape);
        shape
    }

    /// Overrides the parts of a canonical shape that the user may choose.
    pub fn refine(&self, shape: &mut Shape) {
        shape.payload = self.payload.unwrap_or(shape.payload);
        shape.version = self.protocol().unwrap_or(shape.version);
        shape.window = self.window.or(shape.window);
        shape.inflight = self.inflight.or(shape.inflight);
    }

    /// Overrides a scenario.
    fn apply(&self, scenario: &mut Scenario) {
        scenario.version = self.protocol().unwrap_or(scenario.version);
        for group in &mut scenario.groups {
            group.qos = self.qos.unwrap_or(group.qos);
            group.batch = self.batch.unwrap_or(group.batch);
            group.window = self.window.unwrap_or(group.window);
            group.inflight = self.inflight.unwrap_or(group.inflight);
            if let Some(size) = self.payload {
                group.payload = crate::scenario::Sizes::Fixed(size);
            }
        }
    }
}

/// How long to run, and where.
#[derive(Args, Clone, Debug)]
pub struct SpanArgs {
    /// Measured seconds [shape 3; scenario: its own].
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Publications to measure instead of seconds.
    #[arg(long)]
    pub messages: Option<u64>,
    /// Seconds of load before the measured part [shape 0.5; scenario: its own].
    #[arg(long)]
    pub warmup: Option<f64>,
    /// Seconds without any progress after which a run is given up [5].
    #[arg(long)]
    pub patience: Option<f64>,
    /// CPUs of the generator, one thread each: 1 or 2,3 or 4-7.
    #[arg(long, value_parser = tuning::cpulist::parse)]
    pub cpus: Option<std::vec::Vec<usize>>,
}

impl SpanArgs {
    /// Overrides a scenario.
    pub fn apply(&self, scenario: &mut Scenario) {
        scenario.seconds = self.seconds.unwrap_or(scenario.seconds);
        scenario.messages = self.messages.or(scenario.messages);
        scenario.warmup_s = self.warmup.unwrap_or(scenario.warmup_s);
        scenario.patience_s = self.patience.unwrap_or(scenario.patience_s);
        if let Some(cpus) = &self.cpus {
            scenario.cpus.clone_from(cpus);
        }
    }
}

/// How clients get into the broker, and who they say they are.
#[derive(Args, Clone, Debug, Default)]
pub struct DoorArgs {
    /// What lies between the sockets and MQTT; tcp is nothing [scenario: its own].
    #[arg(long, value_enum)]
    pub transport: Option<Transport>,
    /// TLS: PEM file with the authorities that the broker's certificate must come from.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// TLS, WebSocket: the broker's name, which its certificate must have [its IP address].
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// TLS: do NOT verify the broker's certificate.
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
    /// TLS: PEM file with the certificate that clients show.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// TLS: PEM file with the private key of that certificate.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// WebSocket: the path to ask for [/mqtt].
    #[arg(long)]
    pub path: Option<String>,
    /// User name of each client; {i} is its number in its group.
    #[arg(long)]
    pub user: Option<String>,
    /// Password of each client; {i} is its number in its group.
    #[arg(long)]
    pub password: Option<String>,
}

impl DoorArgs {
    /// Overrides a scenario.
    pub fn apply(&self, scenario: &mut Scenario) {
        scenario.transport = self.transport.unwrap_or(scenario.transport);
        scenario.ca = self.ca.clone().or(scenario.ca.take());
        scenario.server_name = self.server_name.clone().or(scenario.server_name.take());
        scenario.insecure |= self.insecure;
        scenario.certificate = self.certificate.clone().or(scenario.certificate.take());
        scenario.key = self.key.clone().or(scenario.key.take());
        if let Some(path) = &self.path {
            scenario.path.clone_from(path);
        }
        scenario.user = self.user.clone().or(scenario.user.take());
        scenario.password = self.password.clone().or(scenario.password.take());
    }
}

/// Which load: a scenario or a shape.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// A shipped scenario (S1 to S14-wss) or a TOML file; without it, the shape that options
    /// describe.
    pub scenario: Option<String>,
    /// The shape.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// How long, and where.
    #[command(flatten)]
    pub span: SpanArgs,
    /// How clients get in.
    #[command(flatten)]
    pub door: DoorArgs,
    /// Leave out this group of the scenario; may be repeated.
    #[arg(long, value_name = "GROUP")]
    pub skip: Vec<String>,
}

impl LoadArgs {
    /// The scenario meant, with all overrides, checked.
    ///
    /// # Errors
    /// No such scenario, or a value out of range.
    pub fn scenario(&self) -> Result<Scenario, ScenarioError> {
        let mut scenario = match &self.scenario {
            Some(name) => {
                let mut scenario = find(name)?;
                self.shape.apply(&mut scenario);
                scenario
            }
            None => shape_scenario(&self.shape.shape()),
        };
        for name in &self.skip {
            let before = scenario.groups.len();
            scenario.groups.retain(|group| group.name != *name);
            if scenario.groups.len() == before {
                let what = format!("--skip {name}: no such group");
                return Err(ScenarioError { source: scenario.name, line: 0, what });
            }
        }
        self.span.apply(&mut scenario);
        self.door.apply(&mut scenario);
        if let Some(rate) = self.shape.rate {
            scenario = scenario.at_rate(rate);
        }
        checked(scenario)
    }
}

/// A shape's scenario with the spans of a quick run.
pub fn shape_scenario(shape: &Shape) -> Scenario {
    Scenario { seconds: 3.0, warmup_s: 0.5, ..shape.scenario() }
}

/// A scenario changed by options, checked again.
///
/// # Errors
/// A value out of range.
pub fn checked(scenario: Scenario) -> Result<Scenario, ScenarioError> {
    match crate::scenario::check(&scenario) {
        Ok(()) => Ok(scenario),
        Err(fault) => Err(ScenarioError {
            source: "options".into(),
            line: 0,
            what: format!("`{}`: {}", fault.key, fault.what),
        }),
    }
}

/// A broker that runs already.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub address: SocketAddr,
    /// The broker's process, for its CPU time and memory.
    #[arg(long)]
    pub pid: Option<u32>,
}

impl TargetArgs {
    /// The target for the engine, entered as the scenario says.
    ///
    /// # Errors
    /// A file that TLS needs is not there, or not what it should be.
    pub fn target(&self, scenario: &Scenario) -> Result<Target, String> {
        let name = self.pid.and_then(|pid| crate::process::line(format!("/proc/{pid}/comm")));
        let name = name.unwrap_or_else(|| "broker".into());
        Target::new(name, self.address, self.pid, scenario)
    }
}

/// What is written beside the text, and what must hold.
#[derive(Args, Clone, Debug, Default)]
pub struct OutputArgs {
    /// A line of JSON for each outcome (`compare`: each broker) instead of text.
    #[arg(long)]
    pub json: bool,
    /// Write seconds and HDR histograms of every run as CSV into this directory.
    #[arg(long, value_name = "DIR")]
    pub csv: Option<PathBuf>,
    /// Write one self-contained HTML report.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Fail unless this holds, for example p99<5ms, loss==0, rate>=1M, cpu_per_message<2us,
    /// rss<64MiB; may be repeated. `compare` asks it of every run of every broker.
    #[arg(long, value_name = "EXPRESSION")]
    pub require: Vec<Requirement>,
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// The broker.
    #[command(flatten)]
    pub target: TargetArgs,
    /// CPU for the generator; the same as `--cpus` with one CPU.
    #[arg(long, conflicts_with = "cpus", hide = true)]
    pub load_cpu: Option<usize>,
    /// Reports and requirements.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// A shipped peer (mosquitto, nats-server, rumqttd, rmqttd, aedes), corelane, corelane:N
    /// (shards), corelane=FILE.toml (a configuration of ours), limit (the bare relay), FILE.toml
    /// (a peer descriptor of yours) or 'name=command line with {port} and {cpu}', where there may
    /// be {transport} and, for TLS, {certificate}, {key} and {ca}. The first that is there is what
    /// the others are compared with; one that is not installed is skipped.
    #[arg(long, required_unless_present = "against")]
    pub broker: Vec<String>,
    /// A broker that runs already, after those of `--broker`: IP:PORT or IP:PORT@PID.
    #[arg(long, value_name = "ADDR")]
    pub against: Vec<Running>,
    /// The binary that `corelane` stands for.
    #[arg(long, default_value = "target/release/corelane")]
    pub corelane: String,
    /// The eight shapes of the budget table instead of the one described.
    #[arg(long, conflicts_with_all = ["scenario", "shape"])]
    pub all: bool,
    /// Every shipped scenario, S1 to S14-wss, one after the other.
    #[arg(long, conflicts_with_all = ["scenario", "shape", "all"])]
    pub shipped: bool,
    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Rounds; each runs every broker once.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// CPU for the broker.
    #[arg(long, default_value_t = 0)]
    pub broker_cpu: usize,
    /// CPU for the generator; the same as `--cpus` with one CPU.
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// Reports and requirements.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `limit`.
#[derive(Args, Debug)]
pub struct LimitArgs {
    /// The load; its publications and subscriptions run at QoS 0.
    #[command(flatten)]
    pub load: LoadArgs,
    /// CPU for the relay.
    #[arg(long, default_value_t = 0)]
    pub broker_cpu: usize,
    /// CPU for the generator; the same as `--cpus` with one CPU.
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `relay`.
#[derive(Args, Debug)]
pub struct RelayArgs {
    /// The scenario as JSON.
    #[arg(long)]
    pub scenario: std::path::PathBuf,
    /// Port on 127.0.0.1.
    #[arg(long)]
    pub port: u16,
    /// CPU to run on.
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// Arguments of `scenarios`.
#[derive(Args, Debug)]
pub struct ScenariosArgs {
    /// The one to print.
    pub name: Option<String>,
}

/// What topics look like in a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Topics {
    /// Each level a hash under a key that is drawn for this recording and kept nowhere; filters
    /// match what they matched.
    Hashed,
    /// As they are.
    Kept,
}

/// Arguments of `record`.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// Where clients connect to.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:1884")]
    pub listen: SocketAddr,
    /// The broker.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:1883")]
    pub to: SocketAddr,
    /// The recording; must not exist yet.
    #[arg(long)]
    pub file: PathBuf,
    /// End after so many seconds, and with it the connections; without it at SIGINT or SIGTERM.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// What topics look like.
    #[arg(long, value_enum, default_value = "hashed")]
    pub topics: Topics,
    /// Record no more when the file has about so many bytes; passing on continues.
    #[arg(long, default_value_t = 1 << 30)]
    pub max_bytes: u64,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// The recording.
    pub file: PathBuf,
    /// The broker.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How much faster than recorded: 2 halves all times.
    #[arg(long, default_value_t = 1.0)]
    pub rate: f64,
    /// How many times at once, each with clients and a first topic level (c0, c1, …) of its own;
    /// their begins spread over one recorded second.
    #[arg(long, default_value_t = 1)]
    pub copies: usize,
    /// Seconds for which the broker may owe something without any progress.
    #[arg(long, default_value_t = 5.0)]
    pub patience: f64,
    /// CPUs of the generator, one thread each: 1 or 2,3 or 4-7.
    #[arg(long, value_parser = tuning::cpulist::parse)]
    pub cpus: Option<std::vec::Vec<usize>>,
    /// How clients get in.
    #[command(flatten)]
    pub door: DoorArgs,
    /// Reports and requirements.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `idle`.
#[derive(Args, Debug)]
pub struct IdleArgs {
    /// The broker; the process is needed.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Connections to hold.
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// Give each connection a subscription of its own.
    #[arg(long)]
    pub subscribe: bool,
    /// Seconds to hold them while the broker's CPU is watched.
    #[arg(long, default_value_t = 5)]
    pub hold: u64,
    /// How clients get in.
    #[command(flatten)]
    pub door: DoorArgs,
    /// CPUs of the generator, one thread each.
    #[arg(long, value_parser = tuning::cpulist::parse)]
    pub cpus: Option<std::vec::Vec<usize>>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `soak`.
#[derive(Args, Debug)]
pub struct SoakArgs {
    /// The broker; the process is needed.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Seconds under load after the warm-up cycle.
    #[arg(long, default_value_t = 600)]
    pub seconds: u64,
    /// Clients, over all parts of the mix.
    #[arg(long, default_value_t = 200)]
    pub clients: usize,
    /// Messages a second over all publishers.
    #[arg(long, default_value_t = 1000)]
    pub rate: u64,
    /// One client in this many connects and does nothing.
    #[arg(long, default_value_t = 10)]
    pub idle_one_in: usize,
    /// Seed of the random choices.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How clients get in.
    #[command(flatten)]
    pub door: DoorArgs,
    /// CPUs of the generator, one thread each.
    #[arg(long, value_parser = tuning::cpulist::parse)]
    pub cpus: Option<std::vec::Vec<usize>>,
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn load(line: &str) -> LoadArgs {
        let words = line.split(' ');
        match CommandLine::try_parse_from(words).expect(line).command {
            Action::Run(args) => args.load,
            other => panic!("{other:?} is no run"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn options_override_a_scenario_and_are_checked() {
        let scenario = load("x run S4 --qos 2 --seconds 9 --cpus 1,3").scenario().expect("valid");
        assert!(scenario.groups.iter().all(|group| group.qos == 2));
        assert_eq!((scenario.seconds, &scenario.cpus[..]), (9.0, &[1, 3][..]));
        let shape = load("x run --shape fan-in --peers 7 --rate 100").scenario().expect("valid");
        assert_eq!((shape.groups[1].count, shape.offered()), (7, 100.0));
        let skipped = load("x run S4 --skip small-publishers").scenario().expect("valid");
        assert_eq!(skipped.groups.len(), 3);
        let error = load("x run S4 --skip others").scenario().expect_err("no such group");
        assert!(error.to_string().contains("no such group"), "{error}");
        let error = load("x run S1 --payload 5").scenario().expect_err("too small");
        assert!(error.to_string().contains("`payload`"), "{error}");
    }

    #[test]
    fn the_door_is_told_in_options_and_checked() {
        let line = "x run S1 --transport wss --ca ca.pem --path /x --user u-{i} --password p";
        let scenario = load(line).scenario().expect("valid");
        assert_eq!((scenario.transport, &*scenario.path), (Transport::Wss, "/x"));
        assert_eq!(scenario.user.as_deref(), Some("u-{i}"));
        for (options, key) in [
            ("--ca ca.pem", "`ca`"),
            ("--transport ws --insecure", "`insecure`"),
            ("--server-name x", "`server_name`"),
            ("--transport ws --path mqtt", "`path`"),
            ("--password p", "`password`"),
        ] {
            let error = load(&format!("x run S1 {options}")).scenario().expect_err(options);
            assert!(error.to_string().contains(key), "{options}: {error}");
        }
        for wrong in ["--ca a --insecure", "--certificate a", "--key a", "--transport quic"] {
            let line = format!("x run S1 --transport tls {wrong}");
            assert!(CommandLine::try_parse_from(line.split(' ')).is_err(), "{wrong}");
        }
    }
}
