//! Dequantise: `f32(q) * scale`, bit for bit, in any layout.
//!
//! This file validates, cuts the output into blocks for the pool and brings each block
//! into the one form that the vector kernels take: lanes that are neighbours in memory, or
//! are gathered first (`stage`).

mod scalar;
mod simd;
mod stage;

use simd::{Kernels, Run};
use stage::staged;

use crate::error::{Error, Result};
use crate::threads;
use crate::view::{Pixels, View3, ViewMut3, check_bands};

pub use crate::level::Level;
pub use scalar::product;
pub(crate) use stage::{SIDE, transposed};

/// Elements of output in one block: 1 MiB, half of an L2 cache, and large enough that
/// threads rarely meet in one huge page when they touch a fresh output first.
const BLOCK: usize = 1 << 18;

/// Outputs of more elements are written past the cache.
const STREAM: usize = 1 << 22;

impl Level {
    /// The vector kernels; `None` for the scalar reference.
    fn kernels(self) -> Option<Kernels> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Some(simd::x86::AVX2),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Some(simd::x86::AVX512),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Some(simd::arm::NEON),
            _ => None,
        }
    }
}

/// How to do it, for tests and benchmarks; the default is what is fastest here.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// The instruction set.
    pub level: Level,
    /// Whether to write past the cache; `None` leaves it to the output's size.
    pub stream: Option<bool>,
}

impl Default for How {
    fn default() -> Self {
        Self {
            level: Level::best(),
            stream: None,
        }
    }
}

/// Dequantises `bands` (all, where `None`) of `q` into `out`.
///
/// All views are (row, column, band) over any strides; `scales` has `q`'s shape (band
/// stride zero for one scale a pixel) and `out` has as many bands as were asked for.
pub fn dequantize(
    q: View3<i8>,
    scales: View3<f32>,
    bands: Option<&[usize]>,
    out: ViewMut3<f32>,
) -> Result<()> {
    dequantize_with(How::default(), q, scales, bands, out)
}

/// `dequantize` in a given way.
pub fn dequantize_with(
    how: How,
    q: View3<i8>,
    scales: View3<f32>,
    bands: Option<&[usize]>,
    out: ViewMut3<f32>,
) -> Result<()> {
    if !how.level.is_here() {
        return Err(Error::Argument(format!(
            "this CPU has no {}",
            how.level.name()
        )));
    }
    Pixels::quantized(q, scales)?;
    let [rows, cols, count] = q.shape();
    let wanted = bands.map_or(count, <[usize]>::len);
    if out.shape() != [rows, cols, wanted] {
        return Err(Error::Shape {
            what: "out",
            expected: vec![rows, cols, wanted],
            found: out.shape().to_vec(),
        });
    }
    check_bands(bands.unwrap_or_default(), count)?;
    if out.is_empty() {
        return Ok(());
    }

    let stream = how.stream.unwrap_or(out.len() > STREAM);
    let kernels = how.level.kernels();
    let whole = match bands {
        None => Block {
            q,
            scales,
            bands: None,
            out,
        },
        Some(bands) => match progression(bands) {
            Some((start, step)) => Block {
                q: q.stepped(2, start, step, wanted),
                scales: scales.stepped(2, start, step, wanted),
                bands: None,
                out,
            },
            None => Block {
                q,
                scales,
                bands: Some(bands),
                out,
            },
        },
    };
    let mut blocks = Vec::new();
    whole.split(&mut blocks);
    threads::for_each(blocks, |block| block.run(kernels, stream))
}

/// Dequantises a few pixels on this thread, past the cache if `stream`.
///
/// The caller has checked what [`dequantize`] checks: one shape, and bands in range.
pub(crate) fn pixels(
    level: Level,
    q: View3<i8>,
    scales: View3<f32>,
    bands: Option<&[usize]>,
    out: ViewMut3<f32>,
    stream: bool,
) {
    let block = Block {
        q,
        scales,
        bands,
        out,
    };
    block.run(level.kernels(), stream);
}

/// First band and step, where the bands are evenly spaced: then they are a strided view.
pub(crate) fn progression(bands: &[usize]) -> Option<(usize, isize)> {
    let &start = bands.first()?;
    let step = bands
        .get(1)
        .map_or(1, |&next| next as isize - start as isize);
    let even = bands
        .windows(2)
        .all(|pair| pair[1] as isize - pair[0] as isize == step);
    even.then_some((start, step))
}

/// A part of the output and what it is made of.
struct Block<'a> {
    q: View3<'a, i8>,
    scales: View3<'a, f32>,
    /// Which of `q`'s bands become `out`'s; `None` where they are the same ones.
    bands: Option<&'a [usize]>,
    out: ViewMut3<'a, f32>,
}

