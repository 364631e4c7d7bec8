//! What a shard holds at the moment, for operators and for tests that ask whether anything is
//! left.
//!
//! Invariant worth naming: each copy of a message that is owed to a subscriber of this core is
//! sent, acknowledged, waiting, given back or counted under one drop cause; see
//! [`Inventory::unaccounted`].

use super::Shard;
use super::counters::{Counters, DropCause};
use super::peer::Lane;

/// What one shard holds. Counts things, not bytes; taken by walking all sessions, so not for every
/// tick.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Inventory {
    /// Connections in any phase.
    pub connections: usize,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// QoS 0 messages that wait for connections.
    pub late: usize,
    /// QoS 1 and 2 messages that wait for sessions.
    pub queued: usize,
    /// QoS 1 and 2 messages that were sent and not acknowledged in any way.
    pub unacknowledged: usize,
    /// QoS 2 messages of clients that these have not released.
    pub unreleased: usize,
    /// Nodes of the subscription index: filters with local subscribers, interested cores or share
    /// groups, and the levels above them.
    pub nodes: usize,
    /// Filters whose owners were told of subscribers here.
    pub announced: usize,
    /// Subscriptions that not all owners have confirmed.
    pub installs: usize,
    /// SUBACKs that wait for such subscriptions.
    pub gathers: usize,
    /// Retained replays under way or waiting.
    pub replays: usize,
    /// Fan-outs that go on in the next tick, of this core's and of other cores' messages.
    pub fan_outs: usize,
    /// Messages that wait for another member of their share group to be chosen.
    pub redispatch: usize,
    /// Messages of the broker itself that wait to be accepted.
    pub own: usize,
    /// News for other cores.
    pub news: usize,
    /// Sources that wait.
    pub waiting: usize,
    /// Retained messages that this core owns.
    pub retained: usize,
    /// Timers, those included that mean nothing any more.
    pub timers: usize,
    /// Blocks of this core that are neither in its pools nor on their way back.
    pub blocks_out: usize,
    /// Replies that other cores owe.
    pub replies_due: usize,
    /// Bytes of unfinished packets.
    pub unfinished_bytes: usize,
}

/// Drops of copies that were owed to somebody; the others never came so far.
const OWED: [DropCause; 12] = [
    DropCause::Offline,
    DropCause::LateOverflow,
    DropCause::OutboxOverflow,
    DropCause::Expired,
    DropCause::TooLarge,
    DropCause::SessionEnded,
    DropCause::ConnectionClosed,
    DropCause::GroupGone,
    DropCause::RedispatchOverflow,
    DropCause::Stopped,
    DropCause::Memory,
    DropCause::Overload,
];

impl Inventory {
    /// Copies owed to subscribers that are neither sent nor waiting nor counted as dropped: zero
    /// between two ticks, unless the counting is wrong. (Retained messages and wills that a core
    /// could not take for want of memory share a cause with copies and make this negative.)
    pub fn unaccounted(&self, counters: &Counters) -> i64 {
        let dropped: u64 = OWED.iter().map(|cause| counters.drops[*cause as usize]).sum();
        let finished = counters.deliveries_sent + counters.deliveries_acknowledged + dropped;
        let finished = finished + counters.redispatched;
        let waiting = self.late + self.queued + self.unacknowledged + self.redispatch;
        counters.deliveries as i64 - finished as i64 - waiting as i64
    }
}

impl Shard {
    /// What the shard holds at the moment.
    pub fn inventory(&self) -> Inventory {
        let clients = &self.clients;
        let (requests_out, delivers_out) = self.mesh.blocks_in_use();
        let mut inventory = Inventory {
            connections: clients.connections.len(),
            sessions: clients.sessions.len(),
            nodes: self.index.len(),
            announced: self.announced.len(),
            installs: self.installs.len(),
            gathers: self.gathers.len(),
            replays: self.replays.len(),
            fan_outs: self.fanouts.len() + self.lanes.iter().map(Lane::fan_outs).sum::<usize>(),
            redispatch: self.redispatch.len(),
            own: self.own.len(),
            news: self.untold.len(),
            waiting: self.waiting.len(),
            retained: self.retained.len(),
            timers: self.wheel.len(),
            blocks_out: requests_out + delivers_out,
            replies_due: self.mesh.replies_due(),
            unfinished_bytes: clients.unfinished,
            ..Inventory::default()
        };
        for (_, connection) in clients.connections.iter() {
            inventory.late += connection.late.len();
        }
        for (_, session) in clients.sessions.iter() {
            inventory.queued += session.outbox.len();
            inventory.unacknowledged += session.window.unacknowledged().count();
            inventory.unreleased += session.receiving.len();
        }
        inventory
    }
}
