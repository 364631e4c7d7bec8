//! One direction of one kind of block traffic between two cores, and the pool of its blocks.
//!
//! Invariants worth naming: a lane has at most `ring_blocks` blocks in its ring plus one open at
//! the sender and one being read at the receiver, so the reverse ring (two longer) always has room;
//! entries never span blocks, one that is larger than a block gets a block of its own size.

use super::block::Block;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Blocks of one kind of one core. Lives on that core.
pub struct Pool {
    free: Vec<Block>,
    block_bytes: usize,
    allocated: usize,
    limit: usize,
}

impl Pool {
    /// A pool of at most `limit` blocks (at least two) of `block_bytes` each.
    pub fn new(block_bytes: usize, limit: usize) -> Pool {
        Pool { free: Vec::new(), block_bytes, allocated: 0, limit: limit.max(2) }
    }

    /// Bytes of entries in one block.
    #[inline]
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Whether [`Pool::take`] would answer.
    pub fn has_block(&self) -> bool {
        !self.free.is_empty() || self.allocated < self.limit
    }

    fn take(&mut self, at_least: usize) -> Block {
        if at_least > self.block_bytes {
            // Counted like any other so that large entries are bounded too.
            self.allocated += 1;
            return Block::with_capacity(at_least);
        }
        self.free.pop().unwrap_or_else(|| {
            self.allocated += 1;
            Block::with_capacity(self.block_bytes)
        })
    }

    fn give(&mut self, mut block: Block) {
        block.clear();
        // A block that grew, or was made for one large entry, is not worth keeping.
        if block.bytes.capacity() == self.block_bytes {
            self.free.push(block);
        } else {
            self.allocated -= 1;
        }
    }

    /// Blocks that are not free.
    pub fn in_use(&self) -> usize {
        self.allocated - self.free.len()
    }

    /// Most blocks that the pool lets exist, but for entries larger than a block.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Blocks that exist: free, open, in rings and being read.
    pub fn allocated(&self) -> usize {
        self.allocated
    }
}

/// Writing end of a lane. Lives on the sending core.
pub struct Sender {
    ring: Producer<Block>,
    spent: Consumer<Block>,
    open: Option<Block>,
    starved: Arc<AtomicBool>,
    attached_in_flight: usize,
    attached_limit: usize,
    /// Deliveries to crowds that blocks under way will cause, and how many may be.
    crowd_in_flight: usize,
    crowd_limit: usize,
    pushed_blocks: u64,
    pushed_bytes: u64,
}

/// Reading end of a lane. Lives on the receiving core.
pub struct Receiver {
    ring: Consumer<Block>,
    spent: Producer<Block>,
    starved: Arc<AtomicBool>,
}

/// Makes a lane of `ring_blocks` blocks that carries at most about `attached_limit` bytes of
/// shared payloads at a time, and messages for crowds that cause at most `crowd_limit` deliveries,
/// or one of them.
pub fn lane(ring_blocks: usize, attached_limit: usize, crowd_limit: usize) -> (Sender, Receiver) {
    let (to_receiver, from_sender) = RingBuffer::new(ring_blocks);
    let (to_sender, from_receiver) = RingBuffer::new(ring_blocks + 2);
    let starved = Arc::new(AtomicBool::new(false));
    let sender = Sender {
        ring: to_receiver,
        spent: from_receiver,
        open: None,
        starved: Arc::clone(&starved),
        attached_in_flight: 0,
        attached_limit,
        crowd_in_flight: 0,
        crowd_limit,
        pushed_blocks: 0,
        pushed_bytes: 0,
    };
    (sender, Receiver { ring: from_sender, spent: to_sender, starved })
}

impl Sender {
    /// Whether entries of `len` bytes in all can be appended now.
    #[inline]
    pub fn has_room(&mut self, pool: &mut Pool, len: usize) -> bool {
        if self.attached_in_flight > self.attached_limit {
            return false;
        }
        if self.open.as_ref().is_some_and(|open| open.room() >= len) {
            return true;
        }
        self.collect(pool);
        self.give_unused(pool);
        pool.has_block() && (self.open.is_none() || !self.ring.is_full())
    }

