//! What clients may do, and whose word is taken for who they are. The same on all cores.

use super::acl::{Access, Acl, Ruling, Subject, Who};
use super::credentials::Identity;
use super::strikes::Tolerance;
use crate::base::Time;

/// Somebody who is kept out. Pure value.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Ban {
    /// Whom it is about.
    pub who: Who,
    /// When it ends, in seconds since 1970; `None`: never.
    pub until_s: Option<u64>,
}

/// Users that belong together. Pure value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// What rules call it.
    pub name: Box<str>,
    /// The names of its users.
    pub users: Box<[Box<str>]>,
}

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
    pub bans: Vec<Ban>,
    /// Groups, beside those that come with an identity.
    pub groups: Vec<Group>,
    /// Who is refused is not told why.
    pub obscures: bool,
    /// Seconds since 1970 at time zero of the cores.
    pub origin_s: u64,
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
    pub fn bans(&self, subject: &Subject<'_>, now: Time) -> bool {
        let now_s = self.origin_s + now.0 / 1_000_000;
        let holds = |ban: &Ban| ban.until_s.is_none_or(|end_s| now_s < end_s);
        self.bans.iter().any(|ban| holds(ban) && ban.who.holds(subject))
    }

    /// The groups of `user`, beside those that come with an identity.
    pub fn groups_of(&self, user: &str) -> impl Iterator<Item = Box<str>> {
        let groups = self.groups.iter();
        let has = move |group: &&Group| group.users.iter().any(|one| **one == *user);
        groups.filter(has).map(|group| group.name.clone())
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
