//! What the user typed.

use crate::measure::Limits;
use crate::shape::{Kind, Shape};
use crate::wire::Version;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::time::Duration;

/// Load generator for MQTT brokers: closed loop, checked deliveries, work per broker CPU second.
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
    /// Drive one shape against a running broker.
    Run(RunArgs),
    /// Start brokers, drive shapes against them in turn and compare.
    Compare(CompareArgs),
    /// Hold connections that do nothing and report the broker's memory for each.
    Idle(IdleArgs),
    /// Live through a long mix of everything and report whether the broker's memory grew.
    Soak(SoakArgs),
}

/// A load shape; what is not given has the shape's default.
#[derive(Args, Clone, Debug)]
pub struct ShapeArgs {
    /// How publishers and subscribers are joined.
    #[arg(long, value_enum, default_value = "pipe")]
    pub shape: Kind,
    /// The "many" of the shape [fan-in 50, fan-out 100, pairs 100].
    #[arg(long)]
    pub peers: Option<usize>,
    /// QoS of publications and subscriptions.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Payload bytes, at least 24.
    #[arg(long, default_value_t = 64)]
    pub payload: usize,
    /// Packets a publisher puts into one write, at most; 1 is "single".
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Protocol level: 4 is MQTT 3.1.1.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=5))]
    pub version: u8,
    /// Messages a publisher may have sent that some subscriber lacks [up to 1024, by shape].
    #[arg(long)]
    pub window: Option<usize>,
    /// QoS 1, 2: unacknowledged messages per publisher [64 when batched, 16 when single].
    #[arg(long)]
    pub inflight: Option<usize>,
}

impl ShapeArgs {
    /// The shape meant.
    pub fn shape(&self) -> Shape {
        let peers = self.peers.unwrap_or(self.shape.default_peers()).max(1);
        let mut shape = Shape::new(self.shape, peers, self.qos, self.batch.max(1));
        self.refine(&mut shape);
        shape
    }

    /// Overrides the parts of a canonical shape that the user may choose.
    pub fn refine(&self, shape: &mut Shape) {
        shape.payload = self.payload;
        shape.version = if self.version == 5 { Version::V5 } else { Version::V4 };
        shape.window = self.window.unwrap_or(shape.window).max(1);
        shape.inflight = self.inflight.unwrap_or(shape.inflight).max(1);
    }
}

/// How long to run.
#[derive(Args, Clone, Debug)]
pub struct LimitArgs {
    /// Measured seconds.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Publications to measure instead of seconds.
    #[arg(long)]
    pub messages: Option<u64>,
    /// Seconds of load before the measured part.
    #[arg(long, default_value_t = 0.5)]
    pub warmup: f64,
    /// Seconds without any progress after which a run is given up.
    #[arg(long, default_value_t = 5.0)]
    pub patience: f64,
}

impl LimitArgs {
    /// The limits meant.
    pub fn limits(&self) -> Limits {
        let seconds = |value: f64| Duration::try_from_secs_f64(value).unwrap_or_default();
        Limits {
            warmup: seconds(self.warmup),
            span: seconds(self.seconds),
            messages: self.messages,
            patience: seconds(self.patience),
        }
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

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The broker.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The load.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// How long.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// CPU for the generator.
    #[arg(long)]
    pub load_cpu: Option<usize>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// mosquitto, corelane, corelane:N (shards), or 'name=command line with {port} and {cpu}'.
    /// The first is what the others are compared with.
    #[arg(long, required = true)]
    pub broker: Vec<String>,
    /// The binary that `corelane` stands for.
    #[arg(long, default_value = "target/release/corelane")]
    pub corelane: String,
    /// The eight shapes of the budget table instead of the one described.
    #[arg(long)]
    pub all: bool,
    /// The load.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// How long, each round.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Rounds; each runs every broker once.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// CPU for the broker.
    #[arg(long, default_value_t = 0)]
    pub broker_cpu: usize,
    /// CPU for the generator.
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// One JSON object for each shape and broker instead of a table.
    #[arg(long)]
    pub json: bool,
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
    /// Client identifiers in use.
    #[arg(long, default_value_t = 200)]
    pub clients: usize,
    /// Random actions a second over all clients.
    #[arg(long, default_value_t = 1000)]
    pub rate: u64,
    /// One client in this many connects and does nothing.
    #[arg(long, default_value_t = 10)]
    pub idle_one_in: usize,
    /// Seed of the random choices.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}
