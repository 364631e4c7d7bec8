//! What a shard is told at its start, and what of that can change while it runs.

use super::placement::{Placement, Route, Rule};
use super::stats::Board;
use crate::access::{Network, Policy, Tolerance, is_within};
use crate::base::{Rate, ShardId};
use crate::codec::{ReasonCode, Version};
use crate::config::{
    Config, LimitsConfig, ListenerConfig, ProtocolConfig, ProtocolVersion, Redirect,
    Route as ConfiguredRoute, SessionConfig, TopicsConfig,
};
use crate::index::Strategies;
use crate::session::{OutboxLimits, Overflow};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Budgets of one tick, so that no source of work starves another.
#[derive(Clone, Copy, Debug)]
pub struct TickBudget {
    /// Deliveries to local subscribers per tick; a larger fan-out spans ticks.
    pub targets: usize,
    /// Message bytes that one source may route before the next one has its turn.
    pub turn_bytes: usize,
    /// So many plain subscribers of one filter on one core are a crowd, which all cores know of.
    pub crowd: usize,
}

impl Default for TickBudget {
    fn default() -> TickBudget {
        TickBudget { targets: 8192, turn_bytes: 64 * 1024, crowd: 512 }
    }
}

/// Settings of a shard, the same on all of them. Pure value.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which boot of the process this is; part of every message id.
    pub epoch: u32,
    /// Seed of the shard's own choices (assigned client ids, rotation starts).
    pub seed: u64,
    /// Ownership.
    pub placement: Arc<Placement>,
    /// What a session may hold.
    pub session: SessionConfig,
    /// Which parts of the protocol are offered.
    pub protocol: ProtocolConfig,
    /// What topics mean beyond the standard. Ownership comes from `placement`.
    pub topics: TopicsConfig,
    /// Ceilings on everything else.
    pub limits: LimitsConfig,
    /// How share groups choose.
    pub share: Strategies,
    /// Tick budgets.
    pub tick: TickBudget,
    /// Names of the listeners, for the log.
    pub listener_names: Arc<[Box<str>]>,
    /// What clients may do, and whether they are asked who they are.
    pub policy: Arc<Policy>,
    /// Whom the listeners let in.
    pub doors: Doors,
    /// Microseconds between two rounds of `$SYS` messages; 0 means none.
    pub sys_interval_us: u64,
    /// Where the cores put their figures.
    pub board: Arc<Board>,
}

/// What a running shard takes over when the configuration changes. Pure value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    /// What a session may hold.
    pub session: SessionConfig,
    /// What topics mean beyond the standard; ownership and share groups stay as they are.
    pub topics: TopicsConfig,
    /// Ceilings on everything else; those on the memory of a core and on its match cache stay as
    /// they are.
    pub limits: LimitsConfig,
    /// What clients may do, and whether they are asked who they are.
    pub policy: Arc<Policy>,
    /// Whom the listeners let in.
    pub doors: Doors,
}

/// Whom each listener lets in, and how many of them. Pure value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Doors {
    /// Whether clients without credentials come in.
    pub anonymous: Vec<bool>,
    /// Most connections of one core.
    pub max_connections: Vec<usize>,
    /// Time until the CONNECT has to be there, µs.
    pub connect_deadlines_us: Vec<u64>,
    /// Most connections without a CONNECT on one core, over all listeners.
    pub lobby: usize,
    /// What clients may do.
    pub rules: Vec<ListenerRules>,
}

impl From<&[ListenerConfig]> for Doors {
    fn from(listeners: &[ListenerConfig]) -> Doors {
        let deadline = |one: &ListenerConfig| u64::from(one.connect_deadline_ms) * 1000;
        Doors {
            anonymous: listeners.iter().map(|one| one.allow_anonymous).collect(),
            max_connections: listeners.iter().map(|one| one.max_connections).collect(),
            connect_deadlines_us: listeners.iter().map(deadline).collect(),
            lobby: listeners.iter().map(|one| one.lobby).sum(),
            rules: listeners.iter().map(ListenerRules::from).collect(),
        }
    }
}

