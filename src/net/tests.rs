//! Tests of the driver over real loopback sockets. They wait for conditions, never for time.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::fstat;

use super::ring::Completion;
use super::*;
use crate::base::{Prng, Time};

/// A bound on waiting that a passing test never reaches.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Seen {
    Accepted(OwnedFd),
    AcceptFailed(Errno),
    Received(SocketKey, Vec<u8>),
    Ended(SocketKey, Option<Errno>),
    Sent(SocketKey, Vec<u8>),
    SendFailed(SocketKey, Errno),
    Released(SocketKey),
    Woken,
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Seen {
        match event {
            Event::Accepted { fd, .. } => Seen::Accepted(fd),
            Event::AcceptFailed { error, .. } => Seen::AcceptFailed(error),
            Event::Received { key, bytes } => Seen::Received(key, bytes.to_vec()),
            Event::EndOfInput { key, error } => Seen::Ended(key, error),
            Event::Sent { key, buffer } => Seen::Sent(key, buffer),
            Event::SendFailed { key, error, .. } => Seen::SendFailed(key, error),
            Event::Released { key } => Seen::Released(key),
            Event::Woken => Seen::Woken,
        }
    }
}

fn key(index: u32, generation: u32) -> SocketKey {
    SocketKey { index, generation }
}

fn small() -> DriverSettings {
    DriverSettings { recv_buffers: 64, ..DriverSettings::default() }
}

/// One tick: everything that is there, or the next thing that happens.
fn tick(driver: &mut Driver, budget: usize) -> Vec<Seen> {
    driver.submit().expect("the ring works");
    if !driver.has_completions() {
        driver.wait(Some(PATIENCE)).expect("the ring works");
        assert!(driver.has_completions(), "nothing happened for a minute");
    }
    let mut seen = Vec::new();
    driver.reap(budget, |event| seen.push(Seen::from(event)));
    seen
}

/// The next events, however many ticks they take.
fn next(driver: &mut Driver) -> Vec<Seen> {
    loop {
        let seen = tick(driver, 16);
        if !seen.is_empty() {
            return seen;
        }
    }
}

fn listening(driver: &mut Driver, settings: ListenerSettings) -> SocketAddr {
    let (fd, address) = bind(&settings).expect("loopback can be bound");
    driver.listen(fd, 0);
    address
}

fn loopback() -> ListenerSettings {
    ListenerSettings::new("127.0.0.1:0".parse().expect("an address"))
}

/// Connects a client and returns both ends.
fn connect(driver: &mut Driver, address: SocketAddr) -> (TcpStream, OwnedFd) {
    let client = TcpStream::connect(address).expect("the backlog has room");
    loop {
        for seen in tick(driver, 1) {
            if let Seen::Accepted(fd) = seen {
                return (client, fd);
            }
        }
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Prng::new(seed);
    (0..len).map(|_| random.next_u64() as u8).collect()
}

fn inode(fd: impl AsFd) -> u64 {
    fstat(fd).expect("an open fd").st_ino
}

/// Inodes of all sockets that this process has open. Other tests run beside this one, so only
/// the presence of a certain inode means something.
fn open_inodes() -> HashSet<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("procfs");
    let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| {
            let name = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
            name.parse().ok()
        })
        .collect()
}

/// Closes and ticks until the socket is released; returns what else was seen.
fn close_and_wait(driver: &mut Driver, key: SocketKey, deadline: Time) -> Vec<Seen> {
    driver.close(key, deadline);
    let mut all = Vec::new();
    loop {
        for seen in tick(driver, 16) {
            match seen {
                Seen::Released(released) if released == key => return all,
                other => all.push(other),
            }
        }
    }
}

