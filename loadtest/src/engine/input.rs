//! What the broker sends: packets found in the stream and what each means for its client.
//!
//! Invariants worth naming:
//! * a packet is looked at where the kernel put it; only one that was cut is copied;
//! * what the broker may not send ends the run with a word about it.

use super::client::State;
use super::core::Core;
use super::inflight::Acknowledged;
use crate::outcome::BrokerVerdict;
use crate::truth::{STAMP_LEN, Stamp};
use corelane::base::PacketId;
use corelane::codec::{
    Ack, Packet, PacketType, Publish, QoS, ReasonCode, decode, encode_ack, frame,
};
use std::sync::atomic::Ordering::Relaxed;

/// Larger packets than the protocol knows do not exist.
const PACKET_MAX: usize = usize::MAX;

impl Core {
    /// Bytes came in for a client whose packets are not plain on the wire.
    pub fn unpack(&mut self, index: u32, bytes: &[u8]) {
        let client = &mut self.clients[index as usize];
        let Some(layer) = &mut client.layer else { return };
        let mut plain = std::mem::take(&mut self.plain);
        let taken = layer.receive(bytes, &mut plain);
        if layer.owes() || !client.out.is_empty() {
            self.mark(index);
        }
        if !plain.is_empty() {
            self.received(index, &plain);
        }
        plain.clear();
        self.plain = plain;
        if let Err(what) = taken {
            if self.is_unwelcome(index) {
                return self.turned_away(index);
            }
            let who = format!("{}: {what}", self.name(index));
            self.fail(match self.clients[index as usize].state {
                State::Connecting => BrokerVerdict::Refused(who),
                _ => BrokerVerdict::Misbehaved(who),
            });
        }
    }

    /// Packets, or parts of them, came in for a client.
    pub fn received(&mut self, index: u32, bytes: &[u8]) {
        let now_ns = self.shared.control.now_ns();
        let mut carry = std::mem::take(&mut self.clients[index as usize].carry);
        let mut rest = bytes;
        let taken = if carry.is_empty() {
            Ok(())
        } else {
            complete(&mut carry, &mut rest);
            self.take(index, &carry, now_ns).map(|used| {
                carry.drain(..used);
            })
        };
        let taken = taken.and_then(|()| {
            if carry.is_empty() {
                let used = self.take(index, rest, now_ns)?;
                rest = &rest[used..];
            }
            carry.extend_from_slice(rest);
            Ok(())
        });
        self.clients[index as usize].carry = carry;
        match taken {
            Ok(()) => self.tire(index),
            Err(what) => {
                let who = self.name(index);
                self.fail(BrokerVerdict::Misbehaved(format!("{who}: {what}")));
            }
        }
    }

    /// A slow reader stops reading.
    fn tire(&mut self, index: u32) {
        let client = &self.clients[index as usize];
        let slow = self.shared.scenario.groups[client.group].slow_ms > 0;
        if slow && client.state == State::Ready {
            self.tired.push(index);
        }
    }

    /// Takes the whole packets at the begin of `input`; tells how many bytes they were.
    fn take(&mut self, index: u32, input: &[u8], now_ns: u64) -> Result<usize, String> {
        let version = self.clients[index as usize].greeting.version;
        let mut at = 0;
        while let Some(found) = frame(&input[at..], PACKET_MAX).map_err(|e| e.to_string())? {
            match found.packet_type() {
                PacketType::Publish => {
                    let publish = Publish::decode(found.first, found.body, version);
                    self.deliver(index, &publish.map_err(|e| e.to_string())?, now_ns);
                }
                kind @ (PacketType::Puback | PacketType::Pubrec | PacketType::Pubcomp) => {
                    let ack = Ack::decode(kind, found.body, version).map_err(|e| e.to_string())?;
                    self.acknowledge(index, kind, ack, now_ns)?;
                }
                _ => {
                    let packet = decode(&found, version).map_err(|e| e.to_string())?;
                    self.control_packet(index, packet, now_ns)?;
                }
            }
            at += found.len;
        }
        Ok(at)
    }

