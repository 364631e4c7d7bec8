//! A recording laid out as a plan: its clients with their scripts, its flows, and who hears them.
//!
//! Invariants worth naming:
//! * a flow is what one client publishes to one topic with one QoS and retain flag, since that is
//!   what the protocol keeps in order;
//! * copies are alike but for their numbers and the first level of their topics;
//! * what is not replayed as it was recorded stands in [`Replayed::notes`].

mod cast;
mod seats;
#[cfg(test)]
pub(crate) mod tests;

use crate::outcome::Replayed;
use crate::plan::{Flow, Member, Plan};
use crate::scenario::{Group, Role, Scenario, Sizes};
use crate::script::{Act, Script};
use crate::traffic::Recording;
use crate::truth::STAMP_LEN;
use cast::{Actor, Cast};
use corelane::topic::{MAX_TOPIC_BYTES, Subscription};
use seats::Seats;
use std::hash::{BuildHasher, RandomState};

/// Clients of one run, at most.
const CLIENTS_MAX: usize = 4_000_000;
/// Publications of QoS 1 and 2 that a client has under way, at most. Recordings do not tell how
/// many it would have dared; so many are more than most clients do.
const INFLIGHT_MAX: usize = 1024;
/// The golden ratio.
const GOLDEN: f64 = 1.618_033_988_749_895;
/// Connects that wait for the broker at once.
const CONNECTING_MAX: usize = 4096;

/// How a recording is replayed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scale {
    /// How much faster than it was recorded; above 0.
    pub rate: f64,
    /// How many times at once; 1 or more. Several have a topic level of their own each.
    pub copies: usize,
}

/// A recording ready to be run.
pub struct Laid {
    /// What the engine and reports ask for: one group of all clients.
    pub scenario: Scenario,
    /// The clients and flows.
    pub plan: Plan,
    /// What is to be said about it.
    pub replayed: Replayed,
}

/// Lays a recording out; `source` is what it is called.
///
/// # Errors
/// A scale out of range, or one that makes more of the recording than can be run.
pub fn lay(source: &str, recording: &Recording, scale: Scale) -> Result<Laid, String> {
    if !(scale.rate.is_finite() && scale.rate > 0.0) {
        return Err("`--rate`: use a number above 0; 2 is twice as fast as recorded".into());
    }
    let cast = Cast::new(recording, scale.rate);
    if cast.actors.is_empty() {
        return Err(format!("{source}: no client connects in this recording"));
    }
    let clients = cast.actors.len().saturating_mul(scale.copies);
    if scale.copies == 0 || clients > CLIENTS_MAX {
        return Err(format!("`--copies`: use 1 to {}", CLIENTS_MAX / cast.actors.len()));
    }
    let seats = Seats::new(&cast);
    let plan = plan(&cast, &seats, scale)?;
    let copies = scale.copies as u64;
    let replayed = Replayed {
        source: source.into(),
        rate: scale.rate,
        copies: scale.copies,
        clients: cast.actors.len(),
        publications: cast.publications * copies,
        due: seats.due(&cast) * copies,
        notes: cast.notes(recording, &seats),
    };
    Ok(Laid { scenario: scenario(source, &cast, &replayed), plan, replayed })
}

/// What reports and the engine ask of a scenario.
fn scenario(source: &str, cast: &Cast, replayed: &Replayed) -> Scenario {
    let clients = replayed.clients * replayed.copies;
    // Unlike any other run's, and within the 23 characters of MQTT 3.1.
    let run = RandomState::new().hash_one(source) >> 16;
    let span_s = (cast.load_ns as f64 / 1e9).max(1e-3);
    let group = Group {
        name: "recorded".into(),
        role: Role::Publish,
        count: clients,
        topics: vec!["as recorded".into()],
        qos: cast.flows().map(|flow| flow.qos).max().unwrap_or(0),
        payload: Sizes::Range { from: STAMP_LEN, to: cast.largest.max(STAMP_LEN) },
        // The mean; each message has its own time.
        rate: Some((replayed.publications as f64 / span_s / clients as f64).max(f64::MIN_POSITIVE)),
        connecting: CONNECTING_MAX,
        client_id: Some(format!("{run:012x}-{{i}}")),
        ..Group::default()
    };
    Scenario {
        name: format!("replay of {source}"),
        about: "Recorded traffic: clients, subscriptions and publications at their times.".into(),
        messages: Some(replayed.publications),
        warmup_s: 0.0,
        groups: vec![group],
        ..Scenario::default()
    }
}

