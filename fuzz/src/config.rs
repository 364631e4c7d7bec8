//! Any text as a configuration: it is read or refused, and a refusal can be used.
//!
//! Invariants worth naming: a fault names a line of the text (but for what is nested too deeply), a
//! reason and a remedy; what was accepted can be explained.

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
        assert!(!fault.reason.is_empty() && !fault.remedy.is_empty(), "{fault}");
        // The TOML reader does not say where something is nested too deeply for it.
        let deep = fault.reason.contains("recursion limit");
        let line = fault.line.unwrap_or_else(|| if deep { lines } else { panic!("{fault}") });
        assert!((1..=lines).contains(&line), "{fault} of {lines} lines");
    }
    let line = |fault: &config::Fault| fault.line.unwrap_or(usize::MAX);
    assert!(faults.is_sorted_by_key(line), "faults out of order");
}
