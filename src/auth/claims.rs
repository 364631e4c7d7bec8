//! From claims (of a token, or in the answer of a web service) to an identity.
//!
//! Invariants worth naming:
//! * a claim that is there and can't be read refuses: it may have been meant to restrict.

use crate::access::{Acl, Action, ClientPattern, Effect, Identity, Pattern, Rule, Who};
use serde_json::{Map, Value};

/// Claims by name, as JSON has them.
pub(super) type Claims = Map<String, Value>;

/// Which claims say what; an empty name: nothing does. A name with dots that is none itself leads
/// into objects, as in `realm_access.roles`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClaimNames<'a> {
    pub(super) user: &'a str,
    pub(super) groups: &'a str,
    pub(super) clients: &'a str,
    pub(super) acl: &'a str,
}

/// Who the claims say that the client is; `given` is what it calls itself, which holds where no
/// claim is named for that.
///
/// # Errors
/// What can't be read, or is missing.
pub(super) fn identity(
    claims: &Claims,
    names: ClaimNames<'_>,
    given: Option<&str>,
) -> Result<Identity, String> {
    let user = match find(claims, names.user) {
        Some(Value::String(user)) => user.as_str(),
        Some(_) => return Err(format!("\"{}\" is no text", names.user)),
        None if names.user.is_empty() => given.ok_or("the CONNECT has no user name")?,
        None => return Err(format!("there is no \"{}\"", names.user)),
    };
    if user.is_empty() || user.len() > usize::from(u16::MAX) || user.contains('\0') {
        return Err("the user name is none that MQTT can have".into());
    }
    let clients = texts(claims, names.clients)?.map(|texts| {
        let patterns = texts.into_iter().map(ClientPattern::new);
        patterns.collect()
    });
    let groups = texts(claims, names.groups)?.unwrap_or_default();
    Ok(Identity {
        user: user.into(),
        groups: groups.into_iter().map(Box::from).collect(),
        acl: rules(claims, names.acl)?,
        clients,
        ..Identity::default()
    })
}

fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    let value = claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        find(claims.get(first)?.as_object()?, rest)
    });
    value.filter(|value| !value.is_null() && !name.is_empty())
}

/// A text or a list of texts; `None` where there is no such claim.
fn texts<'a>(claims: &'a Claims, name: &str) -> Result<Option<Vec<&'a str>>, String> {
    let wrong = || format!("\"{name}\" is no text and no list of texts");
    match find(claims, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(vec![text])),
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|one| one.as_str().ok_or_else(wrong));
            texts.collect::<Result<_, _>>().map(Some)
        }
        Some(_) => Err(wrong()),
    }
}

fn rules(claims: &Claims, name: &str) -> Result<Acl, String> {
    let lists = match find(claims, name) {
        None => return Ok(Acl::default()),
        Some(Value::Object(lists)) => lists,
        Some(_) => return Err(format!("\"{name}\" is no object with pub, sub and all")),
    };
    let mut rules = Vec::new();
    for key in lists.keys() {
        let action = match key.as_str() {
            "pub" => Action::Publish,
            "sub" => Action::Subscribe,
            "all" => Action::Both,
            _ => return Err(format!("\"{name}\" has \"{key}\", and only pub, sub, all are known")),
        };
        let topics = texts(lists, key)?.unwrap_or_default().into_iter();
        let topics = topics.map(Pattern::new).collect::<Result<Vec<_>, _>>();
        let topics = topics.map_err(|error| format!("\"{name}\": {error}"))?;
        // A rule without topics would be about all of them.
        if !topics.is_empty() {
            let (who, qos, retain) = (Who::default(), Vec::new(), None);
            rules.push(Rule { effect: Effect::Allow, who, action, topics, qos, retain });
        }
    }
    if rules.is_empty() {
        // It allows nothing, and that is what it has to say.
        let (effect, action) = (Effect::Deny, Action::Both);
        let (who, topics) = (Who::default(), Vec::new());
        rules.push(Rule { effect, who, action, topics, qos: Vec::new(), retain: None });
    }
    Ok(Acl::new(rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Access, Names, Subject};
    use crate::codec::QoS;

    const NAMES: ClaimNames<'_> =
        ClaimNames { user: "sub", groups: "realm.roles", clients: "clients", acl: "acl" };

    fn read(text: &str) -> Result<Identity, String> {
        let claims: Claims = serde_json::from_str(text).expect(text);
        identity(&claims, NAMES, Some("typed"))
    }

    fn may(identity: &Identity, action: Action, topic: &str) -> bool {
        let groups = &identity.groups;
        let names = Names { user: Some(&identity.user), client: "c1", groups };
        let subject = Subject { names, listener: "tcp", address: None };
        let access = Access { action, topic, qos: QoS::AtMostOnce, retain: false };
        identity.acl.decide(&subject, &access).allowed
    }

    #[test]
    fn claims_say_who_it_is_and_what_it_may() {
        let text = r#"{"sub": "ann", "realm": {"roles": ["red", "blue"]}, "clients": "ann-*",
            "acl": {"pub": ["d/%u/#"], "sub": "x/+", "all": ["both"]}}"#;
        let ann = read(text).expect("valid");
        assert_eq!((&*ann.user, ann.groups.len()), ("ann", 2));
        let clients = ann.clients.as_ref().expect("named");
        assert!(clients[0].matches("ann-7") && !clients[0].matches("bob-7"));
        assert!(may(&ann, Action::Publish, "d/ann/1") && !may(&ann, Action::Publish, "d/bob/1"));
        assert!(may(&ann, Action::Subscribe, "x/1") && !may(&ann, Action::Publish, "x/1"));
        assert!(may(&ann, Action::Publish, "both") && may(&ann, Action::Subscribe, "both"));
        let bare = read(r#"{"sub": "ann"}"#).expect("valid");
        assert!(bare.acl.is_empty() && bare.clients.is_none() && bare.groups.is_empty());
        let nothing = read(r#"{"sub": "ann", "acl": {"pub": []}}"#).expect("valid");
        assert!(!may(&nothing, Action::Publish, "d"));
        // Without a claim for it, what the client calls itself.
        let names = ClaimNames { user: "", ..NAMES };
        let typed = identity(&Claims::new(), names, Some("typed")).expect("valid");
        assert_eq!(&*typed.user, "typed");
    }

    #[test]
    fn what_cannot_be_read_refuses() {
        for (text, said) in [
            (r#"{}"#, "no \"sub\""),
            (r#"{"sub": 7}"#, "no text"),
            (r#"{"sub": ""}"#, "none that MQTT"),
            (r#"{"sub": "a", "clients": 7}"#, "\"clients\""),
            (r#"{"sub": "a", "clients": ["a", 7]}"#, "\"clients\""),
            (r#"{"sub": "a", "acl": ["x"]}"#, "no object"),
            (r#"{"sub": "a", "acl": {"publish": ["x"]}}"#, "only pub, sub, all"),
            (r#"{"sub": "a", "acl": {"pub": ["a/#/b"]}}"#, "acl"),
        ] {
            let fault = read(text).expect_err(text);
            assert!(fault.contains(said), "{text}: {fault}");
        }
    }
}
