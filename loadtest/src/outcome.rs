//! Everything that one run found, as plain data: what reports, comparisons and programs read.
//!
//! Invariants worth naming:
//! * times are nanoseconds unless the name says otherwise; moments count from the run's start;
//! * a run that ended early has the same shape with [`Outcome::partial`] set;
//! * latency counts from the intended send time, not from when the socket took the bytes.

use crate::scenario::Scenario;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One run of one scenario against one broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What tells this run from others of the same scenario: a load step, a payload size.
    pub label: String,
    /// The scenario as it was run, with all overrides.
    pub scenario: Scenario,
    /// The command line that made it.
    pub command: Vec<String>,
    /// Who took part.
    pub versions: Versions,
    /// Where it ran.
    pub place: Place,
    /// When it began, milliseconds since the Unix epoch.
    pub began_unix_ms: u64,
    /// What was measured: begin and end, and whether the load was steady in between.
    pub window: Window,
    /// Connecting: from the intended time of the connect to CONNACK.
    pub connect: Distribution,
    /// Deliveries: from the intended send time to the subscriber's read, inside the window.
    pub latency: Distribution,
    /// Publications of QoS 1 and 2: from the intended send time to the last acknowledgement.
    pub ack: Distribution,
    /// One entry for each second of the run, warm-up and drain included.
    pub series: Vec<Second>,
    /// Sums over the window.
    pub totals: Totals,
    /// What the checks of every delivery of the whole run found.
    pub truth: Truth,
    /// Whether the generator was good enough for this run.
    pub generator: GeneratorVerdict,
    /// Whether the broker kept up.
    pub broker: BrokerVerdict,
    /// Why the run ended before its time; all figures are of the part that took place.
    pub partial: Option<String>,
    /// The tries of a search for the largest rate, if this run was its result.
    pub search: Option<Search>,
    /// What was replayed, if this run was a replay.
    #[serde(default)]
    pub replayed: Option<Replayed>,
}

/// A recording and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    /// Its file.
    pub source: String,
    /// How much faster than it was recorded.
    pub rate: f64,
    /// How many times at once.
    pub copies: usize,
    /// Clients in it.
    pub clients: usize,
    /// Publications of the whole run.
    pub publications: u64,
    /// Deliveries of the whole run, if every step takes effect before the next one begins. Around a
    /// client's subscribing and leaving some of them need not come, and some others may.
    pub due: u64,
    /// What is not as it was recorded.
    pub notes: Vec<String>,
}

/// Versions of everything that took part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Versions {
    /// The load generator.
    pub harness: String,
    /// The kernel's release.
    pub kernel: String,
    /// The broker's name, and its version where it is known.
    pub broker: String,
}

/// The host and the pins.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// Name of the processor.
    pub processor: String,
    /// Packages, nodes, caches and cores as text.
    pub topology: String,
    /// The frequency governor, where the host tells.
    pub governor: Option<String>,
    /// CPU of each generator thread; `None` where it is not pinned.
    pub generator_cpus: Vec<Option<usize>>,
    /// CPUs the broker may use, where its process is known.
    pub broker_cpus: Vec<usize>,
    /// The broker's address.
    pub address: String,
    /// The broker's process.
    pub broker_pid: Option<u32>,
}

/// The measured part of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Window {
    /// Begin, seconds since the run's start.
    pub begin_s: f64,
    /// End, seconds since the run's start.
    pub end_s: f64,
    /// Whether the rate had settled when the window was opened.
    pub warmed_up: bool,
    /// Whether the load was steady inside the window.
    pub steady: bool,
    /// Largest deviation of a second's rate from the window's mean, as a share of the mean.
    pub deviation: f64,
    /// Rate of the second half over that of the first, minus one.
    pub drift: f64,
}

impl Window {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.end_s - self.begin_s
    }
}

/// A histogram in a form that can be written and read back: values and their counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Distribution {
    /// Number of values.
    pub count: u64,
    /// Smallest, nanoseconds.
    pub min_ns: u64,
    /// Mean, nanoseconds.
    pub mean_ns: f64,
    /// Median, nanoseconds.
    pub p50_ns: u64,
    /// 90 %, nanoseconds.
    pub p90_ns: u64,
    /// 99 %, nanoseconds.
    pub p99_ns: u64,
    /// 99.9 %, nanoseconds.
    pub p999_ns: u64,
    /// 99.99 %, nanoseconds.
    pub p9999_ns: u64,
    /// Largest, nanoseconds.
    pub max_ns: u64,
    /// Recorded values (three significant digits, ascending) and how often each came.
    pub buckets: Vec<(u64, u64)>,
}

