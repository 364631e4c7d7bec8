//! The `$SYS` tree: which topics there are and what their payloads say. docs/OPERATING.md lists
//! them.

use super::counters::{Counters, DropCause};
use super::load::{Load, WINDOWS};
use super::skew::Owned;
use super::stats::{Gauges, Snapshot};
use crate::base::ShardId;
use std::fmt::Display;

/// The counters whose growth is averaged, in the order of [`loads`].
const LOADS: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "connections",
    "sockets",
];

/// The averages that the tree shows.
pub type Loads = Load<{ LOADS.len() }>;

/// One topic with its payload.
pub type Line = (String, String);

/// Whether only the broker itself may publish to `topic`.
#[inline]
pub fn is_reserved(topic: &str) -> bool {
    topic.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the shell knows of the process.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HostFigures {
    /// Seconds since the beginning of 1970.
    pub unix_s: u64,
    /// Memory of the process that is in RAM, in bytes.
    pub memory_bytes: u64,
    /// Threads of the process.
    pub threads: u64,
}

/// What the topics of the whole broker tell.
pub struct Overview<'a> {
    /// Seconds since the start.
    pub uptime_s: u64,
    /// How many cores there are.
    pub cores: usize,
    /// What the shell knows.
    pub host: HostFigures,
    /// The sum over all cores.
    pub sum: &'a Snapshot,
    /// Most clients ever connected at one time.
    pub clients_maximum: u64,
    /// Averages of [`loads`].
    pub load: &'a Loads,
}

/// The counters to be averaged.
pub fn loads(counters: &Counters) -> [u64; LOADS.len()] {
    [
        counters.packets_received,
        counters.packets_sent(),
        counters.publishes_received,
        counters.publishes_sent,
        counters.dropped_total(),
        counters.bytes_received,
        counters.bytes_sent,
        counters.connects,
        counters.connections_opened.saturating_sub(counters.handed_over),
    ]
}

struct Lines {
    prefix: String,
    lines: Vec<Line>,
}

impl Lines {
    fn add(&mut self, name: &str, value: impl Display) {
        self.lines.push((format!("{}{name}", self.prefix), value.to_string()));
    }

    fn drops(&mut self, counters: &Counters) {
        for cause in DropCause::ALL {
            let name = format!("drops/{}", cause.label());
            self.add(&name, counters.drops[cause as usize]);
            self.add(&format!("{name}/bytes"), counters.drop_bytes[cause as usize]);
        }
    }
}

/// The topics of the whole broker.
pub fn broker(view: &Overview<'_>) -> Vec<Line> {
    let Overview { host, sum, .. } = view;
    let Snapshot { counters, gauges } = sum;
    let mut out = Lines { prefix: "$SYS/broker/".into(), lines: Vec::new() };
    out.add("version", concat!("corelane ", env!("CARGO_PKG_VERSION")));
    out.add("time", host.unix_s);
    out.add("uptime", view.uptime_s);
    out.add("started", host.unix_s.saturating_sub(view.uptime_s));
    out.add("load/bytes/received", counters.bytes_received);
    out.add("load/bytes/sent", counters.bytes_sent);
    out.add("clients/connected", gauges.connected);
    out.add("clients/disconnected", gauges.sessions.saturating_sub(gauges.connected));
    out.add("clients/maximum", view.clients_maximum);
    out.add("clients/total", gauges.sessions);
    out.add("packets/received", counters.packets_received);
    out.add("packets/sent", counters.packets_sent());
    out.add("messages/received", counters.publishes_received);
    out.add("messages/sent", counters.publishes_sent);
    out.add("messages/dropped", counters.dropped_total());
    out.add("messages/inflight", gauges.inflight);
    out.add("retained", gauges.retained);
    out.add("subscriptions", gauges.subscriptions);
    out.add("system/memory", host.memory_bytes);
    out.add("system/threads", host.threads);
    out.add("system/cores", view.cores);
    out.drops(counters);
    for (at, name) in LOADS.iter().enumerate() {
        for (average, (_, window)) in view.load.averages(at).iter().zip(WINDOWS) {
            out.add(&format!("load/{name}/{window}"), format_args!("{average:.2}"));
        }
    }
    out.lines
}

