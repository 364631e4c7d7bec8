//! Where the broker stops scaling: 1 to 64 shards with their rings, driven in one thread, with the
//! traffic between them and the instructions of each counted. `docs/SCALING.md` has the model.
//!
//! `cargo bench --bench scale` in `benches/` prints a table; `-- --json` one object per line;
//! `-- --no-callgrind` leaves the instructions out; `-- --shape NAME` takes one shape;
//! `-- --seed N` has other topics, homes and draws. Equal seeds give equal figures.
//!
//! The program runs itself under callgrind with `--child SHAPE SHARDS SEED`. Each shard has a
//! function of its own there, whose inclusive cost is what the shard has executed.

mod callgrind;
mod host;

use corelane::base::Prng;
use corelane::codec::QoS;
use corelane::mesh::Traffic;
use corelane::shard::placement::{Route, Rule};
use corelane::shard::{ConnectionKey, Counters, Placement};
use host::{Client, Host, publish};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;

const SHARDS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Turns in which messages arrive, and turns before that, which warm caches and pools up.
const TURNS: usize = 8;
const WARM: usize = 2;
/// Publishers for each shard in the shapes that grow with the shards, one message a turn each.
const CLIENTS: usize = 64;
const FAN_IN_CLIENTS: usize = 16;
/// Messages to one topic that a publisher sends in a turn, where it sends runs.
const RUN: usize = 16;
/// Publishers and subscribers of the fan-out, however many shards there are.
const SPEAKERS: usize = 32;
const LISTENERS: usize = 256;
/// Topics of the skewed shapes: first levels, and second levels below each.
const SITES: usize = 16;
const DEVICES: usize = 64;

/// Who publishes to whom.
#[derive(Clone, Copy)]
enum Kind {
    Pairs,
    /// As pairs, but each publisher sends a run of [`RUN`] messages.
    Runs,
    FanIn,
    FanOut,
    /// Topics drawn by Zipf's law with this exponent, one subscriber each.
    Zipf(f64),
}

/// Topics that go from the publisher's core straight to the subscribers'.
#[derive(Clone, Copy, PartialEq)]
enum Direct {
    None,
    All,
    Hottest,
}

struct Shape {
    name: &'static str,
    kind: Kind,
    depth: usize,
    direct: Direct,
}

const fn shape(name: &'static str, kind: Kind, depth: usize, direct: Direct) -> Shape {
    Shape { name, kind, depth, direct }
}

const SHAPES: [Shape; 13] = [
    shape("pairs", Kind::Pairs, 2, Direct::None),
    shape("pairs_run", Kind::Runs, 2, Direct::None),
    shape("pairs_depth_1", Kind::Pairs, 1, Direct::None),
    shape("pairs_publisher", Kind::Pairs, 2, Direct::All),
    shape("fan_in", Kind::FanIn, 2, Direct::None),
    shape("fan_in_publisher", Kind::FanIn, 2, Direct::All),
    shape("fan_out", Kind::FanOut, 2, Direct::None),
    shape("fan_out_publisher", Kind::FanOut, 2, Direct::All),
    shape("zipf_0.9", Kind::Zipf(0.9), 2, Direct::None),
    shape("zipf_0.9_depth_1", Kind::Zipf(0.9), 1, Direct::None),
    shape("zipf_1.2", Kind::Zipf(1.2), 2, Direct::None),
    shape("zipf_1.2_depth_1", Kind::Zipf(1.2), 1, Direct::None),
    shape("zipf_1.2_publisher", Kind::Zipf(1.2), 2, Direct::Hottest),
];

struct Options {
    json: bool,
    callgrind: bool,
    shape: Option<String>,
    seed: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--child", name, shards, seed] = words[..] {
        let shape = SHAPES.iter().find(|shape| shape.name == name).expect("a shape");
        let shards = shards.parse().expect("a number of shards");
        black_box(simulate(shape, shards, seed.parse().expect("a seed")));
        return ExitCode::SUCCESS;
    }
    let mut options = Options { json: false, callgrind: true, shape: None, seed: 1 };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match *word {
            "--json" => options.json = true,
            "--no-callgrind" => options.callgrind = false,
            "--shape" => options.shape = rest.next().map(ToString::to_string),
            "--seed" => options.seed = rest.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            _ => {
                eprintln!("scale: expected --json, --no-callgrind, --shape NAME or --seed N");
                return ExitCode::FAILURE;
            }
        }
    }
    report(&options);
    ExitCode::SUCCESS
}

