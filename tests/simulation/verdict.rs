//! The judgement at the end of a run: what should have arrived, in which order, what is retained,
//! and what shards still hold when everybody has gone.

use crate::client::{Client, filter_matches};
use crate::ledger::{Publication, Serial};
use crate::plan::{GROUPS, TOPICS};
use crate::trace;
use crate::world::World;
use corelane::base::Time;
use corelane::codec::QoS;
use corelane::shard::placement::Route;
use corelane::shard::{Counters, DropCause, Inventory};
use std::collections::{BTreeMap, BTreeSet};

/// Drops that may keep an acknowledged message from a session that lives.
const LOSSES: [DropCause; 3] = [DropCause::OutboxOverflow, DropCause::Expired, DropCause::TooLarge];

/// Drops that may keep it from a share group as well.
const GROUP_LOSSES: [DropCause; 5] = [
    DropCause::OutboxOverflow,
    DropCause::Expired,
    DropCause::TooLarge,
    DropCause::SessionEnded,
    DropCause::GroupGone,
];

impl World {
    fn drops(&self, shard: usize, causes: &[DropCause]) -> u64 {
        let counters = self.cores[shard].shard.counters();
        causes.iter().map(|cause| counters.drops[*cause as usize]).sum()
    }

    fn home(&self, client: &Client) -> usize {
        self.plan.settings.placement.home(&client.id).index()
    }

    /// Each copy that is owed to a subscriber was sent, waits, or is counted under one cause.
    pub fn judge_accounts(&self) -> Result<(), String> {
        for (at, core) in self.cores.iter().enumerate() {
            let (inventory, counters) = (core.shard.inventory(), core.shard.counters());
            let unaccounted = inventory.unaccounted(counters);
            if unaccounted != 0 {
                let what = format!("{inventory:?} {counters:?}");
                return Err(format!("shard {at}: {unaccounted} copies unaccounted for: {what}"));
            }
            let most = self.plan.settings.limits.retained_messages;
            if inventory.retained > most {
                return Err(format!("shard {at} retains {}, allowed {most}", inventory.retained));
            }
        }
        Ok(())
    }

    /// What clients got is what cores say they sent: QoS 1 and 2 where no session ended, QoS 0
    /// where no connection lost bytes. Everything must have come to rest.
    fn judge_copies(&self) -> Result<(), String> {
        let sum = |of: fn(&Counters) -> u64| -> u64 {
            self.cores.iter().map(|core| of(core.shard.counters())).sum()
        };
        let ended = sum(|counters| counters.sessions_ended);
        let acknowledged = sum(|counters| counters.deliveries_acknowledged);
        let got: usize = self.clients.iter().map(|client| client.session.taken.len()).sum();
        if ended == 0 && acknowledged != got as u64 {
            return Err(format!("clients took {got} messages, cores count {acknowledged}"));
        }
        let sent = sum(|counters| counters.deliveries_sent);
        let got: u64 = self.clients.iter().map(|client| client.most_once_taken).sum();
        let lossless = self.pipes.iter().all(|pipe| !pipe.broken && !pipe.hurried);
        if got > sent || lossless && got < sent {
            return Err(format!("clients got {got} QoS 0 messages, cores sent {sent}"));
        }
        Ok(())
    }

    /// Everything that can be told of live messages once all is still.
    pub fn judge(&self) -> Result<(), String> {
        self.judge_accounts()?;
        self.judge_copies()?;
        for core in &self.cores {
            let counters = core.shard.counters();
            if counters.protocol_errors > 0 {
                return Err(format!("{} protocol errors", counters.protocol_errors));
            }
            if core.shard.waiting_count() > 0 {
                return Err(format!("sources still wait: {}", self.state()));
            }
        }
        let sessions: usize = self.cores.iter().map(|core| core.shard.session_count()).sum();
        let connections: usize = self.cores.iter().map(|core| core.shard.connection_count()).sum();
        if (sessions, connections) != (self.clients.len(), self.clients.len()) {
            return Err(format!(
                "{sessions} sessions, {connections} connections: {}",
                self.state()
            ));
        }
        self.judge_deliveries()?;
        self.judge_groups()?;
        self.judge_total_order()
    }

    fn judge_deliveries(&self) -> Result<(), String> {
        let mut missing = vec![0; self.cores.len()];
        let mut example = vec![String::new(); self.cores.len()];
        for client in self.clients.iter().filter(|client| client.group.is_none()) {
            let home = self.home(client);
            for serial in self.missing(client) {
                missing[home] += 1;
                let publication = self.ledger.get(serial);
                example[home] = format!("{serial} at client {}: {publication:?}", client.index);
            }
        }
        for shard in 0..self.cores.len() {
            let dropped = self.drops(shard, &LOSSES);
            if self.plan.lossless && dropped > 0 {
                return Err(format!("shard {shard} dropped {dropped} with room enough"));
            }
            if missing[shard] > dropped {
                let (missing, example) = (missing[shard], &example[shard]);
                return Err(format!(
                    "shard {shard}: {missing} missing, {dropped} dropped: {example}"
                ));
            }
        }
        Ok(())
    }

