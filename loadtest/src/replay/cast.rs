//! From the events of a recording to clients with steps.
//!
//! Invariants worth naming:
//! * a client that connects while it is connected goes first, as a broker makes it;
//! * nothing behind the last publication is replayed: clients leave when the run ends.

use super::seats::Seats;
use crate::script::{Act, Step};
use crate::traffic::{Event, Greeting, Moment, Recording, Wish};
use crate::truth::STAMP_LEN;
use corelane::topic::Subscription;
use std::collections::HashMap;

/// The clients of a recording.
#[derive(Default)]
pub struct Cast {
    /// The clients, in the order in which they first came.
    pub actors: Vec<Actor>,
    /// The client of each step, in the order of the recording.
    pub order: Vec<u32>,
    /// Publications.
    pub publications: u64,
    /// Largest payload, bytes.
    pub largest: usize,
    /// When the first publication is due, nanoseconds after the begin.
    pub first_ns: u64,
    /// From the first publication to the last, nanoseconds.
    pub load_ns: u64,
    /// Clients by connection and by their number in the recording.
    connections: HashMap<u32, usize>,
    numbers: HashMap<u32, usize>,
    counts: Counts,
}

/// What is not replayed as it was recorded.
#[derive(Default)]
struct Counts {
    enlarged: u64,
    undecoded: u64,
    wills: u64,
    no_local: u64,
    retained: u64,
    system_topics: u64,
    system_filters: u64,
    taken_over: u64,
    behind: u64,
}

/// One client.
#[derive(Default)]
pub struct Actor {
    /// What it does.
    pub steps: Vec<Step>,
    /// How many steps come before the first publication of the recording.
    pub prelude: usize,
    /// All filters it ever subscribes to.
    pub filters: Vec<Filter>,
    /// All flows it ever publishes on.
    pub flows: Vec<Kind>,
    connection: Option<u32>,
    filter_numbers: HashMap<String, u32>,
    flow_numbers: HashMap<Kind, u32>,
}

/// One filter of a client.
pub struct Filter {
    /// The filter; a share group's with its `$share/…/`.
    pub text: String,
    /// The lowest QoS with which it was subscribed.
    pub qos: u8,
    /// It is subscribed from before the first publication to the end.
    pub steady: bool,
}

/// What a flow is, beside its client.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The topic.
    pub topic: String,
    /// 0 to 2.
    pub qos: u8,
    /// With the retain flag.
    pub retain: bool,
}

/// Whether an event is a publication that can be replayed.
fn publishes(moment: &Moment) -> bool {
    matches!(&moment.event, Event::Publish { topic, .. } if !topic.starts_with('$'))
}

impl Cast {
    /// The cast of a recording whose times are divided by `rate`.
    pub fn new(recording: &Recording, rate: f64) -> Cast {
        let moments = &recording.moments;
        let first = moments.iter().position(publishes);
        let end = moments.iter().rposition(publishes).map_or(moments.len(), |last| last + 1);
        let at_ns = |at: usize| (moments[at].at_us as f64 * 1000.0 / rate) as u64;
        let mut cast = Cast { first_ns: first.map_or(0, at_ns), ..Cast::default() };
        for (at, moment) in moments[..end].iter().enumerate() {
            if Some(at) == first {
                cast.actors.iter_mut().for_each(|actor| actor.prelude = actor.steps.len());
            }
            let loaded = first.is_some_and(|first| at >= first);
            let base_ns = if loaded { cast.first_ns } else { 0 };
            cast.take(moment, at_ns(at) - base_ns, loaded, rate);
        }
        if first.is_none() {
            cast.actors.iter_mut().for_each(|actor| actor.prelude = actor.steps.len());
        }
        cast.load_ns = end.checked_sub(1).map_or(0, at_ns).saturating_sub(cast.first_ns);
        let leaves = |moment: &&Moment| matches!(moment.event, Event::Disconnect { .. });
        let behind = &moments[end..];
        cast.counts.behind = (behind.len() - behind.iter().filter(leaves).count()) as u64;
        cast.actors.iter_mut().for_each(Actor::settle);
        cast
    }

    /// All flows, in the order of their clients.
    pub fn flows(&self) -> impl Iterator<Item = &Kind> {
        self.actors.iter().flat_map(|actor| &actor.flows)
    }

    fn take(&mut self, moment: &Moment, at_ns: u64, loaded: bool, rate: f64) {
        let connection = moment.connection;
        if let Event::Connect { client, greeting, will } = &moment.event {
            self.counts.wills += u64::from(*will);
            self.connect((connection, *client), *greeting, at_ns, rate);
            return;
        }
        let found = self.connections.get(&connection).copied();
        let found = found.filter(|at| self.actors[*at].connection == Some(connection));
        let counts = &mut self.counts;
        counts.undecoded += u64::from(matches!(moment.event, Event::Undecoded(_)));
        let Some(at) = found else { return };
        let actor = &mut self.actors[at];
        let act = match &moment.event {
            Event::Subscribe(wishes) => actor.subscribe(wishes, loaded, counts),
            Event::Unsubscribe(filters) => actor.unsubscribe(filters),
            Event::Publish { .. } if !publishes(moment) => {
                counts.system_topics += 1;
                None
            }
            Event::Publish { qos, retain, size, topic } => {
                let kind = Kind { topic: topic.clone(), qos: *qos, retain: *retain };
                counts.retained += u64::from(*retain);
                counts.enlarged += u64::from((*size as usize) < STAMP_LEN);
                let size = (*size).max(STAMP_LEN as u32);
                self.publications += 1;
                self.largest = self.largest.max(size as usize);
                Some(Act::Publish { flow: actor.flow(kind), size })
            }
            Event::Disconnect { clean } => {
                actor.connection = None;
                Some(Act::Leave { clean: *clean, back: false })
            }
            Event::Connect { .. } | Event::Undecoded(_) => None,
        };
        if let Some(act) = act {
            actor.steps.push(Step { at_ns, act });
            self.order.push(at as u32);
        }
    }

