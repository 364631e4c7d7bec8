//! Finding out who clients are, on threads beside the cores, and the files that say so.
//!
//! A core gives its [`Desk`] the credentials of a connection and gets a verdict later; meanwhile
//! the connection waits and the core does not.
//!
//! Invariants worth naming:
//! * what waits is bounded; who finds the queue full is told so at once;
//! * an answer is only ever for the connection that asked: keys of closed ones mean nothing;
//! * no password leaves here, and none is logged.

mod web;
mod keys;
mod settings;
mod claims;
mod cache;
mod jwt;
mod http;
mod chain;
mod read;
mod judge;
mod tls;

#[cfg(test)]
mod tests;

pub use judge::{Desk, Judge};
pub use read::{Provisions, ReadError};
pub use tls::ListenerTls;
