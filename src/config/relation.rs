//! What must hold between two keys, and between entries of one list.

use super::choice::{RetainFlag, TopicAction};
use super::fault::Fault;
use super::read::Scan;
use super::{AclRule, Choice, Config, Cpus, ListenerConfig};
use crate::topic::{Captures, Identity, Subscription};
use std::collections::BTreeMap;

/// One side of a comparison: a sum or product of keys.
struct Side {
    text: &'static str,
    keys: &'static [&'static str],
    value: fn(&Config) -> usize,
}

/// `small` may not exceed `large`.
struct AtMost {
    small: Side,
    large: Side,
    why: &'static str,
}

/// A side that is a single key.
macro_rules! key {
    ($section:ident . $field:ident) => {
        Side {
            text: concat!(stringify!($section), ".", stringify!($field)),
            keys: &[concat!(stringify!($section), ".", stringify!($field))],
            value: |config| config.$section.$field,
        }
    };
}

/// What one core takes before the first client connects.
pub fn fixed_bytes(config: &Config) -> usize {
    let runtime = &config.runtime;
    let buffers = runtime.recv_buffers * runtime.recv_buffer_bytes;
    buffers + runtime.mesh_bytes + config.limits.match_cache_bytes
}

const RELATIONS: &[AtMost] = &[
    AtMost {
        small: key!(limits.packet_bytes),
        large: key!(limits.unfinished_bytes),
        why: "the largest packet could never be completed",
    },
    AtMost {
        small: key!(limits.packet_bytes),
        large: key!(session.outbox_bytes),
        why: "the largest message could never wait for a session",
    },
    AtMost {
        small: key!(runtime.recv_buffer_bytes),
        large: key!(limits.staging_bytes),
        why: "a pausing connection could not keep the rest of one buffer",
    },
    AtMost {
        small: key!(limits.answer_bytes),
        large: key!(limits.out_buffer_bytes),
        why: "the reserve would be larger than what it is a reserve of",
    },
    AtMost {
        small: key!(topics.depth),
        large: key!(limits.topic_levels),
        why: "no topic has that many levels",
    },
    AtMost {
        small: Side {
            text: "runtime.block_bytes × runtime.ring_blocks",
            keys: &["runtime.block_bytes", "runtime.ring_blocks"],
            value: |config| config.runtime.block_bytes * config.runtime.ring_blocks,
        },
        large: key!(runtime.mesh_bytes),
        why: "the pool could not fill one ring",
    },
    AtMost {
        small: Side {
            text: "runtime.stall_warn_ms",
            keys: &["runtime.stall_warn_ms"],
            value: |config| config.runtime.stall_warn_ms as usize,
        },
        large: Side {
            text: "runtime.stall_abort_s in ms",
            keys: &["runtime.stall_abort_s"],
            value: |config| match config.runtime.stall_abort_s {
                0 => usize::MAX,
                seconds => seconds as usize * 1000,
            },
        },
        why: "the process would end before the warning",
    },
];

/// Files a fault for each relation that does not hold. A relation with a faulty key is skipped:
/// its value is not what was meant.
pub fn check(config: &Config, scan: &mut Scan) {
    for relation in RELATIONS {
        at_most(relation, config, scan);
    }
    super::doors::check(config, scan);
    super::providers::check(config, scan);
    lobbies(config, scan);
    versions(config, scan);
    bursts(config, scan);
    pinned_shards(config, scan);
    housekeeping(config, scan);
    rewrites(config, scan);
    check_acl(&config.acl, &config.listeners, scan);
    bans(config, scan);
    groups(config, scan);
    auto_subscriptions(config, scan);
    let topics = &config.topics;
    let prefixes = topics.r#override.iter().map(|rule| rule.prefix.as_str());
    unique(prefixes, "topics.override", "prefix", scan);
    unique(topics.pin.iter().map(|rule| rule.prefix.as_str()), "topics.pin", "prefix", scan);
    unique(topics.route.iter().map(|rule| rule.prefix.as_str()), "topics.route", "prefix", scan);
    unique(topics.share.iter().map(|rule| rule.group.as_str()), "topics.share", "group", scan);
    let listeners = &config.listeners;
    unique(listeners.iter().map(|listener| listener.name.as_str()), "listener", "name", scan);
    // Port 0 asks the kernel for a free port each time.
    let addresses: Vec<String> = (0..).zip(listeners).map(address).collect();
    unique(addresses.iter().map(String::as_str), "listener", "address", scan);
}

