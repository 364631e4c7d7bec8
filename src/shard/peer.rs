//! What other shards send: replies, deliveries and requests, and the rotation of all sources.

use super::Shard;
use super::accept::Duty;
use super::counters::DropCause;
use super::entry::{self, Entry, Position};
use super::fanout::FanOut;
use super::waiting::{Cause, Source};
use crate::base::{Key, PacketId, ShardId};
use crate::codec::{QoS, ReasonCode, Row, Run};
use crate::mesh::{Block, Reply};
use crate::session::MessageView;
use crate::topic::{Delayed, TopicFilter, TopicName};

/// Blocks of requests that one lane may have served per tick.
const LANE_BLOCKS: usize = 4;

/// Where the reading of one peer's lanes stands.
#[derive(Default)]
pub(super) struct Lane {
    requests: Option<(Block, Position)>,
    /// What the next request waits for, in its queue.
    blocked: Option<Cause>,
    /// More requests may be in the ring.
    requests_rang: bool,
    delivers: Option<(Block, Position)>,
    delivers_rang: bool,
    /// Deliveries to more local subscribers than one tick serves. Later ones pass them where no
    /// subscriber can tell: other topics of other publishers.
    fanouts: Vec<FanOut>,
}

impl Lane {
    /// How many deliveries of the lane are still being fanned out.
    pub(super) fn fan_outs(&self) -> usize {
        self.fanouts.len()
    }

    /// Whether the lane has something for the next tick.
    pub(super) fn has_work(&self) -> bool {
        !self.fanouts.is_empty()
            || self.delivers_rang
            || self.delivers.is_some()
            || (self.requests_rang || self.requests.is_some()) && self.blocked.is_none()
    }
}

/// Where reading goes on when `taken` was taken of the run at `position`.
fn past(position: Position, row: &Row<'_>, taken: &Run<'_>, behind: Position) -> Position {
    let whole = taken.bytes().len() == row.bytes().len();
    if whole { behind } else { position.past(taken) }
}

impl Shard {
    /// Takes all replies of the peers that rang.
    pub(super) fn take_replies(&mut self) {
        let rang = std::mem::take(&mut self.rang).without(self.me);
        for peer in rang.iter() {
            let lane = &mut self.lanes[peer.index()];
            (lane.requests_rang, lane.delivers_rang) = (true, true);
            while let Some(reply) = self.mesh.next_reply(peer) {
                if let Some(packet_id) = PacketId::new(reply.detail as u16) {
                    let qos = QoS::from_u8((reply.detail >> 16) as u8).unwrap_or_default();
                    let slot = Key::from_bits(reply.token);
                    self.settle(slot, packet_id, qos, ReasonCode(reply.reason));
                }
            }
        }
    }

    /// Drains the deliveries of all peers, within the budget of the tick.
    pub(super) fn serve_delivers(&mut self) {
        let lanes = self.lanes.len();
        for ahead in 0..lanes {
            let peer = (self.first_lane + ahead) % lanes;
            let lane = &self.lanes[peer];
            if lane.delivers_rang || lane.delivers.is_some() || !lane.fanouts.is_empty() {
                self.serve_deliver_lane(ShardId(peer as u8));
            }
        }
    }

    fn serve_deliver_lane(&mut self, peer: ShardId) {
        let fanouts = std::mem::take(&mut self.lanes[peer.index()].fanouts);
        self.lanes[peer.index()].fanouts = self.continue_fan_outs(fanouts);
        while self.targets_left > 0 {
            let head = self.lanes[peer.index()].delivers.take();
            let next = || self.mesh.next_delivers(peer).map(|block| (block, Position::default()));
            let Some((block, mut position)) = head.or_else(next) else {
                self.lanes[peer.index()].delivers_rang = false;
                return;
            };
            let mut blocked = false;
            while let Some((entry, behind)) = entry::read(&block, position) {
                blocked = self.waits_in_lane(peer, &entry);
                if blocked || self.targets_left == 0 {
                    break;
                }
                position = match &entry {
                    Entry::DeliverRun { run, sequence } => {
                        let taken = self.delivered_run(peer, run, *sequence);
                        past(position, &run.row, &taken, behind)
                    }
                    _ => {
                        self.delivered(peer, &entry);
                        behind
                    }
                };
            }
            if entry::read(&block, position).is_none() {
                self.mesh.give_back_delivers(peer, block);
                continue;
            }
            self.lanes[peer.index()].delivers = Some((block, position));
            if blocked {
                return;
            }
        }
    }

    /// Keeps a long fan-out of a message of `from`.
    pub(super) fn note_fan_out(&mut self, from: ShardId, fanout: Option<FanOut>) {
        self.lanes[from.index()].fanouts.extend(fanout);
    }

