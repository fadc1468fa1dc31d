//! Projection: scores of pixels, each a weighted sum of all bands, dequantised on the way.
//!
//! Bands are float32, weights and sums float64, and a score is rounded once. Weights are
//! rounded to 29 bits at first (a relative 2⁻³⁰, a hundredth of a float32's last bit): then
//! every product is exact, fused or not, and all instruction sets give the same bits.

use super::panel::{PIXELS, Panel, part};
use crate::error::{Error, Result, zeros};
use crate::level::Level;
use crate::threads;
use crate::view::{Pixels, ViewMut3, count};

/// Pixels that one thread takes at a time.
const PART: usize = 8192;

/// Lanes in which sums are kept until their end.
const LANES: usize = 8;

/// Components whose sums are made at once, at most.
const GROUP: usize = 4;

/// Writes the scores of pixels: `weights` (K rows of B) times bands, plus `offsets`.
///
/// NaN, for all components, where a band is not finite.
pub fn project(pixels: Pixels, weights: &[f64], offsets: &[f64], out: ViewMut3<f32>) -> Result<()> {
    project_with(Level::best(), pixels, weights, offsets, out)
}

/// `project` with a given instruction set.
pub fn project_with(
    level: Level,
    pixels: Pixels,
    weights: &[f64],
    offsets: &[f64],
    out: ViewMut3<f32>,
) -> Result<()> {
    let [rows, cols, bands] = pixels.shape();
    let components = offsets.len();
    if weights.len() != count::<f64>("weights", &[components, bands])? {
        return Err(Error::Shape {
            what: "weights",
            expected: vec![components, bands],
            found: vec![weights.len()],
        });
    }
    if out.shape() != [rows, cols, components] {
        return Err(Error::Shape {
            what: "out",
            expected: vec![rows, cols, components],
            found: out.shape().to_vec(),
        });
    }
    if !weights.iter().chain(offsets).all(|w| w.is_finite()) {
        return Err(Error::Argument("weights and offsets must be finite".into()));
    }
    if out.is_empty() {
        return Ok(());
    }
    if bands == 0 {
        return Err(Error::Argument(
            "pixels without a band have no scores".into(),
        ));
    }
    let stride = bands.next_multiple_of(super::panel::PADDING);
    let mut padded: Vec<f64> = zeros(count::<f64>("weights", &[components, stride])?)?;
    for (k, row) in weights.chunks_exact(bands).enumerate() {
        for (into, &weight) in padded[k * stride..].iter_mut().zip(row) {
            *into = rounded(weight);
        }
    }
    let plan = Plan {
        kernel: kernel(level),
        level,
        weights: &padded,
        offsets,
    };
    let mut parts = Vec::new();
    let high = (PART / cols).max(1);
    for (i, band) in out.chunks(0, high).into_iter().enumerate() {
        let height = band.shape()[0];
        for (j, out) in band.chunks(1, PART).into_iter().enumerate() {
            let at = [
                i * high..i * high + height,
                j * PART..j * PART + out.shape()[1],
            ];
            parts.push((part(&pixels, at), out, Ok(())));
        }
    }
    let work = parts.iter_mut().collect();
    threads::for_each(work, |(pixels, out, done)| {
        *done = plan.run(pixels, out.reborrow());
    })?;
    parts.into_iter().try_for_each(|(.., done)| done)
}

/// The nearest number with 29 bits; with a float32's 24 they make the 53 of a float64.
fn rounded(weight: f64) -> f64 {
    const DROPPED: u32 = 53 - 29;
    let bits = weight.to_bits();
    let half = 1 << (DROPPED - 1);
    // A carry runs into the exponent, as it should; what would be infinite stays as it is.
    let near = f64::from_bits((bits + half) & !((1 << DROPPED) - 1));
    if near.is_finite() { near } else { weight }
}

/// What is done to every part.
struct Plan<'a> {
    kernel: Kernel,
    level: Level,
    /// Padded as panels are.
    weights: &'a [f64],
    offsets: &'a [f64],
}

