//! Who owns what: the only place where client identifiers and topics are mapped to shards.
//!
//! Invariants worth naming:
//! * whenever a filter matches a topic, `owner(topic)` is in `shards_of(filter)`;
//! * the hash is keyed by a seed that clients don't know, so nobody can aim at one core.

use crate::base::{CoreSet, ShardId};
use crate::config::ClientPattern;
use crate::topic::{TopicFilter, delayed, level_count};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// How live messages of a topic travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Route {
    /// Through the topic's owner: one total order per topic.
    #[default]
    Owner,
    /// From the publisher's core to each interested core directly: one hop less, order per
    /// publisher only. Messages with the RETAIN flag and share groups stay with the owner.
    Publisher,
}

/// Something said of all topics below a literal prefix of whole levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<T> {
    levels: Vec<Box<str>>,
    value: T,
}

impl<T: Copy> Rule<T> {
    /// A rule for `prefix` and everything below it.
    pub fn new(prefix: &str, value: T) -> Rule<T> {
        Rule { levels: prefix.split('/').map(Box::from).collect(), value }
    }

    fn covers(&self, topic: &str) -> bool {
        let mut levels = topic.split('/');
        self.levels.iter().all(|own| levels.next() == Some(own))
    }

    /// How the rule relates to the topics that `filter` matches.
    fn relation(&self, filter: &TopicFilter) -> Relation {
        let mut levels = filter.as_str().split('/');
        let mut relation = Relation::All;
        for own in &self.levels {
            match levels.next() {
                Some("#") => return Relation::Some,
                Some("+") => relation = Relation::Some,
                Some(level) if level == &**own => {}
                Some(_) | None => return Relation::None,
            }
        }
        relation
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    None,
    Some,
    All,
}

/// The rules of ownership, the same on every shard. Pure value, any core.
#[derive(Clone, Debug)]
pub struct Placement {
    shards: usize,
    seed: [u64; 2],
    depth: usize,
    depths: Vec<Rule<usize>>,
    pins: Vec<Rule<ShardId>>,
    routes: Vec<Rule<Route>>,
    homes: Vec<(ClientPattern, ShardId)>,
}

/// Longest rule that covers `topic`.
fn longest<'a, T: Copy>(rules: &'a [Rule<T>], topic: &str) -> Option<&'a Rule<T>> {
    rules.iter().filter(|rule| rule.covers(topic)).max_by_key(|rule| rule.levels.len())
}

/// Puts `rule` into `rules` instead of the one with its prefix.
fn replace<T>(rules: &mut Vec<Rule<T>>, rule: Rule<T>) {
    rules.retain(|old| old.levels != rule.levels);
    rules.push(rule);
}

/// The first `depth` levels of `topic`, or all of it.
fn head(topic: &str, depth: usize) -> &str {
    let mut slashes = topic.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    slashes.nth(depth - 1).map_or(topic, |(at, _)| &topic[..at])
}

impl Placement {
    /// Ownership by the first `depth` topic levels over `shards` shards, hashed under `seed`.
    ///
    /// # Panics
    /// When `shards` or `depth` is zero.
    pub fn new(shards: usize, seed: [u64; 2], depth: usize) -> Placement {
        assert!(shards > 0 && depth > 0, "a placement needs a shard and a level");
        let (depths, pins, routes, homes) = (vec![], vec![], vec![], vec![]);
        Placement { shards, seed, depth, depths, pins, routes, homes }
    }

    /// Adds rules: depth per prefix, owner per prefix, routing per prefix.
    pub fn with_rules(
        mut self,
        depths: Vec<Rule<usize>>,
        pins: Vec<Rule<ShardId>>,
        routes: Vec<Rule<Route>>,
    ) -> Placement {
        (self.depths, self.pins, self.routes) = (depths, pins, routes);
        self
    }

    /// Adds homes: the first pattern that fits a client id holds.
    ///
    /// # Panics
    /// When a home is a shard that there is not.
    pub fn with_homes(mut self, homes: Vec<(ClientPattern, ShardId)>) -> Placement {
        assert!(homes.iter().all(|(_, home)| home.index() < self.shards), "homes are shards");
        self.homes = homes;
        self
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards
    }

