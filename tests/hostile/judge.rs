//! What each attack costs, as a shard by itself says: the same bytes, nobody else, no sockets. The
//! broker's counters have to be the sum, to the last one.

use crate::attack::{Attack, Then};
use crate::broker::connect;
use corelane::base::Time;
use corelane::codec::{ReasonCode, Version};
use corelane::config::Config;
use corelane::mesh::{self, MeshSettings};
use corelane::shard::{Command, ConnectionKey, Settings, Shard};
use std::collections::BTreeMap;

/// Counters by name.
pub type Verdict = BTreeMap<String, u64>;

pub struct Judge {
    shard: Shard,
}

const NOW: Time = Time(1_000_000);
/// Rounds without output after which all is said.
const QUIET: usize = 3;

impl Judge {
    pub fn new() -> Judge {
        let settings = Settings::configured(&Config::default(), 1, [1, 2]);
        let end = mesh::build(1, MeshSettings::default()).remove(0);
        Judge { shard: Shard::new(settings, end, NOW) }
    }

    /// What `attack` makes the broker count.
    pub fn verdict(&mut self, attack: &Attack) -> Verdict {
        let before = self.faults();
        self.shard.begin(NOW);
        let key = self.shard.open(0, None).expect("room in the lobby");
        if attack.connects {
            self.feed(key, &connect(Version::V5, &attack.what));
        }
        self.feed(key, &attack.bytes);
        let after = self.faults();
        let mut found: Verdict =
            after.into_iter().filter(|(name, count)| before[name] != *count).collect();
        found.iter_mut().for_each(|(name, count)| *count -= before[name]);
        if let Then::Closed(reason) = attack.then {
            let expected = BTreeMap::from([(fault(reason), 1), ("protocol_errors".to_owned(), 1)]);
            assert_eq!(found, expected, "{}", attack.what);
        }
        assert!(found.is_empty() || attack.then != Then::Drip, "{}", attack.what);
        let waits = matches!(attack.then, Then::Stay | Then::Drip);
        if found.is_empty() && !attack.connects && waits {
            found.insert("connect_timeouts".to_owned(), 1);
        }
        self.shard.end_of_input(key);
        self.settle();
        found
    }

    fn faults(&self) -> Verdict {
        let all = self.shard.counters().entries();
        all.filter(|(name, _)| name.starts_with("protocol_errors")).collect()
    }

    fn feed(&mut self, key: ConnectionKey, bytes: &[u8]) {
        self.shard.receive(key, bytes);
        self.settle();
    }

    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET {
            self.shard.begin(NOW);
            let mut moved = self.shard.tick();
            while let Some(key) = self.shard.next_output() {
                moved = true;
                if let Some(out) = self.shard.take_output(key) {
                    self.shard.sent(key, out);
                }
            }
            while let Some(command) = self.shard.next_command() {
                moved = true;
                if let Command::Close(key) = command {
                    self.shard.released(key);
                }
            }
            quiet = if moved { 0 } else { quiet + 1 };
        }
    }
}

/// The counter of protocol errors with this reason.
fn fault(reason: ReasonCode) -> String {
    let name = reason.name().expect("a known code").to_lowercase().replace(' ', "_");
    format!("protocol_errors_{name}")
}
