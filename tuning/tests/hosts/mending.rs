//! The checks of `corelane tune`, and applying and taking back what they ask for.

use super::machine::{Host, single_socket};
use super::shapes::with_nic;
use corelane_tuning::device::chosen;
use corelane_tuning::host::{Change, Check, Needs, Severity, Verdict};
use corelane_tuning::record::{Outcome, Record};
use corelane_tuning::tune::{self, Workload};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A host of four CPUs with settings that nobody has tuned.
fn untuned(name: &str) -> Host {
    let host = with_nic(single_socket(name, 4, 0), "eth0", &[0, 0, 0]);
    let limits = "Max open files  1024  4096  files\nMax locked memory  65536  65536  bytes";
    for (path, text) in [
        ("proc/self/limits", limits),
        ("proc/self/cgroup", "0::/"),
        ("proc/meminfo", "MemTotal: 8388608 kB\nSwapTotal: 1024 kB"),
        ("proc/sys/kernel/osrelease", "6.1.0-13-amd64"),
        ("proc/sys/fs/nr_open", "1048576"),
        ("proc/sys/fs/file-max", "9223372036854775807"),
        ("proc/sys/net/core/somaxconn", "128"),
        ("proc/sys/net/core/netdev_max_backlog", "1000"),
        ("proc/sys/net/core/rps_sock_flow_entries", "0"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "8192"),
        ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
        ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t65536"),
        ("proc/sys/net/ipv4/tcp_mem", "100\t200\t300"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"),
        ("proc/sys/vm/swappiness", "60"),
        ("sys/fs/cgroup/cpu.max", "200000 100000"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
        ("sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI"),
        ("sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable: no microcode"),
    ] {
        host.write(path, text);
    }
    for cpu in 0..4 {
        let directory = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq");
        host.write(&format!("{directory}/scaling_governor"), "powersave");
    }
    host
}

fn workload() -> Workload {
    Workload {
        shards: 4,
        cpus: vec![0, 1, 2, 3],
        pinned: true,
        nodes: 1,
        connections: 50_000,
        backlog: 4096,
        fixed_bytes: 100 << 20,
        needs: Needs { open_files: 50_320, locked_bytes: 1 << 20 },
        frugal: false,
        steering: true,
    }
}

fn checks(host: &Host, workload: &Workload) -> Vec<Check> {
    tune::checks(&host.root, &host.topology(), workload)
}

fn check<'c>(checks: &'c [Check], id: &str) -> &'c Check {
    checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no check {id}"))
}

fn changes(host: &Host) -> Vec<Change> {
    checks(host, &workload()).into_iter().flat_map(|check| check.changes).collect()
}

/// Writes as the kernel does: a list of choices moves its brackets, the rest ends in a newline.
fn kernel(path: &Path, value: &str) -> io::Result<()> {
    let old = fs::read_to_string(path)?;
    let text = match old.contains('[') {
        true => old.replace(['[', ']'], "").replace(value, &format!("[{value}]")),
        false => format!("{}\n", value.split_whitespace().collect::<Vec<_>>().join("\t")),
    };
    fs::write(path, text)
}

/// Every file below `root` with its bytes.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(root).expect("readable").flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(tree(&path)),
            path => drop(files.insert(path.clone(), fs::read(path).expect("readable"))),
        }
    }
    files
}

