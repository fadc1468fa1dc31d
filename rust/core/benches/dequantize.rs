//! Dequantise in and out of cache, by instruction set and layout.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use geotessera_core::dequantize::{How, Level, dequantize_with};
use geotessera_core::view::{View2, View3, ViewMut};

fn bench(c: &mut Criterion) {
    // 2 MiB of output stays in a core's cache; a tile's 394 MB do not.
    for (place, shape @ [rows, cols, bands]) in
        [("cache", [64, 64, 128]), ("memory", [1115, 690, 128])]
    {
        let n = rows * cols * bands;
        let q: Vec<i8> = (0..n).map(|i| (i * 31) as i8).collect();
        let scales: Vec<f32> = (0..rows * cols).map(|i| 0.01 + i as f32 * 1e-7).collect();
        let mut out = vec![MaybeUninit::new(0f32); n];
        let s = View2::new("scales", &scales, [rows, cols])
            .unwrap()
            .stretch("s", bands)
            .unwrap();
        let hwc = View3::new("q", &q, shape).unwrap();
        let chw = View3::new("q", &q, [bands, rows, cols])
            .unwrap()
            .permute([1, 2, 0]);
        let mut group = c.benchmark_group(format!("dequantize/{place}"));
        group.sample_size(10);
        group
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        group.throughput(Throughput::Bytes(5 * n as u64));
        let ways = Level::available()
            .into_iter()
            .flat_map(|level| [Some(false), Some(true)].map(|stream| How { level, stream }));
        for how in ways {
            let stores = if how.stream == Some(true) {
                "streamed"
            } else {
                "cached"
            };
            for (name, from, to_chw) in [
                ("hwc", hwc, false),
                ("chw", chw, true),
                ("hwc-to-chw", hwc, true),
                ("chw-to-hwc", chw, false),
            ] {
                group.bench_function(format!("{name}/{}/{stores}", how.level.name()), |b| {
                    b.iter(|| {
                        let out = if to_chw {
                            let made = ViewMut::new("out", &mut out, [bands, rows, cols]).unwrap();
                            made.permute([1, 2, 0])
                        } else {
                            ViewMut::new("out", &mut out, shape).unwrap()
                        };
                        dequantize_with(how, black_box(from), black_box(s), None, out).unwrap();
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
