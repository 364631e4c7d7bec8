//! The `$SYS` topics about owned subtrees, read from a running broker.

use super::super::refusal::Refusal;
use super::CoreLoad;
use crate::base::{MAX_SHARDS, PacketId};
use crate::codec::{self, ConnectOut, Packet, QoS, SubscribeOptions, SubscribeOut, Version};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// MQTT does not tell the end of the retained messages: when so long nothing came, that was all.
const QUIET: Duration = Duration::from_millis(300);
/// The first figures of a broker come within its first seconds.
const PATIENCE: Duration = Duration::from_secs(5);
const CORES: &str = "$SYS/broker/system/cores";
const OWNED: &str = "$SYS/broker/cores/+/owned/#";

/// What has been told so far, the last value of each topic.
#[derive(Default)]
struct Told(BTreeMap<String, String>);

/// The loads of all cores of the broker at `address`.
pub fn read(address: &str) -> Result<Vec<CoreLoad>, Refusal> {
    let failed = |error: std::io::Error| {
        Refusal::new(
            format!("the broker at {address} can't be asked: {error}"),
            "name it with --broker HOST:PORT, and let it tell $SYS (sys.interval_s)",
        )
    };
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(QUIET)).map_err(failed)?;
    stream.write_all(&request()).map_err(failed)?;
    let (mut told, mut bytes, mut piece) = (Told::default(), Vec::new(), [0; 16 * 1024]);
    let start = Instant::now();
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Err(failed(ErrorKind::UnexpectedEof.into())),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if let Some(loads) = told.loads() {
                    return Ok(loads);
                }
                if start.elapsed() > PATIENCE {
                    return Err(failed(ErrorKind::TimedOut.into()));
                }
            }
            Err(error) => return Err(failed(error)),
        }
        let used = told.take(&bytes).map_err(|what| {
            Refusal::new(
                format!("the broker at {address} {what}"),
                "ask at a listener that lets anonymous clients read $SYS",
            )
        })?;
        bytes.drain(..used);
    }
}

/// CONNECT and SUBSCRIBE.
fn request() -> Vec<u8> {
    let mut out = Vec::new();
    ConnectOut { version: Version::V5, clean_start: true, ..ConnectOut::default() }
        .encode(&mut out);
    let options = SubscribeOptions { qos: QoS::AtMostOnce, ..SubscribeOptions::default() };
    let filters = [(CORES, options), (OWNED, options)];
    SubscribeOut { packet_id: PacketId::MIN, subscription_id: None, filters: &filters }
        .encode(Version::V5, &mut out);
    out
}

impl Told {
    /// The loads of all cores, once each has told its sum.
    fn loads(&self) -> Option<Vec<CoreLoad>> {
        let cores: usize = self.0.get(CORES)?.parse().ok()?;
        (0..cores.min(MAX_SHARDS)).map(|core| self.load(core)).collect()
    }

    fn load(&self, core: usize) -> Option<CoreLoad> {
        let told = |name: &str| self.0.get(&format!("$SYS/broker/cores/{core}/owned/{name}"));
        let list = |below: &str| {
            let lines = (1..).map_while(|place| told(&format!("{below}{place}")));
            // An empty place was taken back.
            let parts = lines.filter_map(|line| line.split_once(' '));
            parts.filter_map(|(share, prefix)| Some((prefix.into(), share.parse().ok()?))).collect()
        };
        let sampled = told("sampled")?.parse().ok()?;
        Some(CoreLoad { sampled, subtrees: list(""), deeper: list("deeper/") })
    }

    /// Takes whole packets from the front of `bytes`; how many bytes they were, or what is wrong.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let (mut used, version) = (0, Version::V5);
        let wrong = |error: codec::DecodeError| format!("does not speak MQTT: {}", error.what);
        while let Some(frame) = codec::frame(&bytes[used..], 1 << 20).map_err(wrong)? {
            match codec::decode(&frame, version).map_err(wrong)? {
                Packet::Connack(connack) if connack.reason.is_error() => {
                    return Err(format!("refuses: {}", connack.reason));
                }
                Packet::Suback(suback) if suback.reasons().any(|reason| reason.is_error()) => {
                    return Err("does not let its $SYS be read".into());
                }
                Packet::Publish(publish) => {
                    let text = String::from_utf8_lossy(publish.payload);
                    self.0.insert(publish.topic.to_owned(), text.into_owned());
                }
                _ => {}
            }
            used += frame.len;
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_heard_core_by_core() {
        let mut told = Told::default();
        for (topic, text) in [
            ("$SYS/broker/cores/1/owned/sampled", "20"),
            ("$SYS/broker/cores/1/owned/sampled", "40"),
            ("$SYS/broker/cores/1/owned/1", "0.7500 plant/line 7"),
            ("$SYS/broker/cores/1/owned/2", ""),
            ("$SYS/broker/cores/1/owned/deeper/1", "0.5000 plant/line 7/x"),
            (CORES, "2"),
        ] {
            told.0.insert(topic.into(), text.into());
            assert_eq!(told.loads(), None);
        }
        told.0.insert("$SYS/broker/cores/0/owned/sampled".into(), "0".into());
        let expected = CoreLoad {
            sampled: 40,
            subtrees: vec![("plant/line 7".into(), 0.75)],
            deeper: vec![("plant/line 7/x".into(), 0.5)],
        };
        assert_eq!(told.loads(), Some(vec![CoreLoad::default(), expected]));
    }
}