    fn hash(&self, domain: u8, text: &str) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        let mut hasher = SipHasher13::new_with_keys(self.seed[0], self.seed[1]);
        hasher.write_u8(domain);
        hasher.write(text.as_bytes());
        ShardId((hasher.finish() % self.shards as u64) as u8)
    }

    /// The shard on which the session of `client_id` lives.
    pub fn home(&self, client_id: &str) -> ShardId {
        self.pinned_home(client_id).unwrap_or_else(|| self.hash(b'c', client_id))
    }

    /// The shard that a rule names as the home of `client_id`.
    pub fn pinned_home(&self, client_id: &str) -> Option<ShardId> {
        let rule = self.homes.iter().find(|(clients, _)| clients.matches(client_id));
        rule.map(|(_, home)| *home)
    }

    /// The shard that owns `topic`: its retained message, its share groups, its order. Messages to
    /// `$delayed/<seconds>/<topic>` are for the owner of that topic.
    pub fn owner(&self, topic: &str) -> ShardId {
        let topic = delayed::target(topic);
        if let Some(pin) = longest(&self.pins, topic) {
            return pin.value;
        }
        let depth = longest(&self.depths, topic).map_or(self.depth, |rule| rule.value);
        self.hash(b't', head(topic, depth))
    }

    /// What of `topic` decides its owner, pins included, and the same with one level more. Both
    /// belong to that owner.
    pub fn subtree<'t>(&self, topic: &'t str) -> (&'t str, &'t str) {
        let topic = delayed::target(topic);
        let depth = longest(&self.depths, topic).map_or(self.depth, |rule| rule.value);
        let pinned = longest(&self.pins, topic).map_or(0, |pin| pin.levels.len());
        let levels = depth.max(pinned);
        (head(topic, levels), head(topic, levels + 1))
    }

    /// Whether the topics below `prefix` have several owners.
    pub fn parts(&self, prefix: &str) -> bool {
        let depth = longest(&self.depths, prefix).map_or(self.depth, |rule| rule.value);
        longest(&self.pins, prefix).is_none() && depth > level_count(prefix)
    }

    /// Topic levels that decide where no rule does.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The depths by prefix.
    pub fn depths(&self) -> impl Iterator<Item = (String, usize)> {
        self.depths.iter().map(|rule| (rule.levels.join("/"), rule.value))
    }

    /// The pins by prefix.
    pub fn pins(&self) -> impl Iterator<Item = (String, ShardId)> {
        self.pins.iter().map(|rule| (rule.levels.join("/"), rule.value))
    }

    /// The same rules under another seed.
    pub fn reseeded(&self, seed: [u64; 2]) -> Placement {
        Placement { seed, ..self.clone() }
    }

    /// The same rules with another depth where no rule decides.
    pub fn with_depth(&self, depth: usize) -> Placement {
        Placement { depth, ..self.clone() }
    }

    /// With a depth for `prefix` instead of the one that it has.
    pub fn with_override(mut self, prefix: &str, depth: usize) -> Placement {
        replace(&mut self.depths, Rule::new(prefix, depth));
        self
    }

    /// With an owner for `prefix` instead of the one that it has.
    pub fn with_pin(mut self, prefix: &str, owner: ShardId) -> Placement {
        replace(&mut self.pins, Rule::new(prefix, owner));
        self
    }

    /// The shard that decides who has an exclusive subscription to `filter`.
    pub fn arbiter(&self, filter: &TopicFilter) -> ShardId {
        self.hash(b'x', filter.as_str())
    }

    /// How live messages of `topic` travel.
    pub fn route(&self, topic: &str) -> Route {
        longest(&self.routes, topic).map_or(Route::Owner, |rule| rule.value)
    }

    /// The shards that must know of a subscription to `filter`.
    pub fn shards_of(&self, filter: &TopicFilter) -> CoreSet {
        let all = CoreSet::first(self.shards);
        let by_publisher = self.routes.iter().filter(|rule| rule.value == Route::Publisher);
        if by_publisher.into_iter().any(|rule| rule.relation(filter) != Relation::None) {
            return all;
        }
        if !filter.has_wildcard() {
            return CoreSet::only(self.owner(filter.as_str()));
        }
        let literal = literal_head(filter.as_str());
        let mut shards = match longest(&self.pins, literal) {
            Some(pin) => CoreSet::only(pin.value),
            None => {
                let depth = longest(&self.depths, literal).map_or(self.depth, |rule| rule.value);
                self.owners_at(literal, depth)
            }
        };
        for pin in self.pins.iter().filter(|rule| rule.relation(filter) == Relation::Some) {
            shards.insert(pin.value);
        }
        for rule in self.depths.iter().filter(|rule| rule.relation(filter) == Relation::Some) {
            shards = shards.union(self.owners_at(literal, rule.value));
        }
        shards
    }

    /// Owners of the topics below `literal` when the first `depth` levels decide.
    fn owners_at(&self, literal: &str, depth: usize) -> CoreSet {
        let known = if literal.is_empty() { 0 } else { level_count(literal) };
        if known < depth {
            return CoreSet::first(self.shards);
        }
        CoreSet::only(self.hash(b't', head(literal, depth)))
    }
}

