//! Cores, pipes and clients together, and the course of one run: chaos, healing, judgement, end.

use crate::client::Client;
use crate::ledger::Ledger;
use crate::network::{Pipe, PipeId, Transport};
use crate::plan::Plan;
use crate::{REPORTING, trace};
use corelane::base::{Chunk, Prng, Time};
use corelane::mesh;
use corelane::shard::{Command, ConnectionKey, Measured, Shard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How long a closing connection may go on sending, in microseconds.
const LINGER: u64 = 1_000_000;

/// Rounds in which a healed run must come to rest.
const LONGEST_HEALING: usize = 20_000;

/// Rounds between two looks at the accounts.
const ACCOUNTS_EVERY: usize = 16;

/// Rounds without any movement after which an unfinished run is a stall.
const STALL: usize = 30;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    Nothing,
    Once,
    Stream,
}

struct Socket {
    key: ConnectionKey,
    pipe: PipeId,
    reading: Reading,
    paused: bool,
    ended: bool,
    sending: Option<(Chunk, usize)>,
    closing: Option<Time>,
}

/// One shard and its shell.
pub struct Core {
    /// The broker of this core.
    pub shard: Shard,
    /// Connections that the kernel would hand to `accept`.
    pub arriving: Vec<PipeId>,
    woken: Arc<AtomicBool>,
    asleep: bool,
    sockets: BTreeMap<u64, Socket>,
    released: Vec<ConnectionKey>,
}

/// What a core's turn needs of the world.
pub struct Surroundings<'w> {
    /// All pipes.
    pub pipes: &'w mut Vec<Pipe>,
    /// The run's choices.
    pub random: &'w mut Prng,
    /// The plan of the run.
    pub plan: &'w Plan,
    /// The time.
    pub now: Time,
    /// Nothing delays or breaks any more.
    pub healed: bool,
}

impl Core {
    fn new(shard: Shard) -> Core {
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        shard.bell().set_wake(Arc::new(move || flag.store(true, Ordering::SeqCst)));
        Core {
            shard,
            arriving: Vec::new(),
            woken,
            asleep: false,
            sockets: BTreeMap::new(),
            released: Vec::new(),
        }
    }

    /// Whether the core sleeps without anything to do.
    pub fn is_asleep(&self) -> bool {
        self.asleep && !self.woken.load(Ordering::SeqCst)
    }

    /// The shell was told to stop; whoever tells it wakes it.
    pub fn stop(&mut self) {
        self.shard.drain();
        self.asleep = false;
    }

    /// One turn of the shell's loop; true when anything happened.
    pub fn turn(&mut self, world: &mut Surroundings<'_>) -> bool {
        self.shard.begin(world.now);
        let reaped = self.reap(world) | self.accept(world) | self.close_overdue(world);
        let slept = self.asleep;
        if self.asleep {
            let due = self.shard.next_deadline() <= world.now;
            if !reaped && !due && !self.woken.swap(false, Ordering::SeqCst) {
                return false;
            }
            self.shard.bell().wake_up();
            self.asleep = false;
        }
        for key in std::mem::take(&mut self.released) {
            self.shard.released(key);
        }
        let more = self.shard.tick();
        let commanded = self.carry_out(world);
        let sent = self.flush(world);
        if more || commanded || sent || reaped {
            return true;
        }
        self.asleep = self.shard.bell().fall_asleep();
        slept || !self.asleep
    }

    fn accept(&mut self, world: &mut Surroundings<'_>) -> bool {
        let arriving = std::mem::take(&mut self.arriving);
        for pipe in &arriving {
            match self.shard.open(0, None) {
                Some(key) => {
                    world.pipes[*pipe].accepted = true;
                    self.register(key, *pipe, Reading::Once);
                }
                None => world.pipes[*pipe].broker_closed = true,
            }
        }
        !arriving.is_empty()
    }

    fn register(&mut self, key: ConnectionKey, pipe: PipeId, reading: Reading) {
        let socket = Socket {
            key,
            pipe,
            reading,
            paused: false,
            ended: false,
            sending: None,
            closing: None,
        };
        assert!(self.sockets.insert(key.to_bits(), socket).is_none(), "a key in use");
    }

