//! What the fuzz targets check, apart from the fuzzer, so that the corpora can be replayed by a
//! test on the stable compiler.

pub mod access;
pub mod config;
pub mod decode;
pub mod proxy;
pub mod shard;
pub mod websocket;
