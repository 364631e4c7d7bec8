//! What the command writes to standard error: one line per event, as text or as JSON.
//!
//! A core formats a line and leaves it to a thread that writes, so that a slow reader of standard
//! error holds no core up. Errors are written at once: the process may end behind them.
//!
//! Invariants worth naming:
//! * of each kind of line a second brings a bounded number; the rest is counted, not formatted;
//! * the lines that wait to be written are bounded, too; the rest is counted;
//! * a line is a line: control characters of clients are escaped and long values cut.

mod limit;
mod line;
mod writer;

use crate::config::{LogConfig, LogFormat, LogLevel};
use limit::Limit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};
use writer::Writer;

pub use line::timestamp;

/// The log of the process. Dropped last, it writes what still waits.
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    lines: Arc<Lines>,
}

impl Log {
    /// Starts logging as `config` says. Once per process.
    pub fn start(config: &LogConfig) -> Log {
        let (filter, handle) = reload::Layer::new(targets(config));
        let lines = Arc::new(Lines {
            json: AtomicBool::new(false),
            limit: Arc::new(Limit::default()),
            writer: Writer::default(),
            since: Instant::now(),
        });
        let log = Log { filter: handle, lines: lines.clone() };
        log.lines.take_over(config);
        log.lines.writer.start(lines.clone());
        let subscriber = Registry::default().with(filter).with(Sink(lines));
        // A second one would be a programming error; the first one stays.
        let _ = tracing::subscriber::set_global_default(subscriber);
        log
    }

    /// Goes on as `config` says.
    pub fn apply(&self, config: &LogConfig) {
        self.lines.take_over(config);
        // It fails only where the subscriber is gone, and nobody logs then.
        let _ = self.filter.reload(targets(config));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.writer.stop();
    }
}

/// What decides about an event and turns it into a line. Whole process, any thread.
struct Lines {
    json: AtomicBool,
    limit: Arc<Limit>,
    writer: Writer,
    since: Instant,
}

impl Lines {
    fn take_over(&self, config: &LogConfig) {
        self.json.store(config.format == LogFormat::Json, Ordering::Relaxed);
        self.limit.set(config.similar_per_s);
    }

    fn is_json(&self) -> bool {
        self.json.load(Ordering::Relaxed)
    }

    fn now_us(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }

    /// Lines that say how many others there were: of each kind that was limited, and of those that
    /// the writer could not take.
    fn summaries(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut add = |message: String, like: Option<&str>| {
            out.extend(line::notice(self.is_json(), SystemTime::now(), &message, like));
        };
        self.limit.take_suppressed(|count, like| {
            add(format!("{count} similar lines suppressed"), Some(like));
        });
        match self.writer.take_lost() {
            0 => {}
            lost => add(format!("{lost} lines lost: standard error is read too slowly"), None),
        }
        out
    }
}

/// The end of tracing's chain.
struct Sink(Arc<Lines>);

impl<S: Subscriber> Layer<S> for Sink {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let lines = &self.0;
        let urgent = *event.metadata().level() == Level::ERROR;
        let kind = lines.limit.kind(event.metadata());
        if !urgent && !kind.admits(lines.now_us(), lines.limit.per_s()) {
            if kind.suppress(|| line::message(event)) {
                lines.writer.wake();
            }
            return;
        }
        let line = line::of(lines.is_json(), SystemTime::now(), event);
        if urgent { writer::write(&line) } else { lines.writer.send(line) }
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn targets(config: &LogConfig) -> Targets {
    let mut targets = Targets::new().with_default(level(config.level));
    for rule in config.filter.rules() {
        let level = rule.level.map_or(LevelFilter::OFF, level);
        targets = match &rule.target {
            Some(target) => targets.with_target(target.as_str(), level),
            None => targets.with_default(level),
        };
    }
    targets
}
