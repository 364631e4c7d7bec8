//! What a seed decides once: how many shards and clients there are, how large everything is, and
//! how rough the network and the clients are.

use corelane::base::{Prng, ShardId};
use corelane::config::{LateOverflow, Overflow};
use corelane::mesh::MeshSettings;
use corelane::shard::placement::{Placement, Route, Rule};
use corelane::shard::{Settings, TickBudget};

/// Topics that clients publish to, three long enough for an alias; the last ones only carry wills.
pub const TOPICS: &[&str] = &[
    "a",
    "a/b",
    "a/b/charlie",
    "a/charlie",
    "b",
    "b/c/d",
    "d/e",
    "d/e/foxtrot",
    "/x",
    "w/1",
    "w/2",
];

/// How many of [`TOPICS`] are for ordinary messages.
pub const PLAIN_TOPICS: usize = 9;

/// Filters that clients subscribe to.
pub const FILTERS: &[&str] = &[
    "#", "a/#", "a/+", "a/b", "+/b", "a/b/#", "+/+/#", "b/#", "+", "d/e", "d/#", "+/c/+", "/x",
    "b/c/d", "w/#", "w/1", "+/1",
];

/// Share groups: name and filter.
pub const GROUPS: &[(&str, &str)] = &[("g", "a/#"), ("g", "b/c/d"), ("h", "d/+"), ("k", "+/b/#")];

/// The choices of one seed.
pub struct Plan {
    /// Shards.
    pub shards: usize,
    /// Model clients.
    pub clients: usize,
    /// Rounds before the network heals.
    pub rounds: usize,
    /// Nothing is allowed to be dropped for lack of room.
    pub lossless: bool,
    /// Nobody unsubscribes, starts clean or lets a session expire.
    pub stable: bool,
    /// Connections break once in so many client turns; zero: never.
    pub cut_one_in: usize,
    /// A core is skipped once in so many chances.
    pub skip_one_in: usize,
    /// Clients stop reading now and then.
    pub slow_readers: bool,
    /// Bytes that the network holds toward a client.
    pub pipe_bytes: usize,
    /// Largest piece in which bytes arrive.
    pub piece_bytes: usize,
    /// Sizes of the rings.
    pub mesh: MeshSettings,
    /// Settings of the shards.
    pub settings: Settings,
}

fn pick<T: Copy>(random: &mut Prng, choices: &[T]) -> T {
    choices[random.below(choices.len())]
}

impl Plan {
    /// Whether a connection may be closed because its client is slow.
    pub fn closes_slow_clients(&self) -> bool {
        let session = &self.settings.session;
        session.overflow == Overflow::Disconnect
            || session.late_overflow == LateOverflow::Disconnect
    }

    /// Draws a plan.
    pub fn draw(random: &mut Prng) -> Plan {
        let shards = 1 + random.below(5);
        let lossless = !random.one_in(3);
        let block_bytes = pick(random, &[256, 512, 1024, 4096]);
        let mesh = MeshSettings {
            block_bytes,
            ring_blocks: pick(random, &[1, 2, 4, 8]),
            pool_bytes: block_bytes * 2 * pick(random, &[2, 3, 8, 64]),
            reply_slots: pick(random, &[1, 2, 8, 64]),
            attached_bytes: pick(random, &[1, 10_000, 1_000_000]),
            crowd_deliveries: pick(random, &[1, 4, 50, 16_384]),
        };
        Plan {
            shards,
            clients: 2 + random.below(11),
            rounds: 60 + random.below(140),
            lossless,
            stable: random.one_in(3),
            cut_one_in: pick(random, &[0, 20, 60, 200]),
            skip_one_in: pick(random, &[2, 3, 10]),
            slow_readers: random.one_in(2),
            pipe_bytes: pick(random, &[64, 500, 4000, 100_000]),
            piece_bytes: pick(random, &[1, 7, 100, 5000]),
            mesh,
            settings: settings(random, shards, lossless),
        }
    }
}

fn settings(random: &mut Prng, shards: usize, lossless: bool) -> Settings {
    let mut settings = Settings::new(placement(random, shards));
    settings.seed = random.next_u64();
    settings.tick = TickBudget {
        targets: pick(random, &[1, 2, 3, 5, 50, 4096]),
        turn_bytes: pick(random, &[1, 200, 1000, 64 * 1024]),
        crowd: pick(random, &[1, 2, 4, 512]),
    };
    settings.doors.connect_deadlines_us = vec![pick(random, &[30_000_000, 100_000_000])];
    let session = &mut settings.session;
    session.receive_maximum = pick(random, &[1, 2, 5, 20, 1024]);
    session.max_inflight = pick(random, &[1, 2, 5, 20, 1024]);
    session.v3_expiry_s = 100_000;
    session.outbox_messages = if lossless { 1 << 20 } else { pick(random, &[1, 2, 5, 20]) };
    session.outbox_bytes = if lossless { 1 << 30 } else { pick(random, &[1024, 1 << 20]) };
    session.late_messages = pick(random, &[0, 1, 3, 1024]);
    session.overflow = if lossless {
        Overflow::DropOldest
    } else {
        pick(random, &[Overflow::DropOldest, Overflow::DropNewest, Overflow::Disconnect])
    };
    session.late_overflow = pick(
        random,
        &[LateOverflow::DropNewest, LateOverflow::DropOldest, LateOverflow::Disconnect],
    );
    let limits = &mut settings.limits;
    limits.out_buffer_bytes = pick(random, &[16, 100, 1000, 10_000, 2_000_000]);
    limits.retained_messages = if lossless { 1 << 20 } else { pick(random, &[0, 1, 3, 1 << 20]) };
    limits.retained_bytes = if lossless { 1 << 30 } else { pick(random, &[100, 4000, 1 << 30]) };
    limits.topic_alias_maximum = pick(random, &[0, 2, 32]);
    limits.topic_alias_maximum_out = pick(random, &[0, 1, 2, 16]);
    limits.match_cache_bytes = pick(random, &[0, 300, 1 << 20]);
    limits.wills_per_tick = pick(random, &[1, 2, 256]);
    limits.expiries_per_tick = pick(random, &[1, 3, 1024]);
    settings
}

fn placement(random: &mut Prng, shards: usize) -> Placement {
    let seed = [random.next_u64(), random.next_u64()];
    let placement = Placement::new(shards, seed, 1 + random.below(3));
    let mut depths = Vec::new();
    let mut pins = Vec::new();
    let mut routes = Vec::new();
    for prefix in ["a", "a/b", "b", "b/c", "d", "w"] {
        if random.one_in(6) {
            depths.push(Rule::new(prefix, 1 + random.below(4)));
        }
        if random.one_in(6) {
            pins.push(Rule::new(prefix, ShardId(random.below(shards) as u8)));
        }
        if random.one_in(6) {
            let route = if random.one_in(3) { Route::Owner } else { Route::Publisher };
            routes.push(Rule::new(prefix, route));
        }
    }
    placement.with_rules(depths, pins, routes)
}
