//! What a running broker tells: its log as lines of JSON, its reload, and the `$SYS` tree.
#![cfg(feature = "server")]

use corelane::base::PacketId;
use corelane::codec::{self, Connack, ConnectOut, Packet, PublishOut, SubscribeOptions};
use corelane::codec::{SubscribeOut, Version};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

type Line = BTreeMap<String, String>;

/// A broker with JSON logs, whose lines are read one by one.
struct Broker {
    process: Child,
    log: BufReader<ChildStderr>,
    lines: Vec<Line>,
    config: PathBuf,
    port: u16,
}

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

impl Broker {
    fn start(name: &str, text: &str) -> Broker {
        let config = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{}-{name}.toml", std::process::id()));
        std::fs::write(&config, format!("{text}{LISTENER}")).expect("a writable directory");
        let mut process = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .arg("--config")
            .arg(&config)
            .args(["--shards", "2"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let log = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut broker = Broker { process, log, lines: Vec::new(), config, port: 0 };
        let line = broker.wait_for("listener tcp is at ");
        let port = line["message"].rsplit(':').next().and_then(|port| port.parse().ok());
        broker.port = port.expect("a port");
        broker
    }

    /// Writes the configuration anew and makes the broker read it.
    fn reload(&self, text: &str) {
        std::fs::write(&self.config, format!("{text}{LISTENER}")).expect("a writable directory");
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).expect("our own child");
    }

    /// Reads lines up to one whose message begins so.
    fn wait_for(&mut self, message: &str) -> Line {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("it ended without \"{message}\""));
            if line["message"].starts_with(message) {
                return line;
            }
        }
    }

    fn line(&mut self) -> Option<Line> {
        let mut text = String::new();
        if self.log.read_line(&mut text).expect("lines are UTF-8") == 0 {
            return None;
        }
        let line = object(text.trim_end()).unwrap_or_else(|| panic!("not an object: {text}"));
        for name in ["time", "level", "target", "message"] {
            assert!(line.contains_key(name), "{name} is missing: {text}");
        }
        self.lines.push(line.clone());
        Some(line)
    }

    /// Tells it to stop and reads the rest of its log.
    fn stop(mut self) -> Vec<Line> {
        self.signal(Signal::TERM);
        while self.line().is_some() {}
        assert!(self.process.wait().expect("our own child").success());
        std::mem::take(&mut self.lines)
    }

    /// A connection that has its CONNACK.
    fn connect(&self, client_id: &str) -> TcpStream {
        self.greeted(client_id).0
    }

    /// A connection and the body of its CONNACK.
    fn greeted(&self, client_id: &str) -> (TcpStream, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let connect = ConnectOut { version: Version::V5, client_id, ..ConnectOut::default() };
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        stream.write_all(&bytes).expect("it reads");
        let mut head = [0; 2];
        stream.read_exact(&mut head).expect("a CONNACK");
        let mut rest = vec![0; usize::from(head[1])];
        stream.read_exact(&mut rest).expect("the rest of it");
        assert_eq!((head[0], rest[1]), (0x20, 0), "let in");
        (stream, rest)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

/// Reads one JSON object of strings, numbers and booleans; `None` if it is anything else.
fn object(text: &str) -> Option<Line> {
    let mut rest = text.strip_prefix('{')?;
    let mut found = Line::new();
    loop {
        let (name, behind) = string(rest)?;
        let behind = behind.strip_prefix(':')?;
        let (value, behind) = match string(behind) {
            Some(read) => read,
            None => {
                let end = behind.find([',', '}'])?;
                let value = &behind[..end];
                let known = ["true", "false"].contains(&value) || value.parse::<f64>().is_ok();
                (known.then(|| value.to_owned())?, &behind[end..])
            }
        };
        if found.insert(name, value).is_some() {
            return None;
        }
        match behind.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (behind == "}").then_some(found),
        }
    }
}

/// A JSON string at the front of `text`, and what is behind it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'u' => {
                    let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                    value.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                c @ ('"' | '\\') => value.push(c),
                _ => return None,
            },
            c if c < ' ' => return None,
            c => value.push(c),
        }
    }
    None
}

