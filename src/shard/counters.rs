//! What a shard counts. Written by its core alone; a copy is handed out for reading.

use crate::codec::ReasonCode;

/// Why a message was not delivered to somebody who should have got it. Each drop has one cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropCause {
    /// QoS 0 for a session that is not connected.
    Offline,
    /// QoS 0 while the connection could not take more.
    LateOverflow,
    /// QoS 1 or 2 while the outbox was full.
    OutboxOverflow,
    /// The message expired while it waited.
    Expired,
    /// The packet would be larger than the client accepts.
    TooLarge,
    /// The session ended with the message still waiting.
    SessionEnded,
    /// The connection was closed with QoS 0 messages still waiting for it.
    ConnectionClosed,
    /// The share group had nobody left.
    GroupGone,
    /// Too many messages waited for another member of their share group.
    RedispatchOverflow,
    /// The broker stopped before another member of the share group was found.
    Stopped,
    /// A retained message was over the limit of the store.
    RetainedLimit,
    /// QoS 0 or a will that was refused, where nobody can be told.
    Refused,
    /// The core was out of memory.
    Memory,
    /// The core's turns were too long to wait for slow readers.
    Overload,
    /// A client published under `$SYS`, where only the broker may.
    Reserved,
    /// A rule about access denied the PUBLISH.
    Denied,
}

impl DropCause {
    /// All causes, in the order of [`Counters::drops`].
    pub const ALL: [DropCause; 16] = [
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
        DropCause::RetainedLimit,
        DropCause::Refused,
        DropCause::Memory,
        DropCause::Overload,
        DropCause::Reserved,
        DropCause::Denied,
    ];

    /// The label under which the cause is reported.
    pub fn label(self) -> &'static str {
        match self {
            DropCause::Offline => "offline",
            DropCause::LateOverflow => "late_overflow",
            DropCause::OutboxOverflow => "outbox_overflow",
            DropCause::Expired => "expired",
            DropCause::TooLarge => "too_large",
            DropCause::SessionEnded => "session_ended",
            DropCause::ConnectionClosed => "connection_closed",
            DropCause::GroupGone => "group_gone",
            DropCause::RedispatchOverflow => "redispatch_overflow",
            DropCause::Stopped => "stopped",
            DropCause::RetainedLimit => "retained_limit",
            DropCause::Refused => "refused",
            DropCause::Memory => "memory",
            DropCause::Overload => "overload",
            DropCause::Reserved => "reserved",
            DropCause::Denied => "denied",
        }
    }
}

/// The first reason code that is a failure, and how many of them are counted apart.
const FIRST_FAULT: u8 = 0x80;
const FAULTS: usize = 32;