    fn connect(
        &mut self,
        (connection, client): (u32, u32),
        mut greeting: Greeting,
        at_ns: u64,
        rate: f64,
    ) {
        if greeting.expiry_s != u32::MAX {
            greeting.expiry_s = (f64::from(greeting.expiry_s) / rate).ceil() as u32;
        }
        let next = self.actors.len();
        let at = *self.numbers.entry(client).or_insert(next);
        if at == next {
            self.actors.push(Actor::default());
        }
        self.connections.insert(connection, at);
        let actor = &mut self.actors[at];
        if actor.connection.replace(connection).is_some() {
            self.counts.taken_over += 1;
            actor.steps.push(Step { at_ns, act: Act::Leave { clean: false, back: false } });
            self.order.push(at as u32);
        }
        if let Some(Step { act: Act::Leave { back, .. }, .. }) = actor.steps.last_mut() {
            *back = true;
        }
        actor.steps.push(Step { at_ns, act: Act::Connect(greeting) });
        self.order.push(at as u32);
    }

    /// What is not as it was recorded, in words.
    pub fn notes(&self, recording: &Recording, seats: &Seats) -> Vec<String> {
        let counts = &self.counts;
        let mut notes = Vec::new();
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                notes.push(format!("{count} {what}"));
            }
        };
        note(recording.lost, "events were lost while recording");
        if recording.cut {
            note(1, "end mark is missing: the recording was cut and ends with its last whole line");
        }
        note(
            counts.undecoded,
            "connections were not understood while recording, from some point on",
        );
        note(counts.enlarged, "publications are enlarged to the 24 bytes that the checks need");
        note(counts.wills, "connects had a will; none is left");
        note(counts.no_local, "subscriptions were \"no local\"; their clients hear themselves");
        note(
            counts.retained,
            "publications are retained; what brokers send for that upon subscribing is not \
             checked, and what they retained before the recording is not there",
        );
        note(counts.system_topics, "publications to `$` topics are left out");
        note(counts.system_filters, "subscriptions to `$` topics or exclusive ones are left out");
        note(
            counts.taken_over,
            "connects took the place of an open connection; it is closed before them",
        );
        note(counts.behind, "events behind the last publication are left out");
        note(
            seats.unjudged,
            "pairs of flow and receiver are not judged: members of a share group come or go, or \
             get a message on two ways",
        );
        notes
    }
}

impl Actor {
    fn subscribe(&mut self, wishes: &[Wish], loaded: bool, counts: &mut Counts) -> Option<Act> {
        let mut filters = Vec::new();
        for wish in wishes {
            let plain = match Subscription::parse(&wish.filter) {
                Ok(Subscription::Exclusive(_)) | Err(_) => None,
                Ok(subscription) => Some(subscription.filter()),
            };
            if plain.is_none_or(|filter| filter.as_str().starts_with('$')) {
                counts.system_filters += 1;
                continue;
            }
            counts.no_local += u64::from(wish.no_local);
            filters.push((self.filter(wish, !loaded), wish.qos));
        }
        (!filters.is_empty()).then_some(Act::Subscribe(filters))
    }

    fn filter(&mut self, wish: &Wish, steady: bool) -> u32 {
        let next = self.filters.len() as u32;
        let number = *self.filter_numbers.entry(wish.filter.clone()).or_insert(next);
        if number == next {
            self.filters.push(Filter { text: wish.filter.clone(), qos: wish.qos, steady });
        }
        let filter = &mut self.filters[number as usize];
        filter.qos = filter.qos.min(wish.qos);
        number
    }

    fn unsubscribe(&mut self, filters: &[String]) -> Option<Act> {
        let known = filters.iter().filter_map(|filter| self.filter_numbers.get(filter).copied());
        let known: Vec<u32> = known.collect();
        for number in &known {
            self.filters[*number as usize].steady = false;
        }
        (!known.is_empty()).then_some(Act::Unsubscribe(known))
    }

    fn flow(&mut self, kind: Kind) -> u32 {
        if let Some(number) = self.flow_numbers.get(&kind) {
            return *number;
        }
        let number = self.flows.len() as u32;
        self.flows.push(kind.clone());
        self.flow_numbers.insert(kind, number);
        number
    }

    /// Nothing of a client that ever leaves is steady.
    fn settle(&mut self) {
        if self.steps.iter().any(|step| matches!(step.act, Act::Leave { .. })) {
            self.filters.iter_mut().for_each(|filter| filter.steady = false);
        }
    }
}
