//! Each message owed to a subscriber is delivered or counted under one cause, and here it is known
//! which: one case for each cause, policy and place where a message can wait. The subscriber's
//! home is one shard and the owner of the topic the other.

use crate::rig::{LineId, Rig, packets};
use corelane::base::{PacketId, ShardId, Time};
use corelane::codec::{
    ConnectOut, ConnectProperties, Disconnect, Packet, PublishOut, QoS, ReasonCode,
    SubscribeOptions, SubscribeOut, UnsubscribeOut, Version,
};
use corelane::config::{LateOverflow, Overflow};
use corelane::mesh::MeshSettings;
use corelane::shard::placement::{Placement, Rule};
use corelane::shard::{DropCause, Settings};
use std::num::{NonZeroU16, NonZeroU32};

const HOME: usize = 1;
/// Messages of each case.
const OWED: u8 = 40;
/// Bytes of a message's payload.
const LEN: usize = 50;

/// A case: shards, the subscriber and the publisher.
struct Case {
    rig: Rig,
    line: LineId,
    source: LineId,
}

/// A client identifier whose home is `home`.
fn name(settings: &Settings, home: usize) -> String {
    let mut names = (0..).map(|n| format!("client-{n}"));
    let fits = |name: &String| settings.placement.home(name).index() == home;
    names.find(fits).expect("some name has this home")
}

fn come(rig: &mut Rig, name: &str, properties: ConnectProperties<'_>) -> LineId {
    let mut bytes = Vec::new();
    ConnectOut { version: Version::V5, client_id: name, properties, ..ConnectOut::default() }
        .encode(&mut bytes);
    let line = rig.open(0, &bytes);
    rig.settle();
    rig.got(line);
    line
}

impl Case {
    fn new(change: impl FnOnce(&mut Settings), qos: QoS) -> Case {
        Case::with(change, "news", qos, |properties| properties)
    }

