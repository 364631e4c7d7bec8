//! What one shard holds of the mesh: its lanes to and from every other shard.

use super::bell::Bell;
use super::block::Block;
use super::lane::{Pool, Receiver, Sender, lane};
use crate::base::{CoreSet, ShardId};
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sizes of the mesh.
#[derive(Clone, Copy, Debug)]
pub struct MeshSettings {
    /// Bytes of entries per block. 16 KiB by default.
    pub block_bytes: usize,
    /// Blocks per ring. 4..=64.
    pub ring_blocks: usize,
    /// Cap of the block bytes that one core allocates, half of it for each kind.
    pub pool_bytes: usize,
    /// Replies that may be outstanding per peer.
    pub reply_slots: usize,
    /// Bytes of shared payloads that may be under way per lane before it refuses more.
    pub attached_bytes: usize,
    /// Deliveries to crowds that a lane may have under way before it refuses more.
    pub crowd_deliveries: usize,
}

impl Default for MeshSettings {
    fn default() -> MeshSettings {
        MeshSettings {
            block_bytes: 16 * 1024,
            ring_blocks: 16,
            pool_bytes: 2 * 1024 * 1024,
            reply_slots: 1024,
            attached_bytes: 4 * 1024 * 1024,
            crowd_deliveries: 32 * 1024,
        }
    }
}

/// Answer to a request, in the requester's own terms. At most 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// What the requester attached to the request.
    pub token: u64,
    /// A second word of the requester's.
    pub detail: u64,
    /// An MQTT reason code.
    pub reason: u8,
}

const _: () = assert!(size_of::<Reply>() <= 32);

/// What a shard has sent to the others so far. Counts; bytes without shared payloads.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// Blocks of requests.
    pub request_blocks: u64,
    /// Blocks of deliveries.
    pub deliver_blocks: u64,
    /// Bytes of the entries in both.
    pub bytes: u64,
    /// Answers to requests.
    pub replies: u64,
    /// Bells rung because there was something to read.
    pub bells: u64,
}

struct Peer {
    requests_out: Sender,
    requests_in: Receiver,
    delivers_out: Sender,
    delivers_in: Receiver,
    replies_out: Producer<Reply>,
    replies_in: Consumer<Reply>,
    /// Replies that this shard still expects from the peer.
    replies_due: usize,
    /// Something was written to the peer that it has not been told of.
    unrung: bool,
}

/// A shard's end of the mesh. Lives on the shard's core; built before the cores start.
pub struct MeshEnd {
    me: ShardId,
    peers: Vec<Option<Peer>>,
    bells: Vec<Arc<Bell>>,
    /// Cores that take no more messages that must not be lost. Each core writes its own bit.
    full: Arc<AtomicU64>,
    request_pool: Pool,
    deliver_pool: Pool,
    reply_slots: usize,
    unsent: CoreSet,
    appended: u64,
    replied: u64,
    rung: u64,
}

/// Builds the mesh of `shards` shards; element `i` belongs to shard `i`.
pub fn build(shards: usize, settings: MeshSettings) -> Vec<MeshEnd> {
    let bells: Vec<Arc<Bell>> = (0..shards).map(|_| Arc::new(Bell::default())).collect();
    let full = Arc::new(AtomicU64::new(0));
    let pool_blocks = settings.pool_bytes / settings.block_bytes / 2;
    let mut peers: Vec<Vec<Option<Peer>>> =
        (0..shards).map(|_| (0..shards).map(|_| None).collect()).collect();
    let pairs = (0..shards).flat_map(|high| (0..high).map(move |low| (low, high)));
    for (low, high) in pairs {
        let (a, b) = peer_pair(settings);
        peers[low][high] = Some(a);
        peers[high][low] = Some(b);
    }
    let ends = peers.into_iter().enumerate();
    ends.map(|(index, peers)| MeshEnd {
        me: ShardId(index as u8),
        peers,
        bells: bells.clone(),
        full: full.clone(),
        request_pool: Pool::new(settings.block_bytes, pool_blocks),
        deliver_pool: Pool::new(settings.block_bytes, pool_blocks),
        reply_slots: settings.reply_slots,
        unsent: CoreSet::EMPTY,
        appended: 0,
        replied: 0,
        rung: 0,
    })
    .collect()
}