fn report(options: &Options) {
    let wanted = |shape: &&Shape| options.shape.as_deref().is_none_or(|name| name == shape.name);
    for shape in SHAPES.iter().filter(wanted) {
        if !options.json {
            println!("\n{}\n{HEAD}", shape.name);
        }
        let mut alone = None;
        for shards in SHARDS {
            let run = simulate(shape, shards, options.seed);
            let instructions =
                options.callgrind.then(|| instructions(shape.name, shards, options.seed));
            let row = Row::new(&run, instructions.as_deref());
            let alone = *alone.get_or_insert(row.busiest);
            let text = if options.json { row.json(shape.name, alone) } else { row.text(alone) };
            println!("{text}");
        }
    }
}

/// What one run has counted, after the setting-up.
struct Run {
    shards: usize,
    messages: u64,
    counters: Vec<Counters>,
    traffic: Traffic,
    turns: u64,
}

/// What the clients of a shard send in a turn.
type Input = Vec<(ConnectionKey, Vec<u8>)>;

/// What clients will send: for each turn and shard, the connections with their bytes.
type Script = Vec<Vec<Input>>;

fn simulate(shape: &Shape, shards: usize, seed: u64) -> Run {
    let mut random = Prng::new(seed);
    let keys = [random.next_u64(), random.next_u64()];
    let plan = Plan::new(shape, shards, &mut random);
    let placement = Placement::new(shards, keys, shape.depth);
    let placement = placement.with_rules(vec![], vec![], plan.routes.clone());
    let mut host = Host::new(placement, |settings| settings.limits.subscriptions = 1 << 20);
    for filter in &plan.filters {
        let client = host.connect(None);
        host.subscribe(client, filter, QoS::AtMostOnce);
    }
    let publishers: Vec<Client> = (0..plan.publishers).map(|_| host.connect(None)).collect();
    host.settle();
    let script = plan.script(&publishers, shards, &mut random);
    let (warm, counted) = script.split_at(WARM);
    for turn in warm {
        host.advance();
        for (at, input) in turn.iter().enumerate() {
            host.step(at, input, |_, _| {});
        }
    }
    host.settle();
    let (before, sent) = figures(&host);
    let turns = drive(&mut host, counted);
    let (after, total) = figures(&host);
    let counters: Vec<Counters> = after.iter().zip(&before).map(|(a, b)| since(a, b)).collect();
    let run = Run {
        shards,
        messages: (plan.publishers * TURNS * plan.run) as u64,
        traffic: traffic_since(&total, &sent),
        counters,
        turns,
    };
    let deliveries: u64 = run.counters.iter().map(|c| c.deliveries_sent).sum();
    assert_eq!(deliveries, run.messages * plan.copies, "{} of {shards}", shape.name);
    run
}

fn figures(host: &Host) -> (Vec<Counters>, Traffic) {
    let mut sum = Traffic::default();
    for traffic in host.shards.iter().map(|shard| shard.traffic()) {
        sum.request_blocks += traffic.request_blocks;
        sum.deliver_blocks += traffic.deliver_blocks;
        sum.bytes += traffic.bytes;
        sum.replies += traffic.replies;
        sum.bells += traffic.bells;
    }
    (host.shards.iter().map(|shard| shard.counters().clone()).collect(), sum)
}

/// The counters that the table is made of.
fn since(after: &Counters, before: &Counters) -> Counters {
    Counters {
        publishes_received: after.publishes_received - before.publishes_received,
        messages_accepted: after.messages_accepted - before.messages_accepted,
        deliveries_sent: after.deliveries_sent - before.deliveries_sent,
        forwarded: after.forwarded - before.forwarded,
        delivered_remote: after.delivered_remote - before.delivered_remote,
        stalls: after.stalls - before.stalls,
        ..Counters::default()
    }
}

fn traffic_since(after: &Traffic, before: &Traffic) -> Traffic {
    Traffic {
        request_blocks: after.request_blocks - before.request_blocks,
        deliver_blocks: after.deliver_blocks - before.deliver_blocks,
        bytes: after.bytes - before.bytes,
        replies: after.replies - before.replies,
        bells: after.bells - before.bells,
    }
}

/// Plays the script and lets everything arrive; says how many turns that took.
fn drive(host: &mut Host, script: &[Vec<Input>]) -> u64 {
    let idle: Vec<Input> = vec![Vec::new(); host.shards.len()];
    let (mut turns, mut quiet) = (0, 0);
    let mut script = script.iter();
    // What a shard is told in a turn it handles in the next one at the latest; a message makes
    // two hops.
    while quiet < 3 {
        let turn = script.next();
        quiet = if turn.is_some() { 0 } else { quiet + 1 };
        host.advance();
        for (at, input) in turn.unwrap_or(&idle).iter().enumerate() {
            if STEPS[at](host, input) {
                quiet = 0;
            }
        }
        turns += 1;
    }
    turns
}

