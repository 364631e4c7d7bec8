//! `cargo fuzz run websocket`: see `fuzz/src/websocket.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelane_fuzz::websocket::run(data));
