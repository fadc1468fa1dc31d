//! Four tiles of the usual size to one grid: in their own zone, and in degrees.

use std::mem::MaybeUninit;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use geotessera_core::coords::Crs;
use geotessera_core::grid::{Grid, PixelRule, Window};
use geotessera_core::mosaic::{Mosaic, Outputs, Position, Source, Target, Values};
use geotessera_core::resample::Method;
use geotessera_core::view::{Pixels, View, ViewMut};

const SHAPE: [usize; 3] = [1140, 727, 128];
const CORNER: [f64; 2] = [376_000.0, 5_796_000.0];

fn benches(c: &mut Criterion) {
    let q: Vec<i8> = (0..SHAPE.iter().product::<usize>())
        .map(|i| i as i8)
        .collect();
    let scales = vec![0.06f32; SHAPE[0] * SHAPE[1]];
    let utm = Crs::from_epsg(32631).unwrap();
    let scale_view = View::new("scales", &scales, [SHAPE[0], SHAPE[1]]).unwrap();
    let pixels = Pixels::quantized(
        View::new("q", &q, SHAPE).unwrap(),
        scale_view.stretch("scales", SHAPE[2]).unwrap(),
    )
    .unwrap();
    let sources: Vec<Source<'_>> = [(0, 0), (0, 1), (1, 0), (1, 1)]
        .map(|(down, right)| {
            let left = CORNER[0] + f64::from(right) * 6840.0;
            let top = CORNER[1] - f64::from(down) * 11_150.0;
            let grid = Grid::from_affine([10.0, 0.0, left, 0.0, -10.0, top]).unwrap();
            Source {
                pixels,
                window: Window {
                    row: 0,
                    col: 0,
                    height: SHAPE[0],
                    width: SHAPE[1],
                },
                shape: [SHAPE[0], SHAPE[1]],
                grid,
                position: Position::Crs(utm),
                cell: None,
                rule: PixelRule::Floor,
            }
        })
        .into();
    let (lon, lat) = utm.inverse(CORNER[0], CORNER[1]);
    let window = Window {
        row: 100,
        col: 100,
        height: 1024,
        width: 1024,
    };
    let count = window.height * window.width;
    let mut values = vec![MaybeUninit::new(0.0f32); count * SHAPE[2]];
    let mut group = c.benchmark_group("mosaic");
    group
        .throughput(Throughput::Elements(count as u64))
        .sample_size(10);
    let own = [10.0, 0.0, CORNER[0], 0.0, -10.0, CORNER[1]];
    let moved = [10.0, 0.0, CORNER[0] + 3.3, 0.0, -10.0, CORNER[1] - 4.1];
    let degrees = [1.47e-4, 0.0, lon, 0.0, -0.9e-4, lat];
    for (name, crs, affine, method) in [
        ("same/nearest", utm, own, Method::Nearest),
        ("same/bilinear", utm, moved, Method::Bilinear),
        ("degrees/nearest", Crs::Geographic, degrees, Method::Nearest),
        (
            "degrees/bilinear",
            Crs::Geographic,
            degrees,
            Method::Bilinear,
        ),
    ] {
        let mosaic = Mosaic {
            sources: &sources,
            target: Target {
                grid: Grid::from_affine(affine).unwrap(),
                window,
                crs: Some(crs),
                lonlat: None,
            },
            method,
            bands: None,
        };
        for (layout, chw) in [("hwc", false), ("chw", true)] {
            group.bench_function(format!("{name}/{layout}"), |b| {
                b.iter(|| {
                    let out = if chw {
                        let shape = [SHAPE[2], window.height, window.width];
                        ViewMut::new("out", &mut values, shape)
                            .unwrap()
                            .permute([1, 2, 0])
                    } else {
                        let shape = [window.height, window.width, SHAPE[2]];
                        ViewMut::new("out", &mut values, shape).unwrap()
                    };
                    let out = Outputs {
                        values: Values::F32(out),
                        origin: None,
                    };
                    mosaic.render(out).unwrap()
                });
            });
        }
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
