//! Which shard runs on which CPU.

/// The CPUs asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CpuRequest {
    /// Every CPU that the process may use.
    Auto,
    /// These CPUs, in this order.
    List(Vec<usize>),
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacementRequest {
    /// The CPUs that carry shards.
    pub cpus: CpuRequest,
    /// How many shards run; `None` means one for each CPU.
    pub shards: Option<usize>,
    /// Whether each shard's thread is bound to its CPU.
    pub pin: bool,
}

/// Where one shard runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardPlace {
    /// The shard, counted from 0.
    pub shard: usize,
    /// The CPU that its thread is bound to; `None` where threads are not bound.
    pub cpu: Option<usize>,
}
