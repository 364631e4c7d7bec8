//! What CPUs, memory and network devices are set to under `/sys`, and where interrupts go.

use crate::cpulist;
use crate::host::{Change, Check, Severity, Verdict};
use crate::nic::Nic;
use crate::tree;
use crate::tune::Workload;
use std::path::Path;

/// Flows that one receive queue remembers, as the kernel's own guide for servers has it: the table
/// of all flows over the number of queues, and not more.
const FLOWS: u64 = 32_768;

/// The word in brackets of a file that lists choices, or the whole text.
pub fn chosen(text: &str) -> &str {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(text.trim(), |(word, _)| word)
}

/// The clock governor of the shards' CPUs.
pub fn governor(root: &Path, workload: &Workload) -> Check {
    let path = |cpu: usize| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let read = |cpu: &usize| Some((*cpu, tree::text(&root.join(path(*cpu)))?));
    let found: Vec<(usize, String)> = workload.cpus.iter().filter_map(read).collect();
    let slow: Vec<&(usize, String)> =
        found.iter().filter(|(_, word)| word != "performance").collect();
    let words: std::collections::BTreeSet<&str> =
        found.iter().map(|(_, word)| word.as_str()).collect();
    let wanted = !workload.frugal;
    let verdict = match (found.is_empty(), wanted && !slow.is_empty()) {
        (true, _) => Verdict::Unknown,
        (false, unmet) => Verdict::of(!unmet),
    };
    let cpus: Vec<usize> = slow.iter().map(|(cpu, _)| *cpu).collect();
    let change = |cpu: &usize| Change { path: path(*cpu), value: "performance".into() };
    let unmet = verdict == Verdict::Unmet;
    Check {
        id: "governor",
        current: match found.is_empty() {
            true => "the host sets its clocks itself, or hides it".into(),
            false => words.into_iter().collect::<Vec<_>>().join(", "),
        },
        required: match wanted {
            true => {
                "performance on the shards' CPUs: a clock that has to rise first is latency".into()
            }
            false => "any: this profile saves power".into(),
        },
        verdict,
        severity: Severity::Costs,
        remedy: match unmet {
            true => format!("cpupower -c {} frequency-set -g performance", cpulist::show(&cpus)),
            false => String::new(),
        },
        changes: if unmet { cpus.iter().map(change).collect() } else { Vec::new() },
    }
}

/// Transparent huge pages.
pub fn huge_pages(root: &Path) -> Check {
    let path = "sys/kernel/mm/transparent_hugepage/enabled";
    let text = tree::text(&root.join(path));
    let word = text.as_deref().map(chosen);
    let verdict = word.map_or(Verdict::Unknown, |word| Verdict::of(word != "always"));
    let unmet = verdict == Verdict::Unmet;
    Check {
        id: "huge-pages",
        current: word.unwrap_or("not readable").into(),
        required: "madvise or never: with always, many small heaps grow to whole huge pages".into(),
        verdict,
        severity: Severity::Costs,
        remedy: if unmet { format!("echo madvise > /{path}") } else { String::new() },
        changes: match unmet {
            true => vec![Change { path: path.into(), value: "madvise".into() }],
            false => Vec::new(),
        },
    }
}

/// Where the interrupts of network devices go: to several CPUs of the shards, or beside them.
pub fn interrupts(nics: &[Nic], workload: &Workload) -> Check {
    let crowded: Vec<&Nic> = nics.iter().filter(|nic| is_crowded(nic, workload)).collect();
    let known = nics.iter().any(|nic| !nic.interrupt_cpus().is_empty());
    let shown = |nic: &Nic| {
        let cpus = cpulist::show(&nic.interrupt_cpus());
        format!("{}: {} on CPUs {cpus}", nic.name, nic.interrupts.len())
    };
    let commands = crowded.iter().flat_map(|nic| spread_out(nic, workload));
    Check {
        id: "irq-affinity",
        current: match known {
            true => nics.iter().map(shown).collect::<Vec<_>>().join("; "),
            false => "no network device tells".into(),
        },
        required: "not all of a device's interrupts on one shard's CPU".into(),
        verdict: if known { Verdict::of(crowded.is_empty()) } else { Verdict::Unknown },
        severity: Severity::Costs,
        remedy: commands.collect::<Vec<_>>().join("\n"),
        // irqbalance, where it runs, would take them back; so this is left to the operator.
        changes: Vec::new(),
    }
}