impl Distribution {
    /// The histogram again, for other percentiles or to add several up.
    ///
    /// # Panics
    /// Never: the bounds are those every histogram here is made with.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = crate::measure::histogram();
        for (value, count) in &self.buckets {
            histogram.saturating_record_n(*value, *count);
        }
        histogram
    }
}

impl From<&Histogram<u64>> for Distribution {
    fn from(histogram: &Histogram<u64>) -> Distribution {
        if histogram.is_empty() {
            return Distribution::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        let recorded = histogram.iter_recorded();
        let buckets = recorded.map(|step| (step.value_iterated_to(), step.count_at_value()));
        Distribution {
            count: histogram.len(),
            min_ns: histogram.min(),
            mean_ns: histogram.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: histogram.max(),
            buckets: buckets.collect(),
        }
    }
}

/// One second of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// Which one, counted from the start of the run.
    pub second: u32,
    /// Length, seconds; the last one may be short.
    pub length_s: f64,
    /// Whether it lies inside the window.
    pub in_window: bool,
    /// Messages published.
    pub sent: u64,
    /// Deliveries received.
    pub received: u64,
    /// Publications finally acknowledged (QoS 1 and 2).
    pub acknowledged: u64,
    /// Connections completed.
    pub connects: u64,
    /// Latency of the deliveries received in it, nanoseconds: median.
    pub p50_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// Largest.
    pub max_ns: u64,
    /// CPU seconds of the broker, where its process is known.
    pub broker_cpu_s: Option<f64>,
    /// Resident memory of the broker at the end of the second, bytes.
    pub broker_resident: Option<u64>,
    /// CPU seconds of the generator's threads.
    pub generator_cpu_s: f64,
    /// Largest lag of the generator behind its own schedule, nanoseconds.
    pub generator_lag_ns: u64,
}

/// Sums over the window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Messages published.
    pub sent: u64,
    /// Deliveries received.
    pub received: u64,
    /// Publications finally acknowledged.
    pub acknowledged: u64,
    /// Connections completed in the whole run.
    pub connects: u64,
    /// Connections that came back after the broker or a fault ended them, in the whole run.
    pub reconnects: u64,
    /// Sessions that the broker said it had kept, in the whole run.
    pub resumed: u64,
    /// Connections that clients took over from themselves, in the whole run.
    #[serde(default)]
    pub takeovers: u64,
    /// Times that a client unsubscribed and subscribed again, in the whole run.
    #[serde(default)]
    pub unsubscribes: u64,
    /// Clients that were turned away, as they must be, in the whole run.
    #[serde(default)]
    pub refused: u64,
    /// Payload bytes received.
    pub received_bytes: u64,
    /// CPU seconds of the broker, where its process is known.
    pub broker_cpu_s: Option<f64>,
    /// Resident memory of the broker before the first connect, bytes.
    #[serde(default)]
    pub resident_before: Option<u64>,
    /// Resident memory of the broker at the end of the window, bytes.
    #[serde(default)]
    pub resident_held: Option<u64>,
    /// CPU seconds of the generator's threads.
    pub generator_cpu_s: f64,
}

/// What the receivers found wrong over the whole run. Every field is zero for a faultless broker,
/// except that QoS 1 may repeat and QoS 0 may lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Deliveries checked.
    pub checked: u64,
    /// Deliveries due that never came, by QoS of the flow.
    pub lost: [u64; 3],
    /// Deliveries that came again, by QoS of the flow.
    pub duplicated: [u64; 3],
    /// Deliveries that came after one sent later on the same topic by the same publisher.
    pub reordered: u64,
    /// Deliveries whose payload was not what was sent.
    pub corrupted: u64,
    /// Deliveries that their receiver has not subscribed to.
    pub misrouted: u64,
}

impl Truth {
    /// Deliveries lost at any QoS.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Deliveries repeated at any QoS.
    pub fn duplicated_total(&self) -> u64 {
        self.duplicated.iter().sum()
    }

    /// Whether the broker did what the protocol promises, and lost nothing even where it may.
    pub fn faultless(&self) -> bool {
        let Truth { lost, duplicated, reordered, corrupted, misrouted, .. } = *self;
        let repeated = duplicated[0] + duplicated[2];
        lost == [0; 3] && repeated + reordered + corrupted + misrouted == 0
    }
}

