//! Topic aliases that a client has set on one connection (MQTT 5.0 section 3.3.2.3.4).
//!
//! Invariant worth naming: memory grows with the highest alias used, never with the maximum
//! offered.

/// Inbound topic aliases of one connection. Lives on the connection's core.
#[derive(Debug, Default)]
pub struct AliasTable {
    /// The topic of alias `n` at `n - 1`; an empty text means unset, as no topic is empty.
    topics: Vec<String>,
    maximum: u16,
    /// Capacities of the texts.
    texts: usize,
}

impl AliasTable {
    /// An empty table for aliases `1..=maximum`; zero refuses all. Allocates nothing.
    pub fn new(maximum: u16) -> AliasTable {
        AliasTable { topics: Vec::new(), maximum, texts: 0 }
    }

    /// Lets `alias` stand for `topic` from now on; false, and nothing changed, when the alias is
    /// zero or above the maximum [MQTT-3.3.2-8], [MQTT-3.3.2-9].
    pub fn set(&mut self, alias: u16, topic: &str) -> bool {
        if alias == 0 || alias > self.maximum {
            return false;
        }
        let position = usize::from(alias) - 1;
        if position >= self.topics.len() {
            self.topics.resize_with(position + 1, String::new);
        }
        let slot = &mut self.topics[position];
        if slot != topic {
            let before = slot.capacity();
            slot.clear();
            slot.push_str(topic);
            self.texts += slot.capacity() - before;
        }
        true
    }

    /// The topic that `alias` stands for; none when it was never set or is out of range.
    pub fn get(&self, alias: u16) -> Option<&str> {
        let position = usize::from(alias).checked_sub(1)?;
        self.topics.get(position).map(String::as_str).filter(|topic| !topic.is_empty())
    }

    /// Bytes of memory behind the table; they never become fewer.
    pub fn bytes(&self) -> usize {
        self.topics.capacity() * size_of::<String>() + self.texts
    }

    /// The highest alias accepted.
    pub fn maximum(&self) -> u16 {
        self.maximum
    }
}
