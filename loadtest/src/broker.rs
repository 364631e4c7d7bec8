//! Brokers started for a comparison: how each is started, waiting for it, ending it.
//!
//! Invariant worth naming: a broker started here is ended here, by its pid, also when a run fails;
//! it stands in a process group of its own, so that Ctrl-C reaches us first.

use crate::credentials::{CA_FILE, CERTIFICATE_FILE, Credentials, KEY_FILE};
use crate::peer;
use crate::process::pin;
use crate::scenario::{Scenario, Transport};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a broker may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// How long a broker may take to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What `{config}` is called in the scratch directory: some brokers ask for the ending.
const CONFIG_FILE: &str = "broker.toml";

/// Name of the bare relay, and what stands for its command until the scenario is known.
pub const LIMIT: &str = "limit";

/// How to start a broker. `{port}`, `{cpu}`, `{dir}`, `{config}` and `{transport}` are filled in,
/// and, where there is TLS, `{certificate}`, `{key}` and `{ca}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// What tables call it.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Text of a configuration file, if it needs one.
    pub config: Option<String>,
    /// The port it insists on.
    pub port: Option<u16>,
    /// What its output says when it is ready, if an accepted connection does not tell.
    pub ready: Option<String>,
    /// How to install it.
    pub install: Option<String>,
    /// It runs already: nothing is started.
    pub running: Option<Running>,
    /// What `{transport}` stands for; with none, the transport's name.
    pub transports: BTreeMap<Transport, String>,
    /// It is ours, and takes other listeners than plain ones from its configuration alone.
    pub ours: bool,
}

/// A broker that somebody else started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process, for its CPU time and memory.
    pub pid: Option<u32>,
}

impl FromStr for Running {
    type Err = String;

    fn from_str(text: &str) -> Result<Running, String> {
        let (address, pid) = text.split_once('@').map_or((text, None), |(at, pid)| (at, Some(pid)));
        let wrong = || format!("{text}: expected IP:PORT or IP:PORT@PID");
        let pid = pid.map(|pid| pid.parse().map_err(|_| wrong())).transpose()?;
        Ok(Running { address: address.parse().map_err(|_| wrong())?, pid })
    }
}

/// How ours is told to listen for plain TCP.
const PLAIN_LISTENER: &str = "--listen=127.0.0.1:{port}";

/// What corelane runs with unless it is given a file: room for whatever the generator has
/// outstanding, as the shipped mosquitto descriptor gives it.
const CORELANE_CONFIG: &str = "[session]
outbox_messages = 1000000
outbox_bytes = 1073741824
late_messages = 65536
[limits]
out_buffer_bytes = 67108864
packet_bytes = 8388608
";

impl Descriptor {
    /// A broker that is started with a command line alone.
    pub fn new(name: String, command: Vec<String>) -> Descriptor {
        Descriptor {
            name,
            command,
            config: None,
            port: None,
            ready: None,
            install: None,
            running: None,
            transports: BTreeMap::new(),
            ours: false,
        }
    }

    /// A broker that runs already.
    pub fn running(running: Running) -> Descriptor {
        let name = running.address.to_string();
        Descriptor { running: Some(running), ..Descriptor::new(name, Vec::new()) }
    }

    /// Reads a shipped peer's name, `corelane`, `corelane:N`, `corelane=FILE.toml`, `limit`, a
    /// descriptor's `FILE.toml` or `name=command line`.
    ///
    /// # Errors
    /// None of these.
    pub fn parse(text: &str, corelane: &str) -> Result<Descriptor, String> {
        if let Some((name, line)) = text.split_once('=') {
            if name == "corelane" && line.ends_with(".toml") {
                return Descriptor::configured(line, corelane);
            }
            let command: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if command.is_empty() || name.is_empty() {
                return Err(format!("{text}: expected name=command line"));
            }
            return Ok(Descriptor::new(name.to_owned(), command));
        }
        if text == LIMIT {
            return Ok(Descriptor::new(LIMIT.to_owned(), vec![LIMIT.to_owned()]));
        }
        if let Some(shipped) = peer::shipped(text) {
            return shipped;
        }
        if text.ends_with(".toml") {
            return peer::read(Path::new(text));
        }
        let (kind, shards) = text.split_once(':').unwrap_or((text, "1"));
        if kind != "corelane" || shards.parse::<u8>().is_err() {
            return Err(format!(
                "{text}: no such broker; use {}, corelane, corelane:N, corelane=FILE.toml, limit, \
                 FILE.toml or name=command",
                peer::names()
            ));
        }
        let more = format!("--cpus {{cpu}} --shards {shards}");
        let config = CORELANE_CONFIG.to_owned();
        Ok(Descriptor::ours(text.to_owned(), corelane, config, &more))
    }

