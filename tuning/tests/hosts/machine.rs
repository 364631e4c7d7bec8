//! Trees of files with `sys` and `proc` as hosts of several shapes show them, made from tables.

use super::Topology;
use std::fs;
use std::path::PathBuf;

/// A tree with `sys` and `proc` as a host of some shape shows them; removed when dropped.
pub struct Host {
    /// Where the tree begins.
    pub root: PathBuf,
}

impl Host {
    pub fn new(name: &str, online: &str, allowed: &str) -> Host {
        let root = std::env::temp_dir().join(format!("corelane-{}-{name}", std::process::id()));
        let host = Host { root };
        host.write("sys/devices/system/cpu/online", online);
        host.write("proc/self/status", &format!("Name:\tx\nCpus_allowed_list:\t{allowed}\n"));
        host
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("writable");
        fs::write(path, format!("{text}\n")).expect("the temporary directory is writable");
    }

    pub fn cpu(self, id: usize, package: usize, core: usize, siblings: &str, cache: &str) -> Host {
        let directory = format!("sys/devices/system/cpu/cpu{id}");
        self.write(&format!("{directory}/topology/physical_package_id"), &package.to_string());
        self.write(&format!("{directory}/topology/core_id"), &core.to_string());
        self.write(&format!("{directory}/topology/thread_siblings_list"), siblings);
        self.write(&format!("{directory}/cache/index0/level"), "1");
        self.write(&format!("{directory}/cache/index0/shared_cpu_list"), siblings);
        self.write(&format!("{directory}/cache/index3/level"), "3");
        self.write(&format!("{directory}/cache/index3/shared_cpu_list"), cache);
        self
    }

    pub fn node(self, node: usize, cpus: &str) -> Host {
        self.write(&format!("sys/devices/system/node/node{node}/cpulist"), cpus);
        self
    }

    pub fn topology(&self) -> Topology {
        Topology::read(&self.root).expect("the tree is complete")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The cores of one kind within a host, as one row of a table.
#[derive(Clone, Copy)]
pub struct Row {
    /// First CPU of the row, and how many cores there are.
    pub first: usize,
    /// Cores in the row.
    pub cores: usize,
    /// Distance of the second thread of each core; 0 where there is none.
    pub second: usize,
    /// Distance between the CPUs of two neighbouring cores.
    pub step: usize,
    /// Package, which is its NUMA node too.
    pub package: usize,
    /// Cores that share an L2 cache, and an L3 cache.
    pub shared: (usize, usize),
}

impl Row {
    fn cpus(&self, cores: std::ops::Range<usize>) -> Vec<usize> {
        let first = |core: usize| self.first + core * self.step;
        let mut cpus: Vec<usize> = cores.clone().map(first).collect();
        if self.second > 0 {
            cpus.extend(cores.map(|core| first(core) + self.second));
        }
        cpus.sort_unstable();
        cpus
    }

    fn group(&self, core: usize, size: usize) -> String {
        let first = core / size * size;
        listed(&self.cpus(first..(first + size).min(self.cores)))
    }
}

fn listed(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// A host made of `rows`, which allows its CPUs to the process as `allowed` says.
pub fn host(name: &str, rows: &[Row], allowed: &str) -> Host {
    let all: Vec<usize> = rows.iter().flat_map(|row| row.cpus(0..row.cores)).collect();
    let mut host = Host::new(name, &listed(&all), allowed);
    for row in rows {
        for core in 0..row.cores {
            let siblings = row.cpus(core..core + 1);
            for cpu in &siblings {
                let l3 = row.group(core, row.shared.1);
                host = host.cpu(*cpu, row.package, row.first + core, &listed(&siblings), &l3);
                let cache = format!("sys/devices/system/cpu/cpu{cpu}/cache/index2");
                host.write(&format!("{cache}/level"), "2");
                host.write(&format!("{cache}/shared_cpu_list"), &row.group(core, row.shared.0));
            }
        }
    }
    for package in 0..=rows.iter().map(|row| row.package).max().unwrap_or(0) {
        let own = rows.iter().filter(|row| row.package == package);
        let cpus: Vec<usize> = own.flat_map(|row| row.cpus(0..row.cores)).collect();
        host = host.node(package, &listed(&cpus));
    }
    host
}

/// Four fast cores with two threads each, eight slow ones in two clusters, a battery.
pub fn hybrid_laptop(name: &str) -> Host {
    let fast = Row { first: 0, cores: 4, second: 1, step: 2, package: 0, shared: (1, 4) };
    let slow = Row { first: 8, cores: 8, second: 0, step: 1, package: 0, shared: (4, 8) };
    let host = host(name, &[fast, slow], "0-15");
    host.write("sys/devices/cpu_atom/cpus", "8-15");
    host.write("sys/class/power_supply/BAT0/type", "Battery");
    host.write("sys/class/power_supply/hid-mouse/type", "Battery");
    host.write("sys/class/power_supply/hid-mouse/scope", "Device");
    host
}

/// One package of `cores` cores, without a second thread where `second` is 0.
pub fn single_socket(name: &str, cores: usize, second: usize) -> Host {
    let shared = (1, 8.min(cores));
    let row = Row { first: 0, cores, second, step: 1, package: 0, shared };
    let last = cores + second - 1;
    host(name, &[row], &format!("0-{last}"))
}

/// Two packages of 32 cores with two threads each; the second threads are numbered behind all
/// first ones, and eight cores share an L3 cache.
pub fn large_dual_socket(name: &str) -> Host {
    let row = |package: usize| Row {
        first: package * 32,
        cores: 32,
        second: 64,
        step: 1,
        package,
        shared: (1, 8),
    };
    host(name, &[row(0), row(1)], "0-127")
}
