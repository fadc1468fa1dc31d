//! Principal components: moments, scores and levels of a raster.

use std::hint::black_box;
use std::mem::MaybeUninit;

use geotessera_core::pca::{Level, levels, moments_with, project_with};
use geotessera_core::view::{Pixels, View2, View3, ViewMut3};

use super::{Amount, Call, Case, Size, quantized};

/// Every instruction set; and the other layout, where bands lie apart.
pub fn cases(size: Size) -> Vec<Case> {
    let [rows, cols, _] = size.shape();
    let amount = || Amount::Elements(rows * cols);
    let mut made = Vec::new();
    for level in Level::available() {
        for (layout, chw) in [("hwc", false), ("chw", true)] {
            let name = |what: &str| {
                let level = level.name();
                format!("pca/{}/{level}/{what}-{layout}", size.name())
            };
            made.push(Case::new(name("moments"), amount(), move || {
                sums(size, level, chw)
            }));
            made.push(Case::new(name("project"), amount(), move || {
                scores(size, level, chw)
            }));
        }
    }
    let name = format!("pca/{}/levels", size.name());
    made.push(Case::new(name, amount(), move || grades(size)));
    made
}

/// The pixels of a raster in one of two layouts.
fn pixels<'a>(shape: [usize; 3], values: &'a [i8], scales: &'a [f32], chw: bool) -> Pixels<'a> {
    let [rows, cols, bands] = shape;
    let q = if chw {
        let view = View3::new("values", values, [bands, rows, cols]).unwrap();
        view.permute([1, 2, 0])
    } else {
        View3::new("values", values, shape).unwrap()
    };
    let scales = View2::new("scales", scales, [rows, cols]).unwrap();
    Pixels::quantized(q, scales.stretch("scales", bands).unwrap()).unwrap()
}

fn sums(size: Size, level: Level, chw: bool) -> Call {
    let shape = size.shape();
    let (values, scales) = quantized(shape);
    let origin = vec![0.1; shape[2]];
    Box::new(move || {
        let pixels = pixels(shape, &values, &scales, chw);
        black_box(moments_with(level, pixels, &origin).unwrap());
    })
}

fn scores(size: Size, level: Level, chw: bool) -> Call {
    let shape @ [rows, cols, bands] = size.shape();
    let (values, scales) = quantized(shape);
    let weights: Vec<f64> = (0..3 * bands).map(|i| (i as f64 * 0.37).sin()).collect();
    let mut out = vec![MaybeUninit::new(0f32); rows * cols * 3];
    Box::new(move || {
        let pixels = pixels(shape, &values, &scales, chw);
        let out = ViewMut3::new("out", &mut out, [rows, cols, 3]).unwrap();
        project_with(level, pixels, &weights, &[0.5; 3], out).unwrap();
    })
}

fn grades(size: Size) -> Call {
    let [rows, cols, _] = size.shape();
    let scores: Vec<f32> = super::noise(rows * cols * 3)
        .into_iter()
        .map(|n| n as f32)
        .collect();
    let thresholds: Vec<f32> = (0..3 * 255).map(|i| (i % 255) as f32 / 255.0).collect();
    let mut out = vec![MaybeUninit::new(0u8); rows * cols * 3];
    Box::new(move || {
        let scores = View3::new("scores", &scores, [rows, cols, 3]).unwrap();
        let out = ViewMut3::new("out", &mut out, [rows, cols, 3]).unwrap();
        levels(scores, &thresholds, out).unwrap();
    })
}
