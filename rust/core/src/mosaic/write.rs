//! What is written: float32, or int8 with its scales.

use std::mem::MaybeUninit;

use crate::dequantize;
use crate::gather::Reader;
use crate::level::Level;
use crate::resample::Footprint;
use crate::view::{Pixels, View1, View3, ViewMut3};
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

/// How runs of pixels are written.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub level: Level,
    /// Past the cache.
    pub stream: bool,
}

impl<'a> Values<'a> {
    /// (rows, columns, bands)
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::F32(values) => values.shape(),
            Self::I8 { q, .. } => q.shape(),
        }
    }

    /// How many values there are.
    pub(super) fn count(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether the bands of a pixel are neighbours in memory.
    pub(super) fn is_dense(&self) -> bool {
        match self {
            Self::F32(values) => values.is_dense(2),
            Self::I8 { q, scales } => q.is_dense(2) && scales.is_dense(2),
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
                let tail = Self::I8 {
                    q: q_tail,
                    scales: scales_tail,
                };
                (Self::I8 { q, scales }, tail)
            }
        }
    }

    /// One row.
    pub(super) fn line(&mut self, row: usize) -> Values<'_> {
        match self {
            Self::F32(values) => Values::F32(values.reborrow().slice(0, row..row + 1)),
            Self::I8 { q, scales } => Values::I8 {
                q: q.reborrow().slice(0, row..row + 1),
                scales: scales.reborrow().slice(0, row..row + 1),
            },
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

    /// Writes `count` pixels of one row of `reader` from `from` on to columns `to` on of a line
    /// whose bands are neighbours.
    #[inline(always)]
    pub(super) fn copy(
        &mut self,
        how: How,
        reader: &Reader<'_>,
        [row, col]: [usize; 2],
        to: usize,
        count: usize,
    ) {
        match (self, reader.pixels) {
            (Self::F32(out), Pixels::I8 { q, scales }) => {
                let (q, scales) = (
                    q.slice(0, row..row + 1).slice(1, col..col + count),
                    scales.slice(0, row..row + 1).slice(1, col..col + count),
                );
                let out = out.reborrow().slice(1, to..to + count);
                if !out.is_empty() {
                    dequantize::pixels(how.level, q, scales, reader.bands, out, how.stream);
                }
            }
            (Self::F32(out), Pixels::F32 { .. }) => {
                for k in 0..count {
                    if let Some(out) = out.pixel(0, to + k) {
                        reader.load([row, col + k], out);
                    }
                }
            }
            (
                Self::I8 { q, scales },
                Pixels::I8 {
                    q: from,
                    scales: factors,
                },
            ) => {
                let single = scales.shape()[2] == 1;
                let first = reader.bands.and_then(|bands| bands.first());
                for k in 0..count {
                    let at = [row, col + k];
                    spread(from.pixel(at[0], at[1]), reader.bands, q, to + k);
                    if single {
                        let band = first.copied().unwrap_or(0);
                        scales.set([0, to + k, 0], factors.at([at[0], at[1], band]));
                    } else {
                        spread(factors.pixel(at[0], at[1]), reader.bands, scales, to + k);
                    }
                }
            }
            (Self::I8 { .. }, Pixels::F32 { .. }) => {} // refused by `check`
        }
    }

    /// Writes a mean of pixels; the containing one is valid.
    #[inline(always)]
    pub(super) fn blend(
        &mut self,
        reader: &Reader<'_>,
        found: &Footprint,
        place: impl Fn(usize, usize) -> Option<[usize; 2]>,
        scratch: &mut [f32],
        to: usize,
    ) {
        // int8 output is nearest, which `check` saw to.
        if let Self::F32(out) = self
            && let Some(out) = out.pixel(0, to)
        {
            reader.blend(found, place, scratch, out);
        }
    }

    /// Writes that a pixel of a line holds nothing.
    pub(super) fn blank(&mut self, to: usize) {
        match self {
            Self::F32(out) => fill(f32::NAN, out, to),
            Self::I8 { q, scales } => {
                fill(0, q, to);
                fill(f32::INFINITY, scales, to);
            }
        }
    }
}

