//! Sampling a tile of the usual size at scattered points.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use geotessera_core::grid::{Grid, PixelRule};
use geotessera_core::resample::Method;
use geotessera_core::sample::{Outputs, Sampler};
use geotessera_core::tiles::group_by_tile;
use geotessera_core::view::{Pixels, View, ViewMut};

const SHAPE: [usize; 3] = [1140, 728, 128];
const COUNT: usize = 200_000;

/// Numbers in [0, 1) that look random.
fn noise(count: usize) -> Vec<f64> {
    (1..=count)
        .map(|i| (i as f64 * 0.618_033_988_749_894_9 * 7919.0).fract())
        .collect()
}

fn benches(c: &mut Criterion) {
    let q: Vec<i8> = (0..SHAPE.iter().product::<usize>())
        .map(|i| i as i8)
        .collect();
    let scales = vec![0.06f32; SHAPE[0] * SHAPE[1]];
    let mut points = noise(2 * COUNT);
    for point in points.chunks_exact_mut(2) {
        point[0] *= SHAPE[1] as f64;
        point[1] *= -(SHAPE[0] as f64);
    }
    let mut values = vec![MaybeUninit::uninit(); COUNT * SHAPE[2]];
    let mut codes = vec![MaybeUninit::uninit(); COUNT];
    let mut group = c.benchmark_group("sample");
    group
        .throughput(Throughput::Elements(COUNT as u64))
        .sample_size(10);
    for (name, method) in [("nearest", Method::Nearest), ("bilinear", Method::Bilinear)] {
        let scales = View::new("scales", &scales, [SHAPE[0], SHAPE[1]]).unwrap();
        let q = View::new("q", &q, SHAPE).unwrap();
        let sampler = Sampler {
            pixels: Pixels::quantized(q, scales.stretch("scales", SHAPE[2]).unwrap()).unwrap(),
            grid: Grid::from_affine([1.0, 0.0, 0.0, 0.0, -1.0, 0.0]).unwrap(),
            method,
            rule: PixelRule::Floor,
            crs: None,
            bands: None,
            land: None,
            present: None,
        };
        group.bench_function(name, |b| {
            b.iter(|| {
                let out = Outputs {
                    values: ViewMut::new("out", &mut values, [COUNT, SHAPE[2]]).unwrap(),
                    status: ViewMut::new("status", &mut codes, [COUNT]).unwrap(),
                    pixels: None,
                    fill_values: false,
                    fill_status: false,
                };
                let points = View::new("points", &points, [COUNT, 2]).unwrap();
                sampler.sample(points, None, out).unwrap();
            });
        });
    }
    let globe: Vec<f64> = noise(2 * COUNT).iter().map(|v| v * 180.0 - 90.0).collect();
    group.bench_function("group_by_tile", |b| {
        let points = View::new("points", &globe, [COUNT, 2]).unwrap();
        b.iter(|| black_box(group_by_tile(points).unwrap()));
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