#[test]
fn echo_is_exact_with_small_buffers_and_a_slow_reader() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let tiny = ListenerSettings {
        send_buffer_bytes: Some(4096),
        recv_buffer_bytes: Some(4096),
        ..loopback()
    };
    let address = listening(&mut driver, tiny);
    let (mut client, fd) = connect(&mut driver, address);
    let sent = noise(1, 600_000);
    let echoed = sent.clone();
    let mut reader = client.try_clone().expect("a second handle");
    let writer = thread::spawn(move || {
        let mut random = Prng::new(2);
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + random.below(9000)));
            client.write_all(now).expect("the server reads");
            rest = later;
        }
        client.shutdown(Shutdown::Write).expect("still open");
    });
    let reader = thread::spawn(move || {
        let (mut random, mut got) = (Prng::new(3), Vec::new());
        let mut piece = [0; 3000];
        loop {
            let most = 1 + random.below(piece.len() - 1);
            match reader.read(&mut piece[..most]).expect("the server writes") {
                0 => return got,
                count => got.extend_from_slice(&piece[..count]),
            }
        }
    });
    let me = key(3, 1);
    driver.register(me, fd);
    driver.read_stream(me);
    let (mut pending, mut spare, mut ended) = (Vec::new(), Vec::new(), false);
    loop {
        for seen in tick(&mut driver, 32) {
            match seen {
                Seen::Received(_, bytes) => pending.extend_from_slice(&bytes),
                Seen::Ended(_, error) => {
                    assert_eq!(error, None);
                    ended = true;
                }
                Seen::Sent(_, buffer) => spare = buffer,
                other => panic!("unexpected {other:?}"),
            }
        }
        if !pending.is_empty() && !driver.sending(me) {
            let full = std::mem::replace(&mut pending, std::mem::take(&mut spare));
            driver.send(me, full).expect("the socket is open");
        }
        if ended && pending.is_empty() && !driver.sending(me) {
            break;
        }
    }
    close_and_wait(&mut driver, me, Time::NEVER);
    writer.join().expect("the writer ends");
    assert!(reader.join().expect("the reader ends") == echoed, "the echo differs");
    assert!(driver.is_empty());
}