#[test]
fn an_untuned_host_is_told_each_command() {
    let host = untuned("untuned");
    let checks = checks(&host, &workload());
    let unmet: BTreeMap<&str, &str> = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Unmet)
        .map(|check| (check.id, check.remedy.as_str()))
        .collect();
    assert_eq!(unmet["somaxconn"], "sysctl -w net.core.somaxconn=\"4096\"");
    assert_eq!(unmet["tcp-wmem"], "sysctl -w net.ipv4.tcp_wmem=\"4096 16384 4194304\"");
    assert_eq!(unmet["tcp-mem"], "sysctl -w net.ipv4.tcp_mem=\"100000 150000 200000\"");
    assert_eq!(unmet["swappiness"], "sysctl -w vm.swappiness=\"10\"");
    assert_eq!(unmet["governor"], "cpupower -c 0-3 frequency-set -g performance");
    assert!(unmet["rps"].starts_with("echo f > /sys/class/net/eth0/queues/rx-0/rps_cpus\n"));
    assert!(unmet["rfs"].starts_with("echo 10922 > /sys/class/net/eth0/queues/rx-0/rps_flow_cnt"));
    assert!(unmet["irq-affinity"].contains("echo 2 > /proc/irq/102/smp_affinity_list"));
    for id in ["open-files", "locked-memory", "cpu-quota", "huge-pages", "rfs-table"] {
        assert!(unmet.contains_key(id), "{id} in {unmet:?}");
    }
    for id in ["kernel-release", "syn-backlog", "tcp-rmem", "port-range", "memory", "nr-open"] {
        assert_eq!(check(&checks, id).verdict, Verdict::Met, "{id}");
    }
    let told = &check(&checks, "mitigations").current;
    assert_eq!(told, "active: meltdown; vulnerable: mds");
    assert!(tune::falls_short(&checks));
    let shown = tune::show(&checks);
    assert!(shown.starts_with("blocks   locked-memory"), "{shown}");
    assert!(shown.contains("needed: 4096 or more: cuts the backlog of every listener"), "{shown}");
}

#[test]
fn needs_follow_the_workload() {
    let host = untuned("workload");
    let small = Workload {
        connections: 10,
        backlog: 100,
        cpus: vec![0, 1],
        needs: Needs { open_files: 100, locked_bytes: 4096 },
        frugal: true,
        ..workload()
    };
    let checks = checks(&host, &small);
    for id in ["open-files", "locked-memory", "somaxconn", "tcp-mem", "cpu-quota", "governor"] {
        assert_eq!(check(&checks, id).verdict, Verdict::Met, "{id}");
    }
    assert!(checks.iter().all(|check| check.id != "rps"), "three queues are enough for two");
    assert!(!tune::falls_short(&checks), "{}", tune::show(&checks));
}

#[test]
fn what_is_hidden_is_said_to_be_unknown() {
    let host = Host::new("hidden", "0", "0");
    host.write("proc/self/limits", "Max open files  999999  999999  files");
    let checks = checks(&host, &Workload { cpus: vec![0], ..workload() });
    for id in ["somaxconn", "governor", "huge-pages", "irq-affinity", "memory", "mitigations"] {
        let check = check(&checks, id);
        assert_eq!((check.verdict, check.changes.len()), (Verdict::Unknown, 0), "{id}");
    }
    let unknown = check(&checks, "somaxconn");
    assert_eq!((unknown.severity, unknown.remedy.as_str()), (Severity::Limits, ""));
}

#[test]
fn applying_and_taking_back_leaves_the_tree_as_it_was() {
    let host = untuned("roundtrip");
    let before = tree(&host.root);
    let file = host.root.with_extension("state");
    let mut record = Record::open(&host.root, &file).expect("none yet");
    let changes = changes(&host);
    let written = record.apply(&changes, &mut kernel).expect("the record can be saved");
    assert!(written.iter().all(|o| matches!(o, Outcome::Written(_))), "{written:?}");
    let after = checks(&host, &workload());
    assert!(after.iter().all(|check| check.changes.is_empty()), "{}", tune::show(&after));
    assert_ne!(tree(&host.root), before);
    let again = record.apply(&changes, &mut kernel).expect("nothing to save");
    assert!(again.iter().all(|o| matches!(o, Outcome::Unchanged(_))), "{again:?}");
    // Another process takes it back: all it knows is on disk.
    let mut record = Record::open(&host.root, &file).expect("a record");
    assert_eq!(record.entries().len(), changes.len());
    let back = record.undo(&mut kernel).expect("the record can be saved");
    assert!(back.iter().all(|o| matches!(o, Outcome::Written(_))), "{back:?}");
    assert_eq!(tree(&host.root), before);
    assert!(!file.exists(), "an empty record leaves no file");
}

