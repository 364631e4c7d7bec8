//! Recordings laid out, and replayed against a corelane broker in this process.

use super::*;
use crate::door::{self, Door};
use crate::engine::{self, Conditions, Target};
use crate::outcome::Outcome;
use crate::scenario::parse;
use crate::traffic::{self, Event, Sink, Tap, Veil};
use corelane::runtime::Requests;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread;

fn broker() -> SocketAddr {
    door::tests::broker().tcp
}

fn target(address: SocketAddr) -> Target {
    Target { address, pid: None, name: "corelane".into(), door: Door::default() }
}

fn requests() -> Requests {
    Requests::new(Vec::new())
}

/// Lays out and runs.
fn replay(recording: &Recording, scale: Scale) -> Outcome {
    let mut laid = lay("test", recording, scale).expect("it can be laid out");
    laid.scenario.patience_s = 20.0;
    let (target, requests, watch) = (&target(broker()), &requests(), &mut |_: engine::Live<'_>| {});
    let with = &mut Conditions { target, requests, watch, label: String::new() };
    let mut outcome = engine::run_plan(&laid.scenario, laid.plan, with);
    outcome.replayed = Some(laid.replayed);
    outcome
}

/// Runs a scenario through a tap in front of the broker; its outcome and the recording.
fn recorded(scenario: &Scenario, veil: Veil) -> (Outcome, Recording) {
    let sink = Sink::new(veil, u64::MAX);
    let tap = Tap::new(broker(), &sink);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("bound");
    let stop = requests();
    let outcome = thread::scope(|scope| {
        let run = scope.spawn(|| tap.run(&listener, &stop, None, &mut |_| {}));
        let (target, requests) = (&target(address), &requests());
        let watch = &mut |_: engine::Live<'_>| {};
        let with = &mut Conditions { target, requests, watch, label: String::new() };
        let outcome = engine::run(scenario, with);
        stop.stop();
        run.join().expect("no panic").expect("the listener is whole");
        outcome
    });
    sink.close();
    let mut file = Vec::new();
    sink.write(&mut file).expect("memory takes all");
    let text = String::from_utf8(file).expect("text");
    (outcome, traffic::read("recorded", &text).expect("valid"))
}

/// A recording by hand: lines after the header, `connect N` in short.
fn by_hand(lines: &str) -> Recording {
    let mut text = String::from("corelane-traffic 1 topics=kept\n");
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let greeting = "version=3.1.1 clean=1 keep_alive=60 expiry=0 will=0";
        let lasting = "version=3.1.1 clean=0 keep_alive=60 expiry=4294967295 will=0";
        let line = line.replace("FRESH", greeting).replace("LASTING", lasting);
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "99999999 end 0");
    traffic::read("by hand", &text).expect("valid")
}

const ONCE: Scale = Scale { rate: 1.0, copies: 1 };

#[test]
fn a_round_trip_through_the_tap_delivers_exactly_what_was_recorded() {
    let text = r##"
        messages = 600
        warmup_s = 0
        patience_s = 20
        version = "5"
        [[group]]
        name = "all"
        role = "subscribe"
        topics = ["round/#"]
        qos = 2
        count = 2
        [[group]]
        name = "some"
        role = "subscribe"
        topics = ["round/+/1"]
        qos = 1
        [[group]]
        name = "gang"
        role = "subscribe"
        share = "g"
        count = 3
        topics = ["round/0/#"]
        [[group]]
        name = "senders"
        role = "publish"
        topics = ["round/{i}/{n}"]
        topic_count = 3
        count = 2
        qos = 2
        payload = { from = 24, to = 900 }
        rate = 2000
        [[group]]
        name = "fast"
        role = "publish"
        topics = ["round/7/1"]
        rate = 1000
    "##;
    let (outcome, recording) = recorded(&parse("round", text).expect("valid"), Veil::hashed());
    assert!(outcome.passed() && !recording.cut && recording.lost == 0, "{outcome:?}");
    let publishes = |moment: &&traffic::Moment| matches!(moment.event, Event::Publish { .. });
    let published = recording.moments.iter().filter(publishes).count() as u64;
    assert!(published >= 600, "{published}");
    let found = replay(&recording, Scale { rate: 2.0, copies: 3 });
    let replayed = found.replayed.clone().expect("a replay");
    assert!(found.passed(), "{found:?}");
    assert_eq!((replayed.publications, found.totals.sent), (3 * published, 3 * published));
    // What the receivers of the recorded run got, three times over; nothing beside it.
    assert_eq!((replayed.due, found.truth.checked), (3 * outcome.truth.checked, replayed.due));
    assert_eq!((found.truth.lost_total(), found.truth.duplicated_total()), (0, 0));
    assert_eq!(found.totals.connects, 3 * outcome.totals.connects);
    assert_eq!(replayed.notes, Vec::<String>::new());
}