/// Sixty-four clients have sent before anything is read; every byte arrives in order.
fn everybody_is_heard(settings: &DriverSettings, seed: u64) -> Counters {
    const CLIENTS: u32 = 64;
    let mut driver = Driver::new(settings).expect("a driver");
    let address = listening(&mut driver, loopback());
    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        let (mut client, fd) = connect(&mut driver, address);
        let bytes = noise(seed + u64::from(index), 20_000);
        client.write_all(&bytes).expect("loopback has room for it");
        client.shutdown(Shutdown::Write).expect("still open");
        driver.register(key(index, 7), fd);
        clients.push((client, bytes, Vec::new()));
    }
    for index in 0..CLIENTS {
        driver.read_stream(key(index, 7));
    }
    let mut open = CLIENTS;
    while open > 0 {
        for seen in tick(&mut driver, 16) {
            match seen {
                Seen::Received(key, bytes) => {
                    clients[key.index as usize].2.extend_from_slice(&bytes);
                }
                Seen::Ended(key, None) => {
                    open -= 1;
                    driver.close(key, Time::NEVER);
                }
                Seen::Released(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    for (index, (_, sent, got)) in clients.iter().enumerate() {
        let first = sent.iter().zip(got).position(|(a, b)| a != b);
        let (whole, heard) = (sent.len(), got.len());
        let counted = driver.counters();
        assert!(
            sent == got,
            "client {index}: sent {whole} bytes, heard {heard}, other from {first:?}, {counted:?}"
        );
    }
    driver.counters()
}

#[test]
fn four_buffers_serve_sixty_four_connections() {
    let settings =
        DriverSettings { recv_buffers: 4, recv_buffer_bytes: 512, ..DriverSettings::default() };
    let counters = everybody_is_heard(&settings, 100);
    assert!(counters.starved > 0, "the buffers were meant to run out");
}

#[test]
fn tiny_queues_lose_nothing() {
    let settings = DriverSettings {
        submission_entries: 4,
        completion_entries: 8,
        recv_buffers: 64,
        recv_buffer_bytes: 256,
    };
    everybody_is_heard(&settings, 200);
}

#[test]
fn pausing_loses_nothing() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let (mut client, fd) = connect(&mut driver, address);
    let sent = noise(5, 2_000_000);
    let expected = sent.clone();
    let writer = thread::spawn(move || client.write_all(&sent).expect("the server reads"));
    let me = key(0, 1);
    driver.register(me, fd);
    driver.read_stream(me);
    let (mut random, mut got, mut ended) = (Prng::new(6), Vec::new(), false);
    while !ended {
        match random.below(6) {
            0 => driver.pause(me),
            1 => {
                driver.pause(me);
                driver.pause(me);
                driver.resume(me);
            }
            _ => driver.resume(me),
        }
        driver.submit().expect("the ring works");
        driver.reap(1 + random.below(8), |event| match Seen::from(event) {
            Seen::Received(_, bytes) => got.extend_from_slice(&bytes),
            Seen::Ended(_, error) => {
                assert_eq!(error, None);
                ended = true;
            }
            other => panic!("unexpected {other:?}"),
        });
    }
    writer.join().expect("the writer ends");
    assert!(got == expected, "bytes were lost or doubled");
}

#[test]
fn a_pause_holds_until_resumed() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let (mut client, fd) = connect(&mut driver, address);
    let me = key(0, 1);
    driver.register(me, fd);
    driver.read_stream(me);
    driver.submit().expect("the ring works");
    driver.pause(me);
    // The cancelled receive has left the kernel when the socket is idle.
    while !driver.is_idle(me) {
        driver.submit().expect("the ring works");
        driver.reap(16, |event| panic!("unexpected {event:?}"));
    }
    client.write_all(b"later").expect("a socket has room");
    driver.submit().expect("the ring works");
    driver.reap(16, |event| panic!("unexpected {event:?}"));
    driver.resume(me);
    let seen = next(&mut driver);
    assert!(matches!(&seen[..], [Seen::Received(_, bytes)] if bytes == b"later"), "{seen:?}");
}

#[test]
fn a_close_at_once_cancels_and_releases_once() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let (client, fd) = connect(&mut driver, address);
    let (me, inode) = (key(0, 9), inode(&fd));
    driver.register(me, fd);
    driver.read_stream(me);
    driver.send(me, vec![7; 64 << 20]).expect("open");
    driver.submit().expect("the ring works");
    driver.expire(Time::from_secs(1));
    assert!(open_inodes().contains(&inode));
    let before = close_and_wait(&mut driver, me, Time::from_secs(1));
    let [Seen::SendFailed(at, error)] = before[..] else { panic!("unexpected {before:?}") };
    assert_eq!((at, error), (me, Errno::CANCELED));
    assert!(!open_inodes().contains(&inode), "the fd is closed");
    driver.close(me, Time::default());
    driver.submit().expect("the ring works");
    driver.reap(16, |event| panic!("unexpected {event:?}"));
    assert!(driver.is_empty());
    drop(client);
}

#[test]
fn an_orderly_close_delivers_what_was_sent() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let (mut client, fd) = connect(&mut driver, address);
    let me = key(0, 1);
    driver.register(me, fd);
    driver.read_stream(me);
    let bytes = noise(8, 8 << 20);
    let expected = bytes.clone();
    driver.send(me, bytes).expect("open");
    // Unread input at the moment of closing would reset the connection; lingering prevents it.
    client.write_all(&[1; 10_000]).expect("a socket has room");
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect("no reset");
        got
    });
    let before = close_and_wait(&mut driver, me, Time::NEVER);
    assert!(matches!(before[..], [Seen::Sent(at, _)] if at == me), "{before:?}");
    assert!(reader.join().expect("the reader ends") == expected);
}