    fn reap(&mut self, world: &mut Surroundings<'_>) -> bool {
        let keys: Vec<u64> = self.sockets.keys().copied().collect();
        let mut any = false;
        for bits in keys {
            any |= self.reap_input(bits, world);
            any |= self.reap_output(bits, world);
        }
        any
    }

    fn reap_input(&mut self, bits: u64, world: &mut Surroundings<'_>) -> bool {
        let Some(socket) = self.sockets.get_mut(&bits) else { return false };
        // After a pause one more piece may be on its way.
        let readable = match socket.reading {
            Reading::Nothing => false,
            _ if socket.paused => !world.healed && world.random.one_in(40),
            Reading::Once | Reading::Stream => world.healed || !world.random.one_in(3),
        };
        if !readable || socket.closing.is_some() || socket.ended {
            return false;
        }
        let pipe = &mut world.pipes[socket.pipe];
        if pipe.up.is_empty() {
            if pipe.client_closed {
                socket.ended = true;
                self.shard.end_of_input(socket.key);
                return true;
            }
            return false;
        }
        let most = if world.healed { 4096 } else { world.plan.piece_bytes };
        let count = pipe.up.len().min(1 + world.random.below(most));
        let piece: Vec<u8> = pipe.up.drain(..count).collect();
        pipe.heard = world.now;
        pipe.arrival.take(&piece, world.now);
        if socket.reading == Reading::Once {
            socket.reading = Reading::Nothing;
        }
        self.shard.receive(socket.key, &piece);
        true
    }

    fn reap_output(&mut self, bits: u64, world: &mut Surroundings<'_>) -> bool {
        let Some(socket) = self.sockets.get_mut(&bits) else { return false };
        let Some((buffer, mut at)) = socket.sending.take() else { return false };
        let pipe = &mut world.pipes[socket.pipe];
        let (key, before) = (socket.key, at);
        if pipe.broken {
            self.shard.sent(key, buffer);
            self.shard.end_of_input(key);
            if self.sockets.get(&bits).is_some_and(|socket| socket.closing.is_some()) {
                self.flush_one(key, world);
            }
            return true;
        }
        let most = if world.healed { usize::MAX } else { world.plan.pipe_bytes };
        let room = most.saturating_sub(pipe.down.len());
        let wish = if world.healed { usize::MAX } else { world.random.below(2 * room + 2) };
        let count = room.min(wish).min(buffer.len() - at);
        pipe.down.extend(&buffer[at..at + count]);
        at += count;
        if at < buffer.len() {
            socket.sending = Some((buffer, at));
            return at > before;
        }
        let more = self.shard.sent(key, buffer);
        let closing = self.sockets.get(&bits).is_some_and(|socket| socket.closing.is_some());
        if more || closing {
            self.flush_one(key, world);
        }
        true
    }

    fn close_overdue(&mut self, world: &mut Surroundings<'_>) -> bool {
        let overdue = |socket: &&Socket| socket.closing.is_some_and(|end| end <= world.now);
        let keys: Vec<ConnectionKey> =
            self.sockets.values().filter(overdue).map(|socket| socket.key).collect();
        for key in &keys {
            self.close(*key, world, true);
        }
        let lost = |socket: &&Socket| world.pipes[socket.pipe].lost.load(Ordering::Relaxed);
        debug_assert!(self.sockets.values().find(lost).is_none());
        !keys.is_empty()
    }

    fn carry_out(&mut self, world: &mut Surroundings<'_>) -> bool {
        let mut any = false;
        while let Some(command) = self.shard.next_command() {
            any = true;
            match command {
                Command::Established(key) => self.read(key, Reading::Stream),
                Command::ReadMore(key) => self.read(key, Reading::Once),
                Command::Pause(key) => self.pause(key, true),
                Command::Resume(key) => self.pause(key, false),
                Command::Close(key) => match self.sockets.get_mut(&key.to_bits()) {
                    Some(socket) => {
                        socket.closing = Some(Time(world.now.0 + LINGER));
                        self.flush_one(key, world);
                    }
                    None => self.shard.released(key),
                },
                Command::HandOver(key) => self.hand_over(key, world),
                Command::Judge(..) => unreachable!("nobody is asked for a password"),
                Command::Measure => self.shard.measured(&Measured::default()),
                Command::Adopt(key, carried) => match carried.downcast::<Transport>() {
                    Ok(transport) => self.register(key, transport.arrive(), Reading::Nothing),
                    Err(_) => unreachable!("only transports are carried"),
                },
            }
        }
        any
    }

