//! Plays a vector on a stage: bytes whole, byte by byte, or as many packets in one segment as the
//! script allows.

use crate::notation::{Framed, Pattern, Scope, Version, assemble, take_packet};
use crate::script::{Deed, Step, Vector};
use std::collections::BTreeMap;

/// How bytes reach the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    Whole,
    Split,
    Coalesced,
}

/// What a connection shows next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Packet(Framed),
    Closed,
    Nothing,
}

/// Where vectors are played.
pub trait Stage {
    /// Sends bytes on a connection; opens it at the first.
    fn send(&mut self, who: &str, bytes: &[u8], cut: Cut);
    /// What came next.
    fn next(&mut self, who: &str) -> Seen;
    /// Nothing has come.
    fn silent(&mut self, who: &str) -> bool;
    fn hang_up(&mut self, who: &str);
    /// Seconds go by, and it is known what did not happen in them.
    fn wait(&mut self, seconds: u64);
    /// What is expected next has so many seconds to come.
    fn within(&mut self, seconds: u64);
}

struct Play<'p, S> {
    stage: &'p mut S,
    scope: Scope<'p>,
    cut: Cut,
    captured: BTreeMap<String, [u8; 2]>,
}

/// Plays `vector` once.
pub fn play<S: Stage>(
    stage: &mut S,
    vector: &Vector,
    version: Version,
    cut: Cut,
    tag: &str,
) -> Result<(), String> {
    let scope = Scope { version, tag };
    let mut play = Play { stage, scope, cut, captured: BTreeMap::new() };
    let steps = vector.steps(version);
    let mut at = 0;
    while at < steps.len() {
        let end = if cut == Cut::Coalesced { run_end(&steps, at) } else { at + 1 };
        play.run(&steps[at..end])?;
        at = end;
    }
    let mut names: Vec<&String> = steps.iter().filter_map(|s| name(s)).collect();
    names.sort();
    names.dedup();
    for who in names {
        if !play.stage.silent(who) {
            return Err(format!("at the end {who} has {:?}", play.stage.next(who)));
        }
    }
    Ok(())
}

fn name(step: &Step) -> Option<&String> {
    match step {
        Step::On(who, _) => Some(who),
        Step::Wait(_) | Step::Within(_) => None,
    }
}

/// Where the run of steps ends whose input can go out in one segment: one connection, nothing that
/// needs an earlier answer, and no DISCONNECT, which makes the broker forget its answers.
fn run_end(steps: &[Step], start: usize) -> usize {
    let runs = |step: &Step| match step {
        Step::On(_, Deed::Send(line)) => !line.contains('$') && !line.starts_with("DISCONNECT"),
        Step::On(_, Deed::Expect(_)) => true,
        _ => false,
    };
    let same = |step: &&Step| name(step) == name(&steps[start]) && runs(step);
    let more = steps[start + 1..].iter().take_while(same).count();
    let first = matches!(steps[start], Step::On(_, Deed::Send(_)));
    if first { start + 1 + more } else { start + 1 }
}

impl<S: Stage> Play<'_, S> {
    fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        let (mut input, mut expected) = (Vec::new(), Vec::new());
        let mut speaker = "";
        for step in steps {
            match step {
                Step::On(who, Deed::Send(line)) => {
                    input.extend(assemble(line, &self.scope, &self.captured));
                    speaker = who;
                }
                Step::On(who, Deed::Expect(line)) => {
                    expected.push((line, Pattern::parse(line, &self.scope)));
                    speaker = who;
                }
                Step::On(who, Deed::Silence) if !self.stage.silent(who) => {
                    return Err(format!("{who} got {:?}", self.stage.next(who)));
                }
                Step::On(_, Deed::Silence) => {}
                Step::On(who, Deed::Closed) => match self.stage.next(who) {
                    Seen::Closed => {}
                    other => return Err(format!("{who} not closed: {other:?}")),
                },
                Step::On(who, Deed::Break) => self.stage.hang_up(who),
                Step::Wait(seconds) => self.stage.wait(*seconds),
                Step::Within(seconds) => self.stage.within(*seconds),
            }
        }
        if !input.is_empty() {
            self.stage.send(speaker, &input, self.cut);
        }
        self.answers(speaker, expected)
    }

    /// Answers to several packets at once may come in any order.
    fn answers(&mut self, who: &str, mut expected: Vec<(&String, Pattern)>) -> Result<(), String> {
        while !expected.is_empty() {
            let seen = self.stage.next(who);
            let Seen::Packet(packet) = &seen else {
                return Err(format!("{who}: {seen:?}, expected {}", expected[0].0));
            };
            let fits = |(_, pattern): &(&String, Pattern)| pattern.fits(packet, &mut self.captured);
            let Some(at) = expected.iter().position(fits) else {
                return Err(format!("{who}: {packet:02x?}, expected {}", expected[0].0));
            };
            expected.remove(at);
        }
        Ok(())
    }
}

/// Takes the next packet out of collected bytes.
pub fn from_bytes(bytes: &mut Vec<u8>, closed: bool) -> Seen {
    match take_packet(bytes) {
        Some(packet) => Seen::Packet(packet),
        None if closed => Seen::Closed,
        None => Seen::Nothing,
    }
}