    fn with(
        change: impl FnOnce(&mut Settings),
        filter: &str,
        qos: QoS,
        ask: impl FnOnce(ConnectProperties<'static>) -> ConnectProperties<'static>,
    ) -> Case {
        let pins = vec![Rule::new("news", ShardId(0))];
        let placement = Placement::new(2, [6, 1], 1).with_rules(vec![], pins, vec![]);
        let mut settings = Settings::new(placement);
        change(&mut settings);
        let mut rig = Rig::new(&settings, MeshSettings::default());
        let kept = ConnectProperties { session_expiry: Some(100), ..ConnectProperties::default() };
        let line = come(&mut rig, &name(&settings, HOME), ask(kept));
        let source = come(&mut rig, &name(&settings, 0), ConnectProperties::default());
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let mut bytes = Vec::new();
        SubscribeOut {
            packet_id: PacketId::MIN,
            subscription_id: None,
            filters: &[(filter, options)],
        }
        .encode(Version::V5, &mut bytes);
        rig.send(line, &bytes);
        rig.settle();
        rig.got(line);
        Case { rig, line, source }
    }

    fn away(mut self) -> Case {
        self.rig.hang_up(self.line);
        self.rig.settle();
        self
    }

    fn deaf(mut self) -> Case {
        self.rig.lines[self.line].deaf = true;
        self
    }

    /// Publishes messages `serials`, one in a tick.
    fn publish(&mut self, serials: std::ops::Range<u8>, expiry_s: Option<u32>) {
        for serial in serials {
            self.publish_one(serial, LEN, expiry_s);
            self.rig.settle();
        }
    }

    fn publish_one(&mut self, serial: u8, len: usize, expiry_s: Option<u32>) {
        let (qos, packet_id) = (QoS::AtLeastOnce, Some(PacketId::MIN));
        let payload = &vec![serial; len];
        let mut bytes = Vec::new();
        PublishOut { qos, packet_id, topic: "news", payload, expiry_s, ..PublishOut::default() }
            .encode(Version::V5, &mut bytes);
        self.rig.send(self.source, &bytes);
    }

    /// The subscriber comes back.
    fn back(&mut self) {
        let name = name_of(&self.rig);
        let kept = ConnectProperties { session_expiry: Some(100), ..ConnectProperties::default() };
        let mut bytes = Vec::new();
        let (version, properties) = (Version::V5, kept);
        ConnectOut { version, client_id: &name, properties, ..ConnectOut::default() }
            .encode(&mut bytes);
        self.line = self.rig.open(0, &bytes);
        self.rig.settle();
    }

    /// Serials of the messages that the subscriber got since it was last asked.
    fn got(&mut self) -> Vec<u8> {
        let mut serials = Vec::new();
        packets(&self.rig.got(self.line), Version::V5, |packet, _| {
            if let Packet::Publish(publish) = packet {
                serials.push(publish.payload[0]);
            }
        });
        serials
    }

    /// What was dropped is exactly this, and what was owed is what there was to owe.
    fn judge(&self, owed: u64, expected: &[(DropCause, u64)]) {
        let counters = self.rig.shards[HOME].counters();
        for cause in DropCause::ALL {
            let known = expected.iter().find(|known| known.0 == cause);
            let count = known.map_or(0, |known| known.1);
            assert_eq!(counters.drops[cause as usize], count, "{cause:?}: {counters:?}");
        }
        assert_eq!(counters.deliveries, owed);
        let inventory = self.rig.shards[HOME].inventory();
        assert_eq!(inventory.unaccounted(counters), 0, "{inventory:?} {counters:?}");
        assert_eq!(self.rig.shards[0].counters().deliveries, 0);
    }
}

/// The subscriber's name does not depend on the settings of a case.
fn name_of(rig: &Rig) -> String {
    assert_eq!(rig.shards.len(), 2);
    name(&Settings::new(Placement::new(2, [6, 1], 1)), HOME)
}

const ALL: u64 = OWED as u64;

#[test]
fn offline_subscribers_miss_what_is_sent_at_most_once() {
    let mut case = Case::new(|_| {}, QoS::AtMostOnce).away();
    case.publish(0..OWED, None);
    case.judge(ALL, &[(DropCause::Offline, ALL)]);
    case.back();
    assert!(case.got().is_empty());
}

#[test]
fn an_outbox_keeps_the_oldest_or_the_newest_and_counts_the_others() {
    for (overflow, kept) in [(Overflow::DropOldest, OWED - 5..OWED), (Overflow::DropNewest, 0..5)] {
        let few = |settings: &mut Settings| {
            settings.session.overflow = overflow;
            settings.session.outbox_messages = 5;
        };
        let mut case = Case::new(few, QoS::AtLeastOnce).away();
        case.publish(0..OWED, None);
        case.judge(ALL, &[(DropCause::OutboxOverflow, ALL - 5)]);
        case.back();
        assert_eq!(case.got(), kept.collect::<Vec<u8>>());
        case.judge(ALL, &[(DropCause::OutboxOverflow, ALL - 5)]);
    }
}

/// A small out buffer takes some messages, three more wait as references.
fn narrow(policy: LateOverflow) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.session.late_overflow = policy;
        settings.session.late_messages = 3;
        settings.limits.out_buffer_bytes = 1000;
    }
}

#[test]
fn a_deaf_subscriber_misses_the_oldest_or_the_newest_of_what_waited() {
    for policy in [LateOverflow::DropOldest, LateOverflow::DropNewest] {
        let mut case = Case::new(narrow(policy), QoS::AtMostOnce).deaf();
        case.publish(0..OWED, None);
        let sent = case.rig.shards[HOME].counters().deliveries_sent as u8;
        assert!((10..25).contains(&sent), "{sent} fit into the buffer");
        let dropped = [(DropCause::LateOverflow, ALL - 3 - u64::from(sent))];
        case.judge(ALL, &dropped);
        case.rig.hear(case.line);
        case.rig.settle();
        let newest = policy == LateOverflow::DropOldest;
        let late = if newest { OWED - 3..OWED } else { sent..sent + 3 };
        assert_eq!(case.got(), (0..sent).chain(late).collect::<Vec<u8>>(), "{policy:?}");
        case.judge(ALL, &dropped);
    }
}

