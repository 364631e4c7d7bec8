//! What the controlling thread reads while a run goes on: counters, processes, seconds.

use super::control::Control;
use super::core::Slice;
use crate::measure;
use crate::outcome::{Second, Window};
use crate::process::{self, Cpu};
use hdrhistogram::Histogram;
use std::sync::atomic::Ordering::Relaxed;

/// Distance of pulses, nanoseconds.
const PULSE_NS: u64 = 100_000_000;
/// Parts of a window that are compared.
const PARTS: usize = 10;
/// Drift from which a window is not steady.
const DRIFT_MAX: f64 = 0.10;

/// Counters at one moment.
#[derive(Clone, Default, Debug)]
pub struct Moment {
    /// The run's clock.
    pub at_ns: u64,
    pub sent: u64,
    pub received: u64,
    pub received_bytes: u64,
    pub acknowledged: u64,
    pub connects: u64,
    /// CPU time of the broker.
    pub broker_ns: Option<u64>,
    /// Its resident memory, bytes.
    pub resident: Option<u64>,
    /// CPU and waiting time of each generator thread.
    pub threads: Vec<(u64, u64)>,
}

impl Moment {
    /// Reads everything.
    fn now(control: &Control, broker: Option<&(u32, Cpu)>) -> Moment {
        let times = |thread: u32| process::thread_times(thread).unwrap_or_default();
        Moment {
            at_ns: control.now_ns(),
            sent: control.sum(|meter| &meter.sent),
            received: control.sum(|meter| &meter.received),
            received_bytes: control.sum(|meter| &meter.received_bytes),
            acknowledged: control.sum(|meter| &meter.acknowledged),
            connects: control.sum(|meter| &meter.connects),
            broker_ns: broker.and_then(|(_, cpu)| cpu.used_ns()),
            resident: broker.and_then(|(pid, _)| process::resident(*pid)),
            threads: control.meters.iter().map(|m| times(m.thread.load(Relaxed))).collect(),
        }
    }

    /// CPU time of all generator threads.
    pub fn generator_ns(&self) -> u64 {
        self.threads.iter().map(|(cpu, _)| cpu).sum()
    }

    /// CPU seconds of the broker from `self` to `later`.
    pub fn broker_cpu_s(&self, later: &Moment) -> Option<f64> {
        let (from, to) = self.broker_ns.zip(later.broker_ns)?;
        Some(to.saturating_sub(from) as f64 / 1e9)
    }
}

/// Collects seconds and pulses.
pub struct Sampler {
    broker: Option<(u32, Cpu)>,
    /// Resident memory of the broker before the first connect, bytes.
    pub resident_before: Option<u64>,
    last: Moment,
    /// Clock and messages in plus out.
    pulses: Vec<(u64, u64)>,
    second: Histogram<u64>,
    /// Latency of the window so far.
    pub inside: Histogram<u64>,
    /// The seconds so far.
    pub series: Vec<Second>,
}

impl Sampler {
    /// Watches the broker's process where it is known, from now on.
    pub fn new(pid: Option<u32>) -> Sampler {
        let broker = pid.map(|pid| (pid, Cpu::new(pid)));
        let broker_ns = broker.as_ref().and_then(|(_, cpu)| cpu.used_ns());
        Sampler {
            broker,
            resident_before: pid.and_then(process::resident),
            last: Moment { broker_ns, ..Moment::default() },
            pulses: Vec::new(),
            second: measure::histogram(),
            inside: measure::histogram(),
            series: Vec::new(),
        }
    }

    /// Reads everything.
    pub fn moment(&self, control: &Control) -> Moment {
        Moment::now(control, self.broker.as_ref())
    }

    /// Takes a thread's latencies.
    pub fn add(&mut self, slice: &Slice) {
        self.inside.add(&slice.inside).expect("the bounds are the same");
        self.second.add(&slice.all).expect("the bounds are the same");
    }

    /// Reads what is due by now; tells whether a second ended.
    pub fn tick(&mut self, control: &Control) -> bool {
        let now_ns = control.now_ns();
        if now_ns - self.pulses.last().map_or(0, |pulse| pulse.0) >= PULSE_NS {
            let moved = control.sum(|meter| &meter.sent) + control.sum(|meter| &meter.received);
            self.pulses.push((now_ns, moved));
        }
        if now_ns - self.last.at_ns < 1_000_000_000 {
            return false;
        }
        self.close_second(control);
        true
    }

