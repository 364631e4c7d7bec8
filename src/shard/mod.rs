//! The broker of one core: a state machine that takes bytes, blocks and the time, and gives bytes,
//! blocks and commands.
//!
//! A turn of the shell's loop is: [`Shard::begin`] with the time, [`Shard::receive`] for what
//! arrived, [`Shard::tick`], then [`Shard::next_command`] and [`Shard::next_output`] until empty.
//!
//! Invariants worth naming:
//! * a message is accepted as a whole or not at all: room toward every interested core is there
//!   before anything is changed;
//! * one slow subscriber never holds a publisher back, only room between cores does;
//! * everything that can take long (a large fan-out, a retained replay) goes on in later ticks.

mod accept;
mod access;
mod ack;
mod admit;
mod auto_subscribe;
mod burden;
mod clients;
mod connect;
mod connection;
mod counters;
mod crowd;
mod delayed;
mod deliver;
mod disconnect;
mod entry;
mod events;
mod exchange;
mod exclusive;
mod explanation;
mod fanout;
mod filters;
mod input;
mod inventory;
mod lag;
mod load;
mod memory;
mod peer;
pub mod placement;
mod promise;
mod publish;
mod quota;
mod redispatch;
mod replay;
mod report;
mod rewrite;
mod run;
mod session;
mod settings;
mod skew;
mod slow;
mod stats;
mod subscribe;
mod sys;
#[cfg(test)]
mod tests;
mod timers;
mod unsubscribe;
mod waiting;

pub use access::Introduction;
pub use connection::{Connection, ConnectionKey};
pub use counters::{Counters, DropCause};
pub use events::{ConnectionEvent, Ending, Happening};
pub use inventory::Inventory;
pub use placement::Placement;
pub use report::Measured;
pub use settings::{Doors, ListenerRules, Live, Settings, TickBudget, placement_of};
pub use stats::{Board, Gauges, Snapshot};
pub use sys::HostFigures;
pub use waiting::Cause;

use crate::access::{Credentials, Strikes};
use crate::base::{Bucket, Chunk, CoreSet, MessageId, Prng, ShardId, Slots, Time, Wheel};
use crate::codec::{self, PacketType, ReasonCode, Version};
use crate::index::{GroupPick, Index, NodeKey};
use crate::mesh::{Bell, Carried, MeshEnd, Traffic};
use crate::retain::{RetainLimits, RetainStore};
use crate::session::Message;
use clients::Clients;
use connection::{Greeting, Phase};
use delayed::Held;
use exclusive::Exclusive;
use fanout::FanOut;
use hashbrown::HashMap;
use peer::Lane;
use redispatch::Redispatch;
use replay::Replay;
use report::Reporting;
use skew::Skew;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use subscribe::{Announcement, Gather, Installs};
use timers::Timer;
use waiting::Waiting;

/// What the shell has to do, in this order.
pub enum Command {
    /// The connection belongs here: from now on read it as a stream.
    Established(ConnectionKey),
    /// Read one more piece of a connection that has not sent its whole CONNECT.
    ReadMore(ConnectionKey),
    /// Stop reading; what is already received may still be given to [`Shard::receive`].
    Pause(ConnectionKey),
    /// Read again.
    Resume(ConnectionKey),
    /// Send the remaining output, then close, then call [`Shard::released`].
    Close(ConnectionKey),
    /// Detach the transport and give it to [`Shard::hand_over`]. No operation is in flight: the
    /// connection was being read piece by piece.
    HandOver(ConnectionKey),
    /// A connection arrived from another core with its transport.
    Adopt(ConnectionKey, Carried),
    /// Have credentials checked, away from this core, and call [`Shard::judged`].
    Judge(ConnectionKey, Box<Credentials>),
    /// Say how the core spends its time: call [`Shard::measured`].
    Measure,
}

/// The broker of one core. See the module for how it is driven.
pub struct Shard {
    me: ShardId,
    clients: Clients,
    index: Index,
    retained: RetainStore<Rc<Message>>,
    mesh: MeshEnd,
    wheel: Wheel<Timer>,
    commands: VecDeque<Command>,
    waiting: Waiting,
    lanes: Vec<Lane>,
    /// Long fan-outs of messages that this shard accepted.
    fanouts: Vec<FanOut>,
    installs: Installs,
    gathers: Slots<Gather>,
    replays: Slots<Replay>,
    /// What the owners know of this shard's plain subscribers, per node.
    announced: HashMap<NodeKey, Announcement, foldhash::fast::RandomState>,
    /// What the owners have to be told, once there is room.
    untold: VecDeque<subscribe::News>,
    /// Messages of the broker itself that wait to be accepted: wills, delayed messages that are
    /// due, and reports.
    own: VecDeque<Rc<Message>>,
    redispatch: Redispatch,
    held: Held,
    exclusive: Exclusive,
    /// What the wills, the news and the unasked pulls wait for.
    own_waits: Option<Cause>,
    news_waits: Option<Cause>,
    pulls_wait: Option<Cause>,
    /// Sessions whose next retained chunk could not be asked for.
    unasked: Vec<session::SessionSlot>,
    /// Highest acceptance sequence seen from each owner, in the order of its deliveries.
    seen: Vec<u64>,
    /// Acceptance sequence of this shard as owner.
    sequence: u64,
    /// Numbering of messages whose publisher lives here.
    message_sequence: u64,
    targets_left: usize,
    turn_left: usize,
    rang: CoreSet,
    first_lane: usize,
    random: Prng,
    lobby: usize,
    /// Connections per listener.
    open: Vec<usize>,
    /// Rates of new connections, per listener.
    arrivals: Vec<Bucket>,
    draining: bool,
    lag: lag::Lag,
    /// No look for the largest holder of memory before this time.
    relief_after: Time,
    picks: Vec<GroupPick>,
    due: Vec<Timer>,
    reporting: Reporting,
    skew: Skew,
    /// Wrong passwords by address, and connections by client.
    guesses: Strikes<IpAddr>,
    /// New connections, by listener and address.
    knocks: Strikes<(u16, IpAddr)>,
    flaps: Strikes<Box<str>>,
}