    /// Ours with a configuration that is being tried, on the broker's CPUs.
    pub fn tuned(name: String, corelane: &str, config: String) -> Descriptor {
        Descriptor::ours(name, corelane, config, "--cpus {cpu}")
    }

    /// Ours with this configuration and these further options.
    fn ours(name: String, corelane: &str, config: String, more: &str) -> Descriptor {
        let line = format!("--config {{config}} {PLAIN_LISTENER} {more}");
        let words = line.split_whitespace().map(str::to_owned);
        let command = std::iter::once(corelane.to_owned()).chain(words).collect();
        let tls = "tls_certificate = [\"{certificate}\"]\ntls_key = [\"{key}\"]\n";
        let ws = "websocket = true\n";
        let transports = BTreeMap::from([
            (Transport::Tls, tls.to_owned()),
            (Transport::Ws, ws.to_owned()),
            (Transport::Wss, format!("{tls}{ws}")),
        ]);
        let described = Descriptor::new(name, command);
        Descriptor { config: Some(config), transports, ours: true, ..described }
    }

    /// The same broker, told to listen for a transport; `None` where nothing says how.
    pub fn speaking(&self, transport: Transport) -> Option<Descriptor> {
        let mut told = self.clone();
        if self.running.is_some() {
            return Some(told);
        }
        let mentions = |place: &str| {
            let texts = self.command.iter().chain(&self.config);
            texts.into_iter().any(|text| text.contains(place))
        };
        let text = match self.transports.get(&transport) {
            Some(text) => text.as_str(),
            None if self.transports.is_empty() && mentions("{transport}") => transport.name(),
            None if transport == Transport::Tcp => "",
            None if transport.is_encrypted() && mentions("{certificate}") => "",
            None => return None,
        };
        if self.ours && transport != Transport::Tcp {
            told.command.retain(|word| word != PLAIN_LISTENER);
            let listener = "\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n{transport}";
            told.config.get_or_insert_default().push_str(listener);
        }
        let texts = told.command.iter_mut().chain(&mut told.config);
        texts.for_each(|place| *place = place.replace("{transport}", text));
        Some(told)
    }

    /// Ours with a file of the user's; its placement is the file's, within the broker's CPU.
    fn configured(path: &str, corelane: &str) -> Result<Descriptor, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("corelane={stem}");
        Ok(Descriptor::ours(name, corelane, text, ""))
    }

    /// Why it cannot be started here, with the remedy; `None` where its program is found.
    pub fn absent(&self) -> Option<String> {
        let program = self.command.first()?;
        if program == LIMIT || peer::locate(program).is_some() {
            return None;
        }
        let remedy = self.install.as_ref().map(|line| format!("; to install it: {line}"));
        Some(format!("{program} is not there{}", remedy.unwrap_or_default()))
    }
}

/// A broker that runs.
pub struct Broker {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    scratch: PathBuf,
    encrypted: bool,
}