fn address((at, listener): (usize, &super::ListenerConfig)) -> String {
    match listener.address.port() {
        _ if listener.unix_path.given().is_some() => listener.place(),
        0 => format!("{} #{at}", listener.address),
        _ => listener.address.to_string(),
    }
}

fn at_most(relation: &AtMost, config: &Config, scan: &mut Scan) {
    let AtMost { small, large, why } = relation;
    let (needed, held) = ((small.value)(config), (large.value)(config));
    let keys = || small.keys.iter().chain(large.keys);
    if needed <= held || keys().any(|key| scan.is_faulty(key)) {
        return;
    }
    let written = keys().filter_map(|key| scan.line_of(key).map(|line| (line, *key)));
    let (line, key) = match written.max() {
        Some((line, key)) => (Some(line), key),
        None => (None, large.keys[0]),
    };
    let reason = format!("{} ({needed}) exceeds {} ({held}): {why}", small.text, large.text);
    let remedy = format!("raise {} or lower {}", large.keys[0], small.keys.join(" or "));
    scan.file(Fault { line, key: key.into(), reason, remedy });
}

fn lobbies(config: &Config, scan: &mut Scan) {
    for (at, listener) in config.listeners.iter().enumerate() {
        let path = format!("listener[{at}]");
        let (lobby, most) = (listener.lobby, listener.max_connections);
        if lobby > most && !scan.is_faulty(&path) {
            let reason = format!("lobby ({lobby}) exceeds max_connections ({most})");
            let remedy = "lower lobby or raise max_connections".into();
            let keys = [format!("{path}.lobby"), format!("{path}.max_connections")];
            let line = keys.iter().filter_map(|key| scan.line_of(key)).max();
            scan.file(Fault { line, key: keys[0].clone(), reason, remedy });
        }
    }
}

fn versions(config: &Config, scan: &mut Scan) {
    for (at, listener) in config.listeners.iter().enumerate() {
        let path = format!("listener[{at}]");
        let (least, most) = (listener.min_version, listener.max_version);
        if least as u8 > most as u8 && !scan.is_faulty(&path) {
            let (least, most) = (least.word(), most.word());
            let reason = format!("min_version ({least}) is above max_version ({most})");
            let remedy = "lower min_version or raise max_version".into();
            let keys = [format!("{path}.min_version"), format!("{path}.max_version")];
            let line = keys.iter().filter_map(|key| scan.line_of(key)).max();
            scan.file(Fault { line, key: keys[0].clone(), reason, remedy });
        }
    }
}

/// A burst without a rate limits nothing, which nobody means.
fn bursts(config: &Config, scan: &mut Scan) {
    for (at, listener) in config.listeners.iter().enumerate() {
        let pairs = [
            ("messages", listener.messages_burst, listener.messages_per_s),
            ("bytes", listener.bytes_burst, listener.bytes_per_s),
        ];
        for (what, burst, rate) in pairs {
            let (key, rate_key) =
                (format!("listener[{at}].{what}_burst"), format!("listener[{at}].{what}_per_s"));
            if burst > 0 && rate == 0 && !scan.is_faulty(&key) && !scan.is_faulty(&rate_key) {
                let reason = format!("a burst without {what}_per_s limits nothing");
                let remedy = format!("write {what}_per_s as well, or leave {what}_burst out");
                scan.file(Fault { line: scan.line_of(&key), key, reason, remedy });
            }
        }
    }
}

