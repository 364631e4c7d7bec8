//! Shards without sockets, driven in one thread, and what their clients do.

use corelane::base::{PacketId, Time};
use corelane::codec::{ConnectOut, PublishOut, QoS, SubscribeOptions, SubscribeOut, Version};
use corelane::mesh::{MeshSettings, build};
use corelane::shard::{Command, ConnectionKey, Placement, Settings, Shard};

/// A connection and the shard that it is on.
pub type Client = (usize, ConnectionKey);

/// Shards without sockets.
pub struct Host {
    /// The shards, in order.
    pub shards: Vec<Shard>,
    now: Time,
    placement: Placement,
    clients: usize,
}

impl Host {
    /// The shards of `placement`, with default settings but for what `change` does.
    pub fn new(placement: Placement, change: impl Fn(&mut Settings)) -> Host {
        let ends = build(placement.shards(), MeshSettings::default()).into_iter();
        let shards = ends.map(|end| {
            let mut settings = Settings::new(placement.clone());
            change(&mut settings);
            Shard::new(settings, end, Time::default())
        });
        Host { shards: shards.collect(), now: Time::default(), placement, clients: 0 }
    }

    /// Gives a shard what its clients sent, lets it have its turn and takes its output. True: it
    /// has more to do.
    pub fn step(
        &mut self,
        at: usize,
        input: &[(ConnectionKey, Vec<u8>)],
        mut output: impl FnMut(Client, &[u8]),
    ) -> bool {
        let shard = &mut self.shards[at];
        shard.begin(self.now);
        for (key, bytes) in input {
            shard.receive(*key, bytes);
        }
        let busy = shard.tick();
        while let Some(order) = shard.next_command() {
            debug_assert!(!matches!(order, Command::HandOver(_)), "clients connect at home");
        }
        while let Some(key) = shard.next_output() {
            while let Some(out) = shard.take_output(key) {
                output((at, key), &out);
                shard.sent(key, out);
            }
        }
        busy || shard.waiting_count() > 0
    }

    /// The time of the next turn begins.
    pub fn advance(&mut self) {
        self.now = Time(self.now.0 + 10);
    }

    /// One turn of every shard; each client's output goes to `output`. True: some have more to do.
    pub fn turn(&mut self, mut output: impl FnMut(Client, &[u8])) -> bool {
        self.advance();
        let mut busy = false;
        for at in 0..self.shards.len() {
            busy |= self.step(at, &[], &mut output);
        }
        busy
    }

    /// Turns until nobody has anything to do.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 8 {
            quiet = if self.turn(|_, _| {}) { 0 } else { quiet + 1 };
        }
    }

    /// A new client: with the given home, or with the one that the next identifier has.
    pub fn connect(&mut self, home: Option<usize>) -> Client {
        let (client_id, home) = loop {
            self.clients += 1;
            let client_id = format!("client-{}", self.clients);
            let at = self.placement.home(&client_id).index();
            if home.is_none_or(|home| home == at) {
                break (client_id, at);
            }
        };
        let shard = &mut self.shards[home];
        shard.begin(self.now);
        let key = shard.open(0, None).expect("room in the lobby");
        let mut packet = Vec::new();
        ConnectOut { version: Version::V311, client_id: &client_id, ..ConnectOut::default() }
            .encode(&mut packet);
        shard.receive(key, &packet);
        (home, key)
    }

    /// Sends a SUBSCRIBE of `client`.
    pub fn subscribe(&mut self, client: Client, filter: &str, qos: QoS) {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let packet_id = PacketId::new(1).expect("not zero");
        let mut packet = Vec::new();
        SubscribeOut { packet_id, subscription_id: None, filters: &[(filter, options)] }
            .encode(Version::V311, &mut packet);
        self.shards[client.0].receive(client.1, &packet);
    }
}

/// Appends a PUBLISH of 64 bytes; `id` is its packet identifier, where it has one.
pub fn publish(topic: &str, qos: QoS, id: usize, out: &mut Vec<u8>) {
    let packet_id = PacketId::new(id as u16).filter(|_| qos != QoS::AtMostOnce);
    let payload = &[b'x'; 64];
    PublishOut { topic, qos, packet_id, payload, ..PublishOut::default() }
        .encode(Version::V311, out);
}
