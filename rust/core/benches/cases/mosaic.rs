//! Four tiles to one grid: in their own zone, and in degrees.

use std::mem::MaybeUninit;

use geotessera_core::coords::Crs;
use geotessera_core::grid::{Grid, PixelRule, Window};
use geotessera_core::mosaic::{Mosaic, Outputs, Position, Source, Target, Values};
use geotessera_core::resample::Method;
use geotessera_core::view::{Pixels, View, ViewMut};

use super::{Amount, Call, Case, Size, quantized};

const CORNER: [f64; 2] = [376_000.0, 5_796_000.0];

/// Where the mosaic lies.
#[derive(Clone, Copy)]
enum Onto {
    /// The tiles' own pixels.
    Own,
    /// The tiles' zone, a part of a pixel away.
    Moved,
    /// Degrees.
    Degrees,
}

/// Each grid with each way to sample and each layout.
pub fn cases(size: Size) -> Vec<Case> {
    let kinds = [
        ("same/nearest", Onto::Own, Method::Nearest),
        ("same/bilinear", Onto::Moved, Method::Bilinear),
        ("degrees/nearest", Onto::Degrees, Method::Nearest),
        ("degrees/bilinear", Onto::Degrees, Method::Bilinear),
    ];
    let side = side(size);
    kinds
        .into_iter()
        .flat_map(|(kind, onto, method)| {
            [("hwc", false), ("chw", true)].map(|(layout, chw)| {
                Case::new(
                    format!("mosaic/{}/{kind}/{layout}", size.name()),
                    Amount::Elements(side * side),
                    move || prepare(size, onto, method, chw),
                )
            })
        })
        .collect()
}

/// Side of the mosaic, which lies across the corner that four tiles share.
fn side(size: Size) -> usize {
    match size {
        Size::Small => 64,
        Size::Tile => 1024,
    }
}

fn prepare(size: Size, onto: Onto, method: Method, chw: bool) -> Call {
    let shape @ [rows, cols, bands] = size.shape();
    let (q, scales) = quantized(shape);
    let side = side(size);
    let window = Window {
        row: rows - side / 2,
        col: cols - side / 2,
        height: side,
        width: side,
    };
    let utm = Crs::from_epsg(32631).unwrap();
    let (lon, lat) = utm.inverse(CORNER[0], CORNER[1]);
    let (crs, affine) = match onto {
        Onto::Own => (utm, [10.0, 0.0, CORNER[0], 0.0, -10.0, CORNER[1]]),
        Onto::Moved => (
            utm,
            [10.0, 0.0, CORNER[0] + 3.3, 0.0, -10.0, CORNER[1] - 4.1],
        ),
        Onto::Degrees => (Crs::Geographic, [1.47e-4, 0.0, lon, 0.0, -0.9e-4, lat]),
    };
    let mut values = vec![MaybeUninit::new(0.0f32); side * side * bands];
    Box::new(move || {
        let scales = View::new("scales", &scales, [rows, cols]).unwrap();
        let pixels = Pixels::quantized(
            View::new("values", &q, shape).unwrap(),
            scales.stretch("scales", bands).unwrap(),
        )
        .unwrap();
        let sources = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(down, right)| {
            let left = CORNER[0] + (right * cols * 10) as f64;
            let top = CORNER[1] - (down * rows * 10) as f64;
            Source {
                pixels,
                window: Window {
                    row: 0,
                    col: 0,
                    height: rows,
                    width: cols,
                },
                shape: [rows, cols],
                grid: Grid::from_affine([10.0, 0.0, left, 0.0, -10.0, top]).unwrap(),
                position: Position::Crs(utm),
                cell: None,
                rule: PixelRule::Floor,
            }
        });
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
        let out = if chw {
            let view = ViewMut::new("out", &mut values, [bands, side, side]).unwrap();
            view.permute([1, 2, 0])
        } else {
            ViewMut::new("out", &mut values, [side, side, bands]).unwrap()
        };
        let out = Outputs {
            values: Values::F32(out),
            origin: None,
        };
        mosaic.render(out).unwrap();
    })
}