/// The topics of one core; `before` is its snapshot of the interval before.
pub fn core(
    shard: ShardId,
    now: &Snapshot,
    before: &Gauges,
    slowest: &[(String, u64)],
) -> Vec<Line> {
    let Snapshot { counters, gauges } = now;
    let prefix = format!("$SYS/broker/cores/{}/", shard.0);
    let mut out = Lines { prefix, lines: Vec::new() };
    let spent = |word: fn(&Gauges) -> u64| word(gauges).saturating_sub(word(before));
    let parts = [spent(|g| g.busy_us), spent(|g| g.polled_us), spent(|g| g.asleep_us)];
    let whole = parts.iter().sum::<u64>().max(1) as f64;
    for (name, part) in ["busy", "polling", "sleeping"].iter().zip(parts) {
        out.add(&format!("share/{name}"), format_args!("{:.4}", part as f64 / whole));
    }
    out.add("lag_us_max", gauges.lag_us_max);
    out.add("lag_us", gauges.lag_us);
    out.add("overloads", counters.overloads);
    out.add("blocks/request", gauges.request_blocks);
    out.add("blocks/deliver", gauges.deliver_blocks);
    out.add("blocks/limit", gauges.blocks_limit);
    out.add("waiting", gauges.waiting);
    out.add("stalls", counters.stalls);
    out.add("connections", gauges.connections);
    out.add("clients/connected", gauges.connected);
    out.add("sessions", gauges.sessions);
    out.add("subscriptions", gauges.subscriptions);
    out.add("inflight", gauges.inflight);
    out.add("retained", gauges.retained);
    out.add("messages/received", counters.publishes_received);
    out.add("messages/sent", counters.publishes_sent);
    out.add("messages/accepted", counters.messages_accepted);
    out.add("messages/forwarded", counters.forwarded);
    out.add("bytes/received", counters.bytes_received);
    out.add("bytes/sent", counters.bytes_sent);
    out.add("bytes/unfinished", gauges.unfinished_bytes);
    out.add("bytes/unsent", gauges.unsent_bytes);
    out.add("bytes/retained", gauges.retained_bytes);
    out.add("bytes/held", gauges.held_bytes);
    out.drops(counters);
    // An empty payload takes the line of an earlier interval back.
    for place in 0..super::slow::PLACES {
        let told = slowest.get(place).map(|(client_id, missed)| format!("{missed} {client_id}"));
        out.add(&format!("slow/{}", place + 1), told.unwrap_or_default());
    }
    out.lines
}