macro_rules! counters {
    ($( $(#[$doc:meta])* $name:ident ),+ $(,)?) => {
        /// Counters of one shard since its start.
        #[derive(Clone, Default, Debug)]
        pub struct Counters {
            $( $(#[$doc])* pub $name: u64, )+
            /// Deliveries that did not happen, by [`DropCause`].
            pub drops: [u64; DropCause::ALL.len()],
            /// Bytes of topics, properties and payloads of the same.
            pub drop_bytes: [u64; DropCause::ALL.len()],
            /// The protocol errors by reason code, the first one being 0x80.
            pub faults: [u64; FAULTS],
        }

        impl Counters {
            /// How many words all of them take.
            pub(super) const WORDS: usize =
                [$( stringify!($name) ),+].len() + 2 * DropCause::ALL.len() + FAULTS;

            /// All counters, drops by cause and faults by reason last.
            pub(super) fn words(&self) -> impl Iterator<Item = u64> {
                let drops = self.drops.into_iter().chain(self.drop_bytes);
                [$( self.$name ),+].into_iter().chain(drops).chain(self.faults)
            }

            /// The counters out of their words.
            pub(super) fn from_words(words: impl IntoIterator<Item = u64>) -> Counters {
                let mut words = words.into_iter();
                let mut next = || words.next().unwrap_or_default();
                Counters {
                    $( $name: next(), )+
                    drops: std::array::from_fn(|_| next()),
                    drop_bytes: std::array::from_fn(|_| next()),
                    faults: std::array::from_fn(|_| next()),
                }
            }

            /// All counters with their names, drops by cause and faults by reason last.
            pub fn entries(&self) -> impl Iterator<Item = (String, u64)> {
                let plain = [$( (stringify!($name).to_owned(), self.$name) ),+];
                let drops = DropCause::ALL.map(|cause| {
                    (format!("dropped_{}", cause.label()), self.drops[cause as usize])
                });
                let bytes = DropCause::ALL.map(|cause| {
                    let name = format!("dropped_bytes_{}", cause.label());
                    (name, self.drop_bytes[cause as usize])
                });
                plain.into_iter().chain(drops).chain(bytes).chain(self.fault_entries())
            }

            /// Adds the counters of another shard.
            pub fn add(&mut self, other: &Counters) {
                $( self.$name += other.$name; )+
                for (sum, more) in self.drops.iter_mut().zip(other.drops) {
                    *sum += more;
                }
                for (sum, more) in self.drop_bytes.iter_mut().zip(other.drop_bytes) {
                    *sum += more;
                }
                for (sum, more) in self.faults.iter_mut().zip(other.faults) {
                    *sum += more;
                }
            }
        }
    };
}

counters! {
    /// Connections accepted by the shell.
    connections_opened,
    /// Connections whose slot was given back.
    connections_closed,
    /// Connections that became somebody's session here.
    connects,
    /// CONNECTs refused.
    connects_refused,
    /// CONNECTs whose user name and password were given to be checked.
    credentials_asked,
    /// Those of them that were wrong.
    credentials_wrong,
    /// Those of them that nobody checked, because too many waited or nobody was there.
    credentials_unchecked,
    /// Wrong passwords and connections that were not counted against their address or client,
    /// because too many others are.
    strikes_uncounted,
    /// Filters of SUBSCRIBE packets that rules don't allow.
    subscriptions_denied,
    /// Subscriptions taken away because rules don't allow them any more.
    subscriptions_withdrawn,
    /// Connections refused or closed because a budget was exhausted.
    over_budget,
    /// Connections closed at once because their listener had too many a second.
    connects_over_rate,
    /// Times the turns of a core became too long.
    overloads,
    /// Times a connection had to wait for its quota.
    throttled,
    /// Connections handed to their home shard.
    handed_over,
    /// Sessions taken over by a new connection.
    taken_over,
    /// Connections closed because the peer broke the protocol.
    protocol_errors,
    /// Connections closed because the peer broke the rules of TLS, WebSocket or a PROXY header.
    transport_faults,
    /// Connections closed because their address is not let in.
    addresses_refused,
    /// Connections closed because their CONNECT did not arrive in time.
    connect_timeouts,
    /// Connections closed by their keep-alive.
    keep_alive_timeouts,
    /// Bytes received.
    bytes_received,
    /// Bytes handed to the shell for sending.
    bytes_sent,
    /// Packets received, of every type.
    packets_received,
    /// PUBLISH packets received.
    publishes_received,
    /// QoS 1 and 2 messages refused, because a core was full or a topic rule said so.
    messages_refused,
    /// Messages that this shard accepted as owner (or routed itself in publisher mode).
    messages_accepted,
    /// Messages taken in to be published later.
    delayed_held,
    /// PUBLISH packets sent, retransmissions included.
    publishes_sent,
    /// Copies of messages owed to subscribers of this core, those of dropped ones included.
    deliveries,
    /// QoS 0 copies encoded for a connection.
    deliveries_sent,
    /// QoS 1 and 2 copies acknowledged by their client, with whatever reason code.
    deliveries_acknowledged,
    /// Packets sent that are no PUBLISH.
    answers_sent,
    /// Entries forwarded to an owner.
    forwarded,
    /// Entries delivered to another core.
    delivered_remote,
    /// Times a source had to wait for room.
    stalls,
    /// Copies that left for another member of their share group, chosen by the topic's owner.
    redispatched,
    /// Wills published.
    wills,
    /// Sessions created.
    sessions_created,
    /// Sessions ended.
    sessions_ended,
    /// Retained messages replayed to subscribers.
    retained_replayed,
}

impl Counters {
    /// Counts `count` deliveries of `bytes` in all that did not happen.
    pub fn dropped(&mut self, cause: DropCause, count: usize, bytes: usize) {
        self.drops[cause as usize] += count as u64;
        self.drop_bytes[cause as usize] += bytes as u64;
    }

    /// Packets sent, of every type.
    pub fn packets_sent(&self) -> u64 {
        self.publishes_sent + self.answers_sent
    }

    /// Counts a peer that broke the protocol. A reason that is not counted apart counts as
    /// unspecified.
    pub fn fault(&mut self, reason: ReasonCode) {
        let at = usize::from(reason.0.wrapping_sub(FIRST_FAULT));
        self.protocol_errors += 1;
        self.faults[if at < FAULTS { at } else { 0 }] += 1;
    }

    /// The faults with the standard's names of their reasons.
    fn fault_entries(&self) -> impl Iterator<Item = (String, u64)> {
        (FIRST_FAULT..).zip(self.faults).filter_map(|(code, count)| {
            let name = ReasonCode(code).name()?.to_lowercase().replace(' ', "_");
            Some((format!("protocol_errors_{name}"), count))
        })
    }

    /// All drops.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }
}
