//! All that decides who comes in and what they may do, and the one slow question of it.

use super::acl::Acl;
use super::users::Users;
use std::fmt;
use std::sync::Arc;

/// Who comes in and what they may do, the same on all cores. Pure value.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Whose passwords are known. `None`: nobody can prove a name, so nobody has one.
    pub users: Option<Arc<Users>>,
    /// What they may do.
    pub acl: Acl,
    /// An MQTT 3.x client is disconnected for a PUBLISH that is denied, not just unheard.
    pub closes_denied: bool,
}

/// A password to be checked; slow, so away from the cores. Pure value.
pub struct Inquiry {
    /// Against whom.
    pub users: Arc<Users>,
    /// The name that was given.
    pub user: Box<str>,
    /// The password that was given.
    pub password: Box<[u8]>,
}

/// The answer to an [`Inquiry`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The password is right.
    Right,
    /// It is not, or there is no such user.
    Wrong,
    /// Too many wait; nobody looked.
    Unasked,
}

impl Inquiry {
    /// Computes the hash.
    pub fn judge(&self) -> Verdict {
        match self.users.verify(&self.user, &self.password) {
            true => Verdict::Right,
            false => Verdict::Wrong,
        }
    }
}

impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inquiry(hidden)")
    }
}