/// Every shard that `config` names, with the path of its key: pins of topics and of clients, and
/// the shards of listeners.
pub fn named_shards(config: &Config) -> Vec<(String, usize)> {
    let topics = config.topics.pin.iter().map(|rule| rule.shard).enumerate();
    let clients = config.session.pin.iter().map(|rule| rule.shard).enumerate();
    let listeners = config.listeners.iter().enumerate();
    let listeners = listeners.flat_map(|(at, listener)| {
        let key = format!("listener[{at}].shards");
        listener.shards.as_slice().iter().map(move |shard| (key.clone(), *shard))
    });
    topics
        .map(|(at, shard)| (format!("topics.pin[{at}].shard"), shard))
        .chain(clients.map(|(at, shard)| (format!("session.pin[{at}].shard"), shard)))
        .chain(listeners)
        .collect()
}

fn pinned_shards(config: &Config, scan: &mut Scan) {
    let shards = config.runtime.shards;
    for (key, shard) in named_shards(config) {
        if shards != 0 && shard >= shards && !scan.is_faulty(&key) {
            let reason = format!("there is no shard {shard}, runtime.shards is {shards}");
            let remedy = format!("use 0..={} or raise runtime.shards", shards - 1);
            scan.file(Fault { line: scan.line_of(&key), key, reason, remedy });
        }
    }
}

fn housekeeping(config: &Config, scan: &mut Scan) {
    let key = "runtime.housekeeping";
    let Cpus::List(cpus) = &config.runtime.cpus else { return };
    let kept = config.runtime.housekeeping.as_slice().iter().find(|cpu| cpus.contains(cpu));
    if let Some(cpu) = kept {
        let reason = format!("CPU {cpu} is to carry a shard, runtime.cpus names it");
        let remedy = "name it in one of the two".into();
        scan.file(Fault { line: scan.line_of(key), key: key.into(), reason, remedy });
    }
}

/// Files a fault for each rule about access that does not say what it means.
pub fn check_acl(rules: &[AclRule], listeners: &[ListenerConfig], scan: &mut Scan) {
    for (at, rule) in rules.iter().enumerate() {
        let path = format!("acl[{at}]");
        if scan.is_faulty(&path) {
            continue;
        }
        let mut file = |key: &str, reason: &str, remedy: &str| {
            let key = format!("{path}{key}");
            let (line, reason) = (scan.line_of(&key), reason.to_owned());
            scan.file(Fault { line, key, reason, remedy: remedy.into() });
        };
        if rule.topics.as_slice().is_empty() {
            file("", "topics is missing", "add topics = [\"#\"] or those that are meant");
        }
        if rule.anonymous
            && !(rule.users.as_slice().is_empty() && rule.groups.as_slice().is_empty())
        {
            file(".anonymous", "anonymous clients have no user and no group", "leave one out");
        }
        if rule.qos.as_slice().iter().any(|qos| *qos > 2) {
            file(".qos", "there are QoS 0, 1 and 2", "use some of [0, 1, 2]");
        }
        if rule.retain != RetainFlag::Any && rule.action != TopicAction::Publish {
            file(".retain", "only PUBLISH has RETAIN", "write action = \"publish\" as well");
        }
        let known = |name: &str| listeners.iter().any(|l| l.name.as_str() == name);
        if let Some(name) = rule.listeners.as_slice().iter().find(|name| !known(name)) {
            // Such a rule would never apply.
            let reason = format!("there is no listener \"{name}\"");
            file(".listeners", &reason, "name one of [[listener]]");
        }
    }
}

/// A ban that names nobody would be for everybody.
fn bans(config: &Config, scan: &mut Scan) {
    for (at, ban) in config.ban.iter().enumerate() {
        let named = !ban.users.as_slice().is_empty()
            || !ban.clients.as_slice().is_empty()
            || !ban.networks.as_slice().is_empty();
        let key = format!("ban[{at}]");
        if !named && !scan.is_faulty(&key) {
            let (reason, remedy) = ("it names nobody", "write users, clients or networks");
            let line = scan.line_of(&key);
            scan.file(Fault { line, key, reason: reason.into(), remedy: remedy.into() });
        }
    }
}