    /// Accepted messages that `client` should have and does not.
    fn missing(&self, client: &Client) -> Vec<Serial> {
        let numbered = self.ledger.publications.iter().enumerate();
        let due = numbered.filter(|(serial, publication)| {
            publication.accepted.is_some()
                && !publication.empty
                && publication.qos > QoS::AtMostOnce
                && !(client.no_local && publication.publisher == client.index)
                && !client.session.seen.contains_key(&(*serial as Serial))
                && client.session.held.iter().any(|held| {
                    held.held.is_some_and(|since| since < publication.first_sent)
                        && !held.leaving
                        && held.qos > QoS::AtMostOnce
                        && held.matches(publication.topic)
                })
        });
        due.map(|(serial, _)| serial as Serial).collect()
    }

    fn judge_groups(&self) -> Result<(), String> {
        let mut missing = 0;
        let mut example = String::new();
        for (group, (_, filter)) in GROUPS.iter().enumerate() {
            // Members that were there the whole time.
            let members = self.clients.iter().filter(|client| client.group == Some(group));
            let since = members.flat_map(|client| {
                let held = client.session.held.iter();
                held.filter(|held| !held.leaving && held.qos > QoS::AtMostOnce)
                    .filter_map(|held| held.held)
            });
            let Some(since) = since.min() else { continue };
            let weak = self.clients.iter().any(|client| {
                client.group == Some(group)
                    && (0..1).any(|_| client.session.held.iter().any(|h| h.qos == QoS::AtMostOnce))
            });
            if weak {
                continue;
            }
            for (serial, publication) in self.ledger.publications.iter().enumerate() {
                let due = publication.accepted.is_some()
                    && publication.qos > QoS::AtMostOnce
                    && !publication.empty
                    && publication.first_sent > since
                    && filter_matches(filter, publication.topic);
                let got = self.ledger.group_arrivals.contains_key(&(group, serial as Serial));
                if due && !got {
                    missing += 1;
                    example = format!("{serial} at group {group}: {publication:?}");
                }
            }
        }
        let dropped: u64 =
            (0..self.cores.len()).map(|shard| self.drops(shard, &GROUP_LOSSES)).sum();
        if missing > dropped {
            return Err(format!("groups: {missing} missing, {dropped} dropped: {example}"));
        }
        Ok(())
    }

