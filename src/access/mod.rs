//! Who a client is and what it may do.
//!
//! Invariants worth naming:
//! * what is not allowed by a rule is denied as soon as there is any rule;
//! * text that a client chose never acts as a wildcard or as more than one level.

mod acl;
mod pattern;

#[cfg(test)]
mod tests;

pub use acl::{Access, Acl, Action, Effect, Network, Rule, Ruling, Subject, Who};
pub use pattern::{Names, Pattern, PatternError};
