//! rumqttc, a client library that others wrote, through the features of the matrix that
//! tests/foreign/run.py prints, against the binary with two shards.
//!
//! `CORELANE_TEST_ADDRESS=127.0.0.1:1883` tests a running broker instead. Prints one line of JSON
//! for each feature and version, which run.py reads: `cargo test --test foreign_rumqttc --
//! --nocapture`.

mod client;
mod features;

use client::Version;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ANSWER: Duration = Duration::from_secs(10);

/// A broker process of our own, or the one that the environment names.
struct Broker {
    address: SocketAddr,
    process: Option<Child>,
}

impl Broker {
    fn start() -> Broker {
        if let Ok(address) = std::env::var("CORELANE_TEST_ADDRESS") {
            return Broker { address: address.parse().expect("an address"), process: None };
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let process = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["--listen", &address.to_string(), "--shards", "2"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut broker = Broker { address, process: Some(process) };
        broker.wait_for_port();
        broker
    }

    fn wait_for_port(&mut self) {
        let deadline = Instant::now() + ANSWER;
        while TcpStream::connect(self.address).is_err() {
            let process = self.process.as_mut().expect("our own");
            let ended = process.try_wait().expect("our own child");
            assert!(ended.is_none(), "the broker ended: {ended:?}");
            assert!(Instant::now() < deadline, "the broker does not listen on {}", self.address);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().expect("our own child");
            process.wait().expect("our own child");
        }
    }
}

/// What became of one feature in one version.
struct Outcome {
    feature: &'static str,
    version: Version,
    fault: Option<String>,
    seconds: f64,
}

impl Outcome {
    fn print(&self) {
        let Outcome { feature, version, seconds, .. } = self;
        let result = if self.fault.is_some() { "FAIL" } else { "ok" };
        let fault = self.fault.as_deref().unwrap_or_default();
        let fault: String = fault.chars().flat_map(char::escape_default).collect();
        let fault = fault.replace("\\'", "'").replace("\\u", "u");
        println!(
            "{{\"feature\": \"{feature}\", \"version\": \"{}\", \"result\": \"{result}\", \
             \"fault\": \"{fault}\", \"seconds\": {seconds:.3}}}",
            version.name()
        );
    }
}

fn judge(broker: &Broker, feature: &features::Feature, version: Version) -> Outcome {
    let begun = Instant::now();
    let panic = catch_unwind(AssertUnwindSafe(|| (feature.show)(broker, version))).err();
    let fault = panic.map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
        text.unwrap_or_else(|| "a panic".to_owned())
    });
    Outcome { feature: feature.name, version, fault, seconds: begun.elapsed().as_secs_f64() }
}

#[test]
fn rumqttc_is_served() {
    let broker = Broker::start();
    let (beside, alone): (Vec<_>, Vec<_>) = features::all().partition(|(f, _)| !f.alone);
    let mut outcomes: Vec<Outcome> = thread::scope(|scope| {
        let run = |(feature, version)| {
            let broker = &broker;
            scope.spawn(move || judge(broker, feature, version))
        };
        let running: Vec<_> = beside.into_iter().map(run).collect();
        running.into_iter().map(|each| each.join().expect("it catches panics")).collect()
    });
    outcomes.extend(alone.into_iter().map(|(feature, version)| judge(&broker, feature, version)));
    println!();
    outcomes.iter().for_each(Outcome::print);
    let failed = outcomes.iter().filter(|outcome| outcome.fault.is_some());
    let failed: Vec<_> = failed.map(|o| (o.feature, o.version.name(), &o.fault)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