    /// Whether an entry must not pass the long fan-outs of its lane. What is no message tells of
    /// the order of messages, so it passes none.
    fn waits_in_lane(&mut self, from: ShardId, entry: &Entry<'_>) -> bool {
        if self.lanes[from.index()].fanouts.is_empty() {
            return false;
        }
        let message = match entry {
            Entry::Deliver { message, .. } => message,
            Entry::DeliverRun { run, .. } => match run.first() {
                Some(first) => &first.first(),
                None => return false,
            },
            _ => return true,
        };
        let matched = self.index.matches(TopicName::assume_checked(message.topic));
        self.waits_for_fan_out(&self.lanes[from.index()].fanouts, message, &matched)
    }

    fn delivered(&mut self, from: ShardId, entry: &Entry<'_>) {
        match entry {
            Entry::Deliver { message, sequence, plain, picks } => {
                self.note_seen(from, *sequence);
                if *plain {
                    let matched = self.index.matches(TopicName::assume_checked(message.topic));
                    let targets = self.targets(&matched);
                    let fanout = self.start_fan_out(message, &matched, targets, from);
                    self.note_fan_out(from, fanout);
                }
                for (local, online) in picks.iter() {
                    self.deliver_to_group(local, online, message, from);
                }
            }
            Entry::Installed { token, sequence } => self.installed(from, *token, *sequence),
            Entry::Retained { token, message } => self.replayed(*token, message, None),
            Entry::RetainedEnd { token, after } => self.replay_ended(*token, *after),
            Entry::Reserved { serial, granted } => self.reserved(*serial, *granted),
            Entry::DeliverRun { .. } => unreachable!("taken as far as the budget goes"),
            Entry::Publish { .. }
            | Entry::PublishRun { .. }
            | Entry::Redispatch { .. }
            | Entry::Reserve { .. }
            | Entry::Interest { .. }
            | Entry::Crowd { .. }
            | Entry::Group { .. }
            | Entry::Pull { .. }
            | Entry::HandOver { .. } => unreachable!("requests don't travel as deliveries"),
        }
    }

    /// Serves the requests of all peers in rotation.
    pub(super) fn serve_requests(&mut self) {
        let lanes = self.lanes.len();
        self.first_lane = (self.first_lane + 1) % lanes;
        for ahead in 0..lanes {
            let peer = (self.first_lane + ahead) % lanes;
            let lane = &self.lanes[peer];
            if (lane.requests_rang || lane.requests.is_some()) && lane.blocked.is_none() {
                self.turn_left = usize::MAX;
                self.serve_request_lane(ShardId(peer as u8), LANE_BLOCKS);
            }
        }
    }

    /// Serves requests of one peer until `blocks` are done or one has to wait.
    fn serve_request_lane(&mut self, peer: ShardId, blocks: usize) {
        for _ in 0..blocks {
            let head = self.lanes[peer.index()].requests.take();
            let next = || self.mesh.next_requests(peer).map(|block| (block, Position::default()));
            let Some((mut block, mut position)) = head.or_else(next) else {
                self.lanes[peer.index()].requests_rang = false;
                return;
            };
            loop {
                let (handled, behind) = match entry::read(&block, position) {
                    None => break,
                    Some((Entry::HandOver { .. }, behind)) => {
                        self.take_in(&mut block, position);
                        (Ok(()), behind)
                    }
                    Some((Entry::PublishRun { run }, behind)) => {
                        match self.accept_forwarded_run(&run) {
                            Ok(taken) => (Ok(()), past(position, &run.row, &taken, behind)),
                            Err(cause) => (Err(cause), behind),
                        }
                    }
                    Some((entry, behind)) => (self.requested(peer, &entry), behind),
                };
                if let Err(cause) = handled {
                    let lane = &mut self.lanes[peer.index()];
                    lane.requests = Some((block, position));
                    lane.blocked = Some(cause);
                    self.waiting.add(cause, Source::Lane(peer));
                    return;
                }
                position = behind;
            }
            self.mesh.give_back_requests(peer, block);
        }
    }

    fn take_in(&mut self, block: &mut Block, position: Position) {
        let carried = entry::take_carried(block, position);
        if let Some((Entry::HandOver { listener, peer, unparsed }, _)) =
            entry::read(block, position)
            && let Some(carried) = carried
        {
            self.adopt((listener, peer), unparsed, carried);
        }
    }

