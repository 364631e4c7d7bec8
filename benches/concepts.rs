//! Times of what runs for every message, by criterion: a mean with its interval, against the last
//! run. The counts of the `cost` bench tell more surely whether a change costs instructions; these
//! tell what they cost on this processor.
//!
//! `cargo bench --bench concepts [-- NAME]` in `benches/`

mod work;

use criterion::{Criterion, Throughput};
use work::WORKLOADS;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("core");
    for work in &WORKLOADS {
        println!("{}: {}", work.name, work.what);
        group.throughput(Throughput::Elements(work.operations as u64));
        group.bench_function(work.name, |bencher| {
            let mut round = (work.begin)();
            bencher.iter(&mut round);
        });
    }
    group.finish();
    criterion.final_summary();
}