#[test]
fn a_deadline_ends_lingering() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let (client, fd) = connect(&mut driver, address);
    let me = key(0, 1);
    driver.register(me, fd);
    driver.close(me, Time::from_secs(5));
    driver.expire(Time::from_secs(4));
    driver.submit().expect("the ring works");
    driver.reap(16, |event| panic!("unexpected {event:?}"));
    assert!(driver.next_deadline() < Time::from_secs(10));
    driver.expire(Time::from_secs(5));
    let seen = next(&mut driver);
    assert!(matches!(seen[..], [Seen::Released(_)]), "{seen:?}");
    drop(client);
}

#[test]
fn the_next_tenant_of_an_index_is_a_stranger() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let (_first, fd) = connect(&mut driver, address);
    let (old, new) = (key(0, 1), key(0, 2));
    driver.register(old, fd);
    driver.read_stream(old);
    driver.submit().expect("the ring works");
    close_and_wait(&mut driver, old, Time::default());
    let (mut second, fd) = connect(&mut driver, address);
    driver.register(new, fd);
    driver.read_stream(new);
    driver.pause(old);
    driver.close(old, Time::default());
    assert_eq!(driver.send(old, vec![1]), Err(vec![1].into()));
    assert!(!driver.sending(new) && driver.fd(old).is_none());
    second.write_all(b"for the second").expect("a socket has room");
    let seen = next(&mut driver);
    let [Seen::Received(at, bytes)] = &seen[..] else { panic!("unexpected {seen:?}") };
    assert_eq!((*at, &bytes[..]), (new, &b"for the second"[..]));
}

