//! How shards talk: bounded lock-free rings between every ordered pair of cores.
//!
//! Three kinds of traffic, each with its own rule:
//! * **REQUEST** (blocks): may be refused when there is no room; the sender then pauses the source.
//! * **DELIVER** (blocks): always drained by the receiver, which needs only local state for it.
//! * **REPLY** (32-byte values): room is reserved by the requester before it sends a request, so
//!   a reply always fits.
//!
//! Invariants worth naming:
//! * the pools of REQUEST and DELIVER blocks are separate: requests can never eat the blocks that
//!   deliveries need, so an owner that waits for DELIVER room is always freed by its peers' drains;
//! * spent blocks go back to the core that allocated them by a reverse ring that always has room;
//! * a ring is read only after its sender rang the doorbell; whoever sleeps re-checks after saying
//!   so, so no ring is left unread.

mod bell;
mod block;
mod end;
mod lane;

#[cfg(test)]
mod tests;

pub use bell::{Bell, Wake};
pub use block::{Attachment, Block, Carried};
pub use end::{MeshEnd, MeshSettings, Reply, Traffic, build};
pub use lane::{Pool, Receiver, Sender};
