//! `idle`: what a connection that does nothing costs the broker.

use super::{Done, Result, run};
use crate::args::IdleArgs;
use crate::process::Memory;
use crate::report;
use crate::scenario::{Group, Role, Scenario};
use corelane::runtime::Requests;
use serde::Serialize;

#[derive(Serialize)]
struct Idle {
    connections: usize,
    resident_each: f64,
    resident_before: u64,
    resident_after: u64,
    connects_per_second: f64,
    connect_p99_ns: u64,
    idle_cpu: Option<f64>,
}

/// Connects, holds and prints.
///
/// # Errors
/// The broker's process is not known, or its memory cannot be read.
pub fn idle(args: &IdleArgs, requests: &Requests) -> Result<Done> {
    let pid = args.target.pid.ok_or("idle needs --pid, the broker's process")?;
    let before = Memory::of(pid)?;
    let scenario = crate::args::checked(scenario(args))?;
    let target = super::target(&args.target, &scenario)?;
    let outcome = run::once(&scenario, &target, requests, "");
    // While the clients hold: the last second of the window.
    let held = outcome.series.iter().rfind(|second| second.in_window);
    let resident = held.and_then(|second| second.broker_resident).unwrap_or(before.resident);
    let connecting = outcome.series.iter().filter(|second| second.connects > 0);
    let spent: f64 = connecting.map(|second| second.length_s).sum();
    let found = Idle {
        connections: args.connections,
        resident_each: resident.saturating_sub(before.resident) as f64 / args.connections as f64,
        resident_before: before.resident,
        resident_after: resident,
        connects_per_second: outcome.totals.connects as f64 / spent.max(1e-9),
        connect_p99_ns: outcome.connect.p99_ns,
        idle_cpu: outcome.broker_share(),
    };
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        print(&found, &report::verdict(&outcome));
    }
    Ok(Done::of(&outcome))
}

fn print(found: &Idle, verdict: &str) {
    println!(
        "{} idle connections, made at {:.0}/s, p99 {}",
        found.connections,
        found.connects_per_second,
        report::micros(found.connect_p99_ns)
    );
    println!("  each: resident {:.0} B", found.resident_each);
    let (before, after) = (found.resident_before / 1024, found.resident_after / 1024);
    println!("  resident {before} KiB -> {after} KiB");
    println!("  broker CPU while idle {:.2} %", 100.0 * found.idle_cpu.unwrap_or(f64::NAN));
    println!("  {verdict}");
}

fn scenario(args: &IdleArgs) -> Scenario {
    let group = Group {
        name: "idle".into(),
        role: if args.subscribe { Role::Subscribe } else { Role::Idle },
        count: args.connections.max(1),
        topics: vec!["idle/{i}".into()],
        connecting: 256,
        ..Group::default()
    };
    let mut scenario = Scenario {
        name: "idle".into(),
        seconds: args.hold.max(1) as f64,
        warmup_s: 0.0,
        patience_s: 20.0,
        cpus: args.cpus.clone().unwrap_or_default(),
        groups: vec![group],
        ..Scenario::default()
    };
    args.door.apply(&mut scenario);
    scenario
}
