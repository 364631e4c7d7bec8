//! What a scenario must satisfy beyond its form. Each fault names its key and what to write.

use super::{Group, Manner, Role, Scenario, Sizes, Transport};
use crate::truth::STAMP_LEN;
use corelane::topic::{TopicFilter, TopicName};

/// Largest payload the protocol can carry with room for headers, bytes.
const PAYLOAD_MAX: usize = 256 << 20;
/// Most clients of one scenario.
const CLIENTS_MAX: usize = 4_000_000;

/// Where a fault is and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The group by position; `None` for keys of the scenario itself.
    pub group: Option<usize>,
    /// The key.
    pub key: &'static str,
    /// What is wrong and what to write instead.
    pub what: String,
}

/// Checks ranges and relations; the first fault in the order of the file's groups.
///
/// # Errors
/// The fault.
pub fn check(scenario: &Scenario) -> Result<(), Fault> {
    scenario_keys(scenario).and_then(|()| door_keys(scenario)).map_err(|(key, what)| Fault {
        group: None,
        key,
        what,
    })?;
    for (at, group) in scenario.groups.iter().enumerate() {
        let fault = |(key, what)| Fault { group: Some(at), key, what };
        group_keys(group).map_err(fault)?;
        refusal(group, scenario).map_err(fault)?;
        load(group).map_err(fault)?;
        topics(group).map_err(fault)?;
    }
    Ok(())
}

