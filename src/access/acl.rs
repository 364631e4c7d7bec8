//! Ordered rules: the first one that decides, decides.
//!
//! A *deny* rule decides as soon as the filter of a SUBSCRIBE and the rule have one topic in
//! common; an *allow* rule only where it means all topics of the filter. So nobody gets a denied
//! message by a wider filter, and no delivery has to be checked.
//!
//! Invariants worth naming:
//! * without any rule everything is allowed, with at least one what no rule decides is denied;
//! * which rule decided can always be told ([`Ruling::rule`]).

use super::client::ClientPattern;
use super::pattern::{Names, Pattern, Question};
use crate::codec::QoS;
use std::fmt;
use std::net::IpAddr;

/// What a rule does where it applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Lets the client.
    Allow,
    /// Does not let it.
    Deny,
}

/// What a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// PUBLISH and will messages.
    Publish,
    /// SUBSCRIBE.
    Subscribe,
    /// Both.
    Both,
}

/// An IP network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8` or a single address.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Network { address, prefix })
    }

    /// Whether `address` belongs to the network. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let shift = 32 - u32::from(self.prefix);
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let shift = 128 - u32::from(self.prefix);
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Whether `address` belongs to one of `networks`.
pub fn is_within(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Whom a rule is for: all lists that are not empty must hold the client.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Who {
    /// User names.
    pub users: Vec<Box<str>>,
    /// Groups, one of which the user must be in.
    pub groups: Vec<Box<str>>,
    /// Client identifiers.
    pub clients: Vec<ClientPattern>,
    /// Names of listeners.
    pub listeners: Vec<Box<str>>,
    /// Networks of the client's address.
    pub networks: Vec<Network>,
    /// Only clients that gave no user name.
    pub anonymous: bool,
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Allow or deny.
    pub effect: Effect,
    /// For whom.
    pub who: Who,
    /// For what.
    pub action: Action,
    /// For which topics; empty: all.
    pub topics: Vec<Pattern>,
    /// For which QoS of a message, or of what a SUBSCRIBE asks for; empty: all.
    pub qos: Vec<QoS>,
    /// A rule for PUBLISH with this RETAIN flag only.
    pub retain: Option<bool>,
}

/// The client that wants something.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// User, client identifier and groups.
    pub names: Names<'a>,
    /// The listener that it came by.
    pub listener: &'a str,
    /// Its address, where it has one.
    pub address: Option<IpAddr>,
}

/// What the client wants.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// [`Action::Publish`] or [`Action::Subscribe`].
    pub action: Action,
    /// A topic name, or the filter of a subscription without its `$share/<group>/`.
    pub topic: &'a str,
    /// The QoS of the message, or the one asked for.
    pub qos: QoS,
    /// The RETAIN flag of the message.
    pub retain: bool,
}

/// A decision, and who made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// Whether the client may.
    pub allowed: bool,
    /// Position of the rule that decided; `None`: no rule did.
    pub rule: Option<usize>,
}

/// An ordered list of rules. Pure value, the same on all cores.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Acl {
    rules: Vec<Rule>,
}

impl Acl {
    /// The rules in the order in which they are asked.
    pub fn new(rules: Vec<Rule>) -> Acl {
        Acl { rules }
    }

    /// Whether there is any rule to ask.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Decides about one access.
    pub fn decide(&self, subject: &Subject<'_>, access: &Access<'_>) -> Ruling {
        let decides = |rule: &Rule| rule.who.holds(subject) && rule.is_about(subject, access);
        match self.rules.iter().position(decides) {
            Some(at) => {
                let allowed = self.rules[at].effect == Effect::Allow;
                Ruling { allowed, rule: Some(at) }
            }
            None => Ruling { allowed: self.rules.is_empty(), rule: None },
        }
    }
}

impl Who {
    /// Whether `subject` is meant.
    pub fn holds(&self, subject: &Subject<'_>) -> bool {
        let Who { users, groups, clients, listeners, networks, anonymous } = self;
        let holds = |list: &[Box<str>], name: &str| list.iter().any(|entry| &**entry == name);
        let names = &subject.names;
        let user = users.is_empty() || names.user.is_some_and(|user| holds(users, user));
        let group = groups.is_empty() || names.groups.iter().any(|group| holds(groups, group));
        let client = clients.is_empty() || clients.iter().any(|c| c.matches(names.client));
        let listener = listeners.is_empty() || holds(listeners, subject.listener);
        let inside = |address| is_within(networks, address);
        let network = networks.is_empty() || subject.address.is_some_and(inside);
        user && group && client && listener && network && (!anonymous || names.user.is_none())
    }
}

impl Rule {
    fn is_about(&self, subject: &Subject<'_>, access: &Access<'_>) -> bool {
        if self.action != Action::Both && self.action != access.action {
            return false;
        }
        let publishes = access.action == Action::Publish;
        if self.retain.is_some_and(|retain| !publishes || retain != access.retain) {
            return false;
        }
        if !self.qos.is_empty() && !self.qos.contains(&access.qos) {
            return false;
        }
        let question = match self.effect {
            Effect::Allow => Question::Covers,
            Effect::Deny => Question::Meets,
        };
        let means = |topic: &Pattern| topic.answers(question, access.topic, &subject.names);
        self.topics.is_empty() || self.topics.iter().any(means)
    }
}