/// Whether several queues of `nic` load the CPU of one shard while there are more shards.
fn is_crowded(nic: &Nic, workload: &Workload) -> bool {
    let queues = nic.interrupts.iter().filter(|interrupt| interrupt.cpus.len() == 1).count();
    match nic.interrupt_cpus().as_slice() {
        [only] => queues > 2 && workload.cpus.len() > 1 && workload.cpus.contains(only),
        _ => false,
    }
}

fn spread_out(nic: &Nic, workload: &Workload) -> Vec<String> {
    let cpus = workload.cpus.iter().cycle();
    let pairs = nic.interrupts.iter().zip(cpus);
    let command =
        |number: usize, cpu: &usize| format!("echo {cpu} > /proc/irq/{number}/smp_affinity_list");
    pairs.map(|(interrupt, cpu)| command(interrupt.number, cpu)).collect()
}

/// Whether the kernel hands packets to the core that reads them where queues are fewer than shards.
pub fn steering(nics: &[Nic], workload: &Workload) -> Vec<Check> {
    let few: Vec<&Nic> = nics.iter().filter(|nic| is_narrow(nic, workload)).collect();
    if few.is_empty() {
        return Vec::new();
    }
    let queues = || few.iter().flat_map(|nic| nic.queues.iter().map(|queue| (*nic, queue)));
    let place = |nic: &Nic, queue: usize| format!("sys/class/net/{}/queues/rx-{queue}", nic.name);
    let mask = mask(&workload.cpus);
    let still = queues().filter(|(_, queue)| queue.steered == Some(false));
    let packets = still.map(|(nic, queue)| Change {
        path: format!("{}/rps_cpus", place(nic, queue.queue)),
        value: mask.clone(),
    });
    let forgetful = queues().filter(|(_, queue)| queue.flows.is_some_and(|flows| flows == 0));
    let flows = forgetful.map(|(nic, queue)| Change {
        path: format!("{}/rps_flow_cnt", place(nic, queue.queue)),
        value: (FLOWS / nic.queues.len() as u64).to_string(),
    });
    let names: Vec<&str> = few.iter().map(|nic| nic.name.as_str()).collect();
    let about = format!("{} has fewer receive queues than there are shards", names.join(", "));
    vec![
        steered("rps", &about, "its queues are handed to the shards' CPUs", packets.collect()),
        steered("rfs", &about, "its queues remember which core reads a flow", flows.collect()),
    ]
}

fn steered(id: &'static str, about: &str, required: &str, changes: Vec<Change>) -> Check {
    let commands = changes.iter().map(|change| format!("echo {} > /{}", change.value, change.path));
    Check {
        id,
        current: format!("{about}; {} queues are not set", changes.len()),
        required: required.into(),
        verdict: Verdict::of(changes.is_empty()),
        severity: Severity::Costs,
        remedy: commands.collect::<Vec<_>>().join("\n"),
        changes,
    }
}

/// Whether `nic` has fewer receive queues than there are shards to serve.
pub fn is_narrow(nic: &Nic, workload: &Workload) -> bool {
    !nic.queues.is_empty() && nic.queues.len() < workload.cpus.len()
}

/// The kernel's mask of `cpus`: groups of 32 bits in hexadecimal, the highest first.
fn mask(cpus: &[usize]) -> String {
    let groups = cpus.iter().max().map_or(1, |largest| largest / 32 + 1);
    let mut words = vec![0_u32; groups];
    for cpu in cpus {
        words[cpu / 32] |= 1 << (cpu % 32);
    }
    let mut texts: Vec<String> = words.iter().rev().map(|word| format!("{word:08x}")).collect();
    let first = texts[0].trim_start_matches('0');
    texts[0] = if first.is_empty() { "0".into() } else { first.into() };
    texts.join(",")
}

/// What the kernel does against faults of the CPUs; each costs system calls some time.
pub fn mitigations(root: &Path) -> Check {
    let directory = root.join("sys/devices/system/cpu/vulnerabilities");
    let names = tree::names(&directory);
    let state = |word: &str| -> Vec<&str> {
        let begins = |name: &&String| {
            tree::text(&directory.join(name)).is_some_and(|text| text.starts_with(word))
        };
        names.iter().filter(begins).map(String::as_str).collect()
    };
    let (active, open) = (state("Mitigation"), state("Vulnerable"));
    let named = |names: &[&str]| if names.is_empty() { "none".into() } else { names.join(", ") };
    Check {
        id: "mitigations",
        current: format!("active: {}; vulnerable: {}", named(&active), named(&open)),
        required: "for information; a host that others share needs them".into(),
        verdict: if names.is_empty() { Verdict::Unknown } else { Verdict::Met },
        severity: Severity::Tells,
        remedy: String::new(),
        changes: Vec::new(),
    }
}
