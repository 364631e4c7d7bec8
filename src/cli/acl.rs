//! `corelane acl explain`: may this client do that, and which rule says so?

use super::args::ExplainArgs;
use super::refusal::Refusal;
use super::{effective, print};
use crate::access::{Access, Action, Names, Ruling, Subject};
use crate::auth::Provisions;
use crate::codec::QoS;
use crate::config::{self, Config};
use crate::topic::{Subscription, TopicName, delayed};
use std::path::{Path, PathBuf};

/// Prints the decision and who made it; gives whether the client may.
///
/// # Errors
/// The configuration can't be read or has faults, or the topic is none.
pub fn run(args: &ExplainArgs) -> Result<bool, Refusal> {
    let config = effective::file(Some(&args.config))?;
    let provisions = effective::provisions(&config, Some(&args.config))?;
    let topic = checked_topic(args)?;
    let groups = groups(args, &provisions);
    let subject = Subject {
        names: Names { user: args.user.as_deref(), client: &args.client, groups: &groups },
        listener: listener(args, &config)?,
        address: args.address,
    };
    let access = Access {
        action: if args.action == "publish" { Action::Publish } else { Action::Subscribe },
        topic,
        qos: QoS::from_u8(args.qos).unwrap_or_default(),
        retain: args.retain,
    };
    let ruling = provisions.policy.acl.decide(&subject, &access);
    let verdict = if ruling.allowed { "allowed" } else { "denied" };
    print(&format!(
        "{verdict}: {}\n",
        reason(args, &config, ruling, provisions.policy.acl.is_empty())
    ))?;
    Ok(ruling.allowed)
}

/// The topic, or the filter without what stands before it.
fn checked_topic(args: &ExplainArgs) -> Result<&str, Refusal> {
    let (text, what) = (args.topic.as_str(), format!("--topic {}", args.topic));
    if args.action == "publish" {
        let valid = TopicName::new(text);
        let wrong =
            |_| Refusal::new(format!("{what} is no topic name"), "name one without + and #");
        return valid.map(|_| delayed::target(text)).map_err(wrong);
    }
    let wrong =
        |_| Refusal::new(format!("{what} is no topic filter"), "name one such as a/+/b or a/#");
    Subscription::parse(text).map(|parsed| &text[parsed.prefix(text).len()..]).map_err(wrong)
}

fn groups(args: &ExplainArgs, provisions: &Provisions) -> Vec<Box<str>> {
    if !args.group.is_empty() {
        return args.group.iter().map(|group| group.as_str().into()).collect();
    }
    let Some(name) = args.user.as_deref() else { return Vec::new() };
    let user = provisions.users().and_then(|users| users.find(name));
    let own = user.map_or(Vec::new(), |user| user.groups.to_vec());
    own.into_iter().chain(provisions.policy.groups_of(name)).collect()
}

fn listener<'a>(args: &'a ExplainArgs, config: &'a Config) -> Result<&'a str, Refusal> {
    let names = || config.listeners.iter().map(|listener| listener.name.as_str());
    let Some(name) = args.listener.as_deref() else { return Ok(names().next().unwrap_or("")) };
    if names().any(|known| known == name) {
        return Ok(name);
    }
    let known = names().collect::<Vec<_>>().join(", ");
    Err(Refusal::new(format!("there is no listener \"{name}\""), format!("name one of {known}")))
}

/// Why it was decided so: the rule with its file and line.
fn reason(args: &ExplainArgs, config: &Config, ruling: Ruling, free: bool) -> String {
    let Some(at) = ruling.rule else {
        return match free {
            true => "there is no rule, so everything is".into(),
            false => "no rule applies, and what no rule allows is denied".into(),
        };
    };
    let of_file = at.checked_sub(config.acl.len());
    let (path, number) = match of_file {
        None => (args.config.clone(), at),
        Some(number) => (acl_file(args, config), number),
    };
    let line = std::fs::read_to_string(&path).ok();
    let line = line.and_then(|text| config::line_of(&text, &format!("acl[{number}]")));
    let line = line.map_or(String::new(), |line| format!(", line {line}"));
    format!("by rule {} of {}{line}", number + 1, path.display())
}

fn acl_file(args: &ExplainArgs, config: &Config) -> PathBuf {
    let directory = args.config.parent().unwrap_or(Path::new(""));
    directory.join(config.access.acl_file.given().unwrap_or_default())
}
