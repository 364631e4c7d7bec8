//! Lanes, pools and bells under load.

use super::*;
use crate::base::{Prng, ShardId};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const TINY: MeshSettings = MeshSettings {
    block_bytes: 64,
    ring_blocks: 4,
    pool_bytes: 64 * 16,
    reply_slots: 8,
    attached_bytes: 1000,
    crowd_deliveries: 100,
};

const A: ShardId = ShardId(0);
const B: ShardId = ShardId(1);

#[test]
fn everything_sent_arrives_once_and_in_order() {
    let mut ends = build(2, TINY);
    let (mut b, mut a) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
    let mut random = Prng::new(3);
    let (mut sent, mut received) = (0u8, 0u8);
    for _ in 0..20_000 {
        let len = 1 + random.below(100);
        if a.request_room(B, len, 0) {
            a.request(B, len, 0).bytes.extend(std::iter::repeat_n(sent, len));
            sent = sent.wrapping_add(1);
        }
        if random.one_in(3) {
            a.push();
        }
        if random.one_in(4) {
            while let Some(block) = b.next_requests(A) {
                for run in block.bytes.chunk_by(|x, y| x == y) {
                    assert_eq!(run[0], received);
                    received = received.wrapping_add(1);
                }
                b.give_back_requests(A, block);
            }
        }
    }
    assert!(received > 0);
    assert!(a.block_count() <= 2 * 8, "the pool is bounded");
}

#[test]
fn a_full_lane_refuses_and_recovers_and_rings_the_waiting_sender() {
    let mut ends = build(2, TINY);
    let (mut b, mut a) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
    let mut accepted = 0;
    while a.deliver_room(B, 60) {
        a.deliver(B, 60).bytes.extend([7; 60]);
        accepted += 1;
        a.push();
        assert!(accepted < 100, "a lane must be bounded");
    }
    assert!(a.bell().answer().is_empty());
    let block = b.next_delivers(A).expect("blocks were pushed");
    b.give_back_delivers(A, block);
    assert!(a.bell().answer().contains(B), "the starved sender is told");
    assert!(a.deliver_room(B, 60));
    assert!(a.request_room(B, 60, 0), "requests have blocks of their own");
}

#[test]
fn attached_payloads_count_against_the_lane_until_their_block_returns() {
    let mut ends = build(2, TINY);
    let (mut b, mut a) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
    let block = a.deliver(B, 1);
    block.bytes.push(1);
    block.attach_payload(Bytes::from(vec![0; 2000]));
    a.push();
    assert!(!a.deliver_room(B, 1));
    let block = b.next_delivers(A).expect("one block");
    b.give_back_delivers(A, block);
    assert!(a.deliver_room(B, 1));
}

#[test]
fn replies_are_bounded_by_what_was_reserved() {
    let mut ends = build(2, TINY);
    let (mut b, mut a) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
    for token in 0..8 {
        assert!(a.request_room(B, 1, 1));
        a.request(B, 1, 1).bytes.push(token);
    }
    assert!(!a.request_room(B, 1, 1), "no ninth reply slot");
    for token in 0..8 {
        b.reply(A, Reply { token, detail: 0, reason: 0 });
    }
    assert_eq!(a.next_reply(B).map(|reply| reply.token), Some(0));
    assert!(a.request_room(B, 1, 1));
}

#[test]
fn a_sleeper_is_woken_and_never_sleeps_through_a_ring() {
    let mut ends = build(2, MeshSettings::default());
    let (b, mut a) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
    let (parked, unparker) = (std::thread::current(), b.bell().clone());
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    unparker.set_wake(Arc::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        parked.unpark();
    }));
    const MESSAGES: usize = 20_000;
    let writer = std::thread::spawn(move || {
        for _ in 0..MESSAGES {
            while !a.request_room(B, 1, 0) {
                std::thread::yield_now();
            }
            a.request(B, 1, 0).bytes.push(1);
            a.push();
        }
        while a.has_unsent() {
            a.push();
            std::thread::yield_now();
        }
    });
    let (mut b, mut got) = (b, 0);
    while got < MESSAGES {
        b.bell().answer();
        while let Some(block) = b.next_requests(A) {
            got += block.bytes.len();
            b.give_back_requests(A, block);
        }
        let bell = b.bell().clone();
        if got < MESSAGES && bell.fall_asleep() {
            std::thread::park();
            bell.wake_up();
        }
    }
    writer.join().expect("the writer ends");
}

#[test]
fn a_lane_takes_no_more_for_crowds_than_its_limit_but_always_one() {
    let mut ends = build(2, TINY);
    let (mut b, mut a) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
    let send = |a: &mut MeshEnd, crowd: usize| {
        assert!(a.deliver_room(B, 10));
        let room = a.deliver_crowd_room(B, crowd);
        if room {
            let block = a.deliver(B, 10);
            block.bytes.extend([0; 10]);
            block.crowd += crowd;
        }
        room
    };
    assert!(send(&mut a, 5000), "nothing else is under way");
    assert!(!send(&mut a, 1), "in the open block");
    a.push();
    assert!(!send(&mut a, 1), "in the ring");
    assert!(a.deliver_room(B, 10) && a.request_crowd_room(B, 100), "others have room");
    let block = b.next_delivers(A).expect("a block");
    assert!(!send(&mut a, 1), "being read");
    a.bell().answer();
    b.give_back_delivers(A, block);
    assert!(!a.bell().answer().is_empty(), "who waits is called");
    assert!(send(&mut a, 60) && send(&mut a, 40) && !send(&mut a, 1));
}
