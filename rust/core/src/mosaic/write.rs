//! What is written: float32, or int8 with its scales.

use std::mem::MaybeUninit;

use crate::view::{Pixels, View1, ViewMut3};
use crate::{Error, Result};

use super::{Method, Mosaic};

/// The output, (row, column, band).
#[derive(Debug)]
pub enum Values<'a> {
    /// Dequantised; NaN where there is nothing.
    F32(ViewMut3<'a, f32>),
    /// As they are stored; 0 with scale +inf where there is nothing.
    I8 {
        /// Quantised values.
        q: ViewMut3<'a, i8>,
        /// A scale for each band, or one for all.
        scales: ViewMut3<'a, f32>,
    },
}

impl Values<'_> {
    /// (rows, columns, bands)
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::F32(values) => values.shape(),
            Self::I8 { q, .. } => q.shape(),
        }
    }

    pub(super) fn split_at(self, axis: usize, mid: usize) -> (Self, Self) {
        match self {
            Self::F32(values) => {
                let (head, tail) = values.split_at(axis, mid);
                (Self::F32(head), Self::F32(tail))
            }
            Self::I8 { q, scales } => {
                let (q, q_tail) = q.split_at(axis, mid);
                let (scales, scales_tail) = scales.split_at(axis, mid);
                (
                    Self::I8 { q, scales },
                    Self::I8 {
                        q: q_tail,
                        scales: scales_tail,
                    },
                )
            }
        }
    }

    /// Checks that what is asked for can be written here.
    pub(super) fn check(&self, mosaic: &Mosaic<'_>) -> Result<()> {
        let Self::I8 { q, scales } = self else {
            return Ok(());
        };
        if mosaic.method != Method::Nearest {
            return Err(Error::Argument(
                "int8 output is of nearest pixels: between pixels there is no scale".into(),
            ));
        }
        let [height, width, depth] = q.shape();
        let [_, _, factors] = scales.shape();
        let single = factors == 1 && depth != 1;
        let expected = [height, width, if factors == 1 { 1 } else { depth }];
        if scales.shape() != expected {
            return Err(Error::Shape {
                what: "out_scales",
                expected: expected.to_vec(),
                found: scales.shape().to_vec(),
            });
        }
        for (number, source) in mosaic.sources.iter().enumerate() {
            let trouble = match source.pixels {
                Pixels::F32 { .. } => "it is float32, which int8 output cannot hold",
                Pixels::I8 { scales, .. } if single && !is_uniform(&scales) => {
                    "it has a scale for each band, and so must out_scales"
                }
                Pixels::I8 { .. } => continue,
            };
            return Err(Error::Argument(format!("source {number}: {trouble}")));
        }
        Ok(())
    }
}

/// Whether a pixel has one scale.
fn is_uniform(scales: &crate::view::View3<'_, f32>) -> bool {
    scales.strides()[2] == 0 || scales.shape()[2] <= 1
}

/// Copies the bands asked for of a lane to a pixel of `out`.
pub(super) fn copy<T: Copy>(
    lane: View1<'_, T>,
    bands: Option<&[usize]>,
    out: &mut ViewMut3<'_, T>,
    [row, col]: [usize; 2],
) {
    let [_, _, depth] = out.shape();
    let band = |k: usize| bands.map_or(k, |bands| bands[k]);
    match (out.pixel(row, col), bands, lane.as_slice()) {
        (Some(out), None, Some(lane)) => {
            for (slot, &value) in out.iter_mut().zip(lane) {
                slot.write(value);
            }
        }
        (Some(out), ..) => {
            for (k, slot) in out.iter_mut().enumerate() {
                slot.write(lane.at([band(k)]));
            }
        }
        (None, ..) => (0..depth).for_each(|k| out.set([row, col, k], lane.at([band(k)]))),
    }
}

/// Sets all bands of a pixel.
pub(super) fn fill<T: Copy>(value: T, out: &mut ViewMut3<'_, T>, [row, col]: [usize; 2]) {
    let [_, _, depth] = out.shape();
    match out.pixel(row, col) {
        Some(out) => out.fill(MaybeUninit::new(value)),
        None => (0..depth).for_each(|k| out.set([row, col, k], value)),
    }
}