    /// Sessions with the same QoS see the messages of one topic in one order.
    fn judge_total_order(&self) -> Result<(), String> {
        let placement = &self.plan.settings.placement;
        let once = |serial: Serial| self.ledger.get(serial).copies == 1;
        for (at, one) in self.clients.iter().enumerate() {
            for other in &self.clients[at + 1..] {
                for topic in TOPICS.iter().filter(|topic| placement.route(topic) == Route::Owner) {
                    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                        let of = |client: &Client| -> Vec<Serial> {
                            let arrivals = client.session.arrivals.iter();
                            let own = arrivals.filter(|a| a.0 == *topic && a.1 == qos);
                            own.map(|a| a.2).filter(|serial| once(*serial)).collect()
                        };
                        let (mut left, mut right) = (of(one), of(other));
                        let both: BTreeSet<Serial> =
                            left.iter().copied().filter(|serial| right.contains(serial)).collect();
                        left.retain(|serial| both.contains(serial));
                        right.retain(|serial| both.contains(serial));
                        if left != right {
                            return Err(format!(
                                "clients {} and {} disagree on {topic} {qos:?}: {left:?} {right:?}",
                                one.index, other.index
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// What may be retained under `topic`: serials, and whether nothing may be.
    fn candidates(&self, topic: &str) -> (BTreeSet<Serial>, bool) {
        let numbered = self.ledger.publications.iter().enumerate();
        let retained: Vec<(Serial, &Publication)> = numbered
            .filter(|(_, publication)| publication.topic == topic && publication.retain)
            .map(|(serial, publication)| (serial as Serial, publication))
            .collect();
        let outdone = |own: &Publication| {
            retained.iter().any(|(_, other)| {
                let later = other.publisher == own.publisher
                    && other.will.is_none()
                    && own.will.is_none()
                    && other.first_sent > own.last_sent;
                let after =
                    own.accepted.is_some_and(|at| other.first_sent > at) && own.will.is_none();
                other.accepted.is_some() && (later || after)
            })
        };
        let open = |(_, publication): &&(Serial, &Publication)| !outdone(publication);
        let possible: Vec<_> = retained.iter().filter(open).collect();
        let cleared = possible.iter().any(|(_, publication)| publication.empty);
        let certain = retained.iter().any(|(_, publication)| publication.accepted.is_some());
        let serials = possible.iter().filter(|(_, p)| !p.empty).map(|(s, _)| *s).collect();
        (serials, cleared || !certain)
    }

    /// A newcomer gets what is retained: of each topic the last accepted message, once.
    pub fn judge_retained(&mut self) -> Result<(), String> {
        let got = self.subscribe_freshly()?;
        let stored: usize = self.cores.iter().map(|core| core.shard.retained_count()).sum();
        let late: u64 =
            (0..self.cores.len()).map(|s| self.drops(s, &[DropCause::LateOverflow])).sum();
        let exact = self.plan.lossless && late == 0;
        // What the broker tells of itself is retained as well; `#` doesn't match it.
        let (settings, told) = (&self.plan.settings, self.plan.settings.sys_interval_us > 0);
        let room =
            settings.limits.retained_messages > 10_000 && settings.limits.retained_bytes > 1 << 20;
        if told && room && stored <= got.len() {
            return Err("the broker told nothing of itself".into());
        }
        if stored != got.len() && exact && !told {
            return Err(format!("{stored} retained messages, a newcomer got {}", got.len()));
        }
        for topic in TOPICS {
            let (candidates, nothing) = self.candidates(topic);
            let fits = match got.get(*topic) {
                Some(serial) => candidates.contains(serial),
                None => nothing,
            };
            // Messages that expire may be gone.
            if !fits && exact {
                let got = got.get(*topic).map(|serial| (serial, self.ledger.get(*serial)));
                return Err(format!("retained {topic}: {got:?}, of {candidates:?} {nothing}"));
            }
            if let (Some(serial), 1, true) = (got.get(*topic), candidates.len(), fits) {
                self.judge_replayed(topic, *serial)?;
            }
        }
        Ok(())
    }

    /// Everybody with a subscription to `topic` has seen the message that was retained last.
    fn judge_replayed(&self, topic: &str, serial: Serial) -> Result<(), String> {
        let publication = self.ledger.get(serial);
        let sure = publication.accepted.is_some() && publication.qos > QoS::AtMostOnce;
        if !sure || !self.plan.lossless {
            return Ok(());
        }
        for client in self.clients.iter().filter(|client| client.group.is_none()) {
            let own = client.no_local && publication.publisher == client.index;
            let due = client.session.held.iter().any(|held| {
                held.held.is_some()
                    && !held.leaving
                    && held.replays
                    && held.matches(topic)
                    && held.qos > QoS::AtMostOnce
            });
            if due && !own && !client.session.seen.contains_key(&serial) {
                let client = client.index;
                return Err(format!("client {client} never got retained {serial} {publication:?}"));
            }
        }
        Ok(())
    }

    /// Connects a newcomer that subscribes to everything; gives what it got, by topic.
    fn subscribe_freshly(&mut self) -> Result<BTreeMap<&'static str, Serial>, String> {
        let index = self.clients.len();
        let mut newcomer = Client::absent();
        (newcomer.index, newcomer.id) = (index, "newcomer".to_owned());
        newcomer.settled = true;
        self.clients.push(newcomer);
        self.come_to_rest()?;
        let mut newcomer = std::mem::replace(&mut self.clients[index], Client::absent());
        newcomer.subscribe_to_all(self);
        self.clients[index] = newcomer;
        self.come_to_rest()?;
        let mut found = BTreeMap::new();
        for (serial, seen) in &self.clients[index].session.seen {
            let publication = self.ledger.get(*serial);
            if (seen.replayed, seen.live) != (1, 0) {
                return Err(format!("the newcomer got {publication:?}: {seen:?}"));
            }
            if let Some(other) = found.insert(publication.topic, *serial) {
                return Err(format!("the newcomer got {publication:?} and {other}"));
            }
        }
        Ok(found)
    }

    /// All clients go, time passes, and nothing is left.
    pub fn end_everything(&mut self) -> Result<(), String> {
        trace(format_args!("--- ending at round {}", self.round));
        self.drains = self.random.one_in(2);
        for core in self.cores.iter_mut().filter(|_| self.drains) {
            core.stop();
        }
        for client in &mut self.clients {
            client.retired = true;
            if let Some(link) = client.link.as_ref().filter(|_| !self.drains) {
                let pipe = &mut self.pipes[link.pipe];
                (pipe.client_closed, pipe.broken) = (true, true);
                pipe.down.clear();
            }
        }
        self.come_to_rest()?;
        for _ in 0..3 {
            self.now = Time(self.now.0 + 200_000_000_000);
            self.come_to_rest()?;
        }
        self.judge_accounts()?;
        let told = self.plan.settings.sys_interval_us > 0;
        for core in &mut self.cores {
            if self.drains && core.shard.open(0, None).is_some() {
                return Err("a stopping broker takes a connection".to_owned());
            }
            let left = core.shard.inventory();
            // What is retained without an expiry stays, and the timer of the next report.
            let (retained, timers) = (left.retained, usize::from(told && !self.drains));
            if left != (Inventory { retained, timers, ..Inventory::default() }) {
                return Err(format!("something is left: {left:?} {}", self.state()));
            }
        }
        Ok(())
    }
}
