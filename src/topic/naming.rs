//! Topic aliases that the broker gives on one connection (MQTT 5.0 section 3.3.2.3.4): which topics
//! get one, by what was sent.
//!
//! A topic gets an alias when it is met the second time. When all are taken, a topic that is met
//! more than twice as often as the least used one takes its place; all counts are halved from time
//! to time, so that yesterday's topics make room. A round through more topics than there are
//! aliases changes nothing, where replacing the least recently used one would give and take one
//! with every message.
//!
//! Invariants worth naming:
//! * [`Naming::Both`] changes nothing here before [`GivenAliases::give`]: a packet that is not sent
//!   gives no alias;
//! * memory is bounded by the maximum times [`LONGEST`], and grows with the aliases in use.

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// Topics shorter than this are always sent: an alias takes 3 bytes in every packet.
pub const SHORTEST: usize = 8;

/// Topics longer than this are always sent, as a bound on memory; in bytes.
pub const LONGEST: usize = 256;

/// Topics without alias that are remembered, by a mark.
const CANDIDATES: usize = 64;

/// Messages between two halvings of all counts.
const HALVING: u16 = 512;

/// Where counts end: a topic of the past gives way after two or three halvings.
const MOST_MET: u8 = 63;

/// How a PUBLISH names its topic. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    /// The topic alone.
    Topic,
    /// The topic, and the alias that stands for it from then on.
    Both(u16),
    /// The alias alone.
    Alias(u16),
}

#[derive(Clone, Copy, Default, Debug)]
struct Candidate {
    /// The upper half of the topic's mark; a mistake here costs a few bytes at most.
    mark: u16,
    met: u8,
}

#[derive(Debug)]
struct Given {
    topic: String,
    met: u8,
}

/// Outbound topic aliases of one connection. Lives on the connection's core.
#[derive(Debug)]
pub struct GivenAliases {
    maximum: u16,
    until_halving: u16,
    candidates: [Candidate; CANDIDATES],
    /// Marks of the topics in `given`.
    marks: Vec<u32>,
    /// Alias `n` at `n - 1`.
    given: Vec<Given>,
    /// Capacities of the texts.
    texts: usize,
}

fn mark(topic: &str) -> u32 {
    FixedState::with_seed(0).hash_one(topic.as_bytes()) as u32
}

impl GivenAliases {
    /// None given yet, of `1..=maximum`. Allocates nothing.
    pub fn new(maximum: u16) -> GivenAliases {
        GivenAliases {
            maximum,
            until_halving: HALVING,
            candidates: [Candidate::default(); CANDIDATES],
            marks: Vec::new(),
            given: Vec::new(),
            texts: 0,
        }
    }

    /// How to name `topic` in the next PUBLISH.
    pub fn name(&mut self, topic: &str) -> Naming {
        if !(SHORTEST..=LONGEST).contains(&topic.len()) {
            return Naming::Topic;
        }
        self.until_halving -= 1;
        if self.until_halving == 0 {
            self.halve();
        }
        let mark = mark(topic);
        if let Some(at) = self.marks.iter().position(|known| *known == mark) {
            let given = &mut self.given[at];
            if given.topic != topic {
                // Two topics of one mark: the later one goes without.
                return Naming::Topic;
            }
            given.met = MOST_MET.min(given.met + 1);
            return Naming::Alias(at as u16 + 1);
        }
        let candidate = self.candidate(mark);
        candidate.met = MOST_MET.min(candidate.met + 1);
        match candidate.met {
            0..2 => Naming::Topic,
            met => self.place_for(met),
        }
    }

    /// The place of a topic among the candidates: one of two, so that two topics seldom keep each
    /// other out for ever.
    fn candidate(&mut self, mark: u32) -> &mut Candidate {
        let upper = (mark >> 16) as u16;
        let places = [mark, mark >> 6].map(|bits| bits as usize % CANDIDATES);
        let known = places.into_iter().find(|at| self.candidates[*at].mark == upper);
        let [first, second] = places;
        let weaker =
            if self.candidates[second].met < self.candidates[first].met { second } else { first };
        let candidate = &mut self.candidates[known.unwrap_or(weaker)];
        if known.is_none() {
            *candidate = Candidate { mark: upper, met: 0 };
        }
        candidate
    }

    /// The alias that a topic met `met` times deserves.
    fn place_for(&self, met: u8) -> Naming {
        if self.given.len() < usize::from(self.maximum) {
            return Naming::Both(self.given.len() as u16 + 1);
        }
        let least = self.given.iter().enumerate().min_by_key(|(_, given)| given.met);
        match least {
            Some((at, given)) if u16::from(met) > 2 * u16::from(given.met) => {
                Naming::Both(at as u16 + 1)
            }
            _ => Naming::Topic,
        }
    }

    /// The packet that says that `alias` stands for `topic` was sent. `alias` is what
    /// [`GivenAliases::name`] has just answered.
    pub fn give(&mut self, alias: u16, topic: &str) {
        let (at, mark) = (usize::from(alias) - 1, mark(topic));
        // As it has an alias now, its place is free.
        let met = std::mem::take(self.candidate(mark)).met;
        if at == self.given.len() {
            let given = Given { topic: topic.to_owned(), met };
            self.texts += given.topic.capacity();
            self.marks.push(mark);
            return self.given.push(given);
        }
        self.marks[at] = mark;
        let given = &mut self.given[at];
        given.met = met;
        let before = given.topic.capacity();
        given.topic.clear();
        given.topic.push_str(topic);
        self.texts += given.topic.capacity() - before;
    }

    /// Bytes of memory for the aliases given, zero before the first; they never become fewer.
    pub fn bytes(&self) -> usize {
        if self.given.is_empty() {
            return 0;
        }
        let lists = self.marks.capacity() * size_of::<u32>();
        size_of::<GivenAliases>() + lists + self.given.capacity() * size_of::<Given>() + self.texts
    }

    #[cold]
    fn halve(&mut self) {
        self.until_halving = HALVING;
        self.given.iter_mut().for_each(|given| given.met /= 2);
        self.candidates.iter_mut().for_each(|candidate| candidate.met /= 2);
    }
}
