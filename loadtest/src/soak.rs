//! A long mix of everything, to see whether the broker's memory comes back.
//!
//! A warm-up cycle lives through every kind of action, then all clients leave and all sessions
//! are ended; the memory of that moment is the reference. The long cycle ends the same way.
//! What is looked for is growth, not loss: clients vanish here with messages in flight.

mod crowd;

use crate::args::SoakArgs;
use crate::broker::Memory;
use crate::report::Object;
use crowd::{Counts, Crowd};
use std::io;
use std::thread::sleep;
use std::time::Duration;

/// Growth of resident memory that passes, as a share.
const GROWTH_MAX: f64 = 0.05;
/// Longest warm-up cycle, seconds.
const WARMUP_MAX_S: u64 = 60;
/// Rest before memory is read, for work the broker put off.
const SETTLE: Duration = Duration::from_secs(3);

/// Soaks and prints; tells whether memory stayed. An error when the broker goes away.
pub fn soak(args: &SoakArgs) -> io::Result<bool> {
    let pid = args.target.pid.ok_or_else(|| io::Error::other("soak needs --pid"))?;
    let mut crowd = Crowd::new(args)?;
    let warmup_s = args.seconds.clamp(1, WARMUP_MAX_S);
    let before = cycle(&mut crowd, warmup_s, pid)?;
    let after = cycle(&mut crowd, args.seconds, pid)?;
    let growth = after.resident as f64 / before.resident.max(1) as f64 - 1.0;
    let passed = growth <= GROWTH_MAX;
    if args.json {
        println!("{}", json(&crowd.counts, before, after, passed));
    } else {
        println!("{}", crowd.counts.lines());
        println!(
            "resident {} KiB -> {} KiB ({:+.1} %), anonymous {} KiB -> {} KiB: {}",
            before.resident / 1024,
            after.resident / 1024,
            100.0 * growth,
            before.anonymous / 1024,
            after.anonymous / 1024,
            if passed { "passed" } else { "GREW" },
        );
    }
    Ok(passed)
}

/// One stretch of load that leaves nothing behind, and the broker's memory after it.
fn cycle(crowd: &mut Crowd, seconds: u64, pid: u32) -> io::Result<Memory> {
    crowd.live(Duration::from_secs(seconds))?;
    crowd.leave()?;
    sleep(SETTLE);
    Memory::of(pid)
}

fn json(counts: &Counts, before: Memory, after: Memory, passed: bool) -> String {
    let line = Object::new()
        .plain("resident_before", before.resident)
        .plain("resident_after", after.resident)
        .plain("anonymous_before", before.anonymous)
        .plain("anonymous_after", after.anonymous)
        .plain("passed", passed);
    counts.fields().into_iter().fold(line, |line, (name, value)| line.plain(name, value)).finish()
}
