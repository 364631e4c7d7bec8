//! `cargo fuzz run access`: see `fuzz/src/access.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::access::run(data));
