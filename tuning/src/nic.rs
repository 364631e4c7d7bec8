//! Network devices: where their interrupts go, and how the kernel spreads what they receive.
//!
//! Invariants worth naming:
//! * only devices of hardware (also virtual hardware) count: loopback, bridges and tunnels raise no
//!   interrupts of their own.

use crate::tree;
use std::fs;
use std::path::Path;

/// One interrupt of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interrupt {
    /// The kernel's number of the interrupt.
    pub number: usize,
    /// What the driver calls it, such as `eth0-rx-3`.
    pub name: String,
    /// The CPUs that may take it; empty if the kernel does not tell.
    pub cpus: Vec<usize>,
}

/// One receive queue of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiveQueue {
    /// Its number.
    pub queue: usize,
    /// Whether receive packet steering hands its packets to chosen CPUs; `None` if unknown.
    pub steered: Option<bool>,
    /// Flows that receive flow steering remembers for it; `None` if unknown.
    pub flows: Option<u64>,
}

/// One network device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nic {
    /// Its name, such as `eth0`.
    pub name: String,
    /// The NUMA node that it is attached to, if it is to one.
    pub node: Option<usize>,
    /// Its interrupts.
    pub interrupts: Vec<Interrupt>,
    /// Its receive queues.
    pub queues: Vec<ReceiveQueue>,
}

impl Nic {
    /// Reads the network devices of the host whose files stand below `root`.
    pub fn read_all(root: &Path) -> Vec<Nic> {
        let directory = root.join("sys/class/net");
        let interrupts = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
        let names = tree::names(&directory).into_iter();
        let physical = names.filter(|name| directory.join(name).join("device").exists());
        physical.map(|name| Nic::read(root, name, &interrupts)).collect()
    }

    fn read(root: &Path, name: String, interrupts: &str) -> Nic {
        let place = root.join("sys/class/net").join(&name);
        let node = tree::number::<i64>(&place.join("device/numa_node"));
        let queue = |(queue, path): (usize, std::path::PathBuf)| ReceiveQueue {
            queue,
            steered: tree::text(&path.join("rps_cpus")).map(|mask| mask.contains(is_set)),
            flows: tree::number(&path.join("rps_flow_cnt")),
        };
        let queues = tree::numbered(&place.join("queues"), "rx-").into_iter().map(queue).collect();
        let numbers = own_interrupts(&place, &name, interrupts);
        let found = interrupts.lines().filter_map(|line| interrupt(root, line));
        let found = found.filter(|interrupt| numbers.contains(&interrupt.number));
        Nic {
            node: node.and_then(|node| node.try_into().ok()),
            interrupts: found.collect(),
            queues,
            name,
        }
    }

    /// Every CPU that may take an interrupt of the device, in ascending order.
    pub fn interrupt_cpus(&self) -> Vec<usize> {
        let cpus = self.interrupts.iter().flat_map(|interrupt| interrupt.cpus.iter().copied());
        cpus.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}

fn is_set(digit: char) -> bool {
    matches!(digit, '1'..='9' | 'a'..='f')
}

/// Numbers of the interrupts that belong to the device at `place`: those that its bus lists, and
/// those that carry its name or that of the virtio device behind it.
fn own_interrupts(place: &Path, name: &str, interrupts: &str) -> Vec<usize> {
    let listed = ["device/msi_irqs", "device/../msi_irqs"];
    let listed = listed.iter().flat_map(|at| tree::names(&place.join(at)));
    let mut numbers: Vec<usize> = listed.filter_map(|name| name.parse().ok()).collect();
    let device = fs::read_link(place.join("device")).ok();
    let device = device.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let owners = [Some(name), device];
    for (number, label) in interrupts.lines().filter_map(labelled) {
        let own = owners.iter().flatten().any(|owner| is_of(label, owner));
        if own && !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}

/// Whether an interrupt called `label` is one of the device `owner`: `eth0`, `eth0-rx-1`,
/// `ena-mgmnt@…` are; `eth01` is none of `eth0`.
fn is_of(label: &str, owner: &str) -> bool {
    let rest = label.strip_prefix(owner);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
}

/// Number and label of a line of `/proc/interrupts`; `None` for the head and for the kernel's own.
fn labelled(line: &str) -> Option<(usize, &str)> {
    let (number, rest) = line.trim_start().split_once(':')?;
    Some((number.parse().ok()?, rest.split_whitespace().next_back()?))
}

fn interrupt(root: &Path, line: &str) -> Option<Interrupt> {
    let (number, label) = labelled(line)?;
    let place = root.join(format!("proc/irq/{number}"));
    // The effective list names the CPUs that the hardware took of those that it was offered.
    let lists = ["effective_affinity_list", "smp_affinity_list"];
    let mut lists = lists.iter().map(|name| tree::list(&place.join(name)));
    let cpus = lists.find_map(|list| list.ok().flatten().filter(|cpus| !cpus.is_empty()));
    Some(Interrupt { number, name: label.into(), cpus: cpus.unwrap_or_default() })
}
