//! What would level the cores: the real placement over what the busiest subtrees weigh, under many
//! seeds, because owners are drawn anew at every start.
//!
//! What is known of a core are its heaviest subtrees and, of some, the parts one level deeper. They
//! are taken as wholes; what is left over is taken as spread over all cores.

use super::CoreLoad;
use crate::base::ShardId;
use crate::shard::Placement;

/// Starts that a change is judged by.
pub const STARTS: u64 = 64;
/// Weight per core below which nothing is said.
pub const FEW: u64 = 200;
/// A fullest core of less than this many times the mean is balanced.
const BALANCED: f64 = 1.2;
/// What a change has to take from that figure to be worth a restart.
const WORTH: f64 = 0.1;
/// Changes whose figures differ by less are equally good.
const ALIKE: f64 = 0.05;
/// At most so many pins are proposed.
const MOST_PINS: usize = 16;
/// Greatest depth that the configuration takes.
const DEEPEST: usize = 16;

/// What there is to say. `now` and the like are the load of the fullest core, of the mean.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// Nothing can be uneven.
    OneCore,
    /// So little was looked at.
    TooFew { sampled: u64 },
    /// Nothing to change.
    Balanced { now: f64 },
    /// No rule helps; the subtree that alone is more than the mean, if there is one.
    Nothing { now: f64, heaviest: Option<String> },
    /// The best change: the mean and the worst of many starts, in words and in TOML.
    Change { now: f64, mean: f64, worst: f64, what: String, lines: String },
}

/// A known part of the load, as a share of the whole.
struct Part {
    prefix: String,
    share: f64,
    /// It is one topic, which no depth parts.
    single: bool,
}

/// What is known of the whole load: parts, and the rest.
struct Known {
    parts: Vec<Part>,
    rest: f64,
    cores: usize,
}

/// The best of what the rules of `placement` could become.
pub fn advise(loads: &[CoreLoad], placement: &Placement) -> Verdict {
    let sampled: u64 = loads.iter().map(|load| load.sampled).sum();
    if loads.len() < 2 {
        return Verdict::OneCore;
    }
    if sampled < FEW * loads.len() as u64 {
        return Verdict::TooFew { sampled };
    }
    let fullest = loads.iter().map(|load| load.sampled).max().unwrap_or(0);
    let now = (fullest * loads.len() as u64) as f64 / sampled as f64;
    if now < BALANCED {
        return Verdict::Balanced { now };
    }
    let known = Known::of(loads, sampled, placement);
    let judged = candidates(&known, placement).into_iter().map(|(what, candidate)| {
        let (mean, worst) = known.judge(&candidate);
        (mean, worst, what, candidate)
    });
    let judged: Vec<_> = judged.collect();
    let best = judged.iter().map(|(mean, ..)| *mean).fold(f64::INFINITY, f64::min);
    // The simplest of those that are as good.
    match judged.into_iter().find(|(mean, ..)| *mean <= best + ALIKE) {
        Some((mean, worst, what, candidate)) if mean < now - WORTH => {
            Verdict::Change { now, mean, worst, what, lines: lines(&candidate) }
        }
        _ => {
            let heavy = known.parts.iter().find(|part| part.share > 1.0 / known.cores as f64);
            Verdict::Nothing { now, heaviest: heavy.map(|part| part.prefix.clone()) }
        }
    }
}

