//! `cargo fuzz run shard`: see `fuzz/src/shard/mod.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::shard::run(data));