#[test]
fn a_write_that_fails_leaves_a_correct_record() {
    let host = untuned("failing");
    let file = host.root.with_extension("state");
    let changes = changes(&host);
    let before = tree(&host.root);
    for failing in [0, changes.len() / 2, changes.len() - 1] {
        let mut record = Record::open(&host.root, &file).expect("none yet");
        let mut at = 0;
        let outcomes = record.apply(&changes, &mut |path, value| {
            // The record on disk knows of each file before it is touched.
            let known = Record::open(&host.root, &file).expect("a record").entries().len();
            assert_eq!(known, if at > failing { at } else { at + 1 });
            at += 1;
            if at == failing + 1 {
                Err(io::ErrorKind::PermissionDenied.into())
            } else {
                kernel(path, value)
            }
        });
        let outcomes = outcomes.expect("the record can be saved");
        assert!(
            matches!(&outcomes[failing], Outcome::Failed(path, _) if *path == changes[failing].path)
        );
        let mut record = Record::open(&host.root, &file).expect("a record");
        assert_eq!(record.entries().len(), changes.len() - 1);
        record.undo(&mut kernel).expect("the record can be saved");
        assert_eq!(tree(&host.root), before, "{failing}");
    }
}

#[test]
fn what_somebody_changed_since_is_left_alone_and_told() {
    let host = untuned("foreign");
    let file = host.root.with_extension("state");
    let path = "proc/sys/net/core/somaxconn";
    let mut record = Record::open(&host.root, &file).expect("none yet");
    record.apply(&changes(&host), &mut kernel).expect("the record can be saved");
    host.write(path, "9999");
    let outcomes = record.undo(&mut kernel).expect("the record can be saved");
    let foreign: Vec<&Outcome> =
        outcomes.iter().filter(|o| matches!(o, Outcome::Foreign(..))).collect();
    let [Outcome::Foreign(entry, current)] = foreign[..] else { panic!("{outcomes:?}") };
    assert_eq!(
        (entry.path.as_str(), entry.before.as_str(), current.as_str()),
        (path, "128", "9999")
    );
    assert_eq!(fs::read_to_string(host.root.join(path)).expect("there"), "9999\n");
    // Once somebody has put the old value back, the entry is done.
    let mut record = Record::open(&host.root, &file).expect("a record");
    assert_eq!(record.entries().len(), 1);
    host.write(path, "128");
    let outcomes = record.undo(&mut kernel).expect("the record can be saved");
    assert!(matches!(outcomes[..], [Outcome::Unchanged(_)]), "{outcomes:?}");
    assert!(!file.exists());
}

#[test]
fn a_second_change_goes_back_to_the_first_value() {
    let host = untuned("second");
    let file = host.root.with_extension("state");
    let path = "proc/sys/net/core/somaxconn";
    let change = |value: &str| vec![Change { path: path.into(), value: value.into() }];
    let mut record = Record::open(&host.root, &file).expect("none yet");
    for value in ["4096", "8192"] {
        record.apply(&change(value), &mut kernel).expect("the record can be saved");
    }
    assert_eq!(record.entries().len(), 1);
    record.undo(&mut kernel).expect("the record can be saved");
    assert_eq!(fs::read_to_string(host.root.join(path)).expect("there"), "128\n");
}

#[test]
fn a_record_that_names_other_files_is_refused() {
    let host = untuned("strange");
    let file = host.root.join("state.json");
    for name in ["/etc/passwd", "/sys/../etc/passwd", "relative"] {
        let text = format!(r#"{{"applied":[{{"file":"{name}","before":"a","after":"b"}}]}}"#);
        fs::write(&file, text).expect("writable");
        let error = Record::open(&host.root, &file).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name}");
    }
    assert_eq!(chosen("always [madvise] never\n"), "madvise");
}
