//! Who hears which flow of one copy, by whom it is judged, and how much of it is due.
//!
//! Invariants worth naming:
//! * matching is the library's own index, as in any [`crate::plan::Plan`];
//! * a share group is judged only while its members stay: who gets a message when one comes or
//!   goes, nobody but the broker knows.

use super::cast::{Cast, Filter};
use crate::plan::{Audience, hearers, subscriber};
use crate::script::{Act, Listening, Script};
use corelane::index::Index;
use corelane::topic::Subscription;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// The audiences of one copy.
#[derive(Default)]
pub struct Seats {
    /// The audiences; those of a flow are neighbours.
    pub audiences: Vec<Audience>,
    /// By flow.
    pub by_flow: Vec<Range<u32>>,
    /// By client: flows and the audience it is (part of) on each, by flow.
    pub heard: Vec<Vec<(u32, u32)>>,
    /// By client and filter: positions among the flows heard.
    pub matches: Vec<Vec<Vec<u32>>>,
    /// Audiences that are not judged.
    pub unjudged: u64,
}

/// The filters through which a client hears a flow, by position.
type Ways = BTreeMap<usize, Vec<u32>>;

impl Seats {
    /// Finds out for a whole cast.
    pub fn new(cast: &Cast) -> Seats {
        let mut seats = Seats {
            heard: vec![Vec::new(); cast.actors.len()],
            matches: cast.actors.iter().map(|one| vec![Vec::new(); one.filters.len()]).collect(),
            ..Seats::default()
        };
        let mut index = Index::new(1, 1 << 20);
        let mut slots = Vec::new();
        for (client, actor) in cast.actors.iter().enumerate() {
            for (filter, named) in (0..).zip(&actor.filters) {
                if let Ok(subscription) = Subscription::parse(&named.text) {
                    index.subscribe(subscription.filter(), subscriber(slots.len()));
                }
                slots.push((client, filter));
            }
        }
        let mut known: HashMap<&str, Ways> = HashMap::new();
        for (flow, kind) in (0..).zip(cast.flows()) {
            let ways = known.entry(&kind.topic).or_insert_with(|| {
                let mut ways = Ways::new();
                for slot in hearers(&mut index, &kind.topic) {
                    let (client, filter) = slots[slot];
                    ways.entry(client).or_default().push(filter);
                }
                ways
            });
            seats.seat(cast, (flow, kind.qos), ways);
        }
        seats.unjudged = seats.audiences.iter().filter(|one| one.may_lose).count() as u64;
        seats
    }

    /// Makes the audiences of one flow.
    fn seat(&mut self, cast: &Cast, (flow, qos): (u32, u8), ways: &Ways) {
        let begin = self.audiences.len() as u32;
        let filter = |client: usize, at: &u32| &cast.actors[client].filters[*at as usize];
        // Share groups of which some member hears the flow on another way too.
        let mut blurred = BTreeSet::new();
        for (client, filters) in ways {
            let shares: BTreeSet<_> = filters.iter().map(|at| share(filter(*client, at))).collect();
            if shares.len() > 1 {
                blurred.extend(shares.into_iter().flatten());
            }
        }
        let mut shares: BTreeMap<&str, u32> = BTreeMap::new();
        for (client, filters) in ways {
            let all = || filters.iter().map(|at| filter(*client, at));
            let names: BTreeSet<_> = all().map(share).collect();
            let only = names.first().copied().flatten().filter(|_| names.len() == 1);
            let next = self.audiences.len() as u32;
            let seat = only.map_or(next, |share| *shares.entry(share).or_insert(next));
            if seat == next {
                let shared = only.is_some();
                self.audiences.push(Audience { qos, shared, may_lose: false, may_repeat: false });
            }
            let audience = &mut self.audiences[seat as usize];
            audience.qos = audience.qos.min(all().map(|one| one.qos).min().unwrap_or(qos));
            let blurs = names.len() > 1 || only.is_some_and(|share| blurred.contains(share));
            let unsteady = only.is_some() && !all().all(|one| one.steady);
            audience.may_lose |= blurs || unsteady;
            audience.may_repeat |= blurs || unsteady;
            let position = self.heard[*client].len() as u32;
            self.heard[*client].push((flow, seat));
            for at in filters {
                self.matches[*client][*at as usize].push(position);
            }
        }
        self.by_flow.push(begin..self.audiences.len() as u32);
    }

    /// Deliveries of one copy, if every step takes effect before the next one begins.
    pub fn due(&self, cast: &Cast) -> u64 {
        let mut count = Count::new(self, cast);
        cast.order.iter().for_each(|client| count.step(*client as usize));
        count.due
    }
}

/// The share group of a filter, with the filter.
fn share(filter: &Filter) -> Option<&str> {
    filter.text.starts_with("$share/").then_some(filter.text.as_str())
}

/// Counts what is due.
struct Count<'a> {
    seats: &'a Seats,
    cast: &'a Cast,
    /// By client: the next step, its subscriptions, whether its session lasts.
    at: Vec<usize>,
    listening: Vec<(Listening, Script, bool)>,
    first_flow: Vec<usize>,
    /// By audience: members that listen. By flow: audiences that do.
    members: Vec<u32>,
    open: Vec<u64>,
    due: u64,
}

impl<'a> Count<'a> {
    fn new(seats: &'a Seats, cast: &'a Cast) -> Count<'a> {
        let mut first_flow = Vec::new();
        let mut flows = 0;
        for actor in &cast.actors {
            first_flow.push(flows);
            flows += actor.flows.len();
        }
        let listening = cast.actors.iter().enumerate().map(|(at, actor)| {
            let matches = seats.matches[at].clone().into();
            let script = Script { steps: [].into(), prelude: 0, shift_ns: 0, matches, inflight: 0 };
            (Listening::new(actor.filters.len(), seats.heard[at].len()), script, false)
        });
        Count {
            seats,
            cast,
            at: vec![0; cast.actors.len()],
            listening: listening.collect(),
            first_flow,
            members: vec![0; seats.audiences.len()],
            open: vec![0; flows],
            due: 0,
        }
    }

    fn step(&mut self, client: usize) {
        let Count { seats, cast, at, listening, first_flow, members, open, due } = self;
        let act = &cast.actors[client].steps[at[client]].act;
        at[client] += 1;
        let (listening, script, lasting) = &mut listening[client];
        let heard = &seats.heard[client];
        let mut told = |position: u32, listens: bool| {
            let (flow, seat) = heard[position as usize];
            let (members, open) = (&mut members[seat as usize], &mut open[flow as usize]);
            match listens {
                true => *members += 1,
                false => *members -= 1,
            }
            match (listens, *members) {
                (true, 1) => *open += 1,
                (false, 0) => *open -= 1,
                _ => {}
            }
        };
        match act {
            Act::Connect(greeting) => {
                if greeting.clean || !*lasting {
                    listening.clear(&mut told);
                } else {
                    listening.resume(&mut told);
                }
                *lasting = greeting.expiry_s > 0;
            }
            Act::Subscribe(filters) => {
                filters.iter().for_each(|(filter, _)| listening.add(script, *filter, &mut told));
            }
            Act::Unsubscribe(filters) => {
                filters.iter().for_each(|filter| listening.remove(script, *filter, &mut told));
            }
            Act::Leave { back, .. } => {
                let strong = |at: u32| seats.audiences[heard[at as usize].1 as usize].qos > 0;
                listening.leave(|at| *lasting && *back && strong(at), &mut told);
            }
            Act::Publish { flow, .. } => *due += open[first_flow[client] + *flow as usize],
        }
    }
}