/// What the clients of one listener may do. Pure value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerRules {
    /// Versions that are served.
    pub versions: RangeInclusive<Version>,
    /// Clients are refused with this reason.
    pub redirect: Option<ReasonCode>,
    /// Connections that one core accepts.
    pub connects: Option<Rate>,
    /// Connections from one address within a second that are too many for one core.
    pub address_connects: Tolerance,
    /// Proxies: they tell whose connections they bring, and their own addresses say nothing.
    pub proxies: Arc<[Network]>,
    /// PUBLISH packets of one connection.
    pub messages: Option<Rate>,
    /// Bytes of one connection.
    pub bytes: Option<Rate>,
    /// Networks that connections may come from; none: all.
    pub allow: Arc<[Network]>,
    /// Networks that they may not come from, even so.
    pub deny: Arc<[Network]>,
}

impl ListenerRules {
    /// Whether a connection may come from `address`.
    pub fn lets_in(&self, address: IpAddr) -> bool {
        let allowed = self.allow.is_empty() || is_within(&self.allow, address);
        allowed && !is_within(&self.deny, address)
    }
}

impl Default for ListenerRules {
    fn default() -> ListenerRules {
        ListenerRules::from(&ListenerConfig::default())
    }
}

impl From<&ListenerConfig> for ListenerRules {
    fn from(listener: &ListenerConfig) -> ListenerRules {
        let version = |configured| match configured {
            ProtocolVersion::Old => Version::V31,
            ProtocolVersion::Three => Version::V311,
            ProtocolVersion::Five => Version::V5,
        };
        ListenerRules {
            versions: version(listener.min_version)..=version(listener.max_version),
            redirect: match listener.redirect {
                Redirect::None => None,
                Redirect::UseAnother => Some(ReasonCode::USE_ANOTHER_SERVER),
                Redirect::Moved => Some(ReasonCode::SERVER_MOVED),
            },
            connects: Rate::new(listener.connects_per_s, 0),
            address_connects: Tolerance {
                most: match listener.address_connects_per_s {
                    0 => 0,
                    allowed => allowed.saturating_add(1),
                },
                window_s: 1,
                ban_s: 1,
            },
            proxies: [&listener.proxy_from, &listener.websocket_proxies]
                .iter()
                .flat_map(|networks| networks.as_slice().iter().copied())
                .collect(),
            messages: Rate::new(listener.messages_per_s, listener.messages_burst),
            bytes: Rate::new(listener.bytes_per_s, listener.bytes_burst),
            allow: listener.allow_networks.as_slice().into(),
            deny: listener.deny_networks.as_slice().into(),
        }
    }
}

impl Settings {
    /// Settings with every default, for `placement`.
    pub fn new(placement: Placement) -> Settings {
        let board = Arc::new(Board::new(placement.shards()));
        Settings {
            epoch: 1,
            seed: 1,
            placement: Arc::new(placement),
            session: SessionConfig::default(),
            protocol: ProtocolConfig::default(),
            topics: TopicsConfig::default(),
            limits: LimitsConfig::default(),
            share: Strategies::default(),
            tick: TickBudget::default(),
            listener_names: Arc::from([Box::from("tcp")]),
            policy: Arc::default(),
            doors: Doors {
                max_connections: vec![usize::MAX],
                ..Doors::from(&[ListenerConfig::default()][..])
            },
            sys_interval_us: 0,
            board,
        }
    }

    /// Takes over what has changed.
    pub(super) fn take(&mut self, live: &Live) {
        let LimitsConfig { memory_bytes, match_cache_bytes, .. } = self.limits;
        self.session = live.session.clone();
        self.topics = live.topics.clone();
        self.limits = LimitsConfig { memory_bytes, match_cache_bytes, ..live.limits.clone() };
        self.doors.clone_from(&live.doors);
    }