    /// Handles one request; an error says what it waits for, and nothing was changed.
    fn requested(&mut self, from: ShardId, entry: &Entry<'_>) -> Result<(), Cause> {
        match entry {
            Entry::Publish { message, scope, ack } => {
                let reason = self.accept_forwarded(message, Duty::from(*scope))?;
                if ack.is_none() && reason.is_error() {
                    self.drop_refused(message);
                }
                if let Some(ack) = ack {
                    let reason = reason.0;
                    let detail = u64::from(ack.packet_id.get()) | (message.qos as u64) << 16;
                    self.mesh.reply(from, Reply { token: ack.session, detail, reason });
                }
            }
            Entry::Interest { filter, present, token } => {
                self.check_marker(from, *token)?;
                if let Ok(filter) = TopicFilter::new(filter) {
                    if *present {
                        self.index.set_interest(filter, from);
                    } else {
                        self.index.clear_interest(filter, from);
                    }
                }
                self.confirm(from, *token);
            }
            Entry::Crowd { filter, size } => {
                if let Ok(filter) = TopicFilter::new(filter) {
                    self.index.set_crowd(filter, from, *size);
                }
            }
            Entry::Group { filter, group, part, token } => {
                self.check_marker(from, *token)?;
                if let Ok(filter) = TopicFilter::new(filter) {
                    self.index.set_group_part(filter, group, from, *part);
                }
                self.confirm(from, *token);
            }
            Entry::Redispatch { message, filter, group } => {
                self.pick_again(message, filter, group)?;
            }
            Entry::Pull { token, filter, after, as_of } => {
                self.pulled(from, *token, filter, *after, *as_of)?;
            }
            Entry::Reserve { filter, present, session, serial } => {
                self.arbitrate(from, filter, present.then_some(*session), *serial)?;
            }
            Entry::PublishRun { .. } => unreachable!("taken as far as the budget goes"),
            Entry::HandOver { .. }
            | Entry::Reserved { .. }
            | Entry::Deliver { .. }
            | Entry::DeliverRun { .. }
            | Entry::Installed { .. }
            | Entry::Retained { .. }
            | Entry::RetainedEnd { .. } => unreachable!("not a request"),
        }
        Ok(())
    }

    fn accept_forwarded(
        &mut self,
        message: &MessageView<'_>,
        duty: Duty,
    ) -> Result<ReasonCode, Cause> {
        if let Some(Ok(delayed)) = Delayed::parse(message.topic) {
            return self.hold(message, delayed);
        }
        let matched = self.index.matches(TopicName::assume_checked(message.topic));
        let reason = self.accept(message, &matched, duty)?;
        // A publisher's core that served somebody itself says so by its scope.
        Ok(if duty == Duty::Groups { ReasonCode::SUCCESS } else { reason })
    }

    /// Counts a message that was refused where nobody can be told.
    pub(super) fn drop_refused(&mut self, view: &MessageView<'_>) {
        self.clients.drop_one(DropCause::Refused, view);
    }

    pub(super) fn check_marker(&mut self, to: ShardId, token: u64) -> Result<(), Cause> {
        let cause = Cause::Deliver(to);
        let full = token != 0
            && (self.waiting.must_queue(cause)
                || !self.mesh.deliver_room(to, entry::text_entry_len(0)));
        if full { Err(cause) } else { Ok(()) }
    }

    /// Confirms an interest; room was checked.
    fn confirm(&mut self, to: ShardId, token: u64) {
        if token != 0 {
            let sequence = self.sequence;
            let block = self.mesh.deliver(to, entry::text_entry_len(0));
            entry::write(block, &Entry::Installed { token, sequence });
        }
    }

    /// Lets waiting sources try again, in rotation, as long as what they wait for is there.
    pub(super) fn serve_waiting(&mut self) {
        let turns = 64.max(2 * self.lanes.len());
        self.waiting.unserved = false;
        for cause in self.waiting.causes() {
            self.waiting.serving = Some(cause);
            let mut turns_left = turns;
            while let Some(source) = self.waiting.next(cause) {
                self.turn_left = self.clients.settings.tick.turn_bytes;
                if !self.try_again(source, cause) {
                    break;
                }
                turns_left -= 1;
                if turns_left == 0 {
                    self.waiting.unserved |= self.waiting.is_awaited(cause);
                    break;
                }
            }
        }
        self.waiting.serving = None;
        self.turn_left = usize::MAX;
    }

    /// False: the source waits for `cause` again, so the others need not try.
    fn try_again(&mut self, source: Source, cause: Cause) -> bool {
        let before = self.sequence + self.mesh.appended();
        let waits_for = match source {
            Source::Connection(key) => {
                self.resume(key);
                self.clients.connections.get(key).and_then(|connection| connection.stalled)
            }
            Source::Lane(peer) => {
                self.lanes[peer.index()].blocked = None;
                self.serve_request_lane(peer, LANE_BLOCKS);
                self.lanes[peer.index()].blocked
            }
            Source::Own => {
                self.own_waits = None;
                self.publish_own();
                self.own_waits
            }
            Source::News => {
                self.news_waits = None;
                self.tell_owners();
                self.news_waits
            }
            Source::Redispatch => {
                self.redispatch.waits = None;
                self.send_redispatches();
                self.redispatch.waits
            }
            Source::Pulls => {
                self.pulls_wait = None;
                self.go_on_with_replays();
                self.pulls_wait
            }
        };
        if waits_for == Some(cause) && before == self.sequence + self.mesh.appended() {
            self.waiting.keep_turn(cause, source);
        }
        waits_for != Some(cause) || self.turn_left == 0 && self.targets_left > 0
    }
}
