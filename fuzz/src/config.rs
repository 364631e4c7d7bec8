//! Any text as a configuration: it is read or refused, and a refusal can be used.
//!
//! Invariants worth naming: every fault names a line of the text, a reason and a remedy; what was
//! accepted can be explained, and its shown values are accepted again.

use corelane::config;

/// Checks one input; what is not UTF-8 is no text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::parse(text) {
        Ok(config) => {
            assert!(!config.listeners.is_empty(), "clients must be able to connect somewhere");
            assert!(!config::explain(&config).is_empty());
        }
        Err(faults) => check_faults(text, &faults),
    }
}

fn check_faults(text: &str, faults: &[config::Fault]) {
    assert!(!faults.is_empty(), "refused without a fault");
    let lines = text.split('\n').count();
    for fault in faults {
        let line = fault.line.expect("what is written is wrong on some line");
        assert!((1..=lines).contains(&line), "{fault} of {lines} lines");
        assert!(!fault.reason.is_empty() && !fault.remedy.is_empty(), "{fault}");
        assert!(fault.to_string().starts_with("line "), "{fault}");
    }
    assert!(faults.is_sorted_by_key(|fault| fault.line), "faults out of order");
}
