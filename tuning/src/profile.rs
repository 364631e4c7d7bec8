//! Configurations for hosts of known shapes, and which of them fits a host.
//!
//! Invariants worth naming:
//! * a profile says nothing about listeners: who uses one adds its own.

use crate::topology::Topology;
use crate::tree;
use std::path::Path;

/// A shipped configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile {
    /// What it is asked for by.
    pub name: &'static str,
    /// Its TOML text, each key with its reason.
    pub text: &'static str,
    /// Whether power counts for more than latency.
    pub frugal: bool,
}

macro_rules! profiles {
    ($($name:literal, $frugal:literal;)+) => {
        &[$(Profile {
            name: $name,
            text: include_str!(concat!("../profiles/", $name, ".toml")),
            frugal: $frugal,
        }),+]
    };
}

/// Every profile; the last two are for aims, the others for hosts.
pub const PROFILES: &[Profile] = profiles![
    "laptop", true;
    "two-core-vm", false;
    "eight-core-vm", false;
    "sixteen-core", false;
    "thirty-two-core", false;
    "sixty-four-core", false;
    "dual-socket", false;
    "low-latency", false;
    "power-saving", true;
];

/// The profile called `name`.
pub fn named(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

/// The profile that fits the host below `root`, and why.
pub fn proposed(root: &Path, topology: &Topology) -> (&'static Profile, String) {
    let (name, why) = fitting(root, topology);
    (named(name).expect("every name given here is a profile's"), why)
}

fn fitting(root: &Path, topology: &Topology) -> (&'static str, String) {
    let cores = topology.allowed_cores();
    let usable = topology.cpus.iter().filter(|cpu| cpu.allowed);
    let nodes: std::collections::BTreeSet<usize> = usable.map(|cpu| cpu.node).collect();
    let cpus = topology.allowed().len();
    if nodes.len() > 1 {
        return ("dual-socket", format!("the usable CPUs span {} NUMA nodes", nodes.len()));
    }
    if has_battery(root) {
        return ("laptop", "the host has a battery".into());
    }
    let why = format!("{cpus} usable CPUs on {cores} cores");
    let name = match (cpus, cores) {
        (..=3, _) => "two-core-vm",
        (_, ..=11) => "eight-core-vm",
        (_, ..=23) => "sixteen-core",
        (_, ..=47) => "thirty-two-core",
        _ => "sixty-four-core",
    };
    (name, why)
}

fn has_battery(root: &Path) -> bool {
    let directory = root.join("sys/class/power_supply");
    let supply = |name: &String| -> bool {
        let place = directory.join(name);
        // Mice and keyboards have batteries too; theirs say that they belong to a device.
        let own = tree::text(&place.join("scope")).is_none_or(|scope| scope != "Device");
        own && tree::text(&place.join("type")).is_some_and(|kind| kind == "Battery")
    };
    tree::names(&directory).iter().any(supply)
}