type Step = fn(&mut Host, &[(ConnectionKey, Vec<u8>)]) -> bool;

/// The turn of shard `AT`; each has a symbol of its own in the profile.
#[inline(never)]
fn step<const AT: usize>(host: &mut Host, input: &[(ConnectionKey, Vec<u8>)]) -> bool {
    host.step(black_box(AT), input, |_, _| {})
}

macro_rules! steps {
    ($($at:literal)+) => { [$( step::<$at> ),+] };
}

const STEPS: [Step; 64] = steps! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
};

/// Who is there, and what is published to.
struct Plan {
    publishers: usize,
    /// One subscriber each.
    filters: Vec<String>,
    /// Messages of each publisher in a turn.
    run: usize,
    /// Copies of every message.
    copies: u64,
    topics: Vec<String>,
    /// For skewed traffic, the sum of the weights of each topic and all before it.
    weights: Vec<f64>,
    routes: Vec<Rule<Route>>,
}

impl Plan {
    fn new(shape: &Shape, shards: usize, random: &mut Prng) -> Plan {
        let (publishers, copies) = match shape.kind {
            Kind::FanOut => (SPEAKERS, LISTENERS as u64),
            Kind::FanIn => (FAN_IN_CLIENTS * shards, 1),
            Kind::Pairs | Kind::Runs | Kind::Zipf(_) => (CLIENTS * shards, 1),
        };
        let topics: Vec<String> = match shape.kind {
            Kind::FanOut => vec!["plant/news/now".to_owned()],
            Kind::Pairs | Kind::Runs | Kind::FanIn => {
                (0..publishers).map(|number| format!("plant/{number}/value")).collect()
            }
            Kind::Zipf(_) => shuffled_topics(random),
        };
        let filters = match shape.kind {
            Kind::FanIn => vec!["plant/#".to_owned()],
            Kind::FanOut => vec![topics[0].clone(); LISTENERS],
            Kind::Pairs | Kind::Runs | Kind::Zipf(_) => topics.clone(),
        };
        let weights = match shape.kind {
            Kind::Zipf(exponent) => cumulated(topics.len(), exponent),
            _ => Vec::new(),
        };
        let hottest = topics[0].strip_suffix("/value").unwrap_or(&topics[0]);
        let routes = match shape.direct {
            Direct::None => vec![],
            Direct::All => vec![Rule::new("plant", Route::Publisher)],
            Direct::Hottest => vec![Rule::new(hottest, Route::Publisher)],
        };
        let run = if matches!(shape.kind, Kind::Runs) { RUN } else { 1 };
        Plan { publishers, run, filters, copies, topics, weights, routes }
    }

    /// Every publisher sends one message, or one run, in every turn.
    fn script(&self, publishers: &[Client], shards: usize, random: &mut Prng) -> Script {
        let turn = |_| {
            let mut turn: Vec<Input> = vec![Vec::new(); shards];
            for (number, (home, key)) in publishers.iter().enumerate() {
                let topic = match self.weights.last() {
                    None => number % self.topics.len(),
                    Some(total) => {
                        let drawn = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
                        self.weights.partition_point(|sum| *sum <= drawn)
                    }
                };
                let mut bytes = Vec::new();
                for _ in 0..self.run {
                    publish(&self.topics[topic], QoS::AtMostOnce, 0, &mut bytes);
                }
                turn[*home].push((*key, bytes));
            }
            turn
        };
        (0..WARM + TURNS).map(turn).collect()
    }
}

/// The topics of the skewed shapes, the hottest first.
fn shuffled_topics(random: &mut Prng) -> Vec<String> {
    let numbers = 0..SITES * DEVICES;
    let name = |number| format!("site-{}/{}/value", number % SITES, number / SITES);
    let mut topics: Vec<String> = numbers.map(name).collect();
    for last in (1..topics.len()).rev() {
        topics.swap(last, random.below(last + 1));
    }
    topics
}