/// The topics of one core about what it owns.
pub fn owned(shard: ShardId, owned: &Owned) -> Vec<Line> {
    let prefix = format!("$SYS/broker/cores/{}/owned/", shard.0);
    let mut out = Lines { prefix, lines: Vec::new() };
    let whole = owned.sampled.max(1) as f64;
    out.add("sampled", owned.sampled);
    for (name, list) in [("", &owned.subtrees), ("deeper/", &owned.deeper)] {
        // An empty payload takes the line of an earlier interval back.
        for place in 0..super::skew::TOLD {
            let share = |(prefix, weight): &(String, u64)| {
                format!("{:.4} {prefix}", *weight as f64 / whole)
            };
            let told = list.get(place).map(share).unwrap_or_default();
            out.add(&format!("{name}{}", place + 1), told);
        }
    }
    out.lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::TopicName;
    use std::collections::BTreeMap;

    fn tree(lines: Vec<Line>) -> BTreeMap<String, String> {
        let count = lines.len();
        let tree: BTreeMap<_, _> = lines.into_iter().collect();
        assert_eq!(tree.len(), count, "no topic comes twice");
        assert!(tree.keys().all(|topic| TopicName::new(topic).is_ok() && is_reserved(topic)));
        tree
    }

    #[test]
    fn the_tree_has_the_topics_that_dashboards_ask_for() {
        let mut sum = Snapshot::default();
        (sum.gauges.sessions, sum.gauges.connected) = (5, 3);
        (sum.counters.publishes_sent, sum.counters.answers_sent) = (7, 4);
        let host = HostFigures { unix_s: 1000, memory_bytes: 4096, threads: 3 };
        let load = Loads::default();
        let tree = tree(broker(&Overview {
            uptime_s: 10,
            cores: 2,
            host,
            sum: &sum,
            clients_maximum: 4,
            load: &load,
        }));
        let expected = [
            ("version", concat!("corelane ", env!("CARGO_PKG_VERSION"))),
            ("time", "1000"),
            ("uptime", "10"),
            ("started", "990"),
            ("load/bytes/received", "0"),
            ("load/bytes/sent", "0"),
            ("clients/connected", "3"),
            ("clients/disconnected", "2"),
            ("clients/maximum", "4"),
            ("clients/total", "5"),
            ("packets/received", "0"),
            ("packets/sent", "11"),
            ("messages/received", "0"),
            ("messages/sent", "7"),
            ("messages/dropped", "0"),
            ("messages/inflight", "0"),
            ("retained", "0"),
            ("subscriptions", "0"),
            ("system/memory", "4096"),
            ("system/threads", "3"),
            ("system/cores", "2"),
        ];
        for (name, value) in expected {
            assert_eq!(tree[&format!("$SYS/broker/{name}")], value, "{name}");
        }
        assert_eq!(tree.keys().filter(|topic| topic.ends_with("min")).count(), 27);
        assert_eq!(tree["$SYS/broker/load/publish/dropped/15min"], "0.00");
    }

    #[test]
    fn shares_are_those_of_the_last_interval() {
        let mut now = Snapshot::default();
        (now.gauges.busy_us, now.gauges.polled_us, now.gauges.asleep_us) = (400, 100, 1100);
        let before = Gauges { busy_us: 100, asleep_us: 500, ..Gauges::default() };
        let slowest = [("sensor 7".to_owned(), 12)];
        let tree = tree(core(ShardId(3), &now, &before, &slowest));
        assert_eq!(tree["$SYS/broker/cores/3/slow/1"], "12 sensor 7");
        assert_eq!(tree["$SYS/broker/cores/3/slow/8"], "", "nobody: what was there is cleared");
        let share = |name: &str| tree[&format!("$SYS/broker/cores/3/share/{name}")].clone();
        assert_eq!(
            [share("busy"), share("polling"), share("sleeping")],
            ["0.3000", "0.1000", "0.6000"]
        );
        assert_eq!(tree["$SYS/broker/cores/3/drops/offline"], "0");
    }

    #[test]
    fn subtrees_are_told_with_their_shares_and_taken_back() {
        let list = vec![("plant/line 7".to_owned(), 30), ("a".to_owned(), 10)];
        let owned = Owned { sampled: 40, subtrees: list, deeper: Vec::new() };
        let tree = tree(super::owned(ShardId(1), &owned));
        let told = |name: &str| tree[&format!("$SYS/broker/cores/1/owned/{name}")].clone();
        assert_eq!(
            [told("sampled"), told("1"), told("2")],
            ["40", "0.7500 plant/line 7", "0.2500 a"]
        );
        assert_eq!([told("3"), told("deeper/1"), told("deeper/8")], ["", "", ""]);
    }

    #[test]
    fn only_the_tree_itself_is_reserved() {
        for topic in ["$SYS", "$SYS/", "$SYS/broker/uptime"] {
            assert!(is_reserved(topic), "{topic}");
        }
        for topic in ["", "SYS/x", "$SYSTEM", "$sys/x", "a/$SYS/x"] {
            assert!(!is_reserved(topic), "{topic}");
        }
    }
}
