//! From what threads and sampler have to the [`Outcome`] of a run.

use super::core::Shared;
use super::lead::Samples;
use super::worker::Finished;
use super::{Conditions, verdict};
use crate::measure;
use crate::outcome::{
    BrokerVerdict, Distribution, GeneratorVerdict, Outcome, Place, Totals, Truth, Versions,
};
use crate::process;
use hdrhistogram::Histogram;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};
use tuning::placement::PlacementPlan;
use tuning::topology::Topology;

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

/// Puts everything together.
pub fn outcome(
    shared: &Shared,
    with: &Conditions<'_>,
    samples: Samples,
    finished: Vec<Finished>,
    drained: bool,
) -> Outcome {
    let sum = |pick: fn(&Finished) -> &Histogram<u64>| {
        let mut sum = measure::histogram();
        for done in &finished {
            sum.add(pick(done)).expect("the bounds are the same");
        }
        Distribution::from(&sum)
    };
    let lag = sum(|done| &done.lag);
    let mut outcome = Outcome {
        label: with.label.clone(),
        scenario: (*shared.scenario).clone(),
        command: std::env::args().collect(),
        versions: Versions {
            harness: env!("CARGO_PKG_VERSION").into(),
            kernel: verdict::kernel(),
            broker: with.target.name.clone(),
        },
        place: place(with),
        began_unix_ms: 0,
        window: samples.window,
        connect: sum(|done| &done.connect),
        latency: Distribution::from(&samples.sampler.inside),
        ack: sum(|done| &done.ack),
        series: samples.sampler.series,
        totals: Totals::default(),
        truth: Truth::default(),
        generator: GeneratorVerdict::default(),
        broker: BrokerVerdict::Stayed,
        partial: None,
        search: None,
        replayed: None,
    };
    let (begin, end) = (&samples.begin, &samples.end);
    let control = &shared.control;
    outcome.totals = Totals {
        sent: end.sent - begin.sent,
        received: end.received - begin.received,
        acknowledged: end.acknowledged - begin.acknowledged,
        connects: control.sum(|meter| &meter.connects),
        reconnects: control.sum(|meter| &meter.reconnects),
        resumed: control.sum(|meter| &meter.resumed),
        takeovers: control.sum(|meter| &meter.takeovers),
        unsubscribes: control.sum(|meter| &meter.unsubscribes),
        refused: control.sum(|meter| &meter.refused),
        received_bytes: end.received_bytes - begin.received_bytes,
        broker_cpu_s: begin.broker_cpu_s(end),
        resident_before: samples.sampler.resident_before,
        resident_held: end.resident,
        generator_cpu_s: end.generator_ns().saturating_sub(begin.generator_ns()) as f64 / 1e9,
    };
    outcome.generator = verdict::judge(&outcome, lag, (begin, end));
    outcome.truth = truth(shared, finished, drained);
    outcome
}

/// Adds the streams up and holds them against what was sent; where the run was broken off, against
/// the last message that came: what was under way then is not lost.
fn truth(shared: &Shared, finished: Vec<Finished>, drained: bool) -> Truth {
    let audiences = &shared.plan.audiences;
    let mut truth = Truth::default();
    let mut received = vec![0u64; audiences.len()];
    let mut excused = vec![0u64; audiences.len()];
    let mut heard = vec![false; audiences.len()];
    let mut sent_to = vec![0u64; audiences.len()];
    for (flow, sent) in shared.plan.flows.iter().zip(&shared.control.sent) {
        sent_to[flow.audiences.start as usize..flow.audiences.end as usize]
            .fill(sent.load(Relaxed));
    }
    for done in finished {
        truth.checked += done.truth.checked;
        truth.corrupted += done.truth.corrupted;
        truth.misrouted += done.truth.misrouted;
        for (at, stream) in done.streams {
            let at = at as usize;
            heard[at] = true;
            received[at] += stream.received;
            excused[at] += stream.excused(sent_to[at]);
            if !audiences[at].may_repeat {
                truth.duplicated[usize::from(audiences[at].qos)] += stream.duplicated();
                truth.reordered += stream.late();
            }
        }
    }
    for (flow, sent) in shared.plan.flows.iter().zip(&shared.control.sent) {
        let sent = sent.load(Relaxed);
        for at in flow.audiences.start as usize..flow.audiences.end as usize {
            let (audience, received) = (audiences[at], received[at]);
            let came = shared.control.progress[at].load(Relaxed).min(sent);
            let due = (if drained { sent } else { came }).saturating_sub(excused[at]);
            if heard[at] && !audience.may_lose {
                truth.lost[usize::from(audience.qos)] += due.saturating_sub(received);
            }
            if !audience.may_repeat {
                // Only members of a share group can have more than was sent, together.
                truth.duplicated[usize::from(audience.qos)] += received.saturating_sub(sent);
            }
        }
    }
    truth
}

fn place(with: &Conditions<'_>) -> Place {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let empty = PlacementPlan { shards: Vec::new(), notes: Vec::new() };
    let topology = Topology::discover().map(|host| tuning::picture::draw(&host, &empty));
    Place {
        processor: model.map(|name| name.trim_matches([' ', ':', '\t']).into()).unwrap_or_default(),
        topology: topology.unwrap_or_default(),
        governor: process::line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        generator_cpus: Vec::new(),
        broker_cpus: with.target.pid.map(process::allowed_cpus).unwrap_or_default(),
        address: with.target.address.to_string(),
        broker_pid: with.target.pid,
    }
}
