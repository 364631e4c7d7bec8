//! The `corelane` command as a user meets it: output, words of refusal, exit codes.
#![cfg(feature = "server")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs `corelane` and waits for its end.
fn corelane(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corelane")).args(args).output().expect("it can be started")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("output is text")
}

/// A configuration file that goes with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let name = format!("{}-{name}.toml", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).expect("the target directory is writable");
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the target directory has a plain name")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn check_names_every_fault_with_line_and_remedy() {
    let file = File::new("faults", "[session]\nmax_inflight = 0\n[limits]\npacket_byte = 5\n");
    let output = corelane(&["check", "--config", file.path()]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        stderr(&output),
        format!(
            "corelane: {} has 2 faults\n  \
             line 2: session.max_inflight: 0 is below the smallest allowed value 1; \
             use 1..=65535\n  \
             line 4: limits.packet_byte: no such key; did you mean limits.packet_bytes?\n",
            file.path()
        )
    );
    assert!(stdout(&output).is_empty());
}

#[test]
fn check_says_what_a_valid_file_means() {
    let file = File::new("valid", "[runtime]\nshards = 3\n");
    let output = corelane(&["check", "--config", file.path()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with(&format!("{} is valid\n", file.path())), "{text}");
    assert!(text.contains("* shards = 3  (default 0)"), "{text}");
    assert!(text.contains("127.0.0.1:1883"), "{text}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for command in [&["check"][..], &["serve"], &["topology"], &[]] {
        let output = corelane(&[command, &["--config", "/nowhere/corelane.toml"]].concat());
        assert_eq!(output.status.code(), Some(78));
        let text = stderr(&output);
        assert!(text.contains("/nowhere/corelane.toml can't be read"), "{text}");
    }
}

#[test]
fn serve_asks_for_a_word_before_it_lets_others_in() {
    let output = corelane(&["--listen", "0.0.0.0:1883", "--shards", "65", "--cpus", "x"]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(text.contains("the command line has 3 faults"), "{text}");
    assert!(text.contains("add --allow-anonymous"), "{text}");
    assert!(text.contains("--shards: 65 is too many; use 0..=64"), "{text}");
    assert!(text.contains("--cpus: \"x\" is neither a CPU nor a range"), "{text}");
}

#[test]
fn serve_listens_only_once_at_an_address() {
    let output = corelane(&["--listen", "127.0.0.1:1883", "--listen", "127.0.0.1:1883"]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(text.contains("--listen 127.0.0.1:1883: the address is named twice"), "{text}");
}

#[test]
fn serve_refuses_cpus_that_the_host_has_not() {
    let output = corelane(&["serve", "--listen", "127.0.0.1:0", "--cpus", "8191"]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(text.contains("CPU 8191 is not online; this process may use"), "{text}");
}

#[test]
fn topology_draws_the_host_and_the_shards() {
    let output = corelane(&["topology", "--shards", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("package 0\n"), "{text}");
    assert!(text.contains("shard-0") && text.contains("shard-1"), "{text}");
}

#[test]
fn a_pin_to_a_shard_that_does_not_run_is_refused() {
    let pin = "[topics]\npin = [{ prefix = \"plant\", shard = 9 }]\n";
    let file = File::new("pin", pin);
    let output = corelane(&["topology", "--shards", "2", "--config", file.path()]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    let fault = "line 2: topics.pin[0].shard: there is no shard 9, 2 run here";
    assert!(text.contains(fault), "{text}");
}

#[test]
fn what_the_host_has_not_is_refused_with_its_line() {
    let file = File::new("line", "[runtime]\npin = true\ncpus = \"numa:4095\"\n");
    let output = corelane(&["topology", "--config", file.path()]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(text.contains("line 3: runtime.cpus: there is no NUMA node 4095"), "{text}");
    // What was typed has no line in the file.
    let output = corelane(&["topology", "--cpus", "8191", "--config", file.path()]);
    assert!(!stderr(&output).contains("line 3"), "{}", stderr(&output));
}

#[test]
fn topology_plan_tells_who_owns_what() {
    let text = "\
[[listener]]
shards = [1]
[topics]
pin = [{ prefix = \"plant\", shard = 1 }]
[session]
pin = [{ clients = \"gate-*\", shard = 0 }]
";
    let file = File::new("plan", text);
    let args = ["topology", "--plan", "--shards", "2", "--config", file.path()];
    let text = stdout(&corelane(&args));
    assert!(text.contains("clients gate-*\n"), "{text}");
    assert!(text.contains("listener tcp (127.0.0.1:1883), topics plant/#\n"), "{text}");
    let json = stdout(&corelane(&[&args[..], &["--json"]].concat()));
    assert!(json.starts_with('{') && json.contains("\"owns\""), "{json}");
}

#[test]
fn tune_checks_without_changing_anything() {
    let output = corelane(&["tune", "--connections", "10"]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(&output));
    let text = stdout(&output);
    for part in ["kernel-release", "somaxconn", "huge-pages", "profile for this host: "] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let json = stdout(&corelane(&["tune", "--json", "--profile", "power-saving"]));
    assert!(json.contains("\"falls_short\""), "{json}");
}

#[test]
fn tune_has_nothing_to_take_back_without_a_record() {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no-record.json");
    let state = state.to_str().expect("the target directory has a plain name");
    let output = corelane(&["tune", "--undo", "--state", state]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "--undo: there is nothing to do\n");
}

#[test]
fn a_shown_profile_is_a_valid_configuration() {
    let output = corelane(&["tune", "--show-profile", "two-core-vm"]);
    let file = File::new("profile", &stdout(&output));
    let check = corelane(&["check", "--config", file.path()]);
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let output = corelane(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for part in ["Examples:", "Exit codes:", "serve", "check", "topology", "--allow-anonymous"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(stdout(&corelane(&["--version"])).starts_with("corelane "));
}

#[test]
fn wrong_usage_exits_with_two() {
    for args in [&["--no-such-flag"][..], &["--log-level", "loud"], &["--allow-anonymous"]] {
        assert_eq!(corelane(args).status.code(), Some(2), "{args:?}");
    }
}