fn cumulated(count: usize, exponent: f64) -> Vec<f64> {
    let weights = (1..=count).map(|rank| (rank as f64).powf(-exponent));
    weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

/// Instructions that each shard executed while messages were on their way.
fn instructions(name: &str, shards: usize, seed: u64) -> Vec<u64> {
    let out = std::env::temp_dir().join(format!("corelane-scale-{}", std::process::id()));
    let said = callgrind::run(&["--child", name, &shards.to_string(), &seed.to_string()], &out);
    let profile = std::fs::read_to_string(&out).unwrap_or_else(|_| panic!("no profile:\n{said}"));
    let _ = std::fs::remove_file(&out);
    let counts: Vec<u64> = costs_of_steps(&profile).into_values().collect();
    assert_eq!(counts.len(), shards, "each shard has a function of its own");
    counts
}

/// What calls of each [`step`] have cost, with all that it called. The profile has a line `cfn=`
/// with the linker's name, one `calls=`, and one with the position and the cost.
fn costs_of_steps(profile: &str) -> BTreeMap<&str, u64> {
    let mut lines = profile.lines();
    let mut costs = BTreeMap::new();
    while let Some(line) = lines.next() {
        let called = line.strip_prefix("cfn=").filter(|name| name.contains("5scale4step"));
        if let Some(name) = called {
            let cost = lines.by_ref().find(|line| !line.starts_with("calls="));
            let cost = cost.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            *costs.entry(name).or_default() += cost.expect("a call has a cost");
        }
    }
    costs
}

/// Figures of one run, per message unless said otherwise.
struct Row {
    shards: usize,
    requests: f64,
    delivers: f64,
    replies: f64,
    blocks: f64,
    bells: f64,
    bytes: f64,
    stalls: u64,
    turns: u64,
    /// Most messages handled by one shard, relative to the mean: received, accepted or delivered.
    handled: f64,
    /// Most messages accepted by one shard, relative to the mean.
    accepted: f64,
    /// Instructions of all shards, and of the one with the most.
    total: f64,
    busiest: f64,
}

const HEAD: &str = "shards  requests delivers blocks bells bytes stalls  handled accepted  \
                    instr/msg  busiest  imbalance  speed-up efficiency";

impl Row {
    fn new(run: &Run, instructions: Option<&[u64]>) -> Row {
        let messages = run.messages as f64;
        let per = |number: u64| number as f64 / messages;
        let sum = |of: fn(&Counters) -> u64| run.counters.iter().map(of).sum::<u64>();
        let share = |of: fn(&Counters) -> u64| {
            let most = run.counters.iter().map(of).max().unwrap_or_default();
            most as f64 * run.shards as f64 / sum(of) as f64
        };
        let counts = instructions.unwrap_or_default();
        Row {
            shards: run.shards,
            requests: per(sum(|c| c.forwarded)),
            delivers: per(sum(|c| c.delivered_remote)),
            replies: per(run.traffic.replies),
            blocks: per(run.traffic.request_blocks + run.traffic.deliver_blocks),
            bells: per(run.traffic.bells),
            bytes: per(run.traffic.bytes),
            stalls: sum(|c| c.stalls),
            turns: run.turns,
            handled: share(|c| c.publishes_received + c.messages_accepted + c.deliveries_sent),
            accepted: share(|c| c.messages_accepted),
            total: per(counts.iter().sum()),
            busiest: per(counts.iter().copied().max().unwrap_or_default()),
        }
    }

    /// The shard with the most work, relative to the mean.
    fn imbalance(&self) -> f64 {
        self.busiest * self.shards as f64 / self.total
    }

    fn text(&self, alone: f64) -> String {
        let Row { shards, requests, delivers, blocks, bells, bytes, stalls, .. } = self;
        let Row { handled, accepted, total, busiest, .. } = self;
        let mut text = format!(
            "{shards:6}  {requests:8.2} {delivers:8.2} {blocks:6.2} {bells:5.2} {bytes:5.0} \
             {stalls:6}  {handled:7.2} {accepted:8.2}"
        );
        if *busiest > 0.0 {
            let (imbalance, faster) = (self.imbalance(), alone / busiest);
            let efficiency = 100.0 * faster / *shards as f64;
            let _ = write!(
                text,
                "  {total:9.0} {busiest:8.0} {imbalance:10.2} {faster:9.2} {efficiency:8.0} %"
            );
        }
        text
    }

    fn json(&self, name: &str, alone: f64) -> String {
        let Row { shards, requests, delivers, replies, blocks, bells, bytes, stalls, .. } = self;
        let Row { turns, handled, accepted, total, busiest, .. } = self;
        let mut text = format!(
            "{{\"shape\":\"{name}\",\"shards\":{shards},\"requests\":{requests:.3},\
             \"delivers\":{delivers:.3},\"replies\":{replies:.3},\"blocks\":{blocks:.3},\
             \"bells\":{bells:.3},\"bytes\":{bytes:.1},\"stalls\":{stalls},\"turns\":{turns},\
             \"handled\":{handled:.3},\"accepted\":{accepted:.3}"
        );
        if *busiest > 0.0 {
            let (imbalance, faster) = (self.imbalance(), alone / busiest);
            let _ = write!(
                text,
                ",\"instructions\":{total:.0},\"busiest\":{busiest:.0},\
                 \"imbalance\":{imbalance:.3},\"speed_up\":{faster:.2}"
            );
        }
        text + "}"
    }
}
