//! Times the kernels: in and out of a core's cache, with each instruction set, on one thread and
//! on all. `cargo bench --bench kernels -- sample` times those whose name holds the word.

mod cases;

use std::time::Duration;

use cases::{Amount, Case, Size};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use geotessera_core::threads;

fn throughput(amount: Amount) -> Throughput {
    match amount {
        Amount::Bytes(count) => Throughput::Bytes(count as u64),
        Amount::Elements(count) => Throughput::Elements(count as u64),
    }
}

fn time(c: &mut Criterion, name: &str, case: &Case) {
    let mut group = c.benchmark_group("kernels");
    group.throughput(throughput(case.amount));
    // Made when its turn comes, and once: a filter leaves most of them out.
    let mut call = None;
    group.bench_function(name, |b| {
        let call = call.get_or_insert_with(|| (case.prepare)());
        b.iter(call);
    });
    group.finish();
}

fn kernels(c: &mut Criterion) {
    for size in [Size::Small, Size::Tile] {
        for case in cases::all(size) {
            time(c, &case.name, &case);
        }
    }
}

/// How the threads scale, where a cache does not hold the work.
fn scaling(c: &mut Criterion) {
    let most = threads::count().expect("a number of threads");
    let powers = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|&n| n < most);
    for threads in powers.chain([most]).collect::<Vec<_>>() {
        threads::set(threads).expect("a number of threads");
        for case in cases::all(Size::Tile).iter().filter(|case| case.threaded) {
            time(c, &format!("{} on {threads} threads", case.name), case);
        }
    }
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = kernels, scaling
}
criterion_main!(all);
