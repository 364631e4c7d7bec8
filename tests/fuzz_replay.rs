//! Replays the fuzz corpora, and the inputs that once failed, through the bodies of the fuzz
//! targets. docs/TESTING.md says how the corpora are made.

#[path = "../fuzz/src/access.rs"]
mod access;
#[path = "../fuzz/src/config.rs"]
mod config;
#[path = "../fuzz/src/decode.rs"]
mod decode;
#[path = "../fuzz/src/proxy.rs"]
mod proxy;
#[path = "../fuzz/src/shard/mod.rs"]
mod shard;
#[path = "../fuzz/src/websocket.rs"]
mod websocket;

/// Runs every input of one target; the input's name stands above the panic's message.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is part of the tree") {
        let path = entry.expect("the folder can be read").path();
        println!("{}", path.display());
        run(&std::fs::read(&path).expect("an input can be read"));
        count += 1;
    }
    assert!(count > 5, "{folder} holds {count} inputs");
}

#[test]
fn access_corpus() {
    replay("access", access::run);
}

#[test]
fn decode_corpus() {
    replay("decode", decode::run);
}

#[test]
fn config_corpus() {
    replay("config", config::run);
}

#[test]
fn shard_corpus() {
    replay("shard", shard::run);
}

#[test]
fn proxy_corpus() {
    replay("proxy", proxy::run);
}

#[test]
fn websocket_corpus() {
    replay("websocket", websocket::run);
}
