//! What a model client does: connects, reads, acknowledges, publishes, subscribes, leaves, and
//! loses its connection, as the random numbers want it.

use crate::client::{
    Asked, Client, Held, Link, Outgoing, Progress, Reader, Replaced, Reply, ensure,
};
use crate::ledger::{Ledger, WillFate, payload};
use crate::network::{Pipe, PipeId};
use crate::plan::{FILTERS, PLAIN_TOPICS, TOPICS};
use crate::trace;
use crate::world::World;
use corelane::base::{PacketId, Prng, Time};
use corelane::codec::{
    self, ConnectOut, ConnectProperties, Disconnect, PacketType, PublishOut, QoS, ReasonCode,
    RetainHandling, SubscribeOptions, SubscribeOut, UnsubscribeOut, Version, Will,
};
use corelane::topic::AliasTable;
use std::num::{NonZeroU16, NonZeroU32};

/// How long a replaced connection is read for its DISCONNECT, in microseconds.
const FAREWELL: u64 = 400_000;

/// A session expiry that no run outlives.
const LONG_EXPIRY: u32 = 100_000;

fn qos(random: &mut Prng) -> QoS {
    QoS::from_u8(random.below(3) as u8).expect("below three")
}

impl Client {
    /// One turn; true when anything happened.
    pub fn turn(&mut self, world: &mut World) -> Result<bool, String> {
        let mut acted = self.read_replaced(world)?;
        if self.link.is_none() {
            let done = |pipe: PipeId| world.pipes[pipe].broker_closed;
            if self.waits_for.is_some_and(|pipe| !done(pipe)) {
                return Ok(acted);
            }
            if self.retired || (!self.settled && world.now < self.reconnect_at) {
                return Ok(acted);
            }
            self.connect(world);
            return Ok(true);
        }
        acted |= self.read(world)?;
        let Some(link) = &self.link else { return Ok(true) };
        let (pipe, left) = (link.pipe, link.left);
        if world.pipes[pipe].is_finished() {
            self.lose(world)?;
            return Ok(true);
        }
        if left.is_some() {
            return Ok(acted);
        }
        acted |= self.reply(world);
        if self.settled {
            return Ok(acted);
        }
        let cut_one_in = world.plan.cut_one_in;
        if cut_one_in > 0 && world.random.one_in(cut_one_in) {
            trace(format_args!("client {} loses its connection", self.index));
            world.pipes[pipe].cut(&mut world.random);
            self.lose(world)?;
            return Ok(true);
        }
        if self.link.as_ref().is_some_and(|link| link.open) {
            self.act(world);
        }
        Ok(true)
    }

