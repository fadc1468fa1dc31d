//! One point at a time, so that the formulas and not the threads are measured.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use geotessera_core::utm::Utm;

const COUNT: usize = 10_000;

fn benches(c: &mut Criterion) {
    let utm = Utm::new(31, false).unwrap();
    let places: Vec<(f64, f64)> = (0..COUNT)
        .map(|i| {
            (
                (i as f64 * 0.618).fract() * 6.0,
                (i as f64 * 0.414).fract() * 80.0,
            )
        })
        .collect();
    let metres: Vec<(f64, f64)> = places
        .iter()
        .map(|&(lon, lat)| utm.forward(lon, lat))
        .collect();
    let mut group = c.benchmark_group("utm");
    group.throughput(Throughput::Elements(COUNT as u64));
    group.bench_function("forward", |b| {
        b.iter(|| {
            places
                .iter()
                .for_each(|&(lon, lat)| _ = black_box(utm.forward(lon, lat)))
        });
    });
    group.bench_function("inverse", |b| {
        b.iter(|| {
            metres
                .iter()
                .for_each(|&(x, y)| _ = black_box(utm.inverse(x, y)))
        });
    });
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = benches
}
criterion_main!(all);
