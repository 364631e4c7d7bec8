//! A publisher's packet identifiers: what waits for which acknowledgement.
//!
//! Invariant worth naming: an acknowledgement that answers nothing is a fault of the broker, not
//! ignored.

use crate::truth::Stamp;
use corelane::base::PacketId;
use corelane::codec::PacketType;
use std::collections::VecDeque;

/// How far the hand-shake of one identifier has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Free,
    Puback,
    Pubrec,
    Pubcomp,
}

/// A publication under way.
#[derive(Clone, Copy, Debug)]
pub struct Underway {
    /// What was sent.
    pub stamp: Stamp,
    /// Payload bytes.
    pub size: usize,
}

/// What an acknowledgement asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledged {
    /// The publication is done; it was meant to be sent at this time.
    Done(u64),
    /// A PUBREL is due.
    Release,
}

/// What is to be sent again on a new connection.
pub enum Again {
    /// The publication.
    Publish(PacketId, Underway),
    /// Its release.
    Release(PacketId),
}

/// The identifiers of one publisher.
pub struct Inflight {
    free: VecDeque<u16>,
    steps: Vec<(Step, Underway)>,
}

impl Inflight {
    /// At most `size` publications at once; 1 to 65,535, or 0 for none.
    pub fn new(size: usize) -> Inflight {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        let nothing = Stamp { flow: 0, sequence: 0, intended_ns: 0 };
        let free = (Step::Free, Underway { stamp: nothing, size: 0 });
        Inflight { free: (1..=size).collect(), steps: vec![free; usize::from(size)] }
    }

    /// Holds the broker's receive maximum from now on.
    pub fn shrink(&mut self, most: u16) {
        self.free.retain(|id| *id <= most);
        let most = usize::from(most);
        if self.steps.len() > most && self.steps[most..].iter().all(|step| step.0 == Step::Free) {
            self.steps.truncate(most);
        }
    }

    /// How many more may be sent.
    #[inline]
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// How many are under way.
    #[inline]
    pub fn underway(&self) -> usize {
        self.steps.len() - self.free.len()
    }

    /// An identifier for a publication.
    ///
    /// # Panics
    /// When there is no room.
    #[inline]
    pub fn take(&mut self, qos: u8, underway: Underway) -> PacketId {
        let id = self.free.pop_front().expect("the caller stays within the room");
        let step = if qos == 1 { Step::Puback } else { Step::Pubrec };
        self.steps[usize::from(id) - 1] = (step, underway);
        PacketId::new(id).expect("identifiers start at 1")
    }

    /// Moves an identifier on.
    ///
    /// # Errors
    /// What the broker did wrong.
    #[inline]
    pub fn acknowledge(&mut self, kind: PacketType, id: u16) -> Result<Acknowledged, String> {
        let Some((step, underway)) = self.steps.get_mut(usize::from(id).wrapping_sub(1)) else {
            return Err(format!("{kind:?} of identifier {id}, which was never used"));
        };
        match (*step, kind) {
            (Step::Puback, PacketType::Puback) | (Step::Pubcomp, PacketType::Pubcomp) => {
                *step = Step::Free;
                self.free.push_back(id);
                Ok(Acknowledged::Done(underway.stamp.intended_ns))
            }
            // On a resumed session PUBREC may come again.
            (Step::Pubrec | Step::Pubcomp, PacketType::Pubrec) => {
                *step = Step::Pubcomp;
                Ok(Acknowledged::Release)
            }
            _ => Err(format!("{kind:?} out of turn, identifier {id}")),
        }
    }

    /// What a new connection must send again, in the order of the identifiers' sequence numbers.
    /// Without a session at the broker everything starts anew.
    pub fn again(&mut self, resumed: bool) -> Vec<Again> {
        let mut again = Vec::new();
        for (at, (step, underway)) in self.steps.iter_mut().enumerate() {
            let Some(id) = PacketId::new(at as u16 + 1) else { continue };
            if *step == Step::Pubcomp && !resumed {
                *step = Step::Pubrec;
            }
            let sequence = underway.stamp.sequence;
            match step {
                Step::Free => {}
                Step::Puback | Step::Pubrec => {
                    again.push((sequence, Again::Publish(id, *underway)));
                }
                Step::Pubcomp => again.push((sequence, Again::Release(id))),
            }
        }
        again.sort_by_key(|(sequence, _)| *sequence);
        again.into_iter().map(|(_, again)| again).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn underway(sequence: u64) -> Underway {
        let stamp = Stamp { flow: 0, sequence, intended_ns: 7 };
        Underway { stamp, size: 64 }
    }

    #[test]
    fn qos_two_takes_both_steps() {
        let mut inflight = Inflight::new(2);
        let id = inflight.take(2, underway(0)).get();
        assert!(inflight.acknowledge(PacketType::Pubcomp, id).is_err());
        assert_eq!(inflight.acknowledge(PacketType::Pubrec, id), Ok(Acknowledged::Release));
        assert_eq!((inflight.room(), inflight.underway()), (1, 1));
        assert_eq!(inflight.acknowledge(PacketType::Pubcomp, id), Ok(Acknowledged::Done(7)));
        assert!(inflight.acknowledge(PacketType::Puback, id).is_err());
        assert!(inflight.acknowledge(PacketType::Puback, 0).is_err());
        assert_eq!(inflight.room(), 2);
    }

    #[test]
    fn what_is_unacknowledged_comes_again_in_order() {
        let mut inflight = Inflight::new(4);
        let first = inflight.take(1, underway(0)).get();
        inflight.take(1, underway(1));
        inflight.take(2, underway(2));
        inflight.take(2, underway(3));
        assert!(inflight.acknowledge(PacketType::Puback, first).is_ok());
        assert!(inflight.acknowledge(PacketType::Pubrec, 4).is_ok());
        inflight.take(1, underway(4));
        let told = |again: Vec<Again>| -> Vec<u64> {
            let number = |again| match again {
                Again::Publish(_, underway) => underway.stamp.sequence,
                Again::Release(_) => 100,
            };
            again.into_iter().map(number).collect()
        };
        assert_eq!(told(inflight.again(true)), [1, 2, 100, 4]);
        assert_eq!(told(inflight.again(false)), [1, 2, 3, 4]);
    }
}