fn plan(cast: &Cast, seats: &Seats, Scale { rate, copies }: Scale) -> Result<Plan, String> {
    let mut plan = Plan {
        clients: Vec::new(),
        flows: Vec::new(),
        audiences: Vec::new(),
        replay_ns: Some(cast.first_ns),
    };
    let actors = cast.actors.iter().enumerate();
    let scripts: Vec<_> = actors.map(|(at, actor)| script(actor, seats, at)).collect();
    for copy in 0..copies {
        let level = if copies > 1 { format!("c{copy}/") } else { String::new() };
        let shift_ns = shift_ns(copy, rate);
        let flow_base = plan.flows.len() as u32;
        let seat_base = plan.audiences.len() as u32;
        plan.audiences.extend_from_slice(&seats.audiences);
        for (flow, range) in cast.flows().zip(&seats.by_flow) {
            plan.flows.push(Flow {
                topic: bounded(format!("{level}{}", flow.topic))?,
                qos: flow.qos,
                retain: flow.retain,
                audiences: range.start + seat_base..range.end + seat_base,
            });
        }
        let mut begin = flow_base;
        for (at, actor) in cast.actors.iter().enumerate() {
            let flows = begin..begin + actor.flows.len() as u32;
            begin = flows.end;
            let heard = seats.heard[at].iter();
            plan.clients.push(Member {
                group: 0,
                number: copy * cast.actors.len() + at,
                filters: filters(actor, &level)?,
                flows,
                heard: heard.map(|(flow, seat)| (flow + flow_base, seat + seat_base)).collect(),
                script: Some(Script { shift_ns, ..scripts[at].clone() }),
            });
        }
    }
    Ok(plan)
}

/// How much later than the first a copy begins: copies spread over one recorded second, since
/// clients that are strangers to each other do not act at the same microsecond.
fn shift_ns(copy: usize, rate: f64) -> u64 {
    // Multiples of the golden ratio lie evenly, however many there are.
    ((copy as f64 * GOLDEN).fract() * 1e9 / rate) as u64
}

/// The script of a client; its copies share what is large.
fn script(actor: &Actor, seats: &Seats, at: usize) -> Script {
    let publishes = |step: &&crate::script::Step| match step.act {
        Act::Publish { flow, .. } => actor.flows[flow as usize].qos > 0,
        _ => false,
    };
    Script {
        steps: actor.steps.clone().into(),
        prelude: actor.prelude,
        shift_ns: 0,
        matches: seats.matches[at].clone().into(),
        inflight: actor.steps.iter().filter(publishes).count().min(INFLIGHT_MAX),
    }
}

/// Filters as one copy subscribes to them.
fn filters(actor: &Actor, level: &str) -> Result<Vec<String>, String> {
    let with_level = |filter: &cast::Filter| match Subscription::parse(&filter.text) {
        Ok(subscription) => {
            let (prefix, plain) = (subscription.prefix(&filter.text), subscription.filter());
            bounded(format!("{prefix}{level}{}", plain.as_str()))
        }
        Err(error) => Err(format!("filter `{}`: {error}", filter.text)),
    };
    actor.filters.iter().map(with_level).collect()
}

fn bounded(topic: String) -> Result<String, String> {
    if topic.len() > MAX_TOPIC_BYTES {
        return Err("a topic has no room for the level of its copy: use --copies 1".into());
    }
    Ok(topic)
}
