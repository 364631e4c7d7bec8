//! What a session remembers, free of topics, shards and sockets: messages on their way in
//! ([`Receiving`], [`PendingAcks`]) and on their way out ([`Window`], [`Outbox`]).
//!
//! Invariants worth naming:
//! * acknowledgements leave in the order in which the client's publishes arrived;
//! * an inbound QoS 2 packet identifier is forwarded once, however often the client repeats it;
//! * an outbound packet identifier is never in use twice.

mod message;
mod outbox;
mod pending;
mod receive;
mod run;
mod window;

#[cfg(test)]
mod tests;

pub use message::{LARGE_PAYLOAD_BYTES, Ledger, Message, MessageView, Payload};
pub use outbox::{Outbox, OutboxLimits, Overflow, Pushed};
pub use pending::{PendingAck, PendingAcks};
pub use receive::{Arrival, Receiving};
pub use run::{RowView, RunView};
pub use window::{Pubrec, Resend, Window};