fn peer_pair(settings: MeshSettings) -> (Peer, Peer) {
    let MeshSettings { ring_blocks, attached_bytes, crowd_deliveries, .. } = settings;
    let block_lane = || lane(ring_blocks, attached_bytes, crowd_deliveries);
    let reply_ring = || RingBuffer::new(settings.reply_slots);
    let (requests_ab, requests_at_b) = block_lane();
    let (requests_ba, requests_at_a) = block_lane();
    let (delivers_ab, delivers_at_b) = block_lane();
    let (delivers_ba, delivers_at_a) = block_lane();
    let (replies_ab, replies_at_b) = reply_ring();
    let (replies_ba, replies_at_a) = reply_ring();
    let a = Peer {
        requests_out: requests_ab,
        requests_in: requests_at_a,
        delivers_out: delivers_ab,
        delivers_in: delivers_at_a,
        replies_out: replies_ab,
        replies_in: replies_at_a,
        replies_due: 0,
        unrung: false,
    };
    let b = Peer {
        requests_out: requests_ba,
        requests_in: requests_at_b,
        delivers_out: delivers_ba,
        delivers_in: delivers_at_b,
        replies_out: replies_ba,
        replies_in: replies_at_b,
        replies_due: 0,
        unrung: false,
    };
    (a, b)
}

impl MeshEnd {
    /// The shard that this end belongs to.
    pub fn me(&self) -> ShardId {
        self.me
    }

    /// Bytes of entries in one block.
    #[inline]
    pub fn block_bytes(&self) -> usize {
        self.request_pool.block_bytes()
    }

    /// How many shards the mesh joins.
    pub fn shards(&self) -> usize {
        self.peers.len()
    }

