//! `cargo fuzz run proxy`: see `fuzz/src/proxy.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::proxy::run(data));