/// The levels of a filter before its first wildcard. A first level that is empty (`/+`) counts as
/// no literal level: asking more shards than needed is safe.
fn literal_head(filter: &str) -> &str {
    let wildcard = filter.find(['+', '#']).unwrap_or(filter.len());
    filter[..wildcard].strip_suffix('/').unwrap_or(&filter[..wildcard])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::TopicName;
    use proptest::prelude::*;

    fn levels(choices: &'static str) -> impl Strategy<Value = String> {
        let level = proptest::sample::select(choices.split(' ').collect::<Vec<_>>());
        proptest::collection::vec(level, 1..6).prop_map(|levels| levels.join("/"))
    }

    fn rules<T: Copy + std::fmt::Debug>(
        value: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Vec<Rule<T>>> {
        let rule = (levels("a b c"), value).prop_map(|(prefix, value)| Rule::new(&prefix, value));
        proptest::collection::vec(rule, 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn the_owner_of_a_topic_hears_of_every_filter_that_matches_it(
            shards in 1usize..9,
            depth in 1usize..5,
            depths in rules(1usize..6),
            pins in rules((0u8..8).prop_map(ShardId)),
            routes in rules(prop_oneof![Just(Route::Owner), Just(Route::Publisher)]),
            topic in levels("a b c"),
            filter in levels("a b c + +"),
            open in any::<bool>(),
            below in any::<bool>(),
        ) {
            // Half of the filters are made to match: levels of the topic with wildcards put in.
            let mut text: Vec<&str> = topic.split('/').collect();
            for (own, chosen) in text.iter_mut().zip(filter.split('/')) {
                if below && chosen == "+" { *own = "+"; }
            }
            let mut text = if below { text.join("/") } else { filter.clone() };
            if open {
                let cut = text.len().min(filter.len()).max(1);
                text = match text[..cut].rsplit_once('/') {
                    Some((front, _)) => format!("{front}/#"),
                    None => "#".into(),
                };
            }
            let pins = pins.into_iter().filter(|pin| pin.value.index() < shards).collect();
            let placement = Placement::new(shards, [1, 2], depth).with_rules(depths, pins, routes);
            let filter = TopicFilter::new(&text).expect("a valid filter");
            let topic = TopicName::new(&topic).expect("a valid topic");
            let asked = placement.shards_of(filter);
            prop_assert!(!asked.is_empty());
            if filter.matches(topic) {
                let owner = placement.owner(topic.as_str());
                prop_assert!(asked.contains(owner), "{} {}", text, topic.as_str());
                if placement.route(topic.as_str()) == Route::Publisher {
                    prop_assert_eq!(asked, CoreSet::first(shards));
                }
            }
        }
    }

    #[test]
    fn a_subtree_is_what_decides_the_owner() {
        let placement = Placement::new(8, [3, 4], 2)
            .with_override("a/b", 3)
            .with_pin("pinned", ShardId(1))
            .with_pin("pinned/x/y", ShardId(2));
        for (topic, subtree, deeper) in [
            ("t", "t", "t"),
            ("t/u", "t/u", "t/u"),
            ("t/u/v/w", "t/u", "t/u/v"),
            ("a/b/c/d/e", "a/b/c", "a/b/c/d"),
            ("pinned/a/b", "pinned/a", "pinned/a/b"),
            ("pinned/x/y/z", "pinned/x/y", "pinned/x/y/z"),
            ("$delayed/5/t/u/v/w", "t/u", "t/u/v"),
        ] {
            assert_eq!(placement.subtree(topic), (subtree, deeper));
            let owners = [topic, subtree, deeper].map(|topic| placement.owner(topic));
            assert!(owners.iter().all(|owner| *owner == owners[0]), "{topic}: {owners:?}");
        }
        assert!(placement.parts("t") && placement.parts("a/b") && !placement.parts("t/u"));
        assert!(!placement.parts("pinned"));
    }

    #[test]
    fn a_filter_with_enough_literal_levels_concerns_one_shard() {
        let placement = Placement::new(8, [3, 4], 2);
        let of = |text| placement.shards_of(TopicFilter::new(text).expect("valid")).len();
        assert_eq!(of("a/b"), 1);
        assert_eq!(of("a/b/#"), 1);
        assert_eq!(of("a/b/+/d"), 1);
        assert_eq!(of("a/#"), 8);
        assert_eq!(of("a/+"), 8);
        assert_eq!(of("#"), 8);
    }

    #[test]
    fn the_first_pattern_that_fits_is_the_home() {
        let homes = [("gate-*", 3), ("gate-1", 2), ("*-probe", 0)];
        let homes = homes.map(|(clients, home)| (ClientPattern::new(clients), ShardId(home)));
        let placement = Placement::new(4, [5, 6], 2).with_homes(homes.to_vec());
        assert_eq!(placement.home("gate-1"), ShardId(3));
        assert_eq!(placement.home("a-probe"), ShardId(0));
        let free = Placement::new(4, [5, 6], 2);
        let others = (0..50).map(|n| format!("other-{n}"));
        assert!(others.into_iter().all(|id| placement.home(&id) == free.home(&id)));
    }

    #[test]
    fn clients_and_topics_spread_over_all_shards() {
        let placement = Placement::new(4, [9, 9], 2);
        let homes: CoreSet = (0..200).map(|n| placement.home(&format!("client-{n}"))).collect();
        let owners: CoreSet = (0..200).map(|n| placement.owner(&format!("t/{n}/x"))).collect();
        assert_eq!((homes.len(), owners.len()), (4, 4));
    }
}
