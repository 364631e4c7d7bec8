//! What a model client makes of a PUBLISH: the protocol of its identifier, whether it may be here
//! at all, how often, and in which order.

use crate::client::{Client, Held, Reader, Reply, ensure};
use crate::ledger::{Publication, Serial, serial_of};
use corelane::base::Time;
use corelane::codec::{PacketType, Publish, QoS, Version};
use corelane::shard::placement::Route;

impl Client {
    /// A PUBLISH from the broker.
    pub fn publish(&mut self, publish: &Publish<'_>, world: &mut Reader<'_>) -> Result<(), String> {
        let topic = self.topic_of(publish)?;
        let empty = publish.payload.is_empty();
        let serial = serial_of(publish.payload).filter(|_| !empty);
        ensure!(empty || serial.is_some(), "a payload nobody sent: {publish:?}");
        let again = self.take_identifier(publish, serial)?;
        if again {
            return Ok(());
        }
        let Some(serial) = serial else { return Ok(()) };
        let publication = world.ledger.get(serial).clone();
        ensure!(publication.topic == topic, "{publish:?} of {publication:?}");
        ensure!(publish.qos <= publication.qos, "{publish:?} of {publication:?}");
        if publication.will.is_some() {
            world.ledger.will_seen(serial)?;
        }
        self.check_reason(publish, &publication)?;
        self.check_expiry(publish, &publication, world.now)?;
        let replayed = publish.retain && !self.retain_as_published;
        if replayed {
            self.replayed(serial, publish.dup, &publication, world)
        } else {
            self.arrived(serial, publish, &publication, world)
        }
    }

    /// The topic of a PUBLISH, through its alias if it has no name [MQTT-3.1.2-26].
    fn topic_of(&mut self, publish: &Publish<'_>) -> Result<String, String> {
        let given = &mut self.link.as_mut().expect("it is being read").given;
        let Some(alias) = publish.properties.topic_alias else { return Ok(publish.topic.into()) };
        if !publish.topic.is_empty() {
            ensure!(given.set(alias, publish.topic), "an alias nobody offered: {publish:?}");
        }
        let topic = given.get(alias).map(str::to_owned);
        topic.ok_or_else(|| format!("an alias that stands for nothing: {publish:?}"))
    }

    /// The protocol of packet identifiers; true for a repetition of QoS 2 that is not delivered.
    fn take_identifier(
        &mut self,
        publish: &Publish<'_>,
        serial: Option<Serial>,
    ) -> Result<bool, String> {
        let link = self.link.as_mut().expect("it is being read");
        let Some(id) = publish.packet_id else { return Ok(false) };
        let id = id.get();
        self.session.taken.insert(id);
        ensure!(link.in_flight.insert(id), "identifier {id} is in use: {publish:?}");
        ensure!(
            link.in_flight.len() <= link.receive_maximum,
            "{} in flight, receive maximum {}",
            link.in_flight.len(),
            link.receive_maximum
        );
        if publish.qos == QoS::AtLeastOnce {
            ensure!(!self.session.incoming.contains_key(&id), "QoS 1 under a QoS 2 identifier");
            link.replies.push(Reply { kind: PacketType::Puback, id });
            return Ok(false);
        }
        link.replies.push(Reply { kind: PacketType::Pubrec, id });
        if let Some(known) = self.session.incoming.get(&id) {
            ensure!(publish.dup, "identifier {id} reused before its release");
            ensure!(*known == serial, "another message under identifier {id}");
            return Ok(true);
        }
        self.session.incoming.insert(id, serial);
        Ok(false)
    }

    /// Some subscription must have led to this message.
    fn check_reason(&self, publish: &Publish<'_>, publication: &Publication) -> Result<(), String> {
        let matching = |held: &&Held| held.matches(publication.topic);
        let mut held = self.session.held.iter().filter(matching);
        let led = held.any(|held| {
            held.gone.is_none_or(|gone| publication.first_sent < gone || publication.copies > 1)
                || publish.retain
        });
        ensure!(led, "no subscription led to {publish:?} of {publication:?}");
        for id in publish.properties.subscription_ids.iter() {
            let mut held = self.session.held.iter().filter(matching);
            ensure!(held.any(|held| held.identifier == Some(id)), "subscription identifier {id}");
        }
        let own = publication.publisher == self.index
            && publication.incarnation == self.incarnation
            && publication.will.is_none();
        let no_local = self.no_local && self.group.is_none();
        ensure!(!(no_local && own && !publish.retain), "no local, but {publish:?}");
        Ok(())
    }

