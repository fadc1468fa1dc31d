//! Dequantise by instruction set, layout and kind of store.

use std::hint::black_box;
use std::mem::MaybeUninit;

use geotessera_core::dequantize::{How, Level, dequantize_with};
use geotessera_core::view::{View2, View3, ViewMut};

use super::{Amount, Call, Case, Size, quantized};

/// Every layout with every instruction set.
pub fn cases(size: Size) -> Vec<Case> {
    let ways = Level::available()
        .into_iter()
        .flat_map(|level| [(level, "cached"), (level, "streamed")]);
    let layouts = [
        ("hwc", false, false),
        ("chw", true, true),
        ("hwc-to-chw", false, true),
        ("chw-to-hwc", true, false),
    ];
    ways.flat_map(|(level, stores)| {
        layouts.map(|(layout, from_chw, to_chw)| {
            let name = format!(
                "dequantize/{}/{layout}/{}/{stores}",
                size.name(),
                level.name()
            );
            let how = How {
                level,
                stream: Some(stores == "streamed"),
            };
            let bytes = 5 * size.shape().iter().product::<usize>();
            Case::new(name, Amount::Bytes(bytes), move || {
                prepare(size, how, from_chw, to_chw)
            })
        })
    })
    .collect()
}

fn prepare(size: Size, how: How, from_chw: bool, to_chw: bool) -> Call {
    let shape @ [rows, cols, bands] = size.shape();
    let (values, scales) = quantized(shape);
    let mut out = vec![MaybeUninit::new(0f32); values.len()];
    Box::new(move || {
        let scales = View2::new("scales", &scales, [rows, cols]).unwrap();
        let from = if from_chw {
            let view = View3::new("values", &values, [bands, rows, cols]).unwrap();
            view.permute([1, 2, 0])
        } else {
            View3::new("values", &values, shape).unwrap()
        };
        let out = if to_chw {
            let view = ViewMut::new("out", &mut out, [bands, rows, cols]).unwrap();
            view.permute([1, 2, 0])
        } else {
            ViewMut::new("out", &mut out, shape).unwrap()
        };
        let scales = scales.stretch("scales", bands).unwrap();
        dequantize_with(how, black_box(from), black_box(scales), None, out).unwrap();
    })
}
