//! TLS of one connection as a state machine: bytes of the socket go in, plain text and bytes for
//! the socket come out. [`ServerTls`] is what all connections of a listener share, [`Tls`] is one
//! of them.
//!
//! Invariants worth naming:
//! * no socket and no thread is named here, and files are read only by [`ServerTls::load`] and
//!   [`ServerTls::reload`];
//! * an idle connection keeps no buffer: input waits only while a record is incomplete;
//! * what a peer sends costs it the connection at worst: there is no panic, and what waits is
//!   bounded by [`WAITING_MAX`];
//! * early data is never accepted, so no message can be replayed.

mod settings;
mod files;
mod names;
mod tickets;
mod server;
mod connection;
pub mod certificate;
#[cfg(test)]
mod tests;

pub use connection::{Details, Fault, Tls, WAITING_MAX};
pub use files::TlsError;
pub use server::ServerTls;
pub(crate) use server::default_provider;
pub use settings::{
    ClientCertificates, Identity, MinimumVersion, TICKET_ROTATION_MAX_S, TlsSettings,
};
