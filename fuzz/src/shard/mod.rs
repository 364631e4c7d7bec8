//! Sequences of packets against production shards: several connections of all versions on two
//! shards, good and broken packets in any pieces, slow readers, jumps in time. The input is a
//! script (`script`), `world` plays network and shell, `view` holds what comes back against the
//! protocol.
//!
//! Invariants worth naming:
//! * what the broker sends can be decoded by its receiver, in an order the protocol knows, and no
//!   more of it at a time than the receiver allowed;
//! * QoS 0 and QoS 2 messages reach a subscription at most as often as they were published;
//! * whoever asked and was not closed gets an answer; nobody gets one without having asked;
//! * a closed connection is silent, and when all are closed the shards hold nothing for them.

mod script;
mod view;
mod world;

use arbitrary::Unstructured;
use world::World;

/// Runs one script.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(plan) = script::plan(&mut input) else { return };
    let mut world = World::new(plan);
    for _ in 0..script::LONGEST {
        if input.is_empty() || script::step(&mut world, &mut input).is_err() {
            break;
        }
    }
    world.finish();
}
