//! Settings of the kernel under `/proc/sys` that a broker of many connections needs or likes.
//!
//! Invariants worth naming:
//! * a value that is large enough already is never lowered, and only the field that is too small
//!   is changed.

use crate::host::{Change, Check, Severity, Verdict};
use crate::memory;
use crate::tree;
use crate::tune::Workload;
use std::path::Path;

/// Bytes of a page, in which the kernel counts the memory of TCP.
const PAGE_BYTES: u64 = 4096;

/// Pages that TCP may take for each connection before it has to be told so: what a connection
/// with a little unread in both directions takes.
const PAGES_PER_CONNECTION: u64 = 4;

/// What is asked of a setting.
enum Want {
    /// The number at this place of the setting is this or more.
    AtLeast(usize, u64),
    /// The only number is this or less.
    AtMost(u64),
    /// Three numbers that ascend, the last this or more.
    Ascending(u64),
    /// A range that holds this many numbers.
    Width(u64),
}

struct Row {
    id: &'static str,
    name: &'static str,
    want: Want,
    severity: Severity,
    why: &'static str,
}

fn row(id: &'static str, name: &'static str, want: Want, why: &'static str) -> Row {
    Row { id, name, want, severity: Severity::Costs, why }
}

/// Checks every setting below `root` that matters for `workload`.
pub fn checks(root: &Path, workload: &Workload) -> Vec<Check> {
    rows(root, workload).iter().map(|row| check(root, row)).collect()
}

fn rows(root: &Path, workload: &Workload) -> Vec<Row> {
    let memory = memory::usable(root).unwrap_or(u64::MAX);
    // A quarter of the memory at most: the rest is the broker's.
    let tcp_pages = (workload.connections * PAGES_PER_CONNECTION).min(memory / 4 / PAGE_BYTES);
    let limits = |row: Row| Row { severity: Severity::Limits, ..row };
    let files = workload.needs.open_files;
    let mut rows = vec![
        limits(row("nr-open", "fs.nr_open", Want::AtLeast(0, files), "bounds any LimitNOFILE")),
        limits(row("file-max", "fs.file-max", Want::AtLeast(0, files), "open files of the host")),
        limits(row(
            "somaxconn",
            "net.core.somaxconn",
            Want::AtLeast(0, workload.backlog),
            "cuts the backlog of every listener",
        )),
        row(
            "syn-backlog",
            "net.ipv4.tcp_max_syn_backlog",
            Want::AtLeast(0, workload.backlog),
            "connections half open in a storm of connects",
        ),
        row(
            "netdev-backlog",
            "net.core.netdev_max_backlog",
            Want::AtLeast(0, 4096),
            "packets that wait for one CPU",
        ),
        row("tcp-rmem", "net.ipv4.tcp_rmem", Want::AtLeast(2, 4 << 20), "a publisher's window"),
        row("tcp-wmem", "net.ipv4.tcp_wmem", Want::AtLeast(2, 4 << 20), "a subscriber's window"),
        limits(row(
            "tcp-mem",
            "net.ipv4.tcp_mem",
            Want::Ascending(tcp_pages),
            "pages of all connections; beyond it the kernel drops segments",
        )),
        row(
            "rfs-table",
            "net.core.rps_sock_flow_entries",
            Want::AtLeast(0, if workload.steering { 32_768 } else { 0 }),
            "flows that the kernel steers to the core that reads them",
        ),
        Row {
            severity: Severity::Tells,
            ..row(
                "port-range",
                "net.ipv4.ip_local_port_range",
                Want::Width(28_000),
                "connections from this host to one address, as a load generator makes",
            )
        },
    ];
    if has_swap(root) {
        let why = "memory of idle sessions that a core waits for";
        rows.push(row("swappiness", "vm.swappiness", Want::AtMost(10), why));
    }
    if workload.nodes > 1 && workload.pinned {
        let why = "pages moved under threads that are bound";
        rows.push(row("numa-balancing", "kernel.numa_balancing", Want::AtMost(0), why));
    }
    rows
}

fn has_swap(root: &Path) -> bool {
    let text = tree::text(&root.join("proc/meminfo")).unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("SwapTotal:"));
    total.is_some_and(|total| !total.trim().starts_with("0 "))
}

fn check(root: &Path, row: &Row) -> Check {
    let path = format!("proc/sys/{}", row.name.replace('.', "/"));
    let current = tree::text(&root.join(&path));
    let shown = current.as_deref().map(spaced);
    let numbers = shown.as_deref().and_then(|text| {
        text.split(' ').map(|word| word.parse::<u64>().ok()).collect::<Option<Vec<_>>>()
    });
    let (verdict, value) = match numbers {
        Some(numbers) => judge(&row.want, &numbers),
        None => (Verdict::Unknown, String::new()),
    };
    let unmet = verdict == Verdict::Unmet;
    let change = Change { path, value: value.clone() };
    Check {
        id: row.id,
        current: format!("{} = {}", row.name, shown.as_deref().unwrap_or("not readable")),
        required: format!("{}: {}", wanted(&row.want), row.why),
        verdict,
        severity: row.severity,
        remedy: if unmet { format!("sysctl -w {}=\"{value}\"", row.name) } else { String::new() },
        changes: if unmet { vec![change] } else { Vec::new() },
    }
}

/// The words of `text` with one space between them.
pub(crate) fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn wanted(want: &Want) -> String {
    match want {
        Want::AtLeast(0, least) => format!("{least} or more"),
        Want::AtLeast(at, least) => format!("{least} or more as number {}", at + 1),
        Want::AtMost(most) => format!("{most} or less"),
        Want::Ascending(least) => format!("{least} or more as number 3"),
        Want::Width(least) => format!("{least} ports or more"),
    }
}

/// Whether `numbers` are what is wanted, and what to write if not.
fn judge(want: &Want, numbers: &[u64]) -> (Verdict, String) {
    let write = |numbers: &[u64]| {
        let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
        (Verdict::Unmet, words.join(" "))
    };
    let met = (Verdict::Met, String::new());
    match (want, numbers) {
        (Want::AtLeast(at, least), numbers) if *at < numbers.len() => {
            let mut raised = numbers.to_vec();
            raised[*at] = raised[*at].max(*least);
            if raised == numbers { met } else { write(&raised) }
        }
        (Want::AtMost(most), [only]) => {
            if only <= most {
                met
            } else {
                write(&[*most])
            }
        }
        (Want::Ascending(least), [low, pressure, high]) if high < least => {
            write(&[(*low).max(least / 2), (*pressure).max(least / 4 * 3), *least])
        }
        (Want::Ascending(_), [_, _, _]) => met,
        (Want::Width(least), [first, last]) if last.saturating_sub(*first) + 1 < *least => {
            write(&[(*first).min(32_768), (*last).max(60_999)])
        }
        (Want::Width(_), [_, _]) => met,
        _ => (Verdict::Unknown, String::new()),
    }
}
