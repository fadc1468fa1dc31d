//! Panels: a few pixels as float32, band beside band, aligned and padded with zeros.

use crate::dequantize;
use crate::error::{Result, zeros};
use crate::level::{Level, Work};
use crate::view::{Pixels, ViewMut3, count};

/// Pixels of a panel: with 128 bands it has 32 KiB, which the L1 cache holds.
pub(super) const PIXELS: usize = 64;

/// Bands are padded to a multiple of this: two vectors of the widest instruction set.
pub(super) const PADDING: usize = 32;

/// The bits of the exponent, all of them set in what is not finite.
const EXPONENT: u32 = 0x7f80_0000;

/// A cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
struct Line([f32; 16]);

/// float32 numbers that start on a cache line, zero at first.
#[derive(Debug)]
pub(super) struct Aligned(Vec<Line>);

impl Aligned {
    /// Room for `count` numbers, a multiple of 16.
    pub fn new(count: usize) -> Result<Self> {
        debug_assert!(count.is_multiple_of(16));
        Ok(Self(zeros(count / 16)?))
    }

    /// All numbers.
    pub fn get(&self) -> &[f32] {
        // SAFETY: a line is 16 numbers without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }

    /// All numbers.
    pub fn get_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 16) }
    }
}

/// A few pixels.
#[derive(Debug)]
pub(super) struct Panel {
    values: Aligned,
    /// Bands, and the zeros after them.
    pub stride: usize,
    /// Bands.
    pub bands: usize,
}

impl Panel {
    /// An empty panel.
    pub fn new(bands: usize) -> Result<Self> {
        let stride = bands.next_multiple_of(PADDING);
        count::<f32>("bands", &[PIXELS, stride])?;
        Ok(Self {
            values: Aligned::new(PIXELS * stride)?,
            stride,
            bands,
        })
    }

    /// The numbers: `stride` a pixel.
    pub fn values(&self) -> &[f32] {
        self.values.get()
    }

    /// The numbers: `stride` a pixel.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.values.get_mut()
    }

    /// Dequantises `n` pixels, counted row by row, from number `first` on; what is invalid
    /// becomes NaN.
    pub fn fill(&mut self, level: Level, pixels: &Pixels, first: usize, n: usize) {
        let [_, cols, bands] = pixels.shape();
        assert!(bands == self.bands && n <= PIXELS);
        let stride = self.stride;
        let mut done = 0;
        while done < n {
            let (row, col) = ((first + done) / cols, (first + done) % cols);
            let run = (cols - col).min(n - done);
            let into = &mut self.values_mut()[done * stride..(done + run) * stride];
            let part = part(pixels, [row..row + 1, col..col + run]);
            prefetch_after(&part);
            match part {
                Pixels::I8 { q, scales } => {
                    // SAFETY: `into` holds `run` lanes of `bands` numbers, `stride` apart.
                    let out = unsafe {
                        ViewMut3::from_raw(
                            "panel",
                            into.as_mut_ptr(),
                            [1, run, bands],
                            [0, stride as isize, 1],
                        )
                    };
                    let out = out.expect("a panel is memory that exists");
                    dequantize::pixels(level, q, scales, None, out, false);
                }
                Pixels::F32 { values, nodata } => {
                    // NaN equals nothing, so that it stands for "no such value".
                    let nodata = nodata.unwrap_or(f32::NAN);
                    let value = |v: f32| if v == nodata { f32::NAN } else { v };
                    if values.is_dense(2) {
                        for (i, lane) in into.chunks_exact_mut(stride).enumerate() {
                            let from = values.pixel(0, i);
                            for (slot, &v) in lane.iter_mut().zip(from.as_slice().unwrap_or(&[])) {
                                *slot = value(v);
                            }
                        }
                    } else {
                        for band in 0..bands {
                            for (i, lane) in into.chunks_exact_mut(stride).enumerate() {
                                lane[band] = value(values.at([0, i, band]));
                            }
                        }
                    }
                }
            }
            done += run;
        }
    }

    /// Which of the first `n` pixels have a finite number in every band, as bits.
    pub fn valid(&self, level: Level, n: usize) -> u64 {
        level.run(Valid {
            values: &self.values()[..n * self.stride],
            stride: self.stride,
        })
    }
}

struct Valid<'a> {
    values: &'a [f32],
    stride: usize,
}

impl Work for Valid<'_> {
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        let mut found = 0;
        for (i, lane) in self.values.chunks_exact(self.stride).enumerate() {
            let largest = lane
                .iter()
                .fold(0, |most, v| most.max(v.to_bits() & EXPONENT));
            found |= u64::from(largest < EXPONENT) << i;
        }
        found
    }
}

/// Where the bands of a pixel lie apart, asks for the memory of the pixels that come next in
/// each of them: there are more bands than streams that a CPU foresees.
#[inline]
fn prefetch_after(part: &Pixels) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        use crate::view::View3;

        fn ask<T>(view: &View3<T>) {
            let [_, cols, bands] = view.shape();
            let [_, right, deep] = view.strides();
            if view.is_dense(2) || deep == 0 || right.unsigned_abs() > 4 {
                return;
            }
            let next = view.as_ptr().wrapping_offset(right * cols as isize);
            let line = (64 / size_of::<T>()) as isize;
            for band in 0..bands as isize {
                let start = next.wrapping_offset(band * deep);
                for at in (0..(right * cols as isize).abs().max(1)).step_by(line as usize) {
                    let at = if right < 0 { -at } else { at };
                    // SAFETY: a prefetch reads nothing.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_offset(at).cast()) };
                }
            }
        }
        match part {
            Pixels::I8 { q, scales } => {
                ask(q);
                ask(scales);
            }
            Pixels::F32 { values, .. } => ask(values),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = part;
}

/// Some rows and columns of pixels.
pub(super) fn part<'a>(pixels: &Pixels<'a>, at: [std::ops::Range<usize>; 2]) -> Pixels<'a> {
    let [rows, cols] = at;
    match *pixels {
        Pixels::I8 { q, scales } => Pixels::I8 {
            q: q.slice(0, rows.clone()).slice(1, cols.clone()),
            scales: scales.slice(0, rows).slice(1, cols),
        },
        Pixels::F32 { values, nodata } => Pixels::F32 {
            values: values.slice(0, rows).slice(1, cols),
            nodata,
        },
    }
}
