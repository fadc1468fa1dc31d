//! Sample a tile at scattered points; find the tiles of points.

use std::hint::black_box;
use std::mem::MaybeUninit;

use geotessera_core::grid::{Grid, PixelRule};
use geotessera_core::resample::Method;
use geotessera_core::sample::{Outputs, Sampler};
use geotessera_core::tiles::group_by_tile;
use geotessera_core::view::{Pixels, View, ViewMut};

use super::{Amount, Call, Case, Size, noise, quantized};

/// Both ways to sample, and the grouping of points by tile.
pub fn cases(size: Size) -> Vec<Case> {
    let count = match size {
        Size::Small => 2_000,
        Size::Tile => 200_000,
    };
    let name = |what: &str| format!("sample/{}/{what}", size.name());
    let mut cases: Vec<Case> = [("nearest", Method::Nearest), ("bilinear", Method::Bilinear)]
        .map(|(method_name, method)| {
            Case::new(name(method_name), Amount::Elements(count), move || {
                sample(size.shape(), count, method)
            })
        })
        .into();
    cases.push(Case::new(
        name("group_by_tile"),
        Amount::Elements(count),
        move || group(count),
    ));
    cases
}

fn sample(shape @ [rows, cols, bands]: [usize; 3], count: usize, method: Method) -> Call {
    let (q, scales) = quantized(shape);
    let mut points = noise(2 * count);
    for point in points.chunks_exact_mut(2) {
        point[0] *= cols as f64;
        point[1] *= -(rows as f64);
    }
    let mut values = vec![MaybeUninit::uninit(); count * bands];
    let mut codes = vec![MaybeUninit::uninit(); count];
    Box::new(move || {
        let scales = View::new("scales", &scales, [rows, cols]).unwrap();
        let q = View::new("values", &q, shape).unwrap();
        let sampler = Sampler {
            pixels: Pixels::quantized(q, scales.stretch("scales", bands).unwrap()).unwrap(),
            grid: Grid::from_affine([1.0, 0.0, 0.0, 0.0, -1.0, 0.0]).unwrap(),
            method,
            rule: PixelRule::Floor,
            crs: None,
            bands: None,
            land: None,
            present: None,
        };
        let out = Outputs {
            values: ViewMut::new("out", &mut values, [count, bands]).unwrap(),
            status: ViewMut::new("status", &mut codes, [count]).unwrap(),
            pixels: None,
            fill_values: false,
            fill_status: false,
        };
        let points = View::new("points", &points, [count, 2]).unwrap();
        sampler.sample(black_box(points), None, out).unwrap();
    })
}

fn group(count: usize) -> Call {
    let globe: Vec<f64> = noise(2 * count).iter().map(|v| v * 180.0 - 90.0).collect();
    Box::new(move || {
        let points = View::new("points", &globe, [count, 2]).unwrap();
        black_box(group_by_tile(points).unwrap());
    })
}
