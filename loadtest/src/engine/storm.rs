//! Clients that must not get in: they come when the window opens, each once, and go as soon as they
//! are turned away or have done what they came for.
//!
//! Invariants worth naming:
//! * who comes in after all is a fault of the broker's;
//! * nothing of what they do counts as a connect, and nobody waits for them before the load.

use super::client::State;
use super::core::Core;
use crate::outcome::BrokerVerdict;
use crate::scenario::Manner;

/// What is neither TLS nor MQTT.
const NOISE: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

impl Core {
    /// Whether a client must not get in.
    pub fn is_unwelcome(&self, index: u32) -> bool {
        self.shared.scenario.groups[self.clients[index as usize].group].expects_refusal
    }

    /// A socket is on its way: what a client says first that will not come as far as CONNECT.
    pub fn knock(&mut self, index: u32, manner: Manner) {
        let client = &mut self.clients[index as usize];
        client.state = State::Knocking;
        if manner == Manner::Noise {
            client.layer = None;
            client.out.extend_from_slice(NOISE);
        }
        self.mark(index);
    }

    /// The broker answered such a client.
    pub fn answered_knock(&mut self, index: u32, bytes: &[u8]) {
        let client = &mut self.clients[index as usize];
        let manner = self.shared.scenario.groups[client.group].manner;
        let over = match &mut client.layer {
            // Whatever noise is answered with, the connection ends after it.
            None => return,
            Some(layer) => match layer.receive(bytes, &mut Vec::new()) {
                Ok(()) => manner == Manner::Hello || layer.is_open(),
                Err(_) => true,
            },
        };
        if over {
            self.turned_away(index);
        } else {
            self.mark(index);
        }
    }

    /// A client was turned away, or has done what it came for, and goes.
    pub fn turned_away(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        client.state = State::Closing;
        self.closing.push(client.key(index));
        self.queues[client.group].underway -= 1;
        self.tally.refused += 1;
    }

    /// A client got in that must not.
    pub fn let_in(&mut self, index: u32) {
        let who = self.name(index);
        self.fail(BrokerVerdict::Misbehaved(format!("{who} was let in, and must not be")));
    }
}