/// Whether the figures are the broker's or the generator's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GeneratorVerdict {
    /// The generator set the pace: the figures say nothing about the broker's best.
    pub bottleneck: bool,
    /// Why it is thought so.
    pub why: Option<String>,
    /// What helps.
    pub remedy: Option<String>,
    /// The busiest thread had no time left, whoever else had none.
    #[serde(default)]
    pub at_limit: bool,
    /// Share of the window that the busiest thread of the generator ran.
    pub busiest_share: f64,
    /// Share of the window that the busiest thread was ready but other work had its CPU.
    pub waiting_share: f64,
    /// How late messages were handed to free connections, against their intended time.
    pub lag: Distribution,
    /// Messages sent and received per CPU second of the generator.
    pub per_cpu_second: f64,
}

/// How the broker came out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerVerdict {
    /// It stayed.
    #[default]
    Stayed,
    /// Nobody listens there.
    Unreachable(String),
    /// It accepts connections and turns clients away.
    Refused(String),
    /// Its process ended, or it closed connections it had no reason to close.
    Died(String),
    /// It sent what the protocol does not allow.
    Misbehaved(String),
    /// It is there, but nothing moved within the patience.
    Stuck(String),
}

/// The tries of a search for the largest rate that holds a goal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Search {
    /// The goal in words.
    pub goal: String,
    /// Largest rate that held it, messages per second over all publishers.
    pub best_rate: f64,
    /// Every try in order.
    pub tries: Vec<Try>,
}

/// One try of a search.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Try {
    /// Offered rate, messages per second over all publishers.
    pub rate: f64,
    /// Whether the goal held.
    pub held: bool,
    /// The goal's percentile, nanoseconds.
    pub latency_ns: u64,
    /// Why not, where not.
    pub why: String,
}

impl Outcome {
    /// An outcome of which nothing is known yet.
    pub fn new(scenario: Scenario) -> Outcome {
        Outcome {
            label: String::new(),
            scenario,
            command: Vec::new(),
            versions: Versions::default(),
            place: Place::default(),
            began_unix_ms: 0,
            window: Window::default(),
            connect: Distribution::default(),
            latency: Distribution::default(),
            ack: Distribution::default(),
            series: Vec::new(),
            totals: Totals::default(),
            truth: Truth::default(),
            generator: GeneratorVerdict::default(),
            broker: BrokerVerdict::default(),
            partial: None,
            search: None,
            replayed: None,
        }
    }

    /// Messages in plus out in the window.
    pub fn moved(&self) -> u64 {
        self.totals.sent + self.totals.received
    }

    /// Messages in plus out per second of wall time.
    pub fn per_second(&self) -> f64 {
        self.moved() as f64 / self.window.seconds().max(1e-9)
    }

    /// The figure of merit: messages in plus out per second of broker CPU.
    pub fn per_cpu_second(&self) -> Option<f64> {
        let cpu_s = self.totals.broker_cpu_s?;
        (cpu_s > 0.0).then(|| self.moved() as f64 / cpu_s)
    }

    /// Connections completed per second of broker CPU, both of the whole run: the figure of merit
    /// of a load that only connects.
    pub fn connects_per_cpu_second(&self) -> Option<f64> {
        let cpu_s: f64 = self.series.iter().filter_map(|second| second.broker_cpu_s).sum();
        (cpu_s > 0.0).then(|| self.totals.connects as f64 / cpu_s)
    }

    /// Connections completed per second in which there were any.
    pub fn connects_per_second(&self) -> f64 {
        let connecting = self.series.iter().filter(|second| second.connects > 0);
        let spent: f64 = connecting.map(|second| second.length_s).sum();
        self.totals.connects as f64 / spent.max(1e-9)
    }

    /// Resident memory that each client costs the broker, bytes: what it grew by from before the
    /// first connect to the end of the window. `None` where it did not grow, too.
    pub fn resident_each(&self) -> Option<f64> {
        let grown = self.totals.resident_held?.saturating_sub(self.totals.resident_before?);
        let clients: usize = self.scenario.groups.iter().map(|group| group.count).sum();
        (grown > 0).then(|| grown as f64 / clients.max(1) as f64)
    }

    /// CPUs' worth of work the broker did.
    pub fn broker_share(&self) -> Option<f64> {
        Some(self.totals.broker_cpu_s? / self.window.seconds().max(1e-9))
    }

    /// Whether the run ended in order and everything that was due arrived as it should.
    pub fn passed(&self) -> bool {
        self.partial.is_none() && self.broker == BrokerVerdict::Stayed && self.truth.faultless()
    }
}