fn groups(config: &Config, scan: &mut Scan) {
    for (at, group) in config.group.iter().enumerate() {
        let key = format!("group[{at}]");
        let whole = group.name.given().is_some() && !group.users.as_slice().is_empty();
        if !whole && !scan.is_faulty(&key) {
            let (reason, remedy) = ("it has no name or no users", "write name and users");
            let line = scan.line_of(&key);
            scan.file(Fault { line, key, reason: reason.into(), remedy: remedy.into() });
        }
    }
    unique(config.group.iter().map(|group| group.name.as_str()), "group", "name", scan);
}

fn rewrites(config: &Config, scan: &mut Scan) {
    for (at, rule) in config.topics.rewrite.iter().enumerate() {
        let path = format!("topics.rewrite[{at}]");
        let held = rule.filter.as_str().split('/').filter(|l| matches!(*l, "+" | "#")).count();
        let named = rule.to.captures();
        if named > held && !scan.is_faulty(&path) {
            let filter = rule.filter.as_str();
            let reason = format!("${named} is named, and \"{filter}\" has {held} wildcards");
            let remedy = "name a wildcard of the filter, counted from $1".into();
            let key = format!("{path}.to");
            scan.file(Fault { line: scan.line_of(&key), key, reason, remedy });
        }
    }
}

fn auto_subscriptions(config: &Config, scan: &mut Scan) {
    for (at, rule) in config.session.auto_subscribe.iter().enumerate() {
        let path = format!("session.auto_subscribe[{at}]");
        if scan.is_faulty(&path) {
            continue;
        }
        let text = rule.filter.as_str();
        // A name fills its place as a part of one level, so any name shows what is made.
        let client = Identity { client_id: "c", user_name: Some("u") };
        let filled = rule.filter.fill(&client, &Captures::default()).unwrap_or_default();
        let (key, reason, remedy) = match Subscription::parse(&filled) {
            _ if text.is_empty() => ("", "filter is missing".to_owned(), "add filter = …"),
            _ if rule.filter.captures() > 0 => {
                let reason = format!("\"{text}\" names a capture, and nothing is captured here");
                (".filter", reason, "use %c and %u, and $$ for the sign itself")
            }
            Err(error) => {
                let reason = format!("\"{text}\" makes no filter: {}", error.what);
                (".filter", reason, "write a topic filter such as \"clients/%c/#\"")
            }
            Ok(Subscription::Shared { .. }) if rule.no_local => {
                let reason = format!("\"{text}\" is shared, where MQTT forbids no local");
                (".no_local", reason, "leave out no_local")
            }
            Ok(_) => continue,
        };
        let key = format!("{path}{key}");
        let line = scan.line_of(&key).or(scan.line_of(&path));
        scan.file(Fault { line, key, reason, remedy: remedy.into() });
    }
}

/// Files a fault for each entry of `list` whose `key` an earlier entry has as well.
fn unique<'c>(values: impl Iterator<Item = &'c str>, list: &str, key: &str, scan: &mut Scan) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, value) in values.enumerate() {
        let path = format!("{list}[{at}]");
        if scan.is_wrong(&path) || scan.is_faulty(&format!("{path}.{key}")) {
            continue;
        }
        if let Some(earlier) = seen.insert(value, at) {
            let first = scan.line_of(&format!("{list}[{earlier}]"));
            let place = first.map_or(String::new(), |line| format!(" on line {line}"));
            let reason = format!("an earlier entry{place} has the {key} \"{value}\" already");
            let line = scan.line_of(&format!("{path}.{key}")).or(scan.line_of(&path));
            let remedy = format!("give it another {key}, or leave one entry out");
            scan.file(Fault { line, key: format!("{path}.{key}"), reason, remedy });
        }
    }
}
