//! Topology, placement and picture on hosts of several shapes, each a tree of files.

mod machine;
mod mending;
mod shapes;

use corelane_tuning::host::{Facts, Needs, Severity, Verdict, checks};
use corelane_tuning::placement::{CpuRequest, PlacementRequest, ShardPlace, plan};
use corelane_tuning::topology::Topology;
use corelane_tuning::{cpulist, memory, picture};
use machine::Host;
use std::fs;

/// Four cores with two threads each; siblings are neighbours.
fn laptop(name: &str, allowed: &str) -> Host {
    let host = Host::new(name, "0-7", allowed).node(0, "0-7");
    (0..8).fold(host, |host, id| {
        let first = id / 2 * 2;
        host.cpu(id, 0, id / 2, &format!("{first}-{}", first + 1), "0-7")
    })
}

fn dual_socket(name: &str) -> Host {
    let host = Host::new(name, "0-7", "0-7").node(0, "0-3").node(1, "4-7");
    (0..8).fold(host, |host, id| {
        let cache = if id < 4 { "0-3" } else { "4-7" };
        host.cpu(id, id / 4, id % 4, &id.to_string(), cache)
    })
}

fn request(cpus: CpuRequest, shards: Option<usize>) -> PlacementRequest {
    PlacementRequest { cpus, no_smt: false, housekeeping: vec![], shards, pin: true }
}

/// The CPUs of the shards in order.
fn cpus_of(places: &[ShardPlace]) -> Vec<usize> {
    assert!(places.iter().enumerate().all(|(at, place)| place.shard == at));
    places.iter().filter_map(|place| place.cpu).collect()
}