type Found = Result<(), (&'static str, String)>;

fn require(holds: bool, key: &'static str, what: &str) -> Found {
    if holds { Ok(()) } else { Err((key, what.to_owned())) }
}

fn scenario_keys(scenario: &Scenario) -> Found {
    let span = |value: f64| value.is_finite() && (0.0..=1e7).contains(&value);
    require(span(scenario.seconds) && scenario.seconds > 0.0, "seconds", "use seconds above 0")?;
    require(span(scenario.warmup_s), "warmup_s", "use 0 or more seconds")?;
    let patient = span(scenario.patience_s) && scenario.patience_s > 0.0;
    require(patient, "patience_s", "use seconds above 0")?;
    let buffer = (1024..=1 << 20).contains(&scenario.recv_buffer_bytes);
    require(buffer, "recv_buffer_bytes", "use 1024 to 1048576")?;
    let named = scenario.user.is_some() || scenario.password.is_none();
    require(named, "password", "a password needs `user`, too")?;
    require(!scenario.groups.is_empty(), "group", "add at least one [[group]]")?;
    let clients = scenario.groups.iter().map(|group| group.count).fold(0, usize::saturating_add);
    require(clients <= CLIENTS_MAX, "group", "use at most 4000000 clients in total")?;
    let names: std::collections::BTreeSet<_> =
        scenario.groups.iter().map(|group| &group.name).collect();
    require(names.len() == scenario.groups.len(), "group", "give each group its own `name`")?;
    let shares = scenario.steps.iter().all(|share| *share > 0.0 && *share <= 1.0);
    require(shares, "steps", "use shares above 0, up to 1")?;
    let searched = scenario.steps.is_empty() || scenario.search.is_some();
    require(searched, "steps", "steps are shares of a rate that [search] finds; add [search]")?;
    if let Some(goal) = &scenario.search {
        let percentile = goal.percentile > 0.0 && goal.percentile < 100.0;
        require(percentile, "search", "use a `percentile` above 0 and below 100")?;
        let positive = goal.latency_ms > 0.0 && goal.start >= 1.0 && goal.seconds > 0.0;
        let what = "`latency_ms`, `start` and `seconds` must be above 0";
        require(positive && goal.tries > 0, "search", what)?;
        let sends = scenario.publishers().next().is_some();
        require(sends, "search", "a search needs a group with role \"publish\"")?;
    }
    Ok(())
}

/// How clients get into the broker.
fn door_keys(scenario: &Scenario) -> Found {
    let encrypted = scenario.transport.is_encrypted();
    for (key, given) in [
        ("ca", scenario.ca.is_some()),
        ("insecure", scenario.insecure),
        ("certificate", scenario.certificate.is_some()),
        ("key", scenario.key.is_some()),
    ] {
        require(encrypted || !given, key, "is for `transport` \"tls\" or \"wss\"")?;
    }
    let named = scenario.server_name.is_none() || scenario.transport != Transport::Tcp;
    require(named, "server_name", "is for `transport` \"tls\", \"ws\" or \"wss\"")?;
    let sure = scenario.ca.is_none() || !scenario.insecure;
    require(sure, "insecure", "with `ca` certificates are verified; leave one of them out")?;
    let both = scenario.certificate.is_some() == scenario.key.is_some();
    require(both, "certificate", "`certificate` and `key` belong together")?;
    let path =
        scenario.path.starts_with('/') && scenario.path.bytes().all(|byte| byte.is_ascii_graphic());
    require(path, "path", "use a path that begins with /, such as /mqtt")
}

fn group_keys(group: &Group) -> Found {
    let plain = !group.name.is_empty() && group.name.len() <= 64;
    require(plain, "name", "give the group a name of at most 64 characters")?;
    require(group.count > 0, "count", "use 1 or more clients")?;
    require(group.qos <= 2, "qos", "use 0, 1 or 2")?;
    let (small, large) = (group.payload.smallest(), group.payload.largest());
    let what = format!("use {STAMP_LEN} bytes or more: the checks need that much");
    require(small >= STAMP_LEN, "payload", &what)?;
    require(large <= PAYLOAD_MAX && large >= small, "payload", "use sizes up to 268435456")?;
    if let Sizes::Weighted { sizes, weights } = &group.payload {
        let alike = sizes.len() == weights.len() && weights.iter().any(|weight| *weight > 0);
        require(alike, "payload", "give each of `sizes` one of `weights`, not all of them 0")?;
    }
    let unique = group.client_id.as_ref().is_none_or(|id| group.count == 1 || id.contains("{i}"));
    require(unique, "client_id", "several clients need `{i}` in their identifier")?;
    if let Some(will) = &group.will {
        let topic = TopicName::new(&expand_sample(&will.topic)).is_ok();
        require(topic && will.qos <= 2, "will", "use a `topic` without wildcards, `qos` 0 to 2")?;
    }
    let away = group.offline_at_s >= 0.0 && group.offline_s >= 0.0 && group.storm_every_s >= 0.0;
    require(away, "offline_s", "use 0 or more seconds")?;
    let rare = |value: f64| value.is_finite() && (value == 0.0 || value >= 0.001);
    require(rare(group.takeover_every_s), "takeover_every_s", "use 0, or 0.001 s or more")?;
    require(rare(group.unsubscribe_every_s), "unsubscribe_every_s", "use 0, or 0.001 s or more")?;
    let alone = group.role == Role::Subscribe && group.share.is_none();
    let what = "only subscribers without `share` can unsubscribe";
    require(alone || group.unsubscribe_every_s == 0.0, "unsubscribe_every_s", what)?;
    let left = group.offline_at_s == 0.0 || group.offline_s > 0.0;
    require(left, "offline_at_s", "say with `offline_s` how long the clients stay away")
}

/// Clients that must not get in.
fn refusal(group: &Group, scenario: &Scenario) -> Found {
    let named = group.password.is_none() || group.user.is_some() || scenario.user.is_some();
    require(named, "password", "a password needs `user`, too")?;
    let what = "is for groups with role \"idle\"";
    require(!group.expects_refusal || group.role == Role::Idle, "expects_refusal", what)?;
    let plain = group.manner == Manner::Connect;
    require(plain || group.expects_refusal, "manner", "is for groups with `expects_refusal`")?;
    let layers = scenario.transport != Transport::Tcp;
    let bare = plain || group.manner == Manner::Noise || layers;
    require(bare, "manner", "handshakes need `transport` \"tls\", \"ws\" or \"wss\"")
}

fn load(group: &Group) -> Found {
    let rate = group.rate.is_none_or(|rate| rate.is_finite() && rate > 0.0 && rate <= 1e8);
    require(rate, "rate", "use messages per second above 0; leave it out for a closed loop")?;
    let open = group.rate.is_some();
    require(open || group.ramp_s == 0.0, "ramp_s", "a ramp needs `rate`")?;
    require(group.ramp_s >= 0.0, "ramp_s", "use 0 or more seconds")?;
    require(!open || group.think_ms == 0, "think_ms", "with `rate` the rate sets the pauses")?;
    let burst = (group.on_ms == 0) == (group.off_ms == 0);
    require(burst, "on_ms", "bursts need both `on_ms` and `off_ms`")?;
    require((1..=4096).contains(&group.batch), "batch", "use 1 to 4096")?;
    require((1..=65_535).contains(&group.inflight), "inflight", "use 1 to 65535")?;
    let dial = group.connect_rate.is_finite() && group.connect_rate >= 0.0;
    require(dial, "connect_rate", "use connects per second; 0 is as fast as answers come")?;
    require(group.connecting > 0, "connecting", "use 1 or more")
}

/// A pattern with its places filled, as a sample to check.
fn expand_sample(pattern: &str) -> String {
    pattern.replace("{i}", "0").replace("{n}", "0").replace("{random}", "0")
}

fn topics(group: &Group) -> Found {
    if group.role == Role::Idle {
        return Ok(());
    }
    require(!group.topics.is_empty(), "topics", "name at least one topic, such as \"load/{i}\"")?;
    require((1..=1_000_000).contains(&group.topic_count), "topic_count", "use 1 to 1000000")?;
    require((0.0..=10.0).contains(&group.zipf), "zipf", "use 0 to 10")?;
    for pattern in &group.topics {
        let sample = expand_sample(pattern);
        let valid = match group.role {
            Role::Publish => TopicName::new(&sample).is_ok(),
            _ => TopicFilter::new(&sample).is_ok(),
        };
        let shared = sample.starts_with("$share/");
        require(!shared, "topics", "write the filter plainly and the group in `share`")?;
        let what = format!("`{pattern}` is not valid: publishers need topics without wildcards");
        require(valid, "topics", &what)?;
    }
    let share = group.share.as_ref().is_none_or(|name| {
        !name.is_empty() && !name.contains(['/', '+', '#']) && group.role == Role::Subscribe
    });
    require(share, "share", "use a name without / + # in a group that subscribes")
}
