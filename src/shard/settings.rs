//! What a shard is told at its start.

use super::placement::Placement;
use crate::config::{LimitsConfig, SessionConfig};
use crate::session::{OutboxLimits, Overflow};
use std::sync::Arc;

/// Budgets of one tick, so that no source of work starves another.
#[derive(Clone, Copy, Debug)]
pub struct TickBudget {
    /// Deliveries to local subscribers per tick; a larger fan-out spans ticks.
    pub targets: usize,
    /// Message bytes that one source may route before the next one has its turn.
    pub turn_bytes: usize,
}

impl Default for TickBudget {
    fn default() -> TickBudget {
        TickBudget { targets: 8192, turn_bytes: 64 * 1024 }
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
    /// Ceilings on everything else.
    pub limits: LimitsConfig,
    /// Tick budgets.
    pub tick: TickBudget,
    /// Longest time from accept to CONNECT, per listener, in microseconds.
    pub connect_deadlines_us: Vec<u64>,
    /// Whether clients without credentials are let in, per listener.
    pub anonymous: Vec<bool>,
    /// Connections at most, per listener.
    pub max_connections: Vec<usize>,
    /// Connections before their CONNECT at most.
    pub lobby: usize,
}

impl Settings {
    /// Settings with every default, for `placement`.
    pub fn new(placement: Placement) -> Settings {
        Settings {
            epoch: 1,
            seed: 1,
            placement: Arc::new(placement),
            session: SessionConfig::default(),
            limits: LimitsConfig::default(),
            tick: TickBudget::default(),
            connect_deadlines_us: vec![10_000_000],
            anonymous: vec![true],
            max_connections: vec![usize::MAX],
            lobby: 4096,
        }
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