impl Plan<'_> {
    fn run(&self, pixels: &Pixels, mut out: ViewMut3<f32>) -> Result<()> {
        let [rows, cols, bands] = pixels.shape();
        let components = self.offsets.len();
        let mut panel = Panel::new(bands)?;
        let mut sums: Vec<f64> = zeros(PIXELS * components)?;
        for first in (0..rows * cols).step_by(PIXELS) {
            let n = PIXELS.min(rows * cols - first);
            panel.fill(self.level, pixels, first, n);
            let valid = panel.valid(self.level, n);
            // SAFETY: `kernel` proved the instructions; the weights are padded as the panel is,
            // and `sums` has room for the components of `n` pixels.
            unsafe { (self.kernel)(&panel, n, self.weights, &mut sums) };
            for (i, sums) in sums.chunks_exact(components).take(n).enumerate() {
                let (row, col) = ((first + i) / cols, (first + i) % cols);
                let is_valid = valid >> i & 1 == 1;
                for (k, (sum, offset)) in sums.iter().zip(self.offsets).enumerate() {
                    let score = if is_valid {
                        (sum + offset) as f32
                    } else {
                        f32::NAN
                    };
                    // SAFETY: the pixel is one of `out`'s, which has all components.
                    unsafe { out.ptr_at([row, col, k]).write(score) };
                }
            }
        }
        Ok(())
    }
}

/// Writes the weighted sums of `n` pixels.
///
/// # Safety
/// The CPU has the instructions; `weights` has as many numbers a component as the panel has a
/// pixel, and `sums` room for the components of `n` pixels.
type Kernel = unsafe fn(panel: &Panel, n: usize, weights: &[f64], sums: &mut [f64]);

fn kernel(level: Level) -> Kernel {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if level.is_here() => x86::avx512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 if level.is_here() && std::is_x86_feature_detected!("fma") => x86::avx2,
        _ => portable,
    }
}

/// Eight float64 numbers.
trait Eight: Copy {
    unsafe fn zero() -> Self;
    unsafe fn floats(from: *const f32) -> Self;
    unsafe fn doubles(from: *const f64) -> Self;
    /// `self * other + sum`; the product is exact, so that it may be fused or not.
    unsafe fn mul_add(self, other: Self, sum: Self) -> Self;
    /// The sum of all, halves first.
    unsafe fn sum(self) -> f64;
}

/// Sums for all components of `n` pixels, `P` pixels at a time.
#[inline(always)]
unsafe fn sums<V: Eight, const P: usize>(
    panel: &Panel,
    n: usize,
    weights: &[f64],
    out: &mut [f64],
) {
    let stride = panel.stride;
    let components = weights.len() / stride;
    debug_assert!(out.len() >= n * components && panel.values().len() >= n * stride);
    let whole = n / P * P;
    for first in (0..components).step_by(GROUP) {
        let weights = weights[first * stride..].as_ptr();
        // SAFETY: pixels, components and what is written for them are those of the caller.
        unsafe {
            for pixel in (0..whole).step_by(P) {
                let values = panel.values().as_ptr().add(pixel * stride);
                let out = out.as_mut_ptr().add(pixel * components + first);
                match components - first {
                    1 => group::<V, P, 1>(values, weights, stride, out, components),
                    2 => group::<V, P, 2>(values, weights, stride, out, components),
                    3 => group::<V, P, 3>(values, weights, stride, out, components),
                    _ => group::<V, P, 4>(values, weights, stride, out, components),
                }
            }
            for pixel in whole..n {
                let values = panel.values().as_ptr().add(pixel * stride);
                let out = out.as_mut_ptr().add(pixel * components + first);
                for k in 0..GROUP.min(components - first) {
                    let weights = weights.add(k * stride);
                    group::<V, 1, 1>(values, weights, stride, out.add(k), components);
                }
            }
        }
    }
}