impl<'a> Block<'a> {
    /// The axis along which `out` is contiguous, if any; bands first.
    fn lane(&self) -> Option<usize> {
        let [rows, cols, bands] = self.out.shape();
        [(2, bands), (1, cols), (0, rows)]
            .into_iter()
            .find(|&(axis, len)| self.out.strides()[axis] == 1 && len > 1)
            .map(|(axis, _)| axis)
    }

    /// Cuts into blocks of about `BLOCK` elements.
    fn split(self, into: &mut Vec<Self>) {
        let shape = self.out.shape();
        let len = self.out.len();
        if len <= BLOCK {
            into.push(self);
            return;
        }
        // Slabs of the output are contiguous memory, but where the axes change places they
        // would read every cache line of `q` once a band: there, cut into rows.
        let transposed = self.lane().is_none_or(|axis| !self.q.is_dense(axis));
        let steps = self.out.strides().map(isize::unsigned_abs);
        let axis = (0..3)
            .filter(|&axis| shape[axis] > 1)
            .max_by_key(|&axis| (if transposed { 2 - axis } else { steps[axis] }, 2 - axis))
            .unwrap_or(0);
        let size = (BLOCK * shape[axis] / len).max(1);
        for (i, out) in self.out.chunks(axis, size).into_iter().enumerate() {
            let range = i * size..i * size + out.shape()[axis];
            let part = match self.bands {
                Some(bands) if axis == 2 => Block {
                    q: self.q,
                    scales: self.scales,
                    bands: Some(&bands[range]),
                    out,
                },
                bands => Block {
                    q: self.q.slice(axis, range.clone()),
                    scales: self.scales.slice(axis, range),
                    bands,
                    out,
                },
            };
            part.split(into);
        }
    }

    /// Computes the block.
    fn run(self, kernels: Option<Kernels>, stream: bool) {
        let lane = self.lane();
        let Self {
            q,
            scales,
            bands,
            mut out,
        } = self;
        match (kernels, lane, bands) {
            (Some(kernels), Some(lane), None) => {
                // Of the other axes, the one along which `q` is closer together is inner.
                let [mut outer, mut inner] = [[1, 2], [0, 2], [0, 1]][lane];
                let step = q.strides().map(isize::unsigned_abs);
                if step[inner] > step[outer] && q.shape()[outer] > 1 {
                    (outer, inner) = (inner, outer);
                }
                let axes = [outer, inner, lane];
                let (q, scales, out) = (q.permute(axes), scales.permute(axes), out.permute(axes));
                if q.is_dense(2) && (scales.is_dense(2) || scales.strides()[2] == 0) {
                    direct(kernels, q, scales, out, stream);
                } else {
                    staged(kernels, q, scales, None, out, stream);
                }
            }
            (Some(kernels), Some(2), bands) => staged(kernels, q, scales, bands, out, stream),
            (_, _, None) => scalar::block(q, scales, &mut out),
            (_, _, Some(bands)) => {
                for (&band, out) in bands.iter().zip(out.chunks(2, 1)) {
                    let range = band..band + 1;
                    let (q, scales) = (q.slice(2, range.clone()), scales.slice(2, range));
                    Block {
                        q,
                        scales,
                        bands: None,
                        out,
                    }
                    .run(kernels, stream);
                }
            }
        }
    }
}

/// The kernel for scales with this step along the lanes.
fn choose(kernels: Kernels, step: isize) -> simd::Kernel {
    if step == 0 {
        kernels.uniform
    } else {
        kernels.each
    }
}

/// Runs over (outer, inner, lane) where the lanes of all three views are neighbours.
fn direct(
    kernels: Kernels,
    q: View3<i8>,
    scales: View3<f32>,
    mut out: ViewMut3<f32>,
    stream: bool,
) {
    let [outer, mut pixels, mut lanes] = out.shape();
    let step = scales.strides()[2];
    let steps = (q.strides()[1], scales.strides()[1], out.strides()[1]);
    let dense = lanes as isize;
    if step == 1 && steps == (dense, dense, dense) {
        // Without gaps, all inner rows are one.
        (pixels, lanes) = (1, pixels * lanes);
    }
    let kernel = choose(kernels, step);
    for row in 0..outer {
        // SAFETY: (row, 0, 0) is an element, since blocks are not empty; the run's steps are
        // the views', whose lanes have stride 1; `Level` proved the instruction set.
        unsafe {
            kernel(&Run {
                q: q.ptr_at([row, 0, 0]),
                q_step: steps.0,
                scales: scales.ptr_at([row, 0, 0]),
                scales_step: steps.1,
                out: out.ptr_at([row, 0, 0]),
                out_step: steps.2,
                pixels,
                lanes,
                stream,
            });
        }
    }
}