impl Shard {
    /// A shard without clients at `now`.
    pub fn new(settings: Settings, mesh: MeshEnd, now: Time) -> Shard {
        let (me, shards) = (mesh.me(), mesh.shards());
        let limits = &settings.limits;
        let mut index = Index::new(settings.seed, limits.match_cache_bytes);
        index.set_strategies(settings.share.clone());
        let mut shard = Shard {
            me,
            index,
            retained: RetainStore::new(RetainLimits {
                max_count: limits.retained_messages,
                max_bytes: limits.retained_bytes,
            }),
            mesh,
            wheel: Wheel::new(now),
            commands: VecDeque::new(),
            waiting: Waiting::new(shards),
            lanes: (0..shards).map(|_| Lane::default()).collect(),
            fanouts: Vec::new(),
            installs: Installs::default(),
            gathers: Slots::default(),
            replays: Slots::default(),
            announced: HashMap::default(),
            untold: VecDeque::new(),
            own: VecDeque::new(),
            redispatch: Redispatch::default(),
            held: Held::default(),
            exclusive: Exclusive::default(),
            own_waits: None,
            news_waits: None,
            pulls_wait: None,
            unasked: Vec::new(),
            seen: vec![0; shards],
            sequence: 0,
            message_sequence: 0,
            targets_left: settings.tick.targets,
            turn_left: settings.tick.turn_bytes,
            rang: CoreSet::EMPTY,
            first_lane: 0,
            random: Prng::new(settings.seed ^ u64::from(me.0) << 32),
            lobby: 0,
            open: vec![0; settings.doors.max_connections.len()],
            arrivals: Vec::new(),
            draining: false,
            lag: lag::Lag::default(),
            relief_after: Time::default(),
            picks: Vec::new(),
            due: Vec::new(),
            reporting: Reporting::default(),
            guesses: Strikes::default(),
            knocks: Strikes::default(),
            flaps: Strikes::default(),
            skew: Skew::new(settings.seed ^ u64::from(me.0), settings.sys_interval_us > 0),
            clients: Clients::new(me, settings, now),
        };
        shard.arm_report(shard.first_report(now));
        shard
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.me
    }

    /// The doorbell by which other shards call.
    pub fn bell(&self) -> &Arc<Bell> {
        self.mesh.bell()
    }

    /// Starts a turn at `now`: budgets are fresh.
    pub fn begin(&mut self, now: Time) {
        self.clients.now = now;
        self.targets_left = self.clients.settings.tick.targets;
        self.turn_left = usize::MAX;
    }

    /// One turn of everything that does not come from sockets. True: call again without sleeping.
    pub fn tick(&mut self) -> bool {
        self.weigh();
        self.rang = self.rang.union(self.mesh.bell().answer());
        self.take_replies();
        // Each kind of source has a budget of its own, so that none lives at another's cost.
        self.refresh_budget();
        self.serve_delivers();
        self.refresh_budget();
        self.go_on_with_fan_outs();
        self.refresh_budget();
        self.serve_waiting();
        self.serve_requests();
        self.release_delayed();
        self.go_on_with_report();
        self.publish_own();
        self.tell_owners();
        self.send_redispatches();
        self.expire_timers();
        self.go_on_with_replays();
        self.close_doomed();
        self.mesh.push();
        self.has_work()
    }

    fn refresh_budget(&mut self) {
        self.targets_left = self.clients.settings.tick.targets;
    }

    fn has_work(&self) -> bool {
        !self.fanouts.is_empty()
            || self.waiting.is_impatient()
            || self.lanes.iter().any(Lane::has_work)
            || !self.commands.is_empty()
            || !self.clients.drained.is_empty()
            || !self.clients.doomed.is_empty()
            || self.redispatch.has_work() && self.untold.is_empty()
            || (!self.own.is_empty() || self.reporting.has_more()) && self.own_waits.is_none()
            || self.has_due_delayed()
            || !self.untold.is_empty() && self.news_waits.is_none()
    }

