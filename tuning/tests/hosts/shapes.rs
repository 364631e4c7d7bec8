//! Topology and plans on trees of the shapes of real machines.

use super::machine::{Host, hybrid_laptop, large_dual_socket, single_socket};
use super::{cpus_of, laptop, request};
use corelane_tuning::picture::{self, Ownership};
use corelane_tuning::placement::{CpuRequest, Part, PlacementRequest, plan};
use corelane_tuning::{cgroup, memory, profile};
use std::fs;

/// A network device with one interrupt for each of `cpus`, from number 100 on.
pub fn with_nic(host: Host, name: &str, cpus: &[usize]) -> Host {
    let mut table = "           CPU0       CPU1\n".to_owned();
    host.write(&format!("sys/class/net/{name}/device/vendor"), "0x8086");
    for (queue, cpu) in cpus.iter().enumerate() {
        let number = 100 + queue;
        table += &format!(
            " {number}:   12   0  PCI-MSIX-0000:3b:00.0 {queue}-edge  {name}-rx-{queue}\n"
        );
        host.write(&format!("proc/irq/{number}/smp_affinity_list"), &cpu.to_string());
        let queue = format!("sys/class/net/{name}/queues/rx-{queue}");
        host.write(&format!("{queue}/rps_cpus"), "00000000");
        host.write(&format!("{queue}/rps_flow_cnt"), "0");
    }
    host.write("proc/interrupts", &(table + " LOC:  5  5  Local timer interrupts"));
    host.write("sys/class/net/lo/address", "00:00:00:00:00:00");
    host
}

#[test]
fn a_hybrid_laptop_has_two_kinds_of_cores() {
    let topology = hybrid_laptop("hybrid").topology();
    assert_eq!(topology.cpus.len(), 16);
    let fast = topology.cpu(3).expect("online");
    assert_eq!(
        (fast.efficient, &fast.siblings[..], &fast.near_cache[..]),
        (false, &[2, 3][..], &[2, 3][..])
    );
    let slow = topology.cpu(13).expect("online");
    assert_eq!((slow.efficient, &slow.siblings[..]), (true, &[13][..]));
    assert_eq!(slow.near_cache, [12, 13, 14, 15], "four slow cores share an L2 cache");
    assert_eq!(topology.allowed_cores(), 12);
    let asked = PlacementRequest { no_smt: true, ..request(CpuRequest::Auto, Some(6)) };
    let plan = plan(&asked, &topology).expect("it fits");
    assert_eq!(cpus_of(&plan.shards), [0, 2, 4, 6, 8, 9], "fast cores first");
    assert_eq!(plan.notes, ["CPUs 8-9 are slower cores (E); their shards carry as much"]);
    assert!(picture::draw(&topology, &plan).contains("[cpu 8   shard-4 E"));
}

