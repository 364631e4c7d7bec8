//! The provided buffers of one core: a ring of free buffers that kernel and driver share.
//!
//! Invariants worth naming:
//! * a buffer belongs to the kernel while it stands in the ring and to the one [`Filled`] that
//!   names it from its completion until [`Buffers::give_back`];
//! * the memory outlives the io_uring it is registered with (see `Ring`'s drop).

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The group under which the buffers are registered; there is one per io_uring.
pub(super) const GROUP: u16 = 0;
/// Most buffers that the kernel allows in one ring.
pub(super) const MAX_BUFFERS: usize = 1 << 15;

/// A buffer that the kernel filled and lent to the driver. Neither `Clone` nor constructible
/// elsewhere: it is the permission to read, and giving it back ends the permission.
pub(super) struct Filled {
    id: u16,
    len: usize,
}

/// Anonymous zeroed memory of the process.
struct Mapping {
    start: *mut u8,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Mapping> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh private mapping at an address of the kernel's choice overlaps nothing.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, MapFlags::PRIVATE)? };
        Ok(Mapping { start: start.cast(), bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return; // leaked on purpose
        }
        // SAFETY: `start` and `bytes` are one whole mapping made by `new`, and nobody but this
        // value and its owner, which is being dropped, holds pointers into it.
        // A failure would leave the memory mapped, which harms nobody.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}

/// All receive buffers of one driver. Lives on one core.
pub(super) struct Buffers {
    ring: Mapping,
    data: Mapping,
    /// A power of two, at most [`MAX_BUFFERS`].
    count: u16,
    bytes_each: usize,
    /// Our copy of the ring's tail; the ring index is its low bits.
    tail: u16,
}

impl Buffers {
    /// `count` (rounded up to a power of two) free buffers of `bytes_each` bytes.
    pub(super) fn new(count: usize, bytes_each: usize) -> io::Result<Buffers> {
        let count = count.clamp(1, MAX_BUFFERS).next_power_of_two();
        let bytes_each = bytes_each.clamp(64, 1 << 24);
        let mut buffers = Buffers {
            ring: Mapping::new(count * size_of::<BufRingEntry>())?,
            data: Mapping::new(count * bytes_each)?,
            count: count as u16,
            bytes_each,
            tail: 0,
        };
        for id in 0..buffers.count {
            buffers.place(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Address of the ring for its registration.
    pub(super) fn ring_address(&self) -> u64 {
        self.ring.start as u64
    }

    /// How many buffers there are.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of one buffer.
    pub(super) fn bytes_each(&self) -> usize {
        self.bytes_each
    }

    /// The permission to read buffer `id`, of which the kernel filled `len` bytes.
    ///
    /// # Safety
    /// A completion reaped just now must have named `id`, and this is the only call for it.
    pub(super) unsafe fn filled(&self, id: u16, len: usize) -> Filled {
        assert!(id < self.count && len <= self.bytes_each, "the kernel named a buffer of ours");
        Filled { id, len }
    }

    /// The bytes received.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        let offset = usize::from(filled.id) * self.bytes_each;
        // SAFETY: `filled` checked id and len against this mapping, so the range lies inside it;
        // the mapping is zeroed at birth, hence initialised. The kernel took the buffer out of
        // the ring when it filled it and does not write to it until `give_back`, which needs
        // `filled` by value, that is, after this borrow.
        unsafe { std::slice::from_raw_parts(self.data.start.add(offset), filled.len) }
    }

    /// Hands the buffer to the kernel again.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "giving the permission away is what makes `bytes` sound"
    )]
    pub(super) fn give_back(&mut self, filled: Filled) {
        let Filled { id, .. } = filled;
        self.place(id);
        self.publish();
    }

    /// Leaves the memory mapped for ever: the kernel would not let go of it.
    pub(super) fn leak(&mut self) {
        self.ring.bytes = 0;
        self.data.bytes = 0;
    }

    fn place(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let entry = self.ring.start.cast::<BufRingEntry>().wrapping_add(slot);
        let address = self.data.start as u64 + (usize::from(id) * self.bytes_each) as u64;
        // SAFETY: `slot < count` entries of the mapping, which is page aligned. The kernel only
        // reads entries below the published tail, and at most `count` buffers exist, so this
        // entry is not among them: nobody else accesses it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.bytes_each as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the mapping is the base of the buffer ring, as `tail` demands.
        let tail = unsafe { BufRingEntry::tail(self.ring.start.cast()) }.cast_mut();
        // SAFETY: the tail lies inside the mapping, is aligned, and is only ever accessed
        // atomically, by us and by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        tail.store(self.tail, Ordering::Release);
    }
}