#[test]
fn clients_that_come_and_go_are_held_to_what_they_can_get() {
    let mut lines = String::from(
        "0 0 connect client=0 FRESH
         1 0 subscribe 1 come/+
         2 1 connect client=1 LASTING
         3 1 subscribe 1 come/a 0 come/b
         4 2 connect client=2 FRESH\n",
    );
    let mut number = 0;
    let mut say = |lines: &mut String, count: usize| {
        for _ in 0..count {
            number += 1;
            let (at, qos, topic) = (1000 * number, number % 3, ["a", "b"][number % 2]);
            let _ = writeln!(lines, "{at} 2 publish {qos} 0 30 come/{topic}");
        }
        1000 * number + 500
    };
    // One leaves and finds its session again, one subscribes late, one unsubscribes, one goes.
    let at = say(&mut lines, 30);
    let _ = writeln!(lines, "{at} 1 disconnect 1\n{at} 3 connect client=3 FRESH");
    let at = say(&mut lines, 30);
    let _ = writeln!(lines, "{at} 3 subscribe 2 come/#\n{at} 4 connect client=1 LASTING");
    let at = say(&mut lines, 30);
    let _ = writeln!(lines, "{at} 0 unsubscribe come/+\n{at} 5 connect client=2 FRESH");
    let lines = lines.clone()
        + &{
            let mut more = String::new();
            let _ = writeln!(more, "{at} 3 disconnect 0");
            for step in 1..=30 {
                let _ = writeln!(more, "{} 5 publish 1 0 30 come/a", at + 1000 * step);
            }
            more
        };
    let found = replay(&by_hand(&lines), Scale { rate: 4.0, copies: 2 });
    assert!(found.passed(), "{found:?}");
    let replayed = found.replayed.expect("a replay");
    assert_eq!((replayed.publications, found.totals.sent), (240, 240));
    assert_eq!((found.totals.connects, found.totals.resumed), (12, 2));
    // Client 0 hears 90, client 1 of them 45 of a and 30 of b (those of b were QoS 0 to it), and
    // 30 more at the end; client 3 hears 30 until it goes.
    assert!(replayed.due >= 2 * (90 + 45 + 30 + 30), "{}", replayed.due);
    assert_eq!(
        replayed.notes,
        ["1 connects took the place of an open connection; it is closed before them"]
    );
}