    /// Whether entries that cause `deliveries` to a crowd can be appended now. After a refusal the
    /// receiver rings when it gives a block back.
    pub fn has_crowd_room(&mut self, pool: &mut Pool, deliveries: usize) -> bool {
        let fits = |lane: &Sender| {
            let open = lane.open.as_ref().map_or(0, |open| open.crowd);
            let under_way = lane.crowd_in_flight + open;
            under_way == 0 || under_way + deliveries <= lane.crowd_limit
        };
        fits(self) || {
            self.await_room(pool);
            fits(self)
        }
    }

    /// Gives an open block that nothing was appended to back to the pool: it would never be sent
    /// and so never come back.
    fn give_unused(&mut self, pool: &mut Pool) {
        if let Some(block) = self.open.take_if(|open| open.bytes.is_empty()) {
            pool.give(block);
        }
    }

    /// After a refusal: asks the receiver to ring this core's bell when it gives a block back, and
    /// takes what was given back before it could see that.
    pub fn await_room(&mut self, pool: &mut Pool) {
        self.starved.store(true, Ordering::SeqCst);
        self.collect(pool);
        self.give_unused(pool);
    }

    /// The block to append `len` bytes of entries to. [`Sender::has_room`] was asked before.
    #[inline]
    pub fn append(&mut self, pool: &mut Pool, len: usize) -> &mut Block {
        if self.open.as_ref().is_none_or(|open| open.room() < len) {
            self.push(pool);
        }
        // Where the ring has filled since room was checked, the open block grows: nothing that
        // was appended is lost.
        self.open.get_or_insert_with(|| pool.take(len))
    }

    /// Sends the open block if the ring has room; true when something was sent.
    pub fn push(&mut self, pool: &mut Pool) -> bool {
        let Some(block) = self.open.take_if(|open| !open.bytes.is_empty()) else {
            return false;
        };
        let len = block.bytes.len();
        let sent = self.push_block(pool, block);
        self.pushed_blocks += u64::from(sent);
        self.pushed_bytes += if sent { len as u64 } else { 0 };
        sent
    }

    fn push_block(&mut self, pool: &mut Pool, block: Block) -> bool {
        let (attached, crowd) = (block.attached_bytes, block.crowd);
        self.attached_in_flight += attached;
        self.crowd_in_flight += crowd;
        match self.ring.push(block) {
            Ok(()) => true,
            Err(rtrb::PushError::Full(block)) => {
                // Said first, tried again then: either the receiver sees the one or this core
                // the room.
                self.starved.store(true, Ordering::SeqCst);
                self.collect(pool);
                match self.ring.push(block) {
                    Ok(()) => true,
                    Err(rtrb::PushError::Full(block)) => {
                        self.attached_in_flight -= attached;
                        self.crowd_in_flight -= crowd;
                        self.open = Some(block);
                        false
                    }
                }
            }
        }
    }

    /// Blocks that went into the ring so far, and the bytes of their entries.
    pub fn pushed(&self) -> (u64, u64) {
        (self.pushed_blocks, self.pushed_bytes)
    }

    /// Blocks that came back and were not collected yet.
    pub fn returned(&self) -> usize {
        self.spent.slots()
    }

    /// Whether a block waits for [`Sender::push`].
    pub fn has_unsent(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.bytes.is_empty())
    }

    /// Blocks that carry nothing: returned by the receiver, or open and empty.
    pub fn back(&self) -> usize {
        self.spent.slots() + usize::from(self.open.as_ref().is_some_and(|o| o.bytes.is_empty()))
    }

    fn collect(&mut self, pool: &mut Pool) {
        while let Ok(block) = self.spent.pop() {
            self.attached_in_flight -= block.attached_bytes;
            self.crowd_in_flight -= block.crowd;
            pool.give(block);
        }
    }
}

impl Receiver {
    /// The next block, if there is one.
    pub fn pop(&mut self) -> Option<Block> {
        self.ring.pop().ok()
    }

    /// Whether a block waits.
    pub fn has_block(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Gives a read block back to its sender; true when the sender waits for room and must be rung.
    pub fn give_back(&mut self, mut block: Block) -> bool {
        // Payloads are released here, on the core that used them last; their size goes back as
        // the sender's credit.
        block.attachments.clear();
        block.bytes.clear();
        let returned = self.spent.push(block);
        debug_assert!(returned.is_ok(), "the reverse ring is longer than all blocks of a lane");
        self.starved.load(Ordering::SeqCst) && self.starved.swap(false, Ordering::SeqCst)
    }
}