#[test]
fn a_hand_over_in_the_stream_loses_nothing() {
    let mut lobby = Driver::new(&small()).expect("a driver");
    let mut home = Driver::new(&small()).expect("a driver");
    let address = listening(&mut lobby, loopback());
    let (mut client, fd) = connect(&mut lobby, address);
    let sent = noise(11, 1_000_000);
    let expected = sent.clone();
    let writer = thread::spawn(move || client.write_all(&sent).expect("the server reads"));
    let (here, there) = (key(5, 1), key(9, 4));
    lobby.register(here, fd);
    let mut got = Vec::new();
    while got.len() < 10_000 {
        lobby.read_once(here);
        for seen in next(&mut lobby) {
            let Seen::Received(_, bytes) = seen else { panic!("unexpected {seen:?}") };
            got.extend_from_slice(&bytes);
        }
        assert!(lobby.is_idle(here), "a single receive ends with its bytes");
    }
    home.register(there, lobby.detach(here));
    assert!(lobby.is_empty());
    home.read_stream(there);
    'all: loop {
        for seen in tick(&mut home, 16) {
            match seen {
                Seen::Received(at, bytes) if at == there => got.extend_from_slice(&bytes),
                Seen::Ended(_, None) => break 'all,
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    writer.join().expect("the writer ends");
    assert!(got == expected);
}

/// The refusal leaves the fd open: the receive that was not yet submitted names it by number.
#[test]
fn a_reading_socket_is_not_handed_over() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let (mut client, fd) = connect(&mut driver, address);
    let (me, inode) = (key(0, 1), inode(&fd));
    driver.register(me, fd);
    driver.read_once(me);
    let refused = catch_unwind(AssertUnwindSafe(|| driver.detach(me))).expect_err("it reads");
    let why = refused.downcast_ref::<&str>().expect("a plain message");
    assert_eq!(*why, "a socket is handed over with no operation in flight");
    assert!(open_inodes().contains(&inode));
    client.write_all(b"still here").expect("open");
    let seen = next(&mut driver);
    assert!(matches!(&seen[..], [Seen::Received(_, bytes)] if bytes == b"still here"), "{seen:?}");
}

#[test]
fn a_thousand_connections_leave_nothing() {
    const ALL: usize = 1000;
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let clients = thread::spawn(move || {
        for round in 0..ALL / 50 {
            let mut clients: Vec<TcpStream> = (0..50)
                .map(|_| TcpStream::connect(address).expect("the backlog has room"))
                .collect();
            for client in clients.iter_mut().filter(|_| round % 2 == 0) {
                client.write_all(b"hello").expect("a socket has room");
            }
        }
    });
    let mut inodes = HashSet::new();
    let (mut free, mut generations) = (Vec::new(), HashMap::new());
    let mut released = 0;
    while released < ALL {
        for seen in tick(&mut driver, 64) {
            match seen {
                Seen::Accepted(fd) => {
                    inodes.insert(inode(&fd));
                    let index = free.pop().unwrap_or(generations.len() as u32);
                    let generation = generations.entry(index).or_insert(0);
                    *generation += 1;
                    driver.register(key(index, *generation), fd);
                    driver.read_stream(key(index, *generation));
                }
                Seen::Received(key, bytes) => {
                    // The peer may be gone; both ways lead to one release.
                    let _ = driver.send(key, bytes);
                }
                Seen::Ended(key, _) => driver.close(key, Time::NEVER),
                Seen::Released(key) => {
                    assert_eq!(generations[&key.index], key.generation);
                    free.push(key.index);
                    released += 1;
                }
                Seen::Sent(..) | Seen::SendFailed(..) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    clients.join().expect("the clients end");
    assert_eq!(released, ALL);
    assert!(driver.is_empty());
    // Inodes of sockets are not reused within so short a time.
    assert_eq!(open_inodes().intersection(&inodes).count(), 0);
}

#[test]
fn a_listener_rests_when_files_run_out() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    driver.expire(Time::from_secs(1));
    let failed = Completion::Accepted { listener: 0, fd: Err(Errno::MFILE), more: false };
    let mut seen = Vec::new();
    driver.handle(failed, &mut |event| seen.push(Seen::from(event)));
    assert!(matches!(seen[..], [Seen::AcceptFailed(Errno::MFILE)]), "{seen:?}");
    let again = driver.next_deadline();
    assert!(again > Time::from_secs(1) && again < Time::from_secs(2), "{again:?}");
    driver.expire(again);
    let _ends = connect(&mut driver, address);
}

#[test]
fn a_stopped_listener_refuses() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let _ends = connect(&mut driver, address);
    driver.stop_listening();
    while driver.listeners[0].is_some() {
        assert!(tick(&mut driver, 16).is_empty());
    }
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}

#[test]
fn a_dropped_driver_closes_its_sockets() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let address = listening(&mut driver, loopback());
    let (mut client, fd) = connect(&mut driver, address);
    driver.register(key(0, 1), fd);
    driver.read_stream(key(0, 1));
    driver.send(key(0, 1), vec![0; 64 << 20]).expect("open");
    driver.submit().expect("the ring works");
    drop(driver);
    // The end, or a reset: what was in flight is cut off.
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20);
}

#[test]
fn each_write_to_the_watched_eventfd_wakes() {
    let mut driver = Driver::new(&small()).expect("a driver");
    let bell = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
    driver.watch(bell.try_clone().expect("a second handle")).expect("an eventfd");
    for _ in 0..100 {
        let bell = bell.try_clone().expect("a second handle");
        let ringer = thread::spawn(move || {
            rustix::io::write(&bell, &1u64.to_ne_bytes()).expect("eventfd");
        });
        let seen = next(&mut driver);
        assert!(matches!(seen[..], [Seen::Woken]), "{seen:?}");
        ringer.join().expect("the ringer ends");
    }
}

#[test]
fn a_wait_ends_with_its_time() {
    let mut driver = Driver::new(&small()).expect("a driver");
    driver.wait(Some(Duration::from_millis(5))).expect("the ring works");
    assert!(!driver.has_completions());
}