#[test]
fn a_message_that_the_broker_never_got_is_lost_in_a_replay_too() {
    // The broker refuses nothing here; the plan is told of a subscription that nobody makes.
    let recording = by_hand(
        "0 0 connect client=0 FRESH
         1 0 subscribe 1 lose/x
         2 1 connect client=1 FRESH
         3 1 publish 1 0 30 lose/x
         4 1 publish 1 0 30 lose/x",
    );
    let mut laid = lay("test", &recording, ONCE).expect("it can be laid out");
    laid.scenario.patience_s = 0.5;
    laid.plan.clients[0].filters[0] = "elsewhere".into();
    let (target, requests, watch) = (&target(broker()), &requests(), &mut |_: engine::Live<'_>| {});
    let with = &mut Conditions { target, requests, watch, label: String::new() };
    let found = engine::run_plan(&laid.scenario, laid.plan, with);
    assert_eq!((found.truth.lost, found.truth.checked), ([0, 2, 0], 0), "{found:?}");
    assert!(!found.passed());
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let recording = by_hand(
        "0 0 connect client=0 version=5 clean=1 keep_alive=0 expiry=0 will=1
         1 0 subscribe 0n a/# 0 $SYS/# 0 $exclusive/e 0 $share/g/a/#
         2 1 connect client=1 FRESH
         3 1 subscribe 0 $share/g/a/#
         5 1 publish 0 1 3 a/b
         6 1 publish 0 0 30 $SYS/x
         7 2 undecoded not MQTT
         8 3 connect client=1 FRESH
         9 3 publish 0 0 30 a/b
         10 4 connect client=9 FRESH",
    );
    let laid = lay("test", &recording, ONCE).expect("it can be laid out");
    let notes = laid.replayed.notes.join("\n");
    for told in [
        "1 connections were not understood",
        "1 publications are enlarged",
        "1 connects had a will",
        "1 subscriptions were \"no local\"",
        "1 publications are retained",
        "1 publications to `$` topics",
        "2 subscriptions to `$` topics or exclusive",
        "1 connects took the place",
        "1 events behind the last publication",
        // Of both flows: the group, and the member that hears them on two ways.
        "4 pairs of flow and receiver are not judged",
    ] {
        assert!(notes.contains(told), "{told} in\n{notes}");
    }
    assert_eq!(notes.lines().count(), 10, "{notes}");
    let unjudged = laid.plan.audiences.iter().filter(|one| one.may_lose && one.may_repeat);
    assert_eq!(unjudged.count(), 4);
}

#[test]
fn copies_differ_in_their_first_level_only() {
    let recording = by_hand(
        "0 0 connect client=0 FRESH
         1 0 subscribe 1 /+/x 1 $share/g/#
         2 1 connect client=1 FRESH
         4000 1 publish 1 0 30 /a/x
         6000 1 publish 2 1 50 /a/x",
    );
    let laid = lay("test", &recording, Scale { rate: 2.0, copies: 2 }).expect("valid");
    let topics: Vec<_> = laid.plan.flows.iter().map(|flow| flow.topic.as_str()).collect();
    assert_eq!(topics, ["c0//a/x", "c0//a/x", "c1//a/x", "c1//a/x"]);
    assert_eq!(laid.plan.clients[0].filters, ["c0//+/x", "$share/g/c0/#"]);
    assert_eq!(laid.plan.clients[2].filters, ["c1//+/x", "$share/g/c1/#"]);
    let (first, second) = (&laid.plan.clients[0], &laid.plan.clients[2]);
    assert_eq!(
        (first.heard[0].0 + 2, first.heard[1].0 + 2),
        (second.heard[0].0, second.heard[1].0)
    );
    let script = |at: usize| laid.plan.clients[at].script.as_ref().expect("a script");
    assert!(std::sync::Arc::ptr_eq(&script(1).steps, &script(3).steps));
    let times: Vec<u64> = script(1).steps.iter().map(|step| step.at_ns).collect();
    assert_eq!((times, laid.plan.replay_ns), (vec![1000, 0, 1_000_000], Some(2_000_000)));
    // The second copy begins later, by less than half a second at this rate.
    assert_eq!((script(1).shift_ns, script(3).shift_ns), (0, 309_016_994));
    let scaled = |scale| lay("test", &recording, scale).err().unwrap_or_default();
    assert!(scaled(Scale { rate: 0.0, copies: 1 }).contains("--rate"));
    assert!(scaled(Scale { rate: 1.0, copies: 0 }).contains("--copies"));
    assert!(scaled(Scale { rate: 1.0, copies: 3_000_000 }).contains("1 to 2000000"));
    let nobody = by_hand("0 0 undecoded not MQTT");
    assert!(lay("test", &nobody, ONCE).is_err_and(|error| error.contains("no client connects")));
}

#[test]
fn a_recording_without_publications_is_a_storm_of_connects() {
    let mut lines = String::new();
    for client in 0..50 {
        let at = 10 * client;
        let _ = writeln!(lines, "{at} {client} connect client={client} FRESH");
        let _ = writeln!(lines, "{} {client} subscribe 0 storm/{client}", at + 1);
    }
    for client in 0..50 {
        let _ = writeln!(lines, "{} {client} disconnect {}", 1000 + client, client % 2);
    }
    let found = replay(&by_hand(&lines), Scale { rate: 1.0, copies: 2 });
    assert!(found.passed() && found.totals.sent == 0, "{found:?}");
    assert_eq!((found.totals.connects, found.connect.count), (100, 100));
}
