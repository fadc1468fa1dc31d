//! Dequantise: `f32(q) * scale`, bit for bit, in any layout.
//!
//! This file validates, cuts the output into blocks for the pool and brings each block
//! into the one form that the vector kernels take: lanes that are neighbours in memory.

mod scalar;
mod simd;

use simd::{Kernels, Run};

use crate::error::{Error, Result};
use crate::threads;
use crate::view::{Pixels, View3, ViewMut3, check_bands};

pub use scalar::product;

/// Elements of output in one block: 1 MiB, half of an L2 cache, and large enough that
/// threads rarely meet in one huge page when they touch a fresh output first.
const BLOCK: usize = 1 << 18;

/// Outputs of more elements are written past the cache.
const STREAM: usize = 1 << 22;

/// Lanes that are gathered at a time where they are not neighbours in memory.
const STAGE: usize = 128;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No vectors: the reference.
    Scalar,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F.
    Avx512,
    /// 64-bit ARM.
    Neon,
}

impl Level {
    /// Those that this CPU has, slowest first.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx2") {
                levels.push(Self::Avx2);
            }
            if std::is_x86_feature_detected!("avx512f") {
                levels.push(Self::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(Self::Neon);
        levels
    }

    /// The fastest that this CPU has.
    pub fn best() -> Self {
        *Self::available().last().unwrap_or(&Self::Scalar)
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

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
    dequantize_with(Level::best(), q, scales, bands, out)
}

/// `dequantize` with a given instruction set, for tests and benchmarks.
pub fn dequantize_with(
    level: Level,
    q: View3<i8>,
    scales: View3<f32>,
    bands: Option<&[usize]>,
    out: ViewMut3<f32>,
) -> Result<()> {
    if !Level::available().contains(&level) {
        return Err(Error::Argument(format!("this CPU has no {}", level.name())));
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

    let stream = out.len() > STREAM;
    let kernels = level.kernels();
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

/// First band and step, where the bands are evenly spaced: then they are a strided view.
fn progression(bands: &[usize]) -> Option<(usize, isize)> {
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
                    staged(kernels, q, scales, None, out);
                }
            }
            (Some(kernels), Some(2), bands) => staged(kernels, q, scales, bands, out),
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

/// Runs over (outer, inner, lane) where the lanes of `q` or `scales` must be gathered first.
///
/// `picks` says which of `q`'s lanes become `out`'s; they are in range.
fn staged(
    kernels: Kernels,
    q: View3<i8>,
    scales: View3<f32>,
    picks: Option<&[usize]>,
    mut out: ViewMut3<f32>,
) {
    let [outer, inner, lanes] = out.shape();
    let (mut q_stage, mut scale_stage, mut index) = ([0i8; STAGE], [0f32; STAGE], [0usize; STAGE]);
    let step = scales.strides()[2];
    let kernel = choose(kernels, step);
    for row in 0..outer {
        for start in (0..lanes).step_by(STAGE) {
            let n = STAGE.min(lanes - start);
            for (i, lane) in index[..n].iter_mut().enumerate() {
                *lane = picks.map_or(start + i, |picks| picks[start + i]);
            }
            for col in 0..inner {
                // SAFETY: (row, col) is inside all three views and `index` holds lanes of `q`
                // and `scales`; the stages hold `n` lanes.
                unsafe {
                    for (&lane, value) in index[..n].iter().zip(&mut q_stage) {
                        *value = q.get_unchecked([row, col, lane]);
                    }
                    let scale = match step {
                        0 => scales.ptr_at([row, col, 0]),
                        1 if picks.is_none() => scales.ptr_at([row, col, start]),
                        _ => {
                            for (&lane, scale) in index[..n].iter().zip(&mut scale_stage) {
                                *scale = scales.get_unchecked([row, col, lane]);
                            }
                            scale_stage.as_ptr()
                        }
                    };
                    kernel(&Run {
                        q: q_stage.as_ptr(),
                        q_step: 0,
                        scales: scale,
                        scales_step: 0,
                        out: out.ptr_at([row, col, start]),
                        out_step: 0,
                        pixels: 1,
                        lanes: n,
                        stream: false,
                    });
                }
            }
        }
    }
}
