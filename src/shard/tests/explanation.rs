//! Reason strings of acknowledgements: who gets them, and when they are left out.

use super::wire::{Client, Wire, message, read, v5};
use crate::codec::{ConnectOut, ConnectProperties, Packet, PacketType, QoS, Version};
use std::num::NonZeroU32;

/// The answers to one failed request of each kind, and a filter that fails among others.
fn failures(wire: &mut Wire, client: Client) -> Vec<Vec<u8>> {
    let mut answers = wire.subscribe_all(client, &["t", "bad/#/x"], QoS::AtMostOnce);
    answers.extend(wire.send(client, b"\xa2\x06\x00\x02\x00\x00\x01#"));
    answers.extend(wire.send(client, b"\xa2\x08\x00\x02\x00\x00\x03#/x"));
    let nowhere = "$delayed/never/t";
    answers.extend(wire.publish(client, &message(nowhere, QoS::AtLeastOnce, 1, b"")));
    answers.extend(wire.publish(client, &message(nowhere, QoS::ExactlyOnce, 2, b"")));
    answers.extend(wire.ack(client, PacketType::Pubrec, 3));
    answers.extend(wire.ack(client, PacketType::Pubrel, 3));
    assert_eq!(answers.len(), 7);
    answers
}

/// The text of an answer.
fn reason_string(answer: &[u8]) -> Option<String> {
    let text = match read(answer, Version::V5) {
        Packet::Puback(ack) | Packet::Pubrec(ack) => ack.reason_string,
        Packet::Pubrel(ack) | Packet::Pubcomp(ack) => ack.reason_string,
        Packet::Suback(suback) => suback.reason_string,
        Packet::Unsuback(unsuback) => unsuback.reason_string,
        other => panic!("{other:?}"),
    };
    text.map(str::to_owned)
}

#[test]
fn failures_are_explained_and_successes_are_not() {
    let mut wire = Wire::new(|_| {});
    let client = wire.five("c");
    let texts: Vec<_> = failures(&mut wire, client).iter().map(|a| reason_string(a)).collect();
    let begins = |n: usize, start: &str| texts[n].as_ref().is_some_and(|t| t.starts_with(start));
    assert!(begins(0, "filter 2 of 2: not a topic filter"), "{texts:?}");
    assert_eq!(texts[1], None, "nothing failed");
    assert!(begins(2, "not a topic filter"), "{texts:?}");
    assert!(begins(3, "clients may not publish") && begins(4, "clients may not publish"));
    assert!(begins(5, "no message with this") && begins(6, "no message with this"));
    let done = wire.publish(client, &message("nobody", QoS::AtLeastOnce, 5, b""));
    assert_eq!(done, [[0x40, 3, 0, 5, 0x10]], "not a failure");
}

#[test]
fn explanations_are_left_out_to_the_byte() {
    let mut wire = Wire::new(|_| {});
    let client = wire.five("generous");
    let whole = failures(&mut wire, client);
    for (n, answer) in whole.iter().enumerate().filter(|(n, _)| *n != 1) {
        for (spare, explained) in [(0, true), (1, false)] {
            let largest = NonZeroU32::new((answer.len() - spare) as u32);
            let properties =
                ConnectProperties { maximum_packet_size: largest, ..ConnectProperties::default() };
            let client = wire.connect(&ConnectOut { properties, ..v5("c", true, 0) });
            let text = reason_string(&failures(&mut wire, client)[n]);
            assert_eq!(text.is_some(), explained, "{n} with {largest:?}");
        }
    }
}

#[test]
fn a_client_without_problem_information_gets_no_texts_but_where_it_may() {
    // Reason strings are 0x1f, user properties 0x26 [MQTT-3.1.2-29].
    for request_problem_information in [true, false] {
        let mut wire = Wire::new(|_| {});
        let properties =
            ConnectProperties { request_problem_information, ..ConnectProperties::default() };
        let client = wire.connect(&ConnectOut { properties, ..v5("c", true, 0) });
        for (n, answer) in failures(&mut wire, client).iter().enumerate().filter(|(n, _)| *n != 1) {
            assert_eq!(reason_string(answer).is_some(), request_problem_information, "{n}");
            assert!(!answer.contains(&0x26), "{answer:?}");
        }
        let last = wire.send(client, &[0xd0, 0]);
        assert_eq!(last[0].contains(&0x1f), request_problem_information);
    }
}
