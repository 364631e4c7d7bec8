//! How a core spends its time: working, looking for work, or asleep; and how long its turns are.
//!
//! No clock is asked here: the reactor says what time it is when it knows.

use crate::base::Time;

/// What a core does until the next mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// A turn.
    Work,
    /// Looking for work, or letting input gather.
    Poll,
    /// Waiting to be woken.
    Sleep,
}

/// The time of one core since its start. Lives on the core.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    marked: Time,
    doing: Doing,
    spent_us: [u64; 3],
    lag_us_max: u64,
    turn_us: u64,
}

impl Usage {
    /// A core that starts working at `now`.
    pub fn new(now: Time) -> Usage {
        Usage { marked: now, doing: Doing::Work, spent_us: [0; 3], lag_us_max: 0, turn_us: 0 }
    }

    /// At `now` the core ends what it did and begins to do `next`.
    #[inline]
    pub fn mark(&mut self, now: Time, next: Doing) {
        let spent = now.0.saturating_sub(self.marked.0);
        self.spent_us[self.doing as usize] += spent;
        if self.doing == Doing::Work {
            self.lag_us_max = self.lag_us_max.max(spent);
            self.turn_us += spent;
        }
        (self.marked, self.doing) = (now, next);
    }

    /// What has been done since the last mark turns out to be this.
    #[inline]
    pub fn was(&mut self, doing: Doing) {
        self.doing = doing;
    }

    /// Microseconds of [`Doing::Work`], [`Doing::Poll`] and [`Doing::Sleep`] up to the last mark.
    pub fn spent_us(&self) -> [u64; 3] {
        self.spent_us
    }

    /// Microseconds of work since the last call, up to the last mark.
    #[inline]
    pub fn take_turn_us(&mut self) -> u64 {
        std::mem::take(&mut self.turn_us)
    }

    /// Microseconds of the longest stretch of work since the last call.
    pub fn take_lag_us_max(&mut self) -> u64 {
        std::mem::take(&mut self.lag_us_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_microsecond_is_spent_once() {
        let mut usage = Usage::new(Time(100));
        usage.mark(Time(150), Doing::Work);
        usage.mark(Time(250), Doing::Sleep);
        usage.mark(Time(1250), Doing::Work);
        usage.was(Doing::Poll);
        usage.mark(Time(1257), Doing::Work);
        usage.mark(Time(1260), Doing::Work);
        assert_eq!(usage.spent_us(), [153, 7, 1000]);
        assert_eq!(usage.take_lag_us_max(), 100);
        assert_eq!(usage.take_lag_us_max(), 0);
        assert_eq!((usage.take_turn_us(), usage.take_turn_us()), (153, 0));
    }
}
