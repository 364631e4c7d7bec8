//! Large payloads: stored once, sent from there, and nothing else about them is different.

use super::wire::{Client, Wire, acks, message, publication};
use crate::base::Chunk;
use crate::codec::QoS;
use crate::session::LARGE_PAYLOAD_BYTES;
use std::collections::HashSet;

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Takes the output of one connection piece by piece, as the shell does.
fn chunks(wire: &mut Wire, client: Client) -> Vec<Chunk> {
    let shard = &mut wire.bench.shards[0];
    let mut all = Vec::new();
    while let Some(chunk) = shard.take_output(client.at.1) {
        shard.sent(client.at.1, Vec::new());
        all.push(chunk);
    }
    all
}

#[test]
fn many_subscribers_send_one_payload_from_one_place() {
    let large = payload(LARGE_PAYLOAD_BYTES);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut wire = Wire::new(|_| {});
        let publisher = wire.five("publisher");
        let takers: Vec<Client> = (0..10)
            .map(|at| match at % 2 {
                0 => wire.five(&format!("five {at}")),
                _ => wire.three(&format!("three {at}")),
            })
            .collect();
        for taker in &takers {
            assert!(!wire.subscribe(*taker, "t", qos).is_error());
            wire.bench.deaf.push(taker.at);
        }
        wire.publish(publisher, &message("t", qos, 1, b"before"));
        wire.publish(publisher, &message("t", qos, 2, &large));
        wire.publish(publisher, &message("t", qos, 3, b"after"));
        let mut places = HashSet::new();
        for taker in &takers {
            let pieces = chunks(&mut wire, *taker);
            assert_eq!(pieces.len(), 3, "head, payload, rest");
            assert!(matches!(&pieces[1], Chunk::Shared(bytes) if *bytes == large));
            places.insert(pieces[1].as_ptr());
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            let got = super::wire::packets(&bytes);
            let got: Vec<_> =
                got.iter().map(|packet| publication(packet, taker.version).payload).collect();
            assert_eq!(got, [&b"before"[..], &large, b"after"]);
        }
        assert_eq!(places.len(), 1, "each has a copy of its own");
        assert_eq!(wire.bench.shards[0].clients.output.bytes, 0);
    }
}

#[test]
fn a_payload_below_the_threshold_joins_the_other_output() {
    let mut wire = Wire::new(|_| {});
    let (publisher, taker) = (wire.five("publisher"), wire.five("taker"));
    wire.subscribe(taker, "t", QoS::AtMostOnce);
    wire.bench.deaf.push(taker.at);
    let small = payload(LARGE_PAYLOAD_BYTES - 1);
    for _ in 0..2 {
        wire.publish(publisher, &message("t", QoS::AtMostOnce, 0, &small));
    }
    assert_eq!(chunks(&mut wire, taker).len(), 1);
}

#[test]
fn an_acknowledgement_follows_the_payload_that_is_under_way() {
    let mut wire = Wire::new(|_| {});
    let client = wire.five("client");
    wire.subscribe(client, "t", QoS::AtMostOnce);
    let large = payload(LARGE_PAYLOAD_BYTES);
    let answers = wire.publish(client, &message("t", QoS::AtLeastOnce, 7, &large));
    assert_eq!(answers.len(), 2);
    assert_eq!(acks(&answers, client.version).len(), 1);
}

#[test]
fn forgotten_output_ends_with_a_whole_packet() {
    for taken in 0..4_usize {
        let mut wire = Wire::new(|_| {});
        let (publisher, taker) = (wire.five("publisher"), wire.five("taker"));
        wire.subscribe(taker, "t", QoS::AtMostOnce);
        wire.bench.deaf.push(taker.at);
        let large = payload(LARGE_PAYLOAD_BYTES);
        for _ in 0..2 {
            wire.publish(publisher, &message("t", QoS::AtMostOnce, 0, &large));
        }
        let shard = &mut wire.bench.shards[0];
        let mut bytes = Vec::new();
        for _ in 0..taken {
            bytes.extend_from_slice(&shard.take_output(taker.at.1).expect("four pieces"));
            shard.sent(taker.at.1, Vec::new());
        }
        let connection = shard.clients.connections.get_mut(taker.at.1).expect("open");
        let gone = connection.discard_output();
        shard.clients.output.bytes -= gone;
        bytes.extend(chunks(&mut wire, taker).iter().flat_map(|piece| piece.to_vec()));
        let whole = super::wire::packets(&bytes);
        assert_eq!(whole.len(), taken.div_ceil(2), "{taken} pieces were taken");
        assert_eq!(whole.concat().len(), bytes.len(), "a part of a packet is left");
        assert_eq!(wire.bench.shards[0].clients.output.bytes, 0);
    }
}
