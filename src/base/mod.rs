//! Small values that every other module speaks in: ids, instants, generational slots, the timer
//! wheel, token buckets, outgoing bytes and a seeded generator. Nothing here knows MQTT beyond
//! packet identifiers.

pub mod bucket;
pub mod chunk;
pub mod id;
pub mod prng;
pub mod slots;
pub mod time;
pub mod wheel;

pub use bucket::{Bucket, Rate};
pub use chunk::Chunk;
pub use id::{CoreSet, MAX_SHARDS, MessageId, PacketId, PublisherId, ShardId};
pub use prng::Prng;
pub use slots::{Key, Slots};
pub use time::Time;
pub use wheel::Wheel;
