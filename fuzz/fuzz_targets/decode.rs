//! `cargo fuzz run decode`: see `fuzz/src/decode.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::decode::run(data));
