//! Settings of rules about access: lists of texts in checked form, and the rules themselves.

use super::choice::{Choice, Effect, RetainFlag, TokenAlgorithm, TopicAction};
use super::key::Key;
use super::read::{Given, Scan};
use super::setting::{Setting, Wrong, filed, text, wrong_type};
use super::table::{AclRule, BanRule};
use crate::access::{self, Ban, ClientPattern, Network, Pattern, Rule, Who};
use crate::codec::QoS;

/// Something that a list holds.
pub trait Item: Sized {
    /// What it is, in words, and how one is written.
    const WORDS: (&'static str, &'static str);
    /// Checks `text`. Errors say what is wrong and what to write.
    fn parse(text: &str) -> Result<Self, Wrong>;
    /// The item as it is written.
    fn text(&self) -> String;
}

/// A list of texts in checked form; empty where none was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List(Vec::new())
    }
}

impl<T> List<T> {
    /// The items in the order in which they were written.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<T: Item> Setting for List<T> {
    fn kind() -> String {
        format!("array of {}, not an empty one", T::WORDS.0)
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        let (what, example) = T::WORDS;
        let items = given.value.as_array().map(|items| items.iter());
        let wrong = || wrong_type(given.value, &format!("an array of {what}"), example);
        let items = filed(items.ok_or_else(wrong), given, scan)?;
        if items.len() == 0 {
            // Else a list that became empty by mistake would let everybody in.
            let reason = "an empty list is for nobody".into();
            scan.fault(given, reason, "leave the key out for all, or name one".into());
            return None;
        }
        let read = items.map(|item| text(item.get_ref(), example, T::parse));
        filed(read.collect::<Result<_, _>>().map(List), given, scan)
    }

    fn show(&self) -> String {
        let items = self.0.iter().map(|item| format!("{:?}", item.text()));
        format!("[{}]", items.collect::<Vec<_>>().join(", "))
    }
}

impl Item for Box<str> {
    const WORDS: (&'static str, &'static str) = ("names", "[\"one\", \"two\"]");

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "" => Err(("a name is empty".into(), "write names such as [\"one\"]".into())),
            _ => Ok(text.into()),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Item for TokenAlgorithm {
    const WORDS: (&'static str, &'static str) = ("signature algorithms", "[\"ES256\"]");

    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = || {
            let known = <Self as Choice>::WORDS.iter().map(|(word, _)| *word);
            let known = known.collect::<Vec<_>>().join(", ");
            (format!("\"{text}\" is no signature algorithm known here"), format!("use {known}"))
        };
        TokenAlgorithm::from_word(text).ok_or_else(wrong)
    }

    fn text(&self) -> String {
        self.word().to_owned()
    }
}

impl Item for ClientPattern {
    const WORDS: (&'static str, &'static str) =
        ("client ids with `*` for any characters", "[\"sensor-*\"]");

    fn parse(text: &str) -> Result<Self, Wrong> {
        Ok(ClientPattern::new(text))
    }

    fn text(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Item for Pattern {
    const WORDS: (&'static str, &'static str) =
        ("topic filters with places such as `%u`", "[\"a/%u/#\"]");

    fn parse(text: &str) -> Result<Self, Wrong> {
        let remedy = "write a filter such as \"a/+/#\" or \"users/%u\"";
        Pattern::new(text).map_err(|error| (format!("\"{text}\": {error}"), remedy.into()))
    }

    fn text(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Item for Network {
    const WORDS: (&'static str, &'static str) = ("IP networks", "[\"10.0.0.0/8\"]");

    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = || {
            let reason = format!("\"{text}\" is no network");
            (reason, "write \"10.0.0.0/8\", \"fd00::/8\" or an address".into())
        };
        Network::parse(text).ok_or_else(wrong)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl From<&BanRule> for Ban {
    fn from(ban: &BanRule) -> Ban {
        let who = Who {
            users: ban.users.0.clone(),
            clients: ban.clients.0.clone(),
            networks: ban.networks.0.clone(),
            ..Who::default()
        };
        Ban { who, until_s: ban.until.unix_s() }
    }
}

impl From<&AclRule> for Rule {
    fn from(rule: &AclRule) -> Rule {
        let qos = rule.qos.as_slice().iter();
        Rule {
            effect: match rule.effect {
                Effect::Allow => access::Effect::Allow,
                Effect::Deny => access::Effect::Deny,
            },
            who: Who {
                users: rule.users.0.clone(),
                groups: rule.groups.0.clone(),
                clients: rule.clients.0.clone(),
                listeners: rule.listeners.0.clone(),
                networks: rule.networks.0.clone(),
                anonymous: rule.anonymous,
            },
            action: match rule.action {
                TopicAction::Publish => access::Action::Publish,
                TopicAction::Subscribe => access::Action::Subscribe,
                TopicAction::Both => access::Action::Both,
            },
            topics: rule.topics.0.clone(),
            qos: qos.filter_map(|qos| QoS::from_u8(*qos as u8)).collect(),
            retain: match rule.retain {
                RetainFlag::Any => None,
                RetainFlag::Set => Some(true),
                RetainFlag::Clear => Some(false),
            },
        }
    }
}
