//! `soak`: a long mix of everything, to see whether the broker's memory comes back.
//!
//! A warm-up cycle lives through every kind of load, then all clients leave and their sessions
//! end; the memory of that moment is the reference. The long cycle ends the same way. On the way
//! clients vanish with messages in flight, persistent ones return, some take their connection over
//! from themselves or unsubscribe for a moment, and some readers are slow.

use super::{Done, Result, run};
use crate::args::SoakArgs;
use crate::process::Memory;
use crate::scenario::{Group, Protocol, Role, Scenario, Sizes, Will};
use corelane::runtime::{Requests, Stopping};
use serde::Serialize;
use std::thread::sleep;
use std::time::Duration;

/// Growth of resident memory that passes, as a share.
const GROWTH_MAX: f64 = 0.05;
/// Longest warm-up cycle, seconds.
const WARMUP_MAX_S: u64 = 60;
/// Rest before memory is read, for work the broker put off.
const SETTLE: Duration = Duration::from_secs(4);
/// How long sessions live without a connection, seconds: less than the rest above.
const EXPIRY_S: u32 = 3;

#[derive(Serialize)]
struct Soak {
    resident_before: u64,
    resident_after: u64,
    growth: f64,
    passed: bool,
}

/// Soaks and prints.
///
/// # Errors
/// The broker's process is not known or its memory cannot be read.
pub fn soak(args: &SoakArgs, requests: &Requests) -> Result<Done> {
    let pid = args.target.pid.ok_or("soak needs --pid, the broker's process")?;
    let scenario = crate::args::checked(scenario(args))?;
    let target = super::target(&args.target, &scenario)?;
    let mut memories = Vec::new();
    let mut done = Done::Passed;
    for (label, seconds) in
        [("warm-up", args.seconds.clamp(1, WARMUP_MAX_S)), ("soak", args.seconds.max(1))]
    {
        let cycle = Scenario { seconds: seconds as f64, ..scenario.clone() };
        let outcome = run::once(&cycle, &target, requests, label);
        run::print(&outcome, args.json)?;
        // A long mix is about truth and memory; a late generator does not spoil those.
        if Done::of(&outcome) == Done::Failed {
            done = Done::Failed;
        }
        if outcome.partial.is_some() || requests.stopping() != Stopping::No {
            return Ok(Done::Failed);
        }
        sleep(SETTLE);
        memories.push(Memory::of(pid)?.resident);
    }
    let [before, after] = memories[..] else { return Ok(Done::Failed) };
    let growth = after as f64 / before.max(1) as f64 - 1.0;
    let passed = growth <= GROWTH_MAX;
    let found = Soak { resident_before: before, resident_after: after, growth, passed };
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!(
            "resident {} KiB -> {} KiB ({:+.1} %): {}",
            before / 1024,
            after / 1024,
            100.0 * growth,
            if passed { "passed" } else { "GREW" },
        );
    }
    Ok(if passed { done } else { Done::Failed })
}

/// The mix: its parts divide the clients among them.
pub fn scenario(args: &SoakArgs) -> Scenario {
    let idle = args.clients / args.idle_one_in.max(1);
    let each = ((args.clients.saturating_sub(idle)) / 11).max(1);
    let rate = Some((args.rate as f64 / (4 * each) as f64).max(0.01));
    let part = |name: &str, role, topic: &str, qos| Group {
        name: name.into(),
        role,
        count: each,
        topics: vec![topic.into()],
        qos,
        rate: rate.filter(|_| role == Role::Publish),
        payload: Sizes::Range { from: 24, to: 1024 },
        ..Group::default()
    };
    let durable = |group: Group| Group { clean: false, expiry_s: EXPIRY_S, ..group };
    let will = Will { topic: "soak/wills/{i}".into(), payload: "gone".into(), ..Will::default() };
    let mut groups = vec![
        part("steady", Role::Subscribe, "soak/calm/{i}", 2),
        Group { slow_ms: 50, ..part("slow", Role::Subscribe, "soak/calm/#", 0) },
        Group { storm_every_s: 7.0, ..part("fickle", Role::Subscribe, "soak/storm/+", 0) },
        durable(Group {
            storm_every_s: 5.0,
            ..part("returning", Role::Subscribe, "soak/durable/{i}", 1)
        }),
        Group {
            arrival: crate::scenario::Arrival::Poisson,
            ..part("calm", Role::Publish, "soak/calm/{i}", 2)
        },
        Group { on_ms: 200, off_ms: 300, ..part("bursts", Role::Publish, "soak/storm/{i}", 0) },
        part("durable", Role::Publish, "soak/durable/{i}", 1),
        durable(Group {
            takeover_every_s: 4.0,
            ..part("rivals", Role::Subscribe, "soak/restless/{i}", 2)
        }),
        Group {
            unsubscribe_every_s: 2.0,
            ..part("moody", Role::Subscribe, "soak/restless/{i}", 1)
        },
        durable(Group {
            takeover_every_s: 6.0,
            ..part("restless", Role::Publish, "soak/restless/{i}", 2)
        }),
        Group {
            storm_every_s: 3.0,
            will: Some(will),
            ..part("killed", Role::Subscribe, "soak/wills/{i}", 1)
        },
    ];
    if idle > 0 {
        groups.push(Group { name: "idle".into(), count: idle, ..Group::default() });
    }
    let mut scenario = Scenario {
        name: "soak".into(),
        version: Protocol::V5,
        seed: args.seed,
        cpus: args.cpus.clone().unwrap_or_default(),
        patience_s: 20.0,
        groups,
        ..Scenario::default()
    };
    args.door.apply(&mut scenario);
    scenario
}
