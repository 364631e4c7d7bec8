//! Connections that do nothing: what each costs the broker in memory, and what all cost in CPU.

use crate::args::IdleArgs;
use crate::broker::{Cpu, Memory};
use crate::dial;
use crate::report::Object;
use crate::wire::{Connect, Version};
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough that no keep-alive falls into the measurement.
const KEEP_ALIVE_S: u16 = 3600;
/// Connections made first, so that the broker's tables exist before memory is read.
const FIRST: usize = 64;
/// Rest before memory is read, for work the broker put off.
const SETTLE: Duration = Duration::from_millis(500);

/// Measures and prints; an error when the broker refuses a connection or goes away.
pub fn idle(args: &IdleArgs) -> io::Result<bool> {
    let pid = args.target.pid.ok_or_else(|| io::Error::other("idle needs --pid"))?;
    let mut streams = Vec::with_capacity(FIRST + args.connections);
    for number in 0..FIRST {
        streams.push(open(args, number)?);
    }
    sleep(SETTLE);
    let before = Memory::of(pid)?;
    let begin = Instant::now();
    for number in FIRST..FIRST + args.connections {
        streams.push(open(args, number)?);
    }
    let connecting_s = begin.elapsed().as_secs_f64();
    sleep(SETTLE);
    let after = Memory::of(pid)?;
    let account = Cpu::new(pid);
    let cpu_before = account.used_ns();
    sleep(Duration::from_secs(args.hold));
    let cpu = cpu_before.zip(account.used_ns()).map(|(from, to)| to.saturating_sub(from) as f64);
    let each = |from: u64, to: u64| to.saturating_sub(from) as f64 / args.connections.max(1) as f64;
    let resident = each(before.resident, after.resident);
    let anonymous = each(before.anonymous, after.anonymous);
    let cpu_share = cpu.map(|used_ns| used_ns / 1e9 / args.hold.max(1) as f64);
    let rate = args.connections as f64 / connecting_s.max(1e-9);
    if args.json {
        let line = Object::new()
            .plain("connections", args.connections)
            .real("resident_each", Some(resident))
            .real("anonymous_each", Some(anonymous))
            .plain("resident_before", before.resident)
            .plain("resident_after", after.resident)
            .real("connects_per_second", Some(rate))
            .real("idle_cpu", cpu_share)
            .finish();
        println!("{line}");
    } else {
        println!("{} idle connections, made at {rate:.0}/s", args.connections);
        println!("  each: resident {resident:.0} B, anonymous {anonymous:.0} B");
        println!("  resident {} KiB -> {} KiB", before.resident / 1024, after.resident / 1024);
        println!("  broker CPU while idle {:.2} %", 100.0 * cpu_share.unwrap_or(f64::NAN));
    }
    Ok(true)
}

fn open(args: &IdleArgs, number: usize) -> io::Result<std::net::TcpStream> {
    let client_id = format!("idle{number:07}");
    let wanted = Connect {
        version: Version::V4,
        client_id: &client_id,
        clean: true,
        keep_alive_s: KEEP_ALIVE_S,
        session_expiry_s: 0,
    };
    let mut stream = dial::dial(args.target.address, number, &wanted)?.stream;
    if args.subscribe {
        dial::subscribe(&mut stream, Version::V4, &[format!("idle/{number}")], 0)?;
    }
    Ok(stream)
}