impl Known {
    fn of(loads: &[CoreLoad], sampled: u64, placement: &Placement) -> Known {
        let mut parts: Vec<Part> = Vec::new();
        for load in loads {
            let weight = load.sampled as f64 / sampled as f64;
            for (subtree, share) in &load.subtrees {
                let below = |prefix: &str| placement.subtree(prefix).0 == subtree;
                let known = load.deeper.iter().filter(|(prefix, _)| below(prefix));
                let start = parts.len();
                parts.extend(known.map(|(prefix, share)| Part {
                    prefix: prefix.clone(),
                    share: share * weight,
                    single: prefix == subtree,
                }));
                let told: f64 = parts[start..].iter().map(|part| part.share).sum();
                let left = share * weight - told;
                if left > 0.01 * share * weight {
                    parts.push(Part { prefix: subtree.clone(), share: left, single: false });
                }
            }
        }
        parts.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.prefix.cmp(&b.prefix)));
        let rest = (1.0 - parts.iter().map(|part| part.share).sum::<f64>()).max(0.0);
        Known { parts, rest, cores: loads.len() }
    }

    /// The fullest core's load of the mean: the mean and the worst over many starts.
    fn judge(&self, placement: &Placement) -> (f64, f64) {
        let figures = (1..=STARTS).map(|seed| self.fullest(&placement.reseeded([seed, !seed])));
        let (sum, worst) =
            figures.fold((0.0, 0.0_f64), |(sum, worst), figure| (sum + figure, worst.max(figure)));
        (sum / STARTS as f64, worst)
    }

    fn fullest(&self, placement: &Placement) -> f64 {
        let even = 1.0 / self.cores as f64;
        let mut cores = vec![self.rest * even; self.cores];
        for part in &self.parts {
            if !part.single && placement.parts(&part.prefix) {
                cores.iter_mut().for_each(|core| *core += part.share * even);
            } else {
                cores[placement.owner(&part.prefix).index()] += part.share;
            }
        }
        cores.into_iter().fold(0.0, f64::max) / even
    }

    /// The subtrees that owners are decided by, heaviest first.
    fn subtrees(&self, placement: &Placement) -> Vec<Part> {
        let mut subtrees: Vec<Part> = Vec::new();
        for part in &self.parts {
            let prefix = placement.subtree(&part.prefix).0;
            match subtrees.iter_mut().find(|known| known.prefix == prefix) {
                Some(known) => known.share += part.share,
                None => subtrees.push(Part { prefix: prefix.into(), ..*part }),
            }
        }
        subtrees.sort_by(|a, b| b.share.total_cmp(&a.share));
        subtrees
    }
}

/// What could be changed, the simplest first.
fn candidates(known: &Known, placement: &Placement) -> Vec<(String, Placement)> {
    let mut found = Vec::new();
    let subtrees = known.subtrees(placement);
    if let Some(hot) = subtrees.first() {
        let levels = hot.prefix.split('/').count();
        if levels < DEEPEST {
            let what = format!("one topic level more under `{}`", hot.prefix);
            found.push((what, placement.clone().with_override(&hot.prefix, levels + 1)));
        }
    }
    for depth in [placement.depth() + 1, placement.depth() - 1] {
        if (1..=DEEPEST).contains(&depth) {
            found.push((format!("a depth of {depth}"), placement.with_depth(depth)));
        }
    }
    for count in 1..=subtrees.len().min(MOST_PINS) {
        // The heaviest first, each to the core that has least.
        let mut cores = vec![0.0; known.cores];
        let mut pinned = placement.clone();
        for part in &subtrees[..count] {
            let least = (0..known.cores).min_by(|a, b| f64::total_cmp(&cores[*a], &cores[*b]));
            let Some(least) = least else { continue };
            cores[least] += part.share;
            pinned = pinned.with_pin(&part.prefix, ShardId(least as u8));
        }
        let what = match count {
            1 => "pinning the heaviest subtree".to_owned(),
            count => format!("pinning the {count} heaviest subtrees"),
        };
        found.push((what, pinned));
    }
    found
}

/// The keys that make `placement`.
fn lines(placement: &Placement) -> String {
    let mut out = format!("[topics]\ndepth = {}\n", placement.depth());
    for (prefix, depth) in placement.depths() {
        out += &format!("\n[[topics.override]]\nprefix = {}\ndepth = {depth}\n", quoted(&prefix));
    }
    for (prefix, owner) in placement.pins() {
        out += &format!("\n[[topics.pin]]\nprefix = {}\nshard = {}\n", quoted(&prefix), owner.0);
    }
    out
}

