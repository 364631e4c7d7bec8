//! What it costs a core to sleep and be woken, in both ways of [`Sleeper`].
//!
//! One core per way, both pinned to CPU 0 (`CORELANE_BENCH_CPUS=a,b` names others); the waker
//! spins on the other CPU. Rounds alternate between the ways; the medians are printed. The CPU
//! time is that of the core's thread, kernel included; the latency runs from before the write to
//! the core's answer.
//!
//! `cargo bench --bench sleep`

use std::error::Error;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corelane::base::ShardId;
use corelane::net::{Driver, DriverSettings};
use corelane::runtime::{ExecutorSettings, Executors, Seat, Sleeper, Waker, Way};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Long enough for a core that said so to really sleep.
const SETTLE: Duration = Duration::from_micros(60);

/// What the waker and one core say to each other.
#[derive(Default)]
struct Shared {
    asleep: AtomicBool,
    asked: AtomicU64,
    answered: AtomicU64,
    cpu_ns: AtomicU64,
}

struct Core {
    way: Way,
    waker: Waker,
    shared: Arc<Shared>,
    cpu_ns: Vec<u64>,
    latency_ns: Vec<u64>,
}

fn thread_cpu_ns() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

/// The core: sleeps until asked, answers, and ends when asked for `u64::MAX`.
async fn core(way: Way, watched: std::os::fd::OwnedFd, shared: Arc<Shared>) {
    let mut driver = Driver::new(&DriverSettings::default()).expect("io_uring is usable");
    driver.watch(watched).expect("an eventfd");
    let sleeper = Sleeper::new(&driver, way).expect("a file descriptor is left");
    let mut answered = 0;
    loop {
        let asked = shared.asked.load(Ordering::Acquire);
        if asked == u64::MAX {
            return;
        }
        if asked != answered {
            answered = asked;
            shared.asleep.store(false, Ordering::Relaxed);
            shared.cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
            shared.answered.store(answered, Ordering::Release);
        }
        shared.asleep.store(true, Ordering::Release);
        sleeper.sleep(&mut driver, None).await.expect("the ring works");
        driver.reap(64, |_| {});
    }
}

/// Wakes the core `wakes` times; keeps CPU per cycle and the median latency.
fn round(core: &mut Core, wakes: usize) {
    let mut latencies = Vec::with_capacity(wakes);
    let mut first = 0;
    for wake in 0..=wakes {
        while !core.shared.asleep.load(Ordering::Acquire) {
            spin_loop();
        }
        let settled = Instant::now() + SETTLE;
        while Instant::now() < settled {
            spin_loop();
        }
        let asked = core.shared.asked.load(Ordering::Relaxed) + 1;
        core.shared.asked.store(asked, Ordering::Release);
        let start = Instant::now();
        core.waker.wake();
        while core.shared.answered.load(Ordering::Acquire) != asked {
            spin_loop();
        }
        latencies.push(start.elapsed().as_nanos() as u64);
        if wake == 0 {
            first = core.shared.cpu_ns.load(Ordering::Relaxed);
        }
    }
    let spent = core.shared.cpu_ns.load(Ordering::Relaxed) - first;
    core.cpu_ns.push(spent / wakes as u64);
    core.latency_ns.push(median(&mut latencies));
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn cpus() -> (usize, usize) {
    let named = std::env::var("CORELANE_BENCH_CPUS").unwrap_or_default();
    let pair = named.split_once(',').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    pair.unwrap_or((0, 1))
}

fn main() -> Result<(), Box<dyn Error>> {
    let full = std::env::args().any(|argument| argument == "--bench");
    let (rounds, wakes) = if full { (9, 2000) } else { (1, 20) };
    let (core_cpu, waker_cpu) = cpus();
    let mut cores = Vec::new();
    let mut starts = Vec::new();
    for (shard, way) in [Way::Ring, Way::Glommio].into_iter().enumerate() {
        let (waker, shared) = (Waker::new()?, Arc::new(Shared::default()));
        let (watched, of_core) = (waker.watched()?, shared.clone());
        let seat = Seat { shard: ShardId(shard as u8), cpu: Some(core_cpu) };
        starts.push((seat, move |_seat| core(way, watched, of_core)));
        cores.push(Core { way, waker, shared, cpu_ns: Vec::new(), latency_ns: Vec::new() });
    }
    let executors = Executors::start(&ExecutorSettings::default(), starts)?;
    let mut here = CpuSet::new();
    here.set(waker_cpu);
    sched_setaffinity(None, &here)?;
    for _ in 0..rounds {
        for core in &mut cores {
            round(core, wakes);
        }
    }
    println!("{:<10}{:>16}{:>18}", "way", "CPU ns/cycle", "latency ns p50");
    for core in &mut cores {
        core.shared.asked.store(u64::MAX, Ordering::Release);
        core.waker.wake();
        let way = format!("{:?}", core.way);
        let (cpu, latency) = (median(&mut core.cpu_ns), median(&mut core.latency_ns));
        println!("{way:<10}{cpu:>16}{latency:>18}");
    }
    let mut outcome = Ok(());
    executors.join(|_, end| {
        if let Err(error) = end {
            outcome = Err(error);
        }
    });
    Ok(outcome?)
}
