//! Which topics make this core busy as their owner: the heaviest subtrees among a sample of the
//! messages that it accepts.
//!
//! One message in 64 on average is looked at. Its weight is what it costs an owner: one for
//! itself and one for each other core it goes to. Two lists with a bounded number of places
//! (*space-saving*, as in `slow.rs`) have the weights of what decides the owner and of one level
//! more, so that advice can tell whether more depth would part a heavy subtree.
//!
//! Invariants worth naming:
//! * nothing is allocated after the start but by a report; a prefix too long for its place counts
//!   in the sum alone;
//! * what is told of a subtree is never more than it weighed: what a place took over is left out.

use super::Shard;
use super::sys::is_reserved;
use crate::base::{CoreSet, Prng};
use crate::session::{MessageView, RunView};

/// Subtrees that are watched at a time in each list.
const PLACES: usize = 32;
/// How many of each list are told.
pub(super) const TOLD: usize = 8;
/// Longest prefix that has a place, in bytes.
const LONGEST: usize = 128;
/// Messages for each one that is looked at, on average.
const EVERY: usize = 64;

struct Place {
    prefix: String,
    weight: u64,
    /// What it took over from the one that had the place before, at most.
    excess: u64,
}

/// The heaviest prefixes. Lives on one core.
#[derive(Default)]
struct Heaviest {
    places: Vec<Place>,
}

impl Heaviest {
    fn note(&mut self, prefix: &str, weight: u64) {
        if prefix.len() > LONGEST {
            return;
        }
        if let Some(place) = self.places.iter_mut().find(|place| place.prefix == prefix) {
            place.weight += weight;
        } else if let Some(least) = self.places.iter_mut().min_by_key(|place| place.weight) {
            // A place that nobody had takes nothing over.
            least.excess = least.weight;
            least.weight += weight;
            least.prefix.clear();
            least.prefix.push_str(prefix);
        }
    }

    /// The heaviest ones with what they certainly weighed; then everything counts half.
    fn take(&mut self) -> Vec<(String, u64)> {
        let certain = self.places.iter().map(|p| (&p.prefix, p.weight - p.excess));
        let mut told: Vec<_> = certain.filter(|(_, weight)| *weight > 0).collect();
        told.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        told.truncate(TOLD);
        let told = told.into_iter().map(|(prefix, weight)| (prefix.clone(), weight)).collect();
        for place in &mut self.places {
            (place.weight, place.excess) = (place.weight / 2, place.excess / 2);
        }
        told
    }
}

/// What the subtrees of a core weigh, as of one report; older intervals count half as much each.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Owned {
    /// All that was looked at.
    pub sampled: u64,
    /// What decides owners, the heaviest first.
    pub subtrees: Vec<(String, u64)>,
    /// The same with one level more.
    pub deeper: Vec<(String, u64)>,
}

/// The counters of one core.
pub(super) struct Skew {
    /// Messages until the next one that is looked at.
    left: u64,
    random: Prng,
    sampled: u64,
    subtrees: Heaviest,
    deeper: Heaviest,
}

impl Skew {
    /// Counters that draw from `seed`; without `reports` they never look at anything.
    pub(super) fn new(seed: u64, reports: bool) -> Skew {
        let places = if reports { PLACES } else { 0 };
        let free = || Place { prefix: String::with_capacity(LONGEST), weight: 0, excess: 0 };
        let heaviest = || Heaviest { places: (0..places).map(|_| free()).collect() };
        let left = if reports { 1 } else { u64::MAX };
        let (subtrees, deeper) = (heaviest(), heaviest());
        Skew { left, random: Prng::new(seed), sampled: 0, subtrees, deeper }
    }

    /// Counts a message; whether it is one to look at.
    #[inline]
    pub(super) fn is_due(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// Counts up to `count` messages, up to one to look at; whether it came to one, and how many
    /// were not counted.
    fn is_due_within(&mut self, count: u64) -> (bool, u64) {
        let counted = self.left.min(count);
        self.left -= counted;
        (self.left == 0, count - counted)
    }

    /// Drawn, so that traffic with a rhythm does not meet the same message again and again.
    fn draw(&mut self) {
        self.left = 1 + self.random.below(2 * EVERY - 1) as u64;
    }

    fn note(&mut self, (subtree, deeper): (&str, &str), weight: u64) {
        self.sampled += weight;
        self.subtrees.note(subtree, weight);
        self.deeper.note(deeper, weight);
    }

    /// What is to be told.
    pub(super) fn take(&mut self) -> Owned {
        let sampled = self.sampled;
        self.sampled /= 2;
        Owned { sampled, subtrees: self.subtrees.take(), deeper: self.deeper.take() }
    }
}

impl Shard {
    /// Counts messages that go to `others`, and looks at those whose turn it is.
    #[inline]
    pub(super) fn look_at_some(&mut self, view: &RunView<'_>, others: CoreSet) {
        let mut left = view.run.count() as u64;
        while left > 0 {
            let (due, rest) = self.skew.is_due_within(left);
            if due {
                self.look_at(&view.first(), others);
            }
            left = rest;
        }
    }

    /// Looks at a message that goes to `others`.
    #[cold]
    #[inline(never)]
    pub(super) fn look_at(&mut self, view: &MessageView<'_>, others: CoreSet) {
        self.skew.draw();
        if !is_reserved(view.topic) {
            let placement = &self.clients.settings.placement;
            self.skew.note(placement.subtree(view.topic), 1 + others.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heavy_subtree_is_found_among_thousands_of_light_ones() {
        let mut skew = Skew::new(7, true);
        let mut looked = 0;
        for n in 0..640_000_u64 {
            if skew.is_due() {
                skew.draw();
                looked += 1;
                let light = format!("site/{}", n * 7919 % 5000);
                let subtree = if n % 10 < 3 { "hot/one" } else { light.as_str() };
                skew.note((subtree, &format!("{subtree}/x")), 1);
            }
        }
        assert!((9_000..11_000).contains(&looked), "{looked} of 640,000");
        let owned = skew.take();
        assert_eq!(owned.sampled, looked);
        let (prefix, weight) = &owned.subtrees[0];
        assert_eq!((prefix.as_str(), owned.deeper[0].0.as_str()), ("hot/one", "hot/one/x"));
        let share = *weight as f64 / looked as f64;
        assert!((0.26..0.34).contains(&share), "{share}");
        let light: u64 = owned.subtrees[1..].iter().map(|(_, weight)| weight).sum();
        assert!(light < looked / 50, "light ones are told as {light}");
        assert!(owned.subtrees.len() <= TOLD && owned.deeper.len() <= TOLD);
        let older = skew.take();
        assert_eq!((older.sampled, older.subtrees[0].1), (looked / 2, weight / 2));
    }

    #[test]
    fn what_has_no_place_counts_in_the_sum_and_nothing_is_counted_where_nobody_asks() {
        let mut skew = Skew::new(7, true);
        let long = "x".repeat(LONGEST + 1);
        skew.note((&long, &long), 3);
        assert_eq!(skew.take(), Owned { sampled: 3, ..Owned::default() });
        let mut off = Skew::new(7, false);
        assert!((0..100_000).all(|_| !off.is_due()));
    }
}