#[test]
fn every_line_is_an_object_whatever_a_client_calls_itself() {
    let text = "log.format = \"json\"\n";
    let mut broker = Broker::start("lines", text);
    let hostile = format!("a\"b\\c\n\u{1b}[31m\u{202e}{}", "x".repeat(500));
    let mut stream = broker.connect(&hostile);
    let connected = broker.wait_for("connected");
    assert!(hostile.starts_with(&connected["client_id"]) && connected["client_id"].len() == 128);
    assert_eq!(connected["listener"], "tcp");
    assert_eq!(connected["version"], "5.0");
    let peer = stream.local_addr().expect("connected").to_string();
    assert_eq!(connected["peer"], peer);
    stream.write_all(&[0xe0, 2, 0x04, 0]).expect("it reads");
    let ended = broker.wait_for("disconnected");
    assert_eq!((ended["cause"].as_str(), ended["code"].as_str()), ("client", "4"));
    assert_eq!((&ended["peer"], &ended["client_id"]), (&peer, &connected["client_id"]));
    let mut bad = TcpStream::connect(("127.0.0.1", broker.port)).expect("it listens");
    bad.write_all(&[0xc0, 0]).expect("it reads");
    let fault = broker.wait_for("protocol error");
    assert_eq!(fault["what"], "a packet before CONNECT");
    let lines = broker.stop();
    assert!(lines.iter().any(|line| line["message"].starts_with("stopped: ")));
}

#[test]
fn a_reload_takes_the_log_over_and_names_what_waits() {
    let text =
        "log.format = \"json\"\nlog.level = \"warn\"\nlog.filter = \"corelane::broker=info\"\n";
    let mut broker = Broker::start("reload", text);
    drop(broker.connect("unseen"));
    broker.reload("log.format = \"json\"\nprotocol.maximum_qos = 1\nruntime.spin_us = 9\n");
    let taken = broker.wait_for("the configuration was read again");
    assert_eq!(taken["changed"], "log.level, log.filter");
    let waiting = broker.wait_for("these changes need a restart");
    assert!(waiting["message"].ends_with(": runtime.spin_us, protocol.maximum_qos"));
    drop(broker.connect("seen"));
    assert_eq!(broker.wait_for("connected")["client_id"], "seen");
    broker.reload("log.format = \"json\"\nlog.level = \"loud\"\n");
    broker.wait_for("nothing was taken over");
    drop(broker.connect("still seen"));
    assert_eq!(broker.wait_for("connected")["client_id"], "still seen");
    let lines = broker.stop();
    // Its end may have been noticed after the reload.
    let connected = lines.iter().filter(|line| line["message"] == "connected");
    let names: Vec<_> = connected.map(|line| line["client_id"].as_str()).collect();
    assert!(!names.contains(&"unseen"), "{names:?}");
}

#[test]
fn a_reload_reaches_every_core_and_leaves_connections_what_they_were_told() {
    let log = "log.format = \"json\"\n";
    let mut broker = Broker::start("live", log);
    // More names than cores, so that each is the home of one.
    let names: Vec<String> = (0..16).map(|n| format!("c{n}")).collect();
    let mut old = broker.connect("old");
    let live = "session.receive_maximum = 7\nlimits.packet_bytes = 500\n";
    broker.reload(&format!("{log}{live}sys.interval_s = 1\n"));
    let taken = broker.wait_for("the configuration was read again");
    assert_eq!(taken["changed"], "session.receive_maximum, limits.packet_bytes");
    let waiting = broker.wait_for("these changes need a restart");
    assert!(waiting["message"].ends_with(": sys.interval_s"));
    for name in &names {
        let told = |broker: &Broker| {
            let (mut stream, body) = broker.greeted(name);
            let connack = Connack::decode(&body, Version::V5).expect("a CONNACK");
            let told = (connack.receive_maximum, connack.maximum_packet_size);
            stream.write_all(&[0xe0, 0]).expect("it reads");
            told
        };
        while told(&broker) != (Some(7), Some(500)) {}
    }
    // The old connection may send what it was told; a new one may not.
    let mut bytes = Vec::new();
    let payload = [7; 2000];
    PublishOut { topic: "t", payload: &payload, ..PublishOut::default() }
        .encode(Version::V5, &mut bytes);
    bytes.extend_from_slice(&[0xc0, 0]);
    let mut answer = [0; 2];
    old.write_all(&bytes).expect("it reads");
    old.read_exact(&mut answer).expect("a PINGRESP");
    assert_eq!(answer, [0xd0, 0]);
    let mut new = broker.connect("new");
    new.write_all(&bytes).expect("it reads");
    new.read_exact(&mut answer).expect("a DISCONNECT");
    assert_eq!(answer[0], 0xe0);
    broker.reload(&format!("{log}limits.packet_bytes = 5\n"));
    broker.wait_for("nothing was taken over");
    assert_eq!(broker.greeted("after").1[..], broker.greeted("still").1[..]);
    broker.stop();
}