    #[inline]
    fn deliver(&mut self, index: u32, publish: &Publish<'_>, now_ns: u64) {
        if let Some(id) = publish.packet_id
            && !self.answer(index, publish.qos, id)
        {
            return;
        }
        let payload = publish.payload;
        self.tally.received += 1;
        self.tally.received_bytes += payload.len() as u64;
        // A retained message is one of before, with a stamp of its own time.
        if publish.retain {
            return;
        }
        let pattern = &self.shared.pattern;
        let whole = payload.len() <= pattern.len()
            && payload.get(STAMP_LEN..) == pattern.get(STAMP_LEN..payload.len());
        match Stamp::read(payload) {
            Some(stamp) if whole => self.check(index, stamp, now_ns),
            _ => self.corrupted(index, publish.topic),
        }
    }

    #[inline]
    fn check(&mut self, index: u32, stamp: Stamp, now_ns: u64) {
        let Some(receiver) = &mut self.clients[index as usize].receiver else { return };
        let Some((at, audience)) = receiver.find(stamp.flow) else {
            self.truth.misrouted += 1;
            return;
        };
        self.truth.checked += 1;
        let stream = &mut receiver.streams[at];
        let progress = &self.shared.control.progress[audience as usize];
        if self.shared.plan.audiences[audience as usize].shared {
            stream.receive_shared(stamp.sequence);
            if !stream.deaf {
                progress.fetch_max(stream.next, Relaxed);
            }
        } else {
            stream.receive(stamp.sequence);
            if !stream.deaf {
                progress.store(stream.next, Relaxed);
            }
        }
        let latency_ns = now_ns.saturating_sub(stamp.intended_ns).max(1);
        if (self.begin_ns..self.end_ns).contains(&stamp.intended_ns) {
            self.inside.record(latency_ns);
        } else {
            self.outside.record(latency_ns);
        }
    }

    /// A payload without our stamp: spoiled, unless its topic is none of ours (a will).
    #[cold]
    fn corrupted(&mut self, index: u32, topic: &str) {
        let member = &self.shared.plan.clients[self.clients[index as usize].member];
        let flows = &self.shared.plan.flows;
        if member.heard.iter().any(|(flow, _)| flows[*flow as usize].topic == topic) {
            self.truth.checked += 1;
            self.truth.corrupted += 1;
        }
    }

    /// Answers a QoS 1 or 2 delivery; tells whether it is a new one.
    fn answer(&mut self, index: u32, qos: QoS, id: PacketId) -> bool {
        let client = &mut self.clients[index as usize];
        let version = client.greeting.version;
        let (kind, fresh) = match (&mut client.receiver, qos) {
            (Some(receiver), QoS::ExactlyOnce) => {
                (PacketType::Pubrec, receiver.unreleased.insert(id.get()))
            }
            (None, QoS::ExactlyOnce) => (PacketType::Pubrec, true),
            _ => (PacketType::Puback, true),
        };
        encode_ack(kind, version, id, ReasonCode::SUCCESS, None, &mut client.out);
        self.mark(index);
        fresh
    }

    fn acknowledge(
        &mut self,
        index: u32,
        kind: PacketType,
        ack: Ack<'_>,
        now_ns: u64,
    ) -> Result<(), String> {
        let client = &mut self.clients[index as usize];
        let version = client.greeting.version;
        let Some(publisher) = &mut client.publisher else {
            return Err(format!("{kind:?} to a client that publishes nothing"));
        };
        // Nothing new to a client that came back: it has sent a PUBREL again that was answered.
        let recovers = kind == PacketType::Pubcomp
            && client.generation > 0
            && ack.reason == ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
        if ack.reason.is_error() && !recovers {
            return Err(format!("a publication was refused: {}", ack.reason));
        }
        match publisher.inflight.acknowledge(kind, ack.packet_id.get())? {
            Acknowledged::Release => {
                let (kind, reason) = (PacketType::Pubrel, ReasonCode::SUCCESS);
                encode_ack(kind, version, ack.packet_id, reason, None, &mut client.out);
                self.mark(index);
            }
            Acknowledged::Done(intended_ns) => {
                self.tally.acknowledged += 1;
                self.tally.unacknowledged -= 1;
                if (self.begin_ns..self.end_ns).contains(&intended_ns) {
                    self.ack.record(now_ns.saturating_sub(intended_ns).max(1));
                }
                self.unpark(index);
            }
        }
        Ok(())
    }

