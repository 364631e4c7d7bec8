//! Tests of the ground that a core stands on. They wait for conditions, never for time.

use std::cell::Cell;
use std::future::pending;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::heartbeat::Verdict;
use super::*;
use crate::base::{ShardId, Time};
use crate::net::{Driver, DriverSettings, Event, ListenerSettings, SocketKey, bind};

fn driver() -> Driver {
    let settings =
        DriverSettings { submission_entries: 64, completion_entries: 128, ..Default::default() };
    Driver::new(&settings).expect("a driver")
}

fn seat(shard: u8) -> Seat {
    Seat { shard: ShardId(shard), cpu: None }
}

/// Counts the wake-ups that a core saw.
fn woken(driver: &mut Driver) -> usize {
    let mut woken = 0;
    driver.reap(64, |event| match event {
        Event::Woken => woken += 1,
        other => panic!("unexpected {other:?}"),
    });
    woken
}

/// Another thread wakes the core a hundred times, each time after the core has answered.
fn is_woken(way: Way) {
    const ROUNDS: usize = 100;
    let waker = Arc::new(Waker::new().expect("an eventfd"));
    let watched = waker.watched().expect("a second handle");
    let (answer, answers) = channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let asked_of_core = asked.clone();
    let core = move |_seat| async move {
        let mut driver = driver();
        driver.watch(watched).expect("an eventfd");
        let sleeper = Sleeper::new(&driver, way).expect("a sleeper");
        for round in 1..=ROUNDS {
            while asked_of_core.load(Ordering::Acquire) < round {
                sleeper.sleep(&mut driver, None).await.expect("the ring works");
                woken(&mut driver);
            }
            answer.send(()).expect("the test listens");
        }
    };
    let cores = vec![(seat(0), core)];
    let executors = Executors::start(&ExecutorSettings::default(), cores).expect("an executor");
    for _ in 0..ROUNDS {
        asked.fetch_add(1, Ordering::Release);
        waker.wake();
        answers.recv().expect("the core answers");
    }
    executors.join(|_, outcome| outcome.expect("the core ends well"));
}

#[test]
fn a_core_asleep_in_its_ring_is_woken() {
    is_woken(Way::Ring);
}

#[test]
fn a_core_asleep_in_glommio_is_woken() {
    is_woken(Way::Glommio);
}

/// Bytes from a client wake the core, time and again.
fn answers_its_sockets(way: Way) {
    const ROUNDS: usize = 200;
    let (tell, told) = channel();
    let core = move |_seat| async move {
        let mut driver = driver();
        let waker = Waker::new().expect("an eventfd");
        driver.watch(waker.watched().expect("a second handle")).expect("an eventfd");
        let sleeper = Sleeper::new(&driver, way).expect("a sleeper");
        let any = ListenerSettings::new("127.0.0.1:0".parse().expect("an address"));
        let (fd, address) = bind(&any).expect("loopback can be bound");
        driver.listen(fd, 0);
        tell.send(address).expect("the test listens");
        let (mut peer, mut ended) = (None, false);
        let key = SocketKey { index: 0, generation: 1 };
        while !ended {
            sleeper.sleep(&mut driver, None).await.expect("the ring works");
            let mut answer = None;
            driver.reap(16, |event| match event {
                Event::Accepted { fd, .. } => peer = Some(fd),
                Event::Received { bytes, .. } => answer = Some(bytes.to_vec()),
                Event::EndOfInput { .. } => ended = true,
                Event::Woken | Event::Sent { .. } => {}
                other => panic!("unexpected {other:?}"),
            });
            if let Some(fd) = peer.take() {
                driver.register(key, fd);
                driver.read_stream(key);
            }
            if let Some(answer) = answer {
                driver.send(key, answer).expect("open");
            }
        }
    };
    let settings = ExecutorSettings::default();
    let executors = Executors::start(&settings, vec![(seat(0), core)]).expect("an executor");
    let mut client = TcpStream::connect(told.recv().expect("the core listens")).expect("a client");
    for round in 0..ROUNDS {
        let mut answer = [0; 8];
        client.write_all(&round.to_ne_bytes()).expect("the core reads");
        client.read_exact(&mut answer).expect("the core answers");
        assert_eq!(answer, round.to_ne_bytes());
    }
    drop(client);
    executors.join(|_, outcome| outcome.expect("the core ends well"));
}

#[test]
fn a_core_asleep_in_its_ring_answers_its_sockets() {
    answers_its_sockets(Way::Ring);
}

#[test]
fn a_core_asleep_in_glommio_answers_its_sockets() {
    answers_its_sockets(Way::Glommio);
}

#[test]
fn a_sleep_ends_with_its_time_and_the_two_ways_mix() {
    let core = |_seat| async {
        let mut driver = driver();
        let waker = Waker::new().expect("an eventfd");
        driver.watch(waker.watched().expect("a second handle")).expect("an eventfd");
        let sleeper = Sleeper::new(&driver, Way::Ring).expect("a sleeper");
        let brief = Some(Duration::from_millis(1));
        for round in 0..20 {
            let slept = if round % 3 == 0 {
                sleeper.sleep(&mut driver, brief).await
            } else {
                sleeper.sleep_beside_tasks(&mut driver, brief).await
            };
            slept.expect("the ring works");
            woken(&mut driver);
        }
    };
    let settings = ExecutorSettings::default();
    let executors = Executors::start(&settings, vec![(seat(0), core)]).expect("an executor");
    executors.join(|_, outcome| outcome.expect("the core ends well"));
}

