//! Counting what should not happen too often, per address or client, and who is kept out for it.
//!
//! Invariants worth naming:
//! * what is kept is bounded: when the table is full and nothing in it is over, newcomers are not
//!   counted, and that is said ([`Struck::Uncounted`]).

use crate::base::Time;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// Most keys that are counted at a time on one core.
const MOST_KEYS: usize = 16_384;

/// How often is too often. Pure value.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tolerance {
    /// This many within the window are one too many; 0: there is no limit.
    pub most: u32,
    /// Length of the window in seconds.
    pub window_s: u32,
    /// How long it has consequences, in seconds.
    pub ban_s: u32,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    count: u32,
    since: Time,
    /// Until when the key is kept out; the past: it is not.
    banned_until: Time,
}

/// What one more makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Struck {
    /// It is tolerated.
    Tolerated,
    /// It was too often: the key is kept out from now on.
    TooOften,
    /// There was no room to count it.
    Uncounted,
}

/// Counts by key. Lives on one core.
#[derive(Debug)]
pub struct Strikes<K> {
    table: HashMap<K, Record, RandomState>,
}

impl<K> Default for Strikes<K> {
    fn default() -> Strikes<K> {
        Strikes { table: HashMap::default() }
    }
}

impl<K: Hash + Eq> Strikes<K> {
    /// Counts one more.
    pub fn strike(&mut self, key: K, tolerance: Tolerance, now: Time) -> Struck {
        if tolerance.most == 0 {
            return Struck::Tolerated;
        }
        let is_over = |record: &Record| {
            let window_end = record.since.plus_secs(u64::from(tolerance.window_s));
            record.banned_until <= now && window_end <= now
        };
        if self.table.len() >= MOST_KEYS && !self.table.contains_key(&key) {
            self.table.retain(|_, record| !is_over(record));
            if self.table.len() >= MOST_KEYS {
                return Struck::Uncounted;
            }
        }
        let fresh = Record { count: 0, since: now, banned_until: Time::default() };
        let record = self.table.entry(key).or_insert(fresh);
        if is_over(record) {
            *record = fresh;
        }
        record.count += 1;
        if record.count < tolerance.most || record.banned_until > now {
            return Struck::Tolerated;
        }
        record.banned_until = now.plus_secs(u64::from(tolerance.ban_s));
        record.count = 0;
        Struck::TooOften
    }

    /// Forgets everything, bans included.
    pub fn clear(&mut self) {
        self.table.clear();
    }

    /// Whether the key is kept out.
    #[inline]
    pub fn is_banned<Q>(&self, key: &Q, now: Time) -> bool
    where
        Q: Hash + hashbrown::Equivalent<K> + ?Sized,
    {
        !self.table.is_empty() && self.table.get(key).is_some_and(|r| r.banned_until > now)
    }
}

/// Whom an address stands for: itself, or the /64 that one IPv6 customer mostly has.
pub fn party(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRICE: Tolerance = Tolerance { most: 3, window_s: 10, ban_s: 60 };

    #[test]
    fn too_often_within_the_window_keeps_out_for_a_while() {
        let mut strikes = Strikes::default();
        let at = Time::from_secs;
        assert_eq!(strikes.strike("a", THRICE, at(100)), Struck::Tolerated);
        assert_eq!(strikes.strike("a", THRICE, at(101)), Struck::Tolerated);
        assert!(!strikes.is_banned("a", at(101)));
        assert_eq!(strikes.strike("a", THRICE, at(102)), Struck::TooOften);
        assert!(strikes.is_banned("a", at(102)) && strikes.is_banned("a", at(161)));
        assert!(!strikes.is_banned("a", at(162)) && !strikes.is_banned("b", at(102)));
        // What is spread over windows is no offence.
        for second in [200, 205, 211, 216, 222] {
            assert_eq!(strikes.strike("c", THRICE, at(second)), Struck::Tolerated, "{second}");
        }
        let off = Tolerance { most: 0, ..THRICE };
        assert!((0..100).all(|_| strikes.strike("d", off, at(300)) == Struck::Tolerated));
        strikes.clear();
        assert!(!strikes.is_banned("a", at(103)));
    }

    #[test]
    fn the_table_is_bounded_and_makes_room_of_what_is_over() {
        let mut strikes = Strikes::default();
        for key in 0..MOST_KEYS + 5 {
            let struck = strikes.strike(key, THRICE, Time::from_secs(100));
            assert_eq!(struck == Struck::Uncounted, key >= MOST_KEYS);
        }
        let struck = strikes.strike(MOST_KEYS + 9, THRICE, Time::from_secs(111));
        assert_eq!((struck, strikes.table.len()), (Struck::Tolerated, 1));
    }

    #[test]
    fn neighbours_of_one_customer_are_one_party() {
        let party = |text: &str| super::party(text.parse().expect("an address"));
        assert_eq!(party("2001:db8:1:2:3::1"), party("2001:db8:1:2:ffff::9"));
        assert_ne!(party("2001:db8:1:2::1"), party("2001:db8:1:3::1"));
        assert_ne!(party("192.0.2.1"), party("192.0.2.2"));
        assert_eq!(party("::ffff:192.0.2.1"), party("192.0.2.1"));
    }
}
