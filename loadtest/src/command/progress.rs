//! What a terminal shows while a run goes on.

use crate::engine::Live;
use crate::report::{micros, thousands};
use indicatif::{ProgressBar, ProgressStyle};

/// Positions of the bar.
const STEPS: u64 = 1000;

/// A bar on standard error; invisible where that is no terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar with a title.
    pub fn new(title: &str) -> Progress {
        let bar = ProgressBar::new(STEPS);
        let template = "{prefix} {bar:24} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(title.to_owned());
        Progress(bar)
    }

    /// Shows what goes on.
    pub fn show(&self, live: Live<'_>) {
        self.0.set_position((live.share * STEPS as f64) as u64);
        let (sent, received) = live.rates;
        self.0.set_message(format!(
            "{}  {}/{} clients  in {}/s  out {}/s  p99 {}",
            live.doing,
            live.clients.0,
            live.clients.1,
            thousands(sent as f64),
            thousands(received as f64),
            micros(live.p99_ns),
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