    /// When [`Shard::tick`] must be called even if nothing happens.
    pub fn next_deadline(&self) -> Time {
        self.wheel.next_deadline()
    }

    /// The next thing for the shell to do.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next connection with output; each is named once until its output was taken.
    pub fn next_output(&mut self) -> Option<ConnectionKey> {
        self.clients.output.dirty.pop_front()
    }

    /// Takes the output of a connection for sending; [`Shard::sent`] gives the memory back.
    /// The caller sends one chunk per connection at a time.
    pub fn take_output(&mut self, key: ConnectionKey) -> Option<Chunk> {
        let connection = self.clients.connections.get_mut(key)?;
        connection.dirty = false;
        debug_assert_eq!(connection.in_flight, 0, "one send at a time");
        let counted = connection.counted_bytes();
        let chunk = connection.take_chunk()?;
        if connection.greeting == Greeting::Written {
            connection.greeting = Greeting::Taken;
        }
        connection.bytes_out += connection.in_flight as u64;
        self.clients.output.bytes += connection.counted_bytes() - counted;
        self.clients.counters.bytes_sent += connection.in_flight as u64;
        Some(chunk)
    }

    /// Whether a connection has output that the shell has not taken.
    pub fn has_output(&self, key: ConnectionKey) -> bool {
        self.clients.connections.get(key).is_some_and(Connection::has_output)
    }

    /// What [`Shard::take_output`] gave was sent; `chunk` is it or its memory. True:
    /// there is more output already.
    pub fn sent(&mut self, key: ConnectionKey, chunk: impl Into<Chunk>) -> bool {
        self.clients.output.recycle(chunk.into().into_spare());
        let Some(connection) = self.clients.connections.get_mut(key) else { return false };
        self.clients.output.bytes -= std::mem::take(&mut connection.in_flight);
        if !connection.has_output() {
            connection.answered = 0;
        }
        if let Some(session) = connection.session.filter(|_| connection.phase == Phase::Open) {
            self.clients.refill(session::slot_of(session));
        }
        self.has_output(key)
    }

    /// A copy of the counters.
    pub fn counters(&self) -> &Counters {
        &self.clients.counters
    }

    /// What this shard has sent to others.
    pub fn traffic(&self) -> Traffic {
        self.mesh.traffic()
    }

    /// Sessions of this shard, connected or not.
    pub fn session_count(&self) -> usize {
        self.clients.sessions.len()
    }

    /// Connections of this shard in any phase.
    pub fn connection_count(&self) -> usize {
        self.clients.connections.len()
    }

    /// Sources that wait for room.
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// What sources wait for, and how many for each.
    pub fn waiting_for(&self) -> Vec<(Cause, usize)> {
        self.waiting.sizes().collect()
    }

    /// Retained messages owned by this shard.
    pub fn retained_count(&self) -> usize {
        self.retained.len()
    }

    /// Delayed messages held by this shard.
    pub fn delayed_count(&self) -> usize {
        self.held.len()
    }

    /// Exclusive subscriptions that this shard has given away.
    pub fn exclusive_count(&self) -> usize {
        self.exclusive.held()
    }

    fn next_message_id(&mut self) -> MessageId {
        self.message_sequence += 1;
        MessageId {
            origin: self.me,
            epoch: self.clients.settings.epoch,
            sequence: self.message_sequence,
        }
    }

    /// Takes over what has changed in the configuration; from the next packet on it holds.
    /// Connections keep what their CONNACK told them. Walks all sessions.
    pub fn reconfigure(&mut self, live: &Live) {
        self.clients.reconfigure(live);
        self.take_policy(live);
        self.take_rates();
        let limits = &self.clients.settings.limits;
        self.retained.set_limits(RetainLimits {
            max_count: limits.retained_messages,
            max_bytes: limits.retained_bytes,
        });
        self.weigh();
    }

    /// Begins an orderly stop: every client is told and closed; nothing new is accepted.
    pub fn drain(&mut self) {
        self.draining = true;
        self.forget_redispatches();
        let open: Vec<_> = self.clients.connections.iter().map(|(key, _)| key).collect();
        for key in open {
            self.clients.doomed.push((key, ReasonCode::SERVER_SHUTTING_DOWN));
        }
    }

    /// Tells a client why its connection ends; only MQTT 5 has a packet for it.
    fn say_goodbye(&mut self, key: ConnectionKey, reason: ReasonCode, what: Option<&str>) {
        let connection = self.clients.connections.get(key);
        if connection.is_none_or(|connection| connection.greeting == Greeting::Owed) {
            return;
        }
        debug_assert!(reason.is_for(PacketType::Disconnect), "{reason} in DISCONNECT");
        self.clients.explain(key, what, |version, what, out| {
            if version == Version::V5 {
                codec::encode_disconnect(version, reason, what, None, out);
            }
        });
    }
}
