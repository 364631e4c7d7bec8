//! How eagerly a core works: profiles, and keys that follow them unless they are set.

use super::choice::Profile;
use super::key::Key;
use super::read::{Given, Scan};
use super::setting::{Setting, filed, wrong_type};
use super::table::RuntimeConfig;

/// Microseconds of a key, or what the profile says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Micros {
    /// As the profile has it.
    Profile,
    /// This many, whatever the profile.
    Given(u32),
}

impl Setting for Micros {
    fn kind() -> String {
        "`\"profile\"` or integer".into()
    }

    fn read(given: &Given<'_>, key: &Key, scan: &mut Scan) -> Option<Self> {
        match given.value.as_str() {
            Some("profile") => Some(Micros::Profile),
            Some(_) => {
                let wrong = wrong_type(given.value, "a number of µs", "\"profile\" or 100");
                filed(Err(wrong), given, scan)
            }
            None => u32::read(given, key, scan).map(Micros::Given),
        }
    }

    fn show(&self) -> String {
        match self {
            Micros::Profile => "\"profile\"".into(),
            Micros::Given(number) => number.to_string(),
        }
    }
}

/// What a profile stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// How long a busy core lets small input gather before its next turn, µs.
    pub gather_us: u32,
    /// Small receives per millisecond from which it does, if it does at all.
    pub crumbs: u32,
    /// How long an idle core looks for work before it sleeps, µs.
    pub spin_us: u32,
}

impl Profile {
    /// Its values; the reasons and what was measured stand in docs/PERFORMANCE.md.
    fn pace(self) -> Pace {
        match self {
            Profile::Throughput => Pace { gather_us: 2000, crumbs: 20, spin_us: 0 },
            Profile::Balanced => Pace { gather_us: 100, crumbs: 40, spin_us: 0 },
            Profile::Latency => Pace { gather_us: 0, crumbs: 40, spin_us: 200 },
            Profile::Power => Pace { gather_us: 2000, crumbs: 1, spin_us: 0 },
        }
    }
}

impl RuntimeConfig {
    /// The pace of each core: its profile, and what was set beside it.
    pub fn pace(&self) -> Pace {
        let given = |micros, usual| match micros {
            Micros::Profile => usual,
            Micros::Given(number) => number,
        };
        let usual = self.profile.pace();
        Pace {
            gather_us: given(self.gather_us, usual.gather_us),
            spin_us: given(self.spin_us, usual.spin_us),
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Choice, parse};

    #[test]
    fn a_key_that_is_set_outweighs_the_profile() {
        let pace = |text: &str| parse(text).expect("valid").runtime.pace();
        let usual = pace("");
        assert_eq!((usual.gather_us, usual.spin_us), (100, 0));
        let quick = pace("runtime.profile = \"latency\"\nruntime.spin_us = 7");
        assert_eq!((quick.gather_us, quick.spin_us), (0, 7));
        assert_eq!(pace("runtime.spin_us = \"profile\""), usual);
    }

    #[test]
    fn every_profile_is_a_pace_of_its_own() {
        for (at, (_, one)) in Profile::WORDS.iter().enumerate() {
            for (_, other) in &Profile::WORDS[at + 1..] {
                assert_ne!(one.pace(), other.pace());
            }
        }
    }
}
