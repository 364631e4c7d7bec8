//! An MQTT broker for one dedicated Linux host: one thread per core, nothing shared between cores.
//!
//! The library is a *pure core* and a *thin shell*. The pure core — everything above the line
//! below — is a set of state machines that name no socket, clock, file or thread: bytes and the
//! time go in, bytes and commands come out. [`shard::Shard`] is the whole broker of one core;
//! shards talk to each other only through [`mesh`] rings. The shell (feature `server`) gives each
//! shard a core, an io_uring and a listener.
//!
//! Modules stand in dependency order: a module names only modules above it.
//!
//! Invariants worth naming:
//! * a session lives on one shard, `home(client id)`; a topic is owned by one shard,
//!   `owner(topic)`; [`shard::placement`] alone decides both;
//! * no module of the pure half reads a clock, opens a file or starts a thread;
//! * nothing below [`shard`] knows that other shards exist.

pub mod base;
pub mod codec;
pub mod topic;
pub mod access;
pub mod session;
pub mod index;
pub mod retain;
pub mod mesh;
pub mod transport;
pub mod config;
pub mod shard;
// ---- the shell: feature `server` ----
#[cfg(feature = "server")]
pub mod tls;
#[cfg(feature = "server")]
pub mod net;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod runtime;
#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "server")]
pub mod cli;
