//! What clients may do, and whose word is taken for who they are. The same on all cores.

use super::acl::{Access, Acl, Ruling, Subject, Who};
use super::credentials::Identity;
use super::strikes::Tolerance;

/// What clients may do, and whether they are asked who they are. Pure value, the same on all cores.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What they may do.
    pub acl: Acl,
    /// An MQTT 3.x client is disconnected for a PUBLISH that is denied, not just unheard.
    pub closes_denied: bool,
    /// For each listener: whether there is somebody to check the names that its clients give.
    pub asks: Box<[bool]>,
    /// Who is kept out, whatever they can prove.
    pub bans: Vec<Who>,
    /// How many wrong passwords from one address are too many.
    pub guesses: Tolerance,
    /// How many connections of one client are too many.
    pub flaps: Tolerance,
}

impl Policy {
    /// Whether there is somebody to check the names that clients of a listener give.
    pub fn asks(&self, listener: u16) -> bool {
        self.asks.get(usize::from(listener)).copied().unwrap_or(false)
    }

    /// Whether `subject` is kept out.
    pub fn bans(&self, subject: &Subject<'_>) -> bool {
        self.bans.iter().any(|who| who.holds(subject))
    }

    /// Whether anything can be denied to `identity`.
    pub fn guards(&self, identity: Option<&Identity>) -> bool {
        !self.acl.is_empty() || identity.is_some_and(|identity| !identity.acl.is_empty())
    }

    /// Decides about one access: rules that came with the identity first, then the others. The rule
    /// of a ruling counts among the latter.
    pub fn decide(
        &self,
        identity: Option<&Identity>,
        subject: &Subject<'_>,
        access: &Access<'_>,
    ) -> Ruling {
        let own = identity.map(|identity| &identity.acl).filter(|acl| !acl.is_empty());
        let Some(own) = own else { return self.acl.decide(subject, access) };
        let ruling = own.decide(subject, access);
        match ruling.rule {
            Some(_) => Ruling { rule: None, ..ruling },
            None if self.acl.is_empty() => ruling,
            None => self.acl.decide(subject, access),
        }
    }
}
