//! Who a client is and what it may do.
//!
//! Invariants worth naming:
//! * what is not allowed by a rule is denied as soon as there is any rule;
//! * text that a client chose never acts as a wildcard or as more than one level.

mod acl;
mod client;
mod credentials;
mod password;
mod pattern;
mod policy;
mod scram;
mod strikes;
mod users;

#[cfg(test)]
mod tests;

pub use acl::{Access, Acl, Action, Effect, Network, Rule, Ruling, Subject, Who, is_within};
pub use client::ClientPattern;
pub use credentials::{Credentials, Identity, Proof, Step, Verdict};
pub use password::HashedPassword;
pub use pattern::{Names, Pattern, PatternError};
pub use policy::{Ban, Group, Policy};
#[cfg(test)]
pub(crate) use scram::client_final;
pub use scram::{Exchange, ScramFault, ScramHash, ScramKeys, prepared};
pub use strikes::{Strikes, Struck, Tolerance, party};
pub use users::{Edit, LineFault, User, Users, edited};