    fn control_packet(
        &mut self,
        index: u32,
        packet: Packet<'_>,
        now_ns: u64,
    ) -> Result<(), String> {
        let state = self.clients[index as usize].state;
        match (packet, state) {
            (Packet::Connack(connack), State::Connecting) => {
                self.connected(index, &connack, now_ns)
            }
            (Packet::Suback(suback), State::Subscribing(left)) => {
                if let Some(refused) = suback.reasons().find(|reason| reason.is_error()) {
                    return Err(format!("a subscription was refused: {refused}"));
                }
                match self.clients[index as usize].player {
                    Some(_) => self.answered(index),
                    None => self.subscribed(index, left - 1),
                }
                Ok(())
            }
            (Packet::Unsuback(_), State::Subscribing(_))
                if self.clients[index as usize].player.is_some() =>
            {
                self.answered(index);
                Ok(())
            }
            (Packet::Unsuback(_), State::Subscribing(left))
                if self.clients[index as usize].silent =>
            {
                self.unsubscribed(index, left - 1);
                Ok(())
            }
            (Packet::Pubrel(ack), _) => {
                let client = &mut self.clients[index as usize];
                let version = client.greeting.version;
                if let Some(receiver) = &mut client.receiver {
                    receiver.unreleased.remove(&ack.packet_id.get());
                }
                let (kind, reason) = (PacketType::Pubcomp, ReasonCode::SUCCESS);
                encode_ack(kind, version, ack.packet_id, reason, None, &mut client.out);
                self.mark(index);
                Ok(())
            }
            (Packet::Pingresp, _) => Ok(()),
            (Packet::Disconnect(disconnect), _) => {
                Err(format!("the broker sent DISCONNECT: {}", disconnect.reason))
            }
            (packet, state) => Err(format!("unexpected in state {state:?}: {packet:?}")),
        }
    }
}

/// Moves bytes from `rest` until the packet that begins in `carry` is whole, or `rest` is used up.
fn complete(carry: &mut Vec<u8>, rest: &mut &[u8]) {
    loop {
        let lack = match packet_len(carry) {
            Some(len) if carry.len() >= len => return,
            Some(len) => len - carry.len(),
            None => 1,
        };
        if rest.is_empty() {
            return;
        }
        let (taken, left) = rest.split_at(lack.min(rest.len()));
        carry.extend_from_slice(taken);
        *rest = left;
    }
}

/// Length of the packet that begins here; `None` until its header is complete.
fn packet_len(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (at, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some(2 + at + length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_packet_is_completed_and_no_byte_more() {
        let mut packet = vec![0x30, 0xac, 0x02];
        packet.resize(3 + 300, 7);
        for cut in 1..packet.len() {
            let mut carry = packet[..cut].to_vec();
            let more = [&packet[cut..], &[0xc0, 0][..]].concat();
            let mut rest = &more[..];
            complete(&mut carry, &mut rest);
            assert_eq!((&carry, rest), (&packet, &[0xc0, 0][..]), "cut at {cut}");
            let mut carry = packet[..cut].to_vec();
            let mut short = &packet[cut..packet.len() - 1];
            complete(&mut carry, &mut short);
            assert_eq!((carry.len(), short.len()), ((packet.len() - 1).max(cut), 0));
        }
    }
}
