//! What was published, and what became of it as far as its publisher knows.

use corelane::base::Time;
use corelane::codec::QoS;
use std::collections::{BTreeMap, BTreeSet};

/// Serial number of a publication; unique in a run, ascending for each publisher.
pub type Serial = u32;

/// What a will may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WillFate {
    /// Its connection lives, or it can't be told whether it is published.
    Open,
    /// It must be published.
    Due,
    /// Its connection ended with DISCONNECT: it must never be seen.
    Forbidden,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Index of the client that sent it.
    pub publisher: usize,
    /// The publisher's session at that time.
    pub incarnation: u32,
    /// Topic name.
    pub topic: &'static str,
    /// QoS of the PUBLISH.
    pub qos: QoS,
    /// RETAIN flag of the PUBLISH.
    pub retain: bool,
    /// Step at which it was first sent.
    pub first_sent: u64,
    /// Step at which it was last sent.
    pub last_sent: u64,
    /// How often it was sent.
    pub copies: u32,
    /// Step at which the broker's acknowledgement arrived.
    pub accepted: Option<u64>,
    /// For wills.
    pub will: Option<WillFate>,
    /// A message without payload, which clears a retained one.
    pub empty: bool,
    /// Seconds of message expiry, and when the PUBLISH was first sent.
    pub expiry: Option<(u32, Time)>,
}

/// All messages of a run and its clock of events.
#[derive(Default)]
pub struct Ledger {
    /// By serial.
    pub publications: Vec<Publication>,
    /// How many members of a share group got a message.
    pub group_arrivals: BTreeMap<(usize, Serial), u32>,
    /// Wills that somebody got.
    pub wills_seen: BTreeSet<Serial>,
    /// No connection was closed for a reason of the broker's own.
    pub is_calm: bool,
    step: u64,
}

impl Ledger {
    /// The next step.
    pub fn step(&mut self) -> u64 {
        self.step += 1;
        self.step
    }

    /// Enters a message that is being sent now.
    pub fn enter(
        &mut self,
        (publisher, incarnation): (usize, u32),
        topic: &'static str,
        (qos, retain, empty): (QoS, bool, bool),
        will: Option<WillFate>,
    ) -> Serial {
        let first_sent = self.step();
        self.publications.push(Publication {
            publisher,
            incarnation,
            topic,
            qos,
            retain,
            first_sent,
            last_sent: first_sent,
            copies: 1,
            accepted: None,
            will,
            empty,
            expiry: None,
        });
        self.publications.len() as Serial - 1
    }

    /// The message that was entered last expires.
    pub fn expires(&mut self, seconds: Option<u32>, now: Time) {
        if let Some(publication) = self.publications.last_mut() {
            publication.expiry = seconds.map(|seconds| (seconds, now));
        }
    }

    /// A message is sent again.
    pub fn sent_again(&mut self, serial: Serial) {
        let step = self.step();
        let publication = &mut self.publications[serial as usize];
        (publication.last_sent, publication.copies) = (step, publication.copies + 1);
    }

    /// The broker has acknowledged a message.
    pub fn accepted(&mut self, serial: Serial) {
        let step = self.step();
        self.publications[serial as usize].accepted.get_or_insert(step);
    }

    /// A message by its serial.
    pub fn get(&self, serial: Serial) -> &Publication {
        &self.publications[serial as usize]
    }
}

/// The payload of message `serial`: who and which, then filling.
pub fn payload(publisher: usize, serial: Serial, len: usize) -> Vec<u8> {
    let mut bytes = format!("{publisher}:{serial}:").into_bytes();
    bytes.resize(len.max(bytes.len()), b'.');
    bytes
}

/// Reads a payload back.
pub fn serial_of(payload: &[u8]) -> Option<Serial> {
    let text = std::str::from_utf8(payload).ok()?;
    text.split(':').nth(1)?.parse().ok()
}