#[test]
fn tasks_run_while_the_core_sleeps_beside_them() {
    let core = |_seat| async {
        let mut driver = driver();
        let waker = Rc::new(Waker::new().expect("an eventfd"));
        driver.watch(waker.watched().expect("a second handle")).expect("an eventfd");
        let sleeper = Sleeper::new(&driver, Way::Ring).expect("a sleeper");
        let ran = Rc::new(Cell::new(false));
        let (task_ran, task_waker) = (ran.clone(), waker.clone());
        let task = glommio::spawn_local(async move {
            glommio::timer::sleep(Duration::from_millis(1)).await;
            task_ran.set(true);
            task_waker.wake();
        })
        .detach();
        while !ran.get() {
            sleeper.sleep_beside_tasks(&mut driver, None).await.expect("the ring works");
            woken(&mut driver);
        }
        task.await;
    };
    let settings = ExecutorSettings::default();
    let executors = Executors::start(&settings, vec![(seat(0), core)]).expect("an executor");
    executors.join(|_, outcome| outcome.expect("the core ends well"));
}

#[test]
fn a_panic_is_reported_while_others_run() {
    let waker = Arc::new(Waker::new().expect("an eventfd"));
    let watched = waker.watched().expect("a second handle");
    let make = |panics: bool| {
        let watched = watched.try_clone().expect("a handle");
        move |_seat: Seat| async move {
            assert!(!panics, "the first core gives up");
            let mut driver = driver();
            driver.watch(watched).expect("an eventfd");
            while woken(&mut driver) == 0 {
                driver.wait(None).expect("the ring works");
            }
        }
    };
    let cores = vec![(seat(0), make(false)), (seat(1), make(true))];
    let executors = Executors::start(&ExecutorSettings::default(), cores).expect("executors");
    let mut ends = Vec::new();
    executors.join(|shard, outcome| {
        waker.wake();
        ends.push((shard, outcome.map_err(|error| error.to_string())));
    });
    let told = "shard-1 panicked: the first core gives up".to_owned();
    assert_eq!(ends, [(ShardId(1), Err(told)), (ShardId(0), Ok(()))]);
}

#[test]
fn an_absent_cpu_starts_nobody() {
    let absent = Seat { shard: ShardId(1), cpu: Some(100_000) };
    let core = |_seat| pending::<()>();
    let cores = vec![(seat(0), core), (absent, core)];
    let refused = Executors::start(&ExecutorSettings::default(), cores);
    let Err(ExecutorError::Start { shard, .. }) = refused else { panic!("it started") };
    assert_eq!(shard, ShardId(1));
}

#[test]
fn signals_become_requests_and_wake_the_cores() {
    let waker = Arc::new(Waker::new().expect("an eventfd"));
    let mut driver = driver();
    driver.watch(waker.watched().expect("a second handle")).expect("an eventfd");
    let requests = Arc::new(Requests::new(vec![waker]));
    let (report, reloads) = std::sync::mpsc::channel();
    let signals =
        SignalThread::start(requests.clone(), move || report.send(()).expect("it listens"))
            .expect("handlers");
    let mut raise = |signal| {
        signal_hook::low_level::raise(signal).expect("our own process");
        while woken(&mut driver) == 0 {
            driver.wait(None).expect("the ring works");
        }
    };
    signal_hook::low_level::raise(signal_hook::consts::SIGHUP).expect("our own process");
    assert_eq!(reloads.recv(), Ok(()));
    assert_eq!(requests.stopping(), Stopping::No);
    raise(signal_hook::consts::SIGTERM);
    assert_eq!(requests.stopping(), Stopping::Drain);
    raise(signal_hook::consts::SIGINT);
    assert_eq!(requests.stopping(), Stopping::Now);
    drop(signals);
}

#[test]
fn silence_is_judged_by_stage_and_length() {
    let settings = HeartbeatSettings::default();
    let heart = Heart::default();
    assert_eq!(settings.judge(Time::from_secs(100), heart.last()), Verdict::Fine);
    heart.beat(Time::from_secs(100), Stage::Flush);
    assert_eq!(heart.last(), (Time::from_secs(100), Stage::Flush));
    let judge = |millis| settings.judge(Time::from_millis(millis), heart.last());
    assert_eq!(judge(100_999), Verdict::Fine);
    assert_eq!(judge(101_000), Verdict::Stalled);
    assert_eq!(judge(110_000), Verdict::Lost);
    heart.beat(Time::from_secs(100), Stage::Asleep);
    assert_eq!(settings.judge(Time::from_secs(900), heart.last()), Verdict::Fine);
    heart.beat(Time::from_secs(1), Stage::Begin);
    assert_eq!(settings.judge(Time::from_secs(11), heart.last()), Verdict::Lost, "never began");
}

#[test]
fn clocks_agree_and_never_go_back() {
    let clock = Clock::start();
    let copy = clock;
    let before = clock.now();
    let between = thread::spawn(move || copy.now()).join().expect("a thread");
    assert!(before <= between && between <= clock.now());
}