    /// This shard's own doorbell.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bells[self.me.index()]
    }

    /// The cores that are full. What a core reads may be a moment old.
    #[inline]
    pub fn full(&self) -> CoreSet {
        CoreSet(self.full.load(Ordering::Relaxed))
    }

    /// Says whether this core is full.
    pub fn set_full(&self, full: bool) {
        let bit = 1 << self.me.0;
        if full {
            self.full.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.full.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn peer(&mut self, shard: ShardId) -> &mut Peer {
        self.peers[shard.index()].as_mut().expect("a shard has no lane to itself")
    }

    /// Whether a request of `len` bytes that awaits `replies` replies can be sent to `to`. After a
    /// refusal the bell rings when it is worth asking again.
    #[inline]
    pub fn request_room(&mut self, to: ShardId, len: usize, replies: usize) -> bool {
        let slots = self.reply_slots;
        let peer = self.peers[to.index()].as_mut().expect("a shard has no lane to itself");
        if peer.replies_due + replies > slots {
            return false;
        }
        peer.requests_out.has_room(&mut self.request_pool, len) || {
            // The pool is shared by all lanes, so any of them may bring the block that helps.
            let lanes = self.peers.iter_mut().flatten().map(|peer| &mut peer.requests_out);
            lanes.for_each(|lane| lane.await_room(&mut self.request_pool));
            self.peers[to.index()]
                .as_mut()
                .is_some_and(|peer| peer.requests_out.has_room(&mut self.request_pool, len))
        }
    }

    /// Whether a request that causes `deliveries` to a crowd can be sent to `to`, as far as they
    /// are concerned. After a refusal the bell rings when it is worth asking again.
    pub fn request_crowd_room(&mut self, to: ShardId, deliveries: usize) -> bool {
        let peer = self.peers[to.index()].as_mut().expect("a shard has no lane to itself");
        peer.requests_out.has_crowd_room(&mut self.request_pool, deliveries)
    }

    /// As [`MeshEnd::request_crowd_room`], for a delivery.
    pub fn deliver_crowd_room(&mut self, to: ShardId, deliveries: usize) -> bool {
        let peer = self.peers[to.index()].as_mut().expect("a shard has no lane to itself");
        peer.delivers_out.has_crowd_room(&mut self.deliver_pool, deliveries)
    }

    /// The block to which a request of `len` bytes is appended, after [`MeshEnd::request_room`].
    #[inline]
    pub fn request(&mut self, to: ShardId, len: usize, replies: usize) -> &mut Block {
        self.unsent.insert(to);
        self.appended += 1;
        let peer = self.peers[to.index()].as_mut().expect("a shard has no lane to itself");
        peer.replies_due += replies;
        peer.unrung = true;
        peer.requests_out.append(&mut self.request_pool, len)
    }

    /// Whether a delivery of `len` bytes can be sent to `to`. After a refusal the bell rings when
    /// it is worth asking again.
    #[inline]
    pub fn deliver_room(&mut self, to: ShardId, len: usize) -> bool {
        let peer = self.peers[to.index()].as_mut().expect("a shard has no lane to itself");
        peer.delivers_out.has_room(&mut self.deliver_pool, len) || {
            let lanes = self.peers.iter_mut().flatten().map(|peer| &mut peer.delivers_out);
            lanes.for_each(|lane| lane.await_room(&mut self.deliver_pool));
            self.peers[to.index()]
                .as_mut()
                .is_some_and(|peer| peer.delivers_out.has_room(&mut self.deliver_pool, len))
        }
    }

    /// The block to which a delivery of `len` bytes is appended, after [`MeshEnd::deliver_room`].
    #[inline]
    pub fn deliver(&mut self, to: ShardId, len: usize) -> &mut Block {
        self.unsent.insert(to);
        self.appended += 1;
        let peer = self.peers[to.index()].as_mut().expect("a shard has no lane to itself");
        peer.unrung = true;
        peer.delivers_out.append(&mut self.deliver_pool, len)
    }

    /// Answers a request of `to`; its room was reserved by `to`.
    pub fn reply(&mut self, to: ShardId, reply: Reply) {
        self.unsent.insert(to);
        let peer = self.peer(to);
        let sent = peer.replies_out.push(reply);
        debug_assert!(sent.is_ok(), "the requester reserved the room of its replies");
        peer.unrung = true;
        self.replied += 1;
    }

    /// The next reply of `from`.
    #[inline]
    pub fn next_reply(&mut self, from: ShardId) -> Option<Reply> {
        let peer = self.peer(from);
        let reply = peer.replies_in.pop().ok()?;
        peer.replies_due -= 1;
        Some(reply)
    }

    /// The next block of requests of `from`.
    pub fn next_requests(&mut self, from: ShardId) -> Option<Block> {
        self.peer(from).requests_in.pop()
    }

    /// The next block of deliveries of `from`.
    pub fn next_delivers(&mut self, from: ShardId) -> Option<Block> {
        self.peer(from).delivers_in.pop()
    }

    /// Returns a block read by [`MeshEnd::next_requests`].
    pub fn give_back_requests(&mut self, from: ShardId, block: Block) {
        if self.peer(from).requests_in.give_back(block) {
            self.bells[from.index()].ring(self.me);
        }
    }

    /// Returns a block read by [`MeshEnd::next_delivers`].
    pub fn give_back_delivers(&mut self, from: ShardId, block: Block) {
        if self.peer(from).delivers_in.give_back(block) {
            self.bells[from.index()].ring(self.me);
        }
    }

    /// Pushes all open blocks and rings every peer that has something to read. Once per tick.
    pub fn push(&mut self) {
        let (requests, delivers) = (&mut self.request_pool, &mut self.deliver_pool);
        for to in self.unsent.iter() {
            let Some(peer) = self.peers[to.index()].as_mut() else { continue };
            peer.requests_out.push(requests);
            peer.delivers_out.push(delivers);
            if peer.unrung {
                peer.unrung = false;
                self.rung += 1;
                self.bells[to.index()].ring(self.me);
            }
            if !peer.requests_out.has_unsent() && !peer.delivers_out.has_unsent() {
                self.unsent.remove(to);
            } else {
                // The rest goes with a later tick; the peer must hear of it then.
                peer.unrung = true;
            }
        }
    }

    /// Requests and deliveries that this core has appended so far.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// What this core has sent so far. Walks all lanes.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic { replies: self.replied, bells: self.rung, ..Traffic::default() };
        for peer in self.peers.iter().flatten() {
            let (requests, request_bytes) = peer.requests_out.pushed();
            let (delivers, deliver_bytes) = peer.delivers_out.pushed();
            sum.request_blocks += requests;
            sum.deliver_blocks += delivers;
            sum.bytes += request_bytes + deliver_bytes;
        }
        sum
    }

    /// Whether [`MeshEnd::push`] has something left to do.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Blocks of requests and of deliveries to others that are written, under way or being read.
    pub fn blocks_in_use(&self) -> (usize, usize) {
        let peers = || self.peers.iter().flatten();
        let requests: usize = peers().map(|peer| peer.requests_out.back()).sum();
        let delivers: usize = peers().map(|peer| peer.delivers_out.back()).sum();
        (self.request_pool.in_use() - requests, self.deliver_pool.in_use() - delivers)
    }

    /// Most blocks of one kind.
    pub fn blocks_limit(&self) -> usize {
        self.request_pool.limit()
    }

    /// Replies that other shards still owe.
    pub fn replies_due(&self) -> usize {
        self.peers.iter().flatten().map(|peer| peer.replies_due).sum()
    }

    /// Blocks that this core has allocated.
    pub fn block_count(&self) -> usize {
        self.request_pool.allocated() + self.deliver_pool.allocated()
    }
}
