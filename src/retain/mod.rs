//! Retained messages of one shard: the last message of each topic, found again by filter.
//!
//! Invariants worth naming:
//! * count and bytes never exceed the limits;
//! * no operation's cost grows with the store: scans and expiry work in bounded steps and go on
//!   where they stopped, whatever changed meanwhile;
//! * a message past its deadline is never found by a scan, removed or not.

mod seek;
mod store;
#[cfg(test)]
mod tests;

pub use store::{RetainLimits, RetainStore, Retained, Scan, SetOutcome};