#[test]
fn capacities_tell_slow_cores_where_no_list_does() {
    let host = single_socket("capacity", 4, 0);
    for (cpu, capacity) in [(0, "1024"), (1, "1009"), (2, "446"), (3, "446")] {
        host.write(&format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity"), capacity);
    }
    let topology = host.topology();
    let slow: Vec<usize> = topology.cpus.iter().filter(|c| c.efficient).map(|c| c.id).collect();
    assert_eq!(slow, [2, 3]);
}

#[test]
fn a_large_dual_socket_host_is_planned_by_node_and_core() {
    let topology = large_dual_socket("large-dual").topology();
    assert_eq!((topology.cpus.len(), topology.allowed_cores()), (128, 64));
    let cpu = topology.cpu(105).expect("online");
    assert_eq!((cpu.package, cpu.node, &cpu.siblings[..]), (1, 1, &[41, 105][..]));
    assert_eq!(cpu.cache, [40, 41, 42, 43, 44, 45, 46, 47, 104, 105, 106, 107, 108, 109, 110, 111]);
    let asked = PlacementRequest {
        no_smt: true,
        housekeeping: vec![32, 33],
        ..request(CpuRequest::Numa(vec![1]), None)
    };
    let node = plan(&asked, &topology).expect("it fits");
    // The second threads of the cores kept free are kept free as well.
    let expected: Vec<usize> = (34..64).collect();
    assert_eq!(cpus_of(&node.shards), expected);
    let both = plan(&request(CpuRequest::Numa(vec![1, 0]), Some(64)), &topology).expect("it fits");
    let expected: Vec<usize> = (32..64).chain(0..32).collect();
    assert_eq!(cpus_of(&both.shards), expected, "nodes in the order asked for, whole cores first");
    assert!(both.notes[0].contains("NUMA nodes 0-1"), "{:?}", both.notes);
}

#[test]
fn refusals_say_which_part_is_at_fault() {
    let topology = laptop("parts", "0-7").topology();
    let refused = |asked: PlacementRequest| {
        let error = plan(&asked, &topology).expect_err("refused");
        (error.part, error.to_string())
    };
    let list = |cpus| request(CpuRequest::List(cpus), None);
    let (part, text) = refused(PlacementRequest { no_smt: true, ..list(vec![0, 1, 4, 5]) });
    assert_eq!(part, Part::NoSmt);
    assert_eq!(text, "CPU 1 shares its core with another CPU of the list; leave out 1,5");
    let (part, text) = refused(request(CpuRequest::Numa(vec![3]), None));
    assert_eq!((part, text), (Part::Cpus, "there is no NUMA node 3; this host has 0".into()));
    let all =
        PlacementRequest { housekeeping: (0..8).collect(), ..request(CpuRequest::Auto, None) };
    let (part, text) = refused(all);
    assert_eq!(part, Part::Housekeeping);
    assert!(text.starts_with("no CPU is left beside those for housekeeping"), "{text}");
    let absent = PlacementRequest { housekeeping: vec![40], ..request(CpuRequest::Auto, None) };
    assert_eq!(refused(absent).0, Part::Housekeeping);
    assert_eq!(refused(request(CpuRequest::Auto, Some(65))).0, Part::Shards);
}

#[test]
fn isolated_cpus_are_used_when_they_are_named() {
    let host = single_socket("isolated", 8, 0);
    host.write("proc/self/status", "Cpus_allowed_list:\t0-1");
    host.write("sys/devices/system/cpu/isolated", "2-7");
    host.write("sys/devices/system/cpu/nohz_full", "(null)");
    let topology = host.topology();
    let auto = plan(&request(CpuRequest::Auto, None), &topology).expect("it fits");
    assert_eq!(cpus_of(&auto.shards), [0, 1]);
    assert_eq!(auto.notes, ["CPUs 2-7 are isolated by the kernel; a list of CPUs may use them"]);
    let named = plan(&request(CpuRequest::List(vec![2, 3]), None), &topology).expect("it fits");
    assert_eq!(cpus_of(&named.shards), [2, 3]);
    host.write("proc/self/cgroup", "0::/box");
    host.write("sys/fs/cgroup/box/cpuset.cpus.effective", "0-3");
    let confined = host.topology();
    assert_eq!(confined.cpuset, Some(vec![0, 1, 2, 3]));
    let error = plan(&request(CpuRequest::List(vec![4]), None), &confined).expect_err("outside");
    assert!(error.to_string().contains("its cgroup's cpuset leaves it out"), "{error}");
}

#[test]
fn interrupts_of_network_devices_are_found() {
    let host = with_nic(single_socket("nic", 4, 0), "eth0", &[0, 1, 1]);
    host.write("sys/class/net/eth0/device/numa_node", "1");
    let topology = host.topology();
    let [nic] = topology.nics.as_slice() else { panic!("lo is no device: {:?}", topology.nics) };
    assert_eq!((nic.name.as_str(), nic.node, nic.interrupt_cpus()), ("eth0", Some(1), vec![0, 1]));
    let named: Vec<_> = nic.interrupts.iter().map(|i| (i.number, i.name.as_str())).collect();
    assert_eq!(named, [(100, "eth0-rx-0"), (101, "eth0-rx-1"), (102, "eth0-rx-2")]);
    assert_eq!(
        (nic.queues.len(), nic.queues[0].steered, nic.queues[0].flows),
        (3, Some(false), Some(0))
    );
    let plan = plan(&request(CpuRequest::Auto, None), &topology).expect("it fits");
    assert_eq!(plan.notes, ["eth0 is attached to NUMA node 1, no shard is"]);
    let picture = picture::draw(&topology, &plan);
    assert!(
        picture.contains("eth0 on NUMA node 1: 3 receive queues, 3 interrupts on CPUs 0-1\n"),
        "{picture}"
    );
}

#[test]
fn interrupts_of_a_virtio_device_carry_the_name_of_its_bus() {
    let host = single_socket("virtio", 2, 0);
    host.write("sys/devices/pci0/virtio3/vendor", "0x1af4");
    host.write("sys/class/net/eth0/address", "52:54:00:00:00:01");
    let device = host.root.join("sys/class/net/eth0/device");
    std::os::unix::fs::symlink("../../../devices/pci0/virtio3", device).expect("writable");
    host.write(
        "proc/interrupts",
        " 38: 9 9 PCI-MSIX 1-edge virtio3-input.0\n 40: 9 9 PCI-MSIX 1-edge virtio31-input.0",
    );
    host.write("proc/irq/38/smp_affinity_list", "1");
    host.write("proc/irq/40/smp_affinity_list", "0");
    assert_eq!(host.topology().nics[0].interrupt_cpus(), [1], "virtio31 is another device");
}

#[test]
fn groups_of_both_versions_are_read() {
    let host = Host::new("groups", "0-3", "0-3");
    host.write("proc/self/cgroup", "4:cpu,cpuacct:/box\n3:memory:/box\n2:cpuset:/\n0::/");
    host.write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "150000");
    host.write("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000");
    host.write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "4096");
    host.write("proc/meminfo", "MemTotal: 16 kB");
    assert_eq!(cgroup::cpu_quota(&host.root), Some(1.5));
    assert_eq!(memory::usable(&host.root), Some(4096));
    host.write("proc/self/cgroup", "0::/outer/inner");
    host.write("sys/fs/cgroup/outer/inner/cpu.max", "max 100000");
    assert_eq!(cgroup::cpu_quota(&host.root), None);
    host.write("sys/fs/cgroup/outer/cpu.max", "50000 100000");
    assert_eq!(cgroup::cpu_quota(&host.root), Some(0.5), "the outer group bounds the inner");
}