    /// An expired message never leaves; what is left of its time is told.
    fn check_expiry(
        &self,
        publish: &Publish<'_>,
        publication: &Publication,
        now: Time,
    ) -> Result<(), String> {
        if self.version != Version::V5 {
            return Ok(());
        }
        let told = publish.properties.message_expiry;
        let Some((seconds, sent)) = publication.expiry else {
            ensure!(told.is_none(), "{publish:?} of {publication:?}");
            return Ok(());
        };
        // What was sent in time is sent again at any time [MQTT-4.4.0-1].
        let least = u32::from(!publish.dup);
        let elapsed = (now.0 - sent.0) / 1_000_000;
        let surely = u64::from(seconds).saturating_sub(elapsed);
        let fits = |told: u32| (least..=seconds).contains(&told) && u64::from(told) >= surely;
        ensure!(told.is_some_and(fits), "{publish:?} of {publication:?} at {now:?}");
        Ok(())
    }

    fn replayed(
        &mut self,
        serial: Serial,
        dup: bool,
        publication: &Publication,
        world: &mut Reader<'_>,
    ) -> Result<(), String> {
        let seen = self.session.seen.entry(serial).or_default();
        if dup && seen.replayed > 0 {
            return Ok(());
        }
        seen.replayed += 1;
        let seen = *seen;
        let asked = self.session.held.iter().filter(|h| h.matches(publication.topic)).count();
        ensure!(seen.replayed as usize <= asked, "{seen:?} of {publication:?}, asked {asked}");
        self.check_copies(serial, publication, world)
    }

    /// A message that came live is not replayed to the only subscription that could have led to
    /// it.
    fn check_copies(
        &self,
        serial: Serial,
        publication: &Publication,
        world: &Reader<'_>,
    ) -> Result<(), String> {
        let seen = self.session.seen.get(&serial).copied().unwrap_or_default();
        let asked = self.session.held.iter().filter(|h| h.matches(publication.topic)).count();
        let placement = &world.plan.settings.placement;
        let ordered = placement.route(publication.topic) == Route::Owner;
        ensure!(
            !(ordered && asked == 1 && publication.copies == 1)
                || seen.replayed == 0
                || seen.first == 0,
            "{seen:?} of {publication:?}: live and replayed"
        );
        Ok(())
    }

    fn arrived(
        &mut self,
        serial: Serial,
        publish: &Publish<'_>,
        publication: &Publication,
        world: &mut Reader<'_>,
    ) -> Result<(), String> {
        let link = self.link.as_mut().expect("it is being read");
        if publish.qos == QoS::AtMostOnce && publication.qos == QoS::AtMostOnce {
            let fresh = link.most_once.insert(serial) || publish.retain;
            ensure!(fresh, "QoS 0 twice: {publication:?}");
        }
        let seen = self.session.seen.entry(serial).or_default();
        let new = seen.live == 0;
        seen.live += 1;
        seen.first += u32::from(!publish.dup);
        let seen = *seen;
        let replays = if publish.retain { self.session.held.len() as u32 } else { 0 };
        let most = if publication.qos == QoS::AtLeastOnce { publication.copies } else { 1 };
        ensure!(seen.first <= most + replays, "{seen:?} of {publication:?}");
        if publish.qos == QoS::ExactlyOnce {
            ensure!(seen.live <= 1 + replays, "QoS 2 twice: {seen:?} of {publication:?}");
        }
        if let Some(group) = self.group
            && (new || !publish.dup)
        {
            let count = world.ledger.group_arrivals.entry((group, serial)).or_default();
            *count += 1;
            // What a member got with QoS 1 and did not acknowledge before its session ended may
            // come to another one; QoS 2 comes to one member only.
            let again = if publication.qos > QoS::AtMostOnce { world.redispatched } else { 0 };
            let (count, most) = (u64::from(*count), u64::from(most));
            ensure!(count <= most + again, "{count} members of group {group} got {publication:?}");
            if publish.qos == QoS::ExactlyOnce {
                let once = world.ledger.group_once.insert((group, serial));
                ensure!(once, "two members of group {group} got with QoS 2 {publication:?}");
            }
        }
        if !publish.retain {
            self.check_copies(serial, publication, world)?;
        }
        if new && self.group.is_none() && publication.will.is_none() && !publish.retain {
            self.check_order(serial, publish.qos, publication, world)?;
        }
        Ok(())
    }

    fn check_order(
        &mut self,
        serial: Serial,
        qos: QoS,
        publication: &Publication,
        world: &Reader<'_>,
    ) -> Result<(), String> {
        let placement = &world.plan.settings.placement;
        let direct = placement.route(publication.topic) == Route::Publisher;
        self.session.arrivals.push((publication.topic, qos, serial));
        if publication.qos == QoS::AtLeastOnce && publication.copies > 1 {
            return Ok(());
        }
        // With routing by the publisher retained messages take another way than the others.
        let class = direct && publication.retain;
        let key = (publication.topic, publication.publisher, qos as u8, class);
        let last = self.session.last.insert(key, serial);
        ensure!(
            last.is_none_or(|last| last < serial),
            "message {serial} after {last:?}: {publication:?}"
        );
        Ok(())
    }
}