    fn act(&mut self, world: &mut World) {
        match world.random.below(24) {
            0..=9 => self.publish_something(world),
            10..=12 => self.subscribe_something(world),
            13 if !world.plan.stable => self.unsubscribe_something(world),
            14 => self.ping(world),
            15 if world.random.one_in(6) => self.leave(world),
            16 if world.random.one_in(6) => self.replace(world),
            17 if world.plan.slow_readers && world.random.one_in(3) => {
                let pause = world.random.below(100_000) as u64;
                if let Some(link) = &mut self.link {
                    link.lazy_until = Time(world.now.0 + pause);
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self, world: &mut World) {
        let random = &mut world.random;
        let fifth = self.version == Version::V5;
        let keeps = world.plan.stable || self.settled;
        let clean = !keeps && random.one_in(4) || self.incarnation == 0 && random.one_in(2);
        let clean = clean && (fifth || !keeps) || self.uncertain && !world.plan.stable;
        let expiry = if keeps { LONG_EXPIRY } else { [0, 2, 30, LONG_EXPIRY][random.below(4)] };
        // A session whose name its client may never learn must end with its connection.
        let expiry = if self.id.is_empty() { 0 } else { expiry };
        let receive_maximum = [1, 2, 5, 65_535][random.below(4)];
        let aliases = [0, 1, 2, 20][random.below(4)];
        let will_choice = (!self.settled && random.one_in(3))
            .then(|| (TOPICS[PLAIN_TOPICS + random.below(2)], qos(random), random.one_in(6)));
        let delay_s = if fifth { [0, 0, 1, 5][random.below(4)] } else { 0 };
        let keep_alive = if self.settled { 0 } else { [0, 0, 1, 2, 60][random.below(5)] };
        let will = will_choice.map(|(topic, qos, retain)| {
            let about = (qos, retain, false);
            let fate = Some(WillFate::Open);
            let who = (self.index, self.incarnation);
            (world.ledger.enter(who, topic, about, fate), topic, qos, retain)
        });
        let text = will.map_or(Vec::new(), |(serial, ..)| payload(self.index, serial, 0));
        let out = ConnectOut {
            version: self.version,
            clean_start: clean,
            keep_alive,
            client_id: &self.id,
            will: will.map(|(_, topic, qos, retain)| Will {
                qos,
                retain,
                topic,
                payload: &text,
                delay_s,
                ..Will::default()
            }),
            properties: ConnectProperties {
                session_expiry: Some(expiry),
                receive_maximum: NonZeroU16::new(receive_maximum),
                topic_alias_maximum: aliases,
                maximum_packet_size: self.maximum_packet.and_then(NonZeroU32::new),
                ..ConnectProperties::default()
            },
            ..ConnectOut::default()
        };
        let mut bytes = Vec::new();
        out.encode(&mut bytes);
        let core = random.below(world.cores.len());
        let pipe = world.pipes.len();
        world.pipes.push(Pipe { up: bytes.into(), ..Pipe::default() });
        world.cores[core].arriving.push(pipe);
        trace(format_args!(
            "client {} connects: pipe {pipe} core {core} clean {clean} expiry {expiry} \
             will {will:?}",
            self.index
        ));
        let will = will.map(|(serial, ..)| (serial, delay_s));
        let most = if fifth { usize::from(receive_maximum) } else { 65_535 };
        let mut link = Link::new(pipe, clean, (most, self.maximum_packet), will);
        let expiry_s = match (fifth, clean) {
            (true, _) => expiry,
            (false, true) => 0,
            (false, false) => LONG_EXPIRY,
        };
        (link.keep_alive_s, link.expiry_s) = (keep_alive, expiry_s);
        link.given = AliasTable::new(if fifth { aliases } else { 0 });
        self.link = Some(link);
    }

    fn read(&mut self, world: &mut World) -> Result<bool, String> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let lazy = !self.settled && link.lazy_until > world.now;
        if lazy || world.pipes[link.pipe].down.is_empty() {
            return Ok(false);
        }
        let most = if self.settled { usize::MAX } else { 1 + world.random.below(2000) };
        let bytes = world.pipes[link.pipe].read(most);
        let mut input = std::mem::take(&mut link.input);
        input.extend_from_slice(&bytes);
        let redispatched = world.cores.iter().map(|core| core.shard.counters().redispatched).sum();
        let World { ledger, plan, pipes, now, .. } = world;
        let pipe = &mut pipes[link.pipe];
        let mut reader = Reader { ledger, plan, pipe, now: *now, redispatched };
        let mut at = 0;
        while let Some(frame) =
            codec::frame(&input[at..], usize::MAX).map_err(|e| format!("no packet: {e:?}"))?
        {
            self.packet(&frame, &mut reader)?;
            at += frame.len;
        }
        if let Some(link) = &mut self.link {
            link.input = input.split_off(at);
        }
        Ok(true)
    }

    /// Reads what comes on replaced connections: the last packet must say so.
    fn read_replaced(&mut self, world: &mut World) -> Result<bool, String> {
        let mut acted = false;
        for mut old in std::mem::take(&mut self.replaced) {
            let pipe = &mut world.pipes[old.pipe];
            let bytes = pipe.read(usize::MAX);
            acted |= !bytes.is_empty();
            old.input.extend_from_slice(&bytes);
            let mut at = 0;
            while let Some(frame) = codec::frame(&old.input[at..], usize::MAX)
                .map_err(|e| format!("no packet: {e:?}"))?
            {
                ensure!(old.farewell.is_none(), "a packet after DISCONNECT");
                let packet = codec::decode(&frame, self.version);
                let packet = packet.map_err(|e| format!("undecodable packet: {e:?}"))?;
                match packet {
                    codec::Packet::Disconnect(disconnect) => {
                        old.farewell = Some(disconnect.reason);
                    }
                    codec::Packet::Publish(publish) if publish.packet_id.is_none() => {
                        self.most_once_taken += 1;
                    }
                    _ => {}
                }
                at += frame.len;
            }
            old.input.drain(..at);
            if pipe.is_finished() {
                let told = old.farewell.is_some() && old.input.is_empty();
                let fifth = self.version == Version::V5;
                ensure!(!fifth || told || pipe.hurried, "replaced without a word");
                trace(format_args!("client {} was replaced: {:?}", self.index, old.farewell));
                acted = true;
            } else if world.now > old.until {
                pipe.cut(&mut world.random);
                acted = true;
            } else {
                self.replaced.push(old);
            }
        }
        Ok(acted)
    }

    /// The connection is gone.
    fn lose(&mut self, world: &mut World) -> Result<(), String> {
        let Some(link) = self.link.take() else { return Ok(()) };
        trace(format_args!("client {} is without connection: {:?}", self.index, link.farewell));
        let broken = world.pipes[link.pipe].broken;
        world.pipes[link.pipe].client_closed = true;
        let taken = link.farewell == Some(ReasonCode::SESSION_TAKEN_OVER);
        ensure!(!taken || self.strayed, "taken over by nobody");
        if link.farewell == Some(ReasonCode::KEEP_ALIVE_TIMEOUT) {
            let silent = world.now.0 - world.pipes[link.pipe].arrival.renewed.0;
            let allowed = u64::from(link.keep_alive_s) * 1_500_000;
            ensure!(allowed > 0 && silent >= allowed, "closed after {silent} us of {allowed}");
        }
        let fifth = self.version == Version::V5;
        let told = link.farewell == Some(ReasonCode::SERVER_SHUTTING_DOWN);
        ensure!(told == (world.drains && fifth && !broken), "{:?} at the end", link.farewell);
        self.note_presence(&link, world.pipes[link.pipe].heard);
        if !link.open {
            (self.strayed, self.uncertain) = (true, true);
            // It may have resumed the session, which cancels a delayed will.
            self.pending_will = None;
            // One that comes late could replace a later session behind the client's back.
            let replaces = link.clean || !world.plan.stable;
            self.waits_for = replaces.then_some(link.pipe);
        }
        self.link_gone(&link, broken, &mut world.ledger)?;
        let pause = world.random.below(20_000) as u64;
        let long = if world.random.one_in(6) { 3_000_000 } else { 0 };
        self.reconnect_at = Time(world.now.0 + pause + long);
        Ok(())
    }

    /// Notes until when a session is kept whose connection is gone, counted from when its core was
    /// last sure to hold it.
    fn note_presence(&mut self, link: &Link, heard: Time) {
        let last = link.left_at.map_or(heard, |left| left.min(heard));
        let until = last.plus_secs(u64::from(link.expiry_s));
        self.kept_until = (link.open && !self.strayed).then_some(until);
    }

    /// A second connection while the first one stands.
    fn replace(&mut self, world: &mut World) {
        let Some(link) = self.link.take() else { return };
        trace(format_args!("client {} replaces its connection", self.index));
        // The end of the old connection is certain by now, and unclean.
        let outcome = self.link_gone(&link, true, &mut world.ledger);
        debug_assert!(outcome.is_ok(), "nothing is forbidden here");
        let until = Time(world.now.0 + FAREWELL);
        let Link { pipe, input, farewell, .. } = link;
        self.replaced.push(Replaced { pipe, input, farewell, until });
        self.connect(world);
    }

    fn write(&mut self, world: &mut World, encode: impl FnOnce(&mut Vec<u8>)) {
        let Some(link) = &self.link else { return };
        let mut bytes = Vec::new();
        encode(&mut bytes);
        world.pipes[link.pipe].up.extend(bytes);
    }

    fn reply(&mut self, world: &mut World) -> bool {
        let mut acted = false;
        loop {
            let Some(link) = &mut self.link else { return acted };
            if link.replies.is_empty() || !self.settled && world.random.one_in(3) {
                return acted;
            }
            let at = if self.disorderly { world.random.below(link.replies.len()) } else { 0 };
            let Reply { kind, id } = link.replies.remove(at);
            match kind {
                PacketType::Puback | PacketType::Pubcomp => {
                    link.in_flight.remove(&id);
                }
                PacketType::Pubrel => link.completes.push_back(id),
                _ => {}
            }
            let version = self.version;
            let id = PacketId::new(id).expect("identifiers are not zero");
            trace(format_args!("    client {} sends {kind:?} {id}", self.index));
            self.write(world, |out| {
                codec::encode_ack(kind, version, id, ReasonCode::SUCCESS, None, out);
            });
            acted = true;
        }
    }

    fn publish_something(&mut self, world: &mut World) {
        let random = &mut world.random;
        let topic = TOPICS[random.below(PLAIN_TOPICS)];
        let (qos, retain) = (qos(random), random.one_in(8));
        let empty = retain && random.one_in(6);
        let len = match random.below(30) {
            0 => 5000,
            1 | 2 => 300,
            _ => random.below(30),
        };
        let expires = self.version == Version::V5 && !world.plan.lossless && random.one_in(8);
        let expiry_s = expires.then(|| 1 + random.below(4) as u32);
        let with_alias = self.version == Version::V5 && random.one_in(4);
        let Some(link) = &self.link else { return };
        if qos != QoS::AtMostOnce && self.session.outgoing.len() >= link.broker_maximum.min(20) {
            return;
        }
        let id = (qos != QoS::AtMostOnce).then(|| self.free_id());
        let about = (qos, retain, empty);
        let who = (self.index, self.incarnation);
        let serial = world.ledger.enter(who, topic, about, None);
        world.ledger.expires(expiry_s, world.now);
        let bytes = if empty { Vec::new() } else { payload(self.index, serial, len) };
        if let Some(id) = id {
            let id = id.get();
            let progress = Progress::Published;
            self.session.outgoing.push(Outgoing { id, serial, progress, bytes_len: len, expiry_s });
            let kind = ack_of(qos);
            self.link.as_mut().expect("it was there").owed.push_back((kind, id));
        }
        let (alias, named) = self.alias(topic, with_alias, &mut world.random);
        trace(format_args!(
            "client {} publishes {serial} to {topic} {qos:?} id {id:?} retain {retain} \
             {expiry_s:?}",
            self.index
        ));
        let out = PublishOut {
            qos,
            retain,
            topic: if named { topic } else { "" },
            packet_id: id,
            alias,
            expiry_s,
            payload: &bytes,
            ..PublishOut::default()
        };
        let version = self.version;
        self.write(world, |buffer| out.encode(version, buffer));
    }

    /// An alias for a topic, and whether its name must be sent too.
    fn alias(
        &mut self,
        topic: &'static str,
        wanted: bool,
        random: &mut Prng,
    ) -> (Option<u16>, bool) {
        let Some(link) = self.link.as_mut() else { return (None, true) };
        if !wanted || link.broker_aliases == 0 {
            return (None, true);
        }
        if let Some((alias, _)) = link.aliases.iter().find(|(_, known)| **known == topic) {
            return (Some(*alias), false);
        }
        let alias = 1 + random.below(usize::from(link.broker_aliases)) as u16;
        link.aliases.insert(alias, topic);
        (Some(alias), true)
    }

    /// Sends everything unfinished again, in its order.
    pub fn resend(&mut self, ledger: &mut Ledger, out: &mut Vec<u8>) {
        let Some(link) = &mut self.link else { return };
        for own in &self.session.outgoing {
            let id = PacketId::new(own.id);
            if own.progress == Progress::Released {
                link.completes.push_back(own.id);
                let id = id.expect("identifiers are not zero");
                let (kind, reason) = (PacketType::Pubrel, ReasonCode::SUCCESS);
                codec::encode_ack(kind, self.version, id, reason, None, out);
                continue;
            }
            ledger.sent_again(own.serial);
            let publication = ledger.get(own.serial);
            link.owed.push_back((ack_of(publication.qos), own.id));
            let bytes = if publication.empty {
                Vec::new()
            } else {
                payload(self.index, own.serial, own.bytes_len)
            };
            trace(format_args!("client {} publishes {} again", self.index, own.serial));
            let again = PublishOut {
                dup: true,
                qos: publication.qos,
                retain: publication.retain,
                topic: publication.topic,
                packet_id: id,
                expiry_s: own.expiry_s,
                payload: &bytes,
                ..PublishOut::default()
            };
            again.encode(self.version, out);
        }
    }

    fn subscribe_something(&mut self, world: &mut World) {
        let random = &mut world.random;
        let fifth = self.version == Version::V5;
        let identifier = (fifth && random.one_in(2)).then(|| 1 + random.below(300) as u32);
        let count = 1 + random.below(3);
        let mut asked = Vec::new();
        let mut filters: Vec<(String, SubscribeOptions)> = Vec::new();
        for _ in 0..if self.group.is_some() { 1 } else { count } {
            let at = random.below(FILTERS.len());
            let (text, filter) = self.filter_text(at);
            if filters.iter().any(|(other, _)| *other == text) {
                continue;
            }
            let handling = match random.below(8) {
                0 if fifth => RetainHandling::DoNotSend,
                1 if fifth => RetainHandling::SendIfNew,
                _ => RetainHandling::Send,
            };
            let options = SubscribeOptions {
                qos: self.qos_of(at),
                no_local: self.no_local && self.group.is_none(),
                retain_as_published: self.retain_as_published,
                retain_handling: handling,
            };
            asked.push(self.session.held.len());
            self.session.held.push(Held {
                text: text.clone(),
                filter,
                qos: options.qos,
                identifier,
                replays: handling == RetainHandling::Send && self.group.is_none(),
                held: None,
                leaving: false,
                gone: None,
            });
            filters.push((text, options));
        }
        let packet_id = self.free_id();
        trace(format_args!("client {} subscribes {packet_id} {filters:?}", self.index));
        let link = self.link.as_mut().expect("it is open");
        link.asked.insert(packet_id.get(), Asked::Subscribe(asked));
        let filters: Vec<_> = filters.iter().map(|(text, o)| (text.as_str(), *o)).collect();
        let subscription_id = identifier.and_then(NonZeroU32::new);
        let version = self.version;
        self.write(world, |out| {
            SubscribeOut { packet_id, subscription_id, filters: &filters }.encode(version, out);
        });
    }

    /// Subscribes to everything.
    pub fn subscribe_to_all(&mut self, world: &mut World) {
        let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
        let packet_id = self.free_id();
        self.session.held.push(Held {
            text: "#".to_owned(),
            filter: "#",
            qos: options.qos,
            identifier: None,
            replays: true,
            held: None,
            leaving: false,
            gone: None,
        });
        let link = self.link.as_mut().expect("it is open");
        let at = self.session.held.len() - 1;
        link.asked.insert(packet_id.get(), Asked::Subscribe(vec![at]));
        let version = self.version;
        self.write(world, |out| {
            let filters = &[("#", options)];
            SubscribeOut { packet_id, subscription_id: None, filters }.encode(version, out);
        });
    }

    fn unsubscribe_something(&mut self, world: &mut World) {
        if self.session.held.is_empty() {
            return;
        }
        let at = world.random.below(self.session.held.len());
        let text = self.session.held[at].text.clone();
        let mut asked = Vec::new();
        for (at, held) in self.session.held.iter_mut().enumerate() {
            if held.text == text && held.gone.is_none() {
                held.leaving = true;
                asked.push(at);
            }
        }
        let packet_id = self.free_id();
        trace(format_args!("client {} unsubscribes {packet_id} {text}", self.index));
        let link = self.link.as_mut().expect("it is open");
        link.asked.insert(packet_id.get(), Asked::Unsubscribe(asked));
        let version = self.version;
        self.write(world, |out| {
            UnsubscribeOut { packet_id, filters: &[&text] }.encode(version, out);
        });
    }

    fn ping(&mut self, world: &mut World) {
        if let Some(link) = &mut self.link {
            link.pings += 1;
        }
        self.write(world, codec::encode_pingreq);
    }

    /// Leaves with DISCONNECT.
    fn leave(&mut self, world: &mut World) {
        let with_will = self.version == Version::V5 && world.random.one_in(3);
        let reason = if with_will { ReasonCode::DISCONNECT_WITH_WILL } else { ReasonCode::SUCCESS };
        trace(format_args!("client {} leaves: {reason}", self.index));
        let version = self.version;
        let asked = self.link.as_ref().map_or(0, |link| link.expiry_s);
        let may_change = version == Version::V5 && asked > 0 && !world.plan.stable;
        let change = may_change && world.random.one_in(2);
        let session_expiry = change.then(|| [0, 2, LONG_EXPIRY][world.random.below(3)]);
        let packet = Disconnect { reason, session_expiry, ..Disconnect::default() };
        self.write(world, |out| packet.encode(version, out));
        let now = world.now;
        let Some(link) = &mut self.link else { return };
        link.left = Some(reason);
        link.left_at = Some(now);
        // The packet may get lost with its connection.
        link.expiry_s = link.expiry_s.min(session_expiry.unwrap_or(u32::MAX));
        if world.random.one_in(3) {
            let pipe = &mut world.pipes[link.pipe];
            (pipe.client_closed, pipe.broken) = (true, true);
            pipe.down.clear();
        }
    }

    /// From now on the client only finishes what it has begun.
    pub fn settle_down(&mut self, pipes: &mut [Pipe]) {
        self.settled = true;
        for old in self.replaced.drain(..) {
            let pipe = &mut pipes[old.pipe];
            (pipe.client_closed, pipe.broken) = (true, true);
            pipe.down.clear();
        }
    }

    /// Whether the client waits for nothing.
    pub fn is_idle(&self, pipes: &[Pipe]) -> bool {
        if self.retired {
            return self.link.is_none();
        }
        let Some(link) = &self.link else { return false };
        let pipe = &pipes[link.pipe];
        let answered = link.asked.is_empty() && link.pings == 0 && link.owed.is_empty();
        let finished = self.session.outgoing.is_empty() && self.session.incoming.is_empty();
        let quiet = pipe.up.is_empty() && pipe.down.is_empty() && link.replies.is_empty();
        link.open && answered && finished && quiet && self.replaced.is_empty()
    }

    /// One line for failure messages.
    pub fn summary(&self, pipes: &[Pipe]) -> String {
        let Some(link) = &self.link else {
            return format!("client {} without connection", self.index);
        };
        let pipe = &pipes[link.pipe];
        format!(
            "client {} {:?}: open {} left {:?} owed {:?} completes {:?} asked {:?} pings {} \
             replies {:?} outgoing {} incoming {:?} up {} down {}",
            self.index,
            self.version,
            link.open,
            link.left,
            link.owed,
            link.completes,
            link.asked,
            link.pings,
            link.replies,
            self.session.outgoing.len(),
            self.session.incoming,
            pipe.up.len(),
            pipe.down.len()
        )
    }
}

fn ack_of(qos: QoS) -> PacketType {
    if qos == QoS::ExactlyOnce { PacketType::Pubrec } else { PacketType::Puback }
}