/// Whether a pixel has one scale.
fn is_uniform(scales: &View3<'_, f32>) -> bool {
    scales.strides()[2] == 0 || scales.shape()[2] <= 1
}

/// Copies the bands asked for of a lane to a pixel of a line whose bands are neighbours.
#[inline(always)]
fn spread<T: Copy>(
    lane: View1<'_, T>,
    bands: Option<&[usize]>,
    out: &mut ViewMut3<'_, T>,
    to: usize,
) {
    let Some(out) = out.pixel(0, to) else {
        return;
    };
    match (bands, lane.as_slice()) {
        (None, Some(lane)) => {
            for (slot, &value) in out.iter_mut().zip(lane) {
                slot.write(value);
            }
        }
        (None, None) => {
            for (k, slot) in out.iter_mut().enumerate() {
                slot.write(lane.at([k]));
            }
        }
        (Some(bands), _) => {
            for (slot, &band) in out.iter_mut().zip(bands) {
                slot.write(lane.at([band]));
            }
        }
    }
}

/// Sets all bands of a pixel of a line whose bands are neighbours.
fn fill<T: Copy>(value: T, out: &mut ViewMut3<'_, T>, to: usize) {
    if let Some(out) = out.pixel(0, to) {
        out.fill(MaybeUninit::new(value));
    }
}

/// A line whose bands are neighbours, for outputs where they are not.
pub(super) enum Scratch {
    F32(Store<f32>),
    I8(Store<i8>, Store<f32>),
}

impl Scratch {
    pub fn of(values: &Values<'_>) -> Self {
        match values {
            Values::F32(out) => Self::F32(Store::of(out)),
            Values::I8 { q, scales } => Self::I8(Store::of(q), Store::of(scales)),
        }
    }

    pub fn line(&mut self) -> Result<Values<'_>> {
        Ok(match self {
            Self::F32(store) => Values::F32(store.line()?),
            Self::I8(q, scales) => Values::I8 {
                q: q.line()?,
                scales: scales.line()?,
            },
        })
    }

    /// Copies the line, all of which was written, to its place.
    #[inline(always)]
    pub fn flush(&self, to: Values<'_>) {
        match (self, to) {
            (Self::F32(store), Values::F32(out)) => store.flush(out),
            (Self::I8(store, factors), Values::I8 { q, scales }) => {
                store.flush(q);
                factors.flush(scales);
            }
            _ => {}
        }
    }
}

/// The memory of a line.
pub(super) struct Store<T> {
    data: Vec<MaybeUninit<T>>,
    width: usize,
    depth: usize,
    /// Elements from one pixel to the next: a cache line more than needed, so that one band of
    /// many pixels does not fall into few sets of the cache.
    pitch: usize,
}

impl<T: Copy> Store<T> {
    fn of(out: &ViewMut3<'_, T>) -> Self {
        let [_, width, depth] = out.shape();
        let pitch = depth + 64 / size_of::<T>();
        Self {
            data: vec![MaybeUninit::uninit(); width * pitch],
            width,
            depth,
            pitch,
        }
    }

    fn line(&mut self) -> Result<ViewMut3<'_, T>> {
        let shape = [1, self.width, self.depth];
        let pitch = self.pitch as isize;
        let strides = [pitch * self.width as isize, pitch, 1];
        ViewMut3::strided("scratch", &mut self.data, 0, shape, strides)
    }

    /// Copies the line band by band. Exchanging squares of floats in registers, as `dequantize`
    /// does with bytes, took four times as long.
    #[inline(always)]
    fn flush(&self, mut out: ViewMut3<'_, T>) {
        assert_eq!(out.shape(), [1, self.width, self.depth]);
        for band in 0..self.depth {
            for col in 0..self.width {
                // SAFETY: the indices are inside; all pixels of a line were written.
                unsafe {
                    let value = self.data.get_unchecked(col * self.pitch + band);
                    out.ptr_at([0, col, band]).write(value.assume_init());
                }
            }
        }
    }
}