/// `text` as a basic string of TOML.
pub fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn placement(cores: usize) -> Placement {
        Placement::new(cores, [3, 4], 2)
    }

    /// Loads of cores that own what the placement says, of topics with their weights.
    fn loads(cores: usize, topics: &[(String, u64)]) -> Vec<CoreLoad> {
        let placement = placement(cores);
        let mut loads = vec![CoreLoad::default(); cores];
        for (topic, weight) in topics {
            let load = &mut loads[placement.owner(topic).index()];
            load.sampled += weight;
            let (subtree, deeper) = placement.subtree(topic);
            for (list, prefix) in [(&mut load.subtrees, subtree), (&mut load.deeper, deeper)] {
                match list.iter_mut().find(|(known, _)| known == prefix) {
                    Some((_, sum)) => *sum += *weight as f64,
                    None => list.push((prefix.to_owned(), *weight as f64)),
                }
            }
        }
        for load in &mut loads {
            let whole = load.sampled.max(1) as f64;
            for list in [&mut load.subtrees, &mut load.deeper] {
                list.iter_mut().for_each(|(_, weight)| *weight /= whole);
                list.sort_by(|a, b| b.1.total_cmp(&a.1));
                list.truncate(8);
            }
        }
        loads
    }

    fn topics(pattern: &str, count: usize, weight: u64) -> Vec<(String, u64)> {
        (0..count).map(|n| (pattern.replace("{}", &n.to_string()), weight)).collect()
    }

    #[test]
    fn what_is_even_or_unknown_is_left_alone() {
        assert_eq!(advise(&loads(1, &topics("a/{}", 9, 99)), &placement(1)), Verdict::OneCore);
        let few = advise(&loads(4, &topics("a/{}", 9, 9)), &placement(4));
        assert_eq!(few, Verdict::TooFew { sampled: 81 });
        let even = advise(&loads(4, &topics("a/{}", 4000, 9)), &placement(4));
        assert!(matches!(even, Verdict::Balanced { now } if now < BALANCED), "{even:?}");
    }

    #[test]
    fn a_hot_subtree_with_many_parts_is_given_one_level_more() {
        let mut all = topics("hot/one/{}", 8, 1000);
        all.extend(topics("a/{}/x", 400, 10));
        let Verdict::Change { now, mean, what, lines, .. } = advise(&loads(4, &all), &placement(4))
        else {
            panic!("a change helps");
        };
        assert!(now > 2.0 && mean < 1.8, "{now} {mean}");
        assert!(what.contains("level more") || what.contains("depth"), "{what}");
        let config = config::parse(&lines).expect("the lines are a configuration");
        assert!(config.topics.depth == 3 || config.topics.r#override[0].depth == 3, "{lines}");
    }

    #[test]
    fn heavy_topics_that_fell_on_one_core_are_pinned_apart() {
        let placement = placement(4);
        let crowded = (0..).map(|n| format!("site/{n}"));
        let mut all: Vec<(String, u64)> = crowded
            .filter(|topic| placement.owner(topic) == ShardId(2))
            .take(4)
            .map(|topic| (topic, 1000))
            .collect();
        all.extend(topics("a/{}", 400, 1));
        let Verdict::Change { now, mean, worst, what, lines } = advise(&loads(4, &all), &placement)
        else {
            panic!("a change helps");
        };
        assert!(now > 3.0 && mean < 1.2 && worst < 1.3, "{now} {mean} {worst}");
        assert_eq!(what, "pinning the 4 heaviest subtrees");
        let config = config::parse(&lines).expect("the lines are a configuration");
        assert_eq!(config.topics.pin.len(), 4);
    }

    #[test]
    fn a_single_topic_can_not_be_parted() {
        let mut all = topics("one/topic", 1, 9000);
        all.extend(topics("a/{}", 400, 1));
        let verdict = advise(&loads(4, &all), &placement(4));
        let heaviest = Some("one/topic".to_owned());
        assert!(matches!(&verdict, Verdict::Nothing { heaviest: h, .. } if *h == heaviest));
    }
}