    /// Ends the current second, also before its time.
    pub fn close_second(&mut self, control: &Control) {
        let now = self.moment(control);
        let last = std::mem::replace(&mut self.last, now.clone());
        let at = |quantile| self.second.value_at_quantile(quantile);
        let generator_ns = now.generator_ns().saturating_sub(last.generator_ns());
        let lags = control.meters.iter().map(|meter| meter.lag_ns.swap(0, Relaxed));
        let middle = last.at_ns.midpoint(now.at_ns);
        let window = control.begin_ns.load(Relaxed)..control.end_ns.load(Relaxed);
        self.series.push(Second {
            second: self.series.len() as u32,
            length_s: (now.at_ns - last.at_ns) as f64 / 1e9,
            in_window: window.contains(&middle),
            sent: now.sent - last.sent,
            received: now.received - last.received,
            acknowledged: now.acknowledged - last.acknowledged,
            connects: now.connects - last.connects,
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: self.second.max(),
            broker_cpu_s: last.broker_cpu_s(&now),
            broker_resident: now.resident,
            generator_cpu_s: generator_ns as f64 / 1e9,
            generator_lag_ns: lags.max().unwrap_or(0),
        });
        self.second.reset();
    }

    /// Whether the rate of the last half second is that of the half second before.
    pub fn settled(&self) -> bool {
        let [.., from, _, _, _, _, middle, _, _, _, _, to] = &self.pulses[..] else {
            return false;
        };
        let rate = |from: &(u64, u64), to: &(u64, u64)| {
            (to.1 - from.1) as f64 / (to.0 - from.0).max(1) as f64
        };
        let (before, after) = (rate(from, middle), rate(middle, to));
        (after - before).abs() <= DRIFT_MAX * before.max(after)
    }

    /// Judges how steady the window was.
    pub fn judge(&self, window: &mut Window) {
        let (begin, end) = (window.begin_s * 1e9, window.end_s * 1e9);
        let edge = |part: usize| self.moved_at(begin + (end - begin) * part as f64 / PARTS as f64);
        let rates: Vec<f64> = (0..PARTS).map(|part| edge(part + 1) - edge(part)).collect();
        let mean = rates.iter().sum::<f64>() / PARTS as f64;
        if mean <= 0.0 {
            window.steady = true;
            return;
        }
        let deviations = rates.iter().map(|rate| (rate / mean - 1.0).abs());
        window.deviation = deviations.fold(0.0, f64::max);
        let half = |parts: &[f64]| parts.iter().sum::<f64>();
        let first = half(&rates[..PARTS / 2]).max(f64::MIN_POSITIVE);
        window.drift = half(&rates[PARTS / 2..]) / first - 1.0;
        window.steady = window.drift.abs() <= DRIFT_MAX;
    }

    /// Messages moved by a time, between two pulses as a straight line.
    fn moved_at(&self, at_ns: f64) -> f64 {
        let after = self.pulses.partition_point(|pulse| (pulse.0 as f64) < at_ns);
        let (Some(right), Some(left)) = (self.pulses.get(after), self.pulses[..after].last())
        else {
            return self.pulses.get(after).or(self.pulses.last()).map_or(0.0, |p| p.1 as f64);
        };
        let share = (at_ns - left.0 as f64) / (right.0 - left.0).max(1) as f64;
        left.1 as f64 + share * (right.1 - left.1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(rate: impl Fn(u64) -> u64) -> Sampler {
        let mut sampler = Sampler::new(None);
        let mut moved = 0;
        for at in 1..=100 {
            moved += rate(at);
            sampler.pulses.push((at * PULSE_NS, moved));
        }
        sampler
    }

    #[test]
    fn a_constant_rate_is_steady_and_a_falling_one_is_not() {
        let mut window = Window { begin_s: 2.0, end_s: 9.0, ..Window::default() };
        let constant = sampler(|_| 1000);
        constant.judge(&mut window);
        assert!(window.steady && window.deviation < 0.01 && constant.settled());
        let falling = sampler(|at| 2000 - 19 * at);
        falling.judge(&mut window);
        assert!(!window.steady && window.drift < -0.3, "{window:?}");
        assert!(!sampler(|at| if at > 96 { 10 } else { 1000 }).settled());
    }
}
