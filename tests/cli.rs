//! The `corelane` command as a user meets it: output, words of refusal, exit codes.
#![cfg(feature = "server")]

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

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
fn tune_measures_only_with_the_load_generator_at_hand() {
    let program = env!("CARGO_BIN_EXE_corelane");
    let alone = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("alone");
    std::fs::create_dir_all(&alone).expect("the target directory can be written");
    let copy = alone.join("corelane");
    std::fs::copy(program, &copy).expect("the program can be copied");
    let mut command = Command::new(&copy);
    let output = command.args(["tune", "--measure"]).env("PATH", "").output().expect("it starts");
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(stderr(&output).contains("cargo build --release -p corelane-loadtest"));
    let output = corelane(&["tune", "--budget", "10m"]);
    assert_eq!(output.status.code(), Some(2), "a budget without --measure means nothing");
    let output = corelane(&["tune", "--measure", "--apply"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
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

/// Runs `corelane` with `input` on standard input.
fn corelane_with(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be started");
    // It may end without reading, where the file is at fault.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

#[test]
fn passwd_creates_changes_and_deletes_users_and_keeps_the_rest() {
    let file = File::new("users", "# ours\n");
    let path = file.path();
    std::fs::set_permissions(path, Permissions::from_mode(0o640)).expect("it is ours");
    for (args, input, said) in [
        (&["ann", "--groups", "staff"][..], "secret one\n", "ann created"),
        (&["bob"], "secret two", "bob created"),
        (&["ann"], "secret three", "ann changed"),
        (&["bob", "--delete"], "", "bob deleted"),
    ] {
        let output = corelane_with(&[&["passwd", path], args].concat(), input);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).starts_with(said), "{}", stdout(&output));
    }
    let text = std::fs::read_to_string(path).expect("it is there");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "# ours"));
    assert!(lines[1].starts_with("ann:$argon2id$") && lines[1].ends_with(":staff"), "{text}");
    let users = corelane::access::Users::parse(&text).expect("a valid file");
    assert!(users.verify("ann", b"secret three") && !users.verify("ann", b"secret one"));
    let mode = std::fs::metadata(path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "the mode stays");
}

#[test]
fn passwd_refuses_what_it_cannot_do_and_leaves_the_file_alone() {
    let file = File::new("faulty-users", "ann:plain\n");
    let fresh = File::new("fresh-users", "");
    for (args, input, said) in [
        (&[file.path(), "bob"][..], "x", "line 1: the password is not hashed"),
        (&[fresh.path(), "bob"], "", "the password is empty"),
        (&[fresh.path(), "a:b"], "x", "may not be empty, begin with # or hold :"),
        (&[fresh.path(), "bob", "--delete"], "", "has no user bob"),
        (&["/dev/null/x", "bob"], "x", "can't be read"),
    ] {
        let output = corelane_with(&[&["passwd"], args].concat(), input);
        assert_eq!(output.status.code(), Some(78), "{args:?}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    assert_eq!(std::fs::read_to_string(file.path()).expect("it is there"), "ann:plain\n");
    assert_eq!(std::fs::read_to_string(fresh.path()).expect("it is there"), "");
}

#[test]
fn acl_explain_names_the_rule_its_file_and_its_line() {
    let more = File::new("more-rules", "[[acl]]\neffect = \"allow\"\ntopics = [\"shared/#\"]\n");
    let text = format!(
        "[access]\nacl_file = \"{}\"\n\n[[acl]]\neffect = \"allow\"\ngroups = [\"staff\"]\n\
         topics = [\"u/%u/#\"]\n",
        more.path()
    );
    let file = File::new("rules", &text);
    let explain = |args: &[&str]| {
        let output = corelane(&[&["acl", "explain", "--config", file.path()], args].concat());
        (output.status.code(), stdout(&output), stderr(&output))
    };
    let own = ["--user", "ann", "--group", "staff", "--action", "publish", "--topic", "u/ann/a"];
    let (code, said, _) = explain(&own);
    assert_eq!(code, Some(0));
    assert_eq!(said, format!("allowed: by rule 1 of {}, line 4\n", file.path()));
    let (code, said, _) = explain(&["--action", "subscribe", "--topic", "$share/g/shared/+"]);
    assert_eq!(code, Some(0));
    assert_eq!(said, format!("allowed: by rule 1 of {}, line 1\n", more.path()));
    let (code, said, _) = explain(&["--action", "subscribe", "--topic", "u/ann/#"]);
    assert_eq!(code, Some(1));
    assert_eq!(said, "denied: no rule applies, and what no rule allows is denied\n");
    let (code, _, said) = explain(&["--action", "publish", "--topic", "a/#"]);
    assert_eq!(code, Some(78));
    assert!(said.contains("no topic name"), "{said}");
    let (code, _, said) = explain(&["--action", "publish", "--topic", "a", "--listener", "cellar"]);
    assert_eq!(code, Some(78));
    assert!(said.contains("cellar") && said.contains("name one of tcp"), "{said}");
}

#[test]
fn check_reads_the_files_that_are_named() {
    let users = File::new("check-users", "ann:plain\n");
    let text = format!("[access]\npassword_file = \"{}\"\n", users.path());
    let file = File::new("check-files", &text);
    let output = corelane(&["check", "--config", file.path()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains(&format!("{} has one fault", users.path())));
    let file = File::new("check-gone", "[access]\nacl_file = \"nowhere.toml\"\n");
    let output = corelane(&["check", "--config", file.path()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("nowhere.toml") && stderr(&output).contains("can't be read"));
}
