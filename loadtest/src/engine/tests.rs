//! The engine against a small server that can be told to misbehave.
//!
//! The server knows one subscriber and one publisher and hands QoS 0 packets through.

use super::*;
use crate::shape::Kind;
use crate::wire::first;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the server does to every 1000th packet.
#[derive(Clone, Copy)]
enum Vice {
    None,
    Drop,
    Repeat,
    Delay,
    Spoil,
    HangUp,
}

fn read_packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet)?;
    assert!(packet[1] < 0x80, "packets of this test are short");
    let end = 2 + usize::from(packet[1]);
    packet.resize(end, 0);
    stream.read_exact(&mut packet[2..])?;
    Ok(packet)
}

fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let mut stream = listener.accept()?.0;
    assert_eq!(read_packet(&mut stream)?[0], first::CONNECT);
    stream.write_all(&[first::CONNACK, 2, 0, 0])?;
    Ok(stream)
}

fn serve(listener: &TcpListener, vice: Vice) -> io::Result<()> {
    let mut subscriber = accept(listener)?;
    let subscribe = read_packet(&mut subscriber)?;
    subscriber.write_all(&[first::SUBACK, 3, subscribe[2], subscribe[3], 0])?;
    let mut publisher = accept(listener)?;
    let mut held = None;
    for count in 1u64.. {
        let mut packet = read_packet(&mut publisher)?;
        match vice {
            _ if count % 1000 != 0 => {}
            Vice::None => {}
            Vice::Drop => continue,
            Vice::Repeat => subscriber.write_all(&packet)?,
            Vice::Delay => {
                held = Some(packet);
                continue;
            }
            Vice::Spoil => packet[2 + 2 + "load/0".len()] ^= 1,
            Vice::HangUp => return Ok(()),
        }
        subscriber.write_all(&packet)?;
        if let Some(late) = held.take() {
            subscriber.write_all(&late)?;
        }
    }
    Ok(())
}

fn outcome(vice: Vice) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("bound");
    // The thread ends with an error when the engine closes its connections.
    let server: JoinHandle<_> = thread::spawn(move || serve(&listener, vice));
    let limits = Limits {
        warmup: Duration::ZERO,
        span: Duration::ZERO,
        messages: Some(5_000),
        patience: Duration::from_millis(400),
    };
    let shape = Shape::new(Kind::Pipe, 1, 0, 64);
    let engine = Engine::connect(&shape, address, limits, None).expect("the server answers");
    let outcome = engine.run();
    let _ = server.join().expect("the server does not panic");
    outcome
}

#[test]
fn an_honest_server_passes() {
    let found = outcome(Vice::None);
    assert!(found.passed(), "{found:?}");
    assert!(found.sent >= 5_000);
    assert!(found.latency.p50_ns > 0 && found.latency.p50_ns <= found.latency.max_ns);
}

#[test]
fn a_dropped_message_is_lost() {
    let found = outcome(Vice::Drop);
    assert!(found.faults.lost >= 5 && !found.passed(), "{found:?}");
}

#[test]
fn a_repeated_message_is_a_duplicate() {
    let found = outcome(Vice::Repeat);
    assert!(found.faults.duplicated >= 5 && found.faults.lost == 0, "{found:?}");
    assert!(!found.passed());
}

#[test]
fn an_overtaken_message_is_late_not_lost() {
    let found = outcome(Vice::Delay);
    assert!(found.faults.late >= 5 && found.faults.lost == 0, "{found:?}");
    assert!(!found.passed());
}

#[test]
fn a_spoiled_stamp_is_corrupt() {
    let found = outcome(Vice::Spoil);
    assert!(found.faults.corrupt >= 5 && !found.passed(), "{found:?}");
}

#[test]
fn a_hang_up_breaks_the_run() {
    let found = outcome(Vice::HangUp);
    assert!(found.broken.is_some() && !found.passed(), "{found:?}");
}