    fn read(&mut self, key: ConnectionKey, reading: Reading) {
        if let Some(socket) = self.sockets.get_mut(&key.to_bits()) {
            socket.reading = reading;
        }
    }

    fn pause(&mut self, key: ConnectionKey, paused: bool) {
        if let Some(socket) = self.sockets.get_mut(&key.to_bits()) {
            socket.paused = paused;
        }
    }

    fn hand_over(&mut self, key: ConnectionKey, world: &mut Surroundings<'_>) {
        let Some(socket) = self.sockets.remove(&key.to_bits()) else { return };
        assert!(socket.sending.is_none(), "a connection in the lobby has no output");
        assert_eq!(socket.reading, Reading::Nothing, "nothing is being read");
        let lost = Arc::clone(&world.pipes[socket.pipe].lost);
        self.shard.hand_over(key, Box::new(Transport::new(socket.pipe, &lost)));
    }

    fn flush(&mut self, world: &mut Surroundings<'_>) -> bool {
        let mut any = false;
        while let Some(key) = self.shard.next_output() {
            any |= self.flush_one(key, world);
        }
        any
    }

    fn flush_one(&mut self, key: ConnectionKey, world: &mut Surroundings<'_>) -> bool {
        let Some(socket) = self.sockets.get_mut(&key.to_bits()) else {
            while let Some(buffer) = self.shard.take_output(key) {
                self.shard.sent(key, buffer);
            }
            return false;
        };
        if socket.sending.is_some() {
            return false;
        }
        if let Some(buffer) = self.shard.take_output(key) {
            socket.sending = Some((buffer, 0));
        } else if socket.closing.is_some() {
            self.close(key, world, false);
        }
        true
    }

    fn close(&mut self, key: ConnectionKey, world: &mut Surroundings<'_>, hurried: bool) {
        if let Some(socket) = self.sockets.remove(&key.to_bits()) {
            let pipe = &mut world.pipes[socket.pipe];
            pipe.broker_closed = true;
            pipe.hurried |= hurried;
            self.released.push(key);
        }
    }
}