#[test]
fn a_flood_of_one_kind_is_counted_and_not_written() {
    let text = "log.format = \"json\"\nlog.similar_per_s = 3\n";
    let broker = Broker::start("flood", text);
    let clients: Vec<_> = (0..60).map(|n| broker.connect(&format!("c{n}"))).collect();
    let lines = broker.stop();
    drop(clients);
    let told = lines.iter().filter(|line| line["message"] == "connected").count();
    let like = |line: &&Line| line.get("like").is_some_and(|like| like == "connected");
    let number =
        |line: &Line| line["message"].split(' ').next().and_then(|n| n.parse::<usize>().ok());
    let counted: usize = lines.iter().filter(like).filter_map(number).sum();
    assert_eq!(told + counted, 60);
    assert!(counted > 0, "{told} lines");
}

#[test]
fn the_tree_is_there_for_who_subscribes() {
    let broker = Broker::start("tree", "log.format = \"json\"\nsys.interval_s = 1\n");
    let mut stream = broker.connect("reader");
    let packet_id = PacketId::new(1).expect("not zero");
    let filters = [("$SYS/#", SubscribeOptions::default())];
    let mut bytes = Vec::new();
    SubscribeOut { packet_id, subscription_id: None, filters: &filters }
        .encode(Version::V5, &mut bytes);
    stream.write_all(&bytes).expect("it reads");
    let (mut input, mut tree) = (Vec::new(), BTreeMap::new());
    let broker_wide = ["system/memory", "system/threads", "time", "started", "uptime", "version"];
    let of_core = |n| ["busy", "polling", "sleeping"].map(|name| format!("cores/{n}/share/{name}"));
    let mut names: Vec<String> = broker_wide.map(str::to_owned).to_vec();
    names.extend((0..2).flat_map(of_core));
    let is_whole = |tree: &BTreeMap<String, String>| {
        let connected = tree.get("$SYS/broker/clients/connected").is_some_and(|count| count == "1");
        connected && names.iter().all(|name| tree.contains_key(&format!("$SYS/broker/{name}")))
    };
    while !is_whole(&tree) {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).expect("it writes");
        assert!(count > 0, "it closed the connection");
        input.extend_from_slice(&piece[..count]);
        while let Some(frame) = codec::frame(&input, usize::MAX).expect("whole packets") {
            if let Ok(Packet::Publish(publish)) = codec::decode(&frame, Version::V5) {
                let text = String::from_utf8(publish.payload.to_vec()).expect("text");
                tree.insert(publish.topic.to_owned(), text);
            }
            let len = frame.len;
            input.drain(..len);
        }
    }
    let number = |name: &str| tree[&format!("$SYS/broker/{name}")].parse::<f64>().expect("one");
    assert!(number("system/memory") > 1e6 && number("system/threads") >= 2.0);
    assert!(number("time") - number("started") >= number("uptime"));
    for core in 0..2 {
        let share = |name| number(&format!("cores/{core}/share/{name}"));
        let whole = share("busy") + share("polling") + share("sleeping");
        assert!((whole - 1.0).abs() < 0.001, "the parts make {whole}");
    }
    assert!(tree["$SYS/broker/version"].starts_with("corelane "));
    broker.stop();
}

#[test]
fn the_load_of_cores_is_told_with_what_would_level_it() {
    let broker = Broker::start("load", "log.format = \"json\"\nsys.interval_s = 1\n");
    let mut stream = broker.connect("publisher");
    let mut batch = Vec::new();
    let hot = PublishOut { topic: "hot/one/topic", payload: b"x", ..PublishOut::default() };
    (0..10_000).for_each(|_| hot.encode(Version::V5, &mut batch));
    let ask = || {
        let address = format!("127.0.0.1:{}", broker.port);
        let words = ["topology", "--load", "--broker", &address];
        let told = Command::new(env!("CARGO_BIN_EXE_corelane")).args(words).output();
        let told = told.expect("it can be started");
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).expect("text")
    };
    // What is looked at counts half as much with every interval, so it may take several.
    let told = loop {
        (0..10).for_each(|_| stream.write_all(&batch).expect("it reads"));
        let told = ask();
        if told.contains("times the mean") {
            break told;
        }
        assert!(told.contains("too few messages"), "{told}");
    };
    let hot = told.lines().find(|line| line.contains("2.00  hot/one 100 %"));
    assert!(hot.is_some(), "{told}");
    assert!(told.contains("no rule about owners"), "{told}");
    assert!(told.contains("prefix = \"hot/one/topic\"\nmode = \"publisher\""), "{told}");
    broker.stop();
}