/// `P` pixels and `K` components: each weight and each band is loaded once.
#[inline(always)]
unsafe fn group<V: Eight, const P: usize, const K: usize>(
    values: *const f32,
    weights: *const f64,
    stride: usize,
    out: *mut f64,
    components: usize,
) {
    // SAFETY: the caller's lanes, `stride` apart, and its numbers, `components` apart.
    unsafe {
        let mut sums = [[V::zero(); K]; P];
        for band in (0..stride).step_by(LANES) {
            let weights: [V; K] =
                std::array::from_fn(|k| V::doubles(weights.add(k * stride + band)));
            for (p, sums) in sums.iter_mut().enumerate() {
                let value = V::floats(values.add(p * stride + band));
                for (sum, &weight) in sums.iter_mut().zip(&weights) {
                    *sum = value.mul_add(weight, *sum);
                }
            }
        }
        for (p, sums) in sums.iter().enumerate() {
            for (k, sum) in sums.iter().enumerate() {
                out.add(p * components + k).write(sum.sum());
            }
        }
    }
}

impl Eight for [f64; LANES] {
    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn floats(from: *const f32) -> Self {
        // SAFETY: the caller's eight numbers.
        unsafe { from.cast::<[f32; LANES]>().read() }.map(f64::from)
    }

    #[inline(always)]
    unsafe fn doubles(from: *const f64) -> Self {
        // SAFETY: the caller's eight numbers.
        unsafe { from.cast::<Self>().read() }
    }

    #[inline(always)]
    unsafe fn mul_add(self, other: Self, sum: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i] + sum[i])
    }

    #[inline(always)]
    unsafe fn sum(self) -> f64 {
        let four: [f64; 4] = std::array::from_fn(|i| self[i] + self[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

unsafe fn portable(panel: &Panel, n: usize, weights: &[f64], out: &mut [f64]) {
    // SAFETY: the caller's promise.
    unsafe { sums::<[f64; LANES], 1>(panel, n, weights, out) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Eight, Panel, sums};

    /// Adds four numbers, halves first.
    #[inline(always)]
    unsafe fn sum_of_four(four: __m256d) -> f64 {
        // SAFETY: every level that comes here has AVX.
        unsafe {
            let two = _mm_add_pd(
                _mm256_castpd256_pd128(four),
                _mm256_extractf128_pd::<1>(four),
            );
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
    }

    impl Eight for __m512d {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the level has AVX-512 F, here and below; pointers are the caller's.
            unsafe { _mm512_setzero_pd() }
        }

        #[inline(always)]
        unsafe fn floats(from: *const f32) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_cvtps_pd(_mm256_loadu_ps(from)) }
        }

        #[inline(always)]
        unsafe fn doubles(from: *const f64) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_loadu_pd(from) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, other: Self, sum: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_pd(self, other, sum) }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f64 {
            // SAFETY: as above.
            unsafe {
                let high = _mm512_extractf64x4_pd::<1>(self);
                sum_of_four(_mm256_add_pd(_mm512_castpd512_pd256(self), high))
            }
        }
    }

    impl Eight for [__m256d; 2] {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the level has AVX2 and FMA, here and below; pointers are the caller's.
            unsafe { [_mm256_setzero_pd(); 2] }
        }

        #[inline(always)]
        unsafe fn floats(from: *const f32) -> Self {
            // SAFETY: as above.
            unsafe {
                [
                    _mm256_cvtps_pd(_mm_loadu_ps(from)),
                    _mm256_cvtps_pd(_mm_loadu_ps(from.add(4))),
                ]
            }
        }

        #[inline(always)]
        unsafe fn doubles(from: *const f64) -> Self {
            // SAFETY: as above.
            unsafe { [_mm256_loadu_pd(from), _mm256_loadu_pd(from.add(4))] }
        }

        #[inline(always)]
        unsafe fn mul_add(self, other: Self, sum: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                [
                    _mm256_fmadd_pd(self[0], other[0], sum[0]),
                    _mm256_fmadd_pd(self[1], other[1], sum[1]),
                ]
            }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f64 {
            // SAFETY: as above.
            unsafe { sum_of_four(_mm256_add_pd(self[0], self[1])) }
        }
    }

    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512(panel: &Panel, n: usize, weights: &[f64], out: &mut [f64]) {
        // SAFETY: the caller's promise.
        unsafe { sums::<__m512d, 4>(panel, n, weights, out) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(panel: &Panel, n: usize, weights: &[f64], out: &mut [f64]) {
        // SAFETY: the caller's promise.
        unsafe { sums::<[__m256d; 2], 1>(panel, n, weights, out) }
    }
}