#[test]
fn ownership_is_drawn_and_told_to_programs() {
    let topology = single_socket("owned", 2, 0).topology();
    let plan = plan(&request(CpuRequest::Auto, None), &topology).expect("it fits");
    let rows = [("listener tcp", vec![0, 1]), ("topics plant/#", vec![1])];
    let rows = rows.map(|(what, shards)| (what.to_owned(), shards));
    let ownership = Ownership { rows: rows.to_vec() };
    assert_eq!(
        picture::draw_ownership(&plan, &ownership),
        "\
what is where
  shard-0   cpu 0     listener tcp
  shard-1   cpu 1     listener tcp, topics plant/#
  clients and topics without a rule are spread over all shards by a keyed hash
"
    );
    let value = picture::as_json(&topology, &plan, &ownership);
    assert_eq!(value["shards"][1]["owns"][1], "topics plant/#");
    assert_eq!(value["cpus"][1]["shards"][0], 1);
}

#[test]
fn each_shape_is_proposed_its_profile() {
    let name = |host: &Host| profile::proposed(&host.root, &host.topology()).0.name;
    assert_eq!(name(&hybrid_laptop("propose-laptop")), "laptop");
    assert_eq!(name(&large_dual_socket("propose-dual")), "dual-socket");
    for (cores, second, expected) in [
        (2, 0, "two-core-vm"),
        (4, 4, "eight-core-vm"),
        (8, 0, "eight-core-vm"),
        (16, 16, "sixteen-core"),
        (32, 0, "thirty-two-core"),
        (64, 64, "sixty-four-core"),
    ] {
        let host = single_socket(&format!("propose-{cores}-{second}"), cores, second);
        assert_eq!(name(&host), expected);
    }
    let half = large_dual_socket("propose-half");
    let text = "Cpus_allowed_list:\t0-31,64-95";
    fs::write(half.root.join("proc/self/status"), text).expect("writable");
    assert_eq!(name(&half), "thirty-two-core", "one node of two is allowed");
}
