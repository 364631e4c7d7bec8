//! What a client shows to prove who it is, and what comes of it.
//!
//! Invariants worth naming:
//! * nothing here prints a password.

use super::acl::Acl;
use super::client::ClientPattern;
use super::scram::Exchange;
use std::fmt;
use std::net::SocketAddr;

/// What a CONNECT says about who sends it, to be checked away from the cores. Pure value.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Number of the listener.
    pub listener: u16,
    /// The client identifier; empty where the broker is to choose one.
    pub client_id: Box<str>,
    /// The user name.
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Option<Box<[u8]>>,
    /// Where it came from, where that is known.
    pub peer: Option<SocketAddr>,
    /// What it says in place of a password, where it proves itself by an exchange.
    pub step: Option<Step>,
}

/// A client's message in an exchange (enhanced authentication, MQTT 5.0 section 4.12). Pure value.
#[derive(Clone, PartialEq, Eq)]
pub struct Step {
    /// The authentication method, such as `SCRAM-SHA-256`.
    pub method: Box<str>,
    /// The authentication data.
    pub data: Option<Box<[u8]>>,
    /// What the last step left behind; `None`: this is the first.
    pub exchange: Option<Box<Exchange>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Credentials { listener, client_id, user, peer, .. } = self;
        write!(f, "Credentials({listener}, {client_id:?}, {user:?}, {peer:?}, hidden)")
    }
}

/// Who a client has proven to be. Pure value.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The user name; rules know it as `%u`.
    pub user: Box<str>,
    /// Groups of the user.
    pub groups: Box<[Box<str>]>,
    /// Rules of its own, asked before those of the broker.
    pub acl: Acl,
    /// Client identifiers that it may use; `None`: all.
    pub clients: Option<Box<[ClientPattern]>>,
    /// Seconds after which its connection is closed.
    pub lasts_s: Option<u32>,
    /// The exchange by which it has proven that, if it was one.
    pub proof: Option<Box<Proof>>,
}

/// How an exchange ended. Pure value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The authentication method.
    pub method: Box<str>,
    /// What the client is told with the CONNACK or the last AUTH.
    pub data: Box<[u8]>,
}

/// What was found out about [`Credentials`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The client is who it says.
    Proven(Box<Identity>),
    /// It is not, or nobody knows it.
    Wrong,
    /// Too many wait; nobody looked.
    Busy,
    /// Who should have looked is not there or gave no answer.
    Unavailable,
    /// The exchange goes on: the client is told `data` and has to answer.
    Continue {
        /// Authentication data.
        data: Box<[u8]>,
        /// For the next step.
        exchange: Box<Exchange>,
    },
    /// The authentication method is not offered.
    NoSuchMethod,
}
