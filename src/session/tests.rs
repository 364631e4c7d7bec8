//! Session state against plain models.

use super::*;
use crate::base::PacketId;
use crate::codec::{QoS, ReasonCode};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Debug)]
enum Op {
    Send,
    Puback(usize),
    Pubrec(usize, bool),
    Pubcomp(usize),
    Stray(u16),
    Reconnect,
    Resend,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Send),
        3 => (0usize..40).prop_map(Op::Puback),
        2 => (0usize..40, any::<bool>()).prop_map(|(n, refused)| Op::Pubrec(n, refused)),
        2 => (0usize..40).prop_map(Op::Pubcomp),
        1 => (1u16..=u16::MAX).prop_map(Op::Stray),
        1 => Just(Op::Reconnect),
        3 => Just(Op::Resend),
    ]
}

/// What the model knows of an identifier in use: its serial number and whether PUBREC came.
type Model = BTreeMap<u16, (u32, bool)>;

fn nth(model: &Model, n: usize, released: bool) -> Option<PacketId> {
    let ids: Vec<_> = model.iter().filter(|(_, state)| state.1 == released).collect();
    if ids.is_empty() { None } else { PacketId::new(*ids[n % ids.len()].0) }
}

proptest! {
    #[test]
    fn the_window_behaves_as_its_model(start in 1u16..=u16::MAX, limit in 1usize..20,
                                       ops in proptest::collection::vec(op(), 1..300)) {
        let mut window: Window<u32> = Window::default();
        // Identifiers near the wrap are as good as any.
        for _ in 1..start {
            let id = window.send(0);
            window.acknowledge(id);
        }
        let (mut model, mut serial) = (Model::new(), 0);
        let mut to_resend: VecDeque<u32> = VecDeque::new();
        for op in ops {
            match op {
                Op::Send if window.has_room(limit) => {
                    serial += 1;
                    let id = window.send(serial);
                    prop_assert!(model.insert(id.get(), (serial, false)).is_none(), "id in use");
                }
                Op::Send => {}
                Op::Puback(n) => if let Some(id) = nth(&model, n, false) {
                    let expected = model.remove(&id.get()).map(|state| state.0);
                    prop_assert_eq!(window.acknowledge(id), expected);
                },
                Op::Pubrec(n, refused) => if let Some(id) = nth(&model, n, false) {
                    let outcome = window.received(id, refused);
                    if refused {
                        model.remove(&id.get());
                        prop_assert_eq!(outcome, Pubrec::Refused);
                    } else {
                        model.entry(id.get()).and_modify(|state| state.1 = true);
                        prop_assert_eq!(outcome, Pubrec::Release);
                        prop_assert_eq!(window.received(id, false), Pubrec::Release);
                    }
                },
                Op::Pubcomp(n) => if let Some(id) = nth(&model, n, true) {
                    model.remove(&id.get());
                    prop_assert!(window.complete(id));
                    prop_assert!(!window.complete(id));
                },
                Op::Stray(id) => if !model.contains_key(&id) {
                    let id = PacketId::new(id).expect("not zero");
                    prop_assert_eq!(window.acknowledge(id), None);
                    prop_assert_eq!(window.received(id, false), Pubrec::Unknown);
                    prop_assert!(!window.complete(id));
                },
                Op::Reconnect => {
                    window.restart();
                    let mut all: Vec<u32> = model.values().map(|state| state.0).collect();
                    all.sort_unstable();
                    to_resend = all.into();
                }
                Op::Resend => {
                    let known: BTreeMap<u16, (u32, bool)> = model.clone();
                    to_resend.retain(|serial| known.values().any(|state| state.0 == *serial));
                    if let Some(resend) = window.next_resend(limit) {
                        let (id, serial, released) = match resend {
                            Resend::Publish(id, serial) => (id, *serial, false),
                            Resend::Release(id) => (id, known[&id.get()].0, true),
                        };
                        prop_assert_eq!(known.get(&id.get()), Some(&(serial, released)));
                        prop_assert_eq!(to_resend.pop_front(), Some(serial), "order");
                    }
                }
            }
            prop_assert_eq!(window.len(), model.len());
        }
    }

    #[test]
    fn the_outbox_keeps_its_bounds_and_its_order(
        policy in 0..3usize,
        pushes in proptest::collection::vec(1usize..60, 1..80),
    ) {
        let policies =
            [Overflow::DropOldest, Overflow::DropNewest, Overflow::Disconnect];
        let limits = OutboxLimits { messages: 10, bytes: 100 };
        let (mut outbox, mut model) = (Outbox::default(), VecDeque::new());
        for (serial, bytes) in pushes.into_iter().enumerate() {
            match outbox.push(serial, bytes, limits, policies[policy]) {
                Pushed::Queued => model.push_back(serial),
                Pushed::Displaced(count, _) => {
                    model.drain(..count);
                    model.push_back(serial);
                }
                Pushed::Dropped => prop_assert_eq!(policy, 1),
                Pushed::Disconnect => prop_assert_eq!(policy, 2),
            }
            prop_assert!(outbox.len() <= 10 && (outbox.bytes() <= 100 || outbox.len() == 1));
            prop_assert!(outbox.iter().eq(model.iter()));
        }
    }
}

#[test]
fn acknowledgements_leave_in_order_of_arrival() {
    let id = |n| PacketId::new(n).expect("not zero");
    let mut acks = PendingAcks::default();
    acks.push(id(1), QoS::AtLeastOnce, None);
    acks.push(id(2), QoS::ExactlyOnce, Some(ReasonCode::SUCCESS));
    acks.push(id(3), QoS::AtLeastOnce, None);
    assert_eq!(acks.pop(), None, "the first is not settled");
    acks.settle(id(3), QoS::AtLeastOnce, ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(acks.pop(), None);
    acks.settle(id(1), QoS::AtLeastOnce, ReasonCode::SUCCESS);
    assert_eq!(acks.pop(), Some((id(1), QoS::AtLeastOnce, ReasonCode::SUCCESS)));
    assert_eq!(acks.pop(), Some((id(2), QoS::ExactlyOnce, ReasonCode::SUCCESS)));
    assert_eq!(acks.pop(), Some((id(3), QoS::AtLeastOnce, ReasonCode::QUOTA_EXCEEDED)));
    assert!(acks.is_empty() && acks.at_least_once() == 0);
}

#[test]
fn a_repeated_inbound_qos_two_publish_is_forwarded_once() {
    let id = PacketId::new(7).expect("not zero");
    let mut receiving = Receiving::default();
    assert_eq!(receiving.publish(id), Arrival::New);
    assert_eq!(receiving.publish(id), Arrival::Awaiting);
    receiving.settle(id, true);
    assert_eq!(receiving.publish(id), Arrival::Accepted);
    assert!(receiving.release(id));
    assert!(!receiving.release(id));
    assert_eq!(receiving.publish(id), Arrival::New);
    receiving.settle(id, false);
    assert!(receiving.is_empty());
}