impl Broker {
    /// Starts a broker pinned to `cpus`, told to listen for `transport`, and waits until it accepts
    /// connections.
    ///
    /// # Errors
    /// It cannot be started or told, ends at once or does not listen in time; its log says why.
    pub fn start(
        descriptor: &Descriptor,
        transport: Transport,
        cpus: &[usize],
    ) -> io::Result<Broker> {
        let descriptor = &descriptor.speaking(transport).ok_or_else(|| {
            let (name, transport) = (&descriptor.name, transport.name());
            io::Error::other(format!("{name}: nothing says how it listens for {transport}"))
        })?;
        let port = descriptor.port.map_or_else(free_port, Ok)?;
        let scratch =
            std::env::temp_dir().join(format!("corelane-loadtest-{}-{port}", std::process::id()));
        fs::create_dir_all(&scratch)?;
        let fill = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{cpu}", &tuning::cpulist::show(cpus))
                .replace("{dir}", &scratch.to_string_lossy())
                .replace("{config}", &scratch.join(CONFIG_FILE).to_string_lossy())
                .replace("{certificate}", &scratch.join(CERTIFICATE_FILE).to_string_lossy())
                .replace("{key}", &scratch.join(KEY_FILE).to_string_lossy())
                .replace("{ca}", &scratch.join(CA_FILE).to_string_lossy())
        };
        let encrypted = transport.is_encrypted();
        if encrypted {
            Credentials::new()?.write(&scratch)?;
        }
        if let Some(config) = &descriptor.config {
            fs::write(scratch.join(CONFIG_FILE), fill(config))?;
        }
        let log = File::create(scratch.join("log"))?;
        let program = fill(&descriptor.command[0]);
        let mut command = Command::new(peer::locate(&program).unwrap_or(program.into()));
        command.args(descriptor.command[1..].iter().map(|argument| fill(argument)));
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = spawn_pinned(&mut command, cpus).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", descriptor.command[0]))
        })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut broker = Broker { child, address, scratch, encrypted };
        broker.await_listening(descriptor)?;
        Ok(broker)
    }

    fn await_listening(&mut self, descriptor: &Descriptor) -> io::Result<()> {
        let (name, begin) = (&descriptor.name, Instant::now());
        loop {
            let ready = descriptor.ready.as_ref().is_none_or(|text| self.said(text));
            if ready && TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait()?.is_some();
            if ended || begin.elapsed() > START_PATIENCE {
                let log = fs::read_to_string(self.scratch.join("log")).unwrap_or_default();
                let what = if ended { "ended at once" } else { "does not listen" };
                return Err(io::Error::other(format!("{name} {what}: {}", log.trim())));
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn said(&self, text: &str) -> bool {
        fs::read_to_string(self.scratch.join("log")).is_ok_and(|log| log.contains(text))
    }

    /// A scenario whose clients believe this broker's certificate, where it has one, and ask for
    /// the name that is in it.
    pub fn believed(&self, scenario: Scenario) -> Scenario {
        if !self.encrypted {
            return scenario;
        }
        let ca = Some(self.scratch.join(CA_FILE));
        Scenario { ca, insecure: false, server_name: None, ..scenario }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let begin = Instant::now();
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > STOP_PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            sleep(Duration::from_millis(5));
        }
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Starts a child that inherits our thread's affinity while that is the broker's CPUs.
fn spawn_pinned(command: &mut Command, cpus: &[usize]) -> io::Result<Child> {
    let ours = sched_getaffinity(None)?;
    pin(cpus)?;
    let child = command.spawn();
    sched_setaffinity(None, &ours)?;
    child
}

/// A port that nobody listens on now.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_each_form() {
        let parse = |text| Descriptor::parse(text, "/bin/corelane");
        let wanted =
            "/bin/corelane --config {config} --listen=127.0.0.1:{port} --cpus {cpu} --shards 4";
        assert_eq!(parse("corelane:4").expect("valid").command.join(" "), wanted);
        assert!(parse("mosquitto").expect("valid").config.is_some());
        let own = parse("x=/bin/x --port={port}").expect("valid");
        assert_eq!((&*own.name, own.command.len()), ("x", 2));
        for wrong in ["nats", "corelane:x", "=a", "a=", "corelane=absent.toml", "absent.toml"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_transport_is_told_where_something_says_how() {
        let told = |text, transport| {
            let parsed = Descriptor::parse(text, "/bin/corelane").expect("valid");
            let told = parsed.speaking(transport)?;
            Some((told.command.join(" "), told.config.unwrap_or_default()))
        };
        let (command, config) = told("corelane", Transport::Wss).expect("ours speaks it");
        assert!(!command.contains("--listen"), "{command}");
        let parsed = corelane::config::parse(
            &config.replace("{port}", "1883").replace("{certificate}", "c").replace("{key}", "k"),
        );
        let listener = &parsed.expect("a valid configuration").listeners[0];
        assert!(listener.websocket && !listener.tls_certificate.as_slice().is_empty());
        assert!(told("corelane", Transport::Tcp).expect("plain").0.contains("--listen"));
        let (_, config) = told("mosquitto", Transport::Tls).expect("told");
        assert!(config.contains("certfile {certificate}\nkeyfile {key}\n"), "{config}");
        assert!(!told("mosquitto", Transport::Tcp).expect("plain").1.contains("{transport}"));
        let (command, _) = told("aedes", Transport::Ws).expect("told");
        assert!(command.contains("--protos ws"), "{command}");
        assert!(told("x=x --tls {port} {certificate}", Transport::Tls).is_some());
        for silent in ["limit", "nats-server", "x=x {port}"] {
            assert!(told(silent, Transport::Tcp).is_some(), "{silent}");
            assert_eq!(told(silent, Transport::Ws), None, "{silent}");
        }
    }

    #[test]
    fn an_absent_program_is_named_with_its_remedy() {
        let gone = Descriptor::new("x".into(), vec!["no-such-broker".into()]);
        let gone = Descriptor { install: Some("apt install x".into()), ..gone };
        assert!(gone.absent().is_some_and(|why| why.ends_with("apt install x")));
        assert_eq!(Descriptor::new("x".into(), vec!["sh".into()]).absent(), None);
    }

    #[test]
    fn a_running_broker_may_tell_its_process() {
        let parse = |text: &str| text.parse::<Running>();
        assert_eq!(parse("127.0.0.1:1883@7").expect("valid").pid, Some(7));
        assert_eq!(parse("[::1]:1883").expect("valid").pid, None);
        assert!(parse("localhost").is_err() && parse("127.0.0.1:1@x").is_err());
    }
}