    /// Settings of each of `shards` shards as `config` asks; `secrets` decide which topics they own
    /// where no rule does. Epoch and seed are those of [`Settings::new`].
    pub fn configured(config: &Config, shards: usize, secrets: [u64; 2]) -> Settings {
        let topics = &config.topics;
        let groups = topics.share.iter();
        let listeners = config.listeners.iter();
        Settings {
            session: config.session.clone(),
            protocol: config.protocol.clone(),
            topics: config.topics.clone(),
            limits: config.limits.clone(),
            share: Strategies {
                default: topics.share_strategy,
                named: groups.map(|rule| (rule.group.as_str().into(), rule.strategy)).collect(),
            },
            tick: TickBudget { targets: config.runtime.tick_targets, ..TickBudget::default() },
            listener_names: listeners.map(|l| l.name.as_str().into()).collect(),
            doors: Doors::from(&config.listeners[..]),
            sys_interval_us: u64::from(config.sys.interval_s) * 1_000_000,
            ..Settings::new(placement_of(config, shards, secrets))
        }
    }

    /// What of them a running shard takes over, as it is.
    #[cfg(test)]
    pub(super) fn live(&self) -> Live {
        Live {
            session: self.session.clone(),
            topics: self.topics.clone(),
            limits: self.limits.clone(),
            policy: self.policy.clone(),
            doors: self.doors.clone(),
        }
    }

    /// Whether anything depends on what clients call themselves.
    pub(super) fn names_matter(&self) -> bool {
        !self.topics.rewrite.is_empty() || !self.session.auto_subscribe.is_empty()
    }

    /// The rules of a listener.
    pub fn rules(&self, listener: u16) -> ListenerRules {
        self.doors.rules.get(usize::from(listener)).cloned().unwrap_or_default()
    }

    /// Bounds of every outbox.
    pub fn outbox(&self) -> OutboxLimits {
        OutboxLimits { messages: self.session.outbox_messages, bytes: self.session.outbox_bytes }
    }

    /// Bounds of the queue of QoS 0 messages behind a full out buffer.
    pub fn late(&self) -> OutboxLimits {
        OutboxLimits { messages: self.session.late_messages, bytes: self.limits.out_buffer_bytes }
    }

    /// What happens to QoS 0 messages that find that queue full.
    pub fn late_overflow(&self) -> Overflow {
        match self.session.late_overflow {
            crate::config::LateOverflow::DropNewest => Overflow::DropNewest,
            crate::config::LateOverflow::DropOldest => Overflow::DropOldest,
            crate::config::LateOverflow::Disconnect => Overflow::Disconnect,
        }
    }

    /// What happens to QoS 1 and 2 messages that find an outbox full.
    pub fn overflow(&self) -> Overflow {
        match self.session.overflow {
            crate::config::Overflow::DropOldest => Overflow::DropOldest,
            crate::config::Overflow::DropNewest => Overflow::DropNewest,
            crate::config::Overflow::Disconnect => Overflow::Disconnect,
            crate::config::Overflow::Refuse => Overflow::Refuse,
        }
    }
}

/// The placement of `config` on `shards` cores.
pub fn placement_of(config: &Config, shards: usize, secrets: [u64; 2]) -> Placement {
    let topics = &config.topics;
    let depths = topics.r#override.iter().map(|rule| Rule::new(rule.prefix.as_str(), rule.depth));
    let pins = topics.pin.iter();
    let pins = pins.map(|rule| Rule::new(rule.prefix.as_str(), ShardId(rule.shard as u8)));
    let routes = topics.route.iter().map(|rule| {
        let route = match rule.mode {
            ConfiguredRoute::Owner => Route::Owner,
            ConfiguredRoute::Publisher => Route::Publisher,
        };
        Rule::new(rule.prefix.as_str(), route)
    });
    let homes = config.session.pin.iter();
    let homes = homes.map(|rule| (rule.clients.clone(), ShardId(rule.shard as u8)));
    Placement::new(shards, secrets, topics.depth)
        .with_rules(depths.collect(), pins.collect(), routes.collect())
        .with_homes(homes.collect())
}