#[test]
fn lists_read_and_write() {
    for (text, cpus) in [("", vec![]), ("0", vec![0]), ("0,2-5\n", vec![0, 2, 3, 4, 5])] {
        assert_eq!(cpulist::parse(text), Ok(cpus.clone()));
        assert_eq!(cpulist::show(&cpus), text.trim());
    }
    assert_eq!(cpulist::show(&[3, 1, 2]), "3,1-2");
    for wrong in ["a", "3-1", "1,,2", "-", "99999"] {
        assert!(cpulist::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn laptop_takes_every_thread_and_says_so() {
    let topology = laptop("laptop", "0-7").topology();
    assert_eq!(topology.cpu(5).expect("online").siblings, [4, 5]);
    assert_eq!(topology.cpu(5).expect("online").core, 2);
    let plan = plan(&request(CpuRequest::Auto, None), &topology).expect("it fits");
    assert_eq!(cpus_of(&plan.shards), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(plan.notes, ["CPUs 1,3,5,7 share their cores with other shards (SMT)"]);
}

#[test]
fn fewer_shards_get_cores_of_their_own() {
    let topology = laptop("spread", "0-7").topology();
    let plan = plan(&request(CpuRequest::Auto, Some(3)), &topology).expect("it fits");
    assert_eq!(cpus_of(&plan.shards), [0, 2, 4]);
    assert!(plan.notes.is_empty());
}

#[test]
fn more_shards_than_cpus_share_in_rotation() {
    let host = Host::new("vm", "0-1", "0-1").cpu(0, 0, 0, "0", "0-1").cpu(1, 0, 1, "1", "0-1");
    let topology = host.topology();
    let plan = plan(&request(CpuRequest::Auto, Some(5)), &topology).expect("it fits");
    assert_eq!(cpus_of(&plan.shards), [0, 1, 0, 1, 0]);
    assert_eq!(plan.notes, ["5 shards share the CPUs 0-1 in rotation"]);
    let picture = picture::draw(&topology, &plan);
    assert_eq!(
        picture,
        "\
package 0
  NUMA node 0
    L3 cache of CPUs 0-1
      core 0   [cpu 0   shard-0+shard-2+shard-4]
      core 1   [cpu 1   shard-1+shard-3]
note: 5 shards share the CPUs 0-1 in rotation
"
    );
}

#[test]
fn dual_socket_shows_both_nodes() {
    let topology = dual_socket("dual").topology();
    assert_eq!(topology.cpu(6).map(|cpu| (cpu.package, cpu.node, cpu.core)), Some((1, 1, 2)));
    let list = CpuRequest::List(vec![4, 0]);
    let plan = plan(&request(list, None), &topology).expect("it fits");
    assert_eq!(cpus_of(&plan.shards), [4, 0]);
    assert!(plan.notes[0].contains("NUMA nodes 0-1"), "{:?}", plan.notes);
    let picture = picture::draw(&topology, &plan);
    assert!(picture.contains("package 1\n  NUMA node 1\n    L3 cache of CPUs 4-7\n"), "{picture}");
    assert!(picture.contains("core 0   [cpu 4   shard-0  ]"), "{picture}");
    assert!(picture.contains("core 1   [cpu 5   -        ]"), "{picture}");
}

#[test]
fn cpuset_limits_what_may_be_asked_for() {
    let topology = laptop("cpuset", "2-3").topology();
    let auto = plan(&request(CpuRequest::Auto, None), &topology).expect("it fits");
    assert_eq!(cpus_of(&auto.shards), [2, 3]);
    assert!(picture::draw(&topology, &auto).contains("[cpu 0   (not allowed)]"));
    let error = |cpus: Vec<usize>, shards| {
        plan(&request(CpuRequest::List(cpus), shards), &topology).expect_err("refused").to_string()
    };
    assert_eq!(
        error(vec![2, 4], None),
        "CPU 4 is not allowed to this process: its affinity or its cgroup's cpuset leaves it out; \
         this process may use 2-3"
    );
    assert_eq!(error(vec![9], None), "CPU 9 is not online; this process may use 2-3");
    assert_eq!(error(vec![2], Some(65)), "65 shards are out of range; use 1..=64");
    assert_eq!(error(vec![], None), "no CPU is left to run on; this process may use 2-3");
}

#[test]
fn unbound_shards_name_no_cpu() {
    let topology = laptop("unbound", "0-7").topology();
    let request = PlacementRequest { pin: false, ..request(CpuRequest::Auto, None) };
    let plan = plan(&request, &topology).expect("it fits");
    assert_eq!(plan.shards.len(), 8);
    assert!(cpus_of(&plan.shards).is_empty());
    assert!(picture::draw(&topology, &plan).contains("8 shards, not bound to CPUs"));
}

#[test]
fn a_host_larger_than_the_broker_keeps_cpus_free() {
    let topology = Host::new("large", "0-95", "0-95").topology();
    let plan = plan(&request(CpuRequest::Auto, None), &topology).expect("it fits");
    assert_eq!(plan.shards.len(), 64);
    assert_eq!(plan.notes, ["32 CPUs stay free: at most 64 shards"]);
}

#[test]
fn a_host_without_sysfs_is_read_from_its_status() {
    let host = Host::new("bare", "", "0,3");
    fs::remove_file(host.root.join("sys/devices/system/cpu/online")).expect("it was written");
    let topology = host.topology();
    assert_eq!(topology.allowed(), [0, 3]);
    assert_eq!(topology.cpus[1].siblings, [3]);
}

#[test]
fn this_host_can_be_read() {
    let topology = Topology::discover().expect("Linux shows its CPUs");
    assert!(!topology.allowed().is_empty());
    let needs = Needs { open_files: 1, locked_bytes: 0 };
    assert_eq!(checks(&Facts::read("/".as_ref()), needs).len(), 4);
}

#[test]
fn checks_tell_what_is_missing() {
    let good = Facts {
        open_files: Some(1024),
        open_files_most: Some(1_048_576),
        locked_bytes: None,
        release: "6.1.0-13-amd64".into(),
        io_uring_disabled: None,
    };
    let needs = Needs { open_files: 1_000_000, locked_bytes: 1 << 20 };
    assert!(checks(&good, needs).iter().all(|check| check.verdict == Verdict::Met));
    let poor = Facts {
        open_files_most: Some(4096),
        locked_bytes: Some(65_536),
        release: "5.15.0".into(),
        io_uring_disabled: Some(2),
        ..good.clone()
    };
    let failed = checks(&poor, needs);
    assert!(
        failed.iter().all(|check| { check.verdict == Verdict::Unmet && !check.remedy.is_empty() })
    );
    let blocking = failed.iter().filter(|check| check.severity == Severity::Blocks);
    let blocking: Vec<&str> = blocking.map(|check| check.id).collect();
    assert_eq!(blocking, ["kernel-release", "io-uring", "locked-memory"]);
    let restricted = Facts { io_uring_disabled: Some(1), ..good };
    assert_eq!(checks(&restricted, needs)[1].severity, Severity::Limits);
}

#[test]
fn usable_memory_is_the_smallest_limit_of_host_and_groups() {
    let host = Host::new("memory", "0", "0");
    assert_eq!(memory::usable(&host.root), None, "nothing tells");
    host.write("proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB");
    assert_eq!(memory::usable(&host.root), Some(16_384_000_000));
    host.write("proc/self/cgroup", "0::/system.slice/broker.service");
    host.write("sys/fs/cgroup/system.slice/broker.service/memory.max", "max");
    host.write("sys/fs/cgroup/system.slice/memory.max", "1073741824");
    assert_eq!(memory::usable(&host.root), Some(1 << 30), "the slice bounds the service");
    host.write("sys/fs/cgroup/system.slice/broker.service/memory.max", "4096");
    assert_eq!(memory::usable(&host.root), Some(4096));
}