#[test]
fn a_deaf_subscriber_that_is_closed_loses_what_waited_and_what_comes() {
    let mut case = Case::new(narrow(LateOverflow::Disconnect), QoS::AtMostOnce).deaf();
    case.publish(0..OWED, None);
    let sent = case.rig.shards[HOME].counters().deliveries_sent;
    // One finds the queue full, three are in it, the others find nobody.
    let causes = [
        (DropCause::LateOverflow, 1),
        (DropCause::ConnectionClosed, 3),
        (DropCause::Offline, ALL - sent - 4),
    ];
    case.judge(ALL, &causes);
}

#[test]
fn what_waits_for_a_connection_goes_with_it() {
    let mut case = Case::new(narrow(LateOverflow::DropNewest), QoS::AtMostOnce).deaf();
    let mut serial = 0;
    while case.rig.shards[HOME].inventory().late < 2 {
        case.publish(serial..serial + 1, None);
        serial += 1;
    }
    let case = case.away();
    case.judge(u64::from(serial), &[(DropCause::ConnectionClosed, 2)]);
}

#[test]
fn what_expires_is_counted_when_it_would_be_sent() {
    let mut case = Case::new(|_| {}, QoS::AtLeastOnce).away();
    case.publish(0..7, Some(5));
    case.publish(7..OWED, None);
    case.rig.now = Time(case.rig.now.0 + 5_000_000);
    case.judge(ALL, &[]);
    case.back();
    assert_eq!(case.got(), (7..OWED).collect::<Vec<u8>>());
    case.judge(ALL, &[(DropCause::Expired, 7)]);
}

#[test]
fn what_is_too_large_for_the_client_is_counted_once() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let small = |properties| ConnectProperties {
            maximum_packet_size: NonZeroU32::new(100),
            ..properties
        };
        let mut case = Case::with(|_| {}, "news", qos, small);
        for serial in 0..OWED {
            case.publish_one(serial, if serial % 4 == 0 { 200 } else { LEN }, None);
            case.rig.settle();
        }
        let fit: Vec<u8> = (0..OWED).filter(|serial| serial % 4 != 0).collect();
        assert_eq!(case.got(), fit);
        case.judge(ALL, &[(DropCause::TooLarge, ALL / 4)]);
    }
}

#[test]
fn what_a_session_had_not_acknowledged_ends_with_it() {
    // Queued for nobody, and sent or queued for a client that never acknowledges.
    let mut case = Case::new(|_| {}, QoS::AtLeastOnce).away();
    case.publish(0..OWED, None);
    case.rig.wait_us(101_000_000);
    case.judge(ALL, &[(DropCause::SessionEnded, ALL)]);

    let few = |properties| ConnectProperties { receive_maximum: NonZeroU16::new(3), ..properties };
    let mut case = Case::with(|_| {}, "news", QoS::ExactlyOnce, few);
    case.publish(0..OWED, None);
    assert_eq!(case.got(), [0, 1, 2]);
    case.judge(ALL, &[]);
    let mut bytes = Vec::new();
    let (reason, session_expiry) = (ReasonCode::SUCCESS, Some(0));
    Disconnect { reason, session_expiry, ..Disconnect::default() }.encode(Version::V5, &mut bytes);
    case.rig.send(case.line, &bytes);
    case.rig.settle();
    case.judge(ALL, &[(DropCause::SessionEnded, ALL)]);
}

#[test]
fn a_group_that_left_while_its_message_was_under_way_is_counted() {
    let filter = "$share/g/news";
    let mut case = Case::with(|_| {}, filter, QoS::AtLeastOnce, |properties| properties);
    let mut bytes = Vec::new();
    UnsubscribeOut { packet_id: PacketId::MIN, filters: &[filter] }.encode(Version::V5, &mut bytes);
    // The owner picks the group before it hears that the member has left.
    case.rig.send(case.line, &bytes);
    case.publish_one(0, LEN, None);
    case.rig.settle();
    // The owner was asked for another member and knew of none.
    let (owner, home) = (case.rig.shards[0].counters(), case.rig.shards[HOME].counters());
    assert_eq!((home.deliveries, home.redispatched, owner.deliveries), (1, 1, 1));
    assert_eq!(owner.drops[DropCause::GroupGone as usize], 1);
    for shard in &case.rig.shards {
        assert_eq!(shard.inventory().unaccounted(shard.counters()), 0);
    }
    case.publish(1..3, None);
    assert_eq!(case.rig.shards[0].counters().deliveries, 1, "nobody is there");
}
