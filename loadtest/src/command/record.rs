//! `record`: the tap, its file, and a word at the end.

use super::{Done, Result};
use crate::args::{RecordArgs, Topics};
use crate::report::thousands;
use crate::traffic::{Sink, Tap, Veil};
use corelane::runtime::Requests;
use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

/// Records until the operator asks or the time is over.
///
/// # Errors
/// The address is taken, or the file is there already or cannot be written.
pub fn record(args: &RecordArgs, requests: &Requests) -> Result<Done> {
    let until = match args.seconds.map(Duration::try_from_secs_f64) {
        Some(Ok(span)) => Instant::now().checked_add(span),
        Some(Err(error)) => return Err(format!("--seconds: {error}").into()),
        None => None,
    };
    let listener = TcpListener::bind(args.listen)
        .map_err(|error| format!("--listen {}: {error}", args.listen))?;
    let named = |error| format!("--file {}: {error}", args.file.display());
    let mut file = BufWriter::new(File::create_new(&args.file).map_err(named)?);
    let veil = match args.topics {
        Topics::Hashed => Veil::hashed(),
        Topics::Kept => Veil::kept(),
    };
    let sink = Sink::new(veil, args.max_bytes);
    let tap = Tap::new(args.to, &sink);
    eprintln!("recording {} -> {} into {}", listener.local_addr()?, args.to, args.file.display());
    let (ran, wrote) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let wrote = sink.write(&mut file);
            if let Err(error) = &wrote {
                eprintln!("the file cannot be written any more ({error}); bytes are passed on");
            }
            wrote
        });
        let mut watch = Watch { told_full: false, shown: Instant::now() };
        let ran = tap.run(&listener, requests, until, &mut |tap| watch.look(tap, &sink));
        sink.close();
        (ran, writer.join())
    });
    wrote.map_err(|_| "the writer panicked")?.map_err(named)?;
    ran?;
    summary(&tap, &sink);
    Ok(Done::Passed)
}

/// What the operator sees meanwhile.
struct Watch {
    told_full: bool,
    shown: Instant,
}

impl Watch {
    fn look(&mut self, tap: &Tap<'_>, sink: &Sink) {
        let tally = sink.tally();
        if tally.full && !std::mem::replace(&mut self.told_full, true) {
            eprintln!("the file is full (--max-bytes); bytes are passed on, nothing is recorded");
        }
        if std::io::stderr().is_terminal() && self.shown.elapsed() >= Duration::from_secs(1) {
            self.shown = Instant::now();
            let (open, events) = (tap.open(), thousands(tally.events as f64));
            eprint!("\r{open} connections open, {events} events, {} bytes   ", tally.bytes);
        }
    }
}

fn summary(tap: &Tap<'_>, sink: &Sink) {
    let tally = sink.tally();
    let (connections, refused) = tap.connections();
    let events = thousands(tally.events as f64);
    println!("{connections} connections, {events} events in {} bytes", tally.bytes);
    for (count, what) in [
        (refused, "connections were not accepted by the broker"),
        (tally.undecoded, "connections were not understood, from some point on"),
        (tally.lost, "events did not fit (--max-bytes, or a slow disk) and are lost"),
    ] {
        if count > 0 {
            println!("{count} {what}");
        }
    }
}
