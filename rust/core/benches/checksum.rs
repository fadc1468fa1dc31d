//! Digests of a buffer that fits no cache.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use geotessera_core::checksum::{Algorithm, Hasher};

fn benches(c: &mut Criterion) {
    let data: Vec<u8> = (0..64usize << 20).map(|i| (i * 31) as u8).collect();
    let mut group = c.benchmark_group("checksum");
    group
        .throughput(Throughput::Bytes(data.len() as u64))
        .sample_size(10);
    for (name, algorithms) in [
        ("sha256", &[Algorithm::Sha256][..]),
        ("md5", &[Algorithm::Md5]),
        ("xxh128", &[Algorithm::Xxh128]),
        ("both", &[Algorithm::Sha256, Algorithm::Md5]),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut hasher = Hasher::new(algorithms);
                hasher.update(&data);
                black_box(hasher.hexdigests())
            });
        });
    }
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = benches
}
criterion_main!(all);
