//! The thread that writes lines to standard error, and the bounded queue before it.

use super::Lines;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded as channel};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Lines that wait to be written.
const WAITING: usize = 8192;
/// Time between two looks at what was suppressed, while something is.
const SUMMARY: Duration = Duration::from_secs(1);

enum Order {
    Write(Vec<u8>),
    /// Something was suppressed.
    Look,
    Stop,
}

/// The way to the thread.
#[derive(Default)]
pub(super) struct Writer {
    orders: OnceLock<Sender<Order>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lost: AtomicU64,
}

/// Writes to standard error now. Nobody is left to tell if that is closed.
pub(super) fn write(bytes: &[u8]) {
    let _ = std::io::stderr().write_all(bytes);
}

impl Writer {
    /// Starts the thread; without one, lines are written where they arise.
    pub(super) fn start(&self, lines: Arc<Lines>) {
        let (sender, orders) = channel(WAITING);
        let thread =
            Builder::new().name("corelane-log".to_owned()).spawn(move || run(&lines, &orders));
        if let Ok(thread) = thread {
            let _ = self.orders.set(sender);
            *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        }
    }

    /// Leaves a line to the thread; a line that finds no room is counted.
    pub(super) fn send(&self, line: Vec<u8>) {
        let Some(orders) = self.orders.get() else { return write(&line) };
        match orders.try_send(Order::Write(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(order)) => {
                if let Order::Write(line) = order {
                    write(&line);
                }
            }
        }
    }

    /// Makes the thread look for what was suppressed. A full queue makes it look anyway.
    pub(super) fn wake(&self) {
        if let Some(orders) = self.orders.get() {
            let _ = orders.try_send(Order::Look);
        }
    }

    /// How many lines found no room since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Writes what waits and ends the thread.
    pub(super) fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(orders), Some(thread)) = (self.orders.get(), thread) {
            let _ = orders.send(Order::Stop);
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(lines: &Lines, orders: &Receiver<Order>) {
    let is_owed = || lines.limit.has_suppressed() || lines.writer.lost.load(Ordering::Relaxed) > 0;
    let mut told = lines.now_us();
    loop {
        let order = if is_owed() {
            orders.recv_timeout(SUMMARY)
        } else {
            orders.recv().map_err(RecvTimeoutError::from)
        };
        let stop = match order {
            Ok(Order::Write(line)) => {
                write(&line);
                false
            }
            Ok(Order::Look) | Err(RecvTimeoutError::Timeout) => false,
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => true,
        };
        if stop || lines.now_us() - told >= SUMMARY.as_micros() as u64 && is_owed() {
            write(&lines.summaries());
            told = lines.now_us();
        }
        if stop {
            return;
        }
    }
}