/// One run.
pub struct World {
    /// The choices of the seed.
    pub plan: Plan,
    /// The cores.
    pub cores: Vec<Core>,
    /// All connections of the run.
    pub pipes: Vec<Pipe>,
    /// The clients.
    pub clients: Vec<Client>,
    /// What was published.
    pub ledger: Ledger,
    /// The choices of the run.
    pub random: Prng,
    /// The time.
    pub now: Time,
    /// The network is well again.
    pub healed: bool,
    /// Rounds so far.
    pub round: usize,
    /// The broker is stopping.
    pub drains: bool,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64) -> World {
        let mut random = Prng::new(seed ^ 0x5eed);
        let mut plan = Plan::draw(&mut random);
        if REPORTING.contains(&seed) {
            plan.settings.sys_interval_us = 1_000_000 << random.below(3);
        }
        let now = Time(1_000_000);
        let ends = mesh::build(plan.shards, plan.mesh);
        let cores = ends
            .into_iter()
            .map(|end| Core::new(Shard::new(plan.settings.clone(), end, now)))
            .collect();
        let clients =
            (0..plan.clients).map(|index| Client::draw(index, &plan, &mut random)).collect();
        World {
            plan,
            cores,
            pipes: Vec::new(),
            clients,
            ledger: Ledger::default(),
            random,
            now,
            healed: false,
            round: 0,
            drains: false,
        }
    }

    /// The whole course.
    pub fn run(mut self) -> Result<(), String> {
        let outcome = self.course();
        outcome.map_err(|what| format!("round {}: {what}", self.round))
    }

    fn course(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.rounds {
            self.turn_everything()?;
        }
        trace(format_args!("--- healing at round {}", self.round));
        self.heal()?;
        if self.plan.closes_slow_clients() {
            // A client that overflows its own outbox by what it publishes is closed before it has
            // its acknowledgements, publishes again, and so for ever: that is what was asked for.
            for _ in 0..2000 {
                if self.turn_everything()? {
                    break;
                }
            }
            if self.clients.iter().any(|client| !client.is_idle(&self.pipes)) {
                return Ok(());
            }
        }
        self.come_to_rest()?;
        self.judge()?;
        self.judge_retained()?;
        self.end_everything()
    }

    /// One round: time passes, cores turn in random order, clients act. True when all is still.
    pub fn turn_everything(&mut self) -> Result<bool, String> {
        self.round += 1;
        self.now = Time(self.now.0 + self.passing());
        let mut still = true;
        for _ in 0..self.cores.len() {
            let at = self.random.below(self.cores.len());
            if self.random.one_in(self.plan.skip_one_in) {
                continue;
            }
            still &= !self.turn_core(at);
        }
        if self.healed {
            for at in 0..self.cores.len() {
                still &= !self.turn_core(at);
            }
        }
        let calm = |core: &Core| {
            let counters = core.shard.counters();
            counters.over_budget == 0 && counters.keep_alive_timeouts == 0 && !self.drains
        };
        self.ledger.is_calm = !self.plan.closes_slow_clients() && self.cores.iter().all(calm);
        for at in 0..self.clients.len() {
            let mut client = std::mem::replace(&mut self.clients[at], Client::absent());
            let acted = client.turn(self);
            self.clients[at] = client;
            still &= !acted.map_err(|what| format!("client {at}: {what}"))?;
        }
        for pipe in &mut self.pipes {
            if pipe.lost.load(Ordering::Relaxed) {
                pipe.broker_closed = true;
            }
        }
        if self.round.is_multiple_of(ACCOUNTS_EVERY) {
            self.judge_accounts()?;
        }
        Ok(still && self.cores.iter().all(Core::is_asleep))
    }

    fn passing(&mut self) -> u64 {
        if self.healed {
            return 1000;
        }
        match self.random.below(40) {
            0 => 2_500_000,
            1 => 200_000,
            _ => self.random.below(2000) as u64,
        }
    }

    fn turn_core(&mut self, at: usize) -> bool {
        let World { cores, pipes, random, plan, now, healed, .. } = self;
        let mut surroundings = Surroundings { pipes, random, plan, now: *now, healed: *healed };
        cores[at].turn(&mut surroundings)
    }

    /// The network works from now on; everybody who has a session comes back.
    fn heal(&mut self) -> Result<(), String> {
        self.healed = true;
        for client in &mut self.clients {
            client.settle_down(&mut self.pipes);
        }
        Ok(())
    }

    /// Turns everything until nothing moves any more; a run that doesn't come to rest, or rests
    /// with somebody still waiting, is a stall.
    pub fn come_to_rest(&mut self) -> Result<(), String> {
        let mut quiet = 0;
        for _ in 0..LONGEST_HEALING {
            let still = self.turn_everything()?;
            quiet = if still { quiet + 1 } else { 0 };
            if quiet > 2 && self.clients.iter().all(|client| client.is_idle(&self.pipes)) {
                return Ok(());
            }
            if quiet > STALL {
                return Err(format!("stalled: {}", self.state()));
            }
        }
        Err(format!("does not come to rest: {}", self.state()))
    }

    /// A summary for failure messages.
    pub fn state(&self) -> String {
        let mut text = String::new();
        for (at, core) in self.cores.iter().enumerate() {
            let shard = &core.shard;
            text += &format!(
                "\n  shard {at}: sessions {} connections {} waiting {} asleep {} {:?}",
                shard.session_count(),
                shard.connection_count(),
                shard.waiting_count(),
                core.is_asleep(),
                shard.counters()
            );
            text += &format!("\n    waits for {:?}", shard.waiting_for());
        }
        text += &format!("\n  {:?}", self.plan.mesh);
        for client in &self.clients {
            text += &format!("\n  {}", client.summary(&self.pipes));
        }
        text
    }
}
